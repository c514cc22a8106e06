//! Text tables: guessing the layout, and streaming rows.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use csv::ByteRecord;

use super::builder::{Builder, Real, unique_names};
use super::refusals::for_training;
use super::table::{CellType, Found, Layout, TableOptions};
use crate::{Error, Result};

/// How much of a file is looked at to guess its layout.
const SAMPLE_BYTES: u64 = 256 * 1024;
const SAMPLE_ROWS: usize = 200;
const BOM: &[u8] = b"\xef\xbb\xbf";

/// Reads a text table into `builder`, one reused record at a time.
pub(super) fn read<T: Real>(
    path: &Path,
    options: &TableOptions,
    builder: &mut Builder<T>,
) -> Result<Layout> {
    let layout = guess(path, options)?;
    let mut records = Records::open(path, layout)?;
    let mut record = ByteRecord::new();
    if !records.next(&mut record)? {
        let remedy = "check how the file was written";
        return Err(Error::data(
            path,
            "there are only blank lines, expected rows of numbers",
            remedy,
        ));
    }
    let width = record.len();
    let names: Vec<String> = if layout.header {
        let names = record.iter().enumerate().map(|(i, cell)| {
            let name = std::str::from_utf8(cell).map_err(|_| {
                let problem = format!(
                    "line {}, column {}: the name is not UTF-8 text",
                    records.line(&record),
                    i + 1
                );
                Error::data(path, problem, "save the file as UTF-8")
            });
            name.map(|name| name.trim().to_owned())
        });
        names.collect::<Result<_>>()?
    } else {
        vec![String::new(); width]
    };
    builder.found = Found {
        format: "text",
        delimiter: Some(layout.delimiter.into()),
        header: Some(layout.header),
        decimal_comma: layout.decimal_comma,
        preamble: layout.skipped_lines as usize,
        ..Found::default()
    };
    if layout.header
        && width > 1
        && options.columns.is_empty()
        && unnamed(&names[0])
        && is_index(path, layout)?
    {
        builder.set_aside(
            0,
            "it has no name and numbers the rows, as an index written by pandas or R does",
        );
    }
    let heads = layout.header.then(|| record.clone());
    builder.choose(&unique_names(names))?;

    let mut integer = vec![true; builder.chosen.len()];
    let mut row = vec![0.0; builder.chosen.len()];
    let mut more = !layout.header || records.next(&mut record)?;
    while more {
        if record.len() != width {
            return Err(ragged(path, options, &records, &record, width));
        }
        for (k, (value, integer)) in row.iter_mut().zip(&mut integer).enumerate() {
            let cell = &record[builder.chosen[k].0];
            *value = match parse(cell, layout.decimal_comma) {
                Cell::Integer(value) => value,
                Cell::Float(value) => {
                    *integer = false;
                    value
                }
                Cell::Missing => f64::NAN,
                Cell::Text => {
                    let line = || format!("line {}", records.line(&record));
                    if let Some(problem) = whole_line(&record, heads.as_ref(), layout) {
                        let remedy = "delete the line";
                        return Err(Error::data(path, format!("{} {problem}", line()), remedy));
                    }
                    let found = quoted(cell) + hint(cell, layout);
                    builder.not_numeric(k, line, &found)?;
                    f64::NAN
                }
            };
        }
        let place = || format!("line {}", records.line(&record));
        builder.push(&row, place, |_, column| quoted(&record[column]))?;
        if builder.seen() == 1000 {
            let bytes_per_row = records.reader.position().byte() / 1000;
            let rows = records.bytes.saturating_sub(records.reader.position().byte())
                / bytes_per_row.max(1);
            // An estimate: if there is no room for it there may still be for the rows.
            let _ = builder.reserve((rows + rows / 50 + 1000) as usize);
        }
        more = records.next(&mut record)?;
    }
    if builder.seen() == 0 {
        let problem = "there is a header but no row of numbers";
        let remedy = match for_training(options) {
            true => "check how it was written, or say --header false",
            false => "check how it was written",
        };
        return Err(Error::data(path, problem, remedy));
    }
    builder.cells = integer
        .iter()
        .map(|&whole| if whole { CellType::Integer } else { CellType::Double })
        .collect();
    Ok(layout)
}

