//! The ancestral family: draws from the Gaussian bridge with any covariance and any `η`.

use std::cell::Cell;
use std::f64::consts::PI;
use tch::Tensor;

use super::{Chain, Clipped, SamplerMethod, Sampling, Step};
use crate::choice::choices;
use crate::covariance::{BetaTilde, Covariance, Reverse};
use crate::model::Denoiser;
use crate::noise::Noise;
use crate::query::{Query, Times};
use crate::{Error, Result};

choices! {
    /// What the steps to the data, `s ≤ ε`, put out.
    pub enum LastStep = Noise {
        /// The mean: all that the noise of a step to ε would do is stay in the sample; what
        /// published samplers do by a clipped covariance of that step (Bao et al. 2022, OCM)
        Mean = "mean",
        /// A draw
        Noise = "noise",
    }
}

/// `x_s ~ N(bridge mean, bridge covariance)`: Likelihood Matching's sampler (13)–(14) at `η = 1`
/// with the learned covariance, DDPM with β or β̃, DDIM at `η = 0` with `G = 0`. First order in the
/// step in distribution for fixed isotropic covariances; moments of each step are exact for exact
/// `ε̂` and `G` at `η = 1`.
pub struct Ancestral<'a> {
    reverse: Reverse<'a>,
    last: LastStep,
    limit: Option<Limit>,
    /// The log signal-to-noise ratio up to which steps have the covariance.
    until: f64,
    clipped: Cell<Clipped>,
}

/// The most variance that a step to `s ≤ until` adds.
#[derive(Clone, Copy, Debug)]
struct Limit {
    variance: f64,
    until: f64,
}

impl<'a> Ancestral<'a> {
    /// Ancestral sampling of `model` at `η`.
    pub fn new(
        model: &'a dyn Denoiser,
        covariance: impl Covariance + 'a,
        eta: f64,
        last: LastStep,
    ) -> Result<Ancestral<'a>> {
        let reverse = Reverse::new(model, covariance, eta)?;
        Ok(Ancestral { reverse, last, limit: None, until: f64::INFINITY, clipped: Cell::default() })
    }

    /// With `x̂_0` held in this range at every step (of images −1 to 1).
    pub fn within(self, low: f64, high: f64) -> Ancestral<'a> {
        Ancestral { reverse: self.reverse.within(low, high), ..self }
    }

    /// The published end of a chain of images (Bao et al. 2022; OCM, appendix B): the step to 0
    /// puts out its mean, and the noise of steps to `0 < s ≤ until` (the grid's `t_1`) moves a
    /// pixel by at most `levels` of 255 in the mean: `E|noise| ≤ (2/255) levels`, so variances are
    /// at most `((2/255) levels √(π/2))²`. 1 and 2 are usual. In place of [`LastStep`].
    ///
    /// # Errors
    /// If `levels` is not a positive number.
    pub fn clip_noise(self, levels: f64, until: f64) -> Result<Ancestral<'a>> {
        if !(levels > 0.0 && levels.is_finite()) {
            let remedy = "give a positive number of levels: 1 and 2 are usual";
            return Err(Error::config("clip-noise", format!("{levels}"), remedy));
        }
        let variance = (levels * 2.0 / 255.0).powi(2) * PI / 2.0;
        Ok(Ancestral { limit: Some(Limit { variance, until }), ..self })
    }

    /// Steps to a signal-to-noise ratio `α²/σ²` above `snr` take the predicted clean row as certain:
    /// their covariance is β̃.
    ///
    /// What the covariance's `G` adds there is uncertainty of fine detail, of which neighbouring
    /// pixels share the sign. A diagonal, or one of low rank, draws it for each pixel by itself, and
    /// what is left of that in a picture is grain.
    pub fn covariance_until(self, snr: f64) -> Ancestral<'a> {
        Ancestral { until: snr.ln(), ..self }
    }

    fn count(&self, more: Clipped) {
        let mut clipped = self.clipped.get();
        clipped += more;
        self.clipped.set(clipped);
    }
}

impl Step for Ancestral<'_> {
    fn model(&self) -> &dyn Denoiser {
        self.reverse.model()
    }

    fn step(&self, q: &Query, s: f64, noise: &mut Noise) -> Tensor {
        let (schedule, to) = (self.model().space().schedule(), Times::All(s));
        let (predicted, covariance) = match schedule.log_snr(s) > self.until {
            true => BetaTilde.of(self.model(), q, noise),
            false => self.reverse.moments(q, noise),
        };
        let (predicted, clean) = self.reverse.hold(predicted, q);
        self.count(Clipped { clean, ..Clipped::default() });
        let mut found = self.reverse.distribution(q, &predicted, &covariance, &to);
        let mean_alone = match self.limit {
            Some(_) => s <= 0.0,
            None => s <= schedule.epsilon() && self.last == LastStep::Mean,
        };
        if mean_alone {
            return found.mean;
        }
        if let Some(limit) = self.limit.filter(|limit| s <= limit.until) {
            let (cov, noise) = found.cov.with_variances_at_most(limit.variance);
            found.cov = cov;
            self.count(Clipped { noise, ..Clipped::default() });
        }
        found.sample(&noise.normal(found.cov.noise_dim() as usize, q.x.kind(), q.x.device()))
    }

    fn clipped(&self) -> Clipped {
        self.clipped.get()
    }
}

