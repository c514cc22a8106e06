//! The first sheet of an Excel workbook, through calamine.
//!
//! The first row that has cells holds the names, unless one of its cells is a number, a date or a
//! truth value. Cells may be numbers, texts, truth values and dates; what is a formula is its last
//! result.
//!
//! A workbook is a zip of XML. Before calamine reads it, every entry is unpacked once and counted,
//! so that none is larger than data are packed to.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use calamine::{DataRef, Reader, SheetType, Xlsx};
use chrono::NaiveDate;
use zip::ZipArchive;

use super::archive::{MOST_PACKED, MOST_UNPACKED};
use super::{Format, Source};
use crate::data::collect::{Collector, Spot, unique_names};
use crate::data::column::Cell;
use crate::data::options::TableOptions;
use crate::data::raw::{Holds, RawReader};
use crate::error::{Place, caught};
use crate::{Error, Result};

/// Bytes of an entry that is neither a sheet nor the texts of sheets: styles, relationships.
const MOST_BESIDE: u64 = 1 << 23;
/// Cells of the table, missing ones among them, that a small sheet may have, and further ones for
/// each that it stores.
const MOST_CELLS: usize = 1 << 24;
const MOST_PER_CELL: usize = 64;
/// Columns of a sheet.
const MOST_COLUMNS: usize = 1 << 14;

pub(super) const FORMAT: Format = Format {
    name: "Excel",
    extensions: &["xlsx", "xlsm"],
    holds: super::Holds::Tables,
    detect: |source| source.is_named_as(&FORMAT) || is_workbook(source),
    read: |path, options, table| undamaged(path, || read(path, options, table)).map(|()| None),
    write: None,
    raw: Some(|path, options, table| undamaged(path, || read_raw(path, options, table))),
    delimiter: None,
};

/// Whether a file is a zip that begins as those of Excel do.
pub(super) fn is_workbook(source: &Source) -> bool {
    let holds = |part: &[u8]| source.head.windows(part.len()).any(|w| w == part);
    let xml = holds(b"[Content_Types].xml") || holds(b"docProps/") || holds(b"xl/work");
    source.head.starts_with(b"PK\x03\x04") && xml
}

/// What `read` returns; a panic of the decoder is the file's fault, not ours.
fn undamaged<T>(path: &Path, read: impl FnOnce() -> Result<T>) -> Result<T> {
    caught(read).unwrap_or_else(|| Err(damaged(path, "the decoder gave it up")))
}

fn damaged(path: &Path, error: impl ToString) -> Error {
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default();
    let problem = format!("is no sound Excel workbook ({first})");
    Error::data(path, problem, "save it again, or its sheet as CSV")
}

/// Refuses a workbook that unpacks to more than it can hold, or claims more texts than it has.
fn check(path: &Path) -> Result<()> {
    let file = BufReader::new(File::open(path).map_err(Error::io(path))?);
    let stored = file.get_ref().metadata().map_err(Error::io(path))?.len();
    let mut archive = ZipArchive::new(file).map_err(|error| damaged(path, error))?;
    let mut left = MOST_UNPACKED.max(stored.saturating_mul(MOST_PACKED));
    for i in 0..archive.len() {
        // calamine does not read what this cannot
        let Ok(mut entry) = archive.by_index(i) else { continue };
        let name = String::from_utf8_lossy(entry.name_raw()).to_lowercase();
        let name = name.rsplit(['/', '\\']).next().unwrap_or_default().to_owned();
        let large = name.contains("sheet") || name.contains("sharedstrings");
        let most = if large { left } else { left.min(MOST_BESIDE) };
        let mut length = 0;
        let (mut head, mut piece) = (Vec::new(), vec![0; 1 << 16]);
        // an entry that is cut short is calamine's to refuse
        while let Ok(count @ 1..) = entry.read(&mut piece) {
            length += count as u64;
            if length > most {
                let problem = format!(
                    "its part {name:?} unpacks to more than {most} bytes: one value over and \
                     over, or damage"
                );
                return Err(damaged(path, problem));
            }
            if head.len() < 4096 {
                head.extend_from_slice(&piece[..count.min(4096)]);
            }
        }
        left -= length;
        if name.ends_with(".xml") || name.ends_with(".rels") {
            check_text(&head).map_err(|problem| damaged(path, problem))?;
        }
        if claimed_texts(&head) > length {
            return Err(damaged(path, "it claims more texts than it holds"));
        }
    }
    Ok(())
}

