//! Covariances on one frozen score: the runs that have them, heads trained here among them, and
//! what a step with each costs.

mod head;

use std::path::{Path, PathBuf};

use tch::Device;

use super::arm::{data_config, run_name};
use super::judge::{Judge, Method};
use super::{Settings, check_steps};
use crate::experiment::Context;
use crate::learner::Learner;
use crate::runs::{Tasks, trained};
use head::run_of;
use tweedie::autoencoder::import_pipeline;
use tweedie::covariance::CovarianceConfig;
use tweedie::run::{DataConfig, Run, RunConfig};
use tweedie::{Error, Result};
use tweedie_report::table::{Cell, Table};

/// One covariance: the run that has it, and its name there.
#[derive(Clone)]
pub(crate) struct Column {
    pub run: usize,
    pub name: String,
    pub method: Method,
    /// Which training of the head it is, from 0.
    pub repeat: usize,
}

/// What a covariance costs.
pub(crate) struct Cost {
    pub label: String,
    /// Of the model, in millions.
    pub parameters: f64,
    /// Per row and step.
    pub seconds: f64,
}

/// Between a head's name and the number of its training, from the second.
const REPEAT: &str = ".seed";

/// Images of a timing, and its steps.
const TIMED: (usize, usize) = (16, 5);
/// Rows of a table's, whose steps are quick.
const TIMED_ROWS: (usize, usize) = (1000, 5);
/// Times that each is timed.
pub(crate) const ROUNDS: usize = 5;
/// The run of an imported score.
const SCORE: &str = "score";

/// A score, the heads on it that are given or to be trained, and covariances that need none.
pub(crate) struct SharedScore<'a> {
    pub settings: &'a Settings,
    /// The run whose score is everybody's, or the folder of a diffusers model.
    pub run: &'a Path,
    pub heads: &'a [PathBuf],
    pub train: &'a [Learner],
    /// Trainings of each of these.
    pub repeats: usize,
    pub covariances: &'a [CovarianceConfig],
}

/// What is judged, and by whom.
pub(crate) struct Contest<'a> {
    pub judge: Judge<'a>,
    /// The score's first.
    pub runs: Vec<Run>,
    pub columns: Vec<Column>,
    /// The part of the whole that is done.
    pub begin: f64,
}

/// What every covariance costs in an ancestral step, the least of some rounds. In turn, so that
/// what else the machine does falls on all alike.
pub(crate) fn costs(judge: &Judge, runs: &[Run], columns: &[Column]) -> Result<Vec<Cost>> {
    let timed = if judge.is_large() { TIMED } else { TIMED_ROWS };
    let first = |column: &&Column| {
        let Column { repeat, method, .. } = column;
        *repeat == 0 && method.is_ancestral() && method.until.is_none()
    };
    let columns: Vec<&Column> = columns.iter().filter(first).collect();
    let cost = |column: &&Column| {
        let model = &runs[column.run].model;
        let head = column.method.covariance == CovarianceConfig::Own
            || column.method.covariance == CovarianceConfig::Interpolated;
        let size = if head { model.parameters().size() } else { model.score_size() };
        Cost {
            label: format!("{}, {}", column.name, column.method.label()),
            parameters: size as f64 / 1e6,
            seconds: f64::INFINITY,
        }
    };
    let mut costs: Vec<Cost> = columns.iter().map(cost).collect();
    for _ in 0..ROUNDS {
        for (column, cost) in columns.iter().zip(&mut costs) {
            let seconds = judge.seconds_per_step(&runs[column.run], column.method, timed)?;
            cost.seconds = cost.seconds.min(seconds);
        }
    }
    Ok(costs)
}

/// Parameters, milliseconds per row and step, and these over the first's.
pub(crate) fn cost_table(costs: &[Cost]) -> Table {
    let mut table = Table::new(["", "parameters, M", "ms", "ratio"]);
    let plain = costs.first().map_or(f64::NAN, |first| first.seconds);
    for Cost { label, parameters, seconds } in costs {
        let cells = [(*parameters, 3), (1e3 * seconds, 3), (seconds / plain, 3)];
        let cells = cells.map(|(value, digits)| Cell::number(value, digits));
        table.push([label.as_str().into()].into_iter().chain(cells));
    }
    table
}

