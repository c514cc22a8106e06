//! Weights that others trained: tensors by name, from safetensors or a PyTorch checkpoint.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::{Dtype, SafeTensors};
use tch::{Kind, Tensor};

use crate::{Error, Result};

/// A result whose error says what is wrong with a file.
type Problem<T> = std::result::Result<T, String>;

/// More axes than LibTorch follows.
const MOST_AXES: usize = 64;
/// More elements than any machine holds.
const MOST_ELEMENTS: i64 = 1 << 48;

/// Whether a tensor can have this shape: LibTorch computes with every length, also beside one of 0.
fn is_possible(shape: &[i64]) -> bool {
    let mut lengths = shape.iter();
    let count = lengths.try_fold(1i64, |n, &l| (l >= 0).then(|| n.saturating_mul(l.max(1))));
    shape.len() <= MOST_AXES && count.is_some_and(|count| count <= MOST_ELEMENTS)
}

/// The tensors of a file by name, on the CPU.
///
/// The file is safetensors or, with the feature `pth`, what `torch.save` made of a dictionary of
/// tensors (a state dict), which is read without running anything.
///
/// # Errors
/// If the file is of another kind, damaged or cut short, or asks for anything but tensors; the
/// error names it.
pub fn read_weights(path: impl AsRef<Path>) -> Result<BTreeMap<String, Tensor>> {
    let path = path.as_ref();
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    let of_pickle = ["pth", "pt", "bin", "pkl", "ckpt"];
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    if bytes.get(8) == Some(&b'{') {
        return read_safetensors(&bytes)
            .map_err(|problem| Error::data(path, problem, "the file is damaged: fetch it again"));
    }
    if !(bytes.starts_with(b"PK") || bytes.starts_with(&[0x80]) || of_pickle.contains(&extension)) {
        let problem = "is neither safetensors nor a PyTorch checkpoint";
        return Err(Error::data(path, problem, "give a state dict as .safetensors or .pth"));
    }
    read_checkpoint(path, &bytes)
}

#[cfg(feature = "pth")]
fn read_checkpoint(path: &Path, bytes: &[u8]) -> Result<BTreeMap<String, Tensor>> {
    let remedy = "fetch it again, or convert it by scripts/convert_weights.py where you trust it";
    crate::pth::read(bytes).map_err(|problem| Error::data(path, problem, remedy))
}

#[cfg(not(feature = "pth"))]
fn read_checkpoint(path: &Path, _: &[u8]) -> Result<BTreeMap<String, Tensor>> {
    let problem = "is a PyTorch checkpoint, which is read with the feature `pth` alone";
    Err(Error::data(path, problem, "convert it to safetensors, or build with the feature"))
}

/// The first line of LibTorch's error about an entry that does not make a tensor.
fn no_tensor(name: &str, error: &tch::TchError) -> String {
    let text = error.to_string();
    let reason = text.lines().next().unwrap_or_default();
    format!("has '{}', which is no tensor ({reason})", name.escape_debug())
}

/// The tensors of safetensors by name, on the CPU; an error says what is wrong with them.
pub(crate) fn read_safetensors(bytes: &[u8]) -> Problem<BTreeMap<String, Tensor>> {
    let file =
        SafeTensors::deserialize(bytes).map_err(|e| format!("is damaged or cut short ({e})"))?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.tensors() {
        let kind = match view.dtype() {
            Dtype::F64 => Kind::Double,
            Dtype::F32 => Kind::Float,
            Dtype::F16 => Kind::Half,
            Dtype::BF16 => Kind::BFloat16,
            Dtype::I64 => Kind::Int64,
            Dtype::I32 => Kind::Int,
            Dtype::I16 => Kind::Int16,
            Dtype::I8 => Kind::Int8,
            Dtype::U8 => Kind::Uint8,
            other => return Err(format!("has '{name}' in {other:?}, which weights are not")),
        };
        let shape: Option<Vec<i64>> = view.shape().iter().map(|&n| i64::try_from(n).ok()).collect();
        let shape = shape.filter(|shape| is_possible(shape));
        let shape = shape.ok_or_else(|| {
            format!("has '{}' of the impossible shape {:?}", name.escape_debug(), view.shape())
        })?;
        let tensor = Tensor::f_from_data_size(view.data(), &shape, kind)
            .map_err(|e| no_tensor(&name, &e))?;
        tensors.insert(name, tensor);
    }
    Ok(tensors)
}
