//! The discretised decoder: probabilities of the levels of an image instead of densities.

use tch::{Kind, Tensor};

use crate::posterior::ForwardBridge;
use crate::schedule::Schedule;
use crate::tensor::sum_last;

/// `p(x_0|x_1) = Π_j ∫_{bin of x_0j} N(y; μ_0j, v) dy`, the decoder of DDPM (Ho et al. 2020, eq.
/// 13): the 256 levels lie at `−1, −1 + 2/255, …, 1`, a bin reaches 1/255 to both sides, and the
/// outermost are open. `v` is always the forward posterior's variance `β̃` of the chain's first
/// step given its second, whatever the covariance of the other steps (Analytic-DPM's and OCM's
/// protocol).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DiscreteDecoder {
    variance: f64,
}

/// Half the width of a bin, in the network's units.
const HALF_BIN: f64 = 1.0 / 255.0;

impl DiscreteDecoder {
    /// The decoder of a chain of `N` steps on `schedule`.
    pub fn new(schedule: &dyn Schedule) -> DiscreteDecoder {
        let step = schedule.horizon() / schedule.steps() as f64;
        let second = (2.0 * step).min(schedule.horizon());
        // a chain of one step has no second
        let variance =
            if second > step { ForwardBridge::new(schedule, step, second).variance } else { 1.0 };
        DiscreteDecoder { variance }
    }

    /// `ln p(x_0|x_1)` in nats, `[b]` in f64, for levels `x0` `[b, d]` and means `μ_0` `[b, d]`. No
    /// floor: far in the tails it is the logarithm of the difference of two normal tails, not of
    /// what is left of it in floating point.
    pub fn log_prob(&self, mean: &Tensor, x0: &Tensor) -> Tensor {
        let x0 = x0.to_kind(Kind::Double);
        let centred = &x0 - mean.to_kind(Kind::Double);
        let deviation = self.variance.sqrt();
        let below = ((&centred - HALF_BIN) / deviation)
            .masked_fill(&x0.lt(HALF_BIN - 1.0), f64::NEG_INFINITY);
        let above =
            ((&centred + HALF_BIN) / deviation).masked_fill(&x0.gt(1.0 - HALF_BIN), f64::INFINITY);
        sum_last(&log_normal_between(&below, &above))
    }
}

