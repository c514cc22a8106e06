//! A monotone map of the line: rational-quadratic between knots, linear outside.

use serde::{Deserialize, Serialize};
use statrs::function::erf::erfc_inv;

/// The largest slope, in units of the reciprocal of a column's spread: a steeper one would make an
/// atom of the data a gap in network units.
const MAX_SLOPE: f64 = 1e3;
/// The lesser of the tail probabilities beyond which there are no knots but the extremes.
const TAIL: f64 = 1e-3;
/// Rows by which each level of a grid counts besides those that it has.
const LEVEL_ROWS: f64 = 0.5;

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
        let normal_rank = |x: f64| {
            let (less, up_to) =
                (sorted.partition_point(|v| *v < x), sorted.partition_point(|v| *v <= x));
            normal_quantile(((less + up_to) as f64 / (2.0 * n)).clamp(0.5 / n, 1.0 - 0.5 / n))
        };
        let inner = even_quantiles(sorted, knots).into_iter().map(|x| (x, normal_rank(x)));
        let points = kept(
            (low, normal_rank(low)),
            inner,
            (high, normal_rank(high)),
            MAX_SLOPE / spread(sorted),
        );
        through(points, sorted)
    }

    /// As [`Spline::gaussianize`], of values on a grid with the noise within their bins: `sorted`
    /// are such values, `edges` the edges of all bins from the lowest to the highest. There is a
    /// knot at every edge besides, so that levels that the data leave out are left out: each bin has
    /// the mass of half a row more than it has.
    pub(super) fn gaussianize_levels(
        sorted: &[f64],
        edges: &[f64],
        knots: usize,
    ) -> Option<Spline> {
        let [low, .., high] = edges else { return None };
        let bins = (edges.len() - 1) as f64;
        let (n, width) = (sorted.len() as f64, high - low);
        let normal_rank = |x: f64| {
            let below = sorted.partition_point(|v| *v < x) as f64;
            let extra = LEVEL_ROWS * bins * ((x - low) / width);
            let rank = (below + extra) / (n + LEVEL_ROWS * bins);
            normal_quantile(rank.clamp(0.25 / n, 1.0 - 0.25 / n))
        };
        let mut inner = even_quantiles(sorted, knots);
        // knots of quantiles within a bin stay clear of its edges
        let bin = width / bins;
        inner.retain(|x| {
            let part = ((x - low) / bin).fract();
            (0.1..0.9).contains(&part)
        });
        inner.extend(&edges[1..edges.len() - 1]);
        inner.sort_unstable_by(f64::total_cmp);
        let inner = inner.into_iter().map(|x| (x, normal_rank(x)));
        let ends = [*low, *high].map(|x| (x, normal_rank(x)));
        through(kept(ends[0], inner, ends[1], MAX_SLOPE / spread(sorted)), sorted)
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

/// What the value at share `p` of `sorted` is.
fn quantile(sorted: &[f64], p: f64) -> f64 {
    let n = sorted.len() as f64;
    let at = (p * n - 0.5).clamp(0.0, n - 1.0);
    let (below, part) = (at.floor() as usize, at.fract());
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + part * (sorted[above] - sorted[below])
}

/// Half the range of the middle two thirds, or of all if that is none.
fn spread(sorted: &[f64]) -> f64 {
    let spread = (quantile(sorted, 0.841) - quantile(sorted, 0.159)) / 2.0;
    match spread > 0.0 {
        true => spread,
        false => (sorted[sorted.len() - 1] - sorted[0]) / 4.0,
    }
}

/// Quantiles at ranks evenly spaced in normal units, two fewer than `knots` at most.
fn even_quantiles(sorted: &[f64], knots: usize) -> Vec<f64> {
    let inner = knots.saturating_sub(2).min(sorted.len() / 5);
    let edge = -normal_quantile((5.0 / sorted.len() as f64).clamp(TAIL, 0.25));
    let ranks = (0..inner).map(|k| edge * (2.0 * (k as f64 + 0.5) / inner as f64 - 1.0));
    ranks.map(|z| quantile(sorted, normal_cdf(z))).collect()
}

/// The points that increase, no chord steeper than `steepest`, from `first` to `last`.
fn kept(
    first: (f64, f64),
    inner: impl Iterator<Item = (f64, f64)>,
    last: (f64, f64),
    steepest: f64,
) -> Vec<(f64, f64)> {
    let fits = |a: (f64, f64), b: (f64, f64)| {
        b.0 > a.0 && b.1 > a.1 + 1e-6 && b.1 - a.1 <= steepest * (b.0 - a.0)
    };
    let mut points = vec![first];
    for point in inner {
        if fits(points[points.len() - 1], point) {
            points.push(point);
        }
    }
    while points.len() > 1 && !fits(points[points.len() - 1], last) {
        points.pop();
    }
    points.push(last);
    points
}

/// The spline through `points`, recentred and rescaled so that the images of `sorted` have mean 0
/// and variance 1.
fn through(points: Vec<(f64, f64)>, sorted: &[f64]) -> Option<Spline> {
    let n = sorted.len() as f64;
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

pub(super) fn normal_cdf(z: f64) -> f64 {
    0.5 * statrs::function::erf::erfc(-z / std::f64::consts::SQRT_2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::scaling::fit::gaussianized;
    use crate::data::scaling::{ColumnScaling, Grid};

    const GRID: Option<Grid> = Some(Grid { bin: 1.0, origin: 0.0 });

    fn spline(values: Vec<f64>) -> Spline {
        match gaussianized(values, GRID, 64) {
            Some(ColumnScaling::Gaussianize(spline)) => spline,
            other => panic!("{other:?}"),
        }
    }

    /// Levels that the data leave out have next to no probability, and every other about its share
    /// of the rows: the tenth that it loses, at most, is next to levels that are left out.
    #[test]
    fn levels_that_are_left_out_are_left_out() {
        // 40 … 99 without every third, later ones the rarer
        let levels: Vec<u32> = (40..100).filter(|level| level % 3 != 0).collect();
        let count = |level: u32| 200 - level as usize;
        let values: Vec<f64> = levels.iter().flat_map(|&l| vec![f64::from(l); count(l)]).collect();
        let n = values.len() as f64;
        let spline = spline(values);
        let below = |x: f64| normal_cdf(spline.forward(x).0);
        for level in 41..99 {
            let found = below(f64::from(level) + 0.5) - below(f64::from(level) - 0.5);
            match level % 3 {
                0 => assert!(found < 1.0 / n, "{level}: {found}"),
                _ => {
                    let share = count(level) as f64 / n;
                    assert!((found / share - 1.0).abs() < 0.1, "{level}: {found} {share}");
                }
            }
        }
        for x in [39.7, 40.0, 41.5, 70.2, 99.4] {
            assert!((spline.inverse(spline.forward(x).0) - x).abs() < 1e-9);
        }
    }

    /// A column with a level that many rows have keeps a smooth map: no more knots than asked for.
    #[test]
    fn heavy_levels_are_no_steps() {
        let values = |zeros: usize| -> Vec<f64> {
            (0..zeros).map(|_| 0.0).chain((0..900).map(|i| f64::from(i % 90))).collect()
        };
        assert!(spline(values(600)).knots.x.len() <= 64);
        assert!(spline(values(10)).knots.x.len() > 91);
    }
}
