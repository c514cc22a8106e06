//! The dequantising flow of Flow++ for images.

mod split;

use std::f64::consts::PI;

use tch::{Kind, Tensor, no_grad};

use super::{LAST_GAIN, VariationalConfig, mixture_logistic};
use crate::model::{Builder, Parameters};
use crate::noise::Seed;
use split::{By, Split};

/// Steps on the halves of an image (Ho et al. 2019, §3.1–3.3): first on even and odd columns, what
/// Flow++ and ScoreFlow call the checkerboard (score_flow, `dequantization_cifar10`, has no
/// others), then, where there are any, on halves of the channels of 2 × 2 blocks of pixels
/// ([`By`]). The halves take turns as the one that changes. A step is
///
/// - a normalisation, `e exp(s) + b` with a number of each for every element, which starts from
///   data;
/// - a product of each pixel's channels with a matrix, near the identity at first: of columns one
///   for each half, and none where there is one channel, of which it would be a second scale; of
///   channels one for all;
/// - a mixture-logistic coupling, by a network of a 3 × 3 convolution, gated blocks, each followed
///   by attention over the pixels and both by layer norms, and a convolution.
///
/// The networks see the row through a context, one for all steps of a split: both halves of its
/// levels through a convolution and three gated blocks. Where the width is odd the second half
/// lacks a column, for which networks see zeros.
#[derive(Debug)]
pub(super) struct FlowPlusPlus {
    /// Channels, height and width.
    image: [i64; 3],
    components: i64,
    heads: i64,
    stages: Vec<Stage>,
}

/// Steps of one split, and what they see of a row.
#[derive(Debug)]
struct Stage {
    split: Split,
    context: (usize, Vec<Gated>),
    steps: Vec<Step>,
}

#[derive(Debug)]
struct Step {
    /// Index of `s` `[1, c, h, w]`; `b` follows it.
    norm: usize,
    /// What is added to the identity, for each of [`Split::matrices`].
    mix: Vec<usize>,
    input: usize,
    blocks: Vec<Block>,
    output: usize,
}

#[derive(Debug)]
struct Block {
    gated: Gated,
    /// Index of a layer norm's weight; its bias follows it.
    norm: usize,
    attention: Option<Attention>,
}

/// Two convolutions around a shortcut, the second's outputs halved by a gate.
#[derive(Debug)]
struct Gated {
    first: usize,
    /// Of the context.
    context: Option<usize>,
    second: usize,
}

#[derive(Debug)]
struct Attention {
    /// `[1, width, …]`, a half's height and width.
    position: usize,
    /// To queries, keys and values.
    input: usize,
    output: usize,
    norm: usize,
}

/// Blocks of the context.
const CONTEXT_BLOCKS: usize = 3;
/// Gain before a gate, and standard deviations of matrices of channels and of positions (Flow++).
const GATE_GAIN: f64 = 0.1;
const MIX_SD: f64 = 0.001;
const POSITION_SD: f64 = 0.01;
/// Of a layer norm.
const EPSILON: f64 = 1e-5;

/// Parameters in the kind that is computed in.
struct Pass<'a> {
    parameters: &'a Parameters,
    kind: Kind,
}

impl Pass<'_> {
    fn get(&self, index: usize) -> Tensor {
        self.parameters.get(index).to_kind(self.kind)
    }

    fn convolve(&self, index: usize, x: &Tensor) -> Tensor {
        let weight = self.get(index);
        let padding = weight.size()[2] / 2;
        x.conv2d(&weight, Some(self.get(index + 1)), 1, padding, 1, 1)
    }

    /// Over channels.
    fn layer_norm(&self, index: usize, x: &Tensor) -> Tensor {
        let last = x.permute([0, 2, 3, 1]);
        let (weight, bias) = (self.get(index), self.get(index + 1));
        let normed = last.layer_norm([weight.size()[0]], Some(weight), Some(bias), EPSILON, false);
        normed.permute([0, 3, 1, 2])
    }
}

