//! The bounds of ScoreFlow, Theorem 3 and its Corollary: by score matching, denoising or with a
//! divergence.

use super::divergence::Divergence;
use super::draws::LowerBound;
use super::options::{Estimation, EstimatorMethod};
use super::{Estimate, LogLikelihood};
use crate::Result;
use crate::gaussian::Gaussian;
use crate::model::Denoiser;
use crate::noise::{Noise, Seed};
use crate::posterior::{Bridge, bridge_mean};
use crate::query::{Batch, Query, Times};
use crate::sym_matrix::SymMatrix;
use crate::tensor::{squared_norm, sum_last, to_vec};

/// ScoreFlow's bound with importance-sampled times `t ~ p ∝ g²/σ²` (normaliser `Z`). In its DSM
/// form it is the limit `K → ∞` of the ELBO with `G = 0`,
///
/// `ln p(x_0) ≥ −KL(q(x_T|x_0) ‖ N(0, σ_T² I)) − ½ Z E‖ε̂(x_t) − ε‖² + E[ln q(x_0|x_ε)]`,
///
/// where `q(x_0|x_ε) = N((x_ε − σ ε̂)/α, (σ/α)² I)` corrects for the truncation at `ε`. In its SM
/// form the path's term is that of Theorem 3,
///
/// `ln p(x_0) ≥ E ln N(x_T; 0, σ_T² I) + d ln(α_T/α_ε) − ½ Z E[‖ε̂‖² − 2σ ∇·ε̂] + H(q(x_ε|x_0)) +
/// E[ln q(x_0|x_ε)]`.
///
/// By Stein's identity `E⟨ε̂, ε⟩ = σ E[∇·ε̂]` given `x_0`, and the entropies at both ends differ by
/// `½ Z d` from the KL, so that one is the other with `‖ε̂ − ε‖²` in place of
/// `‖ε̂‖² − 2σ ∇·ε̂ + d`: the same mean, other noise. It bounds the log-likelihood of the reverse
/// SDE, of no sampler with finitely many steps.
pub struct ScoreMatchingBound<'a> {
    model: &'a dyn Denoiser,
    draws: usize,
    /// Of the SM form; none: the DSM form.
    divergence: Option<Divergence>,
}

impl<'a> ScoreMatchingBound<'a> {
    /// The DSM form with `draws ≥ 1` pairs (t, ε) per row (ScoreFlow takes 1000).
    pub fn new(model: &'a dyn Denoiser, draws: usize) -> ScoreMatchingBound<'a> {
        assert!(draws > 0, "a bound needs a draw");
        ScoreMatchingBound { model, draws, divergence: None }
    }

    /// In the SM form, with this divergence; probes are drawn anew with every pair (t, ε), whose
    /// standard error contains theirs, so that one is enough.
    ///
    /// # Errors
    /// If it has no probe.
    pub fn with_divergence(mut self, divergence: Divergence) -> Result<ScoreMatchingBound<'a>> {
        self.divergence = Some(divergence.checked()?);
        Ok(self)
    }

    /// `‖ε̂ − ε‖²`, or `‖ε̂‖² − 2σ ∇·ε̂ + d`, at one draw of `(t, ε)` per row of `x_0` `[b, d]`.
    fn path(&self, batch: &Batch, noise: &mut Noise) -> Vec<f64> {
        let schedule = self.model.space().schedule();
        let x = &batch.x;
        let (rows, d) = (x.size()[0], x.size()[1]);
        let t = noise.uniform(1).into_iter().map(|u| schedule.importance_time(u));
        let times = Times::each(t.collect());
        let z = noise.normal(d as usize, x.kind(), x.device());
        let (alpha, sigma) = times.marginal(schedule, x.device());
        let xt = x * &alpha + &z * &sigma;
        let q = Query::new(&xt, &times).given(batch.condition.as_ref());
        match self.divergence {
            None => to_vec(&squared_norm(&(self.model.noise(&q) - &z))),
            Some(divergence) => {
                let directions = divergence.directions(x, noise);
                let numbers: Vec<i64> = (0..rows).collect();
                let xt = xt.to_kind(tch::Kind::Double);
                let (noise, product) = directions.noise(self.model, &q.at(&xt), &numbers);
                let product = product.expect("directions were given");
                let divergence = sum_last(&product) / directions.columns() as f64;
                to_vec(&(squared_norm(&noise) - divergence * &sigma * 2.0 + d as f64))
            }
        }
    }

