//! A model whose evaluations are counted, and left out once work has to stop.

use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use crate::covariance::NoiseStatistics;
use crate::model::{Denoiser, Interpolation};
use crate::posterior::{Jet, scalar_g};
use crate::schedule::Schedule;

/// A model for work that is long and has to end soon after it is asked to: sampling, a bound, a
/// measurement. `stop` is called before each evaluation of the network (so it can report progress,
/// too). Once it returns true the network is no longer evaluated: the work runs to its end on
/// zeros, in no time, and its result has to be thrown away.
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
    fn dim(&self) -> i64 {
        self.model.dim()
    }

    fn schedule(&self) -> &Arc<dyn Schedule> {
        self.model.schedule()
    }

    fn noise(&self, x: &Tensor, t: &[f64]) -> Tensor {
        if (self.stop)() { x.zeros_like() } else { self.model.noise(x, t) }
    }

    fn jet(&self, x: &Tensor, t: &[f64]) -> Jet {
        match (self.stop)() {
            true => Jet { noise: x.zeros_like(), g: scalar_g(vec![1.0; t.len()], x) },
            false => self.model.jet(x, t),
        }
    }

    fn correction(&self, x: &Tensor, t: &[f64]) -> Tensor {
        if (self.stop)() { x.zeros_like() } else { self.model.correction(x, t) }
    }

    fn known_part(&self, x: &Tensor, t: &[f64]) -> Option<(Tensor, Tensor)> {
        self.model.known_part(x, t)
    }

    fn for_rows(&self, rows: &[i64]) -> Option<Box<dyn Denoiser + '_>> {
        self.model.for_rows(rows)
    }

    fn noise_statistics(&self) -> Option<&NoiseStatistics> {
        self.model.noise_statistics()
    }

    fn second_moment(&self, x: &Tensor, t: &[f64]) -> Tensor {
        if (self.stop)() { x.ones_like() } else { self.model.second_moment(x, t) }
    }

    fn interpolation(&self) -> Option<&dyn Interpolation> {
        self.model.interpolation().is_some().then_some(self as &dyn Interpolation)
    }

    fn kind(&self) -> Kind {
        self.model.kind()
    }

    fn device(&self) -> Device {
        self.model.device()
    }
}

impl Interpolation for Watched<'_> {
    fn noise_and_v(&self, x: &Tensor, t: &[f64]) -> (Tensor, Tensor) {
        match self.model.interpolation() {
            Some(head) if !(self.stop)() => head.noise_and_v(x, t),
            _ => (x.zeros_like(), x.zeros_like()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::covariance::{Covariance, Reverse};
    use crate::grid::Spacing;
    use crate::likelihood::{Elbo, LogLikelihood};
    use crate::noise::Seed;
    use crate::oracle::{GaussianMixture, Oracle};
    use crate::schedule::Vp;

    /// Not a bit changes while work goes on; once it stops, no evaluation of the model is made.
    #[test]
    fn watching_changes_nothing_until_it_stops() {
        let mixture = GaussianMixture::new(&[1.0], &[[0.5; 3]], &[0.8]).unwrap();
        let oracle = Oracle::new(mixture, Arc::new(Vp::default()));
        let rows = oracle.mixture.sample(5, Seed(1));
        let calls = Cell::new(0);
        let bound = |model: &dyn Denoiser| {
            let reverse = Reverse::new(model, Covariance::Learned, 1.0).unwrap();
            let grid = Spacing::default().elbo_grid(&**model.schedule(), 7);
            Elbo::new(reverse, grid, 1).log_likelihood(&rows, Seed(2), 0).unwrap().values
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
