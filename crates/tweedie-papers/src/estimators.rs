//! Every log-likelihood on the same rows: its value, how far that is from the truth, and what it
//! costs.
//!
//! The rows are of Gaussian mixtures in 2 and 10 dimensions, whose exact score stands for a network
//! on every SDE, so that an estimator's error is its own; and, where runs are given, their test
//! rows, for which the tightest of the ODE likelihoods stands for the truth that nobody knows.

mod report;

use std::path::PathBuf;
use std::time::Instant;

use tch::{Device, Tensor};

use crate::clusters::clusters;
use crate::experiment::{Context, Experiment, Progress, settings};
use crate::images::arm::run_name;
use crate::outcome::Outcome;
use crate::runs::Tasks;
use tweedie::covariance::{CovarianceConfig, CovarianceSources, Reverse};
use tweedie::data::subset;
use tweedie::density::ScoreOptions;
use tweedie::grid::Spacing;
use tweedie::likelihood::{
    Claim, Divergence, Elbo, Estimate, LogLikelihood, ProbabilityFlow, ScoreMatchingBound,
};
use tweedie::model::Denoiser;
use tweedie::noise::Seed;
use tweedie::oracle::{GaussianMixture, Oracle};
use tweedie::query::{Batch, Condition};
use tweedie::run::{Run, scaled_rows};
use tweedie::schedule::ScheduleConfig;
use tweedie::tensor::to_vec;
use tweedie::{Error, Result};

settings! {
    /// The experiment's settings.
    pub struct Estimators {
        /// Rows of each mixture, and at most so many test rows of each run.
        pub rows: usize = 500,
        /// Steps `K` of the ELBOs.
        pub steps: Vec<usize> = vec![10, 100, 1000],
        /// Pairs (t, ε) per row of the bounds.
        pub draws: Vec<usize> = vec![100, 1000],
        /// Numbers of divergence probes.
        pub probes: Vec<usize> = vec![1, 4, 16],
        /// Tolerances of the ODE, the last one the tightest; that of probes is the last from 1e-5
        /// up.
        pub tolerances: Vec<f64> = vec![1e-3, 1e-4, 1e-5, 1e-6, 1e-7],
        /// Runs whose test rows are scored too.
        pub runs: Vec<PathBuf> = Vec::new(),
        /// Rows at a time.
        pub batch: usize = ScoreOptions::BATCH,
        /// The seed of everything random.
        pub seed: u64 = 0,
    }
}

/// An estimator with its settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Estimator {
    /// The ELBO of the `K`-step sampler, one draw per step.
    Elbo {
        /// Of its steps.
        covariance: CovarianceConfig,
        /// `K`.
        steps: usize,
    },
    /// The score-matching bound, in its denoising form.
    Bound {
        /// Pairs (t, ε) per row.
        draws: usize,
    },
    /// The same with the divergence of the score by one Rademacher probe per pair.
    BoundSm {
        /// Pairs (t, ε) per row.
        draws: usize,
    },
    /// The probability-flow ODE.
    Flow {
        /// How the divergence is computed.
        divergence: Divergence,
        /// Relative and absolute tolerance of a step.
        tolerance: f64,
    },
}

impl Estimator {
    /// What it is called where its settings are an axis.
    pub fn family(&self) -> String {
        match self {
            Estimator::Elbo { covariance, .. } => format!("ELBO, {}", covariance.name()),
            Estimator::Bound { .. } => "DSM bound".into(),
            Estimator::BoundSm { .. } => "SM bound".into(),
            Estimator::Flow { divergence, .. } => {
                let divergence = match divergence {
                    Divergence::Rademacher { .. } => "Rademacher probes",
                    Divergence::Gaussian { .. } => "Gaussian probes",
                    Divergence::Exact | Divergence::Auto => "exact divergence",
                };
                format!("ODE, {divergence}")
            }
        }
    }

    /// What it gives for `rows`, `size` at a time.
    fn score(
        &self,
        model: &dyn Denoiser,
        rows: &Batch,
        seed: Seed,
        size: usize,
    ) -> Result<Estimate> {
        let of_steps;
        let estimator: Box<dyn LogLikelihood + '_> = match *self {
            Estimator::Elbo { covariance, steps } => {
                of_steps = covariance.build(&CovarianceSources::default())?;
                let grid = Spacing::default().elbo_grid(model.space().schedule(), steps);
                Box::new(Elbo::new(Reverse::new(model, &*of_steps, 1.0)?, grid, 1))
            }
            Estimator::Bound { draws } => Box::new(ScoreMatchingBound::new(model, draws)),
            Estimator::BoundSm { draws } => {
                let divergence = Divergence::Rademacher { probes: 1 };
                Box::new(ScoreMatchingBound::new(model, draws).with_divergence(divergence)?)
            }
            Estimator::Flow { divergence, tolerance } => {
                let flow = ProbabilityFlow::new(model).tolerance(tolerance, tolerance)?;
                Box::new(flow.divergence(divergence)?.keep_unsolved(true))
            }
        };
        estimator.in_batches(rows, seed, size, &mut |_| Ok(()))
    }
}

