//! Convolutions with their batch normalisation, as both feature networks have them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tch::{Device, Kind, Tensor};

use crate::{Error, Result};

/// `ε` of both networks' normalisations.
const EPSILON: f64 = 1e-3;

/// What is known of a convolution before its weights are.
pub(super) struct Convolution {
    /// The names of the convolution and of its normalisation.
    pub name: String,
    pub norm: String,
    /// Outputs, inputs per group, height, width.
    pub shape: [i64; 4],
    pub stride: i64,
    pub padding: Padding,
    pub groups: i64,
}

/// Zeros around an image.
#[derive(Clone, Copy)]
pub(super) enum Padding {
    None,
    /// Half a kernel on every side.
    Half,
    /// TensorFlow's "SAME": as many that `⌈n/stride⌉` pixels come out, the odd one right and below.
    Same,
}

const NORM: [&str; 4] = ["weight", "bias", "running_mean", "running_var"];

impl Convolution {
    /// Name and shape of its tensors.
    pub fn tensors(&self) -> Vec<(String, Vec<i64>)> {
        let norm = NORM.map(|part| (format!("{}.{part}", self.norm), vec![self.shape[0]]));
        let weight = (format!("{}.weight", self.name), self.shape.to_vec());
        [weight].into_iter().chain(norm).collect()
    }

    /// With the normalisation `γ (y − μ)/√(v + ε) + β` folded into the convolution `y`, in f64.
    fn take(&self, weights: &mut Weights) -> Result<Layer> {
        let weight =
            weights.take(&format!("{}.weight", self.name), &self.shape)?.to_kind(Kind::Double);
        let mut norm = |part| weights.take(&format!("{}.{part}", self.norm), &self.shape[..1]);
        let [gamma, beta, mean, variance] = NORM.map(&mut norm);
        let scale =
            gamma?.to_kind(Kind::Double) / (variance?.to_kind(Kind::Double) + EPSILON).sqrt();
        Ok(Layer {
            weight: channels_last(&(weight * scale.view([-1, 1, 1, 1])).to_kind(Kind::Float)),
            bias: (beta?.to_kind(Kind::Double) - mean?.to_kind(Kind::Double) * scale)
                .to_kind(Kind::Float),
            stride: self.stride,
            padding: self.padding,
            groups: self.groups,
        })
    }
}

/// A convolution and the normalisation after it.
struct Layer {
    weight: Tensor,
    bias: Tensor,
    stride: i64,
    padding: Padding,
    groups: i64,
}

impl Layer {
    fn apply(&self, x: &Tensor) -> Tensor {
        let kernel = &self.weight.size()[2..];
        let convolve = |x: &Tensor, padding: [i64; 2]| {
            let stride = [self.stride, self.stride];
            x.conv2d(&self.weight, Some(&self.bias), stride, padding, [1, 1], self.groups)
        };
        match self.padding {
            Padding::None => convolve(x, [0, 0]),
            Padding::Half => convolve(x, [kernel[0] / 2, kernel[1] / 2]),
            Padding::Same => {
                let (_, _, height, width) = x.size4().expect("images");
                let zeros = |n: i64, kernel: i64| {
                    let outputs = (n + self.stride - 1) / self.stride;
                    ((outputs - 1) * self.stride + kernel - n).max(0)
                };
                let (down, across) = (zeros(height, kernel[0]), zeros(width, kernel[1]));
                if down % 2 == 0 && across % 2 == 0 {
                    return convolve(x, [down / 2, across / 2]);
                }
                let around = [across / 2, across - across / 2, down / 2, down - down / 2];
                convolve(&x.constant_pad_nd(around), [0, 0])
            }
        }
    }
}

/// `[n, channels, height, width]` with a pixel's channels side by side in memory, as which
/// convolutions by few channels a group are twice as fast on a processor.
pub(super) fn channels_last(x: &Tensor) -> Tensor {
    x.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])
}

/// Layers by the names of their convolutions.
pub(super) struct Layers(BTreeMap<String, Layer>);

impl Layers {
    pub fn take(convolutions: Vec<Convolution>, weights: &mut Weights) -> Result<Layers> {
        let layers = convolutions.into_iter().map(|c| Ok((c.name.clone(), c.take(weights)?)));
        Ok(Layers(layers.collect::<Result<_>>()?))
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Convolution and normalisation of `x` by the layer of this name.
    pub fn apply(&self, name: &str, x: &Tensor) -> Tensor {
        self.0.get(name).unwrap_or_else(|| panic!("no layer '{name}'")).apply(x)
    }
}

/// Tensors of a file that are taken one by one.
pub(super) struct Weights {
    tensors: BTreeMap<String, Tensor>,
    source: PathBuf,
    device: Device,
}

const REMEDY: &str = "fetch the file again, or give that of the right network";

impl Weights {
    pub fn new(tensors: BTreeMap<String, Tensor>, source: &Path, device: Device) -> Weights {
        Weights { tensors, source: source.to_owned(), device }
    }

    /// The tensor of this name in f32.
    pub fn take(&mut self, name: &str, shape: &[i64]) -> Result<Tensor> {
        let wrong = |problem: String| Error::data(&self.source, problem, REMEDY);
        let x =
            self.tensors.remove(name).ok_or_else(|| wrong(format!("has no tensor '{name}'")))?;
        if x.size() != shape {
            return Err(wrong(format!(
                "has '{name}' of shape {:?} instead of {shape:?}",
                x.size()
            )));
        }
        let x = x.to_kind(Kind::Float).to_device(self.device);
        if x.isfinite().all().int64_value(&[]) == 0 {
            return Err(wrong(format!("has numbers in '{name}' that are not finite")));
        }
        Ok(x)
    }

    /// Refuses tensors that no layer has read, except the counters of normalisations.
    pub fn finish(self) -> Result<()> {
        match self.tensors.keys().find(|name| !name.ends_with(".num_batches_tracked")) {
            Some(name) => Err(Error::data(
                self.source,
                format!("has a tensor '{name}' that is not the network's"),
                REMEDY,
            )),
            None => Ok(()),
        }
    }
}
