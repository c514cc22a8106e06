//! The quasi-likelihood of a diagonal plus low-rank `G` with its gradient written out, `O(d r²)`
//! per row.
//!
//! Differentiating through the factorisation takes some thirty passes over arrays of the size of
//! `V`, forward and back; this takes a dozen.

use crate::sym_matrix::Checked;
use crate::tensor::{sum_last, sum_over};
use tch::{Kind, Tensor, no_grad};

/// `Σ` over the middle of `[b, r, d]`.
fn over_rank(x: Tensor) -> Tensor {
    sum_over(&x, 1)
}

/// A value with a gradient in its inputs: the numbers of `value`, the derivatives `gradients` of
/// the inputs. It can be differentiated once.
fn with_gradient(value: Tensor, inputs_and_gradients: [(&Tensor, Tensor); 3]) -> Tensor {
    inputs_and_gradients.into_iter().fold(value, |value, (input, gradient)| {
        let dims: Vec<i64> = (1..input.dim() as i64).collect();
        let linear = (input * gradient).sum_dim_intlist(dims.as_slice(), false, None::<Kind>);
        value + &linear - linear.detach()
    })
}

/// `½ [ln det B + a tr B⁻¹ + c eᵀB⁻¹e]` per row, with `B = shift I + scale (diag(u) + V Vᵀ)`,
/// differentiable once in `u` `[b, d]`, `V` `[b, d, r]` and `e` `[b, d]`; `scale`, `shift`, `a`,
/// `c` are `[b]`, `0 ≤ a ≤ shift`.
///
/// With `D` and `V` those of `B`, `P = D⁻¹V`, `M = I + VᵀP`, `Q = P M⁻¹ = B⁻¹V`, `q = B⁻¹e`,
/// `R = B⁻¹Q = B⁻²V`: `∂/∂B = ½ [B⁻¹ − a B⁻² − c q qᵀ]`, of which the gradient in `D` is the
/// diagonal and that in `V` twice the product with `V`. `R` is a difference, `D⁻¹Q − Q PᵀQ`; its
/// error is harmless because `a D⁻¹ ≤ 1`.
///
/// A row whose `M` has no factor in its precision, or whose value or gradient is not finite, is NaN
/// and has gradients of 0, so that it touches no other row.
pub(super) fn quasi_likelihood(
    (u, v): (&Tensor, &Tensor),
    (scale, shift): (&Tensor, &Tensor),
    (a, c): (&Tensor, &Tensor),
    e: &Tensor,
) -> Tensor {
    let (value, in_u, in_v, in_e) = no_grad(|| {
        // V, P, Q and R are held transposed, `[b, r, d]`, so that inner loops run over d
        let (column, cube) = (|x: &Tensor| x.view([-1, 1]), |x: &Tensor| x.view([-1, 1, 1]));
        let root = cube(&scale.sqrt());
        let d = u * column(scale) + column(shift);
        let inverse = d.reciprocal();
        let v = (v.transpose(1, 2) * &root).contiguous();
        let p = &v * inverse.unsqueeze(1);
        let m = p.matmul(&v.transpose(1, 2)) + Tensor::eye(v.size()[1], (v.kind(), v.device()));
        let Checked { factor: chol, failed } = Checked::without_gradient(&m);
        let q = chol.cholesky_inverse(false).matmul(&p);
        let r = &q * inverse.unsqueeze(1) - q.matmul(&p.transpose(1, 2)).matmul(&q);
        let solved =
            e * &inverse - p.matmul(&e.unsqueeze(-1)).transpose(1, 2).matmul(&q).squeeze_dim(1);

        let inverse_diagonal = &inverse - over_rank(&p * &q);
        let log_det = sum_last(&d.log()) + sum_last(&chol.diagonal(0, 1, 2).log()) * 2.0;
        let trace = sum_last(&inverse_diagonal);
        let value = (log_det + a * trace + c * sum_last(&(e * &solved))) * 0.5;

        let squared_diagonal = &inverse_diagonal * &inverse - over_rank(&p * &r);
        let in_d = inverse_diagonal - squared_diagonal * column(a) - solved.square() * column(c);
        let along = v.matmul(&solved.unsqueeze(-1)) * cube(c);
        let in_v = (q - r * cube(a) - solved.unsqueeze(1) * along) * root;
        let (in_u, in_e) = (in_d * column(&(scale * 0.5)), solved * column(c));
        // 0 for a row of finite numbers, NaN for any other, by one pass over each
        let zero =
            sum_last(&in_u) + in_v.sum_dim_intlist([1i64, 2].as_slice(), false, None::<Kind>);
        let lost = (&value + zero + sum_last(&in_e)).isfinite().logical_not().logical_or(&failed);
        (
            value.masked_fill(&lost, f64::NAN),
            in_u.masked_fill(&lost.unsqueeze(-1), 0.0),
            in_v.masked_fill(&lost.view([-1, 1, 1]), 0.0).transpose(1, 2),
            in_e.masked_fill(&lost.unsqueeze(-1), 0.0),
        )
    });
    with_gradient(value, [(u, in_u), (v, in_v), (e, in_e)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::{Noise, Seed};
    use crate::query::Coefficient;
    use crate::sym_matrix::SymMatrix;
    use tch::Device;

    /// A factor beyond the range of f32 has no `M` with a Cholesky factor, where an inverse
    /// panicked: its row is NaN with gradients of 0, the others are what they are without it.
    #[test]
    fn a_row_that_fails_leaves_the_others_alone() {
        let (b, d, r) = (4, 5, 3);
        let normal = |seed: u64, columns: i64| {
            Noise::new(Seed(seed), 0..b as u64).normal(columns as usize, Kind::Float, Device::Cpu)
        };
        let scale = normal(1, 1).view(-1).sigmoid();
        let shift: Tensor = 1.0 - &scale;
        let run = |wild: f64| {
            let u = normal(2, d).exp();
            let v = normal(3, d * r).view([b, d, r]);
            let _ = u.select(0, 2).fill_(1e-3);
            let _ = v.select(0, 2).fill_(wild);
            let (u, v) = (u.set_requires_grad(true), v.set_requires_grad(true));
            let e = normal(4, d).set_requires_grad(true);
            let value = quasi_likelihood((&u, &v), (&scale, &shift), (&shift, &scale), &e);
            let finite = value.isfinite();
            value.where_self(&finite, &value.zeros_like()).sum(Kind::Float).backward();
            (value.detach(), [u.grad(), v.grad(), e.grad()])
        };
        let (value, gradients) = run(1.0);
        for wild in [1e15, 1e30, f64::INFINITY, f64::NAN] {
            let (found, found_gradients) = run(wild);
            assert!(found.double_value(&[2]).is_nan(), "{wild}: {found}");
            for row in [0, 1, 3] {
                assert_eq!(found.double_value(&[row]), value.double_value(&[row]), "{wild}");
            }
            for (ours, reference) in found_gradients.iter().zip(&gradients) {
                assert_eq!(ours.get(2).abs().max().double_value(&[]), 0.0, "{wild}");
                for row in [0, 1, 3] {
                    assert!(
                        ours.get(row).equal(&reference.get(row)),
                        "{wild}: gradient of row {row}"
                    );
                }
            }
        }
    }

    /// Value and gradients against autograd through the factorisation, in f64.
    #[test]
    fn equals_differentiation_through_the_factorisation() {
        let (b, d, r) = (5, 7, 3);
        let normal = |seed: u64, columns: i64| {
            Noise::new(Seed(seed), 0..b as u64).normal(columns as usize, Kind::Double, Device::Cpu)
        };
        let scale = normal(1, 1).view(-1).sigmoid();
        let shift = 1.0 - &scale;
        let of = Coefficient::of_rows;
        let run = |written_out: bool| {
            let u = normal(2, d).exp().set_requires_grad(true);
            let v = normal(3, d * r).view([b, d, r]).set_requires_grad(true);
            let e = normal(4, d).set_requires_grad(true);
            let value = if written_out {
                quasi_likelihood((&u, &v), (&scale, &shift), (&shift, &scale), &e)
            } else {
                let g = SymMatrix::low_rank(u.shallow_clone(), v.shallow_clone());
                let chol = g.affine(&of(&scale), &of(&shift)).cholesky();
                (chol.log_det() + &shift * chol.trace_inv() + &scale * chol.inv_quad(&e)) * 0.5
            };
            (&value * Tensor::arange(b, (Kind::Double, Device::Cpu))).sum(Kind::Double).backward();
            [value.detach(), u.grad(), v.grad(), e.grad()]
        };
        for (name, (ours, reference)) in
            ["value", "u", "V", "e"].iter().zip(run(true).iter().zip(&run(false)))
        {
            let gap = (ours - reference).abs().max().double_value(&[]);
            assert!(gap < 1e-11, "{name}: {gap}");
        }
    }
}
