//! Classifier-free guidance (Ho & Salimans 2022): a model with classes, led further towards a class
//! than its own conditional distribution goes.

use std::cell::Cell;

use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::{Denoiser, Space};
use crate::choice::choices;
use crate::posterior::{HeadOutput, NoiseMoments};
use crate::query::Query;
use crate::sym_matrix::SymMatrix;
use crate::tensor::Count;

choices! {
    /// The covariance of a guided step.
    pub enum GuidedCovariance = Conditional {
        /// `G_c`, that of the class, as published samplers have it.
        Conditional = "conditional",
        /// `G_w = (1 − w) G_∅ + w G_c`: the second Tweedie moment of the guided score, with
        /// variances below 0 held there.
        Combined = "combined",
    }
}

/// How a model is guided, as plain data.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guidance {
    /// `w`: 0 has no class, 1 the class alone; 1.5 to 4 are usual.
    pub scale: f64,
    /// The covariance of a step.
    pub covariance: GuidedCovariance,
    /// The first columns that are guided, the others having the class alone; `None`: all.
    pub columns: Option<i64>,
}

/// A model under guidance: `ε̂_w = ε̂_∅ + w (ε̂_c − ε̂_∅)`, hence the score
/// `s_w = (1 − w) s_∅ + w s_c`, computed in one batch of twice the rows.
///
/// It is no model of a distribution: `s_w` is the score of no diffused data, so it has no
/// likelihood, and only samples are drawn of it.
pub struct Guided<'a> {
    model: &'a dyn Denoiser,
    guidance: Guidance,
    held: Cell<Count>,
}

impl<'a> Guided<'a> {
    /// `model`, which must have a null class, guided towards the classes of its queries.
    pub fn new(model: &'a dyn Denoiser, guidance: Guidance) -> Guided<'a> {
        Guided { model, guidance, held: Cell::default() }
    }

    /// Variances of [`GuidedCovariance::Combined`] that were below 0, of all so far.
    pub fn held(&self) -> Count {
        self.held.get()
    }

    /// `f` of both branches at once: the rows under their classes, then under the null class.
    fn both<T>(&self, q: &Query, f: impl FnOnce(&Query) -> T) -> T {
        let x = Tensor::cat(&[q.x, q.x], 0);
        let condition = q.condition.expect("the classes of guided rows").and_null();
        f(&Query { x: &x, times: &q.times.twice(), condition: Some(&condition) })
    }

    /// `ε̂_w`, `[b, d]`, of `ε̂_c` and `ε̂_∅`, `[2b, d]`.
    fn mix(&self, noise: &Tensor) -> Tensor {
        let [class, null] = halves(noise);
        let guided = &null + (&class - &null) * self.guidance.scale;
        match self.guidance.columns {
            Some(n) if n < class.size()[1] => {
                let rest = class.narrow(1, n, class.size()[1] - n);
                Tensor::cat(&[guided.narrow(1, 0, n), rest], 1)
            }
            _ => guided,
        }
    }
}

fn halves(x: &Tensor) -> [Tensor; 2] {
    let n = x.size()[0] / 2;
    [x.narrow(0, 0, n), x.narrow(0, n, n)]
}

impl Denoiser for Guided<'_> {
    fn space(&self) -> &Space {
        self.model.space()
    }

    fn noise(&self, q: &Query) -> Tensor {
        self.mix(&self.both(q, |both| self.model.noise(both)))
    }

