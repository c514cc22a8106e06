//! The experiment's table, page and figures.

use std::path::Path;

use super::chain::Chain;
use super::path::{Divergence, Nats};
use super::{Judged, Measured, Report, Sampler, samplers};
use crate::{regression, table, write_all};
use tweedie::Result;
use tweedie_report::plot::{LineChart, Scale, Series};

const COLUMNS: [&str; 18] = [
    "part",
    "dim",
    "chain",
    "steps",
    "sampler",
    "delta",
    "path",
    "path_std_error",
    "excess",
    "excess_std_error",
    "decoder",
    "decoder_std_error",
    "prior",
    "elbo_gap",
    "elbo_gap_std_error",
    "total_variation",
    "output_divergence",
    "output_lost",
];

/// What is followed over `K`: the path's divergence, of an error what it adds.
fn followed(sampler: Sampler, divergence: &Divergence) -> Nats {
    match sampler {
        Sampler::Exact(_) => divergence.steps,
        Sampler::Score(_) | Sampler::Hessian(_) => divergence.excess,
    }
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
}

impl Report {
    /// Writes `theory.csv`, `theory.md` and the figures into `dir`.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let mut rows = cells("steps", &self.over_steps);
        rows.extend(cells("errors", &self.over_sizes));
        let mut files = vec![
            ("theory.csv".to_string(), table::csv(&COLUMNS, &rows)),
            ("theory.md".to_string(), self.markdown()),
        ];
        for chain in Chain::ALL {
            for dim in self.dims() {
                files.push((
                    format!("path-{dim}-{}.svg", chain.key()),
                    self.path_figure(dim, chain),
                ));
            }
            files.push((format!("output-{}.svg", chain.key()), self.output_figure(chain)));
        }
        files.push(("errors.svg".into(), self.errors_figure()));
        write_all(dir, &files)
    }

    fn dims(&self) -> Vec<i64> {
        self.over_sizes.iter().map(|m| m.dim).collect()
    }

    fn of(&self, dim: i64, chain: Chain) -> impl Iterator<Item = &Measured> {
        self.over_steps.iter().filter(move |m| m.dim == dim && m.chain == chain)
    }

    /// The exponent in the chain's fineness of what `pick` says of a sampler and its standard
    /// error, over the larger half of the numbers of steps; with the larger of the standard errors
    /// from the residuals and from those.
    fn exponent_of(
        &self,
        dim: i64,
        chain: Chain,
        pick: impl Fn(&Measured) -> Option<Nats>,
    ) -> Nats {
        let from = self.fitted_from();
        let points: Vec<(f64, f64, f64)> = self
            .of(dim, chain)
            .filter(|m| m.steps >= from)
            .filter_map(|m| pick(m).map(|(value, error)| (chain.fineness(m.steps), value, error)))
            .collect();
        regression::exponent_of_noisy(&points)
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
        self.exponent_of(1, chain, |m| Some((pick(&m.of(sampler)?.output?), 0.0)))
    }

    fn markdown(&self) -> String {
        let steps = &self.experiment.steps;
        let mut out = format!(
            "# Theorem 1 on mixtures\n\nMixtures of mean 0 and about unit variance in 1, 2 and 10 dimensions with their exact score and \
             Hessian; {} rows, seed {}. *Schedule (18)*: the paper's, c0 = 1, c1 = 3, T = K, all its steps; *VP, log-SNR*: β from 0.1 to \
             20, K − 1 steps even in the log signal-to-noise ratio from ε = 1e-3. Exponents are of T/ln T for (18), whose longest step \
             is c1 ln T/T, and of K for VP, fitted to K ≥ {}; ± is the larger of the standard errors from the residuals and from \
             those of the values.\n\n\
             *Path*: KL of the exact path from x_T to x_(t_1) against the sampler's, in nats, exact but for the mean over the rows. The \
             prior's part and the last step's (from t_1 to 0) stand apart: −ELBO less the entropy is the sum of the three.\n",
            self.experiment.rows,
            self.experiment.seed,
            self.fitted_from()
        );
        self.exponents(&mut out);
        for dim in self.dims() {
            for chain in Chain::ALL {
                self.values(&mut out, dim, chain);
            }
        }
        self.elbos(&mut out);
        self.outputs(&mut out);
        self.errors(&mut out);
        out + &format!(
            "\nNumbers of steps: {}. This run took {:.0} s.\n",
            steps.iter().map(usize::to_string).collect::<Vec<_>>().join(", "),
            self.seconds
        )
    }

    fn exponents(&self, out: &mut String) {
        *out += "\n## Exponents of the path's divergence\n\nThe theory: −1 for a covariance that is off, −2 for the exact one; what an \
                 error adds: 0 for the score's, −1 for the Hessian's. The schedule (18) also lengthens the process as T grows, ∫β by 2 ln T \
                 and its start to 1/T: what every step of it pays alike, H = 0 and an error of the Hessian where the data are \
                 forgotten, β̃ near the data, is ln²T/T there, of exponent −1 + 1/(ln T − 1), and an error of the score \
                 costs ln T, of exponent 1/(ln T − 1): 0.29 at T = 80 and 0.18 at T = 640.\n\n";
        let columns: Vec<(i64, Chain)> =
            self.dims().into_iter().flat_map(|dim| Chain::ALL.map(|chain| (dim, chain))).collect();
        let mut head = vec![String::new()];
        head.extend(columns.iter().map(|(dim, chain)| format!("d = {dim}, {}", chain.name())));
        let rows: Vec<Vec<String>> = samplers(2)
            .into_iter()
            .map(|sampler| {
                let cell = |&(dim, chain): &(i64, Chain)| {
                    let known = self.of(dim, chain).filter(|m| m.of(sampler).is_some()).count() > 2;
                    let fitted =
                        known.then(|| self.exponent(dim, chain, sampler, |d| followed(sampler, d)));
                    table::measured(fitted, 3)
                };
                std::iter::once(sampler.name()).chain(columns.iter().map(cell)).collect()
            })
            .collect();
        *out += &table::markdown(&head, &rows);
    }

    fn values(&self, out: &mut String, dim: i64, chain: Chain) {
        *out += &format!("\n### Path, d = {dim}, {}\n\n", chain.name());
        let all: Vec<&Measured> = self.of(dim, chain).collect();
        let head: Vec<String> = std::iter::once(String::new())
            .chain(all.iter().map(|m| format!("K = {}", m.steps)))
            .collect();
        let mut rows: Vec<Vec<String>> = samplers(dim)
            .into_iter()
            .map(|sampler| {
                let cell = |m: &&Measured| {
                    m.of(sampler)
                        .map_or(String::new(), |judged| small(followed(sampler, &judged.path)))
                };
                let name = match sampler {
                    Sampler::Exact(_) => sampler.name(),
                    Sampler::Score(_) | Sampler::Hessian(_) => {
                        format!("{}: what it adds", sampler.name())
                    }
                };
                std::iter::once(name).chain(all.iter().map(cell)).collect()
            })
            .collect();
        rows.push(
            std::iter::once("the prior's part".into())
                .chain(all.iter().map(|m| small(m.prior)))
                .collect(),
        );
        *out += &table::markdown(&head, &rows);
        for m in all.iter().filter(|m| !m.without_density.is_empty()) {
            let names: Vec<String> = m.without_density.iter().map(|s| s.name()).collect();
            *out += &format!("\nNo density at K = {}: {}.\n", m.steps, names.join(", "));
        }
        *out += &format!("\n![](path-{dim}-{}.svg)\n", chain.key());
    }

    fn elbos(&self, out: &mut String) {
        *out += "\n## −ELBO less the entropy\n\nThe program's own K-step ELBO on the same rows with other noise, less their −ln p, beside \
                 the sum of prior, path and decoder.\n\n";
        let head = ["", "K", "sampler", "−ELBO − entropy", "sum of the parts"];
        let mut rows = Vec::new();
        for m in self.over_steps.iter().filter(|m| m.chain == Chain::LogSnr && self.shown(m.steps))
        {
            for Judged { sampler, path, .. } in &m.judged {
                rows.push(vec![
                    format!("d = {}", m.dim),
                    m.steps.to_string(),
                    sampler.name(),
                    table::measured(path.elbo, 3),
                    small(m.sum(path)),
                ]);
            }
        }
        *out += &table::markdown(&head, &rows);
        let all: Vec<f64> = self
            .over_steps
            .iter()
            .flat_map(|m| m.judged.iter().filter_map(|judged| m.disagreement(&judged.path)))
            .collect();
        let worst = all.iter().fold(0.0, |worst: f64, z| worst.max(z.abs()));
        *out += &format!(
            "\nOf all {} pairs the two differ by at most {worst:.1} standard errors, in {} by more than two.\n",
            all.len(),
            all.iter().filter(|z| z.abs() > 2.0).count()
        );
    }

    /// The first, a middle and the last number of steps.
    fn shown(&self, steps: usize) -> bool {
        let all = &self.experiment.steps;
        [all[0], all[all.len() / 2], all[all.len() - 1]].contains(&steps)
    }

    /// The first of the larger half of the numbers of steps, of few the last but two, so that three
    /// are left to fit.
    fn fitted_from(&self) -> usize {
        let steps = &self.experiment.steps;
        steps[(steps.len() / 2).min(steps.len() - 3)]
    }

    fn outputs(&self, out: &mut String) {
        *out += "\n## The output, d = 1\n\nTotal variation ½∫|p − q| and KL(q ‖ p) of the sampler's law of x_(t_1) against the data's there, by \
                 quadrature (no samples): the sampler's density is carried through every step on a grid of points.\n";
        for chain in Chain::ALL {
            let all: Vec<&Measured> = self.of(1, chain).collect();
            let mut head = vec![chain.name().to_string(), String::new()];
            head.extend(all.iter().map(|m| format!("K = {}", m.steps)));
            head.push("exponent".into());
            let mut rows = Vec::new();
            for sampler in samplers(1) {
                for (name, pick) in DISTANCES {
                    let value = |m: &Measured| Some(pick(&m.of(sampler)?.output?));
                    let mut row = vec![sampler.name(), name.to_string()];
                    row.extend(
                        all.iter().map(|m| value(m).map_or(String::new(), |v| format!("{v:.2e}"))),
                    );
                    row.push(table::measured(Some(self.output_exponent(chain, sampler, pick)), 3));
                    rows.push(row);
                }
            }
            *out +=
                &format!("\n{}\n![](output-{}.svg)\n", table::markdown(&head, &rows), chain.key());
        }
        let all = self.over_steps.iter().chain(&self.over_sizes).flat_map(|m| &m.judged);
        let lost = all.filter_map(|judged| judged.output).map(|d| d.lost).fold(0.0, f64::max);
        *out += &format!("\nThe largest part of a law that was lost on the way: {lost:.0e}.\n");
    }

    fn errors(&self, out: &mut String) {
        *out += "\n## Errors of score and Hessian\n\nThe score is s + δφ, or the Hessian H + δΦ, with a smooth random field of E‖φ‖² = E‖Φ‖² = d at \
                 every t (that of the score of N(0, I)); the other is exact. Schedule (18) at the largest K. *Limit*: ½ δ² d ∫g² of the \
                 score's, ¼ δ² d Σ k⁴ of the Hessian's.\n\n";
        let head = [
            "",
            "error",
            "δ",
            "added to the path",
            "over its limit",
            "total variation",
            "KL of the output",
        ];
        let mut rows = Vec::new();
        let mut exponents = String::new();
        for m in &self.over_sizes {
            for Judged { sampler, path, output } in &m.judged {
                let size = sampler.size();
                let limit = size
                    * size
                    * if matches!(sampler, Sampler::Score(_)) { m.of_score } else { m.of_hessian };
                rows.push(vec![
                    format!("d = {}", m.dim),
                    kind(*sampler).into(),
                    size.to_string(),
                    small(path.excess),
                    format!("{:.4} ± {:.4}", path.excess.0 / limit, path.excess.1 / limit),
                    output.map_or(String::new(), |o| format!("{:.3e}", o.total_variation)),
                    output.map_or(String::new(), |o| format!("{:.3e}", o.divergence)),
                ]);
            }
            for of in ["score", "Hessian"] {
                let mine = || m.judged.iter().filter(|judged| kind(judged.sampler) == of);
                let path = mine().map(|j| (j.sampler.size(), j.path.excess.0)).collect::<Vec<_>>();
                exponents += &format!("\n- d = {}, {of}: path {}", m.dim, exponent(&path));
                for (name, pick) in DISTANCES.into_iter().filter(|_| m.dim == 1) {
                    let of_output = |j: &Judged| j.output.map(|o| (j.sampler.size(), pick(&o)));
                    let points: Vec<_> = mine().filter_map(of_output).collect();
                    exponents += &format!(", {name} of the output {}", exponent(&points));
                }
            }
        }
        *out += &table::markdown(&head, &rows);
        *out += &format!("\nExponents in δ:\n{exponents}\n\n![](errors.svg)\n");
    }

    fn path_figure(&self, dim: i64, chain: Chain) -> String {
        let series = samplers(dim).into_iter().map(|sampler| {
            let points: Vec<(f64, Nats)> = self
                .of(dim, chain)
                .filter_map(|m| m.of(sampler).map(|j| (m.steps as f64, followed(sampler, &j.path))))
                .collect();
            let (x, nats): (Vec<f64>, Vec<Nats>) = points.into_iter().unzip();
            Series::line(sampler.name(), x, nats.iter().map(|n| n.0).collect())
                .with_error(nats.iter().map(|n| n.1).collect())
        });
        let y = "KL of the path, nats, ± s.e.; of an error what it adds";
        chart(format!("d = {dim}, {}", chain.name()), "steps K", y, series.collect())
    }

    fn output_figure(&self, chain: Chain) -> String {
        let series = samplers(1).into_iter().map(|sampler| {
            let value =
                |m: &Measured| Some((m.steps as f64, m.of(sampler)?.output?.total_variation));
            let (x, y) = self.of(1, chain).filter_map(value).unzip();
            Series::line(sampler.name(), x, y)
        });
        chart(
            format!("d = 1, {}", chain.name()),
            "steps K",
            "total variation of the output",
            series.collect(),
        )
    }

    fn errors_figure(&self) -> String {
        let Some(m) = self.over_sizes.iter().find(|m| m.dim == 1) else { return String::new() };
        let series = ["score", "Hessian"].into_iter().flat_map(|of| {
            DISTANCES.map(|(name, pick)| {
                let mine = m.judged.iter().filter(|j| kind(j.sampler) == of);
                let (x, y) =
                    mine.filter_map(|j| Some((j.sampler.size(), pick(&j.output?)))).unzip();
                Series::line(format!("{of}: {name}"), x, y)
            })
        });
        chart(
            format!("d = 1, schedule (18), K = {}", m.steps),
            "δ",
            "distance of the output",
            series.collect(),
        )
    }
}

