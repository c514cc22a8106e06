//! DDPM's large covariance.

use tch::Tensor;

use super::{Covariance, CovarianceSources, Method, StepCovariance};
use crate::Result;
use crate::model::Denoiser;
use crate::noise::Noise;
use crate::query::{Query, Times, step_coefficients};
use crate::schedule::Schedule;
use crate::sym_matrix::SymMatrix;

/// The covariance of the step is `k² I`, the forward transition's (Ho et al. 2020, `β`).
#[derive(Clone, Copy, Debug, Default)]
pub struct Beta;

impl Method for Beta {
    const NAME: &str = "beta";
    const LABEL: &str = "β";
    const FREE: bool = true;

    fn build(_: &CovarianceSources) -> Result<Beta> {
        Ok(Beta)
    }
}

impl Covariance for Beta {
    fn name(&self) -> String {
        Beta::NAME.into()
    }

    fn of(&self, model: &dyn Denoiser, q: &Query, _: &mut Noise) -> (Tensor, StepCovariance) {
        let like = q.x.shallow_clone();
        let of_step = move |schedule: &dyn Schedule, s: &Times, t: &Times| {
            let k2 = |s: f64, t: f64| [schedule.transition(s, t).k2];
            let [variance] = step_coefficients(s, t, like.device(), k2);
            SymMatrix::scalar(&variance, &like)
        };
        (model.noise(q), StepCovariance::OfStep(Box::new(of_step)))
    }

    fn is_of_a_step(&self) -> bool {
        true
    }
}
