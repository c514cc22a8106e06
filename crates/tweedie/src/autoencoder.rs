//! Frozen autoencoders of images: from levels to latents `[C, h, w]`, and back.
//!
//! A latent diffusion model (Rombach et al. 2022) is trained on `z = (E(x) − shift) · scale`, `E`
//! being the encoder of an autoencoder that others trained. [`Autoencoder::read`] reads diffusers'
//! `AutoencoderKL`, whose encoder gives a Gaussian for each image, mean and standard deviation, and
//! `AutoencoderTiny` (TAESD), whose encoder gives one point. Likelihoods of a model of latents are
//! of `z`, never of pixels.
//!
//! They compute in f32 whatever their files are in, so that `force_upcast` asks for nothing.

mod encode;
mod kl;
mod tiny;
mod view;

use std::path::{Path, PathBuf};

use tch::{Device, Kind, Tensor, no_grad};

use crate::data::{LatentsOf, hash_words};
use crate::model::layers::Pass;
use crate::model::{Builder, Mode, Parameters, UNetConfig};
use crate::noise::Seed;
use crate::run::{
    arranged, cannot_compute, check_size, import, read_json, read_named, weight_files,
};
use crate::tensor::to_vec;
use crate::{Error, Result};
pub use encode::{EncodeImages, Encoded};
use kl::Kl;
use tiny::Tiny;
pub use view::ImageView;

const CONFIG: &str = "config.json";
/// Where the autoencoder lies in the folder of a pipeline.
const VAE: &str = "vae";
const REMEDY: &str = "give the vae folder of a diffusers model (AutoencoderKL or \
                      AutoencoderTiny), or TAESD's file of an encoder, its decoder beside it";
/// Pixels that are encoded or decoded at a time, but for those of one image.
const PIXELS: [i64; 2] = [1 << 18, 1 << 21];

/// As [`import`], latents being of the autoencoder at `vae`, or else of that in the folder's own
/// `vae`.
///
/// # Errors
/// As [`import`] and [`Autoencoder::read`].
pub fn import_pipeline(
    dir: &Path,
    vae: Option<&Path>,
    out: &Path,
    device: Device,
) -> Result<Option<String>> {
    let vae = Autoencoder::of_pipeline(dir, vae, device)?;
    let of_shape = vae.as_ref().map(|vae| |shape| vae.of_shape(shape));
    import(dir, of_shape.as_ref().map(|of| of as _), out, device)
}

/// An autoencoder with its weights, which are not trained here.
pub struct Autoencoder {
    network: Network,
    parameters: Parameters,
    sizes: Sizes,
    name: String,
    digest: String,
    device: Device,
}

enum Network {
    Kl(Box<Kl>),
    Tiny(Tiny),
}

/// What an autoencoder takes and gives.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Sizes {
    /// Channels of images, in and out.
    pixels: i64,
    /// Channels of latents.
    latents: i64,
    /// Sides of an image by sides of its latents.
    factor: i64,
    scale: f64,
    shift: f64,
}

/// An autoencoder's kind, as its `config.json` has it.
#[derive(serde::Deserialize)]
struct Class {
    #[serde(rename = "_class_name", default)]
    name: String,
}

/// Fields of a configuration that no version known here has: all but metadata (`_…`) and those
/// that say nothing (null) are refused by name.
type Unknown = std::collections::BTreeMap<String, serde_json::Value>;

fn unknown(fields: &Unknown) -> std::result::Result<(), String> {
    match fields.iter().find(|(name, value)| !(name.starts_with('_') || value.is_null())) {
        Some((name, value)) => Err(format!("{name} = {value}, which is not known here")),
        None => Ok(()),
    }
}

/// An entry of a list of what is refused: whether it is there, and its name.
fn refused<const N: usize>(list: [(bool, String); N]) -> std::result::Result<(), String> {
    list.into_iter().find(|(there, _)| *there).map_or(Ok(()), |(_, what)| Err(what))
}

