//! A run on one self-contained HTML page: what made it, verdict, figures, tables, configuration; no
//! script, no network.
//!
//! ```
//! use tweedie_report::report::{Made, ReportInputs, Scores, html, verdict};
//! let model = Scores { name: "ELBO, K = 100".into(), values: vec![-1.0, -1.2, -0.9] };
//! let base = Scores { name: "the model's base".into(), values: vec![-2.0, -2.1, -2.0] };
//! let page = html(&ReportInputs {
//!     title: "wine.csv".into(),
//!     made: Made { name: "runs/wine".into(), seed: Some(0), ..Default::default() },
//!     verdict: verdict(&model, &[base.clone()], "nats per row", false),
//!     scores: vec![model],
//!     baselines: vec![base],
//!     ..Default::default()
//! });
//! assert!(page.starts_with("<!DOCTYPE html>") && page.contains("is better than the model"));
//! ```

mod anomalies;
mod base64;
mod columns;
mod conditionals;
mod figures;
mod run;
mod tables;
mod verdict;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::plot::Series;
pub use anomalies::Anomaly;
pub use conditionals::{Conditional, Shown};
pub use run::Findings;
pub use verdict::{Difference, verdict};

/// One line of a run's `metrics.jsonl`, as the curves of a training need it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MetricPoint {
    /// Optimiser steps done.
    pub iteration: u64,
    /// The training loss, in the objective's own units; NaN where none was recorded. Lower is
    /// better.
    pub train_loss: f64,
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

/// The categories of a column, and how often each is in the test data and in the samples.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shares {
    /// The column.
    pub column: String,
    /// The categories, and that a cell is missing where some are.
    pub names: Vec<String>,
    /// Cells of each in the test data.
    pub data: Vec<usize>,
    /// Cells of each in the samples.
    pub samples: Vec<usize>,
}

/// Which run a page is about and what made the page; what is empty is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Made {
    /// The run's name.
    pub name: String,
    /// When the page was made.
    pub date: String,
    /// The version of the program.
    pub version: String,
    /// The seed of the samples drawn and the test rows chosen for the page.
    pub seed: Option<u64>,
    /// The command that made the page.
    pub command: String,
}

impl Made {
    /// Two lines below the page's title.
    fn markup(&self) -> Markup {
        let seed = self.seed.map(|seed| format!("seed {seed}")).unwrap_or_default();
        let version = match self.version.as_str() {
            "" => String::new(),
            version => format!("tweedie {version}"),
        };
        let facts = [&self.name, &self.date, &version, &seed];
        let facts: Vec<&str> =
            facts.into_iter().map(String::as_str).filter(|fact| !fact.is_empty()).collect();
        html! {
            @if !facts.is_empty() { p class="made" { (facts.join(" · ")) } }
            @if !self.command.is_empty() { p class="made" { code { (self.command) } } }
        }
    }
}

/// What the report is made of. Everything may be empty; an empty part has no section.
#[derive(Clone, Debug, Default)]
pub struct ReportInputs {
    /// The page's title.
    pub title: String,
    /// Which run the page is about and what made it.
    pub made: Made,
    /// What the figures mean, in plain words, one paragraph each; [`verdict()`] writes them.
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
    /// Columns of categories.
    pub categories: Vec<Shares>,
    /// Columns given others, of pairs that depend on each other.
    pub conditionals: Vec<Conditional>,
    /// Scores of the samples' quality, as they shall be read.
    pub quality: Vec<String>,
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
    /// The least likely test rows of a table.
    pub anomalies: Vec<Anomaly>,
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

/// The HTML page about a run.
///
/// # Panics
/// Where `data` or `samples` are no rows of the named columns, or a series' lengths differ.
pub fn html(inputs: &ReportInputs) -> String {
    let title = if inputs.title.is_empty() { "Report" } else { &inputs.title };
    let scores = match inputs.lower_is_better {
        true => "Bits of the test rows",
        false => "Likelihood of the test rows",
    };
    let sections = [
        ("How it was made", tables::summary(&inputs.about)),
        ("Training", figures::training(inputs)),
        (scores, html! { (figures::scores(inputs)) (tables::scores(inputs)) }),
        ("The least likely test rows", anomalies::markup(&inputs.anomalies)),
        ("Likelihood against the number of steps", figures::likelihood_vs_steps(inputs)),
        ("Samples", figures::sheets(inputs)),
        ("Data and samples, pair by pair", figures::pairs(inputs)),
        ("Data and samples, column by column", tables::marginals(inputs)),
        ("Data and samples, category by category", figures::categories(inputs)),
        ("Data and samples, one column given another", conditionals::markup(inputs)),
        ("Quality of the samples", quality(&inputs.quality)),
        ("Notes", html! { @for note in &inputs.notes { p { (note) } } }),
        ("Configuration", configuration(inputs.config_toml.trim())),
    ];
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(include_str!("report/style.css"))) }
            }
            body {
                main {
                    h1 { (title) }
                    (inputs.made.markup())
                    (boxed("verdict", "What the figures say", &inputs.verdict))
                    (boxed("flags", "Beside every figure of this run", &inputs.remarks))
                    (tables::summary(&inputs.summary))
                    (boxed("flags", "Clipped, floored or flagged", &inputs.flags))
                    @for (heading, body) in sections.iter().filter(|(_, body)| !body.0.is_empty()) {
                        "\n" section { h2 { (heading) } (body) }
                    }
                    "\n" footer { "This page needs no network." }
                }
            }
        }
    };
    page.into_string()
}

/// A list under a heading, set apart from the text.
fn boxed(class: &str, heading: &str, items: &[String]) -> Markup {
    html! {
        @if !items.is_empty() {
            div class=(class) { strong { (heading) } ul { @for item in items { li { (item) } } } }
        }
    }
}

fn quality(lines: &[String]) -> Markup {
    html! {
        @if !lines.is_empty() { div class="scroll" { pre { (lines.join("\n")) } } }
    }
}

fn configuration(toml: &str) -> Markup {
    html! {
        @if !toml.is_empty() {
            details {
                summary { "Every setting of the run (" (toml.lines().count()) " lines)" }
                pre { (toml) }
            }
        }
    }
}

#[cfg(test)]
mod tests;
