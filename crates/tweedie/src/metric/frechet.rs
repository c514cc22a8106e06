//! The Fréchet distance between two sets of features (Heusel et al. 2017).

use std::path::Path;

use tch::{Device, Kind, Tensor};

use crate::data::{NpzReader, NpzWriter, OutputFile};
use crate::tensor::{squared_norm, sum_over, to_vec};
use crate::{Error, Result};

/// Features more numerous than this are no network's.
const MOST_FEATURES: usize = 1 << 14;
/// How far below zero rounding may bring an eigenvalue of a covariance, relative to the largest.
const TOLERANCE: f64 = 1e-6;

/// Mean and scatter of rows that come batch by batch, in f64.
///
/// Two parts of `n` and `m` rows are joined by `δ = mean_m − mean_n`: the mean moves by
/// `δ m/(n+m)`, the scatters `Σ (x − mean)(x − mean)ᵀ` add up with `δδᵀ nm/(n+m)` (Chan, Golub &
/// LeVeque 1983).
pub struct FeatureMoments {
    count: u64,
    mean: Tensor,
    scatter: Tensor,
}

impl FeatureMoments {
    /// Of no rows yet, of `dim` features.
    pub fn new(dim: usize) -> FeatureMoments {
        let (dim, options) = (dim as i64, (Kind::Double, Device::Cpu));
        FeatureMoments {
            count: 0,
            mean: Tensor::zeros([dim], options),
            scatter: Tensor::zeros([dim, dim], options),
        }
    }

    /// Of these rows `[n, dim]`.
    pub fn of(rows: &Tensor) -> FeatureMoments {
        let mut moments = FeatureMoments::new(rows.size()[1] as usize);
        moments.push(rows);
        moments
    }

    /// Adds rows `[n, dim]` of any kind and device.
    pub fn push(&mut self, rows: &Tensor) {
        assert_eq!(rows.size()[1..], self.mean.size(), "features of rows and of the moments");
        if rows.size()[0] == 0 {
            return;
        }
        let rows = rows.to_kind(Kind::Double).to_device(Device::Cpu);
        let (n, m) = (self.count as f64, rows.size()[0] as f64);
        let mean = sum_over(&rows, 0) / m;
        let centred = rows - &mean;
        let delta = mean - &self.mean;
        self.scatter += centred.tr().matmul(&centred);
        self.scatter += delta.outer(&delta) * (n * m / (n + m));
        self.mean += delta * (m / (n + m));
        self.count += m as u64;
    }

    /// The number of rows so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Mean and covariance (over `n − 1`) of the rows; `features` names what computed them.
    ///
    /// # Errors
    /// With fewer than two rows, or features that are not finite.
    pub fn statistics(&self, features: &str) -> Result<FeatureStatistics> {
        if self.count < 2 {
            return Err(Error::config(
                "images",
                format!("{} of them have no covariance", self.count),
                "give at least two",
            ));
        }
        if self.scatter.isfinite().all().int64_value(&[]) == 0 {
            return Err(Error::numeric(
                "features are not finite",
                "give the weights that the network was made for",
            ));
        }
        Ok(FeatureStatistics {
            mean: self.mean.copy(),
            covariance: &self.scatter / (self.count - 1) as f64,
            count: Some(self.count),
            features: Some(features.to_string()),
        })
    }
}

/// Mean `[d]` and covariance `[d, d]` of features, in f64 on the CPU: all that the Fréchet distance
/// sees of images.
#[derive(Debug)]
pub struct FeatureStatistics {
    /// `E f`.
    pub mean: Tensor,
    /// `Cov f`.
    pub covariance: Tensor,
    /// Of how many images; unknown in files of other programs.
    pub count: Option<u64>,
    /// The name of what computed the features; unknown in files of other programs.
    pub features: Option<String>,
}

