//! Expectation–maximisation for Gaussian mixtures with full covariances, in batched products.
//!
//! Two things keep large mixtures from overfitting: every covariance is drawn towards the one that the components have
//! in common, as if by a few rows more, and of all iterations the one that is best on held-out rows is kept.

use tch::{Device, Kind, Tensor};

use crate::Result;
use crate::oracle::GaussianMixture;
use crate::tensor::sum_over;

const F64: (Kind, Device) = (Kind::Double, Device::Cpu);
const MOST_ITERATIONS: usize = 100;
/// Iterations without a gain of `GAIN` nats per held-out row after which the search ends.
const PATIENCE: usize = 15;
const GAIN: f64 = 1e-3;
/// Added to every variance, of standardised data.
const RIDGE: f64 = 1e-6;

/// A mixture of `components` fitted to `rows` `[n, d]`, with its mean log-density on `held_out` rows; all f64 on the CPU.
/// It grows out of a `smaller` one, or out of a single component, by splitting the heaviest components in two. `prior`
/// is the number of rows for which the common covariance counts in every component. The search ends with the best so far
/// when `go_on` says no. An error where a covariance is not positive definite.
pub(super) fn fit(
    rows: &Tensor,
    held_out: &Tensor,
    smaller: Option<&GaussianMixture>,
    components: usize,
    prior: f64,
    go_on: &dyn Fn() -> bool,
) -> Result<(f64, GaussianMixture)> {
    let mut responsibilities = match smaller {
        Some(smaller) => smaller.responsibilities(rows),
        None => Tensor::ones([rows.size()[0], 1], F64),
    };
    while responsibilities.size()[1] < components as i64 {
        let mixture = maximise(rows, &responsibilities, prior)?;
        responsibilities = split(rows, &mixture, components as i64);
    }
    let (mut best, mut idle) = (None::<(f64, GaussianMixture)>, 0);
    for _ in 0..MOST_ITERATIONS {
        let mixture = maximise(rows, &responsibilities, prior)?;
        responsibilities = mixture.responsibilities(rows);
        let score = mixture.log_density(held_out).mean(None).double_value(&[]);
        if best.as_ref().is_none_or(|(b, _)| score > b + GAIN) {
            (best, idle) = (Some((score, mixture)), 0);
        } else {
            idle += 1;
        }
        if idle == PATIENCE || !go_on() {
            break;
        }
    }
    Ok(best.expect("at least one iteration"))
}

/// Responsibilities `[n, K']` of a mixture whose heaviest components are cut in two across their longest axis; at most
/// `most` components.
fn split(rows: &Tensor, mixture: &GaussianMixture, most: i64) -> Tensor {
    let each = mixture.responsibilities(rows);
    let k = each.size()[1];
    let heaviest = sum_over(&each, 0).argsort(0, true).narrow(0, 0, k.min(most - k));
    let above = mixture.along_longest_axis(rows).index_select(1, &heaviest).gt(0.0).to_kind(Kind::Double);
    let halves = each.index_select(1, &heaviest) * above;
    Tensor::cat(&[&each.index_add(1, &heaviest, &-&halves), &halves], 1)
}

/// The parameters that fit the rows best given each component's share in them, `[n, K]`.
fn maximise(rows: &Tensor, responsibilities: &Tensor, prior: f64) -> Result<GaussianMixture> {
    let ((n, d), k) = (rows.size2().expect("rows"), responsibilities.size()[1]);
    let counts = sum_over(responsibilities, 0) + 1e-10;
    let means = responsibilities.transpose(0, 1).matmul(rows) / counts.unsqueeze(-1);
    let mut scatter = Tensor::zeros([k, d * d], F64);
    let block = ((1 << 20) / (d * d)).max(1);
    for start in (0..n).step_by(block as usize) {
        let part = |x: &Tensor| x.narrow(0, start, block.min(n - start));
        let x = part(rows);
        let squares = (x.unsqueeze(2) * x.unsqueeze(1)).flatten(1, 2);
        scatter += part(responsibilities).transpose(0, 1).matmul(&squares);
    }
    let cube = counts.view([k, 1, 1]);
    let scatter = scatter.view([k, d, d]) - means.unsqueeze(2) * means.unsqueeze(1) * &cube;
    let common = sum_over(&scatter, 0) / n as f64;
    let covariances = (scatter + common * prior) / (cube + prior) + Tensor::eye(d, F64) * RIDGE;
    GaussianMixture::from_tensors(&(counts / n as f64), &means, &covariances)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::Seed;

    fn law() -> GaussianMixture {
        GaussianMixture::new(&[0.3, 0.5, 0.2], &[[-4.0, 0.0], [3.0, 1.0], [0.0, 5.0]], &[0.5, 1.0, 0.7])
            .unwrap()
    }

    /// With next to no prior every step of EM raises the likelihood of its own rows.
    #[test]
    fn every_iteration_gains() {
        let rows = law().sample(500, Seed(1));
        let one = maximise(&rows, &Tensor::ones([500, 1], F64), 0.0).unwrap();
        let mut responsibilities = split(&rows, &one, 2);
        responsibilities = split(&rows, &maximise(&rows, &responsibilities, 0.0).unwrap(), 4);
        let mut last = f64::NEG_INFINITY;
        for i in 0..20 {
            let mixture = maximise(&rows, &responsibilities, 0.0).unwrap();
            let now = mixture.log_density(&rows).mean(None).double_value(&[]);
            assert!(now > last - 1e-9, "iteration {i}: {now} after {last}");
            (responsibilities, last) = (mixture.responsibilities(&rows), now);
        }
    }

    /// The truth is found to within the error of the sample: 8 parameters or so per 4000 rows cost about 0.002 nats.
    #[test]
    fn finds_the_truth() {
        let (rows, held_out) = (law().sample(4000, Seed(3)), law().sample(4000, Seed(4)));
        let (score, mixture) = fit(&rows, &held_out, None, 3, 2.0, &|| true).unwrap();
        let truth = law().log_density(&held_out).mean(None).double_value(&[]);
        assert_eq!(mixture.components(), 3);
        assert!(score > truth - 0.01, "{score}, the truth has {truth}");
    }

    /// A component without rows takes the common covariance, and nothing fails.
    #[test]
    fn empty_components_do_no_harm() {
        let rows = Tensor::cat(
            &[law().sample(20, Seed(6)).narrow(0, 0, 1).expand([30, 2], false), law().sample(10, Seed(7))],
            0,
        );
        let (score, _) = fit(&rows, &law().sample(50, Seed(8)), None, 8, 2.0, &|| true).unwrap();
        assert!(score.is_finite());
    }
}
