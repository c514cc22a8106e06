//! NPY arrays: tables of one or two axes, images of three or four.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use super::{Format, Holds};
use crate::data::collect::{Collector, Spot, unique_names};
use crate::data::column::{Cell, CellType, Values};
use crate::data::images::{Images, damaged};
use crate::data::options::TableOptions;
use crate::data::output::OutputFile;
use crate::data::write::Frame;
use crate::{Error, Result};

/// A header longer than this is not one of a table.
const MAX_HEADER: usize = 64 * 1024;
/// A table has a name and a scaling for each column: more than the values of a few rows take.
const MOST_COLUMNS: usize = 1 << 20;
/// Rows decoded at a time.
const CHUNK_ROWS: usize = 4096;
const MAGIC: &[u8] = b"\x93NUMPY";
const WHAT: &str = "give a 2-D array, [rows, columns], or images (u8)";
/// The shapes of arrays of images.
pub(super) const SHAPES: &str =
    "[n, height, width], [n, height, width, 1 or 3] or [n, 1 or 3, height, width]";

pub(super) const FORMAT: Format = Format {
    name: "NPY",
    extensions: &["npy"],
    holds: Holds::Either,
    detect: |source| source.is_named_as(&FORMAT) || source.head.starts_with(MAGIC),
    read,
    write: Some(write),
    raw: None,
    delimiter: None,
};

/// The header of an NPY array.
#[derive(Debug)]
pub(super) struct Header {
    /// The type of the values, as written: `<f4`, `|u1`, …
    pub descr: String,
    pub fortran: bool,
    pub shape: Vec<usize>,
    /// Where the values start.
    pub start: usize,
}

/// A type of numbers: `f4`, `i8`, `b1`, …
#[derive(Debug, Clone, Copy)]
pub(super) struct Number {
    pub kind: u8,
    /// Bytes.
    pub size: usize,
    big_endian: bool,
}

fn read(path: &Path, options: &TableOptions, table: &mut Collector) -> Result<Option<Images>> {
    let length = std::fs::metadata(path).map_err(Error::io(path))?.len();
    let mut file = BufReader::with_capacity(1 << 18, File::open(path).map_err(Error::io(path))?);
    let header = read_header(path, &mut file)?;
    if header.shape.len() > 2 {
        let values = read_values(path, &header, &mut file)?;
        return arrange(path, &header, values)?.brought_to(path, options).map(Some);
    }
    let number = header.number().ok_or_else(|| header.unsupported(path))?;
    let (rows, columns) = match header.shape[..] {
        [rows] => (rows, 1),
        [rows, columns] => (rows, columns),
        _ => {
            let problem = format!("the array has the shape {:?}", header.shape);
            return Err(Error::data(path, problem, WHAT));
        }
    };
    let size = number.size;
    let expected = (rows as u128) * (columns as u128) * (size as u128);
    let found = u128::from(length).saturating_sub(header.start as u128);
    let (problem, remedy) = if found != expected {
        let shape = format!("{rows} × {columns} × {size}");
        let problem = format!("found {found} bytes of values, expected {expected} ({shape})");
        (problem, "the file is truncated or damaged: write it again")
    } else if columns > MOST_COLUMNS {
        let most = format!("more than the {MOST_COLUMNS} of any table");
        (format!("the array has {columns} columns, {most}"), WHAT)
    } else if rows == 0 || columns == 0 {
        (format!("the array is empty ({rows} × {columns})"), "give at least one row and one column")
    } else {
        read_rows(path, &mut file, &header, number, [rows, columns], table)?;
        return Ok(None);
    };
    Err(Error::data(path, problem, remedy))
}

/// Reads `[rows, columns]` numbers in blocks; in Fortran order a block is gathered from one place
/// per column.
fn read_rows(
    path: &Path,
    file: &mut BufReader<File>,
    header: &Header,
    number: Number,
    [rows, columns]: [usize; 2],
    table: &mut Collector,
) -> Result<()> {
    let size = number.size;
    table.choose(&unique_names(vec![String::new(); columns]))?;
    table.columns.fill(Values::empty(number.cell_type()));
    table.reserve(rows)?;
    let mut buffer = vec![0; CHUNK_ROWS.min(rows) * columns * size];
    let mut row = vec![Cell::Missing; table.chosen.len()];
    for start in (0..rows).step_by(CHUNK_ROWS) {
        let count = CHUNK_ROWS.min(rows - start);
        let block = &mut buffer[..count * columns * size];
        if header.fortran {
            for (column, part) in block.chunks_exact_mut(count * size).enumerate() {
                let offset = header.start + (column * rows + start) * size;
                let at = file.seek(SeekFrom::Start(offset as u64));
                at.and_then(|_| file.read_exact(part)).map_err(Error::io(path))?;
            }
        } else {
            file.read_exact(block).map_err(Error::io(path))?;
        }
        for r in 0..count {
            for (cell, (column, _)) in row.iter_mut().zip(&table.chosen) {
                let item = if header.fortran { column * count + r } else { r * columns + column };
                *cell = number.decode(&block[item * size..(item + 1) * size]);
            }
            let place = || Spot::Row((start + r + 1) as u64);
            table.push(&row, place, |k, _| format!("{:?}", row[k].value()))?;
        }
    }
    Ok(())
}

