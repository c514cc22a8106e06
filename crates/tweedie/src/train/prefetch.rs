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
    /// Rows of the batch in all processes.
    pub all: usize,
}

impl Staged {
    /// The seed of the dropout of these rows in micro-batch `number`. Several processes drop
    /// independently of each other, and otherwise than one does.
    pub fn dropout(&self, seed: Seed, number: u64) -> Seed {
        match self.batch.first {
            0 => seed.derive(&number.to_string()),
            first => seed.derive(&format!("{number} from row {first}")),
        }
    }
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

    /// The rows `part` of batch `number` of `data`: the same whoever makes it, and when.
    fn batch(
        &self,
        data: &dyn Rows,
        (order, part): (&mut Order, &Range<usize>),
        seed: Seed,
        number: u64,
    ) -> Staged {
        let chosen = order.batch(number);
        let (all, first) = (chosen.len(), number * chosen.len() as u64);
        let rows = first + part.start as u64..first + part.end as u64;
        let mut noise = Noise::new(seed.derive("noise"), rows.clone());
        let place = (self.kind, self.device);
        let batch = data.batch(&chosen[part.clone()], &mut noise, place);
        let Batch { x, condition, .. } = batch;
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
        Staged { batch: Batch { x, condition, first: part.start }, noise, all }
    }
}

/// Batches in order, at most [`AHEAD`] of them made before they are requested.
pub(super) struct Prefetch {
    batches: Receiver<Staged>,
}

impl Prefetch {
    /// Starts to make the rows `part` of the batches `numbers`. The thread ends after the last, or
    /// when this is dropped.
    pub(super) fn start<'scope, 'env>(
        scope: &'scope Scope<'scope, 'env>,
        data: &'env dyn Rows,
        (mut order, part): (Order, Range<usize>),
        stage: Stage,
        seed: Seed,
        numbers: Range<u64>,
    ) -> Prefetch {
        let (ready, batches) = sync_channel(AHEAD);
        scope.spawn(move || {
            for number in numbers {
                let batch = stage.batch(data, (&mut order, &part), seed, number);
                if ready.send(batch).is_err() {
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
            let ahead = Prefetch::start(scope, &Numbered, (order(), 0..3), stage(), seed, 5..20);
            for number in 5..20 {
                let mut theirs = ahead.next().0;
                let mut ours = stage().batch(&Numbered, (&mut order(), &(0..3)), seed, number);
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
            let mut staged = dropping.batch(&Numbered, (&mut ours, &(0..10)), seed, number);
            let mut plain = stage().batch(&Numbered, (&mut others, &(0..10)), seed, number);
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

    /// Parts of a batch together are the batch: rows, classes and noise.
    #[test]
    fn parts_are_those_of_the_whole_batch() {
        let (seed, order) = (Seed(3), || Order::new(10, 10, Seed(1)));
        let stage = Stage { label_dropout: 0.3, ..stage() };
        let part = |part: Range<usize>| {
            let mut staged = stage.batch(&Numbered, (&mut order(), &part), seed, 7);
            let condition = staged.batch.condition.as_ref().expect("classes");
            let classes = crate::tensor::to_vec(condition.class_tensor(10, Device::Cpu));
            assert_eq!((staged.all, staged.batch.first), (10, part.start));
            let normal = staged.noise.normal(2, Kind::Double, Device::Cpu);
            [crate::tensor::to_vec(&staged.batch.x), classes, crate::tensor::to_vec(&normal)]
        };
        let whole = part(0..10);
        let parts = [part(0..3), part(3..4), part(4..10)];
        for (k, all) in whole.iter().enumerate() {
            assert_eq!(&parts.iter().flat_map(|part| part[k].clone()).collect::<Vec<_>>(), all);
        }
    }

    /// A loop that ends early is not held up by batches that nobody takes: without an end this test
    /// hangs.
    #[test]
    fn the_thread_ends_with_the_loop() {
        std::thread::scope(|scope| {
            let order = Order::new(10, 3, Seed(1));
            let ahead =
                Prefetch::start(scope, &Numbered, (order, 0..3), stage(), Seed(3), 0..u64::MAX);
            ahead.next();
        });
    }
}