    /// `ε̂_w`, and `G` as [`Guidance::covariance`] says; the output of I-DDPM's head is that of the
    /// class.
    fn moments(&self, q: &Query) -> NoiseMoments {
        let n = q.x.size()[0];
        let NoiseMoments { noise, cov, head } = self.both(q, |both| self.model.moments(both));
        let of_class = cov.narrow(0, n);
        let cov = match self.guidance.covariance {
            GuidedCovariance::Conditional => of_class,
            GuidedCovariance::Combined => {
                let (cov, found) =
                    SymMatrix::extrapolate(&cov.narrow(n, n), &of_class, self.guidance.scale);
                let mut held = self.held.get();
                held += found;
                self.held.set(held);
                cov
            }
        };
        let head = match head {
            Some(HeadOutput::Interpolation(v)) => {
                Some(HeadOutput::Interpolation(v.narrow(0, 0, n)))
            }
            _ => None,
        };
        NoiseMoments { noise: self.mix(&noise), cov, head }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tch::Device;

    use super::*;
    use crate::covariance::jacobian;
    use crate::oracle::{GaussianMixture, Oracle};
    use crate::query::{Condition, Times};
    use crate::schedule::Vp;

    /// Two classes that are mixtures, and the mixture of both as the null class.
    struct Classes {
        each: [Oracle; 2],
        null: Oracle,
    }

    impl Classes {
        fn new() -> Classes {
            let (a, b) = ([[-1.5, 0.3], [-0.4, 1.0]], [[1.2, -0.6], [0.5, 0.7]]);
            let oracle = |weights: &[f64], means: &[[f64; 2]], sd: &[f64]| {
                let mixture = GaussianMixture::new(weights, means, sd).unwrap();
                Oracle::new(mixture, Arc::new(Vp::default()))
            };
            let halves = [[0.4, 0.6], [0.7, 0.3]];
            let both: Vec<f64> = halves.iter().flatten().map(|w| 0.5 * w).collect();
            let sd = [[0.4, 0.7], [0.3, 0.5]];
            Classes {
                each: [oracle(&halves[0], &a, &sd[0]), oracle(&halves[1], &b, &sd[1])],
                null: oracle(&both, &[a, b].concat(), &sd.concat()),
            }
        }

        fn rows<T>(&self, q: &Query, f: impl Fn(&Oracle, &Query) -> T) -> Vec<T> {
            let classes = q.condition.expect("classes").class_tensor(2, Device::Cpu);
            let row = |i: i64| {
                let x = q.x.narrow(0, i, 1);
                let times = q.times.narrow(i as usize..i as usize + 1);
                let oracle = match classes.int64_value(&[i]) {
                    2 => &self.null,
                    class => &self.each[class as usize],
                };
                f(oracle, &Query::new(&x, &times))
            };
            (0..q.x.size()[0]).map(row).collect()
        }
    }

    impl Denoiser for Classes {
        fn space(&self) -> &Space {
            self.null.space()
        }

        fn noise(&self, q: &Query) -> Tensor {
            Tensor::cat(&self.rows(q, |oracle, q| oracle.noise(q)), 0)
        }

        fn moments(&self, q: &Query) -> NoiseMoments {
            let full = self.rows(q, |oracle, q| oracle.moments(q).cov.to_dense());
            NoiseMoments::new(self.noise(q), SymMatrix::Full(Tensor::cat(&full, 0)))
        }
    }

    fn guidance(scale: f64) -> Guidance {
        Guidance { scale, covariance: GuidedCovariance::Combined, columns: None }
    }

    /// `G_w` is the second Tweedie moment of the guided score: `I − σ ∂ε̂_w/∂x` by autograd.
    #[test]
    fn the_combined_covariance_is_the_guided_scores() {
        let model = Classes::new();
        let x = Tensor::from_slice2(&[[0.3, -0.2], [-1.0, 0.8], [1.4, 0.1], [0.0, 0.5]]);
        let times = Times::each(vec![0.05, 0.2, 0.4, 0.8]);
        let condition = Condition::classes(&[0, 1, 1, 0]);
        let q = Query::new(&x, &times).given(Some(&condition));
        for scale in [0.0, 0.5, 1.0, 1.7] {
            let guided = Guided::new(&model, guidance(scale));
            let found = guided.moments(&q);
            let (noise, exact) = jacobian::full(&guided, &q);
            let gap = |a: &Tensor, b: &Tensor| (a - b).abs().max().double_value(&[]);
            assert!(gap(&found.noise, &noise) < 1e-12);
            // rows where the exact one is no covariance are held
            let least = crate::sym_matrix::eigenvalue_rows(&exact).amin(-1, false);
            let definite = least.gt(0.0).nonzero().squeeze_dim(-1);
            assert!(definite.size()[0] >= 3, "w = {scale}");
            let rows = |g: &Tensor| g.index_select(0, &definite);
            let dense = found.cov.to_dense();
            assert!(gap(&rows(&dense), &rows(&exact)) < 1e-9, "w = {scale}");
        }
        let of_class = Guidance { covariance: GuidedCovariance::Conditional, ..guidance(3.0) };
        let found = Guided::new(&model, of_class).moments(&q);
        let exact = Guided::new(&model, guidance(1.0)).moments(&q);
        let gap = (found.cov.to_dense() - exact.cov.to_dense()).abs().max().double_value(&[]);
        assert!(gap < 1e-12, "the class's own covariance, {gap}");
    }

    /// Columns that are not guided are the class's.
    #[test]
    fn the_first_columns_alone() {
        let model = Classes::new();
        let x = Tensor::from_slice2(&[[0.3, -0.2], [-1.0, 0.8]]);
        let times = Times::All(0.3);
        let condition = Condition::classes(&[0, 1]);
        let q = Query::new(&x, &times).given(Some(&condition));
        let of = |columns| Guided::new(&model, Guidance { columns, ..guidance(4.0) }).noise(&q);
        let (first, all, class) = (of(Some(1)), of(None), model.noise(&q));
        assert_eq!(first.narrow(1, 0, 1), all.narrow(1, 0, 1));
        assert_eq!(first.narrow(1, 1, 1), class.narrow(1, 1, 1));
        assert_ne!(all.narrow(1, 1, 1), class.narrow(1, 1, 1));
    }
}
