//! SVG elements: numbers, text widths, the theme.

use maud::{Markup, PreEscaped, html};

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

/// The point `(x, y)` in pixels.
pub(crate) type Point = (f64, f64);

/// Text without the characters that XML 1.0 forbids, which become U+FFFD; escaping is the writer's.
pub(crate) fn printable(text: &str) -> String {
    let forbidden = |c: char| (c < ' ' && !"\t\n\r".contains(c)) || "\u{fffe}\u{ffff}".contains(c);
    text.replace(forbidden, "\u{fffd}")
}

/// A coordinate to a tenth of a pixel, as short as it can be written.
pub(crate) fn px(value: f64) -> String {
    let text = format!("{value:.1}");
    let text = text.strip_suffix(".0").unwrap_or(&text);
    if text == "-0" { "0".into() } else { text.into() }
}

/// The width of `text` at `size` pixels in a common sans-serif face, rather over than under.
pub(crate) fn text_width(text: &str, size: f64) -> f64 {
    let units = text.chars().map(|c| match c {
        'i' | 'j' | 'l' | '.' | ',' | '\'' | ':' | ';' | '|' | '!' => 0.3,
        ' ' | 'f' | 't' | 'r' | '(' | ')' | '-' | '/' | 'I' => 0.39,
        'm' | 'w' | 'M' | 'W' | '@' | '%' => 0.94,
        '⁰'..='⁹' | '¹' | '²' | '³' | '⁻' => 0.42,
        'A'..='Z' => 0.7,
        '0'..='9' => 0.62,
        '−' | '±' | '×' | '=' | '<' | '>' | '+' => 0.72,
        c if c as u32 >= 0x2e80 => 1.05,
        _ => 0.6,
    });
    units.sum::<f64>() * size
}

/// `text` cut to `width` pixels, with an ellipsis where something is missing.
pub(crate) fn fit(text: &str, size: f64, width: f64) -> String {
    if text_width(text, size) <= width {
        return text.into();
    }
    let mut out = text.to_string();
    while !out.is_empty() && text_width(&out, size) + size > width {
        out.pop();
    }
    out.trim_end().to_string() + "…"
}

/// `text` in lines of at most `width` pixels, broken between words.
pub(crate) fn wrap(text: &str, size: f64, width: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if text_width(&format!("{line} {word}"), size) <= width => {
                *line += " ";
                *line += word;
            }
            _ => lines.push(word.into()),
        }
    }
    lines.into_iter().map(|line| fit(&line, size, width)).collect()
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

impl Ink {
    /// A group of marks that take this ink as their `currentColor`.
    pub(crate) fn group(self, marks: Markup) -> Markup {
        let (class, colour) = match self {
            Ink::Text => ("text".to_string(), "#1c1f24"),
            Ink::Muted => ("muted".to_string(), "#5b616b"),
            Ink::Axis => ("axis".to_string(), "#8a909a"),
            Ink::Grid => ("grid".to_string(), "#e6e8eb"),
            Ink::Series(i) => (format!("k{}", i % PALETTE.len()), PALETTE[i % PALETTE.len()].0),
        };
        html! { g class={ "tw-" (class) } color=(colour) { (marks) } "\n" }
    }
}

/// A document of `width` × `height` pixels on the page's own colour, described by `label`. A media
/// query recolours it on a dark page, inside a report and as a file of its own.
pub(crate) fn document(width: f64, height: f64, label: &str, marks: Markup) -> String {
    let label = if label.is_empty() { "chart".into() } else { printable(label) };
    let dark: String =
        PALETTE.iter().enumerate().map(|(i, k)| format!(".tw-k{i}{{color:{}}}", k.1)).collect();
    let style = "@media screen and (prefers-color-scheme:dark){.tw-paper{fill:#15181d}\
         .tw-text{color:#e4e6ea}.tw-muted{color:#a4a9b3}.tw-axis{color:#767d8a}\
         .tw-grid{color:#2b3038}";
    let page = html! {
        svg xmlns="http://www.w3.org/2000/svg" class="tw-plot" width=(width) height=(height)
            viewBox={ "0 0 " (width) " " (height) } role="img" aria-label=(label)
            font-family="system-ui, sans-serif" fill="none" {
            style { (PreEscaped(style)) (PreEscaped(dark)) "}" }
            rect class="tw-paper" width=(width) height=(height) fill="#ffffff" {}
            "\n" (marks)
        }
        "\n"
    };
    page.into_string()
}

