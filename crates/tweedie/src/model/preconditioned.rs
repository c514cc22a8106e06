//! The trained model: a backbone that corrects a base distribution.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::base::Base;
use super::head::{HeadConfig, HeadStart, LEAST, second_moment};
use super::mlp::MlpConfig;
use super::parameters::Parameters;
use super::unet::{HeadBody, UNetConfig};
use super::{Denoiser, HeadTrunk, Interpolation, Parametrization, Structure};
use crate::covariance::{Covariance, NoiseStatistics};
use crate::noise::Seed;
use crate::posterior::{Jet, scalar_g};
use crate::schedule::Schedule;
use crate::sym_matrix::SymMatrix;
use crate::tensor::{column, per_row};
use crate::{Error, Result};

/// Raw outputs of a backbone.
#[derive(Debug)]
pub struct Outputs {
    /// `F`, `[b, d]`.
    pub noise: Tensor,
    /// The head's raw outputs, `[b, head]`, where there is a head and it was asked for.
    pub head: Option<Tensor>,
}

/// A network body: rows and times in, raw outputs out. Only backbones know whether rows are images.
pub trait Backbone {
    /// Raw outputs for inputs `x` `[b, d]` of unit scale at times `t`, under their `classes` `[b]`
    /// where the network is conditioned on any.
    fn forward(
        &self,
        x: &Tensor,
        schedule: &dyn Schedule,
        t: &[f64],
        classes: Option<&Tensor>,
        with_head: bool,
    ) -> Outputs;
    /// The parameters, those of the score first.
    fn parameters(&self) -> &Parameters;
    /// How many elements of the flat buffer belong to the score.
    fn score_size(&self) -> i64;
    /// Whether activations are dropped in training.
    fn drops(&self) -> bool {
        false
    }
    /// Starts or stops dropping activations.
    fn set_training(&self, _training: bool) {}
    /// Whether products can be computed in bf16.
    fn has_half(&self) -> bool {
        false
    }
}

/// What products of weights and activations are computed in; parameters, normalisations and losses
/// are f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Single precision.
    #[default]
    F32,
    /// bfloat16: on GPUs with tensor cores about half the time and memory.
    Bf16,
}

/// A network as plain data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum NetworkConfig {
    /// For rows of a table.
    Mlp(MlpConfig),
    /// For images.
    UNet(UNetConfig),
}

impl Default for NetworkConfig {
    fn default() -> Self {
        NetworkConfig::Mlp(MlpConfig::default())
    }
}

impl NetworkConfig {
    /// The same score with the head as it is by default: what two networks have in common whose
    /// scores are alike.
    pub fn score_only(&self) -> NetworkConfig {
        match self {
            NetworkConfig::Mlp(config) => {
                NetworkConfig::Mlp(MlpConfig { head_trunk: HeadTrunk::Shared, ..config.clone() })
            }
            NetworkConfig::UNet(config) => NetworkConfig::UNet(UNetConfig {
                head_trunk: HeadTrunk::Shared,
                head_body: HeadBody::Simple,
                head_widths: config.widths.clone(),
                head_blocks: 1,
                ..config.clone()
            }),
        }
    }

    /// The number of parameters of the network for rows of `dim` numbers, with the raw outputs of
    /// `head`.
    fn size(&self, schedule: &dyn Schedule, dim: i64, head: Option<&HeadConfig>) -> Result<i64> {
        let outputs = head.map_or(0, |head| head.outputs(dim));
        match self {
            NetworkConfig::Mlp(config) => config.size(schedule, dim, outputs),
            NetworkConfig::UNet(config) => config.size(outputs / dim),
        }
    }

    /// The network for rows of `dim` numbers, with the raw outputs of `head`.
    fn build(
        &self,
        schedule: &dyn Schedule,
        dim: i64,
        head: Option<&HeadConfig>,
        device: Device,
        seed: Seed,
    ) -> Result<Box<dyn Backbone>> {
        let outputs = head.map_or(0, |head| head.outputs(dim));
        match self {
            NetworkConfig::Mlp(config) => {
                Ok(Box::new(config.build(schedule, dim, outputs, device, seed)?))
            }
            NetworkConfig::UNet(config) => {
                if config.dim() != dim {
                    let problem = format!("{:?} for rows of {dim} numbers", config.shape);
                    return Err(Error::config("shape", problem, "give channels, height and width"));
                }
                if head.is_some_and(|head| head.structure == Structure::Full) {
                    return Err(Error::config("rank", "full for images", "give a rank from 0"));
                }
                Ok(Box::new(config.init(outputs / dim, device, seed)?))
            }
        }
    }
}

