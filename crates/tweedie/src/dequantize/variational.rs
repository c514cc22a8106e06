//! Variational dequantisation: a normalising flow within the bin, learned against a frozen model.

mod flow_plus_plus;
mod plain;

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor, no_grad};

use super::{Bins, Dequantized, Dequantizer, level_columns};
use crate::data::Scaling;
use crate::model::{Builder, Parameters};
use crate::noise::{Noise, Seed};
use crate::tensor::{sum_last, to_vec};
use crate::{Error, Result};
use flow_plus_plus::FlowPlusPlus;
use plain::Plain;

/// What the steps of a [`Variational`] are made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Steps {
    /// Couplings alone, by networks of three layers: for tables, and of images what earlier
    /// versions learned.
    #[default]
    Plain,
    /// Flow++'s, for images: normalisation, a 1 × 1 convolution where there are several channels,
    /// and a coupling by a network with gates and attention: of even and odd columns
    /// ([`VariationalConfig::couplings`] steps), then of halves of the channels.
    #[serde(rename = "flow++")]
    FlowPlusPlus {
        /// Gated blocks of a coupling's network.
        blocks: usize,
        /// Heads of the attention that follows each of them; 0: no attention.
        heads: i64,
        /// Further steps, on halves of the channels of 2 × 2 blocks of pixels, for images of even
        /// height and width; 0 as in score_flow's `dequantization_cifar10`.
        #[serde(default, skip_serializing_if = "is_none")]
        channel_couplings: usize,
    },
}

fn is_none(steps: &usize) -> bool {
    *steps == 0
}

impl Steps {
    fn are_plain(&self) -> bool {
        *self == Steps::Plain
    }
}

/// A [`Variational`] as plain data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VariationalConfig {
    /// What steps are made of.
    #[serde(skip_serializing_if = "Steps::are_plain")]
    pub steps: Steps,
    /// Coupling steps; of Flow++'s those on columns.
    pub couplings: usize,
    /// Logistic components of a coupling.
    pub components: i64,
    /// Hidden units, or channels, of a coupling's network.
    pub width: i64,
}

impl Default for VariationalConfig {
    fn default() -> Self {
        VariationalConfig { steps: Steps::Plain, couplings: 4, components: 4, width: 64 }
    }
}

/// `q(y|x)` of Flow++ (Ho et al. 2019, §3.1 and §3.3; ScoreFlow, §5.2): noise `e` goes through
/// steps and a sigmoid to a place in each level's bin, `y = lower + sigmoid(v) (upper − lower)`,
/// and
///
/// `ln q(y|x) = ln p(e) − Σ ln |d step| − Σ_j [ln sigmoid'(v_j) + ln(upper_j − lower_j)]`, exactly.
///
/// A coupling changes one half of the elements given the other and the row:
/// `e' = logit(F(e)) exp(a) + b`, `F` a mixture of logistic distribution functions. Everything is
/// in log space; log-scales and `a` are held within ±3 by `3 tanh(·/3)`, so that no coupling
/// stretches by more than `e⁶`. Of images the steps are Flow++'s; of tables they are such couplings
/// alone ([`Steps`]).
///
/// `e` is standard logistic where Flow++ has a normal: steps start near the identity, so that `q`
/// is near uniform before any training. Everything is computed in the kind of `e`: f32 in training,
/// f64 for a likelihood.
#[derive(Debug)]
pub struct Variational {
    config: VariationalConfig,
    scaling: Scaling,
    /// Whether rows are images.
    images: bool,
    /// The columns that are levels, `[m]`.
    columns: Tensor,
    parameters: Parameters,
    flow: Flow,
}

/// Where the steps' parameters are.
#[derive(Debug)]
enum Flow {
    Plain(Plain),
    FlowPlusPlus(FlowPlusPlus),
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
/// Steps of Flow++, and blocks of each.
const MOST_STEPS: usize = 100;
/// Rows that what is made from data starts from.
pub(super) const START_ROWS: usize = 64;

impl VariationalConfig {
    /// What is learned where nothing else is said: plain steps for tables; for images Flow++'s, a
    /// third as wide as there and with a quarter of the components, for a CPU.
    pub fn usual(images: bool) -> VariationalConfig {
        match images {
            false => VariationalConfig::default(),
            true => VariationalConfig {
                steps: Steps::FlowPlusPlus { blocks: 2, heads: 4, channel_couplings: 0 },
                couplings: 4,
                components: 8,
                width: 32,
            },
        }
    }

    /// The dequantiser of rows of `scaling`, of images where they have a shape (channels, height,
    /// width), with weights drawn from `seed`.
    ///
    /// # Errors
    /// If a number is 0 that must not be, no column holds levels, the steps are for images and rows
    /// are none, or channels are to be split of images of odd height or width.
    pub fn init(
        &self,
        scaling: &Scaling,
        image: Option<[usize; 3]>,
        device: Device,
        seed: Seed,
    ) -> Result<Variational> {
        self.check(image)?;
        let columns = level_columns(scaling);
        if columns.size()[0] == 0 {
            let remedy = "train on dequantised columns (data.scaling.dequantize), or give uniform";
            return Err(Error::config(
                "dequantization",
                "variational, for a run without levels",
                remedy,
            ));
        }
        let mut builder = Builder::default();
        let flow = self.lay_out(&mut builder, scaling, image, device, seed);
        Ok(Variational {
            config: self.clone(),
            scaling: scaling.clone(),
            images: image.is_some(),
            columns,
            parameters: builder.finish(device),
            flow,
        })
    }

