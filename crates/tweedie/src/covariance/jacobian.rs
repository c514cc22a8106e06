//! `G = I + σ²H` from the Jacobian of the score, without a covariance head:
//! `G v = v − σ (∂ε̂/∂x)ᵀ v`, one vector–Jacobian product for each `v`.
//!
//! ```
//! use std::sync::Arc;
//! use tweedie::covariance::jacobian;
//! use tweedie::model::Denoiser;
//! use tweedie::noise::Seed;
//! use tweedie::oracle::{GaussianMixture, Oracle};
//! use tweedie::query::{Query, Times};
//! use tweedie::schedule::Vp;
//!
//! # fn main() -> tweedie::Result<()> {
//! let mixture = GaussianMixture::new(&[0.4, 0.6], &[[-1.0, 0.0], [1.0, 0.5]], &[0.3, 0.5])?;
//! let oracle = Oracle::new(mixture, Arc::new(Vp::default()));
//! let (x, times) = (oracle.mixture.sample(4, Seed(0)), Times::All(0.3));
//! let q = Query::new(&x, &times);
//!
//! let (_, g) = jacobian::full(&oracle, &q);
//! let exact = oracle.moments(&q).cov;
//! let gap = (g.to_dense() - exact.to_dense()).abs().max();
//! assert!(gap.double_value(&[]) < 1e-10);
//! # Ok(())
//! # }
//! ```

use tch::{Kind, Tensor, with_grad};

use crate::model::Denoiser;
use crate::noise::Noise;
use crate::query::Query;
use crate::sym_matrix::{SymMatrix, eigen_rows, eigenvalue_rows};
use crate::tensor::{sum_over, vector_jacobian_product};

/// Variances of the noise are held above this share of `α²/(α² + σ²)`, which they come to where rows
/// have a variance of 1: a trained field is the score of no density everywhere, and a reverse
/// distribution needs a density.
const FLOOR: f64 = 1e-6;

/// What the variances of the noise in each row are held above, `[b]`.
fn floor(model: &dyn Denoiser, q: &Query) -> Tensor {
    let (alpha, sigma) = q.times.marginal(model.space().schedule(), q.x.device());
    let signal = alpha.square();
    let share = &signal * &(&signal + &sigma.square()).recip();
    share.rows(&q.x.to_kind(Kind::Double)) * FLOOR
}

/// `ε̂`, and the diagonal of `G` as the mean of `v ⊙ Gv` over `probes` vectors of random signs
/// (Rademacher-M of OCM; Bekas et al. 2007), held in `[0, 1]` as its authors do. Each row draws
/// vectors of its own from its stream, at every call anew: a row does not depend on its batch, and
/// the errors of rows and steps are independent.
pub fn rademacher(
    model: &dyn Denoiser,
    q: &Query,
    probes: usize,
    streams: &mut Noise,
) -> (Tensor, SymMatrix) {
    let (rows, d) = q.x.size2().expect("rows");
    let signs = streams.rademacher(probes * d as usize, q.x.kind(), q.x.device());
    let signs = signs.view([rows, probes as i64, d]);
    let (noise, products) = products(model, q, &signs.transpose(0, 1));
    let mean = sum_over(&(products * signs), 1) / probes as f64;
    let floor = floor(model, q).to_kind(q.x.kind()).unsqueeze(-1);
    (noise, SymMatrix::Diagonal(mean.maximum(&floor).clamp_max(1.0)))
}

/// `ε̂` and the exact diagonal of `G`, by `d` products.
pub fn diagonal(model: &dyn Denoiser, q: &Query) -> (Tensor, SymMatrix) {
    let (noise, products) = products(model, q, &unit_vectors(q));
    let floor = floor(model, q).to_kind(q.x.kind()).unsqueeze(-1);
    (noise, SymMatrix::Diagonal(products.diagonal(0, 1, 2).maximum(&floor)))
}

/// `ε̂` and all of `G`, by `d` products: symmetrised, its eigenvalues held above 0. For small `d`.
/// NaN in a row whose Jacobian is not finite.
pub fn full(model: &dyn Denoiser, q: &Query) -> (Tensor, SymMatrix) {
    let (noise, symmetric) = symmetrised(model, q);
    let (values, vectors) = eigen_rows(&symmetric);
    let held = values.maximum(&floor(model, q).unsqueeze(-1));
    let held = (&vectors * held.unsqueeze(1)).matmul(&vectors.transpose(1, 2));
    (noise, SymMatrix::Full(held.to_kind(q.x.kind())))
}

