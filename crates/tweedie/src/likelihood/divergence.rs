//! `∇·ε̂` from vector–Jacobian products: exact, or by Skilling and Hutchinson's probes.

use serde::{Deserialize, Serialize};
use tch::{Tensor, no_grad, with_grad};

use crate::model::Denoiser;
use crate::noise::Noise;
use crate::query::Query;
use crate::tensor::{squared_norm, sum_last, vector_jacobian_product};
use crate::{Error, Result};

/// How the divergence `∇·ε̂` is computed from vector–Jacobian products.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Divergence {
    /// Exact up to `d = 16`, then [`Divergence::Rademacher`] with 8 probes.
    #[default]
    Auto,
    /// The trace, by `d` products.
    Exact,
    /// Skilling–Hutchinson `eᵀ(∂ε̂/∂x)e` with random signs (Hutchinson 1990); on a path of the
    /// probability flow fixed along it.
    Rademacher {
        /// Probes per row.
        probes: usize,
    },
    /// As above with normal probes: greater variance.
    Gaussian {
        /// Probes per row.
        probes: usize,
    },
}

/// Largest `d` for which `Auto` is exact: there an exact solution costs at most 17 evaluations a
/// stage against 9 with eight probes, and has no noise.
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

    /// Refuses probes that are none.
    pub(super) fn checked(self) -> Result<Divergence> {
        match self {
            Divergence::Rademacher { probes: 0 } | Divergence::Gaussian { probes: 0 } => {
                let remedy = "give at least 1, or 2 for a standard error of the probability flow";
                Err(Error::config("divergence.probes", "0", remedy))
            }
            fine => Ok(fine),
        }
    }

    /// What it is in `d` dimensions, for people.
    pub(super) fn name(self, d: i64) -> String {
        match self.resolve(d) {
            Divergence::Rademacher { probes: 1 } => "1 Rademacher probe".to_string(),
            Divergence::Gaussian { probes: 1 } => "1 Gaussian probe".to_string(),
            Divergence::Rademacher { probes } => format!("{probes} Rademacher probes"),
            Divergence::Gaussian { probes } => format!("{probes} Gaussian probes"),
            Divergence::Exact | Divergence::Auto => "exact divergence".to_string(),
        }
    }

    /// The directions for the rows of `x` `[b, d]`, probes drawn from `noise`, a stream per row.
    pub(super) fn directions(self, x: &Tensor, noise: &mut Noise) -> Directions {
        let (b, d) = x.size2().expect("rows [b, d]");
        let probes = |e: Tensor, probes: usize| Directions::Probes(e.view([b, probes as i64, d]));
        match self.resolve(d) {
            Divergence::Exact | Divergence::Auto => Directions::Exact,
            Divergence::Rademacher { probes: n } => {
                probes(noise.rademacher(n * d as usize, tch::Kind::Double, x.device()), n)
            }
            Divergence::Gaussian { probes: n } => {
                probes(noise.normal(n * d as usize, tch::Kind::Double, x.device()), n)
            }
        }
    }
}

/// Products in one backward pass by repeating rows, as long as there are at most so many repeated
/// rows and numbers in them; beyond, one backward pass per direction. Below, calls cost more than
/// arithmetic; above, the forward pass is worth sharing: of an image always.
const REPEATED_ROWS: i64 = 2048;
const REPEATED_NUMBERS: i64 = 1 << 14;

/// Rows that a graph is built for at once: bounds the memory of a divergence.
const GRAPH_ROWS: i64 = 8192;

/// Directions in which the Jacobian of `ε̂` is looked at.
pub(super) enum Directions {
    None,
    /// The unit vectors, summed.
    Exact,
    /// `[rows, probes, d]`, f64.
    Probes(Tensor),
}

impl Directions {
    /// Products that are kept apart, per row.
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

    /// `[rows, products, d]`.
    fn of_rows(&self, rows: &[i64], d: i64, x: &Tensor) -> Tensor {
        match self {
            Directions::Probes(e) => {
                e.index_select(0, &Tensor::from_slice(rows).to_device(x.device()))
            }
            _ => Tensor::eye(d, (tch::Kind::Double, x.device()))
                .unsqueeze(0)
                .expand([rows.len() as i64, d, d], false),
        }
    }

