//! Files that are no table but are often given for one: what they are, and what to do with them.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::{Error, Result};

/// How such files begin, what they are, and the remedy.
const KNOWN: [(&[u8], &str, &str); 11] = [
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "is an old Excel workbook", "save its sheet as CSV"),
    (b"ARROW1", "is an Arrow (Feather) file", "save the table as Parquet or CSV"),
    (b"FEA1", "is a Feather file", "save the table as Parquet or CSV"),
    (b"\x89HDF\r\n\x1a\n", "is an HDF5 file", "save the table as Parquet, CSV or NPY"),
    (b"SQLite format 3\0", "is an SQLite database", "save the table as CSV or Parquet"),
    (b"ORC", "is an ORC file", "save the table as Parquet or CSV"),
    (b"Obj\x01", "is an Avro file", "save the table as Parquet or CSV"),
    (b"MATLAB 5.0", "is a MATLAB file", "save the table as CSV or NPY"),
    (b"%PDF-", "is a PDF document", "save the table as CSV"),
    (b"BZh", "is compressed by bzip2", "decompress it first"),
    (b"\xfd7zXZ\0", "is compressed by xz", "decompress it first"),
];
const ZSTANDARD: &[u8] = b"\x28\xb5\x2f\xfd";
const ZIP: &[u8] = b"PK\x03\x04";

/// Refuses what is certainly no table and no images.
///
/// # Errors
/// [`Error::Data`] that says what it is.
pub(super) fn refuse(path: &Path) -> Result<()> {
    // whether it is there at all, and a file, is for the readers to say
    let Ok(true) = std::fs::metadata(path).map(|m| m.is_file()) else { return Ok(()) };
    let mut head = Vec::new();
    File::open(path).and_then(|f| f.take(4096).read_to_end(&mut head)).map_err(Error::io(path))?;
    let extension =
        path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
    let is = |problem: &str, remedy: &str| Err(Error::data(path, problem, remedy));
    if head.starts_with(ZIP) && extension != "npz" {
        let holds = |part: &[u8]| head.windows(part.len()).any(|w| w == part);
        if matches!(extension.as_str(), "xlsx" | "xlsm" | "xlsb")
            || [&b"[Content_Types].xml"[..], b"docProps/"].iter().any(|part| holds(part))
        {
            return is("is an Excel workbook, which is not read", "save its sheet as CSV");
        }
        if extension == "ods" || holds(b"opendocument") {
            return is("is an OpenDocument workbook, which is not read", "save its sheet as CSV");
        }
        if extension == "zip" {
            return is("is a ZIP archive", "unpack it first, and give the table in it");
        }
    }
    if head.starts_with(ZSTANDARD) {
        return is("is compressed by Zstandard", "decompress it first");
    }
    // pickles of protocol 2 to 5
    if matches!(extension.as_str(), "pkl" | "pickle") || matches!(head[..], [0x80, 2..=5, ..]) {
        let problem = "is a Python pickle, which is not read: it can run code";
        return is(problem, "save the table as Parquet, CSV or NPY");
    }
    if extension == "json" || extension == "jsonl" {
        return is("is JSON, which is not read", "save the table as CSV or Parquet");
    }
    // a header of text may begin with the same letters
    let binary = head.contains(&0) || std::str::from_utf8(&head[..head.len().min(64)]).is_err();
    match KNOWN
        .iter()
        .find(|(magic, ..)| head.starts_with(magic) && (binary || magic.starts_with(b"%")))
    {
        Some((_, problem, remedy)) => is(problem, remedy),
        None => Ok(()),
    }
}
