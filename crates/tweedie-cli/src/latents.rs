//! `tweedie latents`: images to latents of an autoencoder, and back.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;
use tch::Device;
use tweedie::autoencoder::{Autoencoder, EncodeImages};
use tweedie::data::{Crop, ImageSource, TableOptions};
use tweedie::density::Samples;
use tweedie::{Error, Result};
use tweedie_report::plot::Pictures;

use crate::Common;
use crate::console::Console;
use crate::output::{Format, Output, check_output};

#[derive(Args, Debug)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Images to a file of latents, to train on
    Encode(EncodeArguments),
    /// Latents to images
    Decode(DecodeArguments),
}

/// The autoencoder of latents.
#[derive(Args, Debug)]
#[command(next_help_heading = "Latents")]
pub struct VaeArguments {
    /// Of a run of latents: decode the samples to images by this autoencoder, the one that the
    /// latents are of
    #[arg(long, value_name = "VAE")]
    pub vae: Option<PathBuf>,
    /// Decode in tiles of this many latents a side, a multiple of 4, blended where they overlap:
    /// less memory, other pixels near edges [default: whole]
    #[arg(long, value_name = "SIDE", requires = "vae")]
    pub tile: Option<usize>,
}

impl VaeArguments {
    /// The autoencoder, where one is given.
    pub fn open(&self, device: Device) -> Result<Option<Autoencoder>> {
        Autoencoder::check_tile(self.tile)?;
        self.vae.as_ref().map(|path| Autoencoder::read(path, device)).transpose()
    }
}

#[derive(Args, Debug)]
#[command(after_help = "\
The file is an NPZ of `latents` [n, C, h, w] (f4), scaled as the autoencoder's configuration says; \
of AutoencoderKL, whose encoder gives Gaussians, they are means, and `std` their standard \
deviations, from which a training draws anew at every use. With --flip the latents of the mirrored \
images stand beside them as `mirrored`, and `tweedie train --flip` draws from both. What is done \
is kept in FILE.part: after a kill or Ctrl-C the same command goes on.

Examples:
  tweedie latents encode photos/ --vae sd-vae-ft-mse --crop shorter --size 256x256 -o latents.npz
  tweedie latents encode photos/ --vae taef2_encoder.pth --size 64x64 --flip -o latents.npz
  tweedie train --data latents.npz --out runs/latents --classes")]
