//! What columns are, by their cells and by what the user says of them.

use super::numbers::{self, Counts, MOST_CATEGORIES};
use super::{CategoryOf, ColumnSchema, Kind, Schema};
use crate::data::raw::{Holds, RawColumn, RawTable, is_code};
use crate::data::refusals::{DROP, option};
use crate::data::times::{Detected, TimeFormat, detect, format_of_typed, step_of};
use crate::data::types::{ColumnType, TYPES, TypeOptions};
use crate::{Error, Result};

/// A column of which numbers are at least this share is of numbers, and what is none is a mistake
/// in it, even if the mistakes are different words; one word in nearly all of the others is one
/// from half of the cells on.
const NUMBERS: f64 = 0.9;
const HALF: f64 = 0.5;
/// Distinct numbers beyond which numbers beside texts are quantities, and no names.
const NAMES: usize = 20;
/// Rows in which a column of consecutive whole numbers in any order is one of row numbers.
const KEY_ROWS: usize = 100;
/// Names of columns of keys, in lower case, and what such names end in.
const KEY_NAMES: [&str; 5] = ["id", "index", "key", "rowname", "rownames"];
const KEY_ENDS: [&str; 2] = ["_id", " id"];

impl Schema {
    /// Finds what the columns of a table are. Of a column without a type in `types`:
    ///
    /// - It is left out if all its cells are missing; if its texts are more than 1000 different
    ///   ones, or different in more than half of the rows, or longer than 1000 bytes; if its whole
    ///   numbers number the rows (each is the one before and 1, or they are consecutive in any
    ///   order in 100 rows or more), or differ from row to row under a name such as `id`.
    /// - It is a constant if all cells are the same.
    /// - It is of dates or times if all cells are, in one of ISO's forms (`2013-01-31`,
    ///   `2013-01-31T05:00:00Z`), or of month, day and year where one order alone is possible.
    /// - Numbers are categories if they are no more than 20 different ones with 50 rows each on
    ///   average, or two; or if they lie on no regular grid and are no more than 1000 different
    ///   ones with 50 rows each, the most frequent one aside. Digits that begin with a zero or are
    ///   more than 2⁵³ are texts.
    /// - Other numbers have a grid where they are whole, or have up to 4 decimals and a twentieth
    ///   of the rows repeats a number (but for a thousandth of the rows, and if it has no more than
    ///   2²¹ steps), or repeat 4 times on average and lie on a regular grid. They have an atom at
    ///   every number of 2 % of the rows and of 20 rows that has 10 times as many rows as the 5
    ///   next numbers on either side on average; on no grid, at every number of as many rows.
    /// - Other texts are categories.
    ///
    /// Cells are missing if they are empty, blank, `?`, `-`, `NA`, `N/A`, `NaN`, `null` or `None`.
    ///
    /// # Errors
    /// [`Error::Data`] for a column of numbers or dates of which some cells are none, for numbers
    /// beyond single precision, and for cells that are not of the type in `types`;
    /// [`Error::Config`] for a name in `types` that the table does not have, and where no column is
    /// left.
    pub fn infer(table: &RawTable, types: &TypeOptions) -> Result<Schema> {
        types.check(table.called(), &table.names())?;
        let column = |column: &RawColumn| {
            let kind = Column { table, column }.kind(types.of(&column.name))?;
            let present = column.count_of_numbers() + column.count_of_texts();
            let (name, holes) = (column.name.clone(), table.rows - present);
            Ok(ColumnSchema::new(name, kind, holes))
        };
        let columns = table.columns.iter().map(column).collect::<Result<_>>()?;
        let schema = Schema { columns, rows: table.rows };
        let modelled = |column: &ColumnSchema| {
            !matches!(column.kind, Kind::LeftOut { .. } | Kind::Constant { .. })
        };
        if !schema.columns.iter().any(modelled) {
            let first: Vec<String> = schema.lines().into_iter().take(3).collect();
            let found =
                first.iter().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
            let found = found.collect::<Vec<_>>().join("; ");
            let problem = format!("no column can be modelled ({found})");
            let remedy = format!("say what they are, as in {TYPES} = NAME=category");
            return Err(Error::data(table.called(), problem, remedy));
        }
        Ok(schema)
    }
}

