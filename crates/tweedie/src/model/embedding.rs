//! How a network sees time.

use std::cell::OnceCell;

use tch::{Device, Kind, Tensor};

use crate::choice::choices;
use crate::query::{Coefficient, Times};
use crate::schedule::Schedule;
use crate::tensor::upload;

/// Sines and cosines of the log signal-to-noise ratio, scaled to `[−1, 1]` over `[ε, T]`, at
/// doubling frequencies, and the ratio itself: `2 frequencies + 1` features.
#[derive(Debug)]
pub struct TimeEmbedding {
    frequencies: usize,
    middle: f64,
    half: f64,
    /// The angles' factors, on the device of the first use.
    waves: OnceCell<Tensor>,
}

impl TimeEmbedding {
    /// With this many frequencies (0: the scaled log signal-to-noise ratio alone).
    pub fn new(schedule: &dyn Schedule, frequencies: usize) -> TimeEmbedding {
        let (a, b) = (schedule.log_snr(schedule.horizon()), schedule.log_snr(schedule.epsilon()));
        let (middle, half) = (0.5 * (a + b), 0.5 * (b - a));
        TimeEmbedding { frequencies, middle, half, waves: OnceCell::new() }
    }

    /// Number of features.
    pub fn size(&self) -> i64 {
        2 * self.frequencies as i64 + 1
    }

    /// Features `[b, size]`, or `[1, size]` of equal times, in the kind and on the device of
    /// `like`.
    pub fn features(&self, schedule: &dyn Schedule, times: &Times, like: &Tensor) -> Tensor {
        let device = like.device();
        let log_snr = match times {
            Times::All(t) => Coefficient::All(schedule.log_snr(*t)),
            Times::Each(_) => {
                let (alpha, sigma) = times.marginal(schedule, device);
                alpha.ln() * 2.0 - sigma.square().ln()
            }
        };
        let tau = match (log_snr - self.middle) / self.half {
            Coefficient::All(tau) => Tensor::full([1, 1], tau, (Kind::Double, device)),
            Coefficient::Each(tau) => tau,
        };
        if self.frequencies == 0 {
            return tau.to_kind(like.kind());
        }
        let waves = self.waves.get_or_init(|| waves(self.frequencies, device));
        let angles = &tau * waves;
        let pairs = Tensor::stack(&[angles.sin(), angles.cos()], 2).flatten(1, 2);
        Tensor::cat(&[tau, pairs], 1).to_kind(like.kind())
    }
}

choices! {
    /// What the time embedding of a network for images is of.
    pub enum Position = Step {
        /// The step of the discrete process, `t steps − 1`
        Step = "step",
        /// The time itself, `t (steps − 1)`: 999 t of 1000 steps (Song et al. 2021)
        Continuous = "continuous",
    }
}

impl Position {
    /// What is embedded of `times`, of a process in so many `steps`.
    pub(super) fn of(
        self,
        times: &Times,
        schedule: &dyn Schedule,
        steps: i64,
        device: Device,
    ) -> Coefficient {
        let time = times.time(schedule, device);
        match self {
            Position::Step => time * steps as f64 - 1.0,
            Position::Continuous => time * (steps - 1) as f64,
        }
    }
}

/// How positions become features (diffusers' `Timesteps`): sines and cosines at the frequencies
/// `10⁴^(−i/(size/2 − shift))`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Positional {
    /// Number of features; of an odd number the last is 0.
    pub size: i64,
    /// Whether cosines come first.
    pub cosine_first: bool,
    /// Subtracted from the number of frequencies in their exponents.
    pub shift: f64,
}

impl Positional {
    /// Features `[b, size]`, or `[1, size]` of one position for all rows, in the kind and on the
    /// device of `like`.
    pub fn features(self, position: &Coefficient, like: &Tensor) -> Tensor {
        let double = (Kind::Double, like.device());
        let half = self.size / 2;
        let step = -(10_000f64.ln()) / (half as f64 - self.shift);
        let frequencies = (Tensor::arange(half, double) * step).exp();
        let angles = match position {
            Coefficient::All(position) => frequencies.unsqueeze(0) * *position,
            Coefficient::Each(position) => position * frequencies,
        };
        let (sines, cosines) = (angles.sin(), angles.cos());
        let features = match self.cosine_first {
            true => Tensor::cat(&[cosines, sines], 1),
            false => Tensor::cat(&[sines, cosines], 1),
        };
        features.constant_pad_nd([0, self.size % 2]).to_kind(like.kind())
    }
}

/// `π/2 · 2^i`.
fn waves(frequencies: usize, device: Device) -> Tensor {
    let each = (0..frequencies).map(|i| std::f64::consts::FRAC_PI_2 * (1u64 << i) as f64);
    upload(&Tensor::from_slice(&each.collect::<Vec<f64>>()), Kind::Double, device)
}
