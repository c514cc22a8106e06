//! Samples of one variable as overlaid densities in common bins.

use super::frame::{self, MARK_ROW};
use super::{LineChart, Mark, Series, Skipped, Style, quantile, sorted_finite, view_range};

/// Overlaid histograms, each normalised to a density, in common bins.
///
/// The range is the data's own, unless a few stragglers would shrink the rest to a line: then the
/// bulk is shown and the stragglers are counted below it. They count in the normalisation, so that
/// the area shown is the part of the sample shown.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    /// Above the chart; may be empty.
    pub title: String,
    /// Below the x axis.
    pub x_label: String,
    /// Names and values of the samples.
    pub samples: Vec<(String, Vec<f64>)>,
    /// The number of bins; by default the finer of Freedman and Diaconis's and the Rice rule,
    /// between 10 and 80.
    pub bins: Option<usize>,
    /// The range shown; by default as described above.
    pub range: Option<(f64, f64)>,
    /// Named vertical lines.
    pub marks: Vec<Mark>,
}

impl Histogram {
    /// The chart as an SVG document.
    pub fn to_svg(&self, width: u32, height: u32) -> String {
        let bins = self.bins();
        // Room above the bars for the marks' names, were they one below another.
        let names = self.marks.len() as f64 * MARK_ROW / f64::from(height.max(220) - 100);
        let names = names.min(0.4);
        let ((lo, hi), names_of) = (bins.range, self.samples.iter().map(|(name, _)| name));
        let chart = LineChart {
            title: self.title.clone(),
            x_label: self.x_label.clone(),
            y_label: "density".into(),
            series: names_of
                .zip(bins.areas())
                .map(|(n, s)| Series { name: n.clone(), ..s })
                .collect(),
            x_range: Some((lo - 0.01 * (hi - lo), hi + 0.01 * (hi - lo))),
            y_range: Some((0.0, bins.top() / (0.94 - names))),
            marks: self.marks.clone(),
            ..Default::default()
        };
        frame::draw(&chart, &bins.skipped.note(), width, height)
    }

    /// What [`Histogram::to_svg`] cannot show.
    pub fn skipped(&self) -> Skipped {
        self.bins().skipped
    }

    fn bins(&self) -> Bins {
        let samples: Vec<&[f64]> = self.samples.iter().map(|(_, v)| v.as_slice()).collect();
        let marks: Vec<f64> = self.marks.iter().map(|m| m.at).collect();
        Bins::new(&samples, self.bins, self.range, &marks)
    }
}

/// Samples counted in common bins.
pub(crate) struct Bins {
    pub(crate) range: (f64, f64),
    /// One density per bin, by sample.
    pub(crate) densities: Vec<Vec<f64>>,
    pub(crate) skipped: Skipped,
}

impl Bins {
    /// Bins over `range`, or over what is worth showing of the samples and the `marks` near them.
    pub(crate) fn new(
        samples: &[&[f64]],
        bins: Option<usize>,
        range: Option<(f64, f64)>,
        marks: &[f64],
    ) -> Bins {
        let (pooled, non_finite) = sorted_finite(samples.iter().copied().flatten().copied());
        let mut skipped = Skipped { non_finite, ..Default::default() };
        let usable = |&(lo, hi): &(f64, f64)| lo.is_finite() && hi.is_finite() && lo < hi;
        let (lo, hi) = range.filter(usable).unwrap_or_else(|| {
            let (lo, hi) = view_range(&pooled, 0.005).unwrap_or((0.0, 1.0));
            // A mark within half a width of the data widens the range.
            let reach = 0.5 * (hi - lo);
            let near = |m: &&f64| **m >= lo - reach && **m <= hi + reach;
            let (lo, hi) =
                marks.iter().filter(near).fold((lo, hi), |(a, b), &m| (a.min(m), b.max(m)));
            let least = lo.abs().max(hi.abs()).max(1.0) * 1e-6;
            if hi - lo > least { (lo, hi) } else { (lo - 0.5, hi + 0.5) }
        });
        for mark in marks {
            skipped.count(mark.is_finite(), true, (lo..=hi).contains(mark));
        }
        let count = bins.unwrap_or_else(|| {
            // Freedman and Diaconis (1981): width 2 IQR n^(-1/3), with the size of a typical
            // sample.
            let n = pooled.len() as f64 / samples.len().max(1) as f64;
            let width =
                2.0 * (quantile(&pooled, 0.75) - quantile(&pooled, 0.25)) * n.powf(-1.0 / 3.0);
            let bins = if width > 0.0 { ((hi - lo) / width).ceil() } else { 0.0 };
            // The quartiles of far modes say nothing of their width: never fewer than 2 n^(1/3)
            // (Rice).
            bins.max((2.0 * n.cbrt()).ceil()).clamp(10.0, 80.0) as usize
        });
        let count = count.max(1);
        let width = (hi - lo) / count as f64;
        let mut densities = Vec::new();
        for sample in samples {
            let mut counts = vec![0usize; count];
            let mut total = 0;
            for &v in sample.iter().filter(|v| v.is_finite()) {
                total += 1;
                if v < lo || v > hi {
                    skipped.beyond += 1;
                } else {
                    counts[(((v - lo) / width) as usize).min(count - 1)] += 1;
                }
            }
            let unit = 1.0 / (total.max(1) as f64 * width);
            densities.push(counts.into_iter().map(|c| c as f64 * unit).collect());
        }
        Bins { range: (lo, hi), densities, skipped }
    }

