//! What has to be reported beside every figure of a model: columns without a density, and values
//! far from all others.

use rayon::prelude::*;

use super::Dataset;
use super::column::{ColumnKind, Values};
use super::precision::changed;
use super::refusals::{DROP, DROP_ROWS, option};
use super::scaling::{Dequantize, Scaling, regular_grid};
use crate::{Error, Result};

/// The least share of the rows in which a value counts as an atom, and their least number.
const ATOM_SHARE: f64 = 0.01;
const ATOM_ROWS: usize = 5;
/// A column of no more distinct values than this, each in four rows on average, is discrete.
const FEW: usize = 100;
/// An atom is this many times as frequent as the values beside it; else the whole column is a grid.
const PEAK: usize = 5;
/// The least scale, in network units, of the middle half of a column: below it no network
/// distinguishes the values apart, and up to the second it is reported.
const SQUEEZED: f64 = 1e-3;
const NARROW: f64 = 0.05;
/// Robust scales from the median beyond which a cell is far.
const FAR: f64 = 50.0;
/// The interquartile range of a standard normal variable, and the range of its middle 90 %.
const QUARTILES: f64 = 1.349;
const MIDDLE: f64 = 3.29;

const DEQUANTIZE: &str = "data.scaling.dequantize";

/// The repeated values of a column.
struct Ties {
    /// The most frequent value and its rows.
    value: f32,
    count: usize,
    distinct: usize,
    /// The median number of rows of the other values.
    usual: usize,
}

impl Ties {
    fn of(mut values: Vec<f32>) -> Option<Ties> {
        values.sort_unstable_by(f32::total_cmp);
        let mut counts: Vec<(usize, f32)> =
            values.chunk_by(|a, b| a == b).map(|tie| (tie.len(), tie[0])).collect();
        let distinct = counts.len();
        counts.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.total_cmp(&b.1)));
        let &(count, value) = counts.first()?;
        let usual = counts.get(1 + (distinct - 1) / 2).or(counts.last()).map_or(1, |of| of.0);
        Some(Ties { value, count, distinct, usual })
    }

    /// Whether a column of `rows` rows has no density.
    fn without_density(&self, rows: usize) -> bool {
        let atom = self.count >= ATOM_ROWS && self.count as f64 > ATOM_SHARE * rows as f64;
        let discrete = self.distinct <= FEW && 4 * self.distinct <= rows;
        atom || discrete
    }
}

impl Dataset {
    /// Column `k` of a table in single precision.
    fn single_column(&self, k: usize) -> Vec<f32> {
        self.column(k).map(Values::in_single).unwrap_or_default()
    }

    /// Whether each column is of measurements: real numbers of which none is repeated so often that
    /// the column has no density.
    pub(super) fn is_measured(&self) -> bool {
        let measured = |k: usize| {
            self.columns()[k].kind == ColumnKind::Float
                && Ties::of(self.single_column(k))
                    .is_none_or(|ties| !ties.without_density(self.rows()))
        };
        (0..self.dim()).into_par_iter().all(measured)
    }

    /// Columns that have no density though they are modelled by one, a sentence each: a value
    /// repeated in more than a hundredth of the rows (zeros of a zero-inflated column, the bounds
    /// of a clipped one, 0 and 1), or few distinct values; whole numbers beyond what single
    /// precision holds; and columns that only count the rows. Columns that `dequantize` takes have
    /// a density.
    pub fn remarks(&self, dequantize: &Dequantize) -> Vec<String> {
        if self.image().is_some() {
            return Vec::new();
        }
        let columns: Vec<usize> = (0..self.dim()).collect();
        columns.into_par_iter().flat_map_iter(|k| self.remarks_on(k, dequantize)).collect()
    }

