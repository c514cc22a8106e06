//! `tweedie dequantize`

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use tweedie::Result;
use tweedie::data::Purpose;
use tweedie::density::DequantizeOptions;

use crate::Common;
use crate::console::Console;
use crate::reading::{Reading, left_out};

#[derive(Args, Debug)]
#[command(after_help = "\
The run's model stays as it is. What is learned stands in RUN/dequantizer.safetensors and serves \
`tweedie score RUN DATA --dequantization variational`.

Examples:
  tweedie dequantize runs/letter
  tweedie dequantize runs/letter --iterations 10000 --replace")]
pub struct Arguments {
    /// The run directory
    run: PathBuf,
    /// Rows to learn from, a tenth of them held out [default: the run's own training and validation
    /// rows]
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Steps of the optimiser
    #[arg(long, value_name = "I", default_value_t = DequantizeOptions::default().iterations)]
    iterations: u64,
    /// Rows per step [default: 128; 16 images]
    #[arg(long, value_name = "B")]
    batch_size: Option<usize>,
    /// Adam's step size after warm-up; it falls along a cosine
    #[arg(long, value_name = "RATE", default_value_t = DequantizeOptions::default().learning_rate)]
    learning_rate: f64,
    /// Pairs (t, ε) per row and step
    #[arg(long, value_name = "D", default_value_t = DequantizeOptions::default().draws)]
    draws: usize,
    /// Hidden units, or channels, of the coupling networks [default: 64; 32 for images]
    #[arg(long, value_name = "W")]
    width: Option<i64>,
    /// For images of even height and width, steps on halves of the channels of 2 × 2 blocks of
    /// pixels, after the 4 on columns
    #[arg(
        long,
        value_name = "N",
        default_value_t = DequantizeOptions::default().channel_couplings
    )]
    channel_couplings: usize,
    /// Held-out rows that the bound is reported on, at most [default: 2000; 32 images]
    #[arg(long, value_name = "ROWS")]
    validation_rows: Option<usize>,
    /// Pairs (t, ε) per held-out row
    #[arg(long, value_name = "D", default_value_t = DequantizeOptions::default().validation_draws)]
    validation_draws: usize,
    /// Replace the dequantiser that the run has
    #[arg(long)]
    replace: bool,
    /// The seed of everything random
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    reading: Reading,
    #[command(flatten)]
    common: Common,
}

impl Arguments {
    fn options(&self) -> DequantizeOptions {
        DequantizeOptions {
            iterations: self.iterations,
            batch_size: self.batch_size,
            learning_rate: self.learning_rate,
            draws: self.draws,
            width: self.width,
            channel_couplings: self.channel_couplings,
            validation_rows: self.validation_rows,
            validation_draws: self.validation_draws,
            replace: self.replace,
            seed: self.seed,
        }
    }
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let device = arguments.common.prepare()?;
    let (options, quiet) = (arguments.options(), arguments.common.quiet);
    options.check()?;
    let (mut density, remarks) = arguments.common.load(&arguments.run, device)?;
    density.run_mut().dir.lock()?;
    let table = match &arguments.data {
        None => None,
        Some(path) => {
            let (run, purpose) = (density.run(), Purpose::Training);
            let table = run.data.read_table_for(purpose, path, &arguments.reading.options(run))?;
            left_out(&table, quiet);
            Some(table)
        }
    };
    let found = density.learn_dequantizer(table, &options, &mut Console::new(quiet))?;
    let (uniform, variational, (gain, error)) = (&found.uniform, &found.variational, found.gain);
    if gain < -2.0 * error {
        say!(
            quiet,
            "warning: the bound is lower than with uniform noise; give more --iterations, or a \
             lower --learning-rate"
        );
    }
    let (rows, estimator) = (uniform.values.len(), &uniform.estimator);
    let [(a, a_error), (b, b_error)] = [uniform, variational].map(|e| (e.mean(), e.std_error()));
    arguments.common.print(
        &json!({
            "rows": rows, "estimator": estimator, "unit": "nats per row, data units",
            "uniform": a, "uniform_std_error": a_error,
            "variational": b, "variational_std_error": b_error,
            "gain": gain, "gain_std_error": error, "remarks": remarks,
        }),
        format!(
            "{rows} held-out rows, nats per row (a lower bound; {estimator}): uniform {a:.4} ± \
             {a_error:.4}, variational {b:.4} ± {b_error:.4}, gain {gain:.4} ± {error:.4}"
        ),
    );
    Ok(())
}
