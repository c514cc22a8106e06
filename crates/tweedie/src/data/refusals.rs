//! Everything that a table is refused for, said at once, with the flags that make it one that
//! works.

use std::path::Path;

use super::builder::Builder;
use super::scaling::Dequantize;
use super::table::{Missing, Reader, Table, TableOptions, read_into};
use crate::{Error, Result};

/// A reason to refuse a table.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    pub problem: String,
    pub fix: Fix,
}

/// What makes it go away.
#[derive(Debug, Clone)]
pub(super) enum Fix {
    /// The column of this name is left out; before that, what else could be done about it.
    Drop(String, Option<String>),
    /// Rows with missing cells are left out.
    DropRows,
}

/// Refusals beyond this many are counted.
const SAID: usize = 12;
/// A column of which a larger share is missing is to be left out, not its rows.
const MOSTLY: f64 = 0.5;

/// `--flag a,b`, quoted for a shell where a name needs that.
pub(super) fn flag(name: &str, values: &[impl AsRef<str>]) -> String {
    let values: Vec<&str> = values.iter().map(AsRef::as_ref).collect();
    let joined = values.join(",");
    let plain = |c: char| c.is_alphanumeric() || "_-.,:/%+@^=".contains(c);
    match joined.chars().all(plain) {
        true => format!("{name} {joined}"),
        false => format!("{name} '{}'", joined.replace('\'', "'\\''")),
    }
}

/// What single cells of a column say against it.
#[derive(Debug, Clone, Default)]
struct Surveyed {
    /// Cells, or one for a whole column, that are no numbers, and the first: where, what.
    text: usize,
    first_text: Option<(String, String)>,
    /// Missing cells, and where the first is.
    missing: usize,
    first_missing: Option<String>,
    /// Cells too large for single precision, and the first.
    large: usize,
    first_large: Option<(String, String)>,
}

/// What a reading collects that goes on whatever is wrong with cells.
#[derive(Debug, Clone, Default)]
pub(super) struct Survey {
    columns: Vec<Surveyed>,
}

impl Survey {
    /// Of so many columns.
    pub fn of_columns(&mut self, columns: usize) {
        self.columns = vec![Surveyed::default(); columns];
    }

    /// A cell that is no number.
    pub fn text(&mut self, column: usize, place: impl Fn() -> String, found: &str) {
        let of = &mut self.columns[column];
        of.text += 1;
        of.first_text.get_or_insert_with(|| (place(), found.to_owned()));
    }

