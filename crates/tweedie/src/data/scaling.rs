//! From raw to network units and back, one monotone map per column.

use serde::{Deserialize, Serialize};

use super::images::pixel_columns;
use super::spline::{Spline, decimal};
use super::table::{Column, ColumnKind, Table};
use crate::{Error, Result};

/// A spline is fitted on at most so many rows, evenly spaced among the training rows.
const SPLINE_ROWS: usize = 1 << 20;
/// A regular grid of a float column has at most so many steps: finer ones are the grid of `f32`
/// itself.
const GRID_STEPS: f64 = (1 << 21) as f64;

/// A column is gaussianised by [`Marginals::Auto`] where that raises the log-likelihood of the
/// column by itself by at least so many nats per row, and the column has a long tail or an edge.
pub const LEAST_GAIN: f64 = 0.2;
/// A tail is long that has a value so many deviations from the median, a deviation being the
/// interquartile range over that of the standard normal distribution.
const LONG_TAIL: f64 = 5.0;
/// The interquartile range of the standard normal distribution.
const NORMAL_IQR: f64 = 1.349;
/// An end of the range is an edge if this share of the values lies within a hundredth of the range
/// from it.
const EDGE: f64 = 0.02;
/// [`Marginals::Auto`] compares the maps on at most so many training rows, evenly spaced.
const COMPARED_ROWS: usize = 20_000;
/// No row adds or takes more than so many nats where maps are compared: beyond a map's own rows
/// only its slope there would decide.
const MOST_OF_A_ROW: f64 = 50.0;
/// With fewer rows than this to compare the maps on, a column is standardised.
const LEAST_COMPARED: usize = 40;
/// A value that takes more than this share of a column that is not dequantised is an atom: no
/// density can be compared there.
const ATOM: f64 = 0.01;

/// What [`Marginals::Auto`] chose for a column, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MarginalChoice {
    /// The column's name.
    pub column: String,
    /// [`Marginals::Standardize`] or [`Marginals::Gaussianize`].
    pub marginals: Marginals,
    /// What gaussianising adds to the mean log-likelihood of the column by itself under a standard
    /// normal density in scaled units, in nats per row, to three decimals: each half of the
    /// training rows is scored by the maps that were fitted on the other half, a difference of more
    /// than 50 nats counting as 50. None if too few rows could be compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gain: Option<f64>,
    /// Whether a value lies more than five deviations from the median, a deviation being the
    /// interquartile range over 1.349.
    pub long_tail: bool,
    /// Whether at least 2 % of the values lie within a hundredth of the range from one of its ends.
    pub edge: bool,
}

impl MarginalChoice {
    /// What the choice was made by, in a few words.
    pub fn reason(&self) -> String {
        let Some(gain) = self.gain else { return "too few distinct values to compare".into() };
        let shape = match (self.long_tail, self.edge) {
            (true, true) => ", long tail and edge",
            (true, false) => ", long tail",
            (false, true) => ", edge",
            (false, false) if gain >= LEAST_GAIN => ", but neither long tail nor edge",
            (false, false) => "",
        };
        format!("{gain:+.3} nats{shape}")
    }
}

/// What the maps make of each column by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Marginals {
    /// Per column: [`Marginals::Gaussianize`] where the column has a long tail or an edge and
    /// gaussianising is worth at least [`LEAST_GAIN`] on training rows that it was not fitted on,
    /// [`Marginals::Standardize`] elsewhere.
    ///
    /// A column of several peaks gains by itself too; without tail or edge they are left to the
    /// network.
    #[default]
    Auto,
    /// Mean 0 and standard deviation 1.
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
    /// The least standard deviation, in raw units, by which a column is divided; with 0 a constant
    /// column is an error.
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
    /// `ln` of the density that a standard normal density of the scaled value gives to the raw one.
    fn log_density(&self, raw: f64) -> f64 {
        let (scaled, derivative) = self.forward(raw);
        derivative.ln() - 0.5 * (scaled * scaled + (2.0 * std::f64::consts::PI).ln())
    }

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
    /// The grid, if the column is dequantised: value `v` stands for `v + bin (u - 1/2)`, `u`
    /// uniform on [0, 1).
    pub grid: Option<Grid>,
    /// The map.
    pub map: ColumnScaling,
}

/// One monotone map per column, fitted on the training rows.
///
/// With `y = scale(x)` applied column by column, `log p(x) = log q(y) + log |dy/dx|`, the last term
/// being [`Scaling::log_jacobian`]. All row arguments are row-major, `[rows, dim]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Scaling {
    /// The columns, in the order of the table.
    pub columns: Vec<ScaledColumn>,
}

