//! Every covariance where `G` is known (Optimal Covariance Matching, §5.1 and Figure 3): the error
//! of `G` at each `t`, the bound and the samples of few steps, with the true score and with a
//! learned one.

mod judge;
mod report;

use tch::Tensor;

pub use crate::distributions::Distribution;
use crate::distributions::distributions;
use crate::experiment::{Context, Experiment, Progress, kinds, settings};
use crate::learner::{HeadObjective, Learner};
use crate::outcome::Outcome;
use crate::runs::Tasks;
pub use crate::training::Recipe;
use crate::training::{TRAINING_ROWS, Training};
use judge::Judge;
use tweedie::covariance::{Covariance, CovarianceConfig, CovarianceSources, NoiseStatistics};
use tweedie::model::{Denoiser, Headed, Model};
use tweedie::noise::Seed;
use tweedie::oracle::Oracle;
use tweedie::query::Batch;
use tweedie::schedule::ScheduleConfig;
use tweedie::{Error, Result};

settings! {
    /// The experiment's settings.
    pub struct CovarianceToy {
        /// The distributions whose covariances are learned.
        #[serde(deserialize_with = "distributions")]
        pub distributions: Vec<Distribution> = Distribution::ALL.to_vec(),
        /// Trainings of every network, each with weights, batches and test rows of its own.
        pub trials: usize = 5,
        /// How networks are trained.
        pub recipe: Recipe = Recipe::default(),
        /// Steps of Adam for a learned score.
        pub score_iterations: u64 = 4000,
        /// Times at which `G` is compared.
        pub times: Vec<f64> = vec![0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9],
        /// Test rows of each trial.
        pub rows: usize = 400,
        /// Samples of each trial.
        pub samples: usize = 500,
        /// Numbers of steps `K` of bounds and samplers.
        pub steps: Vec<usize> = vec![5, 10, 20, 50],
        /// The seed of everything random.
        pub seed: u64 = 0,
    }
}

/// Flags: the sizes that this experiment and [`crate::rademacher`] have in common.
pub(crate) const SIZES: &str = include_str!("covariance_toy/flags.txt");

impl Experiment for CovarianceToy {
    const NAME: &'static str = "covariance-toy";
    const TEXT: &'static str = include_str!("covariance_toy.md");
    const SHARED_FLAGS: &'static [&'static str] = &[SIZES];

    fn quick(self) -> Self {
        let small = |one: &Distribution| *one != Distribution::Mixture64;
        CovarianceToy {
            distributions: self.distributions.into_iter().filter(small).collect(),
            trials: self.trials.min(2),
            recipe: Recipe { width: 32, depth: 1, iterations: 100, ..self.recipe },
            score_iterations: 200,
            times: vec![0.02, 0.1, 0.4],
            rows: self.rows.min(50),
            samples: self.samples.min(100),
            steps: vec![5, 10],
            ..self
        }
    }

    fn run(&self, context: &mut Context) -> Result<Outcome> {
        Ok(self.measure(context.progress)?.outcome())
    }
}

kinds! {
    /// What all arms share.
    pub enum Score {
        /// The distribution's own.
        True = "true",
        /// One trained by score matching, for each trial.
        Learned = "learned",
    }
}

kinds! {
    /// A number of an arm.
    pub enum Quantity {
        /// Relative error of the diagonal of `G` at `t`.
        Diagonal = "diagonal-error",
        /// Relative error of `G` at `t`, in Frobenius norm.
        Whole = "error",
        /// `ln p` less the bound of `K` steps, nats per row.
        Gap = "elbo-gap",
        /// MMD² of samples by `K` steps at `η = 1`.
        Ddpm = "mmd2-ddpm",
        /// The same at `η = 0`.
        Ddim = "mmd2-ddim",
    }
}

