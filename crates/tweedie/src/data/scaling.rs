//! From raw to network units and back: one monotone map per column, or one for all pixels.

mod fit;
mod grid;
mod interval;
mod marginals;
mod spline;

use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::column::Column;
use super::dataset::pixel_columns;
use super::images::MOST_LEVELS;
use super::latents::latent_columns;
use crate::{Error, Result};

pub(crate) use fit::fit_values;
pub use fit::{Dequantize, ScalingOptions};
pub use grid::Grid;
pub(super) use grid::regular_grid;
pub use interval::Interval;
pub use marginals::{LEAST_GAIN, MarginalChoice, Marginals};
pub use spline::Spline;

/// A strictly increasing map from raw to network units.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ColumnScaling {
    /// `(raw - shift) / scale`.
    Affine {
        /// The training mean.
        shift: f64,
        /// The training standard deviation.
        scale: f64,
    },
    /// A spline that makes the training values nearly standard normal.
    Gaussianize(Spline),
    /// The map of a bounded column to the line, then another.
    Bounded {
        /// Where the column's values are.
        interval: Interval,
        /// The map of what the interval's map gives.
        map: Box<ColumnScaling>,
    },
}

impl ColumnScaling {
    /// The scaled value and the derivative d scaled / d raw.
    pub fn forward(&self, raw: f64) -> (f64, f64) {
        match self {
            ColumnScaling::Affine { shift, scale } => ((raw - shift) / scale, 1.0 / scale),
            ColumnScaling::Gaussianize(spline) => spline.forward(raw),
            ColumnScaling::Bounded { interval, map } => {
                let (inner, slope) = interval.forward(raw);
                let (scaled, outer) = map.forward(inner);
                (scaled, outer * slope)
            }
        }
    }

    /// The raw value.
    pub fn inverse(&self, scaled: f64) -> f64 {
        match self {
            ColumnScaling::Affine { shift, scale } => shift + scale * scaled,
            ColumnScaling::Gaussianize(spline) => spline.inverse(scaled),
            ColumnScaling::Bounded { interval, map } => interval.inverse(map.inverse(scaled)),
        }
    }

    /// Whether a stored map is one.
    fn is_map(&self) -> bool {
        match self {
            ColumnScaling::Affine { shift, scale } => positive(*scale) && shift.is_finite(),
            ColumnScaling::Gaussianize(_) => true,
            ColumnScaling::Bounded { map, .. } => map.is_map(),
        }
    }
}

/// A column and its map.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScaledColumn {
    /// The column.
    pub column: Column,
    /// The grid, if the column is dequantised: value `v` stands for `v + bin (u - 1/2)`, `u`
    /// uniform on [0, 1).
    pub grid: Option<Grid>,
    /// The map.
    pub map: ColumnScaling,
}

/// The maps between raw and network units.
///
/// With `y = scale(x)` applied column by column, `log p(x) = log q(y) + log |dy/dx|`, the last term
/// being [`Scaling::log_jacobian`]. All row arguments are row-major, `[rows, dim]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub enum Scaling {
    /// A map for each column of a table, in its order, fitted on the training rows.
    Columns(Vec<ScaledColumn>),
    /// So many pixel levels 0…255, dequantised, to `[−1, 1]`.
    Pixels(usize),
    /// So many latents, as they are.
    Latents(usize),
}

/// Whether a number is a length.
fn positive(x: f64) -> bool {
    x > 0.0 && x.is_normal()
}

/// Half the range of levels: a pixel's shift and scale.
const HALF: f64 = 127.5;
/// The map of a pixel.
static PIXEL: ColumnScaling = ColumnScaling::Affine { shift: HALF, scale: HALF };
/// The map of a latent.
static LATENT: ColumnScaling = ColumnScaling::Affine { shift: 0.0, scale: 1.0 };
const LEVELS: Grid = Grid { bin: 1.0, origin: 0.0 };

/// How a scaling is written.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Stored {
    Pixels { pixels: usize },
    Latents { latents: usize },
    Columns { columns: Vec<ScaledColumn> },
}

