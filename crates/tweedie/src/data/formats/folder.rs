//! Folders of PNG, JPEG, WebP, GIF, BMP and TIFF.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use image::DynamicImage;
use rayon::prelude::*;

use super::picture::{About, Decoded, Header, Picture, decode, header};
use super::{Format, Holds};
use crate::data::images::{Images, check_levels, cropped, fit, in_colour, planes_of};
use crate::data::{Labels, LeftOut, TableOptions};
use crate::device::while_reading;
use crate::{Error, Result};

pub(super) const FORMAT: Format = Format {
    name: "a folder of PNG, JPEG, WebP, GIF, BMP and TIFF",
    extensions: &[],
    holds: Holds::Images,
    detect: |source| source.folder,
    read: |path, options, _| read(path, options).map(Some),
    write: None,
    raw: None,
    delimiter: None,
};

/// Names that files of the formats that are read end in.
const EXTENSIONS: [&str; 10] =
    ["png", "jpg", "jpeg", "jpe", "jfif", "webp", "gif", "bmp", "tif", "tiff"];
/// Names that images of other formats end in.
const OTHER_IMAGES: [&str; 31] = [
    "heic", "heif", "avif", "jxl", "jp2", "j2k", "apng", "tga", "ico", "svg", "psd", "exr", "hdr",
    "pgm", "ppm", "pbm", "pnm", "pam", "dds", "qoi", "ff", "dcm", "cr2", "cr3", "nef", "arw",
    "dng", "raf", "rw2", "orf", "xcf",
];
/// Bytes of decoded images that are held at a time, beside one of any size.
const BUDGET: u64 = 96 << 20;
/// Images of 16 bits a channel none of which is brighter than half use fewer bits than they say.
const DIM: u16 = u16::MAX / 2;
/// What the parts of a data set are called.
const PARTS: [&str; 8] =
    ["train", "training", "val", "valid", "validation", "dev", "test", "testing"];

/// The images below `dir`. Where every one lies in a sub-folder, the sub-folders are their classes.
fn read(dir: &Path, options: &TableOptions) -> Result<Images> {
    let Found { files, mut left_out, folders } = found_below(dir)?;
    if files.is_empty() {
        let mut problem =
            "is a directory without PNG, JPEG or WebP files, and without GIF, BMP or TIFF"
                .to_string();
        if !left_out.is_empty() {
            problem += &format!("; not read: {}", listed(&left_out));
        }
        let remedy = "give a folder of images or of CIFAR-10's training batches, one binary batch, \
                      or a table";
        return Err(Error::data(dir, problem, remedy));
    }
    let Decodings { stack, pictures, corrupt, mut notes } = decodings(files, options)?;
    if pictures.is_empty() {
        return Err(Error::data(
            dir,
            "none of its images can be decoded",
            "give a folder of images",
        ));
    }
    let classes: Option<Vec<String>> =
        pictures.iter().map(|(file, _)| class_of(dir, file)).collect();
    if let Some(classes) = &classes {
        let seen: BTreeSet<&String> = classes.iter().collect();
        let empty: Vec<&String> = folders.iter().filter(|folder| !seen.contains(folder)).collect();
        if let Some(first) = empty.first() {
            let what = "folders without images that are read".into();
            left_out.push(LeftOut { what, count: empty.len(), first: first.to_string() });
        }
        let part = |name: &&String| PARTS.contains(&&*name.to_lowercase());
        if seen.iter().all(part) {
            let names = seen.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
            let what =
                "are read as classes of one data set: give the folder of the part that is meant";
            notes.push(format!("the folders {names} {what}"));
        }
    }
    let below = |file: &Path| file.strip_prefix(dir).unwrap_or(file).display().to_string();
    let files = pictures.iter().map(|(file, _)| below(file)).collect();
    Ok(Images {
        labels: classes.map(|classes| Labels::of_names(&classes)),
        files,
        corrupt,
        left_out,
        notes,
        ..Images::new(stack.shape, stack.levels)
    })
}

/// Images of files, and what was found on the way.
struct Decodings {
    stack: Stack,
    pictures: Vec<(PathBuf, About)>,
    corrupt: usize,
    notes: Vec<String>,
}

