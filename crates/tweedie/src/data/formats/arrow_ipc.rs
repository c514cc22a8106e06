//! Arrow's files of record batches (Feather, version 2).
//!
//! What a file claims (blocks, rows, bytes of compressed buffers) is compared with its length
//! before the decoder allocates anything for it.

use std::path::Path;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::convert::try_fb_to_schema;
use arrow_ipc::reader::FileDecoder;
use arrow_ipc::{Block, Footer, root_as_footer, root_as_message};
use arrow_schema::Schema;

use super::arrow::{chosen_kinds, holds, push_array, push_batch};
use super::{Format, Holds};
use crate::data::collect::{Collector, unique_names};
use crate::data::raw::{self, RawReader};
use crate::error::caught;
use crate::{Error, Result};

const MAGIC: &[u8] = b"ARROW1";
/// The end of a file: the length of the footer, and the magic bytes.
const TAIL: usize = 10;
/// Cells, and bytes of decompressed buffers, that a small file may claim, and further ones for each
/// of its bytes.
const MOST_CELLS: u64 = 1 << 24;
const MOST_CELLS_PER_BYTE: u64 = 64;
const MOST_BYTES: u64 = 1 << 26;
const MOST_BYTES_PER_BYTE: u64 = 256;

pub(super) const FORMAT: Format = Format {
    name: "Arrow",
    extensions: &["arrow", "feather", "ipc"],
    holds: Holds::Tables,
    detect: |source| {
        !source.folder && (source.is_named_as(&FORMAT) || source.head.starts_with(b"ARROW1\0\0"))
    },
    read: |path, _, table| undamaged(path, || read(path, table)).map(|()| None),
    write: None,
    raw: Some(|path, _, table| undamaged(path, || read_raw(path, table))),
    delimiter: None,
};

/// A result whose error says what is wrong with the file.
type Problem<T> = std::result::Result<T, String>;

/// What `read` returns. The decoder is not proof against every damaged file; a panic in it is the
/// file's fault, not ours.
fn undamaged<T>(path: &Path, read: impl FnOnce() -> Result<T>) -> Result<T> {
    caught(read).unwrap_or_else(|| Err(damaged(path, "the decoder gave it up")))
}

fn damaged(path: &Path, error: impl ToString) -> Error {
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default();
    let problem = format!("is no sound Arrow file ({first})");
    Error::data(path, problem, "write it again, or save the table as Parquet or CSV")
}

/// A file whose footer is read.
struct Opened {
    bytes: Buffer,
    /// Where the footer starts, and its length.
    footer: (usize, usize),
    schema: Arc<Schema>,
    names: Vec<String>,
}

impl Opened {
    fn open(path: &Path) -> Result<Opened> {
        let bytes = Buffer::from_vec(std::fs::read(path).map_err(Error::io(path))?);
        let opened = Opened::of(bytes).map_err(|problem| damaged(path, problem))?;
        match opened.names.is_empty() {
            true => {
                Err(Error::data(path, "there are no columns", "check how the file was written"))
            }
            false => Ok(opened),
        }
    }

    fn of(bytes: Buffer) -> Problem<Opened> {
        let start = bytes.len().checked_sub(TAIL).filter(|start| *start > MAGIC.len());
        let start = start.filter(|start| bytes[start + 4..] == *MAGIC);
        let start = start.ok_or("it has no footer: it is cut short, or a stream")?;
        let length = i32::from_le_bytes([
            bytes[start],
            bytes[start + 1],
            bytes[start + 2],
            bytes[start + 3],
        ]);
        let length = usize::try_from(length).ok().filter(|length| *length <= start);
        let length = length.ok_or("its footer is longer than it")?;
        let footer = (start - length, length);
        let schema = {
            let footer = footer_of(&bytes, footer)?;
            let schema = footer.schema().ok_or("it has no schema")?;
            try_fb_to_schema(schema).map_err(|error| error.to_string())?
        };
        let names = unique_names(schema.fields().iter().map(|field| field.name().clone()));
        Ok(Opened { bytes, footer, schema: Arc::new(schema), names })
    }

    /// Calls `push` with each batch of the columns at these positions of the file, in this order,
    /// increasing; `columns` is how many are chosen in all. Returns the number of rows.
    fn batches(
        &self,
        columns: usize,
        roots: &[usize],
        mut push: impl FnMut(&RecordBatch) -> Result<()>,
    ) -> Problem<Result<usize>> {
        let footer = footer_of(&self.bytes, self.footer)?;
        let length = self.bytes.len() as u64;
        let mut budget = Budget {
            cells: MOST_CELLS + MOST_CELLS_PER_BYTE * length,
            bytes: MOST_BYTES + MOST_BYTES_PER_BYTE * length,
            columns: columns.max(1) as u64,
        };
        let decoder = FileDecoder::new(self.schema.clone(), footer.version());
        let mut decoder = decoder.with_projection(roots.to_vec());
        for block in footer.dictionaries().iter().flatten() {
            let data = self.block(block)?;
            budget.check(block, &data)?;
            decoder.read_dictionary(block, &data).map_err(|error| error.to_string())?;
        }
        let mut rows = 0;
        for block in footer.recordBatches().iter().flatten() {
            let data = self.block(block)?;
            let claimed = budget.check(block, &data)?;
            if roots.is_empty() {
                rows += claimed;
                continue;
            }
            let batch =
                decoder.read_record_batch(block, &data).map_err(|error| error.to_string())?;
            let Some(batch) = batch else { continue };
            rows += batch.num_rows();
            if let Err(error) = push(&batch) {
                return Ok(Err(error));
            }
        }
        Ok(Ok(rows))
    }

