//! What was measured of runs, as tables and curves over the number of steps.

use tweedie_report::table::{Cell, Column, Table};

use super::judge::Method;
use crate::layout::{LOG, Measured, chart, curve, grid, measured, named};
use crate::outcome::Outcome;
use crate::page::Page;

/// What a negative log-likelihood is given in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bits per dimension, of images.
    BitsPerDim,
    /// Nats per row in the data's own units, of tables.
    NatsPerRow,
}

impl Unit {
    /// Its name in tables and figures.
    pub fn label(self) -> &'static str {
        match self {
            Unit::BitsPerDim => "bits per dimension",
            Unit::NatsPerRow => "nats per row",
        }
    }
}

/// One run under one method and number of steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The run's name.
    pub arm: String,
    /// How steps are taken.
    pub method: Method,
    /// `K`.
    pub steps: usize,
    /// Negative log-likelihood per row and its standard error; none for DDIM.
    pub nll: Option<Measured>,
    /// Fréchet distance, where there are features.
    pub frechet: Option<f64>,
    /// The share of variances at the end of the samples' chains that were clipped, where any is
    /// limited.
    pub clipped: Option<f64>,
}

impl Record {
    /// The run's name and the method's.
    pub fn label(&self) -> String {
        format!("{}, {}", self.arm, self.method.label())
    }

    /// The negative log-likelihood, or with `distance` the Fréchet distance, which has no error.
    pub(crate) fn value(&self, distance: bool) -> Option<Measured> {
        if distance { self.frechet.map(|d| (d, f64::NAN)) } else { self.nll }
    }

    /// The value for a page.
    pub(crate) fn cell(&self, distance: bool) -> Cell {
        measured(self.value(distance), if distance { 2 } else { 3 })
    }
}

/// What was measured of some runs, and how.
#[derive(Clone, Debug)]
pub struct Found {
    /// Every run, method and number of steps.
    pub records: Vec<Record>,
    /// What likelihoods are given in.
    pub unit: Unit,
    /// How it was measured, in words.
    pub protocol: String,
    /// What Fréchet distances are called, where there are any.
    pub distance: Option<&'static str>,
}

impl Found {
    /// All records; `extra` columns, with what they have for a run, stand after its name.
    pub(crate) fn table(&self, extra: &[&str], of: impl Fn(&str) -> Vec<Cell>) -> Table {
        let nll = match self.unit {
            Unit::BitsPerDim => Column::from("bits_per_dim").error("bits_per_dim_std_error"),
            Unit::NatsPerRow => Column::from("nats_per_row").error("nats_per_row_std_error"),
        };
        let mut columns: Vec<Column> = vec!["run".into()];
        columns.extend(extra.iter().map(|name| Column::from(*name)));
        let rest = ["method".into(), "steps".into(), nll, "frechet_distance".into()];
        columns.extend(rest.into_iter().chain(["noise_clipped".into()]));
        let mut table = Table::new(columns);
        for r in &self.records {
            let mut row = vec![r.arm.as_str().into()];
            row.extend(of(&r.arm));
            row.extend([r.method.name().into(), r.steps.into(), measured(r.nll, 3)]);
            row.extend([r.frechet, r.clipped].map(|v| v.map(|v| Cell::number(v, 3)).into()));
            table.push(row);
        }
        table
    }

    /// Runs and methods in the order of the records that `keep` picks, each with its records.
    fn lines(&self, keep: impl Fn(&Record) -> bool) -> Vec<(String, Vec<&Record>)> {
        let mut lines: Vec<(String, Vec<&Record>)> = Vec::new();
        for record in self.records.iter().filter(|record| keep(record)) {
            let label = record.label();
            match lines.iter_mut().find(|line| line.0 == label) {
                Some(line) => line.1.push(record),
                None => lines.push((label, vec![record])),
            }
        }
        lines
    }

    /// A line per run and method, a column per number of steps, of the records that `keep` picks;
    /// lines without a value are left out.
    pub(crate) fn by_steps(&self, distance: bool, keep: impl Fn(&Record) -> bool) -> Table {
        let lines = self.lines(|r| keep(r) && r.value(distance).is_some());
        let mut steps: Vec<usize> = Vec::new();
        for record in &self.records {
            if !steps.contains(&record.steps) {
                steps.push(record.steps);
            }
        }
        grid("", &lines, &named(steps, |k| format!("K = {k}")), |records, k| {
            let at = records.iter().find(|r| r.steps == *k);
            at.map(|record| record.cell(distance)).into()
        })
    }

    /// Curves over the number of steps, one per run and method.
    fn curves(&self, title: &str, distance: bool) -> String {
        let lines = self.lines(|r| r.value(distance).is_some());
        let series = lines.into_iter().map(|(label, records)| {
            let point = |r: &&Record| Some((r.steps as f64, r.value(distance)?));
            curve(label, records.iter().filter_map(point))
        });
        let label = match self.distance.filter(|_| distance) {
            Some(name) => name.to_string(),
            None => format!("{}, ± s.e.", self.unit.label()),
        };
        chart(title, ["sampling steps K", &label], LOG, series.collect())
    }

    /// Table, curves and page of an experiment: `NAME.csv`, `NAME-LIKELIHOOD.svg` and, where there
    /// are distances, `NAME-distance.svg`. The page has the values `protocol` and `unit`, the table
    /// `likelihood` and the part `distance` with `name` and a table of its own.
    pub(crate) fn outcome(&self, name: &str, likelihood: &str, title: &str, page: Page) -> Outcome {
        let page = page.table("likelihood", &self.by_steps(false, |_| true));
        let page = self.with_distance(page, |_| true).with("unit", self.unit.label());
        let outcome = Outcome::new(name, self.table(&[], |_| Vec::new()), page)
            .figure(format!("{name}-{likelihood}.svg"), self.curves(title, false));
        match self.distance {
            Some(_) => outcome.figure(format!("{name}-distance.svg"), self.curves(title, true)),
            None => outcome,
        }
    }

    /// The protocol, and the part `distance` of the records that `keep` picks.
    pub(crate) fn with_distance(&self, page: Page, keep: impl Fn(&Record) -> bool) -> Page {
        let part = |name: &str| {
            Page::new().with("name", name).table("distance", &self.by_steps(true, keep))
        };
        page.with("protocol", &self.protocol).when("distance", self.distance.map(part))
    }
}
