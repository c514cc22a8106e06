//! What every chart has around its marks: title, legend, axes, labels, note.

use super::axis::Axis;
use super::svg::{Anchor, Ink, Svg, fit, text_width};
use super::{Mark, Style};

pub(crate) const TITLE: f64 = 14.0;
pub(crate) const LABEL: f64 = 12.0;
pub(crate) const TICK: f64 = 11.0;
const LEGEND_ROW: f64 = 18.0;
const KEY: f64 = 22.0;
/// The height of a row of names of marks.
pub(crate) const MARK_ROW: f64 = TICK + 4.0;

/// One legend entry.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) colour: usize,
    pub(crate) key: Key,
}

/// The sign before a legend entry's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Line(Style),
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
    /// Draws the frame and, through `body`, the marks, in the coordinates of the axes it is given.
    pub(crate) fn draw(
        self,
        width: u32,
        height: u32,
        body: impl FnOnce(&mut Svg, &Axis, &Axis),
    ) -> String {
        let (width, height) = (width.max(160), height.max(120));
        let (w, h) = (width as f64, height as f64);
        let mut svg = Svg::new(width, height, self.title);

        let mut top = 8.0;
        svg.ink(Ink::Text);
        if !self.title.is_empty() {
            top += TITLE + 4.0;
            svg.text(
                (12.0, top - 4.0),
                TITLE,
                Anchor::Start,
                "font-weight=\"600\"",
                &fit(self.title, TITLE * 1.06, w - 24.0),
            );
            top += 4.0;
        }
        svg.close();
        top += legend(&mut svg, &self.legend, (12.0, top), w - 24.0);
        top += 6.0;
        let note = if self.note.is_empty() { 0.0 } else { TICK + 6.0 };
        let x_label = if self.x_label.is_empty() { 0.0 } else { LABEL + 8.0 };
        let bottom = h - 8.0 - note - x_label - TICK - 8.0;

        let y = self.y.on(bottom - top, 0.0);
        let y_ticks = y.ticks(((bottom - top) / 45.0).clamp(2.0, 8.0) as usize);
        let widest = y_ticks.iter().map(|(_, l)| text_width(l, TICK)).fold(0.0, f64::max);
        let left = 10.0 + if self.y_label.is_empty() { 0.0 } else { LABEL + 8.0 } + widest + 8.0;
        let right = w - 16.0;
        let x = self.x.on(0.0, right - left);
        let mut x_ticks = match &self.x_ticks {
            Some(values) => x.label(values),
            None => x.ticks(((right - left) / 80.0).clamp(2.0, 10.0) as usize),
        };
        x.thin(&mut x_ticks, TICK);

        svg.ink(Ink::Grid);
        for (value, _) in &y_ticks {
            let at = top + y.place(*value);
            svg.line((left, at), (right, at), "");
        }
        svg.close();

        svg.window(left, top, right - left, bottom - top);
        body(&mut svg, &x, &y);
        svg.close_window();

        svg.ink(Ink::Axis);
        svg.line((left, top), (left, bottom), "");
        svg.line((left, bottom), (right, bottom), "");
        for (value, _) in &x_ticks {
            svg.line((left + x.place(*value), bottom), (left + x.place(*value), bottom + 4.0), "");
        }
        for (value, _) in &y_ticks {
            svg.line((left - 4.0, top + y.place(*value)), (left, top + y.place(*value)), "");
        }
        svg.close();
        svg.ink(Ink::Muted);
        for (value, label) in &x_ticks {
            // The outermost labels stay on the page.
            let half = text_width(label, TICK) / 2.0;
            let at = (left + x.place(*value)).min(w - 4.0 - half);
            svg.text((at, bottom + 6.0 + TICK), TICK, Anchor::Middle, "", label);
        }
        for (value, label) in &y_ticks {
            svg.text(
                (left - 7.0, top + y.place(*value) + 0.36 * TICK),
                TICK,
                Anchor::End,
                "",
                label,
            );
        }
        svg.text(
            (left, h - 7.0),
            TICK,
            Anchor::Start,
            "font-style=\"italic\"",
            &fit(&self.note, TICK, right - left),
        );
        svg.close();
        svg.ink(Ink::Text);
        let middle = (left + right) / 2.0;
        svg.text(
            (middle, bottom + 8.0 + TICK + LABEL + 3.0),
            LABEL,
            Anchor::Middle,
            "",
            &fit(self.x_label, LABEL, right - left),
        );
        let (at, middle) = (10.0 + LABEL * 0.8, (top + bottom) / 2.0);
        let turn = format!("transform=\"rotate(-90 {at:.1} {middle:.1})\"");
        svg.text(
            (at, middle),
            LABEL,
            Anchor::Middle,
            &turn,
            &fit(self.y_label, LABEL, bottom - top + 30.0),
        );
        svg.close();
        svg.finish()
    }
}

