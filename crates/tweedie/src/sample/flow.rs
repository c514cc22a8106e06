//! Deterministic sampling by the probability-flow ODE.

use std::ops::Range;

use tch::Tensor;

use super::{Chain, Clipped, SamplerMethod, Sampling, check_finite};
use crate::Result;
use crate::likelihood::ProbabilityFlow;
use crate::model::Denoiser;
use crate::noise::{Noise, Seed};
use crate::query::Condition;

/// `x_T ~ N(0, σ_T² I)` carried to `x_0` by the flow that [`ProbabilityFlow`] scores: the
/// distribution whose log-density that gives. Adaptive steps, 5th order; the only noise is `x_T`,
/// so samples at another tolerance are the same points.
pub struct FlowSampler<'a> {
    flow: ProbabilityFlow<'a>,
}

impl<'a> FlowSampler<'a> {
    /// Sampling of `model` at `rtol = atol = 1e-5`.
    pub fn new(model: &'a dyn Denoiser) -> FlowSampler<'a> {
        FlowSampler::of(ProbabilityFlow::new(model))
    }

    /// Sampling by this flow.
    pub fn of(flow: ProbabilityFlow<'a>) -> FlowSampler<'a> {
        FlowSampler { flow }
    }

    /// With these tolerances of a step.
    ///
    /// # Errors
    /// As [`ProbabilityFlow::tolerance`].
    pub fn tolerance(self, rtol: f64, atol: f64) -> Result<Self> {
        Ok(FlowSampler { flow: self.flow.tolerance(rtol, atol)? })
    }

    /// The same with at most `limit` evaluations of the model per row.
    pub fn max_evaluations(self, limit: usize) -> Self {
        FlowSampler { flow: self.flow.max_evaluations(limit) }
    }

    /// The rows with these numbers, `[rows, d]`, in the model's kind. Row `i` depends on `seed` and
    /// `i` alone, and has the `x_T` that it has in [`super::run_chain`].
    ///
    /// # Errors
    /// If a row is not solved or not finite.
    pub fn sample(
        &self,
        seed: Seed,
        rows: Range<u64>,
        condition: Option<&Condition>,
    ) -> Result<Tensor> {
        let space = self.flow.model().space();
        let mut noise = Noise::new(seed, rows.clone());
        let latent = noise.normal(space.dim as usize, space.kind, space.device);
        check_finite(self.flow.decode(&latent, condition)?.to_kind(space.kind), rows)
    }
}

/// This sampler in the list of samplers.
pub(super) struct Method;

impl SamplerMethod for Method {
    fn name(&self) -> &'static str {
        "flow"
    }

    fn help(&self) -> &'static str {
        "The probability-flow ODE, Dormand–Prince with error control; takes the steps that it needs"
    }

    fn options(&self) -> &'static [&'static str] {
        &["solver.rtol", "solver.atol", "solver.max_evaluations"]
    }

    fn has_steps(&self) -> bool {
        false
    }

    fn draw(&self, sampling: &Sampling, chain: &Chain) -> Result<(Tensor, Clipped)> {
        let flow = FlowSampler::of(sampling.solver.flow(chain.model, 1.0)?);
        let samples = flow.sample(sampling.seed, chain.rows.clone(), chain.condition)?;
        Ok((samples, Clipped::default()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tch::Kind;

    use super::*;
    use crate::metric::Mmd;
    use crate::oracle::{GaussianMixture, Oracle};
    use crate::schedule::Vp;

    fn two() -> Oracle {
        let mixture =
            GaussianMixture::new(&[0.5, 0.5], &[[-1.0, 0.0], [1.0, 0.5]], &[0.3, 0.5]).unwrap();
        Oracle::new(mixture, Arc::new(Vp::cosine(0.008)))
    }

    /// The samples follow the distribution: unbiased MMD² within four standard errors of 0 over
    /// replicates.
    #[test]
    fn samples_have_the_law() {
        let (oracle, n) = (two(), 200);
        let x = FlowSampler::new(&oracle).sample(Seed(1), 0..20 * n, None).unwrap();
        let values: Vec<f64> = x
            .split(n as i64, 0)
            .iter()
            .map(|x| Mmd::default().against_mixture(x, &oracle.mixture))
            .collect();
        let (mean, error) = crate::likelihood::mean_and_error(&values);
        println!("MMD² {mean:.2e} ± {error:.2e}");
        assert!(mean.abs() < 4.0 * error, "{mean} ± {error}");
    }

    /// In one dimension the flow is the monotone map of quantiles: `Φ(latent)` is the
    /// distribution's distribution function, here of N(1, 0.5²) in closed form.
    #[test]
    fn a_gaussian_is_shifted_and_scaled() {
        let mixture = GaussianMixture::new(&[1.0], &[[1.0]], &[0.5]).unwrap();
        let oracle = Oracle::new(mixture, Arc::new(Vp::cosine(0.008)));
        let x = FlowSampler::new(&oracle)
            .tolerance(1e-9, 1e-9)
            .unwrap()
            .sample(Seed(2), 0..30, None)
            .unwrap();
        let latent = Noise::new(Seed(2), 0..30).normal(1, Kind::Double, tch::Device::Cpu);
        // α_T = 1.7e-4: the prior's mean is off by that, and so is the sample's by half of it
        let gap = (&x - (latent * 0.5 + 1.0)).abs().max().double_value(&[]);
        println!("gap {gap:.1e}");
        assert!(gap < 2e-4, "{gap}");
    }

    #[test]
    fn rows_do_not_depend_on_their_batch() {
        let oracle = two();
        let sampler = FlowSampler::new(&oracle);
        let whole = sampler.sample(Seed(3), 0..40, None).unwrap();
        let part = sampler.sample(Seed(3), 17..22, None).unwrap();
        let gap = (whole.narrow(0, 17, 5) - part).abs().max().double_value(&[]);
        assert!(gap < 1e-12, "{gap}");
    }

    #[test]
    fn unsolved_rows_are_an_error() {
        let oracle = two();
        let error = FlowSampler::new(&oracle)
            .max_evaluations(20)
            .sample(Seed(4), 0..3, None)
            .unwrap_err()
            .to_string();
        assert!(error.contains("3 of 3 rows") && error.contains("max_evaluations"), "{error}");
    }
}
