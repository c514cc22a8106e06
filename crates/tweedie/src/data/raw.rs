//! Tables as their files have them: numbers, texts, dates and missing cells, before it is decided
//! what each column is.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use csv::ByteRecord;

use super::collect::{Collector, some_of, unique_names};
use super::column::{Categories, Cell, Values};
use super::formats;
use super::formats::text::{Layout, Records};
use super::options::{Found, Purpose, TableOptions};
use super::times::{TimeFormat, proposed};
use super::write::decimals;
use crate::error::Place;
use crate::{Error, Result};

/// The code of a cell that is no text.
const NONE: u32 = Categories::MISSING;
/// Bytes of the longest text that can be the name of a category, a date or a key; longer ones are
/// free text, of which nothing is kept.
const LONGEST: usize = 1000;
/// Distinct texts that are kept of a column, unless they look like dates.
const MOST_TEXTS: usize = 1 << 20;
/// Whole numbers beyond this are not all held by a double.
const EXACT: u64 = 1 << 53;

/// Decimals beyond which a number is written as the shortest text that reads back as it.
const MOST_DECIMALS: u32 = 17;

/// A table as its file has it, before it is decided what its columns are.
///
/// [`RawTable::read`] makes one of a file, [`RawTable::new`] of columns in memory;
/// [`super::Schema::infer`] decides what its columns are, and [`super::Dataset::of_raw`] makes a
/// data set of both.
#[derive(Debug, Clone)]
pub struct RawTable {
    pub(super) columns: Vec<RawColumn>,
    pub(super) rows: usize,
    /// The file; empty for a table made in memory.
    pub source: PathBuf,
    pub(super) layout: Option<Layout>,
    /// What the reader found.
    pub found: Found,
    /// What a user should know of how the file was read, a sentence each without its full stop.
    pub notes: Vec<String>,
    pub(super) options: TableOptions,
}

/// A column of a [`RawTable`].
#[derive(Debug, Clone)]
pub struct RawColumn {
    /// Its name in the file; `c1`, `c2`, … where the file has none.
    pub name: String,
    pub(super) rows: usize,
    /// For each row its number, NaN where it is none; empty until the first number.
    numbers: Vec<f64>,
    /// For each row the number of its text among `texts`, or [`NONE`]; empty until the first text.
    codes: Vec<u32>,
    /// The rows with a text.
    text_rows: usize,
    pub(super) texts: Texts,
    pub(super) holds: Holds,
    /// Decimals of the numbers, as their texts have them: the fewest and the most.
    written: Option<(u32, u32)>,
    /// The same of numbers that were no texts, once all of them are there.
    typed: OnceLock<(u32, u32)>,
    /// Whether the text of a number has an exponent.
    exponents: bool,
    /// Whether the file has no name for it.
    pub(super) unnamed: bool,
    /// Why it is no column of data, where the file itself says so.
    pub(super) aside: Option<String>,
}

/// What the type of a column in its file says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Holds {
    /// Nothing: cells are texts, and what they look like counts.
    Any,
    /// Numbers; whether of a type of real numbers, which are written with a decimal.
    Numbers {
        real: bool,
    },
    Texts,
    Booleans,
    /// Numbers that are seconds since 1970-01-01; whether of a known time zone.
    Times {
        utc: bool,
    },
    /// Something that no column of a table can be, as a message calls it.
    Else(String),
}

/// Distinct texts of a column, in the order in which they first come.
#[derive(Debug, Clone, Default)]
pub(super) struct Texts {
    numbers: HashMap<Arc<str>, u32>,
    pub names: Vec<Arc<str>>,
    /// The row in which each comes first.
    pub first: Vec<u32>,
    /// The rows of each.
    pub counts: Vec<u32>,
    /// Whether there is a text that is longer than a name can be.
    pub long: bool,
    /// Digests of the texts, once they are so many that they are kept no more.
    digests: Option<HashSet<u64>>,
}

impl Texts {
    /// The number of a text that stands in row `row`.
    fn number(&mut self, text: &str, row: usize) -> u32 {
        if self.long || text.len() > LONGEST {
            *self = Texts { long: true, ..Texts::default() };
            return NONE;
        }
        if let Some(digests) = &mut self.digests {
            digests.insert(digest(text));
            return NONE;
        }
        if let Some(&number) = self.numbers.get(text) {
            self.counts[number as usize] += 1;
            return number;
        }
        if self.names.len() >= MOST_TEXTS {
            let look_like_dates = self.names.iter().take(20).all(|name| proposed(name));
            if !look_like_dates || self.names.len() >= NONE as usize - 1 {
                let digests = self.names.iter().map(|name| digest(name)).collect();
                *self = Texts { digests: Some(digests), ..Texts::default() };
                return self.number(text, row);
            }
        }
        let (number, text) = (self.names.len() as u32, Arc::<str>::from(text));
        self.numbers.insert(text.clone(), number);
        self.names.push(text);
        self.first.push(u32::try_from(row).unwrap_or(u32::MAX));
        self.counts.push(1);
        number
    }

