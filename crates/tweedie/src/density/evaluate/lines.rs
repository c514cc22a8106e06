//! The lines of an evaluation: log-likelihoods, classical densities, discrepancies.

use tch::{Device, Kind};

use super::{EvaluateOptions, Evaluation, Metric};
use crate::baseline::{self, KernelDensity};
use crate::covariance::CovarianceConfig;
use crate::density::grids::Grids;
use crate::density::score::{Part, dequantizer, score};
use crate::density::{Claim, Density, Line, Subject, TestRows};
use crate::dequantize::Uniform;
use crate::likelihood::{Estimation, Estimator};
use crate::metric::Mmd;
use crate::noise::Seed;
use crate::run::{dequantized_from, parts_of, scaled_rows};
use crate::sample::{Sampler, Sampling};
use crate::tensor::to_vec;
use crate::watch::Watch;
use crate::{Error, Result};

impl Density {
    /// The lines of log-likelihoods, with their differences.
    pub(super) fn compare(
        &self,
        found: &mut Evaluation,
        (judged, rows): (&TestRows, &[usize]),
        against: Option<(&Density, &TestRows)>,
        options: &EvaluateOptions,
        batch: usize,
        watch: &mut dyn Watch,
    ) -> Result<()> {
        let own = self.run.model.head_covariance();
        let given = &options.covariances;
        let covariances: Vec<CovarianceConfig> = match given.is_empty() {
            true => own.into_iter().chain(CovarianceConfig::fixed()).collect(),
            false => given.clone(),
        };
        let mut lines = self.likelihoods((judged, rows), options, &covariances, batch, watch)?;
        let (classical, undefined) = self.classical(judged, rows, &options.given)?;
        found.undefined = undefined;
        lines.extend(classical);
        let is_base = |line: &Line| matches!(line.subject, Subject::Base { .. });
        let is_gaussian = |line: &Line| line.subject == Subject::Gaussian;
        let rows_of = |is: &dyn Fn(&Line) -> bool| {
            lines.iter().find(|line| is(line)).and_then(|line| line.rows.clone())
        };
        let (base, gaussian) = (rows_of(&is_base), rows_of(&is_gaussian));
        for line in &mut lines {
            let less = |other: &Option<Vec<f64>>, is_other: bool| {
                other.as_ref().filter(|_| !is_other).and_then(|rows| line.minus(rows))
            };
            let base = less(&base, is_base(line));
            (line.minus_gaussian, line.minus_base) = (less(&gaussian, is_gaussian(line)), base);
        }
        if let Some((other, others)) = against {
            let theirs: Vec<CovarianceConfig> = (covariances.iter())
                .map(|&covariance| match own == Some(covariance) && given.is_empty() {
                    true => other.own_covariance(),
                    false => covariance,
                })
                .collect();
            for &covariance in &theirs {
                other.prepare(covariance, batch, watch)?;
            }
            let mut of_other = other.likelihoods((others, rows), options, &theirs, batch, watch)?;
            of_other.extend(
                other.classical(others, rows, &options.given)?.0.into_iter().filter(is_base),
            );
            let own_base = lines.iter().position(is_base);
            for (i, theirs) in of_other.iter().enumerate() {
                let same = own_base.filter(|_| is_base(theirs)).unwrap_or(i);
                lines[same].minus_against =
                    lines[same].minus(theirs.rows.as_deref().unwrap_or(&[]));
            }
            lines.extend(of_other.into_iter().map(|line| Line { of_against: true, ..line }));
        }
        found.lines = lines;
        Ok(())
    }

