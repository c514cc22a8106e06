//! Which steps of a chain a loss on the variational bound is computed at.

use std::cell::RefCell;

use tch::Tensor;

use crate::choice::choices;
use crate::covariance::log_bounds;
use crate::noise::Noise;
use crate::schedule::Schedule;
use crate::tensor::to_vec;

choices! {
    /// How the steps of the chain are drawn. A loss is weighted by one over its step's probability,
    /// so that its mean is the sum over the chain whichever it is.
    pub enum StepDistribution = Analytic {
        /// In proportion to `ln(β_i/β̃_i) + 1/N`: what the gradient of a step's term in the head's
        /// output is in proportion to, known beforehand.
        Analytic = "analytic",
        /// In proportion to the root mean square of the step's last ten losses, and uniform until
        /// every step has ten (I-DDPM).
        LossAware = "loss-aware",
        /// Every step with the same probability.
        Uniform = "uniform",
    }
}

/// Losses of a step that are kept.
const KEPT: usize = 10;

/// The share of the uniform distribution in the loss-aware one (openai/improved-diffusion has it
/// so): a step whose losses were 0 is still drawn.
const UNIFORM_SHARE: f64 = 0.001;

/// A step that was drawn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Drawn {
    /// From 0.
    pub step: usize,
    /// Its times, `s < t`.
    pub s: f64,
    /// See `s`.
    pub t: f64,
    /// One over its probability.
    pub weight: f64,
}

/// Draws steps, and keeps the losses that their distribution depends on.
#[derive(Clone, Debug, Default)]
pub(super) struct StepSampler {
    distribution: StepDistribution,
    losses: RefCell<Option<Losses>>,
    /// Steps and losses of the last loss.
    seen: RefCell<Vec<(u32, f64)>>,
}

impl StepSampler {
    pub fn new(distribution: StepDistribution) -> StepSampler {
        StepSampler { distribution, ..StepSampler::default() }
    }

    /// `draws` steps for each row of `noise`, spread evenly over the quantiles.
    pub fn draw(&self, schedule: &dyn Schedule, draws: usize, noise: &mut Noise) -> Vec<Drawn> {
        let steps = Steps::new(schedule, &self.masses(schedule));
        let uniforms = noise.uniform(draws).into_iter().enumerate();
        uniforms.map(|(k, u)| steps.at(((k % draws) as f64 + u) / draws as f64)).collect()
    }

    /// The probabilities of the steps, up to a factor.
    fn masses(&self, schedule: &dyn Schedule) -> Vec<f64> {
        let n = schedule.steps();
        let time = |i: usize| i as f64 * schedule.horizon() / n as f64;
        match self.distribution {
            StepDistribution::Uniform => vec![1.0; n],
            StepDistribution::Analytic => {
                let mass = |i| {
                    let (small, large) = log_bounds(schedule, time(i), time(i + 1));
                    large - small + 1.0 / n as f64
                };
                (0..n).map(mass).collect()
            }
            StepDistribution::LossAware => {
                self.losses.borrow_mut().get_or_insert_with(|| Losses::new(n)).masses()
            }
        }
    }

    /// Takes note of the `losses` `[b]` of the steps `drawn`, unweighted, to learn from.
    pub fn see(&self, drawn: &[Drawn], losses: &Tensor) {
        if self.distribution == StepDistribution::LossAware {
            let steps = drawn.iter().map(|drawn| drawn.step as u32);
            self.seen.replace(steps.zip(to_vec(&losses.detach())).collect());
        }
    }

    /// What was seen last, if the steps' distribution depends on it.
    pub fn observed(&self) -> Option<Vec<(u32, f64)>> {
        (self.distribution == StepDistribution::LossAware).then(|| self.seen.take())
    }

    /// Keeps these losses of steps. Those that are not finite are left out.
    pub fn learn(&self, observed: &[(u32, f64)]) {
        if let Some(kept) = &mut *self.losses.borrow_mut() {
            observed.iter().for_each(|&(step, loss)| kept.push(step as usize, loss as f32));
        }
    }

    /// The losses that are kept, as [`StepSampler::restore`] takes them: `[11 N]`, the ten of each
    /// step, and how many of the ten there are so far.
    pub fn memory(&self) -> Option<Tensor> {
        self.losses.borrow().as_ref().map(Losses::flat)
    }