    /// The number of distinct texts.
    pub fn distinct(&self) -> usize {
        self.digests.as_ref().map_or(self.names.len(), HashSet::len)
    }

    /// Whether all texts are kept.
    pub fn are_kept(&self) -> bool {
        !self.long && self.digests.is_none()
    }
}

fn digest(text: &str) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// Whether a cell of a text file stands for a missing one.
pub(super) fn is_missing(text: &str) -> bool {
    let marks = ["", "-", "na", "n/a", "#n/a", "nan", "null", "none", "?"];
    text.len() <= 4 && marks.iter().any(|mark| text.eq_ignore_ascii_case(mark))
}

/// Whether digits are a code rather than a number: they begin with a zero, or are more than a
/// double holds.
pub(super) fn is_code(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let zero = digits.len() > 1 && digits.starts_with('0');
    !digits.is_empty()
        && digits.bytes().all(|b| b.is_ascii_digit())
        && (zero || digits.parse::<u64>().map_or(true, |n| n > EXACT))
}

/// The number of decimals that a double needs in text, at most [`MOST_DECIMALS`].
fn decimals_of(value: f64) -> u32 {
    if value.fract() == 0.0 {
        return 0;
    }
    let text = format!("{value}");
    let after = text.split_once('.').map_or(0, |(_, after)| after.len());
    (after as u32).min(MOST_DECIMALS)
}

impl RawColumn {
    pub(super) fn new(name: String, holds: Holds) -> RawColumn {
        RawColumn {
            name,
            rows: 0,
            numbers: Vec::new(),
            codes: Vec::new(),
            text_rows: 0,
            texts: Texts::default(),
            holds,
            written: None,
            typed: OnceLock::new(),
            exponents: false,
            unnamed: false,
            aside: None,
        }
    }

    /// A column of numbers; one that is not finite is a missing cell.
    pub fn numbers(name: impl Into<String>, numbers: impl IntoIterator<Item = f64>) -> RawColumn {
        let mut column = RawColumn::new(name.into(), Holds::Numbers { real: false });
        numbers.into_iter().for_each(|number| column.push_number(number, None));
        column
    }

