//! The base distribution: an analytic density, noised exactly, that the network corrects.
//!
//! Before training the model *is* its base; training adds what is missing.

mod em;
mod mixed_em;

use std::time::Instant;

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor, no_grad};

use crate::choice::choices;
use crate::gaussian::LN_2PI;
use crate::mixture::{GaussianMixture, MixedMixture, MixtureParameters};
use crate::posterior::{NoiseMoments, isotropic_g};
use crate::query::{Cells, Columns, Condition, Query};
use crate::schedule::Schedule;
use crate::sym_matrix::SymMatrix;
use crate::tensor::{squared_norm, to_vec};
use crate::{Error, Result};

choices! {
    /// Which family the base comes from.
    pub enum BaseKind = Mixture {
        /// `N(mean, v I)`.
        Isotropic = "isotropic",
        /// `N(mean, S)`, full covariance.
        Gaussian = "gaussian",
        /// A Gaussian mixture with full covariances, its size chosen by validation.
        Mixture = "mixture",
    }
}

/// A base as plain data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BaseConfig {
    /// The family of distributions that is fitted.
    pub kind: BaseKind,
    /// Mixture sizes tried in this order until one is worse on validation rows than the one before;
    /// the best is kept.
    pub components: Vec<usize>,
    /// For how many rows per dimension the covariance that the components have in common counts in
    /// each of them, which keeps small components from overfitting. Tried in this order: the larger
    /// the mixture, the more it may take.
    pub priors: Vec<f64>,
    /// At most this many training rows are used for a mixture.
    pub max_rows: usize,
    /// The search for a mixture ends with the best so far after this many seconds; 0: it takes its
    /// time.
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
            return bad(
                format!("max_seconds = {}", self.max_seconds),
                "give seconds, or 0 for no limit",
            );
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
    /// A mixture over numbers and categories. Its rows' queries have their cells as condition, and
    /// of the rows `x_t` it sees the targets.
    Mixed(MixedMixture),
}

impl Base {
    /// `N(0, I)` in `d` dimensions: the base of standardised data about which nothing else is
    /// known.
    pub fn standard(dim: i64) -> Base {
        Base::Isotropic { mean: Tensor::zeros([dim], (Kind::Double, Device::Cpu)), variance: 1.0 }
    }

    /// Fits `config`'s family to training rows `[n, d]`, choosing a mixture's size on validation
    /// rows (or, where there are none, on the last tenth of the training rows).
    ///
    /// With no more rows than columns a sample covariance is singular and has no density: a
    /// Gaussian then has the covariance of Ledoit & Wolf (2004), drawn towards a multiple of the
    /// identity ([`Base::shrinks`]); a mixture is that Gaussian too where nothing better can be
    /// fitted.
    ///
    /// # Errors
    /// With fewer than two rows, or rows without any variance.
    pub fn fit(config: &BaseConfig, train: &Tensor, validation: &Tensor) -> Result<Base> {
        config.check()?;
        let train = train.to_kind(Kind::Double).to_device(Device::Cpu);
        let (n, d) = train.size2().expect("rows");
        if n < 2 {
            return Err(Error::config(
                "base",
                format!("{n} rows to fit it to"),
                "give at least two",
            ));
        }
        let mean = train.mean_dim([0i64].as_slice(), false, None::<Kind>);
        match config.kind {
            BaseKind::Isotropic => Base::isotropic([train]),
            BaseKind::Gaussian => {
                let centred = &train - &mean;
                let covariance = match Base::shrinks(n, d) {
                    true => shrunk_covariance(&centred)?,
                    false => covariance(&centred, n, d),
                };
                Ok(Base::Mixture(one_gaussian(&mean, &covariance)?))
            }
            BaseKind::Mixture => fit_mixture(config, &train, validation),
        }
    }

