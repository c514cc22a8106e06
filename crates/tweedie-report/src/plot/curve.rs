//! The marks of one series: line, area, markers, standard errors.

use maud::{Markup, html};

use super::axis::Axis;
use super::svg::{Ink, Pen, circle, fill, px, stroke};
use super::{Series, Style};

/// The number of points up to which a curve shows its markers, and its standard errors as bars;
/// with more they are a band.
const FEW: usize = 24;
/// The number of points beyond which a curve is drawn by its extremes in columns of half a pixel.
const MANY: usize = 4000;

/// The line of a curve in `style`.
pub(crate) fn pen(style: Style) -> Pen {
    match style {
        Style::Solid | Style::Points => Pen::of(1.8),
        Style::Dashed => Pen { dashes: Some("6 4"), ..Pen::of(1.8) },
        Style::Faint => Pen { opacity: Some(0.4), ..Pen::of(1.0) },
        Style::Area => Pen::of(1.2),
    }
}

/// The marks of a series in palette entry `colour`, in the pixels of the axes; interrupted where a
/// value has no place on them.
pub(crate) fn draw(series: &Series, colour: usize, x: &Axis, y: &Axis) -> Markup {
    let runs = runs(series, x, y);
    let all = || runs.iter().flatten();
    let path = |of: &dyn Fn(&[Point]) -> String| runs.iter().map(|r| of(r)).collect::<String>();
    let points = series.style == Style::Points;
    let few = all().count() <= FEW;
    let (line, dots, radius): (_, Vec<&Point>, _) =
        match (points, series.style == Style::Solid && few) {
            (true, _) => (String::new(), all().collect(), 3.0),
            (_, true) => (path(&polyline), all().collect(), 3.0),
            // A value between two gaps has no line, but is there.
            _ => (path(&polyline), runs.iter().filter(|r| r.len() == 1).flatten().collect(), 2.0),
        };
    Ink::Series(colour).group(html! {
        @if series.error.is_some() && (points || few) {
            @let bars = all().filter(|p| p.low != p.high).map(Point::bar);
            (stroke(&bars.collect::<String>(), Pen::of(1.2)))
        } @else if series.error.is_some() {
            (fill(&path(&band), 0.2))
        } @else if series.style == Style::Area {
            (fill(&line, 0.28))
        }
        (stroke(&line, pen(series.style)))
        @for p in dots { (circle((p.x, p.y), radius)) }
    })
}

/// The points without interruption, run by run.
fn runs(series: &Series, x: &Axis, y: &Axis) -> Vec<Vec<Point>> {
    let mut runs: Vec<Vec<Point>> = vec![vec![]];
    for (at, value, error) in series.values() {
        let error = if error.is_finite() { error.abs() } else { 0.0 };
        match runs.last_mut() {
            Some(run) if x.admits(at) && y.admits(value) => run.push(Point {
                x: x.place(at),
                y: y.place(value),
                low: y.place(value - error),
                high: y.place(value + error),
            }),
            _ => runs.push(vec![]),
        }
    }
    runs
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

fn polyline(points: &[Point]) -> String {
    path(thinned(points).iter().map(|p| (p.x, p.y)), "")
}

fn band(points: &[Point]) -> String {
    let upper = points.iter().map(|p| (p.x, p.high));
    path(upper.chain(points.iter().rev().map(|p| (p.x, p.low))), "z")
}

/// A path through the corners; none of a single x.
fn path(corners: impl Iterator<Item = (f64, f64)>, end: &str) -> String {
    let corners: Vec<String> = corners.map(|(x, y)| format!("{} {}", px(x), px(y))).collect();
    if corners.len() < 2 + end.len() {
        String::new()
    } else {
        format!("M{}{end}", corners.join("L"))
    }
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
    use super::*;

    #[test]
    fn a_long_curve_keeps_its_extremes() {
        let y = |i: usize| if i == 7 { -9.0 } else { 0.0 };
        let point = |i: usize| Point { x: i as f64 / 100.0, y: y(i), low: 0.0, high: 0.0 };
        let points: Vec<Point> = (0..10_000).map(point).collect();
        let kept = thinned(&points);
        assert!(kept.len() < 1000 && kept.iter().any(|p| p.y == -9.0));
    }
}
