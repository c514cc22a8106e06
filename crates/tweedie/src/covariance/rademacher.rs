//! The diagonal of the score's own covariance by random signs.

use tch::Tensor;

use super::{Covariance, CovarianceSources, Method, StepCovariance, jacobian};
use crate::model::Denoiser;
use crate::noise::Noise;
use crate::query::Query;
use crate::{Error, Result};

/// The diagonal of `I + σ²H` by so many vector–Jacobian products with random signs, drawn anew for
/// every row and step from the row's stream (Rademacher-M of OCM).
#[derive(Clone, Copy, Debug)]
pub struct Rademacher(usize);

impl Rademacher {
    /// By `probes` products per row.
    ///
    /// # Errors
    /// If there is none, or more than a million.
    pub fn new(probes: usize) -> Result<Rademacher> {
        Error::check_count("probes", probes, 1_000_000)?;
        Ok(Rademacher(probes))
    }
}

impl Method for Rademacher {
    const NAME: &str = "rademacher";

    fn build(sources: &CovarianceSources) -> Result<Rademacher> {
        Rademacher::new(sources.count)
    }
}

impl Covariance for Rademacher {
    fn name(&self) -> String {
        format!("{}-{}", Rademacher::NAME, self.0)
    }

    fn of(&self, model: &dyn Denoiser, q: &Query, streams: &mut Noise) -> (Tensor, StepCovariance) {
        let (noise, cov) = jacobian::rademacher(model, q, self.0, streams);
        (noise, StepCovariance::Posterior(cov))
    }
}
