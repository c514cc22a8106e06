//! What experiments on covariances measure, trial by trial: rows lie in equal blocks, one for each
//! trial, as networks that were trained side by side take them.

use tch::{Device, Kind, Tensor};

use tweedie::Result;
use tweedie::covariance::{Covariance, Reverse, StepCovariance};
use tweedie::grid::Spacing;
use tweedie::likelihood::{Elbo, LogLikelihood, mean_and_error};
use tweedie::metric::Mmd;
use tweedie::model::Denoiser;
use tweedie::noise::{Noise, Seed};
use tweedie::oracle::GaussianMixture;
use tweedie::posterior::Bridge;
use tweedie::query::{Batch, Query, Times};
use tweedie::sample::{Ancestral, LastStep, run_chain};
use tweedie::schedule::Schedule;
use tweedie::sym_matrix::SymMatrix;
use tweedie::tensor::{squared_norm, to_vec};

const F64: (Kind, Device) = (Kind::Double, Device::Cpu);

/// The mean of each trial's block of `values` `[trials · n]`.
pub(crate) fn means(values: &[f64], trials: usize) -> Vec<f64> {
    values.chunks(values.len() / trials).map(|block| mean_and_error(block).0).collect()
}

/// `x_t` for rows `x_0`, the noise of a row by its number.
pub(crate) fn noised(x0: &Tensor, schedule: &dyn Schedule, t: f64, seed: Seed) -> Tensor {
    let (rows, d) = x0.size2().expect("rows of data");
    let z = Noise::new(seed, 0..rows as u64).normal(d as usize, F64.0, F64.1);
    x0 * schedule.alpha(t) + z * schedule.sigma(t)
}

/// The `G` of a reverse distribution at `x_t` `[b, d]`, in f64. That of β and of I-DDPM, which are
/// covariances of a step, is the one with which the bridge has that covariance in the step of the
/// `N`-step chain: see [`g_of_step`].
pub(crate) fn g_at(reverse: &Reverse, x: &Tensor, t: f64) -> SymMatrix {
    let rows = x.size()[0] as usize;
    match reverse.moments(&Query::new(x, &Times::All(t)), &mut signs(rows, t)).1 {
        StepCovariance::OfStep(_) => {
            let schedule = reverse.model().space().schedule();
            g_of_step(reverse, x, t - schedule.horizon() / schedule.steps() as f64, t)
        }
        StepCovariance::Posterior(cov) => cov.to_kind(Kind::Double),
    }
}

/// What random signs at `t` are drawn from, where no sampler has streams.
fn signs(rows: usize, t: f64) -> Noise {
    Noise::new(Seed(0).derive(&format!("signs at {t}")), 0..rows as u64)
}

/// `(Cov[x_s|x_t] − λ² I)/c²`: the bridge's covariance, solved for `G`. At `η = 1`.
fn g_of_step(reverse: &Reverse, x: &Tensor, s: f64, t: f64) -> SymMatrix {
    let Bridge { c, lambda2, .. } = Bridge::new(reverse.model().space().schedule(), s, t, 1.0);
    let streams = &mut signs(x.size()[0] as usize, t);
    let step = reverse.at(&Query::new(x, &Times::All(t)), &Times::All(s), streams);
    let cov = step.cov.to_kind(Kind::Double);
    cov.affine(&(1.0 / (c * c)).into(), &(-lambda2 / (c * c)).into())
}

/// `√(E‖Ĝ − G‖² / E‖G‖²)` over the rows of each trial, of their diagonals `[b, d]` or, in Frobenius
/// norm, of the whole matrices `[b, d, d]`.
pub(crate) fn relative_errors(found: &Tensor, exact: &Tensor, trials: usize) -> Vec<f64> {
    let square = |x: Tensor| means(&to_vec(&squared_norm(&x.flatten(1, -1))), trials);
    let of = square(exact.shallow_clone());
    square(found - exact).iter().zip(of).map(|(error, of)| (error / of).sqrt()).collect()
}

/// How far the bound of `steps` steps is below `ln p` on average, nats per row: `ln p` is that
/// of the distribution itself, so that over its rows this is the bound's distance from the
/// (negative) entropy without the noise of the rows.
pub(crate) fn gaps(
    model: &dyn Denoiser,
    covariance: &dyn Covariance,
    exact: &GaussianMixture,
    x0: &Tensor,
    steps: usize,
    trials: usize,
    seed: Seed,
) -> Result<Vec<f64>> {
    let grid = Spacing::default().elbo_grid(model.space().schedule(), steps);
    let elbo = Elbo::new(Reverse::new(model, covariance, 1.0)?, grid, 1);
    let bounds = elbo.log_likelihood(&Batch::of(&x0.to_kind(model.space().kind)), seed, 0)?.values;
    let truth = to_vec(&exact.log_density(x0));
    let gaps: Vec<f64> = truth.iter().zip(bounds).map(|(truth, bound)| truth - bound).collect();
    Ok(means(&gaps, trials))
}

