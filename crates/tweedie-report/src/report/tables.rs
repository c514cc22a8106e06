//! The report's tables.

use maud::{Markup, html};

use super::ReportInputs;
use crate::number::grouped;
use crate::plot::{Series, quantile, sorted_finite};
use crate::table::{Cell, Column, Digits, Table};

/// The number of columns beyond which the table is folded.
const LONG: usize = 16;

pub(super) fn summary(rows: &[(String, String)]) -> Markup {
    html! {
        @if !rows.is_empty() {
            table class="key" {
                tbody {
                    @for (name, value) in rows {
                        tr { th scope="row" { (name) } td { (value) } }
                    }
                }
            }
        }
    }
}

/// Mean ± standard error, spread and tails of each estimator's scores, and of other models' on the
/// same rows.
pub(super) fn scores(inputs: &ReportInputs) -> Markup {
    if inputs.scores.iter().all(|s| s.values.is_empty()) {
        return html! {};
    }
    let mut table =
        Table::new(["", "mean ± s.e.", "s.d.", "1 %", "median", "99 %", "rows", "not finite"]);
    for scores in inputs.scores.iter().chain(&inputs.baselines).filter(|s| !s.values.is_empty()) {
        let (sorted, skipped) = sorted_finite(scores.values.iter().copied());
        let moments = Moments::of(&sorted);
        let error = moments.sd / (sorted.len() as f64).sqrt();
        let digits = two_figures(error);
        let quantile = |p| Cell::number(quantile(&sorted, p), digits);
        table.push([
            scores.name.as_str().into(),
            Cell::measured(moments.mean, error, digits),
            Cell::number(moments.sd, digits),
            quantile(0.01),
            quantile(0.5),
            quantile(0.99),
            sorted.len().into(),
            skipped.into(),
        ]);
    }
    let unit = match inputs.lower_is_better {
        true => inputs.unit().to_string(),
        false => format!("log-likelihoods in {}", inputs.unit()),
    };
    html! {
        (scrolling(&table, "named"))
        p class="caption" {
            "Figures of the test rows: " (unit) "; the standard error is over test rows. Quantiles \
             and moments are of the finite values."
        }
    }
}

/// Every value of the plot against the number of steps, the worst included: covariances side by
/// side, as they are few and their figures long.
pub(super) fn steps(inputs: &ReportInputs) -> Markup {
    let all = &inputs.likelihood_vs_steps;
    let mut steps: Vec<f64> = all.iter().flat_map(|s| s.x.iter().copied()).collect();
    steps.sort_by(f64::total_cmp);
    steps.dedup();
    let cell = |series: &Series, step: f64| {
        let at = series.x.iter().position(|&x| x == step)?;
        let error = series.error.as_ref().map_or(f64::NAN, |e| e[at]);
        Some(Cell::measured(series.y[at], error, two_figures(error)))
    };
    let names = all.iter().map(|series| Column::from(series.name.as_str()));
    let mut table = Table::new(std::iter::once(Column::default()).chain(names));
    for step in steps {
        let name = Cell::from(format!("K = {}", Cell::number(step, Digits::Significant(4))));
        let cells = all.iter().map(|series| Cell::from(cell(series, step)));
        table.push(std::iter::once(name).chain(cells));
    }
    html! {
        (scrolling(&table, "steps"))
        p class="caption" {
            "The values of the figure, in " (inputs.unit()) ", ± one standard error."
        }
    }
}

/// A table that scrolls by itself where a screen is narrower than it.
fn scrolling(table: &Table, class: &str) -> Markup {
    html! { div class="scroll" { (table.markup(class)) } }
}

