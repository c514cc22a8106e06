//! Rows of numbers and categories, as a model of mixed rows sees them.

use std::collections::HashMap;
use std::sync::Arc;

use super::bounds::Bounds;
use super::column::{Categories, Values};
use super::dataset::Dataset;
use super::raw::shortest;
use super::scaling::Grid;
use super::schema::{ColumnSchema, GRID_STEPS, Kind, Schema};

/// The share of a bin by which a bound may miss a level by rounding.
const OF_A_BIN: f64 = 1e-6;

/// Which features a model sees of the columns of a schema: numbers and categories.
///
/// A column of numbers is a number; with atoms it is a category, too, which says at which atom it
/// is or at none, and the number is absent wherever it is at one. A column of dates or times is a
/// number, and a column of categories a category. Columns that are constant or left out are no
/// features. Where a cell is missing, all features of its column are absent, unless missing cells
/// are a category: then it says so. A column that is never less than another is a number by its
/// difference to it, absent where either cell is missing.
#[derive(Debug, Clone, PartialEq)]
pub struct MixedLayout {
    schema: Arc<Schema>,
    /// The numbers, in the order of their columns.
    pub numbers: Vec<NumberFeature>,
    /// The categories, in the order of their columns.
    pub categories: Vec<CategoryFeature>,
}

/// A number of a row.
#[derive(Debug, Clone, PartialEq)]
pub struct NumberFeature {
    /// The name of its column.
    pub name: String,
    /// The number of its column among those of the schema, from 0.
    pub column: usize,
    /// What is subtracted from the column's value, or its difference, before it is divided by
    /// `unit`.
    pub shift: f64,
    /// The length, in units of the column, of one unit of the feature: 1 for numbers; of dates and
    /// times, whose values are seconds, the seconds of a step of their grid. Single precision holds
    /// 2²⁵ steps exactly.
    pub unit: f64,
    /// The grid of the feature, in its own units, where it is discrete.
    pub grid: Option<Grid>,
    /// The category that says whether the number is at an atom or missing, where it has atoms or
    /// missing cells are a category.
    pub gate: Option<usize>,
    /// The least and the greatest value of the column, or its difference, where there are any.
    pub bounds: Bounds,
    /// The number to which it is a difference, of a column that is never less than another.
    pub above: Option<usize>,
}

/// A category of a row.
#[derive(Debug, Clone, PartialEq)]
pub struct CategoryFeature {
    /// The name of its column.
    pub name: String,
    /// The number of its column among those of the schema, from 0.
    pub column: usize,
    /// The number of categories.
    pub size: usize,
    /// Of the atoms of a number: that number, which is present where the code is the last one,
    /// `size − 1`, and the values of the first codes.
    pub atoms: Option<(usize, Vec<f64>)>,
    /// The code of a missing cell, where missing cells are a category.
    pub hole: Option<u32>,
}

/// Rows as a model of mixed rows sees them.
#[derive(Debug, Clone, PartialEq)]
pub struct MixedRows {
    /// The number of rows.
    pub rows: usize,
    /// Numbers, row-major `[rows, d]`, NaN where one is absent.
    pub numbers: Vec<f32>,
    /// Codes of categories, row-major `[rows, c]`, [`Categories::MISSING`] where one is absent.
    pub codes: Vec<u32>,
}

impl NumberFeature {
    /// The feature of a value of the column.
    pub fn encode(&self, value: f64) -> f64 {
        (value - self.shift) / self.unit
    }

    /// The feature's own bounds: of a discrete one the outer edges of its first and last bins.
    pub fn feature_bounds(&self) -> Bounds {
        let [low, high] = self.bounds.map(|bound| bound.map(|value| self.encode(value)));
        let Some(Grid { bin, origin }) = self.grid else { return [low, high] };
        let first = low.map(|low| ((low - origin) / bin - OF_A_BIN).ceil());
        let last = high.map(|high| ((high - origin) / bin + OF_A_BIN).floor());
        [first.map(|n| origin + bin * (n - 0.5)), last.map(|n| origin + bin * (n + 0.5))]
    }

