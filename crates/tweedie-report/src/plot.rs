//! Statistical graphics as SVG text and image sheets as PNG: pure functions of plain data.
//!
//! One file works on paper, in a light and in a dark page: colours are inherited (`currentColor`)
//! from groups that a media query recolours. Nothing is dropped in silence: every chart says below
//! its axes how many values it could not show ([`Skipped`]).
//!
//! The elements are written with `maud`; axes and layout are ours. `plotters` does not cut marks at
//! the ends of an axis, places them on whole pixels, has no dashes, groups or names at the ends of
//! curves, and writes a pair grid of 3 MB where [`PairGrid`] takes 0.3.
//!
//! ```
//! use tweedie_report::plot::{LineChart, Scale, Series};
//! let chart = LineChart {
//!     title: "Likelihood against the number of steps".into(),
//!     x_label: "steps K".into(),
//!     x_scale: Scale::Log,
//!     series: vec![Series::line("learned", vec![5., 10., 50.], vec![-2.1, -1.6, -1.4])],
//!     ..Default::default()
//! };
//! assert!(chart.to_svg(640, 360).starts_with("<svg"));
//! ```

mod axis;
mod bars;
mod curve;
mod density;
mod frame;
mod histogram;
mod line;
mod pairs;
mod pictures;
mod ranges;
mod sheet;
mod svg;

pub use axis::Scale;
pub use bars::Bars;
pub use density::{DensityChart, GaussianKde};
pub use histogram::Histogram;
pub use line::LineChart;
pub use pairs::PairGrid;
pub use pictures::Pictures;
pub use ranges::Ranges;
pub use sheet::{Sheet, picture_of, sheet_of};

#[cfg(test)]
pub(crate) use svg::elements;

use crate::number::grouped;

/// How many distinguishable colours there are; series beyond them start again at the first.
pub const COLOURS: usize = svg::PALETTE.len();

/// How a series is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// A line through the points; markers too where the points are few.
    #[default]
    Solid,
    /// A dashed line, for references and exact values.
    Dashed,
    /// Markers without a line.
    Points,
    /// A thin, pale line, for raw values behind a smoothed curve.
    Faint,
    /// A translucent area and its outline, closed from the last point to the first.
    Area,
}

/// One named curve or point set of a chart; `x` and `y` have one length.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// The legend's entry; a series without a name has none.
    pub name: String,
    /// The points' abscissae.
    pub x: Vec<f64>,
    /// Ordinates; a value that is not finite interrupts the line and is counted.
    pub y: Vec<f64>,
    /// One standard error per point, drawn ± as bars where points are few and as a band where many.
    pub error: Option<Vec<f64>>,
    /// How it is drawn.
    pub style: Style,
    /// Palette entry; by default the position among the series.
    pub colour: Option<usize>,
}

impl Series {
    /// A solid line named `name`.
    pub fn line(name: impl Into<String>, x: Vec<f64>, y: Vec<f64>) -> Series {
        Series { name: name.into(), x, y, ..Default::default() }
    }

    /// Markers named `name`, without a line.
    pub fn points(name: impl Into<String>, x: Vec<f64>, y: Vec<f64>) -> Series {
        Series::line(name, x, y).style(Style::Points)
    }

    /// The curve of `f` at `points` even abscissae of `[range.0, range.1]`.
    pub fn curve(
        name: impl Into<String>,
        range: (f64, f64),
        points: usize,
        f: impl Fn(f64) -> f64,
    ) -> Series {
        let x: Vec<f64> = linspace(range, points);
        let y = x.iter().map(|&x| f(x)).collect();
        Series::line(name, x, y)
    }

    /// With one standard error per point.
    pub fn with_error(mut self, error: Vec<f64>) -> Series {
        self.error = Some(error);
        self
    }

    /// Drawn in `style`.
    pub fn style(mut self, style: Style) -> Series {
        self.style = style;
        self
    }

    /// Drawn in palette entry `colour`, whatever its position.
    pub fn colour(mut self, colour: usize) -> Series {
        self.colour = Some(colour);
        self
    }

    /// Its points with their standard errors, 0 where it has none.
    fn values(&self) -> impl Iterator<Item = (f64, f64, f64)> {
        let error = |i: usize| self.error.as_ref().map_or(0.0, |e| e[i]);
        self.x.iter().zip(&self.y).enumerate().map(move |(i, (&x, &y))| (x, y, error(i)))
    }

    /// Panics with both lengths where they differ.
    fn check(&self) {
        let (name, x, y) = (&self.name, self.x.len(), self.y.len());
        assert_eq!(x, y, "series `{name}`: x has {x} values, y has {y}");
        let error = self.error.as_ref().map_or(y, Vec::len);
        assert_eq!(error, y, "series `{name}`: error has {error} values, y has {y}");
    }
}

/// A named straight line across a chart: a baseline, a mean, a floor.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mark {
    /// What stands beside the line.
    pub name: String,
    /// Where it crosses the axis.
    pub at: f64,
}

