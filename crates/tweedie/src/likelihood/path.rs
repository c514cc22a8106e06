//! The likelihood of simulated paths under the Gaussian reverse steps: the Likelihood Matching
//! paper's negative log-likelihood.

use tch::{Kind, Tensor};

use super::draws::LowerBound;
use super::elbo::NOT_POSITIVE;
use super::options::{Estimation, EstimatorMethod};
use super::{Elbo, Estimate, LogLikelihood, elbo};
use crate::Result;
use crate::covariance::Reverse;
use crate::gaussian::LN_2PI;
use crate::model::Denoiser;
use crate::noise::{Noise, Seed};
use crate::query::{Batch, Query, Times};
use crate::schedule::Transition;
use crate::tensor::{squared_norm, to_vec};

/// Likelihood Matching's (8) on a grid `0 = t_0 < … < t_K = T`, along a path that the forward
/// process takes from `x_0`:
///
/// `ln N(x_T; 0, σ_T² I) + Σ_i [ln p(x_{t_{i−1}}|x_{t_i}) − ln q(x_{t_i}|x_{t_{i−1}})]`,
///
/// `p` the Gaussian step with the model's mean and covariance (9), `q` the forward transition. Its
/// mean over paths is that of [`Elbo`] with the same steps and covariance, hence a lower bound in
/// expectation: it is no exact likelihood, and what the paper calls exact is the Gaussian density
/// of each residual. The ELBO integrates each transition and draws every `x_t` anew; along a path
/// the errors of neighbouring terms cancel. Where the data are Gaussian and the model exact, every
/// path gives `ln p(x_0)` up to what `x_T` still knows of the data.
pub struct PathLikelihood<'a> {
    /// Of the same steps: its decoder is the last of them.
    elbo: Elbo<'a>,
    grid: Vec<f64>,
    draws: usize,
    name: String,
}

impl<'a> PathLikelihood<'a> {
    /// Over `grid` (`t_0 = 0`; see [`crate::grid::Spacing::elbo_grid`]) along `draws ≥ 1` paths
    /// from each row.
    pub fn new(reverse: Reverse<'a>, grid: Vec<f64>, draws: usize) -> PathLikelihood<'a> {
        assert!(draws > 0, "a likelihood of paths needs a path");
        let (steps, covariance) = (grid.len() - 1, reverse.covariance().name());
        let name = format!("path likelihood, K = {steps}, {covariance} covariance");
        PathLikelihood { elbo: Elbo::new(reverse, grid.clone(), draws), grid, draws, name }
    }

    /// The log-likelihood of one path from each row, `[b]`.
    fn along_a_path(&self, batch: &Batch, noise: &mut Noise) -> Tensor {
        let (x0, schedule) = (&batch.x, self.elbo.model().space().schedule());
        let d = x0.size()[1];
        let half_ln_2pi = 0.5 * d as f64 * LN_2PI;
        let mut total = Tensor::zeros([x0.size()[0]], (Kind::Double, x0.device()));
        let mut before = x0.shallow_clone();
        for pair in self.grid.windows(2) {
            let Transition { m, k2 } = schedule.transition(pair[0], pair[1]);
            let own = noise.normal(d as usize, x0.kind(), x0.device());
            let xt = &before * m + &own * k2.sqrt();
            let log_forward = squared_norm(&own.to_kind(Kind::Double)) * -0.5
                - (half_ln_2pi + 0.5 * d as f64 * k2.ln());
            let (s, t) = (Times::All(pair[0]), Times::All(pair[1]));
            let q = Query::new(&xt, &t).given(batch.condition.as_ref());
            let (mean, covariance) = self.elbo.moments(&q, noise);
            total = total + self.elbo.log_step(&before, &q, &mean, &covariance, &s) - log_forward;
            before = xt;
        }
        let variance = schedule.sigma2(self.grid[self.grid.len() - 1]);
        let square = squared_norm(&before.to_kind(Kind::Double));
        total - square * (0.5 / variance) - (half_ln_2pi + 0.5 * d as f64 * variance.ln())
    }
}

impl LogLikelihood for PathLikelihood<'_> {
    fn log_likelihood(&self, batch: &Batch, seed: Seed, first_row: u64) -> Result<Estimate> {
        let bound = LowerBound {
            estimator: self.name.clone(),
            draws: self.draws,
            evaluations: self.grid.len() - 1,
            otherwise: NOT_POSITIVE,
        };
        Ok(bound
            .estimate(batch, (seed, first_row), |noise| to_vec(&self.along_a_path(batch, noise))))
    }
}

