//! The probability-flow ODE: `x_0 ↔ x_T` without noise, and the log-density that the map carries
//! along.
//!
//! `dx/dt = f x − ½ g² s` (Song et al. 2021, §4.3) is `dy/dσ̃ = ε̂` for `y = x/α`, `σ̃ = σ/α`:
//! schedule and drift have gone. It is integrated in the angle `φ = arctan σ̃` for `z = y cos φ`
//! (with VP: `z = x_t`, `cos φ = α`, `sin φ = σ`), where
//!
//! `dz/dφ = v = (ε̂ − sin φ z)/cos φ`,
//!
//! `v = 0` for standard normal data, bounded for others, and smooth where `t` has kinks
//! (discrete-time processes). Densities follow by `d ln p(z)/dφ = −∇·v` (instantaneous change of
//! variables, Chen et al. 2018).
//!
//! Between 0 and `ε`, where networks are not trained, the score is held at its value at `ε`, so
//! `ε̂` grows with `σ̃`: `y_ε = x_0 + ½ σ̃_ε ε̂(α_ε x_0, ε)` and
//! `ln p_0(x_0) = ln p(y_ε) + ½ σ̃_ε ∇_y·ε̂`. For the exact score this is right to `O(σ̃_ε⁴)`,
//! where the usual `x_ε = α_ε x_0` is off by `½ σ̃_ε² (tr H + ‖s‖²)`.
//!
//! With [`ProbabilityFlow::from_time`] the flow ends at `τ ≥ ε` instead, and rows are `y = x_τ/α_τ`
//! themselves.

mod field;

use std::cell::RefCell;
use std::rc::Rc;

use tch::Tensor;

use super::divergence::{Directions, Divergence};
use super::options::{Estimation, EstimatorMethod};
use super::{Claim, Estimate, FAR, Flag, LogLikelihood, farthest, mean_and_error, too_far};
use crate::covariance::Own;
use crate::gaussian::LN_2PI;
use crate::grid::Spacing;
use crate::model::Denoiser;
use crate::noise::{Noise, Seed};
use crate::ode::{DormandPrince, Status};
use crate::query::{Batch, Condition, Query, Times};
use crate::schedule::Schedule;
use crate::tensor::{squared_norm, to_vec};
use crate::{Error, Result};
use field::{FlowField, Place};

/// A chance below `e^{−20.7} = 1e-9`, for the latent of a row.
const LATENT_NATS: f64 = 20.7;

/// `ln p(x_0)` by the probability-flow ODE from `x_0` to `x_T ~ N(0, σ_T² I)`: an estimate, not a
/// bound; the density of exactly what [`crate::sample::FlowSampler`] draws, up to tolerance.
///
/// Cost: solver evaluations × (1 + products of the [`Divergence`]); error control counts the
/// log-density as a coordinate, in nats. With probes each probe has its own log-density, and the
/// standard error is over those.
///
/// A row that is not solved is an [`Error::Row`] with the remedy; with
/// [`ProbabilityFlow::keep_unsolved`] it has the value NaN and a flag. One that is not solved
/// because it lies beyond [`FAR`] has the value −∞ and a flag in either case. Flags name rows that
/// are solved but doubtful:
/// - whose latent `x_T` lies where the prior has mass below 1e-9 (`‖x_T‖²/σ_T² > d + 2√(dτ) + 2τ`,
///   Laurent & Massart 2000, Lemma 1): an extreme outlier, or a field that throws the row out;
/// - on whose path `tr G = d − σ ∇·ε̂`, the trace of a posterior covariance, was negative and took
///   more than `max(½, d/10)` nats with it: the field there is the score of no density, and the
///   value is too high (exact divergence only);
/// - with [`ProbabilityFlow::verify`], whose value moves by more than 0.1 nats + 100 tolerances at
///   a tenth of them.
pub struct ProbabilityFlow<'a> {
    model: &'a dyn Denoiser,
    solver: DormandPrince,
    divergence: Divergence,
    verify: bool,
    keep_unsolved: bool,
    first_row: u64,
    from_time: Option<f64>,
}

