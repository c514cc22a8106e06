//! `tweedie score`

use std::collections::HashSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use tch::Tensor;
use tweedie::covariance::{Covariance, CovarianceConfig, Own, Reverse};
use tweedie::data::{
    CellType, Dataset, ImageScores, OutputFile, Place, TableFormat, append_columns, write_table,
};
use tweedie::dequantize::{Dequantized, Dequantizer};
use tweedie::grid::Spacing;
use tweedie::likelihood::{
    Divergence, Elbo, Estimate, FAR, LogLikelihood, ProbabilityFlow, ScoreMatchingBound, Summary,
    bits_per_dim, mean_and_error,
};
use tweedie::model::Denoiser;
use tweedie::noise::Seed;
use tweedie::query::{Batch, Condition, Query, Times};
use tweedie::run::{Run, dequantized_from, level_rows};
use tweedie::tensor::to_vec;
use tweedie::{Error, Result};

use crate::console::{Progress, check_output, in_line, print_json, remark, say};
use crate::dequantize::{Dequantization, DequantizationName};
use crate::flow::{DivergenceArguments, SolverArguments};
use crate::reading::{Reading, left_out};
use crate::sample::{COVARIANCES, make_ready, own_covariance};
use crate::spacing::{Grids, SpacingName};
use crate::{Common, MOST_STEPS};

#[derive(Clone, Copy, Debug, ValueEnum, PartialEq, Eq)]
pub enum EstimatorName {
    /// Lower bound: the log-likelihood of the K-step sampler itself (safe)
    Elbo,
    /// Lower bound: denoising score matching in continuous time
    Bound,
    /// Lower bound: the same with the divergence of the score, ScoreFlow's Theorem 3 (other noise,
    /// same mean)
    BoundSm,
    /// Estimate: the probability-flow ODE
    Ode,
    /// Lower bound, images alone: the log-probability of the levels, by the K-step ELBO with the
    /// discretised decoder
    Levels,
}

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
    #[arg(long, default_value = "elbo")]
    estimator: EstimatorName,
    /// Steps of the ELBO
    #[arg(long, value_name = "K", default_value_t = 100)]
    steps: usize,
    /// Independent draws per row (elbo), pairs (t, ε) per row (bound and bound-sm, at least 100)
    #[arg(long, value_name = "D", default_value_t = 4)]
    draws: usize,
    /// Covariance of the ELBO's steps [default: the head's]
    #[arg(long, value_name = "WHICH", long_help = COVARIANCES)]
    covariance: Option<CovarianceConfig>,
    /// How the ELBO's steps are laid in time [default: angle; of levels even]
    #[arg(long)]
    spacing: Option<SpacingName>,
    #[command(flatten)]
    dequantization: Dequantization,
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

/// An estimator of a model, which may be bound to the classes of a batch.
pub type EstimatorOf<'e> =
    dyn for<'a> Fn(&'a dyn Denoiser) -> Result<Box<dyn LogLikelihood + 'a>> + 'e;

/// Log-likelihoods of `rows` of `table` in the data's own units, each given its class where the run
/// has any: the estimate in network units plus the offset of `dequantizer` (of uniform noise the
/// scaling's Jacobian), averaged over `draws`; levels have none. Each draw has its own
/// dequantisation and its own noise. Flags name rows by their place in `rows`.
pub fn score_rows(
    run: &Run,
    table: &Dataset,
    rows: &[usize],
    dequantizer: &dyn Dequantizer,
    draws: usize,
    seed: Seed,
    batch: usize,
    quiet: bool,
    estimator: &EstimatorOf,
) -> Result<Estimate> {
    score_each(run, table, rows, dequantizer, draws, seed, batch, quiet, estimator, &mut |_, _| {
        Ok(())
    })
}

/// What is done with the scores of a batch of rows, whose places in `rows` these are, as soon as
/// they are there.
pub type WithBatch<'e> = dyn FnMut(Range<usize>, &Estimate) -> Result<()> + 'e;