    /// `‖e‖²` `[b, columns]`, or `d`.
    pub(super) fn squared(&self, rows: &[i64], x: &Tensor) -> Tensor {
        match self {
            Directions::Probes(_) => squared_norm(&self.of_rows(rows, x.size()[1], x)),
            _ => Tensor::full(
                [rows.len() as i64, 1],
                x.size()[1] as f64,
                (tch::Kind::Double, x.device()),
            ),
        }
    }

    /// `ε̂` `[b, d]` at the rows of `q` and `eᵀ(∂ε̂/∂x)e` `[b, columns]` (of the model's known
    /// part: its exact divergence), in f64; `q.x` in f64, `rows` the rows' numbers in the batch
    /// that the directions are for.
    pub(super) fn noise(
        &self,
        model: &dyn Denoiser,
        q: &Query,
        rows: &[i64],
    ) -> (Tensor, Option<Tensor>) {
        let model_x = q.x.to_kind(model.space().kind);
        if let Directions::None = self {
            let noise = no_grad(|| model.noise(&q.at(&model_x)));
            return (noise.to_kind(tch::Kind::Double), None);
        }
        let split = model.split();
        let correction = |q: &Query| match &split {
            Some(split) => (split.correction)(q),
            None => model.noise(q),
        };
        let (b, d) = q.x.size2().expect("rows");
        let mut noises = Vec::new();
        let mut all_products = Vec::new();
        let repeats = self.products(d) as i64;
        let few = |rows: i64| rows * repeats <= REPEATED_ROWS.min(REPEATED_NUMBERS / d);
        let at_once = if few(b) { b } else { GRAPH_ROWS };
        for start in (0..b).step_by(at_once.max(1) as usize) {
            let n = at_once.min(b - start);
            let range = start as usize..(start + n) as usize;
            let directions = self.of_rows(&rows[range.clone()], d, q.x);
            let part = model_x.narrow(0, start, n);
            let (noise, product) = if n == b {
                let q = q.at(&part);
                products(&correction, &q, &directions, few(n))
            } else {
                let times = q.times.narrow(range.clone());
                let condition = q.condition.map(|condition| condition.narrow(range));
                let q = Query::new(&part, &times).given(condition.as_ref());
                products(&correction, &q, &directions, few(n))
            };
            noises.push(noise);
            all_products.push(match self {
                Directions::Exact => sum_last(&product).unsqueeze(-1),
                _ => product,
            });
        }
        let (noise, product) = (Tensor::cat(&noises, 0), Tensor::cat(&all_products, 0));
        match split {
            None => (noise, Some(product)),
            Some(split) => {
                let (known, divergence) = no_grad(|| (split.known)(q));
                (noise + known, Some(product + divergence.unsqueeze(-1)))
            }
        }
    }
}

/// `ε̂` `[b, d]` and its products along `directions` `[b, m, d]`, `[b, m]`, in f64: in one backward
/// pass over repeated rows, or in one pass for each direction.
fn products(
    noise_of: &dyn Fn(&Query) -> Tensor,
    q: &Query,
    directions: &Tensor,
    by_repeating: bool,
) -> (Tensor, Tensor) {
    let (b, repeats, d) = directions.size3().expect("directions");
    let along = |noise: &Tensor, x: &Tensor, e: &Tensor, keep: bool| {
        let gradient = vector_jacobian_product(noise, x, &e.to_kind(noise.kind()), keep);
        sum_last(&(gradient.to_kind(tch::Kind::Double) * e))
    };
    let double = |noise: Tensor| noise.detach().to_kind(tch::Kind::Double);
    if by_repeating {
        let times = q.times.repeat(repeats as usize);
        let condition = q.condition.map(|condition| condition.repeat(repeats as usize));
        let x = q.x.repeat_interleave_self_int(repeats, 0, None).detach().set_requires_grad(true);
        let noise = with_grad(|| noise_of(&Query::new(&x, &times).given(condition.as_ref())));
        let product = along(&noise, &x, &directions.reshape([b * repeats, d]), false);
        let noise = noise.view([b, repeats, d]).select(1, 0);
        return (double(noise), product.view([b, repeats]));
    }
    let x = q.x.detach().copy().set_requires_grad(true);
    let noise = with_grad(|| noise_of(&q.at(&x)));
    let products: Vec<Tensor> = (0..repeats)
        .map(|i| along(&noise, &x, &directions.select(1, i), i + 1 < repeats))
        .collect();
    (double(noise), Tensor::stack(&products, 1))
}
