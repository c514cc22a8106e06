//! Deterministic sampling by the probability-flow ODE.

use std::ops::Range;

use tch::Tensor;

use super::check_finite;
use crate::Result;
use crate::likelihood::ProbabilityFlow;
use crate::model::Denoiser;
use crate::noise::{Noise, Seed};

/// `x_T ~ N(0, σ_T² I)` carried to `x_0` by the flow that [`ProbabilityFlow`] scores: the law whose log-density that
/// gives. Adaptive steps, 5th order; the only noise is `x_T`, so samples at another tolerance are the same points.
pub struct FlowSampler<'a> {
    flow: ProbabilityFlow<'a>,
}

impl<'a> FlowSampler<'a> {
    /// Sampling of `model` at `rtol = atol = 1e-5`.
    pub fn new(model: &'a dyn Denoiser) -> FlowSampler<'a> {
        FlowSampler { flow: ProbabilityFlow::new(model) }
    }

    /// With these tolerances of a step.
    ///
    /// # Errors
    /// As [`ProbabilityFlow::tolerance`].
    pub fn tolerance(self, rtol: f64, atol: f64) -> Result<Self> {
        Ok(FlowSampler { flow: self.flow.tolerance(rtol, atol)? })
    }

    /// With at most so many evaluations of the model per row.
    pub fn max_evaluations(self, limit: usize) -> Self {
        FlowSampler { flow: self.flow.max_evaluations(limit) }
    }

    /// The rows with these numbers, `[rows, d]`, in the model's kind. Row `i` depends on `seed` and `i` alone, and has
    /// the `x_T` that it has in [`super::run_chain`].
    ///
    /// # Errors
    /// If a row is not solved or not finite.
    pub fn sample(&self, seed: Seed, rows: Range<u64>) -> Result<Tensor> {
        let model = self.flow.model();
        let latent =
            Noise::new(seed, rows.clone()).normal(model.dim() as usize, model.kind(), model.device());
        check_finite(self.flow.decode(&latent)?.to_kind(model.kind()), rows)
    }
}
