//! The formats of files: one list, from which detection, reading, writing and the names in messages
//! follow.
//!
//! A format is one file here that ends in a [`Format`], and one line of [`FORMATS`].

mod archive;
mod arrow;
mod arrow_ipc;
pub(super) mod batches;
mod cifar;
mod excel;
mod folder;
mod idx;
mod imagenet;
mod npy;
mod npz;
mod other;
mod packed;
mod parquet;
mod picture;
pub(super) mod text;

use std::io::Read;
use std::path::{Path, PathBuf};

use super::collect::Collector;
use super::images::Images;
use super::options::{Crop, Purpose, TableOptions};
use super::output::OutputFile;
use super::raw::RawReader;
use super::write::Frame;
use crate::{Error, Result};

pub(crate) use archive::{NpzReader, NpzStream, NpzWriter};
pub(super) use folder::Pictures;
pub(super) use npy::read_array;
pub(crate) use npy::write_images;
use packed::Packing;

/// The longest side that images can be brought to, in pixels.
const MOST_PIXELS: usize = 4096;

/// All formats, in the order in which a file is tried.
static FORMATS: [&Format; 12] = [
    &cifar::FOLDER,
    &imagenet::FOLDER,
    &folder::FORMAT,
    &idx::FORMAT,
    &excel::FORMAT,
    &npz::FORMAT,
    &cifar::BATCH,
    &arrow_ipc::FORMAT,
    &parquet::FORMAT,
    &npy::FORMAT,
    &text::TSV,
    &text::CSV,
];

/// One format of files.
pub(super) struct Format {
    /// The name in messages and help texts.
    pub name: &'static str,
    /// What its files' names end in, the usual one first.
    pub extensions: &'static [&'static str],
    pub holds: Holds,
    /// Whether a file is of this format; those before it in the list are not meant.
    pub detect: fn(&Source) -> bool,
    /// Reads the rows of a table into the collector, or returns the images.
    pub read: fn(&Path, &TableOptions, &mut Collector) -> Result<Option<Images>>,
    /// Reads the rows of a table as they come, where the format holds more than numbers.
    pub raw: Option<fn(&Path, &TableOptions, &mut RawReader) -> Result<()>>,
    /// Writes a table, where the format takes one.
    pub write: Option<fn(&mut OutputFile, &Frame) -> std::io::Result<()>>,
    /// What separates the cells of a format of text.
    pub delimiter: Option<u8>,
}

/// What the files of a format hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    Tables,
    Images,
    Either,
}

/// What is known of a file before it is read.
pub(super) struct Source<'a> {
    pub path: &'a Path,
    pub folder: bool,
    /// The extension in lower case, without the point.
    pub extension: String,
    /// The first bytes.
    pub head: Vec<u8>,
    pub length: u64,
}

/// The bytes of a file that are looked at to find its format.
const HEAD: u64 = 4096;

impl Source<'_> {
    fn open(path: &Path) -> Result<Source<'_>> {
        if packed::is_standard(path) {
            let (head, length) = (packed::head(path, HEAD)?, packed::length(path)?);
            return Ok(Source { path, folder: false, extension: "csv".into(), head, length });
        }
        let metadata = std::fs::metadata(path).map_err(Error::io(path))?;
        let mut head = Vec::new();
        if metadata.is_file() {
            head = packed::head(path, HEAD)?;
        } else if !metadata.is_dir() {
            return Err(Error::data(
                path,
                "is not a regular file",
                "save the data to a file first",
            ));
        }
        let (folder, length) = (metadata.is_dir(), metadata.len());
        Ok(Source { path, folder, extension: extension(path), head, length })
    }

    /// Whether the extension is one of `format`.
    fn is_named_as(&self, format: &Format) -> bool {
        !self.folder && format.extensions.contains(&self.extension.as_str())
    }

    /// What a compressed file holds.
    fn unpacked(&self) -> Result<Source<'_>> {
        let mut head = Vec::new();
        packed::open_text(self.path)?
            .take(HEAD)
            .read_to_end(&mut head)
            .map_err(|e| packed::read_error(self.path, e))?;
        let length = head.len() as u64;
        Ok(Source { path: self.path, folder: false, extension: inner(self.path), head, length })
    }
}

