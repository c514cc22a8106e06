//! The diagonal of `G` by random signs (Optimal Covariance Matching, Figure 1 and Table 1): its
//! error against the number of products, beside that of a learned head, and what both cost.

mod report;

use std::time::Instant;

use tch::{Device, Kind, Tensor, no_grad};

use crate::covariance_toy::SIZES;
pub use crate::distributions::Distribution;
use crate::distributions::distributions;
use crate::experiment::{Context, Experiment, Progress, check_rising, settings};
use crate::learner::{HeadObjective, Learner};
use crate::outcome::Outcome;
use crate::runs::Tasks;
pub use crate::training::Recipe;
use crate::training::{TRAINING_ROWS, Training};
use crate::trials::{gaps, noised, relative_errors};
use tweedie::covariance::{self, Covariance, Diagonal, Own, Reverse, jacobian};
use tweedie::model::{Denoiser, Headed, Model};
use tweedie::noise::{Noise, Seed};
use tweedie::oracle::Oracle;
use tweedie::query::{Query, Times};
use tweedie::schedule::ScheduleConfig;
use tweedie::tensor::{squared_norm, sum_over};
use tweedie::{Error, Result};

settings! {
    /// The experiment's settings.
    pub struct Rademacher {
        /// The distributions, whose true score is differentiated.
        #[serde(deserialize_with = "distributions")]
        pub distributions: Vec<Distribution> = Distribution::ALL.to_vec(),
        /// Numbers of products `M`, rising.
        pub probes: Vec<usize> = vec![1, 2, 4, 8, 16, 32, 64, 128],
        /// Times at which diagonals are compared.
        pub times: Vec<f64> = vec![0.05, 0.1, 0.2, 0.4],
        /// Trials: trainings of the head, each with test rows and signs of its own.
        pub trials: usize = 5,
        /// Test rows of each trial.
        pub rows: usize = 200,
        /// Steps `K` of the bound.
        pub steps: usize = 10,
        /// How the head is trained.
        pub recipe: Recipe = Recipe::default(),
        /// The seed of everything random.
        pub seed: u64 = 0,
    }
}

impl Experiment for Rademacher {
    const NAME: &'static str = "rademacher";
    const TEXT: &'static str = include_str!("rademacher.md");
    const SHARED_FLAGS: &'static [&'static str] = &[SIZES];

    fn quick(self) -> Self {
        let small = |one: &Distribution| *one != Distribution::Mixture64;
        Rademacher {
            distributions: self.distributions.into_iter().filter(small).collect(),
            probes: vec![1, 4, 16],
            times: vec![0.1, 0.4],
            trials: self.trials.min(2),
            rows: self.rows.min(50),
            steps: 3,
            recipe: Recipe { width: 32, depth: 1, iterations: 100, ..self.recipe },
            ..self
        }
    }

    fn run(&self, context: &mut Context) -> Result<Outcome> {
        Ok(self.measure(context.progress)?.outcome())
    }
}

/// Errors of the diagonal at one time, trial by trial.
#[derive(Clone, Debug)]
pub struct AtTime {
    /// `t`.
    pub t: f64,
    /// `√(E Σ_{i≠j} G_ij² / E Σ_i G_ii²)`: what the error of one product is on average over signs;
    /// of `M`, `1/√M` of it.
    pub predicted: f64,
    /// Of each `M`, as the estimator gives it.
    pub errors: Vec<Vec<f64>>,
    /// Of each `M`, limited to `[0, 1]` as samplers use it.
    pub limited: Vec<Vec<f64>>,
    /// Of the learned head.
    pub head: Vec<f64>,
}

/// What was found on one distribution.
#[derive(Clone, Debug)]
pub struct Found {
    /// The distribution of the data.
    pub distribution: Distribution,
    /// Errors, time by time.
    pub times: Vec<AtTime>,
    /// `ln p` less the bound of `K` steps, nats per row, of each `M`, trial by trial.
    pub gaps: Vec<Vec<f64>>,
    /// The same of the head.
    pub head_gap: Vec<f64>,
    /// And of the exact diagonal.
    pub exact_gap: Vec<f64>,
    /// Milliseconds per 1000 rows of a score network: alone, with the head, and with each `M`.
    pub milliseconds: (f64, f64, Vec<f64>),
}

/// What the experiment found.
#[derive(Clone, Debug)]
pub struct Report {
    /// The settings that it was measured with.
    pub experiment: Rademacher,
    /// Distribution by distribution.
    pub found: Vec<Found>,
}

/// Rows of a timing, and how often it is taken; the least counts.
const TIMED: (i64, usize) = (1000, 5);

impl Rademacher {
    /// Measures errors, bounds and cost on every distribution.
    ///
    /// # Errors
    /// If a setting cannot be, or a training fails.
    pub fn measure(&self, progress: Progress) -> Result<Report> {
        self.check()?;
        let total = self.distributions.len() * (2 + self.times.len());
        let mut tasks = Tasks::new(total, progress);
        let found = self.distributions.iter().map(|&one| self.on(one, &mut tasks));
        Ok(Report { experiment: self.clone(), found: found.collect::<Result<_>>()? })
    }

    fn check(&self) -> Result<()> {
        self.recipe.check(self.trials)?;
        Error::check_count("experiment.rows", self.rows, 1_000_000)?;
        Error::check_count("experiment.steps", self.steps, 100_000)?;
        let remedy = "give rising numbers from 1";
        check_rising("experiment.probes", &self.probes, (1, 1), remedy)?;
        self.probes.iter().try_for_each(|&m| Error::check_count("experiment.probes", m, 100_000))
    }

