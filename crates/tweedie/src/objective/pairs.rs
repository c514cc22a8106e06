//! Pairs (x_t, t) of rows of data: what every loss but the quasi-likelihood of paths is averaged
//! over.

use tch::{Kind, Tensor};

use crate::grid::TimeDistribution;
use crate::noise::{Draw, Noise};
use crate::query::{Batch, Coefficient, Condition, Query, Times};
use crate::schedule::Schedule;

/// `draws` times for each row of `noise`, by their distribution.
pub(super) fn times(
    distribution: TimeDistribution,
    schedule: &dyn Schedule,
    draws: usize,
    noise: &mut Noise,
) -> Vec<f64> {
    noise.uniform(draws).into_iter().map(|u| distribution.time(schedule, u)).collect()
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
    /// `σ_t`.
    pub sigma: Coefficient,
    times: Times,
    condition: Option<Condition>,
}

impl Pairs {
    /// What [`times`] and [`Pairs::draw`] draw, `n` of each row.
    pub fn noise(n: usize, dim: usize) -> Vec<Draw> {
        vec![Draw::Uniform(n), Draw::Normal(n * dim)]
    }

    /// Draws `ε` of the rows of `batch` at the times `t`, `n` of each row in turn; `columns` are
    /// further coefficients of each pair, which come back as such.
    pub fn draw<const K: usize>(
        schedule: &dyn Schedule,
        batch: &Batch,
        t: Vec<f64>,
        columns: impl IntoIterator<Item = [f64; K]>,
        noise: &mut Noise,
    ) -> (Pairs, [Coefficient; K]) {
        let x0 = &batch.x;
        let (rows, d) = x0.size2().expect("rows of data");
        let n = t.len() as i64 / rows.max(1);
        let z = noise.normal((n * d) as usize, x0.kind(), x0.device()).view([rows * n, d]);
        let x0 =
            if n == 1 { x0.shallow_clone() } else { x0.repeat_interleave_self_int(n, 0, None) };
        let (times, columns) = Times::with_columns(schedule, t, columns, x0.device());
        let (alpha, sigma) = times.marginal(schedule, x0.device());
        let x = &x0 * &alpha + &z * &sigma;
        let condition = batch.condition.as_ref().map(|condition| condition.repeat(n as usize));
        (Pairs { shape: [rows, n], x0, z, x, sigma, times, condition }, columns)
    }

    /// The rows `x_t` as a question to a model.
    pub fn query(&self) -> Query<'_> {
        Query::new(&self.x, &self.times).given(self.condition.as_ref())
    }

    /// The mean over the pairs of each row of data, `[b]`, of values per pair, `[b n]`.
    pub fn mean(&self, values: &Tensor) -> Tensor {
        values.view(self.shape).mean_dim([1i64].as_slice(), false, None::<Kind>)
    }
}
