//! Few sampling steps (Likelihood Matching, Figure 4): samples and bits per dimension of trained
//! runs against the number of steps, with the learned covariance, `H = 0`, β̃ and DDIM.

use std::path::{Path, PathBuf};

use super::images::arm::{Arm, Studio, run_name};
use super::images::judge::{Judge, Method};
use super::images::{Record, Settings, Unit, by_steps, check_steps, csv, curves};
use super::runs::Tasks;
use super::write_all;
use tweedie::model::HeadTrunk;
use tweedie::objective::ScoreGradient;
use tweedie::run::Run;
use tweedie::{Error, Result};
use tweedie_report::plot::Sheet;

/// The experiment's settings.
#[derive(Clone, Debug, PartialEq)]
pub struct FewSteps {
    /// The images, the budget where runs are to be trained, and the protocol.
    pub images: Settings,
    /// Trained runs; where there are none, one by Likelihood Matching and one by score matching are
    /// trained.
    pub runs: Vec<PathBuf>,
    /// The trained run's transitions `N`.
    pub transitions: usize,
    /// The trained run's rank.
    pub rank: i64,
    /// Numbers of sampling steps `K`.
    pub steps: Vec<usize>,
    /// Samples on a sheet.
    pub sheet: usize,
}

impl Default for FewSteps {
    fn default() -> Self {
        FewSteps {
            images: Settings::default(),
            runs: Vec::new(),
            transitions: 4,
            rank: 4,
            steps: vec![5, 10, 20, 50, 100, 1000],
            sheet: 64,
        }
    }
}

/// What the experiment found; [`Report::write`] makes files of it.
#[derive(Debug)]
pub struct Report {
    /// The settings.
    pub experiment: FewSteps,
    /// Every run, method and number of steps.
    pub records: Vec<Record>,
    /// File names and sheets of samples.
    pub sheets: Vec<(String, Sheet)>,
    protocol: String,
    distance: Option<&'static str>,
    seconds: f64,
}

impl FewSteps {
    /// The same at sizes that show only that it runs; see [`Settings::quick`].
    pub fn quick(self) -> FewSteps {
        let mut steps: Vec<usize> = self.steps.into_iter().map(|k| k.min(20)).collect();
        steps.dedup();
        FewSteps { images: self.images.quick(), steps, sheet: self.sheet.min(16), ..self }
    }

    /// Trains where no runs were given, in `out/runs`, and judges. `progress` gets a line and the
    /// fraction done.
    pub fn run(&self, out: &Path, progress: &mut dyn FnMut(&str, f64)) -> Result<Report> {
        let begun = std::time::Instant::now();
        Error::check_count("--sheet", self.sheet, 10_000)?;
        if self.runs.is_empty() && self.images.data.is_empty() {
            let remedy = "give images to train on with --data, or trained runs with --run";
            return Err(Error::config("--data", "neither images nor runs were given", remedy));
        }
        let extractor = self.images.extractor()?;
        let given: Result<Vec<Run>> =
            self.runs.iter().map(|path| Run::load(path, self.images.device)).collect();
        let mut runs = given?;
        if let Some(table) = runs.iter().find(|run| run.data.image.is_none()) {
            let problem = format!("{} is of a table", table.dir.path().display());
            return Err(Error::config("--run", problem, "give runs of images"));
        }
        match &runs[..] {
            [] => check_steps(&self.steps, &*self.images.schedule()?)?,
            given => given.iter().try_for_each(|run| check_steps(&self.steps, run.schedule()))?,
        }
        let arms = self.arms();
        let mut tasks = Tasks::new(arms.len() + runs.len().max(arms.len()), progress);
        if runs.is_empty() {
            let studio = Studio::open(&self.images, out.join("runs"), &arms)?;
            for arm in &arms {
                runs.push(Run::load(studio.train(arm, &mut tasks)?, self.images.device)?);
            }
        }
        let judge = Judge::new(&self.images, &runs[0], extractor)?;
        runs.iter().try_for_each(|run| judge.check(run))?;
        let names = names(&runs);
        let (mut records, mut sheets) = (Vec::new(), Vec::new());
        for (run, name) in runs.iter().zip(&names) {
            let methods = Method::of(run);
            for (m, &method) in methods.iter().enumerate() {
                for (k, &steps) in self.steps.iter().enumerate() {
                    let (record, sheet) = judge.measure(run, name, method, steps, self.sheet)?;
                    records.push(record);
                    sheets.push((format!("samples-{name}-{}-{steps}.png", method.name()), sheet));
                    let part = (m * self.steps.len() + k + 1) as f64
                        / (methods.len() * self.steps.len()) as f64;
                    tasks.part(&format!("{name}, {}, K = {steps}", method.label()), part);
                }
            }
            tasks.end(name);
        }
        Ok(Report {
            experiment: self.clone(),
            records,
            sheets,
            protocol: judge.protocol(),
            distance: judge.distance_name(),
            seconds: begun.elapsed().as_secs_f64(),
        })
    }

