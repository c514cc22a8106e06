//! Options of the library, settings of the experiments and the flags that set them: the only place
//! where they meet.
//!
//! The library names an option by its path (`train.batch_size`), an experiment a setting
//! (`experiment.images.pairs`). What is printed names the flag (`--batch-size`), where the command
//! that is run has one for it.

use std::sync::OnceLock;

use clap::CommandFactory;
use serde_json::Value;
use tweedie::Error;
use tweedie::density::{
    DecodeOptions, DequantizeOptions, EncodeOptions, EvaluateOptions, FillOptions, SampleOptions,
    ScoreOptions,
};
use tweedie::run::Run;

use tweedie_papers::experiment::{Entry, Request};
use tweedie_papers::flag::Flag;

use crate::train::FLAGS;

/// Options whose flag is neither in the table of `tweedie train` nor called as their path ends. A
/// path that ends in a dot stands for all below it.
const OTHERS: [(&str, &str); 33] = [
    ("fit.out", "--out"),
    ("fit.resume", "--resume"),
    ("fit.config", "--config"),
    ("fit.score_from", "--score-from"),
    ("objective.draws", "--transitions"),
    ("objective.", "--objective"),
    ("schedule.", "--schedule"),
    ("base.", "--base"),
    ("model.head", "--objective"),
    ("sample.n", "-n"),
    ("sample.given", "--given"),
    ("score.unseen", "--unseen"),
    ("score.parts", "--parts"),
    ("score.parts_of", "--parts-of"),
    ("score.p_values", "--p-values"),
    ("score.threshold", "--threshold"),
    ("score.calibration", "--calibration"),
    ("score.calibration_rows", "--calibration-rows"),
    ("evaluate.data", "--data"),
    ("evaluate.against", "--against"),
    ("evaluate.covariances", "--covariance"),
    ("evaluate.ode", "--no-ode"),
    ("evaluate.images.network", "--inception"),
    ("evaluate.images.vae", "--vae"),
    ("decode.class", "--class"),
    ("latents.vae", "--vae"),
    ("latents.flip", "--flip"),
    ("latents.tile", "--tile"),
    ("encode.check", "--no-check"),
    ("dequantize.data", "--data"),
    ("experiment.set", "--set"),
    ("experiment.part", "--memory-of"),
    ("experiment.threads", "--threads"),
];

/// The paths of all leaves of `options`.
fn leaves(path: &str, options: &Value, found: &mut Vec<String>) {
    match options {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| leaves(&format!("{path}.{name}"), value, found));
        }
        _ => found.push(path.into()),
    }
}

/// The paths of the options of all commands but `train`: the last part of each is its flag's name.
fn paths() -> Vec<String> {
    let value = |options: serde_json::Result<Value>| options.unwrap_or_default();
    let sections = [
        ("sample", value(serde_json::to_value(SampleOptions::default()))),
        ("score", value(serde_json::to_value(ScoreOptions::default()))),
        ("evaluate", value(serde_json::to_value(EvaluateOptions::default()))),
        ("encode", value(serde_json::to_value(EncodeOptions::default()))),
        ("dequantize", value(serde_json::to_value(DequantizeOptions::default()))),
        ("decode", value(serde_json::to_value(DecodeOptions::default()))),
        ("fill", value(serde_json::to_value(FillOptions::default()))),
    ];
    let mut paths = Vec::new();
    sections.iter().for_each(|(name, options)| leaves(name, options, &mut paths));
    paths
}

/// An experiment: the table of its flags, and its settings as they are by default.
struct Settings {
    flags: Vec<Flag>,
    tree: Value,
}

impl Settings {
    fn of(entry: &Entry) -> Settings {
        let tree = (entry.settings)(&Request::default()).unwrap_or_default();
        Settings { flags: (entry.flags)().unwrap_or_default(), tree }
    }

