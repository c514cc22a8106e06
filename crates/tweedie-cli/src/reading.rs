//! How the commands that take new rows read them, where it is not as the training did.

use std::path::Path;

use clap::Args;
use serde_json::{Value, json};
use tweedie::Result;
use tweedie::data::{Dataset, Missing, Purpose, TableOptions, Unseen};
use tweedie::run::Run;

use crate::choice::choice;
use crate::console::say_left_out;

/// Reading of new rows.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Reading")]
pub struct Reading {
    /// Rows with missing cells [default: as in training]
    #[arg(long, value_name = "WHAT", value_parser = choice::<Missing>())]
    missing: Option<Missing>,
    /// Leave out, and count, images of a folder that cannot be decoded [default: as in training]
    #[arg(long)]
    skip_corrupt: bool,
    /// Delimiter of a text table [default: as in training]
    #[arg(long, value_name = "CHAR")]
    delimiter: Option<char>,
    /// Whether a text table has a header [default: as in training]
    #[arg(long, value_name = "true|false", num_args = 1)]
    header: Option<bool>,
}

impl Reading {
    /// The table at `path` with the columns of `run`.
    pub fn table(&self, run: &Run, path: &Path) -> Result<Dataset> {
        run.data.read_table(path, &self.options(run))
    }

    /// As [`Reading::table`], of rows to score that may have values which no row of `run` has.
    pub fn table_to_score(&self, run: &Run, path: &Path, unseen: Unseen) -> Result<Dataset> {
        let options = TableOptions { unseen: Some(unseen), ..self.options(run) };
        run.data.read_table(path, &options)
    }

    /// As in the training of `run`, but for what is given.
    pub fn options(&self, run: &Run) -> TableOptions {
        let usual = &run.config.data.table;
        TableOptions {
            missing: self.missing.unwrap_or(usual.missing),
            skip_corrupt: usual.skip_corrupt || self.skip_corrupt,
            delimiter: self.delimiter.or(usual.delimiter),
            header: self.header.or(usual.header),
            purpose: Purpose::Scoring,
            ..usual.clone()
        }
    }
}

/// Rows that a line names, at most.
const NAMED: usize = 10;

/// Says what of the source is not in `table`; for JSON, the number of rows left out and which.
pub fn left_out(table: &Dataset, quiet: bool) -> Value {
    say_left_out(quiet, table);
    let rows = table.left_out_rows();
    let count = table.dropped_rows + table.dropped_duplicates;
    if count > 0 {
        let all = table.rows() + count;
        let why = match table.image() {
            Some(_) => "images cannot be decoded",
            None => "rows have missing cells",
        };
        let named: Vec<String> = rows.iter().take(NAMED).map(usize::to_string).collect();
        let dots = if rows.len() > NAMED { ", …" } else { "" };
        let which = match named.is_empty() {
            true => String::new(),
            false => format!(": rows {}{dots}", named.join(", ")),
        };
        say!(quiet, "note: {count} of {all} {why}, and are left out{which}");
    }
    json!({ "count": count, "rows": rows })
}
