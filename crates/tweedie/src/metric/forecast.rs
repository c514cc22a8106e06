//! How right draws of an unknown number are, given what is known: proper scores and calibration.
//!
//! With draws `x_1, …, x_m` for a number that turned out to be `y`:
//!
//! - CRPS, `E|x − y| − ½ E|x − x'|` over distinct pairs of draws: unbiased in `m` (Gneiting and
//!   Raftery 2007, eq. 20; the "fair" form of Ferro 2014), in the number's own units, less is
//!   better.
//! - Quantile loss `(1{y < q} − p)(q − y)` of the draws' quantile `q` at `p`.
//! - PIT, the rank of `y` among the draws, ties at random, over `m + 1`: uniform if the draws are
//!   from the right distribution (Gneiting, Balabdaoui and Raftery 2007).

use serde::Serialize;

/// Shares at which quantiles are judged.
const QUANTILES: [f64; 5] = [0.05, 0.25, 0.5, 0.75, 0.95];
/// Central intervals whose coverage is counted.
const INTERVALS: [f64; 2] = [0.5, 0.9];
/// Bins of the histogram of PITs.
const BINS: usize = 10;

/// How right the draws of a column are.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Forecast {
    /// The column.
    pub column: String,
    /// Rows in which it is known.
    pub rows: usize,
    /// Draws of each.
    pub draws: usize,
    /// The mean CRPS, in units of the column.
    pub crps: f64,
    /// Its standard error over rows.
    pub crps_error: f64,
    /// The mean absolute error of the median of the draws.
    pub median_error: f64,
    /// The root of the mean squared error of the mean of the draws.
    pub mean_error: f64,
    /// Mean quantile losses, with their shares.
    pub quantile_losses: Vec<(f64, f64)>,
    /// Shares of rows within the central intervals of the draws, with the shares that there ought
    /// to be.
    pub coverage: Vec<(f64, f64)>,
    /// Shares of PITs in ten equal bins.
    pub pit: Vec<f64>,
    /// The largest difference of the distribution of PITs from the uniform one, by Kolmogorov and
    /// Smirnov; of right draws it is below 1.36/√rows in 95 of 100 cases.
    pub pit_distance: f64,
}

impl Forecast {
    /// Judges `draws` `[n, m]` of numbers that turned out to be `truth` `[n]`, NaN where it is
    /// unknown; `ties` `[n]`, uniform on [0, 1), decide where equal draws place it. None if it is
    /// known in no row.
    ///
    /// # Panics
    /// If the lengths do not fit, or there are fewer than two draws.
    pub fn of(column: &str, draws: &[f64], truth: &[f64], ties: &[f64]) -> Option<Forecast> {
        let m = draws.len() / truth.len().max(1);
        assert!(m > 1 || truth.is_empty(), "{m} draws");
        assert_eq!((draws.len(), ties.len()), (m * truth.len(), truth.len()), "draws of rows");
        let (mut crps, mut pits) = (Vec::new(), Vec::new());
        let mut losses = [0.0; QUANTILES.len()];
        let mut inside = [0.0; INTERVALS.len()];
        let (mut of_median, mut of_mean) = (0.0, 0.0);
        for ((own, &y), &tie) in draws.chunks_exact(m).zip(truth).zip(ties) {
            let mut sorted: Vec<f64> = own.iter().copied().filter(|x| !x.is_nan()).collect();
            if y.is_nan() || sorted.len() < 2 {
                continue;
            }
            sorted.sort_unstable_by(f64::total_cmp);
            let count = sorted.len() as f64;
            crps.push(fair_crps(&sorted, y));
            of_mean += (sorted.iter().sum::<f64>() / count - y).powi(2);
            of_median += (quantile(&sorted, 0.5) - y).abs();
            for (loss, p) in losses.iter_mut().zip(QUANTILES) {
                let q = quantile(&sorted, p);
                *loss += (f64::from(y < q) - p) * (q - y);
            }
            for (inside, share) in inside.iter_mut().zip(INTERVALS) {
                let ends = [0.5 - share / 2.0, 0.5 + share / 2.0].map(|p| quantile(&sorted, p));
                *inside += f64::from(ends[0] <= y && y <= ends[1]);
            }
            let below = sorted.partition_point(|x| *x < y) as f64;
            let equal = sorted.partition_point(|x| *x <= y) as f64 - below;
            pits.push((below + tie * (equal + 1.0)) / (count + 1.0));
        }
        let rows = crps.len();
        if rows == 0 {
            return None;
        }
        let n = rows as f64;
        let (mean, error) = crate::statistics::mean_and_error(&crps);
        pits.sort_unstable_by(f64::total_cmp);
        let off = pits.iter().enumerate().map(|(i, u)| {
            let i = i as f64;
            (u - i / n).max((i + 1.0) / n - u)
        });
        let bin = |b: usize| {
            let end = |b: usize| pits.partition_point(|u| *u < b as f64 / BINS as f64);
            (end(b + 1) - end(b)) as f64 / n
        };
        Some(Forecast {
            column: column.to_owned(),
            rows,
            draws: m,
            crps: mean,
            crps_error: error,
            median_error: of_median / n,
            mean_error: (of_mean / n).sqrt(),
            quantile_losses: QUANTILES.into_iter().zip(losses.map(|loss| loss / n)).collect(),
            coverage: INTERVALS.into_iter().zip(inside.map(|inside| inside / n)).collect(),
            pit: (0..BINS).map(bin).collect(),
            pit_distance: off.fold(0.0, f64::max),
        })
    }
}

