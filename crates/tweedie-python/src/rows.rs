//! Rows that cross the border: columns of a table, or images.
//!
//! Frames that speak Arrow's C interface give their columns as they are, without a copy; others
//! give them one by one as NumPy arrays or texts. A model reads them as it reads an Arrow file,
//! which they are written to, so that the same rows are the same numbers wherever they come from.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::ffi_stream::{FFI_ArrowArrayStream, RecordBatchStreamReader};
use arrow_array::types::{
    Date32Type, Float32Type, Float64Type, Int64Type, TimestampMicrosecondType,
};
use arrow_array::{
    Array, ArrayRef, BooleanArray, Date32Array, DictionaryArray, Float32Array, Float64Array,
    Int32Array, Int64Array, RecordBatch, RecordBatchIterator, StringArray,
    TimestampMicrosecondArray, UInt64Array,
};
use arrow_ipc::writer::FileWriter;
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef, TimeUnit};
use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1, PyReadonlyArray4, PyUntypedArrayMethods};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyList};
use tweedie::data::Dataset;
use tweedie::{Error, Result};

/// The name of a capsule with a stream, as Arrow's documentation has it.
const STREAM: &std::ffi::CStr = c"arrow_array_stream";

/// A table or images.
#[pyclass(frozen, module = "tweedie._engine")]
pub struct Rows(pub Content);

/// What [`Rows`] are.
#[derive(Clone)]
pub enum Content {
    /// Columns, in batches of one schema.
    Table(SchemaRef, Vec<RecordBatch>),
    /// Levels 0…255 of images of this shape, and their classes.
    Images([usize; 3], Vec<u8>, Option<Vec<String>>),
}

impl From<RecordBatch> for Content {
    fn from(batch: RecordBatch) -> Content {
        Content::Table(batch.schema(), vec![batch])
    }
}

impl Content {
    /// The number of rows.
    pub fn len(&self) -> usize {
        match self {
            Content::Table(_, batches) => batches.iter().map(RecordBatch::num_rows).sum(),
            Content::Images(shape, levels, _) => levels.len() / shape.iter().product::<usize>(),
        }
    }

    /// What `read` makes of the table, of which it is given the file, or the images themselves.
    /// Errors call the rows a table, and not by the name of a file that is soon gone.
    pub fn read(&self, read: impl FnOnce(&Path) -> Result<Dataset>) -> Result<Dataset> {
        let (schema, batches) = match self {
            Content::Table(schema, batches) => (schema, batches),
            Content::Images(shape, levels, classes) => {
                let images = Dataset::images(*shape, levels.clone())?;
                return classes
                    .as_ref()
                    .map_or(Ok(images.clone()), |names| images.with_labels(names));
            }
        };
        let dir = tempfile::tempdir().map_err(Error::io(std::env::temp_dir()))?;
        let path = dir.path().join("table.arrow");
        write(&path, schema, batches).map_err(Error::io(&path))?;
        let mut data = read(&path).map_err(|error| match error {
            Error::Data { mut place, problem, remedy } if place.file == path => {
                place.file = "table".into();
                Error::Data { place, problem, remedy }
            }
            error => error,
        })?;
        data.source = Default::default();
        Ok(data)
    }
}

/// Writes an Arrow file.
fn write(path: &Path, schema: &Schema, batches: &[RecordBatch]) -> std::io::Result<()> {
    let all = |file: File| -> std::result::Result<(), ArrowError> {
        let mut writer = FileWriter::try_new(file, schema)?;
        batches.iter().try_for_each(|batch| writer.write(batch))?;
        writer.finish()
    };
    all(File::create(path)?).map_err(std::io::Error::other)
}

fn invalid(error: impl ToString) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// A column of NumPy's numbers and which of them are missing.
type Column<'py, T> = (PyReadonlyArray1<'py, T>, Option<PyReadonlyArray1<'py, bool>>);

/// The values of a column, none where they are missing.
fn options<'a, T: numpy::Element + Copy>(
    (values, missing): &'a Column<'_, T>,
) -> impl Iterator<Item = Option<T>> + 'a {
    let there = |row: usize| !missing.as_ref().is_some_and(|missing| missing.as_array()[row]);
    values.as_array().into_iter().enumerate().map(move |(row, &value)| there(row).then_some(value))
}

