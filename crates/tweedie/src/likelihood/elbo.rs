//! The K-step evidence lower bound, for densities and for the levels of images.

use tch::{Tensor, no_grad};

use super::discrete::DiscreteDecoder;
use super::draws::LowerBound;
use super::options::{Estimation, EstimatorMethod};
use super::{Estimate, LogLikelihood};
use crate::Result;
use crate::covariance::{Reverse, StepCovariance};
use crate::model::Denoiser;
use crate::noise::{Noise, Seed};
use crate::posterior::ForwardBridge;
use crate::query::{Batch, Query, Times, step_coefficients};
use crate::sym_matrix::SymMatrix;
use crate::tensor::{per_row, squared_norm, to_vec};

/// Why a bound of Gaussian steps may be no number.
pub(super) const NOT_POSITIVE: &str = "not finite: a covariance of this row is not positive \
                                       definite, or the model is not finite there";

/// `ln p(x_0) ≥ E[ln N(x_0; μ_0(x_{t_1}), C_0)] − Σ_i KL(q(x_s|x_t, x_0) ‖ p(x_s|x_t)) −
/// KL(q(x_T|x_0) ‖ N(0, σ_T² I))` over the times `0 = t_0 < t_1 < … < t_K = T` (Ho et al. 2020, eq.
/// 5, with the bridge's covariance): the log-likelihood of exactly the sampler that takes these `K`
/// steps, hence the honest figure for samples in `K` steps. The decoder needs a density: where the
/// covariance is β̃, which gives the last step none, it takes `G = I`, the `N(x_0; μ_0, (σ/α)² I)`
/// of ScoreFlow's truncation. For levels of images it is a [`DiscreteDecoder`]. Each term takes
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
    /// The distribution of the last step.
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
        let name =
            format!("ELBO, K = {}, {} covariance", grid.len() - 1, reverse.covariance().name());
        Elbo { reverse, decoder: Decoder::Density, grid, draws, most_terms: usize::MAX, name }
    }

    /// As [`Elbo::new`] for rows that are levels of images at their bins' centres, scored as
    /// probabilities: `−value/(d ln 2)` is bits per dimension, with no offset. On
    /// [`crate::grid::even_trajectory`] with one draw this is the protocol of Analytic-DPM and OCM.
    pub fn of_levels(reverse: Reverse<'a>, grid: Vec<f64>, draws: usize) -> Elbo<'a> {
        let decoder = DiscreteDecoder::new(reverse.model().space().schedule());
        let elbo = Elbo::new(reverse, grid, draws);
        let name = format!("{}, discretised decoder", elbo.name);
        Elbo { decoder: Decoder::Levels(decoder), name, ..elbo }
    }

    /// With at most `terms ≥ 2` of its terms computed for each row and draw: the decoder's, and of
    /// the others some that are drawn, spread over the quantiles of their distribution, and
    /// weighted by the inverses of their probabilities. Half of it is in proportion to the change
    /// of the log signal-to-noise ratio over a step, as is `½ d G Δ ln(α²/σ²)`, the term of a score
    /// with that `G` under β̃; half is even over the steps. The expectation stays; the spread over
    /// rows, and with it the standard error of their mean, has the drawing in it.
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
    /// of none), or minus the KL `i` steps up; `i` for each row, or one for all.
    fn term(&self, batch: &Batch, i: &[usize], noise: &mut Noise) -> Tensor {
        let model = self.reverse.model();
        let (schedule, x0) = (model.space().schedule(), &batch.x);
        let times = |shift: usize| Times::each(i.iter().map(|&i| self.grid[i + shift]).collect());
        let (s, t) = (times(0), times(1));
        let z = noise.normal(x0.size()[1] as usize, x0.kind(), x0.device());
        let (alpha, sigma) = t.marginal(schedule, x0.device());
        let xt = x0 * &alpha + z * &sigma;
        let q = Query::new(&xt, &t).given(batch.condition.as_ref());
        let (noise, covariance) = match &self.decoder {
            // of which the mean is taken alone
            Decoder::Levels(_) if i.first() == Some(&0) => {
                let identity = SymMatrix::scalar(&1.0.into(), &xt);
                (model.noise(&q), StepCovariance::Posterior(identity))
            }
            _ => self.moments(&q, noise),
        };
        self.step_term(x0, &q, &noise, &covariance, &s)
    }

    /// The distribution of drawn terms, where not all are computed: its mass up to each of the
    /// steps from the second.
    fn mass_of_terms(&self) -> Option<Vec<f64>> {
        let steps = self.grid.len() - 1;
        if self.most_terms >= steps {
            return None;
        }
        let log_snr = |t: f64| self.reverse.model().space().schedule().log_snr(t);
        let total = log_snr(self.grid[1]) - log_snr(self.grid[steps]);
        let mass = self.grid[1..].windows(2).scan(0.0, |mass, pair| {
            *mass += (log_snr(pair[0]) - log_snr(pair[1])) / total + 1.0 / (steps - 1) as f64;
            Some(0.5 * *mass)
        });
        Some(mass.collect())
    }

    /// All terms at one draw of each, summed, `[b]`; or those that are drawn by `mass`.
    fn sum_of_terms(&self, batch: &Batch, mass: Option<&[f64]>, noise: &mut Noise) -> Tensor {
        let mut total = self.term(batch, &[0], noise);
        let Some(mass) = mass else {
            for i in 1..self.grid.len() - 1 {
                total += self.term(batch, &[i], noise);
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
            total += self.term(batch, &steps, noise) * weight;
        }
        total
    }

    /// What [`Elbo::step_term`] takes of `x_t`: `ε̂` and its covariance.
    pub(super) fn moments(&self, q: &Query, streams: &mut Noise) -> (Tensor, StepCovariance) {
        let (noise, covariance) = self.reverse.moments(q, streams);
        (self.reverse.hold(noise, q).0, covariance)
    }

    /// The term of a step to any `s` from draws of `x_t`, row by row: the decoder's log-density
    /// where `s = 0`, which is of all rows or of none, else minus the KL; `[b]`.
    pub(super) fn step_term(
        &self,
        x0: &Tensor,
        q: &Query,
        noise: &Tensor,
        covariance: &StepCovariance,
        s: &Times,
    ) -> Tensor {
        let schedule = self.reverse.model().space().schedule();
        if s.at_the_data() {
            let of =
                |covariance: &StepCovariance| self.reverse.distribution(q, noise, covariance, s);
            return match &self.decoder {
                Decoder::Levels(decoder) => decoder.log_prob(&of(covariance).mean, x0),
                Decoder::Density if self.reverse.covariance().ends_in_a_density() => {
                    of(covariance).log_prob(x0).to_kind(tch::Kind::Double)
                }
                Decoder::Density => {
                    let identity = SymMatrix::scalar(&1.0.into(), q.x);
                    let wider = StepCovariance::Posterior(identity);
                    of(&wider).log_prob(x0).to_kind(tch::Kind::Double)
                }
            };
        }
        let [of_xt, of_x0, variance] = step_coefficients(s, q.times, x0.device(), |s, t| {
            let ForwardBridge { of_xt, of_x0, variance } = ForwardBridge::new(schedule, s, t);
            [of_xt, of_x0, variance]
        });
        let mean = q.x * &of_xt + x0 * &of_x0;
        let reverse = self.reverse.distribution(q, noise, covariance, s);
        -reverse.kl_from_isotropic(&mean, &variance.rows(x0)).to_kind(tch::Kind::Double)
    }

    /// The log-density of a step to `x_s` `[b, d]` from draws of `x_t`, row by row; to the data
    /// (`s = 0`, of all rows or of none) that of the decoder; `[b]`.
    pub(super) fn log_step(
        &self,
        xs: &Tensor,
        q: &Query,
        noise: &Tensor,
        covariance: &StepCovariance,
        s: &Times,
    ) -> Tensor {
        match s.at_the_data() {
            true => self.step_term(xs, q, noise, covariance, s),
            false => {
                let step = self.reverse.distribution(q, noise, covariance, s);
                step.log_prob(xs).to_kind(tch::Kind::Double)
            }
        }
    }

    /// `−KL(q(x_T|x_0) ‖ N(0, σ_T² I))`, exact.
    fn prior(&self, x0: &Tensor) -> Tensor {
        let schedule = self.reverse.model().space().schedule();
        let last = self.grid[self.grid.len() - 1];
        let ratio = schedule.alpha(last).powi(2) / schedule.sigma2(last);
        squared_norm(&x0.to_kind(tch::Kind::Double)) * (-0.5 * ratio)
    }

    /// Each term of the bound averaged over rows and draws, from the decoder up: what a better grid
    /// is made from.
    pub fn mean_terms(&self, batch: &Batch, seed: Seed) -> Vec<f64> {
        let mut noise = Noise::new(seed, 0..batch.len() as u64);
        let mut mean = |i| self.term(batch, &[i], &mut noise).mean(None).double_value(&[]);
        no_grad(|| (0..self.grid.len() - 1).map(&mut mean).collect())
    }
}

impl LogLikelihood for Elbo<'_> {
    fn scores_levels(&self) -> bool {
        matches!(self.decoder, Decoder::Levels(..))
    }

    fn log_likelihood(&self, batch: &Batch, seed: Seed, first_row: u64) -> Result<Estimate> {
        let (prior, mass) = (self.prior(&batch.x), self.mass_of_terms());
        let bound = LowerBound {
            estimator: self.name.clone(),
            draws: self.draws,
            evaluations: self.most_terms.min(self.grid.len() - 1),
            otherwise: NOT_POSITIVE,
        };
        Ok(bound.estimate(batch, (seed, first_row), |noise| {
            to_vec(&(&prior + self.sum_of_terms(batch, mass.as_deref(), noise)))
        }))
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
        let reverse = Reverse::new(model, settings.covariance.clone(), 1.0)?;
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
        let reverse = Reverse::new(model, settings.covariance.clone(), 1.0)?;
        Ok(Box::new(Elbo::of_levels(reverse, settings.grid.clone(), 1)))
    }
}
