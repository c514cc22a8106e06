//! The experiment's table, page and figures.

use super::chain::Chain;
use super::path::{Divergence, Nats};
use super::{Judged, Measured, Report, Sampler, samplers};
use crate::layout::{LOG, chart, curve, grid, measured, named, table};
use crate::outcome::Outcome;
use crate::page::Page;
use crate::regression;
use tweedie_report::plot::Series;
use tweedie_report::table::{Cell, Column, Digits, Table};

/// A distance of an output.
pub type Pick = fn(&super::Distance) -> f64;
/// The distances of an output.
const DISTANCES: [(&str, Pick); 2] = [("TV", |d| d.total_variation), ("KL", |d| d.divergence)];

/// What is followed over `K`: the path's divergence, of an error what it adds.
fn followed(sampler: Sampler, divergence: &Divergence) -> Nats {
    match sampler {
        Sampler::Exact(_) => divergence.steps,
        Sampler::Score(_) | Sampler::Hessian(_) => divergence.excess,
    }
}

/// What a sampler is off in.
fn kind(sampler: Sampler) -> &'static str {
    match sampler {
        Sampler::Exact(_) => "none",
        Sampler::Score(_) => "score",
        Sampler::Hessian(_) => "Hessian",
    }
}

/// Nats over many orders of magnitude.
fn small(value: Option<Nats>) -> Cell {
    measured(value, Digits::Significant(3))
}

fn exponent(points: &[(f64, f64)]) -> Cell {
    measured(Some(regression::exponent(points)), 3)
}

impl Measured {
    /// Prior, steps and decoder.
    fn sum(&self, path: &Divergence) -> Nats {
        let parts = [self.prior, path.steps, path.decoder];
        (parts.iter().map(|p| p.0).sum(), parts.iter().map(|p| p.1 * p.1).sum::<f64>().sqrt())
    }

    /// By how many standard errors the ELBO is off the sum of the parts.
    fn disagreement(&self, path: &Divergence) -> Option<f64> {
        let ((sum, error), elbo) = (self.sum(path), path.elbo?);
        Some((elbo.0 - sum) / elbo.1.hypot(error))
    }

    /// A distance of a sampler's output, in one dimension.
    fn output(&self, sampler: Sampler, pick: Pick) -> Option<f64> {
        Some(pick(&self.of(sampler)?.output?))
    }
}

impl Report {
    /// `theory.csv`, the page and the figures.
    pub fn outcome(&self) -> Outcome {
        let each = self.dims().into_iter().flat_map(|dim| Chain::ALL.map(|chain| (dim, chain)));
        let each: Vec<(i64, Chain)> = each.collect();
        let all = self
            .over_steps
            .iter()
            .flat_map(|m| m.judged.iter().filter_map(|judged| m.disagreement(&judged.path)));
        let all: Vec<f64> = all.collect();
        let worst = all.iter().fold(0.0, |worst: f64, z| worst.max(z.abs()));
        let every = self.over_steps.iter().chain(&self.over_sizes).flat_map(|m| &m.judged);
        let lost = every.filter_map(|judged| judged.output).map(|d| d.lost).fold(0.0, f64::max);
        let outputs = Chain::ALL.into_iter().map(|chain| {
            Page::new().table("outputs", &self.outputs(chain)).with("file", output_file(chain))
        });
        let (errors, exponents) = self.errors();
        let page = Page::new()
            .with("from", regression::fitted_from(&self.experiment.steps))
            .table("exponents", &self.exponents(&each))
            .each("paths", each.iter().map(|&(dim, chain)| self.path(dim, chain)))
            .table("elbos", &self.elbos())
            .with("pairs", all.len())
            .with("worst", format!("{worst:.1}"))
            .with("beyond", all.iter().filter(|z| z.abs() > 2.0).count())
            .each("outputs", outputs)
            .with("lost", format!("{lost:.0e}"))
            .table("errors", &errors)
            .with("errors' exponents", exponents);
        let paths =
            each.iter().map(|&(d, chain)| (path_file(d, chain), self.path_figure(d, chain)));
        let outputs = Chain::ALL.map(|chain| (output_file(chain), self.output_figure(chain)));
        Outcome::new("theory", self.table(), page)
            .figures(paths)
            .figures(outputs)
            .figure("errors.svg", self.errors_figure())
    }

    fn dims(&self) -> Vec<i64> {
        self.over_sizes.iter().map(|m| m.dim).collect()
    }

    fn of(&self, dim: i64, chain: Chain) -> impl Iterator<Item = &Measured> {
        self.over_steps.iter().filter(move |m| m.dim == dim && m.chain == chain)
    }

