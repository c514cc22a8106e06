//! One structured symmetric matrix per row: the form of Hessians, of `G` and of every covariance.
//!
//! ```
//! use tweedie::sym_matrix::SymMatrix;
//! use tweedie::tch::{Kind, Tensor};
//!
//! // I + v vᵀ with v = (1, 2): by Sherman and Morrison ln det = ln 6 and vᵀ A⁻¹ v = 5/6
//! let v = Tensor::from_slice2(&[[1.0, 2.0]]);
//! let a = SymMatrix::low_rank(v.ones_like(), v.unsqueeze(-1));
//! assert!((a.log_det().double_value(&[0]) - 6.0_f64.ln()).abs() < 1e-12);
//! assert!((a.inv_quad(&v).double_value(&[0]) - 5.0 / 6.0).abs() < 1e-12);
//!
//! // the other forms have the same operations
//! let dense = SymMatrix::Full(a.to_dense());
//! assert!((dense.log_det() - a.log_det()).abs().double_value(&[0]) < 1e-12);
//! assert_eq!((dense.dim(), dense.kind()), (2, Kind::Double));
//! ```

use crate::query::Coefficient;
use crate::tensor::{Count, squared_norm, sum_last};
use tch::{Device, Kind, Tensor, no_grad};

/// A batch of symmetric `d × d` matrices, one per row, in one of four forms.
///
/// Low-rank forms follow Likelihood Matching, Lemma 6: with `W = D^{−½}V` and
/// `M = I_r + WᵀW = L Lᵀ`, every operation costs `O(d r²)`, never `O(d²)`.
#[derive(Debug)]
pub enum SymMatrix {
    /// `v I`; `value` is `[b]`.
    Isotropic {
        /// `v`, `[b]`.
        value: Tensor,
        /// `d`.
        dim: i64,
    },
    /// `diag(u)`, `[b, d]`.
    Diagonal(Tensor),
    /// `diag(u) + V Vᵀ`.
    LowRank {
        /// `u`, `[b, d]`.
        diag: Tensor,
        /// `V`, `[b, d, r]`.
        factor: Tensor,
    },
    /// Dense, `[b, d, d]`.
    Full(Tensor),
}

/// A factorisation of a positive definite [`SymMatrix`], shared by determinant, quadratic form and
/// traces.
#[derive(Debug)]
enum Factor {
    Isotropic {
        value: Tensor,
        dim: i64,
    },
    Diagonal(Tensor),
    /// `D`, `W = D^{−½} V`, `L` with `L Lᵀ = I + WᵀW`.
    LowRank {
        diag: Tensor,
        scaled: Tensor,
        chol: Checked,
    },
    /// `L` with `L Lᵀ` the matrix.
    Full(Checked),
}

/// The Cholesky-like factorisation of a positive definite [`SymMatrix`].
#[derive(Debug)]
pub struct Cholesky(Factor);

fn column(x: &Tensor) -> Tensor {
    x.unsqueeze(-1)
}

/// Lower Cholesky factors `[b, d, d]`, and which rows have none.
///
/// Every factorisation in a loss or a likelihood goes through here. The rest of a failed row may be
/// anything, so its factor is the identity: what is computed from it is finite, has a gradient of 0
/// and is replaced by NaN at the end ([`Checked::mark`]), so that neither a value nor a gradient of
/// another row is touched.
#[derive(Debug)]
pub(crate) struct Checked {
    /// `L`, and the identity where there is none.
    pub factor: Tensor,
    /// Whether the matrix is not positive definite or not finite, `[b]`.
    pub failed: Tensor,
}

impl Checked {
    /// Factors `matrix` `[b, d, d]`; differentiable.
    pub fn new(matrix: &Tensor) -> Checked {
        if !matrix.requires_grad() {
            return Checked::without_gradient(matrix);
        }
        let failed = no_grad(|| failures(matrix));
        let d = matrix.size()[1];
        let identity = Tensor::eye(d, (matrix.kind(), matrix.device()));
        let safe = identity.where_self(&column(&column(&failed)), matrix);
        Checked { factor: safe.linalg_cholesky_ex(false, false).0, failed }
    }

    /// As [`Checked::new`] where no gradient is needed, by one factorisation instead of two.
    pub fn without_gradient(matrix: &Tensor) -> Checked {
        let (factor, failed) = factor_and_failures(matrix);
        let identity = Tensor::eye(matrix.size()[1], (matrix.kind(), matrix.device()));
        Checked { factor: identity.where_self(&column(&column(&failed)), &factor), failed }
    }

    /// `values` `[b]` with NaN where the factorisation failed, through which no gradient passes.
    pub fn mark(&self, values: Tensor) -> Tensor {
        values.masked_fill(&self.failed, f64::NAN)
    }
}

