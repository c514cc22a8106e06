//! Distances to the nearest rows of training.

use tch::{Kind, Tensor};

/// Distances that are held at once.
const AT_ONCE: i64 = 1 << 23;

/// The Euclidean distances of rows `x` `[m, d]` to their `k` nearest among `of` `[n, d]`: the mean
/// of them, and the largest, each row by row. All of them where there are fewer.
pub(super) fn nearest(x: &Tensor, of: &Tensor, k: usize) -> [Vec<f64>; 2] {
    let (n, k) = (of.size()[0], (k as i64).min(of.size()[0]));
    let parts = x.split((AT_ONCE / n).max(1), 0);
    let found = parts.iter().map(|part| {
        let distances = Tensor::cdist(part, of, 2.0, None::<i64>);
        distances.topk(k, 1, false, true).0
    });
    let all = Tensor::cat(&found.collect::<Vec<_>>(), 0);
    let of = |values: Tensor| tweedie::tensor::to_vec(&values);
    [of(all.mean_dim([1i64].as_slice(), false, None::<Kind>)), of(all.select(1, k - 1))]
}
