//! ScoreFlow's Table 2 on one's own data: likelihood, bound and Fréchet distance over forward
//! processes and objectives.

mod report;

use std::f64::consts::LN_2;
use std::path::Path;

use tch::Device;

use super::runs::{Tasks, trained};
use tweedie::data::subset;
use tweedie::dequantize::{Dequantized, Dequantizer, Uniform, Variational, VariationalConfig};
use tweedie::grid::TimeLaw;
use tweedie::likelihood::{LogLikelihood, ProbabilityFlow, ScoreMatchingBound, mean_and_error};
use tweedie::metric::{FeatureMoments, FeatureStatistics, frechet_distance};
use tweedie::model::Denoiser;
use tweedie::noise::Seed;
use tweedie::objective::{ObjectiveConfig, Weighting};
use tweedie::query::Batch;
use tweedie::run::{Prepared, Run, RunConfig, dequantized_rows, scaled_rows};
use tweedie::sample::{FlowSampler, sample_in_batches};
use tweedie::schedule::ScheduleConfig;
use tweedie::train::TrainConfig;
use tweedie::{Error, Result};

/// Pairs (t, ε) per row and step of a dequantiser's training.
const DEQUANTIZER_DRAWS: usize = 4;

/// How the score is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Training {
    /// Weight 1 on the noise, uniform `t`: the paper's baseline.
    Sigma2,
    /// Likelihood weighting, uniform `t`.
    Likelihood,
    /// Likelihood weighting, importance-sampled `t`.
    Importance,
}

impl Training {
    /// All, in the table's order.
    pub const ALL: [Training; 3] = [Training::Sigma2, Training::Likelihood, Training::Importance];

    /// Its name in tables.
    pub fn label(self) -> &'static str {
        match self {
            Training::Sigma2 => "DSM",
            Training::Likelihood => "LW",
            Training::Importance => "LW + IS",
        }
    }

    /// Its name in files, that of `tweedie train --objective`.
    pub fn name(self) -> &'static str {
        match self {
            Training::Sigma2 => "sm",
            Training::Likelihood => "sm-lw",
            Training::Importance => "sm-lw-is",
        }
    }

    fn objective(self) -> ObjectiveConfig {
        let (weighting, time) = match self {
            Training::Sigma2 => (Weighting::Sigma2, TimeLaw::Uniform),
            Training::Likelihood => (Weighting::Likelihood, TimeLaw::Uniform),
            Training::Importance => (Weighting::Likelihood, TimeLaw::LogSnr),
        };
        ObjectiveConfig::Sm { weighting, time, draws: 1 }
    }
}

/// The forward processes: VP, subVP and VE with the usual numbers.
pub fn schedules() -> [ScheduleConfig; 3] {
    [ScheduleConfig::default(), ScheduleConfig::sub_vp(), ScheduleConfig::ve()]
}

/// The experiment's settings.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoreflowTable {
    /// Data, network, base and training of every cell; the cell decides schedule and objective.
    pub config: RunConfig,
    /// Repetitions, each with its own split, weights and noise.
    pub seeds: u64,
    /// At most this many test rows are scored.
    pub rows: usize,
    /// Steps of the optimiser for the variational dequantiser of every cell; 0: levels are
    /// dequantised uniformly alone.
    pub dequantizer: u64,
    /// Draws of (t, ε) per row for the bound.
    pub draws: usize,
    /// Samples for the Fréchet distance.
    pub samples: usize,
    /// Rows computed at a time.
    pub batch: usize,
    /// Where to compute.
    pub device: Device,
}

/// Likelihoods of the test rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scores {
    /// Negative log-likelihood by the probability-flow ODE, and its standard error over rows.
    pub nll: (f64, f64),
    /// The score-matching bound on it, and its standard error over rows.
    pub bound: (f64, f64),
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
    /// The repetition.
    pub seed: u64,
    /// With levels dequantised uniformly.
    pub uniform: Scores,
    /// With levels dequantised by noise that was learned, where there are levels.
    pub variational: Option<Scores>,
    /// Fréchet distance of ODE samples to the test rows; NaN where a sample could not be had.
    pub frechet: f64,
}

