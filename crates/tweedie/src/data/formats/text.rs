//! Text tables: cells between delimiters or blanks.

mod cells;
mod layout;
mod raw;
mod records;

use std::path::Path;

use csv::ByteRecord;

use self::cells::is_text;
pub(in crate::data) use self::cells::{hint, parse, quoted};
pub(in crate::data) use self::layout::Layout;
use self::raw::read_raw;
pub(in crate::data) use self::records::Records;
use super::{Format, Holds};
use crate::data::collect::{Collector, Spot, unique_names};
use crate::data::column::Cell;
use crate::data::images::Images;
use crate::data::options::{Found, TableOptions};
use crate::data::output::OutputFile;
use crate::data::write::{Frame, format_styled};
use crate::error::Place;
use crate::{Error, Result};

/// Comma-separated text; whatever is text and of no other format is read so too.
pub(super) const CSV: Format = Format {
    name: "CSV",
    extensions: &["csv"],
    holds: Holds::Tables,
    detect: |_| true,
    read,
    write: Some(|out, frame| write(out, b',', frame)),
    raw: Some(read_raw),
    delimiter: Some(b','),
};

/// Tab-separated text.
pub(super) const TSV: Format = Format {
    name: "TSV",
    extensions: &["tsv", "tab"],
    holds: Holds::Tables,
    // what it holds instead is for the last of the formats to find
    detect: |_| false,
    read,
    write: Some(|out, frame| write(out, b'\t', frame)),
    raw: Some(read_raw),
    delimiter: Some(b'\t'),
};

/// Reads a text table, one reused record at a time.
fn read(path: &Path, options: &TableOptions, table: &mut Collector) -> Result<Option<Images>> {
    let layout = layout::guess(path, options, layout::Below::Numbers)?;
    let Opened { mut records, mut record, width, names } = open(path, layout, table)?;
    let may_be_index = layout.header && width > 1 && options.columns.is_empty();
    if may_be_index && unnamed(&names[0]) && is_index(path, layout)? {
        let why = "it has no name and numbers the rows, as an index written by pandas or R does";
        table.set_aside(0, why);
    }
    let heads = layout.header.then(|| record.clone());
    table.choose(&unique_names(names))?;

    let mut row = vec![Cell::Missing; table.chosen.len()];
    let mut more = !layout.header || records.next(&mut record)?;
    while more {
        if record.len() != width {
            return Err(ragged(path, options, &records, &record, width, layout));
        }
        for k in 0..row.len() {
            let cell = &record[table.chosen[k].0];
            row[k] = match parse(cell, layout.decimal_comma) {
                Some(cell) => cell,
                None => {
                    let line = || Spot::Line(records.line(&record));
                    if let Some(problem) = whole_line(&record, heads.as_ref(), layout) {
                        let place = Place::file(path).line(records.line(&record));
                        return Err(Error::data_at(place, problem, "delete the line"));
                    }
                    table.not_numeric(
                        k,
                        line,
                        &(quoted(cell) + hint(cell, layout.decimal_comma)),
                    )?;
                    Cell::Missing
                }
            };
        }
        let place = || Spot::Line(records.line(&record));
        table.push(&row, place, |_, column| quoted(&record[column]))?;
        if table.seen == 1000 {
            // An estimate: if there is no room for it there may still be for the rows.
            let _ = table.reserve(records.rows_to_come(1000));
        }
        more = records.next(&mut record)?;
    }
    if table.seen == 0 {
        return Err(only_header(path, options, "numbers"));
    }
    Ok(None)
}

/// The error for a file of a header alone.
fn only_header(path: &Path, options: &TableOptions, of: &str) -> Error {
    let problem = format!("there is a header but no row of {of}");
    let remedy = match options.may_choose_columns() {
        true => "check how it was written, or say data.table.header = false",
        false => "check how it was written",
    };
    Error::data(path, problem, remedy)
}

/// A file whose first row is read.
struct Opened {
    records: Records,
    record: ByteRecord,
    /// Cells of the first row.
    width: usize,
    /// The names in the header, empty where there is none.
    names: Vec<String>,
}