/// `elu` of `x` and of `−x`: twice the channels.
fn concat_elu(x: &Tensor) -> Tensor {
    Tensor::cat(&[x, &-x], 1).elu()
}

/// A matrix times the channels of every pixel; there need not be any.
fn product(matrix: &Tensor, x: &Tensor) -> Tensor {
    Tensor::einsum("ij,njhw->nihw", &[matrix, x], None::<i64>)
}

/// The first half of the channels, times the sigmoid of the second.
fn gate(x: &Tensor) -> Tensor {
    let parts = x.chunk(2, 1);
    &parts[0] * parts[1].sigmoid()
}

/// Adds layers of one width.
struct Maker<'a> {
    builder: &'a mut Builder,
    width: i64,
    seed: Seed,
}

impl Maker<'_> {
    fn convolution(&mut self, name: &str, sizes: [i64; 2], size: i64, gain: f64) -> usize {
        self.builder.convolution(name, sizes[0], sizes[1], size, gain, self.seed)
    }

    fn layer_norm(&mut self, name: &str) -> usize {
        let index = self.builder.constant(format!("{name}.weight"), &[self.width], 1.0);
        self.builder.constant(format!("{name}.bias"), &[self.width], 0.0);
        index
    }

    fn gated(&mut self, name: &str, with_context: bool) -> Gated {
        let w = self.width;
        // products of pixels where there is a context, as in Flow++
        let size = if with_context { 1 } else { 3 };
        Gated {
            first: self.convolution(&format!("{name}.first"), [2 * w, w], 3, 1.0),
            context: with_context
                .then(|| self.convolution(&format!("{name}.context"), [2 * w, w], 1, 1.0)),
            second: self.convolution(&format!("{name}.second"), [2 * w, 2 * w], size, GATE_GAIN),
        }
    }

    fn attention(&mut self, name: &str, pixels: [i64; 2]) -> Attention {
        let w = self.width;
        let position = format!("{name}.position");
        let seed = self.seed.derive(&position);
        Attention {
            position: self.builder.normal(position, &[w, pixels[0], pixels[1]], POSITION_SD, seed),
            input: self.convolution(&format!("{name}.input"), [w, 3 * w], 1, 1.0),
            output: self.convolution(&format!("{name}.output"), [w, 2 * w], 1, GATE_GAIN),
            norm: self.layer_norm(&format!("{name}.norm")),
        }
    }
}

impl Gated {
    fn apply(&self, p: &Pass, x: &Tensor, context: Option<&Tensor>) -> Tensor {
        let mut h = p.convolve(self.first, &concat_elu(x));
        if let (Some(index), Some(context)) = (self.context, context) {
            h = h + p.convolve(index, &concat_elu(context));
        }
        x + gate(&p.convolve(self.second, &concat_elu(&h)))
    }
}

impl Attention {
    fn apply(&self, p: &Pass, x: &Tensor, heads: i64) -> Tensor {
        let (n, width, height, columns) = x.size4().expect("an image");
        let placed = p.convolve(self.input, &(x + p.get(self.position).unsqueeze(0)));
        let parts = placed.reshape([n, 3, heads, width / heads, -1]).transpose(3, 4);
        let part = |i: i64| parts.select(1, i);
        let mixed = Tensor::scaled_dot_product_attention(
            &part(0),
            &part(1),
            &part(2),
            None::<Tensor>,
            0.0,
            false,
            None,
            false,
        );
        let mixed = mixed.transpose(2, 3).reshape([n, width, height, columns]);
        p.layer_norm(self.norm, &(x + gate(&p.convolve(self.output, &mixed))))
    }
}

