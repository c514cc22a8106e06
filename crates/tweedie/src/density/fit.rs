//! Fitting a density: everything between a request and a run that can be used.
//!
//! Options are layers over the defaults ([`crate::run::Layer`]), in this order:
//!
//! 1. the built-in defaults;
//! 2. those that follow the data: for images a small U-Net, an isotropic base, times uniform in
//!    `t`, few rows per step; for a table a rank of at most its number of columns;
//! 3. base, network and schedule of the run whose score is taken, if one is;
//! 4. [`FitOptions::layers`]: a configuration file, then flags.

mod checks;
mod donor;
mod following;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tch::Device;

use super::Density;
use crate::data::Dataset;
use crate::device;
use crate::model::{Base, BaseKind, HeadStart, Model};
use crate::noise::Seed;
use crate::process_group::ProcessGroup;
use crate::run::{DataRecord, Distance, Layer, Prepared, Run, RunConfig, RunDir, Training};
use crate::sample::SampleOptions;
use crate::tensor::to_vec;
use crate::train::{Hooks, Metric, State, StopReason, Trainer};
use crate::watch::{Remark, Silent, Watch};
use crate::{Error, Result};
use checks::{check, check_same, fit_to};
use donor::{choose_rank, load_donor, measure};
use following::{fixed, of_data, of_donor, rank_of, starts_measured};

/// What is fitted, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FitOptions {
    /// Options of a [`RunConfig`], each layer over the one before it.
    pub layers: Vec<Layer>,
    /// The run directory, which must not hold a run; none: a temporary one.
    pub out: Option<PathBuf>,
    /// Whether to go on with the run in `out` from its last checkpoint. Then only how long to train
    /// may be given.
    pub resume: bool,
    /// A finished run whose base and score are taken, so that a head alone is trained.
    pub score_from: Option<PathBuf>,
    /// Whether the head's rank is chosen by the spectrum of that score.
    pub automatic_rank: bool,
    /// Where to compute: `cpu` or `cuda:N`.
    pub device: String,
}

impl Default for FitOptions {
    fn default() -> Self {
        FitOptions {
            layers: Vec::new(),
            out: None,
            resume: false,
            score_from: None,
            automatic_rank: false,
            device: "cpu".into(),
        }
    }
}

impl FitOptions {
    /// The same with the option at `path` of [`RunConfig`], as `train.iterations`, set.
    pub fn set(mut self, path: &str, value: impl Into<toml::Value>) -> FitOptions {
        let mut layer = Layer::new();
        layer.set(path, value);
        self.layers.push(layer);
        self
    }

    /// Whether an option is given at `path`.
    fn gives(&self, path: &str) -> bool {
        self.layers.iter().any(|layer| layer.get(path).is_some())
    }
}

/// Who watches a training, beside what every [`Watch`] hears.
pub trait WatchFit: Watch {
    /// The data are read, split and scaled.
    fn data(&mut self, prepared: &Prepared) {
        let _ = prepared;
    }

    /// Training begins, or goes on where it was left. From here on everything is kept in the run's
    /// directory when it is stopped.
    fn begun(&mut self, training: &Training, config: &RunConfig, record: &DataRecord) {
        let _ = (training, config, record);
    }

    /// A line of figures.
    fn metric(&mut self, metric: &Metric) {
        let _ = metric;
    }

    /// Samples of images after so many steps, of the same noise every time: levels 0…255, image
    /// after image.
    ///
    /// # Errors
    /// Whatever ends the work, as a full disk does.
    fn samples(&mut self, dir: &RunDir, iteration: u64, levels: &[f64]) -> Result<()> {
        let _ = (dir, iteration, levels);
        Ok(())
    }
}

impl WatchFit for Silent {}

/// The options of the network.
const NETWORK: &str = "model.network";
/// Samples of images that are drawn while training.
const LOOK_SAMPLES: usize = 16;
impl Density {
    /// Fits a density to the rows of `data`, of which a tenth is held out to choose the model by
    /// unless `data.split` says otherwise; none is kept for testing. Reports to `watch`, which can
    /// stop it: then what is done is kept in a run directory, which the error names where
    /// [`FitOptions::out`] does not.
    ///
    /// The rows are not kept in the run directory. Once it is loaded by another process, what needs
    /// the training data, as the analytic covariance does, is refused.
    ///
    /// # Errors
    /// [`Error::Config`] with the path of an option that cannot be, [`Error::Data`] for data that
    /// cannot be used, [`Error::Numeric`] if training diverges, [`Error::Interrupted`] if `watch`
    /// stops it.
    pub fn fit(data: &Dataset, options: &FitOptions, watch: &mut dyn WatchFit) -> Result<Density> {
        Density::fit_over(&ProcessGroup::alone(), Some(data), options, watch)
    }

