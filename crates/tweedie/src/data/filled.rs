//! Missing cells of one table, taken from another, and columns beside those of a table.

use std::sync::Arc;

use super::column::{Categories, Values};
use super::dataset::{Content, Dataset};
use super::schema::{ColumnSchema, Kind};
use crate::{Error, Result};

impl Dataset {
    /// The table with the cells of `other`, which has its columns and rows, where its own are
    /// missing.
    ///
    /// # Panics
    /// If rows or columns are not the same.
    pub fn filled(&self, other: &Dataset) -> Dataset {
        assert_eq!((self.names(), self.rows()), (other.names(), other.rows()), "tables alike");
        let columns = self.table().iter().zip(other.table());
        let columns =
            columns.map(|((name, own), (_, other))| (name.clone(), filled(own, other))).collect();
        Dataset { content: Arc::new(Content::Table(columns)), ..self.clone() }
    }

    /// The table with other values in its columns, in their order.
    pub(crate) fn with_values(&self, values: Vec<Values>) -> Dataset {
        assert_eq!(values.len(), self.table().len(), "a column for each");
        let columns = self.table().iter().zip(values);
        let columns = columns.map(|((name, _), values)| (name.clone(), values)).collect();
        Dataset { content: Arc::new(Content::Table(columns)), ..self.clone() }
    }

    /// The table with all cells missing of columns that `emptied` says.
    pub(crate) fn without_cells(&self, emptied: impl Fn(&str) -> bool) -> Dataset {
        let empty = |values: &Values| match values.categories() {
            Some(of) => Values::Category(Categories {
                names: of.names.clone(),
                codes: vec![Categories::MISSING; values.len()],
            }),
            None => Values::Double(vec![f64::NAN; values.len()]),
        };
        let column = |(name, values): &(String, Values)| match emptied(name) {
            true => empty(values),
            false => values.clone(),
        };
        self.with_values(self.table().iter().map(column).collect())
    }

    /// Makes the missing cells of columns that have any in these rows categories of their own, and
    /// no others; the names of these columns.
    pub(crate) fn indicate(&mut self, rows: &[usize]) -> Vec<String> {
        let has_holes = |values: &Values| {
            values.holes() > 0 && rows.iter().any(|&row| values.get(row).is_nan())
        };
        let own = self.table().iter().filter(|(_, values)| has_holes(values));
        let names: Vec<String> = own.map(|(name, _)| name.clone()).collect();
        if let Some(schema) = &mut self.schema {
            for column in &mut Arc::make_mut(schema).columns {
                column.indicated = names.contains(&column.name);
            }
        }
        names
    }

    /// The table with a column of whole numbers before its own.
    ///
    /// # Errors
    /// As [`Dataset::with_columns`].
    ///
    /// # Panics
    /// As [`Dataset::with_columns`].
    pub(crate) fn numbered(&self, name: &str, numbers: Vec<i64>) -> Result<Dataset> {
        let range = [0.0, numbers.iter().copied().max().unwrap_or(0) as f64];
        let kind = Kind::Number {
            decimals: Some(0),
            written: Some([0, 0]),
            grid: None,
            off_grid: 0,
            atoms: Vec::new(),
            atom_rows: Vec::new(),
            shift: 0.0,
            range,
        };
        let column = ColumnSchema::new(name.into(), kind, 0);
        let mut names = vec![name.to_owned()];
        names.extend(self.names());
        self.with_columns(vec![(column, Values::Integer(numbers))])?.select(&names)
    }

    /// The table with columns after its own, which are written as their schemas say.
    ///
    /// # Errors
    /// [`Error::Data`] if it has a column of that name.
    ///
    /// # Panics
    /// If it was not read as it comes, or a column has other rows.
    pub(crate) fn with_columns(&self, more: Vec<(ColumnSchema, Values)>) -> Result<Dataset> {
        let mut schema = (**self.schema.as_ref().expect("a table with a schema")).clone();
        let mut columns = self.table().to_vec();
        for (column, values) in more {
            assert_eq!(values.len(), self.rows(), "rows of `{}`", column.name);
            let name = column.name.clone();
            if schema.column(&name).is_some() {
                let problem = format!("has a column `{name}`, as one that is to be written beside");
                return Err(Error::data(self.called(), problem, "give it another name"));
            }
            schema.columns.push(column);
            columns.push((name, values));
        }
        let (content, schema) = (Arc::new(Content::Table(columns)), Some(Arc::new(schema)));
        Ok(Dataset { content, schema, ..self.clone() })
    }
}

fn filled(own: &Values, other: &Values) -> Values {
    match (own, other) {
        (Values::Category(own), Values::Category(other)) => {
            assert_eq!(own.names, other.names, "categories alike");
            let code = |(&own, &other): (&u32, &u32)| match own {
                Categories::MISSING => other,
                own => own,
            };
            let codes = own.codes.iter().zip(&other.codes).map(code).collect();
            Values::Category(Categories { names: own.names.clone(), codes })
        }
        _ if own.holes() == 0 => own.clone(),
        _ => {
            let value = |row: usize| match own.get(row) {
                value if value.is_nan() => other.get(row),
                value => value,
            };
            Values::Double((0..own.len()).map(value).collect())
        }
    }
}
