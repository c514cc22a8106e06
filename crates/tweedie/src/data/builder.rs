//! What all readers share: choosing columns, and collecting accepted rows.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::precision::Sample;
use super::refusals::{Survey, flag};
use super::table::{CellType, Column, ColumnKind, Found, Missing, Reader, Table, TableOptions};
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
    /// Whatever is wrong is collected here, cell by cell, instead of being an error at once.
    pub survey: Option<Survey>,
    /// Columns of the file that are left out unless they are named: position and why.
    set_aside: Vec<(usize, String)>,
    /// What a person has to be told of the file.
    pub found: Found,
    /// Chosen columns: position in the file, and name.
    pub chosen: Vec<(usize, String)>,
    pub cells: Vec<CellType>,
    pub values: Vec<T>,
    moments: Vec<Moments>,
    /// Rows before rounding, a few of them.
    sample: Sample,
    skipped: Vec<usize>,
    seen: usize,
}

impl<T: Real> Builder<T> {
    pub fn new(path: &Path, options: &TableOptions, keep_missing: bool) -> Self {
        Builder {
            path: path.to_owned(),
            options: options.clone(),
            keep_missing,
            survey: None,
            set_aside: Vec::new(),
            found: Found::default(),
            chosen: Vec::new(),
            cells: Vec::new(),
            values: Vec::new(),
            moments: Vec::new(),
            sample: Sample::default(),
            skipped: Vec::new(),
            seen: 0,
        }
    }

    /// Leaves the column at `position` of the file out, unless `columns` names it.
    pub fn set_aside(&mut self, position: usize, why: impl Into<String>) {
        self.set_aside.push((position, why.into()));
    }

    /// Applies `columns` and `drop` to the file's columns.
    ///
    /// A position is what a person may type for a name. It is refused where columns have numbers
    /// for names, and where the columns are those of a model ([`TableOptions::by_name`]).
    pub fn choose(&mut self, source: &[SourceColumn]) -> Result<()> {
        let positions: HashMap<&str, usize> =
            source.iter().enumerate().rev().map(|(i, c)| (c.name.as_str(), i)).collect();
        let numbered = source.iter().any(|c| c.name.parse::<u64>().is_ok());
        let find = |wanted: &str| -> Option<usize> {
            let by_position = || {
                let position =
                    wanted.parse::<usize>().ok().filter(|p| (1..=source.len()).contains(p));
                position.filter(|_| !numbered && !self.options.by_name).map(|p| p - 1)
            };
            positions.get(wanted).copied().or_else(by_position)
        };
        let unknown = |field: &str, wanted: &str| {
            let problem = format!("{} has no column `{wanted}`", self.path.display());
            let position = match numbered {
                true => "; where names are numbers, positions are not taken".to_owned(),
                false => format!(", or a position from 1 to {}", source.len()),
            };
            Error::config(field, problem, format!("name one of {}{position}", listed(source)))
        };
        let mut chosen: Vec<usize> = (0..source.len()).collect();
        if self.options.by_name {
            let wanted = &self.options.columns;
            let missing: Vec<&String> = wanted.iter().filter(|w| find(w).is_none()).collect();
            if !missing.is_empty() {
                return Err(self.lacks(&missing, source));
            }
            chosen = wanted.iter().filter_map(|w| find(w)).collect();
        } else if !self.options.columns.is_empty() {
            let wanted = self.options.columns.iter();
            chosen = wanted
                .map(|w| find(w).ok_or_else(|| unknown("--columns", w)))
                .collect::<Result<_>>()?;
            let mut seen = HashSet::new();
            if let Some(column) = chosen.iter().find(|column| !seen.insert(**column)) {
                let problem = format!("column `{}` is named twice", source[*column].name);
                return Err(Error::config("--columns", problem, "name each column once"));
            }
        }
        let mut dropped = HashSet::new();
        for wanted in &self.options.drop {
            dropped.insert(find(wanted).ok_or_else(|| unknown("--drop", wanted))?);
        }
        if self.options.columns.is_empty() && chosen.len() > self.set_aside.len() {
            for (position, why) in &self.set_aside {
                if dropped.insert(*position) {
                    self.found.left_out.push((source[*position].name.clone(), why.clone()));
                }
            }
        }
        chosen.retain(|c| !dropped.contains(c));
        if chosen.is_empty() {
            return Err(Error::config("--drop", "no column is left", "drop fewer columns"));
        }
        self.found.columns = source.len();
        self.chosen = chosen.into_iter().map(|c| (c, source[c].name.clone())).collect();
        self.cells = vec![CellType::Double; self.chosen.len()];
        self.moments = vec![Moments::default(); self.chosen.len()];
        if let Some(survey) = &mut self.survey {
            survey.of_columns(self.chosen.len());
        }
        Ok(())
    }

