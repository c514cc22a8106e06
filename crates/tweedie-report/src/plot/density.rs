//! Exact densities beside kernel estimates of samples.

mod bandwidth;

use super::line::LineChart;
use super::{COLOURS, Mark, Series, Skipped, Style, sorted_finite, view_range};

/// A Gaussian kernel density estimate: f(x) = (1/nh) Σ φ((x − xᵢ)/h).
#[derive(Clone, Debug)]
pub struct GaussianKde {
    sorted: Vec<f64>,
    bandwidth: f64,
    non_finite: usize,
}

impl GaussianKde {
    /// With the bandwidth of Sheather and Jones (1991), which follows the modes' width and not
    /// their distance; values that are not finite are skipped and counted.
    pub fn new(values: &[f64]) -> GaussianKde {
        let (sorted, non_finite) = sorted_finite(values.iter().copied());
        let bandwidth =
            bandwidth::sheather_jones(&sorted).or_else(|| bandwidth::silverman(&sorted));
        GaussianKde { sorted, bandwidth: bandwidth.unwrap_or(1.0), non_finite }
    }

    /// With the bandwidth `h` > 0.
    ///
    /// # Panics
    /// Where `h` is not positive.
    pub fn with_bandwidth(values: &[f64], h: f64) -> GaussianKde {
        assert!(h > 0.0 && h.is_finite(), "bandwidth {h} is not positive");
        let (sorted, non_finite) = sorted_finite(values.iter().copied());
        GaussianKde { sorted, bandwidth: h, non_finite }
    }

    /// The bandwidth h, in the values' unit.
    pub fn bandwidth(&self) -> f64 {
        self.bandwidth
    }

    /// How many values were not finite.
    pub fn non_finite(&self) -> usize {
        self.non_finite
    }

    /// The estimate at `x`; kernels more than 8 h away (below 10⁻¹⁴) are left out. Zero of no
    /// values.
    pub fn density(&self, x: f64) -> f64 {
        let from = self.sorted.partition_point(|&v| v < x - 8.0 * self.bandwidth);
        let to = self.sorted.partition_point(|&v| v <= x + 8.0 * self.bandwidth);
        let kernel = |v: &f64| (-0.5 * ((x - v) / self.bandwidth).powi(2)).exp();
        let sum: f64 = self.sorted[from..to].iter().map(kernel).sum();
        sum / (self.sorted.len().max(1) as f64 * self.bandwidth * std::f64::consts::TAU.sqrt())
    }
}

/// Exact density curves (dashed) and kernel estimates of samples (solid) over one variable.
#[derive(Clone, Debug, Default)]
pub struct DensityChart {
    /// Above the chart; may be empty.
    pub title: String,
    /// Below the x axis.
    pub x_label: String,
    /// Density curves, drawn in the style each asks for.
    pub curves: Vec<Series>,
    /// Names and values of samples, drawn by their [`GaussianKde`].
    pub samples: Vec<(String, Vec<f64>)>,
    /// The range shown; by default that of the samples' bulk, or of the curves where there is none.
    pub x_range: Option<(f64, f64)>,
    /// Named vertical lines.
    pub marks: Vec<Mark>,
}

impl DensityChart {
    /// The chart as an SVG document.
    ///
    /// # Panics
    /// Where a curve's `x` and `y` differ in length.
    pub fn to_svg(&self, width: u32, height: u32) -> String {
        self.chart().to_svg(width, height)
    }

    /// What [`DensityChart::to_svg`] cannot show.
    pub fn skipped(&self) -> Skipped {
        self.chart().skipped()
    }

