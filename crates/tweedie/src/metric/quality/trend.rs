//! Trend: how alike the dependence between pairs of columns is.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::shape::mean;
use super::table::{Table, Values, aligned};
use crate::Result;

/// Bins of a column of numbers beside a column of categories.
const BINS: usize = 10;

/// How alike the pairs of columns of two tables depend on each other, as SDMetrics'
/// `ColumnPairTrends` has it: 1 where the dependence is the same, 0 where it is the opposite.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trend {
    /// The mean over the pairs that have a score; `None` where none has.
    pub mean: Option<f64>,
    /// The pairs, the first column with all after it, then the second, and so on.
    pub pairs: Vec<PairTrend>,
}

/// The score of one pair of columns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairTrend {
    /// The name of one column.
    pub first: String,
    /// The name of the other.
    pub second: String,
    /// Of two columns of numbers `1 − ½ |r − r̃|` of Pearson's correlations over the rows without a
    /// hole in either (`CorrelationSimilarity`). Of other pairs `1 − ½ Σ_{a,b} |p_ab − p̃_ab|` of
    /// the shares of pairs of categories, where a hole is one more category
    /// (`ContingencySimilarity`). `None` where a correlation is not defined: a constant column, or
    /// fewer than two rows.
    pub score: Option<f64>,
}

/// [`Trend`] of a real and a synthetic table.
///
/// In a pair with categories, numbers are those of ten equal bins between the least and the
/// greatest value of *their own* table, closed below; the greatest value is in an eleventh, and so
/// is a hole. So SDMetrics has it (0.32). It draws 50,000 rows from larger tables for pairs with
/// categories, and has no score where the real correlation is exactly 0; this takes all rows, and
/// all correlations. Its `QualityReport` has come to leave out pairs that hardly depend on each
/// other in the real table; published protocols take all pairs.
///
/// # Errors
/// If the tables have not the same columns.
pub fn trend(real: &Table, synthetic: &Table) -> Result<Trend> {
    let tables = aligned([("train", real), ("synthetic", synthetic)])?;
    let columns = tables[0].columns().len();
    let discrete: Vec<[Vec<u32>; 2]> = (0..columns)
        .into_par_iter()
        .map(|at| [0, 1].map(|side| discretised(&tables[side].columns()[at].values)))
        .collect();
    let pairs: Vec<(usize, usize)> =
        (0..columns).flat_map(|i| (i + 1..columns).map(move |j| (i, j))).collect();
    let pairs: Vec<PairTrend> = pairs
        .into_par_iter()
        .map(|(i, j)| {
            let [a, b] = [i, j].map(|at| [0, 1].map(|side| &tables[side].columns()[at].values));
            let score = match (a, b) {
                (
                    [Values::Numbers(a), Values::Numbers(x)],
                    [Values::Numbers(b), Values::Numbers(y)],
                ) => correlation_similarity([a, b], [x, y]),
                _ => {
                    let side = |side: usize| shares(&discrete[i][side], &discrete[j][side]);
                    Some(contingency_similarity(&side(0), &side(1)))
                }
            };
            let [first, second] = [i, j].map(|at| tables[0].columns()[at].name.clone());
            PairTrend { first, second, score }
        })
        .collect();
    Ok(Trend { mean: mean(pairs.iter().filter_map(|pair| pair.score)), pairs })
}

/// Categories as they are, the hole among them; numbers by their bins.
fn discretised(values: &Values) -> Vec<u32> {
    let numbers = match values {
        Values::Categories { codes, .. } => return codes.clone(),
        Values::Numbers(numbers) => numbers,
    };
    let seen = || numbers.iter().copied().filter(|x| !x.is_nan());
    let (mut least, mut greatest) = match seen().next() {
        Some(_) => (seen().fold(f64::INFINITY, f64::min), seen().fold(f64::NEG_INFINITY, f64::max)),
        None => (0.0, 1.0),
    };
    if least == greatest {
        (least, greatest) = (least - 0.5, greatest + 0.5);
    }
    let width = (greatest - least) / BINS as f64;
    let mut edges: Vec<f64> = (0..=BINS).map(|i| i as f64 * width + least).collect();
    edges[BINS] = greatest;
    let bin = |x: &f64| match x.is_nan() {
        true => BINS + 1,
        false => edges.partition_point(|edge| edge <= x),
    };
    numbers.iter().map(|x| bin(x) as u32).collect()
}

/// Pairs of categories in increasing order with their shares.
fn shares(a: &[u32], b: &[u32]) -> Vec<(u64, f64)> {
    let mut keys: Vec<u64> =
        a.iter().zip(b).map(|(&a, &b)| (u64::from(a) << 32) | u64::from(b)).collect();
    keys.sort_unstable();
    let share = |of: &[u64]| (of[0], of.len() as f64 / a.len() as f64);
    keys.chunk_by(|a, b| a == b).map(share).collect()
}