/// What the experiment found; [`Report::write`] makes files of it.
#[derive(Debug)]
pub struct Report {
    /// The settings.
    pub experiment: ScoreflowTable,
    /// Every cell and repetition.
    pub cells: Vec<Cell>,
    /// Whether likelihoods are bits per dimension of levels, or nats per row in the data's own
    /// units.
    pub bits: bool,
    /// Test rows scored in each repetition.
    pub rows: usize,
    seconds: f64,
}

impl ScoreflowTable {
    /// The same at sizes that show only that it runs.
    pub fn quick(mut self) -> ScoreflowTable {
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

    fn check(&self) -> Result<()> {
        Error::check_count("--seeds", self.seeds as usize, 1000)?;
        Error::check_count("--rows", self.rows, 1_000_000_000)?;
        Error::check_count("--draws", self.draws, 1_000_000)?;
        Error::check_count("--samples", self.samples, 1_000_000_000)?;
        if self.samples == 1 {
            return Err(Error::config("--samples", "1 has no covariance", "give two or more"));
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

    /// Trains the cells in `out/runs` and judges them. `progress` gets a line and the fraction
    /// done.
    pub fn run(&self, out: &Path, progress: &mut dyn FnMut(&str, f64)) -> Result<Report> {
        let begun = std::time::Instant::now();
        self.check()?;
        let mut tasks = Tasks::new(2 * self.seeds as usize * 9, progress);
        let (mut cells, mut rows, mut bits) = (Vec::new(), 0, false);
        for seed in (0..self.seeds).map(|i| self.config.seed + i) {
            let prepared = Prepared::read(&self.config.data, seed)?;
            let judge = Judge::new(self, &prepared, Seed(seed))?;
            (rows, bits) = (judge.rows.len(), prepared.record.image.is_some());
            for process in schedules() {
                let schedule = process.name();
                for training in Training::ALL {
                    let name = format!("{}-{}-{seed}", schedule.to_lowercase(), training.name());
                    let mut config = RunConfig {
                        seed,
                        schedule: process.clone(),
                        objective: training.objective(),
                        ..self.config.clone()
                    };
                    config.model.head = None;
                    let path = out.join("runs").join(&name);
                    trained(&path, &config, &prepared, None, self.device, &name, &mut tasks)?;
                    cells.push(judge.cell(
                        &Run::load(&path, self.device)?,
                        schedule,
                        training,
                        seed,
                    )?);
                    tasks.end(&format!("judging {name}"));
                }
            }
        }
        let seconds = begun.elapsed().as_secs_f64();
        Ok(Report { experiment: self.clone(), cells, bits, rows, seconds })
    }
}

/// The test rows of one repetition.
struct Judge<'a> {
    experiment: &'a ScoreflowTable,
    prepared: &'a Prepared,
    seed: Seed,
    rows: Vec<usize>,
    test: FeatureStatistics,
}

impl<'a> Judge<'a> {
    fn new(
        experiment: &'a ScoreflowTable,
        prepared: &'a Prepared,
        seed: Seed,
    ) -> Result<Judge<'a>> {
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
        let all =
            scaled_rows(&prepared.table, all, &prepared.record.scaling, seed.derive("reference")).0;
        Ok(Judge {
            experiment,
            prepared,
            seed,
            rows,
            test: FeatureMoments::of(&all).statistics("rows")?,
        })
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
                frechet_distance(&FeatureMoments::of(&samples).statistics("rows")?, &self.test)?
            }
            Err(Error::Numeric { .. }) => f64::NAN,
            Err(error) => return Err(error),
        };
        let uniform = self.scores(run, &Uniform::new(&run.data.scaling))?;
        let levels = run.data.scaling.columns.iter().any(|column| column.grid.is_some());
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
            return run.dir.dequantizer(&run.data, self.experiment.device);
        }
        let config = TrainConfig {
            iterations,
            batch_size: 128,
            learning_rate: 2e-3,
            warm_up: 100,
            ..TrainConfig::default()
        };
        let seed = self.seed.derive("dequantiser");
        let dequantizer = VariationalConfig::default().init(
            &run.data.scaling,
            run.data.image,
            self.experiment.device,
            seed,
        )?;
        let rows = (&self.prepared.table, &self.prepared.split.train[..]);
        run.train_dequantizer(
            &dequantizer,
            rows,
            DEQUANTIZER_DRAWS,
            &config,
            seed,
            &mut |_, _| (),
            &|| false,
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
            if run.data.image.is_some() { 1.0 / (rows.x.size()[1] as f64 * LN_2) } else { 1.0 };
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
