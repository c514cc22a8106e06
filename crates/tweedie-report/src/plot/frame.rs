//! What every chart has around its marks: title, legend or labels at the curves' ends, axes, note.

use maud::{Markup, html};

use super::axis::Axis;
use super::curve::{self, pen};
use super::svg::{
    Ink, Pen, Point, circle, document, fill, fit, line, px, rect, stroke, text, text_width, window,
    wrap,
};
use super::{LineChart, Mark, Series, Style};

pub(crate) const TITLE: f64 = 14.0;
pub(crate) const LABEL: f64 = 12.0;
pub(crate) const TICK: f64 = 11.0;
/// From one line of text to the next, beyond the height of its letters.
const LEADING: f64 = 4.0;
const LEGEND_ROW: f64 = 18.0;
const KEY: f64 = 22.0;
/// The height of a row of names of marks.
pub(crate) const MARK_ROW: f64 = TICK + 4.0;
/// Labels at the ends of curves: how far apart, and how far from their curves at most.
const APART: f64 = LABEL + 3.0;
const ASTRAY: f64 = 22.0;

/// Draws a chart with `note` below it.
pub(crate) fn draw(chart: &LineChart, note: &str, width: u32, height: u32) -> String {
    let (w, h) = (f64::from(width.max(160)), f64::from(height.max(120)));
    let (x, y) = chart.axes();
    let (title, head) = heading(&chart.title, w - 24.0);
    let y_label = wrap(&chart.y_label, LABEL, w - 24.0);
    let note = wrap(note, TICK, w - 24.0);
    let x_label = if chart.x_label.is_empty() { 0.0 } else { LABEL + 8.0 };
    let bottom = h - x_label - note.len() as f64 * (TICK + LEADING) - (TICK + 16.0);
    // the label of the y axis stands above it, where it can be read and has room
    let above = head + 8.0 + y_label.len() as f64 * (LABEL + 2.0 * LEADING);
    let ends = beside_ends(chart, &x, &y.clone().on(bottom - above, 0.0), 0.28 * w);
    let (legend, rows, margin) = match &ends {
        None => {
            let (legend, rows) = legend(&chart.series, (12.0, head), w - 24.0);
            (legend, rows, 16.0)
        }
        Some(ends) => (html! {}, 0.0, ends.widest + 26.0),
    };
    let top = above + rows;
    let bottom = bottom.max(top + 1.0);
    let y = y.on(bottom - top, 0.0);
    let y_ticks = y.ticks(((bottom - top) / 40.0).clamp(2.0, 8.0) as usize);
    let widest = y_ticks.iter().map(|(_, l)| text_width(l, TICK)).fold(0.0, f64::max);
    let (left, right) = (18.0 + widest, w - margin);
    let x = x.on(0.0, right - left);
    let mut x_ticks = match chart.x_ticks.clone().or_else(|| chart.few_x()) {
        Some(values) => x.label(&values),
        None => x.ticks(((right - left) / 80.0).clamp(2.0, 10.0) as usize),
    };
    x.thin(&mut x_ticks, TICK);
    // The outermost labels stay on the page.
    let inside = |at: f64, label: &str| at.min(w - 4.0 - text_width(label, TICK) / 2.0);
    let marks = html! {
        @for (i, series) in chart.series.iter().enumerate() {
            (curve::draw(series, series.colour.unwrap_or(i), &x, &y))
        }
        (vertical_marks(&chart.marks, &x, y.place(y.lo)))
    };
    let thin = Pen::of(1.0);
    let page = html! {
        (title) (legend)
        (Ink::Text.group(lines((12.0, head + rows + LABEL + 4.0), LABEL, &y_label)))
        (Ink::Grid.group(html! {
            @for (value, _) in &y_ticks {
                (line((left, top + y.place(*value)), (right, top + y.place(*value)), thin))
            }
        }))
        (window((left, top), right - left, bottom - top, marks))
        (Ink::Axis.group(html! {
            (line((left, top), (left, bottom), thin)) (line((left, bottom), (right, bottom), thin))
            @for at in x_ticks.iter().map(|(value, _)| left + x.place(*value)) {
                (line((at, bottom), (at, bottom + 4.0), thin))
            }
            @for at in y_ticks.iter().map(|(value, _)| top + y.place(*value)) {
                (line((left - 4.0, at), (left, at), thin))
            }
        }))
        (Ink::Muted.group(html! {
            @for (value, label) in &x_ticks {
                @let at = inside(left + x.place(*value), label);
                (text((at, bottom + 6.0 + TICK), TICK, "middle", label))
            }
            @for (value, label) in &y_ticks {
                (text((left - 7.0, top + y.place(*value) + 0.36 * TICK), TICK, "end", label))
            }
            @let first = h - 7.0 - (note.len().max(1) - 1) as f64 * (TICK + LEADING);
            g font-style="italic" { (lines((12.0, first), TICK, &note)) }
        }))
        (Ink::Text.group(html! {
            @let below = (left.midpoint(right), bottom + 11.0 + TICK + LABEL);
            (text(below, LABEL, "middle", &fit(&chart.x_label, LABEL, right - left)))
        }))
        @for end in ends.iter().flat_map(|ends| &ends.all) {
            (end.label((left + x.place(end.last.0) + 4.0, top + y.place(end.last.1)), (right, top)))
        }
    };
    document(w, h, &chart.title, page)
}

