//! Low-rank algebra: determinant, quadratic form and inverse trace of `diag(u) + V Vᵀ`, 64 rows,
//! f32.

mod common;

use divan::Bencher;
use tweedie::sym_matrix::SymMatrix;

fn main() {
    common::process::keep_memory();
    divan::main();
}

const ROWS: usize = 64;

#[divan::bench(args = [64, 256, 1024], consts = [1, 4, 16, 64], sample_count = 30)]
fn log_det_inv_quad_trace_inv_64_rows<const RANK: usize>(bencher: Bencher, d: usize) {
    let (x, diag) = (common::normal(1, ROWS, d), common::normal(2, ROWS, d).exp());
    let factor = common::normal(3, ROWS, d * RANK).view([ROWS as i64, d as i64, RANK as i64]);
    let matrix = SymMatrix::low_rank(diag, factor);
    bencher.bench_local(|| {
        let chol = matrix.cholesky();
        chol.log_det() + chol.inv_quad(&x) + chol.trace_inv()
    });
}
