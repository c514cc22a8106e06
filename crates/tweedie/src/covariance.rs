//! The ways to get the covariance of a reverse step, and the reverse law that samplers and ELBOs
//! see.

mod analytic;
mod interpolated;
pub mod jacobian;
mod spectrum;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::gaussian::Gaussian;
use crate::model::Denoiser;
use crate::noise::Noise;
use crate::posterior::{Bridge, Jet, bridge, bridge_mean, scalar_g};
use crate::sym_matrix::SymMatrix;
use crate::tensor::{Count, column, per_row};
use crate::{Error, Result};
pub use analytic::NoiseStatistics;
pub(crate) use interpolated::log_bounds;
#[cfg(test)]
pub(crate) use interpolated::tests as tests_of_interpolation;
pub use spectrum::{MOST_COLUMNS, Spectrum};

/// Where `Cov[x_0|x_t]`, hence the covariance of a reverse step, comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Covariance {
    /// The model's own `G`: the learned head, or the oracle's exact one.
    #[default]
    Learned,
    /// The reverse covariance is `k² I` (DDPM "large"); ancestral steps only.
    Beta,
    /// `G = 0` (DDPM "small"): the covariance of the forward bridge alone.
    BetaTilde,
    /// `G = I`, that is `H = 0`: what the Likelihood Matching paper calls its score-matching
    /// sampler.
    ZeroHessian,
    /// `G = E‖ε − ε̂‖²/d I`, one number per `t`, measured on data: Analytic-DPM.
    Analytic,
    /// Between β̃ and β, coordinate by coordinate, as the model's head says (I-DDPM); ancestral
    /// steps only.
    Interpolated,
    /// The diagonal of `I + σ²H` by so many vector–Jacobian products with random signs, drawn anew
    /// for every row and step from the row's stream.
    Rademacher(usize),
    /// The exact diagonal of `I + σ²H`, by `d` products.
    Diagonal,
    /// `I + σ²H`, by `d` products.
    Full,
}

impl Covariance {
    /// Those that cost nothing and that every model has.
    pub const FREE: [Covariance; 4] =
        [Covariance::Learned, Covariance::Beta, Covariance::BetaTilde, Covariance::ZeroHessian];

    /// Those that need no head.
    pub const FIXED: [Covariance; 3] =
        [Covariance::Beta, Covariance::BetaTilde, Covariance::ZeroHessian];

    /// The name used in configuration files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Covariance::Learned => "learned",
            Covariance::Beta => "beta",
            Covariance::BetaTilde => "beta-tilde",
            Covariance::ZeroHessian => "zero-hessian",
            Covariance::Analytic => "analytic",
            Covariance::Interpolated => "interpolated",
            Covariance::Rademacher(_) => "rademacher",
            Covariance::Diagonal => "diagonal",
            Covariance::Full => "full",
        }
    }

    /// How tables and legends show it.
    pub fn label(self) -> String {
        match self {
            Covariance::Learned => "learned G".into(),
            Covariance::Beta => "β".into(),
            Covariance::BetaTilde => "β̃".into(),
            Covariance::ZeroHessian => "H = 0".into(),
            other => other.to_string(),
        }
    }
}

impl FromStr for Covariance {
    type Err = String;

    /// The inverse of `Display`.
    fn from_str(text: &str) -> std::result::Result<Covariance, String> {
        let plain = [
            Covariance::Analytic,
            Covariance::Interpolated,
            Covariance::Diagonal,
            Covariance::Full,
        ];
        if let Some(found) =
            Covariance::FREE.iter().chain(&plain).find(|covariance| covariance.name() == text)
        {
            return Ok(*found);
        }
        match text.strip_prefix("rademacher-").and_then(|probes| probes.parse().ok()) {
            Some(probes @ 1..=1_000_000) => Ok(Covariance::Rademacher(probes)),
            _ => Err("give learned, beta, beta-tilde, zero-hessian, analytic, interpolated, rademacher-M (M products), \
                 diagonal or full"
                .into()),
        }
    }
}

impl fmt::Display for Covariance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Covariance::Rademacher(probes) => write!(f, "rademacher-{probes}"),
            other => f.write_str(other.name()),
        }
    }
}

/// The Gaussian law of `x_s` given `x_t` under a model: what samplers draw from and ELBOs take the
/// divergence to.
#[derive(Clone, Copy)]
pub struct Reverse<'a> {
    model: &'a dyn Denoiser,
    covariance: Covariance,
    eta: f64,
    range: Option<(f64, f64)>,
}

impl<'a> Reverse<'a> {
    /// Reverse law at `η ∈ [0, 1]`; `η = 1` is ancestral, 0 is DDIM.
    ///
    /// # Errors
    /// If `η` is outside `[0, 1]`, or not 1 with [`Covariance::Beta`] or
    /// [`Covariance::Interpolated`], which are defined for ancestral steps; and if the model has
    /// not what the covariance takes.
    pub fn new(model: &'a dyn Denoiser, covariance: Covariance, eta: f64) -> Result<Reverse<'a>> {
        if !(0.0..=1.0).contains(&eta) {
            return Err(Error::config(
                "eta",
                format!("{eta}"),
                "give a number from 0 (DDIM) to 1 (ancestral)",
            ));
        }
        if matches!(covariance, Covariance::Beta | Covariance::Interpolated) && eta != 1.0 {
            return Err(Error::config(
                "eta",
                format!("{eta} with the covariance '{covariance}'"),
                format!(
                    "'{covariance}' is defined for ancestral steps: give eta = 1 or another covariance"
                ),
            ));
        }
        if covariance == Covariance::Interpolated && model.interpolation().is_none() {
            return Err(Error::config(
                "covariance",
                "interpolated, of a model without a head for it",
                "train one (--objective iddpm), or take another covariance",
            ));
        }
        if covariance == Covariance::Analytic && model.noise_statistics().is_none() {
            return Err(Error::config(
                "covariance",
                "analytic, of a model without statistics of its noise",
                "measure them first (NoiseStatistics::measure), or take another covariance",
            ));
        }
        if let Covariance::Rademacher(probes) = covariance {
            Error::check_count("probes", probes, 1_000_000)?;
        }
        Ok(Reverse { model, covariance, eta, range: None })
    }

    /// With `x̂_0` held in this range (of images −1 to 1), as published samplers do; the covariance
    /// stays.
    pub fn within(self, low: f64, high: f64) -> Reverse<'a> {
        assert!(low < high, "a range from {low} to {high}");
        Reverse { range: Some((low, high)), ..self }
    }

