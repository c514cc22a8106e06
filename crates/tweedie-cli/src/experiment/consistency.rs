//! `tweedie experiment consistency`

use clap::Args;
use tweedie::Result;
use tweedie_papers::consistency::Consistency;

use super::Output;

#[derive(Args, Debug)]
#[command(after_help = "\
Writes consistency.md, consistency.csv and figures: errors of maximum likelihood, Likelihood Matching with 2, 5 and 10 transitions \
and score matching on a parametric family against the sample size, with their rates and efficiencies.

Time: 150 replicates to n = 800 took 2 min 47 s of processor time; the default \
has 5.5 times the draws of that. --quick 6 s.

Examples:
  tweedie experiment consistency --out results/consistency
  tweedie experiment consistency --out results/consistency --replicates 50 --sizes 100,200,400,800")]
pub struct Arguments {
    #[command(flatten)]
    output: Output,
    /// Replicates of every sample size [default: 200]
    #[arg(long, value_name = "R")]
    replicates: Option<usize>,
    /// Sample sizes, rising [default: 50,100,200,400,800,1600,3200]
    #[arg(long, value_name = "N,N,…", value_delimiter = ',')]
    sizes: Vec<usize>,
    /// Pairs (x, t) per datum [default: 100]
    #[arg(long, value_name = "DRAWS")]
    draws: Option<usize>,
}

impl Arguments {
    pub fn run(&self) -> Result<()> {
        self.output.prepare()?;
        let mut experiment = Consistency { seed: self.output.seed, ..Consistency::default() };
        if self.output.quick {
            experiment = experiment.quick();
        }
        experiment.replicates = self.replicates.unwrap_or(experiment.replicates);
        experiment.draws = self.draws.unwrap_or(experiment.draws);
        if !self.sizes.is_empty() {
            experiment.sample_sizes = self.sizes.clone();
        }
        self.output.run(
            "consistency",
            |progress| experiment.run(progress),
            |report, dir| report.write(dir),
        )
    }
}
