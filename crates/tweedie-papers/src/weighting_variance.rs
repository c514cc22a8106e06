//! ScoreFlow, Figure 2: how noisy the loss is while training, with likelihood weighting with and
//! without importance sampling of `t`, and with σ² weighting.

mod report;

use std::cell::RefCell;

use tch::{Device, Tensor};

use super::runs::Tasks;
use super::weighting::{Recipe, Source};
use tweedie::grid::TimeLaw;
use tweedie::likelihood::{LogLikelihood, ScoreMatchingBound, mean_and_error};
use tweedie::model::Denoiser;
use tweedie::noise::{Draw, Noise, Seed};
use tweedie::objective::{DenoisingScoreMatching, Objective, Trains, Weighting};
use tweedie::query::Batch;
use tweedie::schedule::ScheduleConfig;
use tweedie::tensor::to_vec;
use tweedie::{Error, Result};

/// The experiment's settings.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightingVariance {
    /// A table; by default rows of a mixture in ten dimensions.
    pub data: Option<String>,
    /// Trainings of every arm, each with a seed of its own.
    pub trials: usize,
    /// How networks are trained.
    pub recipe: Recipe,
    /// At most so many test rows for the bound.
    pub rows: usize,
    /// Where to compute.
    pub device: Device,
    /// The seed of everything random.
    pub seed: u64,
}

impl Default for WeightingVariance {
    fn default() -> Self {
        WeightingVariance {
            data: None,
            trials: 3,
            recipe: Recipe::default(),
            rows: 1000,
            device: Device::Cpu,
            seed: 0,
        }
    }
}

/// A weighting and a law of `t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arm {
    /// `λ = g²`, `t` uniform.
    Likelihood,
    /// `λ = g²`, `t` with density ∝ `g²/σ²`.
    LikelihoodImportance,
    /// `λ = σ²`, `t` uniform.
    Sigma2,
}

impl Arm {
    /// All.
    pub const ALL: [Arm; 3] = [Arm::Likelihood, Arm::LikelihoodImportance, Arm::Sigma2];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Arm::Likelihood => "likelihood weighting, uniform t",
            Arm::LikelihoodImportance => "likelihood weighting, importance sampling",
            Arm::Sigma2 => "σ² weighting, uniform t",
        }
    }

    fn objective(self) -> DenoisingScoreMatching {
        let (weighting, time) = match self {
            Arm::Likelihood => (Weighting::Likelihood, TimeLaw::Uniform),
            Arm::LikelihoodImportance => (Weighting::Likelihood, TimeLaw::LogSnr),
            Arm::Sigma2 => (Weighting::Sigma2, TimeLaw::Uniform),
        };
        DenoisingScoreMatching { weighting, time, draws: 1 }
    }
}

/// One training.
#[derive(Clone, Debug)]
pub struct Curve {
    /// The process.
    pub schedule: &'static str,
    /// What was minimised.
    pub arm: Arm,
    /// Which of the trainings.
    pub trial: usize,
    /// The loss of every step, in order.
    pub losses: Vec<f64>,
    /// ScoreFlow's bound on the test rows after training, nats per row in the data's units: mean
    /// and standard error.
    pub bound: (f64, f64),
}

impl Curve {
    fn last_half(&self) -> &[f64] {
        &self.losses[self.losses.len() / 2..]
    }

    /// The variance of a step's loss over the last half of the training, from differences of
    /// neighbouring steps, so that the fall of the curve does not count.
    pub fn variance(&self) -> f64 {
        let half = self.last_half();
        half.windows(2).map(|pair| 0.5 * (pair[1] - pair[0]).powi(2)).sum::<f64>()
            / (half.len() - 1) as f64
    }

    /// The mean loss over the last half.
    pub fn mean(&self) -> f64 {
        mean_and_error(self.last_half()).0
    }
}

/// What the experiment found; [`Report::write`] makes files of it.
#[derive(Clone, Debug)]
pub struct Report {
    /// The settings.
    pub experiment: WeightingVariance,
    /// Every training.
    pub curves: Vec<Curve>,
    rows: String,
    seconds: f64,
}

/// An objective that keeps the mean loss of every batch.
struct Recorded {
    objective: DenoisingScoreMatching,
    losses: RefCell<Vec<Tensor>>,
}

impl Objective for Recorded {
    fn loss(&self, model: &dyn Denoiser, batch: &Batch, noise: &mut Noise) -> Tensor {
        let loss = self.objective.loss(model, batch, noise);
        self.losses.borrow_mut().push(loss.detach().mean(None));
        loss
    }

    fn draws(&self) -> usize {
        self.objective.draws()
    }

    fn noise(&self, dim: usize) -> Vec<Draw> {
        self.objective.noise(dim)
    }

    fn trains(&self) -> Trains {
        self.objective.trains()
    }
}

/// Pairs (t, ε) per test row.
const BOUND_DRAWS: usize = 100;

