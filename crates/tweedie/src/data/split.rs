//! Splitting rows into training, validation and test parts.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::noise::Seed;
use crate::{Error, Result};

/// Disjoint sets of rows that together are all rows; each increasing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// Rows to fit to.
    pub train: Vec<usize>,
    /// Rows to choose hyperparameters and the stopping time by.
    pub validation: Vec<usize>,
    /// Rows to report on.
    pub test: Vec<usize>,
}

impl Split {
    /// Splits `rows` rows by `fractions` (training, validation, test; their sum is 1), at random.
    ///
    /// The shuffle is Fisher and Yates's on the ChaCha8 stream of `seed`: the same on every
    /// platform. The sizes of validation and test part are rounded to the nearest, training takes
    /// the rest.
    ///
    /// # Errors
    /// [`Error::Config`] if the fractions are not of that kind, or a part with a positive fraction
    /// would be empty.
    pub fn new(rows: usize, fractions: [f64; 3], seed: u64) -> Result<Split> {
        let sum: f64 = fractions.iter().sum();
        if !fractions.iter().all(|f| (0.0..=1.0).contains(f)) || (sum - 1.0).abs() > 1e-6 {
            let problem = format!("{fractions:?} are not three fractions that sum to 1");
            return Err(Error::config(
                "data.split",
                problem,
                "give training, validation, test as in 0.8,0.1,0.1",
            ));
        }
        let size = |fraction: f64| (fraction * rows as f64).round() as usize;
        let validation = size(fractions[1]);
        let test = size(fractions[2]).min(rows - validation);
        let train = rows - validation - test;
        for ((name, size), fraction) in
            ["training", "validation", "test"].iter().zip([train, validation, test]).zip(fractions)
        {
            if size == 0 && fraction > 0.0 {
                let problem =
                    format!("{fraction} of {rows} rows leaves no row for the {name} part");
                return Err(Error::config(
                    "data.split",
                    problem,
                    "give more rows, or other fractions (0 leaves a part out)",
                ));
            }
        }
        // A fraction of zero gets no row, whatever the others round to.
        let (train, test) = if fractions[0] == 0.0 { (0, test + train) } else { (train, test) };
        let order = permutation(rows, seed);
        let part = |range: std::ops::Range<usize>| {
            let mut part = order[range].to_vec();
            part.sort_unstable();
            part
        };
        Ok(Split {
            train: part(0..train),
            validation: part(train..train + validation),
            test: part(train + validation..train + validation + test),
        })
    }
}

/// The rows 0, 1, … in random order, the same on every platform.
pub(super) fn permutation(rows: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..rows).collect();
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    let mut random = ChaCha8Rng::from_seed(key);
    for i in (1..rows).rev() {
        order.swap(i, below(&mut random, i as u64 + 1) as usize);
    }
    order
}

/// `n` of `rows` drawn at random without replacement, in the order in which they stand in `rows`;
/// all of them if there are no more than `n`. Files are often sorted, by class or by time, so that
/// their first rows are no sample of them.
///
/// The draw depends on `seed`, `n` and the number of rows alone, and is the same on every platform.
pub fn subset(rows: &[usize], n: usize, seed: Seed) -> Vec<usize> {
    if n >= rows.len() {
        return rows.to_vec();
    }
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.derive("subset").0.to_le_bytes());
    let mut random = ChaCha8Rng::from_seed(key);
    let mut places: Vec<usize> = (0..rows.len()).collect();
    for i in 0..n {
        places.swap(i, i + below(&mut random, (rows.len() - i) as u64) as usize);
    }
    places.truncate(n);
    places.sort_unstable();
    places.into_iter().map(|place| rows[place]).collect()
}

/// A uniform integer below `n` (Lemire 2019, without bias). Here rather than from `rand`, whose
/// methods may give other values in another version.
fn below(random: &mut ChaCha8Rng, n: u64) -> u64 {
    let threshold = n.wrapping_neg() % n;
    loop {
        let product = u128::from(random.next_u64()) * u128::from(n);
        if product as u64 >= threshold {
            return (product >> 64) as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_disjoint_and_complete() {
        for (rows, fractions) in [
            (10, [0.8, 0.1, 0.1]),
            (1001, [0.5, 0.25, 0.25]),
            (7, [1.0, 0.0, 0.0]),
            (5, [0.0, 0.5, 0.5]),
        ] {
            let split = Split::new(rows, fractions, 3).unwrap();
            let mut all =
                [split.train.clone(), split.validation.clone(), split.test.clone()].concat();
            all.sort_unstable();
            assert_eq!(all, (0..rows).collect::<Vec<_>>());
            for (part, fraction) in
                [split.train, split.validation, split.test].iter().zip(fractions)
            {
                assert!((part.len() as f64 - fraction * rows as f64).abs() <= 1.0);
                assert!(fraction > 0.0 || part.is_empty());
            }
        }
    }

    #[test]
    fn seeds_differ_and_repeat() {
        let fractions = [0.8, 0.1, 0.1];
        assert_eq!(Split::new(100, fractions, 7).unwrap(), Split::new(100, fractions, 7).unwrap());
        assert_ne!(Split::new(100, fractions, 7).unwrap(), Split::new(100, fractions, 8).unwrap());
    }

    #[test]
    fn every_row_is_equally_likely_to_be_tested() {
        // 4000 splits of 10 rows, test size 1: counts are Binomial(4000, 0.1), sd 19.
        let mut counts = [0_i32; 10];
        for seed in 0..4000 {
            counts[Split::new(10, [0.9, 0.0, 0.1], seed).unwrap().test[0]] += 1;
        }
        assert!(counts.iter().all(|c| (c - 400).abs() < 95), "{counts:?}");
    }

    /// A draw keeps the order, has no row twice, repeats, and takes each row equally often.
    #[test]
    fn a_subset_is_a_draw_and_not_the_first_rows() {
        let rows: Vec<usize> = (0..20).map(|i| 100 + 3 * i).collect();
        assert_eq!(subset(&rows, 20, Seed(0)), rows);
        assert_eq!(subset(&rows, 99, Seed(0)), rows);
        assert!(subset(&rows, 0, Seed(0)).is_empty());
        let mut counts = [0_i32; 20];
        // 4000 draws of 5 of 20: counts are Binomial(4000, 1/4), sd 27
        for seed in 0..4000 {
            let drawn = subset(&rows, 5, Seed(seed));
            assert!(
                drawn.len() == 5 && drawn.windows(2).all(|pair| pair[0] < pair[1]),
                "{drawn:?}"
            );
            assert_eq!(drawn, subset(&rows, 5, Seed(seed)));
            drawn.iter().for_each(|row| counts[(row - 100) / 3] += 1);
        }
        assert!(counts.iter().all(|c| (c - 1000).abs() < 136), "{counts:?}");
    }

    #[test]
    fn empty_parts_and_bad_fractions_are_refused() {
        assert!(Split::new(3, [0.8, 0.1, 0.1], 0).is_err());
        assert!(Split::new(0, [1.0, 0.0, 0.0], 0).is_err());
        assert!(Split::new(10, [0.8, 0.1, 0.2], 0).is_err());
        assert!(Split::new(10, [1.2, -0.1, -0.1], 0).is_err());
        assert!(Split::new(10, [f64::NAN, 0.5, 0.5], 0).is_err());
    }
}
