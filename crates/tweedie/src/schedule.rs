//! Noise schedules: the coefficients of the forward process, `f64 → f64`.
//!
//! Forward: `dx = f(t) x dt + g(t) dW`, with marginals `x_t = α_t x_0 + σ_t ε` (Song et al. 2021,
//! "Score-Based Generative Modeling through SDEs", §3). For `s < t` the transition is
//! `x_t = m x_s + k ε'` with `m = α_t/α_s`, `k² = σ_t² − m² σ_s²`.
//!
//! ```
//! use tweedie::schedule::{Schedule, ScheduleConfig, Transition};
//!
//! # fn main() -> tweedie::Result<()> {
//! let schedule = ScheduleConfig::cosine().build()?;
//! let (s, t) = (0.2, 0.6);
//! assert!((schedule.alpha(t).powi(2) + schedule.sigma2(t) - 1.0).abs() < 1e-12);
//! // the marginal at s and the transition from s to t make the marginal at t
//! let Transition { m, k2 } = schedule.transition(s, t);
//! assert!((m * schedule.alpha(s) - schedule.alpha(t)).abs() < 1e-12);
//! assert!((m * m * schedule.sigma2(s) + k2 - schedule.sigma2(t)).abs() < 1e-12);
//! # Ok(())
//! # }
//! ```

mod discrete;
mod sub_vp;
mod ve;
mod vp;

use std::fmt::Debug;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::choice::Preset;
use crate::{Error, Result};
pub use discrete::StepLaw;
pub use sub_vp::SubVp;
pub use ve::Ve;
pub use vp::{BetaSchedule, Vp};

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
    /// The distribution of `x_t` given `x_s`, `0 ≤ s ≤ t`.
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
    /// Whether the process is that chain, and not a process in continuous time that it stands for.
    fn is_chain(&self) -> bool {
        false
    }
    /// `σ_t`.
    fn sigma(&self, t: f64) -> f64 {
        self.sigma2(t).sqrt()
    }
    /// `ln(α_t²/σ_t²)`: falls from +∞ at 0.
    fn log_snr(&self, t: f64) -> f64 {
        2.0 * self.alpha(t).ln() - self.sigma2(t).ln()
    }
    /// The importance-sampled time of ScoreFlow, (12): density ∝ `g²/σ²` on `[ε, T]`, by exact
    /// inversion of its distribution function at `u ∈ [0, 1]`. Since `g²/σ² = −d ln(α²/σ²)/dt` for
    /// every linear drift, it is uniform in the log signal-to-noise ratio.
    fn importance_time(&self, u: f64) -> f64 {
        let log_snr = self.log_snr(self.epsilon()) - u * self.importance_normalizer();
        self.time_of_log_snr(log_snr).clamp(self.epsilon(), self.horizon())
    }
    /// `Z = ∫_ε^T g²/σ² dt`, the normaliser of [`Schedule::importance_time`]'s density.
    fn importance_normalizer(&self) -> f64 {
        self.log_snr(self.epsilon()) - self.log_snr(self.horizon())
    }
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
    /// Sub-variance-preserving with linear `β(t)`.
    SubVp {
        /// `β₀`.
        beta_min: f64,
        /// `β₁`.
        beta_max: f64,
    },
    /// Variance exploding.
    Ve {
        /// `σ` right after the data, in units of the scaled data.
        sigma_min: f64,
        /// `σ(1)`.
        sigma_max: f64,
    },
    /// Variance preserving with the cosine schedule of Nichol & Dhariwal.
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

/// The forward processes that have a name.
pub const PRESETS: [Preset; 4] = [
    Preset::new("vp", "schedule.kind = 'vp'", "Variance preserving, linear β"),
    Preset::new("sub-vp", "schedule.kind = 'sub-vp'", "Sub-variance-preserving, linear β"),
    Preset::new("ve", "schedule.kind = 've'", "Variance exploding, geometric σ"),
    Preset::new("cosine", "schedule.kind = 'cosine'", "Variance preserving, the cosine schedule"),
];

impl ScheduleConfig {
    /// Sub-variance-preserving, `β` from 0.1 to 20 as the default.
    pub fn sub_vp() -> ScheduleConfig {
        ScheduleConfig::SubVp { beta_min: 0.1, beta_max: 20.0 }
    }

    /// Variance exploding, `σ` from 0.01 to 50.
    pub fn ve() -> ScheduleConfig {
        ScheduleConfig::Ve { sigma_min: 0.01, sigma_max: 50.0 }
    }

    /// The cosine schedule with offset 0.008.
    pub fn cosine() -> ScheduleConfig {
        ScheduleConfig::Cosine { offset: 0.008 }
    }