    /// The value of the column, on its grid where it has one.
    pub fn decode(&self, feature: f64) -> f64 {
        let [low, high] = self.feature_bounds();
        let feature =
            feature.clamp(low.unwrap_or(f64::NEG_INFINITY), high.unwrap_or(f64::INFINITY));
        let Some(Grid { bin, origin }) = self.grid else {
            return self.shift + self.unit * feature;
        };
        let value = self.shift + self.unit * (origin + bin * ((feature - origin) / bin).round());
        // of a step that is no decimal, 0 is a sum of rounding errors
        if value.abs() < 1e-9 * bin * self.unit { 0.0 } else { value }
    }
}

/// A number as [`MixedLayout::new`] makes it of its column.
struct Plan {
    shift: f64,
    unit: f64,
    grid: Option<Grid>,
    atoms: Vec<f64>,
    bounds: Bounds,
}

impl Plan {
    fn of(column: &ColumnSchema) -> Option<Plan> {
        let of_grid = |grid: Option<Grid>, shift: f64, unit: f64| {
            grid.map(|Grid { bin, origin }| Grid {
                bin: bin / unit,
                origin: (origin - shift) / unit,
            })
        };
        if let Some(own) = &column.difference {
            let unit = if let Kind::Time { unit, .. } = column.kind { unit } else { 1.0 };
            return Some(Plan {
                shift: own.shift,
                unit,
                grid: of_grid(own.grid, own.shift, unit),
                atoms: own.atoms.clone(),
                bounds: [Some(0.0), None],
            });
        }
        let bounds = column.bounds;
        match &column.kind {
            Kind::Number { grid, atoms, shift, .. } => Some(Plan {
                shift: *shift,
                unit: 1.0,
                grid: of_grid(*grid, *shift, 1.0),
                atoms: atoms.clone(),
                bounds,
            }),
            Kind::Time { unit, range: [low, high], .. } => {
                let discrete = (high - low) / unit <= GRID_STEPS;
                Some(Plan {
                    // from the middle on, so that single precision holds as many steps as it can
                    shift: low + unit * ((high - low) / 2.0 / unit).round(),
                    unit: *unit,
                    grid: discrete.then_some(Grid { bin: 1.0, origin: 0.0 }),
                    atoms: Vec::new(),
                    bounds,
                })
            }
            _ => None,
        }
    }
}

impl MixedLayout {
    /// The features of the columns of a schema.
    ///
    /// # Panics
    /// If a difference is to a column that is no number.
    pub fn new(schema: &Schema) -> MixedLayout {
        let (mut numbers, mut categories) = (Vec::<NumberFeature>::new(), Vec::new());
        for (k, column) in schema.columns.iter().enumerate() {
            let name = column.name.clone();
            if let Some(Plan { shift, unit, grid, atoms, bounds }) = Plan::of(column) {
                let gated = !atoms.is_empty() || column.indicated;
                let gate = gated.then_some(categories.len());
                if gated {
                    let hole = column.indicated.then_some(atoms.len() as u32);
                    categories.push(CategoryFeature {
                        name: name.clone(),
                        column: k,
                        size: atoms.len() + usize::from(column.indicated) + 1,
                        atoms: Some((numbers.len(), atoms)),
                        hole,
                    });
                }
                let above = None;
                numbers.push(NumberFeature {
                    name,
                    column: k,
                    shift,
                    unit,
                    grid,
                    gate,
                    bounds,
                    above,
                });
            } else if let Kind::Category { names, .. } = &column.kind {
                categories.push(CategoryFeature {
                    name,
                    column: k,
                    size: names.len() + usize::from(column.indicated),
                    atoms: None,
                    hole: column.indicated.then_some(names.len() as u32),
                });
            }
        }
        let places: HashMap<String, usize> =
            numbers.iter().enumerate().map(|(at, number)| (number.name.clone(), at)).collect();
        for number in &mut numbers {
            let difference = schema.columns[number.column].difference.as_ref();
            number.above = difference.map(|own| {
                *places.get(&own.to).unwrap_or_else(|| panic!("there is no number `{}`", own.to))
            });
        }
        MixedLayout { schema: Arc::new(schema.clone()), numbers, categories }
    }