    /// Fits a mixture over numbers and categories to observed rows, with missing cells in either,
    /// choosing its size on validation rows (or, where there are none, on the last tenth of the
    /// training rows). [`BaseKind::Gaussian`] is a mixture of one component: a Gaussian, and
    /// categories that are independent of each other and of it.
    ///
    /// Where the model is one of other columns given `context`, the size is chosen by the density
    /// of those given these; all columns are fitted together.
    ///
    /// # Errors
    /// With fewer than two rows, or where no mixture has finite densities.
    pub fn fit_mixed(
        config: &BaseConfig,
        train: &Cells,
        validation: &Cells,
        context: &Columns,
    ) -> Result<Base> {
        config.check()?;
        let all = train.len().min(config.max_rows);
        if all < 2 {
            let problem = format!("{all} rows to fit it to");
            return Err(Error::config("base", problem, "give at least two"));
        }
        let used = if validation.is_empty() { (all * 9 / 10).max(1) } else { all };
        let own = train.rows(used..all);
        let held_out = if validation.is_empty() { &own } else { validation };
        let data = mixed_em::Data {
            rows: mixed_em::Observed::new(&train.rows(0..used)),
            held_out: mixed_em::Observed::new(held_out),
            given: (!context.is_empty()).then(|| mixed_em::Observed::new(&held_out.only(context))),
        };
        let shape = [used as i64, train.layout().numbers as i64];
        let one = BaseConfig { components: vec![1], ..config.clone() };
        let config = if config.kind == BaseKind::Gaussian { &one } else { config };
        match search::<mixed_em::Mixed>(config, &data, shape) {
            Some(search) => Ok(Base::Mixed(search.best)),
            None => Err(Error::numeric(
                "no mixture with finite densities was found",
                "give more rows, or leave out columns that are nearly constant",
            )),
        }
    }

    /// `N(mean, v I)` fitted to rows that come in `parts`, each `[n, d]`, so that they need not be
    /// in memory together (Chan, Golub & LeVeque 1983).
    ///
    /// # Errors
    /// With rows without any variance, or none.
    pub fn isotropic(parts: impl IntoIterator<Item = Tensor>) -> Result<Base> {
        let (mut rows, mut squares, mut mean) = (0.0, 0.0, None);
        for part in parts {
            let part = part.to_kind(Kind::Double).to_device(Device::Cpu);
            let (more, own) =
                (part.size()[0] as f64, part.mean_dim([0i64].as_slice(), false, None));
            squares += (&part - &own).square().sum(None).double_value(&[]);
            let old = mean.unwrap_or_else(|| own.shallow_clone());
            let (step, all) = (own - &old, rows + more);
            squares += step.square().sum(None).double_value(&[]) * rows * more / all;
            mean = Some(old + step * (more / all));
            rows = all;
        }
        let numbers = rows * mean.as_ref().map_or(0, Tensor::numel) as f64;
        match (mean, squares / numbers) {
            (Some(mean), variance) if variance > 0.0 => Ok(Base::Isotropic { mean, variance }),
            _ => Err(Error::numeric("the data have no variance", "give columns that vary")),
        }
    }

    /// Whether a Gaussian fitted to `rows` rows of `columns` numbers has a shrunk covariance.
    pub fn shrinks(rows: i64, columns: i64) -> bool {
        rows <= columns
    }

    /// Number of dimensions.
    pub fn dim(&self) -> i64 {
        match self {
            Base::Isotropic { mean, .. } => mean.size()[0],
            Base::Mixture(mixture) => mixture.dim(),
            Base::Mixed(mixture) => mixture.numbers().dim(),
        }
    }

    /// Mean square of the data about 0 per coordinate: what inputs are scaled by.
    pub fn second_moment(&self) -> f64 {
        match self {
            Base::Isotropic { mean, variance } => {
                mean.square().mean(None).double_value(&[]) + variance
            }
            Base::Mixture(_) | Base::Mixed(_) => {
                let (mean, covariance) = self.mean_and_covariance();
                let diagonal = covariance.diagonal(0, 0, 1).mean(None).double_value(&[]);
                mean.square().mean(None).double_value(&[]) + diagonal
            }
        }
    }

    /// Mean and covariance of numbers, `[d]` and `[d, d]`, in the base's kind.
    pub fn mean_and_covariance(&self) -> (Tensor, Tensor) {
        match self {
            Base::Isotropic { mean, variance } => {
                let d = self.dim();
                (mean.shallow_clone(), Tensor::eye(d, (mean.kind(), mean.device())) * *variance)
            }
            Base::Mixture(mixture) => mixture.mean_and_covariance(),
            Base::Mixed(mixture) => mixture.numbers().mean_and_covariance(),
        }
    }

