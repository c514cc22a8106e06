//! A model of diffusers, judged by likelihood: bits per dimension of images under covariances that
//! cost nothing.
//!
//!     cargo run --release --example diffusers [FOLDER IMAGES]
//!
//! `FOLDER` is a pipeline's, or a `UNet2DModel`'s; `IMAGES` are of its shape. Without them a tiny
//! untrained network of the tests judges noise.

use std::path::PathBuf;

use tweedie::covariance::CovarianceConfig;
use tweedie::noise::Noise;
use tweedie::prelude::*;
use tweedie::tch::Device;

const TINY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/reference/unet/plain");

/// Eight images of noise in the model's shape.
fn noise(density: &Density) -> Result<Dataset> {
    let shape = density.run().data.image.expect("a model of images");
    let uniform = Noise::new(Seed(0), 0..8).uniform(shape.iter().product());
    Dataset::images(shape, uniform.into_iter().map(|u| (256.0 * u) as u8).collect())
}

fn main() -> Result<()> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let folder = arguments.first().cloned().unwrap_or_else(|| TINY.into());
    let density = Density::import(folder, Device::Cpu)?;
    let images = match arguments.get(1) {
        Some(path) => density.read(path)?,
        None => noise(&density)?,
    };
    use CovarianceConfig::{Beta, BetaTilde, ZeroHessian};
    let options = EvaluateOptions {
        rows: Some(64),
        steps: vec![10, 25],
        covariances: vec![BetaTilde, Beta, ZeroHessian],
        ..EvaluateOptions::default()
    };
    let evaluation = density.evaluate(&images, &options)?;
    println!("{}", evaluation.unit());
    for line in evaluation.own() {
        println!("{}: {:.2} ± {:.2}", line.subject, line.value, line.error);
    }
    Ok(())
}
