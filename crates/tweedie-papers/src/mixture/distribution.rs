//! The two distributions of the experiment, both as Gaussian mixtures, so that the exact model and
//! the exact distance to either have a closed form.

use tch::Tensor;

use crate::experiment::kinds;
use tweedie::noise::Seed;
use tweedie::oracle::{GaussianMixture, MixtureParameters, StudentTMixture};
use tweedie::{Error, Result};

/// Where the two components lie, with equal weights and unit scale.
const LOCATIONS: [f64; 2] = [-10.0, 10.0];
/// Degrees of freedom of the heavy-tailed distribution.
const FREEDOM: f64 = 3.0;

kinds! {
    /// The distribution of the data.
    pub enum Distribution {
        /// `½N(−10, 1) + ½N(10, 1)`.
        Gaussian = "gaussian",
        /// The same with Student t₃ components.
        StudentT = "student-t",
    }
}

impl Distribution {
    /// The distribution in formulas.
    pub fn formula(self) -> &'static str {
        match self {
            Distribution::Gaussian => "½N(−10, 1) + ½N(10, 1)",
            Distribution::StudentT => "½t₃(−10) + ½t₃(10)",
        }
    }

    /// `n` rows, `[n, 1]` in f64; row `i` depends on the seed and `i` alone.
    pub fn sample(self, n: usize, seed: Seed) -> Result<Tensor> {
        match self {
            Distribution::Gaussian => {
                Ok(GaussianMixture::from_parameters(&self.parameters())?.sample(n, seed))
            }
            Distribution::StudentT => {
                Ok(StudentTMixture::new(&LOCATIONS, FREEDOM)?.sample(n, seed))
            }
        }
    }

    /// The density at `x`.
    pub fn density(self, x: f64) -> Result<f64> {
        match self {
            Distribution::Gaussian => {
                let normal = |m: f64| (-0.5 * (x - m).powi(2)).exp() / std::f64::consts::TAU.sqrt();
                Ok(LOCATIONS.iter().map(|m| 0.5 * normal(*m)).sum())
            }
            Distribution::StudentT => Ok(StudentTMixture::new(&LOCATIONS, FREEDOM)?.density(x)),
        }
    }

    /// The distribution as a Gaussian mixture. A t distribution with `ν` degrees of freedom is `∫
    /// N(0, v) dP(v)` with `1/v` distributed as Gamma(ν/2, rate ν/2); the integral by the trapezoid
    /// rule in `ln v`, which converges exponentially: with steps of ½ the density is right to 1e-7.
    pub fn parameters(self) -> MixtureParameters {
        let scales: Vec<(f64, f64)> = match self {
            Distribution::Gaussian => vec![(1.0, 1.0)],
            Distribution::StudentT => {
                let half = 0.5 * FREEDOM;
                // density of ln v, up to its constant: v^{−ν/2} exp(−ν/(2v))
                let weight = |log: f64| (-half * log - half * (-log).exp()).exp();
                let logs: Vec<f64> = (0..=29).map(|i| -3.0 + 0.5 * i as f64).collect();
                let total: f64 = logs.iter().map(|l| weight(*l)).sum();
                logs.into_iter().map(|l| (weight(l) / total, l.exp())).collect()
            }
        };
        let each = || LOCATIONS.iter().flat_map(|m| scales.iter().map(move |s| (*m, *s)));
        MixtureParameters {
            weights: each().map(|(_, (w, _))| w / LOCATIONS.len() as f64).collect(),
            means: each().map(|(m, _)| vec![m]).collect(),
            covariances: each().map(|(_, (_, v))| vec![v]).collect(),
        }
    }

    /// The mixture of [`Distribution::parameters`].
    pub fn mixture(self) -> Result<GaussianMixture> {
        GaussianMixture::from_parameters(&self.parameters()).map_err(|e| {
            Error::numeric(e.to_string(), "this is a mistake of the program: please report it")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The scale mixture is the t₃ mixture: against the density of statrs.
    #[test]
    fn student_t_is_its_scale_mixture() {
        let mixture = Distribution::StudentT.mixture().unwrap();
        for x in [-60.0, -10.0, -9.0, 0.0, 3.0, 12.5, 40.0] {
            let exact = Distribution::StudentT.density(x).unwrap();
            let here = mixture
                .log_density(&Tensor::from_slice(&[x]).view([1, 1]))
                .exp()
                .double_value(&[0]);
            assert!((here - exact).abs() < 1e-6 * exact.max(1e-3), "{x}: {here} {exact}");
        }
    }
}
