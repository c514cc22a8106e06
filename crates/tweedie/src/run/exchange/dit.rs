//! Diffusion transformers exchanged with diffusers, and read from published checkpoints.

use std::collections::BTreeMap;
use std::path::Path;

use tch::{Device, Kind, Tensor};

use super::{
    CONFIG, arranged, cannot_compute, check_size, read_json, read_named, weight_files, write_folder,
};
use crate::data::read_weights;
use crate::model::{Backbone, DiTTransformer2DModel, Dit, DitConfig, Entry, HeadTrunk, Named};
use crate::noise::Seed;
use crate::{Error, Result};

/// Tensors by name.
type Tensors = BTreeMap<String, Tensor>;

/// The diffusion transformer in `dir`: what `DiTTransformer2DModel.save_pretrained` writes. It has
/// a covariance head where there are twice as many channels out as in: its raw outputs are the
/// second half (`learned_range`). The head's modulation, which is the score's in diffusers, is a
/// copy.
///
/// # Errors
/// If a file is missing or damaged, if the weights are a pickle, if blocks embed the time or the
/// classes each in its own way, and if the configuration asks for something that this crate's DiT
/// has not: the error says what.
pub fn read_dit(dir: &Path, device: Device) -> Result<Dit> {
    let path = dir.join(CONFIG);
    let model: DiTTransformer2DModel = read_json(
        &path,
        "give the transformer folder of a diffusers model (DiTTransformer2DModel)",
    )?;
    let config = DitConfig::try_from(&model).map_err(|what| cannot_compute(&path, what))?;
    let found = read_named(dir, &weight_files(dir)?)?;
    let elements = found.values().map(|values| values.numel() as i64).sum();
    check_size(&path, config.size(i64::from(model.has_variances()))?, elements)?;
    let published = in_published_names(&path, &config, dir, found)?;
    filled(&config, model.has_variances(), dir, published, device)
}

/// Writes the score network of `net` so that `DiTTransformer2DModel.from_pretrained` reads it.
///
/// # Errors
/// If diffusers has no equal of the network, or if a file cannot be written.
pub fn write_dit(net: &Dit, dir: &Path) -> Result<()> {
    let config = net.config();
    let model = DiTTransformer2DModel::try_from(config).map_err(|what| {
        let remedy = "export a network without it: model.network.frequency_shift = 1, classes and \
                      train.label_dropout make a DiT that diffusers knows";
        Error::config("export", format!("diffusers has no {what}"), remedy)
    })?;
    let score = net.parameters().entries().iter().filter(|e| e.offset < net.score_size());
    let entries = score.flat_map(|entry| match config.in_diffusers(&entry.name) {
        Named::Copies(names) => {
            names.into_iter().map(|name| Entry { name, ..entry.clone() }).collect::<Vec<Entry>>()
        }
        Named::Parts(names) => {
            let parts = names.len() as i64;
            let mut shape = entry.shape.clone();
            shape[0] /= parts;
            let count: i64 = shape.iter().product();
            (names.into_iter().zip(0..))
                .map(|(name, i)| Entry {
                    name,
                    shape: shape.clone(),
                    offset: entry.offset + i * count,
                })
                .collect()
        }
    });
    write_folder(dir, &model, &entries.collect::<Vec<Entry>>(), net.parameters())
}

/// The diffusion transformer of a published checkpoint: a state dict with the names of
/// facebookresearch/DiT as `.pt` or safetensors, whole or under `ema`. All but the number of
/// attention heads follows from the tensors' shapes; without `heads` it is that of the published
/// network of this width. A head and its modulation are as in [`read_dit`].
///
/// # Errors
/// If the file is damaged or has other tensors, and if its width is no published one's and `heads`
/// is not given.
pub fn read_dit_checkpoint(file: &Path, heads: Option<i64>, device: Device) -> Result<Dit> {
    let mut found = read_weights(file)?;
    let (config, variances) = described_by(&found, heads, file)?;
    let size = config.size(i64::from(variances))?;
    check_size(file, size, found.values().map(|values| values.numel() as i64).sum())?;
    let places = found.remove(PLACES).expect("looked up");
    // computed in other orders, to f32's digits of the largest angles
    let gap = (places - config.places(Device::Cpu)).abs().max().double_value(&[]);
    if gap.is_nan() || gap > 1e-3 {
        return Err(cannot_compute(file, format!("other positions ('{PLACES}') than DiT's")));
    }
    let found =
        found.into_iter().map(|(name, values)| (name, values.to_kind(Kind::Float))).collect();
    filled(&config, variances, file, found, device)
}

/// The positions of a state dict.
const PLACES: &str = "pos_embed";

