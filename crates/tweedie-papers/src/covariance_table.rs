//! Every covariance on one frozen score (Optimal Covariance Matching, Tables 3, 4, 5 and 8):
//! likelihood and Fréchet distance over the number of steps, with DDPM's and DDIM's steps, and what
//! a step costs. The score is a run's, of images or of a table, or a diffusers model's.

use std::path::PathBuf;

use crate::experiment::{Context, Experiment, settings};
use crate::flag::named as by_name;
use crate::images::judge::Method;
use crate::images::record::Quantity;
use crate::images::shared_score::{Column, Contest, Cost, ROUNDS, SharedScore, cost_table, costs};
use crate::images::{self, Found, Record, Settings, measure, quick_steps};
pub use crate::learner::{HeadObjective, Learner};
use crate::outcome::Outcome;
use crate::page::Page;
use crate::runs::Tasks;
use tweedie::covariance::CovarianceConfig;
use tweedie::{Error, Result};
use tweedie_report::table::{Cell, Table};

settings! {
    /// The experiment's settings.
    pub struct CovarianceTable {
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
        /// Trainings of each of these heads, and draws of its figures, each with its own seed.
        pub repeats: usize = 1,
        /// Covariances that need no head.
        #[serde(with = "by_name")]
        pub covariances: Vec<CovarianceConfig> = covariances(),
        /// The signal-to-noise ratio up to which samples have the covariance of heads in further
        /// columns, and above which β̃; 0: no such columns.
        pub covariance_until: f64 = 0.0,
        /// Numbers of sampling steps `K`.
        pub steps: Vec<usize> = vec![10, 25, 50, 100, 200, 1000],
        /// Samples on a sheet of images, and images whose diagonals of G are drawn; 0: none.
        pub sheet: usize = 0,
    }
}

/// The covariances that need no head and few evaluations of the network.
fn covariances() -> Vec<CovarianceConfig> {
    use CovarianceConfig::{Analytic, Beta, BetaTilde, Rademacher, ZeroHessian};
    vec![BetaTilde, Beta, ZeroHessian, Analytic, Rademacher(1)]
}

impl Experiment for CovarianceTable {
    const NAME: &'static str = "covariance-table";
    const TEXT: &'static str = include_str!("covariance_table.md");
    const SHARED_FLAGS: &'static [&'static str] = &[images::BUDGET];
    const SEED: &'static str = "images.seed";
    const QUICK_LIMITS_FLAGS: bool = true;

    fn quick(self) -> Self {
        let steps = quick_steps(self.steps);
        CovarianceTable { images: self.images.quick(), steps, sheet: self.sheet.min(16), ..self }
    }

    /// Trains the heads in `out/runs` and judges every covariance.
    fn run(&self, context: &mut Context) -> Result<Outcome> {
        Error::check_count("experiment.repeats", self.repeats, 1000)?;
        if self.covariance_until.is_nan() || self.covariance_until < 0.0 {
            let problem = self.covariance_until.to_string();
            let remedy = "give a signal-to-noise ratio, as 5, or 0 for none";
            return Err(Error::config("experiment.covariance_until", problem, remedy));
        }
        let Contest { judge, runs, mut columns, begin } =
            self.shared().prepare(&self.steps, context, |_| Ok(()))?;
        if self.covariance_until > 0.0 {
            let heads = columns.iter().filter(|c| c.method.covariance == CovarianceConfig::Own);
            let limited = heads.map(|column| {
                let method = column.method.until(self.covariance_until);
                Column { method, ..column.clone() }
            });
            let limited: Vec<Column> = limited.collect();
            columns.extend(limited);
        }
        let progress = &mut context.progress;
        let mut rest = |what: &str, part: f64| progress(what, begin + (1.0 - begin) * part);
        let mut tasks = Tasks::new(columns.len(), &mut rest);
        let (mut records, mut sheets) = (Vec::new(), Vec::new());
        for Column { run, name, method, repeat } in &columns {
            let (run, to) = ((name.as_str(), &runs[*run]), (&mut records, &mut sheets));
            let how = (&[*method][..], *repeat);
            let sheet = if judge.has_pictures() { self.sheet } else { 0 };
            measure(&judge, run, how, &self.steps, sheet, &mut tasks, to)?;
        }
        if self.sheet > 0 {
            let first = |c: &&Column| c.repeat == 0 && c.method.has_likelihood();
            for Column { run, name, method, .. } in columns.iter().filter(first) {
                let diagonal = judge.diagonals(&runs[*run], *method, self.sheet)?;
                let name = format!("diagonal-{name}-{}.png", method.name());
                sheets.extend(diagonal.map(|sheet| (name, sheet)));
            }
        }
        let costs = costs(&judge, &runs, &columns)?;
        let outcome = self.outcome(&judge.found(records)?, &costs)?;
        Ok(Outcome { sheets, ..outcome })
    }
}

