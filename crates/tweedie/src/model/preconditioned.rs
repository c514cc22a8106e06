//! The trained model: a backbone that corrects a base distribution.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::base::Base;
use super::dit::DitConfig;
use super::head::{HeadConfig, HeadStart, LEAST};
use super::mlp::MlpConfig;
use super::parameters::Parameters;
use super::preconditioning::{Preconditioning, Scales};
use super::unet::{HeadBody, UNetConfig};
use super::{Denoiser, HeadTrunk, Interpolant, NoiseStatistics, Space, Split, Structure};
use crate::choice::choices;
use crate::noise::Seed;
use crate::posterior::NoiseMoments;
use crate::query::{CellTensors, Condition, Query};
use crate::schedule::Schedule;
use crate::sym_matrix::SymMatrix;
use crate::{Error, Result};

/// Raw outputs of a backbone.
#[derive(Debug)]
pub struct Outputs {
    /// `F`, `[b, d]`.
    pub noise: Tensor,
    /// The head's raw outputs, `[b, head]`, where there is a head and its outputs were requested.
    pub head: Option<Tensor>,
}

/// A network body: rows and times in, raw outputs out. Only backbones know whether rows are images.
pub trait Backbone {
    /// Raw outputs for inputs `q.x` of unit scale, `[b, d]`, or of rows of a table `[b, inputs]`; a
    /// network with classes takes them from the query's condition.
    fn forward(&self, q: &Query, schedule: &dyn Schedule, mode: Mode, with_head: bool) -> Outputs;
    /// The parameters, those of the score first.
    fn parameters(&self) -> &Parameters;
    /// How many elements of the flat buffer belong to the score.
    fn score_size(&self) -> i64;
    /// Whether activations are dropped in training.
    fn drops(&self) -> bool {
        false
    }
    /// Whether products can be computed in bf16.
    fn has_half(&self) -> bool {
        false
    }
    /// Whether activations can be computed again on the way back.
    fn recomputes(&self) -> bool {
        false
    }
}

/// How a network computes: by default as it is used, in f32.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Mode {
    /// The precision of products of weights and activations.
    pub precision: Precision,
    /// In training, the seed by which activations are dropped; none: none are.
    pub dropout: Option<Seed>,
    /// In training, whether activations within the blocks of a network for images are computed again
    /// on the way back instead of being kept for it. What is computed so has no second derivatives.
    pub recompute: bool,
}

choices! {
    /// What products of weights and activations are computed in; parameters, normalisations and
    /// losses are f32.
    pub enum Precision = F32 {
        /// Single precision.
        F32 = "f32",
        /// bfloat16: on GPUs with tensor cores about half the time and memory.
        Bf16 = "bf16",
    }
}

/// A network as plain data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum NetworkConfig {
    /// A perceptron for rows of a table.
    Mlp(MlpConfig),
    /// A U-Net for images.
    UNet(UNetConfig),
    /// A diffusion transformer for images.
    Dit(DitConfig),
}

impl Default for NetworkConfig {
    fn default() -> Self {
        NetworkConfig::Mlp(MlpConfig::default())
    }
}

impl NetworkConfig {
    /// Every kind as it is by default.
    pub fn kinds() -> Vec<NetworkConfig> {
        vec![
            NetworkConfig::Mlp(MlpConfig::default()),
            NetworkConfig::UNet(UNetConfig::default()),
            NetworkConfig::Dit(DitConfig::default()),
        ]
    }

    /// What it is, in words.
    pub fn describe(&self) -> String {
        match self {
            NetworkConfig::Mlp(config) => {
                format!("perceptron, {} blocks of {} units", config.depth, config.width)
            }
            NetworkConfig::UNet(config) => {
                let widths: Vec<String> = config.widths.iter().map(i64::to_string).collect();
                format!("U-Net, widths {}", widths.join(", "))
            }
            NetworkConfig::Dit(DitConfig { blocks, width, patch, .. }) => {
                format!("DiT, {blocks} blocks of width {width}, patches of {patch} x {patch}")
            }
        }
    }

    /// Channels, height and width of the images that it is for; none of a network for rows.
    pub fn image(&self) -> Option<[usize; 3]> {
        match self {
            NetworkConfig::Mlp(_) => None,
            NetworkConfig::UNet(UNetConfig { shape, .. })
            | NetworkConfig::Dit(DitConfig { shape, .. }) => Some(shape.map(|n| n as usize)),
        }
    }