    /// `ln q(x_0|x_ε)` at one draw of `x_ε` per row.
    fn decoder(&self, batch: &Batch, noise: &mut Noise) -> Vec<f64> {
        let schedule = self.model.space().schedule();
        let x = &batch.x;
        let (d, first) = (x.size()[1], schedule.epsilon());
        let z = noise.normal(d as usize, x.kind(), x.device());
        let xe = x * schedule.alpha(first) + z * schedule.sigma(first);
        let times = Times::All(first);
        let q = Query::new(&xe, &times).given(batch.condition.as_ref());
        let Bridge { inv_m, c, .. } = Bridge::new(schedule, 0.0, first, 1.0);
        let variance = schedule.sigma2(first) / schedule.alpha(first).powi(2);
        let decoder = Gaussian::new(
            bridge_mean(&xe, &self.model.noise(&q), &inv_m.into(), &c.into()),
            SymMatrix::scalar(&variance.into(), x),
        );
        to_vec(&decoder.log_prob(x))
    }
}

impl LogLikelihood for ScoreMatchingBound<'_> {
    fn log_likelihood(&self, batch: &Batch, seed: Seed, first_row: u64) -> Result<Estimate> {
        let (x, d) = (&batch.x, batch.x.size()[1]);
        let schedule = self.model.space().schedule();
        let normalizer = schedule.importance_normalizer();
        let last = schedule.horizon();
        let prior_ratio = schedule.alpha(last).powi(2) / schedule.sigma2(last);
        let prior = to_vec(&(squared_norm(x) * (-0.5 * prior_ratio)));
        let (form, products) = match self.divergence {
            None => (String::new(), 0),
            Some(divergence) => {
                let products = match divergence.resolve(d) {
                    Divergence::Rademacher { probes } | Divergence::Gaussian { probes } => probes,
                    Divergence::Exact | Divergence::Auto => d as usize,
                };
                (format!(" with ∇·ε̂, {}", divergence.name(d)), products)
            }
        };
        let bound = LowerBound {
            estimator: format!("score-matching bound{form}, {} draws", self.draws),
            draws: self.draws,
            evaluations: 2 + products,
            otherwise: "not finite; look for extreme values in the row, or in the model's weights",
        };
        Ok(bound.estimate(batch, (seed, first_row), |noise| {
            let (path, decoder) = (self.path(batch, noise), self.decoder(batch, noise));
            let terms = prior.iter().zip(path).zip(decoder);
            terms
                .map(|((prior, path), decoder)| prior - 0.5 * normalizer * path + decoder)
                .collect()
        }))
    }
}

/// Pairs (t, ε) per row that a score takes at least.
const LEAST_PAIRS: usize = 100;

/// The DSM form in the list of estimators.
pub(super) struct Method;

impl EstimatorMethod for Method {
    fn name(&self) -> &'static str {
        "bound"
    }

    fn help(&self) -> &'static str {
        "Lower bound: denoising score matching in continuous time"
    }

    fn least_draws(&self) -> usize {
        LEAST_PAIRS
    }

    fn evaluations(&self, settings: &Estimation) -> Option<usize> {
        Some(2 * settings.draws)
    }

    fn build<'a>(
        &self,
        model: &'a dyn Denoiser,
        settings: &Estimation,
    ) -> Result<Box<dyn LogLikelihood + 'a>> {
        Ok(Box::new(ScoreMatchingBound::new(model, settings.draws)))
    }
}

/// The SM form in the list of estimators.
pub(super) struct DivergenceMethod;

impl EstimatorMethod for DivergenceMethod {
    fn name(&self) -> &'static str {
        "bound-sm"
    }

    fn help(&self) -> &'static str {
        "Lower bound: the same with the divergence of the score, ScoreFlow's Theorem 3 (other \
         noise, same mean)"
    }

    fn options(&self) -> &'static [&'static str] {
        &["divergence", "probes"]
    }

    fn least_draws(&self) -> usize {
        LEAST_PAIRS
    }

    fn evaluations(&self, settings: &Estimation) -> Option<usize> {
        Some(2 * settings.draws)
    }

    /// By default the divergence is exact where that is cheap; else it takes one probe per draw,
    /// since many draws of one probe are better than few draws of many.
    fn build<'a>(
        &self,
        model: &'a dyn Denoiser,
        settings: &Estimation,
    ) -> Result<Box<dyn LogLikelihood + 'a>> {
        let usual = match Divergence::Auto.resolve(model.space().dim) {
            Divergence::Exact => Divergence::Exact,
            _ => Divergence::Rademacher { probes: 1 },
        };
        let bound = ScoreMatchingBound::new(model, settings.draws);
        Ok(Box::new(bound.with_divergence(settings.divergence.unwrap_or(usual))?))
    }
}
