//! A monotone map of the line: rational-quadratic between knots, linear outside.

use serde::{Deserialize, Serialize};
use statrs::function::erf::erfc_inv;

/// The largest slope, in units of the reciprocal of a column's spread: a steeper one would make an
/// atom of the data a gap in network units.
const MAX_SLOPE: f64 = 1e3;
/// The lesser of the tail probabilities beyond which there are no knots but the extremes.
const TAIL: f64 = 1e-3;

/// A strictly increasing C¹ map ℝ → ℝ with closed-form inverse.
///
/// Between knots `(x_k, y_k)` with slopes `s_k` it is the rational quadratic of Gregory and
/// Delbourgo (1982), as in Durkan et al., "Neural spline flows" (2019), eq. 4–8; below the first
/// and above the last knot it is linear.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Knots", into = "Knots")]
pub struct Spline {
    knots: Knots,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Knots {
    x: Vec<f64>,
    y: Vec<f64>,
    slope: Vec<f64>,
}

impl TryFrom<Knots> for Spline {
    type Error = String;

    fn try_from(knots: Knots) -> Result<Self, String> {
        let Knots { x, y, slope } = &knots;
        let increasing =
            |v: &[f64]| v.iter().all(|v| v.is_finite()) && v.windows(2).all(|w| w[0] < w[1]);
        let positive = slope.iter().all(|s| s.is_normal() && *s > 0.0);
        // what the map divides by, and multiplies with
        let chord = |i: usize| (y[i] - y[i - 1]) / (x[i] - x[i - 1]);
        let steep = |chord: f64| !(1e-100..1e100).contains(&chord);
        if x.len() < 2
            || x.len() != y.len()
            || x.len() != slope.len()
            || !increasing(x)
            || !increasing(y)
            || !positive
            || slope.iter().any(|s| steep(*s))
            || (1..x.len()).any(|i| steep(chord(i)))
        {
            return Err("a spline needs two or more increasing knots and as many positive slopes"
                .to_owned());
        }
        Ok(Spline { knots })
    }
}

impl From<Spline> for Knots {
    fn from(spline: Spline) -> Knots {
        spline.knots
    }
}

impl Spline {
    /// The spline through given knots.
    ///
    /// # Errors
    /// What is wrong if `x` or `y` does not increase, a slope is not positive, or the lengths
    /// differ.
    pub fn new(x: Vec<f64>, y: Vec<f64>, slope: Vec<f64>) -> Result<Spline, String> {
        Knots { x, y, slope }.try_into()
    }