/// Draws the legend in rows and returns their height. One entry needs a legend too: it says what is
/// drawn.
pub(crate) fn legend(svg: &mut Svg, entries: &[Entry], (left, top): (f64, f64), width: f64) -> f64 {
    let (mut x, mut row) = (left, 0.0);
    let entries: Vec<&Entry> = entries.iter().filter(|e| !e.name.is_empty()).collect();
    for entry in &entries {
        let name = fit(&entry.name, LABEL, width - KEY - 6.0);
        let space = KEY + 6.0 + text_width(&name, LABEL) + 14.0;
        if x > left && x + space - 14.0 > left + width {
            (x, row) = (left, row + 1.0);
        }
        let y = top + row * LEGEND_ROW + LEGEND_ROW / 2.0;
        svg.ink(Ink::Series(entry.colour));
        match entry.key {
            Key::Area => svg.fill(
                &rect(x + 4.0, y - 5.0, 14.0, 10.0),
                "fill-opacity=\"0.45\" stroke=\"currentColor\"",
            ),
            Key::Line(style) => {
                match style {
                    Style::Points => svg.circle((x + KEY / 2.0, y), 3.0),
                    // As pale as the curve, but broad enough to be seen alone.
                    Style::Faint => {
                        svg.line((x, y), (x + KEY, y), "stroke-width=\"4\" stroke-opacity=\"0.4\"")
                    }
                    style => svg.line((x, y), (x + KEY, y), line_attributes(style)),
                }
            }
        }
        svg.close();
        svg.ink(Ink::Text);
        svg.text((x + KEY + 6.0, y + 0.36 * LABEL), LABEL, Anchor::Start, "", &name);
        svg.close();
        x += space;
    }
    if entries.is_empty() { 0.0 } else { (row + 1.0) * LEGEND_ROW }
}

/// The stroke of a curve in `style`.
pub(crate) fn line_attributes(style: Style) -> &'static str {
    match style {
        Style::Solid | Style::Points => "stroke-width=\"1.8\" stroke-linejoin=\"round\"",
        Style::Dashed => "stroke-width=\"1.8\" stroke-dasharray=\"6 4\" stroke-linejoin=\"round\"",
        Style::Faint => "stroke-width=\"1\" stroke-opacity=\"0.4\" stroke-linejoin=\"round\"",
    }
}

/// A rectangle as a path.
pub(crate) fn rect(x: f64, y: f64, width: f64, height: f64) -> String {
    use super::svg::px;
    format!("M{} {}h{}v{}h{}z", px(x), px(y), px(width), px(height), px(-width))
}

/// Named vertical lines across a window `height` pixels high; names stand at the top, one below
/// another where they would touch, and each line begins at its name.
pub(crate) fn vertical_marks(svg: &mut Svg, marks: &[Mark], x: &Axis, width: f64, height: f64) {
    let mut shown: Vec<&Mark> = marks.iter().filter(|m| x.shows(m.at)).collect();
    shown.sort_by(|a, b| a.at.total_cmp(&b.at));
    svg.ink(Ink::Text);
    let mut ends: Vec<f64> = Vec::new();
    for mark in shown {
        let (at, room) = (x.place(mark.at), text_width(&mark.name, TICK));
        let right = at + 5.0 + room < width;
        let from = if right { at + 4.0 } else { (at - 4.0 - room).max(0.0) };
        let row = ends.iter().position(|&end| end + 6.0 < from).unwrap_or(ends.len());
        if row == ends.len() {
            ends.push(0.0);
        }
        ends[row] = from + room;
        let y = 3.0 + row as f64 * MARK_ROW;
        svg.line((at, y), (at, height), "stroke-width=\"1.3\" stroke-dasharray=\"4 3\"");
        svg.backdrop(from - 2.0, y - 1.0, room + 4.0, TICK + 4.0);
        svg.text((from, y + TICK - 1.0), TICK, Anchor::Start, "", &mark.name);
    }
    svg.close();
}

#[cfg(test)]
mod tests {
    use super::super::svg::elements;
    use super::*;

    #[test]
    fn a_long_legend_wraps() {
        let entry = |i| Entry {
            name: format!("a rather long entry {i}"),
            colour: i,
            key: Key::Line(Style::Solid),
        };
        let entries: Vec<Entry> = (0..5).map(entry).collect();
        let mut svg = Svg::new(400, 300, "");
        assert_eq!(legend(&mut svg, &entries, (0.0, 0.0), 400.0), 3.0 * LEGEND_ROW);
        assert_eq!(legend(&mut svg, &[], (0.0, 0.0), 400.0), 0.0);
        assert_eq!(elements(&svg.finish())["text"], 5);
    }
}
