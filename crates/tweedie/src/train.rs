//! Training: Adam or AdamW on one flat buffer, warm-up, gradient clipping, a moving average of the
//! parameters, validation, early stopping, and resumption to the same bits.
//!
//! One loop ([`Trainer`]) trains models, heads and dequantisers.
//!
//! ```
//! use std::sync::Arc;
//! use tweedie::mixture::GaussianMixture;
//! use tweedie::model::{Base, HeadConfig, MlpConfig, ModelConfig, NetworkConfig, Structure};
//! use tweedie::noise::Seed;
//! use tweedie::objective::ObjectiveConfig;
//! use tweedie::schedule::Vp;
//! use tweedie::tch::{Device, Kind};
//! use tweedie::train::{Silent, State, TensorRows, TrainConfig, Trainer, Validation};
//!
//! # fn main() -> tweedie::Result<()> {
//! let mixture = GaussianMixture::new(&[1.0], &[[0.5, -0.5]], &[0.3])?;
//! let rows = |n, seed| mixture.sample(n, seed).to_kind(Kind::Float);
//! let (data, test) = (TensorRows::new(rows(200, Seed(0))), rows(100, Seed(1)));
//! let network = NetworkConfig::Mlp(MlpConfig { width: 16, depth: 2, ..MlpConfig::default() });
//! let head = Some(HeadConfig { structure: Structure::Full, ..HeadConfig::default() });
//! let config = ModelConfig { network, head, ..ModelConfig::default() };
//! let model = config.init(Base::standard(2), Arc::new(Vp::default()), Device::Cpu, Seed(2))?;
//! let objective = ObjectiveConfig::default().build()?;
//! let validation = Validation::new(&test, Seed(3));
//!
//! let (before, _) = validation.bound(&model)?;
//! let steps = TrainConfig { iterations: 50, batch_size: 50, ..TrainConfig::default() };
//! let trainer = Trainer::new(TrainConfig { warm_up: 5, ema: 0.9, ..steps });
//! let mut state = State::new(&model);
//! trainer.fit(&model, &*objective, &data, None, Seed(4), &mut state, &mut Silent)?;
//! let (after, _) = validation.bound(&model)?;
//! assert_eq!(state.iteration, 50);
//! assert!(after > before, "{before} nats per row before training, {after} after");
//! # Ok(())
//! # }
//! ```

mod adam;
mod config;
mod metric;
mod model;
mod prefetch;
mod rows;
mod state;
mod trainer;
mod validation;

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::model::Model;
pub use crate::model::Watched;
use crate::watch::Watch;
pub use config::TrainConfig;
pub use metric::Metric;
pub(crate) use prefetch::{Stage, Staged};
pub use rows::{Rows, TensorRows};
pub use state::{Best, State};
pub use trainer::Trainer;
pub(crate) use trainer::{Seen, Trainee};
pub use validation::Validation;

/// What the caller of [`Trainer::fit`] is informed of, and decides.
pub trait Hooks {
    /// A metric line is ready.
    fn metric(&mut self, _metric: &Metric) -> Result<()> {
        Ok(())
    }
    /// A step is done.
    fn step(&mut self, _iteration: u64) {}
    /// The model holds its moving average, as at every validation. A look that is given up because
    /// of [`Hooks::stop`] is repeated when the training is resumed.
    fn look(&mut self, _model: &Model, _iteration: u64) -> Result<()> {
        Ok(())
    }
    /// At every validation, on the moving average: a figure by which parameters are kept in place
    /// of the validation bound, the less the better, such as the Fréchet distance of samples. None
    /// by default, or given up because of [`Hooks::stop`]: then repeated as a look is.
    fn distance(&mut self, _model: &Model, _iteration: u64) -> Result<Option<f64>> {
        Ok(None)
    }
    /// The state to resume from.
    fn checkpoint(&mut self, _model: &Model, _state: &State) -> Result<()> {
        Ok(())
    }
    /// Whether to stop now: looked at between steps, micro-batches and evaluations of a validation.
    /// Once true it stays true.
    fn stop(&self) -> bool {
        false
    }
}

/// Hooks that do nothing.
pub struct Silent;
impl Hooks for Silent {}

/// Keeps the state to resume from, of a training that no run directory's hooks keep.
pub(crate) type Save<'a> = dyn FnMut(&State) -> Result<()> + 'a;

/// Passes on the progress of a training; the second field is its number of steps.
pub(crate) struct Report<'a>(pub &'a mut dyn Watch, pub u64);

impl Hooks for Report<'_> {
    fn metric(&mut self, metric: &Metric) -> Result<()> {
        self.0.note(&format!("loss {:.4}", metric.loss));
        Ok(())
    }

    fn step(&mut self, iteration: u64) {
        self.0.progress(iteration, self.1);
    }

    fn stop(&self) -> bool {
        self.0.stop()
    }
}

/// Why a training stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopReason {
    /// All iterations were done.
    Finished,
    /// The figure that parameters are kept by no longer improved.
    EarlyStop,
    /// `max_seconds` were over.
    OutOfTime,
    /// It was interrupted.
    Stopped,
}
