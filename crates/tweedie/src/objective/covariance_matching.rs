//! Covariance heads by regression, under a frozen score: Optimal Covariance Matching, and what it
//! is compared with.

use tch::{Kind, Tensor, with_grad};

use super::pairs::{Pairs, times};
use super::{Objective, Trains};
use crate::choice::choices;
use crate::covariance::jacobian;
use crate::grid::TimeDistribution;
use crate::model::Denoiser;
use crate::noise::{Draw, Noise, Seed};
use crate::posterior::NoiseMoments;
use crate::query::Batch;
use crate::tensor::{squared_norm, vector_jacobian_product};

choices! {
    /// What the head's `G` is fitted to.
    pub enum Target = Jacobian {
        /// The score's own Jacobian: `‖(G − I) v − σ² H v‖²` with `v` of random signs and
        /// `σ² H v = −σ ∂(vᵀε̂)/∂x` by one vector–Jacobian product. Its mean over `v` is
        /// `‖G − I − σ²H‖²` in Frobenius norm (for a field whose Jacobian is symmetric), so it fits
        /// a matrix of any structure. For a diagonal `G` it is Optimal Covariance Matching's `‖(g −
        /// 1) − v ⊙ σ²Hv‖²`.
        Jacobian = "jacobian",
        /// What Optimal Covariance Matching replaces, its eq. 10, to be compared with:
        /// `‖diag G − 1 − (1/M) Σ_m v_m ⊙ σ²Hv_m‖²` with the same `M` vectors of random signs for
        /// all rows and times. Coordinate `i` of its minimiser is off by
        /// `(1/M) Σ_m Σ_{j≠i} v_mi v_mj G_ij`, whose variance over the vectors is
        /// `(1/M) Σ_{j≠i} G_ij²`, whatever the data.
        Biased = "biased",
        /// The squared residual `(ε − ε̂)²`, coordinate by coordinate (NPR, Bao et al. 2022): the
        /// diagonal of `Cov[ε|x_t]` plus the score's squared error, by noisier targets.
        Residual = "residual",
        /// The squared noise `ε²`, coordinate by coordinate (SN, Bao et al. 2022): the head's
        /// second moment `h` is fitted, as the head gives it, before it is clamped for use, and
        /// `diag G = h − ε̂²`. It carries the score's error in `ε̂²` and the noise of `ε²`.
        SecondMoment = "second-moment",
    }
}

/// `E_t` of the regression's loss, per row, averaged over `draws`; the score is frozen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CovarianceMatching {
    /// What is fitted.
    pub target: Target,
    /// How `t` is drawn.
    pub time: TimeDistribution,
    /// Draws of (t, ε) per row.
    pub draws: usize,
    /// Vectors `M` of [`Target::Biased`]; the other targets have none that stay.
    pub probes: usize,
}

/// The vectors of [`Target::Biased`] are drawn from this seed.
const FIXED: Seed = Seed(10);

/// [`Target::Biased`]'s loss, `[b n]`, with the vectors `signs` `[m, d]`.
fn biased(model: &dyn Denoiser, pairs: &Pairs, signs: &Tensor) -> Tensor {
    let q = pairs.query();
    let (_, products) = jacobian::products(model, &q, signs);
    // v ⊙ Gv is 1 + v ⊙ σ²Hv
    let target = (products * signs).mean_dim([1i64].as_slice(), false, None::<Kind>);
    squared_norm(&(model.moments(&q).cov.diagonal() - target.detach()))
}

impl Objective for CovarianceMatching {
    fn loss(&self, model: &dyn Denoiser, batch: &Batch, noise: &mut Noise) -> Tensor {
        let schedule = model.space().schedule();
        let t = times(self.time, schedule, self.draws, noise);
        let none = vec![[]; t.len()];
        let (pairs, []) = Pairs::draw(schedule, batch, t, none, noise);
        let Pairs { z, x, sigma, .. } = &pairs;
        let loss = match self.target {
            Target::Jacobian => {
                let signs = self.draws * x.size()[1] as usize;
                let v = noise.rademacher(signs, x.kind(), x.device()).view_as(x);
                // the score is evaluated once, for the product and the head
                let input = x.detach().set_requires_grad(true);
                let moments = with_grad(|| model.moments(&pairs.query().at(&input)));
                let product = vector_jacobian_product(&moments.noise, &input, &v, true) * sigma;
                squared_norm(&(moments.cov.matvec(&v) - v + product))
            }
            Target::Biased => {
                let shape = [self.probes as i64, x.size()[1]];
                let signs = shape[0] * shape[1];
                let mut fixed = Noise::new(FIXED, 0..1);
                let signs = fixed.rademacher(signs as usize, x.kind(), x.device());
                biased(model, &pairs, &signs.view(shape))
            }
            Target::Residual => {
                let NoiseMoments { noise, cov, .. } = model.moments(&pairs.query());
                squared_norm(&(cov.diagonal() - (z - noise.detach()).square()))
            }
            Target::SecondMoment => {
                squared_norm(&(model.moments(&pairs.query()).second_moment() - z.square()))
            }
        };
        pairs.mean(&loss)
    }

