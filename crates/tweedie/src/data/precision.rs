//! Whether single precision resolves a column.

/// Numbers that a sample holds at most, whatever the number of columns.
const NUMBERS: usize = 1 << 20;
/// Rows that it holds at most, and at least.
const ROWS: usize = 4096;
const LEAST_ROWS: usize = 64;
/// Distinct values that are compared with their neighbours.
const COMPARED: usize = 256;
/// The share of them that may fall together when they are rounded. Of normal values, 256 of them,
/// it is reached where the standard deviation has about 1400 single-precision steps.
const MOST_MERGED: f64 = 0.05;

/// Rows of a table as they were before they were rounded to single precision, evenly spaced in the
/// file.
#[derive(Debug, Clone, Default)]
pub(super) struct Sample {
    /// Row-major, `[rows, dim]`.
    values: Vec<f64>,
    dim: usize,
    /// Every so many-th row is kept.
    stride: usize,
    seen: usize,
    /// For each column, its whole numbers that single precision does not hold: how many, and the
    /// largest change.
    pub changed: Vec<(usize, f64)>,
}

impl Sample {
    /// Offers the next row.
    pub fn push(&mut self, row: &[f64]) {
        if self.stride == 0 {
            (self.stride, self.dim) = (1, row.len());
            self.changed = vec![(0, 0.0); row.len()];
        }
        for (&value, (count, worst)) in row.iter().zip(&mut self.changed) {
            let change = (f64::from(value as f32) - value).abs();
            if change > 0.0 && change.is_finite() && value.fract() == 0.0 {
                *count += 1;
                *worst = worst.max(change);
            }
        }
        if self.seen.is_multiple_of(self.stride) {
            self.values.extend_from_slice(row);
            let most = (NUMBERS / self.dim.max(1)).clamp(LEAST_ROWS, ROWS);
            if self.values.len() >= 2 * most * self.dim {
                self.thin();
            }
        }
        self.seen += 1;
    }

    /// Drops every other row.
    fn thin(&mut self) {
        let dim = self.dim;
        let rows = self.values.len() / dim;
        for row in 1..rows.div_ceil(2) {
            self.values.copy_within(2 * row * dim..(2 * row + 1) * dim, row * dim);
        }
        self.values.truncate(rows.div_ceil(2) * dim);
        self.stride *= 2;
    }

    /// The sample of some of the columns.
    pub fn of_columns(&self, columns: &[usize]) -> Sample {
        if self.dim == 0 {
            return Sample::default();
        }
        let values = self
            .values
            .chunks_exact(self.dim)
            .flat_map(|row| columns.iter().map(|&k| row[k]))
            .collect();
        let changed = columns.iter().map(|&k| self.changed[k]).collect();
        Sample { values, dim: columns.len(), changed, ..*self }
    }

    /// Whether column `k` is too fine for single precision: of neighbouring values among a few
    /// hundred distinct ones, more than a twentieth are the same number once they are rounded. What
    /// counts is the spacing of the values where they lie, so that neither an outlier nor a second
    /// cluster hides it.
    pub fn merges(&self, k: usize) -> Option<Merged> {
        if self.dim == 0 {
            return None;
        }
        let rows = self.values.len() / self.dim;
        let finite =
            self.values.iter().skip(k).step_by(self.dim).copied().filter(|v| v.is_finite());
        let mut values: Vec<f64> = finite.step_by(rows.div_ceil(2 * COMPARED).max(1)).collect();
        values.sort_unstable_by(f64::total_cmp);
        values.dedup();
        if values.len() > COMPARED {
            let count = values.len();
            values = (0..COMPARED).map(|i| values[i * count / COMPARED]).collect();
        }
        let merged = values.windows(2).filter(|w| w[0] as f32 == w[1] as f32).count();
        let pairs = values.len().checked_sub(1).filter(|&pairs| pairs > 0)?;
        let largest = values.iter().fold(0.0_f64, |most, v| most.max(v.abs()));
        (merged as f64 > MOST_MERGED * pairs as f64).then(|| Merged {
            merged,
            pairs,
            middle: values[values.len() / 2],
            largest,
        })
    }
}

/// What [`Sample::merges`] found.
#[derive(Debug)]
pub(super) struct Merged {
    /// Pairs of neighbours that become one number.
    pub merged: usize,
    /// Pairs that were compared.
    pub pairs: usize,
    /// The median of the values.
    pub middle: f64,
    /// The largest magnitude.
    pub largest: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merges(values: impl IntoIterator<Item = f64>) -> bool {
        let mut sample = Sample::default();
        values.into_iter().for_each(|v| sample.push(&[v]));
        sample.merges(0).is_some()
    }

    /// A lattice of values in [0, 1) that never repeats.
    fn lattice(n: usize) -> impl Iterator<Item = f64> {
        (0..n).map(|i| (i as f64 * 0.618_033_988_749_895).fract())
    }

    #[test]
    fn spacing_decides_not_mean_and_deviation() {
        for n in [300, 20_000] {
            assert!(!merges(lattice(n)), "{n}");
            assert!(!merges(lattice(n).map(|u| 1e30 * u)));
            assert!(!merges(lattice(n).map(|u| 2000.0 + u)), "years with decimals");
            assert!(!merges(lattice(n).map(|u| (u * 5.0).floor())), "few values, all exact");
            assert!(!merges(lattice(n).map(|u| (1e12 * u).floor())), "wide whole numbers");
            assert!(merges(lattice(n).map(|u| 1e7 + u)));
            assert!(merges(lattice(n).map(|u| 6e-46 * u)), "below the range");
            assert!(merges(lattice(n).map(|u| 1.0 + 1e-6 * u)));
            // mean over deviation is 1 here and says nothing
            let outlier = lattice(n).enumerate().map(|(i, u)| if i == 7 { -1e9 } else { 1e8 + u });
            assert!(merges(outlier));
            let clusters = lattice(n).enumerate().map(|(i, u)| if i % 5 > 0 { u } else { 1e8 + u });
            assert!(merges(clusters));
        }
    }

    #[test]
    fn a_sample_is_bounded_and_even() {
        let mut sample = Sample::default();
        (0..100_000).for_each(|i| sample.push(&[f64::from(i), -1.0]));
        let rows = sample.values.len() / 2;
        assert!((ROWS..=2 * ROWS).contains(&rows), "{rows}");
        let firsts: Vec<f64> = sample.values.iter().copied().step_by(2).collect();
        assert!(firsts.windows(2).all(|w| w[1] - w[0] == sample.stride as f64));
    }

    #[test]
    fn changed_whole_numbers_are_counted() {
        let mut sample = Sample::default();
        [16_777_216.0, 16_777_217.0, 33_554_435.0, 0.1].iter().for_each(|&v| sample.push(&[v]));
        assert_eq!(sample.changed, [(2, 1.0)]);
    }
}
