//! Everything that a table is refused for, in one error, with the options that make it one that
//! works.

use std::path::Path;

use super::options::{Missing, TableOptions};
use super::scaling::Dequantize;
use super::survey::survey;
use super::types::{TypeOptions, Types};
use super::{Dataset, formats};
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

/// The option that leaves columns out, and the setting that leaves out rows with missing cells.
pub(super) const DROP: &str = "data.table.drop";
pub(super) const DROP_ROWS: &str = "data.table.missing = drop-rows";

/// Refusals beyond this many are counted.
const LISTED: usize = 12;

/// `option = a,b`, the value quoted for a shell where a name needs that.
pub(super) fn option(path: &str, values: &[impl AsRef<str>]) -> String {
    let values: Vec<&str> = values.iter().map(AsRef::as_ref).collect();
    let joined = values.join(",");
    let plain = |c: char| c.is_alphanumeric() || "_-.,:/%+@^=".contains(c);
    match joined.chars().all(plain) {
        true => format!("{path} = {joined}"),
        false => format!("{path} = '{}'", joined.replace('\'', "'\\''")),
    }
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
            Fix::Drop(name, None) => format!("leave it out with {}", option(DROP, &[name])),
            Fix::Drop(name, Some(other)) => {
                format!("{other}, or leave it out with {}", option(DROP, &[name]))
            }
            Fix::DropRows => format!("leave such rows out with {DROP_ROWS}"),
        };
        return Error::data(path, problem, remedy);
    }
    let mut listed: Vec<String> = refusals
        .iter()
        .take(LISTED)
        .enumerate()
        .map(|(i, r)| match &r.fix {
            Fix::Drop(_, Some(other)) => format!("({}) {} ({other})", i + 1, r.problem),
            _ => format!("({}) {}", i + 1, r.problem),
        })
        .collect();
    if refusals.len() > LISTED {
        listed.push(format!("and {} more", refusals.len() - LISTED));
    }
    let mut set = Vec::new();
    if !dropped.is_empty() {
        let before = options.drop.iter().map(String::as_str);
        set.push(option(DROP, &before.chain(dropped).collect::<Vec<_>>()));
    }
    if refusals.iter().any(|r| matches!(r.fix, Fix::DropRows))
        || options.missing == Missing::DropRows
    {
        set.push(DROP_ROWS.to_owned());
    }
    let problem = format!("{} problems: {}", refusals.len(), listed.join("; "));
    Error::data(path, problem, format!("all are gone with {}", set.join(" ")))
}

impl Dataset {
    /// Reads a table or images to train on, columns as `types` says.
    ///
    /// # Errors
    /// As [`Dataset::read_numbers_to_train`] and [`Dataset::read_as_it_comes`].
    pub fn read_to_train(
        path: impl AsRef<Path>,
        types: &Types,
        options: &TableOptions,
        dequantize: &Dequantize,
    ) -> Result<Dataset> {
        let path = path.as_ref();
        let numbers = || Dataset::read_numbers_to_train(path, options, dequantize);
        let mixed = |types| Dataset::read_as_it_comes(path, types, options);
        match types {
            Types::Mixed(types) => mixed(types),
            Types::Numbers => numbers(),
            Types::Auto if *dequantize != Dequantize::None => numbers(),
            // standard input is read once
            Types::Auto if path == Path::new("-") => mixed(&TypeOptions::default()),
            Types::Auto if options.says_of_columns() && !formats::holds_images(path)? => {
                mixed(&TypeOptions::default())
            }
            Types::Auto => {
                // what is wrong with it as a table of numbers is of no interest: no survey
                match Dataset::read_with(path, options) {
                    Ok(table) if table.image().is_some() => return Ok(table),
                    Ok(table) if table.is_measured() && table.refusals(dequantize).is_empty() => {
                        return Ok(table);
                    }
                    Ok(_) => (),
                    Err(Error::Data { .. }) if !formats::holds_images(path)? => (),
                    Err(error) => return Err(error),
                }
                // the numbers are gone: two tables in memory are one too many
                mixed(&TypeOptions::default())
            }
        }
    }

    /// Reads a table of numbers, or images, to train on: [`Dataset::read_with`], then
    /// [`Dataset::check_columns`], with everything that is wrong in one error, which ends with the
    /// options that together make the table one that works.
    ///
    /// # Errors
    /// As those two.
    pub fn read_numbers_to_train(
        path: impl AsRef<Path>,
        options: &TableOptions,
        dequantize: &Dequantize,
    ) -> Result<Dataset> {
        let path = path.as_ref();
        let table = match Dataset::read_with(path, options) {
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
        if table.image().is_none() {
            table.check_columns(dequantize)?;
        }
        Ok(table)
    }
}
