//! Every covariance on one frozen score (Optimal Covariance Matching, Tables 3, 4, 5 and 8):
//! likelihood and Fréchet distance over the number of steps, with DDPM's and DDIM's steps, and what
//! a step costs. The score is a run's, of images or of a table, or a diffusers model's.

mod head;

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::images::arm::run_name;
use super::images::judge::{Judge, Method};
use super::images::{Record, Settings, Unit, by_steps, check_steps, csv, curves};
pub use super::learner::{HeadObjective, Learner};
use super::runs::{Tasks, trained};
use super::{table, write_all};
use head::run_of;
use tweedie::covariance::CovarianceConfig;
use tweedie::data::TableOptions;
use tweedie::run::{DataConfig, Run, RunConfig, import};
use tweedie::{Error, Result};

/// The experiment's settings.
#[derive(Clone, Debug, PartialEq)]
pub struct CovarianceTable {
    /// The budget of heads that are trained, and the protocol. Data are given for a score of
    /// diffusers alone.
    pub images: Settings,
    /// The run whose score is everybody's, or the folder of a diffusers model.
    pub run: PathBuf,
    /// Runs with a covariance head on that score.
    pub heads: Vec<PathBuf>,
    /// Heads that are trained on it.
    pub train: Vec<Learner>,
    /// Covariances that need no head.
    pub covariances: Vec<CovarianceConfig>,
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
    /// Seconds per image and step of sampling, beside its covariance: the least of some rounds.
    pub seconds_per_step: Vec<(String, f64)>,
    unit: Unit,
    protocol: String,
    distance: Option<&'static str>,
    seconds: f64,
}

/// Images of a timing, and its steps.
const TIMED: (usize, usize) = (16, 5);
/// Rows of a table's, whose steps are quick.
const TIMED_ROWS: (usize, usize) = (1000, 5);
/// Times that each is timed.
const ROUNDS: usize = 5;
/// The run of an imported score.
const SCORE: &str = "score";

impl CovarianceTable {
    /// The same at sizes that show only that it runs.
    pub fn quick(self) -> CovarianceTable {
        let mut steps: Vec<usize> = self.steps.into_iter().map(|k| k.min(20)).collect();
        steps.dedup();
        CovarianceTable { images: self.images.quick(), steps, ..self }
    }

    /// Trains the heads in `out/runs` and judges every covariance. `progress` gets a line and the
    /// fraction done.
    pub fn run(&self, out: &Path, progress: &mut dyn FnMut(&str, f64)) -> Result<Report> {
        let begun = Instant::now();
        let extractor = self.images.extractor()?;
        let dir = out.join("runs");
        let mut runs = vec![self.score(&dir)?];
        check_steps(&self.steps, runs[0].schedule())?;
        for path in &self.heads {
            runs.push(Run::load(path, self.images.device)?);
        }
        self.check_heads(&runs)?;
        // what is wrong with the test rows is found before anything is trained
        let judge = Judge::new(&self.images, &runs[0], extractor)?;
        if !self.train.is_empty() {
            self.train(&dir, &mut runs, &mut |what, part| progress(what, 0.5 * part))?;
        }
        if self.covariances.contains(&CovarianceConfig::Analytic) {
            self.measure(&mut runs[0])?;
        }
        runs.iter().try_for_each(|run| judge.check(run))?;
        let columns = self.columns(&runs)?;
        let timed = if judge.unit() == Unit::BitsPerDim { TIMED } else { TIMED_ROWS };
        let begin = if self.train.is_empty() { 0.0 } else { 0.5 };
        let mut rest = |what: &str, part: f64| progress(what, begin + (1.0 - begin) * part);
        let mut tasks = Tasks::new(columns.len() * self.steps.len(), &mut rest);
        let mut records = Vec::new();
        for Column { run, name, method } in &columns {
            for &steps in &self.steps {
                records.push(judge.measure(&runs[*run], name, *method, steps, 0)?.0);
                tasks.end(&format!("{name}, {}, K = {steps}", method.label()));
            }
        }
        let mut seconds_per_step: Vec<(String, f64)> = Vec::new();
        // in turn, so that what else the machine does falls on all alike
        for round in 0..ROUNDS {
            for (i, Column { run, name, method }) in
                columns.iter().filter(|column| column.method.has_likelihood()).enumerate()
            {
                let seconds = judge.seconds_per_step(&runs[*run], *method, timed)?;
                match round {
                    0 => seconds_per_step.push((format!("{name}, {}", method.label()), seconds)),
                    _ => seconds_per_step[i].1 = seconds_per_step[i].1.min(seconds),
                }
            }
        }
        Ok(Report {
            experiment: self.clone(),
            records,
            seconds_per_step,
            unit: judge.unit(),
            protocol: judge.protocol(),
            distance: judge.distance_name(),
            seconds: begun.elapsed().as_secs_f64(),
        })
    }