/// What an estimator gives for some rows.
#[derive(Clone, Debug)]
pub struct Measured {
    /// A description of the rows.
    pub data: String,
    /// The number of their columns.
    pub dim: i64,
    /// The process, by its kind.
    pub schedule: &'static str,
    /// The estimator with its settings.
    pub estimator: Estimator,
    /// The name that the library reports for it.
    pub name: String,
    /// Whether values are bounds or estimates.
    pub claim: Claim,
    /// Nats per row, in the data's own units.
    pub values: Vec<f64>,
    /// `ln p` of the rows, or what stands for it.
    pub truth: Vec<f64>,
    /// Rows whose value is flagged.
    pub flagged: usize,
    /// Network evaluations per row.
    pub evaluations: f64,
    /// Seconds per row.
    pub seconds: f64,
}

impl Measured {
    /// How much too high each value is, of rows that have one.
    pub fn errors(&self) -> Vec<f64> {
        let differences = self.values.iter().zip(&self.truth).map(|(value, truth)| value - truth);
        differences.filter(|e| e.is_finite()).collect()
    }
}

/// What the experiment found: every estimator on every set of rows, set by set.
#[derive(Clone, Debug)]
pub struct Report(Vec<Measured>);

/// Finer than this, the solver follows the rounding of a network in f32.
const FINEST_OF_NETWORKS: f64 = 1e-6;

/// Rows that are scored, and whose model.
struct Rows<'a> {
    data: String,
    schedule: &'static str,
    /// In the network's units.
    x: Tensor,
    /// What brings a log-density to the data's units.
    log_jacobian: Vec<f64>,
    /// `ln p`, where it is known.
    truth: Option<Vec<f64>>,
    model: Modelled<'a>,
}

