//! A model whose evaluations are counted, and left out once work has to stop.

use tch::Tensor;

use super::{Denoiser, Space, Split};
use crate::posterior::{HeadOutput, NoiseMoments};
use crate::query::Query;
use crate::sym_matrix::SymMatrix;

/// A model for work that is long and has to end soon after a stop is requested: sampling, a bound,
/// a measurement. `stop` is called before each evaluation of the network (so it can report
/// progress, too). Once it returns true the network is no longer evaluated: the work runs to its
/// end on zeros, in no time, and its result has to be thrown away.
pub struct Watched<'a> {
    model: &'a dyn Denoiser,
    stop: &'a dyn Fn() -> bool,
}

impl<'a> Watched<'a> {
    /// `model`, until `stop` returns true; from then on `stop` must return true.
    pub fn new(model: &'a dyn Denoiser, stop: &'a dyn Fn() -> bool) -> Watched<'a> {
        Watched { model, stop }
    }
}

impl Denoiser for Watched<'_> {
    fn space(&self) -> &Space {
        self.model.space()
    }

    fn noise(&self, q: &Query) -> Tensor {
        if (self.stop)() { q.x * 0.0 } else { self.model.noise(q) }
    }

    fn moments(&self, q: &Query) -> NoiseMoments {
        match (self.stop)() {
            true => NoiseMoments {
                noise: q.x * 0.0,
                cov: SymMatrix::scalar(&1.0.into(), q.x),
                head: Some(HeadOutput::Interpolation(q.x.zeros_like())),
            },
            false => self.model.moments(q),
        }
    }

    fn known_log_density(&self, q: &Query) -> Option<Tensor> {
        self.model.known_log_density(q)
    }

    fn split(&self) -> Option<Split<'_>> {
        let Split { known, correction } = self.model.split()?;
        let correction = Box::new(move |q: &Query| match (self.stop)() {
            true => q.x * 0.0,
            false => correction(q),
        });
        Some(Split { known, correction })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::Arc;

    use super::*;
    use crate::covariance::{Own, Reverse};
    use crate::grid::Spacing;
    use crate::likelihood::{Elbo, LogLikelihood};
    use crate::noise::Seed;
    use crate::oracle::{GaussianMixture, Oracle};
    use crate::query::Batch;
    use crate::schedule::Vp;

    /// Not a bit changes while work goes on; once it stops, no evaluation of the model is made.
    #[test]
    fn watching_changes_nothing_until_it_stops() {
        let mixture = GaussianMixture::new(&[1.0], &[[0.5; 3]], &[0.8]).unwrap();
        let oracle = Oracle::new(mixture, Arc::new(Vp::default()));
        let rows = oracle.mixture.sample(5, Seed(1));
        let calls = Cell::new(0);
        let bound = |model: &dyn Denoiser| {
            let reverse = Reverse::new(model, Own, 1.0).unwrap();
            let grid = Spacing::default().elbo_grid(model.space().schedule(), 7);
            Elbo::new(reverse, grid, 1)
                .log_likelihood(&Batch::of(&rows), Seed(2), 0)
                .unwrap()
                .values
        };
        let count = |most: i32| {
            let stop = || {
                calls.set(calls.get() + 1);
                calls.get() > most
            };
            calls.set(0);
            bound(&Watched::new(&oracle, &stop))
        };
        assert_eq!(count(100), bound(&oracle));
        assert_eq!(calls.get(), 7);
        assert_ne!(count(3), bound(&oracle));
    }
}