impl CovarianceTable {
    fn shared(&self) -> SharedScore<'_> {
        SharedScore {
            settings: &self.images,
            run: &self.run,
            heads: &self.heads,
            train: &self.train,
            repeats: self.repeats,
            covariances: &self.covariances,
        }
    }

    fn outcome(&self, found: &Found, costs: &[Cost]) -> Result<Outcome> {
        let distances = found.records.iter().filter_map(|r| Some(r.samples?.frechet));
        let limit = 1.1 * distances.fold(f64::INFINITY, f64::min);
        let least = found.names.map(|_| {
            let table = self.least_steps(found, limit, costs);
            Page::new().with("limit", format!("{limit:.1}")).table("least steps", &table)
        });
        let heads: Vec<String> = self.train.iter().map(Learner::to_string).collect();
        let trained = Page::new().with("heads", heads.join(", "));
        let repeated = (self.repeats > 1 && !heads.is_empty()).then(|| {
            let quantities = [Quantity::Likelihood].into_iter().chain(found.of_samples());
            let tables = quantities.map(|of| {
                Page::new().with("name", found.label(of)).table("over seeds", &found.over(of))
            });
            Page::new().each("quantities", tables)
        });
        let page = Page::new()
            .when("trained", (!heads.is_empty()).then_some(trained))
            .when("least", least)
            .when("repeated", repeated)
            .with("rounds", ROUNDS)
            .table("cost", &cost_table(costs));
        let title = "Every covariance on one score";
        Ok(found.outcome(Self::NAME, "likelihood", title, page))
    }

    /// For each covariance the fewest steps whose distance is at most `limit`, and so many times
    /// what a step costs over the first covariance's.
    fn least_steps(&self, found: &Found, limit: f64, costs: &[Cost]) -> Table {
        let mut table = Table::new(["", "K", "distance", "ratio × K"]);
        let plain = costs.first().map_or(f64::NAN, |first| first.seconds);
        let first = |r: &&Record| r.repeat == 0;
        let records: Vec<&Record> = found.records.iter().filter(first).collect();
        for same in records.chunk_by(|a, b| a.label() == b.label()) {
            let near = |r: &&&Record| r.samples.is_some_and(|s| s.frechet <= limit);
            let few = same.iter().find(near);
            // DDIM's step computes what DDPM's with the same covariance does
            let ancestral = Method::ancestral(same[0].method.covariance);
            let label = format!("{}, {}", same[0].arm, ancestral.label());
            let ratio = costs.iter().find(|c| c.label == label).map(|c| c.seconds / plain);
            let times = few.zip(ratio).map(|(r, ratio)| Cell::number(ratio * r.steps as f64, 1));
            let distance = few.and_then(|r| Some(Cell::number(r.samples?.frechet, 2)));
            table.push([
                same[0].label().into(),
                Cell::from(few.map(|r| r.steps)),
                distance.into(),
                times.into(),
            ]);
        }
        table
    }
}
