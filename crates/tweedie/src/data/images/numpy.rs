//! NumPy's arrays of images: one in an NPY file, or in an NPZ archive of several.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use zip::ZipArchive;

use super::{Images, damaged};
use crate::data::npy::{Header, read_header};
use crate::data::npz::check_packed;
use crate::data::{Labels, Purpose};
use crate::{Error, Result};

/// Names under which an archive with several arrays of images has those that are meant, and their
/// labels: whatever they are for, and for training, validation and testing alone.
const NAMES: [(Option<Purpose>, &str, &str); 10] = [
    (None, "images", "labels"),
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
        Purpose::Test => &[Some(Purpose::Test), None],
    };
    let of = |wanted: Option<Purpose>| NAMES.iter().filter(move |(own, ..)| *own == wanted);
    order.iter().flat_map(|&wanted| of(wanted)).map(|&(_, name, labels)| (name, labels)).collect()
}

/// Names of labels whatever the images are called.
const LABELS: [&str; 2] = ["labels", "y"];

const SHAPES: &str = "[n, height, width], [n, height, width, 1 or 3] or [n, 1 or 3, height, width]";

/// The images of `path`; nothing where it is neither an NPY file with three or more axes nor an
/// archive.
pub(super) fn read(path: &Path, purpose: Purpose) -> Result<Option<Images>> {
    let open = || File::open(path).map(BufReader::new).map_err(Error::io(path));
    let mut head = Vec::new();
    open()?.take(6).read_to_end(&mut head).map_err(Error::io(path))?;
    let extension =
        path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
    if head.starts_with(b"PK") || extension == "npz" {
        return read_archive(path, open()?, purpose).map(Some);
    }
    if head != b"\x93NUMPY" {
        return Ok(None);
    }
    let mut file = open()?;
    let header = read_header(path, &mut file)?;
    match header.shape.len() {
        0..=2 => Ok(None),
        _ => arrange(path, &header, &read_values(path, &header, &mut file)?).map(Some),
    }
}

fn read_archive(path: &Path, file: BufReader<File>, purpose: Purpose) -> Result<Images> {
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
    let position = |name: &str| arrays.iter().position(|(n, _)| n == name);
    let fitting: Vec<usize> = (0..arrays.len()).filter(|&i| holds_images(&arrays[i].1)).collect();
    let (chosen, labels) = match fitting[..] {
        [only] => {
            (only, NAMES.iter().find(|(_, name, _)| arrays[only].0 == *name).map(|own| own.2))
        }
        _ => {
            let named = names_for(purpose).into_iter().find_map(|(name, labels)| {
                position(name).filter(|i| fitting.contains(i)).map(|i| (i, Some(labels)))
            });
            named.ok_or_else(|| {
                let what =
                    arrays.iter().map(|(name, h)| format!("{name} ({} {:?})", h.descr, h.shape));
                let what = what.collect::<Vec<_>>().join(", ");
                let problem =
                    format!("the archive holds {} arrays of images: {what}", fitting.len());
                let remedy = match (purpose, fitting.len()) {
                    (Purpose::Training, _) | (_, 0) => {
                        format!("save one array of u8 {SHAPES}, or call it images")
                    }
                    _ => "call the one that is meant x_test, or save it alone".into(),
                };
                Error::data(path, problem, remedy)
            })?
        }
    };
    let mut values = |i: usize| -> Result<Vec<u8>> {
        let (name, header) = &arrays[i];
        let path = path.join(name);
        let mut entry = archive.by_name(&format!("{name}.npy")).map_err(broken)?;
        check_packed(&path, header.bytes().unwrap_or(0), entry.compressed_size().min(length))?;
        read_header(&path, &mut entry)?;
        read_values(&path, header, &mut entry)
    };
    let (name, header) = &arrays[chosen];
    let mut images = arrange(&path.join(name), header, &values(chosen)?)?;
    if fitting.len() > 1 {
        images.notes.push(format!(
            "of the archive's arrays of images {name} alone is read, {:?}",
            header.shape
        ));
    }
    let Some(place) = labels.into_iter().chain(LABELS).find_map(position) else {
        return Ok(images);
    };
    let ((name, header), values) = (&arrays[place], values(place)?);
    let path = path.join(name);
    images.labelled(&path, Labels::of_numbers(&numbers(&path, header, &values)?))
}

