//! CIFAR-10's binary batches, one by one or the folder of them.

use std::path::{Path, PathBuf};

use super::{Batches, Format, Holds};
use crate::data::Labels;
use crate::data::images::{Images, damaged};
use crate::data::options::TableOptions;
use crate::{Error, Result};

/// A folder with training batches.
pub(super) const FOLDER: Format = Format {
    name: "a folder of CIFAR-10's batches",
    extensions: &[],
    holds: Holds::Images,
    detect: |source| BATCHES.are_in(source),
    read: |path, options, _| read_folder(path, options).map(Some),
    write: None,
    raw: None,
    delimiter: None,
};

/// One batch.
pub(super) const BATCH: Format = Format {
    name: "a binary batch of CIFAR-10",
    extensions: &["bin"],
    holds: Holds::Images,
    detect: |source| {
        let name = source.path.file_name().map(|n| n.to_string_lossy()).unwrap_or_default();
        let named = name.starts_with("data_batch") || name.starts_with("test_batch");
        let whole = source.length > 0 && source.length.is_multiple_of(RECORD as u64);
        !source.folder && name.ends_with(".bin") && (named || whole)
    },
    read: |path, options, _| join(&[path.to_path_buf()])?.brought_to(path, options).map(Some),
    write: None,
    raw: None,
    delimiter: None,
};

/// A record of a batch: a label and three planes of 32×32.
const RECORD: usize = 1 + 3 * 32 * 32;
const BATCHES: Batches = Batches {
    training: &[
        "data_batch_1.bin",
        "data_batch_2.bin",
        "data_batch_3.bin",
        "data_batch_4.bin",
        "data_batch_5.bin",
    ],
    test: "test_batch.bin",
};
/// The classes, as `batches.meta.txt` names them.
const CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// The images of the training batches in `dir`, or, where they are not for training, of its test
/// batch.
fn read_folder(dir: &Path, options: &TableOptions) -> Result<Images> {
    let (batches, note) = BATCHES.of(dir, options.purpose)?;
    let mut images = join(&batches)?;
    images.notes.push(note);
    images.brought_to(dir, options)
}

fn join(batches: &[PathBuf]) -> Result<Images> {
    let (mut levels, mut labels) = (Vec::new(), Vec::new());
    for path in batches {
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        let records = bytes.chunks_exact(RECORD);
        if bytes.is_empty() || !records.remainder().is_empty() {
            let problem = format!("{} bytes are not whole images of {RECORD} bytes", bytes.len());
            return Err(damaged(path, problem));
        }
        for (row, record) in records.enumerate() {
            if usize::from(record[0]) >= CLASSES.len() {
                let problem = format!("image {} has the label {}", row + 1, record[0]);
                return Err(Error::data(
                    path,
                    problem,
                    "expected a CIFAR-10 binary batch, labels 0 to 9",
                ));
            }
            labels.push(record[0].into());
            levels.extend_from_slice(&record[1..]);
        }
    }
    let labels = Labels { names: CLASSES.map(String::from).to_vec(), of_rows: labels };
    Ok(Images { labels: Some(labels), ..Images::new([3, 32, 32], levels) })
}
