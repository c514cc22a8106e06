//! Noise schedules: the coefficients of the forward process, `f64 → f64`.
//!
//! Forward: `dx = f(t) x dt + g(t) dW`, with marginals `x_t = α_t x_0 + σ_t ε` (Song et al. 2021,
//! "Score-Based Generative Modeling through SDEs", §3). For `s < t` the transition is
//! `x_t = m x_s + k ε'` with `m = α_t/α_s`, `k² = σ_t² − m² σ_s²`.

mod discrete;
mod vp;

use std::fmt::Debug;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};
pub use discrete::StepLaw;
pub use vp::{BetaLaw, Vp};

/// A forward process with linear drift, on `t ∈ [0, T]`.
///
/// Everything is accurate in f64 down to `t = 0`: implementations use `expm1`/`ln_1p`.
pub trait Schedule: Debug + Send + Sync {
    /// `α_t`, the factor of `x_0` in the marginal.
    fn alpha(&self, t: f64) -> f64;
    /// `σ_t²`, the variance of the marginal given `x_0`.
    fn sigma2(&self, t: f64) -> f64;
    /// `f(t)`, the drift's factor, per unit of time.
    fn drift(&self, t: f64) -> f64;
    /// `g(t)²`, the diffusion coefficient, variance per unit of time.
    fn diffusion2(&self, t: f64) -> f64;
    /// The law of `x_t` given `x_s`, `0 ≤ s ≤ t`.
    fn transition(&self, s: f64, t: f64) -> Transition;
    /// The time at which `ln(α²/σ²)` equals `log_snr`, clamped to `[0, T]`.
    fn time_of_log_snr(&self, log_snr: f64) -> f64;

    /// `T`, the last time.
    fn horizon(&self) -> f64 {
        1.0
    }
    /// `ε`, the first time used in training and likelihoods (score_flow: 1e-5 for VP).
    fn epsilon(&self) -> f64 {
        1e-5
    }
    /// `N`, the steps of the discrete-time chain that the process is, or stands for.
    fn steps(&self) -> usize {
        1000
    }
    /// `σ_t`.
    fn sigma(&self, t: f64) -> f64 {
        self.sigma2(t).sqrt()
    }
    /// `ln(α_t²/σ_t²)`: falls from +∞ at 0.
    fn log_snr(&self, t: f64) -> f64 {
        2.0 * self.alpha(t).ln() - self.sigma2(t).ln()
    }
    /// The importance-sampled time of ScoreFlow §5: density ∝ `g²/σ²` on `[ε, T]`, by exact
    /// inversion of its law at `u ∈ [0, 1]`.
    fn importance_time(&self, u: f64) -> f64;
    /// `Z = ∫_ε^T g²/σ² dt`, the normaliser of [`Schedule::importance_time`]'s density.
    fn importance_normalizer(&self) -> f64;
}

/// `x_t = m x_s + k ε'`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Transition {
    /// `m = α_t/α_s`.
    pub m: f64,
    /// `k² = σ_t² − m² σ_s²`.
    pub k2: f64,
}

/// Schedules as plain data, for configuration files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ScheduleConfig {
    /// Variance preserving with linear `β(t)` from `beta_min` to `beta_max`.
    Vp {
        /// `β₀`.
        beta_min: f64,
        /// `β₁`.
        beta_max: f64,
    },
    /// Variance preserving with the cosine law of Nichol & Dhariwal.
    Cosine {
        /// Their `s`.
        offset: f64,
    },
    /// The schedule (18) of the Likelihood Matching paper, in `steps` steps.
    Theory {
        /// The paper's `T`.
        steps: usize,
        /// `c₀`.
        c0: f64,
        /// `c₁`.
        c1: f64,
    },
    /// A discrete-time chain, `t = i/steps` its step `i`.
    Discrete {
        /// `N`.
        steps: usize,
        /// How its variances run.
        law: StepLaw,
        /// `β_1`.
        beta_start: f64,
        /// `β_N`.
        beta_end: f64,
    },
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        ScheduleConfig::Vp { beta_min: 0.1, beta_max: 20.0 }
    }
}

impl ScheduleConfig {
    /// The schedule, or an error that names the field.
    pub fn build(&self) -> Result<Arc<dyn Schedule>> {
        let bad = |field: &str, problem: String, remedy: &str| Err(Error::config(field, problem, remedy));
        match *self {
            ScheduleConfig::Vp { beta_min, beta_max } => {
                if !(beta_min > 0.0 && beta_max >= beta_min && beta_max.is_finite()) {
                    return bad(
                        "schedule",
                        format!("beta_min = {beta_min}, beta_max = {beta_max}"),
                        "give 0 < beta_min <= beta_max (0.1 and 20 are usual)",
                    );
                }
                Ok(Arc::new(Vp::linear(beta_min, beta_max)))
            }
            ScheduleConfig::Cosine { offset } => {
                if !(offset > 0.0 && offset < 1.0) {
                    return bad(
                        "schedule.offset",
                        format!("{offset}"),
                        "give a number between 0 and 1 (0.008 is usual)",
                    );
                }
                Ok(Arc::new(Vp::cosine(offset)))
            }
            ScheduleConfig::Discrete { steps, law, beta_start, beta_end } => {
                Error::check_count("schedule.steps", steps, 1_000_000)?;
                if steps < 2 || !(0.0 < beta_start && beta_start <= beta_end && beta_end < 1.0) {
                    return bad(
                        "schedule",
                        format!("steps = {steps}, beta_start = {beta_start}, beta_end = {beta_end}"),
                        "give two steps or more and 0 < beta_start <= beta_end < 1 (1e-4 and 0.02 are usual for 1000)",
                    );
                }
                let betas = law.betas(steps, beta_start, beta_end);
                Ok(Arc::new(Vp::discrete(betas).with_epsilon(1.0 / steps as f64)))
            }
            ScheduleConfig::Theory { steps, c0, c1 } => {
                let rate = c1 * (steps as f64).ln() / steps as f64;
                if steps < 2 || c0.is_nan() || c0 <= 0.0 || !(rate > 0.0 && rate < 1.0) {
                    return bad(
                        "schedule",
                        format!("steps = {steps}, c0 = {c0}, c1 = {c1}"),
                        "the schedule (18) needs steps >= 2, c0 > 0 and 0 < c1 ln(steps)/steps < 1",
                    );
                }
                Ok(Arc::new(Vp::theory(steps, c0, c1)))
            }
        }
    }
}
