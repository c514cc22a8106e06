//! Parquet tables in.

mod claims;

use std::fs::File;
use std::path::Path;

use parquet::basic::{Compression, ConvertedType, LogicalType, Type};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::DataType;
use parquet::errors::ParquetError;
use parquet::file::metadata::FileMetaData;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::ColumnDescriptor;

use super::builder::{Builder, Real, unique_names};
use super::refusals::SCHEMA;
use super::table::{CellType, TableOptions};
use crate::error::caught;
use crate::{Error, Result};

/// Rows decoded at a time.
const CHUNK_ROWS: usize = 4096;
/// Numbers that a small file may claim, and further ones for each of its bytes: runs of equal ones
/// take hardly any.
const MOST_CELLS: u128 = 1 << 24;
const MOST_PER_BYTE: u128 = 4096;

/// Reads a Parquet file into `builder`.
pub(super) fn read<T: Real>(
    path: &Path,
    _options: &TableOptions,
    builder: &mut Builder<T>,
) -> Result<()> {
    // The decoder is not proof against every damaged file; a panic in it is the file's fault, not
    // ours.
    caught(|| read_checked(path, builder))
        .unwrap_or_else(|| Err(Error::data(path, "the Parquet file is damaged", "write it again")))
}

fn read_checked<T: Real>(path: &Path, builder: &mut Builder<T>) -> Result<()> {
    let damaged = |e: ParquetError| {
        let text = e.to_string();
        let first = text.lines().next().unwrap_or_default();
        Error::data(
            path,
            format!("cannot be read as Parquet ({first})"),
            "the file is truncated or damaged: write it again",
        )
    };
    let implausible = |problem: String| {
        Error::data(
            path,
            format!("is no sound Parquet file: {problem}"),
            "the file is damaged: write it again",
        )
    };
    let mut raw = File::open(path).map_err(Error::io(path))?;
    let bytes = raw.metadata().map_err(Error::io(path))?.len();
    claims::check_footer(&mut raw).map_err(Error::io(path))?.map_err(implausible)?;
    let file =
        SerializedFileReader::new(raw.try_clone().map_err(Error::io(path))?).map_err(damaged)?;
    let schema = file.metadata().file_metadata().schema_descr_ptr();

    // A field of the schema is a column of the table; a nested one has no or several leaves.
    let fields = schema.root_schema().get_fields();
    let columns = unique_names(fields.iter().map(|f| f.name().to_owned()));
    if columns.is_empty() {
        return Err(Error::data(path, "there are no columns", "check how the file was written"));
    }
    let indices = index_columns(file.metadata().file_metadata());
    for (position, column) in columns.iter().enumerate() {
        if indices.contains(&column.name) {
            builder.set_aside(position, "pandas wrote it as the rows' index");
        }
    }
    builder.choose(&columns)?;
    let mut leaves = Vec::new();
    let mut first_leaf = vec![None; fields.len()];
    for leaf in (0..schema.num_columns()).rev() {
        first_leaf[schema.get_column_root_idx(leaf)] = Some(leaf);
    }
    for k in 0..builder.chosen.len() {
        let field = builder.chosen[k].0;
        let leaf = first_leaf[field];
        let plain = leaf
            .filter(|_| fields[field].is_primitive())
            .map(|leaf| (leaf, Number::of(&schema.column(leaf))));
        if let Some((leaf, Some(number))) = plain {
            leaves.push(Some((leaf, number)));
            builder.cells[k] = number.cell;
            continue;
        }
        let found = leaf.map_or("an empty group".to_owned(), |leaf| {
            type_name(&schema.column(leaf), plain.is_none())
        });
        builder.not_numeric(k, || SCHEMA.into(), &found)?;
        leaves.push(None);
    }

    let claimed = file.metadata().row_groups().iter().map(|group| group.num_rows().max(0) as u128);
    let cells = claimed.sum::<u128>() * leaves.len() as u128;
    if cells > MOST_CELLS + MOST_PER_BYTE * u128::from(bytes) {
        return Err(implausible(format!("it claims {cells} numbers in {bytes} bytes")));
    }

    let mut row = vec![0.0; leaves.len()];
    for group in 0..file.num_row_groups() {
        let reader = file.get_row_group(group).map_err(damaged)?;
        let rows = usize::try_from(reader.metadata().num_rows()).map_err(|_| {
            Error::data(
                path,
                format!("row group {group} claims a negative number of rows"),
                "write the file again",
            )
        })?;
        let mut columns = Vec::new();
        for leaf in &leaves {
            let Some((leaf, number)) = leaf else {
                columns.push(None);
                continue;
            };
            let about = reader.metadata().column(*leaf);
            let unread = match about.compression() {
                Compression::BROTLI(_) => Some("brotli"),
                Compression::LZO => Some("LZO"),
                _ => None,
            };
            if let Some(codec) = unread {
                let problem = format!("is compressed by {codec}, which is not read");
                let remedy = "write it with compression snappy, zstd, gzip or none";
                return Err(Error::data(path, problem, remedy));
            }
            let start = about.dictionary_page_offset().unwrap_or(about.data_page_offset());
            claims::check_pages(&mut raw, start, about.compressed_size(), rows as u64)
                .map_err(Error::io(path))?
                .map_err(implausible)?;
            let column = reader.get_column_reader(*leaf).map_err(damaged)?;
            columns.push(Some(Leaf {
                reader: Reader::new(column, schema.column(*leaf).max_def_level()),
                number: *number,
            }));
        }
        // No claim of a damaged file is trusted with more than this before its values appear.
        builder.reserve(rows.min(1 << 20))?;
        let mut blocks: Vec<Vec<f64>> = vec![Vec::new(); leaves.len()];
        let mut done = 0;
        while done < rows {
            let count = CHUNK_ROWS.min(rows - done);
            for (column, block) in columns.iter_mut().zip(&mut blocks) {
                let Some(column) = column else {
                    block.clear();
                    block.resize(count, f64::NAN);
                    continue;
                };
                column.read(count, block).map_err(damaged)?;
                if block.len() != count {
                    let problem = format!(
                        "row group {group} ends after {} rows, expected {rows}",
                        done + block.len()
                    );
                    return Err(Error::data(
                        path,
                        problem,
                        "the file is truncated or damaged: write it again",
                    ));
                }
            }
            for r in 0..count {
                for (value, block) in row.iter_mut().zip(&blocks) {
                    *value = block[r];
                }
                let number = builder.seen() + 1;
                let found = |k: usize, _| match row[k] {
                    value if value.is_nan() => "null or NaN".into(),
                    value => format!("{value:?}"),
                };
                builder.push(&row, || format!("row {number}"), found)?;
            }
            done += count;
        }
    }
    Ok(())
}

