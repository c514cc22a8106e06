//! Cells as a schema says what they are.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use super::{CategoryOf, ColumnSchema, Kind, Schema, shared};
use crate::data::collect::some_of;
use crate::data::column::{Categories, Values};
use crate::data::dataset::Dataset;
use crate::data::options::{Missing, TableOptions, Unseen};
use crate::data::order::first_out_of_order;
use crate::data::place::FileRows;
use crate::data::raw::{Holds, RawColumn, RawReader, RawTable};
use crate::data::times::{TimeFormat, format_of_typed};
use crate::data::types::TypeOptions;
use crate::data::{bounds, formats, refusals};
use crate::{Error, Result};

/// Names of a category that a message lists.
const LISTED: usize = 6;

impl Dataset {
    /// Reads a table as it comes: numbers, categories, dates, times, and cells that are missing.
    /// What each column is follows from its cells ([`Schema::infer`]), or from `types`.
    ///
    /// The table is text (compressed by gzip or Zstandard or not, or of standard input, `-`), the
    /// first sheet of an Excel workbook, Parquet, an Arrow file, or an array of numbers. Missing
    /// cells stay missing, unless [`TableOptions::missing`] says to refuse them or to leave such
    /// rows out. Columns of real numbers that repeat or linearly combine others are left out: with
    /// them there is no density.
    ///
    /// # Errors
    /// As [`RawTable::read`] and [`Schema::infer`]; and [`Error::Config`] for
    /// [`TableOptions::bounds`] and [`TableOptions::order`] that are none of the table,
    /// [`Error::Data`] for a cell outside of them.
    pub fn read_as_it_comes(
        path: impl AsRef<Path>,
        types: &TypeOptions,
        options: &TableOptions,
    ) -> Result<Dataset> {
        let table = RawTable::read(path, options)?;
        let mut schema = Schema::infer(&table, types)?;
        schema.bound(&options.bounds)?;
        schema.order(&options.order)?;
        let data = Dataset::of_raw(table, &schema)?.with_differences().without_combinations()?;
        data.schema().expect("it was read as it comes").check_ordered(&options.order)?;
        Ok(data)
    }

    /// Reads another table by a schema, as that of the table that a model was trained on: its
    /// columns by name, in any order, others ignored. Columns that are constant may be absent, and
    /// with [`TableOptions::partial`] all but one.
    ///
    /// # Errors
    /// As [`RawTable::read`]; and [`Error::Data`] for a column that is not there, a category that
    /// the schema does not have, another value of a constant, a number outside of its bounds or
    /// order, and a cell of another kind.
    pub fn read_with_schema(
        path: impl AsRef<Path>,
        schema: &Schema,
        options: &TableOptions,
    ) -> Result<Dataset> {
        let path = path.as_ref();
        let constant = |column: &&ColumnSchema| matches!(column.kind, Kind::Constant { .. });
        let names = |constants: bool| {
            let columns = schema.kept().filter(|column| constant(column) == constants);
            columns.map(|column| column.name.clone()).collect::<Vec<String>>()
        };
        let all: Vec<String> = schema.kept().map(|column| column.name.clone()).collect();
        let (needed, optional) = match options.partial {
            true => (Vec::new(), all),
            false => (names(false), names(true)),
        };
        let options = options.of_columns(&needed);
        let mut reader = RawReader::new(path, &options);
        reader.optional = optional;
        let table = match formats::read_raw(path, &options, &mut reader)? {
            true => reader.finish()?,
            false => RawTable::read(path, &options)?,
        };
        Dataset::of_raw(table, schema)
    }

    /// The data set of a table as a schema says what it is: the table's own, or that of a model.
    ///
    /// # Errors
    /// As [`Dataset::read_with_schema`].
    pub fn of_raw(mut table: RawTable, schema: &Schema) -> Result<Dataset> {
        let columns = std::mem::take(&mut table.columns).into_iter();
        let mut raws: HashMap<String, RawColumn> =
            columns.map(|column| (column.name.clone(), column)).collect();
        let lacking = |column: &&ColumnSchema| {
            !matches!(column.kind, Kind::Constant { .. }) && !raws.contains_key(&column.name)
        };
        let lacking: Vec<&str> = schema.kept().filter(lacking).map(|c| c.name.as_str()).collect();
        if !lacking.is_empty() && !table.options.partial {
            let s = if lacking.len() == 1 { "" } else { "s" };
            let problem = format!("lacks the column{s} {}", some_of(lacking.into_iter(), 8));
            let remedy = "give a table with these columns, by name, in any order";
            return Err(Error::data(table.called(), problem, remedy));
        }
        let (mut columns, mut unseen) = (Vec::new(), BTreeMap::<usize, Vec<String>>::new());
        for column in schema.kept() {
            // each is dropped as soon as it is done: two tables in memory are one too many
            let values = match raws.remove(&column.name) {
                Some(raw) => {
                    let mut rows = Vec::new();
                    let values = Applied { table: &table, raw: &raw, column }.values(&mut rows)?;
                    let name = || column.name.clone();
                    rows.into_iter().for_each(|row| unseen.entry(row).or_default().push(name()));
                    values
                }
                None => column.absent(table.rows),
            };
            columns.push((column.name.clone(), values));
        }
        check_order(&table, schema, &columns)?;
        let mut data = Dataset {
            source: table.source,
            notes: table.notes,
            found: table.found,
            layout: table.layout,
            schema: Some(Arc::new(schema.clone())),
            unseen,
            ..Dataset::of_file(columns)
        };
        match table.options.missing {
            Missing::Model => (),
            Missing::DropRows => data.drop_rows_with_holes()?,
            Missing::Error => data.check_without_holes()?,
        }
        if table.options.unique {
            data.drop_duplicates();
        }
        data.options = table.options;
        Ok(data)
    }