/// The error for a row of another width than the first.
fn ragged(
    path: &Path,
    options: &TableOptions,
    records: &Records,
    record: &ByteRecord,
    width: usize,
) -> Error {
    let found = record.len();
    let problem = format!("line {}: found {found} cells, expected {width}", records.line(record));
    let comment = record.get(0).is_some_and(|cell| cell.starts_with(b"#"));
    let remedy = match (comment, for_training(options)) {
        (true, _) => "delete the line: comments are skipped at the top of a file alone",
        (false, _) if records.layout.header && found == width + 1 => {
            "name every column in the header (the first of the row may be a row name, as R writes them)"
        }
        (false, true) => "correct the row, or name what separates cells with --delimiter",
        (false, false) => "correct the row",
    };
    Error::data(path, problem, remedy)
}

/// What is wrong with a line as a whole: it is the header again, or holds no numbers at all.
fn whole_line(record: &ByteRecord, heads: Option<&ByteRecord>, layout: Layout) -> Option<String> {
    if heads == Some(record) {
        return Some("is the header again (were files put together?)".into());
    }
    let text = |cell: &[u8]| matches!(parse(cell, layout.decimal_comma), Cell::Text);
    let second = heads.is_some() && record.len() > 1 && record.iter().all(text);
    second.then(|| {
        let cells: Vec<String> = record.iter().take(4).map(quoted).collect();
        let more = if record.len() > 4 { ", …" } else { "" };
        format!("holds no numbers but {}{more} (units, or a second header?)", cells.join(", "))
    })
}

/// Whether a column has no name: pandas' and R's index, also after it was read and written again.
fn unnamed(name: &str) -> bool {
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
        match record.get(0).map(|cell| parse(cell, layout.decimal_comma)) {
            Some(Cell::Integer(value)) if value >= 0.0 => numbers.push(value as u64),
            _ => return Ok(false),
        }
    }
    let rows = numbers.len();
    numbers.sort_unstable();
    numbers.dedup();
    Ok(rows > 0 && numbers.len() == rows)
}

/// The rows of a text file as bytes.
pub(super) struct Records {
    path: std::path::PathBuf,
    layout: Layout,
    reader: csv::Reader<Box<dyn Read>>,
    width: usize,
    bytes: u64,
}

impl Records {
    pub fn open(path: &Path, layout: Layout) -> Result<Records> {
        let bytes = std::fs::metadata(path).map_err(Error::io(path))?.len();
        let stream = stream(path, layout.delimiter, layout.skip)?;
        Ok(Records {
            path: path.to_owned(),
            layout,
            reader: csv_reader(stream, layout.delimiter),
            width: 0,
            bytes,
        })
    }

    /// The next row that is not blank; false at the end.
    pub fn next(&mut self, record: &mut ByteRecord) -> Result<bool> {
        loop {
            let more = self.reader.read_byte_record(record).map_err(|e| match e.into_kind() {
                csv::ErrorKind::Io(e) => Error::io(&self.path)(e),
                other => {
                    Error::data(&self.path, format!("{other:?}"), "check how the file was written")
                }
            })?;
            if !more {
                return Ok(false);
            }
            let blank = record.len() == 1 && record[0].trim_ascii().is_empty();
            if !(blank && self.width != 1) {
                self.width = self.width.max(record.len());
                return Ok(true);
            }
        }
    }

    /// The line on which `record` starts, as an editor counts: the parser's own count is not used
    /// because it is that of the end of the previous record, before blank lines and half of a CRLF.
    pub fn line(&self, record: &ByteRecord) -> u64 {
        let start = record.position().map_or(0, csv::Position::byte);
        let Ok(stream) = stream(&self.path, self.layout.delimiter, self.layout.skip) else {
            return 0;
        };
        let (mut line, mut after_return) = (1 + self.layout.skipped_lines, false);
        for (at, byte) in BufReader::new(stream).bytes().enumerate() {
            match byte {
                Ok(b'\n') => line += u64::from(!after_return),
                Ok(b'\r') => line += 1,
                Ok(_) if (at as u64) < start => {}
                _ => break,
            }
            after_return = matches!(byte, Ok(b'\r'));
        }
        line
    }
}

