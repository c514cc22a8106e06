//! The quasi-likelihood of a diagonal plus low-rank `G` with its gradient written out, `O(d r²)` per row.
//!
//! Differentiating through the factorisation takes some thirty passes over arrays of the size of `V`, forward and
//! back; this takes a dozen.

use crate::tensor::{sum_last, sum_over};
use tch::{Kind, Tensor, no_grad};

/// `Σ` over the middle of `[b, r, d]`.
fn over_rank(x: Tensor) -> Tensor {
    sum_over(&x, 1)
}

/// A value with a gradient in its inputs: the numbers of `value`, the derivatives `gradients` of the inputs.
/// It can be differentiated once.
fn with_gradient(value: Tensor, inputs_and_gradients: [(&Tensor, Tensor); 3]) -> Tensor {
    inputs_and_gradients.into_iter().fold(value, |value, (input, gradient)| {
        let dims: Vec<i64> = (1..input.dim() as i64).collect();
        let linear = (input * gradient).sum_dim_intlist(dims.as_slice(), false, None::<Kind>);
        value + &linear - linear.detach()
    })
}

/// `½ [ln det B + a tr B⁻¹ + c eᵀB⁻¹e]` per row, with `B = shift I + scale (diag(u) + V Vᵀ)`, differentiable once in
/// `u` `[b, d]`, `V` `[b, d, r]` and `e` `[b, d]`; `scale`, `shift`, `a`, `c` are `[b]`, `0 ≤ a ≤ shift`.
///
/// With `D` and `V` those of `B`, `P = D⁻¹V`, `M = I + VᵀP`, `Q = P M⁻¹ = B⁻¹V`, `q = B⁻¹e`, `R = B⁻¹Q = B⁻²V`:
/// `∂/∂B = ½ [B⁻¹ − a B⁻² − c q qᵀ]`, of which the gradient in `D` is the diagonal and that in `V` twice the product
/// with `V`. `R` is a difference, `D⁻¹Q − Q PᵀQ`; its error is harmless because `a D⁻¹ ≤ 1`.
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
        let (chol, _) = m.linalg_cholesky_ex(false, false);
        let q = chol.cholesky_inverse(false).matmul(&p);
        let r = &q * inverse.unsqueeze(1) - q.matmul(&p.transpose(1, 2)).matmul(&q);
        let solved = e * &inverse - p.matmul(&e.unsqueeze(-1)).transpose(1, 2).matmul(&q).squeeze_dim(1);

        let inverse_diagonal = &inverse - over_rank(&p * &q);
        let log_det = sum_last(&d.log()) + sum_last(&chol.diagonal(0, 1, 2).log()) * 2.0;
        let trace = sum_last(&inverse_diagonal);
        let value = (log_det + a * trace + c * sum_last(&(e * &solved))) * 0.5;

        let squared_diagonal = &inverse_diagonal * &inverse - over_rank(&p * &r);
        let in_d = inverse_diagonal - squared_diagonal * column(a) - solved.square() * column(c);
        let along = v.matmul(&solved.unsqueeze(-1)) * cube(c);
        let in_v = (q - r * cube(a) - solved.unsqueeze(1) * along) * root;
        (value, in_d * column(&(scale * 0.5)), in_v.transpose(1, 2), solved * column(c))
    });
    with_gradient(value, [(u, in_u), (v, in_v), (e, in_e)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::{Noise, Seed};
    use crate::sym_matrix::SymMatrix;
    use tch::Device;

    /// Value and gradients against autograd through the factorisation, in f64.
    #[test]
    fn equals_differentiation_through_the_factorisation() {
        let (b, d, r) = (5, 7, 3);
        let normal = |seed: u64, columns: i64| {
            Noise::new(Seed(seed), 0..b as u64).normal(columns as usize, Kind::Double, Device::Cpu)
        };
        let scale = normal(1, 1).view(-1).sigmoid();
        let shift = 1.0 - &scale;
        let run = |written_out: bool| {
            let u = normal(2, d).exp().set_requires_grad(true);
            let v = normal(3, d * r).view([b, d, r]).set_requires_grad(true);
            let e = normal(4, d).set_requires_grad(true);
            let value = if written_out {
                quasi_likelihood((&u, &v), (&scale, &shift), (&shift, &scale), &e)
            } else {
                let g = SymMatrix::low_rank(u.shallow_clone(), v.shallow_clone());
                let chol = g.affine(&scale, &shift).cholesky();
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