    fn remarks_on(&self, k: usize, dequantize: &Dequantize) -> Vec<String> {
        let (column, rows) = (&self.columns()[k], self.rows());
        let name = &column.name;
        let mut remarks = Vec::new();
        if dequantize.takes(column) || column.kind == ColumnKind::Category {
            return remarks;
        }
        let values = self.single_column(k);
        let counts_up = column.kind == ColumnKind::Integer
            && rows > 2
            && values.windows(2).all(|w| w[1] - w[0] == 1.0);
        if counts_up {
            remarks.push(format!(
                "column `{name}` counts the rows ({}, {}, …): it is no quantity; leave it out with \
                 {}",
                values[0],
                values[1],
                option(DROP, &[name])
            ));
        }
        if let Some((changed, worst)) = self.column(k).and_then(changed) {
            remarks.push(format!(
                "column `{name}`: {changed} whole numbers beyond 16777216 are rounded to single \
                 precision, by up to {worst}"
            ));
        }
        let Some(ties) = Ties::of(values.clone()).filter(|ties| ties.without_density(rows)) else {
            return remarks;
        };
        let Ties { value, count, distinct, usual } = ties;
        let share = 100.0 * count as f64 / rows as f64;
        let share = if share < 10.0 { format!("{share:.1}") } else { format!("{share:.0}") };
        let atom = distinct > 2 && count >= PEAK * usual.max(1);
        let found = match atom {
            true => format!("repeats the value {value} in {share} % of the rows"),
            false => {
                format!("has only {distinct} different values ({value} in {share} % of the rows)")
            }
        };
        // an atom among many values is one of its noised grid, too
        let on_grid = column.kind == ColumnKind::Integer
            || ((!atom || distinct <= FEW)
                && regular_grid(values.iter().map(|&v| v.into()).collect()).is_some());
        let drop = option(DROP, &[name]);
        let remedy = match (on_grid, dequantize) {
            (true, Dequantize::Columns(others)) => {
                let all: Vec<&String> = others.iter().chain([name]).collect();
                format!("dequantise it ({}), or leave it out ({drop})", option(DEQUANTIZE, &all))
            }
            (true, _) => {
                format!("dequantise it ({}), or leave it out ({drop})", option(DEQUANTIZE, &[name]))
            }
            (false, _) => {
                format!("leave it out ({drop}), or model the rows with other values by themselves")
            }
        };
        remarks.push(format!(
            "column `{name}` {found} and so has no density: log-likelihoods that include it cannot \
             be compared, and samples do not repeat the value; {remedy}"
        ));
        remarks
    }

    /// Duplicate rows, and whether they are a surprise: they are where some column is continuous
    /// and they are many more than columns that had nothing to do with each other would make. In a
    /// table of discrete columns, those that `dequantize` takes among them, equal rows belong to
    /// the distribution.
    pub fn surprising_duplicates(&self, dequantize: &Dequantize) -> (usize, bool) {
        let duplicates = self.duplicate_rows();
        if duplicates == 0 || self.image().is_some() {
            return (duplicates, duplicates > 0);
        }
        let rows = self.rows() as f64;
        let all_pairs = 0.5 * rows * (rows - 1.0);
        let (names, columns) = (self.columns(), 0..self.dim());
        let columns: Vec<(bool, f64)> = columns
            .into_par_iter()
            .map(|k| {
                let mut values = self.single_column(k);
                values.sort_unstable_by(f32::total_cmp);
                let ties = values.chunk_by(|a, b| a == b).map(<[f32]>::len);
                let pairs: f64 = ties.map(|count| 0.5 * count as f64 * (count as f64 - 1.0)).sum();
                let discrete = dequantize.takes(&names[k])
                    || Ties::of(values.clone())
                        .is_some_and(|ties| ties.without_density(self.rows()))
                    || (self.dim() == 1
                        && regular_grid(values.iter().map(|&v| v.into()).collect()).is_some());
                (discrete, pairs)
            })
            .collect();
        let chance = match columns[..] {
            // copies are themselves the ties of an only column
            [(_, pairs)] if pairs < 4.0 * duplicates as f64 => 0.0,
            _ => columns.iter().fold(all_pairs, |pairs, column| pairs * column.1 / all_pairs),
        };
        let continuous = columns.iter().any(|(discrete, _)| !discrete);
        (duplicates, continuous && 3.0 * chance < duplicates as f64)
    }

