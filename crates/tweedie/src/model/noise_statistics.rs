//! What is measured of a model's noise on data: its mean square error and its mean square, a number
//! of each per time.

use serde::{Deserialize, Serialize};
use tch::{Device, Tensor, no_grad};

use super::interpolant::between;
use super::{Denoiser, Interpolant};
use crate::noise::{Noise, Seed};
use crate::query::{Batch, Query, Times};
use crate::statistics::mean_and_error;
use crate::tensor::{squared_norm, to_vec};
use crate::{Error, Result};

/// `Γ(t) = E‖ε − ε̂(x_t)‖²/d` over data and noise, at times even in the log signal-to-noise ratio
/// and linear in it between: the isotropic `G = Γ(t) I` of least divergence under any score. And
/// Analytic-DPM's `Γ_s(t) = 1 − E‖ε̂‖²/d = 1 − σ_t² E‖s‖²/d` (Bao et al. 2022, Theorem 1, in our
/// units) on the same draws. The two are equal for the exact `ε* = E[ε|x_t]`: with it
/// `Γ = Γ* + E‖ε̂ − ε*‖²/d`, a score's error added to the covariance, while `Γ_s` is a small
/// difference of noisy numbers where `G` is small, and an error of the score moves it either way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NoiseStatistics {
    /// `ln(α²/σ²)`, falling.
    log_snr: Vec<f64>,
    /// `Γ`.
    mean: Vec<f64>,
    /// Its Monte-Carlo standard error.
    std_error: Vec<f64>,
    /// `Γ_s` as measured, which may be out of `[0, 1]`; empty in files of older versions.
    #[serde(default)]
    of_score: Vec<f64>,
    /// The Monte-Carlo standard error of `Γ_s`.
    #[serde(default)]
    of_score_error: Vec<f64>,
}

impl NoiseStatistics {
    /// Measures `model` at `times` times on data in its units, given their classes where it is
    /// conditioned on any, each datum with noise of its own at each time, `batch` rows at a time.
    ///
    /// # Errors
    /// With fewer than two times or rows, or if the model is not finite.
    pub fn measure(
        model: &dyn Denoiser,
        rows: &Batch,
        times: usize,
        batch: usize,
        seed: Seed,
    ) -> Result<NoiseStatistics> {
        let (n, d) = rows.x.size2().expect("rows [n, d]");
        if times < 2 || n < 2 {
            let problem = format!("{times} times and {n} rows");
            return Err(Error::config("analytic covariance", problem, "give at least two of each"));
        }
        let space = model.space();
        let schedule = space.schedule();
        let mut found = NoiseStatistics {
            log_snr: Vec::with_capacity(times),
            mean: Vec::with_capacity(times),
            std_error: Vec::with_capacity(times),
            of_score: Vec::with_capacity(times),
            of_score_error: Vec::with_capacity(times),
        };
        for i in 0..times {
            let t = schedule.importance_time(i as f64 / (times - 1) as f64);
            let seed = seed.derive(&format!("time {i}"));
            let (mut errors, mut norms) = (Vec::new(), Vec::new());
            for start in (0..n).step_by(batch.max(1)) {
                let count = (batch as i64).min(n - start);
                let part = rows.narrow(start as usize..(start + count) as usize);
                let (x0, condition) = (space.place(&part.x), part.condition.as_ref());
                let numbers = start as u64..(start + count) as u64;
                let z = Noise::new(seed, numbers).normal(d as usize, x0.kind(), x0.device());
                let times = Times::All(t);
                let xt = x0 * schedule.alpha(t) + &z * schedule.sigma(t);
                let noise = no_grad(|| model.noise(&Query::new(&xt, &times).given(condition)));
                let per_column =
                    |of: &Tensor| to_vec(&squared_norm(of)).into_iter().map(|v| v / d as f64);
                norms.extend(per_column(&noise).map(|norm| 1.0 - norm));
                errors.extend(per_column(&(z - noise)));
            }
            let (value, error) = mean_and_error(&errors);
            let (of_score, of_score_error) = mean_and_error(&norms);
            if !(value.is_finite() && of_score.is_finite()) {
                let problem = format!("the model's noise is not finite at t = {t:.3e}");
                return Err(Error::numeric(problem, "train longer at a lower learning rate"));
            }
            found.log_snr.push(schedule.log_snr(t));
            found.mean.push(value);
            found.std_error.push(error);
            found.of_score.push(of_score);
            found.of_score_error.push(of_score_error);
        }
        Ok(found)
    }

