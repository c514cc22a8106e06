//! Log-likelihoods, each with what it is, its standard error and its cost.
//!
//! All are in nats per row, in the units of the model's rows; a table's Jacobian is added by
//! [`crate::data::Scaling`].

mod bound;
mod elbo;
mod flow;

use serde::Serialize;
use tch::Tensor;

use crate::Result;
use crate::noise::Seed;
pub use bound::ScoreMatchingBound;
pub use elbo::Elbo;
pub use flow::{Divergence, ProbabilityFlow};

/// What a number says about `ln p(x)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// At most `ln p(x)` in expectation, for the generative law that the model and its steps define.
    LowerBound,
    /// `ln p(x)` of a deterministic map, up to solver tolerance and the noise of the divergence probes.
    Estimate,
}

/// Log-likelihoods of a batch of rows.
#[derive(Clone, Debug, Serialize)]
pub struct Estimate {
    /// Bound or estimate.
    pub kind: Kind,
    /// The estimator with its settings, for people: "ELBO, K = 100, learned covariance".
    pub estimator: String,
    /// Nats per row.
    pub values: Vec<f64>,
    /// Standard error of each row's value over its own draws; 0 where nothing was drawn, NaN from a single draw.
    pub std_errors: Vec<f64>,
    /// Monte-Carlo draws (or divergence probes) per row.
    pub draws: usize,
    /// Network evaluations, a divergence's vector-Jacobian product counting as one: mean per row.
    pub evaluations: f64,
    /// Rows whose value should not be believed, with the reason.
    pub flags: Vec<Flag>,
}

/// A row whose likelihood is doubtful.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Flag {
    /// The row, from 0.
    pub row: usize,
    /// Why.
    pub reason: String,
}

impl Estimate {
    /// Mean over rows.
    pub fn mean(&self) -> f64 {
        mean_and_error(&self.values).0
    }

    /// Standard error of the mean over rows, rows taken as independent (it contains the draws' error).
    pub fn std_error(&self) -> f64 {
        mean_and_error(&self.values).1
    }

    /// Appends the rows of a later batch of the same estimator.
    pub fn extend(&mut self, next: Estimate) {
        let (a, b) = (self.values.len(), next.values.len());
        assert_eq!(self.estimator, next.estimator, "batches of one estimator");
        self.evaluations =
            (self.evaluations * a as f64 + next.evaluations * b as f64) / (a + b).max(1) as f64;
        self.values.extend(next.values);
        self.std_errors.extend(next.std_errors);
        self.flags.extend(next.flags.into_iter().map(|f| Flag { row: f.row + a, ..f }));
    }
}

/// Mean and its standard error over independent values; the error of fewer than two is NaN.
pub fn mean_and_error(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    (mean, (squares / (n - 1.0) / n).sqrt())
}

/// A way to get log-likelihoods from a model.
pub trait LogLikelihood {
    /// Log-likelihoods of `x` `[b, d]`. Row `i` draws from stream `first_row + i` of `seed`, so the result does not
    /// depend on how rows are cut into batches.
    fn log_likelihood(&self, x: &Tensor, seed: Seed, first_row: u64) -> Result<Estimate>;

    /// As [`LogLikelihood::log_likelihood`], in batches of at most `batch` rows, telling `progress` the rows done.
    fn in_batches(
        &self,
        x: &Tensor,
        seed: Seed,
        batch: usize,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Estimate> {
        let rows = x.size()[0];
        let mut all: Option<Estimate> = None;
        let mut start = 0;
        while start < rows {
            let length = (batch.max(1) as i64).min(rows - start);
            let part = self.log_likelihood(&x.narrow(0, start, length), seed, start as u64)?;
            match &mut all {
                None => all = Some(part),
                Some(all) => all.extend(part),
            }
            start += length;
            progress(start as usize);
        }
        match all {
            Some(all) => Ok(all),
            None => self.log_likelihood(x, seed, 0),
        }
    }
}