    /// What sets the setting at `path`: its flag, or `--set PATH`. An element of a list may be
    /// named in the singular.
    fn get(&self, path: &str) -> Option<String> {
        let list = format!("{path}s");
        let paths = [path, &list];
        let named = |path| self.flags.iter().find(|flag| flag.path == path);
        if let Some(flag) = paths.into_iter().find_map(named) {
            return Some(format!("--{}", flag.name));
        }
        let there = |path: &&str| self.tree.pointer(&format!("/{}", path.replace('.', "/")));
        let known = paths.into_iter().find(|path| there(path).is_some())?;
        Some(format!("--set {known}"))
    }
}

/// The flags of a command.
pub struct Flags {
    /// With their dashes.
    own: Vec<String>,
    paths: Vec<String>,
    experiment: Option<Settings>,
}

impl Flags {
    /// Those of the command that is run.
    pub fn here() -> &'static Flags {
        static HERE: OnceLock<Flags> = OnceLock::new();
        HERE.get_or_init(|| {
            Flags::of(std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()))
        })
    }

    fn of(words: impl Iterator<Item = String>) -> Flags {
        let mut command = crate::Cli::command();
        let mut experiment = None;
        for word in words {
            match command.find_subcommand(&word).cloned() {
                Some(inner) => {
                    let of_papers = command.get_name() == "experiment";
                    let mut all = tweedie_papers::ALL.iter().filter(|_| of_papers);
                    experiment = all.find(|entry| entry.name == word).map(Settings::of);
                    command = inner;
                }
                None => break,
            }
        }
        let long = command.get_arguments().filter_map(|a| Some(format!("--{}", a.get_long()?)));
        let short = command.get_arguments().filter_map(|a| Some(format!("-{}", a.get_short()?)));
        Flags { own: long.chain(short).collect(), paths: paths(), experiment }
    }

    /// The flag for the option at `path`, where the command has one.
    fn get(&self, path: &str) -> Option<String> {
        let is = |(known, _): &&(&str, &str)| {
            *known == path || known.ends_with('.') && path.starts_with(known)
        };
        let other = OTHERS.iter().find(is);
        if let (Some(setting), Some(experiment), None) =
            (path.strip_prefix("experiment."), &self.experiment, other)
        {
            return experiment.get(setting);
        }
        let of_training = FLAGS.iter().find(|flag| flag.path == path);
        let flag = if let Some(flag) = of_training {
            format!("--{}", flag.name)
        } else if let Some((_, flag)) = other {
            (*flag).into()
        } else {
            let (_, leaf) = path.rsplit_once('.').unwrap_or(("", path));
            let known = leaf == path || path == "fit.seed" || self.paths.iter().any(|p| p == path);
            format!("--{}", known.then_some(leaf)?.replace('_', "-"))
        };
        // flags of these commands are named in messages of others too
        let elsewhere = ["fit.", "dequantize."].iter().any(|command| path.starts_with(command));
        (self.own.contains(&flag) || elsewhere).then_some(flag)
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
            let option = path.contains('.') || path == "device" && after.starts_with(" = ");
            match self.get(path).filter(|_| option) {
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

    /// What has to be known beside any figure of `run`, as a user of this command calls it.
    pub fn remarks(&self, run: &Run) -> Vec<String> {
        run.remarks().iter().map(|remark| self.name_in(remark)).collect()
    }

    /// What went wrong, as a user of this command calls it.
    pub fn explain(&self, error: &Error) -> String {
        let Error::Config { option, problem, remedy } = error else {
            return self.name_in(&error.to_string());
        };
        let leaf = option.rsplit('.').next().unwrap_or_default().replace('_', "-");
        let (section, _) = option.split_once('.').unwrap_or_default();
        let of_configuration = !["", "fit"].contains(&section)
            && self.experiment.is_none()
            && self.own.contains(&"--set".into());
        let option = match self.get(option) {
            // a switch is no name for what it chooses
            Some(flag) if flag == "--paper-literal" => option.clone(),
            // the path says what the flag's name does not
            Some(flag) if flag.trim_start_matches('-') != leaf && of_configuration => {
                format!("{flag} ({option})")
            }
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
        assert_eq!(train.name_in("or use device = cpu"), "or use --device cpu");
        let error = Error::config("model.head.structure", "9", "give data.table.drop.");
        assert_eq!(train.explain(&error), "--rank (model.head.structure): 9; give --drop.");
        let error = Error::config("train.learning_rate", "-1", "give more");
        assert_eq!(train.explain(&error), "--learning-rate: -1; give more");
        assert_eq!(sample.explain(&Error::config("train.ema", "2", "less")), "train.ema: 2; less");
    }

    #[test]
    fn options_of_other_commands_are_called_by_their_flags() {
        for (command, text, expected) in [
            ("sample", "sample.clip_noise: 3; give one", "--clip-noise: 3; give one"),
            ("sample", "ends, and sample.last_step = noise", "ends, and --last-step noise"),
            ("score", "score.solver.rtol: x", "--rtol: x"),
            (
                "score",
                "give score.estimator = ode or score.steps",
                "give --estimator ode or --steps",
            ),
            ("evaluate", "evaluate.images.network: none", "--inception: none"),
            (
                "evaluate",
                "say evaluate.images.fewer_samples to go on",
                "say --fewer-samples to go on",
            ),
            // no options, but files
            (
                "sample",
                "sample.csv, ./sample.n and x/score.steps",
                "sample.csv, ./sample.n and x/score.steps",
            ),
            (
                "sample",
                "its training goes on with fit.out = runs/a and fit.resume",
                "its training goes on with --out runs/a and --resume",
            ),
            ("sample", "sample.n: 0; give a number", "-n: 0; give a number"),
        ] {
            assert_eq!(flags(command).name_in(text), expected);
        }
    }

    /// Settings of an experiment are called by its flags, or else by what sets any of them.
    #[test]
    fn settings_of_experiments_are_called_by_their_flags() {
        for (command, path, expected) in [
            ("few-steps", "experiment.images.pairs", "--batch-size"),
            ("few-steps", "experiment.run", "--run"),
            ("few-steps --quick", "experiment.runs", "--run"),
            ("covariance-table", "experiment.run", "--run"),
            ("image-grid", "experiment.sheet", "experiment.sheet"),
            ("image-grid", "experiment.rank", "--ranks"),
            ("consistency", "experiment.sample_sizes", "--sizes"),
            // a file, not a setting
            ("mixture", "experiment.json", "experiment.json"),
            ("consistency", "experiment.threads", "--threads"),
            ("rademacher", "experiment.recipe.width", "--width"),
            ("rademacher", "experiment.recipe.depth", "--set recipe.depth"),
            ("mixture", "experiment.set", "--set"),
            ("mixture", "fit.out", "--out"),
            ("mixture", "data.source", "data.source"),
            ("weighting-variance", "data.source", "--data"),
        ] {
            let flags = flags(&format!("experiment {command}"));
            let error = Error::config(path, "3", format!("give one with {path}"));
            let text = format!("{expected}: 3; give one with {expected}");
            assert_eq!(flags.explain(&error), text, "{command}");
        }
        for entry in &tweedie_papers::ALL {
            let flags = flags(&format!("experiment {}", entry.name));
            for flag in (entry.flags)().unwrap() {
                let option = format!("experiment.{}", flag.path);
                assert_eq!(flags.get(&option), Some(format!("--{}", flag.name)), "{}", entry.name);
            }
        }
    }

    /// Every flag of a training sets something.
    #[test]
    fn flags_set_options_of_a_configuration() {
        let complete = tweedie::run::Layer::of(&Default::default());
        let optional = [
            "validation",
            "delimiter",
            "decimal",
            "header",
            "crop",
            "size",
            "split_seed",
            "types",
            "bounds",
            "order",
            "context",
            "missing_indicator",
            "network",
            "model",
            "adaptive",
        ];
        for flag in FLAGS.iter().filter(|flag| !flag.path.is_empty()) {
            let leaf = flag.path.rsplit('.').next().unwrap();
            let known = complete.get(flag.path).is_some() || optional.contains(&leaf);
            assert!(known || flag.path == "objective.weighting", "{}", flag.path);
        }
    }
}