/// What a cell holds.
enum Cell {
    Integer(f64),
    Float(f64),
    Missing,
    Text,
}

fn parse(cell: &[u8], decimal_comma: bool) -> Cell {
    let cell = cell.trim_ascii();
    // some programs write U+2212 for a minus
    let minus = "\u{2212}".as_bytes();
    if cell.starts_with(minus) {
        return parse(&[b"-", &cell[minus.len()..]].concat(), decimal_comma);
    }
    if decimal_comma && cell.contains(&b',') {
        return match is_decimal_comma(cell) {
            true => parse(
                &cell.iter().map(|&b| if b == b',' { b'.' } else { b }).collect::<Vec<_>>(),
                false,
            ),
            false => Cell::Text,
        };
    }
    let digits = match cell {
        [b'+' | b'-', rest @ ..] => rest,
        all => all,
    };
    let whole = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    if whole && digits.len() <= 15 {
        let magnitude = digits.iter().fold(0_u64, |n, d| 10 * n + u64::from(d - b'0')) as f64;
        return Cell::Integer(if cell[0] == b'-' { 0.0 - magnitude } else { magnitude });
    }
    // Short of a number there are only a few spellings of "missing".
    let value = std::str::from_utf8(cell).ok().and_then(|text| text.parse::<f64>().ok());
    let marks: [&[u8]; 8] = [b"", b"na", b"n/a", b"nan", b"null", b"none", b"?", b"#n/a"];
    match value {
        Some(value) if value.is_nan() => Cell::Missing,
        // where commas are decimal, a point may separate thousands
        Some(_) if decimal_comma && cell.contains(&b'.') => Cell::Text,
        Some(value) if whole => Cell::Integer(value),
        Some(value) => Cell::Float(value),
        None if marks.iter().any(|mark| cell.eq_ignore_ascii_case(mark)) => Cell::Missing,
        None => Cell::Text,
    }
}

fn is_number(cell: &[u8]) -> bool {
    matches!(parse(cell, false), Cell::Integer(_) | Cell::Float(_))
}

/// Whether a cell is a number with its decimals after a comma: digits on both sides of the only
/// one, and no point.
fn is_decimal_comma(cell: &[u8]) -> bool {
    let cell = cell.trim_ascii();
    let cell = cell.strip_prefix("\u{2212}".as_bytes()).unwrap_or(cell);
    let mut parts = cell.split(|&b| b == b',');
    let (Some(before), Some(after), None) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let before = match before {
        [b'+' | b'-', rest @ ..] => rest,
        all => all,
    };
    let digits = after.iter().take_while(|b| b.is_ascii_digit()).count();
    let exponent = match &after[digits..] {
        [] => true,
        [b'e' | b'E', b'+' | b'-', rest @ ..] | [b'e' | b'E', rest @ ..] => {
            !rest.is_empty() && rest.iter().all(u8::is_ascii_digit)
        }
        _ => false,
    };
    !before.is_empty() && before.iter().all(u8::is_ascii_digit) && digits > 0 && exponent
}

/// What a cell that is no number may be.
fn hint(cell: &[u8], layout: Layout) -> &'static str {
    let cell = cell.trim_ascii();
    let digit = |b: &u8| b.is_ascii_digit();
    if !cell.iter().any(digit) {
        return "";
    }
    let grouped = |mark: u8| {
        let mut groups = cell.split(|&b| b == mark);
        groups.next().is_some()
            && groups.clone().next().is_some()
            && groups.all(|g| g.iter().take_while(|b| digit(b)).count() >= 3)
    };
    if layout.decimal_comma && cell.contains(&b'.') {
        return " (with a point, where decimals stand after commas)";
    }
    if is_decimal_comma(cell) && !grouped(b',') {
        return " (with a decimal comma, where decimals stand after points)";
    }
    if cell.contains(&b',') && grouped(b',') {
        return " (with commas between thousands?)";
    }
    if cell.ends_with(b"%") || !cell[0].is_ascii() || matches!(cell[0], b'$' | b'<' | b'>') {
        return " (a number with a sign or unit beside it?)";
    }
    if cell.iter().all(|b| b.is_ascii_digit() || b"-/:. T".contains(b)) {
        return " (a date or time?)";
    }
    ""
}

