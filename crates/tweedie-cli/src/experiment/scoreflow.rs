//! `tweedie experiment scoreflow-table`

use std::path::PathBuf;

use clap::Args;
use tweedie::data::Marginals;
use tweedie::model::BaseKind;
use tweedie::run::RunConfig;
use tweedie::{Error, Result};
use tweedie_papers::scoreflow_table::ScoreflowTable;

use super::Output;

#[derive(Args, Debug)]
#[command(after_help = "\
Trains a score for VP, subVP and VE by plain score matching, with the likelihood weighting, and with importance-sampled times \
too, and judges each: NLL by the probability-flow ODE, score-matching bound, Fréchet distance of samples. Writes \
scoreflow-table.md and .csv; runs are kept in DIR/runs: the same command goes on with them.

Time: 75 min of one busy thread on MAGIC (10 columns) with --iterations 6000 --rows 300 --dequantizer 0.

Examples:
  tweedie experiment scoreflow-table --out results/table --data wine.csv --drop label
  tweedie experiment scoreflow-table --out results/table --config digits.toml
  tweedie experiment scoreflow-table --out results/look --data wine.csv --quick")]
pub struct TableArguments {
    #[command(flatten)]
    output: Output,
    /// A table, or mixture:NAME
    #[arg(long, value_name = "FILE|mixture:NAME")]
    data: Option<String>,
    /// Columns to leave out
    #[arg(long, value_name = "A,B,…", value_delimiter = ',')]
    drop: Vec<String>,
    /// A run's configuration: data, base, network and training of every cell; flags win over it
    /// [default: an isotropic base and the default network]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Steps of the optimiser for every score [default: 5000, or the configuration's]
    #[arg(long, value_name = "I")]
    iterations: Option<u64>,
    /// Repetitions
    #[arg(long, value_name = "N", default_value_t = 3)]
    seeds: u64,
    /// Test rows to score, drawn at random by --seed
    #[arg(long, value_name = "ROWS", default_value_t = 500)]
    rows: usize,
    /// Steps of the optimiser for each variational dequantiser of levels; 0 leaves it out
    #[arg(long, value_name = "I", default_value_t = 1000)]
    dequantizer: u64,
    /// Pairs (t, ε) per row for the bound
    #[arg(long, value_name = "D", default_value_t = 200)]
    draws: usize,
    /// Samples for the Fréchet distance
    #[arg(long, value_name = "SAMPLES", default_value_t = 2000)]
    samples: usize,
    /// Rows computed at a time when judging; they change results by rounding alone
    #[arg(long, value_name = "B", default_value_t = 512)]
    eval_batch: usize,
}

impl TableArguments {
    pub fn run(&self) -> Result<()> {
        let device = self.output.prepare()?;
        let mut config = match &self.config {
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
                RunConfig::from_toml(&text, path)?
            }
            None => {
                let mut config = RunConfig::default();
                config.base.kind = BaseKind::Isotropic;
                config.data.scaling.marginals = Marginals::Standardize;
                config.train.iterations = 5000;
                config
            }
        };
        config.train.patience = 0;
        config.seed = self.output.seed;
        config.train.iterations = self.iterations.unwrap_or(config.train.iterations);
        if let Some(data) = &self.data {
            config.data.source = data.clone();
        }
        if !self.drop.is_empty() {
            config.data.table.drop = self.drop.clone();
        }
        let (seeds, rows, dequantizer, draws) =
            (self.seeds, self.rows, self.dequantizer, self.draws);
        let (samples, batch) = (self.samples, self.eval_batch);
        let mut experiment =
            ScoreflowTable { config, seeds, rows, dequantizer, draws, samples, batch, device };
        if self.output.quick {
            experiment = experiment.quick();
        }
        let work = |progress: &mut dyn FnMut(&str, f64)| experiment.run(&self.output.out, progress);
        self.output.run("scoreflow-table", work, |report, dir| report.write(dir))
    }
}
