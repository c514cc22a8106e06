//! The K-step evidence lower bound, for densities and for the levels of images.

use tch::{Tensor, no_grad};

use super::discrete::DiscreteDecoder;
use super::options::{Estimation, EstimatorMethod};
use super::{Estimate, Kind, LogLikelihood, mean_and_error, without_number};
use crate::Result;
use crate::covariance::{Covariance, Reverse};
use crate::model::Denoiser;
use crate::noise::{Noise, Seed};
use crate::posterior::{ForwardBridge, Jet, scalar_g};
use crate::tensor::{column, per_row, squared_norm, to_vec};

/// `ln p(x_0) ≥ E[ln N(x_0; μ_0(x_{t_1}), C_0)] − Σ_i KL(q(x_s|x_t, x_0) ‖ p(x_s|x_t)) − KL(q(x_T|x_0) ‖ N(0, σ_T² I))`
/// over the times `0 = t_0 < t_1 < … < t_K = T` (Ho et al. 2020, eq. 5, with the bridge's
/// covariance): the log-likelihood of exactly the sampler that takes these `K` steps, hence the
/// honest figure for samples in `K` steps. The decoder needs a density: where the covariance is β̃,
/// which gives the last step none, it takes `G = I`, the `N(x_0; μ_0, (σ/α)² I)` of ScoreFlow's
/// truncation. For levels of images it is a [`DiscreteDecoder`]. Each term takes `draws`
/// independent draws of its `x_t`; expectation at most `ln p(x_0)` of that sampler.
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
    /// Over `grid` (`t_0 = 0`; see [`crate::grid::Spacing::elbo_grid`]) with `draws ≥ 1` draws per
    /// term.
    pub fn new(reverse: Reverse<'a>, grid: Vec<f64>, draws: usize) -> Elbo<'a> {
        assert!(grid.len() > 1 && grid[0] == 0.0, "an ELBO's grid starts at 0");
        assert!(draws > 0, "an ELBO needs a draw");
        let name = format!("ELBO, K = {}, {} covariance", grid.len() - 1, reverse.covariance());
        Elbo { reverse, decoder: Decoder::Density, grid, draws, most_terms: usize::MAX, name }
    }

    /// As [`Elbo::new`] for rows that are levels of images at their bins' centres, scored as
    /// probabilities: `−value/(d ln 2)` is bits per dimension, with no offset. On
    /// [`crate::grid::even_trajectory`] with one draw this is the protocol of Analytic-DPM and OCM.
    pub fn of_levels(reverse: Reverse<'a>, grid: Vec<f64>, draws: usize) -> Elbo<'a> {
        let decoder = DiscreteDecoder::new(&**reverse.model().schedule());
        let elbo = Elbo::new(reverse, grid, draws);
        let name = format!("{}, discretised decoder", elbo.name);
        Elbo { decoder: Decoder::Levels(decoder), name, ..elbo }
    }

    /// With at most `terms ≥ 2` of its terms computed for each row and draw: the decoder's, and of
    /// the others some that are drawn, spread over the quantiles of their law, and weighted by the
    /// inverses of their probabilities. Half of the law is in proportion to the change of the log
    /// signal-to-noise ratio over a step, as is `½ d G Δ ln(α²/σ²)`, the term of a score with that
    /// `G` under β̃; half is even over the steps. The expectation stays; the spread over rows, and
    /// with it the standard error of their mean, has the drawing in it.
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

    /// A term of the bound for each row, `[b]`: the decoder's log-density (`i = 0`, of all rows or
    /// of none), or minus the KL `i` steps up.
    fn term(&self, x0: &Tensor, i: &[usize], noise: &mut Noise) -> Tensor {
        let model = self.reverse.model();
        let (schedule, d) = (&**model.schedule(), x0.size()[1]);
        let (s, t): (Vec<f64>, Vec<f64>) =
            i.iter().map(|&i| (self.grid[i], self.grid[i + 1])).unzip();
        let z = noise.normal(d as usize, x0.kind(), x0.device());
        let alpha = column(t.iter().map(|&t| schedule.alpha(t)), x0);
        let xt = x0 * alpha + z * column(t.iter().map(|&t| schedule.sigma(t)), x0);
        let jet = match &self.decoder {
            // of which the mean is taken alone
            Decoder::Levels(_) if i.first() == Some(&0) => {
                Jet { noise: model.noise(&xt, &t), g: scalar_g(vec![1.0; t.len()], &xt) }
            }
            _ => self.jet(&xt, &t, noise),
        };
        self.step_term(x0, &xt, &jet, &s, &t)
    }

    /// The law of drawn terms, where not all are computed: its mass up to each of the steps from
    /// the second.
    fn law_of_terms(&self) -> Option<Vec<f64>> {
        let steps = self.grid.len() - 1;
        if self.most_terms >= steps {
            return None;
        }
        let log_snr = |t: f64| self.reverse.model().schedule().log_snr(t);
        let total = log_snr(self.grid[1]) - log_snr(self.grid[steps]);
        let mass = self.grid[1..].windows(2).scan(0.0, |mass, pair| {
            *mass += (log_snr(pair[0]) - log_snr(pair[1])) / total + 1.0 / (steps - 1) as f64;
            Some(0.5 * *mass)
        });
        Some(mass.collect())
    }

    /// All terms at one draw of each, summed, `[b]`; or those that `law` gives.
    fn sum_of_terms(&self, x0: &Tensor, law: Option<&[f64]>, noise: &mut Noise) -> Tensor {
        let rows = x0.size()[0] as usize;
        let mut total = self.term(x0, &vec![0; rows], noise);
        let Some(mass) = law else {
            for i in 1..self.grid.len() - 1 {
                total += self.term(x0, &vec![i; rows], noise);
            }
            return total;
        };
        let n = self.most_terms - 1;
        for j in 0..n {
            let drawn: Vec<usize> = (noise.uniform(1).iter())
                .map(|u| (j as f64 + u) / n as f64)
                .map(|u| mass.partition_point(|mass| *mass <= u).min(mass.len() - 1))
                .collect();
            let probability = |&i: &usize| mass[i] - if i > 0 { mass[i - 1] } else { 0.0 };
            let weight = per_row(drawn.iter().map(|i| 1.0 / (n as f64 * probability(i))), &total);
            let steps: Vec<usize> = drawn.iter().map(|i| i + 1).collect();
            total += self.term(x0, &steps, noise) * weight;
        }
        total
    }

    /// What [`Elbo::step_term`] takes of `x_t`.
    pub(super) fn jet(&self, xt: &Tensor, t: &[f64], streams: &mut Noise) -> Jet {
        let Jet { noise, g } = self.reverse.jet(xt, t, streams);
        Jet { noise: self.reverse.hold(noise, xt, t).0, g }
    }

    /// The term of a step from `t` to any `s < t` at draws of `x_t`, row by row: the decoder's
    /// log-density where `s = 0`, which is of all rows or of none, else minus the KL; `[b]`.
    pub(super) fn step_term(
        &self,
        x0: &Tensor,
        xt: &Tensor,
        jet: &Jet,
        s: &[f64],
        t: &[f64],
    ) -> Tensor {
        let schedule = &**self.reverse.model().schedule();
        let law = self.reverse.law(xt, jet, s, t);
        if s.first().is_some_and(|s| *s <= 0.0) {
            return match &self.decoder {
                Decoder::Density if self.reverse.covariance() == Covariance::BetaTilde => {
                    let jet = Jet {
                        noise: jet.noise.shallow_clone(),
                        g: scalar_g(vec![1.0; t.len()], xt),
                    };
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

    /// Each term of the bound averaged over rows and draws, from the decoder up: what a better grid
    /// is made from.
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
        let law = self.law_of_terms();
        let mut draws: Vec<Vec<f64>> = vec![Vec::with_capacity(self.draws); rows];
        no_grad(|| {
            let prior = self.prior(x);
            for _ in 0..self.draws {
                let total = &prior + self.sum_of_terms(x, law.as_deref(), &mut noise);
                draws.iter_mut().zip(to_vec(&total)).for_each(|(all, value)| all.push(value));
            }
        });
        let (mut values, std_errors): (Vec<f64>, Vec<f64>) =
            draws.iter().map(|d| mean_and_error(d)).unzip();
        let reason = "not finite: a covariance of this row is not positive definite, or the model is not finite there";
        let flags = without_number(&mut values, x, reason);
        Ok(Estimate {
            kind: Kind::LowerBound,
            estimator: self.name.clone(),
            values,
            offsets: vec![0.0; rows],
            std_errors,
            draws: self.draws,
            evaluations: (self.most_terms.min(self.grid.len() - 1) * self.draws) as f64,
            flags,
        })
    }
}

/// The ELBO of densities in the list of estimators.
pub(super) struct Method;

impl EstimatorMethod for Method {
    fn name(&self) -> &'static str {
        "elbo"
    }

    fn help(&self) -> &'static str {
        "Lower bound: the log-likelihood of the K-step sampler itself (safe)"
    }

    fn has_steps(&self) -> bool {
        true
    }

    fn repeats(&self, settings: &Estimation) -> usize {
        settings.draws
    }

    fn evaluations(&self, settings: &Estimation) -> Option<usize> {
        Some((settings.grid.len() - 1) * settings.draws)
    }

    fn build<'a>(
        &self,
        model: &'a dyn Denoiser,
        settings: &Estimation,
    ) -> Result<Box<dyn LogLikelihood + 'a>> {
        let reverse = Reverse::new(model, settings.covariance, 1.0)?;
        Ok(Box::new(Elbo::new(reverse, settings.grid.clone(), 1)))
    }
}

/// The ELBO of the levels of images in the list of estimators.
pub(super) struct LevelsMethod;

impl EstimatorMethod for LevelsMethod {
    fn name(&self) -> &'static str {
        "levels"
    }

    fn help(&self) -> &'static str {
        "Lower bound, images alone: the log-probability of the levels, by the K-step ELBO with the \
         discretised decoder"
    }

    fn has_steps(&self) -> bool {
        true
    }

    fn scores_levels(&self) -> bool {
        true
    }

    fn repeats(&self, settings: &Estimation) -> usize {
        settings.draws
    }

    fn evaluations(&self, settings: &Estimation) -> Option<usize> {
        Method.evaluations(settings)
    }

    fn build<'a>(
        &self,
        model: &'a dyn Denoiser,
        settings: &Estimation,
    ) -> Result<Box<dyn LogLikelihood + 'a>> {
        let reverse = Reverse::new(model, settings.covariance, 1.0)?;
        Ok(Box::new(Elbo::of_levels(reverse, settings.grid.clone(), 1)))
    }
}
