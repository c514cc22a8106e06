//! The predictor–corrector sampler of score-based SDEs.

use std::ops::Range;

use tch::Tensor;

use super::options::stepped;
use super::{Clipped, SamplerMethod, Sampling, Step};
use crate::model::Denoiser;
use crate::noise::{Noise, Seed};
use crate::posterior::score;
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
/// state, and Langevin steps would no longer leave the law: in `d` dimensions its variance would
/// come out too large by a factor of `(d + 2)/d`, and one column could jump anywhere. Wherever
/// noise does not prevail this step is shorter than the paper's. Steps to `s ≤ ε` put out the
/// predictor's mean. First order; `1 + corrections` evaluations a step.
pub struct PredictorCorrector<'a> {
    model: &'a dyn Denoiser,
    corrections: usize,
    ratio: f64,
}

impl<'a> PredictorCorrector<'a> {
    /// The paper's signal-to-noise ratio `r` for CIFAR-10.
    pub const RATIO: f64 = 0.16;

    /// Sampling of `model` with so many Langevin steps at each time (the paper: 1; 0: the predictor
    /// alone), at the signal-to-noise ratio `r`.
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

    fn score(&self, x: &Tensor, t: f64) -> Tensor {
        let times = vec![t; x.size()[0] as usize];
        score(&self.model.noise(x, &times), &**self.model.schedule(), &times)
    }
}

impl Step for PredictorCorrector<'_> {
    fn model(&self) -> &dyn Denoiser {
        self.model
    }

    fn step(&self, x: &Tensor, s: f64, t: f64, noise: &mut Noise) -> Tensor {
        let schedule = &**self.model.schedule();
        let crate::schedule::Transition { m, k2 } = schedule.transition(s, t);
        let mean = x * (2.0 - m) + self.score(x, t) * k2;
        if s <= schedule.epsilon() {
            return mean;
        }
        let mut normal = || noise.normal(x.size()[1] as usize, x.kind(), x.device());
        let mut x = mean + normal() * k2.sqrt();
        let e = 2.0 * (m * self.ratio * schedule.sigma(s)).powi(2);
        for _ in 0..self.corrections {
            x = &x + self.score(&x, s) * e + normal() * (2.0 * e).sqrt();
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

    fn draw(
        &self,
        model: &dyn Denoiser,
        sampling: &Sampling,
        grid: &[f64],
        seed: Seed,
        rows: Range<u64>,
    ) -> Result<(Tensor, Clipped)> {
        let step = PredictorCorrector::new(model, sampling.corrector_steps, sampling.snr)?;
        stepped(&step, grid, seed, rows)
    }
}