impl FeatureStatistics {
    /// Reads the NPZ layout of pytorch-fid and of EDM: `mu` `[d]` and `sigma` `[d, d]`. Files of
    /// this program also hold `count` and `features`.
    ///
    /// # Errors
    /// If the file is not of that kind, or its numbers are not finite.
    pub fn read(path: impl AsRef<Path>) -> Result<FeatureStatistics> {
        let path = path.as_ref();
        let mut file = NpzReader::open(path)?;
        let lacks = |name: &str| {
            let problem = format!("has no array '{name}'");
            Error::data(path, problem, "give statistics of features: arrays mu and sigma")
        };
        let mean = file.numbers("mu", &[None], MOST_FEATURES)?.ok_or_else(|| lacks("mu"))?;
        let d = mean.len();
        let covariance =
            file.numbers("sigma", &[Some(d), Some(d)], d * d)?.ok_or_else(|| lacks("sigma"))?;
        if d == 0 || mean.iter().chain(&covariance).any(|v| !v.is_finite()) {
            let problem = "holds no features, or some that are not finite";
            return Err(Error::data(path, problem, "compute the statistics again"));
        }
        let count = file.numbers("count", &[], 1)?.map(|count| count[0] as u64);
        Ok(FeatureStatistics {
            mean: Tensor::from_slice(&mean),
            covariance: Tensor::from_slice(&covariance).view([d as i64, d as i64]),
            count,
            features: file.text("features")?,
        })
    }

    /// Writes what [`FeatureStatistics::read`] reads, pytorch-fid and EDM too.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, out: OutputFile) -> Result<()> {
        let d = self.dim();
        let mut file = NpzWriter::new();
        file.floats("mu", &[d], &to_vec(&self.mean));
        file.floats("sigma", &[d, d], &to_vec(&self.covariance));
        if let Some(count) = self.count {
            file.integer("count", count as i64);
        }
        if let Some(features) = &self.features {
            file.text("features", features);
        }
        file.finish(out)
    }

    /// The number of features.
    pub fn dim(&self) -> usize {
        self.mean.size()[0] as usize
    }
}

/// `‖μ₁ − μ₂‖² + tr Σ₁ + tr Σ₂ − 2 tr (Σ₁Σ₂)^{1/2}`, the squared 2-Wasserstein distance between two
/// Gaussians (Heusel et al. 2017, eq. 6; Dowson & Landau 1982).
///
/// `Σ₁Σ₂` has the eigenvalues of `Σ₁^{1/2} Σ₂ Σ₁^{1/2}`, which is symmetric; covariances may be
/// singular, as they are of fewer images than features. Eigenvalues that rounding has brought below
/// zero count as zero.
///
/// # Errors
/// If a covariance has eigenvalues that are negative beyond rounding, or no decomposition.
///
/// # Panics
/// If the two are of different dimensions.
pub fn frechet_distance(a: &FeatureStatistics, b: &FeatureStatistics) -> Result<f64> {
    assert_eq!(a.dim(), b.dim(), "features of the two statistics");
    let failed =
        |e: tch::TchError| Error::numeric(format!("a covariance has no eigenvalues ({e})"), CHECK);
    let symmetric = |x: &Tensor| (x + x.tr()) / 2.0;
    let (values, vectors) = symmetric(&a.covariance).f_linalg_eigh("L").map_err(failed)?;
    let root = (&vectors * roots(&values)?).matmul(&vectors.tr());
    let other = symmetric(&b.covariance);
    let product = symmetric(&root.matmul(&other).matmul(&root));
    let values = product.f_linalg_eigvalsh("L").map_err(failed)?;
    let number = |x: Tensor| x.double_value(&[]);
    let means = number(squared_norm(&(&a.mean - &b.mean)));
    let traces = number(a.covariance.trace()) + number(b.covariance.trace());
    Ok((means + traces - 2.0 * number(roots(&values)?.sum(Kind::Double))).max(0.0))
}

const CHECK: &str = "compute the statistics again";

/// Square roots of eigenvalues, increasing, none of them truly negative.
fn roots(values: &Tensor) -> Result<Tensor> {
    let (least, most) = (values.min().double_value(&[]), values.max().double_value(&[]));
    if least < -TOLERANCE * most.abs() || most.is_nan() {
        let problem =
            format!("a covariance has the eigenvalue {least:.3e} (the largest is {most:.3e})");
        return Err(Error::numeric(problem, CHECK));
    }
    Ok(values.clamp_min(0.0).sqrt())
}
