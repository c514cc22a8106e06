//! The oracle with an error of known size in its score or in its Hessian, each alone.

use std::f64::consts::TAU;

use tch::{Device, Kind, Tensor};

use tweedie::model::{Denoiser, Space};
use tweedie::noise::{Noise, Seed};
use tweedie::oracle::{GaussianMixture, Oracle};
use tweedie::posterior::NoiseMoments;
use tweedie::query::{Query, Times};
use tweedie::schedule::Schedule;
use tweedie::sym_matrix::SymMatrix;
use tweedie::tensor::to_vec;

/// Waves in a field.
const WAVES: usize = 6;
/// Root mean square of `ω·x` over a unit square of variance.
const FREQUENCY: f64 = 1.5;

/// A smooth field `φ(x, t) ∝ Σ_j a_j cos(ω_j·x + b_j)` of vectors, or of symmetric matrices written
/// out, with `E‖φ(x_t, t)‖² = d` at every `t` under a mixture's diffused distribution: the mean
/// square of the score of `N(0, I)`, which is the unit in which errors are given. The norm is
/// exact, by the mixture's characteristic function.
#[derive(Debug)]
pub(super) struct Field {
    /// `ω_j`, `[J, d]`.
    frequencies: Tensor,
    /// `b_j`, `[J]`.
    phases: Tensor,
    /// `a_j`, `[J, d]` or `[J, d²]`.
    amplitudes: Tensor,
    products: Vec<Product>,
    dim: f64,
}

/// A term of `‖Σ_j a_j cos u_j‖² = Σ_jl a_j·a_l ½[cos(u_j − u_l) + cos(u_j + u_l)]` under one
/// component `N(m, S)` of weight `π`.
#[derive(Debug)]
struct Product {
    /// `½ π a_j·a_l`.
    weight: f64,
    /// `ωᵀSω`, `ω = ω_j ∓ ω_l`.
    spread: f64,
    /// `‖ω‖²`.
    square: f64,
    /// `ω·m`.
    centre: f64,
    /// `b_j ∓ b_l`.
    phase: f64,
}

impl Field {
    /// A field of vectors for the score.
    pub(super) fn of_vectors(mixture: &GaussianMixture, seed: Seed) -> Field {
        let mut amplitudes = Noise::new(seed.derive("amplitudes"), 0..WAVES as u64);
        Field::new(
            mixture,
            amplitudes.normal(mixture.dim() as usize, Kind::Double, Device::Cpu),
            seed,
        )
    }

    /// A field of symmetric matrices for the Hessian.
    pub(super) fn of_matrices(mixture: &GaussianMixture, seed: Seed) -> Field {
        let d = mixture.dim();
        let z = Noise::new(seed.derive("amplitudes"), 0..WAVES as u64).normal(
            (d * d) as usize,
            Kind::Double,
            Device::Cpu,
        );
        let z = z.view([-1, d, d]);
        Field::new(mixture, (&z + z.transpose(1, 2)).flatten(1, 2), seed)
    }

    fn new(mixture: &GaussianMixture, amplitudes: Tensor, seed: Seed) -> Field {
        let (d, rows) = (mixture.dim() as usize, 0..WAVES as u64);
        let frequencies = Noise::new(seed.derive("frequencies"), rows.clone()).normal(
            d,
            Kind::Double,
            Device::Cpu,
        ) * (FREQUENCY / (d as f64).sqrt());
        let phases = Tensor::from_slice(&Noise::new(seed.derive("phases"), rows).uniform(1)) * TAU;
        let (mixture, b) = (mixture.parameters(), to_vec(&phases));
        let omega: Vec<Vec<f64>> = to_vec(&frequencies).chunks(d).map(<[f64]>::to_vec).collect();
        let gram = amplitudes.matmul(&amplitudes.transpose(0, 1));
        let mut products = Vec::new();
        for j in 0..WAVES {
            for l in 0..WAVES {
                for sign in [-1.0, 1.0] {
                    let w: Vec<f64> = (0..d).map(|i| omega[j][i] + sign * omega[l][i]).collect();
                    let dot = |a: &[f64]| a.iter().zip(&w).map(|(a, w)| a * w).sum::<f64>();
                    for ((weight, m), s) in
                        mixture.weights.iter().zip(&mixture.means).zip(&mixture.covariances)
                    {
                        products.push(Product {
                            weight: 0.5 * weight * gram.double_value(&[j as i64, l as i64]),
                            spread: dot(&s.chunks(d).map(dot).collect::<Vec<_>>()),
                            square: dot(&w),
                            centre: dot(m),
                            phase: b[j] + sign * b[l],
                        });
                    }
                }
            }
        }
        Field { frequencies, phases, amplitudes, products, dim: d as f64 }
    }

    /// `E‖Σ_j a_j cos(ω_j·x_t + b_j)‖²`:
    /// `E cos(ω·x + b) = Σ_k π_k exp(−½(α²ωᵀS_kω + σ²‖ω‖²)) cos(α ω·m_k + b)`.
    fn mean_square(&self, alpha: f64, sigma2: f64) -> f64 {
        let of = |p: &Product| {
            let damping = (-0.5 * (alpha * alpha * p.spread + sigma2 * p.square)).exp();
            p.weight * damping * (alpha * p.centre + p.phase).cos()
        };
        self.products.iter().map(of).sum()
    }