/// As [`score_rows`], batch by batch with all draws of each.
fn score_each(
    run: &Run,
    table: &Dataset,
    rows: &[usize],
    dequantizer: &dyn Dequantizer,
    draws: usize,
    seed: Seed,
    batch: usize,
    quiet: bool,
    estimator: &EstimatorOf,
    with_batch: &mut WithBatch,
) -> Result<Estimate> {
    let classes: Option<Vec<u32>> =
        table.labels.as_ref().map(|labels| rows.iter().map(|&row| labels.of_rows[row]).collect());
    let levels = estimator(&run.model)?.scores_levels();
    let mut progress = Progress::new("score", (rows.len() * draws) as u64, quiet);
    let mut of_batch = |numbers: Range<usize>| {
        let part = &rows[numbers.clone()];
        let condition =
            || classes.as_ref().map(|classes| Condition::classes(&classes[numbers.clone()]));
        let mut all = Draws::default();
        for draw in 0..draws {
            let seed = seed.derive(&format!("draw {draw}"));
            let (x, offsets) = match levels {
                true => (level_rows(table, part, &run.data.scaling), vec![0.0; part.len()]),
                false => {
                    let noise = seed.derive("dequantise");
                    let Dequantized { rows, offsets } =
                        dequantized_from(table, part, dequantizer, noise, numbers.start as u64);
                    (rows, offsets)
                }
            };
            let x = Batch { x: run.model.space().place(&x), condition: condition() };
            let mut estimate = estimator(&run.model)?
                .log_likelihood(&x, seed, numbers.start as u64)
                .map_err(|e| e.named(|row| table.place(rows[row as usize]).to_string()))?;
            progress.stage(&estimate.estimator);
            estimate.shift(&offsets);
            all.add(estimate);
            progress.at((numbers.start * draws + part.len() * (draw + 1)) as u64);
        }
        let mut estimate = all.mean();
        for flag in
            estimate.flags.iter_mut().filter(|flag| estimate.values[flag.row] == f64::NEG_INFINITY)
        {
            flag.reason =
                too_far(run, table, part[flag.row]).unwrap_or_else(|| flag.reason.clone());
        }
        with_batch(numbers, &estimate)?;
        Ok::<_, Error>(estimate)
    };
    let mut whole = of_batch(0..rows.len().min(batch))?;
    for start in (0..rows.len()).step_by(batch).skip(1) {
        whole.extend(of_batch(start..rows.len().min(start.saturating_add(batch)))?);
    }
    progress.finish();
    Ok(whole)
}

/// The estimates of a batch, draw by draw.
#[derive(Default)]
struct Draws {
    first: Option<Estimate>,
    /// Of each row.
    values: Vec<Vec<f64>>,
}

impl Draws {
    fn add(&mut self, next: Estimate) {
        let Some(first) = &mut self.first else {
            self.values = next.values.iter().map(|&value| vec![value]).collect();
            self.first = Some(next);
            return;
        };
        self.values.iter_mut().zip(&next.values).for_each(|(all, &value)| all.push(value));
        first.offsets.iter_mut().zip(&next.offsets).for_each(|(sum, offset)| *sum += offset);
        // a row is flagged once, whatever the number of draws
        let known: HashSet<usize> = first.flags.iter().map(|flag| flag.row).collect();
        first.flags.extend(next.flags.into_iter().filter(|flag| !known.contains(&flag.row)));
    }

    /// Their mean, with the error that the draws of a row tell of.
    fn mean(self) -> Estimate {
        let mut estimate = self.first.expect("at least one draw");
        let draws = self.values.first().map_or(1, Vec::len);
        if draws > 1 {
            let means = self.values.iter().map(|values| mean_and_error(values));
            (estimate.values, estimate.std_errors) = means.unzip();
            estimate.offsets.iter_mut().for_each(|sum| *sum /= draws as f64);
            estimate.draws *= draws;
            estimate.evaluations *= draws as f64;
        }
        estimate
    }
}

/// Why a row of `table` has no log-likelihood but −∞, in the data's own units; None where it is no
/// farther out than others are.
fn too_far(run: &Run, table: &Dataset, row: usize) -> Option<String> {
    let scaled = to_vec(&level_rows(table, &[row], &run.data.scaling));
    let (column, far) =
        scaled.iter().map(|v| v.abs()).enumerate().max_by(|a, b| a.1.total_cmp(&b.1))?;
    (far > FAR).then(|| {
        let (name, value) = (&run.data.names()[column], table.row(row)[column]);
        format!("column `{name}` is {value:e}, {far:.0e} scales away from the training rows: no number is so small, taken for −∞")
    })
}

