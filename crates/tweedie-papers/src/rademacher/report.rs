//! The experiment's table, page and figures.

use std::path::Path;

use super::{AtTime, OfLaw, Report};
use crate::{table, write_all};
use tweedie::Result;
use tweedie::likelihood::mean_and_error;
use tweedie_report::plot::{LineChart, Scale, Series, Style};

/// Below this what is off the diagonal is rounding (of `‖G‖²`, 1e-16 of it), and one product exact.
const EXACT: f64 = 1e-6;

impl AtTime {
    /// The slope of `ln error` on `ln M` by least squares, trial by trial: mean and standard error;
    /// nothing where one product is exact, or there is but one `M`.
    pub fn slope(&self, probes: &[usize]) -> Option<(f64, f64)> {
        if self.predicted < EXACT || probes.len() < 2 {
            return None;
        }
        let x: Vec<f64> = probes.iter().map(|&m| (m as f64).ln()).collect();
        let middle = mean_and_error(&x).0;
        let square: f64 = x.iter().map(|x| (x - middle).powi(2)).sum();
        let of_trial = |trial: usize| {
            let products =
                x.iter().zip(&self.errors).map(|(x, errors)| (x - middle) * errors[trial].ln());
            products.sum::<f64>() / square
        };
        Some(mean_and_error(&(0..self.head.len()).map(of_trial).collect::<Vec<_>>()))
    }

    /// How many products have the head's error: `(predicted/head)²`.
    pub fn worth(&self) -> f64 {
        (self.predicted / mean_and_error(&self.head).0).powi(2)
    }
}