    /// The run whose score is everybody's: the one given, or one made of a diffusers model in
    /// `runs`, with the data given.
    fn score(&self, runs: &Path) -> Result<Run> {
        let (device, data) = (self.images.device, &self.images.data);
        if self.run.join("config.toml").exists() || !self.run.is_dir() {
            if !data.is_empty() {
                let problem = format!("{} is a run, which has its data", self.run.display());
                return Err(Error::config(
                    "--data",
                    problem,
                    "leave it out, or give test rows with --test",
                ));
            }
            return Run::load(&self.run, device);
        }
        if data.is_empty() {
            let problem = format!(
                "{} is no run, and a diffusers model has no data of its own",
                self.run.display()
            );
            return Err(Error::config(
                "--data",
                problem,
                "give a run, or the images that the model is of",
            ));
        }
        let path = runs.join(SCORE);
        if !path.join("config.toml").exists() {
            import(&self.run, &path, device)?;
        }
        let mut score = Run::load(&path, device)?;
        let split =
            if self.images.test.is_some() { [0.9, 0.1, 0.0] } else { DataConfig::default().split };
        let table = TableOptions { size: self.images.size, ..TableOptions::default() };
        score.give_data(DataConfig {
            source: data.clone(),
            split,
            table,
            ..DataConfig::default()
        })?;
        Ok(score)
    }

    /// Measures the noise of the score, if that was not done.
    fn measure(&self, score: &mut Run) -> Result<()> {
        match score.model.noise_statistics() {
            None => score.measure_noise(self.images.batch).map(drop),
            Some(_) => Ok(()),
        }
    }

    /// Trains the heads in `dir`, or goes on with them, or finds them finished, and adds their
    /// runs.
    fn train(
        &self,
        dir: &Path,
        runs: &mut Vec<Run>,
        progress: &mut dyn FnMut(&str, f64),
    ) -> Result<()> {
        let prepared = runs[0].prepared().ok_or_else(|| {
            let source = &runs[0].config.data.source;
            let problem = format!("{source} is not at hand, or no longer the data of this run");
            Error::config("--train", problem, "restore the data, or give trained heads with --head")
        })?;
        let configs: Vec<RunConfig> = self
            .train
            .iter()
            .map(|&learner| run_of(learner, &runs[0].config, &self.images))
            .collect();
        configs.iter().try_for_each(|config| config.train.check())?;
        if configs.iter().any(|config| config.model.starts_from_measurement()) {
            self.measure(&mut runs[0])?;
        }
        let score = &runs[0];
        let mut tasks = Tasks::new(configs.len(), progress);
        let mut heads = Vec::new();
        for (learner, config) in self.train.iter().zip(&configs) {
            let name = learner.name();
            let (path, device) = (dir.join(&name), self.images.device);
            trained(&path, config, &prepared, Some(score), device, &name, &mut tasks)?;
            heads.push(Run::load(&path, device)?);
        }
        runs.extend(heads);
        Ok(())
    }

