//! Log-likelihoods, each with its claim (a lower bound, an estimate or exact), its standard error
//! and its cost.
//!
//! All are in nats per row, in the units of the model's rows. [`crate::data::Scaling`] adds the
//! log-Jacobian of a table.
//!
//! ```
//! use std::sync::Arc;
//! use tweedie::covariance::{Own, Reverse};
//! use tweedie::grid::Spacing;
//! use tweedie::likelihood::{Claim, Elbo, LogLikelihood, ProbabilityFlow};
//! use tweedie::noise::Seed;
//! use tweedie::oracle::{GaussianMixture, Oracle};
//! use tweedie::query::Batch;
//! use tweedie::schedule::Vp;
//!
//! # fn main() -> tweedie::Result<()> {
//! let mixture = GaussianMixture::new(&[0.5, 0.5], &[[-2.0], [2.0]], &[1.0, 1.0])?;
//! let oracle = Oracle::new(mixture, Arc::new(Vp::default()));
//! let x = oracle.mixture.sample(200, Seed(0));
//! let exact = oracle.mixture.log_density(&x).mean(None).double_value(&[]);
//!
//! let grid = Spacing::Angle.elbo_grid(&Vp::default(), 5);
//! let elbo = Elbo::new(Reverse::new(&oracle, Own, 1.0)?, grid, 4);
//! let bound = elbo.log_likelihood(&Batch::of(&x), Seed(1), 0)?;
//! let flow = ProbabilityFlow::new(&oracle).log_likelihood(&Batch::of(&x), Seed(1), 0)?;
//! assert_eq!((bound.claim, flow.claim), (Claim::LowerBound, Claim::Estimate));
//! assert!(bound.mean() < exact, "{} in five steps, exact {exact}", bound.mean());
//! assert!((flow.mean() - exact).abs() < 1e-3, "{} by the flow, exact {exact}", flow.mean());
//! # Ok(())
//! # }
//! ```

mod bound;
mod discrete;
mod divergence;
mod draws;
mod dynamic;
mod elbo;
mod flow;
mod one_step;
mod options;
mod path;

use std::fmt;

use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::Result;
use crate::choice::methods;
use crate::noise::Seed;
use crate::query::{Batch, Cells, Condition, Role};
pub use crate::statistics::mean_and_error;
use crate::statistics::median;
use crate::tensor::to_vec;
pub use bound::ScoreMatchingBound;
pub use discrete::DiscreteDecoder;
pub(crate) use discrete::log_normal_between;
pub use divergence::Divergence;
pub use dynamic::StepCosts;
pub use elbo::Elbo;
pub use flow::ProbabilityFlow;
pub use one_step::{NOISE_LEVELS, OneStep};
pub use options::{DivergenceKind, Estimation, EstimatorMethod, SolverOptions};
pub use path::PathLikelihood;

methods! {
    /// What is computed of `ln p(x)`.
    pub enum Estimator: EstimatorMethod {
        Elbo = elbo::Method,
        Path = path::Method,
        Bound = bound::Method,
        BoundSm = bound::DivergenceMethod,
        Ode = flow::Method,
        Levels = elbo::LevelsMethod,
        OneStep = one_step::Method,
    }
}

/// How an estimate relates to `ln p(x)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Claim {
    /// At most `ln p(x)` in expectation, for the generative distribution that the model and its
    /// steps define.
    LowerBound,
    /// `ln p(x)` of a deterministic map, up to solver tolerance and the noise of the divergence
    /// probes.
    Estimate,
    /// `ln p(x)` in closed form.
    Exact,
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Claim::LowerBound => "a lower bound",
            Claim::Estimate => "an estimate",
            Claim::Exact => "exact",
        })
    }
}

/// Log-likelihoods of a batch of rows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Estimate {
    /// What the values are.
    pub claim: Claim,
    /// The estimator with its settings, for people: "ELBO, K = 100, learned covariance".
    pub estimator: String,
    /// Nats per row, with their offsets: −∞ for a row so far out that no number holds its
    /// log-likelihood, NaN for one without. Either has a flag.
    pub values: Vec<f64>,
    /// Nats per row, contained in the values, that do not come from the model: the log-Jacobian of
    /// a scaling.
    pub offsets: Vec<f64>,
    /// Standard error of each row's value over its own draws; 0 where nothing was drawn, NaN from a
    /// single draw.
    pub std_errors: Vec<f64>,
    /// Monte-Carlo draws (or divergence probes) per row.
    pub draws: usize,
    /// Network evaluations, a divergence's vector-Jacobian product counting as one: mean per row.
    pub evaluations: f64,
    /// Rows whose value should not be believed, with the reason.
    pub flags: Vec<Flag>,
}