/// A distance of an output.
pub type Pick = fn(&super::Distance) -> f64;
/// The distances of an output.
const DISTANCES: [(&str, Pick); 2] = [("TV", |d| d.total_variation), ("KL", |d| d.divergence)];

fn kind(sampler: Sampler) -> &'static str {
    match sampler {
        Sampler::Exact(_) => "none",
        Sampler::Score(_) => "score",
        Sampler::Hessian(_) => "Hessian",
    }
}

fn exponent(points: &[(f64, f64)]) -> String {
    table::measured(Some(regression::exponent(points)), 3)
}

/// Nats over many orders of magnitude.
fn small((value, error): Nats) -> String {
    format!("{value:.2e} ± {error:.0e}")
}

fn chart(title: String, x_label: &str, y_label: &str, series: Vec<Series>) -> String {
    LineChart {
        title,
        x_label: x_label.into(),
        y_label: y_label.into(),
        x_scale: Scale::Log,
        y_scale: Scale::Log,
        series,
        ..Default::default()
    }
    .to_svg(760, 480)
}

fn cells(part: &str, all: &[Measured]) -> Vec<Vec<String>> {
    let exact = |value: f64| format!("{value:.6e}");
    let row = |m: &Measured, judged: &Judged| {
        let Judged { sampler, path: d, output } = judged;
        let of_elbo =
            |pick: fn(Nats) -> f64| d.elbo.map_or(String::new(), |nats| exact(pick(nats)));
        let of_output = |pick: Pick| output.map_or(String::new(), |o| exact(pick(&o)));
        vec![
            part.to_string(),
            m.dim.to_string(),
            m.chain.key().to_string(),
            m.steps.to_string(),
            sampler.key(),
            sampler.size().to_string(),
            exact(d.steps.0),
            exact(d.steps.1),
            exact(d.excess.0),
            exact(d.excess.1),
            exact(d.decoder.0),
            exact(d.decoder.1),
            exact(m.prior.0),
            of_elbo(|nats| nats.0),
            of_elbo(|nats| nats.1),
            of_output(|o| o.total_variation),
            of_output(|o| o.divergence),
            of_output(|o| o.lost),
        ]
    };
    all.iter()
        .flat_map(|m| m.judged.iter().map(|judged| row(m, judged)).collect::<Vec<_>>())
        .collect()
}
