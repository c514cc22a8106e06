//! The experiment's tables and figures, with the paper's claims beside ours.

use super::arm::{Curve, Point};
use super::distribution::Distribution;
use super::{EXACT, Report, SM};
use crate::layout::{LOG, Measured, chart, curve, differences, grid, measured, named, table};
use crate::outcome::Outcome;
use crate::page::Page;
use tweedie::Result;
use tweedie::covariance::CovarianceConfig;
use tweedie::likelihood::mean_and_error;
use tweedie::sample::LastStep;
use tweedie_report::plot::{DensityChart, GaussianKde, Series, Style, linspace};
use tweedie_report::table::{Cell, Column, Digits, Table};

impl Report {
    /// `mixture.csv`, the page and the figures.
    ///
    /// # Errors
    /// If a density cannot be computed.
    pub fn outcome(&self) -> Result<Outcome> {
        let e = &self.experiment;
        let parts = e.distributions().iter().map(|&of| {
            let curves: Vec<&Curve> = self.main_curves(of).collect();
            let claims = self.claims(of).map(|table| Page::new().table("claims", &table));
            Page::new()
                .with("formula", of.formula())
                .table("main", &self.table(&curves))
                .when("claims", claims)
        });
        let variants: Vec<&Curve> = self.with_last(Distribution::Gaussian, true).collect();
        let variants =
            (!variants.is_empty()).then(|| Page::new().table("variants", &self.table(&variants)));
        let page = Page::new()
            .with("all pairs", e.recipe.iterations * e.recipe.pairs as u64)
            .each("distributions", parts)
            .when("variants", variants)
            .with("last steps", self.last_steps().join("\n"));
        let mut outcome = Outcome::new("mixture", self.csv(), page);
        for (&of, letter) in e.distributions().iter().zip(["a", "b"]) {
            outcome = outcome
                .figure(format!("figure-2{letter}.svg"), self.figure(of))
                .figure(format!("figure-3a-{}.svg", of.name()), self.density(of)?);
        }
        Ok(outcome.figures(self.plane.figures()))
    }

    fn with_last(&self, of: Distribution, variant: bool) -> impl Iterator<Item = &Curve> {
        let last = self.experiment.last;
        self.curves
            .iter()
            .filter(move |c| (c.distribution, c.variant, c.last) == (of, variant, last))
    }

    /// The curves of the main table and of Figure 2: the variants left out.
    pub fn main_curves(&self, of: Distribution) -> impl Iterator<Item = &Curve> {
        self.with_last(of, false)
    }

    /// The arm of Likelihood Matching that stands for all where one is enough.
    fn reference_arm(&self) -> Option<String> {
        self.experiment.reference().map(|n| format!("LM N={n}"))
    }

    fn curve(
        &self,
        of: Distribution,
        arm: &str,
        covariance: CovarianceConfig,
        last: LastStep,
    ) -> Option<&Curve> {
        let key = (of, Some(covariance), last);
        let mut same = self.curves.iter().filter(|c| (c.distribution, c.covariance, c.last) == key);
        same.find(|c| c.arm == arm)
    }

    /// The point of an arm under a covariance, with the experiment's last step.
    pub fn point(
        &self,
        of: Distribution,
        arm: &str,
        covariance: CovarianceConfig,
        steps: usize,
    ) -> Option<&Point> {
        self.curve(of, arm, covariance, self.experiment.last)?.at(steps)
    }

    /// The best of SM's fixed covariances at `steps`.
    fn best_sm(&self, of: Distribution, steps: usize) -> Option<(CovarianceConfig, &Point)> {
        let point = |c| Some((c, self.point(of, SM, c, steps)?));
        let all = CovarianceConfig::fixed().into_iter().filter_map(point);
        all.min_by(|a, b| a.1.mean().0.total_cmp(&b.1.mean().0))
    }

    fn csv(&self) -> Table {
        let mmd = |p: &Point| measured(Some(p.mean()), Digits::Significant(3));
        let each = self.curves.iter().flat_map(|c| c.points.iter().map(move |p| (c, p)));
        table!(each, |(c, p)| {
            "law" => c.distribution.name(),
            "arm" => c.arm.as_str(),
            "covariance" => c.covariance.map(CovarianceConfig::name),
            "last_step" => c.covariance.map(|_| last_name(c.last)),
            "steps" => c.covariance.map(|_| p.steps),
            "trials" => p.values.len(),
            Column::from("mmd2").error("std_error") => mmd(p),
        })
    }

    fn table(&self, curves: &[&Curve]) -> Table {
        let steps = named(self.experiment.steps.clone(), |k| format!("K = {k}"));
        grid("", &named(curves, |curve| label(curve)), &steps, |curve, k| {
            curve.at(*k).map(cell).into()
        })
    }

    /// The paper's claims and this project's aims, with what was measured.
    fn claims(&self, of: Distribution) -> Option<Table> {
        let e = &self.experiment;
        let (arm, n) = (self.reference_arm()?, e.reference()?);
        let mut table = Table::new([
            "K".to_string(),
            format!("LM N={n} / best SM"),
            "exact moments / exact score with β".into(),
            format!("LM N={n} / exact moments"),
            "each N against SM's best".into(),
            "more N better".into(),
        ]);
        for &k in &e.steps {
            let learned = |arm: &str| self.point(of, arm, CovarianceConfig::Own, k);
            let (lm, exact, sm) = (learned(&arm), learned(EXACT), self.best_sm(of, k));
            let beta = self.point(of, EXACT, CovarianceConfig::Beta, k);
            let all: Vec<&Point> =
                e.transitions.iter().filter_map(|n| learned(&format!("LM N={n}"))).collect();
            let beside = all.iter().map(|p| sm.map_or("", |(_, sm)| verdict(p, sm)));
            let more = match (all.first(), all.last()) {
                (Some(few), Some(many)) if all.len() > 1 => verdict(many, few),
                _ => "",
            };
            let best = sm.map_or("", |s| s.0.name());
            table.push([
                k.to_string(),
                format!("{} ({best})", ratio(lm, sm.map(|s| s.1))),
                ratio(exact, beta),
                ratio(lm, exact),
                beside.collect::<Vec<_>>().join(", "),
                more.into(),
            ]);
        }
        Some(table)
    }

