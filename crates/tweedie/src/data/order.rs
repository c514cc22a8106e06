//! Orders of columns: a column that is never less than another.
//!
//! A model sees such a column by its difference to the other, which is 0 or more:
//! `(a, b) ↦ (a, b − a)` has the Jacobian 1, so that a density of the differences is one of the
//! columns.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::column::Values;
use super::dataset::Dataset;
use super::scaling::Grid;
use super::schema::{ColumnSchema, GRID_STEPS, Kind, Schema, atoms_of, shift_of};
use crate::{Error, Result};

/// The path of the option, for messages.
pub(super) const ORDER: &str = "data.table.order";
/// The share of a step by which a difference may miss its grid by rounding.
const OF_A_STEP: f64 = 1e-6;

/// Two columns of which one is never less than the other, as a user says it: `start<=end`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Order {
    /// The name of the column that is never greater.
    pub lower: String,
    /// The name of the column that is never less.
    pub upper: String,
}

impl FromStr for Order {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Order, String> {
        let (lower, upper) = text.split_once("<=").unwrap_or_default();
        let [lower, upper] = [lower, upper].map(|part| part.trim().to_owned());
        match lower.is_empty() || upper.is_empty() {
            true => Err(format!("'{text}' is no order of two columns, such as start<=end")),
            false => Ok(Order { lower, upper }),
        }
    }
}

impl TryFrom<String> for Order {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Order, String> {
        text.parse()
    }
}

impl From<Order> for String {
    fn from(order: Order) -> String {
        order.to_string()
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}<={}", self.lower, self.upper)
    }
}

/// What a model sees of a column that is never less than another: its difference to the other.
///
/// Values are in units of the column, of dates and times in seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// The name of the other column.
    pub to: String,
    /// The regular grid on which the differences lie, where the column lies on one.
    pub grid: Option<Grid>,
    /// The decimals that the differences have, where both columns have a fixed few.
    pub decimals: Option<u32>,
    /// Differences that repeat so often that no density holds them, increasing.
    pub atoms: Vec<f64>,
    /// The rows of each atom.
    pub atom_rows: Vec<usize>,
    /// What is subtracted before single precision, which would otherwise not distinguish the
    /// differences; 0 wherever it does.
    pub shift: f64,
}

impl Difference {
    /// `upper − lower` without the rounding errors of numbers that are decimals; NaN where one is.
    pub fn of(&self, lower: f64, upper: f64) -> f64 {
        let difference = upper - lower;
        if let Some(Grid { bin, origin }) = self.grid {
            let steps = (difference - origin) / bin;
            if (steps - steps.round()).abs() < OF_A_STEP {
                return origin + bin * steps.round();
            }
        } else if let Some(decimals) = self.decimals {
            let unit = 10_f64.powi(decimals as i32);
            return (difference * unit).round() / unit;
        }
        difference
    }

    /// What is wrong with one that was stored.
    pub(super) fn problem(&self) -> Option<&'static str> {
        let right = self.atoms.len() == self.atom_rows.len()
            && self.atoms.windows(2).all(|pair| pair[0] < pair[1])
            && self.atoms.iter().all(|atom| atom.is_finite())
            && self.shift.is_finite()
            && self.decimals.is_none_or(|decimals| decimals <= 17)
            && self.grid.is_none_or(|g| g.bin.is_normal() && g.bin > 0.0 && g.origin.is_finite());
        (!right).then_some("has a difference with a grid or atoms that are none")
    }
}

/// The step and a point of the grid of a column of numbers or times.
fn grid_of(kind: &Kind) -> Option<Grid> {
    match kind {
        Kind::Number { grid, .. } => *grid,
        Kind::Time { unit, range, .. } => Some(Grid { bin: *unit, origin: range[0] }),
        _ => None,
    }
}

/// The decimals of a column: in a sample, and as it is written; none of real numbers.
fn decimals_of(kind: &Kind) -> [Option<u32>; 2] {
    match kind {
        Kind::Number { decimals, written, .. } => [*decimals, written.map(|[_, most]| most)],
        _ => [None, None],
    }
}

