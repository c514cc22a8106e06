//! Boosted trees, with the defaults of XGBoost.

use forust_ml::objective::ObjectiveType;
use forust_ml::{GradientBooster, Matrix};

use super::rows::Rows;
use crate::{Error, Result};

/// Trees of a fit.
const ROUNDS: usize = 100;
/// Splits from the root to a leaf at most.
const DEPTH: usize = 6;
/// What a tree's leaves are multiplied by.
const RATE: f32 = 0.3;
/// The squared weight of leaves in the objective.
const L2: f32 = 1.0;
/// The least sum of second derivatives in a leaf.
const LEAST_IN_LEAF: f32 = 1.0;
/// Bins of a column's values.
const BINS: u16 = 256;

/// Gradient boosting on second-order approximations of the loss (Chen & Guestrin 2016, eqs. 6–7),
/// by the crate `forust-ml`, with XGBoost's defaults: 100 trees of depth 6 at a learning rate of
/// 0.3, from the constant that fits best, splits between 256 bins. A number that is NaN goes to the
/// side of a split where it was best. Nothing is drawn, and the result does not depend on threads.
pub(super) struct Trees {
    booster: Option<GradientBooster>,
    /// What is predicted where no column tells rows apart.
    constant: f64,
    columns: Vec<Coordinate>,
}

/// A coordinate of rows that tells some apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coordinate {
    /// The number of this column.
    Number(usize),
    /// Whether this column's number is a hole.
    Hole(usize),
    /// Whether this column has this category.
    Level(usize, u32),
}

/// What trees are fitted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// 0 or 1, by the logistic loss; predicted is `ln p/(1 − p)` of 1.
    Class,
    /// A number, by the squared loss.
    Number,
}

impl Trees {
    /// Fits rows to `y`.
    ///
    /// # Errors
    /// If the fit fails.
    pub fn fit(rows: &Rows, y: &[f64], target: Target) -> Result<Trees> {
        let columns = varied(rows);
        let mean = y.iter().sum::<f64>() / y.len() as f64;
        let constant = match target {
            Target::Number => mean,
            // not infinite where all rows are of one class
            Target::Class => (mean.max(1e-16) / (1.0 - mean).max(1e-16)).ln(),
        };
        if columns.is_empty() || y.iter().all(|value| *value == y[0]) {
            return Ok(Trees { booster: None, constant, columns });
        }
        let objective = match target {
            Target::Class => ObjectiveType::LogLoss,
            Target::Number => ObjectiveType::SquaredLoss,
        };
        let mut booster = GradientBooster::default()
            .set_objective_type(objective)
            .set_iterations(ROUNDS)
            .set_max_depth(DEPTH)
            .set_learning_rate(RATE)
            .set_l2(L2)
            .set_min_leaf_weight(LEAST_IN_LEAF)
            .set_nbins(BINS)
            .set_base_score(constant)
            .set_initialize_base_score(false);
        let matrix = written_out(rows, &columns);
        let matrix = Matrix::new(&matrix, rows.len, columns.len());
        booster.fit(&matrix, y, &vec![1.0; y.len()], None).map_err(|error| {
            let remedy = "look for columns of extraordinary values";
            Error::numeric(format!("boosted trees failed: {error}"), remedy)
        })?;
        Ok(Trees { booster: Some(booster), constant, columns })
    }

    /// The predictions for rows of the same columns.
    pub fn predict(&self, rows: &Rows) -> Vec<f64> {
        let Some(booster) = &self.booster else { return vec![self.constant; rows.len] };
        let matrix = written_out(rows, &self.columns);
        booster.predict(&Matrix::new(&matrix, rows.len, self.columns.len()), true)
    }
}