    /// The schema.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The number of numbers of a row, `d`, and of categories, `c`. Either may be 0.
    pub fn sizes(&self) -> (usize, usize) {
        (self.numbers.len(), self.categories.len())
    }

    /// The features of the rows `rows` of a data set with the layout's schema.
    ///
    /// # Panics
    /// If the data set lacks a column, a category has other names, or a row does not exist.
    pub fn encode(&self, data: &Dataset, rows: &[usize]) -> MixedRows {
        let known: HashMap<&str, &Values> =
            data.table().iter().map(|(name, values)| (name.as_str(), values)).collect();
        let values = |column: usize| {
            let name = self.schema.columns[column].name.as_str();
            *known.get(name).unwrap_or_else(|| panic!("there is no column `{name}`"))
        };
        let of_numbers: Vec<&Values> = self.numbers.iter().map(|of| values(of.column)).collect();
        let of_categories: Vec<&Values> =
            self.categories.iter().map(|of| values(of.column)).collect();
        for (feature, values) in self.categories.iter().zip(&of_categories) {
            if let Kind::Category { names, .. } = &self.schema.columns[feature.column].kind {
                let own = values.categories().map(|of| &*of.names);
                assert_eq!(own, Some(names), "categories of `{}`", feature.name);
            }
        }
        let (d, c) = self.sizes();
        let mut numbers = Vec::with_capacity(d * rows.len());
        let mut codes = Vec::with_capacity(c * rows.len());
        for &row in rows {
            let own: Vec<f64> = (0..d).map(|at| self.seen(at, &of_numbers, row)).collect();
            for (feature, values) in self.categories.iter().zip(&of_categories) {
                codes.push(match &feature.atoms {
                    // a cell whose difference is unknown is not missing, but it is not known either
                    Some((at, _)) => match (own[*at].is_nan(), values.get(row).is_nan()) {
                        (true, false) => Categories::MISSING,
                        _ => feature.code_of(own[*at]),
                    },
                    None => feature.code(values, row),
                });
            }
            let of_row = &codes[codes.len() - c..];
            for (feature, &value) in self.numbers.iter().zip(&own) {
                let last = |gate: usize| of_row[gate] as usize + 1 == self.categories[gate].size;
                numbers.push(match feature.gate.is_none_or(last) {
                    true => feature.encode(value) as f32,
                    false => f32::NAN,
                });
            }
        }
        MixedRows { rows: rows.len(), numbers, codes }
    }

