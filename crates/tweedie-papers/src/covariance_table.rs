//! Every covariance on one frozen score (Optimal Covariance Matching, Tables 3, 4, 5 and 8):
//! likelihood and Fréchet distance over the number of steps, with DDPM's and DDIM's steps, and what
//! a step costs. The score is a run's, of images or of a table, or a diffusers model's.

mod head;

use std::path::{Path, PathBuf};

use tch::Device;

use crate::experiment::{Context, Experiment, settings};
use crate::flag::named as by_name;
use crate::images::arm::{data_config, run_name};
use crate::images::judge::{Judge, Method};
use crate::images::record::Quantity;
use crate::images::{self, Found, Record, Settings, Unit, check_steps, measure, quick_steps};
pub use crate::learner::{HeadObjective, Learner};
use crate::outcome::Outcome;
use crate::page::Page;
use crate::runs::{Tasks, trained};
use head::run_of;
use tweedie::covariance::CovarianceConfig;
use tweedie::run::{Run, RunConfig, import};
use tweedie::{Error, Result};
use tweedie_report::table::{Cell, Table};

settings! {
    /// The experiment's settings.
    pub struct CovarianceTable {
        /// The budget of heads that are trained, and the protocol. Data are given for a score of
        /// diffusers alone.
        pub images: Settings = Settings::default(),
        /// The run whose score is everybody's, or the folder of a diffusers model.
        pub run: PathBuf = PathBuf::new(),
        /// Runs with a covariance head on that score.
        pub heads: Vec<PathBuf> = Vec::new(),
        /// Heads that are trained on it.
        #[serde(with = "by_name")]
        pub train: Vec<Learner> = Vec::new(),
        /// Trainings of each of these heads, and draws of its figures, each with its own seed.
        pub repeats: usize = 1,
        /// Covariances that need no head.
        #[serde(with = "by_name")]
        pub covariances: Vec<CovarianceConfig> = covariances(),
        /// Numbers of sampling steps `K`.
        pub steps: Vec<usize> = vec![10, 25, 50, 100, 200, 1000],
        /// Samples on a sheet of images, and images whose diagonals of G are drawn; 0: none.
        pub sheet: usize = 0,
    }
}

/// One covariance: the run that has it, and its name there.
struct Column {
    run: usize,
    name: String,
    method: Method,
    /// Which training of the head it is, from 0.
    repeat: usize,
}

/// What a covariance costs.
struct Cost {
    label: String,
    /// Of the model, in millions.
    parameters: f64,
    /// Per row and step.
    seconds: f64,
}

/// Between a head's name and the number of its training, from the second.
const REPEAT: &str = ".seed";

/// The covariances that need no head and few evaluations of the network.
fn covariances() -> Vec<CovarianceConfig> {
    use CovarianceConfig::{Analytic, Beta, BetaTilde, Rademacher, ZeroHessian};
    vec![BetaTilde, Beta, ZeroHessian, Analytic, Rademacher(1)]
}

/// Images of a timing, and its steps.
const TIMED: (usize, usize) = (16, 5);
/// Rows of a table's, whose steps are quick.
const TIMED_ROWS: (usize, usize) = (1000, 5);
/// Times that each is timed.
const ROUNDS: usize = 5;
/// The run of an imported score.
const SCORE: &str = "score";