/// The title in bold, and how far down it reaches.
pub(crate) fn heading(title: &str, width: f64) -> (Markup, f64) {
    let rows = wrap(title, TITLE * 1.06, width);
    let marks = html! { g font-weight="600" { (lines((12.0, 8.0 + TITLE), TITLE, &rows)) } };
    let height = rows.len() as f64 * (TITLE + LEADING);
    (Ink::Text.group(marks), 8.0 + height + if rows.is_empty() { 0.0 } else { 4.0 })
}

/// Lines of text, one below another.
fn lines((x, y): Point, size: f64, rows: &[String]) -> Markup {
    html! {
        @for (i, row) in rows.iter().enumerate() {
            (text((x, y + i as f64 * (size + LEADING)), size, "start", row))
        }
    }
}

/// The names of all curves beside their ends, and the width of the widest.
struct Ends<'a> {
    all: Vec<End<'a>>,
    widest: f64,
}

struct End<'a> {
    series: &'a Series,
    colour: usize,
    /// The curve's last point, in the axes' units.
    last: (f64, f64),
    /// How far below the top of the window the name stands.
    place: f64,
}

impl End<'_> {
    /// The name, joined in the curve's colour and style to its end at `from`; to the right of a
    /// window whose corner is at `corner`.
    fn label(&self, from: Point, corner: Point) -> Markup {
        let to = (corner.0 + 14.0, corner.1 + self.place);
        let width = if self.series.style == Style::Faint { 3.0 } else { 1.2 };
        let pen = Pen { width, ..pen(self.series.style) };
        html! {
            (Ink::Series(self.colour).group(line(from, (to.0 - 4.0, to.1), pen)))
            (Ink::Text.group(text((to.0, to.1 + 0.36 * LABEL), LABEL, "start", &self.series.name)))
        }
    }
}

