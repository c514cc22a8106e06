//! Gaussian mixtures as distributions: their diffused density, score, Hessian and posterior are
//! known at every `t`.
//!
//! A mixture serves as a data set, as the truth to compare with and, as [`crate::oracle::Oracle`],
//! as a model.
//!
//! ```
//! use tweedie::gaussian::LN_2PI;
//! use tweedie::mixture::GaussianMixture;
//! use tweedie::query::Times;
//! use tweedie::schedule::Vp;
//! use tweedie::tch::Tensor;
//!
//! # fn main() -> tweedie::Result<()> {
//! let mixture = GaussianMixture::new(&[0.5, 0.5], &[[-2.0], [2.0]], &[1.0, 1.0])?;
//! let (mean, covariance) = mixture.mean_and_covariance();
//! assert!(mean.double_value(&[0]).abs() < 1e-12);
//! assert!((covariance.double_value(&[0, 0]) - (1.0 + 2.0 * 2.0)).abs() < 1e-12);
//!
//! // halfway between the components both have the density e^{−2²/2}/√(2π)
//! let x = Tensor::from_slice2(&[[0.0]]);
//! let log_density = mixture.log_density(&x).double_value(&[0]);
//! assert!((log_density - (-2.0 - 0.5 * LN_2PI)).abs() < 1e-12);
//! // at the end of the process x_T is nearly standard normal
//! let diffused = mixture.log_density_at(&x, &Vp::default(), &Times::All(1.0));
//! assert!((diffused.double_value(&[0]) + 0.5 * LN_2PI).abs() < 1e-3);
//! # Ok(())
//! # }
//! ```

mod conditionals;
mod mixed;
pub mod named;
mod student_t;

use std::cell::OnceCell;

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::gaussian::LN_2PI;
use crate::noise::{Noise, Seed};
use crate::posterior::NoiseMoments;
use crate::query::Times;
use crate::schedule::Schedule;
use crate::sym_matrix::SymMatrix;
use crate::tensor::{sum_last, sum_over, to_vec};
use crate::{Error, Result};
pub use mixed::{MixedMixture, MixedParameters};
pub use student_t::StudentTMixture;

/// `Σ_k π_k N(m_k, S_k)` with full covariances, in f64.
#[derive(Debug)]
pub struct GaussianMixture {
    /// `ln π_k`, `[K]`.
    log_weights: Tensor,
    /// `m_k`, `[K, d]`.
    means: Tensor,
    /// Eigenvectors of `S_k` in columns, `[K, d, d]`.
    vectors: Tensor,
    /// Eigenvalues of `S_k`, `[K, d]`.
    values: Tensor,
    rotation: OnceCell<Rotation>,
}

/// The eigenvectors of all components as matrices, made once for each device.
#[derive(Debug)]
struct Rotation {
    /// From `(x, α)` to `(x − α m_k)` in every component's eigenbasis, `[d + 1, K d]`.
    turn: Tensor,
    /// Back from them, `[K d, d]`.
    back: Tensor,
}

/// A mixture as plain numbers, for files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MixtureParameters {
    /// `π_k`.
    pub weights: Vec<f64>,
    /// `m_k`, each of length `d`.
    pub means: Vec<Vec<f64>>,
    /// `S_k`, each row-major `d × d`.
    pub covariances: Vec<Vec<f64>>,
}

/// `x_t` seen from every component: what score, `G` and density share.
struct Components {
    /// Responsibilities, `[b, K]`.
    weights: Tensor,
    /// `ln p_t(x)`, `[b]`.
    log_density: Tensor,
    /// `E[ε|x_t, k]` in component `k`'s eigenbasis, `[b, K, d]`.
    turned_noise: Tensor,
    /// Eigenvalues of `Cov[ε|x_t, k]`, `α²λ/(α²λ + σ²)`, `[b, K, d]`.
    shrunk: Tensor,
}

/// Elements of an array `[rows, K, d]` that are held at once, so that it stays in a processor's
/// cache.
const BLOCK: i64 = 1 << 17;

/// The same on a device with memory of its own, where few large calls are the faster.
const DEVICE_BLOCK: i64 = 1 << 26;

const F64: (Kind, Device) = (Kind::Double, Device::Cpu);

