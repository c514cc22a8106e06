//! The experiment's table, page and figures.

use std::path::Path;

use super::judge::LARGEST_OF_MMD;
use super::{EXACT, PROBES, Quantity, Report, Score, Truth};
use crate::{table, write_all};
use tweedie::Result;
use tweedie::likelihood::mean_and_error;
use tweedie_report::plot::{LineChart, Scale, Series, Style};

/// Arms that the diagonal heads of LM and OCM are compared with, as the paper does.
const RIVALS: [&str; 4] = ["NPR", "SN", "I-DDPM", "Analytic-DPM"];

/// Quantities that are functions of `t`, and of `K`, with their headings.
const OF_TIMES: [(Quantity, &str); 2] = [
    (Quantity::Diagonal, "Relative error of the diagonal of G"),
    (Quantity::Whole, "Relative error of G, Frobenius norm"),
];
const OF_STEPS: [(Quantity, &str); 3] = [
    (Quantity::Gap, "nats per row that the K-step ELBO loses to that of the exact moments"),
    (Quantity::Ddpm, "MMD² × 10⁴ of samples, DDPM (η = 1)"),
    (Quantity::Ddim, "MMD² × 10⁴ of samples, DDIM (η = 0)"),
];

/// One arm in one quantity: `t` or `K`, and what was measured of each trial.
struct Curve<'a> {
    arm: &'a str,
    points: Vec<(f64, Vec<f64>)>,
}

impl Curve<'_> {
    fn at(&self, i: usize) -> (f64, f64) {
        mean_and_error(&self.points[i].1)
    }

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

