//! Images of a source, a part at a time.

use std::ops::Range;
use std::path::Path;

use tch::Tensor;

use super::digest::hash_words;
use super::formats::{Pictures, is_folder_of_pictures};
use super::{Dataset, Labels, LeftOut, TableOptions};
use crate::{Error, Result};

/// Images that are read a part at a time: from a folder of image files one part is in memory, of
/// other sources all levels are.
pub struct ImageSource(Kind);

enum Kind {
    Folder(Box<Pictures>),
    Whole(Box<Dataset>),
}

/// Images of one part of a source.
pub struct ImagePart {
    /// Levels `[n, channels, H, W]`, bytes.
    pub levels: Tensor,
    /// The number of each image in the source, from 0, increasing.
    pub numbers: Vec<usize>,
    /// Files that cannot be decoded and were left out.
    pub corrupt: usize,
}

impl ImageSource {
    /// The images at `path`: whatever is read as images.
    ///
    /// # Errors
    /// As [`Dataset::read_with`], and if the source holds a table.
    pub fn open(path: impl AsRef<Path>, options: &TableOptions) -> Result<ImageSource> {
        let path = path.as_ref();
        if is_folder_of_pictures(path)? {
            return Ok(ImageSource(Kind::Folder(Box::new(Pictures::open(path, options)?))));
        }
        let images = Dataset::read_with(path, options)?;
        if images.levels().is_none() {
            let what = if images.image().is_some() { "latents" } else { "a table" };
            let problem = format!("holds {what}, and no images");
            return Err(Error::data(path, problem, "give images"));
        }
        Ok(ImageSource(Kind::Whole(Box::new(images))))
    }

    /// The number of images, files that cannot be decoded among them.
    pub fn count(&self) -> usize {
        match &self.0 {
            Kind::Folder(pictures) => pictures.len(),
            Kind::Whole(images) => images.rows(),
        }
    }

    /// Channels, height and width, as far as they are known before all are read: those of a folder
    /// may turn out to be grey.
    pub fn shape(&self) -> [usize; 3] {
        match &self.0 {
            Kind::Folder(pictures) => pictures.shape,
            Kind::Whole(images) => images.image().expect("images"),
        }
    }

    /// What of the source is not read.
    pub fn left_out(&self) -> &[LeftOut] {
        match &self.0 {
            Kind::Folder(pictures) => &pictures.left_out,
            Kind::Whole(images) => &images.left_out,
        }
    }

    /// The images numbered `range`.
    ///
    /// # Errors
    /// As [`Dataset::read_with`].
    pub fn read(&self, range: Range<usize>) -> Result<ImagePart> {
        let ([channels, height, width], levels, numbers, corrupt) = match &self.0 {
            Kind::Folder(pictures) => {
                let (images, numbers) = pictures.read(range)?;
                (images.shape, images.levels, numbers, images.corrupt)
            }
            Kind::Whole(images) => {
                let (dim, all) = (images.dim(), images.levels().expect("images"));
                let levels = all[range.start * dim..range.end * dim].to_vec();
                (self.shape(), levels, range.collect(), 0)
            }
        };
        let sizes = [numbers.len(), channels, height, width].map(|n| n as i64);
        Ok(ImagePart { levels: Tensor::from_slice(&levels).view(sizes), numbers, corrupt })
    }

    /// The classes of the images of these numbers, where every one has one.
    pub fn labels(&self, numbers: &[usize]) -> Option<Labels> {
        match &self.0 {
            Kind::Folder(pictures) => {
                let classes: Option<Vec<String>> =
                    numbers.iter().map(|&i| pictures.class(i)).collect();
                classes.map(|classes| Labels::of_names(&classes))
            }
            Kind::Whole(images) => images.labels.as_ref().map(|labels| labels.take(numbers)),
        }
    }

    /// A digest of the images, or of the names and lengths of their files.
    pub fn digest(&self) -> String {
        match &self.0 {
            Kind::Folder(pictures) => hash_words(pictures.listing()),
            Kind::Whole(images) => images.fingerprint(),
        }
    }
}
