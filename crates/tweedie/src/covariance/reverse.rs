//! The reverse distribution that samplers draw from and ELBOs take the divergence to.

use std::rc::Rc;

use tch::Tensor;

use super::{Covariance, StepCovariance};
use crate::gaussian::Gaussian;
use crate::model::Denoiser;
use crate::noise::Noise;
use crate::posterior::{Bridge, bridge, bridge_mean};
use crate::query::{Query, Times, step_coefficients};
use crate::tensor::Count;
use crate::{Error, Result};

/// The Gaussian distribution of `x_s` given `x_t` under a model: what samplers draw from and ELBOs
/// take the divergence to.
#[derive(Clone)]
pub struct Reverse<'a> {
    model: &'a dyn Denoiser,
    covariance: Rc<dyn Covariance + 'a>,
    eta: f64,
    range: Option<(f64, f64)>,
}

impl<'a> Reverse<'a> {
    /// At `η ∈ [0, 1]`; `η = 1` is ancestral, 0 is DDIM.
    ///
    /// # Errors
    /// If `η` is outside `[0, 1]`, or not 1 with a covariance that is defined for ancestral steps.
    pub fn new(
        model: &'a dyn Denoiser,
        covariance: impl Covariance + 'a,
        eta: f64,
    ) -> Result<Reverse<'a>> {
        if !(0.0..=1.0).contains(&eta) {
            let remedy = "give a number from 0 (DDIM) to 1 (ancestral)";
            return Err(Error::config("eta", format!("{eta}"), remedy));
        }
        if covariance.is_of_a_step() && eta != 1.0 {
            let name = covariance.name();
            return Err(Error::config(
                "eta",
                format!("{eta} with the covariance '{name}'"),
                format!(
                    "'{name}' is defined for ancestral steps: give eta = 1 or another covariance"
                ),
            ));
        }
        Ok(Reverse { model, covariance: Rc::new(covariance), eta, range: None })
    }

    /// With `x̂_0` held in this range (of images −1 to 1), as published samplers do; the covariance
    /// stays.
    pub fn within(self, low: f64, high: f64) -> Reverse<'a> {
        assert!(low < high, "a range from {low} to {high}");
        Reverse { range: Some((low, high)), ..self }
    }

    /// `ε̂` for which `x̂_0 = (x_t − σ ε̂)/α` is in the range, where there is one, and how many
    /// numbers were outside.
    pub fn hold(&self, noise: Tensor, q: &Query) -> (Tensor, Count) {
        let Some((low, high)) = self.range else { return (noise, Count::default()) };
        let (alpha, sigma) = q.times.marginal(self.model.space().schedule(), q.x.device());
        let clean = (q.x - noise * &sigma) / &alpha;
        let outside = clean.lt(low).logical_or(&clean.gt(high));
        let held = (q.x - clean.clamp(low, high) * &alpha) / &sigma;
        (held, Count::of(&outside))
    }

    /// The model.
    pub fn model(&self) -> &'a dyn Denoiser {
        self.model
    }

    /// The covariance in use.
    pub fn covariance(&self) -> &(dyn Covariance + 'a) {
        &*self.covariance
    }

    /// The distribution of `x_s` given the rows of `q`, for times `s` before theirs. `streams` are
    /// those of the rows, from which a covariance that draws does so anew at every call.
    pub fn at(&self, q: &Query, s: &Times, streams: &mut Noise) -> Gaussian {
        let (noise, covariance) = self.moments(q, streams);
        let (noise, _) = self.hold(noise, q);
        self.distribution(q, &noise, &covariance, s)
    }

    /// What the distribution of every `x_s` is made from: `ε̂` as the model gives it, and its
    /// covariance. `streams` as in [`Reverse::at`].
    pub fn moments(&self, q: &Query, streams: &mut Noise) -> (Tensor, StepCovariance) {
        self.covariance.of(self.model, q, streams)
    }

    /// The distribution of `x_s` for any `s` before the times of `q`, from `ε̂` and its covariance.
    pub fn distribution(
        &self,
        q: &Query,
        noise: &Tensor,
        covariance: &StepCovariance,
        s: &Times,
    ) -> Gaussian {
        let schedule = self.model.space().schedule();
        match covariance {
            StepCovariance::Posterior(cov) => {
                bridge(q.x, noise, cov, schedule, s, q.times, self.eta)
            }
            StepCovariance::OfStep(of_step) => {
                let [inv_m, c] = step_coefficients(s, q.times, q.x.device(), |s, t| {
                    let Bridge { inv_m, c, .. } = Bridge::new(schedule, s, t, 1.0);
                    [inv_m, c]
                });
                let mean = bridge_mean(q.x, noise, &inv_m, &c);
                Gaussian::new(mean, of_step(schedule, s, q.times))
            }
        }
    }
}
