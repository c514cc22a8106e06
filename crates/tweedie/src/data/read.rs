//! From a file to a data set.

use std::path::Path;

use super::collect::Collector;
use super::options::{Missing, Purpose, TableOptions};
use super::{Dataset, formats, latents};
use crate::{Error, Result};

impl Dataset {
    /// Reads a table or images, as [`TableOptions::default`] says.
    ///
    /// # Errors
    /// As [`Dataset::read_with`].
    pub fn read(path: impl AsRef<Path>) -> Result<Dataset> {
        Dataset::read_with(path, &TableOptions::default())
    }

    /// Reads a table or images. The format follows from the extension and the first bytes.
    ///
    /// Text files are streamed, so that the table itself is the only copy in memory. Columns of
    /// dates and times in Parquet are whole numbers of their unit since 1970, which
    /// [`Dataset::notes`] says. NPY arrays are 1-D (one column) or 2-D, C or Fortran order. Images
    /// are IDX files (compressed by gzip or not), CIFAR-10's binary batches or the folder of them,
    /// downsampled ImageNet's NPZ batches or the folder of them, NPY and NPZ arrays of unsigned
    /// bytes `[n, H, W]`, `[n, H, W, C]` or `[n, C, H, W]`, and folders of PNG, JPEG, WebP, GIF,
    /// BMP and TIFF; their labels are CIFAR's, those of `…-labels-idx1-ubyte` beside
    /// `…-images-idx3-ubyte`, the arrays `labels` or `y` of an NPZ, and the names of sub-folders
    /// where every image lies in one. Of an NPZ with `x_train` and `x_test`, or a folder of
    /// CIFAR-10's batches, [`TableOptions::purpose`] says which images are meant. NPZ files of
    /// latents are those that `tweedie latents encode` writes.
    ///
    /// # Errors
    /// Whatever in the file or the options cannot be used, with its place and the remedy.
    pub fn read_with(path: impl AsRef<Path>, options: &TableOptions) -> Result<Dataset> {
        let mut data = match latents::read(path.as_ref(), options)? {
            Some(latents) => latents,
            None => Dataset::read_rows(path.as_ref(), options)?,
        };
        if options.unique {
            data.drop_duplicates();
        }
        Ok(data)
    }

    /// A table or images, equal rows among them.
    fn read_rows(path: &Path, options: &TableOptions) -> Result<Dataset> {
        let mut collector = Collector::new(path, options);
        match formats::read(path, options, &mut collector)? {
            Some(images) => Dataset::of_image_files(path, images, options),
            None => collector.finish(),
        }
    }
}

/// The columns' names and the cells, row-major and in double precision, of a table that holds no
/// data to model: all its columns, which are `c1`, `c2`, … where the file has no names.
///
/// # Errors
/// As [`Dataset::read_with`]; images are refused.
pub fn read_numbers(path: impl AsRef<Path>) -> Result<(Vec<String>, Vec<f64>)> {
    let path = path.as_ref();
    let options = TableOptions { purpose: Purpose::Test, ..TableOptions::default() };
    let mut collector = Collector::new(path, &options);
    collector.most = f64::MAX;
    if formats::read(path, &options, &mut collector)?.is_some() {
        return Err(Error::data(path, "holds images, expected a table", "give a table of numbers"));
    }
    let table = collector.finish()?;
    let columns = table.table();
    let row = |i: usize| columns.iter().map(move |(_, values)| values.get(i));
    Ok((table.names(), (0..table.rows()).flat_map(row).collect()))
}

/// Every row of the file of `data` with its columns, missing cells included.
pub(super) fn read_every_row(data: &Dataset) -> Result<Dataset> {
    let mut options = TableOptions { missing: Missing::Error, ..data.options.clone() };
    if let Some(layout) = data.layout {
        options.delimiter = Some(layout.delimiter.into());
        options.header = Some(layout.header);
        options.decimal = Some(if layout.decimal_comma { ',' } else { '.' });
    }
    if let Some(schema) = data.schema() {
        (options.unique, options.missing) = (false, Missing::Model);
        return Dataset::read_with_schema(&data.source, schema, &options);
    }
    let mut collector = Collector::new(&data.source, &options);
    collector.keep_missing = true;
    formats::read(&data.source, &options, &mut collector)?;
    collector.finish()
}
