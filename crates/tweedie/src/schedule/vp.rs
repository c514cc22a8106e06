//! Variance-preserving schedules: `α_t = exp(−½B(t))`, `σ_t² = 1 − exp(−B(t))`, `f = −½β`,
//! `g² = β`.

use std::f64::consts::FRAC_PI_2;

use super::{Schedule, Transition};

/// `β` as a function of time, by its integral `B(t) = ∫₀ᵗ β`.
#[derive(Clone, Debug, PartialEq)]
pub enum BetaSchedule {
    /// `β(t) = β₀ + (β₁ − β₀) t`.
    Linear {
        /// `β₀`.
        beta_min: f64,
        /// `β₁`.
        beta_max: f64,
    },
    /// `α_t² = cos²(π/2 (t+s)/(1+s)) / cos²(π/2 s/(1+s))` with `β(t)` capped, as Nichol & Dhariwal
    /// cap a step's `β` at 0.999 for 1000 steps.
    Cosine {
        /// `s`.
        offset: f64,
    },
    /// `B` known at `i/N`, linear between: a discrete-time process seen in continuous time.
    Tabulated {
        /// `B(i/N)`, `i = 0…N`, increasing from 0.
        integral: Vec<f64>,
    },
}

/// Cap of the cosine schedule's `β(t)`: `−1000 ln(1 − 0.999)`.
const COSINE_CAP: f64 = 6907.755278982137;

impl BetaSchedule {
    /// The end of the uncapped part of the cosine schedule.
    fn cosine_cap_time(offset: f64) -> f64 {
        let angle = (COSINE_CAP * (1.0 + offset) / std::f64::consts::PI).atan();
        angle / FRAC_PI_2 * (1.0 + offset) - offset
    }

    /// `B(t) − B(s)` of the uncapped cosine schedule.
    fn cosine_increment(offset: f64, s: f64, t: f64) -> f64 {
        let start = FRAC_PI_2 * (s + offset) / (1.0 + offset);
        let angle = FRAC_PI_2 * (t - s) / (1.0 + offset);
        // cos(a + δ)/cos(a) − 1, without cancellation at small δ
        let relative = -2.0 * (0.5 * angle).sin().powi(2) - start.tan() * angle.sin();
        -2.0 * relative.ln_1p()
    }

    /// `B(t)`.
    pub fn integral(&self, t: f64) -> f64 {
        match self {
            BetaSchedule::Linear { .. } | BetaSchedule::Cosine { .. } => self.increment(0.0, t),
            BetaSchedule::Tabulated { integral } => {
                let steps = integral.len() - 1;
                let i = ((t * steps as f64) as usize).min(steps - 1);
                let fraction = t * steps as f64 - i as f64;
                integral[i] + fraction * (integral[i + 1] - integral[i])
            }
        }
    }

    /// `B(t) − B(s)`, `s ≤ t`, factored so that a small gap keeps its digits.
    pub fn increment(&self, s: f64, t: f64) -> f64 {
        match self {
            BetaSchedule::Linear { beta_min, beta_max } => {
                (t - s) * (beta_min + 0.5 * (beta_max - beta_min) * (t + s))
            }
            BetaSchedule::Cosine { offset } => {
                let cap = Self::cosine_cap_time(*offset);
                let curved =
                    if s < cap { Self::cosine_increment(*offset, s, t.min(cap)) } else { 0.0 };
                curved + COSINE_CAP * (t - cap.max(s)).max(0.0)
            }
            BetaSchedule::Tabulated { .. } => self.integral(t) - self.integral(s),
        }
    }

    /// `β(t)`.
    pub fn rate(&self, t: f64) -> f64 {
        match self {
            BetaSchedule::Linear { beta_min, beta_max } => beta_min + (beta_max - beta_min) * t,
            BetaSchedule::Cosine { offset } => {
                let angle = FRAC_PI_2 * (t + offset) / (1.0 + offset);
                if t >= Self::cosine_cap_time(*offset) {
                    COSINE_CAP
                } else {
                    std::f64::consts::PI / (1.0 + offset) * angle.tan()
                }
            }
            BetaSchedule::Tabulated { integral } => {
                let steps = integral.len() - 1;
                let i = ((t * steps as f64) as usize).min(steps - 1);
                (integral[i + 1] - integral[i]) * steps as f64
            }
        }
    }

