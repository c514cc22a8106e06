//! The report's tables.

use super::ReportInputs;
use crate::plot::{Series, escape, fixed, grouped, quantile, short, sorted_finite};

/// Beyond so many columns the table folds away.
const LONG: usize = 16;

pub(super) fn summary(rows: &[(String, String)]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let row = |(name, value): &(String, String)| {
        format!("<tr><th scope=\"row\">{}</th><td>{}</td></tr>\n", escape(name), escape(value))
    };
    format!(
        "<table class=\"key\"><tbody>\n{}</tbody></table>\n",
        rows.iter().map(row).collect::<String>()
    )
}

/// Mean ± standard error, spread and tails of each estimator's scores, and of other models' on the
/// same rows.
pub(super) fn scores(inputs: &ReportInputs) -> String {
    if inputs.scores.iter().all(|s| s.values.is_empty()) {
        return String::new();
    }
    let mut rows = String::new();
    for scores in inputs.scores.iter().chain(&inputs.baselines).filter(|s| !s.values.is_empty()) {
        let (sorted, skipped) = sorted_finite(scores.values.iter().copied());
        let moments = Moments::of(&sorted);
        let error = moments.sd / (sorted.len() as f64).sqrt();
        let number = |value| number(value, decimals(error));
        let mut cells =
            vec![format!("{} ± {}", number(moments.mean), number(error)), number(moments.sd)];
        cells.extend([0.01, 0.5, 0.99].map(|p| number(quantile(&sorted, p))));
        cells.extend([grouped(sorted.len()), grouped(skipped)]);
        rows += &row(&scores.name, &cells);
    }
    let heads = ["", "mean ± s.e.", "s.d.", "1 %", "median", "99 %", "rows", "not finite"];
    let unit = match inputs.lower_is_better {
        true => inputs.unit().to_string(),
        false => format!("log-likelihoods in {}", inputs.unit()),
    };
    table("named", &heads, &rows)
        + &format!(
            "<p class=\"caption\">Figures of the test rows: {}; the standard error is over test rows. Quantiles and \
             moments are of the finite values.</p>\n",
            escape(&unit)
        )
}

/// Every value of the plot against the number of steps, the worst included.
pub(super) fn steps(inputs: &ReportInputs) -> String {
    let all = &inputs.likelihood_vs_steps;
    let mut steps: Vec<f64> = all.iter().flat_map(|s| s.x.iter().copied()).collect();
    steps.sort_by(f64::total_cmp);
    steps.dedup();
    let cell = |series: &Series, step: f64| {
        let at = series.x.iter().position(|&x| x == step)?;
        let error = series.error.as_ref().map_or(f64::NAN, |e| e[at]);
        let value = |v| number(v, decimals(error));
        Some(match error.is_finite() {
            true => format!("{} ± {}", value(series.y[at]), value(error)),
            false => short(series.y[at], 4),
        })
    };
    // covariances side by side: they are few, and their figures long
    let of_step = |&step: &f64| {
        let cells: Vec<String> =
            all.iter().map(|series| cell(series, step).unwrap_or_default()).collect();
        row(&format!("K = {}", short(step, 4)), &cells)
    };
    let rows: String = steps.iter().map(of_step).collect();
    let heads: Vec<&str> = std::iter::once("").chain(all.iter().map(|s| s.name.as_str())).collect();
    table("steps", &heads, &rows)
        + &format!(
            "<p class=\"caption\">The values of the figure, in {}, ± one standard error.</p>\n",
            escape(inputs.unit())
        )
}

/// A table that scrolls by itself where a screen is narrower than it.
fn table(class: &str, heads: &[&str], rows: &str) -> String {
    let heads: String =
        heads.iter().map(|h| format!("<th scope=\"col\">{}</th>", escape(h))).collect();
    format!(
        "<div class=\"scroll\"><table class=\"{class}\"><thead><tr>{heads}</tr></thead>\n\
         <tbody>\n{rows}</tbody></table></div>\n"
    )
}

/// Mean, standard deviation and quantiles of every column, samples below data.
pub(super) fn marginals(inputs: &ReportInputs) -> String {
    let columns = inputs.column_names.len();
    if columns == 0 || inputs.data.is_empty() || inputs.samples.is_empty() {
        return String::new();
    }
    let mut rows = String::new();
    let mut skipped = 0;
    for (i, name) in inputs.column_names.iter().enumerate() {
        let column =
            |set: &[f32]| sorted_finite(set.iter().skip(i).step_by(columns).map(|&v| v as f64));
        let ((data, a), (samples, b)) = (column(&inputs.data), column(&inputs.samples));
        skipped += a + b;
        // Two figures of a tenth of the spread, which one straggler must not set.
        let digits = decimals(0.03 * (quantile(&data, 0.95) - quantile(&data, 0.05)));
        for (name, label, set) in
            [(name.as_str(), "data", &data), ("", inputs.sample_label(), &samples)]
        {
            let moments = Moments::of(set);
            let figures = [
                moments.mean,
                moments.sd,
                quantile(set, 0.05),
                quantile(set, 0.5),
                quantile(set, 0.95),
            ];
            let mut cells = vec![escape(label)];
            cells.extend(figures.map(|v| number(v, digits)));
            // The distance is the pair's, and stands beside the data.
            let apart = || number(kolmogorov_smirnov(&data, &samples), Some(3));
            cells.push(if name.is_empty() { String::new() } else { apart() });
            rows += &row(name, &cells);
        }
    }
    let heads = ["column", "", "mean", "s.d.", "5 %", "median", "95 %", "KS distance"];
    let table = table("paired", &heads, &rows);
    let table = if columns > LONG {
        format!("<details>\n<summary>All {columns} columns</summary>\n{table}</details>\n")
    } else {
        table
    };
    let skipped = if skipped > 0 {
        format!(" {} values not finite were left out.", grouped(skipped))
    } else {
        String::new()
    };
    format!(
        "{table}<p class=\"caption\">Each pair should agree; the Kolmogorov–Smirnov distance is the largest gap between the two \
         distribution functions, 0 where the marginals agree and 1 where they are apart.{skipped}</p>\n"
    )
}

fn row(name: &str, cells: &[String]) -> String {
    let cells: String = cells.iter().map(|c| format!("<td>{c}</td>")).collect();
    format!("<tr><td>{}</td>{cells}</tr>\n", escape(name))
}

/// The decimals that show two figures of `unit`; none where plain decimals would be too many or too
/// few.
fn decimals(unit: f64) -> Option<usize> {
    let exponent = unit.log10().floor();
    (-5.0..5.0).contains(&exponent).then(|| (1.0 - exponent).max(0.0) as usize)
}

/// With so many decimals, so that a row's numbers can be compared digit by digit; else to four
/// figures.
fn number(value: f64, decimals: Option<usize>) -> String {
    match decimals {
        _ if value.is_nan() => "–".into(),
        Some(decimals) if value.abs() < 1e7 => fixed(value, decimals),
        _ => short(value, 4),
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
