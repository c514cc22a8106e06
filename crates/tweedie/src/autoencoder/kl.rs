//! diffusers' `AutoencoderKL` (Rombach et al. 2022): residual blocks and one attention, with group
//! normalisation; the encoder gives a Gaussian.

use serde::Deserialize;
use tch::Tensor;

use super::{Sizes, UNSEEDED, Unknown, layers_of, refused, unknown};
use crate::model::Builder;
use crate::model::layers::{Conv, Pass};
use crate::model::unet_layers::{Attention, Maker, Norm, ResBlock};

/// The fields of `AutoencoderKL` (diffusers 0.42), with its defaults where a field is missing.
#[derive(Deserialize)]
#[serde(default)]
pub(super) struct Config {
    in_channels: i64,
    out_channels: i64,
    down_block_types: Vec<String>,
    up_block_types: Vec<String>,
    block_out_channels: Vec<i64>,
    layers_per_block: i64,
    act_fn: String,
    latent_channels: i64,
    norm_num_groups: i64,
    /// Of diffusers' tiles; networks take any size.
    #[allow(dead_code, reason = "known, and of no meaning here")]
    sample_size: serde_json::Value,
    scaling_factor: f64,
    shift_factor: Option<f64>,
    /// All is computed in f32.
    #[allow(dead_code, reason = "known, and of no meaning here")]
    force_upcast: bool,
    use_quant_conv: bool,
    use_post_quant_conv: bool,
    mid_block_add_attention: bool,
    /// Among them `latents_mean` and `latents_std`, which are null in what can be computed.
    #[serde(flatten)]
    unknown: Unknown,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            in_channels: 3,
            out_channels: 3,
            down_block_types: vec!["DownEncoderBlock2D".into()],
            up_block_types: vec!["UpDecoderBlock2D".into()],
            block_out_channels: vec![64],
            layers_per_block: 1,
            act_fn: "silu".into(),
            latent_channels: 4,
            norm_num_groups: 32,
            sample_size: serde_json::Value::Null,
            scaling_factor: 0.18215,
            shift_factor: None,
            force_upcast: true,
            use_quant_conv: true,
            use_post_quant_conv: true,
            mid_block_add_attention: true,
            unknown: Unknown::new(),
        }
    }
}

/// More resolutions, blocks at one, or channels than any autoencoder has.
const MOST: [i64; 3] = [8, 64, 1 << 14];

impl Config {
    /// What of the configuration cannot be computed here.
    pub fn check(&self) -> Result<(), String> {
        let [levels, blocks, channels] = MOST;
        let widths = &self.block_out_channels;
        let other = |types: &[String], own: &str| types.iter().find(|name| *name != own).cloned();
        let block = other(&self.down_block_types, "DownEncoderBlock2D")
            .or(other(&self.up_block_types, "UpDecoderBlock2D"));
        let counts = [self.down_block_types.len(), self.up_block_types.len()];
        let within = |n: i64, most: i64| (1..=most).contains(&n);
        let positive = |x: f64| x.is_normal() && x > 0.0;
        refused([
            (block.is_some(), format!("a block of type {}", block.unwrap_or_default())),
            (
                counts != [widths.len(); 2] || !within(widths.len() as i64, levels),
                format!("block_out_channels of {} and block types of {counts:?}", widths.len()),
            ),
            (!within(self.layers_per_block, blocks), {
                format!("layers_per_block = {}", self.layers_per_block)
            }),
            (
                !["silu", "swish"].contains(&&*self.act_fn),
                format!("the activation act_fn = {}", self.act_fn),
            ),
            (
                self.in_channels != self.out_channels || !within(self.in_channels, channels),
                format!("{} channels in, {} out", self.in_channels, self.out_channels),
            ),
            (!within(self.latent_channels, channels), {
                format!("latent_channels = {}", self.latent_channels)
            }),
            (
                widths.iter().any(|&width| {
                    !within(width, channels)
                        || self.norm_num_groups < 1
                        || width % self.norm_num_groups != 0
                }),
                format!(
                    "block_out_channels = {widths:?} in norm_num_groups = {}",
                    self.norm_num_groups
                ),
            ),
            (!positive(self.scaling_factor), format!("scaling_factor = {}", self.scaling_factor)),
            (
                self.shift_factor.is_some_and(|shift| !shift.is_finite()),
                format!("shift_factor = {:?}", self.shift_factor),
            ),
        ])?;
        unknown(&self.unknown)
    }

    pub fn sizes(&self) -> Sizes {
        Sizes {
            pixels: self.in_channels,
            latents: self.latent_channels,
            factor: 1 << (self.block_out_channels.len() - 1),
            scale: self.scaling_factor,
            shift: self.shift_factor.unwrap_or(0.0),
        }
    }
}

/// The network, without its parameters.
pub(super) struct Kl {
    encoder: Half,
    quant: Option<Conv>,
    post_quant: Option<Conv>,
    decoder: Half,
    pub groups: i64,
}

/// Encoder or decoder.
struct Half {
    input: Conv,
    levels: Vec<Level>,
    middle: (ResBlock, Option<Attention>, ResBlock),
    norm: Norm,
    output: Conv,
}

/// Blocks of one resolution, and the convolution to the next.
struct Level {
    blocks: Vec<ResBlock>,
    resize: Option<Conv>,
}

