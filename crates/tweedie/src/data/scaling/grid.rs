//! Regular grids, on which the values of a discrete column lie.

use serde::{Deserialize, Serialize};

use super::spline::decimal;

/// The most steps of a regular grid of a float column: finer ones are the grid of `f32`
/// itself.
const GRID_STEPS: f64 = (1 << 21) as f64;
/// Decimals of a grid's step at most.
const MOST_DECIMALS: i32 = 6;

/// A regular grid on which the values of a dequantised column lie.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Grid {
    /// The step; noise of this width, centred, is added to a value.
    pub bin: f64,
    /// One of the grid's points.
    pub origin: f64,
}

/// The coarsest regular grid on which all values lie, within single precision: of
/// decimal steps first, so that prices in cents are whole numbers of cents however far apart they
/// are, else with the smallest gap between values as its step.
pub(in crate::data) fn regular_grid(mut values: Vec<f64>) -> Option<Grid> {
    values.sort_unstable_by(f64::total_cmp);
    values.dedup();
    let (low, high) = (*values.first()?, *values.last()?);
    let rounding = 2.0 * f64::from(f32::EPSILON) * low.abs().max(high.abs());
    let mut gaps: Vec<f64> = values.windows(2).map(|w| w[1] - w[0]).collect();
    let gap = gaps.iter().copied().min_by(f64::total_cmp)?;
    if rounding > 0.1 * gap || (high - low) / gap > GRID_STEPS {
        return None;
    }
    let on_grid = |origin: f64, bin: f64| {
        let off = |v: &f64| (v - origin - bin * ((v - origin) / bin).round()).abs();
        values.iter().all(|v| off(v) <= rounding + 1e-6 * bin)
    };
    for decimals in 0..=MOST_DECIMALS {
        let unit = 10_f64.powi(decimals);
        if rounding * unit > 0.1 || (high - low) * unit > GRID_STEPS || !on_grid(0.0, 1.0 / unit) {
            continue;
        }
        let in_units = |v: f64| (v * unit).round() as i64;
        let steps =
            values.iter().fold(0, |all, &v| gcd(all, (in_units(v) - in_units(low)).unsigned_abs()));
        // divided, not multiplied, so that both are the nearest numbers to their decimals
        return Some(Grid { bin: steps as f64 / unit, origin: in_units(low) as f64 / unit });
    }
    // Every gap carries a rounding error. The step is estimated from more and more of them, the
    // smallest first, so that the number of steps in a wide one is right.
    gaps.sort_unstable_by(f64::total_cmp);
    let (mut length, mut steps) = (0.0, 0.0);
    for gap in gaps {
        let bin = if steps > 0.0 { length / steps } else { gap };
        (length, steps) = (length + gap, steps + (gap / bin).round());
    }
    let bin = (high - low) / steps;
    let short: f64 = format!("{bin:.5e}").parse().ok()?;
    let bin = [short, decimal(bin)].into_iter().find(|&bin| on_grid(low, bin))?;
    Some(Grid { bin, origin: decimal(low) })
}

/// The greatest common divisor.
fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid(values: &[f32]) -> Option<(f64, f64)> {
        regular_grid(values.iter().map(|&v| v.into()).collect()).map(|g| (g.bin, g.origin))
    }

    /// Steps and origins are the nearest numbers to their decimals, so that points print as they
    /// were written.
    #[test]
    fn decimal_grids_are_exact() {
        assert_eq!(grid(&[0.0, 10.0, 100.01, 100.02, 1.0, 2.0]), Some((0.01, 0.0)));
        assert_eq!(grid(&[36.0, 36.6, 37.1, 36.8, 35.2]), Some((0.1, 35.2)));
        assert_eq!(grid(&[-0.5, 0.0, 2.5]), Some((0.5, -0.5)));
        assert_eq!(grid(&[19.99, 1299.99, 5.49]), Some((0.5, 5.49)));
        assert_eq!(grid(&[1e5, 1e5 + 0.25, 1e5 + 0.5]), Some((0.25, 1e5)));
        let bin = 1.0 / 3.0;
        let thirds: Vec<f32> =
            [0, 1, 5, 300, 301, 2000].iter().map(|&i| (f64::from(i) * bin) as f32).collect();
        assert!((grid(&thirds).unwrap().0 - bin).abs() < 1e-6);
    }

    #[test]
    fn what_is_no_grid_is_refused() {
        assert_eq!(grid(&[1.0]), None);
        assert_eq!(grid(&[2.0, 3.0, std::f32::consts::PI]), None);
        // cents of a million are finer than single precision there
        assert_eq!(grid(&[1_234_567.9, 1_234_567.0, 10.01]), None);
    }
}
