//! `G = I + σ²H` from the score's own Jacobian, without a head: `G v = v − σ (∂ε̂/∂x)ᵀ v`, one vector–Jacobian product for
//! each `v`.

use tch::{Kind, Tensor, with_grad};

use crate::model::Denoiser;
use crate::noise::{Noise, Seed};
use crate::sym_matrix::{SymMatrix, eigen_rows, eigenvalue_rows};
use crate::tensor::{per_row, sum_over, vector_jacobian_product};
use crate::tweedie::Jet;

/// Variances of the noise are held above this: a trained field is the score of no density everywhere, and a reverse law
/// needs a density.
const FLOOR: f64 = 1e-6;

/// `ε̂`, and the diagonal of `G` as the mean of `v ⊙ Gv` over `probes` vectors of random signs (Rademacher-M of OCM; Bekas et
/// al. 2007), held in `[0, 1]` as its authors do. The vectors are the same for every row and time, so that a row does not depend on its batch.
pub(super) fn rademacher(model: &dyn Denoiser, x: &Tensor, t: &[f64], probes: usize) -> Jet {
    let signs = Noise::new(Seed(0).derive("rademacher covariance"), 0..probes as u64).rademacher(
        model.dim() as usize,
        x.kind(),
        x.device(),
    );
    let (noise, products) = products(model, x, t, &signs);
    let mean = sum_over(&(products * signs), 1) / probes as f64;
    Jet { noise, g: SymMatrix::Diagonal(mean.clamp(FLOOR, 1.0)) }
}

/// `ε̂` and the exact diagonal of `G`, by `d` products.
pub(super) fn diagonal(model: &dyn Denoiser, x: &Tensor, t: &[f64]) -> Jet {
    let (noise, products) = products(model, x, t, &unit_vectors(model, x));
    Jet { noise, g: SymMatrix::Diagonal(products.diagonal(0, 1, 2).clamp_min(FLOOR)) }
}

/// `ε̂` and all of `G`, by `d` products: symmetrised, its eigenvalues held above 0. For small `d`. NaN in a row whose
/// Jacobian is not finite.
pub(super) fn full(model: &dyn Denoiser, x: &Tensor, t: &[f64]) -> Jet {
    let (noise, symmetric) = symmetrised(model, x, t);
    let (values, vectors) = eigen_rows(&symmetric);
    let held = (&vectors * values.clamp_min(FLOOR).unsqueeze(1)).matmul(&vectors.transpose(1, 2));
    Jet { noise, g: SymMatrix::Full(held.to_kind(x.kind())) }
}

/// The eigenvalues of `G`, symmetrised, `[b, d]` in f64, rising; NaN in a row whose Jacobian is not finite.
pub(super) fn eigenvalues(model: &dyn Denoiser, x: &Tensor, t: &[f64]) -> Tensor {
    eigenvalue_rows(&symmetrised(model, x, t).1)
}

/// `ε̂`, and the symmetric part of `G` by `d` products, `[b, d, d]` in f64.
fn symmetrised(model: &dyn Denoiser, x: &Tensor, t: &[f64]) -> (Tensor, Tensor) {
    let (noise, products) = products(model, x, t, &unit_vectors(model, x));
    (noise, ((&products + products.transpose(1, 2)) * 0.5).to_kind(Kind::Double))
}

fn unit_vectors(model: &dyn Denoiser, x: &Tensor) -> Tensor {
    Tensor::eye(model.dim(), (x.kind(), x.device()))
}

/// `ε̂` `[b, d]` and `G v` for each of `directions` `[m, d]`, or of each row's own `[m, b, d]`; `[b, m, d]`.
pub(crate) fn products(model: &dyn Denoiser, x: &Tensor, t: &[f64], directions: &Tensor) -> (Tensor, Tensor) {
    let m = directions.size()[0];
    let x = x.detach().set_requires_grad(true);
    let noise = with_grad(|| model.noise(&x, t));
    let sigma = per_row(t.iter().map(|&t| model.schedule().sigma(t)), &x).unsqueeze(-1);
    let of_each: Vec<Tensor> = (0..m)
        .map(|i| {
            let v = directions.select(0, i);
            let product = vector_jacobian_product(&noise, &x, &v, i + 1 < m);
            v - product * &sigma
        })
        .collect();
    (noise.detach(), Tensor::stack(&of_each, 1))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::oracle::{GaussianMixture, Oracle};
    use crate::schedule::Vp;

    const T: [f64; 3] = [0.02, 0.3, 0.9];

    fn oracle() -> (Oracle, Tensor) {
        let law =
            GaussianMixture::new(&[0.4, 0.6], &[[-1.0, 0.5, 0.0], [1.0, 0.0, 0.3]], &[0.3, 0.6]).unwrap();
        let x = law.sample(3, Seed(5));
        (Oracle::new(law, Arc::new(Vp::default())), x)
    }

    fn gap(a: &Tensor, b: &Tensor) -> f64 {
        (a - b).abs().max().double_value(&[])
    }

    #[test]
    fn the_jacobian_of_the_exact_score_is_the_exact_covariance() {
        let (oracle, x) = oracle();
        let exact = oracle.jet(&x, &T);
        let found = full(&oracle, &x, &T);
        assert!(gap(&found.noise, &exact.noise) < 1e-12);
        assert!(gap(&found.g.to_dense(), &exact.g.to_dense()) < 1e-10);
        assert!(gap(&diagonal(&oracle, &x, &T).g.diagonal(), &exact.g.diagonal()) < 1e-10);
    }

    /// Off-diagonal entries average out: with 4000 probes within four standard errors `√(Σ_{j≠i} G_ij²/M)`.
    #[test]
    fn random_signs_have_the_diagonal_as_their_mean() {
        let (oracle, x) = oracle();
        let exact = oracle.jet(&x, &T).g;
        let (probes, diagonal) = (4000, exact.diagonal());
        let found = rademacher(&oracle, &x, &T, probes).g.diagonal();
        let others = exact.to_dense().square().sum_dim_intlist([2i64].as_slice(), false, None::<Kind>)
            - diagonal.square();
        let error = (others / probes as f64).sqrt();
        let within = (found - diagonal.clamp(FLOOR, 1.0)).abs().le_tensor(&(error * 4.0 + 1e-12));
        assert_eq!(within.all().int64_value(&[]), 1);
    }
}
