//! `tweedie experiment theory`

use clap::Args;
use tweedie::Result;
use tweedie_papers::theory::Theory;

use super::Output;

#[derive(Args, Debug)]
#[command(after_help = "\
Writes theory.md, theory.csv and figures: on mixtures in 1, 2 and 10 dimensions with their exact score and Hessian, the divergence \
of a sampler's path from the exact one against its steps under every covariance, the total variation of its output, and both under \
errors of the score and of the Hessian; with the exponents.

Time: 7 min 11 s of processor time on one thread; --quick 15 s.

Examples:
  tweedie experiment theory --out results/theory
  tweedie experiment theory --out results/theory --rows 200 --steps 20,40,80,160")]
pub struct Arguments {
    #[command(flatten)]
    output: Output,
    /// Rows of data that expectations are taken over [default: 1000]
    #[arg(long, value_name = "ROWS")]
    rows: Option<usize>,
    /// Numbers of steps, rising [default: 10,20,40,80,160,320,640]
    #[arg(long, value_name = "K,K,…", value_delimiter = ',')]
    steps: Vec<usize>,
    /// Sizes of the errors of score and Hessian [default: 0.0125,0.025,0.05,0.1,0.2]
    #[arg(long, value_name = "δ,δ,…", value_delimiter = ',')]
    perturbations: Vec<f64>,
}

impl Arguments {
    pub fn run(&self) -> Result<()> {
        self.output.prepare()?;
        let mut experiment = Theory { seed: self.output.seed, ..Theory::default() };
        if self.output.quick {
            experiment = experiment.quick();
        }
        experiment.rows = self.rows.unwrap_or(experiment.rows);
        if !self.steps.is_empty() {
            experiment.steps = self.steps.clone();
        }
        if !self.perturbations.is_empty() {
            experiment.perturbations = self.perturbations.clone();
        }
        self.output.run(
            "theory",
            |progress| experiment.run(progress),
            |report, dir| report.write(dir),
        )
    }
}
