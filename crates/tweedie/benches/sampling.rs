//! A step of the sampler, and a scored row.

mod common;

use divan::Bencher;
use tweedie::covariance::{Own, Reverse};
use tweedie::grid::Spacing;
use tweedie::likelihood::{Elbo, LogLikelihood};
use tweedie::model::Denoiser;
use tweedie::noise::{Noise, Seed};
use tweedie::query::{Batch, Query, Times};
use tweedie::sample::{Ancestral, LastStep, Step};

fn main() {
    common::process::keep_memory();
    divan::main();
}

#[divan::bench(args = [(2, 0), (10, 4), (64, 4), (64, 16)], sample_count = 50)]
fn ancestral_step_512_rows_d_rank(bencher: Bencher, (d, rank): (usize, i64)) {
    let model = common::residual(d, Some(rank));
    let sampler = Ancestral::new(&model, Own, 1.0, LastStep::Mean).expect("a sampler");
    let x = common::normal(5, 512, d);
    let mut noise = Noise::new(Seed(6), 0..512);
    let times = Times::All(0.5);
    let q = Query::new(&x, &times);
    bencher.bench_local(|| tch::no_grad(|| sampler.step(&q, 0.4, &mut noise)));
}

#[divan::bench(args = [(2, 0), (10, 4), (64, 4), (64, 16)], sample_count = 20)]
fn elbo_10_steps_512_rows_d_rank(bencher: Bencher, (d, rank): (usize, i64)) {
    let model = common::residual(d, Some(rank));
    let grid = Spacing::default().elbo_grid(model.space().schedule(), 10);
    let elbo = Elbo::new(Reverse::new(&model, Own, 1.0).expect("a reverse distribution"), grid, 1);
    let batch = Batch::of(&common::normal(5, 512, d));
    bencher
        .counter(divan::counter::ItemsCount::new(512usize))
        .bench_local(|| elbo.log_likelihood(&batch, Seed(7), 0));
}
