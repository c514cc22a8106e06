//! Folders of PNG, JPEG and WebP.

use std::path::{Path, PathBuf};

use image::DynamicImage;
use rayon::prelude::*;

use super::{Images, fit, planes_of};
use crate::data::{Labels, TableOptions};
use crate::{Error, Result};

const EXTENSIONS: [&str; 4] = ["png", "jpg", "jpeg", "webp"];

/// The images below `dir`. Where every one lies in a sub-folder, the sub-folders are their classes.
pub(super) fn read(dir: &Path, options: &TableOptions) -> Result<Images> {
    let files = files_below(dir)?;
    if files.is_empty() {
        let problem = "is a directory without PNG, JPEG or WebP files";
        let remedy =
            "give a folder of images or of CIFAR-10's training batches, one binary batch, or a table";
        return Err(Error::data(dir, problem, remedy));
    }
    let decoded: Vec<std::result::Result<DynamicImage, String>> = files
        .par_iter()
        .map(|path| {
            let picture = decode(path)?;
            Ok(match options.size {
                Some(size) => fit(picture, size),
                None => picture,
            })
        })
        .collect();
    let broken: Vec<(&PathBuf, &String)> =
        files.iter().zip(&decoded).filter_map(|(f, d)| d.as_ref().err().map(|e| (f, e))).collect();
    if let (Some((path, why)), false) = (broken.first(), options.skip_corrupt) {
        let more = if broken.len() > 1 { format!(" ({} such files)", broken.len()) } else { String::new() };
        let problem = format!("cannot be decoded: {why}{more}");
        return Err(Error::data(path, problem, "repair it, or leave such files out with --skip-corrupt"));
    }
    let good: Vec<(&PathBuf, &DynamicImage)> =
        files.iter().zip(&decoded).filter_map(|(f, d)| d.as_ref().ok().map(|d| (f, d))).collect();
    let Some((first, picture)) = good.first() else {
        return Err(Error::data(dir, "none of its images can be decoded", "give a folder of images"));
    };
    let (width, height) = (picture.width(), picture.height());
    if let Some((other, picture)) = good.iter().find(|(_, p)| (p.width(), p.height()) != (width, height)) {
        let problem = format!(
            "is {} × {} pixels, {} is {width} × {height}",
            picture.width(),
            picture.height(),
            first.display()
        );
        return Err(Error::data(other, problem, "bring all to one size with --size HxW"));
    }
    let channels = if good.iter().any(|(_, p)| p.color().has_color()) { 3 } else { 1 };
    let classes: Option<Vec<String>> = good.iter().map(|(file, _)| class_of(dir, file)).collect();
    let below = |file: &PathBuf| file.strip_prefix(dir).unwrap_or(file).display().to_string();
    let files = good.iter().map(|(file, _)| below(file)).collect();
    let levels = good.iter().flat_map(|(_, picture)| planes_of(picture, channels)).collect();
    Ok(Images {
        labels: classes.map(|classes| Labels::of_names(&classes)),
        files,
        corrupt: broken.len(),
        ..Images::new([channels, height as usize, width as usize], levels)
    })
}

/// The name of the sub-folder of `dir` that `file` lies in, if it lies in one.
fn class_of(dir: &Path, file: &Path) -> Option<String> {
    let mut parts = file.strip_prefix(dir).ok()?.components();
    let first = parts.next()?;
    parts.next()?;
    Some(first.as_os_str().to_string_lossy().into_owned())
}

/// All image files below `dir`, in the order of their paths.
fn files_below(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(Error::io(&folder))? {
            let entry = entry.map_err(Error::io(&folder))?;
            let path = entry.path();
            let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
            // linked folders are not followed: they may lead in circles
            if entry.file_type().map_err(Error::io(&path))?.is_dir() {
                folders.push(path);
            } else if extension.is_some_and(|e| EXTENSIONS.contains(&&*e)) {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Transparent pixels show white.
fn decode(path: &Path) -> std::result::Result<DynamicImage, String> {
    let picture = image::ImageReader::open(path)
        .and_then(|reader| reader.with_guessed_format())
        .map_err(|e| e.to_string())?
        .decode()
        .map_err(|e| e.to_string())?;
    if !picture.color().has_alpha() {
        return Ok(if picture.color().has_color() {
            DynamicImage::ImageRgb8(picture.to_rgb8())
        } else {
            DynamicImage::ImageLuma8(picture.to_luma8())
        });
    }
    let coloured = picture.color().has_color();
    let over_white = image::RgbImage::from_fn(picture.width(), picture.height(), {
        let rgba = picture.to_rgba8();
        move |x, y| {
            let [r, g, b, a] = rgba.get_pixel(x, y).0.map(u32::from);
            image::Rgb([r, g, b].map(|level| ((level * a + 255 * (255 - a) + 127) / 255) as u8))
        }
    });
    let opaque = DynamicImage::ImageRgb8(over_white);
    Ok(if coloured { opaque } else { DynamicImage::ImageLuma8(opaque.to_luma8()) })
}