/// The likelihood of paths in the list of estimators.
pub(super) struct Method;

impl EstimatorMethod for Method {
    fn name(&self) -> &'static str {
        "path"
    }

    fn help(&self) -> &'static str {
        "Lower bound, as the Likelihood Matching paper computes its NLL: the Gaussian likelihood \
         of the residuals of K steps along a simulated path (no exact likelihood; elbo has the \
         same expectation)"
    }

    fn has_steps(&self) -> bool {
        true
    }

    fn repeats(&self, settings: &Estimation) -> usize {
        settings.draws
    }

    fn evaluations(&self, settings: &Estimation) -> Option<usize> {
        elbo::Method.evaluations(settings)
    }

    fn build<'a>(
        &self,
        model: &'a dyn Denoiser,
        settings: &Estimation,
    ) -> Result<Box<dyn LogLikelihood + 'a>> {
        let reverse = Reverse::new(model, settings.covariance.clone(), 1.0)?;
        Ok(Box::new(PathLikelihood::new(reverse, settings.grid.clone(), 1)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::covariance::{Beta, Own};
    use crate::grid::Spacing;
    use crate::oracle::{GaussianMixture, Oracle, named};
    use crate::schedule::Vp;

    /// Correlated Gaussian data and the exact model: every reverse step is exactly Gaussian, so
    /// every path gives the log-density, when next to nothing of the data is left in `x_T`
    /// (mean 0 and α_T² = 2e-9).
    #[test]
    fn of_gaussian_data_every_path_is_exact() {
        let covariance = [[1.0, 0.6, 0.2], [0.6, 0.9, -0.1], [0.2, -0.1, 0.4]];
        let gaussian = GaussianMixture::from_tensors(
            &Tensor::from_slice(&[1.0]),
            &Tensor::from_slice(&[0.0, 0.0, 0.0]).view([1, 3]),
            &Tensor::from_slice2(&covariance).unsqueeze(0),
        )
        .unwrap();
        let exact = to_vec(&gaussian.log_density(&gaussian.sample(20, Seed(0))));
        let schedule = Arc::new(Vp::linear(0.1, 40.0));
        let oracle = Oracle::new(gaussian, schedule);
        let rows = Batch::of(&oracle.mixture.sample(20, Seed(0)));
        for steps in [3, 10] {
            let grid = Spacing::Angle.elbo_grid(oracle.space().schedule(), steps);
            let reverse = Reverse::new(&oracle, Own, 1.0).unwrap();
            let found = PathLikelihood::new(reverse, grid, 1);
            let found = found.log_likelihood(&rows, Seed(1), 0).unwrap();
            for (value, exact) in found.values.iter().zip(&exact) {
                assert!((value - exact).abs() < 1e-7, "K = {steps}: {value} {exact}");
            }
        }
    }

    /// On nine Gaussians its mean is the ELBO's, with the exact covariance and with β; a path
    /// spreads less than as many draws of separate terms.
    #[test]
    fn the_mean_over_paths_is_the_elbo() {
        let oracle = Oracle::new(named::nine_gaussians(), Arc::new(Vp::default()));
        let rows = Batch::of(&oracle.mixture.sample(100, Seed(0)));
        let grid = Spacing::Angle.elbo_grid(&Vp::default(), 6);
        for beta in [false, true] {
            let reverse = || match beta {
                true => Reverse::new(&oracle, Beta, 1.0).unwrap(),
                false => Reverse::new(&oracle, Own, 1.0).unwrap(),
            };
            let draws = 200;
            let of = |likelihood: &dyn LogLikelihood| {
                likelihood.log_likelihood(&rows, Seed(1), 0).unwrap()
            };
            let path = of(&PathLikelihood::new(reverse(), grid.clone(), draws));
            let elbo = of(&Elbo::new(reverse(), grid.clone(), draws));
            let error = |estimate: &Estimate| {
                estimate.std_errors.iter().map(|e| e * e).sum::<f64>().sqrt() / 100.0
            };
            let gap = path.mean() - elbo.mean();
            let spread = error(&path).hypot(error(&elbo));
            assert!(gap.abs() < 4.0 * spread, "β {beta}: {gap} ± {spread}");
            assert!(error(&path) < error(&elbo), "{} {}", error(&path), error(&elbo));
        }
    }
}
