//! The ancestral family: draws from the Gaussian bridge with any covariance and any `η`.

use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::Step;
use crate::Result;
use crate::covariance::{Covariance, Reverse};
use crate::model::Denoiser;
use crate::noise::Noise;

/// What the step to `t = 0` puts out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LastStep {
    /// The posterior mean of `x_0`.
    Mean,
    /// A draw from the Gaussian posterior of `x_0`.
    #[default]
    Noise,
}

/// `x_s ~ N(bridge mean, bridge covariance)`: Likelihood Matching's sampler (13)–(14) at `η = 1` with the learned
/// covariance, DDPM with β or β̃, DDIM at `η = 0` with `G = 0`. First order in the step in distribution for fixed
/// isotropic covariances; moments of each step are exact for exact `ε̂` and `G` at `η = 1`.
pub struct Ancestral<'a> {
    reverse: Reverse<'a>,
    last: LastStep,
}

impl<'a> Ancestral<'a> {
    /// Ancestral sampling of `model` at `η`.
    pub fn new(
        model: &'a dyn Denoiser,
        covariance: Covariance,
        eta: f64,
        last: LastStep,
    ) -> Result<Ancestral<'a>> {
        Ok(Ancestral { reverse: Reverse::new(model, covariance, eta)?, last })
    }
}

impl Step for Ancestral<'_> {
    fn model(&self) -> &dyn Denoiser {
        self.reverse.model()
    }

    fn step(&self, x: &Tensor, s: f64, t: f64, noise: &mut Noise) -> Tensor {
        let rows = x.size()[0] as usize;
        let law = self.reverse.at(x, &vec![s; rows], &vec![t; rows]);
        if s == 0.0 && self.last == LastStep::Mean {
            return law.mean;
        }
        law.sample(&noise.normal(law.cov.noise_dim() as usize, x.kind(), x.device()))
    }
}
