//! Parquet tables, through arrow.
//!
//! Columns of whole and real numbers are read as they are, booleans as 0 and 1, decimals as real
//! numbers (whole ones if they have no decimals), dates, times and durations as whole numbers of
//! the unit in which the file has them, dates and times since 1970. A null is a missing cell.
//! Dictionaries are only another way to store a column. Texts and nested columns are refused.

mod claims;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type, Int64Type, UInt64Type};
use arrow_array::{Array, ArrayRef, Float32Array, Float64Array, Int64Array, RecordBatch};
use arrow_schema::{ArrowError, DataType, Field, Schema, TimeUnit};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::metadata::{FileMetaData, ParquetMetaData};
use parquet::file::properties::WriterProperties;

use super::{Format, Holds};
use crate::data::collect::{Collector, Spot, unique_names};
use crate::data::column::{Cell, CellType, Values};
use crate::data::output::OutputFile;
use crate::data::write::Frame;
use crate::error::caught;
use crate::{Error, Result};

/// Rows decoded and encoded at a time.
const CHUNK_ROWS: usize = 4096;
/// Rows per row group of a file that is written.
const GROUP_ROWS: usize = 1 << 20;
/// Numbers that a small file may claim, and further ones for each of its bytes: runs of equal ones
/// take hardly any.
const MOST_CELLS: u128 = 1 << 24;
const MOST_PER_BYTE: u128 = 4096;

pub(super) const FORMAT: Format = Format {
    name: "Parquet",
    extensions: &["parquet", "pq"],
    holds: Holds::Tables,
    detect: |source| source.is_named_as(&FORMAT) || source.head.starts_with(b"PAR1"),
    // The decoder is not proof against every damaged file; a panic in it is the file's fault, not
    // ours.
    read: |path, _, table| {
        caught(|| read(path, table)).unwrap_or_else(|| {
            Err(Error::data(path, "the Parquet file is damaged", "write it again"))
        })?;
        Ok(None)
    },
    write: Some(write),
    delimiter: None,
};