    /// Every kind of schedule with its usual numbers.
    pub fn kinds() -> Vec<ScheduleConfig> {
        let (law, beta_start, beta_end) = (StepLaw::Linear, 1e-4, 0.02);
        vec![
            ScheduleConfig::default(),
            ScheduleConfig::sub_vp(),
            ScheduleConfig::ve(),
            ScheduleConfig::cosine(),
            ScheduleConfig::Theory { steps: 1000, c0: 1.0, c1: 3.0 },
            ScheduleConfig::Discrete { steps: 1000, law, beta_start, beta_end },
        ]
    }

    /// The kind in words.
    pub fn name(&self) -> &'static str {
        match self {
            ScheduleConfig::Vp { .. } => "VP",
            ScheduleConfig::SubVp { .. } => "subVP",
            ScheduleConfig::Ve { .. } => "VE",
            ScheduleConfig::Cosine { .. } => "VP, cosine",
            ScheduleConfig::Theory { .. } => "VP, theory",
            ScheduleConfig::Discrete { .. } => "VP, discrete",
        }
    }

    /// The schedule, or an error that names the field.
    pub fn build(&self) -> Result<Arc<dyn Schedule>> {
        let bad =
            |field: &str, problem: String, remedy: &str| Err(Error::config(field, problem, remedy));
        match *self {
            ScheduleConfig::Vp { beta_min, beta_max }
            | ScheduleConfig::SubVp { beta_min, beta_max } => {
                if !(beta_min > 0.0 && beta_max >= beta_min && beta_max.is_finite()) {
                    return bad(
                        "schedule",
                        format!("beta_min = {beta_min}, beta_max = {beta_max}"),
                        "give 0 < beta_min <= beta_max (0.1 and 20 are usual)",
                    );
                }
                Ok(match self {
                    ScheduleConfig::SubVp { .. } => Arc::new(SubVp::linear(beta_min, beta_max)),
                    _ => Arc::new(Vp::linear(beta_min, beta_max)),
                })
            }
            ScheduleConfig::Ve { sigma_min, sigma_max } => {
                if !(sigma_min > 0.0 && sigma_max > sigma_min && sigma_max.is_finite()) {
                    return bad(
                        "schedule",
                        format!("sigma_min = {sigma_min}, sigma_max = {sigma_max}"),
                        "give 0 < sigma_min < sigma_max (0.01 and 50 are usual)",
                    );
                }
                Ok(Arc::new(Ve::geometric(sigma_min, sigma_max)))
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
                        format!(
                            "steps = {steps}, beta_start = {beta_start}, beta_end = {beta_end}"
                        ),
                        "give two steps or more and 0 < beta_start <= beta_end < 1 (1e-4 and 0.02 \
                         are usual for 1000)",
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

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Arc<dyn Schedule>> {
        vec![
            Arc::new(Vp::default()),
            Arc::new(Vp::cosine(0.008)),
            Arc::new(Vp::theory(200, 2.0, 5.0)),
            Arc::new(SubVp::default()),
            Arc::new(Ve::default()),
        ]
    }

    /// Those with a smooth `β`.
    fn smooth() -> Vec<Arc<dyn Schedule>> {
        all()
            .into_iter()
            .enumerate()
            .filter(|(i, _)| *i != 2)
            .map(|(_, schedule)| schedule)
            .collect()
    }

    #[test]
    fn marginals_compose_through_transitions() {
        for schedule in all() {
            for (s, t) in [(0.0, 1e-5), (1e-5, 1e-4), (0.01, 0.011), (0.1, 0.7), (0.3, 1.0)] {
                let Transition { m, k2 } = schedule.transition(s, t);
                assert!(
                    (m * schedule.alpha(s) - schedule.alpha(t)).abs() < 1e-13,
                    "{schedule:?} m"
                );
                let composed = m * m * schedule.sigma2(s) + k2;
                assert!(
                    k2 > 0.0 && (composed / schedule.sigma2(t) - 1.0).abs() < 1e-12,
                    "{schedule:?} k²"
                );
            }
        }
    }

    /// A gap of 1e-9 at t = 0.3: `k² = g² h (1 + O(h))`, to ten digits where a difference of
    /// variances has six.
    #[test]
    fn small_gaps_keep_their_digits() {
        for schedule in smooth() {
            let (s, h) = (0.3, 2f64.powi(-30));
            let k2 = schedule.transition(s, s + h).k2;
            let middle = schedule.diffusion2(s + 0.5 * h) * h;
            // k² = g²(middle) h (1 + f h) up to h²
            let expected = middle * (1.0 + schedule.drift(s) * h);
            assert!((k2 / expected - 1.0).abs() < 1e-9, "{schedule:?}: {k2} {expected}");
        }
    }

    /// dα/dt = f α and dσ²/dt = 2 f σ² + g², by central differences.
    #[test]
    fn drift_and_diffusion_are_the_derivatives() {
        for schedule in smooth() {
            for t in [0.01, 0.2, 0.5, 0.9] {
                let h = 1e-6;
                let dalpha = (schedule.alpha(t + h) - schedule.alpha(t - h)) / (2.0 * h);
                assert!(
                    (dalpha - schedule.drift(t) * schedule.alpha(t)).abs() < 1e-7,
                    "{schedule:?} at {t}"
                );
                let dsigma2 = (schedule.sigma2(t + h) - schedule.sigma2(t - h)) / (2.0 * h);
                let expected =
                    2.0 * schedule.drift(t) * schedule.sigma2(t) + schedule.diffusion2(t);
                assert!(
                    (dsigma2 - expected).abs() < 1e-6 * (1.0 + expected),
                    "{schedule:?} at {t}"
                );
            }
        }
    }

    #[test]
    fn inverse_laws() {
        for schedule in all() {
            for t in [1e-4, 1e-2, 0.3, 0.77, 0.99] {
                let back = schedule.time_of_log_snr(schedule.log_snr(t));
                assert!(
                    (back - t).abs() < 1e-9 * (1.0 + t),
                    "{schedule:?}: {t} came back as {back}"
                );
            }
        }
    }

    /// Against a midpoint sum of g²/σ² in ln t, and METHODS' values for ε = 1e-5 (VP) and 1e-2
    /// (subVP).
    #[test]
    fn importance_laws_invert_their_integrals() {
        assert!((Vp::default().importance_normalizer() - 23.86).abs() < 0.005);
        assert!((SubVp::default().importance_normalizer() - 22.48).abs() < 0.005);
        // the cosine schedule's β has all but a pole at T, which this sum cannot see
        for schedule in
            smooth().into_iter().filter(|schedule| !format!("{schedule:?}").contains("Cosine"))
        {
            for u in [0.1, 0.5, 0.9, 1.0] {
                let t = schedule.importance_time(u);
                let (a, b, n) = (schedule.epsilon().ln(), t.ln(), 40_000);
                let h = (b - a) / n as f64;
                let sum: f64 = (0..n)
                    .map(|i| (a + (i as f64 + 0.5) * h).exp())
                    .map(|t| schedule.diffusion2(t) / schedule.sigma2(t) * t * h)
                    .sum();
                assert!(
                    (sum / schedule.importance_normalizer() - u).abs() < 1e-6,
                    "{schedule:?} {u}: {sum}"
                );
            }
        }
    }

    /// The closed forms of ScoreFlow's inverse distribution functions: VP `B = ln(1 + (e^{B(ε)} −
    /// 1) e^q)`, subVP `B = 2 asinh(sinh(B(ε)/2) e^{q/2})`, `q = u Z`.
    #[test]
    fn importance_laws_are_the_closed_forms() {
        let beta = BetaSchedule::Linear { beta_min: 0.1, beta_max: 20.0 };
        for u in [0.0, 0.2, 0.7, 1.0] {
            let vp = Vp::default();
            let q = u * vp.importance_normalizer();
            let b = (beta.integral(1e-5).exp_m1() * q.exp()).ln_1p();
            assert!((beta.integral(vp.importance_time(u)) / b - 1.0).abs() < 1e-10);
            let sub = SubVp::default();
            let q = u * sub.importance_normalizer();
            let b = 2.0 * ((0.5 * beta.integral(1e-2)).sinh() * (0.5 * q).exp()).asinh();
            assert!((beta.integral(sub.importance_time(u)) / b - 1.0).abs() < 1e-10);
        }
    }

    /// At t = 1e-9 to full relative precision, by the leading terms of the series.
    #[test]
    fn accurate_near_zero() {
        let t = 1e-9;
        let b = 0.1 * t + 0.5 * 19.9 * t * t;
        assert!((SubVp::default().sigma(t) / (b - 0.5 * b * b) - 1.0).abs() < 1e-14);
        // VE's noise starts at σ_min: what is small there is the variance of a step, not the level
        let c = 2.0 * 5000f64.ln() * t;
        let step = Ve::default().transition(t, 2.0 * t).k2;
        assert!((step / (1e-4 * (c + 1.5 * c * c)) - 1.0).abs() < 1e-13);
    }
}
