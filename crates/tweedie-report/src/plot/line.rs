//! Curves and points with standard errors on linear or logarithmic axes.

use super::axis::{Axis, Scale};
use super::{Mark, Series, Skipped, frame};

/// Curves and points over a common pair of axes.
///
/// Two or more curves that end at the right and apart from each other have their names there;
/// otherwise a legend stands above the axes.
#[derive(Clone, Debug, Default)]
pub struct LineChart {
    /// Above the chart; may be empty.
    pub title: String,
    /// Below the x axis.
    pub x_label: String,
    /// Above the y axis.
    pub y_label: String,
    /// How the x axis spaces its values.
    pub x_scale: Scale,
    /// How the y axis spaces its values.
    pub y_scale: Scale,
    /// The curves, later ones above earlier ones.
    pub series: Vec<Series>,
    /// The range of x shown; by default all of it.
    pub x_range: Option<(f64, f64)>,
    /// The range of y shown; by default all of it, errors included. Curves are cut at its ends.
    pub y_range: Option<(f64, f64)>,
    /// Ticks of the x axis. By default round numbers, or on a logarithmic axis the values of x
    /// themselves where they are ten or fewer (numbers of steps such as 5, 10, 20, 50).
    pub x_ticks: Option<Vec<f64>>,
    /// Named vertical lines.
    pub marks: Vec<Mark>,
}

impl LineChart {
    /// The chart as an SVG document.
    ///
    /// # Panics
    /// Where a series' `x`, `y` and `error` differ in length.
    pub fn to_svg(&self, width: u32, height: u32) -> String {
        self.series.iter().for_each(Series::check);
        frame::draw(self, &self.skipped().note(), width, height)
    }

    /// What [`LineChart::to_svg`] cannot show.
    pub fn skipped(&self) -> Skipped {
        let mut skipped = Skipped::default();
        let (x_axis, y_axis) = self.axes();
        for series in &self.series {
            for (x, y, error) in series.values() {
                skipped.non_finite += usize::from(y.is_finite() && !error.is_finite());
                let (admitted, shown) = (self.admits(x, y), x_axis.shows(x) && y_axis.shows(y));
                skipped.count(x.is_finite() && y.is_finite(), admitted, shown);
            }
        }
        for Mark { at, .. } in &self.marks {
            skipped.count(at.is_finite(), self.x_scale.admits(*at), x_axis.shows(*at));
        }
        skipped
    }

    pub(crate) fn admits(&self, x: f64, y: f64) -> bool {
        self.x_scale.admits(x) && self.y_scale.admits(y)
    }

    pub(crate) fn axes(&self) -> (Axis, Axis) {
        let points = || self.series.iter().flat_map(Series::values);
        let points = || points().filter(|&(x, y, _)| self.admits(x, y));
        let marks = self.marks.iter().map(|m| m.at).filter(|&at| self.x_scale.admits(at));
        let ends = points().flat_map(|(_, y, e)| [y, y - e, y + e]);
        let xs = self.x_range.or_else(|| extent(points().map(|p| p.0).chain(marks)));
        let ys = self.y_range.or_else(|| extent(ends.filter(|&v| self.y_scale.admits(v))));
        let pad = |given: Option<_>, pad: f64| if given.is_some() { 0.0 } else { pad };
        (
            Axis::new(self.x_scale, xs, pad(self.x_range, 0.03)),
            Axis::new(self.y_scale, ys, pad(self.y_range, 0.05)),
        )
    }

    /// The distinct values of x on a logarithmic axis, where they are two to ten.
    pub(crate) fn few_x(&self) -> Option<Vec<f64>> {
        let mut distinct: Vec<f64> = Vec::new();
        for &x in self.series.iter().flat_map(|s| &s.x).filter(|&&x| self.x_scale.admits(x)) {
            if !distinct.contains(&x) {
                distinct.push(x);
            }
            if distinct.len() > 10 {
                return None;
            }
        }
        distinct.sort_by(f64::total_cmp);
        (self.x_scale == Scale::Log && distinct.len() >= 2).then_some(distinct)
    }
}

