//! I-DDPM's variance: between β̃ and β, in logarithms.

use tch::Tensor;

use super::{Covariance, CovarianceSources, Method, StepCovariance};
use crate::model::Denoiser;
use crate::noise::Noise;
use crate::posterior::{ForwardBridge, HeadOutput, NoiseMoments};
use crate::query::{Query, Times, step_coefficients};
use crate::schedule::Schedule;
use crate::sym_matrix::SymMatrix;
use crate::{Error, Result};

/// `ln Σ = f ln β + (1 − f) ln β̃`, `f = (v + 1)/2`, coordinate by coordinate, with the `v` of the
/// model's head (Nichol & Dhariwal 2021, eq. 15); `v` is not held between −1 and 1, as it is not
/// there.
#[derive(Clone, Copy, Debug, Default)]
pub struct Interpolated;

impl Method for Interpolated {
    const NAME: &str = "interpolated";

    fn build(sources: &CovarianceSources) -> Result<Interpolated> {
        match sources.interpolates {
            true => Ok(Interpolated),
            false => Err(Error::config(
                "covariance",
                "interpolated, of a model without a head for it",
                "train one (iddpm), or take another covariance",
            )),
        }
    }
}

impl Covariance for Interpolated {
    fn name(&self) -> String {
        Interpolated::NAME.into()
    }

    /// # Panics
    /// If the model's head gives no `v`.
    fn of(&self, model: &dyn Denoiser, q: &Query, _: &mut Noise) -> (Tensor, StepCovariance) {
        let NoiseMoments { noise, head: Some(HeadOutput::Interpolation(v)), .. } = model.moments(q)
        else {
            panic!("a head that interpolates between variances");
        };
        let of_step =
            move |schedule: &dyn Schedule, s: &Times, t: &Times| covariance(schedule, s, t, &v);
        (noise, StepCovariance::OfStep(Box::new(of_step)))
    }

    fn is_of_a_step(&self) -> bool {
        true
    }
}

fn covariance(schedule: &dyn Schedule, s: &Times, t: &Times, v: &Tensor) -> SymMatrix {
    let [middle, half] = step_coefficients(s, t, v.device(), |s, t| {
        let (small, large) = log_bounds(schedule, s, t);
        [0.5 * (small + large), 0.5 * (large - small)]
    });
    SymMatrix::Diagonal((v * &half + &middle).exp())
}

