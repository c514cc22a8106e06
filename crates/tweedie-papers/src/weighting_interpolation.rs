//! Likelihood against sample quality: one small network under weightings `(g²/σ²)^p` between σ²
//! (`p = 0`) and likelihood weighting (`p = 1`); ScoreFlow, §5.3 and Table 2.

use tch::{Device, Kind, Tensor};

use crate::experiment::{Context, Experiment, settings};
use crate::layout::{LINEAR, Measured, chart, curve, measured, table};
use crate::outcome::Outcome;
use crate::page::Page;
use crate::runs::Tasks;
use crate::weighting::{self, Recipe, Source, TRAINING};
use tweedie::density::ScoreOptions;
use tweedie::grid::TimeDistribution;
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
use tweedie_report::plot::{Series, Style};
use tweedie_report::table::{Cell, Digits, Table};

settings! {
    /// The experiment's settings.
    pub struct WeightingInterpolation {
        /// A table; by default rows of a mixture in ten dimensions.
        pub data: Option<String> = None,
        /// The exponents `p`, from 0 to 1.
        pub powers: Vec<f64> = vec![0.0, 0.25, 0.5, 0.75, 1.0],
        /// Trainings for each `p`, each with a seed of its own, the same for all `p`.
        pub trials: usize = 3,
        /// How networks are trained.
        pub recipe: Recipe = weighting::recipe(),
        /// At most so many test rows.
        pub rows: usize = 1000,
        /// Samples of every network.
        pub samples: usize = 5000,
        /// The seed of everything random.
        pub seed: u64 = 0,
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
    /// Unbiased MMD² of samples against the distribution, or against test rows.
    pub mmd: f64,
    /// Rows whose ODE likelihood is flagged, and left out.
    pub flagged: usize,
}

/// What the experiment found.
#[derive(Clone, Debug)]
pub struct Report {
    /// The settings that it was measured with.
    pub experiment: WeightingInterpolation,
    /// What was found of every training.
    pub points: Vec<Point>,
    /// `−ln p` of the test rows under the distribution, where it is known.
    pub truth: Option<f64>,
}

/// Pairs (t, ε) per test row.
const BOUND_DRAWS: usize = 200;

impl Experiment for WeightingInterpolation {
    const NAME: &'static str = "weighting-interpolation";
    const TEXT: &'static str = include_str!("weighting_interpolation.md");
    const SHARED_FLAGS: &'static [&'static str] = &[TRAINING];

    fn quick(self) -> Self {
        WeightingInterpolation {
            powers: vec![0.0, 0.5, 1.0],
            trials: self.trials.min(2),
            recipe: weighting::quick(self.recipe, 300),
            rows: self.rows.min(50),
            samples: self.samples.min(300),
            ..self
        }
    }

    fn run(&self, context: &mut Context) -> Result<Outcome> {
        self.check()?;
        let seed = Seed(self.seed).derive(Self::NAME);
        let source = Source::open(self.data.as_deref(), seed)?;
        Ok(self.measure(&source, seed, context)?.outcome(source.page()))
    }
}

impl WeightingInterpolation {
    fn check(&self) -> Result<()> {
        Error::check_count("experiment.trials", self.trials, 1000)?;
        Error::check_count("experiment.rows", self.rows, 1_000_000_000)?;
        Error::check_count("experiment.samples", self.samples, 1_000_000_000)?;
        self.recipe.check(1)?;
        if self.powers.is_empty() {
            return Err(Error::config("experiment.powers", "none", "give numbers from 0 to 1"));
        }
        self.powers.iter().try_for_each(|&power| Weighting::Interpolated(power).check())
    }

    /// Trains and judges everything.
    fn measure(&self, source: &Source, seed: Seed, context: &mut Context) -> Result<Report> {
        let (test, log_jacobian) = source.test_rows(self.rows, seed)?;
        let truth = source.truth(&test).map(|values| -mean_and_error(&values).0);
        let mut tasks = Tasks::new(self.powers.len() * self.trials, context.progress);
        let (recipe, process, device) = (&self.recipe, ScheduleConfig::default(), context.device);
        let mut points = Vec::new();
        for &power in &self.powers {
            for trial in 0..self.trials {
                let what = format!("p = {power}, training {}", trial + 1);
                let seed = seed.derive(&format!("trial {trial}"));
                // one distribution of t for all: its weights on the squared error are then bounded
                // for every p
                let (weighting, time) = (Weighting::Interpolated(power), TimeDistribution::LogSnr);
                let objective = DenoisingScoreMatching { weighting, time, draws: 1 };
                // losses of another scale must not be shortened otherwise
                let clip = f64::MAX.sqrt();
                let task = (what.as_str(), &mut tasks);
                let model = source.train(recipe, clip, &process, &objective, device, seed, task)?;
                let judged = self.judge(&model, source, &test, &log_jacobian, seed)?;
                points.push(Point { power, trial, ..judged });
                tasks.end(&what);
            }
        }
        Ok(Report { experiment: self.clone(), points, truth })
    }

