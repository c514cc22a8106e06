//! Tables of numbers, categories and holes, as the scores of this module take them.

use std::collections::{BTreeMap, BTreeSet};

use crate::query::Cells;
use crate::{Error, Result};

/// The code of a hole in a column of categories.
pub const HOLE: u32 = Cells::MISSING;

/// A table of columns that are numbers or categories, any cell of which may be a hole.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    columns: Vec<Column>,
    rows: usize,
}

/// A column of a [`Table`].
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Its name, by which columns of several tables belong together.
    pub name: String,
    /// Its cells, one for each row.
    pub values: Values,
}

/// The cells of a [`Column`].
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Finite numbers; NaN is a hole.
    Numbers(Vec<f64>),
    /// Categories by their places in a list of names, which need not be that of another table's
    /// column: categories of several tables belong together by their names.
    Categories {
        /// The names of the categories, each once.
        names: Vec<String>,
        /// A place in `names` for each row; [`HOLE`] is a hole.
        codes: Vec<u32>,
    },
}

impl Values {
    /// Number of cells.
    pub fn len(&self) -> usize {
        match self {
            Values::Numbers(numbers) => numbers.len(),
            Values::Categories { codes, .. } => codes.len(),
        }
    }

    /// Whether there is no cell.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn kind(&self) -> &'static str {
        match self {
            Values::Numbers(_) => "numbers",
            Values::Categories { .. } => "categories",
        }
    }
}

impl Table {
    /// A table of these columns.
    ///
    /// # Errors
    /// If there is no column or no row, columns differ in length or share a name, a number is
    /// infinite, or a code has no name or shares it.
    pub fn new(columns: Vec<Column>) -> Result<Table> {
        let refuse =
            |problem: String, remedy: &str| Error::config("quality.table", problem, remedy);
        let Some(first) = columns.first() else {
            return Err(refuse("no columns".into(), "give at least one"));
        };
        let rows = first.values.len();
        if rows == 0 {
            return Err(refuse("no rows".into(), "give at least one"));
        }
        let mut names = BTreeSet::new();
        for Column { name, values } in &columns {
            let column = format!("column `{name}`");
            if !names.insert(name) {
                return Err(refuse(format!("{column} is there twice"), "rename one"));
            }
            if values.len() != rows {
                let found = format!("{column} has {} cells, others {rows}", values.len());
                return Err(refuse(found, "give columns of equal length"));
            }
            match values {
                Values::Numbers(numbers) => {
                    if let Some(row) = numbers.iter().position(|x| x.is_infinite()) {
                        let found = format!("{column} is infinite in row {}", row + 1);
                        return Err(refuse(found, "leave such rows out, or make the cell a hole"));
                    }
                }
                Values::Categories { names, codes } => {
                    if names.iter().collect::<BTreeSet<_>>().len() < names.len() {
                        let found = format!("{column} names a category twice");
                        return Err(refuse(found, "give each category one name"));
                    }
                    let named = |code: &u32| *code == HOLE || (*code as usize) < names.len();
                    if let Some(code) = codes.iter().find(|code| !named(code)) {
                        let found = format!("{column} has code {code} of {} names", names.len());
                        return Err(refuse(found, "give a name for every code"));
                    }
                }
            }
        }
        Ok(Table { columns, rows })
    }

    /// The columns, in their order.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The place of the column called `name`.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// The rows at these places, in this order.
    pub(super) fn take(&self, rows: &[usize]) -> Table {
        let columns = (self.columns.iter())
            .map(|Column { name, values }| {
                let values = match values {
                    Values::Numbers(x) => Values::Numbers(rows.iter().map(|&i| x[i]).collect()),
                    Values::Categories { names, codes } => Values::Categories {
                        names: names.clone(),
                        codes: rows.iter().map(|&i| codes[i]).collect(),
                    },
                };
                Column { name: name.clone(), values }
            })
            .collect();
        Table { columns, rows: rows.len() }
    }

    /// This table with its columns in the order of `names`.
    fn ordered(&self, names: &[String]) -> Table {
        let column = |name: &String| self.position(name).map(|at| self.columns[at].clone());
        Table { columns: names.iter().filter_map(column).collect(), rows: self.rows }
    }
}