    /// How many classes it is conditioned on; 0: none.
    pub fn classes(&self) -> i64 {
        match self {
            NetworkConfig::Mlp(_) => 0,
            NetworkConfig::UNet(config) => config.classes,
            NetworkConfig::Dit(config) => config.classes,
        }
    }

    /// Steps of the discrete process among which it embeds a time; none of a network for rows.
    pub fn steps(&self) -> Option<i64> {
        match self {
            NetworkConfig::Mlp(_) => None,
            NetworkConfig::UNet(config) => Some(config.steps),
            NetworkConfig::Dit(config) => Some(config.steps),
        }
    }

    /// The same for images of this shape, with a covariance head on `head_trunk`; a network for rows
    /// of a table stays as it is.
    pub fn for_images(self, shape: [i64; 3], head_trunk: HeadTrunk) -> NetworkConfig {
        match self {
            NetworkConfig::Mlp(_) => self,
            NetworkConfig::UNet(config) => {
                NetworkConfig::UNet(UNetConfig { shape, head_trunk, ..config })
            }
            NetworkConfig::Dit(config) => {
                NetworkConfig::Dit(DitConfig { shape, head_trunk, ..config })
            }
        }
    }

    /// Checks every field.
    ///
    /// # Errors
    /// [`Error::Config`] with the path of the first field that cannot be.
    pub fn check(&self) -> Result<()> {
        match self {
            NetworkConfig::Mlp(config) => config.check(),
            NetworkConfig::UNet(config) => config.check(),
            NetworkConfig::Dit(config) => config.check(),
        }
    }

    /// Gives a network for images so many [`NetworkConfig::steps`].
    pub(crate) fn set_steps(&mut self, steps: i64) {
        match self {
            NetworkConfig::Mlp(_) => (),
            NetworkConfig::UNet(config) => config.steps = steps,
            NetworkConfig::Dit(config) => config.steps = steps,
        }
    }

    /// How many classes a network for images is to be conditioned on, and whether there is a null
    /// class besides; none of one for rows.
    pub(crate) fn classes_mut(&mut self) -> Option<(&mut i64, &mut bool)> {
        match self {
            NetworkConfig::Mlp(_) => None,
            NetworkConfig::UNet(config) => Some((&mut config.classes, &mut config.null_class)),
            NetworkConfig::Dit(config) => Some((&mut config.classes, &mut config.null_class)),
        }
    }

    /// Whether rows can have the null class besides, which classifier-free guidance takes.
    pub fn has_null_class(&self) -> bool {
        match self {
            NetworkConfig::Mlp(_) => false,
            NetworkConfig::UNet(config) => config.null_class,
            NetworkConfig::Dit(config) => config.null_class,
        }
    }

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
            NetworkConfig::Dit(config) => NetworkConfig::Dit(DitConfig {
                head_trunk: HeadTrunk::Shared,
                head_width: config.width,
                head_blocks: 1,
                ..config.clone()
            }),
        }
    }

    /// The number of parameters of the network for rows of `dim` numbers, seen as `inputs`, with the
    /// raw outputs of `head`.
    fn size(
        &self,
        schedule: &dyn Schedule,
        [dim, inputs]: [i64; 2],
        head: Option<&HeadConfig>,
    ) -> Result<i64> {
        let outputs = head.map_or(0, |head| head.outputs(dim));
        match self {
            NetworkConfig::Mlp(config) => config.size(schedule, [dim, inputs], outputs),
            NetworkConfig::UNet(config) => config.size(outputs / dim),
            NetworkConfig::Dit(config) => config.size(outputs / dim),
        }
    }

    /// The network for rows of `dim` numbers, seen as `inputs`, with the raw outputs of `head`.
    fn build(
        &self,
        schedule: &dyn Schedule,
        [dim, inputs]: [i64; 2],
        head: Option<&HeadConfig>,
        device: Device,
        seed: Seed,
    ) -> Result<Box<dyn Backbone>> {
        let outputs = head.map_or(0, |head| head.outputs(dim));
        if let Some(shape) = self.image() {
            let pixels = shape.iter().try_fold(1, |pixels: usize, &n| pixels.checked_mul(n));
            if pixels != Some(dim as usize) {
                let problem = format!("{shape:?} for rows of {dim} numbers");
                let remedy = "give channels, height and width";
                return Err(Error::config("model.network.shape", problem, remedy));
            }
            if inputs != dim {
                let (problem, remedy) = ("covariance, for images", "give scalar");
                return Err(Error::config("model.preconditioning", problem, remedy));
            }
            if head.is_some_and(|head| head.structure == Structure::Full) {
                let remedy = "give a rank from 0";
                return Err(Error::config("model.head.structure", "full for images", remedy));
            }
        }
        Ok(match self {
            NetworkConfig::Mlp(config) => {
                Box::new(config.build(schedule, [dim, inputs], outputs, device, seed)?)
            }
            NetworkConfig::UNet(config) => Box::new(config.init(outputs / dim, device, seed)?),
            NetworkConfig::Dit(config) => Box::new(config.init(outputs / dim, device, seed)?),
        })
    }
}

