//! The K-step evidence lower bound, for densities and for the levels of images.

use tch::{Tensor, no_grad};

use super::discrete::DiscreteDecoder;
use super::{Estimate, Flag, Kind, LogLikelihood, mean_and_error};
use crate::Result;
use crate::covariance::{Covariance, Reverse};
use crate::model::Denoiser;
use crate::noise::{Noise, Seed};
use crate::tensor::{per_row, squared_norm, to_vec};
use crate::tweedie::{ForwardBridge, Jet, scalar_g};

/// `ln p(x_0) ≥ E[ln N(x_0; μ_0(x_{t_1}), C_0)] − Σ_i KL(q(x_s|x_t, x_0) ‖ p(x_s|x_t)) − KL(q(x_T|x_0) ‖ N(0, σ_T² I))`
/// over the times `0 = t_0 < t_1 < … < t_K = T` (Ho et al. 2020, eq. 5, with the bridge's covariance): the
/// log-likelihood of exactly the sampler that takes these `K` steps, hence the honest figure for samples in `K` steps.
/// The decoder needs a density: where the covariance is β̃, which gives the last step none, it takes `G = I`, the
/// `N(x_0; μ_0, (σ/α)² I)` of ScoreFlow's truncation. For levels of images it is a [`DiscreteDecoder`]. Each term takes
/// `draws` independent draws of its `x_t`; expectation at most `ln p(x_0)` of that sampler.
pub struct Elbo<'a> {
    reverse: Reverse<'a>,
    decoder: Decoder,
    grid: Vec<f64>,
    draws: usize,
    name: String,
}

enum Decoder {
    /// The law of the last step.
    Density,
    /// Probabilities of levels around its mean.
    Levels(DiscreteDecoder),
}

