//! The experiment's table, page and figures.

use std::path::Path;

use super::accuracy::{efficiency, inefficiency, rmse};
use super::{Report, SETTINGS, estimators, independent};
use crate::parameter_estimation::draws::Estimator;
use crate::parameter_estimation::study::{Cell, GROUPS, Setting};
use crate::{regression, table, write_all};
use tweedie::Result;
use tweedie_report::plot::{LineChart, Scale, Series, Style};

const COLUMNS: [&str; 13] = [
    "setting",
    "n",
    "estimator",
    "draws",
    "replicates",
    "group",
    "rmse",
    "rmse_std_error",
    "efficiency",
    "efficiency_std_error",
    "largest_bias",
    "unconverged",
    "degenerate",
];

impl Report {
    /// Writes `consistency.csv`, `consistency.md` and a figure for each setting into `dir`.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let mut files = vec![
            ("consistency.csv".to_string(), self.csv()),
            ("consistency.md".to_string(), self.markdown()),
        ];
        for setting in SETTINGS.map(|setting| setting()) {
            files.push((format!("consistency-{}.svg", setting.name), self.figure(&setting)));
        }
        write_all(dir, &files)
    }

    fn of(&self, setting: &Setting, estimator: Estimator) -> impl Iterator<Item = &Cell> {
        let name = setting.name;
        self.cells.iter().filter(move |c| c.setting.name == name && c.estimator == estimator)
    }

    /// Maximum likelihood on the same data.
    fn exact(&self, cell: &Cell) -> &Cell {
        self.of(&cell.setting, Estimator::MaximumLikelihood)
            .find(|exact| exact.n == cell.n)
            .expect("a block has maximum likelihood")
    }

    /// The first of the larger half of the sample sizes, of few the last but two, so that three are
    /// left to fit.
    fn fitted_from(&self) -> usize {
        let sizes = &self.experiment.sample_sizes;
        sizes[(sizes.len() / 2).min(sizes.len() - 3)]
    }

    /// The exponent of a group's RMSE in `n`, and its standard error from those of the RMSEs.
    pub(super) fn rate(&self, setting: &Setting, estimator: Estimator, group: usize) -> (f64, f64) {
        let points: Vec<(f64, f64, f64)> = self
            .of(setting, estimator)
            .filter(|c| c.n >= self.fitted_from())
            .map(|c| {
                let (value, error) = rmse(c, &GROUPS[group].1);
                (c.n as f64, value, error)
            })
            .collect();
        regression::exponent_of_measured(&points)
    }

    fn csv(&self) -> String {
        let row = |c: &Cell, (name, group): &(&str, std::ops::Range<usize>)| {
            let (rmse, efficiency) = (rmse(c, group), efficiency(c, self.exact(c), group));
            let bias = group
                .clone()
                .map(|j| c.bias(j))
                .fold(0.0, |a: f64, b| if b.abs() > a.abs() { b } else { a });
            let exact = |v: f64| format!("{v:.6e}");
            vec![
                c.setting.name.to_string(),
                c.n.to_string(),
                c.estimator.name(),
                c.draws.to_string(),
                c.errors.len().to_string(),
                name.to_string(),
                exact(rmse.0),
                exact(rmse.1),
                exact(efficiency.0),
                exact(efficiency.1),
                exact(bias),
                c.unconverged.to_string(),
                c.degenerate.to_string(),
            ]
        };
        let rows: Vec<Vec<String>> =
            self.cells.iter().flat_map(|c| GROUPS.iter().map(move |group| row(c, group))).collect();
        table::csv(&COLUMNS, &rows)
    }

    fn markdown(&self) -> String {
        let e = &self.experiment;
        let mut out = format!(
            "# Consistency (Theorem 2)\n\nA mixture of two isotropic Gaussians in the plane with standard deviations 0.7 and 0.9 and \
             weight 0.4, means ±(1, 0.5) (*overlapping*) or ±(3, 1.5) (*separated*), all seven parameters fitted to n rows; {} \
             replicates of each n, {} draws (x, t) per datum in antithetic pairs, seed {}. Root mean squared errors over a group of parameters.\n\n\
             *Rate*: the exponent of the RMSE in n over n ≥ {}, ± the standard error that follows from those of the RMSEs; theory: −½. \
             *Efficiency*: maximum likelihood's mean squared error over the estimator's on the same data.\n",
            e.replicates,
            e.draws,
            e.seed,
            self.fitted_from()
        );
        for setting in SETTINGS.map(|setting| setting()) {
            out += &format!("\n## {}\n\n", setting.name);
            self.rates(&mut out, &setting);
            self.errors(&mut out, &setting);
            self.inefficiencies(&mut out, &setting);
            out += &format!("\n![](consistency-{}.svg)\n", setting.name);
        }
        let failed = |pick: fn(&Cell) -> usize| self.cells.iter().map(pick).sum::<usize>();
        let fits: usize = self.cells.iter().map(|c| c.errors.len()).sum();
        out + &format!(
            "\nOf {fits} fits {} did not converge and in {} a parameter ran into its bound; all are counted. This run took {:.0} s.\n",
            failed(|c| c.unconverged),
            failed(|c| c.degenerate),
            self.seconds
        )
    }

    fn rates(&self, out: &mut String, setting: &Setting) {
        let largest = self.experiment.sample_sizes[self.experiment.sample_sizes.len() - 1];
        let mut head = vec![String::new()];
        head.extend(GROUPS.iter().map(|(name, _)| format!("rate: {name}")));
        head.extend(GROUPS.iter().map(|(name, _)| format!("efficiency at n = {largest}: {name}")));
        let rows: Vec<Vec<String>> = estimators()
            .into_iter()
            .map(|estimator| {
                let mut row = vec![estimator.name()];
                let rate = |group| table::measured(Some(self.rate(setting, estimator, group)), 3);
                row.extend((0..GROUPS.len()).map(rate));
                for (_, group) in &GROUPS {
                    let last = self.of(setting, estimator).last();
                    let exact = estimator == Estimator::MaximumLikelihood;
                    let value =
                        last.filter(|_| !exact).map(|c| efficiency(c, self.exact(c), group));
                    row.push(table::measured(value, 3));
                }
                row
            })
            .collect();
        *out += &table::markdown(&head, &rows);
    }

    fn errors(&self, out: &mut String, setting: &Setting) {
        for (name, group) in &GROUPS {
            *out += &format!("\nRMSE, {name}:\n\n");
            let rows: Vec<Vec<String>> = estimators()
                .into_iter()
                .map(|estimator| {
                    let cells = self.of(setting, estimator);
                    let values = cells.map(|c| table::measured(Some(rmse(c, group)), 4));
                    std::iter::once(estimator.name()).chain(values).collect()
                })
                .collect();
            *out += &table::markdown(&self.head(), &rows);
        }
    }

    fn inefficiencies(&self, out: &mut String, setting: &Setting) {
        *out += "\nMean over the seven parameters of the RMSE over maximum likelihood's on the same data, beside what the objective's \
                 curvature and gradient say it tends to without noise of the draws (sandwich):\n\n";
        let mut head = self.head();
        head.push("n → ∞".into());
        let rows: Vec<Vec<String>> = estimators()
            .into_iter()
            .skip(1)
            .map(|estimator| {
                let values = self
                    .of(setting, estimator)
                    .map(|c| table::measured(Some(inefficiency(c, self.exact(c))), 3));
                let limit = self
                    .asymptotic
                    .iter()
                    .find(|a| {
                        a.setting.name == setting.name && a.estimator == independent(estimator)
                    })
                    .map(|a| (a.inefficiency, a.inefficiency_error));
                std::iter::once(estimator.name())
                    .chain(values)
                    .chain(std::iter::once(table::measured(limit, 3)))
                    .collect()
            })
            .collect();
        *out += &table::markdown(&head, &rows);
    }

    fn head(&self) -> Vec<String> {
        let sizes = self.experiment.sample_sizes.iter().map(|n| format!("n = {n}"));
        std::iter::once(String::new()).chain(sizes).collect()
    }

    /// RMSE of the means against `n`, and the slope 1/√n.
    fn figure(&self, setting: &Setting) -> String {
        let (name, group) = &GROUPS[0];
        let mut series: Vec<Series> = estimators()
            .into_iter()
            .map(|estimator| {
                let cells: Vec<&Cell> = self.of(setting, estimator).collect();
                let values: Vec<(f64, f64)> = cells.iter().map(|c| rmse(c, group)).collect();
                let n = cells.iter().map(|c| c.n as f64).collect();
                Series::line(estimator.name(), n, values.iter().map(|v| v.0).collect())
                    .with_error(values.iter().map(|v| v.1).collect())
            })
            .collect();
        if let Some(last) = self.of(setting, Estimator::MaximumLikelihood).last() {
            let (first, n) = (self.experiment.sample_sizes[0] as f64, last.n as f64);
            let level = 0.8 * rmse(last, group).0;
            let line =
                Series::line("1/√n", vec![first, n], vec![level * (n / first).sqrt(), level]);
            series.push(line.style(Style::Dashed));
        }
        LineChart {
            title: format!("{} components: RMSE of the {name}", setting.name),
            x_label: "sample size n".into(),
            y_label: "root mean squared error, ± s.e.".into(),
            x_scale: Scale::Log,
            y_scale: Scale::Log,
            series,
            ..Default::default()
        }
        .to_svg(760, 460)
    }
}
