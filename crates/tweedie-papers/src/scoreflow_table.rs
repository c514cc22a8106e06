//! ScoreFlow's Table 2 on one's own data: likelihood, bound and Fréchet distance over forward
//! processes and objectives.

use std::f64::consts::LN_2;
use std::path::{Path, PathBuf};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use tch::{Device, Tensor};

use crate::experiment::{Context, Experiment, settings};
use crate::images::judge::{Levels, see};
use crate::layout::{Measured, differences, measured, table};
use crate::outcome::Outcome;
use crate::page::Page;
use crate::runs::{Tasks, trained};
use crate::weighting::Training;
use tweedie::autoencoder::ImageView;
use tweedie::data::{Marginals, subset};
use tweedie::dequantize::{Dequantized, Dequantizer, Uniform, Variational, VariationalConfig};
use tweedie::likelihood::{LogLikelihood, ProbabilityFlow, ScoreMatchingBound, mean_and_error};
use tweedie::metric::{
    Extractor, FeatureMoments, FeatureNetwork, FeatureStatistics, frechet_distance,
};
use tweedie::model::{BaseKind, Denoiser};
use tweedie::noise::Seed;
use tweedie::objective::ObjectiveConfig;
use tweedie::query::Batch;
use tweedie::run::{Prepared, Run, RunConfig, dequantized_rows, level_rows, scaled_rows};
use tweedie::sample::{FlowSampler, sample_in_batches};
use tweedie::schedule::ScheduleConfig;
use tweedie::train::TrainConfig;
use tweedie::{Error, Result};
use tweedie_report::table::{Cell as Entry, Column, Table};

/// Pairs (t, ε) per row and step of a dequantiser's training.
const DEQUANTIZER_DRAWS: usize = 4;

/// The forward processes: VP, subVP and VE with the usual numbers.
pub fn schedules() -> [ScheduleConfig; 3] {
    [ScheduleConfig::default(), ScheduleConfig::sub_vp(), ScheduleConfig::ve()]
}

settings! {
    /// The experiment's settings.
    pub struct ScoreflowTable {
        /// Data, network, base and training of every cell; the cell decides schedule and objective.
        #[serde(deserialize_with = "configuration")]
        pub config: RunConfig = config(),
        /// Repetitions, each with its own split, weights and noise.
        pub seeds: u64 = 3,
        /// At most this many test rows are scored.
        pub rows: usize = 500,
        /// Steps of the optimiser for the variational dequantiser of every cell; 0: levels are
        /// dequantised uniformly alone.
        pub dequantizer: u64 = 1000,
        /// Draws of (t, ε) per row for the bound.
        pub draws: usize = 200,
        /// Samples for the Fréchet distance.
        pub samples: usize = 2000,
        /// Weights of the network whose features Fréchet distances of images are of; without them
        /// they are of the rows themselves.
        pub features: Option<PathBuf> = None,
        /// Rows computed at a time.
        pub batch: usize = 512,
    }
}

/// Likelihoods of the test rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scores {
    /// Negative log-likelihood by the probability-flow ODE, and its standard error over rows.
    pub nll: Measured,
    /// The score-matching bound on it, and its standard error over rows.
    pub bound: Measured,
    /// Rows whose ODE likelihood is doubtful, left out of `nll`.
    pub flagged: usize,
    /// Network evaluations per ODE likelihood.
    pub evaluations: f64,
}

/// One trained score.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// The forward process.
    pub schedule: &'static str,
    /// How it was trained.
    pub training: Training,
    /// The seed of the repetition.
    pub seed: u64,
    /// With levels dequantised uniformly.
    pub uniform: Scores,
    /// With levels dequantised by learned noise, where there are levels.
    pub variational: Option<Scores>,
    /// Fréchet distance of ODE samples to the test rows; NaN where a sample failed.
    pub frechet: f64,
}

/// What the experiment found.
#[derive(Debug, Default)]
pub struct Report {
    /// Every cell and repetition.
    pub cells: Vec<Cell>,
    /// Whether likelihoods are bits per dimension of levels, or nats per row in the data's own
    /// units.
    pub bits: bool,
    /// Test rows scored in each repetition.
    pub rows: usize,
    /// The network whose features Fréchet distances are of, where there is one.
    pub network: Option<FeatureNetwork>,
}

