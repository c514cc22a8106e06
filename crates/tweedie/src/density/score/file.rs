//! The file that scores are written to.

use std::ops::Range;

use super::Scores;
use crate::Result;
use crate::data::{
    AddedColumn, CellType, Dataset, ImageScores, OutputFile, append_columns, write_table,
};
use crate::density::{AnomalyTest, Parts};
use crate::likelihood::Estimate;

/// A file of scores: the rows of a table's file with the columns `log_likelihood` and `std_error`
/// added, or the numbers of images with theirs; and with `p_value` and `anomaly`, where there is an
/// [`AnomalyTest`].
///
/// Scores of images are written as they are computed, where the format takes rows one by one.
pub struct ScoreFile<'a> {
    table: &'a Dataset,
    test: Option<&'a AnomalyTest>,
    out: Out<'a>,
}

enum Out<'a> {
    /// Row by row, of images.
    AsTheyCome(ImageScores<'a>),
    AtTheEnd(OutputFile),
}

/// The columns of rows with these scores.
fn columns(values: &[f64], errors: &[f64], test: Option<&AnomalyTest>) -> Vec<AddedColumn> {
    let scores = [("log_likelihood", values), ("std_error", errors)];
    let scores = scores.map(|(name, values)| AddedColumn::numbers(name, values.to_vec()));
    let tested = test.map(|test| test.columns(values)).unwrap_or_default();
    scores.into_iter().chain(tested).collect()
}

impl<'a> ScoreFile<'a> {
    /// The scores of `table` will be written to `out`, whose extension says the format, with what
    /// `test` says of them.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) if the file cannot be written.
    pub fn begin(
        table: &'a Dataset,
        test: Option<&'a AnomalyTest>,
        out: OutputFile,
    ) -> Result<ScoreFile<'a>> {
        let out = match table.image() {
            None => Out::AtTheEnd(out),
            Some(_) => match ImageScores::begin(table, &columns(&[], &[], test), out)? {
                Ok(scores) => Out::AsTheyCome(scores),
                Err(out) => Out::AtTheEnd(out),
            },
        };
        Ok(ScoreFile { table, test, out })
    }

    /// Whether images have names that the format does not hold.
    pub fn loses_names(&self) -> bool {
        matches!(self.out, Out::AtTheEnd(_)) && !self.table.files.is_empty()
    }

    /// Takes the scores of a batch of rows, as [`Watch::scored`](crate::watch::Watch::scored) has
    /// them.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) if the file cannot be written.
    pub fn push(&mut self, rows: Range<usize>, part: &Estimate) -> Result<()> {
        match &mut self.out {
            Out::AsTheyCome(scores) => {
                scores.push(rows, &columns(&part.values, &part.std_errors, self.test))
            }
            Out::AtTheEnd(_) => Ok(()),
        }
    }

    /// Writes what is left, with the parts of the scores of a table, and gives the file its name.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) if the file cannot be written.
    pub fn finish(self, scores: &Scores, parts: Option<&Parts>) -> Result<()> {
        let mut columns = columns(scores.values(), scores.std_errors(), self.test);
        columns.extend(parts.map(Parts::added).unwrap_or_default());
        match self.out {
            Out::AsTheyCome(scores) => scores.finish(),
            Out::AtTheEnd(out) if self.table.image().is_some() => {
                let names: Vec<&str> = columns.iter().map(|column| &*column.name).collect();
                let names = [&["image"], &names[..]].concat();
                let of = |column: &AddedColumn| match column.is_flag {
                    true => CellType::Integer,
                    false => CellType::Double,
                };
                let types: Vec<CellType> =
                    [CellType::Integer].into_iter().chain(columns.iter().map(of)).collect();
                let cells = |i| {
                    let number = self.table.place(i).row as f64;
                    [number].into_iter().chain(columns.iter().map(move |column| column.values[i]))
                };
                let cells: Vec<f64> = (0..scores.values().len()).flat_map(cells).collect();
                write_table(out, &names, &types, &cells)
            }
            Out::AtTheEnd(out) => append_columns(self.table, &columns, out),
        }
    }
}
