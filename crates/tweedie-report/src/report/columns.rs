//! Which columns a figure shows that has no room for all.

use super::tables::kolmogorov_smirnov;
use crate::plot::sorted_finite;

/// Rows of a set that rank correlations are computed on, evenly spaced.
const ROWS: usize = 1000;
/// The number of columns among which pairs are compared, at most: those that differ most by
/// themselves.
const PAIRED: usize = 128;

/// Mean and standard deviation of Kolmogorov's distribution, and of `|z|` of a standard normal `z`:
/// what a distance and a difference of correlations are by chance.
const KOLMOGOROV: (f64, f64) = (0.8687, 0.2603);
const HALF_NORMAL: (f64, f64) = (0.7979, 0.6028);

/// At most `most` of `columns` columns, those by which two sets of rows (row-major) differ most,
/// the most different first: by the Kolmogorov–Smirnov distance of a column and by the difference
/// of two columns' rank correlations, each in standard deviations of what it is by chance.
pub(super) fn most_different(columns: usize, a: &[f32], b: &[f32], most: usize) -> Vec<usize> {
    let values = |set: &[f32], column: usize| -> Vec<f64> {
        set.iter().skip(column).step_by(columns).map(|&v| v as f64).collect()
    };
    let (n, m) = ((a.len() / columns) as f64, (b.len() / columns) as f64);
    let mut differences: Vec<(f64, Vec<usize>)> = (0..columns)
        .map(|i| {
            let (sorted_a, sorted_b) =
                (sorted_finite(values(a, i)).0, sorted_finite(values(b, i)).0);
            let distance = kolmogorov_smirnov(&sorted_a, &sorted_b) * (n * m / (n + m)).sqrt();
            (standard(distance, KOLMOGOROV), vec![i])
        })
        .collect();
    differences.sort_by(|x, y| y.0.total_cmp(&x.0));
    let candidates: Vec<usize> =
        differences.iter().take(PAIRED).map(|(_, column)| column[0]).collect();
    let (ranks_a, ranks_b) =
        (Ranks::of(a, columns, &candidates), Ranks::of(b, columns, &candidates));
    let error = (1.0 / (ranks_a.rows - 3.0).max(1.0) + 1.0 / (ranks_b.rows - 3.0).max(1.0)).sqrt();
    for i in 0..candidates.len() {
        for j in 0..i {
            let z = (ranks_a.correlation(i, j).atanh() - ranks_b.correlation(i, j).atanh()).abs()
                / error;
            differences.push((standard(z, HALF_NORMAL), vec![candidates[i], candidates[j]]));
        }
    }
    differences.sort_by(|x, y| y.0.total_cmp(&x.0));
    let mut chosen: Vec<usize> = Vec::new();
    for (_, columns) in differences {
        let new: Vec<usize> =
            columns.into_iter().filter(|column| !chosen.contains(column)).collect();
        if chosen.len() + new.len() <= most {
            chosen.extend(new);
        }
    }
    chosen
}

/// A value in standard deviations above its mean; what is undefined does not differ.
fn standard(value: f64, (mean, deviation): (f64, f64)) -> f64 {
    if value.is_nan() { f64::NEG_INFINITY } else { (value - mean) / deviation }
}

/// The ranks of each column's values, centred and of length 1; 0 where a column does not vary.
struct Ranks {
    rows: f64,
    columns: Vec<Vec<f64>>,
}

impl Ranks {
    fn of(set: &[f32], columns: usize, which: &[usize]) -> Ranks {
        let n = set.len() / columns;
        let kept = n.min(ROWS);
        let of_column = |&column: &usize| {
            let value = |i: usize| f64::from(set[i * n / kept.max(1) * columns + column]);
            let values: Vec<f64> = (0..kept).map(value).collect();
            unit(&ranks(&values))
        };
        Ranks { rows: kept as f64, columns: which.iter().map(of_column).collect() }
    }

    fn correlation(&self, i: usize, j: usize) -> f64 {
        let r: f64 = self.columns[i].iter().zip(&self.columns[j]).map(|(a, b)| a * b).sum();
        r.clamp(-0.9999, 0.9999)
    }
}

/// Ranks from 0, ties sharing their mean; what is missing has the middle rank.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut first = 0;
    for ties in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let mean = first as f64 + (ties.len() - 1) as f64 / 2.0;
        ties.iter().for_each(|&i| ranks[i] = mean);
        first += ties.len();
    }
    let missing = values.iter().filter(|value| value.is_nan()).count();
    let middle = (values.len() - missing).saturating_sub(1) as f64 / 2.0;
    let known = values.iter().zip(ranks);
    known.map(|(value, rank)| if value.is_nan() { middle } else { rank }).collect()
}

/// Centred, and of length 1 unless constant.
fn unit(values: &[f64]) -> Vec<f64> {
    let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
    let length = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>().sqrt();
    values.iter().map(|v| if length > 0.0 { (v - mean) / length } else { 0.0 }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};
    use tweedie::noise::{Noise, Seed};
    use tweedie::tensor::to_vec;

    /// `n` rows of 20 independent standard normal columns.
    fn normal(n: u64, seed: u64) -> Vec<f32> {
        let x = Noise::new(Seed(seed), 0..n).normal(20, Kind::Double, Device::Cpu);
        to_vec(&x).into_iter().map(|v| v as f32).collect()
    }

    #[test]
    fn the_columns_that_differ_are_found() {
        let (data, mut samples) = (normal(600, 1), normal(600, 2));
        for row in samples.chunks_mut(20) {
            row[13] += 0.5; // another location
            row[7] = 0.8 * row[4] + 0.6 * row[7]; // another dependence, the same marginals
        }
        let mut chosen = most_different(20, &data, &samples, 3);
        chosen.sort_unstable();
        assert_eq!(chosen, [4, 7, 13]);
        assert_eq!(most_different(20, &data, &samples, 6).len(), 6);
    }

    #[test]
    fn constants_and_nonsense_are_no_difference() {
        let constant = vec![1.0_f32; 40];
        assert_eq!(most_different(2, &constant, &constant, 6).len(), 2);
        let nonsense = vec![f32::NAN; 40];
        assert_eq!(most_different(2, &nonsense, &constant, 1).len(), 1);
        assert_eq!(most_different(3, &[], &[], 2).len(), 2);
    }

    #[test]
    fn ties_share_their_rank() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0]), [2.5, 0.0, 2.5, 1.0]);
        let holes = [3.0, f64::NAN, 1.0, f64::NAN, 3.0, 2.0];
        assert_eq!(ranks(&holes), [2.5, 1.5, 0.0, 1.5, 2.5, 1.0]);
    }
}
