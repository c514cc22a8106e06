//! The classifier two-sample test: can a classifier tell real rows from synthetic ones?

use serde::{Deserialize, Serialize};

use super::logistic::Logistic;
use super::ranking::{Auroc, auroc};
use super::rows::{Holes, Rows};
use super::table::{Table, aligned};
use super::trees::{Target, Trees};
use super::{Estimate, at_least, shuffled};
use crate::Result;
use crate::noise::Seed;

/// Folds of the cross-validation.
const FOLDS: usize = 3;
/// Rows that a side must have: two in every fold, of which a spread is made.
pub(super) const LEAST_ROWS: usize = 2 * FOLDS;

/// What tells real rows from synthetic ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detector {
    /// Logistic regression with an L2 penalty: SDMetrics' `LogisticDetection`.
    Logistic,
    /// Boosted trees in its place, with XGBoost's defaults.
    Trees,
}

/// A classifier two-sample test (Lopez-Paz & Oquab 2017) by the area under the ROC curve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct C2st {
    /// `1 − mean_k max(0, 2 AUROC_k − 1)` over the folds: 1 where the classifier is no better than
    /// chance, 0 where it is always right. Of fully exchangeable rows it is a little below 1, since
    /// a fold's area below ½ counts as ½.
    pub score: Estimate,
    /// The mean of the folds' areas.
    pub auroc: Estimate,
    /// The areas of the folds.
    pub folds: Vec<f64>,
}

/// [`C2st`] of a real and a synthetic table in the protocol of SDMetrics' `LogisticDetection`,
/// which TabSyn uses (Zhang et al. 2024): three folds with equal shares of both kinds, numbers with
/// holes filled by the real table's mean, categories as one-hot coordinates, a hole being one more
/// category. A category that only synthetic rows have, at which SDMetrics stops, has a coordinate
/// of its own. `seed` says which rows are in which fold.
///
/// The standard errors are DeLong's of the folds' areas, given their classifiers; that of the score
/// is twice that of the mean area, and so not less where folds count as ½.
///
/// # Errors
/// If the tables have not the same columns, or one has fewer than 6 rows.
pub fn c2st(real: &Table, synthetic: &Table, detector: Detector, seed: Seed) -> Result<C2st> {
    let [real, synthetic] = aligned([("train", real), ("synthetic", synthetic)])?;
    at_least("train", &real, LEAST_ROWS)?;
    at_least("synthetic", &synthetic, LEAST_ROWS)?;
    let folds = [("real", real.rows()), ("synthetic", synthetic.rows())].map(|(kind, rows)| {
        let mut folds = vec![0; rows];
        let order = shuffled(rows, seed.derive(kind));
        order.into_iter().enumerate().for_each(|(i, row)| folds[row] = i % FOLDS);
        folds
    });
    in_folds(&real, &synthetic, detector, &folds.concat())
}

/// The test of aligned tables, whose rows, first the real ones, are in these folds.
pub(super) fn in_folds(
    real: &Table,
    synthetic: &Table,
    detector: Detector,
    folds: &[usize],
) -> Result<C2st> {
    let [x, y] = Rows::of([real, synthetic], Holes::Mean, None);
    let rows = x.followed_by(&y);
    let is_real: Vec<bool> = (0..rows.len).map(|row| row < real.rows()).collect();
    let mut areas: Vec<Auroc> = Vec::new();
    for fold in 0..FOLDS {
        let places = |inside: bool| -> Vec<usize> {
            (0..rows.len).filter(|&row| (folds[row] == fold) == inside).collect()
        };
        let (train, test) = (places(false), places(true));
        let kinds = |places: &[usize]| places.iter().map(|&i| is_real[i]).collect::<Vec<bool>>();
        let scores = match detector {
            Detector::Logistic => {
                Logistic::fit(&rows.take(&train), &kinds(&train)).scores(&rows.take(&test))
            }
            Detector::Trees => {
                let y: Vec<f64> =
                    kinds(&train).iter().map(|&real| f64::from(u8::from(real))).collect();
                Trees::fit(&rows.take(&train), &y, Target::Class)?.predict(&rows.take(&test))
            }
        };
        areas.extend(auroc(&scores, &kinds(&test)));
    }
    let count = areas.len() as f64;
    let mean = |of: &dyn Fn(&Auroc) -> f64| areas.iter().map(of).sum::<f64>() / count;
    let error = (mean(&|area| area.std_error.powi(2)) / count).sqrt();
    let above_chance = mean(&|area| (2.0 * area.value - 1.0).max(0.0));
    Ok(C2st {
        score: Estimate::new(1.0 - above_chance, 2.0 * error),
        auroc: Estimate::new(mean(&|area| area.value), error),
        folds: areas.iter().map(|area| area.value).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::quality::table::{Column, Values};
    use crate::noise::Noise;

    /// Uniform numbers from `shift` on, categories `A` and `B`.
    fn table(n: u64, seed: u64, shift: f64) -> Table {
        let uniforms = Noise::new(Seed(seed), 0..n).uniform(2);
        let numbers = uniforms.iter().step_by(2).map(|u| u + shift).collect();
        let codes = uniforms.iter().skip(1).step_by(2).map(|u| u32::from(*u < 0.3)).collect();
        let values = Values::Categories { names: ["A", "B"].map(String::from).to_vec(), codes };
        let number = Column { name: "x".into(), values: Values::Numbers(numbers) };
        Table::new(vec![number, Column { name: "c".into(), values }]).unwrap()
    }

    #[test]
    fn the_ends_and_the_middle() {
        for detector in [Detector::Logistic, Detector::Trees] {
            let of = |shift: f64, seed: u64| {
                c2st(&table(300, 1, 0.0), &table(240, 2, shift), detector, Seed(seed)).unwrap()
            };
            let apart = of(3.0, 7);
            assert!(apart.score.value < 1e-9 && apart.auroc.value == 1.0, "{apart:?}");
            let same = of(0.0, 7);
            assert!((same.auroc.value - 0.5).abs() < 4.0 * same.auroc.std_error.unwrap());
            assert!(same.score.value > 0.7, "{same:?}");
            // uniforms half a unit apart: P(x < y + ½) = 1 − ½ · ¼
            let shifted = of(0.5, 7);
            let gap = shifted.auroc.value - 0.875;
            assert!(gap.abs() < 5.0 * shifted.auroc.std_error.unwrap(), "{shifted:?}");
            let of_folds = shifted.folds.iter().sum::<f64>() / 3.0;
            assert!((shifted.score.value - (2.0 - 2.0 * of_folds)).abs() < 1e-12);
            assert_eq!(shifted, of(0.5, 7), "a seed gives one result");
            assert_ne!(shifted.folds, of(0.5, 8).folds);
        }
    }

    #[test]
    fn few_rows_are_refused() {
        let error = c2st(&table(20, 1, 0.0), &table(5, 2, 0.0), Detector::Logistic, Seed(1));
        let error = error.unwrap_err();
        assert_eq!(error.option(), Some("quality.synthetic"));
        assert!(error.to_string().contains("5 rows"), "{error}");
    }
}
