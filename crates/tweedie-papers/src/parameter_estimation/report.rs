//! The experiment's tables and figures.

use tweedie_report::plot::Series;
use tweedie_report::table::{Cell as Entry, Column, Digits, Table};

use super::draws::{Estimator, Sampling, ScoreWeight};
use super::gradient_noise::GradientNoise;
use super::study::{Cell, GROUPS, Group, PARAMETERS, SETTINGS, Setting};
use super::{GRIDS, REFERENCE, Report, TRANSITIONS, on_grid};
use crate::layout::{LOG, chart, curve, grid, measured, named, table};
use crate::outcome::Outcome;
use crate::page::Page;

impl Report {
    /// `parameter-estimation.csv`, `gradient-noise.csv`, a figure for each setting and the page.
    pub fn outcome(&self) -> Outcome {
        let (settings, sizes) = (SETTINGS.map(|s| s()), &self.experiment.sample_sizes);
        let each = settings.iter().flat_map(|setting| sizes.iter().map(move |&n| (setting, n)));
        let errors = each.map(|(setting, n)| {
            let page = Page::new().with("setting", setting.name).with("n", n);
            page.table("errors", &self.errors(setting, n))
        });
        let noise = settings.iter().map(|setting| {
            let page = Page::new().with("setting", setting.name).with("file", noise_file(setting));
            page.table("noise", &self.noises(setting)).table("limits", &self.limits(setting))
        });
        let used = self.table.iter().map(|c| c.draws).find(|draws| *draws > 0).unwrap_or(0);
        let page = Page::new().with("draws", used).each("errors", errors).each("noise", noise);
        let figures = settings.iter().map(|setting| (noise_file(setting), self.figure(setting)));
        let page = self.beside_the_paper(self.near_the_limit(page));
        Outcome::new("parameter-estimation", self.csv(), page.table("doubled", &self.doubling()))
            .table("gradient-noise", self.noise_csv())
            .figures(figures)
    }

    fn csv(&self) -> Table {
        let number = |value: f64| Entry::number(value, 6);
        let parts = [("table", &self.table), ("doubled", &self.doubled)];
        let cells = parts.into_iter().flat_map(|(part, all)| all.iter().map(move |c| (part, c)));
        let each = cells.flat_map(|(part, c)| (0..PARAMETERS.len()).map(move |j| (part, c, j)));
        table!(each, |(part, c, j)| {
            "part" => part,
            "setting" => c.setting.name,
            "n" => c.n,
            "estimator" => c.estimator.name(),
            "draws" => c.draws,
            "replicates" => c.errors.len(),
            "parameter" => PARAMETERS[j],
            "truth" => number(c.setting.truth.natural()[j]),
            "mae" => number(c.mae(j)),
            "std_error" => number(c.sd(j)),
            "bias" => number(c.bias(j)),
            "unconverged" => c.unconverged,
            "degenerate" => c.degenerate,
        })
    }

    fn noise_csv(&self) -> Table {
        table!(&self.noise, |g| {
            "setting" => g.setting.name,
            "estimator" => g.estimator.name(),
            "transitions" => g.estimator.group(),
            "loss_variance" => Entry::number(g.loss, Digits::Significant(6)),
            "gradient_variance" => Entry::number(g.gradient, 5),
            Column::from("draws_to_match").error("draws_to_match_se") =>
                Entry::measured(g.draws_to_match, g.draws_to_match_error, 4),
            Column::from("inefficiency").error("inefficiency_se") =>
                Entry::measured(g.inefficiency, g.inefficiency_error, 5),
        })
    }

    fn cell(&self, setting: &str, n: usize, estimator: Estimator) -> Option<&Cell> {
        let mine = |c: &&Cell| (c.setting.name, c.n, c.estimator) == (setting, n, estimator);
        self.table.iter().find(mine)
    }

    fn errors(&self, setting: &Setting, n: usize) -> Table {
        let exact = self.cell(setting.name, n, Estimator::MaximumLikelihood);
        let [means, sds, weight] = &GROUPS;
        let error = |c: &Cell, group: &Group| Entry::number(c.group_mae(&group.1), 4);
        let ratio = |c: &Cell, group: &Group| measured(exact.map(|e| c.ratio(e, &group.1)), 3);
        let mine = self.table.iter().filter(|c| c.setting.name == setting.name && c.n == n);
        table!(mine, |c| {
            "estimator" => c.estimator.name(),
            "draws" => c.draws,
            "means" => error(c, means),
            "sds" => error(c, sds),
            "weight" => error(c, weight),
            "ratio: means" => ratio(c, means),
            "ratio: sds" => ratio(c, sds),
            "ratio: weight" => ratio(c, weight),
            "not converged" => c.unconverged,
            "at a bound" => c.degenerate,
        })
    }

    /// How many of LM's errors with `N ≥ 5` are within 5 % of maximum likelihood's, and which are
    /// not.
    fn near_the_limit(&self, page: Page) -> Page {
        let (mut within, mut clearly, mut beyond) = (0, 0, Vec::new());
        let matching = self.table.iter().filter(|c| {
            let enough =
                matches!(c.estimator, Estimator::LikelihoodMatching { transitions: 5.., .. });
            enough && c.estimator.sampling() == Sampling::Balanced
        });
        for c in matching {
            let (setting, n, name) = (c.setting.name, c.n, c.estimator.name());
            let Some(exact) = self.cell(setting, n, Estimator::MaximumLikelihood) else { continue };
            for (group, range) in &GROUPS {
                let (ratio, error) = c.ratio(exact, range);
                if ratio <= 1.05 {
                    within += 1;
                    continue;
                }
                clearly += usize::from(ratio - 2.0 * error > 1.05);
                beyond
                    .push(format!("{name} {group} ({setting}, n = {n}): {ratio:.3} ± {error:.3}"));
            }
        }
        let found = Page::new().with("clearly", clearly).with("cases", beyond.join("; "));
        page.with("within", within)
            .with("cases", within + beyond.len())
            .when("beyond", (!beyond.is_empty()).then_some(found))
    }

