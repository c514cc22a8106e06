//! The predictor–corrector sampler of score-based SDEs.

use tch::Tensor;

use super::{Chain, Clipped, SamplerMethod, Sampling, Step};
use crate::model::Denoiser;
use crate::noise::Noise;
use crate::posterior::score;
use crate::query::{Query, Times};
use crate::schedule::Transition;
use crate::{Error, Result};

/// Song et al. 2021, Algorithms 1–5: a step of reverse diffusion, then Langevin steps at the new
/// time. With the transition's `m` and `k²` from `s` to `t` (VP: `m² = 1 − β`, `k² = β`; VE:
/// `m = 1`, `k² = σ_t² − σ_s²`)
///
/// `x_s = (2 − m) x_t + k² s(x_t, t) + k z`, then `corrections` times
/// `x_s ← x_s + e s(x_s, s) + √(2e) z`.
///
/// The paper's `e = 2 m² (r ‖z‖/‖s‖)²` has norms of the batch, so that a sample depends on those
/// beside it. Here `‖z‖/‖s‖` is `σ_s`, what it is on average where noise prevails, which is nearly
/// everywhere for images: `e = 2 m² r² σ_s²`. Norms of the row itself would tie the step to the
/// state, and Langevin steps would no longer leave the distribution unchanged: in `d` dimensions
/// its variance would come out too large by a factor of `(d + 2)/d`, and one column could jump
/// anywhere. Wherever noise does not prevail this step is shorter than the paper's. Steps to `s ≤
/// ε` put out the predictor's mean. First order; `1 + corrections` evaluations a step.
pub struct PredictorCorrector<'a> {
    model: &'a dyn Denoiser,
    corrections: usize,
    ratio: f64,
}

impl<'a> PredictorCorrector<'a> {
    /// The paper's signal-to-noise ratio `r` for CIFAR-10.
    pub const RATIO: f64 = 0.16;

    /// Sampling of `model` with `corrections` Langevin steps at each time (the paper: 1; 0: the
    /// predictor alone), at the signal-to-noise ratio `r`.
    ///
    /// # Errors
    /// If `r` is not between 0 and 0.7: at `r² = ½` the Langevin steps of the noisiest directions
    /// only just do not overshoot.
    pub fn new(
        model: &'a dyn Denoiser,
        corrections: usize,
        ratio: f64,
    ) -> Result<PredictorCorrector<'a>> {
        if !(ratio > 0.0 && ratio <= 0.7) {
            return Err(Error::config(
                "snr",
                format!("{ratio}"),
                "give a number up to 0.7 (0.16 is usual)",
            ));
        }
        Ok(PredictorCorrector { model, corrections, ratio })
    }

    fn score(&self, q: &Query) -> Tensor {
        score(&self.model.noise(q), self.model.space().schedule(), q.times)
    }
}

impl Step for PredictorCorrector<'_> {
    fn model(&self) -> &dyn Denoiser {
        self.model
    }

    fn step(&self, q: &Query, s: f64, noise: &mut Noise) -> Tensor {
        let schedule = self.model.space().schedule();
        let Transition { m, k2 } = schedule.transition(s, q.times.one());
        let mean = q.x * (2.0 - m) + self.score(q) * k2;
        if s <= schedule.epsilon() {
            return mean;
        }
        let mut normal = || noise.normal(q.x.size()[1] as usize, q.x.kind(), q.x.device());
        let mut x = mean + normal() * k2.sqrt();
        let e = 2.0 * (m * self.ratio * schedule.sigma(s)).powi(2);
        let times = Times::All(s);
        for _ in 0..self.corrections {
            let score = self.score(&Query { x: &x, times: &times, ..*q });
            x = &x + score * e + normal() * (2.0 * e).sqrt();
        }
        x
    }
}

/// This sampler in the list of samplers.
pub(super) struct Method;

impl SamplerMethod for Method {
    fn name(&self) -> &'static str {
        "predictor-corrector"
    }

    fn help(&self) -> &'static str {
        "Reverse diffusion, corrected by Langevin steps at each of the K times"
    }

    fn options(&self) -> &'static [&'static str] {
        &["corrector_steps", "snr"]
    }

    fn draw(&self, sampling: &Sampling, chain: &Chain) -> Result<(Tensor, Clipped)> {
        let step = PredictorCorrector::new(chain.model, sampling.corrector_steps, sampling.snr)?;
        chain.of(&step, sampling.seed)
    }
}
