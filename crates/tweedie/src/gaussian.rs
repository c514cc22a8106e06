//! Gaussian distributions with structured covariances, one per row.
//!
//! ```
//! use tweedie::gaussian::Gaussian;
//! use tweedie::sym_matrix::SymMatrix;
//! use tweedie::tch::Tensor;
//!
//! let row = |values: [f64; 2]| Tensor::from_slice2(&[values]);
//! let p = Gaussian::new(row([0.0, 0.0]), SymMatrix::Diagonal(row([1.0, 4.0])));
//! let q = Gaussian::new(row([1.0, 2.0]), SymMatrix::Diagonal(row([1.0, 4.0])));
//!
//! // equal covariances: the divergence is half the squared Mahalanobis distance of the means
//! let divergence = p.kl(&q).double_value(&[0]);
//! assert!((divergence - 0.5 * (1.0 + 4.0 / 4.0)).abs() < 1e-12);
//! // the entropy is minus the log-density at the mean, plus half a nat for each dimension
//! let at_mean = p.log_prob(&p.mean).double_value(&[0]);
//! assert!((p.entropy().double_value(&[0]) - (1.0 - at_mean)).abs() < 1e-12);
//! ```

use tch::Tensor;

use crate::sym_matrix::{Checked, SymMatrix};
use crate::tensor::sum_last;

/// `N(mean, cov)`, one per row: `mean` is `[b, d]`.
#[derive(Debug)]
pub struct Gaussian {
    /// Means, `[b, d]`.
    pub mean: Tensor,
    /// Covariances.
    pub cov: SymMatrix,
}

/// `ln 2π`.
pub const LN_2PI: f64 = 1.8378770664093453;

impl Gaussian {
    /// A distribution per row; shapes must agree.
    pub fn new(mean: Tensor, cov: SymMatrix) -> Gaussian {
        assert_eq!(mean.size(), [cov.rows(), cov.dim()], "mean against covariance");
        Gaussian { mean, cov }
    }

    /// Log-density at `x` `[b, d]`, nats, `[b]`.
    pub fn log_prob(&self, x: &Tensor) -> Tensor {
        let chol = self.cov.cholesky();
        (chol.log_det() + chol.inv_quad(&(x - &self.mean)) + self.cov.dim() as f64 * LN_2PI) * -0.5
    }

    /// `KL(N(mean, variance I) ‖ self)`, nats, `[b]`; `mean` `[b, d]`, `variance > 0` `[b]`.
    pub fn kl_from_isotropic(&self, mean: &Tensor, variance: &Tensor) -> Tensor {
        let d = self.cov.dim() as f64;
        let chol = self.cov.cholesky();
        let spread = variance * chol.trace_inv() - d - variance.log() * d;
        (spread + chol.log_det() + chol.inv_quad(&(mean - &self.mean))) * 0.5
    }

    /// `KL(self ‖ other)` for any two covariances, `[b]`: `O(d)` where `other`'s is a multiple of
    /// the identity or diagonal, else through dense matrices, `O(d³)`.
    pub fn kl(&self, other: &Gaussian) -> Tensor {
        let trace = match &other.cov {
            SymMatrix::Isotropic { .. } | SymMatrix::Diagonal(_) => {
                sum_last(&(self.cov.diagonal() / other.cov.diagonal()))
            }
            SymMatrix::LowRank { .. } | SymMatrix::Full(_) => {
                // tr(S_o⁻¹ S) = tr(L⁻¹ S L⁻ᵀ), S_o = L Lᵀ
                let chol = Checked::new(&other.cov.to_dense());
                let solve = |x: &Tensor| chol.factor.linalg_solve_triangular(x, false, true, false);
                let turned = solve(&solve(&self.cov.to_dense()).transpose(1, 2));
                chol.mark(sum_last(&turned.diagonal(0, 1, 2)))
            }
        };
        let chol = other.cov.cholesky();
        let shift = chol.inv_quad(&(&self.mean - &other.mean));
        (trace + shift + chol.log_det() - self.cov.log_det() - self.cov.dim() as f64) * 0.5
    }

