//! DPM-Solver++(2M): second-order deterministic steps of the probability flow (Lu et al. 2022).

use std::cell::RefCell;
use tch::Tensor;

use super::{Chain, Clipped, SamplerMethod, Sampling, Step};
use crate::Result;
use crate::model::Denoiser;
use crate::noise::Noise;
use crate::query::Query;

/// With `λ = ln(α/σ)`, `h = λ_s − λ_t` and `r` the last step's `h` over this one's:
/// `x_s = (σ_s/σ_t) x_t + α_s (1 − e^{−h}) [x̂_0 + (x̂_0 − x̂_0')/(2r)]`, `x̂_0'` that of the step
/// before; first order in the first step and in the last, whose `h` is infinite: it puts out
/// `x̂_0`. Global order 2 in `h`, so grids even in the log signal-to-noise ratio suit it. Equals
/// diffusers' `DPMSolverMultistepScheduler` at its defaults (`dpmsolver++`, `midpoint`;
/// tests/schedulers.rs).
pub struct DpmSolver<'a> {
    model: &'a dyn Denoiser,
    /// `λ` and `x̂_0` of the step before, where there was one in this chain.
    before: RefCell<Option<(f64, Tensor)>>,
}

impl<'a> DpmSolver<'a> {
    /// Sampling of `model`. One of these serves one chain at a time, down its grid.
    pub fn new(model: &'a dyn Denoiser) -> DpmSolver<'a> {
        DpmSolver { model, before: RefCell::new(None) }
    }
}

impl Step for DpmSolver<'_> {
    fn model(&self) -> &dyn Denoiser {
        self.model
    }

    fn step(&self, q: &Query, s: f64, _noise: &mut Noise) -> Tensor {
        let schedule = self.model.space().schedule();
        let (x, t) = (q.x, q.times.one());
        let (alpha, sigma) = (schedule.alpha(t), schedule.sigma(t));
        let clean = (x - self.model.noise(q) * sigma) / alpha;
        let lambda = 0.5 * schedule.log_snr(t);
        let first = t >= schedule.horizon();
        let before = self.before.replace((s > 0.0).then(|| (lambda, clean.shallow_clone())));
        if s <= 0.0 {
            return clean;
        }
        let h = 0.5 * schedule.log_snr(s) - lambda;
        let along = match before.filter(|_| !first) {
            Some((last, earlier)) => {
                let r = (lambda - last) / h;
                &clean + (&clean - earlier) * (0.5 / r)
            }
            None => clean,
        };
        x * (schedule.sigma(s) / sigma) - along * (schedule.alpha(s) * (-h).exp_m1())
    }
}

/// This sampler in the list of samplers.
pub(super) struct Method;

impl SamplerMethod for Method {
    fn name(&self) -> &'static str {
        "dpm-solver"
    }

    fn help(&self) -> &'static str {
        "DPM-Solver++(2M): the probability-flow ODE in K steps of one evaluation"
    }

    fn draw(&self, sampling: &Sampling, chain: &Chain) -> Result<(Tensor, Clipped)> {
        chain.of(&DpmSolver::new(chain.model), sampling.seed)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::grid::Spacing;
    use crate::noise::Seed;
    use crate::oracle::{GaussianMixture, Oracle};
    use crate::sample::{FlowSampler, run_chain};
    use crate::schedule::{Schedule, SubVp, Ve, Vp};

    /// Against the flow at a tight tolerance, from the same `x_T`: twice the steps, a quarter of
    /// the error. The chain ends at ε, where the error of the last step is left out.
    #[test]
    fn is_of_second_order() {
        let schedules: [Arc<dyn Schedule>; 3] =
            [Arc::new(Vp::default()), Arc::new(SubVp::default()), Arc::new(Ve::default())];
        for schedule in schedules {
            let mixture =
                GaussianMixture::new(&[0.4, 0.6], &[[-1.0, 0.5], [1.0, 0.0]], &[0.4, 0.6]).unwrap();
            let oracle = Oracle::new(mixture, schedule.clone());
            let exact = FlowSampler::new(&oracle)
                .tolerance(1e-9, 1e-9)
                .unwrap()
                .sample(Seed(1), 0..200, None)
                .unwrap();
            let error = |steps: usize| {
                let grid = [vec![0.0], Spacing::LogSnr.grid(&*schedule, steps, schedule.epsilon())]
                    .concat();
                let x = run_chain(&DpmSolver::new(&oracle), &grid, Seed(1), 0..200, None).unwrap();
                (x - &exact).square().mean(tch::Kind::Double).sqrt().double_value(&[])
            };
            let errors = [40, 80, 160].map(error);
            println!("{schedule:?}: {errors:?}");
            for pair in errors.windows(2) {
                let order = (pair[0] / pair[1]).log2();
                assert!((1.6..2.6).contains(&order), "{schedule:?}: order {order}, {errors:?}");
            }
        }
    }

    /// One of these for chain after chain gives what a new one for each gives.
    #[test]
    fn chains_do_not_see_each_other() {
        let mixture = GaussianMixture::new(&[0.4, 0.6], &[[-1.0], [1.0]], &[0.4, 0.6]).unwrap();
        let oracle = Oracle::new(mixture, Arc::new(Vp::default()));
        let grid = Spacing::default().elbo_grid(&Vp::default(), 8);
        let solver = DpmSolver::new(&oracle);
        let chain =
            |solver: &DpmSolver, rows| run_chain(solver, &grid, Seed(1), rows, None).unwrap();
        let _ = chain(&solver, 0..7);
        let (again, alone) = (chain(&solver, 7..9), chain(&DpmSolver::new(&oracle), 7..9));
        assert_eq!((again - alone).abs().max().double_value(&[]), 0.0);
    }
}
