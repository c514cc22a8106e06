//! One table for every reader: CSV for programs, Markdown for a page of text, HTML for a browser,
//! and the named curves of a figure.
//!
//! ```
//! use tweedie_report::table::{Cell, Column, Table};
//! let mut table = Table::new([
//!     "estimator".into(),
//!     Column::from("nats").titled("nats per row").error("std_error"),
//!     "rows".into(),
//! ]);
//! table.push(["ELBO, K = 100".into(), Cell::measured(-1.2345, 0.0321, 3), 1000_usize.into()]);
//! assert_eq!(
//!     table.markdown(),
//!     "| estimator | nats per row | rows |\n|---|---:|---:|\n\
//!      | ELBO, K = 100 | −1.234 ± 0.032 | 1,000 |\n"
//! );
//! assert_eq!(
//!     table.csv(),
//!     "estimator,nats,std_error,rows\n\"ELBO, K = 100\",-1.2345,0.0321,1000\n"
//! );
//! assert!(table.html().contains("<td>−1.234 ± 0.032</td>"));
//! ```

use std::fmt;

use maud::{Markup, html};

use crate::number::{fixed, grouped, short};
use crate::plot::Series;

/// A table of typed cells under named columns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

/// One column: its name in CSV, its heading elsewhere, and the CSV column of its errors.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Column {
    name: String,
    title: Option<String>,
    error: Option<String>,
}

impl Column {
    /// With another heading in Markdown and HTML than its name in CSV.
    pub fn titled(mut self, title: impl Into<String>) -> Column {
        self.title = Some(title.into());
        self
    }

    /// With a CSV column `name` for the errors of its cells. A column of measured cells has one in
    /// any case, by default its own name followed by `_std_error`.
    pub fn error(mut self, name: impl Into<String>) -> Column {
        self.error = Some(name.into());
        self
    }

    fn title(&self) -> &str {
        self.title.as_ref().unwrap_or(&self.name)
    }
}

impl<T: Into<String>> From<T> for Column {
    fn from(name: T) -> Column {
        Column { name: name.into(), ..Default::default() }
    }
}

/// How a number is shown to a reader; CSV has every digit of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Digits {
    /// So many decimals: −1.235 with 3. What a plain number stands for where digits are expected.
    Decimals(usize),
    /// So many significant figures, with a power of ten where it is far from 1: 2.5×10⁻⁷ with 2.
    Significant(usize),
}

impl From<usize> for Digits {
    fn from(decimals: usize) -> Digits {
        Digits::Decimals(decimals)
    }
}

impl Digits {
    fn show(self, value: f64) -> String {
        match self {
            _ if value.is_nan() => "–".into(),
            Digits::Decimals(digits) if value.abs() < 1e9 => fixed(value, digits),
            Digits::Decimals(_) => short(value, 4),
            Digits::Significant(digits) => short(value, digits),
        }
    }

    /// The error of a value: a figure less than the value's where figures are counted.
    fn show_error(self, error: f64) -> String {
        match self {
            Digits::Decimals(digits) => fixed(error, digits),
            Digits::Significant(digits) => short(error, digits.saturating_sub(1).max(1)),
        }
    }
}

/// What stands in one place of a table.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Cell {
    /// Nothing was measured here.
    #[default]
    Empty,
    /// A text.
    Text(String),
    /// A count.
    Count(u64),
    /// A number.
    Number {
        /// In the unit of the column's heading.
        value: f64,
        /// How it is shown.
        digits: Digits,
    },
    /// A mean and its standard error.
    Measured {
        /// In the unit of the column's heading.
        mean: f64,
        /// In the same unit; not shown where it is not finite.
        error: f64,
        /// How both are shown.
        digits: Digits,
    },
}

impl Cell {
    /// A number, shown with `digits`: decimals, unless [`Digits`] says otherwise.
    pub fn number(value: f64, digits: impl Into<Digits>) -> Cell {
        Cell::Number { value, digits: digits.into() }
    }

    /// A mean and its standard error, both shown with `digits`: decimals, unless [`Digits`] says
    /// otherwise.
    pub fn measured(mean: f64, error: f64, digits: impl Into<Digits>) -> Cell {
        Cell::Measured { mean, error, digits: digits.into() }
    }

    /// The number in the cell, of a measured one its mean.
    pub fn value(&self) -> Option<f64> {
        match self {
            Cell::Empty | Cell::Text(_) => None,
            Cell::Count(count) => Some(*count as f64),
            Cell::Number { value, .. } => Some(*value),
            Cell::Measured { mean, .. } => Some(*mean),
        }
    }

    /// The cell of a CSV file: every digit, in the shortest form that reads back.
    fn csv(&self) -> String {
        match self {
            Cell::Empty => String::new(),
            Cell::Text(text) => text.clone(),
            Cell::Count(count) => count.to_string(),
            Cell::Number { value, .. } | Cell::Measured { mean: value, .. } => exact(*value),
        }
    }
}

