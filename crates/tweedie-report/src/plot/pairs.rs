//! The pairs plot: every pair of columns of several tables in one grid.

use maud::{Markup, html};

use super::axis::{Axis, Scale};
use super::curve;
use super::frame::{LABEL, TICK, heading, legend};
use super::histogram::Bins;
use super::svg::{Ink, Pen, Point, document, fit, line, px, rect, stroke, text, window};
use super::{Series, Skipped, Style, sorted_finite, view_range};
use crate::number::fixed;

/// Points per set and panel, at most: rows ⌊i n / 1000⌋, whatever the values.
const POINTS: usize = 1000;
/// Layers in which points are drawn, the sets taking turns, so that none hides the others.
const LAYERS: usize = 10;

/// Tables over the same columns, pair by pair: scatter below the diagonal, overlaid histograms on
/// it, Pearson correlations above it. Ranges show the bulk of all sets; what lies outside is
/// counted.
#[derive(Clone, Debug, Default)]
pub struct PairGrid {
    /// Above the grid; may be empty.
    pub title: String,
    /// The columns' names.
    pub names: Vec<String>,
    /// Labels and row-major values of the sets.
    pub sets: Vec<(String, Vec<f32>)>,
    /// How many columns are shown, from the first; 0 means 6.
    pub max_columns: usize,
}

impl PairGrid {
    /// The grid as a square SVG document of `size` pixels plus title and legend.
    ///
    /// # Panics
    /// Where a set's length is no multiple of the number of names.
    pub fn to_svg(&self, size: u32) -> String {
        let columns = self.columns();
        let size = f64::from(size.max(200));
        let key = |(name, _): &(String, _)| Series::line(name, vec![], vec![]).style(Style::Area);
        let entries: Vec<Series> = self.sets.iter().map(key).collect();
        let (title, head) = heading(&self.title, size - 24.0);
        let (legend, rows) = legend(&entries, (12.0, head), size - 24.0);
        let note = count(&columns).note();
        let shown = columns.len();
        let panel = (size - LEFT - 10.0 + GAP) / shown.max(1) as f64 - GAP;
        let grid = Grid { left: LEFT, top: head + rows + 6.0, panel: panel.max(10.0) };
        let below = grid.at(0, shown).1 - GAP;
        let height = (below + 40.0 + if note.is_empty() { 0.0 } else { TICK + 10.0 }).ceil();
        let page = html! {
            (title) (legend)
            @for (row, column) in (0..shown).flat_map(|row| (0..shown).map(move |c| (row, c))) {
                @if column > row {
                    (self.correlations((row, column), &grid))
                } @else {
                    (self.panel((column, row), &columns, &grid))
                }
            }
            (Ink::Text.group(html! {
                @for (i, name) in self.names.iter().take(shown).enumerate() {
                    @let (x, y) = grid.centre(i, i);
                    @let name = fit(name, LABEL, grid.panel);
                    (text((x, below + TICK + LABEL + 12.0), LABEL, "middle", &name))
                    g transform={ "rotate(-90 " (px(18.0)) " " (px(y)) ")" } {
                        (text((18.0, y), LABEL, "middle", &name))
                    }
                }
            }))
            (Ink::Muted.group(html! {
                g font-style="italic" {
                    (text((LEFT, height - 6.0), TICK, "start", &fit(&note, TICK, size - LEFT)))
                }
            }))
        };
        document(size, height, &self.title, page)
    }

    /// What [`PairGrid::to_svg`] cannot show, over all rows and shown columns.
    pub fn skipped(&self) -> Skipped {
        count(&self.columns())
    }

    fn values(&self, set: usize, column: usize) -> impl Iterator<Item = f64> {
        self.sets[set].1.iter().skip(column).step_by(self.names.len()).map(|&v| v as f64)
    }

