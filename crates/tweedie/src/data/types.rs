//! What a user says of the columns' types, instead of what their cells look like.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::times::TimeFormat;
use crate::{Error, Result};

/// The path of the option, for messages.
pub(super) const TYPES: &str = "data.types";
const WORDS: &str = "number, category, date, date:FORMAT, drop or auto";

/// What the columns of a table are: a word, or a map of columns to types.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "TypesText", into = "TypesText")]
pub enum Types {
    /// Numbers alone, if each column is one of measurements: real numbers that do not repeat. A
    /// table with anything else is mixed. To dequantise columns is to take all for numbers.
    #[default]
    Auto,
    /// Numbers alone; of anything else the table is refused.
    Numbers,
    /// Numbers, categories, dates and times, and missing cells in all of them. Columns that no type
    /// is given are what their cells look like.
    Mixed(TypeOptions),
}

/// [`Types`] as a file has them.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum TypesText {
    Word(String),
    Given(TypeOptions),
}

impl Types {
    /// Whether the cells decide.
    pub fn is_auto(&self) -> bool {
        *self == Types::Auto
    }
}

impl FromStr for Types {
    type Err = Error;

    /// `auto`, `numbers`, `mixed`, or types as of [`TypeOptions`].
    fn from_str(text: &str) -> Result<Types> {
        Ok(match text {
            "auto" => Types::Auto,
            "numbers" => Types::Numbers,
            "mixed" => Types::Mixed(TypeOptions::default()),
            pairs => Types::Mixed(pairs.parse()?),
        })
    }
}

impl TryFrom<TypesText> for Types {
    type Error = Error;

    fn try_from(text: TypesText) -> Result<Types> {
        match text {
            TypesText::Word(word) => word.parse(),
            TypesText::Given(types) => Ok(Types::Mixed(types)),
        }
    }
}

impl From<Types> for TypesText {
    fn from(types: Types) -> TypesText {
        match types {
            Types::Auto => TypesText::Word("auto".into()),
            Types::Numbers => TypesText::Word("numbers".into()),
            Types::Mixed(types) if types.is_empty() => TypesText::Word("mixed".into()),
            Types::Mixed(types) => TypesText::Given(types),
        }
    }
}

/// The type that a user gives a column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ColumnType {
    /// Numbers, even if they are few.
    Number,
    /// Categories, even if they are numbers.
    Category,
    /// Dates or times, in a format of `strftime` where one is given.
    Date(Option<String>),
    /// The column is left out.
    Drop,
    /// What its cells look like.
    Auto,
}

impl FromStr for ColumnType {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<ColumnType, String> {
        if let Some(format) = text.strip_prefix("date:") {
            return match TimeFormat::new(format) {
                Some(_) => Ok(ColumnType::Date(Some(format.to_owned()))),
                None => Err(format!("'{format}' is no format of strftime, such as %d/%m/%Y")),
            };
        }
        Ok(match text {
            "number" => ColumnType::Number,
            "category" => ColumnType::Category,
            "date" => ColumnType::Date(None),
            "drop" => ColumnType::Drop,
            "auto" => ColumnType::Auto,
            _ => return Err(format!("'{text}' is not one of {WORDS}")),
        })
    }
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            ColumnType::Number => f.write_str("number"),
            ColumnType::Category => f.write_str("category"),
            ColumnType::Date(None) => f.write_str("date"),
            ColumnType::Date(Some(format)) => write!(f, "date:{format}"),
            ColumnType::Drop => f.write_str("drop"),
            ColumnType::Auto => f.write_str("auto"),
        }
    }
}

impl TryFrom<String> for ColumnType {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<ColumnType, String> {
        text.parse()
    }
}

impl From<ColumnType> for String {
    fn from(of: ColumnType) -> String {
        of.to_string()
    }
}

/// The types that a user gives columns, by name; of the others their cells decide.
///
/// ```
/// use tweedie::data::{ColumnType, TypeOptions};
///
/// let types: TypeOptions = "age=number,code=category,day=date:%d/%m/%Y,id=drop".parse()?;
/// assert_eq!(types.of("code"), Some(&ColumnType::Category));
/// # Ok::<(), tweedie::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TypeOptions {
    types: BTreeMap<String, ColumnType>,
}

