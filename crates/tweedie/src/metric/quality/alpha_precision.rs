//! α-precision and β-recall: do synthetic rows lie where real ones do, and do they cover them?

use serde::{Deserialize, Serialize};

use super::rows::{Distance, Rows, equal, quantile};
use super::table::{Table, aligned};
use super::{at_least, shuffled};
use crate::Result;
use crate::noise::Seed;

/// Levels `α` and `β` from 0 to 1.
const LEVELS: usize = 30;
/// Rows that a side must have: a row and its neighbour.
const LEAST_ROWS: usize = 2;

/// How synthetic rows and the real ones lie in each other's supports (Alaa et al. 2022). Exact
/// samples have a precision near 1 and a recall near ½, since half of the real rows are closer to
/// another real row; copies of the real rows have both near 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlphaPrecision {
    /// `1 − Σ_α |P_α − α| / Σ_α α` over 30 levels, integrated α-precision: fidelity.
    pub precision: f64,
    /// `1 − Σ_β |R_β − β| / Σ_β β`, integrated β-recall: diversity.
    pub recall: f64,
    /// `P_α` at levels even in `[0, 1]`: the share of synthetic rows in the ball around the real
    /// rows' mean that holds a share `α` of the real rows.
    pub precision_curve: Vec<f64>,
    /// `R_β` at levels even in `[0, 1]`: the share of real rows that are no farther from their
    /// closest synthetic row than from their closest real one, and whose closest synthetic row is
    /// in the ball around the synthetic rows' mean that holds a share `β` of those closest rows.
    pub recall_curve: Vec<f64>,
    /// Rows of either side that were compared.
    pub rows: usize,
}

/// [`AlphaPrecision`] of a real and a synthetic table, as TabSyn reports it: synthcity's naive
/// variant, without an embedding that is learned. Numbers are between 0 and 1 over the real rows,
/// categories one-hot; a number that is a hole is the real rows' mean, and that it was one is a
/// category. As many rows are taken of both sides, drawn by `seed` from the side that has more.
///
/// TabSyn's own values leave out the last coordinate, which synthcity takes for a target (of a
/// category, one of its one-hot coordinates); these leave out none.
///
/// # Errors
/// If the tables have not the same columns, or one has fewer than 2 rows.
pub fn alpha_precision(real: &Table, synthetic: &Table, seed: Seed) -> Result<AlphaPrecision> {
    let [real, synthetic] = aligned([("train", real), ("synthetic", synthetic)])?;
    at_least("train", &real, LEAST_ROWS)?;
    at_least("synthetic", &synthetic, LEAST_ROWS)?;
    let rows = real.rows().min(synthetic.rows());
    let [x, y] = Rows::scaled([&real, &synthetic])
        .map(|all| if all.len > rows { all.take(&shuffled(all.len, seed)[..rows]) } else { all });

    let centre = x.centre();
    let mut radii = x.distances_to(&centre);
    radii.sort_by(f64::total_cmp);
    let from_centre = y.distances_to(&centre);
    let precision_curve: Vec<f64> =
        levels().map(|level| share_within(&from_centre, quantile(&radii, level))).collect();

    let among_real = x.nearest(&x, Distance::SquaredL2, true);
    let to_synthetic = x.nearest(&y, Distance::SquaredL2, false);
    let from_synthetic_centre = y.distances_to(&y.centre());
    let spread: Vec<f64> = to_synthetic.iter().map(|&(_, at)| from_synthetic_centre[at]).collect();
    let covered: Vec<f64> = (to_synthetic.iter().zip(&among_real).zip(&spread))
        .filter(|((to, among), _)| to.0 <= among.0 || equal(to.0, among.0))
        .map(|(_, spread)| *spread)
        .collect();
    let mut radii = spread;
    radii.sort_by(f64::total_cmp);
    let share_covered = covered.len() as f64 / rows as f64;
    let recall_curve: Vec<f64> = levels()
        .map(|level| match covered.is_empty() {
            true => 0.0,
            false => share_covered * share_within(&covered, quantile(&radii, level)),
        })
        .collect();
    Ok(AlphaPrecision {
        precision: integrated(&precision_curve),
        recall: integrated(&recall_curve),
        precision_curve,
        recall_curve,
        rows,
    })
}

