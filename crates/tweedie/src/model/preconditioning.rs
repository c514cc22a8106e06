//! How a network's inputs are brought to unit scale at every noise level, and its outputs to the
//! scale of what the base leaves unexplained (after EDM's preconditioning, Karras et al. 2022).

use tch::{Device, Kind, Tensor};

use super::base::Base;
use crate::choice::choices;
use crate::query::Coefficient;
use crate::{Error, Result};

choices! {
    /// By what a network's inputs and outputs are scaled.
    pub enum Preconditioning = Scalar {
        /// By the data's mean square `v`, one number for all columns.
        Scalar = "scalar",
        /// By the covariance `S` of the base: each direction has its own scale at each noise level.
        /// The small differences between nearly collinear columns are then as large an input as
        /// anything else.
        Covariance = "covariance",
    }
}

/// The scales of one model.
///
/// With one number, inputs are `x_t / √(α²v + σ²)`, and the correction of ε̂ is `a F` with
/// `a² = α²v/(α²v + σ²) · σ²/(σ² + κ²α²v)`: the part of ε that a Gaussian of the data's scale
/// leaves unexplained, times a fade below the finest noise level `κ√v`. With a covariance the
/// network sees besides `(α²S + σ²I)^{−½} (x_t − α m)`, of unit covariance under a Gaussian base,
/// and `a²` is the same function of `S` in place of `v`. Both are functions of the matrix `S`
/// alone, so that a network does not depend on which eigenvectors a library returns.
#[derive(Debug)]
pub(super) struct Scales {
    second_moment: f64,
    finest: f64,
    axes: Option<Axes>,
}

/// A base's mean and covariance, in f32.
#[derive(Debug)]
struct Axes {
    /// `[1, d]`.
    mean: Tensor,
    /// Eigenvectors of the covariance in columns, `[d, d]`.
    vectors: Tensor,
    /// Eigenvalues, `[1, d]`.
    values: Tensor,
}

/// Eigenvalues of a covariance are held above this share of their mean: f32 tells no smaller ones
/// from noise.
const LEAST: f64 = 1e-7;

impl Scales {
    /// The scales that `base` gives, for computation on `device`.
    ///
    /// # Errors
    /// If the base's covariance has no eigendecomposition.
    pub fn new(kind: Preconditioning, finest: f64, base: &Base, device: Device) -> Result<Scales> {
        let axes = match kind {
            Preconditioning::Scalar => None,
            Preconditioning::Covariance => Some(Axes::of(base, device)?),
        };
        Ok(Scales { second_moment: base.second_moment(), finest, axes })
    }

    /// Numbers in the network's input for rows of `dim` numbers.
    pub fn inputs(kind: Preconditioning, dim: i64) -> i64 {
        match kind {
            Preconditioning::Scalar => dim,
            Preconditioning::Covariance => 2 * dim,
        }
    }

    /// The network's input `[b, d]` or `[b, 2 d]`, of `x_t` as the network sees its columns and as
    /// the covariance does, which may have more known of them.
    pub fn input(
        &self,
        x: &Tensor,
        completed: impl FnOnce(&Tensor) -> Tensor,
        (alpha, sigma): (&Coefficient, &Coefficient),
    ) -> Tensor {
        let (alpha2, sigma2) = (alpha.square(), sigma.square());
        let scale = (&alpha2 * self.second_moment + &sigma2).sqrt().recip();
        let columns = x * &scale;
        let Some(Axes { mean, vectors, values }) = &self.axes else { return columns };
        let mean = mean * alpha;
        let apart = completed(&mean) - mean;
        let total = values * &alpha2 + &sigma2;
        let white = (apart.matmul(vectors) / total.sqrt()).matmul(&vectors.transpose(0, 1));
        Tensor::cat(&[white, columns], 1)
    }

    /// `a F`: the correction of ε̂ that the raw outputs `F` `[b, d]` make.
    pub fn correction(
        &self,
        output: &Tensor,
        (alpha, sigma): (&Coefficient, &Coefficient),
    ) -> Tensor {
        let (alpha2, sigma2) = (alpha.square(), sigma.square());
        let kappa2 = self.finest.powi(2);
        match &self.axes {
            None => {
                let signal = &alpha2 * self.second_moment;
                let fade = &sigma2 / &(&sigma2 + &(&signal * kappa2));
                let scale = (&signal / &(&signal + &sigma2) * fade).sqrt();
                output * &scale
            }
            Some(Axes { vectors, values, .. }) => {
                let signal = values * &alpha2;
                let fade = (&signal * kappa2 + &sigma2).reciprocal() * &sigma2;
                let scale = (&signal / (&signal + &sigma2) * fade).sqrt();
                (output.matmul(vectors) * scale).matmul(&vectors.transpose(0, 1))
            }
        }
    }
}

