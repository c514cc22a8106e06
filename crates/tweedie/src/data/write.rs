//! Tables out.

use std::io::Write;
use std::sync::Arc;

use super::column::{Cell, CellType};
use super::dataset::Dataset;
use super::formats::TableFormat;
use super::formats::batches::Batches;
use super::output::OutputFile;
use super::times::TimeFormat;
use crate::{Error, Result};

/// A table to be written, cell by cell.
pub(super) struct Frame<'a> {
    pub names: Vec<String>,
    /// How the columns are written.
    pub styles: Vec<Style>,
    pub rows: usize,
    /// The cell in a row and a column, both from 0.
    pub cell: &'a (dyn Fn(usize, usize) -> Cell + 'a),
}

/// How the cells of a column are written.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Style {
    /// As their type says.
    Plain(CellType),
    /// Numbers with no more than `most` decimals, and with `least` even where they are zeros.
    Decimals { least: u32, most: u32 },
    /// Seconds since 1970-01-01 as dates or times.
    Time(TimeFormat),
    /// The names of categories, and what they are in a format of typed columns.
    Names(Arc<Vec<String>>, Named),
}

/// What the names of categories are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    Text,
    Boolean,
    Integer,
    Number,
}

impl Style {
    /// The type of the numbers; [`CellType::Text`] where cells are dates, times or names.
    pub fn cell_type(&self) -> CellType {
        match self {
            Style::Plain(cells) => *cells,
            Style::Decimals { most: 0, .. } => CellType::Integer,
            Style::Decimals { .. } => CellType::Double,
            Style::Time(_) | Style::Names(..) => CellType::Text,
        }
    }
}

/// Writes `values`, row-major `[rows, names.len()]`, in the format of the file's extension, and
/// commits the file.
///
/// A value that is not a number is an empty cell or a null. Integers are rounded. An NPY array has
/// one type: `i8` if all columns are integers without empty cells, `f4` if all are
/// [`CellType::Single`], else `f8`.
///
/// # Errors
/// [`Error::Io`] if the file cannot be written, [`Error::Config`] if its extension is unknown.
///
/// # Panics
/// If there is not one type per name or `values` does not hold whole rows.
pub fn write_table<S: AsRef<str>>(
    out: OutputFile,
    names: &[S],
    types: &[CellType],
    values: &[f64],
) -> Result<()> {
    let cell = cells_of(names.len(), types, values);
    write_frame(out, &plain_frame(names, types, (values.len(), &cell)))
}

/// The cells of a table of `values`, row-major, of so many columns.
fn cells_of<'a>(
    dim: usize,
    types: &[CellType],
    values: &'a [f64],
) -> impl Fn(usize, usize) -> Cell + use<'a> {
    assert_eq!(dim, types.len(), "{dim} names, {} types", types.len());
    assert!(
        dim > 0 && values.len().is_multiple_of(dim),
        "{} values are not rows of {dim}",
        values.len()
    );
    move |row, k| match values[row * dim + k] {
        value if value.is_nan() => Cell::Missing,
        value => Cell::Real(value),
    }
}

/// A table of so many cells, which are written as their types say.
fn plain_frame<'a, S: AsRef<str>>(
    names: &[S],
    types: &[CellType],
    (cells, cell): (usize, &'a (dyn Fn(usize, usize) -> Cell + 'a)),
) -> Frame<'a> {
    let rows = cells / names.len();
    let names = names.iter().map(|name| name.as_ref().to_owned()).collect();
    let styles = types.iter().map(|&cells| Style::Plain(cells)).collect();
    Frame { names, styles, rows, cell }
}

/// As [`write_table`] for typed cells.
pub(super) fn write_frame(mut out: OutputFile, frame: &Frame) -> Result<()> {
    let path = out.path().to_owned();
    let format = TableFormat::of(&path)?;
    let text = frame.styles.iter().position(|style| style.cell_type() == CellType::Text);
    if let Some(k) = text.filter(|_| !format.takes_text()) {
        let problem = format!("{format:?} holds numbers alone, and `{}` is text", frame.names[k]);
        return Err(Error::config("out", problem, "end the name in .csv, .tsv or .parquet"));
    }
    format.write(&mut out, frame).map_err(Error::io(&path))?;
    out.commit()
}