fn extension(path: &Path) -> String {
    path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default()
}

/// The extension of what a file holds: of `t.tsv.gz` it is `tsv`.
fn inner(path: &Path) -> String {
    let own = extension(path);
    match [Packing::Gzip, Packing::Zstandard].iter().any(|packing| packing.ending() == own) {
        true => path.file_stem().map(|stem| extension(Path::new(stem))).unwrap_or_default(),
        false => own,
    }
}

/// The files of a data set that comes in a folder of batches.
pub(super) struct Batches {
    pub training: &'static [&'static str],
    pub test: &'static str,
}

impl Batches {
    /// Whether `source` is a folder with some of the training batches.
    fn are_in(&self, source: &Source) -> bool {
        source.folder && self.training.iter().any(|name| source.path.join(name).is_file())
    }

    /// The batches in `dir` that are read for `purpose`, and what a user should know of them.
    ///
    /// # Errors
    /// [`Error::Data`] if one is missing.
    fn of(&self, dir: &Path, purpose: Purpose) -> Result<(Vec<PathBuf>, String)> {
        let (names, beside, what) = match purpose {
            Purpose::Training => (self.training, "other training batches", "training batches"),
            _ => (std::slice::from_ref(&self.test), "training batches", "test batch"),
        };
        let paths: Vec<PathBuf> = names.iter().map(|name| dir.join(name)).collect();
        match paths.iter().find(|path| !path.is_file()) {
            None => Ok((paths, format!("the folder's {what} alone are read"))),
            Some(missing) => {
                let problem = format!("is missing beside the {beside}");
                let remedy = "fetch it, or give one batch instead of the folder";
                Err(Error::data(missing, problem, remedy))
            }
        }
    }
}

/// Reads a file: the rows of a table into `collector`, or images.
///
/// # Errors
/// What the file is instead, if it is of no format in the list, or what is wrong with it.
pub(super) fn read(
    path: &Path,
    options: &TableOptions,
    collector: &mut Collector,
) -> Result<Option<Images>> {
    let format = detect(path)?;
    for length in options.size.into_iter().flatten() {
        Error::check_count("data.table.size", length, MOST_PIXELS)?;
    }
    if let Some(Crop::Side(side)) = options.crop {
        Error::check_count("data.table.crop", side, MOST_PIXELS)?;
    }
    collector.found.format = format.name;
    if format.delimiter.is_some() {
        collector.found.format = "text";
    }
    let images = (format.read)(path, options, collector)?;
    let given = options.of_images().into_iter().find(|(_, given)| *given);
    if let (None, Some((option, _))) = (&images, given) {
        let problem = format!("{} holds no images", path.display());
        return Err(Error::config(option, problem, "leave it out, or give images"));
    }
    Ok(images)
}

/// Reads the rows of a table as they come; false where the file's format holds numbers or images
/// alone, of which nothing is read.
///
/// # Errors
/// As [`read`].
pub(super) fn read_raw(path: &Path, options: &TableOptions, table: &mut RawReader) -> Result<bool> {
    let format = detect(path)?;
    let Some(read) = format.raw else { return Ok(false) };
    table.collector.found.format = format.name;
    if format.delimiter.is_some() {
        table.collector.found.format = "text";
    }
    if let Some((option, _)) = options.of_images().into_iter().find(|(_, given)| *given) {
        let problem = format!("{} holds no images", path.display());
        return Err(Error::config(option, problem, "leave it out, or give images"));
    }
    read(path, options, table).map(|()| true)
}

/// Whether `path` is a folder of image files, which can be read a part at a time.
pub(super) fn is_folder_of_pictures(path: &Path) -> Result<bool> {
    Ok(detect(path)?.name == folder::FORMAT.name)
}

/// Whether a file is certain to hold images and no table.
pub(super) fn holds_images(path: &Path) -> Result<bool> {
    Ok(detect(path)?.holds == Holds::Images)
}

