//! Everything that is wrong with the cells and columns of a table, in one reading.

use std::path::Path;

use super::Dataset;
use super::collect::{Collector, Spot, some_of};
use super::column::Values;
use super::formats;
use super::options::{Missing, TableOptions};
use super::refusals::{Fix, Refusal};
use super::scaling::Dequantize;
use crate::Result;

/// A column of which a larger share is missing is to be left out, not its rows.
const MOSTLY: f64 = 0.5;

/// Problems of a column's single cells.
#[derive(Debug, Clone, Default)]
struct Surveyed {
    /// Cells, or one for a whole column, that are no numbers, and the first: where, what.
    text: usize,
    first_text: Option<(Spot, String)>,
    /// Missing cells, and where the first is.
    missing: usize,
    first_missing: Option<Spot>,
    /// Cells too large for single precision, and the first.
    large: usize,
    first_large: Option<(Spot, String)>,
}

/// What a reading collects that goes on whatever is wrong with cells.
#[derive(Debug, Clone, Default)]
pub(super) struct Survey {
    columns: Vec<Surveyed>,
}

impl Survey {
    /// Sets the number of columns.
    pub fn of_columns(&mut self, columns: usize) {
        self.columns = vec![Surveyed::default(); columns];
    }

    /// A cell that is no number.
    pub fn text(&mut self, column: usize, place: impl Fn() -> Spot, found: &str) {
        let of = &mut self.columns[column];
        of.text += 1;
        of.first_text.get_or_insert_with(|| (place(), found.to_owned()));
    }

    /// A cell that is missing, or too large.
    pub fn bad(
        &mut self,
        column: usize,
        value: f64,
        place: &impl Fn() -> Spot,
        found: impl Fn() -> String,
    ) {
        let of = &mut self.columns[column];
        if value.is_finite() {
            of.large += 1;
            of.first_large.get_or_insert_with(|| (place(), found()));
        } else if of.text == 0 {
            of.missing += 1;
            of.first_missing.get_or_insert_with(place);
        }
    }
}

impl Surveyed {
    /// Why the column called `name` cannot be used in any of its `rows`, and what else than leaving
    /// it out helps.
    fn refusal(&self, name: &str, rows: usize) -> Option<Refusal> {
        let cells = |n: usize| if n == 1 { "one cell".into() } else { format!("{n} cells") };
        let (problem, other) = if let Some((place, found)) = &self.first_text {
            let few = self.text <= 1 + rows / 100 && *place != Spot::Schema;
            let all = cells(self.text);
            let problem = format!("column `{name}` holds text ({place}: {found}; {all} in all)");
            (problem, few.then_some("correct them"))
        } else if let Some((place, found)) = &self.first_large {
            let (most, all) = (f32::MAX, cells(self.large));
            let what = format!("{place}: {found}; {all} in all");
            (
                format!("column `{name}` holds numbers beyond {most:.2e} ({what})"),
                Some("rescale it"),
            )
        } else if self.missing as f64 > MOSTLY * rows as f64 {
            (format!("column `{name}` is missing in {} of {rows} rows", self.missing), None)
        } else {
            return None;
        };
        Some(Refusal { problem, fix: Fix::Drop(name.to_owned(), other.map(String::from)) })
    }
}

/// All that is wrong with the cells and columns of a table; an error where it is not even one.
pub(super) fn survey(
    path: &Path,
    options: &TableOptions,
    dequantize: &Dequantize,
) -> Result<Vec<Refusal>> {
    if formats::holds_images(path)? {
        return Ok(Vec::new());
    }
    let mut collector = Collector::new(path, options);
    collector.survey = Some(Survey::default());
    formats::read(path, options, &mut collector)?;
    let Survey { columns } = collector.survey.take().unwrap_or_default();
    let rows = collector.seen;
    let names: Vec<String> = collector.chosen.iter().map(|(_, name)| name.clone()).collect();
    let (mut refusals, mut kept) = (Vec::new(), Vec::new());
    for (k, (of, name)) in columns.iter().zip(&names).enumerate() {
        match of.refusal(name, rows) {
            Some(refusal) => refusals.push(refusal),
            None => kept.push(k),
        }
    }
    if kept.is_empty() {
        // to leave out everything is no advice
        return Ok(Vec::new());
    }
    let missing: Vec<usize> = kept.iter().copied().filter(|&k| columns[k].missing > 0).collect();
    let whole = collector.whole.clone();
    let Some(table) = complete(collector.finish()?, &kept, &whole) else { return Ok(refusals) };
    if options.missing != Missing::DropRows
        && let Some(&first) = missing.first()
    {
        let incomplete = rows - table.rows();
        let among = some_of(missing.iter().map(|&k| names[k].as_str()), 6);
        let first = columns[first].first_missing.map_or(String::new(), |spot| spot.to_string());
        let problem =
            format!("{incomplete} of {rows} rows have missing cells, in {among} (first: {first})");
        refusals.push(Refusal { problem, fix: Fix::DropRows });
    }
    refusals.extend(table.refusals(dequantize));
    Ok(refusals)
}

/// The `kept` columns, in the rows in which none of them is missing; none if there is no such row.
/// `whole` are the columns of whole numbers, which a missing cell made real.
fn complete(mut table: Dataset, kept: &[usize], whole: &[bool]) -> Option<Dataset> {
    let columns = table.table_mut()?;
    *columns = kept.iter().map(|&k| columns[k].clone()).collect();
    let is_complete = |i: &usize| table.table().iter().all(|(_, v)| v.get(*i).is_finite());
    let rows: Vec<usize> = (0..table.rows()).filter(is_complete).collect();
    table.retain(&rows);
    for ((_, values), &k) in table.table_mut()?.iter_mut().zip(kept) {
        if let (Values::Double(v), true) = (&mut *values, whole[k]) {
            *values = Values::Integer(v.iter().map(|&v| v as i64).collect());
        }
    }
    (!rows.is_empty()).then_some(table)
}
