//! Pairs (x_t, t) of rows of data: what every loss but the quasi-likelihood of paths is averaged
//! over.

use tch::{Kind, Tensor};

use crate::grid::TimeLaw;
use crate::noise::Noise;
use crate::schedule::Schedule;
use crate::tensor::column;

/// `draws` times for each row of `noise`, by their law.
pub(super) fn times(
    law: TimeLaw,
    schedule: &dyn Schedule,
    draws: usize,
    noise: &mut Noise,
) -> Vec<f64> {
    noise.uniform(draws).into_iter().map(|u| law.time(schedule, u)).collect()
}

/// A batch of pairs, row by row of the data: `b n` rows.
pub(super) struct Pairs {
    /// Rows of data `b`, and pairs of each `n`.
    shape: [i64; 2],
    /// `x_0`, `[b n, d]`.
    pub x0: Tensor,
    /// `ε`, `[b n, d]`.
    pub z: Tensor,
    /// `α_t x_0 + σ_t ε`, `[b n, d]`.
    pub x: Tensor,
    /// `σ_t`, `[b n, 1]`.
    pub sigma: Tensor,
}

impl Pairs {
    /// Draws `ε` of the rows `x0` `[b, d]` at the times `t`, `n` of each row in turn.
    pub fn draw(schedule: &dyn Schedule, x0: &Tensor, t: &[f64], noise: &mut Noise) -> Pairs {
        let (rows, d) = x0.size2().expect("rows of data");
        let n = t.len() as i64 / rows.max(1);
        let z = noise.normal((n * d) as usize, x0.kind(), x0.device()).view([rows * n, d]);
        let x0 =
            if n == 1 { x0.shallow_clone() } else { x0.repeat_interleave_self_int(n, 0, None) };
        let alpha = column(t.iter().map(|&t| schedule.alpha(t)), &x0);
        let sigma = column(t.iter().map(|&t| schedule.sigma(t)), &x0);
        let x = &x0 * alpha + &z * &sigma;
        Pairs { shape: [rows, n], x0, z, x, sigma }
    }

    /// The mean over the pairs of each row of data, `[b]`, of values per pair, `[b n]`.
    pub fn mean(&self, values: &Tensor) -> Tensor {
        values.view(self.shape).mean_dim([1i64].as_slice(), false, None::<Kind>)
    }
}
