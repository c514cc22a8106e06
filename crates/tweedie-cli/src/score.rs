//! `tweedie score`

mod print;
mod test;

use std::path::{Path, PathBuf};

use clap::Args;
use tch::Device;
use tweedie::Result;
use tweedie::covariance::CovarianceConfig;
use tweedie::data::{OutputFile, TableFormat, Unseen};
use tweedie::density::{PartsOf, ScoreFile, ScoreOptions};
use tweedie::grid::SpacingConfig;
use tweedie::likelihood::Estimator;
use tweedie::process_group::ProcessGroup;

use crate::choice::{choice, covariances};
use crate::common::{Arithmetic, Common};
use crate::console::{Console, say};
use crate::flow::{DequantizationArguments, DivergenceArguments, SolverArguments};
use crate::output::check_output;
use crate::processes::{Processes, output_of};
use crate::reading::{Reading, left_out};
use test::TestArguments;

#[derive(Args, Debug)]
#[command(after_help = "\
The columns log_likelihood and std_error are added to each row, in nats in the data's own units. \
--p-values adds p_value, the share of rows it was not trained on (itself among them) that score \
no higher: of a row of the same distribution it is at most α with a probability of at most α, \
whatever the model. --threshold adds anomaly.

For dequantised columns the density is that of the value with uniform noise over its bin; for a \
run with classes it is that given the row's class, ln p(x|c). With --dequantization variational or \
truncated-normal it is a bound on ln [P(levels)/Π bin], the tighter for it.

A row too far out for a number has -inf and comes first among the anomalies, as does with --unseen \
impossible a row of a category that the run was not trained on; a row without a value has an empty \
cell. Rows are counted as in the file. Scores of images are written as they are done: \
after Ctrl-C those so far are in FILE.partial.csv, and FILE is as it was. Batch size and threads \
change scores by rounding alone: at most 1e-5 relative, of ode some ten times the tolerances.

Examples:
  tweedie score runs/wine new.csv -o scores.csv
  tweedie score runs/wine new.csv -o scores.csv --estimator ode
  tweedie score runs/digits new.csv --estimator ode --divergence rademacher --probes 16
  tweedie score runs/wine new.csv -o scores.csv --anomalies 10
  tweedie score runs/wine new.csv -o scores.csv --threshold 0.01
  tweedie score runs/wine new.csv -o scores.csv --estimator one-step --draws 1
  tweedie score runs/people new.csv --given age,city -o scores.csv
  tweedie score runs/people new.csv -o scores.csv --unseen impossible --threshold 0.01
  tweedie score runs/people new.csv -o scores.csv --parts --anomalies 10")]
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
    /// Independent draws per row (elbo, one-step), pairs (t, ε) per row (bound and bound-sm, at
    /// least 100)
    #[arg(long, value_name = "D", default_value_t = ScoreOptions::default().draws)]
    draws: usize,
    /// Noise levels of one-step, one to five: standard deviations of the noise beside the signal,
    /// in units in which columns have a spread near 1 [default: 0.1,0.3,1]
    #[arg(long, value_name = "L,L,…", value_delimiter = ',')]
    noise_levels: Option<Vec<f64>>,
    /// Covariance of the ELBO's steps, and of one-step's [default: the head's]
    #[arg(long, value_name = "WHICH", long_help = covariances())]
    covariance: Option<CovarianceConfig>,
    /// How the ELBO's steps are laid in time [default: angle; of levels even]
    #[arg(long, value_parser = choice::<SpacingConfig>())]
    spacing: Option<SpacingConfig>,
    /// Columns that are given, of a mixed table: the likelihood is that of the others
    /// given these [default: none]
    #[arg(long, value_name = "A,B,…", value_delimiter = ',')]
    given: Vec<String>,
    #[command(flatten)]
    dequantization: DequantizationArguments,
    #[command(flatten)]
    divergence: DivergenceArguments,
    #[command(flatten)]
    solver: SolverArguments,
    /// Rows with a category that the run was not trained on, or another value of a column that was
    /// the same in all of its rows
    #[arg(long, value_name = "WHAT", default_value = "error", value_parser = choice::<Unseen>())]
    unseen: Unseen,
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
    /// Add what scores are made of: of tables with categories log_likelihood_categories and
    /// log_likelihood_numbers, whose sum the score is, and NAME_given_rest of every column, the
    /// log-density of its cell given the row's other cells; --anomalies then names the least likely
    /// columns
    #[arg(long)]
    parts: bool,
    /// Whose log-density of a cell given the others [default: model, of tables of numbers base]
    #[arg(long, value_name = "WHICH", requires = "parts", value_parser = choice::<PartsOf>())]
    parts_of: Option<PartsOf>,
    #[command(flatten)]
    test: TestArguments,
    /// The rows with their scores: .csv, .tsv, .parquet or .npy; - is CSV on standard output
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    reading: Reading,
    #[command(flatten)]
    arithmetic: Arithmetic,
    #[command(flatten)]
    processes: Processes,
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
            given: self.given.clone(),
            dequantization: self.dequantization.dequantization,
            start_time: self.dequantization.start_time,
            noise_levels: self.noise_levels.clone(),
            divergence: self.divergence.divergence,
            probes: self.divergence.probes,
            solver: self.solver.options(),
            keep_unsolved: self.keep_unsolved,
            seed: self.seed,
            batch_size: self.batch_size,
        }
    }
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let (device, group) = arguments.processes.prepare(&arguments.common)?;
    group.reporting(|| score(arguments, device, &group))
}