fn detect(path: &Path) -> Result<&'static Format> {
    let source = Source::open(path)?;
    other::refuse_known(&source)?;
    let known = |source: &Source| {
        FORMATS[..FORMATS.len() - 1].iter().find(|format| (format.detect)(source)).copied()
    };
    if let Some(format) = known(&source) {
        return Ok(format);
    }
    let Some(packing) = Packing::of(&source.head) else {
        other::refuse_unknown(&source)?;
        return Ok(&text::CSV);
    };
    let unpacked = source.unpacked()?;
    other::refuse_known(&unpacked)?;
    if let Some(format) = known(&unpacked) {
        let problem = format!("is {} compressed by {}", format.name, packing.name());
        let remedy = format!("decompress it first: {} {}", packing.program(), path.display());
        return Err(Error::data(path, problem, remedy));
    }
    other::refuse_unknown(&unpacked)?;
    Ok(&text::CSV)
}

/// The names of the formats that `which` is true of, as a message lists them: `A, B or C`.
fn names_of(which: impl Fn(&Format) -> bool) -> String {
    let formats = FORMATS.iter().rev().filter(|format| which(format));
    either(&formats.map(|format| format.name.to_owned()).collect::<Vec<_>>())
}

/// `A, B or C`.
fn either(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [only] => only.clone(),
        [some @ .., last] => format!("{} or {last}", some.join(", ")),
    }
}

/// The formats of tables that are read: `CSV, TSV, NPY, Parquet, Arrow or Excel`.
pub fn table_formats() -> String {
    names_of(|format| format.holds != Holds::Images)
}

/// The formats of images that are read.
pub fn image_formats() -> String {
    names_of(|format| format.holds != Holds::Tables)
}

/// The endings of files that a table is written to: `.csv, .tsv, .npy or .parquet`.
pub fn table_endings() -> String {
    let written = FORMATS.iter().rev().filter(|format| format.write.is_some());
    either(&written.map(|format| format!(".{}", format.extensions[0])).collect::<Vec<_>>())
}

/// The format in which a table is written.
#[derive(Clone, Copy)]
pub struct TableFormat(&'static Format);

impl std::fmt::Debug for TableFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(self.0.name)
    }
}

impl TableFormat {
    /// The format that the extension of `path` asks for; to be checked before the work. Standard
    /// output, `-`, takes CSV.
    ///
    /// # Errors
    /// [`Error::Config`] listing the extensions.
    pub fn of(path: impl AsRef<Path>) -> Result<TableFormat> {
        let path = path.as_ref();
        if path == Path::new("-") {
            return Ok(TableFormat(&text::CSV));
        }
        let (ending, written) = (extension(path), |format: &&&Format| format.write.is_some());
        let format = FORMATS.iter().filter(written).find(|f| f.extensions.contains(&&*ending));
        format.map(|format| TableFormat(format)).ok_or_else(|| {
            let problem =
                format!("cannot tell the format of {} from its extension", path.display());
            let endings = table_endings();
            let remedy = format!("end the name in {endings}, or give - for CSV on standard output");
            Error::config("out", problem, remedy)
        })
    }

    /// Whether such a file can hold images, as an array of their levels.
    pub fn holds_images(self) -> bool {
        matches!(self.0.holds, Holds::Either)
    }

    /// Whether its tables hold text beside numbers.
    pub(super) fn takes_text(self) -> bool {
        !self.holds_images()
    }

    /// What separates the cells, where the format is one of text, which takes rows one by one.
    pub(super) fn delimiter(self) -> Option<u8> {
        self.0.delimiter
    }

    pub(super) fn write(self, out: &mut OutputFile, frame: &Frame) -> std::io::Result<()> {
        match self.0.write {
            Some(write) => write(out, frame),
            None => Err(std::io::Error::other("no format of tables")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_the_list() {
        assert_eq!(table_formats(), "CSV, TSV, NPY, Parquet, Arrow or Excel");
        assert_eq!(table_endings(), ".csv, .tsv, .npy or .parquet");
        assert!(image_formats().contains("CIFAR-10") && image_formats().contains("IDX"));
        assert_eq!(format!("{:?}", TableFormat::of("a.PQ").unwrap()), "Parquet");
        assert!(TableFormat::of("a.npz").is_err() && TableFormat::of("a").is_err());
    }
}