/// The least and the greatest of finite values.
fn extent(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.fold(None, |range, v| {
        Some(range.map_or((v, v), |(lo, hi): (f64, f64)| (lo.min(v), hi.max(v))))
    })
}

#[cfg(test)]
mod tests {
    use super::super::svg::elements;
    use super::*;

    #[test]
    fn nothing_and_nonsense_draw() {
        let nonsense = Series::line("a", vec![f64::NAN, 1.0], vec![1.0, f64::INFINITY]);
        for series in [vec![], vec![Series::default()], vec![nonsense]] {
            for scale in [Scale::Linear, Scale::Log] {
                let chart = LineChart {
                    series: series.clone(),
                    x_scale: scale,
                    y_scale: scale,
                    ..Default::default()
                };
                for (width, height) in [(0, 0), (640, 400)] {
                    elements(&chart.to_svg(width, height));
                }
            }
        }
    }

    #[test]
    fn text_is_escaped() {
        let evil = "</text><script> & \"".to_string();
        let svg = LineChart {
            title: evil.clone(),
            x_label: evil.clone(),
            y_label: evil.clone(),
            series: vec![Series::line(evil.clone(), vec![0.0, 1.0], vec![0.0, 1.0])],
            marks: vec![Mark::new(evil, 0.5)],
            ..Default::default()
        }
        .to_svg(900, 400);
        let counts = elements(&svg);
        assert!(!counts.contains_key("script") && svg.contains("&lt;script&gt;"));
    }

    #[test]
    fn what_is_not_shown_is_counted_and_interrupts_the_line() {
        let series = Series::line(
            "a",
            vec![1., 2., 3., 4., 5., 6.],
            vec![1.0, f64::NAN, 2.0, -1.0, 3.0, 100.0],
        )
        .with_error(vec![0.1, 0.1, f64::NAN, 0.1, 0.1, 0.1]);
        let chart = LineChart {
            series: vec![series],
            y_scale: Scale::Log,
            y_range: Some((0.5, 10.0)),
            ..Default::default()
        };
        let skipped = chart.skipped();
        assert_eq!(skipped, Skipped { non_finite: 2, non_positive: 1, beyond: 1 });
        let svg = chart.to_svg(640, 400);
        assert!(svg.contains(&skipped.note()));
        // Finite positive values: 1 | 2 | 3, 100; markers for all four.
        assert_eq!(elements(&svg)["circle"], 4);
    }

    #[test]
    fn step_counts_become_ticks_of_a_log_axis() {
        let svg = LineChart {
            x_scale: Scale::Log,
            series: vec![Series::line("a", vec![5., 10., 20., 50., 1000.], vec![0.; 5])],
            ..Default::default()
        }
        .to_svg(640, 400);
        for k in ["5", "10", "20", "50", "1,000"] {
            assert!(svg.contains(&format!(">{k}</text>")), "{k}");
        }
    }

    #[test]
    fn a_long_curve_keeps_its_extremes_in_little_text() {
        let n = 200_000;
        let x: Vec<f64> = (0..n).map(f64::from).collect();
        let mut y: Vec<f64> = x.iter().map(|x| (x * 0.7).sin()).collect();
        y[123_456] = 50.0;
        let svg = LineChart { series: vec![Series::line("a", x, y)], ..Default::default() }
            .to_svg(640, 400);
        assert!(svg.len() < 100_000, "{}", svg.len());
    }

    #[test]
    fn many_errors_are_a_band_and_few_are_bars() {
        let series = |n: usize| {
            let x: Vec<f64> = (0..n).map(|i| i as f64).collect();
            Series::line("a", x.clone(), x).with_error(vec![0.5; n])
        };
        let svg = |n| LineChart { series: vec![series(n)], ..Default::default() }.to_svg(640, 400);
        assert!(
            svg(100).contains("fill-opacity=\"0.2\"") && !svg(5).contains("fill-opacity=\"0.2\"")
        );
    }
}
