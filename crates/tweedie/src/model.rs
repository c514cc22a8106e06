//! What a model is: it gives mean and covariance of the noise in `x_t`.
//!
//! [`Denoiser`] is the contract; [`Model`] is the trained kind (a backbone that corrects a base
//! distribution), [`Headed`] one model's mean with another's covariance, and
//! [`crate::oracle::Oracle`] the exact kind.

mod base;
mod embedding;
mod head;
mod headed;
mod interpolant;
mod mlp;
mod noise_statistics;
mod parameters;
mod preconditioned;
mod unet;
mod watched;

use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use crate::posterior::NoiseMoments;
use crate::query::Query;
use crate::schedule::Schedule;
pub use base::{Base, BaseConfig, BaseKind};
pub use embedding::TimeEmbedding;
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
pub use unet::{HeadBody, UNet, UNet2DModel, UNetConfig};
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
