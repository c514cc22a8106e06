//! Tables and figures as the experiments' pages have them.

use tweedie::likelihood::mean_and_error;
use tweedie_report::plot::{LineChart, Scale, Series};
use tweedie_report::table::{Cell, Digits, Table};

/// A value and its standard error.
pub(crate) type Measured = (f64, f64);

/// A measured value in a table, or an empty cell where nothing was measured.
pub(crate) fn measured(value: Option<Measured>, digits: impl Into<Digits>) -> Cell {
    match value {
        Some((value, error)) => Cell::measured(value, error, digits),
        None => Cell::Empty,
    }
}

/// The mean of `values` and its standard error in a table.
pub(crate) fn mean(values: &[f64], digits: impl Into<Digits>) -> Cell {
    measured(Some(mean_and_error(values)), digits)
}

/// `a − b`, trial by trial.
pub(crate) fn differences(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

/// A table with a line for each of `rows` and a column for each of `columns`, both named beside;
/// `corner` is the heading of the lines' names.
pub(crate) fn grid<R, C>(
    corner: &str,
    rows: &[(String, R)],
    columns: &[(String, C)],
    cell: impl Fn(&R, &C) -> Cell,
) -> Table {
    let head = std::iter::once(corner.to_string()).chain(columns.iter().map(|c| c.0.clone()));
    let mut table = Table::new(head);
    for (name, row) in rows {
        let cells = columns.iter().map(|(_, column)| cell(row, column));
        table.push(std::iter::once(Cell::from(name.as_str())).chain(cells));
    }
    table
}

/// `items` with their names, for [`grid`].
pub(crate) fn named<T>(
    items: impl IntoIterator<Item = T>,
    name: impl Fn(&T) -> String,
) -> Vec<(String, T)> {
    items.into_iter().map(|item| (name(&item), item)).collect()
}

/// A curve through measured points.
pub(crate) fn curve(
    name: impl Into<String>,
    points: impl IntoIterator<Item = (f64, Measured)>,
) -> Series {
    let (x, values): (Vec<f64>, Vec<Measured>) = points.into_iter().unzip();
    let (y, error) = values.into_iter().unzip();
    Series::line(name, x, y).with_error(error)
}

/// A chart of curves as SVG; `scales` of both axes.
pub(crate) fn chart(
    title: impl Into<String>,
    [x_label, y_label]: [&str; 2],
    [x_scale, y_scale]: [Scale; 2],
    series: Vec<Series>,
) -> String {
    LineChart {
        title: title.into(),
        x_label: x_label.into(),
        y_label: y_label.into(),
        x_scale,
        y_scale,
        series,
        ..LineChart::default()
    }
    .to_svg(760, 480)
}

/// A table with a line for each of some rows; of each column its name and its cells.
macro_rules! table {
    ($rows:expr, |$row:pat_param| { $($name:expr => $cell:expr),+ $(,)? }) => {{
        use tweedie_report::table as made;
        let mut table = made::Table::new([$(made::Column::from($name)),+]);
        for $row in $rows {
            table.push([$(made::Cell::from($cell)),+]);
        }
        table
    }};
}
pub(crate) use table;

/// Both axes logarithmic.
pub(crate) const LOG: [Scale; 2] = [Scale::Log, Scale::Log];
/// Both axes linear.
pub(crate) const LINEAR: [Scale; 2] = [Scale::Linear, Scale::Linear];