    /// Number of Gaussians.
    pub fn components(&self) -> i64 {
        match self {
            Base::Isotropic { .. } => 1,
            Base::Mixture(mixture) => mixture.components(),
            Base::Mixed(mixture) => mixture.numbers().components(),
        }
    }

    /// `ln b(x)` of numbers, nats, `[b]`; `x` in the base's kind.
    pub fn log_density(&self, x: &Tensor) -> Tensor {
        match self {
            Base::Isotropic { mean, variance } => {
                let d = self.dim() as f64;
                (squared_norm(&(x - mean)) / *variance + d * (LN_2PI + variance.ln())) * -0.5
            }
            Base::Mixture(mixture) => mixture.log_density(x),
            Base::Mixed(mixture) => mixture.numbers().log_density(x),
        }
    }

    /// `ln b(x_j|x_{−j})` of each number, nats, `[b, d]`; `x` in the base's kind.
    pub fn log_conditionals(&self, x: &Tensor) -> Tensor {
        match self {
            Base::Isotropic { mean, variance } => {
                ((x - mean).square() / *variance + (LN_2PI + variance.ln())) * -0.5
            }
            Base::Mixture(mixture) => mixture.log_conditionals(x),
            Base::Mixed(mixture) => mixture.numbers().log_conditionals(x),
        }
    }

    /// `ln b_t(x_t)` of the base diffused exactly, nats, `[b]`; rows in the base's kind. Of a base
    /// over numbers and categories it is that of the targets given the rest
    /// ([`MixedMixture::log_density_at`]).
    ///
    /// # Panics
    /// As [`Base::noise`].
    pub fn log_density_at(&self, q: &Query, schedule: &dyn Schedule) -> Tensor {
        let Query { x, times, .. } = q;
        match self {
            Base::Isotropic { mean, variance } => {
                let d = self.dim() as f64;
                let (alpha, sigma) = times.marginal(schedule, x.device());
                let total = (alpha.square() * *variance + sigma.square()).rows(x);
                let centred = *x - alpha.column(x) * mean;
                (squared_norm(&centred) / &total + (total.log() + LN_2PI) * d) * -0.5
            }
            Base::Mixture(mixture) => mixture.log_density_at(x, schedule, times),
            Base::Mixed(mixture) => mixture.log_density_at(x, schedule, times, cells_of(q)),
        }
    }

    /// The same base for computation on another device or in another kind.
    pub fn to(&self, device: Device, kind: Kind) -> Base {
        match self {
            Base::Isotropic { mean, variance } => {
                Base::Isotropic { mean: mean.to_device(device).to_kind(kind), variance: *variance }
            }
            Base::Mixture(mixture) => Base::Mixture(mixture.to(device, kind)),
            Base::Mixed(mixture) => Base::Mixed(mixture.to(device, kind)),
        }
    }

    /// The base's exact `ε̂`, `[b, d]`, in the kind of the rows.
    ///
    /// # Panics
    /// If a base over numbers and categories is not given the rows' cells.
    pub fn noise(&self, q: &Query, schedule: &dyn Schedule) -> Tensor {
        let Query { x, times, .. } = q;
        match self {
            Base::Isotropic { mean, variance } => {
                // σ (x − α m)/(α²v + σ²)
                let (alpha, sigma) = times.marginal(schedule, x.device());
                let gain = &sigma / &(alpha.square() * *variance + sigma.square());
                (*x - alpha.column(x) * mean.to_kind(x.kind())) * &gain
            }
            Base::Mixture(mixture) => {
                mixture.noise(&x.to_kind(mixture.kind()), schedule, times).to_kind(x.kind())
            }
            Base::Mixed(mixture) => {
                let y = x.to_kind(mixture.numbers().kind());
                mixture.noise(&y, schedule, times, cells_of(q)).to_kind(x.kind())
            }
        }
    }