/// The names at the curves' ends, if there are two or more curves, each has a name and ends at the
/// right, no name must stand far from its curve and none is wider than `room`.
fn beside_ends<'a>(chart: &'a LineChart, x: &Axis, y: &Axis, room: f64) -> Option<Ends<'a>> {
    let x = x.clone().on(0.0, 1.0);
    let end = |(i, series): (usize, &'a Series)| {
        let points = series.values().map(|(x, y, _)| (x, y));
        let last = points.filter(|&(x, y)| chart.admits(x, y)).last()?;
        let line = !matches!(series.style, Style::Points | Style::Area);
        let seen = line
            && !series.name.is_empty()
            && x.shows(last.0)
            && y.shows(last.1)
            && x.place(last.0) > 0.85;
        let colour = series.colour.unwrap_or(i);
        seen.then(|| End { series, colour, last, place: y.place(last.1) })
    };
    let mut all: Vec<End> = chart.series.iter().enumerate().map(end).collect::<Option<_>>()?;
    let places = apart(&all.iter().map(|end| end.place).collect::<Vec<_>>(), APART);
    let near = all.iter().zip(&places).all(|(end, place)| (end.place - place).abs() <= ASTRAY);
    all.iter_mut().zip(places).for_each(|(end, place)| end.place = place);
    let widths = all.iter().map(|end| text_width(&end.series.name, LABEL));
    let widest = widths.fold(0.0, f64::max);
    (all.len() >= 2 && near && widest <= room).then_some(Ends { all, widest })
}

/// The places nearest to the wanted ones, by least squares, that are at least `gap` apart.
fn apart(wanted: &[f64], gap: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|&a, &b| wanted[a].total_cmp(&wanted[b]));
    // Isotonic regression of what is left after `gap` per rank: blocks of ascending means.
    let mut blocks: Vec<(f64, usize)> = Vec::new();
    for (rank, &i) in order.iter().enumerate() {
        let mut block = (wanted[i] - rank as f64 * gap, 1);
        while let Some(&(mean, n)) = blocks.last()
            && mean >= block.0
        {
            block =
                ((mean * n as f64 + block.0 * block.1 as f64) / (n + block.1) as f64, n + block.1);
            blocks.pop();
        }
        blocks.push(block);
    }
    let means = blocks.iter().flat_map(|&(mean, n)| std::iter::repeat_n(mean, n));
    let mut places = vec![0.0; wanted.len()];
    for (rank, (&i, mean)) in order.iter().zip(means).enumerate() {
        places[i] = mean + rank as f64 * gap;
    }
    places
}

/// The legend in rows, and their height. One entry needs a legend too: it says what is drawn.
pub(crate) fn legend(series: &[Series], (left, top): Point, width: f64) -> (Markup, f64) {
    let (mut x, mut row, mut marks) = (left, 0.0, Vec::new());
    for (i, series) in series.iter().enumerate().filter(|(_, s)| !s.name.is_empty()) {
        let name = fit(&series.name, LABEL, width - KEY - 6.0);
        let space = KEY + 6.0 + text_width(&name, LABEL) + 14.0;
        if x > left && x + space - 14.0 > left + width {
            (x, row) = (left, row + 1.0);
        }
        let y = top + row * LEGEND_ROW + LEGEND_ROW / 2.0;
        let (pen, from, to) = (pen(series.style), (x, y), (x + KEY, y));
        let outline = rect((x + 4.0, y - 5.0), 14.0, 10.0);
        let key = match series.style {
            Style::Area => html! { (fill(&outline, 0.45)) (stroke(&outline, Pen::of(1.0))) },
            Style::Points => circle((x + KEY / 2.0, y), 3.0),
            // As pale as the curve, but broad enough to be seen alone.
            Style::Faint => line(from, to, Pen { width: 4.0, ..pen }),
            Style::Solid | Style::Dashed => line(from, to, pen),
        };
        marks.push(Ink::Series(series.colour.unwrap_or(i)).group(key));
        let at = (x + KEY + 6.0, y + 0.36 * LABEL);
        marks.push(Ink::Text.group(text(at, LABEL, "start", &name)));
        x += space;
    }
    let height = if marks.is_empty() { 0.0 } else { (row + 1.0) * LEGEND_ROW };
    (html! { @for mark in &marks { (mark) } }, height)
}

