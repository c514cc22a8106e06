//! What is measured of a model's noise on data: its mean square error, one number per time.

use serde::{Deserialize, Serialize};
use tch::{Device, Tensor, no_grad};

use super::interpolant::between;
use super::{Denoiser, Interpolant};
use crate::noise::{Noise, Seed};
use crate::query::{Query, Times};
use crate::statistics::mean_and_error;
use crate::tensor::{squared_norm, to_vec};
use crate::{Error, Result};

/// `Γ(t) = E‖ε − ε̂(x_t)‖²/d` over data and noise, at times even in the log signal-to-noise ratio
/// and linear in it between: the isotropic `G = Γ(t) I` of least divergence under any score. For
/// the exact score it is Analytic-DPM's `1 − E‖ε̂‖²/d` (Theorem 1 there, in our units), whose
/// estimate is a small difference of noisy numbers where `G` is small.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NoiseStatistics {
    /// `ln(α²/σ²)`, falling.
    log_snr: Vec<f64>,
    /// `Γ`.
    mean: Vec<f64>,
    /// Its Monte-Carlo standard error.
    std_error: Vec<f64>,
}

impl NoiseStatistics {
    /// Measures `model` at `times` times on data `[n, d]` in its units, each datum with noise of
    /// its own at each time, `batch` rows at a time.
    ///
    /// # Errors
    /// With fewer than two times or rows, or if the model is not finite.
    pub fn measure(
        model: &dyn Denoiser,
        rows: &Tensor,
        times: usize,
        batch: usize,
        seed: Seed,
    ) -> Result<NoiseStatistics> {
        let (n, d) = rows.size2().expect("rows [n, d]");
        if times < 2 || n < 2 {
            let problem = format!("{times} times and {n} rows");
            return Err(Error::config("analytic covariance", problem, "give at least two of each"));
        }
        let space = model.space();
        let schedule = space.schedule();
        let (mut log_snr, mut mean, mut std_error) = (Vec::new(), Vec::new(), Vec::new());
        for i in 0..times {
            let t = schedule.importance_time(i as f64 / (times - 1) as f64);
            let seed = seed.derive(&format!("time {i}"));
            let mut squares = Vec::with_capacity(n as usize);
            for start in (0..n).step_by(batch.max(1)) {
                let count = (batch as i64).min(n - start);
                let x0 = space.place(&rows.narrow(0, start, count));
                let numbers = start as u64..(start + count) as u64;
                let z = Noise::new(seed, numbers).normal(d as usize, x0.kind(), x0.device());
                let times = Times::All(t);
                let xt = x0 * schedule.alpha(t) + &z * schedule.sigma(t);
                let noise = no_grad(|| model.noise(&Query::new(&xt, &times)));
                squares.extend(
                    to_vec(&squared_norm(&(z - noise))).into_iter().map(|square| square / d as f64),
                );
            }
            let (value, error) = mean_and_error(&squares);
            if !value.is_finite() {
                let problem = format!("the model's noise is not finite at t = {t:.3e}");
                return Err(Error::numeric(problem, "train longer at a lower learning rate"));
            }
            log_snr.push(schedule.log_snr(t));
            mean.push(value);
            std_error.push(error);
        }
        Ok(NoiseStatistics { log_snr, mean, std_error })
    }

    /// `G` as a multiple of the identity at `log_snr`, in `[0, 1]`; beyond the measured times that
    /// of the nearest.
    pub fn g(&self, log_snr: f64) -> f64 {
        between(&self.log_snr, &self.mean, log_snr)
    }

    /// [`NoiseStatistics::g`] for rows with times of their own, on `device`.
    pub fn interpolant(&self, device: Device) -> Interpolant {
        Interpolant::new(&self.log_snr, &self.mean, device)
    }

    /// The largest Monte-Carlo standard error of `Γ`.
    pub fn largest_error(&self) -> f64 {
        self.std_error.iter().copied().fold(0.0, f64::max)
    }

    /// What is wrong with numbers from a file, if anything.
    pub fn problem(&self) -> Option<&'static str> {
        let n = self.log_snr.len();
        if n < 2 || self.mean.len() != n || self.std_error.len() != n {
            return Some("has lists of unequal length");
        }
        let finite =
            self.log_snr.iter().chain(&self.mean).chain(&self.std_error).all(|v| v.is_finite());
        let falling = self.log_snr.windows(2).all(|pair| pair[0] > pair[1]);
        (!finite || !falling).then_some("holds numbers that are not finite, or times out of order")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::oracle::{GaussianMixture, Oracle};
    use crate::schedule::{Schedule, SubVp, Ve, Vp};

    /// For N(0, v I) the score is linear and `G = α²v/(α²v + σ²)`, at the nodes within four
    /// Monte-Carlo errors and between them within those and the curvature of 200 nodes.
    #[test]
    fn isotropic_data_have_their_own_covariance() {
        let schedules: [Arc<dyn Schedule>; 3] =
            [Arc::new(Vp::default()), Arc::new(SubVp::default()), Arc::new(Ve::default())];
        for schedule in schedules {
            let v: f64 = 0.7;
            let oracle = Oracle::new(
                GaussianMixture::new(&[1.0], &[[0.0; 4]], &[v.sqrt()]).unwrap(),
                schedule.clone(),
            );
            let rows = oracle.mixture.sample(4000, Seed(1));
            let found = NoiseStatistics::measure(&oracle, &rows, 200, 1000, Seed(2)).unwrap();
            assert_eq!(found, NoiseStatistics::measure(&oracle, &rows, 200, 333, Seed(2)).unwrap());
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