impl GaussianMixture {
    /// Isotropic components: weights, means, standard deviations.
    pub fn new<const D: usize>(
        weights: &[f64],
        means: &[[f64; D]],
        sds: &[f64],
    ) -> Result<GaussianMixture> {
        let covariances = sds
            .iter()
            .map(|s| (0..D * D).map(|i| if i % (D + 1) == 0 { s * s } else { 0.0 }).collect())
            .collect();
        GaussianMixture::from_parameters(&MixtureParameters {
            weights: weights.to_vec(),
            means: means.iter().map(|m| m.to_vec()).collect(),
            covariances,
        })
    }

    /// A mixture with full covariances. Weights must be positive and sum to 1, covariances positive
    /// definite.
    pub fn from_parameters(parameters: &MixtureParameters) -> Result<GaussianMixture> {
        let bad = |problem: String| {
            Error::config(
                "mixture",
                problem,
                "give as many means and covariances as weights, and positive weights that sum to 1",
            )
        };
        let (k, d) = (parameters.weights.len(), parameters.means.first().map_or(0, Vec::len));
        let total: f64 = parameters.weights.iter().sum();
        if k == 0 || d == 0 || parameters.means.len() != k || parameters.covariances.len() != k {
            return Err(bad(format!(
                "{k} weights, {} means of dimension {d}, {} covariances",
                parameters.means.len(),
                parameters.covariances.len()
            )));
        }
        if parameters.weights.iter().any(|w| w.is_nan() || *w <= 0.0) || (total - 1.0).abs() > 1e-6
        {
            return Err(bad(format!("weights {:?} sum to {total}", parameters.weights)));
        }
        if parameters.means.iter().any(|m| m.len() != d)
            || parameters.covariances.iter().any(|c| c.len() != d * d)
        {
            return Err(bad("components of different dimensions".into()));
        }
        let (k, d) = (k as i64, d as i64);
        let means = Tensor::from_slice(&parameters.means.concat()).view([k, d]);
        let covariances = Tensor::from_slice(&parameters.covariances.concat()).view([k, d, d]);
        GaussianMixture::from_tensors(
            &(Tensor::from_slice(&parameters.weights) / total),
            &means,
            &covariances,
        )
    }

    /// From weights `[K]` that sum to 1, means `[K, d]` and covariances `[K, d, d]`, which must be
    /// positive definite.
    pub fn from_tensors(
        weights: &Tensor,
        means: &Tensor,
        covariances: &Tensor,
    ) -> Result<GaussianMixture> {
        let bad = |problem: String| {
            Error::config("mixture", problem, "give positive definite covariances")
        };
        let (values, vectors) = covariances
            .f_linalg_eigh("L")
            .map_err(|_| bad("a covariance has no eigendecomposition".into()))?;
        let smallest = values.min().double_value(&[]);
        if smallest.is_nan() || smallest <= 0.0 {
            return Err(bad(format!("a covariance has the eigenvalue {smallest:.3e}")));
        }
        Ok(GaussianMixture {
            log_weights: weights.log(),
            means: means.shallow_clone(),
            vectors,
            values,
            rotation: OnceCell::new(),
        })
    }

    /// The mixture as plain numbers.
    pub fn parameters(&self) -> MixtureParameters {
        let covariances = self.covariances();
        let (k, d) = (self.components(), self.dim());
        MixtureParameters {
            weights: to_vec(&self.log_weights.exp()),
            means: to_vec(&self.means).chunks(d as usize).map(<[f64]>::to_vec).collect(),
            covariances: (0..k).map(|i| to_vec(&covariances.select(0, i))).collect(),
        }
    }

    /// Number of components `K`.
    pub fn components(&self) -> i64 {
        self.means.size()[0]
    }

    /// `d`.
    pub fn dim(&self) -> i64 {
        self.means.size()[1]
    }

    /// `ln π_k`, `[K]`.
    pub(crate) fn log_weights(&self) -> &Tensor {
        &self.log_weights
    }

    /// `m_k`, `[K, d]`.
    pub(crate) fn means(&self) -> &Tensor {
        &self.means
    }

    /// `S_k`, `[K, d, d]`.
    pub fn covariances(&self) -> Tensor {
        (&self.vectors * self.values.unsqueeze(1)).matmul(&self.vectors.transpose(1, 2))
    }

    /// Mean and covariance of the whole mixture, `[d]` and `[d, d]`.
    pub fn mean_and_covariance(&self) -> (Tensor, Tensor) {
        let weights = self.log_weights.exp();
        let mean = weights.unsqueeze(0).matmul(&self.means).squeeze_dim(0);
        let centred = &self.means - &mean;
        let within = sum_over(&(self.covariances() * weights.view([-1, 1, 1])), 0);
        let between = (&centred * weights.unsqueeze(1)).transpose(0, 1).matmul(&centred);
        (mean, within + between)
    }

