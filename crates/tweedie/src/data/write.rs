//! Tables out.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use parquet::basic::{Compression, Repetition, Type as Physical};
use parquet::data_type::{DoubleType, FloatType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;

use super::output::OutputFile;
use super::table::CellType;
use crate::{Error, Result};

/// Rows per Parquet row group.
const GROUP_ROWS: usize = 1 << 20;

/// The formats in which a table is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableFormat {
    /// Comma-separated text.
    Csv,
    /// Tab-separated text.
    Tsv,
    /// Parquet.
    Parquet,
    /// A two-dimensional NPY array; it has no names.
    Npy,
}

impl TableFormat {
    /// The format that the extension of `path` asks for; to be checked before the work. Standard
    /// output, `-`, takes CSV.
    ///
    /// # Errors
    /// [`Error::Config`] listing the extensions.
    pub fn of(path: impl AsRef<Path>) -> Result<TableFormat> {
        let path = path.as_ref();
        let extension =
            path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
        match extension.as_str() {
            _ if path == Path::new("-") => Ok(TableFormat::Csv),
            "csv" => Ok(TableFormat::Csv),
            "tsv" | "tab" => Ok(TableFormat::Tsv),
            "parquet" | "pq" => Ok(TableFormat::Parquet),
            "npy" => Ok(TableFormat::Npy),
            _ => {
                let problem =
                    format!("cannot tell the format of {} from its extension", path.display());
                Err(Error::config(
                    "out",
                    problem,
                    "end the name in .csv, .tsv, .parquet or .npy, or give - for CSV on standard output",
                ))
            }
        }
    }
}

/// Writes `values`, row-major `[rows, names.len()]`, in the format of the file's extension, and
/// commits the file.
///
/// A value that is not a number is an empty cell or a null. Integers are rounded. An NPY array has
/// one type: `i8` if all columns are integers without empty cells, `f4` if all are
/// [`CellType::Single`], else `f8`.
///
/// # Errors
/// [`Error::Io`] if the file cannot be written, [`Error::Config`] if its extension is unknown.
///
/// # Panics
/// If there is not one type per name or `values` does not hold whole rows.
pub fn write_table<S: AsRef<str>>(
    mut out: OutputFile,
    names: &[S],
    types: &[CellType],
    values: &[f64],
) -> Result<()> {
    let dim = names.len();
    assert_eq!(dim, types.len(), "{dim} names, {} types", types.len());
    assert!(
        dim > 0 && values.len().is_multiple_of(dim),
        "{} values are not rows of {dim}",
        values.len()
    );
    let path = out.path().to_owned();
    let format = TableFormat::of(&path)?;
    let written = match format {
        TableFormat::Csv => write_text(&mut out, b',', names, types, values),
        TableFormat::Tsv => write_text(&mut out, b'\t', names, types, values),
        TableFormat::Npy => write_npy(&mut out, types, values),
        TableFormat::Parquet => write_parquet(&mut out, names, types, values),
    };
    written.map_err(Error::io(&path))?;
    out.commit()
}

/// Appends the text of one number to `cell`.
pub(super) fn format_number(cell: &mut Vec<u8>, cell_type: CellType, value: f64) {
    // Debug, not Display: a whole float keeps its point, and extremes get an exponent.
    let written = match cell_type {
        _ if value.is_nan() => Ok(()),
        CellType::Integer if value.is_finite() => write!(cell, "{:.0}", value.round() + 0.0),
        CellType::Single => write!(cell, "{:?}", value as f32),
        CellType::Double | CellType::Integer => write!(cell, "{value:?}"),
    };
    written.expect("a Vec takes all bytes");
}

fn write_text<S: AsRef<str>>(
    out: &mut OutputFile,
    delimiter: u8,
    names: &[S],
    types: &[CellType],
    values: &[f64],
) -> std::io::Result<()> {
    let mut writer = csv::WriterBuilder::new().delimiter(delimiter).from_writer(out);
    writer.write_record(names.iter().map(AsRef::as_ref)).map_err(io_error)?;
    let mut cell = Vec::new();
    for row in values.chunks_exact(names.len()) {
        for (&value, &cell_type) in row.iter().zip(types) {
            cell.clear();
            format_number(&mut cell, cell_type, value);
            writer.write_field(&cell).map_err(io_error)?;
        }
        writer.write_record(None::<&[u8]>).map_err(io_error)?;
    }
    writer.flush()
}