impl Axes {
    fn of(base: &Base, device: Device) -> Result<Axes> {
        let (mean, covariance) = base.mean_and_covariance();
        let unknown = |_| {
            let remedy = "give model.preconditioning scalar";
            Error::numeric("the base's covariance has no eigendecomposition", remedy)
        };
        let (values, vectors) = covariance.f_linalg_eigh("L").map_err(unknown)?;
        let least = values.mean(None::<Kind>).double_value(&[]) * LEAST;
        let to = |x: Tensor| x.to_kind(Kind::Float).to_device(device);
        Ok(Axes {
            mean: to(mean.unsqueeze(0)),
            vectors: to(vectors),
            values: to(values.clamp_min(least).unsqueeze(0)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mixture::GaussianMixture;
    use crate::tensor::to_vec;

    /// `N(0, S)` with `S = [[1, .6], [.6, .5]]`, `√det S = √.14`.
    fn gaussian(covariance: [f64; 4]) -> Base {
        let covariance = Tensor::from_slice(&covariance).view([1, 2, 2]);
        let (weight, mean) = (Tensor::from_slice(&[1.0]), Tensor::zeros([1, 2], F64));
        Base::Mixture(GaussianMixture::from_tensors(&weight, &mean, &covariance).unwrap())
    }

    const F64: (Kind, Device) = (Kind::Double, Device::Cpu);
    const S: [f64; 4] = [1.0, 0.6, 0.6, 0.5];

    fn scales(kind: Preconditioning, base: &Base) -> Scales {
        Scales::new(kind, 0.2, base, Device::Cpu).unwrap()
    }

    fn gap(a: &Tensor, b: &Tensor) -> f64 {
        (a - b).abs().max().double_value(&[])
    }

    /// `√M` of a positive definite 2×2 matrix: `(M + √det I)/√(tr + 2 √det)`.
    fn root([a, b, _, d]: [f64; 4]) -> [f64; 4] {
        let det = (a * d - b * b).sqrt();
        let by = (a + d + 2.0 * det).sqrt();
        [(a + det) / by, b / by, b / by, (d + det) / by]
    }

    fn square(m: [f64; 4]) -> Tensor {
        Tensor::from_slice(&m).view([2, 2]).to_kind(Kind::Float)
    }

    /// Of a covariance `v I` both kinds are the same, at equal and at unequal times.
    #[test]
    fn one_number_is_a_covariance_of_one_number() {
        let base = Base::standard(3);
        let [one, all] = [Preconditioning::Scalar, Preconditioning::Covariance];
        let (one, all) = (scales(one, &base), scales(all, &base));
        let x = Tensor::from_slice(&[0.3f32, -1.0, 2.0, 0.1, 0.2, -0.7]).view([2, 3]);
        let unequal = |values: &[f64]| Coefficient::of_rows(&Tensor::from_slice(values));
        for (alpha, sigma) in [
            (Coefficient::All(0.8), Coefficient::All(0.6)),
            (unequal(&[0.8, 0.1]), unequal(&[0.6, 0.9])),
        ] {
            let at = (&alpha, &sigma);
            let columns = one.input(&x, Tensor::shallow_clone, at);
            let both = all.input(&x, |_| x.shallow_clone(), at);
            assert!(gap(&both, &Tensor::cat(&[&columns, &columns], 1)) < 1e-6);
            assert!(gap(&one.correction(&x, at), &all.correction(&x, at)) < 1e-6);
        }
    }

    /// The white input is `(α²S + σ²I)^{−½} x`, and the correction that of the matrix function, by
    /// closed forms of 2×2 matrices: whatever eigenvectors a library returns.
    #[test]
    fn scales_are_functions_of_the_covariance() {
        let scales = scales(Preconditioning::Covariance, &gaussian(S));
        let (alpha, sigma) = (0.8, 0.6);
        let at = (&Coefficient::All(alpha), &Coefficient::All(sigma));
        let x = square([1.0, 0.0, 0.0, 1.0]);
        let white = scales.input(&x, |_| x.shallow_clone(), at).narrow(1, 0, 2);
        let noised = |s: f64, one: f64| s * alpha * alpha + one * sigma * sigma;
        let total = [noised(S[0], 1.0), noised(S[1], 0.0), noised(S[2], 0.0), noised(S[3], 1.0)];
        assert!(gap(&white.matmul(&square(root(total))), &x) < 1e-5, "{:?}", to_vec(&white));

        // a² = signal (signal + σ²)⁻¹ σ² (σ² + κ² signal)⁻¹, all functions of S
        let squared = {
            let a = scales.correction(&x, at);
            a.matmul(&a)
        };
        let signal = square(S) * (alpha * alpha);
        let noise = &x * (sigma * sigma);
        let back = squared.matmul(&(&signal + &noise)).matmul(&(&noise + &signal * 0.04));
        assert!(gap(&back, &(signal * (sigma * sigma))) < 1e-5);
    }

    /// Cells that are no targets come in as they are completed, and only there.
    #[test]
    fn what_is_known_is_whitened_too() {
        let scales = scales(Preconditioning::Covariance, &gaussian(S));
        let at = (&Coefficient::All(0.8), &Coefficient::All(0.6));
        let x = Tensor::from_slice(&[0.5f32, 0.0]).view([1, 2]);
        let known = Tensor::from_slice(&[0.5f32, -0.9]).view([1, 2]);
        let found = scales.input(&x, |_| known.shallow_clone(), at);
        let of_known = scales.input(&known, |_| known.shallow_clone(), at);
        assert_eq!(to_vec(&found.narrow(1, 0, 2)), to_vec(&of_known.narrow(1, 0, 2)));
        assert_eq!(found.double_value(&[0, 3]), 0.0);
    }
}
