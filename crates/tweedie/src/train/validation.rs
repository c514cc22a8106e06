//! The validation bound.

use tch::{Kind, Tensor};

use super::watched::Watched;
use crate::covariance::{Covariance, Reverse};
use crate::grid::{Spacing, even_trajectory};
use crate::likelihood::{Elbo, LogLikelihood, ScoreMatchingBound, in_batches, mean_and_error};
use crate::model::{Denoiser, Model};
use crate::noise::Seed;
use crate::{Error, Result};

/// Held-out rows and the bound that judges a model on them, with the same noise every time.
pub struct Validation {
    rows: Tensor,
    classes: Option<Vec<u32>>,
    seed: Seed,
    steps: usize,
    levels: bool,
    batch: usize,
}

/// Steps of the validation ELBO, and draws of the score-matching bound: the same number of network
/// evaluations.
const STEPS: usize = 32;
/// Rows per evaluation.
const BATCH: usize = 4096;

impl Validation {
    /// Validation on `rows` `[n, d]` in the network's units.
    pub fn new(rows: &Tensor, seed: Seed) -> Validation {
        let seed = seed.derive("validation");
        Validation {
            rows: rows.shallow_clone(),
            classes: None,
            seed,
            steps: STEPS,
            levels: false,
            batch: BATCH,
        }
    }

    /// Validation on images, whose rows `[n, d]` are levels at the centres of their bins, in the
    /// network's units.
    pub fn of_levels(rows: &Tensor, seed: Seed) -> Validation {
        Validation { levels: true, ..Validation::new(rows, seed) }
    }

    /// With the classes of the rows, for a model that is conditioned on classes.
    pub fn with_classes(self, classes: Option<Vec<u32>>) -> Validation {
        Validation { classes, ..self }
    }

    /// With at most `batch` rows in one evaluation of the network: what its memory depends on.
    pub fn in_batches_of(self, batch: usize) -> Validation {
        Validation { batch, ..self }
    }

    /// Mean and standard error over rows, nats per row. Of rows of a table: the ELBO in 32 steps
    /// where the model has a covariance head, the score-matching bound where it has none. Of
    /// levels: the ELBO of the levels' probabilities ([`Elbo::of_levels`]) in 32 steps of the even
    /// trajectory, which `evaluate` reports as bits per dimension, with β where the model has no
    /// head.
    ///
    /// # Errors
    /// If the chain of the schedule cannot be cut into steps.
    pub fn bound(&self, model: &Model) -> Result<(f64, f64)> {
        Ok(self.bound_until(model, &|| false)?.expect("nothing stops it"))
    }

    /// As [`Validation::bound`], given up (`None`) within an evaluation of the network after `stop`
    /// returns true.
    ///
    /// # Errors
    /// As [`Validation::bound`].
    pub fn bound_until(
        &self,
        model: &Model,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<(f64, f64)>> {
        let rows = self.rows.to_kind(Kind::Float).to_device(model.device());
        let head = model.config().head.as_ref();
        let estimate = in_batches(&rows, self.batch, |part, numbers| {
            let first = numbers.start as u64;
            let given = model.given(self.classes.as_ref().map(|classes| &classes[numbers]));
            let given = Watched::new(&given, stop);
            let schedule = &**model.schedule();
            let estimate = match head {
                _ if self.levels => {
                    let covariance = head.map_or(Covariance::Beta, |head| head.covariance());
                    let reverse = Reverse::new(&given, covariance, 1.0)?;
                    let grid = even_trajectory(schedule, self.steps.min(schedule.steps()))?;
                    Elbo::of_levels(reverse, grid, 1).log_likelihood(part, self.seed, first)
                }
                Some(head) => {
                    let reverse = Reverse::new(&given, head.covariance(), 1.0)?;
                    let grid = Spacing::default().elbo_grid(schedule, self.steps);
                    Elbo::new(reverse, grid, 1).log_likelihood(part, self.seed, first)
                }
                None => ScoreMatchingBound::new(&given, self.steps / 2)
                    .log_likelihood(part, self.seed, first),
            };
            if stop() { Err(Error::Interrupted("validation".into())) } else { estimate }
        });
        match estimate {
            Ok(estimate) => Ok(Some(mean_and_error(&estimate.values))),
            Err(Error::Interrupted(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