/// The columns that pandas wrote an index of rows to: by its metadata, or by their names.
fn index_columns(metadata: &FileMetaData) -> Vec<String> {
    let pairs = metadata.key_value_metadata().into_iter().flatten();
    let text = pairs.filter(|pair| pair.key == "pandas").find_map(|pair| pair.value.as_ref());
    let value: Option<serde_json::Value> = text.and_then(|text| serde_json::from_str(text).ok());
    let listed = value.as_ref().and_then(|value| value.get("index_columns")?.as_array());
    let listed = listed.into_iter().flatten().filter_map(|name| name.as_str().map(str::to_owned));
    let fields =
        metadata.schema_descr().root_schema().get_fields().iter().map(|field| field.name());
    let number = |name: &str| {
        let middle = name.strip_prefix("__index_level_").and_then(|name| name.strip_suffix("__"));
        middle.is_some_and(|number| number.parse::<u32>().is_ok())
    };
    listed.chain(fields.filter(|name| number(name)).map(str::to_owned)).collect()
}

/// How the stored values of a column become numbers.
#[derive(Debug, Clone, Copy)]
struct Number {
    cell: CellType,
    unsigned: bool,
    /// Bytes are a number in half precision, rather than a whole number, the highest byte first.
    half: bool,
    /// By what a stored value is divided: a power of ten for decimals.
    divisor: f64,
}