/// The shortest text that reads back as `value`; "NaN", "inf" and "-inf" where it is not finite.
fn exact(value: f64) -> String {
    match value.abs() {
        size if size != 0.0 && !(1e-5..1e15).contains(&size) && size.is_finite() => {
            format!("{value:e}")
        }
        _ => value.to_string(),
    }
}

/// As a reader sees it: a true minus sign, commas between thousands.
impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Cell::Empty => Ok(()),
            Cell::Text(text) => f.write_str(text),
            Cell::Count(count) => f.write_str(&grouped(*count as usize)),
            Cell::Number { value, digits } => f.write_str(&digits.show(*value)),
            Cell::Measured { mean, error, digits } if error.is_finite() => {
                write!(f, "{} ± {}", digits.show(*mean), digits.show_error(*error))
            }
            Cell::Measured { mean, digits, .. } => f.write_str(&digits.show(*mean)),
        }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Cell {
        Cell::Text(text.into())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Cell {
        Cell::Text(text)
    }
}

macro_rules! counts {
    ($($integer:ty),*) => {$(
        impl From<$integer> for Cell {
            fn from(count: $integer) -> Cell {
                Cell::Count(count as u64)
            }
        }
    )*};
}
counts!(u32, u64, usize);

/// Nothing where nothing was measured.
impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(cell: Option<T>) -> Cell {
        cell.map_or(Cell::Empty, Into::into)
    }
}

