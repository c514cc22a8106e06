//! Images of one shape, as their formats give them, and bringing them to one size.
//!
//! An image is a row of pixel levels 0…255, channel by channel, line by line.

use std::path::Path;

use image::DynamicImage;
use image::imageops::FilterType;
use rayon::prelude::*;

use super::labels::Labels;
use super::options::{LeftOut, TableOptions};
use crate::{Error, Result};

/// The most levels of an image: 512 × 512 pixels in colour, 1024 × 1024 in grey. A row has a column
/// for each.
pub(super) const MOST_LEVELS: usize = 1 << 20;

/// Levels of images of one shape.
pub(super) struct Images {
    /// Channels, height, width.
    pub shape: [usize; 3],
    pub levels: Vec<u8>,
    pub labels: Option<Labels>,
    /// The file of each, as a path below the folder; empty where all are in one file.
    pub files: Vec<String>,
    /// Files left out because they could not be decoded.
    pub corrupt: usize,
    /// Whatever else was left out.
    pub left_out: Vec<LeftOut>,
    /// What a user should know of how they were read.
    pub notes: Vec<String>,
}

impl Images {
    pub fn new(shape: [usize; 3], levels: Vec<u8>) -> Images {
        let (files, left_out, notes) = (Vec::new(), Vec::new(), Vec::new());
        Images { shape, levels, labels: None, files, corrupt: 0, left_out, notes }
    }

    fn count(&self) -> usize {
        self.levels.len() / self.shape.iter().product::<usize>()
    }

    /// With the labels that `path` gives.
    pub fn labelled(self, path: &Path, labels: Labels) -> Result<Images> {
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
pub(super) fn check_levels(
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
        return Err(Error::config(
            "data.table.size",
            problem,
            "give a smaller size, for example 64x64",
        ));
    }
    if !options.may_choose_columns() {
        return Err(Error::data(path, problem, "give images of the run's size"));
    }
    // about as high for its width, the longer side 64
    let side = |length: usize| {
        let scaled = (length as f64 * 8.0 / height.max(width) as f64).round() as usize;
        8 * scaled.clamp(1, 8)
    };
    let (high, wide) = (side(height), side(width));
    let remedy =
        format!("bring all to a smaller size, for example with data.table.size = {high}x{wide}");
    Err(Error::data(path, problem, remedy))
}

/// A file that is not what it says.
pub(super) fn damaged(path: &Path, problem: String) -> Error {
    Error::data(path, problem, "the file is damaged: fetch it again")
}

impl Images {
    /// Cropped and at the size that is requested, if any.
    pub fn brought_to(self, path: &Path, options: &TableOptions) -> Result<Images> {
        let [channels, height, width] = self.shape;
        let kept = options.cropped(path, [height, width])?;
        let size = options.size.unwrap_or(kept);
        check_levels(path, [channels, size[0], size[1]], options)?;
        let mut images = self.fitted(kept, size);
        // a mask or a label map, or levels of 0…1: near black
        let brightest = images.levels.iter().max().copied().unwrap_or(0);
        if (1..16).contains(&brightest) {
            let note = format!("the brightest level is {brightest}: levels are taken to be 0…255");
            images.notes.push(note);
        }
        Ok(images)
    }

    /// Grey images of a folder in colour, where `columns` are requested and colour images of their
    /// size have as many.
    pub fn in_colour_for(self, columns: usize) -> Images {
        let [channels, height, width] = self.shape;
        let pixels = height * width;
        if channels != 1 || self.files.is_empty() || columns != 3 * pixels {
            return self;
        }
        Images { shape: [3, height, width], levels: in_colour(&self.levels, pixels), ..self }
    }

    /// The `kept` pixels in the middle of each, at this size.
    fn fitted(self, kept: [usize; 2], size: [usize; 2]) -> Images {
        let [channels, height, width] = self.shape;
        if kept == [height, width] && size == kept {
            return self;
        }
        let (pixels, fitted) = (height * width, channels * size[0] * size[1]);
        let images = self.levels.par_chunks_exact(channels * pixels);
        let mut levels = vec![0; images.len() * fitted];
        levels.par_chunks_exact_mut(fitted).zip(images).for_each(|(out, planes)| {
            let mut interleaved = vec![0; planes.len()];
            for (i, &level) in planes.iter().enumerate() {
                interleaved[i % pixels * channels + i / pixels] = level;
            }
            let picture = cropped(picture(interleaved, channels, height, width), kept);
            out.copy_from_slice(&planes_of(&fit(picture, size), channels));
        });
        Images { levels, shape: [channels, size[0], size[1]], ..self }
    }
}

/// Grey planes of this many pixels as images in colour.
pub(super) fn in_colour(levels: &[u8], pixels: usize) -> Vec<u8> {
    let mut coloured = Vec::with_capacity(3 * levels.len());
    levels.chunks_exact(pixels).for_each(|plane| (0..3).for_each(|_| coloured.extend(plane)));
    coloured
}

fn picture(interleaved: Vec<u8>, channels: usize, height: usize, width: usize) -> DynamicImage {
    let (w, h) = (width as u32, height as u32);
    let fits = "levels of an image";
    match channels {
        1 => image::GrayImage::from_raw(w, h, interleaved).expect(fits).into(),
        _ => image::RgbImage::from_raw(w, h, interleaved).expect(fits).into(),
    }
}

/// The middle of an image, of this height and width. Of an odd number of lines that are cut off,
/// one more is cut off below, and of columns on the right, as by ScoreFlow's code.
pub(super) fn cropped(picture: DynamicImage, [height, width]: [usize; 2]) -> DynamicImage {
    let (w, h) = (width as u32, height as u32);
    let (left, top) = ((picture.width() - w) / 2, (picture.height() - h) / 2);
    match (left, top) {
        (0, 0) if (picture.width(), picture.height()) == (w, h) => picture,
        _ => picture.crop_imm(left, top, w, h),
    }
}

/// An image no larger than `size` gets a black border; any other is resampled.
pub(super) fn fit(picture: DynamicImage, [height, width]: [usize; 2]) -> DynamicImage {
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
pub(super) fn planes_of(picture: &DynamicImage, channels: usize) -> Vec<u8> {
    let interleaved = match channels {
        1 => picture.to_luma8().into_raw(),
        _ => picture.to_rgb8().into_raw(),
    };
    (0..channels).flat_map(|c| interleaved.iter().skip(c).step_by(channels).copied()).collect()
}
