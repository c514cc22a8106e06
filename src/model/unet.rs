//! The U-Net of DDPM for images, with a covariance head: residual blocks with time embedding, attention at chosen
//! resolutions, strided convolutions down and nearest neighbours up.
//!
//! The layout, the names of the parameters and the options are those of diffusers' `UNet2DModel`, so that models can be
//! exchanged. Rows are images flattened channel by channel, `[b, C·H·W]`; only this file and its layers know pixels.

mod diffusers;
mod layers;

use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use super::HeadTrunk;
use super::parameters::{Builder, Parameters};
use super::preconditioned::{Backbone, Outputs};
use crate::noise::Seed;
use crate::schedule::Schedule;
use crate::{Error, Result};
pub use diffusers::UNet2DModel;
use layers::{Attention, Conv, Linear, Maker, Norm, ResBlock, positional};

/// What a covariance head makes of the features it sits on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeadBody {
    /// Group norm, SiLU, convolution.
    #[default]
    Simple,
    /// A residual block first.
    Complex,
}

/// A U-Net as plain data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UNetConfig {
    /// Channels, height and width of an image.
    pub shape: [i64; 3],
    /// Channels at each resolution, the finest first; each next has half the height and width.
    pub widths: Vec<i64>,
    /// Residual blocks at each resolution on the way down; one more on the way up.
    pub blocks: i64,
    /// Whether the blocks at each resolution are followed by attention.
    pub attention: Vec<bool>,
    /// Whether there is attention in the middle.
    pub middle_attention: bool,
    /// Channels per attention head; 0: one head.
    pub head_dim: i64,
    /// Groups of the normalisations.
    pub groups: i64,
    /// Added to variances in normalisations.
    pub norm_epsilon: f64,
    /// Share of activations dropped in training.
    pub dropout: f64,
    /// Whether sums with a shortcut are divided by √2.
    pub rescale: bool,
    /// Whether the time scales and shifts the second normalisation, instead of being added before it.
    pub scale_shift: bool,
    /// Classes to condition on; 0: none.
    pub classes: i64,
    /// Whether cosines come before sines in the time embedding.
    pub cosine_first: bool,
    /// Subtracted from the number of frequencies in the time embedding's exponents.
    pub frequency_shift: f64,
    /// Steps of the discrete process among which a time in `[0, 1]` has its position: step `i`, from 0, is `t = (i+1)/steps`.
    pub steps: i64,
    /// Whether strided convolutions pad below and to the right only.
    pub pad_end: bool,
    /// What the covariance head sits on.
    pub head_trunk: HeadTrunk,
    /// What the head makes of it.
    pub head_body: HeadBody,
    /// Channels at each resolution of the head's own network, where it has one.
    pub head_widths: Vec<i64>,
    /// Residual blocks of the head's own network at each resolution.
    pub head_blocks: i64,
}

impl Default for UNetConfig {
    /// For grey images of 32×32, small enough for a CPU.
    fn default() -> Self {
        UNetConfig {
            shape: [1, 32, 32],
            widths: vec![32, 64, 64],
            blocks: 1,
            attention: vec![false, false, true],
            middle_attention: true,
            head_dim: 0,
            groups: 8,
            norm_epsilon: 1e-5,
            dropout: 0.0,
            rescale: false,
            scale_shift: false,
            classes: 0,
            cosine_first: true,
            frequency_shift: 0.0,
            steps: 1000,
            pad_end: false,
            head_trunk: HeadTrunk::Shared,
            head_body: HeadBody::Simple,
            head_widths: vec![16, 32, 32],
            head_blocks: 1,
        }
    }
}

impl UNetConfig {
    /// The network of the Likelihood Matching paper for images of 32×32 and more: 128, 256, 256, 512 channels with two
    /// blocks, and 64, 128, 128, 128 with one where the head has a network of its own.
    pub fn paper(shape: [i64; 3]) -> UNetConfig {
        UNetConfig {
            shape,
            widths: vec![128, 256, 256, 512],
            blocks: 2,
            attention: vec![false, true, false, false],
            groups: 32,
            dropout: 0.1,
            head_widths: vec![64, 128, 128, 128],
            ..UNetConfig::default()
        }
    }

    /// ScoreFlow's DDPM++ for images of 32×32 (`blocks` 4, or 8 for its deep form): 128 channels times 1, 2, 2, 2,
    /// attention at 16×16, rescaled residuals.
    pub fn ddpm_plus_plus(shape: [i64; 3], blocks: i64) -> UNetConfig {
        UNetConfig { widths: vec![128, 256, 256, 256], blocks, rescale: true, ..UNetConfig::paper(shape) }
    }

