//! Fitting: EM for the exact likelihood, Levenberg–Marquardt on fixed draws for everything else,
//! from one start.

use rand::Rng;

use super::draws::{Drawer, Estimator, Sampling};
use super::family::{Diffused, Mixture, P, Params, Point, distance2};
use super::loss::{Draw, Form, Sum};

/// A fitted distribution and how the fit ended.
#[derive(Clone, Copy, Debug)]
pub struct Fit {
    /// The fitted parameters.
    pub mixture: Mixture,
    /// Whether the last step was below [`TOLERANCE`] standard errors.
    pub converged: bool,
    /// Whether a standard deviation or the weight ran into its bound.
    pub degenerate: bool,
}

/// A fit has converged when a step moves no parameter by more than this many units of `1/√n`.
pub const TOLERANCE: f64 = 1e-2;
/// Bounds of `ln s²`, relative to the data's own variance: a component neither collapses nor
/// explodes.
const LOG_VARIANCE: (f64, f64) = (-9.0, 2.0);
/// Bound of `|logit w|`.
const LOGIT: f64 = 6.0;

/// The start that every estimator shares: two means by Lloyd's algorithm, begun from the two halves
/// along the first principal axis, then the groups' moments and the groups' shares.
pub fn start(data: &[Point]) -> Mixture {
    let n = data.len() as f64;
    let mean = [0, 1].map(|j| data.iter().map(|x| x[j]).sum::<f64>() / n);
    let moment = |i: usize, j: usize| {
        data.iter().map(|x| (x[i] - mean[i]) * (x[j] - mean[j])).sum::<f64>() / n
    };
    let (xx, yy, xy) = (moment(0, 0), moment(1, 1), moment(0, 1));
    let angle = 0.5 * (2.0 * xy).atan2(xx - yy);
    let reach = (0.5 * (xx + yy)).sqrt();
    let offset = [reach * angle.cos(), reach * angle.sin()];
    let mut centres =
        [[mean[0] - offset[0], mean[1] - offset[1]], [mean[0] + offset[0], mean[1] + offset[1]]];
    let mut spread = [0.5 * (xx + yy); 2];
    let mut share = 0.5;
    for _ in 0..50 {
        let mut sums = [[0.0f64; 4]; 2];
        for x in data {
            let s = &mut sums[usize::from(distance2(*x, centres[1]) < distance2(*x, centres[0]))];
            for (total, term) in s.iter_mut().zip([1.0, x[0], x[1], x[0] * x[0] + x[1] * x[1]]) {
                *total += term;
            }
        }
        if sums.iter().any(|s| s[0] < 2.0) {
            break;
        }
        let before = centres;
        for (k, s) in sums.iter().enumerate() {
            centres[k] = [s[1] / s[0], s[2] / s[0]];
            let within = s[3] / s[0] - centres[k][0].powi(2) - centres[k][1].powi(2);
            spread[k] = (0.5 * within).max(1e-3 * (xx + yy));
        }
        share = sums[0][0] / n;
        if before == centres {
            break;
        }
    }
    let share = share.clamp(0.02, 0.98);
    Mixture {
        means: centres,
        log_variances: spread.map(f64::ln),
        logit: (share / (1.0 - share)).ln(),
    }
}

