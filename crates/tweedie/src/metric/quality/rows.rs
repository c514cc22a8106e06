//! Rows in numbers: numbers as they are, categories as one-hot coordinates that are not written
//! out.

use rayon::prelude::*;

use super::table::{HOLE, Table, Values};

/// Rows that are compared with one at a time; those of a table are in a processor's cache.
const BLOCK: usize = 512;
/// Rows that are compared with a block before the next block is.
const GROUP: usize = 16;
/// Distances apart by less than this, of their sum and 1, are equal but for rounding.
const ROUNDING: f64 = 1e-12;

/// Columns of numbers and columns of categories. A column of categories stands for one coordinate
/// per category, which is 1 at the row's category and 0 at all others.
#[derive(Clone, Debug)]
pub(super) struct Rows {
    pub len: usize,
    /// Column after column.
    pub numbers: Vec<Vec<f64>>,
    /// Column after column.
    pub codes: Vec<Vec<u32>>,
    /// How many categories each column of `codes` has.
    pub levels: Vec<usize>,
}

/// What stands for a number that is a hole. A hole among categories is one more category.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holes {
    /// NaN.
    Kept,
    /// The first table's mean, as SDMetrics' detection has it.
    Mean,
    /// The first table's mean, beside a column of categories that says what was a hole, where a
    /// table has one there.
    MeanAndFlag,
}

/// How far two rows are apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Distance {
    /// `Σ |x_j − y_j|`.
    L1,
    /// `Σ (x_j − y_j)²`.
    SquaredL2,
}

impl Rows {
    /// Of [`aligned`](super::table::aligned) tables, without the column at `skip`.
    pub fn of<const N: usize>(tables: [&Table; N], holes: Holes, skip: Option<usize>) -> [Rows; N] {
        let empty =
            |t: &Table| Rows { len: t.rows(), numbers: vec![], codes: vec![], levels: vec![] };
        let mut rows = tables.map(empty);
        for at in (0..tables[0].columns().len()).filter(|at| Some(*at) != skip) {
            let cells = tables.map(|table| &table.columns()[at].values);
            match cells[0] {
                Values::Categories { names, .. } => {
                    for (rows, cells) in rows.iter_mut().zip(cells) {
                        let Values::Categories { codes, .. } = cells else { continue };
                        let hole = names.len() as u32;
                        let code = |&code: &u32| if code == HOLE { hole } else { code };
                        rows.codes.push(codes.iter().map(code).collect());
                        rows.levels.push(names.len() + 1);
                    }
                }
                Values::Numbers(first) => {
                    let any_hole = cells.iter().any(|cells| match cells {
                        Values::Numbers(x) => x.iter().any(|x| x.is_nan()),
                        Values::Categories { .. } => false,
                    });
                    let fill = if holes == Holes::Kept { f64::NAN } else { mean_of_seen(first) };
                    for (rows, cells) in rows.iter_mut().zip(cells) {
                        let Values::Numbers(x) = cells else { continue };
                        let filled = |&x: &f64| if x.is_nan() { fill } else { x };
                        rows.numbers.push(x.iter().map(filled).collect());
                        if any_hole && holes == Holes::MeanAndFlag {
                            rows.codes.push(x.iter().map(|x| u32::from(x.is_nan())).collect());
                            rows.levels.push(2);
                        }
                    }
                }
            }
        }
        rows
    }

    /// Of tables whose rows are compared by distance: numbers between the least, 0, and the
    /// greatest, 1, of the first table; holes as [`Holes::MeanAndFlag`].
    pub fn scaled<const N: usize>(tables: [&Table; N]) -> [Rows; N] {
        let mut rows = Rows::of(tables, Holes::MeanAndFlag, None);
        for at in 0..rows[0].numbers.len() {
            let first = &rows[0].numbers[at];
            let least = first.iter().copied().fold(f64::INFINITY, f64::min);
            let greatest = first.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let range = if greatest > least { greatest - least } else { 1.0 };
            for rows in &mut rows {
                rows.numbers[at].iter_mut().for_each(|x| *x = (*x - least) / range);
            }
        }
        rows
    }

    /// The rows at these places, in this order.
    pub fn take(&self, places: &[usize]) -> Rows {
        fn of<T: Copy>(columns: &[Vec<T>], places: &[usize]) -> Vec<Vec<T>> {
            columns.iter().map(|column| places.iter().map(|&i| column[i]).collect()).collect()
        }
        Rows {
            len: places.len(),
            numbers: of(&self.numbers, places),
            codes: of(&self.codes, places),
            levels: self.levels.clone(),
        }
    }

    /// These rows, then `others`.
    pub fn followed_by(mut self, others: &Rows) -> Rows {
        self.len += others.len;
        self.numbers.iter_mut().zip(&others.numbers).for_each(|(column, more)| column.extend(more));
        self.codes.iter_mut().zip(&others.codes).for_each(|(column, more)| column.extend(more));
        self
    }

