//! Columns under which a density does not exist, or that single precision cannot hold.

use rayon::prelude::*;

use super::Dataset;
use super::collect::some_of;
use super::column::{ColumnKind, Values};
use super::precision::{Merged, changed, merged, moments};
use super::refusals::{Fix, Refusal, combined};
use super::scaling::Dequantize;
use crate::Result;

/// The most rows on which columns are compared; the finding is then confirmed on all.
const ROWS: usize = 100_000;
/// Multiplications spent on the comparison, at most, as long as it has rows enough.
const WORK: usize = 4_000_000_000;
/// A residual standard deviation below this fraction of the column's own counts as none.
const RESIDUAL: f64 = 1e-6;
/// `|mean| / sd` beyond which a spread has less than a thousand single-precision steps.
const MAX_OFFSET: f64 = (1 << 24) as f64 / 1e3;

impl Dataset {
    /// Refuses columns that are constant, too fine for single precision where their values lie,
    /// repeated, or linear combinations of others: all of them in one error.
    ///
    /// Too fine is a column whose neighbouring values fall together when they are rounded (of a few
    /// hundred, more than a twentieth), or whose mean is more than 16 777 standard deviations from
    /// 0. To be dequantised, whole numbers must all be held exactly.
    ///
    /// Repeated and combined columns are found by a Cholesky factorisation of the correlation
    /// matrix on at most 100 000 rows (a residual below 10⁻⁶ of the column's standard deviation)
    /// and confirmed on all rows. With no more rows than columns every column is a combination, so
    /// they are not looked for.
    ///
    /// Columns of categories and columns with holes, of tables that were read as they come, are
    /// refused.
    ///
    /// Columns that `dequantize` takes may be constant, repeated or combined: the noise gives them
    /// a density.
    ///
    /// # Errors
    /// [`crate::Error::Data`] naming the columns.
    pub fn check_columns(&self, dequantize: &Dequantize) -> Result<()> {
        match &self.refusals(dequantize)[..] {
            [] => Ok(()),
            refusals => Err(combined(self.called(), &self.options, refusals)),
        }
    }