    /// Leaves out columns of real numbers that repeat others or are linear combinations of them.
    fn without_combinations(mut self) -> Result<Dataset> {
        let Some(schema) = self.schema.clone() else { return Ok(self) };
        let known = schema.by_name();
        let apart: Vec<bool> = (self.table().iter())
            .map(|(name, values)| match &known[name.as_str()].kind {
                Kind::Number { grid: None, atoms, .. } => !atoms.is_empty() || values.holes() > 0,
                _ => true,
            })
            .collect();
        let mut schema = (*schema).clone();
        let combined = self.combinations(&apart);
        for (name, problem) in &combined {
            let column = schema.columns.iter_mut().find(|column| column.name == *name);
            column.expect("a column of the schema").kind = Kind::LeftOut { why: problem.clone() };
        }
        if !combined.is_empty() {
            let kept: Vec<String> = schema.kept().map(|column| column.name.clone()).collect();
            self = self.select(&kept)?;
            self.schema = Some(Arc::new(schema));
        }
        Ok(self)
    }

    /// Whether a cell of the file is missing, which one is not whose value is unseen.
    fn is_hole(&self, row: usize, (name, values): &(String, Values)) -> bool {
        let is_unseen = || self.unseen.get(&row).is_some_and(|names| names.contains(name));
        values.get(row).is_nan() && !is_unseen()
    }

    /// Refuses missing cells.
    fn check_without_holes(&self) -> Result<()> {
        let has_holes = |column: &&(String, Values)| {
            column.1.holes() > 0 && (0..self.rows()).any(|row| self.is_hole(row, column))
        };
        let holes: Vec<&(String, Values)> = self.table().iter().filter(has_holes).collect();
        let Some(first) = holes.first() else { return Ok(()) };
        let row = (0..self.rows()).find(|&row| self.is_hole(row, first)).unwrap_or_default();
        let problem = format!(
            "has missing cells, in {} (first: row {})",
            some_of(holes.iter().map(|(name, _)| name.as_str()), 6),
            row + 1
        );
        let remedy = format!("leave such rows out with {}, or model them", refusals::DROP_ROWS);
        Err(Error::data(self.called(), problem, remedy))
    }

    /// Leaves out and counts the rows with missing cells.
    fn drop_rows_with_holes(&mut self) -> Result<()> {
        let complete = |row: &usize| self.table().iter().all(|own| !self.is_hole(*row, own));
        let (kept, dropped): (Vec<usize>, Vec<usize>) =
            (0..self.rows()).partition(|row| complete(row));
        if kept.is_empty() {
            let problem = format!("each of the {} rows has a missing cell", self.rows());
            let remedy = format!("leave {} out", refusals::DROP_ROWS);
            return Err(Error::data(self.called(), problem, remedy));
        }
        if !dropped.is_empty() {
            self.retain(&kept);
            self.dropped_rows = dropped.len();
            self.file_rows = FileRows { skipped: dropped, taken: None };
        }
        Ok(())
    }
}

/// Refuses a row in which a column is less than one that it is never less than.
fn check_order(table: &RawTable, schema: &Schema, columns: &[(String, Values)]) -> Result<()> {
    let values = |name: &str| columns.iter().find(|(own, _)| own == name).map(|(_, v)| v);
    for (column, difference) in schema.differences() {
        let (Some(lower), Some(upper)) = (values(&difference.to), values(&column.name)) else {
            continue;
        };
        let Some(row) = first_out_of_order(lower, upper) else { continue };
        let to = schema.column(&difference.to).expect("a column of the schema");
        let [found, least] =
            [column.value_in_words(upper.get(row)), to.value_in_words(lower.get(row))];
        let problem =
            format!("found {found}, expected a value of at least {least}, that of `{}`", to.name);
        let remedy = "correct a cell, empty it, or leave the row out";
        return Err(Error::data_at(table.place(row, &column.name), problem, remedy));
    }
    Ok(())
}