    /// Goes on with `memory`, or begins anew.
    ///
    /// # Errors
    /// If it is not of the chain of `schedule`, or holds what is no number of losses.
    pub fn restore(&self, schedule: &dyn Schedule, memory: Option<&Tensor>) -> Result<(), String> {
        let losses = match memory.filter(|_| self.distribution == StepDistribution::LossAware) {
            Some(memory) => Some(Losses::read(memory, schedule.steps())?),
            None => None,
        };
        self.losses.replace(losses);
        Ok(())
    }
}

/// The last losses of every step. In f32, as a checkpoint has them.
#[derive(Clone, Debug, PartialEq)]
struct Losses {
    /// Of each step, oldest first.
    last: Vec<[f32; KEPT]>,
    counts: Vec<usize>,
}

impl Losses {
    fn new(steps: usize) -> Losses {
        Losses { last: vec![[0.0; KEPT]; steps], counts: vec![0; steps] }
    }

    fn push(&mut self, step: usize, loss: f32) {
        if !loss.is_finite() {
            return;
        }
        let (last, count) = (&mut self.last[step], &mut self.counts[step]);
        if *count == KEPT {
            last.rotate_left(1);
            last[KEPT - 1] = loss;
        } else {
            last[*count] = loss;
            *count += 1;
        }
    }

    /// `p_i ∝ √E[L_i²]` once every step has ten losses, a thousandth of it uniform (Nichol &
    /// Dhariwal 2021, eq. 18).
    fn masses(&self) -> Vec<f64> {
        let n = self.last.len() as f64;
        let square = |losses: &[f32; KEPT]| losses.iter().map(|&l| (l as f64).powi(2)).sum::<f64>();
        let roots: Vec<f64> = self.last.iter().map(|l| (square(l) / KEPT as f64).sqrt()).collect();
        let total: f64 = roots.iter().sum();
        if self.counts.iter().any(|&count| count < KEPT) || !(total > 0.0 && total.is_finite()) {
            return vec![1.0 / n; self.last.len()];
        }
        roots.iter().map(|r| (1.0 - UNIFORM_SHARE) * r / total + UNIFORM_SHARE / n).collect()
    }

    fn flat(&self) -> Tensor {
        let counts = self.counts.iter().map(|&count| count as f32);
        let numbers: Vec<f32> = self.last.iter().flatten().copied().chain(counts).collect();
        Tensor::from_slice(&numbers)
    }

    fn read(flat: &Tensor, steps: usize) -> Result<Losses, String> {
        let numbers = to_vec(flat);
        if numbers.len() != steps.saturating_mul(KEPT + 1) {
            let count = numbers.len();
            return Err(format!(
                "holds {count} numbers of the losses of the chain's {steps} steps"
            ));
        }
        let (losses, counts) = numbers.split_at(steps * KEPT);
        let possible = |count: &f64| count.fract() == 0.0 && (0.0..=KEPT as f64).contains(count);
        if !counts.iter().all(possible) || !losses.iter().all(|loss| loss.is_finite()) {
            return Err("holds losses of the chain's steps that cannot be".into());
        }
        let of_step = |chunk: &[f64]| std::array::from_fn(|i| chunk[i] as f32);
        Ok(Losses {
            last: losses.chunks(KEPT).map(of_step).collect(),
            counts: counts.iter().map(|&count| count as usize).collect(),
        })
    }
}

/// The steps of a chain, and the distribution that they are drawn by.
struct Steps {
    /// `0 = t_0 < … < t_N`.
    times: Vec<f64>,
    /// Its mass up to each step, from 0.
    mass: Vec<f64>,
}

impl Steps {
    fn new(schedule: &dyn Schedule, masses: &[f64]) -> Steps {
        let n = schedule.steps();
        let times: Vec<f64> = (0..=n).map(|i| i as f64 * schedule.horizon() / n as f64).collect();
        let mut mass = vec![0.0];
        masses.iter().for_each(|of_step| mass.push(mass[mass.len() - 1] + of_step));
        Steps { times, mass }
    }