impl Stage {
    /// Steps by one split; the names of their parameters begin with `prefix`.
    fn new(
        split: Split,
        prefix: &str,
        steps: usize,
        (config, blocks, heads): (&VariationalConfig, usize, i64),
        maker: &mut Maker,
    ) -> Stage {
        let ([channels, height, width], seed) = (split.half(), maker.seed);
        let inputs = [2 * channels, config.width];
        let context = (
            maker.convolution(&format!("{prefix}context.input"), inputs, 3, 1.0),
            (0..CONTEXT_BLOCKS)
                .map(|i| maker.gated(&format!("{prefix}context.{i}"), false))
                .collect(),
        );
        let step = |number: usize| {
            let name = |part: &str| format!("{prefix}step.{number}.{part}");
            let [c, h, w] = split.image;
            let norm = maker.builder.constant(name("norm.scale"), &[1, c, h, w], 0.0);
            maker.builder.constant(name("norm.shift"), &[1, c, h, w], 0.0);
            let (names, size) = split.matrices();
            let matrix = |part: &&str| {
                let name = name(part);
                let seed = seed.derive(&name);
                maker.builder.normal(name, &[size, size], MIX_SD, seed)
            };
            let mix = names.iter().map(matrix).collect();
            let outputs = channels * (3 * config.components + 2);
            Step {
                norm,
                mix,
                input: maker.convolution(&name("input"), [channels, config.width], 3, 1.0),
                blocks: (0..blocks)
                    .map(|i| {
                        let name = name(&format!("block.{i}"));
                        Block {
                            gated: maker.gated(&name, true),
                            norm: maker.layer_norm(&format!("{name}.norm")),
                            attention: (heads > 0).then(|| {
                                maker.attention(&format!("{name}.attention"), [height, width])
                            }),
                        }
                    })
                    .collect(),
                output: maker.convolution(&name("output"), [config.width, outputs], 3, LAST_GAIN),
            }
        };
        let steps = (0..steps).map(step).collect();
        Stage { split, context, steps }
    }

    /// What the networks see of images of levels, `[n, width, …]` of a half's height and width.
    fn context(&self, p: &Pass, images: &Tensor) -> Tensor {
        let [first, second] = self.split.split(images);
        let both = Tensor::cat(&[&first, &self.split.padded(&second)], 1);
        let h = p.convolve(self.context.0, &both);
        self.context.1.iter().fold(h, |h, block| block.apply(p, &h, None))
    }

    /// The matrices of a step.
    fn matrices(&self, p: &Pass, step: &Step) -> Vec<Tensor> {
        let matrix = |index: &usize| {
            let added = p.get(*index);
            Tensor::eye(added.size()[0], (added.kind(), added.device())) + added
        };
        step.mix.iter().map(matrix).collect()
    }
}

impl FlowPlusPlus {
    pub fn new(
        config: &VariationalConfig,
        (blocks, heads, channel_couplings): (usize, i64, usize),
        builder: &mut Builder,
        image: [i64; 3],
        seed: Seed,
    ) -> FlowPlusPlus {
        let maker = &mut Maker { builder, width: config.width, seed };
        let stages =
            [(By::Columns, "", config.couplings), (By::Channels, "channels.", channel_couplings)];
        let stages = stages
            .into_iter()
            .filter(|(.., steps)| *steps > 0)
            .map(|(by, prefix, steps)| {
                Stage::new(Split::new(by, image), prefix, steps, (config, blocks, heads), maker)
            })
            .collect();
        FlowPlusPlus { image, components: config.components, heads, stages }
    }

    /// Levels `[n, m]` as images.
    fn images(&self, x: &Tensor) -> Tensor {
        let [channels, height, width] = self.image;
        x.view([-1, channels, height, width])
    }

    /// As [`super::Variational::flow`].
    pub fn apply(&self, parameters: &Parameters, e: &Tensor, x: &Tensor) -> (Tensor, Tensor) {
        let p = &Pass { parameters, kind: e.kind() };
        let mut v = self.images(e);
        let mut log_det = Tensor::zeros([e.size()[0]], (e.kind(), e.device()));
        for stage in &self.stages {
            let context = stage.context(p, &self.images(x));
            for number in 0..stage.steps.len() {
                let (next, log_slope) = self.step(p, (stage, number), &v, &context);
                (v, log_det) = (next, log_det + log_slope);
            }
        }
        (v.flatten(1, 3), log_det)
    }