impl Autoencoder {
    /// The autoencoder at `path`: the folder that diffusers' `save_pretrained` writes, its weights
    /// whole or in parts; the folder of a pipeline, whose `vae` it is; or the `.pth` or
    /// `.safetensors` file of one half of a TAESD in its own layout, the other half beside it under
    /// the same name but for `encoder` and `decoder`.
    ///
    /// # Errors
    /// If a file is missing or damaged, or the configuration has a field that cannot be honoured
    /// here: the error names it.
    pub fn read(path: impl AsRef<Path>, device: Device) -> Result<Autoencoder> {
        let path = path.as_ref();
        if path.is_file() {
            return Autoencoder::of_halves(path, device);
        }
        let inner = path.join(VAE);
        let dir = if inner.join(CONFIG).is_file() { inner } else { path.to_owned() };
        let file = dir.join(CONFIG);
        let class: Class = read_json(&file, REMEDY)?;
        let refuse = |what| cannot_compute(&file, what);
        let mut builder = Builder::counting();
        let (network, sizes) = match &*class.name {
            "AutoencoderKL" => {
                let config: kl::Config = read_json(&file, REMEDY)?;
                config.check().map_err(refuse)?;
                let network = Kl::new(&config, &mut builder);
                (Network::Kl(Box::new(network)), config.sizes())
            }
            "AutoencoderTiny" => {
                let config: tiny::Config = read_json(&file, REMEDY)?;
                config.check().map_err(refuse)?;
                let network = Tiny::new(&config.layout(), &mut builder);
                (Network::Tiny(network), config.sizes())
            }
            other => {
                let what = format!("the class {other:?}, not AutoencoderKL or AutoencoderTiny");
                return Err(refuse(what));
            }
        };
        let found = read_named(&dir, &weight_files(&dir)?)?;
        let count = found.values().map(|values| values.numel() as i64).sum();
        check_size(&file, builder.size(), count)?;
        let flat = arranged(&dir, found, builder.entries())?;
        let named = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        Ok(Autoencoder::new(network, sizes, builder.over(flat.to_device(device)), &named, device))
    }