fn score(arguments: &Arguments, device: Device, group: &ProcessGroup) -> Result<()> {
    let (common, options) = (&arguments.common, arguments.options());
    let quiet = common.quiet;
    options.check()?;
    arguments.test.check()?;
    if let Some(out) = &arguments.out {
        TableFormat::of(out)?;
        check_output("--out", out, &[&arguments.data], &arguments.run, common.json)?;
    }
    let (density, remarks) = arguments.arithmetic.load(common, &arguments.run, device)?;
    let density = density.over(group);
    let (reading, unseen) = (&arguments.reading, arguments.unseen);
    let table = reading.table_to_score(density.run(), &arguments.data, unseen)?;
    let left_out = left_out(&table, quiet);
    let out = arguments.out.as_ref().map(|out| output_of(group, out)).transpose()?;
    let out = out.as_ref().map(OutputFile::create).transpose()?;
    let test = arguments.test.of(&density, &options, (reading, unseen), quiet)?;
    let mut file = out.map(|out| ScoreFile::begin(&table, test.as_ref(), out)).transpose()?;
    if file.as_ref().is_some_and(ScoreFile::loses_names) {
        say!(
            quiet,
            "note: this format holds no names: the images are numbered in the order of their \
             paths; .csv has the names"
        );
    }
    print::say_how_long(&density, table.rows(), &options, quiet)?;
    let mut console = Console::new(quiet).with_scores(|rows, part| match &mut file {
        Some(file) => file.push(rows, part),
        None => Ok(()),
    });
    let scores = density.log_prob_with(&table, &options, &mut console)?;
    drop(console);
    print::say_doubts(&table, &scores, quiet);
    let parts = arguments.parts.then(|| {
        let values = scores.values();
        density.parts(&table, values, arguments.parts_of, &options, &mut Console::new(quiet))
    });
    let parts = parts.transpose()?;
    file.map_or(Ok(()), |file| file.finish(&scores, parts.as_ref()))?;
    let mut anomalies = scores.least_likely();
    anomalies.truncate(arguments.anomalies.unwrap_or(0));
    let mut text = print::text(&table, &scores, &anomalies, (test.as_ref(), parts.as_ref()));
    text.extend(test.as_ref().map(|test| test::text(test, &scores)));
    // standard output may be where the rows went
    if !common.json && arguments.out.as_deref() == Some(Path::new("-")) {
        text.iter().for_each(|line| say(quiet, line));
        return Ok(());
    }
    let mut answer = print::json(&table, &scores, &anomalies, (test.as_ref(), parts.as_ref()));
    if let Some(test) = &test {
        answer["calibration"] = test::json(test, &scores);
    }
    (answer["left_out"], answer["remarks"]) = (left_out, remarks.into());
    common.print(&answer, text.join("\n"));
    Ok(())
}