/// The processes.
fn processes() -> [ScheduleConfig; 2] {
    [ScheduleConfig::default(), ScheduleConfig::sub_vp()]
}

impl WeightingVariance {
    /// The same at sizes that show only that it runs.
    pub fn quick(self) -> WeightingVariance {
        let iterations = self.recipe.iterations.min(500);
        WeightingVariance {
            trials: self.trials.min(2),
            recipe: Recipe { iterations, width: 32, depth: 1, batch: 128, ..self.recipe },
            rows: self.rows.min(100),
            ..self
        }
    }

    /// Trains every arm on both processes. `progress` gets a line and the fraction done.
    pub fn run(&self, progress: &mut dyn FnMut(&str, f64)) -> Result<Report> {
        let begun = std::time::Instant::now();
        Error::check_count("--trials", self.trials, 1000)?;
        Error::check_count("--rows", self.rows, 1_000_000_000)?;
        self.recipe.check()?;
        if self.recipe.iterations < 8 {
            let problem = format!("{}", self.recipe.iterations);
            return Err(Error::config("--iterations", problem, "a variance needs 8 steps or more"));
        }
        let seed = Seed(self.seed).derive("weighting-variance");
        let source = Source::open(self.data.as_deref(), seed)?;
        let (test, log_jacobian) = source.test_rows(self.rows, seed)?;
        let mut tasks = Tasks::new(processes().len() * Arm::ALL.len() * self.trials, progress);
        let mut curves = Vec::new();
        for config in processes() {
            let (schedule, process) = (config.name(), config.build()?);
            for arm in Arm::ALL {
                for trial in 0..self.trials {
                    let what = format!("{schedule}, {}, training {}", arm.name(), trial + 1);
                    let seed = seed.derive(&format!("trial {trial}"));
                    let recorded =
                        Recorded { objective: arm.objective(), losses: RefCell::default() };
                    let (recipe, clip) = (&self.recipe, 1.0);
                    let model = source.train(
                        recipe,
                        clip,
                        &process,
                        &recorded,
                        self.device,
                        seed,
                        &what,
                        &mut tasks,
                    )?;
                    let batch = Batch::of(&model.space().place(&test));
                    let mut estimate = ScoreMatchingBound::new(&model, BOUND_DRAWS)
                        .log_likelihood(&batch, seed, 0)?;
                    estimate.shift(&log_jacobian);
                    let losses = to_vec(&Tensor::stack(&recorded.losses.take(), 0));
                    curves.push(Curve {
                        schedule,
                        arm,
                        trial,
                        losses,
                        bound: mean_and_error(&estimate.values),
                    });
                    tasks.end(&what);
                }
            }
        }
        let seconds = begun.elapsed().as_secs_f64();
        Ok(Report { experiment: self.clone(), curves, rows: source.describe(), seconds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(losses: Vec<f64>) -> Curve {
        Curve { schedule: "VP", arm: Arm::Sigma2, trial: 0, losses, bound: (0.0, 0.0) }
    }

    /// Of a straight line with ±1 added in turn: the differences are ±2 and the slope, so ½(2² +
    /// slope²).
    #[test]
    fn the_fall_of_the_curve_does_not_count() {
        let slope = 1e-3;
        let losses = (0..4001)
            .map(|i| 10.0 - slope * i as f64 + if i % 2 == 0 { 1.0 } else { -1.0 })
            .collect();
        let found = curve(losses).variance();
        assert!((found - 0.5 * (4.0 + slope * slope)).abs() < 1e-9, "{found}");
    }

    /// Importance sampling makes the loss of the likelihood weighting quieter on both processes,
    /// and leaves its mean where it is; the same seed gives the same numbers.
    #[test]
    fn importance_sampling_is_quieter() {
        let tiny = WeightingVariance {
            trials: 1,
            recipe: Recipe { width: 8, depth: 1, iterations: 400, batch: 64, ..Recipe::default() },
            rows: 20,
            ..WeightingVariance::default()
        };
        let report = tiny.run(&mut |_, _| ()).unwrap();
        assert_eq!(report.curves.len(), 6);
        for schedule in ["VP", "subVP"] {
            let of = |arm| {
                report.curves.iter().find(|c| c.schedule == schedule && c.arm == arm).unwrap()
            };
            let (uniform, importance) = (of(Arm::Likelihood), of(Arm::LikelihoodImportance));
            println!("{schedule}: {:.3e} {:.3e}", uniform.variance(), importance.variance());
            assert!(importance.variance() < 0.5 * uniform.variance());
            // two standard deviations of the noisier mean, of 200 steps
            let error = 4.0 * (uniform.variance() / 200.0).sqrt();
            assert!((uniform.mean() - importance.mean()).abs() < error + 0.1 * importance.mean());
        }
        let again = tiny.run(&mut |_, _| ()).unwrap();
        assert!(report.curves.iter().zip(&again.curves).all(|(a, b)| a.losses == b.losses));
    }
}
