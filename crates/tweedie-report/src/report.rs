//! A run told on one self-contained HTML page: verdict, figures, tables, configuration; no script,
//! no network.

mod base64;
mod columns;
mod figures;
mod tables;
mod verdict;

use crate::plot::{Series, escape};
pub use verdict::{Difference, verdict};

/// One line of a run's `metrics.jsonl`, as the curves of a training need it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MetricPoint {
    /// Optimiser steps done.
    pub iteration: u64,
    /// The training loss, in the objective's own units; NaN where none was recorded. Lower is
    /// better.
    pub train_loss: f64,
    /// The loss smoothed by an exponential moving average, in the same units.
    pub train_loss_ema: Option<f64>,
    /// The figure of held-out rows by which weights are chosen, of the averaged weights: another
    /// quantity than the loss.
    pub validation: Option<f64>,
}

/// Log-likelihoods of test rows by one estimator, or their bits per dimension.
#[derive(Clone, Debug, Default)]
pub struct Scores {
    /// The estimator, as the legend shall name it: "ELBO, K = 1000".
    pub name: String,
    /// One value per test row; those that are not finite are counted and left out.
    pub values: Vec<f64>,
}

/// What the report is made of. Everything may be empty; an empty part has no section.
#[derive(Clone, Debug, Default)]
pub struct ReportInputs {
    /// The page's title.
    pub title: String,
    /// What the figures say, in plain words, one paragraph each; [`verdict()`] writes them.
    pub verdict: Vec<String>,
    /// What a reader of any figure has to know of the data and the training, one sentence each.
    pub remarks: Vec<String>,
    /// Key figures: name and value, as they shall be read.
    pub summary: Vec<(String, String)>,
    /// How the run was made: name and value.
    pub about: Vec<(String, String)>,
    /// The complete configuration.
    pub config_toml: String,
    /// The curves of the training, in its order.
    pub losses: Vec<MetricPoint>,
    /// What the training loss is, for its axis. Empty: "loss".
    pub loss_label: String,
    /// What the validation's figure is and its unit, for its axis. Empty: "validation".
    pub validation_label: String,
    /// Whether a lower validation figure is the better one.
    pub lower_validation_is_better: bool,
    /// The iteration whose weights the run keeps, where it is known.
    pub kept_iteration: Option<u64>,
    /// The columns' names; none for images.
    pub column_names: Vec<String>,
    /// Test data, row-major, in the data's own units.
    pub data: Vec<f32>,
    /// Samples of the model, row-major.
    pub samples: Vec<f32>,
    /// How the samples were drawn, for legends. Empty: "samples".
    pub sample_label: String,
    /// Figures of test rows, by estimator.
    pub scores: Vec<Scores>,
    /// Those of other models on the same rows; their means are vertical marks.
    pub baselines: Vec<Scores>,
    /// The unit of scores and likelihoods. Empty: "nats per row".
    pub unit: String,
    /// Whether a lower score is the better one, as of bits per dimension.
    pub lower_is_better: bool,
    /// The mean score against the number of steps, one series per covariance with standard errors.
    pub likelihood_vs_steps: Vec<Series>,
    /// Pictures: caption and the bytes of a PNG file.
    pub sheets: Vec<(String, Vec<u8>)>,
    /// What was clipped, floored or flagged, with its count, one sentence each.
    pub flags: Vec<String>,
    /// Further remarks, one paragraph each.
    pub notes: Vec<String>,
}

impl ReportInputs {
    fn unit(&self) -> &str {
        if self.unit.is_empty() { "nats per row" } else { &self.unit }
    }

    /// What a score is, with its unit.
    fn quantity(&self) -> String {
        match self.lower_is_better {
            true => self.unit().into(),
            false => format!("log-likelihood, {}", self.unit()),
        }
    }

    fn sample_label(&self) -> &str {
        if self.sample_label.is_empty() { "samples" } else { &self.sample_label }
    }
}

/// The page.
///
/// # Panics
/// Where `data` or `samples` are no rows of the named columns, or a series' lengths differ.
pub fn html(inputs: &ReportInputs) -> String {
    let title = escape(if inputs.title.is_empty() { "Report" } else { &inputs.title });
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <title>{title}</title>\n<style>\n{}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n",
        include_str!("report/style.css")
    );
    page += &boxed("verdict", "What the figures say", &inputs.verdict);
    page += &boxed("flags", "Beside every figure of this run", &inputs.remarks);
    page += &tables::summary(&inputs.summary);
    page += &boxed("flags", "Clipped, floored or flagged", &inputs.flags);
    for (heading, body) in [
        ("How it was made", tables::summary(&inputs.about)),
        ("Training", figures::training(inputs)),
        (
            if inputs.lower_is_better {
                "Bits of the test rows"
            } else {
                "Likelihood of the test rows"
            },
            figures::scores(inputs) + &tables::scores(inputs),
        ),
        ("Likelihood against the number of steps", figures::likelihood_vs_steps(inputs)),
        ("Samples", figures::sheets(inputs)),
        ("Data and samples, pair by pair", figures::pairs(inputs)),
        ("Data and samples, column by column", tables::marginals(inputs)),
        ("Notes", notes(&inputs.notes)),
        ("Configuration", configuration(&inputs.config_toml)),
    ] {
        if !body.is_empty() {
            page += &format!("<section>\n<h2>{heading}</h2>\n{body}</section>\n");
        }
    }
    page += &format!(
        "<footer>Written by tweedie {}. This page needs no network.</footer>\n</main>\n</body>\n</html>\n",
        env!("CARGO_PKG_VERSION")
    );
    page
}

/// A list under a heading, set apart from the text.
fn boxed(class: &str, heading: &str, items: &[String]) -> String {
    if items.is_empty() {
        return String::new();
    }
    let items: String = items.iter().map(|f| format!("<li>{}</li>\n", escape(f))).collect();
    format!("<div class=\"{class}\"><strong>{heading}</strong>\n<ul>\n{items}</ul></div>\n")
}

fn notes(notes: &[String]) -> String {
    notes.iter().map(|n| format!("<p>{}</p>\n", escape(n))).collect()
}

fn configuration(toml: &str) -> String {
    if toml.trim().is_empty() {
        return String::new();
    }
    let lines = toml.trim().lines().count();
    format!(
        "<details>\n<summary>Every setting of the run ({lines} lines)</summary>\n<pre>{}</pre>\n</details>\n",
        escape(toml.trim())
    )
}

#[cfg(test)]
mod tests;