impl Kl {
    pub fn new(config: &Config, builder: &mut Builder) -> Kl {
        let layers = layers_of(config.norm_num_groups, 1e-6);
        let mut maker = Maker { builder, config: &layers, seed: UNSEEDED };
        let (widths, latents) = (&config.block_out_channels, config.latent_channels);
        let reversed: Vec<i64> = widths.iter().rev().copied().collect();
        let (pixels, blocks) = (config.in_channels, config.layers_per_block);
        let attends = config.mid_block_add_attention;
        let encoder = Half::new(&mut maker, "encoder", [pixels, 2 * latents], widths, |level| {
            (format!("down_blocks.{level}"), "downsamplers", blocks, attends)
        });
        let quant = config
            .use_quant_conv
            .then(|| maker.conv("quant_conv", 2 * latents, 2 * latents, 1, 1.0));
        let post_quant = config
            .use_post_quant_conv
            .then(|| maker.conv("post_quant_conv", latents, latents, 1, 1.0));
        let decoder = Half::new(&mut maker, "decoder", [latents, pixels], &reversed, |level| {
            (format!("up_blocks.{level}"), "upsamplers", blocks + 1, attends)
        });
        Kl { encoder, quant, post_quant, decoder, groups: config.norm_num_groups }
    }

    /// Mean and standard deviation `[n, C, h, w]` of images in `[−1, 1]`.
    pub fn encode(&self, p: &Pass, x: &Tensor) -> (Tensor, Tensor) {
        let h = self.encoder.input.apply(p, x);
        let h = self.encoder.levels.iter().fold(h, |h, level| {
            let h = level.blocks(p, h);
            match level.resize {
                // what is beyond the right and lower edge is 0
                Some(conv) => conv.apply(p, &h.constant_pad_nd([0, 1, 0, 1])),
                None => h,
            }
        });
        let h = self.encoder.output(p, &self.encoder.middle(p, &h));
        let h = self.quant.map_or_else(|| h.shallow_clone(), |conv| conv.apply(p, &h));
        let parts = h.chunk(2, 1);
        // diffusers' DiagonalGaussianDistribution
        (parts[0].shallow_clone(), (parts[1].clamp(-30.0, 20.0) * 0.5).exp())
    }

    /// Images in `[−1, 1]` of latents.
    pub fn decode(&self, p: &Pass, z: &Tensor) -> Tensor {
        let z = self.post_quant.map_or_else(|| z.shallow_clone(), |conv| conv.apply(p, z));
        let h = self.decoder.middle(p, &self.decoder.input.apply(p, &z));
        let h = self.decoder.levels.iter().fold(h, |h, level| {
            let h = level.blocks(p, h);
            match level.resize {
                Some(conv) => {
                    let (_, _, height, width) = h.size4().expect("images");
                    conv.apply(p, &h.upsample_nearest2d([2 * height, 2 * width], None, None))
                }
                None => h,
            }
        });
        self.decoder.output(p, &h)
    }
}

impl Half {
    /// `level` gives the name of a resolution, that of its convolution to the next, its number of
    /// blocks, and whether there is attention in the middle.
    fn new(
        maker: &mut Maker,
        name: &str,
        [inputs, outputs]: [i64; 2],
        widths: &[i64],
        level: impl Fn(usize) -> (String, &'static str, i64, bool),
    ) -> Half {
        let down = name == "encoder";
        let (first, last) = (widths[0], widths[widths.len() - 1]);
        let input = maker.conv(&format!("{name}.conv_in"), inputs, first, 3, 1.0);
        let mut carried = first;
        let levels = widths.iter().enumerate().map(|(i, &width)| {
            let (level, resizing, blocks, _) = level(i);
            let blocks = (0..blocks)
                .map(|j| {
                    let block = format!("{name}.{level}.resnets.{j}");
                    maker.timeless_block(&block, std::mem::replace(&mut carried, width), width)
                })
                .collect();
            let resize = (i + 1 < widths.len()).then(|| {
                let conv = format!("{name}.{level}.{resizing}.0.conv");
                let conv = maker.conv(&conv, width, width, 3, 1.0);
                if down { Conv { stride: 2, padding: 0, ..conv } } else { conv }
            });
            Level { blocks, resize }
        });
        let levels = levels.collect();
        let (_, _, _, attends) = level(0);
        let (wide, middle) = (if down { last } else { first }, format!("{name}.mid_block"));
        let middle = (
            maker.timeless_block(&format!("{middle}.resnets.0"), wide, wide),
            attends.then(|| maker.attention(&format!("{middle}.attentions.0"), wide)),
            maker.timeless_block(&format!("{middle}.resnets.1"), wide, wide),
        );
        let norm = maker.norm(&format!("{name}.conv_norm_out"), last);
        let output = maker.conv(&format!("{name}.conv_out"), last, outputs, 3, 1.0);
        Half { input, levels, middle, norm, output }
    }

    fn middle(&self, p: &Pass, x: &Tensor) -> Tensor {
        let (first, attention, second) = &self.middle;
        let h = first.apply(p, x, None);
        let h = attention.as_ref().map_or_else(|| h.shallow_clone(), |a| a.apply(p, &h));
        second.apply(p, &h, None)
    }

    fn output(&self, p: &Pass, x: &Tensor) -> Tensor {
        self.output.apply(p, &self.norm.apply(p, x).silu())
    }
}

impl Level {
    fn blocks(&self, p: &Pass, x: Tensor) -> Tensor {
        self.blocks.iter().fold(x, |x, block| block.apply(p, &x, None))
    }
}
