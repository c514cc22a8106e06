//! The probability-flow ODE: `x_0 ↔ x_T` without noise, and the log-density that the map carries along.
//!
//! `dx/dt = f x − ½ g² s` (Song et al. 2021, §4.3) is `dy/dσ̃ = ε̂` for `y = x/α`, `σ̃ = σ/α`: schedule and drift
//! have gone. It is integrated in the angle `φ = arctan σ̃` for `z = y cos φ` (with VP: `z = x_t`,
//! `cos φ = α`, `sin φ = σ`), where
//!
//! `dz/dφ = v = (ε̂ − sin φ z)/cos φ`,
//!
//! `v = 0` for standard normal data, bounded for others, and smooth where `t` has kinks (discrete-time processes).
//! Densities follow by `d ln p(z)/dφ = −∇·v` (instantaneous change of variables, Chen et al. 2018).
//!
//! Between 0 and `ε`, where networks are not trained, the score is held at its value at `ε`, so `ε̂` grows with `σ̃`:
//! `y_ε = x_0 + ½ σ̃_ε ε̂(α_ε x_0, ε)` and `ln p_0(x_0) = ln p(y_ε) + ½ σ̃_ε ∇_y·ε̂`. For the exact score this is right
//! to `O(σ̃_ε⁴)`, where the usual `x_ε = α_ε x_0` is off by `½ σ̃_ε² (tr H + ‖s‖²)`.

use std::cell::RefCell;

use serde::{Deserialize, Serialize};
use tch::{Tensor, no_grad, with_grad};

use super::{Estimate, Flag, Kind, LogLikelihood, mean_and_error};
use crate::gaussian::LN_2PI;
use crate::model::Denoiser;
use crate::noise::{Noise, Seed};
use crate::ode::{DormandPrince, Field, Status};
use crate::schedule::Schedule;
use crate::{Error, Result};

/// How `∇·ε̂` is had from vector–Jacobian products.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Divergence {
    /// Exact up to `d = 16`, then [`Divergence::Rademacher`] with 8 probes.
    #[default]
    Auto,
    /// The trace, by `d` products.
    Exact,
    /// Skilling–Hutchinson `eᵀ(∂v/∂z)e` with random signs, fixed along a row's path (Hutchinson 1990).
    Rademacher {
        /// Probes per row; a standard error needs two.
        probes: usize,
    },
    /// As above with normal probes: greater variance.
    Gaussian {
        /// Probes per row; a standard error needs two.
        probes: usize,
    },
}

/// Largest `d` for which `Auto` is exact: there an exact solution costs at most 17 evaluations a stage against 9 with
/// eight probes, and has no noise.
const EXACT_UP_TO: i64 = 16;
const AUTO_PROBES: usize = 8;

impl Divergence {
    /// What `Auto` means in `d` dimensions.
    pub fn resolve(self, d: i64) -> Divergence {
        match self {
            Divergence::Auto if d <= EXACT_UP_TO => Divergence::Exact,
            Divergence::Auto => Divergence::Rademacher { probes: AUTO_PROBES },
            chosen => chosen,
        }
    }
}

/// Products in one backward pass by repeating rows, as long as there are at most so many repeated rows; beyond, one
/// backward pass per direction. Measured with an MLP of width 128 on two cores (`ways_to_a_trace`): repeating is up to
/// three times as fast below, where calls cost more than arithmetic, and half as fast from some 10⁴ on.
const REPEATED_ROWS: i64 = 2048;

/// Rows that a graph is built for at once: bounds the memory of a divergence.
const GRAPH_ROWS: i64 = 8192;

/// A chance below `e^{−20.7} = 1e-9`, for the latent of a row.
const LATENT_NATS: f64 = 20.7;

