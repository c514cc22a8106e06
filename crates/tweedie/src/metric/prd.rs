//! Precision and recall for distributions (Sajjadi et al. 2018): of histograms, and of features by
//! k-means.

use std::f64::consts::FRAC_PI_2;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

use crate::noise::Seed;
use crate::tensor::{squared_norm, to_vec};
use crate::{Error, Result};

/// Points of a curve, as in the authors' code.
const ANGLES: usize = 1001;
/// The first and the last angle are so far from 0 and π/2.
const EDGE: f64 = 1e-10;
/// Steps of k-means at most.
const STEPS: usize = 100;
/// Rows that are compared with the centres at a time.
const BLOCK: i64 = 4096;

/// The curve of precision against recall: `α(λ) = Σ_i min(λ p_i, q_i)` and `β(λ) = α(λ)/λ` of data
/// `p` and samples `q`, for slopes `λ = tan θ` of 1001 angles even in `[0, π/2]` (Sajjadi et al.
/// 2018, eqs. 3–5 and Algorithm 1).
#[derive(Clone, Debug, PartialEq)]
pub struct PrdCurve {
    /// `α`, rising.
    pub precision: Vec<f64>,
    /// `β`, falling.
    pub recall: Vec<f64>,
}

impl PrdCurve {
    /// Clusters of the published protocol.
    pub const CLUSTERS: usize = 20;
    /// Clusterings that its curve is the mean of.
    pub const RUNS: usize = 10;

    /// Of the probabilities of the same states under data and samples.
    pub fn of_histograms(data: &[f64], samples: &[f64]) -> PrdCurve {
        assert_eq!(data.len(), samples.len(), "states of two histograms");
        let slope =
            |i: usize| (EDGE + (FRAC_PI_2 - 2.0 * EDGE) * i as f64 / (ANGLES - 1) as f64).tan();
        let alpha = |slope: f64| -> f64 {
            data.iter().zip(samples).map(|(&p, &q)| (slope * p).min(q)).sum()
        };
        let precision: Vec<f64> = (0..ANGLES).map(|i| alpha(slope(i))).collect();
        let recall = precision.iter().enumerate().map(|(i, alpha)| alpha / slope(i)).collect();
        PrdCurve { precision, recall }
    }

    /// Of features `[n, d]` of data and `[n, d]` of samples: the mean of the curves of `runs`
    /// clusterings of both together into at most `clusters`, by k-means from k-means++ (Lloyd, 100
    /// steps at most; the authors' code takes mini-batches), seeded by `seed`. Takes far more rows
    /// than clusters. Costs `O(runs · clusters · n d)` for each step.
    ///
    /// # Errors
    /// If the sides have not the same number of rows, which would lean the clusters to one of them,
    /// or there are none, or the features are not finite.
    pub fn of_features(
        data: &Tensor,
        samples: &Tensor,
        (clusters, runs): (usize, usize),
        seed: Seed,
    ) -> Result<PrdCurve> {
        let (n, m) = (data.size()[0], samples.size()[0]);
        if n != m || n == 0 {
            let problem = format!("{n} rows of data and {m} samples");
            return Err(Error::config("PRD", problem, "give as many of both"));
        }
        let (clusters, runs) = (clusters.max(1), runs.max(1));
        let cpu = |x: &Tensor| x.to_device(Device::Cpu);
        let rows = Tensor::cat(&[cpu(data), cpu(samples)], 0);
        if rows.isfinite().all().int64_value(&[]) == 0 {
            let problem = "features that are not finite";
            return Err(Error::numeric(problem, "look at the samples: they may have diverged"));
        }
        let mut mean = PrdCurve { precision: vec![0.0; ANGLES], recall: vec![0.0; ANGLES] };
        for run in 0..runs {
            let labels = k_means(&rows, clusters, seed.derive(&format!("run {run}")));
            let histogram = |labels: &[usize]| {
                let mut share = vec![0.0; clusters];
                labels.iter().for_each(|&label| share[label] += 1.0 / n as f64);
                share
            };
            let (of_data, of_samples) = labels.split_at(n as usize);
            let curve = PrdCurve::of_histograms(&histogram(of_data), &histogram(of_samples));
            let add = |sum: &mut [f64], of: &[f64]| {
                sum.iter_mut().zip(of).for_each(|(sum, v)| *sum += v / runs as f64);
            };
            add(&mut mean.precision, &curve.precision);
            add(&mut mean.recall, &curve.recall);
        }
        Ok(mean)
    }

