//! The covariance that a model's own head gives.

use tch::Tensor;

use super::{Covariance, CovarianceSources, StepCovariance};
use crate::Result;
use crate::model::Denoiser;
use crate::noise::Noise;
use crate::query::Query;

/// The model's own `G`: its head's, or an oracle's exact one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Own;

impl Own {
    pub(super) const NAME: &str = "learned";
    pub(super) const LABEL: &str = "learned G";
    pub(super) const FREE: bool = true;

    pub(super) fn build(_: &CovarianceSources) -> Result<Own> {
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
