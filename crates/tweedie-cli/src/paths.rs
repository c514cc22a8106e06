//! Paths of the library's options, as `sample.last_step`, as the flags that set them.

use serde_json::Value;
use tweedie::density::{
    DecodeOptions, DequantizeOptions, EncodeOptions, EvaluateOptions, SampleOptions, ScoreOptions,
};

/// Flags that are not called as their options are.
const OTHERS: [(&str, &str); 8] = [
    ("sample.n", "-n"),
    ("evaluate.data", "--data"),
    ("evaluate.against", "--against"),
    ("evaluate.covariances", "--covariance"),
    ("evaluate.ode", "--no-ode"),
    ("evaluate.images.network", "--inception"),
    ("encode.check", "--no-check"),
    ("dequantize.data", "--data"),
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

/// The paths of all options, with their flags.
fn flags() -> Vec<(String, String)> {
    let value = |options: serde_json::Result<Value>| options.unwrap_or_default();
    let sections = [
        ("sample", value(serde_json::to_value(SampleOptions::default()))),
        ("score", value(serde_json::to_value(ScoreOptions::default()))),
        ("evaluate", value(serde_json::to_value(EvaluateOptions::default()))),
        ("encode", value(serde_json::to_value(EncodeOptions::default()))),
        ("dequantize", value(serde_json::to_value(DequantizeOptions::default()))),
        ("decode", value(serde_json::to_value(DecodeOptions::default()))),
    ];
    let mut paths = Vec::new();
    sections.iter().for_each(|(name, options)| leaves(name, options, &mut paths));
    let flag = |path: String| {
        let leaf = path.rsplit('.').next().unwrap_or_default().replace('_', "-");
        (path, format!("--{leaf}"))
    };
    let is_other = |path: &String| OTHERS.iter().any(|(other, _)| other == path);
    let others = OTHERS.map(|(path, flag)| (path.to_string(), flag.to_string()));
    paths.into_iter().filter(|path| !is_other(path)).map(flag).chain(others).collect()
}

/// `text` with every path of an option replaced by its flag: `sample.last_step = noise` by
/// `--last-step noise`.
pub fn as_flags(text: &str) -> String {
    let flags = flags();
    let is_word = |c: char| c.is_alphanumeric() || "._/-".contains(c);
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(is_word) {
        out += &rest[..start];
        rest = &rest[start..];
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let found = flags.iter().find(|(path, _)| path == word.trim_end_matches('.'));
        rest = after;
        match found {
            None => out += word,
            Some((path, flag)) => {
                out += flag;
                out += &word[path.len()..];
                if let Some(value) = after.strip_prefix(" = ") {
                    out.push(' ');
                    rest = value;
                }
            }
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_called_by_their_flags() {
        for (text, expected) in [
            ("sample.clip_noise: 3; give one", "--clip-noise: 3; give one"),
            (
                "ends, and sample.last_step = noise in a draw",
                "ends, and --last-step noise in a draw",
            ),
            ("score.solver.rtol: x", "--rtol: x"),
            (
                "give score.estimator = ode or score.estimator = elbo",
                "give --estimator ode or --estimator elbo",
            ),
            ("evaluate.images.network: none", "--inception: none"),
            ("say evaluate.images.fewer_samples to go on", "say --fewer-samples to go on"),
            // no options, but files
            (
                "sample.csv, ./sample.n and runs/score.steps",
                "sample.csv, ./sample.n and runs/score.steps",
            ),
            ("sample.n: 0; give a number", "-n: 0; give a number"),
        ] {
            assert_eq!(as_flags(text), expected);
        }
    }
}
