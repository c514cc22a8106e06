//! Parquet tables written, through arrow.

use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::{
    ArrayRef, BooleanArray, Date32Array, Float32Array, Float64Array, Int64Array, RecordBatch,
    TimestampMicrosecondArray,
};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use super::CHUNK_ROWS;
use crate::data::column::{Cell, CellType};
use crate::data::output::OutputFile;
use crate::data::write::{Frame, Named, Style, decimals};

/// Rows per row group of a file that is written.
const GROUP_ROWS: usize = 1 << 20;

/// How a column is stored in a file that is written.
fn stored(style: &Style) -> DataType {
    match style {
        Style::Plain(CellType::Single) => DataType::Float32,
        Style::Plain(CellType::Double) => DataType::Float64,
        Style::Plain(CellType::Integer | CellType::Text) => DataType::Int64,
        Style::Decimals { most: 0, .. } => DataType::Int64,
        Style::Decimals { .. } => DataType::Float64,
        Style::Time(format) if format.is_date() => DataType::Date32,
        Style::Time(_) => DataType::Timestamp(TimeUnit::Microsecond, None),
        Style::Names(names, named) => match named {
            Named::Boolean if names.iter().all(|name| truth(name).is_some()) => DataType::Boolean,
            Named::Integer if names.iter().all(|name| name.parse::<i64>().is_ok()) => {
                DataType::Int64
            }
            Named::Integer | Named::Number
                if names.iter().all(|name| name.parse::<f64>().is_ok()) =>
            {
                DataType::Float64
            }
            _ => DataType::Utf8,
        },
    }
}

fn truth(name: &str) -> Option<bool> {
    name.to_ascii_lowercase().parse().ok()
}

/// Rows of a column as they are stored, a null where a cell is missing.
fn array(style: &Style, as_type: &DataType, cells: impl Iterator<Item = Option<Cell>>) -> ArrayRef {
    let value = |cell: Cell| match style {
        // as it is written in text
        Style::Decimals { most, .. } if cell.value().fract() != 0.0 => {
            decimals(cell.value(), 0, *most).parse().unwrap_or(cell.value())
        }
        Style::Names(names, _) => names[cell.value() as usize].parse().unwrap_or(f64::NAN),
        _ => cell.value(),
    };
    let name = |cell: Cell| match style {
        Style::Names(names, _) => names[cell.value() as usize].as_str(),
        _ => "",
    };
    let whole = |cell: Cell| match style {
        Style::Names(..) => name(cell).parse().unwrap_or(0),
        _ => cell.rounded(),
    };
    let mut cells = cells;
    match as_type {
        DataType::Float32 => {
            Arc::new(cells.map(|c| c.map(|c| c.value() as f32)).collect::<Float32Array>())
        }
        DataType::Float64 => Arc::new(cells.map(|c| c.map(value)).collect::<Float64Array>()),
        DataType::Date32 => {
            let days = |cell: Cell| (cell.value() / 86_400.0).floor() as i32;
            Arc::new(cells.map(|c| c.map(days)).collect::<Date32Array>())
        }
        DataType::Timestamp(..) => {
            let micros = |cell: Cell| (cell.value() * 1e6).round() as i64;
            Arc::new(cells.map(|c| c.map(micros)).collect::<TimestampMicrosecondArray>())
        }
        DataType::Boolean => {
            Arc::new(cells.map(|c| c.and_then(|c| truth(name(c)))).collect::<BooleanArray>())
        }
        DataType::Utf8 => {
            let mut texts = StringBuilder::new();
            cells.by_ref().for_each(|c| texts.append_option(c.map(name)));
            Arc::new(texts.finish())
        }
        _ => Arc::new(cells.map(|c| c.map(whole)).collect::<Int64Array>()),
    }
}

pub(super) fn write(out: &mut OutputFile, frame: &Frame) -> std::io::Result<()> {
    let missing = |cell: Cell| cell.value().is_nan();
    let types: Vec<DataType> = frame.styles.iter().map(stored).collect();
    let field = |(k, name): (usize, &String)| {
        let holes = (0..frame.rows).any(|row| missing((frame.cell)(row, k)));
        Field::new(name, types[k].clone(), holes)
    };
    let fields: Vec<Field> = frame.names.iter().enumerate().map(field).collect();
    let schema = Arc::new(Schema::new(fields));
    let column = |k: usize, rows: std::ops::Range<usize>| -> ArrayRef {
        let cells = rows.map(|row| Some((frame.cell)(row, k)).filter(|cell| !missing(*cell)));
        array(&frame.styles[k], &types[k], cells)
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
            let columns = (0..types.len()).map(|k| column(k, rows.clone())).collect();
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
