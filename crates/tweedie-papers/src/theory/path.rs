//! How far a sampler's path is from the exact reverse path, without the noise of an ELBO.
//!
//! `KL(q(x_0, x_{t_1}, …, x_{t_K}) ‖ p)` is `−E[ELBO]` less the entropy of the data. By the chain
//! rule it is the prior's part, and a part of each step, `E KL(q(x_s|x_t) ‖ p(x_s|x_t))`. As `p` is
//! Gaussian, that is again a sum of two: how far the exact distribution is from the Gaussian `N_q`
//! of its own mean and covariance, which no covariance can help and all samplers share; and the
//! divergence of two Gaussians, which is exact for every draw of `x_t`. Under the oracle all
//! densities are known, so that only these expectations are Monte Carlo, on the same draws for all.

use tch::Tensor;

use super::perturbation::Perturbed;
use tweedie::Result;
use tweedie::covariance::{Covariance, Reverse, ZeroHessian};
use tweedie::gaussian::Gaussian;
use tweedie::likelihood::{Elbo, LogLikelihood, mean_and_error};
use tweedie::model::Denoiser;
use tweedie::noise::{Noise, Seed};
use tweedie::oracle::Oracle;
use tweedie::posterior::{NoiseMoments, bridge};
use tweedie::query::{Batch, Query, Times};
use tweedie::sym_matrix::SymMatrix;
use tweedie::tensor::to_vec;

/// Mean and standard error over rows, nats.
pub type Nats = (f64, f64);

/// A sampler's divergence from the exact path.
#[derive(Clone, Copy, Debug)]
pub struct Divergence {
    /// Of the steps from `x_{t_K}` to `x_{t_1}`: what Theorem 1 bounds.
    pub steps: Nats,
    /// The same, less that of the exact score and covariance.
    pub excess: Nats,
    /// Of the last step, from `x_{t_1}` to `x_0`; that of β̃, which has no density there, with
    /// `H = 0`.
    pub decoder: Nats,
    /// `−ELBO` on the same rows, less their `−ln p`, with noise of its own: it estimates prior,
    /// steps and decoder together.
    pub elbo: Option<Nats>,
}

/// All samplers' divergences over one grid.
#[derive(Debug)]
pub(super) struct Path {
    /// `KL(q(x_{t_K}) ‖ N(0, σ²I))`, which all have.
    pub(super) prior: Nats,
    /// In the order in which the samplers were given.
    pub(super) samplers: Vec<Divergence>,
}

/// Draws of `x_s` and `x_t` for the same rows.
struct Draw {
    xs: Tensor,
    xt: Tensor,
    s: f64,
    t: f64,
}