    /// The table of features, numbers `[rows, d]` and codes `[rows, c]` row-major: in the columns
    /// of the schema's file but for those left out, with constants. Numbers come to lie on their
    /// grid, or have as many decimals as their column, or, where it has no fixed few, as many
    /// digits as single precision; a cell of which a feature is absent that is needed is missing.
    ///
    /// Features of [`MixedLayout::encode`] become the cells that they are of, as they are written:
    /// exactly wherever single precision holds the column's numbers and they lie on its grid.
    ///
    /// # Panics
    /// If the features are not those of whole rows, or a code is none of its category.
    pub fn decode(&self, numbers: &[f64], codes: &[u32]) -> Dataset {
        let (d, c) = self.sizes();
        let rows = match (d, c) {
            (0, 0) => 0,
            (0, c) => codes.len() / c,
            (d, _) => numbers.len() / d,
        };
        assert_eq!(
            (numbers.len(), codes.len()),
            (rows * d, rows * c),
            "numbers and codes of {rows} rows of {d} and {c}"
        );
        for (i, &code) in codes.iter().enumerate() {
            let feature = &self.categories[i % c];
            assert!(
                code == Categories::MISSING || (code as usize) < feature.size,
                "code {code} of the {} categories of `{}`",
                feature.size,
                feature.name
            );
        }
        let mut number_of = vec![None; self.schema.columns.len()];
        self.numbers.iter().enumerate().for_each(|(at, of)| number_of[of.column] = Some(at));
        let mut category_of = vec![None; self.schema.columns.len()];
        self.categories.iter().enumerate().for_each(|(at, of)| category_of[of.column] = Some(at));
        let mut of_numbers: Vec<Option<Vec<f64>>> = vec![None; d];
        for at in self.lowest_first() {
            let NumberFeature { column, above, .. } = self.numbers[at];
            let code = |row: usize| category_of[column].map(|at| codes[row * c + at]);
            let value = |row: usize| self.value(at, code(row), numbers[row * d + at]);
            let values = match above {
                None if self.numbers.iter().any(|number| number.above == Some(at)) => {
                    (0..rows).map(value).map(|value| self.settled(at, value)).collect()
                }
                None => (0..rows).map(value).collect(),
                Some(lower) => {
                    let lower = of_numbers[lower].as_ref().expect("the lowest first");
                    (0..rows).map(|row| self.not_below(at, lower[row], value(row))).collect()
                }
            };
            of_numbers[at] = Some(values);
        }
        let mut column = |(k, column): (usize, &ColumnSchema)| {
            let code = |row: usize| category_of[k].map(|at| codes[row * c + at]);
            let hole = category_of[k].and_then(|at| self.categories[at].hole);
            let present = |code: u32| if Some(code) == hole { Categories::MISSING } else { code };
            let values = match (&column.kind, number_of[k]) {
                (Kind::LeftOut { .. }, _) => return None,
                (kind, Some(at)) => {
                    let own = of_numbers[at].take().expect("a number for each");
                    match self.numbers[at].above {
                        Some(_) => of_kind(own, kind),
                        None => rounded(own, kind),
                    }
                }
                (Kind::Constant { text }, _) => of_names(std::slice::from_ref(text), vec![0; rows]),
                (Kind::Category { names, .. }, _) => {
                    of_names(names, (0..rows).filter_map(code).map(present).collect())
                }
                (Kind::Number { .. } | Kind::Time { .. }, None) => {
                    unreachable!("such a column has a number")
                }
            };
            Some((column.name.clone(), values))
        };
        let columns = self.schema.columns.iter().enumerate().filter_map(&mut column).collect();
        Dataset { schema: Some(self.schema.clone()), ..Dataset::of_file(columns) }
    }

    /// The value of the number `at`, or its difference, whose gate has the code `code`; NaN where
    /// it is missing.
    fn value(&self, at: usize, code: Option<u32>, number: f64) -> f64 {
        let feature = &self.numbers[at];
        let Some(gate) = feature.gate.map(|gate| &self.categories[gate]) else {
            return feature.decode(number);
        };
        let atoms = gate.atoms.as_ref().map_or(&[][..], |(_, atoms)| atoms);
        match code {
            Some(Categories::MISSING) => f64::NAN,
            Some(code) if Some(code) == gate.hole => f64::NAN,
            Some(code) if (code as usize) < atoms.len() => atoms[code as usize],
            _ => feature.decode(number),
        }
    }

    /// The numbers, those first to which others are differences.
    fn lowest_first(&self) -> Vec<usize> {
        let below = |at: &usize| self.numbers[*at].above;
        let depth = |at: &usize| std::iter::successors(Some(*at), below).count();
        let mut all: Vec<usize> = (0..self.numbers.len()).collect();
        all.sort_by_key(depth);
        all
    }

