//! Whether single precision, which networks see, resolves a column.

use super::column::Values;

/// Distinct values that are compared with their neighbours.
const COMPARED: usize = 256;
/// The share of them that may fall together when they are rounded. Of normal values, 256 of them,
/// it is reached where the standard deviation has about 1400 single-precision steps.
const MOST_MERGED: f64 = 0.05;

/// Values that become one number in single precision.
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

/// Whether a column is too fine for single precision: of neighbouring values among a few hundred
/// distinct ones, more than a twentieth are the same number once they are rounded. What counts is
/// the spacing of the values where they lie, so that neither an outlier nor a second cluster hides
/// it.
pub(super) fn merged(column: &Values) -> Option<Merged> {
    if let Values::Single(_) = column {
        return None;
    }
    let rows = column.len();
    let stride = rows.div_ceil(2 * COMPARED).max(1);
    let mut values: Vec<f64> = (0..rows).step_by(stride).map(|i| column.get(i)).collect();
    values.sort_unstable_by(f64::total_cmp);
    values.dedup();
    if values.len() > COMPARED {
        let count = values.len();
        values = (0..COMPARED).map(|i| values[i * count / COMPARED]).collect();
    }
    let merged = values.windows(2).filter(|w| w[0] as f32 == w[1] as f32).count();
    let pairs = values.len().checked_sub(1).filter(|&pairs| pairs > 0)?;
    let largest = values.iter().fold(0.0_f64, |most, v| most.max(v.abs()));
    let middle = values[values.len() / 2];
    let found = Merged { merged, pairs, middle, largest };
    (merged as f64 > MOST_MERGED * pairs as f64).then_some(found)
}

/// Of the whole numbers of a column, how many single precision does not hold, and the largest
/// change; none if it holds all.
pub(super) fn changed(column: &Values) -> Option<(usize, f64)> {
    let change = |i| {
        let value = column.get(i);
        let change = (f64::from(value as f32) - value).abs();
        (change > 0.0 && change.is_finite() && value.fract() == 0.0).then_some(change)
    };
    let changes = (0..column.len()).filter_map(change);
    let (count, worst) = changes.fold((0, 0.0_f64), |(n, most), c| (n + 1, most.max(c)));
    (count > 0).then_some((count, worst))
}

/// Mean and standard deviation.
pub(super) fn moments(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (mut count, mut mean, mut squares) = (0.0, 0.0, 0.0);
    for value in values {
        count += 1.0;
        let delta = value - mean;
        mean += delta / count;
        squares += delta * (value - mean);
    }
    (mean, f64::sqrt(squares / f64::max(count, 1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merges(values: impl IntoIterator<Item = f64>) -> bool {
        merged(&Values::Double(values.into_iter().collect())).is_some()
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
            // mean over deviation is 1 here and carries no information
            let outlier = lattice(n).enumerate().map(|(i, u)| if i == 7 { -1e9 } else { 1e8 + u });
            assert!(merges(outlier));
            let clusters = lattice(n).enumerate().map(|(i, u)| if i % 5 > 0 { u } else { 1e8 + u });
            assert!(merges(clusters));
        }
    }

    #[test]
    fn changed_whole_numbers_are_counted() {
        let column = Values::Double(vec![16_777_216.0, 16_777_217.0, 33_554_435.0, 0.1]);
        assert_eq!(changed(&column), Some((2, 1.0)));
        assert_eq!(changed(&Values::Integer(vec![16_777_217, 5])), Some((1, 1.0)));
    }
}