fn factor_and_failures(matrix: &Tensor) -> (Tensor, Tensor) {
    let (factor, info) = matrix.linalg_cholesky_ex(false, false);
    // LAPACK may take a NaN for a pivot: what is not finite has no factor either
    let pivots = factor.diagonal(0, 1, 2);
    let finite = pivots.isfinite().logical_and(&pivots.gt(0.0)).all_dim(-1, false);
    (factor, info.not_equal(0).logical_or(&finite.logical_not()))
}

fn failures(matrix: &Tensor) -> Tensor {
    factor_and_failures(matrix).1
}

/// `matrix` `[b, d, d]` with the identity for rows that are not finite, on which LibTorch fails for
/// the whole batch, and which those are, `[b, 1, 1]`.
fn finite_rows(matrix: &Tensor) -> (Tensor, Tensor) {
    let finite = matrix.isfinite().flatten(1, 2).all_dim(-1, false);
    let bad = column(&column(&finite.logical_not()));
    let identity = Tensor::eye(matrix.size()[1], (matrix.kind(), matrix.device()));
    (identity.where_self(&bad, matrix), bad)
}

/// Eigenvalues `[b, d]`, rising; NaN in the rows that are not finite.
pub(crate) fn eigenvalue_rows(matrix: &Tensor) -> Tensor {
    let (safe, bad) = finite_rows(matrix);
    let values = safe.f_linalg_eigvalsh("L").unwrap_or_else(|_| eigen_rows(&safe).0);
    values.masked_fill(&bad.squeeze_dim(-1), f64::NAN)
}

/// Eigenvalues `[b, d]`, rising, and eigenvectors `[b, d, d]`; NaN in the rows that are not finite
/// or have none.
pub(crate) fn eigen_rows(matrix: &Tensor) -> (Tensor, Tensor) {
    let (safe, bad) = finite_rows(matrix);
    let (values, vectors) = safe.f_linalg_eigh("L").unwrap_or_else(|_| {
        // one that does not converge is found by itself
        let each = (0..safe.size()[0]).map(|i| {
            let row = safe.narrow(0, i, 1);
            row.f_linalg_eigh("L")
                .unwrap_or_else(|_| (row.select(1, 0) * f64::NAN, row.full_like(f64::NAN)))
        });
        let (values, vectors): (Vec<Tensor>, Vec<Tensor>) = each.unzip();
        (Tensor::cat(&values, 0), Tensor::cat(&vectors, 0))
    });
    (values.masked_fill(&bad.squeeze_dim(-1), f64::NAN), vectors.masked_fill(&bad, f64::NAN))
}

/// A square root `R`, `R Rᵀ = A`, of positive semidefinite matrices `[b, d, d]`: the Cholesky
/// factor where there is one, otherwise, as where `A` is singular up to rounding, that of the
/// eigenvalues held at 0 and above; NaN in rows that are not finite.
pub(crate) fn root_rows(matrix: &Tensor) -> Tensor {
    let Checked { factor, failed } = Checked::without_gradient(matrix);
    if failed.any().int64_value(&[]) == 0 {
        return factor;
    }
    let rows = failed.nonzero().squeeze_dim(-1);
    let (values, vectors) = eigen_rows(&matrix.index_select(0, &rows));
    factor.index_copy(0, &rows, &(vectors * values.clamp_min(0.0).sqrt().unsqueeze(1)))
}

impl SymMatrix {
    /// `v I` for every row of a batch of `d`-vectors.
    pub fn isotropic(value: Tensor, dim: i64) -> SymMatrix {
        assert_eq!(
            value.dim(),
            1,
            "an isotropic matrix needs one value per row, got {:?}",
            value.size()
        );
        SymMatrix::Isotropic { value, dim }
    }

    /// `v I` for the rows of `like` `[b, d]`, in its kind and on its device.
    pub fn scalar(value: &Coefficient, like: &Tensor) -> SymMatrix {
        SymMatrix::isotropic(value.rows(like), like.size()[1])
    }

    /// `diag(u) + V Vᵀ`; shapes `[b, d]` and `[b, d, r]`.
    pub fn low_rank(diag: Tensor, factor: Tensor) -> SymMatrix {
        let (d, f) = (diag.size(), factor.size());
        assert!(
            d.len() == 2 && f.len() == 3 && d[..] == f[..2],
            "low rank: diagonal {d:?}, factor {f:?}"
        );
        if f[2] == 0 { SymMatrix::Diagonal(diag) } else { SymMatrix::LowRank { diag, factor } }
    }

    /// Number of rows `b`.
    pub fn rows(&self) -> i64 {
        self.any().size()[0]
    }

    /// Dimension `d`.
    pub fn dim(&self) -> i64 {
        match self {
            SymMatrix::Isotropic { dim, .. } => *dim,
            SymMatrix::Diagonal(u) | SymMatrix::LowRank { diag: u, .. } | SymMatrix::Full(u) => {
                u.size()[1]
            }
        }
    }

