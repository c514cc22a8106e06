//! Training steps: the whole trainer's step, by objective, dimension and rank of the head.

mod common;

use common::Training;
use divan::Bencher;

fn main() {
    common::process::keep_memory();
    divan::main();
}

fn step(bencher: Bencher, mut training: Training) {
    training.run(3);
    bencher.bench_local(|| training.run(1));
}

#[divan::bench]
fn mlp_3_128_128_2_batch_512(bencher: Bencher) {
    step(bencher, common::mlp());
}

#[divan::bench(args = [2, 10, 64], sample_count = 50)]
fn dsm_step_512_evaluations(bencher: Bencher, d: usize) {
    step(bencher, common::dsm(d));
}

#[divan::bench(args = [(2, 0), (10, 0), (10, 4), (64, 0), (64, 4), (64, 16)], sample_count = 50)]
fn lm_step_512_evaluations_d_rank(bencher: Bencher, (d, rank): (usize, i64)) {
    step(bencher, common::lm(d, rank));
}

#[divan::bench(sample_count = 10)]
fn dsm_step_4_trials_of_1000_rows(bencher: Bencher) {
    step(bencher, common::trials(4));
}
