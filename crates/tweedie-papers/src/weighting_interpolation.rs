//! Likelihood against sample quality: one small network under weightings `(g²/σ²)^p` between σ²
//! (`p = 0`) and likelihood weighting (`p = 1`); ScoreFlow, §7 and Table 2.

mod report;

use tch::{Device, Kind, Tensor};

use super::runs::Tasks;
use super::weighting::{Recipe, Source};
use tweedie::grid::TimeLaw;
use tweedie::likelihood::{
    Divergence, Estimate, LogLikelihood, ProbabilityFlow, ScoreMatchingBound, mean_and_error,
};
use tweedie::metric::Mmd;
use tweedie::model::Denoiser;
use tweedie::noise::Seed;
use tweedie::objective::{DenoisingScoreMatching, Weighting};
use tweedie::query::Batch;
use tweedie::sample::{FlowSampler, sample_in_batches};
use tweedie::schedule::ScheduleConfig;
use tweedie::{Error, Result};

/// The experiment's settings.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightingInterpolation {
    /// A table; by default rows of a mixture in ten dimensions.
    pub data: Option<String>,
    /// The exponents `p`, from 0 to 1.
    pub powers: Vec<f64>,
    /// Trainings for each `p`, each with a seed of its own, the same for all `p`.
    pub trials: usize,
    /// How networks are trained.
    pub recipe: Recipe,
    /// At most so many test rows.
    pub rows: usize,
    /// Samples of every network.
    pub samples: usize,
    /// Where to compute.
    pub device: Device,
    /// The seed of everything random.
    pub seed: u64,
}

impl Default for WeightingInterpolation {
    fn default() -> Self {
        WeightingInterpolation {
            data: None,
            powers: vec![0.0, 0.25, 0.5, 0.75, 1.0],
            trials: 3,
            recipe: Recipe::default(),
            rows: 1000,
            samples: 5000,
            device: Device::Cpu,
            seed: 0,
        }
    }
}

/// One training, judged.
#[derive(Clone, Debug)]
pub struct Point {
    /// `p`.
    pub power: f64,
    /// Which of the trainings.
    pub trial: usize,
    /// `−ln p` by the ODE, nats per row in the data's units, mean over test rows that were solved.
    pub nll: f64,
    /// `−ln p`'s upper bound by ScoreFlow's bound.
    pub bound: f64,
    /// Unbiased MMD² of samples against the law, or against test rows.
    pub mmd: f64,
    /// Rows whose ODE likelihood is flagged, and left out.
    pub flagged: usize,
}

/// What the experiment found; [`Report::write`] makes files of it.
#[derive(Clone, Debug)]
pub struct Report {
    /// The settings.
    pub experiment: WeightingInterpolation,
    /// Every training.
    pub points: Vec<Point>,
    /// `−ln p` of the test rows under the law, where it is known.
    pub truth: Option<f64>,
    rows: String,
    seconds: f64,
}

/// Pairs (t, ε) per test row.
const BOUND_DRAWS: usize = 200;
/// Rows at a time.
const BATCH: usize = 2048;

impl WeightingInterpolation {
    /// The same at sizes that show only that it runs.
    pub fn quick(self) -> WeightingInterpolation {
        let iterations = self.recipe.iterations.min(300);
        WeightingInterpolation {
            powers: vec![0.0, 0.5, 1.0],
            trials: self.trials.min(2),
            recipe: Recipe { iterations, width: 32, depth: 1, batch: 128, ..self.recipe },
            rows: self.rows.min(50),
            samples: self.samples.min(300),
            ..self
        }
    }

