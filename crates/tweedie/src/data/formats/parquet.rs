//! Parquet tables, through arrow.

mod claims;
mod write;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow_schema::{DataType, Schema};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder,
};
use parquet::basic::Compression;
use parquet::file::metadata::{FileMetaData, ParquetMetaData};

use super::arrow::{are_texts, chosen_kinds, holds, push_array, push_batch};
use super::{Format, Holds};
use crate::data::collect::{Collector, Spot, unique_names};
use crate::data::column::Cell;
use crate::data::raw::{self, RawReader};
use crate::error::caught;
use crate::{Error, Result};

/// Rows decoded and encoded at a time.
const CHUNK_ROWS: usize = 4096;
/// Numbers that a small file may claim, and further ones for each of its bytes: runs of equal ones
/// take hardly any.
const MOST_CELLS: u128 = 1 << 24;
const MOST_PER_BYTE: u128 = 4096;
/// Bytes that the texts of a small file may claim, and further ones for each of its bytes.
const MOST_TEXT: u64 = 1 << 26;
const MOST_TEXT_PER_BYTE: u64 = 1024;

pub(super) const FORMAT: Format = Format {
    name: "Parquet",
    extensions: &["parquet", "pq"],
    holds: Holds::Tables,
    detect: |source| source.is_named_as(&FORMAT) || source.head.starts_with(b"PAR1"),
    read: |path, _, table| undamaged(path, || read(path, table)).map(|()| None),
    write: Some(write::write),
    raw: Some(|path, _, table| undamaged(path, || read_raw(path, table))),
    delimiter: None,
};

/// What `read` returns. The decoder is not proof against every damaged file; a panic in it is the
/// file's fault, not ours.
fn undamaged<T>(path: &Path, read: impl FnOnce() -> Result<T>) -> Result<T> {
    let damaged = || Error::data(path, "the Parquet file is damaged", "write it again");
    caught(read).unwrap_or_else(|| Err(damaged()))
}

/// A file whose metadata are read.
struct Opened<'a> {
    path: &'a Path,
    raw: File,
    bytes: u64,
    metadata: ArrowReaderMetadata,
    names: Vec<String>,
}

fn damaged(path: &Path, error: impl ToString) -> Error {
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default();
    let problem = format!("cannot be read as Parquet ({first})");
    Error::data(path, problem, "the file is truncated or damaged: write it again")
}

fn implausible(path: &Path, problem: String) -> Error {
    let problem = format!("is no sound Parquet file: {problem}");
    Error::data(path, problem, "the file is damaged: write it again")
}

impl Opened<'_> {
    fn open(path: &Path) -> Result<Opened<'_>> {
        let mut raw = File::open(path).map_err(Error::io(path))?;
        let bytes = raw.metadata().map_err(Error::io(path))?.len();
        let claims = claims::check_footer(&mut raw).map_err(Error::io(path))?;
        claims.map_err(|problem| implausible(path, problem))?;
        // types follow from the columns themselves, and not from what arrow may have noted of them
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let metadata =
            ArrowReaderMetadata::load(&raw, options).map_err(|error| damaged(path, error))?;
        let fields = metadata.schema().fields().iter();
        let names = unique_names(fields.map(|field| field.name().clone()));
        if names.is_empty() {
            return Err(Error::data(
                path,
                "there are no columns",
                "check how the file was written",
            ));
        }
        Ok(Opened { path, raw, bytes, metadata, names })
    }

    fn groups(&self) -> Arc<ParquetMetaData> {
        self.metadata.metadata().clone()
    }

    /// The rows of the file, of which so many columns are to be read at these positions.
    fn check(&mut self, columns: usize, roots: &[usize]) -> Result<usize> {
        let groups = self.groups();
        let rows = groups.row_groups().iter().map(|group| group.num_rows());
        let cells = rows.clone().map(|rows| rows.max(0) as u128).sum::<u128>() * columns as u128;
        if cells > MOST_CELLS + MOST_PER_BYTE * u128::from(self.bytes) {
            let problem = format!("it claims {cells} numbers in {} bytes", self.bytes);
            return Err(implausible(self.path, problem));
        }
        let schema = self.metadata.schema().clone();
        let texts = |root: usize| are_texts(schema.field(root).data_type());
        let most_text = MOST_TEXT + MOST_TEXT_PER_BYTE * self.bytes;
        check_columns(self.path, &mut self.raw, &groups, roots, texts, most_text)?;
        Ok(usize::try_from(rows.sum::<i64>()).unwrap_or(0))
    }

    /// Reads the columns at these positions of the file, and says at which place of a batch each of
    /// them is.
    fn batches(&self, roots: &[usize]) -> Result<(ParquetRecordBatchReader, Vec<usize>)> {
        let file = self.raw.try_clone().map_err(Error::io(self.path))?;
        let builder =
            ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone());
        let mask = ProjectionMask::roots(builder.parquet_schema(), roots.iter().copied());
        let reader = builder.with_projection(mask).with_batch_size(CHUNK_ROWS).build();
        let mut sorted = roots.to_vec();
        sorted.sort_unstable();
        let place = |root: &usize| sorted.binary_search(root).unwrap_or_default();
        let reader = reader.map_err(|error| damaged(self.path, error))?;
        Ok((reader, roots.iter().map(place).collect()))
    }

    fn check_rows(&self, seen: usize, rows: usize) -> Result<()> {
        if seen == rows {
            return Ok(());
        }
        let problem = format!("its row groups end after {seen} rows, expected {rows}");
        let remedy = "the file is truncated or damaged: write it again";
        Err(Error::data(self.path, problem, remedy))
    }
}