/// A cell for a message: short, on one line.
fn quoted(cell: &[u8]) -> String {
    match std::str::from_utf8(cell) {
        Err(_) => "bytes that are not UTF-8 text".to_owned(),
        Ok("") => "an empty cell".to_owned(),
        Ok(text) => {
            let mut short: String = text.chars().take(40).collect();
            if short.len() < text.len() {
                short.push('…');
            }
            format!("{short:?}")
        }
    }
}

/// The file without its byte-order mark and the first `skip` bytes after it, runs of blanks made
/// one space if that is the delimiter.
fn stream(path: &Path, delimiter: u8, skip: u64) -> Result<Box<dyn Read>> {
    let file = File::open(path).map_err(Error::io(path))?;
    let mut file = BufReader::with_capacity(1 << 18, file);
    if file.fill_buf().map_err(Error::io(path))?.starts_with(BOM) {
        file.consume(BOM.len());
    }
    std::io::copy(&mut file.by_ref().take(skip), &mut std::io::sink()).map_err(Error::io(path))?;
    Ok(if delimiter == b' ' { Box::new(Blanks::new(file)) } else { Box::new(file) })
}

fn csv_reader<R: Read>(stream: R, delimiter: u8) -> csv::Reader<R> {
    let mut builder = csv::ReaderBuilder::new();
    builder.has_headers(false).flexible(true).delimiter(delimiter).from_reader(stream)
}

/// Makes every run of blanks within a line one space and removes those at its ends.
struct Blanks<R> {
    inner: R,
    blank: bool,
    line_start: bool,
}

impl<R: BufRead> Blanks<R> {
    fn new(inner: R) -> Self {
        Blanks { inner, blank: false, line_start: true }
    }
}

impl<R: BufRead> Read for Blanks<R> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        let mut written = 0;
        loop {
            let (mut used, buffer) = (0, self.inner.fill_buf()?);
            if buffer.is_empty() {
                return Ok(written);
            }
            for &byte in buffer {
                match byte {
                    b' ' | b'\t' => self.blank = !self.line_start,
                    _ => {
                        let line_end = matches!(byte, b'\n' | b'\r');
                        let space = self.blank && !line_end;
                        if written + usize::from(space) >= out.len() {
                            break;
                        }
                        if space {
                            out[written] = b' ';
                            written += 1;
                        }
                        out[written] = byte;
                        written += 1;
                        (self.blank, self.line_start) = (false, line_end);
                    }
                }
                used += 1;
            }
            let all = used == buffer.len();
            self.inner.consume(used);
            if !all && written == 0 {
                // Room for one byte, but a space and a byte are due: give the space alone.
                out[0] = b' ';
                (self.blank, self.line_start) = (false, false);
                return Ok(1);
            }
            if written > 0 {
                return Ok(written);
            }
        }
    }
}

/// What stands before the table in a text file: comments, Excel's `sep=;`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Preamble {
    bytes: usize,
    lines: usize,
    separator: Option<u8>,
    /// Where the text of the last comment starts and ends, if nothing stands between it and the
    /// table.
    last: Option<(usize, usize)>,
}

/// The end of the line that starts at `start`, and the start of the next one.
fn line_at(text: &[u8], start: usize) -> (usize, usize) {
    let end = text[start..]
        .iter()
        .position(|b| matches!(b, b'\n' | b'\r'))
        .map_or(text.len(), |n| start + n);
    let next = match text[end..] {
        [b'\r', b'\n', ..] => end + 2,
        [_, ..] => end + 1,
        [] => end,
    };
    (end, next)
}