/// A column of this kind.
fn column(kind: &str, values: &Bound<'_, PyAny>, more: &Bound<'_, PyAny>) -> PyResult<ArrayRef> {
    macro_rules! of {
        ($number:ty, $array:ty) => {{
            let column: Column<$number> = (values.extract()?, more.extract()?);
            Arc::new(options(&column).collect::<$array>())
        }};
    }
    Ok(match kind {
        "float64" => of!(f64, Float64Array),
        "float32" => of!(f32, Float32Array),
        "int64" => of!(i64, Int64Array),
        "uint64" => of!(u64, UInt64Array),
        "bool" => of!(bool, BooleanArray),
        "date" => of!(i32, Date32Array),
        "time" => of!(i64, TimestampMicrosecondArray),
        "time_utc" => {
            let column: Column<i64> = (values.extract()?, more.extract()?);
            let times: TimestampMicrosecondArray = options(&column).collect();
            Arc::new(times.with_timezone("UTC"))
        }
        "text" => Arc::new(StringArray::from(values.extract::<Vec<Option<String>>>()?)),
        "category" => {
            let codes: PyReadonlyArray1<i32> = values.extract()?;
            let names = StringArray::from(more.extract::<Vec<String>>()?);
            let codes = codes.as_array();
            let keys: Int32Array = codes.iter().map(|&code| (code >= 0).then_some(code)).collect();
            Arc::new(DictionaryArray::try_new(keys, Arc::new(names)).map_err(invalid)?)
        }
        other => return Err(PyTypeError::new_err(format!("no kind of columns: {other}"))),
    })
}

/// Whether a column of real numbers has one that is infinite.
fn has_infinity(column: &ArrayRef) -> bool {
    match column.data_type() {
        DataType::Float64 => {
            column.as_primitive::<Float64Type>().iter().flatten().any(f64::is_infinite)
        }
        DataType::Float32 => {
            column.as_primitive::<Float32Type>().iter().flatten().any(f32::is_infinite)
        }
        _ => false,
    }
}

#[pymethods]
impl Rows {
    /// A table that anything with Arrow's C interface for streams gives.
    #[staticmethod]
    fn from_arrow(frame: &Bound<'_, PyAny>) -> PyResult<Rows> {
        let capsule = frame.call_method0("__arrow_c_stream__")?.cast_into::<PyCapsule>()?;
        let stream = capsule.pointer_checked(Some(STREAM))?.cast::<FFI_ArrowArrayStream>();
        // SAFETY: a capsule of this name holds such a stream (Arrow's PyCapsule interface); taking
        // it leaves one that is released, which the capsule then drops
        #[allow(unsafe_code)]
        let stream = unsafe { FFI_ArrowArrayStream::from_raw(stream.as_ptr()) };
        let reader = RecordBatchStreamReader::try_new(stream).map_err(invalid)?;
        let schema = arrow_array::RecordBatchReader::schema(&reader);
        let batches: Vec<RecordBatch> =
            reader.collect::<std::result::Result<_, _>>().map_err(invalid)?;
        for (field, k) in schema.fields().iter().zip(0..) {
            if batches.iter().any(|batch| has_infinity(batch.column(k))) {
                let text = format!("Input X contains infinity: column `{}`", field.name());
                return Err(PyValueError::new_err(text));
            }
        }
        Ok(Rows(Content::Table(schema, batches)))
    }

