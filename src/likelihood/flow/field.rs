//! The field that the probability flow follows, and its divergence.

use std::cell::RefCell;

use tch::{Tensor, no_grad, with_grad};

use crate::model::Denoiser;
use crate::ode::Field;
use crate::schedule::Schedule;
use crate::tensor::{column, squared_norm, sum_last, to_vec};

/// Products in one backward pass by repeating rows, as long as there are at most so many repeated rows and numbers in them;
/// beyond, one backward pass per direction. Below, calls cost more than arithmetic; above, the forward pass is worth sharing:
/// of an image always.
const REPEATED_ROWS: i64 = 2048;
const REPEATED_NUMBERS: i64 = 1 << 14;

/// Rows that a graph is built for at once: bounds the memory of a divergence.
const GRAPH_ROWS: i64 = 8192;

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
        let t =
            schedule.time_of_log_snr(2.0 * (cos / sin).ln()).clamp(schedule.epsilon(), schedule.horizon());
        Place { t, sin, cos, scale: schedule.alpha(t) / cos }
    }

    pub(super) fn angle(&self) -> f64 {
        self.sin.atan2(self.cos)
    }
}

/// Directions in which the Jacobian is looked at.
pub(super) enum Directions {
    None,
    /// The unit vectors, summed.
    Exact,
    /// `[rows, probes, d]`, f64.
    Probes(Tensor),
}

impl Directions {
    /// Log-densities carried along.
    pub(super) fn columns(&self) -> i64 {
        match self {
            Directions::None => 0,
            Directions::Exact => 1,
            Directions::Probes(e) => e.size()[1],
        }
    }

    pub(super) fn products(&self, d: i64) -> usize {
        if let Directions::Exact = self { d as usize } else { self.columns() as usize }
    }
}

/// `(v, ∇·v)` on rows `[z, ln p]`.
pub(super) struct FlowField<'a> {
    pub(super) model: &'a dyn Denoiser,
    pub(super) directions: Directions,
    /// Per row: last angle, `(−tr G)⁺/(sin cos)` there, and its integral so far, nats.
    pub(super) negative: RefCell<Vec<[f64; 3]>>,
}

impl FlowField<'_> {
    /// `ε̂` `[b, d]` at `x` and `eᵀ(∂ε̂/∂x)e` `[b, columns]` (of the model's known part: its exact divergence), in f64; `x` in f64, times per row.
    pub(super) fn noise(&self, x: &Tensor, t: &[f64], rows: &[i64]) -> (Tensor, Option<Tensor>) {
        let model_x = x.to_kind(self.model.kind());
        if let Directions::None = self.directions {
            let bound = self.model.for_rows(rows);
            let model = bound.as_deref().unwrap_or(self.model);
            return (no_grad(|| model.noise(&model_x, t)).to_kind(tch::Kind::Double), None);
        }
        let (b, d) = x.size2().expect("rows");
        let mut noises = Vec::new();
        let mut products = Vec::new();
        let repeats = self.directions.products(d) as i64;
        let few = |rows: i64| rows * repeats <= REPEATED_ROWS.min(REPEATED_NUMBERS / d);
        let at_once = if few(b) { b } else { GRAPH_ROWS };
        for start in (0..b).step_by(at_once.max(1) as usize) {
            let n = at_once.min(b - start);
            let range = start as usize..(start + n) as usize;
            let directions = self.directions_of(&rows[range.clone()], d, x);
            let bound = self.model.for_rows(&rows[range.clone()]);
            let model = bound.as_deref().unwrap_or(self.model);
            let part = model_x.narrow(0, start, n);
            let (noise, product) = if few(n) {
                products_by_repeating(model, &part, &t[range], &directions)
            } else {
                products_one_by_one(model, &part, &t[range], &directions)
            };
            noises.push(noise);
            products.push(match self.directions {
                Directions::Exact => sum_last(&product).unsqueeze(-1),
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
    pub(super) fn directions_of(&self, rows: &[i64], d: i64, x: &Tensor) -> Tensor {
        match &self.directions {
            Directions::Probes(e) => e.index_select(0, &Tensor::from_slice(rows).to_device(x.device())),
            _ => Tensor::eye(d, (tch::Kind::Double, x.device()))
                .unsqueeze(0)
                .expand([rows.len() as i64, d, d], false),
        }
    }

    /// `‖e‖²` `[b, columns]`, or `d`.
    pub(super) fn squared_directions(&self, rows: &[i64], z: &Tensor) -> Tensor {
        match &self.directions {
            Directions::Probes(_) => squared_norm(&self.directions_of(rows, z.size()[1], z)),
            _ => Tensor::full([rows.len() as i64, 1], z.size()[1] as f64, (tch::Kind::Double, z.device())),
        }
    }
}

fn products_by_repeating(
    model: &dyn Denoiser,
    x: &Tensor,
    t: &[f64],
    directions: &Tensor,
) -> (Tensor, Tensor) {
    let (b, repeats, d) = directions.size3().expect("directions");
    let times: Vec<f64> = t.iter().flat_map(|&t| std::iter::repeat_n(t, repeats as usize)).collect();
    let x = x.repeat_interleave_self_int(repeats, 0, None).detach().set_requires_grad(true);
    let e = directions.reshape([b * repeats, d]);
    let noise = with_grad(|| model.correction(&x, &times));
    let along = with_grad(|| (&noise * e.to_kind(noise.kind())).sum(None::<tch::Kind>));
    let gradient = Tensor::run_backward(&[along], &[&x], false, false).remove(0);
    let product = sum_last(&(gradient.to_kind(tch::Kind::Double) * e));
    let noise = noise.detach().view([b, repeats, d]).select(1, 0).to_kind(tch::Kind::Double);
    (noise, product.view([b, repeats]))
}

fn products_one_by_one(model: &dyn Denoiser, x: &Tensor, t: &[f64], directions: &Tensor) -> (Tensor, Tensor) {
    let repeats = directions.size()[1];
    let x = x.detach().copy().set_requires_grad(true);
    let noise = with_grad(|| model.correction(&x, t));
    let products: Vec<Tensor> = (0..repeats)
        .map(|i| {
            let e = directions.select(1, i);
            let along = with_grad(|| (&noise * e.to_kind(noise.kind())).sum(None::<tch::Kind>));
            let gradient = Tensor::run_backward(&[along], &[&x], i + 1 < repeats, false).remove(0);
            sum_last(&(gradient.to_kind(tch::Kind::Double) * e))
        })
        .collect();
    (noise.detach().to_kind(tch::Kind::Double), Tensor::stack(&products, 1))
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

    /// The log-densities.
    fn alone(&self) -> i64 {
        self.directions.columns()
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
