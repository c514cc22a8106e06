//! Log-likelihoods of rows.

mod batches;
mod file;

use std::rc::Rc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::grids::Grids;
use super::{Claim, Density};
use crate::choice::{Choice, check_taken};
use crate::covariance::{CovarianceConfig, Own};
use crate::data::Dataset;
use crate::dequantize::{Dequantization, Dequantizer, TruncatedNormal, Uniform};
use crate::grid::SpacingConfig;
use crate::likelihood::{
    DivergenceKind, Estimate, Estimation, Estimator, Flag, NOISE_LEVELS, SolverOptions, Summary,
    bits_per_dim,
};
use crate::model::Denoiser;
use crate::noise::Seed;
use crate::query::{Cells, Condition, Query, Times};
use crate::run::Run;
use crate::sample::MOST_STEPS;
use crate::tensor::to_vec;
use crate::watch::{Remark, Silent, Watch};
use crate::{Error, Result};
pub(super) use batches::{Part, score};
pub use file::ScoreFile;

/// How log-likelihoods are computed. What is `None` follows the model and the kind of its data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScoreOptions {
    /// What is computed.
    pub estimator: Estimator,
    /// Steps of the ELBO.
    pub steps: usize,
    /// Independent draws per row of the ELBO; pairs (t, ε) per row of the bounds, at least 100.
    pub draws: usize,
    /// Covariance of the ELBO's steps; by default that of [`SampleOptions`](super::SampleOptions).
    pub covariance: Option<CovarianceConfig>,
    /// How the ELBO's steps are laid in time; by default equal in the angle of signal and noise, of
    /// levels the published even trajectory.
    pub spacing: Option<SpacingConfig>,
    /// Columns of a table that is read as it comes which are given: the likelihood is that of the
    /// others given these.
    pub given: Vec<String>,
    /// Noise within the bins of dequantised columns and of pixels.
    pub dequantization: Dequantization,
    /// Where the flow of [`Dequantization::TruncatedNormal`] starts, a time of the process; by
    /// default where the noise is a third of the smallest half bin.
    pub start_time: Option<f64>,
    /// The noise levels from which [`Estimator::OneStep`] takes its step; by default
    /// [`NOISE_LEVELS`](crate::likelihood::NOISE_LEVELS).
    pub noise_levels: Option<Vec<f64>>,
    /// How the divergence of the score is computed.
    pub divergence: Option<DivergenceKind>,
    /// Probes per row of a divergence by random probes.
    pub probes: Option<usize>,
    /// The solver of the probability flow.
    pub solver: SolverOptions,
    /// Whether rows that the solver cannot solve have no value; otherwise they are an error.
    pub keep_unsolved: bool,
    /// The seed of the draws.
    pub seed: u64,
    /// Rows at a time; by default [`ScoreOptions::BATCH`], of images
    /// [`crate::sample::IMAGES_AT_ONCE`].
    pub batch_size: Option<usize>,
}

impl Default for ScoreOptions {
    fn default() -> ScoreOptions {
        ScoreOptions {
            estimator: Estimator::default(),
            steps: 100,
            draws: 4,
            covariance: None,
            spacing: None,
            given: Vec::new(),
            dequantization: Dequantization::default(),
            start_time: None,
            noise_levels: None,
            divergence: None,
            probes: None,
            solver: SolverOptions::default(),
            keep_unsolved: false,
            seed: 0,
            batch_size: None,
        }
    }
}

impl ScoreOptions {
    /// Rows of a table that are scored at a time by default.
    pub const BATCH: usize = 2048;

