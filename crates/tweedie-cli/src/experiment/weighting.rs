//! `tweedie experiment weighting-variance` and `weighting-interpolation`

use clap::Args;
use tweedie::Result;
use tweedie_papers::weighting::Recipe;
use tweedie_papers::weighting_interpolation::WeightingInterpolation;
use tweedie_papers::weighting_variance::WeightingVariance;

use super::Output;

#[derive(Args, Debug)]
struct Training {
    /// A table, or mixture:NAME [default: five clusters in ten dimensions]
    #[arg(long, value_name = "DATA")]
    data: Option<String>,
    /// Trainings of every network, each with a seed of its own [default: 3]
    #[arg(long, value_name = "TRIALS")]
    trials: Option<usize>,
    /// Steps of the optimiser [default: 8000]
    #[arg(long, value_name = "I")]
    iterations: Option<u64>,
    /// Hidden units of every network [default: 64]
    #[arg(long, value_name = "W")]
    width: Option<i64>,
    /// Test rows, at most [default: 1000]
    #[arg(long, value_name = "ROWS")]
    rows: Option<usize>,
}

impl Training {
    fn recipe(&self, recipe: &Recipe) -> Recipe {
        Recipe {
            iterations: self.iterations.unwrap_or(recipe.iterations),
            width: self.width.unwrap_or(recipe.width),
            ..recipe.clone()
        }
    }
}

#[derive(Args, Debug)]
#[command(after_help = "\
Writes weighting-variance.md, weighting-variance.csv, learning curves (weighting-variance-curves.csv, figure-2-vp.svg, \
figure-2-subvp.svg): the variance of the loss while training with likelihood weighting, with uniform and with \
importance-sampled times, and with σ² weighting.

Time: 59 s of processor time with --iterations 1000, hence about 6 min by default; --quick 8 s.

Examples:
  tweedie experiment weighting-variance --out results/variance
  tweedie experiment weighting-variance --out results/variance --data .data/magic.csv")]
pub struct VarianceArguments {
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    training: Training,
}

impl VarianceArguments {
    pub fn run(&self) -> Result<()> {
        let (asked, device) = (&self.training, self.output.prepare()?);
        let mut experiment = WeightingVariance {
            data: asked.data.clone(),
            device,
            seed: self.output.seed,
            ..WeightingVariance::default()
        };
        if self.output.quick {
            experiment = experiment.quick();
        }
        experiment.recipe = asked.recipe(&experiment.recipe);
        experiment.trials = asked.trials.unwrap_or(experiment.trials);
        experiment.rows = asked.rows.unwrap_or(experiment.rows);
        self.output.run(
            "weighting-variance",
            |progress| experiment.run(progress),
            |report, dir| report.write(dir),
        )
    }
}

#[derive(Args, Debug)]
#[command(after_help = "\
Writes weighting-interpolation.md, weighting-interpolation.csv and figures: log-likelihood by the ODE and by the bound, and MMD² \
of samples, of networks trained with weightings between σ² (p = 0) and likelihood weighting (p = 1).

Time: 3 min 54 s of processor time with --iterations 2000 --rows 500; some ten minutes by default.

Examples:
  tweedie experiment weighting-interpolation --out results/interpolation
  tweedie experiment weighting-interpolation --out results/interpolation --data .data/magic.csv --powers 0,0.5,1")]
pub struct InterpolationArguments {
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    training: Training,
    /// Exponents p [default: 0,0.25,0.5,0.75,1]
    #[arg(long, value_name = "P,P,…", value_delimiter = ',')]
    powers: Vec<f64>,
    /// Samples of every network [default: 5000]
    #[arg(long, value_name = "SAMPLES")]
    samples: Option<usize>,
}

impl InterpolationArguments {
    pub fn run(&self) -> Result<()> {
        let (asked, device) = (&self.training, self.output.prepare()?);
        let mut experiment = WeightingInterpolation {
            data: asked.data.clone(),
            device,
            seed: self.output.seed,
            ..WeightingInterpolation::default()
        };
        if self.output.quick {
            experiment = experiment.quick();
        }
        experiment.recipe = asked.recipe(&experiment.recipe);
        experiment.trials = asked.trials.unwrap_or(experiment.trials);
        experiment.rows = asked.rows.unwrap_or(experiment.rows);
        experiment.samples = self.samples.unwrap_or(experiment.samples);
        if !self.powers.is_empty() {
            experiment.powers = self.powers.clone();
        }
        let name = "weighting-interpolation";
        self.output.run(name, |progress| experiment.run(progress), |report, dir| report.write(dir))
    }
}