    /// What is trained where no runs were given.
    fn arms(&self) -> Vec<Arm> {
        if !self.runs.is_empty() {
            return Vec::new();
        }
        let lm =
            Arm::lm("lm", self.transitions, self.rank, HeadTrunk::Detached, ScoreGradient::Dsm);
        vec![lm, Arm::sm("sm")]
    }
}

/// The names of run directories; of directories of one name the whole paths, fit for file names.
fn names(runs: &[Run]) -> Vec<String> {
    let short: Vec<String> = runs.iter().map(|run| run_name(run.dir.path())).collect();
    let alone = |name: &String| short.iter().filter(|other| *other == name).count() == 1;
    let long = |run: &Run| run.dir.path().display().to_string().replace(['/', '\\'], "-");
    runs.iter()
        .zip(&short)
        .map(|(run, name)| if alone(name) { name.clone() } else { long(run) })
        .collect()
}

impl Report {
    /// Writes `few-steps.csv`, `few-steps.md`, the figures and the sheets into `dir`.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let bits = curves(
            &self.records,
            "Bits per dimension in few steps",
            "bits per dimension, ± s.e.",
            false,
        );
        let mut files = vec![
            ("few-steps.csv", csv(&self.records, Unit::BitsPerDim)),
            ("few-steps.md", self.markdown()),
            ("few-steps-bits.svg", bits),
        ];
        if let Some(name) = self.distance {
            files.push((
                "few-steps-distance.svg",
                curves(&self.records, "Samples in few steps", name, true),
            ));
        }
        write_all(dir, &files)?;
        self.sheets.iter().try_for_each(|(name, sheet)| sheet.save(dir.join(name)))
    }

    fn markdown(&self) -> String {
        let (e, steps) = (&self.experiment, &self.experiment.steps);
        let mut out = String::from("# Few sampling steps\n\nLikelihood Matching, Figure 4. ");
        out += &match e.runs.is_empty() {
            true => format!(
                "Runs: lm (Likelihood Matching, N = {}, rank {} on the score's features, score by score matching) and sm (score \
                 matching). {} ",
                e.transitions,
                e.rank,
                e.images.describe()
            ),
            false => {
                let runs: Vec<String> =
                    e.runs.iter().map(|run| run.display().to_string()).collect();
                format!("Runs: {}. ", runs.join(", "))
            }
        };
        out += &format!(
            "{}\n\nRows: *learned G*, the paper's sampler (13) with the head's covariance; *H = 0*, what the paper calls \
             its score-matching sampler; *β̃*, DDPM with the forward bridge's covariance; *DDIM*, η = 0, which has no \
             likelihood of this kind.\n\n## Bits per dimension\n\n{}",
            self.protocol,
            by_steps(&self.records, steps, false)
        );
        if let Some(name) = self.distance {
            out += &format!("\n## {name}\n\n{}", by_steps(&self.records, steps, true));
        }
        out += "\n## Published\n\nFigure 4 shows MNIST digits of LM and of score matching with H = 0; it has no numbers. The \
                paper says that at 20 steps LM's digits are clearly recognisable and score matching's more blurred and less \
                structured. The sheets samples-RUN-METHOD-K.png are ours; an image keeps its place, and its starting noise, \
                on all of them.\n";
        out + &format!("\nThis run took {:.0} s.\n", self.seconds)
    }
}