/// Mean, standard deviation and quantiles of every column, samples below data.
pub(super) fn marginals(inputs: &ReportInputs) -> Markup {
    let columns = inputs.column_names.len();
    if columns == 0 || inputs.data.is_empty() || inputs.samples.is_empty() {
        return html! {};
    }
    let mut table =
        Table::new(["column", "", "mean", "s.d.", "5 %", "median", "95 %", "KS distance"]);
    let mut skipped = 0;
    for (i, name) in inputs.column_names.iter().enumerate() {
        let column =
            |set: &[f32]| sorted_finite(set.iter().skip(i).step_by(columns).map(|&v| v as f64));
        let ((data, a), (samples, b)) = (column(&inputs.data), column(&inputs.samples));
        skipped += a + b;
        // Two figures of a tenth of the spread, which one straggler must not set.
        let digits = two_figures(0.03 * (quantile(&data, 0.95) - quantile(&data, 0.05)));
        // The distance is the pair's, and stands beside the data.
        let apart = Cell::number(kolmogorov_smirnov(&data, &samples), 3);
        for (name, label, set, apart) in [
            (name.as_str(), "data", &data, apart),
            ("", inputs.sample_label(), &samples, Cell::Empty),
        ] {
            let Moments { mean, sd } = Moments::of(set);
            let [low, median, high] = [0.05, 0.5, 0.95].map(|p| quantile(set, p));
            let [a, b, c, d, e] =
                [mean, sd, low, median, high].map(|value| Cell::number(value, digits));
            table.push([name.into(), label.into(), a, b, c, d, e, apart]);
        }
    }
    html! {
        @if columns > LONG {
            details { summary { "All " (columns) " columns" } (scrolling(&table, "paired")) }
        } @else {
            (scrolling(&table, "paired"))
        }
        p class="caption" {
            "Each pair should agree; the Kolmogorov–Smirnov distance is the largest gap between \
             the two distribution functions, 0 where the marginals agree and 1 where they are \
             apart."
            @if skipped > 0 { " " (grouped(skipped)) " values not finite were left out." }
        }
    }
}

/// The decimals that show two figures of `unit`, so that a row's numbers can be compared digit by
/// digit; four figures where plain decimals would be too many or too few.
fn two_figures(unit: f64) -> Digits {
    let exponent = unit.log10().floor();
    match (-5.0..5.0).contains(&exponent) {
        true => Digits::Decimals((1.0 - exponent).max(0.0) as usize),
        false => Digits::Significant(4),
    }
}

/// Mean and standard deviation (divisor n − 1); NaN of too few values.
struct Moments {
    mean: f64,
    sd: f64,
}

impl Moments {
    fn of(values: &[f64]) -> Moments {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let sd = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
        Moments { mean, sd }
    }
}

/// The largest gap between the distribution functions of two ascending samples; NaN of none.
pub(super) fn kolmogorov_smirnov(a: &[f64], b: &[f64]) -> f64 {
    if a.is_empty() || b.is_empty() {
        return f64::NAN;
    }
    let (mut i, mut j, mut gap) = (0, 0, 0.0_f64);
    while i < a.len() && j < b.len() {
        let at = a[i].min(b[j]);
        while i < a.len() && a[i] <= at {
            i += 1;
        }
        while j < b.len() && b[j] <= at {
            j += 1;
        }
        gap = gap.max((i as f64 / a.len() as f64 - j as f64 / b.len() as f64).abs());
    }
    gap
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_of_known_samples() {
        // By hand: just above 2 the distribution functions are 2/4 and 0.
        assert_eq!(kolmogorov_smirnov(&[1., 2., 3., 4.], &[3., 4., 5., 6.]), 0.5);
        assert_eq!(kolmogorov_smirnov(&[1., 2.], &[1., 2.]), 0.0);
        assert_eq!(kolmogorov_smirnov(&[1., 1.], &[2.]), 1.0);
        assert!(kolmogorov_smirnov(&[], &[1.0]).is_nan());
    }

    #[test]
    fn moments_are_unbiased() {
        let moments = Moments::of(&[1., 2., 3., 4.]);
        assert_eq!((moments.mean, moments.sd), (2.5, (5.0f64 / 3.0).sqrt()));
    }
}
