//! The spectrum of the score's `G`, and the rank that a covariance head needs for it.

use tch::{Tensor, no_grad};

use super::jacobian;
use crate::model::Denoiser;
use crate::noise::{Noise, Seed};
use crate::query::{Batch, Query, Times};
use crate::tensor::{sum_last, to_vec};
use crate::{Error, Result};

/// How near `c I + V Vᵀ` with `V` of rank `r` comes to `G = I + σ²H` of a model's own Jacobian,
/// symmetrised, at points of the forward process. With eigenvalues `λ_1 ≥ … ≥ λ_d` of `G` the best
/// such matrix leaves `Σ_{i>r} (λ_i − c)²` of `‖G‖² = Σ λ_i²` in Frobenius norm, `c` the mean of
/// `λ_{r+1} … λ_d`; a diagonal in place of `c I` leaves at most that.
#[derive(Clone, Debug, PartialEq)]
pub struct Spectrum {
    /// For each `r` from 0 the root of the mean over points of what is left, relative to `‖G‖`.
    left: Vec<f64>,
    /// Points (x_t, t).
    pub points: usize,
}

/// Largest dimension: a point takes `d` products with the Jacobian and an eigendecomposition.
pub const MOST_COLUMNS: i64 = 1024;

impl Spectrum {
    /// Of `model` at `points` points: rows of data (`[n, d]` in its units) in turn, at times even in
    /// the log signal-to-noise ratio.
    ///
    /// # Errors
    /// If rows are of more than [`MOST_COLUMNS`] columns or none, or the model's Jacobian is not
    /// finite.
    pub fn measure(
        model: &dyn Denoiser,
        rows: &Batch,
        points: usize,
        seed: Seed,
    ) -> Result<Spectrum> {
        let (n, d) = rows.x.size2().expect("rows [n, d]");
        if d > MOST_COLUMNS {
            let problem = format!(
                "auto, of rows of {d} columns: the spectrum takes as many products of the network"
            );
            return Err(Error::config("model.head.structure", problem, "give a number"));
        }
        Error::check_count("rows of a spectrum", n as usize, 1_000_000_000)?;
        Error::check_count("points of a spectrum", points, 1_000_000)?;
        let space = model.space();
        let schedule = space.schedule();
        let t: Vec<f64> = (0..points)
            .map(|i| schedule.importance_time((i as f64 + 0.5) / points as f64))
            .collect();
        let drawn: Vec<i64> = (0..points as i64).map(|i| i % n).collect();
        let picked = Tensor::from_slice(&drawn).to_device(rows.x.device());
        let x0 = space.place(&rows.x.index_select(0, &picked));
        let condition = rows.condition.as_ref().map(|all| all.rows(&drawn));
        let z = Noise::new(seed, 0..points as u64).normal(d as usize, x0.kind(), x0.device());
        let times = Times::each(t);
        let (alpha, sigma) = times.marginal(schedule, x0.device());
        let x = &x0 * &alpha + z * &sigma;
        let q = Query::new(&x, &times).given(condition.as_ref());
        let values = no_grad(|| jacobian::eigenvalues(model, &q)).flip([1]);
        if values.isfinite().all().int64_value(&[]) == 0 {
            let remedy = "train the score longer at a lower learning rate";
            return Err(Error::numeric("the score's Jacobian is not finite", remedy));
        }
        let norm = sum_last(&values.square());
        let left = (0..d)
            .map(|r| {
                let rest = values.narrow(1, r, d - r);
                let spread = sum_last(&(&rest - rest.mean_dim(1, true, None)).square());
                let shares = to_vec(&(spread / &norm));
                (shares.iter().sum::<f64>() / points as f64).max(0.0).sqrt()
            })
            .collect();
        Ok(Spectrum { left, points })
    }

    /// What rank `r` leaves, relative to `‖G‖`.
    pub fn left(&self, r: usize) -> f64 {
        self.left.get(r).copied().unwrap_or(0.0)
    }

