//! The validation bound.

use tch::{Kind, Tensor};

use crate::Result;
use crate::covariance::Reverse;
use crate::grid::Spacing;
use crate::likelihood::{Elbo, LogLikelihood, ScoreMatchingBound, in_batches, mean_and_error};
use crate::model::{Denoiser, Model};
use crate::noise::Seed;

/// Held-out rows and the bound that judges a model on them, with the same noise every time.
pub struct Validation {
    rows: Tensor,
    classes: Option<Vec<u32>>,
    seed: Seed,
    steps: usize,
}

/// Steps of the validation ELBO, and draws of the score-matching bound: the same number of network evaluations.
const STEPS: usize = 32;
/// Rows per evaluation.
const BATCH: usize = 4096;

impl Validation {
    /// Validation on `rows` `[n, d]` in the network's units.
    pub fn new(rows: &Tensor, seed: Seed) -> Validation {
        let seed = seed.derive("validation");
        Validation { rows: rows.shallow_clone(), classes: None, seed, steps: STEPS }
    }

    /// With the classes of the rows, for a model that is conditioned on classes.
    pub fn with_classes(self, classes: Option<Vec<u32>>) -> Validation {
        Validation { classes, ..self }
    }

    /// Mean and standard error over rows, nats per row: the ELBO in 32 steps where the model has a covariance head, the
    /// score-matching bound where it has none.
    pub fn bound(&self, model: &Model) -> Result<(f64, f64)> {
        let rows = self.rows.to_kind(Kind::Float).to_device(model.device());
        let estimate = in_batches(&rows, BATCH, |part, numbers| {
            let first = numbers.start as u64;
            let given = model.given(self.classes.as_ref().map(|classes| &classes[numbers]));
            if let Some(head) = &model.config().head {
                let reverse = Reverse::new(&given, head.covariance(), 1.0)?;
                let grid = Spacing::default().elbo_grid(&**model.schedule(), self.steps);
                Elbo::new(reverse, grid, 1).log_likelihood(part, self.seed, first)
            } else {
                ScoreMatchingBound::new(&given, self.steps / 2).log_likelihood(part, self.seed, first)
            }
        })?;
        Ok(mean_and_error(&estimate.values))
    }
}
