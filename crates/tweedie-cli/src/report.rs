//! `tweedie report`

use std::collections::HashSet;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use tweedie::covariance::CovarianceConfig;
use tweedie::density::{
    Density, EvaluateOptions, Evaluation, Line, Metric, SampleOptions, Samples, Subject,
};
use tweedie::likelihood::{bits_per_dim, mean_and_error};
use tweedie::run::Facts;
use tweedie::sample::MOST_ROWS;
use tweedie::{Error, Result};
use tweedie_report::plot::Series;
use tweedie_report::report::{Made, MetricPoint, ReportInputs, Scores, html, verdict};

use crate::Common;
use crate::console::{Console, note_damaged_metrics, print_json, say};
use crate::info;
use crate::pictures::Pictures;

impl Arguments {
    /// What makes the page: this process, now.
    fn made(&self) -> Made {
        let about = tweedie::run::About::now();
        let name = self.run.canonicalize().unwrap_or_else(|_| self.run.clone());
        let name = name.file_name().unwrap_or(name.as_os_str()).to_string_lossy().into_owned();
        let command = about.command_line();
        Made { name, date: about.date, version: about.version, seed: Some(self.seed), command }
    }
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tweedie report runs/wine
  tweedie report runs/digits --shape 8x8")]
pub struct Arguments {
    /// The run directory; the page is RUN/report.html
    run: PathBuf,
    /// Test rows [default: the run's own test rows]
    #[arg(long, value_name = "TEST")]
    data: Option<PathBuf>,
    /// Steps of the sampler whose samples are shown
    #[arg(long, value_name = "K", default_value_t = SampleOptions::default().steps)]
    steps: usize,
    /// Samples drawn
    #[arg(short, long, value_name = "N", default_value_t = 1000)]
    n: usize,
    /// Show rows as pictures of this height and width
    #[arg(long, value_name = "HxW")]
    shape: Option<String>,
    /// At most this many test rows are scored, drawn at random by --seed [default: 2000; 64 images]
    #[arg(long, value_name = "ROWS")]
    rows: Option<usize>,
    /// Leave out the probability-flow ODE, the slowest estimator; images have none
    #[arg(long)]
    no_ode: bool,
    /// Seed of the draws, and of the choice of test rows
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    common: Common,
}

/// Rows that are computed at a time, of a table.
const BATCH: usize = 2048;
/// Numbers of steps whose bounds are shown; of images the first four.
const STEPS: [usize; 6] = [5, 10, 20, 50, 100, 200];

impl Arguments {
    fn check(&self) -> Result<()> {
        self.sampling(BATCH).check()?;
        Error::check_count("-n", self.n, MOST_ROWS)?;
        self.rows.map_or(Ok(()), |rows| Error::check_count("--rows", rows, MOST_ROWS))
    }

    fn sampling(&self, batch: usize) -> SampleOptions {
        let (steps, seed) = (self.steps, self.seed);
        SampleOptions { steps, seed, batch_size: Some(batch), ..SampleOptions::default() }
    }

    fn judging(&self, images: bool) -> EvaluateOptions {
        let (steps, rows) = if images { (&STEPS[..4], 64) } else { (&STEPS[..], 2000) };
        EvaluateOptions {
            metrics: vec![Metric::Nll],
            rows: Some(self.rows.unwrap_or(rows)),
            steps: steps.to_vec(),
            ode: !self.no_ode,
            seed: self.seed,
            ..EvaluateOptions::default()
        }
    }
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let device = arguments.common.prepare()?;
    let quiet = arguments.common.quiet;
    arguments.check()?;
    let density = Density::load_on(&arguments.run, device)?;
    let images = density.is_of_images();
    let pictures = match (&arguments.shape, images) {
        (None, false) => None,
        (shape, _) => Some(Pictures::of(&density, shape.as_deref())?),
    };
    let dir = density.run().dir.clone();
    let (path, out) = (dir.file("report.html"), dir.output("report.html")?);
    let facts = Facts::read(&dir)?;
    let mut rows = density.test_rows(arguments.data.as_deref(), None)?;
    let available = rows.rows.len();
    let options = arguments.judging(images);
    rows.draw(&options);
    let mut console = Console::new(quiet);
    let found = density.evaluate_with(Some(&rows), None, &options, &mut console)?;
    let batch = if images { tweedie::sample::IMAGES_AT_ONCE } else { BATCH };
    let sampling = arguments.sampling(batch);
    let samples = density.sample_with(arguments.n, &sampling, &mut console)?;
    note_damaged_metrics(&dir, quiet)?;

