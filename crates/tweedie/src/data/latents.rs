//! Latents of images under an autoencoder: rows `[C, h, w]` of real numbers, and their file.
//!
//! The file is an NPZ archive of `latents` `[n, C, h, w]` (f4), of an encoder that gives Gaussians
//! their means, with `std` their standard deviations; `mirrored` and `mirrored_std` are those of
//! the mirrored images, since the latents of a mirrored image are not the mirrored latents.
//! `labels` `[n]` number the rows' `classes`. `vae`, `digest`, `scale`, `shift` and `image` say
//! what the latents are of.

use std::path::Path;

use serde::{Deserialize, Serialize};
use tch::{Device, Kind};

use super::column::{Column, ColumnKind};
use super::formats::{NpzReader, NpzStream, read_array};
use super::images::MOST_LEVELS;
use super::options::TableOptions;
use super::{Dataset, Labels, OutputFile};
use crate::noise::Noise;
use crate::{Error, Result};

/// The autoencoder and the images that latents are of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LatentsOf {
    /// The autoencoder's name.
    pub vae: String,
    /// Its digest ([`crate::autoencoder::Autoencoder::digest`]).
    pub digest: String,
    /// Latents are `(E(x) − shift) · scale`.
    pub scale: f64,
    /// As above.
    pub shift: f64,
    /// Channels, height and width of the images.
    pub image: [usize; 3],
}

/// Latents in memory.
#[derive(Clone, Debug)]
pub(super) struct Latents {
    /// Channels, height, width.
    pub shape: [usize; 3],
    pub of: LatentsOf,
    pub points: Points,
    /// Of the mirrored images.
    pub mirrored: Option<Points>,
}

/// Points, or Gaussians of independent numbers, row after row.
#[derive(Clone, Debug, Default)]
pub(super) struct Points {
    pub mean: Vec<f32>,
    pub std: Option<Vec<f32>>,
}

impl Points {
    fn map(&self, f: impl Fn(&[f32]) -> Vec<f32>) -> Points {
        Points { mean: f(&self.mean), std: self.std.as_deref().map(f) }
    }
}

impl Latents {
    pub fn dim(&self) -> usize {
        self.shape.iter().product()
    }

    pub fn row(&self, i: usize) -> &[f32] {
        &self.points.mean[i * self.dim()..(i + 1) * self.dim()]
    }

    /// The rows `rows`, in this order.
    pub fn take(&self, rows: &[usize]) -> Latents {
        let dim = self.dim();
        let taken = |values: &[f32]| {
            rows.iter().flat_map(|&i| &values[i * dim..(i + 1) * dim]).copied().collect()
        };
        let (points, mirrored) = (self.points.map(taken), &self.mirrored);
        let mirrored = mirrored.as_ref().map(|points| points.map(taken));
        Latents { points, mirrored, of: self.of.clone(), ..*self }
    }

    /// A draw from each row's Gaussian, or its point, by the row's stream; with `mirror` half of
    /// the draws are of the mirrored images, where there are any.
    pub fn draw(&self, rows: &[usize], mirror: bool, noise: &mut Noise) -> Vec<f32> {
        let dim = self.dim();
        let flips = match &self.mirrored {
            Some(other) if mirror => {
                noise.uniform(1).into_iter().map(|u| (u < 0.5).then_some(other)).collect()
            }
            _ => vec![None; rows.len()],
        };
        let z: Vec<f32> = match self.points.std {
            Some(_) => {
                let z = noise.normal(dim, Kind::Float, Device::Cpu);
                Vec::try_from(z.view(-1)).expect("f32 on the CPU")
            }
            None => Vec::new(),
        };
        let mut values = Vec::with_capacity(rows.len() * dim);
        for (k, (&row, other)) in rows.iter().zip(flips).enumerate() {
            let (points, cells) = (other.unwrap_or(&self.points), row * dim..(row + 1) * dim);
            let mean = &points.mean[cells.clone()];
            match &points.std {
                None => values.extend(mean),
                Some(std) => {
                    let z = &z[k * dim..(k + 1) * dim];
                    let drawn = mean.iter().zip(&std[cells]).zip(z).map(|((m, s), z)| m + s * z);
                    values.extend(drawn);
                }
            }
        }
        values
    }
}

