//! Typed columns of a table.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::query::Cells;

/// What the values of a column are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ColumnKind {
    /// Real numbers.
    Float,
    /// Whole numbers: every cell written without point or exponent in a text file, an integer,
    /// boolean or date type in Parquet and NPY.
    Integer,
    /// Names out of a list.
    Category,
}

/// How the values of a column are stored and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CellType {
    /// Single precision: the shortest text that reads back as the same `f32`.
    Single,
    /// Double precision: the shortest text that reads back as the same `f64`.
    Double,
    /// Whole numbers.
    Integer,
    /// Names of categories.
    Text,
}

impl From<ColumnKind> for CellType {
    /// The type in which a sample of such a column is written.
    fn from(kind: ColumnKind) -> Self {
        match kind {
            ColumnKind::Float => CellType::Single,
            ColumnKind::Integer => CellType::Integer,
            ColumnKind::Category => CellType::Text,
        }
    }
}

/// Name and kind of a column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its name in the file; `c1`, `c2`, … where the file has none. A repeated name gets `.1`,
    /// `.2`, … appended.
    pub name: String,
    /// What its values are.
    pub kind: ColumnKind,
}

/// One cell as a file has it; of a column of categories the number of its category.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Cell {
    Integer(i64),
    Real(f64),
    Missing,
}

impl Cell {
    /// NaN where the cell is missing.
    pub fn value(self) -> f64 {
        match self {
            Cell::Integer(value) => value as f64,
            Cell::Real(value) => value,
            Cell::Missing => f64::NAN,
        }
    }

    /// The nearest whole number; 0 where the cell is missing.
    pub fn rounded(self) -> i64 {
        match self {
            Cell::Integer(value) => value,
            other => other.value().round() as i64,
        }
    }
}

/// The categories of rows: names, and for each row the number of one of them.
///
/// ```
/// use tweedie::data::Categories;
///
/// let colours = Categories::of_texts([Some("red"), None, Some("blue"), Some("red")]);
/// assert_eq!(*colours.names, ["blue", "red"]);
/// assert_eq!(colours.codes, [1, Categories::MISSING, 0, 1]);
/// assert_eq!((colours.name(0), colours.name(1)), (Some("red"), None));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Categories {
    /// The names, each once.
    pub names: Arc<Vec<String>>,
    /// For each row the number of its category among the names, from 0, or
    /// [`Categories::MISSING`].
    pub codes: Vec<u32>,
}

impl Categories {
    /// The code of a missing cell.
    pub const MISSING: u32 = Cells::MISSING;

    /// Categories of rows, by the numbers `codes` among `names`.
    ///
    /// # Panics
    /// If a code is neither the number of a name nor [`Categories::MISSING`].
    pub fn new(names: Arc<Vec<String>>, codes: Vec<u32>) -> Categories {
        let known = |&code: &u32| code == Categories::MISSING || (code as usize) < names.len();
        if let Some(code) = codes.iter().find(|code| !known(code)) {
            panic!("code {code} of {} categories", names.len());
        }
        Categories { names, codes }
    }

    /// Categories by name, none where a cell is missing; their names are those that occur, sorted.
    pub fn of_texts<'a>(texts: impl IntoIterator<Item = Option<&'a str>>) -> Categories {
        let texts: Vec<Option<&str>> = texts.into_iter().collect();
        let mut names: Vec<&str> = texts.iter().flatten().copied().collect();
        names.sort_unstable();
        names.dedup();
        let code = |text: &Option<&str>| match text {
            Some(text) => names.partition_point(|name| name < text) as u32,
            None => Categories::MISSING,
        };
        let codes = texts.iter().map(code).collect();
        Categories { names: Arc::new(names.into_iter().map(String::from).collect()), codes }
    }

    /// The name of row `i`, from 0; none where its cell is missing.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn name(&self, i: usize) -> Option<&str> {
        self.names.get(self.codes[i] as usize).map(String::as_str)
    }
}

/// The values of a column, in the type that the file has them in.
///
/// A table that is read as it comes ([`super::Dataset::read_as_it_comes`]) may have holes: NaN
/// among real numbers, [`Categories::MISSING`] among categories. No other table has any.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Real numbers of a file in single precision.
    Single(Vec<f32>),
    /// Real numbers; of dates and times seconds since 1970-01-01.
    Double(Vec<f64>),
    /// Whole numbers.
    Integer(Vec<i64>),
    /// Categories.
    Category(Categories),
}

/// The same expression for each type of values.
macro_rules! each {
    ($values:expr, $v:ident => $result:expr) => {
        match $values {
            Values::Single($v) => $result,
            Values::Double($v) => $result,
            Values::Integer($v) => $result,
            Values::Category(Categories { codes: $v, .. }) => $result,
        }
    };
}

