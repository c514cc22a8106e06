//! The variational bound of the discrete-time chain as a loss: what trains I-DDPM's variances.

use tch::Tensor;

use super::pairs::Pairs;
use super::{Objective, Trains};
use crate::covariance::log_bounds;
use crate::gaussian::{Gaussian, LN_2PI};
use crate::model::Denoiser;
use crate::noise::{Draw, Noise};
use crate::posterior::{Bridge, ForwardBridge, HeadOutput, NoiseMoments, bridge_mean};
use crate::query::Batch;
use crate::schedule::Schedule;
use crate::sym_matrix::SymMatrix;

/// `L_vlb = −E[ln p(x_0|x_1)] + Σ_i KL(q(x_{i−1}|x_i, x_0) ‖ p(x_{i−1}|x_i))` over the `N` steps of
/// the schedule's chain, per row, in nats, with the means of `p` detached and its variances
/// [`Interpolated`](crate::covariance::Interpolated) (Nichol & Dhariwal 2021, eqs. 4–7 and 15). The
/// decoder is the density of the first step. Steps are drawn with probabilities in proportion to
/// `ln(β_i/β̃_i) + 1/N` and weighted by their inverses, so that the mean is the sum (ours:
/// `ln(β_i/β̃_i)` is what a term's gradient in `v` is in proportion to, known beforehand, where
/// I-DDPM resamples by the last losses of each step); a row's `draws` are spread evenly over the
/// quantiles. The score is frozen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VariationalBound {
    /// Draws of (step, ε) per row.
    pub draws: usize,
}

/// The steps of a chain, and the distribution that they are drawn by.
struct Steps {
    /// `0 = t_0 < … < t_N`.
    times: Vec<f64>,
    /// Its mass up to each step, from 0.
    mass: Vec<f64>,
}

impl Steps {
    fn new(schedule: &dyn Schedule) -> Steps {
        let n = schedule.steps();
        let times: Vec<f64> = (0..=n).map(|i| i as f64 * schedule.horizon() / n as f64).collect();
        let mut mass = vec![0.0];
        for pair in times.windows(2) {
            let (small, large) = log_bounds(schedule, pair[0], pair[1]);
            mass.push(mass[mass.len() - 1] + large - small + 1.0 / n as f64);
        }
        Steps { times, mass }
    }

    /// The step at quantile `u`: `(s, t)`, and one over its probability.
    fn at(&self, u: f64) -> (f64, f64, f64) {
        let n = self.times.len() - 1;
        let total = self.mass[n];
        let i = self.mass.partition_point(|mass| *mass <= u * total).clamp(1, n);
        (self.times[i - 1], self.times[i], total / (self.mass[i] - self.mass[i - 1]))
    }
}

impl Objective for VariationalBound {
    /// # Panics
    /// If the model's head does not interpolate.
    fn loss(&self, model: &dyn Denoiser, batch: &Batch, noise: &mut Noise) -> Tensor {
        let (schedule, dim) = (model.space().schedule(), batch.x.size()[1] as f64);
        let steps = Steps::new(schedule);
        let uniforms = noise.uniform(self.draws).into_iter().enumerate();
        let drawn: Vec<(f64, f64, f64)> = uniforms
            .map(|(k, u)| steps.at(((k % self.draws) as f64 + u) / self.draws as f64))
            .collect();
        let columns = drawn.iter().map(|&(s, t, weight)| {
            let Bridge { inv_m, c, .. } = Bridge::new(schedule, s, t, 1.0);
            let (small, large) = log_bounds(schedule, s, t);
            let ForwardBridge { of_xt, of_x0, variance } = ForwardBridge::new(schedule, s, t);
            // a KL is a cross-entropy less an entropy; the decoder, whose x_0 is given, is the
            // cross-entropy alone
            let entropy = match variance {
                0.0 => 0.0,
                variance => 0.5 * dim * (1.0 + LN_2PI + variance.ln()),
            };
            let (middle, half) = (0.5 * (small + large), 0.5 * (large - small));
            [inv_m, c, middle, half, of_xt, of_x0, variance, entropy, weight]
        });
        let t = drawn.iter().map(|&(_, t, _)| t).collect();
        let (pairs, [inv_m, c, middle, half, of_xt, of_x0, variance, entropy, weight]) =
            Pairs::draw(schedule, batch, t, columns, noise);
        let Pairs { x0, x, .. } = &pairs;

        let NoiseMoments { noise, head: Some(HeadOutput::Interpolation(v)), .. } =
            model.moments(&pairs.query())
        else {
            panic!("a head that interpolates between variances");
        };
        let cov = SymMatrix::Diagonal((v * &half + &middle).exp());
        let reverse = Gaussian::new(bridge_mean(x, &noise.detach(), &inv_m, &c), cov);
        let mean = x * &of_xt + x0 * &of_x0;
        let term = reverse.cov.trace_inv() * &variance * 0.5 - reverse.log_prob(&mean) - &entropy;
        pairs.mean(&(term * &weight))
    }

