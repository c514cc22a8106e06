//! The chains of `K` steps in which Theorem 1 is looked at.

use std::sync::Arc;

use crate::experiment::kinds;
use tweedie::grid::Spacing;
use tweedie::schedule::{Schedule, Vp};

kinds! {
    /// A forward process with its `K` steps.
    pub enum Chain {
        /// The schedule (18) of Likelihood Matching, with `c0 = 1` and `c1 = 3`: every step of its
        /// own chain.
        Theorem = "schedule (18)",
        /// VP with `β` from 0.1 to 20, `K − 1` steps even in the log signal-to-noise ratio from
        /// `ε = 1e-3` to 1.
        LogSnr = "VP, log-SNR",
    }
}

const C0: f64 = 1.0;
const C1: f64 = 3.0;
/// The fewest steps for which the schedule (18) is one: `c1 ln T/T < 1`.
pub(super) const FEWEST: usize = 5;

impl Chain {
    /// The name in files.
    pub fn key(self) -> &'static str {
        match self {
            Chain::Theorem => "theorem",
            Chain::LogSnr => "log-snr",
        }
    }

    /// The process, and the times `0 = t_0 < t_1 < … < t_K = T`.
    ///
    /// # Panics
    /// With fewer than five steps.
    pub(super) fn steps(self, k: usize) -> (Arc<dyn Schedule>, Vec<f64>) {
        assert!(k >= FEWEST, "a chain of {k} steps");
        match self {
            Chain::Theorem => {
                let schedule = Vp::theory(k, C0, C1);
                let grid = Spacing::Even.elbo_grid(&schedule, k);
                (Arc::new(schedule), grid)
            }
            Chain::LogSnr => {
                let schedule = Vp::default().with_epsilon(1e-3);
                let grid = Spacing::LogSnr.elbo_grid(&schedule, k);
                (Arc::new(schedule), grid)
            }
        }
    }

    /// What `K` steps count for in a power law: the inverse of a step's length up to a factor. A
    /// step of the schedule (18) has `c1 ln T/T`, hence `T/ln T` there.
    pub fn fineness(self, k: usize) -> f64 {
        match self {
            Chain::Theorem => k as f64 / (k as f64).ln(),
            Chain::LogSnr => k as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_have_their_steps() {
        for chain in Chain::ALL {
            for k in [5, 12, 100] {
                let (schedule, grid) = chain.steps(k);
                assert!(grid.len() == k + 1 && grid[0] == 0.0 && grid[k] == schedule.horizon());
                assert!(grid.windows(2).all(|gap| gap[0] < gap[1]));
                if chain == Chain::Theorem {
                    // (18) at its ends: β_1 = T^{−c0}, and c1 ln T/T once it has grown
                    let step = |i: usize| schedule.transition(grid[i - 1], grid[i]).k2;
                    let rate = 3.0 * (k as f64).ln() / k as f64;
                    assert!(
                        (step(1) - 1.0 / k as f64).abs() < 1e-12 && (step(k) - rate).abs() < 1e-12
                    );
                }
            }
        }
    }
}
