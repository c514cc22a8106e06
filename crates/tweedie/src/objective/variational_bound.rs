//! The variational bound of the discrete-time chain as a loss: what trains I-DDPM's variances.

use tch::Tensor;

use super::pairs::Pairs;
use super::steps::{Drawn, StepDistribution, StepSampler};
use super::{Objective, Trains};
use crate::covariance::log_bounds;
use crate::gaussian::{Gaussian, LN_2PI};
use crate::model::{Denoiser, Space};
use crate::noise::{Draw, Noise};
use crate::posterior::{Bridge, ForwardBridge, HeadOutput, NoiseMoments, bridge_mean};
use crate::query::{Batch, Coefficient};
use crate::sym_matrix::SymMatrix;

/// `L_vlb = −E[ln p(x_0|x_1)] + Σ_i KL(q(x_{i−1}|x_i, x_0) ‖ p(x_{i−1}|x_i))` over the `N` steps of
/// the schedule's chain, per row, in nats, with the means of `p` detached and its variances
/// [`Interpolated`](crate::covariance::Interpolated) (Nichol & Dhariwal 2021, eqs. 4–7 and 15). The
/// decoder is the density of the first step. Steps are drawn by a [`StepDistribution`] and weighted
/// by one over their probability, so that the mean is the sum; a row's `draws` are spread evenly
/// over the quantiles. The score is frozen.
#[derive(Clone, Debug)]
pub struct VariationalBound {
    /// Draws of (step, ε) per row.
    pub draws: usize,
    steps: StepSampler,
}

impl VariationalBound {
    /// With `draws` draws of (step, ε) per row.
    pub fn new(draws: usize, steps: StepDistribution) -> VariationalBound {
        VariationalBound { draws, steps: StepSampler::new(steps) }
    }
}

/// Terms of the bound at pairs (step, ε).
pub(super) struct Terms {
    pub pairs: Pairs,
    /// `ε̂`, `[b n, d]`.
    pub noise: Tensor,
    /// The step's term, `[b n]`, in nats: differentiable in the variances alone.
    pub term: Tensor,
    /// One over the step's probability.
    pub weight: Coefficient,
}

/// The bound's terms at the steps `drawn` for the rows of `batch`.
///
/// # Panics
/// If the model's head does not interpolate.
pub(super) fn terms(
    model: &dyn Denoiser,
    batch: &Batch,
    drawn: &[Drawn],
    noise: &mut Noise,
) -> Terms {
    let (schedule, dim) = (model.space().schedule(), batch.x.size()[1] as f64);
    let columns = drawn.iter().map(|&Drawn { s, t, weight, .. }| {
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
    let t = drawn.iter().map(|drawn| drawn.t).collect();
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
    Terms { pairs, noise, term, weight }
}

impl Objective for VariationalBound {
    /// # Panics
    /// If the model's head does not interpolate.
    fn loss(&self, model: &dyn Denoiser, batch: &Batch, noise: &mut Noise) -> Tensor {
        let drawn = self.steps.draw(model.space().schedule(), self.draws, noise);
        let Terms { pairs, term, weight, .. } = terms(model, batch, &drawn, noise);
        self.steps.see(&drawn, &term);
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
    use crate::covariance::tests_of_interpolation::Constant;
    use crate::covariance::{Interpolated, Reverse};
    use crate::likelihood::{Elbo, LogLikelihood, mean_and_error};
    use crate::noise::Seed;
    use crate::schedule::{Schedule, ScheduleConfig, StepLaw};
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
            let loss = VariationalBound::new(draws, StepDistribution::Analytic).loss(
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

    /// Each row at each of the 12 steps once: with as many draws as steps each uniform quantile is
    /// one step's, and the mean of the weighted terms is their whole sum.
    fn whole_sum(model: &Constant, x0: &Tensor) -> Vec<f64> {
        let loss = VariationalBound::new(12, StepDistribution::Uniform);
        to_vec(&loss.loss(model, &Batch::of(x0), &mut Noise::new(Seed(9), 0..ROWS)))
    }

    /// One draw per row by any distribution has the whole sum as its mean, within four standard
    /// errors of both; by the losses of the steps, once every step has ten, with a smaller variance
    /// than uniform draws.
    #[test]
    fn resampled_steps_are_unbiased_and_quieter() {
        let model = Constant::new(chain(12), 0.4);
        let x0 = model.oracle.mixture.sample(ROWS as usize, Seed(1));
        let (whole, whole_error) = mean_and_error(&whole_sum(&model, &x0));
        let of = |steps: StepDistribution| {
            let bound = VariationalBound::new(1, steps);
            let loss = |seed, rows: u64| {
                let (x0, mut noise) = (x0.narrow(0, 0, rows as i64), Noise::new(seed, 0..rows));
                let loss = to_vec(&bound.loss(&model, &Batch::of(&x0), &mut noise));
                bound.observed().into_iter().for_each(|seen| bound.learn(&seen));
                loss
            };
            let first = mean_and_error(&loss(Seed(3), 1000));
            let (mean, error) = mean_and_error(&loss(Seed(4), ROWS));
            let gap = (mean - whole).abs();
            println!("{steps}: {mean} ± {error}, of 1000 ± {}, {whole} ± {whole_error}", first.1);
            assert!(gap < 4.0 * error.hypot(whole_error), "{steps}: {mean} ± {error}, {whole}");
            (first.1 * (1000.0 / ROWS as f64).sqrt(), error)
        };
        let (before, after) = of(StepDistribution::LossAware);
        let (_, uniform) = of(StepDistribution::Uniform);
        of(StepDistribution::Analytic);
        assert!(after < 0.7 * uniform, "{after} {uniform}");
        assert!(before > 0.8 * uniform, "uniform until every step has ten: {before} {uniform}");
    }

    /// The gradient reaches `v` and is that of the value, by central differences on the same draws;
    /// the mean, detached, has none.
    #[test]
    fn the_gradient_is_that_of_the_variance() {
        let model = Constant::new(chain(12), 0.3);
        let x0 = model.oracle.mixture.sample(50, Seed(1));
        let loss = |model: &Constant| {
            VariationalBound::new(3, StepDistribution::Analytic)
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