    /// The `t` with `B(t) = integral`, clamped to `[0, 1]`.
    pub fn inverse(&self, value: f64) -> f64 {
        let t = match self {
            BetaSchedule::Linear { beta_min, beta_max } => {
                // the root of the quadratic in the form that loses nothing at small B
                2.0 * value
                    / (beta_min
                        + (beta_min * beta_min + 2.0 * (beta_max - beta_min) * value).sqrt())
            }
            BetaSchedule::Cosine { offset } => {
                let cap = Self::cosine_cap_time(*offset);
                let at_cap = Self::cosine_increment(*offset, 0.0, cap);
                if value >= at_cap {
                    cap + (value - at_cap) / COSINE_CAP
                } else {
                    // with c = cos(a+δ)/cos(a) = exp(−B/2): 1 − c = 2 sin²(δ/2) + tan(a) sin δ;
                    // Newton from the arccosine, which alone cancels near 0
                    let start = FRAC_PI_2 * offset / (1.0 + offset);
                    let mut delta =
                        ((-0.5 * value).exp() * start.cos()).clamp(-1.0, 1.0).acos() - start;
                    for _ in 0..4 {
                        let t = (delta * (1.0 + offset) / FRAC_PI_2).clamp(0.0, cap);
                        let error = Self::cosine_increment(*offset, 0.0, t) - value;
                        let slope = 2.0 * (start + delta).tan();
                        delta = (delta - error / slope).max(0.0);
                    }
                    delta * (1.0 + offset) / FRAC_PI_2
                }
            }
            BetaSchedule::Tabulated { integral } => {
                let steps = integral.len() - 1;
                let i = integral.partition_point(|&b| b <= value).clamp(1, steps) - 1;
                (i as f64 + (value - integral[i]) / (integral[i + 1] - integral[i])) / steps as f64
            }
        };
        t.clamp(0.0, 1.0)
    }
}

/// A variance-preserving process on `[0, 1]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Vp {
    beta: BetaSchedule,
    epsilon: f64,
}

impl Default for Vp {
    /// `β` from 0.1 to 20, `ε = 1e-5`.
    fn default() -> Self {
        Vp::linear(0.1, 20.0)
    }
}

impl Vp {
    /// Linear `β(t)`; `0 < beta_min ≤ beta_max`.
    pub fn linear(beta_min: f64, beta_max: f64) -> Vp {
        assert!(beta_min > 0.0 && beta_max >= beta_min, "β from {beta_min} to {beta_max}");
        Vp { beta: BetaSchedule::Linear { beta_min, beta_max }, epsilon: 1e-5 }
    }

    /// Cosine schedule with offset `s` (0.008 in the paper).
    pub fn cosine(offset: f64) -> Vp {
        assert!(offset > 0.0 && offset < 1.0, "offset {offset}");
        Vp { beta: BetaSchedule::Cosine { offset }, epsilon: 1e-5 }
    }

    /// The schedule (18) of Likelihood Matching (after Li et al. 2023) with `T = steps`:
    /// `β₁ = T^{−c0}`, `β_{t+1} = (c1 ln T/T) min{β₁ (1 + c1 ln T/T)^t, 1}`, where `β` is a step's
    /// `1 − α`.
    pub fn theory(steps: usize, c0: f64, c1: f64) -> Vp {
        let horizon = steps as f64;
        let rate = c1 * horizon.ln() / horizon;
        assert!(steps >= 2 && rate < 1.0, "the schedule (18) needs c1 ln(T)/T < 1, got {rate}");
        let first = horizon.powf(-c0);
        let betas = (0..steps).map(|t| match t {
            0 => first,
            _ => rate * (first * (1.0 + rate).powi(t as i32)).min(1.0),
        });
        let mut vp = Vp::discrete(betas);
        vp.epsilon = 1.0 / horizon;
        vp
    }

