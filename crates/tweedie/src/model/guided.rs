//! Classifier-free guidance (Ho & Salimans 2022): a model with classes, led further towards a class
//! than its own conditional distribution goes.

use std::cell::Cell;

use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::{Denoiser, NetworkConfig, Space};
use crate::choice::choices;
use crate::posterior::{HeadOutput, NoiseMoments};
use crate::query::Query;
use crate::sym_matrix::SymMatrix;
use crate::tensor::Count;
use crate::{Error, Result};

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

impl Guidance {
    /// Of the first `channels` of the images of `network` alone; `None`: of all.
    pub fn new(
        scale: f64,
        covariance: GuidedCovariance,
        channels: Option<usize>,
        network: &NetworkConfig,
    ) -> Guidance {
        let pixels = network.image().map(|[_, height, width]| height * width);
        let columns = channels.zip(pixels).map(|(n, pixels)| (n * pixels) as i64);
        Guidance { scale, covariance, columns }
    }

    /// Refuses a scale that leads nowhere, as the setting at this path.
    ///
    /// # Errors
    /// [`Error::Config`] if it is negative or not finite.
    pub fn check_scale(setting: &str, scale: f64) -> Result<()> {
        match scale >= 0.0 && scale.is_finite() {
            true => Ok(()),
            false => {
                let remedy = "give a number from 0: 1 is the class alone, 1.5 to 4 are usual";
                Err(Error::config(setting, scale.to_string(), remedy))
            }
        }
    }
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
    use std::f64::consts::PI;
    use std::sync::Arc;

    use statrs::distribution::{ContinuousCDF, Normal};

    use super::*;
    use crate::covariance::{Own, jacobian};
    use crate::grid::Spacing;
    use crate::noise::Seed;
    use crate::oracle::{ClassOracle, GaussianMixture};
    use crate::posterior::bridge;
    use crate::query::{Condition, Times};
    use crate::sample::{Ancestral, Heun, LastStep, run_chain};
    use crate::schedule::{Schedule, Vp};
    use crate::tensor::to_vec;

    /// Two classes by their components' weights, means and standard deviations, and the mixture of
    /// both as the null class.
    fn two_classes<const D: usize, const N: usize>(
        classes: [([f64; N], [[f64; D]; N], [f64; N]); 2],
    ) -> ClassOracle {
        let mixture = |weights: &[f64], means: &[[f64; D]], sds: &[f64]| {
            GaussianMixture::new(weights, means, sds).unwrap()
        };
        let [(wa, ma, sa), (wb, mb, sb)] = classes;
        let halves: Vec<f64> = [wa, wb].concat().iter().map(|w| 0.5 * w).collect();
        let each = vec![mixture(&wa, &ma, &sa), mixture(&wb, &mb, &sb)];
        let null = mixture(&halves, &[ma, mb].concat(), &[sa, sb].concat());
        ClassOracle::new(each, null, Arc::new(Vp::default()))
    }

    fn in_the_plane() -> ClassOracle {
        two_classes([
            ([0.4, 0.6], [[-1.5, 0.3], [-0.4, 1.0]], [0.4, 0.7]),
            ([0.7, 0.3], [[1.2, -0.6], [0.5, 0.7]], [0.3, 0.5]),
        ])
    }

    fn guidance(scale: f64) -> Guidance {
        Guidance { scale, covariance: GuidedCovariance::Combined, columns: None }
    }

