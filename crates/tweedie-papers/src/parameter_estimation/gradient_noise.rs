//! How loud an objective's gradient is at the truth, per draw, and how much information it keeps.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::draws::{Drawer, Estimator};
use super::family::{Diffused, P, Params};
use super::fit::solve;
use super::loss::Sum;
use super::study::Setting;
use tweedie::noise::Seed;
use tweedie::schedule::Vp;

/// What one estimator's objective does at the truth. One *group* is `N` draws `(x, t)` of
/// Likelihood Matching, one draw of score matching; every group's sum estimates the objective of
/// one datum without bias.
#[derive(Clone, Debug)]
pub struct GradientNoise {
    /// The distribution at whose parameters the gradient is taken.
    pub setting: Setting,
    /// The objective.
    pub estimator: Estimator,
    /// Variance of the loss from the noise alone (the datum held fixed) × draws per group: the
    /// variance of the mean over `M` draws is this over `M`. Nats² for LM and likelihood weighting.
    pub loss: f64,
    /// The same of the gradient, `tr(F⁻¹ V)/7` × draws per group, `F` the Fisher information of one
    /// datum.
    pub gradient: f64,
    /// Draws per datum at which noise adds as much to the estimates' variance as the data do to
    /// maximum likelihood's: `mean_j (H⁻¹VH⁻¹)_jj/(F⁻¹)_jj` × draws per group. Free of the
    /// objective's scale.
    pub draws_to_match: f64,
    /// Its standard error.
    pub draws_to_match_error: f64,
    /// Asymptotic standard deviation relative to maximum likelihood's with all noise averaged out:
    /// `mean_j √((H⁻¹JH⁻¹)_jj/(F⁻¹)_jj)`, `J` the variance over data of the mean gradient.
    pub inefficiency: f64,
    /// Its standard error.
    pub inefficiency_error: f64,
    /// Mean gradient at the truth, and its standard error: zero if the objective is proper.
    pub mean_gradient: Params,
    /// Standard errors of `mean_gradient`.
    pub mean_gradient_error: Params,
}

type Matrix = [Params; P];

fn add_outer(to: &mut Matrix, a: &Params, b: &Params) {
    for i in 0..P {
        for j in 0..P {
            to[i][j] += 0.5 * (a[i] * b[j] + b[i] * a[j]);
        }
    }
}

fn scaled(mut m: Matrix, by: f64) -> Matrix {
    m.iter_mut().flatten().for_each(|x| *x *= by);
    m
}

fn inverse(m: &Matrix) -> Matrix {
    // column j solves m x = e_j; the inverse is symmetric, so rows do as well
    std::array::from_fn(|j| {
        let mut unit = [0.0; P];
        unit[j] = 1.0;
        solve(m, &unit, 0.0).expect("an information matrix is positive definite at the truth")
    })
}

/// `(A⁻¹ V A⁻¹)_jj` from `A⁻¹`.
fn sandwich(inverse: &Matrix, v: &Matrix) -> Params {
    std::array::from_fn(|j| {
        (0..P).map(|a| (0..P).map(|b| inverse[j][a] * v[a][b] * inverse[j][b]).sum::<f64>()).sum()
    })
}

/// Sums over a part of the data.
#[derive(Clone, Default)]
struct Part {
    loss: f64,
    noise: Matrix,
    signal: Matrix,
    fisher: Matrix,
    curvature: Matrix,
    gradient: Params,
    square: Params,
}