    /// All that [`Dataset::check_columns`] refuses.
    pub(super) fn refusals(&self, dequantize: &Dequantize) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        // columns that are not compared with others: dequantised, or refused
        let mut apart: Vec<bool> = self.columns().iter().map(|c| dequantize.takes(c)).collect();
        for (k, (name, values)) in self.table().iter().enumerate() {
            let first = values.get(0) as f32;
            let unfit = match (values.kind(), values.holes()) {
                (ColumnKind::Category, _) => Some("holds categories".to_owned()),
                (_, 0) => None,
                (_, holes) => Some(format!("has {holes} missing cells")),
            };
            if let Some(found) = unfit {
                let problem =
                    format!("column `{name}` {found}, where numbers alone have a density");
                refusals.push(Refusal { problem, fix: Fix::Drop(name.clone(), None) });
                apart[k] = true;
                continue;
            }
            let constant = !apart[k] && (0..values.len()).all(|i| values.get(i) as f32 == first);
            let found = too_fine(name, values, apart[k]).or_else(|| {
                let problem =
                    format!("column `{name}` is constant ({first}), so that no density exists");
                constant.then_some((problem, None))
            });
            if let Some((problem, other)) = found {
                refusals.push(Refusal { problem, fix: Fix::Drop(name.clone(), other) });
                apart[k] = true;
            }
        }
        refusals.extend(self.collinear(&apart));
        refusals
    }

    /// Columns, but for those that are set `apart`, that repeat or combine others, to be refused.
    fn collinear(&self, apart: &[bool]) -> Vec<Refusal> {
        let refusal = |(name, found): (String, String)| Refusal {
            problem: format!("column `{name}` {found}"),
            fix: Fix::Drop(name, None),
        };
        self.combinations(apart).into_iter().map(refusal).collect()
    }

    /// Columns, but for those that are set `apart`, that repeat or combine others: their names, and
    /// what they are.
    pub(super) fn combinations(&self, apart: &[bool]) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let (dim, rows) = (self.dim(), self.rows());
        let wanted = ROWS.min(WORK / (dim * dim)).max(2 * dim + 100);
        let stride = rows.div_ceil(wanted);
        let sample: Vec<usize> = (0..rows).step_by(stride).collect();
        if dim < 2 || sample.len() <= dim + 1 {
            return found;
        }
        // Columns with mean 0 and norm 1, each contiguous.
        let (unit, norms): (Vec<Vec<f64>>, Vec<f64>) = (0..dim)
            .into_par_iter()
            .map(|k| {
                let raw: Vec<f64> = sample.iter().map(|&row| self.single(row, k)).collect();
                let mean = raw.iter().sum::<f64>() / raw.len() as f64;
                let norm = raw.iter().map(|v| (v - mean).powi(2)).sum::<f64>().sqrt();
                // A column constant on the sample is orthogonal to all and never found.
                (
                    raw.iter()
                        .map(|v| if norm > 0.0 { (v - mean) / norm } else { 0.0 })
                        .collect::<Vec<_>>(),
                    norm,
                )
            })
            .unzip();
        let mut factor: Vec<Vec<f64>> = Vec::new(); // rows of L, for the independent columns
        let mut basis: Vec<usize> = Vec::new();
        for k in 0..dim {
            let square: f64 = dot(&unit[k], &unit[k]);
            if square == 0.0 || apart[k] {
                continue;
            }
            let products: Vec<f64> = basis.par_iter().map(|&b| dot(&unit[b], &unit[k])).collect();
            let mut row: Vec<f64> = Vec::with_capacity(basis.len() + 1);
            for (j, product) in products.iter().enumerate() {
                let value = (product - dot(&factor[j][..j], &row)) / factor[j][j];
                row.push(value);
            }
            let residual = square - dot(&row, &row);
            if residual < RESIDUAL * RESIDUAL {
                found.extend(self.report_collinear(k, &basis, &factor, row, &norms));
                continue;
            }
            row.push(residual.sqrt());
            factor.push(row);
            basis.push(k);
        }
        found
    }

    /// Name of column `k` and which combination of `basis` it is, if all rows confirm it.
    fn report_collinear(
        &self,
        k: usize,
        basis: &[usize],
        factor: &[Vec<f64>],
        row: Vec<f64>,
        norms: &[f64],
    ) -> Option<(String, String)> {
        let mut weights = row;
        for j in (0..weights.len()).rev() {
            weights[j] /= factor[j][j];
            let (done, weight) = (&factor[j], weights[j]);
            for i in 0..j {
                weights[i] -= done[i] * weight;
            }
        }
        // Weights below this are the noise of the factorisation, and a longer list would help
        // nobody.
        let parts: Vec<(usize, f64)> =
            basis.iter().copied().zip(weights).filter(|(_, w)| w.abs() > 1e-5).collect();
        // In raw units the weights hold for all rows, whatever the moments of the sample.
        let raw: Vec<(usize, f64)> =
            parts.iter().map(|&(b, w)| (b, w * norms[k] / norms[b])).collect();
        let name = &self.table()[k].0;
        let found = |text| Some((name.clone(), text));
        let equal =
            |b: usize| (0..self.rows()).all(|row| self.single(row, b) == self.single(row, k));
        if let Some(twin) = parts.iter().map(|p| p.0).find(|&b| equal(b)) {
            let twin = &self.table()[twin].0;
            return found(format!("repeats column `{twin}`"));
        }
        let residual = |row: usize| {
            let difference = |b: usize| self.single(row, b) - self.single(0, b);
            difference(k) - raw.iter().map(|&(b, w)| w * difference(b)).sum::<f64>()
        };
        let (_, left) = moments((0..self.rows()).map(residual));
        let (_, own) = moments((0..self.rows()).map(|row| self.single(row, k)));
        if left > 10.0 * RESIDUAL * own {
            return None;
        }
        let others: Vec<&str> = parts.iter().map(|&(b, _)| self.table()[b].0.as_str()).collect();
        let others = some_of(others.into_iter(), 6);
        found(format!("is a linear combination of {others}, so that no density exists"))
    }

    fn single(&self, row: usize, k: usize) -> f64 {
        f64::from(self.table()[k].1.get(row) as f32)
    }
}

/// What is wrong with a column in single precision, and what else than leaving it out helps. Of
/// `levels`, all whole numbers must be held exactly.
fn too_fine(name: &str, column: &Values, levels: bool) -> Option<(String, Option<String>)> {
    if let Some(Merged { merged, pairs, middle, largest }) = merged(column) {
        let problem = format!(
            "column `{name}` is too fine for single precision: of {pairs} pairs of neighbouring \
             values {merged} become one number"
        );
        let other = match largest < f64::from(f32::MIN_POSITIVE) * 1e6 {
            true => {
                let power = -largest.log10().floor();
                format!("multiply it by 1e{power} (its largest magnitude is {largest:.3e})")
            }
            false => format!("subtract an offset near {middle} from it"),
        };
        return Some((problem, Some(other)));
    }
    let (mean, sd) = moments((0..column.len()).map(|i| column.get(i)));
    if sd > 0.0 && mean.abs() / sd > MAX_OFFSET {
        let problem = format!(
            "column `{name}` has mean {mean} and standard deviation {sd:.3e}, too fine for single \
             precision"
        );
        return Some((problem, Some(format!("subtract an offset near {mean} from it"))));
    }
    let levels = levels && column.kind() == ColumnKind::Integer;
    let (changed, worst) = changed(column).filter(|_| levels)?;
    let problem = format!(
        "{changed} whole numbers of column `{name}`, which is to be dequantised, are not held by \
         single precision (up to {worst} off)"
    );
    Some((problem, Some(format!("subtract an offset near {mean:.0} from it"))))
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