    /// The base's exact `ε̂` and `G`: dense if `full`, else no more than its diagonal.
    ///
    /// # Panics
    /// As [`Base::noise`].
    pub fn moments(&self, q: &Query, schedule: &dyn Schedule, full: bool) -> NoiseMoments {
        let Query { x, times, .. } = q;
        let found = match self {
            Base::Isotropic { variance, .. } => {
                let (alpha, sigma) = times.marginal(schedule, x.device());
                let g = isotropic_g(&alpha, &sigma, *variance);
                return NoiseMoments::new(self.noise(q, schedule), SymMatrix::scalar(&g, x));
            }
            Base::Mixture(mixture) => {
                let y = x.to_kind(mixture.kind());
                match full {
                    true => mixture.moments(&y, schedule, times),
                    false => mixture.moments_diagonal(&y, schedule, times),
                }
            }
            Base::Mixed(mixture) => {
                let y = x.to_kind(mixture.numbers().kind());
                mixture.moments(&y, schedule, times, cells_of(q), full)
            }
        };
        NoiseMoments::new(found.noise.to_kind(x.kind()), found.cov.to_kind(x.kind()))
    }
}

/// What is given of rows to a base over numbers and categories.
fn cells_of<'a>(q: &Query<'a>) -> &'a Cells {
    q.condition.and_then(Condition::as_cells).expect("the cells of rows")
}

/// Sample covariance with a ridge of 1e-9 of its mean variance, so that it can be inverted.
fn covariance(centred: &Tensor, n: i64, d: i64) -> Tensor {
    let raw = centred.transpose(0, 1).matmul(centred) / n as f64;
    let ridge = raw.diagonal(0, 0, 1).mean(None).double_value(&[]) * 1e-9;
    raw + Tensor::eye(d, (Kind::Double, Device::Cpu)) * ridge
}

/// The covariance of Ledoit & Wolf (2004, "A well-conditioned estimator for large-dimensional
/// covariance matrices"): `(1 − ρ) S + ρ m I` with `m = tr S/d` and
/// `ρ = min(1, (Σ_k ‖x_k x_kᵀ − S‖²/n²)/‖S − m I‖²)` in Frobenius norm, for centred rows `x_k`
/// `[n, d]` with the sample covariance `S`.
fn shrunk_covariance(centred: &Tensor) -> Result<Tensor> {
    let (n, d) = centred.size2().expect("rows");
    let sample = centred.transpose(0, 1).matmul(centred) / n as f64;
    let number = |x: &Tensor| x.sum(Kind::Double).double_value(&[]);
    let mean = number(&sample.diagonal(0, 0, 1)) / d as f64;
    if !(mean > 0.0 && mean.is_finite()) {
        return Err(Error::numeric("the data have no variance", "give columns that vary"));
    }
    let identity = Tensor::eye(d, (Kind::Double, centred.device()));
    let spread = number(&(&sample - &identity * mean).square());
    // Σ_k ‖x_k x_kᵀ − S‖² = Σ_k ‖x_k‖⁴ − n ‖S‖²
    let noise = number(&squared_norm(centred).square()) - n as f64 * number(&sample.square());
    let share = (noise / (n * n) as f64 / spread.max(f64::MIN_POSITIVE)).clamp(0.0, 1.0);
    // two values in every column have no noise to shrink by: a covariance needs a little all the
    // same
    let share = share.max(1.0 / n as f64);
    Ok(sample * (1.0 - share) + identity * (mean * share))
}

fn one_gaussian(mean: &Tensor, covariance: &Tensor) -> Result<GaussianMixture> {
    GaussianMixture::from_parameters(&MixtureParameters {
        weights: vec![1.0],
        means: vec![to_vec(mean)],
        covariances: vec![to_vec(covariance)],
    })
}

/// Expectation–maximisation for one kind of mixture.
trait Em: Sized {
    /// Rows to fit it to and rows to judge it by.
    type Data;
    /// What is found.
    type Mixture;

    /// What the first step goes on from, for a mixture of `components`, which grows out of a
    /// `smaller` one, or out of a single component, by splitting the heaviest components in two.
    /// `prior` is the number of rows for which the common covariance counts in every component. An
    /// error where a covariance is not positive definite.
    fn start(
        data: &Self::Data,
        smaller: Option<&Self::Mixture>,
        components: usize,
        prior: f64,
    ) -> Result<Self>;

