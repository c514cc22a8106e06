//! Variational dequantisation: a normalising flow within the bin, learned against a frozen model.

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor, no_grad};

use super::{Bins, Dequantized, Dequantizer, level_columns};
use crate::data::Scaling;
use crate::model::{Builder, Parameters, linear};
use crate::noise::{Noise, Seed};
use crate::tensor::{sum_last, to_vec};
use crate::{Error, Result};

/// A [`Variational`] as plain data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VariationalConfig {
    /// Coupling steps.
    pub couplings: usize,
    /// Logistic components of a coupling.
    pub components: i64,
    /// Hidden units, or channels, of a coupling's network.
    pub width: i64,
}

impl Default for VariationalConfig {
    fn default() -> Self {
        VariationalConfig { couplings: 4, components: 4, width: 64 }
    }
}

/// `q(y|x)` of Flow++ (Ho et al. 2019, §3.1 and §3.3; ScoreFlow, §5.2): noise `e` goes through
/// coupling steps and a sigmoid to a place in each level's bin,
/// `y = lower + sigmoid(v) (upper − lower)`, and
///
/// `ln q(y|x) = ln p(e) − Σ ln |d step| − Σ_j [ln sigmoid'(v_j) + ln(upper_j − lower_j)]`, exactly.
///
/// A step changes every second element, of a checkerboard over an image or of a table's levels,
/// given the others and the row: `e' = logit(F(e)) exp(a) + b`, `F` a mixture of logistic
/// distribution functions, by a network of three layers, 3 × 3 convolutions for an image and linear
/// ones for a table. Everything is in log space; log-scales and `a` are held within ±3 by
/// `3 tanh(·/3)`, so that no step stretches by more than `e⁶`.
///
/// `e` is standard logistic where Flow++ has a normal: steps start near the identity, so that `q`
/// is near uniform before any training. Everything is computed in the kind of `e`: f32 in training,
/// f64 for a likelihood.
#[derive(Debug)]
pub struct Variational {
    config: VariationalConfig,
    scaling: Scaling,
    /// Channels, height and width.
    image: Option<[i64; 3]>,
    /// The columns that are levels, `[m]`.
    columns: Tensor,
    /// Of the levels, 1 for those that are given and 0 for those that change, at even and odd
    /// steps: `[2, m]`.
    given: Tensor,
    parameters: Parameters,
    /// The three weights of each step; biases follow them.
    layers: Vec<[usize; 3]>,
}

/// Points within their bins.
pub(super) struct Points {
    /// In the network's units, `[n, m]`.
    pub y: Tensor,
    /// `ln q(y|x)`, `[n]`.
    pub log_q: Tensor,
}

/// Bound of log-scales.
const BOUND: f64 = 3.0;
/// Gain of a network's last layer: small, so that steps start near the identity, and not 0, so that
/// components differ.
const LAST_GAIN: f64 = 0.03;
/// Rows that go through the networks at once.
const ROWS: i64 = 1024;
const IMAGES: i64 = 64;
const MOST: usize = 10_000;

impl VariationalConfig {
    /// The dequantiser of rows of `scaling`, of images where they have a shape (channels, height,
    /// width), with weights drawn from `seed`.
    ///
    /// # Errors
    /// If a number is 0, or no column holds levels.
    pub fn init(
        &self,
        scaling: &Scaling,
        image: Option<[usize; 3]>,
        device: Device,
        seed: Seed,
    ) -> Result<Variational> {
        self.check()?;
        let columns = level_columns(scaling);
        let (m, d) = (columns.size()[0], scaling.dim() as i64);
        if m == 0 {
            let remedy = "train on dequantised columns (data.scaling.dequantize), or give uniform";
            return Err(Error::config(
                "dequantization",
                "variational, for a run without levels",
                remedy,
            ));
        }
        let image = image.map(|shape| shape.map(|n| n as i64));
        let mut builder = Builder::default();
        let layers = self.lay_out(&mut builder, image, m, d, seed);
        let even: Vec<f32> = (0..m)
            .map(|i| match image {
                Some([_, height, width]) => ((i / width % height + i % width) % 2) as f32,
                None => (i % 2) as f32,
            })
            .collect();
        let even = Tensor::from_slice(&even);
        Ok(Variational {
            config: self.clone(),
            scaling: scaling.clone(),
            image,
            given: Tensor::stack(&[&even, &(1.0 - &even)], 0).to_device(device),
            columns,
            parameters: builder.finish(device),
            layers,
        })
    }

