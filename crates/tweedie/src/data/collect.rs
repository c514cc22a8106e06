//! What all readers of tables share: choosing columns, and collecting accepted rows.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::column::{Cell, CellType, Values};
use super::dataset::Dataset;
use super::formats::text::Layout;
use super::options::{Found, Missing, TableOptions};
use super::place::FileRows;
use super::refusals::{DROP, DROP_ROWS, option};
use super::survey::Survey;
use crate::error::{Place, trying};
use crate::{Error, Result};

/// Where a cell stands in its file: a row, from 1, or nowhere, as what concerns all rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spot {
    Line(u64),
    Row(u64),
    Schema,
}

impl std::fmt::Display for Spot {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Spot::Line(line) => write!(f, "line {line}"),
            Spot::Row(row) => write!(f, "row {row}"),
            Spot::Schema => f.write_str("schema"),
        }
    }
}

impl Spot {
    fn in_column(self, path: &Path, column: &str) -> Place {
        let place = Place::file(path).column(column);
        match self {
            Spot::Line(line) => place.line(line),
            Spot::Row(row) => place.row(row),
            Spot::Schema => place,
        }
    }
}

/// Collects the rows of a table.
pub(super) struct Collector {
    pub path: PathBuf,
    pub options: TableOptions,
    /// The largest magnitude that a cell can have: that of single precision, unless nothing is
    /// rounded to it.
    pub most: f64,
    /// Missing cells become NaN instead of errors or dropped rows, and any magnitude is accepted.
    pub keep_missing: bool,
    /// Whatever is wrong is collected here, cell by cell, instead of being an error at once.
    pub survey: Option<Survey>,
    /// Columns of the file that are left out unless they are named: position and why.
    set_aside: Vec<(usize, String)>,
    /// What has to be reported about the file.
    pub found: Found,
    pub notes: Vec<String>,
    pub layout: Option<Layout>,
    /// Chosen columns: position in the file, and name.
    pub chosen: Vec<(usize, String)>,
    pub columns: Vec<Values>,
    /// Whether the cells that are there are whole numbers, column by column.
    pub whole: Vec<bool>,
    skipped: Vec<usize>,
    /// Rows offered so far, accepted or not.
    pub seen: usize,
}

impl Collector {
    pub fn new(path: &Path, options: &TableOptions) -> Self {
        Collector {
            path: path.to_owned(),
            options: options.clone(),
            most: f32::MAX.into(),
            keep_missing: false,
            survey: None,
            set_aside: Vec::new(),
            found: Found::default(),
            notes: Vec::new(),
            layout: None,
            chosen: Vec::new(),
            columns: Vec::new(),
            whole: Vec::new(),
            skipped: Vec::new(),
            seen: 0,
        }
    }

    /// Leaves the column at `position` of the file out, unless `columns` names it.
    pub fn set_aside(&mut self, position: usize, why: impl Into<String>) {
        self.set_aside.push((position, why.into()));
    }

    /// Applies `columns` and `drop` to the file's columns. Values are whole numbers until one comes
    /// that is not.
    ///
    /// A position is what a person may type for a name. It is refused where columns have numbers
    /// for names, and where the columns are those of a model ([`TableOptions::by_name`]).
    pub fn choose(&mut self, source: &[String]) -> Result<()> {
        let positions: HashMap<&str, usize> =
            source.iter().enumerate().rev().map(|(i, name)| (name.as_str(), i)).collect();
        let numbered = source.iter().any(|name| name.parse::<u64>().is_ok());
        let find = |wanted: &str| -> Option<usize> {
            let by_position = || {
                let position: usize = wanted.parse().ok()?;
                let allowed = !numbered && !self.options.by_name;
                (allowed && (1..=source.len()).contains(&position)).then(|| position - 1)
            };
            positions.get(wanted).copied().or_else(by_position)
        };
        let find_given = |field: &str, wanted: &String| {
            find(wanted).ok_or_else(|| {
                let problem = format!("{} has no column `{wanted}`", self.path.display());
                let position = match numbered {
                    true => "; where names are numbers, positions are not taken".to_owned(),
                    false => format!(", or a position from 1 to {}", source.len()),
                };
                Error::config(field, problem, format!("name one of {}{position}", listed(source)))
            })
        };
        let wanted = &self.options.columns;
        let mut chosen: Vec<usize> = if self.options.by_name {
            let missing: Vec<&String> = wanted.iter().filter(|w| find(w).is_none()).collect();
            if !missing.is_empty() {
                return Err(self.lacks(&missing, source));
            }
            wanted.iter().filter_map(|w| find(w)).collect()
        } else if wanted.is_empty() {
            (0..source.len()).collect()
        } else {
            wanted.iter().map(|w| find_given("data.table.columns", w)).collect::<Result<_>>()?
        };
        let mut seen = HashSet::new();
        if let Some(column) = chosen.iter().find(|column| !seen.insert(**column)) {
            let problem = format!("column `{}` is named twice", source[*column]);
            return Err(Error::config("data.table.columns", problem, "name each column once"));
        }
        let drop = self.options.drop.iter();
        let mut dropped: HashSet<usize> =
            drop.map(|wanted| find_given(DROP, wanted)).collect::<Result<_>>()?;
        if wanted.is_empty() && chosen.len() > self.set_aside.len() {
            for (position, why) in &self.set_aside {
                if dropped.insert(*position) {
                    self.found.left_out.push((source[*position].clone(), why.clone()));
                }
            }
        }
        chosen.retain(|c| !dropped.contains(c));
        if chosen.is_empty() {
            return Err(Error::config(DROP, "no column is left", "drop fewer columns"));
        }
        self.found.columns = source.len();
        self.chosen = chosen.into_iter().map(|c| (c, source[c].clone())).collect();
        self.columns = vec![Values::empty(CellType::Integer); self.chosen.len()];
        self.whole = vec![true; self.chosen.len()];
        if let Some(survey) = &mut self.survey {
            survey.of_columns(self.chosen.len());
        }
        Ok(())
    }