/// Maximum likelihood by EM from `start`: the likelihood never falls.
pub fn maximum_likelihood(data: &[Point], start: &Mixture) -> Fit {
    let n = data.len() as f64;
    let bounds = Bounds::of(data);
    let mut mixture = *start;
    let mut converged = false;
    for _ in 0..5000 {
        let v = mixture.log_variances.map(f64::exp);
        let mut sums = [[0.0f64; 4]; 2];
        for x in data {
            let q = [0, 1].map(|k| distance2(*x, mixture.means[k]) / (2.0 * v[k]));
            let odds =
                mixture.logit - mixture.log_variances[0] + mixture.log_variances[1] - q[0] + q[1];
            let r = 1.0 / (1.0 + (-odds).exp());
            for (s, r) in sums.iter_mut().zip([r, 1.0 - r]) {
                for (total, term) in s.iter_mut().zip([1.0, x[0], x[1], x[0] * x[0] + x[1] * x[1]])
                {
                    *total += r * term;
                }
            }
        }
        let mut next = mixture;
        for (k, s) in sums.iter().enumerate() {
            let m = [s[1] / s[0], s[2] / s[0]];
            next.means[k] = m;
            next.log_variances[k] =
                (0.5 * (s[3] / s[0] - m[0] * m[0] - m[1] * m[1])).max(1e-300).ln();
        }
        next.logit = (sums[0][0] / sums[1][0]).ln();
        let p = bounds.clamp(&next.params());
        let moved = largest_step(&p, &mixture.params(), bounds.scale);
        mixture = Mixture::from_params(&p);
        // EM's steps shrink slowly: a much smaller step than the others' tolerance
        if moved < 1e-3 * TOLERANCE / n.sqrt() {
            converged = true;
            break;
        }
    }
    Fit { mixture, converged, degenerate: bounds.touched(&mixture.params()) }
}

/// The minimum of the estimator's objective on `draws` draws per datum, approached through an
/// eighth as many.
pub fn fit(
    estimator: Estimator,
    drawer: &Drawer,
    data: &[Point],
    start: &Mixture,
    draws: usize,
    rng: &mut impl Rng,
) -> Fit {
    let bounds = Bounds::of(data);
    let mut batch = Vec::new();
    let mut mixture = *start;
    let (mut converged, mut hessian) = (false, None);
    let stages: &[usize] =
        if estimator.sampling() == Sampling::Once { &[draws] } else { &[draws.div_ceil(8), draws] };
    for (stage, &per_datum) in stages.iter().enumerate() {
        let scale = drawer.batch(data, per_datum, rng, &mut batch);
        let tolerance = if stage + 1 < stages.len() { 10.0 } else { 1.0 } * TOLERANCE
            / (data.len() as f64).sqrt();
        (mixture, converged) =
            minimise(estimator.form(), &batch, scale, &mixture, &bounds, tolerance, &mut hessian);
    }
    Fit { mixture, converged, degenerate: bounds.touched(&mixture.params()) }
}

/// Value, gradient and curvature per datum.
pub fn objective(form: Form, draws: &[Draw], scale: f64, mixture: &Mixture) -> Sum {
    let mut total = Sum::over(form, &Diffused::from(mixture), draws);
    total.value *= scale;
    total.gradient.iter_mut().for_each(|g| *g *= scale);
    total.curvature.iter_mut().flatten().for_each(|c| *c *= scale);
    total
}

/// A damped quasi-Newton search. The Hessian begins as the expected curvature, is taken anew after
/// long steps and improved by BFGS updates between short ones; `hessian` carries it from one batch
/// of draws to the next.
fn minimise(
    form: Form,
    draws: &[Draw],
    scale: f64,
    from: &Mixture,
    bounds: &Bounds,
    tolerance: f64,
    hessian: &mut Option<[Params; P]>,
) -> (Mixture, bool) {
    let mut mixture = *from;
    let mut here = objective(form, draws, scale, &mixture);
    let mut curvature = hessian.unwrap_or(here.curvature);
    let mut damping = 0.0;
    for _ in 0..80 {
        let p = mixture.params();
        let Some(step) = solve(&curvature, &here.gradient, damping) else {
            (curvature, damping) = (here.curvature, f64::max(4.0 * damping, 1e-3));
            continue;
        };
        // no step beyond half a standard deviation of the data, or a factor e^½ in variances and
        // odds
        let shorten = (0.5 / largest_step(&step, &[0.0; P], bounds.scale)).min(1.0);
        let next = bounds.clamp(&std::array::from_fn(|j| p[j] - shorten * step[j]));
        let moved = largest_step(&next, &p, bounds.scale);
        let there = objective(form, draws, scale, &Mixture::from_params(&next));
        if there.value <= here.value {
            if moved > LONG_STEP {
                curvature = there.curvature;
            } else {
                let s = std::array::from_fn(|j| next[j] - p[j]);
                let y = std::array::from_fn(|j| there.gradient[j] - here.gradient[j]);
                bfgs(&mut curvature, &s, &y);
            }
            (mixture, here) = (Mixture::from_params(&next), there);
            let undamped = damping < 0.1;
            damping = if damping < 1e-2 { 0.0 } else { 0.2 * damping };
            if moved < tolerance && undamped {
                *hessian = Some(curvature);
                return (mixture, true);
            }
        } else {
            if moved < 1e-3 * tolerance {
                return (mixture, true);
            }
            (curvature, damping) = (here.curvature, f64::max(4.0 * damping, 0.1));
        }
    }
    (mixture, false)
}