    /// One step: the next image, and the log-determinant `[n]`, or `[]` where it is one for all.
    fn step(
        &self,
        p: &Pass,
        (stage, number): (&Stage, usize),
        v: &Tensor,
        context: &Tensor,
    ) -> (Tensor, Tensor) {
        let (split, step) = (&stage.split, &stage.steps[number]);
        let scale = p.get(step.norm);
        let mut log_det = scale.sum(None::<Kind>);
        let halves = split.split(&(v * scale.exp() + p.get(step.norm + 1)));
        let matrices = stage.matrices(p, step);
        for (matrix, half) in matrices.iter().zip(&halves) {
            let pixels = half.size()[2] * half.size()[3];
            log_det = log_det + matrix.slogdet().1 * pixels as f64;
        }
        let mut halves = split.mix(halves, &matrices);
        let (given, changed) = (number % 2, 1 - number % 2);
        let columns = halves[changed].size()[3];
        let raw = self.network(p, (stage, step), &halves[given], context, columns);
        let (moved, log_slope) = mixture_logistic(&halves[changed], &raw, self.components);
        halves[changed] = moved;
        (
            split.join(&halves),
            log_det + log_slope.sum_dim_intlist([1i64, 2, 3].as_slice(), false, None),
        )
    }

    /// Raw outputs `[n, c, h, columns, 3K + 2]` for the other half, which has so many columns.
    fn network(
        &self,
        p: &Pass,
        (stage, step): (&Stage, &Step),
        given: &Tensor,
        context: &Tensor,
        columns: i64,
    ) -> Tensor {
        let mut h = p.convolve(step.input, &stage.split.padded(given));
        for block in &step.blocks {
            h = p.layer_norm(block.norm, &block.gated.apply(p, &h, Some(context)));
            if let Some(attention) = &block.attention {
                h = attention.apply(p, &h, self.heads);
            }
        }
        let raw = p.convolve(step.output, &h).narrow(3, 0, columns);
        raw.unflatten(1, [stage.split.half()[0], 3 * self.components + 2]).permute([0, 1, 3, 4, 2])
    }

    /// Whether the normalisations are still as they were made.
    pub fn is_new(&self, parameters: &Parameters) -> bool {
        let zero = |index| parameters.get(index).abs().max().double_value(&[]) == 0.0;
        let mut steps = self.stages.iter().flat_map(|stage| &stage.steps);
        steps.all(|step| zero(step.norm) && zero(step.norm + 1))
    }

    /// Sets each normalisation in turn so that over these `e` and `x` `[n, m]` every channel comes
    /// out of it with the mean and the variance of the noise itself, 0 and `π²/3`: the standard
    /// logistic takes the place of Flow++'s normal, so that `q` stays near uniform. Flow++ does it
    /// by element; the parameters are by element here too, but their start, which would have the
    /// noise of few rows in it, is by channel.
    pub fn start(&self, parameters: &Parameters, e: &Tensor, x: &Tensor) {
        let p = &Pass { parameters, kind: e.kind() };
        let mut v = self.images(e);
        for stage in &self.stages {
            let context = stage.context(p, &self.images(x));
            for (number, step) in stage.steps.iter().enumerate() {
                let over = [0i64, 2, 3].as_slice();
                let variance = v.var_dim(over, false, true);
                let scale = ((variance + 1e-6).log() - (PI * PI / 3.0).ln()) * -0.5;
                let shift = -v.mean_dim(over, true, None::<Kind>) * scale.exp();
                for (index, value) in [(step.norm, scale), (step.norm + 1, shift)] {
                    no_grad(|| {
                        let mut of_elements = parameters.get(index).shallow_clone();
                        of_elements.copy_(&value.expand_as(&of_elements));
                    });
                }
                v = self.step(p, (stage, number), &v, &context).0;
            }
        }
    }
}

#[cfg(test)]
mod tests;
