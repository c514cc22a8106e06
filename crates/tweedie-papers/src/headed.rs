//! One score and the covariance head of another network: what experiments compare heads by, all on
//! one score, exact or trained.

use std::sync::Arc;

use tch::{Device, Kind, Tensor, no_grad};

use tweedie::covariance::NoiseStatistics;
use tweedie::model::{Denoiser, Interpolation, Parametrization, g_of_second_moment};
use tweedie::noise::Noise;
use tweedie::objective::Objective;
use tweedie::posterior::Jet;
use tweedie::schedule::Schedule;

/// `ε̂` of a score, and `G` of a head on a network of its own, where there is one.
pub(super) struct Headed<'a> {
    pub score: &'a dyn Denoiser,
    /// The head's network, whose own `ε̂` nobody asks for, and what its outputs say.
    pub head: Option<(&'a dyn Denoiser, Parametrization)>,
    /// What was measured of the score's noise.
    pub statistics: Option<&'a NoiseStatistics>,
}

impl Denoiser for Headed<'_> {
    fn dim(&self) -> i64 {
        self.score.dim()
    }

    fn schedule(&self) -> &Arc<dyn Schedule> {
        self.score.schedule()
    }

    fn noise(&self, x: &Tensor, t: &[f64]) -> Tensor {
        self.score.noise(&x.to_kind(self.score.kind()), t).to_kind(x.kind())
    }

    /// No derivative goes through `ε̂`.
    fn jet(&self, x: &Tensor, t: &[f64]) -> Jet {
        let Some((head, parametrization)) = self.head else { return self.score.jet(x, t) };
        let noise = no_grad(|| self.noise(x, t));
        let g = match parametrization {
            Parametrization::SecondMoment => g_of_second_moment(&self.second_moment(x, t), &noise),
            _ => head.jet(&x.to_kind(head.kind()), t).g.to_kind(x.kind()),
        };
        Jet { noise, g }
    }

    fn second_moment(&self, x: &Tensor, t: &[f64]) -> Tensor {
        match self.head {
            Some((head, Parametrization::SecondMoment)) => {
                head.second_moment(&x.to_kind(head.kind()), t).to_kind(x.kind())
            }
            _ => self.jet(x, t).second_moment(),
        }
    }

    fn noise_statistics(&self) -> Option<&NoiseStatistics> {
        self.statistics
    }

    fn interpolation(&self) -> Option<&dyn Interpolation> {
        self.head.and_then(|(head, _)| head.interpolation()).map(|_| self as &dyn Interpolation)
    }

    fn kind(&self) -> Kind {
        self.score.kind()
    }

    fn device(&self) -> Device {
        self.score.device()
    }
}

impl Interpolation for Headed<'_> {
    fn noise_and_v(&self, x: &Tensor, t: &[f64]) -> (Tensor, Tensor) {
        let head =
            self.head.and_then(|(head, _)| head.interpolation()).expect("a head that interpolates");
        let (_, v) = head.noise_and_v(&x.to_kind(head_kind(self)), t);
        (no_grad(|| self.noise(x, t)), v.to_kind(x.kind()))
    }
}

fn head_kind(headed: &Headed) -> Kind {
    headed.head.map_or(headed.kind(), |(head, _)| head.kind())
}

/// An objective for a head, asked of a network that is the head's alone, under a frozen score from
/// elsewhere.
pub(super) struct OnScore<'a> {
    pub objective: Box<dyn Objective>,
    pub score: &'a dyn Denoiser,
    pub parametrization: Parametrization,
}

impl Objective for OnScore<'_> {
    fn loss(&self, model: &dyn Denoiser, x0: &Tensor, noise: &mut Noise) -> Tensor {
        let headed = Headed {
            score: self.score,
            head: Some((model, self.parametrization)),
            statistics: None,
        };
        self.objective.loss(&headed, x0, noise)
    }

    fn draws(&self) -> usize {
        self.objective.draws()
    }

    fn trains_head(&self) -> bool {
        true
    }

    /// All of the network is the head's trunk.
    fn trains_score(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tweedie::noise::Seed;
    use tweedie::oracle::{GaussianMixture, Oracle};
    use tweedie::schedule::Vp;

    fn oracle(mean: f64) -> Oracle {
        let law =
            GaussianMixture::new(&[0.4, 0.6], &[[-mean, 0.5], [mean, 0.0]], &[0.3, 0.6]).unwrap();
        Oracle::new(law, Arc::new(Vp::default()))
    }

    fn gap(a: &Tensor, b: &Tensor) -> f64 {
        (a - b).abs().max().double_value(&[])
    }

    /// `ε̂` is the score's and `G` the head's, of two laws that differ in both.
    #[test]
    fn noise_and_covariance_have_their_own_sources() {
        let (score, head, t) = (oracle(0.2), oracle(1.0), [0.02, 0.2, 0.6]);
        let x = score.mixture.sample(3, Seed(1));
        let headed = Headed {
            score: &score,
            head: Some((&head, Parametrization::Posterior)),
            statistics: None,
        };
        let jet = headed.jet(&x, &t);
        assert!(gap(&jet.noise, &score.noise(&x, &t)) < 1e-12);
        assert!(gap(&jet.g.to_dense(), &head.jet(&x, &t).g.to_dense()) < 1e-12);
        assert!(gap(&jet.noise, &head.noise(&x, &t)) > 1e-3);
    }

    /// The exact `E[ε²|x_t]` less the exact `ε̂²` is the diagonal of `G`, where that is below 1.
    #[test]
    fn a_second_moment_gives_the_diagonal() {
        let (score, t) = (oracle(0.1), [0.05, 0.3, 0.6]);
        let x = score.mixture.sample(3, Seed(1));
        let head = Some((&score as &dyn Denoiser, Parametrization::SecondMoment));
        let found = Headed { score: &score, head, statistics: None }.jet(&x, &t).g;
        let exact = score.jet(&x, &t).g.diagonal();
        assert!(exact.max().double_value(&[]) < 1.0);
        assert!(gap(&found.diagonal(), &exact) < 1e-8);
    }
}