    /// The least rank that leaves at most `share`.
    pub fn rank(&self, share: f64) -> usize {
        self.left.iter().position(|left| *left <= share).unwrap_or(self.left.len())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tch::{Device, Kind};

    use super::*;
    use crate::oracle::{ClassOracle, GaussianMixture, MixtureParameters, Oracle};
    use crate::query::Condition;
    use crate::schedule::{Schedule, Vp};

    /// For N(0, a I + v vᵀ + w wᵀ) every `G` is isotropic plus rank 2, and what smaller ranks leave
    /// has a closed form: `G` has the eigenvalues `α²λ/(α²λ + σ²)` of the data's `λ`.
    #[test]
    fn has_the_rank_of_the_law() {
        let d = 6;
        let f64 = (Kind::Double, Device::Cpu);
        let (a, v, w) = (0.1, 2.0, 0.7);
        let cov = Tensor::eye(d, f64) * a;
        let _ = cov.get(0).get(0).fill_(a + v);
        let _ = cov.get(1).get(1).fill_(a + w);
        // turned, so that nothing is diagonal
        let turn =
            Tensor::from_slice(&(0..d * d).map(|i| ((7 * i + 3) % 11) as f64).collect::<Vec<_>>());
        let q = Tensor::linalg_qr(&turn.view([d, d]), "reduced").0;
        let cov = q.matmul(&cov).matmul(&q.transpose(0, 1));
        let law = GaussianMixture::from_parameters(&MixtureParameters {
            weights: vec![1.0],
            means: vec![vec![0.0; d as usize]],
            covariances: vec![to_vec(&((&cov + cov.transpose(0, 1)) * 0.5))],
        });
        let oracle = Oracle::new(law.unwrap(), Arc::new(Vp::default()));
        let rows = oracle.mixture.sample(5, Seed(1));
        let found = Spectrum::measure(&oracle, &Batch::of(&rows), 40, Seed(2)).unwrap();
        assert_eq!(found.rank(1e-8), 2);
        assert!(found.left(2) < 1e-9 && found.left(99) == 0.0, "{found:?}");
        let schedule = Vp::default();
        let of_time = |i: usize| {
            let t = schedule.importance_time((i as f64 + 0.5) / 40.0);
            let g = |l: f64| {
                let signal = schedule.alpha(t).powi(2) * l;
                signal / (signal + schedule.sigma2(t))
            };
            let (large, middle, small) = (g(a + v), g(a + w), g(a));
            let mean = (middle + 4.0 * small) / 5.0;
            let spread = (middle - mean).powi(2) + 4.0 * (small - mean).powi(2);
            spread / (large * large + middle * middle + 4.0 * small * small)
        };
        let exact = ((0..40).map(of_time).sum::<f64>() / 40.0).sqrt();
        assert!((found.left(1) - exact).abs() < 1e-8, "{} {exact}", found.left(1));
        assert!(found.rank(exact * 1.01) == 1 && found.rank(exact * 0.99) == 2);
    }

    /// Rows are taken under their classes, of which here one has an isotropic `G`, the other not.
    #[test]
    fn rows_have_their_classes() {
        let law = |sd: f64| GaussianMixture::new(&[1.0], &[[0.0, 0.0, 0.0]], &[sd]).unwrap();
        let spread =
            GaussianMixture::new(&[0.5, 0.5], &[[-1.0, 0.0, 0.0], [1.0, 0.5, 0.0]], &[0.2, 0.2]);
        let laws = vec![law(0.5), spread.unwrap()];
        let model = ClassOracle::new(laws, law(1.0), Arc::new(Vp::default()));
        let rows = law(0.7).sample(5, Seed(1));
        let left = |class: u32| {
            let rows = Batch::of(&rows).given(Some(Condition::classes(&[class; 5])));
            Spectrum::measure(&model, &rows, 20, Seed(2)).unwrap().left(0)
        };
        assert!(left(0) < 1e-9 && left(1) > 0.01, "{} {}", left(0), left(1));
    }
}
