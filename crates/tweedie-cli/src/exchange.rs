//! `tweedie import` and `tweedie export`: models of diffusers, and published DiTs.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use tweedie::autoencoder::Autoencoder;
use tweedie::data::{Crop, TableOptions};
use tweedie::run::{self, DataConfig, Run};
use tweedie::{Error, Result};

use crate::Common;

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tweedie import ddpm-cifar10-32 --out runs/ddpm
  tweedie import DiT-XL-2-256x256.pt --out runs/dit
  tweedie train --data pictures/ --size 32x32 --out runs/ddpm-lm --score-from runs/ddpm --mode head
  tweedie sample runs/ddpm -n 16 --steps 50 --covariance beta -o sheet.png")]
pub struct ImportArguments {
    /// Folder of a DDPMPipeline, a DDIMPipeline, a DiTPipeline, a UNet2DModel or a
    /// DiTTransformer2DModel, with safetensors weights; or a checkpoint of the published DiT
    dir: PathBuf,
    /// The run directory to make
    #[arg(long, value_name = "RUN")]
    out: PathBuf,
    /// Heads of attention of a checkpoint [default: those of the published DiT of its width]
    #[arg(long, value_name = "N")]
    heads: Option<i64>,
    /// The autoencoder whose latents a DiT is of, as of `tweedie latents` [default: the folder vae
    /// of a DiTPipeline]
    #[arg(long, value_name = "VAE")]
    vae: Option<PathBuf>,
    /// The images that the model is of: what `evaluate` and the analytic covariance read of them
    #[arg(long, value_name = "IMAGES")]
    data: Option<String>,
    /// Keep of each of these images the square in its middle, with this side or with its shorter
    /// side
    #[arg(long, value_name = "SIDE|shorter", requires = "data")]
    crop: Option<Crop>,
    /// Bring these images to this height and width
    #[arg(long, value_name = "HxW", value_parser = crate::pictures::size, requires = "data")]
    size: Option<[usize; 2]>,
    /// Leave out and count images that cannot be decoded
    #[arg(long, requires = "data")]
    skip_corrupt: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  tweedie export runs/ddpm --out pipeline     # DDPMPipeline.from_pretrained(\"pipeline\")")]
pub struct ExportArguments {
    /// The run directory
    run: PathBuf,
    /// The folder to write; the covariance head gets a folder of its own in it, which import reads
    /// and diffusers does not
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    common: Common,
}

pub fn import(arguments: &ImportArguments) -> Result<()> {
    let device = arguments.common.prepare()?;
    let (from, out, heads) = (&arguments.dir, &arguments.out, arguments.heads);
    let vae = Autoencoder::of_pipeline(from, arguments.vae.as_deref(), device)?;
    let of_shape = vae.as_ref().map(|vae| |shape| vae.of_shape(shape));
    let latents_of = of_shape.as_ref().map(|of| of as _);
    let remark = match (from.is_file(), heads) {
        (true, _) => run::import_dit_checkpoint(from, heads, latents_of, out, device)?,
        (false, None) => run::import(from, latents_of, out, device)?,
        (false, Some(heads)) => {
            let remedy = "leave it out: a folder's config.json says it";
            return Err(Error::config("--heads", format!("{heads}, of a folder"), remedy));
        }
    };
    if let Some(remark) = remark {
        say!(arguments.common.quiet, "note: {remark}");
    }
    if let Some(source) = &arguments.data {
        let mut run = Run::load(&arguments.out, device)?;
        let table = TableOptions {
            crop: arguments.crop,
            size: arguments.size,
            skip_corrupt: arguments.skip_corrupt,
            ..TableOptions::default()
        };
        let (source, classes) = (source.clone(), !run.data.classes.is_empty());
        run.give_data(DataConfig { source, classes, table, ..DataConfig::default() })?;
    }
    let out = &arguments.out;
    arguments.common.print(&json!({ "out": out }), out.display());
    Ok(())
}

pub fn export(arguments: &ExportArguments) -> Result<()> {
    let device = arguments.common.prepare()?;
    run::export(&Run::load(&arguments.run, device)?, &arguments.out)?;
    let out = &arguments.out;
    arguments.common.print(&json!({ "out": out }), out.display());
    Ok(())
}
