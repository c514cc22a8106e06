//! From raw to network units and back, one monotone map per column.

use serde::{Deserialize, Serialize};

use super::images::pixel_columns;
use super::spline::{Spline, decimal};
use super::table::{Column, ColumnKind, Table};
use crate::{Error, Result};

/// A spline is fitted on at most so many rows, evenly spaced among the training rows.
const SPLINE_ROWS: usize = 1 << 20;
/// A regular grid of a float column has at most so many steps: finer ones are the grid of `f32` itself.
const GRID_STEPS: f64 = (1 << 21) as f64;

/// What the maps make of each column by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Marginals {
    /// Mean 0 and standard deviation 1.
    #[default]
    Standardize,
    /// Nearly standard normal, by a monotone spline.
    Gaussianize,
}

/// Which columns are discrete, so that uniform noise of one grid step makes them continuous.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dequantize {
    /// None.
    #[default]
    None,
    /// All columns of kind [`ColumnKind::Integer`].
    Integers,
    /// These, by name.
    Columns(Vec<String>),
}

impl Dequantize {
    /// Whether `column` is dequantised.
    pub fn takes(&self, column: &Column) -> bool {
        match self {
            Dequantize::None => false,
            Dequantize::Integers => column.kind == ColumnKind::Integer,
            Dequantize::Columns(names) => names.contains(&column.name),
        }
    }
}

/// How to fit a [`Scaling`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScalingOptions {
    /// What the maps make of each column by itself.
    pub marginals: Marginals,
    /// Knots of a spline, at least 2.
    pub knots: usize,
    /// Which columns get uniform noise.
    pub dequantize: Dequantize,
    /// The least standard deviation, in raw units, by which a column is divided; with 0 a constant column is an
    /// error.
    pub floor: f64,
}

impl Default for ScalingOptions {
    fn default() -> Self {
        ScalingOptions {
            marginals: Marginals::default(),
            knots: 32,
            dequantize: Dequantize::default(),
            floor: 0.0,
        }
    }
}

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
}

impl ColumnScaling {
    /// The scaled value and the derivative d scaled / d raw.
    pub fn forward(&self, raw: f64) -> (f64, f64) {
        match self {
            ColumnScaling::Affine { shift, scale } => ((raw - shift) / scale, 1.0 / scale),
            ColumnScaling::Gaussianize(spline) => spline.forward(raw),
        }
    }

    /// The raw value.
    pub fn inverse(&self, scaled: f64) -> f64 {
        match self {
            ColumnScaling::Affine { shift, scale } => shift + scale * scaled,
            ColumnScaling::Gaussianize(spline) => spline.inverse(scaled),
        }
    }
}

/// A regular grid on which the values of a dequantised column lie.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Grid {
    /// The step; noise of this width, centred, is added to a value.
    pub bin: f64,
    /// One of the grid's points.
    pub origin: f64,
}

/// A column and its map.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScaledColumn {
    /// The column.
    pub column: Column,
    /// The grid, if the column is dequantised: value `v` stands for `v + bin (u - 1/2)`, `u` uniform on [0, 1).
    pub grid: Option<Grid>,
    /// The map.
    pub map: ColumnScaling,
}

/// One monotone map per column, fitted on the training rows.
///
/// With `y = scale(x)` applied column by column, `log p(x) = log q(y) + log |dy/dx|`, the last term being
/// [`Scaling::log_jacobian`]. All row arguments are row-major, `[rows, dim]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Scaling {
    /// The columns, in the order of the table.
    pub columns: Vec<ScaledColumn>,
}

/// The most pixels that a written scaling can claim.
const MOST_PIXELS: usize = 1 << 28;

/// How a scaling is written: pixels, which are all alike, by their number.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Stored {
    Pixels { pixels: usize },
    Columns { columns: Vec<ScaledColumn> },
}

impl From<Scaling> for Stored {
    fn from(scaling: Scaling) -> Stored {
        let pixels = scaling.dim();
        match scaling == Scaling::pixels(&pixel_columns(pixels)) {
            true => Stored::Pixels { pixels },
            false => Stored::Columns { columns: scaling.columns },
        }
    }
}

impl TryFrom<Stored> for Scaling {
    type Error = Error;

    fn try_from(stored: Stored) -> Result<Scaling> {
        match stored {
            Stored::Pixels { pixels } => {
                Error::check_count("pixels", pixels, MOST_PIXELS)?;
                Ok(Scaling::pixels(&pixel_columns(pixels)))
            }
            Stored::Columns { columns } => {
                for ScaledColumn { column, grid, map } in &columns {
                    let positive = |x: f64| x > 0.0 && x.is_finite();
                    let bins = grid.is_none_or(|grid| positive(grid.bin) && grid.origin.is_finite());
                    let maps = match map {
                        ColumnScaling::Affine { shift, scale } => positive(*scale) && shift.is_finite(),
                        ColumnScaling::Gaussianize(_) => true,
                    };
                    if !(bins && maps) {
                        let problem =
                            format!("column `{}` has a scale or bin that is no length", column.name);
                        return Err(Error::config("scaling", problem, "restore the file"));
                    }
                }
                Ok(Scaling { columns })
            }
        }
    }
}