    fn check(&self, image: Option<[usize; 3]>) -> Result<()> {
        Error::check_count("couplings", self.couplings, MOST)?;
        Error::check_count("components", self.components, MOST)?;
        Error::check_count("width", self.width, MOST)?;
        let Steps::FlowPlusPlus { blocks, heads, channel_couplings } = self.steps else {
            return Ok(());
        };
        Error::check_count("couplings", self.couplings, MOST_STEPS)?;
        Error::check_count("blocks", blocks, MOST_STEPS)?;
        let Some([_, height, width]) = image else {
            return Err(Error::config("steps", "flow++, for a table", "give plain"));
        };
        if channel_couplings > 0 {
            Error::check_count("channel_couplings", channel_couplings, MOST_STEPS)?;
            if height % 2 != 0 || width % 2 != 0 {
                let problem = format!("{channel_couplings}, for images of {height}×{width} pixels");
                let remedy = "give 0, or images of even height and width";
                return Err(Error::config("channel_couplings", problem, remedy));
            }
        }
        if heads < 0 || heads > 0 && self.width % heads != 0 {
            let problem = format!("{} channels for {heads} heads of attention", self.width);
            return Err(Error::config("width", problem, "give a multiple of the heads"));
        }
        Ok(())
    }

    /// The number of parameters of [`VariationalConfig::init`], without making any.
    ///
    /// # Errors
    /// As [`VariationalConfig::init`], but for columns without levels.
    pub fn size(&self, scaling: &Scaling, image: Option<[usize; 3]>) -> Result<i64> {
        self.check(image)?;
        let mut builder = Builder::counting();
        self.lay_out(&mut builder, scaling, image, Device::Cpu, Seed(0));
        Ok(builder.size())
    }

    fn lay_out(
        &self,
        builder: &mut Builder,
        scaling: &Scaling,
        image: Option<[usize; 3]>,
        device: Device,
        seed: Seed,
    ) -> Flow {
        let image = image.map(|shape| shape.map(|n| n as i64));
        match (self.steps, image) {
            (Steps::FlowPlusPlus { blocks, heads, channel_couplings }, Some(image)) => {
                let numbers = (blocks, heads, channel_couplings);
                Flow::FlowPlusPlus(FlowPlusPlus::new(self, numbers, builder, image, seed))
            }
            _ => {
                let m = level_columns(scaling).size()[0];
                let columns = (m, scaling.dim() as i64);
                Flow::Plain(Plain::new(self, builder, image, columns, device, seed))
            }
        }
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

    /// The steps' image of `e` `[n, m]` under rows `x` `[n, d]`, and `ln |det ∂v/∂e|` `[n]`.
    fn flow(&self, e: &Tensor, x: &Tensor) -> (Tensor, Tensor) {
        match &self.flow {
            Flow::Plain(flow) => flow.apply(&self.parameters, e, x),
            Flow::FlowPlusPlus(flow) => flow.apply(&self.parameters, e, x),
        }
    }

    /// Starts what is made from data (`FlowPlusPlus::start`), from `levels` of some rows, unless
    /// that has been done.
    pub(super) fn start(&self, levels: &[f32], seed: Seed) {
        if let Flow::FlowPlusPlus(flow) = &self.flow
            && flow.is_new(&self.parameters)
        {
            let to = |x: &Tensor| x.to_kind(Kind::Float).to_device(self.device());
            let centres = Bins::new(levels, &self.scaling).centre;
            let rows = centres.size()[0] as u64;
            let e = self.noise(&mut Noise::new(seed, 0..rows));
            no_grad(|| flow.start(&self.parameters, &to(&e), &to(&centres)));
        }
    }

    /// Noise `e` `[n, m]` brought into the bins of rows `x` `[n, d]` between `lower` and `upper`
    /// `[n, m]`.
    fn place(&self, e: &Tensor, x: &Tensor, lower: &Tensor, upper: &Tensor) -> Points {
        let log_sigmoid_slope = |v: &Tensor| sum_last(&(v.log_sigmoid() + v.neg().log_sigmoid()));
        let (v, log_det) = self.flow(e, x);
        let width = upper - lower;
        // the standard logistic density is the sigmoid's slope
        let log_q = log_sigmoid_slope(e) - log_det - log_sigmoid_slope(&v) - sum_last(&width.log());
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
        let (n, at_once) = (e.size()[0], if self.images { IMAGES } else { ROWS });
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

/// `e' = logit(F(e)) exp(a) + b` and `ln de'/de`, elementwise, for `e` `[n, …]` and raw outputs
/// `[n, …, 3K + 2]`: logits of weights, means and log-scales of `F`, then `a` and `b`.
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
