//! The covariances that a trained model has.

use super::{Covariance, CovarianceConfig, CovarianceSources};
use crate::Result;
use crate::model::{HeadConfig, Model, NoiseStatistics, Parametrization};

impl CovarianceConfig {
    /// The covariance that a head is trained for.
    pub fn of_head(head: &HeadConfig) -> CovarianceConfig {
        match head.parametrization {
            Parametrization::Interpolation => CovarianceConfig::Interpolated,
            _ => CovarianceConfig::Own,
        }
    }

    /// Whether it takes what is not in `statistics`, as measured of the model's noise.
    pub fn lacks(self, statistics: Option<&NoiseStatistics>) -> bool {
        match self {
            CovarianceConfig::Analytic => statistics.is_none(),
            CovarianceConfig::AnalyticScore => !statistics.is_some_and(|s| s.has_score()),
            _ => false,
        }
    }
}

impl Model {
    /// The covariance that the head is for, where there is a head.
    pub fn head_covariance(&self) -> Option<CovarianceConfig> {
        self.config().head.as_ref().map(CovarianceConfig::of_head)
    }

    /// A covariance of this model's reverse steps, with the data that it takes.
    ///
    /// # Errors
    /// If the model has not what the covariance takes.
    pub fn covariance(&self, config: CovarianceConfig) -> Result<Box<dyn Covariance>> {
        self.covariance_with(config, self.noise_statistics())
    }

    /// As [`Model::covariance`], with `statistics` of this model's noise.
    ///
    /// # Errors
    /// As [`Model::covariance`].
    pub fn covariance_with(
        &self,
        config: CovarianceConfig,
        statistics: Option<&NoiseStatistics>,
    ) -> Result<Box<dyn Covariance>> {
        config.build(&CovarianceSources {
            statistics,
            interpolates: self.head_covariance() == Some(CovarianceConfig::Interpolated),
            ..CovarianceSources::default()
        })
    }
}
