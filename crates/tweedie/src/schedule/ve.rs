//! The variance-exploding process of Song et al. 2021, §3.4 and appendix C: `α_t = 1`,
//! `σ_t = σ_min (σ_max/σ_min)^t`.

use super::{Schedule, Transition};

/// `f = 0`, `g² = dσ_t²/dt` with `σ_t = σ_min (σ_max/σ_min)^t` for `t > 0`, and `σ_0 = 0` at the
/// data themselves: the noise jumps to `σ_min` right after them, so that no time is spent on levels
/// below it. `g²/σ²` is the constant `2 ln(σ_max/σ_min)`: the likelihood weighting is the `σ²`
/// weighting up to a factor, and uniform times are the importance-sampled ones (ScoreFlow, Table
/// 1). `ε = 1e-5`.
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
    /// Geometric `σ(t)`; `0 < sigma_min < sigma_max`. `sigma_max` should be several times the
    /// data's diameter, or the data can still be seen in `x_T`.
    pub fn geometric(sigma_min: f64, sigma_max: f64) -> Ve {
        assert!(sigma_min > 0.0 && sigma_max > sigma_min, "σ from {sigma_min} to {sigma_max}");
        Ve { sigma_min, rate: 2.0 * (sigma_max / sigma_min).ln(), epsilon: 1e-5 }
    }

    /// The same process with another first time `ε`.
    pub fn with_epsilon(self, epsilon: f64) -> Ve {
        Ve { epsilon, ..self }
    }

    /// `σ_t²` right after the data and later.
    fn blur2(&self, t: f64) -> f64 {
        self.sigma_min.powi(2) * (self.rate * t).exp()
    }
}

impl Schedule for Ve {
    fn alpha(&self, _t: f64) -> f64 {
        1.0
    }
    fn sigma2(&self, t: f64) -> f64 {
        if t > 0.0 { self.blur2(t) } else { 0.0 }
    }
    fn drift(&self, _t: f64) -> f64 {
        0.0
    }
    fn diffusion2(&self, t: f64) -> f64 {
        self.rate * self.blur2(t)
    }
    fn transition(&self, s: f64, t: f64) -> Transition {
        // from the data themselves there is the jump to σ_min beside the rest
        let k2 =
            if s > 0.0 { self.blur2(s) * (self.rate * (t - s)).exp_m1() } else { self.sigma2(t) };
        Transition { m: 1.0, k2 }
    }
    fn epsilon(&self) -> f64 {
        self.epsilon
    }
    /// Ratios above `1/σ_min²`, which no time has, are at the data.
    fn time_of_log_snr(&self, log_snr: f64) -> f64 {
        ((-log_snr - 2.0 * self.sigma_min.ln()) / self.rate).clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::Weighting;

    /// Song et al. 2021, appendix C, with their numbers: `σ_t = 0.01 · 5000^t` at every t > 0, none
    /// at the data.
    #[test]
    fn is_the_process_of_the_paper() {
        let ve = Ve::default();
        for (t, sigma) in [(1e-12, 0.01), (0.5, 0.01 * 5000f64.sqrt()), (1.0, 50.0)] {
            assert!((ve.sigma(t) / sigma - 1.0).abs() < 1e-10, "σ({t}) = {}", ve.sigma(t));
        }
        assert_eq!((ve.sigma(0.0), ve.alpha(0.3), ve.drift(0.3)), (0.0, 1.0, 0.0));
        assert_eq!(ve.transition(0.0, 0.4).k2, ve.sigma2(0.4));
    }

    /// ScoreFlow, Table 1: under VE the likelihood weighting is the plain one times
    /// `2 ln(σ_max/σ_min)`, and importance-sampled times are uniform.
    #[test]
    fn the_two_weightings_are_one() {
        let ve = Ve::default();
        let rate = 2.0 * 5000f64.ln();
        for t in [1e-5, 1e-3, 0.2, 1.0] {
            assert!((Weighting::Likelihood.at(&ve, t) / rate - 1.0).abs() < 1e-12, "at {t}");
        }
        for u in [0.0, 0.3, 1.0] {
            let uniform = 1e-5 + (1.0 - 1e-5) * u;
            assert!(
                (ve.importance_time(u) - uniform).abs() < 1e-12,
                "{u}: {}",
                ve.importance_time(u)
            );
        }
    }
}