    /// `d = C·H·W`.
    pub fn dim(&self) -> i64 {
        self.shape.iter().product()
    }

    fn time_features(&self) -> i64 {
        4 * self.widths[0]
    }

    fn residual_scale(&self) -> f64 {
        if self.rescale { std::f64::consts::FRAC_1_SQRT_2 } else { 1.0 }
    }

    /// Checks every field.
    pub fn check(&self) -> Result<()> {
        let bad = |field: &str, problem: String, remedy: String| Err(Error::config(field, problem, remedy));
        let [channels, height, width] = self.shape;
        Error::check_count("shape", channels, 1024)?;
        Error::check_count("blocks", self.blocks, 100)?;
        Error::check_count("head_blocks", self.head_blocks, 100)?;
        Error::check_count("groups", self.groups, 1024)?;
        Error::check_count("steps", self.steps, 1_000_000)?;
        let levels = self.widths.len();
        Error::check_count("widths", levels, 10)?;
        let halvings = 1i64 << (levels - 1);
        if height < halvings || width < halvings || height % halvings != 0 || width % halvings != 0 {
            let remedy = format!("pad or resize to multiples of {halvings}, or give fewer widths");
            return bad("shape", format!("{height} x {width} pixels for {levels} resolutions"), remedy);
        }
        if self.attention.len() != levels {
            let problem = format!("{} entries for {levels} resolutions", self.attention.len());
            return bad("attention", problem, "give true or false for each of the widths".into());
        }
        let separate = self.head_trunk == HeadTrunk::Separate;
        if separate && self.head_widths.len() != levels {
            let problem = format!("{} entries for {levels} resolutions", self.head_widths.len());
            return bad("head_widths", problem, "give as many as widths".into());
        }
        let of_head = if separate { &self.head_widths[..] } else { &[] };
        for &channels in self.widths.iter().chain(of_head) {
            Error::check_count("widths", channels, 16_384)?;
            if channels % self.groups != 0 {
                let problem = format!("{} does not divide a width of {channels}", self.groups);
                return bad("groups", problem, "give a divisor of every width".into());
            }
            if self.head_dim < 0 || (self.head_dim > 0 && channels % self.head_dim != 0) {
                let problem = format!("{} does not divide a width of {channels}", self.head_dim);
                return bad("head_dim", problem, "give a divisor of every width, or 0 for one head".into());
            }
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return bad("dropout", format!("{}", self.dropout), "give a number from 0 to below 1".into());
        }
        if !(self.norm_epsilon > 0.0 && self.norm_epsilon.is_finite()) {
            return bad(
                "norm_epsilon",
                format!("{}", self.norm_epsilon),
                "give a small positive number".into(),
            );
        }
        let half = self.widths[0] / 2;
        if !(self.frequency_shift >= 0.0 && self.frequency_shift < half as f64) {
            let remedy = format!("give 0 or 1, and less than half the first width, {half}");
            return bad("frequency_shift", format!("{}", self.frequency_shift), remedy);
        }
        match self.classes {
            0 => Ok(()),
            classes => Error::check_count("classes", classes, 1_000_000),
        }
    }

    /// The network with `head` raw head outputs per pixel and channel (none if 0). The ε output starts at 0 and the
    /// head at 0 but for its factors.
    pub fn init(&self, head: i64, device: Device, seed: Seed) -> Result<UNet> {
        self.check()?;
        let mut builder = Builder::default();
        let mut maker = Maker { builder: &mut builder, config: self, seed };
        let channels = self.shape[0];
        let trunk = Trunk::new(&mut maker, "", &self.widths, self.blocks);
        let score = Output::new(&mut maker, ["conv_norm_out", "conv_out"], self.widths[0], channels, 0.0);
        let score_size = maker.builder.size();
        let head = (head > 0).then(|| {
            let (trunk, features) = match self.head_trunk {
                HeadTrunk::Separate => {
                    let trunk = Trunk::new(&mut maker, "head.", &self.head_widths, self.head_blocks);
                    (Some(trunk), self.head_widths[0])
                }
                _ => (None, self.widths[0]),
            };
            let block = (self.head_body == HeadBody::Complex)
                .then(|| maker.res_block("head.resnet", features, features));
            let outputs = head * channels;
            let names = ["head.conv_norm_out", "head.conv_out"];
            let output = Output::new(&mut maker, names, features, outputs, FACTOR_GAIN);
            maker.builder.zero_outputs(output.conv.weight, channels);
            Head { trunk, block, output }
        });
        Ok(UNet {
            config: self.clone(),
            parameters: builder.finish(device),
            score_size,
            trunk,
            score,
            head,
            training: AtomicBool::new(false),
        })
    }
}