impl Table {
    /// An empty table with these columns, given by name or as [`Column`]s.
    pub fn new(columns: impl IntoIterator<Item = impl Into<Column>>) -> Table {
        Table { columns: columns.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    /// Adds a row.
    ///
    /// # Panics
    /// Where it has not one cell for each column.
    pub fn push(&mut self, row: impl IntoIterator<Item = impl Into<Cell>>) {
        let row: Vec<Cell> = row.into_iter().map(Into::into).collect();
        let (cells, columns) = (row.len(), self.columns.len());
        assert_eq!(cells, columns, "a row of {cells} cells in a table of {columns} columns");
        self.rows.push(row);
    }

    /// The same table with one more row, as [`Table::push`].
    pub fn row(mut self, row: impl IntoIterator<Item = impl Into<Cell>>) -> Table {
        self.push(row);
        self
    }

    /// The rows, each with one cell for each column.
    pub fn rows(&self) -> &[Vec<Cell>] {
        &self.rows
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// A CSV file with a header. Numbers have every digit; a column of measured cells is two, of
    /// which the second has the standard errors.
    pub fn csv(&self) -> String {
        let errors: Vec<Option<String>> = (0..self.columns.len()).map(|i| self.error(i)).collect();
        let mut head = Vec::new();
        for (column, error) in self.columns.iter().zip(&errors) {
            head.push(column.name.clone());
            head.extend(error.clone());
        }
        let mut out = line(&head);
        for row in &self.rows {
            let mut cells = Vec::new();
            for (cell, error) in row.iter().zip(&errors) {
                cells.push(cell.csv());
                match (cell, error) {
                    (Cell::Measured { error, .. }, Some(_)) => cells.push(exact(*error)),
                    (_, Some(_)) => cells.push(String::new()),
                    (_, None) => {}
                }
            }
            out += &line(&cells);
        }
        out
    }

    /// The CSV column of the errors of column `i`, where it has some.
    fn error(&self, i: usize) -> Option<String> {
        let column = &self.columns[i];
        let measured = self.rows.iter().any(|row| matches!(row[i], Cell::Measured { .. }));
        let default = || measured.then(|| format!("{}_std_error", column.name));
        column.error.clone().or_else(default)
    }

    /// A Markdown table; the first column is aligned to the left, the others to the right.
    pub fn markdown(&self) -> String {
        let line = |cells: Vec<String>| {
            let cells = cells.iter().map(|c| c.replace('|', "\\|").replace(['\r', '\n'], " "));
            format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
        };
        let mut out = line(self.columns.iter().map(|c| c.title().into()).collect());
        out += &format!("|---|{}\n", "---:|".repeat(self.columns.len().saturating_sub(1)));
        for row in &self.rows {
            out += &line(row.iter().map(Cell::to_string).collect());
        }
        out
    }

    /// An HTML table, escaped.
    pub fn html(&self) -> String {
        self.markup("").into_string()
    }

    /// An HTML table of the class `class`.
    pub(crate) fn markup(&self, class: &str) -> Markup {
        html! {
            table class=[(!class.is_empty()).then_some(class)] {
                thead {
                    tr { @for column in &self.columns { th scope="col" { (column.title()) } } }
                }
                tbody {
                    @for row in &self.rows { tr { @for cell in row { td { (cell.to_string()) } } } }
                }
            }
        }
    }

    /// The curves of a figure: one for each distinct text of the column named `by` in the order of
    /// the rows, which is its entry in the legend, with the numbers of column `x` and the numbers
    /// or measured means and standard errors of column `y`. Rows without a number in both are left
    /// out.
    ///
    /// # Panics
    /// Where there is no column of such a name.
    pub fn series(&self, by: &str, x: &str, y: &str) -> Vec<Series> {
        let at = |name: &str| {
            let found = self.columns.iter().position(|column| column.name == name);
            found.unwrap_or_else(|| panic!("the table has no column `{name}`"))
        };
        let (by, x, y) = (at(by), at(x), at(y));
        let mut all: Vec<Series> = Vec::new();
        for row in &self.rows {
            let (Some(abscissa), Some(ordinate)) = (row[x].value(), row[y].value()) else {
                continue;
            };
            let name = row[by].to_string();
            let i = all.iter().position(|s| s.name == name).unwrap_or_else(|| {
                all.push(Series::line(name, vec![], vec![]));
                all.len() - 1
            });
            all[i].x.push(abscissa);
            all[i].y.push(ordinate);
            let error = match row[y] {
                Cell::Measured { error, .. } => error,
                _ => 0.0,
            };
            all[i].error.get_or_insert_default().push(error);
        }
        for series in &mut all {
            series.error = series.error.take().filter(|e| e.iter().any(|&e| e != 0.0));
        }
        all
    }
}

/// One line of a CSV file; cells with a comma, a quote or a line break are quoted.
fn line(cells: &[String]) -> String {
    let quoted = |cell: &String| match cell.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell.clone(),
    };
    cells.iter().map(quoted).collect::<Vec<_>>().join(",") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let columns =
            [Column::from("what"), Column::from("value").titled("nats | row"), "n".into()];
        Table::new(columns)
            .row([Cell::from("a, \"b\""), Cell::measured(-1234.5678, 0.25, 2), 12345_usize.into()])
            .row([Cell::from("<c>|\nd"), Cell::number(0.1 + 0.2, 1), Cell::Empty])
    }

    #[test]
    fn csv_has_every_digit_and_a_column_of_errors() {
        assert_eq!(
            table().csv(),
            "what,value,value_std_error,n\n\"a, \"\"b\"\"\",-1234.5678,0.25,12345\n\
             \"<c>|\nd\",0.30000000000000004,,\n"
        );
        for value in [1e-300, 123456789.125, -0.0, 2.5e-7, 5.0, 1e20] {
            assert_eq!(exact(value).parse::<f64>().unwrap().to_bits(), value.to_bits());
        }
        assert_eq!([exact(5.0), exact(2.5e-7), exact(f64::NAN)], ["5", "2.5e-7", "NaN"]);
    }

    #[test]
    fn a_named_column_of_errors_is_there_even_where_nothing_was_measured() {
        let none = Table::new([Column::from("nats").error("std_error")]).row([Cell::Empty]);
        assert_eq!(none.csv(), "nats,std_error\n,\n");
    }

    #[test]
    fn markdown_cells_stay_cells() {
        assert_eq!(
            table().markdown(),
            "| what | nats \\| row | n |\n|---|---:|---:|\n\
             | a, \"b\" | −1,234.57 ± 0.25 | 12,345 |\n| <c>\\| d | 0.3 |  |\n"
        );
    }

    #[test]
    fn html_is_escaped() {
        let html = table().html();
        crate::plot::elements(&html);
        assert!(html.contains("<td>&lt;c&gt;|"), "{html}");
        assert!(html.contains("<td>−1,234.57 ± 0.25</td><td>12,345</td>"), "{html}");
    }

    #[test]
    fn what_is_not_finite_is_said() {
        let shown = |cell: Cell| cell.to_string();
        assert_eq!(shown(Cell::measured(1.25, f64::NAN, 1)), "1.2");
        assert_eq!(
            shown(Cell::measured(2.345e-7, 1.2e-8, Digits::Significant(2))),
            "2.3×10⁻⁷ ± 10⁻⁸"
        );
        assert_eq!([f64::NAN, f64::INFINITY].map(|v| shown(Cell::number(v, 2))), ["–", "∞"]);
        assert_eq!(shown(None::<u64>.into()), "");
    }

    #[test]
    fn rows_become_curves() {
        let mut table = Table::new(["method", "steps", "nats"]);
        for (method, steps, nats) in [
            ("own", 5_u64, Cell::measured(-2.0, 0.1, 2)),
            ("beta", 5, Cell::number(-4.0, 2)),
            ("own", 10, Cell::measured(-1.0, 0.2, 2)),
            ("own", 20, Cell::Empty),
        ] {
            table.push([method.into(), steps.into(), nats]);
        }
        let [own, beta] = &table.series("method", "steps", "nats")[..] else {
            panic!("two curves")
        };
        assert_eq!((own.name.as_str(), beta.name.as_str()), ("own", "beta"));
        assert_eq!((&own.x, &own.y), (&vec![5.0, 10.0], &vec![-2.0, -1.0]));
        assert_eq!((&own.error, &beta.error), (&Some(vec![0.1, 0.2]), &None));
    }

    #[test]
    #[should_panic(expected = "a row of 2 cells in a table of 3 columns")]
    fn rows_have_a_cell_for_each_column() {
        table().push(["a", "b"]);
    }
}