fn read(path: &Path, table: &mut Collector) -> Result<()> {
    let damaged = |text: String| {
        let first = text.lines().next().unwrap_or_default();
        let problem = format!("cannot be read as Parquet ({first})");
        Error::data(path, problem, "the file is truncated or damaged: write it again")
    };
    let implausible = |problem: String| {
        let problem = format!("is no sound Parquet file: {problem}");
        Error::data(path, problem, "the file is damaged: write it again")
    };
    let mut raw = File::open(path).map_err(Error::io(path))?;
    let bytes = raw.metadata().map_err(Error::io(path))?.len();
    claims::check_footer(&mut raw).map_err(Error::io(path))?.map_err(implausible)?;
    // types follow from the columns themselves, and not from what arrow may have noted of them
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let file = raw.try_clone().map_err(Error::io(path))?;
    let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(file, options)
        .map_err(|e| damaged(e.to_string()))?;
    let metadata = builder.metadata().clone();
    let names = unique_names(builder.schema().fields().iter().map(|field| field.name().clone()));
    if names.is_empty() {
        return Err(Error::data(path, "there are no columns", "check how the file was written"));
    }
    let indices = index_columns(metadata.file_metadata());
    for (position, _) in names.iter().enumerate().filter(|(_, name)| indices.contains(name)) {
        table.set_aside(position, "pandas wrote it as the rows' index");
    }
    table.choose(&names)?;
    let kinds = chosen_kinds(table, builder.schema())?;

    let claimed = metadata.row_groups().iter().map(|group| group.num_rows().max(0) as u128);
    let cells = claimed.sum::<u128>() * kinds.len() as u128;
    if cells > MOST_CELLS + MOST_PER_BYTE * u128::from(bytes) {
        return Err(implausible(format!("it claims {cells} numbers in {bytes} bytes")));
    }
    let numeric = |k: &usize| kinds[*k].is_some();
    let roots: Vec<usize> = (0..kinds.len()).filter(numeric).map(|k| table.chosen[k].0).collect();
    check_columns(path, &mut raw, &metadata, &roots)?;
    let rows: i64 = metadata.row_groups().iter().map(|group| group.num_rows()).sum();
    let rows = usize::try_from(rows).unwrap_or(0);
    // No claim of a damaged file is trusted with more than this before its values appear.
    table.reserve(rows.min(1 << 20))?;
    if roots.is_empty() {
        // a survey of a table without a column of numbers
        let row = vec![Cell::Missing; kinds.len()];
        return (0..rows).try_for_each(|_| table.push(&row, || Spot::Schema, |_, _| String::new()));
    }

    let mask = ProjectionMask::roots(builder.parquet_schema(), roots.iter().copied());
    let reader = builder.with_projection(mask).with_batch_size(CHUNK_ROWS).build();
    let mut sorted = roots.clone();
    sorted.sort_unstable();
    let of_batch = |k: usize| sorted.binary_search(&table.chosen[k].0).ok();
    let places: Vec<Option<usize>> =
        kinds.iter().enumerate().map(|(k, kind)| kind.as_ref().and_then(|_| of_batch(k))).collect();
    let mut row = vec![Cell::Missing; kinds.len()];
    for batch in reader.map_err(|e| damaged(e.to_string()))? {
        let batch = batch.map_err(|e| damaged(e.to_string()))?;
        let numbers = |place: usize| Numbers::of(batch.column(place));
        let columns = places.iter().map(|place| place.map(numbers).transpose());
        let columns: Vec<Option<Numbers>> =
            columns.collect::<std::result::Result<_, _>>().map_err(|e| damaged(e.to_string()))?;
        for r in 0..batch.num_rows() {
            for (cell, numbers) in row.iter_mut().zip(&columns) {
                *cell = numbers.as_ref().map_or(Cell::Missing, |numbers| numbers.cell(r));
            }
            let number = table.seen + 1;
            let found = |k: usize, _| match row[k].value() {
                value if value.is_nan() => "null or NaN".into(),
                value => format!("{value:?}"),
            };
            table.push(&row, || Spot::Row(number as u64), found)?;
        }
    }
    if table.seen != rows {
        let problem = format!("its row groups end after {} rows, expected {rows}", table.seen);
        let remedy = "the file is truncated or damaged: write it again";
        return Err(Error::data(path, problem, remedy));
    }
    Ok(())
}

/// How the values of the chosen columns are stored, none where they are no numbers; what is special
/// is noted.
fn chosen_kinds(table: &mut Collector, schema: &Schema) -> Result<Vec<Option<CellType>>> {
    let mut kinds = Vec::new();
    for k in 0..table.chosen.len() {
        let field = schema.field(table.chosen[k].0);
        let (kind, since) = match kind_of(field.data_type()) {
            Some(found) => found,
            None => {
                table.not_numeric(k, || Spot::Schema, &found_type(field.data_type()))?;
                kinds.push(None);
                continue;
            }
        };
        if let Some(unit) = since {
            let name = &table.chosen[k].1;
            table.notes.push(format!("column `{name}` is read as whole numbers of {unit}"));
        }
        table.columns[k] = Values::empty(kind);
        kinds.push(Some(kind));
    }
    Ok(kinds)
}

/// How values of a type are stored, and the unit of dates and times; none if they are no numbers.
fn kind_of(values: &DataType) -> Option<(CellType, Option<String>)> {
    use DataType::*;
    let of_unit = |unit: &TimeUnit| match unit {
        TimeUnit::Second => "seconds",
        TimeUnit::Millisecond => "milliseconds",
        TimeUnit::Microsecond => "microseconds",
        TimeUnit::Nanosecond => "nanoseconds",
    };
    Some(match values {
        Boolean | Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | UInt64 => {
            (CellType::Integer, None)
        }
        Float16 | Float32 => (CellType::Single, None),
        Float64 => (CellType::Double, None),
        Decimal32(_, scale) | Decimal64(_, scale) | Decimal128(_, scale) | Decimal256(_, scale) => {
            match *scale > 0 {
                true => (CellType::Double, None),
                false => (CellType::Integer, None),
            }
        }
        Date32 => (CellType::Integer, Some("days since 1970-01-01".into())),
        Date64 => (CellType::Integer, Some("milliseconds since 1970-01-01".into())),
        Timestamp(unit, _) => {
            (CellType::Integer, Some(format!("{} since 1970-01-01", of_unit(unit))))
        }
        Time32(unit) | Time64(unit) => {
            (CellType::Integer, Some(format!("{} since midnight", of_unit(unit))))
        }
        Duration(unit) => (CellType::Integer, Some(of_unit(unit).into())),
        _ => return None,
    })
}