/// The columns of `dim` latents: `z1`, `z2`, …
pub(super) fn latent_columns(dim: usize) -> Vec<Column> {
    (1..=dim).map(|i| Column { name: format!("z{i}"), kind: ColumnKind::Float }).collect()
}

const REMEDY: &str = "give what `tweedie latents encode` wrote";

/// The latents in the file at `path`; nothing where it holds none.
pub(super) fn read(path: &Path, options: &TableOptions) -> Result<Option<Dataset>> {
    let named = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("npz"));
    if !(named && path.is_file()) {
        return Ok(None);
    }
    let mut file = NpzReader::open(path)?;
    let Some(found) = file.shape("latents")? else { return Ok(None) };
    let wrong = |problem: String| Error::data(path, problem, REMEDY);
    let &[n, channels, height, width] = &found[..] else {
        return Err(wrong(format!(
            "its array 'latents' has the shape {found:?}, not [n, C, h, w]"
        )));
    };
    let shape = [channels, height, width];
    let dim = shape.iter().try_fold(1usize, |dim, &n| dim.checked_mul(n));
    let dim =
        dim.filter(|dim| (1..=MOST_LEVELS).contains(dim) && n > 0 && n.checked_mul(*dim).is_some());
    let dim = dim.ok_or_else(|| wrong(format!("its latents have the shape {found:?}")))?;
    if let Some((option, _)) = options.of_images().into_iter().find(|(_, given)| *given) {
        let problem = format!("{} holds latents, which have one size", path.display());
        return Err(Error::config(option, problem, "leave it out: bring images to it, and encode"));
    }
    let names: Vec<String> = latent_columns(dim).into_iter().map(|column| column.name).collect();
    if !(options.columns.is_empty() || options.columns == names) || !options.drop.is_empty() {
        let problem = format!("{} holds latents of {shape:?} = {dim} numbers", path.display());
        let remedy = "give data of the same kind and shape";
        return Err(Error::config("data.table.columns", problem, remedy));
    }
    let mut array = |name: &str| -> Result<Option<Vec<f32>>> {
        let values = file.singles(name, &found)?;
        let of_std = name.ends_with("std");
        let bad = |v: &f32| !v.is_finite() || of_std && *v < 0.0;
        match values.as_ref().and_then(|values| values.iter().find(|v| bad(v))) {
            Some(value) => Err(wrong(format!("its array '{name}' holds {value}"))),
            None => Ok(values),
        }
    };
    let mean = array("latents")?.unwrap_or_default();
    let points = Points { mean, std: array("std")? };
    let mirrored = match array("mirrored")? {
        Some(mean) => Some(Points { mean, std: array("mirrored_std")? }),
        None => None,
    };
    if mirrored.as_ref().is_some_and(|other| other.std.is_some() != points.std.is_some()) {
        return Err(wrong("has standard deviations for some of its latents alone".into()));
    }
    let missing = |what: &str| wrong(format!("does not say which autoencoder it is of ('{what}')"));
    let mut text = |name: &str| file.text(name)?.ok_or_else(|| missing(name));
    let (vae, digest) = (text("vae")?, text("digest")?);
    let mut number = |name: &str, axes: &[Option<usize>]| {
        file.numbers(name, axes, 3)?.ok_or_else(|| missing(name))
    };
    let (scale, shift) = (number("scale", &[])?[0], number("shift", &[])?[0]);
    let image = number("image", &[Some(3)])?;
    if !(scale.is_normal() && scale > 0.0 && shift.is_finite()) {
        return Err(wrong(format!("has the scale {scale} and the shift {shift}")));
    }
    let image = [0, 1, 2].map(|i| image[i].clamp(0.0, MOST_LEVELS as f64) as usize);
    let of = LatentsOf { vae, digest, scale, shift, image };
    let labels = match (file.numbers("labels", &[Some(n)], n)?, file.texts("classes")?) {
        (Some(numbers), Some(names)) => {
            let number = |&value: &f64| {
                let known = value.fract() == 0.0 && (0.0..names.len() as f64).contains(&value);
                known.then_some(value as u32).ok_or_else(|| {
                    wrong(format!("has the label {value} of {} classes", names.len()))
                })
            };
            let of_rows = numbers.iter().map(number).collect::<Result<_>>()?;
            Some(Labels { names, of_rows })
        }
        _ => None,
    };
    let data = Dataset::of_latents(Latents { shape, of, points, mirrored });
    Ok(Some(Dataset { source: path.to_owned(), labels, options: options.clone(), ..data }))
}

