//! Likelihood-trained diffusion models, used as probability models.
//!
//! Fit a density to a table or to images, sample from it in a few steps, score new rows
//! ([`density`]):
//!
//! ```no_run
//! use tweedie::prelude::*;
//!
//! fn main() -> Result<()> {
//!     let data = Dataset::read("wine.csv")?;
//!     let (train, test) = data.split(0.9, Seed(0));
//!     let density = Density::fit(&train, &FitOptions::default(), &mut Silent)?;
//!     let scores = density.log_prob(&test, &ScoreOptions::default())?;
//!     let (mean, error, claim) = (scores.mean(), scores.std_error(), scores.claim());
//!     println!("{mean:.3} ± {error:.3} nats per row ({claim})");
//!     let samples = density.sample(1000, &SampleOptions { steps: 20, ..Default::default() })?;
//!     samples.write("samples.csv")?;
//!     density.save("runs/wine")
//! }
//! ```
//!
//! # How it works
//!
//! A network gives a score and a normalised posterior covariance `G`. Tweedie's two formulas turn
//! them into the mean and covariance of the clean data ([`posterior`]); one Gaussian bridge turns
//! those into the distribution of `x_s` given `x_t` ([`covariance::Reverse`]). Samplers draw from
//! it ([`mod@sample`]), ELBOs take its divergence ([`likelihood`]), Likelihood Matching maximises
//! its log-density ([`objective`]).
//!
//! An exact oracle ([`oracle`]) stands wherever a trained model does:
//!
//! ```
//! use std::sync::Arc;
//! use tweedie::covariance::{Own, Reverse};
//! use tweedie::grid::Spacing;
//! use tweedie::likelihood::{Elbo, LogLikelihood};
//! use tweedie::noise::Seed;
//! use tweedie::oracle::{GaussianMixture, Oracle};
//! use tweedie::query::Batch;
//! use tweedie::schedule::Vp;
//!
//! # fn main() -> tweedie::Result<()> {
//! let schedule = Arc::new(Vp::default());
//! let mixture = GaussianMixture::new(&[0.5, 0.5], &[[-2.0], [2.0]], &[1.0, 1.0])?;
//! let truth = Oracle::new(mixture, schedule.clone());
//! let x = truth.mixture.sample(500, Seed(0));
//! let exact = truth.mixture.log_density(&x).mean(None).double_value(&[]);
//!
//! // the log-likelihood of the ten-step sampler that knows the exact mean and covariance
//! let reverse = Reverse::new(&truth, Own, 1.0)?;
//! let elbo = Elbo::new(reverse, Spacing::Angle.elbo_grid(&*schedule, 10), 4);
//! let bound = elbo.log_likelihood(&Batch::of(&x), Seed(1), 0)?;
//! let gap = exact - bound.mean();
//! assert!(gap > -0.05 && gap < 0.25, "{gap} nats lost to ten Gaussian steps");
//! # Ok(())
//! # }
//! ```
//!
//! Start with `docs/architecture.md` for the map of the crate, `docs/equations.md` for where each
//! equation lives, and `examples/` for complete programs.

pub mod autoencoder;
pub mod baseline;
pub mod categories;
pub mod choice;
pub mod covariance;
pub mod data;
pub mod density;
pub mod dequantize;
pub mod device;
pub mod error;
pub mod gaussian;
pub mod grid;
pub mod likelihood;
pub mod metric;
pub mod mixture;
pub mod model;
mod native;
pub mod noise;
pub mod objective;
pub mod ode;
pub mod oracle;
pub mod posterior;
pub mod prelude;
pub mod process_group;
pub mod profile;
#[cfg(feature = "pth")]
pub mod pth;
pub mod query;
pub mod run;
pub mod sample;
pub mod schedule;
pub mod statistics;
pub mod sym_matrix;
pub mod tensor;
pub mod train;
pub mod watch;

pub use error::{Error, Result};
/// The engine: tensors of the lower layer are its own.
pub use tch;

/// The README's Rust is compiled as it stands.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
