//! `tweedie info`

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use tweedie::covariance::CovarianceConfig;
use tweedie::data::ColumnScaling;
use tweedie::likelihood::bits_per_dim;
use tweedie::model::{HeadConfig, NetworkConfig, Structure};
use tweedie::objective::{ObjectiveConfig, ScoreGradient, Target, Weighting};
use tweedie::run::{About, DataRecord, Run, RunConfig, RunDir, Status};
use tweedie::train::{Metric, StopReason};
use tweedie::{Error, Result};

use crate::Common;
use crate::console::{in_line, print_json};

#[derive(Args, Debug)]
#[command(after_help = "\
Reads the run directory alone: no data, no computation. A run that is being trained, or whose training was cut short, is \
described as far as it is.

Examples:
  tweedie info runs/wine
  tweedie info runs/wine --json")]
pub struct Arguments {
    /// The run directory
    run: PathBuf,
    #[command(flatten)]
    common: Common,
}

/// How a training ended, or how far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Finished,
    EarlyStop,
    OutOfTime,
    /// Still running, interrupted or killed.
    Unfinished,
    /// The run was made of another model.
    Imported,
}

impl How {
    fn name(self) -> &'static str {
        match self {
            How::Finished => "finished",
            How::EarlyStop => "early-stop",
            How::OutOfTime => "out-of-time",
            How::Unfinished => "unfinished",
            How::Imported => "imported",
        }
    }
}

/// How far a training came.
#[derive(Clone, Debug)]
pub struct Ending {
    pub how: How,
    pub iteration: u64,
    /// The iteration whose weights are kept, and its validation bound as recorded.
    pub best: Option<(u64, f64)>,
    pub seconds: f64,
}

/// How far the training came: as the run says, or as its metrics and configuration show where it
/// does not.
fn ending(
    status: Option<Status>,
    config: &RunConfig,
    data: &DataRecord,
    metrics: &[Metric],
) -> Ending {
    let imported = metrics.is_empty() && (data.fingerprint.is_empty() || data.rows == [0; 3]);
    if let Some(status) = status {
        let how = match status.ended {
            _ if imported => How::Imported,
            Some(StopReason::Finished) => How::Finished,
            Some(StopReason::EarlyStop) => How::EarlyStop,
            Some(StopReason::OutOfTime) => How::OutOfTime,
            Some(StopReason::Stopped) | None => How::Unfinished,
        };
        let best = status.best_iteration.zip(status.best);
        return Ending { how, iteration: status.iteration, best, seconds: status.seconds };
    }
    let mut best: Option<(u64, f64)> = None;
    let mut since_best = 0;
    for (iteration, value) in metrics.iter().filter_map(|m| Some((m.iteration, m.validation?))) {
        if value.is_finite() && best.is_none_or(|(_, found)| value > found) {
            (best, since_best) = (Some((iteration, value)), 0);
        } else {
            since_best += 1;
        }
    }
    let (iteration, seconds) = metrics.last().map_or((0, 0.0), |m| (m.iteration, m.seconds));
    let train = &config.train;
    let how = if imported {
        How::Imported
    } else if iteration >= train.iterations {
        How::Finished
    } else if train.patience > 0 && since_best >= train.patience {
        How::EarlyStop
    } else if train.max_seconds > 0.0 && seconds >= train.max_seconds {
        How::OutOfTime
    } else {
        How::Unfinished
    };
    Ending { how, iteration, best, seconds }
}

/// What a run directory says of itself without its weights.
pub struct Facts {
    pub about: Option<About>,
    pub config: RunConfig,
    pub data: DataRecord,
    pub metrics: Vec<Metric>,
    pub ending: Ending,
    /// Whether the validation figures of images are of levels, which can be said in bits per
    /// dimension.
    levels: bool,
}

impl Facts {
    pub fn read(dir: &RunDir) -> Result<Facts> {
        let (about, config, data, metrics) =
            (dir.about()?, dir.config()?, dir.data()?, dir.metrics()?);
        let status = dir.status()?;
        // runs without it judged images by the density of dequantised pixels in the network's units
        let levels = data.image.is_some() && status.is_some();
        let ending = ending(status, &config, &data, &metrics);
        Ok(Facts { about, config, data, metrics, ending, levels })
    }