/// The configuration of cells by default: an isotropic base and the default network.
fn config() -> RunConfig {
    let mut config = RunConfig::default();
    config.base.kind = BaseKind::Isotropic;
    config.data.scaling.marginals = Marginals::Standardize;
    config.train.iterations = 5000;
    config
}

/// The configuration of a run, or the name of the file that it is in.
fn configuration<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<RunConfig, D::Error> {
    let read = |path: &str| {
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        RunConfig::from_toml(&text, Path::new(path))
    };
    match serde_json::Value::deserialize(from)? {
        serde_json::Value::String(path) => read(&path).map_err(D::Error::custom),
        tree => RunConfig::deserialize(tree).map_err(D::Error::custom),
    }
}

impl Experiment for ScoreflowTable {
    const NAME: &'static str = "scoreflow-table";
    const TEXT: &'static str = include_str!("scoreflow_table.md");
    const SEED: &'static str = "config.seed";
    const QUICK_LIMITS_FLAGS: bool = true;

    fn quick(mut self) -> Self {
        self.config.train.iterations = self.config.train.iterations.min(200);
        ScoreflowTable {
            seeds: self.seeds.min(2),
            rows: self.rows.min(20),
            dequantizer: self.dequantizer.min(20),
            draws: self.draws.min(20),
            samples: self.samples.min(100),
            ..self
        }
    }

    /// Trains the cells in `out/runs` and judges them.
    fn run(&self, context: &mut Context) -> Result<Outcome> {
        self.check()?;
        let (out, device) = (context.out, context.device);
        let read = |path: &PathBuf| Extractor::read(path, device);
        let extractor = self.features.as_ref().map(read).transpose()?;
        let mut tasks = Tasks::new(2 * self.seeds as usize * 9, context.progress);
        let mut report = Report::default();
        for seed in (0..self.seeds).map(|i| self.config.seed + i) {
            let prepared = Prepared::read(&self.config.data, seed)?;
            let judge = Judge::new(self, device, &prepared, (extractor.as_ref(), Seed(seed)))?;
            (report.rows, report.bits) = (judge.rows.len(), prepared.record.levels().is_some());
            report.network = extractor.as_ref().map(Extractor::network);
            let each = schedules().into_iter().flat_map(|p| Training::ALL.map(|t| (p.clone(), t)));
            for (process, training) in each {
                let schedule = process.name();
                let name = format!("{}-{}-{seed}", schedule.to_lowercase(), training.name());
                let (weighting, time) = training.weighting();
                let mut config = RunConfig {
                    seed,
                    schedule: process,
                    objective: ObjectiveConfig::Sm { weighting, time, draws: 1 },
                    ..self.config.clone()
                };
                (config.model.head, config.train.patience) = (None, 0);
                let path = out.join("runs").join(&name);
                let run = trained(&path, &config, &prepared, None, device, &name, &mut tasks)?;
                report.cells.push(judge.cell(&run, schedule, training, seed)?);
                tasks.end(&format!("judging {name}"));
            }
        }
        Ok(report.outcome())
    }
}

impl ScoreflowTable {
    fn check(&self) -> Result<()> {
        Error::check_count("experiment.seeds", self.seeds as usize, 1000)?;
        Error::check_count("experiment.rows", self.rows, 1_000_000_000)?;
        Error::check_count("experiment.draws", self.draws, 1_000_000)?;
        Error::check_count("experiment.samples", self.samples, 1_000_000_000)?;
        if self.samples == 1 {
            return Err(Error::config(
                "experiment.samples",
                "1 has no covariance",
                "give two or more",
            ));
        }
        if self.config.data.classes {
            return Err(Error::config(
                "data.classes",
                "true",
                "the table has no place for classes: leave them out",
            ));
        }
        self.config.train.check()
    }
}

/// The test rows of one repetition.
struct Judge<'a> {
    experiment: &'a ScoreflowTable,
    device: Device,
    prepared: &'a Prepared,
    /// What Fréchet distances of images are of.
    extractor: Option<&'a Extractor>,
    seed: Seed,
    rows: Vec<usize>,
    test: FeatureStatistics,
}