/// The table of `values`, row-major `[rows, names.len()]`, as one record batch of arrow, in the
/// types in which [`write_table`] writes a Parquet file; a value that is not a number is a null.
///
/// # Panics
/// As [`write_table`].
pub fn record_batch<S: AsRef<str>>(
    names: &[S],
    types: &[CellType],
    values: &[f64],
) -> arrow_array::RecordBatch {
    let cell = cells_of(names.len(), types, values);
    batch_of(&plain_frame(names, types, (values.len(), &cell)))
}

fn batch_of(frame: &Frame) -> arrow_array::RecordBatch {
    let batch = Batches::of(frame).batch(0..frame.rows);
    batch.expect("columns of one length, of the types of their schema")
}

impl Dataset {
    /// The rows as one record batch of arrow, in the types in which [`Dataset::write`] writes a
    /// Parquet file: categories by their names, dates and times as such, nulls where cells are
    /// missing.
    pub fn record_batch(&self) -> arrow_array::RecordBatch {
        let (names, styles) = (self.names(), self.styles());
        let cell = |row: usize, k: usize| self.cell(row, k);
        batch_of(&Frame { names, styles, rows: self.rows(), cell: &cell })
    }

    /// The cell in a row and a column, both from 0, as a file of text has it; empty where it is
    /// missing.
    ///
    /// # Panics
    /// If there is no such row or column.
    pub fn cell_text(&self, row: usize, k: usize) -> String {
        let mut text = Vec::new();
        format_styled(&mut text, &self.styles()[k], self.cell(row, k));
        String::from_utf8_lossy(&text).into_owned()
    }
}

/// Replaces `text` by that of one cell.
pub(super) fn format_styled(text: &mut Vec<u8>, style: &Style, cell: Cell) {
    text.clear();
    let value = cell.value();
    match style {
        Style::Plain(cells) => format_cell(text, *cells, cell),
        _ if value.is_nan() => (),
        Style::Decimals { .. } if value.is_infinite() => format_cell(text, CellType::Double, cell),
        Style::Decimals { least, most } => text.extend(decimals(value, *least, *most).bytes()),
        Style::Time(format) => text.extend(format.write(value).bytes()),
        Style::Names(names, _) => {
            text.extend(names.get(value as usize).map_or("", String::as_str).bytes());
        }
    }
}

/// A finite number as the shortest text that reads back as it, but with no more than `most`
/// decimals, and with `least` even where they are zeros.
pub(super) fn decimals(value: f64, least: u32, most: u32) -> String {
    // adding zero makes −0 zero
    let mut text = format!("{}", value + 0.0);
    let count = |text: &str| text.split_once('.').map_or(0, |(_, after)| after.len());
    if count(&text) > most as usize {
        text = format!("{value:.*}", most as usize);
        if text.contains('.') {
            text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
        }
        if text == "-0" {
            text.remove(0);
        }
    }
    let (own, least) = (count(&text), least as usize);
    if own < least {
        text.push_str(if own == 0 { "." } else { "" });
        text.extend(std::iter::repeat_n('0', least - own));
    }
    text
}

/// Replaces `text` by that of one cell.
pub(super) fn format_cell(text: &mut Vec<u8>, cells: CellType, cell: Cell) {
    text.clear();
    // Debug, not Display: a whole float keeps its point, and extremes get an exponent.
    let written = match (cells, cell) {
        (_, Cell::Missing) => Ok(()),
        (_, Cell::Real(value)) if value.is_nan() => Ok(()),
        (CellType::Integer, Cell::Integer(value)) => write!(text, "{value}"),
        (CellType::Integer, Cell::Real(value)) if value.is_finite() => {
            write!(text, "{:.0}", value.round() + 0.0)
        }
        (CellType::Single, cell) => write!(text, "{:?}", cell.value() as f32),
        (_, cell) => write!(text, "{:?}", cell.value()),
    };
    written.expect("a Vec takes all bytes");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_as_many_as_the_file_had() {
        for (value, least, most, expected) in [
            (29.85, 0, 2, "29.85"),
            (30.0, 0, 2, "30"),
            (30.0, 1, 2, "30.0"),
            (30.5, 2, 2, "30.50"),
            (17.0, 0, 0, "17"),
            (-0.001, 0, 2, "0"),
            (-0.001, 2, 2, "0.00"),
            (100.0, 0, 1, "100"),
            (-3.0, 1, 1, "-3.0"),
            (10.357_019_999_999_999, 0, 15, "10.357019999999999"),
            (16.1, 0, 15, "16.1"),
            (1e22, 0, 2, "10000000000000000000000"),
        ] {
            assert_eq!(decimals(value, least, most), expected);
        }
    }
}