impl Scaling {
    /// Fits the maps on `rows` of `table`.
    ///
    /// The moments of a dequantised column are those of its values with the noise, exactly.
    ///
    /// # Errors
    /// [`Error::Config`] for options that cannot be, [`Error::Data`] for a column that is constant on `rows`, or is
    /// to be dequantised and does not lie on a regular grid.
    ///
    /// # Panics
    /// If a row does not exist.
    pub fn fit(table: &Table, rows: &[usize], options: &ScalingOptions) -> Result<Scaling> {
        if rows.is_empty() {
            return Err(Error::data(
                &table.source,
                "there is no row to fit the scaling on",
                "give more rows",
            ));
        }
        if options.knots < 2 {
            let problem = format!("{} is too few", options.knots);
            return Err(Error::config("knots", problem, "give at least 2; 32 is usual"));
        }
        if !(options.floor.is_finite() && options.floor >= 0.0) {
            return Err(Error::config("floor", format!("{} is no length", options.floor), "give 0 or more"));
        }
        if let Dequantize::Columns(names) = &options.dequantize
            && let Some(unknown) = names.iter().find(|n| !table.columns.iter().any(|c| c.name == **n))
        {
            let remedy = format!("name some of {}", table.names().join(", "));
            return Err(Error::config("dequantize", format!("there is no column `{unknown}`"), remedy));
        }
        let columns = table.columns.iter().enumerate();
        let columns =
            columns.map(|(k, column)| fit_column(table, rows, options, k, column)).collect::<Result<_>>()?;
        Ok(Scaling { columns })
    }

    /// Pixel levels 0…255 to `[−1, 1]`, dequantised.
    pub fn pixels(columns: &[Column]) -> Scaling {
        let map = ColumnScaling::Affine { shift: 127.5, scale: 127.5 };
        let grid = Some(Grid { bin: 1.0, origin: 0.0 });
        let scaled = |column: &Column| ScaledColumn { column: column.clone(), grid, map: map.clone() };
        Scaling { columns: columns.iter().map(scaled).collect() }
    }

    /// The number of columns.
    pub fn dim(&self) -> usize {
        self.columns.len()
    }

    /// Scales rows into `out`, replacing what it held. `uniform` gives numbers in [0, 1) and is called once per cell
    /// of a dequantised column, row by row.
    ///
    /// # Panics
    /// If `raw` does not hold whole rows.
    pub fn forward(&self, raw: &[f32], mut uniform: impl FnMut() -> f32, out: &mut Vec<f32>) {
        self.check(raw.len());
        out.clear();
        out.reserve(raw.len());
        for row in raw.chunks_exact(self.dim()) {
            for (&value, column) in row.iter().zip(&self.columns) {
                let value = column.dequantize(value.into(), || uniform().into());
                out.push(column.map.forward(value).0 as f32);
            }
        }
    }