/// Tables with what they are called, each with the columns of the first in its order, and with one
/// numbering of a column's categories: first those of the first table, then what the next has more.
///
/// # Errors
/// If a column of one table is not in another, or not of the same kind.
pub(super) fn aligned<const N: usize>(tables: [(&str, &Table); N]) -> Result<[Table; N]> {
    let (called, first) = tables[0];
    let order: Vec<String> = first.columns.iter().map(|column| column.name.clone()).collect();
    for (other, table) in &tables[1..] {
        let path = format!("quality.{other}");
        let remedy = format!("give the same columns as in quality.{called}");
        for column in &first.columns {
            let problem = match table.position(&column.name) {
                None => format!("there is no column `{}`", column.name),
                Some(at) => match (table.columns[at].values.kind(), column.values.kind()) {
                    (here, there) if here == there => continue,
                    (here, _) => format!("column `{}` has {here}", column.name),
                },
            };
            return Err(Error::config(path, problem, remedy));
        }
        if let Some(more) = table.columns.iter().find(|c| first.position(&c.name).is_none()) {
            let problem = format!("column `{}` is one more", more.name);
            return Err(Error::config(path, problem, remedy));
        }
    }
    let mut ordered = tables.map(|(_, table)| table.ordered(&order));
    for at in 0..order.len() {
        let mut together: Vec<String> = Vec::new();
        let mut places: BTreeMap<String, u32> = BTreeMap::new();
        for table in &mut ordered {
            let Values::Categories { names, codes } = &mut table.columns[at].values else { break };
            let places: Vec<u32> = (names.iter())
                .map(|name| {
                    *places.entry(name.clone()).or_insert_with(|| {
                        together.push(name.clone());
                        together.len() as u32 - 1
                    })
                })
                .collect();
            let known = codes.iter_mut().filter(|code| **code != HOLE);
            known.for_each(|code| *code = places[*code as usize]);
        }
        for table in &mut ordered {
            if let Values::Categories { names, .. } = &mut table.columns[at].values {
                names.clone_from(&together);
            }
        }
    }
    Ok(ordered)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(name: &str, values: &[f64]) -> Column {
        Column { name: name.into(), values: Values::Numbers(values.to_vec()) }
    }

    fn categories(name: &str, names: &[&str], codes: &[u32]) -> Column {
        let names = names.iter().map(|name| name.to_string()).collect();
        Column { name: name.into(), values: Values::Categories { names, codes: codes.to_vec() } }
    }

    #[test]
    fn what_is_no_table_is_refused_in_one_line() {
        let refused = |columns: Vec<Column>, words: &str| {
            let message = Table::new(columns).unwrap_err().to_string();
            assert!(message.contains(words) && message.lines().count() == 1, "{message}");
        };
        refused(vec![], "no columns");
        refused(vec![numbers("a", &[])], "no rows");
        refused(vec![numbers("a", &[1.0]), numbers("a", &[2.0])], "`a` is there twice");
        refused(vec![numbers("a", &[1.0]), numbers("b", &[])], "`b` has 0 cells, others 1");
        refused(vec![numbers("a", &[0.0, f64::INFINITY])], "`a` is infinite in row 2");
        refused(vec![categories("a", &["x"], &[1])], "code 1 of 1 names");
        refused(vec![categories("a", &["x", "x"], &[1])], "names a category twice");
    }

    #[test]
    fn columns_and_categories_belong_together_by_name() {
        let first =
            Table::new(vec![categories("c", &["x", "y"], &[1, HOLE]), numbers("a", &[1.0, 2.0])]);
        let other = Table::new(vec![numbers("a", &[3.0]), categories("c", &["z", "y"], &[0])]);
        let (first, other) = (first.unwrap(), other.unwrap());
        let [first, other] = aligned([("train", &first), ("synthetic", &other)]).unwrap();
        assert_eq!(first.columns[0], categories("c", &["x", "y", "z"], &[1, HOLE]));
        assert_eq!(other.columns[0], categories("c", &["x", "y", "z"], &[2]));
        assert_eq!(other.columns[1], numbers("a", &[3.0]));
    }

    #[test]
    fn tables_of_other_columns_are_refused_in_one_line() {
        let table = |columns: Vec<Column>| Table::new(columns).unwrap();
        let first = table(vec![numbers("a", &[1.0]), categories("c", &["x"], &[0])]);
        let refused = |other: Table, words: &str| {
            let error = aligned([("train", &first), ("synthetic", &other)]).unwrap_err();
            assert_eq!(error.option(), Some("quality.synthetic"));
            let message = error.to_string();
            assert!(message.contains(words) && message.lines().count() == 1, "{message}");
        };
        refused(table(vec![numbers("a", &[1.0])]), "no column `c`");
        refused(table(vec![numbers("a", &[1.0]), numbers("c", &[1.0])]), "`c` has numbers");
        let mut more = first.columns.clone();
        more.push(numbers("b", &[1.0]));
        refused(table(more), "`b` is one more");
    }
}
