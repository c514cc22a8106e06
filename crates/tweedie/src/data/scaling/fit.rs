//! Fitting the maps of columns to the training rows.

use serde::{Deserialize, Serialize};

use super::grid::regular_grid;
use super::marginals::compared;
use super::spline::{Spline, decimal};
use super::{ColumnScaling, Grid, MarginalChoice, Marginals, ScaledColumn, Scaling};
use crate::data::Dataset;
use crate::data::column::{Column, ColumnKind, Values};
use crate::data::refusals::{DROP, option};
use crate::{Error, Result};

/// The most rows that a spline is fitted on, evenly spaced among the training rows.
const SPLINE_ROWS: usize = 1 << 20;
/// With fewer levels than this between the lowest and the highest, none of which has more than
/// [`LIGHT`] of the rows, a gaussianised column on a grid has a knot at each.
const MOST_LEVELS: f64 = 512.0;
/// A level with a greater share of the rows is left a part of a smooth map: spread over a wide range
/// of normal values, the noise within its bin would hide what the level says about other columns.
const LIGHT: f64 = 0.1;
/// The most training rows on which [`Marginals::Auto`] compares the maps, evenly spaced.
const COMPARED_ROWS: usize = 20_000;

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
            knots: 64,
            dequantize: Dequantize::default(),
            floor: 0.0,
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
    pub fn fit(table: &Dataset, rows: &[usize], options: &ScalingOptions) -> Result<Scaling> {
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
        table: &Dataset,
        rows: &[usize],
        options: &ScalingOptions,
    ) -> Result<(Scaling, Vec<MarginalChoice>)> {
        if rows.is_empty() {
            let problem = "there is no row to fit the scaling on";
            return Err(Error::data(table.called(), problem, "give more rows"));
        }
        options.check()?;
        let columns = table.columns();
        if let Dequantize::Columns(names) = &options.dequantize
            && let Some(unknown) = names.iter().find(|n| !columns.iter().any(|c| c.name == **n))
        {
            let problem = format!("there is no column `{unknown}`");
            let remedy = format!("name some of {}", table.names().join(", "));
            return Err(Error::config("data.scaling.dequantize", problem, remedy));
        }
        let fit = |(k, column)| fit_column(table, rows, options, k, column);
        let fitted = columns.into_iter().enumerate().map(fit).collect::<Result<Vec<_>>>()?;
        let (columns, choices): (Vec<_>, Vec<_>) = fitted.into_iter().unzip();
        Ok((Scaling::Columns(columns), choices.into_iter().flatten().collect()))
    }
}

impl ScalingOptions {
    /// Refuses what no map can be fitted by.
    pub(crate) fn check(&self) -> Result<()> {
        if self.knots < 2 {
            let problem = format!("{} is too few", self.knots);
            return Err(Error::config(
                "data.scaling.knots",
                problem,
                "give at least 2; 64 is usual",
            ));
        }
        if !(self.floor.is_finite() && self.floor >= 0.0) {
            let problem = format!("{} is no length", self.floor);
            return Err(Error::config("data.scaling.floor", problem, "give 0 or more"));
        }
        Ok(())
    }
}

/// The column's map, and how [`Marginals::Auto`] chose it.
fn fit_column(
    table: &Dataset,
    rows: &[usize],
    options: &ScalingOptions,
    k: usize,
    column: Column,
) -> Result<(ScaledColumn, Option<MarginalChoice>)> {
    let wanted = options.dequantize.takes(&column);
    let values = table.column(k).map(Values::in_single).unwrap_or_default();
    let grid = match (wanted, column.kind) {
        (false, _) => None,
        (true, ColumnKind::Integer | ColumnKind::Category) => Some(Grid { bin: 1.0, origin: 0.0 }),
        // The grid is that of the whole table, so that no row outside the training part falls
        // between.
        (true, ColumnKind::Float) => {
            let all = values.iter().map(|&v| v.into()).collect();
            Some(regular_grid(all).ok_or_else(|| {
                let problem =
                    format!("the values of column `{}` do not lie on a regular grid", column.name);
                Error::data(table.called(), problem, "leave it out of the columns to dequantise")
            })?)
        }
    };
    let own: Vec<f64> = rows.iter().map(|&row| values[row].into()).collect();
    let (map, choice) = fit_values(&column.name, &own, grid, options);
    let map = map.ok_or_else(|| {
        let (name, n) = (&column.name, rows.len());
        let problem = format!("column `{name}` is constant on the {n} rows of the training part");
        let remedy = format!("leave it out with {}", option(DROP, &[name]));
        Error::data(table.called(), problem, remedy)
    })?;
    Ok((ScaledColumn { column, grid, map }, choice))
}

