//! Columns of arrow's record batches, which Parquet and Arrow files are read as.
//!
//! Columns of whole and real numbers are read as they are, booleans as 0 and 1, decimals as real
//! numbers (whole ones if they have no decimals), dates, times and durations as whole numbers of
//! the unit in which the file has them, dates and times since 1970. A null is a missing cell.
//! Texts, dictionaries of texts and nested columns are refused.
//!
//! As they come, booleans are truth values, dates and times are seconds since 1970-01-01, texts
//! and dictionaries of them are texts, and nested columns are left out.

use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Date64Type, Float32Type, Float64Type, Int64Type, UInt64Type};
use arrow_array::{Array, ArrayRef, Float32Array, Float64Array, Int64Array, RecordBatch};
use arrow_schema::{ArrowError, DataType, Schema, TimeUnit};

use crate::Result;
use crate::data::collect::{Collector, Spot};
use crate::data::column::{Cell, CellType, Values};
use crate::data::raw::{Holds, RawColumn, shortest};

/// How the values of the chosen columns are stored, none where they are no numbers; what is special
/// is noted.
pub(super) fn chosen_kinds(
    table: &mut Collector,
    schema: &Schema,
) -> Result<Vec<Option<CellType>>> {
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

/// Adds the rows of a batch. `places` are the places of the chosen columns in it, none of those
/// that hold no numbers.
pub(super) fn push_batch(
    table: &mut Collector,
    batch: &RecordBatch,
    places: &[Option<usize>],
) -> std::result::Result<Result<()>, ArrowError> {
    let numbers = |place: usize| Numbers::of(batch.column(place));
    let columns = places.iter().map(|place| place.map(numbers).transpose());
    let columns: Vec<Option<Numbers>> = columns.collect::<std::result::Result<_, _>>()?;
    let mut row = vec![Cell::Missing; places.len()];
    for r in 0..batch.num_rows() {
        for (cell, numbers) in row.iter_mut().zip(&columns) {
            *cell = numbers.as_ref().map_or(Cell::Missing, |numbers| numbers.cell(r));
        }
        let number = table.seen + 1;
        let found = |k: usize, _| match row[k].value() {
            value if value.is_nan() => "null or NaN".into(),
            value => format!("{value:?}"),
        };
        if let Err(error) = table.push(&row, || Spot::Row(number as u64), found) {
            return Ok(Err(error));
        }
    }
    Ok(Ok(()))
}

/// What a column of this type holds, as it comes.
pub(super) fn holds(values: &DataType) -> Holds {
    use DataType::*;
    match values {
        Boolean => Holds::Booleans,
        Null => Holds::Any,
        Utf8 | LargeUtf8 | Utf8View => Holds::Texts,
        Date32 | Date64 => Holds::Times { utc: false },
        Timestamp(_, zone) => Holds::Times { utc: zone.is_some() },
        Dictionary(_, values) => match holds(values) {
            Holds::Booleans => Holds::Else(found_type(values)),
            other => other,
        },
        _ => match kind_of(values) {
            Some((CellType::Integer, _)) => Holds::Numbers { real: false },
            Some(_) => Holds::Numbers { real: true },
            None => Holds::Else(found_type(values)),
        },
    }
}

/// Whether values of this type are texts.
pub(super) fn are_texts(values: &DataType) -> bool {
    holds(values) == Holds::Texts
}

/// Adds the cells of a column of a batch as they come.
pub(super) fn push_array(
    column: &mut RawColumn,
    array: &ArrayRef,
) -> std::result::Result<(), ArrowError> {
    macro_rules! each {
        ($values:expr, $push:expr) => {
            $values.iter().for_each($push)
        };
    }
    match array.data_type() {
        DataType::Utf8 => each!(array.as_string::<i32>(), |text| column.push_option(text)),
        DataType::LargeUtf8 => each!(array.as_string::<i64>(), |text| column.push_option(text)),
        DataType::Utf8View => each!(array.as_string_view(), |text| column.push_option(text)),
        DataType::Boolean => each!(array.as_boolean(), |value: Option<bool>| {
            column.push_option(value.map(|value| if value { "true" } else { "false" }));
        }),
        DataType::Date32 => each!(array.as_primitive::<Date32Type>(), |days: Option<i32>| {
            column.push_number(days.map_or(f64::NAN, |days| 86_400.0 * f64::from(days)), None);
        }),
        DataType::Date64 => each!(array.as_primitive::<Date64Type>(), |time: Option<i64>| {
            column.push_number(time.map_or(f64::NAN, |time| time as f64 / 1e3), None);
        }),
        DataType::Timestamp(unit, _) => {
            let per_second = match unit {
                TimeUnit::Second => 1.0,
                TimeUnit::Millisecond => 1e3,
                TimeUnit::Microsecond => 1e6,
                TimeUnit::Nanosecond => 1e9,
            };
            let whole = arrow_cast::cast(array, &DataType::Int64)?;
            each!(whole.as_primitive::<Int64Type>(), |time: Option<i64>| {
                let seconds = time.map_or(f64::NAN, |time| time as f64 / per_second);
                column.push_number(seconds, None);
            });
        }
        // texts are read once for all rows that have them
        DataType::Dictionary(_, values) if are_texts(values) => {
            let dictionary = array.as_any_dictionary();
            let texts = arrow_cast::cast(dictionary.values(), &DataType::Utf8View)?;
            let (texts, keys) = (texts.as_string_view(), dictionary.normalized_keys());
            for (row, key) in keys.into_iter().enumerate() {
                let there = array.is_valid(row) && key < texts.len() && texts.is_valid(key);
                column.push_option(there.then(|| texts.value(key)));
            }
        }
        DataType::Dictionary(_, values) if holds(values) != Holds::Else(found_type(values)) => {
            push_array(column, &arrow_cast::cast(array, values)?)?;
        }
        other if kind_of(other).is_some() => {
            let numbers = Numbers::of(array)?;
            for row in 0..array.len() {
                column.push_number(
                    match numbers.cell(row) {
                        Cell::Real(value) if matches!(numbers, Numbers::Single(_)) => {
                            shortest(value as f32)
                        }
                        cell => cell.value(),
                    },
                    None,
                );
            }
        }
        _ => (0..array.len()).for_each(|_| column.push_missing()),
    }
    Ok(())
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
            (_, CellType::Double | CellType::Text) => {
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

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
