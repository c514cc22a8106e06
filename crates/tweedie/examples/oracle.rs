//! The lower layer by hand: a distribution whose noise and posterior covariance are known, the
//! reverse step made of them, and what a sampler and a bound lose in few steps.
//!
//!     cargo run --release --example oracle

use std::sync::Arc;

use tweedie::Result;
use tweedie::covariance::{Beta, Own, Reverse};
use tweedie::grid::Spacing;
use tweedie::likelihood::{Elbo, LogLikelihood, ProbabilityFlow};
use tweedie::metric::Mmd;
use tweedie::model::Denoiser;
use tweedie::noise::Seed;
use tweedie::oracle::{GaussianMixture, Oracle};
use tweedie::posterior;
use tweedie::query::{Batch, Query, Times};
use tweedie::sample::{Ancestral, LastStep, run_chain};
use tweedie::schedule::Vp;

fn main() -> Result<()> {
    let schedule = Arc::new(Vp::default());
    let truth = || GaussianMixture::new(&[0.5, 0.5], &[[-3.0], [3.0]], &[1.0, 1.0]);
    let oracle = Oracle::new(truth()?, schedule.clone());
    let x = oracle.mixture.sample(2000, Seed(0));
    let exact = oracle.mixture.log_density(&x).mean(None).double_value(&[]);

    // Tweedie's formulas: the clean data given noisy ones, at one time
    let times = Times::All(0.3);
    let q = Query::new(&x, &times);
    let moments = oracle.moments(&q);
    let clean = posterior::posterior(&x, &moments, &*schedule, &times);
    println!(
        "the first row at t = 0.3: E[x₀|x_t] = {:.3}, Cov[x₀|x_t] = {:.3}",
        clean.mean.double_value(&[0, 0]),
        clean.cov.diagonal().double_value(&[0, 0])
    );

    println!("ln p = {exact:.4} nats per row");
    for steps in [5, 10, 20, 50] {
        let grid = Spacing::Angle.elbo_grid(&*schedule, steps);
        let rows = Batch::of(&x);
        let own = Elbo::new(Reverse::new(&oracle, Own, 1.0)?, grid.clone(), 4);
        let beta = Elbo::new(Reverse::new(&oracle, Beta, 1.0)?, grid.clone(), 4);
        let bound = own.log_likelihood(&rows, Seed(1), 0)?.mean();
        let with_beta = beta.log_likelihood(&rows, Seed(1), 0)?.mean();
        let sampler = Ancestral::new(&oracle, Own, 1.0, LastStep::Noise)?;
        let samples = run_chain(&sampler, &grid, Seed(2), 0..2000, None)?;
        let distance = Mmd::default().against_mixture(&samples, &truth()?);
        println!(
            "K = {steps}: ELBO {bound:.4}, with β {with_beta:.4}; MMD² of samples {distance:.5}"
        );
    }
    let flow = ProbabilityFlow::new(&oracle).log_likelihood(&Batch::of(&x), Seed(3), 0)?;
    println!("probability-flow ODE: {:.4}", flow.mean());
    Ok(())
}
