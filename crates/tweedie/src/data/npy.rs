//! NPY arrays in.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use super::builder::{Builder, Real, unique_names};
use super::table::{CellType, TableOptions};
use crate::{Error, Result};

/// A header longer than this is not one of a table.
const MAX_HEADER: usize = 64 * 1024;
/// A table has a name and a scaling for each column: more than the values of a few rows take.
const MOST_COLUMNS: usize = 1 << 20;
/// Rows decoded at a time.
const CHUNK_ROWS: usize = 4096;

/// The header of an NPY array.
#[derive(Debug)]
pub(super) struct Header {
    /// The type of the values, as written: `<f4`, `|u1`, …
    pub descr: String,
    pub fortran: bool,
    pub shape: Vec<usize>,
    /// Where the values start.
    start: usize,
}

/// A type of numbers: `f4`, `i8`, `b1`, …
#[derive(Debug, Clone, Copy)]
pub(super) struct Number {
    pub kind: u8,
    /// Bytes.
    pub size: usize,
    big_endian: bool,
}

/// Reads an NPY array into `builder`.
pub(super) fn read<T: Real>(
    path: &Path,
    _options: &TableOptions,
    builder: &mut Builder<T>,
) -> Result<()> {
    let bytes = std::fs::metadata(path).map_err(Error::io(path))?.len();
    let mut file = BufReader::with_capacity(1 << 18, File::open(path).map_err(Error::io(path))?);
    let header = read_header(path, &mut file)?;
    let number = header.number().ok_or_else(|| header.unsupported(path))?;
    let (rows, columns) = match header.shape[..] {
        [rows] => (rows, 1),
        [rows, columns] => (rows, columns),
        _ => {
            let remedy = "give a 2-D array, [rows, columns], or images (u8)";
            return Err(Error::data(
                path,
                format!("the array has the shape {:?}", header.shape),
                remedy,
            ));
        }
    };
    let size = number.size;
    let expected = (rows as u128) * (columns as u128) * (size as u128);
    let found = u128::from(bytes).saturating_sub(header.start as u128);
    if found != expected {
        let problem = format!(
            "found {found} bytes of values, expected {expected} ({rows} × {columns} × {size})"
        );
        return Err(Error::data(path, problem, "the file is truncated or damaged: write it again"));
    }
    if columns > MOST_COLUMNS {
        let problem =
            format!("the array has {columns} columns, more than the {MOST_COLUMNS} of any table");
        return Err(Error::data(
            path,
            problem,
            "give a 2-D array, [rows, columns], or images (u8)",
        ));
    }
    if rows == 0 || columns == 0 {
        let problem = format!("the array is empty ({rows} × {columns})");
        return Err(Error::data(path, problem, "give at least one row and one column"));
    }
    builder.choose(&unique_names(vec![String::new(); columns]))?;
    let cell = match (number.kind, size) {
        (b'f', 4) => CellType::Single,
        (b'f', _) => CellType::Double,
        _ => CellType::Integer,
    };
    builder.cells = vec![cell; builder.chosen.len()];
    builder.reserve(rows)?;

    // Rows are decoded in blocks; in Fortran order a block is gathered from one place per column.
    let mut buffer = vec![0; CHUNK_ROWS.min(rows) * columns * size];
    let mut row = vec![0.0; builder.chosen.len()];
    for start in (0..rows).step_by(CHUNK_ROWS) {
        let count = CHUNK_ROWS.min(rows - start);
        let block = &mut buffer[..count * columns * size];
        if header.fortran {
            for (column, part) in block.chunks_exact_mut(count * size).enumerate() {
                let offset = header.start + (column * rows + start) * size;
                read_at(&mut file, part, offset as u64).map_err(Error::io(path))?;
            }
        } else {
            file.read_exact(block).map_err(Error::io(path))?;
        }
        for r in 0..count {
            for (value, (column, _)) in row.iter_mut().zip(&builder.chosen) {
                let item = if header.fortran { column * count + r } else { r * columns + column };
                *value = number.decode(&block[item * size..(item + 1) * size]);
            }
            builder.push(
                &row,
                || format!("row {}", start + r + 1),
                |k, _| format!("{:?}", row[k]),
            )?;
        }
    }
    Ok(())
}

fn read_at(file: &mut BufReader<File>, out: &mut [u8], offset: u64) -> std::io::Result<()> {
    use std::io::{Seek, SeekFrom};
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(out)
}

impl Number {
    /// The value of `size` bytes.
    pub(super) fn decode(self, item: &[u8]) -> f64 {
        let mut bytes = [0; 8];
        let size = self.size;
        bytes[..size].copy_from_slice(item);
        if self.big_endian {
            bytes[..size].reverse();
        }
        let word = u64::from_le_bytes(bytes);
        match (self.kind, size) {
            (b'f', 4) => f32::from_bits(word as u32).into(),
            (b'f', _) => f64::from_bits(word),
            (b'i', _) => {
                let shift = 64 - 8 * size as u32;
                (((word << shift) as i64) >> shift) as f64
            }
            _ => word as f64,
        }
    }
}

