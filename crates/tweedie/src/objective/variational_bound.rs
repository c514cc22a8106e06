//! The variational bound of the discrete-time chain as a loss: what trains I-DDPM's variances.

use tch::Tensor;

use super::Objective;
use super::pairs::Pairs;
use crate::covariance::{Covariance, Reverse, log_bounds};
use crate::gaussian::{Gaussian, LN_2PI};
use crate::model::Denoiser;
use crate::noise::Noise;
use crate::posterior::ForwardBridge;
use crate::schedule::Schedule;
use crate::tensor::{column, per_row};

/// `L_vlb = −E[ln p(x_0|x_1)] + Σ_i KL(q(x_{i−1}|x_i, x_0) ‖ p(x_{i−1}|x_i))` over the `N` steps of
/// the schedule's chain, per row, in nats, with the means of `p` detached and its variances
/// [`Covariance::Interpolated`] (Nichol & Dhariwal 2021, eqs. 4–7 and 15). The decoder is the
/// density of the first step. Steps are drawn with probabilities in proportion to
/// `ln(β_i/β̃_i) + 1/N` and weighted by their inverses, so that the mean is the sum (ours:
/// `ln(β_i/β̃_i)` is what a term's gradient in `v` is in proportion to, known beforehand, where
/// I-DDPM resamples by the last losses of each step); a row's `draws` are spread evenly over the
/// quantiles. The score is frozen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VariationalBound {
    /// Draws of (step, ε) per row.
    pub draws: usize,
}

/// The steps of a chain, and the law they are drawn by.
struct Steps {
    /// `0 = t_0 < … < t_N`.
    times: Vec<f64>,
    /// The law's mass up to each step, from 0.
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
    fn loss(&self, model: &dyn Denoiser, x0: &Tensor, noise: &mut Noise) -> Tensor {
        let schedule = &**model.schedule();
        let steps = Steps::new(schedule);
        let drawn: Vec<(f64, f64, f64)> = noise
            .uniform(self.draws)
            .into_iter()
            .enumerate()
            .map(|(k, u)| steps.at(((k % self.draws) as f64 + u) / self.draws as f64))
            .collect();
        let (s, t): (Vec<f64>, Vec<f64>) = drawn.iter().map(|&(s, t, _)| (s, t)).unzip();
        let pairs = Pairs::draw(schedule, x0, &t, noise);
        let Pairs { x0, x, .. } = &pairs;

        let reverse =
            Reverse::new(model, Covariance::Interpolated, 1.0).expect("a head that interpolates");
        let Gaussian { mean, cov } = reverse.at(x, &s, &t, noise);
        let law = Gaussian::new(mean.detach(), cov);
        let forward: Vec<ForwardBridge> =
            s.iter().zip(&t).map(|(&s, &t)| ForwardBridge::new(schedule, s, t)).collect();
        let mean = x * column(forward.iter().map(|f| f.of_xt), x0)
            + x0 * column(forward.iter().map(|f| f.of_x0), x0);
        let variance = per_row(forward.iter().map(|f| f.variance), x0);
        // a KL is a cross-entropy less an entropy; the decoder, whose x_0 is given, is the
        // cross-entropy alone
        let entropy = per_row(
            forward.iter().map(|f| match f.variance {
                0.0 => 0.0,
                variance => 0.5 * model.dim() as f64 * (1.0 + LN_2PI + variance.ln()),
            }),
            x0,
        );
        let term = law.cov.trace_inv() * variance * 0.5 - law.log_prob(&mean) - entropy;
        pairs.mean(&(term * per_row(drawn.iter().map(|(_, _, weight)| *weight), x0)))
    }

    fn draws(&self) -> usize {
        self.draws
    }

    fn trains_head(&self) -> bool {
        true
    }

    fn trains_score(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tch::{Device, Kind};

    use super::*;
    use crate::covariance::tests_of_interpolation::Constant;
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
            let loss =
                VariationalBound { draws }.loss(&model, &x0, &mut Noise::new(Seed(2), 0..ROWS));
            let grid: Vec<f64> = (0..=12).map(|i| i as f64 / 12.0).collect();
            let reverse = Reverse::new(&model, Covariance::Interpolated, 1.0).unwrap();
            let elbo = Elbo::new(reverse, grid, 1).log_likelihood(&x0, Seed(3), 0).unwrap();
            let ratio =
                model.oracle.schedule().alpha(1.0).powi(2) / model.oracle.schedule().sigma2(1.0);
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
                .loss(model, &x0, &mut Noise::new(Seed(2), 0..50))
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
