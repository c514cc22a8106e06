//! Euler–Maruyama on the reverse SDE.

use tch::Tensor;

use super::{Chain, Clipped, SamplerMethod, Sampling, Step};
use crate::Result;
use crate::model::Denoiser;
use crate::noise::Noise;
use crate::posterior::score;
use crate::query::Query;

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

    fn step(&self, q: &Query, s: f64, noise: &mut Noise) -> Tensor {
        let schedule = self.model.space().schedule();
        let (x, t) = (q.x, q.times.one());
        let score = score(&self.model.noise(q), schedule, q.times);
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

    fn draw(&self, sampling: &Sampling, chain: &Chain) -> Result<(Tensor, Clipped)> {
        chain.of(&EulerMaruyama::new(chain.model), sampling.seed)
    }
}