    /// Normals that [`SymMatrix::sample`] consumes per row: `d`, and `r` more in low-rank form.
    pub fn noise_dim(&self) -> i64 {
        match self {
            SymMatrix::LowRank { factor, .. } => self.dim() + factor.size()[2],
            _ => self.dim(),
        }
    }

    fn any(&self) -> &Tensor {
        match self {
            SymMatrix::Isotropic { value: x, .. }
            | SymMatrix::Diagonal(x)
            | SymMatrix::LowRank { diag: x, .. }
            | SymMatrix::Full(x) => x,
        }
    }

    /// Element kind.
    pub fn kind(&self) -> Kind {
        self.any().kind()
    }

    /// Device.
    pub fn device(&self) -> Device {
        self.any().device()
    }

    /// The same matrix in another element kind.
    pub fn to_kind(&self, kind: Kind) -> SymMatrix {
        self.map(|x| x.to_kind(kind))
    }

    /// The same matrix, cut off from the autograd graph.
    pub fn detach(&self) -> SymMatrix {
        self.map(|x| x.detach())
    }

    /// Rows `start .. start + length`.
    pub fn narrow(&self, start: i64, length: i64) -> SymMatrix {
        self.map(|x| x.narrow(0, start, length))
    }

    fn map(&self, f: impl Fn(&Tensor) -> Tensor) -> SymMatrix {
        match self {
            SymMatrix::Isotropic { value, dim } => {
                SymMatrix::Isotropic { value: f(value), dim: *dim }
            }
            SymMatrix::Diagonal(u) => SymMatrix::Diagonal(f(u)),
            SymMatrix::LowRank { diag, factor } => {
                SymMatrix::LowRank { diag: f(diag), factor: f(factor) }
            }
            SymMatrix::Full(a) => SymMatrix::Full(f(a)),
        }
    }

    /// `A` on the coordinates where `mask` `[b, d]` is 1, the identity where it is 0, and nothing
    /// between the two.
    pub fn on(&self, mask: &Tensor) -> SymMatrix {
        let rest = -mask + 1.0;
        match self {
            SymMatrix::Isotropic { value, .. } => {
                SymMatrix::Diagonal(value.unsqueeze(-1) * mask + rest)
            }
            SymMatrix::Diagonal(u) => SymMatrix::Diagonal(u * mask + rest),
            SymMatrix::LowRank { diag, factor } => {
                SymMatrix::LowRank { diag: diag * mask + rest, factor: factor * mask.unsqueeze(-1) }
            }
            SymMatrix::Full(a) => {
                let both = mask.unsqueeze(2) * mask.unsqueeze(1);
                SymMatrix::Full(a * both + rest.diag_embed(0, 1, 2))
            }
        }
    }

    /// `scale · A + shift · I`, `scale ≥ 0`.
    pub fn affine(&self, scale: &Coefficient, shift: &Coefficient) -> SymMatrix {
        match self {
            SymMatrix::Isotropic { value, dim } => {
                SymMatrix::Isotropic { value: value * scale + shift, dim: *dim }
            }
            SymMatrix::Diagonal(u) => SymMatrix::Diagonal(u * scale + shift),
            SymMatrix::LowRank { diag, factor } => {
                SymMatrix::LowRank { diag: diag * scale + shift, factor: factor * &scale.sqrt() }
            }
            SymMatrix::Full(a) => {
                let identity = Tensor::eye(self.dim(), (a.kind(), a.device()));
                let shift = column(&shift.column(a));
                SymMatrix::Full(a * scale + identity * shift)
            }
        }
    }

    /// `S A S` with the diagonal `S ≤ I` that brings every variance above `most > 0` down to it:
    /// correlations stay. Of a diagonal matrix it is the clamp. And how many of the `b·d` variances
    /// were above.
    pub fn with_variances_at_most(&self, most: f64) -> (SymMatrix, Count) {
        assert!(most > 0.0, "variances of at most {most}");
        let variances = self.diagonal();
        let count = Count::of(&variances.gt(most));
        let shrink = (variances.clamp_min(0.0).reciprocal() * most).clamp_max(1.0);
        let clamped = match self {
            SymMatrix::Isotropic { value, dim } => {
                SymMatrix::Isotropic { value: value.clamp_max(most), dim: *dim }
            }
            SymMatrix::Diagonal(u) => SymMatrix::Diagonal(u.clamp_max(most)),
            SymMatrix::LowRank { diag, factor } => {
                SymMatrix::LowRank { diag: diag * &shrink, factor: factor * column(&shrink.sqrt()) }
            }
            SymMatrix::Full(a) => {
                let scale = shrink.sqrt();
                SymMatrix::Full(a * column(&scale) * scale.unsqueeze(1))
            }
        };
        (clamped, count)
    }