    /// The bytes of a block.
    fn block(&self, block: &Block) -> Problem<Buffer> {
        let parts = (
            usize::try_from(block.offset()),
            usize::try_from(block.metaDataLength()),
            usize::try_from(block.bodyLength()),
        );
        let (Ok(offset), Ok(metadata), Ok(body)) = parts else {
            return Err("a block has a negative length".into());
        };
        let length = metadata.checked_add(body);
        let end = length.and_then(|length| length.checked_add(offset));
        match (length, end) {
            (Some(length), Some(end)) if end <= self.bytes.len() && metadata >= 8 => {
                Ok(self.bytes.slice_with_length(offset, length))
            }
            _ => Err("a block lies beyond its end".into()),
        }
    }
}

fn footer_of(bytes: &Buffer, (start, length): (usize, usize)) -> Problem<Footer<'_>> {
    root_as_footer(&bytes[start..start + length]).map_err(|error| error.to_string())
}

/// What a file may yet claim.
struct Budget {
    cells: u64,
    bytes: u64,
    columns: u64,
}

impl Budget {
    /// Takes off what a block claims, and returns its rows.
    fn check(&mut self, block: &Block, data: &Buffer) -> Problem<usize> {
        let metadata = block.metaDataLength() as usize;
        // the metadata begin with their length, after a mark or, in old files, without
        let skip = if data.starts_with(&[0xff; 4]) { 8 } else { 4 };
        let message = root_as_message(&data[skip..metadata]).map_err(|error| error.to_string())?;
        let batch = match message.header_as_dictionary_batch() {
            Some(dictionary) => dictionary.data(),
            None => message.header_as_record_batch(),
        };
        let Some(batch) = batch else { return Ok(0) };
        let rows = u64::try_from(batch.length()).map_err(|_| "a batch has negative rows")?;
        let cells = rows.saturating_mul(self.columns);
        self.cells = self
            .cells
            .checked_sub(cells)
            .ok_or_else(|| format!("it claims {rows} rows of {} columns", self.columns))?;
        let most_length = batch.nodes().iter().flatten().map(|node| node.length()).max();
        if u64::try_from(most_length.unwrap_or(0)).is_err() {
            return Err("a column has negative rows".into());
        }
        let body = data.len() - metadata;
        for buffer in batch.buffers().iter().flatten() {
            let (Ok(start), Ok(length)) =
                (usize::try_from(buffer.offset()), usize::try_from(buffer.length()))
            else {
                return Err("a buffer has a negative length".into());
            };
            let end = start.checked_add(length).filter(|end| *end <= body);
            let end = end.ok_or("a buffer lies beyond the end of its batch")?;
            let bytes = &data[metadata + start..metadata + end];
            let unpacked = match (batch.compression(), bytes.first_chunk::<8>()) {
                // −1: stored as it is
                (Some(_), Some(&claim)) => u64::try_from(i64::from_le_bytes(claim).max(0)),
                _ => Ok(length as u64),
            };
            let unpacked = unpacked.unwrap_or(0);
            self.bytes = self
                .bytes
                .checked_sub(unpacked)
                .ok_or_else(|| format!("a buffer claims {unpacked} bytes in {length}"))?;
        }
        Ok(rows as usize)
    }
}

/// The positions in increasing order, and the place of each among them.
fn places(positions: &[usize]) -> (Vec<usize>, Vec<usize>) {
    let mut sorted = positions.to_vec();
    sorted.sort_unstable();
    let place = |at: &usize| sorted.binary_search(at).unwrap_or_default();
    let places = positions.iter().map(place).collect();
    (sorted, places)
}

fn read(path: &Path, table: &mut Collector) -> Result<()> {
    let opened = Opened::open(path)?;
    table.choose(&opened.names)?;
    let kinds = chosen_kinds(table, &opened.schema)?;
    let numeric: Vec<usize> = (0..kinds.len()).filter(|&k| kinds[k].is_some()).collect();
    let roots: Vec<usize> = numeric.iter().map(|&k| table.chosen[k].0).collect();
    let (sorted, of_roots) = places(&roots);
    let mut places = vec![None; kinds.len()];
    numeric.iter().zip(of_roots).for_each(|(&k, place)| places[k] = Some(place));
    let pushed = opened.batches(kinds.len(), &sorted, |batch| {
        push_batch(table, batch, &places).map_err(|error| damaged(path, error))?
    });
    pushed.map_err(|problem| damaged(path, problem))?.map(drop)
}

/// Reads a table as it comes.
fn read_raw(path: &Path, table: &mut RawReader) -> Result<()> {
    let opened = Opened::open(path)?;
    let fields = opened.schema.fields();
    table.choose(opened.names.clone(), |position| holds(fields[position].data_type()))?;
    let chosen: Vec<usize> = table.collector.chosen.iter().map(|(position, _)| *position).collect();
    let usable = |k: &usize| !matches!(table.columns[*k].holds, raw::Holds::Else(_));
    let used: Vec<usize> = (0..chosen.len()).filter(usable).collect();
    let (sorted, places) = places(&used.iter().map(|&k| chosen[k]).collect::<Vec<_>>());
    let columns = &mut table.columns;
    let pushed = opened.batches(chosen.len(), &sorted, |batch| {
        for (&k, &place) in used.iter().zip(&places) {
            let pushed = push_array(&mut columns[k], batch.column(place));
            pushed.map_err(|error| damaged(path, error))?;
        }
        Ok(())
    });
    let rows = pushed.map_err(|problem| damaged(path, problem))??;
    for column in &mut table.columns {
        match column.rows {
            0 => column.rows = rows,
            own if own != rows => return Err(damaged(path, "its columns differ in length")),
            _ => (),
        }
    }
    Ok(())
}
