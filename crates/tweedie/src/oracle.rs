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
use crate::query::{Query, Times};
use crate::schedule::Schedule;
use crate::sym_matrix::SymMatrix;

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

/// A mixture for each class, and one for rows of none: a conditional model whose score and moments
/// are exact, for what is conditioned on classes or guided towards them.
pub struct ClassOracle {
    each: Vec<Oracle>,
    null: Oracle,
}

impl ClassOracle {
    /// The mixture of each class, from 0, and that of the null class, all of one dimension.
    pub fn new(
        each: Vec<GaussianMixture>,
        null: GaussianMixture,
        schedule: Arc<dyn Schedule>,
    ) -> ClassOracle {
        let each = each.into_iter().map(|law| Oracle::new(law, schedule.clone())).collect();
        ClassOracle { each, null: Oracle::new(null, schedule) }
    }

    /// `f` of the rows of each class, put together in the rows' order; rows of which nothing is
    /// given have the null class.
    fn of_each(&self, q: &Query, f: impl Fn(&Oracle, &Query) -> Tensor) -> Tensor {
        let Some(condition) = q.condition else { return f(&self.null, q) };
        let classes = condition.class_tensor(self.each.len() as i64, q.x.device());
        let (mut order, mut parts) = (Vec::new(), Vec::new());
        for (class, oracle) in self.each.iter().chain([&self.null]).enumerate() {
            let rows = classes.eq(class as i64).nonzero().squeeze_dim(-1);
            let numbers = Vec::<i64>::try_from(&rows).expect("numbers of rows");
            if numbers.is_empty() {
                continue;
            }
            let times = Times::each(numbers.iter().map(|&i| q.times.get(i as usize)).collect());
            parts.push(f(oracle, &Query::new(&q.x.index_select(0, &rows), &times)));
            order.extend(numbers);
        }
        let order = Tensor::from_slice(&order).argsort(0, false).to_device(q.x.device());
        Tensor::cat(&parts, 0).index_select(0, &order)
    }
}

impl Denoiser for ClassOracle {
    fn space(&self) -> &Space {
        self.null.space()
    }

    fn noise(&self, q: &Query) -> Tensor {
        self.of_each(q, |oracle, q| oracle.noise(q))
    }

    fn moments(&self, q: &Query) -> NoiseMoments {
        let full = self.of_each(q, |oracle, q| oracle.moments(q).cov.to_dense());
        NoiseMoments::new(self.noise(q), SymMatrix::Full(full))
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

    fn known_log_density(&self, q: &Query) -> Option<Tensor> {
        Some(self.mixture.log_density_at(q.x, self.space.schedule(), q.times))
    }
}