/// What the flow does to rows on their way up.
struct Ascent {
    /// `x_T/σ_T`, `[b, d]`, f64.
    latent: Tensor,
    /// `ln |∂(x_T/σ_T)/∂x_0|`, nats, `[b, columns]`.
    log_det: Tensor,
    /// Nats that a negative trace of `G` added, per row.
    negative: Vec<f64>,
    evaluations: Vec<usize>,
    status: Vec<Status>,
}

impl<'a> ProbabilityFlow<'a> {
    /// The flow of `model` at `rtol = atol = 1e-5` (score_flow's), at most 5000 evaluations per
    /// row, `Auto` divergence.
    pub fn new(model: &'a dyn Denoiser) -> ProbabilityFlow<'a> {
        let solver = DormandPrince { rtol: 1e-5, atol: 1e-5, max_evaluations: 5000 };
        ProbabilityFlow {
            model,
            solver,
            divergence: Divergence::Auto,
            verify: false,
            keep_unsolved: false,
            first_row: 0,
            from_time: None,
        }
    }

    /// With these tolerances of a step, in units of data (about unit scale) and nats.
    ///
    /// # Errors
    /// If one is negative or not finite, or both are 0.
    pub fn tolerance(mut self, rtol: f64, atol: f64) -> Result<Self> {
        let fine = |v: f64| v.is_finite() && v >= 0.0;
        if !(fine(rtol) && fine(atol) && rtol + atol > 0.0) {
            return Err(Error::config(
                "tolerance",
                format!("rtol = {rtol}, atol = {atol}"),
                "give two non-negative numbers, one of them positive (1e-5 and 1e-5 are usual)",
            ));
        }
        (self.solver.rtol, self.solver.atol) = (rtol, atol);
        Ok(self)
    }

    /// The tolerances of a step: `rtol` and `atol`.
    pub fn tolerances(&self) -> (f64, f64) {
        (self.solver.rtol, self.solver.atol)
    }

    /// The same with at most `limit` evaluations of the field per row.
    pub fn max_evaluations(mut self, limit: usize) -> Self {
        self.solver.max_evaluations = limit;
        self
    }

    /// With this divergence.
    ///
    /// # Errors
    /// If it has no probe.
    pub fn divergence(mut self, divergence: Divergence) -> Result<Self> {
        self.divergence = divergence.checked()?;
        Ok(self)
    }

    /// Whether likelihoods are computed a second time, at a tenth of the tolerances; the second
    /// value is then given.
    pub fn verify(mut self, verify: bool) -> Self {
        self.verify = verify;
        self
    }

    /// Whether the log-likelihood of a row that is not solved is NaN, with a flag, and not an
    /// error.
    pub fn keep_unsolved(mut self, keep: bool) -> Self {
        self.keep_unsolved = keep;
        self
    }

    /// The number of the first row that is encoded or decoded, from 0: errors name rows by their
    /// place in the whole.
    pub fn first_row(mut self, first_row: u64) -> Self {
        self.first_row = first_row;
        self
    }

    /// With rows that are `y = x_τ/α_τ` of the process at `τ`, and not `x_0`: values are then
    /// `ln p_τ(α_τ y) + d ln α_τ`, and [`ProbabilityFlow::decode`] gives `y`. The model is
    /// not evaluated below `τ`. For levels under [`crate::dequantize::TruncatedNormal`].
    ///
    /// # Errors
    /// If `τ` is not from `ε` to below `T`.
    pub fn from_time(mut self, tau: f64) -> Result<Self> {
        let schedule = self.model.space().schedule();
        let (first, last) = (schedule.epsilon(), schedule.horizon());
        if !(first..last).contains(&tau) {
            let remedy = format!("give a time from {first:e} to below {last}");
            return Err(Error::config("start_time", format!("{tau}"), remedy));
        }
        self.from_time = Some(tau);
        Ok(self)
    }

    /// The model.
    pub fn model(&self) -> &'a dyn Denoiser {
        self.model
    }

