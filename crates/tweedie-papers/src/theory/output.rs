//! The distribution that a sampler of a density on the line puts out, without drawing from it:
//! every step is an integral operator on a grid of points.

use std::f64::consts::TAU;

use tch::Tensor;

use tweedie::covariance::Reverse;
use tweedie::model::Denoiser;
use tweedie::noise::{Noise, Seed};
use tweedie::oracle::Oracle;
use tweedie::posterior::Bridge;
use tweedie::query::{Query, Times};
use tweedie::tensor::to_vec;
use tweedie::{Error, Result};

/// How far the distribution of a sampler's `x_{t_1}` is from the data's there.
#[derive(Clone, Copy, Debug)]
pub struct Distance {
    /// `½∫|p − q|`.
    pub total_variation: f64,
    /// `KL(q ‖ p) = ∫[q ln(q/p) − q + p]`, nats.
    pub divergence: f64,
    /// `|∫p − 1|`: what quadrature and the ends of the axis lose.
    pub lost: f64,
}

/// Even points of the line; the sum over them times their spacing is the integral.
#[derive(Clone, Debug)]
struct Axis {
    points: Vec<f64>,
    spacing: f64,
}

/// Points lie at most so far apart, and at the chain's end, where absolute differences are
/// integrated, a quarter of it.
const SPACING: f64 = 0.02;
/// … and at most so many standard deviations of the step from there: the trapezoidal rule is then
/// off by `2 e^{−2π²/0.75²} < 1e-14`.
const PER_DEVIATION: f64 = 0.75;
/// Standard deviations to which components are followed; and what is left of N(0, 1), which steps
/// that are too long spread, to twice as many.
const REACH: f64 = 8.0;

impl Axis {
    fn new(end: f64, spacing: f64) -> Axis {
        let half = (end / spacing).ceil() as i64;
        Axis { points: (-half..=half).map(|i| i as f64 * spacing).collect(), spacing }
    }

    fn column(&self) -> Tensor {
        Tensor::from_slice(&self.points).view([-1, 1])
    }
}

/// The points at every time of a grid: finer where the step from there is shorter.
#[derive(Debug)]
pub(super) struct Axes(Vec<Axis>);

impl Axes {
    /// For chains over `grid`, `t_1 < … < t_K`.
    pub(super) fn new(oracle: &Oracle, grid: &[f64]) -> Axes {
        Axes::finer(oracle, grid, 1.0)
    }

    /// With so many times as many points.
    pub(super) fn finer(oracle: &Oracle, grid: &[f64], times: f64) -> Axes {
        let (schedule, mixture) = (oracle.space().schedule(), oracle.mixture.parameters());
        let components = mixture.means.iter().zip(&mixture.covariances);
        let end =
            components.map(|(m, s)| m[0].abs() + REACH * s[0].sqrt()).fold(2.0 * REACH, f64::max);
        // the least variance that a reverse step can have
        let of_step =
            |gap: &[f64]| PER_DEVIATION * Bridge::new(schedule, gap[0], gap[1], 1.0).lambda2.sqrt();
        let spacings = std::iter::once(0.25 * SPACING).chain(grid.windows(2).map(of_step));
        Axes(spacings.map(|spacing| Axis::new(end, spacing.min(SPACING) / times)).collect())
    }

    /// `∫ f(x) p(x) dx` of a density at the first time.
    #[cfg(test)]
    pub(super) fn mean(&self, density: &[f64], f: impl Fn(f64) -> f64) -> f64 {
        let Axis { points, spacing } = &self.0[0];
        spacing * points.iter().zip(density).map(|(&x, p)| f(x) * p).sum::<f64>()
    }
}