    /// `max_λ F_β`, `F_β = (1 + β²) α β(λ)/(β² α + β(λ))`: `F_8` weighs recall, `F_1/8` precision
    /// (Sajjadi et al. 2018, §4.1).
    pub fn f(&self, beta: f64) -> f64 {
        let square = beta * beta;
        let f = |(&precision, &recall): (&f64, &f64)| match square * precision + recall {
            total if total > 0.0 => (1.0 + square) * precision * recall / total,
            _ => 0.0,
        };
        self.precision.iter().zip(&self.recall).map(f).fold(0.0, f64::max)
    }
}

/// A block of rows in f64, from the row `start` on.
fn blocks(rows: &Tensor) -> impl Iterator<Item = Tensor> {
    let n = rows.size()[0];
    (0..n)
        .step_by(BLOCK as usize)
        .map(move |start| rows.narrow(0, start, BLOCK.min(n - start)).to_kind(Kind::Double))
}

/// The cluster of each row: Lloyd's steps from [`first_centres`] until no row changes its cluster.
/// A cluster that has lost its rows keeps its centre.
fn k_means(rows: &Tensor, clusters: usize, seed: Seed) -> Vec<usize> {
    let mut centres = first_centres(rows, clusters, &mut ChaCha8Rng::seed_from_u64(seed.0));
    let mut labels = Tensor::new();
    for step in 0..STEPS {
        let squares = squared_norm(&centres);
        let (mut found, mut sums) = (Vec::new(), centres.zeros_like());
        let mut counts = squares.zeros_like();
        for block in blocks(rows) {
            // but for the row's own square, which is the same to every centre
            let distances = &squares - block.matmul(&centres.tr()) * 2.0;
            let nearest = distances.argmin(1, false);
            sums = sums.index_add(0, &nearest, &block);
            counts = counts.index_add(
                0,
                &nearest,
                &Tensor::ones(nearest.size(), (Kind::Double, Device::Cpu)),
            );
            found.push(nearest);
        }
        let found = Tensor::cat(&found, 0);
        if step > 0 && found.equal(&labels) {
            break;
        }
        labels = found;
        let filled = counts.gt(0.0).unsqueeze(1);
        centres = (sums / counts.clamp_min(1.0).unsqueeze(1)).where_self(&filled, &centres);
    }
    to_vec(&labels).into_iter().map(|label| label as usize).collect()
}