/// The most pixels that a written scaling can claim: those of the largest image that is read.
const MOST_PIXELS: usize = super::images::MOST_LEVELS;

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
                if columns.is_empty() {
                    return Err(Error::config("scaling", "it has no column", "restore the file"));
                }
                for ScaledColumn { column, grid, map } in &columns {
                    let positive = |x: f64| x > 0.0 && x.is_normal();
                    let bins =
                        grid.is_none_or(|grid| positive(grid.bin) && grid.origin.is_finite());
                    let maps = match map {
                        ColumnScaling::Affine { shift, scale } => {
                            positive(*scale) && shift.is_finite()
                        }
                        ColumnScaling::Gaussianize(_) => true,
                    };
                    if !(bins && maps) {
                        let problem = format!(
                            "column `{}` has a scale or bin that is no length",
                            column.name
                        );
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
    /// [`Error::Config`] for options that cannot be, [`Error::Data`] for a column that is constant
    /// on `rows`, or is to be dequantised and does not lie on a regular grid.
    ///
    /// # Panics
    /// If a row does not exist.
    pub fn fit(table: &Table, rows: &[usize], options: &ScalingOptions) -> Result<Scaling> {
        Ok(Scaling::choose(table, rows, options)?.0)
    }

    /// As [`Scaling::fit`], with what [`Marginals::Auto`] chose for each column; empty under other
    /// marginals.
    ///
    /// # Errors
    /// As [`Scaling::fit`].
    ///
    /// # Panics
    /// If a row does not exist.
    pub fn choose(
        table: &Table,
        rows: &[usize],
        options: &ScalingOptions,
    ) -> Result<(Scaling, Vec<MarginalChoice>)> {
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
            return Err(Error::config(
                "floor",
                format!("{} is no length", options.floor),
                "give 0 or more",
            ));
        }
        if let Dequantize::Columns(names) = &options.dequantize
            && let Some(unknown) =
                names.iter().find(|n| !table.columns.iter().any(|c| c.name == **n))
        {
            let remedy = format!("name some of {}", table.names().join(", "));
            return Err(Error::config(
                "dequantize",
                format!("there is no column `{unknown}`"),
                remedy,
            ));
        }
        let columns = table.columns.iter().enumerate();
        let fitted: Vec<_> = columns
            .map(|(k, column)| fit_column(table, rows, options, k, column))
            .collect::<Result<_>>()?;
        let (columns, choices): (Vec<_>, Vec<_>) = fitted.into_iter().unzip();
        Ok((Scaling { columns }, choices.into_iter().flatten().collect()))
    }

    /// Pixel levels 0…255 to `[−1, 1]`, dequantised.
    pub fn pixels(columns: &[Column]) -> Scaling {
        let map = ColumnScaling::Affine { shift: 127.5, scale: 127.5 };
        let grid = Some(Grid { bin: 1.0, origin: 0.0 });
        let scaled =
            |column: &Column| ScaledColumn { column: column.clone(), grid, map: map.clone() };
        Scaling { columns: columns.iter().map(scaled).collect() }
    }

    /// The number of columns.
    pub fn dim(&self) -> usize {
        self.columns.len()
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
            for (&value, column) in row.iter().zip(&self.columns) {
                let value = column.dequantize(value.into(), || uniform().into());
                out.push(column.map.forward(value).0 as f32);
            }
        }
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
            for (&value, column) in row.iter().zip(&self.columns) {
                let value = column.dequantize(value.into(), || uniform().into());
                let (scaled, derivative) = column.map.forward(value);
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
        rows.flat_map(|row| {
            row.iter().zip(&self.columns).map(|(&value, c)| c.map.inverse(value.into()))
        })
        .collect()
    }

    /// `log |d scaled / d raw|` of each row at raw values that already hold their noise.
    ///
    /// # Panics
    /// If `raw` does not hold whole rows.
    pub fn log_jacobian(&self, raw: &[f64]) -> Vec<f64> {
        self.check(raw.len());
        let row_sum = |row: &[f64]| {
            row.iter().zip(&self.columns).map(|(&x, c)| c.map.forward(x).1.ln()).sum()
        };
        raw.chunks_exact(self.dim()).map(row_sum).collect()
    }

    /// `Σ log bin` over the dequantised columns: added to a log-density it gives (a bound on) the
    /// log-probability of the discrete values.
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

/// The column's map, and how [`Marginals::Auto`] chose it.
fn fit_column(
    table: &Table,
    rows: &[usize],
    options: &ScalingOptions,
    k: usize,
    column: &Column,
) -> Result<(ScaledColumn, Option<MarginalChoice>)> {
    let wanted = options.dequantize.takes(column);
    let grid = match (wanted, column.kind) {
        (false, _) => None,
        (true, ColumnKind::Integer) => Some(Grid { bin: 1.0, origin: 0.0 }),
        // The grid is that of the whole table, so that no row outside the training part falls
        // between.
        (true, ColumnKind::Float) => {
            let all = table.values.iter().skip(k).step_by(table.dim()).map(|&v| v.into()).collect();
            Some(regular_grid(all).ok_or_else(|| {
                let problem =
                    format!("the values of column `{}` do not lie on a regular grid", column.name);
                Error::data(&table.source, problem, "leave it out of the columns to dequantise")
            })?)
        }
    };
    let at_most = |most: usize| {
        let stride = rows.len().div_ceil(most);
        rows.iter().step_by(stride).map(|&row| f64::from(table.row(row)[k])).collect::<Vec<f64>>()
    };
    let choice = (options.marginals == Marginals::Auto)
        .then(|| compared(&column.name, &at_most(COMPARED_ROWS), grid, options));
    let map = match choice.as_ref().map_or(options.marginals, |choice| choice.marginals) {
        Marginals::Gaussianize => gaussianized(at_most(SPLINE_ROWS), grid, options.knots),
        Marginals::Standardize | Marginals::Auto => None,
    };
    let map = map.or_else(|| standardized(&at_most(usize::MAX), grid, options.floor)).ok_or_else(
        || {
            let problem = format!(
                "column `{}` is constant on the {} rows of the training part",
                column.name,
                rows.len()
            );
            Error::data(&table.source, problem, format!("leave it out with --drop {}", column.name))
        },
    )?;
    Ok((ScaledColumn { column: column.clone(), grid, map }, choice))
}

/// The map to mean 0 and variance 1, noise within bins included; none if the values do not vary.
fn standardized(values: &[f64], grid: Option<Grid>, floor: f64) -> Option<ColumnScaling> {
    let n = values.len() as f64;
    let shift = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - shift).powi(2)).sum::<f64>() / n;
    let noise = grid.map_or(0.0, |g| g.bin * g.bin / 12.0);
    let scale = (variance + noise).sqrt().max(floor);
    (scale > 0.0 && scale.is_finite())
        .then(|| ColumnScaling::Affine { shift: decimal(shift), scale: decimal(scale) })
}

