//! `tweedie score`

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::json;
use tweedie::covariance::{Covariance, Reverse};
use tweedie::data::{CellType, OutputFile, Table, TableFormat, append_columns, write_table};
use tweedie::dequantize::{Dequantized, Dequantizer};
use tweedie::grid::Spacing;
use tweedie::likelihood::{
    Divergence, Elbo, Estimate, LogLikelihood, ProbabilityFlow, ScoreMatchingBound, bits_per_dim, in_batches,
    mean_and_error,
};
use tweedie::model::Denoiser;
use tweedie::noise::Seed;
use tweedie::run::{Run, dequantized_rows, level_rows};
use tweedie::{Error, Result};

use crate::console::{Progress, print_json, say, say_left_out};
use crate::dequantize::{Dequantization, DequantizationName};
use crate::flow::{DivergenceArguments, SolverArguments};
use crate::sample::{COVARIANCES, make_ready, own_covariance};
use crate::spacing::{Grids, SpacingName};
use crate::{Common, MOST_STEPS};

#[derive(Clone, Copy, Debug, ValueEnum, PartialEq, Eq)]
pub enum EstimatorName {
    /// Lower bound: the log-likelihood of the K-step sampler itself (safe)
    Elbo,
    /// Lower bound: denoising score matching in continuous time
    Bound,
    /// Lower bound: the same with the divergence of the score, ScoreFlow's Theorem 3 (other noise, same mean)
    BoundSm,
    /// Estimate: the probability-flow ODE
    Ode,
    /// Lower bound, images alone: the log-probability of the levels, by the K-step ELBO with the discretised decoder
    Levels,
}

#[derive(Args, Debug)]
#[command(after_help = "\
The columns log_likelihood and std_error are added to each row, in nats in the data's own units. For dequantised \
columns the density is that of the value with uniform noise over its bin; for a run with classes it is that given the \
row's class, ln p(x|c). With --dequantization variational or truncated-normal it is a bound on ln [P(levels)/Π bin], \
the tighter for it.

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
    covariance: Option<Covariance>,
    /// How the ELBO's steps are laid in time [default: angle; of levels even]
    #[arg(long)]
    spacing: Option<SpacingName>,
    #[command(flatten)]
    dequantization: Dequantization,
    #[command(flatten)]
    divergence: DivergenceArguments,
    #[command(flatten)]
    solver: SolverArguments,
    /// Rows that the ODE solver cannot solve have no score, and are counted; otherwise they end the work
    #[arg(long)]
    keep_unsolved: bool,
    /// Seed of the draws
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Rows at a time; scores do not depend on it [default: 2048; 64 images]
    #[arg(long, value_name = "B")]
    batch_size: Option<usize>,
    /// List the K least likely rows
    #[arg(long, value_name = "K")]
    anomalies: Option<usize>,
    /// The rows with their scores: .csv, .tsv, .parquet or .npy
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