    /// `G_w` is the second Tweedie moment of the guided score: `I − σ ∂ε̂_w/∂x` by autograd.
    #[test]
    fn the_combined_covariance_is_the_guided_scores() {
        let model = in_the_plane();
        let x = Tensor::from_slice2(&[[0.3, -0.2], [-1.0, 0.8], [1.4, 0.1], [0.0, 0.5]]);
        let times = Times::each(vec![0.05, 0.2, 0.4, 0.8]);
        let condition = Condition::classes(&[0, 1, 1, 0]);
        let q = Query::new(&x, &times).given(Some(&condition));
        for scale in [0.0, 0.5, 1.0, 1.2] {
            let guided = Guided::new(&model, guidance(scale));
            let found = guided.moments(&q);
            let (noise, exact) = jacobian::full(&guided, &q);
            let exact = exact.to_dense();
            let gap = |a: &Tensor, b: &Tensor| (a - b).abs().max().double_value(&[]);
            assert!(gap(&found.noise, &noise) < 1e-12);
            // rows where the exact one is no covariance are held
            let least = crate::sym_matrix::eigenvalue_rows(&exact).amin(-1, false);
            let definite = least.gt(0.0).nonzero().squeeze_dim(-1);
            assert!(definite.size()[0] > 0, "w = {scale}");
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
        let model = in_the_plane();
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

    /// A pair of Gaussians on the line.
    fn pair() -> ClassOracle {
        two_classes([([1.0], [[-0.8]], [0.6]), ([1.0], [[0.9]], [0.5])])
    }

    /// The largest gap between the distribution of `samples` and `cdf`, times √n.
    fn gap(samples: &Tensor, cdf: impl Fn(f64) -> f64) -> f64 {
        let mut x = to_vec(samples);
        x.sort_by(f64::total_cmp);
        let n = x.len() as f64;
        let off = |(i, &x): (usize, &f64)| (cdf(x) - (i as f64 + 0.5) / n).abs() + 0.5 / n;
        x.iter().enumerate().map(off).fold(0.0, f64::max) * n.sqrt()
    }

    /// Kolmogorov's distribution has 0.1 % above this.
    const CRITICAL: f64 = 1.95;

    /// Samples by the guided probability flow have the distribution to which the flow brings the
    /// noise: the map from `x_0` to `x_T` is monotone, so that `P(x_0 ≤ x) = Φ(x_T(x)/σ_T)`.
    #[test]
    fn guided_flow_has_its_law() {
        let (model, schedule) = (pair(), Vp::default());
        let guided = Guided::new(&model, guidance(2.0));
        let (n, grid) = (4000, Spacing::Angle.elbo_grid(&schedule, 60));
        let condition = Condition::classes(&vec![1; n]);
        let heun = Heun::new(&guided);
        let samples = run_chain(&heun, &grid[1..], Seed(3), 0..n as u64, Some(&condition)).unwrap();
        // from the data up, on a grid of its own: dx/dt = f x − g² s/2
        let points: Vec<f64> = (0..400).map(|i| -2.0 + 0.0125 * i as f64).collect();
        let class = Condition::classes(&vec![1; points.len()]);
        let slope = |x: &Tensor, t: f64| {
            let times = Times::All(t);
            let noise = guided.noise(&Query::new(x, &times).given(Some(&class)));
            let score = noise * (-1.0 / schedule.sigma(t));
            x * schedule.drift(t) - score * (0.5 * schedule.diffusion2(t))
        };
        let (first, last) = (grid[1], schedule.horizon());
        let mut x = Tensor::from_slice(&points).unsqueeze(-1);
        let steps = 400;
        let h = (last - first) / steps as f64;
        for i in 0..steps {
            let t = first + h * i as f64;
            let a = slope(&x, t);
            let b = slope(&(&x + &a * (h / 2.0)), t + h / 2.0);
            let c = slope(&(&x + &b * (h / 2.0)), t + h / 2.0);
            let d = slope(&(&x + &c * h), t + h);
            x += (a + b * 2.0 + c * 2.0 + d) * (h / 6.0);
        }
        let normal = Normal::standard();
        let values: Vec<f64> =
            to_vec(&x).iter().map(|x| normal.cdf(x / schedule.sigma(last))).collect();
        let cdf = |x: f64| between(&points, &values, x);
        let found = gap(&samples, cdf);
        assert!(found < CRITICAL, "{found}");
        // and not that of the class without guidance, N(0.9, 0.5²)
        let class = gap(&samples, |x| normal.cdf((x - 0.9) / 0.5));
        assert!(class > 5.0 * CRITICAL, "{class}");
    }

    /// `values` at `points`, evenly spaced, read between them.
    fn between(points: &[f64], values: &[f64], x: f64) -> f64 {
        let h = points[1] - points[0];
        let at = ((x - points[0]) / h).clamp(0.0, (points.len() - 1) as f64 - 1e-9);
        let (i, part) = (at as usize, at.fract());
        values[i] + part * (values[i + 1] - values[i])
    }

    /// From −6 to 6.
    fn points_on_the_line(h: f64) -> Vec<f64> {
        (0..(12.0 / h) as usize).map(|i| -6.0 + h * i as f64).collect()
    }

    /// `P(x ≤ y)` at each of evenly spaced `points` `y` after guided ancestral steps towards class 1
    /// down a grid, by quadrature of the steps' own Gaussians.
    fn law_of_steps(guided: &Guided, grid: &[f64], points: &[f64]) -> Vec<f64> {
        let (schedule, h) = (guided.space().schedule(), points[1] - points[0]);
        let class = Condition::classes(&vec![1; points.len()]);
        let x = Tensor::from_slice(points).unsqueeze(-1);
        let last = schedule.sigma(schedule.horizon());
        let bell = |z: f64, sd: f64| (-0.5 * z * z).exp() / (sd * (2.0 * PI).sqrt());
        let mut density: Vec<f64> = points.iter().map(|x| bell(x / last, last)).collect();
        for pair in grid.windows(2).rev() {
            let (s, t) = (Times::All(pair[0]), Times::All(pair[1]));
            let moments = guided.moments(&Query::new(&x, &t).given(Some(&class)));
            let next = bridge(&x, &moments.noise, &moments.cov, schedule, &s, &t, 1.0);
            let (means, variances) = (to_vec(&next.mean), to_vec(&next.cov.diagonal()));
            let mut arrived = vec![0.0; points.len()];
            for ((mean, variance), mass) in means.iter().zip(&variances).zip(&density) {
                let sd = variance.sqrt();
                // nothing is further away
                let place = |y: f64| ((y - points[0]) / h).clamp(0.0, points.len() as f64) as usize;
                for i in place(mean - 9.0 * sd)..place(mean + 9.0 * sd) {
                    arrived[i] += mass * h * bell((points[i] - mean) / sd, sd);
                }
            }
            density = arrived;
        }
        let mut below = 0.0;
        let cdf = density.iter().map(|p| {
            below += p * h;
            below - 0.5 * p * h
        });
        let cdf = cdf.collect();
        assert!((below - 1.0).abs() < 1e-6, "mass {below}");
        cdf
    }

    /// What either covariance costs in steps: the Wasserstein distance between the law of `K` steps
    /// and that of many, which is the same for both. Both are of first order, and the combined
    /// covariance is nearer throughout, by about a fifth.
    #[test]
    fn what_a_guided_covariance_costs_in_steps() {
        use GuidedCovariance::{Combined, Conditional};
        let (model, schedule, points) = (pair(), Vp::default(), points_on_the_line(0.01));
        // even in the angle, down to σ/α = 0.1, the same end for all
        let first = 0.1f64.atan();
        let last = (schedule.sigma(1.0) / schedule.alpha(1.0)).atan();
        let grid = |steps: usize| -> Vec<f64> {
            let angle = |i: usize| first + (last - first) * i as f64 / steps as f64;
            (0..=steps).map(|i| schedule.time_of_log_snr(-2.0 * angle(i).tan().ln())).collect()
        };
        for scale in [1.5, 2.5, 4.0] {
            let law = |covariance, steps| {
                let guided = Guided::new(&model, Guidance { covariance, ..guidance(scale) });
                law_of_steps(&guided, &grid(steps), &points)
            };
            let limit = law(Combined, 128);
            let apart = |steps| {
                [Conditional, Combined].map(|covariance| {
                    let law = law(covariance, steps);
                    let gaps = law.iter().zip(&limit).map(|(a, b)| (a - b).abs());
                    gaps.sum::<f64>() * 0.01
                })
            };
            let found = [4, 8, 16].map(apart);
            println!("w = {scale}: {found:.4?}");
            for [conditional, combined] in found {
                assert!((0.7..0.9).contains(&(combined / conditional)), "w = {scale}: {found:?}");
            }
            for pair in found.windows(2) {
                let order = [0, 1].map(|i| (pair[0][i] / pair[1][i]).log2());
                assert!(order.iter().all(|o| (0.9..1.3).contains(o)), "w = {scale}: {order:?}");
            }
        }
    }

    /// Samples by guided ancestral steps have the distribution that the steps' own Gaussians give
    /// by quadrature, with either covariance, and the two differ.
    #[test]
    fn guided_steps_have_their_law() {
        let (model, schedule) = (pair(), Vp::default());
        let n = 4000;
        let condition = Condition::classes(&vec![1; n]);
        let grid = Spacing::Angle.elbo_grid(&schedule, 8);
        let points = points_on_the_line(0.01);
        let laws = [GuidedCovariance::Conditional, GuidedCovariance::Combined].map(|covariance| {
            let guided = Guided::new(&model, Guidance { covariance, ..guidance(2.5) });
            let step = Ancestral::new(&guided, Own, 1.0, LastStep::Noise).unwrap();
            let samples =
                run_chain(&step, &grid[1..], Seed(5), 0..n as u64, Some(&condition)).unwrap();
            let cdf = law_of_steps(&guided, &grid[1..], &points);
            let found = gap(&samples, |x| between(&points, &cdf, x));
            assert!(found < CRITICAL, "{covariance}: {found}");
            cdf
        });
        let apart = laws[0].iter().zip(&laws[1]).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(apart > 0.02, "the two covariances differ by {apart}");
    }
}
