//! Training: flat-buffer Adam, warm-up, clipping, EMA, validation, early stopping, and resumption
//! to the same bits. One loop ([`Trainer`]) trains models, heads and dequantisers.

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
pub use config::TrainConfig;
pub use metric::Metric;
pub(crate) use prefetch::{Stage, Staged};
pub use rows::{Rows, TensorRows};
pub use state::{Best, State};
pub(crate) use trainer::Trainee;
pub use trainer::Trainer;
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

/// Why a training stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopReason {
    /// All iterations were done.
    Finished,
    /// The validation bound no longer improved.
    EarlyStop,
    /// `max_seconds` were over.
    OutOfTime,
    /// It was interrupted.
    Stopped,
}
