//! Transitions and rank (Likelihood Matching, Figure 2(c)): bits per dimension and Fréchet distance
//! over `(N, r)`.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::experiment::{Context, Experiment, settings};
use crate::images::arm::Arm;
use crate::images::judge::Method;
use crate::images::record::Quantity;
use crate::images::{self, Found, Record, Settings, study};
use crate::layout::{LINEAR, chart, curve, grid, named};
use crate::outcome::Outcome;
use crate::page::Page;
use tweedie::model::HeadTrunk;
use tweedie::objective::ScoreGradient;
use tweedie::run::Run;
use tweedie::{Error, Result};
use tweedie_report::table::{Cell, Table};

settings! {
    /// The experiment's settings.
    pub struct ImageGrid {
        /// The images, the budget and the protocol.
        pub images: Settings = Settings::default(),
        /// Numbers of transitions `N`.
        pub transitions: Vec<usize> = vec![2, 4, 8, 16],
        /// Ranks `r`.
        pub ranks: Vec<i64> = vec![0, 1, 4, 16],
        /// What a cell trains.
        pub mode: Mode = Mode::Head,
        /// A network of its own for the covariance.
        pub separate: bool = false,
        /// Numbers of sampling steps `K`.
        pub steps: Vec<usize> = vec![20, 100],
    }
}

/// What a cell trains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// A head on one score by score matching, frozen and common to all cells.
    Head,
    /// The score by score matching and the head by the quasi-likelihood.
    Dsm,
    /// Score and head by the quasi-likelihood.
    Joint,
    /// Likelihood Matching to its paper's letter: joint, with a network of its own for the
    /// covariance, along simulated paths, no base corrected.
    Paper,
}

/// The run of score matching.
const SM: &str = "sm";

impl Experiment for ImageGrid {
    const NAME: &'static str = "image-grid";
    const TEXT: &'static str = include_str!("image_grid.md");
    const SHARED_FLAGS: &'static [&'static str] = &[images::IMAGES, images::BUDGET];
    const SEED: &'static str = "images.seed";
    const QUICK_LIMITS_FLAGS: bool = true;

    fn quick(mut self) -> Self {
        self.images = self.images.quick();
        self.transitions.truncate(2);
        self.ranks.truncate(2);
        self.steps.truncate(1);
        self.steps.iter_mut().for_each(|k| *k = (*k).min(20));
        self
    }

    fn run(&self, context: &mut Context) -> Result<Outcome> {
        if self.transitions.is_empty() || self.ranks.is_empty() {
            let found = (&self.transitions, &self.ranks);
            let problem = format!("{:?} with experiment.ranks {:?}", found.0, found.1);
            let remedy = "give at least one of each";
            return Err(Error::config("experiment.transitions", problem, remedy));
        }
        let cells = self.cells(&context.out.join("runs"));
        let mut arms = vec![Arm::sm(SM)];
        arms.extend(cells.iter().map(|cell| cell.2.clone()));
        let methods = |arm: &Arm, _: &Run| match arm.name.as_str() {
            SM => vec![Method::ZERO_HESSIAN, Method::BETA_TILDE],
            _ => vec![Method::LEARNED],
        };
        let (found, _) = study(&self.images, &arms, methods, &self.steps, 0, context)?;
        self.outcome(&found, &cells)
    }
}

/// `N`, `r` and the run of a cell.
type GridCell = (usize, i64, Arm);

impl ImageGrid {
    /// What heads sit on.
    fn trunk(&self) -> HeadTrunk {
        match (self.separate, self.mode) {
            (true, _) | (_, Mode::Paper) => HeadTrunk::Separate,
            // the score is frozen: no gradient of the head can reach it
            (false, Mode::Head) => HeadTrunk::Shared,
            (false, Mode::Dsm | Mode::Joint) => HeadTrunk::Detached,
        }
    }

    /// A cell for every `N` and `r`; `runs` is where they are kept.
    fn cells(&self, runs: &Path) -> Vec<GridCell> {
        let (how, score) = match self.mode {
            Mode::Head => ("head", ScoreGradient::Frozen),
            Mode::Joint => ("joint", ScoreGradient::Joint),
            Mode::Dsm => ("dsm", ScoreGradient::Dsm),
            Mode::Paper => ("paper", ScoreGradient::Joint),
        };
        let trunk = match self.trunk() {
            HeadTrunk::Separate => "separate",
            HeadTrunk::Detached => "detached",
            HeadTrunk::Shared => "shared",
        };
        let donor = (self.mode == Mode::Head).then(|| runs.join(SM));
        let cell = |n: usize, rank: i64| {
            let name = format!("{how}-{trunk}-N{n}-r{rank}");
            let arm = match self.mode {
                Mode::Paper => Arm::lm_paper(&name, n, rank),
                _ => Arm::lm(&name, n, rank, self.trunk(), score),
            };
            (n, rank, Arm { score_from: donor.clone(), ..arm })
        };
        let each = self.transitions.iter().flat_map(|&n| self.ranks.iter().map(move |&r| (n, r)));
        each.map(|(n, rank)| cell(n, rank)).collect()
    }

