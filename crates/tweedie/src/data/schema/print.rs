//! A schema as a table for people.

use std::fmt;

use super::numbers::EXACT;
use super::{CategoryOf, ColumnSchema, Kind, Schema};
use crate::data::scaling::Grid;
use crate::data::times::{TimeFormat, step_in_words};
use crate::data::write::decimals;

/// Characters of a column's name that are shown.
const NAME: usize = 28;
/// Names of a category that are listed where they are no more than this, and their characters.
const NAMES: usize = 4;
const NAMES_LENGTH: usize = 50;
/// Atoms that are listed.
const ATOMS: usize = 3;

/// The first `most` characters of a text.
fn short(text: &str, most: usize) -> String {
    match text.chars().count() > most {
        true => text.chars().take(most - 1).chain(['…']).collect(),
        false => text.to_owned(),
    }
}

/// A share in percent, of two digits where it is below 10.
fn percent(part: usize, of: usize) -> String {
    let share = 100.0 * part as f64 / of.max(1) as f64;
    match share {
        share if part > 0 && share < 0.1 => "< 0.1 %".into(),
        share if share < 10.0 => format!("{share:.1} %"),
        // not all where some are missing
        share if part < of => format!("{:.0} %", share.min(99.0)),
        share => format!("{share:.0} %"),
    }
}

impl ColumnSchema {
    /// The kind in a word or two.
    pub fn kind_in_words(&self) -> &'static str {
        match &self.kind {
            Kind::Number { .. } => "number",
            Kind::Category { .. } => "category",
            Kind::Time { format, .. } => match TimeFormat::new(format) {
                Some(format) if format.is_date() => "date",
                _ => "time",
            },
            Kind::Constant { .. } => "constant",
            Kind::LeftOut { .. } => "left out",
        }
    }

    /// What was found in the column, whose table has `rows` rows.
    fn found(&self, rows: usize) -> String {
        let mut parts = match &self.kind {
            Kind::Number { .. } => self.number_in_words(rows),
            Kind::Category { names, of } => {
                let s = if names.len() == 1 { "" } else { "s" };
                let what = match of {
                    CategoryOf::Text => format!("{} value{s}", names.len()),
                    CategoryOf::Boolean => "true or false".to_owned(),
                    CategoryOf::Integer => format!("{} whole number{s}", names.len()),
                    CategoryOf::Number => format!("{} number{s}", names.len()),
                };
                let listed = match of {
                    CategoryOf::Boolean => String::new(),
                    _ if names.len() <= NAMES => short(&names.join(", "), NAMES_LENGTH),
                    CategoryOf::Text => String::new(),
                    _ => format!("{}…{}", names[0], names[names.len() - 1]),
                };
                vec![if listed.is_empty() { what } else { format!("{what}: {listed}") }]
            }
            Kind::Time { format, unit, range } => {
                let mut parts = vec![step_in_words(*unit)];
                if let Some(format) = TimeFormat::new(format) {
                    let [first, last] = range.map(|time| format.write(time));
                    parts.push(format!("{first}…{last}"));
                }
                parts
            }
            Kind::Constant { text } => vec![format!("{:?} in every row", short(text, NAME))],
            Kind::LeftOut { why } => return why.clone(),
        };
        match self.bounds.map(|bound| bound.map(|value| self.value_in_words(value))) {
            [None, None] => (),
            [Some(low), None] => parts.push(format!("at least {low}")),
            [None, Some(high)] => parts.push(format!("at most {high}")),
            [Some(low), Some(high)] => parts.push(format!("within {low}…{high}")),
        }
        if let Some(difference) = &self.difference {
            parts.push(format!("never less than {}", short(&difference.to, NAME)));
        }
        if self.holes > 0 {
            let what = if self.indicated { "missing, a category" } else { "missing" };
            parts.push(format!("{} {what}", percent(self.holes, rows)));
        }
        parts.join(", ")
    }
}

impl ColumnSchema {
    /// A value as the column's cells are written.
    pub(super) fn value_in_words(&self, value: f64) -> String {
        match &self.kind {
            Kind::Time { format, .. } => {
                TimeFormat::new(format).map_or_else(String::new, |format| format.write(value))
            }
            _ => format!("{value}"),
        }
    }

    /// What was found in a column of numbers.
    fn number_in_words(&self, rows: usize) -> Vec<String> {
        let Kind::Number {
            decimals: most,
            written,
            grid,
            off_grid,
            atoms,
            atom_rows,
            shift,
            range,
        } = &self.kind
        else {
            return Vec::new();
        };
        let text = |value: f64| match written {
            Some([least, most]) => decimals(value, *least, *most),
            None => format!("{value}"),
        };
        let whole = |grid: &Grid| grid.bin.fract() == 0.0 && grid.origin.fract() == 0.0;
        let are_whole = *most == Some(0) || grid.as_ref().is_some_and(whole);
        let what = match most {
            _ if are_whole => "whole numbers".to_owned(),
            Some(most) => format!("{most} decimal{}", if *most == 1 { "" } else { "s" }),
            None => "real numbers".to_owned(),
        };
        let [low, high] = range.map(text);
        let off = match off_grid {
            0 => String::new(),
            1 => " but for one row".into(),
            off => format!(" but for {off} rows"),
        };
        let mut parts = vec![format!("{what} {low}…{high}")];
        let last = if are_whole { Some(1.0) } else { most.map(|most| 10_f64.powi(-(most as i32))) };
        if let Some(grid) = grid
            && last.is_none_or(|last| grid.bin > 1.5 * last)
        {
            parts.push(format!("in steps of {}", short_number(grid.bin)));
        }
        if let Some(part) = parts.last_mut() {
            part.push_str(&off);
        }
        let spread = range.iter().map(|value| (value - shift).abs()).fold(0.0, f64::max);
        if *most == Some(0) && spread > EXACT {
            parts.push("rounded to 7 digits".into());
        }
        parts.extend(atoms_in_words(atoms, atom_rows, rows - self.holes, text));
        parts
    }
}

/// A number in no more than 6 digits.
fn short_number(value: f64) -> String {
    let rounded: f64 = format!("{value:.5e}").parse().unwrap_or(value);
    format!("{rounded}")
}

/// Atoms with their shares of the `present` rows.
fn atoms_in_words(
    atoms: &[f64],
    rows: &[usize],
    present: usize,
    text: impl Fn(f64) -> String,
) -> Option<String> {
    let of =
        |(&atom, &rows): (&f64, &usize)| format!("{} ({})", text(atom), percent(rows, present));
    let mut listed: Vec<String> = atoms.iter().zip(rows).take(ATOMS).map(of).collect();
    if atoms.len() > ATOMS {
        listed.push(format!("{} more", atoms.len() - ATOMS));
    }
    let s = if atoms.len() == 1 { "" } else { "s" };
    (!atoms.is_empty()).then(|| format!("atom{s} at {}", listed.join(", ")))
}

impl Schema {
    /// The schema as a table, a line for each column: its name, what it is, what was found.
    pub fn lines(&self) -> Vec<String> {
        let names: Vec<String> = self.columns.iter().map(|c| short(&c.name, NAME)).collect();
        let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
        let line = |(column, name): (&ColumnSchema, &String)| {
            let pad = " ".repeat(width - name.chars().count());
            let (kind, found) = (column.kind_in_words(), column.found(self.rows));
            // a name may hold a line's end, or worse
            format!("{}{pad}  {kind:<8}  {}", plain(name), plain(&found))
        };
        self.columns.iter().zip(&names).map(line).collect()
    }
}

/// A text without characters that move a terminal's cursor.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.lines().join("\n"))
    }
}
