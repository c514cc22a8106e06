//! Samplers: one loop down a time grid, with interchangeable steps.
//!
//! [`run_chain`] is the loop and a [`Step`] goes from `x_t` to `x_s`. [`FlowSampler`] solves the
//! probability flow with steps of its own choice.
//!
//! ```
//! use std::sync::Arc;
//! use tweedie::covariance::Own;
//! use tweedie::grid::Spacing;
//! use tweedie::noise::Seed;
//! use tweedie::oracle::{GaussianMixture, Oracle};
//! use tweedie::sample::{Ancestral, Heun, LastStep, Step, run_chain};
//! use tweedie::schedule::Vp;
//!
//! # fn main() -> tweedie::Result<()> {
//! let mixture = GaussianMixture::new(&[0.5, 0.5], &[[-2.0], [2.0]], &[1.0, 1.0])?;
//! let oracle = Oracle::new(mixture, Arc::new(Vp::default()));
//! let grid = Spacing::Angle.elbo_grid(&Vp::default(), 20);
//! let ancestral = Ancestral::new(&oracle, Own, 1.0, LastStep::Noise)?;
//! let steps: [&dyn Step; 2] = [&ancestral, &Heun::new(&oracle)];
//! for step in steps {
//!     let samples = run_chain(step, &grid, Seed(0), 0..2000, None)?;
//!     let variance = samples.var(true).double_value(&[]);
//!     assert!((variance - 5.0).abs() < 0.3, "{variance}, of the data 1 + 2² = 5");
//! }
//! # Ok(())
//! # }
//! ```

mod ancestral;
mod dpm_solver;
mod euler_maruyama;
mod flow;
mod heun;
mod options;
mod predictor_corrector;

use std::ops::{AddAssign, Range};

use serde::{Deserialize, Serialize};
use tch::{Tensor, no_grad};

use crate::choice::methods;
use crate::model::Denoiser;
use crate::noise::{Noise, Seed};
use crate::query::{Condition, Query, Times};
use crate::tensor::Count;
use crate::{Error, Result};
pub use ancestral::{Ancestral, LastStep};
pub use dpm_solver::DpmSolver;
pub use euler_maruyama::EulerMaruyama;
pub use flow::FlowSampler;
pub use heun::Heun;
pub(crate) use options::class_of_rows;
pub use options::{
    Chain, Ground, IMAGES_AT_ONCE, MOST_ROWS, MOST_STEPS, SampleOptions, SamplerMethod, Sampling,
};
pub use predictor_corrector::PredictorCorrector;

methods! {
    /// How to go from noise to data.
    pub enum Sampler: SamplerMethod {
        Ancestral = ancestral::Method,
        EulerMaruyama = euler_maruyama::Method,
        Flow = flow::Method,
        Heun = heun::Method,
        DpmSolver = dpm_solver::Method,
        PredictorCorrector = predictor_corrector::Method,
    }
}

/// One step of a sampler, from `x_t` to `x_s`.
pub trait Step {
    /// The model that is sampled.
    fn model(&self) -> &dyn Denoiser;

    /// `x_s` from the rows `x_t` of `q` (`[b, d]`), all at one time `t > s`; `s = 0` ends the
    /// chain.
    fn step(&self, q: &Query, s: f64, noise: &mut Noise) -> Tensor;

    /// What its steps have clipped so far.
    fn clipped(&self) -> Clipped {
        Clipped::default()
    }
}

/// What a sampler has held within limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clipped {
    /// Numbers of `x̂_0`, over all steps with a range.
    pub clean: Count,
    /// Variances, over all steps with a limit.
    pub noise: Count,
    /// Variances below 0 of the combined covariance under guidance.
    pub guided: Count,
}

impl Clipped {
    /// A line for each kind of number that was held, for people.
    pub fn lines(&self) -> Vec<String> {
        let kinds = [
            (self.clean, "numbers of the predicted clean images"),
            (self.noise, "variances of the last step but one"),
            (self.guided, "variances of guided steps, which were below 0"),
        ];
        let held = kinds.into_iter().filter(|(count, _)| count.all > 0);
        held.map(|(count, what)| format!("clipped: {count} {what}")).collect()
    }
}

impl AddAssign for Clipped {
    fn add_assign(&mut self, other: Clipped) {
        self.clean += other.clean;
        self.noise += other.noise;
        self.guided += other.guided;
    }
}

/// Runs the chain down `grid` (increasing times `t_0 < … < t_K`, `t_0 = 0` or `ε`) from
/// `x_T ~ N(0, σ_T² I)` for the rows with these numbers, `[rows, d]`. Row `i` depends on `seed` and
/// `i` alone (and its condition).
pub fn run_chain(
    step: &dyn Step,
    grid: &[f64],
    seed: Seed,
    rows: Range<u64>,
    condition: Option<&Condition>,
) -> Result<Tensor> {
    let (space, mut noise) = (step.model().space(), Noise::new(seed, rows.clone()));
    let last = *grid.last().expect("a grid has times");
    let sd = space.schedule().sigma(last);
    no_grad(|| {
        let mut x = noise.normal(space.dim as usize, space.kind, space.device) * sd;
        for pair in grid.windows(2).rev() {
            let times = Times::All(pair[1]);
            x = step.step(&Query::new(&x, &times).given(condition), pair[0], &mut noise);
        }
        check_finite(x, rows)
    })
}

/// Samples in batches, `[n, d]`; the batch size does not change them.
pub fn sample_in_batches(
    n: usize,
    batch: usize,
    mut draw: impl FnMut(Range<u64>) -> Result<Tensor>,
) -> Result<Tensor> {
    let batch = batch.max(1);
    let starts = (0..n.max(1)).step_by(batch);
    let parts: Result<Vec<Tensor>> =
        starts.map(|start| draw(start as u64..(start + batch).min(n) as u64)).collect();
    Ok(Tensor::cat(&parts?, 0))
}

fn check_finite(x: Tensor, rows: Range<u64>) -> Result<Tensor> {
    let bad = x.isfinite().logical_not().any_dim(1, false);
    let count = bad.sum(tch::Kind::Int64).int64_value(&[]);
    if count > 0 {
        return Err(Error::numeric(
            format!("{count} of the samples {}..{} are not finite", rows.start, rows.end),
            "take more steps, another covariance, or train longer at a lower learning rate",
        ));
    }
    Ok(x)
}