    /// A discrete-time chain with these step variances `β_i`, as a process on `[0, 1]`:
    /// `−ln(1 − β_i)` is the increment of `B` over step `i`.
    pub fn discrete(betas: impl IntoIterator<Item = f64>) -> Vp {
        let mut integral = vec![0.0];
        for beta in betas {
            assert!(beta > 0.0 && beta < 1.0, "a step's β must lie in (0, 1), got {beta}");
            integral.push(integral[integral.len() - 1] - (-beta).ln_1p());
        }
        assert!(integral.len() > 1, "a chain without steps");
        Vp { beta: BetaSchedule::Tabulated { integral }, epsilon: 1e-5 }
    }

    /// The same process with another first time `ε`.
    pub fn with_epsilon(mut self, epsilon: f64) -> Vp {
        self.epsilon = epsilon;
        self
    }

    /// `β` as a function of time.
    pub fn beta(&self) -> &BetaSchedule {
        &self.beta
    }
}

impl Schedule for Vp {
    fn alpha(&self, t: f64) -> f64 {
        (-0.5 * self.beta.integral(t)).exp()
    }
    fn sigma2(&self, t: f64) -> f64 {
        -(-self.beta.integral(t)).exp_m1()
    }
    fn drift(&self, t: f64) -> f64 {
        -0.5 * self.beta.rate(t)
    }
    fn diffusion2(&self, t: f64) -> f64 {
        self.beta.rate(t)
    }
    fn transition(&self, s: f64, t: f64) -> Transition {
        let increment = self.beta.increment(s, t);
        Transition { m: (-0.5 * increment).exp(), k2: -(-increment).exp_m1() }
    }
    fn epsilon(&self) -> f64 {
        self.epsilon
    }
    fn steps(&self) -> usize {
        match &self.beta {
            BetaSchedule::Tabulated { integral } => integral.len() - 1,
            _ => 1000,
        }
    }
    fn is_chain(&self) -> bool {
        matches!(self.beta, BetaSchedule::Tabulated { .. })
    }
    fn log_snr(&self, t: f64) -> f64 {
        -self.beta.integral(t).exp_m1().ln()
    }
    fn time_of_log_snr(&self, log_snr: f64) -> f64 {
        self.beta.inverse((-log_snr).exp().ln_1p())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Small-time accuracy: σ² at t = 1e-9 to full relative precision (σ² = B − B²/2 + …).
    #[test]
    fn accurate_near_zero() {
        let t = 1e-9;
        let b = 0.1 * t + 0.5 * 19.9 * t * t;
        assert!((Vp::default().sigma2(t) / (b - 0.5 * b * b) - 1.0).abs() < 1e-14);
        // cosine: B = 2 tan(a) δ + (1 + tan²a) δ² + …
        let (s, vp) = (0.008, Vp::cosine(0.008));
        let (a, d) = (FRAC_PI_2 * s / (1.0 + s), FRAC_PI_2 * t / (1.0 + s));
        let b = 2.0 * a.tan() * d + (1.0 + a.tan().powi(2)) * d * d;
        assert!((vp.beta.integral(t) / b - 1.0).abs() < 1e-13);
    }

    /// (18) step by step from the recursion as the paper states it.
    #[test]
    fn theory_schedule_has_the_papers_steps() {
        let (steps, c0, c1) = (50usize, 1.5, 4.0);
        let vp = Vp::theory(steps, c0, c1);
        let rate = c1 * 50f64.ln() / 50.0;
        let beta1 = 50f64.powf(-c0);
        for i in [1usize, 2, 10, 49, 50] {
            let expected = if i == 1 {
                beta1
            } else {
                rate * (beta1 * (1.0 + rate).powi(i as i32 - 1)).min(1.0)
            };
            let k2 = vp.transition((i - 1) as f64 / 50.0, i as f64 / 50.0).k2;
            assert!((k2 - expected).abs() < 1e-12, "step {i}: {k2} against {expected}");
        }
    }
}