/// The ELBO over `grid`, of densities or of the levels of images.
pub fn elbo(
    levels: bool,
    covariance: Box<dyn Covariance>,
    grid: Vec<f64>,
) -> Box<EstimatorOf<'static>> {
    let covariance: Rc<dyn Covariance> = covariance.into();
    Box::new(move |model| {
        let reverse = Reverse::new(model, covariance.clone(), 1.0)?;
        Ok(Box::new(match levels {
            true => Elbo::of_levels(reverse, grid.clone(), 1),
            false => Elbo::new(reverse, grid.clone(), 1),
        }))
    })
}

/// Steps of the ELBO that ODE likelihoods are held against.
const CHECK_STEPS: usize = 50;

/// A probability flow of a model, which may be bound to the classes of a batch.
pub type FlowOf<'e> = dyn for<'a> Fn(&'a dyn Denoiser) -> Result<ProbabilityFlow<'a>> + 'e;

/// The flow as it is by default, its unsolved rows kept without a value.
pub fn usual_flow(model: &dyn Denoiser) -> Result<ProbabilityFlow<'_>> {
    Ok(ProbabilityFlow::new(model).keep_unsolved(true))
}

/// ODE likelihoods of `rows`, every row solved twice and held against its ELBO; doubtful rows are
/// flagged. Rows of a later time than 0 have no ELBO.
pub fn ode(
    run: &Run,
    flow: &FlowOf,
    table: &Dataset,
    rows: &[usize],
    dequantizer: &dyn Dequantizer,
    seed: Seed,
    batch: usize,
    quiet: bool,
) -> Result<Estimate> {
    ode_each(run, flow, table, rows, dequantizer, seed, batch, quiet, &mut |_, _| Ok(()))
}

/// As [`ode`], batch by batch; what holds a row against its ELBO comes after all of them.
fn ode_each(
    run: &Run,
    flow: &FlowOf,
    table: &Dataset,
    rows: &[usize],
    dequantizer: &dyn Dequantizer,
    seed: Seed,
    batch: usize,
    quiet: bool,
    with_batch: &mut WithBatch,
) -> Result<Estimate> {
    let verified: &EstimatorOf = &|model| {
        let flow = flow(model)?.verify(true);
        Ok(Box::new(match dequantizer.time() {
            Some(time) => flow.from_time(time)?,
            None => flow,
        }))
    };
    let mut estimate =
        score_each(run, table, rows, dequantizer, 1, seed, batch, quiet, verified, with_batch)?;
    if dequantizer.time().is_some() {
        return Ok(estimate);
    }
    let grid = Spacing::default().elbo_grid(run.schedule(), CHECK_STEPS);
    let bound = score_rows(run, table, rows, dequantizer, 1, seed, batch, quiet, &|model| {
        Ok(Box::new(Elbo::new(Reverse::new(model, Own, 1.0)?, grid.clone(), 1)))
    })?;
    estimate.flag_against(&bound);
    estimate.evaluations += bound.evaluations;
    Ok(estimate)
}

/// The divergence of the SM bound unless one is asked for: exact where it is cheap, else one probe
/// per draw.
fn bound_divergence(d: i64) -> Divergence {
    match Divergence::Auto.resolve(d) {
        Divergence::Exact => Divergence::Exact,
        _ => Divergence::Rademacher { probes: 1 },
    }
}

impl Arguments {
    /// Refuses settings of the flow that make no sense, or that the estimator has no use for.
    fn check_flow(&self) -> Result<()> {
        let ode = self.estimator == EstimatorName::Ode;
        if !ode && (self.solver.given() || self.keep_unsolved) {
            let problem = "they are settings of the probability-flow ODE";
            let fields = "--rtol, --atol, --max-evaluations, --keep-unsolved";
            return Err(Error::config(fields, problem, "leave them out, or give --estimator ode"));
        }
        if !ode && self.estimator != EstimatorName::BoundSm && self.divergence.given() {
            let problem = "this estimator takes no divergence";
            let remedy = "leave them out, or give --estimator ode or bound-sm";
            return Err(Error::config("--divergence, --probes", problem, remedy));
        }
        self.divergence.get(1)?;
        self.solver.check()
    }
}