/// `a − b`, trial by trial.
fn differences(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

impl Report {
    /// Writes `covariance-toy.csv`, `covariance-toy.md` and figures for each law and score into
    /// `dir`.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let mut files = vec![
            ("covariance-toy.csv".to_string(), self.csv()),
            ("covariance-toy.md".to_string(), self.markdown()),
        ];
        for truth in &self.truths {
            for score in Score::ALL {
                for (quantity, title) in OF_TIMES.into_iter().chain(OF_STEPS) {
                    let curves = self.curves(truth, score, quantity);
                    if !curves.is_empty() {
                        let figure = figure(truth, score, quantity, title, &curves);
                        files.push((figure_name(truth, score, quantity), figure));
                    }
                }
            }
        }
        write_all(dir, &files)
    }

    /// Arm by arm; gaps over those of the exact moments.
    fn curves(&self, truth: &Truth, score: Score, quantity: Quantity) -> Vec<Curve<'_>> {
        let mut curves: Vec<Curve> = Vec::new();
        let of = self
            .measured
            .iter()
            .filter(|m| (m.law, m.score, m.quantity) == (truth.law, score, quantity));
        for measured in of {
            let step = self.experiment.steps.iter().position(|&k| k as f64 == measured.at);
            let values = match (quantity, step) {
                (Quantity::Gap, Some(i)) => differences(&measured.values, &truth.exact_gaps[i]),
                _ => measured.values.clone(),
            };
            let point = (measured.at, values);
            match curves.iter_mut().find(|curve| curve.arm == measured.arm) {
                Some(curve) => curve.points.push(point),
                None => curves.push(Curve { arm: &measured.arm, points: vec![point] }),
            }
        }
        curves
    }

    fn csv(&self) -> String {
        let head = ["law", "score", "arm", "quantity", "at", "trials", "mean", "std_error"];
        let measured = self
            .measured
            .iter()
            .map(|m| (m.law, m.score, m.arm.as_str(), m.quantity, m.at, m.values.as_slice()));
        let exact = self.truths.iter().flat_map(|truth| {
            let gaps = self.experiment.steps.iter().zip(&truth.exact_gaps);
            gaps.map(|(&k, gaps)| {
                (truth.law, Score::True, EXACT, Quantity::Gap, k as f64, gaps.as_slice())
            })
        });
        let rows = measured.chain(exact).map(|(law, score, arm, quantity, at, values)| {
            let (mean, error) = mean_and_error(values);
            vec![
                law.name().to_string(),
                score.name().to_string(),
                arm.to_string(),
                quantity.name().to_string(),
                at.to_string(),
                values.len().to_string(),
                format!("{mean:.6e}"),
                format!("{error:.6e}"),
            ]
        });
        table::csv(&head, &rows.collect::<Vec<_>>())
    }

    fn markdown(&self) -> String {
        let e = &self.experiment;
        let mut out = format!(
            "# Every covariance against the exact one\n\nOptimal Covariance Matching, §5.1 and Figure 3. G = Cov[ε|x_t] of each \
             method against the law's own, on {} rows x_t for each t: √(E‖Ĝ − G‖²/E‖G‖²), so that G = 0 has 1. The bound and the \
             samples take K steps on the angle grid, the last from ε = 1e-5; MMD² is unbiased, by five kernels, of {} samples \
             against the law in closed form, up to {LARGEST_OF_MMD} dimensions. Means ± one standard error over {} trials, each with \
             weights, batches, test rows and samples of its own. VP. Seed {}.\n\n{}\n\nAll heads of a law see the same rows, times and \
             noise. SN and Rademacher-{PROBES} (whose signs are the same for all rows) hold G in [0, 1], as their authors do. β and \
             I-DDPM's variance are of a step: their G is what the bridge would need for it in a step of the chain of 1000.\n",
            e.rows,
            e.samples,
            e.trials,
            e.seed,
            e.recipe.describe()
        );
        for truth in &self.truths {
            out += &format!("\n## {}: {}\n\n", truth.law.name(), truth.law.describe());
            out += &self.facts(truth);
            for score in Score::ALL {
                out += &format!("\n### {} score\n", score.name());
                for (quantity, title) in OF_TIMES {
                    let curves = self.curves(truth, score, quantity);
                    out += &section(truth, score, quantity, title, "t =", &curves);
                    out += &orderings(&curves);
                }
                for (quantity, title) in OF_STEPS {
                    let curves = self.curves(truth, score, quantity);
                    if !curves.is_empty() {
                        out += &section(truth, score, quantity, title, "K =", &curves);
                    }
                }
            }
        }
        out + &format!("\nThis run took {:.0} s.\n", self.seconds)
    }

    /// What is known of the law at each time.
    fn facts(&self, truth: &Truth) -> String {
        let head: Vec<String> = std::iter::once("t =".into())
            .chain(self.experiment.times.iter().map(f64::to_string))
            .collect();
        let row = |name: &str, values: &[f64]| {
            std::iter::once(name.to_string())
                .chain(values.iter().map(|v| format!("{:.2}", 100.0 * v)))
                .collect()
        };
        let rows = vec![
            row("exact variances above 1, %", &truth.above_one),
            row("‖G‖² off the diagonal, %", &truth.off_diagonal),
        ];
        let mut out = table::markdown(&head, &rows);
        out +=
            &format!("\nEntropy: {} nats per test row.", table::measured(Some(truth.entropy), 3));
        let gaps = self.experiment.steps.iter().zip(&truth.exact_gaps);
        let gaps = gaps.map(|(k, gaps)| {
            format!("{} (K = {k})", table::measured(Some(mean_and_error(gaps)), 3))
        });
        let gaps = gaps.collect::<Vec<_>>().join(", ");
        out += &format!(" Above it, minus the ELBO with the exact moments: {gaps}.");
        if !truth.own_distance.is_empty() {
            let (mean, error) = mean_and_error(&truth.own_distance);
            out += &format!(
                " MMD² × 10⁴ of the law's own samples: {}.",
                scaled((mean, error), 1e4, 1)
            );
        }
        out + "\n"
    }
}