/// `ln p(x_0)` by the probability-flow ODE from `x_0` to `x_T ~ N(0, σ_T² I)`: an estimate, not a bound; the density of
/// exactly what [`crate::sample::FlowSampler`] draws, up to tolerance.
///
/// Cost: solver evaluations × (1 + products of the [`Divergence`]); error control counts the log-density as a
/// coordinate, in nats. With probes each probe has its own log-density, and the standard error is over those.
///
/// A row that is not solved has the value NaN. Flags name it, and rows that are solved but doubtful:
/// - whose latent `x_T` lies where the prior has mass below 1e-9 (`‖x_T‖²/σ_T² > d + 2√(dτ) + 2τ`, Laurent & Massart
///   2000, Lemma 1): an extreme outlier, or a field that throws the row out;
/// - on whose path `tr G = d − σ ∇·ε̂`, the trace of a posterior covariance, was negative and took more than
///   `max(½, d/10)` nats with it: the field there is the score of no density, and the value is too high (exact
///   divergence only);
/// - with [`ProbabilityFlow::verify`], whose value moves by more than 0.1 nats + 100 tolerances at a tenth of them.
pub struct ProbabilityFlow<'a> {
    model: &'a dyn Denoiser,
    solver: DormandPrince,
    divergence: Divergence,
    verify: bool,
}

/// Where `φ` is in the process.
#[derive(Clone, Copy)]
struct Place {
    t: f64,
    sin: f64,
    cos: f64,
    /// `x_t/z = α/cos φ`, 1 for VP.
    scale: f64,
}

impl Place {
    fn at_time(schedule: &dyn Schedule, t: f64) -> Place {
        let (alpha, sigma) = (schedule.alpha(t), schedule.sigma(t));
        let norm = alpha.hypot(sigma);
        Place { t, sin: sigma / norm, cos: alpha / norm, scale: norm }
    }

    fn at_angle(schedule: &dyn Schedule, angle: f64) -> Place {
        let (sin, cos) = angle.sin_cos();
        let t =
            schedule.time_of_log_snr(2.0 * (cos / sin).ln()).clamp(schedule.epsilon(), schedule.horizon());
        Place { t, sin, cos, scale: schedule.alpha(t) / cos }
    }

    fn angle(&self) -> f64 {
        self.sin.atan2(self.cos)
    }
}

/// Directions in which the Jacobian is looked at.
enum Directions {
    None,
    /// The unit vectors, summed.
    Exact,
    /// `[rows, probes, d]`, f64.
    Probes(Tensor),
}

impl Directions {
    /// Log-densities carried along.
    fn columns(&self) -> i64 {
        match self {
            Directions::None => 0,
            Directions::Exact => 1,
            Directions::Probes(e) => e.size()[1],
        }
    }

    fn products(&self, d: i64) -> usize {
        if let Directions::Exact = self { d as usize } else { self.columns() as usize }
    }
}

/// `(v, ∇·v)` on rows `[z, ln p]`.
struct FlowField<'a> {
    model: &'a dyn Denoiser,
    directions: Directions,
    /// Per row: last angle, `(−tr G)⁺/(sin cos)` there, and its integral so far, nats.
    negative: RefCell<Vec<[f64; 3]>>,
}

fn column(values: impl IntoIterator<Item = f64>, like: &Tensor) -> Tensor {
    let values: Vec<f64> = values.into_iter().collect();
    Tensor::from_slice(&values).to_device(like.device()).unsqueeze(-1)
}

fn to_vec(x: &Tensor) -> Vec<f64> {
    let x = x.to_kind(tch::Kind::Double).to_device(tch::Device::Cpu).contiguous();
    Vec::try_from(x.view(-1)).expect("f64 on the CPU")
}

