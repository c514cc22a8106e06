//! CIFAR-10's binary batches, one by one or the folder of them.

use std::path::{Path, PathBuf};

use super::{Images, damaged};
use crate::data::{Labels, Purpose};
use crate::{Error, Result};

/// A record of a batch: a label and three planes of 32×32.
const RECORD: usize = 1 + 3 * 32 * 32;
const TRAINING: [&str; 5] = [
    "data_batch_1.bin",
    "data_batch_2.bin",
    "data_batch_3.bin",
    "data_batch_4.bin",
    "data_batch_5.bin",
];
const TEST: &str = "test_batch.bin";
/// The classes, as `batches.meta.txt` names them.
const CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// The images of one batch; nothing where `path` is none.
pub(super) fn read(path: &Path) -> Result<Option<Images>> {
    let name = path.file_name().map(|n| n.to_string_lossy()).unwrap_or_default();
    let length = std::fs::metadata(path).map_err(Error::io(path))?.len();
    let named = name.starts_with("data_batch") || name.starts_with("test_batch");
    if !name.ends_with(".bin") || !(named || length > 0 && length.is_multiple_of(RECORD as u64)) {
        return Ok(None);
    }
    join(&[path.to_path_buf()]).map(Some)
}

/// The images of the training batches in `dir`, or, where they are not for training, of its test
/// batch; nothing where it holds no training batch.
pub(super) fn read_folder(dir: &Path, purpose: Purpose) -> Result<Option<Images>> {
    let batches = TRAINING.map(|name| dir.join(name));
    if !batches.iter().any(|path| path.is_file()) {
        return Ok(None);
    }
    let (batches, beside, what) = match purpose {
        Purpose::Training => (batches.to_vec(), "other training batches", "training batches"),
        _ => (vec![dir.join(TEST)], "training batches", "test batch"),
    };
    if let Some(missing) = batches.iter().find(|path| !path.is_file()) {
        let remedy = "fetch it, or give one batch instead of the folder (cat joins them)";
        return Err(Error::data(missing, format!("is missing beside the {beside}"), remedy));
    }
    let images = join(&batches)?;
    Ok(Some(Images { notes: vec![format!("the folder's {what} alone are read")], ..images }))
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
