//! Parquet tables written, through arrow.

use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use super::CHUNK_ROWS;
use crate::data::formats::batches::Batches;
use crate::data::output::OutputFile;
use crate::data::write::Frame;

/// Rows per row group of a file that is written.
const GROUP_ROWS: usize = 1 << 20;

pub(super) fn write(out: &mut OutputFile, frame: &Frame) -> std::io::Result<()> {
    let batches = Batches::of(frame);
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .build();
    let options =
        ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    let all = || -> std::result::Result<(), ParquetError> {
        let mut writer = ArrowWriter::try_new_with_options(out, batches.schema.clone(), options)?;
        for start in (0..frame.rows).step_by(CHUNK_ROWS) {
            writer.write(&batches.batch(start..frame.rows.min(start + CHUNK_ROWS))?)?;
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