/// What was measured of an arm at one time, or with one number of steps.
#[derive(Clone, Debug)]
pub struct Measured {
    /// The distribution of the data.
    pub distribution: Distribution,
    /// The score on which the covariance was measured.
    pub score: Score,
    /// The covariance's name.
    pub arm: String,
    /// The measured quantity.
    pub quantity: Quantity,
    /// The time `t`, or the number of steps `K`.
    pub at: f64,
    /// One value for each trial.
    pub values: Vec<f64>,
}

/// What is known of a distribution without any training.
#[derive(Clone, Debug)]
pub struct Truth {
    /// The distribution of the data.
    pub distribution: Distribution,
    /// Its entropy on the test rows: the mean of `−ln p`, nats, and its standard error over trials.
    pub entropy: (f64, f64),
    /// The part of the exact variances `G_ii` that are above 1, at each `t`.
    pub above_one: Vec<f64>,
    /// The part of `E‖G‖²` that is off the diagonal, at each `t`.
    pub off_diagonal: Vec<f64>,
    /// `ln p` less the bound with the exact moments, nats per row, of each `K`, trial by trial.
    pub exact_gaps: Vec<Vec<f64>>,
    /// MMD² of the distribution's own samples, of each trial.
    pub own_distance: Vec<f64>,
}

/// What the experiment found.
#[derive(Clone, Debug)]
pub struct Report {
    /// The settings that it was measured with.
    pub experiment: CovarianceToy,
    /// What is known of each distribution.
    pub truths: Vec<Truth>,
    /// Every measurement, by distribution, score, covariance and quantity.
    pub measured: Vec<Measured>,
}

/// A covariance on the common score.
struct Arm {
    name: String,
    covariance: CovarianceConfig,
    /// Its head's network.
    head: Option<Model>,
}

impl Arm {
    fn fixed(name: &str, covariance: CovarianceConfig) -> Arm {
        Arm { name: name.into(), covariance, head: None }
    }

    fn on<'a>(&'a self, score: &'a dyn Denoiser) -> Headed<'a> {
        Headed { score, head: self.head.as_ref().map(|head| head as &dyn Denoiser) }
    }

    /// Its covariance, with what was measured of the score's noise.
    fn covariance(&self, statistics: &NoiseStatistics) -> Result<Box<dyn Covariance>> {
        let of_head = self.head.as_ref().and_then(Model::head_covariance);
        self.covariance.build(&CovarianceSources {
            statistics: Some(statistics),
            interpolates: of_head == Some(CovarianceConfig::Interpolated),
            ..CovarianceSources::default()
        })
    }
}

/// Products of a Rademacher diagonal.
const PROBES: usize = 4;
/// Times and rows of Analytic-DPM's statistics.
const STATISTICS: (usize, usize) = (100, 2000);

/// The heads that are learned for rows of `dim` numbers.
fn learners(dim: i64) -> Vec<Learner> {
    let mut all = vec![Learner::diagonal(HeadObjective::Lm), Learner::diagonal(HeadObjective::Ocm)];
    all.extend(
        [HeadObjective::Npr, HeadObjective::Sn, HeadObjective::Iddpm].map(Learner::diagonal),
    );
    for rank in [2, 4].into_iter().filter(|rank| *rank <= dim) {
        all.extend([HeadObjective::Lm, HeadObjective::Ocm].map(|by| Learner { by, rank }));
    }
    all
}