impl FromStr for TypeOptions {
    type Err = Error;

    /// Types from `NAME=TYPE,NAME=TYPE,…`.
    fn from_str(text: &str) -> Result<TypeOptions> {
        TypeOptions::of_pairs(text.split(',').filter(|pair| !pair.trim().is_empty()))
    }
}

impl TypeOptions {
    /// Types from texts `NAME=TYPE`.
    ///
    /// # Errors
    /// [`Error::Config`] for a text of another form, or a name that is given two types.
    pub fn of_pairs(pairs: impl IntoIterator<Item = impl AsRef<str>>) -> Result<TypeOptions> {
        let mut types = TypeOptions::default();
        for pair in pairs {
            let pair = pair.as_ref().trim();
            // names may hold `=`; of types only formats may, and they follow `date:`
            let at = pair.find("=date:").or_else(|| pair.rfind('='));
            let Some((name, word)) = at.map(|at| (&pair[..at], &pair[at + 1..])) else {
                let remedy = format!("give NAME=TYPE, the type one of {WORDS}");
                return Err(Error::config(TYPES, format!("'{pair}' gives no type"), remedy));
            };
            let of = word.trim().parse().map_err(|problem: String| {
                Error::config(TYPES, format!("`{name}`: {problem}"), "give one of them")
            })?;
            types.insert(name.trim(), of)?;
        }
        Ok(types)
    }

    fn insert(&mut self, name: &str, of: ColumnType) -> Result<()> {
        match self.types.insert(name.to_owned(), of.clone()) {
            Some(before) if before != of => {
                let problem = format!("`{name}` is given two types, {before} and {of}");
                Err(Error::config(TYPES, problem, "give it one"))
            }
            _ => Ok(()),
        }
    }

    /// Reads types from a file: JSON or TOML of the pairs (`{"age": "number", "id": "drop"}`), or
    /// the metadata of SDV and SDMetrics, of one table.
    ///
    /// Of SDV's types `numerical`, `categorical`, `boolean`, `datetime` and `unknown` are taken as
    /// numbers, categories, dates and what cells look like; every other one is of keys and of
    /// texts about a person, and its column is left out.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read, [`Error::Data`] if it holds something else.
    pub fn read(path: impl AsRef<Path>) -> Result<TypeOptions> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        let wrong = |problem: String| {
            let problem = format!("gives no types of columns: {problem}");
            let remedy = "give JSON or TOML of names and types (age = \"number\"), or SDV's \
                          metadata";
            Error::data(path, problem.replace('\n', " "), remedy)
        };
        if !text.trim_start().starts_with('{') {
            return toml::from_str(&text).map_err(|e| wrong(e.message().to_owned()));
        }
        let value: serde_json::Value =
            serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
        if let Some(tables) = value.get("tables").and_then(|tables| tables.as_object()) {
            let mut tables = tables.values();
            return match (tables.next(), tables.next()) {
                (Some(table), None) => of_sdv(table).map_err(wrong),
                _ => Err(wrong("it describes several tables, or none".into())),
            };
        }
        match value.get("columns").is_some_and(serde_json::Value::is_object) {
            true => of_sdv(&value).map_err(wrong),
            false => serde_json::from_value(value).map_err(|e| wrong(e.to_string())),
        }
    }

    /// The type given to the column called `name`.
    pub fn of(&self, name: &str) -> Option<&ColumnType> {
        self.types.get(name).filter(|of| **of != ColumnType::Auto)
    }

    /// Whether no column is given a type.
    pub fn is_empty(&self) -> bool {
        self.types.is_empty()
    }

    /// Refuses types of columns that are not among `names`, the columns of `table`.
    pub(super) fn check(&self, table: &Path, names: &[String]) -> Result<()> {
        match self.types.keys().find(|name| !names.contains(name)) {
            None => Ok(()),
            Some(name) => {
                let problem = format!("{} has no column `{name}`", table.display());
                let mut listed: Vec<&str> = names.iter().take(20).map(String::as_str).collect();
                if names.len() > 20 {
                    listed.push("…");
                }
                Err(Error::config(TYPES, problem, format!("name some of {}", listed.join(", "))))
            }
        }
    }
}