    /// The autoencoder of two state dicts in TAESD's layout, one of which is at `path`.
    fn of_halves(path: &Path, device: Device) -> Result<Autoencoder> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let beside = |own: &str, other: &str| -> Option<PathBuf> {
            let at = name.rfind(own)?;
            let other = format!("{}{other}{}", &name[..at], &name[at + own.len()..]);
            Some(path.with_file_name(other))
        };
        let [encoder, decoder] = match (beside("encoder", "decoder"), beside("decoder", "encoder"))
        {
            (Some(decoder), _) => [path.to_owned(), decoder],
            (None, Some(encoder)) => [encoder, path.to_owned()],
            (None, None) => {
                let problem = "is a file, and no half of an autoencoder by its name";
                return Err(Error::data(path, problem, REMEDY));
            }
        };
        let (layout, found) = tiny::of_halves(&encoder, &decoder)?;
        let mut builder = Builder::counting();
        let network = Tiny::new(&layout, &mut builder);
        let flat = arranged(&encoder, found, builder.entries())?;
        let parameters = builder.over(flat.to_device(device));
        Ok(Autoencoder::new(Network::Tiny(network), layout.sizes(), parameters, path, device))
    }

    fn new(
        network: Network,
        sizes: Sizes,
        parameters: Parameters,
        path: &Path,
        device: Device,
    ) -> Autoencoder {
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let groups = match &network {
            Network::Kl(kl) => kl.groups,
            Network::Tiny(_) => 0,
        };
        let numbers = [sizes.scale, sizes.shift, groups as f64].map(f64::to_bits);
        let names = parameters.entries().iter().flat_map(|entry| {
            let shape = entry.shape.iter().map(|&n| n as u64);
            entry.name.bytes().map(u64::from).chain(shape).collect::<Vec<u64>>()
        });
        let weights = parameters.flat().split(1 << 22, 0).into_iter().flat_map(|part| {
            let values: Vec<f32> = Vec::try_from(part).expect("f32 weights");
            values.into_iter().map(|value| u64::from((value + 0.0).to_bits()))
        });
        let digest = hash_words(numbers.into_iter().chain(names).chain(weights));
        Autoencoder { network, parameters, sizes, name, digest, device }
    }

    /// `AutoencoderKL` or `AutoencoderTiny`.
    pub fn kind(&self) -> &'static str {
        match self.network {
            Network::Kl(_) => "AutoencoderKL",
            Network::Tiny(_) => "AutoencoderTiny",
        }
    }

    /// The name of the folder or file that it was read from.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A digest of weights, layout, scale and shift, 16 hexadecimal digits: latents of equal
    /// digests are of one autoencoder. Not for secrets.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// What latents are multiplied by, after the shift is subtracted.
    pub fn scale(&self) -> f64 {
        self.sizes.scale
    }

    /// What is subtracted from the encoder's outputs.
    pub fn shift(&self) -> f64 {
        self.sizes.shift
    }

    /// Whether the encoder gives a Gaussian for each image, and not a point.
    pub fn has_std(&self) -> bool {
        matches!(self.network, Network::Kl(_))
    }

    /// Sides of an image by sides of its latents.
    pub fn factor(&self) -> usize {
        self.sizes.factor as usize
    }

    /// Channels, height and width of the latents of images of this shape; grey images are taken as
    /// red, green and blue alike.
    ///
    /// # Errors
    /// [`Error::Config`] if the factor does not divide their sides, or for other channels.
    pub fn latent_shape(&self, [channels, height, width]: [usize; 3]) -> Result<[usize; 3]> {
        let (factor, own) = (self.factor(), self.sizes.pixels as usize);
        if channels != own && channels != 1 {
            let problem = format!("{} takes images of {own} channels, not {channels}", self.name);
            return Err(Error::config("latents.vae", problem, "give images of as many"));
        }
        if height % factor != 0 || width % factor != 0 || height == 0 || width == 0 {
            let problem = format!(
                "images of {height} × {width} pixels have sides that {}'s factor {factor} does not \
                 divide",
                self.name
            );
            let side = |length: usize| length.div_ceil(factor).max(1) * factor;
            let remedy =
                format!("bring them to data.table.size = {}x{}", side(height), side(width));
            return Err(Error::config("latents.vae", problem, remedy));
        }
        Ok([self.sizes.latents as usize, height / factor, width / factor])
    }

    /// Channels, height and width of the images that latents of this shape are decoded to.
    ///
    /// # Errors
    /// [`Error::Config`] if the autoencoder's latents have other channels.
    pub fn image_shape(&self, [channels, height, width]: [usize; 3]) -> Result<[usize; 3]> {
        if channels != self.sizes.latents as usize {
            let own = self.sizes.latents;
            let problem = format!("{} has latents of {own} channels, not {channels}", self.name);
            return Err(Error::config("latents.vae", problem, "give the latents' own"));
        }
        let factor = self.factor();
        Ok([self.sizes.pixels as usize, height * factor, width * factor])
    }

    /// Mean and standard deviation `[n, C, h, w]` (f32) of the latents of images
    /// `[n, channels, H, W]` of levels 0…255, scaled; no standard deviation where the encoder gives
    /// points. An image's latents do not depend on those beside it.
    ///
    /// # Panics
    /// For images that [`Autoencoder::latent_shape`] refuses.
    pub fn encode(&self, levels: &Tensor) -> (Tensor, Option<Tensor>) {
        let (_, channels, height, width) = levels.size4().expect("images [n, channels, H, W]");
        let shape = [channels, height, width].map(|n| n as usize);
        self.latent_shape(shape).unwrap_or_else(|e| panic!("{e}"));
        let (p, Sizes { scale, shift, pixels, .. }) = (&self.pass(), self.sizes);
        let part = |levels: &Tensor| {
            let levels = levels.to_device(self.device).to_kind(Kind::Float);
            let levels = levels.expand([-1, pixels, -1, -1], false);
            let (mean, std) = match &self.network {
                Network::Kl(kl) => {
                    let (mean, std) = kl.encode(p, &(levels / 127.5 - 1.0));
                    (mean, Some(std * scale))
                }
                Network::Tiny(tiny) => (tiny.encode(p, &(levels / 255.0)), None),
            };
            ((mean - shift) * scale, std)
        };
        let (means, stds): (Vec<Tensor>, Vec<Option<Tensor>>) =
            no_grad(|| levels.split(self.at_once(height * width), 0).iter().map(part).unzip());
        let stds: Option<Vec<Tensor>> = stds.into_iter().collect();
        (Tensor::cat(&means, 0), stds.map(|stds| Tensor::cat(&stds, 0)))
    }

    /// Images `[n, channels, H, W]` (f32) of scaled latents `[n, C, h, w]`, as levels: black is 0,
    /// white 255. What lies outside is not clipped.
    ///
    /// # Panics
    /// For latents that [`Autoencoder::image_shape`] refuses.
    pub fn decode(&self, latents: &Tensor) -> Tensor {
        self.decode_by(latents, |part| self.decoded(part))
    }

    /// As [`Autoencoder::decode`] in tiles of `side` × `side` latents, a multiple of 4, which
    /// overlap by a quarter and are blended there (diffusers' `tiled_decode`): memory follows the
    /// tile's size, not the image's. A tile sees nothing beyond its edges, and normalises over
    /// itself alone: pixels differ from the whole image's, but where no normalisation is within
    /// reach and no edge.
    ///
    /// # Panics
    /// As [`Autoencoder::decode`], and for another side.
    pub fn decode_in_tiles(&self, latents: &Tensor, side: usize) -> Tensor {
        assert!(side > 0 && side.is_multiple_of(4), "tiles of {side} latents");
        self.decode_by(latents, |part| {
            tiled(part, side as i64, self.sizes.factor, |tile| self.decoded(tile))
        })
    }

    fn decode_by(&self, latents: &Tensor, decode: impl Fn(&Tensor) -> Tensor) -> Tensor {
        let (_, channels, height, width) = latents.size4().expect("latents [n, C, h, w]");
        self.image_shape([channels, height, width].map(|n| n as usize))
            .unwrap_or_else(|e| panic!("{e}"));
        let at_once = self.at_once(height * width * self.sizes.factor.pow(2));
        let part = |latents: &Tensor| {
            let latents = latents.to_device(self.device).to_kind(Kind::Float);
            decode(&(latents / self.sizes.scale + self.sizes.shift))
        };
        let parts: Vec<Tensor> = no_grad(|| latents.split(at_once, 0).iter().map(part).collect());
        Tensor::cat(&parts, 0)
    }

    /// The autoencoder at `given`, or else the one in the folder `vae` of the pipeline at `dir`;
    /// none where there is neither.
    ///
    /// # Errors
    /// As [`Autoencoder::read`].
    pub fn of_pipeline(
        dir: &Path,
        given: Option<&Path>,
        device: Device,
    ) -> Result<Option<Autoencoder>> {
        let own = Some(dir.join("vae")).filter(|vae| vae.join("config.json").is_file());
        let path = given.map(Path::to_path_buf).or(own);
        path.map(|path| Autoencoder::read(path, device)).transpose()
    }

    /// What latents of images of this shape are of, for their file and for records.
    pub fn latents_of(&self, image: [usize; 3]) -> LatentsOf {
        let Sizes { scale, shift, .. } = self.sizes;
        LatentsOf { vae: self.name.clone(), digest: self.digest.clone(), scale, shift, image }
    }

    /// What latents of this shape are of.
    ///
    /// # Errors
    /// If it has latents of other channels.
    pub fn of_shape(&self, latents: [usize; 3]) -> Result<LatentsOf> {
        Ok(self.latents_of(self.image_shape(latents)?))
    }

    /// Refuses to decode latents of another autoencoder.
    ///
    /// # Errors
    /// [`Error::Config`] that names both.
    pub fn check_of(&self, of: &LatentsOf) -> Result<()> {
        if of.digest == self.digest {
            return Ok(());
        }
        let problem = format!(
            "the latents are of the autoencoder {} ({}), this is {} ({})",
            of.vae, of.digest, self.name, self.digest
        );
        Err(Error::config("latents.vae", problem, "give the one they were encoded by"))
    }

    /// Refuses a side that no tile has ([`Autoencoder::decode_in_tiles`]).
    ///
    /// # Errors
    /// [`Error::Config`] if it is no multiple of 4.
    pub fn check_tile(tile: Option<usize>) -> Result<()> {
        match tile.filter(|side| *side == 0 || !side.is_multiple_of(4)) {
            Some(side) => {
                let problem = format!("{side} latents");
                Err(Error::config("latents.tile", problem, "give a multiple of 4, as 64"))
            }
            None => Ok(()),
        }
    }

    /// Levels, row after row, of latents `[C, h, w]`, row after row; whole or in tiles of so many.
    ///
    /// # Errors
    /// As [`Autoencoder::image_shape`], and for a side that no tile has.
    pub fn decode_values(
        &self,
        latents: &[f64],
        shape: [usize; 3],
        tile: Option<usize>,
    ) -> Result<Vec<f64>> {
        self.image_shape(shape)?;
        Autoencoder::check_tile(tile)?;
        let [channels, height, width] = shape.map(|n| n as i64);
        let mut levels = Vec::new();
        // a few at a time: all as doubles beside all as singles would be twice the memory
        let dim = (channels * height * width) as usize;
        let at_once = self.at_once(height * width * self.sizes.factor.pow(2)) as usize;
        for part in latents.chunks((at_once * dim).max(1)) {
            let z = Tensor::from_slice(part).view([-1, channels, height, width]);
            let images = match tile {
                Some(side) => self.decode_in_tiles(&z, side),
                None => self.decode(&z),
            };
            levels.extend(to_vec(&images));
        }
        Ok(levels)
    }

    /// Levels of the encoder's own outputs.
    fn decoded(&self, latents: &Tensor) -> Tensor {
        let p = &self.pass();
        match &self.network {
            Network::Kl(kl) => (kl.decode(p, latents) + 1.0) * 127.5,
            Network::Tiny(tiny) => tiny.decode(p, latents) * 255.0,
        }
    }

    fn pass(&self) -> Pass {
        Pass::new(&self.parameters, Mode::default())
    }

    /// How many images of so many pixels are computed at once.
    fn at_once(&self, pixels: i64) -> i64 {
        let budget = PIXELS[usize::from(self.device.is_cuda())];
        (budget / pixels.max(1)).clamp(1, 64)
    }
}