    fn columns(&self) -> Vec<Column> {
        for (label, rows) in &self.sets {
            assert!(
                rows.is_empty() || (!self.names.is_empty() && rows.len() % self.names.len() == 0),
                "set `{label}`: {} values are no rows of {} columns",
                rows.len(),
                self.names.len()
            );
        }
        let column = |column| {
            let samples: Vec<Vec<f64>> =
                (0..self.sets.len()).map(|s| self.values(s, column).collect()).collect();
            let (pooled, _) = sorted_finite(samples.iter().flatten().copied());
            let range = view_range(&pooled, 0.005).filter(|(lo, hi)| lo < hi);
            let samples: Vec<&[f64]> = samples.iter().map(Vec::as_slice).collect();
            let bins = Bins::new(&samples, Some(30), range, &[]);
            Column { axis: Axis::new(Scale::Linear, Some(bins.range), 0.04), bins }
        };
        let most = if self.max_columns == 0 { 6 } else { self.max_columns };
        (0..self.names.len().min(most)).map(column).collect()
    }

    /// A panel on the diagonal or below it, with labels where it is outermost.
    fn panel(&self, (column, row): (usize, usize), columns: &[Column], grid: &Grid) -> Markup {
        let (at, panel) = (grid.at(column, row), grid.panel);
        let x = columns[column].axis.clone().on(0.0, panel);
        let y = columns[row].axis.clone().on(panel, 0.0);
        let bins = &columns[column].bins;
        let up = Axis::new(Scale::Linear, Some((0.0, 1.08 * bins.top())), 0.0).on(panel, 0.0);
        let areas = || bins.areas().enumerate().map(|(i, area)| curve::draw(&area, i, &x, &up));
        let marks = match column == row {
            true => html! { @for area in areas() { (area) } },
            false => self.scatter((column, row), &x, &y),
        };
        html! {
            (window(at, panel, panel, marks))
            (Ink::Axis.group(stroke(&rect(at, panel, panel), Pen::of(0.8))))
            @if row + 1 == columns.len() { (bottom_labels(&x, (at.0, at.1 + panel), panel)) }
            @if column == 0 && row > 0 { (side_labels(&y, at, panel)) }
        }
    }

    fn scatter(&self, (column, row): (usize, usize), x: &Axis, y: &Axis) -> Markup {
        let dots = |layer: usize, values: &[f32]| {
            let n = values.len() / self.names.len();
            let kept = n.min(POINTS);
            let mut d = String::new();
            for i in (layer..kept).step_by(LAYERS) {
                let at = i * n / kept * self.names.len();
                let (a, b) = (values[at + column] as f64, values[at + row] as f64);
                if x.shows(a) && y.shows(b) {
                    // A stroke of no length with round ends is a dot.
                    d += &format!("M{} {}h0", px(x.place(a)), px(y.place(b)));
                }
            }
            d
        };
        html! {
            g stroke-linecap="round" {
                @for layer in 0..LAYERS {
                    @for (set, (_, values)) in self.sets.iter().enumerate() {
                        @let pen = Pen { opacity: Some(0.5), ..Pen::of(2.6) };
                        (Ink::Series(set).group(stroke(&dots(layer, values), pen)))
                    }
                }
            }
        }
    }

    fn correlations(&self, (a, b): (usize, usize), grid: &Grid) -> Markup {
        let size = (grid.panel / 7.0).clamp(9.0, 13.0);
        let (x, middle) = grid.centre(b, a);
        let first = middle - 0.75 * size * (self.sets.len() as f64 - 1.0) + 0.36 * size;
        let shown = |set| match correlation(self.values(set, a), self.values(set, b)) {
            Some(r) => format!("r = {}", fixed(r, 2)),
            None => "r undefined".into(),
        };
        html! {
            @for set in 0..self.sets.len() {
                @let at = (x, first + 1.5 * size * set as f64);
                (Ink::Series(set).group(text(at, size, "middle", &shown(set))))
            }
        }
    }
}

/// The left edge of the panels, and the space between them.
const LEFT: f64 = 58.0;
const GAP: f64 = 6.0;

/// Where the panels are, in pixels.
struct Grid {
    left: f64,
    top: f64,
    panel: f64,
}

impl Grid {
    fn at(&self, column: usize, row: usize) -> Point {
        let step = self.panel + GAP;
        (self.left + column as f64 * step, self.top + row as f64 * step)
    }

    fn centre(&self, column: usize, row: usize) -> Point {
        let (x, y) = self.at(column, row);
        (x + 0.5 * self.panel, y + 0.5 * self.panel)
    }
}

/// One column's axis and counts.
struct Column {
    axis: Axis,
    bins: Bins,
}