fn holds_images(header: &Header) -> bool {
    header.number().is_some_and(|number| (number.kind, number.size) == (b'u', 1))
        && axes(&header.shape).is_some()
}

/// Which axes of an array of this shape are channels, height and width; images are the first.
fn axes(shape: &[usize]) -> Option<[Option<usize>; 3]> {
    let colours = |channels: usize| channels == 1 || channels == 3;
    match *shape {
        [_, _, _] => Some([None, Some(1), Some(2)]),
        [_, _, _, channels] if colours(channels) => Some([Some(3), Some(1), Some(2)]),
        [_, channels, _, _] if colours(channels) => Some([Some(1), Some(2), Some(3)]),
        _ => None,
    }
}

/// The bytes of an array's values, as many as its header says.
fn read_values(path: &Path, header: &Header, file: &mut impl Read) -> Result<Vec<u8>> {
    let number = header.number().ok_or_else(|| header.unsupported(path))?;
    let count =
        header.shape.iter().try_fold(number.size as u64, |bytes, &n| bytes.checked_mul(n as u64));
    let expected =
        count.ok_or_else(|| damaged(path, format!("claims the shape {:?}", header.shape)))?;
    let mut values = Vec::new();
    // one more: what is too long is damaged too, and the end is where an archive's checksum is
    // compared
    file.take(expected.saturating_add(1))
        .read_to_end(&mut values)
        .map_err(|e| damaged(path, format!("the array is damaged: {e}")))?;
    if values.len() as u64 != expected {
        let problem = format!(
            "found {} bytes of values, expected {expected} for the shape {:?}",
            values.len(),
            header.shape
        );
        return Err(damaged(path, problem));
    }
    Ok(values)
}

/// Pixels in the order of the array's axes brought to images, channels, lines, pixels.
fn arrange(path: &Path, header: &Header, values: &[u8]) -> Result<Images> {
    if !holds_images(header) {
        let problem = format!("the array is {} of shape {:?}", header.descr, header.shape);
        let remedy = format!("images are u8, 0…255, {SHAPES}; a table has two axes");
        return Err(Error::data(path, problem, remedy));
    }
    if values.is_empty() {
        let problem = format!("the array is empty {:?}", header.shape);
        return Err(Error::data(path, problem, "give at least one image"));
    }
    let shape = &header.shape;
    let mut strides = vec![1; shape.len()];
    for i in 1..shape.len() {
        match header.fortran {
            true => strides[i] = strides[i - 1] * shape[i - 1],
            false => {
                strides[shape.len() - 1 - i] = strides[shape.len() - i] * shape[shape.len() - i]
            }
        }
    }
    let along = axes(shape).expect("an array of images");
    let [(c, of_c), (h, of_h), (w, of_w)] =
        along.map(|axis| axis.map_or((1, 0), |i| (shape[i], strides[i])));
    let mut levels = Vec::with_capacity(values.len());
    for image in 0..shape[0] {
        for channel in 0..c {
            for line in 0..h {
                let start = image * strides[0] + channel * of_c + line * of_h;
                levels.extend((0..w).map(|pixel| values[start + pixel * of_w]));
            }
        }
    }
    Ok(Images::new([c, h, w], levels))
}

/// Labels `[n]` or `[n, 1]`.
fn numbers(path: &Path, header: &Header, values: &[u8]) -> Result<Vec<i64>> {
    let number = header.number().filter(|number| matches!(number.kind, b'i' | b'u'));
    let (Some(number), [_] | [_, 1]) = (number, &header.shape[..]) else {
        let problem = format!("labels are {} of shape {:?}", header.descr, header.shape);
        return Err(Error::data(path, problem, "expected whole numbers, one for each image"));
    };
    Ok(values.chunks_exact(number.size).map(|item| number.decode(item) as i64).collect())
}