    fn draws(&self) -> usize {
        self.draws
    }

    fn noise(&self, dim: usize) -> Vec<Draw> {
        Pairs::noise(self.draws, dim)
    }

    fn trains(&self) -> Trains {
        Trains::Head
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tch::{Device, Kind};

    use super::*;
    use crate::covariance::tests_of_interpolation::Constant;
    use crate::covariance::{Interpolated, Reverse};
    use crate::likelihood::{Elbo, LogLikelihood, mean_and_error};
    use crate::noise::Seed;
    use crate::schedule::{ScheduleConfig, StepLaw};
    use crate::tensor::to_vec;

    const ROWS: u64 = 20_000;

    fn chain(steps: usize) -> Arc<dyn Schedule> {
        ScheduleConfig::Discrete { steps, law: StepLaw::Linear, beta_start: 0.02, beta_end: 0.6 }
            .build()
            .unwrap()
    }

    /// The loss of the oracle at `v` and the chain's ELBO on the same rows are minus each other but
    /// for the prior's term, within four standard errors of their difference.
    #[test]
    fn is_the_bound_that_the_elbo_takes() {
        for (draws, v) in [(1, 0.0), (4, -0.7)] {
            let model = Constant::new(chain(12), v);
            let x0 = model.oracle.mixture.sample(ROWS as usize, Seed(1));
            let loss = VariationalBound { draws }.loss(
                &model,
                &Batch::of(&x0),
                &mut Noise::new(Seed(2), 0..ROWS),
            );
            let grid: Vec<f64> = (0..=12).map(|i| i as f64 / 12.0).collect();
            let reverse = Reverse::new(&model, Interpolated, 1.0).unwrap();
            let elbo =
                Elbo::new(reverse, grid, 1).log_likelihood(&Batch::of(&x0), Seed(3), 0).unwrap();
            let ratio = model.oracle.space().schedule().alpha(1.0).powi(2)
                / model.oracle.space().schedule().sigma2(1.0);
            let prior = to_vec(&crate::tensor::squared_norm(&x0));
            let gaps: Vec<f64> = (to_vec(&loss).iter().zip(&elbo.values).zip(prior))
                .map(|((loss, elbo), square)| loss + elbo + 0.5 * ratio * square)
                .collect();
            let (mean, error) = mean_and_error(&gaps);
            println!("{mean} ± {error}");
            assert!(mean.abs() < 4.0 * error && error < 0.2, "{draws} draws: {mean} ± {error}");
        }
    }

    /// The probabilities add up to 1 and every quantile falls on a step of the chain, the first and
    /// the last included.
    #[test]
    fn every_step_is_drawn_with_its_probability() {
        let steps = Steps::new(&*chain(7));
        let n = 70_000;
        let mut found = vec![0.0; 8];
        for k in 0..n {
            let (s, t, weight) = steps.at((k as f64 + 0.5) / n as f64);
            assert!((t - s - 1.0 / 7.0).abs() < 1e-12);
            found[(t * 7.0).round() as usize] += weight / n as f64;
        }
        assert!(found[1..].iter().all(|sum| (sum - 1.0).abs() < 1e-3), "{found:?}");
        assert_eq!(steps.at(0.0).0, 0.0);
        assert_eq!(steps.at(1.0).1, 1.0);
    }

    /// The gradient reaches `v` and is that of the value, by central differences on the same draws;
    /// the mean, detached, has none.
    #[test]
    fn the_gradient_is_that_of_the_variance() {
        let model = Constant::new(chain(12), 0.3);
        let x0 = model.oracle.mixture.sample(50, Seed(1));
        let loss = |model: &Constant| {
            VariationalBound { draws: 3 }
                .loss(model, &Batch::of(&x0), &mut Noise::new(Seed(2), 0..50))
                .mean(Kind::Double)
        };
        let at = |v: f64| loss(&Constant::new(chain(12), v)).double_value(&[]);
        let difference = (at(0.3 + 1e-5) - at(0.3 - 1e-5)) / 2e-5;
        let v = Tensor::full([], 0.3, (Kind::Double, Device::Cpu)).set_requires_grad(true);
        let traced = Constant { v: v.shallow_clone(), ..model };
        loss(&traced).backward();
        let gradient = v.grad().double_value(&[]);
        assert!(
            (gradient - difference).abs() < 1e-6 * (1.0 + gradient.abs()),
            "{gradient} {difference}"
        );
    }
}