/// An estimator of a model, which may be bound to the classes of a batch.
pub type EstimatorOf<'e> = dyn for<'a> Fn(&'a dyn Denoiser) -> Result<Box<dyn LogLikelihood + 'a>> + 'e;

/// Log-likelihoods of `rows` of `table` in the data's own units, each given its class where the run has any: the estimate
/// in network units plus the offset of `dequantizer` (of uniform noise the scaling's Jacobian), averaged over `draws`;
/// levels have none. Each draw has its own dequantisation and its own noise.
pub fn score_rows(
    run: &Run,
    table: &Table,
    rows: &[usize],
    dequantizer: &dyn Dequantizer,
    draws: usize,
    seed: Seed,
    batch: usize,
    quiet: bool,
    estimator: &EstimatorOf,
) -> Result<Estimate> {
    let classes: Option<Vec<u32>> =
        table.labels.as_ref().map(|labels| rows.iter().map(|&row| labels.of_rows[row]).collect());
    let levels = estimator(&run.model)?.scores_levels();
    let mut total: Option<(Estimate, Vec<Vec<f64>>)> = None;
    let mut progress = Progress::new("score", (rows.len() * draws) as u64, quiet);
    for draw in 0..draws {
        let seed = seed.derive(&format!("draw {draw}"));
        let (x, log_jacobian) = match levels {
            true => (level_rows(table, rows, &run.data.scaling), vec![0.0; rows.len()]),
            false => {
                let Dequantized { rows, offsets } =
                    dequantized_rows(table, rows, dequantizer, seed.derive("dequantise"));
                (rows, offsets)
            }
        };
        let x = x.to_kind(run.model.kind()).to_device(run.model.device());
        let done = (draw * rows.len()) as u64;
        let mut estimate = in_batches(&x, batch, |part, numbers| {
            let model = run.model.given(classes.as_ref().map(|classes| &classes[numbers.clone()]));
            let estimate = estimator(&model)?.log_likelihood(part, seed, numbers.start as u64)?;
            progress.at(done + numbers.end as u64);
            Ok(estimate)
        })?;
        estimate.shift(&log_jacobian);
        match &mut total {
            None => {
                let values = estimate.values.iter().map(|&v| vec![v]).collect();
                total = Some((estimate, values));
            }
            Some((first, values)) => {
                values.iter_mut().zip(&estimate.values).for_each(|(all, &v)| all.push(v));
                first.offsets.iter_mut().zip(&estimate.offsets).for_each(|(sum, o)| *sum += o);
                first.flags.extend(estimate.flags);
            }
        }
    }
    progress.finish();
    let (mut estimate, values) = total.expect("at least one draw");
    if draws > 1 {
        let (means, errors) = values.iter().map(|v| mean_and_error(v)).unzip();
        estimate.values = means;
        estimate.std_errors = errors;
        estimate.offsets.iter_mut().for_each(|sum| *sum /= draws as f64);
        estimate.draws *= draws;
        estimate.evaluations *= draws as f64;
    }
    Ok(estimate)
}

/// The ELBO over `grid`, of densities or of the levels of images.
pub fn elbo(levels: bool, covariance: Covariance, grid: Vec<f64>) -> Box<EstimatorOf<'static>> {
    Box::new(move |model| {
        let reverse = Reverse::new(model, covariance, 1.0)?;
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

/// ODE likelihoods of `rows`, every row solved twice and held against its ELBO; doubtful rows are flagged. Rows of a
/// later time than 0 have no ELBO.
pub fn ode(
    run: &Run,
    flow: &FlowOf,
    table: &Table,
    rows: &[usize],
    dequantizer: &dyn Dequantizer,
    seed: Seed,
    batch: usize,
    quiet: bool,
) -> Result<Estimate> {
    let mut estimate = score_rows(run, table, rows, dequantizer, 1, seed, batch, quiet, &|model| {
        let flow = flow(model)?.verify(true);
        Ok(Box::new(match dequantizer.time() {
            Some(time) => flow.from_time(time)?,
            None => flow,
        }))
    })?;
    if dequantizer.time().is_some() {
        return Ok(estimate);
    }
    let grid = Spacing::default().elbo_grid(&**run.schedule(), CHECK_STEPS);
    let bound = score_rows(run, table, rows, dequantizer, 1, seed, batch, quiet, &|model| {
        Ok(Box::new(Elbo::new(Reverse::new(model, Covariance::Learned, 1.0)?, grid.clone(), 1)))
    })?;
    estimate.flag_against(&bound);
    estimate.evaluations += bound.evaluations;
    Ok(estimate)
}

/// The divergence of the SM bound unless one is asked for: exact where it is cheap, else one probe per draw.
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

pub fn run(arguments: &Arguments) -> Result<()> {
    let device = arguments.common.prepare()?;
    let quiet = arguments.common.quiet;
    Error::check_count("--steps", arguments.steps, MOST_STEPS)?;
    Error::check_count("--draws", arguments.draws, MOST_STEPS)?;
    arguments.dequantization.check(arguments.estimator == EstimatorName::Ode)?;
    let dequantization = arguments.dequantization.dequantization;
    if arguments.estimator == EstimatorName::Levels && dequantization != DequantizationName::Uniform {
        let problem = format!("{}, where levels are scored as they are", dequantization.name());
        return Err(Error::config("--dequantization", problem, "leave it out, or give elbo, bound or ode"));
    }
    arguments.check_flow()?;
    if let Some(out) = &arguments.out {
        TableFormat::of(out)?;
    }
    let mut run = Run::load(&arguments.run, device)?;
    let batch = crate::batch_size(arguments.batch_size, 2048, &run)?;
    let table = run.data.read_table(&arguments.data, &run.config.data.table)?;
    say_left_out(quiet, &table);
    let out = arguments.out.as_ref().map(OutputFile::create).transpose()?;
    let rows: Vec<usize> = (0..table.rows()).collect();
    let seed = Seed(arguments.seed);
    let covariance = arguments.covariance.unwrap_or(own_covariance(&run));
    if matches!(arguments.estimator, EstimatorName::Elbo | EstimatorName::Levels) {
        make_ready(&mut run, covariance, batch, quiet)?;
    }
    let dequantizer = arguments.dequantization.of(&run)?;
    let score = |draws, estimator: &EstimatorOf| {
        score_rows(&run, &table, &rows, &*dequantizer, draws, seed, batch, quiet, estimator)
    };
    let mut estimate = match arguments.estimator {
        EstimatorName::Levels if run.data.image.is_none() => {
            let remedy = "give elbo, bound, bound-sm or ode";
            return Err(Error::config("--estimator", "levels, of a run on a table", remedy));
        }
        EstimatorName::Elbo | EstimatorName::Levels => {
            let levels = arguments.estimator == EstimatorName::Levels;
            let grid =
                Grids::new(&run, arguments.spacing, levels, batch, quiet).of(covariance, arguments.steps)?;
            score(arguments.draws, &*elbo(levels, covariance, grid))?
        }
        EstimatorName::Bound => {
            score(1, &|model| Ok(Box::new(ScoreMatchingBound::new(model, arguments.draws.max(100)))))?
        }
        EstimatorName::BoundSm => {
            let divergence = match arguments.divergence.given() {
                true => arguments.divergence.get(1)?,
                // many draws of one probe beat few of many
                false => bound_divergence(run.model.dim()),
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
            ode(&run, flow, &table, &rows, &*dequantizer, seed, batch, quiet)?
        }
    };
    if dequantization != DequantizationName::Uniform {
        estimate.estimator += &format!(", {} dequantisation", dequantization.name());
    }
    for flag in estimate.flags.iter().take(5) {
        say(quiet, format!("warning: row {}: {}", flag.row + 1, flag.reason));
    }
    if estimate.flags.len() > 5 {
        say(quiet, format!("warning: {} more doubtful rows", estimate.flags.len() - 5));
    }
    if let Some(out) = out {
        let columns = [estimate.values.clone(), estimate.std_errors.clone()];
        if table.image.is_some() {
            let [values, errors] = &columns;
            let cells: Vec<f64> =
                (0..rows.len()).flat_map(|i| [(i + 1) as f64, values[i], errors[i]]).collect();
            let types = [CellType::Integer, CellType::Double, CellType::Double];
            write_table(out, &["image", "log_likelihood", "std_error"], &types, &cells)?;
        } else {
            append_columns(&table, &["log_likelihood", "std_error"], &columns, out)?;
        }
    }
    let mut order = rows.clone();
    order.sort_by(|&a, &b| estimate.values[a].total_cmp(&estimate.values[b]));
    let anomalies: Vec<usize> = order.into_iter().take(arguments.anomalies.unwrap_or(0)).collect();
    // what is not solved is left out of the figures, and said
    let solved: Vec<f64> = match arguments.keep_unsolved {
        true => estimate.values.iter().copied().filter(|v| !v.is_nan()).collect(),
        false => estimate.values.clone(),
    };
    let (mean, std_error) = mean_and_error(&solved);
    let unsolved = rows.len() - solved.len();
    let dim = run.data.scaling.dim();
    if arguments.common.json {
        let listed: Vec<_> = anomalies
            .iter()
            .map(|&r| json!({ "row": r + 1, "log_likelihood": estimate.values[r] }))
            .collect();
        let mut answer = json!({
            "rows": rows.len(), "mean": mean, "std_error": std_error, "offset": estimate.offset(),
            "kind": estimate.kind, "estimator": estimate.estimator, "draws": estimate.draws,
            "evaluations_per_row": estimate.evaluations, "flagged": estimate.flags.len(), "unsolved": unsolved,
            "unit": "nats per row, data units", "anomalies": listed,
        });
        if table.image.is_some() {
            answer["bits_per_dim"] = bits_per_dim(mean, dim).into();
        }
        print_json(&answer);
        return Ok(());
    }
    let error = match solved.len() {
        1 => String::new(),
        _ => format!(" ± {std_error:.4}"),
    };
    let mut remarks = match estimate.offset() {
        0.0 => String::new(),
        offset => format!("; offset {offset:+.4}, the data's units"),
    };
    if table.image.is_some() {
        remarks = format!("; {:.4} bits per dimension{remarks}", bits_per_dim(mean, dim));
    }
    if unsolved > 0 {
        remarks += &format!("; {unsolved} more rows not solved");
    }
    println!(
        "{} rows: {mean:.4}{error} nats per row ({}; {}{remarks}; {:.0} network evaluations per row)",
        solved.len(),
        estimate.estimator,
        match estimate.kind {
            tweedie::likelihood::Kind::LowerBound => "a lower bound",
            tweedie::likelihood::Kind::Estimate => "an estimate",
        },
        estimate.evaluations
    );
    if !anomalies.is_empty() {
        println!("row\tlog_likelihood\tstd_error");
        for row in anomalies {
            println!("{}\t{:.4}\t{:.4}", row + 1, estimate.values[row], estimate.std_errors[row]);
        }
    }
    Ok(())
}