    /// A table of columns: name, kind, values and, by kind, which of them are missing or the names
    /// of categories.
    #[staticmethod]
    fn from_columns(
        columns: Vec<(String, String, Bound<'_, PyAny>, Bound<'_, PyAny>)>,
    ) -> PyResult<Rows> {
        let arrays = columns.iter().map(|(name, kind, values, more)| {
            let array = column(kind, values, more)
                .map_err(|error| PyTypeError::new_err(format!("column `{name}`: {error}")))?;
            Ok((Field::new(name, array.data_type().clone(), true), array))
        });
        let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) =
            arrays.collect::<PyResult<Vec<_>>>()?.into_iter().unzip();
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).map_err(invalid)?;
        Ok(Rows(batch.into()))
    }

    /// Images of levels 0…255, `[n, C, H, W]`, with the class of each by name.
    #[staticmethod]
    #[pyo3(signature = (levels, classes=None))]
    fn images(levels: PyReadonlyArray4<'_, u8>, classes: Option<Vec<String>>) -> PyResult<Rows> {
        let shape = levels.shape();
        let shape = [shape[1], shape[2], shape[3]];
        if levels.shape().contains(&0) {
            return Err(PyValueError::new_err("no images: expected [n, C, H, W]"));
        }
        Ok(Rows(Content::Images(shape, levels.as_array().iter().copied().collect(), classes)))
    }

    fn __len__(&self) -> usize {
        self.0.len()
    }

    /// The names of the columns; none of images.
    #[getter]
    fn names(&self) -> Vec<String> {
        match &self.0 {
            Content::Table(schema, _) => {
                schema.fields().iter().map(|field| field.name().clone()).collect()
            }
            Content::Images(..) => Vec::new(),
        }
    }

    /// Writes the table to an Arrow file.
    fn write(&self, path: PathBuf) -> PyResult<()> {
        match &self.0 {
            Content::Table(schema, batches) => Ok(write(&path, schema, batches)?),
            Content::Images(..) => Err(PyTypeError::new_err("images are no table")),
        }
    }

    /// The levels of images, flat, their shape and their classes; none of a table.
    fn levels<'py>(
        &self,
        py: Python<'py>,
    ) -> Option<(Bound<'py, PyArray1<u8>>, [usize; 3], Option<Vec<String>>)> {
        match &self.0 {
            Content::Table(..) => None,
            Content::Images(shape, levels, classes) => {
                Some((levels.clone().into_pyarray(py), *shape, classes.clone()))
            }
        }
    }

    /// The table as a stream of Arrow's C interface. A schema that is requested is left to whoever
    /// requests it.
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        let _ = requested_schema;
        let Content::Table(schema, batches) = &self.0 else {
            return Err(PyTypeError::new_err("images are no table"));
        };
        let batches = RecordBatchIterator::new(batches.clone().into_iter().map(Ok), schema.clone());
        PyCapsule::new_with_value(py, FFI_ArrowArrayStream::new(Box::new(batches)), STREAM)
    }

    /// Column `k`: its kind, its values, and which of them are missing. Texts are a list, dates
    /// days and times microseconds since 1970-01-01.
    fn column<'py>(
        &self,
        py: Python<'py>,
        k: usize,
    ) -> PyResult<(&'static str, Bound<'py, PyAny>, Option<Bound<'py, PyArray1<bool>>>)> {
        let Content::Table(schema, batches) = &self.0 else {
            return Err(PyTypeError::new_err("images are no table"));
        };
        let parts: Vec<&dyn Array> = batches.iter().map(|batch| &**batch.column(k)).collect();
        let as_type = schema.field(k).data_type();
        let mut missings = Vec::new();
        parts.iter().for_each(|part| {
            missings.extend((0..part.len()).map(|row| part.is_null(row)));
        });
        macro_rules! values {
            ($of:ty) => {{
                let values =
                    parts.iter().flat_map(|part| part.as_primitive::<$of>().values().iter());
                values.copied().collect::<Vec<_>>().into_pyarray(py).into_any()
            }};
        }
        let texts = |texts: Vec<Option<String>>| PyList::new(py, texts).map(Bound::into_any);
        let (kind, values) = match as_type {
            DataType::Float64 => ("float64", values!(Float64Type)),
            DataType::Float32 => ("float32", values!(Float32Type)),
            DataType::Int64 => ("int64", values!(Int64Type)),
            DataType::Date32 => ("date", values!(Date32Type)),
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                ("time", values!(TimestampMicrosecondType))
            }
            DataType::Boolean => {
                let values = parts.iter().flat_map(|part| {
                    let part = part.as_boolean();
                    (0..part.len()).map(|row| part.value(row))
                });
                ("bool", values.collect::<Vec<bool>>().into_pyarray(py).into_any())
            }
            DataType::Utf8 => {
                let all = parts.iter().flat_map(|part| part.as_string::<i32>().iter());
                ("text", texts(all.map(|text| text.map(str::to_owned)).collect())?)
            }
            other => return Err(PyTypeError::new_err(format!("no column is {other}"))),
        };
        let holes = missings.contains(&true).then(|| missings.into_pyarray(py));
        Ok((kind, values, holes))
    }
}