    /// [`Scaling::forward`] in double precision, with `log |d scaled / d raw|` of each row in `log_jacobian`.
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
            for (&value, column) in row.iter().zip(&self.columns) {
                let value = column.dequantize(value.into(), || uniform().into());
                let (scaled, derivative) = column.map.forward(value);
                out.push(scaled);
                sum += derivative.ln();
            }
            log_jacobian.push(sum);
        }
    }

    /// The raw rows of scaled ones (`f32` or `f64`); values of dequantised columns are rounded to their grid.
    ///
    /// # Panics
    /// If `scaled` does not hold whole rows.
    pub fn inverse<T: Copy + Into<f64>>(&self, scaled: &[T]) -> Vec<f64> {
        let mut raw = self.inverse_unrounded(scaled);
        for row in raw.chunks_exact_mut(self.dim()) {
            for (value, column) in row.iter_mut().zip(&self.columns) {
                if let Some(Grid { bin, origin }) = column.grid {
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
        let rows = scaled.chunks_exact(self.dim());
        rows.flat_map(|row| row.iter().zip(&self.columns).map(|(&value, c)| c.map.inverse(value.into())))
            .collect()
    }

    /// `log |d scaled / d raw|` of each row at raw values that already hold their noise.
    ///
    /// # Panics
    /// If `raw` does not hold whole rows.
    pub fn log_jacobian(&self, raw: &[f64]) -> Vec<f64> {
        self.check(raw.len());
        let row_sum =
            |row: &[f64]| row.iter().zip(&self.columns).map(|(&x, c)| c.map.forward(x).1.ln()).sum();
        raw.chunks_exact(self.dim()).map(row_sum).collect()
    }

    /// `Σ log bin` over the dequantised columns: added to a log-density it gives (a bound on) the log-probability of
    /// the discrete values.
    pub fn log_bins(&self) -> f64 {
        self.columns.iter().filter_map(|c| c.grid).map(|g| g.bin.ln()).sum()
    }

    fn check(&self, values: usize) {
        assert!(
            values.is_multiple_of(self.dim()),
            "{values} values are not whole rows of {} columns",
            self.dim()
        );
    }
}

impl ScaledColumn {
    fn dequantize(&self, value: f64, uniform: impl FnOnce() -> f64) -> f64 {
        match self.grid {
            Some(Grid { bin, .. }) => value + bin * (uniform() - 0.5),
            None => value,
        }
    }
}

fn fit_column(
    table: &Table,
    rows: &[usize],
    options: &ScalingOptions,
    k: usize,
    column: &Column,
) -> Result<ScaledColumn> {
    let stride = match options.marginals {
        Marginals::Standardize => 1,
        Marginals::Gaussianize => rows.len().div_ceil(SPLINE_ROWS),
    };
    let mut values: Vec<f64> = rows.iter().step_by(stride).map(|&row| table.row(row)[k].into()).collect();
    let wanted = options.dequantize.takes(column);
    let grid = match (wanted, column.kind) {
        (false, _) => None,
        (true, ColumnKind::Integer) => Some(Grid { bin: 1.0, origin: 0.0 }),
        // The grid is that of the whole table, so that no row outside the training part falls between.
        (true, ColumnKind::Float) => {
            let all = table.values.iter().skip(k).step_by(table.dim()).map(|&v| v.into()).collect();
            Some(regular_grid(all).ok_or_else(|| {
                let problem = format!("the values of column `{}` do not lie on a regular grid", column.name);
                Error::data(&table.source, problem, "leave it out of the columns to dequantise")
            })?)
        }
    };
    let constant = || {
        let problem =
            format!("column `{}` is constant on the {} rows of the training part", column.name, rows.len());
        Error::data(&table.source, problem, format!("leave it out with --drop {}", column.name))
    };
    let affine = |values: &[f64]| {
        let n = values.len() as f64;
        let shift = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|v| (v - shift).powi(2)).sum::<f64>() / n;
        let noise = grid.map_or(0.0, |g| g.bin * g.bin / 12.0);
        let scale = (variance + noise).sqrt().max(options.floor);
        (scale > 0.0 && scale.is_finite())
            .then(|| ColumnScaling::Affine { shift: decimal(shift), scale: decimal(scale) })
            .ok_or_else(constant)
    };
    let map = match options.marginals {
        Marginals::Standardize => affine(&values)?,
        Marginals::Gaussianize => {
            values.sort_unstable_by(f64::total_cmp);
            if let Some(Grid { bin, .. }) = grid {
                // The law of value plus noise has each value's mass evenly spread over its bin.
                let ties: Vec<usize> = values.chunk_by(|a, b| a == b).map(<[f64]>::len).collect();
                let mut start = 0;
                for count in ties {
                    for (i, value) in values[start..start + count].iter_mut().enumerate() {
                        *value += bin * ((i as f64 + 0.5) / count as f64 - 0.5);
                    }
                    start += count;
                }
            }
            match Spline::gaussianize(&values, options.knots) {
                Some(spline) => ColumnScaling::Gaussianize(spline),
                None => affine(&values)?,
            }
        }
    };
    Ok(ScaledColumn { column: column.clone(), grid, map })
}

/// The grid whose step is the smallest gap between distinct values, if all values lie on it within what single
/// precision can tell.
fn regular_grid(mut values: Vec<f64>) -> Option<Grid> {
    values.sort_unstable_by(f64::total_cmp);
    values.dedup();
    let (low, high) = (*values.first()?, *values.last()?);
    let rounding = 2.0 * f64::from(f32::EPSILON) * low.abs().max(high.abs());
    let gap = values.windows(2).map(|w| w[1] - w[0]).min_by(f64::total_cmp)?;
    if rounding > 0.1 * gap || (high - low) / gap > GRID_STEPS {
        return None;
    }
    // The smallest gap carries a rounding error; the whole range over the number of steps hardly any.
    let steps: f64 = values.windows(2).map(|w| ((w[1] - w[0]) / gap).round()).sum();
    let on_grid = |bin: f64| {
        let off = |v: &f64| (v - low - bin * ((v - low) / bin).round()).abs();
        values.iter().all(|v| off(v) <= rounding + 1e-6 * bin)
    };
    let bin = (high - low) / steps;
    let short: f64 = format!("{bin:.5e}").parse().ok()?;
    let bin = [short, decimal(bin)].into_iter().find(|&bin| on_grid(bin))?;
    Some(Grid { bin, origin: decimal(low) })
}