fn count(columns: &[Column]) -> Skipped {
    let mut sum = Skipped::default();
    columns.iter().for_each(|column| sum += column.bins.skipped);
    sum
}

fn bottom_labels(x: &Axis, (left, bottom): Point, panel: f64) -> Markup {
    let mut ticks = x.ticks((panel / 36.0).clamp(2.0, 5.0) as usize);
    x.thin(&mut ticks, TICK - 1.0);
    html! {
        @for (at, label) in ticks.iter().map(|(value, label)| (left + x.place(*value), label)) {
            (Ink::Axis.group(line((at, bottom), (at, bottom + 3.0), Pen::of(1.0))))
            (Ink::Muted.group(text((at, bottom + 4.0 + TICK), TICK - 1.0, "middle", label)))
        }
    }
}

fn side_labels(y: &Axis, (left, top): Point, panel: f64) -> Markup {
    let ticks = y.ticks((panel / 30.0).clamp(2.0, 5.0) as usize);
    html! {
        @for (at, label) in ticks.iter().map(|(value, label)| (top + y.place(*value), label)) {
            (Ink::Axis.group(line((left - 3.0, at), (left, at), Pen::of(1.0))))
            (Ink::Muted.group(text((left - 5.0, at + 0.36 * TICK), TICK - 1.0, "end", label)))
        }
    }
}

/// Pearson's correlation of the pairs that are finite; none where either side does not vary.
fn correlation(a: impl Iterator<Item = f64>, b: impl Iterator<Item = f64>) -> Option<f64> {
    let pairs: Vec<(f64, f64)> = a.zip(b).filter(|(a, b)| a.is_finite() && b.is_finite()).collect();
    let n = pairs.len() as f64;
    let (ma, mb) = pairs.iter().fold((0.0, 0.0), |(s, t), (a, b)| (s + a / n, t + b / n));
    let (mut aa, mut bb, mut ab) = (0.0, 0.0, 0.0);
    for (a, b) in &pairs {
        aa += (a - ma).powi(2);
        bb += (b - mb).powi(2);
        ab += (a - ma) * (b - mb);
    }
    let r = ab / (aa * bb).sqrt();
    r.is_finite().then_some(r)
}

#[cfg(test)]
mod tests {
    use super::super::svg::elements;
    use super::*;

    fn rows(n: usize) -> Vec<f32> {
        (0..n).flat_map(|i| [i as f32, ((i * 37) % 101) as f32, -(i as f32) * 0.5]).collect()
    }

    fn grid(sets: Vec<(String, Vec<f32>)>) -> PairGrid {
        PairGrid {
            names: ["a", "b <c>", "d"].map(String::from).to_vec(),
            sets,
            ..Default::default()
        }
    }

    #[test]
    fn a_panel_shows_a_thousand_points_of_each_set() {
        let svg =
            grid(vec![("data".into(), rows(5000)), ("samples".into(), rows(300))]).to_svg(600);
        elements(&svg);
        assert!(svg.contains("b &lt;c&gt;"));
        let dots = svg.matches("h0").count();
        // Three panels below the diagonal; the range has no stragglers, so nothing is left out.
        assert_eq!(dots, 3 * (1000 + 300));
    }

    #[test]
    fn correlations_are_exact() {
        assert_eq!(correlation([1., 2., 3.].into_iter(), [2., 4., 6.].into_iter()), Some(1.0));
        assert_eq!(correlation([1., 2., 3.].into_iter(), [1.; 3].into_iter()), None);
        assert_eq!(correlation([].into_iter(), [].into_iter()), None);
    }

    #[test]
    fn nothing_and_nonsense_draw() {
        elements(&PairGrid::default().to_svg(600));
        elements(&grid(vec![]).to_svg(600));
        let nonsense = vec![f32::NAN, 1.0, f32::INFINITY, 2.0, 1.0, 0.0];
        let grid = grid(vec![("empty".into(), vec![]), ("x".into(), nonsense)]);
        elements(&grid.to_svg(600));
        assert_eq!(grid.skipped().non_finite, 2);
    }

    #[test]
    #[should_panic(expected = "4 values are no rows of 3 columns")]
    fn rows_must_fit_the_names() {
        grid(vec![("x".into(), vec![0.0; 4])]).to_svg(600);
    }
}
