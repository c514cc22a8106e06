//! The base distribution: an analytic density, noised exactly, that the network corrects.
//!
//! Before training the model *is* its base; training adds what is missing.

mod em;

use std::time::Instant;

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor, no_grad};

use crate::gaussian::LN_2PI;
use crate::oracle::{GaussianMixture, MixtureParameters};
use crate::schedule::Schedule;
use crate::tensor::{column, squared_norm, to_vec};
use crate::tweedie::{Jet, isotropic_g, scalar_g};
use crate::{Error, Result};
use em::Search;

/// Which family the base comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BaseKind {
    /// `N(mean, v I)`.
    Isotropic,
    /// `N(mean, S)`, full covariance.
    Gaussian,
    /// A Gaussian mixture with full covariances, its size chosen by validation.
    #[default]
    Mixture,
}

/// A base as plain data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BaseConfig {
    /// The family.
    pub kind: BaseKind,
    /// Mixture sizes tried in this order until one is worse on validation rows than the one before; the best is kept.
    pub components: Vec<usize>,
    /// For how many rows per dimension the covariance that the components have in common counts in each of them, which
    /// keeps small components from overfitting. Tried in this order: the larger the mixture, the more it may take.
    pub priors: Vec<f64>,
    /// At most this many training rows are used for a mixture.
    pub max_rows: usize,
    /// The search for a mixture ends with the best so far after this many seconds; 0: it takes its time.
    pub max_seconds: f64,
}

impl Default for BaseConfig {
    fn default() -> Self {
        BaseConfig {
            kind: BaseKind::default(),
            components: vec![1, 2, 4, 8, 16, 32, 64, 128, 256],
            priors: vec![0.0, 0.1, 1.0],
            max_rows: 20_000,
            max_seconds: 0.0,
        }
    }
}

impl BaseConfig {
    /// A mixture of `components` Gaussians fitted to all rows.
    pub fn mixture(components: usize) -> BaseConfig {
        BaseConfig {
            kind: BaseKind::Mixture,
            components: vec![components],
            max_rows: i64::MAX as usize,
            ..BaseConfig::default()
        }
    }

    /// Checks every field.
    pub fn check(&self) -> Result<()> {
        let bad = |problem: String, remedy: &str| Err(Error::config("base", problem, remedy));
        if self.max_rows < 2 {
            return bad(format!("max_rows = {}", self.max_rows), "give at least two");
        }
        if !(self.max_seconds >= 0.0 && self.max_seconds.is_finite()) {
            return bad(format!("max_seconds = {}", self.max_seconds), "give seconds, or 0 for no limit");
        }
        if self.priors.is_empty() || self.priors.iter().any(|p| !(*p >= 0.0 && p.is_finite())) {
            let remedy = "give numbers of at least 0, such as [0.0, 0.1, 1.0]";
            return bad(format!("priors = {:?}", self.priors), remedy);
        }
        Ok(())
    }
}

/// A fitted base.
#[derive(Debug)]
pub enum Base {
    /// `N(mean, v I)`; `mean` is `[d]`.
    Isotropic {
        /// `[d]`, f64.
        mean: Tensor,
        /// `v`.
        variance: f64,
    },
    /// One Gaussian or several, in f64.
    Mixture(GaussianMixture),
}

impl Base {
    /// `N(0, I)` in `d` dimensions: the base of standardised data about which nothing else is known.
    pub fn standard(dim: i64) -> Base {
        Base::Isotropic { mean: Tensor::zeros([dim], (Kind::Double, Device::Cpu)), variance: 1.0 }
    }

