//! The distribution that experiments on likelihoods take where they are given no data.

use tch::{Device, Kind};

use tweedie::noise::{Noise, Seed};
use tweedie::oracle::GaussianMixture;
use tweedie::tensor::to_vec;

/// Five round clusters of unequal size and width (standard deviations 0.2 to 0.5) in `D`
/// dimensions, their centres drawn once from N(0, 0.8²): about unit scale, as scaled data are, and
/// finer than a Gaussian sees.
pub(super) fn clusters<const D: usize>() -> GaussianMixture {
    let seed = Seed(0).derive(&format!("clusters in {D} dimensions"));
    let centres = to_vec(&(Noise::new(seed, 0..5).normal(D, Kind::Double, Device::Cpu) * 0.8));
    let centres: Vec<[f64; D]> =
        centres.chunks(D).map(|row| row.try_into().expect("rows of D")).collect();
    let (weights, sds) = ([0.3, 0.25, 0.2, 0.15, 0.1], [0.2, 0.3, 0.5, 0.25, 0.4]);
    GaussianMixture::new(&weights, &centres, &sds).expect("a valid mixture")
}