    /// The step at quantile `u`.
    fn at(&self, u: f64) -> Drawn {
        let n = self.times.len() - 1;
        let total = self.mass[n];
        let i = self.mass.partition_point(|mass| *mass <= u * total).clamp(1, n);
        let weight = total / (self.mass[i] - self.mass[i - 1]);
        Drawn { step: i - 1, s: self.times[i - 1], t: self.times[i], weight }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choice::Choice;
    use crate::schedule::{ScheduleConfig, StepLaw};

    fn chain(steps: usize) -> std::sync::Arc<dyn Schedule> {
        ScheduleConfig::Discrete { steps, law: StepLaw::Linear, beta_start: 0.02, beta_end: 0.6 }
            .build()
            .unwrap()
    }

    /// The probabilities add up to 1 and every quantile falls on a step of the chain, the first and
    /// the last included.
    #[test]
    fn every_step_is_drawn_with_its_probability() {
        let schedule = chain(7);
        for distribution in StepDistribution::all() {
            let steps = Steps::new(&*schedule, &StepSampler::new(distribution).masses(&*schedule));
            let n = 70_000;
            let mut found = vec![0.0; 7];
            for k in 0..n {
                let Drawn { step, s, t, weight } = steps.at((k as f64 + 0.5) / n as f64);
                assert!((t - s - 1.0 / 7.0).abs() < 1e-12);
                assert_eq!((t * 7.0).round() as usize, step + 1);
                found[step] += weight / n as f64;
            }
            assert!(found.iter().all(|sum| (sum - 1.0).abs() < 1e-3), "{found:?}");
            assert_eq!(steps.at(0.0).s, 0.0);
            assert_eq!(steps.at(1.0).t, 1.0);
        }
    }

    /// By hand, three steps: uniform until each has ten losses; then in proportion to the root mean
    /// square of the last ten, of which the oldest goes: 2, 4 and √((9·1 + 121)/10) = √13.
    #[test]
    fn the_last_ten_losses_are_counted() {
        let mut losses = Losses::new(3);
        for k in 0..10 {
            losses.push(0, 2.0);
            losses.push(1, if k % 2 == 0 { -4.0 } else { 4.0 });
        }
        for _ in 0..9 {
            losses.push(2, 1.0);
        }
        losses.push(2, f32::NAN);
        assert_eq!(losses.masses(), [1.0 / 3.0; 3]);
        losses.push(2, 100.0);
        // the oldest goes, and the hundred becomes one of nine more, until it goes itself
        for loss in [1.0; 9].into_iter().chain([11.0]) {
            losses.push(2, loss);
        }
        let root = 13f64.sqrt();
        let expected = [2.0, 4.0, root].map(|r| 0.999 * r / (6.0 + root) + 0.001 / 3.0);
        let found = losses.masses();
        let gap = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(gap < 1e-15, "{found:?} {expected:?}");
        assert!((found.iter().sum::<f64>() - 1.0).abs() < 1e-15);
    }

    /// What is kept is read back to the same bits; what cannot be is refused.
    #[test]
    fn memory_is_read_back() {
        let schedule = chain(4);
        let sampler = StepSampler::new(StepDistribution::LossAware);
        assert!(sampler.memory().is_none());
        let mut noise = Noise::new(crate::noise::Seed(1), 0..50);
        let drawn = sampler.draw(&*schedule, 1, &mut noise);
        let losses = Tensor::from_slice(&(0..50).map(|i| 0.1 * i as f64).collect::<Vec<_>>());
        sampler.see(&drawn, &losses);
        sampler.learn(&sampler.observed().unwrap());
        let memory = sampler.memory().unwrap();
        let other = StepSampler::new(StepDistribution::LossAware);
        other.restore(&*schedule, Some(&memory)).unwrap();
        assert_eq!(*sampler.losses.borrow(), *other.losses.borrow());
        assert!(sampler.masses(&*schedule) == other.masses(&*schedule));
        other.restore(&*schedule, None).unwrap();
        assert!(other.memory().is_none());
        for wrong in [memory.narrow(0, 0, 40), &memory + 0.5, &memory * f64::NAN, &memory * 30.0] {
            assert!(other.restore(&*schedule, Some(&wrong)).is_err(), "{wrong:?}");
        }
        // of another distribution there is nothing to keep
        let uniform = StepSampler::new(StepDistribution::Uniform);
        uniform.restore(&*schedule, Some(&memory)).unwrap();
        assert!(uniform.memory().is_none());
    }
}
