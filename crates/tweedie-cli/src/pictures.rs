//! Sizes of pictures on the command line.

use tweedie::density::Density;
use tweedie::{Error, Result};
use tweedie_report::plot::Pictures;

/// How rows of `density` are shown: its images, or grey pictures of the shape `given`.
pub fn pictures(density: &Density, given: Option<&str>) -> Result<Pictures> {
    let data = &density.run().data;
    if data.latents.is_some() && given.is_none() {
        let problem = "the run is of latents, which are no pictures";
        let remedy = "give the autoencoder they are of, or an --out that ends in .npz";
        return Err(Error::config("latents.vae", problem, remedy));
    }
    if let (Some(shape), None) = (data.levels(), given) {
        return Ok(Pictures::images(shape));
    }
    if data.schema.is_some() {
        let problem = "the run has categories or missing cells, which are no pixels";
        return Err(Error::config(
            "--shape",
            problem,
            "leave it out, or train with data.types = numbers",
        ));
    }
    let (height, width) = picture_shape(given, data.scaling.dim())?;
    Ok(Pictures::grey(height, width))
}

/// `HxW`, or the square that fits.
fn picture_shape(given: Option<&str>, dim: usize) -> Result<(usize, usize)> {
    let wrong = |problem: String| {
        Error::config("--shape", problem, format!("give HxW with H times W = {dim}"))
    };
    let (height, width) = match given {
        None => {
            let side = (dim as f64).sqrt().round() as usize;
            (side, side)
        }
        Some(text) => {
            let [height, width] = size(text).map_err(|_| wrong(format!("'{text}' is not HxW")))?;
            (height, width)
        }
    };
    if height.checked_mul(width) != Some(dim) {
        return Err(wrong(format!("{dim} columns are not {height} x {width} pixels")));
    }
    Ok((height, width))
}

/// `HxW`.
pub fn size(text: &str) -> std::result::Result<[usize; 2], String> {
    let (height, width) = text.split_once('x').ok_or("not HxW, such as 32x32")?;
    let side = |text: &str| text.parse().map_err(|_| format!("{text:?} is not a number of pixels"));
    Ok([side(height)?, side(width)?])
}