    /// `(1 − w) A + w B`, `w ≥ 0`, of two matrices of one form, and how many of its `b·d` variances
    /// were below 0. For `w > 1` it need not be positive semidefinite, and what is returned is: of
    /// a dense matrix the eigenvalues are held at 0. Of the other forms every variance is the
    /// combination's, held at 0, and of a low-rank form's combined factors the positive part is
    /// kept, of their negative part the diagonal.
    ///
    /// # Panics
    /// If the forms differ.
    pub fn extrapolate(a: &SymMatrix, b: &SymMatrix, w: f64) -> (SymMatrix, Count) {
        let mix = |a: &Tensor, b: &Tensor| a * (1.0 - w) + b * w;
        let held = |u: Tensor| (u.clamp_min(0.0), Count::of(&u.lt(0.0)));
        match (a, b) {
            (SymMatrix::Isotropic { value: a, dim }, SymMatrix::Isotropic { value: b, .. }) => {
                let (value, Count { some, all }) = held(mix(a, b));
                let count = Count { some: some * *dim as u64, all: all * *dim as u64 };
                (SymMatrix::Isotropic { value, dim: *dim }, count)
            }
            (SymMatrix::Diagonal(a), SymMatrix::Diagonal(b)) => {
                let (diag, count) = held(mix(a, b));
                (SymMatrix::Diagonal(diag), count)
            }
            (
                SymMatrix::LowRank { diag: a, factor: fa },
                SymMatrix::LowRank { diag: b, factor: fb },
            ) => {
                let factors = Tensor::cat(&[fa * (1.0 - w).abs().sqrt(), fb * w.sqrt()], 2);
                if w <= 1.0 {
                    let (diag, count) = held(mix(a, b));
                    return (SymMatrix::low_rank(diag, factors), count);
                }
                // F S Fᵀ = Q (R S Rᵀ) Qᵀ = P − N with signs S: −1 for A's columns, 1 for B's
                let ranks = [fa.size()[2], fb.size()[2]];
                let like = (factors.kind(), factors.device());
                let signs = Tensor::cat(
                    &[-Tensor::ones([ranks[0]], like), Tensor::ones([ranks[1]], like)],
                    0,
                );
                let (q, r) = Tensor::linalg_qr(&factors, "reduced");
                let (values, vectors) = eigen_rows(&(&r * signs).matmul(&r.transpose(1, 2)));
                let directions = q.matmul(&vectors);
                let scaled =
                    |values: Tensor| &directions * values.clamp_min(0.0).sqrt().unsqueeze(1);
                // values rise: the positive ones, as many as B's columns at most, are the last
                let kept = ranks[1].min(values.size()[1]);
                let positive = scaled(values.shallow_clone());
                let factor = positive.narrow(2, values.size()[1] - kept, kept);
                let diag = mix(a, b) - squared_norm(&scaled(-&values));
                let of_factor = squared_norm(&factor);
                let variances = &diag + &of_factor;
                // where the factor's variance alone is too large, it is brought down
                let shrink = (variances.clamp_min(0.0) / of_factor).sqrt();
                let shrink = shrink.where_self(&diag.lt(0.0), &diag.ones_like());
                let factor = factor * column(&shrink);
                let count = Count::of(&variances.lt(0.0));
                (SymMatrix::low_rank(diag.clamp_min(0.0), factor), count)
            }
            (SymMatrix::Full(a), SymMatrix::Full(b)) => {
                let mixed = mix(a, b);
                let count = Count::of(&mixed.diagonal(0, 1, 2).lt(0.0));
                let (values, vectors) = eigen_rows(&mixed);
                let root = vectors * values.clamp_min(0.0).sqrt().unsqueeze(1);
                (SymMatrix::Full(root.matmul(&root.transpose(1, 2))), count)
            }
            _ => panic!("a combination of matrices of two forms"),
        }
    }

    /// `A x`, `[b, d]`.
    pub fn matvec(&self, x: &Tensor) -> Tensor {
        match self {
            SymMatrix::Isotropic { value, .. } => x * column(value),
            SymMatrix::Diagonal(u) => x * u,
            SymMatrix::LowRank { diag, factor } => {
                let inner = factor.transpose(1, 2).matmul(&column(x));
                x * diag + factor.matmul(&inner).squeeze_dim(-1)
            }
            SymMatrix::Full(a) => a.matmul(&column(x)).squeeze_dim(-1),
        }
    }

    /// `tr A`, `[b]`.
    pub fn trace(&self) -> Tensor {
        match self {
            SymMatrix::Isotropic { value, dim } => value * *dim as f64,
            _ => sum_last(&self.diagonal()),
        }
    }

