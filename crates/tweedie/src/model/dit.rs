//! The diffusion transformer (DiT, Peebles & Xie 2023) for images, with a covariance head: patches
//! as tokens, blocks of attention and perceptrons whose normalisations the time and the class set.
//!
//! The layout and the names of the parameters are those of the published checkpoints. Rows are
//! images flattened channel by channel, `[b, C·H·W]`; tokens are `[b, n, width]`, patches row by
//! row.

mod config;
mod diffusers;

use std::cell::OnceCell;

use tch::{Device, Kind, Tensor};

use super::HeadTrunk;
use super::embedding::Positional;
use super::head::FACTOR_GAIN;
use super::layers::{Conv, Linear, Pass, attention};
use super::parameters::{Builder, Entry, Parameters};
use super::{Backbone, Mode, Outputs};
use crate::Result;
use crate::noise::Seed;
use crate::query::{Coefficient, Query};
use crate::schedule::Schedule;
pub use config::DitConfig;
pub use diffusers::DiTTransformer2DModel;
pub(crate) use diffusers::Named;

/// Features of the time.
const TIME_FEATURES: i64 = 256;
/// Hidden units of a block's perceptron, per channel.
const MLP_RATIO: i64 = 4;
/// The deviation of the weights that embed the time and the classes, as published.
const EMBEDDING_DEVIATION: f64 = 0.02;

impl DitConfig {
    /// The network with `head` raw head outputs per pixel and channel (none if 0). Blocks start as
    /// the identity, the ε output at 0 and the head at 0 but for its factors.
    ///
    /// # Errors
    /// As [`DitConfig::check`].
    pub fn init(&self, head: i64, device: Device, seed: Seed) -> Result<Dit> {
        self.check()?;
        let mut builder = Builder::default();
        let Layout { score_size, trunk, score, head } = self.lay_out(&mut builder, head, seed);
        let parameters = builder.finish(device);
        Ok(Dit { config: self.clone(), parameters, score_size, trunk, score, head })
    }

    /// The number of parameters of [`DitConfig::init`] with `head` raw head outputs, without making
    /// any.
    ///
    /// # Errors
    /// As [`DitConfig::check`].
    pub fn size(&self, head: i64) -> Result<i64> {
        self.check()?;
        let mut builder = Builder::counting();
        self.lay_out(&mut builder, head, Seed(0));
        Ok(builder.size())
    }

    /// The parameters of the score.
    ///
    /// # Errors
    /// As [`DitConfig::check`].
    pub(crate) fn entries(&self) -> Result<Vec<Entry>> {
        self.check()?;
        let mut builder = Builder::counting();
        self.lay_out(&mut builder, 0, Seed(0));
        Ok(builder.entries().to_vec())
    }

    /// The fixed features of the patches' places, `[1, n, width]`.
    pub(crate) fn places(&self, device: Device) -> Tensor {
        places(self.grid(), self.width, &Tensor::zeros([0], (Kind::Float, device)))
    }

    fn lay_out(&self, builder: &mut Builder, head: i64, seed: Seed) -> Layout {
        let mut maker = Maker { builder, config: self, seed };
        let pixels = self.patch * self.patch;
        let channels = self.shape[0];
        let trunk = Trunk::new(&mut maker, "", self.width, self.blocks);
        let score = Output::new(&mut maker, "final_layer", self.width, pixels * channels, 0.0);
        let score_size = maker.builder.size();
        let head = (head > 0).then(|| {
            let (trunk, width) = match self.head_trunk {
                HeadTrunk::Separate => {
                    let trunk = Trunk::new(&mut maker, "head.", self.head_width, self.head_blocks);
                    (Some(trunk), self.head_width)
                }
                _ => (None, self.width),
            };
            let outputs = head.saturating_mul(channels);
            let all = outputs.saturating_mul(pixels);
            let output = Output::new(&mut maker, "head.final_layer", width, all, FACTOR_GAIN);
            let of_pixels = [pixels, outputs, width];
            maker.builder.zero_first_of(output.linear.0, &of_pixels, 1, channels);
            Head { trunk, output }
        });
        Layout { score_size, trunk, score, head }
    }
}