/// The head's factors start small, not at 0, where their gradient vanishes.
const FACTOR_GAIN: f64 = 0.03;

#[derive(Debug)]
struct Level {
    blocks: Vec<(ResBlock, Option<Attention>)>,
    /// To the next resolution.
    resize: Option<Conv>,
}

/// Everything up to the last features.
#[derive(Debug)]
struct Trunk {
    input: Conv,
    time: [Linear; 2],
    /// Index of the class embedding.
    classes: Option<usize>,
    down: Vec<Level>,
    middle: (ResBlock, Option<Attention>, ResBlock),
    up: Vec<Level>,
    features: i64,
}

impl Trunk {
    fn new(maker: &mut Maker, prefix: &str, widths: &[i64], blocks: i64) -> Trunk {
        let config = maker.config;
        let (first, last) = (widths[0], widths[widths.len() - 1]);
        let time = config.time_features();
        let input = maker.conv(&format!("{prefix}conv_in"), config.shape[0], first, 3, 1.0);
        let embedding = format!("{prefix}time_embedding.linear");
        let layers = [
            maker.linear(&format!("{embedding}_1"), first, time, 1.0),
            maker.linear(&format!("{embedding}_2"), time, time, 1.0),
        ];
        let classes = (config.classes > 0).then(|| {
            let name = format!("{prefix}class_embedding.weight");
            let seed = maker.seed.derive(&name);
            maker.builder.normal(name, &[config.classes, time], 1.0, seed)
        });
        let mut carried = first;
        let mut skips = vec![first];
        let levels = widths.len();
        let down = (0..levels)
            .map(|i| {
                let name = format!("{prefix}down_blocks.{i}");
                let blocks = (0..blocks)
                    .map(|j| {
                        let block = maker.res_block(&format!("{name}.resnets.{j}"), carried, widths[i]);
                        let attention = config.attention[i]
                            .then(|| maker.attention(&format!("{name}.attentions.{j}"), widths[i]));
                        carried = widths[i];
                        skips.push(carried);
                        (block, attention)
                    })
                    .collect();
                let resize = (i + 1 < levels).then(|| {
                    let conv = maker.conv(&format!("{name}.downsamplers.0.conv"), carried, carried, 3, 1.0);
                    skips.push(carried);
                    Conv { stride: 2, padding: if config.pad_end { 0 } else { 1 }, ..conv }
                });
                Level { blocks, resize }
            })
            .collect();
        let middle = (
            maker.res_block(&format!("{prefix}mid_block.resnets.0"), last, last),
            config
                .middle_attention
                .then(|| maker.attention(&format!("{prefix}mid_block.attentions.0"), last)),
            maker.res_block(&format!("{prefix}mid_block.resnets.1"), last, last),
        );
        let up = (0..levels)
            .map(|i| {
                let (name, level) = (format!("{prefix}up_blocks.{i}"), levels - 1 - i);
                let blocks = (0..=blocks)
                    .map(|j| {
                        let inputs = carried + skips.pop().expect("as many on the way down");
                        let block = maker.res_block(&format!("{name}.resnets.{j}"), inputs, widths[level]);
                        let attention = config.attention[level]
                            .then(|| maker.attention(&format!("{name}.attentions.{j}"), widths[level]));
                        carried = widths[level];
                        (block, attention)
                    })
                    .collect();
                let resize = (i + 1 < levels)
                    .then(|| maker.conv(&format!("{name}.upsamplers.0.conv"), carried, carried, 3, 1.0));
                Level { blocks, resize }
            })
            .collect();
        Trunk { input, time: layers, classes, down, middle, up, features: first }
    }

