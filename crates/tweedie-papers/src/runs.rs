//! Runs that experiments train: run directories that a finished experiment leaves, and an
//! interrupted one goes on with.

use std::path::Path;

use tch::Device;

use crate::experiment::Progress;
use tweedie::model::Model;
use tweedie::noise::Seed;
use tweedie::run::{Distance, Prepared, Run, RunConfig, RunDir, Training};
use tweedie::train::{Hooks, Metric, State, StopReason, Trainer};
use tweedie::watch::Silent;
use tweedie::{Error, Result};

/// Progress over tasks of like weight.
pub(super) struct Tasks<'a> {
    progress: Progress<'a>,
    done: usize,
    total: usize,
}

impl<'a> Tasks<'a> {
    pub(super) fn new(total: usize, progress: Progress<'a>) -> Tasks<'a> {
        Tasks { progress, done: 0, total }
    }

    /// A part of the present task is done.
    pub(super) fn part(&mut self, what: &str, part: f64) {
        (self.progress)(what, (self.done as f64 + part) / self.total as f64);
    }

    /// The present task is done.
    pub(super) fn end(&mut self, what: &str) {
        self.done += 1;
        self.part(what, 0.0);
    }
}

/// Trains `config` in the run directory `path` to its end, or goes on with it, or finds it
/// finished, and loads it; `name` is for the progress. It is one task of `tasks`.
///
/// # Errors
/// If the directory holds a run with other settings or of other data, or training fails.
pub(super) fn trained(
    path: &Path,
    config: &RunConfig,
    prepared: &Prepared,
    donor: Option<&Run>,
    device: Device,
    name: &str,
    tasks: &mut Tasks,
) -> Result<Run> {
    let seed = Seed(config.seed);
    let rows = config.train.validation_rows;
    let validation = prepared.validation_rows(rows, seed.derive("validation rows"));
    let training = if path.join("config.toml").exists() {
        let dir = RunDir::open(path)?;
        let mut stored = dir.config()?;
        stored = stored.absolute();
        if stored != config.absolute() {
            let problem = format!("{} holds a run with other settings", path.display());
            return Err(Error::config(
                "fit.out",
                problem,
                "give another directory, or that run's settings",
            ));
        }
        Training::resume(dir, config, prepared, "data.source", device)?
    } else {
        Training::begin(path, config, prepared, &validation, donor, device)?
    };
    let Training { dir, model, mut state } = training;
    let what = format!("training {name}");
    if state.iteration < config.train.iterations {
        let judge = prepared.judge(&config.train, seed);
        let distance = prepared.distance(config, device, &mut Silent)?;
        distance.as_ref().map_or(Ok(()), |distance| distance.check(&model))?;
        let trainer = Trainer::new(config.train.clone());
        let (objective, rows) = (config.objective.build()?, prepared.training());
        let (dir, iterations) = (&dir, config.train.iterations);
        let mut keeper = Keeper { dir, tasks, what: &what, iterations, distance };
        let ended = trainer.fit(
            &model,
            &*objective,
            &*rows,
            judge.as_ref(),
            seed,
            &mut state,
            &mut keeper,
        )?;
        dir.finish(&state, ended)?;
    } else {
        dir.finish(&state, StopReason::Finished)?;
    }
    tasks.end(&what);
    Run::load(path, device)
}

/// Keeps the run directory up to date.
struct Keeper<'a, 'b> {
    dir: &'a RunDir,
    tasks: &'a mut Tasks<'b>,
    what: &'a str,
    iterations: u64,
    distance: Option<Distance>,
}

impl Hooks for Keeper<'_, '_> {
    fn metric(&mut self, metric: &Metric) -> Result<()> {
        self.dir.append_metric(metric)
    }

    fn step(&mut self, iteration: u64) {
        self.tasks.part(self.what, iteration as f64 / self.iterations as f64);
    }

    fn distance(&mut self, model: &Model, _iteration: u64) -> Result<Option<f64>> {
        let found = self.distance.as_ref().map(|distance| distance.of(model, &|| false));
        Ok(found.transpose()?.flatten())
    }

    fn checkpoint(&mut self, model: &Model, state: &State) -> Result<()> {
        self.dir.checkpoint(model, state)
    }
}
