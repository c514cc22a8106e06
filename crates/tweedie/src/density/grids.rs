//! Where the steps of a chain or of a bound lie in time.

use super::Density;
use crate::covariance::{CovarianceConfig, Reverse};
use crate::data::subset;
use crate::grid::{Spacing, SpacingConfig, even_trajectory};
use crate::likelihood::{Elbo, StepCosts};
use crate::noise::Seed;
use crate::query::Batch;
use crate::run::level_rows;
use crate::sample::Sampling;
use crate::watch::{Remark, Watch};
use crate::{Error, Result};

/// Training rows and times that the dynamic spacing is computed on.
const ROWS: usize = 256;
const TIMES: usize = 200;

/// The grids of one run. What a dynamic spacing measures is kept for further numbers of steps.
pub(super) struct Grids<'a> {
    density: &'a Density,
    /// The section of the options, named in errors.
    section: &'static str,
    spacing: SpacingConfig,
    levels: bool,
    batch: usize,
    costs: Option<(CovarianceConfig, StepCosts)>,
}

impl<'a> Grids<'a> {
    /// By default even for bounds on levels, and by the angle for everything else.
    pub fn new(
        density: &'a Density,
        section: &'static str,
        spacing: Option<SpacingConfig>,
        levels: bool,
        batch: usize,
    ) -> Grids<'a> {
        let usual = if levels { Spacing::Even } else { Spacing::default() };
        let spacing = spacing.unwrap_or(SpacingConfig::Laid(usual));
        Grids { density, section, spacing, levels, batch, costs: None }
    }

    /// The grid of `steps` steps with this covariance.
    pub fn of(
        &mut self,
        covariance: CovarianceConfig,
        steps: usize,
        watch: &mut dyn Watch,
    ) -> Result<Vec<f64>> {
        let schedule = self.density.run.schedule();
        let spacing = match self.spacing {
            SpacingConfig::Laid(spacing) => spacing,
            SpacingConfig::Dynamic => return self.dynamic(covariance, steps, watch),
        };
        if !self.levels {
            return spacing.sampling_grid(schedule, steps);
        }
        if let Some(trajectory) = spacing.trajectory(schedule, steps) {
            return trajectory;
        }
        if steps == 1 {
            return Ok(spacing.elbo_grid(schedule, steps));
        }
        let first = schedule.horizon() / schedule.steps() as f64;
        Ok(std::iter::once(0.0).chain(spacing.grid(schedule, steps - 1, first)).collect())
    }

    /// The grid of a chain; none for a sampler without steps.
    pub fn of_chain(&mut self, sampling: &Sampling, watch: &mut dyn Watch) -> Result<Vec<f64>> {
        match sampling.steps_taken() {
            Some(steps) => self.of(sampling.covariance, steps, watch),
            None => Ok(Vec::new()),
        }
    }

    /// The one with the best bound on training rows.
    fn dynamic(
        &mut self,
        covariance: CovarianceConfig,
        steps: usize,
        watch: &mut dyn Watch,
    ) -> Result<Vec<f64>> {
        Error::check_count(&format!("{}.steps", self.section), steps, TIMES)?;
        let known = self.costs.take().filter(|(own, _)| *own == covariance);
        let costs = match known {
            Some((_, costs)) => costs,
            None => self.measure(covariance, watch)?,
        };
        let grid = costs.trajectory(steps);
        self.costs = Some((covariance, costs));
        grid
    }

    fn measure(&self, covariance: CovarianceConfig, watch: &mut dyn Watch) -> Result<StepCosts> {
        let run = &self.density.run;
        let schedule = run.schedule();
        let field = format!("{}.spacing", self.section);
        let times = match self.levels {
            true => even_trajectory(schedule, TIMES.min(schedule.steps()))?,
            false => Spacing::Angle.elbo_grid(schedule, TIMES),
        };
        let Some(prepared) = run.prepared() else {
            let problem = format!("dynamic needs the training data: {}", run.no_data());
            return Err(Error::config(field, problem, "restore the data, or take another spacing"));
        };
        let seed = Seed(run.config.seed).derive("dynamic spacing");
        let rows = match self.levels {
            true => {
                let rows = subset(&prepared.split.train, ROWS, seed);
                let levels = level_rows(&prepared.table, &rows, &run.data.scaling);
                Batch::of(&levels).given(prepared.table.condition_of(&rows))
            }
            false => prepared.training_batch(ROWS, seed.derive("rows")),
        };
        let (n, m) = (rows.x.size()[0], times.len() - 1);
        watch.say(Remark::Progress(format!(
            "measuring the bound's terms, {covariance}, at {m} times on {n} training rows"
        )));
        let reverse = Reverse::new(&run.model, self.density.covariance(covariance)?, 1.0)?;
        let ends = vec![0.0, schedule.horizon()];
        let elbo = match self.levels {
            true => Elbo::of_levels(reverse, ends, 1),
            false => Elbo::new(reverse, ends, 1),
        };
        Ok(StepCosts::measure(&elbo, &rows, &times, self.batch, seed))
    }
}