impl Preamble {
    fn of(text: &[u8]) -> Preamble {
        let mut found = Preamble::default();
        while found.bytes < text.len() {
            let start = found.bytes;
            let (end, next) = line_at(text, start);
            let line = text[start..end].trim_ascii();
            match line {
                [b's', b'e', b'p', b'=', separator] if start == 0 => {
                    (found.separator, found.last) = (Some(*separator), None);
                }
                [b'#', ..] if !line.to_ascii_lowercase().starts_with(b"#n/a") => {
                    let hashes = text[start..end]
                        .iter()
                        .take_while(|b| matches!(b, b'#' | b' ' | b'\t'))
                        .count();
                    found.last = Some((start + hashes, end));
                }
                [] if start > 0 => (),
                _ => break,
            }
            (found.bytes, found.lines) = (next, found.lines + 1);
        }
        found
    }
}

/// The layout, from the options where they give it, else from the first rows.
fn guess(path: &Path, options: &TableOptions) -> Result<Layout> {
    let mut sample = Vec::new();
    let file = stream(path, b',', 0)?;
    file.take(SAMPLE_BYTES).read_to_end(&mut sample).map_err(Error::io(path))?;
    if sample.len() as u64 == SAMPLE_BYTES
        && let Some(end) = sample.iter().rposition(|b| matches!(b, b'\n' | b'\r'))
    {
        sample.truncate(end);
    }
    let extension =
        path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
    let tabs = matches!(extension.as_str(), "tsv" | "tab");
    match options.delimiter {
        Some(given) if !given.is_ascii() || matches!(given, '\n' | '\r' | '"' | '\0') => {
            let problem = format!("{given:?} cannot separate cells");
            return Err(Error::config(
                "--delimiter",
                problem,
                "give one ASCII character such as , or ; or |",
            ));
        }
        _ => (),
    }
    match options.decimal {
        None | Some('.' | ',') => (),
        Some(other) => {
            let problem = format!("{other:?} cannot stand before decimals");
            return Err(Error::config("--decimal", problem, "give . or ,"));
        }
    }
    if options.decimal == Some(',') && options.delimiter == Some(',') {
        let problem = "is a comma, which cannot separate cells too";
        return Err(Error::config("--decimal", problem, "give another --delimiter"));
    }
    let layout = guess_layout(&sample, options, tabs);
    if !options.by_name || holds_names(&sample, layout, options) {
        return Ok(layout);
    }
    // the columns of a model may be found where the layout of its training data does not fit
    let free = TableOptions { delimiter: None, decimal: None, header: None, ..options.clone() };
    let other = guess_layout(&sample, &free, tabs);
    Ok(if holds_names(&sample, other, options) { other } else { layout })
}

/// Whether the first row holds the names that are looked for.
fn holds_names(sample: &[u8], layout: Layout, options: &TableOptions) -> bool {
    let rows = sample_rows(&sample[layout.skip as usize..], layout.delimiter);
    layout.header && rows.first().is_some_and(|first| named_share(first, options) == 1.0)
}

/// The share of the names looked for that stand in a row.
fn named_share(first: &ByteRecord, options: &TableOptions) -> f64 {
    let names = first.iter().map(|cell| String::from_utf8_lossy(cell).trim().to_owned());
    let names: HashSet<String> =
        unique_names(names).into_iter().map(|column| column.name).collect();
    let found = options.columns.iter().filter(|name| names.contains(*name)).count();
    found as f64 / options.columns.len().max(1) as f64
}

