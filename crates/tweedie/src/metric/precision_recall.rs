//! Precision and recall of samples in a space of features, with density and coverage.

use tch::{Device, Kind, Tensor};

use crate::tensor::squared_norm;
use crate::{Error, Result};

/// Distances held at once.
const BLOCK: i64 = 1 << 22;

/// How samples and data cover each other. The neighbourhood of a point is the ball that reaches to
/// its `k`-th nearest neighbour of its own kind.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PrecisionRecall {
    /// The share of samples in some data point's neighbourhood (Kynkäänniemi et al. 2019, eq. 3).
    pub precision: f64,
    /// The share of data points in some sample's neighbourhood (Kynkäänniemi et al. 2019, eq. 3).
    pub recall: f64,
    /// The mean number of data points' neighbourhoods that a sample lies in, over `k` (Naeem et al.
    /// 2020, eq. 4).
    pub density: f64,
    /// The share of data points with a sample in their neighbourhood (Naeem et al. 2020, eq. 5).
    pub coverage: f64,
}

/// From features `[n, d]` of data and `[m, d]` of samples, in f64. Neighbourhoods are open balls,
/// as in the package `prdc`. Costs `O((n + m)² d)` time, and memory for a bounded block of
/// distances.
///
/// # Errors
/// If `k` is 0, or a side has no more than `k` rows.
pub fn precision_recall(data: &Tensor, samples: &Tensor, k: usize) -> Result<PrecisionRecall> {
    let (n, m) = (data.size()[0], samples.size()[0]);
    if k == 0 || n.min(m) <= k as i64 {
        let problem = format!("{k} neighbours among {n} images of data and {m} samples");
        return Err(Error::config(
            "neighbours",
            problem,
            "give at least 1, and more images than neighbours",
        ));
    }
    let double = |x: &Tensor| x.to_kind(Kind::Double).to_device(Device::Cpu);
    let (data, samples) = (double(data), double(samples));
    // distances do not change, their rounding does
    let centre = data.mean_dim(0, false, None::<Kind>);
    let (data, samples) = (Points::new(data - &centre), Points::new(samples - &centre));
    let data_radius = data.radii(k as i64);
    let sample_radius = samples.radii(k as i64);

    let mut precise = Tensor::zeros([m], (Kind::Bool, Device::Cpu));
    let (mut recalled, mut inside, mut covered) = (0, 0, 0);
    let count = |x: &Tensor| x.sum(Kind::Int64).int64_value(&[]);
    data.for_blocks(&samples, |start, squares| {
        let radius = data_radius.narrow(0, start, squares.size()[0]);
        let within = squares.less_tensor(&radius.unsqueeze(1));
        precise = precise.logical_or(&within.any_dim(0, false));
        inside += count(&within);
        recalled += count(&squares.less_tensor(&sample_radius).any_dim(1, false));
        covered += count(&squares.amin(1, false).less_tensor(&radius));
    });
    Ok(PrecisionRecall {
        precision: count(&precise) as f64 / m as f64,
        recall: recalled as f64 / n as f64,
        density: inside as f64 / (k as f64 * m as f64),
        coverage: covered as f64 / n as f64,
    })
}

/// Rows and their squared norms.
struct Points {
    rows: Tensor,
    squares: Tensor,
}

impl Points {
    fn new(rows: Tensor) -> Points {
        Points { squares: squared_norm(&rows), rows }
    }

    /// Squared distances `[block, m]` between blocks of these rows and all of `others`.
    fn for_blocks(&self, others: &Points, mut each: impl FnMut(i64, Tensor)) {
        let (n, m) = (self.rows.size()[0], others.rows.size()[0]);
        let block = (BLOCK / m).max(1);
        let turned = others.rows.tr();
        for start in (0..n).step_by(block as usize) {
            let length = block.min(n - start);
            let products = self.rows.narrow(0, start, length).matmul(&turned);
            let squares = self.squares.narrow(0, start, length).unsqueeze(1) + &others.squares
                - products * 2.0;
            each(start, squares.clamp_min(0.0));
        }
    }

    /// The squared distance of each row to its `k`-th nearest other.
    fn radii(&self, k: i64) -> Tensor {
        let mut radii = Vec::new();
        self.for_blocks(self, |_, squares| {
            // the nearest is the row itself
            radii.push(squares.kthvalue(k + 1, 1, false).0);
        });
        Tensor::cat(&radii, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::sum_over;

    fn column(values: &[f64]) -> Tensor {
        Tensor::from_slice(values).unsqueeze(1)
    }

    /// On a line, by hand: radii of the data 1, 1, 1, 7 with k = 1; of the samples 0.25, 0.25,
    /// 19.75.
    #[test]
    fn by_hand() {
        let data = column(&[0.0, 1.0, 2.0, 9.0]);
        let samples = column(&[0.0, 0.25, 20.0]);
        let found = precision_recall(&data, &samples, 1).unwrap();
        // 0 lies in the ball of 0 (that of 1 is open), 0.25 in those of 0 and 1, 20 in none; the
        // ball of 20 reaches 0.25, and so holds 1, 2 and 9, that of 0.25 the point 0
        let expected =
            PrecisionRecall { precision: 2.0 / 3.0, recall: 1.0, density: 1.0, coverage: 0.5 };
        assert_eq!(found, expected);
        assert!(precision_recall(&data, &samples, 3).is_err());
    }

    #[test]
    fn products_give_squared_distances() {
        let x = Tensor::arange(12, (Kind::Double, Device::Cpu)).view([6, 2]);
        let points = Points::new(x.shallow_clone());
        points.for_blocks(&points, |_, squares| {
            let direct = sum_over(&(x.unsqueeze(1) - x.unsqueeze(0)).square().view([36, 2]), 1);
            assert!((squares.view(-1) - direct).abs().max().double_value(&[]) < 1e-12);
        });
    }
}