/// Named vertical lines across a window `height` pixels high; names stand at the top, one below
/// another where they would touch, and each line begins at its name.
pub(crate) fn vertical_marks(marks: &[Mark], x: &Axis, height: f64) -> Markup {
    let mut shown: Vec<&Mark> = marks.iter().filter(|m| x.shows(m.at)).collect();
    shown.sort_by(|a, b| a.at.total_cmp(&b.at));
    let mut ends: Vec<f64> = Vec::new();
    let pen = Pen { dashes: Some("4 3"), ..Pen::of(1.3) };
    Ink::Text.group(html! {
        @for mark in shown {
            @let (at, room) = (x.place(mark.at), text_width(&mark.name, TICK));
            @let left = (at - 4.0 - room).max(0.0);
            @let from = if at + 5.0 + room < x.place(x.hi) { at + 4.0 } else { left };
            @let row = free_row(&mut ends, from, room);
            @let y = 3.0 + row as f64 * MARK_ROW;
            (line((at, y), (at, height), pen))
            rect class="tw-paper" x=(px(from - 2.0)) y=(px(y - 1.0)) width=(px(room + 4.0))
                height=(TICK + 4.0) fill="#ffffff" fill-opacity="0.8" {}
            (text((from, y + TICK - 1.0), TICK, "start", &mark.name))
        }
    })
}

/// The first row with room from `from` on, of rows taken up to `ends`; takes `width` of it.
fn free_row(ends: &mut Vec<f64>, from: f64, width: f64) -> usize {
    let row = ends.iter().position(|&end| end + 6.0 < from).unwrap_or(ends.len());
    if row == ends.len() {
        ends.push(0.0);
    }
    ends[row] = from + width;
    row
}

#[cfg(test)]
mod tests {
    use super::super::svg::elements;
    use super::*;

    #[test]
    fn a_long_legend_wraps() {
        let names = (0..5).map(|i| format!("a rather long entry {i}"));
        let series: Vec<Series> = names.map(|name| Series::line(name, vec![], vec![])).collect();
        let (marks, height) = legend(&series, (0.0, 0.0), 400.0);
        assert_eq!(height, 3.0 * LEGEND_ROW);
        assert_eq!(legend(&[], (0.0, 0.0), 400.0).1, 0.0);
        assert_eq!(elements(&document(400.0, 300.0, "", marks))["text"], 5);
    }

    /// By hand: 0 and 1 make room for each other around 0.5; 10 is far enough from both.
    #[test]
    fn labels_are_apart_and_near() {
        assert_eq!(apart(&[1.0, 10.0, 0.0], 4.0), [2.5, 10.0, -1.5]);
        assert!(apart(&[], 4.0).is_empty());
    }

    /// Curves that end at one place, or before the right edge, have a legend above the axes.
    #[test]
    fn names_stand_at_ends_that_are_apart() {
        let series = |slopes: &[f64], last: f64| LineChart {
            series: slopes
                .iter()
                .enumerate()
                .map(|(i, s)| Series::line(format!("curve {i}"), vec![0.0, last], vec![0.0, *s]))
                .collect(),
            x_range: Some((0.0, 1.0)),
            ..Default::default()
        };
        let x_of_name = |chart: LineChart| {
            let svg = chart.to_svg(600, 400);
            let (before, _) = svg.split_once(">curve 0<").unwrap();
            let (_, at) = before.rsplit_once("<text x=\"").unwrap();
            at.split_once('"').unwrap().0.parse::<f64>().unwrap()
        };
        assert!(x_of_name(series(&[1.0, 2.0], 1.0)) > 500.0);
        assert!(x_of_name(series(&[1.0, 2.0], 0.5)) < 100.0);
        assert!(x_of_name(series(&[1.0; 5], 1.0)) < 100.0);
        assert!(x_of_name(series(&[1.0], 1.0)) < 100.0);
        let mut shared = series(&[1.0, 2.0, 3.0], 1.0);
        shared.series[2].name.clear();
        assert!(x_of_name(shared) < 100.0, "the curve without a name shares one of the legend");
    }
}