/// What a network's output `F` predicts.
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
    /// The network that corrects the base.
    pub network: NetworkConfig,
    /// The covariance head; a score model has none.
    pub head: Option<HeadConfig>,
    /// What the network's output predicts.
    pub prediction: Prediction,
    /// By what its inputs and outputs are scaled; with another prediction than a correction nothing
    /// is scaled.
    pub preconditioning: Preconditioning,
    /// `κ`: below this noise level, in units of the scaled data (of each direction's standard
    /// deviation where a covariance is scaled by), the network's correction of ε̂ fades as `σ/κ`, so
    /// that its correction of the score stays bounded.
    pub finest_scale: f64,
}

impl Default for ModelConfig {
    fn default() -> Self {
        ModelConfig {
            network: NetworkConfig::default(),
            head: Some(HeadConfig::default()),
            prediction: Prediction::default(),
            preconditioning: Preconditioning::default(),
            finest_scale: 0.02,
        }
    }
}

/// A backbone on a base: `ε̂ = ε̂_b + a(t) F`, and `G` from the base's `G` and the head. At
/// initialisation `F = 0` and the model is the base. With another [`Prediction`] than a correction
/// `F` alone gives `ε̂`, and the base serves `G` alone. As a [`Denoiser`] it computes in f32 and
/// drops nothing; [`Model::in_mode`] is the same model computing otherwise.
pub struct Model {
    config: ModelConfig,
    base: Base,
    /// The base in f32, for the network's inputs and outputs.
    fast_base: Base,
    space: Space,
    backbone: Box<dyn Backbone>,
    scales: Scales,
    statistics: Option<NoiseStatistics>,
    /// The `G` that the head's outputs correct, where it is not the base's.
    head_start: Option<(NoiseStatistics, Interpolant)>,
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
        self.network.size(schedule, [dim, self.inputs(dim)], self.head.as_ref())
    }

    /// Numbers that the network sees of rows of `dim`.
    fn inputs(&self, dim: i64) -> i64 {
        match self.prediction {
            Prediction::Correction => Scales::inputs(self.preconditioning, dim),
            _ => dim,
        }
    }

    fn check(&self, dim: i64) -> Result<()> {
        if !(self.finest_scale > 0.0 && self.finest_scale.is_finite()) {
            let problem = format!("{}", self.finest_scale);
            return Err(Error::config(
                "model.finest_scale",
                problem,
                "give a positive number (0.02 is usual)",
            ));
        }
        if let Some(HeadConfig { structure: Structure::LowRank(rank), .. }) = self.head
            && !(0..=dim).contains(&rank)
        {
            let remedy = format!("give a rank from 0 to the number of columns, {dim}, or full");
            return Err(Error::config("model.head.structure", format!("{rank}"), remedy));
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
        let backbone = self.network.build(
            &*schedule,
            [dim, self.inputs(dim)],
            self.head.as_ref(),
            device,
            seed,
        )?;
        let scales = Scales::new(self.preconditioning, self.finest_scale, &base, device)?;
        let base = base.to(device, Kind::Double);
        let fast_base = base.to(device, Kind::Float);
        Ok(Model {
            config: self.clone(),
            base,
            fast_base,
            space: Space { dim, schedule, kind: Kind::Float, device },
            backbone,
            scales,
            statistics: None,
            head_start: None,
        })
    }
}

impl Model {
    /// How the model was made.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// How many classes the model is conditioned on, each query giving those of its rows; 0: none.
    pub fn classes(&self) -> i64 {
        self.config.network.classes()
    }

