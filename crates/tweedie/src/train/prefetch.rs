//! Batches made ahead of the training loop, on a thread of their own.

use std::ops::Range;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::Scope;
use std::time::Instant;

use tch::Tensor;

use super::rows::{Order, Rows};
use crate::noise::{Noise, Seed};

/// Batches that lie ready, at most.
const AHEAD: usize = 3;

/// A batch of clean rows.
pub(super) struct Batch {
    /// `[b, d]` in the network's units.
    pub rows: Tensor,
    /// Their classes, where they have any.
    pub classes: Option<Vec<u32>>,
    /// The rows' noise, after what making them has drawn.
    pub noise: Noise,
}

/// Batch `number` of `data`: the same whoever makes it, and when.
fn batch(data: &dyn Rows, order: &mut Order, seed: Seed, number: u64) -> Batch {
    let chosen = order.batch(number);
    let first = number * chosen.len() as u64;
    let mut noise = Noise::new(seed.derive("noise"), first..first + chosen.len() as u64);
    Batch { rows: data.gather(&chosen, &mut noise), classes: data.classes(&chosen), noise }
}

/// Batches in order, at most [`AHEAD`] of them made before they are asked for.
pub(super) struct Prefetch {
    batches: Receiver<Batch>,
}

impl Prefetch {
    /// Starts to make the batches `numbers`. The thread ends after the last, or when this is
    /// dropped.
    pub(super) fn start<'scope, 'env>(
        scope: &'scope Scope<'scope, 'env>,
        data: &'env dyn Rows,
        mut order: Order,
        seed: Seed,
        numbers: Range<u64>,
    ) -> Prefetch {
        let (ready, batches) = sync_channel(AHEAD);
        scope.spawn(move || {
            for number in numbers {
                if ready.send(batch(data, &mut order, seed, number)).is_err() {
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
    pub(super) fn next(&self) -> (Batch, f64) {
        let asked = Instant::now();
        let batch = self.batches.recv().expect("a batch for every step");
        (batch, asked.elapsed().as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    /// Rows that say their number and draw once.
    struct Numbered;
    impl Rows for Numbered {
        fn len(&self) -> usize {
            10
        }
        fn gather(&self, rows: &[usize], noise: &mut Noise) -> Tensor {
            let numbers: Vec<f64> =
                rows.iter().zip(noise.uniform(1)).map(|(&r, u)| r as f64 + u).collect();
            Tensor::from_slice(&numbers).unsqueeze(-1)
        }
        fn classes(&self, rows: &[usize]) -> Option<Vec<u32>> {
            Some(rows.iter().map(|&row| row as u32).collect())
        }
    }

    /// The bits of rows and of the noise that is left do not depend on the thread, nor on where it
    /// starts.
    #[test]
    fn batches_made_ahead_are_the_same() {
        let (seed, order) = (Seed(3), || Order::new(10, 3, Seed(1)));
        std::thread::scope(|scope| {
            let ahead = Prefetch::start(scope, &Numbered, order(), seed, 5..20);
            for number in 5..20 {
                let (mut theirs, mut ours) =
                    (ahead.next().0, batch(&Numbered, &mut order(), seed, number));
                assert_eq!((&theirs.rows, &theirs.classes), (&ours.rows, &ours.classes));
                let normal = |batch: &mut Batch| batch.noise.normal(2, Kind::Double, Device::Cpu);
                assert_eq!(normal(&mut theirs), normal(&mut ours));
            }
        });
    }

    /// A loop that ends early is not held up by batches that nobody takes: without an end this test
    /// hangs.
    #[test]
    fn the_thread_ends_with_the_loop() {
        std::thread::scope(|scope| {
            let ahead =
                Prefetch::start(scope, &Numbered, Order::new(10, 3, Seed(1)), Seed(3), 0..u64::MAX);
            ahead.next();
        });
    }
}
