//! The covariance of a reverse step: the methods of computing it, one file each.
//!
//! A [`Covariance`] gives `G = Cov[ε|x_t]`, or the covariance of a step itself.
//! [`CovarianceConfig`] lists the methods as plain data, and [`Reverse`] turns a model and a
//! covariance into the Gaussian distribution of `x_s` given `x_t`. The nearer a covariance is to
//! the exact one, the higher is the bound in as many steps:
//!
//! ```
//! use std::sync::Arc;
//! use tweedie::covariance::{CovarianceConfig, CovarianceSources, Reverse};
//! use tweedie::grid::Spacing;
//! use tweedie::likelihood::{Elbo, LogLikelihood};
//! use tweedie::noise::Seed;
//! use tweedie::oracle::{Oracle, named};
//! use tweedie::query::Batch;
//! use tweedie::schedule::Vp;
//!
//! # fn main() -> tweedie::Result<()> {
//! let oracle = Oracle::new(named::nine_gaussians(), Arc::new(Vp::default()));
//! let rows = Batch::of(&oracle.mixture.sample(200, Seed(0)));
//! let bound = |covariance: CovarianceConfig| -> tweedie::Result<f64> {
//!     let covariance = covariance.build(&CovarianceSources::default())?;
//!     let reverse = Reverse::new(&oracle, covariance, 1.0)?;
//!     let grid = Spacing::Angle.elbo_grid(&Vp::default(), 10);
//!     Ok(Elbo::new(reverse, grid, 1).log_likelihood(&rows, Seed(1), 0)?.mean())
//! };
//! let (own, zero) = (bound(CovarianceConfig::Own)?, bound(CovarianceConfig::ZeroHessian)?);
//! assert!(own > zero + 0.5, "exact covariance {own} nats, without the Hessian {zero}");
//! # Ok(())
//! # }
//! ```

#[macro_use]
mod list;
pub mod jacobian;
mod of_model;
mod reverse;
mod spectrum;

use tch::Tensor;

use crate::model::Denoiser;
use crate::noise::Noise;
use crate::query::{Query, Times};
use crate::schedule::Schedule;
use crate::sym_matrix::SymMatrix;
use crate::{Error, Result};
pub(crate) use interpolated::log_bounds;
#[cfg(test)]
pub(crate) use interpolated::tests as tests_of_interpolation;
pub use reverse::Reverse;
pub use spectrum::{MOST_COLUMNS, Spectrum};

/// A way to get `Cov[x_0|x_t]`, hence the covariance of a reverse step. It carries the data that it
/// takes besides the model.
pub trait Covariance {
    /// The name used in configuration files and on the command line.
    fn name(&self) -> String;

    /// `ε̂` `[b, d]` at the rows of `q`, and their covariance. `streams` are those of the rows: a
    /// method that draws does so anew at every call, from each row's own; the others leave them
    /// alone.
    fn of(&self, model: &dyn Denoiser, q: &Query, streams: &mut Noise) -> (Tensor, StepCovariance);

    /// Whether the covariance is defined for ancestral steps alone, `η = 1`.
    fn is_of_a_step(&self) -> bool {
        false
    }

    /// Whether the last step, to `s = 0`, has a density. Where it has none, a likelihood takes
    /// `G = I` for that step, the `N(x_0; μ_0, (σ/α)² I)` of ScoreFlow's truncation.
    fn ends_in_a_density(&self) -> bool {
        true
    }
}

/// A pointer to a covariance is one too.
macro_rules! through_a_pointer {
    ($($pointer:ty),*) => {$(
        impl<C: Covariance + ?Sized> Covariance for $pointer {
            fn name(&self) -> String {
                (**self).name()
            }

            fn of(
                &self,
                model: &dyn Denoiser,
                q: &Query,
                streams: &mut Noise,
            ) -> (Tensor, StepCovariance) {
                (**self).of(model, q, streams)
            }

            fn is_of_a_step(&self) -> bool {
                (**self).is_of_a_step()
            }

            fn ends_in_a_density(&self) -> bool {
                (**self).ends_in_a_density()
            }
        }
    )*};
}

through_a_pointer!(&C, Box<C>, std::rc::Rc<C>);

/// The covariance that belongs to rows `x_t`.
pub enum StepCovariance {
    /// `G = Cov[ε|x_t]`: the posterior of the clean data, hence of a step to any `s < t` at any
    /// `η`.
    Posterior(SymMatrix),
    /// The covariance of the ancestral step from `t` to `s` itself: a function of `s` and `t`.
    OfStep(OfStep),
}