    fn check(&self) -> Result<()> {
        Error::check_count("couplings", self.couplings, MOST)?;
        Error::check_count("components", self.components, MOST)?;
        Error::check_count("width", self.width, MOST)
    }

    /// The number of parameters of [`VariationalConfig::init`], without making any.
    ///
    /// # Errors
    /// If a number is 0.
    pub fn size(&self, scaling: &Scaling, image: Option<[usize; 3]>) -> Result<i64> {
        self.check()?;
        let m = level_columns(scaling).size()[0];
        let mut builder = Builder::counting();
        let image = image.map(|shape| shape.map(|n| n as i64));
        self.lay_out(&mut builder, image, m, scaling.dim() as i64, Seed(0));
        Ok(builder.size())
    }

    /// The three weights of each step, for `m` levels among `d` columns.
    fn lay_out(
        &self,
        builder: &mut Builder,
        image: Option<[i64; 3]>,
        m: i64,
        d: i64,
        seed: Seed,
    ) -> Vec<[usize; 3]> {
        let outputs = 3 * self.components + 2;
        (0..self.couplings)
            .map(|step| {
                let name = |layer: usize| format!("coupling.{step}.{layer}");
                let sizes = match image {
                    Some([channels, ..]) => {
                        [2 * channels + 1, self.width, self.width, channels * outputs]
                    }
                    None => [m + d, self.width, self.width, m * outputs],
                };
                [0, 1, 2].map(|layer| {
                    let gain = if layer == 2 { LAST_GAIN } else { 1.4 };
                    let (inputs, outputs) = (sizes[layer], sizes[layer + 1]);
                    match image {
                        Some(_) => {
                            let shape = [outputs, inputs, 3, 3];
                            let sd = gain / (9.0 * inputs as f64).sqrt();
                            let (weight, bias) = (
                                format!("{}.weight", name(layer)),
                                format!("{}.bias", name(layer)),
                            );
                            let index =
                                builder.normal(weight, &shape, sd, seed.derive(&name(layer)));
                            builder.constant(bias, &[outputs], 0.0);
                            index
                        }
                        None => builder.linear(&name(layer), 1, inputs, outputs, gain, seed),
                    }
                })
            })
            .collect()
    }
}

impl Variational {
    /// How it was made.
    pub fn config(&self) -> &VariationalConfig {
        &self.config
    }

