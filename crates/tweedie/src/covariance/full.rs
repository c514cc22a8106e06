//! All of the score's own covariance.

use tch::Tensor;

use super::{Covariance, CovarianceSources, Method, StepCovariance, jacobian};
use crate::Result;
use crate::model::Denoiser;
use crate::noise::Noise;
use crate::query::Query;

/// `I + σ²H`, by `d` products with the score's Jacobian: for small `d`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Full;

impl Method for Full {
    const NAME: &str = "full";

    fn build(_: &CovarianceSources) -> Result<Full> {
        Ok(Full)
    }
}

impl Covariance for Full {
    fn name(&self) -> String {
        Full::NAME.into()
    }

    fn of(&self, model: &dyn Denoiser, q: &Query, _: &mut Noise) -> (Tensor, StepCovariance) {
        let (noise, cov) = jacobian::full(model, q);
        (noise, StepCovariance::Posterior(cov))
    }
}
