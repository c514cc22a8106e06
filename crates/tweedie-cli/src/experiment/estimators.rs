//! `tweedie experiment estimators`

use std::path::PathBuf;

use clap::Args;
use tweedie::Result;
use tweedie_papers::estimators::Estimators;

use super::Output;

#[derive(Args, Debug)]
#[command(after_help = "\
Writes estimators.md, estimators.csv and a figure for each set of rows: every log-likelihood with its error, evaluations and \
time on two mixtures under VP, subVP and VE, where the truth is known, and on the test rows of the runs given.

Time: 47 s of processor time without runs; --quick 3 s.

Examples:
  tweedie experiment estimators --out results/estimators
  tweedie experiment estimators --out results/estimators --run runs/magic --rows 200")]
pub struct Arguments {
    #[command(flatten)]
    output: Output,
    /// A run whose test rows are scored too; give it again for more
    #[arg(long, value_name = "RUN")]
    run: Vec<PathBuf>,
    /// Rows of each mixture, and at most so many of each run [default: 500]
    #[arg(long, value_name = "ROWS")]
    rows: Option<usize>,
    /// Rows at a time; they change likelihoods by rounding alone
    #[arg(long, value_name = "B", default_value_t = 2048)]
    batch_size: usize,
}

impl Arguments {
    pub fn run(&self) -> Result<()> {
        let device = self.output.prepare()?;
        let mut experiment = Estimators {
            runs: self.run.clone(),
            batch: self.batch_size,
            device,
            seed: self.output.seed,
            ..Estimators::default()
        };
        if self.output.quick {
            experiment = experiment.quick();
        }
        experiment.rows = self.rows.unwrap_or(experiment.rows);
        self.output.run(
            "estimators",
            |progress| experiment.run(progress),
            |report, dir| report.write(dir),
        )
    }
}
