//! ScoreFlow, Figure 2: how noisy the loss is while training, with likelihood weighting with and
//! without importance sampling of `t`, and with σ² weighting.

use std::cell::RefCell;

use tch::Tensor;

use crate::experiment::{Context, Experiment, settings};
use crate::layout::{Measured, chart, measured, table};
use crate::outcome::Outcome;
use crate::page::Page;
use crate::runs::Tasks;
use crate::weighting::{self, Recipe, Source, TRAINING, Training};
use tweedie::likelihood::{LogLikelihood, ScoreMatchingBound, mean_and_error};
use tweedie::model::Denoiser;
use tweedie::noise::{Draw, Noise, Seed};
use tweedie::objective::{DenoisingScoreMatching, Objective, Trains};
use tweedie::query::Batch;
use tweedie::schedule::ScheduleConfig;
use tweedie::tensor::to_vec;
use tweedie::{Error, Result};
use tweedie_report::plot::{Scale, Series, Style};
use tweedie_report::table::{Cell, Column, Digits, Table};

settings! {
    /// The experiment's settings.
    pub struct WeightingVariance {
        /// A table; by default rows of a mixture in ten dimensions.
        pub data: Option<String> = None,
        /// Trainings of every arm, each with a seed of its own.
        pub trials: usize = 3,
        /// How networks are trained.
        pub recipe: Recipe = weighting::recipe(),
        /// Test rows for the bound, at most.
        pub rows: usize = 1000,
        /// The seed of everything random.
        pub seed: u64 = 0,
    }
}

/// The trainings in the figure's order.
const ARMS: [Training; 3] = [Training::Likelihood, Training::Importance, Training::Sigma2];

/// The learning curve of one training.
#[derive(Clone, Debug)]
pub struct Curve {
    /// The name of the forward process.
    pub schedule: &'static str,
    /// The weighting and the distribution of times.
    pub arm: Training,
    /// The number of the training, from 0.
    pub trial: usize,
    /// The loss of every step, in order.
    pub losses: Vec<f64>,
    /// ScoreFlow's bound on the test rows after training, nats per row in the data's units: mean
    /// and standard error.
    pub bound: Measured,
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

    /// Step, loss and moving average (its start corrected) of at most [`POINTS`] steps.
    fn thinned(&self) -> Vec<(usize, f64, f64)> {
        let every = self.losses.len().div_ceil(POINTS).max(1);
        let (mut average, mut weight) = (0.0, 0.0);
        let mut points = Vec::new();
        for (i, &loss) in self.losses.iter().enumerate() {
            average = SMOOTH * average + (1.0 - SMOOTH) * loss;
            weight = SMOOTH * weight + (1.0 - SMOOTH);
            if (i + 1).is_multiple_of(every) {
                points.push((i + 1, loss, average / weight));
            }
        }
        points
    }
}

/// What the experiment found: every training.
#[derive(Clone, Debug)]
pub struct Report(Vec<Curve>);

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
/// Decay of the moving average over steps that smooths a learning curve.
const SMOOTH: f64 = 0.99;
/// How losses are shown.
const FOUR: Digits = Digits::Significant(4);
/// Points of a learning curve.
const POINTS: usize = 1000;

/// The forward processes of the figure: VP and subVP.
fn processes() -> [ScheduleConfig; 2] {
    [ScheduleConfig::default(), ScheduleConfig::sub_vp()]
}

impl Experiment for WeightingVariance {
    const NAME: &'static str = "weighting-variance";
    const TEXT: &'static str = include_str!("weighting_variance.md");
    const SHARED_FLAGS: &'static [&'static str] = &[TRAINING];

    fn quick(self) -> Self {
        WeightingVariance {
            trials: self.trials.min(2),
            recipe: weighting::quick(self.recipe, 500),
            rows: self.rows.min(100),
            ..self
        }
    }

    fn run(&self, context: &mut Context) -> Result<Outcome> {
        Error::check_count("experiment.trials", self.trials, 1000)?;
        Error::check_count("experiment.rows", self.rows, 1_000_000_000)?;
        self.recipe.check(1)?;
        if self.recipe.iterations < 8 {
            let problem = format!("{}", self.recipe.iterations);
            return Err(Error::config(
                "experiment.recipe.iterations",
                problem,
                "a variance needs 8 steps or more",
            ));
        }
        let seed = Seed(self.seed).derive(Self::NAME);
        let source = Source::open(self.data.as_deref(), seed)?;
        Ok(self.measure(&source, seed, context)?.outcome(source.page()))
    }
}

impl WeightingVariance {
    /// Trains every arm on both processes.
    fn measure(&self, source: &Source, seed: Seed, context: &mut Context) -> Result<Report> {
        let (test, log_jacobian) = source.test_rows(self.rows, seed)?;
        let total = processes().len() * ARMS.len() * self.trials;
        let mut tasks = Tasks::new(total, context.progress);
        let mut curves = Vec::new();
        for process in processes() {
            let schedule = process.name();
            for (arm, trial) in ARMS.into_iter().flat_map(|a| (0..self.trials).map(move |t| (a, t)))
            {
                let what = format!("{schedule}, {}, training {}", arm.describe(), trial + 1);
                let seed = seed.derive(&format!("trial {trial}"));
                let (weighting, time) = arm.weighting();
                let objective = DenoisingScoreMatching { weighting, time, draws: 1 };
                let recorded = Recorded { objective, losses: RefCell::default() };
                let (recipe, device) = (&self.recipe, context.device);
                let task = (what.as_str(), &mut tasks);
                let model = source.train(recipe, 1.0, &process, &recorded, device, seed, task)?;
                let batch = Batch::of(&model.space().place(&test));
                let bound = ScoreMatchingBound::new(&model, BOUND_DRAWS);
                let mut estimate = bound.log_likelihood(&batch, seed, 0)?;
                estimate.shift(&log_jacobian);
                let losses = to_vec(&Tensor::stack(&recorded.losses.take(), 0));
                let bound = mean_and_error(&estimate.values);
                curves.push(Curve { schedule, arm, trial, losses, bound });
                tasks.end(&what);
            }
        }
        Ok(Report(curves))
    }
}