impl Number {
    /// None if the column does not hold numbers: text, dates, times.
    fn of(column: &ColumnDescriptor) -> Option<Number> {
        if column.max_rep_level() > 0 || column.max_def_level() > 1 {
            return None;
        }
        let number = |cell, unsigned, scale: i32| {
            Some(Number { cell, unsigned, half: false, divisor: 10_f64.powi(scale) })
        };
        let integer = |unsigned| number(CellType::Integer, unsigned, 0);
        let decimal = |scale| {
            number(if scale == 0 { CellType::Integer } else { CellType::Double }, false, scale)
        };
        match column.physical_type() {
            Type::BOOLEAN => integer(false),
            Type::FLOAT => number(CellType::Single, false, 0),
            Type::DOUBLE => number(CellType::Double, false, 0),
            Type::INT32 | Type::INT64 => match (column.logical_type_ref(), column.converted_type())
            {
                (Some(LogicalType::Integer(kind)), _) => integer(!kind.is_signed),
                (Some(LogicalType::Decimal(kind)), _) => decimal(kind.scale),
                (Some(_), _) => None,
                (None, ConvertedType::NONE) => integer(false),
                (None, ConvertedType::DECIMAL) => decimal(column.type_scale()),
                (
                    None,
                    ConvertedType::UINT_8
                    | ConvertedType::UINT_16
                    | ConvertedType::UINT_32
                    | ConvertedType::UINT_64,
                ) => integer(true),
                (
                    None,
                    ConvertedType::INT_8
                    | ConvertedType::INT_16
                    | ConvertedType::INT_32
                    | ConvertedType::INT_64,
                ) => integer(false),
                _ => None,
            },
            Type::BYTE_ARRAY | Type::FIXED_LEN_BYTE_ARRAY => {
                match (column.logical_type_ref(), column.converted_type()) {
                    (Some(LogicalType::Decimal(kind)), _) => decimal(kind.scale),
                    (None, ConvertedType::DECIMAL) => decimal(column.type_scale()),
                    (Some(LogicalType::Float16), _) if column.type_length() == 2 => {
                        number(CellType::Single, false, 0)
                            .map(|number| Number { half: true, ..number })
                    }
                    _ => None,
                }
            }
            Type::INT96 => None,
        }
    }
}

/// A number in half precision from its bits (IEEE 754 binary16).
fn half(bits: u16) -> f64 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff));
    sign * match exponent {
        0 => fraction * 2_f64.powi(-24),
        0x1f if fraction == 0.0 => f64::INFINITY,
        0x1f => f64::NAN,
        _ => (1024.0 + fraction) * 2_f64.powi(exponent - 25),
    }
}

/// A whole number in two's complement, the highest byte first. The length of one is not known to be
/// sane.
fn big_endian(bytes: &[u8]) -> f64 {
    let negative = bytes.first().is_some_and(|byte| byte & 0x80 != 0);
    let digits = bytes.iter().map(|&byte| f64::from(if negative { !byte } else { byte }));
    let magnitude = digits.fold(0.0, |sum: f64, byte| 256.0 * sum + byte);
    if negative { -1.0 - magnitude } else { magnitude }
}

fn type_name(column: &ColumnDescriptor, nested: bool) -> String {
    let logical = match column.logical_type_ref() {
        Some(logical) => format!("{logical:?}"),
        None => format!("{:?}", column.physical_type()),
    };
    let short: String = logical.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    if nested {
        format!("nested values of type {short}")
    } else {
        format!("values of type {short}")
    }
}

/// A column of the row group being read.
struct Leaf {
    reader: Reader,
    number: Number,
}

enum Reader {
    Bool(Typed<parquet::data_type::BoolType>),
    Int32(Typed<parquet::data_type::Int32Type>),
    Int64(Typed<parquet::data_type::Int64Type>),
    Float(Typed<parquet::data_type::FloatType>),
    Double(Typed<parquet::data_type::DoubleType>),
    Bytes(Typed<parquet::data_type::ByteArrayType>),
    FixedBytes(Typed<parquet::data_type::FixedLenByteArrayType>),
    Other,
}