    /// The error for a table that lacks columns of the model.
    fn lacks(&self, missing: &[&String], source: &[String]) -> Error {
        let names = some_of(missing.iter().map(|name| name.as_str()), 8);
        let s = if missing.len() == 1 { "" } else { "s" };
        let needed = self.options.columns.len();
        let problem = format!(
            "lacks the column{s} {names}, of the {needed} that are needed; it has {}",
            listed(source)
        );
        Error::data(&self.path, problem, "give a table with these columns, by name, in any order")
    }

    /// Asks for room for `rows` more rows, so that a large table is never copied while it grows. A
    /// reader passes only what the size of the file makes plausible.
    pub fn reserve(&mut self, rows: usize) -> Result<()> {
        match trying(|| self.columns.iter_mut().all(|values| values.try_reserve(rows))) {
            true => Ok(()),
            false => {
                let problem = format!("more than {} rows do not fit into memory", self.seen);
                let remedy = match self.options.may_choose_columns() {
                    true => "use fewer rows or columns (data.table.columns)",
                    false => "give fewer rows",
                };
                Err(Error::data(&self.path, problem, remedy))
            }
        }
    }

    /// Adds one row. `place` says where it stands (`line 7`, `row 7`), `found` what stands in the
    /// cell of a chosen column, given its number and its position in the file; both are called for
    /// errors alone.
    pub fn push(
        &mut self,
        row: &[Cell],
        place: impl Fn() -> Spot,
        found: impl Fn(usize, usize) -> String,
    ) -> Result<()> {
        let most = self.most;
        let bad = |cell: &Cell| {
            !matches!(cell, Cell::Integer(_))
                && (cell.value().is_nan() || cell.value().abs() > most)
        };
        self.seen += 1;
        if let Some(column) = row.iter().position(bad)
            && !self.keep_missing
        {
            let value = row[column].value();
            if let Some(survey) = &mut self.survey {
                for (k, cell) in row.iter().enumerate().filter(|(_, cell)| bad(cell)) {
                    survey.bad(k, cell.value(), &place, || found(k, self.chosen[k].0));
                }
            } else if self.options.missing == Missing::DropRows && !value.is_finite() {
                self.skipped.push(self.seen - 1);
                return Ok(());
            } else {
                let found = found(column, self.chosen[column].0);
                return Err(self.bad_cell(place(), column, value, &found));
            }
        }
        for ((&cell, values), whole) in row.iter().zip(&mut self.columns).zip(&mut self.whole) {
            *whole &= !matches!(cell, Cell::Real(_));
            if values.len() == values.capacity() {
                // Grow by an eighth: a doubling would waste memory the data may need.
                trying(|| values.try_reserve((values.len() / 8).max(4096.min(self.seen))));
            }
            values.push(cell);
        }
        Ok(())
    }

