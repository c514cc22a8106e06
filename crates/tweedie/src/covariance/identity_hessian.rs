//! The covariance of a Hessian fixed at the identity.

use tch::Tensor;

use super::{Covariance, CovarianceSources, Method, StepCovariance};
use crate::Result;
use crate::model::Denoiser;
use crate::noise::Noise;
use crate::query::Query;
use crate::schedule::Schedule;
use crate::sym_matrix::SymMatrix;

/// `G = (1 + σ²) I`, that is `H = I`, the fixed Hessian of the Likelihood Matching paper's ablation
/// (§5.3). It is the Hessian of no density: the mean of `−H` over a density's rows is a Fisher
/// information, which is positive.
#[derive(Clone, Copy, Debug, Default)]
pub struct IdentityHessian;

impl IdentityHessian {
    /// `G` of the rows of `q`.
    pub(crate) fn g(schedule: &dyn Schedule, q: &Query) -> SymMatrix {
        let (_, sigma) = q.times.marginal(schedule, q.x.device());
        SymMatrix::scalar(&(&sigma.square() + 1.0), q.x)
    }
}

impl Method for IdentityHessian {
    const NAME: &str = "identity-hessian";
    const LABEL: &str = "H = I";

    fn build(_: &CovarianceSources) -> Result<IdentityHessian> {
        Ok(IdentityHessian)
    }
}

impl Covariance for IdentityHessian {
    fn name(&self) -> String {
        IdentityHessian::NAME.into()
    }

    fn of(&self, model: &dyn Denoiser, q: &Query, _: &mut Noise) -> (Tensor, StepCovariance) {
        let g = IdentityHessian::g(model.space().schedule(), q);
        (model.noise(q), StepCovariance::Posterior(g))
    }
}