/// `1 − ½ Σ |p − p̃|` of two lists of shares.
fn contingency_similarity(real: &[(u64, f64)], synthetic: &[(u64, f64)]) -> f64 {
    let (mut i, mut j, mut distance) = (0, 0, 0.0);
    while i < real.len() || j < synthetic.len() {
        let of = |shares: &[(u64, f64)], at: usize| shares.get(at).map_or(u64::MAX, |s| s.0);
        let key = of(real, i).min(of(synthetic, j));
        let take = |shares: &[(u64, f64)], at: &mut usize| match shares.get(*at) {
            Some(&(there, share)) if there == key => {
                *at += 1;
                share
            }
            _ => 0.0,
        };
        distance += (take(real, &mut i) - take(synthetic, &mut j)).abs();
    }
    1.0 - 0.5 * distance
}

/// `1 − ½ |r − r̃|`.
fn correlation_similarity(real: [&[f64]; 2], synthetic: [&[f64]; 2]) -> Option<f64> {
    Some(1.0 - 0.5 * (correlation(real)? - correlation(synthetic)?).abs())
}

/// Pearson's correlation over the rows without a hole, within `[−1, 1]`.
fn correlation([a, b]: [&[f64]; 2]) -> Option<f64> {
    let rows: Vec<(f64, f64)> = (a.iter().zip(b))
        .map(|(&a, &b)| (a, b))
        .filter(|(a, b)| !a.is_nan() && !b.is_nan())
        .collect();
    let n = rows.len() as f64;
    let constant = |of: fn(&(f64, f64)) -> f64| rows.iter().all(|row| of(row) == of(&rows[0]));
    if rows.len() < 2 || constant(|row| row.0) || constant(|row| row.1) {
        return None;
    }
    let (sum_a, sum_b) = rows.iter().fold((0.0, 0.0), |(s, t), (a, b)| (s + a, t + b));
    let (mean_a, mean_b) = (sum_a / n, sum_b / n);
    // by the greatest deviations, so that no square overflows or vanishes
    let deviations = || rows.iter().map(|(a, b)| (a - mean_a, b - mean_b));
    let (most_a, most_b) =
        deviations().fold((0.0_f64, 0.0_f64), |(s, t), (a, b)| (s.max(a.abs()), t.max(b.abs())));
    let (mut aa, mut bb, mut ab) = (0.0, 0.0, 0.0);
    for (a, b) in deviations() {
        let (a, b) = (a / most_a, b / most_b);
        aa += a * a;
        bb += b * b;
        ab += a * b;
    }
    let r = ab / (aa.sqrt() * bb.sqrt());
    r.is_finite().then(|| r.clamp(-1.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::quality::table::HOLE;

    /// Lines rising and falling have correlations ±1, at any scale; constants have none.
    #[test]
    fn correlations_of_lines() {
        let x = [1.0, 2.0, 4.0, f64::NAN, 7.0];
        let line = |slope: f64| x.map(|x| slope * x + 3.0);
        for slope in [2.0, -1e-8, 1e170] {
            let r = correlation([&x, &line(slope)]).unwrap();
            assert!((r - slope.signum()).abs() < 1e-12, "{slope}: {r}");
        }
        assert_eq!(correlation([&x, &line(0.0)]), None);
        let similarity = correlation_similarity([&x, &line(2.0)], [&x, &line(-2.0)]).unwrap();
        assert!(similarity.abs() < 1e-12, "the opposite dependence: {similarity}");
        // by hand: deviations (−1, 0, 1) and (−1, 1, 0)
        let r = correlation([&[0.0, 1.0, 2.0], &[0.0, 2.0, 1.0]]).unwrap();
        assert!((r - 0.5).abs() < 1e-12);
        assert_eq!(correlation([&[1.0, f64::NAN], &[f64::NAN, 2.0]]), None);
    }

    /// Ten bins from 0 to 10: a bin is closed below; the greatest value and a hole have their own.
    #[test]
    fn numbers_are_binned_by_their_own_range() {
        let bins = discretised(&Values::Numbers(vec![0.0, 0.99, 1.0, 9.9, 10.0, f64::NAN]));
        assert_eq!(bins, [1, 1, 2, 10, 11, 11]);
        // half a unit to either side of a constant
        assert_eq!(discretised(&Values::Numbers(vec![3.0, 3.0])), [6, 6]);
        assert_eq!(discretised(&Values::Numbers(vec![f64::NAN])), [11]);
    }

    /// Shares ½, ½ of (0, 0), (1, hole) and 1 of (1, hole): the distance is ½.
    #[test]
    fn contingency_by_hand() {
        let real = shares(&[0, 1, 1, 0], &[0, HOLE, HOLE, 0]);
        let synthetic = shares(&[1, 1], &[HOLE, HOLE]);
        assert_eq!(contingency_similarity(&real, &synthetic), 0.5);
        assert_eq!(contingency_similarity(&real, &real), 1.0);
        let other = shares(&[HOLE], &[HOLE]);
        assert_eq!(contingency_similarity(&real, &other), 0.0);
    }
}