    /// The diagonal, `[b, d]`.
    pub fn diagonal(&self) -> Tensor {
        match self {
            SymMatrix::Isotropic { value, dim } => {
                column(value).expand([value.size()[0], *dim], false)
            }
            SymMatrix::Diagonal(u) => u.shallow_clone(),
            SymMatrix::LowRank { diag, factor } => diag + squared_norm(factor),
            SymMatrix::Full(a) => a.diagonal(0, 1, 2),
        }
    }

    /// The matrix written out, `[b, d, d]`.
    pub fn to_dense(&self) -> Tensor {
        match self {
            SymMatrix::Isotropic { .. } | SymMatrix::Diagonal(_) => {
                self.diagonal().diag_embed(0, 1, 2)
            }
            SymMatrix::LowRank { diag, factor } => {
                diag.diag_embed(0, 1, 2) + factor.matmul(&factor.transpose(1, 2))
            }
            SymMatrix::Full(a) => a.shallow_clone(),
        }
    }

    /// The factorisation that determinants, quadratic forms and inverse traces share. A row whose
    /// matrix is not positive definite gives NaN there.
    pub fn cholesky(&self) -> Cholesky {
        Cholesky(match self {
            SymMatrix::Isotropic { value, dim } => {
                Factor::Isotropic { value: value.shallow_clone(), dim: *dim }
            }
            SymMatrix::Diagonal(u) => Factor::Diagonal(u.shallow_clone()),
            SymMatrix::LowRank { diag, factor } => {
                let scaled = factor * column(&diag.rsqrt());
                let r = factor.size()[2];
                let identity = Tensor::eye(r, (diag.kind(), diag.device()));
                let chol = Checked::new(&(scaled.transpose(1, 2).matmul(&scaled) + identity));
                Factor::LowRank { diag: diag.shallow_clone(), scaled, chol }
            }
            SymMatrix::Full(a) => Factor::Full(Checked::new(a)),
        })
    }

    /// `ln det A`, `[b]`.
    pub fn log_det(&self) -> Tensor {
        self.cholesky().log_det()
    }

    /// `xᵀ A⁻¹ x`, `[b]`.
    pub fn inv_quad(&self, x: &Tensor) -> Tensor {
        self.cholesky().inv_quad(x)
    }

    /// `tr A⁻¹`, `[b]`.
    pub fn trace_inv(&self) -> Tensor {
        self.cholesky().trace_inv()
    }

    /// A draw of `N(0, A)` from normals `[b, noise_dim]`: `D^{½} z + V ξ` in low-rank form (no root
    /// needed), a Cholesky factor otherwise, or a root by eigenvalues where a dense `A` is
    /// singular.
    pub fn sample(&self, normals: &Tensor) -> Tensor {
        assert_eq!(normals.size(), [self.rows(), self.noise_dim()], "normals for a sample");
        match self {
            SymMatrix::Isotropic { value, .. } => normals * column(&value.sqrt()),
            SymMatrix::Diagonal(u) => normals * u.sqrt(),
            SymMatrix::LowRank { diag, factor } => {
                let (z, xi) = (
                    normals.narrow(1, 0, self.dim()),
                    normals.narrow(1, self.dim(), factor.size()[2]),
                );
                z * diag.sqrt() + factor.matmul(&column(&xi)).squeeze_dim(-1)
            }
            SymMatrix::Full(a) => root_rows(a).matmul(&column(normals)).squeeze_dim(-1),
        }
    }

    /// `A^{½} x` with a square root `R`, `R Rᵀ = A`: symmetric except in low-rank form, where it is
    /// Lemma 6's `D^{½}(I + W Q diag(1/(1+√(1+λ))) Qᵀ Wᵀ)`, `WᵀW = Q Λ Qᵀ` (symmetric when `D` is
    /// isotropic). Drawing takes no such root: [`SymMatrix::sample`].
    pub fn sqrt_matvec(&self, x: &Tensor) -> Tensor {
        match self {
            SymMatrix::Isotropic { .. } | SymMatrix::Diagonal(_) => self.sample(x),
            SymMatrix::LowRank { diag, factor } => {
                let scaled = factor * column(&diag.rsqrt());
                let (lambda, q) = eigen_rows(&scaled.transpose(1, 2).matmul(&scaled));
                let basis = scaled.matmul(&q);
                let weight: Tensor = ((lambda.clamp_min(0.0) + 1.0).sqrt() + 1.0).reciprocal();
                let inner = column(&weight) * basis.transpose(1, 2).matmul(&column(x));
                diag.sqrt() * (x + basis.matmul(&inner).squeeze_dim(-1))
            }
            SymMatrix::Full(a) => {
                let (lambda, q) = eigen_rows(a);
                let inner =
                    column(&lambda.clamp_min(0.0).sqrt()) * q.transpose(1, 2).matmul(&column(x));
                q.matmul(&inner).squeeze_dim(-1)
            }
        }
    }
}