    /// `φ` at rows `x` `[b, d]` and their times, `[b, d]` or `[b, d²]`.
    pub(super) fn at(&self, x: &Tensor, schedule: &dyn Schedule, t: &Times) -> Tensor {
        let [scale] = t.coefficients(x.device(), |t| {
            let mean_square = self.mean_square(schedule.alpha(t), schedule.sigma2(t));
            [(self.dim / mean_square).sqrt()]
        });
        let waves = (x.matmul(&self.frequencies.transpose(0, 1)) + &self.phases).cos();
        waves.matmul(&self.amplitudes) * &scale
    }
}

/// The exact model of a mixture with `s + δφ` in place of the score, or `H + δΦ` in place of the
/// Hessian, or neither.
pub(super) struct Perturbed<'a> {
    pub(super) oracle: &'a Oracle,
    /// The score's field, and `δ`.
    pub(super) score: Option<(&'a Field, f64)>,
    /// The Hessian's field, and `δ`.
    pub(super) hessian: Option<(&'a Field, f64)>,
}

impl Perturbed<'_> {
    fn shifted(&self, noise: Tensor, q: &Query) -> Tensor {
        let Some((field, size)) = self.score else { return noise };
        let schedule = self.space().schedule();
        let (_, sigma) = q.times.marginal(schedule, q.x.device());
        noise - field.at(q.x, schedule, q.times) * &sigma * size
    }
}

impl Denoiser for Perturbed<'_> {
    fn space(&self) -> &Space {
        self.oracle.space()
    }
    fn noise(&self, q: &Query) -> Tensor {
        self.shifted(self.oracle.noise(q), q)
    }
    fn moments(&self, q: &Query) -> NoiseMoments {
        let NoiseMoments { noise, cov, .. } = self.oracle.moments(q);
        let noise = self.shifted(noise, q);
        let Some((field, size)) = self.hessian else { return NoiseMoments::new(noise, cov) };
        let (schedule, d) = (self.space().schedule(), self.space().dim);
        let [sigma2] = q.times.coefficients(q.x.device(), |t| [size * schedule.sigma2(t)]);
        let error = field.at(q.x, schedule, q.times).view([-1, d, d]) * &sigma2;
        NoiseMoments::new(noise, SymMatrix::Full(cov.to_dense() + error))
    }
}

#[cfg(test)]
mod tests {
    use super::super::mixtures::mixtures;
    use std::sync::Arc;

    use super::*;
    use tweedie::likelihood::mean_and_error;
    use tweedie::schedule::Vp;
    use tweedie::tensor::squared_norm;

    /// `E‖φ‖² = d` within four Monte-Carlo errors, of vectors and of matrices, which are symmetric.
    #[test]
    fn fields_have_their_norm() {
        let vp = Vp::default();
        for mixture in mixtures() {
            let (n, d) = (20_000, mixture.dim());
            for (i, field) in
                [Field::of_vectors(&mixture, Seed(1)), Field::of_matrices(&mixture, Seed(2))]
                    .iter()
                    .enumerate()
            {
                for t in [1e-3, 0.2, 0.9] {
                    let z = Noise::new(Seed(3), 0..n as u64).normal(
                        d as usize,
                        Kind::Double,
                        Device::Cpu,
                    );
                    let x = mixture.sample(n, Seed(4)) * vp.alpha(t) + z * vp.sigma(t);
                    let value = field.at(&x, &vp, &Times::All(t));
                    let (mean, error) = mean_and_error(&to_vec(&squared_norm(&value)));
                    assert!(
                        (mean - d as f64).abs() < 4.0 * error,
                        "d = {d} at {t}: {mean} ± {error}"
                    );
                    if i == 1 {
                        let matrices = value.view([-1, d, d]);
                        let skew =
                            (&matrices - matrices.transpose(1, 2)).abs().max().double_value(&[]);
                        assert!(skew < 1e-12, "{skew}");
                    }
                }
            }
        }
    }

    /// The model's score is off by `δφ` and its Hessian `(G − I)/σ²` by `δΦ`, each alone.
    #[test]
    fn one_thing_is_perturbed_at_a_time() {
        let [_, mixture, _] = mixtures();
        let oracle = Oracle::new(mixture, Arc::new(Vp::default()));
        let (of_score, of_hessian) = (
            Field::of_vectors(&oracle.mixture, Seed(1)),
            Field::of_matrices(&oracle.mixture, Seed(2)),
        );
        let (x, t) =
            (oracle.mixture.sample(5, Seed(3)), Times::each(vec![0.1, 0.1, 0.4, 0.9, 0.9]));
        let (vp, q) = (oracle.space().schedule(), Query::new(&x, &t));
        let exact = oracle.moments(&q);
        let sigma = t.marginal(vp, x.device()).1.column(&x);
        let gap = |a: &Tensor, b: &Tensor| (a - b).abs().max().double_value(&[]);
        let plain = Perturbed { oracle: &oracle, score: None, hessian: None };
        let score = Perturbed { score: Some((&of_score, 0.3)), ..plain };
        let found = score.moments(&q);
        let shift = -(&found.noise - &exact.noise) / &sigma;
        assert!(gap(&shift, &(of_score.at(&x, vp, &t) * 0.3)) < 1e-12);
        assert_eq!(gap(&found.cov.to_dense(), &exact.cov.to_dense()), 0.0);
        assert_eq!(gap(&score.noise(&q), &found.noise), 0.0);
        let hessian = Perturbed { oracle: &oracle, score: None, hessian: Some((&of_hessian, 0.3)) };
        let found = hessian.moments(&q);
        let shift = (found.cov.to_dense() - exact.cov.to_dense()) / sigma.square().unsqueeze(-1);
        assert!(gap(&shift, &(of_hessian.at(&x, vp, &t) * 0.3).view([-1, 2, 2])) < 1e-10);
        assert_eq!(gap(&found.noise, &exact.noise), 0.0);
    }
}
