//! Missing cells of one table, taken from another.

use std::sync::Arc;

use super::column::{Categories, Values};
use super::dataset::{Content, Dataset};

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
