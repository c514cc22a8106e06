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

    /// No gradient goes through `ε̂`.
    fn moments(&self, q: &Query) -> NoiseMoments {
        let Some(head) = self.head else { return self.score.moments(q) };
        let kind = q.x.kind();
        let noise = no_grad(|| self.noise(q));
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