impl Arguments {
    /// Network evaluations of a row, where they are known before.
    fn evaluations(&self) -> Option<usize> {
        match self.estimator {
            EstimatorName::Elbo | EstimatorName::Levels => Some(self.steps * self.draws),
            EstimatorName::Bound | EstimatorName::BoundSm => Some(2 * self.draws.max(100)),
            EstimatorName::Ode => None,
        }
    }

    /// Says how long the scores of images take, where that is more than a minute.
    fn say_how_long(&self, run: &Run, images: usize, batch: usize) {
        let Some(evaluations) = self.evaluations().filter(|_| run.data.image.is_some()) else {
            return;
        };
        let at_once = images.min(batch) as i64;
        let space = run.model.space();
        let x = Tensor::zeros([at_once, space.dim], (space.kind, space.device));
        let condition =
            (run.model.classes() > 0).then(|| Condition::classes(&vec![0; at_once as usize]));
        let times = Times::All(0.5 * space.schedule().horizon());
        let q = Query::new(&x, &times).given(condition.as_ref());
        let once = || tch::no_grad(|| to_vec(&run.model.noise(&q)));
        once();
        let started = Instant::now();
        once();
        let seconds =
            started.elapsed().as_secs_f64() / at_once as f64 * (images * evaluations) as f64;
        if seconds > MINUTE {
            let minutes = (seconds / MINUTE).ceil();
            say(
                self.common.quiet,
                format!(
                    "{images} images of {evaluations} network evaluations take {minutes} minutes or more; \
                     fewer --draws and --steps take less"
                ),
            );
        }
    }
}

const MINUTE: f64 = 60.0;

/// A log-likelihood for JSON, which has no infinity.
fn json_number(value: f64) -> Value {
    match value == f64::NEG_INFINITY {
        true => "-inf".into(),
        false => value.into(),
    }
}

/// Nats in a line for people.
fn in_words(nats: f64) -> String {
    match nats.abs() < 1e9 || !nats.is_finite() {
        true => format!("{nats:.4}"),
        false => format!("{nats:.4e}"),
    }
}

/// A row for JSON: its number in its file, its image's path, and what is said of it.
pub fn json_row(place: Place, more: Value) -> Value {
    let mut row = json!(place);
    if let (Some(row), Value::Object(more)) = (row.as_object_mut(), more) {
        row.extend(more);
    }
    row
}

/// What the scores go to.
enum Scores<'a> {
    /// Row by row, of images.
    AsTheyCome(ImageScores<'a>),
    AtTheEnd(OutputFile),
    Nowhere,
}

/// The columns that scores are written in.
const COLUMNS: [&str; 2] = ["log_likelihood", "std_error"];

