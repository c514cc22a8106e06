//! Models: which noise is expected in `x_t`, and with which covariance.
//!
//! [`Denoiser`] is the contract. [`Model`] is the trained kind, a network that corrects a base
//! distribution. [`Headed`] takes the mean of one model and the covariance of another.
//! [`crate::oracle::Oracle`] is the exact kind.
//!
//! ```
//! use std::sync::Arc;
//! use tweedie::model::{
//!     Base, Denoiser, HeadConfig, MlpConfig, ModelConfig, NetworkConfig, Structure,
//! };
//! use tweedie::noise::{Noise, Seed};
//! use tweedie::query::{Query, Times};
//! use tweedie::schedule::{Schedule, Vp};
//! use tweedie::tch::{Device, Kind};
//!
//! # fn main() -> tweedie::Result<()> {
//! let network = NetworkConfig::Mlp(MlpConfig { width: 16, depth: 2, ..MlpConfig::default() });
//! let head = Some(HeadConfig { structure: Structure::Full, ..HeadConfig::default() });
//! let config = ModelConfig { network, head, ..ModelConfig::default() };
//! let model = config.init(Base::standard(2), Arc::new(Vp::default()), Device::Cpu, Seed(0))?;
//!
//! // before training a model is its base: under N(0, I) the noise expected in x_t is σ_t x_t
//! let x = Noise::new(Seed(1), 0..5).normal(2, Kind::Float, Device::Cpu);
//! let times = Times::All(0.3);
//! let moments = model.moments(&Query::new(&x, &times));
//! let gap = (moments.noise - &x * Vp::default().sigma(0.3)).abs().max();
//! assert!(gap.double_value(&[]) < 1e-5);
//! assert_eq!((moments.cov.rows(), moments.cov.dim()), (5, 2));
//! # Ok(())
//! # }
//! ```

mod base;
mod dit;
mod embedding;
mod guided;
mod head;
mod headed;
mod interpolant;
pub(crate) mod layers;
mod mlp;
mod noise_statistics;
mod parameters;
mod preconditioned;
mod preconditioning;
mod presets;
mod recompute;
mod unet;
mod watched;

use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use crate::posterior::NoiseMoments;
use crate::query::Query;
use crate::schedule::Schedule;
pub use base::{Base, BaseConfig, BaseKind};
pub(crate) use dit::Named;
pub use dit::{DiTTransformer2DModel, Dit, DitConfig};
pub use embedding::{Position, TimeEmbedding};
pub use guided::{Guidance, Guided, GuidedCovariance};
pub use head::{HeadConfig, HeadStart, Parametrization, Structure};
pub use headed::Headed;
pub use interpolant::Interpolant;
pub use mlp::{Form, HeadTrunk, MlpConfig};
pub use noise_statistics::NoiseStatistics;
pub(crate) use parameters::{Builder, linear};
pub use parameters::{Entry, Parameters};
pub use preconditioned::{
    Backbone, InMode, Mode, Model, ModelConfig, NetworkConfig, Outputs, Precision, Prediction,
};
pub use preconditioning::Preconditioning;
pub use presets::PRESETS;
pub(crate) use unet::layers as unet_layers;
pub use unet::{HeadBody, Resample, UNet, UNet2DModel, UNetConfig, Weights};
pub use watched::Watched;

/// Where a model lives: what rows it takes, and the forward process that they belong to.
#[derive(Clone, Debug)]
pub struct Space {
    /// `d`, the columns of a row.
    pub dim: i64,
    /// The forward process.
    pub schedule: Arc<dyn Schedule>,
    /// Element kind of rows.
    pub kind: Kind,
    /// Where the model computes.
    pub device: Device,
}

impl Space {
    /// The forward process.
    pub fn schedule(&self) -> &dyn Schedule {
        &*self.schedule
    }

    /// Rows `[b, d]` in the model's kind, where it computes.
    pub fn place(&self, rows: &Tensor) -> Tensor {
        rows.to_kind(self.kind).to_device(self.device)
    }
}

/// A diffusion model seen as a probability model: trained networks and exact oracles alike.
///
/// Rows are flat, `q.x` is `[b, d]`, in the kind and on the device of the model's [`Space`], which
/// outputs have too.
pub trait Denoiser {
    /// What rows the model takes.
    fn space(&self) -> &Space;
    /// `ε̂ = E[ε|x_t]`, `[b, d]`; hence the score `−ε̂/σ_t`. Differentiable in `q.x`.
    fn noise(&self, q: &Query) -> Tensor;
    /// `ε̂` and `G = Cov[ε|x_t]`.
    fn moments(&self, q: &Query) -> NoiseMoments;
    /// `ln b_t(x_t)` of the distribution that the model corrects, diffused exactly, where one is
    /// known: nats, `[b]`, f64. Of rows with cells it is that of the targets given the rest, and
    /// of every number that is no target that of its noise, `N(0, σ_t²)`.
    fn known_log_density(&self, q: &Query) -> Option<Tensor> {
        let _ = q;
        None
    }
    /// `ε̂` as the sum of a part whose divergence is known and a correction, where it is one.
    fn split(&self) -> Option<Split<'_>> {
        None
    }
}

/// A function of rows.
type Of<'a, T> = Box<dyn Fn(&Query) -> T + 'a>;

/// `ε̂ = known part + correction`: only the correction has to be differentiated for the divergence
/// of `ε̂`.
pub struct Split<'a> {
    /// The known part `[b, d]` and its divergence `∇·` `[b]`, in f64.
    pub known: Of<'a, (Tensor, Tensor)>,
    /// The correction, `[b, d]` in the model's kind; differentiable in `q.x`.
    pub correction: Of<'a, Tensor>,
}
