//! Command-line flags of experiments, as text: each is a leaf laid over the settings. The program
//! makes its options of them.
//!
//! A table of flags has a line for each,
//!
//! ```text
//! --name VALUE | path.of.setting | Help, which may go on in lines that are indented further
//! ```
//!
//! A value with commas in its name, as `K,K,…`, is a list; one as `HxW` has its numbers between
//! `x`; any other for a setting that is a list is given once for each element; none at all makes a
//! switch. `--name!` must be given. A line `= VALUE | help` below a flag is one of its possible
//! values, the line `= NETWORKS` all networks for images; `[Heading]` begins a group.

use serde_json::Value;
use tweedie::model::PRESETS;

/// How often a flag is given, and how many values it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// A switch without a value, which sets `true`.
    None,
    /// One value; of several, the last.
    One,
    /// A list with commas between its values.
    List,
    /// One each time that it is given, which gives a list.
    Repeated,
}

/// A flag and the setting that it lays its value over.
#[derive(Clone, Debug)]
pub struct Flag {
    /// Its name without the dashes.
    pub name: String,
    /// What its value is called in help texts.
    pub value: String,
    /// The path of the setting, as `recipe.width`.
    pub path: String,
    /// Help, in one paragraph.
    pub help: String,
    /// The heading under which it stands; empty: that of all options.
    pub group: String,
    /// The values that it may take, with their help; empty: all that the setting can be.
    pub choices: Vec<(String, String)>,
    /// How many values it takes.
    pub values: Values,
    /// Whether it must be given.
    pub required: bool,
    /// Its default as a user would write it, where there is one.
    pub default: Option<String>,
}

impl Flag {
    /// The flags of a table, over settings that are `defaults` unless they are given.
    pub(crate) fn table(text: &str, defaults: &Value) -> Vec<Flag> {
        let (mut flags, mut group): (Vec<Flag>, String) = Default::default();
        for line in lines_of(text) {
            let line = line.trim();
            if let Some(heading) = line.strip_prefix('[') {
                group = heading.trim_end_matches(']').into();
            } else if let (Some(choice), Some(flag)) = (line.strip_prefix('='), flags.last_mut()) {
                let (value, help) = choice.split_once(" | ").unwrap_or((choice, ""));
                match value.trim() {
                    "NETWORKS" => {
                        let named = PRESETS.iter().map(|one| (one.name.into(), one.help.into()));
                        flag.choices.extend(named);
                    }
                    value => flag.choices.push((value.into(), help.trim().into())),
                }
                flag.default = flag.choices.first().map(|first| first.0.clone());
            } else if let Some(flag) = line.strip_prefix("--") {
                flags.push(Flag::read(flag, &group, defaults));
            }
        }
        flags
    }

    fn read(line: &str, group: &str, defaults: &Value) -> Flag {
        let mut parts = line.splitn(3, " | ").map(str::trim);
        let mut next = || parts.next().unwrap_or_default();
        let (head, path, help) = (next(), next(), next());
        let (name, value) = head.split_once(' ').unwrap_or((head, ""));
        let before = path.split('.').try_fold(defaults, |tree, name| tree.get(name));
        let values = match before {
            _ if value.is_empty() => Values::None,
            _ if value.contains(',') => Values::List,
            Some(Value::Array(_)) if !value.contains("xW") => Values::Repeated,
            _ => Values::One,
        };
        Flag {
            name: name.trim_end_matches('!').into(),
            value: value.trim().into(),
            path: path.into(),
            help: help.into(),
            group: group.into(),
            choices: Vec::new(),
            values,
            required: name.ends_with('!'),
            default: before.and_then(written).filter(|_| !help.contains("[default")),
        }
    }

    /// The setting that texts given for the flag make, of the kind that stood there before.
    pub(crate) fn read_values(&self, texts: &[String], before: &Value) -> Value {
        let last = texts.last().map_or("", String::as_str);
        match (self.values, before) {
            (Values::None, _) => true.into(),
            (Values::One, _) if self.value.contains("xW") => {
                last.split('x').map(|n| parsed(n, &Value::from(0))).collect()
            }
            (Values::One, before) => parsed(last, before),
            (_, Value::Array(all)) => {
                let like = all.first().cloned().unwrap_or_else(|| "".into());
                texts.iter().map(|text| parsed(text, &like)).collect()
            }
            (_, _) => texts.to_vec().into(),
        }
    }
}

/// A text as a value of the kind of `like`: a number, or else the text itself.
pub(crate) fn parsed(text: &str, like: &Value) -> Value {
    match (like, serde_json::from_str::<Value>(text)) {
        (Value::Number(_) | Value::Bool(_), Ok(value)) => value,
        _ => text.into(),
    }
}

/// A setting as a user would write it; nothing for what is empty or has parts of its own.
fn written(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Array(all) => all.iter().map(written).collect::<Option<Vec<_>>>()?.join(","),
        _ => String::new(),
    };
    (!text.is_empty()).then_some(text)
}

/// The lines of a table, with what is indented joined to the line that it goes on with.
fn lines_of(table: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in table.lines() {
        match lines.last_mut() {
            Some(last) if line.starts_with(' ') => *last = format!("{last} {}", line.trim()),
            _ => lines.push(line.into()),
        }
    }
    lines
}

/// Settings that are written by their names, for `#[serde(with = "named")]`.
pub(crate) mod named {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(crate) fn serialize<T: Display, S: Serializer>(
        all: &[T],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(all.iter().map(ToString::to_string))
    }

    pub(crate) fn deserialize<'de, T, D>(from: D) -> Result<Vec<T>, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        let read =
            |name: &String| name.parse().map_err(|e| de::Error::custom(format!("{name:?}: {e}")));
        Vec::<String>::deserialize(from)?.iter().map(read).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_read() {
        let defaults = serde_json::json!({
            "rows": 400, "sizes": [5, 10], "runs": [], "size": null, "mode": "head", "on": false,
        });
        let flags = Flag::table(
            "--rows N | rows | Rows\n    of it\n--sizes N,N,… | sizes | Sizes\n[Group]\n\
             --run! RUN | runs | A run\n--size HxW | size | Size\n--mode M | mode | Mode\n\
             = head | One\n= joint | Two\n--on | on | Switch\n",
            &defaults,
        );
        let names: Vec<&str> = flags.iter().map(|flag| flag.name.as_str()).collect();
        assert_eq!(names, ["rows", "sizes", "run", "size", "mode", "on"]);
        assert_eq!(
            (flags[0].help.as_str(), flags[0].default.as_deref()),
            ("Rows of it", Some("400"))
        );
        assert_eq!((flags[1].values, flags[1].default.as_deref()), (Values::List, Some("5,10")));
        assert!(flags[2].required && flags[2].values == Values::Repeated);
        assert_eq!((flags[3].group.as_str(), &flags[3].default), ("Group", &None));
        assert_eq!((flags[4].choices.len(), flags[4].default.as_deref()), (2, Some("head")));
        assert_eq!(flags[5].values, Values::None);
        let value = |i: usize, texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(ToString::to_string).collect();
            flags[i].read_values(&texts, &defaults[&flags[i].path])
        };
        assert_eq!(value(0, &["3"]), 3);
        assert_eq!(value(1, &["1", "2"]), serde_json::json!([1, 2]));
        assert_eq!(value(2, &["a"]), serde_json::json!(["a"]));
        assert_eq!(value(3, &["8x9"]), serde_json::json!([8, 9]));
        assert_eq!(value(0, &["x"]), "x");
    }
}
