//! Layers of the U-Net and of autoencoders on images `[b, C, H, W]`. Parameters have diffusers'
//! names and shapes.

use tch::Tensor;

use super::{Resample, UNetConfig, Weights};
use crate::model::layers::{Conv, Linear, Pass, attention};
use crate::model::parameters::Builder;
use crate::noise::Seed;

/// Adds layers to a buffer of parameters.
pub(crate) struct Maker<'a> {
    pub builder: &'a mut Builder,
    pub config: &'a UNetConfig,
    pub seed: Seed,
}

impl Maker<'_> {
    /// A weight `[outputs, inputs, …]` of mean 0 and variance `gain²/fan-in`, or at most the
    /// inverse of the mean of both fans.
    fn weight(&mut self, name: &str, shape: &[i64], gain: f64) -> usize {
        let (weight, seed) = (format!("{name}.weight"), self.seed.derive(name));
        let pixels: i64 = shape[2..].iter().product();
        let fan_in = shape[1] * pixels;
        match self.config.weights {
            Weights::FanIn => {
                self.builder.normal(weight, shape, gain / (fan_in as f64).sqrt(), seed)
            }
            Weights::FanAverage => {
                let fans = 0.5 * (fan_in + shape[0] * pixels) as f64;
                self.builder.uniform(weight, shape, gain.min(1.0) / fans.sqrt(), seed)
            }
        }
    }

    /// [`Maker::weight`] and a bias of zeros.
    fn weight_and_bias(&mut self, name: &str, shape: &[i64], gain: f64) -> usize {
        let index = self.weight(name, shape, gain);
        self.builder.constant(format!("{name}.bias"), &shape[..1], 0.0);
        index
    }

    pub fn linear(&mut self, name: &str, inputs: i64, outputs: i64, gain: f64) -> Linear {
        Linear(self.weight_and_bias(name, &[outputs, inputs], gain))
    }

    pub fn conv(&mut self, name: &str, inputs: i64, outputs: i64, size: i64, gain: f64) -> Conv {
        let weight = self.weight_and_bias(name, &[outputs, inputs, size, size], gain);
        Conv { weight, bias: true, stride: 1, padding: size / 2 }
    }

    pub fn conv_without_bias(&mut self, name: &str, inputs: i64, outputs: i64, size: i64) -> Conv {
        let weight = self.weight(name, &[outputs, inputs, size, size], 1.0);
        Conv { weight, bias: false, stride: 1, padding: size / 2 }
    }

    pub fn norm(&mut self, name: &str, channels: i64) -> Norm {
        let weight = self.builder.constant(format!("{name}.weight"), &[channels], 1.0);
        self.builder.constant(format!("{name}.bias"), &[channels], 0.0);
        Norm { weight, groups: self.config.groups_of(channels), epsilon: self.config.norm_epsilon }
    }

    pub fn res_block(&mut self, name: &str, inputs: i64, outputs: i64) -> ResBlock {
        self.resampling_block(name, inputs, outputs, None)
    }

    /// A block of a network that knows no time, as autoencoders are.
    pub fn timeless_block(&mut self, name: &str, inputs: i64, outputs: i64) -> ResBlock {
        self.block(name, [inputs, outputs], None, false)
    }

    /// A block to another resolution; its shortcut has a convolution whatever its channels.
    pub fn resampling_block(
        &mut self,
        name: &str,
        inputs: i64,
        outputs: i64,
        resampling: Option<Resampling>,
    ) -> ResBlock {
        self.block(name, [inputs, outputs], resampling, true)
    }

    fn block(
        &mut self,
        name: &str,
        [inputs, outputs]: [i64; 2],
        resampling: Option<Resampling>,
        timed: bool,
    ) -> ResBlock {
        let time_outputs = if self.config.scale_shift { 2 * outputs } else { outputs };
        let time_inputs = self.config.time_features();
        ResBlock {
            norm1: self.norm(&format!("{name}.norm1"), inputs),
            conv1: self.conv(&format!("{name}.conv1"), inputs, outputs, 3, 1.4),
            time: timed.then(|| {
                self.linear(&format!("{name}.time_emb_proj"), time_inputs, time_outputs, 1.0)
            }),
            norm2: self.norm(&format!("{name}.norm2"), outputs),
            // the block starts as the identity
            conv2: self.conv(&format!("{name}.conv2"), outputs, outputs, 3, 0.0),
            resampling,
            shortcut: (inputs != outputs || resampling.is_some())
                .then(|| self.conv(&format!("{name}.conv_shortcut"), inputs, outputs, 1, 1.0)),
            scale_shift: self.config.scale_shift,
            dropout: self.config.dropout,
            scale: self.config.residual_scale(),
        }
    }

    pub fn attention(&mut self, name: &str, channels: i64) -> Attention {
        let per_head = if self.config.head_dim == 0 { channels } else { self.config.head_dim };
        let gain = match self.config.weights {
            Weights::FanIn => 1.0,
            // score_sde's `NIN`
            Weights::FanAverage => 0.1f64.sqrt(),
        };
        let mut linear = |part: &str, gain: f64| {
            self.linear(&format!("{name}.{part}"), channels, channels, gain)
        };
        let [query, key, value] = ["to_q", "to_k", "to_v"].map(|part| linear(part, gain));
        let output = linear("to_out.0", 0.0);
        Attention {
            norm: self.norm(&format!("{name}.group_norm"), channels),
            query,
            key,
            value,
            output,
            heads: channels / per_head,
            scale: self.config.residual_scale(),
        }
    }
}

