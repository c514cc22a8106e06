//! Where training rows come from, and in which order.

use std::sync::Mutex;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

use crate::noise::{Noise, Seed};
use crate::query::{Batch, Condition};
use crate::tensor::upload;

/// A source of clean rows in the network's units. Batches are gathered ahead of the training loop,
/// on another thread.
pub trait Rows: Sync {
    /// Number of rows.
    fn len(&self) -> usize;
    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The rows with these numbers, `[n, d]`, in the kind and on the device of `place`; `noise` has
    /// one stream for each (for dequantisation).
    fn gather(&self, rows: &[usize], noise: &mut Noise, place: (Kind, Device)) -> Tensor;
    /// The classes of these rows, where they have any.
    fn classes(&self, _rows: &[usize]) -> Option<Vec<u32>> {
        None
    }
    /// The rows with these numbers and what is given of them, as [`Rows::gather`].
    fn batch(&self, rows: &[usize], noise: &mut Noise, place: (Kind, Device)) -> Batch {
        let condition = self.classes(rows).map(|classes| Condition::classes(&classes));
        Batch::of(&self.gather(rows, noise, place)).given(condition)
    }
}

/// Rows of a tensor.
#[derive(Debug)]
pub struct TensorRows {
    /// LibTorch's tensors may be sent to another thread, not shared with it.
    rows: Mutex<Tensor>,
    len: usize,
}

impl TensorRows {
    /// Rows `[n, d]`.
    pub fn new(rows: Tensor) -> TensorRows {
        TensorRows { len: rows.size()[0] as usize, rows: Mutex::new(rows) }
    }
}

impl Rows for TensorRows {
    fn len(&self) -> usize {
        self.len
    }

    fn gather(&self, rows: &[usize], _: &mut Noise, (kind, device): (Kind, Device)) -> Tensor {
        let all = self.rows.lock().expect("whoever held it is done");
        if rows.len() == self.len && rows.iter().enumerate().all(|(i, &r)| i == r) {
            return upload(&all, kind, device);
        }
        let index: Vec<i64> = rows.iter().map(|&r| r as i64).collect();
        let index = Tensor::from_slice(&index).to_device(all.device());
        upload(&all.index_select(0, &index), kind, device)
    }
}

/// Batches by number: every epoch is a shuffle of its own, so that any batch can be made without
/// those before it.
pub(crate) struct Order {
    rows: usize,
    batch: usize,
    seed: Seed,
    epoch: Option<(u64, Vec<u32>)>,
}

impl Order {
    pub(crate) fn new(rows: usize, batch: usize, seed: Seed) -> Order {
        assert!(rows <= u32::MAX as usize, "more rows than 2³²");
        Order { rows, batch, seed, epoch: None }
    }

    /// Batch `number`, from 0; the last rows of an epoch that do not fill a batch are left to the
    /// next shuffle.
    pub(crate) fn batch(&mut self, number: u64) -> Vec<usize> {
        if self.batch >= self.rows {
            return (0..self.rows).collect();
        }
        let per_epoch = (self.rows / self.batch) as u64;
        let (epoch, within) = (number / per_epoch, (number % per_epoch) as usize);
        if self.epoch.as_ref().is_none_or(|(e, _)| *e != epoch) {
            let mut shuffled: Vec<u32> = (0..self.rows as u32).collect();
            let mut rng = ChaCha8Rng::seed_from_u64(self.seed.0);
            rng.set_stream(epoch);
            shuffled.shuffle(&mut rng);
            self.epoch = Some((epoch, shuffled));
        }
        let (_, shuffled) = self.epoch.as_ref().expect("just made");
        shuffled[within * self.batch..(within + 1) * self.batch]
            .iter()
            .map(|&r| r as usize)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_cover_rows_and_batches_are_addressable() {
        let mut order = Order::new(10, 3, Seed(1));
        let epoch: Vec<usize> = (0..3).flat_map(|i| order.batch(i)).collect();
        let mut distinct = epoch.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), 9);
        let later = order.batch(7);
        assert_eq!(Order::new(10, 3, Seed(1)).batch(7), later);
        assert_eq!(Order::new(4, 100, Seed(1)).batch(5), vec![0, 1, 2, 3]);
    }
}
