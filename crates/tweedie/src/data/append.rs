//! A table echoed with new columns.

use csv::ByteRecord;

use std::io::Write;
use std::ops::Range;
use std::sync::Arc;

use super::collect::unique_names;
use super::column::{Cell, CellType};
use super::dataset::Dataset;
use super::formats::TableFormat;
use super::formats::text::{Layout, Records, io_error};
use super::output::OutputFile;
use super::read::read_every_row;
use super::write::{Frame, Named, Style, format_styled, write_frame};
use crate::{Error, Result};

/// A column that is added to a table.
#[derive(Debug, Clone, PartialEq)]
pub struct AddedColumn {
    /// Its name.
    pub name: String,
    /// A value per row, NaN where there is none.
    pub values: Vec<f64>,
    /// Whether values are 0 and 1 that stand for false and true. Formats of text and of typed
    /// columns say so in words, formats of numbers alone keep the numbers.
    pub is_flag: bool,
}

impl AddedColumn {
    /// Numbers.
    pub fn numbers(name: impl Into<String>, values: Vec<f64>) -> AddedColumn {
        AddedColumn { name: name.into(), values, is_flag: false }
    }

    /// Values that are true or false; a missing one is an empty cell.
    pub fn flags(
        name: impl Into<String>,
        values: impl Iterator<Item = Option<bool>>,
    ) -> AddedColumn {
        let number = |flag: Option<bool>| flag.map_or(f64::NAN, f64::from);
        AddedColumn { name: name.into(), values: values.map(number).collect(), is_flag: true }
    }

    /// How its cells are written where the format takes words or not.
    fn style(&self, takes_text: bool) -> Style {
        match (self.is_flag, takes_text) {
            (false, _) => Style::Plain(CellType::Double),
            (true, false) => Style::Plain(CellType::Integer),
            (true, true) => {
                let names = Arc::new(vec!["false".into(), "true".into()]);
                Style::Names(names, Named::Boolean)
            }
        }
    }
}

/// Writes the rows of `table`'s file again, each followed by its values of the new columns, and
/// commits the file.
///
/// From text to text every row is echoed as it was, all its cells included, whether the table used
/// them or not; rows that the table left out are echoed with empty new cells. The output has a
/// header even if the input had none: the old columns are then `c1`, `c2`, …. A file of the same
/// extension keeps its delimiter (a run of blanks becomes a comma). From or to Parquet and NPY, the
/// columns that the table used are written, then the new ones. A new name that is taken gets `.1`
/// appended.
///
/// # Errors
/// [`Error::Io`] if a file cannot be read or written, [`Error::Data`] if the input changed since it
/// was read.
///
/// # Panics
/// If a column does not have one value per row of the table.
pub fn append_columns(table: &Dataset, columns: &[AddedColumn], out: OutputFile) -> Result<()> {
    for AddedColumn { name, values, .. } in columns {
        let (values, rows) = (values.len(), table.rows());
        assert_eq!(values, rows, "`{name}` has {values} values for {rows} rows");
    }
    match (TableFormat::of(out.path())?.delimiter(), table.layout) {
        (Some(delimiter), Some(layout)) => echo(table, layout, delimiter, columns, out),
        _ => rewrite(table, columns, out),
    }
}

/// Scores of images, written batch by batch as they are done: CSV or TSV, one row per image with
/// its number from 1 and, where the images are files, its path below their folder.
///
/// The file takes its name at the end, by [`ImageScores::finish`]. Work that is interrupted leaves
/// the rows so far in a file with `.partial` in its name (see [`OutputFile::keep_so_far`]).
pub struct ImageScores<'a> {
    table: &'a Dataset,
    delimiter: u8,
    out: OutputFile,
}

impl<'a> ImageScores<'a> {
    /// Writes the header: `image`, the names of `columns`, whose values are not looked at, and
    /// `file` where there are files. None where the format takes no rows one by one, as only
    /// formats of text do, and the file is then given back.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written.
    pub fn begin(
        table: &'a Dataset,
        columns: &[AddedColumn],
        out: OutputFile,
    ) -> Result<std::result::Result<ImageScores<'a>, OutputFile>> {
        let Some(delimiter) = TableFormat::of(out.path())?.delimiter() else {
            return Ok(Err(out));
        };
        let mut scores = ImageScores { table, delimiter, out };
        let file = if table.files.is_empty() { None } else { Some("file") };
        scores.write(|writer| {
            let names = columns.iter().map(|column| &*column.name);
            writer.write_record(["image"].into_iter().chain(names).chain(file))
        })?;
        Ok(Ok(scores))
    }

    /// Adds the images `rows` of the table with the values that `columns` have for them, in the
    /// order of the header. They are in the file when this returns.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written.
    pub fn push(&mut self, rows: Range<usize>, columns: &[AddedColumn]) -> Result<()> {
        let table = self.table;
        let styles: Vec<Style> = columns.iter().map(|column| column.style(true)).collect();
        self.write(|writer| {
            let mut cell = Vec::new();
            for (i, row) in rows.enumerate() {
                let place = table.place(row);
                writer.write_field(place.row.to_string())?;
                for (column, style) in columns.iter().zip(&styles) {
                    format_styled(&mut cell, style, Cell::Real(column.values[i]));
                    writer.write_field(&cell)?;
                }
                if let Some(file) = &place.file {
                    writer.write_field(file)?;
                }
                writer.write_record(None::<&[u8]>)?;
            }
            Ok(())
        })?;
        self.out.keep_so_far();
        Ok(())
    }

    fn write(
        &mut self,
        f: impl FnOnce(&mut csv::Writer<&mut Vec<u8>>) -> csv::Result<()>,
    ) -> Result<()> {
        let mut bytes = Vec::new();
        {
            let mut writer = csv::WriterBuilder::new()
                .delimiter(self.delimiter)
                .flexible(true)
                .from_writer(&mut bytes);
            f(&mut writer).and_then(|()| Ok(writer.flush()?)).expect("a Vec takes all bytes");
        }
        let written = self.out.write_all(&bytes).and_then(|()| self.out.flush());
        written.map_err(Error::io(self.out.path()))
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// As [`OutputFile::commit`].
    pub fn finish(self) -> Result<()> {
        self.out.commit()
    }
}

