//! A covariance of one's own, from outside the library: `G = ½ I`, halfway between β̃ (`G = 0`) and
//! `H = 0` (`G = I`). It serves samplers and the ELBO like any other.
//!
//!     cargo run --release --example covariance

use std::sync::Arc;

use tch::Tensor;
use tweedie::Result;
use tweedie::covariance::{BetaTilde, Covariance, Own, Reverse, StepCovariance, ZeroHessian};
use tweedie::grid::Spacing;
use tweedie::likelihood::{Elbo, LogLikelihood};
use tweedie::model::Denoiser;
use tweedie::noise::{Noise, Seed};
use tweedie::oracle::{GaussianMixture, Oracle};
use tweedie::query::{Batch, Query};
use tweedie::sample::{Ancestral, LastStep, run_chain};
use tweedie::schedule::Vp;
use tweedie::sym_matrix::SymMatrix;

struct Half;

impl Covariance for Half {
    fn name(&self) -> String {
        "half".into()
    }

    fn of(&self, model: &dyn Denoiser, q: &Query, _: &mut Noise) -> (Tensor, StepCovariance) {
        let half = SymMatrix::scalar(&0.5.into(), q.x);
        (model.noise(q), StepCovariance::Posterior(half))
    }
}

fn main() -> Result<()> {
    let schedule = Arc::new(Vp::default());
    let mixture = GaussianMixture::new(&[0.5, 0.5], &[[-2.0], [2.0]], &[1.0, 1.0])?;
    let truth = Oracle::new(mixture, schedule.clone());
    let x = truth.mixture.sample(2000, Seed(0));
    let exact = truth.mixture.log_density(&x).mean(None).double_value(&[]);
    println!("ln p = {exact:.3} nats per row; bounds in ten steps:");

    let grid = Spacing::Angle.elbo_grid(&*schedule, 10);
    let covariances: [&dyn Covariance; 4] = [&BetaTilde, &Half, &ZeroHessian, &Own];
    for covariance in covariances {
        let reverse = Reverse::new(&truth, covariance, 1.0)?;
        let elbo = Elbo::new(reverse, grid.clone(), 1);
        let bound = elbo.log_likelihood(&Batch::of(&x), Seed(1), 0)?;
        println!("{:>14}  {:.3} ± {:.3}", covariance.name(), bound.mean(), bound.std_error());
        assert!(bound.mean() < exact + 4.0 * bound.std_error());
    }

    let step = Ancestral::new(&truth, Half, 1.0, LastStep::Mean)?;
    let samples = run_chain(&step, &grid, Seed(2), 0..1000, None)?;
    let deviation = samples.std(true).double_value(&[]);
    println!(
        "samples in ten steps: standard deviation {deviation:.2}, the data's {:.2}",
        5f64.sqrt()
    );
    Ok(())
}
