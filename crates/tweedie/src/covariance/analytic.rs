//! The isotropic covariance of Analytic-DPM (Bao et al. 2022): one number per `t`, measured on
//! data.

use std::cell::OnceCell;

use tch::Tensor;

use super::{Covariance, CovarianceSources, Method, StepCovariance};
use crate::model::{Denoiser, Interpolant, NoiseStatistics};
use crate::noise::Noise;
use crate::query::Query;
use crate::sym_matrix::SymMatrix;
use crate::{Error, Result};

/// `G = Γ(t) I` of what was measured of a model's noise.
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
        let statistics = sources.statistics.ok_or_else(|| {
            let problem = "analytic, of a model without statistics of its noise";
            let remedy =
                "measure them first (NoiseStatistics::measure), or take another covariance";
            Error::config("covariance", problem, remedy)
        })?;
        Ok(Analytic::new(statistics.clone()))
    }
}

impl Covariance for Analytic {
    fn name(&self) -> String {
        Analytic::NAME.into()
    }

    fn of(&self, model: &dyn Denoiser, q: &Query, _: &mut Noise) -> (Tensor, StepCovariance) {
        let (device, schedule) = (q.x.device(), model.space().schedule());
        let interpolant = self.interpolant.get_or_init(|| self.statistics.interpolant(device));
        let g = interpolant.g(schedule, q.times, device);
        (model.noise(q), StepCovariance::Posterior(SymMatrix::scalar(&g, q.x)))
    }
}