    fn outcome(&self, found: &Found, cells: &[GridCell]) -> Result<Outcome> {
        let of = |run: &str| match cells.iter().find(|cell| cell.2.name == run) {
            Some((n, rank, _)) => vec![(*n).into(), rank.to_string().into()],
            None => vec![Cell::Empty, Cell::Empty],
        };
        let at = |n: usize, rank: i64, steps: usize| {
            let (_, _, arm) = cells.iter().find(|cell| cell.0 == n && cell.1 == rank)?;
            found.records.iter().find(|r| r.arm == arm.name && r.steps == steps)
        };
        let by_rank = |steps: usize, of: Quantity| -> Table {
            let rows = named(self.ranks.clone(), |rank| format!("r = {rank}"));
            grid("", &rows, &named(self.transitions.clone(), |n| format!("N = {n}")), |&r, &n| {
                at(n, r, steps).map(|record| record.cell(of)).into()
            })
        };
        let figure = |steps: usize, of: Quantity| {
            let curves = self.transitions.iter().map(|&n| {
                let point = |&rank: &i64| Some((rank as f64, at(n, rank, steps)?.value(of)?));
                curve(format!("N = {n}"), self.ranks.iter().filter_map(point))
            });
            let title = format!("Transitions N and rank r, {steps} sampling steps");
            let labels = ["rank r of the covariance", &found.label(of)];
            chart(title, labels, LINEAR, curves.collect())
        };
        let parts = self.steps.iter().map(|&steps| {
            let part = |of: Quantity| {
                Page::new().with("name", found.label(of)).table("distance", &by_rank(steps, of))
            };
            Page::new()
                .with("steps", steps)
                .table("bits", &by_rank(steps, Quantity::Likelihood))
                .each("distance", found.of_samples().into_iter().map(part))
        });
        let is = |mode: Mode| (self.mode == mode).then(Page::new);
        let on = |trunk: HeadTrunk| (self.trunk() == trunk).then(Page::new);
        let page = Page::new()
            .when("head", is(Mode::Head))
            .when("joint", is(Mode::Joint))
            .when("paper", is(Mode::Paper))
            .when("dsm", is(Mode::Dsm))
            .when("separate", on(HeadTrunk::Separate))
            .when("detached", on(HeadTrunk::Detached))
            .when("shared", on(HeadTrunk::Shared))
            .with("budget", self.images.describe()?)
            .each("steps", parts)
            .table("score matching", &found.by_steps(Quantity::Likelihood, |r| r.arm == SM))
            .table("by rank", &self.by_rank(found, cells));
        let page = found.with_samples(page, |r| r.arm == SM);
        let table = found.table(&["transitions", "rank"], of);
        let quantities = [Quantity::Likelihood].into_iter().chain(found.of_samples());
        let quantities: Vec<Quantity> = quantities.collect();
        let figures = self.steps.iter().flat_map(|&k| quantities.iter().map(move |&of| (k, of)));
        Ok(Outcome::new(Self::NAME, table, page).figures(figures.map(|(steps, of)| {
            let kind = if of == Quantity::Likelihood { "bits" } else { of.file() };
            (format!("figure-2c-{kind}-{steps}.svg"), figure(steps, of))
        })))
    }

    /// The layout of the paper's Table 1, in the most steps: a line for score matching and for each
    /// rank with the most transitions, a column for each quantity.
    fn by_rank(&self, found: &Found, cells: &[GridCell]) -> Table {
        let steps = self.steps.iter().max().copied().unwrap_or(0);
        let most = self.transitions.iter().max().copied().unwrap_or(0);
        let of_arm = |name: &str, method: Method| {
            let own = |r: &&Record| (r.arm.as_str(), r.method, r.steps) == (name, method, steps);
            found.records.iter().find(own)
        };
        let mut rows = vec![("SM".to_string(), of_arm(SM, Method::ZERO_HESSIAN))];
        rows.extend(
            cells.iter().filter(|cell| cell.0 == most).map(|(_, rank, arm)| {
                (format!("LM, r = {rank}"), of_arm(&arm.name, Method::LEARNED))
            }),
        );
        let quantities = found.of_samples().into_iter().chain([Quantity::Likelihood]);
        grid("", &rows, &named(quantities, |of| found.label(*of)), |record, of| {
            record.map(|record| record.cell(*of)).into()
        })
    }
}
