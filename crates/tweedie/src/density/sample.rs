//! Samples of a density.

use std::path::Path;

use tch::Tensor;

use super::grids::Grids;
use super::{Density, SampleOptions};
use crate::autoencoder::Autoencoder;
use crate::data::{
    CellType, Dataset, Labels, LatentsOf, OutputFile, TableFormat, read_latents, record_batch,
    write_images, write_latents, write_table,
};
use crate::query::Cells;
use crate::sample::{Clipped, Ground, MOST_ROWS, Sampling, class_of_rows};
use crate::tensor::to_vec;
use crate::watch::{Silent, Watch};
use crate::{Error, Result};

/// Samples in the data's own units.
#[derive(Clone, Debug)]
pub struct Samples {
    /// Row after row.
    pub values: Vec<f64>,
    /// The columns' names.
    pub columns: Vec<String>,
    /// How each column is written: as the training data were.
    pub types: Vec<CellType>,
    /// Channels, height and width, where rows are images or latents of images.
    pub image: Option<[usize; 3]>,
    /// What rows are latents of, where they are.
    pub latents: Option<LatentsOf>,
    /// The classes that they are of, where the model is conditioned on any.
    pub labels: Option<Labels>,
    /// What was clipped on the way.
    pub clipped: Clipped,
    /// The samples of a density of a table that was read as it comes: with its columns and types,
    /// and there are no values and types beside it.
    pub table: Option<Dataset>,
}

impl Samples {
    /// The number of samples.
    pub fn rows(&self) -> usize {
        match &self.table {
            Some(table) => table.rows(),
            None => self.values.len() / self.columns.len(),
        }
    }

    /// The samples as a tensor `[n, d]`, f64.
    pub fn tensor(&self) -> Tensor {
        Tensor::from_slice(&self.values).view([-1, self.columns.len() as i64])
    }

    /// The samples as one record batch of arrow, in the types in which [`Samples::write`] writes a
    /// Parquet file. Classes are not in it.
    pub fn record_batch(&self) -> arrow_array::RecordBatch {
        match &self.table {
            Some(table) => table.record_batch(),
            None => record_batch(&self.columns, &self.types, &self.values),
        }
    }

    /// Latents in a file: what [`Samples::write`] or [`Autoencoder::encode_images`] wrote, of
    /// Gaussians their means, or an NPY array `[n, C, h, w]` of latents, taken to be those of
    /// `vae`.
    ///
    /// # Errors
    /// [`Error::Data`] if the file holds anything else.
    pub fn read_latents(path: &Path, vae: &Autoencoder) -> Result<Samples> {
        let (values, shape, of) = read_latents(path)?;
        let dim = shape.iter().product();
        let of = match of {
            Some(of) => of,
            None => vae.latents_of(vae.image_shape(shape)?),
        };
        Ok(Samples {
            values,
            columns: (1..=dim).map(|i| format!("z{i}")).collect(),
            types: vec![CellType::Single; dim],
            image: Some(shape),
            latents: Some(of),
            labels: None,
            clipped: Clipped::default(),
            table: None,
        })
    }

    /// The images that samples of latents are decoded to, whole or in tiles of so many latents
    /// ([`Autoencoder::decode_in_tiles`]).
    ///
    /// # Errors
    /// [`Error::Config`] if the rows are no latents, or of another autoencoder.
    pub fn decoded(&self, vae: &Autoencoder, tile: Option<usize>) -> Result<Samples> {
        let (Some(of), Some(shape)) = (&self.latents, self.image) else {
            let remedy = "leave it out: it is for runs of latents";
            return Err(Error::config("latents.vae", "the rows are no latents", remedy));
        };
        vae.check_of(of)?;
        let values = vae.decode_values(&self.values, shape, tile)?;
        let image = vae.image_shape(shape)?;
        let dim = image.iter().product();
        Ok(Samples {
            values,
            columns: (1..=dim).map(|i| format!("p{i}")).collect(),
            types: vec![CellType::Integer; dim],
            image: Some(image),
            latents: None,
            labels: self.labels.clone(),
            clipped: self.clipped,
            table: None,
        })
    }

    /// Writes a table: `.csv`, `.tsv`, `.parquet` or `.npy`; of images `.npy` is an array of levels
    /// in 0…255, `[n, H, W]` or `[n, 3, H, W]`, which is read as images again, and of latents
    /// `.npz` is a file of latents with their classes.
    ///
    /// # Errors
    /// [`Error::Config`] for another format; [`Error::Io`] if the file cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        if !self.are_latents(path.as_ref()) {
            TableFormat::of(path.as_ref())?;
        }
        self.write_to(OutputFile::create(path)?)
    }

    /// As [`Samples::write`], to a file that is open already.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be written.
    pub fn write_to(&self, out: OutputFile) -> Result<()> {
        if let Some(table) = &self.table {
            return table.write_to(out);
        }
        match (self.image, &self.latents) {
            (Some(shape), Some(of)) if self.are_latents(out.path()) => {
                write_latents(out, (shape, of), &self.values, self.labels.as_ref())
            }
            (Some(shape), None) if TableFormat::of(out.path())?.holds_images() => {
                write_images(out, shape, &self.values)
            }
            _ => write_table(out, &self.columns, &self.types, &self.values),
        }
    }

    /// Whether they are written to `path` as a file of latents.
    fn are_latents(&self, path: &Path) -> bool {
        let named = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("npz"));
        named && self.latents.is_some()
    }
}

