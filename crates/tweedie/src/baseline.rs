//! Classical densities to compare a diffusion model with: a Gaussian and a kernel density estimate.
//!
//! Both are fitted to training rows `[n, d]` and give the log-densities of test rows in nats.
//!
//! ```
//! use tweedie::baseline::{KernelDensity, gaussian};
//! use tweedie::mixture::GaussianMixture;
//! use tweedie::noise::Seed;
//! use tweedie::statistics::mean_and_error;
//!
//! # fn main() -> tweedie::Result<()> {
//! let truth = GaussianMixture::new(&[1.0], &[[1.0, -2.0]], &[0.5])?;
//! let [train, validation, test] = [0, 1, 2].map(|seed| truth.sample(1000, Seed(seed)));
//! let exact = truth.log_density(&test).mean(None).double_value(&[]);
//!
//! let (gaussian, _) = mean_and_error(&gaussian(&train, &test)?);
//! assert!((gaussian - exact).abs() < 0.02, "{gaussian} nats, the truth has {exact}");
//! let kernel = KernelDensity::fit(&train, &validation)?;
//! let (kernel, _) = mean_and_error(&kernel.log_density(&test));
//! assert!(kernel < gaussian, "the kernel estimate does not know that the data are Gaussian");
//! # Ok(())
//! # }
//! ```

use tch::{Kind, Tensor};

use crate::gaussian::LN_2PI;
use crate::model::{Base, BaseConfig, BaseKind};
use crate::tensor::to_vec;
use crate::{Error, Result};

/// Log-densities of `test` rows under a full-covariance Gaussian fitted to `train`, nats per row.
///
/// # Errors
/// [`Error::Config`] where `train` does not determine one: with no more rows than columns its
/// covariance is singular.
pub fn gaussian(train: &Tensor, test: &Tensor) -> Result<Vec<f64>> {
    let (n, d) = train.size2().expect("rows");
    if n <= d {
        let problem = format!("{n} training rows do not determine the covariance of {d} columns");
        return Err(Error::config(
            "Gaussian, full covariance",
            problem,
            "give more rows or fewer columns",
        ));
    }
    let config = BaseConfig { kind: BaseKind::Gaussian, ..BaseConfig::default() };
    let Base::Mixture(mixture) = Base::fit(&config, train, &train.narrow(0, 0, 0))? else {
        unreachable!("a Gaussian base is a mixture of one")
    };
    Ok(to_vec(&mixture.log_density(&test.to_kind(Kind::Double))))
}

/// A Gaussian kernel density estimate on training rows, in f64.
#[derive(Debug)]
pub struct KernelDensity {
    train: Tensor,
    bandwidth: f64,
}

/// Test rows per block of distances.
const BLOCK: i64 = 256;

impl KernelDensity {
    /// On `train` `[n, d]` with the bandwidth, of a geometric grid from 0.02 to 2, that is best on
    /// `validation`.
    pub fn fit(train: &Tensor, validation: &Tensor) -> Result<KernelDensity> {
        let (train, validation) = (train.to_kind(Kind::Double), validation.to_kind(Kind::Double));
        if train.size()[0] == 0 || validation.size()[0] == 0 {
            return Err(Error::config(
                "data.split",
                "a kernel density needs training and validation rows",
                "give both a share",
            ));
        }
        let grid: Vec<f64> = (0..21).map(|i| 0.02 * 100f64.powf(i as f64 / 20.0)).collect();
        let mut estimate = KernelDensity { train, bandwidth: grid[0] };
        let rows = validation.narrow(0, 0, validation.size()[0].min(500));
        let mut best = (f64::NEG_INFINITY, grid[0]);
        for bandwidth in grid {
            estimate.bandwidth = bandwidth;
            let values = estimate.log_density(&rows);
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            if mean > best.0 {
                best = (mean, bandwidth);
            }
        }
        estimate.bandwidth = best.1;
        Ok(estimate)
    }

    /// The bandwidth in use.
    pub fn bandwidth(&self) -> f64 {
        self.bandwidth
    }

    /// `ln [1/n Σ_i N(x; x_i, h² I)]`, nats per row.
    pub fn log_density(&self, x: &Tensor) -> Vec<f64> {
        let (n, d) = self.train.size2().expect("rows");
        let constant = (n as f64).ln() + d as f64 * (0.5 * LN_2PI + self.bandwidth.ln());
        let x = x.to_kind(Kind::Double);
        let mut values = Vec::with_capacity(x.size()[0] as usize);
        for start in (0..x.size()[0]).step_by(BLOCK as usize) {
            let block = x.narrow(0, start, BLOCK.min(x.size()[0] - start));
            let squared = Tensor::cdist(&block, &self.train, 2.0, 2).square();
            let logs = (squared * (-0.5 / self.bandwidth.powi(2)))
                .logsumexp([1i64].as_slice(), false)
                - constant;
            values.extend(to_vec(&logs));
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::{Noise, Seed};
    use tch::Device;

    /// The kernel estimate integrates to one in one dimension, and the Gaussian fit is near the
    /// truth.
    #[test]
    fn densities_are_normalised() {
        let z = |seed, n| Noise::new(Seed(seed), 0..n).normal(1, Kind::Double, Device::Cpu);
        let (train, validation) = (z(1, 500), z(2, 100));
        let grid = Tensor::linspace(-8.0, 8.0, 2001, (Kind::Double, Device::Cpu)).view([-1, 1]);
        let kde = KernelDensity::fit(&train, &validation).unwrap();
        let total = |logs: Vec<f64>| logs.iter().map(|l| l.exp()).sum::<f64>() * 16.0 / 2000.0;
        assert!((total(kde.log_density(&grid)) - 1.0).abs() < 1e-6);
        assert!(gaussian(&train.narrow(0, 0, 1), &grid).is_err(), "one row has no variance");
        let fitted = gaussian(&train, &grid).unwrap();
        assert!((total(fitted.clone()) - 1.0).abs() < 1e-6);
        assert!((fitted[1000] + 0.5 * LN_2PI).abs() < 0.15, "log-density at 0: {}", fitted[1000]);
    }
}