    /// A line for each of `covariances` and each number of steps, and one of the ODE.
    fn likelihoods(
        &self,
        (judged, rows): (&TestRows, &[usize]),
        options: &EvaluateOptions,
        covariances: &[CovarianceConfig],
        batch: usize,
        watch: &mut dyn Watch,
    ) -> Result<Vec<Line>> {
        let (levels, seed) = (options.of_levels(self), Seed(options.seed));
        let estimator = if levels { Estimator::Levels } else { Estimator::Elbo };
        let noise = dequantizer(&self.run, options.dequantization, options.start_time)?;
        let asked = self.asked("evaluate.given", &options.given, options.dequantization)?;
        let (table, asked) = (&judged.table, asked.as_ref());
        let part = Part { table, rows, dequantizer: &*noise, asked };
        let mut grids = Grids::new(self, "evaluate", options.spacing, levels, batch);
        let mut lines = Vec::new();
        for &covariance in covariances {
            for &steps in &options.steps {
                let grid = grids.of(covariance, steps, watch)?;
                let built = self.covariance(covariance)?.into();
                let settings = Estimation { estimator, ..Estimation::elbo(built, grid) };
                let found = score(self, part, &settings, seed, batch, watch)?;
                let unsolved = found.summary().unsolved;
                let subject = Subject::Elbo { covariance, steps };
                let mut line = Line::of_rows(subject, found.claim, found.values);
                line.left_out.unsolved = unsolved;
                lines.push(Line { name: found.estimator, flags: found.flags, ..line });
            }
        }
        if options.ode && !self.is_large() {
            let flow = Estimation { keep_unsolved: true, ..Estimation::stepless(Estimator::Ode) };
            let found = score(self, part, &flow, seed, batch, watch)?;
            let doubted = found.doubted();
            let flagged = Some(doubted.len());
            let mut values = found.values;
            doubted.into_iter().for_each(|row| values[row] = f64::NAN);
            let mut line = Line::of_rows(Subject::Ode, found.claim, values);
            line.left_out.flagged = flagged;
            lines.push(Line { name: found.estimator, flags: found.flags, ..line });
        }
        Ok(lines)
    }

    /// Classical densities on the same rows, and those that cannot be, with the reason.
    fn classical(
        &self,
        judged: &TestRows,
        rows: &[usize],
        given: &[String],
    ) -> Result<(Vec<Line>, Vec<(Subject, String)>)> {
        let run = &self.run;
        let seed = Seed(run.config.seed).derive("baselines");
        if let Some(values) = self.of_mixture(&judged.table, rows, given, seed) {
            let subject = Subject::Base { components: run.model.base().components() };
            return Ok((vec![Line::of_rows(subject, Claim::Exact, values)], Vec::new()));
        }
        // images have no densities but the base: taken in parts, since they are large
        let (mut of_base, mut log_jacobian) = (Vec::new(), Vec::new());
        let base = run.model.base().to(Device::Cpu, Kind::Double);
        for part in parts_of(rows.len(), run.data.scaling.dim()) {
            let (uniform, first) = (Uniform::new(&run.data.scaling), part.start as u64);
            let found = dequantized_from(&judged.table, &rows[part], &uniform, seed, first);
            of_base.extend(to_vec(&base.log_density(&found.rows)));
            log_jacobian.extend(found.offsets);
        }
        let line = |subject, values: Vec<f64>| {
            let in_data_units = values.iter().zip(&log_jacobian).map(|(v, j)| v + j).collect();
            Line::of_rows(subject, Claim::Exact, in_data_units)
        };
        let (mut lines, mut undefined) = (Vec::new(), Vec::new());
        if let Some((train, validation)) = &judged.reference {
            let (test, _) = scaled_rows(&judged.table, rows, &run.data.scaling, seed);
            let (rows, columns) = train.size2().expect("rows");
            let problem = format!("{rows} training rows have no covariance in {columns} columns");
            match baseline::gaussian(train, &test) {
                _ if rows <= columns => undefined.push((Subject::Gaussian, problem)),
                Ok(values) => lines.push(line(Subject::Gaussian, values)),
                Err(error) => undefined.push((Subject::Gaussian, error.to_string())),
            }
            if validation.size()[0] > 0 {
                let kde = KernelDensity::fit(train, validation)?;
                let subject = Subject::Kernel { bandwidth: kde.bandwidth() };
                lines.push(line(subject, kde.log_density(&test)));
            }
        }
        lines.push(line(Subject::Base { components: base.components() }, of_base));
        Ok((lines, undefined))
    }

