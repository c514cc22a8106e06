//! Images of a source encoded to a file of latents, a part at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use tch::{Kind, Tensor};

use super::Autoencoder;
use crate::data::{ImageSource, LatentsWriter, OutputFile};
use crate::watch::{Watch, check_stop};
use crate::{Error, Result};

/// Images that are decoded, encoded and kept at a time, at most, and pixels of them.
const PART: usize = 256;
const PIXELS: usize = 1 << 22;

/// How images become latents.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct EncodeImages {
    /// Whether the mirrored images are encoded too, so that a training can draw from both.
    pub flip: bool,
    /// Whether means alone are kept of Gaussians.
    pub means: bool,
}

/// What was encoded.
#[derive(Clone, Debug, PartialEq)]
pub struct Encoded {
    /// Images.
    pub rows: usize,
    /// Channels, height and width of their latents.
    pub shape: [usize; 3],
    /// The names of their classes.
    pub classes: Vec<String>,
    /// Whether standard deviations are kept.
    pub std: bool,
    /// Images that were encoded by an earlier call.
    pub resumed: usize,
    /// Files that cannot be decoded, of those that this call has read.
    pub corrupt: usize,
}

/// Everything that what is done depends on: a part file of anything else is refused.
#[derive(Serialize)]
struct Header<'a> {
    version: u32,
    images: String,
    autoencoder: &'a str,
    shape: [usize; 3],
    image: [usize; 2],
    #[serde(flatten)]
    options: &'a EncodeImages,
}

impl Autoencoder {
    /// Encodes the images of `source` to the file of latents `out`. What is done is kept in
    /// `out` with `.part` at its end: after a stop or a kill the same call goes on from there, and
    /// gives the same file. `out` appears whole, at the end. One part of the images is in memory at
    /// a time.
    ///
    /// # Errors
    /// [`Error::Config`] if the images do not fit, or the part file is of other images, options or
    /// another autoencoder; [`Error::Interrupted`]; whatever is wrong with images and files.
    pub fn encode_images(
        &self,
        source: &ImageSource,
        options: &EncodeImages,
        out: &Path,
        watch: &mut dyn Watch,
    ) -> Result<Encoded> {
        let [channels, height, width] = source.shape();
        let shape = self.latent_shape([channels, height, width])?;
        let arrays = arrays(self.has_std() && !options.means, options.flip);
        let header = Header {
            version: 1,
            images: source.digest(),
            autoencoder: self.digest(),
            shape,
            image: [height, width],
            options,
        };
        // the name of the output is tried before the work
        let output = OutputFile::create(out)?;
        drop(output);
        let dim = arrays.len() * shape.iter().product::<usize>();
        let at_once = (PIXELS / (height * width)).clamp(1, PART);
        let mut part = PartFile::open(out, &header, dim, at_once)?;
        let (all, resumed) = (source.count(), part.numbers.len());
        let mut corrupt = 0;
        watch.begin("encode", all as u64);
        for start in (part.next()..all).step_by(at_once) {
            watch.progress(start as u64, all as u64);
            check_stop(watch)?;
            let images = source.read(start..all.min(start + at_once))?;
            corrupt += images.corrupt;
            if !images.numbers.is_empty() {
                part.push(&images.numbers, &self.rows(&images.levels, options))?;
            }
        }
        watch.progress(all as u64, all as u64);
        watch.end();
        let numbers = std::mem::take(&mut part.numbers);
        if numbers.is_empty() {
            part.delete()?;
            return Err(Error::data(out, "no image can be decoded", "give a folder of images"));
        }
        let mut file = LatentsWriter::begin(
            OutputFile::create(out)?,
            &self.latents_of([self.sizes.pixels as usize, height, width]),
        )?;
        for (i, name) in arrays.iter().enumerate() {
            let values = part.array(i, arrays.len(), numbers.len())?;
            file.array(name, numbers.len(), shape, values)?;
        }
        let labels = source.labels(&numbers);
        if let Some(labels) = &labels {
            file.labels(labels)?;
        }
        file.finish()?;
        part.delete()?;
        Ok(Encoded {
            rows: numbers.len(),
            shape,
            classes: labels.map_or_else(Vec::new, |labels| labels.names),
            std: arrays.contains(&"std"),
            resumed,
            corrupt,
        })
    }

    /// For each image the arrays of its latents one after the other, `[n, arrays · d]`.
    fn rows(&self, levels: &Tensor, options: &EncodeImages) -> Tensor {
        let encode = |levels: &Tensor| {
            let (mean, std) = self.encode(levels);
            let std = std.filter(|_| !options.means);
            [Some(mean), std].into_iter().flatten().map(|part| part.flatten(1, 3)).collect()
        };
        let mut parts: Vec<Tensor> = encode(levels);
        if options.flip {
            parts.extend(encode(&levels.flip([3])));
        }
        Tensor::cat(&parts, 1)
    }
}

