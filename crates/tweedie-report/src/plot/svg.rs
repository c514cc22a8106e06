//! An SVG writer: escaping, numbers, text widths, the theme.

use std::fmt::Write;

/// Okabe and Ito's colour-blind-safe palette (jfly.uni-koeln.de/color), strongest contrast on white
/// first; beside each colour its counterpart on a dark page, lighter where the original would sink.
pub(crate) const PALETTE: [(&str, &str); 7] = [
    ("#0072b2", "#5ab4f0"),
    ("#d55e00", "#f28a3c"),
    ("#009e73", "#2fc79a"),
    ("#cc79a7", "#e29cc4"),
    ("#e69f00", "#f0b93a"),
    ("#56b4e9", "#9ad4f7"),
    ("#000000", "#ececec"),
];

/// Text as it may stand in XML or HTML, in an element or a quoted attribute; characters that XML
/// 1.0 forbids become U+FFFD.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\t' | '\n' | '\r' => out.push(c),
            c if c < ' ' || c == '\u{fffe}' || c == '\u{ffff}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// A coordinate to a twentieth of a pixel, as short as it can be written.
pub(crate) fn px(value: f64) -> String {
    let text = format!("{:.1}", value);
    let text = text.strip_suffix(".0").unwrap_or(&text);
    if text == "-0" { "0".into() } else { text.into() }
}

/// The width of `text` at `size` pixels in a common sans-serif face, rather over than under.
pub(crate) fn text_width(text: &str, size: f64) -> f64 {
    let units: f64 = text
        .chars()
        .map(|c| match c {
            'i' | 'j' | 'l' | '.' | ',' | '\'' | ':' | ';' | '|' | '!' => 0.3,
            ' ' | 'f' | 't' | 'r' | '(' | ')' | '-' | '/' | 'I' => 0.39,
            'm' | 'w' | 'M' | 'W' | '@' | '%' => 0.94,
            '⁰'..='⁹' | '¹' | '²' | '³' | '⁻' => 0.42,
            'A'..='Z' => 0.7,
            '0'..='9' => 0.62,
            '−' | '±' | '×' | '=' | '<' | '>' | '+' => 0.72,
            c if c as u32 >= 0x2e80 => 1.05,
            _ => 0.6,
        })
        .sum();
    units * size
}

/// `text` cut to `width` pixels, with an ellipsis where something is missing.
pub(crate) fn fit(text: &str, size: f64, width: f64) -> String {
    if text_width(text, size) <= width {
        return text.into();
    }
    let mut out = String::new();
    for c in text.chars() {
        if text_width(&out, size) + text_width(&c.to_string(), size) + size > width {
            break;
        }
        out.push(c);
    }
    out.trim_end().to_string() + "…"
}

/// Where text stands relative to its point.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

/// What a group of marks is coloured as.
#[derive(Clone, Copy)]
pub(crate) enum Ink {
    /// Titles and labels.
    Text,
    /// Tick labels and notes.
    Muted,
    /// Axis lines.
    Axis,
    /// Grid lines.
    Grid,
    /// A palette entry.
    Series(usize),
}

/// An SVG document under construction.
pub(crate) struct Svg {
    out: String,
}