    /// The error for a table that lacks columns of the model.
    fn lacks(&self, missing: &[&String], source: &[SourceColumn]) -> Error {
        let names: Vec<String> = missing.iter().take(8).map(|name| format!("`{name}`")).collect();
        let more = if missing.len() > 8 {
            format!(" and {} more", missing.len() - 8)
        } else {
            String::new()
        };
        let s = if missing.len() == 1 { "" } else { "s" };
        let problem = format!(
            "lacks the column{s} {}{more}, of the {} that are needed; it has {}",
            names.join(", "),
            self.options.columns.len(),
            listed(source)
        );
        Error::data(&self.path, problem, "give a table with these columns, by name, in any order")
    }

    /// Asks for room for `rows` more rows, so that a large table is never copied while it grows. A
    /// reader passes only what the size of the file makes plausible.
    pub fn reserve(&mut self, rows: usize) -> Result<()> {
        let wanted = rows.saturating_mul(self.chosen.len());
        if self.values.capacity() - self.values.len() < wanted {
            trying(|| self.values.try_reserve_exact(wanted)).map_err(|_| self.too_large())?;
        }
        Ok(())
    }

    fn too_large(&self) -> Error {
        let problem = format!("more than {} rows do not fit into memory", self.seen);
        let remedy = match self.options.reader {
            Reader::Training => "use fewer rows or columns (--columns)",
            _ => "give fewer rows",
        };
        Error::data(&self.path, problem, remedy)
    }

    /// Adds one row. `place` says where it stands (`line 7`, `row 7`), `found` what stands in the
    /// cell of a chosen column, given its number and its position in the file; both are called for
    /// errors alone.
    pub fn push(
        &mut self,
        row: &[f64],
        place: impl Fn() -> String,
        found: impl Fn(usize, usize) -> String,
    ) -> Result<()> {
        let bad = |v: &f64| v.is_nan() || v.abs() > T::MAX;
        self.seen += 1;
        if let Some(column) = row.iter().position(bad)
            && !self.keep_missing
        {
            let value = row[column];
            if let Some(survey) = &mut self.survey {
                for (k, &value) in row.iter().enumerate().filter(|(_, v)| bad(v)) {
                    survey.bad(k, value, &place, || found(k, self.chosen[k].0));
                }
            } else if self.options.missing == Missing::DropRows && !value.is_finite() {
                self.skipped.push(self.seen - 1);
                return Ok(());
            } else {
                return Err(self.bad_cell(
                    &place(),
                    column,
                    value,
                    &found(column, self.chosen[column].0),
                ));
            }
        }
        if self.values.capacity() - self.values.len() < row.len() {
            // Grow by an eighth: a doubling would waste memory the data may need.
            let more = (self.values.len() / 8).max(4096 * row.len());
            let _ = trying(|| self.values.try_reserve_exact(more));
        }
        if !self.keep_missing {
            self.sample.push(row);
        }
        for (&value, moments) in row.iter().zip(&mut self.moments) {
            self.values.push(T::of(value));
            moments.push(value);
        }
        Ok(())
    }

