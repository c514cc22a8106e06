//! Rows of a table in the network's units.

use std::ops::Range;

use tch::{Device, Kind, Tensor};

use crate::data::{Dataset, Scaling};
use crate::dequantize::{Dequantized, Dequantizer, Uniform, uniforms};
use crate::noise::{Noise, Seed};
use crate::tensor::upload;
use crate::train::Rows;

/// Numbers that rows in double precision have at a time where they are taken in parts: 32 MiB.
const NUMBERS: usize = 1 << 22;

/// `0..rows` in parts of few rows of `dim` columns.
pub(crate) fn parts_of(rows: usize, dim: usize) -> impl Iterator<Item = Range<usize>> {
    let part = (NUMBERS / dim.max(1)).max(1);
    (0..rows).step_by(part).map(move |start| start..rows.min(start + part))
}

/// Rows of a table in the network's units `[n, d]` (f64) and `ln |d scaled/d raw|` per row,
/// dequantised uniformly, latents drawn from their Gaussians. Both draw from stream `i` of a seed
/// for the `i`-th of `rows`.
pub fn scaled_rows(
    table: &Dataset,
    rows: &[usize],
    scaling: &Scaling,
    seed: Seed,
) -> (Tensor, Vec<f64>) {
    let Dequantized { rows, offsets } = dequantized_rows(table, rows, &Uniform::new(scaling), seed);
    (rows, offsets)
}

/// As [`scaled_rows`] by any dequantisation.
pub fn dequantized_rows(
    table: &Dataset,
    rows: &[usize],
    dequantizer: &dyn Dequantizer,
    seed: Seed,
) -> Dequantized {
    dequantized_from(table, rows, dequantizer, seed, 0)
}

/// As [`dequantized_rows`] for rows that are part of a whole, of which the first is number `first`
/// from 0.
pub fn dequantized_from(
    table: &Dataset,
    rows: &[usize],
    dequantizer: &dyn Dequantizer,
    seed: Seed,
    first: u64,
) -> Dequantized {
    let numbers = first..first + rows.len() as u64;
    let of_latents = &mut Noise::new(seed.derive("latents"), numbers.clone());
    let levels = table.draw(rows, false, of_latents);
    dequantizer.dequantize(&levels, &mut Noise::new(seed, numbers))
}

/// As [`scaled_rows`] at the centres of the bins of dequantised columns, `[n, d]`: what a decoder
/// of levels scores.
pub fn level_rows(table: &Dataset, rows: &[usize], scaling: &Scaling) -> Tensor {
    let raw = table.gather(rows);
    let (mut scaled, mut log_jacobian) = (Vec::new(), Vec::new());
    scaling.forward_f64(&raw, || 0.5, &mut scaled, &mut log_jacobian);
    Tensor::from_slice(&scaled).view([rows.len() as i64, scaling.dim() as i64])
}

/// Training rows of a data set: kept raw, dequantised and scaled batch by batch, so that it needs
/// no second copy. Levels of images go to the device as bytes, and become rows there.
pub struct TableRows<'a> {
    pub(super) table: &'a Dataset,
    pub(super) rows: &'a [usize],
    pub(super) scaling: &'a Scaling,
    /// The width of images that are mirrored in half of their draws; of latents those of the
    /// mirrored images take their place.
    pub(super) mirrored: Option<usize>,
}

impl TableRows<'_> {
    /// The levels of the `chosen` images `[n, d]`, half of them mirrored where that is requested.
    fn images(&self, levels: &[u8], chosen: &[usize], noise: &mut Noise) -> Tensor {
        let dim = self.scaling.dim();
        let image = |&i: &usize| &levels[i * dim..(i + 1) * dim];
        let mut images: Vec<u8> = chosen.iter().flat_map(image).copied().collect();
        if let Some(width) = self.mirrored {
            for (image, u) in images.chunks_exact_mut(dim).zip(noise.uniform(1)) {
                if u < 0.5 {
                    image.chunks_exact_mut(width).for_each(<[u8]>::reverse);
                }
            }
        }
        Tensor::from_slice(&images).view([chosen.len() as i64, dim as i64])
    }
}

impl Rows for TableRows<'_> {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn gather(&self, rows: &[usize], noise: &mut Noise, (kind, device): (Kind, Device)) -> Tensor {
        let chosen: Vec<usize> = rows.iter().map(|&r| self.rows[r]).collect();
        if let Some(levels) = self.table.levels() {
            let levels = upload(&self.images(levels, &chosen, noise), Kind::Uint8, device);
            let uniform = noise.uniform_on(self.scaling.dim(), kind, device);
            return Scaling::pixels_forward(&levels, &uniform);
        }
        let raw = self.table.draw(&chosen, self.mirrored.is_some(), noise);
        let mut scaled = Vec::with_capacity(raw.len());
        self.scaling.forward(&raw, uniforms(self.scaling, noise), &mut scaled);
        let scaled = Tensor::from_slice(&scaled).view([rows.len() as i64, -1]);
        upload(&scaled, kind, device)
    }

    fn classes(&self, rows: &[usize]) -> Option<Vec<u32>> {
        self.table.classes_of(&rows.iter().map(|&row| self.rows[row]).collect::<Vec<usize>>())
    }
}
