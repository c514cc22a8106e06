//! Where most of a quantity lies, for named things in several sets: lines between two quantiles.

use maud::html;

use super::axis::{Axis, Scale};
use super::frame::{LABEL, TICK, heading, legend};
use super::svg::{Ink, Pen, circle, document, fit, line, text, text_width, wrap};
use super::{Series, Skipped, Style};

/// Horizontal lines between two quantiles with a dot at the median: for each name one of each set.
#[derive(Clone, Debug, Default)]
pub struct Ranges {
    /// Above the chart; may be empty.
    pub title: String,
    /// Below the axis.
    pub x_label: String,
    /// What has ranges, from top to bottom.
    pub names: Vec<String>,
    /// Names of the sets, and for each name the lower quantile, the median and the upper quantile;
    /// one that is not finite is not drawn, and counted.
    pub sets: Vec<(String, Vec<[f64; 3]>)>,
}

/// The height of a line with its dot, and the space between names.
const ROW: f64 = 11.0;
const GAP: f64 = 8.0;

impl Ranges {
    /// The chart as an SVG document, as high as its names need.
    ///
    /// # Panics
    /// Where a set has not one range for each name.
    pub fn to_svg(&self, width: u32) -> String {
        for (name, ranges) in &self.sets {
            assert_eq!(ranges.len(), self.names.len(), "ranges of set `{name}`");
        }
        let w = f64::from(width.max(160));
        let (title, head) = heading(&self.title, w - 24.0);
        let key = |(i, (name, _)): (usize, &(String, Vec<[f64; 3]>))| {
            Series::line(name.clone(), vec![], vec![]).style(Style::Points).colour(i)
        };
        let keys: Vec<Series> = self.sets.iter().enumerate().map(key).collect();
        let (keys, rows) = legend(&keys, (12.0, head), w - 24.0);
        let widest = self.names.iter().map(|name| text_width(name, LABEL)).fold(0.0, f64::max);
        let room = widest.min(0.35 * w);
        let (left, right) = (18.0 + room, w - 20.0);
        let top = head + rows + 8.0;
        let of_name = self.sets.len() as f64 * ROW + GAP;
        let bottom = top + self.names.len() as f64 * of_name;
        let x = Axis::new(Scale::Linear, self.extent(), 0.03).on(left, right);
        let mut ticks = x.ticks(((right - left) / 80.0).clamp(2.0, 8.0) as usize);
        x.thin(&mut ticks, TICK);
        let at = |name: usize, set: usize| top + name as f64 * of_name + (set as f64 + 0.5) * ROW;
        let note = wrap(&self.skipped().note(), TICK, w - 24.0);
        let below = bottom + 11.0 + TICK + LABEL;
        let height = below + 8.0 + note.len() as f64 * (TICK + 4.0);
        let thin = Pen::of(1.0);
        let page = html! {
            (title) (keys)
            (Ink::Grid.group(html! {
                @for (value, _) in &ticks {
                    (line((x.place(*value), top - 3.0), (x.place(*value), bottom), thin))
                }
            }))
            @for (i, (_, ranges)) in self.sets.iter().enumerate() {
                (Ink::Series(i).group(html! {
                    @for (k, [low, middle, high]) in ranges.iter().enumerate() {
                        @if is_finite(&ranges[k]) {
                            @let y = at(k, i);
                            (line((x.place(*low), y), (x.place(*high), y), Pen::of(2.0)))
                            (circle((x.place(*middle), y), 3.5))
                        }
                    }
                }))
            }
            (Ink::Axis.group(html! {
                (line((left, top - 3.0), (left, bottom), thin))
                (line((left, bottom), (right, bottom), thin))
                @for (value, _) in &ticks {
                    (line((x.place(*value), bottom), (x.place(*value), bottom + 4.0), thin))
                }
            }))
            (Ink::Muted.group(html! {
                @for (value, label) in &ticks {
                    (text((x.place(*value), bottom + 6.0 + TICK), TICK, "middle", label))
                }
                @for (i, words) in note.iter().enumerate() {
                    @let y = below + 6.0 + TICK + i as f64 * (TICK + 4.0);
                    (text((12.0, y), TICK, "start", words))
                }
            }))
            (Ink::Text.group(html! {
                @for (k, name) in self.names.iter().enumerate() {
                    @let middle = at(k, 0) + (of_name - GAP - ROW) / 2.0 + 0.36 * LABEL;
                    (text((left - 7.0, middle), LABEL, "end", &fit(name, LABEL, room)))
                }
                @let middle = (left.midpoint(right), below);
                (text(middle, LABEL, "middle", &fit(&self.x_label, LABEL, right - left)))
            }))
        };
        document(w, height, &self.title, page)
    }

    /// What [`Ranges::to_svg`] cannot show, in ranges.
    pub fn skipped(&self) -> Skipped {
        let all = self.sets.iter().flat_map(|(_, ranges)| ranges);
        let non_finite = all.filter(|range| !is_finite(range)).count();
        Skipped { non_finite, ..Skipped::default() }
    }

    fn extent(&self) -> Option<(f64, f64)> {
        let all = self.sets.iter().flat_map(|(_, ranges)| ranges);
        let ends = all.filter(|range| is_finite(range)).flatten();
        ends.fold(None, |all: Option<(f64, f64)>, &end| {
            Some(all.map_or((end, end), |(low, high)| (low.min(end), high.max(end))))
        })
    }
}

fn is_finite(range: &[f64; 3]) -> bool {
    range.iter().all(|end| end.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_lie_where_their_quantiles_are() {
        let ranges = Ranges {
            title: "wage by <job>".into(),
            x_label: "wage".into(),
            names: vec!["a".into(), "b & c".into()],
            sets: vec![
                ("data".into(), vec![[0.0, 5.0, 10.0], [2.0, 4.0, 6.0]]),
                ("samples".into(), vec![[1.0, 5.0, 9.0], [f64::NAN; 3]]),
            ],
        };
        let svg = ranges.to_svg(400);
        let found = crate::plot::elements(&svg);
        // three dots, and the keys' two
        assert_eq!(found["circle"], 5);
        assert_eq!(ranges.skipped().non_finite, 1);
        assert!(svg.contains("b &amp; c") && svg.contains("1 not finite"));
        // the dots of one median, which is in the middle of the first set's range
        let of_dots: Vec<f64> = svg
            .split("<circle cx=\"")
            .skip(3)
            .filter_map(|part| part.split('"').next()?.parse().ok())
            .collect();
        assert_eq!(of_dots[0], of_dots[2]);
        let long: Vec<f64> = svg
            .split("stroke-width=\"2\"")
            .filter_map(|part| {
                let (from, to) = part.rsplit_once("d=\"M")?.1.split_once('L')?;
                let x = |text: &str| text.split(' ').next()?.parse::<f64>().ok();
                Some(x(to)? - x(from)?)
            })
            .collect();
        assert!((long[1] / long[0] - 0.4).abs() < 0.01, "{long:?}");
        assert!((long[2] / long[0] - 0.8).abs() < 0.01, "{long:?}");
    }

    #[test]
    fn nothing_and_nonsense_draw() {
        crate::plot::elements(&Ranges::default().to_svg(0));
        let nonsense = Ranges {
            names: vec!["a".into()],
            sets: vec![("x".into(), vec![[f64::NAN, f64::INFINITY, 0.0]])],
            ..Ranges::default()
        };
        crate::plot::elements(&nonsense.to_svg(300));
    }
}
