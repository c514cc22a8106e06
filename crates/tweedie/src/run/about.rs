//! How a run was begun: which version of the program, when, and with which command.

use chrono::{SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

/// Where a run keeps it.
pub(super) const FILE: &str = "about.json";

/// Which program began a run, when, and how it was called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// The version of this crate.
    pub version: String,
    /// When the run was begun: in UTC, to the second, as `2026-01-31T12:00:00Z` (RFC 3339).
    pub date: String,
    /// The words of the command; the first is the program's name.
    pub command: Vec<String>,
}

impl About {
    /// This version and process, now.
    pub fn now() -> About {
        let mut command: Vec<String> =
            std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
        if let Some(program) = command.first_mut()
            && let Some(name) = std::path::Path::new(&*program).file_name()
        {
            *program = name.to_string_lossy().into_owned();
        }
        About {
            version: env!("CARGO_PKG_VERSION").into(),
            date: Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true),
            command,
        }
    }

    /// The command as a shell takes it.
    pub fn command_line(&self) -> String {
        self.command.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
    }
}

/// `word` as it is where a shell takes it so, else between single quotes.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:=,+@%".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.into(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_quoted_where_a_shell_needs_it() {
        let command =
            ["tweedie", "train", "--data", "my wine.csv", "--drop", "it's", ""].map(String::from);
        let about = About { command: command.into(), ..About::now() };
        assert_eq!(about.command_line(), "tweedie train --data 'my wine.csv' --drop 'it'\\''s' ''");
    }

    #[test]
    fn the_date_is_of_a_fixed_form() {
        let date = About::now().date;
        assert!(date.len() == 20 && date.starts_with("20") && date.ends_with('Z'), "{date}");
    }
}
