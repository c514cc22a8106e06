//! The distributions of the data: mixtures of mean 0 and about unit variance in 1, 2 and 10
//! dimensions.

use tch::{Device, Kind};

use tweedie::noise::{Noise, Seed};
use tweedie::oracle::{GaussianMixture, MixtureParameters};
use tweedie::tensor::to_vec;

/// The three mixtures, by dimension.
pub(super) fn mixtures() -> [GaussianMixture; 3] {
    [line(), plane(), ten()]
}

/// Two components of unlike width that overlap: standard deviations 0.35 and 0.5, 1.75 apart.
pub(super) fn line() -> GaussianMixture {
    GaussianMixture::new(&[0.4, 0.6], &[[-1.05], [0.7]], &[0.35, 0.5]).expect("a valid mixture")
}

/// Three components, each with a correlation of its own (0.73, −0.41, 0.20).
fn plane() -> GaussianMixture {
    GaussianMixture::from_parameters(&MixtureParameters {
        weights: vec![0.3, 0.3, 0.4],
        means: vec![vec![-1.0, 0.5], vec![1.0, 0.4], vec![0.0, -0.675]],
        covariances: vec![
            vec![0.3, 0.18, 0.18, 0.2],
            vec![0.2, -0.1, -0.1, 0.3],
            vec![0.15, 0.05, 0.05, 0.4],
        ],
    })
    .expect("a valid mixture")
}

/// Three components whose covariances are a diagonal (0.1 to 0.3) and two directions, all drawn
/// once.
fn ten() -> GaussianMixture {
    const D: usize = 10;
    const RANK: usize = 2;
    let weights = [0.3f64, 0.3, 0.4];
    let seed = |purpose: &str| Seed(0).derive(&format!("theory, {purpose}"));
    let normal = |purpose: &str, columns: usize| {
        to_vec(&Noise::new(seed(purpose), 0..3).normal(columns, Kind::Double, Device::Cpu))
    };
    let (centres, factors) = (normal("centres", D), normal("factors", D * RANK));
    let diagonals = Noise::new(seed("diagonals"), 0..3).uniform(D);
    let mean: Vec<f64> =
        (0..D).map(|j| (0..3).map(|k| weights[k] * centres[k * D + j]).sum()).collect();
    let covariance = |k: usize| -> Vec<f64> {
        let factor = |i: usize, r: usize| 0.35 * factors[(k * D + i) * RANK + r];
        let entry = |i: usize, j: usize| {
            let own = if i == j { 0.1 + 0.2 * diagonals[k * D + i] } else { 0.0 };
            own + (0..RANK).map(|r| factor(i, r) * factor(j, r)).sum::<f64>()
        };
        (0..D * D).map(|at| entry(at / D, at % D)).collect()
    };
    GaussianMixture::from_parameters(&MixtureParameters {
        weights: weights.to_vec(),
        means: (0..3)
            .map(|k| (0..D).map(|j| 0.7 * (centres[k * D + j] - mean[j])).collect())
            .collect(),
        covariances: (0..3).map(covariance).collect(),
    })
    .expect("a valid mixture")
}