/// Unbiased MMD² of each trial's `samples` in `steps` steps to the distribution in closed form.
pub(crate) fn distances(
    model: &dyn Denoiser,
    (covariance, eta): (&dyn Covariance, f64),
    exact: &GaussianMixture,
    samples: usize,
    steps: usize,
    trials: usize,
    seed: Seed,
) -> Result<Vec<f64>> {
    let grid = Spacing::default().elbo_grid(model.space().schedule(), steps);
    let step = Ancestral::new(model, covariance, eta, LastStep::Noise)?;
    let x = run_chain(&step, &grid, seed, 0..(trials * samples) as u64, None)?;
    Ok(distances_of(&x, exact, trials))
}

/// The same of samples `[trials · n, d]` from elsewhere.
pub(crate) fn distances_of(x: &Tensor, exact: &GaussianMixture, trials: usize) -> Vec<f64> {
    let x = x.to_kind(Kind::Double);
    x.chunk(trials as i64, 0).iter().map(|x| Mmd::default().against_mixture(x, exact)).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::distributions::Distribution;
    use tweedie::covariance::{Beta, BetaTilde, Own, ZeroHessian};
    use tweedie::oracle::Oracle;
    use tweedie::schedule::Vp;

    fn gap(a: &Tensor, b: &Tensor) -> f64 {
        (a - b).abs().max().double_value(&[])
    }

    /// The bridge made from the exact `G` and solved for it again; and β's, which by hand is
    /// `m²(σ_t² − σ_s²)/k²`: that of `N(0, I)`, `α_t²`, where the step is small.
    #[test]
    fn the_covariance_of_a_step_gives_its_g() {
        let oracle = Oracle::new(Distribution::Mixture2.mixture(), Arc::new(Vp::default()));
        let (s, t) = (0.35, 0.4);
        let x = oracle.mixture.sample(5, Seed(1));
        let at = |covariance: &dyn Covariance| {
            g_of_step(&Reverse::new(&oracle, covariance, 1.0).unwrap(), &x, s, t)
        };
        let exact = oracle.moments(&Query::new(&x, &Times::All(t))).cov.to_dense();
        assert!(gap(&at(&Own).to_dense(), &exact) < 1e-8);
        let vp = Vp::default();
        let step = vp.transition(s, t);
        let by_hand = step.m.powi(2) * (vp.sigma2(t) - vp.sigma2(s)) / step.k2;
        let beta = at(&Beta).diagonal();
        assert!(gap(&beta, &beta.full_like(by_hand)) < 1e-8);
        let small = g_at(&Reverse::new(&oracle, Beta, 1.0).unwrap(), &x, t).diagonal();
        assert!(gap(&small, &small.full_like(vp.alpha(t).powi(2))) < 0.01);
    }

    /// By hand, of two trials of one row: 5 % and 100 %.
    #[test]
    fn errors_are_relative() {
        let exact = Tensor::from_slice(&[3.0, 4.0, 0.0, 2.0]).view([2, 2]);
        let found = Tensor::from_slice(&[3.0, 4.25, 2.0, 2.0]).view([2, 2]);
        let errors = relative_errors(&found, &exact, 2);
        assert!((errors[0] - 0.05).abs() < 1e-12 && (errors[1] - 1.0).abs() < 1e-12, "{errors:?}");
    }

    /// With the exact moments the bound is below `ln p`, and nearer with more steps; without a
    /// covariance it is farther.
    #[test]
    fn the_bound_nears_the_truth() {
        let oracle = Oracle::new(Distribution::Nine.mixture(), Arc::new(Vp::default()));
        let x0 = oracle.mixture.sample(4000, Seed(1));
        let at = |covariance: &dyn Covariance, steps| {
            let gaps = gaps(&oracle, covariance, &oracle.mixture, &x0, steps, 10, Seed(2)).unwrap();
            mean_and_error(&gaps)
        };
        let [(five, error), (forty, of_forty), (without, _)] =
            [at(&Own, 5), at(&Own, 40), at(&BetaTilde, 5)];
        println!("{five} ± {error}, {forty} ± {of_forty}, {without}");
        assert!(
            five > 4.0 * error
                && forty > -4.0 * of_forty
                && forty < 0.5 * five
                && without > 2.0 * five
        );
    }

    /// Many steps with the exact moments are the distribution: as far from it as its own samples,
    /// within four standard errors; five with G = I are not.
    #[test]
    fn samples_near_the_distribution() {
        let oracle = Oracle::new(Distribution::Mixture2.mixture(), Arc::new(Vp::default()));
        let at = |covariance: &dyn Covariance, steps| {
            let exact = &oracle.mixture;
            mean_and_error(
                &distances(&oracle, (covariance, 1.0), exact, 200, steps, 5, Seed(2)).unwrap(),
            )
        };
        let (many, error) = at(&Own, 40);
        let (few, of_few) = at(&ZeroHessian, 5);
        assert!(
            many.abs() < 4.0 * error + 1e-3 && few > 0.01 && few > 4.0 * of_few,
            "{many} ± {error}, {few}"
        );
        let own = distances_of(&oracle.mixture.sample(1000, Seed(3)), &oracle.mixture, 5);
        let (own, error) = mean_and_error(&own);
        assert!(own.abs() < 4.0 * error, "{own} ± {error}");
    }
}
