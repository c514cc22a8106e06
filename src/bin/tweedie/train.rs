//! `tweedie train`

mod options;
mod rank;

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use tweedie::covariance::Covariance;
use tweedie::grid::Spacing;
use tweedie::model::{Denoiser, Model, ModelConfig};
use tweedie::noise::Seed;
use tweedie::run::{DataRecord, Prepared, Run, RunConfig, RunDir, Training};
use tweedie::sample::{Ancestral, LastStep, run_chain};
use tweedie::tensor::to_vec;
use tweedie::train::{Ended, Hooks, Metric, State, Trainer, Validation};
use tweedie::{Error, Result};

use crate::console::{Progress, print_json, say};
use crate::sample::{LEVELS, Pictures, given};
pub use options::{Arguments, size};

struct Console<'a> {
    dir: &'a RunDir,
    config: &'a RunConfig,
    record: &'a DataRecord,
    progress: Progress,
    unit: &'static str,
}

/// Samples in a sheet made while training, and their steps.
const LOOK_SAMPLES: u64 = 16;
const LOOK_STEPS: usize = 20;

static STOP: AtomicBool = AtomicBool::new(false);

impl Hooks for Console<'_> {
    fn metric(&mut self, metric: &Metric) -> Result<()> {
        self.dir.append_metric(metric)?;
        let mut text = format!("loss {:.4}", metric.loss);
        if let Some(value) = metric.validation {
            text =
                format!("iteration {}, {text}, validation bound {value:.4} {}", metric.iteration, self.unit);
            if metric.skipped > 0 {
                text += &format!(", {} steps skipped", metric.skipped);
            }
            self.progress.message(text);
        }
        Ok(())
    }

    fn step(&mut self, iteration: u64) {
        self.progress.at(iteration);
    }

    /// Images: a sheet of samples, the same noise every time.
    fn look(&mut self, model: &Model, iteration: u64) -> Result<()> {
        let Some(shape) = self.record.image else { return Ok(()) };
        let covariance = model.config().head.map_or(Covariance::BetaTilde, |head| head.covariance());
        let model = given(model, None, 0..LOOK_SAMPLES);
        let step = Ancestral::new(&model, covariance, 1.0, LastStep::Mean)?;
        let grid = Spacing::default().elbo_grid(&**model.schedule(), LOOK_STEPS);
        match run_chain(&step, &grid, Seed(self.config.seed).derive("look"), 0..LOOK_SAMPLES) {
            Ok(samples) => {
                let levels = self.record.scaling.inverse(&to_vec(&samples));
                self.dir.write_sheet(iteration, &Pictures::images(shape).sheet(&levels, 4, LEVELS).png())
            }
            // early on a model may be unable to; its training goes on
            Err(Error::Numeric { problem, .. }) => {
                self.progress.message(format!("no samples at iteration {iteration}: {problem}"));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn checkpoint(&mut self, model: &Model, state: &State) -> Result<()> {
        self.dir.checkpoint(model, state)
    }

    fn stop(&self) -> bool {
        STOP.load(Ordering::Relaxed)
    }
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let device = arguments.common.prepare()?;
    let quiet = arguments.common.quiet;
    let (dir, mut config) = match arguments.resume {
        true => resumed(arguments)?,
        false => {
            let mut config = match &arguments.config {
                Some(path) => {
                    let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
                    RunConfig::from_toml(&text, path)?
                }
                None => RunConfig::default(),
            };
            if let (Some(donor), None) = (&arguments.score_from, &arguments.config) {
                let donor = RunDir::open(donor)?.config()?;
                (config.schedule, config.base) = (donor.schedule, donor.base);
                config.model = ModelConfig { head: config.model.head, ..donor.model };
            }
            arguments.apply(&mut config)?;
            config.train.check()?;
            config.base.check()?;
            (None, config)
        }
    };
    let objective = config.objective.build()?;
    let prepared = Prepared::read(&config.data, config.seed)?;
    arguments.fit_to(&mut config, &prepared.record)?;
    describe(&prepared, quiet);
    let seed = Seed(config.seed);
    let validation = prepared.validation_rows(config.train.validation_rows, seed.derive("validation rows"));
    let Training { dir, model, mut state } = match dir {
        Some(dir) => Training::resume(dir, &config, &prepared, "--resume", device)?,
        None => {
            let donor = arguments
                .score_from
                .as_ref()
                .map(|path| donor(path, &config, &prepared, device))
                .transpose()?;
            if let Some(donor) = &donor {
                arguments.choose_rank(&mut config, donor, &prepared)?;
            }
            let training =
                Training::begin(&arguments.out, &config, &prepared, &validation, donor.as_ref(), device)?;
            let components = training.model.base().components();
            if components > 1 {
                say(quiet, format!("base: a mixture of {components} Gaussians"));
            }
            training
        }
    };
    ctrlc::set_handler(|| STOP.store(true, Ordering::Relaxed)).expect("one handler");
    let mut progress = Progress::new("train", config.train.iterations, quiet);
    progress.start_at(state.iteration);
    if config.train.max_seconds > 0.0 {
        progress.limit(config.train.max_seconds - state.seconds);
    }
    let (config, record) = (&config, &prepared.record);
    let mut hooks = Console { dir: &dir, config, record, progress, unit: "nats per row (network units)" };
    let judge = (validation.size()[0] > 0).then(|| {
        let classes = prepared.validation_classes(config.train.validation_rows);
        Validation::new(&validation, seed).with_classes(classes)
    });
    let trainer = Trainer { config: config.train.clone() };
    let rows = prepared.training();
    let ended = trainer.fit(&model, &*objective, &rows, judge.as_ref(), seed, &mut state, &mut hooks)?;
    hooks.progress.finish();
    if ended == Ended::Stopped {
        return Err(Error::Interrupted(format!(
            "stopped at iteration {}; everything is saved: go on with `tweedie train --out {} --resume`",
            state.iteration,
            dir.path().display()
        )));
    }
    let best = state.best.as_ref().map(|b| b.value);
    if arguments.common.json {
        print_json(&json!({
            "run": dir.path(), "iterations": state.iteration, "seconds": state.seconds,
            "ended": format!("{ended:?}"), "validation_bound_network_units": best,
        }));
    } else {
        println!("{}", dir.path().display());
        let reason = match ended {
            Ended::EarlyStop => " (the validation bound no longer improved)",
            Ended::OutOfTime => " (out of time)",
            _ => "",
        };
        say(quiet, format!("{} iterations in {:.0} s{reason}", state.iteration, state.seconds));
    }
    Ok(())
}

/// The stored run and its configuration; only how long to train may differ.
fn resumed(arguments: &Arguments) -> Result<(Option<RunDir>, RunConfig)> {
    let dir = RunDir::open(&arguments.out)?;
    let stored = dir.config()?;
    let mut config = stored.clone();
    if arguments.config.is_some() {
        let remedy = "leave it out: the run's own config.toml is used";
        return Err(Error::config("--config", "cannot be given with --resume", remedy));
    }
    arguments.apply(&mut config)?;
    let mut comparable = config.clone();
    comparable.train.iterations = stored.train.iterations;
    comparable.train.max_seconds = stored.train.max_seconds;
    comparable.train.patience = stored.train.patience;
    comparable.train.checkpoint_every = stored.train.checkpoint_every;
    comparable.data = comparable.data.absolute();
    let stored = RunConfig { data: stored.data.absolute(), ..stored };
    if comparable != stored {
        return Err(Error::config(
            "--resume",
            "a flag differs from the configuration of the run",
            "leave it out (only --iterations, --max-seconds, --patience and --checkpoint-every may change), or start a new run",
        ));
    }
    config.train.check()?;
    Ok((Some(dir), config))
}

/// The finished run whose base and score are taken; it must have the same data, network and schedule.
fn donor(
    path: &std::path::Path,
    config: &RunConfig,
    prepared: &Prepared,
    device: tch::Device,
) -> Result<Run> {
    let donor = Run::load(path, device)?;
    if donor.data.scaling != prepared.record.scaling {
        return Err(Error::config(
            "--score-from",
            format!("{} was trained on other columns or scaled otherwise", path.display()),
            "train on the same data with the same data options and seed",
        ));
    }
    let mut names = donor.data.classes.iter().enumerate();
    // an imported model knows its classes by number
    if donor.data.classes != prepared.record.classes && !names.all(|(i, name)| *name == i.to_string()) {
        let problem = format!("{} has the classes {}", path.display(), donor.data.classes.join(", "));
        return Err(Error::config("--score-from", problem, "train on images of the same classes"));
    }
    let (mine, other) = (&config.model, &donor.config.model);
    let score = |config: &ModelConfig| ModelConfig {
        head: None,
        network: config.network.score_only(),
        ..config.clone()
    };
    let same = score(mine) == score(other);
    if !same || config.schedule != donor.config.schedule || config.base.kind != donor.config.base.kind {
        return Err(Error::config(
            "--score-from",
            format!("{} has another network, base or schedule", path.display()),
            "leave out --config, or give it the same network, base and schedule",
        ));
    }
    Ok(donor)
}

fn describe(prepared: &Prepared, quiet: bool) {
    for line in prepared.in_words() {
        say(quiet, line);
    }
    let record = &prepared.record;
    let [train, validation, test] = record.rows;
    let what = match record.image {
        Some([channels, height, width]) => {
            let colours = if channels == 1 { "grey" } else { "colour" };
            format!("{colours} images of {height} x {width} pixels")
        }
        None => format!("{} columns", record.scaling.dim()),
    };
    say(quiet, format!("data: {what}; {train} training, {validation} validation, {test} test rows"));
    if !record.classes.is_empty() {
        say(quiet, format!("data: {} classes: {}", record.classes.len(), record.classes.join(", ")));
    }
    if record.dropped[0] > 0 {
        let why =
            if record.image.is_some() { "images that cannot be decoded" } else { "rows with missing cells" };
        say(quiet, format!("data: {} {why} left out", record.dropped[0]));
    }
    if record.dropped[1] > 0 {
        say(quiet, format!("data: {} duplicate rows left out", record.dropped[1]));
    }
    match prepared.surprising_duplicates() {
        (0, _) => (),
        (duplicates, true) => say(
            quiet,
            format!(
                "warning: {duplicates} rows are duplicates; copies that fall into test make its likelihood too good \
                 (--unique leaves them out)"
            ),
        ),
        (duplicates, false) => say(
            quiet,
            format!("data: {duplicates} rows equal an earlier one, as rows of discrete columns do"),
        ),
    }
}
