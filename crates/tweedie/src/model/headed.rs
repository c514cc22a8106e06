//! One model's mean with another's covariance: a covariance head on a network of its own, under a
//! score from elsewhere.

use tch::{Tensor, no_grad};

use super::{Denoiser, Space};
use crate::posterior::{HeadOutput, NoiseMoments};
use crate::query::Query;

/// `ε̂` of a score, and `G` of a head on a network of its own, where there is one.
pub struct Headed<'a> {
    /// Whose `ε̂` it is.
    pub score: &'a dyn Denoiser,
    /// Whose `G` it is; its own `ε̂` plays no part. Without one `G` is the score's.
    pub head: Option<&'a dyn Denoiser>,
}

impl Denoiser for Headed<'_> {
    /// That of the score.
    fn space(&self) -> &Space {
        self.score.space()
    }

    fn noise(&self, q: &Query) -> Tensor {
        let x = q.x.to_kind(self.score.space().kind);
        self.score.noise(&q.at(&x)).to_kind(q.x.kind())
    }

    fn known_log_density(&self, q: &Query) -> Option<Tensor> {
        let x = q.x.to_kind(self.score.space().kind);
        self.score.known_log_density(&q.at(&x))
    }

    /// `ε̂` carries no gradient, unless `x` is traced, for products with its Jacobian.
    fn moments(&self, q: &Query) -> NoiseMoments {
        let Some(head) = self.head else { return self.score.moments(q) };
        let kind = q.x.kind();
        let noise = match q.x.requires_grad() {
            true => self.noise(q),
            false => no_grad(|| self.noise(q)),
        };
        let x = q.x.to_kind(head.space().kind);
        let NoiseMoments { cov, head, .. } = head.moments(&q.at(&x));
        match head {
            // its G takes the score's ε̂
            Some(HeadOutput::SecondMoment(h)) => {
                NoiseMoments::of_second_moment(h.to_kind(kind), noise)
            }
            Some(HeadOutput::Interpolation(v)) => {
                let head = Some(HeadOutput::Interpolation(v.to_kind(kind)));
                NoiseMoments { noise, cov: cov.to_kind(kind), head }
            }
            None => NoiseMoments::new(noise, cov.to_kind(kind)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::noise::Seed;
    use crate::oracle::{GaussianMixture, Oracle};
    use crate::query::Times;
    use crate::schedule::Vp;

    fn oracle(mean: f64) -> Oracle {
        let mixture =
            GaussianMixture::new(&[0.4, 0.6], &[[-mean, 0.5], [mean, 0.0]], &[0.3, 0.6]).unwrap();
        Oracle::new(mixture, Arc::new(Vp::default()))
    }

    fn gap(a: &Tensor, b: &Tensor) -> f64 {
        (a - b).abs().max().double_value(&[])
    }

    /// `ε̂` is the score's and `G` the head's, of two mixtures that differ in both.
    #[test]
    fn noise_and_covariance_have_their_own_sources() {
        let (score, head) = (oracle(0.2), oracle(1.0));
        let (x, t) = (score.mixture.sample(3, Seed(1)), Times::each(vec![0.02, 0.2, 0.6]));
        let q = Query::new(&x, &t);
        let found = Headed { score: &score, head: Some(&head) }.moments(&q);
        assert!(gap(&found.noise, &score.noise(&q)) < 1e-12);
        assert!(gap(&found.cov.to_dense(), &head.moments(&q).cov.to_dense()) < 1e-12);
        assert!(gap(&found.noise, &head.noise(&q)) > 1e-3);
    }

    /// A mixture whose moments are given as `E[ε²|x_t]`.
    struct OfSecondMoment(Oracle);

    impl Denoiser for OfSecondMoment {
        fn space(&self) -> &Space {
            self.0.space()
        }

        fn noise(&self, q: &Query) -> Tensor {
            self.0.noise(q)
        }

        fn moments(&self, q: &Query) -> NoiseMoments {
            let h = self.0.moments(q).second_moment();
            // its own ε̂ plays no part
            NoiseMoments::of_second_moment(h, q.x.zeros_like())
        }
    }

    /// The exact `E[ε²|x_t]` less the exact `ε̂²` is the diagonal of `G`, where that is below 1.
    #[test]
    fn a_second_moment_gives_the_diagonal() {
        let (score, head) = (oracle(0.1), OfSecondMoment(oracle(0.1)));
        let (x, t) = (score.mixture.sample(3, Seed(1)), Times::each(vec![0.05, 0.3, 0.6]));
        let q = Query::new(&x, &t);
        let found = Headed { score: &score, head: Some(&head) }.moments(&q).cov;
        let exact = score.moments(&q).cov.diagonal();
        assert!(exact.max().double_value(&[]) < 1.0);
        assert!(gap(&found.diagonal(), &exact) < 1e-8);
    }
}
