//! `tweedie dequantize`, and the dequantisations that `score` and `evaluate` take.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::json;
use tweedie::data::{Dataset, Purpose, Split, subset};
use tweedie::dequantize::{Dequantizer, TruncatedNormal, Uniform, VariationalConfig};
use tweedie::likelihood::{ScoreMatchingBound, mean_and_error};
use tweedie::model::Denoiser;
use tweedie::noise::Seed;
use tweedie::run::Run;
use tweedie::train::TrainConfig;
use tweedie::{Error, Result};

use crate::console::{Progress, print_json, remark, say};
use crate::reading::{Reading, left_out};
use crate::score::score_rows;
use crate::{Common, MOST_ROWS};

#[derive(Clone, Copy, Debug, ValueEnum, PartialEq, Eq)]
pub enum DequantizationName {
    /// Even noise over the bin, as in training
    Uniform,
    /// What `tweedie dequantize` has learned: a tighter bound
    Variational,
    /// The process's own noise up to a small time, for models trained on the levels themselves; ODE
    /// alone
    TruncatedNormal,
}

impl DequantizationName {
    pub fn name(self) -> &'static str {
        match self {
            DequantizationName::Uniform => "uniform",
            DequantizationName::Variational => "variational",
            DequantizationName::TruncatedNormal => "truncated-normal",
        }
    }
}

/// How levels become points of a density.
#[derive(Args, Debug)]
pub struct Dequantization {
    /// Noise within the bins of dequantised columns and of pixels
    #[arg(long, value_name = "NOISE", default_value = "uniform")]
    pub dequantization: DequantizationName,
    /// Where the flow of truncated-normal starts, a time of the process [default: the noise there
    /// is a third of the smallest half bin]
    #[arg(long, value_name = "TAU")]
    pub start_time: Option<f64>,
}

impl Dequantization {
    /// Refuses what does not go with an estimator; `asks_flow` says whether that is the ODE.
    pub fn check(&self, asks_flow: bool) -> Result<()> {
        let truncated = self.dequantization == DequantizationName::TruncatedNormal;
        if truncated && !asks_flow {
            let problem =
                "truncated-normal gives no points of the density that this estimator is of";
            return Err(Error::config(
                "--dequantization",
                problem,
                "give `tweedie score --estimator ode` with it",
            ));
        }
        if self.start_time.is_some() && !truncated {
            let remedy = "give --dequantization truncated-normal with it";
            return Err(Error::config(
                "--start-time",
                "is where truncated-normal noise ends",
                remedy,
            ));
        }
        Ok(())
    }

    pub fn of<'a>(&self, run: &'a Run) -> Result<Box<dyn Dequantizer + 'a>> {
        Ok(match self.dequantization {
            DequantizationName::Uniform => Box::new(Uniform::new(&run.data.scaling)),
            DequantizationName::Variational => {
                Box::new(run.dir.dequantizer(&run.data, run.model.space().device)?)
            }
            DequantizationName::TruncatedNormal => {
                Box::new(TruncatedNormal::new(&run.data.scaling, run.schedule(), self.start_time)?)
            }
        })
    }
}

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
    #[arg(long, value_name = "I", default_value_t = 2000)]
    iterations: u64,
    /// Rows per step [default: 128; 16 images]
    #[arg(long, value_name = "B")]
    batch_size: Option<usize>,
    /// Adam's step size after warm-up; it falls along a cosine
    #[arg(long, value_name = "RATE", default_value_t = 2e-3)]
    learning_rate: f64,
    /// Pairs (t, ε) per row and step
    #[arg(long, value_name = "D", default_value_t = 4)]
    draws: usize,
    /// Hidden units, or channels, of the coupling networks
    #[arg(long, value_name = "W", default_value_t = 64)]
    width: i64,
    /// Held-out rows that the bound is reported on, at most [default: 2000; 32 images]
    #[arg(long, value_name = "ROWS")]
    validation_rows: Option<usize>,
    /// Pairs (t, ε) per held-out row
    #[arg(long, value_name = "D", default_value_t = 100)]
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

/// Rows to learn from, and rows that are held out.
struct Rows {
    train: (Dataset, Vec<usize>),
    /// Of a table of its own, or of the same.
    held_out: (Option<Dataset>, Vec<usize>),
}