    /// The last features `[b, widths[0], H, W]`, and the time embedding they were made with.
    fn apply(&self, net: &UNet, x: &Tensor, position: &[f64], classes: Option<&Tensor>) -> (Tensor, Tensor) {
        let (p, training) = (&net.parameters, net.training.load(Ordering::Relaxed));
        let time = positional(position, self.features, &net.config, x);
        let mut time = self.time[1].apply(p, &self.time[0].apply(p, &time).silu());
        if let (Some(index), Some(classes)) = (self.classes, classes) {
            time = time + p.get(index).index_select(0, classes);
        }
        let time = time.silu();
        let block = |(block, attention): &(ResBlock, Option<Attention>), x: &Tensor| {
            let x = block.apply(p, x, &time, training);
            attention.as_ref().map_or_else(|| x.shallow_clone(), |attention| attention.apply(p, &x))
        };
        let mut h = self.input.apply(p, x);
        let mut skips = vec![h.shallow_clone()];
        for level in &self.down {
            for part in &level.blocks {
                h = block(part, &h);
                skips.push(h.shallow_clone());
            }
            if let Some(conv) = level.resize {
                h = match net.config.pad_end {
                    true => conv.apply(p, &h.constant_pad_nd([0, 1, 0, 1])),
                    false => conv.apply(p, &h),
                };
                skips.push(h.shallow_clone());
            }
        }
        let (first, attention, second) = &self.middle;
        h = first.apply(p, &h, &time, training);
        if let Some(attention) = attention {
            h = attention.apply(p, &h);
        }
        h = second.apply(p, &h, &time, training);
        for level in &self.up {
            for part in &level.blocks {
                h = block(part, &Tensor::cat(&[h, skips.pop().expect("as many on the way down")], 1));
            }
            if let Some(conv) = level.resize {
                let (_, _, height, width) = h.size4().expect("an image");
                h = conv.apply(p, &h.upsample_nearest2d([2 * height, 2 * width], None, None));
            }
        }
        (h, time)
    }
}

/// Group norm, SiLU, convolution.
#[derive(Debug)]
struct Output {
    norm: Norm,
    conv: Conv,
}

impl Output {
    fn new(maker: &mut Maker, names: [&str; 2], inputs: i64, outputs: i64, gain: f64) -> Output {
        Output { norm: maker.norm(names[0], inputs), conv: maker.conv(names[1], inputs, outputs, 3, gain) }
    }

    fn apply(&self, p: &Parameters, x: &Tensor) -> Tensor {
        self.conv.apply(p, &self.norm.apply(p, x).silu())
    }
}

#[derive(Debug)]
struct Head {
    trunk: Option<Trunk>,
    block: Option<ResBlock>,
    output: Output,
}

/// A U-Net with its parameters.
#[derive(Debug)]
pub struct UNet {
    config: UNetConfig,
    parameters: Parameters,
    score_size: i64,
    trunk: Trunk,
    score: Output,
    head: Option<Head>,
    training: AtomicBool,
}

impl UNet {
    /// How it was made.
    pub fn config(&self) -> &UNetConfig {
        &self.config
    }

    /// Raw outputs for images `x` `[b, C, H, W]` at `position`s of the discrete process and, where the network has
    /// classes, their `classes` `[b]`: `[b, C, H, W]`, and the head's `[b, (1+r) C, H, W]`.
    pub fn images(
        &self,
        x: &Tensor,
        position: &[f64],
        classes: Option<&Tensor>,
        with_head: bool,
    ) -> (Tensor, Option<Tensor>) {
        let p = &self.parameters;
        let (features, time) = self.trunk.apply(self, x, position, classes);
        let noise = self.score.apply(p, &features);
        let head = self.head.as_ref().filter(|_| with_head).map(|head| {
            let (features, time) = match &head.trunk {
                Some(trunk) => trunk.apply(self, x, position, classes),
                None if self.config.head_trunk == HeadTrunk::Detached => (features.detach(), time.detach()),
                None => (features, time),
            };
            let training = self.training.load(Ordering::Relaxed);
            match &head.block {
                Some(block) => head.output.apply(p, &block.apply(p, &features, &time, training)),
                None => head.output.apply(p, &features),
            }
        });
        (noise, head)
    }
}

impl Backbone for UNet {
    fn forward(&self, x: &Tensor, _schedule: &dyn Schedule, t: &[f64], with_head: bool) -> Outputs {
        let [c, h, w] = self.config.shape;
        let steps = self.config.steps as f64;
        let position: Vec<f64> = t.iter().map(|t| steps * t - 1.0).collect();
        let (noise, head) = self.images(&x.view([-1, c, h, w]), &position, None, with_head);
        Outputs { noise: noise.flatten(1, 3), head: head.map(|head| head.flatten(1, 3)) }
    }

    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn score_size(&self) -> i64 {
        self.score_size
    }

    fn drops(&self) -> bool {
        self.config.dropout > 0.0
    }

    fn set_training(&self, training: bool) {
        self.training.store(training, Ordering::Relaxed);
    }
}