impl Report {
    fn outcome(&self, page: Page) -> Outcome {
        let schedules = processes().map(|process| process.name());
        let file = |schedule: &str| format!("figure-2-{}.svg", schedule.to_lowercase());
        let parts = schedules.into_iter().map(|schedule| {
            let page = Page::new().with("schedule", schedule).with("file", file(schedule));
            page.table("arms", &self.arms(schedule))
        });
        let name = WeightingVariance::NAME;
        Outcome::new(name, self.table(), page.each("schedules", parts))
            .table(&format!("{name}-curves"), self.curves())
            .figures(schedules.map(|schedule| (file(schedule), self.figure(schedule))))
    }

    fn of<'a>(&'a self, schedule: &'a str, arm: Training) -> impl Iterator<Item = &'a Curve> {
        self.0.iter().filter(move |c| c.schedule == schedule && c.arm == arm)
    }

    fn table(&self) -> Table {
        table!(&self.0, |c| {
            "schedule" => c.schedule,
            "arm" => c.arm.describe(),
            "trial" => c.trial,
            "mean_loss" => Cell::number(c.mean(), FOUR),
            "loss_variance" => Cell::number(c.variance(), FOUR),
            Column::from("bound").error("bound_std_error") => measured(Some(c.bound), 3),
        })
    }

    fn curves(&self) -> Table {
        let each = self.0.iter().flat_map(|c| c.thinned().into_iter().map(move |p| (c, p)));
        table!(each, |(c, (step, loss, smooth))| {
            "schedule" => c.schedule,
            "arm" => c.arm.describe(),
            "trial" => c.trial,
            "step" => step,
            "loss" => Cell::number(loss, FOUR),
            "smoothed" => Cell::number(smooth, FOUR),
        })
    }

    /// What a page has about each arm on one process, over trainings.
    fn arms(&self, schedule: &str) -> Table {
        let over = |arm: Training, f: fn(&Curve) -> f64| {
            mean_and_error(&self.of(schedule, arm).map(f).collect::<Vec<_>>())
        };
        let number = |arm, f| measured(Some(over(arm, f)), FOUR);
        // of the same training's seed; σ² weighting has another loss, of another scale
        let ratio = |arm: Training| {
            let pairs = self.of(schedule, arm).zip(self.of(schedule, Training::Likelihood));
            let ratios: Vec<f64> = pairs.map(|(a, b)| a.variance() / b.variance()).collect();
            (arm != Training::Sigma2).then(|| mean_and_error(&ratios))
        };
        table!(ARMS, |arm| {
            "" => arm.describe(),
            "mean loss" => number(arm, Curve::mean),
            "variance" => number(arm, Curve::variance),
            "ratio" => measured(ratio(arm), FOUR),
            "relative variance" => number(arm, |c| c.variance() / c.mean().powi(2)),
            "bound, nats per row" => measured(Some(over(arm, |c| c.bound.0)), 3),
        })
    }

    /// Learning curves of the first training of every arm: the loss of steps, and its moving
    /// average.
    fn figure(&self, schedule: &str) -> String {
        let mut series = Vec::new();
        for (colour, arm) in ARMS.into_iter().enumerate() {
            let Some(curve) = self.of(schedule, arm).next() else { continue };
            let points = curve.thinned();
            let x: Vec<f64> = points.iter().map(|p| p.0 as f64).collect();
            let raw = Series::line("", x.clone(), points.iter().map(|p| p.1).collect());
            series.push(raw.style(Style::Faint).colour(colour));
            let smooth = Series::line(arm.describe(), x, points.iter().map(|p| p.2).collect());
            series.push(smooth.colour(colour));
        }
        let title = format!(
            "{schedule}: loss while training, and its moving average over steps ({SMOOTH})"
        );
        chart(title, ["steps", "loss of a step"], [Scale::Linear, Scale::Log], series)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(losses: Vec<f64>) -> Curve {
        Curve { schedule: "VP", arm: Training::Sigma2, trial: 0, losses, bound: (0.0, 0.0) }
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
        let recipe =
            Recipe { width: 8, depth: 1, iterations: 400, rows: 64, ..weighting::recipe() };
        let tiny = WeightingVariance { trials: 1, recipe, rows: 20, ..Default::default() };
        let seed = Seed(0).derive(WeightingVariance::NAME);
        let measure = || {
            let source = Source::open(None, seed).unwrap();
            Context::alone(|context| tiny.measure(&source, seed, context)).unwrap()
        };
        let report = measure();
        assert_eq!(report.0.len(), 6);
        for schedule in ["VP", "subVP"] {
            let of = |arm| report.of(schedule, arm).next().unwrap();
            let (uniform, importance) = (of(Training::Likelihood), of(Training::Importance));
            println!("{schedule}: {:.3e} {:.3e}", uniform.variance(), importance.variance());
            assert!(importance.variance() < 0.5 * uniform.variance());
            // two standard deviations of the noisier mean, of 200 steps
            let error = 4.0 * (uniform.variance() / 200.0).sqrt();
            assert!((uniform.mean() - importance.mean()).abs() < error + 0.1 * importance.mean());
        }
        assert!(report.0.iter().zip(&measure().0).all(|(a, b)| a.losses == b.losses));
    }
}