/// Refuses XML of another encoding than UTF-8, in which claims could not be found.
fn check_text(head: &[u8]) -> std::result::Result<(), &'static str> {
    let declared = head.get(..200.min(head.len())).unwrap_or_default();
    let text = String::from_utf8_lossy(declared).to_lowercase();
    let of = text.split_once("encoding").map(|(_, rest)| rest.trim_start_matches([' ', '=']));
    let other = of.is_some_and(|of| !of.trim_start_matches(['"', '\'']).starts_with("utf-8"));
    match other
        || head.contains(&0)
        || head.starts_with(b"\xff\xfe")
        || head.starts_with(b"\xfe\xff")
    {
        true => Err("a part of it is not UTF-8"),
        false => Ok(()),
    }
}

/// The most texts that the beginning of a list of texts claims.
fn claimed_texts(head: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(head);
    let claims = text.split("uniqueCount").skip(1).map(|rest| {
        let rest = rest.trim_start().trim_start_matches('=').trim_start();
        let digits = rest.trim_start_matches(['"', '\'']);
        let count = digits.bytes().take_while(u8::is_ascii_digit).count();
        match count {
            0 => 0,
            _ => digits[..count].parse().unwrap_or(u64::MAX),
        }
    });
    claims.max().unwrap_or(0)
}

/// A cell of a sheet.
#[derive(Debug, Clone, PartialEq)]
enum Found {
    Number(f64),
    /// Seconds since 1970-01-01.
    Time(f64),
    Boolean(bool),
    Text(String),
}

impl Found {
    fn of(cell: DataRef) -> Option<Found> {
        Some(match cell {
            DataRef::Int(value) => Found::Number(value as f64),
            DataRef::Float(value) => Found::Number(value),
            DataRef::Bool(value) => Found::Boolean(value),
            DataRef::DateTime(time) if time.is_duration() => {
                Found::Number(time.as_f64() * 86_400.0)
            }
            DataRef::DateTime(time) => {
                let (year, month, day, hour, minute, second, milli) = time.to_ymd_hms_milli();
                let date = NaiveDate::from_ymd_opt(year.into(), month.into(), day.into())?;
                let of_day = (u32::from(hour), u32::from(minute), u32::from(second));
                let moment =
                    date.and_hms_milli_opt(of_day.0, of_day.1, of_day.2, u32::from(milli))?;
                Found::Time(moment.and_utc().timestamp_millis() as f64 / 1e3)
            }
            DataRef::String(text) | DataRef::DateTimeIso(text) | DataRef::DurationIso(text) => {
                Found::Text(text)
            }
            DataRef::SharedString(text) => Found::Text(text.to_owned()),
            DataRef::Error(_) | DataRef::Empty => return None,
        })
    }
}

/// A row: its number in the sheet, from 1, and its cells with their columns, increasing.
type Row = (u64, Vec<(usize, Found)>);

/// The rows of the first sheet that have cells.
fn rows(path: &Path) -> Result<Vec<Row>> {
    check(path)?;
    let file = BufReader::new(File::open(path).map_err(Error::io(path))?);
    let mut workbook: Xlsx<_> = Xlsx::new(file).map_err(|error| damaged(path, error))?;
    let sheets = workbook.sheets_metadata().iter();
    let sheet = sheets.filter(|sheet| sheet.typ == SheetType::WorkSheet).map(|s| s.name.clone());
    let sheet = sheet.into_iter().next().ok_or_else(|| damaged(path, "it has no sheet"))?;
    let mut cells =
        workbook.worksheet_cells_reader(&sheet).map_err(|error| damaged(path, error))?;
    let mut rows: Vec<Row> = Vec::new();
    while let Some(cell) = cells.next_cell().map_err(|error| damaged(path, error))? {
        let (row, column) = cell.get_position();
        let (row, column) = (u64::from(row) + 1, column as usize);
        let Some(found) = Found::of(cell.get_value().clone()) else { continue };
        match rows.last_mut() {
            Some((last, cells)) if *last == row => {
                if cells.last().is_some_and(|(before, _)| *before >= column) {
                    return Err(damaged(path, format!("the cells of row {row} are in no order")));
                }
                cells.push((column, found));
            }
            Some((last, _)) if *last > row => {
                return Err(damaged(path, format!("row {row} stands below row {last}")));
            }
            _ => rows.push((row, vec![(column, found)])),
        }
    }
    Ok(rows)
}

