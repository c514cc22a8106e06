//! Images in: IDX files (MNIST's format), CIFAR-10's binary batches, NumPy's arrays, folders of
//! PNG, JPEG, WebP, GIF, BMP and TIFF.
//!
//! An image is a row of pixel levels 0…255, channel by channel, line by line.

mod cifar;
mod decode;
mod folder;
mod idx;
mod numpy;

use std::path::Path;

use image::DynamicImage;
use image::imageops::FilterType;
use rayon::prelude::*;

use super::labels::Labels;
use super::table::{Column, ColumnKind, LeftOut, Purpose, Table, TableOptions};
use crate::{Error, Result};

/// The most levels of an image: 512 × 512 pixels in colour, 1024 × 1024 in grey. A row has a column
/// for each.
pub(super) const MOST_LEVELS: usize = 1 << 20;

/// Levels of images of one shape.
struct Images {
    /// Channels, height, width.
    shape: [usize; 3],
    levels: Vec<u8>,
    labels: Option<Labels>,
    /// The file of each, as a path below the folder; empty where all are in one file.
    files: Vec<String>,
    /// Files left out because they could not be decoded.
    corrupt: usize,
    /// Whatever else was left out.
    left_out: Vec<LeftOut>,
    /// What a user should know of how they were read.
    notes: Vec<String>,
}

impl Images {
    fn new(shape: [usize; 3], levels: Vec<u8>) -> Images {
        let (files, left_out, notes) = (Vec::new(), Vec::new(), Vec::new());
        Images { shape, levels, labels: None, files, corrupt: 0, left_out, notes }
    }

    fn count(&self) -> usize {
        self.levels.len() / self.shape.iter().product::<usize>()
    }

    /// With the labels that `path` gives.
    fn labelled(self, path: &Path, labels: Labels) -> Result<Images> {
        let (found, expected) = (labels.of_rows.len(), self.count());
        if found != expected {
            let problem =
                format!("holds {found} labels, expected one for each of {expected} images");
            return Err(Error::data(
                path,
                problem,
                "give labels that belong to the images, or take them away",
            ));
        }
        Ok(Images { labels: Some(labels), ..self })
    }
}

/// Refuses images with more levels than a row can hold.
fn check_levels(
    path: &Path,
    [channels, height, width]: [usize; 3],
    options: &TableOptions,
) -> Result<()> {
    let most = |channels: usize| MOST_LEVELS / channels;
    if height.checked_mul(width).is_some_and(|pixels| pixels <= most(channels)) {
        return Ok(());
    }
    let problem = format!(
        "an image of {height} × {width} pixels is more than the {} of the largest row",
        most(channels)
    );
    if options.size.is_some() {
        return Err(Error::config("--size", problem, "give a smaller size, for example 64x64"));
    }
    // about as high for its width, the longer side 64
    let side = |length: usize| {
        let scaled = (length as f64 * 8.0 / height.max(width) as f64).round() as usize;
        8 * scaled.clamp(1, 8)
    };
    let remedy = match options.purpose {
        Purpose::Test => "give images of the run's size".into(),
        _ => format!(
            "bring all to a smaller size, for example with --size {}x{}",
            side(height),
            side(width)
        ),
    };
    Err(Error::data(path, problem, remedy))
}

/// A file that is not what it says.
fn damaged(path: &Path, problem: String) -> Error {
    Error::data(path, problem, "the file is damaged: fetch it again")
}

/// Reads `path` as images, or says that it holds none.
pub(super) fn read(path: &Path, options: &TableOptions) -> Result<Option<Table>> {
    let metadata = std::fs::metadata(path).map_err(Error::io(path))?;
    if !metadata.is_dir() && !metadata.is_file() {
        return Ok(None);
    }
    if let Some([height, width]) = options.size {
        Error::check_count("--size", height, 4096)?;
        Error::check_count("--size", width, 4096)?;
    }
    let Some(images) = read_levels(path, metadata.is_dir(), options)? else {
        if options.size.is_some() {
            let problem = format!("{} holds no images", path.display());
            return Err(Error::config("--size", problem, "leave it out, or give images"));
        }
        return Ok(None);
    };
    let asked = &options.columns;
    let images = in_colour(images, asked.len());
    let dim: usize = images.shape.iter().product();
    let columns = pixel_columns(dim);
    let all = asked.len() == dim && asked.iter().zip(&columns).all(|(a, c)| *a == c.name);
    if !(asked.is_empty() || all) || !options.drop.is_empty() {
        let problem =
            format!("{} holds images of {:?} = {dim} pixels", path.display(), images.shape);
        return Err(Error::config(
            "--columns, --drop",
            problem,
            "give images of the same shape, all pixels",
        ));
    }
    let mut table = Table::new(columns, images.levels.iter().map(|&level| level.into()).collect())?;
    table.source = path.to_path_buf();
    table.image = Some(images.shape);
    table.dropped_rows = images.corrupt;
    table.labels = images.labels;
    table.files = images.files;
    table.left_out = images.left_out;
    table.notes = images.notes;
    if options.unique {
        table.drop_duplicates();
    }
    Ok(Some(table))
}