    /// The value, or the difference, of the number `at` in row `row` of the values of all; NaN
    /// where it is unknown, as is a difference to a value that is.
    fn seen(&self, at: usize, values: &[&Values], row: usize) -> f64 {
        let feature = &self.numbers[at];
        let value = values[at].get(row);
        let difference = self.schema.columns[feature.column].difference.as_ref();
        match (feature.above, difference) {
            (Some(lower), Some(_)) if self.seen(lower, values, row).is_nan() => f64::NAN,
            (Some(lower), Some(difference)) => difference.of(values[lower].get(row), value),
            _ => value,
        }
    }

    /// The kind of the column of the number `at`.
    fn kind(&self, at: usize) -> &Kind {
        &self.schema.columns[self.numbers[at].column].kind
    }

    /// A value of the number `at`, of a column of an order, as its cells can be: on its grid, with
    /// its decimals.
    fn settled(&self, at: usize, value: f64) -> f64 {
        let kind = self.kind(at);
        let on = |bin: f64, origin: f64| origin + bin * ((value - origin) / bin).round();
        match kind {
            Kind::Time { unit, range: [first, _], .. } => on(*unit, *first),
            Kind::Number { grid, decimals, shift, .. } => {
                // atoms may lie off the grid of the others
                let of_grid = grid.filter(|_| self.numbers[at].above.is_some());
                let value = of_grid.map_or(value, |Grid { bin, origin }| on(bin, origin));
                rounded_one(value, *decimals, *shift)
            }
            _ => value,
        }
    }

    /// The least value that a cell of the number `at` can have from `value` on, where that is one
    /// step of its grid away at most, as by rounding.
    fn at_least(&self, at: usize, least: f64, value: f64) -> f64 {
        let settled = self.settled(at, value);
        if settled >= least || settled.is_nan() || least.is_nan() {
            return settled;
        }
        let kind = self.kind(at);
        let (bin, origin) = match kind {
            Kind::Time { unit, range: [first, _], .. } => (*unit, *first),
            Kind::Number { grid: Some(Grid { bin, origin }), .. } => (*bin, *origin),
            _ => return least,
        };
        let steps = ((least - origin) / bin - OF_A_BIN).ceil();
        let on_grid = self.settled(at, origin + bin * steps);
        if on_grid >= least { on_grid } else { least }
    }

    /// The value of the number `at` of which `difference` is that to `lower`: as a cell of its
    /// column can be, and never less than `lower` is, nor than it is written. NaN where either is.
    fn not_below(&self, at: usize, lower: f64, difference: f64) -> f64 {
        if lower.is_nan() || difference.is_nan() {
            return f64::NAN;
        }
        let written = self.numbers[at].above.map_or(lower, |below| self.written(below, lower));
        self.at_least(at, lower.max(written), lower + difference.max(0.0))
    }

    /// A value of the number `at` as it is written, with no more decimals than its column's cells.
    fn written(&self, at: usize, value: f64) -> f64 {
        match self.kind(at) {
            Kind::Number { written: Some([_, most]), .. } => rounded_one(value, Some(*most), 0.0),
            _ => value,
        }
    }

    /// The cells of `known` where it has any, and others those of `drawn`: of a column of an order
    /// at the same difference to what is known, which single precision need not hold.
    pub(crate) fn filled(&self, known: &Dataset, drawn: &Dataset) -> Dataset {
        let place = self.places_in(known);
        let of_pair = |(at, lower): (usize, usize), own: &mut [f64], below: &Values| {
            let [drawn_own, drawn_below] = [at, lower].map(|at| &drawn.table()[place[at]].1);
            for (row, own) in own.iter_mut().enumerate() {
                if known.table()[place[at]].1.get(row).is_nan() {
                    let difference = drawn_own.get(row) - drawn_below.get(row);
                    *own = self.not_below(at, below.get(row), difference);
                }
            }
        };
        self.changed(known.filled(drawn), of_pair)
    }