impl CovarianceToy {
    /// Trains and judges everything.
    ///
    /// # Errors
    /// If a setting cannot be, or a training fails.
    pub fn measure(&self, progress: Progress) -> Result<Report> {
        self.check()?;
        let per_score = |one: &Distribution| learners(one.mixture().dim()).len() + 1;
        let total = self.distributions.iter().map(|one| 1 + 2 * per_score(one)).sum();
        let mut tasks = Tasks::new(total, progress);
        let (mut truths, mut measured) = (Vec::new(), Vec::new());
        for &distribution in &self.distributions {
            let schedule = ScheduleConfig::default().build()?;
            let oracle = Oracle::new(distribution.mixture(), schedule.clone());
            let seed = Seed(self.seed).derive(distribution.name());
            let rows = oracle.mixture.sample(TRAINING_ROWS, seed.derive("training rows"));
            let training = Training {
                recipe: &self.recipe,
                score_iterations: self.score_iterations,
                trials: self.trials,
                rows: &rows,
                schedule,
                seed,
            };
            let judge = Judge::new(self, distribution, &oracle, seed);
            truths.push(judge.truth()?);
            for score in Score::ALL {
                let what = format!("{}, {} score", distribution.name(), score.name());
                let learned = match score {
                    Score::True => None,
                    Score::Learned => Some(training.score(&what, &mut tasks)?),
                };
                let model: &dyn Denoiser = learned.as_ref().map_or(&oracle, |model| model);
                let arms = self.arms(score, model, &training, &what, &mut tasks)?;
                let statistics = self.statistics(model, &rows, seed)?;
                measured.extend(judge.measure(score, model, &arms, &statistics)?);
                tasks.end(&format!("{what}, judged"));
            }
        }
        Ok(Report { experiment: self.clone(), truths, measured })
    }

    fn check(&self) -> Result<()> {
        self.recipe.check(self.trials)?;
        Error::check_count("experiment.score_iterations", self.score_iterations, 1_000_000_000)?;
        Error::check_count("experiment.rows", self.rows, 1_000_000)?;
        Error::check_count("experiment.samples", self.samples, 1_000_000)?;
        self.steps
            .iter()
            .try_for_each(|&steps| Error::check_count("experiment.steps", steps, 100_000))
    }

    /// Analytic-DPM's, over all trials: a score of each has its share of the rows.
    fn statistics(
        &self,
        score: &dyn Denoiser,
        rows: &Tensor,
        seed: Seed,
    ) -> Result<NoiseStatistics> {
        let (times, of_trial) = (STATISTICS.0, (STATISTICS.1 / self.trials).max(2));
        let count = of_trial * self.trials;
        let rows = rows.narrow(0, 0, count as i64);
        NoiseStatistics::measure(score, &Batch::of(&rows), times, count, seed.derive("statistics"))
    }

    fn arms(
        &self,
        score: Score,
        model: &dyn Denoiser,
        training: &Training,
        what: &str,
        tasks: &mut Tasks,
    ) -> Result<Vec<Arm>> {
        let mut arms = Vec::new();
        for learner in learners(model.space().dim) {
            let network =
                training.head(learner, model, &format!("{what}: {}", learner.label()), tasks)?;
            let (name, covariance) = (learner.label(), learner.covariance());
            arms.push(Arm { name, covariance, head: Some(network) });
        }
        arms.push(Arm::fixed("Analytic-DPM", CovarianceConfig::Analytic));
        arms.push(Arm::fixed(OF_SCORE, CovarianceConfig::AnalyticScore));
        arms.push(Arm::fixed(
            &format!("Rademacher-{PROBES}"),
            CovarianceConfig::Rademacher(PROBES),
        ));
        arms.push(Arm::fixed("β̃ (G = 0)", CovarianceConfig::BetaTilde));
        arms.push(Arm::fixed("β", CovarianceConfig::Beta));
        arms.push(Arm::fixed("H = 0 (G = I)", CovarianceConfig::ZeroHessian));
        arms.push(match score {
            Score::True => Arm::fixed(EXACT, CovarianceConfig::Own),
            Score::Learned => Arm::fixed(JACOBIAN, CovarianceConfig::Full),
        });
        Ok(arms)
    }
}

/// Analytic-DPM from the norm of the score, as its authors have it.
const OF_SCORE: &str = "Analytic-DPM, of the score";
/// The oracle's own `G`.
const EXACT: &str = "exact G";
/// That of a learned score's Jacobian, all of it.
const JACOBIAN: &str = "the score's Jacobian";

#[cfg(test)]
mod tests;
