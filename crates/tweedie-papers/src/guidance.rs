//! Covariances under classifier-free guidance (Optimal Covariance Matching, §5.3, Tables 11 and 12,
//! Figure 4): Fréchet distance, precision and recall of samples over the scale of guidance and over
//! the number of steps.

use std::path::PathBuf;

use crate::experiment::{Context, Experiment, settings};
use crate::flag::named as by_name;
use crate::images::judge::Method;
use crate::images::record::Quantity;
use crate::images::shared_score::{Column, Contest, ROUNDS, SharedScore, cost_table, costs};
use crate::images::{self, Found, Record, Settings, measure, quick_steps};
pub use crate::learner::{HeadObjective, Learner};
use crate::outcome::Outcome;
use crate::page::Page;
use crate::runs::Tasks;
use tweedie::covariance::CovarianceConfig;
use tweedie::model::{Guidance, GuidedCovariance};
use tweedie::run::Run;
use tweedie::{Error, Result};

settings! {
    /// The experiment's settings.
    pub struct GuidedSampling {
        /// The budget of heads that are trained, and the protocol. Data are given for a score of
        /// diffusers alone.
        pub images: Settings = Settings::default(),
        /// The run whose score is everybody's, or the folder of a diffusers model.
        pub run: PathBuf = PathBuf::new(),
        /// Runs with a covariance head on that score.
        pub heads: Vec<PathBuf> = Vec::new(),
        /// Heads that are trained on it.
        #[serde(with = "by_name")]
        pub train: Vec<Learner> = Vec::new(),
        /// Covariances that need no head.
        #[serde(with = "by_name")]
        pub covariances: Vec<CovarianceConfig> =
            vec![CovarianceConfig::BetaTilde, CovarianceConfig::Beta],
        /// Scales of guidance `w`, each in `steps_over_scales` steps.
        pub scales: Vec<f64> = vec![1.5, 1.75, 2.0, 3.0, 4.0],
        /// The number of steps at every scale.
        pub steps_over_scales: usize = 10,
        /// Numbers of steps `K`, each at the scale `scale_over_steps`.
        pub steps: Vec<usize> = vec![10, 25, 50, 100, 200, 250],
        /// The scale at every number of steps.
        pub scale_over_steps: f64 = 1.5,
        /// What a head's covariance is under guidance.
        pub guided_covariances: Vec<GuidedCovariance> = vec![GuidedCovariance::Conditional],
        /// The first channels, which alone are guided; 0: all.
        pub guided_channels: usize = 0,
        /// Samples on a sheet of images; 0: none.
        pub sheet: usize = 0,
    }
}

impl Experiment for GuidedSampling {
    const NAME: &'static str = "guidance";
    const TEXT: &'static str = include_str!("guidance.md");
    const SHARED_FLAGS: &'static [&'static str] = &[images::TRAINING, images::SAMPLES];
    const SEED: &'static str = "images.seed";
    const QUICK_LIMITS_FLAGS: bool = true;

    fn quick(self) -> Self {
        GuidedSampling {
            images: self.images.quick(),
            steps_over_scales: self.steps_over_scales.min(5),
            steps: quick_steps(self.steps.into_iter().map(|k| k.min(5)).collect()),
            sheet: self.sheet.min(16),
            ..self
        }
    }

    /// Trains the heads in `out/runs` and judges the samples of every covariance under guidance.
    fn run(&self, context: &mut Context) -> Result<Outcome> {
        self.check()?;
        let shared = SharedScore {
            settings: &self.images,
            run: &self.run,
            heads: &self.heads,
            train: &self.train,
            repeats: 1,
            covariances: &self.covariances,
        };
        let mut steps = self.steps.clone();
        steps.push(self.steps_over_scales);
        let Contest { judge, runs, columns, begin } =
            shared.prepare(&steps, context, |score| self.check_model(score))?;
        let progress = &mut context.progress;
        let mut rest = |what: &str, part: f64| progress(what, begin + (1.0 - begin) * part);
        let lines = self.lines(&columns);
        let sheet = if judge.has_pictures() { self.sheet } else { 0 };
        let mut tasks = Tasks::new(2 * lines.len(), &mut rest);
        let (mut records, mut sheets) = (Vec::new(), Vec::new());
        for &(Column { run, name, method, .. }, covariance) in &lines {
            let at = |scale: &f64| method.guided(self.guidance(*scale, covariance, &runs[*run]));
            let scales: Vec<Method> = self.scales.iter().map(at).collect();
            let fixed = [at(&self.scale_over_steps)];
            // what is of both is measured once
            let twice = self.scales.contains(&self.scale_over_steps);
            let of_steps = |k: &usize| !(twice && *k == self.steps_over_scales);
            let steps: Vec<usize> = self.steps.iter().copied().filter(of_steps).collect();
            for (methods, steps) in [(&scales[..], &[self.steps_over_scales][..]), (&fixed, &steps)]
            {
                let (run, to) = ((name.as_str(), &runs[*run]), (&mut records, &mut sheets));
                measure(&judge, run, (methods, 0), steps, sheet, &mut tasks, to)?;
            }
        }
        let timed: Vec<Column> = lines
            .iter()
            .map(|(column, covariance)| {
                let guidance = self.guidance(self.scale_over_steps, *covariance, &runs[column.run]);
                Column { method: column.method.guided(guidance), ..(*column).clone() }
            })
            .collect();
        let costs = cost_table(&costs(&judge, &runs, &timed)?);
        let page = Page::new().with("rounds", ROUNDS).table("cost", &costs);
        let outcome = self.outcome(&judge.found(records)?, page);
        Ok(Outcome { sheets, ..outcome })
    }
}