    /// The same mixture for computation on another device or in another kind.
    pub fn to(&self, device: Device, kind: Kind) -> GaussianMixture {
        let to = |x: &Tensor| x.to_device(device).to_kind(kind);
        GaussianMixture {
            log_weights: to(&self.log_weights),
            means: to(&self.means),
            vectors: to(&self.vectors),
            values: to(&self.values),
            rotation: OnceCell::new(),
        }
    }

    /// Where it is computed.
    pub fn device(&self) -> Device {
        self.means.device()
    }

    /// Its element kind.
    pub fn kind(&self) -> Kind {
        self.means.kind()
    }

    /// `n` rows, `[n, d]`; row `i` depends on the seed and `i` alone.
    pub fn sample(&self, n: usize, seed: Seed) -> Tensor {
        let mut noise = Noise::new(seed, 0..n as u64);
        let weights = to_vec(&self.log_weights.exp());
        let chosen: Vec<i64> = noise
            .uniform(1)
            .into_iter()
            .map(|mut u| {
                let last = weights.len() - 1;
                weights[..last]
                    .iter()
                    .position(|w| {
                        u -= w;
                        u < 0.0
                    })
                    .unwrap_or(last) as i64
            })
            .collect();
        let chosen = Tensor::from_slice(&chosen).to_device(self.means.device());
        let z = noise.normal(self.dim() as usize, Kind::Double, self.means.device());
        let scaled = (z * self.values.sqrt().index_select(0, &chosen)).unsqueeze(-1);
        let turned = self.vectors.index_select(0, &chosen).matmul(&scaled).squeeze_dim(-1);
        self.means.index_select(0, &chosen) + turned
    }

    fn rotation(&self) -> &Rotation {
        self.rotation.get_or_init(|| {
            let d = self.dim();
            let mean = self.means.unsqueeze(1).matmul(&self.vectors).reshape([1, -1]);
            let turn = self.vectors.permute([1, 0, 2]).reshape([d, -1]);
            let back = self.vectors.transpose(1, 2).reshape([-1, d]);
            Rotation { turn: Tensor::cat(&[turn, -mean], 0), back }
        })
    }

    /// `x` `[b, d]` seen from every component; `alpha` `[b]`, and `α_t²` and `σ_t²`, `[b]` or, of
    /// equal times, `[1]`; `ln π_k`, `[K]` or `[b, K]`.
    fn at(
        &self,
        x: &Tensor,
        alpha: &Tensor,
        [alpha2, sigma2]: [&Tensor; 2],
        log_weights: &Tensor,
    ) -> Components {
        let (k, d) = (self.components(), self.dim());
        let turn = &self.rotation().turn;
        let centred = Tensor::cat(&[x, &alpha.unsqueeze(-1)], 1).matmul(turn).view([-1, k, d]);
        let sigma2 = sigma2.view([-1, 1, 1]);
        let signal = alpha2.view([-1, 1, 1]) * &self.values;
        let total: Tensor = &signal + &sigma2;
        let scaled = &centred / &total;
        let quad = sum_last(&(centred * &scaled));
        let log_det = sum_last(&total.log());
        let log_joint = log_weights - (quad + log_det + d as f64 * LN_2PI) * 0.5;
        let log_density = log_joint.logsumexp([-1i64].as_slice(), false);
        let weights = (&log_joint - log_density.unsqueeze(-1)).exp();
        Components {
            weights,
            log_density,
            turned_noise: scaled * sigma2.sqrt(),
            shrunk: signal / total,
        }
    }

    /// `ln π_k N(x; m_k, S_k)` of the data's distribution, `[b, K]`.
    fn log_joint(&self, x: &Tensor) -> Tensor {
        let (k, d) = (self.components(), self.dim());
        // whitened by every component: (x − m_k)ᵀ U_k Λ_k^{−½}
        let whitening = &self.vectors * self.values.rsqrt().unsqueeze(1);
        let turn = whitening.permute([1, 0, 2]).reshape([d, -1]);
        let origin = self.means.unsqueeze(1).matmul(&whitening).reshape([1, -1]);
        let constant = &self.log_weights - (sum_last(&self.values.log()) + d as f64 * LN_2PI) * 0.5;
        by_blocks(x, k * d, |start, rows| {
            let mut white = (x.narrow(0, start, rows).matmul(&turn) - &origin).view([-1, k, d]);
            [&constant - sum_last(&white.square_()) * 0.5]
        })
        .remove(0)
    }