    /// For each row the distance to the nearest of `others`, and its place (the first of equals).
    /// With `leave_self` the row of the same place is no neighbour. Costs `O(n m)` times the
    /// columns of the table, however many categories they have, on all threads of rayon's pool.
    pub fn nearest(
        &self,
        others: &Rows,
        distance: Distance,
        leave_self: bool,
    ) -> Vec<(f64, usize)> {
        let mut nearest = vec![(f64::INFINITY, usize::MAX); self.len];
        nearest.par_chunks_mut(GROUP).enumerate().for_each(|(group, nearest)| {
            let mut buffer = [0.0; BLOCK];
            for start in (0..others.len).step_by(BLOCK) {
                let block = &mut buffer[..BLOCK.min(others.len - start)];
                for (row, nearest) in nearest.iter_mut().enumerate() {
                    let row = group * GROUP + row;
                    self.distances(row, others, start, distance, block);
                    if leave_self && (start..start + block.len()).contains(&row) {
                        block[row - start] = f64::INFINITY;
                    }
                    for (i, &found) in block.iter().enumerate() {
                        if found < nearest.0 {
                            *nearest = (found, start + i);
                        }
                    }
                }
            }
        });
        nearest
    }

    /// The distances of one row to those of `others` from `start` on.
    fn distances(
        &self,
        row: usize,
        others: &Rows,
        start: usize,
        distance: Distance,
        out: &mut [f64],
    ) {
        out.fill(0.0);
        for (own, theirs) in self.numbers.iter().zip(&others.numbers) {
            let (at, theirs) = (own[row], &theirs[start..start + out.len()]);
            let pairs = out.iter_mut().zip(theirs);
            match distance {
                Distance::L1 => pairs.for_each(|(sum, x)| *sum += (at - x).abs()),
                Distance::SquaredL2 => pairs.for_each(|(sum, x)| *sum += (at - x) * (at - x)),
            }
        }
        for (own, theirs) in self.codes.iter().zip(&others.codes) {
            let (at, theirs) = (own[row], &theirs[start..start + out.len()]);
            // two coordinates differ by one each
            let apart = |code: &u32| if *code == at { 0.0 } else { 2.0 };
            out.iter_mut().zip(theirs).for_each(|(sum, code)| *sum += apart(code));
        }
    }

    /// The Euclidean distance of each row to a centre.
    pub fn distances_to(&self, centre: &Centre) -> Vec<f64> {
        let mut squares = vec![0.0; self.len];
        for (column, mean) in self.numbers.iter().zip(&centre.numbers) {
            squares.iter_mut().zip(column).for_each(|(sum, x)| *sum += (x - mean) * (x - mean));
        }
        for (column, shares) in self.codes.iter().zip(&centre.shares) {
            // Σ_k (1[k = c] − p_k)² = 1 − 2 p_c + Σ p²
            let total: f64 = shares.iter().map(|share| share * share).sum();
            let square = |&code: &u32| 1.0 - 2.0 * shares[code as usize] + total;
            squares.iter_mut().zip(column).for_each(|(sum, code)| *sum += square(code));
        }
        squares.into_iter().map(|square| square.max(0.0).sqrt()).collect()
    }

    /// The mean of all rows.
    pub fn centre(&self) -> Centre {
        let n = self.len as f64;
        let shares = |(codes, &levels): (&Vec<u32>, &usize)| {
            let mut counts = vec![0.0; levels];
            codes.iter().for_each(|&code| counts[code as usize] += 1.0);
            counts.into_iter().map(|count| count / n).collect()
        };
        Centre {
            numbers: self.numbers.iter().map(|x| x.iter().sum::<f64>() / n).collect(),
            shares: self.codes.iter().zip(&self.levels).map(shares).collect(),
        }
    }
}

/// The mean of rows: of numbers, and of one-hot coordinates, which are shares.
#[derive(Debug)]
pub(super) struct Centre {
    numbers: Vec<f64>,
    shares: Vec<Vec<f64>>,
}

/// Whether two distances are equal but for the rounding of their sums.
pub(super) fn equal(a: f64, b: f64) -> bool {
    (a - b).abs() <= ROUNDING * (1.0 + a + b)
}

/// The mean of what is no hole; 0 where all is.
fn mean_of_seen(values: &[f64]) -> f64 {
    let seen = || values.iter().filter(|x| !x.is_nan());
    let n = seen().count().max(1) as f64;
    // divided first, so that no sum overflows
    seen().map(|x| x / n).sum()
}

