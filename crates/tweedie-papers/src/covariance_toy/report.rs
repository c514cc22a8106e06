//! The experiment's table, page and figures.

use super::judge::LARGEST_OF_MMD;
use super::{EXACT, PROBES, Quantity, Report, Score, Truth};
use crate::layout::{LOG, Measured, chart, curve, differences, grid, mean, measured, named, table};
use crate::outcome::Outcome;
use crate::page::Page;
use tweedie::likelihood::mean_and_error;
use tweedie_report::plot::{Series, Style};
use tweedie_report::table::{Cell, Column, Digits, Table};

/// Arms that the diagonal heads of LM and OCM are compared with, as the paper does.
const RIVALS: [&str; 4] = ["NPR", "SN", "I-DDPM", "Analytic-DPM"];

/// Quantities with their headings: functions of `t`, then of `K`.
const QUANTITIES: [(Quantity, &str); 5] = [
    (Quantity::Diagonal, "Relative error of the diagonal of G"),
    (Quantity::Whole, "Relative error of G, Frobenius norm"),
    (Quantity::Gap, "nats per row that the K-step ELBO loses to that of the exact moments"),
    (Quantity::Ddpm, "MMD² × 10⁴ of samples, DDPM (η = 1)"),
    (Quantity::Ddim, "MMD² × 10⁴ of samples, DDIM (η = 0)"),
];

impl Quantity {
    /// Whether it is a function of `t`, not of `K`.
    fn of_times(self) -> bool {
        matches!(self, Quantity::Diagonal | Quantity::Whole)
    }

    fn is_distance(self) -> bool {
        matches!(self, Quantity::Ddpm | Quantity::Ddim)
    }
}

/// One arm in one quantity: `t` or `K`, and what was measured in each trial.
struct Curve<'a> {
    arm: &'a str,
    points: Vec<(f64, Vec<f64>)>,
}

impl Curve<'_> {
    /// At how many points this arm is lower than `other`, level with it, and higher, by two
    /// standard errors of the paired differences.
    fn against(&self, other: &Curve) -> [usize; 3] {
        let mut counts = [0; 3];
        for (a, b) in self.points.iter().zip(&other.points) {
            let (mean, error) = mean_and_error(&differences(&a.1, &b.1));
            counts[match mean {
                _ if mean < -2.0 * error => 0,
                _ if mean > 2.0 * error => 2,
                _ => 1,
            }] += 1;
        }
        counts
    }
}

impl Report {
    /// `covariance-toy.csv`, the page, and figures for each distribution and score.
    pub fn outcome(&self) -> Outcome {
        let page = Page::new()
            .with("largest", LARGEST_OF_MMD)
            .with("probes", PROBES)
            .each("distributions", self.truths.iter().map(|truth| self.page(truth)));
        let mut outcome = Outcome::new("covariance-toy", self.csv(), page);
        for truth in &self.truths {
            for score in Score::ALL {
                for (quantity, title) in QUANTITIES {
                    let curves = self.curves(truth, score, quantity);
                    if !curves.is_empty() {
                        let svg = figure(truth, score, quantity, title, &curves);
                        outcome = outcome.figure(file(truth, score, quantity), svg);
                    }
                }
            }
        }
        outcome
    }