impl Svg {
    /// A document of `width` × `height` pixels on the page's own colour, described by `label`.
    pub(crate) fn new(width: u32, height: u32, label: &str) -> Svg {
        let label = escape(if label.is_empty() { "chart" } else { label });
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"tw-plot\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{label}\" \
             font-family=\"system-ui, sans-serif\" fill=\"none\">\n<style>"
        );
        let _ = write!(
            out,
            "@media screen and (prefers-color-scheme:dark){{.tw-paper{{fill:#15181d}}.tw-text{{color:#e4e6ea}}\
             .tw-muted{{color:#a4a9b3}}.tw-axis{{color:#767d8a}}.tw-grid{{color:#2b3038}}"
        );
        for (i, (_, dark)) in PALETTE.iter().enumerate() {
            let _ = write!(out, ".tw-k{i}{{color:{dark}}}");
        }
        out.push_str("}</style>\n");
        let _ = writeln!(
            out,
            "<rect class=\"tw-paper\" width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>"
        );
        Svg { out }
    }

    /// A group whose marks take `ink` as their `currentColor`, until [`Svg::close`].
    pub(crate) fn ink(&mut self, ink: Ink) {
        let (class, colour) = match ink {
            Ink::Text => ("text".to_string(), "#1c1f24"),
            Ink::Muted => ("muted".to_string(), "#5b616b"),
            Ink::Axis => ("axis".to_string(), "#8a909a"),
            Ink::Grid => ("grid".to_string(), "#e6e8eb"),
            Ink::Series(i) => (format!("k{}", i % PALETTE.len()), PALETTE[i % PALETTE.len()].0),
        };
        let _ = writeln!(self.out, "<g class=\"tw-{class}\" color=\"{colour}\">");
    }

    /// Ends a group.
    pub(crate) fn close(&mut self) {
        self.out.push_str("</g>\n");
    }

    /// A window in whose own coordinates marks are drawn and beyond which they are cut, until
    /// [`Svg::close_window`]. A nested viewport needs no identifier, so pages may hold many charts.
    pub(crate) fn window(&mut self, x: f64, y: f64, width: f64, height: f64) {
        let _ = writeln!(
            self.out,
            "<svg x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" overflow=\"hidden\">",
            px(x),
            px(y),
            px(width.max(0.1)),
            px(height.max(0.1))
        );
    }

    /// Ends a window.
    pub(crate) fn close_window(&mut self) {
        self.out.push_str("</svg>\n");
    }

    /// A straight line in the group's ink.
    pub(crate) fn line(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64), attributes: &str) {
        let _ = writeln!(
            self.out,
            "<path d=\"M{} {}L{} {}\" stroke=\"currentColor\" {attributes}/>",
            px(x1),
            px(y1),
            px(x2),
            px(y2)
        );
    }

    /// A stroked path in the group's ink.
    pub(crate) fn stroke(&mut self, d: &str, attributes: &str) {
        if !d.is_empty() {
            let _ = writeln!(self.out, "<path d=\"{d}\" stroke=\"currentColor\" {attributes}/>");
        }
    }

    /// A filled path in the group's ink.
    pub(crate) fn fill(&mut self, d: &str, attributes: &str) {
        if !d.is_empty() {
            let _ = writeln!(self.out, "<path d=\"{d}\" fill=\"currentColor\" {attributes}/>");
        }
    }

    /// A circle in the group's ink.
    pub(crate) fn circle(&mut self, (x, y): (f64, f64), radius: f64) {
        let _ = writeln!(
            self.out,
            "<circle cx=\"{}\" cy=\"{}\" r=\"{radius}\" fill=\"currentColor\"/>",
            px(x),
            px(y)
        );
    }

    /// Escaped text in the group's ink.
    pub(crate) fn text(
        &mut self,
        (x, y): (f64, f64),
        size: f64,
        anchor: Anchor,
        attributes: &str,
        text: &str,
    ) {
        if text.is_empty() {
            return;
        }
        let anchor = match anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        let _ = writeln!(
            self.out,
            "<text x=\"{}\" y=\"{}\" font-size=\"{size}\"{anchor} fill=\"currentColor\" {attributes}>{}</text>",
            px(x),
            px(y),
            escape(text)
        );
    }

    /// Text on the page's colour, for labels over curves.
    pub(crate) fn backdrop(&mut self, x: f64, y: f64, width: f64, height: f64) {
        let _ = writeln!(
            self.out,
            "<rect class=\"tw-paper\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"#ffffff\" fill-opacity=\"0.8\"/>",
            px(x),
            px(y),
            px(width),
            px(height)
        );
    }

    /// The finished document.
    pub(crate) fn finish(mut self) -> String {
        self.out.push_str("</svg>\n");
        self.out
    }
}

/// A reader of tags for tests: panics unless `text` is well-formed (balanced tags, quoted
/// attributes, known entities); counts elements by name.
#[cfg(test)]
pub(crate) fn elements(text: &str) -> std::collections::BTreeMap<String, usize> {
    let mut counts = std::collections::BTreeMap::new();
    let mut open: Vec<String> = Vec::new();
    let entities = |s: &str| {
        for part in s.split('&').skip(1) {
            let name = part.split_once(';').expect("an entity ends with ;").0;
            assert!(["amp", "lt", "gt", "quot", "#39"].contains(&name), "entity {name}");
        }
    };
    let mut rest = text.trim();
    while let Some(at) = rest.find('<') {
        entities(&rest[..at]);
        assert!(!rest[..at].contains('>'), "a bare > in {:?}", &rest[..at]);
        let end = at + rest[at..].find('>').expect("a tag ends");
        let tag = &rest[at + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "tags nest");
            continue;
        }
        let body = tag.strip_suffix('/').unwrap_or(tag);
        let (name, attributes) = body.split_once(' ').unwrap_or((body, ""));
        let mut seen = Vec::new();
        let mut attributes = attributes.trim();
        while !attributes.is_empty() {
            let (key, tail) = attributes.split_once("=\"").expect("attributes are quoted");
            let (value, tail) = tail.split_once('"').expect("quotes end");
            assert!(!seen.contains(&key), "attribute {key} twice in {tag}");
            assert!(!value.contains("NaN") && !value.contains("inf"), "{tag}");
            entities(value);
            seen.push(key);
            attributes = tail.trim();
        }
        *counts.entry(name.to_string()).or_insert(0) += 1;
        if !tag.ends_with('/') {
            open.push(name.into());
        }
    }
    assert!(open.is_empty() && rest.trim().is_empty(), "open at the end: {open:?} {rest:?}");
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_and_control_characters_replaced() {
        assert_eq!(
            escape("a<b & \"c\" 'd'>\u{1}"),
            "a&lt;b &amp; &quot;c&quot; &#39;d&#39;&gt;\u{fffd}"
        );
    }

    #[test]
    fn coordinates_are_short() {
        assert_eq!([px(1.0), px(-0.01), px(12.34)], ["1", "0", "12.3"]);
    }

    #[test]
    fn long_text_is_cut_to_fit() {
        let cut = fit("a_very_long_column_name_indeed", 11.0, 80.0);
        assert!(cut.ends_with('…') && text_width(&cut, 11.0) <= 85.0, "{cut}");
        assert_eq!(fit("short", 11.0, 80.0), "short");
    }
}
