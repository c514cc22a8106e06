//! Distances between samples and distributions: pure functions of rows `[n, d]`, in f64. Images
//! become rows by the features of a network.

mod features;
mod frechet;
mod inception_score;
mod mmd;
mod precision_recall;

pub use features::{Extractor, FeatureNetwork, Features};
pub use frechet::{FeatureMoments, FeatureStatistics, frechet_distance};
pub use inception_score::{InceptionScore, inception_score};
pub use mmd::Mmd;
pub use precision_recall::{PrecisionRecall, precision_recall};
