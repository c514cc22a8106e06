//! Couplings alone, by small networks.

use tch::{Device, Tensor};

use super::{LAST_GAIN, VariationalConfig, mixture_logistic};
use crate::model::{Builder, Parameters, linear};
use crate::noise::Seed;
use crate::tensor::sum_last;

/// Each step changes every second element, of a checkerboard over an image or of a table's levels,
/// given the others and the row, by a network of three layers, 3 × 3 convolutions for an image and
/// linear ones for a table.
#[derive(Debug)]
pub(super) struct Plain {
    /// Channels, height and width.
    image: Option<[i64; 3]>,
    components: i64,
    /// Of the levels, 1 for those that are given and 0 for those that change, at even and odd
    /// steps: `[2, m]`.
    given: Tensor,
    /// The three weights of each step; biases follow them.
    layers: Vec<[usize; 3]>,
}

impl Plain {
    /// For `m` levels among `d` columns.
    pub fn new(
        config: &VariationalConfig,
        builder: &mut Builder,
        image: Option<[i64; 3]>,
        (m, d): (i64, i64),
        device: Device,
        seed: Seed,
    ) -> Plain {
        let outputs = 3 * config.components + 2;
        let layers = (0..config.couplings)
            .map(|step| {
                let name = |layer: usize| format!("coupling.{step}.{layer}");
                let sizes = match image {
                    Some([channels, ..]) => {
                        [2 * channels + 1, config.width, config.width, channels * outputs]
                    }
                    None => [m + d, config.width, config.width, m * outputs],
                };
                [0, 1, 2].map(|layer| {
                    let gain = if layer == 2 { LAST_GAIN } else { 1.4 };
                    let (inputs, outputs) = (sizes[layer], sizes[layer + 1]);
                    match image {
                        Some(_) => {
                            builder.convolution(&name(layer), inputs, outputs, 3, gain, seed)
                        }
                        None => builder.linear(&name(layer), 1, inputs, outputs, gain, seed),
                    }
                })
            })
            .collect();
        let even: Vec<f32> = (0..m)
            .map(|i| match image {
                Some([_, height, width]) => ((i / width % height + i % width) % 2) as f32,
                None => (i % 2) as f32,
            })
            .collect();
        let even = Tensor::from_slice(&even);
        let given = Tensor::stack(&[&even, &(1.0 - &even)], 0).to_device(device);
        Plain { image, components: config.components, given, layers }
    }

    /// As [`super::Variational::flow`].
    pub fn apply(&self, parameters: &Parameters, e: &Tensor, x: &Tensor) -> (Tensor, Tensor) {
        let mut v = e.shallow_clone();
        let mut log_det = Tensor::zeros([e.size()[0]], (e.kind(), e.device()));
        for step in 0..self.layers.len() {
            let (next, log_slope) = self.couple(parameters, step, &v, x);
            (v, log_det) = (next, log_det + log_slope);
        }
        (v, log_det)
    }

    /// One step: `e'` and `ln |d e'/d e|` `[n]`.
    fn couple(
        &self,
        parameters: &Parameters,
        step: usize,
        e: &Tensor,
        x: &Tensor,
    ) -> (Tensor, Tensor) {
        let given = self.given.get(step as i64 % 2).to_kind(e.kind());
        let raw = self.network(parameters, step, &(e * &given), x);
        let (moved, log_slope) = mixture_logistic(e, &raw, self.components);
        let changed = 1.0 - &given;
        (e * given + moved * &changed, sum_last(&(log_slope * changed)))
    }

    /// Raw outputs of a step's network at the given part of `e` `[n, m]` and rows `x` `[n, d]`:
    /// `[n, m, 3K + 2]`.
    fn network(&self, parameters: &Parameters, step: usize, e: &Tensor, x: &Tensor) -> Tensor {
        let p = |index: usize| parameters.get(index).to_kind(e.kind());
        let (n, m) = e.size2().expect("elements");
        let outputs = 3 * self.components + 2;
        let Some([channels, height, width]) = self.image else {
            let mut h = Tensor::cat(&[e, x], 1).unsqueeze(0);
            for (i, &layer) in self.layers[step].iter().enumerate() {
                let input = if i > 0 { h.silu() } else { h };
                h = linear(&input, &p(layer), &p(layer + 1));
            }
            return h.view([n, m, outputs]);
        };
        let picture = |rows: &Tensor| rows.view([n, channels, height, width]);
        // where the given pixels are: a convolution cannot tell
        let given = self
            .given
            .get(step as i64 % 2)
            .to_kind(e.kind())
            .view([1, channels, height, width])
            .narrow(1, 0, 1);
        let mut h = Tensor::cat(&[picture(e), picture(x), given.expand([n, -1, -1, -1], false)], 1);
        for (i, &layer) in self.layers[step].iter().enumerate() {
            let input = if i > 0 { h.silu() } else { h };
            h = input.conv2d(&p(layer), Some(p(layer + 1)), 1, 1, 1, 1);
        }
        h.view([n, channels, outputs, height, width])
            .permute([0, 1, 3, 4, 2])
            .reshape([n, m, outputs])
    }
}