impl FlowField<'_> {
    /// `ε̂` `[b, d]` at `x` and `eᵀ(∂ε̂/∂x)e` `[b, columns]` (of the model's known part: its exact divergence), in f64; `x` in f64, times per row.
    fn noise(&self, x: &Tensor, t: &[f64], rows: &[i64]) -> (Tensor, Option<Tensor>) {
        let model_x = x.to_kind(self.model.kind());
        if let Directions::None = self.directions {
            return (no_grad(|| self.model.noise(&model_x, t)).to_kind(tch::Kind::Double), None);
        }
        let (b, d) = x.size2().expect("rows");
        let mut noises = Vec::new();
        let mut products = Vec::new();
        let repeats = self.directions.products(d) as i64;
        let at_once = if b * repeats <= REPEATED_ROWS { b } else { GRAPH_ROWS };
        for start in (0..b).step_by(at_once.max(1) as usize) {
            let n = at_once.min(b - start);
            let range = start as usize..(start + n) as usize;
            let directions = self.directions_of(&rows[range.clone()], d, x);
            let part = model_x.narrow(0, start, n);
            let (noise, product) = if n * repeats <= REPEATED_ROWS {
                self.products_by_repeating(&part, &t[range], &directions)
            } else {
                self.products_one_by_one(&part, &t[range], &directions)
            };
            noises.push(noise);
            products.push(match self.directions {
                Directions::Exact => product.sum_dim_intlist([1i64].as_slice(), true, None::<tch::Kind>),
                _ => product,
            });
        }
        let (noise, product) = (Tensor::cat(&noises, 0), Tensor::cat(&products, 0));
        match no_grad(|| self.model.known_part(x, t)) {
            None => (noise, Some(product)),
            Some((known, divergence)) => (noise + known, Some(product + divergence.unsqueeze(-1))),
        }
    }

    /// `[rows, products, d]`.
    fn directions_of(&self, rows: &[i64], d: i64, x: &Tensor) -> Tensor {
        match &self.directions {
            Directions::Probes(e) => e.index_select(0, &Tensor::from_slice(rows).to_device(x.device())),
            _ => Tensor::eye(d, (tch::Kind::Double, x.device()))
                .unsqueeze(0)
                .expand([rows.len() as i64, d, d], false),
        }
    }

    fn products_by_repeating(&self, x: &Tensor, t: &[f64], directions: &Tensor) -> (Tensor, Tensor) {
        let (b, repeats, d) = directions.size3().expect("directions");
        let times: Vec<f64> = t.iter().flat_map(|&t| std::iter::repeat_n(t, repeats as usize)).collect();
        let x = x.repeat_interleave_self_int(repeats, 0, None).detach().set_requires_grad(true);
        let e = directions.reshape([b * repeats, d]);
        let noise = with_grad(|| self.model.correction(&x, &times));
        let along = with_grad(|| (&noise * e.to_kind(noise.kind())).sum(None::<tch::Kind>));
        let gradient = Tensor::run_backward(&[along], &[&x], false, false).remove(0);
        let product = (gradient.to_kind(tch::Kind::Double) * e).sum_dim_intlist(
            [1i64].as_slice(),
            false,
            None::<tch::Kind>,
        );
        let noise = noise.detach().view([b, repeats, d]).select(1, 0).to_kind(tch::Kind::Double);
        (noise, product.view([b, repeats]))
    }

    fn products_one_by_one(&self, x: &Tensor, t: &[f64], directions: &Tensor) -> (Tensor, Tensor) {
        let repeats = directions.size()[1];
        let x = x.detach().copy().set_requires_grad(true);
        let noise = with_grad(|| self.model.correction(&x, t));
        let products: Vec<Tensor> = (0..repeats)
            .map(|i| {
                let e = directions.select(1, i);
                let along = with_grad(|| (&noise * e.to_kind(noise.kind())).sum(None::<tch::Kind>));
                let gradient = Tensor::run_backward(&[along], &[&x], i + 1 < repeats, false).remove(0);
                (gradient.to_kind(tch::Kind::Double) * e).sum_dim_intlist(
                    [1i64].as_slice(),
                    false,
                    None::<tch::Kind>,
                )
            })
            .collect();
        (noise.detach().to_kind(tch::Kind::Double), Tensor::stack(&products, 1))
    }

    /// `‖e‖²` `[b, columns]`, or `d`.
    fn squared_directions(&self, rows: &[i64], z: &Tensor) -> Tensor {
        match &self.directions {
            Directions::Probes(_) => self.directions_of(rows, z.size()[1], z).square().sum_dim_intlist(
                [2i64].as_slice(),
                false,
                None::<tch::Kind>,
            ),
            _ => Tensor::full([rows.len() as i64, 1], z.size()[1] as f64, (tch::Kind::Double, z.device())),
        }
    }
}