fn guess_layout(sample: &[u8], options: &TableOptions, tabs: bool) -> Layout {
    let preamble = Preamble::of(sample);
    let body = &sample[preamble.bytes..];
    let given = options.delimiter.map(|given| given as u8);
    let comma = options.decimal.map(|decimal| decimal == ',');
    let known = given.or(preamble.separator).or(tabs.then_some(b'\t'));
    let mut delimiter = known.unwrap_or_else(|| guess_delimiter(body, comma));
    let mut decimal_comma = comma.unwrap_or(false);
    if known.is_none()
        && delimiter == b','
        && comma != Some(false)
        && is_decimal_column(body, decimal_comma)
    {
        (delimiter, decimal_comma) = (b';', true);
    }
    let rows = sample_rows(body, delimiter);
    if comma.is_none() && delimiter != b',' {
        let cells = || rows.iter().skip(1).chain(rows.first()).flat_map(ByteRecord::iter);
        let points = cells().filter(|cell| matches!(parse(cell, false), Cell::Float(_))).count();
        let commas = cells().filter(|cell| is_decimal_comma(cell)).count();
        // 1,234 may be one thousand; 0,234 and 1,23 may not
        let telling = cells().any(|cell| {
            let (before, after) = split_once(cell, b',');
            is_decimal_comma(cell) && (after.len() != 3 || matches!(before, b"0" | b"-0" | b"+0"))
        });
        decimal_comma = commas > points && telling;
    }
    let mut layout = Layout {
        delimiter,
        header: false,
        decimal_comma,
        skip: preamble.bytes as u64,
        skipped_lines: preamble.lines as u64,
    };
    layout.header = options.header.unwrap_or_else(|| {
        let named =
            options.by_name && rows.first().is_some_and(|row| named_share(row, options) >= 0.5);
        named || guess_header(&rows, decimal_comma)
    });
    // numpy.savetxt and others write the names as a comment
    if let Some((start, end)) = preamble.last.filter(|_| options.header != Some(false)) {
        let names = sample_rows(&sample[start..end], delimiter);
        let text = |cell: &[u8]| matches!(parse(cell, decimal_comma), Cell::Text);
        let is_names = |names: &ByteRecord| {
            rows.first().is_some_and(|row| row.len() == names.len() && !row.iter().any(text))
                && names
                    .iter()
                    .all(|name| text(name) && !(names.len() == 1 && name.contains(&b' ')))
        };
        if names.first().is_some_and(is_names) {
            layout.header = true;
            layout.skip = start as u64;
            layout.skipped_lines -= lines_between(&sample[start..preamble.bytes]);
        }
    }
    layout
}

/// How many lines end in a text.
fn lines_between(text: &[u8]) -> u64 {
    let (mut at, mut lines) = (0, 0);
    while at < text.len() {
        (at, lines) = (line_at(text, at).1, lines + 1);
    }
    lines
}

fn split_once(cell: &[u8], mark: u8) -> (&[u8], &[u8]) {
    let cell = cell.trim_ascii();
    match cell.iter().position(|&b| b == mark) {
        Some(at) => (&cell[..at], &cell[at + 1..]),
        None => (cell, b""),
    }
}

fn sample_rows(sample: &[u8], delimiter: u8) -> Vec<ByteRecord> {
    let rows = |stream: &mut dyn Read| {
        let records = csv_reader(stream, delimiter).into_byte_records().map_while(|r| r.ok());
        let blank = |r: &ByteRecord| r.len() == 1 && r[0].trim_ascii().is_empty();
        records.filter(|r| !blank(r)).take(SAMPLE_ROWS).collect()
    };
    if delimiter == b' ' { rows(&mut Blanks::new(sample)) } else { rows(&mut { sample }) }
}

/// The delimiter that cuts every row into the same number of cells, at least two; of several the
/// one that leaves most numbers. `comma` says whether decimals stand after commas, where that is
/// known.
fn guess_delimiter(sample: &[u8], comma: Option<bool>) -> u8 {
    let mut best = (b',', 0.0);
    for delimiter in [b',', b';', b'\t', b'|', b' '] {
        if delimiter == b',' && comma == Some(true) {
            continue;
        }
        let rows = sample_rows(sample, delimiter);
        let width = rows.first().map_or(0, ByteRecord::len);
        if width < 2 {
            continue;
        }
        let same = rows.iter().filter(|r| r.len() == width).count() as f64 / rows.len() as f64;
        let cells: usize = rows.iter().map(ByteRecord::len).sum();
        let number = |c: &&[u8]| {
            is_number(c) || (delimiter != b',' && comma != Some(false) && is_decimal_comma(c))
        };
        let numbers = rows.iter().flat_map(ByteRecord::iter).filter(number).count();
        // Ragged rows are worse than text cells; blanks are the last resort, as names may contain
        // them, unless they leave nothing but numbers with decimal commas.
        let commas =
            numbers == cells && rows.iter().flat_map(ByteRecord::iter).any(is_decimal_comma);
        let last_resort = if delimiter == b' ' && !commas { 0.5 } else { 1.0 };
        let score = (same * same * same + numbers as f64 / cells as f64) * last_resort;
        if score > best.1 {
            best = (delimiter, score);
        }
    }
    best.0
}

