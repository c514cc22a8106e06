//! Ordinary differential equations for many rows at once: rows `[b, n]` in f64, each with its own
//! time, step and error.
//!
//! ```
//! use tweedie::ode::DormandPrince;
//! use tweedie::tch::Tensor;
//!
//! let decay = |_: &[f64], y: &Tensor, _: &[i64]| -y;
//! let y0 = Tensor::from_slice2(&[[1.0], [2.0]]);
//! let solution = DormandPrince::default().solve(&decay, &y0, 0.0, 1.0);
//! assert!(solution.status.iter().all(|status| status.is_done()));
//! let gap = (solution.y - y0 * (-1.0_f64).exp()).abs().max();
//! assert!(gap.double_value(&[]) < 1e-5);
//! ```

mod dormand_prince;

use std::fmt;

use crate::tensor::to_vec;
use tch::{Kind, Tensor};

/// The right-hand side of `dy/dt = F(t, y)` for rows that have nothing to do with each other.
pub trait Field {
    /// `F` at rows `y` `[b, n]` (f64), each at its own time; `rows` are their numbers in the batch
    /// that the solver was given, for what belongs to a row (a probe, a condition). Output `[b, n]`
    /// in f64.
    fn eval(&self, t: &[f64], y: &Tensor, rows: &[i64]) -> Tensor;

    /// Callback with the rows' present values, at the start and after every attempted step, and
    /// with `slope = F(t, y)`, at no evaluation's cost. A row whose step was refused stands where
    /// it stood.
    fn observe(&self, _t: &[f64], _y: &Tensor, _slope: &Tensor, _rows: &[i64]) {}

    /// How many of the last coordinates are held to the tolerance one by one; the others are by
    /// their root mean square.
    fn alone(&self) -> i64 {
        0
    }
}

impl<F: Fn(&[f64], &Tensor, &[i64]) -> Tensor> Field for F {
    fn eval(&self, t: &[f64], y: &Tensor, rows: &[i64]) -> Tensor {
        self(t, y, rows)
    }
}

/// How a row ended. Its display names the remedy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Status {
    /// At the end of the interval, within tolerance.
    Done,
    /// Stopped at `t` by `max_evaluations`.
    EvaluationLimit {
        /// Where.
        t: f64,
    },
    /// Stopped at `t`: no step, however small, keeps the tolerance.
    StepTooSmall {
        /// Where.
        t: f64,
    },
    /// Stopped at `t`: the field is not finite there or in every neighbourhood.
    NotFinite {
        /// Where.
        t: f64,
    },
}

impl Status {
    /// Whether the row was solved.
    pub fn is_done(self) -> bool {
        self == Status::Done
    }

    /// What happened, and where.
    pub fn problem(self) -> String {
        match self {
            Status::Done => "solved".to_string(),
            Status::EvaluationLimit { t } => format!("evaluation limit reached at t = {t:.4e}"),
            Status::StepTooSmall { t } => format!("step size fell to nothing at t = {t:.4e}"),
            Status::NotFinite { t } => format!("not finite at t = {t:.4e}"),
        }
    }

    /// What to change.
    pub fn remedy(self) -> &'static str {
        match self {
            Status::Done => "nothing to do",
            Status::EvaluationLimit { .. } => {
                "try a larger max_evaluations, or larger rtol and atol"
            }
            Status::StepTooSmall { .. } => {
                "a singularity, or rounding above the tolerance: try larger rtol and atol, or look \
                 at the row"
            }
            Status::NotFinite { .. } => {
                "look for extreme values in the row, or in the model's weights"
            }
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.problem(), self.remedy())
    }
}

/// Rows at the end of the interval.
#[derive(Debug)]
pub struct Solution {
    /// `[b, n]`; a row that is not [`Status::Done`] stands where it stopped.
    pub y: Tensor,
    /// Evaluations of the field, per row.
    pub evaluations: Vec<usize>,
    /// How each row ended.
    pub status: Vec<Status>,
}

impl Solution {
    /// The rows that were not solved, with why.
    pub fn failures(&self) -> impl Iterator<Item = (usize, Status)> + '_ {
        self.status.iter().copied().enumerate().filter(|(_, s)| !s.is_done())
    }
}

/// Dormand–Prince 5(4). 5th order explicit Runge–Kutta with local extrapolation, FSAL, six
/// evaluations a step.
///
/// Adaptive in each row: a step is accepted when the embedded error over
/// `atol + rtol max(|y|, |y'|)` is at most 1, in root mean square over the coordinates (II.4,
/// (4.11)) and in each of those that [`Field::alone`] names, and the next is chosen by a PI
/// controller (Hairer, Nørsett & Wanner, "Solving Ordinary Differential Equations I", II.4 and
/// IV.2: β = 0.04, safety 0.9, factors 0.2 to 10), the first by their starting rule. Solved rows
/// leave the evaluation, so a result does not depend on the batch. Not for stiff problems: there
/// the steps stay small and `max_evaluations` ends the row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DormandPrince {
    /// Relative tolerance of a step.
    pub rtol: f64,
    /// Absolute tolerance of a step.
    pub atol: f64,
    /// Evaluations that a row may take.
    pub max_evaluations: usize,
}