    /// A column of texts, none where a cell is missing. Texts that look like numbers are texts, and
    /// so is what stands for a missing cell in a text file, such as `NA`; an empty one is missing.
    pub fn texts<'a>(
        name: impl Into<String>,
        texts: impl IntoIterator<Item = Option<&'a str>>,
    ) -> RawColumn {
        let mut column = RawColumn::new(name.into(), Holds::Texts);
        texts.into_iter().for_each(|text| column.push_option(text));
        column
    }

    /// A column of truth values, none where a cell is missing.
    pub fn booleans(
        name: impl Into<String>,
        values: impl IntoIterator<Item = Option<bool>>,
    ) -> RawColumn {
        let mut column = RawColumn::new(name.into(), Holds::Booleans);
        let text = |value| if value { "true" } else { "false" };
        values.into_iter().for_each(|value| column.push_option(value.map(text)));
        column
    }

    /// A column of dates or times, in seconds since 1970-01-01; one that is not finite is a missing
    /// cell. `utc` says that they are of a known time zone, and seconds of UTC.
    pub fn times(
        name: impl Into<String>,
        seconds: impl IntoIterator<Item = f64>,
        utc: bool,
    ) -> RawColumn {
        let mut column = RawColumn::new(name.into(), Holds::Times { utc });
        seconds.into_iter().for_each(|number| column.push_number(number, None));
        column
    }

    /// A column of cells as a text file has them, each a number, a date, a text or missing.
    pub fn cells<'a>(
        name: impl Into<String>,
        cells: impl IntoIterator<Item = &'a str>,
    ) -> RawColumn {
        let mut column = RawColumn::new(name.into(), Holds::Any);
        cells.into_iter().for_each(|cell| column.push_cell(cell, false));
        column
    }

    pub(super) fn push_missing(&mut self) {
        self.rows += 1;
        if !self.numbers.is_empty() {
            self.numbers.push(f64::NAN);
        }
        if !self.codes.is_empty() {
            self.codes.push(NONE);
        }
    }

    /// Adds a number, with the decimals that its text has where it was text.
    pub(super) fn push_number(&mut self, number: f64, decimals: Option<u32>) {
        if !number.is_finite() {
            return self.push_missing();
        }
        if self.numbers.is_empty() {
            self.numbers.resize(self.rows, f64::NAN);
        }
        self.numbers.push(number);
        if !self.codes.is_empty() {
            self.codes.push(NONE);
        }
        if let Some(count) = decimals {
            let (least, most) = self.written.unwrap_or((count, count));
            self.written = Some((least.min(count), most.max(count)));
        }
        self.rows += 1;
    }

    pub(super) fn push_text(&mut self, text: &str) {
        let code = self.texts.number(text, self.rows);
        if self.codes.is_empty() {
            self.codes.resize(self.rows, NONE);
        }
        self.codes.push(code);
        self.text_rows += 1;
        if !self.numbers.is_empty() {
            self.numbers.push(f64::NAN);
        }
        self.rows += 1;
    }

    /// Adds a text of a typed column, which says itself what is missing.
    pub(super) fn push_option(&mut self, text: Option<&str>) {
        match text.map(str::trim).filter(|text| !text.is_empty()) {
            Some(text) => self.push_text(text),
            None => self.push_missing(),
        }
    }

    /// Adds a cell of a text file.
    pub(super) fn push_cell(&mut self, cell: &str, decimal_comma: bool) {
        let cell = cell.trim();
        if is_missing(cell) {
            return self.push_missing();
        }
        if is_code(cell) {
            return self.push_text(cell);
        }
        match formats::text::parse(cell.as_bytes(), decimal_comma) {
            Some(Cell::Missing) => self.push_missing(),
            Some(number) => {
                self.exponents |= cell.contains(['e', 'E']);
                self.push_number(number.value(), Some(written_decimals(cell, decimal_comma)));
            }
            None => self.push_text(cell),
        }
    }

    /// The number in row `row`; NaN where it is none.
    pub(super) fn number(&self, row: usize) -> f64 {
        self.numbers.get(row).copied().unwrap_or(f64::NAN)
    }

    /// The number of the text in row `row` among the texts, where it is one.
    pub(super) fn code(&self, row: usize) -> Option<usize> {
        self.codes.get(row).filter(|&&code| code != NONE).map(|&code| code as usize)
    }

    /// All numbers.
    pub(super) fn present_numbers(&self) -> impl Iterator<Item = f64> + '_ {
        self.numbers.iter().copied().filter(|number| !number.is_nan())
    }

    /// The rows with a number.
    pub(super) fn count_of_numbers(&self) -> usize {
        self.present_numbers().count()
    }

    /// The rows with a text.
    pub(super) fn count_of_texts(&self) -> usize {
        self.text_rows
    }

    /// The fewest and the most decimals with which numbers are written; none where that is no
    /// fixed few, as where they have exponents.
    pub(super) fn decimals(&self) -> Option<(u32, u32)> {
        let least = u32::from(self.holds == Holds::Numbers { real: true });
        let typed = || {
            let most = self.present_numbers().map(decimals_of).max().unwrap_or(0);
            (least, most.max(least))
        };
        let written = self.written.unwrap_or_else(|| *self.typed.get_or_init(typed));
        (!self.exponents && written.1 < MOST_DECIMALS).then_some(written)
    }

    /// The text of a cell, none where it is missing: numbers with their decimals, times in ISO's
    /// form.
    pub(super) fn text(&self, row: usize, times: Option<&TimeFormat>) -> Option<Cow<'_, str>> {
        if let Some(code) = self.code(row) {
            return self.texts.names.get(code).map(|name| Cow::Borrowed(&**name));
        }
        let number = self.number(row);
        match (number.is_nan(), times) {
            (true, _) => None,
            (_, Some(format)) => Some(format.write(number).into()),
            (_, None) => Some(self.text_of(number).into()),
        }
    }

    /// A number of the column as text.
    pub(super) fn text_of(&self, number: f64) -> String {
        match self.decimals() {
            Some((least, most)) => decimals(number, least, most),
            None => format!("{number:?}"),
        }
    }
}

/// The decimals of a number's text.
fn written_decimals(cell: &str, decimal_comma: bool) -> u32 {
    let point = if decimal_comma { ',' } else { '.' };
    let after = cell.split_once(point).map_or("", |(_, after)| after);
    after.bytes().take_while(u8::is_ascii_digit).count() as u32
}