    /// `filled` with the cells raised that `known` does not have and that are out of order as they
    /// are written, as means of columns with other decimals can be.
    pub(crate) fn in_order(&self, known: &Dataset, filled: Dataset) -> Dataset {
        let place = self.places_in(known);
        let of_pair = |(at, lower): (usize, usize), own: &mut [f64], below: &Values| {
            for (row, own) in own.iter_mut().enumerate() {
                let least = below.get(row).max(self.written(lower, below.get(row)));
                let is_below = *own < least || self.written(at, *own) < least;
                if is_below && known.table()[place[at]].1.get(row).is_nan() {
                    *own = self.at_least(at, least, *own);
                }
            }
        };
        self.changed(filled, of_pair)
    }

    /// Where the columns of the numbers are in a table.
    fn places_in(&self, table: &Dataset) -> Vec<usize> {
        let names = table.names();
        let place = |number: &NumberFeature| names.iter().position(|own| *own == number.name);
        let place = |number| place(number).expect("a column of the table");
        self.numbers.iter().map(place).collect()
    }

    /// The table with the values of each column of an order that `f` makes of it and of the one
    /// that it is not less than, the lowest first; both are numbers of the layout.
    fn changed(&self, table: Dataset, f: impl Fn((usize, usize), &mut [f64], &Values)) -> Dataset {
        if self.numbers.iter().all(|number| number.above.is_none()) {
            return table;
        }
        let place = self.places_in(&table);
        let mut values: Vec<Values> =
            table.table().iter().map(|(_, values)| values.clone()).collect();
        for at in self.lowest_first() {
            let Some(lower) = self.numbers[at].above else { continue };
            let own = &values[place[at]];
            let mut all: Vec<f64> = (0..own.len()).map(|row| own.get(row)).collect();
            f((at, lower), &mut all, &values[place[lower]]);
            values[place[at]] = of_kind(all, self.kind(at));
        }
        table.with_values(values)
    }
}

impl CategoryFeature {
    /// The code of row `row` of a column of categories.
    fn code(&self, values: &Values, row: usize) -> u32 {
        match values {
            Values::Category(categories) if categories.codes[row] != Categories::MISSING => {
                categories.codes[row]
            }
            _ => self.hole.unwrap_or(Categories::MISSING),
        }
    }

    /// The code of a number, or its difference, which has atoms.
    fn code_of(&self, value: f64) -> u32 {
        let atoms = self.atoms.as_ref().map_or(&[][..], |(_, atoms)| atoms);
        match atoms.iter().position(|atom| *atom == value) {
            _ if value.is_nan() => self.hole.unwrap_or(Categories::MISSING),
            Some(at) => at as u32,
            None => self.size as u32 - 1,
        }
    }
}

fn of_names(names: &[String], codes: Vec<u32>) -> Values {
    Values::Category(Categories { names: Arc::new(names.to_vec()), codes })
}

/// A number with so many decimals, or, where it has no fixed few, with as many digits as single
/// precision.
fn rounded_one(value: f64, decimals: Option<u32>, shift: f64) -> f64 {
    let Some(most) = decimals else {
        // single precision has no more digits than its shortest text
        return if shift == 0.0 { shortest(value as f32) } else { value };
    };
    let unit = 10_f64.powi(most as i32);
    // divided, not multiplied, so that each is the nearest number to its text
    match (value * unit).round() / unit {
        rounded if rounded.is_finite() => rounded + 0.0,
        _ => value,
    }
}

/// Numbers of a column of this kind with as many decimals as it has, in its type.
fn rounded(values: Vec<f64>, kind: &Kind) -> Values {
    let Kind::Number { decimals, shift, .. } = kind else { return Values::Double(values) };
    of_kind(values.into_iter().map(|v| rounded_one(v, *decimals, *shift)).collect(), kind)
}

