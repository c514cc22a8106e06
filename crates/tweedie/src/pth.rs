//! PyTorch's checkpoints (`.pth`), read without running anything.
//!
//! A checkpoint is a pickle, which is a program. Here only its tensors are read, and a pickle that
//! calls anything else is refused. The module depends on `tch` and `zip`, and on nothing else in
//! this crate. [`read_weights`](crate::data::read_weights) reads files of this and other formats.
//!
//! ```
//! use tweedie::pth;
//!
//! # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/reference/metrics/state.pth");
//! let bytes = std::fs::read(path).unwrap();
//! let tensors = pth::read(&bytes).unwrap();
//! assert_eq!(tensors["first"].size(), [2, 3]);
//!
//! // the pickle of a call of os.system("echo hello")
//! let refusal = pth::read(b"cposix\nsystem\np0\n(Vecho hello\np1\ntp2\nRp3\n.").unwrap_err();
//! assert!(refusal.contains("posix.system"));
//! ```

mod checkpoint;
mod pickle;

use std::collections::BTreeMap;

use tch::Tensor;

/// A result whose error says what is wrong with a file.
type Problem<T> = Result<T, String>;

/// More axes than LibTorch follows.
const MOST_AXES: usize = 64;
/// Sums of products of two such numbers are exact in 128 bits.
const MOST_ELEMENTS: i64 = 1 << 48;

/// The tensors of a checkpoint by name, on the CPU: what `torch.save` made of a dictionary of
/// tensors (a state dict), in either of its layouts. Those that shared a storage share it again. Of
/// what a training saved, a dictionary with such a dictionary under `ema`, they are those of `ema`.
///
/// A checkpoint is a pickle, a program: here it is not run. Its instructions are followed as far as
/// they build dictionaries of tensors, and whatever else it names is refused.
///
/// # Errors
/// What is wrong with `bytes`, to be put after the name of their file.
pub fn read(bytes: &[u8]) -> Problem<BTreeMap<String, Tensor>> {
    checkpoint::read(bytes)
}

/// Whether a tensor can have this shape: LibTorch computes with every length, also beside one of 0.
fn is_possible(shape: &[i64]) -> bool {
    let mut lengths = shape.iter();
    let count = lengths.try_fold(1i64, |n, &l| (l >= 0).then(|| n.saturating_mul(l.max(1))));
    shape.len() <= MOST_AXES && count.is_some_and(|count| count <= MOST_ELEMENTS)
}

/// The first line of LibTorch's error about an entry that does not make a tensor.
fn no_tensor(name: &str, error: &tch::TchError) -> String {
    let text = error.to_string();
    let reason = text.lines().next().unwrap_or_default();
    format!("has '{}', which is no tensor ({reason})", name.escape_debug())
}

#[cfg(test)]
mod tests;