    /// Refuses what no density can be scored with, and options of another estimator than the chosen
    /// one.
    ///
    /// # Errors
    /// [`Error::Config`] with the option's path.
    pub fn check(&self) -> Result<()> {
        Error::check_count("score.steps", self.steps, MOST_STEPS)?;
        Error::check_count("score.draws", self.draws, MOST_STEPS)?;
        let method = self.estimator.method();
        check_dequantization(
            "score",
            (self.dequantization, self.start_time),
            method.serves_later_times(),
            "give score.estimator = ode with it",
        )?;
        if method.scores_levels() && self.dequantization != Dequantization::Uniform {
            let problem = format!("{}, where levels are scored as they are", self.dequantization);
            let remedy = "leave it out, or give score.estimator = elbo, bound or ode";
            return Err(Error::config("score.dequantization", problem, remedy));
        }
        let mut given = self.solver.given();
        let others = [
            ("noise_levels", self.noise_levels.is_some()),
            ("keep_unsolved", self.keep_unsolved),
            ("divergence", self.divergence.is_some()),
            ("probes", self.probes.is_some()),
        ];
        given.extend(others.into_iter().filter_map(|(name, given)| given.then_some(name)));
        check_taken(self.estimator, ("score", "estimator"), &given, |e| e.method().options())?;
        self.divergence(1)?;
        self.solver.check("score.solver")
    }

    /// The noise levels of one step.
    fn levels(&self) -> Vec<f64> {
        self.noise_levels.clone().unwrap_or(NOISE_LEVELS.to_vec())
    }

    /// The divergence, where one is requested.
    fn divergence(&self, usual: usize) -> Result<Option<crate::likelihood::Divergence>> {
        match (self.divergence, self.probes) {
            (None, None) => Ok(None),
            (kind, probes) => kind.unwrap_or_default().with(probes, usual).map(Some),
        }
    }
}

/// Refuses noise that does not go with an estimator, of which `serves` says whether it takes rows
/// of a later time.
pub(super) fn check_dequantization(
    section: &str,
    (kind, start_time): (Dequantization, Option<f64>),
    serves: bool,
    remedy: &str,
) -> Result<()> {
    let truncated = kind == Dequantization::TruncatedNormal;
    if truncated && !serves {
        let problem = "truncated-normal gives no points of the density that this estimator is of";
        return Err(Error::config(format!("{section}.dequantization"), problem, remedy));
    }
    if start_time.is_some() && !truncated {
        return Err(Error::config(
            format!("{section}.start_time"),
            "is where truncated-normal noise ends",
            format!("give {section}.dequantization = truncated-normal with it"),
        ));
    }
    Ok(())
}

/// What makes points of a density from the levels of `run`.
pub(super) fn dequantizer(
    run: &Run,
    kind: Dequantization,
    start_time: Option<f64>,
) -> Result<Box<dyn Dequantizer + '_>> {
    let scaling = &run.data.scaling;
    Ok(match kind {
        Dequantization::Uniform => Box::new(Uniform::new(scaling)),
        Dequantization::Variational => {
            Box::new(run.dir.dequantizer(&run.data, run.model.space().device)?)
        }
        Dequantization::TruncatedNormal => {
            Box::new(TruncatedNormal::new(scaling, run.schedule(), start_time)?)
        }
    })
}

/// Gives rows with values that no row of the model's has the log-likelihood −∞, each with a flag,
/// and says how many they are.
fn say_unseen(data: &Dataset, estimate: &mut Estimate, watch: &mut dyn Watch) {
    let Some((&first, columns)) = data.unseen().first_key_value() else { return };
    let (count, all) = (data.unseen().len(), data.rows());
    let (place, column) = (data.place(first), &columns[0]);
    watch.say(Remark::Note(format!(
        "{count} of {all} rows have values that no row of the run has, and so probability 0 \
         (first: {place}, `{column}`)"
    )));
    estimate.flags.retain(|flag| !data.unseen().contains_key(&flag.row));
    for (&row, columns) in data.unseen() {
        (estimate.values[row], estimate.std_errors[row]) = (f64::NEG_INFINITY, 0.0);
        let reason = format!("no row of the run has this value of `{}`", columns.join("`, `"));
        estimate.flags.push(Flag { row, reason });
    }
    estimate.flags.sort_by_key(|flag| flag.row);
}

/// Log-likelihoods of rows, nats per row in the data's own units.
#[derive(Clone, Debug)]
pub struct Scores {
    /// Values, errors and flags, row by row; what they are, and at which cost.
    pub estimate: Estimate,
    /// Columns of a row.
    dim: usize,
}