impl Experiment for CovarianceTable {
    const NAME: &'static str = "covariance-table";
    const TEXT: &'static str = include_str!("covariance_table.md");
    const SHARED_FLAGS: &'static [&'static str] = &[images::BUDGET];
    const SEED: &'static str = "images.seed";
    const QUICK_LIMITS_FLAGS: bool = true;

    fn quick(self) -> Self {
        let steps = quick_steps(self.steps);
        CovarianceTable { images: self.images.quick(), steps, sheet: self.sheet.min(16), ..self }
    }

    /// Trains the heads in `out/runs` and judges every covariance.
    fn run(&self, context: &mut Context) -> Result<Outcome> {
        let extractor = self.images.extractor(context)?;
        let (dir, device) = (context.out.join("runs"), context.device);
        let mut runs = vec![self.score(&dir, device)?];
        check_steps(&self.steps, runs[0].schedule())?;
        Error::check_count("experiment.repeats", self.repeats, 1000)?;
        for path in &self.heads {
            runs.push(Run::load(path, device)?);
        }
        self.check_heads(&runs)?;
        // what is wrong with the test rows is found before anything is trained
        let judge = Judge::new(&self.images, &runs[0], extractor)?;
        let mut begin = 0.0;
        if !self.train.is_empty() {
            let progress = &mut context.progress;
            self.train(&dir, device, &mut runs, &mut |what, part| progress(what, 0.5 * part))?;
            begin = 0.5;
        }
        let lacking = runs[0].model.noise_statistics();
        if self.covariances.iter().any(|covariance| covariance.lacks(lacking)) {
            runs[0].measure_noise(self.images.batch)?;
        }
        runs.iter().try_for_each(|run| judge.check(run))?;
        let columns = self.columns(&runs)?;
        let progress = &mut context.progress;
        let mut rest = |what: &str, part: f64| progress(what, begin + (1.0 - begin) * part);
        let mut tasks = Tasks::new(columns.len(), &mut rest);
        let (mut records, mut sheets) = (Vec::new(), Vec::new());
        for Column { run, name, method, repeat } in &columns {
            let (run, to) = ((name.as_str(), &runs[*run]), (&mut records, &mut sheets));
            let how = (&[*method][..], *repeat);
            let sheet = if judge.unit() == Unit::BitsPerDim { self.sheet } else { 0 };
            measure(&judge, run, how, &self.steps, sheet, &mut tasks, to)?;
        }
        if self.sheet > 0 {
            let first = |c: &&Column| c.repeat == 0 && c.method.has_likelihood();
            for Column { run, name, method, .. } in columns.iter().filter(first) {
                let diagonal = judge.diagonals(&runs[*run], *method, self.sheet)?;
                let name = format!("diagonal-{name}-{}.png", method.name());
                sheets.extend(diagonal.map(|sheet| (name, sheet)));
            }
        }
        let costs = costs(&judge, &runs, &columns)?;
        let outcome = self.outcome(&judge.found(records)?, &costs)?;
        Ok(Outcome { sheets, ..outcome })
    }
}

