//! Curves and points with standard errors on linear or logarithmic axes.

use super::axis::{Axis, Scale};
use super::frame::{Entry, Frame, Key, line_attributes, vertical_marks};
use super::svg::{Ink, Svg, px};
use super::{Mark, Series, Skipped, Style};

/// Up to so many points a curve shows its markers, and its standard errors as bars; beyond, as a
/// band.
const FEW: usize = 24;
/// Beyond so many points a curve is drawn by its extremes in columns of half a pixel.
const MANY: usize = 4000;

/// Curves and points over a common pair of axes.
#[derive(Clone, Debug, Default)]
pub struct LineChart {
    /// Above the chart; may be empty.
    pub title: String,
    /// Below the x axis.
    pub x_label: String,
    /// Beside the y axis.
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
        let (x, y) = self.axes();
        let legend = self.entries();
        Frame {
            title: &self.title,
            x_label: &self.x_label,
            y_label: &self.y_label,
            legend,
            note: self.skipped().note(),
            x: x.clone(),
            y,
            x_ticks: self.x_ticks.clone().or_else(|| self.few_x()),
        }
        .draw(width, height, |svg, x, y| {
            for (i, series) in self.series.iter().enumerate() {
                self.draw(svg, series, series.colour.unwrap_or(i), x, y);
            }
            vertical_marks(svg, &self.marks, x, x.place(x.hi), y.place(y.lo));
        })
    }

    /// What [`LineChart::to_svg`] cannot show.
    pub fn skipped(&self) -> Skipped {
        let mut skipped = Skipped::default();
        let (x_axis, y_axis) = self.axes();
        for series in &self.series {
            for (&x, &y) in series.x.iter().zip(&series.y) {
                if !(x.is_finite() && y.is_finite()) {
                    skipped.non_finite += 1;
                } else if !(self.x_scale.admits(x) && self.y_scale.admits(y)) {
                    skipped.non_positive += 1;
                } else if !(x_axis.shows(x) && y_axis.shows(y)) {
                    skipped.beyond += 1;
                }
            }
            let errors = series.error.iter().flatten().zip(&series.y);
            skipped.non_finite += errors.filter(|(e, y)| y.is_finite() && !e.is_finite()).count();
        }
        for mark in &self.marks {
            if !mark.at.is_finite() {
                skipped.non_finite += 1;
            } else if !self.x_scale.admits(mark.at) {
                skipped.non_positive += 1;
            } else if !x_axis.shows(mark.at) {
                skipped.beyond += 1;
            }
        }
        skipped
    }

    fn admits(&self, x: f64, y: f64) -> bool {
        self.x_scale.admits(x) && self.y_scale.admits(y)
    }

    fn axes(&self) -> (Axis, Axis) {
        let mut xs = self.x_range;
        let mut ys = self.y_range;
        for series in &self.series {
            for (i, (&x, &y)) in series.x.iter().zip(&series.y).enumerate() {
                if !self.admits(x, y) {
                    continue;
                }
                if self.x_range.is_none() {
                    widen(&mut xs, x);
                }
                if self.y_range.is_none() {
                    let error = series.error.as_ref().map_or(0.0, |e| e[i]);
                    for v in [y, y - error, y + error] {
                        if self.y_scale.admits(v) {
                            widen(&mut ys, v);
                        }
                    }
                }
            }
        }
        if self.x_range.is_none() {
            self.marks
                .iter()
                .filter(|m| self.x_scale.admits(m.at))
                .for_each(|m| widen(&mut xs, m.at));
        }
        let pad = |given: Option<_>, p: f64| if given.is_some() { 0.0 } else { p };
        (
            Axis::new(self.x_scale, xs, pad(self.x_range, 0.03)),
            Axis::new(self.y_scale, ys, pad(self.y_range, 0.05)),
        )
    }

    /// The distinct values of x on a logarithmic axis, where they are few.
    fn few_x(&self) -> Option<Vec<f64>> {
        if self.x_scale != Scale::Log {
            return None;
        }
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
        (distinct.len() >= 2).then_some(distinct)
    }

    fn entries(&self) -> Vec<Entry> {
        let entry = |(i, s): (usize, &Series)| Entry {
            name: s.name.clone(),
            colour: s.colour.unwrap_or(i),
            key: Key::Line(s.style),
        };
        self.series.iter().enumerate().map(entry).collect()
    }

    fn draw(&self, svg: &mut Svg, series: &Series, colour: usize, x: &Axis, y: &Axis) {
        let bottom = if self.y_scale == Scale::Log { f64::MIN_POSITIVE } else { f64::NEG_INFINITY };
        let (mut runs, mut run): (Vec<Vec<Point>>, Vec<Point>) = (vec![], vec![]);
        for i in 0..series.x.len() {
            let (value, error) = (series.y[i], series.error.as_ref().map_or(0.0, |e| e[i]));
            if !self.admits(series.x[i], value) {
                if !run.is_empty() {
                    runs.push(std::mem::take(&mut run));
                }
                continue;
            }
            let error = if error.is_finite() { error.abs() } else { 0.0 };
            run.push(Point {
                x: x.place(series.x[i]),
                y: y.place(value),
                low: y.place((value - error).max(bottom)),
                high: y.place(value + error),
            });
        }
        runs.push(run);
        let few = runs.iter().map(Vec::len).sum::<usize>() <= FEW;
        let markers = series.style == Style::Points || (series.style == Style::Solid && few);
        svg.ink(Ink::Series(colour));
        if series.error.is_some() {
            if series.style == Style::Points || few {
                let d: String =
                    runs.iter().flatten().filter(|p| p.low != p.high).map(Point::bar).collect();
                svg.stroke(&d, "stroke-width=\"1.2\"");
            } else {
                svg.fill(&runs.iter().map(|r| band(r)).collect::<String>(), "fill-opacity=\"0.2\"");
            }
        }
        if series.style != Style::Points {
            let d: String = runs.iter().map(|r| polyline(&thinned(r))).collect();
            svg.stroke(&d, line_attributes(series.style));
            if !markers {
                // A value between two gaps has no line, but is there.
                runs.iter()
                    .filter(|r| r.len() == 1)
                    .for_each(|r| svg.circle((r[0].x, r[0].y), 2.0));
            }
        }
        if markers {
            for p in runs.iter().flatten() {
                svg.circle((p.x, p.y), 3.0);
            }
        }
        svg.close();
    }
}