/// Steps longer than this (standard deviations of the data; log units) say little about the
/// Hessian.
const LONG_STEP: f64 = 0.1;

/// The BFGS update of a Hessian by a step `s` and the gradient's change `y`, skipped where
/// curvature is lost.
fn bfgs(hessian: &mut [Params; P], s: &Params, y: &Params) {
    let hs: Params = std::array::from_fn(|a| (0..P).map(|b| hessian[a][b] * s[b]).sum());
    let shs: f64 = (0..P).map(|a| s[a] * hs[a]).sum();
    let ys: f64 = (0..P).map(|a| s[a] * y[a]).sum();
    if ys.is_nan() || ys < 0.05 * shs {
        return;
    }
    for a in 0..P {
        for b in 0..P {
            hessian[a][b] += y[a] * y[b] / ys - hs[a] * hs[b] / shs;
        }
    }
}

/// The limits of the search, in units of the data's own spread.
struct Bounds {
    log_variance: (f64, f64),
    scale: f64,
}

impl Bounds {
    fn of(data: &[Point]) -> Bounds {
        let n = data.len() as f64;
        let variance: f64 = (0..2)
            .map(|j| {
                let mean = data.iter().map(|x| x[j]).sum::<f64>() / n;
                data.iter().map(|x| (x[j] - mean).powi(2)).sum::<f64>() / n
            })
            .sum::<f64>()
            / 2.0;
        let centre = variance.ln();
        Bounds {
            log_variance: (centre + LOG_VARIANCE.0, centre + LOG_VARIANCE.1),
            scale: variance.sqrt(),
        }
    }

    fn clamp(&self, p: &Params) -> Params {
        let mut p = *p;
        for l in &mut p[4..6] {
            *l = l.clamp(self.log_variance.0, self.log_variance.1);
        }
        p[6] = p[6].clamp(-LOGIT, LOGIT);
        p
    }

    fn touched(&self, p: &Params) -> bool {
        p[4..6].iter().any(|l| *l <= self.log_variance.0 || *l >= self.log_variance.1)
            || p[6].abs() >= LOGIT
    }
}

/// The largest move among means (in units of `scale`), log-variances and log-odds.
fn largest_step(a: &Params, b: &Params, scale: f64) -> f64 {
    (0..P).map(|j| (a[j] - b[j]).abs() / if j < 4 { scale } else { 1.0 }).fold(0.0, f64::max)
}

/// `(C + damping·diag C)⁻¹ g` by Cholesky; `None` where the matrix is not positive definite.
pub fn solve(c: &[Params; P], g: &Params, damping: f64) -> Option<Params> {
    let mut l = [[0.0; P]; P];
    for i in 0..P {
        for j in 0..=i {
            let mut sum = c[i][j];
            if i == j {
                sum *= 1.0 + damping + 1e-12;
            }
            for k in 0..j {
                sum -= l[i][k] * l[j][k];
            }
            if i == j {
                if sum.is_nan() || sum <= 0.0 {
                    return None;
                }
                l[i][i] = sum.sqrt();
            } else {
                l[i][j] = sum / l[j][j];
            }
        }
    }
    let mut y = *g;
    for i in 0..P {
        for k in 0..i {
            y[i] -= l[i][k] * y[k];
        }
        y[i] /= l[i][i];
    }
    for i in (0..P).rev() {
        for k in i + 1..P {
            y[i] -= l[k][i] * y[k];
        }
        y[i] /= l[i][i];
    }
    Some(y)
}
