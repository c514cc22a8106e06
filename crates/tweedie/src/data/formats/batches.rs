//! Tables as arrow's record batches, which Parquet files are written from.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::{
    ArrayRef, BooleanArray, Date32Array, Float32Array, Float64Array, Int64Array, RecordBatch,
    TimestampMicrosecondArray,
};
use arrow_schema::{ArrowError, DataType, Field, Schema, TimeUnit};

use crate::data::column::{Cell, CellType};
use crate::data::write::{Frame, Named, Style, decimals};

/// How a column is stored.
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

/// A table that is given out as record batches of one schema.
pub(in crate::data) struct Batches<'a> {
    frame: &'a Frame<'a>,
    types: Vec<DataType>,
    pub schema: Arc<Schema>,
}

impl<'a> Batches<'a> {
    pub fn of(frame: &'a Frame<'a>) -> Batches<'a> {
        let types: Vec<DataType> = frame.styles.iter().map(stored).collect();
        let field = |(k, name): (usize, &String)| {
            let holes = (0..frame.rows).any(|row| is_missing((frame.cell)(row, k)));
            Field::new(name, types[k].clone(), holes)
        };
        let fields: Vec<Field> = frame.names.iter().enumerate().map(field).collect();
        Batches { frame, types, schema: Arc::new(Schema::new(fields)) }
    }

    /// The batch of these rows.
    pub fn batch(&self, rows: Range<usize>) -> Result<RecordBatch, ArrowError> {
        let Batches { frame, types, .. } = self;
        let column = |k: usize| -> ArrayRef {
            let cells = rows.clone().map(|row| (frame.cell)(row, k));
            let cells = cells.map(|cell| (!is_missing(cell)).then_some(cell));
            array(&frame.styles[k], &types[k], cells)
        };
        RecordBatch::try_new(self.schema.clone(), (0..types.len()).map(column).collect())
    }
}

fn is_missing(cell: Cell) -> bool {
    cell.value().is_nan()
}
