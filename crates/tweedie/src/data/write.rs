//! Tables out.

use std::io::Write;

use super::column::{Cell, CellType};
use super::formats::TableFormat;
use super::output::OutputFile;
use crate::{Error, Result};

/// A table to be written, cell by cell.
pub(super) struct Frame<'a> {
    pub names: Vec<String>,
    /// How the columns are written.
    pub types: Vec<CellType>,
    pub rows: usize,
    /// The cell in a row and a column, both from 0.
    pub cell: &'a (dyn Fn(usize, usize) -> Cell + 'a),
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
    let dim = names.len();
    assert_eq!(dim, types.len(), "{dim} names, {} types", types.len());
    assert!(
        dim > 0 && values.len().is_multiple_of(dim),
        "{} values are not rows of {dim}",
        values.len()
    );
    let cell = |row: usize, k: usize| match values[row * dim + k] {
        value if value.is_nan() => Cell::Missing,
        value => Cell::Real(value),
    };
    let names = names.iter().map(|name| name.as_ref().to_owned()).collect();
    let frame = Frame { names, types: types.to_vec(), rows: values.len() / dim, cell: &cell };
    write_frame(out, &frame)
}

/// As [`write_table`] for typed cells.
pub(super) fn write_frame(mut out: OutputFile, frame: &Frame) -> Result<()> {
    let path = out.path().to_owned();
    TableFormat::of(&path)?.write(&mut out, frame).map_err(Error::io(&path))?;
    out.commit()
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