/// `ln β̃` and `ln β` of the step from `t` to `s`: `β = k²`, `β̃ = σ_s² k²/σ_t²`. At `s = 0`, where
/// β̃ is 0, it is held at that of the step from `2t` to `t`: of a chain's first step, at its
/// second's (as openai/improved-diffusion holds it); where `2t` is beyond the horizon, at β.
pub(crate) fn log_bounds(schedule: &dyn Schedule, s: f64, t: f64) -> (f64, f64) {
    let beta = schedule.transition(s, t).k2;
    let small = if s > 0.0 {
        ForwardBridge::new(schedule, s, t).variance
    } else if 2.0 * t <= schedule.horizon() {
        ForwardBridge::new(schedule, t, 2.0 * t).variance
    } else {
        beta
    };
    (small.ln(), beta.ln())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use tch::{Device, Kind};

    use super::*;
    use crate::covariance::{Beta, BetaTilde, CovarianceConfig, Reverse};
    use crate::model::Space;
    use crate::oracle::{GaussianMixture, Oracle};
    use crate::schedule::{ScheduleConfig, StepLaw, SubVp, Ve, Vp};

    /// An oracle that gives the same `v` everywhere.
    pub(crate) struct Constant {
        pub oracle: Oracle,
        /// A number.
        pub v: Tensor,
    }

    impl Constant {
        pub(crate) fn new(schedule: Arc<dyn Schedule>, v: f64) -> Constant {
            let law = GaussianMixture::new(&[0.4, 0.6], &[[-1.0, 0.5], [1.0, 0.0]], &[0.3, 0.6])
                .expect("a mixture");
            let v = Tensor::full([], v, (Kind::Double, Device::Cpu));
            Constant { oracle: Oracle::new(law, schedule), v }
        }
    }

    impl Denoiser for Constant {
        fn space(&self) -> &Space {
            self.oracle.space()
        }
        fn noise(&self, q: &Query) -> Tensor {
            self.oracle.noise(q)
        }
        fn moments(&self, q: &Query) -> NoiseMoments {
            let head = Some(HeadOutput::Interpolation(&self.v * q.x.ones_like()));
            NoiseMoments { head, ..self.oracle.moments(q) }
        }
    }

    /// `v = 1` is β, `v = −1` is β̃, `v = 0` their geometric mean, mean and all, on every schedule.
    #[test]
    fn the_ends_are_beta_and_beta_tilde() {
        let schedules: [Arc<dyn Schedule>; 3] =
            [Arc::new(Vp::default()), Arc::new(SubVp::default()), Arc::new(Ve::default())];
        for schedule in schedules {
            let (s, t) = (Times::each(vec![1e-3, 0.1, 0.7]), Times::each(vec![2e-3, 0.4, 1.0]));
            let at = |v: f64, covariance: &dyn Covariance| {
                let model = Constant::new(schedule.clone(), v);
                let x = model.oracle.mixture.sample(3, crate::noise::Seed(1));
                let mut streams = crate::noise::Noise::new(crate::noise::Seed(0), 0..3);
                let law = Reverse::new(&model, covariance, 1.0).unwrap().at(
                    &Query::new(&x, &t),
                    &s,
                    &mut streams,
                );
                (law.mean, law.cov.diagonal())
            };
            let (mean, large) = at(0.0, &Beta);
            let (_, small) = at(0.0, &BetaTilde);
            for (v, expected) in [(1.0, &large), (-1.0, &small), (0.0, &(&large * &small).sqrt())] {
                let (found_mean, found) = at(v, &Interpolated);
                let error = (found / expected - 1.0).abs().max().double_value(&[]);
                assert!(error < 1e-12, "{schedule:?} at v = {v}: {error}");
                assert!((found_mean - &mean).abs().max().double_value(&[]) < 1e-12);
            }
        }
    }

    /// Of the linear chain by hand: the first step's β̃ is the second's, `(1 − ᾱ_1) β_2/(1 − ᾱ_2)`;
    /// its β is `β_1`. Of a chain of one step both are β.
    #[test]
    fn the_first_step_is_held_at_the_second() {
        let chain = ScheduleConfig::Discrete {
            steps: 1000,
            law: StepLaw::Linear,
            beta_start: 1e-4,
            beta_end: 0.02,
        };
        let (first, second) = (1e-4, 1e-4 + 0.0199 / 999.0);
        let expected: f64 = first * second / (1.0 - (1.0 - first) * (1.0 - second));
        let (small, large) = log_bounds(&*chain.build().unwrap(), 0.0, 1e-3);
        assert!(
            (small - expected.ln()).abs() < 1e-9 && (large - first.ln()).abs() < 1e-9,
            "{small} {large}"
        );
        let (small, large) = log_bounds(&Vp::default(), 0.0, 1.0);
        assert_eq!(small, large);
    }

    /// A step that is not ancestral, and a model without the head, are refused.
    #[test]
    fn what_it_needs_is_checked() {
        let model = Constant::new(Arc::new(Vp::default()), 0.0);
        let refused = Reverse::new(&model, Interpolated, 0.5).err().expect("refused").to_string();
        assert!(refused.contains("eta"), "{refused}");
        let built = CovarianceConfig::Interpolated.build(&CovarianceSources::default());
        let refused = built.err().expect("refused").to_string();
        assert!(refused.contains("iddpm"), "{refused}");
    }
}
