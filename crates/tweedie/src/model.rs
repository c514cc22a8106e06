//! What a model is: it says what noise is in `x_t`, and how sure that is.
//!
//! [`Denoiser`] is the contract; [`Model`] is the trained kind (a backbone that corrects a base
//! distribution), [`Given`] the same under given classes, and [`crate::oracle::Oracle`] the exact
//! kind.

mod base;
mod embedding;
mod given;
mod head;
mod mlp;
mod parameters;
mod preconditioned;
mod unet;

use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use crate::covariance::NoiseStatistics;
use crate::posterior::Jet;
use crate::schedule::Schedule;
pub use base::{Base, BaseConfig, BaseKind};
pub use embedding::TimeEmbedding;
pub use given::Given;
pub use head::g_of_second_moment;
pub use head::{HeadConfig, HeadStart, Parametrization, Structure};
pub use mlp::{Form, HeadTrunk, MlpConfig};
pub(crate) use parameters::{Builder, linear};
pub use parameters::{Entry, Parameters};
pub use preconditioned::{
    Backbone, Model, ModelConfig, NetworkConfig, Outputs, Precision, Prediction,
};
pub use unet::{HeadBody, UNet, UNet2DModel, UNetConfig};

/// A diffusion model seen as a probability model: trained networks and exact oracles alike.
///
/// Rows are flat, `x` is `[b, d]`; `t` has one time per row. Outputs have the kind and device of
/// [`Denoiser::kind`] and [`Denoiser::device`], which `x` must have too.
pub trait Denoiser {
    /// `d`.
    fn dim(&self) -> i64;
    /// The forward process that the model belongs to.
    fn schedule(&self) -> &Arc<dyn Schedule>;
    /// `ε̂ = E[ε|x_t]`, `[b, d]`; hence the score `−ε̂/σ_t`. Differentiable in `x`.
    fn noise(&self, x: &Tensor, t: &[f64]) -> Tensor;
    /// `ε̂` and `G = Cov[ε|x_t]`.
    fn jet(&self, x: &Tensor, t: &[f64]) -> Jet;
    /// Of `ε̂ = correction + known part`, what has to be differentiated to know its divergence; all
    /// of `ε̂` unless the model says otherwise.
    fn correction(&self, x: &Tensor, t: &[f64]) -> Tensor {
        self.noise(x, t)
    }
    /// The known part of `ε̂` `[b, d]` and its divergence `∇·` `[b]`, in f64, where there is one.
    fn known_part(&self, _x: &Tensor, _t: &[f64]) -> Option<(Tensor, Tensor)> {
        None
    }
    /// The model for some rows of a batch, by their numbers in it, where it was bound to that
    /// batch; `None` where it takes any rows.
    fn for_rows(&self, _rows: &[i64]) -> Option<Box<dyn Denoiser + '_>> {
        None
    }
    /// What was measured of `E‖ε − ε̂‖²`, where it was: what
    /// [`crate::covariance::Covariance::Analytic`] takes.
    fn noise_statistics(&self) -> Option<&NoiseStatistics> {
        None
    }
    /// `E[ε²|x_t]`, coordinate by coordinate, `[b, d]`: that of the jet, unless the model says it
    /// directly, which it then does unclamped.
    fn second_moment(&self, x: &Tensor, t: &[f64]) -> Tensor {
        self.jet(x, t).second_moment()
    }
    /// The model as one that says where between β̃ and β the variance of a step lies, where it is
    /// one: what [`crate::covariance::Covariance::Interpolated`] takes.
    fn interpolation(&self) -> Option<&dyn Interpolation> {
        None
    }
    /// Element kind of rows.
    fn kind(&self) -> Kind;
    /// Where the model computes.
    fn device(&self) -> Device;
}

/// A model whose head interpolates between the variances β̃ and β of a step.
pub trait Interpolation {
    /// `ε̂` and `v`, `[b, d]` each, of rows `x` at times `t`: `v = −1` is β̃, `v = 1` is β.
    fn noise_and_v(&self, x: &Tensor, t: &[f64]) -> (Tensor, Tensor);
}
