//! Rows of numbers with a number each that says what they are.

use std::path::Path;

use super::NpzReader;
use crate::{Error, Result};

/// Rows of numbers, and a label of each.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelledRows {
    /// `[n, d]`, row-major.
    pub x: Vec<f64>,
    /// `d`, at least 1.
    pub columns: usize,
    /// `[n]`.
    pub y: Vec<f64>,
}

/// Numbers that a file holds at most.
const MOST: usize = 1 << 30;

impl LabelledRows {
    /// Reads the arrays `X`, `[n, d]`, and `y`, `[n]`, of an NPZ archive, of any type of numbers:
    /// ADBench's files.
    ///
    /// # Errors
    /// [`Error::Data`] if an array is missing, damaged or of another shape, or holds what is not
    /// finite.
    pub fn read(path: impl AsRef<Path>) -> Result<LabelledRows> {
        let path = path.as_ref();
        let mut file = NpzReader::open(path)?;
        let bad = |problem: &str| {
            let remedy = "expected numbers X of shape [n, d] and y of shape [n]";
            Error::data(path, problem, remedy)
        };
        let y = file.numbers("y", &[None], MOST)?.ok_or_else(|| bad("has no array 'y'"))?;
        let x = file.numbers("X", &[Some(y.len()), None], MOST)?;
        let x = x.ok_or_else(|| bad("has no array 'X'"))?;
        if y.is_empty() || x.is_empty() {
            return Err(bad("holds no numbers"));
        }
        if x.iter().chain(&y).any(|value| !value.is_finite()) {
            return Err(bad("holds numbers that are missing or not finite"));
        }
        Ok(LabelledRows { columns: x.len() / y.len(), x, y })
    }
}
