//! Options of the library and the flags that set them: the only place where they meet.
//!
//! The library names an option by its path (`train.batch_size`). What is printed names the flag
//! (`--batch-size`), where the command that is run has one for it.

use clap::CommandFactory;
use tweedie::Error;

use crate::train::FLAGS;

/// Options whose flag is neither in the table of `tweedie train` nor called as their path ends. A
/// path that ends in a dot stands for all below it.
const OTHERS: [(&str, &str); 9] = [
    ("evaluate.covariances", "covariance"),
    ("evaluate.ode", "no-ode"),
    ("evaluate.images.network", "inception"),
    ("encode.check", "no-check"),
    ("objective.draws", "transitions"),
    ("objective.", "objective"),
    ("schedule.", "schedule"),
    ("base.", "base"),
    ("model.head", "objective"),
];

/// The first words of paths of options.
const SECTIONS: [&str; 15] = [
    "base",
    "data",
    "dequantize",
    "decode",
    "encode",
    "evaluate",
    "export",
    "fit",
    "import",
    "model",
    "objective",
    "sample",
    "schedule",
    "score",
    "train",
];

/// The flag, without its dashes, that sets the option at `path` where a command has it.
fn flag_of(path: &str) -> Option<String> {
    if let Some(flag) = FLAGS.iter().find(|flag| flag.path == path) {
        return Some(flag.name.into());
    }
    let (section, rest) = path.split_once('.').unwrap_or((path, path));
    let is = |(known, _): &&(&str, &str)| {
        *known == path || known.ends_with('.') && path.starts_with(known)
    };
    match OTHERS.iter().find(is) {
        Some((_, flag)) => Some((*flag).into()),
        None if SECTIONS.contains(&section) || rest == path => {
            rest.rsplit('.').next().map(|leaf| leaf.replace('_', "-"))
        }
        None => None,
    }
}

/// The flags of a command.
pub struct Flags(Vec<String>);

impl Flags {
    /// Those of the command that is run.
    pub fn here() -> Flags {
        Flags::of(std::env::args().skip(1))
    }

    fn of(words: impl Iterator<Item = String>) -> Flags {
        let mut command = crate::Cli::command();
        for word in words {
            match command.find_subcommand(&word).cloned() {
                Some(inner) => command = inner,
                None => break,
            }
        }
        Flags(command.get_arguments().filter_map(|a| a.get_long().map(String::from)).collect())
    }

    /// The flag for the option at `path`, where the command has one.
    fn get(&self, path: &str) -> Option<String> {
        flag_of(path).filter(|flag| self.0.contains(flag)).map(|flag| format!("--{flag}"))
    }

    /// `text` with every path of an option that the command has a flag for called by it, and
    /// `PATH = VALUE` as `--flag VALUE`.
    pub fn name_in(&self, text: &str) -> String {
        let is_word = |c: char| c.is_alphanumeric() || "._/-".contains(c);
        let (mut named, mut rest) = (String::new(), text);
        while let Some(start) = rest.find(is_word) {
            named += &rest[..start];
            rest = &rest[start..];
            let (word, after) = rest.split_at(rest.find(|c| !is_word(c)).unwrap_or(rest.len()));
            let path = word.trim_end_matches('.');
            rest = after;
            match self.get(path).filter(|_| path.contains('.')) {
                None => named += word,
                Some(flag) => {
                    named += &flag;
                    named += &word[path.len()..];
                    if let Some(value) = after.strip_prefix(" = ") {
                        named.push(' ');
                        rest = value;
                    }
                }
            }
        }
        named + rest
    }

    /// What went wrong, as a user of this command calls it.
    pub fn explain(&self, error: &Error) -> String {
        let Error::Config { option, problem, remedy } = error else {
            return self.name_in(&error.to_string());
        };
        let leaf = option.rsplit('.').next().unwrap_or_default().replace('_', "-");
        let option = match self.get(option) {
            // the path says what the flag's name does not
            Some(flag) if flag[2..] != leaf && option.contains('.') => format!("{flag} ({option})"),
            Some(flag) => flag,
            None => option.clone(),
        };
        format!("{option}: {}; {}", self.name_in(problem), self.name_in(remedy))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(command: &str) -> Flags {
        Flags::of(command.split(' ').map(String::from))
    }

    #[test]
    fn options_are_called_by_the_flags_of_the_command() {
        let (train, sample) = (flags("train --data x"), flags("sample run"));
        let text = "set train.batch_size = 3, sample.steps, or train.ema. Leave a.steps.";
        let expected = "set --batch-size 3, sample.steps, or train.ema. Leave a.steps.";
        assert_eq!(train.name_in(text), expected);
        let expected = "set --batch-size 3, --steps, or train.ema. Leave a.steps.";
        assert_eq!(sample.name_in(text), expected);
        for file in ["runs/data.table.drop", "./train.iterations", "data.table.dropped"] {
            assert_eq!(train.name_in(file), file);
        }
        let error = Error::config("model.head.structure", "9", "give data.table.drop.");
        assert_eq!(train.explain(&error), "--rank (model.head.structure): 9; give --drop.");
        let error = Error::config("train.learning_rate", "-1", "give more");
        assert_eq!(train.explain(&error), "--learning-rate: -1; give more");
        assert_eq!(sample.explain(&Error::config("train.ema", "2", "less")), "train.ema: 2; less");
    }

    /// Every flag of a training sets something.
    #[test]
    fn flags_set_options_of_a_configuration() {
        let complete = tweedie::run::Layer::of(&Default::default());
        let optional = ["validation", "delimiter", "decimal", "header", "size", "split_seed"];
        for flag in FLAGS.iter().filter(|flag| !flag.path.is_empty()) {
            let leaf = flag.path.rsplit('.').next().unwrap();
            let known = complete.get(flag.path).is_some() || optional.contains(&leaf);
            assert!(known || flag.path == "objective.weighting", "{}", flag.path);
        }
    }
}