    /// Values far from all others in their column, such as fill values: an error where `scaling`
    /// squeezes the other values into less than a network resolves, else a sentence for each
    /// column.
    ///
    /// The scale of the others is that of the column's middle half, or, where that is one value, of
    /// its middle nine tenths.
    pub(crate) fn far_values(&self, scaling: &Scaling) -> Result<Vec<String>> {
        let found: Vec<Option<Far>> =
            (0..self.dim()).into_par_iter().map(|k| self.far_in(k, scaling)).collect();
        let mut remarks = Vec::new();
        let mut refused = Vec::new();
        for far in found.into_iter().flatten() {
            match far.squeezed {
                true => refused.push(far.problem),
                false => remarks.push(far.problem),
            }
        }
        match &refused[..] {
            [] => Ok(remarks),
            _ => Err(Error::data(
                self.called(),
                refused.join("; "),
                format!(
                    "if these are fill values, empty the cells and give {DROP_ROWS}; if they are \
                     real, give data.scaling.marginals = gaussianize"
                ),
            )),
        }
    }

    fn far_in(&self, k: usize, scaling: &Scaling) -> Option<Far> {
        if scaling.grid(k).is_some() {
            return None;
        }
        let map = scaling.map(k);
        let values = self.single_column(k);
        let mut sorted = values.clone();
        sorted.sort_unstable_by(f32::total_cmp);
        let quantile = |p: f64| f64::from(sorted[((sorted.len() - 1) as f64 * p).round() as usize]);
        let range = |low, high, normal| {
            let (low, high) = (quantile(low), quantile(high));
            (high > low).then(|| {
                let mapped = map.forward(high).0 - map.forward(low).0;
                ((high - low) / normal, mapped / normal)
            })
        };
        let (scale, mapped) = range(0.25, 0.75, QUARTILES).or_else(|| range(0.05, 0.95, MIDDLE))?;
        let median = quantile(0.5);
        let far: Vec<usize> = (0..values.len())
            .filter(|&i| (f64::from(values[i]) - median).abs() > FAR * scale)
            .collect();
        let squeezed = mapped < SQUEEZED;
        if far.is_empty() || !(squeezed || mapped < NARROW || self.is_fill(&values, &far)) {
            return None;
        }
        let name = &self.table()[k].0;
        let first = values[far[0]];
        let same = far.iter().all(|&i| values[i] == first);
        let what = match same {
            true => format!("{first:e}"),
            false => {
                let away = |v: f32| (f64::from(v) - median).abs();
                let worst =
                    far.iter().map(|&i| values[i]).max_by(|a, b| away(*a).total_cmp(&away(*b)));
                format!("up to {:e}", worst.unwrap_or(first))
            }
        };
        let rows: Vec<String> =
            far.iter().take(3).map(|&i| self.place(i).row.to_string()).collect();
        let more = if far.len() > 3 { ", …" } else { "" };
        let (s, are) = if far.len() == 1 { ("", "is") } else { ("s", "are") };
        let problem = format!(
            "column `{name}`: {} cell{s} ({what}; row{s} {}{more}) {are} far from the others, \
             whose scale is {scale:.3e} about {median:.3e}",
            far.len(),
            rows.join(", "),
        );
        let problem = match squeezed {
            true => format!("{problem}: beside them no network tells the others apart"),
            false => format!("{problem}: fill values? they widen the model of all rows"),
        };
        Some(Far { problem, squeezed })
    }

    /// Whether far cells look like a mark for missing ones: one value, several times.
    fn is_fill(&self, values: &[f32], far: &[usize]) -> bool {
        far.len() > 2 && far.iter().all(|&i| values[i] == values[far[0]])
    }
}

