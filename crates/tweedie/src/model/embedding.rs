//! How a network sees time.

use tch::Tensor;

use crate::schedule::Schedule;

/// Sines and cosines of the log signal-to-noise ratio, scaled to `[−1, 1]` over `[ε, T]`, at
/// doubling frequencies, and the ratio itself: `2 frequencies + 1` features.
#[derive(Clone, Copy, Debug)]
pub struct TimeEmbedding {
    frequencies: usize,
    middle: f64,
    half: f64,
}

impl TimeEmbedding {
    /// With this many frequencies (0: the scaled log signal-to-noise ratio alone).
    pub fn new(schedule: &dyn Schedule, frequencies: usize) -> TimeEmbedding {
        let (a, b) = (schedule.log_snr(schedule.horizon()), schedule.log_snr(schedule.epsilon()));
        TimeEmbedding { frequencies, middle: 0.5 * (a + b), half: 0.5 * (b - a) }
    }

    /// Number of features.
    pub fn size(&self) -> i64 {
        2 * self.frequencies as i64 + 1
    }

    /// Features `[b, size]` in the kind and on the device of `like`. Equal times are computed once.
    pub fn features(&self, schedule: &dyn Schedule, t: &[f64], like: &Tensor) -> Tensor {
        let size = self.size() as usize;
        let mut values = Vec::with_capacity(t.len() * size);
        let mut last = f64::NAN;
        for &t in t {
            if t == last {
                values.extend_from_within(values.len() - size..);
                continue;
            }
            last = t;
            let tau = (schedule.log_snr(t.max(1e-12)) - self.middle) / self.half;
            values.push(tau as f32);
            for i in 0..self.frequencies {
                let (sin, cos) = (std::f64::consts::FRAC_PI_2 * tau * (1u64 << i) as f64).sin_cos();
                values.extend([sin as f32, cos as f32]);
            }
        }
        Tensor::from_slice(&values)
            .view([t.len() as i64, size as i64])
            .to_kind(like.kind())
            .to_device(like.device())
    }
}
