//! A table echoed with new columns.

use csv::ByteRecord;

use std::io::Write;
use std::ops::Range;

use super::builder::{Builder, unique_names};
use super::delimited::Records;
use super::output::OutputFile;
use super::table::{CellType, Missing, Table, read_into};
use super::write::{TableFormat, format_number, io_error, write_table};
use crate::{Error, Result};

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
/// If there is not one vector per name or one value per row of the table.
pub fn append_columns(
    table: &Table,
    names: &[&str],
    columns: &[Vec<f64>],
    out: OutputFile,
) -> Result<()> {
    assert_eq!(names.len(), columns.len(), "{} names, {} columns", names.len(), columns.len());
    for (name, column) in names.iter().zip(columns) {
        assert_eq!(
            column.len(),
            table.rows(),
            "`{name}` has {} values for {} rows",
            column.len(),
            table.rows()
        );
    }
    match (TableFormat::of(out.path())?, table.layout) {
        (TableFormat::Csv | TableFormat::Tsv, Some(_)) => echo(table, names, columns, out),
        _ => rewrite(table, names, columns, out),
    }
}

/// Scores of images, written batch by batch as they are done: CSV or TSV, one row per image with
/// its number from 1 and, where the images are files, its path below their folder.
///
/// The file takes its name at the end, by [`ImageScores::finish`]. Work that is interrupted leaves
/// the rows so far in a file with `.partial` in its name (see [`OutputFile::keep_so_far`]).
pub struct ImageScores<'a> {
    table: &'a Table,
    delimiter: u8,
    out: OutputFile,
}

impl<'a> ImageScores<'a> {
    /// Writes the header: `image`, `names`, and `file` where there are files. None where the format
    /// takes no rows one by one ([`TableFormat::Parquet`], [`TableFormat::Npy`]), and the file is
    /// then given back.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written.
    pub fn begin(
        table: &'a Table,
        names: &[&str],
        out: OutputFile,
    ) -> Result<std::result::Result<ImageScores<'a>, OutputFile>> {
        let delimiter = match TableFormat::of(out.path())? {
            TableFormat::Csv => b',',
            TableFormat::Tsv => b'\t',
            TableFormat::Parquet | TableFormat::Npy => return Ok(Err(out)),
        };
        let mut scores = ImageScores { table, delimiter, out };
        let file = if table.files.is_empty() { None } else { Some("file") };
        scores.write(|writer| {
            writer.write_record(["image"].into_iter().chain(names.iter().copied()).chain(file))
        })?;
        Ok(Ok(scores))
    }

    /// Adds the images `rows` of the table, `columns` being one vector for each name. They are in
    /// the file when this returns.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written.
    pub fn push(&mut self, rows: Range<usize>, columns: &[&[f64]]) -> Result<()> {
        let table = self.table;
        self.write(|writer| {
            let mut cell = Vec::new();
            for (i, row) in rows.enumerate() {
                let place = table.place(row);
                writer.write_field(place.row.to_string())?;
                for column in columns {
                    cell.clear();
                    format_number(&mut cell, CellType::Double, column[i]);
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

/// For each row of the file, its position in the table.
struct Positions<'a> {
    skipped: std::iter::Peekable<std::iter::Copied<std::slice::Iter<'a, usize>>>,
    source: usize,
    next: usize,
}

impl<'a> Positions<'a> {
    fn new(table: &'a Table) -> Self {
        Positions { skipped: table.skipped.iter().copied().peekable(), source: 0, next: 0 }
    }

    fn next(&mut self) -> Option<usize> {
        let skipped = self.skipped.next_if_eq(&self.source).is_some();
        self.source += 1;
        self.next += usize::from(!skipped);
        (!skipped).then(|| self.next - 1)
    }
}

fn changed(table: &Table) -> Error {
    Error::data(&table.source, "the file changed while it was in use", "run again")
}

fn echo(table: &Table, names: &[&str], columns: &[Vec<f64>], mut out: OutputFile) -> Result<()> {
    let path = out.path().to_owned();
    let Some(layout) = table.layout else { unreachable!("only text is echoed") };
    let delimiter = match (TableFormat::of(&path)?, layout.delimiter) {
        (TableFormat::Tsv, _) => b'\t',
        (_, given) if given != b' ' && table.source.extension() == path.extension() => given,
        _ => b',',
    };
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
    let all = unique_names(old.iter().cloned().chain(names.iter().map(|&n| n.to_owned())));
    let new = all[old.len()..].iter().map(|c| c.name.as_str());
    writer.write_record(old.iter().map(String::as_str).chain(new)).map_err(failed)?;
    if layout.header {
        more = records.next(&mut record)?;
    }
    let mut positions = Positions::new(table);
    let mut cell = Vec::new();
    while more {
        for field in &record {
            writer.write_field(field).map_err(failed)?;
        }
        let position = positions.next();
        for column in columns {
            cell.clear();
            if let Some(row) = position {
                let value = *column.get(row).ok_or_else(|| changed(table))?;
                format_number(&mut cell, CellType::Double, value);
                if layout.decimal_comma {
                    cell.iter_mut().filter(|byte| **byte == b'.').for_each(|byte| *byte = b',');
                }
            }
            writer.write_field(&cell).map_err(failed)?;
        }
        writer.write_record(None::<&[u8]>).map_err(failed)?;
        more = records.next(&mut record)?;
    }
    if positions.next != table.rows() {
        return Err(changed(table));
    }
    writer.flush().map_err(Error::io(&path))?;
    drop(writer);
    out.commit()
}

fn rewrite(table: &Table, names: &[&str], columns: &[Vec<f64>], out: OutputFile) -> Result<()> {
    let mut options = table.options.clone();
    // As when it was read, but in double precision and with every row.
    options.missing = Missing::Error;
    if let Some(layout) = table.layout {
        options.delimiter = Some(layout.delimiter.into());
        options.header = Some(layout.header);
        options.decimal = Some(if layout.decimal_comma { ',' } else { '.' });
    }
    let old: Vec<f64> = if table.source.as_os_str().is_empty() {
        table.values.iter().copied().map(f64::from).collect()
    } else {
        let mut builder: Builder<f64> = Builder::new(&table.source, &options, true);
        read_into(&table.source, &options, &mut builder)?;
        builder.values
    };
    let (dim, rows) = (table.dim(), old.len() / table.dim());
    let mut positions = Positions::new(table);
    let mut values = Vec::with_capacity(rows * (dim + names.len()));
    for row in old.chunks_exact(dim) {
        values.extend_from_slice(row);
        let position = positions.next();
        for column in columns {
            let value = position.map_or(Some(f64::NAN), |row| column.get(row).copied());
            values.push(value.ok_or_else(|| changed(table))?);
        }
    }
    if positions.next != table.rows() {
        return Err(changed(table));
    }
    let types: Vec<CellType> =
        table.cells.iter().copied().chain(names.iter().map(|_| CellType::Double)).collect();
    let all =
        unique_names(table.names().into_iter().chain(names.iter().copied()).map(str::to_owned));
    let all: Vec<String> = all.into_iter().map(|c| c.name).collect();
    write_table(out, &all, &types, &values)
}