    /// A line of the maximum mean discrepancy for each of [`Density::samplings`].
    pub(super) fn discrepancies(
        &self,
        (judged, rows): (&TestRows, &[usize]),
        options: &EvaluateOptions,
        batch: usize,
        watch: &mut dyn Watch,
    ) -> Result<Vec<Line>> {
        let seed = Seed(options.seed).derive("mmd");
        let (test, _) = scaled_rows(&judged.table, rows, &self.run.data.scaling, seed);
        let samples = rows.len().clamp(1000, 10_000);
        let mut grids = Grids::new(self, "evaluate", options.spacing, false, batch);
        let mut lines = Vec::new();
        for sampling in self.samplings(options) {
            let grid = grids.of_chain(&sampling, watch)?;
            let drawn = self.draw(&sampling, &grid, (None, None), (samples, batch), watch)?;
            let drawn = drawn.0.to_kind(Kind::Double).to_device(Device::Cpu);
            let value = Mmd::default().u_statistic(&drawn, &test);
            let subject = Subject::Mmd {
                sampler: sampling.sampler,
                covariance: sampling.covariance_taken(),
                steps: sampling.steps_taken(),
                samples,
            };
            lines.push(Line::of_distance(subject, value));
        }
        Ok(lines)
    }

    /// How samples are drawn: with each covariance and each number of steps, where the sampler has
    /// such.
    pub(in crate::density) fn samplings(&self, options: &EvaluateOptions) -> Vec<Sampling> {
        let usual = self.sampling(&options.sampling(None));
        let covariances = match (usual.covariance_taken(), &options.covariances[..]) {
            (Some(_), given @ [_, ..]) => given,
            (_, _) => &[usual.covariance],
        };
        let steps = match usual.steps_taken() {
            Some(_) => &options.steps[..],
            None => &[usual.steps],
        };
        let with_steps = |covariance| {
            let of = |&steps| Sampling { covariance, steps, ..usual.clone() };
            steps.iter().map(of).collect::<Vec<_>>()
        };
        covariances.iter().flat_map(|&covariance| with_steps(covariance)).collect()
    }

    /// Refuses options of a sampler that nothing in `metrics` uses or that it does not take.
    pub(super) fn check_sampling(
        &self,
        metrics: &[Metric],
        options: &EvaluateOptions,
    ) -> Result<()> {
        let draws = metrics.iter().any(|metric| *metric != Metric::Nll);
        if options.images.guidance.is_some() && metrics.contains(&Metric::Nll) {
            let problem = "a guided model is no distribution, and has no likelihood";
            let remedy = "leave it out, or give evaluate.metrics = fd, is or pr";
            return Err(Error::config("evaluate.images.guidance", problem, remedy));
        }
        if !draws {
            let given = options.sampler != Sampler::default();
            let problem =
                format!("{}, and nothing that is measured is of samples", options.sampler);
            let remedy = match self.is_of_images() {
                true => "leave it out, or give evaluate.metrics = fd, is, pr or mmd with it",
                false => "leave it out, or give evaluate.metrics = mmd with it",
            };
            return match given {
                true => Err(Error::config("evaluate.sampler", problem, remedy)),
                false => Ok(()),
            };
        }
        // covariances may be those of log-likelihoods
        let of_samples = !metrics.contains(&Metric::Nll);
        let covariance = options.covariances.first().copied().filter(|_| of_samples);
        let sampling = options.sampling(covariance);
        sampling.check()?;
        sampling.check_images(self.is_of_images(), &self.name())?;
        sampling.check_model(&self.run.model)?;
        self.check_adaptive("evaluate.sampler", !options.sampler.method().has_steps())
    }
}