impl<'a> Judge<'a> {
    fn new(
        experiment: &'a ScoreflowTable,
        device: Device,
        prepared: &'a Prepared,
        (extractor, seed): (Option<&'a Extractor>, Seed),
    ) -> Result<Judge<'a>> {
        if extractor.is_some() && prepared.record.levels().is_none() {
            let problem = "given with a table";
            let remedy = "leave it out: it is for images";
            return Err(Error::config("experiment.features", problem, remedy));
        }
        let all = &prepared.split.test;
        if all.len() < 2 {
            let problem = format!("{} test rows", all.len());
            return Err(Error::config(
                "data.split",
                problem,
                "give more rows, or a larger test share",
            ));
        }
        let seed = seed.derive("judge");
        let rows = subset(all, experiment.rows, seed);
        let scaling = &prepared.record.scaling;
        let all = match extractor {
            Some(_) => level_rows(&prepared.table, all, scaling),
            None => scaled_rows(&prepared.table, all, scaling, seed.derive("reference")).0,
        };
        let test = statistics(extractor, prepared, &all)?;
        Ok(Judge { experiment, device, prepared, extractor, seed, rows, test })
    }

    fn cell(
        &self,
        run: &Run,
        schedule: &'static str,
        training: Training,
        seed: u64,
    ) -> Result<Cell> {
        let sampler = FlowSampler::new(&run.model);
        let samples = sample_in_batches(self.experiment.samples, self.experiment.batch, |rows| {
            sampler.sample(self.seed.derive("samples"), rows, None)
        });
        let frechet = match samples {
            Ok(samples) => {
                let found = statistics(self.extractor, self.prepared, &samples)?;
                frechet_distance(&found, &self.test)?
            }
            Err(Error::Numeric { .. }) => f64::NAN,
            Err(error) => return Err(error),
        };
        let uniform = self.scores(run, &Uniform::new(&run.data.scaling))?;
        let levels = !run.data.scaling.level_columns().is_empty();
        let variational = match self.experiment.dequantizer {
            0 => None,
            _ if !levels => None,
            iterations => Some(self.scores(run, &self.learned(run, iterations)?)?),
        };
        Ok(Cell { schedule, training, seed, uniform, variational, frechet })
    }

    /// The run's dequantiser, trained now if it has none.
    fn learned(&self, run: &Run, iterations: u64) -> Result<Variational> {
        if run.dir.has_dequantizer() {
            return run.dir.dequantizer(&run.data, self.device);
        }
        let config = TrainConfig {
            iterations,
            batch_size: 128,
            learning_rate: 2e-3,
            warm_up: 100,
            ..TrainConfig::default()
        };
        let seed = self.seed.derive("dequantiser");
        let dequantizer = VariationalConfig::usual(run.data.levels().is_some()).init(
            &run.data.scaling,
            run.data.levels(),
            self.device,
            seed,
        )?;
        let rows = (&self.prepared.table, &self.prepared.split.train[..]);
        run.train_dequantizer(
            &dequantizer,
            rows,
            DEQUANTIZER_DRAWS,
            &config,
            seed,
            &mut tweedie::watch::Silent,
        )?;
        Ok(dequantizer)
    }

    fn scores(&self, run: &Run, dequantizer: &dyn Dequantizer) -> Result<Scores> {
        let seed = self.seed.derive("dequantise");
        let Dequantized { rows, offsets } =
            dequantized_rows(&self.prepared.table, &self.rows, dequantizer, seed);
        let rows = Batch::of(&run.model.space().place(&rows));
        let score = |estimator: &dyn LogLikelihood| {
            let seed = self.seed.derive("likelihood");
            let mut estimate =
                estimator.in_batches(&rows, seed, self.experiment.batch, &mut |_| Ok(()))?;
            estimate.shift(&offsets);
            Ok::<_, Error>(estimate)
        };
        let nll = score(&ProbabilityFlow::new(&run.model).keep_unsolved(true))?;
        let bound = score(&ScoreMatchingBound::new(&run.model, self.experiment.draws))?;
        let unit =
            if run.data.levels().is_some() { 1.0 / (rows.x.size()[1] as f64 * LN_2) } else { 1.0 };
        let cost = |values: &[f64]| {
            let (mean, error) = mean_and_error(values);
            (-mean * unit, error * unit)
        };
        Ok(Scores {
            nll: cost(&nll.believed()),
            bound: cost(&bound.values),
            flagged: nll.values.len() - nll.believed().len(),
            evaluations: nll.evaluations,
        })
    }
}