/// What is far in a column.
struct Far {
    problem: String,
    squeezed: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Column;

    fn table(values: Vec<f32>) -> Dataset {
        Dataset::new(vec![Column { name: "x".into(), kind: ColumnKind::Float }], values).unwrap()
    }

    /// Uniform values that hardly repeat.
    fn uniform(n: usize) -> impl Iterator<Item = f32> {
        (0..n).map(|i| (i as f64 * 0.618_033_988_749_895).fract() as f32 - 0.5)
    }

    fn remark(values: Vec<f32>) -> String {
        table(values).remarks(&Dequantize::None).join("\n")
    }

    #[test]
    fn atoms_are_seen_and_continuous_columns_are_not_accused() {
        assert_eq!(remark(uniform(2000).collect()), "");
        // three decimals among 1000 rows: each value about once
        assert_eq!(remark(uniform(1000).map(|u| (u * 1000.0).round() / 1000.0).collect()), "");
        let zeros = remark(
            uniform(1000).enumerate().map(|(i, u)| if i % 3 > 0 { u } else { 0.0 }).collect(),
        );
        assert!(
            zeros.contains("the value 0 in 33 %") && zeros.contains("data.table.drop = x"),
            "{zeros}"
        );
        assert!(!zeros.contains("dequantize"), "no grid: {zeros}");
        let clipped = remark(uniform(1000).map(|u| u.min(0.45)).collect());
        assert!(clipped.contains("the value 0.45 in 5.0 %"), "{clipped}");
        let binary = remark(uniform(300).map(|u| f32::from(u > 0.0)).collect());
        assert!(
            binary.contains("only 2 different values")
                && binary.contains("data.scaling.dequantize = x"),
            "{binary}"
        );
        let tenths = remark(uniform(300).map(|u| (u * 20.0).round() / 10.0).collect());
        assert!(
            tenths.contains("only 21 different") && tenths.contains("data.scaling.dequantize = x"),
            "{tenths}"
        );
        let dequantised = table(uniform(300).map(|u| f32::from(u > 0.0)).collect());
        assert_eq!(
            dequantised.remarks(&Dequantize::Columns(vec!["x".into()])),
            Vec::<String>::new()
        );
    }

    #[test]
    fn duplicates_surprise_only_beside_a_continuous_column() {
        let found = |table: Dataset| table.surprising_duplicates(&Dequantize::None);
        let temperatures: Vec<f32> = uniform(300).map(|u| (u * 20.0).round() / 10.0).collect();
        let (duplicates, surprising) = found(table(temperatures));
        assert!(duplicates > 200 && !surprising);
        assert_eq!(found(table(vec![10.0, 0.01, 10.0, 7.5])), (1, false), "prices");
        let copies: Vec<f32> = uniform(300).chain(uniform(30)).collect();
        assert_eq!(found(table(copies)), (30, true));
        assert_eq!(found(table(uniform(300).collect())), (0, false));
        let two = |rows: Vec<[f32; 2]>| {
            let column = |name: &str| Column { name: name.into(), kind: ColumnKind::Float };
            Dataset::new(vec![column("x"), column("y")], rows.concat()).unwrap()
        };
        // three digits and a coin: a few rows agree by chance; and copies of rows of two continuous
        // columns
        let coin = uniform(400)
            .zip(0..)
            .map(|(u, i)| [(u * 999.0 + u * u * 999.0).round(), (i / 7 % 2) as f32]);
        let (duplicates, surprising) = found(two(coin.collect()));
        assert!(duplicates > 5 && !surprising, "{duplicates}");
        let rows = uniform(300).zip(0..).map(|(u, i)| [u, ((i * i) as f32 * 0.37).sin()]);
        let rows: Vec<[f32; 2]> = rows.collect();
        assert_eq!(found(two([&rows[..], &rows[..20]].concat())), (20, true));
    }
}