    /// One step; an error where a covariance is no longer positive definite.
    fn step(&mut self, data: &Self::Data) -> Result<()>;

    /// Mean log-density of the held-out rows under the mixture of the last step, nats; NaN where
    /// there are none.
    fn score(&self, data: &Self::Data) -> Result<f64>;

    /// The mixture of the last step, given once.
    fn mixture(&mut self) -> Result<Self::Mixture>;
}

/// Iterations without a gain of `GAIN` nats per held-out row after which a search ends.
const PATIENCE: usize = 15;
const GAIN: f64 = 1e-3;

/// A search for a mixture of one size under one prior, which can be gone on with.
struct Search<E: Em> {
    /// Mean log-density of the held-out rows under the best mixture so far.
    score: f64,
    best: E::Mixture,
    em: E,
    /// Iterations since the best.
    idle: usize,
}

impl<E: Em> Search<E> {
    /// The first iteration, as [`Em::start`] says.
    fn start(
        data: &E::Data,
        smaller: Option<&E::Mixture>,
        components: usize,
        prior: f64,
    ) -> Result<Search<E>> {
        let mut em = E::start(data, smaller, components, prior)?;
        em.step(data)?;
        Ok(Search { score: em.score(data)?, best: em.mixture()?, em, idle: 0 })
    }

    /// Does at most `iterations` further iterations; it ends sooner when nothing improves, when a
    /// covariance is no longer positive definite, or when `go_on` returns false.
    fn advance(&mut self, data: &E::Data, iterations: usize, go_on: &dyn Fn() -> bool) {
        for _ in 0..iterations {
            if self.idle >= PATIENCE || !go_on() || self.em.step(data).is_err() {
                break;
            }
            let Ok(score) = self.em.score(data) else { break };
            self.idle += 1;
            if score > self.score + GAIN
                && let Ok(mixture) = self.em.mixture()
            {
                (self.score, self.best, self.idle) = (score, mixture, 0);
            }
        }
    }
}

/// A mixture that is being fitted under one of the priors.
struct Candidate<E: Em> {
    /// Index of the prior.
    prior: usize,
    search: Search<E>,
}

