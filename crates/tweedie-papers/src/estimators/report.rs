//! The experiment's table, page and figures.

use super::{Measured, Report};
use crate::layout::{LOG, chart, curve, mean};
use crate::outcome::Outcome;
use crate::page::Page;
use tweedie::likelihood::{Kind, mean_and_error};
use tweedie_report::plot::Series;
use tweedie_report::table::{Cell, Column, Digits, Table};

impl Report {
    /// `estimators.csv`, the page and a figure for each set of rows.
    pub fn outcome(&self) -> Outcome {
        let same = |a: &Measured, b: &Measured| a.data == b.data && a.schedule == b.schedule;
        let sets: Vec<&[Measured]> = self.0.chunk_by(same).collect();
        let file = |i: usize| format!("estimators-{}.svg", i + 1);
        let parts = sets.iter().enumerate().map(|(i, set)| {
            let first = &set[0];
            let reference = first.errors().iter().all(|error| *error == 0.0);
            Page::new()
                .with("data", &first.data)
                .with("schedule", first.schedule)
                .when("unknown", reference.then(|| Page::new().with("name", &first.name)))
                .table("set", &page_table(set))
                .with("file", file(i))
        });
        let page = Page::new().each("sets", parts);
        let figures = sets.iter().enumerate().map(|(i, set)| (file(i), figure(set)));
        Outcome::new("estimators", self.table(), page).figures(figures)
    }

    fn table(&self) -> Table {
        let mut table = Table::new([
            "data".into(),
            "dim".into(),
            "schedule".into(),
            "family".into(),
            "estimator".into(),
            "kind".into(),
            "rows".into(),
            "flagged".into(),
            Column::from("nats").error("std_error"),
            Column::from("error").error("error_std_error"),
            "worst_error".into(),
            "evaluations_per_row".into(),
            "seconds_per_row".into(),
        ]);
        for m in &self.0 {
            table.push([
                m.data.as_str().into(),
                m.dim.to_string().into(),
                m.schedule.into(),
                m.estimator.family().into(),
                m.name.as_str().into(),
                kind(m).into(),
                m.values.len().into(),
                m.flagged.into(),
                mean(&m.values, 3),
                mean(&m.errors(), Digits::Significant(2)),
                Cell::number(worst(m), Digits::Significant(2)),
                Cell::number(m.evaluations, 1),
                Cell::number(m.seconds, Digits::Significant(2)),
            ]);
        }
        table
    }
}

fn kind(measured: &Measured) -> &'static str {
    match measured.kind {
        Kind::LowerBound => "lower bound",
        Kind::Estimate => "estimate",
    }
}

fn worst(measured: &Measured) -> f64 {
    let larger = |worst: f64, e: f64| if e.abs() > worst.abs() { e } else { worst };
    measured.errors().into_iter().fold(0.0, larger)
}

fn page_table(set: &[Measured]) -> Table {
    let mut table = Table::new([
        "estimator", "", "nats per row", "error", "largest", "evaluations", "ms per row",
    ]);
    for m in set {
        let flagged = match m.flagged {
            0 => String::new(),
            flagged => format!(", {flagged} flagged"),
        };
        table.push([
            m.name.as_str().into(),
            format!("{}{flagged}", kind(m)).into(),
            mean(&m.values, 3),
            mean(&m.errors(), Digits::Significant(2)),
            Cell::number(worst(m), Digits::Significant(2)),
            Cell::number(m.evaluations, 0),
            Cell::number(1e3 * m.seconds, 2),
        ]);
    }
    table
}

/// The size of the mean error against evaluations, a curve for each family.
fn figure(set: &[Measured]) -> String {
    let mut families: Vec<String> = Vec::new();
    for family in set.iter().map(|m| m.estimator.family()) {
        if !families.contains(&family) {
            families.push(family);
        }
    }
    let line = |family: &String| {
        let mine = set.iter().filter(|m| m.estimator.family() == *family);
        let errors = mine.map(|m| (m.evaluations, mean_and_error(&m.errors())));
        // the reference has none
        let mut points: Vec<_> = errors.filter(|(_, error)| error.0 != 0.0).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        curve(family, points.into_iter().map(|(x, (value, error))| (x, (value.abs(), error))))
    };
    let series: Vec<Series> = families.iter().map(line).filter(|s| !s.x.is_empty()).collect();
    let title = format!("{}, {}: error against cost", set[0].data, set[0].schedule);
    let labels = ["network evaluations per row", "size of the mean error, nats, ± s.e."];
    chart(title, labels, LOG, series)
}
