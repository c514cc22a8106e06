//! IDX files, the format of MNIST, plain or compressed by gzip.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;

use super::archive::check_packed;
use super::{Format, Holds, Source};
use crate::data::Labels;
use crate::data::images::{Images, damaged};
use crate::{Error, Result};

pub(super) const FORMAT: Format = Format {
    name: "an IDX file (MNIST's format)",
    extensions: &[],
    holds: Holds::Images,
    detect,
    read: |path, options, _| read(path)?.brought_to(path, options).map(Some),
    write: None,
    raw: None,
    delimiter: None,
};

/// The first bytes of a file of unsigned bytes with three axes: images, lines, pixels.
const IMAGES: [u8; 4] = [0, 0, 8, 3];
/// Those of a file with one axis.
const LABELS: [u8; 4] = [0, 0, 8, 1];
const GZIP: &[u8] = b"\x1f\x8b";

fn detect(source: &Source) -> bool {
    let compressed = || {
        let mut first = [0; 4];
        GzDecoder::new(&source.head[..]).read_exact(&mut first).is_ok() && first == IMAGES
    };
    source.head.starts_with(&IMAGES) || (source.head.starts_with(GZIP) && compressed())
}

/// The images of `path` and, where a file of labels lies beside it under MNIST's name, their
/// labels.
fn read(path: &Path) -> Result<Images> {
    let bytes =
        contents(path, IMAGES)?.ok_or_else(|| damaged(path, "is no IDX file of images".into()))?;
    let images = parse(path, bytes)?;
    match label_file(path) {
        Some(path) => images.labelled(&path, Labels::of_numbers(&read_labels(&path)?)),
        None => Ok(images),
    }
}

/// The contents of a file that begins with `magic`, decompressed; nothing for another file. Of a
/// compressed file no more is read than its header claims, and one byte that shows that there is
/// more.
fn contents(path: &Path, magic: [u8; 4]) -> Result<Option<Vec<u8>>> {
    let mut head = Vec::new();
    let open = || File::open(path).map_err(Error::io(path));
    open()?.take(4).read_to_end(&mut head).map_err(Error::io(path))?;
    if head == magic {
        return std::fs::read(path).map_err(Error::io(path)).map(Some);
    }
    if !head.starts_with(GZIP) {
        return Ok(None);
    }
    let mut first = [0; 4];
    let mut decoder = GzDecoder::new(BufReader::new(open()?));
    if decoder.read_exact(&mut first).is_err() || first != magic {
        return Ok(None);
    }
    let broken = |e| damaged(path, format!("cannot be decompressed: {e}"));
    let axes = usize::from(magic[3]);
    let mut bytes = first.to_vec();
    decoder.by_ref().take(4 * axes as u64).read_to_end(&mut bytes).map_err(broken)?;
    let claimed =
        (0..axes).map(|i| axis(&bytes, i).unwrap_or(0) as u64).fold(1, u64::saturating_mul);
    let stored = std::fs::metadata(path).map_err(Error::io(path))?.len();
    check_packed(path, claimed, stored)?;
    decoder.take(claimed.saturating_add(1)).read_to_end(&mut bytes).map_err(broken)?;
    if bytes.len() as u64 > 4 + 4 * axes as u64 + claimed {
        return Err(damaged(
            path,
            format!("holds more than the {claimed} bytes that its header claims"),
        ));
    }
    Ok(Some(bytes))
}

/// The length of axis `i`, where there is one.
fn axis(bytes: &[u8], i: usize) -> Option<usize> {
    let word = bytes.get(4 + 4 * i..8 + 4 * i)?;
    Some(u32::from_be_bytes(word.try_into().expect("four bytes")) as usize)
}

fn parse(path: &Path, mut bytes: Vec<u8>) -> Result<Images> {
    let (Some(n), Some(height), Some(width)) = (axis(&bytes, 0), axis(&bytes, 1), axis(&bytes, 2))
    else {
        return Err(damaged(path, format!("{} bytes are no IDX header", bytes.len())));
    };
    let (found, expected) = (bytes.len() - 16, n as u128 * height as u128 * width as u128);
    if expected != found as u128 || expected == 0 {
        let problem = format!("found {found} pixels, expected {n} images of {height} × {width}");
        return Err(damaged(path, problem));
    }
    bytes.drain(..16);
    Ok(Images::new([1, height, width], bytes))
}

/// `…-labels-idx1-ubyte[.gz]` beside `…-images-idx3-ubyte[.gz]`.
fn label_file(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    if !(name.contains("images") && name.contains("idx3")) {
        return None;
    }
    let name = name.replace("images", "labels").replace("idx3", "idx1");
    let plain = name.strip_suffix(".gz").unwrap_or(&name);
    let candidates = [path.with_file_name(plain), path.with_file_name(format!("{plain}.gz"))];
    candidates.into_iter().find(|path| path.is_file())
}

fn read_labels(path: &Path) -> Result<Vec<i64>> {
    let bytes = contents(path, LABELS)?
        .ok_or_else(|| damaged(path, "is not an IDX file of labels".into()))?;
    match axis(&bytes, 0) {
        Some(n) if n == bytes.len() - 8 => {
            Ok(bytes[8..].iter().map(|&label| label.into()).collect())
        }
        Some(n) => Err(damaged(path, format!("found {} labels, expected {n}", bytes.len() - 8))),
        None => Err(damaged(path, format!("{} bytes are no IDX header", bytes.len()))),
    }
}