    /// Differential entropy, nats, `[b]`.
    pub fn entropy(&self) -> Tensor {
        (self.cov.log_det() + self.cov.dim() as f64 * (1.0 + LN_2PI)) * 0.5
    }

    /// Draws from normals `[b, cov.noise_dim()]`.
    pub fn sample(&self, normals: &Tensor) -> Tensor {
        &self.mean + self.cov.sample(normals)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::{Noise, Seed};
    use tch::{Device, Kind};

    fn gaussian(seed: u64) -> Gaussian {
        let z = |s: u64, n: usize| {
            Noise::new(Seed(seed), s..s + 2).normal(n, Kind::Double, Device::Cpu)
        };
        Gaussian::new(z(0, 3), SymMatrix::low_rank(z(2, 3).exp(), z(4, 6).view([2, 3, 2])))
    }

    /// One dimension by hand: N(1, 4) at 3.
    #[test]
    fn log_prob_by_hand() {
        let one = |v: f64| Tensor::from_slice(&[v]);
        let g = Gaussian::new(one(1.0).view([1, 1]), SymMatrix::isotropic(one(4.0), 1));
        let expected = -0.5 * (4f64.ln() + 1.0 + LN_2PI);
        assert!((g.log_prob(&one(3.0).view([1, 1])).double_value(&[0]) - expected).abs() < 1e-14);
    }

    /// KL from an isotropic Gaussian equals the general dense formula; KL to itself is 0.
    #[test]
    fn kl_forms_agree() {
        let q = gaussian(1);
        let variance = Tensor::from_slice(&[0.3, 2.0]);
        let mean = gaussian(2).mean;
        let p =
            Gaussian::new(mean.shallow_clone(), SymMatrix::isotropic(variance.shallow_clone(), 3));
        let error =
            (q.kl_from_isotropic(&mean, &variance) - p.kl(&q)).abs().max().double_value(&[]);
        assert!(error < 1e-10, "{error}");
        assert!(q.kl(&q).abs().max().double_value(&[]) < 1e-12);
    }

    /// A singular covariance is NaN in its own row, not a panic.
    #[test]
    fn a_singular_covariance_is_an_error_of_its_row() {
        let f64 = (Kind::Double, Device::Cpu);
        let dense = Tensor::stack(&[Tensor::ones([2, 2], f64), Tensor::eye(2, f64)], 0);
        let singular = Gaussian::new(Tensor::zeros([2, 2], f64), SymMatrix::Full(dense));
        let standard = Gaussian::new(
            Tensor::zeros([2, 2], f64),
            SymMatrix::isotropic(Tensor::ones([2], f64), 2),
        );
        let kl = crate::tensor::to_vec(&standard.kl(&singular));
        assert!(kl[0].is_nan() && kl[1].abs() < 1e-12, "{kl:?}");
    }

    /// Entropy is minus the expected log-density: Monte Carlo within four standard errors.
    #[test]
    fn entropy_is_mean_negative_log_density() {
        let n = 20_000i64;
        let g = gaussian(3);
        let tile = |x: &Tensor| x.narrow(0, 0, 1).repeat_interleave_self_int(n, 0, None);
        let SymMatrix::LowRank { diag, factor } = &g.cov else { unreachable!() };
        let many = Gaussian::new(tile(&g.mean), SymMatrix::low_rank(tile(diag), tile(factor)));
        let x = many.sample(&Noise::new(Seed(4), 0..n as u64).normal(5, Kind::Double, Device::Cpu));
        let values = many.log_prob(&x);
        let error = values.std(true).double_value(&[]) / (n as f64).sqrt();
        let gap = values.mean(None).double_value(&[]) + g.entropy().double_value(&[0]);
        assert!(gap.abs() < 4.0 * error, "{gap} ± {error}");
    }
}
