//! The rows that a density is judged on: a file's, or the run's own test rows.

use std::collections::HashSet;
use std::path::Path;

use tch::{Kind, Tensor};

use super::{Density, EvaluateOptions};
use crate::data::{Dataset, Split, TableOptions, subset};
use crate::noise::Seed;
use crate::run::{Prepared, scaled_rows};
use crate::watch::{Remark, Watch};
use crate::{Error, Result};

/// The rows a density is judged on, and those it was trained on where they can be read.
pub struct TestRows {
    /// The table that has them.
    pub table: Dataset,
    /// Which of its rows are meant.
    pub rows: Vec<usize>,
    /// Training rows and validation rows of a table in the network's units, for classical
    /// densities.
    pub(super) reference: Option<(Tensor, Tensor)>,
}

/// Rows that the bandwidth of a kernel density is chosen on, at most.
const BANDWIDTH_ROWS: usize = 500;

impl TestRows {
    /// Keeps the rows that an evaluation with these options judges: at most so many, drawn at
    /// random by its seed, since a file may be sorted.
    pub fn draw(&mut self, options: &EvaluateOptions) {
        if let Some(limit) = options.rows {
            self.rows = subset(&self.rows, limit, Seed(options.seed));
        }
    }
}

/// What of a table's source is not in it, and how it was read.
pub fn remarks_on(table: &Dataset) -> Vec<Remark> {
    let notes = table.notes.iter().map(|note| Remark::Progress(format!("data: {note}")));
    let all: Vec<String> = table.left_out.iter().map(ToString::to_string).collect();
    let left_out = (!all.is_empty()).then(|| {
        let source = table.source.display();
        Remark::Warning(format!("not read of {source}: {}", all.join("; ")))
    });
    notes.chain(left_out).collect()
}

impl Density {
    /// The rows of `data`, or the run's own test rows; a file is read as `options` say, or as in
    /// training.
    ///
    /// # Errors
    /// [`Error::Config`] if the run kept no test rows, or they can no longer be read; as
    /// [`Density::read`] of a file.
    pub fn test_rows(
        &self,
        data: Option<&Path>,
        options: Option<&TableOptions>,
    ) -> Result<TestRows> {
        let run = &self.run;
        if let Some(path) = data {
            let options = options.unwrap_or(&run.config.data.table);
            return Ok(self.all_of(run.data.read_table(path, options)?));
        }
        let missing = |problem: String| {
            Err(Error::config("evaluate.data", problem, "give test rows with evaluate.data"))
        };
        match run.prepared() {
            Some(own) => {
                let reference = self.reference(&own);
                let Split { test, .. } = own.split;
                match test.is_empty() {
                    true => missing("the run kept no test rows".into()),
                    false => Ok(TestRows { table: own.table, rows: test, reference }),
                }
            }
            None => missing(run.no_data()),
        }
    }

    /// All rows of a data set, which has the columns of this density, to judge it on.
    ///
    /// # Errors
    /// [`Error::Data`] if it has others.
    pub fn rows_to_judge(&self, data: Dataset) -> Result<TestRows> {
        Ok(self.all_of(self.run.data.conform(data)?))
    }

    /// All rows of a data set with the columns of this density, to judge it on.
    pub(super) fn all_of(&self, table: Dataset) -> TestRows {
        let own = if self.is_large() { None } else { self.run.prepared() };
        let reference = own.and_then(|own| self.reference(&own));
        TestRows { rows: (0..table.rows()).collect(), table, reference }
    }

    /// What classical densities are fitted to. None for images and latents, where the full
    /// covariance and all distances cost more than the network.
    fn reference(&self, own: &Prepared) -> Option<(Tensor, Tensor)> {
        let (run, seed) = (&self.run, Seed(self.run.config.seed));
        let fit = || {
            let (train, _) = scaled_rows(
                &own.table,
                &own.split.train,
                &run.data.scaling,
                seed.derive("reference"),
            );
            let validation = own.validation_rows(BANDWIDTH_ROWS, seed.derive("validation rows"));
            (train, validation.to_kind(Kind::Double))
        };
        (!self.is_large() && run.data.schema.is_none()).then(fit)
    }

    /// Brings the test rows of two densities to those that both have.
    ///
    /// # Errors
    /// [`Error::Config`] if columns or rows are not the same, or no test row is one of both.
    pub fn share_rows(
        &self,
        own: &mut TestRows,
        other: &Density,
        others: &mut TestRows,
        watch: &mut dyn Watch,
    ) -> Result<()> {
        let bad = |problem: String, remedy| Err(Error::config("evaluate.against", problem, remedy));
        let name = other.name();
        if other.run.data.names() != self.run.data.names() {
            let remedy = "give a run on the same columns of the same data";
            return bad(format!("{name} is of other columns"), remedy);
        }
        if !own.table.has_values_of(&others.table) {
            let problem = format!("{name} is of other rows: {}", other.run.data.source);
            let remedy = "give a run on the same data, or rows for both with evaluate.data";
            return bad(problem, remedy);
        }
        if others.rows == own.rows {
            return Ok(());
        }
        let theirs: HashSet<usize> = others.rows.iter().copied().collect();
        let all = own.rows.len();
        own.rows.retain(|row| theirs.contains(row));
        let both = own.rows.len();
        if both == 0 {
            let problem = format!("no test row of {} is one of {name}", self.name());
            let remedy = "train both with the same split, or give rows for both with evaluate.data";
            return bad(problem, remedy);
        }
        watch.say(Remark::Note(format!(
            "the runs split their rows differently; {both} of {all} test rows are test rows of \
             both, and judged"
        )));
        others.rows = own.rows.clone();
        Ok(())
    }
}