    /// The exponent in the chain's fineness of what `pick` gives for a sampler with its standard
    /// error, over the larger half of the numbers of steps; with the larger of the standard errors
    /// from the residuals and from those.
    fn exponent_of(
        &self,
        dim: i64,
        chain: Chain,
        pick: impl Fn(&Measured) -> Option<Nats>,
    ) -> Nats {
        let large = self
            .of(dim, chain)
            .filter(|m| m.steps >= regression::fitted_from(&self.experiment.steps));
        let point =
            |m: &Measured| pick(m).map(|(value, error)| (chain.fineness(m.steps), value, error));
        regression::exponent_of_noisy(&large.filter_map(point).collect::<Vec<_>>())
    }

    /// The exponent of `pick` of a sampler's divergence from the path, and its standard error.
    pub fn exponent(
        &self,
        dim: i64,
        chain: Chain,
        sampler: Sampler,
        pick: impl Fn(&Divergence) -> Nats,
    ) -> Nats {
        self.exponent_of(dim, chain, |m| m.of(sampler).map(|judged| pick(&judged.path)))
    }

    /// The exponent of `pick` of a sampler's output on the line, which has no noise, and its
    /// standard error.
    pub fn output_exponent(&self, chain: Chain, sampler: Sampler, pick: Pick) -> Nats {
        self.exponent_of(1, chain, |m| Some((m.output(sampler, pick)?, 0.0)))
    }

    fn exponents(&self, each: &[(i64, Chain)]) -> Table {
        let columns = named(each.to_vec(), |(dim, chain)| format!("d = {dim}, {}", chain.name()));
        let rows = named(samplers(2), |sampler| sampler.name());
        grid("", &rows, &columns, |&sampler, &(dim, chain)| {
            let known = self.of(dim, chain).filter(|m| m.of(sampler).is_some()).count() > 2;
            let fitted = || self.exponent(dim, chain, sampler, |d| followed(sampler, d));
            measured(known.then(fitted), 3)
        })
    }

    /// The divergence of the path over `K` on one mixture and chain.
    fn path(&self, dim: i64, chain: Chain) -> Page {
        let columns = named(self.of(dim, chain), |m| format!("K = {}", m.steps));
        let mut rows = named(samplers(dim).into_iter().map(Some), |sampler| match sampler {
            Some(sampler @ Sampler::Exact(_)) => sampler.name(),
            Some(sampler) => format!("{}: what it adds", sampler.name()),
            None => String::new(),
        });
        rows.push(("the prior's part".into(), None));
        let table = grid("", &rows, &columns, |&sampler, m| {
            small(match sampler {
                Some(sampler) => m.of(sampler).map(|judged| followed(sampler, &judged.path)),
                None => Some(m.prior),
            })
        });
        let without = self.of(dim, chain).filter(|m| !m.without_density.is_empty()).map(|m| {
            let names: Vec<String> = m.without_density.iter().map(|s| s.name()).collect();
            Page::new().with("steps", m.steps).with("samplers", names.join(", "))
        });
        Page::new()
            .with("dim", dim)
            .with("chain", chain.name())
            .table("path", &table)
            .each("without density", without)
            .with("file", path_file(dim, chain))
    }

    fn elbos(&self) -> Table {
        let steps = &self.experiment.steps;
        // the first, a middle and the last number of steps
        let shown = [steps[0], steps[steps.len() / 2], steps[steps.len() - 1]];
        let few = |m: &&Measured| m.chain == Chain::LogSnr && shown.contains(&m.steps);
        let few = self.over_steps.iter().filter(few);
        table!(few.flat_map(|m| m.judged.iter().map(move |judged| (m, judged))), |(m, judged)| {
            "" => format!("d = {}", m.dim),
            "K" => m.steps.to_string(),
            "sampler" => judged.sampler.name(),
            "−ELBO − entropy" => measured(judged.path.elbo, 3),
            "sum of the parts" => small(Some(m.sum(&judged.path))),
        })
    }

    fn outputs(&self, chain: Chain) -> Table {
        let all: Vec<&Measured> = self.of(1, chain).collect();
        let mut head = vec![chain.name().to_string(), String::new()];
        head.extend(all.iter().map(|m| format!("K = {}", m.steps)));
        head.push("exponent".into());
        let mut table = Table::new(head);
        for sampler in samplers(1) {
            for (name, pick) in DISTANCES {
                let value = |m: &&Measured| {
                    let distance = m.output(sampler, pick);
                    distance.map(|v| Cell::number(v, Digits::Significant(3))).into()
                };
                let mut row = vec![sampler.name().into(), name.into()];
                row.extend(all.iter().map(value));
                row.push(measured(Some(self.output_exponent(chain, sampler, pick)), 3));
                table.push(row);
            }
        }
        table
    }