impl Values {
    /// No values yet, of type `cells`.
    pub(super) fn empty(cells: CellType) -> Values {
        match cells {
            CellType::Single => Values::Single(Vec::new()),
            CellType::Double => Values::Double(Vec::new()),
            CellType::Integer => Values::Integer(Vec::new()),
            CellType::Text => Values::Category(Categories::of_texts([])),
        }
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        each!(self, v => v.len())
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value in row `i`, from 0, of categories its number; NaN where the cell is missing.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn get(&self, i: usize) -> f64 {
        match self {
            Values::Single(v) => v[i].into(),
            Values::Double(v) => v[i],
            Values::Integer(v) => v[i] as f64,
            Values::Category(v) => match v.codes[i] {
                Categories::MISSING => f64::NAN,
                code => code.into(),
            },
        }
    }

    /// The number of missing cells.
    pub fn holes(&self) -> usize {
        match self {
            Values::Single(v) => v.iter().filter(|v| v.is_nan()).count(),
            Values::Double(v) => v.iter().filter(|v| v.is_nan()).count(),
            Values::Integer(_) => 0,
            Values::Category(v) => v.codes.iter().filter(|&&c| c == Categories::MISSING).count(),
        }
    }

    /// The categories of a column that holds categories.
    pub fn categories(&self) -> Option<&Categories> {
        match self {
            Values::Category(categories) => Some(categories),
            _ => None,
        }
    }

    /// How the values are written.
    pub fn cell_type(&self) -> CellType {
        match self {
            Values::Single(_) => CellType::Single,
            Values::Double(_) => CellType::Double,
            Values::Integer(_) => CellType::Integer,
            Values::Category(_) => CellType::Text,
        }
    }

    /// What the values are.
    pub fn kind(&self) -> ColumnKind {
        match self {
            Values::Integer(_) => ColumnKind::Integer,
            Values::Category(_) => ColumnKind::Category,
            _ => ColumnKind::Float,
        }
    }

    pub(super) fn cell(&self, i: usize) -> Cell {
        match self {
            Values::Integer(v) => Cell::Integer(v[i]),
            Values::Category(v) => match v.codes[i] {
                Categories::MISSING => Cell::Missing,
                code => Cell::Integer(code.into()),
            },
            _ => Cell::Real(self.get(i)),
        }
    }

    /// All values as network and scaling see them.
    pub(super) fn in_single(&self) -> Vec<f32> {
        (0..self.len()).map(|i| self.get(i) as f32).collect()
    }

    /// Adds a cell, NaN where it is missing. Whole numbers become real where one that is not
    /// whole arrives.
    pub(super) fn push(&mut self, cell: Cell) {
        if let (Values::Integer(v), Cell::Real(_) | Cell::Missing) = (&mut *self, cell) {
            // of one size, so that this needs no second copy
            *self = Values::Double(std::mem::take(v).into_iter().map(|i| i as f64).collect());
        }
        match (self, cell) {
            (Values::Integer(v), Cell::Integer(i)) => v.push(i),
            (Values::Single(v), cell) => v.push(cell.value() as f32),
            (Values::Double(v), cell) => v.push(cell.value()),
            (Values::Category(v), Cell::Integer(i)) => {
                v.codes.push(u32::try_from(i).unwrap_or(Categories::MISSING));
            }
            (Values::Category(v), _) => v.codes.push(Categories::MISSING),
            (Values::Integer(_), _) => {}
        }
    }

    /// The values in `rows`.
    pub(super) fn take(&self, rows: &[usize]) -> Values {
        match self {
            Values::Single(v) => Values::Single(rows.iter().map(|&i| v[i]).collect()),
            Values::Double(v) => Values::Double(rows.iter().map(|&i| v[i]).collect()),
            Values::Integer(v) => Values::Integer(rows.iter().map(|&i| v[i]).collect()),
            Values::Category(v) => Values::Category(Categories {
                names: v.names.clone(),
                codes: rows.iter().map(|&i| v.codes[i]).collect(),
            }),
        }
    }

    /// Moves the values of the increasing `rows` to the front and drops the others.
    pub(super) fn retain(&mut self, rows: &[usize]) {
        each!(self, v => {
            rows.iter().enumerate().for_each(|(to, &from)| v[to] = v[from]);
            v.truncate(rows.len());
        })
    }

    pub(super) fn try_reserve(&mut self, more: usize) -> bool {
        each!(self, v => v.capacity() - v.len() >= more || v.try_reserve_exact(more).is_ok())
    }

    pub(super) fn capacity(&self) -> usize {
        each!(self, v => v.capacity())
    }

    pub(super) fn shrink(&mut self) {
        each!(self, v => v.shrink_to_fit())
    }
}
