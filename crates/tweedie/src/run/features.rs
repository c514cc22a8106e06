//! Rows of a table with categories and holes in a model's units.

use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use crate::data::{
    Column, ColumnKind, ColumnScaling, Dataset, Dequantize, Grid, Interval, MarginalChoice,
    MixedLayout, NumberFeature, ScaledColumn, Scaling, ScalingOptions, Schema, fit_values,
};
use crate::noise::{Noise, Seed};
use crate::query::{Batch, CellLayout, Cells, Columns, Condition, Role};
use crate::tensor::upload;
use crate::train::Rows;
use crate::{Error, Result};

/// What a model sees of the rows of a table with categories and holes: numbers, each brought to the
/// model's units by a map of its own, and codes of categories. A table without numbers has one that
/// is absent from every row.
#[derive(Clone, Debug)]
pub struct Features {
    layout: MixedLayout,
    cells: Arc<CellLayout>,
    scaling: Scaling,
    /// What is given in every question.
    context: Columns,
}

/// Rows in a model's units.
#[derive(Clone, Debug, Default)]
pub struct FeatureRows {
    /// Numbers `[n, d]` row-major, NaN where one is absent.
    pub numbers: Vec<f64>,
    /// `ln |d scaled/d raw|` of each number, `[n, d]`; 0 where it is absent.
    pub log_slopes: Vec<f64>,
    /// Codes of categories `[n, c]`, [`Cells::MISSING`] where one is absent.
    pub codes: Vec<u32>,
}

impl FeatureRows {
    /// The sum of `ln |d scaled/d raw|` over the present numbers of each row of `d`.
    pub fn log_jacobian(&self, d: usize) -> Vec<f64> {
        self.log_slopes.chunks_exact(d).map(|row| row.iter().sum()).collect()
    }
}

/// The least distance from an end of its range at which a number differs from the end, in units of
/// the mean distance: what single precision resolves.
const NEAREST: f64 = 1e-7;
/// The map of a number that no row has.
const NOWHERE: ColumnScaling = ColumnScaling::Affine { shift: 0.0, scale: 1.0 };

impl Features {
    /// Fits the maps on `rows` of a table with a schema, each on the numbers that are there.
    ///
    /// # Errors
    /// [`Error::Config`] for options that cannot be, and bounds with nothing between them.
    ///
    /// # Panics
    /// If the table has no schema.
    pub fn fit(
        table: &Dataset,
        rows: &[usize],
        options: &ScalingOptions,
        seed: Seed,
    ) -> Result<(Features, Vec<MarginalChoice>)> {
        if options.dequantize != Dequantize::None {
            let problem = "the columns of this table say themselves which lie on a grid";
            let remedy = "leave it out; data.types says what a column is";
            return Err(Error::config("data.scaling.dequantize", problem, remedy));
        }
        options.check()?;
        let layout = MixedLayout::new(table.schema().expect("a table with a schema"));
        let encoded = layout.encode(table, rows);
        let (d, mut columns, mut choices) = (layout.numbers.len(), Vec::new(), Vec::new());
        for (k, number) in layout.numbers.iter().enumerate() {
            let present = encoded.numbers.iter().skip(k).step_by(d.max(1)).copied();
            let present: Vec<f32> = present.filter(|value| !value.is_nan()).collect();
            let (map, choice) = fitted(number, &present, options, seed)?;
            columns.push(ScaledColumn { column: column_of(number), grid: number.grid, map });
            choices.extend(choice);
        }
        if d == 0 {
            let column = Column { name: String::new(), kind: ColumnKind::Float };
            columns.push(ScaledColumn { column, grid: None, map: NOWHERE });
        }
        Ok((Features::with_layout(layout, Scaling::Columns(columns)), choices))
    }

    /// The features of a table with this schema, whose numbers have this scaling.
    pub fn of(schema: &Schema, scaling: &Scaling) -> Features {
        Features::with_layout(MixedLayout::new(schema), scaling.clone())
    }