/// A row whose likelihood is doubtful.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Flag {
    /// The row, from 0, among those that were scored.
    pub row: usize,
    /// Why its value should not be believed.
    pub reason: String,
}

/// The mean of log-likelihoods, and what is not in it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// Mean over the rows with a finite value; NaN if there is none.
    pub mean: f64,
    /// Its standard error, rows taken as independent (it contains the draws' error); NaN of fewer
    /// than two.
    pub std_error: f64,
    /// Rows with a finite value.
    pub finite: usize,
    /// Rows whose value is −∞: with them the mean is −∞.
    pub minus_infinity: usize,
    /// Rows without a value.
    pub unsolved: usize,
}

impl Summary {
    /// The summary of `values`, nats per row.
    pub fn of(values: &[f64]) -> Summary {
        let finite: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
        let (mean, std_error) = mean_and_error(&finite);
        let unsolved = values.iter().filter(|v| v.is_nan()).count();
        let minus_infinity = values.len() - finite.len() - unsolved;
        Summary { mean, std_error, finite: finite.len(), minus_infinity, unsolved }
    }
}

impl Estimate {
    /// The mean over rows, its error, and what is not in them.
    pub fn summary(&self) -> Summary {
        Summary::of(&self.values)
    }

    /// Mean over rows with a finite value; [`Estimate::summary`] counts the others.
    pub fn mean(&self) -> f64 {
        self.summary().mean
    }

    /// Standard error of [`Estimate::mean`], rows taken as independent (it contains the draws'
    /// error).
    pub fn std_error(&self) -> f64 {
        self.summary().std_error
    }

    /// Adds nats per row that do not come from the model: to the values, and to the record of them.
    pub fn shift(&mut self, offsets: &[f64]) {
        assert_eq!(self.values.len(), offsets.len(), "rows of an estimate and their offsets");
        self.values.iter_mut().zip(offsets).for_each(|(value, offset)| *value += offset);
        self.offsets.iter_mut().zip(offsets).for_each(|(sum, offset)| *sum += offset);
    }

    /// The part of the mean over rows that does not come from the model.
    pub fn offset(&self) -> f64 {
        mean_and_error(&self.offsets).0
    }

    /// Bits per dimension of rows of `dim` columns, and their standard error: [`bits_per_dim`] of
    /// the mean over rows.
    pub fn bits_per_dim(&self, dim: usize) -> (f64, f64) {
        (bits_per_dim(self.mean(), dim), -bits_per_dim(self.std_error(), dim))
    }

    /// Flags rows whose value exceeds a lower bound on the same rows by far more than it does
    /// elsewhere: by more than the median gap plus the larger of 5 nats and eight robust standard
    /// deviations (1.4826 median absolute deviations). A flow likelihood blown up by a field that
    /// is no score shows so.
    pub fn flag_against(&mut self, bound: &Estimate) {
        assert_eq!(self.values.len(), bound.values.len(), "rows of an estimate and its bound");
        let gaps: Vec<f64> = self.values.iter().zip(&bound.values).map(|(a, b)| a - b).collect();
        let middle = median(gaps.iter().copied());
        let spread = 1.4826 * median(gaps.iter().map(|g| (g - middle).abs()));
        let limit = middle + (8.0 * spread).max(5.0);
        let known = self.doubted();
        let doubtful = |row, gap: f64| gap > limit && !known.contains(&row);
        for (row, gap) in gaps.iter().enumerate().filter(|&(row, gap)| doubtful(row, *gap)) {
            let reason =
                format!("{gap:.1} nats above the {}, {middle:.1} elsewhere", bound.estimator);
            self.flags.push(Flag { row, reason });
        }
    }

    /// The rows with a flag.
    pub fn doubted(&self) -> std::collections::HashSet<usize> {
        self.flags.iter().map(|f| f.row).collect()
    }

    /// The values of rows without a flag.
    pub fn believed(&self) -> Vec<f64> {
        let doubted = self.doubted();
        (0..self.values.len()).filter(|r| !doubted.contains(r)).map(|r| self.values[r]).collect()
    }