impl ColumnSchema {
    /// The values of a column that a table does not have: a constant is as ever, all other cells
    /// are missing.
    fn absent(&self, rows: usize) -> Values {
        let of = |names: &[String], code| {
            Values::Category(Categories { names: shared(names), codes: vec![code; rows] })
        };
        match &self.kind {
            Kind::Constant { text } => of(std::slice::from_ref(text), 0),
            Kind::Category { names, .. } => of(names, Categories::MISSING),
            _ => Values::Double(vec![f64::NAN; rows]),
        }
    }
}

/// A column of a table, and what it is.
struct Applied<'a> {
    table: &'a RawTable,
    raw: &'a RawColumn,
    column: &'a ColumnSchema,
}

impl Applied<'_> {
    /// The values, and in `unseen` the rows whose values the column does not have, where these are
    /// no error.
    fn values(&self, unseen: &mut Vec<usize>) -> Result<Values> {
        match &self.column.kind {
            Kind::Number { written, .. } => {
                let numbers = self.numbers()?;
                self.check_bounds(&numbers)?;
                let whole = *written == Some([0, 0]);
                let exact = |v: &f64| v.fract() == 0.0 && v.abs() < (1_u64 << 53) as f64;
                Ok(match whole && numbers.iter().all(exact) {
                    true => Values::Integer(numbers.into_iter().map(|v| v as i64).collect()),
                    false => Values::Double(numbers),
                })
            }
            Kind::Category { names, of } => self.categories(names, *of, unseen),
            Kind::Time { format, .. } => {
                let times = self.times(format)?;
                self.check_bounds(&times)?;
                Ok(Values::Double(times))
            }
            Kind::Constant { text } => self.constant(text, unseen),
            Kind::LeftOut { .. } => unreachable!("columns that are left out have no values"),
        }
    }

    fn numbers(&self) -> Result<Vec<f64>> {
        let texts = &self.raw.texts;
        let of_texts: Vec<Option<f64>> = texts
            .names
            .iter()
            .map(|text| text.parse().ok().filter(|number: &f64| number.is_finite()))
            .collect();
        let number = |row: usize| match self.raw.code(row) {
            Some(code) => of_texts
                .get(code)
                .copied()
                .flatten()
                .ok_or_else(|| self.wrong(row, "a number", "correct the cell, or empty it")),
            None => Ok(self.raw.number(row)),
        };
        if !texts.are_kept() {
            return Err(self.wrong_column("texts", "numbers"));
        }
        (0..self.table.rows).map(number).collect()
    }

    fn categories(
        &self,
        names: &[String],
        of: CategoryOf,
        unseen: &mut Vec<usize>,
    ) -> Result<Values> {
        if !self.raw.texts.are_kept() {
            let found = format!("{} different texts", self.raw.texts.distinct());
            return Err(self.wrong_column(&found, "categories"));
        }
        let known: HashMap<&str, u32> = names.iter().map(String::as_str).zip(0..).collect();
        let number = |name: &str| name.parse::<f64>().ok().map(|number| (number + 0.0).to_bits());
        let is_number = matches!(of, CategoryOf::Integer | CategoryOf::Number);
        let numbers: HashMap<u64, u32> = match is_number {
            true => names.iter().zip(0..).filter_map(|(n, i)| Some((number(n)?, i))).collect(),
            false => HashMap::new(),
        };
        let truth = |text: &str| text.to_ascii_lowercase().parse::<bool>().ok();
        let place = |text: &str| -> Option<u32> {
            let same_truth = || {
                let own = truth(text).filter(|_| of == CategoryOf::Boolean)?;
                names.iter().position(|name| truth(name) == Some(own)).map(|i| i as u32)
            };
            let same_number = || numbers.get(&number(text)?).copied();
            known.get(text).copied().or_else(same_number).or_else(same_truth)
        };
        let texts: Vec<Option<u32>> = self.raw.texts.names.iter().map(|text| place(text)).collect();
        let times = self.typed_times();
        let mut places: HashMap<u64, Option<u32>> = HashMap::new();
        let code = |row: usize| {
            let value = self.raw.number(row);
            let found = match self.raw.code(row) {
                Some(text) => texts[text],
                None if value.is_nan() => return Ok(Categories::MISSING),
                None => *places.entry((value + 0.0).to_bits()).or_insert_with(|| {
                    let text = self.raw.text(row, times.as_ref()).unwrap_or_default();
                    place(&text).or_else(|| place(&format!("{value}")))
                }),
            };
            match found {
                Some(code) => Ok(code),
                None if self.table.options.unseen == Some(Unseen::Impossible) => {
                    unseen.push(row);
                    Ok(Categories::MISSING)
                }
                None => Err(self.unseen(row, names, times.as_ref())),
            }
        };
        let codes = (0..self.table.rows).map(code).collect::<Result<_>>()?;
        Ok(Values::Category(Categories { names: shared(names), codes }))
    }

    fn times(&self, format: &str) -> Result<Vec<f64>> {
        let format = TimeFormat::new(format).ok_or_else(|| {
            let problem = format!("`{format}` of column `{}` is no format", self.column.name);
            Error::config("schema", problem, "restore the file")
        })?;
        if !self.raw.texts.are_kept() {
            return Err(self.wrong_column("texts", "dates"));
        }
        let typed = matches!(self.raw.holds, Holds::Times { .. });
        let texts: Vec<Option<f64>> =
            self.raw.texts.names.iter().map(|text| format.seconds(text)).collect();
        let time = |row: usize| {
            let number = self.raw.number(row);
            let found = match self.raw.code(row) {
                Some(code) => texts[code],
                None if number.is_nan() || typed => return Ok(number),
                None => self.raw.text(row, None).and_then(|text| format.seconds(&text)),
            };
            found.ok_or_else(|| {
                let expected = format!("a date of the form {}", format.text());
                self.wrong(row, &expected, "correct the cell, or empty it")
            })
        };
        (0..self.table.rows).map(time).collect()
    }

    fn constant(&self, text: &str, unseen: &mut Vec<usize>) -> Result<Values> {
        let times = self.typed_times();
        let number = |text: &str| text.parse::<f64>().ok();
        let mut codes = Vec::with_capacity(self.table.rows);
        for row in 0..self.table.rows {
            let found = self.raw.text(row, times.as_ref());
            codes.push(match found {
                None => Categories::MISSING,
                Some(found)
                    if found == text
                        || (number(&found).is_some() && number(&found) == number(text)) =>
                {
                    0
                }
                Some(_) if self.table.options.unseen == Some(Unseen::Impossible) => {
                    unseen.push(row);
                    Categories::MISSING
                }
                Some(_) => {
                    let expected = format!("{text:?} as in all rows that the schema is of");
                    let remedy = "leave the column out of the table, or correct the cell";
                    return Err(self.wrong(row, &expected, &self.or_impossible(remedy)));
                }
            });
        }
        Ok(Values::Category(Categories { names: shared(&[text.to_owned()]), codes }))
    }

    /// Refuses a value outside of the column's bounds.
    fn check_bounds(&self, values: &[f64]) -> Result<()> {
        let [low, high] = self.column.bounds;
        let outside = |value: &f64| {
            low.is_some_and(|low| *value < low) || high.is_some_and(|high| *value > high)
        };
        let Some(row) = values.iter().position(outside) else { return Ok(()) };
        let text = |value| self.column.value_in_words(value);
        let expected = bounds::in_words(&self.column.bounds, text);
        Err(self.wrong(row, &expected, "correct the cell, empty it, or leave the row out"))
    }

    /// The format in which times of a typed column are categories.
    fn typed_times(&self) -> Option<TimeFormat> {
        let Holds::Times { utc } = self.raw.holds else { return None };
        let times: Vec<f64> = self.raw.present_numbers().collect();
        Some(format_of_typed(&times, utc))
    }

    /// The error for a cell that is not what the column holds.
    fn wrong(&self, row: usize, expected: &str, remedy: &str) -> Error {
        let text = self.raw.text(row, self.typed_times().as_ref()).unwrap_or_default();
        let found = formats::text::quoted(text.as_bytes());
        let problem = format!("found {found}, expected {expected}");
        Error::data_at(self.table.place(row, &self.column.name), problem, remedy)
    }

    fn unseen(&self, row: usize, names: &[String], times: Option<&TimeFormat>) -> Error {
        let text = self.raw.text(row, times).unwrap_or_default();
        let found = formats::text::quoted(text.as_bytes());
        let listed = some_of(names.iter().map(String::as_str), LISTED);
        let problem =
            format!("found {found}, which is none of the values that are known: {listed}");
        let remedy = self.or_impossible("correct the cell, empty it, or leave the row out");
        Error::data_at(self.table.place(row, &self.column.name), problem, remedy)
    }

    /// A remedy, and the option that gives such rows the probability 0 where there is one.
    fn or_impossible(&self, remedy: &str) -> String {
        match self.table.options.unseen {
            None => remedy.into(),
            Some(_) => format!("{remedy}, or give score.unseen = impossible"),
        }
    }

    fn wrong_column(&self, found: &str, expected: &str) -> Error {
        let problem = format!("column `{}` holds {found}, expected {expected}", self.column.name);
        Error::data(self.table.called(), problem, "give the column that the schema is of")
    }
}