    fn draws(&self) -> usize {
        self.draws
    }

    fn noise(&self, dim: usize) -> Vec<Draw> {
        let mut draws = Pairs::noise(self.draws, dim);
        if self.target == Target::Jacobian {
            draws.push(Draw::Signs(self.draws * dim));
        }
        draws
    }

    fn trains(&self) -> Trains {
        Trains::Head
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::likelihood::mean_and_error;
    use crate::model::Space;
    use crate::oracle::{GaussianMixture, Oracle};
    use crate::query::Query;
    use crate::schedule::{Schedule, SubVp, Ve, Vp};
    use crate::sym_matrix::SymMatrix;
    use crate::tensor::to_vec;

    /// An oracle whose `G` is off by a multiple of the identity.
    struct Shifted(Oracle, f64);

    impl Denoiser for Shifted {
        fn space(&self) -> &Space {
            self.0.space()
        }
        fn noise(&self, q: &Query) -> Tensor {
            self.0.noise(q)
        }
        fn moments(&self, q: &Query) -> NoiseMoments {
            let NoiseMoments { noise, cov, .. } = self.0.moments(q);
            NoiseMoments::new(noise, cov.affine(&1.0.into(), &self.1.into()))
        }
    }

    fn oracle(schedule: Arc<dyn Schedule>) -> Oracle {
        let mixture =
            GaussianMixture::new(&[0.4, 0.6], &[[-1.0, 0.5, 0.0], [1.0, 0.0, 0.3]], &[0.3, 0.6])
                .unwrap();
        Oracle::new(mixture, schedule)
    }

    fn losses(target: Target, model: &dyn Denoiser, x0: &Tensor) -> Vec<f64> {
        let matching =
            CovarianceMatching { target, time: TimeDistribution::Uniform, draws: 1, probes: 1 };
        to_vec(&matching.loss(
            model,
            &Batch::of(x0),
            &mut Noise::new(Seed(3), 0..x0.size()[0] as u64),
        ))
    }

    /// At the exact `G` the Jacobian's loss is 0 row by row: the sign and scale of `σ²H`. Off by
    /// `δ I` it is `δ² d`.
    #[test]
    fn the_jacobian_is_the_covariance() {
        let schedules: [Arc<dyn Schedule>; 3] =
            [Arc::new(Vp::default()), Arc::new(SubVp::default()), Arc::new(Ve::default())];
        for schedule in schedules {
            let oracle = oracle(schedule);
            let x0 = oracle.mixture.sample(200, Seed(1));
            let at = losses(Target::Jacobian, &Shifted(oracle, 0.0), &x0);
            assert!(at.iter().all(|l| *l < 1e-18), "{at:?}");
        }
        let oracle = oracle(Arc::new(Vp::default()));
        let x0 = oracle.mixture.sample(200, Seed(1));
        let off = losses(Target::Jacobian, &Shifted(oracle, 0.1), &x0);
        assert!(off.iter().all(|l| (l - 0.03).abs() < 1e-9), "{off:?}");
    }

    /// The foil of eq. 10 by the exact `G`: its loss at the exact diagonal is `‖b‖²` with
    /// `b_i = (1/M) Σ_m Σ_{j≠i} v_mi v_mj G_ij`, so that its minimiser is off by `b`. Over all
    /// vectors of signs of three coordinates `b` has the mean 0 and `‖b‖²` the mean
    /// `(1/M) Σ_i Σ_{j≠i} G_ij²`, which only grows less with `M`.
    #[test]
    fn fixed_signs_move_the_minimiser() {
        let oracle = oracle(Arc::new(Vp::default()));
        let x0 = oracle.mixture.sample(50, Seed(1));
        let mut noise = Noise::new(Seed(3), 0..50);
        let t = times(TimeDistribution::Uniform, oracle.space().schedule(), 1, &mut noise);
        let none = vec![[]; 50];
        let (pairs, []) =
            Pairs::draw(oracle.space().schedule(), &Batch::of(&x0), t, none, &mut noise);
        let g = oracle.moments(&pairs.query()).cov.to_dense();
        let others =
            &g - Tensor::diag_embed(&oracle.moments(&pairs.query()).cov.diagonal(), 0, -2, -1);
        let all: Vec<[f64; 3]> = (0..8)
            .map(|bits| [0, 1, 2].map(|i| if bits >> i & 1 == 1 { 1.0 } else { -1.0 }))
            .collect();
        let variance = to_vec(&squared_norm(&others.view([50, 9])));
        for probes in [1, 2] {
            let mut mean = vec![0.0; 50];
            let sets = all.len().pow(probes);
            for set in 0..sets {
                let signs: Vec<f64> =
                    (0..probes).flat_map(|m| all[set / all.len().pow(m) % all.len()]).collect();
                let signs = Tensor::from_slice(&signs).view([probes as i64, 3]);
                let b = (&signs.unsqueeze(0) * signs.matmul(&others)).mean_dim(
                    [1i64].as_slice(),
                    false,
                    None::<Kind>,
                );
                let (at, off) =
                    (to_vec(&biased(&oracle, &pairs, &signs)), to_vec(&squared_norm(&b)));
                for row in 0..50 {
                    assert!((at[row] - off[row]).abs() < 1e-10, "{} {}", at[row], off[row]);
                    mean[row] += at[row] / sets as f64;
                }
            }
            for (mean, variance) in mean.iter().zip(&variance) {
                let expected = variance / f64::from(probes);
                assert!((mean - expected).abs() < 1e-10, "{probes}: {mean} {expected}");
            }
            assert!(variance.iter().fold(0.0f64, |a, &b| a.max(b)) > 0.05, "{variance:?}");
        }
    }

    /// The slope of the loss in a common shift of the diagonal, at the exact one: of the foil
    /// `−2 Σ_i b_i` on average, many standard errors from 0, of OCM's own none; the head is the
    /// exact diagonal, with the same score.
    #[test]
    fn fresh_signs_do_not() {
        struct OfDiagonal(Shifted);
        impl Denoiser for OfDiagonal {
            fn space(&self) -> &Space {
                self.0.space()
            }
            fn noise(&self, q: &Query) -> Tensor {
                self.0.noise(q)
            }
            fn moments(&self, q: &Query) -> NoiseMoments {
                let NoiseMoments { noise, cov, .. } = self.0.moments(q);
                NoiseMoments::new(noise, SymMatrix::Diagonal(cov.diagonal()))
            }
        }
        let slope = |target| {
            let h = 0.01;
            let loss = |shift| {
                let oracle = oracle(Arc::new(Vp::default()));
                let x0 = oracle.mixture.sample(5000, Seed(1));
                losses(target, &OfDiagonal(Shifted(oracle, shift)), &x0)
            };
            let differences: Vec<f64> =
                loss(h).iter().zip(loss(-h)).map(|(a, b)| (a - b) / (2.0 * h)).collect();
            mean_and_error(&differences)
        };
        let (own, foil) = (slope(Target::Jacobian), slope(Target::Biased));
        assert!(own.0.abs() < 4.0 * own.1, "{own:?}");
        assert!(foil.0.abs() > 20.0 * foil.1.max(own.1), "{foil:?}");
    }

    /// The losses on the residual and on the squared noise are least at the exact diagonal: their
    /// derivative in a shift of `G`, which is one of the second moment, is 0 there, within four
    /// standard errors, and is not at a shift of 0.1.
    #[test]
    fn squares_have_the_covariance_as_their_mean() {
        let slope = |target: Target, at: f64| {
            let h = 0.01;
            let loss = |shift| {
                let oracle = oracle(Arc::new(Vp::default()));
                let x0 = oracle.mixture.sample(20_000, Seed(1));
                losses(target, &Shifted(oracle, shift), &x0)
            };
            let differences: Vec<f64> =
                loss(at + h).iter().zip(loss(at - h)).map(|(a, b)| (a - b) / (2.0 * h)).collect();
            mean_and_error(&differences)
        };
        for target in [Target::Residual, Target::SecondMoment] {
            let (mean, error) = slope(target, 0.0);
            assert!(mean.abs() < 4.0 * error, "{target:?}: {mean} ± {error}");
            let (mean, error) = slope(target, 0.1);
            assert!(
                (mean - 0.6).abs() < 4.0 * error && error < 0.1,
                "{target:?}: {mean} ± {error}"
            );
        }
    }
}