/// What a Fréchet distance takes of rows in the network's units: of their features, or of
/// themselves.
fn statistics(
    extractor: Option<&Extractor>,
    prepared: &Prepared,
    rows: &Tensor,
) -> Result<FeatureStatistics> {
    match (extractor, prepared.record.levels()) {
        (Some(extractor), Some(image)) => {
            let view = ImageView::of(&prepared.record, None)?.expect("images");
            let seen = see(extractor, &Levels::of(&view, rows)?.held, image, 0);
            seen.moments.statistics(extractor.network().name())
        }
        _ => FeatureMoments::of(rows).statistics("rows"),
    }
}

/// A figure of a cell, where it was measured.
type Value = fn(&Cell) -> Option<f64>;

/// The columns of the page's tables.
const COLUMNS: [(&str, Value); 4] = [
    ("NLL ↓", |c| Some(c.uniform.nll.0)),
    ("bound ↓", |c| Some(c.uniform.bound.0)),
    ("NLL, var. deq. ↓", |c| c.variational.map(|v| v.nll.0)),
    ("bound, var. deq. ↓", |c| c.variational.map(|v| v.bound.0)),
];

impl Report {
    fn outcome(&self) -> Outcome {
        let unit = match self.bits {
            true => "bits per dimension of levels 0…255",
            false => "nats per row, the data's own units",
        };
        let network = self.network.map(|network| Page::new().with("network", network.name()));
        let page = Page::new()
            .with("distance", self.distance())
            .when("rows alone", network.is_none().then(Page::new))
            .when("features", network)
            .with("unit", unit)
            .with("rows", self.rows)
            .with("flagged", self.cells.iter().map(|c| c.uniform.flagged).sum::<usize>())
            .with("all", self.cells.len() * self.rows)
            .table("main", &self.lines(&Training::ALL, false))
            .table("over DSM", &self.lines(&Training::ALL[1..], true));
        Outcome::new(ScoreflowTable::NAME, self.table(), page)
    }

    fn table(&self) -> Table {
        let each = self.cells.iter().flat_map(|c| {
            let variational = c.variational.iter().map(move |scores| (c, "variational", scores));
            std::iter::once((c, "uniform", &c.uniform)).chain(variational)
        });
        table!(each, |(c, name, scores)| {
            "schedule" => c.schedule,
            "training" => c.training.name(),
            "seed" => c.seed,
            "dequantization" => name,
            Column::from("nll").error("nll_std_error") => measured(Some(scores.nll), 3),
            Column::from("bound").error("bound_std_error") => measured(Some(scores.bound), 3),
            "flagged" => scores.flagged,
            "evaluations" => Entry::number(scores.evaluations, 1),
            "frechet" => c.frechet.is_finite().then(|| Entry::number(c.frechet, 3)),
        })
    }

    /// What the Fréchet distance is called.
    fn distance(&self) -> &'static str {
        self.network.map_or("FD-rows", FeatureNetwork::distance_name)
    }

    /// `value` of every repetition of a cell.
    fn over_seeds(&self, schedule: &str, training: Training, value: Value) -> Option<Vec<f64>> {
        let mine = |c: &&Cell| c.schedule == schedule && c.training == training;
        self.cells.iter().filter(mine).map(value).collect()
    }

    /// Means over repetitions with their standard errors, or of what they are above those of plain
    /// DSM; empty where nothing was measured.
    fn lines(&self, trainings: &[Training], over_dsm: bool) -> Table {
        let distance = format!("{} ↓", self.distance());
        let columns: Vec<(&str, Value)> = COLUMNS
            .into_iter()
            .chain([(distance.as_str(), (|c: &Cell| Some(c.frechet)) as Value)])
            .collect();
        let head = ["SDE", "training"].into_iter().chain(columns.iter().map(|column| column.0));
        let mut table = Table::new(head);
        for schedule in schedules().map(|process| process.name()) {
            for &training in trainings {
                let summary = |(_, value): (_, Value)| {
                    let own = self.over_seeds(schedule, training, value)?;
                    let plain = self.over_seeds(schedule, Training::Sigma2, value)?;
                    let own = if over_dsm { differences(&own, &plain) } else { own };
                    Some(mean_and_error(&own))
                };
                let cells = columns.iter().map(|&column| measured(summary(column), 3));
                let names = [schedule.into(), training.label().into()];
                table.push(names.into_iter().chain(cells));
            }
        }
        table
    }
}