    /// Whether rows can have the null class besides ([`crate::query::Condition::NULL`]).
    pub fn has_null_class(&self) -> bool {
        self.config.network.has_null_class()
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

    /// What was measured of `E‖ε − ε̂‖²`, where it was.
    pub fn noise_statistics(&self) -> Option<&NoiseStatistics> {
        self.statistics.as_ref()
    }

    /// What the head's outputs correct under [`HeadStart::Analytic`](super::HeadStart): part of
    /// what the model is.
    pub fn set_head_start(&mut self, statistics: NoiseStatistics) {
        let interpolant = statistics.interpolant(self.space.device);
        self.head_start = Some((statistics, interpolant));
    }

    /// What [`Model::set_head_start`] set.
    pub fn head_start(&self) -> Option<&NoiseStatistics> {
        self.head_start.as_ref().map(|(statistics, _)| statistics)
    }

    /// The same model computing in another mode.
    ///
    /// # Errors
    /// If the network computes in f32 alone, or cannot compute activations again.
    pub fn in_mode(&self, mode: Mode) -> Result<InMode<'_>> {
        if mode.precision != Precision::F32 && !self.backbone.has_half() {
            let remedy = "leave it out: only networks for images compute in bf16";
            return Err(Error::config("train.precision", "bf16, for a network on a table", remedy));
        }
        if mode.recompute && !self.backbone.recomputes() {
            let remedy = "leave it out: only networks for images do so";
            let problem = "given for a network on a table";
            return Err(Error::config("train.checkpoint_activations", problem, remedy));
        }
        Ok(InMode { model: self, mode })
    }

    /// Whether activations are dropped in training.
    pub fn drops(&self) -> bool {
        self.backbone.drops()
    }

    /// The model computing as it is used: in f32, and no activation dropped.
    pub fn own_mode(&self) -> InMode<'_> {
        InMode { model: self, mode: Mode::default() }
    }
}

impl Denoiser for Model {
    fn space(&self) -> &Space {
        &self.space
    }

    fn noise(&self, q: &Query) -> Tensor {
        self.own_mode().noise(q)
    }

    fn moments(&self, q: &Query) -> NoiseMoments {
        self.own_mode().moments(q)
    }

    fn known_log_density(&self, q: &Query) -> Option<Tensor> {
        let x = q.x.to_kind(Kind::Double);
        Some(self.base.log_density_at(&q.at(&x), self.space.schedule()))
    }

    fn split(&self) -> Option<Split<'_>> {
        InMode::split_of(self, Mode::default())
    }
}

/// 1 where a number of the rows is a target, else 0, `[b, d]`, where some are none.
fn not_all_targets<'a>(q: &Query<'a>) -> Option<&'a Tensor> {
    let tensors = q.condition.and_then(Condition::as_cells)?.tensors(q.x.device());
    (!tensors.all_targets).then_some(&tensors.targets)
}

/// A model that computes in a given mode.
#[derive(Clone, Copy)]
pub struct InMode<'a> {
    model: &'a Model,
    mode: Mode,
}

