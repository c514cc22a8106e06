//! Bounds of columns: what a value can be at all.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::schema::{Kind, Schema};
use super::times::TimeFormat;
use crate::{Error, Result};

/// The path of the option, for messages.
pub(super) const BOUNDS: &str = "data.table.bounds";

/// An end of a column's range as a user says it: `price>=0` or `day<=2013-12-31`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Bound {
    /// The column's name.
    pub column: String,
    /// Whether it is the greatest value, not the least.
    pub upper: bool,
    /// The value, as the cells of the column are written.
    pub value: String,
}

impl FromStr for Bound {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Bound, String> {
        let bound = |sign: &str, upper| {
            let (column, value) = text.rsplit_once(sign)?;
            let [column, value] = [column, value].map(|part| part.trim().to_owned());
            (!column.is_empty() && !value.is_empty()).then_some(Bound { column, upper, value })
        };
        bound(">=", false)
            .or_else(|| bound("<=", true))
            .ok_or_else(|| format!("'{text}' is no bound, such as price>=0 or rate<=1"))
    }
}

impl TryFrom<String> for Bound {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Bound, String> {
        text.parse()
    }
}

impl From<Bound> for String {
    fn from(bound: Bound) -> String {
        bound.to_string()
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}{}{}", self.column, if self.upper { "<=" } else { ">=" }, self.value)
    }
}

/// The least and the greatest value that a column can have, where there are any.
pub type Bounds = [Option<f64>; 2];

impl Schema {
    /// Sets the bounds of columns.
    ///
    /// # Errors
    /// [`Error::Config`] for a column that is not there or not of numbers or dates, a value that is
    /// none of the column, a bound given twice, and bounds with nothing between them.
    pub(super) fn bound(&mut self, bounds: &[Bound]) -> Result<()> {
        let wrong = |bound: &Bound, problem: String, remedy: String| {
            Err(Error::config(BOUNDS, format!("{bound}: {problem}"), remedy))
        };
        let names: Vec<String> = self.kept().map(|column| column.name.clone()).collect();
        for bound in bounds {
            let Some(column) = self.columns.iter_mut().find(|c| c.name == bound.column) else {
                let problem = "the table has no such column".to_owned();
                return wrong(bound, problem, format!("name some of {}", names.join(", ")));
            };
            let value = match &column.kind {
                Kind::Number { .. } => bound.value.parse().ok().filter(|v: &f64| v.is_finite()),
                Kind::Time { format, .. } => {
                    TimeFormat::new(format).and_then(|format| format.seconds(&bound.value))
                }
                _ => {
                    let problem = format!("the column is a {}", column.kind_in_words());
                    let remedy = format!(
                        "give bounds of numbers and dates, or say data.types = {}=number",
                        column.name
                    );
                    return wrong(bound, problem, remedy);
                }
            };
            let Some(value) = value else {
                let problem = format!("'{}' is no value of the column", bound.value);
                return wrong(bound, problem, "write it as the column's cells are".into());
            };
            let side = &mut column.bounds[usize::from(bound.upper)];
            if side.is_some() {
                return wrong(bound, "a second bound on that side".into(), "give one".into());
            }
            *side = Some(value);
            if let [Some(low), Some(high)] = column.bounds
                && low >= high
            {
                let problem = "nothing is between the column's two bounds".into();
                return wrong(bound, problem, "give a lower and a greater value".into());
            }
        }
        Ok(())
    }
}

/// What a value within bounds is, in words, for an error about one that is not.
pub(super) fn in_words(bounds: &Bounds, text: impl Fn(f64) -> String) -> String {
    match bounds.map(|bound| bound.map(&text)) {
        [Some(low), Some(high)] => format!("a value from {low} to {high}"),
        [Some(low), None] => format!("a value of at least {low}"),
        [None, Some(high)] => format!("a value of at most {high}"),
        [None, None] => "a value".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_read_as_they_are_written() {
        for text in ["price>=0", "a<=b>=-2.5", "day<=2013-12-31"] {
            let bound: Bound = text.parse().unwrap();
            assert_eq!(bound.to_string(), text);
        }
        let bound: Bound = " rate <= 1 ".parse().unwrap();
        assert_eq!((bound.column.as_str(), bound.upper, bound.value.as_str()), ("rate", true, "1"));
        for text in ["price", "price>0", ">=1", "price>=", ""] {
            let message = text.parse::<Bound>().unwrap_err();
            assert!(message.contains("is no bound"), "{message}");
        }
    }
}