/// A type that holds no numbers, for a message.
fn found_type(values: &DataType) -> String {
    let text = values.to_string();
    let short: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    match values.is_nested() {
        true => format!("nested values of type {short}"),
        false => format!("values of type {short}"),
    }
}

/// Compares what the chosen columns claim with the file, before any of them is decoded.
fn check_columns(
    path: &Path,
    raw: &mut File,
    metadata: &ParquetMetaData,
    roots: &[usize],
) -> Result<()> {
    let schema = metadata.file_metadata().schema_descr();
    for (number, group) in metadata.row_groups().iter().enumerate() {
        let rows = u64::try_from(group.num_rows()).map_err(|_| {
            let problem = format!("row group {number} claims a negative number of rows");
            Error::data(path, problem, "write the file again")
        })?;
        for leaf in (0..schema.num_columns())
            .filter(|&leaf| roots.contains(&schema.get_column_root_idx(leaf)))
        {
            let about = group.column(leaf);
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
            let pages = claims::check_pages(raw, start, about.compressed_size(), rows);
            pages.map_err(Error::io(path))?.map_err(|problem| {
                let problem = format!("is no sound Parquet file: {problem}");
                Error::data(path, problem, "the file is damaged: write it again")
            })?;
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

/// The numbers of a column of a batch.
enum Numbers {
    Integer(Int64Array),
    Unsigned(arrow_array::UInt64Array),
    Single(Float32Array),
    Double(Float64Array),
}

impl Numbers {
    /// Casts a column to the type in which it is stored.
    fn of(column: &ArrayRef) -> std::result::Result<Numbers, ArrowError> {
        let cast = |to: DataType| arrow_cast::cast(column, &to);
        let (kind, _) = kind_of(column.data_type())
            .ok_or_else(|| ArrowError::CastError(found_type(column.data_type())))?;
        Ok(match (column.data_type(), kind) {
            (DataType::UInt64, _) => Numbers::Unsigned(column.as_primitive::<UInt64Type>().clone()),
            (DataType::Time32(_), _) => {
                let days = cast(DataType::Int32)?;
                let days = arrow_cast::cast(&days, &DataType::Int64)?;
                Numbers::Integer(days.as_primitive::<Int64Type>().clone())
            }
            (_, CellType::Integer) => {
                Numbers::Integer(cast(DataType::Int64)?.as_primitive::<Int64Type>().clone())
            }
            (_, CellType::Single) => {
                Numbers::Single(cast(DataType::Float32)?.as_primitive::<Float32Type>().clone())
            }
            (_, CellType::Double) => {
                Numbers::Double(cast(DataType::Float64)?.as_primitive::<Float64Type>().clone())
            }
        })
    }

    fn cell(&self, row: usize) -> Cell {
        match self {
            Numbers::Integer(v) if v.is_valid(row) => Cell::Integer(v.value(row)),
            Numbers::Unsigned(v) if v.is_valid(row) => {
                let value = v.value(row);
                i64::try_from(value).map_or(Cell::Real(value as f64), Cell::Integer)
            }
            Numbers::Single(v) if v.is_valid(row) => Cell::Real(v.value(row).into()),
            Numbers::Double(v) if v.is_valid(row) => Cell::Real(v.value(row)),
            _ => Cell::Missing,
        }
    }
}

fn write(out: &mut OutputFile, frame: &Frame) -> std::io::Result<()> {
    let missing = |cell: Cell| cell.value().is_nan();
    let field = |(k, name): (usize, &String)| {
        let values = match frame.types[k] {
            CellType::Single => DataType::Float32,
            CellType::Double => DataType::Float64,
            CellType::Integer => DataType::Int64,
        };
        Field::new(name, values, (0..frame.rows).any(|row| missing((frame.cell)(row, k))))
    };
    let fields: Vec<Field> = frame.names.iter().enumerate().map(field).collect();
    let schema = Arc::new(Schema::new(fields));
    let column = |k: usize, rows: std::ops::Range<usize>| -> ArrayRef {
        let cells = rows.map(|row| Some((frame.cell)(row, k)).filter(|cell| !missing(*cell)));
        match frame.types[k] {
            CellType::Single => {
                Arc::new(cells.map(|c| c.map(|c| c.value() as f32)).collect::<Float32Array>())
            }
            CellType::Double => {
                Arc::new(cells.map(|c| c.map(Cell::value)).collect::<Float64Array>())
            }
            CellType::Integer => {
                Arc::new(cells.map(|c| c.map(Cell::rounded)).collect::<Int64Array>())
            }
        }
    };
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .build();
    let options =
        ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    let all = || -> std::result::Result<(), ParquetError> {
        let mut writer = ArrowWriter::try_new_with_options(out, schema.clone(), options)?;
        for start in (0..frame.rows).step_by(CHUNK_ROWS) {
            let rows = start..frame.rows.min(start + CHUNK_ROWS);
            let columns = (0..frame.types.len()).map(|k| column(k, rows.clone())).collect();
            writer.write(&RecordBatch::try_new(schema.clone(), columns)?)?;
        }
        writer.close().map(|_| ())
    };
    all().map_err(|e| match e {
        ParquetError::External(e) => match e.downcast::<std::io::Error>() {
            Ok(e) => *e,
            Err(e) => std::io::Error::other(e),
        },
        e => std::io::Error::other(e),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{BooleanArray, Date32Array, Decimal128Array, StringArray, UInt64Array};
    use arrow_array::{TimestampMillisecondArray, UInt8Array};

    /// Casts to numbers: expected values are written beside their arrays.
    #[test]
    fn columns_of_every_kind_become_numbers() {
        let cells = |array: ArrayRef| {
            let numbers = Numbers::of(&array).unwrap();
            (0..array.len()).map(|row| numbers.cell(row)).collect::<Vec<_>>()
        };
        let of = |array: ArrayRef| cells(array);
        let boolean = BooleanArray::from(vec![Some(true), None, Some(false)]);
        assert_eq!(of(Arc::new(boolean)), [Cell::Integer(1), Cell::Missing, Cell::Integer(0)]);
        assert_eq!(of(Arc::new(UInt8Array::from(vec![200]))), [Cell::Integer(200)]);
        let unsigned = UInt64Array::from(vec![7, u64::MAX]);
        assert_eq!(of(Arc::new(unsigned)), [Cell::Integer(7), Cell::Real(u64::MAX as f64)]);
        let decimal = Decimal128Array::from(vec![Some(-1234), None]);
        let cents = decimal.clone().with_precision_and_scale(9, 2).unwrap();
        assert_eq!(of(Arc::new(cents)), [Cell::Real(-12.34), Cell::Missing]);
        let whole = decimal.with_precision_and_scale(9, 0).unwrap();
        assert_eq!(of(Arc::new(whole)), [Cell::Integer(-1234), Cell::Missing]);
        // 2001-09-09, 01:46:40
        assert_eq!(of(Arc::new(Date32Array::from(vec![11574]))), [Cell::Integer(11574)]);
        let time = TimestampMillisecondArray::from(vec![1_000_000_000_000]);
        assert_eq!(of(Arc::new(time)), [Cell::Integer(1_000_000_000_000)]);
        // a half, as IEEE 754 binary16 has it
        let half = arrow_cast::cast(&Float32Array::from(vec![0.5]), &DataType::Float16).unwrap();
        assert_eq!(of(half), [Cell::Real(0.5)]);
        let text: ArrayRef = Arc::new(StringArray::from(vec!["a"]));
        assert!(Numbers::of(&text).is_err());
    }
}