/// Where the parts of a network lie among its parameters.
struct Layout {
    score_size: i64,
    trunk: Trunk,
    score: Output,
    head: Option<Head>,
}

/// Adds layers to a buffer of parameters.
struct Maker<'a> {
    builder: &'a mut Builder,
    config: &'a DitConfig,
    seed: Seed,
}

impl Maker<'_> {
    /// A weight uniform with variance `2/(inputs + outputs)` (Glorot & Bengio 2010), an entry of
    /// `shape` after the first being an input, and a bias of zeros. Returns the weight's index.
    fn glorot(&mut self, name: &str, shape: &[i64]) -> usize {
        let inputs: i64 = shape[1..].iter().product();
        let sd = (2.0 / (inputs + shape[0]) as f64).sqrt();
        let seed = self.seed.derive(name);
        let weight = self.builder.uniform(format!("{name}.weight"), shape, sd, seed);
        self.builder.constant(format!("{name}.bias"), &shape[..1], 0.0);
        weight
    }

    fn linear(&mut self, name: &str, inputs: i64, outputs: i64) -> Linear {
        Linear(self.glorot(name, &[outputs, inputs]))
    }

    /// A layer with normal weights of this deviation.
    fn normal(&mut self, name: &str, inputs: i64, outputs: i64, sd: f64) -> Linear {
        let seed = self.seed.derive(name);
        let shape = [outputs, inputs];
        let weight = self.builder.normal(format!("{name}.weight"), &shape, sd, seed);
        self.builder.constant(format!("{name}.bias"), &[outputs], 0.0);
        Linear(weight)
    }
}

/// `x` normalised over the channels, without weights; statistics need f32's digits.
fn normed(x: &Tensor, epsilon: f64) -> Tensor {
    let width = x.size()[2];
    x.layer_norm([width], None::<Tensor>, None::<Tensor>, epsilon, true)
}

/// `(1 + γ) ⊙ x + β`, with `β` and `γ` `[b, 1, width]`, or `[1, 1, width]`.
fn modulated(x: &Tensor, shift: &Tensor, scale: &Tensor) -> Tensor {
    x * (scale + 1.0) + shift
}

/// `x += g₁ ⊙ Attn((1+γ₁) ⊙ LN(x) + β₁)`, `x += g₂ ⊙ MLP((1+γ₂) ⊙ LN(x) + β₂)`, where
/// `(β₁, γ₁, g₁, β₂, γ₂, g₂) = Linear(SiLU(c))` starts at 0 (adaLN-Zero, Peebles & Xie 2023, §3.2).
#[derive(Clone, Copy, Debug)]
struct Block {
    query_key_value: Linear,
    output: Linear,
    mlp: [Linear; 2],
    modulation: Linear,
}

impl Block {
    fn new(maker: &mut Maker, name: &str, width: i64) -> Block {
        Block {
            query_key_value: maker.linear(&format!("{name}.attn.qkv"), width, 3 * width),
            output: maker.linear(&format!("{name}.attn.proj"), width, width),
            mlp: [
                maker.linear(&format!("{name}.mlp.fc1"), width, MLP_RATIO * width),
                maker.linear(&format!("{name}.mlp.fc2"), MLP_RATIO * width, width),
            ],
            modulation: maker.normal(&format!("{name}.adaLN_modulation.1"), width, 6 * width, 0.0),
        }
    }

    /// `condition` is `SiLU(c)`, `[b, width]` or `[1, width]`.
    fn apply(self, config: &DitConfig, p: &Pass, x: &Tensor, condition: &Tensor) -> Tensor {
        let parts = self.modulation.apply(p, condition).unsqueeze(1).chunk(6, 2);
        let [shift, scale, gate, mlp_shift, mlp_scale, mlp_gate] = &parts[..] else {
            unreachable!("six parts")
        };
        let h = modulated(&normed(x, config.norm_epsilon), shift, scale);
        let x = x + gate * self.attend(p, &h, config.heads);
        let h = modulated(&normed(&x, config.mlp_norm_epsilon), mlp_shift, mlp_scale);
        let h = self.mlp[1].apply(p, &self.mlp[0].apply(p, &h).gelu("tanh"));
        x + mlp_gate * h
    }