/// Types from the metadata of a table as SDV writes it.
fn of_sdv(table: &serde_json::Value) -> std::result::Result<TypeOptions, String> {
    let columns = table.get("columns").and_then(|columns| columns.as_object());
    let columns = columns.ok_or("a table has no columns")?;
    let mut types = BTreeMap::new();
    for (name, about) in columns {
        let word = about.get("sdtype").and_then(|word| word.as_str());
        let of = match word.ok_or_else(|| format!("column `{name}` has no sdtype"))? {
            "numerical" => ColumnType::Number,
            "categorical" | "boolean" => ColumnType::Category,
            "datetime" => {
                let format = about.get("datetime_format").and_then(|format| format.as_str());
                match format {
                    Some(format) => format!("date:{format}").parse()?,
                    None => ColumnType::Date(None),
                }
            }
            "unknown" => ColumnType::Auto,
            _ => ColumnType::Drop,
        };
        types.insert(name.clone(), of);
    }
    Ok(TypeOptions { types })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str) -> Result<TypeOptions> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        TypeOptions::read(path)
    }

    #[test]
    fn pairs_are_read_from_arguments_and_files() {
        let types: TypeOptions = "age=number, a=b=category,day=date:%d=%m,id=drop".parse().unwrap();
        assert_eq!(types.of("age"), Some(&ColumnType::Number));
        assert_eq!(types.of("a=b"), Some(&ColumnType::Category));
        assert_eq!(types.of("day"), Some(&ColumnType::Date(Some("%d=%m".into()))));
        assert_eq!(types.of("other"), None);
        let json = r#"{"age": "number", "a=b": "category", "day": "date:%d=%m", "id": "drop"}"#;
        assert_eq!(read("t.json", json).unwrap(), types);
        let toml = "age = \"number\"\n\"a=b\" = \"category\"\nday = \"date:%d=%m\"\nid = \"drop\"";
        assert_eq!(read("t.toml", toml).unwrap(), types);
        let written = serde_json::to_string(&types).unwrap();
        assert_eq!(serde_json::from_str::<TypeOptions>(&written).unwrap(), types);
    }

    /// The two forms that SDV 1.x writes: of one table, and of several, here one.
    #[test]
    fn metadata_of_sdv_are_read() {
        let table = r#"{"columns": {
            "age": {"sdtype": "numerical"}, "sex": {"sdtype": "categorical"},
            "own": {"sdtype": "boolean"},
            "when": {"sdtype": "datetime", "datetime_format": "%Y-%m-%d"},
            "id": {"sdtype": "id"}, "mail": {"sdtype": "email"}, "x": {"sdtype": "unknown"}
        }, "primary_key": "id"}"#;
        let pairs = "age=number,sex=category,own=category,when=date:%Y-%m-%d,id=drop,mail=drop,\
                     x=auto";
        let types: TypeOptions = pairs.parse().unwrap();
        assert_eq!(read("m.json", table).unwrap(), types);
        let several = format!(r#"{{"tables": {{"adult": {table}}}, "relationships": []}}"#);
        assert_eq!(read("m.json", &several).unwrap(), types);
        assert_eq!(types.of("x"), None);
        let two = format!(r#"{{"tables": {{"a": {table}, "b": {table}}}}}"#);
        assert!(read("m.json", &two).unwrap_err().to_string().contains("several tables"));
    }

    #[test]
    fn what_is_no_type_is_refused_in_one_line() {
        for (pairs, says) in [
            ("age", "'age' gives no type"),
            ("age=nmber", "`age`: 'nmber' is not one of number, category"),
            ("day=date:%Q", "'%Q' is no format of strftime"),
            ("a=number,a=drop", "`a` is given two types, number and drop"),
        ] {
            let message = pairs.parse::<TypeOptions>().unwrap_err().to_string();
            assert!(message.contains(says) && !message.contains('\n'), "{message}");
        }
        for text in ["{\"age\": 3}", "{\"columns\": {\"a\": {}}}", "age = 3", "{", "age"] {
            let message = read("t", text).unwrap_err().to_string();
            assert!(message.contains("gives no types"), "{message}");
        }
        let types: TypeOptions = "b=drop".parse().unwrap();
        let message = types.check(Path::new("t.csv"), &["a".into()]).unwrap_err().to_string();
        assert_eq!(message, "data.types: t.csv has no column `b`; name some of a");
    }
}