fn read_levels(path: &Path, folder: bool, options: &TableOptions) -> Result<Option<Images>> {
    let images = if folder {
        match cifar::read_folder(path, options.purpose)? {
            Some(images) => images,
            None => return folder::read(path, options).map(Some),
        }
    } else if let Some(images) = idx::read(path)? {
        images
    } else if let Some(images) = numpy::read(path, options.purpose)? {
        images
    } else if let Some(images) = cifar::read(path)? {
        images
    } else {
        return Ok(None);
    };
    let [channels, height, width] = images.shape;
    let [height, width] = options.size.unwrap_or([height, width]);
    check_levels(path, [channels, height, width], options)?;
    let mut images = fitted(images, options.size);
    // a mask or a label map, or levels of 0…1: near black
    let brightest = images.levels.iter().max().copied().unwrap_or(0);
    if (1..16).contains(&brightest) {
        images
            .notes
            .push(format!("the brightest level is {brightest}: levels are taken to be 0…255"));
    }
    Ok(Some(images))
}

/// Grey images of a folder in colour, where the `columns` that are requested are those of colour
/// images of their size.
fn in_colour(images: Images, columns: usize) -> Images {
    let [channels, height, width] = images.shape;
    let pixels = height * width;
    if channels != 1 || images.files.is_empty() || columns != 3 * pixels {
        return images;
    }
    let levels = images.levels.chunks_exact(pixels).flat_map(|plane| [plane; 3].concat()).collect();
    Images { shape: [3, height, width], levels, ..images }
}

/// The columns of images with so many levels: `p1`, `p2`, …
pub(crate) fn pixel_columns(dim: usize) -> Vec<Column> {
    (1..=dim).map(|i| Column { name: format!("p{i}"), kind: ColumnKind::Integer }).collect()
}

/// Brings images to `size`, where one is asked for.
fn fitted(images: Images, size: Option<[usize; 2]>) -> Images {
    let [channels, height, width] = images.shape;
    let Some(size) = size.filter(|size| *size != [height, width]) else { return images };
    let pixels = height * width;
    let levels = images
        .levels
        .par_chunks_exact(channels * pixels)
        .flat_map_iter(|planes| {
            let mut interleaved = vec![0; planes.len()];
            for (i, &level) in planes.iter().enumerate() {
                interleaved[i % pixels * channels + i / pixels] = level;
            }
            let picture = picture(interleaved, channels, height, width);
            planes_of(&fit(picture, size), channels)
        })
        .collect();
    Images { shape: [channels, size[0], size[1]], levels, ..images }
}

fn picture(interleaved: Vec<u8>, channels: usize, height: usize, width: usize) -> DynamicImage {
    let (w, h) = (width as u32, height as u32);
    let fits = "levels of an image";
    match channels {
        1 => image::GrayImage::from_raw(w, h, interleaved).expect(fits).into(),
        _ => image::RgbImage::from_raw(w, h, interleaved).expect(fits).into(),
    }
}

/// An image no larger than `size` gets a black border; any other is resampled.
fn fit(picture: DynamicImage, [height, width]: [usize; 2]) -> DynamicImage {
    let (w, h) = (width as u32, height as u32);
    if (picture.width(), picture.height()) == (w, h) {
        return picture;
    }
    if picture.width() > w || picture.height() > h {
        return picture.resize_exact(w, h, FilterType::Triangle);
    }
    let (left, top) = ((w - picture.width()) / 2, (h - picture.height()) / 2);
    let mut canvas = match picture {
        DynamicImage::ImageLuma8(_) => DynamicImage::new_luma8(w, h),
        _ => DynamicImage::new_rgb8(w, h),
    };
    image::imageops::replace(&mut canvas, &picture, left.into(), top.into());
    canvas
}

/// An 8-bit image channel by channel.
fn planes_of(picture: &DynamicImage, channels: usize) -> Vec<u8> {
    let interleaved = match channels {
        1 => picture.to_luma8().into_raw(),
        _ => picture.to_rgb8().into_raw(),
    };
    (0..channels).flat_map(|c| interleaved.iter().skip(c).step_by(channels).copied()).collect()
}