/// What every covariance costs in an ancestral step, the least of some rounds. In turn, so that
/// what else the machine does falls on all alike.
fn costs(judge: &Judge, runs: &[Run], columns: &[Column]) -> Result<Vec<Cost>> {
    let timed = if judge.unit() == Unit::BitsPerDim { TIMED } else { TIMED_ROWS };
    let first = |column: &&Column| column.repeat == 0 && column.method.has_likelihood();
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

impl CovarianceTable {
    /// The run whose score is everybody's: the one given, or one made of a diffusers model in
    /// `runs`, with the data given.
    fn score(&self, runs: &Path, device: Device) -> Result<Run> {
        let data = &self.images.data;
        if self.run.join("config.toml").exists() || !self.run.is_dir() {
            if !data.is_empty() {
                let problem = format!("{} is a run, which has its data", self.run.display());
                return Err(Error::config(
                    "experiment.images.data",
                    problem,
                    "leave it out, or give experiment.images.test",
                ));
            }
            return Run::load(&self.run, device);
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
            import(&self.run, None, &path, device)?;
        }
        let mut score = Run::load(&path, device)?;
        score.give_data(data_config(&self.images))?;
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
        let configs: Vec<RunConfig> = self
            .train
            .iter()
            .map(|&learner| run_of(learner, &runs[0].config, &self.images))
            .collect();
        configs.iter().try_for_each(|config| config.train.check())?;
        if configs.iter().any(|config| config.model.starts_from_measurement())
            && runs[0].model.noise_statistics().is_none()
        {
            runs[0].measure_noise(self.images.batch)?;
        }
        let score = &runs[0];
        let mut tasks = Tasks::new(configs.len(), progress);
        let mut heads = Vec::new();
        for (learner, config) in self.train.iter().zip(&configs) {
            let (name, donor) = (learner.to_string(), Some(score));
            let path = dir.join(&name);
            heads.push(trained(&path, config, &prepared, donor, device, &name, &mut tasks)?);
        }
        runs.extend(heads);
        Ok(())
    }

    /// Refuses a head on another score.
    fn check_heads(&self, runs: &[Run]) -> Result<()> {
        let score = |run: &Run| run.model.parameters().flat().narrow(0, 0, run.model.score_size());
        let own = score(&runs[0]);
        for (run, path) in runs[1..].iter().zip(&self.heads) {
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

    fn outcome(&self, found: &Found, costs: &[Cost]) -> Result<Outcome> {
        let distances = found.records.iter().filter_map(|r| Some(r.samples?.frechet));
        let limit = 1.1 * distances.fold(f64::INFINITY, f64::min);
        let least = found.names.map(|_| {
            let table = self.least_steps(found, limit, costs);
            Page::new().with("limit", format!("{limit:.1}")).table("least steps", &table)
        });
        let mut cost = Table::new(["", "parameters, M", "ms", "ratio"]);
        let plain = costs.first().map_or(f64::NAN, |first| first.seconds);
        for Cost { label, parameters, seconds } in costs {
            let cells = [(*parameters, 3), (1e3 * seconds, 3), (seconds / plain, 3)];
            let cells = cells.map(|(value, digits)| Cell::number(value, digits));
            cost.push([label.as_str().into()].into_iter().chain(cells));
        }
        let heads: Vec<String> = self.train.iter().map(Learner::to_string).collect();
        let trained = Page::new().with("heads", heads.join(", "));
        let repeated = (self.repeats > 1 && !heads.is_empty()).then(|| {
            let quantities = [Quantity::Likelihood].into_iter().chain(found.of_samples());
            let tables = quantities.map(|of| {
                Page::new().with("name", found.label(of)).table("over seeds", &found.over(of))
            });
            Page::new().each("quantities", tables)
        });
        let page = Page::new()
            .when("trained", (!heads.is_empty()).then_some(trained))
            .when("least", least)
            .when("repeated", repeated)
            .with("rounds", ROUNDS)
            .table("cost", &cost);
        let title = "Every covariance on one score";
        Ok(found.outcome(Self::NAME, "likelihood", title, page))
    }

    /// For each covariance the fewest steps whose distance is at most `limit`, and so many times
    /// what a step costs over the first covariance's.
    fn least_steps(&self, found: &Found, limit: f64, costs: &[Cost]) -> Table {
        let mut table = Table::new(["", "K", "distance", "ratio × K"]);
        let plain = costs.first().map_or(f64::NAN, |first| first.seconds);
        let first = |r: &&Record| r.repeat == 0;
        let records: Vec<&Record> = found.records.iter().filter(first).collect();
        for same in records.chunk_by(|a, b| a.label() == b.label()) {
            let near = |r: &&&Record| r.samples.is_some_and(|s| s.frechet <= limit);
            let few = same.iter().find(near);
            // DDIM's step computes what DDPM's with the same covariance does
            let ancestral = Method::ancestral(same[0].method.covariance);
            let label = format!("{}, {}", same[0].arm, ancestral.label());
            let ratio = costs.iter().find(|c| c.label == label).map(|c| c.seconds / plain);
            let times = few.zip(ratio).map(|(r, ratio)| Cell::number(ratio * r.steps as f64, 1));
            let distance = few.and_then(|r| Some(Cell::number(r.samples?.frechet, 2)));
            table.push([
                same[0].label().into(),
                Cell::from(few.map(|r| r.steps)),
                distance.into(),
                times.into(),
            ]);
        }
        table
    }
}

/// The name of a head's run without the number of its training, and that number.
fn repeat_of(run: String) -> (String, usize) {
    match run.rsplit_once(REPEAT).and_then(|(name, n)| Some((name.to_string(), n.parse().ok()?))) {
        Some(found) => found,
        None => (run, 0),
    }
}