impl<'a> Scores<'a> {
    fn begin(table: &'a Dataset, out: Option<OutputFile>, quiet: bool) -> Result<Scores<'a>> {
        let Some(out) = out else { return Ok(Scores::Nowhere) };
        if table.image().is_none() {
            return Ok(Scores::AtTheEnd(out));
        }
        Ok(match ImageScores::begin(table, &COLUMNS, out)? {
            Ok(scores) => Scores::AsTheyCome(scores),
            Err(out) => {
                if !table.files.is_empty() {
                    let what = "this format holds no names: the images are numbered in the order of their paths";
                    say(quiet, format!("note: {what}; .csv has the names"));
                }
                Scores::AtTheEnd(out)
            }
        })
    }

    fn finish(self, table: &Dataset, estimate: &Estimate) -> Result<()> {
        let columns = || [estimate.values.clone(), estimate.std_errors.clone()];
        match self {
            Scores::Nowhere => Ok(()),
            Scores::AsTheyCome(scores) => scores.finish(),
            Scores::AtTheEnd(out) if table.image().is_some() => {
                let [values, errors] = columns();
                let cells: Vec<f64> = (0..values.len())
                    .flat_map(|i| [table.place(i).row as f64, values[i], errors[i]])
                    .collect();
                let types = [CellType::Integer, CellType::Double, CellType::Double];
                write_table(out, &["image", COLUMNS[0], COLUMNS[1]], &types, &cells)
            }
            Scores::AtTheEnd(out) => append_columns(table, &COLUMNS, &columns(), out),
        }
    }
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let device = arguments.common.prepare()?;
    let quiet = arguments.common.quiet;
    Error::check_count("--steps", arguments.steps, MOST_STEPS)?;
    Error::check_count("--draws", arguments.draws, MOST_STEPS)?;
    arguments.dequantization.check(arguments.estimator == EstimatorName::Ode)?;
    let dequantization = arguments.dequantization.dequantization;
    if arguments.estimator == EstimatorName::Levels && dequantization != DequantizationName::Uniform
    {
        let problem = format!("{}, where levels are scored as they are", dequantization.name());
        return Err(Error::config(
            "--dequantization",
            problem,
            "leave it out, or give elbo, bound or ode",
        ));
    }
    arguments.check_flow()?;
    if let Some(out) = &arguments.out {
        TableFormat::of(out)?;
        check_output("--out", out, &[&arguments.data], &arguments.run, arguments.common.json)?;
    }
    let mut run = Run::load(&arguments.run, device)?;
    let remarks = remark(&run);
    let batch = crate::batch_size(arguments.batch_size, 2048, &run)?;
    let table = arguments.reading.table(&run, &arguments.data)?;
    let left_out = left_out(&table, quiet);
    let out = arguments.out.as_ref().map(OutputFile::create).transpose()?;
    let mut scores = Scores::begin(&table, out, quiet)?;
    let rows: Vec<usize> = (0..table.rows()).collect();
    let seed = Seed(arguments.seed);
    let covariance = arguments.covariance.unwrap_or(own_covariance(&run));
    if matches!(arguments.estimator, EstimatorName::Elbo | EstimatorName::Levels) {
        make_ready(&mut run, covariance, batch, quiet)?;
    }
    arguments.say_how_long(&run, rows.len(), batch);
    let dequantizer = arguments.dequantization.of(&run)?;
    let mut write = |rows: Range<usize>, estimate: &Estimate| match &mut scores {
        Scores::AsTheyCome(scores) => scores.push(rows, &[&estimate.values, &estimate.std_errors]),
        _ => Ok(()),
    };
    let mut score = |draws, estimator: &EstimatorOf| {
        score_each(
            &run,
            &table,
            &rows,
            &*dequantizer,
            draws,
            seed,
            batch,
            quiet,
            estimator,
            &mut write,
        )
    };
    let mut estimate = match arguments.estimator {
        EstimatorName::Levels if run.data.image.is_none() => {
            let remedy = "give elbo, bound, bound-sm or ode";
            return Err(Error::config("--estimator", "levels, of a run on a table", remedy));
        }
        EstimatorName::Elbo | EstimatorName::Levels => {
            let levels = arguments.estimator == EstimatorName::Levels;
            let grid = Grids::new(&run, arguments.spacing, levels, batch, quiet)
                .of(covariance, arguments.steps)?;
            score(arguments.draws, &*elbo(levels, run.model.covariance(covariance)?, grid))?
        }
        EstimatorName::Bound => score(1, &|model| {
            Ok(Box::new(ScoreMatchingBound::new(model, arguments.draws.max(100))))
        })?,
        EstimatorName::BoundSm => {
            let divergence = match arguments.divergence.given() {
                true => arguments.divergence.get(1)?,
                // many draws of one probe beat few of many
                false => bound_divergence(run.model.space().dim),
            };
            score(1, &|model| {
                let bound = ScoreMatchingBound::new(model, arguments.draws.max(100));
                Ok(Box::new(bound.with_divergence(divergence)?))
            })?
        }
        EstimatorName::Ode => {
            let divergence = arguments.divergence.get(8)?;
            let flow: &FlowOf = &|model| {
                let flow = arguments.solver.flow(model, 1.0)?.divergence(divergence)?;
                Ok(flow.keep_unsolved(arguments.keep_unsolved))
            };
            ode_each(&run, flow, &table, &rows, &*dequantizer, seed, batch, quiet, &mut write)?
        }
    };
    if dequantization != DequantizationName::Uniform {
        estimate.estimator += &format!(", {} dequantisation", dequantization.name());
    }
    for flag in estimate.flags.iter().take(FLAGS) {
        say(quiet, format!("warning: {}: {}", table.place(flag.row), flag.reason));
    }
    if estimate.flags.len() > FLAGS {
        say(quiet, format!("warning: {} more doubtful rows", estimate.flags.len() - FLAGS));
    }
    scores.finish(&table, &estimate)?;
    // a row that has no value is no less likely than others
    let mut order = rows.clone();
    let rank = |row: usize| (estimate.values[row].is_nan(), estimate.values[row]);
    order.sort_by(|&a, &b| rank(a).0.cmp(&rank(b).0).then(rank(a).1.total_cmp(&rank(b).1)));
    let anomalies: Vec<usize> = order.into_iter().take(arguments.anomalies.unwrap_or(0)).collect();
    let Summary { mean, std_error, finite, minus_infinity, unsolved } = estimate.summary();
    let dim = run.data.scaling.dim();
    if arguments.common.json {
        let listed = anomalies.iter().map(|&row| {
            json_row(
                table.place(row),
                json!({ "log_likelihood": json_number(estimate.values[row]) }),
            )
        });
        let flags = estimate
            .flags
            .iter()
            .map(|flag| json_row(table.place(flag.row), json!({ "reason": flag.reason })));
        let mut answer = json!({
            "rows": rows.len(), "mean": mean, "std_error": std_error, "offset": estimate.offset(),
            "kind": estimate.kind, "estimator": estimate.estimator, "draws": estimate.draws,
            "evaluations_per_row": estimate.evaluations, "flagged": estimate.flags.len(),
            "flags": flags.collect::<Vec<_>>(), "finite": finite, "minus_infinity": minus_infinity,
            "unsolved": unsolved, "unit": "nats per row, data units", "anomalies": listed.collect::<Vec<_>>(),
            "left_out": left_out, "remarks": remarks,
        });
        if table.image().is_some() {
            answer["bits_per_dim"] = bits_per_dim(mean, dim).into();
        }
        print_json(&answer);
        return Ok(());
    }
    let error = match finite {
        0 | 1 => String::new(),
        _ => format!(" ± {}", in_words(std_error)),
    };
    let mut more = match estimate.offset() {
        0.0 => String::new(),
        offset => format!("; offset {offset:+.4}, the data's units"),
    };
    if table.image().is_some() {
        more = format!("; {:.4} bits per dimension{more}", bits_per_dim(mean, dim));
    }
    if minus_infinity > 0 {
        more += &format!("; {minus_infinity} more rows at −∞, with which the mean is −∞");
    }
    if unsolved > 0 {
        more += &format!("; {unsolved} more rows not solved");
    }
    let mut lines = vec![format!(
        "{finite} rows: {}{error} nats per row ({}; {}{more}; {:.0} network evaluations per row)",
        in_words(mean),
        estimate.estimator,
        match estimate.kind {
            tweedie::likelihood::Kind::LowerBound => "a lower bound",
            tweedie::likelihood::Kind::Estimate => "an estimate",
        },
        estimate.evaluations
    )];
    if !anomalies.is_empty() {
        let named = !table.files.is_empty();
        lines.push(format!("row\tlog_likelihood\tstd_error{}", if named { "\timage" } else { "" }));
        for row in anomalies {
            let Place { row: number, file } = table.place(row);
            let file = file.map_or_else(String::new, |file| format!("\t{}", in_line(&file)));
            let (value, error) = (estimate.values[row], estimate.std_errors[row]);
            lines.push(format!("{number}\t{}\t{}{file}", in_words(value), in_words(error)));
        }
    }
    // standard output may be where the rows went
    let beside_rows = arguments.out.as_deref() == Some(Path::new("-"));
    for line in lines {
        match beside_rows {
            true => say(quiet, line),
            false => println!("{line}"),
        }
    }
    Ok(())
}

/// Doubtful rows that are named on standard error.
const FLAGS: usize = 5;