/// The eigenvalues of `G`, symmetrised, `[b, d]` in f64, rising; NaN in a row whose Jacobian is not
/// finite.
pub fn eigenvalues(model: &dyn Denoiser, q: &Query) -> Tensor {
    eigenvalue_rows(&symmetrised(model, q).1)
}

/// `ε̂`, and the symmetric part of `G` by `d` products, `[b, d, d]` in f64.
fn symmetrised(model: &dyn Denoiser, q: &Query) -> (Tensor, Tensor) {
    let (noise, products) = products(model, q, &unit_vectors(q));
    (noise, ((&products + products.transpose(1, 2)) * 0.5).to_kind(Kind::Double))
}

fn unit_vectors(q: &Query) -> Tensor {
    Tensor::eye(q.x.size()[1], (q.x.kind(), q.x.device()))
}

/// `ε̂` `[b, d]` and `G v` for each of `directions` `[m, d]`, or of each row's own `[m, b, d]`;
/// `[b, m, d]`.
pub fn products(model: &dyn Denoiser, q: &Query, directions: &Tensor) -> (Tensor, Tensor) {
    let m = directions.size()[0];
    let x = q.x.detach().set_requires_grad(true);
    let noise = with_grad(|| model.noise(&q.at(&x)));
    let (_, sigma) = q.times.marginal(model.space().schedule(), x.device());
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
    use crate::noise::Seed;
    use crate::oracle::{GaussianMixture, Oracle};
    use crate::query::Times;
    use crate::schedule::Vp;

    fn times() -> Times {
        Times::each(vec![0.02, 0.3, 0.9])
    }

    fn oracle() -> (Oracle, Tensor) {
        let law =
            GaussianMixture::new(&[0.4, 0.6], &[[-1.0, 0.5, 0.0], [1.0, 0.0, 0.3]], &[0.3, 0.6])
                .unwrap();
        let x = law.sample(3, Seed(5));
        (Oracle::new(law, Arc::new(Vp::default())), x)
    }

    fn gap(a: &Tensor, b: &Tensor) -> f64 {
        (a - b).abs().max().double_value(&[])
    }

    #[test]
    fn the_jacobian_of_the_exact_score_is_the_exact_covariance() {
        let (oracle, x) = oracle();
        let times = times();
        let q = Query::new(&x, &times);
        let exact = oracle.moments(&q);
        let (noise, found) = full(&oracle, &q);
        assert!(gap(&noise, &exact.noise) < 1e-12);
        assert!(gap(&found.to_dense(), &exact.cov.to_dense()) < 1e-10);
        assert!(gap(&diagonal(&oracle, &q).1.diagonal(), &exact.cov.diagonal()) < 1e-10);
    }

    /// Where next to nothing is left of the rows the noise has hardly any variance, and what it is
    /// held above is less.
    #[test]
    fn hardly_any_variance_is_kept() {
        let (oracle, x) = oracle();
        let oracle = Oracle::new(oracle.mixture, Arc::new(Vp::linear(0.1, 50.0)));
        let times = Times::All(0.9);
        let q = Query::new(&x, &times);
        let exact = oracle.moments(&q).cov.diagonal();
        assert!(exact.max().double_value(&[]) < 1e-2 * FLOOR, "{exact:?}");
        for found in [full(&oracle, &q).1, diagonal(&oracle, &q).1] {
            let apart = (found.diagonal() / &exact - 1.0).abs().max();
            assert!(apart.double_value(&[]) < 1e-3, "{apart:?}");
        }
    }

    /// Off-diagonal entries average out: with 4000 probes within four standard errors
    /// `√(Σ_{j≠i} G_ij²/M)`.
    #[test]
    fn random_signs_have_the_diagonal_as_their_mean() {
        let (oracle, x) = oracle();
        let times = times();
        let q = Query::new(&x, &times);
        let exact = oracle.moments(&q).cov;
        let (probes, diagonal) = (4000, exact.diagonal());
        let mut streams = Noise::new(Seed(8), 0..3);
        let found = rademacher(&oracle, &q, probes, &mut streams).1.diagonal();
        let others =
            exact.to_dense().square().sum_dim_intlist([2i64].as_slice(), false, None::<Kind>)
                - diagonal.square();
        let error = (others / probes as f64).sqrt();
        let within = (found - diagonal.clamp(FLOOR, 1.0)).abs().le_tensor(&(error * 4.0 + 1e-12));
        assert_eq!(within.all().int64_value(&[]), 1);
    }

    /// Row by row, the mean over 4000 seeds of one sign vector's estimate is the exact diagonal,
    /// within four standard errors `√(Σ_{j≠i} G_ij²/4000)`. Nothing is held in `[0, 1]` here: with
    /// all signs against it a coordinate reaches `G_ii ± Σ_{j≠i} |G_ij|`, within it.
    #[test]
    fn every_row_is_unbiased() {
        let means = [[-0.5, 0.3, 0.0], [0.5, 0.0, 0.2]];
        let mixture = GaussianMixture::new(&[0.4, 0.6], &means, &[0.3, 0.4]).unwrap();
        let x = mixture.sample(6, Seed(5));
        let oracle = Oracle::new(mixture, Arc::new(Vp::default()));
        let times = Times::each(vec![0.1, 0.2, 0.3, 0.4, 0.5, 0.6]);
        let q = Query::new(&x, &times);
        let exact = oracle.moments(&q).cov;
        let diagonal = exact.diagonal();
        let others = exact.to_dense() - Tensor::diag_embed(&diagonal, 0, -2, -1);
        let reach = sum_over(&others.abs(), 2);
        let (least, most) = ((&diagonal - &reach).min(), (&diagonal + &reach).max());
        assert!(least.double_value(&[]) > FLOOR && most.double_value(&[]) < 1.0, "{least} {most}");
        let seeds = 4000;
        let mut sum = diagonal.zeros_like();
        for seed in 0..seeds {
            sum += rademacher(&oracle, &q, 1, &mut Noise::new(Seed(seed), 0..6)).1.diagonal();
        }
        let error = (sum_over(&others.square(), 2) / seeds as f64).sqrt();
        assert!(error.max().double_value(&[]) > 1e-4, "{error:?}");
        let off = (sum / seeds as f64 - &diagonal).abs() / (error + 1e-13);
        assert!(off.max().double_value(&[]) < 4.0, "{off}");
    }

    /// Rows at one and the same `x_t` have signs of their own, and so has the next call; another
    /// seed has others; and a row is the same in any batch. The errors of many rows then average
    /// out, which those of common signs do not.
    #[test]
    fn signs_are_of_the_row_and_the_step() {
        let (oracle, x) = oracle();
        let x = x.narrow(0, 1, 1).expand([400, 3], false).contiguous();
        let t = Times::All(0.3);
        let at = |streams: &mut Noise, rows: std::ops::Range<i64>| {
            let x = x.narrow(0, rows.start, rows.end - rows.start);
            rademacher(&oracle, &Query::new(&x, &t), 1, streams).1.diagonal()
        };
        let mut streams = Noise::new(Seed(3), 0..400);
        let (first, second) = (at(&mut streams, 0..400), at(&mut streams, 0..400));
        let differ = |a: &Tensor, b: &Tensor| {
            (a - b).abs().amax([1i64].as_slice(), false).gt(1e-6).sum(Kind::Int64).int64_value(&[])
        };
        assert!(differ(&first.narrow(0, 0, 399), &first.narrow(0, 1, 399)) > 200, "rows");
        assert!(differ(&first, &second) > 200, "calls");
        assert!(differ(&first, &at(&mut Noise::new(Seed(4), 0..400), 0..400)) > 200, "seeds");
        let mut part = Noise::new(Seed(3), 17..30);
        assert!(
            gap(&at(&mut part, 17..30), &first.narrow(0, 17, 13)) < 1e-12,
            "first call in another batch"
        );
        assert!(gap(&at(&mut part, 17..30), &second.narrow(0, 17, 13)) < 1e-12, "second call");
        // unheld, one sign's error has the variance Σ_{j≠i} G_ij²; the mean of 400 rows a 400th of
        // it
        let exact = oracle.moments(&Query::new(&x.narrow(0, 0, 1), &t)).cov;
        let others =
            exact.to_dense().square().sum_dim_intlist([2i64].as_slice(), false, None::<Kind>)
                - exact.diagonal().square();
        let signs =
            Noise::new(Seed(3), 0..400).rademacher(3, Kind::Double, x.device()).unsqueeze(0);
        let products =
            products(&oracle, &Query::new(&x, &t), &signs).1.squeeze_dim(1) * signs.squeeze_dim(0);
        let mean = products.mean_dim([0i64].as_slice(), true, None::<Kind>);
        let within =
            (mean - exact.diagonal()).abs().le_tensor(&((others / 400.0).sqrt() * 4.0 + 1e-12));
        assert_eq!(within.all().int64_value(&[]), 1);
    }
}
