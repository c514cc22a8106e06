//! What a column of numbers is: categories where they are few, else numbers with their decimals,
//! their grid and their atoms.

use super::{CategoryOf, Kind};
use crate::data::raw::{RawColumn, RawTable};
use crate::data::refusals::{DROP, option};
use crate::data::scaling::{Grid, regular_grid};
use crate::{Error, Result};

/// Numbers are categories if there are no more distinct ones than this, and each has so many rows
/// on average; two are categories in any table with [`TWO_ROWS`] rows of them, 0 and 1 in any.
const FEW: usize = 20;
const ROWS_OF_EACH: usize = 50;
const TWO_ROWS: usize = 20;
/// Numbers on no grid that have [`ROWS_OF_EACH`] rows each on average, the most frequent one aside,
/// are a list of values, and categories if they are no more than this.
pub(super) const MOST_CATEGORIES: usize = 1000;

/// A number is an atom if it is that of this share of the rows, of this many rows, and of this many
/// times the rows that the density around it explains: those of each of the [`AROUND`] next
/// numbers on either side, on average. On no grid a density explains no number twice.
const ATOM_SHARE: f64 = 0.02;
const ATOM_ROWS: usize = 20;
const ATOM_PEAK: usize = 10;
const AROUND: usize = 5;

/// Decimals of a grid at most, and the share of the rows that have to repeat another row's number
/// where there are decimals.
const GRID_DECIMALS: u32 = 4;
const REPEATED: f64 = 0.05;
/// The share of the rows that may lie off a grid, beside the most frequent number: a few cells of
/// whole numbers that someone filled with means.
const OFF_GRID: f64 = 0.001;
/// Rows for each distinct number of a grid of other than decimal steps.
const GRID_ROWS: usize = 4;
/// The most steps of a grid that single precision distinguishes with noise within each.
pub(in crate::data) const GRID_STEPS: f64 = (1 << 21) as f64;
/// Decimals beyond which numbers are real.
const FIXED: u32 = 6;
/// Steps of the last decimal that single precision holds on either side of 0.
const STEPS: f64 = (1 << 23) as f64;
/// Whole numbers up to this are held by single precision.
pub(super) const EXACT: f64 = (1 << 24) as f64;

/// Distinct numbers, increasing, and the rows of each.
pub(super) struct Counts(Vec<(f64, usize)>);

impl Counts {
    pub fn of(values: impl Iterator<Item = f64>) -> Counts {
        // adding zero makes -0 and 0 one
        let mut values: Vec<f64> = values.map(|value| value + 0.0).collect();
        values.sort_unstable_by(f64::total_cmp);
        Counts(values.chunk_by(|a, b| a == b).map(|tie| (tie[0], tie.len())).collect())
    }

    pub fn distinct(&self) -> usize {
        self.0.len()
    }

    pub fn rows(&self) -> usize {
        self.0.iter().map(|(_, rows)| rows).sum()
    }

    /// The rows of the most frequent.
    fn most(&self) -> usize {
        self.0.iter().map(|(_, rows)| *rows).max().unwrap_or(0)
    }

    pub fn are_whole(&self) -> bool {
        self.0.iter().all(|(value, _)| value.fract() == 0.0)
    }

    /// The numbers, increasing.
    pub fn each(&self) -> impl Iterator<Item = f64> + '_ {
        self.0.iter().map(|(value, _)| *value)
    }

    /// The least and the greatest.
    fn range(&self) -> [f64; 2] {
        [self.0.first(), self.0.last()].map(|of| of.map_or(0.0, |(value, _)| *value))
    }

    /// The places of the atoms.
    fn atoms(&self, on_grid: bool) -> Vec<usize> {
        let most = f64::max(ATOM_ROWS as f64, ATOM_SHARE * self.rows() as f64);
        let is_atom = |&k: &usize| {
            let rows = self.0[k].1;
            let from = k.saturating_sub(AROUND);
            let to = (k + AROUND + 1).min(self.0.len());
            let around: usize = self.0[from..to].iter().map(|(_, rows)| rows).sum();
            let (others, count) = (around - rows, to - from - 1);
            rows as f64 >= most && (!on_grid || rows * count >= ATOM_PEAK * others)
        };
        (0..self.0.len()).filter(is_atom).collect()
    }
}