/// The value below which a share `level` of increasing values lies, between two of them on a line
/// (Hyndman & Fan 1996, definition 7).
pub(super) fn quantile(sorted: &[f64], level: f64) -> f64 {
    let position = level * (sorted.len() - 1) as f64;
    let below = (position.floor() as usize).min(sorted.len() - 1);
    let (a, b) = (sorted[below], sorted[(below + 1).min(sorted.len() - 1)]);
    let weight = position - below as f64;
    if weight < 0.5 { a + (b - a) * weight } else { b - (b - a) * (1.0 - weight) }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::metric::quality::table::Column;

    /// Two numbers, of which one has a hole, and three categories, of which one is a hole.
    fn table(first: &[f64], second: &[f64], codes: &[u32]) -> Table {
        let numbers = |name: &str, values: &[f64]| Column {
            name: name.into(),
            values: Values::Numbers(values.to_vec()),
        };
        let names = ["x", "y"].map(String::from).to_vec();
        let values = Values::Categories { names, codes: codes.to_vec() };
        let categories = Column { name: "c".into(), values };
        Table::new(vec![numbers("a", first), numbers("b", second), categories]).unwrap()
    }

    /// The rows written out, one-hot coordinates and all.
    pub fn written_out(rows: &Rows) -> Vec<Vec<f64>> {
        let row = |i: usize| {
            let mut row: Vec<f64> = rows.numbers.iter().map(|column| column[i]).collect();
            for (codes, &levels) in rows.codes.iter().zip(&rows.levels) {
                row.extend((0..levels).map(|k| f64::from(u8::from(codes[i] as usize == k))));
            }
            row
        };
        (0..rows.len).map(row).collect()
    }

    fn pair() -> [Table; 2] {
        let hole = f64::NAN;
        [
            table(&[1.0, 3.0, 2.0, 5.0], &[0.0, hole, 4.0, 2.0], &[0, 1, HOLE, 1]),
            table(&[1.5, 5.0, 9.0], &[hole, 2.0, 4.0], &[0, 1, 1]),
        ]
    }

    /// Of the first table: a between 1 and 5; the mean of b is 2, its range 0 to 4.
    #[test]
    fn numbers_are_scaled_by_the_first_table() {
        let [first, second] = pair();
        let [x, y] = Rows::scaled([&first, &second]);
        assert_eq!(x.numbers, [vec![0.0, 0.5, 0.25, 1.0], vec![0.0, 0.5, 1.0, 0.5]]);
        assert_eq!(y.numbers, [vec![0.125, 1.0, 2.0], vec![0.5, 0.5, 1.0]]);
        assert_eq!((&x.codes[0], &y.codes[0]), (&vec![0, 1, 0, 0], &vec![1, 0, 0]));
        assert_eq!((&x.codes[1], &x.levels), (&vec![0, 1, 2, 1], &vec![2, 3]));
        let [kept] = Rows::of([&first], Holes::Kept, Some(0));
        assert!(kept.numbers.len() == 1 && kept.numbers[0][1].is_nan() && kept.codes.len() == 1);
    }

    /// Distances are those of the rows written out, across blocks, and the nearest is the first
    /// of equals.
    #[test]
    fn distances_are_those_of_one_hot_rows() {
        let [first, second] = pair();
        let many: Vec<usize> = (0..2 * BLOCK + 7).map(|i| (i * i + 1) % 4).collect();
        let [x, y] = Rows::scaled([&first.take(&many), &second]);
        let (a, b) = (written_out(&x), written_out(&y));
        for (kind, power) in [(Distance::L1, 1), (Distance::SquaredL2, 2)] {
            let between = |a: &[f64], b: &[f64]| -> f64 {
                a.iter().zip(b).map(|(a, b)| (a - b).abs().powi(power)).sum()
            };
            for (row, &(found, at)) in b.iter().zip(&y.nearest(&x, kind, false)) {
                let all: Vec<f64> = a.iter().map(|other| between(row, other)).collect();
                let least = all.iter().copied().fold(f64::INFINITY, f64::min);
                assert!((found - least).abs() < 1e-12 && (all[at] - least).abs() < 1e-12);
                assert!(all[..at].iter().all(|other| *other > least));
            }
            let alone = y.nearest(&y, kind, true);
            assert!(alone.iter().enumerate().all(|(i, (found, at))| *at != i && *found > 0.0));
        }
        let centre = x.centre();
        let mean: Vec<f64> = (0..a[0].len())
            .map(|j| a.iter().map(|row| row[j]).sum::<f64>() / a.len() as f64)
            .collect();
        for (row, found) in b.iter().zip(y.distances_to(&centre)) {
            let squares: f64 = row.iter().zip(&mean).map(|(x, m)| (x - m) * (x - m)).sum();
            assert!((found - squares.sqrt()).abs() < 1e-12);
        }
    }

    #[test]
    fn quantiles_lie_on_lines_between_values() {
        let sorted = [1.0, 2.0, 4.0, 8.0];
        let found = [0.0, 0.25, 0.5, 0.9, 1.0].map(|level| quantile(&sorted, level));
        let expected = [1.0, 1.75, 3.0, 6.8, 8.0];
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?}");
        assert_eq!(quantile(&[3.0], 0.7), 3.0);
    }
}
