//! What most programs need: data, a fitted density, its options and results.
//!
//! ```no_run
//! use tweedie::prelude::*;
//!
//! # fn main() -> Result<()> {
//! let density = Density::load("runs/wine")?;
//! let scores = density.log_prob(&density.read("new.csv")?, &ScoreOptions::default())?;
//! println!("{:.3} ± {:.3} nats per row", scores.mean(), scores.std_error());
//! # Ok(())
//! # }
//! ```

pub use crate::data::{Dataset, TableOptions, Values};
pub use crate::density::{
    DecodeOptions, Density, EncodeOptions, EvaluateOptions, Evaluation, FitOptions, Metric,
    SampleOptions, Samples, ScoreOptions, Scores, WatchFit,
};
pub use crate::noise::Seed;
pub use crate::watch::{Silent, Watch};
pub use crate::{Error, Result};
