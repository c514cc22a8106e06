//! What every chart has around its marks: title, legend or labels at the curves' ends, axes, note.

use maud::{Markup, html};

use super::axis::Axis;
use super::svg::{
    Ink, Pen, Point, circle, document, fill, fit, line, px, rect, stroke, text, text_width, window,
    wrap,
};
use super::{Mark, Style};

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

/// One legend entry.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) colour: usize,
    pub(crate) key: Key,
}

impl Entry {
    /// Entries of areas, in the palette's order.
    pub(crate) fn areas<'a>(names: impl Iterator<Item = &'a String>) -> Vec<Entry> {
        let entry =
            |(colour, name): (_, &String)| Entry { name: name.clone(), colour, key: Key::Area };
        names.enumerate().map(entry).collect()
    }
}

/// The sign before a legend entry's name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Key {
    /// A curve and its last point, in the axes' units.
    Line(Style, Option<(f64, f64)>),
    Area,
}

/// Everything around the marks.
#[derive(Clone, Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) title: &'a str,
    pub(crate) x_label: &'a str,
    pub(crate) y_label: &'a str,
    pub(crate) legend: Vec<Entry>,
    pub(crate) note: String,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    /// Ticks of the x axis, where the chart knows better than a rule.
    pub(crate) x_ticks: Option<Vec<f64>>,
}

impl Frame<'_> {
    /// Draws the frame and, through `marks`, what it frames, in the coordinates of the axes that
    /// `marks` is given.
    pub(crate) fn draw(
        self,
        width: u32,
        height: u32,
        marks: impl FnOnce(&Axis, &Axis) -> Markup,
    ) -> String {
        let (w, h) = (f64::from(width.max(160)), f64::from(height.max(120)));
        let entries: Vec<&Entry> = self.legend.iter().filter(|e| !e.name.is_empty()).collect();
        let (title, head) = heading(self.title, w - 24.0);
        let y_label = wrap(self.y_label, LABEL, w - 24.0);
        let note = wrap(&self.note, TICK, w - 24.0);
        let bottom = h
            - (if self.x_label.is_empty() { 0.0 } else { LABEL + 8.0 })
            - note.len() as f64 * (TICK + LEADING)
            - (TICK + 16.0);
        // the label of the y axis stands above it, where it can be read and has room
        let above = head + 6.0 + y_label.len() as f64 * (LABEL + LEADING);
        let ends =
            beside_ends(&entries, &self.x, &self.y.clone().on(bottom - above, 0.0), 0.28 * w);
        let (legend, rows, margin) = match &ends {
            None => {
                let (legend, rows) = legend(&entries, (12.0, head), w - 24.0);
                (legend, rows, 16.0)
            }
            Some((_, widest)) => (html! {}, 0.0, widest + 26.0),
        };
        let top = above + rows;
        let bottom = bottom.max(top + 1.0);
        let y = self.y.on(bottom - top, 0.0);
        let y_ticks = y.ticks(((bottom - top) / 45.0).clamp(2.0, 8.0) as usize);
        let widest = y_ticks.iter().map(|(_, l)| text_width(l, TICK)).fold(0.0, f64::max);
        let (left, right) = (18.0 + widest, w - margin);
        let x = self.x.on(0.0, right - left);
        let mut x_ticks = match &self.x_ticks {
            Some(values) => x.label(values),
            None => x.ticks(((right - left) / 80.0).clamp(2.0, 10.0) as usize),
        };
        x.thin(&mut x_ticks, TICK);
        // The outermost labels stay on the page.
        let inside = |at: f64, label: &str| at.min(w - 4.0 - text_width(label, TICK) / 2.0);
        let (thin, over) = (Pen::of(1.0), head + rows + LABEL);
        let page = html! {
            (title) (legend)
            (Ink::Text.group(html! { (lines((12.0, over), LABEL, &y_label)) }))
            (Ink::Grid.group(html! {
                @for (value, _) in &y_ticks {
                    (line((left, top + y.place(*value)), (right, top + y.place(*value)), thin))
                }
            }))
            (window((left, top), right - left, bottom - top, marks(&x, &y)))
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
                (text(below, LABEL, "middle", &fit(self.x_label, LABEL, right - left)))
            }))
            @for (place, entry) in ends.iter().flat_map(|(places, _)| places).zip(&entries) {
                (end_label(entry, (left, top), (&x, &y), (right + 14.0, top + place)))
            }
        };
        document(w, h, self.title, page)
    }
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

