//! DDPM's small covariance.

use tch::Tensor;

use super::{Covariance, CovarianceSources, Method, StepCovariance};
use crate::Result;
use crate::model::Denoiser;
use crate::noise::Noise;
use crate::query::Query;
use crate::sym_matrix::SymMatrix;

/// `G = 0`: the covariance of the forward bridge alone (Ho et al. 2020, `β̃`).
#[derive(Clone, Copy, Debug, Default)]
pub struct BetaTilde;

impl Method for BetaTilde {
    const NAME: &str = "beta-tilde";
    const LABEL: &str = "β̃";
    const FREE: bool = true;

    fn build(_: &CovarianceSources) -> Result<BetaTilde> {
        Ok(BetaTilde)
    }
}

impl Covariance for BetaTilde {
    fn name(&self) -> String {
        BetaTilde::NAME.into()
    }

    fn of(&self, model: &dyn Denoiser, q: &Query, _: &mut Noise) -> (Tensor, StepCovariance) {
        let none = SymMatrix::scalar(&0.0.into(), q.x);
        (model.noise(q), StepCovariance::Posterior(none))
    }

    /// The last step puts out its mean exactly.
    fn ends_in_a_density(&self) -> bool {
        false
    }
}