    /// `ln p(x)` of the data's distribution, nats, `[b]`.
    pub fn log_density(&self, x: &Tensor) -> Tensor {
        self.log_joint(x).logsumexp([-1i64].as_slice(), false)
    }

    /// The probability that a row came from each component, `[b, K]`.
    pub(crate) fn responsibilities(&self, x: &Tensor) -> Tensor {
        self.log_joint(x).softmax(-1, None::<Kind>)
    }

    /// Where a row lies along each component's longest axis, from its mean, `[b, K]`.
    pub(crate) fn along_longest_axis(&self, x: &Tensor) -> Tensor {
        let axes = self.vectors.select(2, self.dim() - 1);
        x.matmul(&axes.transpose(0, 1)) - sum_last(&(&self.means * &axes))
    }

    /// `ln p_t(x_t)` of the diffused distribution, nats, `[b]`.
    pub fn log_density_at(&self, x: &Tensor, schedule: &dyn Schedule, times: &Times) -> Tensor {
        self.diffused(x, schedule, times, None, |at| [at.log_density]).remove(0)
    }

    /// What `f` makes of the components at `x_t`, block of rows by block; `ln π_k` of each row,
    /// `[b, K]`, where rows have their own.
    fn diffused<const N: usize>(
        &self,
        x: &Tensor,
        schedule: &dyn Schedule,
        times: &Times,
        log_weights: Option<&Tensor>,
        f: impl Fn(Components) -> [Tensor; N],
    ) -> Vec<Tensor> {
        assert_eq!(x.size()[1], self.dim(), "columns of rows of a mixture");
        times.check(x.size()[0]);
        let (alpha, sigma) = times.marginal(schedule, x.device());
        // equal times share what depends on them alone
        let shared = match times {
            Times::All(_) => x.narrow(0, 0, 1.min(x.size()[0])),
            Times::Each(_) => x.shallow_clone(),
        };
        let (alpha2, sigma2) = (alpha.square().rows(&shared), sigma.square().rows(&shared));
        let alpha = alpha.rows(x);
        let each = self.components() * self.dim();
        by_blocks(x, each, |start, rows| {
            let part = |x: &Tensor| x.narrow(0, start, rows);
            let of_times = |x: &Tensor| match times {
                Times::All(_) => x.shallow_clone(),
                Times::Each(_) => part(x),
            };
            let own = log_weights.map(part);
            let log_weights = own.as_ref().unwrap_or(&self.log_weights);
            let squares = [&of_times(&alpha2), &of_times(&sigma2)];
            f(self.at(&part(x), &part(&alpha), squares, log_weights))
        })
    }

    /// `ε̂ = E[ε|x_t]`, exact, `[b, d]`.
    pub fn noise(&self, x: &Tensor, schedule: &dyn Schedule, times: &Times) -> Tensor {
        self.noise_given(x, schedule, times, None)
    }

    /// As [`GaussianMixture::noise`], each row with weights of its own: `ln π_k`, up to a constant,
    /// `[b, K]`.
    fn noise_given(
        &self,
        x: &Tensor,
        schedule: &dyn Schedule,
        times: &Times,
        log_weights: Option<&Tensor>,
    ) -> Tensor {
        self.diffused(x, schedule, times, log_weights, |at| [self.mean_noise(&at)]).remove(0)
    }

    /// `ε̂`: every component's part turned back and added up in one product.
    fn mean_noise(&self, at: &Components) -> Tensor {
        let weighted = &at.turned_noise * at.weights.unsqueeze(-1);
        weighted.flatten(1, 2).matmul(&self.rotation().back)
    }

    /// `ε̂`, and how far each component's is from it, `[K, b, d]`.
    fn noises(&self, at: &Components) -> (Tensor, Tensor) {
        let noise = self.mean_noise(at);
        let each = at.turned_noise.transpose(0, 1).matmul(&self.vectors.transpose(1, 2));
        let apart = each - &noise;
        (noise, apart)
    }

    /// `ε̂` and the exact `G = Cov[ε|x_t]`, dense: within components plus between them, hence
    /// `⪰ 0`.
    pub fn moments(&self, x: &Tensor, schedule: &dyn Schedule, times: &Times) -> NoiseMoments {
        self.moments_given(x, schedule, times, None)
    }