/// Why the difference of the two columns is none that a model can have, and a remedy.
fn refusal(lower: &ColumnSchema, upper: &ColumnSchema) -> Option<(String, String)> {
    let leave = || "leave the order out".to_owned();
    for column in [lower, upper] {
        if !matches!(column.kind, Kind::Number { .. } | Kind::Time { .. }) {
            let problem = format!("`{}` is a {}", column.name, column.kind_in_words());
            let remedy = match column.kind {
                Kind::Category { .. } => format!("say data.types = {}=number", column.name),
                _ => leave(),
            };
            return Some((problem, remedy));
        }
    }
    if matches!(lower.kind, Kind::Time { .. }) != matches!(upper.kind, Kind::Time { .. }) {
        return Some(("one is of numbers, the other of dates".into(), leave()));
    }
    let name = &upper.name;
    if let Kind::Number { atoms, .. } = &upper.kind
        && let Some(atom) = atoms.first()
    {
        let problem = format!("`{name}` has an atom, {atom}, which a difference has not");
        return Some((problem, leave()));
    }
    if upper.bounds != [None, None] {
        let problem = format!("`{name}` has bounds of its own, which its difference has not");
        return Some((problem, format!("give bounds of `{}`", lower.name)));
    }
    let of_a_grid = match (grid_of(&lower.kind), grid_of(&upper.kind)) {
        (_, None) => None,
        (None, Some(_)) => Some(format!("`{name}` lies on a grid and `{}` does not", lower.name)),
        (Some(own), Some(grid)) => {
            let steps = own.bin / grid.bin;
            let whole = steps.round() >= 1.0 && (steps - steps.round()).abs() < OF_A_STEP;
            let problem = format!(
                "`{name}` lies on a grid of steps of {}, of which those of `{}`, {}, are no \
                 multiple",
                grid.bin, lower.name, own.bin
            );
            (!whole).then_some(problem)
        }
    };
    if let Some(problem) = of_a_grid {
        return Some((problem, leave()));
    }
    let fewer = |(lower, upper): (Option<u32>, Option<u32>)| {
        upper.is_some_and(|upper| lower.is_none_or(|lower| lower > upper))
    };
    let both = decimals_of(&lower.kind).into_iter().zip(decimals_of(&upper.kind));
    // on a grid the steps say it
    match matches!(upper.kind, Kind::Number { grid: None, .. }) && both.into_iter().any(fewer) {
        true => Some((format!("`{name}` has fewer decimals than `{}`", lower.name), leave())),
        false => None,
    }
}

impl Schema {
    /// Sets the orders of columns, of which the differences are not yet known.
    ///
    /// # Errors
    /// [`Error::Config`] for a column that is not there or whose difference no model can have, a
    /// column that is the right side of two orders, and columns in a circle.
    pub(super) fn order(&mut self, orders: &[Order]) -> Result<()> {
        let wrong = |order: &Order, problem: String, remedy: String| {
            Err(Error::config(ORDER, format!("{order}: {problem}"), remedy))
        };
        for order in orders {
            let (Some(lower), Some(upper)) = (self.column(&order.lower), self.column(&order.upper))
            else {
                let names: Vec<&str> = self.kept().map(|column| column.name.as_str()).collect();
                let problem = "the table has no such column".to_owned();
                return wrong(order, problem, format!("name some of {}", names.join(", ")));
            };
            if order.lower == order.upper {
                return wrong(order, "a column and itself".into(), "leave it out".into());
            }
            if let Some(difference) = &upper.difference {
                let (name, to) = (&upper.name, &difference.to);
                let problem = format!("`{name}` is the right side of two, with {to}<={name}");
                return wrong(order, problem, "give one of them".into());
            }
            if let Some((problem, remedy)) = refusal(lower, upper) {
                return wrong(order, problem, remedy);
            }
            let (bin, origins) = match (grid_of(&lower.kind), grid_of(&upper.kind)) {
                (Some(lower), Some(upper)) => (upper.bin, [lower.origin, upper.origin]),
                _ => (0.0, [0.0; 2]),
            };
            let grid = (bin > 0.0).then(|| {
                let origin = (origins[1] - origins[0]).rem_euclid(bin);
                // a whole step is none but for rounding
                let origin = if bin - origin < OF_A_STEP * bin { 0.0 } else { origin };
                Grid { bin, origin }
            });
            let decimals = match [lower, upper].map(|column| decimals_of(&column.kind)[0]) {
                [Some(lower), Some(upper)] => Some(lower.max(upper)),
                _ => None,
            };
            let difference = Difference {
                to: order.lower.clone(),
                grid,
                decimals,
                atoms: Vec::new(),
                atom_rows: Vec::new(),
                shift: 0.0,
            };
            let upper = self.columns.iter_mut().find(|column| column.name == order.upper);
            upper.expect("a column of the schema").difference = Some(difference);
            if self.is_circular(&order.upper) {
                let remedy = "leave one of them out".to_owned();
                return wrong(order, "orders go in a circle".into(), remedy);
            }
        }
        Ok(())
    }