/// The images of `files`; none where none can be decoded and such files are left out.
fn decodings(files: Vec<PathBuf>, options: &TableOptions) -> Result<Decodings> {
    let headers: Vec<Decoded<Header>> = files.par_iter().map(|path| header(path)).collect();
    let sizes =
        files.iter().zip(&headers).filter_map(|(path, h)| h.as_ref().ok().map(|h| (path, h)));
    check_sizes(sizes, options)?;

    let mut stack = Stack { room: files.len(), shape: [1, 0, 0], levels: Vec::new() };
    let mut pictures: Vec<(PathBuf, About)> = Vec::with_capacity(files.len());
    let mut broken: Vec<(PathBuf, String)> = Vec::new();
    while_reading(|| {
        for (path, picture) in in_turn(files, headers, options) {
            match picture {
                Ok(Picture { image, about }) => {
                    stack.push(&image);
                    pictures.push((path, about));
                }
                Err(why) => broken.push((path, why)),
            }
        }
    });
    if let (Some((path, why)), false) = (broken.first(), options.skip_corrupt) {
        let more = if broken.len() > 1 {
            format!(" ({} such files)", broken.len())
        } else {
            String::new()
        };
        let remedy = match options.may_choose_reading() {
            false => "repair it, or take it out of the folder",
            true => "repair it, or leave such files out with data.table.skip_corrupt",
        };
        return Err(Error::data(path, format!("cannot be decoded: {why}{more}"), remedy));
    }
    let mut notes = Vec::new();
    check_depth(&pictures, &mut notes)?;
    let count = |what: fn(&About) -> bool| pictures.iter().filter(|(_, p)| what(p)).count();
    let (turned, animated) = (count(|p| p.turned), count(|p| p.animated));
    if turned > 0 {
        notes.push(format!("{turned} images are turned as their EXIF says"));
    }
    if animated > 0 {
        notes.push(format!("of {animated} animations the first frame is taken"));
    }
    Ok(Decodings { stack, pictures, corrupt: broken.len(), notes })
}

/// The image files below a folder, to be read a part at a time.
pub(in crate::data) struct Pictures {
    dir: PathBuf,
    files: Vec<PathBuf>,
    /// Channels, height and width, as far as headers say.
    pub shape: [usize; 3],
    pub left_out: Vec<LeftOut>,
    options: TableOptions,
}

impl Pictures {
    /// Reads all headers.
    ///
    /// # Errors
    /// If images are of different sizes that are not brought to one, or there are none.
    pub fn open(dir: &Path, options: &TableOptions) -> Result<Pictures> {
        let Found { files, left_out, .. } = found_below(dir)?;
        let headers: Vec<Decoded<Header>> = files.par_iter().map(|path| header(path)).collect();
        let sizes = || {
            files.iter().zip(&headers).filter_map(|(file, h)| h.as_ref().ok().map(|h| (file, h)))
        };
        let Some((first, Header { width, height, .. })) = sizes().next() else {
            let problem = "holds no image that can be decoded";
            return Err(Error::data(dir, problem, "give a folder of images"));
        };
        check_sizes(sizes(), options)?;
        let kept = options.cropped(first, [*height, *width])?;
        let [height, width] = options.size.unwrap_or(kept);
        let channels = if sizes().any(|(_, header)| header.coloured) { 3 } else { 1 };
        let shape = [channels, height, width];
        let (dir, options) = (dir.to_owned(), options.clone());
        Ok(Pictures { dir, shape, left_out, options, files })
    }

    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Shape and levels of the images numbered `range`, and the number of each: files that cannot
    /// be decoded are left out where that is requested.
    pub fn read(&self, range: std::ops::Range<usize>) -> Result<(Images, Vec<usize>)> {
        let files = &self.files[range.clone()];
        let Decodings { stack, pictures, corrupt, notes } =
            decodings(files.to_vec(), &self.options)?;
        let mut numbers = range;
        let number = |(file, _): &(PathBuf, About)| numbers.find(|&i| self.files[i] == *file);
        let numbers = pictures.iter().filter_map(number).collect();
        let images = Images { corrupt, notes, ..Images::new(stack.shape, stack.levels) };
        Ok((images, numbers))
    }

