//! The exact oracle: a Gaussian mixture that stands wherever a trained network does.
//!
//! ```
//! use std::sync::Arc;
//! use tweedie::model::Denoiser;
//! use tweedie::oracle::{GaussianMixture, Oracle};
//! use tweedie::query::{Query, Times};
//! use tweedie::schedule::{Schedule, Vp};
//! use tweedie::tch::Tensor;
//!
//! # fn main() -> tweedie::Result<()> {
//! let normal = GaussianMixture::new(&[1.0], &[[0.0]], &[1.0])?;
//! let oracle = Oracle::new(normal, Arc::new(Vp::default()));
//! let (x, times) = (Tensor::from_slice2(&[[1.5]]), Times::All(0.3));
//! let moments = oracle.moments(&Query::new(&x, &times));
//!
//! // of standard normal data under a variance-preserving process: ε̂ = σ_t x_t and G = α_t²
//! let (alpha, sigma) = (Vp::default().alpha(0.3), Vp::default().sigma(0.3));
//! assert!((moments.noise.double_value(&[0, 0]) - sigma * 1.5).abs() < 1e-12);
//! assert!((moments.cov.trace().double_value(&[0]) - alpha * alpha).abs() < 1e-12);
//! # Ok(())
//! # }
//! ```

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
