//! Every covariance on one frozen score (Optimal Covariance Matching, Tables 3, 4, 5 and 8): bits per dimension and Fréchet
//! distance over the number of steps, with DDPM's and DDIM's steps, and what a step costs.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::images::arm::run_name;
use super::images::judge::{Judge, Method};
use super::images::{Record, Settings, by_steps, check_steps, csv, curves};
use super::runs::Tasks;
use super::{table, write_all};
use crate::covariance::Covariance;
use crate::model::Denoiser;
use crate::run::Run;
use crate::{Error, Result};

/// The experiment's settings.
#[derive(Clone, Debug, PartialEq)]
pub struct CovarianceTable {
    /// The protocol; nothing is trained.
    pub images: Settings,
    /// The run whose score is everybody's.
    pub run: PathBuf,
    /// Runs with a covariance head on that score.
    pub heads: Vec<PathBuf>,
    /// Covariances that need no head.
    pub covariances: Vec<Covariance>,
    /// Numbers of sampling steps `K`.
    pub steps: Vec<usize>,
}

/// One covariance: the run that has it, and its name there.
struct Column {
    run: usize,
    name: String,
    method: Method,
}

/// What the experiment found; [`Report::write`] makes files of it.
#[derive(Debug)]
pub struct Report {
    /// The settings.
    pub experiment: CovarianceTable,
    /// Every covariance, way of stepping and number of steps.
    pub records: Vec<Record>,
    /// Seconds per image and step of sampling, beside its covariance: the least over all numbers of steps.
    pub seconds_per_step: Vec<(String, f64)>,
    protocol: String,
    distance: Option<&'static str>,
    seconds: f64,
}

/// Images of a timing, and its steps.
const TIMED: (usize, usize) = (16, 5);

impl CovarianceTable {
    /// The same at sizes that show only that it runs.
    pub fn quick(self) -> CovarianceTable {
        let mut steps: Vec<usize> = self.steps.into_iter().map(|k| k.min(20)).collect();
        steps.dedup();
        CovarianceTable { images: self.images.quick(), steps, ..self }
    }

    /// Judges every covariance. `progress` gets a line and the fraction done.
    pub fn run(&self, progress: &mut dyn FnMut(&str, f64)) -> Result<Report> {
        let begun = Instant::now();
        let extractor = self.images.extractor()?;
        let load = |path: &PathBuf| Run::load(path, self.images.device);
        let mut runs: Vec<Run> =
            std::iter::once(&self.run).chain(&self.heads).map(load).collect::<Result<_>>()?;
        check_steps(&self.steps, &**runs[0].schedule())?;
        self.check_heads(&runs)?;
        if self.covariances.contains(&Covariance::Analytic) && runs[0].model.noise_statistics().is_none() {
            runs[0].measure_noise(self.images.batch)?;
        }
        let judge = Judge::new(&self.images, &runs[0], extractor)?;
        runs.iter().try_for_each(|run| judge.check(run))?;
        let columns = self.columns(&runs);
        let mut tasks = Tasks::new(columns.len() * self.steps.len(), progress);
        let (mut records, mut seconds_per_step) = (Vec::new(), Vec::new());
        for Column { run, name, method } in &columns {
            for &steps in &self.steps {
                records.push(judge.measure(&runs[*run], name, *method, steps, 0)?.0);
                tasks.end(&format!("{name}, {}, K = {steps}", method.label()));
            }
            if method.has_bits() {
                seconds_per_step.push((
                    format!("{name}, {}", method.label()),
                    judge.seconds_per_step(&runs[*run], *method, TIMED)?,
                ));
            }
        }
        Ok(Report {
            experiment: self.clone(),
            records,
            seconds_per_step,
            protocol: judge.protocol(),
            distance: judge.distance_name(),
            seconds: begun.elapsed().as_secs_f64(),
        })
    }