impl Scores {
    /// One value per row: −∞ where no number is so small, NaN where there is none.
    pub fn values(&self) -> &[f64] {
        &self.estimate.values
    }

    /// The standard error of each value over its own draws.
    pub fn std_errors(&self) -> &[f64] {
        &self.estimate.std_errors
    }

    /// Rows whose value should not be believed, with the reason.
    pub fn flags(&self) -> &[Flag] {
        &self.estimate.flags
    }

    /// The mean over rows with a finite value.
    pub fn mean(&self) -> f64 {
        self.estimate.mean()
    }

    /// The standard error of [`Scores::mean`], rows taken as independent.
    pub fn std_error(&self) -> f64 {
        self.estimate.std_error()
    }

    /// Mean, error, and how many rows are not in them.
    pub fn summary(&self) -> Summary {
        self.estimate.summary()
    }

    /// What the values are.
    pub fn claim(&self) -> Claim {
        self.estimate.claim
    }

    /// The mean as bits per dimension.
    pub fn bits_per_dim(&self) -> f64 {
        bits_per_dim(self.mean(), self.dim)
    }

    /// The rows from the least likely on; a row that has no value is no less likely than others.
    pub fn least_likely(&self) -> Vec<usize> {
        let values = self.values();
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|&a, &b| {
            let of = |row: usize| (values[row].is_nan(), values[row]);
            of(a).0.cmp(&of(b).0).then(of(a).1.total_cmp(&of(b).1))
        });
        order
    }
}

/// What scores will take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Network evaluations of a row.
    pub evaluations: usize,
    /// Seconds of all rows, at least.
    pub seconds: f64,
}

impl Density {
    /// Log-likelihoods of the rows of `data`, each given its class where the density is conditioned
    /// on classes.
    ///
    /// # Errors
    /// [`Error::Config`] if an option makes no sense for this density; [`Error::Row`] or
    /// [`Error::Numeric`] if a row cannot be solved.
    pub fn log_prob(&self, data: &Dataset, options: &ScoreOptions) -> Result<Scores> {
        self.log_prob_with(data, options, &mut Silent)
    }

    /// As [`Density::log_prob`], with progress, remarks and the scores of every batch as soon as
    /// they are there ([`Watch::scored`]).
    ///
    /// # Errors
    /// As [`Density::log_prob`], and [`Error::Interrupted`].
    pub fn log_prob_with(
        &self,
        data: &Dataset,
        options: &ScoreOptions,
        watch: &mut dyn Watch,
    ) -> Result<Scores> {
        options.check()?;
        let data = &self.run.data.conform_to_score(data.clone())?;
        self.check_given_seen(data, &options.given)?;
        let rows: Vec<usize> = (0..data.rows()).collect();
        let (batch, covariance) = self.ready_to_score(options, watch)?;
        let settings = self.estimation(options, covariance, batch, watch)?;
        let noise = dequantizer(&self.run, options.dequantization, options.start_time)?;
        let asked = self.asked("score.given", &options.given, options.dequantization)?;
        for sentence in data.unknown_differences() {
            watch.say(Remark::Note(sentence));
        }
        let part = Part { table: data, rows: &rows, dequantizer: &*noise, asked: asked.as_ref() };
        let mut estimate = score(self, part, &settings, Seed(options.seed), batch, watch)?;
        if options.dequantization != Dequantization::Uniform {
            estimate.estimator += &format!(", {} dequantisation", options.dequantization.name());
        }
        say_unseen(data, &mut estimate, watch);
        Ok(Scores { estimate, dim: self.run.data.scaling.dim() })
    }

