//! An evaluation as text and as JSON.

use serde_json::{Value, json};
use tweedie::density::{Difference, Evaluation, ImageFigure, Line, Subject};
use tweedie::metric::forecast::Forecast;

use crate::json::clipped_json;

/// What a line is called.
fn name(line: &Line) -> String {
    let of = if line.of_against { "against: " } else { "" };
    format!("{of}{}", line.name)
}

/// What was found, for programs.
pub fn json(found: &Evaluation) -> Value {
    let line = |line: &Line| {
        let mut of_line = json!({
            "name": name(line), "kind": line.kind(), "value": line.value, "std_error": line.error,
        });
        if let Subject::Mmd { sampler, covariance, steps, samples } = line.subject {
            of_line["sampler"] = json!(sampler);
            of_line["steps"] = json!(steps);
            of_line["covariance"] = json!(covariance);
            of_line["samples"] = json!(samples);
        }
        for (than, less) in line.differences() {
            if let Some(Difference { mean, error }) = less {
                of_line[format!("minus_{than}")] = json!({ "mean": mean, "std_error": error });
            }
        }
        of_line
    };
    let undefined = found
        .undefined
        .iter()
        .map(|(subject, why)| json!({ "name": subject.to_string(), "reason": why }));
    let mut answer = json!({
        "rows": found.rows, "unit": found.unit(),
        "results": found.lines.iter().map(line).collect::<Vec<_>>(),
        "undefined": undefined.collect::<Vec<_>>(),
    });
    if !found.figures.is_empty() {
        answer["images"] = figures_json(&found.figures);
    }
    if let Some(quality) = &found.quality {
        answer["quality"] = json!(quality);
    }
    if !found.forecasts.is_empty() {
        answer["forecasts"] = json!(found.forecasts);
    }
    answer
}

/// The lines of text that say what was found.
pub fn text(found: &Evaluation) -> Vec<String> {
    let (rows, unit) = (found.rows, found.unit());
    let (head, column) = match found.images {
        true => (format!("{rows} images; {unit}; less is better"), "bits"),
        false => {
            let unit = match found.latents {
                true => "log-likelihoods in nats per row of latents",
                false => "log-likelihoods in nats per row, the data's own units",
            };
            (format!("{rows} rows; {unit}"), "nats")
        }
    };
    let undefined =
        found.undefined.iter().map(|(subject, why)| format!("{subject}: not defined: {why}"));
    let compared = |line: &Line| line.differences().iter().any(|(_, less)| less.is_some());
    let legend = found.lines.iter().any(compared).then(|| {
        "± one standard error over rows; of differences (−) over the differences of the same rows"
            .to_string()
    });
    let lines = std::iter::once(head).chain(table(&found.lines, column)).chain(undefined);
    let quality = found.quality.iter().flat_map(|quality| quality.lines());
    let forecasts = forecasts(&found.forecasts);
    let lines = lines.chain(legend).chain(figures(&found.figures));
    lines.chain(quality).chain(forecasts).collect()
}

/// A line for each number of which draws were judged, under one of titles.
fn forecasts(forecasts: &[Forecast]) -> Vec<String> {
    let Some(first) = forecasts.first() else { return Vec::new() };
    let head = format!(
        "{} draws a row; CRPS and errors in each column's own units; within: shares of rows in the \
         central 50 % and 90 % of draws; PIT: distance of ranks from uniform ones",
        first.draws
    );
    let titles = ["", "CRPS", "|median − y|", "within 50 %", "90 %", "PIT", "rows"];
    let line = |of: &Forecast| {
        let share = |i: usize| format!("{:.3}", of.coverage[i].1);
        let crps = match of.crps_error.is_finite() {
            true => format!("{} ± {}", short(of.crps), short(of.crps_error)),
            false => short(of.crps),
        };
        let (median, pit) = (short(of.median_error), format!("{:.3}", of.pit_distance));
        [of.column.clone(), crps, median, share(0), share(1), pit, of.rows.to_string()]
    };
    let rows: Vec<[String; 7]> =
        std::iter::once(titles.map(String::from)).chain(forecasts.iter().map(line)).collect();
    let width = |i: usize| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0);
    let padded = |row: &[String; 7]| {
        let cells = row.iter().enumerate().map(|(i, cell)| match (i, width(i)) {
            (0, width) => format!("{cell:width$}"),
            (_, width) => format!("{cell:>width$}"),
        });
        cells.collect::<Vec<_>>().join("  ")
    };
    std::iter::once(head).chain(rows.iter().map(padded)).collect()
}