    fn ends(&self) -> (Place, Place) {
        let schedule = self.model.space().schedule();
        let first = self.from_time.unwrap_or_else(|| schedule.epsilon());
        (Place::at_time(schedule, first), Place::at_time(schedule, schedule.horizon()))
    }

    /// `ε̂` at `first`, with which the score is held below, and its products; None where the flow
    /// ends there.
    fn noise_below(
        &self,
        field: &FlowField,
        y: &Tensor,
        first: Place,
    ) -> Option<(Tensor, Option<Tensor>)> {
        if self.from_time.is_some() {
            return None;
        }
        let rows: Vec<i64> = (0..y.size()[0]).collect();
        let (x, times) = (y * (first.scale * first.cos), Times::All(first.t));
        let q = Query::new(&x, &times).given(field.condition);
        Some(field.directions.noise(self.model, &q, &rows))
    }

    fn field<'b>(
        &self,
        directions: Directions,
        rows: usize,
        condition: Option<&'b Condition>,
    ) -> FlowField<'b>
    where
        'a: 'b,
    {
        let negative = RefCell::new(vec![[f64::NAN, 0.0, 0.0]; rows]);
        FlowField { model: self.model, condition, directions, negative }
    }

    fn ascend(&self, batch: &Batch, directions: Directions, solver: DormandPrince) -> Ascent {
        let x = &batch.x;
        let (b, d) = x.size2().expect("rows [b, d]");
        assert_eq!(d, self.model.space().dim, "columns of rows against the model's");
        let (first, last) = self.ends();
        let field = self.field(directions, b as usize, batch.condition.as_ref());
        let columns = field.directions.columns();
        let x0 = x.to_kind(tch::Kind::Double);
        let ratio = first.sin / first.cos;
        let (y, product) = match self.noise_below(&field, &x0, first) {
            Some((noise, product)) => (x0 + noise * (0.5 * ratio), product),
            None => (x0, None),
        };
        let z = y * first.cos;
        let start = match columns {
            0 => z,
            _ => Tensor::cat(&[&z, &z.new_zeros([b, columns], (z.kind(), z.device()))], 1),
        };
        let solution = solver.solve(&field, &start, first.angle(), last.angle());
        let latent = solution.y.narrow(1, 0, d) / last.sin;
        let mut log_det =
            solution.y.narrow(1, d, columns) + d as f64 * (first.cos.ln() - last.sin.ln());
        if let Some(product) = product {
            log_det += product * (0.5 * ratio * first.scale * first.cos);
        }
        let below = usize::from(self.from_time.is_none());
        let evaluations = solution.evaluations.iter().map(|n| n + below).collect();
        let negative = field.negative.into_inner().into_iter().map(|n| n[2]).collect();
        Ascent { latent, log_det, negative, evaluations, status: solution.status }
    }

    /// The latent `x_T/σ_T` of rows `x_0` `[b, d]`, in f64: standard normal for rows of the model's
    /// distribution.
    ///
    /// # Errors
    /// If a row is not solved.
    pub fn encode(&self, batch: &Batch) -> Result<Tensor> {
        let ascent = self.ascend(batch, Directions::None, self.solver);
        all_solved(&ascent.status, self.first_row)?;
        Ok(ascent.latent)
    }

    /// The rows `x_0` `[b, d]` of latents `x_T/σ_T`, in f64: [`ProbabilityFlow::encode`] undone, up
    /// to tolerance.
    ///
    /// # Errors
    /// If a row is not solved.
    pub fn decode(&self, latent: &Tensor, condition: Option<&Condition>) -> Result<Tensor> {
        let (first, last) = self.ends();
        let b = latent.size()[0];
        let field = self.field(Directions::None, b as usize, condition);
        let start = latent.to_kind(tch::Kind::Double) * last.sin;
        let solution = self.solver.solve(&field, &start, last.angle(), first.angle());
        all_solved(&solution.status, self.first_row)?;
        let y = solution.y / first.cos;
        Ok(match self.noise_below(&field, &y, first) {
            Some((noise, _)) => y - noise * (0.5 * first.sin / first.cos),
            None => y,
        })
    }

    fn directions(&self, x: &Tensor, seed: Seed, first_row: u64) -> Directions {
        let rows = first_row..first_row + x.size()[0] as u64;
        self.divergence.directions(x, &mut Noise::new(seed, rows))
    }

    fn estimate(
        &self,
        batch: &Batch,
        directions: Directions,
        solver: DormandPrince,
        first_row: u64,
    ) -> Result<Estimate> {
        let (b, d) = batch.x.size2().expect("rows [b, d]");
        let draws = match &directions {
            Directions::Probes(_) => directions.columns() as usize,
            _ => 0,
        };
        let products = directions.products(d);
        let ascent = self.ascend(batch, directions, solver);
        let reach = farthest(&batch.x);
        // so far out rounding alone may be above the tolerance, or not, from processor to processor
        let overflowed = |row: usize| {
            let status = ascent.status[row];
            matches!(status, Status::Done | Status::NotFinite { .. } | Status::StepTooSmall { .. })
        };
        let far =
            |row: usize| reach.get(row).filter(|(_, far)| *far > FAR && overflowed(row)).copied();
        if !self.keep_unsolved {
            let status: Vec<Status> = (ascent.status.iter().enumerate())
                .map(|(row, &status)| if far(row).is_some() { Status::Done } else { status })
                .collect();
            all_solved(&status, first_row)?;
        }
        let squares = to_vec(&squared_norm(&ascent.latent));
        let log_dets = to_vec(&ascent.log_det);
        let columns = draws.max(1);
        let latent_limit = d as f64 + 2.0 * (d as f64 * LATENT_NATS).sqrt() + 2.0 * LATENT_NATS;
        let (mut values, mut std_errors, mut flags) = (Vec::new(), Vec::new(), Vec::new());
        for row in 0..b as usize {
            let (value, error) = mean_and_error(&log_dets[row * columns..(row + 1) * columns]);
            let value = value - 0.5 * (squares[row] + d as f64 * LN_2PI);
            let solved = ascent.status[row].is_done() && value.is_finite();
            let lost = if solved { None } else { far(row) };
            if !solved && lost.is_none() && !self.keep_unsolved {
                let problem = "probability-flow ODE: the log-likelihood is not finite";
                return Err(Error::row(first_row + row as u64, problem, LOOK));
            }
            values.push(match (solved, lost) {
                (true, _) => value,
                (false, Some(_)) => f64::NEG_INFINITY,
                (false, None) => f64::NAN,
            });
            std_errors.push(if !solved {
                f64::NAN
            } else if draws == 0 {
                0.0
            } else {
                error
            });
            let mut flag = |reason: String| flags.push(Flag { row, reason });
            if let Some((column, far)) = lost {
                flag(too_far(column, far));
            } else if !ascent.status[row].is_done() {
                flag(format!("probability-flow ODE: {}", ascent.status[row]));
            } else if !value.is_finite() {
                flag(format!("probability-flow ODE: not finite; {LOOK}"));
            } else if squares[row] > latent_limit {
                let sd = (squares[row] / d as f64).sqrt();
                flag(format!(
                    "latent lies where the prior has mass below 1e-9 ({sd:.1} sd per dimension)"
                ));
            } else if ascent.negative[row] > (0.1 * d as f64).max(0.5) {
                let nats = ascent.negative[row];
                flag(format!(
                    "too high by {nats:.1} nats or so: the field on its path is the score of no \
                     density"
                ));
            }
        }
        let name = self.divergence.name(d);
        let start = self.from_time.map_or_else(String::new, |tau| format!(", from τ = {tau:.2e}"));
        let evaluations = ascent.evaluations.iter().sum::<usize>() as f64 / (b as f64).max(1.0);
        Ok(Estimate {
            claim: Claim::Estimate,
            estimator: format!(
                "probability-flow ODE{start}, {name}, rtol {:.0e}",
                self.solver.rtol
            ),
            values,
            offsets: vec![0.0; b as usize],
            std_errors,
            draws,
            evaluations: evaluations * (1 + products) as f64,
            flags,
        })
    }
}