/// A window in whose own coordinates marks are drawn and beyond which they are cut. A nested
/// viewport needs no identifier, so pages may hold many charts.
pub(crate) fn window((x, y): Point, width: f64, height: f64, marks: Markup) -> Markup {
    html! {
        svg x=(px(x)) y=(px(y)) width=(px(width.max(0.1))) height=(px(height.max(0.1)))
            overflow="hidden" { (marks) }
    }
}

/// How a line is drawn.
#[derive(Clone, Copy)]
pub(crate) struct Pen {
    pub(crate) width: f64,
    pub(crate) dashes: Option<&'static str>,
    pub(crate) opacity: Option<f64>,
}

impl Pen {
    /// A solid line of this width in pixels.
    pub(crate) fn of(width: f64) -> Pen {
        Pen { width, dashes: None, opacity: None }
    }
}

/// A stroked path in the group's ink; none of no path.
pub(crate) fn stroke(d: &str, pen: Pen) -> Markup {
    html! {
        @if !d.is_empty() {
            path d=(d) stroke="currentColor" stroke-width=(pen.width) stroke-linejoin="round"
                stroke-dasharray=[pen.dashes] stroke-opacity=[pen.opacity] {}
        }
    }
}

/// A straight line in the group's ink.
pub(crate) fn line(from: Point, to: Point, pen: Pen) -> Markup {
    stroke(&format!("M{} {}L{} {}", px(from.0), px(from.1), px(to.0), px(to.1)), pen)
}

/// A filled path in the group's ink; none of no path.
pub(crate) fn fill(d: &str, opacity: f64) -> Markup {
    html! { @if !d.is_empty() { path d=(d) fill="currentColor" fill-opacity=(opacity) {} } }
}

/// A circle in the group's ink.
pub(crate) fn circle((x, y): Point, radius: f64) -> Markup {
    html! { circle cx=(px(x)) cy=(px(y)) r=(radius) fill="currentColor" {} }
}

/// A rectangle as a path.
pub(crate) fn rect((x, y): Point, width: f64, height: f64) -> String {
    format!("M{} {}h{}v{}h{}z", px(x), px(y), px(width), px(height), px(-width))
}

/// Text `size` pixels high in the group's ink, to the right of its point, in the middle above it
/// ("middle") or to the left of it ("end").
pub(crate) fn text((x, y): Point, size: f64, anchor: &str, text: &str) -> Markup {
    let anchor = (anchor != "start").then_some(anchor);
    html! {
        @if !text.is_empty() {
            text x=(px(x)) y=(px(y)) font-size=(size) text-anchor=[anchor] fill="currentColor" {
                (printable(text))
            }
        }
    }
}

/// A reader of tags for tests: panics unless `text` is well-formed (balanced tags, quoted
/// attributes, known entities); counts elements by name.
#[cfg(test)]
pub(crate) fn elements(text: &str) -> std::collections::BTreeMap<String, usize> {
    const VOID: [&str; 2] = ["meta", "img"];
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
        let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
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
        if !VOID.contains(&name) {
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
        let svg = text((0.0, 0.0), 12.0, "start", "a<b & \"c\" 'd'>\u{1}").into_string();
        assert!(svg.ends_with(">a&lt;b &amp; &quot;c&quot; 'd'&gt;\u{fffd}</text>"), "{svg}");
    }

    #[test]
    fn coordinates_are_short() {
        assert_eq!([px(1.0), px(-0.01), px(12.34)], ["1", "0", "12.3"]);
    }

    #[test]
    fn long_text_is_cut_to_fit_or_broken() {
        let cut = fit("a_very_long_column_name_indeed", 11.0, 80.0);
        assert!(cut.ends_with('…') && text_width(&cut, 11.0) <= 85.0, "{cut}");
        assert_eq!(fit("short", 11.0, 80.0), "short");
        assert_eq!(wrap("two words and a third", 10.0, 70.0), ["two words", "and a third"]);
        assert!(wrap("", 10.0, 70.0).is_empty());
    }
}
