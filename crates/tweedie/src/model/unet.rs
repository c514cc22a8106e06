//! The U-Net of DDPM for images, with a covariance head: residual blocks with time embedding,
//! attention at chosen resolutions, strided convolutions down and nearest neighbours up; with other
//! options DDPM++, whose residual blocks change the resolution.
//!
//! The layout, the names of the parameters and the options are those of diffusers' `UNet2DModel`,
//! so that models can be exchanged. Rows are images flattened channel by channel, `[b, C·H·W]`;
//! only this file and its layers know pixels.

mod config;
mod diffusers;
pub(crate) mod layers;

use tch::{Device, Tensor};

use super::HeadTrunk;
use super::embedding::Positional;
use super::head::FACTOR_GAIN;
use super::layers::{Conv, Linear, Pass};
use super::parameters::{Builder, Parameters};
use super::{Backbone, Mode, Outputs};
use crate::Result;
use crate::noise::Seed;
use crate::query::{Coefficient, Query};
use crate::schedule::Schedule;
pub use config::{HeadBody, Resample, UNetConfig, Weights};
pub use diffusers::UNet2DModel;
use layers::{Attention, Maker, Norm, ResBlock, Resampling};

impl UNetConfig {
    /// The network with `head` raw head outputs per pixel and channel (none if 0). The ε output
    /// starts at 0 and the head at 0 but for its factors.
    pub fn init(&self, head: i64, device: Device, seed: Seed) -> Result<UNet> {
        self.check()?;
        let mut builder = Builder::default();
        let Layout { score_size, trunk, score, head } = self.lay_out(&mut builder, head, seed);
        Ok(UNet {
            config: self.clone(),
            parameters: builder.finish(device),
            score_size,
            trunk,
            score,
            head,
        })
    }

    /// The number of parameters of [`UNetConfig::init`] with `head` raw head outputs, without
    /// making any.
    ///
    /// # Errors
    /// As [`UNetConfig::check`].
    pub fn size(&self, head: i64) -> Result<i64> {
        self.check()?;
        let mut builder = Builder::counting();
        self.lay_out(&mut builder, head, Seed(0));
        Ok(builder.size())
    }

