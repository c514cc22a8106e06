//! Monotone maps of an interval to the line.

use std::f64::consts::{PI, SQRT_2};

use serde::{Deserialize, Serialize};
use statrs::function::erf::{erfc, erfc_inv};

use super::spline::decimal;

/// A half-line or an interval, and its strictly increasing map onto the line.
///
/// With the ends `a < b` it is `Φ⁻¹((x − a)/(b − a))`, so that a uniform distribution becomes the
/// standard normal; with one end the inverse of the softplus, `ln(eᵛ − 1)` of the distance
/// `v = (x − a)/scale`, which is nearly `v` far from the end and `ln v` near it; its negative of
/// `v = (b − x)/scale`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Interval {
    ends: [Option<f64>; 2],
    scale: f64,
    least: f64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    low: Option<f64>,
    high: Option<f64>,
    scale: f64,
    least: f64,
}

impl From<Interval> for Stored {
    fn from(interval: Interval) -> Stored {
        let Interval { ends: [low, high], scale, least } = interval;
        Stored { low, high, scale, least }
    }
}

impl TryFrom<Stored> for Interval {
    type Error = String;

    fn try_from(stored: Stored) -> Result<Interval, String> {
        let Stored { low, high, scale, least } = stored;
        Interval::new([low, high], scale, least)
    }
}

impl Interval {
    /// The interval between `ends`, of which one at least is there. `scale` is the unit of the
    /// distance from a single end. What is nearer to an end than `least` is taken for a value at
    /// that distance, as the end itself would be infinitely far out.
    ///
    /// # Errors
    /// What is wrong if there is no end, nothing between the ends, or a length is not positive.
    pub fn new(ends: [Option<f64>; 2], scale: f64, least: f64) -> Result<Interval, String> {
        let positive = |x: f64| x > 0.0 && x.is_normal();
        let finite = ends.iter().flatten().all(|end| end.is_finite());
        let room = match ends {
            [None, None] => 0.0,
            [Some(low), Some(high)] => high - low,
            _ => f64::MAX,
        };
        match finite && positive(scale) && positive(least) && room > 2.0 * least {
            // as a resumed run reads them, to the bit
            true => Ok(Interval {
                ends: ends.map(|end| end.map(decimal)),
                scale: decimal(scale),
                least: decimal(least),
            }),
            false => Err("an interval needs an end or two with room between them".into()),
        }
    }

    /// The image of `x` and the derivative there.
    pub fn forward(&self, x: f64) -> (f64, f64) {
        let Interval { ends, scale, least } = *self;
        let half_line = |distance: f64| {
            let v = distance.max(least) / scale;
            // ln(eᵛ − 1) without its overflow
            let complement = -(-v).exp_m1();
            (v + complement.ln(), 1.0 / (complement * scale))
        };
        match ends {
            [Some(low), Some(high)] => {
                let width = high - low;
                let below = (x - low).clamp(least, width - least);
                // of the nearer end, so that nothing cancels at the upper one
                let y = match 2.0 * below <= width {
                    true => -SQRT_2 * erfc_inv(2.0 * below / width),
                    false => SQRT_2 * erfc_inv(2.0 * (high - x).max(least) / width),
                };
                (y, (0.5 * y * y).exp() * (2.0 * PI).sqrt() / width)
            }
            [Some(low), None] => half_line(x - low),
            [None, high] => {
                let (y, slope) = half_line(high.unwrap_or(f64::INFINITY) - x);
                (-y, slope)
            }
        }
    }

    /// The point whose image is `y`: between the ends, whatever `y` is.
    pub fn inverse(&self, y: f64) -> f64 {
        let Interval { ends, scale, least } = *self;
        // ln(1 + eʸ) without its overflow
        let distance = |y: f64| (scale * (y.max(0.0) + (-y.abs()).exp().ln_1p())).max(least);
        match ends {
            [Some(low), Some(high)] => {
                let share = |y: f64| (0.5 * erfc(y / SQRT_2) * (high - low)).max(least);
                if y < 0.0 { low + share(-y) } else { high - share(y) }
            }
            [Some(low), None] => low + distance(y),
            [None, high] => high.unwrap_or(f64::INFINITY) - distance(-y),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDS: [[Option<f64>; 2]; 3] =
        [[Some(-2.0), Some(5.0)], [Some(-2.0), None], [None, Some(5.0)]];

    /// The inverse is one, and the slope is that of the map: by central differences.
    #[test]
    fn maps_are_inverted_and_their_slopes_are_right() {
        for ends in ENDS {
            let interval = Interval::new(ends, 1.5, 1e-9).unwrap();
            for x in [-1.999_99, -1.9, -0.3, 1.5, 2.2, 4.9, 4.999_99] {
                let (y, slope) = interval.forward(x);
                assert!((interval.inverse(y) - x).abs() < 1e-9, "{ends:?} {x}");
                let h = 1e-4 * (x + 2.0).min(5.0 - x);
                let rise = interval.forward(x + h).0 - interval.forward(x - h).0;
                assert!((rise / (2.0 * h) / slope - 1.0).abs() < 1e-6, "{ends:?} {x}");
            }
        }
    }

    /// What no map could reach is inside, and what is at an end is finite.
    #[test]
    fn nothing_is_outside() {
        for ends in ENDS {
            let interval = Interval::new(ends, 1.5, 1e-9).unwrap();
            for y in [-1e6, -40.0, 40.0, 1e6] {
                let x = interval.inverse(y);
                assert!(ends[0].is_none_or(|low| x > low), "{ends:?} {y} {x}");
                assert!(ends[1].is_none_or(|high| x < high), "{ends:?} {y} {x}");
            }
            for x in ends.into_iter().flatten() {
                let (y, slope) = interval.forward(x);
                assert!(y.is_finite() && slope.is_finite() && slope > 0.0);
            }
        }
    }

    /// A uniform distribution becomes the standard normal one.
    #[test]
    fn a_uniform_column_becomes_normal() {
        let interval = Interval::new([Some(0.0), Some(4.0)], 1.0, 1e-12).unwrap();
        let (n, mut moments) = (20_000, [0.0; 2]);
        for i in 0..n {
            let y = interval.forward(4.0 * (f64::from(i) + 0.5) / f64::from(n)).0;
            moments[0] += y * y / f64::from(n);
            moments[1] += y.powi(4) / f64::from(n);
        }
        assert!((moments[0] - 1.0).abs() < 1e-3 && (moments[1] - 3.0).abs() < 0.02, "{moments:?}");
    }

    #[test]
    fn it_survives_json_to_the_bit() {
        let interval = Interval::new([Some(-0.1 / 3.0), Some(2.0 / 7.0)], 1.0 / 3.0, 1e-7 / 3.0);
        let interval = interval.unwrap();
        let json = serde_json::to_string(&interval).unwrap();
        assert_eq!(serde_json::from_str::<Interval>(&json).unwrap(), interval);
        assert!(serde_json::from_str::<Interval>(&json.replace("low", "lower")).is_err());
    }

    #[test]
    fn what_is_no_interval_is_refused() {
        assert!(Interval::new([None, None], 1.0, 1e-9).is_err());
        assert!(Interval::new([Some(1.0), Some(1.0)], 1.0, 1e-9).is_err());
        assert!(Interval::new([Some(1.0), None], 0.0, 1e-9).is_err());
        assert!(Interval::new([Some(f64::NAN), None], 1.0, 1e-9).is_err());
    }
}