impl Default for DormandPrince {
    fn default() -> Self {
        DormandPrince { rtol: 1e-5, atol: 1e-5, max_evaluations: 10_000 }
    }
}

/// A row that is still under way.
struct Row {
    number: i64,
    t: f64,
    h: f64,
    last_error: f64,
    refused: bool,
    not_finite: bool,
    evaluations: usize,
}

/// Steps below this share of the interval are none.
const SMALLEST_STEP: f64 = 1e-14;

const PI_BETA: f64 = 0.04;
const PI_ALPHA: f64 = 0.2 - 0.75 * PI_BETA;
const SAFETY: f64 = 0.9;
const SHRINK: f64 = 0.2;
const GROW: f64 = 10.0;

impl Row {
    /// The length of the next attempt, stretched or cut to end at `to`.
    fn attempt(&self, to: f64) -> f64 {
        let left = to - self.t;
        if self.h.abs() * 1.01 >= left.abs() { left } else { self.h }
    }

    /// Takes note of an attempt of length `h` with this error; whether it is accepted.
    fn judge(&mut self, h: f64, error: f64, to: f64) -> bool {
        self.evaluations += dormand_prince::STAGES;
        if !error.is_finite() {
            (self.h, self.refused, self.not_finite) = (h * SHRINK, true, true);
            return false;
        }
        self.not_finite = false;
        let factor = error.powf(PI_ALPHA);
        if error > 1.0 {
            (self.h, self.refused) = (h * (SAFETY / factor).max(SHRINK), true);
            return false;
        }
        let limit = if self.refused { 1.0 } else { GROW };
        let growth = SAFETY * self.last_error.powf(PI_BETA) / factor.max(1e-300);
        self.t = if h == to - self.t { to } else { self.t + h };
        (self.h, self.refused, self.last_error) =
            (h * growth.clamp(SHRINK, limit), false, error.max(1e-4));
        true
    }

    fn ended(&self, from: f64, to: f64, max_evaluations: usize) -> Option<Status> {
        let t = self.t;
        if t == to {
            return Some(Status::Done);
        }
        let h = self.attempt(to);
        if h.abs() < SMALLEST_STEP * (to - from).abs() || t + h == t {
            return Some(if self.not_finite {
                Status::NotFinite { t }
            } else {
                Status::StepTooSmall { t }
            });
        }
        (self.evaluations + dormand_prince::STAGES > max_evaluations)
            .then_some(Status::EvaluationLimit { t })
    }
}

impl DormandPrince {
    /// Solves every row of `y0` `[b, n]` from `from` to `to` (either way).
    pub fn solve(&self, field: &dyn Field, y0: &Tensor, from: f64, to: f64) -> Solution {
        assert_eq!(y0.dim(), 2, "rows [b, n], got {:?}", y0.size());
        assert!(
            self.rtol >= 0.0 && self.atol >= 0.0 && self.rtol + self.atol > 0.0,
            "tolerances {self:?}"
        );
        let b = y0.size()[0];
        let mut y = y0.to_kind(Kind::Double);
        let mut solution = Solution {
            y: y.copy(),
            evaluations: vec![0; b as usize],
            status: vec![Status::Done; b as usize],
        };
        if b == 0 || from == to {
            return solution;
        }
        let (mut slope, mut rows) = self.start(field, &y, from, to);
        let mut done = collect(&mut rows, &mut solution, |row| {
            let lost = row.not_finite.then_some(Status::NotFinite { t: from });
            lost.or_else(|| row.ended(from, to, self.max_evaluations))
        });
        loop {
            if let Some(leaving) = done.take() {
                let numbers = Tensor::from_slice(&leaving.numbers).to_device(y.device());
                let at = Tensor::from_slice(&leaving.places).to_device(y.device());
                let _ = solution.y.index_copy_(0, &numbers, &y.index_select(0, &at));
                let stay = Tensor::from_slice(&leaving.staying).to_device(y.device());
                (y, slope) = (y.index_select(0, &stay), slope.index_select(0, &stay));
            }
            if rows.is_empty() {
                return solution;
            }
            let numbers: Vec<i64> = rows.iter().map(|r| r.number).collect();
            let t: Vec<f64> = rows.iter().map(|r| r.t).collect();
            let h: Vec<f64> = rows.iter().map(|r| r.attempt(to)).collect();
            let next = dormand_prince::step(|t, y| field.eval(t, y, &numbers), &t, &y, &slope, &h);
            let errors = self.norm(field, &next.error, &y, &next.y);
            let accepted: Vec<bool> = rows
                .iter_mut()
                .zip(h)
                .zip(errors)
                .map(|((row, h), error)| row.judge(h, error, to))
                .collect();
            let mask = Tensor::from_slice(&accepted).to_device(y.device()).unsqueeze(-1);
            y = next.y.where_self(&mask, &y);
            slope = next.slope.where_self(&mask, &slope);
            let t: Vec<f64> = rows.iter().map(|r| r.t).collect();
            field.observe(&t, &y, &slope, &numbers);
            done =
                collect(&mut rows, &mut solution, |row| row.ended(from, to, self.max_evaluations));
        }
    }

