//! `tweedie report`

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use tweedie::covariance::CovarianceConfig;
use tweedie::dequantize::Uniform;
use tweedie::likelihood::{bits_per_dim, mean_and_error};
use tweedie::noise::Seed;
use tweedie::run::Run;
use tweedie::tensor::to_vec;
use tweedie::{Error, Result};
use tweedie_report::plot::Series;
use tweedie_report::report::{MetricPoint, ReportInputs, Scores, html, verdict};

use crate::console::{Progress, note_damaged_metrics, print_json, say};
use crate::evaluate::{Judged, baselines};
use crate::info::{self, Facts};
use crate::sample::{Pictures, draw_by_default};
use crate::score::{elbo, ode, score_rows, usual_flow};
use crate::spacing::Grids;
use crate::{Common, MOST_ROWS, MOST_STEPS};

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
    #[arg(long, value_name = "K", default_value_t = tweedie::sample::Defaults::STEPS)]
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

const BATCH: usize = 2048;
const STEPS: [usize; 6] = [5, 10, 20, 50, 100, 200];

pub fn run(arguments: &Arguments) -> Result<()> {
    let device = arguments.common.prepare()?;
    let quiet = arguments.common.quiet;
    Error::check_count("--steps", arguments.steps, MOST_STEPS)?;
    Error::check_count("-n", arguments.n, MOST_ROWS)?;
    if let Some(rows) = arguments.rows {
        Error::check_count("--rows", rows, MOST_ROWS)?;
    }
    let run = Run::load(&arguments.run, device)?;
    let images = run.data.image.is_some();
    let batch = crate::batch_size(None, BATCH, &run)?;
    let pictures = match (&arguments.shape, images) {
        (None, false) => None,
        (shape, _) => Some(Pictures::of(&run, shape.as_deref())?),
    };
    let (steps_shown, rows) = match images {
        true => (&STEPS[..4], arguments.rows.unwrap_or(64)),
        false => (&STEPS[..], arguments.rows.unwrap_or(2000)),
    };
    let path = run.dir.file("report.html");
    let out = run.dir.output("report.html")?;
    let facts = Facts::read(&run.dir)?;
    let seed = Seed(arguments.seed);
    let mut judged = Judged::read(&run, arguments.data.as_ref())?;
    let available = judged.rows.len();
    judged.draw(rows, seed);
    let mut grids = Grids::new(&run, None, images, batch, quiet);
    let uniform = Uniform::new(&run.data.scaling);
    let dim = run.data.scaling.dim();
    // as evaluate has them: of images bits per dimension
    let in_unit = |nats: Vec<f64>| -> Vec<f64> {
        if images { nats.into_iter().map(|nats| bits_per_dim(nats, dim)).collect() } else { nats }
    };
    let unit = if images { "bits per dimension" } else { "nats per row" };

    let own = run.model.head_covariance();
    let judged_by = own.unwrap_or(CovarianceConfig::Beta);
    let mut flags = Vec::new();
    let mut likelihood_vs_steps = Vec::new();
    let mut scores = Vec::new();
    for covariance in own.into_iter().chain(CovarianceConfig::fixed()) {
        let (mut values, mut errors) = (Vec::new(), Vec::new());
        for &steps in steps_shown {
            let elbo =
                elbo(images, run.model.covariance(covariance)?, grids.of(covariance, steps)?);
            let estimate = score_rows(
                &run,
                &judged.table,
                &judged.rows,
                &uniform,
                1,
                seed,
                batch,
                quiet,
                &*elbo,
            )?;
            if !estimate.flags.is_empty() {
                flags.push(format!(
                    "{}: {} rows are not finite.",
                    estimate.estimator,
                    estimate.flags.len()
                ));
            }
            let (mean, error) = (estimate.mean(), estimate.std_error());
            values.push(if images { bits_per_dim(mean, dim) } else { mean });
            errors.push(if images { -bits_per_dim(error, dim) } else { error });
            if steps == if images { 20 } else { 100 } && covariance == judged_by {
                scores.push(Scores { name: estimate.estimator, values: in_unit(estimate.values) });
            }
        }
        let x = steps_shown.iter().map(|&k| k as f64).collect();
        likelihood_vs_steps.push(Series::line(covariance.name(), x, values).with_error(errors));
    }
    let baselines: Vec<Scores> = base_first(baselines(&run, &judged)?)
        .into_iter()
        .map(|(name, values)| Scores { name, values: in_unit(values) })
        .collect();
    let mut conclusions = verdict(&scores[0], &baselines, unit, images);
    if !arguments.no_ode && !images {
        let estimate =
            ode(&run, &usual_flow, &judged.table, &judged.rows, &uniform, seed, batch, quiet)?;
        if !estimate.flags.is_empty() {
            flags.push(format!(
                "{}: {} of {} rows are doubtful and left out of its figures; the first: {}.",
                estimate.estimator,
                estimate.flags.len(),
                estimate.values.len(),
                estimate.flags[0].reason
            ));
        }
        scores.push(Scores { name: estimate.estimator.clone(), values: estimate.believed() });
    }
    conclusions.push(format!(
        "The model's figure here is {}: what it is compared with is {}.",
        if images { "an upper bound on its bits" } else { "a lower bound on its log-likelihood" },
        if images { "the density of levels with uniform noise, which is one too" } else { "exact" }
    ));
    let mut summary: Vec<(String, String)> =
        scores.iter().chain(&baselines).map(|s| (s.name.clone(), figure(s, unit))).collect();
    let used = judged.rows.len();
    let rows_used = match used < available {
        true => format!("{used} of {available}, drawn at random (seed {})", arguments.seed),
        false => format!("all {available}"),
    };
    summary.push(("test rows".into(), rows_used));

    let mut progress = Progress::new("sample", arguments.n as u64, quiet);
    let samples = draw_by_default(&run, arguments.steps, arguments.n, batch, seed, &mut progress)?;
    progress.finish();
    let samples = to_vec(&samples);
    let samples = run.data.scaling.inverse(&samples);
    let data: Vec<f32> = judged.table.gather(&judged.rows);
    let mut sheets = Vec::new();
    if let Some(pictures) = pictures {
        let show = 64 * dim;
        let wide: Vec<f64> = data.iter().map(|&v| v as f64).collect();
        let limits = pictures.range(&wide);
        let sheet =
            |values: &[f64]| pictures.sheet(&values[..values.len().min(show)], 16, limits).png();
        sheets.push((format!("Samples in {} steps", arguments.steps), sheet(&samples)));
        sheets.push(("Test rows".to_string(), sheet(&wide)));
    }
    note_damaged_metrics(&run.dir, quiet)?;
    let losses = facts.metrics.iter().map(|m| MetricPoint {
        iteration: m.iteration,
        train_loss: m.loss,
        train_loss_ema: None,
        validation: m.validation.map(|v| facts.validation(v)),
    });
    // pixels are looked at, not tabulated
    let columns =
        if images { Vec::new() } else { run.data.names().into_iter().map(String::from).collect() };
    let (data, samples) = if images { (Vec::new(), Vec::new()) } else { (data, samples) };
    let inputs = ReportInputs {
        title: format!("tweedie: {}", run.data.source),
        verdict: conclusions,
        remarks: run.remarks(),
        summary,
        about: facts.lines(),
        config_toml: run.config.to_toml(),
        losses: losses.collect(),
        loss_label: info::loss(&run.config).into(),
        validation_label: facts.validation_label().into(),
        lower_validation_is_better: facts.lower_validation_is_better(),
        kept_iteration: facts.ending.best.map(|(iteration, _)| iteration),
        column_names: columns,
        data,
        samples: samples.iter().map(|&v| v as f32).collect(),
        sample_label: format!("samples in {} steps", arguments.steps),
        scores,
        baselines,
        unit: if images { "bits per dimension".into() } else { "nats per row, data units".into() },
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
    };
    out.finish(html(&inputs).as_bytes())?;
    say(quiet, "done");
    if arguments.common.json {
        let results: Vec<_> = inputs.scores.iter().chain(&inputs.baselines).map(result).collect();
        print_json(&json!({
            "report": path, "rows": used, "available": available, "unit": unit, "results": results, "verdict": inputs.verdict,
            "remarks": inputs.remarks,
        }));
        return Ok(());
    }
    println!("{}", path.display());
    Ok(())
}

/// The model's base before the others: it is what the network corrects.
fn base_first(mut all: Vec<(String, Vec<f64>)>) -> Vec<(String, Vec<f64>)> {
    all.rotate_right(1);
    all
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