/// Group normalisation; the bias follows the weight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Norm {
    weight: usize,
    groups: i64,
    epsilon: f64,
}

impl Norm {
    pub fn apply(self, p: &Pass, x: &Tensor) -> Tensor {
        let (weight, bias) = (p.get(self.weight), p.get(self.weight + 1));
        // statistics need f32's digits
        x.to_kind(weight.kind()).group_norm(
            self.groups,
            Some(weight),
            Some(bias),
            self.epsilon,
            true,
        )
    }
}

/// To another resolution, without parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Resampling {
    /// The mean of 2 × 2 pixels.
    Mean,
    /// Each pixel four times.
    Repeat,
    /// The filter (1, 3, 3, 1)/8 in both directions, and every second pixel.
    FirDown,
    /// Pixels with zeros between them, and twice that filter in both directions.
    FirUp,
}

impl Resampling {
    /// To half the height and width or to twice, where blocks do it.
    pub fn of(config: &UNetConfig, up: bool) -> Option<Resampling> {
        match (config.resample, up) {
            (Resample::Convolution, _) => None,
            (Resample::Residual, false) => Some(Resampling::Mean),
            (Resample::Residual, true) => Some(Resampling::Repeat),
            (Resample::ResidualFir, false) => Some(Resampling::FirDown),
            (Resample::ResidualFir, true) => Some(Resampling::FirUp),
        }
    }

    /// StyleGAN2's resampling (Karras et al. 2020), pixels outside being 0.
    fn apply(self, x: &Tensor) -> Tensor {
        let (_, channels, height, width) = x.size4().expect("an image");
        let filter = |gain: f64| {
            let line = Tensor::from_slice(&[1.0, 3.0, 3.0, 1.0]) * (gain / 8.0);
            let plane = line.outer(&line).to_device(x.device()).to_kind(x.kind());
            plane.view([1, 1, 4, 4]).expand([channels, 1, 4, 4], false)
        };
        match self {
            Resampling::Mean => x.avg_pool2d([2, 2], [2, 2], [0, 0], false, true, None),
            Resampling::Repeat => x.upsample_nearest2d([2 * height, 2 * width], None, None),
            Resampling::FirDown => {
                x.conv2d(&filter(1.0), None::<Tensor>, [2, 2], [1, 1], [1, 1], channels)
            }
            Resampling::FirUp => x.conv_transpose2d(
                &filter(2.0),
                None::<Tensor>,
                [2, 2],
                [1, 1],
                [0, 0],
                channels,
                [1, 1],
            ),
        }
    }
}

/// Group norm, SiLU and convolution twice, the time in between, around a shortcut; where it changes
/// the resolution, before the first convolution and on the shortcut (Brock et al. 2019).
#[derive(Clone, Copy, Debug)]
pub(crate) struct ResBlock {
    resampling: Option<Resampling>,
    norm1: Norm,
    conv1: Conv,
    /// None of a network that knows no time.
    time: Option<Linear>,
    norm2: Norm,
    conv2: Conv,
    shortcut: Option<Conv>,
    scale_shift: bool,
    dropout: f64,
    scale: f64,
}

impl ResBlock {
    /// `time` `[b, features]`, after its own SiLU; none of a network that knows no time.
    pub fn apply(&self, p: &Pass, x: &Tensor, time: Option<&Tensor>) -> Tensor {
        let resampled = |x: Tensor| match self.resampling {
            Some(resampling) => resampling.apply(&x),
            None => x,
        };
        let h = self.conv1.apply(p, &resampled(self.norm1.apply(p, x).silu()));
        let time = self
            .time
            .zip(time)
            .map(|(layer, time)| layer.apply(p, time).unsqueeze(-1).unsqueeze(-1));
        let h = match time {
            None => self.norm2.apply(p, &h),
            Some(time) if self.scale_shift => {
                let parts = time.chunk(2, 1);
                self.norm2.apply(p, &h) * (&parts[0] + 1.0) + &parts[1]
            }
            Some(time) => self.norm2.apply(p, &(h + time)),
        };
        let h = self.conv2.apply(p, &h.silu().dropout(self.dropout, p.training));
        let x = resampled(x.shallow_clone());
        let x = match self.shortcut {
            Some(conv) => conv.apply(p, &x),
            None => x,
        };
        rescaled(x + h, self.scale)
    }
}

fn rescaled(x: Tensor, scale: f64) -> Tensor {
    if scale == 1.0 { x } else { x * scale }
}

/// Self-attention over pixels around a shortcut.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attention {
    norm: Norm,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    heads: i64,
    scale: f64,
}

impl Attention {
    pub fn apply(&self, p: &Pass, x: &Tensor) -> Tensor {
        let (b, c, height, width) = x.size4().expect("an image");
        let pixels = self.norm.apply(p, x).view([b, c, height * width]).transpose(1, 2);
        let split = |layer: Linear| {
            layer.apply(p, &pixels).view([b, -1, self.heads, c / self.heads]).transpose(1, 2)
        };
        let (query, key, value) = (split(self.query), split(self.key), split(self.value));
        let mixed = attention(&query, &key, &value);
        let mixed = mixed.transpose(1, 2).reshape([b, -1, c]);
        let h = self.output.apply(p, &mixed).transpose(1, 2).reshape([b, c, height, width]);
        rescaled(h + x, self.scale)
    }
}