impl Report {
    /// Writes `rademacher.csv`, `rademacher.md` and a figure for each law into `dir`.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let mut files = vec![
            ("rademacher.csv".to_string(), self.csv()),
            ("rademacher.md".to_string(), self.markdown()),
        ];
        for of in &self.laws {
            files.push((format!("rademacher-{}.svg", of.law.name()), self.figure(of)));
        }
        write_all(dir, &files)
    }

    fn csv(&self) -> String {
        let head = ["law", "method", "probes", "quantity", "t", "mean", "std_error"];
        let mut rows = Vec::new();
        for of in &self.laws {
            let mut note =
                |method: &str, m: Option<usize>, quantity: &str, t: Option<f64>, (mean, error)| {
                    rows.push(vec![
                        of.law.name().to_string(),
                        method.to_string(),
                        m.map_or(String::new(), |m| m.to_string()),
                        quantity.to_string(),
                        t.map_or(String::new(), |t| t.to_string()),
                        format!("{mean:.6e}"),
                        format!("{error:.6e}"),
                    ]);
                };
            let probes = &self.experiment.probes;
            for at in &of.times {
                for (i, &m) in probes.iter().enumerate() {
                    let errors = mean_and_error(&at.errors[i]);
                    note("rademacher", Some(m), "diagonal-error", Some(at.t), errors);
                    let held = mean_and_error(&at.held[i]);
                    note("rademacher", Some(m), "diagonal-error-held", Some(at.t), held);
                }
                note("ocm", None, "diagonal-error", Some(at.t), mean_and_error(&at.head));
                if let Some(slope) = at.slope(probes) {
                    note("rademacher", None, "slope", Some(at.t), slope);
                }
            }
            for (i, &m) in probes.iter().enumerate() {
                note("rademacher", Some(m), "elbo-gap", None, mean_and_error(&of.gaps[i]));
                note("rademacher", Some(m), "milliseconds", None, (of.milliseconds.2[i], f64::NAN));
            }
            note("ocm", None, "elbo-gap", None, mean_and_error(&of.head_gap));
            note("exact", None, "elbo-gap", None, mean_and_error(&of.exact_gap));
            note("ocm", None, "milliseconds", None, (of.milliseconds.1, f64::NAN));
            note("score", None, "milliseconds", None, (of.milliseconds.0, f64::NAN));
        }
        table::csv(&head, &rows)
    }

    fn markdown(&self) -> String {
        let e = &self.experiment;
        let mut out = format!(
            "# The diagonal by random signs\n\nOptimal Covariance Matching, Figure 1 and Table 1. The diagonal of G as the mean of \
             v ⊙ Gv over M vectors v of random signs, each one pass back through the true score, against the exact one: \
             √(E‖diag(Ĝ − G)‖²/E‖diag G‖²), {} rows for each t, signs of its own for each row; means ± one standard error over {} \
             trials. In theory it is √(Σ_(i≠j) G_ij²/Σ G_ii²)/√M (*theory*, at M = 1), slope −½. *Held*: in [0, 1] at M = {}, as samplers \
             use it. OCM: a learned head under the same score, *worth* so many products. Seed {}.\n\nThe gap is ln p less the \
             ELBO of {} steps, nats per row, with the library's estimator (signs of its own for each row and step, held in [0, 1]). Passes are of the score \
             network, forward and back; a head of its own network is one more forward. Milliseconds are per 1000 rows of a score network \
             of the recipe's size, the least of several, on this machine.\n\n{}\n",
            e.rows,
            e.trials,
            e.probes[e.probes.len() - 1],
            e.seed,
            e.steps,
            e.recipe.describe()
        );
        for of in &self.laws {
            out += &format!("\n## {}: {}\n\n{}", of.law.name(), of.law.describe(), self.errors(of));
            out += &format!("\n{}\n![](rademacher-{}.svg)\n", self.costs(of), of.law.name());
        }
        out += "\n## Published\n\nOCM, Figure 1: on CIFAR-10, d = 3072, an acceptable diagonal takes M ≥ 100 products.\n";
        out + &format!("\nThis run took {:.0} s.\n", self.seconds)
    }

    fn errors(&self, of: &OfLaw) -> String {
        let probes = &self.experiment.probes;
        let mut head: Vec<String> = vec!["t".into(), "theory".into()];
        head.extend(probes.iter().map(|m| format!("M = {m}")));
        head.extend(["slope", "held", "OCM", "worth"].map(String::from));
        let rows: Vec<Vec<String>> = of
            .times
            .iter()
            .map(|at| {
                let mut cells = vec![at.t.to_string(), format!("{:.4}", at.predicted)];
                cells.extend(
                    at.errors.iter().map(|errors| format!("{:.4}", mean_and_error(errors).0)),
                );
                cells.push(table::measured(at.slope(probes), 3));
                cells.push(
                    at.held
                        .last()
                        .map_or(String::new(), |held| format!("{:.4}", mean_and_error(held).0)),
                );
                cells.push(table::measured(Some(mean_and_error(&at.head)), 4));
                cells.push(format!("{:.1}", at.worth()));
                cells
            })
            .collect();
        table::markdown(&head, &rows)
    }

    fn costs(&self, of: &OfLaw) -> String {
        let (score, with_head, with_probes) = &of.milliseconds;
        let row = |name: &str, forward: &str, back: &str, ms: f64, gap: Option<&Vec<f64>>| {
            vec![
                name.to_string(),
                forward.to_string(),
                back.to_string(),
                format!("{ms:.2}"),
                format!("{:.2}", ms / score),
                table::measured(gap.map(|gap| mean_and_error(gap)), 3),
            ]
        };
        let mut rows = vec![
            row("score alone", "1", "0", *score, None),
            row("OCM head", "1 + 1", "0", *with_head, Some(&of.head_gap)),
        ];
        for (i, m) in self.experiment.probes.iter().enumerate() {
            let name = format!("Rademacher, M = {m}");
            rows.push(row(&name, "1", &m.to_string(), with_probes[i], Some(&of.gaps[i])));
        }
        let d = of.law.mixture().dim();
        let gap = table::measured(Some(mean_and_error(&of.exact_gap)), 3);
        rows.push(vec![
            "exact diagonal".into(),
            "1".into(),
            d.to_string(),
            String::new(),
            String::new(),
            gap,
        ]);
        let gap = format!("gap, K = {}", self.experiment.steps);
        let head =
            ["", "forward passes", "backward passes", "ms per 1000 rows", "over the score", &gap];
        table::markdown(&head, &rows)
    }

    /// Errors over `M`, a curve for each time, and those of the head as lines.
    fn figure(&self, of: &OfLaw) -> String {
        let x: Vec<f64> = self.experiment.probes.iter().map(|&m| m as f64).collect();
        let mut series = Vec::new();
        for (colour, at) in of.times.iter().enumerate() {
            let (y, error) = at.errors.iter().map(|errors| mean_and_error(errors)).unzip();
            let line = Series::line(format!("t = {}", at.t), x.clone(), y).with_error(error);
            series.push(line.colour(colour));
            let head = vec![mean_and_error(&at.head).0; x.len()];
            let name = if colour == 0 { "OCM head" } else { "" };
            series.push(Series::line(name, x.clone(), head).style(Style::Dashed).colour(colour));
        }
        LineChart {
            title: format!("{}: the diagonal of G by M products", of.law.name()),
            x_label: "products M".into(),
            y_label: "relative error of the diagonal".into(),
            x_scale: Scale::Log,
            y_scale: Scale::Log,
            series,
            ..Default::default()
        }
        .to_svg(760, 480)
    }
}