    /// Refuses a head on another score.
    fn check_heads(&self, runs: &[Run]) -> Result<()> {
        let score = |run: &Run| run.model.parameters().flat().narrow(0, 0, run.model.score_size());
        let own = score(&runs[0]);
        for (run, path) in runs[1..].iter().zip(&self.heads) {
            let (problem, remedy) = if run.model.config().head.is_none() {
                ("has no covariance head", "give runs of lm, ocm, npr, sn or iddpm with --head")
            } else if run.model.score_size() != own.size()[0] || !score(run).equal(&own) {
                ("has another score", "train heads on the run's score: --score-from RUN")
            } else {
                continue;
            };
            return Err(Error::config("--head", format!("{} {problem}", path.display()), remedy));
        }
        Ok(())
    }

    /// Every covariance, DDPM's steps first; those of a step, β and I-DDPM's, have no others.
    fn columns(&self, runs: &[Run]) -> Result<Vec<Column>> {
        let mut of: Vec<(usize, CovarianceConfig)> =
            self.covariances.iter().map(|&c| (0, c)).collect();
        let head = |(run, own): (usize, &Run)| Some((run, own.model.head_covariance()?));
        of.extend(runs.iter().enumerate().filter_map(head));
        let column = |method: fn(CovarianceConfig) -> Method| {
            move |&(run, covariance): &(usize, CovarianceConfig)| Column {
                run,
                name: run_name(runs[run].dir.path()),
                method: method(covariance),
            }
        };
        let mut columns: Vec<Column> = of.iter().map(column(Method::ancestral)).collect();
        for &(run, covariance) in &of {
            if !runs[run].model.covariance(covariance)?.is_of_a_step() {
                columns.push(column(Method::ddim)(&(run, covariance)));
            }
        }
        Ok(columns)
    }
}

impl Report {
    /// Writes `covariance-table.csv`, `covariance-table.md` and the figures into `dir`.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let title = "Every covariance on one score";
        let label = format!("{}, ± s.e.", self.unit.label());
        let mut files = vec![
            ("covariance-table.csv", csv(&self.records, self.unit)),
            ("covariance-table.md", self.markdown()),
            ("covariance-table-likelihood.svg", curves(&self.records, title, &label, false)),
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

    /// What the heads that were trained cost, for a page.
    fn budget(&self) -> String {
        let (e, settings) = (&self.experiment, &self.experiment.images);
        if e.train.is_empty() {
            return String::new();
        }
        let heads: Vec<String> = e.train.iter().map(|learner| learner.name()).collect();
        format!(
            " Trained here: {}; {} steps each of Adam (step size {}, cosine decay, moving average) on {} pairs (x_t, t).",
            heads.join(", "),
            settings.iterations,
            settings.learning_rate,
            settings.pairs
        )
    }

    fn markdown(&self) -> String {
        let steps = &self.experiment.steps;
        let mut out = format!(
            "# Every covariance on one score\n\nOptimal Covariance Matching, Tables 3, 4, 5 and 8. The score is that of {}; only the \
             covariance of a reverse step differs. {} DDIM with another covariance than β̃ draws x_0 from its posterior \
             (OCM-DDIM).{}\n\n## Negative log-likelihood, {}\n\n{}",
            self.experiment.run.display(),
            self.protocol,
            self.budget(),
            self.unit.label(),
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
                vec![
                    name.clone(),
                    format!("{:.3}", 1e3 * seconds),
                    format!("{:.2}", seconds / plain),
                ]
            })
            .collect();
        out += &format!(
            "\n## Cost of a sampling step\n\nMilliseconds per image, the least of {ROUNDS} rounds over all, and relative to the first.\n\n{}",
            table::markdown(&["", "ms", "ratio"], &cost)
        );
        out + &format!("\nThis run took {:.0} s.\n", self.seconds)
    }
}