    fn chart(&self) -> LineChart {
        let range = self.x_range.or_else(|| {
            let (pooled, _) =
                sorted_finite(self.samples.iter().flat_map(|(_, v)| v.iter().copied()));
            let (lo, hi) = view_range(&pooled, 0.005).filter(|(lo, hi)| lo < hi)?;
            Some((lo - 0.1 * (hi - lo), hi + 0.1 * (hi - lo)))
        });
        let mut series = Vec::new();
        for (i, (name, values)) in self.samples.iter().enumerate() {
            let kde = GaussianKde::new(values);
            let range = match kde.sorted.first() {
                _ if range.is_some() => range,
                around => around.map(|&v| (v - 4.0, v + 4.0)),
            };
            let curve = range.map(|range| Series::curve(name, range, 401, |x| kde.density(x)));
            let none = || Series::line(name, vec![], vec![]);
            let curve = curve.filter(|_| !kde.sorted.is_empty()).unwrap_or_else(none);
            series.push(curve.colour(i));
        }
        // Exact curves above the estimates that should follow them.
        for (i, curve) in self.curves.iter().enumerate() {
            let mut curve = curve.clone();
            // Black first: exact is no method among methods.
            let own = if i == 0 { COLOURS - 1 } else { self.samples.len() + i - 1 };
            curve.colour = curve.colour.or(Some(own));
            if let (Some((lo, hi)), None, None) = (range, self.x_range, &curve.error) {
                // A curve wider than the samples is cut with the axis and nothing is lost.
                curve.check();
                let points = curve.values().filter(|(x, ..)| !(*x < lo || *x > hi));
                (curve.x, curve.y) = points.map(|(x, y, _)| (x, y)).unzip();
            }
            series.push(curve);
        }
        let heights = series.iter().flat_map(|s| s.y.iter().copied()).filter(|y| y.is_finite());
        let top = heights.fold(0.0_f64, f64::max);
        LineChart {
            title: self.title.clone(),
            x_label: self.x_label.clone(),
            y_label: "density".into(),
            y_range: Some((0.0, if top > 0.0 { 1.06 * top } else { 1.0 })),
            x_range: range,
            marks: self.marks.clone(),
            series,
            ..Default::default()
        }
    }

    /// Adds an exact density, dashed, evaluated at 401 points of `range`.
    pub fn exact(
        mut self,
        name: impl Into<String>,
        range: (f64, f64),
        f: impl Fn(f64) -> f64,
    ) -> DensityChart {
        self.curves.push(Series::curve(name, range, 401, f).style(Style::Dashed));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::super::{linspace, svg::elements};
    use super::*;

    fn normal(x: f64) -> f64 {
        (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt()
    }

    #[test]
    fn one_value_is_its_kernel() {
        let kde = GaussianKde::with_bandwidth(&[2.0, f64::NAN], 0.5);
        assert_eq!(kde.non_finite(), 1);
        assert!((kde.density(2.3) - normal(0.6) / 0.5).abs() < 1e-15);
    }

    #[test]
    fn no_spread_and_no_values_have_a_bandwidth() {
        assert_eq!(GaussianKde::new(&[1.0; 9]).bandwidth(), 1.0);
        assert_eq!(GaussianKde::new(&[]).density(0.0), 0.0);
    }

    #[test]
    fn the_estimate_integrates_to_one() {
        let values: Vec<f64> = (0..500).map(|i| ((i * 7919) % 500) as f64 / 50.0).collect();
        let kde = GaussianKde::new(&values);
        let grid = linspace((-10.0, 20.0), 3001);
        let area: f64 = grid.iter().map(|&x| kde.density(x)).sum::<f64>() * 0.01;
        assert!((area - 1.0).abs() < 1e-6, "{area}");
    }

    #[test]
    fn nothing_and_nonsense_draw() {
        for values in [vec![], vec![1.0], vec![f64::NAN; 3], vec![0.0; 10]] {
            let chart =
                DensityChart { samples: vec![("a<b".into(), values)], ..Default::default() };
            elements(&chart.to_svg(640, 400));
            elements(&chart.exact("exact", (-3.0, 3.0), normal).to_svg(640, 400));
        }
        let chart = DensityChart::default().exact("broken", (0.0, 1.0), |x| 1.0 / (x - 0.5));
        assert_eq!(chart.skipped().non_finite, 1);
    }
}
