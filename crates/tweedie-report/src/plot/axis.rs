//! One axis: from values to pixels, and the ticks a reader expects.

use super::svg::text_width;
use crate::number::{alike, short};

/// How an axis spaces its values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scale {
    /// Spaced evenly.
    #[default]
    Linear,
    /// Spaced by their logarithm; values that are not positive are skipped and counted.
    Log,
}

impl Scale {
    /// Whether `value` has a place on such an axis.
    pub(crate) fn admits(self, value: f64) -> bool {
        value.is_finite() && (self == Scale::Linear || value > 0.0)
    }

    fn apply(self, value: f64) -> f64 {
        match self {
            Scale::Linear => value,
            Scale::Log => value.max(f64::MIN_POSITIVE).log10(),
        }
    }
}

/// A scale, the range shown and the pixels it is shown on.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    scale: Scale,
    /// The values at the two ends, `lo < hi`.
    pub(crate) lo: f64,
    pub(crate) hi: f64,
    /// The pixels of `lo` and `hi`.
    from: f64,
    to: f64,
}

impl Axis {
    /// An axis that shows all of `range` and a little more (`pad`, a part of the range) on each
    /// side.
    pub(crate) fn new(scale: Scale, range: Option<(f64, f64)>, pad: f64) -> Axis {
        let fallback = if scale == Scale::Log { (1.0, 10.0) } else { (0.0, 1.0) };
        let (lo, hi) =
            range.filter(|&(lo, hi)| scale.admits(lo) && scale.admits(hi)).unwrap_or(fallback);
        let (mut lo, mut hi) = (scale.apply(lo.min(hi)), scale.apply(lo.max(hi)));
        let least = (lo.abs().max(hi.abs()) * 1e-9).max(1e-300);
        if hi - lo < least {
            // One value: room on both sides.
            let room =
                if scale == Scale::Log { 0.3 } else { (0.1 * lo.abs()).max(least).max(1e-12) };
            let room = if lo == 0.0 && scale == Scale::Linear { 1.0 } else { room };
            (lo, hi) = (lo - room, hi + room);
        }
        let more = pad * (hi - lo);
        (lo, hi) = (lo - more, hi + more);
        if scale == Scale::Log {
            (lo, hi) = (10f64.powf(lo.max(-300.0)), 10f64.powf(hi.min(300.0)));
        }
        Axis { scale, lo, hi, from: 0.0, to: 1.0 }
    }

    /// The same axis on the pixels from `from` (of the lowest value) to `to`.
    pub(crate) fn on(mut self, from: f64, to: f64) -> Axis {
        (self.from, self.to) = (from, to);
        self
    }

    /// The pixel of `value`; far values are held near, so that coordinates stay finite and short.
    pub(crate) fn place(&self, value: f64) -> f64 {
        let (lo, hi) = (self.scale.apply(self.lo), self.scale.apply(self.hi));
        let part = ((self.scale.apply(value) - lo) / (hi - lo)).clamp(-20.0, 20.0);
        self.from + part * (self.to - self.from)
    }

    /// Whether `value` has a place on the axis' scale.
    pub(crate) fn admits(&self, value: f64) -> bool {
        self.scale.admits(value)
    }

    /// Whether `value` is between the ends.
    pub(crate) fn shows(&self, value: f64) -> bool {
        let slack = 1e-9 * (self.hi - self.lo);
        value >= self.lo - slack && value <= self.hi + slack
    }

    /// About `count` ticks with their labels.
    pub(crate) fn ticks(&self, count: usize) -> Vec<(f64, String)> {
        let values = match self.scale {
            Scale::Linear => linear_ticks(self.lo, self.hi, count),
            Scale::Log => log_ticks(self.lo, self.hi, count),
        };
        self.label(&values)
    }

    /// Those of `values` that the axis shows, with labels that agree in form.
    pub(crate) fn label(&self, values: &[f64]) -> Vec<(f64, String)> {
        let shown: Vec<f64> = values.iter().copied().filter(|&v| self.shows(v)).collect();
        let labels = if self.scale == Scale::Log {
            shown.iter().map(|&v| short(v, 3)).collect()
        } else {
            alike(&shown)
        };
        shown.into_iter().zip(labels).collect()
    }

    /// Blanks the labels that would touch a neighbour along the axis, a label `size` pixels high.
    pub(crate) fn thin(&self, ticks: &mut [(f64, String)], size: f64) {
        let mut end = f64::NEG_INFINITY;
        for (value, label) in ticks {
            let (at, half) = (self.place(*value), text_width(label, size) / 2.0);
            if at - half < end + 0.6 * size {
                label.clear();
            } else {
                end = at + half;
            }
        }
    }
}