    fn beside_the_paper(&self, page: Page) -> Page {
        let once = Estimator::sm(ScoreWeight::Sigma2, Sampling::Once);
        let loud = Estimator::sm(ScoreWeight::Unweighted(1e-3), Sampling::Independent);
        let ours = [Estimator::MaximumLikelihood, REFERENCE, loud, once];
        let ours = named(ours, Estimator::name);
        let (sizes, settings) = (&self.experiment.sample_sizes, SETTINGS.map(|s| s()));
        let beside = [100, 200].into_iter().filter(|n| sizes.contains(n)).map(|n| {
            let rows = named(0..PARAMETERS.len(), |&j| PARAMETERS[j].to_string());
            let table = grid("parameter", &rows, &ours, |&j, &estimator| {
                let cell = self.cell("separated", n, estimator);
                cell.map(|c| format!("{:.4} ({:.4})", c.mae(j), c.sd(j))).into()
            });
            Page::new().with("n", n).table("beside", &table)
        });
        let each = settings.iter().flat_map(|s| sizes.iter().map(move |&n| (s.name, n)));
        let each: Vec<(String, (&str, usize))> = named(each, |(s, n)| format!("{s}, n = {n}"));
        let score = |e: &Estimator| matches!(e, Estimator::ScoreMatching { .. });
        let score = named(super::estimators().into_iter().filter(score), Estimator::name);
        let over = grid("SM variant", &score, &each, |&estimator, &(setting, n)| {
            let (lm, sm) = (self.cell(setting, n, REFERENCE), self.cell(setting, n, estimator));
            measured(lm.zip(sm).map(|(lm, sm)| lm.ratio(sm, &GROUPS[0].1)), 3)
        });
        let limit = [("maximum likelihood", Estimator::MaximumLikelihood), ("LM", REFERENCE)];
        let columns = limit.iter().flat_map(|&(name, e)| [4, 5].map(|j| (name, e, j)));
        let columns = named(columns, |(name, _, j)| format!("{name}, {}", PARAMETERS[*j]));
        let bias = grid("setting", &each, &columns, |&(setting, n), &(_, estimator, j)| {
            let of = |c: &Cell| (c.bias(j), c.sd(j) / (c.errors.len() as f64).sqrt());
            measured(self.cell(setting, n, estimator).map(of), 4)
        });
        page.with("reference", REFERENCE.name())
            .each("beside", beside)
            .table("over SM", &over)
            .table("bias", &bias)
    }

    fn doubling(&self) -> Table {
        let mut table = Table::new(["setting", "n", "estimator", "means", "sds", "weight"]);
        for double in &self.doubled {
            let (setting, n, estimator) = (double.setting.name, double.n, double.estimator);
            let Some(mut single) = self.cell(setting, n, estimator).cloned() else { continue };
            single.errors.truncate(double.errors.len());
            let ratios = GROUPS.iter().map(|(_, g)| measured(Some(double.ratio(&single, g)), 3));
            let row = [setting.into(), n.into(), estimator.name().into()];
            table.push(row.into_iter().chain(ratios));
        }
        table
    }

    fn noise_of(&self, setting: &Setting, estimator: Estimator) -> Option<&GradientNoise> {
        self.noise.iter().find(|g| g.setting.name == setting.name && g.estimator == estimator)
    }

    fn noises(&self, setting: &Setting) -> Table {
        let (rows, columns) = (named(TRANSITIONS, usize::to_string), named(GRIDS, |g| g.2.into()));
        grid("N", &rows, &columns, |&n, &on| {
            let found = self.noise_of(setting, on_grid(on, n)).map(|g| {
                let (draws, error) = (g.draws_to_match, g.draws_to_match_error);
                format!("{draws:.2} ± {error:.2} ({:.2}; {:.3})", g.gradient, g.loss)
            });
            found.into()
        })
    }

    fn limits(&self, setting: &Setting) -> Table {
        let limit = |g: &GradientNoise| {
            (g.draws_to_match < 100.0).then_some((g.inefficiency, g.inefficiency_error))
        };
        table!(self.noise.iter().filter(|g| g.setting.name == setting.name), |g| {
            "objective" => g.estimator.name().replace(", independent draws", ""),
            "noise per draw" => Entry::measured(g.draws_to_match, g.draws_to_match_error, 2),
            "relative sd" => measured(limit(g), 3),
        })
    }

    /// Draws per datum at which noise doubles the variance, against `N`.
    fn figure(&self, setting: &Setting) -> String {
        let line = |on: (_, _, &str)| -> Series {
            let point = |n: usize| {
                let g = self.noise_of(setting, on_grid(on, n))?;
                Some((n as f64, (g.draws_to_match, g.draws_to_match_error)))
            };
            curve(on.2, TRANSITIONS.into_iter().filter_map(point))
        };
        chart(
            format!("Noise of the gradient at the truth, {} components", setting.name),
            ["transitions N", "draws per datum that double the variance"],
            LOG,
            GRIDS.map(line).into(),
        )
    }
}

fn noise_file(setting: &Setting) -> String {
    format!("gradient-noise-{}.svg", setting.name)
}