/// Numbers as categories.
pub(super) fn categories(column: &RawColumn, counts: &Counts) -> Kind {
    let names: Vec<String> = counts.each().map(|value| column.text_of(value)).collect();
    let of = if counts.are_whole() { CategoryOf::Integer } else { CategoryOf::Number };
    Kind::Category { names, of }
}

/// What a column of numbers is. With `as_number` it is numbers, however few they are.
///
/// # Errors
/// [`Error::Data`] if a number is beyond single precision.
pub(super) fn kind_of(
    table: &RawTable,
    column: &RawColumn,
    counts: &Counts,
    as_number: bool,
) -> Result<Kind> {
    let range @ [low, high] = counts.range();
    if low.abs().max(high.abs()) > f64::from(f32::MAX) {
        return Err(too_large(table, column));
    }
    let (distinct, rows) = (counts.distinct(), counts.rows());
    let few = distinct <= FEW && rows >= ROWS_OF_EACH * distinct;
    let two = distinct <= 2 && (rows >= TWO_ROWS || counts.each().all(|v| v == 0.0 || v == 1.0));
    if !as_number && (few || two) {
        return Ok(categories(column, counts));
    }
    let written = column.decimals();
    let most = written.map_or(u32::MAX, |(_, most)| most);
    let shift = shift(range, most);
    let mut gridded = Gridded::of(counts, shift, most);
    let others = rows - counts.most();
    let listed = distinct <= MOST_CATEGORIES && others >= ROWS_OF_EACH * (distinct - 1);
    if !as_number && gridded.is_none() && listed {
        return Ok(categories(column, counts));
    }
    let atoms = counts.atoms(gridded.is_some());
    if !as_number && distinct - atoms.len() <= 1 {
        return Ok(categories(column, counts));
    }
    if gridded.is_none() && !atoms.is_empty() {
        // atoms may lie off the grid of all others
        let is_atom = |k: &usize| atoms.binary_search(k).is_ok();
        let rest = (0..distinct).filter(|k| !is_atom(k)).map(|k| counts.0[k]).collect();
        gridded = Gridded::of(&Counts(rest), shift, most);
    }
    let spread = (low - shift).abs().max((high - shift).abs());
    let fixed = most == 0 || (most <= FIXED && spread * 10_f64.powi(most as i32) <= STEPS);
    let decimals = gridded.and_then(|gridded| gridded.decimals).or(fixed.then_some(most));
    Ok(Kind::Number {
        decimals,
        written: written.map(|(least, most)| [least, most]),
        grid: gridded.map(|gridded| gridded.grid),
        off_grid: gridded.map_or(0, |gridded| gridded.off),
        atoms: atoms.iter().map(|&k| counts.0[k].0).collect(),
        atom_rows: atoms.iter().map(|&k| counts.0[k].1).collect(),
        shift,
        range,
    })
}

fn too_large(table: &RawTable, column: &RawColumn) -> Error {
    let large = |row: &usize| column.number(*row).abs() > f64::from(f32::MAX);
    let row = (0..table.rows).find(large).unwrap_or(0);
    let problem =
        format!("found {:?}, expected a magnitude below {:.2e}", column.number(row), f32::MAX);
    let remedy = match table.may_choose() {
        true => {
            let drop = option(DROP, &[&column.name]);
            format!("rescale the column, or leave it out with {drop}")
        }
        false => "leave the row out: no model gives it a likelihood".to_owned(),
    };
    Error::data_at(table.place(row, &column.name), problem, remedy)
}