fn all_solved(status: &[Status], first_row: u64) -> Result<()> {
    let unsolved = |s: &Status| !s.is_done();
    match status.iter().position(unsolved) {
        None => Ok(()),
        Some(row) => {
            let count = status.iter().filter(|s| unsolved(s)).count();
            let (all, problem) = (status.len(), status[row].problem());
            Err(Error::row(
                first_row + row as u64,
                format!("probability-flow ODE: {problem} ({count} of {all} rows not solved)"),
                status[row].remedy(),
            ))
        }
    }
}

/// What to look for in a row whose likelihood is not a number.
const LOOK: &str = "look for extreme values in the row, or in the model's weights";

impl LogLikelihood for ProbabilityFlow<'_> {
    fn log_likelihood(&self, batch: &Batch, seed: Seed, first_row: u64) -> Result<Estimate> {
        let directions = || self.directions(&batch.x, seed, first_row);
        let estimate = self.estimate(batch, directions(), self.solver, first_row)?;
        if !self.verify {
            return Ok(estimate);
        }
        let (rtol, atol) = (self.solver.rtol, self.solver.atol);
        let finer = DormandPrince { rtol: 0.1 * rtol, atol: 0.1 * atol, ..self.solver };
        let mut fine = self.estimate(batch, directions(), finer, first_row)?;
        for (row, (a, b)) in estimate.values.iter().zip(&fine.values).enumerate() {
            let moved = (a - b).abs();
            let known = fine.flags.iter().any(|f| f.row == row);
            if !known && (moved.is_nan() || moved > 0.1 + 100.0 * (atol + rtol * b.abs())) {
                let reason = format!(
                    "moves by {moved:.2} nats at a tenth of the tolerance: lower rtol and atol"
                );
                fine.flags.push(Flag { row, reason });
            }
        }
        fine.flags.sort_by_key(|f| f.row);
        fine.estimator += ", verified";
        fine.evaluations += estimate.evaluations;
        Ok(fine)
    }
}