/// Measures `samplers`, all models of the oracle's distribution, over `grid` (`t_0 = 0`) on `rows`
/// data; with their ELBOs if `with_elbo`.
///
/// # Errors
/// If the ELBO fails.
pub(super) fn measure(
    oracle: &Oracle,
    samplers: &[(&Perturbed, &dyn Covariance)],
    grid: &[f64],
    rows: usize,
    with_elbo: bool,
    seed: Seed,
) -> Result<Path> {
    let schedule = oracle.space().schedule();
    let (x0, d) = (oracle.mixture.sample(rows, seed.derive("rows")), oracle.space().dim);
    let mut noise = Noise::new(seed.derive("path"), 0..rows as u64);
    let mut normals = || noise.normal(d as usize, x0.kind(), x0.device());
    let mut signs = Noise::new(seed.derive("signs"), 0..rows as u64);
    let zeros = || vec![0.0; rows];
    let (mut shared, mut decoder, mut prior) = (zeros(), zeros(), zeros());
    let mut of_steps = vec![zeros(); samplers.len()];
    let mut of_decoder = of_steps.clone();
    for (i, gap) in grid.windows(2).enumerate() {
        let (s, t) = (gap[0], gap[1]);
        let step = schedule.transition(s, t);
        let xs = &x0 * schedule.alpha(s) + normals() * schedule.sigma(s);
        let xt = &xs * step.m + normals() * step.k2.sqrt();
        let draw = Draw { xs, xt, s, t };
        let exact = exact_moments(oracle, &draw);
        add(
            if i == 0 { &mut decoder } else { &mut shared },
            &relative_entropy(&log_ratio(oracle, &draw, &exact)),
        );
        for (j, (model, covariance)) in samplers.iter().enumerate() {
            let covariance =
                if i == 0 && !covariance.ends_in_a_density() { &ZeroHessian } else { *covariance };
            let reverse = Reverse::new(*model, covariance, 1.0)?;
            let step =
                reverse.at(&Query::new(&draw.xt, &Times::All(t)), &Times::All(s), &mut signs);
            let of_sampler = if i == 0 { &mut of_decoder } else { &mut of_steps };
            add(&mut of_sampler[j], &to_vec(&exact.kl(&step)));
        }
        if i + 2 == grid.len() {
            let variance = SymMatrix::scalar(&schedule.sigma2(t).into(), &draw.xt);
            let normal = Gaussian::new(draw.xt.zeros_like(), variance);
            let exact = oracle.mixture.log_density_at(&draw.xt, schedule, &Times::All(t));
            add(&mut prior, &relative_entropy(&to_vec(&(normal.log_prob(&draw.xt) - exact))));
        }
    }
    let log_density = to_vec(&oracle.mixture.log_density(&x0));
    let mut found = Vec::new();
    for ((model, covariance), (steps, last)) in
        samplers.iter().zip(of_steps.iter().zip(&of_decoder))
    {
        let elbo = match with_elbo {
            false => None,
            true => {
                let elbo = Elbo::new(Reverse::new(*model, *covariance, 1.0)?, grid.to_vec(), 1);
                let values = elbo.log_likelihood(&Batch::of(&x0), seed.derive("elbo"), 0)?.values;
                Some(mean_and_error(
                    &log_density.iter().zip(values).map(|(p, bound)| p - bound).collect::<Vec<_>>(),
                ))
            }
        };
        let with = |a: &[f64], b: &[f64]| {
            mean_and_error(&a.iter().zip(b).map(|(a, b)| a + b).collect::<Vec<_>>())
        };
        found.push(Divergence {
            steps: with(&shared, steps),
            excess: mean_and_error(steps),
            decoder: with(&decoder, last),
            elbo,
        });
    }
    Ok(Path { prior: mean_and_error(&prior), samplers: found })
}

fn add(sum: &mut [f64], terms: &[f64]) {
    sum.iter_mut().zip(terms).for_each(|(sum, term)| *sum += term);
}

/// `N_q`: the exact mean and covariance of `x_s` given `x_t`.
fn exact_moments(oracle: &Oracle, draw: &Draw) -> Gaussian {
    let (s, t) = (Times::All(draw.s), Times::All(draw.t));
    let NoiseMoments { noise, cov, .. } = oracle.moments(&Query::new(&draw.xt, &t));
    bridge(&draw.xt, &noise, &cov, oracle.space().schedule(), &s, &t, 1.0)
}

/// `ln N_q(x_s) − ln q(x_s|x_t)` of every row, by Bayes' rule:
/// `q(x_s|x_t) = q(x_s) N(x_t; m x_s, k²I)/q(x_t)`.
fn log_ratio(oracle: &Oracle, draw: &Draw, moments: &Gaussian) -> Vec<f64> {
    let Draw { xs, xt, s, t } = draw;
    let schedule = oracle.space().schedule();
    let step = schedule.transition(*s, *t);
    let forward = Gaussian::new(xs * step.m, SymMatrix::scalar(&step.k2.into(), xt));
    let density = |x: &Tensor, t: f64| oracle.mixture.log_density_at(x, schedule, &Times::All(t));
    let exact = density(xs, *s) + forward.log_prob(xt) - density(xt, *t);
    to_vec(&(moments.log_prob(xs) - exact))
}

/// Rows whose mean is `KL(q ‖ p) = E_q[−ln r]`, from `ln r = ln p − ln q` at draws of `q`. `r − 1`
/// has the mean 0 and nearly cancels the noise where `p` is near `q`; where it is not, and `r` may
/// have no variance, the regression on it takes little of it.
fn relative_entropy(log_ratio: &[f64]) -> Vec<f64> {
    let n = log_ratio.len() as f64;
    let control: Vec<f64> = log_ratio.iter().map(|l| l.exp_m1()).collect();
    let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / n;
    let (l0, c0) = (mean(&mut log_ratio.iter().copied()), mean(&mut control.iter().copied()));
    let covariance = mean(&mut log_ratio.iter().zip(&control).map(|(l, c)| (l - l0) * (c - c0)));
    let variance = mean(&mut control.iter().map(|c| (c - c0).powi(2)));
    let factor = if variance > 0.0 && variance.is_finite() { covariance / variance } else { 0.0 };
    log_ratio.iter().zip(&control).map(|(l, c)| factor * c - l).collect()
}