    /// The error for a cell that is missing, or too large for single precision.
    fn bad_cell(&self, place: &str, column: usize, value: f64, found: &str) -> Error {
        let name = &self.chosen[column].1;
        let training = self.options.reader == Reader::Training;
        if value.is_finite() {
            let problem = format!(
                "{place}, column `{name}`: found {found}, expected a magnitude below {:.2e}",
                T::MAX
            );
            let remedy = match training {
                true => {
                    format!(
                        "rescale the column, or leave it out with {}",
                        flag("--drop", &[name.as_str()])
                    )
                }
                false => "leave the row out: no model gives it a likelihood".to_owned(),
            };
            return Error::data(&self.path, problem, remedy);
        }
        let problem = format!("{place}, column `{name}`: found {found}, expected a finite number");
        let remedy = match self.options.reader {
            Reader::Training => format!(
                "leave such rows out with --missing drop-rows, or the column with {}",
                flag("--drop", &[name.as_str()])
            ),
            Reader::Scoring => {
                "leave such rows out with --missing drop-rows, or fill the cell".to_owned()
            }
            Reader::Other => "leave the row out of the file, or fill the cell".to_owned(),
        };
        Error::data(&self.path, problem, remedy)
    }

    /// A cell, or a whole column where `place` is the file's schema, that does not hold numbers: an
    /// error, or, in a survey, noted. `column` is the position among the chosen ones.
    pub fn not_numeric(
        &mut self,
        column: usize,
        place: impl Fn() -> String,
        found: &str,
    ) -> Result<()> {
        if let Some(survey) = &mut self.survey {
            survey.text(column, place, found);
            return Ok(());
        }
        let name = &self.chosen[column].1;
        let problem = format!("{}, column `{name}`: found {found}, expected a number", place());
        let dropped = flag("--drop", &[name.as_str()]);
        let remedy = match (self.options.reader, self.options.columns.is_empty()) {
            (Reader::Training, true) => {
                format!("correct the cell, or leave the column out with {dropped}")
            }
            (Reader::Training, false) => {
                format!("leave `{name}` out of --columns, or correct the cell")
            }
            _ => "correct the cell: the model needs the column".to_owned(),
        };
        Err(Error::data(&self.path, problem, remedy))
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
                    let remedy = match self.options.reader {
                        Reader::Training => {
                            "leave out the columns that are mostly missing with --drop"
                        }
                        _ => "fill the cells: the model needs all its columns",
                    };
                    (problem, remedy)
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
            left_out: Vec::new(),
            notes: Vec::new(),
            dropped_rows: self.skipped.len(),
            dropped_duplicates: 0,
            found: self.found,
            cells: self.cells,
            moments: self.moments,
            sample: self.sample,
            skipped: self.skipped,
            layout: None,
            options: self.options,
        })
    }
}

/// Names for `n` columns: those given, `c1`, `c2`, … for empty ones, a suffix for repeated ones.
pub(super) fn unique_names(given: impl IntoIterator<Item = String>) -> Vec<SourceColumn> {
    let mut taken = HashSet::new();
    // where the search for a suffix goes on, so that many equal names are not quadratic
    let mut next: HashMap<String, usize> = HashMap::new();
    let mut names = Vec::new();
    for (i, name) in given.into_iter().enumerate() {
        let base = if name.is_empty() { format!("c{}", i + 1) } else { name };
        let mut name = base.clone();
        if !taken.insert(name.clone()) {
            let suffix = next.entry(base.clone()).or_insert(1);
            loop {
                name = format!("{base}.{suffix}");
                *suffix += 1;
                if taken.insert(name.clone()) {
                    break;
                }
            }
        }
        names.push(SourceColumn { name });
    }
    names
}

/// The names of a file's columns, for a message.
fn listed(source: &[SourceColumn]) -> String {
    let mut names: Vec<_> = source.iter().take(20).map(|c| c.name.as_str()).collect();
    if source.len() > 20 {
        names.push("…");
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 100,000 equal names: linear work, where a search from 1 for each would take minutes.
    #[test]
    fn many_equal_names_are_told_apart_quickly() {
        let given =
            ["a.1".to_owned()].into_iter().chain(std::iter::repeat_n("a".to_owned(), 100_000));
        let names = unique_names(given);
        assert_eq!([&names[1].name, &names[2].name, &names[3].name], ["a", "a.2", "a.3"]);
        assert_eq!(names[100_000].name, "a.100000");
    }
}