impl Cholesky {
    /// `ln det A`, `[b]`.
    pub fn log_det(&self) -> Tensor {
        match &self.0 {
            Factor::Isotropic { value, dim } => value.log() * *dim as f64,
            Factor::Diagonal(u) => sum_last(&u.log()),
            Factor::LowRank { diag, chol, .. } => chol
                .mark(sum_last(&diag.log()) + sum_last(&chol.factor.diagonal(0, 1, 2).log()) * 2.0),
            Factor::Full(chol) => chol.mark(sum_last(&chol.factor.diagonal(0, 1, 2).log()) * 2.0),
        }
    }

    /// `xᵀ A⁻¹ x`, `[b]`, for `x` `[b, d]`.
    pub fn inv_quad(&self, x: &Tensor) -> Tensor {
        match &self.0 {
            Factor::Isotropic { value, .. } => squared_norm(x) / value,
            Factor::Diagonal(u) => sum_last(&(x.square() / u)),
            Factor::LowRank { diag, scaled, chol } => {
                let y = x * diag.rsqrt();
                let inner = scaled.transpose(1, 2).matmul(&column(&y));
                let solved = chol.factor.linalg_solve_triangular(&inner, false, true, false);
                chol.mark(squared_norm(&y) - squared_norm(&solved.squeeze_dim(-1)))
            }
            Factor::Full(chol) => {
                let solved = chol.factor.linalg_solve_triangular(&column(x), false, true, false);
                chol.mark(squared_norm(&solved.squeeze_dim(-1)))
            }
        }
    }

