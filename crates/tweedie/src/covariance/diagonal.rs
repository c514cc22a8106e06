//! The exact diagonal of the score's own covariance.

use tch::Tensor;

use super::{Covariance, CovarianceSources, Method, StepCovariance, jacobian};
use crate::Result;
use crate::model::Denoiser;
use crate::noise::Noise;
use crate::query::Query;

/// The exact diagonal of `I + σ²H`, by `d` products with the score's Jacobian.
#[derive(Clone, Copy, Debug, Default)]
pub struct Diagonal;

impl Method for Diagonal {
    const NAME: &str = "diagonal";

    fn build(_: &CovarianceSources) -> Result<Diagonal> {
        Ok(Diagonal)
    }
}

impl Covariance for Diagonal {
    fn name(&self) -> String {
        Diagonal::NAME.into()
    }

    fn of(&self, model: &dyn Denoiser, q: &Query, _: &mut Noise) -> (Tensor, StepCovariance) {
        let (noise, cov) = jacobian::diagonal(model, q);
        (noise, StepCovariance::Posterior(cov))
    }
}