    /// The highest density; 1 where there is none.
    pub(crate) fn top(&self) -> f64 {
        let top = self.densities.iter().flatten().fold(0.0_f64, |a, &v| a.max(v));
        if top > 0.0 { top } else { 1.0 }
    }

    /// The steps of each sample as an area without a name.
    pub(crate) fn areas(&self) -> impl Iterator<Item = Series> {
        let (lo, hi) = self.range;
        self.densities.iter().enumerate().map(move |(i, densities)| {
            let edge = |b: usize| lo + (hi - lo) * b as f64 / densities.len() as f64;
            let (mut x, mut y) = (vec![lo], vec![0.0]);
            for (b, &density) in densities.iter().enumerate() {
                x.extend([edge(b), edge(b + 1)]);
                y.extend([density; 2]);
            }
            x.push(hi);
            y.push(0.0);
            match densities.iter().any(|&d| d > 0.0) {
                true => Series::line("", x, y).style(Style::Area).colour(i),
                false => Series::line("", vec![], vec![]).style(Style::Area).colour(i),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::svg::elements;
    use super::*;

    #[test]
    fn densities_integrate_to_the_part_shown() {
        let a: Vec<f64> = (0..1000).map(|i| i as f64 / 999.0).collect();
        let mut b = a.clone();
        b.extend([1e9; 2]);
        b.push(f64::NAN);
        let bins = Bins::new(&[&a, &b], None, None, &[]);
        assert_eq!(bins.skipped, Skipped { non_finite: 1, beyond: 2, ..Default::default() });
        let width = (bins.range.1 - bins.range.0) / bins.densities[0].len() as f64;
        let area = |i: usize| bins.densities[i].iter().sum::<f64>() * width;
        assert!((area(0) - 1.0).abs() < 1e-12 && (area(1) - 1000.0 / 1002.0).abs() < 1e-12);
    }

    #[test]
    fn nothing_one_value_and_nonsense_draw() {
        for values in
            [vec![], vec![3.0], vec![2.0; 50], vec![f64::NAN, f64::INFINITY], vec![-1e308, 1e308]]
        {
            let chart = Histogram { samples: vec![("a".into(), values)], ..Default::default() };
            elements(&chart.to_svg(640, 400));
        }
        elements(&Histogram::default().to_svg(640, 400));
    }

    #[test]
    fn near_marks_are_shown_and_far_ones_counted() {
        let values: Vec<f64> = (0..100).map(f64::from).collect();
        let marks = vec![Mark::new("near <1>", 120.0), Mark::new("far", -500.0)];
        let chart = Histogram { samples: vec![("a".into(), values)], marks, ..Default::default() };
        let svg = chart.to_svg(640, 400);
        elements(&svg);
        assert!(svg.contains("near &lt;1&gt;") && !svg.contains(">far<"));
        assert_eq!(chart.skipped().beyond, 1);
    }
}