    /// The name of the sub-folder that image `i` lies in, if it lies in one.
    pub fn class(&self, i: usize) -> Option<String> {
        class_of(&self.dir, &self.files[i])
    }

    /// The names and lengths of the files, which tell whether they are the same ones.
    pub fn listing(&self) -> impl Iterator<Item = u64> {
        self.files.iter().flat_map(|file| {
            let name = file.strip_prefix(&self.dir).unwrap_or(file).to_string_lossy().into_owned();
            let length = std::fs::metadata(file).map_or(0, |file| file.len());
            name.into_bytes().into_iter().map(u64::from).chain([u64::MAX, length])
        })
    }
}

/// Levels of images of one size that come one by one: grey until one has colours.
struct Stack {
    /// Images that may come.
    room: usize,
    /// Channels, height, width.
    shape: [usize; 3],
    levels: Vec<u8>,
}

impl Stack {
    fn push(&mut self, image: &DynamicImage) {
        let (height, width) = (image.height() as usize, image.width() as usize);
        if image.color().has_color() && self.shape[0] == 1 {
            (self.shape[0], self.levels) = (3, in_colour(&self.levels, height * width));
        }
        self.shape = [self.shape[0], height, width];
        let all = self.room * self.shape.iter().product::<usize>();
        self.levels.reserve_exact(all.saturating_sub(self.levels.len()));
        self.levels.extend(planes_of(image, self.shape[0]));
    }
}

/// What was left out, in words.
fn listed(left_out: &[LeftOut]) -> String {
    left_out.iter().map(LeftOut::to_string).collect::<Vec<_>>().join("; ")
}

/// Refuses images of different sizes that are not brought to one, and those that no row can hold:
/// by their headers, before any is decoded.
fn check_sizes<'a>(
    headers: impl Iterator<Item = (&'a PathBuf, &'a Header)>,
    options: &TableOptions,
) -> Result<()> {
    let headers: Vec<_> = headers.collect();
    let Some(&(first, Header { width, height, .. })) = headers.first() else { return Ok(()) };
    let kept = |path: &Path, h: &Header| options.cropped(path, [h.height, h.width]);
    let sizes = headers.iter().map(|(path, h)| kept(path, h)).collect::<Result<Vec<_>>>()?;
    let channels = if headers.iter().any(|(_, h)| h.coloured) { 3 } else { 1 };
    if let Some([height, width]) = options.size {
        return check_levels(first, [channels, height, width], options);
    }
    if let Some(other) = sizes.iter().position(|size| *size != sizes[0]) {
        let (other, h) = headers[other];
        let (first, wide, high) = (first.display(), h.width, h.height);
        let problem = format!("is {wide} × {high} pixels, {first} is {width} × {height}");
        let remedy = match options.may_choose_columns() {
            false => "give images of one size, the run's",
            true => "bring all to one size with data.table.size = HxW",
        };
        return Err(Error::data(other, problem, remedy));
    }
    let [height, width] = sizes[0];
    check_levels(first, [channels, height, width], options)
}

/// The images of the files, cropped and resampled as `options` say: decoded side by side as far as
/// memory is there for it.
fn in_turn(
    files: Vec<PathBuf>,
    headers: Vec<Decoded<Header>>,
    options: &TableOptions,
) -> impl Iterator<Item = (PathBuf, Decoded<Picture>)> {
    let brought = |path: &Path, Picture { image, about }: Picture| {
        let kept = options.cropped(path, [image.height() as usize, image.width() as usize]);
        let kept = kept.map_err(|e| e.to_string())?;
        let image = fit(cropped(image, kept), options.size.unwrap_or(kept));
        Ok(Picture { image, about })
    };
    let cost = |header: &Decoded<Header>| header.as_ref().map_or(0, |header| header.bytes);
    let mut batches: Vec<Vec<(PathBuf, Decoded<Header>)>> = Vec::new();
    let mut held = u64::MAX;
    for (file, header) in files.into_iter().zip(headers) {
        held = held.saturating_add(cost(&header));
        if held > BUDGET {
            held = cost(&header);
            batches.push(Vec::new());
        }
        batches.last_mut().expect("one was begun").push((file, header));
    }
    batches.into_iter().flat_map(move |batch| {
        let pictures: Vec<_> = batch
            .into_par_iter()
            .map(|(path, header)| {
                let picture = header.and_then(|_| decode(&path));
                let picture = picture.and_then(|picture| brought(&path, picture));
                (path, picture)
            })
            .collect();
        pictures
    })
}

