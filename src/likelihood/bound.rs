//! The denoising-score-matching bound of ScoreFlow, Theorem 3 and its Corollary.

use tch::{Tensor, no_grad};

use super::{Estimate, Kind, LogLikelihood, mean_and_error};
use crate::Result;
use crate::gaussian::Gaussian;
use crate::model::Denoiser;
use crate::noise::{Noise, Seed};
use crate::sym_matrix::SymMatrix;
use crate::tensor::{column, per_row, squared_norm, to_vec};
use crate::tweedie::{Bridge, bridge_mean};

/// ScoreFlow's bound in its DSM form, with importance-sampled times `t ~ p ∝ g²/σ²` (normaliser `Z`): the limit
/// `K → ∞` of the ELBO with `G = 0`,
///
/// `ln p(x_0) ≥ −KL(q(x_T|x_0) ‖ N(0, σ_T² I)) − ½ Z E‖ε̂(x_t) − ε‖² + E[ln q(x_0|x_ε)]`,
///
/// where `q(x_0|x_ε) = N((x_ε − σ ε̂)/α, (σ/α)² I)` corrects for the truncation at `ε`. It bounds the log-likelihood of
/// the reverse SDE, of no sampler with finitely many steps.
pub struct ScoreMatchingBound<'a> {
    model: &'a dyn Denoiser,
    draws: usize,
}

impl<'a> ScoreMatchingBound<'a> {
    /// With `draws ≥ 1` pairs (t, ε) per row (ScoreFlow takes 1000).
    pub fn new(model: &'a dyn Denoiser, draws: usize) -> ScoreMatchingBound<'a> {
        assert!(draws > 0, "a bound needs a draw");
        ScoreMatchingBound { model, draws }
    }
}

impl LogLikelihood for ScoreMatchingBound<'_> {
    fn log_likelihood(&self, x: &Tensor, seed: Seed, first_row: u64) -> Result<Estimate> {
        let (rows, d) = (x.size()[0] as usize, x.size()[1]);
        let schedule = &**self.model.schedule();
        let mut noise = Noise::new(seed, first_row..first_row + rows as u64);
        let normalizer = schedule.importance_normalizer();
        let (first, last) = (schedule.epsilon(), schedule.horizon());
        let mut draws: Vec<Vec<f64>> = vec![Vec::with_capacity(self.draws); rows];
        let prior_ratio = schedule.alpha(last).powi(2) / schedule.sigma2(last);
        no_grad(|| {
            let prior = to_vec(&(squared_norm(x) * (-0.5 * prior_ratio)));
            for _ in 0..self.draws {
                let t: Vec<f64> = noise.uniform(1).into_iter().map(|u| schedule.importance_time(u)).collect();
                let z = noise.normal(d as usize, x.kind(), x.device());
                let alpha = column(t.iter().map(|&t| schedule.alpha(t)), x);
                let sigma = column(t.iter().map(|&t| schedule.sigma(t)), x);
                let path = to_vec(&squared_norm(&(self.model.noise(&(x * alpha + &z * sigma), &t) - &z)));

                let z = noise.normal(d as usize, x.kind(), x.device());
                let times = vec![first; rows];
                let xe = x * schedule.alpha(first) + z * schedule.sigma(first);
                let steps = vec![Bridge::new(schedule, 0.0, first, 1.0); rows];
                let variance = schedule.sigma2(first) / schedule.alpha(first).powi(2);
                let law = Gaussian::new(
                    bridge_mean(&xe, &self.model.noise(&xe, &times), &steps),
                    SymMatrix::isotropic(per_row(vec![variance; rows], x), d),
                );
                let decoder = to_vec(&law.log_prob(x));
                for (row, all) in draws.iter_mut().enumerate() {
                    all.push(prior[row] - 0.5 * normalizer * path[row] + decoder[row]);
                }
            }
        });
        let (values, std_errors) = draws.iter().map(|d| mean_and_error(d)).unzip();
        Ok(Estimate {
            kind: Kind::LowerBound,
            estimator: format!("score-matching bound, {} draws", self.draws),
            values,
            std_errors,
            draws: self.draws,
            evaluations: 2.0 * self.draws as f64,
            flags: Vec::new(),
        })
    }
}