/// Where the names of curves stand beside the curves' ends, and the width of the widest, if all of
/// two or more curves end at the right and no name must stand far from its curve.
fn beside_ends(entries: &[&Entry], x: &Axis, y: &Axis, room: f64) -> Option<(Vec<f64>, f64)> {
    let x = x.clone().on(0.0, 1.0);
    let end = |entry: &&Entry| match entry.key {
        Key::Line(style, Some((at, value))) => {
            let seen = x.shows(at) && y.shows(value) && x.place(at) > 0.85;
            (style != Style::Points && seen).then(|| y.place(value))
        }
        _ => None,
    };
    let wanted: Vec<f64> = entries.iter().map(end).collect::<Option<_>>()?;
    let widest = entries.iter().map(|e| text_width(&e.name, LABEL)).fold(0.0, f64::max);
    let places = apart(&wanted, APART);
    let near = wanted.iter().zip(&places).all(|(a, b)| (a - b).abs() <= ASTRAY);
    (wanted.len() >= 2 && near && widest <= room).then_some((places, widest))
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

/// The name of a curve at `to`, joined to the curve's end in its colour.
fn end_label(entry: &Entry, (left, top): Point, (x, y): (&Axis, &Axis), to: Point) -> Markup {
    let Key::Line(_, Some((at, value))) = entry.key else { return html! {} };
    let from = (left + x.place(at) + 4.0, top + y.place(value));
    html! {
        (Ink::Series(entry.colour).group(line(from, (to.0 - 4.0, to.1), Pen::of(1.0))))
        (Ink::Text.group(text((to.0, to.1 + 0.36 * LABEL), LABEL, "start", &entry.name)))
    }
}

/// The legend in rows, and their height. One entry needs a legend too: it says what is drawn.
pub(crate) fn legend(entries: &[&Entry], (left, top): Point, width: f64) -> (Markup, f64) {
    let (mut x, mut row, mut marks) = (left, 0.0, Vec::new());
    for entry in entries {
        let name = fit(&entry.name, LABEL, width - KEY - 6.0);
        let space = KEY + 6.0 + text_width(&name, LABEL) + 14.0;
        if x > left && x + space - 14.0 > left + width {
            (x, row) = (left, row + 1.0);
        }
        let y = top + row * LEGEND_ROW + LEGEND_ROW / 2.0;
        let key = match entry.key {
            Key::Area => {
                let outline = rect((x + 4.0, y - 5.0), 14.0, 10.0);
                html! { (fill(&outline, 0.45)) (stroke(&outline, Pen::of(1.0))) }
            }
            Key::Line(Style::Points, _) => circle((x + KEY / 2.0, y), 3.0),
            // As pale as the curve, but broad enough to be seen alone.
            Key::Line(style @ Style::Faint, _) => {
                line((x, y), (x + KEY, y), Pen { width: 4.0, ..pen(style) })
            }
            Key::Line(style, _) => line((x, y), (x + KEY, y), pen(style)),
        };
        marks.push(Ink::Series(entry.colour).group(key));
        let at = (x + KEY + 6.0, y + 0.36 * LABEL);
        marks.push(Ink::Text.group(text(at, LABEL, "start", &name)));
        x += space;
    }
    let height = if marks.is_empty() { 0.0 } else { (row + 1.0) * LEGEND_ROW };
    (html! { @for mark in &marks { (mark) } }, height)
}

/// The line of a curve in `style`.
pub(crate) fn pen(style: Style) -> Pen {
    match style {
        Style::Solid | Style::Points => Pen::of(1.8),
        Style::Dashed => Pen { dashes: Some("6 4"), ..Pen::of(1.8) },
        Style::Faint => Pen { opacity: Some(0.4), ..Pen::of(1.0) },
    }
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
            @let from = if at + 5.0 + room < x.place(x.hi) { at + 4.0 } else { (at - 4.0 - room).max(0.0) };
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
    use super::super::{LineChart, Series, svg::elements};
    use super::*;

    #[test]
    fn a_long_legend_wraps() {
        let entry = |i| Entry {
            name: format!("a rather long entry {i}"),
            colour: i,
            key: Key::Line(Style::Solid, None),
        };
        let entries: Vec<Entry> = (0..5).map(entry).collect();
        let (marks, height) = legend(&entries.iter().collect::<Vec<_>>(), (0.0, 0.0), 400.0);
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
    }
}
