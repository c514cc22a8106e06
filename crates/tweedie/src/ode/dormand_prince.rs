//! The Dormand–Prince 5(4) pair: its tableau and one step of it.
//!
//! Dormand & Prince 1980, "A family of embedded Runge–Kutta formulae", RK5(4)7M. 5th order, with an
//! embedded 4th-order solution for the error; seven stages, the last of which is the first of the
//! next step (FSAL): six evaluations a step.

use tch::Tensor;

/// Evaluations that a step costs, its first stage being known.
pub(super) const STAGES: usize = 6;

const C: [f64; STAGES] = [1.0 / 5.0, 3.0 / 10.0, 4.0 / 5.0, 8.0 / 9.0, 1.0, 1.0];

/// Row `i` makes stage `i + 2`; the last row is the solution of order 5.
const A: [&[f64]; STAGES] = [
    &[1.0 / 5.0],
    &[3.0 / 40.0, 9.0 / 40.0],
    &[44.0 / 45.0, -56.0 / 15.0, 32.0 / 9.0],
    &[19372.0 / 6561.0, -25360.0 / 2187.0, 64448.0 / 6561.0, -212.0 / 729.0],
    &[9017.0 / 3168.0, -355.0 / 33.0, 46732.0 / 5247.0, 49.0 / 176.0, -5103.0 / 18656.0],
    &[35.0 / 384.0, 0.0, 500.0 / 1113.0, 125.0 / 192.0, -2187.0 / 6784.0, 11.0 / 84.0],
];

/// Solution of order 5 less that of order 4.
const ERROR: [f64; STAGES + 1] = [
    71.0 / 57600.0,
    0.0,
    -71.0 / 16695.0,
    71.0 / 1920.0,
    -17253.0 / 339200.0,
    22.0 / 525.0,
    -1.0 / 40.0,
];

/// What a step gives.
pub(super) struct Step {
    /// The solution of order 5, `[b, n]`.
    pub y: Tensor,
    /// The field there.
    pub slope: Tensor,
    /// The embedded estimate of the step's error, `[b, n]`.
    pub error: Tensor,
}

fn combine(weights: &[f64], slopes: &[Tensor]) -> Tensor {
    let mut terms = weights.iter().zip(slopes).filter(|(w, _)| **w != 0.0).map(|(w, k)| k * *w);
    let first = terms.next().expect("a stage has a predecessor");
    terms.fold(first, |sum, term| sum + term)
}

/// One step from `(t, y)`, where the field is `slope`, of length `h` per row.
pub(super) fn step(
    mut eval: impl FnMut(&[f64], &Tensor) -> Tensor,
    t: &[f64],
    y: &Tensor,
    slope: &Tensor,
    h: &[f64],
) -> Step {
    let length = Tensor::from_slice(h).to_device(y.device()).unsqueeze(-1);
    let mut slopes = vec![slope.shallow_clone()];
    let mut point = y.shallow_clone();
    for (weights, c) in A.iter().zip(C) {
        point = y + combine(weights, &slopes) * &length;
        let times: Vec<f64> = t.iter().zip(h).map(|(t, h)| t + c * h).collect();
        slopes.push(eval(&times, &point));
    }
    let error = combine(&ERROR, &slopes) * length;
    Step { y: point, slope: slopes.pop().expect("seven stages"), error }
}
