//! Root mean squared errors over replicates, and efficiencies, with their standard errors.

use std::ops::Range;

use crate::parameter_estimation::family::{P, Params};
use crate::parameter_estimation::study::Cell;
use tweedie::likelihood::mean_and_error;

/// Mean squared error of one replicate over a group of parameters.
fn square(errors: &Params, group: &Range<usize>) -> f64 {
    errors[group.clone()].iter().map(|e| e * e).sum::<f64>() / group.len() as f64
}

fn squares(cell: &Cell, group: &Range<usize>) -> Vec<f64> {
    cell.errors.iter().map(|e| square(e, group)).collect()
}

/// Root mean squared error over a group of parameters and replicates, and its standard error (delta
/// method).
pub(super) fn rmse(cell: &Cell, group: &Range<usize>) -> (f64, f64) {
    let (mean, error) = mean_and_error(&squares(cell, group));
    (mean.sqrt(), 0.5 * error / mean.sqrt())
}

/// Maximum likelihood's mean squared error over the cell's on the same data: the share of the data
/// that the estimator uses. With its standard error (delta method, paired).
pub(super) fn efficiency(cell: &Cell, exact: &Cell, group: &Range<usize>) -> (f64, f64) {
    let (own, best) = (squares(cell, group), squares(exact, group));
    let mean = mean_and_error(&own).0;
    let ratio = mean_and_error(&best).0 / mean;
    let residuals: Vec<f64> =
        best.iter().zip(&own).map(|(best, own)| (best - ratio * own) / mean).collect();
    (ratio, mean_and_error(&residuals).1)
}

/// `mean_j √(MSE_j/MSE_j of maximum likelihood)` over the parameters, and its standard error
/// (jackknife, paired).
pub(super) fn inefficiency(cell: &Cell, exact: &Cell) -> (f64, f64) {
    let sums = |cell: &Cell| -> Params {
        std::array::from_fn(|j| cell.errors.iter().map(|e| e[j] * e[j]).sum())
    };
    let (own, best, n) = (sums(cell), sums(exact), cell.errors.len());
    let mean = |own: &Params, best: &Params| {
        (0..P).map(|j| (own[j] / best[j]).sqrt()).sum::<f64>() / P as f64
    };
    let without =
        |sums: &Params, e: &Params| -> Params { std::array::from_fn(|j| sums[j] - e[j] * e[j]) };
    let left: Vec<f64> = (0..n)
        .map(|i| mean(&without(&own, &cell.errors[i]), &without(&best, &exact.errors[i])))
        .collect();
    (mean(&own, &best), mean_and_error(&left).1 * (n as f64 - 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameter_estimation::draws::Estimator;
    use crate::parameter_estimation::study::overlapping;
    use tweedie::noise::{Noise, Seed};
    use tweedie::tensor::to_vec;

    fn cell(seed: u64, replicates: usize, sd: f64) -> Cell {
        let z = Noise::new(Seed(seed), 0..replicates as u64).normal(
            P,
            tch::Kind::Double,
            tch::Device::Cpu,
        );
        let errors = to_vec(&(z * sd)).chunks(P).map(|row| row.try_into().unwrap()).collect();
        let estimator = Estimator::MaximumLikelihood;
        Cell {
            setting: overlapping(),
            n: 50,
            draws: 0,
            estimator,
            errors,
            unconverged: 0,
            degenerate: 0,
        }
    }

    /// Of normal errors of standard deviation 2 and 1: RMSE 2, efficiency ¼, inefficiency 2, each
    /// within four of its claimed errors, which are those of theory: `σ/√(2nm)` of an RMSE over n
    /// replicates of m parameters, `r √(4/(nm))` of a ratio of independent mean squares.
    #[test]
    fn normal_errors() {
        let (a, b) = (cell(1, 4000, 2.0), cell(2, 4000, 1.0));
        let near = |(value, error): (f64, f64), expected: f64, expected_error: f64| {
            assert!((value - expected).abs() < 4.0 * error, "{value} ± {error}, not {expected}");
            assert!((error / expected_error - 1.0).abs() < 0.1, "{error}, not {expected_error}");
        };
        near(rmse(&a, &(0..4)), 2.0, 2.0 / 32_000f64.sqrt());
        near(efficiency(&a, &b, &(0..4)), 0.25, 0.25 * (4.0 / 16_000f64).sqrt());
        near(inefficiency(&a, &b), 2.0, (4.0 / (4.0 * 4000.0 * P as f64) * 4.0).sqrt());
    }
}
