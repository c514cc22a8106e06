//! I-DDPM's variance: between β̃ and β, in logarithms.

use tch::Tensor;

use crate::posterior::ForwardBridge;
use crate::schedule::Schedule;
use crate::sym_matrix::SymMatrix;
use crate::tensor::column;

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

/// `ln Σ = f ln β + (1 − f) ln β̃`, `f = (v + 1)/2`, for `v` `[b, d]` (Nichol & Dhariwal 2021, eq.
/// 15); `v` is not held between −1 and 1, as it is not there.
pub(super) fn covariance(schedule: &dyn Schedule, s: &[f64], t: &[f64], v: &Tensor) -> SymMatrix {
    let bounds: Vec<(f64, f64)> =
        s.iter().zip(t).map(|(&s, &t)| log_bounds(schedule, s, t)).collect();
    let middle = column(bounds.iter().map(|(small, large)| 0.5 * (small + large)), v);
    let half = column(bounds.iter().map(|(small, large)| 0.5 * (large - small)), v);
    SymMatrix::Diagonal((v * half + middle).exp())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use tch::{Device, Kind};

    use super::*;
    use crate::covariance::{Covariance, Reverse};
    use crate::model::{Denoiser, Interpolation};
    use crate::oracle::{GaussianMixture, Oracle};
    use crate::posterior::Jet;
    use crate::schedule::{ScheduleConfig, StepLaw, SubVp, Ve, Vp};

    /// An oracle that says the same `v` everywhere.
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

    impl Interpolation for Constant {
        fn noise_and_v(&self, x: &Tensor, t: &[f64]) -> (Tensor, Tensor) {
            (self.oracle.noise(x, t), &self.v * x.ones_like())
        }
    }

    impl Denoiser for Constant {
        fn dim(&self) -> i64 {
            self.oracle.dim()
        }
        fn schedule(&self) -> &Arc<dyn Schedule> {
            self.oracle.schedule()
        }
        fn noise(&self, x: &Tensor, t: &[f64]) -> Tensor {
            self.oracle.noise(x, t)
        }
        fn jet(&self, x: &Tensor, t: &[f64]) -> Jet {
            self.oracle.jet(x, t)
        }
        fn interpolation(&self) -> Option<&dyn Interpolation> {
            Some(self)
        }
        fn kind(&self) -> Kind {
            Kind::Double
        }
        fn device(&self) -> Device {
            Device::Cpu
        }
    }

    /// `v = 1` is β, `v = −1` is β̃, `v = 0` their geometric mean, mean and all, on every schedule.
    #[test]
    fn the_ends_are_beta_and_beta_tilde() {
        let schedules: [Arc<dyn Schedule>; 3] =
            [Arc::new(Vp::default()), Arc::new(SubVp::default()), Arc::new(Ve::default())];
        let (s, t) = ([1e-3, 0.1, 0.7], [2e-3, 0.4, 1.0]);
        for schedule in schedules {
            let at = |v: f64, covariance| {
                let model = Constant::new(schedule.clone(), v);
                let x = model.oracle.mixture.sample(3, crate::noise::Seed(1));
                let mut streams = crate::noise::Noise::new(crate::noise::Seed(0), 0..3);
                let law =
                    Reverse::new(&model, covariance, 1.0).unwrap().at(&x, &s, &t, &mut streams);
                (law.mean, law.cov.diagonal())
            };
            let (mean, large) = at(0.0, Covariance::Beta);
            let (_, small) = at(0.0, Covariance::BetaTilde);
            for (v, expected) in [(1.0, &large), (-1.0, &small), (0.0, &(&large * &small).sqrt())] {
                let (found_mean, found) = at(v, Covariance::Interpolated);
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
        let refused = |model: &dyn Denoiser, eta| {
            Reverse::new(model, Covariance::Interpolated, eta).err().expect("refused").to_string()
        };
        assert!(refused(&model, 0.5).contains("eta"));
        assert!(refused(&model.oracle, 1.0).contains("iddpm"));
    }
}
