//! An objective for a covariance head on a network of its own: what experiments compare heads by,
//! all on one score, exact or trained.

use tch::Tensor;

use tweedie::model::{Denoiser, Headed};
use tweedie::noise::{Draw, Noise};
use tweedie::objective::{Objective, Trains};
use tweedie::query::Batch;

/// An objective for a head, trained on a network that is the head's alone, under a frozen score
/// from elsewhere.
pub(super) struct OnScore<'a> {
    pub objective: Box<dyn Objective>,
    pub score: &'a dyn Denoiser,
}

impl Objective for OnScore<'_> {
    fn loss(&self, model: &dyn Denoiser, batch: &Batch, noise: &mut Noise) -> Tensor {
        let headed = Headed { score: self.score, head: Some(model) };
        self.objective.loss(&headed, batch, noise)
    }

    fn draws(&self) -> usize {
        self.objective.draws()
    }

    fn noise(&self, dim: usize) -> Vec<Draw> {
        self.objective.noise(dim)
    }

    /// All of the network is the head's trunk.
    fn trains(&self) -> Trains {
        Trains::Both
    }
}