    fn with_layout(layout: MixedLayout, scaling: Scaling) -> Features {
        let categories = layout.categories.iter().map(|category| category.size).collect();
        let cells = Arc::new(CellLayout { numbers: scaling.dim(), categories });
        let context = Columns {
            numbers: vec![false; cells.numbers],
            categories: vec![false; cells.categories.len()],
        };
        Features { layout, cells, scaling, context }
    }

    /// Numbers and categories of a row.
    pub fn cells(&self) -> &Arc<CellLayout> {
        &self.cells
    }

    /// The same of a model of the other columns given these.
    #[must_use]
    pub fn given(mut self, columns: &[impl AsRef<str>]) -> Features {
        self.context = self.columns(columns);
        self
    }

    /// What is given in every question.
    pub fn context(&self) -> &Columns {
        &self.context
    }

    /// The numbers and categories of the columns of these names.
    pub fn columns(&self, names: &[impl AsRef<str>]) -> Columns {
        let one_of = |name: &String| names.iter().any(|other| other.as_ref() == name);
        let mut numbers: Vec<bool> =
            self.layout.numbers.iter().map(|number| one_of(&number.name)).collect();
        numbers.resize(self.cells.numbers, false);
        let categories =
            self.layout.categories.iter().map(|category| one_of(&category.name)).collect();
        Columns { numbers, categories }
    }

    /// The columns' features.
    pub fn layout(&self) -> &MixedLayout {
        &self.layout
    }

    /// The maps of the numbers.
    pub fn scaling(&self) -> &Scaling {
        &self.scaling
    }

    /// Whether a row with these codes of categories has the number: it is not at one of its atoms.
    pub fn is_present(&self, number: &NumberFeature, codes: &[u32]) -> bool {
        let at = |gate: usize| codes[gate] as usize + 1 == self.cells.categories[gate];
        number.gate.is_none_or(at)
    }

    /// Rows of a table, numbers on a grid dequantised uniformly; row `i` of them takes a uniform
    /// for each such number, absent or not, of stream `i` of `noise`.
    pub fn scaled(&self, table: &Dataset, rows: &[usize], noise: &mut Noise) -> FeatureRows {
        let encoded = self.layout.encode(table, rows);
        let (own, d) = (self.layout.numbers.len(), self.cells.numbers);
        let bins: Vec<Option<f64>> =
            (0..d).map(|k| self.scaling.grid(k).map(|grid| grid.bin)).collect();
        let levels = bins.iter().flatten().count();
        let uniform = noise.uniform(levels);
        let mut all = FeatureRows { codes: encoded.codes, ..FeatureRows::default() };
        for row in 0..rows.len() {
            let mut uniform = uniform[row * levels..(row + 1) * levels].iter();
            for (k, bin) in bins.iter().enumerate() {
                let raw = if own == 0 { f32::NAN } else { encoded.numbers[row * own + k] };
                let noise = bin.and_then(|bin| Some(bin * (uniform.next()? - 0.5)));
                let (scaled, log_slope) = match raw.is_nan() {
                    true => (f64::NAN, 0.0),
                    false => {
                        let (scaled, slope) =
                            self.scaling.map(k).forward(f64::from(raw) + noise.unwrap_or(0.0));
                        (scaled, slope.ln())
                    }
                };
                all.numbers.push(scaled);
                all.log_slopes.push(log_slope);
            }
        }
        all
    }

    /// `n` rows of which nothing is known.
    pub fn nothing(&self, n: usize) -> FeatureRows {
        let (d, c) = (self.cells.numbers, self.cells.categories.len());
        FeatureRows {
            numbers: vec![f64::NAN; n * d],
            log_slopes: vec![0.0; n * d],
            codes: vec![Cells::MISSING; n * c],
        }
    }

    /// Takes cells that are missing, of columns whose missing cells are categories, for unknown,
    /// but for those of the context.
    pub fn forget_holes(&self, rows: &mut FeatureRows) {
        let c = self.cells.categories.len();
        let holes: Vec<Option<u32>> = self.holes().collect();
        for (i, code) in rows.codes.iter_mut().enumerate() {
            if holes[i % c] == Some(*code) && !self.context.categories[i % c] {
                *code = Cells::MISSING;
            }
        }
    }