/// The density of `x_{t_1}` after the steps of `grid` (`t_1 < … < t_K`) from `N(0, σ_T²)`, at the
/// points of the first axis: `p_s(y) = ∫ p_t(x) N(y; m(x), v(x)) dx` step by step. Of `d = 1`.
///
/// # Errors
/// If a variance is not positive.
pub(super) fn density(reverse: &Reverse, grid: &[f64], Axes(axes): &Axes) -> Result<Vec<f64>> {
    assert_eq!(grid.len(), axes.len(), "an axis for each time");
    let schedule = reverse.model().space().schedule();
    let last = grid.len() - 1;
    let variance = schedule.sigma2(grid[last]);
    let factor = (TAU * variance).sqrt().recip();
    let mut density: Vec<f64> =
        axes[last].points.iter().map(|x| factor * (-0.5 * x * x / variance).exp()).collect();
    for i in (0..last).rev() {
        let (from, to, n) = (&axes[i + 1], &axes[i], density.len());
        let mut streams = Noise::new(Seed(0), 0..n as u64);
        let (s, t, x) = (Times::All(grid[i]), Times::All(grid[i + 1]), from.column());
        let step = reverse.at(&Query::new(&x, &t), &s, &mut streams);
        let (means, variances) = (to_vec(&step.mean), to_vec(&step.cov.diagonal()));
        let mut next = vec![0.0; to.points.len()];
        for ((&mass, mean), variance) in density.iter().zip(means).zip(variances) {
            // NaN too
            if !(variance > 0.0 && mean.is_finite()) {
                let problem =
                    format!("a step from t = {:.3e} has the variance {variance:.3e}", grid[i + 1]);
                return Err(Error::numeric(problem, "take more steps, or smaller perturbations"));
            }
            add_normal(&mut next, mass * from.spacing, mean, variance, to);
        }
        density = next;
    }
    Ok(density)
}

/// Below this a density is not followed.
const NEGLIGIBLE: f64 = 1e-40;

/// Adds `mass · N(y; mean, variance)` at the axis' points, outwards from the middle by two products
/// each: with `y_j = y_0 + jΔ`, `N(y_{j+1})/N(y_j)` falls by the factor `e^{−Δ²/v}` from point to
/// point.
fn add_normal(to: &mut [f64], mass: f64, mean: f64, variance: f64, axis: &Axis) {
    if mass < NEGLIGIBLE {
        return;
    }
    let last = to.len() - 1;
    let middle = ((mean - axis.points[0]) / axis.spacing).round().clamp(0.0, last as f64) as usize;
    let offset = axis.points[middle] - mean;
    let peak = mass * (TAU * variance).sqrt().recip() * (-0.5 * offset * offset / variance).exp();
    let fall = (-axis.spacing * axis.spacing / variance).exp();
    to[middle] += peak;
    let ratio = |direction: f64| {
        (-(axis.spacing * (direction * offset + 0.5 * axis.spacing)) / variance).exp()
    };
    let (mut value, mut factor) = (peak, ratio(1.0));
    for to in &mut to[middle + 1..] {
        value *= factor;
        factor *= fall;
        *to += value;
        if value < NEGLIGIBLE {
            break;
        }
    }
    (value, factor) = (peak, ratio(-1.0));
    for to in to[..middle].iter_mut().rev() {
        value *= factor;
        factor *= fall;
        *to += value;
        if value < NEGLIGIBLE {
            break;
        }
    }
}

/// The distances of a sampler's distribution at the first time of `grid` from the data's there.
///
/// # Errors
/// As [`density`].
pub(super) fn distance(
    oracle: &Oracle,
    reverse: &Reverse,
    grid: &[f64],
    axes: &Axes,
) -> Result<Distance> {
    let (p, axis) = (density(reverse, grid, axes)?, &axes.0[0]);
    let (schedule, t) = (oracle.space().schedule(), Times::All(grid[0]));
    let q = to_vec(&oracle.mixture.log_density_at(&axis.column(), schedule, &t).exp());
    let sum = |f: &dyn Fn(f64, f64) -> f64| {
        axis.spacing * p.iter().zip(&q).map(|(&p, &q)| f(p, q)).sum::<f64>()
    };
    // where q is negligible, p is what is left
    let divergence =
        |p: f64, q: f64| if q > NEGLIGIBLE { q * (q / p.max(NEGLIGIBLE)).ln() - q + p } else { p };
    Ok(Distance {
        total_variation: 0.5 * sum(&|p, q| (p - q).abs()),
        divergence: sum(&divergence),
        lost: (sum(&|p, _| p) - 1.0).abs(),
    })
}
