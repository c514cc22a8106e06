//! Uniform dequantisation.

use tch::Tensor;

use super::{Dequantized, Dequantizer};
use crate::data::Scaling;
use crate::noise::Noise;

/// Uniform noise over the bin, in the data's units (Uria et al. 2013; Theis et al. 2016): what
/// models of levels are trained on here. `−ln q` is then the map's `ln |d scaled/d raw|`.
#[derive(Clone, Copy, Debug)]
pub struct Uniform<'a> {
    scaling: &'a Scaling,
}

impl<'a> Uniform<'a> {
    /// For rows of `scaling`.
    pub fn new(scaling: &'a Scaling) -> Uniform<'a> {
        Uniform { scaling }
    }
}

impl Dequantizer for Uniform<'_> {
    fn dequantize(&self, levels: &[f32], noise: &mut Noise) -> Dequantized {
        let d = self.scaling.dim();
        assert_eq!(levels.len(), noise.len() * d, "levels for {} rows of {d} columns", noise.len());
        let (mut scaled, mut offsets) = (Vec::new(), Vec::new());
        self.scaling.forward_f64(levels, uniforms(self.scaling, noise), &mut scaled, &mut offsets);
        Dequantized {
            rows: Tensor::from_slice(&scaled).view([noise.len() as i64, d as i64]),
            offsets,
        }
    }
}

/// The uniforms that dequantisation asks for, row by row, one per dequantised column.
pub(crate) fn uniforms(scaling: &Scaling, noise: &mut Noise) -> impl FnMut() -> f32 + use<> {
    let per_row = scaling.level_columns().len();
    let mut drawn = noise.uniform(per_row).into_iter();
    move || drawn.next().expect("one for each dequantised cell") as f32
}
