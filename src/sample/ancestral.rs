//! The ancestral family: draws from the Gaussian bridge with any covariance and any `η`.

use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::Step;
use crate::Result;
use crate::covariance::{Covariance, Reverse};
use crate::model::Denoiser;
use crate::noise::Noise;

/// What the steps to the data, `s ≤ ε`, put out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LastStep {
    /// The mean: all that the noise of a step to `ε` would do is stay in the sample. What published samplers do by a
    /// clipped covariance of that step (Bao et al. 2022, OCM).
    Mean,
    /// A draw.
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

    /// With `x̂_0` held in this range at every step (of images −1 to 1).
    pub fn within(self, low: f64, high: f64) -> Ancestral<'a> {
        Ancestral { reverse: self.reverse.within(low, high), ..self }
    }
}

impl Step for Ancestral<'_> {
    fn model(&self) -> &dyn Denoiser {
        self.reverse.model()
    }

    fn step(&self, x: &Tensor, s: f64, t: f64, noise: &mut Noise) -> Tensor {
        let rows = x.size()[0] as usize;
        let law = self.reverse.at(x, &vec![s; rows], &vec![t; rows]);
        if s <= self.model().schedule().epsilon() && self.last == LastStep::Mean {
            return law.mean;
        }
        law.sample(&noise.normal(law.cov.noise_dim() as usize, x.kind(), x.device()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::Spacing;
    use crate::noise::Seed;
    use crate::oracle::{GaussianMixture, Oracle};
    use crate::sample::run_chain;
    use crate::schedule::{Schedule, Vp};
    use crate::tensor::to_vec;

    /// For Gaussian data of variance v, one step from T to ε: its mean has the variance of E[x_0|x_T], far below v; its
    /// draws have v. 4000 draws: the variance of a variance is 2 v²/4000.
    #[test]
    fn the_mean_leaves_out_the_noise_of_the_step_to_epsilon() {
        let v: f64 = 0.25;
        let data = Oracle::new(
            GaussianMixture::new(&[1.0], &[[0.0]], &[v.sqrt()]).unwrap(),
            std::sync::Arc::new(Vp::default()),
        );
        let grid = Spacing::default().elbo_grid(&Vp::default(), 2);
        assert_eq!(grid, [0.0, Vp::default().epsilon(), 1.0]);
        let variance = |last| {
            let step = Ancestral::new(&data, Covariance::Learned, 1.0, last).unwrap();
            let x = to_vec(&run_chain(&step, &grid, Seed(1), 0..4000).unwrap());
            x.iter().map(|x| x * x).sum::<f64>() / 4000.0
        };
        assert!((variance(LastStep::Noise) - v).abs() < 4.0 * v * (2.0f64 / 4000.0).sqrt());
        assert!(variance(LastStep::Mean) < 1e-3 * v);
    }
}