impl GuidedSampling {
    fn check(&self) -> Result<()> {
        let none = |setting, remedy| Err(Error::config(setting, "none", remedy));
        if self.scales.is_empty() {
            return none("experiment.scales", "give at least one");
        }
        if self.guided_covariances.is_empty() {
            return none("experiment.guided_covariances", "give conditional, combined or both");
        }
        self.scales.iter().try_for_each(|w| Guidance::check_scale("experiment.scales", *w))?;
        Guidance::check_scale("experiment.scale_over_steps", self.scale_over_steps)
    }

    fn check_model(&self, score: &Run) -> Result<()> {
        if !score.model.has_null_class() {
            let problem = format!("{} has no null class", score.dir.path().display());
            let remedy = "give a run with classes, trained with label dropout";
            return Err(Error::config("experiment.run", problem, remedy));
        }
        match (self.guided_channels(), score.model.config().network.image()) {
            (Some(n), Some([most, ..])) => {
                Error::check_count("experiment.guided_channels", n, most)
            }
            _ => Ok(()),
        }
    }

    fn guidance(&self, scale: f64, covariance: GuidedCovariance, run: &Run) -> Guidance {
        Guidance::new(scale, covariance, self.guided_channels(), &run.model.config().network)
    }

    fn guided_channels(&self) -> Option<usize> {
        Some(self.guided_channels).filter(|n| *n > 0)
    }

    /// Every column, a head's once for each of its covariances under guidance: others know but one.
    fn lines<'a>(&self, columns: &'a [Column]) -> Vec<(&'a Column, GuidedCovariance)> {
        let line = |column: &'a Column| {
            let covariances = match column.method.covariance {
                CovarianceConfig::Own => self.guided_covariances.clone(),
                _ => vec![GuidedCovariance::Conditional],
            };
            covariances.into_iter().map(move |covariance| (column, covariance))
        };
        columns.iter().flat_map(line).collect()
    }

    /// Tables and curves over scales and over steps.
    fn outcome(&self, found: &Found, page: Page) -> Outcome {
        let over_scales = |r: &Record| r.steps == self.steps_over_scales;
        let over_steps = |r: &Record| r.scale() == Some(self.scale_over_steps);
        let part = |of: Quantity| {
            let page = Page::new().with("name", found.label(of));
            page.table("over scales", &found.by_scales(of, over_scales))
                .table("over steps", &found.by_steps(of, over_steps))
        };
        let quantities = found.of_samples();
        let heads: Vec<String> = self.train.iter().map(Learner::to_string).collect();
        let trained = Page::new().with("heads", heads.join(", "));
        let page = page
            .with("protocol", &found.protocol)
            .when("trained", (!heads.is_empty()).then_some(trained))
            .each("quantities", quantities.iter().map(|of| part(*of)));
        let outcome = Outcome::new(Self::NAME, found.table(&[], |_| Vec::new()), page);
        outcome.figures(quantities.iter().flat_map(|&of| {
            let (k, w) = (self.steps_over_scales, self.scale_over_steps);
            let of_scales = format!("Under guidance, K = {k}");
            let of_steps = format!("Under guidance, w = {w}");
            [
                (
                    format!("guidance-{}-scales.svg", of.file()),
                    found.curves_over_scales(&of_scales, of, over_scales),
                ),
                (
                    format!("guidance-{}-steps.svg", of.file()),
                    found.curves(&of_steps, of, over_steps),
                ),
            ]
        }))
    }
}