    /// `Γ` as a multiple of the identity at `log_snr`, in `[0, 1]`; beyond the measured times that
    /// of the nearest.
    pub fn g(&self, log_snr: f64) -> f64 {
        between(&self.log_snr, &self.mean, log_snr)
    }

    /// `Γ_s` at `log_snr`, as [`NoiseStatistics::g`] is `Γ`.
    ///
    /// # Panics
    /// Without [`NoiseStatistics::has_score`].
    pub fn g_of_score(&self, log_snr: f64) -> f64 {
        between(&self.log_snr, &self.of_score, log_snr)
    }

    /// Whether `Γ_s` was measured too: what older versions kept has `Γ` alone.
    pub fn has_score(&self) -> bool {
        !self.of_score.is_empty()
    }

    /// [`NoiseStatistics::g`] for rows with times of their own, on `device`.
    pub fn interpolant(&self, device: Device) -> Interpolant {
        Interpolant::new(&self.log_snr, &self.mean, device)
    }

    /// [`NoiseStatistics::g_of_score`] for rows with times of their own, on `device`.
    pub fn interpolant_of_score(&self, device: Device) -> Interpolant {
        Interpolant::new(&self.log_snr, &self.of_score, device)
    }

    /// At how many of the measured times `Γ` and `Γ_s` are out of `[0, 1]`, where they are clamped,
    /// and how many times there are.
    pub fn clamped(&self) -> ([usize; 2], usize) {
        let beyond = |of: &[f64]| of.iter().filter(|g| !(0.0..=1.0).contains(*g)).count();
        ([beyond(&self.mean), beyond(&self.of_score)], self.log_snr.len())
    }

    /// The largest Monte-Carlo standard error of `Γ`.
    pub fn largest_error(&self) -> f64 {
        self.std_error.iter().copied().fold(0.0, f64::max)
    }

    /// What is wrong with numbers from a file, if anything.
    pub fn problem(&self) -> Option<&'static str> {
        let n = self.log_snr.len();
        let lists = [&self.log_snr, &self.mean, &self.std_error];
        let later = [&self.of_score, &self.of_score_error];
        let equal = lists.iter().all(|list| list.len() == n)
            && (later.iter().all(|list| list.len() == n) || later.iter().all(|l| l.is_empty()));
        if n < 2 || !equal {
            return Some("has lists of unequal length");
        }
        let finite = lists.into_iter().chain(later).flatten().all(|v| v.is_finite());
        let falling = self.log_snr.windows(2).all(|pair| pair[0] > pair[1]);
        (!finite || !falling).then_some("holds numbers that are not finite, or times out of order")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::Space;
    use crate::oracle::{GaussianMixture, Oracle};
    use crate::posterior::NoiseMoments;
    use crate::schedule::{Schedule, SubVp, Ve, Vp};

    fn schedules() -> [Arc<dyn Schedule>; 3] {
        [Arc::new(Vp::default()), Arc::new(SubVp::default()), Arc::new(Ve::default())]
    }

    /// An oracle whose noise is `c ε* + b` in every coordinate.
    struct Wrong {
        oracle: Oracle,
        c: f64,
        b: f64,
    }

    impl Denoiser for Wrong {
        fn space(&self) -> &Space {
            self.oracle.space()
        }
        fn noise(&self, q: &Query) -> Tensor {
            self.oracle.noise(q) * self.c + self.b
        }
        fn moments(&self, _: &Query) -> NoiseMoments {
            unreachable!("measured of the noise alone")
        }
    }

    /// On N(0, v I), `Γ*` known: both are `Γ*` for the exact score. For `ε̂ = c ε* + b`, with
    /// `E‖ε*‖²/d = 1 − Γ*` and `E ε* = 0`, `Γ = Γ* + (1 − c)²(1 − Γ*) + b²`, never below `Γ*`, and
    /// `Γ_s = 1 − c²(1 − Γ*) − b²`. Within four Monte-Carlo errors at each of 12 times; the numbers
    /// are apart by more than that where the score is wrong.
    #[test]
    fn an_error_of_the_score_adds_to_one_and_moves_the_other() {
        let v: f64 = 0.7;
        for schedule in schedules() {
            let make = || {
                let mixture = GaussianMixture::new(&[1.0], &[[0.0; 4]], &[v.sqrt()]).unwrap();
                Oracle::new(mixture, schedule.clone())
            };
            let rows = make().mixture.sample(4000, Seed(1));
            for (c, b) in [(1.0, 0.0), (0.8, 0.0), (1.3, 0.0), (1.0, 0.4), (0.9, -0.3)] {
                let model = Wrong { oracle: make(), c, b };
                let found =
                    NoiseStatistics::measure(&model, &Batch::of(&rows), 12, 4000, Seed(2)).unwrap();
                let mut apart = 0.0f64;
                for i in 0..12 {
                    let snr = found.log_snr[i].exp() * v;
                    let exact = snr / (snr + 1.0);
                    let (gap, norm) = ((1.0 - c) * (1.0 - c), 1.0 - exact);
                    let expected = [exact + gap * norm + b * b, 1.0 - c * c * norm - b * b];
                    let measured = [found.mean[i], found.of_score[i]];
                    let errors = [found.std_error[i], found.of_score_error[i]];
                    for k in 0..2 {
                        let (gap, error) = ((measured[k] - expected[k]).abs(), errors[k]);
                        let what = (&schedule, c, b, i, k);
                        assert!(gap < 4.0 * error + 1e-12, "{what:?}: off by {gap} ± {error}");
                    }
                    apart = apart.max((measured[0] - measured[1]).abs() / (errors[0] + errors[1]));
                }
                assert_eq!(apart > 4.0, (c, b) != (1.0, 0.0), "{schedule:?} {c} {b}: {apart}");
            }
        }
    }