/// What is subtracted from numbers with no more than `decimals` decimals, so that single precision
/// holds the differences: a number in the middle, where they are far from 0 and close together.
fn shift([low, high]: [f64; 2], decimals: u32) -> f64 {
    let (middle, spread) = (low + (high - low) / 2.0, (high - low) / 2.0);
    let most = low.abs().max(high.abs());
    let unit = 10_f64.powi(decimals.min(FIXED) as i32);
    let held = decimals <= FIXED && most * unit <= EXACT;
    if held || spread * 8.0 > most || (decimals > FIXED && spread * 1000.0 > most) {
        return 0.0;
    }
    let rounded = (middle * unit).round() / unit;
    if rounded.is_finite() && decimals <= FIXED { rounded } else { middle }
}

/// What is subtracted from numbers of this range with this fixed number of decimals, if any, before
/// single precision.
pub(in crate::data) fn shift_of(range: [f64; 2], decimals: Option<u32>) -> f64 {
    shift(range, decimals.unwrap_or(u32::MAX))
}

/// The atoms of numbers, increasing, each with its rows.
pub(in crate::data) fn atoms_of(
    values: impl Iterator<Item = f64>,
    on_grid: bool,
) -> Vec<(f64, usize)> {
    let counts = Counts::of(values);
    counts.atoms(on_grid).into_iter().map(|place| counts.0[place]).collect()
}

/// The grid of numbers.
#[derive(Debug, Clone, Copy)]
struct Gridded {
    grid: Grid,
    /// Decimals of its points, where its step is decimal.
    decimals: Option<u32>,
    /// The rows of the numbers that lie off it.
    off: usize,
}

impl Gridded {
    /// The grid of numbers with no more than `decimals` decimals.
    fn of(counts: &Counts, shift: f64, decimals: u32) -> Option<Gridded> {
        let (rows, distinct) = (counts.rows(), counts.distinct());
        let repeated = (rows - distinct) as f64 >= REPEATED * rows as f64;
        let decimal = (0..=GRID_DECIMALS.min(decimals))
            .find_map(|decimals| Gridded::decimal(counts, shift, decimals));
        if let Some(found) = decimal.filter(|found| repeated || found.decimals == Some(0)) {
            return Some(found);
        }
        if distinct == 0 || rows < GRID_ROWS * distinct {
            return None;
        }
        let Grid { bin, origin } =
            regular_grid(counts.each().map(|value| value - shift).collect())?;
        Some(Gridded { grid: Grid { bin, origin: origin + shift }, decimals: None, off: 0 })
    }

