//! `tweedie info`

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use tweedie::choice::Choice;
use tweedie::run::{Facts, Outcome, Run, RunDir};
use tweedie::{Error, Result};
use tweedie_report::facts::{self, preprocessing};

use crate::Common;
use crate::terminal::in_line;

#[derive(Args, Debug)]
#[command(after_help = "\
Reads the run directory alone: no data, no computation. A run that is being trained, or whose \
training was cut short, is described as far as it is.

Examples:
  tweedie info runs/wine
  tweedie info runs/wine --json")]
pub struct Arguments {
    /// The run directory
    run: PathBuf,
    #[command(flatten)]
    common: Common,
}

/// Sizes of the run's files in bytes, by name.
fn files(dir: &Path) -> Result<Vec<(String, u64)>> {
    let entries = std::fs::read_dir(dir).map_err(Error::io(dir))?;
    let file = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.ok()?;
        let size = std::fs::symlink_metadata(entry.path()).ok().filter(|m| m.is_file())?.len();
        Some((entry.file_name().to_string_lossy().into_owned(), size))
    };
    let mut files: Vec<(String, u64)> = entries.filter_map(file).collect();
    files.sort();
    Ok(files)
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let device = arguments.common.prepare()?;
    let dir = RunDir::open(&arguments.run)?;
    let facts = Facts::read(&dir)?;
    let files = files(dir.path())?;
    let loaded = Run::load(&arguments.run, device);
    let remarks = match &loaded {
        Ok(run) => crate::flags::Flags::here().remarks(run),
        Err(_) => facts.data.remarks.clone(),
    };
    let weights = loaded.as_ref().map(|Run { model, .. }| {
        let covariance = model.head_covariance().map_or("none".into(), |c| c.to_string());
        (model.parameters().size(), model.score_size(), model.base().components(), covariance)
    });
    let bytes: u64 = files.iter().map(|(_, size)| size).sum();
    let answer = as_json(&dir, &facts, &files, &weights, &remarks);
    let mut lines = vec![("run".to_string(), dir.path().display().to_string())];
    lines.extend(facts::lines(&facts));
    let mut line = |name: &str, value: String| lines.push((name.into(), value));
    match weights {
        Ok((all, score, components, covariance)) => {
            let head = match all - score {
                head @ 1.. => format!(": {score} score, {head} head"),
                _ => String::new(),
            };
            let plural = if components == 1 { "" } else { "s" };
            line("parameters", format!("{all}{head}"));
            line("base", format!("{components} Gaussian{plural}"));
            line("own covariance", covariance);
        }
        Err(problem) => line("cannot be used", problem.to_string()),
    }
    line("files", format!("{} in {}", size(bytes), files.len()));
    remarks.iter().for_each(|remark| line("note", remark.clone()));
    let width = lines.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let lines = lines.iter().map(|(name, value)| in_line(&format!("{name:width$}  {value}")));
    arguments.common.print(&answer, lines.collect::<Vec<_>>().join("\n"));
    Ok(())
}

type Weights<'a> = std::result::Result<(i64, i64, i64, String), &'a Error>;

fn as_json(
    dir: &RunDir,
    facts: &Facts,
    files: &[(String, u64)],
    weights: &Weights,
    remarks: &[String],
) -> serde_json::Value {
    let (data, ending, known) = (&facts.data, &facts.ending, weights.as_ref().ok());
    let ([train, validation, test], [missing, duplicates]) = (data.rows, data.dropped);
    let figure = |at: Option<(u64, f64)>| {
        at.map(|(iteration, value)| json!({ "iteration": iteration, "value": value }))
    };
    json!({
        "run": dir.path(),
        "ended": ending.outcome.name(),
        "finished": ending.outcome != Outcome::Unfinished,
        "iteration": ending.iteration,
        "iterations": facts.config.train.iterations,
        "best_iteration": ending.best.map(|(iteration, _)| iteration),
        "seconds": ending.seconds,
        "loss": facts.metrics.last().map(|m| m.loss),
        "validation": {
            "what": facts.validation_label(),
            "lower_is_better": facts.lower_validation_is_better(),
            "best": figure(facts.best_validation()),
            "last": figure(facts.last_validation()),
        },
        "objective": facts.config.objective,
        "data": {
            "source": data.source, "columns": data.names(), "image": data.image,
            "latents": data.latents, "classes": data.classes, "context": data.context,
            "rows": { "training": train, "validation": validation, "test": test },
            "left_out": { "missing": missing, "duplicates": duplicates },
            "preprocessing": preprocessing(data), "fingerprint": data.fingerprint,
        },
        "parameters": known.map(|(all, score, ..)| json!({ "all": all, "score": score })),
        "base_components": known.map(|(_, _, components, _)| components),
        "covariance": known.map(|(.., covariance)| covariance),
        "problem": weights.as_ref().err().map(|problem| problem.to_string()),
        "files": files.iter().cloned().collect::<std::collections::BTreeMap<String, u64>>(),
        "version": facts.about.as_ref().map(|about| &about.version),
        "date": facts.about.as_ref().map(|about| &about.date),
        "command": facts.about.as_ref().map(|about| &about.command),
        "remarks": remarks,
    })
}

/// Bytes as people say them.
fn size(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} bytes"),
        10_000..10_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_as_people_say_them() {
        assert_eq!([999, 25_300, 12_000_000].map(size), ["999 bytes", "25.3 kB", "12.0 MB"]);
        assert_eq!(in_line("a\u{1b}[31mb\n"), "a\\u{1b}[31mb\\n");
    }
}
