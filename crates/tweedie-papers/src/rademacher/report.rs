//! The experiment's table, page and figures.

use super::{AtTime, Found, Report};
use crate::layout::{LOG, Measured, chart, curve, mean, measured};
use crate::outcome::Outcome;
use crate::page::Page;
use crate::regression;
use tweedie::likelihood::mean_and_error;
use tweedie_report::plot::{Series, Style};
use tweedie_report::table::{Cell, Column, Digits, Table};

/// Below this what is off the diagonal is rounding (of `‖G‖²`, 1e-16 of it), and one product exact.
const EXACT: f64 = 1e-6;

impl AtTime {
    /// The slope of `ln error` on `ln M` by least squares, trial by trial: mean and standard error;
    /// nothing where one product is exact, or there is but one `M`.
    pub fn slope(&self, probes: &[usize]) -> Option<Measured> {
        if self.predicted < EXACT || probes.len() < 2 {
            return None;
        }
        let of_trial = |trial: usize| {
            let points = probes.iter().zip(&self.errors).map(|(&m, e)| (m as f64, e[trial]));
            regression::exponent(&points.collect::<Vec<_>>()).0
        };
        Some(mean_and_error(&(0..self.head.len()).map(of_trial).collect::<Vec<_>>()))
    }

    /// How many products have the head's error: `(predicted/head)²`.
    pub fn worth(&self) -> f64 {
        (self.predicted / mean_and_error(&self.head).0).powi(2)
    }
}

impl Report {
    /// `rademacher.csv`, the page and a figure for each distribution.
    pub fn outcome(&self) -> Outcome {
        let probes = &self.experiment.probes;
        let parts = self.found.iter().map(|found| {
            Page::new()
                .with("name", found.distribution.name())
                .with("about", found.distribution.describe())
                .with("file", file(found))
                .table("errors", &self.errors(found))
                .table("costs", &self.costs(found))
        });
        let page = Page::new()
            .with("most", probes.last().copied().unwrap_or_default())
            .each("distributions", parts);
        let figures = self.found.iter().map(|found| (file(found), self.figure(found)));
        Outcome::new("rademacher", self.csv(), page).figures(figures)
    }

    fn csv(&self) -> Table {
        let mut table = Table::new([
            "law".into(),
            "method".into(),
            "probes".into(),
            "quantity".into(),
            "t".into(),
            Column::from("mean").error("std_error"),
        ]);
        for found in &self.found {
            let mut note =
                |method: &str, m: Option<usize>, quantity: &str, t: Option<f64>, value| {
                    table.push([
                        found.distribution.name().into(),
                        method.into(),
                        m.into(),
                        quantity.into(),
                        t.map(|t| Cell::number(t, Digits::Significant(3))).into(),
                        measured(Some(value), Digits::Significant(3)),
                    ]);
                };
            let probes = &self.experiment.probes;
            for at in &found.times {
                let t = Some(at.t);
                for ((&m, errors), limited) in probes.iter().zip(&at.errors).zip(&at.limited) {
                    note("rademacher", Some(m), "diagonal-error", t, mean_and_error(errors));
                    note("rademacher", Some(m), "diagonal-error-held", t, mean_and_error(limited));
                }
                note("ocm", None, "diagonal-error", t, mean_and_error(&at.head));
                if let Some(slope) = at.slope(probes) {
                    note("rademacher", None, "slope", t, slope);
                }
            }
            let (score, head, products) = &found.milliseconds;
            let time = |ms: f64| (ms, f64::NAN);
            for ((&m, gaps), &ms) in probes.iter().zip(&found.gaps).zip(products) {
                note("rademacher", Some(m), "elbo-gap", None, mean_and_error(gaps));
                note("rademacher", Some(m), "milliseconds", None, time(ms));
            }
            note("ocm", None, "elbo-gap", None, mean_and_error(&found.head_gap));
            note("exact", None, "elbo-gap", None, mean_and_error(&found.exact_gap));
            note("ocm", None, "milliseconds", None, time(*head));
            note("score", None, "milliseconds", None, time(*score));
        }
        table
    }

    fn errors(&self, found: &Found) -> Table {
        let probes = &self.experiment.probes;
        let mut head = vec!["t".to_string(), "theory".into()];
        head.extend(probes.iter().map(|m| format!("M = {m}")));
        head.extend(["slope", "held", "OCM", "worth"].map(String::from));
        let mut table = Table::new(head);
        for at in &found.times {
            let plain = |errors: &Vec<f64>| Cell::number(mean_and_error(errors).0, 4);
            let mut row = vec![at.t.to_string().into(), Cell::number(at.predicted, 4)];
            row.extend(at.errors.iter().map(plain));
            row.push(measured(at.slope(probes), 3));
            row.push(at.limited.last().map(plain).into());
            row.extend([mean(&at.head, 4), Cell::number(at.worth(), 1)]);
            table.push(row);
        }
        table
    }

    fn costs(&self, found: &Found) -> Table {
        let (score, with_head, with_probes) = &found.milliseconds;
        let mut table = Table::new([
            String::new(),
            "forward passes".into(),
            "backward passes".into(),
            "ms per 1000 rows".into(),
            "over the score".into(),
            format!("gap, K = {}", self.experiment.steps),
        ]);
        let mut push =
            |name: &str, forward: &str, back: i64, ms: Option<f64>, gap: Option<&[f64]>| {
                table.push([
                    Cell::from(name),
                    forward.into(),
                    back.to_string().into(),
                    ms.map(|ms| Cell::number(ms, 2)).into(),
                    ms.map(|ms| Cell::number(ms / score, 2)).into(),
                    gap.map(|gap| mean(gap, 3)).into(),
                ]);
            };
        push("score alone", "1", 0, Some(*score), None);
        push("OCM head", "1 + 1", 0, Some(*with_head), Some(&found.head_gap));
        for (i, m) in self.experiment.probes.iter().enumerate() {
            let name = format!("Rademacher, M = {m}");
            push(&name, "1", *m as i64, Some(with_probes[i]), Some(&found.gaps[i]));
        }
        let d = found.distribution.mixture().dim();
        push("exact diagonal", "1", d, None, Some(&found.exact_gap));
        table
    }

    /// Errors over `M`, a curve for each time, and those of the head as lines.
    fn figure(&self, found: &Found) -> String {
        let x: Vec<f64> = self.experiment.probes.iter().map(|&m| m as f64).collect();
        let mut series = Vec::new();
        for (colour, at) in found.times.iter().enumerate() {
            let errors = at.errors.iter().map(|errors| mean_and_error(errors));
            let line = curve(format!("t = {}", at.t), x.iter().copied().zip(errors));
            series.push(line.colour(colour));
            let head = vec![mean_and_error(&at.head).0; x.len()];
            let name = if colour == 0 { "OCM head" } else { "" };
            series.push(Series::line(name, x.clone(), head).style(Style::Dashed).colour(colour));
        }
        let title = format!("{}: the diagonal of G by M products", found.distribution.name());
        chart(title, ["products M", "relative error of the diagonal"], LOG, series)
    }
}

fn file(found: &Found) -> String {
    format!("rademacher-{}.svg", found.distribution.name())
}
