//! What the columns of a table are: numbers, categories, dates and times, constants, or nothing
//! that a distribution of rows is over.

mod apply;
mod infer;
mod numbers;
mod print;

pub(super) use numbers::{GRID_STEPS, atoms_of, shift_of};

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::bounds::Bounds;
use super::column::{CellType, Values};
use super::order::Difference;
use super::scaling::Grid;
use super::times::TimeFormat;
use super::write::{Named, Style};
use crate::{Error, Result};

/// What the columns of a table are, in the order of its file.
///
/// [`Schema::infer`] finds it by the cells. It goes with a model as JSON, and new tables are read
/// by it ([`super::Dataset::read_with_schema`]). It displays as a table, a line for each column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored")]
pub struct Schema {
    /// The columns of the file, those that are left out among them.
    pub columns: Vec<ColumnSchema>,
    /// The rows in which it was found.
    pub rows: usize,
}

/// What a column is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ColumnSchema {
    /// Its name in the file; `c1`, `c2`, … where the file has none.
    pub name: String,
    /// What it is.
    #[serde(flatten)]
    pub kind: Kind,
    /// Missing cells.
    pub holes: usize,
    /// The least and the greatest value that there can be, in seconds of dates and times, where a
    /// user says so.
    #[serde(default, skip_serializing_if = "unbounded")]
    pub bounds: Bounds,
    /// What a model sees of the column where a user says that it is never less than another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub difference: Option<Difference>,
    /// Whether missing cells are a category of their own, which a model knows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub indicated: bool,
}

fn unbounded(bounds: &Bounds) -> bool {
    *bounds == [None, None]
}

/// The kinds of columns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Kind {
    /// Numbers.
    Number {
        /// The decimals that numbers have, where that is a fixed few: 0 of whole numbers. A sample
        /// is rounded to so many. None of real numbers.
        decimals: Option<u32>,
        /// The fewest and the most decimals that numbers are written with: 1 and 1 as in `41.0`, 0
        /// and 2 as in `0.5` beside `7` and `1.25`. None where some have exponents.
        written: Option<[u32; 2]>,
        /// The regular grid on which all numbers lie, atoms among them, where they repeat.
        grid: Option<Grid>,
        /// The rows with a number off the grid all the same: no more than a thousandth.
        off_grid: usize,
        /// Numbers that repeat so often that no density on numbers holds them, increasing.
        atoms: Vec<f64>,
        /// The rows of each atom.
        atom_rows: Vec<usize>,
        /// What is subtracted before single precision, which would otherwise not tell the numbers
        /// apart; 0 wherever it does.
        shift: f64,
        /// The least and the greatest number.
        range: [f64; 2],
    },
    /// Names out of a list.
    Category {
        /// The names as they are written: of numbers increasing, else in the order of the alphabet.
        names: Vec<String>,
        /// What they are.
        of: CategoryOf,
    },
    /// Dates or times: as numbers seconds since 1970-01-01.
    Time {
        /// How they are written, in the words of `strftime`.
        format: String,
        /// The step of the grid on which all of them lie, in seconds: a day is 86400.
        unit: f64,
        /// The first and the last.
        range: [f64; 2],
    },
    /// One text in every row.
    Constant {
        /// The text, which is written again.
        text: String,
    },
    /// No part of the table that is modelled.
    LeftOut {
        /// Why, for a message: `30162 distinct texts`.
        why: String,
    },
}

/// What the names of a category are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CategoryOf {
    /// Texts.
    Text,
    /// The two truth values.
    Boolean,
    /// A few whole numbers.
    Integer,
    /// A few real numbers.
    Number,
}

impl CategoryOf {
    /// What names are by themselves: a number is one only if it is written as numbers are.
    pub(super) fn of_names(names: &[String]) -> CategoryOf {
        let whole = |name: &String| name.parse::<i64>().is_ok_and(|n| n.to_string() == *name);
        let code = |name: &String| super::raw::is_code(name);
        let number = |name: &String| name.parse::<f64>().is_ok_and(f64::is_finite) && !code(name);
        let truth = |name: &String| name.to_ascii_lowercase().parse::<bool>().is_ok();
        match names {
            names if names.iter().all(whole) => CategoryOf::Integer,
            names if names.iter().all(number) => CategoryOf::Number,
            names if names.iter().all(truth) => CategoryOf::Boolean,
            _ => CategoryOf::Text,
        }
    }

    fn named(self) -> Named {
        match self {
            CategoryOf::Text => Named::Text,
            CategoryOf::Boolean => Named::Boolean,
            CategoryOf::Integer => Named::Integer,
            CategoryOf::Number => Named::Number,
        }
    }
}

/// A schema as it is stored, which may have been changed since.
#[derive(Deserialize)]
struct Stored {
    columns: Vec<ColumnSchema>,
    rows: usize,
}

impl TryFrom<Stored> for Schema {
    type Error = Error;

    fn try_from(Stored { columns, rows }: Stored) -> Result<Schema> {
        let schema = Schema { columns, rows };
        schema.check()?;
        Ok(schema)
    }
}

/// Decimals of a double, at most.
const MOST_DECIMALS: u32 = 17;