    fn judge(
        &self,
        model: &dyn Denoiser,
        source: &Source,
        test: &Tensor,
        log_jacobian: &[f64],
        seed: Seed,
    ) -> Result<Point> {
        let rows = Batch::of(&model.space().place(test));
        let score = |estimator: &dyn LogLikelihood| -> Result<Estimate> {
            let mut estimate = estimator.in_batches(
                &rows,
                seed.derive("draws"),
                ScoreOptions::BATCH,
                &mut |_| Ok(()),
            )?;
            estimate.shift(log_jacobian);
            Ok(estimate)
        };
        let flow =
            score(&ProbabilityFlow::new(model).divergence(Divergence::Auto)?.keep_unsolved(true))?;
        let bound = score(&ScoreMatchingBound::new(model, BOUND_DRAWS))?;
        let sampler = FlowSampler::new(model);
        let samples = sample_in_batches(self.samples, ScoreOptions::BATCH, |rows| {
            sampler.sample(seed.derive("samples"), rows, None)
        })?;
        let samples = samples.to_kind(Kind::Double).to_device(Device::Cpu);
        let mmd = match source {
            Source::Known { exact, .. } => Mmd::default().against_mixture(&samples, exact),
            Source::Table(_) => Mmd::default().u_statistic(&samples, test),
        };
        let believed = flow.believed();
        Ok(Point {
            power: 0.0,
            trial: 0,
            nll: -mean_and_error(&believed).0,
            bound: -bound.mean(),
            mmd,
            flagged: flow.values.len() - believed.len(),
        })
    }
}

/// A curve's name and what it shows.
type Line = (&'static str, fn(&Point) -> f64);

impl Report {
    fn outcome(&self, page: Page) -> Outcome {
        let likelihood = self.figure(
            "Likelihood against the weighting",
            "nats per row, less is better",
            &[("ODE", |p| p.nll), ("bound", |p| p.bound)],
        );
        let samples = self.figure(
            "Samples against the weighting",
            "MMD², less is better",
            &[("samples", |p| p.mmd)],
        );
        let truth = self.truth.map(|nll| Page::new().with("nll", format!("{nll:.3}")));
        let page = page
            .when("known", self.truth.map(|_| Page::new()))
            .when("table", self.truth.is_none().then(Page::new))
            .when("truth", truth)
            .table("powers", &self.powers());
        let name = WeightingInterpolation::NAME;
        Outcome::new(name, self.table(), page)
            .figure(format!("{name}-nll.svg"), likelihood)
            .figure(format!("{name}-mmd.svg"), samples)
    }

    fn of(&self, power: f64) -> impl Iterator<Item = &Point> {
        self.points.iter().filter(move |p| p.power == power)
    }

    /// Mean and standard error over the trainings at `power`.
    fn at(&self, power: f64, f: impl Fn(&Point) -> f64) -> Measured {
        mean_and_error(&self.of(power).map(f).collect::<Vec<_>>())
    }

    fn table(&self) -> Table {
        table!(&self.points, |p| {
            "power" => Cell::number(p.power, Digits::Significant(3)),
            "trial" => p.trial,
            "nll" => Cell::number(p.nll, 4),
            "bound" => Cell::number(p.bound, 4),
            "mmd2" => Cell::number(p.mmd, Digits::Significant(3)),
            "flagged" => p.flagged,
        })
    }

    fn powers(&self) -> Table {
        let first = self.experiment.powers[0];
        // training by training
        let change = |power: f64, f: fn(&Point) -> f64| {
            let pairs = self.of(power).zip(self.of(first)).map(|(a, b)| f(a) - f(b));
            let change = mean_and_error(&pairs.collect::<Vec<_>>());
            measured((power != first).then_some(change), 4)
        };
        table!(self.experiment.powers.iter().copied(), |power| {
            "p" => power.to_string(),
            "NLL" => measured(Some(self.at(power, |p| p.nll)), 4),
            format!("NLL over p = {first}") => change(power, |p| p.nll),
            "bound" => measured(Some(self.at(power, |p| p.bound)), 4),
            format!("bound over p = {first}") => change(power, |p| p.bound),
            "MMD² × 10⁴" => measured(Some(self.at(power, |p| 1e4 * p.mmd)), 2),
            "rows flagged" => self.of(power).map(|p| p.flagged).sum::<usize>(),
        })
    }

    fn figure(&self, title: &str, y_label: &str, lines: &[Line]) -> String {
        let powers = &self.experiment.powers;
        let line = |&(name, f): &Line| curve(name, powers.iter().map(|&p| (p, self.at(p, f))));
        let mut series: Vec<Series> = lines.iter().map(line).collect();
        if let (Some(truth), true) = (self.truth, lines.len() > 1) {
            let line = Series::line("the distribution", powers.clone(), vec![truth; powers.len()]);
            series.push(line.style(Style::Dashed));
        }
        chart(title, ["p, from σ² to likelihood weighting", y_label], LINEAR, series)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny() -> WeightingInterpolation {
        WeightingInterpolation {
            powers: vec![0.0, 1.0],
            trials: 2,
            recipe: Recipe { width: 8, depth: 1, iterations: 200, rows: 64, ..weighting::recipe() },
            rows: 20,
            samples: 50,
            ..WeightingInterpolation::default()
        }
    }

    /// No network beats the distribution by more than chance on its rows, and a bound is below the
    /// ODE likelihood up to what the fit is off.
    #[test]
    fn everything_is_measured() {
        let seed = Seed(0).derive(WeightingInterpolation::NAME);
        let source = Source::open(None, seed).unwrap();
        let report = Context::alone(|context| tiny().measure(&source, seed, context)).unwrap();
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
        let error = Context::alone(|context| wrong.run(context)).unwrap_err();
        assert!(error.to_string().contains("0 (sigma2) to 1"), "{error}");
    }
}
