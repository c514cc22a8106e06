//! `tweedie score`

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};
use tweedie::Result;
use tweedie::covariance::CovarianceConfig;
use tweedie::data::{
    CellType, Dataset, ImageScores, OutputFile, Place, TableFormat, append_columns, write_table,
};
use tweedie::density::{Density, ScoreOptions, Scores};
use tweedie::grid::SpacingConfig;
use tweedie::likelihood::{Estimator, Summary};

use crate::Common;
use crate::choice::choice;
use crate::console::{Console, check_output, in_line, print_json, remark, say};
use crate::flow::{DequantizationArguments, DivergenceArguments, SolverArguments};
use crate::reading::{Reading, left_out};
use crate::sample::covariances;

#[derive(Args, Debug)]
#[command(after_help = "\
The columns log_likelihood and std_error are added to each row, in nats in the data's own units. For dequantised \
columns the density is that of the value with uniform noise over its bin; for a run with classes it is that given the \
row's class, ln p(x|c). With --dequantization variational or truncated-normal it is a bound on ln [P(levels)/Π bin], \
the tighter for it.

A row too far out for a number has -inf and comes first among the anomalies; a row without a value has an empty cell. Rows are counted \
as in the file. Scores of images are written as they are done: after Ctrl-C those so far are in FILE.partial.csv, and FILE is as it was. \
Batch size and threads change scores by rounding alone: at most 1e-5 relative, of ode some ten times the solver's tolerances.

Examples:
  tweedie score runs/wine new.csv -o scores.csv
  tweedie score runs/wine new.csv -o scores.csv --estimator ode
  tweedie score runs/digits new.csv --estimator ode --rtol 1e-6 --atol 1e-6 --divergence rademacher --probes 16
  tweedie score runs/wine new.csv -o scores.csv --anomalies 10")]
pub struct Arguments {
    /// The run directory
    run: PathBuf,
    /// The rows to score, with the columns the run was trained on
    data: PathBuf,
    /// What is computed
    #[arg(long, default_value = "elbo", value_parser = choice::<Estimator>())]
    estimator: Estimator,
    /// Steps of the ELBO
    #[arg(long, value_name = "K", default_value_t = ScoreOptions::default().steps)]
    steps: usize,
    /// Independent draws per row (elbo), pairs (t, ε) per row (bound and bound-sm, at least 100)
    #[arg(long, value_name = "D", default_value_t = ScoreOptions::default().draws)]
    draws: usize,
    /// Covariance of the ELBO's steps [default: the head's]
    #[arg(long, value_name = "WHICH", long_help = covariances())]
    covariance: Option<CovarianceConfig>,
    /// How the ELBO's steps are laid in time [default: angle; of levels even]
    #[arg(long, value_parser = choice::<SpacingConfig>())]
    spacing: Option<SpacingConfig>,
    #[command(flatten)]
    dequantization: DequantizationArguments,
    #[command(flatten)]
    divergence: DivergenceArguments,
    #[command(flatten)]
    solver: SolverArguments,
    /// Rows that the ODE solver cannot solve have no score, and are counted; otherwise they end the
    /// work
    #[arg(long)]
    keep_unsolved: bool,
    /// Seed of the draws
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Rows at a time [default: 2048; 64 images]
    #[arg(long, value_name = "B")]
    batch_size: Option<usize>,
    /// List the K least likely rows
    #[arg(long, value_name = "K")]
    anomalies: Option<usize>,
    /// The rows with their scores: .csv, .tsv, .parquet or .npy; - is CSV on standard output
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    reading: Reading,
    #[command(flatten)]
    common: Common,
}

impl Arguments {
    fn options(&self) -> ScoreOptions {
        ScoreOptions {
            estimator: self.estimator,
            steps: self.steps,
            draws: self.draws,
            covariance: self.covariance,
            spacing: self.spacing,
            dequantization: self.dequantization.dequantization,
            start_time: self.dequantization.start_time,
            divergence: self.divergence.divergence,
            probes: self.divergence.probes,
            solver: self.solver.options(),
            keep_unsolved: self.keep_unsolved,
            seed: self.seed,
            batch_size: self.batch_size,
        }
    }
}

const MINUTE: f64 = 60.0;
/// Doubtful rows that are named on standard error.
const FLAGS: usize = 5;
/// The columns that scores are written in.
const COLUMNS: [&str; 2] = ["log_likelihood", "std_error"];

/// Says how long the scores of images take, where that is more than a minute.
fn say_how_long(
    density: &Density,
    images: usize,
    options: &ScoreOptions,
    quiet: bool,
) -> Result<()> {
    let cost = match density.is_of_images() {
        true => density.cost_of_scores(images, options)?,
        false => None,
    };
    if let Some(cost) = cost.filter(|cost| cost.seconds > MINUTE) {
        let (evaluations, minutes) = (cost.evaluations, (cost.seconds / MINUTE).ceil());
        say(
            quiet,
            format!(
                "{images} images of {evaluations} network evaluations take {minutes} minutes or more; \
                 fewer --draws and --steps take less"
            ),
        );
    }
    Ok(())
}

/// A row for JSON: its number in its file, its image's path, and what is reported about it.
pub fn json_row(place: Place, more: Value) -> Value {
    let mut row = json!(place);
    if let (Some(row), Value::Object(more)) = (row.as_object_mut(), more) {
        row.extend(more);
    }
    row
}

/// What the scores go to.
enum Output<'a> {
    /// Row by row, of images.
    AsTheyCome(ImageScores<'a>),
    AtTheEnd(OutputFile),
    Nowhere,
}