/// The spline to nearly normal values; none if the values do not vary.
fn gaussianized(mut values: Vec<f64>, grid: Option<Grid>, knots: usize) -> Option<ColumnScaling> {
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
    Spline::gaussianize(&values, knots).map(ColumnScaling::Gaussianize)
}

/// What [`Marginals::Auto`] chooses for a column of these training values.
fn compared(
    name: &str,
    values: &[f64],
    grid: Option<Grid>,
    options: &ScalingOptions,
) -> MarginalChoice {
    // Weyl's sequence: evenly spread within bins
    let noise =
        |i: usize| grid.map_or(0.0, |g| g.bin * ((i as f64 * 0.618_033_988_75).fract() - 0.5));
    let mut sorted: Vec<f64> = values.iter().enumerate().map(|(i, v)| v + noise(i)).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let n = sorted.len();
    let (low, high) = (sorted[0], sorted[n - 1]);
    let quartile = |k: usize| sorted[k * (n - 1) / 4];
    let deviation = (quartile(3) - quartile(1)) / NORMAL_IQR;
    let farthest = (high - quartile(2)).max(quartile(2) - low);
    let strip = 0.01 * (high - low);
    let at_low = sorted.partition_point(|v| *v <= low + strip);
    let at_high = n - sorted.partition_point(|v| *v < high - strip);
    let long_tail = farthest > LONG_TAIL * deviation;
    let edge = at_low.max(at_high) as f64 >= EDGE * n as f64;

    let most = (ATOM * n as f64).max(2.0) as usize;
    let atom = |v: f64| {
        let count = sorted.partition_point(|x| *x <= v) - sorted.partition_point(|x| *x < v);
        grid.is_none() && count > most
    };
    let of_half = |odd: usize| values.iter().copied().skip(odd).step_by(2).collect::<Vec<f64>>();
    let gain = || {
        let (mut sum, mut compared) = (0.0, 0_usize);
        for odd in 0..2 {
            let affine = standardized(&of_half(1 - odd), grid, options.floor)?;
            let spline = gaussianized(of_half(1 - odd), grid, options.knots)?;
            for (i, &value) in
                values.iter().enumerate().skip(odd).step_by(2).filter(|(_, v)| !atom(**v))
            {
                let value = value + noise(i);
                let difference = spline.log_density(value) - affine.log_density(value);
                sum += difference.clamp(-MOST_OF_A_ROW, MOST_OF_A_ROW);
                compared += 1;
            }
        }
        (compared >= LEAST_COMPARED).then(|| (1000.0 * sum / compared as f64).round() / 1000.0)
    };
    let gain = gain();
    let gaussianize = (long_tail || edge) && gain.is_some_and(|gain| gain >= LEAST_GAIN);
    let marginals = if gaussianize { Marginals::Gaussianize } else { Marginals::Standardize };
    MarginalChoice { column: name.into(), marginals, gain, long_tail, edge }
}