    /// What errors of all sizes add, and the exponents in their sizes as a list.
    fn errors(&self) -> (Table, String) {
        let each = self.over_sizes.iter().flat_map(|m| m.judged.iter().map(move |j| (m, j)));
        let over_limit = |m: &Measured, Judged { sampler, path, .. }: &Judged| {
            let score = matches!(sampler, Sampler::Score(_));
            let limit = sampler.size().powi(2) * if score { m.of_score } else { m.of_hessian };
            Cell::measured(path.excess.0 / limit, path.excess.1 / limit, 4)
        };
        let distance = |judged: &Judged, pick: Pick| {
            judged.output.map(|output| Cell::number(pick(&output), Digits::Significant(4)))
        };
        let table = table!(each, |(m, judged)| {
            "" => format!("d = {}", m.dim),
            "error" => kind(judged.sampler),
            "δ" => judged.sampler.size().to_string(),
            "added to the path" => small(Some(judged.path.excess)),
            "over its limit" => over_limit(m, judged),
            "total variation" => distance(judged, |output| output.total_variation),
            "KL of the output" => distance(judged, |output| output.divergence),
        });
        let mut exponents = String::new();
        for m in &self.over_sizes {
            for of in ["score", "Hessian"] {
                let mine = || m.judged.iter().filter(|judged| kind(judged.sampler) == of);
                let path: Vec<_> = mine().map(|j| (j.sampler.size(), j.path.excess.0)).collect();
                exponents += &format!("\n- d = {}, {of}: path {}", m.dim, exponent(&path));
                for (name, pick) in DISTANCES.into_iter().filter(|_| m.dim == 1) {
                    let points: Vec<_> =
                        mine().filter_map(|j| Some((j.sampler.size(), pick(&j.output?)))).collect();
                    exponents += &format!(", {name} of the output {}", exponent(&points));
                }
            }
        }
        (table, exponents.trim_start().into())
    }

    fn path_figure(&self, dim: i64, chain: Chain) -> String {
        let line = |sampler: Sampler| {
            let point =
                |m: &Measured| Some((m.steps as f64, followed(sampler, &m.of(sampler)?.path)));
            curve(sampler.name(), self.of(dim, chain).filter_map(point))
        };
        let y = "KL of the path, nats, ± s.e.; of an error what it adds";
        let series = samplers(dim).into_iter().map(line).collect();
        chart(format!("d = {dim}, {}", chain.name()), ["steps K", y], LOG, series)
    }

    fn output_figure(&self, chain: Chain) -> String {
        let line = |sampler: Sampler| {
            let value = |m: &Measured| Some((m.steps as f64, m.output(sampler, DISTANCES[0].1)?));
            let (x, y) = self.of(1, chain).filter_map(value).unzip();
            Series::line(sampler.name(), x, y)
        };
        let labels = ["steps K", "total variation of the output"];
        let series = samplers(1).into_iter().map(line).collect();
        chart(format!("d = 1, {}", chain.name()), labels, LOG, series)
    }

    fn errors_figure(&self) -> String {
        let Some(m) = self.over_sizes.iter().find(|m| m.dim == 1) else { return String::new() };
        let series = ["score", "Hessian"].into_iter().flat_map(|of| {
            DISTANCES.map(|(name, pick)| {
                let mine = m.judged.iter().filter(|j| kind(j.sampler) == of);
                let points = mine.filter_map(|j| Some((j.sampler.size(), pick(&j.output?))));
                let (x, y) = points.unzip();
                Series::line(format!("{of}: {name}"), x, y)
            })
        });
        let title = format!("d = 1, schedule (18), K = {}", m.steps);
        chart(title, ["δ", "distance of the output"], LOG, series.collect())
    }

    fn table(&self) -> Table {
        let with_error = |name: &str| Column::from(name).error(format!("{name}_std_error"));
        let number = |value: f64| Cell::number(value, Digits::Significant(3));
        let output = |judged: &Judged, pick: Pick| judged.output.map(|o| number(pick(&o)));
        let parts = [("steps", &self.over_steps), ("errors", &self.over_sizes)];
        let all = parts.into_iter().flat_map(|(part, all)| all.iter().map(move |m| (part, m)));
        let each = all.flat_map(|(part, m)| m.judged.iter().map(move |j| (part, m, j)));
        table!(each, |(part, m, judged)| {
            "part" => part,
            "dim" => m.dim.to_string(),
            "chain" => m.chain.key(),
            "steps" => m.steps,
            "sampler" => judged.sampler.key(),
            "delta" => number(judged.sampler.size()),
            with_error("path") => small(Some(judged.path.steps)),
            with_error("excess") => small(Some(judged.path.excess)),
            with_error("decoder") => small(Some(judged.path.decoder)),
            "prior" => number(m.prior.0),
            with_error("elbo_gap") => small(judged.path.elbo),
            "total_variation" => output(judged, |o| o.total_variation),
            "output_divergence" => output(judged, |o| o.divergence),
            "output_lost" => output(judged, |o| o.lost),
        })
    }
}

fn path_file(dim: i64, chain: Chain) -> String {
    format!("path-{dim}-{}.svg", chain.key())
}

fn output_file(chain: Chain) -> String {
    format!("output-{}.svg", chain.key())
}
