//! What was measured of runs, as tables and curves over the number of steps.

use super::judge::Method;
use crate::table;
use tweedie_report::plot::{LineChart, Scale, Series};

/// What a negative log-likelihood is given in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Of images.
    BitsPerDim,
    /// Of tables, in the data's own units.
    NatsPerRow,
}

impl Unit {
    /// In words.
    pub fn label(self) -> &'static str {
        match self {
            Unit::BitsPerDim => "bits per dimension",
            Unit::NatsPerRow => "nats per row",
        }
    }

    /// The columns of a CSV file of records.
    pub(crate) fn columns(self) -> [&'static str; 7] {
        let [nll, error] = match self {
            Unit::BitsPerDim => ["bits_per_dim", "bits_per_dim_std_error"],
            Unit::NatsPerRow => ["nats_per_row", "nats_per_row_std_error"],
        };
        ["run", "method", "steps", nll, error, "frechet_distance", "noise_clipped"]
    }
}

/// One run under one method in so many steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The run's name.
    pub arm: String,
    /// How steps are taken.
    pub method: Method,
    /// `K`.
    pub steps: usize,
    /// Negative log-likelihood per row and its standard error; none for DDIM.
    pub nll: Option<(f64, f64)>,
    /// Fréchet distance, where features are at hand.
    pub frechet: Option<f64>,
    /// The share of variances at the end of the samples' chains that were clipped, where any is
    /// held.
    pub clipped: Option<f64>,
}

impl Record {
    fn label(&self) -> String {
        format!("{}, {}", self.arm, self.method.label())
    }

    /// The cells of its row under [`Unit::columns`].
    pub(crate) fn cells(&self) -> [String; 7] {
        [
            self.arm.clone(),
            self.method.name(),
            self.steps.to_string(),
            table::number(self.nll.map(|b| b.0)),
            table::number(self.nll.map(|b| b.1)),
            table::number(self.frechet),
            table::number(self.clipped),
        ]
    }

    /// The negative log-likelihood, or with `distance` the Fréchet distance, which has no error.
    pub(crate) fn value(&self, distance: bool) -> Option<(f64, f64)> {
        if distance { self.frechet.map(|d| (d, f64::NAN)) } else { self.nll }
    }
}

/// All records.
pub(crate) fn csv(records: &[Record], unit: Unit) -> String {
    let rows: Vec<Vec<String>> = records.iter().map(|r| r.cells().to_vec()).collect();
    table::csv(&unit.columns(), &rows)
}

/// Runs and methods in the order of the records, each with its records.
fn lines(records: &[Record]) -> Vec<(String, Vec<&Record>)> {
    let mut lines: Vec<(String, Vec<&Record>)> = Vec::new();
    for record in records {
        let label = record.label();
        match lines.iter_mut().find(|line| line.0 == label) {
            Some(line) => line.1.push(record),
            None => lines.push((label, vec![record])),
        }
    }
    lines
}

/// A line per run and method, a column per number of steps; lines without a value are left out.
pub(crate) fn by_steps(records: &[Record], steps: &[usize], distance: bool) -> String {
    let head: Vec<String> =
        std::iter::once(String::new()).chain(steps.iter().map(|k| format!("K = {k}"))).collect();
    let digits = if distance { 2 } else { 3 };
    let rows: Vec<Vec<String>> = lines(records)
        .into_iter()
        .filter(|line| line.1.iter().any(|r| r.value(distance).is_some()))
        .map(|(label, records)| {
            let at =
                |k: &usize| records.iter().find(|r| r.steps == *k).and_then(|r| r.value(distance));
            let cells = steps.iter().map(|k| table::measured(at(k), digits));
            std::iter::once(label).chain(cells).collect()
        })
        .collect();
    table::markdown(&head, &rows)
}

/// Curves over the number of steps, one per run and method.
pub(crate) fn curves(records: &[Record], title: &str, y_label: &str, distance: bool) -> String {
    let series = lines(records)
        .into_iter()
        .filter_map(|(label, records)| {
            let points: Vec<(f64, (f64, f64))> =
                records.iter().filter_map(|r| Some((r.steps as f64, r.value(distance)?))).collect();
            let (x, values): (Vec<f64>, Vec<(f64, f64)>) = points.into_iter().unzip();
            let (y, error): (Vec<f64>, Vec<f64>) = values.into_iter().unzip();
            let line = Series::line(label, x, y);
            match error[..] {
                [] => None,
                _ if distance => Some(line),
                _ => Some(line.with_error(error)),
            }
        })
        .collect();
    LineChart {
        title: title.into(),
        x_label: "sampling steps K".into(),
        y_label: y_label.into(),
        x_scale: Scale::Log,
        y_scale: Scale::Log,
        series,
        ..Default::default()
    }
    .to_svg(720, 460)
}