/// Multiples of 1, 2, 2.5 or 5 times a power of ten.
fn linear_ticks(lo: f64, hi: f64, count: usize) -> Vec<f64> {
    let rough = (hi - lo) / count.max(1) as f64;
    if !(rough > 0.0 && rough.is_finite()) {
        return vec![];
    }
    let power = 10f64.powf(rough.log10().floor());
    let step =
        [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().map(|m| m * power).find(|&s| s >= rough * 0.999);
    let step = step.unwrap_or(10.0 * power);
    let first = (lo / step - 1e-9).ceil() as i64;
    let last = (hi / step + 1e-9).floor() as i64;
    if last < first || last - first > 1000 {
        return vec![];
    }
    (first..=last).map(|i| i as f64 * step).collect()
}

/// Powers of ten; between them 1, 2, 5 or every digit where decades are few.
fn log_ticks(lo: f64, hi: f64, count: usize) -> Vec<f64> {
    let decades = hi.log10() - lo.log10();
    let (first, last) = (lo.log10().floor() as i32, hi.log10().ceil() as i32);
    let digits: &[f64] = if decades > 2.2 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let stride = ((decades / count.max(1) as f64).ceil() as i32).max(1);
    let shown = |v: &f64| *v >= lo * (1.0 - 1e-9) && *v <= hi * (1.0 + 1e-9);
    let ticks: Vec<f64> = (first..=last)
        .filter(|e| e.rem_euclid(stride) == 0)
        .flat_map(|e| digits.iter().map(move |d| d * 10f64.powi(e)))
        .filter(shown)
        .collect();
    if ticks.len() >= 3 {
        ticks
    } else {
        linear_ticks(lo, hi, count).into_iter().filter(|&v| v > 0.0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis, count: usize) -> Vec<String> {
        axis.ticks(count).into_iter().map(|(_, l)| l).collect()
    }

    #[test]
    fn linear_ticks_are_round_and_alike() {
        assert_eq!(
            labels(&Axis::new(Scale::Linear, Some((-1.0, 1.0)), 0.0), 4),
            ["−1.0", "−0.5", "0.0", "0.5", "1.0"]
        );
        assert_eq!(
            labels(&Axis::new(Scale::Linear, Some((0.0, 20_000.0)), 0.0), 4),
            ["0", "5,000", "10,000", "15,000", "20,000"]
        );
        assert_eq!(
            labels(&Axis::new(Scale::Linear, Some((0.0, 1e-7)), 0.0), 2),
            ["0", "5×10⁻⁸", "10⁻⁷"]
        );
    }

    #[test]
    fn log_ticks_are_decades_or_one_two_five() {
        assert_eq!(
            labels(&Axis::new(Scale::Log, Some((1.0, 1000.0)), 0.0), 5),
            ["1", "10", "100", "1,000"]
        );
        assert_eq!(
            labels(&Axis::new(Scale::Log, Some((4.0, 60.0)), 0.0), 5),
            ["5", "10", "20", "50"]
        );
        assert_eq!(
            labels(&Axis::new(Scale::Log, Some((1e-9, 1e3)), 0.0), 4),
            ["10⁻⁹", "10⁻⁶", "0.001", "1", "1,000"]
        );
    }

    #[test]
    fn given_values_become_the_ticks() {
        let axis = Axis::new(Scale::Log, Some((5.0, 50.0)), 0.05);
        let ticks: Vec<_> =
            axis.label(&[5.0, 10.0, 20.0, 50.0, 200.0]).into_iter().map(|t| t.1).collect();
        assert_eq!(ticks, ["5", "10", "20", "50"]);
    }

    #[test]
    fn degenerate_ranges_have_room_and_places_are_finite() {
        for range in
            [None, Some((0.0, 0.0)), Some((3.0, 3.0)), Some((f64::NAN, 1.0)), Some((-1e300, 1e300))]
        {
            for scale in [Scale::Linear, Scale::Log] {
                let axis = Axis::new(scale, range, 0.05).on(0.0, 100.0);
                assert!(axis.lo < axis.hi, "{range:?} {scale:?}");
                for v in [0.0, 3.0, -5.0, 1e300] {
                    assert!(axis.place(v).is_finite(), "{range:?} {scale:?} {v}");
                }
                axis.ticks(5);
            }
        }
    }
}