    /// `tr A⁻¹`, `[b]`: in low-rank form `tr D⁻¹ − tr(M⁻¹ VᵀD⁻²V)`.
    pub fn trace_inv(&self) -> Tensor {
        match &self.0 {
            Factor::Isotropic { value, dim } => value.reciprocal() * *dim as f64,
            Factor::Diagonal(u) => sum_last(&u.reciprocal()),
            Factor::LowRank { diag, scaled, chol } => {
                let half = scaled * column(&diag.rsqrt());
                let solved =
                    chol.factor.linalg_solve_triangular(&half.transpose(1, 2), false, true, false);
                chol.mark(sum_last(&diag.reciprocal()) - sum_last(&squared_norm(&solved)))
            }
            Factor::Full(chol) => {
                let factor = &chol.factor;
                let like = (factor.kind(), factor.device());
                let identity = Tensor::eye(factor.size()[1], like).expand_as(factor);
                let solved = factor.linalg_solve_triangular(&identity, false, true, false);
                chol.mark(sum_last(&squared_norm(&solved)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::{Noise, Seed};
    use crate::tensor::to_vec;
    use proptest::prelude::*;

    const F64: (Kind, Device) = (Kind::Double, Device::Cpu);

    fn normal(seed: u64, shape: &[i64]) -> Tensor {
        let n: i64 = shape.iter().product();
        Noise::new(Seed(seed), 0..1).normal(n as usize, F64.0, F64.1).view(shape)
    }

    fn forms(seed: u64, b: i64, d: i64, r: i64) -> Vec<SymMatrix> {
        let diag = normal(seed, &[b, d]).exp();
        let factor = normal(seed + 1, &[b, d, r]);
        let low = SymMatrix::low_rank(diag.shallow_clone(), factor);
        vec![
            SymMatrix::isotropic(normal(seed, &[b]).exp(), d),
            SymMatrix::Diagonal(diag),
            SymMatrix::Full(low.to_dense()),
            low,
        ]
    }

    fn close(a: &Tensor, b: &Tensor, tolerance: f64, what: &str) {
        let scale = b.abs().max().double_value(&[]).max(1.0);
        let error = (a - b).abs().max().double_value(&[]) / scale;
        assert!(error < tolerance, "{what}: relative error {error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 24,
            failure_persistence: None,
            ..ProptestConfig::default()
        })]
        /// Every structured operation equals the dense one, to 1e-10.
        #[test]
        fn operations_equal_dense_ones(
            seed in 0u64..1000,
            b in 1i64..4,
            d in 1i64..9,
            r in 1i64..5,
        ) {
            let x = normal(seed + 9, &[b, d]);
            for a in forms(seed, b, d, r) {
                let dense = a.to_dense();
                let inverse = dense.inverse();
                close(&a.log_det(), &Tensor::linalg_slogdet(&dense).1, 1e-10, "log det");
                let solved = inverse.matmul(&x.unsqueeze(-1)).squeeze_dim(-1);
                close(&a.inv_quad(&x), &sum_last(&(&solved * &x)), 1e-10, "quadratic form");
                let traces = sum_last(&inverse.diagonal(0, 1, 2));
                close(&a.trace_inv(), &traces, 1e-10, "trace of the inverse");
                close(&a.trace(), &sum_last(&dense.diagonal(0, 1, 2)), 1e-12, "trace");
                close(&a.diagonal(), &dense.diagonal(0, 1, 2), 1e-12, "diagonal");
                let product = dense.matmul(&x.unsqueeze(-1)).squeeze_dim(-1);
                close(&a.matvec(&x), &product, 1e-12, "product");
                let (scale, shift) = (normal(seed + 3, &[b]).exp(), normal(seed + 4, &[b]).exp());
                let moved = &dense * scale.view([b, 1, 1])
                    + Tensor::eye(d, F64) * shift.view([b, 1, 1]);
                let coefficients = (Coefficient::of_rows(&scale), Coefficient::of_rows(&shift));
                let scaled = a.affine(&coefficients.0, &coefficients.1).to_dense();
                close(&scaled, &moved, 1e-12, "affine");
                let same = &dense * 0.7 + Tensor::eye(d, F64) * 0.2;
                let scaled = a.affine(&0.7.into(), &0.2.into()).to_dense();
                close(&scaled, &same, 1e-12, "affine, one for all");
                let (held, above) = a.with_variances_at_most(0.8);
                let factors = (a.diagonal().reciprocal() * 0.8).clamp_max(1.0).sqrt();
                let expected = &dense * factors.unsqueeze(2) * factors.unsqueeze(1);
                close(&held.to_dense(), &expected, 1e-12, "variances held");
                let high = to_vec(&a.diagonal()).iter().filter(|v| **v > 0.8).count() as u64;
                assert_eq!(above, Count { some: high, all: (b * d) as u64 });
            }
        }

        /// `R Rᵀ = A` for the square root, built column by column.
        #[test]
        fn square_root(seed in 0u64..1000, d in 1i64..7, r in 1i64..4) {
            for a in forms(seed, 1, d, r) {
                let columns: Vec<Tensor> =
                    (0..d).map(|i| a.sqrt_matvec(&Tensor::eye(d, F64).narrow(0, i, 1))).collect();
                let root = Tensor::cat(&columns, 0).transpose(0, 1);
                let square = root.matmul(&root.transpose(0, 1)).unsqueeze(0);
                close(&square, &a.to_dense(), 1e-10, "root");
            }
        }
    }

    /// A combination with weights from 0 is exact. One with a negative weight is semidefinite, has
    /// the exact variances, or 0 for negative ones, which are counted; in dense form it is exact
    /// where it is positive definite.
    #[test]
    fn combinations_are_exact_where_they_are_matrices_of_the_form() {
        let (a, b) = (forms(11, 3, 6, 2), forms(29, 3, 6, 2));
        for w in [0.0, 0.4, 1.0, 1.6, 5.0] {
            for (a, b) in a.iter().zip(&b) {
                let exact = a.to_dense() * (1.0 - w) + b.to_dense() * w;
                let (found, held) = SymMatrix::extrapolate(a, b, w);
                let dense = found.to_dense();
                let least = eigenvalue_rows(&dense).min().double_value(&[]);
                assert!(least > -1e-10, "w = {w}: an eigenvalue of {least}");
                let diagonal = exact.diagonal(0, 1, 2);
                assert_eq!(held, Count::of(&diagonal.lt(0.0)), "w = {w}");
                if w <= 1.0 {
                    close(&dense, &exact, 1e-12, "weights from 0");
                } else if matches!(a, SymMatrix::Full(_)) {
                    let definite = eigenvalue_rows(&exact).amin(-1, false).gt(0.0).nonzero();
                    let rows = |x: &Tensor| x.index_select(0, &definite.squeeze_dim(-1));
                    if definite.size()[0] > 0 {
                        close(&rows(&dense), &rows(&exact), 1e-12, "definite");
                    }
                } else {
                    close(&found.diagonal(), &diagonal.clamp_min(0.0), 1e-12, "variances");
                }
            }
        }
    }

    /// The sampling map `z ↦ sample(z)` is linear; its matrix `S` has `S Sᵀ = A` exactly.
    #[test]
    fn samples_have_the_covariance() {
        for a in forms(5, 1, 4, 2) {
            let n = a.noise_dim();
            let columns: Vec<Tensor> =
                (0..n).map(|i| a.sample(&Tensor::eye(n, F64).narrow(0, i, 1))).collect();
            let map = Tensor::cat(&columns, 0);
            close(
                &map.transpose(0, 1).matmul(&map).unsqueeze(0),
                &a.to_dense(),
                1e-12,
                "covariance of samples",
            );
        }
    }

    /// Gradients of log det, quadratic form and inverse trace in low-rank form against autograd
    /// through the dense formulas.
    #[test]
    fn gradients_equal_dense_ones() {
        let (b, d, r) = (3, 6, 2);
        let value = |dense: bool| {
            let diag = normal(1, &[b, d]).exp().set_requires_grad(true);
            let factor = normal(2, &[b, d, r]).set_requires_grad(true);
            let a = SymMatrix::low_rank(diag.shallow_clone(), factor.shallow_clone());
            let a = if dense { SymMatrix::Full(a.to_dense()) } else { a };
            let total = a.log_det() + a.inv_quad(&normal(3, &[b, d])) + a.trace_inv();
            total.sum(Kind::Double).backward();
            (diag.grad(), factor.grad())
        };
        let (low, dense) = (value(false), value(true));
        close(&low.0, &dense.0, 1e-10, "gradient of the diagonal");
        close(&low.1, &dense.1, 1e-10, "gradient of the factor");
    }

    /// A factorisation that fails, by an indefinite matrix or one that is not finite, is an error
    /// of its row: NaN there, and neither values nor gradients of the others, in any form, are
    /// touched.
    #[test]
    fn failed_rows_leave_the_others_alone() {
        let (b, d, r) = (4, 3, 2);
        let run = |broken: bool, full: bool| {
            let (diag, factor, x) =
                (normal(1, &[b, d]).exp(), normal(2, &[b, d, r]), normal(3, &[b, d]));
            let dense = SymMatrix::low_rank(diag.copy(), factor.copy()).to_dense();
            if broken {
                let _ = factor.select(0, 1).fill_(1e200);
                let _ = dense.select(0, 1).fill_(-1.0);
                let _ = dense.select(0, 3).fill_(f64::NAN);
            }
            let inputs = match full {
                true => vec![dense.set_requires_grad(true), x.set_requires_grad(true)],
                false => [diag, factor, x].map(|x| x.set_requires_grad(true)).into(),
            };
            let (a, x) = match &inputs[..] {
                [dense, x] => (SymMatrix::Full(dense.shallow_clone()), x),
                [diag, factor, x] => {
                    (SymMatrix::low_rank(diag.shallow_clone(), factor.shallow_clone()), x)
                }
                _ => unreachable!(),
            };
            let values = a.log_det() + a.inv_quad(x) + a.trace_inv();
            let finite = values.isfinite();
            values.where_self(&finite, &values.zeros_like()).sum(Kind::Double).backward();
            (to_vec(&values), inputs.iter().map(Tensor::grad).collect::<Vec<_>>())
        };
        for (full, lost) in [(true, vec![1, 3]), (false, vec![1])] {
            let (whole, broken) = (run(false, full), run(true, full));
            for row in 0..b as usize {
                match lost.contains(&row) {
                    true => assert!(broken.0[row].is_nan(), "row {row}: {:?}", broken.0),
                    false => assert_eq!(broken.0[row], whole.0[row], "row {row}"),
                }
                for (ours, reference) in broken.1.iter().zip(&whole.1) {
                    let (ours, reference) = (ours.get(row as i64), reference.get(row as i64));
                    // of a lost low-rank row only the factor's own overflow may remain, which its
                    // inputs had
                    if !lost.contains(&row) {
                        assert!(ours.equal(&reference), "gradient of row {row}, full: {full}");
                    } else if full {
                        assert_eq!(
                            ours.abs().max().double_value(&[]),
                            0.0,
                            "gradient of row {row}"
                        );
                    }
                }
            }
        }
    }

    /// A singular dense matrix is sampled all the same, `S Sᵀ = A`; one that is not finite gives
    /// NaN in its row.
    #[test]
    fn singular_matrices_are_sampled() {
        let half = Tensor::from_slice(&[1.0, -2.0, 0.5]);
        let singular = half.outer(&half).unsqueeze(0);
        let a = SymMatrix::Full(Tensor::cat(&[&singular, &singular.full_like(f64::NAN)], 0));
        let draws: Vec<Tensor> = (0..3)
            .map(|i| a.sample(&Tensor::eye(3, F64).narrow(0, i, 1).expand([2, 3], false)))
            .collect();
        let map = Tensor::stack(&draws, 1);
        let found = map.transpose(1, 2).matmul(&map);
        close(&found.narrow(0, 0, 1), &singular, 1e-12, "singular");
        assert_eq!(map.get(1).isnan().all().int64_value(&[]), 1);
        let (values, _) = eigen_rows(&a.to_dense());
        assert!(values.get(1).isnan().all().int64_value(&[]) == 1);
        assert!((values.get(0).double_value(&[2]) - 5.25).abs() < 1e-12);
    }

    #[test]
    fn indefinite_rows_are_nan_alone() {
        let a = SymMatrix::Full(
            Tensor::from_slice(&[1.0, 2.0, 2.0, 1.0, 2.0, 0.0, 0.0, 2.0]).view([2, 2, 2]),
        );
        let log_det = to_vec(&a.log_det());
        assert!(log_det[0].is_nan() && (log_det[1] - 4f64.ln()).abs() < 1e-12);
    }
}