    /// A line for each arm: what a draw costs over the posterior mean in the last step.
    fn last_steps(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let arm = self.reference_arm().unwrap_or_default();
        for &of in self.experiment.distributions() {
            for (arm, covariance) in [
                (arm.as_str(), CovarianceConfig::Own),
                (SM, CovarianceConfig::Beta),
                (EXACT, CovarianceConfig::Own),
            ] {
                let curve = |last| self.curve(of, arm, covariance, last);
                let both = curve(LastStep::Mean).zip(curve(LastStep::Noise));
                let Some((mean, noise)) = both else { continue };
                let beside = |(m, n): (&Point, &Point)| {
                    let (k, verdict) = (m.steps, verdict(n, m));
                    format!("K={k}: mean {}, draw {} ({verdict})", cell(m), cell(n))
                };
                let cells: Vec<String> =
                    mean.points.iter().zip(&noise.points).map(beside).collect();
                lines.push(format!("- {}, {}: {}", of.formula(), label(mean), cells.join("; ")));
            }
        }
        lines
    }

    /// MMD² against `K`.
    fn figure(&self, of: Distribution) -> String {
        let steps = &self.experiment.steps;
        let shown =
            |c: &&Curve| c.arm != EXACT || matches!(c.covariance, Some(CovarianceConfig::Own));
        let line = |c: &Curve| {
            let nothing = (f64::NAN, f64::NAN);
            let value = |k: &usize| (*k as f64, c.at(*k).map_or(nothing, Point::mean));
            match (c.arm == EXACT, c.covariance) {
                (false, Some(_)) => curve(label(c), steps.iter().map(value)),
                (true, _) => curve(label(c), steps.iter().map(value)).style(Style::Dashed),
                (_, None) => {
                    let (x, y) = steps.iter().map(value).map(|(k, (mean, _))| (k, mean)).unzip();
                    Series::line(label(c), x, y).style(Style::Dashed)
                }
            }
        };
        let series = self.main_curves(of).filter(shown).map(line).collect();
        let title =
            format!("{}: distance to the distribution against sampling steps", of.formula());
        chart(title, ["sampling steps K", "MMD², mean ± s.e. over trials"], LOG, series)
    }

    /// Estimated densities of the samples at the number of steps nearest to 10, of the first trials
    /// together, beside the exact one.
    fn density(&self, of: Distribution) -> Result<String> {
        // a fixed bandwidth: Silverman's would take the distance of the modes for their width
        const BANDWIDTH: f64 = 0.2;
        let range = (-16.0, 16.0);
        let steps = self.experiment.steps.iter().copied();
        let steps = steps.min_by_key(|k| k.abs_diff(10)).unwrap_or(10);
        let x = linspace(range, 400);
        let exact: Vec<f64> = x.iter().map(|x| of.density(*x)).collect::<Result<_>>()?;
        let mut curves = vec![Series::line("exact density", x, exact).style(Style::Dashed)];
        for curve in self.main_curves(of) {
            let reference = self.reference_arm().is_some_and(|arm| arm == curve.arm);
            let shown = match curve.covariance {
                Some(CovarianceConfig::Beta) => curve.arm == SM,
                Some(CovarianceConfig::Own) => curve.arm == EXACT || reference,
                _ => false,
            };
            if let (true, Some(point)) = (shown, curve.at(steps)) {
                let kde = GaussianKde::with_bandwidth(&point.samples, BANDWIDTH);
                curves.push(Series::curve(label(curve), range, 400, |x| kde.density(x)));
            }
        }
        Ok(DensityChart {
            title: format!("{}: samples in {steps} steps, kernel width {BANDWIDTH}", of.formula()),
            x_label: "x".into(),
            curves,
            x_range: Some(range),
            ..Default::default()
        }
        .to_svg(760, 480))
    }
}

/// A curve's name in legends and tables.
fn label(curve: &Curve) -> String {
    match curve.covariance {
        None | Some(CovarianceConfig::Own) => curve.arm.clone(),
        Some(covariance) => format!("{}, {}", curve.arm, covariance.label()),
    }
}

fn last_name(last: LastStep) -> &'static str {
    match last {
        LastStep::Mean => "mean",
        LastStep::Noise => "noise",
    }
}

fn cell(point: &Point) -> Cell {
    let (mean, error): Measured = point.mean();
    Cell::measured(1e4 * mean, 1e4 * error, 2)
}

fn ratio(of: Option<&Point>, to: Option<&Point>) -> String {
    match (of, to.map(Point::mean)) {
        (Some(a), Some((mean, error))) if mean > 2.0 * error => {
            format!("{:.2}", a.mean().0.max(0.0) / mean)
        }
        _ => "–".into(),
    }
}

/// Whether `a` is lower or higher than `b` by two standard errors of the paired difference.
fn verdict(a: &Point, b: &Point) -> &'static str {
    let (mean, error) = mean_and_error(&differences(&a.values, &b.values));
    match () {
        () if mean < -2.0 * error => "lower",
        () if mean > 2.0 * error => "higher",
        () => "same",
    }
}
