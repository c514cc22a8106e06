//! Distances between samples and a distribution: pure functions of rows `[n, d]`, in f64. Of tables
//! with categories and holes: [`quality`], and of what is drawn given other columns:
//! [`forecast`].
//!
//! Images are compared by rows of features, which an [`Extractor`] computes with a pretrained image
//! classifier.
//!
//! ```
//! use tweedie::metric::{FeatureMoments, Mmd, frechet_distance};
//! use tweedie::noise::Seed;
//! use tweedie::oracle::named;
//! use tweedie::tch::Tensor;
//!
//! # fn main() -> tweedie::Result<()> {
//! let x = named::nine_gaussians().sample(200, Seed(0));
//! let shifted = &x + Tensor::from_slice(&[2.0, 0.0]);
//!
//! // a shift by 2 keeps the covariance: the distance is the squared distance of the means
//! let statistics = |rows: &Tensor| FeatureMoments::of(rows).statistics("columns");
//! let distance = frechet_distance(&statistics(&x)?, &statistics(&shifted)?)?;
//! assert!((distance - 4.0).abs() < 1e-9);
//! assert!(Mmd::default().v_statistic(&x, &x).abs() < 1e-12);
//! assert!(Mmd::default().v_statistic(&x, &shifted) > 0.1);
//! # Ok(())
//! # }
//! ```

mod features;
pub mod forecast;
mod frechet;
mod inception_score;
mod mmd;
mod prd;
mod precision_recall;
pub mod quality;

pub use features::{Extractor, FeatureNetwork, Features};
pub use frechet::{FeatureMoments, FeatureStatistics, frechet_distance};
pub use inception_score::{InceptionScore, inception_score};
pub use mmd::Mmd;
pub use prd::PrdCurve;
pub use precision_recall::{PrecisionRecall, precision_recall};