/// Numbers of a column of this kind in its type.
fn of_kind(values: Vec<f64>, kind: &Kind) -> Values {
    let Kind::Number { decimals: Some(_), written, .. } = kind else {
        return Values::Double(values);
    };
    let exact = |v: &f64| v.fract() == 0.0 && v.abs() < (1_u64 << 53) as f64;
    match *written == Some([0, 0]) && values.iter().all(exact) {
        true => Values::Integer(values.into_iter().map(|v| v as i64).collect()),
        false => Values::Double(values),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{RawColumn, RawTable, TypeOptions};

    /// A table with every kind of column, holes among them, and its layout.
    fn table() -> (Dataset, MixedLayout) {
        let count = 240;
        let every = |n: usize, cell: &dyn Fn(usize) -> String| -> Vec<String> {
            (0..count).map(|i| if i % 17 == n { "?".into() } else { cell(i) }).collect()
        };
        let columns: Vec<(&str, Vec<String>)> = vec![
            ("age", every(1, &|i| (17 + i * 7 % 73).to_string())),
            ("kind", every(2, &|i| ["a", "b c", "d"][i % 3].to_string())),
            ("gain", every(3, &|i| if i % 3 > 0 { "0".into() } else { (i * i).to_string() })),
            ("key", (0..count).map(|i| format!("k{i}")).collect()),
            ("price", every(4, &|i| format!("{:.2}", (i * 37 % 200) as f64 / 4.0))),
            ("year", vec!["2013".into(); count]),
            ("day", every(5, &|i| format!("2013-01-{:02}", 1 + i % 28))),
            ("stamp", every(6, &|i| (1_360_000_000 + i * i * 7 % 9001).to_string())),
        ];
        let raw = columns
            .iter()
            .map(|(name, cells)| RawColumn::cells(*name, cells.iter().map(String::as_str)));
        let raw = RawTable::new(raw.collect()).unwrap();
        let schema = Schema::infer(&raw, &TypeOptions::default()).unwrap();
        let data = Dataset::of_raw(raw, &schema).unwrap();
        let layout = MixedLayout::new(&schema);
        (data, layout)
    }

    fn text(data: &Dataset) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.csv");
        data.write(&path).unwrap();
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn features_are_those_of_the_columns() {
        let (data, layout) = table();
        let numbers: Vec<&str> = layout.numbers.iter().map(|of| of.name.as_str()).collect();
        assert_eq!(numbers, ["age", "gain", "price", "day", "stamp"]);
        let categories: Vec<(&str, usize)> =
            layout.categories.iter().map(|of| (of.name.as_str(), of.size)).collect();
        assert_eq!(categories, [("kind", 3), ("gain", 2)]);
        assert_eq!(layout.sizes(), (5, 2));
        let rows = layout.encode(&data, &[0, 1, 2, 3]);
        let (numbers, codes) = (|i: usize, k: usize| rows.numbers[i * 5 + k], &rows.codes);
        // age 17; gain 0, an atom and no number; a price of 0; the first of 28 days, whose middle
        // is the 15th
        assert_eq!((numbers(0, 0), numbers(0, 2), numbers(0, 3)), (17.0, 0.0, -14.0));
        // row 0 has a gain of 0 though it is one of those that vary
        assert!(numbers(0, 1).is_nan() && codes[..2] == [0, 0]);
        assert!(numbers(1, 0).is_nan(), "a hole");
        assert_eq!(codes[2 * 2], Categories::MISSING, "a hole");
        // both features of a column with a hole
        assert!(numbers(3, 1).is_nan() && codes[3 * 2 + 1] == Categories::MISSING);
        assert_eq!(numbers(2, 3), -12.0, "days");
        let six = layout.encode(&data, &[48]);
        assert_eq!((six.numbers[1], six.codes[1]), (2304.0, 1), "a gain beside the atom");
        assert!(layout.numbers[4].shift > 1.3e9, "single precision holds the differences");
    }

    /// What is written of rows is the same after they were features; a key is left out.
    #[test]
    fn rows_survive_their_features() {
        let (data, layout) = table();
        let all: Vec<usize> = (0..data.rows()).collect();
        let rows = layout.encode(&data, &all);
        let numbers: Vec<f64> = rows.numbers.iter().map(|&number| number.into()).collect();
        let back = layout.decode(&numbers, &rows.codes);
        assert_eq!(text(&back), text(&data));
        assert_eq!(back.names(), ["age", "kind", "gain", "price", "year", "day", "stamp"]);
        assert!(text(&back).starts_with("age,kind,gain,price,year,day,stamp\n17,a,0,0.00,2013,"));
        let part = layout.encode(&data, &[7, 3]);
        assert_eq!(part.codes, [&rows.codes[14..16], &rows.codes[6..8]].concat());
        assert_eq!(layout.decode(&[], &[]).rows(), 0);
    }

    /// Samples lie between the points of a grid; they come to lie on it.
    #[test]
    fn samples_come_to_lie_on_the_grid() {
        let (_, layout) = table();
        let numbers = [40.4, f64::NAN, 3.2, -12.3, 100.2, -0.2, 7.6, 2.0, -13.6, 5.0];
        let data = layout.decode(&numbers, &[1, 0, Categories::MISSING, 1]);
        let [first, second] = [text(&data).lines().nth(1), text(&data).lines().nth(2)]
            .map(|line| line.unwrap().to_owned());
        let stamp = layout.numbers[4].shift;
        assert_eq!(first, format!("40,b c,0,3.25,2013,2013-01-03,{}", stamp + 100.0));
        assert_eq!(second, format!("0,,9,2.00,2013,2013-01-01,{}", stamp + 5.0));
    }

    /// A cell that is filled in is not less than the one beside it as both are written: what is
    /// known of `low` has more decimals than its column, and of a mean of `high` they are cut.
    #[test]
    fn what_is_filled_in_is_in_order_as_it_is_written() {
        let cells = |n: usize, text: &dyn Fn(usize) -> String| (0..n).map(text).collect::<Vec<_>>();
        let column = |name: &str, cells: Vec<String>| {
            RawColumn::cells(name, cells.iter().map(String::as_str))
        };
        let (low, high) = (|i: usize| i as f64 * 1.7, |i: usize| (i * i % 7) as f64 / 3.0);
        let raw = RawTable::new(vec![
            column("high", cells(60, &|i| format!("{:.2}", 0.1 + low(i) + high(i)))),
            column("low", cells(60, &|i| format!("{:.1}", low(i)))),
        ]);
        let raw = raw.unwrap();
        let mut schema = Schema::infer(&raw, &TypeOptions::default()).unwrap();
        schema.order(&["low<=high".parse().unwrap()]).unwrap();
        let data = Dataset::of_raw(raw, &schema).unwrap().with_differences();
        let (schema, layout) = (data.schema().unwrap(), MixedLayout::new(data.schema().unwrap()));
        let table = |high: &str, low: &str| {
            let raw =
                [("high", high), ("low", low)].map(|(name, cell)| RawColumn::cells(name, [cell]));
            Dataset::of_raw(RawTable::new(raw.to_vec()).unwrap(), schema).unwrap()
        };
        let drawn = table("1.31", "1.3");
        let known = table("", "1.27");
        let written = |table: &Dataset| text(table).lines().nth(1).unwrap().to_owned();
        assert_eq!(written(&layout.filled(&known, &drawn)), "1.30,1.3");
        assert_eq!(written(&known.filled(&table("1.28", "1.27"))), "1.28,1.3");
        let mean = known.filled(&table("1.28", "1.27"));
        assert_eq!(written(&layout.in_order(&known, mean)), "1.30,1.3");
        // what is there stays
        let known = table("1.28", "1.27");
        assert_eq!(written(&layout.in_order(&known, known.clone())), "1.28,1.3");
    }

    #[test]
    #[should_panic(expected = "code 3 of the 3 categories of `kind`")]
    fn a_code_beyond_its_category_panics() {
        table().1.decode(&[0.0; 5], &[3, 0]);
    }
}