/// How samples are drawn, with everything decided.
pub(super) struct Ready {
    pub(super) sampling: Sampling,
    /// Increasing times from 0; none for a sampler without steps.
    pub(super) grid: Vec<f64>,
    pub(super) class: Option<u32>,
    /// Rows at a time.
    pub(super) batch: usize,
}

impl Density {
    /// `n` samples.
    ///
    /// # Errors
    /// [`Error::Config`] if an option makes no sense for this density; [`Error::Numeric`] if a
    /// sample is not finite.
    pub fn sample(&self, n: usize, options: &SampleOptions) -> Result<Samples> {
        self.sample_with(n, options, &mut Silent)
    }

    /// As [`Density::sample`], with progress and remarks.
    ///
    /// # Errors
    /// As [`Density::sample`], and [`Error::Interrupted`].
    pub fn sample_with(
        &self,
        n: usize,
        options: &SampleOptions,
        watch: &mut dyn Watch,
    ) -> Result<Samples> {
        Error::check_count("sample.n", n, MOST_ROWS)?;
        self.check_without_context()?;
        if let Some(features) = self.features() {
            let nothing = features.nothing(n);
            let (table, clipped) = self.completed(&features, (&nothing, &[]), options, watch)?;
            return Ok(self.table_of_samples(table, clipped));
        }
        let Ready { sampling, grid, class, batch } = self.ready_to_sample(options, watch)?;
        let (scaled, clipped) = self.draw(&sampling, &grid, (class, None), (n, batch), watch)?;
        let classes = class_of_rows(&self.run.model, class, 0..n as u64);
        Ok(self.in_data_units(&scaled, classes, clipped))
    }

    /// Checks `options` against this density, decides what they leave open, and measures what the
    /// covariance needs.
    pub(super) fn ready_to_sample(
        &self,
        options: &SampleOptions,
        watch: &mut dyn Watch,
    ) -> Result<Ready> {
        options.check()?;
        options.check_images(self.is_of_images(), &self.name())?;
        options.check_model(&self.run.model)?;
        let batch = self.batch("sample.batch_size", options.batch_size, SampleOptions::BATCH)?;
        let class = options.class.as_ref().map(|name| self.run.data.class(name)).transpose()?;
        let sampling = self.sampling(options);
        self.check_adaptive("sample.sampler", sampling.steps_taken().is_none())?;
        if let Some(covariance) = sampling.covariance_taken() {
            self.prepare(covariance, batch, watch)?;
        }
        let mut grids = Grids::new(self, "sample", options.spacing, false, batch);
        let grid = grids.of_chain(&sampling, watch)?;
        Ok(Ready { sampling, grid, class, batch })
    }

    /// Rows `[n, d]` in the network's units as samples in the data's own.
    pub(super) fn in_data_units(
        &self,
        scaled: &Tensor,
        classes: Option<Vec<u32>>,
        clipped: Clipped,
    ) -> Samples {
        let data = &self.run.data;
        let names = data.classes.clone();
        Samples {
            values: data.scaling.inverse(&to_vec(scaled)),
            columns: data.names(),
            types: data.cell_types(),
            image: data.image,
            latents: data.latents.clone(),
            labels: classes.map(|of_rows| Labels { names, of_rows }),
            clipped,
            table: None,
        }
    }

    /// `n` samples in the network's units, `[n, d]`, over the times of `grid`, of a class or given
    /// cells.
    pub(super) fn draw(
        &self,
        sampling: &Sampling,
        grid: &[f64],
        (class, cells): (Option<u32>, Option<&Cells>),
        (n, batch): (usize, usize),
        watch: &mut dyn Watch,
    ) -> Result<(Tensor, Clipped)> {
        watch.begin("sample", n as u64);
        let covariance = &*self.covariance(sampling.covariance)?;
        let group = &self.group;
        let ground = Ground { model: self.model(), covariance, grid, class, cells, group };
        let samples = sampling.draw(&ground, (n, batch), watch);
        watch.end();
        samples
    }

    /// `options` with everything decided for this density.
    pub(super) fn sampling(&self, options: &SampleOptions) -> Sampling {
        options.of(&self.run.model, self.is_large())
    }
}