impl From<Scaling> for Stored {
    fn from(scaling: Scaling) -> Stored {
        match scaling {
            Scaling::Pixels(pixels) => Stored::Pixels { pixels },
            Scaling::Latents(latents) => Stored::Latents { latents },
            Scaling::Columns(columns) => Stored::Columns { columns },
        }
    }
}

impl TryFrom<Stored> for Scaling {
    type Error = Error;

    fn try_from(stored: Stored) -> Result<Scaling> {
        let columns = match stored {
            Stored::Pixels { pixels } => {
                Error::check_count("pixels", pixels, MOST_LEVELS)?;
                return Ok(Scaling::Pixels(pixels));
            }
            Stored::Latents { latents } => {
                Error::check_count("latents", latents, MOST_LEVELS)?;
                return Ok(Scaling::Latents(latents));
            }
            Stored::Columns { columns } => columns,
        };
        if columns.is_empty() {
            return Err(Error::config("scaling", "it has no column", "restore the file"));
        }
        for ScaledColumn { column, grid, map } in &columns {
            let bins = grid.is_none_or(|grid| positive(grid.bin) && grid.origin.is_finite());
            if !(bins && map.is_map()) {
                let problem =
                    format!("column `{}` has a scale or bin that is no length", column.name);
                return Err(Error::config("scaling", problem, "restore the file"));
            }
        }
        // as runs of images had it before they were written by their number
        let is_pixel = |(own, column): (&ScaledColumn, Column)| {
            own.column == column && own.grid == Some(LEVELS) && own.map == PIXEL
        };
        match columns.iter().zip(pixel_columns(columns.len())).all(is_pixel) {
            true => Ok(Scaling::Pixels(columns.len())),
            false => Ok(Scaling::Columns(columns)),
        }
    }
}

impl Scaling {
    /// The number of columns or pixels.
    pub fn dim(&self) -> usize {
        match self {
            Scaling::Columns(columns) => columns.len(),
            Scaling::Pixels(n) | Scaling::Latents(n) => *n,
        }
    }

    /// The columns of a table; none of images and latents.
    pub fn columns(&self) -> &[ScaledColumn] {
        match self {
            Scaling::Columns(columns) => columns,
            _ => &[],
        }
    }

    /// The names of the columns; those of pixels are `p1`, `p2`, …, those of latents `z1`, ….
    pub fn names(&self) -> Vec<String> {
        let named = |columns: Vec<Column>| columns.into_iter().map(|column| column.name).collect();
        match self {
            Scaling::Columns(columns) => columns.iter().map(|c| c.column.name.clone()).collect(),
            Scaling::Pixels(pixels) => named(pixel_columns(*pixels)),
            Scaling::Latents(latents) => named(latent_columns(*latents)),
        }
    }

    /// The map of column `k`, from 0.
    ///
    /// # Panics
    /// If there is no such column.
    pub fn map(&self, k: usize) -> &ColumnScaling {
        match self {
            Scaling::Columns(columns) => &columns[k].map,
            Scaling::Pixels(_) => &PIXEL,
            Scaling::Latents(_) => &LATENT,
        }
    }

    /// The grid of column `k`, from 0, if it is dequantised: value `v` stands for
    /// `v + bin (u - 1/2)`, `u` uniform on [0, 1).
    ///
    /// # Panics
    /// If there is no such column.
    pub fn grid(&self, k: usize) -> Option<Grid> {
        match self {
            Scaling::Columns(columns) => columns[k].grid,
            Scaling::Pixels(_) => Some(LEVELS),
            Scaling::Latents(_) => None,
        }
    }

    /// The numbers of the dequantised columns, from 0, increasing.
    pub fn level_columns(&self) -> Vec<usize> {
        (0..self.dim()).filter(|&k| self.grid(k).is_some()).collect()
    }

