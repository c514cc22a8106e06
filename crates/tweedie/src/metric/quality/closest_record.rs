//! Distances to the closest record: are synthetic rows nearer to the rows they were learned from
//! than to others?

use serde::{Deserialize, Serialize};

use super::rows::{Distance, Rows, equal};
use super::table::{Table, aligned};
use super::{Estimate, shuffled};
use crate::Result;
use crate::noise::Seed;
use crate::statistics::mean_and_error;

/// Whether synthetic rows are nearer to the rows of training than to other real rows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClosestRecord {
    /// The share of synthetic rows whose closest row of training is nearer than their closest row
    /// held out; a tie counts half. About ½ where a model has learned the distribution and no rows,
    /// 1 where it repeats them. The standard error is that of the synthetic rows, given the others.
    pub share: Estimate,
    /// Synthetic rows that are equally near to both.
    pub ties: usize,
    /// Synthetic rows that are one of those rows of training, cell by cell.
    pub copies: usize,
    /// Rows of training, and as many held out, among which the closest were sought.
    pub rows: usize,
}

/// [`ClosestRecord`] of a synthetic table, rows that it was learned from, and other rows of the
/// same distribution, as TabSyn has it: `Σ_j |x_j − y_j|` of numbers divided by their range in
/// `train`, and of one-hot categories, so that another category is 2 apart. A number that is a hole
/// is the mean of `train`, and that it was one is a category. As many rows are taken of both real
/// sides, drawn by `seed` from the side that has more. TabSyn counts no ties.
///
/// Costs `O(n m)` times the columns on all threads, and memory for the rows.
///
/// # Errors
/// If the tables have not the same columns.
pub fn closest_record(
    train: &Table,
    holdout: &Table,
    synthetic: &Table,
    seed: Seed,
) -> Result<ClosestRecord> {
    let [train, holdout, synthetic] =
        aligned([("train", train), ("holdout", holdout), ("synthetic", synthetic)])?;
    let rows = train.rows().min(holdout.rows());
    let [train, holdout, synthetic] = Rows::scaled([&train, &holdout, &synthetic]);
    let some = |all: Rows| match all.len > rows {
        true => all.take(&shuffled(all.len, seed)[..rows]),
        false => all,
    };
    let to_train = synthetic.nearest(&some(train), Distance::L1, false);
    let to_holdout = synthetic.nearest(&some(holdout), Distance::L1, false);
    let (mut ties, mut copies) = (0, 0);
    let nearer = |(&(train, _), &(holdout, _)): (&(f64, usize), &(f64, usize))| {
        copies += usize::from(equal(train, 0.0));
        if equal(train, holdout) {
            ties += 1;
            return 0.5;
        }
        f64::from(u8::from(train < holdout))
    };
    let counted: Vec<f64> = to_train.iter().zip(&to_holdout).map(nearer).collect();
    let (share, error) = mean_and_error(&counted);
    Ok(ClosestRecord { share: Estimate::new(share, error), ties, copies, rows })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::quality::table::{Column, HOLE, Values};
    use crate::noise::Noise;

    fn table(numbers: &[f64], codes: &[u32]) -> Table {
        let names = ["x", "y"].map(String::from).to_vec();
        let values = Values::Categories { names, codes: codes.to_vec() };
        let number = Column { name: "a".into(), values: Values::Numbers(numbers.to_vec()) };
        Table::new(vec![number, Column { name: "c".into(), values }]).unwrap()
    }

    /// On a line of length 10 by hand, another category being 2 apart: 1 is nearer to 0 than to 4;
    /// 9 nearer to 8, held out; 2 is equally near to 0 and 4; 8 of category y is nearest to 10 of
    /// it, and a copy is a copy.
    #[test]
    fn by_hand() {
        let train = table(&[0.0, 10.0, 5.0], &[0, 1, HOLE]);
        let holdout = table(&[4.0, 8.0, f64::NAN], &[0, 0, 1]);
        let synthetic = table(&[1.0, 9.0, 2.0, 8.0, 5.0], &[0, 0, 0, 1, HOLE]);
        let found = closest_record(&train, &holdout, &synthetic, Seed(1)).unwrap();
        assert_eq!((found.ties, found.copies, found.rows), (1, 1, 3));
        assert!((found.share.value - 3.5 / 5.0).abs() < 1e-12, "{found:?}");
        // 1, 0, ½, 1, 1 around 0.7
        let variance = (3.0 * 0.09 + 0.49 + 0.04) / 4.0 / 5.0;
        assert!((found.share.std_error.unwrap() - f64::sqrt(variance)).abs() < 1e-12);
    }

    /// Rows of the same distribution have a share of ½ within four standard errors, whichever side
    /// has more; copies of the rows of training have 1.
    #[test]
    fn a_half_for_samples_and_one_for_copies() {
        let sample = |n: u64, seed: u64| {
            let uniforms = Noise::new(Seed(seed), 0..n).uniform(2);
            let numbers: Vec<f64> = uniforms.iter().step_by(2).copied().collect();
            let codes: Vec<u32> =
                uniforms.iter().skip(1).step_by(2).map(|u| u32::from(*u < 0.4)).collect();
            table(&numbers, &codes)
        };
        for (n, m) in [(400, 250), (250, 400)] {
            let (train, holdout) = (sample(n, 1), sample(m, 2));
            let found = closest_record(&train, &holdout, &sample(600, 3), Seed(4)).unwrap();
            assert_eq!(found.rows, 250);
            let error = found.share.std_error.unwrap();
            assert!((found.share.value - 0.5).abs() < 4.0 * error && error < 0.03, "{found:?}");
        }
        let (train, holdout) = (sample(200, 1), sample(200, 2));
        let copied = closest_record(&train, &holdout, &train, Seed(4)).unwrap();
        assert_eq!((copied.share.value, copied.copies), (1.0, 200));
    }
}