/// The map of a column of these values, without the noise within bins of the grid that they are on;
/// none if they do not vary. And how [`Marginals::Auto`] chose it.
pub(crate) fn fit_values(
    name: &str,
    values: &[f64],
    grid: Option<Grid>,
    options: &ScalingOptions,
) -> (Option<ColumnScaling>, Option<MarginalChoice>) {
    let at_most = |most: usize| {
        let stride = values.len().div_ceil(most).max(1);
        values.iter().step_by(stride).copied().collect::<Vec<f64>>()
    };
    let choice = (options.marginals == Marginals::Auto)
        .then(|| compared(name, &at_most(COMPARED_ROWS), grid, options));
    let map = match choice.as_ref().map_or(options.marginals, |choice| choice.marginals) {
        Marginals::Gaussianize => gaussianized(at_most(SPLINE_ROWS), grid, options.knots),
        Marginals::Standardize | Marginals::Auto => None,
    };
    (map.or_else(|| standardized(values, grid, options.floor)), choice)
}

/// The map to mean 0 and variance 1, noise within bins included; none if the values do not vary.
pub(super) fn standardized(
    values: &[f64],
    grid: Option<Grid>,
    floor: f64,
) -> Option<ColumnScaling> {
    let n = values.len() as f64;
    let shift = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - shift).powi(2)).sum::<f64>() / n;
    let noise = grid.map_or(0.0, |g| g.bin * g.bin / 12.0);
    let scale = (variance + noise).sqrt().max(floor);
    (scale > 0.0 && scale.is_finite())
        .then(|| ColumnScaling::Affine { shift: decimal(shift), scale: decimal(scale) })
}

/// The spline to nearly normal values; none if the values do not vary.
pub(super) fn gaussianized(
    mut values: Vec<f64>,
    grid: Option<Grid>,
    knots: usize,
) -> Option<ColumnScaling> {
    values.sort_unstable_by(f64::total_cmp);
    let edges = bin_edges(&values, grid);
    if let Some(Grid { bin, .. }) = grid {
        // The distribution of value plus noise has each value's mass evenly spread over its bin.
        let ties: Vec<usize> = values.chunk_by(|a, b| a == b).map(<[f64]>::len).collect();
        let mut start = 0;
        for count in ties {
            for (i, value) in values[start..start + count].iter_mut().enumerate() {
                *value += bin * ((i as f64 + 0.5) / count as f64 - 0.5);
            }
            start += count;
        }
    }
    let spline = match edges {
        Some(edges) => Spline::gaussianize_levels(&values, &edges, knots),
        None => Spline::gaussianize(&values, knots),
    };
    spline.map(ColumnScaling::Gaussianize)
}

/// The edges of the bins from the lowest level to the highest, of which there are fewer than
/// [`MOST_LEVELS`] and more than one, where no level has more than [`LIGHT`] of the `sorted`
/// values.
pub(super) fn bin_edges(sorted: &[f64], grid: Option<Grid>) -> Option<Vec<f64>> {
    let heaviest = sorted.chunk_by(|a, b| a == b).map(<[f64]>::len).max()? as f64;
    all_edges(sorted, grid).filter(|_| heaviest < LIGHT * sorted.len() as f64)
}

/// The same whatever the levels' values.
pub(super) fn all_edges(sorted: &[f64], grid: Option<Grid>) -> Option<Vec<f64>> {
    let (low, high, bin) = (*sorted.first()?, *sorted.last()?, grid?.bin);
    let steps = ((high - low) / bin).round();
    let few = (1.0..MOST_LEVELS).contains(&steps);
    few.then(|| (0..=steps as usize + 1).map(|i| low + bin * (i as f64 - 0.5)).collect())
}