/// Whether the lines are one column of numbers with decimal commas, `0,694`, rather than two
/// columns of whole numbers: decimals with leading zeros, all of a length, or a header without a
/// comma say so. Where decimal commas are given, that each line is such a number is enough.
fn is_decimal_column(sample: &[u8], given: bool) -> bool {
    let rows = sample_rows(sample, 0x1f);
    let lines: Vec<&[u8]> = rows.iter().filter_map(|row| row.get(0)).collect();
    let Some((first, below)) = lines.split_first() else { return false };
    let header =
        !first.contains(&b',') && matches!(parse(first, false), Cell::Text) && !below.is_empty();
    let numbers = if header { below } else { &lines[..] };
    if !numbers.iter().all(|line| is_decimal_comma(line)) {
        return false;
    }
    let parts = || numbers.iter().map(|line| split_once(line, b','));
    let leading_zero = parts()
        .any(|(before, after)| matches!(before, b"-0") || (after.len() > 1 && after[0] == b'0'));
    let length = split_once(numbers[0], b',').1.len();
    let even = numbers.len() > 1 && parts().all(|(_, after)| after.len() == length);
    given || header || (leading_zero && even)
}

/// Whether the first row holds names: one of its cells is no number while nearly all cells below
/// are (a bad one among them is an error of its own line), or they count up from 0 or 1 above
/// decimals.
fn guess_header(rows: &[ByteRecord], decimal_comma: bool) -> bool {
    let Some((first, below)) = rows.split_first() else { return false };
    let is = |cell: &[u8]| parse(cell, decimal_comma);
    if below.is_empty() {
        return first.iter().all(|cell| matches!(is(cell), Cell::Text));
    }
    let decimals = first.iter().any(|cell| matches!(is(cell), Cell::Float(_)));
    let names = first.iter().enumerate().any(|(column, cell)| {
        let below = || below.iter().filter_map(|r| r.get(column));
        let numbers =
            below().filter(|c| matches!(is(c), Cell::Integer(_) | Cell::Float(_))).count();
        let text = below().filter(|c| matches!(is(c), Cell::Text)).count();
        matches!(is(cell), Cell::Text)
            && numbers > 0
            && (text == 0 || (text < numbers && !decimals))
    });
    names || counts_up(first, below, decimal_comma)
}