    /// What a validation figure is, with its unit.
    pub fn validation_label(&self) -> &'static str {
        match self.levels {
            true => "bits per dimension",
            false => "bound, nats per row in the network's units",
        }
    }

    /// Whether less is better.
    pub fn lower_validation_is_better(&self) -> bool {
        self.levels
    }

    /// A recorded validation bound in that unit.
    pub fn validation(&self, recorded: f64) -> f64 {
        if self.levels { bits_per_dim(recorded, self.data.scaling.dim()) } else { recorded }
    }

    /// The last validation of the training: its iteration and figure.
    fn last_validation(&self) -> Option<(u64, f64)> {
        self.metrics.iter().rev().find_map(|m| Some((m.iteration, self.validation(m.validation?))))
    }

    fn best_validation(&self) -> Option<(u64, f64)> {
        self.ending.best.map(|(iteration, value)| (iteration, self.validation(value)))
    }

    /// How the training ended, in words.
    fn state(&self) -> String {
        let (done, of) = (self.ending.iteration, self.config.train.iterations);
        match self.ending.how {
            How::Finished => format!("finished: all of {of} iterations"),
            How::EarlyStop => {
                format!("finished: the validation no longer improved, at iteration {done} of {of}")
            }
            How::OutOfTime => format!("finished: out of time, at iteration {done} of {of}"),
            How::Imported => "imported: its weights were trained elsewhere".into(),
            How::Unfinished => {
                format!("not finished: iteration {done} of {of}; `tweedie train --resume` goes on")
            }
        }
    }

    /// Everything in lines of a name and a value.
    pub fn lines(&self) -> Vec<(String, String)> {
        let mut lines: Vec<(String, String)> = Vec::new();
        let mut line = |name: &str, value: String| lines.push((name.into(), value));
        let (config, data) = (&self.config, &self.data);
        line("training", self.state());
        if let Some((iteration, value)) = self.best_validation() {
            let label = self.validation_label();
            let last = match self.last_validation() {
                Some((last, at_last)) if last != iteration => {
                    format!("; at the last, {last}: {at_last:.4}")
                }
                _ => String::new(),
            };
            line(
                "weights",
                format!(
                    "of iteration {iteration}, the best: validation {value:.4}{last} ({label})"
                ),
            );
        }
        if let Some(metric) = self.metrics.last() {
            line(
                "loss",
                format!("{:.4} at iteration {} ({})", metric.loss, metric.iteration, loss(config)),
            );
            let rate = metric.seconds / metric.iteration.max(1) as f64;
            line("time", format!("{}, {:.3} s per iteration", duration(metric.seconds), rate));
        }
        line("objective", objective(&config.objective));
        line("network", network(&config.model.network));
        line("covariance head", config.model.head.as_ref().map_or("none".into(), head));
        line("process", config.schedule.name().into());
        line("data", source(data));
        let [train, validation, test] = data.rows;
        if data.rows != [0; 3] {
            let split = format!("{train} training, {validation} validation, {test} test");
            line("rows", format!("{split} (split by seed {})", data.split_seed));
        }
        let [missing, duplicates] = data.dropped;
        if missing + duplicates > 0 {
            let what =
                if data.image.is_some() { "that cannot be decoded" } else { "with missing cells" };
            line("left out", format!("{missing} {what}, {duplicates} duplicates"));
        }
        line("preprocessing", preprocessing(data));
        if let Some(about) = &self.about {
            line("begun", format!("{} by tweedie {}", about.date, about.version));
            line("command", about.command_line());
        }
        lines
    }
}

/// Where rows come from and what they are.
fn source(data: &DataRecord) -> String {
    const NAMED: usize = 12;
    let source = if data.source.is_empty() { "unknown".into() } else { data.source.clone() };
    let what = match data.image {
        Some([channels, height, width]) => format!("images of {channels} × {height} × {width}"),
        None => {
            let names = data.names();
            let more = match names.len().saturating_sub(NAMED) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            format!("{} columns: {}{more}", names.len(), names[..names.len().min(NAMED)].join(", "))
        }
    };
    let classes = match data.classes.len() {
        0 => String::new(),
        classes => format!(", {classes} classes"),
    };
    format!("{source}: {what}{classes}")
}

/// How raw values become the network's.
fn preprocessing(data: &DataRecord) -> String {
    if data.image.is_some() {
        return "levels with uniform noise in their bins, brought to [−1, 1]".into();
    }
    let columns = data.scaling.columns();
    let named = |which: &dyn Fn(&tweedie::data::ScaledColumn) -> bool| -> Vec<&str> {
        columns.iter().filter(|c| which(c)).map(|c| c.column.name.as_str()).collect()
    };
    let parts = [
        ("standardised", named(&|c| matches!(c.map, ColumnScaling::Affine { .. }))),
        ("gaussianised by a spline", named(&|c| matches!(c.map, ColumnScaling::Gaussianize(_)))),
        ("dequantised", named(&|c| c.grid.is_some())),
    ];
    let text = |(what, names): &(&str, Vec<&str>)| match names.len() {
        0 => None,
        all if all == columns.len() => Some(format!("{what}: all columns")),
        n if n > 8 => Some(format!("{what}: {n} columns")),
        _ => Some(format!("{what}: {}", names.join(", "))),
    };
    parts.iter().filter_map(text).collect::<Vec<_>>().join("; ")
}