    fn attend(self, p: &Pass, x: &Tensor, heads: i64) -> Tensor {
        let (b, n, width) = x.size3().expect("tokens");
        let parts = self.query_key_value.apply(p, x).view([b, n, 3, heads, width / heads]);
        let [query, key, value] = [0, 1, 2].map(|i| parts.select(2, i).transpose(1, 2));
        let mixed = attention(&query, &key, &value).transpose(1, 2).reshape([b, n, width]);
        self.output.apply(p, &mixed)
    }
}

/// `Linear((1+γ) ⊙ LN(x) + β)` with `(β, γ) = Linear(SiLU(c))`: for each token, the outputs of each
/// pixel of its patch, row by row.
#[derive(Clone, Copy, Debug)]
struct Output {
    modulation: Linear,
    linear: Linear,
}

impl Output {
    fn new(maker: &mut Maker, name: &str, width: i64, outputs: i64, gain: f64) -> Output {
        let sd = gain / (width as f64).sqrt();
        Output {
            linear: maker.normal(&format!("{name}.linear"), width, outputs, sd),
            modulation: maker.normal(&format!("{name}.adaLN_modulation.1"), width, 2 * width, 0.0),
        }
    }

    /// Images of the outputs, `[b, outputs, H, W]`.
    fn apply(self, config: &DitConfig, p: &Pass, x: &Tensor, condition: &Tensor) -> Tensor {
        let parts = self.modulation.apply(p, condition).unsqueeze(1).chunk(2, 2);
        let x = modulated(&normed(x, config.norm_epsilon), &parts[0], &parts[1]);
        let outputs = self.linear.apply(p, &x);
        let (patch, [rows, columns]) = (config.patch, config.grid());
        let channels = outputs.size()[2] / (patch * patch);
        outputs
            .view([-1, rows, columns, patch, patch, channels])
            .permute([0, 5, 1, 3, 2, 4])
            .reshape([-1, channels, rows * patch, columns * patch])
    }
}

/// Everything up to the last features.
#[derive(Debug)]
struct Trunk {
    patches: Conv,
    time: [Linear; 2],
    /// Index of the class embedding, the null class last where there is one.
    classes: Option<usize>,
    blocks: Vec<Block>,
    width: i64,
    /// Features of the patches' places `[1, n, width]`, on the device of the first use.
    places: OnceCell<Tensor>,
}

impl Trunk {
    fn new(maker: &mut Maker, prefix: &str, width: i64, blocks: i64) -> Trunk {
        let DitConfig { shape: [channels, ..], patch, classes, .. } = *maker.config;
        let embedded = maker.config.embedded_classes();
        let weight =
            maker.glorot(&format!("{prefix}x_embedder.proj"), &[width, channels, patch, patch]);
        let mut time = |part: &str, inputs: i64| {
            let name = format!("{prefix}t_embedder.mlp.{part}");
            maker.normal(&name, inputs, width, EMBEDDING_DEVIATION)
        };
        let time = [time("0", TIME_FEATURES), time("2", width)];
        let classes = (classes > 0).then(|| {
            let name = format!("{prefix}y_embedder.embedding_table.weight");
            let seed = maker.seed.derive(&name);
            maker.builder.normal(name, &[embedded, width], EMBEDDING_DEVIATION, seed)
        });
        let blocks =
            (0..blocks).map(|i| Block::new(maker, &format!("{prefix}blocks.{i}"), width)).collect();
        let patches = Conv { weight, bias: true, stride: patch, padding: 0 };
        Trunk { patches, time, classes, blocks, width, places: OnceCell::new() }
    }

