//! The step variances of discrete-time chains, as published models have them.

use serde::{Deserialize, Serialize};

/// How the step variances `β_1 … β_N` of a chain run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepLaw {
    /// Evenly from `β_1` to `β_N` (Ho et al. 2020).
    Linear,
    /// Their roots evenly from `√β_1` to `√β_N` (latent diffusion).
    ScaledLinear,
    /// `β_i = 1 − ᾱ(i/N)/ᾱ((i−1)/N)`, at most 0.999, with `ᾱ(t) = cos²(π/2 (t + 0.008)/1.008)`
    /// (Nichol & Dhariwal 2021); it has no ends of its own.
    Cosine,
}

impl StepLaw {
    /// `β_1 … β_N`.
    pub fn betas(self, steps: usize, first: f64, last: f64) -> Vec<f64> {
        let even = |a: f64, b: f64, i: usize| a + (b - a) * i as f64 / (steps.max(2) - 1) as f64;
        let kept = |i: usize| {
            let t = i as f64 / steps as f64;
            (std::f64::consts::FRAC_PI_2 * (t + 0.008) / 1.008).cos().powi(2)
        };
        let beta = |i: usize| match self {
            StepLaw::Linear => even(first, last, i),
            StepLaw::ScaledLinear => even(first.sqrt(), last.sqrt(), i).powi(2),
            StepLaw::Cosine => (1.0 - kept(i + 1) / kept(i)).min(0.999),
        };
        (0..steps).map(beta).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::ScheduleConfig;

    /// `ᾱ_1, ᾱ_500, ᾱ_1000` against `alphas_cumprod` of diffusers 0.42.1's DDPMScheduler (f32).
    #[test]
    fn equals_diffusers() {
        for (law, beta_start, beta_end, expected) in [
            (
                StepLaw::Linear,
                1e-4,
                0.02,
                [0.9998999834060669, 0.07858723402023315, 4.035830352222547e-5],
            ),
            (
                StepLaw::ScaledLinear,
                8.5e-4,
                0.012,
                [0.9991499781608582, 0.27766942977905273, 0.00466009508818388],
            ),
            (
                StepLaw::Cosine,
                1e-4,
                0.02,
                [0.9999586939811707, 0.4938434660434723, 2.4287349909002387e-9],
            ),
        ] {
            let schedule = ScheduleConfig::Discrete { steps: 1000, law, beta_start, beta_end }
                .build()
                .unwrap();
            for (t, expected) in [0.001, 0.5, 1.0].into_iter().zip(expected) {
                let found = schedule.alpha(t).powi(2);
                assert!(
                    (found / expected - 1.0).abs() < 2e-4,
                    "{law:?} at {t}: {found}, {expected}"
                );
            }
            assert_eq!(schedule.epsilon(), 1e-3);
        }
    }
}
