//! What all readers share: choosing columns, and collecting accepted rows.

use std::path::{Path, PathBuf};

use super::table::{CellType, Column, ColumnKind, Missing, Table, TableOptions};
use crate::error::trying;
use crate::{Error, Result};

/// The two precisions in which a table is collected: single for training, double for echoing.
pub(super) trait Real: Copy {
    const MAX: f64;
    fn of(value: f64) -> Self;
}

impl Real for f32 {
    const MAX: f64 = f32::MAX as f64;
    fn of(value: f64) -> Self {
        value as f32
    }
}

impl Real for f64 {
    const MAX: f64 = f64::MAX;
    fn of(value: f64) -> Self {
        value
    }
}

/// Running mean and variance (Welford).
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Moments {
    count: f64,
    pub mean: f64,
    m2: f64,
}

impl Moments {
    pub fn push(&mut self, value: f64) {
        self.count += 1.0;
        let delta = value - self.mean;
        self.mean += delta / self.count;
        self.m2 += delta * (value - self.mean);
    }

    pub fn sd(&self) -> f64 {
        (self.m2 / self.count.max(1.0)).sqrt()
    }
}

/// A cell that cannot enter a table.
pub(super) struct BadCell {
    /// Position among the chosen columns.
    pub column: usize,
    /// Its value: not a number if the cell was empty or a missing-value mark.
    pub value: f64,
}

/// One column as a file presents it.
pub(super) struct SourceColumn {
    pub name: String,
}

/// Collects rows.
pub(super) struct Builder<T> {
    pub path: PathBuf,
    options: TableOptions,
    /// Missing cells become NaN instead of errors or dropped rows.
    keep_missing: bool,
    /// Chosen columns: position in the file, and name.
    pub chosen: Vec<(usize, String)>,
    pub cells: Vec<CellType>,
    pub values: Vec<T>,
    moments: Vec<Moments>,
    skipped: Vec<usize>,
    seen: usize,
}

impl<T: Real> Builder<T> {
    pub fn new(path: &Path, options: &TableOptions, keep_missing: bool) -> Self {
        Builder {
            path: path.to_owned(),
            options: options.clone(),
            keep_missing,
            chosen: Vec::new(),
            cells: Vec::new(),
            values: Vec::new(),
            moments: Vec::new(),
            skipped: Vec::new(),
            seen: 0,
        }
    }

    /// Applies `columns` and `drop` to the file's columns.
    pub fn choose(&mut self, source: &[SourceColumn]) -> Result<()> {
        let find = |field: &str, wanted: &str| -> Result<usize> {
            let by_name = source.iter().position(|c| c.name == wanted);
            let by_position =
                || wanted.parse::<usize>().ok().filter(|p| (1..=source.len()).contains(p)).map(|p| p - 1);
            by_name.or_else(by_position).ok_or_else(|| {
                let mut names: Vec<_> = source.iter().take(20).map(|c| c.name.as_str()).collect();
                if source.len() > 20 {
                    names.push("…");
                }
                let problem = format!("{} has no column `{wanted}`", self.path.display());
                let remedy =
                    format!("name one of {}, or a position from 1 to {}", names.join(", "), source.len());
                Error::config(field, problem, remedy)
            })
        };
        let mut chosen: Vec<usize> = (0..source.len()).collect();
        if !self.options.columns.is_empty() {
            chosen = self.options.columns.iter().map(|w| find("columns", w)).collect::<Result<_>>()?;
            for (k, column) in chosen.iter().enumerate() {
                if chosen[..k].contains(column) {
                    let problem = format!("column `{}` is named twice", source[*column].name);
                    return Err(Error::config("columns", problem, "name each column once"));
                }
            }
        }
        for wanted in &self.options.drop {
            let column = find("drop", wanted)?;
            chosen.retain(|&c| c != column);
        }
        if chosen.is_empty() {
            return Err(Error::config("drop", "no column is left", "drop fewer columns"));
        }
        self.chosen = chosen.into_iter().map(|c| (c, source[c].name.clone())).collect();
        self.cells = vec![CellType::Double; self.chosen.len()];
        self.moments = vec![Moments::default(); self.chosen.len()];
        Ok(())
    }

    /// Asks for room for `rows` more rows, so that a large table is never copied while it grows. A reader
    /// passes only what the size of the file makes plausible.
    pub fn reserve(&mut self, rows: usize) -> Result<()> {
        let wanted = rows.saturating_mul(self.chosen.len());
        if self.values.capacity() - self.values.len() < wanted {
            trying(|| self.values.try_reserve_exact(wanted)).map_err(|_| self.too_large())?;
        }
        Ok(())
    }

