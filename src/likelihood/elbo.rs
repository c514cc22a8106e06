//! The K-step evidence lower bound, for densities and for the levels of images.

use std::ops::Range;

use tch::{Tensor, no_grad};

use super::discrete::DiscreteDecoder;
use super::{Estimate, Flag, Kind, LogLikelihood, mean_and_error};
use crate::Result;
use crate::covariance::{Covariance, Reverse};
use crate::model::Denoiser;
use crate::noise::{Noise, Seed};
use crate::tensor::{column, per_row, squared_norm, to_vec};
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
    /// Terms per row and draw that are computed, at most.
    most_terms: usize,
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
        Elbo { reverse, decoder: Decoder::Density, grid, draws, most_terms: usize::MAX, name }
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

    /// With at most `terms ≥ 2` of its terms computed for each row and draw: the decoder's, and of the others one out of each of as many
    /// stretches of like length, drawn evenly and counted for its stretch. The expectation stays; the spread over rows, and with
    /// it the standard error of their mean, has the drawing in it.
    pub fn at_most(self, terms: usize) -> Elbo<'a> {
        assert!(terms > 1, "an estimate needs the decoder and another term");
        let name = match terms < self.grid.len() - 1 {
            true => format!("{}, {terms} of its terms per row", self.name),
            false => self.name,
        };
        Elbo { most_terms: terms, name, ..self }
    }

    /// The model.
    pub(super) fn model(&self) -> &dyn Denoiser {
        self.reverse.model()
    }

    /// A term of the bound for each row, `[b]`: the decoder's log-density (`i = 0`, of all rows or of none), or minus the KL `i`
    /// steps up.
    fn term(&self, x0: &Tensor, i: &[usize], noise: &mut Noise) -> Tensor {
        let model = self.reverse.model();
        let (schedule, d) = (&**model.schedule(), x0.size()[1]);
        let (s, t): (Vec<f64>, Vec<f64>) = i.iter().map(|&i| (self.grid[i], self.grid[i + 1])).unzip();
        let z = noise.normal(d as usize, x0.kind(), x0.device());
        let alpha = column(t.iter().map(|&t| schedule.alpha(t)), x0);
        let xt = x0 * alpha + z * column(t.iter().map(|&t| schedule.sigma(t)), x0);
        let jet = match &self.decoder {
            // of which the mean is taken alone
            Decoder::Levels(_) if i.first() == Some(&0) => {
                Jet { noise: model.noise(&xt, &t), g: scalar_g(vec![1.0; t.len()], &xt) }
            }
            _ => self.jet(&xt, &t),
        };
        self.step_term(x0, &xt, &jet, &s, &t)
    }

    /// The terms that make up one draw: for each, the stretch of steps that it is drawn from, row by row.
    fn stretches(&self) -> Vec<Range<usize>> {
        let steps = self.grid.len() - 1;
        let n = self.most_terms.min(steps) - 1;
        let bound = |j: usize| 1 + j * (steps - 1) / n.max(1);
        std::iter::once(0..1).chain((0..n).map(|j| bound(j)..bound(j + 1))).collect()
    }

    /// What [`Elbo::step_term`] takes of `x_t`.
    pub(super) fn jet(&self, xt: &Tensor, t: &[f64]) -> Jet {
        let Jet { noise, g } = self.reverse.jet(xt, t);
        Jet { noise: self.reverse.hold(noise, xt, t).0, g }
    }

    /// The term of a step from `t` to any `s < t` at draws of `x_t`, row by row: the decoder's log-density where `s = 0`, which
    /// is of all rows or of none, else minus the KL; `[b]`.
    pub(super) fn step_term(&self, x0: &Tensor, xt: &Tensor, jet: &Jet, s: &[f64], t: &[f64]) -> Tensor {
        let schedule = &**self.reverse.model().schedule();
        let law = self.reverse.law(xt, jet, s, t);
        if s.first().is_some_and(|s| *s <= 0.0) {
            return match &self.decoder {
                Decoder::Density if self.reverse.covariance() == Covariance::BetaTilde => {
                    let jet = Jet { noise: jet.noise.shallow_clone(), g: scalar_g(vec![1.0; t.len()], xt) };
                    self.reverse.law(xt, &jet, s, t).log_prob(x0).to_kind(tch::Kind::Double)
                }
                Decoder::Density => law.log_prob(x0).to_kind(tch::Kind::Double),
                Decoder::Levels(decoder) => decoder.log_prob(&law.mean, x0),
            };
        }
        let forward: Vec<ForwardBridge> =
            s.iter().zip(t).map(|(&s, &t)| ForwardBridge::new(schedule, s, t)).collect();
        let mean = xt * column(forward.iter().map(|f| f.of_xt), x0)
            + x0 * column(forward.iter().map(|f| f.of_x0), x0);
        let variance = per_row(forward.iter().map(|f| f.variance), x0);
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
        let rows = x0.size()[0] as usize;
        let mut noise = Noise::new(seed, 0..rows as u64);
        let mut mean = |i| self.term(x0, &vec![i; rows], &mut noise).mean(None).double_value(&[]);
        no_grad(|| (0..self.grid.len() - 1).map(&mut mean).collect())
    }
}

impl LogLikelihood for Elbo<'_> {
    fn scores_levels(&self) -> bool {
        matches!(self.decoder, Decoder::Levels(..))
    }

    fn log_likelihood(&self, x: &Tensor, seed: Seed, first_row: u64) -> Result<Estimate> {
        let rows = x.size()[0] as usize;
        let mut noise = Noise::new(seed, first_row..first_row + rows as u64);
        let stretches = self.stretches();
        let mut draws: Vec<Vec<f64>> = vec![Vec::with_capacity(self.draws); rows];
        no_grad(|| {
            let prior = self.prior(x);
            for _ in 0..self.draws {
                let mut total = prior.copy();
                for stretch in &stretches {
                    let i = match stretch.len() {
                        1 => vec![stretch.start; rows],
                        n => {
                            noise.uniform(1).iter().map(|u| stretch.start + (u * n as f64) as usize).collect()
                        }
                    };
                    total += self.term(x, &i, &mut noise) * stretch.len() as f64;
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
            evaluations: (stretches.len() * self.draws) as f64,
            flags,
        })
    }
}