    let data: Vec<f32> = rows.table.gather(&rows.rows);
    let judged = Judged::of(&found, density.run().model.head_covariance(), &options);
    let used = found.rows;
    let rows_used = match used < available {
        true => format!("{used} of {available}, drawn at random (seed {})", arguments.seed),
        false => format!("all {available}"),
    };
    let inputs = inputs(arguments, &density, &facts, judged, &samples, data, rows_used, pictures);
    out.finish(html(&inputs).as_bytes())?;
    say(quiet, "done");
    if arguments.common.json {
        let results: Vec<_> = inputs.scores.iter().chain(&inputs.baselines).map(result).collect();
        print_json(&json!({
            "report": path, "rows": used, "available": available, "unit": unit(images),
            "results": results, "verdict": inputs.verdict, "remarks": inputs.remarks,
        }));
        return Ok(());
    }
    println!("{}", path.display());
    Ok(())
}

/// What the page's figures are in.
fn unit(images: bool) -> &'static str {
    if images { "bits per dimension" } else { "nats per row" }
}

/// An evaluation as the page shows it.
struct Judged {
    /// The model's scores, its bound first.
    scores: Vec<Scores>,
    /// The classical densities, the model's base first: it is what the network corrects.
    baselines: Vec<Scores>,
    likelihood_vs_steps: Vec<Series>,
    flags: Vec<String>,
}

impl Judged {
    fn of(found: &Evaluation, head: Option<CovarianceConfig>, options: &EvaluateOptions) -> Judged {
        let dim = found.dim;
        let of_line = |line: &Line| {
            let doubted: HashSet<usize> = match line.subject {
                Subject::Ode => line.flags.iter().map(|flag| flag.row).collect(),
                _ => HashSet::new(),
            };
            let rows = line.rows.iter().flatten().enumerate();
            let believed = rows.filter(|(row, _)| !doubted.contains(row)).map(|(_, &nats)| nats);
            let in_unit = |nats| if found.images { bits_per_dim(nats, dim) } else { nats };
            Scores { name: line.name.clone(), values: believed.map(in_unit).collect() }
        };
        let (of, shown) =
            (head.unwrap_or(CovarianceConfig::Beta), if found.images { 20 } else { 100 });
        let mut judged = Judged {
            scores: Vec::new(),
            baselines: Vec::new(),
            likelihood_vs_steps: Vec::new(),
            flags: Vec::new(),
        };
        let mut curve: Vec<&Line> = Vec::new();
        for line in found.own() {
            match line.subject {
                Subject::Elbo { covariance, steps } => {
                    if !line.flags.is_empty() {
                        let count = line.flags.len();
                        judged.flags.push(format!("{}: {count} rows are not finite.", line.name));
                    }
                    if (covariance, steps) == (of, shown) {
                        judged.scores.push(of_line(line));
                    }
                    curve.push(line);
                    if curve.len() == options.steps.len() {
                        judged.likelihood_vs_steps.push(series(covariance, options, &curve));
                        curve.clear();
                    }
                }
                Subject::Ode => {
                    if let Some(first) = line.flags.first() {
                        judged.flags.push(format!(
                            "{}: {} of {} rows are doubtful and left out of its figures; the first: {}.",
                            line.name,
                            line.flags.len(),
                            line.left_out.of,
                            first.reason
                        ));
                    }
                    judged.scores.push(of_line(line));
                }
                Subject::Base { .. } => judged.baselines.insert(0, of_line(line)),
                Subject::Gaussian | Subject::Kernel { .. } => judged.baselines.push(of_line(line)),
                Subject::Mmd { .. } => (),
            }
        }
        judged
    }
}

/// The bounds of a covariance over numbers of steps.
fn series(covariance: CovarianceConfig, options: &EvaluateOptions, lines: &[&Line]) -> Series {
    let steps = options.steps.iter().map(|&k| k as f64).collect();
    let (values, errors) = lines.iter().map(|line| (line.value, line.error)).unzip();
    Series::line(covariance.name(), steps, values).with_error(errors)
}