/// A column of a table.
struct Column<'a> {
    table: &'a RawTable,
    column: &'a RawColumn,
}

fn left_out(why: impl Into<String>) -> Result<Kind> {
    Ok(Kind::LeftOut { why: why.into() })
}

impl Column<'_> {
    fn kind(&self, given: Option<&ColumnType>) -> Result<Kind> {
        let column = self.column;
        let (numbers, texts) = (column.count_of_numbers(), column.count_of_texts());
        match given {
            Some(ColumnType::Drop) => return left_out(format!("{TYPES} says so")),
            Some(given) => {
                if let Holds::Else(what) = &column.holds {
                    return Err(self.not_of(given, &format!("it holds {what}")));
                }
                if numbers + texts == 0 {
                    return Err(self.not_of(given, "all its cells are missing"));
                }
                return match given {
                    ColumnType::Number => self.given_number(),
                    ColumnType::Category => self.given_category(given),
                    ColumnType::Date(format) => self.given_date(given, format.as_deref()),
                    ColumnType::Drop | ColumnType::Auto => unreachable!("neither is given here"),
                };
            }
            None => (),
        }
        if let Holds::Else(what) = &column.holds {
            return left_out(what);
        }
        if let Some(why) = &column.aside {
            return left_out(why);
        }
        if numbers + texts == 0 {
            return left_out("all cells are missing");
        }
        if let Holds::Times { utc } = column.holds {
            return Ok(self.times(&format_of_typed(&self.numbers(), utc), self.numbers()));
        }
        match (numbers, texts) {
            (_, 0) => self.of_numbers(),
            (0, _) => self.of_texts(),
            _ => self.of_both(numbers, texts),
        }
    }

    fn numbers(&self) -> Vec<f64> {
        self.column.present_numbers().collect()
    }

    fn has_holes(&self) -> bool {
        self.column.count_of_numbers() + self.column.count_of_texts() < self.table.rows
    }

    fn of_numbers(&self) -> Result<Kind> {
        let counts = Counts::of(self.column.present_numbers());
        if counts.distinct() == 1 {
            let text = self.column.text_of(self.numbers()[0]);
            return Ok(match self.has_holes() {
                false => Kind::Constant { text },
                true => numbers::categories(self.column, &counts),
            });
        }
        if let Some(why) = self.key(&counts) {
            return left_out(why);
        }
        numbers::kind_of(self.table, self.column, &counts, false)
    }

    /// Why a column of numbers is one of keys.
    fn key(&self, counts: &Counts) -> Option<String> {
        let (rows, name) = (self.table.rows, self.column.name.to_lowercase());
        if !counts.are_whole() || counts.distinct() < rows || rows < 3 || self.has_holes() {
            return None;
        }
        let numbers = self.numbers();
        let (low, high) =
            numbers.iter().fold((f64::MAX, f64::MIN), |(a, b), &v| (a.min(v), b.max(v)));
        let up = numbers.windows(2).all(|pair| pair[1] - pair[0] == 1.0);
        if up || (rows >= KEY_ROWS && high - low == (rows - 1) as f64) {
            return Some(format!("it numbers the rows ({low}…{high})"));
        }
        if self.column.unnamed {
            return Some("it has no name and another number in every row, as an index".into());
        }
        let camel = self.column.name.ends_with("Id") || self.column.name.ends_with("ID");
        let is_key =
            KEY_NAMES.contains(&&*name) || camel || KEY_ENDS.iter().any(|end| name.ends_with(end));
        is_key.then(|| "a key: another number in every row".into())
    }

    fn of_texts(&self) -> Result<Kind> {
        let (column, texts) = (self.column, &self.column.texts);
        let (distinct, rows) = (texts.distinct(), column.count_of_texts());
        if texts.long {
            return left_out("free text");
        }
        if texts.are_kept() && column.holds == Holds::Any {
            let names: Vec<&str> = texts.names.iter().map(|name| &**name).collect();
            match detect(&names) {
                Detected::Format(format) => return Ok(self.dates(&format)),
                Detected::Ambiguous([one, other]) => {
                    return left_out(format!(
                        "dates whose day and month cannot be told apart (say {} or {})",
                        self.typed(&format!("date:{one}")),
                        self.typed(&format!("date:{other}"))
                    ));
                }
                Detected::Mostly { good, first_bad, .. }
                    if good as f64 >= NUMBERS * distinct as f64 =>
                {
                    return Err(self.mixed("dates", texts.first[first_bad] as usize));
                }
                _ => (),
            }
        }
        if distinct == 1 && !self.has_holes() {
            return Ok(Kind::Constant { text: texts.names[0].to_string() });
        }
        if distinct > MOST_CATEGORIES || (distinct > 2 && 2 * distinct > rows) {
            let what = match distinct {
                _ if distinct == rows => "a key or free text: another text in every row".to_owned(),
                _ => format!("{distinct} distinct texts"),
            };
            return left_out(what + self.hint());
        }
        Ok(self.named())
    }

    /// Numbers and texts in one column: texts all, or numbers with mistakes.
    fn of_both(&self, numbers: usize, texts: usize) -> Result<Kind> {
        let counts = Counts::of(self.column.present_numbers());
        if let Some(as_numbers) = self.codes_as_numbers() {
            let whole = Counts::of(self.numbers().into_iter().chain(as_numbers.iter().copied()));
            return numbers::kind_of(self.table, self.column, &whole, false);
        }
        let codes =
            self.column.texts.are_kept() && self.column.texts.names.iter().all(|t| is_code(t));
        let quantities = !counts.are_whole()
            || counts.distinct() > NAMES
            || 2 * counts.distinct() > counts.rows();
        let share = numbers as f64 / (numbers + texts) as f64;
        let most = self.column.texts.counts.iter().copied().max().unwrap_or(0) as usize;
        let one_word = most as f64 >= NUMBERS * texts as f64;
        if !codes && quantities && (share >= NUMBERS || (share >= HALF && one_word)) {
            let row = self.column.texts.first.first().copied().unwrap_or(0);
            return Err(self.mixed("numbers", row as usize));
        }
        let distinct = counts.distinct() + self.column.texts.distinct();
        let rows = numbers + texts;
        if self.column.texts.long {
            return left_out("free text");
        }
        if distinct > MOST_CATEGORIES || (distinct > 2 && 2 * distinct > rows) {
            return left_out(format!("{distinct} distinct texts"));
        }
        Ok(self.named())
    }

    /// The numbers of texts that are digits, one for each row, where the column is of numbers
    /// nevertheless: some have decimals, or none begins with a zero.
    fn codes_as_numbers(&self) -> Option<Vec<f64>> {
        let texts = &self.column.texts;
        if !texts.are_kept() || !texts.names.iter().all(|text| is_code(text)) {
            return None;
        }
        let zero = |text: &str| text.trim_start_matches('-').starts_with('0');
        let decimals = self.column.decimals().is_none_or(|(_, most)| most > 0);
        if !decimals && texts.names.iter().any(|text| zero(text)) {
            return None;
        }
        let rows = (0..self.table.rows).filter_map(|row| self.column.code(row));
        rows.map(|code| texts.names[code].parse().ok()).collect()
    }

    /// The names of the column as categories: numbers first, increasing, then texts in the order of
    /// the alphabet.
    fn named(&self) -> Kind {
        let counts = Counts::of(self.column.present_numbers());
        let mut names: Vec<String> = match numbers::categories(self.column, &counts) {
            Kind::Category { names, .. } => names,
            _ => Vec::new(),
        };
        let mut texts: Vec<&str> = self.column.texts.names.iter().map(|name| &**name).collect();
        texts.sort_unstable();
        let only_texts = names.is_empty();
        for text in texts {
            if only_texts || !names.iter().any(|name| name == text) {
                names.push(text.to_owned());
            }
        }
        if names.iter().all(|name| name.parse::<i64>().is_ok()) {
            // codes, of which some begin with a zero
            names.sort_unstable();
        }
        let truth = |name: &String| name.to_ascii_lowercase().parse::<bool>().is_ok();
        let boolean = self.column.holds == Holds::Booleans || names.iter().all(truth);
        let of = if boolean { CategoryOf::Boolean } else { CategoryOf::Text };
        Kind::Category { names, of }
    }

    fn dates(&self, format: &TimeFormat) -> Kind {
        let texts = &self.column.texts;
        let seconds = texts.names.iter().filter_map(|text| format.seconds(text)).collect();
        self.times(format, seconds)
    }

    /// Times of this format; what is the same in every row is a constant.
    fn times(&self, format: &TimeFormat, seconds: Vec<f64>) -> Kind {
        let low = seconds.iter().copied().fold(f64::MAX, f64::min);
        let high = seconds.iter().copied().fold(f64::MIN, f64::max);
        if low == high {
            let text = format.write(low);
            return match self.has_holes() {
                false => Kind::Constant { text },
                true => Kind::Category { names: vec![text], of: CategoryOf::Text },
            };
        }
        let unit = step_of(&seconds, low);
        Kind::Time { format: format.text().to_owned(), unit, range: [low, high] }
    }

    fn given_number(&self) -> Result<Kind> {
        let (column, texts) = (self.column, &self.column.texts);
        let mut numbers = self.numbers();
        if column.count_of_texts() > 0 {
            let number = |text: &str| text.parse::<f64>().ok().filter(|number| number.is_finite());
            let bad = texts.names.iter().position(|text| number(text).is_none());
            if bad.is_some() || !texts.are_kept() {
                let row = bad.map_or(0, |bad| texts.first[bad] as usize);
                return Err(self.wrong_cell(row, "a number", "number"));
            }
            let rows = (0..self.table.rows).filter_map(|row| column.code(row));
            numbers.extend(rows.filter_map(|code| number(&texts.names[code])));
        }
        let counts = Counts::of(numbers.into_iter());
        if counts.distinct() == 1 && !self.has_holes() {
            let row = (0..self.table.rows).find_map(|row| column.text(row, None));
            return Ok(Kind::Constant { text: row.unwrap_or_default().into_owned() });
        }
        numbers::kind_of(self.table, column, &counts, true)
    }

    fn given_category(&self, given: &ColumnType) -> Result<Kind> {
        let (column, texts) = (self.column, &self.column.texts);
        if texts.long {
            return Err(self.not_of(given, "it holds free text"));
        }
        let counts = Counts::of(column.present_numbers());
        let distinct = counts.distinct() + texts.distinct();
        if distinct > MOST_CATEGORIES {
            let found = format!("it has {distinct} different cells, more than {MOST_CATEGORIES}");
            return Err(self.not_of(given, &found));
        }
        let kind = match (column.count_of_texts(), &column.holds) {
            (_, Holds::Times { utc }) => {
                let format = format_of_typed(&self.numbers(), *utc);
                let names = counts_in_words(&counts, &format);
                Kind::Category { names, of: CategoryOf::Text }
            }
            (0, _) => numbers::categories(column, &counts),
            _ => self.named(),
        };
        Ok(match kind {
            Kind::Category { names, .. } if names.len() == 1 && !self.has_holes() => {
                Kind::Constant { text: names[0].clone() }
            }
            kind => kind,
        })
    }

    fn given_date(&self, given: &ColumnType, format: Option<&str>) -> Result<Kind> {
        let (column, texts) = (self.column, &self.column.texts);
        if let Holds::Times { utc } = column.holds {
            let own = format_of_typed(&self.numbers(), utc);
            let format = format.and_then(TimeFormat::new).unwrap_or(own);
            return Ok(self.times(&format, self.numbers()));
        }
        if !texts.are_kept() {
            return Err(self.not_of(given, "it holds too many or too long texts"));
        }
        let Some(format) = format.and_then(TimeFormat::new) else {
            if column.count_of_numbers() > 0 {
                let row = (0..self.table.rows).find(|&row| !column.number(row).is_nan());
                return Err(self.wrong_cell(row.unwrap_or(0), "a date", "date:%Y%m%d"));
            }
            let names: Vec<&str> = texts.names.iter().map(|name| &**name).collect();
            return match detect(&names) {
                Detected::Format(format) => Ok(self.dates(&format)),
                Detected::Ambiguous([one, other]) => {
                    let (one, other) = (format!("date:{one}"), format!("date:{other}"));
                    let problem =
                        format!("day and month of `{}` cannot be told apart", column.name);
                    let remedy = format!("say {} or {}", self.typed(&one), self.typed(&other));
                    Err(Error::data(self.table.called(), problem, remedy))
                }
                Detected::Mostly { format, first_bad, .. } => {
                    let of = format!("date:{}", format.text());
                    Err(self.wrong_cell(texts.first[first_bad] as usize, "a date", &of))
                }
                Detected::No => Err(self.wrong_cell(
                    texts.first.first().map_or(0, |&row| row as usize),
                    "a date in a known form",
                    "date:%d/%m/%Y",
                )),
            };
        };
        let mut seconds = Vec::new();
        for row in 0..self.table.rows {
            let Some(text) = column.text(row, None) else { continue };
            match format.seconds(&text) {
                Some(time) => seconds.push(time),
                None => {
                    let expected = format!("a date of the form {}", format.text());
                    return Err(self.wrong_cell(row, &expected, "date:%d/%m/%Y"));
                }
            }
        }
        Ok(self.times(&format, seconds))
    }

    /// What the texts of a column that is left out may be.
    fn hint(&self) -> &'static str {
        match self.column.texts.names.first() {
            Some(text) if !is_code(text) => {
                let comma = self.table.layout.is_some_and(|layout| layout.decimal_comma);
                crate::data::formats::text::hint(text.as_bytes(), comma)
            }
            _ => "",
        }
    }

    /// The option that gives the column a type.
    fn typed(&self, of: &str) -> String {
        option(TYPES, &[format!("{}={of}", self.column.name)])
    }

    /// The error for a column of which nearly all cells are `what`.
    fn mixed(&self, what: &str, row: usize) -> Error {
        let found = self.quoted(row);
        let problem = format!("found {found} in a column of {what}");
        let remedy = format!("correct the cell, empty it, or say {}", self.typed("category"));
        Error::data_at(self.table.place(row, &self.column.name), problem, remedy)
    }

    /// The error for a cell that is not of the type that the user gives.
    fn wrong_cell(&self, row: usize, expected: &str, other: &str) -> Error {
        let problem = format!("found {}, expected {expected}", self.quoted(row));
        let remedy = match other {
            "number" => format!("correct the cell, or say {}", self.typed("category")),
            _ => format!("correct the cell, or give its form as in {}", self.typed(other)),
        };
        Error::data_at(self.table.place(row, &self.column.name), problem, remedy)
    }

    fn quoted(&self, row: usize) -> String {
        let text = self.column.text(row, None).unwrap_or_default();
        crate::data::formats::text::quoted(text.as_bytes())
    }

    /// The error for a column that cannot be of the type that the user gives.
    fn not_of(&self, given: &ColumnType, found: &str) -> Error {
        let name = &self.column.name;
        let problem = format!("column `{name}` is to be of type {given}, but {found}");
        let remedy = format!("say {}, or {}", self.typed("drop"), option(DROP, &[name]));
        Error::data(self.table.called(), problem, remedy)
    }
}

/// Distinct times as text.
fn counts_in_words(counts: &Counts, format: &TimeFormat) -> Vec<String> {
    counts.each().map(|time| format.write(time)).collect()
}
