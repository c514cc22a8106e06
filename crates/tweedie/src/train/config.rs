//! How to train, as plain data.

use serde::{Deserialize, Serialize};

use crate::model::Precision;
use crate::{Error, Result};

/// How to train, as plain data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Steps of the optimiser.
    pub iterations: u64,
    /// Rows per step; at least as many as there are rows means full batches.
    pub batch_size: usize,
    /// Adam's step size after warm-up; it falls along a cosine to a hundredth of itself.
    pub learning_rate: f64,
    /// Whether the step size falls along the cosine, or stays.
    pub decay: bool,
    /// Adam's `β₂`: its scale of a gradient forgets in about `1/(1 − β₂)` steps. With 0.99 it
    /// follows gradients that grow, where 0.999 lets large steps through.
    pub beta2: f64,
    /// Decoupled weight decay (AdamW): each step takes this times the step size off the parameters
    /// that are trained, as a share of them; 0: Adam.
    pub weight_decay: f64,
    /// Steps over which the step size rises from 0.
    pub warm_up: u64,
    /// Gradients longer than this are shortened to it.
    pub clip: f64,
    /// Decay of the exponential moving average of the parameters.
    pub ema: f64,
    /// Share of draws whose class is dropped: these rows are trained on under the null class, which
    /// classifier-free guidance takes (Ho & Salimans 2022); 0.1 is usual.
    pub label_dropout: f64,
    /// Micro-batches per step, at most 100 000.
    pub accumulation: u64,
    /// What products of weights and activations are computed in while training.
    pub precision: Precision,
    /// Whether activations within the blocks of a network for images are computed again on the way
    /// back instead of being kept for it: less memory, more time.
    pub checkpoint_activations: bool,
    /// Steps between validations, and between looks at samples of images.
    pub validate_every: u64,
    /// Validations without improvement after which training stops; 0: never.
    pub patience: u64,
    /// At most this many validation rows are used while training.
    pub validation_rows: usize,
    /// Steps between checkpoints.
    pub checkpoint_every: u64,
    /// Seconds between checkpoints, besides those that `checkpoint_every` makes; 0: no such ones.
    pub checkpoint_seconds: f64,
    /// Training stops after this many seconds, the fit of the base included, measuring for a head's
    /// start not, and the step size falls in time for that; 0: never.
    pub max_seconds: f64,
}

impl Default for TrainConfig {
    fn default() -> Self {
        TrainConfig {
            iterations: 20_000,
            batch_size: 256,
            learning_rate: 3e-3,
            decay: true,
            beta2: 0.999,
            weight_decay: 0.0,
            warm_up: 200,
            clip: 1.0,
            ema: 0.999,
            label_dropout: 0.0,
            accumulation: 1,
            precision: Precision::F32,
            checkpoint_activations: false,
            validate_every: 500,
            patience: 10,
            validation_rows: 2000,
            checkpoint_every: 1000,
            checkpoint_seconds: 60.0,
            max_seconds: 0.0,
        }
    }
}

/// Micro-batches per step: beyond these no training comes to its second step.
const MOST_ACCUMULATION: usize = 100_000;

impl TrainConfig {
    /// Checks every field.
    pub fn check(&self) -> Result<()> {
        let positive = [
            ("train.iterations", self.iterations),
            ("train.batch_size", self.batch_size as u64),
            ("train.accumulation", self.accumulation),
            ("train.validate_every", self.validate_every),
            ("train.checkpoint_every", self.checkpoint_every),
        ];
        if let Some((field, _)) = positive.iter().find(|(_, v)| *v == 0) {
            return Err(Error::config(*field, "0", "give a number of at least 1"));
        }
        Error::check_count("train.accumulation", self.accumulation, MOST_ACCUMULATION)?;
        let real = [("train.learning_rate", self.learning_rate), ("train.clip", self.clip)];
        if let Some((field, value)) = real.iter().find(|(_, v)| !(*v > 0.0 && v.is_finite())) {
            return Err(Error::config(*field, format!("{value}"), "give a positive number"));
        }
        if !(0.0..1.0).contains(&(self.weight_decay * self.learning_rate)) {
            return Err(Error::config(
                "train.weight_decay",
                format!("{}", self.weight_decay),
                "give a number from 0 (none) to below one over the step size; 0.01 is usual",
            ));
        }
        if !(0.0..1.0).contains(&self.label_dropout) {
            return Err(Error::config(
                "train.label_dropout",
                format!("{}", self.label_dropout),
                "give a share from 0 (none) to below 1; 0.1 is usual",
            ));
        }
        let seconds = [
            ("train.max_seconds", self.max_seconds),
            ("train.checkpoint_seconds", self.checkpoint_seconds),
        ];
        if let Some((field, value)) = seconds.iter().find(|(_, v)| !(*v >= 0.0 && v.is_finite())) {
            return Err(Error::config(
                *field,
                format!("{value}"),
                "give seconds, or 0 for no limit",
            ));
        }
        if !(0.0..1.0).contains(&self.beta2) {
            return Err(Error::config(
                "train.beta2",
                format!("{}", self.beta2),
                "give a number from 0 to below 1; 0.999 is usual",
            ));
        }
        if !(0.0..1.0).contains(&self.ema) {
            return Err(Error::config(
                "train.ema",
                format!("{}", self.ema),
                "give a number from 0 (none) to below 1",
            ));
        }
        Ok(())
    }

    /// Adam's step size at `iteration`, from 0, after `seconds` seconds of training.
    pub fn learning_rate_at(&self, iteration: u64, seconds: f64) -> f64 {
        let warm = ((iteration + 1) as f64 / self.warm_up.max(1) as f64).min(1.0);
        if !self.decay {
            return self.learning_rate * warm;
        }
        let of_time = if self.max_seconds > 0.0 { seconds / self.max_seconds } else { 0.0 };
        let done = (iteration as f64 / self.iterations as f64).max(of_time).min(1.0);
        self.learning_rate
            * warm
            * (0.01 + 0.99 * 0.5 * (1.0 + (std::f64::consts::PI * done).cos()))
    }
}