/// Measures the objective at the truth on `data` fresh data with two independent groups each.
pub fn measure(
    setting: &Setting,
    estimator: Estimator,
    vp: &Vp,
    data: usize,
    seed: Seed,
) -> GradientNoise {
    let truth = setting.truth;
    let (model, drawer) = (Diffused::from(&truth), Drawer::new(estimator, vp));
    let (form, group) = (estimator.form(), estimator.group());
    const PARTS: usize = 32;
    let rows = data.div_ceil(PARTS);
    let seed = seed.derive(&format!("gradient noise/{}/{}", setting.name, estimator.name()));
    let part = |i: usize| {
        let mut rng = ChaCha8Rng::seed_from_u64(seed.0);
        rng.set_stream(i as u64);
        let mut part = Part::default();
        let mut draws = Vec::new();
        for x0 in truth.sample(rows, &mut rng) {
            let mut one = || {
                draws.clear();
                drawer.group(x0, (0, 1), false, &mut rng, &mut draws);
                Sum::exact(form, &model, &draws)
            };
            let (a, b) = (one(), one());
            let half: Params =
                std::array::from_fn(|j| (a.gradient[j] - b.gradient[j]) * 0.5f64.sqrt());
            part.loss += 0.5 * (a.value - b.value).powi(2);
            add_outer(&mut part.noise, &half, &half);
            add_outer(&mut part.signal, &a.gradient, &b.gradient);
            let (_, score) = truth.log_density(x0);
            add_outer(&mut part.fisher, &score, &score);
            for j in 0..P {
                let mean = 0.5 * (a.gradient[j] + b.gradient[j]);
                part.gradient[j] += mean;
                part.square[j] += mean * mean;
                for k in 0..P {
                    part.curvature[j][k] += 0.5 * (a.curvature[j][k] + b.curvature[j][k]);
                }
            }
        }
        part
    };
    let parts: Vec<Part> = (0..PARTS).into_par_iter().map(part).collect();
    let per_row = 1.0 / (rows * PARTS) as f64;
    let total = |pick: &dyn Fn(&Part) -> Matrix| {
        let mut sum = Matrix::default();
        for p in &parts {
            let m = pick(p);
            (0..P).for_each(|i| (0..P).for_each(|j| sum[i][j] += per_row * m[i][j]));
        }
        sum
    };
    let fisher_inverse = inverse(&total(&|p| p.fisher));
    let bread = inverse(&total(&|p| p.curvature));
    let noise = total(&|p| p.noise);
    let matched = |noise: &Matrix| -> f64 {
        let s = sandwich(&bread, noise);
        group as f64 * (0..P).map(|j| s[j] / fisher_inverse[j][j]).sum::<f64>() / P as f64
    };
    let fall_behind = |signal: &Matrix| -> f64 {
        let s = sandwich(&bread, signal);
        (0..P).map(|j| (s[j] / fisher_inverse[j][j]).max(0.0).sqrt()).sum::<f64>() / P as f64
    };
    let spread = |statistic: &dyn Fn(&Part) -> f64| {
        let values: Vec<f64> = parts.iter().map(statistic).collect();
        let mean = values.iter().sum::<f64>() / PARTS as f64;
        (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (PARTS * (PARTS - 1)) as f64)
            .sqrt()
    };
    let per_part = 1.0 / rows as f64;
    let mean_gradient: Params =
        std::array::from_fn(|j| per_row * parts.iter().map(|p| p.gradient[j]).sum::<f64>());
    let variance = |j: usize| {
        per_row * parts.iter().map(|p| p.square[j]).sum::<f64>() - mean_gradient[j].powi(2)
    };
    let trace: f64 =
        (0..P).map(|a| (0..P).map(|b| fisher_inverse[a][b] * noise[a][b]).sum::<f64>()).sum();
    GradientNoise {
        setting: *setting,
        estimator,
        loss: group as f64 * per_row * parts.iter().map(|p| p.loss).sum::<f64>(),
        gradient: group as f64 * trace / P as f64,
        draws_to_match: matched(&noise),
        draws_to_match_error: spread(&|p| matched(&scaled(p.noise, per_part))),
        inefficiency: fall_behind(&total(&|p| p.signal)),
        inefficiency_error: spread(&|p| fall_behind(&scaled(p.signal, per_part))),
        mean_gradient,
        mean_gradient_error: std::array::from_fn(|j| (per_row * variance(j)).sqrt()),
    }
}