/// The best candidate that is reached from `start` by going to stronger priors, or else to weaker
/// ones, while that pays.
fn climb<E: Em>(start: usize, fit: impl Fn(usize) -> Option<Candidate<E>>) -> Option<Candidate<E>> {
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

/// Expectation–maximisation for each size, grown out of the one before, and the size with the best
/// log-density on held-out rows; of `rows` rows of `d` numbers.
fn search<E: Em>(config: &BaseConfig, data: &E::Data, [rows, d]: [i64; 2]) -> Option<Search<E>> {
    let started = Instant::now();
    let in_time =
        || config.max_seconds == 0.0 || started.elapsed().as_secs_f64() < config.max_seconds;
    let mut best: Option<Candidate<E>> = None;
    for &components in config.components.iter().filter(|&&k| k >= 1 && k as i64 * (d + 1) <= rows) {
        // a covariance that is not positive definite: not a candidate
        let trial = |prior: usize| {
            if best.is_some() && !in_time() {
                return None;
            }
            let rows_of_prior = config.priors.get(prior)? * d as f64;
            let smaller = best.as_ref().map(|best| &best.search.best);
            let mut search = Search::start(data, smaller, components, rows_of_prior).ok()?;
            search.advance(data, TRIAL_ITERATIONS, &in_time);
            search.score.is_finite().then_some(Candidate { prior, search })
        };
        let start = best.as_ref().map_or(0, |best| best.prior);
        let of_size = no_grad(|| {
            let mut of_size = climb(start, trial)?;
            of_size.search.advance(data, FURTHER_ITERATIONS, &in_time);
            Some(of_size)
        });
        let Some(of_size) = of_size else { continue };
        if best.as_ref().is_some_and(|best| of_size.search.score <= best.search.score) {
            break;
        }
        best = Some(of_size);
    }
    best.map(|best| best.search)
}

/// A mixture of the size that is best on held-out rows.
fn fit_mixture(config: &BaseConfig, train: &Tensor, validation: &Tensor) -> Result<Base> {
    let (n, d) = train.size2().expect("rows");
    let used = n.min(config.max_rows as i64);
    let (used, held_out) = if validation.size()[0] > 0 {
        (used, validation.to_kind(Kind::Double).to_device(Device::Cpu))
    } else {
        let kept = (used * 9 / 10).max(1);
        (kept, train.narrow(0, kept, used - kept))
    };
    let data = em::Data { rows: train.narrow(0, 0, used), held_out };
    let best = search::<em::Gaussians>(config, &data, [used, d]);
    // few rows for their columns: one Gaussian with a shrunk covariance may be better than any
    // sample covariance
    let one = (best.is_none() || n < FEW_ROWS * d)
        .then(|| {
            let rows = train.narrow(0, 0, used);
            let mean = rows.mean_dim([0i64].as_slice(), false, None::<Kind>);
            one_gaussian(&mean, &shrunk_covariance(&(&rows - &mean))?)
        })
        .transpose()?;
    match (best, one) {
        (Some(best), Some(one)) if em::judge(&one, &data) > best.score => Ok(Base::Mixture(one)),
        (Some(best), _) => Ok(Base::Mixture(best.best)),
        (None, Some(one)) => Ok(Base::Mixture(one)),
        (None, None) => unreachable!("without a mixture a Gaussian is fitted"),
    }
}

/// Rows per column below which a mixture is held against a Gaussian with a shrunk covariance.
const FEW_ROWS: i64 = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::{Noise, Seed};

    fn normals(n: u64, d: usize, seed: u64) -> Tensor {
        Noise::new(Seed(seed), 0..n).normal(d, Kind::Double, Device::Cpu)
    }

    /// More columns than rows: `N(0, I)` in 30 dimensions has an entropy of 42.6 nats. From 20
    /// rows, a sample covariance with a ridge gave held-out rows some −10⁷; a shrunk one is near.
    #[test]
    fn few_rows_have_a_covariance() {
        let (train, held_out) = (normals(20, 30, 1), normals(200, 30, 2));
        let none = Tensor::zeros([0, 30], (Kind::Double, Device::Cpu));
        for kind in [BaseKind::Isotropic, BaseKind::Gaussian, BaseKind::Mixture] {
            let config = BaseConfig { kind, ..BaseConfig::default() };
            let base = Base::fit(&config, &train, &none).unwrap();
            let mean = base.log_density(&held_out).mean(None).double_value(&[]);
            assert!(mean > -50.0 && mean < -40.0, "{kind:?}: {mean}");
        }
    }

    /// With barely more rows than columns a sample covariance is not singular but next to it: the
    /// mixture's search does not take it.
    #[test]
    fn barely_enough_rows_have_a_covariance() {
        let (train, held_out) = (normals(35, 30, 1), normals(200, 30, 2));
        let base = Base::fit(&BaseConfig::default(), &train, &normals(20, 30, 3)).unwrap();
        let mean = base.log_density(&held_out).mean(None).double_value(&[]);
        assert!(mean > -50.0 && mean < -40.0, "{mean}");
    }

    /// The estimator's own numbers on six rows by hand in two dimensions: `S = diag(2/3, 1/6)·…`
    /// worked out with exact fractions for x = (±2, 0), (0, ±1), (±1, 0): S = diag(10/6, 2/6), m =
    /// 1, ‖S − m I‖² = 8/9, Σ‖x‖⁴ = 36, n‖S‖² = 6·104/36, so ρ = (36 − 52/3)/36/(8/9) = 7/12.
    #[test]
    fn shrinkage_by_hand() {
        let rows = [[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0], [1.0, 0.0], [-1.0, 0.0f64]];
        let found =
            to_vec(&shrunk_covariance(&Tensor::from_slice(&rows.concat()).view([6, 2])).unwrap());
        let rho = 7.0 / 12.0;
        let expected = [(1.0 - rho) * 10.0 / 6.0 + rho, 0.0, 0.0, (1.0 - rho) * 2.0 / 6.0 + rho];
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?}");
        assert!(shrunk_covariance(&Tensor::zeros([4, 2], (Kind::Double, Device::Cpu))).is_err());
    }
}