    /// The coarsest grid of steps of so many decimals on which all numbers lie, but for a few rows.
    fn decimal(counts: &Counts, shift: f64, decimals: u32) -> Option<Gridded> {
        let unit = 10_f64.powi(decimals as i32);
        let [low, high] = counts.range();
        if (low - shift).abs().max((high - shift).abs()) * unit > EXACT {
            return None;
        }
        let in_units = |value: f64| {
            let units = value * unit;
            let off = (units - units.round()).abs() > 1e-9 * units.abs().max(1.0);
            (!off && units.abs() < (1_u64 << 53) as f64).then_some(units.round() as i64)
        };
        let spare = (OFF_GRID * (counts.rows() - counts.most()) as f64) as usize;
        let mut points: Vec<(usize, i64)> =
            counts.0.iter().filter_map(|&(v, rows)| Some((rows, in_units(v)?))).collect();
        let on_grid: usize = points.iter().map(|(rows, _)| rows).sum();
        let off = counts.rows() - on_grid;
        if off > spare || points.len() < 2 {
            return None;
        }
        let step = |points: &[(usize, i64)]| {
            points.iter().fold(0, |all, (_, at)| gcd(all, at.abs_diff(points[0].1)))
        };
        // the step of all, or that of all but the rarest, as far as they may be left out
        points.sort_unstable_by(|a, b| b.cmp(a));
        let (mut kept, mut left) = (points.len(), spare - off);
        while kept > 2 && points[kept - 1].0 <= left {
            left -= points[kept - 1].0;
            kept -= 1;
        }
        let off_step = |step: u64| -> usize {
            let off = |(_, at): &&(usize, i64)| at.abs_diff(points[0].1) % step.max(1) != 0;
            points.iter().filter(off).map(|(rows, _)| rows).sum()
        };
        let [all, some] = [step(&points), step(&points[..kept])];
        let step = if off + off_step(some) <= spare { some } else { all };
        if step == 0 || (high - low) * unit / step as f64 > GRID_STEPS {
            return None;
        }
        let first =
            points.iter().map(|(_, at)| *at).filter(|at| at.abs_diff(points[0].1) % step == 0);
        // divided, not multiplied, so that both are the nearest numbers to their decimals
        let grid = Grid { bin: step as f64 / unit, origin: first.min()? as f64 / unit };
        Some(Gridded { grid, decimals: Some(decimals), off: off + off_step(step) })
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(numbers: &[f64]) -> Kind {
        let column = RawColumn::numbers("x", numbers.iter().copied());
        let table = RawTable::new(vec![column.clone()]).unwrap();
        kind_of(&table, &column, &Counts::of(numbers.iter().copied()), false).unwrap()
    }

    fn atoms(numbers: &[f64]) -> Vec<f64> {
        match kind(numbers) {
            Kind::Number { atoms, atom_rows, .. } => {
                assert_eq!(atoms.len(), atom_rows.len());
                atoms
            }
            other => panic!("{other:?}"),
        }
    }

    fn grid_of(numbers: &[f64]) -> Option<(f64, f64)> {
        match kind(numbers) {
            Kind::Number { grid, .. } => grid.map(|grid| (grid.bin, grid.origin)),
            other => panic!("{other:?}"),
        }
    }

    /// Numbers in [0, 1) that do not repeat.
    fn lattice(n: usize) -> impl Iterator<Item = f64> {
        (0..n).map(|i| (i as f64 * 0.618_033_988_749_895).fract())
    }

    #[test]
    fn ages_are_a_grid_without_atoms() {
        let ages: Vec<f64> = lattice(1000).map(|u| 17.0 + (73.0 * u * u).floor()).collect();
        assert_eq!((atoms(&ages), grid_of(&ages)), (Vec::new(), Some((1.0, 17.0))));
        let Kind::Number { decimals, range, shift, .. } = kind(&ages) else { panic!() };
        assert_eq!((decimals, range, shift), (Some(0), [17.0, 89.0], 0.0));
    }

    /// As capital gains are: 92 of 100 are 0, the others spread.
    #[test]
    fn a_value_of_most_rows_is_an_atom() {
        let gains: Vec<f64> =
            lattice(1000).map(|u| if u < 0.92 { 0.0 } else { (1e6 * (u - 0.9)).floor() }).collect();
        assert_eq!(atoms(&gains), [0.0]);
        // where single numbers do not repeat, 30 rows of 1000 that do are an atom
        let clipped: Vec<f64> = lattice(1000).map(|u| u.exp().sqrt().min(1.62)).collect();
        assert_eq!(atoms(&clipped), [1.62]);
        // 2 % are needed, and 20 rows
        let rare: Vec<f64> = lattice(1000).map(|u| u.exp().sqrt().min(1.64)).collect();
        assert_eq!(atoms(&rare), [0.0; 0]);
    }

    #[test]
    fn few_numbers_are_categories() {
        let few = |values: usize, rows: usize| -> Vec<f64> {
            (0..rows).map(|i| (i % values) as f64 * 3.0).collect()
        };
        let names = |numbers: &[f64]| match kind(numbers) {
            Kind::Category { names, of } => Some((names.len(), of)),
            _ => None,
        };
        assert_eq!(names(&few(20, 1000)), Some((20, CategoryOf::Integer)));
        assert_eq!(names(&few(21, 2100)), None);
        assert_eq!(names(&few(20, 999)), None);
        assert_eq!(names(&few(2, 20)), Some((2, CategoryOf::Integer)));
        assert_eq!(names(&few(2, 19)), None);
        assert_eq!(names(&[0.0, 1.0, 1.0]), Some((2, CategoryOf::Integer)));
        let halves: Vec<f64> = few(3, 150).iter().map(|v| v / 2.0).collect();
        assert_eq!(names(&halves), Some((3, CategoryOf::Number)));
        // on no grid, each in 50 rows
        let list: Vec<f64> = (0..2000).map(|i| f64::from(i % 40).exp().sqrt()).collect();
        assert_eq!(names(&list), Some((40, CategoryOf::Number)));
        // what is left beside the atoms e and π is one value
        let (e, pi) = (std::f64::consts::E, std::f64::consts::PI);
        let three: Vec<f64> = (0..70).map(|i| [e, e, e, pi, pi, pi, 7.3][i % 7]).collect();
        assert_eq!(names(&three), Some((3, CategoryOf::Number)));
    }

    /// Credit limits: multiples of 10 000, but for a few; and pressures, of which a mean was filled
    /// in once.
    #[test]
    fn a_few_rows_off_the_grid_do_not_hide_it() {
        let limits = |off: usize| -> Vec<f64> {
            let round = lattice(6000 - off).map(|u| 1e4 + 1e4 * (80.0 * u).floor());
            round.chain((0..off).map(|i| 16_000.0 + i as f64)).collect()
        };
        let Kind::Number { grid, off_grid, .. } = kind(&limits(3)) else { panic!() };
        assert_eq!((grid, off_grid), (Some(Grid { bin: 1e4, origin: 1e4 }), 3));
        // too many for chance
        let Kind::Number { grid, off_grid, .. } = kind(&limits(12)) else { panic!() };
        assert_eq!((grid.unwrap().bin, off_grid), (1.0, 0));
        let pressures: Vec<f64> =
            lattice(2000).map(|u| 990.0 + (60.0 * u).floor()).chain([1019.5]).collect();
        let Kind::Number { grid, off_grid, decimals, .. } = kind(&pressures) else { panic!() };
        assert_eq!((grid.unwrap().bin, off_grid, decimals), (1.0, 1, Some(0)));
    }

    #[test]
    fn decimals_make_a_grid_where_numbers_repeat() {
        let prices: Vec<f64> = lattice(900).map(|u| (200.0 * u).floor() / 100.0 + 3.0).collect();
        assert_eq!(grid_of(&prices).map(|grid| grid.0), Some(0.01));
        let fine: Vec<f64> = lattice(900).map(|u| (1e7 * u).floor() / 1e4).collect();
        assert_eq!(grid_of(&fine), None);
        // knots, of miles an hour: no decimal step
        let knots: Vec<f64> = lattice(900).map(|u| (40.0 * u).floor() * 1.15078).collect();
        assert!((grid_of(&knots).unwrap().0 - 1.15078).abs() < 1e-9);
    }

    /// Seconds since 1970 of a month: single precision holds none of them, but their differences.
    #[test]
    fn numbers_far_from_zero_are_shifted() {
        let seconds: Vec<f64> = lattice(500).map(|u| 1.36e9 + (2.6e6 * u).floor()).collect();
        let Kind::Number { shift, grid, decimals, .. } = kind(&seconds) else { panic!() };
        assert!(seconds.iter().all(|&s| f64::from((s - shift) as f32) == s - shift), "{shift}");
        assert_eq!((grid.map(|grid| grid.bin), decimals), (None, Some(0)));
        let years: Vec<f64> = lattice(500).map(|u| 1950.0 + (70.0 * u).floor()).collect();
        let Kind::Number { shift, .. } = kind(&years) else { panic!() };
        assert_eq!(shift, 0.0);
    }

    #[test]
    fn what_single_precision_cannot_hold_is_refused() {
        let column = RawColumn::numbers("x", [1.0, 1e39, 2.5]);
        let table = RawTable::new(vec![column.clone()]).unwrap();
        let counts = Counts::of(column.present_numbers());
        let message = kind_of(&table, &column, &counts, false).unwrap_err().to_string();
        assert!(
            message.contains("row 2, column `x`: found 1e39, expected a magnitude"),
            "{message}"
        );
    }
}