/// Steps of the ELBO that values are held against.
const CHECK_STEPS: usize = 50;

/// The flow's log-density in the list of estimators: every row is solved twice.
pub(super) struct Method;

impl EstimatorMethod for Method {
    fn name(&self) -> &'static str {
        "ode"
    }

    fn help(&self) -> &'static str {
        "Estimate: the probability-flow ODE"
    }

    fn options(&self) -> &'static [&'static str] {
        &[
            "divergence",
            "probes",
            "solver.rtol",
            "solver.atol",
            "solver.max_evaluations",
            "keep_unsolved",
        ]
    }

    fn serves_later_times(&self) -> bool {
        true
    }

    fn evaluations(&self, _: &Estimation) -> Option<usize> {
        None
    }

    fn build<'a>(
        &self,
        model: &'a dyn Denoiser,
        settings: &Estimation,
    ) -> Result<Box<dyn LogLikelihood + 'a>> {
        let flow = settings.solver.flow(model, 1.0)?;
        let flow = flow.divergence(settings.divergence.unwrap_or_default())?.verify(true);
        let flow = flow.keep_unsolved(settings.keep_unsolved);
        Ok(Box::new(match settings.from_time {
            Some(time) => flow.from_time(time)?,
            None => flow,
        }))
    }

    /// Rows of a later time than 0 have no ELBO.
    fn bound(&self, settings: &Estimation, schedule: &dyn Schedule) -> Option<Estimation> {
        let grid = || Spacing::default().elbo_grid(schedule, CHECK_STEPS);
        (settings.from_time.is_none()).then(|| Estimation::elbo(Rc::new(Own), grid()))
    }
}

#[cfg(test)]
mod tests;
