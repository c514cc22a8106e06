//! The field that the probability flow follows, and its divergence.

use std::cell::RefCell;

use tch::Tensor;

use crate::likelihood::divergence::Directions;
use crate::model::Denoiser;
use crate::ode::Field;
use crate::query::{Condition, Query, Times};
use crate::schedule::Schedule;
use crate::tensor::to_vec;

/// Where `φ` is in the process.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) t: f64,
    pub(super) sin: f64,
    pub(super) cos: f64,
    /// `x_t/z = α/cos φ`, 1 for VP.
    pub(super) scale: f64,
}

impl Place {
    pub(super) fn at_time(schedule: &dyn Schedule, t: f64) -> Place {
        let (alpha, sigma) = (schedule.alpha(t), schedule.sigma(t));
        let norm = alpha.hypot(sigma);
        Place { t, sin: sigma / norm, cos: alpha / norm, scale: norm }
    }

    pub(super) fn at_angle(schedule: &dyn Schedule, angle: f64) -> Place {
        let (sin, cos) = angle.sin_cos();
        let t = schedule
            .time_of_log_snr(2.0 * (cos / sin).ln())
            .clamp(schedule.epsilon(), schedule.horizon());
        Place { t, sin, cos, scale: schedule.alpha(t) / cos }
    }

    pub(super) fn angle(&self) -> f64 {
        self.sin.atan2(self.cos)
    }
}

/// `(v, ∇·v)` on rows `[z, ln p]`.
pub(super) struct FlowField<'a> {
    pub(super) model: &'a dyn Denoiser,
    /// What is given about the rows of the batch.
    pub(super) condition: Option<&'a Condition>,
    pub(super) directions: Directions,
    /// Per row: last angle, `(−tr G)⁺/(sin cos)` there, and its integral so far, nats.
    pub(super) negative: RefCell<Vec<[f64; 3]>>,
}

impl Field for FlowField<'_> {
    fn eval(&self, angle: &[f64], y: &Tensor, rows: &[i64]) -> Tensor {
        let space = self.model.space();
        let schedule = space.schedule();
        let z = y.narrow(1, 0, space.dim);
        let places: Vec<Place> = angle.iter().map(|&a| Place::at_angle(schedule, a)).collect();
        let t = places.iter().map(|p| p.t).collect();
        let columns = places.iter().map(|p| [p.scale, p.sin, p.cos]);
        let (times, [scale, sin, cos]) = Times::with_columns(schedule, t, columns, y.device());
        let condition = self.condition.map(|condition| condition.rows(rows));
        let x = &z * &scale;
        let q = Query::new(&x, &times).given(condition.as_ref());
        let (noise, product) = self.directions.noise(self.model, &q, rows);
        let v = (noise - &z * &sin) / &cos;
        match product {
            None => v,
            Some(product) => {
                let squared = self.directions.squared(rows, &z);
                Tensor::cat(&[v, (product * &scale - squared * &sin) / &cos], 1)
            }
        }
    }

    /// The log-densities.
    fn alone(&self) -> i64 {
        self.directions.columns()
    }

    /// `∇·v = (d cos²φ − tr G)/(sin φ cos φ)`: follows the negative part of `tr G`.
    fn observe(&self, angle: &[f64], y: &Tensor, slope: &Tensor, rows: &[i64]) {
        let Directions::Exact = self.directions else { return };
        let d = self.model.space().dim;
        assert_eq!(y.size()[1], d + 1, "rows with one log-density");
        let mut negative = self.negative.borrow_mut();
        for ((&row, &angle), divergence) in rows.iter().zip(angle).zip(to_vec(&slope.select(1, d)))
        {
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
