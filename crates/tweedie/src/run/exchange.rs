//! Networks exchanged with diffusers: the folders that `save_pretrained` writes.

mod dit;

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tch::{Device, Kind, Tensor};

use super::checkpoint::{Setup, parameter_bytes};
use super::write_json;
use crate::data::{OutputFile, read_safetensors};
use crate::model::{Backbone, Entry, Parameters, UNet, UNet2DModel, UNetConfig};
use crate::noise::Seed;
use crate::{Error, Result};
pub use dit::{read_dit, read_dit_checkpoint, write_dit};

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "diffusion_pytorch_model.safetensors";
const INDEX: &str = "diffusion_pytorch_model.safetensors.index.json";
const PICKLE: &str = "diffusion_pytorch_model.bin";

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(Error::io(path))
}

/// The contents of a JSON file.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path, remedy: &str) -> Result<T> {
    serde_json::from_slice(&read(path)?).map_err(|e| {
        Error::checkpoint(path, format!("is not the configuration expected here ({e})"), remedy)
    })
}

/// The error of a model with something that this crate does not have.
pub(crate) fn cannot_compute(path: &Path, what: impl std::fmt::Display) -> Error {
    let remedy = "this cannot be computed here; choose another model";
    Error::checkpoint(path, format!("has {what}"), remedy)
}

/// The U-Net in `dir`: `config.json` and `diffusion_pytorch_model.safetensors`, whole or in parts.
/// It has a covariance head where there are twice as many channels out as in: its raw outputs are
/// the second half (`learned_range`). The head's normalisation, which is the score's in diffusers,
/// is a copy.
///
/// # Errors
/// If a file is missing or damaged, if the weights are a pickle, and if the configuration asks for
/// something that this crate's U-Net has not: the error says what.
pub fn read_unet(dir: &Path, device: Device) -> Result<UNet> {
    let path = dir.join(CONFIG);
    let model: UNet2DModel =
        read_json(&path, "give the unet folder of a diffusers model (UNet2DModel)")?;
    let config = UNetConfig::try_from(&model).map_err(|what| cannot_compute(&path, what))?;
    let head = i64::from(model.has_variances());
    let mut found = read_named(dir, &weight_files(dir)?)?;
    // nothing is made that the weights do not fill; a head's normalisation is a copy
    check_size(
        &path,
        config.size(head)?,
        found.values().map(|values| values.numel() as i64).sum(),
    )?;
    let net = config.init(head, device, Seed(0))?;
    if model.has_variances() {
        split_head(&mut found, config.shape[0]);
    }
    let parameters = arranged(dir, found, net.parameters().entries())?;
    net.parameters().assign(&parameters.to_device(device));
    Ok(net)
}

/// Writes the score network of `net` so that `UNet2DModel.from_pretrained` reads it.
///
/// # Errors
/// If diffusers has no equal of the network, or if a file cannot be written.
pub fn write_unet(net: &UNet, dir: &Path) -> Result<()> {
    let model = UNet2DModel::try_from(net.config()).map_err(|what| {
        Error::config("export", format!("diffusers has no {what}"), "export a network without them")
    })?;
    let parameters = net.parameters();
    let score: Vec<Entry> =
        parameters.entries().iter().filter(|e| e.offset < net.score_size()).cloned().collect();
    write_folder(dir, &model, &score, parameters)
}

/// Writes a configuration and, beside it, the `parameters` at `entries`.
fn write_folder(
    dir: &Path,
    config: &impl Serialize,
    entries: &[Entry],
    parameters: &Parameters,
) -> Result<()> {
    std::fs::create_dir_all(dir).map_err(Error::io(dir))?;
    let weights = parameter_bytes(entries, parameters.flat(), &Setup::default(), &[]);
    OutputFile::create(dir.join(WEIGHTS))?.finish(&weights)?;
    write_json(&dir.join(CONFIG), config)
}

/// Flat parameters in the order of `entries`, each found by its name in one of the `files` of
/// `dir`.
pub(super) fn read_tensors(dir: &Path, files: &[String], entries: &[Entry]) -> Result<Tensor> {
    arranged(dir, read_named(dir, files)?, entries)
}

/// Refuses a configuration whose network is larger than the weights beside it, up to as much again.
pub(crate) fn check_size(config: &Path, needed: i64, found: i64) -> Result<()> {
    if needed / 2 > found {
        let problem = format!(
            "describes a network of {needed} parameters, and the weights beside it hold {found}"
        );
        return Err(Error::checkpoint(
            config,
            problem,
            "give a folder whose files belong together",
        ));
    }
    Ok(())
}

/// Gives the head its layers: a copy of the score's normalisation, and what is beyond the first
/// `channels` outputs of its convolution.
fn split_head(found: &mut BTreeMap<String, Tensor>, channels: i64) {
    for part in ["weight", "bias"] {
        let (norm, conv) = (format!("conv_norm_out.{part}"), format!("conv_out.{part}"));
        if let Some(values) = found.get(&norm) {
            found.insert(format!("head.{norm}"), values.copy());
        }
        // another number of outputs is left whole: its shape is refused
        if let Some(values) =
            found.get(&conv).filter(|values| values.size().first() == Some(&(2 * channels)))
        {
            let [score, head] = [0, channels].map(|start| values.narrow(0, start, channels));
            found.insert(format!("head.{conv}"), head);
            found.insert(conv, score);
        }
    }
}