/// Values, row after row, and shape of the latents in a file, and what they are of; an NPY array
/// does not say.
pub(crate) fn read_latents(path: &Path) -> Result<(Vec<f64>, [usize; 3], Option<LatentsOf>)> {
    if let Some(data) = read(path, &TableOptions::default())? {
        let shape = data.image().expect("latents have a shape");
        let values = data.values().into_iter().map(f64::from).collect();
        return Ok((values, shape, data.latents_of().cloned()));
    }
    let wrong = |problem: String| Err(Error::data(path, problem, REMEDY));
    if !path.extension().is_some_and(|e| e.eq_ignore_ascii_case("npy")) {
        return wrong("holds no latents".into());
    }
    let (shape, values) = read_array(path)?;
    match shape[..] {
        [n, channels, height, width] if n * channels * height * width > 0 => {
            Ok((values, [channels, height, width], None))
        }
        _ => wrong(format!("holds an array {shape:?}, latents are [n, C, h, w]")),
    }
}

/// A file of latents being written, array after array, each row by row.
pub(crate) struct LatentsWriter(NpzStream);

impl LatentsWriter {
    /// The arrays that say what the latents are of.
    pub fn begin(out: OutputFile, of: &LatentsOf) -> Result<LatentsWriter> {
        let mut file = NpzStream::new(out);
        file.text("vae", &of.vae)?;
        file.text("digest", &of.digest)?;
        file.bytes("scale", "<f8", &[], of.scale.to_le_bytes())?;
        file.bytes("shift", "<f8", &[], of.shift.to_le_bytes())?;
        let image = of.image.iter().flat_map(|&n| (n as i64).to_le_bytes());
        file.bytes("image", "<i8", &[3], image)?;
        Ok(LatentsWriter(file))
    }

    /// An array `[n, C, h, w]` of f4.
    pub fn array(
        &mut self,
        name: &str,
        n: usize,
        [channels, height, width]: [usize; 3],
        values: impl Iterator<Item = Result<Vec<u8>>>,
    ) -> Result<()> {
        self.0.parts(name, "<f4", &[n, channels, height, width], values)
    }

    pub fn labels(&mut self, labels: &Labels) -> Result<()> {
        let numbers = labels.of_rows.iter().flat_map(|&label| i64::from(label).to_le_bytes());
        self.0.bytes("labels", "<i8", &[labels.of_rows.len()], numbers)?;
        self.0.texts("classes", &labels.names)
    }

    pub fn finish(self) -> Result<()> {
        self.0.finish()
    }
}

/// Writes `values` `[n, C, h, w]`, such as samples, as a file of latents.
///
/// # Errors
/// [`Error::Io`] if the file cannot be written.
pub(crate) fn write_latents(
    out: OutputFile,
    (shape, of): ([usize; 3], &LatentsOf),
    values: &[f64],
    labels: Option<&Labels>,
) -> Result<()> {
    let dim = shape.iter().product::<usize>();
    let mut file = LatentsWriter::begin(out, of)?;
    let bytes = |row: &[f64]| Ok(row.iter().flat_map(|&v| (v as f32).to_le_bytes()).collect());
    file.array("latents", values.len() / dim, shape, values.chunks_exact(dim).map(bytes))?;
    labels.map_or(Ok(()), |labels| file.labels(labels))?;
    file.finish()
}
