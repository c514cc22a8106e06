//! Few sampling steps (Likelihood Matching, Figure 4): samples and bits per dimension of trained
//! runs against the number of steps, with the learned covariance, `H = 0`, β̃ and DDIM.

use std::path::PathBuf;

use crate::experiment::{Context, Experiment, settings};
use crate::images::arm::{Arm, run_name};
use crate::images::judge::{Judge, Method};
use crate::images::{self, Found, Settings, Sheets, check_steps, quick_steps, study};
use crate::outcome::Outcome;
use crate::page::Page;
use crate::runs::Tasks;
use tweedie::model::HeadTrunk;
use tweedie::objective::ScoreGradient;
use tweedie::run::Run;
use tweedie::{Error, Result};

settings! {
    /// The experiment's settings.
    pub struct FewSteps {
        /// The images, the budget where runs are to be trained, and the protocol.
        pub images: Settings = Settings::default(),
        /// Trained runs; where there are none, one by Likelihood Matching to its paper's letter,
        /// one by this library's and one by score matching are trained.
        pub runs: Vec<PathBuf> = Vec::new(),
        /// The trained run's transitions `N`.
        pub transitions: usize = 4,
        /// The trained run's rank.
        pub rank: i64 = 4,
        /// Numbers of sampling steps `K`.
        pub steps: Vec<usize> = vec![5, 10, 20, 50, 100, 1000],
        /// Samples on a sheet.
        pub sheet: usize = 64,
    }
}

impl Experiment for FewSteps {
    const NAME: &'static str = "few-steps";
    const TEXT: &'static str = include_str!("few_steps.md");
    const SHARED_FLAGS: &'static [&'static str] = &[images::IMAGES, images::BUDGET];
    const SEED: &'static str = "images.seed";
    const QUICK_LIMITS_FLAGS: bool = true;

    fn quick(self) -> Self {
        FewSteps {
            images: self.images.quick(),
            steps: quick_steps(self.steps),
            sheet: self.sheet.min(16),
            ..self
        }
    }

    fn run(&self, context: &mut Context) -> Result<Outcome> {
        Error::check_count("experiment.sheet", self.sheet, 10_000)?;
        if self.runs.is_empty() && self.images.data.is_empty() {
            let remedy =
                "give images to train on, experiment.images.data, or trained experiment.runs";
            return Err(Error::config(
                "experiment.images.data",
                "neither images nor runs were given",
                remedy,
            ));
        }
        let (found, sheets) = match self.runs.is_empty() {
            true => {
                let (trunk, score) = (HeadTrunk::Detached, ScoreGradient::Dsm);
                let lm = Arm::lm("lm", self.transitions, self.rank, trunk, score);
                let paper = Arm::lm_paper("lm-paper", self.transitions, self.rank);
                let arms = [paper, lm, Arm::sm("sm")];
                let methods = |_: &Arm, run: &Run| Method::of(run);
                study(&self.images, &arms, methods, &self.steps, self.sheet, context)?
            }
            false => self.judge(context)?,
        };
        let given: Vec<String> = self.runs.iter().map(|run| run.display().to_string()).collect();
        let budget = Page::new().with("budget", self.images.describe()?);
        let page = Page::new()
            .when("trained", given.is_empty().then_some(budget))
            .when("given", (!given.is_empty()).then(|| Page::new().with("runs", given.join(", "))));
        let outcome = found.outcome(Self::NAME, "bits", "Images in few steps", page);
        Ok(Outcome { sheets, ..outcome })
    }
}

impl FewSteps {
    /// Judges the runs that were given.
    fn judge(&self, context: &mut Context) -> Result<(Found, Sheets)> {
        let extractor = self.images.extractor(context)?;
        let load = |path| Run::load(path, context.device);
        let runs: Vec<Run> = self.runs.iter().map(load).collect::<Result<_>>()?;
        for run in &runs {
            if run.data.levels().is_none() {
                let problem = format!("{} is of a table", run.dir.path().display());
                return Err(Error::config("experiment.runs", problem, "give runs of images"));
            }
            check_steps(&self.steps, run.schedule())?;
        }
        let judge = Judge::new(&self.images, &runs[0], extractor)?;
        runs.iter().try_for_each(|run| judge.check(run))?;
        let (mut records, mut sheets) = (Vec::new(), Vec::new());
        let mut tasks = Tasks::new(runs.len(), context.progress);
        for (run, name) in runs.iter().zip(names(&runs)) {
            let (methods, to) = (Method::of(run), (&mut records, &mut sheets));
            let run = (name.as_str(), run);
            images::measure(&judge, run, (&methods, 0), &self.steps, self.sheet, &mut tasks, to)?;
        }
        Ok((judge.found(records)?, sheets))
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