    /// Arm by arm; gaps over those of the exact moments.
    fn curves(&self, truth: &Truth, score: Score, quantity: Quantity) -> Vec<Curve<'_>> {
        let mut curves: Vec<Curve> = Vec::new();
        let key = (truth.distribution, score, quantity);
        for m in self.measured.iter().filter(|m| (m.distribution, m.score, m.quantity) == key) {
            let step = self.experiment.steps.iter().position(|&k| k as f64 == m.at);
            let values = match (quantity, step) {
                (Quantity::Gap, Some(i)) => differences(&m.values, &truth.exact_gaps[i]),
                _ => m.values.clone(),
            };
            match curves.iter_mut().find(|curve| curve.arm == m.arm) {
                Some(curve) => curve.points.push((m.at, values)),
                None => curves.push(Curve { arm: &m.arm, points: vec![(m.at, values)] }),
            }
        }
        curves
    }

    fn csv(&self) -> Table {
        let measured = self.measured.iter().map(|m| {
            (m.distribution, m.score, m.arm.as_str(), m.quantity, m.at, m.values.as_slice())
        });
        let exact = self.truths.iter().flat_map(|truth| {
            let gaps = self.experiment.steps.iter().zip(&truth.exact_gaps);
            let (of, gap) = (truth.distribution, Quantity::Gap);
            gaps.map(move |(&k, gaps)| (of, Score::True, EXACT, gap, k as f64, gaps.as_slice()))
        });
        table!(measured.chain(exact), |(of, score, arm, quantity, at, values)| {
            "law" => of.name(),
            "score" => score.name(),
            "arm" => arm,
            "quantity" => quantity.name(),
            "at" => Cell::number(at, Digits::Significant(3)),
            "trials" => values.len(),
            Column::from("mean").error("std_error") => mean(values, Digits::Significant(3)),
        })
    }

    fn page(&self, truth: &Truth) -> Page {
        let (times, steps) = (&self.experiment.times, &self.experiment.steps);
        let facts = [
            ("exact variances above 1, %", &truth.above_one),
            ("‖G‖² off the diagonal, %", &truth.off_diagonal),
        ];
        let columns = named(0..times.len(), |&i| times[i].to_string());
        let facts =
            grid("t =", &named(facts, |fact| fact.0.into()), &columns, |(_, values), &i| {
                Cell::number(100.0 * values[i], 2)
            });
        let gaps = steps.iter().zip(&truth.exact_gaps);
        let gaps: Vec<String> =
            gaps.map(|(k, gaps)| format!("{} (K = {k})", mean(gaps, 3))).collect();
        let own = (!truth.own_distance.is_empty())
            .then(|| Page::new().with("own", scaled(mean_and_error(&truth.own_distance), 1)));
        let scores = Score::ALL.into_iter().map(|score| {
            let sections = QUANTITIES.into_iter().filter_map(|(quantity, title)| {
                let curves = self.curves(truth, score, quantity);
                if curves.is_empty() {
                    return None;
                }
                let orderings =
                    quantity.of_times().then(|| Page::new().with("orderings", orderings(&curves)));
                let page =
                    Page::new().with("title", title).with("file", file(truth, score, quantity));
                Some(page.table("curves", &by_arm(quantity, &curves)).when("orderings", orderings))
            });
            Page::new().with("score", score.name()).each("sections", sections)
        });
        Page::new()
            .with("name", truth.distribution.name())
            .with("about", truth.distribution.describe())
            .table("facts", &facts)
            .with("entropy", measured(Some(truth.entropy), 3))
            .with("gaps", gaps.join(", "))
            .when("own", own)
            .each("scores", scores)
    }
}

/// A distance in units of 10⁻⁴.
fn scaled((value, error): Measured, digits: usize) -> Cell {
    Cell::measured(1e4 * value, 1e4 * error, digits)
}

fn by_arm(quantity: Quantity, curves: &[Curve]) -> Table {
    let points = curves.first().map_or(&[][..], |curve| &curve.points);
    let columns = named(0..points.len(), |&i| points[i].0.to_string());
    let axis = if quantity.of_times() { "t =" } else { "K =" };
    grid(axis, &named(curves, |curve| curve.arm.into()), &columns, |curve, &i| {
        let value = mean_and_error(&curve.points[i].1);
        match quantity {
            _ if quantity.is_distance() => scaled(value, 1),
            // β̃ leaves a density next to nothing where the exact G is large
            _ if value.0.abs() >= 1000.0 => measured(Some(value), Digits::Significant(2)),
            _ => measured(Some(value), 3),
        }
    })
}

/// At how many times LM and OCM are below the others, and heads of low rank below diagonal ones.
fn orderings(curves: &[Curve]) -> String {
    let find = |name: &str| curves.iter().find(|curve| curve.arm == name);
    let mut pairs: Vec<(String, &str)> = Vec::new();
    for ours in ["OCM", "LM"] {
        pairs.extend(RIVALS.map(|rival| (ours.to_string(), rival)));
        pairs.extend([2, 4].map(|rank| (format!("{ours}, r = {rank}"), ours)));
    }
    let counts = pairs.iter().filter_map(|(ours, other)| {
        let [lower, level, higher] = find(ours)?.against(find(other)?);
        Some(format!("{ours} / {other}: {lower} {level} {higher}"))
    });
    counts.collect::<Vec<_>>().join("; ")
}

fn file(truth: &Truth, score: Score, quantity: Quantity) -> String {
    let (name, score, quantity) = (truth.distribution.name(), score.name(), quantity.name());
    format!("covariance-toy-{name}-{score}-{quantity}.svg")
}

fn figure(
    truth: &Truth,
    score: Score,
    quantity: Quantity,
    title: &str,
    curves: &[Curve],
) -> String {
    let line = |one: &Curve| {
        let style = if one.arm.contains("r = ") { Style::Dashed } else { Style::Solid };
        curve(one.arm, one.points.iter().map(|p| (p.0, mean_and_error(&p.1)))).style(style)
    };
    let mut series: Vec<Series> = curves.iter().map(line).collect();
    if quantity.is_distance() {
        let x: Vec<f64> = curves[0].points.iter().map(|p| p.0).collect();
        let own = vec![mean_and_error(&truth.own_distance).0; x.len()];
        series.push(Series::line("the distribution's own samples", x, own).style(Style::Faint));
    }
    let x_label = if quantity.of_times() { "t" } else { "steps K" };
    let name = format!("{}, {} score", truth.distribution.name(), score.name());
    chart(name, [x_label, &title.replace(" × 10⁴", "")], LOG, series)
}