/// Whether the first row is `0, 1, 2, …` or `1, 2, 3, …`, the names that columns get where they
/// have none, perhaps after an empty cell over an index. A row of data may look so too, so that the
/// columns below have to differ: two are names above decimals alone, more where some column holds
/// nothing but decimals, and five above whole numbers.
fn counts_up(first: &ByteRecord, below: &[ByteRecord], decimal_comma: bool) -> bool {
    let cells: Vec<&[u8]> = first.iter().map(<[u8]>::trim_ascii).collect();
    let over_index = cells.first().is_some_and(|cell| cell.is_empty());
    let names = &cells[usize::from(over_index)..];
    let start = match names.first() {
        Some(&b"0") => 0,
        Some(&b"1") => 1,
        _ => return false,
    };
    if names.len() < 2 || !(start..).zip(names).all(|(i, name)| i.to_string().as_bytes() == *name) {
        return false;
    }
    let decimals = (usize::from(over_index)..cells.len()).filter(|&column| {
        let mut cells = below.iter().filter_map(|row| row.get(column));
        cells.all(|cell| matches!(parse(cell, decimal_comma), Cell::Float(_) | Cell::Missing))
    });
    match names.len() {
        2 => decimals.count() == 2,
        3 | 4 => decimals.count() > 0,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_collapse_whatever_the_buffer_size() {
        let text = b"  1   2\t\t3  \n\n 4 5\t6\r\n   \n7 8 9";
        for size in 1..20 {
            let mut reader = Blanks::new(BufReader::with_capacity(size, &text[..]));
            let (mut out, mut piece) = (Vec::new(), vec![0; size % 3 + 1]);
            loop {
                match reader.read(&mut piece).unwrap() {
                    0 => break,
                    n => out.extend_from_slice(&piece[..n]),
                }
            }
            assert_eq!(
                String::from_utf8(out).unwrap(),
                "1 2 3\n\n4 5 6\r\n\n7 8 9",
                "buffer of {size}"
            );
        }
    }

    #[test]
    fn delimiters_are_guessed() {
        for (text, expected) in [
            ("a,b\n1,2\n3,4\n", b','),
            ("a;b\n1.5;2\n3;4\n", b';'),
            ("a\tb\n1\t2\n", b'\t'),
            ("a|b\n1|2\n", b'|'),
            ("  1.0   2.0\n 3.0  4.0\n", b' '),
            ("1, 2\n3, 4\n", b','),
            ("first name,second\n1,2\n3,4\n", b','),
            ("1\n2\n", b','),
        ] {
            assert_eq!(
                guess_delimiter(text.as_bytes(), None) as char,
                expected as char,
                "{text:?}"
            );
        }
    }

    #[test]
    fn headers_are_guessed() {
        let header = |text: &str| guess_header(&sample_rows(text.as_bytes(), b','), false);
        for names in [
            "a,b\n1,2\n3,x\n5,6\n",
            "a,b\n1,2\n3,4\na,b\n5,6\n",
            "0,1,2\n0.5,1.5,2\n0.25,-1.5,3\n",
            "0,1\n0.5,1.5\n0.25,-1.5\n",
            ",0,1\n0,0.5,1.5\n1,0.25,-1.5\n",
            "1,2,3,4,5\n0,0,7,0,1\n0,9,7,0,1\n",
        ] {
            assert!(header(names), "{names:?}");
        }
        for rows in [
            "0,1,2\n2,1,0\n1,0,2\n",
            "0,1\n0.1,0.995\n1,0.54\n",
            "1.5,x\n2.5,3\n3.5,4\n1,y\n",
            "4,2,3\n0.5,1.5,2\n",
            "1,2\n3,4\n",
        ] {
            assert!(!header(rows), "{rows:?}");
        }
    }

    #[test]
    fn decimal_commas_are_told_from_two_columns() {
        let layout = |text: &str| {
            let layout = guess_layout(text.as_bytes(), &TableOptions::default(), false);
            (layout.delimiter as char, layout.decimal_comma)
        };
        assert_eq!(layout("a;b\n0,14;-0,07\n1,89;2\n"), (';', true));
        assert_eq!(layout("a\tb\n1,047\t-0,429\n"), ('\t', true));
        assert_eq!(layout("1,5 2,5\n-3,25 4,1\n"), (' ', true));
        assert_eq!(layout("0,1294\n-0,0694\n1,0514\n"), (';', true));
        assert_eq!(layout("x\n1,12\n3,45\n"), (';', true));
        assert_eq!(layout("1,12\n3,45\n"), (',', false), "two columns, as far as one can tell");
        assert_eq!(layout("1,0\n3,45\n0,100\n"), (',', false));
        assert_eq!(
            layout("a;b\n1,234;5,678\n"),
            (';', false),
            "thousands or decimals: refused as text"
        );
        assert_eq!(layout("a;b\n1.5;2\n"), (';', false));
    }

    #[test]
    fn what_stands_before_a_table_is_skipped() {
        let top = Preamble::of(b"# one\r\n# a,b\r\n1,2\r\n");
        assert_eq!((top.bytes, top.lines, top.last), (14, 2, Some((9, 12))));
        let top = Preamble::of(b"sep=;\na;b\n");
        assert_eq!((top.bytes, top.lines, top.separator), (6, 1, Some(b';')));
        assert_eq!(Preamble::of(b"#N/A,1\n2,3\n"), Preamble::default());
        assert_eq!(Preamble::of(b"\n1,2\n"), Preamble::default());
    }
}