/// k-means++ (Arthur & Vassilvitskii 2007): rows drawn in proportion to their squared distance to
/// the nearest centre so far, `[clusters, d]`; fewer where there are fewer distinct rows.
fn first_centres(rows: &Tensor, clusters: usize, rng: &mut ChaCha8Rng) -> Tensor {
    let row = |i: usize| rows.narrow(0, i as i64, 1).to_kind(Kind::Double);
    let n = rows.size()[0] as usize;
    let mut centres = vec![row(((rng.random::<f64>() * n as f64) as usize).min(n - 1))];
    let mut nearest = vec![f64::INFINITY; n];
    while centres.len() < clusters {
        let last = &centres[centres.len() - 1];
        let distances = blocks(rows).flat_map(|block| to_vec(&squared_norm(&(block - last))));
        nearest.iter_mut().zip(distances).for_each(|(least, d)| *least = least.min(d));
        let total: f64 = nearest.iter().sum();
        if !(total > 0.0 && total.is_finite()) {
            break;
        }
        let mut left = rng.random::<f64>() * total;
        let chosen = nearest.iter().position(|&d| {
            left -= d;
            left < 0.0 && d > 0.0
        });
        // where rounding leaves none, the farthest
        let farthest = || (0..n).max_by(|&i, &j| nearest[i].total_cmp(&nearest[j]));
        centres.extend(chosen.or_else(farthest).map(row));
    }
    Tensor::cat(&centres, 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::Noise;

    /// `Σ min(λ p, q)` by hand: for `p = (½, ½, 0)` and `q = (¼, ¼, ½)` the precision is
    /// `min(λ, ½)`, so that recall is 1 up to the precision ½ and `½/λ` beyond.
    #[test]
    fn histograms_have_closed_forms() {
        let curve = PrdCurve::of_histograms(&[0.5, 0.5, 0.0], &[0.25, 0.25, 0.5]);
        for (i, (&precision, &recall)) in curve.precision.iter().zip(&curve.recall).enumerate() {
            let slope = (EDGE + (FRAC_PI_2 - 2.0 * EDGE) * i as f64 / 1000.0).tan();
            assert!((precision - slope.min(0.5)).abs() < 1e-12, "{i}: {precision}");
            assert!((recall - (0.5 / slope).min(1.0)).abs() < 1e-12, "{i}: {recall}");
        }
        // at (½, 1): 65 · ½/(64 · ½ + 1) and 65/64 · ½/(1/128 + 1), but for the width of an angle
        assert!((curve.f(8.0) - 32.5 / 33.0).abs() < 2e-3, "{}", curve.f(8.0));
        let expected = 65.0 / 128.0 / (1.0 + 1.0 / 128.0);
        assert!((curve.f(0.125) - expected).abs() < 2e-3, "{}", curve.f(0.125));
        let same = PrdCurve::of_histograms(&[0.3, 0.7], &[0.3, 0.7]);
        let apart = PrdCurve::of_histograms(&[1.0, 0.0], &[0.0, 1.0]);
        for beta in [8.0, 0.125] {
            assert!((same.f(beta) - 1.0).abs() < 1e-12 && apart.f(beta) == 0.0);
        }
    }

    /// Two histograms by the formulas of the authors' `prd_score.py` in NumPy 2.4.6; its F adds
    /// 1e-10 to what it divides by.
    #[test]
    fn histograms_have_the_published_values() {
        let curve =
            PrdCurve::of_histograms(&[0.1, 0.2, 0.3, 0.4, 0.0], &[0.25, 0.25, 0.1, 0.0, 0.4]);
        let near = |found: f64, expected: f64| {
            assert!((found - expected).abs() < 1e-9, "{found} {expected}");
        };
        near(curve.f(8.0), 0.581975479997731);
        near(curve.f(0.125), 0.586442252342273);
        near(curve.precision[250], 0.2242640687295021);
        near(curve.recall[250], 0.5414213562031674);
        near(curve.precision[700], 0.5462610505311076);
        near(curve.recall[700], 0.2783339073406847);
    }

    /// Rows around the corner `i` of a simplex, `counts[i]` of them, within 1e-3 in six
    /// coordinates.
    fn clusters(counts: [usize; 6], seed: Seed) -> Tensor {
        let corners: Vec<f64> = (counts.iter().enumerate())
            .flat_map(|(i, &count)| (0..count * 6).map(move |k| f64::from(u8::from(k % 6 == i))))
            .collect();
        let n = counts.iter().sum::<usize>();
        let noise = Noise::new(seed, 0..n as u64).normal(6, Kind::Double, Device::Cpu) * 1e-4;
        Tensor::from_slice(&corners).view([n as i64, 6]) + noise
    }

    /// Of six clusters that k-means finds, the curve is that of their shares, exactly, in every
    /// run.
    #[test]
    fn clusters_that_are_there_are_found() {
        let (of_data, of_samples) = ([40, 30, 20, 10, 0, 100], [0, 60, 20, 70, 50, 0]);
        let [data, samples] =
            [(of_data, 1), (of_samples, 2)].map(|(counts, seed)| clusters(counts, Seed(seed)));
        let shares = |counts: [usize; 6]| counts.map(|count| count as f64 / 200.0);
        let exact = PrdCurve::of_histograms(&shares(of_data), &shares(of_samples));
        for seed in 0..5 {
            let found = PrdCurve::of_features(&data, &samples, (6, 3), Seed(seed)).unwrap();
            let gap = |a: &[f64], b: &[f64]| {
                a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
            };
            assert!(gap(&found.precision, &exact.precision) < 1e-9, "{seed}");
            assert!(gap(&found.recall, &exact.recall) < 1e-9, "{seed}");
        }
    }

    /// Rows compared with themselves have 1, rows elsewhere 0; a seed gives one result; fewer
    /// distinct rows than clusters are as many clusters; unequal numbers are refused.
    #[test]
    fn the_ends() {
        let normal = |seed| Noise::new(Seed(seed), 0..300).normal(4, Kind::Float, Device::Cpu);
        let (a, b) = (normal(1), normal(2));
        let of = |x: &Tensor, y: &Tensor, seed| {
            PrdCurve::of_features(x, y, (PrdCurve::CLUSTERS, 2), Seed(seed)).unwrap()
        };
        for beta in [8.0, 0.125] {
            assert!((of(&a, &a, 3).f(beta) - 1.0).abs() < 1e-12);
            assert_eq!(of(&a, &(&b + 100.0), 3).f(beta), 0.0);
            // of one distribution: short of 1 by the noise of the shares
            let found = of(&a, &b, 3).f(beta);
            assert!(found > 0.9 && found < 1.0, "{found}");
        }
        assert_eq!(of(&a, &b, 3), of(&a, &b, 3));
        assert_ne!(of(&a, &b, 3), of(&a, &b, 4));
        let ones = Tensor::ones([5, 2], (Kind::Double, Device::Cpu));
        assert!((of(&ones, &ones, 1).f(8.0) - 1.0).abs() < 1e-12);
        assert!(PrdCurve::of_features(&a, &b.narrow(0, 0, 9), (5, 1), Seed(1)).is_err());
        assert!(PrdCurve::of_features(&a, &(&b / 0.0), (5, 1), Seed(1)).is_err());
    }
}