    /// Appends the rows of a later batch of the same estimator.
    pub fn extend(&mut self, next: Estimate) {
        let (a, b) = (self.values.len(), next.values.len());
        assert_eq!(self.estimator, next.estimator, "batches of one estimator");
        self.evaluations =
            (self.evaluations * a as f64 + next.evaluations * b as f64) / (a + b).max(1) as f64;
        self.values.extend(next.values);
        self.offsets.extend(next.offsets);
        self.std_errors.extend(next.std_errors);
        self.flags.extend(next.flags.into_iter().map(|f| Flag { row: f.row + a, ..f }));
    }
}

/// Network units beyond which a row is too far out for a likelihood in single precision, training
/// rows being of order 1: where it has none, that is why.
pub const FAR: f64 = 1e6;

/// Rows whose value is not finite: −∞ for those beyond [`FAR`], which is where it would be, NaN for
/// others, for which there is another reason.
fn without_number(values: &mut [f64], x: &Tensor, otherwise: &str) -> Vec<Flag> {
    if values.iter().all(|value| value.is_finite()) {
        return Vec::new();
    }
    let reach = farthest(x);
    let lost = values.iter_mut().enumerate().filter(|(_, value)| !value.is_finite());
    let flags = lost.map(|(row, value)| {
        let (column, far) = reach[row];
        let is_far = far > FAR;
        *value = if is_far { f64::NEG_INFINITY } else { f64::NAN };
        let reason = match is_far {
            true => too_far(column, far),
            false => otherwise.to_string(),
        };
        Flag { row, reason }
    });
    flags.collect()
}

fn too_far(column: usize, far: f64) -> String {
    format!(
        "column {} is {far:.1e} from the middle of the training rows, in network units: too far \
         for a number",
        column + 1
    )
}

/// The column of each row that is farthest from 0, and how far: of values that overflowed, the
/// largest number; a NaN counts as 0.
fn farthest(x: &Tensor) -> Vec<(usize, f64)> {
    let (far, column) =
        x.to_kind(tch::Kind::Double).abs().nan_to_num(0.0, None, None).max_dim(1, false);
    let columns = to_vec(&column.to_kind(tch::Kind::Double));
    columns.into_iter().map(|column| column as usize).zip(to_vec(&far)).collect()
}

/// `−ln p/(d ln 2)`: bits per dimension of a log-likelihood in nats per row of `d` columns, in the
/// units that it has. That of levels is comparable with published figures (whose "+7" or "+8" is
/// the Jacobian of the scaling to `[−1, 1]` or `[0, 1]`).
pub fn bits_per_dim(nats: f64, dim: usize) -> f64 {
    -nats / (dim as f64 * std::f64::consts::LN_2)
}

/// A way to get log-likelihoods from a model.
pub trait LogLikelihood {
    /// Log-likelihoods of a batch of rows. Row `i` draws from stream `first_row + i` of `seed`, so
    /// the result depends on how rows are cut into batches by rounding alone.
    fn log_likelihood(&self, batch: &Batch, seed: Seed, first_row: u64) -> Result<Estimate>;

    /// As [`LogLikelihood::log_likelihood`]; of rows with cells `ln p` of their targets given the
    /// rest, without the constant that every number which is no target adds ([`Cells`]).
    fn of_targets(&self, batch: &Batch, seed: Seed, first_row: u64) -> Result<Estimate> {
        let mut estimate = self.log_likelihood(batch, seed, first_row)?;
        let cells = batch.condition.as_ref().and_then(Condition::as_cells);
        if let Some(cells) = cells.filter(|cells| !cells.are_all_targets()) {
            let nothing = Cells::nothing(cells.layout().clone(), 1);
            let d = nothing.layout().numbers;
            let x = Tensor::zeros([1, d as i64], (batch.x.kind(), batch.x.device()));
            let row = Batch::of(&x).given(Some(Condition::cells(nothing)));
            let constant = self.log_likelihood(&row, seed, 0)?.values[0] / d as f64;
            for (value, roles) in estimate.values.iter_mut().zip(cells.roles().chunks_exact(d)) {
                let others = roles.iter().filter(|&&role| role != Role::Target).count();
                *value -= constant * others as f64;
            }
        }
        Ok(estimate)
    }

    /// Whether rows are levels at the centres of their bins, scored as probabilities, and not
    /// points of a density.
    fn scores_levels(&self) -> bool {
        false
    }