fn inputs(
    arguments: &Arguments,
    density: &Density,
    facts: &Facts,
    judged: Judged,
    samples: &Samples,
    data: Vec<f32>,
    rows_used: String,
    pictures: Option<Pictures>,
) -> ReportInputs {
    let (run, images) = (density.run(), density.is_of_images());
    let unit = unit(images);
    let Judged { scores, baselines, likelihood_vs_steps, flags } = judged;
    let mut conclusions = match scores.first() {
        Some(bound) => verdict(bound, &baselines, unit, images),
        None => Vec::new(),
    };
    conclusions.push(format!(
        "The model's figure here is {}: what it is compared with is {}.",
        if images { "an upper bound on its bits" } else { "a lower bound on its log-likelihood" },
        if images { "the density of levels with uniform noise, which is one too" } else { "exact" }
    ));
    let mut summary: Vec<(String, String)> =
        scores.iter().chain(&baselines).map(|s| (s.name.clone(), figure(s, unit))).collect();
    summary.push(("test rows".into(), rows_used));
    let mut sheets = Vec::new();
    if let Some(pictures) = pictures {
        let show = 64 * run.data.scaling.dim();
        let wide: Vec<f64> = data.iter().map(|&v| v as f64).collect();
        let limits = pictures.range(&wide);
        let sheet =
            |values: &[f64]| pictures.sheet(&values[..values.len().min(show)], 16, limits).png();
        sheets.push((format!("Samples in {} steps", arguments.steps), sheet(&samples.values)));
        sheets.push(("Test rows".to_string(), sheet(&wide)));
    }
    let losses = facts.metrics.iter().map(|m| MetricPoint {
        iteration: m.iteration,
        train_loss: m.loss,
        train_loss_ema: None,
        validation: m.validation.map(|v| facts.validation(v)),
    });
    // pixels are looked at, not tabulated
    let of_table = |values: Vec<f32>| if images { Vec::new() } else { values };
    ReportInputs {
        title: format!("tweedie: {}", run.data.source),
        made: arguments.made(),
        verdict: conclusions,
        remarks: crate::flags::Flags::here().remarks(run),
        summary,
        about: info::lines(facts),
        config_toml: run.config.to_toml(),
        losses: losses.collect(),
        loss_label: info::loss(&run.config).into(),
        validation_label: facts.validation_label().into(),
        lower_validation_is_better: facts.lower_validation_is_better(),
        kept_iteration: facts.ending.best.map(|(iteration, _)| iteration),
        column_names: if images { Vec::new() } else { samples.columns.clone() },
        data: of_table(data),
        samples: of_table(samples.values.iter().map(|&v| v as f32).collect()),
        sample_label: format!("samples in {} steps", arguments.steps),
        scores,
        baselines,
        unit: if images { unit.into() } else { format!("{unit}, data units") },
        lower_is_better: images,
        likelihood_vs_steps,
        sheets,
        flags,
        notes: vec![match images {
            true => "The bits are of the levels' probabilities by the K-step ELBO with the discretised decoder: an \
                     upper bound of exactly the sampler that takes these K steps."
                .into(),
            false => "The ELBO with K steps is the log-likelihood bound of exactly the sampler that takes these K \
                      steps. The ODE is an estimate, not a bound."
                .into(),
        }],
    }
}

/// Mean and standard error of the finite values, and how many are not finite.
fn of_finite(scores: &Scores) -> (f64, f64, usize) {
    let finite: Vec<f64> = scores.values.iter().copied().filter(|v| v.is_finite()).collect();
    let (mean, error) = mean_and_error(&finite);
    (mean, error, scores.values.len() - finite.len())
}

fn result(scores: &Scores) -> serde_json::Value {
    let (mean, error, not_finite) = of_finite(scores);
    json!({ "name": scores.name, "value": mean, "std_error": error, "not_finite": not_finite })
}

fn figure(scores: &Scores, unit: &str) -> String {
    let (mean, error, not_finite) = of_finite(scores);
    let error = if error.is_finite() { format!(" ± {error:.3}") } else { String::new() };
    let rest = match not_finite {
        0 => String::new(),
        n => format!(" ({n} of {} rows are not finite and not in it)", scores.values.len()),
    };
    let value = format!("{mean:.3}{error}").replace('-', "−");
    format!("{value} {unit}{rest}")
}