    /// Fits `config`'s family to training rows `[n, d]`, choosing a mixture's size on validation rows (or, where there
    /// are none, on the last tenth of the training rows).
    pub fn fit(config: &BaseConfig, train: &Tensor, validation: &Tensor) -> Result<Base> {
        config.check()?;
        let train = train.to_kind(Kind::Double).to_device(Device::Cpu);
        let (n, d) = train.size2().expect("rows");
        if n < 2 {
            return Err(Error::config("base", format!("{n} rows to fit it to"), "give at least two"));
        }
        let mean = train.mean_dim([0i64].as_slice(), false, None::<Kind>);
        match config.kind {
            BaseKind::Isotropic => {
                let variance = (&train - &mean).square().mean(None).double_value(&[]);
                if variance.is_nan() || variance <= 0.0 {
                    return Err(Error::numeric("the data have no variance", "give columns that vary"));
                }
                Ok(Base::Isotropic { mean, variance })
            }
            BaseKind::Gaussian => {
                let covariance = covariance(&(&train - &mean), n, d);
                let one = MixtureParameters {
                    weights: vec![1.0],
                    means: vec![to_vec(&mean)],
                    covariances: vec![to_vec(&covariance)],
                };
                Ok(Base::Mixture(GaussianMixture::from_parameters(&one)?))
            }
            BaseKind::Mixture => fit_mixture(config, &train, validation),
        }
    }

    /// Number of dimensions.
    pub fn dim(&self) -> i64 {
        match self {
            Base::Isotropic { mean, .. } => mean.size()[0],
            Base::Mixture(mixture) => mixture.dim(),
        }
    }

    /// Mean square of the data about 0 per coordinate: what inputs are scaled by.
    pub fn second_moment(&self) -> f64 {
        match self {
            Base::Isotropic { mean, variance } => mean.square().mean(None).double_value(&[]) + variance,
            Base::Mixture(mixture) => {
                let (mean, covariance) = mixture.moments();
                let diagonal = covariance.diagonal(0, 0, 1).mean(None).double_value(&[]);
                mean.square().mean(None).double_value(&[]) + diagonal
            }
        }
    }

    /// Number of Gaussians.
    pub fn components(&self) -> i64 {
        match self {
            Base::Isotropic { .. } => 1,
            Base::Mixture(mixture) => mixture.components(),
        }
    }

    /// `ln b(x)`, nats, `[b]`; `x` in the base's kind.
    pub fn log_density(&self, x: &Tensor) -> Tensor {
        match self {
            Base::Isotropic { mean, variance } => {
                let d = self.dim() as f64;
                (squared_norm(&(x - mean)) / *variance + d * (LN_2PI + variance.ln())) * -0.5
            }
            Base::Mixture(mixture) => mixture.log_density(x),
        }
    }

    /// The same base for computation on another device or in another kind.
    pub fn to(&self, device: Device, kind: Kind) -> Base {
        match self {
            Base::Isotropic { mean, variance } => {
                Base::Isotropic { mean: mean.to_device(device).to_kind(kind), variance: *variance }
            }
            Base::Mixture(mixture) => Base::Mixture(mixture.to(device, kind)),
        }
    }

    /// The base's exact `ε̂`, `[b, d]`, in the kind of `x`.
    pub fn noise(&self, x: &Tensor, schedule: &dyn Schedule, t: &[f64]) -> Tensor {
        match self {
            Base::Isotropic { .. } => self.isotropic_noise(x, schedule, t),
            Base::Mixture(mixture) => {
                mixture.noise(&x.to_kind(mixture.kind()), schedule, t).to_kind(x.kind())
            }
        }
    }

    /// The base's exact `ε̂` and `G`: dense if `full`, else no more than its diagonal.
    pub fn jet(&self, x: &Tensor, schedule: &dyn Schedule, t: &[f64], full: bool) -> Jet {
        match self {
            Base::Isotropic { variance, .. } => {
                let g = scalar_g(t.iter().map(|&t| isotropic_g(schedule, t, *variance)), x);
                Jet { noise: self.isotropic_noise(x, schedule, t), g }
            }
            Base::Mixture(mixture) => {
                let y = x.to_kind(mixture.kind());
                let jet =
                    if full { mixture.jet(&y, schedule, t) } else { mixture.jet_diagonal(&y, schedule, t) };
                Jet { noise: jet.noise.to_kind(x.kind()), g: jet.g.to_kind(x.kind()) }
            }
        }
    }

