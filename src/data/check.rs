//! Columns under which a density does not exist, or that single precision cannot hold.

use rayon::prelude::*;

use super::builder::Moments;
use super::scaling::Dequantize;
use super::table::Table;
use crate::{Error, Result};

/// Columns are compared on at most so many rows, then the finding is confirmed on all.
const ROWS: usize = 100_000;
/// Multiplications spent on the comparison, at most, as long as it has rows enough.
const WORK: usize = 4_000_000_000;
/// A residual standard deviation below this fraction of the column's own counts as none.
const RESIDUAL: f64 = 1e-6;
/// `|mean| / sd` beyond which a spread has less than a thousand single-precision steps.
const MAX_OFFSET: f64 = (1 << 24) as f64 / 1e3;

impl Table {
    /// Refuses columns that are constant, too far from zero for their spread, repeated, or linear combinations of
    /// others.
    ///
    /// The last two are found by a Cholesky factorisation of the correlation matrix on at most 100 000 rows (a
    /// residual below 10⁻⁶ of the column's standard deviation) and confirmed on all rows. With no more rows than
    /// columns every column is a combination, so they are not looked for.
    ///
    /// Columns that `dequantize` takes may be all of that: the noise gives them a density.
    ///
    /// # Errors
    /// [`Error::Data`] naming the columns.
    pub fn check_columns(&self, dequantize: &Dequantize) -> Result<()> {
        let noised: Vec<bool> = self.columns.iter().map(|c| dequantize.takes(c)).collect();
        for (k, (column, moments)) in self.columns.iter().zip(&self.moments).enumerate() {
            let name = &column.name;
            let (mean, sd) = (moments.mean, moments.sd());
            let first = self.values[k];
            let constant = self.values.iter().skip(k).step_by(self.dim()).all(|&v| v == first);
            if sd > 0.0 && mean.abs() / sd > MAX_OFFSET {
                let problem = format!(
                    "column `{name}` has mean {mean} and standard deviation {sd:.3e}, too fine for single precision"
                );
                let remedy =
                    format!("subtract an offset near {mean} from it, or leave it out with --drop {name}");
                return Err(Error::data(&self.source, problem, remedy));
            }
            if constant && !noised[k] {
                let problem = format!("column `{name}` is constant ({first}), so that no density exists");
                return Err(Error::data(&self.source, problem, format!("leave it out with --drop {name}")));
            }
        }
        self.check_collinear(&noised)
    }

    fn check_collinear(&self, noised: &[bool]) -> Result<()> {
        let (dim, rows) = (self.dim(), self.rows());
        let wanted = ROWS.min(WORK / (dim * dim)).max(2 * dim + 100);
        let stride = rows.div_ceil(wanted);
        let sample: Vec<usize> = (0..rows).step_by(stride).collect();
        if dim < 2 || sample.len() <= dim + 1 {
            return Ok(());
        }
        // Columns with mean 0 and norm 1, each contiguous.
        let (unit, norms): (Vec<Vec<f64>>, Vec<f64>) = (0..dim)
            .into_par_iter()
            .map(|k| {
                let raw: Vec<f64> = sample.iter().map(|&row| self.row(row)[k].into()).collect();
                let mean = raw.iter().sum::<f64>() / raw.len() as f64;
                let norm = raw.iter().map(|v| (v - mean).powi(2)).sum::<f64>().sqrt();
                // A column constant on the sample is orthogonal to all and never found.
                (
                    raw.iter().map(|v| if norm > 0.0 { (v - mean) / norm } else { 0.0 }).collect::<Vec<_>>(),
                    norm,
                )
            })
            .unzip();
        let mut factor: Vec<Vec<f64>> = Vec::new(); // rows of L, for the independent columns
        let mut basis: Vec<usize> = Vec::new();
        for k in 0..dim {
            let square: f64 = dot(&unit[k], &unit[k]);
            if square == 0.0 || noised[k] {
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
                self.report_collinear(k, &basis, &factor, row, &norms)?;
                continue;
            }
            row.push(residual.sqrt());
            factor.push(row);
            basis.push(k);
        }
        Ok(())
    }

    /// The error for column `k`, if all rows confirm that it is a combination of `basis`.
    fn report_collinear(
        &self,
        k: usize,
        basis: &[usize],
        factor: &[Vec<f64>],
        row: Vec<f64>,
        norms: &[f64],
    ) -> Result<()> {
        let mut weights = row;
        for j in (0..weights.len()).rev() {
            weights[j] /= factor[j][j];
            let (done, weight) = (&factor[j], weights[j]);
            for i in 0..j {
                weights[i] -= done[i] * weight;
            }
        }
        // Weights below this are the noise of the factorisation, and a longer list would help nobody.
        let parts: Vec<(usize, f64)> =
            basis.iter().copied().zip(weights).filter(|(_, w)| w.abs() > 1e-5).collect();
        // In raw units the weights hold for all rows, whatever the moments of the sample.
        let raw: Vec<(usize, f64)> = parts.iter().map(|&(b, w)| (b, w * norms[k] / norms[b])).collect();
        let origin = self.row(0);
        let residual = |values: &[f32]| {
            let difference = |b: usize| f64::from(values[b]) - f64::from(origin[b]);
            difference(k) - raw.iter().map(|&(b, w)| w * difference(b)).sum::<f64>()
        };
        let (mut left, mut own) = (Moments::default(), Moments::default());
        for row in self.values.chunks_exact(self.dim()) {
            left.push(residual(row));
            own.push(row[k].into());
        }
        let name = &self.columns[k].name;
        let remedy = format!("leave it out with --drop {name}");
        let equal = |b: usize| self.values.chunks_exact(self.dim()).all(|row| row[b] == row[k]);
        if let Some(twin) = parts.iter().map(|p| p.0).find(|&b| equal(b)) {
            let problem = format!("column `{name}` repeats column `{}`", self.columns[twin].name);
            return Err(Error::data(&self.source, problem, remedy));
        }
        if left.sd() > 10.0 * RESIDUAL * own.sd() {
            return Ok(());
        }
        let mut others: Vec<String> =
            parts.iter().take(6).map(|&(b, _)| format!("`{}`", self.columns[b].name)).collect();
        if parts.len() > 6 {
            others.push(format!("{} more", parts.len() - 6));
        }
        let problem = format!(
            "column `{name}` is a linear combination of {}, so that no density exists",
            others.join(", ")
        );
        Err(Error::data(&self.source, problem, remedy))
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