    /// Fits a density to the rows of the file, or of the mixture, that `data.source` names; test
    /// rows are kept apart as `data.split` says. Otherwise as [`Density::fit`].
    ///
    /// # Errors
    /// As [`Density::fit`], and whatever in the file cannot be used.
    pub fn fit_source(options: &FitOptions, watch: &mut dyn WatchFit) -> Result<Density> {
        Density::fit_over(&ProcessGroup::alone(), None, options, watch)
    }

    /// As [`Density::fit`], or without rows as [`Density::fit_source`], by the processes of a group,
    /// each of which makes this call with the same rows and options. The rows of every batch are
    /// split over them, so that the result is that of one process up to rounding and dropout. The
    /// leader keeps the run and reports to its watch; the others have the density in temporary
    /// directories.
    ///
    /// # Errors
    /// As [`Density::fit`], and [`Error::Group`] if another process fails.
    pub fn fit_over(
        group: &ProcessGroup,
        data: Option<&Dataset>,
        options: &FitOptions,
        watch: &mut dyn WatchFit,
    ) -> Result<Density> {
        group.reporting(|| Density::fit_member(group, data, options, watch))
    }

    fn fit_member(
        group: &ProcessGroup,
        data: Option<&Dataset>,
        options: &FitOptions,
        watch: &mut dyn WatchFit,
    ) -> Result<Density> {
        let device = device::open(&group.device_name(&options.device))?;
        let fit = Fit { data, options, device, group };
        let out = if group.is_leader() { options.out.as_deref() } else { None };
        let temporary = match out {
            Some(_) => None,
            None => Some(tempfile::tempdir().map_err(Error::io(std::env::temp_dir()))?),
        };
        let path = out.map(Path::to_owned).or(temporary.as_ref().map(|dir| dir.path().join("run")));
        let path = path.expect("one of the two");
        let fitted = match group.is_leader() {
            true => fit.lead(&path, watch),
            false => fit.follow(&path, &mut Follower(watch)),
        };
        match (fitted, temporary) {
            (Ok(run), None) => Ok(Density::of(run)),
            (Ok(run), Some(dir)) => Ok(Density::in_temporary(run, dir)),
            (Err(Error::Interrupted(text)), Some(dir)) if group.is_leader() => {
                let kept = dir.keep().join("run");
                Err(Error::Interrupted(format!("{text} in {}", kept.display())))
            }
            (Err(error), _) => Err(error),
        }
    }
}

/// What a process that is not the leader hears of its caller: whether to stop.
struct Follower<'a>(&'a dyn Watch);

impl Watch for Follower<'_> {
    fn stop(&self) -> bool {
        self.0.stop()
    }
}

impl WatchFit for Follower<'_> {}

/// What is fitted, to what, and where.
struct Fit<'a> {
    /// The rows, where they are in memory.
    data: Option<&'a Dataset>,
    options: &'a FitOptions,
    device: Device,
    group: &'a ProcessGroup,
}

/// A training that is about to begin or go on, and what its process knows of it.
struct Ready {
    training: Training,
    config: RunConfig,
    prepared: Prepared,
    distance: Option<Distance>,
}

