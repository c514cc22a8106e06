//! The covariance without the score's Hessian.

use tch::Tensor;

use super::{Covariance, CovarianceSources, Method, StepCovariance};
use crate::Result;
use crate::model::Denoiser;
use crate::noise::Noise;
use crate::query::Query;
use crate::sym_matrix::SymMatrix;

/// `G = I`, that is `H = 0`: the Likelihood Matching paper's score-matching sampler.
#[derive(Clone, Copy, Debug, Default)]
pub struct ZeroHessian;

impl Method for ZeroHessian {
    const NAME: &str = "zero-hessian";
    const LABEL: &str = "H = 0";
    const FREE: bool = true;

    fn build(_: &CovarianceSources) -> Result<ZeroHessian> {
        Ok(ZeroHessian)
    }
}

impl Covariance for ZeroHessian {
    fn name(&self) -> String {
        ZeroHessian::NAME.into()
    }

    fn of(&self, model: &dyn Denoiser, q: &Query, _: &mut Noise) -> (Tensor, StepCovariance) {
        let identity = SymMatrix::scalar(&1.0.into(), q.x);
        (model.noise(q), StepCovariance::Posterior(identity))
    }
}
