//! diffusers' `AutoencoderTiny`, which is TAESD (github.com/madebyollin/taesd): convolutions and
//! ReLUs; the encoder gives points.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use tch::Tensor;

use super::{Sizes, UNSEEDED, Unknown, layers_of, refused, unknown};
use crate::data::read_weights;
use crate::model::Builder;
use crate::model::layers::{Conv, Pass};
use crate::model::unet_layers::{Maker, Norm};
use crate::{Error, Result};

/// The fields of `AutoencoderTiny` (diffusers 0.42), with its defaults where a field is missing.
#[derive(Deserialize)]
#[serde(default)]
pub(super) struct Config {
    in_channels: i64,
    out_channels: i64,
    encoder_block_out_channels: Vec<i64>,
    decoder_block_out_channels: Vec<i64>,
    num_encoder_blocks: Vec<usize>,
    num_decoder_blocks: Vec<usize>,
    act_fn: String,
    upsample_fn: String,
    upsampling_scaling_factor: i64,
    latent_channels: i64,
    scaling_factor: f64,
    shift_factor: f64,
    #[serde(flatten)]
    unknown: Unknown,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            in_channels: 3,
            out_channels: 3,
            encoder_block_out_channels: vec![64; 4],
            decoder_block_out_channels: vec![64; 4],
            num_encoder_blocks: vec![1, 3, 3, 3],
            num_decoder_blocks: vec![3, 3, 3, 1],
            act_fn: "relu".into(),
            upsample_fn: "nearest".into(),
            upsampling_scaling_factor: 2,
            latent_channels: 4,
            scaling_factor: 1.0,
            shift_factor: 0.0,
            unknown: Unknown::new(),
        }
    }
}

/// Fields that say nothing of what is computed here: the range in which diffusers writes latents
/// as bytes, the decoder's widths once more, and that all is computed in f32.
const WITHOUT_MEANING: [&str; 4] =
    ["latent_magnitude", "latent_shift", "block_out_channels", "force_upcast"];
/// More resolutions, blocks at one, or channels than any autoencoder has.
const MOST: [i64; 3] = [8, 64, 1 << 14];

/// More layers than a half of TAESD has.
const MOST_LAYERS: usize = 1 << 10;

impl Config {
    /// What of the configuration cannot be computed here.
    pub fn check(&self) -> std::result::Result<(), String> {
        let [levels, blocks, channels] = MOST;
        let within = |n: i64, most: i64| (1..=most).contains(&n);
        let halves = [
            ("encoder", &self.encoder_block_out_channels, &self.num_encoder_blocks),
            ("decoder", &self.decoder_block_out_channels, &self.num_decoder_blocks),
        ];
        for (half, widths, numbers) in halves {
            refused([
                (
                    widths.len() != numbers.len() || !within(widths.len() as i64, levels),
                    format!("{half}_block_out_channels of {} and {}", widths.len(), numbers.len()),
                ),
                (
                    widths.iter().any(|&w| w != widths[0] || !within(w, channels)),
                    format!("{half}_block_out_channels = {widths:?}"),
                ),
                (
                    numbers.iter().any(|&n| n as i64 > blocks),
                    format!("num_{half}_blocks = {numbers:?}"),
                ),
            ])?;
        }
        refused([
            (
                self.num_encoder_blocks.len() != self.num_decoder_blocks.len(),
                "other resolutions in the decoder than in the encoder".into(),
            ),
            (self.act_fn != "relu", format!("the activation act_fn = {}", self.act_fn)),
            (self.upsample_fn != "nearest", format!("upsample_fn = {}", self.upsample_fn)),
            (
                self.upsampling_scaling_factor != 2,
                format!("upsampling_scaling_factor = {}", self.upsampling_scaling_factor),
            ),
            (
                self.in_channels != self.out_channels || !within(self.in_channels, channels),
                format!("{} channels in, {} out", self.in_channels, self.out_channels),
            ),
            (!within(self.latent_channels, channels), {
                format!("latent_channels = {}", self.latent_channels)
            }),
            (
                !(self.scaling_factor.is_normal() && self.scaling_factor > 0.0),
                format!("scaling_factor = {}", self.scaling_factor),
            ),
            (!self.shift_factor.is_finite(), format!("shift_factor = {}", self.shift_factor)),
        ])?;
        let mut fields = self.unknown.clone();
        fields.retain(|name, _| !WITHOUT_MEANING.contains(&&**name));
        unknown(&fields)
    }

    pub fn sizes(&self) -> Sizes {
        let (scale, shift) = (self.scaling_factor, self.shift_factor);
        Sizes { scale, shift, ..self.layout().sizes() }
    }