/// The coordinates that are not the same in all rows. Of a number that is the same wherever it is
/// no hole, that is whether it is a hole.
fn varied(rows: &Rows) -> Vec<Coordinate> {
    let number = |(j, column): (usize, &Vec<f64>)| {
        let seen = || column.iter().filter(|x| !x.is_nan());
        let first = seen().next()?;
        if seen().any(|x| x != first) {
            return Some(Coordinate::Number(j));
        }
        (seen().count() < rows.len).then_some(Coordinate::Hole(j))
    };
    let mut varied: Vec<Coordinate> = rows.numbers.iter().enumerate().filter_map(number).collect();
    for (j, (codes, &levels)) in rows.codes.iter().zip(&rows.levels).enumerate() {
        let mut counts = vec![0; levels];
        codes.iter().for_each(|&code| counts[code as usize] += 1);
        let some = (0..levels).filter(|&level| counts[level] > 0 && counts[level] < rows.len);
        varied.extend(some.map(|level| Coordinate::Level(j, level as u32)));
    }
    varied
}

/// The coordinates as numbers, one after the other.
fn written_out(rows: &Rows, columns: &[Coordinate]) -> Vec<f64> {
    let bit = |is: bool| f64::from(u8::from(is));
    let mut matrix = Vec::with_capacity(rows.len * columns.len());
    for column in columns {
        match *column {
            Coordinate::Number(j) => matrix.extend_from_slice(&rows.numbers[j]),
            Coordinate::Hole(j) => matrix.extend(rows.numbers[j].iter().map(|x| bit(x.is_nan()))),
            Coordinate::Level(j, level) => {
                matrix.extend(rows.codes[j].iter().map(|&code| bit(code == level)));
            }
        }
    }
    matrix
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(numbers: &[f64], codes: &[u32]) -> Rows {
        let (numbers, codes) = (vec![numbers.to_vec()], vec![codes.to_vec()]);
        Rows { len: codes[0].len(), numbers, codes, levels: vec![3] }
    }

    /// Leaves shrink towards the constant by `H/(H + λ)` and the rate, 100 times: with 20 rows of a
    /// kind the rest is `(1 − 0.3 · 20/21)^100`, below 1e-14, but for sums in f32.
    #[test]
    fn a_number_of_each_category_is_learned() {
        let codes: Vec<u32> = (0..60).map(|i| i % 3).collect();
        let y: Vec<f64> = codes.iter().map(|&code| [1.0, -2.0, 7.0][code as usize]).collect();
        let x = rows(&[5.0; 60], &codes);
        assert_eq!(varied(&x), [0, 1, 2].map(|level| Coordinate::Level(0, level)));
        let found = Trees::fit(&x, &y, Target::Number).unwrap().predict(&x);
        assert!(found.iter().zip(&y).all(|(a, b)| (a - b).abs() < 1e-4), "{:?}", &found[..3]);
    }

    /// Whether a number is a hole tells the classes apart, whether or not its values differ.
    #[test]
    fn holes_are_told_from_numbers() {
        for values in [7, 1] {
            let hole = |i: usize| if i % 4 < 2 { f64::NAN } else { (i % values) as f64 };
            let numbers: Vec<f64> = (0..80).map(hole).collect();
            let y: Vec<f64> = numbers.iter().map(|x| f64::from(u8::from(x.is_nan()))).collect();
            let x = rows(&numbers, &[0; 80]);
            let found = Trees::fit(&x, &y, Target::Class).unwrap().predict(&x);
            assert!(found.iter().zip(&y).all(|(z, y)| (*z > 2.0) == (*y == 1.0) && z.abs() > 2.0));
        }
    }

    /// The mean, or the log odds of the share.
    #[test]
    fn constants_are_predicted_where_nothing_tells_rows_apart() {
        let x = rows(&[5.0, 5.0, 5.0, 5.0], &[1; 4]);
        assert_eq!(varied(&x), []);
        let predict = |y: &[f64], target| Trees::fit(&x, y, target).unwrap().predict(&x);
        assert_eq!(predict(&[1.0, 2.0, 3.0, 6.0], Target::Number), [3.0; 4]);
        let found = predict(&[1.0, 0.0, 0.0, 0.0], Target::Class);
        assert!((found[0] + 3.0_f64.ln()).abs() < 1e-12);
        assert!(predict(&[1.0; 4], Target::Class)[0] > 30.0);
    }
}