/// What a network's output says about the noise in `x_t`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Prediction {
    /// `F` corrects the base: `ε̂ = ε̂_b + a(t) F`.
    #[default]
    Correction,
    /// `F = ε̂`, as in DDPM.
    Epsilon,
    /// `F = α ε̂ − σ x̂_0`, hence `ε̂ = α F + σ x_t` (Salimans & Ho 2022; VP only).
    V,
    /// `F = x̂_0`, hence `ε̂ = (x_t − α F)/σ`.
    Sample,
}

/// A model as plain data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// The network.
    pub network: NetworkConfig,
    /// The covariance head; a score model has none.
    pub head: Option<HeadConfig>,
    /// What the network's output says.
    pub prediction: Prediction,
    /// `κ`: below this noise level, in units of the scaled data, the network's correction of ε̂
    /// fades as `σ/κ`, so that its correction of the score stays bounded.
    pub finest_scale: f64,
}

impl Default for ModelConfig {
    fn default() -> Self {
        ModelConfig {
            network: NetworkConfig::default(),
            head: Some(HeadConfig::default()),
            prediction: Prediction::default(),
            finest_scale: 0.02,
        }
    }
}

/// A backbone on a base: `ε̂ = ε̂_b + a(t) F`, and `G` from the base's `G` and the head. At
/// initialisation `F = 0` and the model is the base. With another [`Prediction`] than a correction
/// `F` alone says `ε̂`, and the base serves `G` alone. A network with classes is asked through
/// [`Model::given`].
pub struct Model {
    config: ModelConfig,
    base: Base,
    /// The base in f32, for the network's inputs and outputs.
    fast_base: Base,
    schedule: Arc<dyn Schedule>,
    backbone: Box<dyn Backbone>,
    second_moment: f64,
    statistics: Option<NoiseStatistics>,
    /// The `G` that the head's outputs correct, where it is not the base's.
    head_start: Option<NoiseStatistics>,
    device: Device,
}

impl ModelConfig {
    /// Whether the head corrects what was measured of the score, [`Model::set_head_start`].
    pub fn starts_from_measurement(&self) -> bool {
        self.head.is_some_and(|head| head.start == HeadStart::Analytic)
    }

    /// The number of parameters of a model for rows of `dim` numbers, without making any.
    ///
    /// # Errors
    /// As [`ModelConfig::init`], where a field cannot be.
    pub fn size(&self, schedule: &dyn Schedule, dim: i64) -> Result<i64> {
        self.check(dim)?;
        self.network.size(schedule, dim, self.head.as_ref())
    }

    fn check(&self, dim: i64) -> Result<()> {
        if !(self.finest_scale > 0.0 && self.finest_scale.is_finite()) {
            let problem = format!("{}", self.finest_scale);
            return Err(Error::config(
                "finest_scale",
                problem,
                "give a positive number (0.02 is usual)",
            ));
        }
        if let Some(HeadConfig { structure: Structure::LowRank(rank), .. }) = self.head
            && !(0..=dim).contains(&rank)
        {
            let remedy = format!("give a rank from 0 to the number of columns, {dim}, or full");
            return Err(Error::config("rank", format!("{rank}"), remedy));
        }
        self.head.map_or(Ok(()), |head| head.check())
    }

    /// A model on `base`, with weights drawn from `seed`.
    pub fn init(
        &self,
        base: Base,
        schedule: Arc<dyn Schedule>,
        device: Device,
        seed: Seed,
    ) -> Result<Model> {
        let dim = base.dim();
        self.check(dim)?;
        let backbone = self.network.build(&*schedule, dim, self.head.as_ref(), device, seed)?;
        let second_moment = base.second_moment();
        let base = base.to(device, Kind::Double);
        let fast_base = base.to(device, Kind::Float);
        Ok(Model {
            config: self.clone(),
            base,
            fast_base,
            schedule,
            backbone,
            second_moment,
            statistics: None,
            head_start: None,
            device,
        })
    }
}

impl Model {
    /// How the model was made.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// How many classes the model is conditioned on, [`Model::given`] them; 0: none.
    pub fn classes(&self) -> i64 {
        match &self.config.network {
            NetworkConfig::Mlp(_) => 0,
            NetworkConfig::UNet(config) => config.classes,
        }
    }

    /// The covariance that the head is for, where there is a head.
    pub fn head_covariance(&self) -> Option<Covariance> {
        self.config.head.map(|head| head.covariance())
    }

    /// The base distribution.
    pub fn base(&self) -> &Base {
        &self.base
    }

    /// The network's parameters.
    pub fn parameters(&self) -> &Parameters {
        self.backbone.parameters()
    }

    /// How many elements of the flat parameter buffer belong to the score; the head's follow.
    pub fn score_size(&self) -> i64 {
        self.backbone.score_size()
    }