/// The coarsest regular grid on which all values lie, within what single precision can tell: of
/// decimal steps first, so that prices in cents are whole numbers of cents however far apart they
/// are, else with the smallest gap between values as its step.
pub(super) fn regular_grid(mut values: Vec<f64>) -> Option<Grid> {
    values.sort_unstable_by(f64::total_cmp);
    values.dedup();
    let (low, high) = (*values.first()?, *values.last()?);
    let rounding = 2.0 * f64::from(f32::EPSILON) * low.abs().max(high.abs());
    let mut gaps: Vec<f64> = values.windows(2).map(|w| w[1] - w[0]).collect();
    let gap = gaps.iter().copied().min_by(f64::total_cmp)?;
    if rounding > 0.1 * gap || (high - low) / gap > GRID_STEPS {
        return None;
    }
    let on_grid = |origin: f64, bin: f64| {
        let off = |v: &f64| (v - origin - bin * ((v - origin) / bin).round()).abs();
        values.iter().all(|v| off(v) <= rounding + 1e-6 * bin)
    };
    for decimals in 0..=MOST_DECIMALS {
        let unit = 10_f64.powi(decimals);
        if rounding * unit > 0.1 || (high - low) * unit > GRID_STEPS || !on_grid(0.0, 1.0 / unit) {
            continue;
        }
        let in_units = |v: f64| (v * unit).round() as i64;
        let steps =
            values.iter().fold(0, |all, &v| gcd(all, (in_units(v) - in_units(low)).unsigned_abs()));
        // divided, not multiplied, so that both are the nearest numbers to their decimals
        return Some(Grid { bin: steps as f64 / unit, origin: in_units(low) as f64 / unit });
    }
    // Every gap carries a rounding error. The step is estimated from more and more of them, the
    // smallest first, so that the number of steps in a wide one is right.
    gaps.sort_unstable_by(f64::total_cmp);
    let (mut length, mut steps) = (0.0, 0.0);
    for gap in gaps {
        let bin = if steps > 0.0 { length / steps } else { gap };
        (length, steps) = (length + gap, steps + (gap / bin).round());
    }
    let bin = (high - low) / steps;
    let short: f64 = format!("{bin:.5e}").parse().ok()?;
    let bin = [short, decimal(bin)].into_iter().find(|&bin| on_grid(low, bin))?;
    Some(Grid { bin, origin: decimal(low) })
}

/// Decimals of a grid's step at most.
const MOST_DECIMALS: i32 = 6;

/// The greatest common divisor.
fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid(values: &[f32]) -> Option<(f64, f64)> {
        regular_grid(values.iter().map(|&v| v.into()).collect()).map(|g| (g.bin, g.origin))
    }

    /// Steps and origins are the nearest numbers to their decimals, so that points print as they
    /// were written.
    #[test]
    fn decimal_grids_are_exact() {
        assert_eq!(grid(&[0.0, 10.0, 100.01, 100.02, 1.0, 2.0]), Some((0.01, 0.0)));
        assert_eq!(grid(&[36.0, 36.6, 37.1, 36.8, 35.2]), Some((0.1, 35.2)));
        assert_eq!(grid(&[-0.5, 0.0, 2.5]), Some((0.5, -0.5)));
        assert_eq!(grid(&[19.99, 1299.99, 5.49]), Some((0.5, 5.49)));
        assert_eq!(grid(&[1e5, 1e5 + 0.25, 1e5 + 0.5]), Some((0.25, 1e5)));
        let bin = 1.0 / 3.0;
        let thirds: Vec<f32> =
            [0, 1, 5, 300, 301, 2000].iter().map(|&i| (f64::from(i) * bin) as f32).collect();
        assert!((grid(&thirds).unwrap().0 - bin).abs() < 1e-6);
    }

    #[test]
    fn what_is_no_grid_is_refused() {
        assert_eq!(grid(&[1.0]), None);
        assert_eq!(grid(&[2.0, 3.0, std::f32::consts::PI]), None);
        // cents of a million are finer than single precision there
        assert_eq!(grid(&[1_234_567.9, 1_234_567.0, 10.01]), None);
    }
}