pub struct EncodeArguments {
    /// Images: a folder, whose sub-folders are their classes, IDX, NPZ, NPY or CIFAR-10
    images: PathBuf,
    /// Folder of diffusers' AutoencoderKL or AutoencoderTiny, or TAESD's file of an encoder
    #[arg(long, value_name = "VAE")]
    vae: PathBuf,
    /// Encode the mirrored images too
    #[arg(long)]
    flip: bool,
    /// Keep the means of Gaussians alone: a training takes them as they are
    #[arg(long)]
    means: bool,
    /// Keep of each image the square in its middle, with this side or with its shorter side
    #[arg(long, value_name = "SIDE|shorter")]
    crop: Option<Crop>,
    /// Bring images to this height and width
    #[arg(long, value_name = "HxW", value_parser = crate::pictures::size)]
    size: Option<[usize; 2]>,
    /// Leave out and count images that cannot be decoded
    #[arg(long)]
    skip_corrupt: bool,
    /// The latents, .npz
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    common: Common,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tweedie latents decode latents.npz --vae sd-vae-ft-mse -o sheet.png
  tweedie latents decode samples.npz --vae sd-vae-ft-mse --tile 64 -o pictures/")]
pub struct DecodeArguments {
    /// Latents: what `tweedie latents encode` or `tweedie sample` wrote, or an NPY array
    /// [n, C, h, w] of scaled latents
    latents: PathBuf,
    /// The autoencoder that they are of
    #[arg(long, value_name = "VAE")]
    vae: PathBuf,
    /// Decode in tiles of this many latents a side, a multiple of 4, blended where they overlap:
    /// less memory, other pixels near edges [default: whole]
    #[arg(long, value_name = "SIDE")]
    tile: Option<usize>,
    /// Where to write: .png for a sheet of pictures, a new folder, its name with a slash at the
    /// end, for a PNG of each, .npy for an array of bytes
    #[arg(short, long, value_name = "FILE|DIR/")]
    out: PathBuf,
    #[command(flatten)]
    common: Common,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    match &arguments.command {
        Command::Encode(arguments) => encode(arguments),
        Command::Decode(arguments) => decode(arguments),
    }
}

fn encode(arguments: &EncodeArguments) -> Result<()> {
    let (out, common) = (&*arguments.out, &arguments.common);
    let device = common.prepare()?;
    if !is_npz(out) {
        let problem = format!("{} is no .npz", out.display());
        return Err(Error::config("--out", problem, "latents are written as .npz"));
    }
    check_output("--out", out, &[&arguments.images], &arguments.images, common.json)?;
    let vae = Autoencoder::read(&arguments.vae, device)?;
    let table = TableOptions {
        crop: arguments.crop,
        size: arguments.size,
        skip_corrupt: arguments.skip_corrupt,
        ..TableOptions::default()
    };
    let source = ImageSource::open(&arguments.images, &table)?;
    for left_out in source.left_out() {
        say!(common.quiet, "note: not read of {}: {left_out}", arguments.images.display());
    }
    let options = EncodeImages { flip: arguments.flip, means: arguments.means };
    let mut console = Console::new(common.quiet);
    let found = vae.encode_images(&source, &options, out, &mut console);
    drop(console);
    let found = found.map_err(|error| match error {
        Error::Interrupted(what) => {
            let part = format!("{}.part", out.display());
            Error::Interrupted(format!(
                "{what}: what is done is in {part}; the same command goes on"
            ))
        }
        error => error,
    })?;
    let [channels, height, width] = found.shape;
    if found.resumed > 0 {
        say!(common.quiet, "{} images were encoded before", found.resumed);
    }
    if found.corrupt > 0 {
        say!(common.quiet, "note: {} images cannot be decoded, and are left out", found.corrupt);
    }
    common.print(
        &json!({
            "rows": found.rows, "shape": found.shape, "classes": found.classes,
            "std": found.std, "mirrored": options.flip, "resumed": found.resumed,
            "left_out": found.corrupt, "vae": vae.name(), "digest": vae.digest(),
            "scale": vae.scale(), "shift": vae.shift(), "out": out,
        }),
        format!(
            "{} images as latents of {channels} × {height} × {width} ({} {}, {}, scale {})",
            found.rows,
            vae.kind(),
            vae.name(),
            vae.digest(),
            vae.scale()
        ),
    );
    Ok(())
}

fn decode(arguments: &DecodeArguments) -> Result<()> {
    let (out, common) = (&*arguments.out, &arguments.common);
    let device = common.prepare()?;
    let format = Format::of(out)?;
    if format == Format::Latents {
        return Err(Error::config("--out", "latents are decoded to images", "give .png or .npy"));
    }
    check_output("--out", out, &[&arguments.latents], &arguments.vae, common.json)?;
    Autoencoder::check_tile(arguments.tile)?;
    let vae = Autoencoder::read(&arguments.vae, device)?;
    let latents = Samples::read_latents(&arguments.latents, &vae)?;
    latents.latents.as_ref().map_or(Ok(()), |of| vae.check_of(of))?;
    let shape = vae.image_shape(latents.image.unwrap_or_default())?;
    let output = Output::of(format, out, || Ok(Pictures::images(shape)))?;
    let images = latents.decoded(&vae, arguments.tile)?;
    output.write(&images, common.quiet)?;
    if common.json {
        crate::terminal::print_json(&json!({ "rows": images.rows(), "image": shape, "out": out }));
    }
    Ok(())
}

/// Whether `path` is named as a file of latents.
pub fn is_npz(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("npz"))
}