/// A number in four digits.
fn short(value: f64) -> String {
    let digits: f64 = format!("{value:.3e}").parse().unwrap_or(value);
    format!("{digits}")
}

/// The `lines` in columns that fit them, without the differences that no line has.
fn table(lines: &[Line], unit: &str) -> Vec<String> {
    let titles = ["− base", "− Gaussian", "− against"];
    let shown: Vec<usize> = (0..titles.len())
        .filter(|&i| lines.iter().any(|line| line.differences()[i].1.is_some()))
        .collect();
    let with_error = |text: String, error: f64| match error.is_finite() {
        true => format!("{text} ± {error:.3}"),
        false => text,
    };
    let cells = |line: &Line| {
        let decimals = if line.rows.is_some() { 3 } else { 5 };
        let value = format!("{:.decimals$}", line.value);
        let differences = shown.iter().map(|&i| match line.differences()[i].1 {
            Some(Difference { mean, error }) => with_error(format!("{mean:+.3}"), error),
            None => String::new(),
        });
        let first = [name(line), with_error(value, line.error)];
        (first.into_iter().chain(differences).collect::<Vec<String>>(), line.kind())
    };
    let head = [String::new(), unit.to_string()];
    let head = head.into_iter().chain(shown.iter().map(|&i| titles[i].to_string())).collect();
    let rows: Vec<_> =
        std::iter::once((head, String::new())).chain(lines.iter().map(cells)).collect();
    let width = |i: usize| rows.iter().map(|(row, _)| row[i].chars().count()).max().unwrap_or(0);
    let line = |(row, kind): &(Vec<String>, String)| {
        let padded = row.iter().enumerate().map(|(i, cell)| match (i, width(i)) {
            (0, width) => format!("{cell:width$}"),
            (_, width) => format!("{cell:>width$}"),
        });
        let padded: Vec<String> = padded.collect();
        format!("{}  {kind}", padded.join("  ")).trim_end().to_string()
    };
    rows.iter().map(line).collect()
}

pub fn figures_json(figures: &[ImageFigure]) -> Value {
    let figure = |figure: &ImageFigure| {
        let sampling = &figure.sampling;
        let mut answer = json!({
            "name": figure.name,
            "value": figure.value,
            "std_deviation": figure.sd,
            "sampler": sampling.sampler,
            "steps": sampling.steps_taken(),
            "covariance": sampling.covariance_taken(),
            "guidance": sampling.guidance,
            "clipped": clipped_json(&figure.clipped),
            "samples": figure.samples,
            "reference": figure.reference,
            "features": figure.features,
            "clipped_levels": figure.clipped_levels,
        });
        let others = [
            ("last_step", json!(sampling.last)),
            ("covariance_until", json!(sampling.covariance_until)),
            ("eta", json!(sampling.eta)),
            ("clip", json!(sampling.range.is_some())),
            ("clip_noise", json!(sampling.clip_noise)),
            ("corrector_steps", json!(sampling.corrector_steps)),
            ("snr", json!(sampling.snr)),
        ];
        for (option, value) in others.into_iter().filter(|(option, _)| sampling.takes(option)) {
            answer[option] = value;
        }
        answer
    };
    figures.iter().map(figure).collect()
}

/// A line for each of `figures`.
pub fn figures(figures: &[ImageFigure]) -> Vec<String> {
    let width = figures.iter().map(|f| f.name.chars().count()).max().unwrap_or(0);
    let line = |figure: &ImageFigure| {
        let ImageFigure { name, value, samples, features, .. } = figure;
        let (parts, sampling) = (ImageFigure::PARTS, figure.sampling.in_words());
        let sd = figure.sd.map(|sd| format!(" ± {sd:.4} between {parts} parts"));
        let against = figure.reference.as_ref().map(|reference| format!(" against {reference}"));
        let (sd, against) = (sd.unwrap_or_default(), against.unwrap_or_default());
        let clipped = match figure.clipped_levels {
            0 => String::new(),
            clipped => format!("; {clipped} levels beyond 0…255 clipped"),
        };
        format!(
            "{name:width$} {value:>10.4}{sd}  {sampling}; {samples} samples{against}; \
             {features}{clipped}"
        )
    };
    figures.iter().map(line).collect()
}