impl Header {
    /// The type of the values, where it is one of numbers.
    pub(super) fn number(&self) -> Option<Number> {
        let &[order, kind, size] = self.descr.as_bytes() else { return None };
        let known = matches!(
            (kind, size),
            (b'f', b'4' | b'8') | (b'i' | b'u', b'1' | b'2' | b'4' | b'8') | (b'b', b'1')
        );
        let ordered = matches!(order, b'<' | b'>' | b'|' | b'=');
        (known && ordered).then(|| Number {
            kind,
            size: usize::from(size - b'0'),
            big_endian: order == b'>',
        })
    }

    /// The bytes of the values; nothing where they are neither numbers nor texts, or more than can
    /// be counted.
    pub(super) fn bytes(&self) -> Option<u64> {
        let size = match (self.number(), self.text()) {
            (Some(number), _) => number.size,
            (None, Some((width, length))) => width * length,
            (None, None) => return None,
        };
        self.shape.iter().try_fold(size as u64, |bytes, &n| bytes.checked_mul(n as u64))
    }

    /// Bytes per character and number of characters, where the values are texts.
    pub(super) fn text(&self) -> Option<(usize, usize)> {
        let (width, length) = match self.descr.get(1..2)? {
            "U" => (4, &self.descr[2..]),
            "S" => (1, &self.descr[2..]),
            _ => return None,
        };
        length.parse().ok().filter(|&length| length <= MAX_HEADER).map(|length| (width, length))
    }

    /// The error for values of another type.
    pub(super) fn unsupported(&self, path: &Path) -> Error {
        let problem =
            format!("the values have type {:?}, expected f4, f8, i1…i8, u1…u8 or bool", self.descr);
        Error::data(path, problem, "convert the array with .astype('f4')")
    }
}

/// Parses the header. By hand, because the general parser of Python literals in `npyz` recurses as
/// deep and multiplies as far as a damaged file tells it to.
pub(super) fn read_header(path: &Path, file: &mut impl Read) -> Result<Header> {
    let damaged = |what: &str| {
        Error::data(path, format!("the NPY header {what}"), "write the file again with numpy.save")
    };
    let mut fixed = [0; 8];
    file.read_exact(&mut fixed).map_err(|_| damaged("is cut short"))?;
    if &fixed[..6] != b"\x93NUMPY" {
        return Err(Error::data(path, "is not an NPY file", "give a file written by numpy.save"));
    }
    let length_bytes = match fixed[6] {
        1 => 2,
        2 | 3 => 4,
        version => return Err(damaged(&format!("has the unknown version {version}"))),
    };
    let mut length = [0; 4];
    file.read_exact(&mut length[..length_bytes]).map_err(|_| damaged("is cut short"))?;
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_HEADER {
        return Err(damaged(&format!("claims {length} bytes")));
    }
    let mut text = vec![0; length];
    file.read_exact(&mut text).map_err(|_| damaged("is cut short"))?;
    let text = String::from_utf8(text).map_err(|_| damaged("is not text"))?;

    let after = |key: &str| {
        let keys = [format!("'{key}'"), format!("\"{key}\"")];
        let rest = keys
            .iter()
            .find_map(|k| text.split_once(k.as_str()))
            .map(|(_, rest)| rest.trim_start());
        rest.and_then(|rest| rest.strip_prefix(':'))
            .map(str::trim_start)
            .ok_or_else(|| damaged(&format!("lacks '{key}'")))
    };
    let fortran = match after("fortran_order")? {
        rest if rest.starts_with("True") => true,
        rest if rest.starts_with("False") => false,
        _ => return Err(damaged("has a 'fortran_order' that is neither True nor False")),
    };
    let shape = after("shape")?.strip_prefix('(').and_then(|rest| rest.split_once(')'));
    let (shape, _) = shape.ok_or_else(|| damaged("has a 'shape' that is no tuple"))?;
    let shape = shape.split(',').map(str::trim).filter(|n| !n.is_empty());
    let shape: Vec<usize> = shape
        .map(|n| n.trim_end_matches('L').parse())
        .collect::<std::result::Result<_, _>>()
        .map_err(|_| damaged("has a 'shape' that does not hold whole numbers"))?;
    let descr = after("descr")?;
    let quote = descr.chars().next().filter(|c| matches!(c, '\'' | '"'));
    let descr = quote.and_then(|q| descr[1..].split_once(q)).map_or(descr, |(d, _)| d);
    // a damaged one may be anything
    let descr = descr.chars().filter(|c| !c.is_control()).take(40).collect();
    Ok(Header { descr, fortran, start: 8 + length_bytes + length, shape })
}