    fn lay_out(&self, builder: &mut Builder, head: i64, seed: Seed) -> Layout {
        let mut maker = Maker { builder, config: self, seed };
        let channels = self.shape[0];
        let trunk = Trunk::new(&mut maker, "", &self.widths, self.blocks);
        let score =
            Output::new(&mut maker, ["conv_norm_out", "conv_out"], self.widths[0], channels, 0.0);
        let score_size = maker.builder.size();
        let head = (head > 0).then(|| {
            let (trunk, features) = match self.head_trunk {
                HeadTrunk::Separate => {
                    let trunk =
                        Trunk::new(&mut maker, "head.", &self.head_widths, self.head_blocks);
                    (Some(trunk), self.head_widths[0])
                }
                _ => (None, self.widths[0]),
            };
            let block = (self.head_body == HeadBody::Complex)
                .then(|| maker.res_block("head.resnet", features, features));
            let outputs = head.saturating_mul(channels);
            let names = ["head.conv_norm_out", "head.conv_out"];
            let output = Output::new(&mut maker, names, features, outputs, FACTOR_GAIN);
            maker.builder.zero_first(output.conv.weight, 0, channels);
            Head { trunk, block, output }
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

#[derive(Debug)]
struct Level {
    blocks: Vec<(ResBlock, Option<Attention>)>,
    /// To the next resolution.
    resize: Option<Resize>,
}

#[derive(Debug)]
enum Resize {
    Conv(Conv),
    Block(ResBlock),
}

impl Resize {
    fn new(maker: &mut Maker, name: &str, channels: i64, up: bool) -> Resize {
        if let Some(resampling) = Resampling::of(maker.config, up) {
            let block = maker.resampling_block(name, channels, channels, Some(resampling));
            return Resize::Block(block);
        }
        let conv = maker.conv(&format!("{name}.conv"), channels, channels, 3, 1.0);
        let padding = if maker.config.pad_end { 0 } else { 1 };
        Resize::Conv(if up { conv } else { Conv { stride: 2, padding, ..conv } })
    }

    fn down(&self, config: &UNetConfig, p: &Pass, x: &Tensor, time: &Tensor) -> Tensor {
        match self {
            Resize::Conv(conv) if config.pad_end => conv.apply(p, &x.constant_pad_nd([0, 1, 0, 1])),
            Resize::Conv(conv) => conv.apply(p, x),
            Resize::Block(block) => block.apply(p, x, Some(time)),
        }
    }

    fn up(&self, p: &Pass, x: &Tensor, time: &Tensor) -> Tensor {
        match self {
            Resize::Conv(conv) => {
                let (_, _, height, width) = x.size4().expect("an image");
                conv.apply(p, &x.upsample_nearest2d([2 * height, 2 * width], None, None))
            }
            Resize::Block(block) => block.apply(p, x, Some(time)),
        }
    }
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
            maker.builder.normal(name, &[config.embedded_classes(), time], 1.0, seed)
        });
        let mut carried = first;
        let mut skips = vec![first];
        let levels = widths.len();
        let down = (0..levels)
            .map(|i| {
                let name = format!("{prefix}down_blocks.{i}");
                let blocks = (0..blocks)
                    .map(|j| {
                        let block =
                            maker.res_block(&format!("{name}.resnets.{j}"), carried, widths[i]);
                        let attention = config.attention[i]
                            .then(|| maker.attention(&format!("{name}.attentions.{j}"), widths[i]));
                        carried = widths[i];
                        skips.push(carried);
                        (block, attention)
                    })
                    .collect();
                let resize = (i + 1 < levels).then(|| {
                    skips.push(carried);
                    Resize::new(maker, &format!("{name}.downsamplers.0"), carried, false)
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
                        let block =
                            maker.res_block(&format!("{name}.resnets.{j}"), inputs, widths[level]);
                        let attends = j == blocks || !config.attention_up_last;
                        let attention = (attends && config.attention[level]).then(|| {
                            maker.attention(&format!("{name}.attentions.{j}"), widths[level])
                        });
                        carried = widths[level];
                        (block, attention)
                    })
                    .collect();
                let resize = (i + 1 < levels)
                    .then(|| Resize::new(maker, &format!("{name}.upsamplers.0"), carried, true));
                Level { blocks, resize }
            })
            .collect();
        Trunk { input, time: layers, classes, down, middle, up, features: first }
    }

    /// The last features `[b, widths[0], H, W]`, and the time embedding they were made with.
    fn apply(
        &self,
        config: &UNetConfig,
        p: &Pass,
        x: &Tensor,
        position: &Coefficient,
        classes: Option<&Tensor>,
    ) -> (Tensor, Tensor) {
        let positional = Positional {
            size: self.features,
            cosine_first: config.cosine_first,
            shift: config.frequency_shift,
        };
        let time = positional.features(position, x);
        let mut time = self.time[1].apply(p, &self.time[0].apply(p, &time).silu());
        if let (Some(index), Some(classes)) = (self.classes, classes) {
            time = time + p.get(index).index_select(0, classes);
        }
        let time = time.silu();
        let block = |part: &(ResBlock, Option<Attention>), x: &Tensor| {
            let (block, attention) = *part;
            p.block([x, &time], move |p, [x, time]| {
                let x = block.apply(p, x, Some(time));
                match &attention {
                    Some(attention) => attention.apply(p, &x),
                    None => x,
                }
            })
        };
        let mut h = self.input.apply(p, x);
        let mut skips = vec![h.shallow_clone()];
        for level in &self.down {
            for part in &level.blocks {
                h = block(part, &h);
                skips.push(h.shallow_clone());
            }
            if let Some(resize) = &level.resize {
                h = resize.down(config, p, &h, &time);
                skips.push(h.shallow_clone());
            }
        }
        let (first, attention, second) = &self.middle;
        let (first, attention, second) = (*first, *attention, *second);
        h = p.block([&h, &time], move |p, [h, time]| {
            let h = first.apply(p, h, Some(time));
            let h = match &attention {
                Some(attention) => attention.apply(p, &h),
                None => h,
            };
            second.apply(p, &h, Some(time))
        });
        for level in &self.up {
            for part in &level.blocks {
                h = block(
                    part,
                    &Tensor::cat(&[h, skips.pop().expect("as many on the way down")], 1),
                );
            }
            if let Some(resize) = &level.resize {
                h = resize.up(p, &h, &time);
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
        Output {
            norm: maker.norm(names[0], inputs),
            conv: maker.conv(names[1], inputs, outputs, 3, gain),
        }
    }

    fn apply(&self, p: &Pass, x: &Tensor) -> Tensor {
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
}

impl UNet {
    /// How it was made.
    pub fn config(&self) -> &UNetConfig {
        &self.config
    }

    /// Raw outputs for images `x` `[b, C, H, W]` at `position`s, which are embedded, and, where
    /// the network has classes, their `classes` `[b]`: `[b, C, H, W]`, and the head's
    /// `[b, (1+r) C, H, W]`.
    pub fn images(
        &self,
        x: &Tensor,
        position: &Coefficient,
        classes: Option<&Tensor>,
        mode: Mode,
        with_head: bool,
    ) -> (Tensor, Option<Tensor>) {
        assert_eq!(
            classes.is_some(),
            self.config.classes > 0,
            "classes of a network for {} of them",
            self.config.classes
        );
        if let Some(seed) = mode.dropout.filter(|_| self.drops()) {
            // the one place where LibTorch's own generator is used: its masks are drawn where the
            // activations are
            tch::manual_seed(seed.0 as i64);
        }
        let p = &Pass::new(&self.parameters, mode);
        let (features, time) = self.trunk.apply(&self.config, p, x, position, classes);
        let noise = self.score.apply(p, &features);
        let head = self.head.as_ref().filter(|_| with_head).map(|head| {
            let (features, time) = match &head.trunk {
                Some(trunk) => trunk.apply(&self.config, p, x, position, classes),
                None if self.config.head_trunk == HeadTrunk::Detached => {
                    (features.detach(), time.detach())
                }
                None => (features, time),
            };
            // LibTorch 2.11 writes to null where a norm of channels-last features, as attention
            // leaves them, has gradients for its weights but not for its input: a head alone in
            // training
            let features = features.contiguous();
            match &head.block {
                Some(block) => head.output.apply(p, &block.apply(p, &features, Some(&time))),
                None => head.output.apply(p, &features),
            }
        });
        let kind = self.parameters.flat().kind();
        (noise.to_kind(kind), head.map(|head| head.to_kind(kind)))
    }
}

impl Backbone for UNet {
    fn forward(&self, q: &Query, schedule: &dyn Schedule, mode: Mode, with_head: bool) -> Outputs {
        let [c, h, w] = self.config.shape;
        let position = self.config.position.of(q.times, schedule, self.config.steps, q.x.device());
        let classes = q.classes(self.config.classes, self.config.null_class);
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

    fn drops(&self) -> bool {
        self.config.dropout > 0.0
    }

    fn has_half(&self) -> bool {
        true
    }

    fn recomputes(&self) -> bool {
        true
    }
}