/// What the system answered: of another kind, a closed pipe would not be known as one.
pub(super) fn io_error(error: csv::Error) -> std::io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => std::io::Error::other(format!("{other:?}")),
    }
}

fn write_npy(out: &mut OutputFile, types: &[CellType], values: &[f64]) -> std::io::Result<()> {
    use npyz::WriterBuilder;
    let shape = [(values.len() / types.len()) as u64, types.len() as u64];
    if types.iter().all(|&t| t == CellType::Integer) && values.iter().all(|v| v.is_finite()) {
        let mut writer = npyz::WriteOptions::<i64>::new()
            .default_dtype()
            .shape(&shape)
            .writer(out)
            .begin_nd()?;
        writer.extend(values.iter().map(|v| v.round() as i64))?;
        writer.finish()
    } else if types.iter().all(|&t| t == CellType::Single) {
        let mut writer = npyz::WriteOptions::<f32>::new()
            .default_dtype()
            .shape(&shape)
            .writer(out)
            .begin_nd()?;
        writer.extend(values.iter().map(|&v| v as f32))?;
        writer.finish()
    } else {
        let mut writer = npyz::WriteOptions::<f64>::new()
            .default_dtype()
            .shape(&shape)
            .writer(out)
            .begin_nd()?;
        writer.extend(values.iter().copied())?;
        writer.finish()
    }
}

fn write_parquet<S: AsRef<str>>(
    out: &mut OutputFile,
    names: &[S],
    types: &[CellType],
    values: &[f64],
) -> std::io::Result<()> {
    let dim = names.len();
    let write = |out: &mut OutputFile| -> std::result::Result<(), ParquetError> {
        let mut fields = Vec::new();
        let mut optional = Vec::new();
        for (k, (name, cell_type)) in names.iter().zip(types).enumerate() {
            let physical = match cell_type {
                CellType::Single => Physical::FLOAT,
                CellType::Double => Physical::DOUBLE,
                CellType::Integer => Physical::INT64,
            };
            optional.push(values.iter().skip(k).step_by(dim).any(|v| v.is_nan()));
            let repetition = if optional[k] { Repetition::OPTIONAL } else { Repetition::REQUIRED };
            let field = Type::primitive_type_builder(name.as_ref(), physical)
                .with_repetition(repetition)
                .build()?;
            fields.push(Arc::new(field));
        }
        let schema = Arc::new(Type::group_type_builder("schema").with_fields(fields).build()?);
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let mut file = SerializedFileWriter::new(out, schema, Arc::new(properties))?;
        for group in values.chunks(GROUP_ROWS * dim) {
            let mut writer = file.next_row_group()?;
            for (k, (cell_type, optional)) in types.iter().zip(&optional).enumerate() {
                let column = || group.iter().skip(k).step_by(dim).copied();
                let levels: Option<Vec<i16>> =
                    optional.then(|| column().map(|v| i16::from(!v.is_nan())).collect());
                let levels = levels.as_deref();
                let present = column().filter(|v| !v.is_nan());
                let mut leaf = writer.next_column()?.expect("the schema has a leaf per name");
                match cell_type {
                    CellType::Single => {
                        let block: Vec<f32> = present.map(|v| v as f32).collect();
                        leaf.typed::<FloatType>().write_batch(&block, levels, None)?;
                    }
                    CellType::Double => {
                        let block: Vec<f64> = present.collect();
                        leaf.typed::<DoubleType>().write_batch(&block, levels, None)?;
                    }
                    CellType::Integer => {
                        let block: Vec<i64> = present.map(|v| v.round() as i64).collect();
                        leaf.typed::<Int64Type>().write_batch(&block, levels, None)?;
                    }
                }
                leaf.close()?;
            }
            writer.close()?;
        }
        file.close().map(|_| ())
    };
    write(out).map_err(|e| match e {
        ParquetError::External(e) => match e.downcast::<std::io::Error>() {
            Ok(e) => *e,
            Err(e) => std::io::Error::other(e),
        },
        e => std::io::Error::other(e),
    })
}