/// The tensors of the `files` of `dir` by their names of today.
pub(crate) fn read_named(dir: &Path, files: &[String]) -> Result<BTreeMap<String, Tensor>> {
    let mut found: BTreeMap<String, Tensor> = BTreeMap::new();
    for name in files {
        let path = dir.join(name);
        let damaged = |problem: String| Error::checkpoint(&path, problem, "download it again");
        for (name, values) in read_safetensors(&read(&path)?).map_err(damaged)? {
            if !values.is_floating_point() {
                let kind = values.kind();
                return Err(damaged(format!("has '{name}' in {kind:?}, not a kind of float")));
            }
            found.insert(current_name(&name), values.to_kind(Kind::Float));
        }
    }
    Ok(found)
}

/// The tensors of `dir`, flat and in the order of `entries`.
pub(crate) fn arranged(
    dir: &Path,
    mut found: BTreeMap<String, Tensor>,
    entries: &[Entry],
) -> Result<Tensor> {
    let wrong = |problem: String| {
        Error::checkpoint(dir, problem, "give a folder whose files belong together")
    };
    let mut parts = Vec::with_capacity(entries.len());
    for entry in entries {
        let values = found
            .remove(&entry.name)
            .ok_or_else(|| wrong(format!("has no tensor '{}'", entry.name)))?;
        // attention of old checkpoints: 1×1 convolutions
        let values = match (entry.shape.len(), values.dim()) {
            (2, 4) => values.flatten(1, 3),
            _ => values,
        };
        if values.size() != entry.shape {
            let (name, size) = (&entry.name, values.size());
            return Err(wrong(format!(
                "has '{name}' of shape {size:?} instead of {:?}",
                entry.shape
            )));
        }
        parts.push(values.reshape([-1]));
    }
    if let Some(name) = found.keys().next() {
        return Err(wrong(format!(
            "has a tensor '{name}' that the configuration does not tell of"
        )));
    }
    let flat = Tensor::cat(&parts, 0);
    if flat.isfinite().all().int64_value(&[]) == 0 {
        return Err(wrong("holds weights that are not finite".into()));
    }
    Ok(flat)
}

/// The files that hold the weights.
pub(crate) fn weight_files(dir: &Path) -> Result<Vec<String>> {
    if dir.join(WEIGHTS).exists() {
        return Ok(vec![WEIGHTS.into()]);
    }
    let index = dir.join(INDEX);
    if index.exists() {
        #[derive(serde::Deserialize)]
        struct Index {
            weight_map: BTreeMap<String, String>,
        }
        let parsed: Index = read_json(&index, "download it again")?;
        let mut files: Vec<String> = parsed.weight_map.into_values().collect();
        files.sort();
        files.dedup();
        if let Some(name) = files.iter().find(|name| name.contains(['/', '\\'])) {
            let problem = format!("names the file {name:?} outside its folder");
            return Err(Error::checkpoint(&index, problem, "download it again"));
        }
        if let Some(name) = files.iter().find(|name| !dir.join(name).is_file()) {
            let problem = format!("names the file {name:?}, which is not beside it");
            return Err(Error::checkpoint(&index, problem, "download the whole folder again"));
        }
        return Ok(files);
    }
    match &variants(dir)?[..] {
        [] => (),
        [only] => return Ok(vec![only.clone()]),
        several => {
            let problem = format!("has the weights in several variants, {}", several.join(", "));
            return Err(Error::checkpoint(
                dir,
                problem,
                format!("keep one of them, named {WEIGHTS}"),
            ));
        }
    }
    if dir.join(PICKLE).exists() {
        return Err(Error::checkpoint(
            dir.join(PICKLE),
            "is a pickle, which can run code of its author's as it is read",
            "save the model anew with safe_serialization=True",
        ));
    }
    Err(Error::checkpoint(
        dir,
        format!("has no {WEIGHTS}"),
        "give the unet or transformer folder of a diffusers model",
    ))
}

/// Weights in another precision or of another kind, as diffusers names them:
/// `diffusion_pytorch_model.fp16.safetensors`.
fn variants(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(Error::io(dir))? {
        let name = entry.map_err(Error::io(dir))?.file_name().to_string_lossy().into_owned();
        let middle = name
            .strip_prefix("diffusion_pytorch_model.")
            .and_then(|n| n.strip_suffix(".safetensors"));
        if middle.is_some_and(|variant| !variant.contains('.')) && dir.join(&name).is_file() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Names of diffusers before 0.17 brought to today's.
fn current_name(name: &str) -> String {
    let renamed = [
        (".query.", ".to_q."),
        (".key.", ".to_k."),
        (".value.", ".to_v."),
        (".proj_attn.", ".to_out.0."),
    ];
    renamed.iter().fold(name.to_string(), |name, (old, new)| name.replace(old, new))
}
