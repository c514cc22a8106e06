//! Numbers and texts in NPZ archives, by name (`numpy.savez`, `numpy.savez_compressed`).

use std::fs::File;
use std::io::{BufReader, Cursor, Read, Write};
use std::path::{Path, PathBuf};

use zip::write::{SimpleFileOptions, StreamWriter};
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::npy::{self, Header};
use crate::data::OutputFile;
use crate::{Error, Result};

/// Bytes that a compressed file may always claim to hold.
pub(super) const MOST_UNPACKED: u64 = 1 << 26;
/// How many bytes one compressed byte may stand for beyond that. Equal bytes alone reach 1032, the
/// limit of deflate, or 100 to 230 at its fastest; pictures of ink on white stay below a hundred.
pub(super) const MOST_PACKED: u64 = 200;

/// Refuses `claimed` bytes from `stored` compressed ones that no data are packed into.
pub(super) fn check_packed(path: &Path, claimed: u64, stored: u64) -> Result<()> {
    if claimed <= MOST_UNPACKED || claimed / MOST_PACKED <= stored {
        return Ok(());
    }
    let problem = format!(
        "claims {claimed} bytes in {stored} compressed ones: one value over and over, or damage"
    );
    Err(Error::data(path, problem, "check how it was written, or save it without compression"))
}

/// An NPZ archive being read.
pub(crate) struct NpzReader {
    path: PathBuf,
    /// Of the whole file.
    length: u64,
    archive: ZipArchive<BufReader<File>>,
}

/// What is wrong with the array `name` of the file at `path`.
fn wrong_array(path: &Path, name: &str, problem: &str) -> Error {
    let problem = format!("its array '{name}' {problem}");
    Error::data(path, problem, "write the file again with numpy.savez")
}

impl NpzReader {
    pub fn open(path: &Path) -> Result<NpzReader> {
        let file = BufReader::new(File::open(path).map_err(Error::io(path))?);
        let length = file.get_ref().metadata().map_err(Error::io(path))?.len();
        let archive = ZipArchive::new(file).map_err(|e| {
            Error::data(
                path,
                format!("is no NPZ archive ({e})"),
                "give a file that numpy.savez wrote",
            )
        })?;
        Ok(NpzReader { path: path.to_owned(), length, archive })
    }

    /// The numbers of an array of this shape, whatever their type; nothing if it is not there. A
    /// caller that does not know a length says `None` for it.
    ///
    /// # Errors
    /// If the array is damaged, of another shape, or has more than `most` numbers.
    pub fn numbers(
        &mut self,
        name: &str,
        axes: &[Option<usize>],
        most: usize,
    ) -> Result<Option<Vec<f64>>> {
        let path = self.path.clone();
        let wrong = |problem: String| wrong_array(&path, name, &problem);
        let decode = |header: &Header, values: &mut dyn Read| {
            let shape = &header.shape;
            let fits = shape.len() == axes.len()
                && shape
                    .iter()
                    .zip(axes)
                    .all(|(n, wanted)| wanted.is_none_or(|wanted| *n == wanted));
            let count = shape.iter().try_fold(1usize, |count, &n| count.checked_mul(n));
            let count = count.filter(|count| fits && *count <= most);
            let count = count.ok_or_else(|| wrong(format!("has the shape {shape:?}")))?;
            let number = match (header.number(), header.text()) {
                (Some(number), _) => number,
                (None, Some(_)) => return Err(wrong("holds text, expected numbers".into())),
                (None, None) => return Err(header.unsupported(&path)),
            };
            let expected = count * number.size;
            let mut bytes = Vec::new();
            values
                .take(expected as u64)
                .read_to_end(&mut bytes)
                .map_err(|e| wrong(format!("cannot be read ({e})")))?;
            if bytes.len() != expected {
                return Err(wrong(format!("has {} bytes, expected {expected}", bytes.len())));
            }
            let values: Vec<f64> =
                bytes.chunks_exact(number.size).map(|item| number.decode(item).value()).collect();
            Ok(match shape[..] {
                // column after column
                [rows, columns] if header.fortran => {
                    (0..count).map(|i| values[i % columns * rows + i / columns]).collect()
                }
                _ => values,
            })
        };
        self.array(name, decode)
    }