    /// Scales rows into `out`, replacing what it held. `uniform` gives numbers in [0, 1) and is
    /// called once per cell of a dequantised column, row by row.
    ///
    /// # Panics
    /// If `raw` does not hold whole rows.
    pub fn forward(&self, raw: &[f32], mut uniform: impl FnMut() -> f32, out: &mut Vec<f32>) {
        self.check(raw.len());
        out.clear();
        out.reserve(raw.len());
        for row in raw.chunks_exact(self.dim()) {
            for (k, &value) in row.iter().enumerate() {
                let value = self.noised(k, value, &mut uniform);
                out.push(self.map(k).forward(value).0 as f32);
            }
        }
    }

    /// As [`Scaling::forward`] of [`Scaling::Pixels`], where `levels` and `uniform` `[n, d]` are.
    pub fn pixels_forward(levels: &Tensor, uniform: &Tensor) -> Tensor {
        ((levels.to_kind(uniform.kind()) - (HALF + 0.5)) + uniform) / HALF
    }

    /// [`Scaling::forward`] in double precision, with `log |d scaled / d raw|` of each row in
    /// `log_jacobian`.
    ///
    /// # Panics
    /// If `raw` does not hold whole rows.
    pub fn forward_f64(
        &self,
        raw: &[f32],
        mut uniform: impl FnMut() -> f32,
        out: &mut Vec<f64>,
        log_jacobian: &mut Vec<f64>,
    ) {
        self.check(raw.len());
        out.clear();
        log_jacobian.clear();
        for row in raw.chunks_exact(self.dim()) {
            let mut sum = 0.0;
            for (k, &value) in row.iter().enumerate() {
                let value = self.noised(k, value, &mut uniform);
                let (scaled, derivative) = self.map(k).forward(value);
                out.push(scaled);
                sum += derivative.ln();
            }
            log_jacobian.push(sum);
        }
    }

    /// The raw rows of scaled ones (`f32` or `f64`); values of dequantised columns are rounded to
    /// their grid.
    ///
    /// # Panics
    /// If `scaled` does not hold whole rows.
    pub fn inverse<T: Copy + Into<f64>>(&self, scaled: &[T]) -> Vec<f64> {
        let mut raw = self.inverse_unrounded(scaled);
        for row in raw.chunks_exact_mut(self.dim()) {
            for (k, value) in row.iter_mut().enumerate() {
                if let Some(Grid { bin, origin }) = self.grid(k) {
                    *value = origin + bin * ((*value - origin) / bin).round();
                }
            }
        }
        raw
    }

    /// The raw rows of scaled ones, dequantised columns with their noise.
    ///
    /// # Panics
    /// If `scaled` does not hold whole rows.
    pub fn inverse_unrounded<T: Copy + Into<f64>>(&self, scaled: &[T]) -> Vec<f64> {
        self.check(scaled.len());
        let raw = |(k, &value): (usize, &T)| self.map(k).inverse(value.into());
        let rows = scaled.chunks_exact(self.dim());
        rows.flat_map(|row| row.iter().enumerate().map(raw)).collect()
    }

    /// `log |d scaled / d raw|` of each row at raw values that already hold their noise.
    ///
    /// # Panics
    /// If `raw` does not hold whole rows.
    pub fn log_jacobian(&self, raw: &[f64]) -> Vec<f64> {
        self.check(raw.len());
        let row_sum =
            |row: &[f64]| row.iter().enumerate().map(|(k, &x)| self.map(k).forward(x).1.ln()).sum();
        raw.chunks_exact(self.dim()).map(row_sum).collect()
    }

    /// `Σ log bin` over the dequantised columns: added to a log-density it gives (a bound on) the
    /// log-probability of the discrete values.
    pub fn log_bins(&self) -> f64 {
        (0..self.dim()).filter_map(|k| self.grid(k)).map(|grid| grid.bin.ln()).sum()
    }

    fn noised(&self, k: usize, value: f32, uniform: impl FnOnce() -> f32) -> f64 {
        match self.grid(k) {
            Some(Grid { bin, .. }) => f64::from(value) + bin * (f64::from(uniform()) - 0.5),
            None => value.into(),
        }
    }

    fn check(&self, values: usize) {
        assert!(
            values.is_multiple_of(self.dim()),
            "{values} values are not whole rows of {} columns",
            self.dim()
        );
    }
}
