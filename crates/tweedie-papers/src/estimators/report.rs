//! The experiment's table, page and figures.

use super::{Measured, Report};
use crate::layout::{LOG, chart, curve, mean, table};
use crate::outcome::Outcome;
use crate::page::Page;
use tweedie::likelihood::{Claim, mean_and_error};
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
        let number = |value: f64| Cell::number(value, Digits::Significant(2));
        table!(&self.0, |m| {
            "data" => m.data.as_str(),
            "dim" => m.dim.to_string(),
            "schedule" => m.schedule,
            "family" => m.estimator.family(),
            "estimator" => m.name.as_str(),
            "kind" => kind(m),
            "rows" => m.values.len(),
            "flagged" => m.flagged,
            Column::from("nats").error("std_error") => mean(&m.values, 3),
            Column::from("error").error("error_std_error") =>
                mean(&m.errors(), Digits::Significant(2)),
            "worst_error" => number(worst(m)),
            "evaluations_per_row" => Cell::number(m.evaluations, 1),
            "seconds_per_row" => number(m.seconds),
        })
    }
}

fn kind(measured: &Measured) -> &'static str {
    match measured.claim {
        Claim::LowerBound => "lower bound",
        Claim::Estimate => "estimate",
        Claim::Exact => "exact",
    }
}

fn worst(measured: &Measured) -> f64 {
    let larger = |worst: f64, e: f64| if e.abs() > worst.abs() { e } else { worst };
    measured.errors().into_iter().fold(0.0, larger)
}

fn page_table(set: &[Measured]) -> Table {
    let about = |m: &Measured| match m.flagged {
        0 => kind(m).to_string(),
        flagged => format!("{}, {flagged} flagged", kind(m)),
    };
    table!(set, |m| {
        "estimator" => m.name.as_str(),
        "" => about(m),
        "nats per row" => mean(&m.values, 3),
        "error" => mean(&m.errors(), Digits::Significant(2)),
        "largest" => Cell::number(worst(m), Digits::Significant(2)),
        "evaluations" => Cell::number(m.evaluations, 0),
        "ms per row" => Cell::number(1e3 * m.seconds, 2),
    })
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