impl RawTable {
    /// A table of columns in memory.
    ///
    /// # Errors
    /// [`Error::Data`] if there are no columns or rows, or two columns have one name.
    ///
    /// # Panics
    /// If the columns differ in length.
    pub fn new(columns: Vec<RawColumn>) -> Result<RawTable> {
        let rows = columns.first().map_or(0, |column| column.rows);
        let mut names = HashSet::new();
        if let Some(column) = columns.iter().find(|column| !names.insert(&column.name)) {
            let problem = format!("two columns are called `{}`", column.name);
            return Err(Error::data("table", problem, "give each a name of its own"));
        }
        for column in &columns {
            assert_eq!(column.rows, rows, "rows of column `{}`", column.name);
        }
        if rows == 0 {
            return Err(Error::data("table", "no rows", "give at least one row"));
        }
        Ok(RawTable {
            columns,
            rows,
            source: PathBuf::new(),
            layout: None,
            found: Found::default(),
            notes: Vec::new(),
            options: TableOptions::default(),
        })
    }

    /// Reads a table as it comes. Text, Parquet, Arrow and Excel files keep texts, dates and
    /// missing cells; arrays hold numbers alone.
    ///
    /// # Errors
    /// Whatever in the file or the options cannot be used, with its place and the remedy; images
    /// are refused.
    pub fn read(path: impl AsRef<Path>, options: &TableOptions) -> Result<RawTable> {
        let path = path.as_ref();
        let mut reader = RawReader::new(path, options);
        match formats::read_raw(path, options, &mut reader)? {
            true => reader.finish(),
            false => RawTable::of_numbers(path, options),
        }
    }

    /// The table of a format that holds numbers alone.
    fn of_numbers(path: &Path, options: &TableOptions) -> Result<RawTable> {
        let mut collector = Collector::new(path, options);
        collector.keep_missing = true;
        if formats::read(path, options, &mut collector)?.is_some() {
            let problem = "holds images, expected a table";
            return Err(Error::data(path, problem, "give a table"));
        }
        let data = collector.finish()?;
        let column = |(name, values): &(String, Values)| {
            let numbers = (0..values.len()).map(|i| match values {
                Values::Single(v) => shortest(v[i]),
                other => other.get(i),
            });
            RawColumn::numbers(name.clone(), numbers)
        };
        let columns = data.table().iter().map(column).collect();
        Ok(RawTable {
            rows: data.rows(),
            columns,
            source: path.to_owned(),
            layout: data.layout,
            found: data.found,
            notes: data.notes,
            options: options.clone(),
        })
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The names of the columns.
    pub fn names(&self) -> Vec<String> {
        self.columns.iter().map(|column| column.name.clone()).collect()
    }

    /// What the table is called in messages.
    pub(super) fn called(&self) -> &Path {
        match self.source.as_os_str().is_empty() {
            true => Path::new("table"),
            false => &self.source,
        }
    }

    /// The place of a cell, for a message: of a text file its line, which is found by reading it
    /// again.
    pub(super) fn place(&self, row: usize, column: &str) -> Place {
        let place = Place::file(self.called()).column(column);
        match self.layout.and_then(|layout| line_of(&self.source, layout, row)) {
            Some(line) => place.line(line),
            None => place.row(row as u64 + 1),
        }
    }

    /// Whether rows were read for a trained model, whose columns are fixed.
    pub(super) fn may_choose(&self) -> bool {
        self.options.purpose == Purpose::Training && !self.options.by_name
    }
}

/// The line on which row `row` of a text file starts.
fn line_of(path: &Path, layout: Layout, row: usize) -> Option<u64> {
    let mut records = Records::open(path, layout).ok()?;
    let mut record = ByteRecord::new();
    for _ in 0..row + usize::from(layout.header) + 1 {
        records.next(&mut record).ok().filter(|more| *more)?;
    }
    Some(records.line(&record))
}

/// A number of single precision as the double that its text stands for: 0.1, and not
/// 0.10000000149011612.
pub(super) fn shortest(value: f32) -> f64 {
    match value.fract() == 0.0 || !value.is_finite() {
        true => value.into(),
        false => format!("{value}").parse().unwrap_or(f64::from(value)),
    }
}

/// Collects the rows of a table as they come.
pub(super) struct RawReader {
    /// Chooses columns, and keeps what has to be reported.
    pub collector: Collector,
    pub columns: Vec<RawColumn>,
    /// Columns that are read as well where the file has them, beside those of a model.
    pub optional: Vec<String>,
}

impl RawReader {
    pub fn new(path: &Path, options: &TableOptions) -> RawReader {
        let collector = Collector::new(path, options);
        RawReader { collector, columns: Vec::new(), optional: Vec::new() }
    }