impl<'a> Elbo<'a> {
    /// Over `grid` (`t_0 = 0`; see [`crate::grid::Spacing::elbo_grid`]) with `draws ≥ 1` draws per term.
    pub fn new(reverse: Reverse<'a>, grid: Vec<f64>, draws: usize) -> Elbo<'a> {
        assert!(grid.len() > 1 && grid[0] == 0.0, "an ELBO's grid starts at 0");
        assert!(draws > 0, "an ELBO needs a draw");
        let name = format!("ELBO, K = {}, {} covariance", grid.len() - 1, reverse.covariance());
        Elbo { reverse, decoder: Decoder::Density, grid, draws, name }
    }

    /// As [`Elbo::new`] for rows that are levels of images at their bins' centres, scored as probabilities: `−value/(d ln 2)`
    /// is bits per dimension, with no offset. On [`crate::grid::even_trajectory`] with one draw this is the protocol of
    /// Analytic-DPM and OCM.
    pub fn of_levels(reverse: Reverse<'a>, grid: Vec<f64>, draws: usize) -> Elbo<'a> {
        let decoder = DiscreteDecoder::new(&**reverse.model().schedule());
        let elbo = Elbo::new(reverse, grid, draws);
        let name = format!("{}, discretised decoder", elbo.name);
        Elbo { decoder: Decoder::Levels(decoder), name, ..elbo }
    }

    /// The model.
    pub(super) fn model(&self) -> &dyn Denoiser {
        self.reverse.model()
    }

    /// The terms of the bound, `[b]` each: the decoder's log-density first (`i = 0`), then minus each KL, `i` steps up.
    fn term(&self, x0: &Tensor, i: usize, noise: &mut Noise) -> Tensor {
        let (model, rows) = (self.reverse.model(), x0.size()[0] as usize);
        let (schedule, d) = (&**model.schedule(), x0.size()[1]);
        let (s, t) = (self.grid[i], self.grid[i + 1]);
        let z = noise.normal(d as usize, x0.kind(), x0.device());
        let xt = x0 * schedule.alpha(t) + z * schedule.sigma(t);
        let t_rows = vec![t; rows];
        let jet = match &self.decoder {
            // of which the mean is taken alone
            Decoder::Levels(_) if i == 0 => {
                Jet { noise: model.noise(&xt, &t_rows), g: scalar_g(vec![1.0; rows], &xt) }
            }
            _ => self.jet(&xt, &t_rows),
        };
        self.step_term(x0, &xt, &jet, s, t)
    }

    /// What [`Elbo::step_term`] takes of `x_t`.
    pub(super) fn jet(&self, xt: &Tensor, t: &[f64]) -> Jet {
        let Jet { noise, g } = self.reverse.jet(xt, t);
        Jet { noise: self.reverse.hold(noise, xt, t).0, g }
    }

    /// The term of a step from `t` to any `s < t` at draws of `x_t`: the decoder's log-density where `s = 0`, else minus the KL; `[b]`.
    pub(super) fn step_term(&self, x0: &Tensor, xt: &Tensor, jet: &Jet, s: f64, t: f64) -> Tensor {
        let (schedule, rows) = (&**self.reverse.model().schedule(), x0.size()[0] as usize);
        let (s_rows, t_rows) = (vec![s; rows], vec![t; rows]);
        let law = self.reverse.law(xt, jet, &s_rows, &t_rows);
        if s <= 0.0 {
            return match &self.decoder {
                Decoder::Density if self.reverse.covariance() == Covariance::BetaTilde => {
                    let jet = Jet { noise: jet.noise.shallow_clone(), g: scalar_g(vec![1.0; rows], xt) };
                    self.reverse.law(xt, &jet, &s_rows, &t_rows).log_prob(x0).to_kind(tch::Kind::Double)
                }
                Decoder::Density => law.log_prob(x0).to_kind(tch::Kind::Double),
                Decoder::Levels(decoder) => decoder.log_prob(&law.mean, x0),
            };
        }
        let forward = ForwardBridge::new(schedule, s, t);
        let mean = xt * forward.of_xt + x0 * forward.of_x0;
        let variance = per_row(std::iter::repeat_n(forward.variance, rows), x0);
        -law.kl_from_isotropic(&mean, &variance).to_kind(tch::Kind::Double)
    }

    /// `−KL(q(x_T|x_0) ‖ N(0, σ_T² I))`, exact.
    fn prior(&self, x0: &Tensor) -> Tensor {
        let schedule = self.reverse.model().schedule();
        let last = self.grid[self.grid.len() - 1];
        let ratio = schedule.alpha(last).powi(2) / schedule.sigma2(last);
        squared_norm(&x0.to_kind(tch::Kind::Double)) * (-0.5 * ratio)
    }

    /// Each term of the bound averaged over rows and draws, from the decoder up: what a better grid is made from.
    pub fn mean_terms(&self, x0: &Tensor, seed: Seed) -> Vec<f64> {
        let mut noise = Noise::new(seed, 0..x0.size()[0] as u64);
        let steps = self.grid.len() - 1;
        no_grad(|| (0..steps).map(|i| self.term(x0, i, &mut noise).mean(None).double_value(&[])).collect())
    }
}

impl LogLikelihood for Elbo<'_> {
    fn scores_levels(&self) -> bool {
        matches!(self.decoder, Decoder::Levels(..))
    }

    fn log_likelihood(&self, x: &Tensor, seed: Seed, first_row: u64) -> Result<Estimate> {
        let rows = x.size()[0] as usize;
        let mut noise = Noise::new(seed, first_row..first_row + rows as u64);
        let steps = self.grid.len() - 1;
        let mut draws: Vec<Vec<f64>> = vec![Vec::with_capacity(self.draws); rows];
        no_grad(|| {
            let prior = self.prior(x);
            for _ in 0..self.draws {
                let mut total = prior.copy();
                for i in 0..steps {
                    total += self.term(x, i, &mut noise);
                }
                draws.iter_mut().zip(to_vec(&total)).for_each(|(all, value)| all.push(value));
            }
        });
        let (values, std_errors): (Vec<f64>, Vec<f64>) = draws.iter().map(|d| mean_and_error(d)).unzip();
        let flags = values
            .iter()
            .enumerate()
            .filter(|(_, v)| !v.is_finite())
            .map(|(row, _)| Flag {
                row,
                reason: "not finite: a covariance of this row is not positive definite".into(),
            })
            .collect();
        Ok(Estimate {
            kind: Kind::LowerBound,
            estimator: self.name.clone(),
            values,
            offsets: vec![0.0; rows],
            std_errors,
            draws: self.draws,
            evaluations: (steps * self.draws) as f64,
            flags,
        })
    }
}