    pub fn layout(&self) -> Layout {
        let half = |widths: &[i64], numbers: &[usize]| Sequence {
            width: widths[0],
            blocks: numbers.iter().map(|&n| vec![false; n]).collect(),
        };
        Layout {
            pixels: self.in_channels,
            latents: self.latent_channels,
            encoder: half(&self.encoder_block_out_channels, &self.num_encoder_blocks),
            decoder: half(&self.decoder_block_out_channels, &self.num_decoder_blocks),
        }
    }
}

/// What layers there are.
pub(super) struct Layout {
    pixels: i64,
    latents: i64,
    encoder: Sequence,
    decoder: Sequence,
}

struct Sequence {
    width: i64,
    /// For each block of each resolution, whether it begins with pooling.
    blocks: Vec<Vec<bool>>,
}

impl Layout {
    /// Of latents as the encoder gives them.
    pub fn sizes(&self) -> Sizes {
        Sizes {
            pixels: self.pixels,
            latents: self.latents,
            factor: 1 << (self.encoder.blocks.len() - 1),
            scale: 1.0,
            shift: 0.0,
        }
    }
}

/// The network, without its parameters.
pub(super) struct Tiny {
    encoder: Vec<Layer>,
    decoder: Vec<Layer>,
}

enum Layer {
    Conv(Conv),
    Relu,
    /// Each pixel four times.
    Repeat,
    Block {
        pool: Option<Pool>,
        convs: [Conv; 3],
    },
}

/// The part of TAESD's blocks for FLUX.2 that normalises over the whole image.
struct Pool {
    inner: Conv,
    norm: Norm,
    outer: Conv,
}

impl Tiny {
    pub fn new(layout: &Layout, builder: &mut Builder) -> Tiny {
        let layers = layers_of(4, 1e-5);
        let mut maker = Maker { builder, config: &layers, seed: UNSEEDED };
        let m = &mut maker;
        let Layout { pixels, latents, encoder, decoder } = layout;
        let mut names = (0..).map(|i| format!("encoder.layers.{i}"));
        let mut name = || names.next().expect("without end");
        let width = encoder.width;
        let mut layers = Vec::new();
        for (i, blocks) in encoder.blocks.iter().enumerate() {
            layers.push(Layer::Conv(match i {
                0 => m.conv(&name(), *pixels, width, 3, 1.0),
                _ => Conv { stride: 2, ..m.conv_without_bias(&name(), width, width, 3) },
            }));
            layers.extend(blocks.iter().map(|&pool| Layer::block(m, &name(), width, pool)));
        }
        layers.push(Layer::Conv(m.conv(&name(), width, *latents, 3, 1.0)));
        let encoder = layers;

        let mut names = (0..).map(|i| format!("decoder.layers.{i}"));
        let mut name = || names.next().expect("without end");
        let width = decoder.width;
        let mut layers = vec![Layer::Conv(m.conv(&name(), *latents, width, 3, 1.0)), Layer::Relu];
        name();
        for (i, blocks) in decoder.blocks.iter().enumerate() {
            layers.extend(blocks.iter().map(|&pool| Layer::block(m, &name(), width, pool)));
            if i + 1 < decoder.blocks.len() {
                layers.push(Layer::Repeat);
                name();
                layers.push(Layer::Conv(m.conv_without_bias(&name(), width, width, 3)));
            }
        }
        layers.push(Layer::Conv(m.conv(&name(), width, *pixels, 3, 1.0)));
        Tiny { encoder, decoder: layers }
    }

    /// Points `[n, C, h, w]` of images in `[0, 1]`.
    pub fn encode(&self, p: &Pass, x: &Tensor) -> Tensor {
        self.encoder.iter().fold(x.shallow_clone(), |x, layer| layer.apply(p, &x))
    }

    /// Images in `[0, 1]` of points, which are held within about ±3 first.
    pub fn decode(&self, p: &Pass, z: &Tensor) -> Tensor {
        self.decoder.iter().fold((z / 3.0).tanh() * 3.0, |x, layer| layer.apply(p, &x))
    }
}

impl Layer {
    fn block(m: &mut Maker, name: &str, width: i64, pool: bool) -> Layer {
        let convs = [0, 2, 4].map(|i| m.conv(&format!("{name}.conv.{i}"), width, width, 3, 1.0));
        let pool = pool.then(|| Pool {
            inner: m.conv_without_bias(&format!("{name}.pool.0"), width, 4 * width, 1),
            norm: m.norm(&format!("{name}.pool.1"), 4 * width),
            outer: m.conv_without_bias(&format!("{name}.pool.3"), 4 * width, width, 1),
        });
        Layer::Block { pool, convs }
    }

