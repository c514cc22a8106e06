//! The experiment's table, page and figures.

use std::path::Path;

use super::{Point, Report};
use crate::{table, write_all};
use tweedie::Result;
use tweedie::likelihood::mean_and_error;
use tweedie_report::plot::{LineChart, Series, Style};

/// A curve's name and what it shows.
type Line = (&'static str, fn(&Point) -> f64);

impl Report {
    /// Writes `weighting-interpolation.csv`, `weighting-interpolation.md` and the figures into
    /// `dir`.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let likelihood = self.figure(
            "Likelihood against the weighting",
            "nats per row, less is better",
            &[("ODE", |p| p.nll), ("bound", |p| p.bound)],
        );
        let quality = self.figure(
            "Samples against the weighting",
            "MMD², less is better",
            &[("samples", |p| p.mmd)],
        );
        write_all(
            dir,
            &[
                ("weighting-interpolation.csv", self.csv()),
                ("weighting-interpolation.md", self.markdown()),
                ("weighting-interpolation-nll.svg", likelihood),
                ("weighting-interpolation-mmd.svg", quality),
            ],
        )
    }

    /// Mean and standard error over the trainings at `power`.
    fn at(&self, power: f64, f: impl Fn(&Point) -> f64) -> (f64, f64) {
        mean_and_error(&self.points.iter().filter(|p| p.power == power).map(f).collect::<Vec<_>>())
    }

    /// The difference to the first `p`, training by training.
    fn over_first(&self, power: f64, f: impl Fn(&Point) -> f64) -> (f64, f64) {
        let first = self.experiment.powers[0];
        let at = |power: f64| self.points.iter().filter(move |p| p.power == power);
        mean_and_error(&at(power).zip(at(first)).map(|(a, b)| f(a) - f(b)).collect::<Vec<_>>())
    }

    fn csv(&self) -> String {
        let head = ["power", "trial", "nll", "bound", "mmd2", "flagged"];
        let rows = self.points.iter().map(|p| {
            vec![
                p.power.to_string(),
                p.trial.to_string(),
                format!("{:.6}", p.nll),
                format!("{:.6}", p.bound),
                format!("{:.6e}", p.mmd),
                p.flagged.to_string(),
            ]
        });
        table::csv(&head, &rows.collect::<Vec<_>>())
    }

    fn markdown(&self) -> String {
        let e = &self.experiment;
        let mut out = format!(
            "# Between σ² and likelihood weighting\n\nScoreFlow, §7. The loss weighs ‖ε̂ − ε‖² by (g²/σ²)^p: p = 0 is σ² \
             weighting, p = 1 likelihood weighting. {} {} VP, t importance-sampled for every p. {} trainings for each p, with the \
             same seeds; ± one standard error over them. Seed {}.\n\n*NLL*: −ln p by the probability-flow ODE (rtol 1e-5); \
             *bound*: by Theorem 3; nats per row, {} test rows at most. Differences to the first p are of the same seed, which \
             shares its draws. MMD² × 10⁴ (unbiased, five kernels) of {} samples \
             by the ODE against {}.\n\n",
            self.rows,
            e.recipe.describe(),
            e.trials,
            e.seed,
            e.rows,
            e.samples,
            if self.truth.is_some() { "the law in closed form" } else { "the test rows" },
        );
        if let Some(truth) = self.truth {
            out += &format!("The law itself has an NLL of {truth:.3} on these rows.\n\n");
        }
        let over = |what: &str| format!("{what} over p = {}", e.powers[0]);
        let (over_nll, over_bound) = (over("NLL"), over("bound"));
        let head = ["p", "NLL", &over_nll, "bound", &over_bound, "MMD² × 10⁴", "rows flagged"];
        let rows: Vec<Vec<String>> = e
            .powers
            .iter()
            .map(|&power| {
                let flagged: usize =
                    self.points.iter().filter(|p| p.power == power).map(|p| p.flagged).sum();
                let change = |f: fn(&Point) -> f64| match power == e.powers[0] {
                    true => None,
                    false => Some(self.over_first(power, f)),
                };
                vec![
                    power.to_string(),
                    table::measured(Some(self.at(power, |p| p.nll)), 4),
                    table::measured(change(|p| p.nll), 4),
                    table::measured(Some(self.at(power, |p| p.bound)), 4),
                    table::measured(change(|p| p.bound), 4),
                    table::measured(Some(self.at(power, |p| 1e4 * p.mmd)), 2),
                    flagged.to_string(),
                ]
            })
            .collect();
        out += &table::markdown(&head, &rows);
        out += "\n![](weighting-interpolation-nll.svg)\n\n![](weighting-interpolation-mmd.svg)\n\n## Published\n\nScoreFlow, \
                Table 2, CIFAR-10, VP: NLL / bound in bits per dimension and FID of 3.16 / 3.28 / 3.98 with σ² weighting, 2.95 / \
                3.08 / 6.03 with likelihood weighting and importance sampling. Likelihood costs samples there; weightings between \
                are named as a way to choose, without numbers.\n";
        out + &format!("\nThis run took {:.0} s.\n", self.seconds)
    }

    fn figure(&self, title: &str, y_label: &str, lines: &[Line]) -> String {
        let powers = self.experiment.powers.clone();
        let mut series: Vec<Series> = lines
            .iter()
            .map(|&(name, f)| {
                let (y, error) = powers.iter().map(|&power| self.at(power, f)).unzip();
                Series::line(name, powers.clone(), y).with_error(error)
            })
            .collect();
        if let (Some(truth), true) = (self.truth, lines.len() > 1) {
            let line = Series::line("the law", powers.clone(), vec![truth; powers.len()]);
            series.push(line.style(Style::Dashed));
        }
        LineChart {
            title: title.into(),
            x_label: "p, from σ² to likelihood weighting".into(),
            y_label: y_label.into(),
            series,
            ..Default::default()
        }
        .to_svg(640, 420)
    }
}