fn scaled((mean, error): (f64, f64), by: f64, digits: usize) -> String {
    table::measured(Some((by * mean, by * error)), digits)
}

fn cell(quantity: Quantity, value: (f64, f64)) -> String {
    match quantity {
        Quantity::Ddpm | Quantity::Ddim => scaled(value, 1e4, 1),
        // β̃ leaves a density next to nothing where the exact G is large
        _ if value.0.abs() >= 1000.0 => format!("{:.1e} ± {:.0e}", value.0, value.1),
        _ => table::measured(Some(value), 3),
    }
}

fn section(
    truth: &Truth,
    score: Score,
    quantity: Quantity,
    title: &str,
    axis: &str,
    curves: &[Curve],
) -> String {
    let points = curves.first().map_or(0, |curve| curve.points.len());
    let head = std::iter::once(axis.to_string());
    let head: Vec<String> = head
        .chain(curves.iter().take(1).flat_map(|c| c.points.iter().map(|p| p.0.to_string())))
        .collect();
    let rows: Vec<Vec<String>> = curves
        .iter()
        .map(|curve| {
            let cells = (0..points).map(|i| cell(quantity, curve.at(i)));
            std::iter::once(curve.arm.to_string()).chain(cells).collect()
        })
        .collect();
    let name = figure_name(truth, score, quantity);
    format!("\n{title}:\n\n{}\n![]({name})\n", table::markdown(&head, &rows))
}

/// At how many times LM and OCM are below the others, and heads of low rank below diagonal ones.
fn orderings(curves: &[Curve]) -> String {
    let find = |name: &str| curves.iter().find(|curve| curve.arm == name);
    let mut pairs: Vec<(String, &str)> = Vec::new();
    for ours in ["OCM", "LM"] {
        pairs.extend(RIVALS.map(|rival| (ours.to_string(), rival)));
        pairs.extend([2, 4].map(|rank| (format!("{ours}, r = {rank}"), ours)));
    }
    let said = pairs.iter().filter_map(|(ours, other)| {
        let [lower, level, higher] = find(ours)?.against(find(other)?);
        Some(format!("{ours} / {other}: {lower} {level} {higher}"))
    });
    let said: Vec<String> = said.collect();
    format!(
        "\nTimes at which the first is lower, level, higher, by two standard errors of paired differences: {}.\n",
        said.join("; ")
    )
}

fn figure_name(truth: &Truth, score: Score, quantity: Quantity) -> String {
    format!("covariance-toy-{}-{}-{}.svg", truth.law.name(), score.name(), quantity.name())
}

fn figure(
    truth: &Truth,
    score: Score,
    quantity: Quantity,
    title: &str,
    curves: &[Curve],
) -> String {
    let of_times = OF_TIMES.iter().any(|(q, _)| *q == quantity);
    let mut series: Vec<Series> = curves
        .iter()
        .map(|curve| {
            let (y, error) = (0..curve.points.len()).map(|i| curve.at(i)).unzip();
            let x = curve.points.iter().map(|p| p.0).collect();
            let style = if curve.arm.contains("r = ") { Style::Dashed } else { Style::Solid };
            Series::line(curve.arm, x, y).with_error(error).style(style)
        })
        .collect();
    if matches!(quantity, Quantity::Ddpm | Quantity::Ddim) {
        let x: Vec<f64> = curves[0].points.iter().map(|p| p.0).collect();
        let own = vec![mean_and_error(&truth.own_distance).0; x.len()];
        series.push(Series::line("the law's own samples", x, own).style(Style::Faint));
    }
    LineChart {
        title: format!("{}, {} score", truth.law.name(), score.name()),
        x_label: if of_times { "t".into() } else { "steps K".into() },
        y_label: title.replace(" × 10⁴", ""),
        x_scale: Scale::Log,
        y_scale: Scale::Log,
        series,
        ..Default::default()
    }
    .to_svg(760, 520)
}
