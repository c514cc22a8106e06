//! Text tables: guessing the layout, and streaming rows.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use csv::ByteRecord;

use super::builder::{Builder, Real, unique_names};
use super::table::{CellType, Layout, TableOptions};
use crate::{Error, Result};

/// How much of a file is looked at to guess its layout.
const SAMPLE_BYTES: u64 = 256 * 1024;
const SAMPLE_ROWS: usize = 200;
const BOM: &[u8] = b"\xef\xbb\xbf";

/// Reads a text table into `builder`, one reused record at a time.
pub(super) fn read<T: Real>(path: &Path, options: &TableOptions, builder: &mut Builder<T>) -> Result<Layout> {
    let layout = guess(path, options)?;
    let mut records = Records::open(path, layout)?;
    let mut record = ByteRecord::new();
    if !records.next(&mut record)? {
        let remedy = "check how the file was written";
        return Err(Error::data(path, "there are only blank lines, expected rows of numbers", remedy));
    }
    let width = record.len();
    let names: Vec<String> = if layout.header {
        let names = record.iter().enumerate().map(|(i, cell)| {
            let name = std::str::from_utf8(cell).map_err(|_| {
                let problem =
                    format!("line {}, column {}: the name is not UTF-8 text", records.line(&record), i + 1);
                Error::data(path, problem, "save the file as UTF-8")
            });
            name.map(|name| name.trim().to_owned())
        });
        names.collect::<Result<_>>()?
    } else {
        vec![String::new(); width]
    };
    builder.choose(&unique_names(names))?;

    let mut integer = vec![true; builder.chosen.len()];
    let mut row = vec![0.0; builder.chosen.len()];
    let mut more = !layout.header || records.next(&mut record)?;
    while more {
        if record.len() != width {
            let problem =
                format!("line {}: found {} cells, expected {width}", records.line(&record), record.len());
            return Err(Error::data(
                path,
                problem,
                "correct the row, or name what separates cells with --delimiter",
            ));
        }
        for ((value, (column, name)), integer) in row.iter_mut().zip(&builder.chosen).zip(&mut integer) {
            let cell = &record[*column];
            *value = match parse(cell) {
                Cell::Integer(value) => value,
                Cell::Float(value) => {
                    *integer = false;
                    value
                }
                Cell::Missing => f64::NAN,
                Cell::Text => {
                    let line = format!("line {}", records.line(&record));
                    return Err(builder.not_numeric(&line, name, &quoted(cell)));
                }
            };
        }
        if let Err(bad) = builder.push(&row) {
            let found = quoted(&record[builder.chosen[bad.column].0]);
            return Err(builder.bad_cell(&format!("line {}", records.line(&record)), &bad, &found));
        }
        if builder.seen() == 1000 {
            let bytes_per_row = records.reader.position().byte() / 1000;
            let rows = records.bytes.saturating_sub(records.reader.position().byte()) / bytes_per_row.max(1);
            // An estimate: if there is no room for it there may still be for the rows.
            let _ = builder.reserve((rows + rows / 50 + 1000) as usize);
        }
        more = records.next(&mut record)?;
    }
    if builder.seen() == 0 {
        let problem = "there is a header but no row of numbers";
        return Err(Error::data(path, problem, "check how it was written, or say --header false"));
    }
    builder.cells =
        integer.iter().map(|&whole| if whole { CellType::Integer } else { CellType::Double }).collect();
    Ok(layout)
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
        let stream = stream(path, layout.delimiter)?;
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
                other => Error::data(&self.path, format!("{other:?}"), "check how the file was written"),
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

    /// The line on which `record` starts, as an editor counts: the parser's own count is not used because it
    /// is that of the end of the previous record, before blank lines and half of a CRLF.
    pub fn line(&self, record: &ByteRecord) -> u64 {
        let start = record.position().map_or(0, csv::Position::byte);
        let Ok(stream) = stream(&self.path, self.layout.delimiter) else { return 0 };
        let (mut line, mut after_return) = (1, false);
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

fn parse(cell: &[u8]) -> Cell {
    let cell = cell.trim_ascii();
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
        Some(value) if whole => Cell::Integer(value),
        Some(value) => Cell::Float(value),
        None if marks.iter().any(|mark| cell.eq_ignore_ascii_case(mark)) => Cell::Missing,
        None => Cell::Text,
    }
}

fn is_number(cell: &[u8]) -> bool {
    matches!(parse(cell), Cell::Integer(_) | Cell::Float(_))
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

/// The file without its byte-order mark, runs of blanks made one space if that is the delimiter.
fn stream(path: &Path, delimiter: u8) -> Result<Box<dyn Read>> {
    let file = File::open(path).map_err(Error::io(path))?;
    let mut file = BufReader::with_capacity(1 << 18, file);
    if file.fill_buf().map_err(Error::io(path))?.starts_with(BOM) {
        file.consume(BOM.len());
    }
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

/// The layout, from the options where they give it, else from the first rows.
fn guess(path: &Path, options: &TableOptions) -> Result<Layout> {
    let mut sample = Vec::new();
    let file = stream(path, b',')?;
    file.take(SAMPLE_BYTES).read_to_end(&mut sample).map_err(Error::io(path))?;
    if sample.len() as u64 == SAMPLE_BYTES
        && let Some(end) = sample.iter().rposition(|b| matches!(b, b'\n' | b'\r'))
    {
        sample.truncate(end);
    }
    let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
    let delimiter = match options.delimiter {
        Some(given) if given.is_ascii() && !matches!(given, '\n' | '\r' | '"' | '\0') => given as u8,
        Some(given) => {
            let problem = format!("{given:?} cannot separate cells");
            return Err(Error::config("delimiter", problem, "give one ASCII character such as , or ; or |"));
        }
        None if matches!(extension.as_str(), "tsv" | "tab") => b'\t',
        None => guess_delimiter(&sample),
    };
    let header = options.header.unwrap_or_else(|| guess_header(&sample_rows(&sample, delimiter)));
    Ok(Layout { delimiter, header })
}

fn sample_rows(sample: &[u8], delimiter: u8) -> Vec<ByteRecord> {
    let rows = |stream: &mut dyn Read| {
        let records = csv_reader(stream, delimiter).into_byte_records().map_while(|r| r.ok());
        let blank = |r: &ByteRecord| r.len() == 1 && r[0].trim_ascii().is_empty();
        records.filter(|r| !blank(r)).take(SAMPLE_ROWS).collect()
    };
    if delimiter == b' ' { rows(&mut Blanks::new(sample)) } else { rows(&mut { sample }) }
}

/// The delimiter that cuts every row into the same number of cells, at least two; of several the one that
/// leaves most numbers.
fn guess_delimiter(sample: &[u8]) -> u8 {
    let mut best = (b',', 0.0);
    for delimiter in [b',', b';', b'\t', b'|', b' '] {
        let rows = sample_rows(sample, delimiter);
        let width = rows.first().map_or(0, ByteRecord::len);
        if width < 2 {
            continue;
        }
        let same = rows.iter().filter(|r| r.len() == width).count() as f64 / rows.len() as f64;
        let cells: usize = rows.iter().map(ByteRecord::len).sum();
        let numbers = rows.iter().flat_map(ByteRecord::iter).filter(|c| is_number(c)).count();
        // Ragged rows are worse than text cells; blanks are the last resort, as names may contain them.
        let last_resort = if delimiter == b' ' { 0.5 } else { 1.0 };
        let score = (same * same * same + numbers as f64 / cells as f64) * last_resort;
        if score > best.1 {
            best = (delimiter, score);
        }
    }
    best.0
}

/// Whether the first row holds names: one of its cells is no number while the cells below are.
fn guess_header(rows: &[ByteRecord]) -> bool {
    let Some((first, below)) = rows.split_first() else { return false };
    if below.is_empty() {
        return first.iter().all(|cell| matches!(parse(cell), Cell::Text));
    }
    first.iter().enumerate().any(|(column, cell)| {
        let below = || below.iter().filter_map(|r| r.get(column));
        matches!(parse(cell), Cell::Text)
            && below().any(is_number)
            && below().all(|cell| !matches!(parse(cell), Cell::Text))
    })
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
            assert_eq!(String::from_utf8(out).unwrap(), "1 2 3\n\n4 5 6\r\n\n7 8 9", "buffer of {size}");
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
            assert_eq!(guess_delimiter(text.as_bytes()) as char, expected as char, "{text:?}");
        }
    }
}