    /// Refuses a head on another score.
    fn check_heads(&self, runs: &[Run]) -> Result<()> {
        let score = |run: &Run| run.model.parameters().flat().narrow(0, 0, run.model.score_size());
        let own = score(&runs[0]);
        for (run, path) in runs[1..].iter().zip(&self.heads) {
            let (problem, remedy) = if run.model.config().head.is_none() {
                ("has no covariance head", "give runs of lm, ocm or npr with --head")
            } else if run.model.score_size() != own.size()[0] || !score(run).equal(&own) {
                ("has another score", "train heads on the run's score: --score-from RUN")
            } else {
                continue;
            };
            return Err(Error::config("--head", format!("{} {problem}", path.display()), remedy));
        }
        Ok(())
    }

    /// Every covariance, DDPM's steps first; β and I-DDPM's have no others.
    fn columns(&self, runs: &[Run]) -> Vec<Column> {
        let mut of: Vec<(usize, Covariance)> = self.covariances.iter().map(|&c| (0, c)).collect();
        let head = |(run, own): (usize, &Run)| Some((run, own.model.head_covariance()?));
        of.extend(runs.iter().enumerate().filter_map(head));
        let column = |method: fn(Covariance) -> Method| {
            move |&(run, covariance): &(usize, Covariance)| Column {
                run,
                name: run_name(runs[run].dir.path()),
                method: method(covariance),
            }
        };
        let ancestral = of.iter().map(column(Method::ancestral));
        let ddim = of.iter().filter(|(_, of)| !matches!(of, Covariance::Beta | Covariance::Interpolated));
        ancestral.chain(ddim.map(column(Method::ddim))).collect()
    }
}

impl Report {
    /// Writes `covariance-table.csv`, `covariance-table.md` and the figures into `dir`.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let title = "Every covariance on one score";
        let mut files = vec![
            ("covariance-table.csv", csv(&self.records)),
            ("covariance-table.md", self.markdown()),
            ("covariance-table-bits.svg", curves(&self.records, title, "bits per dimension, ± s.e.", false)),
        ];
        if let Some(name) = self.distance {
            files.push(("covariance-table-distance.svg", curves(&self.records, title, name, true)));
        }
        write_all(dir, &files)
    }

    /// For each covariance the fewest steps whose distance is at most `limit`.
    fn least_steps(&self, limit: f64) -> Vec<Vec<String>> {
        let mut lines: Vec<Vec<String>> = Vec::new();
        for record in &self.records {
            let label = format!("{}, {}", record.arm, record.method.label());
            if lines.last().is_none_or(|line| line[0] != label) {
                lines.push(vec![label, String::new()]);
            }
            let line = lines.last_mut().expect("just pushed");
            if line[1].is_empty() && record.frechet.is_some_and(|d| d <= limit) {
                line[1] = record.steps.to_string();
            }
        }
        lines
    }

    fn markdown(&self) -> String {
        let steps = &self.experiment.steps;
        let mut out = format!(
            "# Every covariance on one score\n\nOptimal Covariance Matching, Tables 3, 4, 5 and 8. The score is that of {}; only the \
             covariance of a reverse step differs. {} DDIM with another covariance than β̃ draws x_0 from its posterior \
             (OCM-DDIM).\n\n## Bits per dimension\n\n{}",
            self.experiment.run.display(),
            self.protocol,
            by_steps(&self.records, steps, false)
        );
        if let Some(name) = self.distance {
            out += &format!("\n## {name}\n\n{}", by_steps(&self.records, steps, true));
            let distances: Vec<f64> = self.records.iter().filter_map(|r| r.frechet).collect();
            let best = distances.iter().copied().fold(f64::INFINITY, f64::min);
            let limit = 1.1 * best;
            out += &format!(
                "\n## Fewest steps for a distance of at most {limit:.1}, a tenth above the best\n\n{}",
                table::markdown(&["", "K"], &self.least_steps(limit))
            );
        }
        let plain = self.seconds_per_step.first().map_or(f64::NAN, |first| first.1);
        let cost: Vec<Vec<String>> = self
            .seconds_per_step
            .iter()
            .map(|(name, seconds)| {
                vec![name.clone(), format!("{:.3}", 1e3 * seconds), format!("{:.2}", seconds / plain)]
            })
            .collect();
        out += &format!(
            "\n## Cost of a sampling step\n\nMilliseconds per image, the least of three, and relative to the first.\n\n{}",
            table::markdown(&["", "ms", "ratio"], &cost)
        );
        out + &format!("\nThis run took {:.0} s.\n", self.seconds)
    }
}
