//! Where the steps of a chain or of a bound lie in time.

use clap::ValueEnum;
use tweedie::covariance::{CovarianceConfig, Reverse};
use tweedie::data::subset;
use tweedie::grid::{Spacing, even_trajectory};
use tweedie::likelihood::{Elbo, StepCosts};
use tweedie::noise::Seed;
use tweedie::run::{Run, level_rows};
use tweedie::{Error, Result};

use crate::console::say;

#[derive(Clone, Copy, Debug, ValueEnum, PartialEq, Eq)]
pub enum SpacingName {
    /// Equal steps in time; of levels the published trajectory
    Even,
    /// Equal steps in the root of time: finer near the data
    Quadratic,
    /// Equal steps in the log signal-to-noise ratio
    LogSnr,
    /// Equal steps in the angle of signal and noise
    Angle,
    /// The steps with the best bound on training rows, by dynamic programming (at most 200)
    Dynamic,
}

/// Training rows and times that the dynamic spacing is computed on.
const ROWS: usize = 256;
const TIMES: usize = 200;

/// The grids of one run.
pub struct Grids<'a> {
    run: &'a Run,
    spacing: SpacingName,
    levels: bool,
    batch: usize,
    quiet: bool,
    costs: Option<(CovarianceConfig, StepCosts)>,
}

impl<'a> Grids<'a> {
    /// By default even for bounds on levels, and by the angle else.
    pub fn new(
        run: &'a Run,
        spacing: Option<SpacingName>,
        levels: bool,
        batch: usize,
        quiet: bool,
    ) -> Grids<'a> {
        let usual = if levels { SpacingName::Even } else { SpacingName::Angle };
        Grids { run, spacing: spacing.unwrap_or(usual), levels, batch, quiet, costs: None }
    }

    /// The grid of `steps` steps with this covariance.
    pub fn of(&mut self, covariance: CovarianceConfig, steps: usize) -> Result<Vec<f64>> {
        let schedule = self.run.schedule();
        let spacing = match self.spacing {
            SpacingName::Even if self.levels => return even_trajectory(schedule, steps),
            SpacingName::Even => Spacing::Even,
            SpacingName::Quadratic => Spacing::Quadratic,
            SpacingName::LogSnr => Spacing::LogSnr,
            SpacingName::Angle => Spacing::Angle,
            SpacingName::Dynamic => return self.dynamic(covariance, steps),
        };
        if !self.levels || steps == 1 {
            return Ok(spacing.elbo_grid(schedule, steps));
        }
        let first = schedule.horizon() / schedule.steps() as f64;
        Ok(std::iter::once(0.0).chain(spacing.grid(schedule, steps - 1, first)).collect())
    }

    /// The one with the best bound on training rows.
    fn dynamic(&mut self, covariance: CovarianceConfig, steps: usize) -> Result<Vec<f64>> {
        Error::check_count("--steps", steps, TIMES)?;
        if self.costs.as_ref().is_none_or(|(own, _)| *own != covariance) {
            self.costs = Some((covariance, self.measure(covariance)?));
        }
        self.costs.as_ref().expect("just measured").1.trajectory(steps)
    }

    fn measure(&self, covariance: CovarianceConfig) -> Result<StepCosts> {
        let (run, schedule) = (self.run, self.run.schedule());
        let bad = |problem: String, remedy: &str| Err(Error::config("--spacing", problem, remedy));
        if run.model.classes() > 0 {
            return bad("dynamic, of a model conditioned on classes".into(), "take another");
        }
        let times = match self.levels {
            true => even_trajectory(schedule, TIMES.min(schedule.steps()))?,
            false => Spacing::Angle.elbo_grid(schedule, TIMES),
        };
        let Some(prepared) = run.prepared() else {
            let source = &run.config.data.source;
            let problem = format!(
                "dynamic needs the training data, and {source} is not at hand or no longer the same"
            );
            return bad(problem, "restore the data, or take another spacing");
        };
        let seed = Seed(run.config.seed).derive("dynamic spacing");
        let rows = match self.levels {
            true => {
                let train = &prepared.split.train;
                level_rows(&prepared.table, &subset(train, ROWS, seed), &run.data.scaling)
            }
            false => prepared.training_rows(ROWS, seed.derive("rows")),
        };
        let (n, m) = (rows.size()[0], times.len() - 1);
        say(
            self.quiet,
            format!("measuring the bound's terms, {covariance}, at {m} times on {n} training rows"),
        );
        let reverse = Reverse::new(&run.model, run.model.covariance(covariance)?, 1.0)?;
        let ends = vec![0.0, schedule.horizon()];
        let elbo = match self.levels {
            true => Elbo::of_levels(reverse, ends, 1),
            false => Elbo::new(reverse, ends, 1),
        };
        Ok(StepCosts::measure(&elbo, &rows, &times, self.batch, seed))
    }
}