    fn apply(&self, p: &Pass, x: &Tensor) -> Tensor {
        match self {
            Layer::Conv(conv) => conv.apply(p, x),
            Layer::Relu => x.relu(),
            Layer::Repeat => {
                let (_, _, height, width) = x.size4().expect("images");
                x.upsample_nearest2d([2 * height, 2 * width], None, None)
            }
            Layer::Block { pool, convs: [first, second, third] } => {
                let x = match pool {
                    Some(Pool { inner, norm, outer }) => {
                        x + outer.apply(p, &norm.apply(p, &inner.apply(p, x)).relu())
                    }
                    None => x.shallow_clone(),
                };
                let h = second.apply(p, &first.apply(p, &x).relu()).relu();
                (third.apply(p, &h) + x).relu()
            }
        }
    }
}

/// The layout of two state dicts of `nn.Sequential`s, and their tensors by diffusers' names.
pub(super) fn of_halves(
    encoder: &Path,
    decoder: &Path,
) -> Result<(Layout, BTreeMap<String, Tensor>)> {
    let first = Half::read(encoder, "encoder", 0)?;
    // the decoder's first layer has no parameters
    let second = Half::read(decoder, "decoder", 1)?;
    let wrong = |path: &Path, problem: &str| {
        Error::data(path, problem, "give the two halves of one TAESD of the usual form")
    };
    let (Some(encoded), Some(decoded)) = (first.sequence(), second.sequence()) else {
        let path = if first.sequence().is_none() { encoder } else { decoder };
        return Err(wrong(path, "has other layers than TAESD's usual convolutions and blocks"));
    };
    let ([pixels, latents], own) = (first.ends(), second.ends());
    if own != [latents, pixels] || encoded.blocks.len() != decoded.blocks.len() {
        return Err(wrong(decoder, "has other channels or resolutions than the encoder"));
    }
    let layout = Layout { pixels, latents, encoder: encoded, decoder: decoded };
    Ok((layout, first.tensors.into_iter().chain(second.tensors).collect()))
}

/// One half as its file has it.
struct Half {
    name: &'static str,
    tensors: BTreeMap<String, Tensor>,
}

impl Half {
    /// Reads a state dict whose layers are counted from `start`.
    fn read(path: &Path, name: &'static str, start: usize) -> Result<Half> {
        let mut tensors = BTreeMap::new();
        for (own, values) in read_weights(path)? {
            let parts = own.split_once('.').and_then(|(layer, rest)| {
                let layer = layer.parse::<usize>().ok()?.checked_sub(start)?;
                (layer < MOST_LAYERS).then_some((layer, rest))
            });
            let Some((layer, rest)) = parts else {
                let problem = format!("has a tensor {own:?}, which is not of TAESD's layout");
                return Err(Error::data(path, problem, super::REMEDY));
            };
            if !values.is_floating_point() {
                let problem = format!("has {own:?} in {:?}, not a kind of float", values.kind());
                return Err(Error::data(path, problem, super::REMEDY));
            }
            let values = values.to_kind(tch::Kind::Float);
            tensors.insert(format!("{name}.layers.{layer}.{rest}"), values);
        }
        Ok(Half { name, tensors })
    }

    fn shape(&self, layer: usize, rest: &str) -> Option<Vec<i64>> {
        self.tensors.get(&format!("{}.layers.{layer}.{rest}", self.name)).map(Tensor::size)
    }

    /// Channels in and out.
    fn ends(&self) -> [i64; 2] {
        let inputs = self.shape(0, "weight").and_then(|shape| shape.get(1).copied());
        let mut last = (0..self.count()).filter_map(|i| self.shape(i, "bias"));
        [
            inputs.unwrap_or(0),
            last.next_back().and_then(|shape| shape.first().copied()).unwrap_or(0),
        ]
    }

    /// One more than the last layer's number.
    fn count(&self) -> usize {
        let number = |name: &String| name.split('.').nth(2).and_then(|i| i.parse::<usize>().ok());
        self.tensors.keys().filter_map(number).max().map_or(0, |last| last + 1)
    }

    /// The resolutions with their blocks: strided or repeating convolutions, which have no bias,
    /// stand between them. None where the layers are others; shapes are compared later.
    fn sequence(&self) -> Option<Sequence> {
        let decodes = self.name == "decoder";
        let width = self.shape(0, "bias")?.first().copied().filter(|&width| width > 0)?;
        let count = self.count();
        let mut blocks = vec![Vec::new()];
        // the decoder's ReLU
        let mut layer = if decodes { 2 } else { 1 };
        while layer + 1 < count {
            if self.shape(layer, "conv.0.weight").is_some() {
                let pools = self.shape(layer, "pool.0.weight").is_some();
                blocks.last_mut()?.push(pools);
            } else {
                // repeated pixels have no parameters
                layer += usize::from(decodes);
                self.shape(layer, "weight")?;
                blocks.push(Vec::new());
            }
            layer += 1;
        }
        let [resolutions, most, _] = MOST.map(|n| n as usize);
        let fits = blocks.len() <= resolutions && blocks.iter().all(|b| b.len() <= most);
        (layer < count && self.shape(layer, "bias").is_some() && fits)
            .then_some(Sequence { width, blocks })
    }
}