    /// A cell that is missing, or too large.
    pub fn bad(
        &mut self,
        column: usize,
        value: f64,
        place: &impl Fn() -> String,
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

fn cells(count: usize) -> String {
    if count == 1 { "one cell".into() } else { format!("{count} cells") }
}

/// One error for all of `refusals`, of which there is at least one. `options` are those that the
/// table was read with.
pub(super) fn combined(path: &Path, options: &TableOptions, refusals: &[Refusal]) -> Error {
    let dropped: Vec<&str> = refusals
        .iter()
        .filter_map(|r| match &r.fix {
            Fix::Drop(name, _) => Some(name.as_str()),
            Fix::DropRows => None,
        })
        .collect();
    if let [Refusal { problem, fix }] = refusals {
        let remedy = match fix {
            Fix::Drop(name, None) => format!("leave it out with {}", flag("--drop", &[name])),
            Fix::Drop(name, Some(other)) => {
                format!("{other}, or leave it out with {}", flag("--drop", &[name]))
            }
            Fix::DropRows => "leave such rows out with --missing drop-rows".into(),
        };
        return Error::data(path, problem, remedy);
    }
    let mut said: Vec<String> = refusals
        .iter()
        .take(SAID)
        .enumerate()
        .map(|(i, r)| match &r.fix {
            Fix::Drop(_, Some(other)) => format!("({}) {} ({other})", i + 1, r.problem),
            _ => format!("({}) {}", i + 1, r.problem),
        })
        .collect();
    if refusals.len() > SAID {
        said.push(format!("and {} more", refusals.len() - SAID));
    }
    let mut flags = Vec::new();
    if !dropped.is_empty() {
        let before = options.drop.iter().map(String::as_str);
        flags.push(flag("--drop", &before.chain(dropped).collect::<Vec<_>>()));
    }
    if refusals.iter().any(|r| matches!(r.fix, Fix::DropRows))
        || options.missing == Missing::DropRows
    {
        flags.push("--missing drop-rows".into());
    }
    let problem = format!("{} problems: {}", refusals.len(), said.join("; "));
    Error::data(path, problem, format!("all are gone with {}", flags.join(" ")))
}

impl Table {
    /// Reads a table to train on: [`Table::read`], then [`Table::check_columns`], with everything
    /// that is wrong in one error, which ends with the flags of `tweedie train` that together make
    /// the table one that works.
    ///
    /// # Errors
    /// As those two.
    pub fn read_to_train(
        path: impl AsRef<Path>,
        options: &TableOptions,
        dequantize: &Dequantize,
    ) -> Result<Table> {
        let path = path.as_ref();
        let table = match Table::read(path, options) {
            Ok(table) => table,
            // the reading ended at the first of perhaps many cells; if there are not many, its
            // error is the clearest
            Err(error @ Error::Data { .. }) => {
                return Err(match survey(path, options, dequantize) {
                    Ok(refusals) if refusals.len() > 1 => combined(path, options, &refusals),
                    _ => error,
                });
            }
            Err(error) => return Err(error),
        };
        if table.image.is_none() {
            table.check_columns(dequantize)?;
        }
        Ok(table)
    }
}

/// All that is wrong with the cells and columns of a table; an error where it is not even one.
fn survey(path: &Path, options: &TableOptions, dequantize: &Dequantize) -> Result<Vec<Refusal>> {
    let mut builder: Builder<f32> = Builder::new(path, options, false);
    builder.survey = Some(Survey::default());
    read_into(path, options, &mut builder)?;
    let Survey { columns } = builder.survey.take().unwrap_or_default();
    let rows = builder.seen();
    let names: Vec<String> = builder.chosen.iter().map(|(_, name)| name.clone()).collect();
    let mut refusals = Vec::new();
    let mut kept = Vec::new();
    for (k, (of, name)) in columns.iter().zip(&names).enumerate() {
        let mut drop = |problem: String, other: Option<&str>| {
            let fix = Fix::Drop(name.clone(), other.map(String::from));
            refusals.push(Refusal { problem, fix });
        };
        if let Some((place, found)) = &of.first_text {
            let few = of.text <= 1 + rows / 100 && place != SCHEMA;
            drop(
                format!("column `{name}` holds text ({place}: {found}; {} in all)", cells(of.text)),
                few.then_some("correct them"),
            );
        } else if let Some((place, found)) = &of.first_large {
            let problem = format!(
                "column `{name}` holds numbers beyond {:.2e} ({place}: {found}; {} in all)",
                f32::MAX,
                cells(of.large)
            );
            drop(problem, Some("rescale it"));
        } else if of.missing as f64 > MOSTLY * rows as f64 {
            drop(format!("column `{name}` is missing in {} of {rows} rows", of.missing), None);
        } else {
            kept.push(k);
        }
    }
    if kept.is_empty() {
        // to leave out everything is no advice
        return Ok(Vec::new());
    }
    let table = builder.finish()?.of_columns(&kept);
    let missing: Vec<usize> = kept.iter().copied().filter(|&k| columns[k].missing > 0).collect();
    let Some(table) = table.filter(|table| table.rows() > 0) else { return Ok(refusals) };
    if options.missing == Missing::Error
        && let Some(&first) = missing.first()
    {
        let names: Vec<String> =
            missing.iter().take(6).map(|&k| format!("`{}`", names[k])).collect();
        let more = if missing.len() > 6 {
            format!(" and {} more", missing.len() - 6)
        } else {
            String::new()
        };
        let problem = format!(
            "{} of {rows} rows have missing cells, in {}{more} (first: {})",
            rows - table.rows(),
            names.join(", "),
            columns[first].first_missing.as_deref().unwrap_or_default()
        );
        refusals.push(Refusal { problem, fix: Fix::DropRows });
    }
    refusals.extend(table.refusals(dequantize));
    Ok(refusals)
}

/// The place of a column that as a whole does not hold numbers.
pub(super) const SCHEMA: &str = "schema";

impl Table {
    /// Some of the columns, in the rows in which none of them is missing; none if there is no such
    /// column.
    fn of_columns(mut self, kept: &[usize]) -> Option<Table> {
        if kept.is_empty() {
            return None;
        }
        let rows = self.values.chunks_exact(self.dim());
        let complete = rows.filter(|row| kept.iter().all(|&k| row[k].is_finite()));
        self.values = complete.flat_map(|row| kept.iter().map(|&k| row[k])).collect();
        self.sample = self.sample.of_columns(kept);
        self.columns = kept.iter().map(|&k| self.columns[k].clone()).collect();
        self.cells = kept.iter().map(|&k| self.cells[k]).collect();
        let mut moments = vec![super::builder::Moments::default(); kept.len()];
        for row in self.values.chunks_exact(kept.len()) {
            moments.iter_mut().zip(row).for_each(|(moments, &value)| moments.push(value.into()));
        }
        self.moments = moments;
        Some(self)
    }
}

/// Whether remedies for a table read with `options` may name the flags of `tweedie train`.
pub(super) fn for_training(options: &TableOptions) -> bool {
    options.reader == Reader::Training
}