/// `E|x − y| − ½ E|x − x'|` of sorted draws, the second mean over distinct pairs.
fn fair_crps(sorted: &[f64], y: f64) -> f64 {
    let m = sorted.len() as f64;
    let to_truth = sorted.iter().map(|x| (x - y).abs()).sum::<f64>() / m;
    // Σ_{i<j} (x_j − x_i) = Σ_i (2 i − m + 1) x_i
    let pairs: f64 = sorted.iter().enumerate().map(|(i, x)| (2.0 * i as f64 - m + 1.0) * x).sum();
    to_truth - pairs / (m * (m - 1.0))
}

/// The value at share `p` of sorted draws: one of them, the least with at least that share at or
/// below it.
pub fn quantile(sorted: &[f64], p: f64) -> f64 {
    let at = (p * sorted.len() as f64 - 1e-9).ceil().max(1.0) as usize;
    sorted[at.min(sorted.len()) - 1]
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    use crate::noise::{Noise, Seed};
    use crate::tensor::to_vec;

    #[test]
    fn scores_are_those_by_hand() {
        // draws 1, 2, 4 of 3: (2 + 1 + 1)/3 − (1 + 3 + 2)/6 = 1/3
        let found = Forecast::of("x", &[4.0, 1.0, 2.0], &[3.0], &[0.5]).unwrap();
        assert!((found.crps - 1.0 / 3.0).abs() < 1e-12);
        assert_eq!((found.median_error, found.rows, found.draws), (1.0, 1, 3));
        assert!((found.mean_error - 2.0 / 3.0).abs() < 1e-12);
        // the median 2 lies 1 below; at .95 the quantile is 4
        let at = |p: f64| found.quantile_losses.iter().find(|(share, _)| *share == p).unwrap().1;
        assert!((at(0.5) - 0.5).abs() < 1e-12 && (at(0.95) - 0.05).abs() < 1e-12);
        // two draws of three below: a rank between 2/4 and 3/4
        assert_eq!(found.pit.iter().position(|share| *share == 1.0), Some(6));
        assert_eq!(quantile(&[1.0, 2.0, 3.0, 4.0], 0.5), 2.0);
        assert!(Forecast::of("x", &[1.0, 2.0], &[f64::NAN], &[0.0]).is_none());
    }

    /// Draws from the right distribution, here whole numbers with many ties, are calibrated; draws
    /// that are too narrow are not, and have the larger CRPS: of a normal one `σ/√π`.
    #[test]
    fn right_draws_are_calibrated() {
        let (n, m) = (2000, 40);
        let seed = Seed(1);
        let mut noise = Noise::new(seed, 0..n as u64);
        let normal = to_vec(&noise.normal(m + 1, Kind::Double, Device::Cpu));
        let ties = Noise::new(seed.derive("ties"), 0..n as u64).uniform(1);
        let judged = |scale: f64, of: &dyn Fn(f64) -> f64| {
            let (mut draws, mut truth) = (Vec::new(), Vec::new());
            for row in normal.chunks_exact(m + 1) {
                draws.extend(row[..m].iter().map(|z| of(scale * z)));
                truth.push(of(row[m]));
            }
            Forecast::of("x", &draws, &truth, &ties).unwrap()
        };
        let critical = 1.63 / (n as f64).sqrt();
        let right = judged(1.0, &|z| z);
        // the standard error of the mean is .01
        let exact = 1.0 / std::f64::consts::PI.sqrt();
        assert!((right.crps - exact).abs() < 4.0 * right.crps_error, "{right:?}");
        assert!(right.pit_distance < critical, "{right:?}");
        let whole = judged(1.0, &|z| (2.0 * z).round());
        assert!(whole.pit_distance < critical, "{whole:?}");
        let narrow = judged(0.5, &|z| z);
        assert!(narrow.pit_distance > 2.0 * critical && narrow.crps > right.crps + 0.02);
        let covered = |found: &Forecast| found.coverage[1].1;
        // 90 % of 40 draws: 36 of the 41 gaps and a tie of the ends
        assert!((covered(&right) - 0.89).abs() < 0.03, "{}", covered(&right));
        assert!(covered(&narrow) < 0.7);
    }
}