/// A covariance as a function of a step's times `s` and `t`.
pub type OfStep = Box<dyn Fn(&dyn Schedule, &Times, &Times) -> SymMatrix>;

/// What a covariance may take besides the model.
#[derive(Clone, Copy, Debug, Default)]
pub struct CovarianceSources<'a> {
    /// What was measured of the model's noise.
    pub statistics: Option<&'a NoiseStatistics>,
    /// Whether the model's head says where between β̃ and β the variance of a step lies.
    pub interpolates: bool,
    /// How many products, of a method that has one covariance for every number of them.
    pub count: usize,
}

impl<'a> CovarianceSources<'a> {
    /// What was measured of the noise, for the covariance `name`.
    fn noise_statistics(&self, name: &str) -> Result<&'a NoiseStatistics> {
        self.statistics.ok_or_else(|| {
            let problem = format!("{name}, of a model without statistics of its noise");
            let remedy =
                "measure them first (NoiseStatistics::measure), or take another covariance";
            Error::config("covariance", problem, remedy)
        })
    }
}

/// What the list of covariances takes of each.
trait Method: Covariance + Sized {
    /// The name in configuration files and on the command line.
    const NAME: &str;
    /// How tables and legends show it; the name if empty.
    const LABEL: &str = "";
    /// Whether every model has it at no cost.
    const FREE: bool = false;

    /// The covariance with the data that it takes.
    fn build(sources: &CovarianceSources) -> Result<Self>;
}

covariances! {
    /// The model's own `G`: its head's, an oracle's exact one, or its base's.
    own: Own;
    /// The reverse covariance is `k² I` (DDPM "large"); ancestral steps only.
    beta: Beta;
    /// `G = 0` (DDPM "small"): the covariance of the forward bridge alone.
    beta_tilde: BetaTilde;
    /// `G = I`, that is `H = 0`: the Likelihood Matching paper's score-matching sampler.
    zero_hessian: ZeroHessian;
    /// `G = (1 + σ²) I`, that is `H = I`: the fixed Hessian of that paper's ablation.
    identity_hessian: IdentityHessian;
    /// `G = E‖ε − ε̂‖²/d I`, one number per time, measured on data.
    analytic: Analytic;
    /// `G = (1 − E‖ε̂‖²/d) I`, Analytic-DPM's own: the same for an exact score.
    analytic_score: AnalyticScore;
    /// Between β̃ and β as the model's head says (I-DDPM); ancestral steps only.
    interpolated: Interpolated;
    /// The diagonal of `I + σ²H` by M vector–Jacobian products with random signs at every step.
    rademacher: Rademacher(usize);
    /// The exact diagonal of `I + σ²H`, by as many products as there are columns.
    diagonal: Diagonal;
    /// `I + σ²H` itself, by as many products as there are columns.
    full: Full;
}

pub use crate::model::NoiseStatistics;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        let all = CovarianceConfig::all();
        assert_eq!(all.len(), 11);
        assert!(all.iter().all(|covariance| covariance.to_string().parse() == Ok(*covariance)));
        assert_eq!("rademacher-7".parse(), Ok(CovarianceConfig::Rademacher(7)));
        for wrong in ["", "rademacher", "rademacher-0", "rademacher--1", "Learned"] {
            let error = wrong.parse::<CovarianceConfig>().unwrap_err();
            assert!(error.contains("beta-tilde") && error.contains("rademacher-M"), "{error}");
        }
        let json = serde_json::to_string(&CovarianceConfig::Rademacher(7)).unwrap();
        assert_eq!(
            serde_json::from_str::<CovarianceConfig>(&json).unwrap().to_string(),
            "rademacher-7"
        );
    }

    #[test]
    fn free_ones_need_nothing() {
        let names = |of: Vec<CovarianceConfig>| of.iter().map(|c| c.name()).collect::<Vec<_>>();
        assert_eq!(
            names(CovarianceConfig::free()),
            ["learned", "beta", "beta-tilde", "zero-hessian"]
        );
        assert_eq!(names(CovarianceConfig::fixed()), ["beta", "beta-tilde", "zero-hessian"]);
        let nothing = CovarianceSources::default();
        for covariance in CovarianceConfig::free() {
            assert_eq!(covariance.build(&nothing).unwrap().name(), covariance.name());
        }
        let measured = [CovarianceConfig::Analytic, CovarianceConfig::AnalyticScore];
        for covariance in [&measured[..], &[CovarianceConfig::Interpolated]].concat() {
            assert!(covariance.build(&nothing).is_err());
        }
    }
}
