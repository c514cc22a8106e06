//! The file that scores are written to.

use std::ops::Range;

use super::Scores;
use crate::Result;
use crate::data::{CellType, Dataset, ImageScores, OutputFile, append_columns, write_table};
use crate::likelihood::Estimate;

/// The columns that scores are written in.
const COLUMNS: [&str; 2] = ["log_likelihood", "std_error"];

/// A file of scores: the rows of a table's file with the columns `log_likelihood` and `std_error`
/// added, or the numbers of images with theirs.
///
/// Scores of images are written as they are computed, where the format takes rows one by one.
pub struct ScoreFile<'a> {
    table: &'a Dataset,
    out: Out<'a>,
}

enum Out<'a> {
    /// Row by row, of images.
    AsTheyCome(ImageScores<'a>),
    AtTheEnd(OutputFile),
}

impl<'a> ScoreFile<'a> {
    /// The scores of `table` will be written to `out`, whose extension says the format.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) if the file cannot be written.
    pub fn begin(table: &'a Dataset, out: OutputFile) -> Result<ScoreFile<'a>> {
        let out = match table.image() {
            None => Out::AtTheEnd(out),
            Some(_) => match ImageScores::begin(table, &COLUMNS, out)? {
                Ok(scores) => Out::AsTheyCome(scores),
                Err(out) => Out::AtTheEnd(out),
            },
        };
        Ok(ScoreFile { table, out })
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
            Out::AsTheyCome(scores) => scores.push(rows, &[&part.values, &part.std_errors]),
            Out::AtTheEnd(_) => Ok(()),
        }
    }

    /// Writes what is left, and gives the file its name.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) if the file cannot be written.
    pub fn finish(self, scores: &Scores) -> Result<()> {
        let (table, values, errors) = (self.table, scores.values(), scores.std_errors());
        match self.out {
            Out::AsTheyCome(scores) => scores.finish(),
            Out::AtTheEnd(out) if table.image().is_some() => {
                let cells = |i| [table.place(i).row as f64, values[i], errors[i]];
                let cells: Vec<f64> = (0..values.len()).flat_map(cells).collect();
                let types = [CellType::Integer, CellType::Double, CellType::Double];
                write_table(out, &["image", COLUMNS[0], COLUMNS[1]], &types, &cells)
            }
            Out::AtTheEnd(out) => {
                append_columns(table, &COLUMNS, &[values.to_vec(), errors.to_vec()], out)
            }
        }
    }
}