impl Field for FlowField<'_> {
    fn eval(&self, angle: &[f64], y: &Tensor, rows: &[i64]) -> Tensor {
        let schedule = &**self.model.schedule();
        let z = y.narrow(1, 0, self.model.dim());
        let places: Vec<Place> = angle.iter().map(|&a| Place::at_angle(schedule, a)).collect();
        let t: Vec<f64> = places.iter().map(|p| p.t).collect();
        let scale = column(places.iter().map(|p| p.scale), y);
        let sin = column(places.iter().map(|p| p.sin), y);
        let cos = column(places.iter().map(|p| p.cos), y);
        let (noise, product) = self.noise(&(&z * &scale), &t, rows);
        let v = (noise - &z * &sin) / &cos;
        match product {
            None => v,
            Some(product) => {
                let divergence = (product * scale - self.squared_directions(rows, &z) * sin) / cos;
                Tensor::cat(&[v, divergence], 1)
            }
        }
    }

    /// `∇·v = (d cos²φ − tr G)/(sin φ cos φ)`: follows the negative part of `tr G`.
    fn observe(&self, angle: &[f64], y: &Tensor, slope: &Tensor, rows: &[i64]) {
        let Directions::Exact = self.directions else { return };
        let d = self.model.dim();
        assert_eq!(y.size()[1], d + 1, "rows with one log-density");
        let mut negative = self.negative.borrow_mut();
        for ((&row, &angle), divergence) in rows.iter().zip(angle).zip(to_vec(&slope.select(1, d))) {
            let (sin, cos) = angle.sin_cos();
            let excess = (divergence - d as f64 * cos / sin).max(0.0);
            let [last_angle, last_excess, total] = &mut negative[row as usize];
            if last_angle.is_finite() {
                *total += 0.5 * (excess + *last_excess) * (angle - *last_angle);
            }
            (*last_angle, *last_excess) = (angle, excess);
        }
    }
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
    /// The flow of `model` at `rtol = atol = 1e-5` (score_flow's), at most 5000 evaluations per row, `Auto` divergence.
    pub fn new(model: &'a dyn Denoiser) -> ProbabilityFlow<'a> {
        let solver = DormandPrince { rtol: 1e-5, atol: 1e-5, max_evaluations: 5000 };
        ProbabilityFlow { model, solver, divergence: Divergence::Auto, verify: false }
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

    /// With at most so many evaluations of the field per row.
    pub fn max_evaluations(mut self, limit: usize) -> Self {
        self.solver.max_evaluations = limit;
        self
    }

    /// With this divergence.
    ///
    /// # Errors
    /// If it has no probe.
    pub fn divergence(mut self, divergence: Divergence) -> Result<Self> {
        if let Divergence::Rademacher { probes: 0 } | Divergence::Gaussian { probes: 0 } = divergence {
            return Err(Error::config(
                "divergence.probes",
                "0",
                "give at least 1, or 2 for a standard error",
            ));
        }
        self.divergence = divergence;
        Ok(self)
    }

    /// Whether likelihoods are computed a second time, at a tenth of the tolerances; the second value is then given.
    pub fn verify(mut self, verify: bool) -> Self {
        self.verify = verify;
        self
    }

    /// The model.
    pub fn model(&self) -> &'a dyn Denoiser {
        self.model
    }

    fn ends(&self) -> (Place, Place) {
        let schedule = &**self.model.schedule();
        (Place::at_time(schedule, schedule.epsilon()), Place::at_time(schedule, schedule.horizon()))
    }

    fn field(&self, directions: Directions, rows: usize) -> FlowField<'a> {
        FlowField { model: self.model, directions, negative: RefCell::new(vec![[f64::NAN, 0.0, 0.0]; rows]) }
    }

    fn ascend(&self, x: &Tensor, directions: Directions, solver: DormandPrince) -> Ascent {
        let (b, d) = x.size2().expect("rows [b, d]");
        assert_eq!(d, self.model.dim(), "columns of rows against the model's");
        let (first, last) = self.ends();
        let field = self.field(directions, b as usize);
        let columns = field.directions.columns();
        let x0 = x.to_kind(tch::Kind::Double);
        let rows: Vec<i64> = (0..b).collect();
        // below ε
        let ratio = first.sin / first.cos;
        let (noise, product) =
            field.noise(&(&x0 * (first.scale * first.cos)), &vec![first.t; b as usize], &rows);
        let z = (x0 + noise * (0.5 * ratio)) * first.cos;
        let start = match &product {
            None => z,
            Some(_) => Tensor::cat(&[&z, &z.new_zeros([b, columns], (z.kind(), z.device()))], 1),
        };
        let solution = solver.solve(&field, &start, first.angle(), last.angle());
        let latent = solution.y.narrow(1, 0, d) / last.sin;
        let mut log_det = solution.y.narrow(1, d, columns) + d as f64 * (first.cos.ln() - last.sin.ln());
        if let Some(product) = product {
            log_det += product * (0.5 * ratio * first.scale * first.cos);
        }
        let evaluations = solution.evaluations.iter().map(|n| n + 1).collect();
        let negative = field.negative.into_inner().into_iter().map(|n| n[2]).collect();
        Ascent { latent, log_det, negative, evaluations, status: solution.status }
    }

    /// The latent `x_T/σ_T` of rows `x_0` `[b, d]`, in f64: standard normal for rows of the model's law.
    ///
    /// # Errors
    /// If a row is not solved.
    pub fn encode(&self, x: &Tensor) -> Result<Tensor> {
        let ascent = self.ascend(x, Directions::None, self.solver);
        all_solved(&ascent.status)?;
        Ok(ascent.latent)
    }

    /// The rows `x_0` `[b, d]` of latents `x_T/σ_T`, in f64: [`ProbabilityFlow::encode`] undone, up to tolerance.
    ///
    /// # Errors
    /// If a row is not solved.
    pub fn decode(&self, latent: &Tensor) -> Result<Tensor> {
        let (first, last) = self.ends();
        let b = latent.size()[0];
        let field = self.field(Directions::None, b as usize);
        let start = latent.to_kind(tch::Kind::Double) * last.sin;
        let solution = self.solver.solve(&field, &start, last.angle(), first.angle());
        all_solved(&solution.status)?;
        // below ε
        let (z, rows): (Tensor, Vec<i64>) = (solution.y, (0..b).collect());
        let (noise, _) = field.noise(&(&z * first.scale), &vec![first.t; b as usize], &rows);
        Ok(z / first.cos - noise * (0.5 * first.sin / first.cos))
    }

    fn directions(&self, x: &Tensor, seed: Seed, first_row: u64) -> Directions {
        let (b, d) = x.size2().expect("rows [b, d]");
        let mut noise = Noise::new(seed, first_row..first_row + b as u64);
        let shape = |n: usize| [b, n as i64, d];
        match self.divergence.resolve(d) {
            Divergence::Exact | Divergence::Auto => Directions::Exact,
            Divergence::Rademacher { probes } => {
                let e = noise.rademacher(probes * d as usize, tch::Kind::Double, x.device());
                Directions::Probes(e.view(shape(probes).as_slice()))
            }
            Divergence::Gaussian { probes } => {
                let e = noise.normal(probes * d as usize, tch::Kind::Double, x.device());
                Directions::Probes(e.view(shape(probes).as_slice()))
            }
        }
    }

    fn estimate(&self, x: &Tensor, directions: Directions, solver: DormandPrince) -> Estimate {
        let (b, d) = x.size2().expect("rows [b, d]");
        let draws = match &directions {
            Directions::Probes(_) => directions.columns() as usize,
            _ => 0,
        };
        let products = directions.products(d);
        let ascent = self.ascend(x, directions, solver);
        let squares =
            to_vec(&ascent.latent.square().sum_dim_intlist([1i64].as_slice(), false, None::<tch::Kind>));
        let log_dets = to_vec(&ascent.log_det);
        let columns = draws.max(1);
        let latent_limit = d as f64 + 2.0 * (d as f64 * LATENT_NATS).sqrt() + 2.0 * LATENT_NATS;
        let (mut values, mut std_errors, mut flags) = (Vec::new(), Vec::new(), Vec::new());
        for row in 0..b as usize {
            let (value, error) = mean_and_error(&log_dets[row * columns..(row + 1) * columns]);
            let value = value - 0.5 * (squares[row] + d as f64 * LN_2PI);
            let solved = ascent.status[row].is_done() && value.is_finite();
            values.push(if solved { value } else { f64::NAN });
            std_errors.push(if !solved {
                f64::NAN
            } else if draws == 0 {
                0.0
            } else {
                error
            });
            let mut flag = |reason: String| flags.push(Flag { row, reason });
            if !ascent.status[row].is_done() {
                flag(format!("probability-flow ODE: {}", ascent.status[row]));
            } else if !value.is_finite() {
                flag("probability-flow ODE: not finite; look for extreme values in the row".into());
            } else if squares[row] > latent_limit {
                let sd = (squares[row] / d as f64).sqrt();
                flag(format!("latent lies where the prior has mass below 1e-9 ({sd:.1} sd per dimension)"));
            } else if ascent.negative[row] > (0.1 * d as f64).max(0.5) {
                let nats = ascent.negative[row];
                flag(format!(
                    "too high by {nats:.1} nats or so: the field on its path is the score of no density"
                ));
            }
        }
        let name = match self.divergence.resolve(d) {
            Divergence::Rademacher { probes } => format!("{probes} Rademacher probes"),
            Divergence::Gaussian { probes } => format!("{probes} Gaussian probes"),
            Divergence::Exact | Divergence::Auto => "exact divergence".to_string(),
        };
        let evaluations = ascent.evaluations.iter().sum::<usize>() as f64 / (b as f64).max(1.0);
        Estimate {
            kind: Kind::Estimate,
            estimator: format!("probability-flow ODE, {name}, rtol {:.0e}", self.solver.rtol),
            values,
            std_errors,
            draws,
            evaluations: evaluations * (1 + products) as f64,
            flags,
        }
    }
}