impl Number {
    /// The value of `size` bytes. What is beyond the whole numbers of 64 bits with sign is real.
    pub fn decode(self, item: &[u8]) -> Cell {
        let mut bytes = [0; 8];
        let size = self.size;
        bytes[..size].copy_from_slice(item);
        if self.big_endian {
            bytes[..size].reverse();
        }
        let word = u64::from_le_bytes(bytes);
        match (self.kind, size) {
            (b'f', 4) => Cell::Real(f32::from_bits(word as u32).into()),
            (b'f', _) => Cell::Real(f64::from_bits(word)),
            (b'i', _) => {
                let shift = 64 - 8 * size as u32;
                Cell::Integer(((word << shift) as i64) >> shift)
            }
            _ => i64::try_from(word).map_or(Cell::Real(word as f64), Cell::Integer),
        }
    }

    fn cell_type(self) -> CellType {
        match (self.kind, self.size) {
            (b'f', 4) => CellType::Single,
            (b'f', _) => CellType::Double,
            _ => CellType::Integer,
        }
    }
}

impl Header {
    /// The type of the values, where it is one of numbers.
    pub fn number(&self) -> Option<Number> {
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
    pub fn bytes(&self) -> Option<u64> {
        let size = match (self.number(), self.text()) {
            (Some(number), _) => number.size,
            (None, Some((width, length))) => width * length,
            (None, None) => return None,
        };
        self.shape.iter().try_fold(size as u64, |bytes, &n| bytes.checked_mul(n as u64))
    }

    /// Bytes per character and number of characters, where the values are texts.
    pub fn text(&self) -> Option<(usize, usize)> {
        let (width, length) = match self.descr.get(1..2)? {
            "U" => (4, &self.descr[2..]),
            "S" => (1, &self.descr[2..]),
            _ => return None,
        };
        length.parse().ok().filter(|&length| length <= MAX_HEADER).map(|length| (width, length))
    }

    /// The error for values of another type.
    pub fn unsupported(&self, path: &Path) -> Error {
        let problem =
            format!("the values have type {:?}, expected f4, f8, i1…i8, u1…u8 or bool", self.descr);
        Error::data(path, problem, "convert the array with .astype('f4')")
    }
}

/// Parses the header. By hand, because the general parser of Python literals in `npyz` recurses
/// and multiplies without limit on a damaged file.
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

pub(super) fn holds_images(header: &Header) -> bool {
    header.number().is_some_and(|number| (number.kind, number.size) == (b'u', 1))
        && axes(&header.shape).is_some()
}

/// Which axes of an array of this shape are channels, height and width; images are the first.
fn axes(shape: &[usize]) -> Option<[Option<usize>; 3]> {
    let colours = |channels: usize| channels == 1 || channels == 3;
    match *shape {
        [_, _, _] => Some([None, Some(1), Some(2)]),
        [_, _, _, channels] if colours(channels) => Some([Some(3), Some(1), Some(2)]),
        [_, channels, _, _] if colours(channels) => Some([Some(1), Some(2), Some(3)]),
        _ => None,
    }
}

/// The bytes of an array's values, as many as its header says.
pub(super) fn read_values(path: &Path, header: &Header, file: &mut impl Read) -> Result<Vec<u8>> {
    header.number().ok_or_else(|| header.unsupported(path))?;
    let claimed = || damaged(path, format!("claims the shape {:?}", header.shape));
    let expected = header.bytes().ok_or_else(claimed)?;
    let mut values = Vec::new();
    // one more: what is too long is damaged too, and the end is where an archive's checksum is
    // compared
    file.take(expected.saturating_add(1))
        .read_to_end(&mut values)
        .map_err(|e| damaged(path, format!("the array is damaged: {e}")))?;
    if values.len() as u64 != expected {
        let problem = format!(
            "found {} bytes of values, expected {expected} for the shape {:?}",
            values.len(),
            header.shape
        );
        return Err(damaged(path, problem));
    }
    Ok(values)
}

/// Shape and numbers of the array in a file, in C order.
pub(in crate::data) fn read_array(path: &Path) -> Result<(Vec<usize>, Vec<f64>)> {
    let mut file = BufReader::new(File::open(path).map_err(Error::io(path))?);
    let header = read_header(path, &mut file)?;
    if header.fortran && header.shape.len() > 1 {
        return Err(Error::data(path, "is in Fortran order", "save numpy.ascontiguousarray of it"));
    }
    let values = read_values(path, &header, &mut file)?;
    let number = header.number().ok_or_else(|| header.unsupported(path))?;
    let items = values.chunks_exact(number.size);
    let values: Vec<f64> = items.map(|item| number.decode(item).value()).collect();
    match values.iter().find(|value| !value.is_finite()) {
        Some(value) => Err(Error::data(path, format!("holds {value}"), "give finite numbers")),
        None => Ok((header.shape, values)),
    }
}

/// Pixels in the order of the array's axes brought to images, channels, lines, pixels: in place,
/// but of an array in Fortran order.
pub(super) fn arrange(path: &Path, header: &Header, mut values: Vec<u8>) -> Result<Images> {
    if !holds_images(header) {
        let problem = format!("the array is {} of shape {:?}", header.descr, header.shape);
        let remedy = format!("images are u8, 0…255, {SHAPES}; a table has two axes");
        return Err(Error::data(path, problem, remedy));
    }
    if values.is_empty() {
        let problem = format!("the array is empty {:?}", header.shape);
        return Err(Error::data(path, problem, "give at least one image"));
    }
    let shape = &header.shape;
    let along = axes(shape).expect("an array of images");
    let [c, h, w] = along.map(|axis| axis.map_or(1, |i| shape[i]));
    if header.fortran {
        let strides: Vec<usize> = (0..shape.len()).map(|i| shape[..i].iter().product()).collect();
        let [of_c, of_h, of_w] = along.map(|axis| axis.map_or(0, |i| strides[i]));
        let mut levels = Vec::with_capacity(values.len());
        for image in 0..shape[0] {
            for channel in 0..c {
                for line in 0..h {
                    let start = image + channel * of_c + line * of_h;
                    levels.extend((0..w).map(|pixel| values[start + pixel * of_w]));
                }
            }
        }
        values = levels;
    } else if along[0] == Some(3) {
        let mut pixels = vec![0; c * h * w];
        for image in values.chunks_exact_mut(c * h * w) {
            pixels.copy_from_slice(image);
            let planes = (0..c).flat_map(|channel| pixels.iter().skip(channel).step_by(c));
            image.iter_mut().zip(planes).for_each(|(level, pixel)| *level = *pixel);
        }
    }
    Ok(Images::new([c, h, w], values))
}

/// Writes levels, held in 0…255, as an array of bytes `[n, H, W]` of grey images and
/// `[n, 3, H, W]` of others, which is read as images again.
///
/// # Errors
/// [`Error::Io`] if the file cannot be written.
pub fn write_images(mut out: OutputFile, shape: [usize; 3], levels: &[f64]) -> Result<()> {
    use npyz::WriterBuilder;
    let count = levels.len() / shape.iter().product::<usize>();
    let sizes = [count, shape[0], shape[1], shape[2]].map(|size| size as u64);
    let sizes = if shape[0] == 1 { [&sizes[..1], &sizes[2..]].concat() } else { sizes.to_vec() };
    let path = out.path().to_owned();
    let mut write = || {
        let options = npyz::WriteOptions::<u8>::new().default_dtype().shape(&sizes);
        let mut writer = options.writer(&mut out).begin_nd()?;
        writer.extend(levels.iter().map(|level| level.round() as u8))?;
        writer.finish()
    };
    write().map_err(Error::io(&path))?;
    out.commit()
}

fn write(out: &mut OutputFile, frame: &Frame) -> std::io::Result<()> {
    use npyz::WriterBuilder;
    let shape = [frame.rows as u64, frame.styles.len() as u64];
    let cells = || (0..frame.rows).flat_map(|r| (0..frame.styles.len()).map(move |k| (r, k)));
    let values = || cells().map(|(row, k)| (frame.cell)(row, k).value());
    macro_rules! write_as {
        ($type:ty, $values:expr) => {{
            let options = npyz::WriteOptions::<$type>::new().default_dtype().shape(&shape);
            let mut writer = options.writer(out).begin_nd()?;
            writer.extend($values)?;
            writer.finish()
        }};
    }
    let all = |cells: CellType| frame.styles.iter().all(|own| own.cell_type() == cells);
    if all(CellType::Integer) && values().all(f64::is_finite) {
        write_as!(i64, cells().map(|(row, k)| (frame.cell)(row, k).rounded()))
    } else if all(CellType::Single) {
        write_as!(f32, values().map(|v| v as f32))
    } else {
        write_as!(f64, values())
    }
}