fn read(path: &Path, table: &mut Collector) -> Result<()> {
    let mut opened = Opened::open(path)?;
    let indices = index_columns(opened.groups().file_metadata());
    for (position, _) in opened.names.iter().enumerate().filter(|(_, name)| indices.contains(name))
    {
        table.set_aside(position, "pandas wrote it as the rows' index");
    }
    table.choose(&opened.names)?;
    let kinds = chosen_kinds(table, opened.metadata.schema())?;
    let numeric = |k: &usize| kinds[*k].is_some();
    let roots: Vec<usize> = (0..kinds.len()).filter(numeric).map(|k| table.chosen[k].0).collect();
    let rows = opened.check(kinds.len(), &roots)?;
    // No claim of a damaged file is trusted with more than this before its values appear.
    table.reserve(rows.min(1 << 20))?;
    if roots.is_empty() {
        // a survey of a table without a column of numbers
        let row = vec![Cell::Missing; kinds.len()];
        return (0..rows).try_for_each(|_| table.push(&row, || Spot::Schema, |_, _| String::new()));
    }
    let (reader, of_roots) = opened.batches(&roots)?;
    let mut of_roots = of_roots.into_iter();
    let places: Vec<Option<usize>> =
        kinds.iter().map(|kind| kind.and_then(|_| of_roots.next())).collect();
    for batch in reader {
        let batch = batch.map_err(|error| damaged(path, error))?;
        push_batch(table, &batch, &places).map_err(|error| damaged(path, error))??;
    }
    opened.check_rows(table.seen, rows)
}

/// Reads a table as it comes.
fn read_raw(path: &Path, table: &mut RawReader) -> Result<()> {
    let mut opened = Opened::open(path)?;
    let schema = opened.metadata.schema().clone();
    table.choose(opened.names.clone(), |position| holds(schema.field(position).data_type()))?;
    let indices = index_columns(opened.groups().file_metadata());
    for column in table.columns.iter_mut().filter(|column| indices.contains(&column.name)) {
        column.aside = Some("pandas wrote it as the rows' index".into());
    }
    let chosen: Vec<usize> = table.collector.chosen.iter().map(|(position, _)| *position).collect();
    let usable = |k: &usize| !matches!(table.columns[*k].holds, raw::Holds::Else(_));
    let used: Vec<usize> = (0..chosen.len()).filter(usable).collect();
    let roots: Vec<usize> = used.iter().map(|&k| chosen[k]).collect();
    let rows = opened.check(chosen.len(), &roots)?;
    // views share the texts that many rows have, of which each could be long
    let viewed = |field: &Arc<arrow_schema::Field>| match field.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 => {
            Arc::new(field.as_ref().clone().with_data_type(DataType::Utf8View))
        }
        _ => field.clone(),
    };
    let views = Arc::new(Schema::new(schema.fields().iter().map(viewed).collect::<Vec<_>>()));
    let options = ArrowReaderOptions::new().with_schema(views);
    opened.metadata = ArrowReaderMetadata::try_new(opened.groups(), options)
        .map_err(|error| damaged(path, error))?;
    if !roots.is_empty() {
        let (reader, places) = opened.batches(&roots)?;
        for batch in reader {
            let batch = batch.map_err(|error| damaged(path, error))?;
            for (&k, &place) in used.iter().zip(&places) {
                let pushed = push_array(&mut table.columns[k], batch.column(place));
                pushed.map_err(|error| damaged(path, error))?;
            }
        }
    }
    for column in &mut table.columns {
        match column.holds {
            raw::Holds::Else(_) => column.rows = rows,
            _ => opened.check_rows(column.rows, rows)?,
        }
    }
    Ok(())
}

/// Compares what the chosen columns claim with the file, before any of them is decoded.
fn check_columns(
    path: &Path,
    raw: &mut File,
    metadata: &ParquetMetaData,
    roots: &[usize],
    texts: impl Fn(usize) -> bool,
    mut most_text: u64,
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
            let text = texts(schema.get_column_root_idx(leaf)).then_some(&mut most_text);
            let pages = claims::check_pages(raw, start, about.compressed_size(), rows, text);
            pages.map_err(Error::io(path))?.map_err(|problem| implausible(path, problem))?;
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
