//! Rows of numbers and categories, as a model of mixed rows sees them.

use std::collections::HashMap;
use std::sync::Arc;

use super::bounds::Bounds;
use super::column::{Categories, Values};
use super::dataset::Dataset;
use super::raw::shortest;
use super::scaling::Grid;
use super::schema::{ColumnSchema, Kind, Schema};

/// The most steps of a grid that single precision tells apart with noise within each.
const GRID_STEPS: f64 = (1 << 21) as f64;
/// The share of a bin by which a bound may miss a level by rounding.
const OF_A_BIN: f64 = 1e-6;

/// Which features a model sees of the columns of a schema: numbers and categories.
///
/// A column of numbers is a number; with atoms it is a category, too, which says at which atom it
/// is or at none, and the number is absent wherever it is at one. A column of dates or times is a
/// number, and a column of categories a category. Columns that are constant or left out are no
/// features. Where a cell is missing, all features of its column are absent.
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
    /// What is subtracted from the column's value before it is divided by `unit`.
    pub shift: f64,
    /// The length, in units of the column, of one unit of the feature: 1 for numbers; of dates and
    /// times, whose values are seconds, the seconds of a step of their grid. Single precision holds
    /// 2²⁵ steps exactly.
    pub unit: f64,
    /// The grid of the feature, in its own units, where it is discrete.
    pub grid: Option<Grid>,
    /// The category that says whether the number is at an atom, where it has atoms.
    pub gate: Option<usize>,
    /// The least and the greatest value of the column, where there are any.
    pub bounds: Bounds,
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
    /// `size − 1`, and the values of the codes before.
    pub atoms: Option<(usize, Vec<f64>)>,
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

impl MixedLayout {
    /// The features of the columns of a schema.
    pub fn new(schema: &Schema) -> MixedLayout {
        let (mut numbers, mut categories) = (Vec::new(), Vec::new());
        for (k, column) in schema.columns.iter().enumerate() {
            let name = column.name.clone();
            match &column.kind {
                Kind::Number { grid, atoms, shift, .. } => {
                    let gate = (!atoms.is_empty()).then_some(categories.len());
                    if gate.is_some() {
                        categories.push(CategoryFeature {
                            name: name.clone(),
                            column: k,
                            size: atoms.len() + 1,
                            atoms: Some((numbers.len(), atoms.clone())),
                        });
                    }
                    let grid =
                        grid.map(|Grid { bin, origin }| Grid { bin, origin: origin - shift });
                    numbers.push(NumberFeature {
                        name,
                        column: k,
                        shift: *shift,
                        unit: 1.0,
                        grid,
                        gate,
                        bounds: column.bounds,
                    });
                }
                Kind::Time { unit, range: [low, high], .. } => {
                    let discrete = (high - low) / unit <= GRID_STEPS;
                    let grid = discrete.then_some(Grid { bin: 1.0, origin: 0.0 });
                    // from the middle on, so that single precision holds as many steps as it can
                    let middle = low + unit * ((high - low) / 2.0 / unit).round();
                    numbers.push(NumberFeature {
                        name,
                        column: k,
                        shift: middle,
                        unit: *unit,
                        grid,
                        gate: None,
                        bounds: column.bounds,
                    });
                }
                Kind::Category { names, .. } => categories.push(CategoryFeature {
                    name,
                    column: k,
                    size: names.len(),
                    atoms: None,
                }),
                Kind::Constant { .. } | Kind::LeftOut { .. } => (),
            }
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
            for (feature, values) in self.categories.iter().zip(&of_categories) {
                codes.push(feature.code(values, row));
            }
            let of_row = &codes[codes.len() - c..];
            for (feature, values) in self.numbers.iter().zip(&of_numbers) {
                let last = |gate: usize| of_row[gate] as usize + 1 == self.categories[gate].size;
                numbers.push(match feature.gate.is_none_or(last) {
                    true => feature.encode(values.get(row)) as f32,
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
        let column = |(k, column): (usize, &ColumnSchema)| {
            let code = |row: usize| category_of[k].map(|at| codes[row * c + at]);
            let values = match (&column.kind, number_of[k]) {
                (Kind::LeftOut { .. }, _) => return None,
                (kind, Some(at)) => {
                    let value = |row: usize| self.value(at, code(row), numbers[row * d + at]);
                    rounded((0..rows).map(value).collect(), kind)
                }
                (Kind::Constant { text }, _) => of_names(std::slice::from_ref(text), vec![0; rows]),
                (Kind::Category { names, .. }, _) => {
                    of_names(names, (0..rows).filter_map(code).collect())
                }
                (Kind::Number { .. } | Kind::Time { .. }, None) => {
                    unreachable!("such a column has a number")
                }
            };
            Some((column.name.clone(), values))
        };
        let columns = self.schema.columns.iter().enumerate().filter_map(column).collect();
        Dataset { schema: Some(self.schema.clone()), ..Dataset::of_file(columns) }
    }

    /// The value of the number `at`, whose gate has the code `code`; NaN where it is missing.
    fn value(&self, at: usize, code: Option<u32>, number: f64) -> f64 {
        let feature = &self.numbers[at];
        let atoms = feature.gate.and_then(|gate| self.categories[gate].atoms.as_ref());
        match (atoms, code) {
            (Some(_), Some(Categories::MISSING)) => f64::NAN,
            (Some((_, atoms)), Some(code)) if (code as usize) < atoms.len() => atoms[code as usize],
            _ => feature.decode(number),
        }
    }
}

impl CategoryFeature {
    /// The code of row `row` of the column's values.
    fn code(&self, values: &Values, row: usize) -> u32 {
        match (&self.atoms, values) {
            (None, Values::Category(categories)) => categories.codes[row],
            (None, _) => Categories::MISSING,
            (Some((_, atoms)), values) => match values.get(row) {
                value if value.is_nan() => Categories::MISSING,
                value => match atoms.iter().position(|atom| *atom == value) {
                    Some(at) => at as u32,
                    None => atoms.len() as u32,
                },
            },
        }
    }
}

fn of_names(names: &[String], codes: Vec<u32>) -> Values {
    Values::Category(Categories { names: Arc::new(names.to_vec()), codes })
}

/// Numbers of a column of this kind with as many decimals as it has, in its type.
fn rounded(values: Vec<f64>, kind: &Kind) -> Values {
    let Kind::Number { decimals, written, shift, .. } = kind else { return Values::Double(values) };
    let Some(most) = decimals else {
        // single precision has no more digits than its shortest text
        let digits = |value: f64| if *shift == 0.0 { shortest(value as f32) } else { value };
        return Values::Double(values.into_iter().map(digits).collect());
    };
    let unit = 10_f64.powi(*most as i32);
    // divided, not multiplied, so that each is the nearest number to its text
    let round = |value: f64| match (value * unit).round() / unit {
        rounded if rounded.is_finite() => rounded + 0.0,
        _ => value,
    };
    let values: Vec<f64> = values.into_iter().map(round).collect();
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

    #[test]
    #[should_panic(expected = "code 3 of the 3 categories of `kind`")]
    fn a_code_beyond_its_category_panics() {
        table().1.decode(&[0.0; 5], &[3, 0]);
    }
}