    /// The networks' parameters.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn device(&self) -> Device {
        self.parameters.flat().device()
    }

    /// Raw outputs of a step's network at the given part of `e` `[n, m]` and rows `x` `[n, d]`:
    /// `[n, m, 3K + 2]`.
    fn network(&self, step: usize, e: &Tensor, x: &Tensor) -> Tensor {
        let p = |index: usize| self.parameters.get(index).to_kind(e.kind());
        let (n, m) = e.size2().expect("elements");
        let outputs = 3 * self.config.components + 2;
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

    /// One step: `e'` and `ln |d e'/d e|` `[n]`.
    fn couple(&self, step: usize, e: &Tensor, x: &Tensor) -> (Tensor, Tensor) {
        let given = self.given.get(step as i64 % 2).to_kind(e.kind());
        let raw = self.network(step, &(e * &given), x);
        let (moved, log_slope) = mixture_logistic(e, &raw, self.config.components);
        let changed = 1.0 - &given;
        (e * given + moved * &changed, sum_last(&(log_slope * changed)))
    }

    /// Noise `e` `[n, m]` brought into the bins of rows `x` `[n, d]` between `lower` and `upper`
    /// `[n, m]`.
    fn place(&self, e: &Tensor, x: &Tensor, lower: &Tensor, upper: &Tensor) -> Points {
        let log_sigmoid_slope = |v: &Tensor| sum_last(&(v.log_sigmoid() + v.neg().log_sigmoid()));
        // the standard logistic density is the sigmoid's slope
        let mut log_q = log_sigmoid_slope(e);
        let mut v = e.shallow_clone();
        for step in 0..self.config.couplings {
            let (next, log_slope) = self.couple(step, &v, x);
            (v, log_q) = (next, log_q - log_slope);
        }
        let width = upper - lower;
        log_q = log_q - log_sigmoid_slope(&v) - sum_last(&width.log());
        Points { y: lower + v.sigmoid() * width, log_q }
    }

    /// Standard logistic noise for `n` rows, `[n, m]`.
    fn noise(&self, noise: &mut Noise) -> Tensor {
        let m = self.columns.size()[0];
        // uniforms are multiples of 2⁻⁵³: their middles lie within (0, 1)
        let half = 0.5f64.powi(54);
        let e: Vec<f64> = noise
            .uniform(m as usize)
            .into_iter()
            .map(|u| ((u + half) / (1.0 - u - half)).ln())
            .collect();
        Tensor::from_slice(&e).view([-1, m])
    }

    /// Points for `levels`, `y` being whole rows `[n, d]`; differentiable in the parameters, in f32
    /// on their device.
    pub(super) fn draw(&self, levels: &[f32], noise: &mut Noise) -> Points {
        let (bins, device) = (Bins::new(levels, &self.scaling), self.device());
        let to = |x: &Tensor| x.to_kind(Kind::Float).to_device(device);
        let [lower, _, upper] = bins.of(&self.columns);
        let x = to(&bins.centre);
        let Points { y, log_q } = self.place(&to(&self.noise(noise)), &x, &to(&lower), &to(&upper));
        Points { y: x.index_copy(1, &self.columns.to_device(device), &y), log_q }
    }
}

impl Dequantizer for Variational {
    fn dequantize(&self, levels: &[f32], noise: &mut Noise) -> Dequantized {
        let (bins, device) = (Bins::new(levels, &self.scaling), self.device());
        let [lower, _, upper] = bins.of(&self.columns);
        let e = self.noise(noise);
        let (n, at_once) = (e.size()[0], if self.image.is_some() { IMAGES } else { ROWS });
        let (mut points, mut log_q) = (Vec::new(), Vec::new());
        for start in (0..n).step_by(at_once as usize) {
            let part = |x: &Tensor| x.narrow(0, start, at_once.min(n - start)).to_device(device);
            let placed = no_grad(|| {
                self.place(&part(&e), &part(&bins.centre), &part(&lower), &part(&upper))
            });
            points.push(placed.y.to_device(Device::Cpu));
            log_q.extend(to_vec(&placed.log_q));
        }
        let rows = match points.is_empty() {
            true => bins.centre,
            false => bins.with(&self.columns, &Tensor::cat(&points, 0)),
        };
        let offsets =
            bins.log_units.iter().zip(log_q).map(|(units, log_q)| units - log_q).collect();
        Dequantized { rows, offsets }
    }
}

/// `e' = logit(F(e)) exp(a) + b` and `ln de'/de`, elementwise, for `e` `[n, m]` and raw outputs
/// `[n, m, 3K + 2]`: logits of weights, means and log-scales of `F`, then `a` and `b`.
fn mixture_logistic(e: &Tensor, raw: &Tensor, components: i64) -> (Tensor, Tensor) {
    let bounded = |x: Tensor| (x / BOUND).tanh() * BOUND;
    let part = |i: i64| raw.narrow(-1, i * components, components);
    let log_weights = part(0).log_softmax(-1, None::<Kind>);
    let log_scales = bounded(part(2));
    let (a, b) = (bounded(raw.select(-1, 3 * components)), raw.select(-1, 3 * components + 1));
    let z = (e.unsqueeze(-1) - part(1)) * (-&log_scales).exp();
    let (below, above) = (z.log_sigmoid(), z.neg().log_sigmoid());
    let sum = |x: Tensor| (x + &log_weights).logsumexp([-1i64].as_slice(), false);
    let log_density = sum(&below + &above - log_scales);
    let (log_below, log_above) = (sum(below), sum(above));
    let moved = (&log_below - &log_above) * a.exp() + b;
    (moved, a + log_density - log_below - log_above)
}

#[cfg(test)]
mod tests;