impl Rows {
    fn read(run: &Run, data: Option<&PathBuf>, reading: &Reading, quiet: bool) -> Result<Rows> {
        if let Some(path) = data {
            let table = run.data.read_table_for(Purpose::Training, path, &reading.options(run))?;
            left_out(&table, quiet);
            let split = Split::new(table.rows(), [0.9, 0.1, 0.0], run.config.seed)?;
            return Ok(Rows { train: (table, split.train), held_out: (None, split.validation) });
        }
        let Some(own) = run.prepared() else {
            let problem = format!(
                "{} is not at hand, or no longer the table of this run",
                run.config.data.source
            );
            return Err(Error::config("--data", problem, "give rows to learn from with --data"));
        };
        let held_out = match own.validation {
            Some(table) => {
                let rows = (0..table.rows()).collect();
                (Some(table), rows)
            }
            None if own.split.validation.is_empty() => {
                let remedy = "give rows with --data, of which a tenth is held out";
                return Err(Error::config("--data", "the run kept no validation rows", remedy));
            }
            None => (None, own.split.validation),
        };
        Ok(Rows { train: (own.table, own.split.train), held_out })
    }
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let device = arguments.common.prepare()?;
    let quiet = arguments.common.quiet;
    for (flag, count) in [
        ("--draws", arguments.draws),
        ("--validation-draws", arguments.validation_draws),
        ("--validation-rows", arguments.validation_rows.unwrap_or(1)),
    ] {
        Error::check_count(flag, count, MOST_ROWS)?;
    }
    let mut run = Run::load(&arguments.run, device)?;
    run.dir.lock()?;
    let remarks = remark(&run);
    if run.dir.has_dequantizer() && !arguments.replace {
        let problem = format!("{} has a dequantiser already", run.dir.path().display());
        return Err(Error::config("RUN", problem, "give --replace to train another in its place"));
    }
    let images = run.data.image.is_some();
    let config = TrainConfig {
        iterations: arguments.iterations,
        batch_size: arguments.batch_size.unwrap_or(if images { 16 } else { 128 }),
        learning_rate: arguments.learning_rate,
        warm_up: 100.min(arguments.iterations / 10),
        ..TrainConfig::default()
    };
    config.check()?;
    let seed = Seed(arguments.seed);
    let dequantizer = VariationalConfig { width: arguments.width, ..VariationalConfig::default() }
        .init(&run.data.scaling, run.data.image, device, seed.derive("dequantiser"))?;
    // fails now, not after the training, where the directory cannot be written
    run.dir.output("dequantizer.safetensors")?;
    let Rows { train: (table, train), held_out: (other, mut held_out) } =
        Rows::read(&run, arguments.data.as_ref(), &arguments.reading, quiet)?;
    let limit = arguments.validation_rows.unwrap_or(if images { 32 } else { 2000 });
    held_out = subset(&held_out, limit, seed);
    let judged = other.as_ref().unwrap_or(&table);
    let batch = crate::batch_size(None, 2048, &run)?;
    let bound = |dequantizer: &dyn Dequantizer| {
        score_rows(
            &run,
            judged,
            &held_out,
            dequantizer,
            1,
            seed.derive("validation"),
            batch,
            quiet,
            &|model| Ok(Box::new(ScoreMatchingBound::new(model, arguments.validation_draws))),
        )
    };
    let uniform = bound(&Uniform::new(&run.data.scaling))?;

    let mut progress = Progress::new("dequantize", config.iterations, quiet);
    let rows = (&table, &train[..]);
    run.train_dequantizer(
        &dequantizer,
        rows,
        arguments.draws,
        &config,
        seed,
        &mut |done, loss| {
            progress.at(done);
            progress.note(&format!("loss {loss:.4}"));
        },
        &|| false,
    )?;
    progress.finish();

    let variational = bound(&dequantizer)?;
    // the same rows and the same pairs (t, ε)
    let gains: Vec<f64> =
        variational.values.iter().zip(&uniform.values).map(|(v, u)| v - u).collect();
    let (gain, error) = mean_and_error(&gains);
    if gain < -2.0 * error {
        say(
            quiet,
            "warning: the bound is lower than with uniform noise; give more --iterations, or a lower --learning-rate",
        );
    }
    if arguments.common.json {
        print_json(&json!({
            "rows": held_out.len(), "estimator": uniform.estimator, "unit": "nats per row, data units",
            "uniform": uniform.mean(), "uniform_std_error": uniform.std_error(),
            "variational": variational.mean(), "variational_std_error": variational.std_error(),
            "gain": gain, "gain_std_error": error, "remarks": remarks,
        }));
        return Ok(());
    }
    println!(
        "{} held-out rows, nats per row (a lower bound; {}): uniform {:.4} ± {:.4}, variational {:.4} ± {:.4}, gain {gain:.4} ± {error:.4}",
        held_out.len(),
        uniform.estimator,
        uniform.mean(),
        uniform.std_error(),
        variational.mean(),
        variational.std_error(),
    );
    Ok(())
}