fn changed(table: &Dataset) -> Error {
    Error::data(&table.source, "the file changed while it was in use", "run again")
}

/// Writes text from text: every row of the file as it is, and its new cells.
fn echo(
    table: &Dataset,
    layout: Layout,
    delimiter: u8,
    columns: &[AddedColumn],
    mut out: OutputFile,
) -> Result<()> {
    let path = out.path().to_owned();
    let same = delimiter == b',' && table.source.extension() == path.extension();
    let delimiter = if same && layout.delimiter != b' ' { layout.delimiter } else { delimiter };
    let failed = |e: csv::Error| Error::io(&path)(io_error(e));
    let mut records = Records::open(&table.source, layout)?;
    let mut record = ByteRecord::new();
    let mut writer =
        csv::WriterBuilder::new().delimiter(delimiter).flexible(true).from_writer(&mut out);
    let mut more = records.next(&mut record)?;

    let old: Vec<String> = match layout.header {
        true => record.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect(),
        false => (1..=record.len()).map(|i| format!("c{i}")).collect(),
    };
    let new = columns.iter().map(|column| column.name.clone());
    let all = unique_names(old.iter().cloned().chain(new));
    writer.write_record(old.iter().chain(&all[old.len()..])).map_err(failed)?;
    if layout.header {
        more = records.next(&mut record)?;
    }
    let mut rows = table.file_rows.in_file_order();
    let styles: Vec<Style> = columns.iter().map(|column| column.style(true)).collect();
    let (mut cell, mut written) = (Vec::new(), 0);
    while more {
        for field in &record {
            writer.write_field(field).map_err(failed)?;
        }
        let row = rows.next().flatten();
        written += usize::from(row.is_some());
        for (column, style) in columns.iter().zip(&styles) {
            let value = match row {
                Some(row) => Cell::Real(*column.values.get(row).ok_or_else(|| changed(table))?),
                None => Cell::Missing,
            };
            format_styled(&mut cell, style, value);
            if layout.decimal_comma {
                cell.iter_mut().filter(|byte| **byte == b'.').for_each(|byte| *byte = b',');
            }
            writer.write_field(&cell).map_err(failed)?;
        }
        writer.write_record(None::<&[u8]>).map_err(failed)?;
        more = records.next(&mut record)?;
    }
    if written != table.rows() {
        return Err(changed(table));
    }
    writer.flush().map_err(Error::io(&path))?;
    drop(writer);
    out.commit()
}

/// Writes the columns that the table used, then the new ones.
fn rewrite(table: &Dataset, columns: &[AddedColumn], out: OutputFile) -> Result<()> {
    let all = table.file_rows.skipped.is_empty() || table.file_rows.taken.is_some();
    let every_row = if all { None } else { Some(read_every_row(table)?) };
    let old = every_row.as_ref().unwrap_or(table);
    let rows: Vec<Option<usize>> = match all {
        true => (0..old.rows()).map(Some).collect(),
        false => table.file_rows.in_file_order().take(old.rows()).collect(),
    };
    if rows.iter().flatten().count() != table.rows() {
        return Err(changed(table));
    }
    let dim = table.dim();
    let cell = |row: usize, k: usize| match k.checked_sub(dim) {
        None => old.cell(row, k),
        Some(new) => rows[row].map_or(Cell::Missing, |row| Cell::Real(columns[new].values[row])),
    };
    let new = columns.iter().map(|column| column.name.clone());
    let names = unique_names(table.names().into_iter().chain(new));
    let takes_text = TableFormat::of(out.path())?.takes_text();
    let new = columns.iter().map(|column| column.style(takes_text));
    let styles = table.styles().into_iter().chain(new).collect();
    write_frame(out, &Frame { names, styles, rows: rows.len(), cell: &cell })
}