    /// The shape of an array; nothing if it is not there.
    ///
    /// # Errors
    /// If its header is damaged.
    pub fn shape(&mut self, name: &str) -> Result<Option<Vec<usize>>> {
        self.array(name, |header, _| Ok(header.shape.clone()))
    }

    /// The numbers of an array of this shape in single precision, read part by part.
    ///
    /// # Errors
    /// If the array is damaged, of another shape, or in Fortran order.
    pub fn singles(&mut self, name: &str, shape: &[usize]) -> Result<Option<Vec<f32>>> {
        let path = self.path.clone();
        let wrong = |problem: String| wrong_array(&path, name, &problem);
        let decode = |header: &Header, values: &mut dyn Read| {
            if header.shape != shape || header.fortran && shape.len() > 1 {
                let order = if header.fortran { " in Fortran order" } else { "" };
                return Err(wrong(format!(
                    "has the shape {:?}{order}, expected {shape:?}",
                    header.shape
                )));
            }
            let number = header.number().ok_or_else(|| header.unsupported(&path))?;
            let mut numbers = Vec::new();
            let mut part = vec![0; number.size << 16];
            let count: usize = shape.iter().product();
            while numbers.len() < count {
                let bytes = part.len().min((count - numbers.len()) * number.size);
                let part = &mut part[..bytes];
                values.read_exact(part).map_err(|e| wrong(format!("cannot be read ({e})")))?;
                let items = part.chunks_exact(number.size);
                numbers.extend(items.map(|item| number.decode(item).value() as f32));
            }
            Ok(numbers)
        };
        self.array(name, decode)
    }

    /// The texts of an array of one axis; nothing if it is not there.
    ///
    /// # Errors
    /// If it is damaged or holds no texts.
    pub fn texts(&mut self, name: &str) -> Result<Option<Vec<String>>> {
        let path = self.path.clone();
        let wrong = || {
            Error::data(&path, format!("its array '{name}' holds no texts"), "write the file again")
        };
        let decode = |header: &Header, values: &mut dyn Read| {
            let &[count] = &header.shape[..] else { return Err(wrong()) };
            let (width, length) = header.text().filter(|text| text.1 > 0).ok_or_else(wrong)?;
            let mut texts = Vec::new();
            let mut bytes = vec![0; length * width];
            for _ in 0..count {
                values.read_exact(&mut bytes).map_err(|_| wrong())?;
                texts.push(text_of(&bytes, width).ok_or_else(wrong)?);
            }
            Ok(texts)
        };
        self.array(name, decode)
    }

    /// The text of an array without axes; nothing if it is not there.
    ///
    /// # Errors
    /// If it is damaged or not a text.
    pub fn text(&mut self, name: &str) -> Result<Option<String>> {
        let path = self.path.clone();
        let wrong = || {
            Error::data(&path, format!("its array '{name}' is not a text"), "write the file again")
        };
        let decode = |header: &Header, values: &mut dyn Read| {
            let (width, length) =
                header.text().filter(|_| header.shape.is_empty()).ok_or_else(wrong)?;
            let mut bytes = vec![0; length * width];
            values.read_exact(&mut bytes).map_err(|_| wrong())?;
            text_of(&bytes, width).ok_or_else(wrong)
        };
        self.array(name, decode)
    }

    fn array<T>(
        &mut self,
        name: &str,
        decode: impl FnOnce(&Header, &mut dyn Read) -> Result<T>,
    ) -> Result<Option<T>> {
        if self.archive.index_for_name(&format!("{name}.npy")).is_none() {
            return Ok(None);
        }
        let mut file = self.archive.by_name(&format!("{name}.npy")).map_err(|e| {
            Error::data(
                &self.path,
                format!("its array '{name}' cannot be read ({e})"),
                "write the file again",
            )
        })?;
        let stored = file.compressed_size().min(self.length);
        let header = npy::read_header(&self.path, &mut file)?;
        check_packed(&self.path, header.bytes().unwrap_or(0), stored)?;
        decode(&header, &mut file).map(Some)
    }
}

/// A text of so many bytes per character, padded with zeros.
fn text_of(bytes: &[u8], width: usize) -> Option<String> {
    let character = |item: &[u8]| {
        let mut word = [0; 4];
        word[..width].copy_from_slice(item);
        char::from_u32(u32::from_le_bytes(word))
    };
    let text: String = bytes.chunks_exact(width.max(1)).map(character).collect::<Option<_>>()?;
    Some(text.trim_end_matches('\0').to_string())
}

