//! Rows of a run as the images that they are, or are decoded to.

use tch::Tensor;

use super::Autoencoder;
use crate::data::Scaling;
use crate::run::DataRecord;
use crate::tensor::to_vec;
use crate::{Error, Result};

/// Rows of images, or of latents with the autoencoder that decodes them, as levels of pixels.
pub struct ImageView {
    scaling: Scaling,
    /// The autoencoder and the shape of its latents, where rows are latents.
    latents: Option<(Autoencoder, [usize; 3])>,
    shape: [usize; 3],
}

impl ImageView {
    /// The view of the rows of `data`; none of a table, and of latents without their autoencoder.
    ///
    /// # Errors
    /// [`Error::Config`] for another autoencoder than the latents', and for one of rows that are no
    /// latents.
    pub fn of(data: &DataRecord, vae: Option<Autoencoder>) -> Result<Option<ImageView>> {
        let scaling = data.scaling.clone();
        match (data.image, &data.latents, vae) {
            (Some(shape), Some(of), Some(vae)) => {
                vae.check_of(of)?;
                let image = vae.image_shape(shape)?;
                Ok(Some(ImageView { scaling, latents: Some((vae, shape)), shape: image }))
            }
            (_, None, Some(_)) => {
                let remedy = "leave it out: it is for runs of latents";
                Err(Error::config("latents.vae", "the run is not of latents", remedy))
            }
            (Some(shape), None, None) => Ok(Some(ImageView { scaling, latents: None, shape })),
            _ => Ok(None),
        }
    }

    /// Channels, height and width of the images.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// Whether the images are decoded from latents.
    pub fn is_decoded(&self) -> bool {
        self.latents.is_some()
    }

    /// Levels, image after image, of rows `[n, d]` in the network's units. Black is 0, white 255;
    /// what lies outside is not clipped.
    ///
    /// # Errors
    /// As [`Autoencoder::decode_values`].
    pub fn levels(&self, rows: &Tensor) -> Result<Vec<f64>> {
        let values = self.scaling.inverse(&to_vec(rows));
        match &self.latents {
            Some((vae, shape)) => vae.decode_values(&values, *shape, None),
            None => Ok(values),
        }
    }
}
