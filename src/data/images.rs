//! Images in: IDX files (MNIST's format), CIFAR-10's binary batches, folders of PNG, JPEG and WebP.
//!
//! An image is a row of pixel levels 0…255, channel by channel, line by line.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use image::DynamicImage;
use image::imageops::FilterType;
use rayon::prelude::*;

use super::table::{Column, ColumnKind, Table, TableOptions};
use crate::{Error, Result};

/// The first bytes of an IDX file of unsigned bytes with three axes: images, lines, pixels.
const IDX_IMAGES: [u8; 4] = [0, 0, 8, 3];
/// A record of a CIFAR-10 batch: a label and three planes of 32×32.
const CIFAR_RECORD: usize = 1 + 3 * 32 * 32;
const EXTENSIONS: [&str; 4] = ["png", "jpg", "jpeg", "webp"];

/// Levels of images of one shape.
struct Images {
    /// Channels, height, width.
    shape: [usize; 3],
    levels: Vec<u8>,
    /// Files left out because they could not be decoded.
    corrupt: usize,
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
    let images = if metadata.is_dir() {
        read_folder(path, options)?
    } else if let Some(bytes) = idx_bytes(path)? {
        fitted(parse_idx(path, &bytes)?, options.size)
    } else if is_cifar(path, metadata.len()) {
        fitted(parse_cifar(path, &std::fs::read(path).map_err(Error::io(path))?)?, options.size)
    } else if options.size.is_some() {
        let problem = format!("{} holds no images", path.display());
        return Err(Error::config("--size", problem, "leave it out, or give images"));
    } else {
        return Ok(None);
    };
    let dim: usize = images.shape.iter().product();
    let columns = pixel_columns(dim);
    let asked = &options.columns;
    let all = asked.len() == dim && asked.iter().zip(&columns).all(|(a, c)| *a == c.name);
    if !(asked.is_empty() || all) || !options.drop.is_empty() {
        let problem = format!("{} holds images of {:?} = {dim} pixels", path.display(), images.shape);
        return Err(Error::config("--columns, --drop", problem, "give images of the same shape, all pixels"));
    }
    let mut table = Table::new(columns, images.levels.iter().map(|&level| level.into()).collect())?;
    table.source = path.to_path_buf();
    table.image = Some(images.shape);
    table.dropped_rows = images.corrupt;
    if options.unique {
        table.drop_duplicates();
    }
    Ok(Some(table))
}

/// The columns of images with so many levels: `p1`, `p2`, …
pub(crate) fn pixel_columns(dim: usize) -> Vec<Column> {
    (1..=dim).map(|i| Column { name: format!("p{i}"), kind: ColumnKind::Integer }).collect()
}

/// The contents of an IDX file of images, decompressed; nothing for another file.
fn idx_bytes(path: &Path) -> Result<Option<Vec<u8>>> {
    let mut head = Vec::new();
    let open = || File::open(path).map_err(Error::io(path));
    open()?.take(4).read_to_end(&mut head).map_err(Error::io(path))?;
    if head == IDX_IMAGES {
        return std::fs::read(path).map_err(Error::io(path)).map(Some);
    }
    if !head.starts_with(b"\x1f\x8b") {
        return Ok(None);
    }
    let mut first = [0; 4];
    let mut decoder = GzDecoder::new(std::io::BufReader::new(open()?));
    if decoder.read_exact(&mut first).is_err() || first != IDX_IMAGES {
        return Ok(None);
    }
    let mut bytes = first.to_vec();
    decoder.read_to_end(&mut bytes).map_err(|e| {
        Error::data(path, format!("cannot be decompressed: {e}"), "the file is damaged: fetch it again")
    })?;
    Ok(Some(bytes))
}

fn parse_idx(path: &Path, bytes: &[u8]) -> Result<Images> {
    let damaged = |problem: String| Error::data(path, problem, "the file is damaged: fetch it again");
    if bytes.len() < 16 {
        return Err(damaged(format!("{} bytes are no IDX header", bytes.len())));
    }
    let axis = |i: usize| u32::from_be_bytes([bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]]) as usize;
    let (n, height, width) = (axis(4), axis(8), axis(12));
    let expected = n as u128 * height as u128 * width as u128;
    if expected != (bytes.len() - 16) as u128 || expected == 0 {
        let found = bytes.len() - 16;
        return Err(damaged(format!("found {found} pixels, expected {n} images of {height} × {width}")));
    }
    Ok(Images { shape: [1, height, width], levels: bytes[16..].to_vec(), corrupt: 0 })
}

fn is_cifar(path: &Path, length: u64) -> bool {
    path.extension().is_some_and(|e| e == "bin") && length > 0 && length.is_multiple_of(CIFAR_RECORD as u64)
}

fn parse_cifar(path: &Path, bytes: &[u8]) -> Result<Images> {
    if let Some(row) = bytes.chunks_exact(CIFAR_RECORD).position(|record| record[0] > 9) {
        let problem = format!("image {} has the label {}", row + 1, bytes[row * CIFAR_RECORD]);
        return Err(Error::data(path, problem, "expected a CIFAR-10 binary batch, labels 0 to 9"));
    }
    let levels = bytes.chunks_exact(CIFAR_RECORD).flat_map(|record| &record[1..]).copied().collect();
    Ok(Images { shape: [3, 32, 32], levels, corrupt: 0 })
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

fn read_folder(dir: &Path, options: &TableOptions) -> Result<Images> {
    let files = files_below(dir)?;
    if files.is_empty() {
        let problem = "is a directory without PNG, JPEG or WebP files";
        return Err(Error::data(
            dir,
            problem,
            "give a folder of images, a table, or one binary batch (cat joins them)",
        ));
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
    Ok(Images {
        shape: [channels, height as usize, width as usize],
        levels: good.iter().flat_map(|(_, picture)| planes_of(picture, channels)).collect(),
        corrupt: broken.len(),
    })
}