fn objective(objective: &ObjectiveConfig) -> String {
    match objective {
        ObjectiveConfig::Lm { transitions, score, .. } => {
            let trains = match score {
                ScoreGradient::Joint => "score and head by the quasi-likelihood",
                ScoreGradient::Dsm => {
                    "the score by score matching, the head by the quasi-likelihood"
                }
                ScoreGradient::Frozen => "the head alone, on a frozen score",
            };
            format!("Likelihood Matching, {transitions} transitions: {trains}")
        }
        ObjectiveConfig::LmZeroHessian { transitions, .. } => {
            format!("Likelihood Matching with H = 0, {transitions} transitions: the score alone")
        }
        ObjectiveConfig::CovarianceMatching { target, .. } => {
            let target = match target {
                Target::Jacobian => "OCM",
                Target::Residual => "NPR",
                Target::SecondMoment => "SN",
            };
            format!("covariance matching ({target}): the head alone, on a frozen score")
        }
        ObjectiveConfig::VariationalBound { .. } => {
            "the chain's variational bound (I-DDPM): the head alone, on a frozen score".into()
        }
        ObjectiveConfig::Sm { weighting, .. } => {
            let weighting = match weighting {
                Weighting::Sigma2 => "σ² weighting".into(),
                Weighting::Likelihood => "likelihood weighting".into(),
                Weighting::Interpolated(p) => {
                    format!("weighting between σ² and likelihood, p = {p}")
                }
                Weighting::Table(_) => "a table of weights".into(),
            };
            format!("score matching, {weighting}")
        }
    }
}

/// What the training loss is.
pub fn loss(config: &RunConfig) -> &'static str {
    match config.objective {
        ObjectiveConfig::Lm { .. } | ObjectiveConfig::LmZeroHessian { .. } => {
            "loss of Likelihood Matching"
        }
        ObjectiveConfig::CovarianceMatching { .. } => "loss of covariance matching",
        ObjectiveConfig::VariationalBound { .. } => "loss of the variational bound",
        ObjectiveConfig::Sm { .. } => "loss of score matching",
    }
}

fn network(network: &NetworkConfig) -> String {
    match network {
        NetworkConfig::Mlp(config) => {
            format!("perceptron, {} blocks of {} units", config.depth, config.width)
        }
        NetworkConfig::UNet(config) => {
            let widths: Vec<String> = config.widths.iter().map(i64::to_string).collect();
            format!("U-Net, widths {}", widths.join(", "))
        }
    }
}

fn head(head: &HeadConfig) -> String {
    match head.structure {
        Structure::LowRank(0) => "diagonal".into(),
        Structure::LowRank(rank) => format!("diagonal and rank {rank}"),
        Structure::Full => "full".into(),
    }
}

/// Seconds as people say them.
fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..100 => format!("{seconds:.0} s"),
        100..6000 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
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
        Ok(run) => run.remarks(),
        Err(_) => facts.data.remarks.clone(),
    };
    let weights = loaded.as_ref().map(|run| {
        let (all, score) = (run.model.parameters().size(), run.model.score_size());
        let covariance =
            run.model.head_covariance().map_or("none".into(), |c: CovarianceConfig| c.to_string());
        (all, score, run.model.base().components(), covariance)
    });
    let bytes: u64 = files.iter().map(|(_, size)| size).sum();
    if arguments.common.json {
        print_json(&as_json(&dir, &facts, &files, &weights, &remarks));
        return Ok(());
    }
    let mut lines = vec![("run".to_string(), dir.path().display().to_string())];
    lines.extend(facts.lines());
    match weights {
        Ok((all, score, components, covariance)) => {
            let head = if all > score {
                format!(": {score} score, {} head", all - score)
            } else {
                String::new()
            };
            lines.push(("parameters".into(), format!("{all}{head}")));
            lines.push((
                "base".into(),
                format!("{components} Gaussian{}", if components == 1 { "" } else { "s" }),
            ));
            lines.push(("own covariance".into(), covariance));
        }
        Err(problem) => lines.push(("cannot be used".into(), problem.to_string())),
    }
    lines.push(("files".into(), format!("{} in {}", size(bytes), files.len())));
    lines.extend(remarks.iter().map(|remark| ("note".into(), remark.clone())));
    let width = lines.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    for (name, value) in &lines {
        println!("{}", in_line(&format!("{name:width$}  {value}")));
    }
    Ok(())
}

fn size(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} bytes"),
        10_000..10_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

type Weights<'a> = std::result::Result<(i64, i64, i64, String), &'a Error>;

