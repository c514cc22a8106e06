//! Euler–Maruyama on the reverse SDE.

use std::ops::Range;

use tch::Tensor;

use super::options::stepped;
use super::{Clipped, SamplerMethod, Sampling, Step};
use crate::Result;
use crate::model::Denoiser;
use crate::noise::{Noise, Seed};
use crate::posterior::score;

/// `x_s = x_t − [f x_t − g² s(x_t)] (t − s) + g √(t − s) z`, coefficients at `t`; the last step
/// leaves out the noise. Weak order 1; converges to the reverse SDE in the Itô sense. A baseline:
/// the ancestral step knows the drift's linear part exactly and is better at every number of steps.
pub struct EulerMaruyama<'a> {
    model: &'a dyn Denoiser,
}

impl<'a> EulerMaruyama<'a> {
    /// Euler–Maruyama sampling of `model`.
    pub fn new(model: &'a dyn Denoiser) -> EulerMaruyama<'a> {
        EulerMaruyama { model }
    }
}

impl Step for EulerMaruyama<'_> {
    fn model(&self) -> &dyn Denoiser {
        self.model
    }

    fn step(&self, x: &Tensor, s: f64, t: f64, noise: &mut Noise) -> Tensor {
        let schedule = &**self.model.schedule();
        let times = vec![t; x.size()[0] as usize];
        let score = score(&self.model.noise(x, &times), schedule, &times);
        let (h, g2) = (t - s, schedule.diffusion2(t));
        let mean = x * (1.0 - schedule.drift(t) * h) + score * (g2 * h);
        if s <= schedule.epsilon() {
            return mean;
        }
        mean + noise.normal(x.size()[1] as usize, x.kind(), x.device()) * (g2 * h).sqrt()
    }
}

/// This sampler in the list of samplers.
pub(super) struct Method;

impl SamplerMethod for Method {
    fn name(&self) -> &'static str {
        "euler-maruyama"
    }

    fn help(&self) -> &'static str {
        "Euler–Maruyama on the reverse SDE"
    }

    fn draw(
        &self,
        model: &dyn Denoiser,
        _: &Sampling,
        grid: &[f64],
        seed: Seed,
        rows: Range<u64>,
    ) -> Result<(Tensor, Clipped)> {
        stepped(&EulerMaruyama::new(model), grid, seed, rows)
    }
}
