//! The variance-exploding process of Song et al. 2021, §3.4: `α_t = 1`, `σ_t² = σ(t)² − σ(0)²`.

use super::{Schedule, Transition};

/// `f = 0`, `g² = dσ(t)²/dt` with `σ(t) = σ_min (σ_max/σ_min)^t`. Started in the data, not in the data blurred by
/// `σ_min`: `σ_0 = 0`. `ε = 1e-5`.
#[derive(Clone, Debug, PartialEq)]
pub struct Ve {
    sigma_min: f64,
    /// `2 ln(σ_max/σ_min)`.
    rate: f64,
    epsilon: f64,
}

impl Default for Ve {
    /// `σ` from 0.01 to 50, `ε = 1e-5`.
    fn default() -> Self {
        Ve::geometric(0.01, 50.0)
    }
}

impl Ve {
    /// Geometric `σ(t)`; `0 < sigma_min < sigma_max`. `sigma_max` should be several times the data's diameter, or the data
    /// can still be seen in `x_T`.
    pub fn geometric(sigma_min: f64, sigma_max: f64) -> Ve {
        assert!(sigma_min > 0.0 && sigma_max > sigma_min, "σ from {sigma_min} to {sigma_max}");
        Ve { sigma_min, rate: 2.0 * (sigma_max / sigma_min).ln(), epsilon: 1e-5 }
    }

    /// The same process with another first time `ε`.
    pub fn with_epsilon(self, epsilon: f64) -> Ve {
        Ve { epsilon, ..self }
    }

    /// `σ(t)²`.
    fn blur2(&self, t: f64) -> f64 {
        self.sigma_min.powi(2) * (self.rate * t).exp()
    }
}

impl Schedule for Ve {
    fn alpha(&self, _t: f64) -> f64 {
        1.0
    }
    fn sigma2(&self, t: f64) -> f64 {
        self.sigma_min.powi(2) * (self.rate * t).exp_m1()
    }
    fn drift(&self, _t: f64) -> f64 {
        0.0
    }
    fn diffusion2(&self, t: f64) -> f64 {
        self.rate * self.blur2(t)
    }
    fn transition(&self, s: f64, t: f64) -> Transition {
        Transition { m: 1.0, k2: self.blur2(s) * (self.rate * (t - s)).exp_m1() }
    }
    fn epsilon(&self) -> f64 {
        self.epsilon
    }
    fn time_of_log_snr(&self, log_snr: f64) -> f64 {
        (((-log_snr).exp() / self.sigma_min.powi(2)).ln_1p() / self.rate).clamp(0.0, 1.0)
    }
}