fn all_solved(status: &[Status]) -> Result<()> {
    let count = status.iter().filter(|s| !s.is_done()).count();
    match status.iter().enumerate().find(|(_, s)| !s.is_done()) {
        None => Ok(()),
        Some((row, first)) => Err(Error::numeric(
            format!(
                "probability-flow ODE: {count} of {} rows not solved, row {row}: {}",
                status.len(),
                first.problem()
            ),
            first.remedy(),
        )),
    }
}

impl LogLikelihood for ProbabilityFlow<'_> {
    fn log_likelihood(&self, x: &Tensor, seed: Seed, first_row: u64) -> Result<Estimate> {
        let estimate = self.estimate(x, self.directions(x, seed, first_row), self.solver);
        if !self.verify {
            return Ok(estimate);
        }
        let (rtol, atol) = (self.solver.rtol, self.solver.atol);
        let finer = DormandPrince { rtol: 0.1 * rtol, atol: 0.1 * atol, ..self.solver };
        let mut fine = self.estimate(x, self.directions(x, seed, first_row), finer);
        for (row, (a, b)) in estimate.values.iter().zip(&fine.values).enumerate() {
            let moved = (a - b).abs();
            let known = fine.flags.iter().any(|f| f.row == row);
            if !known && (moved.is_nan() || moved > 0.1 + 100.0 * (atol + rtol * b.abs())) {
                let reason =
                    format!("moves by {moved:.2} nats at a tenth of the tolerance: lower rtol and atol");
                fine.flags.push(Flag { row, reason });
            }
        }
        fine.flags.sort_by_key(|f| f.row);
        fine.estimator += ", verified";
        fine.evaluations += estimate.evaluations;
        Ok(fine)
    }
}

#[cfg(test)]
mod tests;