    /// The code of a missing cell of each category, where it has one.
    pub fn holes(&self) -> impl Iterator<Item = Option<u32>> + '_ {
        self.layout.categories.iter().map(|category| category.hole)
    }

    /// What is known of rows, all of it given.
    pub fn observed(&self, rows: &FeatureRows) -> Cells {
        Cells::observed(self.cells.clone(), rows.numbers.clone(), rows.codes.clone())
    }

    /// The question about the numbers of rows given their context and categories: `x_0` `[n, d]`, 0
    /// where a number is no target, f64, and the cells.
    pub fn question(&self, rows: &FeatureRows) -> (Tensor, Cells) {
        let d = self.cells.numbers;
        let role = |(i, x): (usize, &f64)| match (x.is_nan(), self.context.numbers[i % d]) {
            (true, _) => Role::Absent,
            (false, true) => Role::Given,
            (false, false) => Role::Target,
        };
        let roles = rows.numbers.iter().enumerate().map(role).collect();
        let (layout, numbers) = (self.cells.clone(), rows.numbers.clone());
        let cells = Cells::new(layout, numbers, roles, rows.codes.clone());
        (self.of_targets(&rows.numbers, &cells), cells)
    }

    /// The targets among numbers `[n, d]`, 0 elsewhere, f64.
    pub fn of_targets(&self, numbers: &[f64], cells: &Cells) -> Tensor {
        let target = |(&x, &role): (&f64, &Role)| if role == Role::Target { x } else { 0.0 };
        let x: Vec<f64> = numbers.iter().zip(cells.roles()).map(target).collect();
        Tensor::from_slice(&x).view([-1, self.cells.numbers as i64])
    }

    /// The table of rows in the model's units, numbers `[n, d]` and codes `[n, c]`: with the
    /// schema's columns, types and names.
    pub fn table(&self, numbers: &[f64], codes: &[u32]) -> Dataset {
        let raw = match self.layout.numbers.is_empty() {
            true => Vec::new(),
            false => self.scaling.inverse_unrounded(numbers),
        };
        self.layout.decode(&raw, codes)
    }
}

/// The column of a number.
fn column_of(number: &NumberFeature) -> Column {
    let whole = number.grid.is_some_and(|grid| grid.bin == 1.0 && grid.origin.fract() == 0.0);
    let kind = if whole { ColumnKind::Integer } else { ColumnKind::Float };
    Column { name: number.name.clone(), kind }
}

/// The map of a number, fitted on its values, those of a grid with the noise in their bins, and how
/// it was chosen. Fewer than two different values have no spread: one step of the grid, or 1, is a
/// unit.
fn fitted(
    number: &NumberFeature,
    values: &[f32],
    options: &ScalingOptions,
    seed: Seed,
) -> Result<(ColumnScaling, Option<MarginalChoice>)> {
    let (name, first) = (&number.name, values.first().copied());
    let constant = || {
        let scale = number.grid.map_or(1.0, |grid| grid.bin);
        ColumnScaling::Affine { shift: first.unwrap_or_default().into(), scale }
    };
    // on a grid the noise within bins is a spread
    let same = values.iter().all(|&value| Some(value) == first);
    if values.is_empty() || number.grid.is_none() && same {
        return Ok((constant(), None));
    }
    let mut values: Vec<f64> = values.iter().map(|&value| value.into()).collect();
    if number.bounds == [None, None] {
        let (map, choice) = fit_values(name, &values, number.grid, options);
        return Ok((map.unwrap_or_else(constant), choice));
    }
    if let Some(Grid { bin, .. }) = number.grid {
        let noise = Noise::new(seed.derive(name), 0..values.len() as u64).uniform(1);
        values.iter_mut().zip(noise).for_each(|(value, u)| *value += bin * (u - 0.5));
    }
    let interval = interval_of(number, &values)?;
    values.iter_mut().for_each(|value| *value = interval.forward(*value).0);
    let (map, choice) = fit_values(name, &values, None, options);
    let map = Box::new(map.unwrap_or_else(constant));
    Ok((ColumnScaling::Bounded { interval, map }, choice))
}

