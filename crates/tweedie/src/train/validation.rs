//! The validation bound.

use std::ops::Range;

use tch::Tensor;

use crate::covariance::{CovarianceConfig, Reverse};
use crate::grid::{Spacing, even_trajectory};
use crate::likelihood::{Elbo, LogLikelihood, ScoreMatchingBound, mean_and_error};
use crate::model::{Denoiser, Mode, Model, Precision, Watched};
use crate::noise::Seed;
use crate::process_group::ProcessGroup;
use crate::query::{Batch, Condition};
use crate::{Error, Result};

/// Held-out rows and the bound that judges a model on them, with the same noise every time.
pub struct Validation {
    rows: Tensor,
    condition: Option<Condition>,
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
            condition: None,
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
        self.given(classes.map(|classes| Condition::classes(&classes)))
    }

    /// With what is given about the rows.
    pub fn given(self, condition: Option<Condition>) -> Validation {
        Validation { condition, ..self }
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
        Ok(self.bound_until(model, Precision::F32, &|| false)?.expect("nothing stops it"))
    }

    /// As [`Validation::bound`] with products at a `precision`, given up (`None`) within an
    /// evaluation of the network after `stop` returns true.
    ///
    /// # Errors
    /// As [`Validation::bound`], and if the network does not compute at that precision.
    pub fn bound_until(
        &self,
        model: &Model,
        precision: Precision,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<(f64, f64)>> {
        self.bound_over(&ProcessGroup::alone(), model, precision, stop)
    }

    /// As [`Validation::bound_until`], the rows split over the processes of a group; given up where
    /// `stop` returns true in one of them.
    pub(crate) fn bound_over(
        &self,
        group: &ProcessGroup,
        model: &Model,
        precision: Precision,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<(f64, f64)>> {
        let own = self.values(group.part(self.rows.size()[0] as usize), model, precision, stop)?;
        if group.any(own.is_none())? {
            return Ok(None);
        }
        let values = group.gather(own.expect("none is missing"))?.concat();
        Ok(Some(mean_and_error(&values)))
    }

    /// The bound of each of the rows `part`, unless `stop` returns true.
    fn values(
        &self,
        part: Range<usize>,
        model: &Model,
        precision: Precision,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<Vec<f64>>> {
        let schedule = model.space().schedule();
        let head = model.head_covariance();
        let covariance = model.covariance(head.unwrap_or(CovarianceConfig::Beta))?;
        let in_mode = model.in_mode(Mode { precision, ..Mode::default() })?;
        let watched = Watched::new(&in_mode, stop);
        let reverse = Reverse::new(&watched, &*covariance, 1.0)?;
        let estimator: Box<dyn LogLikelihood> = match head {
            _ if self.levels => {
                let grid = even_trajectory(schedule, self.steps.min(schedule.steps()))?;
                Box::new(Elbo::of_levels(reverse, grid, 1))
            }
            Some(_) => {
                let grid = Spacing::default().elbo_grid(schedule, self.steps);
                Box::new(Elbo::new(reverse, grid, 1))
            }
            None => Box::new(ScoreMatchingBound::new(&watched, self.steps / 2)),
        };
        let condition = self.condition.clone();
        let rows = Batch::of(&model.space().place(&self.rows)).given(condition);
        let rows = rows.narrow(part);
        let estimate = estimator.in_batches(&rows, self.seed, self.batch, &mut |_| match stop() {
            true => Err(Error::Interrupted("validation".into())),
            false => Ok(()),
        });
        match estimate {
            Ok(estimate) => Ok(Some(estimate.values)),
            Err(Error::Interrupted(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
