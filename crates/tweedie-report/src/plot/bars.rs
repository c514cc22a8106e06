//! Shares of named things in several sets, as bars side by side.

use maud::html;

use super::frame::{LABEL, TICK, heading, legend};
use super::svg::{Ink, Pen, document, fill, fit, line, rect, text, text_width};
use super::{Series, Style};

/// Horizontal bars: for each name one of each set, with its share in per cent.
#[derive(Clone, Debug, Default)]
pub struct Bars {
    /// Above the chart; may be empty.
    pub title: String,
    /// What has shares, from top to bottom.
    pub names: Vec<String>,
    /// Names of the sets, and the share of each name in them, from 0 to 1.
    pub sets: Vec<(String, Vec<f64>)>,
}

/// The height of a bar, and the space between names.
const BAR: f64 = 11.0;
const GAP: f64 = 8.0;

impl Bars {
    /// The chart as an SVG document, as high as its names need.
    ///
    /// # Panics
    /// Where a set has not one share for each name.
    pub fn to_svg(&self, width: u32) -> String {
        for (name, shares) in &self.sets {
            assert_eq!(shares.len(), self.names.len(), "shares of set `{name}`");
        }
        let w = f64::from(width.max(160));
        let (title, head) = heading(&self.title, w - 24.0);
        let key = |(i, (name, _)): (usize, &(String, Vec<f64>))| {
            Series::line(name.clone(), vec![], vec![]).style(Style::Area).colour(i)
        };
        let keys: Vec<Series> = self.sets.iter().enumerate().map(key).collect();
        let (keys, rows) = legend(&keys, (12.0, head), w - 24.0);
        let widest = self.names.iter().map(|name| text_width(name, LABEL)).fold(0.0, f64::max);
        let room = widest.min(0.35 * w);
        let (left, right) = (18.0 + room, w - 62.0);
        let top = head + rows + 8.0;
        let of_name = self.sets.len() as f64 * BAR + GAP;
        let bottom = top + self.names.len() as f64 * of_name;
        let most = self.sets.iter().flat_map(|(_, shares)| shares).copied().fold(0.0, f64::max);
        let long = |share: f64| (right - left) * share.max(0.0) / most.max(f64::MIN_POSITIVE);
        let at = |name: usize, set: usize| top + name as f64 * of_name + set as f64 * BAR;
        let page = html! {
            (title) (keys)
            @for (i, (_, shares)) in self.sets.iter().enumerate() {
                (Ink::Series(i).group(html! {
                    @for (k, &share) in shares.iter().enumerate() {
                        (fill(&rect((left, at(k, i)), long(share), BAR - 2.0), 0.75))
                    }
                }))
                (Ink::Muted.group(html! {
                    @for (k, &share) in shares.iter().enumerate() {
                        @let place = (left + long(share) + 4.0, at(k, i) + BAR - 2.5);
                        (text(place, TICK - 1.0, "start", &per_cent(share)))
                    }
                }))
            }
            (Ink::Axis.group(line((left, top - 3.0), (left, bottom), Pen::of(1.0))))
            (Ink::Text.group(html! {
                @for (k, name) in self.names.iter().enumerate() {
                    @let middle = at(k, 0) + (of_name - GAP) / 2.0 + 0.36 * LABEL;
                    (text((left - 7.0, middle), LABEL, "end", &fit(name, LABEL, room)))
                }
            }))
        };
        document(w, bottom + 8.0, &self.title, page)
    }
}

/// A share in per cent, to three figures at most.
fn per_cent(share: f64) -> String {
    match 100.0 * share {
        0.0 => "0 %".into(),
        share if share < 0.1 => "< 0.1 %".into(),
        share if share < 10.0 => format!("{share:.1} %"),
        share => format!("{share:.0} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_shares() {
        let bars = Bars {
            title: "colour".into(),
            names: vec!["red".into(), "<green>".into()],
            sets: vec![("data".into(), vec![0.75, 0.25]), ("samples".into(), vec![0.5, 0.0])],
        };
        let svg = bars.to_svg(400);
        let found = crate::plot::elements(&svg);
        // three axes of bars that are not of no length, and the keys' two
        assert!(found["path"] >= 4, "{found:?}");
        assert!(svg.contains("&lt;green&gt;") && svg.contains("75 %") && svg.contains(">0 %"));
        let widths: Vec<f64> = svg
            .split("M")
            .filter_map(|path| path.split('h').nth(1)?.split('v').next()?.parse().ok())
            .collect();
        let long = |share: f64| {
            widths.iter().any(|w| (w - share * (400.0 - 62.0 - left(&svg))).abs() < 0.2)
        };
        assert!(long(1.0) && long(1.0 / 3.0) && long(2.0 / 3.0), "{widths:?}");
        assert_eq!([0.0004, 0.0123, 0.5].map(per_cent), ["< 0.1 %", "1.2 %", "50 %"]);
    }

    /// Where bars begin.
    fn left(svg: &str) -> f64 {
        let bars = svg.split("fill-opacity=\"0.75\"").next().unwrap();
        bars.rsplit("d=\"M").next().unwrap().split(' ').next().unwrap().parse().unwrap()
    }
}