impl<'a> InMode<'a> {
    /// The model.
    pub fn model(&self) -> &'a Model {
        self.model
    }

    fn forward(&self, q: &Query, with_head: bool) -> Outputs {
        let Model { config, backbone, space, scales, .. } = self.model;
        let targets = not_all_targets(q);
        let x = targets.map_or_else(|| q.x.shallow_clone(), |targets| q.x * targets);
        if config.prediction != Prediction::Correction {
            return backbone.forward(&q.at(&x), space.schedule(), self.mode, with_head);
        }
        let (alpha, sigma) = q.times.marginal(space.schedule(), space.device);
        // given numbers as they are without noise, absent ones at their mean
        let completed = |mean: &Tensor| match q.condition.and_then(Condition::as_cells) {
            Some(cells) if targets.is_some() => {
                let CellTensors { targets, given, numbers, .. } = cells.tensors(space.device);
                let numbers = numbers.to_kind(x.kind()) * &alpha;
                &x + numbers + (-targets - given + 1.0) * mean
            }
            _ => x.shallow_clone(),
        };
        let input = scales.input(&x, completed, (&alpha, &sigma));
        backbone.forward(&q.at(&input), space.schedule(), self.mode, with_head)
    }

    /// The network's correction of ε̂, of raw outputs `F`.
    fn correction(&self, output: &Tensor, q: &Query) -> Tensor {
        let Model { space, scales, .. } = self.model;
        let (alpha, sigma) = q.times.marginal(space.schedule(), space.device);
        scales.correction(output, (&alpha, &sigma))
    }

    /// `ε̂` from the network's output `F` and, where that corrects a base, the base's `ε̂`.
    fn noise_from(&self, output: &Tensor, q: &Query, of_base: impl FnOnce() -> Tensor) -> Tensor {
        let space = &self.model.space;
        let marginal = || q.times.marginal(space.schedule(), space.device);
        match self.model.config.prediction {
            Prediction::Correction => of_base() + self.correction(output, q),
            Prediction::Epsilon => output.shallow_clone(),
            Prediction::V => {
                let (alpha, sigma) = marginal();
                output * &alpha + q.x * &sigma
            }
            Prediction::Sample => {
                let (alpha, sigma) = marginal();
                (q.x - output * &alpha) / &sigma
            }
        }
    }

    /// `ε̂` on the targets of `q`, where its rows have cells that are none; elsewhere `x_t/σ_t`.
    fn on_targets(&self, noise: Tensor, q: &Query) -> Tensor {
        match not_all_targets(q) {
            None => noise,
            Some(targets) => {
                let (_, sigma) = q.times.marginal(self.space().schedule(), q.x.device());
                noise * targets + (-targets + 1.0) * q.x / &sigma
            }
        }
    }

    /// The base's `ε̂`, and the `G` that the head's outputs correct.
    fn reference(&self, q: &Query) -> NoiseMoments {
        let Model { config, fast_base, space, head_start, .. } = self.model;
        let schedule = space.schedule();
        let Some((_, start)) = head_start else {
            let full = config.head.is_some_and(|head| head.wants_full_base());
            return fast_base.moments(q, schedule, full);
        };
        let g = start.g(schedule, q.times, space.device).at_least(LEAST);
        NoiseMoments::new(fast_base.noise(q, schedule), SymMatrix::scalar(&g, q.x))
    }

    /// Of a correction: the base's `ε̂` is known, and its divergence is `(d − tr G_b)/σ`, so that
    /// no derivative goes through a mixture.
    fn split_of(model: &Model, mode: Mode) -> Option<Split<'_>> {
        let Model { config, base, space, .. } = model;
        (config.prediction == Prediction::Correction).then(|| Split {
            known: Box::new(move |q| {
                let x = q.x.to_kind(Kind::Double);
                let schedule = space.schedule();
                let NoiseMoments { noise, cov, .. } = base.moments(&q.at(&x), schedule, false);
                let (_, sigma) = q.times.marginal(schedule, space.device);
                (noise, (-cov.trace() + space.dim as f64) / &sigma)
            }),
            correction: Box::new(move |q| {
                let model = InMode { model, mode };
                let correction = model.correction(&model.forward(q, false).noise, q);
                match not_all_targets(q) {
                    None => correction,
                    Some(targets) => correction * targets,
                }
            }),
        })
    }
}

impl Denoiser for InMode<'_> {
    fn space(&self) -> &Space {
        &self.model.space
    }

    fn noise(&self, q: &Query) -> Tensor {
        let Model { fast_base, space, .. } = self.model;
        let output = self.forward(q, false).noise;
        let noise = self.noise_from(&output, q, || fast_base.noise(q, space.schedule()));
        self.on_targets(noise, q)
    }

    /// Where the model has no head, `G` is the base's (its diagonal for a mixture).
    fn moments(&self, q: &Query) -> NoiseMoments {
        let reference = self.reference(q);
        let outputs = self.forward(q, true);
        let noise = self.noise_from(&outputs.noise, q, || reference.noise.shallow_clone());
        let noise = self.on_targets(noise, q);
        let moments = match (&self.model.config.head, &outputs.head) {
            (Some(head), Some(raw)) => {
                let (_, sigma) = q.times.marginal(self.space().schedule(), q.x.device());
                head.moments(raw, reference, noise, &sigma)
            }
            _ => NoiseMoments::new(noise, reference.cov),
        };
        match not_all_targets(q) {
            None => moments,
            Some(targets) => NoiseMoments { cov: moments.cov.on(targets), ..moments },
        }
    }

    fn known_log_density(&self, q: &Query) -> Option<Tensor> {
        self.model.known_log_density(q)
    }

    fn split(&self) -> Option<Split<'_>> {
        InMode::split_of(self.model, self.mode)
    }
}