fn as_json(
    dir: &RunDir,
    facts: &Facts,
    files: &[(String, u64)],
    weights: &Weights,
    remarks: &[String],
) -> serde_json::Value {
    let (data, ending) = (&facts.data, &facts.ending);
    let [train, validation, test] = data.rows;
    let [missing, duplicates] = data.dropped;
    let figure = |at: Option<(u64, f64)>| {
        at.map(|(iteration, value)| json!({ "iteration": iteration, "value": value }))
    };
    json!({
        "run": dir.path(),
        "ended": ending.how.name(),
        "finished": !matches!(ending.how, How::Unfinished),
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
            "source": data.source, "columns": data.names(), "image": data.image, "classes": data.classes,
            "rows": { "training": train, "validation": validation, "test": test },
            "left_out": { "missing": missing, "duplicates": duplicates },
            "preprocessing": preprocessing(data), "fingerprint": data.fingerprint,
        },
        "parameters": weights.as_ref().ok().map(|(all, score, ..)| json!({ "all": all, "score": score })),
        "base_components": weights.as_ref().ok().map(|(_, _, components, _)| components),
        "covariance": weights.as_ref().ok().map(|(.., covariance)| covariance),
        "problem": weights.as_ref().err().map(|problem| problem.to_string()),
        "files": files.iter().cloned().collect::<std::collections::BTreeMap<String, u64>>(),
        "version": facts.about.as_ref().map(|about| &about.version),
        "date": facts.about.as_ref().map(|about| &about.date),
        "command": facts.about.as_ref().map(|about| &about.command),
        "remarks": remarks,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metric(iteration: u64, validation: Option<f64>, seconds: f64) -> Metric {
        let text = json!({
            "iteration": iteration, "loss": 1.0, "loss_sd": 0.1, "gradient_norm": 1.0, "clipped": 0, "skipped": 0,
            "validation": validation, "learning_rate": 1e-3, "seconds": seconds,
        });
        serde_json::from_value(text).expect("a metric")
    }

    #[test]
    fn how_a_training_ended_is_told_apart() {
        let mut config = RunConfig::default();
        config.train.iterations = 300;
        config.train.patience = 2;
        let data: DataRecord = serde_json::from_value(json!({
            "source": "wine.csv", "scaling": { "columns": [{
                "column": { "name": "x", "kind": "float" }, "grid": null,
                "map": { "affine": { "shift": 0.0, "scale": 1.0 } },
            }] }, "rows": [8, 1, 1], "split_seed": 0, "dropped": [0, 0],
            "fingerprint": "1f",
        }))
        .expect("a record");
        let how = |config: &RunConfig, metrics: &[Metric]| ending(None, config, &data, metrics).how;
        let some = [metric(100, Some(-3.0), 5.0), metric(200, Some(-4.0), 10.0)];
        assert_eq!(how(&config, &some), How::Unfinished);
        assert_eq!(how(&config, &[]), How::Unfinished);
        assert_eq!(ending(None, &config, &data, &some).best, Some((100, -3.0)));
        let worse = [some[0].clone(), some[1].clone(), metric(250, Some(-5.0), 11.0)];
        assert_eq!(how(&config, &worse), How::EarlyStop);
        assert_eq!(how(&config, &[metric(300, None, 12.0)]), How::Finished);
        config.train.max_seconds = 10.0;
        assert_eq!(how(&config, &some), How::OutOfTime);
        let imported = DataRecord { fingerprint: String::new(), rows: [0; 3], ..data.clone() };
        assert_eq!(ending(None, &config, &imported, &[]).how, How::Imported);
        // what the run says goes before what its metrics show
        let status = |ended: Option<StopReason>| Status {
            ended,
            iteration: 150,
            best_iteration: Some(50),
            best: Some(-2.0),
            seconds: 7.0,
        };
        let told = |ended| ending(Some(status(ended)), &config, &data, &some);
        assert_eq!(
            (told(None).how, told(Some(StopReason::Stopped)).how),
            (How::Unfinished, How::Unfinished)
        );
        assert_eq!(
            (told(Some(StopReason::EarlyStop)).how, told(None).best),
            (How::EarlyStop, Some((50, -2.0)))
        );
        assert_eq!(told(Some(StopReason::Finished)).iteration, 150);
    }

    #[test]
    fn times_and_sizes_are_as_people_say_them() {
        assert_eq!([12.3, 200.0, 7300.0].map(duration), ["12 s", "3 min 20 s", "2 h 1 min"]);
        assert_eq!([999, 25_300, 12_000_000].map(size), ["999 bytes", "25.3 kB", "12.0 MB"]);
        assert_eq!(in_line("a\u{1b}[31mb\n"), "a\\u{1b}[31mb\\n");
    }
}