/// Refuses images of 16 bits a channel that use fewer: brought to 8 bits they would be near black.
fn check_depth(pictures: &[(PathBuf, About)], notes: &mut Vec<String>) -> Result<()> {
    let deep =
        pictures.iter().filter_map(|(path, p)| p.brightest.map(|brightest| (path, brightest)));
    let Some((path, brightest)) = deep.clone().max_by_key(|(_, brightest)| *brightest) else {
        return Ok(());
    };
    if brightest <= DIM {
        let bits = (16 - brightest.leading_zeros()).max(1);
        let problem = format!(
            "has 16 bits a channel, and no image of the folder a level above {brightest} of {}: as \
             if of {bits} bits",
            u16::MAX
        );
        let remedy = "save the images with 8 bits a channel, white at 255";
        return Err(Error::data(path, problem, remedy));
    }
    notes.push(format!("{} images of 16 bits a channel are brought to 8 bits", deep.count()));
    Ok(())
}

/// The name of the sub-folder of `dir` that `file` lies in, if it lies in one.
fn class_of(dir: &Path, file: &Path) -> Option<String> {
    let mut parts = file.strip_prefix(dir).ok()?.components();
    let first = parts.next()?;
    parts.next()?;
    Some(first.as_os_str().to_string_lossy().into_owned())
}

/// What lies below a folder.
struct Found {
    /// Image files, in the order of their paths.
    files: Vec<PathBuf>,
    left_out: Vec<LeftOut>,
    /// The names of the folders in it.
    folders: Vec<String>,
}

/// All image files below `dir`, and what else is there.
fn found_below(dir: &Path) -> Result<Found> {
    let (mut files, mut inner, mut others) = (Vec::new(), Vec::new(), Vec::new());
    let mut folders = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(Error::io(&folder))? {
            let entry = entry.map_err(Error::io(&folder))?;
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            let extension =
                path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
            let own = entry.file_type().map_err(Error::io(&path))?;
            // what a link leads to; nothing where it leads nowhere
            let target = std::fs::metadata(&path).map(|m| m.file_type()).ok();
            let hidden = name.starts_with('.') || name == "__MACOSX";
            let image = EXTENSIONS.contains(&&*extension);
            let what = match target {
                _ if hidden && own.is_dir() => "hidden folders".to_string(),
                _ if hidden => "hidden files".into(),
                // they may lead in circles, or anywhere
                Some(target) if own.is_symlink() && target.is_dir() => {
                    "linked folders, which are not followed".into()
                }
                Some(target) if target.is_dir() => {
                    if folder == dir {
                        inner.push(name);
                    }
                    folders.push(path);
                    continue;
                }
                Some(target) if image && target.is_file() => {
                    files.push(path);
                    continue;
                }
                Some(target) if !target.is_file() => "pipes and devices".into(),
                None => "links that lead nowhere".into(),
                _ if OTHER_IMAGES.contains(&&*extension) => {
                    format!("images of another format (.{extension})")
                }
                _ => "other files".into(),
            };
            others.push((what, path));
        }
    }
    files.sort();
    inner.sort();
    others.sort();
    let mut left_out: Vec<LeftOut> = Vec::new();
    for (what, path) in others {
        match left_out.last_mut().filter(|last| last.what == what) {
            Some(last) => last.count += 1,
            None => {
                let first = path.strip_prefix(dir).unwrap_or(&path).display().to_string();
                left_out.push(LeftOut { what, count: 1, first });
            }
        }
    }
    Ok(Found { files, left_out, folders: inner })
}
