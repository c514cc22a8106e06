//! The pairs plot: every pair of columns of several tables in one grid.

use super::axis::{Axis, Scale, fixed};
use super::frame::{Entry, Key, LABEL, TICK, TITLE, legend};
use super::histogram::Bins;
use super::svg::{Anchor, Ink, Svg, fit, px};
use super::{Skipped, sorted_finite, view_range};

/// At most so many points per set and panel: rows ⌊i n / 1000⌋, whatever the values.
const POINTS: usize = 1000;
/// Points are drawn in so many layers, the sets taking turns, so that none hides the others.
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
        let shown = self.shown();
        let columns = self.columns();
        let size = (size.max(200)) as f64;
        let entry = |(i, (name, _)): (usize, &(String, Vec<f32>))| Entry {
            name: name.clone(),
            colour: i,
            key: Key::Area,
        };
        let entries: Vec<Entry> = self.sets.iter().enumerate().map(entry).collect();
        // Laid out once without an audience, for its height.
        let title = if self.title.is_empty() { 0.0 } else { TITLE + 8.0 };
        let rows = legend(&mut Svg::new(1, 1, ""), &entries, (12.0, 0.0), size - 24.0);
        let top = 8.0 + title + rows + 6.0;
        let skipped = self.count(&columns);
        let note = if skipped.is_empty() { 0.0 } else { TICK + 10.0 };
        let (left, bottom) = (58.0, 40.0);
        let gap = 6.0;
        let panel = ((size - left - 10.0 + gap) / shown.max(1) as f64 - gap).max(10.0);
        let height = top + shown as f64 * (panel + gap) - gap + bottom + note;

        let mut svg = Svg::new(size as u32, height.ceil() as u32, &self.title);
        svg.ink(Ink::Text);
        svg.text(
            (12.0, 8.0 + TITLE),
            TITLE,
            Anchor::Start,
            "font-weight=\"600\"",
            &fit(&self.title, TITLE, size - 24.0),
        );
        svg.close();
        legend(&mut svg, &entries, (12.0, 8.0 + title), size - 24.0);
        for row in 0..shown {
            for column in 0..shown {
                let (x, y) =
                    (left + column as f64 * (panel + gap), top + row as f64 * (panel + gap));
                if column > row {
                    self.correlations(&mut svg, (row, column), (x, y), panel);
                    continue;
                }
                svg.window(x, y, panel, panel);
                let along = columns[column].axis.clone().on(0.0, panel);
                if column == row {
                    let bins = &columns[column].bins;
                    let peak = bins.densities.iter().flatten().fold(0.0_f64, |a, &v| a.max(v));
                    let up =
                        Axis::new(Scale::Linear, (peak > 0.0).then_some((0.0, 1.08 * peak)), 0.0);
                    bins.draw(&mut svg, &along, &up.on(panel, 0.0));
                } else {
                    let up = columns[row].axis.clone().on(panel, 0.0);
                    self.scatter(&mut svg, (column, row), &along, &up);
                }
                svg.close_window();
                svg.ink(Ink::Axis);
                let d = super::frame::rect(x, y, panel, panel);
                svg.stroke(&d, "stroke-width=\"0.8\"");
                svg.close();
                if row + 1 == shown {
                    bottom_labels(&mut svg, &along, (x, y + panel), panel);
                }
                if column == 0 && row > 0 {
                    side_labels(&mut svg, &columns[row].axis.clone().on(panel, 0.0), (x, y), panel);
                }
            }
        }
        svg.ink(Ink::Text);
        for (i, name) in self.names.iter().take(shown).enumerate() {
            let (x, y) = (left + i as f64 * (panel + gap), top + i as f64 * (panel + gap));
            let centre = x + panel / 2.0;
            let under = top + shown as f64 * (panel + gap) - gap + TICK + LABEL + 12.0;
            svg.text((centre, under), LABEL, Anchor::Middle, "", &fit(name, LABEL, panel));
            let (at, middle) = (8.0 + LABEL * 0.8, y + panel / 2.0);
            let turn = format!("transform=\"rotate(-90 {at:.1} {middle:.1})\"");
            svg.text((at, middle), LABEL, Anchor::Middle, &turn, &fit(name, LABEL, panel));
        }
        svg.close();
        svg.ink(Ink::Muted);
        svg.text(
            (left, height - 6.0),
            TICK,
            Anchor::Start,
            "font-style=\"italic\"",
            &fit(&skipped.note(), TICK, size - left),
        );
        svg.close();
        svg.finish()
    }

    /// What [`PairGrid::to_svg`] cannot show, over all rows and shown columns.
    pub fn skipped(&self) -> Skipped {
        self.count(&self.columns())
    }

    fn count(&self, columns: &[Column]) -> Skipped {
        columns.iter().fold(Skipped::default(), |mut sum, c| {
            sum += c.bins.skipped;
            sum
        })
    }

    fn shown(&self) -> usize {
        self.names.len().min(if self.max_columns == 0 { 6 } else { self.max_columns })
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
        (0..self.shown()).map(column).collect()
    }

    fn scatter(&self, svg: &mut Svg, (column, row): (usize, usize), x: &Axis, y: &Axis) {
        for layer in 0..LAYERS {
            for (set, (_, values)) in self.sets.iter().enumerate() {
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
                svg.ink(Ink::Series(set));
                svg.stroke(
                    &d,
                    "stroke-width=\"2.6\" stroke-linecap=\"round\" stroke-opacity=\"0.5\"",
                );
                svg.close();
            }
        }
    }

    fn correlations(&self, svg: &mut Svg, (a, b): (usize, usize), (x, y): (f64, f64), panel: f64) {
        let size = (panel / 7.0).clamp(9.0, 13.0);
        let line = size * 1.5;
        let first = y + panel / 2.0 - line * (self.sets.len() as f64 - 1.0) / 2.0 + 0.36 * size;
        for set in 0..self.sets.len() {
            let r = correlation(self.values(set, a), self.values(set, b));
            let text = r.map_or_else(|| "r undefined".into(), |r| format!("r = {}", fixed(r, 2)));
            svg.ink(Ink::Series(set));
            svg.text((x + panel / 2.0, first + set as f64 * line), size, Anchor::Middle, "", &text);
            svg.close();
        }
    }
}

/// One column's axis and counts.
struct Column {
    axis: Axis,
    bins: Bins,
}

fn bottom_labels(svg: &mut Svg, x: &Axis, (left, bottom): (f64, f64), panel: f64) {
    let mut ticks = x.ticks((panel / 36.0).clamp(2.0, 5.0) as usize);
    x.thin(&mut ticks, TICK - 1.0);
    for (value, label) in &ticks {
        svg.ink(Ink::Axis);
        svg.line((left + x.place(*value), bottom), (left + x.place(*value), bottom + 3.0), "");
        svg.close();
        svg.ink(Ink::Muted);
        svg.text(
            (left + x.place(*value), bottom + 4.0 + TICK),
            TICK - 1.0,
            Anchor::Middle,
            "",
            label,
        );
        svg.close();
    }
}

fn side_labels(svg: &mut Svg, y: &Axis, (left, top): (f64, f64), panel: f64) {
    for (value, label) in y.ticks((panel / 30.0).clamp(2.0, 5.0) as usize) {
        let at = top + y.place(value);
        svg.ink(Ink::Axis);
        svg.line((left - 3.0, at), (left, at), "");
        svg.close();
        svg.ink(Ink::Muted);
        svg.text((left - 5.0, at + 0.36 * TICK), TICK - 1.0, Anchor::End, "", &label);
        svg.close();
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