    /// Keeps what was measured of `E‖ε − ε̂‖²`, for the analytic covariance.
    pub fn set_noise_statistics(&mut self, statistics: NoiseStatistics) {
        self.statistics = Some(statistics);
    }

    /// What the head's outputs correct under [`HeadStart::Analytic`](super::HeadStart): part of
    /// what the model is.
    pub fn set_head_start(&mut self, statistics: NoiseStatistics) {
        self.head_start = Some(statistics);
    }

    /// What was set.
    pub fn head_start(&self) -> Option<&NoiseStatistics> {
        self.head_start.as_ref()
    }

    /// The base's `ε̂`, and the `G` that the head's outputs correct.
    fn reference(&self, x: &Tensor, t: &[f64], full: bool) -> Jet {
        match &self.head_start {
            None => self.fast_base.jet(x, &*self.schedule, t, full),
            Some(statistics) => {
                let g = t.iter().map(|&t| statistics.g(self.schedule.log_snr(t)).max(LEAST));
                Jet { noise: self.fast_base.noise(x, &*self.schedule, t), g: scalar_g(g, x) }
            }
        }
    }

    /// Runs `f` with dropout, where the network has any, of batch number `batch`.
    pub fn with_dropout<R>(&self, seed: Seed, batch: u64, f: impl FnOnce() -> R) -> R {
        if !self.backbone.drops() {
            return f();
        }
        // the one place where LibTorch's own generator is used: its masks are drawn where the
        // activations are
        tch::manual_seed(seed.derive(&batch.to_string()).0 as i64);
        self.backbone.set_training(true);
        let result = f();
        self.backbone.set_training(false);
        result
    }

    /// Runs `f` with products of weights and activations at `precision`.
    ///
    /// # Errors
    /// If the network computes in f32 alone.
    pub fn at_precision<R>(&self, precision: Precision, f: impl FnOnce() -> R) -> Result<R> {
        if precision == Precision::F32 {
            return Ok(f());
        }
        if !self.backbone.has_half() {
            let remedy = "leave it out: only the U-Net for images computes in bf16";
            return Err(Error::config("precision", "bf16, for a network on a table", remedy));
        }
        self.parameters().set_half(true);
        let result = f();
        self.parameters().set_half(false);
        Ok(result)
    }

    fn forward(&self, x: &Tensor, t: &[f64], classes: Option<&Tensor>, with_head: bool) -> Outputs {
        if self.config.prediction != Prediction::Correction {
            return self.backbone.forward(x, &*self.schedule, t, classes, with_head);
        }
        let v = self.second_moment;
        let scale = |t: &f64| {
            (self.schedule.alpha(*t).powi(2) * v + self.schedule.sigma2(*t)).sqrt().recip()
        };
        let input = x * column(t.iter().map(scale), x);
        self.backbone.forward(&input, &*self.schedule, t, classes, with_head)
    }

    /// [`Denoiser::noise`] under the rows' `classes` `[b]`.
    pub(super) fn noise_given(&self, x: &Tensor, t: &[f64], classes: Option<&Tensor>) -> Tensor {
        let output = self.forward(x, t, classes, false).noise;
        self.noise_from(&output, x, t, || self.fast_base.noise(x, &*self.schedule, t))
    }

    /// [`Denoiser::correction`] under the rows' `classes` `[b]`.
    pub(super) fn correction_given(
        &self,
        x: &Tensor,
        t: &[f64],
        classes: Option<&Tensor>,
    ) -> Tensor {
        match self.config.prediction {
            Prediction::Correction => self.scaled(&self.forward(x, t, classes, false).noise, t),
            _ => self.noise_given(x, t, classes),
        }
    }

    /// [`Denoiser::jet`] under the rows' `classes` `[b]`. Where the model has no head, `G` is the
    /// base's (its diagonal for a mixture).
    pub(super) fn jet_given(&self, x: &Tensor, t: &[f64], classes: Option<&Tensor>) -> Jet {
        let full = self.config.head.is_some_and(|head| head.wants_full_base());
        let base = self.reference(x, t, full);
        let outputs = self.forward(x, t, classes, true);
        let noise = self.noise_from(&outputs.noise, x, t, || base.noise.shallow_clone());
        let g: SymMatrix = match (&self.config.head, &outputs.head) {
            (Some(head), Some(raw)) => {
                head.g(raw, base, &noise, &per_row(t.iter().map(|&t| self.schedule.sigma(t)), x))
            }
            _ => base.g,
        };
        Jet { noise, g }
    }