    /// Whether a column is a difference to itself, by way of others.
    pub(super) fn is_circular(&self, name: &str) -> bool {
        let to = |name: &str| Some(self.column(name)?.difference.as_ref()?.to.as_str());
        let chain = std::iter::successors(to(name), |name| to(name));
        chain.take(self.columns.len()).any(|other| other == name)
    }

    /// The columns whose differences are modelled, each with the one to which they are.
    pub fn differences(&self) -> impl Iterator<Item = (&ColumnSchema, &Difference)> {
        self.kept().filter_map(|column| Some((column, column.difference.as_ref()?)))
    }

    /// Refuses columns that are given by the option `field` without those to which their
    /// differences are modelled.
    pub(crate) fn check_together(&self, field: &str, names: &[impl AsRef<str>]) -> Result<()> {
        let one_of = |name: &str| names.iter().any(|other| other.as_ref() == name);
        let is_apart =
            |(column, own): &(&ColumnSchema, &Difference)| one_of(&column.name) && !one_of(&own.to);
        let Some((column, Difference { to, .. })) = self.differences().find(is_apart) else {
            return Ok(());
        };
        let name = &column.name;
        let problem = format!("`{name}` is modelled by its difference to `{to}`, not given");
        Err(Error::config(field, problem, format!("give `{to}` too")))
    }

    /// Refuses a schema without one of these orders.
    pub(crate) fn check_ordered(&self, orders: &[Order]) -> Result<()> {
        let has = |order: &&Order| {
            let of = |column: &ColumnSchema| Some(column.difference.as_ref()?.to == order.lower);
            self.column(&order.upper).and_then(of) == Some(true)
                && self.column(&order.lower).is_some_and(ColumnSchema::is_kept)
                && self.column(&order.upper).is_some_and(ColumnSchema::is_kept)
        };
        match orders.iter().find(|order| !has(order)) {
            None => Ok(()),
            Some(order) => {
                let problem = format!("{order}: a column is left out");
                Err(Error::config(ORDER, problem, "leave the order out"))
            }
        }
    }
}

/// The first row in which `upper` is less than `lower`.
pub(super) fn first_out_of_order(lower: &Values, upper: &Values) -> Option<usize> {
    (0..upper.len()).find(|&row| upper.get(row) < lower.get(row))
}

impl Dataset {
    /// The values of the columns whose differences are modelled, with those to which they are.
    fn both(&self) -> Vec<(&ColumnSchema, &Difference, [&Values; 2])> {
        let values: HashMap<&str, &Values> =
            self.table().iter().map(|(name, values)| (name.as_str(), values)).collect();
        let schema = self.schema().into_iter().flat_map(Schema::differences);
        schema
            .filter_map(|(column, difference)| {
                let lower = *values.get(difference.to.as_str())?;
                let upper = *values.get(column.name.as_str())?;
                Some((column, difference, [lower, upper]))
            })
            .collect()
    }

    /// The data set with what the differences of its columns are: their atoms, and whether their
    /// grid is fine enough for single precision.
    pub(super) fn with_differences(mut self) -> Dataset {
        let mut found = Vec::new();
        for (column, difference, [lower, upper]) in self.both() {
            let all = (0..upper.len()).map(|row| difference.of(lower.get(row), upper.get(row)));
            let all: Vec<f64> = all.filter(|value| !value.is_nan()).collect();
            let low = all.iter().copied().fold(f64::INFINITY, f64::min).min(f64::MAX);
            let high = all.iter().copied().fold(0.0, f64::max);
            let low = low.min(high);
            let grid = difference.grid.filter(|grid| (high - low) / grid.bin <= GRID_STEPS);
            let shift = match column.kind {
                Kind::Time { unit, .. } => unit * ((low + high) / 2.0 / unit).round(),
                _ => shift_of([low, high], difference.decimals),
            };
            let (atoms, atom_rows) = atoms_of(all.into_iter(), grid.is_some()).into_iter().unzip();
            let own = Difference { grid, atoms, atom_rows, shift, ..difference.clone() };
            found.push((column.name.clone(), own));
        }
        let Some(schema) = self.schema.as_mut().filter(|_| !found.is_empty()) else { return self };
        let schema = std::sync::Arc::make_mut(schema);
        for (name, difference) in found {
            let column = schema.columns.iter_mut().find(|column| column.name == name);
            column.expect("a column of the schema").difference = Some(difference);
        }
        self
    }

