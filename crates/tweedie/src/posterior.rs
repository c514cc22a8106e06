//! Tweedie's two formulas and the Gaussian bridge: from (`ε̂`, `G`) to the distribution of `x_s`
//! given `x_t`.
//!
//! With the score `s = ∇ln p_t(x_t) = −ε̂/σ_t` and its Hessian `H`, and
//! `G = I + σ_t² H = Cov[ε|x_t] ⪰ 0`:
//!
//! - `μ₀ = E[x_0|x_t] = (x_t − σ_t ε̂)/α_t`
//! - `C₀ = Cov[x_0|x_t] = (σ_t²/α_t²) G`
//!
//! Methods differ only in how they compute `G`; what follows from it is here.
//!
//! ```
//! use std::sync::Arc;
//! use tweedie::model::Denoiser;
//! use tweedie::oracle::{GaussianMixture, Oracle};
//! use tweedie::posterior::posterior;
//! use tweedie::query::{Query, Times};
//! use tweedie::schedule::{Schedule, Vp};
//! use tweedie::tch::Tensor;
//!
//! # fn main() -> tweedie::Result<()> {
//! let schedule = Arc::new(Vp::default());
//! let oracle = Oracle::new(GaussianMixture::new(&[1.0], &[[0.0]], &[1.0])?, schedule.clone());
//! let (x, times) = (Tensor::from_slice2(&[[1.5]]), Times::All(0.3));
//! let moments = oracle.moments(&Query::new(&x, &times));
//! let clean = posterior(&x, &moments, &*schedule, &times);
//!
//! // standard normal data: x_0 given x_t is N(α_t x_t, σ_t²)
//! let (alpha, variance) = (schedule.alpha(0.3), schedule.sigma2(0.3));
//! assert!((clean.mean.double_value(&[0, 0]) - alpha * 1.5).abs() < 1e-12);
//! assert!((clean.cov.trace().double_value(&[0]) - variance).abs() < 1e-12);
//! # Ok(())
//! # }
//! ```

use tch::Tensor;

use crate::gaussian::Gaussian;
use crate::query::{Coefficient, Times, step_coefficients};
use crate::schedule::{Schedule, Transition};
use crate::sym_matrix::SymMatrix;

/// A model's output for `x_t`: mean and covariance of the noise in it.
#[derive(Debug)]
pub struct NoiseMoments {
    /// `ε̂ = E[ε|x_t]`, `[b, d]`.
    pub noise: Tensor,
    /// `G = Cov[ε|x_t]`.
    pub cov: SymMatrix,
    /// The output of the model's head, where that is another quantity than `G`.
    pub head: Option<HeadOutput>,
}

/// The output of a covariance head that does not give `G` itself.
#[derive(Debug)]
pub enum HeadOutput {
    /// `h = E[ε²|x_t]`, coordinate by coordinate, `[b, d]`, as the head gives it; `G` is
    /// `diag(h − ε̂²)` held in a range (SN).
    SecondMoment(Tensor),
    /// `v`, coordinate by coordinate, `[b, d]`: where between β̃ (−1) and β (1) the variance of a
    /// step lies (I-DDPM). `G` does not depend on it and is the base's.
    Interpolation(Tensor),
}

impl NoiseMoments {
    /// Mean and covariance, and nothing besides.
    pub fn new(noise: Tensor, cov: SymMatrix) -> NoiseMoments {
        NoiseMoments { noise, cov, head: None }
    }

    /// `E[ε²|x_t] = ε̂² + diag G`, coordinate by coordinate, `[b, d]`; the head's own output, where
    /// it gives a second moment.
    pub fn second_moment(&self) -> Tensor {
        match &self.head {
            Some(HeadOutput::SecondMoment(h)) => h.shallow_clone(),
            _ => self.noise.square() + self.cov.diagonal(),
        }
    }
}

/// The score `−ε̂/σ_t`, `[b, d]`.
pub fn score(noise: &Tensor, schedule: &dyn Schedule, times: &Times) -> Tensor {
    let (_, sigma) = times.marginal(schedule, noise.device());
    -(noise / &sigma)
}

/// `E[x_0|x_t] = (x_t − σ_t ε̂)/α_t`, `[b, d]` (Tweedie 1).
pub fn clean_mean(x: &Tensor, noise: &Tensor, schedule: &dyn Schedule, times: &Times) -> Tensor {
    let (alpha, sigma) = times.marginal(schedule, x.device());
    (x - noise * &sigma) / &alpha
}

/// The posterior of the clean data, `N(μ₀, C₀)`, for rows `x_t` `[b, d]` (Tweedie 1 and 2).
pub fn posterior(
    x: &Tensor,
    moments: &NoiseMoments,
    schedule: &dyn Schedule,
    times: &Times,
) -> Gaussian {
    bridge(x, &moments.noise, &moments.cov, schedule, &Times::All(0.0), times, 1.0)
}