/// `ln[Φ(b) − Φ(a)]` for `a < b`, from the tail that is the lighter.
pub(crate) fn log_normal_between(a: &Tensor, b: &Tensor) -> Tensor {
    let mirror = (a + b).gt(0.0);
    let (low, high) = (b.neg().where_self(&mirror, a), a.neg().where_self(&mirror, b));
    let (low, high) = (low.special_log_ndtr(), high.special_log_ndtr());
    &high + (-(&low - &high).exp()).log1p()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::covariance::{Own, Reverse};
    use crate::grid::even_trajectory;
    use crate::likelihood::{Elbo, LogLikelihood};
    use crate::noise::Seed;
    use crate::oracle::{GaussianMixture, Oracle};
    use crate::query::Batch;
    use crate::schedule::{ScheduleConfig, StepLaw, Vp};

    /// β̃ of the linear chain by hand: β_1 = 1e-4, β_2 = 1e-4 + (0.02 − 1e-4)/999, β̃_2 = (1 − ᾱ_1)
    /// β_2/(1 − ᾱ_2).
    #[test]
    fn the_variance_is_that_of_the_second_step() {
        let chain = ScheduleConfig::Discrete {
            steps: 1000,
            law: StepLaw::Linear,
            beta_start: 1e-4,
            beta_end: 0.02,
        };
        let (first, second) = (1e-4, 1e-4 + 0.0199 / 999.0);
        let expected = first * second / (1.0 - (1.0 - first) * (1.0 - second));
        let found = DiscreteDecoder::new(&*chain.build().unwrap()).variance;
        assert!((found / expected - 1.0).abs() < 1e-9, "{found}, {expected}");
    }

    /// The probabilities of the 256 levels add up to 1, wherever the mean lies.
    #[test]
    fn levels_are_all_there_is() {
        let levels: Vec<f64> = (0..256).map(|level| (level as f64 - 127.5) / 127.5).collect();
        let levels = Tensor::from_slice(&levels).view([256, 1]);
        for variance in [5e-5, 1e-2, 1.0] {
            for mean in [-1.3, -1.0, -0.2, 0.004, 0.999] {
                let decoder = DiscreteDecoder { variance };
                let log_prob = decoder.log_prob(
                    &Tensor::full([256, 1], mean, (Kind::Double, levels.device())),
                    &levels,
                );
                let total = log_prob.exp().sum(Kind::Double).double_value(&[]);
                assert!((total - 1.0).abs() < 1e-12, "{total} at {mean}, {variance}");
                assert!(log_prob.isfinite().all().int64_value(&[]) == 1);
            }
        }
    }

    /// Deep in the tail `ln[Φ(b) − Φ(a)] ≈ ln φ(b) − ln|b|` for `b ≪ 0`: at b = −50, a = −60
    /// against the expansion `φ(b)/|b| (1 − 1/b² + 3/b⁴)`.
    #[test]
    fn tails_keep_their_digits() {
        let of = |x: f64| Tensor::from_slice(&[x]);
        let (a, b) = (-60.0, -50.0f64);
        let expected = -0.5 * b * b - 0.5 * crate::gaussian::LN_2PI - (-b).ln()
            + (1.0 - b.powi(-2) + 3.0 * b.powi(-4)).ln();
        for (low, high) in [(a, b), (-b, -a)] {
            let found = log_normal_between(&of(low), &of(high)).double_value(&[0]);
            assert!((found - expected).abs() < 1e-8, "{found}, {expected}");
        }
    }

    /// Gaussian data of sd 0.4, exact score and `G`: in 1000 steps the bound is below `ln P(level)`
    /// by the decoder's loss alone. The posterior variance of x_0 given x_1 is twice the decoder's
    /// for Vp's near-constant first steps, which costs ½ (2 − 1 − ln 2) = 0.15 nats per pixel, and
    /// the 1/256 bin adds its own variance.
    #[test]
    fn the_bound_is_close_for_gaussian_levels() {
        let data = GaussianMixture::new(&[1.0], &[[0.0, 0.0]], &[0.4]).unwrap();
        let data = Oracle::new(data, std::sync::Arc::new(Vp::default()));
        let levels: Vec<f64> =
            (0..400).map(|i| ((i * 61 % 256) as f64 * 0.4 + 77.0).round()).collect();
        let scaled: Vec<f64> = levels.iter().map(|level| (level - 127.5) / 127.5).collect();
        let x = Tensor::from_slice(&scaled).view([200, 2]);
        let grid = even_trajectory(&Vp::default(), 1000).unwrap();
        let elbo = Elbo::of_levels(Reverse::new(&data, Own, 1.0).unwrap(), grid, 1);
        let bound = elbo.log_likelihood(&Batch::of(&x), Seed(3), 0).unwrap();
        let exact: f64 = to_bins(&scaled).sum::<f64>() / 200.0;
        let (mean, error) = (bound.mean(), bound.std_error());
        assert!(mean < exact + 4.0 * error, "{mean} ± {error} above {exact}");
        assert!(mean > exact - 2.0 * 0.3 - 4.0 * error, "{mean} ± {error} far below {exact}");
    }

    fn to_bins(scaled: &[f64]) -> impl Iterator<Item = f64> + '_ {
        use statrs::distribution::{ContinuousCDF, Normal};
        let normal = Normal::new(0.0, 0.4).unwrap();
        scaled.iter().map(move |x| (normal.cdf(x + HALF_BIN) - normal.cdf(x - HALF_BIN)).ln())
    }
}