/// The network that tensors of these shapes are of, and whether it has variances.
fn described_by(found: &Tensors, heads: Option<i64>, file: &Path) -> Result<(DitConfig, bool)> {
    let wrong = |problem: String| {
        let remedy = "give a state dict of facebookresearch/DiT, or the folder of a DiTPipeline";
        Error::checkpoint(file, problem, remedy)
    };
    let shape = |name: &str, axes: usize| {
        let values = found.get(name).ok_or_else(|| wrong(format!("has no tensor '{name}'")))?;
        let size = values.size();
        // an axis of no length would make shapes of others impossible
        match size.len() == axes && size.iter().all(|&n| n > 0) {
            true => Ok(size),
            false => Err(wrong(format!("has '{name}' of shape {size:?}"))),
        }
    };
    let patches = shape("x_embedder.proj.weight", 4)?;
    let (width, channels, patch) = (patches[0], patches[1], patches[2]);
    let places = shape(PLACES, 3)?;
    let side = (places[1] as f64).sqrt() as i64;
    if side * side != places[1] || places[0] != 1 || places[2] != width {
        return Err(wrong(format!("has '{PLACES}' of shape {places:?}, of no square")));
    }
    let classes = shape("y_embedder.embedding_table.weight", 2)?[0] - 1;
    let outputs = shape("final_layer.linear.weight", 2)?[0];
    let of_patch = patch.saturating_mul(patch).saturating_mul(channels);
    let variances = outputs == of_patch.saturating_mul(2);
    if !variances && outputs != of_patch {
        return Err(wrong(format!("has {outputs} outputs for patches of {of_patch} values")));
    }
    let block = |i: &i64| found.contains_key(&format!("blocks.{i}.attn.qkv.weight"));
    let published = [(384, 6), (768, 12), (1024, 16), (1152, 16)];
    let published = published.into_iter().find(|(of, _)| *of == width).map(|(_, heads)| heads);
    let Some(heads) = heads.or(published) else {
        let problem = format!("has the width {width}, which no published DiT has");
        return Err(Error::checkpoint(file, problem, "say how many heads of attention it has"));
    };
    let config = DitConfig {
        shape: [channels, side.saturating_mul(patch), side.saturating_mul(patch)],
        patch,
        width,
        blocks: (0..).take_while(block).count() as i64,
        heads,
        classes,
        null_class: true,
        head_trunk: HeadTrunk::Shared,
        head_width: width,
        head_blocks: 1,
        ..DitConfig::default()
    };
    Ok((config, variances))
}

/// Diffusers' tensors by their published names; others keep theirs.
fn in_published_names(
    path: &Path,
    config: &DitConfig,
    dir: &Path,
    mut found: Tensors,
) -> Result<Tensors> {
    let mut published = BTreeMap::new();
    for entry in config.entries()? {
        let named = config.in_diffusers(&entry.name);
        let (Named::Parts(names) | Named::Copies(names)) = &named;
        let mut tensors = Vec::with_capacity(names.len());
        for name in names {
            let Some(values) = found.remove(name) else {
                let problem = format!("has no tensor '{name}'");
                let remedy = "give a folder whose files belong together";
                return Err(Error::checkpoint(dir, problem, remedy));
            };
            tensors.push(values);
        }
        let values = match named {
            Named::Copies(_) => {
                let first = tensors.swap_remove(0);
                if !tensors.iter().all(|other| *other == first) {
                    let what = "blocks that embed the time or the class each in its own way";
                    return Err(cannot_compute(path, what));
                }
                first
            }
            Named::Parts(_) if tensors.len() == 1 => tensors.swap_remove(0),
            Named::Parts(names) => {
                // each of these has the shape of all, or is refused with its own
                let mut shape = entry.shape.clone();
                shape[0] /= names.len() as i64;
                match tensors.iter().all(|values| values.size() == shape) {
                    true => Tensor::cat(&tensors, 0),
                    false => tensors.swap_remove(0),
                }
            }
        };
        published.insert(entry.name, values);
    }
    published.extend(found);
    Ok(published)
}

/// The network with these tensors, of which the second half of the outputs are `variances`.
fn filled(
    config: &DitConfig,
    variances: bool,
    from: &Path,
    mut found: Tensors,
    device: Device,
) -> Result<Dit> {
    let net = config.init(i64::from(variances), device, Seed(0))?;
    if variances {
        split_head(&mut found, config);
    }
    let parameters = arranged(from, found, net.parameters().entries())?;
    net.parameters().assign(&parameters.to_device(device));
    Ok(net)
}

/// Gives the head its layers: a copy of the score's modulation, and of the outputs of each pixel
/// those beyond the image's channels.
fn split_head(found: &mut Tensors, config: &DitConfig) {
    let (channels, pixels) = (config.shape[0], config.patch * config.patch);
    for part in ["weight", "bias"] {
        let modulation = format!("final_layer.adaLN_modulation.1.{part}");
        if let Some(values) = found.get(&modulation) {
            found.insert(format!("head.{modulation}"), values.copy());
        }
        let linear = format!("final_layer.linear.{part}");
        // another number of outputs is left whole: its shape is refused
        let outputs = 2 * channels * pixels;
        let fits = |values: &&Tensor| values.size().first() == Some(&outputs);
        if let Some(values) = found.get(&linear).filter(fits) {
            let rest = &values.size()[1..];
            let of_pixels = values.reshape([&[pixels, 2 * channels], rest].concat());
            let [score, head] = [0, channels].map(|start| {
                let part = of_pixels.narrow(1, start, channels);
                part.reshape([&[pixels * channels], rest].concat())
            });
            found.insert(format!("head.{linear}"), head);
            found.insert(linear, score);
        }
    }
}