    /// Chooses among the file's columns, whose names may be empty or repeated, and makes room for
    /// them.
    pub fn choose(&mut self, names: Vec<String>, holds: impl Fn(usize) -> Holds) -> Result<()> {
        let unnamed: Vec<bool> = names.iter().map(|name| formats::text::unnamed(name)).collect();
        let names = unique_names(names);
        let known: HashSet<&String> = names.iter().collect();
        let optional = self.optional.iter().filter(|name| known.contains(name)).cloned();
        self.collector.options.columns.extend(optional);
        if self.collector.options.columns.is_empty() && !self.optional.is_empty() {
            let listed = some_of(self.optional.iter().map(String::as_str), 8);
            let problem = format!("has none of the columns {listed}");
            let remedy = "give a table with some of them, by name";
            return Err(Error::data(&self.collector.path, problem, remedy));
        }
        self.collector.choose(&names)?;
        let column = |(position, name): &(usize, String)| RawColumn {
            unnamed: *position == 0 && unnamed[0] && self.collector.layout.is_none_or(|l| l.header),
            ..RawColumn::new(name.clone(), holds(*position))
        };
        self.columns = self.collector.chosen.iter().map(column).collect();
        Ok(())
    }

    /// The table.
    pub fn finish(self) -> Result<RawTable> {
        let rows = self.columns.first().map_or(0, |column| column.rows);
        if rows == 0 {
            let problem = "there are no rows of data";
            return Err(Error::data(
                &self.collector.path,
                problem,
                "check how the file was written",
            ));
        }
        Ok(RawTable {
            columns: self.columns,
            rows,
            source: self.collector.path,
            layout: self.collector.layout,
            found: self.collector.found,
            notes: self.collector.notes,
            options: self.collector.options,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_numbers_texts_or_missing() {
        let cells = [" ?", "a", "1.50", "-", " ", "007", "NA", "2", "a ", "1e3", "nan", "0"];
        let column = RawColumn::cells("x", cells);
        let number = |i: usize| column.number(i);
        assert_eq!((number(2), number(7), number(9), number(11)), (1.5, 2.0, 1000.0, 0.0));
        assert_eq!((column.code(1), column.code(5), column.code(8)), (Some(0), Some(1), Some(0)));
        assert_eq!(column.texts.counts, [2, 1]);
        assert_eq!(column.texts.first, [1, 5]);
        assert_eq!((column.count_of_numbers(), column.count_of_texts()), (4, 3));
        assert_eq!(column.decimals(), None, "one has an exponent");
        assert_eq!(RawColumn::cells("x", ["1.50", "2", "x"]).decimals(), Some((0, 2)));
        let missing = |i: &usize| column.text(*i, None).is_none();
        assert_eq!((0..12).filter(missing).collect::<Vec<_>>(), [0, 3, 4, 6, 10]);
    }

    /// A typed column says itself what is missing: `NA` may be Namibia.
    #[test]
    fn marks_of_text_files_are_texts_in_typed_columns() {
        let column = RawColumn::texts("x", [Some("NA"), None, Some("?"), Some(" ")]);
        let texts: Vec<_> = (0..4).map(|i| column.text(i, None)).collect();
        assert_eq!(texts, [Some("NA".into()), None, Some("?".into()), None]);
    }

    #[test]
    fn codes_are_told_from_numbers() {
        for code in ["007", "00", "-01", "9007199254740993", "123456789012345678901234567890"] {
            assert!(is_code(code), "{code}");
        }
        for number in ["0", "7", "-7", "0.5", "1e9", "9007199254740992", "", "-"] {
            assert!(!is_code(number), "{number}");
        }
    }

    #[test]
    fn free_text_is_not_kept() {
        let long = "x".repeat(LONGEST + 1);
        let column = RawColumn::texts("t", [Some("a"), None, Some(&long), Some("b")]);
        assert!(column.texts.long && column.texts.names.is_empty() && !column.texts.are_kept());
        assert_eq!(column.rows, 4);
    }

    #[test]
    fn single_precision_keeps_its_decimals() {
        assert_eq!(shortest(0.1), 0.1);
        assert_eq!(shortest(-3.0), -3.0);
        assert!(shortest(f32::NAN).is_nan());
    }
}