fn levels() -> impl Iterator<Item = f64> {
    (0..LEVELS).map(|i| i as f64 / (LEVELS - 1) as f64)
}

/// The share of distances within a radius, those that differ by rounding included.
fn share_within(distances: &[f64], radius: f64) -> f64 {
    let within = distances.iter().filter(|&&d| d <= radius || equal(d, radius)).count();
    within as f64 / distances.len() as f64
}

/// `1 − Σ |c − level| / Σ level`.
fn integrated(curve: &[f64]) -> f64 {
    let apart: f64 = levels().zip(curve).map(|(level, c)| (c - level).abs()).sum();
    1.0 - apart / levels().sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::quality::table::{Column, Values};
    use crate::noise::Noise;

    fn table(columns: &[Vec<f64>]) -> Table {
        let column = |(j, values): (usize, &Vec<f64>)| Column {
            name: format!("x{j}"),
            values: Values::Numbers(values.clone()),
        };
        Table::new(columns.iter().enumerate().map(column).collect()).unwrap()
    }

    fn uniform(n: u64, seed: u64, of: impl Fn(f64) -> f64) -> Table {
        let column = |purpose: &str| {
            let uniforms = Noise::new(Seed(seed).derive(purpose), 0..n).uniform(1);
            uniforms.into_iter().map(&of).collect()
        };
        table(&[column("a"), column("b")])
    }

    /// On a line, by hand: the real rows 0, ⅓, 1 lie 4/9, 1/9, 5/9 from their mean; the
    /// synthetic rows ⅓, ⅓, 4 lie 1/9, 1/9, 32/9 from it: two thirds are within the real radii from
    /// the least on.
    #[test]
    fn by_hand() {
        let found = alpha_precision(
            &table(&[vec![0.0, 1.0, 3.0]]),
            &table(&[vec![1.0, 12.0, 1.0]]),
            Seed(1),
        )
        .unwrap();
        assert!(found.precision_curve.iter().all(|p| (p - 2.0 / 3.0).abs() < 1e-12));
        // all closest synthetic rows are ⅓: of the real rows 0, ⅓ and 1, at ⅓, ⅓ and ⅔ from their
        // neighbours, every one is as near to it
        assert!(found.recall_curve.iter().all(|r| *r == 1.0), "{:?}", found.recall_curve);
        // 29 levels of mean ½: Σ|c − i/29| / 15
        let apart: f64 = (0..30).map(|i| (2.0 / 3.0 - f64::from(i) / 29.0).abs()).sum();
        assert!((found.precision - (1.0 - apart / 15.0)).abs() < 1e-12);
        assert!(found.recall.abs() < 1e-12, "Σ(1 − level) = Σ level");
    }

    /// Exact samples have a precision near 1 and a recall near ½, copies both near 1; rows of a
    /// small part have little of either, rows elsewhere nothing.
    #[test]
    fn samples_copies_and_rows_elsewhere() {
        let real = uniform(400, 1, |u| u);
        let of = |other: &Table| alpha_precision(&real, other, Seed(3)).unwrap();
        let same = of(&uniform(500, 2, |u| u));
        assert!(same.precision > 0.93 && (same.recall - 0.5).abs() < 0.1, "{same:?}");
        assert_eq!(same.rows, 400);
        let copies = of(&real);
        assert!(copies.precision > 0.99 && copies.recall > 0.99, "{copies:?}");
        let elsewhere = of(&uniform(400, 2, |u| u + 5.0));
        assert!(elsewhere.precision < 0.1 && elsewhere.recall_curve.iter().all(|r| *r == 0.0));
        let narrow = of(&uniform(400, 2, |u| 0.45 + 0.1 * u));
        assert!(narrow.precision < 0.3 && narrow.recall < same.recall - 0.2, "{narrow:?}");
        assert_eq!(of(&uniform(500, 2, |u| u)), same, "a seed gives one result");
    }
}