    fn too_large(&self) -> Error {
        let problem = format!("more than {} rows do not fit into memory", self.seen);
        Error::data(&self.path, problem, "use fewer rows or columns (--columns)")
    }

    /// Adds one row; the caller, who knows where the row stands, words the error.
    pub fn push(&mut self, row: &[f64]) -> std::result::Result<(), BadCell> {
        let bad = row.iter().position(|v| v.is_nan() || v.abs() > T::MAX);
        self.seen += 1;
        if let Some(column) = bad
            && !self.keep_missing
        {
            let value = row[column];
            if self.options.missing == Missing::DropRows && !value.is_finite() {
                self.skipped.push(self.seen - 1);
                return Ok(());
            }
            return Err(BadCell { column, value });
        }
        if self.values.capacity() - self.values.len() < row.len() {
            // Grow by an eighth: a doubling would waste memory the data may need.
            let more = (self.values.len() / 8).max(4096 * row.len());
            let _ = trying(|| self.values.try_reserve_exact(more));
        }
        for (&value, moments) in row.iter().zip(&mut self.moments) {
            self.values.push(T::of(value));
            moments.push(value);
        }
        Ok(())
    }

    /// The error for a cell that [`Builder::push`] refused, at `place` (`line 7`, `row 7`).
    pub fn bad_cell(&self, place: &str, bad: &BadCell, found: &str) -> Error {
        let name = &self.chosen[bad.column].1;
        if bad.value.is_finite() {
            let problem =
                format!("{place}, column `{name}`: found {found}, expected a magnitude below {:.2e}", T::MAX);
            return Error::data(&self.path, problem, "rescale the column, or leave it out with --drop");
        }
        let problem = format!("{place}, column `{name}`: found {found}, expected a finite number");
        let remedy =
            format!("leave such rows out with --missing drop-rows, or the column with --drop {name}");
        Error::data(&self.path, problem, remedy)
    }

    /// The error for a column that does not hold numbers.
    pub fn not_numeric(&self, place: &str, name: &str, found: &str) -> Error {
        let problem = format!("{place}, column `{name}`: found {found}, expected a number");
        let remedy = if self.options.columns.is_empty() {
            format!("leave the column out with --drop {name}")
        } else {
            format!("leave `{name}` out of --columns, or correct the cell")
        };
        Error::data(&self.path, problem, remedy)
    }

    /// Rows offered so far, accepted or not.
    pub fn seen(&self) -> usize {
        self.seen
    }
}

impl Builder<f32> {
    /// The table.
    pub fn finish(mut self) -> Result<Table> {
        if self.values.is_empty() {
            let (problem, remedy) = match self.seen {
                0 => ("there are no rows of data".to_owned(), "check how the file was written"),
                n => {
                    let problem = format!("each of the {n} rows has a missing cell");
                    (problem, "leave out the columns that are mostly missing with --drop")
                }
            };
            return Err(Error::data(&self.path, problem, remedy));
        }
        if self.values.capacity() / 8 > self.values.len() / 7 {
            self.values.shrink_to_fit();
        }
        let kind = |cell| match cell {
            CellType::Integer => ColumnKind::Integer,
            CellType::Single | CellType::Double => ColumnKind::Float,
        };
        let columns = self.chosen.into_iter().zip(&self.cells);
        Ok(Table {
            columns: columns.map(|((_, name), &cell)| Column { name, kind: kind(cell) }).collect(),
            values: self.values,
            source: self.path,
            image: None,
            labels: None,
            files: Vec::new(),
            dropped_rows: self.skipped.len(),
            dropped_duplicates: 0,
            cells: self.cells,
            moments: self.moments,
            skipped: self.skipped,
            layout: None,
            options: self.options,
        })
    }
}

/// Names for `n` columns: those given, `c1`, `c2`, … for empty ones, a suffix for repeated ones.
pub(super) fn unique_names(given: impl IntoIterator<Item = String>) -> Vec<SourceColumn> {
    let mut taken = std::collections::HashSet::new();
    let mut names = Vec::new();
    for (i, name) in given.into_iter().enumerate() {
        let base = if name.is_empty() { format!("c{}", i + 1) } else { name };
        let mut name = base.clone();
        let mut suffix = 1;
        while !taken.insert(name.clone()) {
            name = format!("{base}.{suffix}");
            suffix += 1;
        }
        names.push(SourceColumn { name });
    }
    names
}