    /// The error for a cell that is missing, or too large for single precision.
    fn bad_cell(&self, place: Spot, column: usize, value: f64, found: &str) -> Error {
        let name = &self.chosen[column].1;
        let drop = option(DROP, &[name.as_str()]);
        let (expected, remedy) = if value.is_finite() {
            let remedy = match self.options.may_choose_columns() {
                true => format!("rescale the column, or leave it out with {drop}"),
                false => "leave the row out: no model gives it a likelihood".to_owned(),
            };
            (format!("a magnitude below {:.2e}", self.most), remedy)
        } else {
            let remedy = if self.options.may_choose_columns() {
                format!("leave such rows out with {DROP_ROWS}, or the column with {drop}")
            } else if self.options.may_choose_reading() {
                format!("leave such rows out with {DROP_ROWS}, or fill the cell")
            } else {
                "leave the row out of the file, or fill the cell".to_owned()
            };
            ("a finite number".to_owned(), remedy)
        };
        let problem = format!("found {found}, expected {expected}");
        Error::data_at(place.in_column(&self.path, name), problem, remedy)
    }

    /// A cell, or a whole column where `place` is the file's schema, that does not hold numbers: an
    /// error, or, in a survey, noted. `column` is the position among the chosen ones.
    pub fn not_numeric(
        &mut self,
        column: usize,
        place: impl Fn() -> Spot,
        found: &str,
    ) -> Result<()> {
        if let Some(survey) = &mut self.survey {
            survey.text(column, place, found);
            return Ok(());
        }
        let name = &self.chosen[column].1;
        let problem = format!("found {found}, expected a number");
        let remedy = match (self.options.may_choose_columns(), self.options.columns.is_empty()) {
            (true, true) => {
                let dropped = option(DROP, &[name.as_str()]);
                format!("correct the cell, or leave the column out with {dropped}")
            }
            (true, false) => {
                format!("leave `{name}` out of data.table.columns, or correct the cell")
            }
            _ => "correct the cell: the model needs the column".to_owned(),
        };
        Err(Error::data_at(place().in_column(&self.path, name), problem, remedy))
    }

    /// The table.
    pub fn finish(mut self) -> Result<Dataset> {
        let rows = self.columns.first().map_or(0, Values::len);
        if rows == 0 {
            let (problem, remedy) = match self.seen {
                0 => ("there are no rows of data".to_owned(), "check how the file was written"),
                n => {
                    let problem = format!("each of the {n} rows has a missing cell");
                    let remedy = match self.options.may_choose_columns() {
                        true => {
                            "leave out the columns that are mostly missing with data.table.drop"
                        }
                        false => "fill the cells: the model needs all its columns",
                    };
                    (problem, remedy)
                }
            };
            return Err(Error::data(&self.path, problem, remedy));
        }
        for values in &mut self.columns {
            if values.capacity() / 8 > rows / 7 {
                values.shrink();
            }
        }
        let names = self.chosen.into_iter().map(|(_, name)| name);
        Ok(Dataset {
            source: self.path,
            notes: self.notes,
            dropped_rows: self.skipped.len(),
            found: self.found,
            file_rows: FileRows { skipped: self.skipped, taken: None },
            layout: self.layout,
            options: self.options,
            ..Dataset::of_file(names.zip(self.columns).collect())
        })
    }
}

/// Names for columns: those given, `c1`, `c2`, … for empty ones, a suffix for repeated ones.
pub(super) fn unique_names(given: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut taken = HashSet::new();
    // where the search for a suffix goes on, so that many equal names are not quadratic
    let mut next: HashMap<String, usize> = HashMap::new();
    let mut names = Vec::new();
    for (i, name) in given.into_iter().enumerate() {
        let base = if name.is_empty() { format!("c{}", i + 1) } else { name };
        let mut name = base.clone();
        while !taken.insert(name.clone()) {
            let suffix = next.entry(base.clone()).or_insert(0);
            *suffix += 1;
            name = format!("{base}.{suffix}");
        }
        names.push(name);
    }
    names
}

/// Names in quotes, `most` of them, and how many more there are.
pub(super) fn some_of<'a>(names: impl ExactSizeIterator<Item = &'a str>, most: usize) -> String {
    let more = names.len().saturating_sub(most);
    let listed: Vec<String> = names.take(most).map(|name| format!("`{name}`")).collect();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    listed.join(", ") + &more
}

/// The names of a file's columns, for a message.
fn listed(source: &[String]) -> String {
    let mut names: Vec<&str> = source.iter().take(20).map(String::as_str).collect();
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
        assert_eq!([&names[1], &names[2], &names[3]], ["a", "a.2", "a.3"]);
        assert_eq!(names[100_000], "a.100000");
    }
}