impl Reader {
    fn new(column: ColumnReader, max_level: i16) -> Reader {
        match column {
            ColumnReader::BoolColumnReader(r) => Reader::Bool(Typed::new(r, max_level)),
            ColumnReader::Int32ColumnReader(r) => Reader::Int32(Typed::new(r, max_level)),
            ColumnReader::Int64ColumnReader(r) => Reader::Int64(Typed::new(r, max_level)),
            ColumnReader::FloatColumnReader(r) => Reader::Float(Typed::new(r, max_level)),
            ColumnReader::DoubleColumnReader(r) => Reader::Double(Typed::new(r, max_level)),
            ColumnReader::ByteArrayColumnReader(r) => Reader::Bytes(Typed::new(r, max_level)),
            ColumnReader::FixedLenByteArrayColumnReader(r) => {
                Reader::FixedBytes(Typed::new(r, max_level))
            }
            ColumnReader::Int96ColumnReader(_) => Reader::Other,
        }
    }
}

impl Leaf {
    /// Replaces `out` by up to `count` values, NaN for nulls.
    fn read(&mut self, count: usize, out: &mut Vec<f64>) -> std::result::Result<(), ParquetError> {
        let Number { unsigned, divisor, half: is_half, .. } = self.number;
        let bytes = |bytes: &[u8]| match bytes {
            &[low, high] if is_half => half(u16::from_le_bytes([low, high])),
            bytes => big_endian(bytes) / divisor,
        };
        match &mut self.reader {
            Reader::Bool(r) => r.read(count, out, |v| f64::from(u8::from(v))),
            Reader::Int32(r) if unsigned => r.read(count, out, |v| f64::from(v as u32)),
            Reader::Int32(r) => r.read(count, out, |v| f64::from(v) / divisor),
            Reader::Int64(r) if unsigned => r.read(count, out, |v| v as u64 as f64),
            Reader::Int64(r) => r.read(count, out, |v| v as f64 / divisor),
            Reader::Float(r) => r.read(count, out, f64::from),
            Reader::Double(r) => r.read(count, out, |v| v),
            Reader::Bytes(r) => r.read(count, out, |v| bytes(v.data())),
            Reader::FixedBytes(r) => r.read(count, out, |v| bytes(v.data())),
            Reader::Other => {
                out.clear();
                Ok(())
            }
        }
    }
}

/// A typed reader and its buffers.
struct Typed<T: DataType> {
    reader: ColumnReaderImpl<T>,
    max_level: i16,
    levels: Vec<i16>,
    values: Vec<T::T>,
}

impl<T: DataType> Typed<T> {
    fn new(reader: ColumnReaderImpl<T>, max_level: i16) -> Self {
        Typed { reader, max_level, levels: Vec::new(), values: Vec::new() }
    }

    fn read(
        &mut self,
        count: usize,
        out: &mut Vec<f64>,
        number: impl Fn(T::T) -> f64,
    ) -> std::result::Result<(), ParquetError> {
        self.levels.clear();
        self.values.clear();
        out.clear();
        let levels = (self.max_level > 0).then_some(&mut self.levels);
        self.reader.read_records(count, levels, None, &mut self.values)?;
        let mut values = self.values.iter().cloned();
        if self.max_level == 0 {
            out.extend(values.map(number));
        } else {
            let value = |level: &i16| if *level == self.max_level { values.next() } else { None };
            out.extend(self.levels.iter().map(value).map(|v| v.map_or(f64::NAN, &number)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_precision_and_decimals_are_numbers() {
        // IEEE 754: 1, -2, 65504 (the largest), 2⁻²⁴ (the smallest), 1/3 rounded
        for (bits, value) in [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (1, 5.960_464_477_539_063e-8),
            (0x3555, 0.333_251_953_125),
        ] {
            assert_eq!(half(bits), value, "{bits:x}");
        }
        assert!(half(0x7e00).is_nan() && half(0xfc00) == f64::NEG_INFINITY);
        assert_eq!(big_endian(&[0, 1, 0]), 256.0);
        assert_eq!(big_endian(&[0xff, 0xff]), -1.0);
        assert_eq!(big_endian(&[0xff, 0x7f]), -129.0);
        assert_eq!(big_endian(&[0x80]), -128.0);
        assert_eq!(big_endian(&[]), 0.0);
    }
}