    /// [`Denoiser::second_moment`] under the rows' `classes` `[b]`: the head's own where that is
    /// what it says.
    pub(super) fn second_moment_given(
        &self,
        x: &Tensor,
        t: &[f64],
        classes: Option<&Tensor>,
    ) -> Tensor {
        if self
            .config
            .head
            .is_some_and(|head| head.parametrization == Parametrization::SecondMoment)
        {
            let raw = self.forward(x, t, classes, true).head.expect("a head that was asked for");
            return second_moment(&raw, &self.reference(x, t, false));
        }
        self.jet_given(x, t, classes).second_moment()
    }

    /// Whether the head says where between β̃ and β a variance lies.
    pub(super) fn interpolates(&self) -> bool {
        self.config.head.is_some_and(|head| head.parametrization == Parametrization::Interpolation)
    }

    /// [`Interpolation::noise_and_v`] under the rows' `classes` `[b]`.
    pub(super) fn noise_and_v_given(
        &self,
        x: &Tensor,
        t: &[f64],
        classes: Option<&Tensor>,
    ) -> (Tensor, Tensor) {
        let outputs = self.forward(x, t, classes, true);
        let noise =
            self.noise_from(&outputs.noise, x, t, || self.fast_base.noise(x, &*self.schedule, t));
        (noise, outputs.head.expect("a head that interpolates"))
    }

    /// `a(t)`, the scale of the network's correction of ε̂: the part of ε that a Gaussian base of
    /// the data's scale leaves unexplained, `√(α²v/(α²v + σ²))`, times the fade `σ/√(σ² + α²κ²v)`.
    fn correction_scale(&self, t: f64) -> f64 {
        let (signal, sigma2) =
            (self.schedule.alpha(t).powi(2) * self.second_moment, self.schedule.sigma2(t));
        let fade = sigma2 / (sigma2 + signal * self.config.finest_scale.powi(2));
        (signal / (signal + sigma2) * fade).sqrt()
    }

    /// `ε̂` from the network's output `F` and, where that corrects a base, the base's `ε̂`.
    fn noise_from(
        &self,
        output: &Tensor,
        x: &Tensor,
        t: &[f64],
        of_base: impl FnOnce() -> Tensor,
    ) -> Tensor {
        let alpha = || column(t.iter().map(|&t| self.schedule.alpha(t)), x);
        let sigma = || column(t.iter().map(|&t| self.schedule.sigma(t)), x);
        match self.config.prediction {
            Prediction::Correction => of_base() + self.scaled(output, t),
            Prediction::Epsilon => output.shallow_clone(),
            Prediction::V => alpha() * output + sigma() * x,
            Prediction::Sample => (x - alpha() * output) / sigma(),
        }
    }

    fn scaled(&self, correction: &Tensor, t: &[f64]) -> Tensor {
        correction * column(t.iter().map(|&t| self.correction_scale(t)), correction)
    }
}

impl Denoiser for Model {
    fn dim(&self) -> i64 {
        self.base.dim()
    }

    fn schedule(&self) -> &Arc<dyn Schedule> {
        &self.schedule
    }

    fn noise(&self, x: &Tensor, t: &[f64]) -> Tensor {
        self.noise_given(x, t, None)
    }

    fn correction(&self, x: &Tensor, t: &[f64]) -> Tensor {
        self.correction_given(x, t, None)
    }

    /// The base's `ε̂`: its divergence is `(d − tr G_b)/σ`, so that no derivative goes through a
    /// mixture.
    fn known_part(&self, x: &Tensor, t: &[f64]) -> Option<(Tensor, Tensor)> {
        if self.config.prediction != Prediction::Correction {
            return None;
        }
        let x = x.to_kind(Kind::Double);
        let jet = self.base.jet(&x, &*self.schedule, t, false);
        let sigma = per_row(t.iter().map(|&t| self.schedule.sigma(t)), &x);
        Some((jet.noise, (-jet.g.trace() + self.dim() as f64) / sigma))
    }

    fn jet(&self, x: &Tensor, t: &[f64]) -> Jet {
        self.jet_given(x, t, None)
    }

    fn second_moment(&self, x: &Tensor, t: &[f64]) -> Tensor {
        self.second_moment_given(x, t, None)
    }

    fn noise_statistics(&self) -> Option<&NoiseStatistics> {
        self.statistics.as_ref()
    }

    fn interpolation(&self) -> Option<&dyn Interpolation> {
        self.interpolates().then_some(self)
    }

    fn kind(&self) -> Kind {
        Kind::Float
    }

    fn device(&self) -> Device {
        self.device
    }
}

impl Interpolation for Model {
    fn noise_and_v(&self, x: &Tensor, t: &[f64]) -> (Tensor, Tensor) {
        self.noise_and_v_given(x, t, None)
    }
}
