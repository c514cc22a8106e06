//! The isotropic covariance of Analytic-DPM as Bao et al. (2022) have it: the mean square of the
//! score, one number per `t`, measured on data.

use std::cell::OnceCell;

use tch::Tensor;

use super::analytic::isotropic;
use super::{Covariance, CovarianceSources, Method, StepCovariance};
use crate::model::{Denoiser, Interpolant, NoiseStatistics};
use crate::noise::Noise;
use crate::query::Query;
use crate::{Error, Result};

/// `G = (1 − σ_t² E‖s‖²/d) I = (1 − E‖ε̂‖²/d) I` (Bao et al. 2022, Theorem 1, in our units),
/// clamped to `[0, 1]`; how often is [`NoiseStatistics::clamped`]. Under a score that is wrong it
/// is not the multiple of the identity of least divergence; that is [`Analytic`](super::Analytic).
#[derive(Debug)]
pub struct AnalyticScore {
    statistics: NoiseStatistics,
    interpolant: OnceCell<Interpolant>,
}

impl AnalyticScore {
    /// With what was measured of the model's noise, [`NoiseStatistics::measure`].
    ///
    /// # Errors
    /// If the mean square of the score is not in it ([`NoiseStatistics::has_score`]).
    pub fn new(statistics: NoiseStatistics) -> Result<AnalyticScore> {
        if !statistics.has_score() {
            let problem = "analytic-score, of statistics without the mean square of the score, as \
                           older versions kept them";
            let remedy = "measure them anew (NoiseStatistics::measure), or take analytic";
            return Err(Error::config("covariance", problem, remedy));
        }
        Ok(AnalyticScore { statistics, interpolant: OnceCell::new() })
    }
}

impl Method for AnalyticScore {
    const NAME: &str = "analytic-score";

    fn build(sources: &CovarianceSources) -> Result<AnalyticScore> {
        AnalyticScore::new(sources.noise_statistics(AnalyticScore::NAME)?.clone())
    }
}

impl Covariance for AnalyticScore {
    fn name(&self) -> String {
        AnalyticScore::NAME.into()
    }

    fn of(&self, model: &dyn Denoiser, q: &Query, _: &mut Noise) -> (Tensor, StepCovariance) {
        let interpolant = || self.statistics.interpolant_of_score(q.x.device());
        isotropic(model, q, self.interpolant.get_or_init(interpolant))
    }
}