    /// The map that makes `sorted` nearly standard normal: through (quantile, Φ⁻¹(rank)) at up to
    /// `knots` ranks evenly spaced in normal units, then recentred and rescaled so that the mapped
    /// values have mean 0, variance 1.
    ///
    /// Equal quantiles (atoms) share one knot at their middle rank. None if the values are all
    /// equal.
    pub(super) fn gaussianize(sorted: &[f64], knots: usize) -> Option<Spline> {
        let n = sorted.len() as f64;
        let (low, high) = (*sorted.first()?, *sorted.last()?);
        if low.is_nan() || high <= low {
            return None;
        }
        let quantile = |p: f64| {
            let at = (p * n - 0.5).clamp(0.0, n - 1.0);
            let (below, part) = (at.floor() as usize, at.fract());
            let above = (below + 1).min(sorted.len() - 1);
            sorted[below] + part * (sorted[above] - sorted[below])
        };
        let normal_rank = |x: f64| {
            let (less, up_to) =
                (sorted.partition_point(|v| *v < x), sorted.partition_point(|v| *v <= x));
            normal_quantile(((less + up_to) as f64 / (2.0 * n)).clamp(0.5 / n, 1.0 - 0.5 / n))
        };
        let spread = (quantile(0.841) - quantile(0.159)) / 2.0;
        let spread = if spread > 0.0 { spread } else { (high - low) / 4.0 };
        let steepest = MAX_SLOPE / spread;

        let inner = knots.saturating_sub(2).min(sorted.len() / 5);
        let edge = -normal_quantile((5.0 / n).clamp(TAIL, 0.25));
        let ranks = (0..inner).map(|k| edge * (2.0 * (k as f64 + 0.5) / inner as f64 - 1.0));
        let candidates = ranks.map(|z| quantile(normal_cdf(z))).map(|x| (x, normal_rank(x)));
        let last = (high, normal_rank(high));
        let mut points = vec![(low, normal_rank(low))];
        let fits = |a: (f64, f64), b: (f64, f64)| {
            b.0 > a.0 && b.1 > a.1 + 1e-6 && b.1 - a.1 <= steepest * (b.0 - a.0)
        };
        for point in candidates {
            if fits(points[points.len() - 1], point) {
                points.push(point);
            }
        }
        while points.len() > 1 && !fits(points[points.len() - 1], last) {
            points.pop();
        }
        points.push(last);
        let (x, y): (Vec<f64>, Vec<f64>) = points.into_iter().unzip();
        let slope = slopes(&x, &y);
        let raw = Spline::new(x, y, slope).ok()?;

        let mapped = || sorted.iter().map(|&v| raw.forward(v).0);
        let mean = mapped().sum::<f64>() / n;
        let sd = (mapped().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
        let Knots { x, mut y, mut slope } = raw.knots.clone();
        y.iter_mut().for_each(|y| *y = decimal((*y - mean) / sd));
        slope.iter_mut().for_each(|s| *s = decimal(*s / sd));
        let x = x.into_iter().map(decimal).collect();
        Spline::new(x, y, slope).ok()
    }

    /// The image of `x` and the derivative there.
    pub fn forward(&self, x: f64) -> (f64, f64) {
        let Knots { x: xs, y: ys, slope } = &self.knots;
        let last = xs.len() - 1;
        if x <= xs[0] {
            return (ys[0] + slope[0] * (x - xs[0]), slope[0]);
        }
        if x >= xs[last] {
            return (ys[last] + slope[last] * (x - xs[last]), slope[last]);
        }
        let k = xs.partition_point(|knot| *knot <= x).clamp(1, last) - 1;
        let (width, height) = (xs[k + 1] - xs[k], ys[k + 1] - ys[k]);
        let (s0, s1, chord) = (slope[k], slope[k + 1], height / width);
        let u = (x - xs[k]) / width;
        let v = 1.0 - u;
        let bottom = chord + (s0 + s1 - 2.0 * chord) * u * v;
        let y = ys[k] + height * (chord * u * u + s0 * u * v) / bottom;
        let ratio = chord / bottom;
        (y, ratio * ratio * (s1 * u * u + 2.0 * chord * u * v + s0 * v * v))
    }

    /// The point whose image is `y`.
    pub fn inverse(&self, y: f64) -> f64 {
        let Knots { x: xs, y: ys, slope } = &self.knots;
        let last = ys.len() - 1;
        if y <= ys[0] {
            return xs[0] + (y - ys[0]) / slope[0];
        }
        if y >= ys[last] {
            return xs[last] + (y - ys[last]) / slope[last];
        }
        let k = ys.partition_point(|knot| *knot <= y).clamp(1, last) - 1;
        let (width, height) = (xs[k + 1] - xs[k], ys[k + 1] - ys[k]);
        let (s0, s1, chord) = (slope[k], slope[k + 1], height / width);
        let rise = y - ys[k];
        let bend = s0 + s1 - 2.0 * chord;
        let a = height * (chord - s0) + rise * bend;
        let b = height * s0 - rise * bend;
        let c = -chord * rise;
        let root = (b * b - 4.0 * a * c).max(0.0).sqrt();
        let u = if b >= 0.0 { -2.0 * c / (b + root) } else { (root - b) / (2.0 * a) };
        let mut x = xs[k] + u.clamp(0.0, 1.0) * width;
        // One Newton step mends what cancels in the quadratic where slopes differ by orders of
        // magnitude.
        let (image, derivative) = self.forward(x);
        x = (x - (image - y) / derivative).clamp(xs[k], xs[k + 1]);
        x
    }
}

/// `value` to 15 digits, which every reader of JSON gives back to the bit (17 some do not), so that
/// a resumed run has the maps of the first.
pub(super) fn decimal(value: f64) -> f64 {
    format!("{value:.14e}").parse().unwrap_or(value)
}

/// Slopes at the knots: a geometric mean of the neighbouring chords, the nearer with the greater
/// weight.
fn slopes(x: &[f64], y: &[f64]) -> Vec<f64> {
    let width: Vec<f64> = x.windows(2).map(|w| w[1] - w[0]).collect();
    let chord: Vec<f64> = y.windows(2).zip(&width).map(|(w, dx)| (w[1] - w[0]) / dx).collect();
    let inner = (1..chord.len()).map(|k| {
        let weight = width[k] / (width[k - 1] + width[k]);
        (weight * chord[k - 1].ln() + (1.0 - weight) * chord[k].ln()).exp()
    });
    std::iter::once(chord[0]).chain(inner).chain(std::iter::once(chord[chord.len() - 1])).collect()
}

fn normal_quantile(p: f64) -> f64 {
    -std::f64::consts::SQRT_2 * erfc_inv(2.0 * p)
}

fn normal_cdf(z: f64) -> f64 {
    0.5 * statrs::function::erf::erfc(-z / std::f64::consts::SQRT_2)
}