/// The names of the arrays, in their order in a record.
fn arrays(std: bool, flip: bool) -> Vec<&'static str> {
    let all = [("latents", true), ("std", std), ("mirrored", flip), ("mirrored_std", flip && std)];
    all.into_iter().filter_map(|(name, there)| there.then_some(name)).collect()
}

/// What is done so far: a line of JSON that says of what, then a record for each image, its number
/// (u64) and its numbers (f32). It grows by whole parts of the source; what of the last one is
/// there is done again.
struct PartFile {
    path: PathBuf,
    file: File,
    /// Where the records start.
    start: u64,
    /// Numbers in a record.
    dim: usize,
    /// Images of a part of the source.
    at_once: usize,
    /// The numbers of the images that are done.
    numbers: Vec<usize>,
}

impl PartFile {
    fn open(out: &Path, header: &Header, dim: usize, at_once: usize) -> Result<PartFile> {
        let mut name = out.file_name().unwrap_or_default().to_owned();
        name.push(".part");
        let path = out.with_file_name(name);
        let line = serde_json::to_string(header).expect("plain data") + "\n";
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = file.map_err(Error::io(&path))?;
        let other = |problem: &str, remedy: &str| {
            Err(Error::config("out", format!("{} {problem}", path.display()), remedy))
        };
        if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
            return other("is being written by another process", "wait for it, or give another");
        }
        let mut reader = BufReader::new(&file);
        let mut found = Vec::new();
        let limit = line.len() as u64 + 4096;
        reader.by_ref().take(limit).read_until(b'\n', &mut found).map_err(Error::io(&path))?;
        let whole = found.ends_with(b"\n");
        if whole && found != line.as_bytes() {
            return other(
                "is what was done of other images, by other options or another autoencoder",
                "delete it, or give another output",
            );
        }
        let start = line.len() as u64;
        let mut numbers = Vec::new();
        if whole {
            let mut number = [0; 8];
            while reader.read_exact(&mut number).is_ok() {
                numbers.push(u64::from_le_bytes(number) as usize);
                if reader.seek_relative(4 * dim as i64).is_err() {
                    break;
                }
            }
        }
        drop(reader);
        // the last part may be cut off
        let last = numbers.last().map_or(0, |number| number / at_once);
        numbers.retain(|number| number / at_once < last);
        let record = 8 + 4 * dim as u64;
        file.set_len(start + numbers.len() as u64 * record).map_err(Error::io(&path))?;
        if !whole {
            file.set_len(0).map_err(Error::io(&path))?;
            file.seek(SeekFrom::Start(0)).map_err(Error::io(&path))?;
            file.write_all(line.as_bytes()).map_err(Error::io(&path))?;
        }
        file.seek(SeekFrom::End(0)).map_err(Error::io(&path))?;
        Ok(PartFile { path, file, start, dim, at_once, numbers })
    }

    /// The first image that is not done.
    fn next(&self) -> usize {
        self.numbers.last().map_or(0, |last| (last / self.at_once + 1) * self.at_once)
    }

    /// Adds the rows `[n, dim]` of the images of these numbers.
    fn push(&mut self, numbers: &[usize], rows: &Tensor) -> Result<()> {
        let rows = rows.to_device(tch::Device::Cpu).to_kind(Kind::Float).contiguous();
        let values: Vec<f32> = Vec::try_from(rows.view(-1)).expect("f32 on the CPU");
        let mut bytes = Vec::with_capacity(numbers.len() * (8 + 4 * self.dim));
        for (number, row) in numbers.iter().zip(values.chunks_exact(self.dim)) {
            bytes.extend((*number as u64).to_le_bytes());
            bytes.extend(row.iter().flat_map(|value| value.to_le_bytes()));
        }
        self.file.write_all(&bytes).map_err(Error::io(&self.path))?;
        self.numbers.extend(numbers);
        Ok(())
    }

    /// The bytes of the `i`-th of `arrays` of `rows` records, record by record.
    fn array(
        &self,
        i: usize,
        arrays: usize,
        rows: usize,
    ) -> Result<impl Iterator<Item = Result<Vec<u8>>>> {
        let (path, dim) = (self.path.clone(), self.dim / arrays);
        let mut reader =
            BufReader::with_capacity(1 << 20, File::open(&path).map_err(Error::io(&path))?);
        reader.seek(SeekFrom::Start(self.start)).map_err(Error::io(&path))?;
        let (before, after) = (8 + 4 * i * dim, 4 * (arrays - 1 - i) * dim);
        Ok((0..rows).map(move |_| {
            let mut bytes = vec![0; 4 * dim];
            let mut read = || {
                reader.seek_relative(before as i64)?;
                reader.read_exact(&mut bytes)?;
                reader.seek_relative(after as i64)
            };
            read().map_err(Error::io(&path))?;
            Ok(bytes)
        }))
    }

    fn delete(self) -> Result<()> {
        std::fs::remove_file(&self.path).map_err(Error::io(&self.path))
    }
}