    /// The last features `[b, n, width]`, and `SiLU(c)` they were made with.
    fn apply(
        &self,
        config: &DitConfig,
        p: &Pass,
        x: &Tensor,
        position: &Coefficient,
        classes: Option<&Tensor>,
    ) -> (Tensor, Tensor) {
        let (size, shift) = (TIME_FEATURES, config.frequency_shift);
        let time = Positional { size, cosine_first: true, shift }.features(position, x);
        let mut condition = self.time[1].apply(p, &self.time[0].apply(p, &time).silu());
        if let (Some(index), Some(classes)) = (self.classes, classes) {
            condition = condition + p.get(index).index_select(0, classes);
        }
        let condition = condition.silu();
        let places = self.places.get_or_init(|| places(config.grid(), self.width, x));
        let mut h = self.patches.apply(p, x).flatten(2, 3).transpose(1, 2) + places;
        for &block in &self.blocks {
            let config = config.clone();
            h = p.block([&h, &condition], move |p, [h, condition]| {
                block.apply(&config, p, h, condition)
            });
        }
        (h, condition)
    }
}

/// Fixed features of the places of a grid's patches, `[1, n, width]`: sines and cosines of the
/// column in the first half of the channels, of the row in the second.
fn places([rows, columns]: [i64; 2], width: i64, like: &Tensor) -> Tensor {
    let number = Tensor::arange(rows * columns, (Kind::Double, like.device())).unsqueeze(1);
    let row = (&number / columns as f64).floor();
    let column = number - &row * columns as f64;
    let half = Positional { size: width / 2, cosine_first: false, shift: 0.0 };
    let features = [column, row].map(|at| half.features(&Coefficient::Each(at), like));
    Tensor::cat(&features, 1).unsqueeze(0)
}

#[derive(Debug)]
struct Head {
    trunk: Option<Trunk>,
    output: Output,
}

/// A diffusion transformer with its parameters.
#[derive(Debug)]
pub struct Dit {
    config: DitConfig,
    parameters: Parameters,
    score_size: i64,
    trunk: Trunk,
    score: Output,
    head: Option<Head>,
}

impl Dit {
    /// How it was made.
    pub fn config(&self) -> &DitConfig {
        &self.config
    }

    /// Raw outputs for images `x` `[b, C, H, W]` at `position`s, which are embedded, and, where the
    /// network has classes, their `classes` `[b]`, the null class after the others: `[b, C, H, W]`,
    /// and the head's `[b, (1+r) C, H, W]`.
    pub fn images(
        &self,
        x: &Tensor,
        position: &Coefficient,
        classes: Option<&Tensor>,
        mode: Mode,
        with_head: bool,
    ) -> (Tensor, Option<Tensor>) {
        let (config, p) = (&self.config, &Pass::new(&self.parameters, mode));
        let known = config.classes;
        assert_eq!(classes.is_some(), known > 0, "classes of a network for {known} of them");
        let (features, condition) = self.trunk.apply(config, p, x, position, classes);
        let noise = self.score.apply(config, p, &features, &condition);
        let head = self.head.as_ref().filter(|_| with_head).map(|head| {
            let (features, condition) = match &head.trunk {
                Some(trunk) => trunk.apply(config, p, x, position, classes),
                None if config.head_trunk == HeadTrunk::Detached => {
                    (features.detach(), condition.detach())
                }
                None => (features, condition),
            };
            head.output.apply(config, p, &features, &condition)
        });
        let kind = self.parameters.flat().kind();
        (noise.to_kind(kind), head.map(|head| head.to_kind(kind)))
    }
}

impl Backbone for Dit {
    fn forward(&self, q: &Query, schedule: &dyn Schedule, mode: Mode, with_head: bool) -> Outputs {
        let DitConfig { shape: [c, h, w], steps, position, classes, .. } = self.config;
        let position = position.of(q.times, schedule, steps, q.x.device());
        let classes = q.classes(classes, self.config.null_class);
        let x = q.x.view([-1, c, h, w]);
        let (noise, head) = self.images(&x, &position, classes, mode, with_head);
        Outputs { noise: noise.flatten(1, 3), head: head.map(|head| head.flatten(1, 3)) }
    }

    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn score_size(&self) -> i64 {
        self.score_size
    }

    fn has_half(&self) -> bool {
        true
    }

    fn recomputes(&self) -> bool {
        true
    }
}
