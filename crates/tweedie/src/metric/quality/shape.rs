//! Shape: how alike the distributions of single columns are.

use serde::{Deserialize, Serialize};

use super::table::{HOLE, Table, Values, aligned};
use crate::Result;

/// How alike the columns of two tables are one by one, as SDMetrics' `ColumnShapes` has it: 1 where
/// a column's empirical distributions are equal, 0 where they have nothing in common.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shape {
    /// The mean over the columns that have a score; `None` where none has.
    pub mean: Option<f64>,
    /// Column after column.
    pub columns: Vec<ColumnShape>,
}

/// The score of one column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ColumnShape {
    /// The column's name.
    pub column: String,
    /// Of numbers `1 − sup_x |F(x) − F̃(x)|` of the empirical distribution functions
    /// (`KSComplement`); of categories `1 − ½ Σ_c |p_c − p̃_c|` of their shares (`TVComplement`).
    /// Holes are left out. `None` where a table has nothing but holes.
    pub score: Option<f64>,
}

/// [`Shape`] of a real and a synthetic table.
///
/// Numbers are rounded to 14 decimals first, as SDMetrics does. SDMetrics counts a category that
/// only the synthetic rows have as 1e-6 real rows, which this does not.
///
/// # Errors
/// If the tables have not the same columns.
pub fn shape(real: &Table, synthetic: &Table) -> Result<Shape> {
    let [real, synthetic] = aligned([("train", real), ("synthetic", synthetic)])?;
    let score = |real: &Values, synthetic: &Values| match (real, synthetic) {
        (Values::Numbers(real), Values::Numbers(synthetic)) => ks_complement(real, synthetic),
        (
            Values::Categories { names, codes: real },
            Values::Categories { codes: synthetic, .. },
        ) => tv_complement(names.len(), real, synthetic),
        _ => unreachable!("aligned columns are of one kind"),
    };
    let columns: Vec<ColumnShape> = (real.columns().iter().zip(synthetic.columns()))
        .map(|(real, synthetic)| ColumnShape {
            column: real.name.clone(),
            score: score(&real.values, &synthetic.values),
        })
        .collect();
    Ok(Shape { mean: mean(columns.iter().filter_map(|column| column.score)), columns })
}

/// The mean of the scores that there are.
pub(super) fn mean(scores: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = scores.fold((0.0, 0), |(sum, count), score| (sum + score, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

/// `1 − sup_x |F(x) − F̃(x)|`.
fn ks_complement(real: &[f64], synthetic: &[f64]) -> Option<f64> {
    let [real, synthetic] = [real, synthetic].map(|values| {
        let seen = values.iter().filter(|x| !x.is_nan());
        let mut sorted: Vec<f64> = seen.map(|&x| rounded(x)).collect();
        sorted.sort_by(f64::total_cmp);
        sorted
    });
    let (n, m) = (real.len(), synthetic.len());
    if n == 0 || m == 0 {
        return None;
    }
    let (mut i, mut j, mut gap) = (0, 0, 0.0_f64);
    while i < n && j < m {
        // −0 is before 0 in this order, and equal to it
        let at = real[i].min(synthetic[j]);
        i += real[i..].iter().take_while(|x| **x <= at).count();
        j += synthetic[j..].iter().take_while(|x| **x <= at).count();
        gap = gap.max((i as f64 / n as f64 - j as f64 / m as f64).abs());
    }
    Some(1.0 - gap)
}

/// To 14 decimals; a number too large for that is as it is.
fn rounded(x: f64) -> f64 {
    let scaled = x * 1e14;
    if scaled.is_finite() { scaled.round_ties_even() / 1e14 } else { x }
}

/// `1 − ½ Σ_c |p_c − p̃_c|`.
fn tv_complement(categories: usize, real: &[u32], synthetic: &[u32]) -> Option<f64> {
    let [real, synthetic] = [shares(categories, real)?, shares(categories, synthetic)?];
    let distance: f64 = real.iter().zip(&synthetic).map(|(p, q)| (p - q).abs()).sum();
    Some(1.0 - 0.5 * distance)
}

/// The share of each category among the cells that are no holes.
fn shares(categories: usize, codes: &[u32]) -> Option<Vec<f64>> {
    let mut counts = vec![0.0; categories];
    let seen = codes.iter().filter(|code| **code != HOLE);
    seen.for_each(|&code| counts[code as usize] += 1.0);
    let total: f64 = counts.iter().sum();
    (total > 0.0).then(|| counts.iter().map(|count| count / total).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps by hand: `F` is ¼, ½, ¾, 1 at 1, 2, 3, 4 and `F̃` is ½, 1 at 2, 5: the gap is largest
    /// at 4, `1 − ½`; ties and holes are in.
    #[test]
    fn kolmogorov_smirnov_by_hand() {
        let hole = f64::NAN;
        let score = ks_complement(&[3.0, 1.0, hole, 2.0, 4.0], &[5.0, 2.0, hole]);
        assert_eq!(score, Some(0.5));
        assert_eq!(ks_complement(&[0.0, 1.0], &[1.0, -0.0]), Some(1.0));
        assert_eq!(ks_complement(&[1.0, 1.0], &[2.0]), Some(0.0));
        assert_eq!(ks_complement(&[1.0 / 3.0], &[1.0 / 3.0 + 1e-16]), Some(1.0));
        assert_eq!(ks_complement(&[1e300], &[1e300]), Some(1.0));
        assert_eq!(ks_complement(&[hole], &[2.0]), None);
    }

    /// Shares ½, ½, 0 and ¼, ¼, ½: the distance is ½.
    #[test]
    fn total_variation_by_hand() {
        let score = tv_complement(3, &[0, 1, 1, 0, HOLE], &[0, 1, 2, 2]);
        assert_eq!(score, Some(0.5));
        assert_eq!(tv_complement(2, &[0, 1], &[HOLE]), None);
    }
}
