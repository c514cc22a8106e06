//! Command-line flags of experiments, as plain data: each is a leaf laid over the settings. The
//! program makes its options of these tables.

use std::fmt::Display;
use std::str::FromStr;

use serde::Serialize;
use serde_json::Value;

/// The value that a text gives, or what is wrong with the text.
pub type Parsed = Result<Value, String>;

/// How often a flag is given, and how many values it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// None: it sets `true`.
    None,
    /// One.
    One,
    /// A list with commas between its values.
    List,
    /// One each time that it is given, which gives a list.
    Repeated,
}

/// One value that a flag may take: the value and its help.
pub type Choice = (&'static str, &'static str);

/// A flag and the setting that it lays its value over.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Its name without the dashes.
    pub name: &'static str,
    /// What its value is called in help texts.
    pub value: &'static str,
    /// The path of the setting, as `recipe.width`.
    pub path: &'static str,
    /// One line of help. The default is shown after it.
    pub help: &'static str,
    /// Further help for `--help`.
    pub long: &'static str,
    /// The heading under which it stands; empty: that of all options.
    pub group: &'static str,
    /// The values that it may take; empty: all that `parse` reads.
    pub choices: &'static [Choice],
    /// How many values it takes.
    pub values: Values,
    /// Whether it must be given.
    pub required: bool,
    /// Reads one value. An error says what is wrong with the text.
    pub parse: fn(&str) -> Parsed,
}

impl Flag {
    /// A flag of one value that is read as a `T`.
    pub const fn of<T>(
        name: &'static str,
        value: &'static str,
        path: &'static str,
        help: &'static str,
    ) -> Flag
    where
        T: FromStr + Serialize,
        T::Err: Display,
    {
        let parse = read::<T>;
        let (choices, values) = (&[], Values::One);
        Flag {
            name,
            value,
            path,
            help,
            long: "",
            group: "",
            choices,
            values,
            required: false,
            parse,
        }
    }

    /// The same with values read by `parse`.
    pub const fn read_by(self, parse: fn(&str) -> Parsed) -> Flag {
        Flag { parse, ..self }
    }

    /// The same with a list of values.
    pub const fn list(self) -> Flag {
        Flag { values: Values::List, ..self }
    }

    /// The same given once for each value.
    pub const fn repeated(self) -> Flag {
        Flag { values: Values::Repeated, ..self }
    }

    /// A switch.
    pub const fn switch(name: &'static str, path: &'static str, help: &'static str) -> Flag {
        Flag { values: Values::None, ..Flag::of::<bool>(name, "", path, help) }
    }

    /// The same under a heading.
    pub const fn under(self, group: &'static str) -> Flag {
        Flag { group, ..self }
    }

    /// The same with values of a fixed set.
    pub const fn one_of(self, choices: &'static [Choice]) -> Flag {
        Flag { choices, ..self }
    }

    /// The same with further help.
    pub const fn explained(self, long: &'static str) -> Flag {
        Flag { long, ..self }
    }

    /// The same, to be given always.
    pub const fn required(self) -> Flag {
        Flag { required: true, ..self }
    }
}

fn read<T>(text: &str) -> Parsed
where
    T: FromStr + Serialize,
    T::Err: Display,
{
    let value: T = text.parse().map_err(|e: T::Err| e.to_string())?;
    serde_json::to_value(value).map_err(|e| e.to_string())
}

/// A height and a width, `HxW`.
pub(crate) fn size(text: &str) -> Parsed {
    let (height, width) = text.split_once('x').ok_or("not HxW, such as 32x32")?;
    let side = |text: &str| {
        text.parse::<usize>().map_err(|_| format!("{text:?} is not a number of pixels"))
    };
    Ok(vec![side(height)?, side(width)?].into())
}

/// Channels, height and width, `CxHxW`.
pub(crate) fn shape(text: &str) -> Parsed {
    let numbers: Option<Vec<i64>> = text.split('x').map(|n| n.parse().ok()).collect();
    let numbers = numbers.filter(|numbers| numbers.len() == 3);
    Ok(numbers.ok_or("not CxHxW, such as 3x32x32")?.into())
}

/// Settings that are written by their names, for `#[serde(with = "named")]`.
pub(crate) mod named {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(crate) fn serialize<T: Display, S: Serializer>(all: &[T], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(all.iter().map(ToString::to_string))
    }

    pub(crate) fn deserialize<'de, T, D>(from: D) -> Result<Vec<T>, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        let names = Vec::<String>::deserialize(from)?;
        names.iter().map(|name| name.parse().map_err(de::Error::custom)).collect()
    }
}