impl<'a> Output<'a> {
    fn begin(table: &'a Dataset, out: Option<OutputFile>, quiet: bool) -> Result<Output<'a>> {
        let Some(out) = out else { return Ok(Output::Nowhere) };
        if table.image().is_none() {
            return Ok(Output::AtTheEnd(out));
        }
        Ok(match ImageScores::begin(table, &COLUMNS, out)? {
            Ok(scores) => Output::AsTheyCome(scores),
            Err(out) => {
                if !table.files.is_empty() {
                    let what = "this format holds no names: the images are numbered in the order of their paths";
                    say(quiet, format!("note: {what}; .csv has the names"));
                }
                Output::AtTheEnd(out)
            }
        })
    }

    fn finish(self, table: &Dataset, scores: &Scores) -> Result<()> {
        let (values, errors) = (scores.values(), scores.std_errors());
        match self {
            Output::Nowhere => Ok(()),
            Output::AsTheyCome(scores) => scores.finish(),
            Output::AtTheEnd(out) if table.image().is_some() => {
                let cells: Vec<f64> = (0..values.len())
                    .flat_map(|i| [table.place(i).row as f64, values[i], errors[i]])
                    .collect();
                let types = [CellType::Integer, CellType::Double, CellType::Double];
                write_table(out, &["image", COLUMNS[0], COLUMNS[1]], &types, &cells)
            }
            Output::AtTheEnd(out) => {
                append_columns(table, &COLUMNS, &[values.to_vec(), errors.to_vec()], out)
            }
        }
    }
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let device = arguments.common.prepare()?;
    let (options, quiet) = (arguments.options(), arguments.common.quiet);
    options.check()?;
    if let Some(out) = &arguments.out {
        TableFormat::of(out)?;
        check_output("--out", out, &[&arguments.data], &arguments.run, arguments.common.json)?;
    }
    let density = Density::load_on(&arguments.run, device)?;
    let remarks = remark(density.run());
    let table = arguments.reading.table(density.run(), &arguments.data)?;
    let left_out = left_out(&table, quiet);
    let out = arguments.out.as_ref().map(OutputFile::create).transpose()?;
    let mut output = Output::begin(&table, out, quiet)?;
    say_how_long(&density, table.rows(), &options, quiet)?;
    let mut console = Console::new(quiet).with_scores(|rows, part| match &mut output {
        Output::AsTheyCome(scores) => scores.push(rows, &[&part.values, &part.std_errors]),
        _ => Ok(()),
    });
    let scores = density.log_prob_with(&table, &options, &mut console)?;
    drop(console);
    for flag in scores.flags().iter().take(FLAGS) {
        say(quiet, format!("warning: {}: {}", table.place(flag.row), flag.reason));
    }
    if scores.flags().len() > FLAGS {
        say(quiet, format!("warning: {} more doubtful rows", scores.flags().len() - FLAGS));
    }
    output.finish(&table, &scores)?;
    let mut anomalies = scores.least_likely();
    anomalies.truncate(arguments.anomalies.unwrap_or(0));
    if arguments.common.json {
        let mut answer = as_json(&table, &scores, &anomalies);
        answer["left_out"] = left_out;
        answer["remarks"] = remarks.into();
        print_json(&answer);
        return Ok(());
    }
    // standard output may be where the rows went
    let beside_rows = arguments.out.as_deref() == Some(Path::new("-"));
    for line in as_text(&table, &scores, &anomalies) {
        match beside_rows {
            true => say(quiet, line),
            false => println!("{line}"),
        }
    }
    Ok(())
}

fn as_json(table: &Dataset, scores: &Scores, anomalies: &[usize]) -> Value {
    // JSON has no infinity
    let number = |value: f64| match value == f64::NEG_INFINITY {
        true => Value::from("-inf"),
        false => value.into(),
    };
    let listed = anomalies.iter().map(|&row| {
        json_row(table.place(row), json!({ "log_likelihood": number(scores.values()[row]) }))
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
        "unsolved": unsolved, "unit": "nats per row, data units",
        "anomalies": listed.collect::<Vec<_>>(),
    });
    if table.image().is_some() {
        answer["bits_per_dim"] = scores.bits_per_dim().into();
    }
    answer
}

fn as_text(table: &Dataset, scores: &Scores, anomalies: &[usize]) -> Vec<String> {
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
    if table.image().is_some() {
        more = format!("; {:.4} bits per dimension{more}", scores.bits_per_dim());
    }
    if minus_infinity > 0 {
        more += &format!("; {minus_infinity} more rows at −∞, with which the mean is −∞");
    }
    if unsolved > 0 {
        more += &format!("; {unsolved} more rows not solved");
    }
    let mut lines = vec![format!(
        "{finite} rows: {}{error} nats per row ({}; {}{more}; {:.0} network evaluations per row)",
        nats(mean),
        scores.estimate.estimator,
        scores.claim(),
        scores.estimate.evaluations
    )];
    if !anomalies.is_empty() {
        let named = if table.files.is_empty() { "" } else { "\timage" };
        lines.push(format!("row\tlog_likelihood\tstd_error{named}"));
    }
    for &row in anomalies {
        let Place { row: number, file } = table.place(row);
        let file = file.map_or_else(String::new, |file| format!("\t{}", in_line(&file)));
        let (value, error) = (nats(scores.values()[row]), nats(scores.std_errors()[row]));
        lines.push(format!("{number}\t{value}\t{error}{file}"));
    }
    lines
}
