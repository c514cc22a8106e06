//! `tweedie experiment covariance-toy` and `rademacher`

use clap::Args;
use tweedie::Result;
use tweedie_papers::covariance_toy::{CovarianceToy, Law, Recipe};
use tweedie_papers::rademacher::Rademacher;

use super::Output;

#[derive(Args, Debug)]
struct Sizes {
    /// nine, mixture2, mixture10, mixture64 or all [default: all]
    #[arg(long, value_name = "LAW")]
    law: Option<String>,
    /// Trainings of every network, each with rows of its own to be judged on [default: 5]
    #[arg(long, value_name = "TRIALS")]
    trials: Option<usize>,
    /// Steps of the optimiser for a head [default: 2000]
    #[arg(long, value_name = "I")]
    iterations: Option<u64>,
    /// Hidden units of every network [default: 64]
    #[arg(long, value_name = "W")]
    width: Option<i64>,
    /// Test rows of each trial [default: 400; of rademacher 200]
    #[arg(long, value_name = "ROWS")]
    rows: Option<usize>,
}

impl Sizes {
    fn laws(&self, laws: Vec<Law>) -> Result<Vec<Law>> {
        self.law.as_deref().map_or(Ok(laws), Law::named)
    }

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
Writes covariance-toy.md, covariance-toy.csv and figures: the error of every covariance against the exact one at each t, the K-step \
ELBO below ln p, and MMD² of samples over K, with the true score and with a learned one.

Time: 4 min 49 s of processor time for --law nine; with --iterations 1000 --score-iterations 2000 --steps 5,10,20 mixture2 took 1 min \
55 s, mixture10 2 min 55 s and mixture64 5 min 29 s.

Examples:
  tweedie experiment covariance-toy --out results/toy --law nine
  tweedie experiment covariance-toy --out results/toy --iterations 10000")]
pub struct CovarianceToyArguments {
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    sizes: Sizes,
    /// Steps of the optimiser for a learned score [default: 4000]
    #[arg(long, value_name = "I")]
    score_iterations: Option<u64>,
    /// Samples of each trial [default: 500]
    #[arg(long, value_name = "SAMPLES")]
    samples: Option<usize>,
    /// Numbers of steps K [default: 5,10,20,50]
    #[arg(long, value_name = "K,K,…", value_delimiter = ',')]
    steps: Vec<usize>,
}

impl CovarianceToyArguments {
    pub fn run(&self) -> Result<()> {
        self.output.prepare()?;
        let mut toy = CovarianceToy { seed: self.output.seed, ..CovarianceToy::default() };
        if self.output.quick {
            toy = toy.quick();
        }
        toy.laws = self.sizes.laws(toy.laws)?;
        toy.recipe = self.sizes.recipe(&toy.recipe);
        toy.recipe.score_iterations = self.score_iterations.unwrap_or(toy.recipe.score_iterations);
        toy.trials = self.sizes.trials.unwrap_or(toy.trials);
        toy.rows = self.sizes.rows.unwrap_or(toy.rows);
        toy.samples = self.samples.unwrap_or(toy.samples);
        if !self.steps.is_empty() {
            toy.steps = self.steps.clone();
        }
        self.output.run(
            "covariance-toy",
            |progress| toy.run(progress),
            |report, dir| report.write(dir),
        )
    }
}

#[derive(Args, Debug)]
#[command(after_help = "\
Writes rademacher.md, rademacher.csv and a figure for each law: the error of the diagonal of G by M products with random signs, its \
slope in M, a learned head beside it, and what both cost.

Time: 1 min 20 s of processor time with --iterations 1000.

Examples:
  tweedie experiment rademacher --out results/rademacher
  tweedie experiment rademacher --out results/rademacher --law mixture64 --probes 1,4,16,64,256")]
pub struct RademacherArguments {
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    sizes: Sizes,
    /// Numbers of products M, rising [default: 1,2,4,…,128]
    #[arg(long, value_name = "M,M,…", value_delimiter = ',')]
    probes: Vec<usize>,
}

impl RademacherArguments {
    pub fn run(&self) -> Result<()> {
        self.output.prepare()?;
        let mut experiment = Rademacher { seed: self.output.seed, ..Rademacher::default() };
        if self.output.quick {
            experiment = experiment.quick();
        }
        experiment.laws = self.sizes.laws(experiment.laws)?;
        experiment.recipe = self.sizes.recipe(&experiment.recipe);
        experiment.trials = self.sizes.trials.unwrap_or(experiment.trials);
        experiment.rows = self.sizes.rows.unwrap_or(experiment.rows);
        if !self.probes.is_empty() {
            experiment.probes = self.probes.clone();
        }
        self.output.run(
            "rademacher",
            |progress| experiment.run(progress),
            |report, dir| report.write(dir),
        )
    }
}
