//! NPZ archives of images: one array of several, with its labels.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use zip::ZipArchive;

use super::archive::check_packed;
use super::imagenet;
use super::npy::{Header, SHAPES, arrange, holds_images, read_header, read_values};
use super::{Format, Holds};
use crate::data::images::{Images, damaged};
use crate::data::{Labels, Purpose};
use crate::{Error, Result};

pub(super) const FORMAT: Format = Format {
    name: "NPZ",
    extensions: &["npz"],
    holds: Holds::Images,
    detect: |source| source.is_named_as(&FORMAT) || source.head.starts_with(b"PK"),
    read: |path, options, _| read(path, options.purpose)?.brought_to(path, options).map(Some),
    write: None,
    raw: None,
    delimiter: None,
};

/// Names under which an archive with several arrays of images has those that are meant, and their
/// labels: whatever they are for, and for training, validation and testing alone.
const NAMES: [(Option<Purpose>, &str, &str); 11] = [
    (None, "images", "labels"),
    (None, "data", "labels"),
    (None, "x", "y"),
    (None, "arr_0", "y"),
    (Some(Purpose::Training), "x_train", "y_train"),
    (Some(Purpose::Training), "train_images", "train_labels"),
    (Some(Purpose::Validation), "x_val", "y_val"),
    (Some(Purpose::Validation), "x_valid", "y_valid"),
    (Some(Purpose::Validation), "val_images", "val_labels"),
    (Some(Purpose::Test), "x_test", "y_test"),
    (Some(Purpose::Test), "test_images", "test_labels"),
];

/// The names to look for, the first first: what is for another purpose is not meant, but test
/// images validate where there are no others.
fn names_for(purpose: Purpose) -> Vec<(&'static str, &'static str)> {
    let order: &[Option<Purpose>] = match purpose {
        Purpose::Training => &[None, Some(Purpose::Training)],
        Purpose::Validation => &[Some(Purpose::Validation), Some(Purpose::Test), None],
        Purpose::Test | Purpose::Scoring => &[Some(Purpose::Test), None],
    };
    let of = |wanted: Option<Purpose>| NAMES.iter().filter(move |(own, ..)| *own == wanted);
    order.iter().flat_map(|&wanted| of(wanted)).map(|&(_, name, labels)| (name, labels)).collect()
}

/// Names of labels whatever the images are called.
const LABELS: [&str; 2] = ["labels", "y"];

fn read(path: &Path, purpose: Purpose) -> Result<Images> {
    match read_arrays(path, purpose)? {
        (images, Some((path, labels))) => images.labelled(&path, Labels::of_numbers(&labels)),
        (images, None) => Ok(images),
    }
}

/// The images of the archive, and the numbers that label them with their path.
pub(super) fn read_arrays(path: &Path, purpose: Purpose) -> Result<(Images, Option<Numbers>)> {
    let file = BufReader::new(File::open(path).map_err(Error::io(path))?);
    let broken =
        |e: zip::result::ZipError| damaged(path, format!("cannot be read as an NPZ archive: {e}"));
    let length = file.get_ref().metadata().map_err(Error::io(path))?.len();
    let mut archive = ZipArchive::new(file).map_err(broken)?;
    let mut arrays: Vec<(String, Header)> = Vec::new();
    for i in 0..archive.len() {
        let mut entry = archive.by_index(i).map_err(broken)?;
        let name = entry.name().map_err(broken)?.into_owned();
        let Some(name) = name.strip_suffix(".npy").map(String::from) else { continue };
        if name.contains(char::is_control) {
            return Err(damaged(path, format!("holds an array named {name:?}")));
        }
        let header = read_header(&path.join(&name), &mut entry)?;
        arrays.push((name, header));
    }
    imagenet::see_images(&mut arrays);
    let (chosen, labels, several) = choose(path, &arrays, purpose)?;
    let mut values = |i: usize| -> Result<Vec<u8>> {
        let (name, header) = &arrays[i];
        let path = path.join(name);
        let mut entry = archive.by_name(&format!("{name}.npy")).map_err(broken)?;
        check_packed(&path, header.bytes().unwrap_or(0), entry.compressed_size().min(length))?;
        read_header(&path, &mut entry)?;
        read_values(&path, header, &mut entry)
    };
    let (name, header) = &arrays[chosen];
    let mut images = arrange(&path.join(name), header, values(chosen)?)?;
    if several {
        let shape = &header.shape;
        let note = format!("of the archive's arrays of images {name} alone is read, {shape:?}");
        images.notes.push(note);
    }
    let position = |name: &str| arrays.iter().position(|(own, _)| own == name);
    let Some(place) = labels.into_iter().chain(LABELS).find_map(position) else {
        return Ok((images, None));
    };
    let ((name, header), values) = (&arrays[place], values(place)?);
    let path = path.join(name);
    let labels = numbers(&path, header, &values)?;
    Ok((images, Some((path, labels))))
}

/// Whole numbers of an array, with its path.
type Numbers = (PathBuf, Vec<i64>);

/// Which of the arrays holds the images, the name of their labels, and whether others could.
fn choose(
    path: &Path,
    arrays: &[(String, Header)],
    purpose: Purpose,
) -> Result<(usize, Option<&'static str>, bool)> {
    let fitting: Vec<usize> = (0..arrays.len()).filter(|&i| holds_images(&arrays[i].1)).collect();
    if let [only] = fitting[..] {
        let named = NAMES.iter().find(|(_, name, _)| arrays[only].0 == *name);
        return Ok((only, named.map(|own| own.2), false));
    }
    let fits = |name: &str| fitting.iter().copied().find(|&i| arrays[i].0 == name);
    let mut named = names_for(purpose).into_iter();
    let found = named.find_map(|(name, labels)| Some((fits(name)?, Some(labels), true)));
    found.ok_or_else(|| {
        let what = arrays.iter().map(|(name, h)| format!("{name} ({} {:?})", h.descr, h.shape));
        let what = what.collect::<Vec<_>>().join(", ");
        let problem = format!("the archive holds {} arrays of images: {what}", fitting.len());
        let remedy = match (purpose, fitting.len()) {
            (Purpose::Training, _) | (_, 0) => {
                format!("save one array of u8 {SHAPES}, or call it images")
            }
            _ => "call the one that is meant x_test, or save it alone".into(),
        };
        Error::data(path, problem, remedy)
    })
}

/// Labels `[n]` or `[n, 1]`.
fn numbers(path: &Path, header: &Header, values: &[u8]) -> Result<Vec<i64>> {
    let number = header.number().filter(|number| matches!(number.kind, b'i' | b'u'));
    let (Some(number), [_] | [_, 1]) = (number, &header.shape[..]) else {
        let problem = format!("labels are {} of shape {:?}", header.descr, header.shape);
        return Err(Error::data(path, problem, "expected whole numbers, one for each image"));
    };
    Ok(values.chunks_exact(number.size).map(|item| number.decode(item).rounded()).collect())
}