    /// `ε̂` for which `x̂_0 = (x_t − σ ε̂)/α` is in the range, where there is one, and how many
    /// numbers were outside.
    pub fn hold(&self, noise: Tensor, x: &Tensor, t: &[f64]) -> (Tensor, Count) {
        let Some((low, high)) = self.range else { return (noise, Count::default()) };
        let schedule = &**self.model.schedule();
        let alpha = column(t.iter().map(|&t| schedule.alpha(t)), x);
        let sigma = column(t.iter().map(|&t| schedule.sigma(t)), x);
        let clean = (x - noise * &sigma) / &alpha;
        let outside = clean.lt(low).logical_or(&clean.gt(high));
        let held = (x - clean.clamp(low, high) * alpha) / sigma;
        (held, Count::of(&outside))
    }

    /// The model.
    pub fn model(&self) -> &'a dyn Denoiser {
        self.model
    }

    /// The covariance in use.
    pub fn covariance(&self) -> Covariance {
        self.covariance
    }

    /// The distribution of `x_s` given `x_t` (`[b, d]`), for times `s < t` per row. `streams` are
    /// those of the rows, from which [`Covariance::Rademacher`] draws its signs, anew at every
    /// call; the others leave them alone.
    pub fn at(&self, x: &Tensor, s: &[f64], t: &[f64], streams: &mut Noise) -> Gaussian {
        let Jet { noise, g } = self.jet(x, t, streams);
        let (noise, _) = self.hold(noise, x, t);
        self.law(x, &Jet { noise, g }, s, t)
    }

    /// What the law of every `x_s` is made from: `ε̂` as the model gives it, and the `G` of this
    /// covariance; of β nothing, of I-DDPM's its `v`, as a diagonal. `streams` as in
    /// [`Reverse::at`].
    pub fn jet(&self, x: &Tensor, t: &[f64], streams: &mut Noise) -> Jet {
        let (model, schedule) = (self.model, &**self.model.schedule());
        let scalar = |g: &dyn Fn(f64) -> f64| Jet {
            noise: model.noise(x, t),
            g: scalar_g(t.iter().map(|&t| g(t)), x),
        };
        match self.covariance {
            Covariance::Learned => model.jet(x, t),
            Covariance::Beta | Covariance::BetaTilde => scalar(&|_| 0.0),
            Covariance::ZeroHessian => scalar(&|_| 1.0),
            Covariance::Analytic => {
                let statistics = model.noise_statistics().expect("checked when the law was made");
                scalar(&|t| statistics.g(schedule.log_snr(t)))
            }
            Covariance::Interpolated => {
                let head = model.interpolation().expect("checked when the law was made");
                let (noise, v) = head.noise_and_v(x, t);
                Jet { noise, g: SymMatrix::Diagonal(v) }
            }
            Covariance::Rademacher(probes) => jacobian::rademacher(model, x, t, probes, streams),
            Covariance::Diagonal => jacobian::diagonal(model, x, t),
            Covariance::Full => jacobian::full(model, x, t),
        }
    }

    /// The law of `x_s` for any `s < t`, from what [`Reverse::jet`] said of `x_t`.
    pub fn law(&self, x: &Tensor, jet: &Jet, s: &[f64], t: &[f64]) -> Gaussian {
        let schedule = &**self.model.schedule();
        let of_step = match (self.covariance, &jet.g) {
            (Covariance::Beta, _) => {
                let variance =
                    per_row(s.iter().zip(t).map(|(&s, &t)| schedule.transition(s, t).k2), x);
                SymMatrix::isotropic(variance, x.size()[1])
            }
            (Covariance::Interpolated, SymMatrix::Diagonal(v)) => {
                interpolated::covariance(schedule, s, t, v)
            }
            _ => return bridge(x, jet, schedule, s, t, self.eta),
        };
        let rows: Vec<Bridge> =
            s.iter().zip(t).map(|(&s, &t)| Bridge::new(schedule, s, t, 1.0)).collect();
        Gaussian::new(bridge_mean(x, &jet.noise, &rows), of_step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        let all = [
            &Covariance::FREE[..],
            &[Covariance::Analytic, Covariance::Interpolated, Covariance::Rademacher(7)],
            &[Covariance::Diagonal, Covariance::Full],
        ]
        .concat();
        assert!(all.iter().all(|covariance| covariance.to_string().parse() == Ok(*covariance)));
        for wrong in ["", "rademacher", "rademacher-0", "rademacher--1", "Learned"] {
            assert!(wrong.parse::<Covariance>().is_err(), "{wrong}");
        }
    }
}
