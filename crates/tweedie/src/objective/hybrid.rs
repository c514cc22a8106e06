//! I-DDPM's hybrid loss: score and variances at once.

use tch::Tensor;

use super::pairs::Pairs;
use super::steps::{StepDistribution, StepSampler};
use super::variational_bound::{Terms, terms};
use super::{Objective, Trains};
use crate::model::{Denoiser, Space};
use crate::noise::{Draw, Noise};
use crate::query::Batch;
use crate::tensor::squared_norm;

/// `L_hybrid = L_simple + λ L_vlb` (Nichol & Dhariwal 2021, eq. 16): `L_simple = E‖ε − ε̂‖²` over
/// steps that are uniform on the chain, and the bound of
/// [`VariationalBound`](super::VariationalBound), in nats, its means detached. It trains the score
/// by the first and the variances, with what they share of the network, by the second. The authors'
/// runs of it (openai/improved-diffusion) draw steps uniformly. Their code takes means over
/// dimensions and the bound in bits, which is `λ/ln 2` here.
#[derive(Clone, Debug)]
pub struct Hybrid {
    /// Draws of (step, ε) per row.
    pub draws: usize,
    /// `λ`.
    pub lambda: f64,
    steps: StepSampler,
}

impl Hybrid {
    /// With `draws` draws of (step, ε) per row.
    pub fn new(draws: usize, lambda: f64, steps: StepDistribution) -> Hybrid {
        Hybrid { draws, lambda, steps: StepSampler::new(steps) }
    }
}

impl Objective for Hybrid {
    /// # Panics
    /// If the model's head does not interpolate.
    fn loss(&self, model: &dyn Denoiser, batch: &Batch, noise: &mut Noise) -> Tensor {
        let schedule = model.space().schedule();
        let drawn = self.steps.draw(schedule, self.draws, noise);
        let Terms { pairs, noise, term, weight } = terms(model, batch, &drawn, noise);
        let steps = schedule.steps() as f64;
        let loss = squared_norm(&(noise - &pairs.z)) + term * (self.lambda * steps);
        self.steps.see(&drawn, &loss);
        pairs.mean(&(loss * &weight / steps))
    }

    fn draws(&self) -> usize {
        self.draws
    }

    fn noise(&self, dim: usize) -> Vec<Draw> {
        Pairs::noise(self.draws, dim)
    }

    fn trains(&self) -> Trains {
        Trains::Both
    }

    fn observed(&self) -> Option<Vec<(u32, f64)>> {
        self.steps.observed()
    }

    fn learn(&self, observed: &[(u32, f64)]) {
        self.steps.learn(observed);
    }

    fn memory(&self) -> Option<Tensor> {
        self.steps.memory()
    }

    fn restore(&self, space: &Space, memory: Option<&Tensor>) -> Result<(), String> {
        self.steps.restore(space.schedule(), memory)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tch::{Device, Kind};

    use super::*;
    use crate::noise::Seed;
    use crate::objective::VariationalBound;
    use crate::oracle::{GaussianMixture, Oracle};
    use crate::posterior::{HeadOutput, NoiseMoments};
    use crate::query::Query;
    use crate::schedule::{ScheduleConfig, StepLaw};
    use crate::tensor::to_vec;

    /// `c ε*` for the noise and `v + shared c` for the head's output: two parameters, of which the
    /// head's uses the score's own.
    struct Two {
        oracle: Oracle,
        c: Tensor,
        v: Tensor,
        shared: f64,
    }

    impl Denoiser for Two {
        fn space(&self) -> &Space {
            self.oracle.space()
        }
        fn noise(&self, q: &Query) -> Tensor {
            self.oracle.noise(q) * &self.c
        }
        fn moments(&self, q: &Query) -> NoiseMoments {
            let v = (&self.v + &self.c * self.shared) * q.x.ones_like();
            let head = Some(HeadOutput::Interpolation(v));
            NoiseMoments { noise: self.noise(q), head, ..self.oracle.moments(q) }
        }
    }

    fn two(c: f64, v: f64, shared: f64) -> Two {
        let law = StepLaw::Linear;
        let chain = ScheduleConfig::Discrete { steps: 12, law, beta_start: 0.02, beta_end: 0.6 };
        let mixture =
            GaussianMixture::new(&[0.4, 0.6], &[[-1.0, 0.5], [1.0, 0.0]], &[0.3, 0.6]).unwrap();
        let number =
            |x: f64| Tensor::full([], x, (Kind::Double, Device::Cpu)).set_requires_grad(true);
        let oracle = Oracle::new(mixture, Arc::clone(&chain.build().unwrap()));
        Two { oracle, c: number(c), v: number(v), shared }
    }

    /// The losses of 200 rows on the same draws of steps and noise.
    fn of(objective: &dyn Objective, model: &Two) -> Tensor {
        let x0 = model.oracle.mixture.sample(200, Seed(1));
        objective.loss(model, &Batch::of(&x0), &mut Noise::new(Seed(2), 0..200))
    }

    fn gradients(objective: &dyn Objective, model: &Two) -> [f64; 2] {
        of(objective, model).mean(Kind::Double).backward();
        [&model.c, &model.v].map(|x| match x.grad() {
            gradient if gradient.defined() => gradient.double_value(&[]),
            _ => 0.0,
        })
    }

    /// Row by row, on the same draws: `L_hybrid(λ) = L_simple + λ L_vlb` under every distribution
    /// of the steps, `L_simple` being `λ = 0`.
    #[test]
    fn is_the_sum_of_both() {
        for steps in [StepDistribution::Uniform, StepDistribution::Analytic] {
            let model = two(0.9, 0.3, 0.0);
            let values = |objective: &dyn Objective| to_vec(&of(objective, &model));
            let simple = values(&Hybrid::new(3, 0.0, steps));
            let bound = values(&VariationalBound::new(3, steps));
            let hybrid = values(&Hybrid::new(3, 0.01, steps));
            for ((simple, bound), hybrid) in simple.iter().zip(&bound).zip(&hybrid) {
                let expected = simple + 0.01 * bound;
                assert!((hybrid - expected).abs() < 1e-12 * (1.0 + bound.abs()), "{steps}");
            }
        }
    }

    /// The score's parameter has the gradient of `L_simple` alone, the means of the bound being
    /// detached, and what it gives the head besides that of the bound; the head's has `λ` times the
    /// bound's.
    #[test]
    fn the_bound_trains_the_variances_alone() {
        let steps = StepDistribution::Uniform;
        let lambda = 0.01;
        let [of_simple, _] = gradients(&Hybrid::new(3, 0.0, steps), &two(0.9, 0.3, 0.0));
        let [none, of_bound] = gradients(&VariationalBound::new(3, steps), &two(0.9, 0.3, 0.0));
        assert!(none == 0.0 && of_bound.abs() > 0.1, "{none} {of_bound}");
        for shared in [0.0, 0.5] {
            // the same output of the head
            let model = two(0.9, 0.3 - 0.9 * shared, shared);
            let [c, v] = gradients(&Hybrid::new(3, lambda, steps), &model);
            let expected = of_simple + lambda * shared * of_bound;
            assert!((c - expected).abs() < 1e-9, "{shared}: {c} {expected}");
            assert!((v - lambda * of_bound).abs() < 1e-9, "{shared}: {v} {of_bound}");
        }
    }
}
