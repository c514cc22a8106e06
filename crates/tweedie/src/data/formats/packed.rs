//! The bytes of a file or of standard input; of text also what gzip or Zstandard has compressed.

use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Read};
use std::path::Path;
use std::sync::OnceLock;

use flate2::bufread::MultiGzDecoder;
use zstd::stream::read::Decoder;

use super::archive::{MOST_PACKED, MOST_UNPACKED};
use crate::{Error, Result};

/// The name of standard input.
const STANDARD: &str = "-";

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    Gzip,
    Zstandard,
}

impl Packing {
    /// Of a file that begins so.
    pub fn of(head: &[u8]) -> Option<Packing> {
        if head.starts_with(b"\x1f\x8b") {
            Some(Packing::Gzip)
        } else if head.starts_with(b"\x28\xb5\x2f\xfd") {
            Some(Packing::Zstandard)
        } else {
            None
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Packing::Gzip => "gzip",
            Packing::Zstandard => "Zstandard",
        }
    }

    /// The program that decompresses such files.
    pub fn program(self) -> &'static str {
        match self {
            Packing::Gzip => "gunzip",
            Packing::Zstandard => "unzstd",
        }
    }

    /// The ending of such files' names.
    pub fn ending(self) -> &'static str {
        match self {
            Packing::Gzip => "gz",
            Packing::Zstandard => "zst",
        }
    }
}

/// Whether `path` stands for standard input.
pub(super) fn is_standard(path: &Path) -> bool {
    path == Path::new(STANDARD)
}

/// All of standard input, which is read once: a table is looked at before it is read.
fn standard() -> std::io::Result<&'static [u8]> {
    static BYTES: OnceLock<std::io::Result<Vec<u8>>> = OnceLock::new();
    let read = || {
        let mut bytes = Vec::new();
        std::io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
    };
    match BYTES.get_or_init(read) {
        Ok(bytes) => Ok(bytes),
        Err(error) => Err(error.kind().into()),
    }
}

/// The bytes of a file, or of standard input.
fn open(path: &Path) -> std::io::Result<Box<dyn BufRead>> {
    Ok(match is_standard(path) {
        true => Box::new(Cursor::new(standard()?)),
        false => Box::new(BufReader::with_capacity(1 << 18, File::open(path)?)),
    })
}

/// The number of bytes of a file, or of standard input.
pub(super) fn length(path: &Path) -> Result<u64> {
    let length = match is_standard(path) {
        true => standard().map(|bytes| bytes.len() as u64),
        false => std::fs::metadata(path).map(|metadata| metadata.len()),
    };
    length.map_err(Error::io(path))
}

/// The first bytes of a file, or of standard input, as they are.
pub(super) fn head(path: &Path, most: u64) -> Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut read = || open(path)?.take(most).read_to_end(&mut head);
    read().map_err(Error::io(path))?;
    Ok(head)
}

/// The bytes of a file of text, decompressed where it is compressed.
pub(super) fn open_text(path: &Path) -> Result<Box<dyn BufRead>> {
    let mut file = open(path).map_err(Error::io(path))?;
    let packing = Packing::of(file.fill_buf().map_err(Error::io(path))?);
    let decoder: Box<dyn Read> = match packing {
        None => return Ok(file),
        Some(Packing::Gzip) => Box::new(MultiGzDecoder::new(file)),
        Some(Packing::Zstandard) => {
            Box::new(Decoder::with_buffer(file).map_err(|e| read_error(path, e))?)
        }
    };
    let most = MOST_UNPACKED.max(length(path)?.saturating_mul(MOST_PACKED));
    let bounded = Bounded { inner: decoder, left: most };
    Ok(Box::new(BufReader::with_capacity(1 << 18, bounded)))
}

/// The error for a file that could not be read on: where it is compressed, it is damaged.
pub(super) fn read_error(path: &Path, error: std::io::Error) -> Error {
    let packing = head(path, 4).ok().and_then(|head| Packing::of(&head));
    match packing {
        Some(packing) if error.raw_os_error().is_none() => {
            let problem = format!("{} cannot decompress it: {error}", packing.name());
            let remedy = format!("write it again, or decompress it first: {}", packing.program());
            Error::data(path, problem, remedy)
        }
        _ => Error::io(path)(error),
    }
}

/// A decoder that gives no more bytes than are plausible.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(out)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| {
            let problem = "it holds far more bytes than data are packed into: one text over and \
                           over, or damage";
            std::io::Error::new(std::io::ErrorKind::InvalidData, problem)
        })?;
        Ok(count)
    }
}