    /// As [`GaussianMixture::moments`], each row with weights of its own.
    fn moments_given(
        &self,
        x: &Tensor,
        schedule: &dyn Schedule,
        times: &Times,
        log_weights: Option<&Tensor>,
    ) -> NoiseMoments {
        let d = self.dim();
        // v vᵀ of every eigenvector, `[K d, d²]`
        let rows = &self.rotation().back;
        let squares = (rows.unsqueeze(2) * rows.unsqueeze(1)).flatten(1, 2);
        let mut parts = self.diffused(x, schedule, times, log_weights, |at| {
            let (noise, apart) = self.noises(&at);
            let root = apart.permute([1, 2, 0]) * at.weights.sqrt().unsqueeze(1);
            let between = root.matmul(&root.transpose(1, 2));
            let within = (&at.shrunk * at.weights.unsqueeze(-1)).flatten(1, 2).matmul(&squares);
            [noise, between + within.view([-1, d, d])]
        });
        let (g, noise) = (parts.remove(1), parts.remove(0));
        NoiseMoments::new(noise, SymMatrix::Full(g))
    }

    /// `ε̂` and the diagonal of the exact `G`, `[b, d]`, without forming `G`.
    pub fn moments_diagonal(
        &self,
        x: &Tensor,
        schedule: &dyn Schedule,
        times: &Times,
    ) -> NoiseMoments {
        self.moments_diagonal_given(x, schedule, times, None)
    }

    /// As [`GaussianMixture::moments_diagonal`], each row with weights of its own.
    fn moments_diagonal_given(
        &self,
        x: &Tensor,
        schedule: &dyn Schedule,
        times: &Times,
        log_weights: Option<&Tensor>,
    ) -> NoiseMoments {
        let squared = self.vectors.square().transpose(1, 2).reshape([-1, self.dim()]);
        let mut parts = self.diffused(x, schedule, times, log_weights, |at| {
            let (noise, apart) = self.noises(&at);
            let between = sum_over(&(apart.square() * at.weights.transpose(0, 1).unsqueeze(-1)), 0);
            let within = (&at.shrunk * at.weights.unsqueeze(-1)).flatten(1, 2).matmul(&squared);
            [noise, between + within]
        });
        let (g, noise) = (parts.remove(1), parts.remove(0));
        NoiseMoments::new(noise, SymMatrix::Diagonal(g))
    }

    /// The exact posterior of `x_0` given `x_t` as a mixture: responsibilities `[b, K]`, component
    /// means `[b, K, d]` and component covariances `[b, K, d, d]`. By conditioning each Gaussian
    /// component, without Tweedie's formulas: an independent route for tests.
    pub fn posterior_components(
        &self,
        x: &Tensor,
        schedule: &dyn Schedule,
        t: f64,
    ) -> (Tensor, Tensor, Tensor) {
        let (alpha, sigma2) = (schedule.alpha(t), schedule.sigma2(t));
        let responsibilities =
            self.diffused(x, schedule, &Times::All(t), None, |at| [at.weights]).remove(0);
        let covariances = self.covariances();
        let identity = Tensor::eye(self.dim(), F64);
        // gain = α S (α² S + σ² I)⁻¹
        let gain = (&covariances * alpha)
            .matmul(&(&covariances * (alpha * alpha) + &identity * sigma2).inverse());
        let residual = x.unsqueeze(1) - &self.means * alpha;
        let means = &self.means + gain.matmul(&residual.unsqueeze(-1)).squeeze_dim(-1);
        let covs = &covariances - gain.matmul(&covariances) * alpha;
        let b = x.size()[0];
        (responsibilities, means, covs.unsqueeze(0).expand([b, -1, -1, -1], false))
    }
}

/// What `f` makes of a first row and a number of rows, over blocks of `rows` rows of `each`
/// elements, put together again.
fn by_blocks<const N: usize>(
    x: &Tensor,
    each: i64,
    f: impl Fn(i64, i64) -> [Tensor; N],
) -> Vec<Tensor> {
    let rows = x.size()[0];
    let most = if x.device().is_cuda() { DEVICE_BLOCK } else { BLOCK };
    let block = (most / each).clamp(1, rows.max(1));
    let parts: Vec<[Tensor; N]> = (0..rows.max(1))
        .step_by(block as usize)
        .map(|start| f(start, block.min(rows - start)))
        .collect();
    (0..N).map(|i| Tensor::cat(&parts.iter().map(|part| &part[i]).collect::<Vec<_>>(), 0)).collect()
}