impl ColumnSchema {
    /// A column of this name and kind with so many missing cells, of which a user says nothing.
    pub(super) fn new(name: String, kind: Kind, holes: usize) -> ColumnSchema {
        let bounds = [None, None];
        ColumnSchema { name, kind, holes, bounds, difference: None, indicated: false }
    }

    /// Whether the column is part of the table that is modelled or written.
    pub fn is_kept(&self) -> bool {
        !matches!(self.kind, Kind::LeftOut { .. })
    }

    /// How the cells of the column are written, where it has these values.
    pub(super) fn style(&self, values: &Values) -> Style {
        match &self.kind {
            Kind::Number { written: Some([least, most]), .. } => {
                Style::Decimals { least: *least, most: *most }
            }
            Kind::Time { format, .. } => match TimeFormat::new(format) {
                Some(format) => Style::Time(format),
                None => Style::Plain(CellType::Double),
            },
            kind => match values.categories() {
                Some(categories) => {
                    let of = match kind {
                        Kind::Category { of, .. } => *of,
                        _ => CategoryOf::of_names(&categories.names),
                    };
                    Style::Names(categories.names.clone(), of.named())
                }
                None => Style::Plain(values.cell_type()),
            },
        }
    }

    /// What is wrong with a schema that was stored.
    fn problem(&self) -> Option<&'static str> {
        let finite = |values: &[f64]| values.iter().all(|value| value.is_finite());
        let distinct = |names: &[String]| {
            let mut seen = HashSet::new();
            names.iter().all(|name| seen.insert(name))
        };
        if let [Some(low), Some(high)] = self.bounds
            && low >= high
        {
            return Some("has bounds with nothing between them");
        }
        if let Some(problem) = self.difference.as_ref().and_then(Difference::problem) {
            return Some(problem);
        }
        match &self.kind {
            Kind::Number { decimals, written, grid, atoms, atom_rows, shift, range, .. } => {
                let positive = |grid: &Grid| grid.bin.is_normal() && grid.bin > 0.0;
                let right = atoms.len() == atom_rows.len()
                    && atoms.windows(2).all(|pair| pair[0] < pair[1])
                    && finite(atoms)
                    && finite(range)
                    && shift.is_finite()
                    && decimals.is_none_or(|most| most <= MOST_DECIMALS)
                    && written.is_none_or(|[least, most]| least <= most && most <= MOST_DECIMALS)
                    && grid.is_none_or(|grid| positive(&grid) && grid.origin.is_finite());
                (!right).then_some("has a range, grid or atoms that are none")
            }
            Kind::Category { names, .. } => {
                let right = !names.is_empty()
                    && names.len() < u32::MAX as usize
                    && names.iter().all(|name| !name.is_empty())
                    && distinct(names);
                (!right).then_some("has categories without a name, or of one name")
            }
            Kind::Time { format, unit, range } => {
                let right = TimeFormat::new(format).is_some()
                    && unit.is_normal()
                    && *unit > 0.0
                    && finite(range);
                (!right).then_some("has a format or step of times that is none")
            }
            Kind::Constant { .. } | Kind::LeftOut { .. } => None,
        }
    }
}

impl Schema {
    /// Refuses what no table can have.
    fn check(&self) -> Result<()> {
        let wrong = |name: &str, problem: &str| {
            Err(Error::config("schema", format!("column `{name}` {problem}"), "restore the file"))
        };
        let mut names = HashSet::new();
        for column in &self.columns {
            if !names.insert(&column.name) {
                return wrong(&column.name, "is there twice");
            }
            if column.holes > self.rows {
                return wrong(&column.name, "has more missing cells than rows");
            }
            if let Some(problem) = column.problem() {
                return wrong(&column.name, problem);
            }
        }
        let is_number =
            |column: &ColumnSchema| matches!(column.kind, Kind::Number { .. } | Kind::Time { .. });
        for (column, difference) in self.differences() {
            let to = self.column(&difference.to).filter(|to| is_number(to));
            if to.is_none() || !is_number(column) || self.is_circular(&column.name) {
                return wrong(&column.name, "is a difference to a column that cannot be");
            }
        }
        Ok(())
    }

    /// The column called `name`.
    pub fn column(&self, name: &str) -> Option<&ColumnSchema> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// All columns by their names.
    pub(super) fn by_name(&self) -> HashMap<&str, &ColumnSchema> {
        self.columns.iter().map(|column| (column.name.as_str(), column)).collect()
    }

    /// The columns that are not left out, in the order of the file.
    pub fn kept(&self) -> impl Iterator<Item = &ColumnSchema> {
        self.columns.iter().filter(|column| column.is_kept())
    }

    /// The schema of these columns alone, in this order.
    pub(super) fn select(&self, names: &[impl AsRef<str>]) -> Schema {
        let known = self.by_name();
        let columns = names.iter().filter_map(|name| known.get(name.as_ref()));
        let mut columns: Vec<ColumnSchema> = columns.map(|&column| column.clone()).collect();
        let one_of = |name: &String| names.iter().any(|other| other.as_ref() == name);
        for column in &mut columns {
            // without the other column there is no difference to it
            column.difference = column.difference.take().filter(|own| one_of(&own.to));
        }
        Schema { columns, rows: self.rows }
    }
}

/// The names of a category as its values share them.
fn shared(names: &[String]) -> Arc<Vec<String>> {
    Arc::new(names.to_vec())
}

#[cfg(test)]
mod tests;