/// This sampler in the list of samplers.
pub(super) struct Method;

impl SamplerMethod for Method {
    fn name(&self) -> &'static str {
        "ancestral"
    }

    fn help(&self) -> &'static str {
        "Draws from the Gaussian bridge; DDPM, DDIM and Likelihood Matching's sampler"
    }

    fn options(&self) -> &'static [&'static str] {
        &["covariance", "covariance_until", "eta", "last_step", "clip", "clip_noise"]
    }

    fn draw(&self, sampling: &Sampling, chain: &Chain) -> Result<(Tensor, Clipped)> {
        let Sampling { eta, last, .. } = *sampling;
        let mut step = Ancestral::new(chain.model, chain.covariance, eta, last)?
            .covariance_until(sampling.covariance_until);
        if let Some(levels) = sampling.clip_noise {
            step = step.clip_noise(levels, chain.grid[1])?;
        }
        if let Some((low, high)) = sampling.range {
            step = step.within(low, high);
        }
        chain.of(&step, sampling.seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::covariance::{BetaTilde, Own};
    use crate::grid::Spacing;
    use crate::noise::Seed;
    use crate::oracle::{GaussianMixture, Oracle};
    use crate::sample::run_chain;
    use crate::schedule::{Schedule, Vp};
    use crate::tensor::{Count, to_vec};

    /// For Gaussian data of variance v, one step from T to ε: its mean has the variance of
    /// E[x_0|x_T], far below v; its draws have v. 4000 draws: the variance of a variance is 2
    /// v²/4000.
    #[test]
    fn the_mean_leaves_out_the_noise_of_the_step_to_epsilon() {
        let v: f64 = 0.25;
        let data = Oracle::new(
            GaussianMixture::new(&[1.0], &[[0.0]], &[v.sqrt()]).unwrap(),
            std::sync::Arc::new(Vp::default()),
        );
        let grid = Spacing::default().elbo_grid(&Vp::default(), 2);
        assert_eq!(grid, [0.0, Vp::default().epsilon(), 1.0]);
        let variance = |last| {
            let step = Ancestral::new(&data, Own, 1.0, last).unwrap();
            let x = to_vec(&run_chain(&step, &grid, Seed(1), 0..4000, None).unwrap());
            x.iter().map(|x| x * x).sum::<f64>() / 4000.0
        };
        assert!((variance(LastStep::Noise) - v).abs() < 4.0 * v * (2.0f64 / 4000.0).sqrt());
        assert!(variance(LastStep::Mean) < 1e-3 * v);
    }
    /// One Gaussian pixel, steps 1 → 0.5 → 0.3 → 0: x_0.3 of many chains from one x_0.5 has the
    /// variance of the limit, and of the reverse distribution where the limit is wide; the count
    /// says so. 4000 draws: the variance of a variance is 2 v²/4000.
    #[test]
    fn noise_is_held_at_the_end_of_the_chain() {
        let data = Oracle::new(
            GaussianMixture::new(&[1.0], &[[0.0]], &[0.5]).unwrap(),
            std::sync::Arc::new(Vp::default()),
        );
        let x = Tensor::full([4000, 1], 0.2, (tch::Kind::Double, tch::Device::Cpu));
        let (half, low) = (Times::All(0.5), Times::All(0.3));
        let at = |t: f64| Query::new(&x, if t == 0.5 { &half } else { &low });
        let plain = || Ancestral::new(&data, Own, 1.0, LastStep::Noise).unwrap();
        let mut streams = Noise::new(Seed(0), 0..4000);
        let reverse =
            plain().reverse.at(&Query::new(&x, &Times::All(0.5)), &Times::All(0.3), &mut streams);
        let unlimited = reverse.cov.trace().double_value(&[0]);
        for (levels, expected, clipped) in
            [(2.0, (4.0f64 / 255.0).powi(2) * PI / 2.0, 4000), (1000.0, unlimited, 0)]
        {
            let step = plain().clip_noise(levels, 0.3).unwrap();
            let end = step.step(&at(0.5), 0.3, &mut Noise::new(Seed(1), 0..4000));
            let variance = end.var(true).double_value(&[]);
            assert!(
                (variance / expected - 1.0).abs() < 4.0 * (2.0f64 / 4000.0).sqrt(),
                "{levels}: {variance}"
            );
            assert_eq!(step.clipped().noise, Count { some: clipped, all: 4000 });
            // above the limit's time nothing is held, and the last step is its mean
            let _ = step.step(&at(0.5), 0.4, &mut Noise::new(Seed(1), 0..4000));
            assert_eq!(step.clipped().noise.all, 4000);
            let last = step.step(&at(0.3), 0.0, &mut Noise::new(Seed(1), 0..4000));
            assert_eq!(last.var(true).double_value(&[]), 0.0);
        }
        assert!(
            plain().clip_noise(0.0, 0.3).is_err() && plain().clip_noise(f64::NAN, 0.3).is_err()
        );
    }

    /// x̂_0 of x_t = 3 and −0.1 at t = 0.01 is about those: one of two is outside, and the step is
    /// that of x̂_0 = 1.
    /// To a signal-to-noise ratio above the limit a step has the variance of β̃, below it that of the
    /// covariance.
    #[test]
    fn above_a_signal_to_noise_ratio_steps_have_beta_tilde() {
        let vp = std::sync::Arc::new(Vp::default());
        let data = Oracle::new(GaussianMixture::new(&[1.0], &[[0.0]], &[0.5]).unwrap(), vp.clone());
        let x = Tensor::full([4000, 1], 0.2, (tch::Kind::Double, tch::Device::Cpu));
        let t = Times::All(0.5);
        let step = Ancestral::new(&data, Own, 1.0, LastStep::Noise).unwrap().covariance_until(30.0);
        let limit = vp.time_of_log_snr(30f64.ln());
        let variance_of = |reverse: &Reverse, s: f64| {
            let mut streams = Noise::new(Seed(0), 0..4000);
            reverse
                .at(&Query::new(&x, &t), &Times::All(s), &mut streams)
                .cov
                .trace()
                .double_value(&[0])
        };
        let [own, small] = [&Own as &dyn Covariance, &BetaTilde]
            .map(|covariance| Reverse::new(&data, covariance, 1.0).unwrap());
        for (s, expected) in [(0.9 * limit, &small), (1.1 * limit, &own)] {
            let end = step.step(&Query::new(&x, &t), s, &mut Noise::new(Seed(1), 0..4000));
            let (variance, expected) = (end.var(true).double_value(&[]), variance_of(expected, s));
            assert!((variance / expected - 1.0).abs() < 4.0 * (2.0f64 / 4000.0).sqrt(), "{s}");
            assert!(variance_of(&own, s) > 2.0 * variance_of(&small, s));
        }
    }

    #[test]
    fn clean_images_outside_are_counted() {
        let vp = Vp::default();
        let data = Oracle::new(
            GaussianMixture::new(&[1.0], &[[0.0]], &[5.0]).unwrap(),
            std::sync::Arc::new(vp.clone()),
        );
        let x = Tensor::from_slice(&[3.0, -0.1]).view([2, 1]);
        let step = Ancestral::new(&data, BetaTilde, 1.0, LastStep::Mean).unwrap().within(-1.0, 1.0);
        let end = to_vec(&step.step(
            &Query::new(&x, &Times::All(0.01)),
            0.0,
            &mut Noise::new(Seed(1), 0..2),
        ));
        assert!((end[0] - 1.0).abs() < 1e-12 && (end[1] + 0.1).abs() < 0.01, "{end:?}");
        assert_eq!(
            step.clipped(),
            Clipped { clean: Count { some: 1, all: 2 }, ..Clipped::default() }
        );
    }

    /// OCM-DDIM draws x_0 from its posterior N(μ_0, C_0) and takes DDIM's step with it:
    /// `α_s x_0 + σ_s (x_t − α_t x_0)/σ_t`. That is the bridge at η = 0 with the same G: mean and
    /// covariance by the affine map, on a mixture with a full G.
    #[test]
    fn ddim_with_a_drawn_clean_image_is_the_bridge_at_eta_0() {
        let schedules: [std::sync::Arc<dyn Schedule>; 3] = [
            std::sync::Arc::new(Vp::default()),
            std::sync::Arc::new(crate::schedule::SubVp::default()),
            std::sync::Arc::new(crate::schedule::Ve::default()),
        ];
        for schedule in schedules {
            let mixture =
                GaussianMixture::new(&[0.3, 0.7], &[[-1.0, 0.5], [1.0, 0.2]], &[0.4, 0.7]).unwrap();
            let data = Oracle::new(mixture, schedule.clone());
            let x = Tensor::from_slice(&[0.3, -0.2, -0.9, 1.4]).view([2, 2]);
            for (s, t) in [(0.0, 0.2), (0.1, 0.4), (0.5, 0.9)] {
                let at = Times::All(t);
                let q = Query::new(&x, &at);
                let moments = data.moments(&q);
                let clean = crate::posterior::posterior(&x, &moments, &*schedule, &at);
                let (alpha_s, alpha_t) = (schedule.alpha(s), schedule.alpha(t));
                let ratio = schedule.sigma(s) / schedule.sigma(t);
                let of_clean = alpha_s - ratio * alpha_t;
                let mean = &clean.mean * of_clean + &x * ratio;
                let cov = clean.cov.to_dense() * of_clean.powi(2);
                let ours = Reverse::new(&data, Own, 0.0).unwrap();
                let ours = ours.at(&q, &Times::All(s), &mut Noise::new(Seed(0), 0..2));
                let error = |a: &Tensor, b: &Tensor| (a - b).abs().max().double_value(&[]);
                assert!(error(&ours.mean, &mean) < 1e-11, "{schedule:?} {s} {t}");
                assert!(error(&ours.cov.to_dense(), &cov) < 1e-11, "{schedule:?} {s} {t}");
            }
        }
    }
}