/// A point and the ends of its error bar, in pixels.
#[derive(Clone, Copy)]
struct Point {
    x: f64,
    y: f64,
    low: f64,
    high: f64,
}

impl Point {
    fn bar(&self) -> String {
        let (l, r) = (px(self.x - 3.0), px(self.x + 3.0));
        let (x, low, high) = (px(self.x), px(self.low), px(self.high));
        format!("M{l} {low}H{r}M{x} {low}V{high}M{l} {high}H{r}")
    }
}

fn widen(range: &mut Option<(f64, f64)>, value: f64) {
    *range = Some(range.map_or((value, value), |(lo, hi)| (lo.min(value), hi.max(value))));
}

fn polyline(points: &[Point]) -> String {
    let mut d = String::new();
    for (i, p) in points.iter().enumerate() {
        d += &format!("{}{} {}", if i == 0 { 'M' } else { 'L' }, px(p.x), px(p.y));
    }
    if points.len() < 2 { String::new() } else { d }
}

fn band(points: &[Point]) -> String {
    if points.len() < 2 {
        return String::new();
    }
    let upper = points.iter().map(|p| (p.x, p.high));
    let lower = points.iter().rev().map(|p| (p.x, p.low));
    let corners: Vec<String> =
        upper.chain(lower).map(|(x, y)| format!("{} {}", px(x), px(y))).collect();
    format!("M{}z", corners.join("L"))
}

/// The first, lowest, highest and last point of every half-pixel column of a long run: the same
/// picture.
fn thinned(points: &[Point]) -> Vec<Point> {
    if points.len() <= MANY {
        return points.to_vec();
    }
    let column = |p: &Point| (p.x * 2.0).floor();
    let mut out = Vec::new();
    for group in points.chunk_by(|a, b| column(a) == column(b)) {
        let extreme = |better: fn(f64, f64) -> bool| {
            (1..group.len())
                .fold(0, |best, i| if better(group[i].y, group[best].y) { i } else { best })
        };
        let mut kept = [0, extreme(|a, b| a < b), extreme(|a, b| a > b), group.len() - 1];
        kept.sort_unstable();
        for (k, &i) in kept.iter().enumerate() {
            if k == 0 || kept[k - 1] != i {
                out.push(group[i]);
            }
        }
    }
    out
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
        // The peak stands 5 % of the padded range below the top of the window: the smallest y of
        // the path.
        let points: Vec<Point> = (0..10_000)
            .map(|i| Point {
                x: i as f64 / 100.0,
                y: if i == 7 { -9.0 } else { 0.0 },
                low: 0.0,
                high: 0.0,
            })
            .collect();
        let kept = thinned(&points);
        assert!(kept.len() < 1000 && kept.iter().any(|p| p.y == -9.0));
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
