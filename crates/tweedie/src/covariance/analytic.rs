//! An isotropic covariance: the mean square error of the noise, one number per `t`, measured on
//! data.

use std::cell::OnceCell;

use tch::Tensor;

use super::{Covariance, CovarianceSources, Method, StepCovariance};
use crate::Result;
use crate::model::{Denoiser, Interpolant, NoiseStatistics};
use crate::noise::Noise;
use crate::query::Query;
use crate::sym_matrix::SymMatrix;

/// `G = Γ(t) I` with `Γ = E‖ε − ε̂‖²/d` as measured: of all multiples of the identity the one of
/// least divergence, whatever the score. For the exact score it is Analytic-DPM's own,
/// [`AnalyticScore`](super::AnalyticScore).
#[derive(Debug)]
pub struct Analytic {
    statistics: NoiseStatistics,
    interpolant: OnceCell<Interpolant>,
}

impl Analytic {
    /// With what was measured of the model's noise, [`NoiseStatistics::measure`].
    pub fn new(statistics: NoiseStatistics) -> Analytic {
        Analytic { statistics, interpolant: OnceCell::new() }
    }
}

impl Method for Analytic {
    const NAME: &str = "analytic";

    fn build(sources: &CovarianceSources) -> Result<Analytic> {
        Ok(Analytic::new(sources.noise_statistics(Analytic::NAME)?.clone()))
    }
}

impl Covariance for Analytic {
    fn name(&self) -> String {
        Analytic::NAME.into()
    }

    fn of(&self, model: &dyn Denoiser, q: &Query, _: &mut Noise) -> (Tensor, StepCovariance) {
        let interpolant = || self.statistics.interpolant(q.x.device());
        isotropic(model, q, self.interpolant.get_or_init(interpolant))
    }
}

/// `ε̂`, and the multiple of the identity that `interpolant` has for the times of `q`.
pub(super) fn isotropic(
    model: &dyn Denoiser,
    q: &Query,
    interpolant: &Interpolant,
) -> (Tensor, StepCovariance) {
    let g = interpolant.g(model.space().schedule(), q.times, q.x.device());
    (model.noise(q), StepCovariance::Posterior(SymMatrix::scalar(&g, q.x)))
}
