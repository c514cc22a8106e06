//! Typed columns of a table.

use serde::{Deserialize, Serialize};

/// What the values of a column are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ColumnKind {
    /// Real numbers.
    Float,
    /// Whole numbers: every cell written without point or exponent in a text file, an integer,
    /// boolean or date type in Parquet and NPY.
    Integer,
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
}

impl From<ColumnKind> for CellType {
    /// The type in which a sample of such a column is written.
    fn from(kind: ColumnKind) -> Self {
        match kind {
            ColumnKind::Float => CellType::Single,
            ColumnKind::Integer => CellType::Integer,
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

/// One cell as a file has it.
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

/// The values of a column, in the type that the file has them in.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Real numbers of a file in single precision.
    Single(Vec<f32>),
    /// Real numbers.
    Double(Vec<f64>),
    /// Whole numbers.
    Integer(Vec<i64>),
}

/// The same expression for each type of values.
macro_rules! each {
    ($values:expr, $v:ident => $result:expr) => {
        match $values {
            Values::Single($v) => $result,
            Values::Double($v) => $result,
            Values::Integer($v) => $result,
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

    /// The value in row `i`, from 0.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn get(&self, i: usize) -> f64 {
        match self {
            Values::Single(v) => v[i].into(),
            Values::Double(v) => v[i],
            Values::Integer(v) => v[i] as f64,
        }
    }

    /// How the values are written.
    pub fn cell_type(&self) -> CellType {
        match self {
            Values::Single(_) => CellType::Single,
            Values::Double(_) => CellType::Double,
            Values::Integer(_) => CellType::Integer,
        }
    }

    /// What the values are.
    pub fn kind(&self) -> ColumnKind {
        match self {
            Values::Integer(_) => ColumnKind::Integer,
            _ => ColumnKind::Float,
        }
    }

    pub(super) fn cell(&self, i: usize) -> Cell {
        match self {
            Values::Integer(v) => Cell::Integer(v[i]),
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
            (Values::Integer(_), _) => {}
        }
    }

    /// The values in `rows`.
    pub(super) fn take(&self, rows: &[usize]) -> Values {
        match self {
            Values::Single(v) => Values::Single(rows.iter().map(|&i| v[i]).collect()),
            Values::Double(v) => Values::Double(rows.iter().map(|&i| v[i]).collect()),
            Values::Integer(v) => Values::Integer(rows.iter().map(|&i| v[i]).collect()),
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
