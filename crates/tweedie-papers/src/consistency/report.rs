//! The experiment's tables and figures.

use tweedie_report::plot::{Series, Style};
use tweedie_report::table::{Cell as Entry, Digits, Table};

use super::accuracy::{efficiency, inefficiency, rmse};
use super::{Report, independent};
use crate::layout::{LOG, Measured, chart, curve, grid, measured, named, table};
use crate::outcome::Outcome;
use crate::page::Page;
use crate::parameter_estimation::draws::Estimator;
use crate::parameter_estimation::study::{Cell, GROUPS, Group, SETTINGS, Setting};
use crate::regression;

impl Report {
    /// `consistency.csv`, a figure for each setting and the page.
    pub fn outcome(&self) -> Outcome {
        let settings = SETTINGS.map(|setting| setting());
        let failed = |pick: fn(&Cell) -> usize| self.cells.iter().map(pick).sum::<usize>();
        let page = Page::new()
            .with("from", regression::fitted_from(&self.experiment.sample_sizes))
            .with("fits", failed(|c| c.errors.len()))
            .with("unconverged", failed(|c| c.unconverged))
            .with("degenerate", failed(|c| c.degenerate))
            .each("settings", settings.iter().map(|setting| self.page(setting)));
        let figures = settings.iter().map(|setting| (file(setting), self.figure(setting)));
        Outcome::new("consistency", self.csv(), page).figures(figures)
    }

    fn of(&self, setting: &Setting, estimator: Estimator) -> impl Iterator<Item = &Cell> {
        let name = setting.name;
        self.cells.iter().filter(move |c| c.setting.name == name && c.estimator == estimator)
    }

    fn at(&self, setting: &Setting, estimator: Estimator, n: usize) -> Option<&Cell> {
        self.of(setting, estimator).find(|cell| cell.n == n)
    }

    /// Maximum likelihood on the same data.
    fn exact(&self, cell: &Cell) -> &Cell {
        self.at(&cell.setting, Estimator::MaximumLikelihood, cell.n)
            .expect("a block has maximum likelihood")
    }

    /// The exponent of a group's RMSE in `n`, and its standard error from those of the RMSEs.
    pub(super) fn rate(&self, setting: &Setting, estimator: Estimator, group: usize) -> Measured {
        let points = self
            .of(setting, estimator)
            .filter(|c| c.n >= regression::fitted_from(&self.experiment.sample_sizes))
            .map(|c| {
                let (value, error) = rmse(c, &GROUPS[group].1);
                (c.n as f64, value, error)
            });
        regression::exponent_of_measured(&points.collect::<Vec<_>>())
    }

    fn csv(&self) -> Table {
        let bias = |c: &Cell, group: &Group| {
            let biases = group.1.clone().map(|j| c.bias(j));
            biases.fold(0.0, |a: f64, b| if b.abs() > a.abs() { b } else { a })
        };
        let each = self.cells.iter().flat_map(|c| GROUPS.iter().map(move |group| (c, group)));
        table!(each, |(c, group)| {
            "setting" => c.setting.name,
            "n" => c.n,
            "estimator" => c.estimator.name(),
            "draws" => c.draws,
            "replicates" => c.errors.len(),
            "group" => group.0,
            "rmse" => measured(Some(rmse(c, &group.1)), 4),
            "efficiency" => measured(Some(efficiency(c, self.exact(c), &group.1)), 3),
            "largest_bias" => Entry::number(bias(c, group), Digits::Significant(3)),
            "unconverged" => c.unconverged,
            "degenerate" => c.degenerate,
        })
    }

    fn page(&self, setting: &Setting) -> Page {
        let sizes = named(self.experiment.sample_sizes.clone(), |n| format!("n = {n}"));
        let rows = named(self.experiment.estimators(), Estimator::name);
        let groups = GROUPS.iter().map(|(name, group)| {
            let errors = grid("", &rows, &sizes, |&estimator, &n| {
                measured(self.at(setting, estimator, n).map(|c| rmse(c, group)), 4)
            });
            Page::new().with("group", name).table("errors", &errors)
        });
        let mut columns = named(sizes.iter().map(|size| Some(size.1)), |n| {
            format!("n = {}", n.unwrap_or_default())
        });
        columns.push(("n → ∞".into(), None));
        let inefficiencies = grid("", &rows[1..], &columns, |&estimator, n| {
            let at = |n| self.at(setting, estimator, n).map(|c| inefficiency(c, self.exact(c)));
            let limit = || {
                let mut all = self.asymptotic.iter().filter(|a| a.setting.name == setting.name);
                let found = all.find(|a| a.estimator == independent(estimator))?;
                Some((found.inefficiency, found.inefficiency_error))
            };
            measured(n.map_or_else(limit, at), 3)
        });
        Page::new()
            .with("setting", setting.name)
            .with("file", file(setting))
            .table("rates", &self.rates(setting))
            .each("groups", groups)
            .table("inefficiencies", &inefficiencies)
    }

    fn rates(&self, setting: &Setting) -> Table {
        let largest = self.experiment.sample_sizes.last().copied().unwrap_or_default();
        let rates = (0..GROUPS.len()).map(|group| (group, true));
        let columns = rates.chain((0..GROUPS.len()).map(|group| (group, false)));
        let columns = named(columns, |&(group, rate)| match rate {
            true => format!("rate: {}", GROUPS[group].0),
            false => format!("efficiency at n = {largest}: {}", GROUPS[group].0),
        });
        let rows = named(self.experiment.estimators(), Estimator::name);
        grid("", &rows, &columns, |&estimator, &(group, rate)| {
            if rate {
                return measured(Some(self.rate(setting, estimator, group)), 3);
            }
            let last = self.of(setting, estimator).last();
            let last = last.filter(|_| estimator != Estimator::MaximumLikelihood);
            measured(last.map(|c| efficiency(c, self.exact(c), &GROUPS[group].1)), 3)
        })
    }

    /// RMSE of the means against `n`, and the slope 1/√n.
    fn figure(&self, setting: &Setting) -> String {
        let (name, group) = &GROUPS[0];
        let line = |estimator: Estimator| {
            let cells = self.of(setting, estimator);
            curve(estimator.name(), cells.map(|c| (c.n as f64, rmse(c, group))))
        };
        let mut series: Vec<Series> = self.experiment.estimators().into_iter().map(line).collect();
        if let Some(last) = self.of(setting, Estimator::MaximumLikelihood).last() {
            let (first, n) = (self.experiment.sample_sizes[0] as f64, last.n as f64);
            let level = 0.8 * rmse(last, group).0;
            let slope = vec![level * (n / first).sqrt(), level];
            series.push(Series::line("1/√n", vec![first, n], slope).style(Style::Dashed));
        }
        chart(
            format!("{} components: RMSE of the {name}", setting.name),
            ["sample size n", "root mean squared error, ± s.e."],
            LOG,
            series,
        )
    }
}

fn file(setting: &Setting) -> String {
    format!("consistency-{}.svg", setting.name)
}
