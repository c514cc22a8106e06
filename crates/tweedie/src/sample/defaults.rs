//! The sampler where nothing else is requested, decided here once for every command.

use super::{Ancestral, LastStep};
use crate::Result;
use crate::covariance::{Covariance, CovarianceConfig};
use crate::grid::Spacing;
use crate::model::{Denoiser, Model};
use crate::schedule::Schedule;

/// The default sampler of a model: ancestral steps, whose last puts out the posterior mean where
/// rows are images, and a draw where they are rows of a table. `tweedie sample`, `evaluate`,
/// `report` and the sheets of a training all take it from here, so that they show the same samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Defaults {
    /// Of a step: what the model's head is for; without a head the model's own `G`.
    pub covariance: CovarianceConfig,
    /// From 0 (DDIM) to 1 (ancestral).
    pub eta: f64,
    /// What the last step puts out.
    pub last: LastStep,
    /// How the steps are laid in time.
    pub spacing: Spacing,
    /// Steps of the chain.
    pub steps: usize,
}

impl Defaults {
    /// Steps of the chain.
    pub const STEPS: usize = 20;

    /// For `model`, whose rows are `images` or those of a table.
    pub fn new(model: &Model, images: bool) -> Defaults {
        Defaults {
            covariance: model.head_covariance().unwrap_or_default(),
            eta: 1.0,
            last: if images { LastStep::Mean } else { LastStep::Noise },
            spacing: Spacing::default(),
            steps: Defaults::STEPS,
        }
    }

    /// Its step of `model`, by a covariance built of [`Defaults::covariance`].
    ///
    /// # Errors
    /// If `η` does not go with the covariance.
    pub fn step<'a>(
        &self,
        model: &'a dyn Denoiser,
        covariance: impl Covariance + 'a,
    ) -> Result<Ancestral<'a>> {
        Ancestral::new(model, covariance, self.eta, self.last)
    }

    /// The increasing times of its steps, from 0 to the horizon.
    pub fn grid(&self, schedule: &dyn Schedule) -> Vec<f64> {
        self.spacing.elbo_grid(schedule, self.steps)
    }
}
