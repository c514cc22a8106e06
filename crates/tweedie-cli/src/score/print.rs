//! What is said of scores: as text, as JSON and on standard error.

use serde_json::{Value, json};
use tweedie::Result;
use tweedie::data::{Dataset, Place};
use tweedie::density::{AnomalyTest, Cost, Density, Parts, ScoreOptions, Scores};
use tweedie::likelihood::Summary;

use crate::json::json_row;
use crate::terminal::in_line;

const MINUTE: f64 = 60.0;
/// Doubtful rows that are named on standard error.
const FLAGS: usize = 5;
/// Least likely columns of a row that are named.
const COLUMNS: usize = 3;

/// Says how long the scores of images take, where that is more than a minute.
pub fn say_how_long(
    density: &Density,
    n: usize,
    options: &ScoreOptions,
    quiet: bool,
) -> Result<()> {
    if !density.is_of_images() {
        return Ok(());
    }
    if let Some(Cost { evaluations, seconds }) = density.cost_of_scores(n, options)?
        && seconds > MINUTE
    {
        let minutes = (seconds / MINUTE).ceil();
        say!(
            quiet,
            "{n} images of {evaluations} network evaluations take {minutes} minutes or more; \
             fewer --draws and --steps take less"
        );
    }
    Ok(())
}

/// Names the first doubtful rows, and says how many more there are.
pub fn say_doubts(table: &Dataset, scores: &Scores, quiet: bool) {
    for flag in scores.flags().iter().take(FLAGS) {
        say!(quiet, "warning: {}: {}", table.place(flag.row), flag.reason);
    }
    if let more @ 1.. = scores.flags().len().saturating_sub(FLAGS) {
        say!(quiet, "warning: {more} more doubtful rows");
    }
}

pub fn json(
    table: &Dataset,
    scores: &Scores,
    anomalies: &[usize],
    (test, parts): (Option<&AnomalyTest>, Option<&Parts>),
) -> Value {
    // JSON has no infinity
    let number = |value: f64| match value == f64::NEG_INFINITY {
        true => Value::from("-inf"),
        false => value.into(),
    };
    let listed = anomalies.iter().map(|&row| {
        let score = scores.values()[row];
        let mut about = json!({ "log_likelihood": number(score) });
        if let Some(test) = test {
            about["p_value"] = test.calibration.p_value(score).into();
        }
        if let Some(parts) = parts {
            let listed = parts.least_likely(row).into_iter().map(|(column, from_usual)| {
                json!({
                    "column": column.name, "given_rest": number(column.given_rest[row]),
                    "from_usual": number(from_usual),
                })
            });
            about["columns"] = listed.collect();
        }
        json_row(table.place(row), about)
    });
    let flags = scores
        .flags()
        .iter()
        .map(|flag| json_row(table.place(flag.row), json!({ "reason": flag.reason })));
    let Summary { mean, std_error, finite, minus_infinity, unsolved } = scores.summary();
    let estimate = &scores.estimate;
    let mut answer = json!({
        "rows": table.rows(), "mean": mean, "std_error": std_error, "offset": estimate.offset(),
        "kind": estimate.claim, "estimator": estimate.estimator, "draws": estimate.draws,
        "evaluations_per_row": estimate.evaluations, "flagged": estimate.flags.len(),
        "flags": flags.collect::<Vec<_>>(), "finite": finite, "minus_infinity": minus_infinity,
        "unsolved": unsolved, "unit": match table.latents_of() {
            Some(_) => "nats per row of latents",
            None => "nats per row, data units",
        },
        "anomalies": listed.collect::<Vec<_>>(),
    });
    if table.levels().is_some() {
        answer["bits_per_dim"] = scores.bits_per_dim().into();
    }
    answer
}

pub fn text(
    table: &Dataset,
    scores: &Scores,
    anomalies: &[usize],
    (test, parts): (Option<&AnomalyTest>, Option<&Parts>),
) -> Vec<String> {
    let nats = |nats: f64| match nats.abs() < 1e9 || !nats.is_finite() {
        true => format!("{nats:.4}"),
        false => format!("{nats:.4e}"),
    };
    let Summary { mean, std_error, finite, minus_infinity, unsolved } = scores.summary();
    let error = match finite {
        0 | 1 => String::new(),
        _ => format!(" ± {}", nats(std_error)),
    };
    let mut more = match scores.estimate.offset() {
        0.0 => String::new(),
        offset => format!("; offset {offset:+.4}, the data's units"),
    };
    if table.levels().is_some() {
        more = format!("; {:.4} bits per dimension{more}", scores.bits_per_dim());
    }
    if minus_infinity > 0 {
        more += &format!("; {minus_infinity} more rows at −∞, with which the mean is −∞");
    }
    if unsolved > 0 {
        more += &format!("; {unsolved} more rows not solved");
    }
    let of = if table.latents_of().is_some() { " of latents" } else { "" };
    let mut lines = vec![format!(
        "{finite} rows: {}{error} nats per row{of} ({}; {}{more}; {:.0} network evaluations per \
         row)",
        nats(mean),
        scores.estimate.estimator,
        scores.claim(),
        scores.estimate.evaluations
    )];
    if !anomalies.is_empty() {
        let named = if table.files.is_empty() { "" } else { "\timage" };
        let p_value = if test.is_some() { "\tp_value" } else { "" };
        let columns = if parts.is_some() { "\tleast likely columns, nats from usual" } else { "" };
        lines.push(format!("row\tlog_likelihood\tstd_error{p_value}{named}{columns}"));
    }
    for &row in anomalies {
        let Place { row: number, file } = table.place(row);
        let file = file.map_or_else(String::new, |file| format!("\t{}", in_line(&file)));
        let (value, error) = (nats(scores.values()[row]), nats(scores.std_errors()[row]));
        let p_value = test.map(|test| test.calibration.p_value(scores.values()[row]));
        let p_value = p_value.map_or_else(String::new, |p| format!("\t{p:.4}"));
        let columns = parts.map_or_else(String::new, |parts| {
            let all = parts.least_likely(row).into_iter().take(COLUMNS);
            let named = all.map(|(column, nats)| format!("{} ({nats:+.1})", in_line(&column.name)));
            format!("\t{}", named.collect::<Vec<_>>().join(", "))
        });
        lines.push(format!("{number}\t{value}\t{error}{p_value}{file}{columns}"));
    }
    lines
}