impl Fit<'_> {
    /// The run in `out`, begun or gone on with by the leader, which hands it to the others.
    fn lead(&self, out: &Path, watch: &mut dyn WatchFit) -> Result<Run> {
        let ready = self.group.lead(|| match (self.options.resume, &self.options.out) {
            (true, None) => Err(Error::config("fit.out", "no run to go on with", "give one")),
            (true, Some(_)) => self.resume(out, watch),
            (false, _) => self.begin(out, watch),
        })?;
        let ready = ready.expect("the leader's own");
        RunDir::over(self.group, Some(ready.training.dir.clone()), out)?;
        watch.begun(&ready.training, &ready.config, &ready.prepared.record);
        self.train(ready, watch)
    }

    /// The leader's run, of which this process has a copy in `path`.
    fn follow(&self, path: &Path, watch: &mut dyn WatchFit) -> Result<Run> {
        self.group.lead(|| Ok(()))?;
        let dir = RunDir::over(self.group, None, path)?;
        let mut config = dir.config()?;
        config.data = config.data.absolute().of_run(&dir.data()?);
        let prepared = self.prepared(&config)?;
        let training = Training::resume(dir, &config, &prepared, "data.source", self.device)?;
        self.train(Ready { training, config, prepared, distance: None }, watch)
    }

    /// The rows, split and scaled.
    fn prepared(&self, config: &RunConfig) -> Result<Prepared> {
        match self.data {
            Some(data) => Prepared::of(data, &config.data, config.seed),
            None => Prepared::read(&config.data, config.seed),
        }
    }

    /// A new training in the directory `out`.
    fn begin(&self, out: &Path, watch: &mut dyn WatchFit) -> Result<Ready> {
        let Fit { options, device, .. } = *self;
        RunDir::check_free(out)?;
        let donor = options.score_from.as_deref().map(RunDir::open).transpose()?;
        let donor =
            donor.map(|donor| Ok::<_, Error>((donor.config()?, donor.data()?))).transpose()?;
        let mut below = vec![fixed(self.data), donor.as_ref().map(of_donor).unwrap_or_default()];
        // which kind of network, and hence which options it has, follows the data
        let known = options.layers.iter().map(|layer| layer.without(NETWORK)).collect();
        let mut config = resolve(&below, &FitOptions { layers: known, ..options.clone() })?;
        check(&config, options)?;
        let prepared = self.prepared(&config)?;
        below.insert(1, of_data(&config, &prepared.record, options));
        config = resolve(&below, options)?;
        if starts_measured(&config, options) {
            below[0].set("model.head.start", HeadStart::Analytic.to_string());
            config = resolve(&below, options)?;
        }
        fit_to(&mut config, &prepared.record)?;
        config.data = config.data.of_run(&prepared.record);
        watch.data(&prepared);
        let distance = prepared.distance(&config, device, watch)?;
        let donor = options.score_from.as_ref();
        let mut donor =
            donor.map(|path| load_donor(path, &config, &prepared, device)).transpose()?;
        if let Some(donor) = &mut donor {
            if options.automatic_rank {
                choose_rank(&mut config, donor, &prepared, watch)?;
            }
            if config.model.starts_from_measurement() && donor.model.noise_statistics().is_none() {
                measure(donor, &config, &prepared, watch)?;
            }
        } else if config.base.kind == BaseKind::Mixture {
            watch.say(Remark::Progress("base: fitting mixtures of Gaussians".into()));
        }
        let seed = Seed(config.seed).derive("validation rows");
        let validation = prepared.validation_rows(config.train.validation_rows, seed);
        let training =
            Training::begin(out, &config, &prepared, &validation, donor.as_ref(), device)?;
        describe_base(&training.model, &config, &prepared.record, donor.is_some(), watch);
        drop(donor);
        Ready { training, config, prepared, distance }.checked()
    }

    /// The training in `out` where it was left.
    fn resume(&self, out: &Path, watch: &mut dyn WatchFit) -> Result<Ready> {
        let Fit { options, device, .. } = *self;
        let mut dir = RunDir::open(out)?;
        let stored = dir.config()?;
        if options.score_from.is_some() {
            let remedy = "leave it out: what the run was begun with is kept in it";
            return Err(Error::config("fit.score_from", "cannot be given with fit.resume", remedy));
        }
        let other = |problem, remedy| Err(Error::config("fit.resume", problem, remedy));
        match (stored.data.source.is_empty(), self.data) {
            (true, None) => {
                let remedy = "go on with Density::fit and the same rows";
                return other("the run was begun on rows in memory", remedy);
            }
            (false, Some(_)) => {
                let remedy = "go on with Density::fit_source";
                return other("the run was begun on the rows of a file", remedy);
            }
            _ => (),
        }
        let mut config = resolve(&[Layer::of(&stored)], options)?;
        check(&config, options)?;
        check_same(&stored, &config)?;
        dir.lock()?;
        if options.gives("train.max_seconds") && config.train.max_seconds > 0.0 {
            // so many seconds from now on
            config.train.max_seconds += dir.status()?.map_or(0.0, |status| status.seconds);
        }
        config.train.check()?;
        dir.remark_on_metrics()?.into_iter().for_each(|remark| watch.say(remark));
        config.data = stored.data.absolute().of_run(&dir.data()?);
        let prepared = self.prepared(&config)?;
        watch.data(&prepared);
        let distance = prepared.distance(&config, device, watch)?;
        let training = Training::resume(dir, &config, &prepared, "fit.resume", device)?;
        Ready { training, config, prepared, distance }.checked()
    }

    /// The training that is ready, to its end.
    fn train(&self, ready: Ready, watch: &mut dyn WatchFit) -> Result<Run> {
        let Ready { training, config, prepared, distance } = ready;
        let (group, config, prepared) = (self.group, &config, &prepared);
        let record = &prepared.record;
        let Training { dir, model, mut state } = training;
        let (done, seconds) =
            dir.train_categories(config, &model, prepared, state.seconds, group, watch)?;
        state.seconds += seconds;
        if !done {
            let text = "stopped while the categories were learned; everything is saved";
            dir.checkpoint(&model, &state)?;
            return Err(Error::Interrupted(text.into()));
        }
        let seed = Seed(config.seed);
        let judge = prepared.judge(&config.train, seed);
        let mut train = config.train.clone();
        if record.features().is_some_and(|features| features.layout().numbers.is_empty()) {
            let text = "no column is a number: the categories are all there is to train";
            watch.say(Remark::Progress(text.into()));
            train.iterations = 1;
        }
        let trainer = Trainer { config: train, group: group.clone() };
        // of the whole configuration: what follows the data may change it
        let objective = config.objective.build()?;
        let rows = prepared.training();
        watch.begin("train", config.train.iterations);
        let distance = distance.as_ref();
        let mut hooks = Keeper { dir: &dir, config, record, distance, group, watch };
        let ended =
            trainer.fit(&model, &*objective, &*rows, judge.as_ref(), seed, &mut state, &mut hooks);
        watch.end();
        let ended = ended?;
        if !group.is_leader() {
            dir.checkpoint(&model, &state)?;
        }
        dir.finish(&state, ended)?;
        match ended {
            StopReason::Stopped => {
                let text = format!("stopped at iteration {}; everything is saved", state.iteration);
                Err(Error::Interrupted(text))
            }
            _ => Ok(Run { in_memory: self.data.cloned(), ..Run::load(dir.path(), self.device)? }),
        }
    }
}