    /// Numbers out of `[0, 1]` are kept as measured, clamped where they are used, and counted.
    #[test]
    fn what_is_clamped_is_counted() {
        let mixture = GaussianMixture::new(&[1.0], &[[0.0; 4]], &[0.5]).unwrap();
        let oracle = Oracle::new(mixture, Arc::new(Vp::default()));
        let rows = oracle.mixture.sample(500, Seed(1));
        // Γ_s = 1 − 2.25 (1 − Γ*), below 0 where Γ* is less than 5/9
        let model = Wrong { oracle, c: 1.5, b: 0.0 };
        let found = NoiseStatistics::measure(&model, &Batch::of(&rows), 20, 500, Seed(2)).unwrap();
        let below = found.of_score.iter().filter(|g| **g < 0.0).count();
        // Γ is 1 where nearly nothing is known of the noise, and its estimate on either side of it
        let above = found.mean.iter().filter(|g| **g > 1.0).count();
        assert!(below > 4 && above > 0, "{found:?}");
        assert_eq!(found.clamped(), ([above, below], 20));
        assert_eq!(found.g_of_score(found.log_snr[19]), 0.0);
        assert!(found.g(found.log_snr[19]) > 0.2);
    }

    /// What was kept before `Γ_s` was measured loads, and says that it lacks it.
    #[test]
    fn older_files_load() {
        let json = r#"{ "log_snr": [1.0, 0.0], "mean": [0.5, 0.4], "std_error": [0.1, 0.1] }"#;
        let found: NoiseStatistics = serde_json::from_str(json).unwrap();
        assert!(found.problem().is_none() && !found.has_score());
        let half = json.replace("}", ", \"of_score\": [0.1, 0.2] }");
        let half: NoiseStatistics = serde_json::from_str(&half).unwrap();
        assert!(half.problem().is_some());
    }

    /// For N(0, v I) the score is linear and `G = α²v/(α²v + σ²)`, at the nodes within four
    /// Monte-Carlo errors and between them within those and the curvature of 200 nodes.
    #[test]
    fn isotropic_data_have_their_own_covariance() {
        for schedule in schedules() {
            let v: f64 = 0.7;
            let oracle = Oracle::new(
                GaussianMixture::new(&[1.0], &[[0.0; 4]], &[v.sqrt()]).unwrap(),
                schedule.clone(),
            );
            let rows = oracle.mixture.sample(4000, Seed(1));
            let found =
                NoiseStatistics::measure(&oracle, &Batch::of(&rows), 200, 1000, Seed(2)).unwrap();
            assert_eq!(
                found,
                NoiseStatistics::measure(&oracle, &Batch::of(&rows), 200, 333, Seed(2)).unwrap()
            );
            let exact = |t: f64| {
                let signal = schedule.alpha(t).powi(2) * v;
                signal / (signal + schedule.sigma2(t))
            };
            for i in 0..100 {
                let t = schedule.importance_time((i as f64 + 0.3) / 100.0);
                let (g, exact) = (found.g(schedule.log_snr(t)), exact(t));
                let error = 4.0 * found.largest_error() + 2e-3;
                assert!((g - exact).abs() < error, "{schedule:?} at {t}: {g} {exact} ± {error}");
            }
            assert!(found.largest_error() < 0.02 && found.problem().is_none());
            // near T, where the data are all but unknown, G is small and known to a few per cent of
            // itself
            assert!(found.std_error[199] < 0.03 * found.mean[199], "{found:?}");
        }
    }
}
