//! The covariance that a model's own head gives.

use tch::Tensor;

use super::{Covariance, CovarianceSources, Method, StepCovariance};
use crate::Result;
use crate::model::Denoiser;
use crate::noise::Noise;
use crate::query::Query;

/// The model's own `G`: its head's, or an oracle's exact one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Own;

impl Method for Own {
    const NAME: &str = "learned";
    const LABEL: &str = "learned G";
    const FREE: bool = true;

    fn build(_: &CovarianceSources) -> Result<Own> {
        Ok(Own)
    }
}

impl Covariance for Own {
    fn name(&self) -> String {
        Own::NAME.into()
    }

    fn of(&self, model: &dyn Denoiser, q: &Query, _: &mut Noise) -> (Tensor, StepCovariance) {
        let moments = model.moments(q);
        (moments.noise, StepCovariance::Posterior(moments.cov))
    }
}