/// Where the values of a bounded number are. A value at an end is taken for one at half the
/// distance of the nearest other.
fn interval_of(number: &NumberFeature, values: &[f64]) -> Result<Interval> {
    let ends = number.feature_bounds();
    let present: Vec<f64> = ends.into_iter().flatten().collect();
    let distances = || values.iter().flat_map(|&v| present.iter().map(move |end| (v - end).abs()));
    let scale = distances().sum::<f64>() / (values.len() * present.len()) as f64;
    let nearest = distances().filter(|d| *d > 0.0).fold(f64::INFINITY, f64::min);
    let least = (0.5 * nearest).clamp(NEAREST * scale, 0.01 * scale);
    Interval::new(ends, scale, least).map_err(|_| {
        let problem = format!("nothing but the bounds themselves is left of `{}`", number.name);
        Error::config("data.table.bounds", problem, "give bounds with values between them")
    })
}

/// Training rows, and the questions that are drawn about them.
///
/// In half of the draws the numbers that are there are the targets, given the categories that are.
/// In the other half some of both are not: of the numbers a uniform share are no targets, but given
/// or, as often, absent, and of the categories a uniform share is not given. The context is given
/// in all.
pub(super) struct Questions<'a> {
    pub(super) features: &'a Features,
    pub(super) table: &'a Dataset,
    pub(super) rows: &'a [usize],
}

impl Questions<'_> {
    fn draw(&self, rows: &[usize], noise: &mut Noise) -> (Tensor, Cells) {
        let chosen: Vec<usize> = rows.iter().map(|&row| self.rows[row]).collect();
        let FeatureRows { numbers, mut codes, .. } =
            self.features.scaled(self.table, &chosen, noise);
        let (layout, context) = (self.features.cells.clone(), &self.features.context);
        let (d, c) = (layout.numbers, layout.categories.len());
        let each = 4 + d + c;
        let draws = noise.uniform(each);
        let mut roles = Vec::with_capacity(numbers.len());
        for (row, draws) in draws.chunks_exact(each).enumerate() {
            let own = &numbers[row * d..(row + 1) * d];
            let [some, share, of_codes, absent] = [draws[0], draws[1], draws[2], draws[3]];
            let (of_numbers, of_categories) = draws[4..].split_at(d);
            let other = if absent < 0.5 { Role::Absent } else { Role::Given };
            let role = |k: usize| match own[k].is_nan() {
                true => Role::Absent,
                false if context.numbers[k] => Role::Given,
                false if some < 0.5 && of_numbers[k] < share => other,
                false => Role::Target,
            };
            let first = roles.len();
            roles.extend((0..d).map(role));
            // of a row that has numbers one at least is asked about
            let present = (0..d).filter(|&k| !own[k].is_nan() && !context.numbers[k]);
            if let Some(last) = present.max_by(|&a, &b| of_numbers[a].total_cmp(&of_numbers[b])) {
                roles[first + last] = Role::Target;
            }
            for (k, code) in codes[row * c..(row + 1) * c].iter_mut().enumerate() {
                if some < 0.5 && of_categories[k] < of_codes && !context.categories[k] {
                    *code = Cells::MISSING;
                }
            }
        }
        let cells = Cells::new(layout, numbers.clone(), roles, codes);
        (self.features.of_targets(&numbers, &cells), cells)
    }
}

impl Rows for Questions<'_> {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn gather(&self, rows: &[usize], noise: &mut Noise, place: (Kind, Device)) -> Tensor {
        self.batch(rows, noise, place).x
    }

    fn batch(&self, rows: &[usize], noise: &mut Noise, (kind, device): (Kind, Device)) -> Batch {
        let (x, cells) = self.draw(rows, noise);
        Batch::of(&upload(&x, kind, device)).given(Some(Condition::cells(cells)))
    }
}