impl Mark {
    /// A mark named `name` at `at`.
    pub fn new(name: impl Into<String>, at: f64) -> Mark {
        Mark { name: name.into(), at }
    }
}

/// What a chart could not show, counted in values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// NaN or infinite.
    pub non_finite: usize,
    /// Zero or negative on a logarithmic axis.
    pub non_positive: usize,
    /// Finite, but outside the axes' range.
    pub beyond: usize,
}

impl Skipped {
    /// Whether everything was shown.
    pub fn is_empty(&self) -> bool {
        *self == Skipped::default()
    }

    /// Counts one value, unless it is shown.
    fn count(&mut self, finite: bool, positive: bool, shown: bool) {
        match (finite, positive, shown) {
            (false, ..) => self.non_finite += 1,
            (true, false, _) => self.non_positive += 1,
            (true, true, false) => self.beyond += 1,
            (true, true, true) => {}
        }
    }

    /// One line for the reader, or nothing where everything was shown.
    pub fn note(&self) -> String {
        let all = [
            (self.non_finite, "not finite"),
            (self.non_positive, "not positive on a log axis"),
            (self.beyond, "outside the axes"),
        ];
        let counted = all.iter().filter(|(count, _)| *count > 0);
        let parts: Vec<String> =
            counted.map(|(count, what)| format!("{} {what}", grouped(*count))).collect();
        match parts.is_empty() {
            true => String::new(),
            false => format!("Values not shown: {}.", parts.join(", ")),
        }
    }
}

impl std::ops::AddAssign for Skipped {
    fn add_assign(&mut self, other: Skipped) {
        self.non_finite += other.non_finite;
        self.non_positive += other.non_positive;
        self.beyond += other.beyond;
    }
}

/// `points` even values of a closed interval.
pub fn linspace((lo, hi): (f64, f64), points: usize) -> Vec<f64> {
    let last = points.saturating_sub(1).max(1) as f64;
    (0..points).map(|i| lo + (hi - lo) * i as f64 / last).collect()
}

/// The `p` quantile of ascending values by linear interpolation (Hyndman and Fan's type 7); NaN of
/// none.
pub fn quantile(sorted: &[f64], p: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let at = p.clamp(0.0, 1.0) * last as f64;
    let (below, part) = (at.floor() as usize, at.fract());
    let above = (below + 1).min(last);
    sorted[below] + part * (sorted[above] - sorted[below])
}

/// The finite values in ascending order, and how many were not finite.
pub fn sorted_finite(values: impl IntoIterator<Item = f64>) -> (Vec<f64>, usize) {
    let mut count = 0;
    let mut finite: Vec<f64> =
        values.into_iter().inspect(|_| count += 1).filter(|v| v.is_finite()).collect();
    finite.sort_unstable_by(f64::total_cmp);
    let skipped = count - finite.len();
    (finite, skipped)
}

/// The range worth showing: everything, unless a few stragglers would more than treble what the
/// values between the `tail` and `1 - tail` quantiles take up; then that core and a quarter more on
/// each side.
pub(crate) fn view_range(sorted: &[f64], tail: f64) -> Option<(f64, f64)> {
    let (&lo, &hi) = (sorted.first()?, sorted.last()?);
    let (core_lo, core_hi) = (quantile(sorted, tail), quantile(sorted, 1.0 - tail));
    let core = core_hi - core_lo;
    if core > 0.0 && hi - lo > 3.0 * core {
        Some((lo.max(core_lo - 0.25 * core), hi.min(core_hi + 0.25 * core)))
    } else {
        Some((lo, hi))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_type_7() {
        // By hand: position 3 p among the order statistics 0..3, so p = 1/4 is 1 + 3/4 (2 − 1).
        let v = [1.0, 2.0, 4.0, 8.0];
        for (p, q) in [(0.0, 1.0), (0.25, 1.75), (0.5, 3.0), (1.0, 8.0)] {
            assert_eq!(quantile(&v, p), q);
        }
        assert!(quantile(&[], 0.5).is_nan());
    }

    #[test]
    fn one_straggler_does_not_set_the_range() {
        let mut values: Vec<f64> = (0..1000).map(|i| i as f64 / 1000.0).collect();
        assert_eq!(view_range(&values, 0.005), Some((0.0, 0.999)));
        values.push(1e6);
        let (lo, hi) = view_range(&values, 0.005).unwrap();
        assert!(lo == 0.0 && hi > 0.99 && hi < 1.5, "{lo} {hi}");
    }

    #[test]
    fn the_note_counts_and_is_silent_of_nothing() {
        assert_eq!(Skipped::default().note(), "");
        let skipped = Skipped { non_finite: 2, non_positive: 0, beyond: 1200 };
        assert_eq!(skipped.note(), "Values not shown: 2 not finite, 1,200 outside the axes.");
    }

    #[test]
    #[should_panic(expected = "x has 2 values, y has 1")]
    fn lengths_must_agree() {
        LineChart {
            series: vec![Series::line("a", vec![0.0, 1.0], vec![0.0])],
            ..Default::default()
        }
        .to_svg(300, 200);
    }
}