/// The bridge's coefficients for one pair of times: `E[x_s|x_t] = x_t/m − c ε̂`,
/// `Cov[x_s|x_t] = λ² I + c² G`.
///
/// This is `a μ₀ + b x_t` and `λ² I + a² C₀` with `λ² = η² σ_s² k²/σ_t²`, `b = √(σ_s² − λ²)/σ_t`,
/// `a = α_s − b α_t`, written so that nothing cancels as `s → t` or `s → 0`. At `η = 1` it is
/// Proposition 2 of Likelihood Matching, at `η = 0` DDIM.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bridge {
    /// `1/m`.
    pub inv_m: f64,
    /// `c = a σ_t/α_t`.
    pub c: f64,
    /// `λ²`.
    pub lambda2: f64,
}

impl Bridge {
    /// For `0 ≤ s < t` and `η ∈ [0, 1]`.
    pub fn new(schedule: &dyn Schedule, s: f64, t: f64, eta: f64) -> Bridge {
        let Transition { m, k2 } = schedule.transition(s, t);
        let (var_s, var_t) = (schedule.sigma2(s), schedule.sigma2(t));
        let lambda2 = eta * eta * var_s * k2 / var_t;
        // σ_t/m − √(σ_s² − λ²), rationalised
        let c = (k2 / (m * m) + lambda2) / (var_t.sqrt() / m + (var_s - lambda2).max(0.0).sqrt());
        Bridge { inv_m: 1.0 / m, c, lambda2 }
    }
}

/// The distribution of `x_s` given `x_t` (`[b, d]`) for times `s < t`, from `ε̂` `[b, d]` and `G`.
pub fn bridge(
    x: &Tensor,
    noise: &Tensor,
    cov: &SymMatrix,
    schedule: &dyn Schedule,
    s: &Times,
    t: &Times,
    eta: f64,
) -> Gaussian {
    let [inv_m, c, lambda2] = step_coefficients(s, t, x.device(), |s, t| {
        let Bridge { inv_m, c, lambda2 } = Bridge::new(schedule, s, t, eta);
        [inv_m, c, lambda2]
    });
    Gaussian::new(bridge_mean(x, noise, &inv_m, &c), cov.affine(&c.square(), &lambda2))
}

/// `x_t/m − c ε̂`.
pub(crate) fn bridge_mean(
    x: &Tensor,
    noise: &Tensor,
    inv_m: &Coefficient,
    c: &Coefficient,
) -> Tensor {
    x * inv_m - noise * c
}

/// The distribution of `x_s` given `x_t` *and* `x_0`, of the forward process: mean coefficients of
/// `x_t` and `x_0`, and the variance, for `s < t`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ForwardBridge {
    /// Factor of `x_t`: `m σ_s²/σ_t²`.
    pub of_xt: f64,
    /// Factor of `x_0`: `α_s k²/σ_t²`.
    pub of_x0: f64,
    /// `σ_s² k²/σ_t²`.
    pub variance: f64,
}

impl ForwardBridge {
    /// For `0 ≤ s < t`.
    pub fn new(schedule: &dyn Schedule, s: f64, t: f64) -> ForwardBridge {
        let Transition { m, k2 } = schedule.transition(s, t);
        let (var_s, var_t) = (schedule.sigma2(s), schedule.sigma2(t));
        ForwardBridge {
            of_xt: m * var_s / var_t,
            of_x0: schedule.alpha(s) * k2 / var_t,
            variance: var_s * k2 / var_t,
        }
    }
}

/// `G` of isotropic Gaussian data with variance `v`: `α²v/(α²v + σ²)`.
pub fn isotropic_g(alpha: &Coefficient, sigma: &Coefficient, v: f64) -> Coefficient {
    let signal = alpha.square() * v;
    &signal / &(&signal + &sigma.square())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::Vp;

    /// η = 1 is Proposition 2: mean (x + k²s)/m, covariance (k²/m²)(I + k²H); η = 0 is DDIM.
    #[test]
    fn coefficients_are_those_of_the_papers() {
        let vp = Vp::default();
        for (s, t) in [(0.0, 1e-3), (1e-5, 2e-5), (0.2, 0.3), (0.5, 1.0)] {
            let Transition { m, k2 } = vp.transition(s, t);
            let (var_s, var_t) = (vp.sigma2(s), vp.sigma2(t));
            let b = Bridge::new(&vp, s, t, 1.0);
            // H = (G − I)/σ_t²: covariance of Proposition 2 = k²/m² (1 − ρ) I + k²/m² ρ G
            assert!((b.c - k2 / (m * var_t.sqrt())).abs() < 1e-12 * (1.0 + b.c), "c");
            assert!((b.c * b.c - k2 * k2 / (m * m * var_t)).abs() < 1e-12, "factor of G");
            assert!((b.lambda2 - k2 / (m * m) * (1.0 - k2 / var_t)).abs() < 1e-12, "factor of I");
            let ddim = Bridge::new(&vp, s, t, 0.0);
            let (alpha_s, alpha_t) = (vp.alpha(s), vp.alpha(t));
            let expected = alpha_s * var_t.sqrt() / alpha_t - var_s.sqrt();
            assert!((ddim.c - expected).abs() < 1e-11 && ddim.lambda2 == 0.0, "DDIM");
        }
    }
}
