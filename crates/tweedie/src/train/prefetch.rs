//! Batches made ahead of the training loop, on a thread of their own.

use std::ops::Range;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::Scope;
use std::time::Instant;

use tch::{Device, Kind};

use super::rows::{Order, Rows};
use crate::noise::{Draw, Noise, Seed};
use crate::query::Batch;

/// Batches that lie ready, at most.
const AHEAD: usize = 3;

/// A batch of clean rows, where the model computes.
pub(crate) struct Staged {
    /// The rows in the network's units, and their classes where they have any.
    pub batch: Batch,
    /// The rows' noise, after what making them has drawn; what the objective draws lies ready.
    pub noise: Noise,
}

/// Where batches go, and what lies ready with them.
#[derive(Clone, Debug)]
pub(crate) struct Stage {
    pub kind: Kind,
    pub device: Device,
    /// Of the model, where it is conditioned on any.
    pub classes: i64,
    /// Share of rows whose class is dropped.
    pub label_dropout: f64,
    /// What the objective draws for each row.
    pub draws: Vec<Draw>,
}

impl Stage {
    /// Rows that stay on the CPU, nothing drawn ahead, of a model of so many classes.
    pub fn here(classes: i64) -> Stage {
        let (kind, device) = (Kind::Float, Device::Cpu);
        Stage { kind, device, classes, label_dropout: 0.0, draws: Vec::new() }
    }

    /// Batch `number` of `data`: the same whoever makes it, and when.
    fn batch(&self, data: &dyn Rows, order: &mut Order, seed: Seed, number: u64) -> Staged {
        let chosen = order.batch(number);
        let first = number * chosen.len() as u64;
        let rows = first..first + chosen.len() as u64;
        let mut noise = Noise::new(seed.derive("noise"), rows.clone());
        let Batch { x, condition } = data.batch(&chosen, &mut noise, (self.kind, self.device));
        noise.stage(&self.draws, self.kind, self.device);
        let condition = condition.map(|condition| {
            if self.label_dropout == 0.0 {
                return condition;
            }
            let draws = Noise::new(seed.derive("label dropout"), rows).uniform(1);
            condition.without(|row| draws[row] < self.label_dropout)
        });
        if let Some(condition) = &condition {
            condition.place(self.classes, self.device);
        }
        Staged { batch: Batch { x, condition }, noise }
    }
}

/// Batches in order, at most [`AHEAD`] of them made before they are requested.
pub(super) struct Prefetch {
    batches: Receiver<Staged>,
}

impl Prefetch {
    /// Starts to make the batches `numbers`. The thread ends after the last, or when this is
    /// dropped.
    pub(super) fn start<'scope, 'env>(
        scope: &'scope Scope<'scope, 'env>,
        data: &'env dyn Rows,
        mut order: Order,
        stage: Stage,
        seed: Seed,
        numbers: Range<u64>,
    ) -> Prefetch {
        let (ready, batches) = sync_channel(AHEAD);
        scope.spawn(move || {
            for number in numbers {
                if ready.send(stage.batch(data, &mut order, seed, number)).is_err() {
                    break;
                }
            }
        });
        Prefetch { batches }
    }

    /// The next batch, and the seconds it was waited for.
    ///
    /// # Panics
    /// If making it has panicked, or there is none left.
    pub(super) fn next(&self) -> (Staged, f64) {
        let begun = Instant::now();
        let batch = self.batches.recv().expect("a batch for every step");
        (batch, begun.elapsed().as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Tensor;

    /// Rows that say their number and draw once.
    struct Numbered;
    impl Rows for Numbered {
        fn len(&self) -> usize {
            10
        }
        fn gather(&self, rows: &[usize], noise: &mut Noise, _: (Kind, Device)) -> Tensor {
            let numbers: Vec<f64> =
                rows.iter().zip(noise.uniform(1)).map(|(&r, u)| r as f64 + u).collect();
            Tensor::from_slice(&numbers).unsqueeze(-1)
        }
        fn classes(&self, rows: &[usize]) -> Option<Vec<u32>> {
            Some(rows.iter().map(|&row| row as u32).collect())
        }
    }

    fn stage() -> Stage {
        Stage {
            kind: Kind::Double,
            device: Device::Cpu,
            classes: 10,
            label_dropout: 0.0,
            draws: vec![Draw::Normal(2)],
        }
    }

    /// The bits of rows and of the noise that is left do not depend on the thread, nor on where it
    /// starts.
    #[test]
    fn batches_made_ahead_are_the_same() {
        let (seed, order) = (Seed(3), || Order::new(10, 3, Seed(1)));
        std::thread::scope(|scope| {
            let ahead = Prefetch::start(scope, &Numbered, order(), stage(), seed, 5..20);
            for number in 5..20 {
                let mut theirs = ahead.next().0;
                let mut ours = stage().batch(&Numbered, &mut order(), seed, number);
                assert!(theirs.batch.x.equal(&ours.batch.x));
                let classes = |staged: &Staged| {
                    let condition = staged.batch.condition.as_ref().expect("classes");
                    crate::tensor::to_vec(condition.class_tensor(10, Device::Cpu))
                };
                assert_eq!(classes(&theirs), classes(&ours));
                let normal =
                    |staged: &mut Staged| staged.noise.normal(2, Kind::Double, Device::Cpu);
                assert_eq!(normal(&mut theirs), normal(&mut ours));
                let more = |staged: &mut Staged| staged.noise.uniform(3);
                assert_eq!(more(&mut theirs), more(&mut ours));
            }
        });
    }

    /// Of the draws the share that is given loses its class, 3000 draws at three standard errors;
    /// rows and their noise are those of a training that drops none.
    #[test]
    fn labels_are_dropped() {
        let (seed, order) = (Seed(3), || Order::new(10, 10, Seed(1)));
        let dropping = Stage { label_dropout: 0.2, ..stage() };
        let (mut ours, mut others, mut dropped) = (order(), order(), 0);
        for number in 0..300 {
            let mut staged = dropping.batch(&Numbered, &mut ours, seed, number);
            let mut plain = stage().batch(&Numbered, &mut others, seed, number);
            let classes = |staged: &Staged| {
                let condition = staged.batch.condition.as_ref().expect("classes");
                crate::tensor::to_vec(condition.class_tensor(10, Device::Cpu))
            };
            for (class, own) in classes(&staged).into_iter().zip(classes(&plain)) {
                assert!(class == own || class == 10.0);
                dropped += usize::from(class == 10.0);
            }
            assert!(staged.batch.x.equal(&plain.batch.x));
            let normal = |staged: &mut Staged| staged.noise.normal(2, Kind::Double, Device::Cpu);
            assert_eq!(normal(&mut staged), normal(&mut plain));
        }
        let (mean, sd) = (600.0, (3000.0 * 0.2 * 0.8f64).sqrt());
        assert!((dropped as f64 - mean).abs() < 3.0 * sd, "{dropped}");
    }

    /// A loop that ends early is not held up by batches that nobody takes: without an end this test
    /// hangs.
    #[test]
    fn the_thread_ends_with_the_loop() {
        std::thread::scope(|scope| {
            let order = Order::new(10, 3, Seed(1));
            let ahead = Prefetch::start(scope, &Numbered, order, stage(), Seed(3), 0..u64::MAX);
            ahead.next();
        });
    }
}
