//! Downsampled ImageNet as its authors give it: NPZ batches, one by one or the folder of them.
//!
//! Chrabaszcz, Loshchilov & Hutter 2017, "A Downsampled Variant of ImageNet as an Alternative to
//! the CIFAR datasets". A batch holds `data`, u8 `[n, 3 S²]`, an image's red plane, then its green
//! and its blue one, line by line; `labels`, 1 to 1000; and the `mean` image, which is not read.

use std::path::Path;

use super::npy::Header;
use super::npz::read_arrays;
use super::{Batches, Format, Holds};
use crate::Result;
use crate::data::Labels;
use crate::data::images::{Images, damaged};
use crate::data::options::TableOptions;

/// A folder with training batches.
pub(super) const FOLDER: Format = Format {
    name: "a folder of ImageNet's downsampled batches",
    extensions: &[],
    holds: Holds::Images,
    detect: |source| BATCHES.are_in(source),
    read: |path, options, _| read_folder(path, options).map(Some),
    write: None,
    raw: None,
    delimiter: None,
};

const BATCHES: Batches = Batches {
    training: &[
        "train_data_batch_1.npz",
        "train_data_batch_2.npz",
        "train_data_batch_3.npz",
        "train_data_batch_4.npz",
        "train_data_batch_5.npz",
        "train_data_batch_6.npz",
        "train_data_batch_7.npz",
        "train_data_batch_8.npz",
        "train_data_batch_9.npz",
        "train_data_batch_10.npz",
    ],
    test: "val_data.npz",
};

/// The sides that the images are published in.
const SIDES: [usize; 4] = [8, 16, 32, 64];

/// Gives the array `data` of an archive with `labels` the shape of the images that its rows are.
pub(super) fn see_images(arrays: &mut [(String, Header)]) {
    let labelled = arrays.iter().any(|(name, _)| name == "labels");
    let data = arrays.iter_mut().find(|(name, _)| name == "data").filter(|_| labelled);
    let Some((_, header)) = data else { return };
    let bytes = header.number().is_some_and(|number| (number.kind, number.size) == (b'u', 1));
    let &[rows, levels] = &header.shape[..] else { return };
    if let (true, false, Some(side)) =
        (bytes, header.fortran, SIDES.into_iter().find(|side| 3 * side * side == levels))
    {
        header.shape = vec![rows, 3, side, side];
    }
}

/// The images of the training batches in `dir`, or, where they are not for training, of its
/// validation batch.
fn read_folder(dir: &Path, options: &TableOptions) -> Result<Images> {
    let (paths, note) = BATCHES.of(dir, options.purpose)?;
    let mut joined: Option<Images> = None;
    let mut numbers = Vec::new();
    for path in &paths {
        let (images, labels) = read_arrays(path, options.purpose)?;
        if let Some((_, labels)) = labels {
            numbers.extend(labels);
        }
        let Some(all) = &mut joined else {
            let mut images = images;
            images.levels.reserve_exact((paths.len() - 1) * images.levels.len());
            joined = Some(images);
            continue;
        };
        if images.shape != all.shape {
            let problem = format!("holds images of {:?}, others of {:?}", images.shape, all.shape);
            return Err(damaged(path, problem));
        }
        all.levels.extend(images.levels);
    }
    let mut images = joined.expect("there are batches");
    images.notes.push(note);
    images.labelled(dir, Labels::of_numbers(&numbers))?.brought_to(dir, options)
}