    /// Solves in `steps` equal steps without looking at the error: for convergence studies.
    pub fn solve_fixed(field: &dyn Field, y0: &Tensor, from: f64, to: f64, steps: usize) -> Tensor {
        let (b, h) = (y0.size()[0], (to - from) / steps as f64);
        let numbers: Vec<i64> = (0..b).collect();
        let mut y = y0.to_kind(Kind::Double);
        let mut slope = field.eval(&vec![from; b as usize], &y, &numbers);
        for i in 0..steps {
            let t = vec![from + i as f64 * h; b as usize];
            let next = dormand_prince::step(
                |t, y| field.eval(t, y, &numbers),
                &t,
                &y,
                &slope,
                &vec![h; b as usize],
            );
            (y, slope) = (next.y, next.slope);
        }
        y
    }

    /// First slopes and steps (Hairer, Nørsett & Wanner, II.4); two evaluations.
    fn start(&self, field: &dyn Field, y: &Tensor, from: f64, to: f64) -> (Tensor, Vec<Row>) {
        let (b, span) = (y.size()[0] as usize, to - from);
        let numbers: Vec<i64> = (0..b as i64).collect();
        let times = vec![from; b];
        let slope = field.eval(&times, y, &numbers);
        field.observe(&times, y, &slope, &numbers);
        let size = self.norm(field, y, y, y);
        let speed = self.norm(field, &slope, y, y);
        let trial: Vec<f64> = size
            .iter()
            .zip(&speed)
            .map(|(&d0, &d1)| {
                let tiny = d0 < 1e-5 || d1 < 1e-5;
                let h = if tiny { 1e-6 * span.abs() } else { 0.01 * d0 / d1 };
                let h = if h.is_finite() { h.min(span.abs()) } else { SMALLEST_STEP * span.abs() };
                h * span.signum()
            })
            .collect();
        let length = Tensor::from_slice(&trial).to_device(y.device()).unsqueeze(-1);
        let ahead: Vec<f64> = trial.iter().map(|h| from + h).collect();
        let change = field.eval(&ahead, &(y + &slope * length), &numbers) - &slope;
        let bend = self.norm(field, &change, y, y);
        let rows = numbers
            .into_iter()
            .map(|number| {
                let i = number as usize;
                let (h0, d1, d2) = (trial[i].abs(), speed[i], bend[i] / trial[i].abs());
                let fastest = if d2.is_finite() { d1.max(d2) } else { d1 };
                let h1 = if fastest <= 1e-15 {
                    (h0 * 1e-3).max(1e-6 * span.abs())
                } else {
                    (0.01 / fastest).powf(0.2)
                };
                Row {
                    number,
                    t: from,
                    h: (100.0 * h0).min(h1).min(span.abs()) * span.signum(),
                    last_error: 1e-4,
                    refused: false,
                    not_finite: !(d1.is_finite() && size[i].is_finite()),
                    evaluations: 2,
                }
            })
            .collect();
        (slope, rows)
    }

    /// The root mean square of `v_i / (atol + rtol max(|y_i|, |y'_i|))` per row, or the largest of
    /// those that count alone.
    fn norm(&self, field: &dyn Field, v: &Tensor, y: &Tensor, next: &Tensor) -> Vec<f64> {
        let ratio = v / (y.abs().maximum(&next.abs()) * self.rtol + self.atol);
        let (alone, n) = (field.alone(), ratio.size()[1]);
        let together =
            ratio.narrow(1, 0, n - alone).square().mean_dim([1i64].as_slice(), false, None::<Kind>);
        let norm = match alone {
            0 => together.sqrt(),
            _ => together
                .sqrt()
                .maximum(&ratio.narrow(1, n - alone, alone).abs().amax([1i64].as_slice(), false)),
        };
        to_vec(&norm)
    }
}

/// Rows that leave the evaluation.
struct Leaving {
    numbers: Vec<i64>,
    places: Vec<i64>,
    staying: Vec<i64>,
}

/// Takes the rows that `ended` out of `rows`, with their status and cost into `solution`.
fn collect(
    rows: &mut Vec<Row>,
    solution: &mut Solution,
    ended: impl Fn(&Row) -> Option<Status>,
) -> Option<Leaving> {
    let mut leaving = Leaving { numbers: Vec::new(), places: Vec::new(), staying: Vec::new() };
    let mut place = 0;
    rows.retain(|row| {
        let status = ended(row);
        match status {
            None => leaving.staying.push(place),
            Some(status) => {
                leaving.numbers.push(row.number);
                leaving.places.push(place);
                solution.status[row.number as usize] = status;
                solution.evaluations[row.number as usize] = row.evaluations;
            }
        }
        place += 1;
        status.is_none()
    });
    (!leaving.numbers.is_empty()).then_some(leaving)
}

#[cfg(test)]
mod tests;