    /// The first row in which a column is there whose difference is modelled and that to which it
    /// is is missing: the columns' names and the row, from 0.
    pub(crate) fn first_unknown_difference(&self) -> Option<(String, String, usize)> {
        self.both().into_iter().find_map(|(column, difference, [lower, upper])| {
            let row = (0..upper.len()).find(|&row| is_unknown(lower, upper, row))?;
            Some((column.name.clone(), difference.to.clone(), row))
        })
    }

    /// The table without the cells whose differences are unknown, as a model takes it.
    pub(crate) fn without_unknown_differences(&self) -> Dataset {
        let mut table = self.clone();
        // of a chain a cell that is taken for missing leaves the next one without its difference
        while table.first_unknown_difference().is_some() {
            let mut values: Vec<Values> = table.table().iter().map(|(_, v)| v.clone()).collect();
            let names = table.names();
            for (column, _, [lower, upper]) in table.both() {
                let known = (0..upper.len()).map(|row| match is_unknown(lower, upper, row) {
                    true => f64::NAN,
                    false => upper.get(row),
                });
                let known = Values::Double(known.collect());
                if let Some(k) = names.iter().position(|name| *name == column.name) {
                    values[k] = known;
                }
            }
            table = table.with_values(values);
        }
        table
    }

    /// What has to be said of cells that are taken for missing, a sentence for each column.
    pub(crate) fn unknown_differences(&self) -> Vec<String> {
        if self.first_unknown_difference().is_none() {
            return Vec::new();
        }
        let known = self.without_unknown_differences();
        let after = known.both().into_iter().map(|(_, _, [_, upper])| upper.holes());
        let of = |((column, difference, [_, upper]), after): (
            (&ColumnSchema, &Difference, [&Values; 2]),
            usize,
        )| {
            let count = after - upper.holes();
            let (name, to) = (&column.name, &difference.to);
            let s = if count == 1 { " is" } else { "s are" };
            (count > 0).then(|| {
                format!(
                    "{count} cell{s} taken for missing in `{name}`, which is modelled by its \
                     difference to `{to}`: that is missing there"
                )
            })
        };
        self.both().into_iter().zip(after).filter_map(of).collect()
    }
}

fn is_unknown(lower: &Values, upper: &Values, row: usize) -> bool {
    lower.get(row).is_nan() && !upper.get(row).is_nan()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_as_they_are_written() {
        let order: Order = " start <= end".parse().unwrap();
        assert_eq!((order.lower.as_str(), order.upper.as_str()), ("start", "end"));
        assert_eq!(order.to_string(), "start<=end");
        for text in ["start", "start<end", "<=end", "start<=", ""] {
            let message = text.parse::<Order>().unwrap_err();
            assert!(message.contains("is no order"), "{message}");
        }
    }

    #[test]
    fn differences_have_no_rounding_errors() {
        let of = |grid, decimals| Difference {
            to: "a".into(),
            grid,
            decimals,
            atoms: Vec::new(),
            atom_rows: Vec::new(),
            shift: 0.0,
        };
        assert_ne!(0.3 - 0.1, 0.2);
        assert_eq!(of(None, Some(1)).of(0.1, 0.3), 0.2);
        assert_eq!(of(Some(Grid { bin: 0.1, origin: 0.0 }), Some(1)).of(0.1, 0.3), 0.1 * 2.0);
        assert_eq!(of(None, None).of(0.1, 0.3), 0.3 - 0.1);
        assert!(of(None, Some(1)).of(f64::NAN, 0.3).is_nan());
    }
}