    /// Refuses rows of which a given cell has a value that no row of the run has: no distribution
    /// is given it.
    fn check_given_seen(&self, data: &Dataset, given: &[String]) -> Result<()> {
        if data.unseen().is_empty() {
            return Ok(());
        }
        let given = self.given_columns(given);
        let of_row = |(row, columns): (&usize, &Vec<String>)| {
            Some((*row, columns.iter().find(|&name| given.contains(name))?.clone()))
        };
        match data.unseen().iter().find_map(of_row) {
            None => Ok(()),
            Some((row, name)) => {
                let problem = format!(
                    "{}: `{name}` is given, and its value is none that is known",
                    data.place(row)
                );
                let remedy = "leave the row out: nothing has a distribution given it";
                Err(Error::data(data.called(), problem, remedy))
            }
        }
    }

    /// Checks `options` against this density, and measures what the covariance needs.
    pub(super) fn ready_to_score(
        &self,
        options: &ScoreOptions,
        watch: &mut dyn Watch,
    ) -> Result<(usize, CovarianceConfig)> {
        let method = options.estimator.method();
        if method.scores_levels() && !self.is_of_images() {
            let what = if self.run.data.latents.is_some() { "latents" } else { "a table" };
            let problem = format!("{}, of a run on {what}", method.name());
            let remedy = "give elbo, bound, bound-sm or ode";
            return Err(Error::config("score.estimator", problem, remedy));
        }
        self.check_adaptive("score.estimator", options.estimator == Estimator::Ode)?;
        let batch = self.batch("score.batch_size", options.batch_size, ScoreOptions::BATCH)?;
        let covariance = options.covariance.unwrap_or(self.own_covariance());
        if method.has_covariance() {
            self.prepare(covariance, batch, watch)?;
        }
        Ok((batch, covariance))
    }

    pub(super) fn estimation(
        &self,
        options: &ScoreOptions,
        covariance: CovarianceConfig,
        batch: usize,
        watch: &mut dyn Watch,
    ) -> Result<Estimation> {
        let method = options.estimator.method();
        let levels = method.scores_levels();
        let grid = match method.has_steps() {
            true => Grids::new(self, "score", options.spacing, levels, batch).of(
                covariance,
                options.steps,
                watch,
            )?,
            false => Vec::new(),
        };
        Ok(Estimation {
            estimator: options.estimator,
            draws: options.draws.max(method.least_draws()),
            covariance: match method.has_covariance() {
                true => self.covariance(covariance)?.into(),
                false => Rc::new(Own),
            },
            grid,
            noise_levels: options.levels(),
            divergence: options.divergence(8)?,
            solver: options.solver.clone(),
            keep_unsolved: options.keep_unsolved,
            from_time: None,
        })
    }

    /// What the scores of `rows` rows will take, from one evaluation of a batch; `None` where the
    /// number of evaluations depends on the rows.
    ///
    /// # Errors
    /// As [`Density::log_prob`].
    pub fn cost_of_scores(&self, rows: usize, options: &ScoreOptions) -> Result<Option<Cost>> {
        let method = options.estimator.method();
        let settings = Estimation {
            draws: options.draws.max(method.least_draws()),
            grid: vec![0.0; options.steps + 1],
            noise_levels: options.levels(),
            ..Estimation::stepless(options.estimator)
        };
        let Some(evaluations) = method.evaluations(&settings) else {
            return Ok(None);
        };
        let batch = self.batch("score.batch_size", options.batch_size, ScoreOptions::BATCH)?;
        let (model, at_once) = (self.model(), rows.min(batch));
        let space = model.space();
        let x = Tensor::zeros([at_once as i64, space.dim], (space.kind, space.device));
        let of_features = self.features().map(|features| {
            let nothing = Cells::nothing(features.cells().clone(), at_once);
            Condition::cells(nothing)
        });
        let of_classes =
            || (self.run.model.classes() > 0).then(|| Condition::classes(&vec![0; at_once]));
        let condition = of_features.or_else(of_classes);
        let times = Times::All(0.5 * space.schedule().horizon());
        let q = Query::new(&x, &times).given(condition.as_ref());
        let once = || tch::no_grad(|| to_vec(&model.noise(&q)));
        once();
        let started = Instant::now();
        once();
        let of_row = started.elapsed().as_secs_f64() / at_once.max(1) as f64;
        Ok(Some(Cost { evaluations, seconds: of_row * (rows * evaluations) as f64 }))
    }
}
