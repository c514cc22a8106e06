//! A variational dequantiser learned for a density: a tighter likelihood of levels.

use serde::{Deserialize, Serialize};

use super::score::{Part, score};
use super::{Density, ScoreOptions};
use crate::data::{Dataset, Split, subset};
use crate::dequantize::{Dequantizer, Steps, Uniform, VariationalConfig};
use crate::likelihood::{Estimate, Estimation, Estimator, mean_and_error};
use crate::model::Denoiser;
use crate::noise::Seed;
use crate::sample::MOST_ROWS;
use crate::train::TrainConfig;
use crate::watch::Watch;
use crate::{Error, Result};

/// How a dequantiser is learned. What is `None` follows the kind of the data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DequantizeOptions {
    /// Steps of the optimiser.
    pub iterations: u64,
    /// Rows per step; by default 128, of images 16.
    pub batch_size: Option<usize>,
    /// Adam's step size after warm-up; it falls along a cosine.
    pub learning_rate: f64,
    /// Pairs (t, ε) per row and step.
    pub draws: usize,
    /// Hidden units, or channels, of the coupling networks; by default 64, of images 32.
    pub width: Option<i64>,
    /// For images of even height and width, steps on halves of the channels of 2 × 2 blocks of
    /// pixels, after the 4 on columns ([`Steps::FlowPlusPlus`]).
    pub channel_couplings: usize,
    /// Held-out rows that the bound is reported on, at most; by default 2000, of images 32.
    pub validation_rows: Option<usize>,
    /// Pairs (t, ε) per held-out row, at least 1.
    pub validation_draws: usize,
    /// Whether a dequantiser that the density has is replaced.
    pub replace: bool,
    /// The seed of everything random.
    pub seed: u64,
}

impl Default for DequantizeOptions {
    fn default() -> DequantizeOptions {
        DequantizeOptions {
            iterations: 2000,
            batch_size: None,
            learning_rate: 2e-3,
            draws: 4,
            width: None,
            channel_couplings: 0,
            validation_rows: None,
            validation_draws: 100,
            replace: false,
            seed: 0,
        }
    }
}

impl DequantizeOptions {
    /// Refuses counts that nothing can be learned with.
    ///
    /// # Errors
    /// [`Error::Config`] with the option's path.
    pub fn check(&self) -> Result<()> {
        for (path, count) in [
            ("dequantize.draws", self.draws),
            ("dequantize.validation_draws", self.validation_draws),
            ("dequantize.validation_rows", self.validation_rows.unwrap_or(1)),
        ] {
            Error::check_count(path, count, MOST_ROWS)?;
        }
        Ok(())
    }
}

/// What a dequantiser gains on held-out rows: bounds by the same pairs (t, ε).
#[derive(Clone, Debug)]
pub struct Dequantized {
    /// The bound with uniform noise.
    pub uniform: Estimate,
    /// The bound with the learned noise.
    pub variational: Estimate,
    /// The mean gain, nats per row, and its standard error.
    pub gain: (f64, f64),
}

/// Rows to learn from, and rows that are held out, of a table of its own or of the same.
struct Rows {
    train: (Dataset, Vec<usize>),
    held_out: (Option<Dataset>, Vec<usize>),
}