impl Ready {
    /// The same, if its samples can be compared while it is trained.
    fn checked(self) -> Result<Ready> {
        let model = &self.training.model;
        self.distance.as_ref().map_or(Ok(()), |distance| distance.check(model))?;
        Ok(self)
    }
}

/// Keeps a training in its directory, and passes on what it says. A process that is not the leader
/// keeps nothing but the end.
struct Keeper<'a> {
    dir: &'a RunDir,
    config: &'a RunConfig,
    record: &'a DataRecord,
    distance: Option<&'a Distance>,
    group: &'a ProcessGroup,
    watch: &'a mut dyn WatchFit,
}

impl Hooks for Keeper<'_> {
    fn metric(&mut self, metric: &Metric) -> Result<()> {
        if !self.group.is_leader() {
            return Ok(());
        }
        self.dir.append_metric(metric)?;
        self.watch.metric(metric);
        Ok(())
    }

    fn step(&mut self, iteration: u64) {
        self.watch.progress(iteration, self.config.train.iterations);
    }

    /// Images: samples of the same noise every time.
    fn look(&mut self, model: &Model, iteration: u64) -> Result<()> {
        if self.record.levels().is_none() {
            return Ok(());
        }
        let stop = || self.watch.stop();
        let seed = Seed(self.config.seed).derive("look").0;
        let sampling = SampleOptions { seed, ..SampleOptions::default() }.of(model, true);
        let batch = self.config.train.batch_size;
        let samples = sampling.draw_unless(model, LOOK_SAMPLES, batch, &stop);
        match samples {
            _ if self.watch.stop() => Ok(()),
            Ok(samples) => {
                let levels = self.record.scaling.inverse(&to_vec(&samples));
                self.watch.samples(self.dir, iteration, &levels)
            }
            // early on a model may be unable to; its training goes on
            Err(Error::Numeric { problem, .. }) => {
                let text = format!("no samples at iteration {iteration}: {problem}");
                self.watch.say(Remark::Progress(text));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn distance(&mut self, model: &Model, _iteration: u64) -> Result<Option<f64>> {
        let found = self.distance.map(|distance| distance.of(model, &|| self.watch.stop()));
        Ok(found.transpose()?.flatten())
    }

    fn checkpoint(&mut self, model: &Model, state: &State) -> Result<()> {
        match self.group.is_leader() {
            true => self.dir.checkpoint(model, state),
            false => Ok(()),
        }
    }

    fn stop(&self) -> bool {
        self.watch.stop()
    }
}

/// The configuration that the layers `below` and those of `options` make.
fn resolve(below: &[Layer], options: &FitOptions) -> Result<RunConfig> {
    let mut rank = Layer::new();
    if options.automatic_rank {
        // chosen once the score is there
        rank.set("model.head.structure", toml::Value::Table(rank_of(0)));
    }
    let layers: Vec<&Layer> = below.iter().chain(&options.layers).chain([&rank]).collect();
    RunConfig::resolve(&layers)
}

/// Says what the base is, where that is worth knowing.
fn describe_base(
    model: &Model,
    config: &RunConfig,
    record: &DataRecord,
    of_donor: bool,
    watch: &mut dyn WatchFit,
) {
    let components = model.base().components();
    if components > 1 {
        watch.say(Remark::Progress(format!("base: a mixture of {components} Gaussians")));
    }
    let (rows, columns) = (record.rows[0], record.scaling.dim());
    let full = config.base.kind != BaseKind::Isotropic && !of_donor;
    if full && Base::shrinks(rows as i64, columns as i64) {
        watch.say(Remark::Note(format!(
            "{rows} training rows have no covariance of {columns} columns of their own; that of \
             the base is drawn towards a multiple of the identity"
        )));
    }
}

#[cfg(test)]
mod tests;