/// Reads a table as it comes.
fn read_raw(path: &Path, options: &TableOptions, table: &mut RawReader) -> Result<()> {
    let mut rows = rows(path)?;
    let Some((_, first)) = rows.first() else {
        let remedy = "save the sheet of the table as CSV";
        return Err(Error::data(path, "its first sheet has no cells", remedy));
    };
    let texts = first.iter().all(|(_, cell)| matches!(cell, Found::Text(_)));
    let header = options.header.unwrap_or(texts);
    // columns begin where the first row does
    let left = first[0].0;
    let width = match header {
        true => first[first.len() - 1].0 + 1 - left,
        false => {
            rows.iter().filter_map(|(_, cells)| Some(cells.last()?.0 + 1)).max().unwrap_or(0) - left
        }
    };
    let mut names = vec![String::new(); width];
    if header {
        for (column, cell) in rows.remove(0).1 {
            names[column - left] = match cell {
                Found::Text(text) => text.trim().to_owned(),
                Found::Number(number) => format!("{number}"),
                Found::Boolean(value) => value.to_string(),
                Found::Time(_) => String::new(),
            };
        }
    }
    let stored: usize = rows.iter().map(|(_, cells)| cells.len()).sum();
    let claimed = rows.len().saturating_mul(width);
    if width > MOST_COLUMNS || claimed > MOST_CELLS + MOST_PER_CELL * stored {
        let problem = format!("{} rows of {width} columns in {stored} cells", rows.len());
        return Err(damaged(path, problem));
    }
    table.collector.found.header = Some(header);
    table.choose(names, |_| Holds::Any)?;
    let places: Vec<usize> = table.collector.chosen.iter().map(|(at, _)| at + left).collect();
    let mut times = vec![0; places.len()];
    for (number, cells) in &rows {
        let beyond = cells.iter().find(|(column, _)| !(left..left + width).contains(column));
        if let Some((column, _)) = beyond {
            let problem =
                format!("has a cell in column {}, which has no name in the first row", column + 1);
            let remedy =
                "name every column there, and delete what stands above or beside the table";
            return Err(Error::data_at(Place::file(path).row(*number), problem, remedy));
        }
        for ((column, place), times) in table.columns.iter_mut().zip(&places).zip(&mut times) {
            match cells.binary_search_by_key(place, |(at, _)| *at).map(|at| &cells[at].1) {
                Err(_) => column.push_missing(),
                Ok(Found::Number(value)) => column.push_number(*value, None),
                Ok(Found::Time(seconds)) => {
                    *times += 1;
                    column.push_number(*seconds, None);
                }
                Ok(Found::Boolean(value)) => {
                    column.push_option(Some(if *value { "true" } else { "false" }));
                }
                Ok(Found::Text(text)) => column.push_cell(text, false),
            }
        }
    }
    for (column, times) in table.columns.iter_mut().zip(times) {
        column.holds = match (times, column.count_of_numbers() + column.count_of_texts()) {
            (0, _) => Holds::Any,
            (times, present) if times == present => Holds::Times { utc: false },
            _ => Holds::Else("dates beside other cells".into()),
        };
    }
    Ok(())
}

/// Reads a table of numbers.
fn read(path: &Path, options: &TableOptions, table: &mut Collector) -> Result<()> {
    let all = TableOptions { header: options.header, ..TableOptions::default() };
    let mut sheet = RawReader::new(path, &all);
    read_raw(path, &all, &mut sheet)?;
    let names: Vec<String> = sheet.columns.iter().map(|column| column.name.clone()).collect();
    table.found.header = sheet.collector.found.header;
    table.choose(&unique_names(names))?;
    let chosen: Vec<usize> = table.chosen.iter().map(|(position, _)| *position).collect();
    let rows = sheet.columns.first().map_or(0, |column| column.rows);
    let mut cells = vec![Cell::Missing; chosen.len()];
    for row in 0..rows {
        let place = || Spot::Row(row as u64 + 1);
        for (k, &position) in chosen.iter().enumerate() {
            let column = &sheet.columns[position];
            cells[k] = match (&column.holds, column.number(row)) {
                (Holds::Any, value) if value.is_nan() => {
                    if let Some(text) = column.text(row, None) {
                        table.not_numeric(k, place, &super::text::quoted(text.as_bytes()))?;
                    }
                    Cell::Missing
                }
                (Holds::Any, value) if value.fract() == 0.0 && value.abs() < 1e15 => {
                    Cell::Integer(value as i64)
                }
                (Holds::Any, value) => Cell::Real(value),
                _ => {
                    table.not_numeric(k, place, "a date or time")?;
                    Cell::Missing
                }
            };
        }
        table.push(&cells, place, |_, _| "an empty cell".into())?;
    }
    Ok(())
}