impl<'a> SharedScore<'a> {
    /// Trains the heads in `out/runs`, or finds them there, and measures what covariances need;
    /// refuses what cannot be, and a score that `check` refuses, before anything is trained.
    pub fn prepare(
        &self,
        steps: &[usize],
        context: &mut Context,
        check: impl Fn(&Run) -> Result<()>,
    ) -> Result<Contest<'a>> {
        let extractor = self.settings.extractor(context)?;
        let (dir, device) = (context.out.join("runs"), context.device);
        let mut runs = vec![self.score(&dir, device)?];
        check(&runs[0])?;
        check_steps(steps, runs[0].schedule())?;
        for path in self.heads {
            runs.push(Run::load(path, device)?);
        }
        self.check_heads(&runs)?;
        // what is wrong with the test rows is found before anything is trained
        let judge = Judge::new(self.settings, &runs[0], extractor)?;
        let mut begin = 0.0;
        if !self.train.is_empty() {
            let progress = &mut context.progress;
            self.train(&dir, device, &mut runs, &mut |what, part| progress(what, 0.5 * part))?;
            begin = 0.5;
        }
        let lacking = runs[0].model.noise_statistics();
        if self.covariances.iter().any(|covariance| covariance.lacks(lacking)) {
            runs[0].measure_noise(self.settings.batch)?;
        }
        runs.iter().try_for_each(|run| judge.check(run))?;
        let columns = self.columns(&runs)?;
        Ok(Contest { judge, runs, columns, begin })
    }

    /// The run whose score is everybody's: the one given, or one made of a diffusers model in
    /// `runs`, with the data given.
    fn score(&self, runs: &Path, device: Device) -> Result<Run> {
        let data = &self.settings.data;
        if self.run.join("config.toml").exists() || !self.run.is_dir() {
            if !data.is_empty() {
                let problem = format!("{} is a run, which has its data", self.run.display());
                return Err(Error::config(
                    "experiment.images.data",
                    problem,
                    "leave it out, or give experiment.images.test",
                ));
            }
            return Run::load(self.run, device);
        }
        if data.is_empty() {
            let problem = format!(
                "{} is no run, and a diffusers model has no data of its own",
                self.run.display()
            );
            return Err(Error::config(
                "experiment.images.data",
                problem,
                "give a run, or the images that the model is of",
            ));
        }
        let path = runs.join(SCORE);
        if !path.join("config.toml").exists() {
            import_pipeline(self.run, self.settings.vae.as_deref(), &path, device)?;
        }
        let mut score = Run::load(&path, device)?;
        let classes = score.model.classes() > 0;
        score.give_data(DataConfig { classes, ..data_config(self.settings) })?;
        Ok(score)
    }

    /// Trains the heads in `dir`, or goes on with them, or finds them finished, and adds their
    /// runs.
    fn train(
        &self,
        dir: &Path,
        device: Device,
        runs: &mut Vec<Run>,
        progress: crate::experiment::Progress,
    ) -> Result<()> {
        let prepared = runs[0].prepared().ok_or_else(|| {
            Error::config(
                "experiment.train",
                runs[0].no_data(),
                "restore the data, or give trained experiment.heads",
            )
        })?;
        let of_seed = |repeat: usize| {
            let name = move |learner: &Learner| match repeat {
                0 => learner.to_string(),
                repeat => format!("{learner}{REPEAT}{repeat}"),
            };
            let own = &runs[0].config;
            let config = RunConfig { seed: own.seed + repeat as u64, ..own.clone() };
            let run = move |learner| (name(learner), run_of(*learner, &config, self.settings));
            self.train.iter().map(run)
        };
        let configs: Vec<(String, RunConfig)> = (0..self.repeats).flat_map(of_seed).collect();
        configs.iter().try_for_each(|(_, config)| config.train.check())?;
        if configs.iter().any(|(_, config)| config.model.starts_from_measurement())
            && runs[0].model.noise_statistics().is_none()
        {
            runs[0].measure_noise(self.settings.batch)?;
        }
        let score = &runs[0];
        let mut tasks = Tasks::new(configs.len(), progress);
        let mut heads = Vec::new();
        for (name, config) in &configs {
            let (path, donor) = (dir.join(name), Some(score));
            heads.push(trained(&path, config, &prepared, donor, device, name, &mut tasks)?);
        }
        runs.extend(heads);
        Ok(())
    }

    /// Refuses a head on another score.
    fn check_heads(&self, runs: &[Run]) -> Result<()> {
        let score = |run: &Run| run.model.parameters().flat().narrow(0, 0, run.model.score_size());
        let own = score(&runs[0]);
        for (run, path) in runs[1..].iter().zip(self.heads) {
            let (problem, remedy) = if run.model.config().head.is_none() {
                ("has no covariance head", "give runs of lm, ocm, npr, sn or iddpm")
            } else if run.model.score_size() != own.size()[0] || !score(run).equal(&own) {
                ("has another score", "train heads on the run's score, fit.score_from = RUN")
            } else {
                continue;
            };
            return Err(Error::config(
                "experiment.heads",
                format!("{} {problem}", path.display()),
                remedy,
            ));
        }
        Ok(())
    }

    /// Every covariance, DDPM's steps first; those of a step, β and I-DDPM's, have no others.
    fn columns(&self, runs: &[Run]) -> Result<Vec<Column>> {
        let mut of: Vec<(usize, CovarianceConfig)> =
            self.covariances.iter().map(|&c| (0, c)).collect();
        let head = |(run, own): (usize, &Run)| Some((run, own.model.head_covariance()?));
        of.extend(runs.iter().enumerate().filter_map(head));
        let column = |method: fn(CovarianceConfig) -> Method| {
            move |&(run, covariance): &(usize, CovarianceConfig)| {
                let (name, repeat) = repeat_of(run_name(runs[run].dir.path()));
                Column { run, name, method: method(covariance), repeat }
            }
        };
        let mut columns: Vec<Column> = of.iter().map(column(Method::ancestral)).collect();
        for &(run, covariance) in &of {
            if !runs[run].model.covariance(covariance)?.is_of_a_step() {
                columns.push(column(Method::ddim)(&(run, covariance)));
            }
        }
        Ok(columns)
    }
}

/// The name of a head's run without the number of its training, and that number.
fn repeat_of(run: String) -> (String, usize) {
    match run.rsplit_once(REPEAT).and_then(|(name, n)| Some((name.to_string(), n.parse().ok()?))) {
        Some(found) => found,
        None => (run, 0),
    }
}
