//! The sub-variance-preserving process of Song et al. 2021, §3.4: `α_t = exp(−½B(t))`,
//! `σ_t = 1 − exp(−B(t))`.

use super::{BetaSchedule, Schedule, Transition};

/// `f = −½β`, `g² = β (1 − e^{−2B})`: the drift of [`super::Vp`] with less noise at every `t > 0`.
/// Its noise vanishes as `t`, not as `√t`, so near 0 the score is steep: `ε = 1e-2` (ScoreFlow).
#[derive(Clone, Debug, PartialEq)]
pub struct SubVp {
    beta: BetaSchedule,
    epsilon: f64,
}

impl Default for SubVp {
    /// `β` from 0.1 to 20, `ε = 1e-2`.
    fn default() -> Self {
        SubVp::linear(0.1, 20.0)
    }
}

impl SubVp {
    /// Linear `β(t)`; `0 < beta_min ≤ beta_max`.
    pub fn linear(beta_min: f64, beta_max: f64) -> SubVp {
        assert!(beta_min > 0.0 && beta_max >= beta_min, "β from {beta_min} to {beta_max}");
        SubVp { beta: BetaSchedule::Linear { beta_min, beta_max }, epsilon: 1e-2 }
    }

    /// The same process with another first time `ε`.
    pub fn with_epsilon(self, epsilon: f64) -> SubVp {
        SubVp { epsilon, ..self }
    }
}

impl Schedule for SubVp {
    fn alpha(&self, t: f64) -> f64 {
        (-0.5 * self.beta.integral(t)).exp()
    }
    fn sigma(&self, t: f64) -> f64 {
        -(-self.beta.integral(t)).exp_m1()
    }
    fn sigma2(&self, t: f64) -> f64 {
        self.sigma(t).powi(2)
    }
    fn drift(&self, t: f64) -> f64 {
        -0.5 * self.beta.rate(t)
    }
    fn diffusion2(&self, t: f64) -> f64 {
        -self.beta.rate(t) * (-2.0 * self.beta.integral(t)).exp_m1()
    }
    /// With `m = e^{−δ/2}`, `δ = B(t) − B(s)`:
    /// `k² = σ_t² − m² σ_s² = (1 − m)(1 + e^{−B(s)} m)(σ_t + m σ_s)`, in which nothing cancels.
    fn transition(&self, s: f64, t: f64) -> Transition {
        let half = 0.5 * self.beta.increment(s, t);
        let (m, kept) = ((-half).exp(), (-self.beta.integral(s)).exp());
        Transition {
            m,
            k2: -(-half).exp_m1() * (1.0 + kept * m) * (self.sigma(t) + m * self.sigma(s)),
        }
    }
    fn epsilon(&self) -> f64 {
        self.epsilon
    }
    /// `σ/α = 2 sinh(B/2)`.
    fn log_snr(&self, t: f64) -> f64 {
        -2.0 * (2.0 * (0.5 * self.beta.integral(t)).sinh()).ln()
    }
    fn time_of_log_snr(&self, log_snr: f64) -> f64 {
        self.beta.inverse(2.0 * (0.5 * (-0.5 * log_snr).exp()).asinh())
    }
}