    /// Trains and judges everything. `progress` gets a line and the fraction done.
    pub fn run(&self, progress: &mut dyn FnMut(&str, f64)) -> Result<Report> {
        let begun = std::time::Instant::now();
        self.check()?;
        let seed = Seed(self.seed).derive("weighting-interpolation");
        let source = Source::open(self.data.as_deref(), seed)?;
        let (test, log_jacobian) = source.test_rows(self.rows, seed)?;
        let truth = source.truth(&test).map(|values| -mean_and_error(&values).0);
        let process = ScheduleConfig::default().build()?;
        let mut tasks = Tasks::new(self.powers.len() * self.trials, progress);
        let mut points = Vec::new();
        for &power in &self.powers {
            for trial in 0..self.trials {
                let what = format!("p = {power}, training {}", trial + 1);
                let seed = seed.derive(&format!("trial {trial}"));
                // one law of t for all: its weights on the squared error are then bounded for every
                // p
                let (weighting, time) = (Weighting::Interpolated(power), TimeLaw::LogSnr);
                let objective = DenoisingScoreMatching { weighting, time, draws: 1 };
                // losses of another scale must not be shortened otherwise
                let clip = f64::MAX.sqrt();
                let model = source.train(
                    &self.recipe,
                    clip,
                    &process,
                    &objective,
                    self.device,
                    seed,
                    &what,
                    &mut tasks,
                )?;
                points.push(self.judge(
                    &model,
                    &source,
                    &test,
                    &log_jacobian,
                    power,
                    trial,
                    seed,
                )?);
                tasks.end(&what);
            }
        }
        let seconds = begun.elapsed().as_secs_f64();
        Ok(Report { experiment: self.clone(), points, truth, rows: source.describe(), seconds })
    }

    fn check(&self) -> Result<()> {
        Error::check_count("--trials", self.trials, 1000)?;
        Error::check_count("--rows", self.rows, 1_000_000_000)?;
        Error::check_count("--samples", self.samples, 1_000_000_000)?;
        self.recipe.check()?;
        if self.powers.is_empty() {
            return Err(Error::config("--powers", "none", "give numbers from 0 to 1"));
        }
        self.powers.iter().try_for_each(|&power| Weighting::Interpolated(power).check())
    }

    fn judge(
        &self,
        model: &dyn Denoiser,
        source: &Source,
        test: &Tensor,
        log_jacobian: &[f64],
        power: f64,
        trial: usize,
        seed: Seed,
    ) -> Result<Point> {
        let rows = Batch::of(&model.space().place(test));
        let score = |estimator: &dyn LogLikelihood| -> Result<Estimate> {
            let mut estimate =
                estimator.in_batches(&rows, seed.derive("draws"), BATCH, &mut |_| Ok(()))?;
            estimate.shift(log_jacobian);
            Ok(estimate)
        };
        let flow =
            score(&ProbabilityFlow::new(model).divergence(Divergence::Auto)?.keep_unsolved(true))?;
        let bound = score(&ScoreMatchingBound::new(model, BOUND_DRAWS))?;
        let sampler = FlowSampler::new(model);
        let samples = sample_in_batches(self.samples, BATCH, |rows| {
            sampler.sample(seed.derive("samples"), rows, None)
        })?;
        let samples = samples.to_kind(Kind::Double).to_device(Device::Cpu);
        let mmd = match source {
            Source::Law { law, .. } => Mmd::default().against_mixture(&samples, law),
            Source::Table(_) => Mmd::default().u_statistic(&samples, test),
        };
        let believed = flow.believed();
        Ok(Point {
            power,
            trial,
            nll: -mean_and_error(&believed).0,
            bound: -bound.mean(),
            mmd,
            flagged: flow.values.len() - believed.len(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny() -> WeightingInterpolation {
        WeightingInterpolation {
            powers: vec![0.0, 1.0],
            trials: 2,
            recipe: Recipe { width: 8, depth: 1, iterations: 200, batch: 64, ..Recipe::default() },
            rows: 20,
            samples: 50,
            ..WeightingInterpolation::default()
        }
    }

    /// No network beats the law by more than chance on its rows, and a bound is below the ODE
    /// likelihood up to what the fit is off.
    #[test]
    fn everything_is_measured() {
        let report = tiny().run(&mut |_, _| ()).unwrap();
        let truth = report.truth.unwrap();
        assert_eq!(report.points.len(), 4);
        for p in &report.points {
            println!("{p:?}, {truth}");
            assert!(
                p.nll > truth - 0.5
                    && p.bound > truth - 0.5
                    && p.nll < truth + 20.0
                    && p.mmd.is_finite()
            );
        }
        // other weightings, other networks
        assert_ne!(report.points[0].nll, report.points[2].nll);
    }

    #[test]
    fn mistakes_are_refused() {
        let wrong = WeightingInterpolation { powers: vec![0.0, 2.0], ..tiny() };
        assert!(wrong.run(&mut |_, _| ()).unwrap_err().to_string().contains("0 (sigma2) to 1"));
    }
}
