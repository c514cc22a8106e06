//! The exact oracle: a Gaussian mixture that stands wherever a trained network does.

use std::sync::Arc;

use tch::{Kind, Tensor};

pub use crate::mixture::{GaussianMixture, MixtureParameters, StudentTMixture, named};
use crate::model::{Denoiser, Space};
use crate::posterior::NoiseMoments;
use crate::query::Query;
use crate::schedule::Schedule;

/// A mixture under a forward process: the exact model, in f64.
#[derive(Debug)]
pub struct Oracle {
    /// The distribution of the data.
    pub mixture: GaussianMixture,
    space: Space,
}

impl Oracle {
    /// The exact model of `mixture` under `schedule`.
    pub fn new(mixture: GaussianMixture, schedule: Arc<dyn Schedule>) -> Oracle {
        let device = mixture.device();
        let space = Space { dim: mixture.dim(), schedule, kind: Kind::Double, device };
        Oracle { mixture, space }
    }
}

impl Denoiser for Oracle {
    fn space(&self) -> &Space {
        &self.space
    }

    fn noise(&self, q: &Query) -> Tensor {
        self.mixture.noise(q.x, self.space.schedule(), q.times)
    }

    fn moments(&self, q: &Query) -> NoiseMoments {
        self.mixture.moments(q.x, self.space.schedule(), q.times)
    }
}
