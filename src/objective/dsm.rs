//! Denoising score matching: the "SM" baseline, and ScoreFlow's likelihood weighting.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::Objective;
use crate::grid::TimeLaw;
use crate::model::Denoiser;
use crate::noise::Noise;
use crate::tensor::{column, per_row, squared_norm};

/// The weight of time `t` in the loss on `‖ε̂ − ε‖²`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weighting {
    /// `λ = σ²` on the score: weight 1 on the noise (Ho et al.; Song et al.'s "σ² weighting").
    #[default]
    Sigma2,
    /// `λ = g²` on the score: weight `g²/σ²` on the noise (ScoreFlow, eq. 8).
    Likelihood,
}

/// `E_t w(t) ‖ε̂(x_t) − ε‖²` per row, averaged over `draws`. With [`Weighting::Likelihood`] the weight is divided by the
/// density of the law of `t`, so that under importance-sampled `t` it is the constant `Z/(T − ε)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DenoisingScoreMatching {
    /// The weight of each time.
    pub weighting: Weighting,
    /// The law of `t`.
    pub time: TimeLaw,
    /// Draws of (t, ε) per row.
    pub draws: usize,
}

impl Objective for DenoisingScoreMatching {
    fn loss(&self, model: &dyn Denoiser, x0: &Tensor, noise: &mut Noise) -> Tensor {
        let (rows, d) = x0.size2().expect("rows of data");
        let schedule = &**model.schedule();
        let n = self.draws as i64;
        let t: Vec<f64> =
            noise.uniform(self.draws).into_iter().map(|u| self.time.time(schedule, u)).collect();
        let z = noise.normal((n * d) as usize, x0.kind(), x0.device()).view([rows * n, d]);
        let x0 = repeat(x0, n);
        let alpha = column(t.iter().map(|&t| schedule.alpha(t)), &x0);
        let sigma = column(t.iter().map(|&t| schedule.sigma(t)), &x0);
        let error = squared_norm(&(model.noise(&(x0 * alpha + &z * sigma), &t) - z));
        let weighted = match (self.weighting, self.time) {
            (Weighting::Sigma2, _) => error,
            (Weighting::Likelihood, TimeLaw::LogSnr) => error * schedule.importance_normalizer(),
            (Weighting::Likelihood, TimeLaw::Uniform) => {
                let weights = per_row(t.iter().map(|&t| schedule.diffusion2(t) / schedule.sigma2(t)), &error);
                error * weights
            }
        };
        weighted.view([rows, n]).mean_dim([1i64].as_slice(), false, None::<Kind>)
    }

    fn draws(&self) -> usize {
        self.draws
    }

    fn trains_head(&self) -> bool {
        false
    }
}

/// Each row `n` times in a row, `[b n, d]`.
fn repeat(x: &Tensor, n: i64) -> Tensor {
    if n == 1 { x.shallow_clone() } else { x.repeat_interleave_self_int(n, 0, None) }
}