    fn on(&self, distribution: Distribution, tasks: &mut Tasks) -> Result<Found> {
        let (name, schedule) = (distribution.name(), ScheduleConfig::default().build()?);
        let oracle = Oracle::new(distribution.mixture(), schedule.clone());
        let seed = Seed(self.seed).derive("rademacher").derive(name);
        let rows = oracle.mixture.sample(TRAINING_ROWS, seed.derive("training rows"));
        let training = Training {
            recipe: &self.recipe,
            score_iterations: 1,
            trials: self.trials,
            rows: &rows,
            schedule,
            seed,
        };
        let learner = Learner::diagonal(HeadObjective::Ocm);
        let head = training.head(learner, &oracle, &format!("{name}, training the head"), tasks)?;
        let headed = |score| Headed { score, head: Some(&head) };
        let x0 = oracle.mixture.sample(self.trials * self.rows, seed.derive("test rows"));
        let mut times = Vec::new();
        for &t in &self.times {
            times.push(self.at_time(&oracle, &headed(&oracle), &x0, t, seed));
            tasks.end(&format!("{name}, t = {t}"));
        }
        let gap = |model: &dyn Denoiser, covariance: &dyn Covariance| {
            let seed = seed.derive("bounds");
            gaps(model, covariance, &oracle.mixture, &x0, self.steps, self.trials, seed)
        };
        let of_probes = |&m: &usize| gap(&oracle, &covariance::Rademacher::new(m)?);
        let found = Found {
            distribution,
            times,
            gaps: self.probes.iter().map(of_probes).collect::<Result<_>>()?,
            head_gap: gap(&headed(&oracle), &Own)?,
            exact_gap: gap(&oracle, &Diagonal)?,
            milliseconds: self.cost(&oracle, &training, learner, tasks)?,
        };
        tasks.end(&format!("{name}, bounds and cost"));
        Ok(found)
    }

    fn at_time(&self, oracle: &Oracle, headed: &Headed, x0: &Tensor, t: f64, seed: Seed) -> AtTime {
        let seed = seed.derive(&format!("t = {t}"));
        let x = noised(x0, oracle.space().schedule(), t, seed);
        let at = Times::All(t);
        let q = Query::new(&x, &at);
        let g = oracle.moments(&q).cov;
        let (exact, all) =
            (g.diagonal(), g.to_dense().square().sum(Kind::Double).double_value(&[]));
        let of_diagonal = squared_norm(&exact).sum(Kind::Double).double_value(&[]);
        let against = |found: &Tensor| relative_errors(found, &exact, self.trials);
        let found = diagonals(oracle, &q, &self.probes, seed.derive("signs"));
        AtTime {
            t,
            predicted: (all / of_diagonal - 1.0).max(0.0).sqrt(),
            errors: found.iter().map(against).collect(),
            limited: found.iter().map(|g| against(&g.clamp(0.0, 1.0))).collect(),
            head: against(&no_grad(|| headed.moments(&q).cov.diagonal())),
        }
    }

    /// Milliseconds per 1000 rows of a score network of the recipe's size: alone, with a head's
    /// network beside it, and with each number of products.
    fn cost(
        &self,
        oracle: &Oracle,
        training: &Training,
        learner: Learner,
        tasks: &mut Tasks,
    ) -> Result<(f64, f64, Vec<f64>)> {
        // of one trial, and as it starts: a network's time is not its weights'
        let recipe = Recipe { iterations: 1, ..self.recipe.clone() };
        let start = Training {
            recipe: &recipe,
            trials: 1,
            schedule: training.schedule.clone(),
            ..*training
        };
        let mut silent = |_: &str, _: f64| ();
        let mut unheard = Tasks::new(2, &mut silent);
        let score = start.score("", &mut unheard)?;
        let head: Model = start.head(learner, &score, "", &mut unheard)?;
        let both = Headed { score: &score, head: Some(&head) };
        let x = oracle.mixture.sample(TIMED.0 as usize, training.seed).to_kind(Kind::Float);
        let at = Times::All(0.2);
        let q = Query::new(&x, &at);
        let least = |work: &dyn Fn()| {
            let once = || {
                let begun = Instant::now();
                no_grad(work);
                begun.elapsed().as_secs_f64() * 1e3 * 1000.0 / TIMED.0 as f64
            };
            (0..TIMED.1).map(|_| once()).fold(f64::INFINITY, f64::min)
        };
        let with = |m: usize| -> Result<f64> {
            let covariance = covariance::Rademacher::new(m)?;
            let reverse = Reverse::new(&score, covariance, 1.0)?;
            Ok(least(&|| drop(reverse.moments(&q, &mut Noise::new(Seed(0), 0..TIMED.0 as u64)))))
        };
        tasks.part("cost", 0.0);
        Ok((
            least(&|| drop(score.noise(&q))),
            least(&|| drop(both.moments(&q))),
            self.probes.iter().map(|&m| with(m)).collect::<Result<_>>()?,
        ))
    }
}

/// The mean of `v ⊙ Gv` over the first `M` of each row's own random signs `v`, for each `M` of
/// `probes`, `[b, d]` each.
fn diagonals(model: &dyn Denoiser, q: &Query, probes: &[usize], seed: Seed) -> Vec<Tensor> {
    let x = q.x;
    let (rows, d) = x.size2().expect("rows");
    let mut noise = Noise::new(seed, 0..rows as u64);
    let mut sum = x.zeros_like();
    let mut done = 0;
    probes
        .iter()
        .map(|&m| {
            let more = (m - done) as i64;
            let signs =
                noise.rademacher((more * d) as usize, x.kind(), Device::Cpu).view([rows, more, d]);
            let (_, products) = jacobian::products(model, q, &signs.transpose(0, 1));
            sum = &sum + sum_over(&(products * signs), 1);
            done = m;
            &sum / m as f64
        })
        .collect()
}

#[cfg(test)]
mod tests;