enum Modelled<'a> {
    Exact(&'a Oracle),
    Trained(&'a Run, Option<Vec<u32>>),
}

/// The three SDEs at their usual settings.
fn sdes() -> [ScheduleConfig; 3] {
    [ScheduleConfig::default(), ScheduleConfig::sub_vp(), ScheduleConfig::ve()]
}

impl Experiment for Estimators {
    const NAME: &'static str = "estimators";
    const TEXT: &'static str = include_str!("estimators.md");

    fn quick(self) -> Self {
        Estimators {
            rows: self.rows.min(50),
            steps: vec![5, 20],
            draws: vec![50],
            probes: vec![1, 4],
            tolerances: vec![1e-3, 1e-5],
            ..self
        }
    }

    fn run(&self, context: &mut Context) -> Result<Outcome> {
        Ok(self.measure(context.device, context.progress)?.outcome())
    }
}

impl Estimators {
    /// Scores all rows by all estimators.
    ///
    /// # Errors
    /// If a setting cannot be, a run cannot be read, or an estimator fails.
    pub fn measure(&self, device: Device, progress: Progress) -> Result<Report> {
        self.check()?;
        let runs: Vec<Run> =
            self.runs.iter().map(|path| Run::load(path, device)).collect::<Result<_>>()?;
        let of_runs: Vec<Rows> =
            runs.iter().map(|run| self.test_rows(run)).collect::<Result<_>>()?;
        let mut tasks = Tasks::new(2 * sdes().len() + runs.len(), progress);
        let mut measured = Vec::new();
        for known in [clusters::<2>, clusters::<10>] {
            for config in sdes() {
                let oracle = Oracle::new(known(), config.build()?);
                self.score(&self.known_rows(&oracle, &config), &mut tasks, &mut measured)?;
            }
        }
        for rows in &of_runs {
            self.score(rows, &mut tasks, &mut measured)?;
        }
        Ok(Report(measured))
    }

    fn check(&self) -> Result<()> {
        Error::check_count("experiment.rows", self.rows, 1_000_000_000)?;
        Error::check_count("experiment.batch", self.batch, 1_000_000_000)?;
        for (setting, counts) in [
            ("experiment.steps", &self.steps),
            ("experiment.draws", &self.draws),
            ("experiment.probes", &self.probes),
        ] {
            counts.iter().try_for_each(|&count| Error::check_count(setting, count, 1_000_000))?;
        }
        Ok(())
    }

    fn known_rows<'a>(&self, oracle: &'a Oracle, config: &ScheduleConfig) -> Rows<'a> {
        let known: &GaussianMixture = &oracle.mixture;
        let x = known.sample(self.rows, Seed(self.seed).derive("rows"));
        Rows {
            data: format!("mixture, d = {}", known.dim()),
            schedule: config.name(),
            truth: Some(to_vec(&known.log_density(&x))),
            log_jacobian: vec![0.0; self.rows],
            x,
            model: Modelled::Exact(oracle),
        }
    }

    fn test_rows<'a>(&self, run: &'a Run) -> Result<Rows<'a>> {
        let name = run_name(run.dir.path());
        let own = run.prepared().filter(|own| !own.split.test.is_empty()).ok_or_else(|| {
            let problem = format!("{name}: it has no test rows, or {}", run.no_data());
            Error::config(
                "experiment.runs",
                problem,
                "put its data back, or give a run that kept test rows",
            )
        })?;
        let rows = subset(&own.split.test, self.rows, Seed(self.seed));
        let seed = Seed(self.seed).derive("dequantise");
        let (x, log_jacobian) = scaled_rows(&own.table, &rows, &run.data.scaling, seed);
        let labels = own.table.labels.as_ref();
        let classes = labels.map(|labels| rows.iter().map(|&row| labels.of_rows[row]).collect());
        Ok(Rows {
            data: name,
            schedule: run.config.schedule.name(),
            x: run.model.space().place(&x),
            log_jacobian,
            truth: None,
            model: Modelled::Trained(run, classes),
        })
    }

    /// The estimators for some rows, the one that may stand for the truth first.
    fn estimators(&self, rows: &Rows) -> Vec<Estimator> {
        let (trained, head) = match &rows.model {
            Modelled::Exact(_) => (false, true),
            Modelled::Trained(run, _) => (true, run.model.config().head.is_some()),
        };
        let mut tolerances = self.tolerances.clone();
        tolerances.retain(|&t| !trained || t >= FINEST_OF_NETWORKS);
        tolerances.sort_by(f64::total_cmp);
        let of_probes = tolerances.iter().copied().find(|&t| t >= 1e-5).unwrap_or(1e-5);
        let mut all = Vec::new();
        let divergence = Divergence::Auto.resolve(rows.x.size()[1]);
        if divergence == Divergence::Exact {
            all.extend(
                tolerances.iter().map(|&tolerance| Estimator::Flow { divergence, tolerance }),
            );
        }
        let mut probes = self.probes.clone();
        probes.sort_by(|a, b| b.cmp(a));
        let flow = |divergence| Estimator::Flow { divergence, tolerance: of_probes };
        all.extend(probes.iter().map(|&probes| flow(Divergence::Rademacher { probes })));
        all.extend(probes.iter().map(|&probes| flow(Divergence::Gaussian { probes })));
        all.extend(self.draws.iter().map(|&draws| Estimator::Bound { draws }));
        all.extend(self.draws.iter().map(|&draws| Estimator::BoundSm { draws }));
        let usable = |c: &CovarianceConfig| head || *c != CovarianceConfig::Own;
        for covariance in CovarianceConfig::free().into_iter().filter(usable) {
            all.extend(self.steps.iter().map(|&steps| Estimator::Elbo { covariance, steps }));
        }
        all
    }

    fn score(&self, rows: &Rows, tasks: &mut Tasks, all: &mut Vec<Measured>) -> Result<()> {
        let (n, seed) = (rows.x.size()[0] as f64, Seed(self.seed).derive("draws"));
        let estimators = self.estimators(rows);
        let mut truth = rows.truth.clone();
        for (done, &estimator) in estimators.iter().enumerate() {
            let what = format!("{}, {}: {}", rows.data, rows.schedule, estimator.family());
            tasks.part(&what, done as f64 / estimators.len() as f64);
            let begun = Instant::now();
            let (model, classes): (&dyn Denoiser, _) = match &rows.model {
                Modelled::Exact(oracle) => (*oracle, None),
                Modelled::Trained(run, classes) => (&run.model, classes.as_deref()),
            };
            let batch = Batch::of(&rows.x).given(classes.map(Condition::classes));
            let mut estimate = estimator.score(model, &batch, seed, self.batch)?;
            let seconds = begun.elapsed().as_secs_f64() / n;
            estimate.shift(&rows.log_jacobian);
            let Estimate { values, claim, estimator: name, evaluations, flags, .. } = estimate;
            let truth = truth.get_or_insert_with(|| values.clone()).clone();
            let (data, dim, flagged) = (rows.data.clone(), rows.x.size()[1], flags.len());
            let schedule = rows.schedule;
            all.push(Measured {
                data,
                dim,
                schedule,
                estimator,
                name,
                claim,
                values,
                truth,
                flagged,
                evaluations,
                seconds,
            });
        }
        tasks.end(&format!("{}, {}", rows.data, rows.schedule));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
