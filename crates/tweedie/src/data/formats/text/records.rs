//! The rows of a text file as bytes.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use csv::ByteRecord;

use super::layout::Layout;
use crate::data::formats::packed;
use crate::{Error, Result};

const BOM: &[u8] = b"\xef\xbb\xbf";

/// The rows of a text file, one reused record at a time.
pub(in crate::data) struct Records {
    path: PathBuf,
    layout: Layout,
    reader: csv::Reader<Box<dyn Read>>,
    width: usize,
    length: u64,
}

impl Records {
    pub fn open(path: &Path, layout: Layout) -> Result<Records> {
        let length = packed::length(path)?;
        let stream = stream(path, layout.delimiter, layout.skip)?;
        let reader = csv_reader(stream, layout.delimiter);
        Ok(Records { path: path.to_owned(), layout, reader, width: 0, length })
    }

    /// The next row that is not blank; false at the end.
    pub fn next(&mut self, record: &mut ByteRecord) -> Result<bool> {
        loop {
            let more = self.reader.read_byte_record(record).map_err(|e| match e.into_kind() {
                csv::ErrorKind::Io(e) => packed::read_error(&self.path, e),
                other => {
                    Error::data(&self.path, format!("{other:?}"), "check how the file was written")
                }
            })?;
            if !more || self.width == 1 || !is_blank(record) {
                self.width = self.width.max(record.len());
                return Ok(more);
            }
        }
    }

    /// How many rows follow, by the length of the `seen` ones so far.
    pub fn rows_to_come(&self, seen: u64) -> usize {
        let read = self.reader.position().byte();
        let rows = self.length.saturating_sub(read) / (read / seen.max(1)).max(1);
        (rows + rows / 50 + 1000) as usize
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

fn is_blank(record: &ByteRecord) -> bool {
    record.len() == 1 && record[0].trim_ascii().is_empty()
}

/// The file, decompressed, without its byte-order mark and the first `skip` bytes after it, runs of
/// blanks made one space if that is the delimiter.
pub(super) fn stream(path: &Path, delimiter: u8, skip: u64) -> Result<Box<dyn Read>> {
    let mut file = packed::open_text(path)?;
    let failed = |e| packed::read_error(path, e);
    if file.fill_buf().map_err(failed)?.starts_with(BOM) {
        file.consume(BOM.len());
    }
    std::io::copy(&mut file.by_ref().take(skip), &mut std::io::sink()).map_err(failed)?;
    Ok(if delimiter == b' ' { Box::new(Blanks::new(file)) } else { Box::new(file) })
}

fn csv_reader<R: Read>(stream: R, delimiter: u8) -> csv::Reader<R> {
    let mut builder = csv::ReaderBuilder::new();
    builder.has_headers(false).flexible(true).delimiter(delimiter).from_reader(stream)
}

/// Up to `most` rows of a text, blank ones left out.
pub(super) fn sample_rows(text: &[u8], delimiter: u8, most: usize) -> Vec<ByteRecord> {
    let stream: Box<dyn Read + '_> =
        if delimiter == b' ' { Box::new(Blanks::new(text)) } else { Box::new(text) };
    let records = csv_reader(stream, delimiter).into_byte_records().map_while(|r| r.ok());
    records.filter(|record| !is_blank(record)).take(most).collect()
}

/// Makes every run of blanks within a line one space and removes those at its ends.
struct Blanks<R> {
    inner: R,
    /// Whether the last byte was a blank within a line, or the end of one.
    blank: bool,
    line_start: bool,
    /// What is to be read next, from `at` on.
    ready: Vec<u8>,
    at: usize,
}

impl<R: BufRead> Blanks<R> {
    fn new(inner: R) -> Self {
        Blanks { inner, blank: false, line_start: true, ready: Vec::new(), at: 0 }
    }
}

impl<R: BufRead> Read for Blanks<R> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        while self.at == self.ready.len() {
            let piece = self.inner.fill_buf()?;
            if piece.is_empty() {
                return Ok(0);
            }
            self.ready.clear();
            for &byte in piece {
                if matches!(byte, b' ' | b'\t') {
                    self.blank = !self.line_start;
                    continue;
                }
                let line_end = matches!(byte, b'\n' | b'\r');
                if self.blank && !line_end {
                    self.ready.push(b' ');
                }
                self.ready.push(byte);
                (self.blank, self.line_start) = (false, line_end);
            }
            let length = piece.len();
            self.inner.consume(length);
            self.at = 0;
        }
        let written = (&self.ready[self.at..]).read(out)?;
        self.at += written;
        Ok(written)
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
            let out = String::from_utf8(out).unwrap();
            assert_eq!(out, "1 2 3\n\n4 5 6\r\n\n7 8 9", "buffer of {size}");
        }
    }
}