/// Everything of an NPY array before its values, which start at a multiple of 64, after one line.
fn header_of(kind: &str, shape: &[usize]) -> Vec<u8> {
    let shape: String = shape.iter().map(|n| format!("{n}, ")).collect();
    let header =
        format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({}), }}", shape.trim_end());
    let width = (10 + header.len() + 1).next_multiple_of(64) - 10 - 1;
    let header = format!("{header:width$}\n");
    let length = (header.len() as u16).to_le_bytes();
    [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes()].concat()
}

fn letters_of(text: &str) -> Vec<u8> {
    text.chars().flat_map(|c| u32::from(c).to_le_bytes()).collect()
}

/// An NPZ archive that is written to its file as it grows, uncompressed.
pub(crate) struct NpzStream {
    path: PathBuf,
    zip: ZipWriter<StreamWriter<OutputFile>>,
}

impl NpzStream {
    pub fn new(out: OutputFile) -> NpzStream {
        NpzStream { path: out.path().to_owned(), zip: ZipWriter::new_stream(out) }
    }

    pub fn text(&mut self, name: &str, value: &str) -> Result<()> {
        let letters = letters_of(value);
        self.bytes(name, &format!("<U{}", letters.len() / 4), &[], letters)
    }

    pub fn texts(&mut self, name: &str, values: &[String]) -> Result<()> {
        let longest = values.iter().map(|text| text.chars().count()).max().unwrap_or(0).max(1);
        let padded = values.iter().flat_map(|text| {
            let mut letters = letters_of(text);
            letters.resize(4 * longest, 0);
            letters
        });
        self.bytes(name, &format!("<U{longest}"), &[values.len()], padded)
    }

    pub fn bytes(
        &mut self,
        name: &str,
        kind: &str,
        shape: &[usize],
        values: impl IntoIterator<Item = u8>,
    ) -> Result<()> {
        let values = values.into_iter().collect();
        self.parts(name, kind, shape, std::iter::once(Ok(values)))
    }

    /// An array whose bytes come part by part.
    pub fn parts(
        &mut self,
        name: &str,
        kind: &str,
        shape: &[usize],
        parts: impl Iterator<Item = Result<Vec<u8>>>,
    ) -> Result<()> {
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        let started = self.zip.start_file(format!("{name}.npy"), options.large_file(true));
        started.map_err(|e| Error::io(&self.path)(e.into()))?;
        for part in std::iter::once(Ok(header_of(kind, shape))).chain(parts) {
            self.zip.write_all(&part?).map_err(Error::io(&self.path))?;
        }
        Ok(())
    }

    /// Ends the archive and gives the file its name.
    pub fn finish(self) -> Result<()> {
        let out = self.zip.finish().map_err(|e| Error::io(self.path)(e.into()))?;
        out.into_inner().commit()
    }
}

/// An NPZ archive in memory, uncompressed.
pub(crate) struct NpzWriter(ZipWriter<Cursor<Vec<u8>>>);

impl NpzWriter {
    pub fn new() -> NpzWriter {
        NpzWriter(ZipWriter::new(Cursor::new(Vec::new())))
    }

    pub fn floats(&mut self, name: &str, shape: &[usize], values: &[f64]) {
        self.array(
            name,
            "<f8",
            shape,
            &values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>(),
        );
    }

    pub fn integer(&mut self, name: &str, value: i64) {
        self.array(name, "<i8", &[], &value.to_le_bytes());
    }

    pub fn text(&mut self, name: &str, value: &str) {
        let letters = letters_of(value);
        self.array(name, &format!("<U{}", letters.len() / 4), &[], &letters);
    }

    fn array(&mut self, name: &str, kind: &str, shape: &[usize], values: &[u8]) {
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        let in_memory = "a file in memory takes all bytes";
        self.0
            .start_file(format!("{name}.npy"), options.large_file(values.len() > 1 << 31))
            .expect(in_memory);
        for part in [&header_of(kind, shape)[..], values] {
            self.0.write_all(part).expect(in_memory);
        }
    }

    /// Writes the archive to `out` and commits it.
    pub fn finish(self, out: OutputFile) -> Result<()> {
        out.finish(&self.0.finish().expect("a file in memory takes all bytes").into_inner())
    }
}