impl Density {
    /// Learns a dequantiser from `data`, of which a tenth is held out, or from the run's own
    /// training rows, and keeps it with the run.
    ///
    /// # Errors
    /// [`Error::Config`] if the run has one already and it is not to be replaced, or there are no
    /// rows; as [`crate::dequantize::Variational::fit`].
    pub fn learn_dequantizer(
        &mut self,
        data: Option<Dataset>,
        options: &DequantizeOptions,
        watch: &mut dyn Watch,
    ) -> Result<Dequantized> {
        options.check()?;
        self.check_numbers_alone("dequantize", "noise within the bins of its grids is uniform")?;
        self.run.dir.lock()?;
        if self.run.dir.has_dequantizer() && !options.replace {
            let problem = format!("{} has a dequantiser already", self.name());
            let remedy = "give dequantize.replace to train another in its place";
            return Err(Error::config("RUN", problem, remedy));
        }
        let (images, run) = (self.is_of_images(), &self.run);
        let usual = |of_images: usize, of_table: usize| if images { of_images } else { of_table };
        let config = TrainConfig {
            iterations: options.iterations,
            batch_size: options.batch_size.unwrap_or(usual(16, 128)),
            learning_rate: options.learning_rate,
            warm_up: 100.min(options.iterations / 10),
            ..TrainConfig::default()
        };
        config.check()?;
        let seed = Seed(options.seed);
        let scaling = &run.data.scaling;
        let kind = VariationalConfig::usual(images);
        let mut kind = VariationalConfig { width: options.width.unwrap_or(kind.width), ..kind };
        match &mut kind.steps {
            Steps::FlowPlusPlus { channel_couplings, .. } => {
                *channel_couplings = options.channel_couplings;
            }
            Steps::Plain if options.channel_couplings > 0 => {
                let problem = format!("{}, for a table", options.channel_couplings);
                return Err(Error::config("dequantize.channel_couplings", problem, "give 0"));
            }
            Steps::Plain => {}
        }
        let device = run.model.space().device;
        let dequantizer =
            kind.init(scaling, run.data.levels(), device, seed.derive("dequantiser"))?;
        // fails now, not after the training, where the directory cannot be written
        run.dir.output("dequantizer.safetensors")?;
        let Rows { train: (table, train), held_out: (other, held_out) } = self.rows_for(data)?;
        let limit = options.validation_rows.unwrap_or(usual(32, 2000));
        let held_out = subset(&held_out, limit, seed);
        let judged = other.as_ref().unwrap_or(&table);
        let batch = self.batch("dequantize.batch_size", None, ScoreOptions::BATCH)?;
        let settings = Estimation {
            draws: options.validation_draws,
            ..Estimation::stepless(Estimator::Bound)
        };
        let bound = |dequantizer: &dyn Dequantizer, watch: &mut dyn Watch| {
            let part = Part { table: judged, rows: &held_out, dequantizer, asked: None };
            score(self, part, &settings, seed.derive("validation"), batch, watch)
        };
        let uniform = bound(&Uniform::new(scaling), watch)?;
        watch.begin("dequantize", config.iterations);
        let rows = (&table, &train[..]);
        let learned =
            run.train_dequantizer(&dequantizer, rows, options.draws, &config, seed, watch);
        watch.end();
        learned?;
        let variational = bound(&dequantizer, watch)?;
        let pairs = variational.values.iter().zip(&uniform.values);
        let gain = mean_and_error(&pairs.map(|(v, u)| v - u).collect::<Vec<f64>>());
        Ok(Dequantized { uniform, variational, gain })
    }

    fn rows_for(&self, data: Option<Dataset>) -> Result<Rows> {
        let run = &self.run;
        if let Some(table) = data {
            let split = Split::new(table.rows(), [0.9, 0.1, 0.0], run.config.seed)?;
            return Ok(Rows { train: (table, split.train), held_out: (None, split.validation) });
        }
        let missing =
            |problem: String, remedy: &str| Error::config("dequantize.data", problem, remedy);
        let own = run.prepared().ok_or_else(|| {
            missing(run.no_data(), "give rows to learn from with dequantize.data")
        })?;
        let held_out = match own.validation {
            Some(table) => {
                let rows = (0..table.rows()).collect();
                (Some(table), rows)
            }
            None if own.split.validation.is_empty() => {
                let remedy = "give rows with dequantize.data, of which a tenth is held out";
                return Err(missing("the run kept no validation rows".into(), remedy));
            }
            None => (None, own.split.validation),
        };
        Ok(Rows { train: (own.table, own.split.train), held_out })
    }
}
