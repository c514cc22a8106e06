//! Student-t mixtures as data: the heavy-tailed half of Likelihood Matching's Figure 2.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StudentT;
use statrs::distribution::{Continuous, ContinuousCDF, StudentsT};
use tch::Tensor;

use crate::noise::Seed;
use crate::{Error, Result};

/// A mixture of one-dimensional Student-t distributions with equal weights and unit scale. It has
/// no closed-form diffused score: it is a source of data with a known density.
#[derive(Clone, Debug, PartialEq)]
pub struct StudentTMixture {
    locations: Vec<f64>,
    freedom: f64,
}

impl StudentTMixture {
    /// Components at `locations` with `freedom > 0` degrees of freedom.
    pub fn new(locations: &[f64], freedom: f64) -> Result<StudentTMixture> {
        if locations.is_empty() || freedom.is_nan() || freedom <= 0.0 {
            return Err(Error::config(
                "student-t mixture",
                format!("{} locations, {freedom} degrees of freedom", locations.len()),
                "give at least one location and positive degrees of freedom",
            ));
        }
        Ok(StudentTMixture { locations: locations.to_vec(), freedom })
    }

    /// `n` rows, `[n, 1]` in f64; row `i` depends on the seed and `i` alone.
    pub fn sample(&self, n: usize, seed: Seed) -> Tensor {
        let component = StudentT::new(self.freedom).expect("checked at construction");
        let base = ChaCha8Rng::seed_from_u64(seed.0);
        let values: Vec<f64> = (0..n as u64)
            .map(|row| {
                let mut rng = base.clone();
                rng.set_stream(row);
                self.locations[rng.random_range(0..self.locations.len())] + rng.sample(component)
            })
            .collect();
        Tensor::from_slice(&values).view([-1, 1])
    }

    fn components(&self) -> impl Iterator<Item = StudentsT> + '_ {
        self.locations
            .iter()
            .map(|&l| StudentsT::new(l, 1.0, self.freedom).expect("checked at construction"))
    }

    /// The density at `x`.
    pub fn density(&self, x: f64) -> f64 {
        self.components().map(|c| c.pdf(x)).sum::<f64>() / self.locations.len() as f64
    }

    /// The distribution function at `x`.
    pub fn cdf(&self, x: f64) -> f64 {
        self.components().map(|c| c.cdf(x)).sum::<f64>() / self.locations.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::to_vec;

    /// Kolmogorov–Smirnov against the mixture's own distribution function at the 0.1 % level
    /// (1.95/√n).
    #[test]
    fn samples_follow_the_distribution() {
        let mixture = StudentTMixture::new(&[-10.0, 10.0], 3.0).unwrap();
        let n = 4000;
        let mut x = to_vec(&mixture.sample(n, Seed(2)));
        x.sort_by(f64::total_cmp);
        let gap = x
            .iter()
            .enumerate()
            .map(|(i, &v)| (mixture.cdf(v) - (i as f64 + 0.5) / n as f64).abs())
            .fold(0.0, f64::max);
        assert!(gap < 1.95 / (n as f64).sqrt() + 0.5 / n as f64, "{gap}");
    }
}