    /// `ε̂ = σ (x − α m)/(α²v + σ²)`.
    fn isotropic_noise(&self, x: &Tensor, schedule: &dyn Schedule, t: &[f64]) -> Tensor {
        let Base::Isotropic { mean, variance } = self else { unreachable!("asked of an isotropic base") };
        let alpha = column(t.iter().map(|&t| schedule.alpha(t)), x);
        let gain = |t: &f64| {
            let sigma2 = schedule.sigma2(*t);
            sigma2.sqrt() / (schedule.alpha(*t).powi(2) * variance + sigma2)
        };
        (x - alpha * mean.to_kind(x.kind())) * column(t.iter().map(gain), x)
    }
}

/// Sample covariance with a ridge of 1e-9 of its mean variance, so that it can be inverted.
fn covariance(centred: &Tensor, n: i64, d: i64) -> Tensor {
    let raw = centred.transpose(0, 1).matmul(centred) / n as f64;
    let ridge = raw.diagonal(0, 0, 1).mean(None).double_value(&[]) * 1e-9;
    raw + Tensor::eye(d, (Kind::Double, Device::Cpu)) * ridge
}

/// A mixture that is being fitted under one of the priors.
struct Candidate {
    /// Index of the prior.
    prior: usize,
    search: Search,
}

/// The best candidate that is reached from `start` by going to stronger priors, or else to weaker ones, while that pays.
fn climb(start: usize, fit: impl Fn(usize) -> Option<Candidate>) -> Option<Candidate> {
    let mut best = fit(start);
    for step in [1, -1] {
        let mut at = start;
        while let Some(next) = at.checked_add_signed(step).and_then(&fit)
            && best.as_ref().is_none_or(|best| next.search.score > best.search.score)
        {
            at = next.prior;
            best = Some(next);
        }
        if at != start {
            break;
        }
    }
    best
}

/// Iterations by which the priors are compared, and those that the best of them is given then.
const TRIAL_ITERATIONS: usize = 20;
const FURTHER_ITERATIONS: usize = 80;

/// Expectation–maximisation for each size, grown out of the one before, and the size with the best log-density on
/// held-out rows.
fn fit_mixture(config: &BaseConfig, train: &Tensor, validation: &Tensor) -> Result<Base> {
    let (n, d) = train.size2().expect("rows");
    let used = n.min(config.max_rows as i64);
    let (used, held_out) = if validation.size()[0] > 0 {
        (used, validation.to_kind(Kind::Double).to_device(Device::Cpu))
    } else {
        let kept = (used * 9 / 10).max(1);
        (kept, train.narrow(0, kept, used - kept))
    };
    let data = em::Data { rows: &train.narrow(0, 0, used), held_out: &held_out };
    let started = Instant::now();
    let in_time = || config.max_seconds == 0.0 || started.elapsed().as_secs_f64() < config.max_seconds;
    let mut best: Option<Candidate> = None;
    for &components in config.components.iter().filter(|&&k| k >= 1 && k as i64 * (d + 1) <= used) {
        // a covariance that is not positive definite: not a candidate
        let trial = |prior: usize| {
            if best.is_some() && !in_time() {
                return None;
            }
            let rows_of_prior = config.priors.get(prior)? * d as f64;
            let smaller = best.as_ref().map(|best| &best.search.best);
            let mut search = Search::start(&data, smaller, components, rows_of_prior).ok()?;
            search.advance(&data, TRIAL_ITERATIONS, &in_time);
            search.score.is_finite().then_some(Candidate { prior, search })
        };
        let start = best.as_ref().map_or(0, |best| best.prior);
        let of_size = no_grad(|| {
            let mut of_size = climb(start, trial)?;
            of_size.search.advance(&data, FURTHER_ITERATIONS, &in_time);
            Some(of_size)
        });
        let Some(of_size) = of_size else { continue };
        if best.as_ref().is_some_and(|best| of_size.search.score <= best.search.score) {
            break;
        }
        best = Some(of_size);
    }
    match best {
        Some(best) => Ok(Base::Mixture(best.search.best)),
        None => Err(Error::numeric(
            format!(
                "no Gaussian mixture with {:?} components could be fitted to {used} rows",
                config.components
            ),
            "use --base gaussian, or smaller numbers of components",
        )),
    }
}