    /// As [`LogLikelihood::of_targets`], `size` rows at a time, numbered from [`Batch::first`], reporting to `progress` the
    /// rows done, whose error ends the work. At least one batch is computed, be it empty.
    fn in_batches(
        &self,
        rows: &Batch,
        seed: Seed,
        size: usize,
        progress: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<Estimate> {
        let (count, size) = (rows.len(), size.max(1));
        let mut part = |start: usize| {
            let end = start.saturating_add(size).min(count);
            let part = rows.narrow(start..end);
            let estimate = self.of_targets(&part, seed, part.first as u64)?;
            progress(end)?;
            Ok(estimate)
        };
        let mut all: Estimate = part(0)?;
        for start in (0..count).step_by(size).skip(1) {
            all.extend(part(start)?);
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn estimate(values: Vec<f64>) -> Estimate {
        let (std_errors, offsets) = (vec![0.0; values.len()], vec![0.0; values.len()]);
        let (claim, estimator, flags) = (Claim::Estimate, "test".into(), Vec::new());
        Estimate {
            claim,
            estimator,
            values,
            offsets,
            std_errors,
            draws: 1,
            evaluations: 1.0,
            flags,
        }
    }

    #[test]
    fn blown_up_rows_are_flagged_and_left_out() {
        let bound = estimate((0..100).map(|i| -(i as f64)).collect());
        let mut flow = estimate((0..100).map(|i| -(i as f64) + 0.1 * (i % 3) as f64).collect());
        flow.flag_against(&bound);
        assert!(flow.flags.is_empty());
        flow.values[17] += 60.0;
        flow.flag_against(&bound);
        assert_eq!(flow.flags.iter().map(|f| f.row).collect::<Vec<_>>(), [17]);
        assert_eq!(flow.believed().len(), 99);
    }

    /// A row that overflows is −∞, one that has no value for another reason has none; the mean is
    /// of the others, which are counted.
    #[test]
    fn rows_without_a_number_say_why() {
        let x =
            Tensor::from_slice(&[0.0, 1.0, -3e29, 2.0, 0.5, 0.5, 1.0, f64::INFINITY]).view([4, 2]);
        let mut values = vec![-2.0, f64::NAN, f64::NAN, f64::NEG_INFINITY];
        let flags = without_number(&mut values, &x, "no covariance");
        assert!(
            values[1] == f64::NEG_INFINITY && values[2].is_nan() && values[3] == f64::NEG_INFINITY
        );
        assert_eq!(flags.iter().map(|f| f.row).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(flags[0].reason.contains("column 1 is 3.0e29"), "{}", flags[0].reason);
        assert_eq!(flags[1].reason, "no covariance");
        assert!(flags[2].reason.contains("column 2"), "{}", flags[2].reason);
        values.push(-4.0);
        let Summary { mean, std_error, finite, minus_infinity, unsolved } = Summary::of(&values);
        assert_eq!((mean, std_error, finite, minus_infinity, unsolved), (-3.0, 1.0, 2, 2, 1));
        assert!(Summary::of(&[f64::NAN]).mean.is_nan());
        // nor do they count as blown up, whatever the bound says of them
        let mut flow = estimate(values.clone());
        flow.flag_against(&estimate(vec![-2.0, -3.0, f64::NEG_INFINITY, -1.0, -4.0]));
        assert!(flow.flags.is_empty(), "{:?}", flow.flags);
    }

    /// 8-bit levels uniform on 256 values have 8 bits; a density on `[−1, 1]` is 7 bits short of
    /// that per level.
    #[test]
    fn offsets_are_carried() {
        let (dim, ln2) = (3, std::f64::consts::LN_2);
        // uniform on [−1, 1]³
        let mut estimate = estimate(vec![-3.0 * ln2; 4]);
        assert!((estimate.bits_per_dim(dim).0 - 1.0).abs() < 1e-12);
        let jacobian = -3.0 * 127.5f64.ln();
        estimate.shift(&[jacobian; 4]);
        estimate.shift(&[0.25; 4]);
        assert!((estimate.offset() - jacobian - 0.25).abs() < 1e-12);
        let bits = estimate.bits_per_dim(dim).0 + 0.25 / (3.0 * ln2);
        assert!((bits - 255f64.log2()).abs() < 1e-12, "{bits}");
        let mut next = estimate.clone();
        next.shift(&[1.0; 4]);
        estimate.extend(next);
        assert!((estimate.offset() - jacobian - 0.75).abs() < 1e-12);
    }

    #[test]
    fn batches_are_appended_with_their_flags() {
        let mut all = estimate(vec![1.0, 2.0]);
        let mut next = estimate(vec![3.0]);
        next.flags.push(Flag { row: 0, reason: "why".into() });
        next.evaluations = 4.0;
        all.extend(next);
        assert_eq!((all.values.len(), all.flags[0].row, all.evaluations), (3, 2, 2.0));
    }
}