/// Opens a file that is laid out so, and notes how.
fn open(path: &Path, layout: Layout, table: &mut Collector) -> Result<Opened> {
    let mut records = Records::open(path, layout)?;
    let mut record = ByteRecord::new();
    if !records.next(&mut record)? {
        let problem = "there are only blank lines, expected rows of numbers";
        return Err(Error::data(path, problem, "check how the file was written"));
    }
    let width = record.len();
    table.layout = Some(layout);
    table.found = Found {
        delimiter: Some(layout.delimiter.into()),
        header: Some(layout.header),
        decimal_comma: layout.decimal_comma,
        preamble: layout.skipped_lines as usize,
        ..std::mem::take(&mut table.found)
    };
    let names = match layout.header {
        true => names(path, &records, &record)?,
        false => vec![String::new(); width],
    };
    Ok(Opened { records, record, width, names })
}

/// The names in the header.
fn names(path: &Path, records: &Records, header: &ByteRecord) -> Result<Vec<String>> {
    let name = |(i, cell)| match std::str::from_utf8(cell) {
        Ok(name) => Ok(name.trim().to_owned()),
        Err(_) => {
            let place = Place::file(path).line(records.line(header));
            let problem = format!("the name of column {} is not UTF-8 text", i + 1);
            Err(Error::data_at(place, problem, "save the file as UTF-8"))
        }
    };
    header.iter().enumerate().map(name).collect()
}

/// The error for a row of another width than the first.
fn ragged(
    path: &Path,
    options: &TableOptions,
    records: &Records,
    record: &ByteRecord,
    width: usize,
    layout: Layout,
) -> Error {
    let found = record.len();
    let problem = format!("found {found} cells, expected {width}");
    let remedy = if record.get(0).is_some_and(|cell| cell.starts_with(b"#")) {
        "delete the line: comments are skipped at the top of a file alone"
    } else if layout.header && found == width + 1 {
        "name every column in the header (the first of the row may be a row name, as R writes them)"
    } else if options.may_choose_columns() {
        "correct the row, or name what separates cells with data.table.delimiter"
    } else {
        "correct the row"
    };
    Error::data_at(Place::file(path).line(records.line(record)), problem, remedy)
}

/// What is wrong with a line as a whole: it is the header again, or holds no numbers at all.
fn whole_line(record: &ByteRecord, heads: Option<&ByteRecord>, layout: Layout) -> Option<String> {
    if heads == Some(record) {
        return Some("this is the header again (were files put together?)".into());
    }
    let text = |cell: &[u8]| is_text(cell, layout.decimal_comma);
    let second = heads.is_some() && record.len() > 1 && record.iter().all(text);
    second.then(|| {
        let cells: Vec<String> = record.iter().take(4).map(quoted).collect();
        let more = if record.len() > 4 { ", …" } else { "" };
        format!("it holds no numbers but {}{more} (units, or a second header?)", cells.join(", "))
    })
}

/// Whether a column has no name: pandas' and R's index, also after it was read and written again.
pub(in crate::data) fn unnamed(name: &str) -> bool {
    let number = name.strip_prefix("Unnamed: ");
    name.is_empty() || number.is_some_and(|n| n.parse::<u32>().is_ok())
}

/// Whether the first column holds different whole numbers alone, as many as there are rows.
fn is_index(path: &Path, layout: Layout) -> Result<bool> {
    let mut records = Records::open(path, layout)?;
    let mut record = ByteRecord::new();
    let mut numbers = Vec::new();
    records.next(&mut record)?;
    while records.next(&mut record)? {
        match record.get(0).and_then(|cell| parse(cell, layout.decimal_comma)) {
            Some(Cell::Integer(value)) if value >= 0 => numbers.push(value),
            _ => return Ok(false),
        }
    }
    let rows = numbers.len();
    numbers.sort_unstable();
    numbers.dedup();
    Ok(rows > 0 && numbers.len() == rows)
}

fn write(out: &mut OutputFile, delimiter: u8, frame: &Frame) -> std::io::Result<()> {
    let mut writer = csv::WriterBuilder::new().delimiter(delimiter).from_writer(out);
    writer.write_record(&frame.names).map_err(io_error)?;
    let mut text = Vec::new();
    for row in 0..frame.rows {
        for (k, style) in frame.styles.iter().enumerate() {
            format_styled(&mut text, style, (frame.cell)(row, k));
            writer.write_field(&text).map_err(io_error)?;
        }
        writer.write_record(None::<&[u8]>).map_err(io_error)?;
    }
    writer.flush()
}

/// What the system answered: of another kind, a closed pipe would not be known as one.
pub(in crate::data) fn io_error(error: csv::Error) -> std::io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => std::io::Error::other(format!("{other:?}")),
    }
}