/// The configuration that layers here take their groups from.
fn layers_of(groups: i64, norm_epsilon: f64) -> UNetConfig {
    UNetConfig { groups, norm_epsilon, head_dim: 0, ..UNetConfig::default() }
}

/// The seed of initial weights, which are never made.
const UNSEEDED: Seed = Seed(0);

/// `decode` of tiles of `side` latents, an overlap of a quarter blended linearly: first with the
/// tile above, then with that on the left (diffusers' `AutoencoderKL.tiled_decode`).
fn tiled(z: &Tensor, side: i64, factor: i64, decode: impl Fn(&Tensor) -> Tensor) -> Tensor {
    let (_, _, height, width) = z.size4().expect("latents");
    let (stride, overlap) = (side * 3 / 4, side / 4 * factor);
    let starts = |length: i64| (0..length).step_by(stride as usize);
    let mut above: Vec<Tensor> = Vec::new();
    let mut lines = Vec::new();
    for top in starts(height) {
        let strip = z.narrow(2, top, side.min(height - top));
        let mut row: Vec<Tensor> = Vec::new();
        for (j, left) in starts(width).enumerate() {
            let tile = decode(&strip.narrow(3, left, side.min(width - left)));
            if let Some(above) = above.get(j) {
                blend(above, &tile, 2, overlap);
            }
            if let Some(before) = row.last() {
                blend(before, &tile, 3, overlap);
            }
            row.push(tile);
        }
        let kept = |tile: &Tensor| {
            let (_, _, h, w) = tile.size4().expect("an image");
            tile.narrow(2, 0, h.min(stride * factor)).narrow(3, 0, w.min(stride * factor))
        };
        lines.push(Tensor::cat(&row.iter().map(kept).collect::<Vec<_>>(), 3));
        above = row;
    }
    Tensor::cat(&lines, 2)
}

/// Blends the last pixels of `before` along `dim` into the first ones of `tile`, in place.
fn blend(before: &Tensor, tile: &Tensor, dim: i64, overlap: i64) {
    let length = |x: &Tensor| x.size()[dim as usize];
    let extent = overlap.min(length(before)).min(length(tile));
    let weight = Tensor::arange(extent, (Kind::Float, tile.device())) / extent as f64;
    let weight = if dim == 2 { weight.view([1, 1, -1, 1]) } else { weight.view([1, 1, 1, -1]) };
    let mut first = tile.narrow(dim, 0, extent);
    let last = before.narrow(dim, length(before) - extent, extent);
    let blended = last * (1.0 - &weight) + &first * weight;
    first.copy_(&blended);
}
