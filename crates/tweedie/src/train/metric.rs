//! The figures of a training.

use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::State;
use crate::tensor::to_vec;
use crate::{Error, Result};

/// One line of `metrics.jsonl`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Metric {
    /// Steps done.
    pub iteration: u64,
    /// Mean training loss since the last line.
    pub loss: f64,
    /// Standard deviation of the per-step loss since the last line.
    pub loss_sd: f64,
    /// Mean length of the gradient since the last line, before clipping.
    pub gradient_norm: f64,
    /// Steps since the last line whose gradient was longer than `clip`.
    pub clipped: u64,
    /// Steps since the last line that were left out because the gradient was not finite.
    pub skipped: u64,
    /// Rows of the steps since the last line that were left out of their step because their loss
    /// was not finite: a covariance without a factorisation, or numbers beyond single precision.
    #[serde(default)]
    pub skipped_rows: u64,
    /// Validation bound of the moving average, nats per row; larger is better. Of a table it is of
    /// the density in the network's units, of images of the probability of their levels (runs of
    /// earlier versions: of the density).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation: Option<f64>,
    /// Standard error of the validation bound over rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation_std_error: Option<f64>,
    /// The Fréchet distance of the moving average's samples, where parameters are kept by it; less
    /// is better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distance: Option<f64>,
    /// Adam's step size.
    pub learning_rate: f64,
    /// Seconds of training so far, resumed parts included.
    pub seconds: f64,
    /// Seconds since the last line in which the loop waited for its data.
    #[serde(default)]
    pub waited: f64,
}

/// Losses and gradients since the last metric line.
#[derive(Default)]
pub(super) struct Window {
    pub losses: Vec<Tensor>,
    pub norms: Vec<Tensor>,
    /// Rows, and of them those without a finite loss, batch by batch.
    pub rows: f64,
    pub lost_rows: Vec<Tensor>,
    pub clip: f64,
    /// Seconds.
    pub waited: f64,
}

impl Window {
    /// The metric line of what has happened; the window begins anew. `what` is trained.
    ///
    /// # Errors
    /// [`Error::Diverged`] if most steps or rows were left out.
    pub(super) fn close(
        &mut self,
        what: &str,
        state: &State,
        learning_rate: f64,
    ) -> Result<Metric> {
        let take = |values: &mut Vec<Tensor>| -> Vec<f64> {
            to_vec(&Tensor::stack(&std::mem::take(values), 0))
        };
        let (losses, norms) = (take(&mut self.losses), take(&mut self.norms));
        let skipped = norms.iter().filter(|n| !n.is_finite()).count();
        let lost_rows: f64 = take(&mut self.lost_rows).iter().sum();
        let rows = std::mem::take(&mut self.rows);
        if skipped * 2 > norms.len()
            || losses.iter().all(|l| !l.is_finite())
            || lost_rows * 2.0 > rows
        {
            return Err(Error::Diverged {
                what: what.into(),
                iteration: state.iteration,
                problem: "the loss or its gradient is not finite".into(),
                remedy: "lower train.learning_rate, raise train.warm_up, or check the data for \
                         extreme values; the last checkpoint is kept"
                    .into(),
            });
        }
        let finite: Vec<f64> = losses.iter().copied().filter(|l| l.is_finite()).collect();
        let mean = finite.iter().sum::<f64>() / finite.len() as f64;
        let variance = finite.iter().map(|l| (l - mean).powi(2)).sum::<f64>() / finite.len() as f64;
        let lengths: Vec<f64> = norms.iter().copied().filter(|n| n.is_finite()).collect();
        Ok(Metric {
            iteration: state.iteration,
            loss: mean,
            loss_sd: variance.sqrt(),
            gradient_norm: lengths.iter().sum::<f64>() / lengths.len().max(1) as f64,
            clipped: lengths.iter().filter(|n| **n > self.clip).count() as u64,
            skipped: skipped as u64,
            skipped_rows: lost_rows as u64,
            validation: None,
            validation_std_error: None,
            distance: None,
            learning_rate,
            seconds: state.seconds,
            waited: std::mem::take(&mut self.waited),
        })
    }
}
