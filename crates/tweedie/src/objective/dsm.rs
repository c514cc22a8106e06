//! Denoising score matching: the "SM" baseline, and ScoreFlow's likelihood weighting.

use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::pairs::{Pairs, times};
use super::{Objective, Trains};
use crate::grid::TimeDistribution;
use crate::model::Denoiser;
use crate::noise::{Draw, Noise};
use crate::query::Batch;
use crate::schedule::Schedule;
use crate::tensor::squared_norm;
use crate::{Error, Result};

/// The weight `w(t)` of the loss on `‖ε̂ − ε‖²`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weighting {
    /// `λ = σ²` on the score: weight 1 on the noise (Ho et al.; Song et al.'s "σ² weighting").
    #[default]
    Sigma2,
    /// `λ = g²` on the score: weight `g²/σ²` on the noise (ScoreFlow, eq. 8).
    Likelihood,
    /// Between the two, `λ = σ^{2(1−p)} g^{2p}`, `p` from 0 to 1: weight `(g²/σ²)^p` on the noise.
    /// Trades likelihood for sample quality (ScoreFlow, §5.3).
    Interpolated(f64),
    /// The weight on the noise as a table of `[t, w]`, `t` increasing and `w ≥ 0`; linear between,
    /// constant beyond.
    Table(Vec<[f64; 2]>),
}

impl Weighting {
    /// `w(t)`.
    pub fn at(&self, schedule: &dyn Schedule, t: f64) -> f64 {
        let likelihood = || schedule.diffusion2(t) / schedule.sigma2(t);
        match self {
            Weighting::Sigma2 => 1.0,
            Weighting::Likelihood => likelihood(),
            Weighting::Interpolated(power) => likelihood().powf(*power),
            Weighting::Table(points) => {
                let next = points.partition_point(|point| point[0] <= t);
                let (before, after) = (points[next.max(1) - 1], points[next.min(points.len() - 1)]);
                match after[0] - before[0] {
                    gap if gap > 0.0 => before[1] + (after[1] - before[1]) * (t - before[0]) / gap,
                    _ => before[1],
                }
            }
        }
    }

    /// Checks numbers of a configuration.
    ///
    /// # Errors
    /// If `p` is not from 0 to 1, or the table is no function with a positive value.
    pub fn check(&self) -> Result<()> {
        let bad = |problem: String, remedy: &str| {
            Err(Error::config("objective.weighting", problem, remedy))
        };
        match self {
            Weighting::Interpolated(power) if !(0.0..=1.0).contains(power) => bad(
                format!("interpolated = {power}"),
                "give a number from 0 (sigma2) to 1 (likelihood)",
            ),
            Weighting::Table(points) => {
                let numbers = points.iter().flatten().all(|v| v.is_finite());
                let weights =
                    points.iter().all(|point| point[1] >= 0.0) && points.iter().any(|p| p[1] > 0.0);
                if numbers && weights && points.windows(2).all(|pair| pair[0][0] < pair[1][0]) {
                    return Ok(());
                }
                let remedy =
                    "give pairs [t, weight] with increasing t and weights of at least 0, not all 0";
                bad(format!("table = {points:?}"), remedy)
            }
            _ => Ok(()),
        }
    }
}

/// `(T − ε)⁻¹ ∫ w(t) E‖ε̂(x_t) − ε‖² dt` per row, by `draws` draws: how `t` is drawn changes the
/// variance, not the mean. With [`Weighting::Likelihood`] and [`TimeDistribution::LogSnr`],
/// ScoreFlow's importance sampling, the factor on the squared error is the constant `Z/(T − ε)`.
#[derive(Clone, Debug, PartialEq)]
pub struct DenoisingScoreMatching {
    /// The weight of each time.
    pub weighting: Weighting,
    /// How `t` is drawn.
    pub time: TimeDistribution,
    /// Draws of (t, ε) per row.
    pub draws: usize,
}

impl DenoisingScoreMatching {
    /// The factor on `‖ε̂ − ε‖²` at a drawn `t`: weight over density of `t`, relative to
    /// the uniform one.
    fn factor(&self, schedule: &dyn Schedule, t: f64) -> f64 {
        match (&self.weighting, self.time) {
            (weighting, TimeDistribution::Uniform) => weighting.at(schedule, t),
            (weighting, TimeDistribution::LogSnr) => {
                let mean =
                    schedule.importance_normalizer() / (schedule.horizon() - schedule.epsilon());
                match weighting {
                    Weighting::Likelihood => mean,
                    weighting => {
                        mean * weighting.at(schedule, t) / Weighting::Likelihood.at(schedule, t)
                    }
                }
            }
        }
    }
}

impl Objective for DenoisingScoreMatching {
    fn loss(&self, model: &dyn Denoiser, batch: &Batch, noise: &mut Noise) -> Tensor {
        let schedule = model.space().schedule();
        let t = times(self.time, schedule, self.draws, noise);
        let factors: Vec<[f64; 1]> = t.iter().map(|&t| [self.factor(schedule, t)]).collect();
        let (pairs, [factor]) = Pairs::draw(schedule, batch, t, factors, noise);
        let error = squared_norm(&(model.noise(&pairs.query()) - &pairs.z));
        pairs.mean(&(error * &factor))
    }

    fn draws(&self) -> usize {
        self.draws
    }

    fn noise(&self, dim: usize) -> Vec<Draw> {
        Pairs::noise(self.draws, dim)
    }

    fn trains(&self) -> Trains {
        Trains::Score
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::likelihood::mean_and_error;
    use crate::model::Denoiser;
    use crate::noise::Seed;
    use crate::oracle::{GaussianMixture, Oracle};
    use crate::schedule::{SubVp, Ve, Vp};
    use crate::tensor::to_vec;

    fn schedules() -> Vec<Arc<dyn Schedule>> {
        vec![Arc::new(Vp::default()), Arc::new(SubVp::default()), Arc::new(Ve::default())]
    }

    /// For N(0, v) the loss at `t` is `w(t) G(t)`, `G = α²v/(α²v + σ²)`: against its integral by
    /// the midpoint rule in log-SNR, within four Monte-Carlo errors, under both distributions of
    /// `t`.
    #[test]
    fn the_law_of_t_does_not_change_the_mean() {
        let v: f64 = 0.6;
        let table = Weighting::Table(vec![[0.1, 0.0], [0.4, 2.0], [1.0, 1.0]]);
        for schedule in schedules() {
            let mixture = GaussianMixture::new(&[1.0], &[[0.0]], &[v.sqrt()]).unwrap();
            let oracle = Oracle::new(mixture, schedule.clone());
            let x0 = oracle.mixture.sample(40_000, Seed(1));
            for weighting in [
                Weighting::Sigma2,
                Weighting::Likelihood,
                Weighting::Interpolated(0.5),
                table.clone(),
            ] {
                let n = 100_000;
                let span = schedule.horizon() - schedule.epsilon();
                let exact = (0..n)
                    .map(|i| schedule.importance_time((i as f64 + 0.5) / n as f64))
                    .map(|t| {
                        let signal = schedule.alpha(t).powi(2) * v;
                        let g = signal / (signal + schedule.sigma2(t));
                        let density = Weighting::Likelihood.at(&*schedule, t)
                            / schedule.importance_normalizer();
                        weighting.at(&*schedule, t) * g / density / span / n as f64
                    })
                    .sum::<f64>();
                for time in [TimeDistribution::Uniform, TimeDistribution::LogSnr] {
                    let loss =
                        DenoisingScoreMatching { weighting: weighting.clone(), time, draws: 1 };
                    let mut noise = Noise::new(Seed(2), 0..40_000);
                    let (mean, error) =
                        mean_and_error(&to_vec(&loss.loss(&oracle, &Batch::of(&x0), &mut noise)));
                    println!(
                        "{:?} {weighting:?} {time:?}: {mean} ± {error}, {exact}",
                        oracle.space().schedule()
                    );
                    assert!(
                        (mean - exact).abs() < 4.0 * error,
                        "{weighting:?} {time:?}: {mean} {exact}"
                    );
                }
            }
        }
    }

    /// Where the likelihood weighting is steep, importance sampling makes the loss quieter; σ²
    /// weighting is quieter still when `t` is uniform.
    #[test]
    fn importance_sampling_reduces_the_variance() {
        let mixture = GaussianMixture::new(&[1.0], &[[0.0]], &[1.0]).unwrap();
        let oracle = Oracle::new(mixture, Arc::new(Vp::default()));
        let x0 = oracle.mixture.sample(20_000, Seed(1));
        let error = |time| {
            let loss = DenoisingScoreMatching { weighting: Weighting::Likelihood, time, draws: 1 };
            mean_and_error(&to_vec(&loss.loss(
                &oracle,
                &Batch::of(&x0),
                &mut Noise::new(Seed(2), 0..20_000),
            )))
            .1
        };
        let (uniform, importance) =
            (error(TimeDistribution::Uniform), error(TimeDistribution::LogSnr));
        assert!(importance < 0.5 * uniform, "{importance} {uniform}");
    }

    #[test]
    fn tables_are_linear_between_their_points() {
        let (vp, table) = (Vp::default(), Weighting::Table(vec![[0.2, 1.0], [0.6, 3.0]]));
        let found: Vec<f64> = [0.0, 0.2, 0.3, 0.6, 1.0].iter().map(|&t| table.at(&vp, t)).collect();
        assert!(
            found.iter().zip([1.0, 1.0, 1.5, 3.0, 3.0]).all(|(a, b)| (a - b).abs() < 1e-14),
            "{found:?}"
        );
        assert_eq!(Weighting::Table(vec![[0.5, 2.0]]).at(&vp, 0.1), 2.0);
        for wrong in [
            vec![],
            vec![[0.0, 0.0]],
            vec![[0.5, 1.0], [0.5, 2.0]],
            vec![[0.0, -1.0]],
            vec![[f64::NAN, 1.0]],
        ] {
            assert!(Weighting::Table(wrong.clone()).check().is_err(), "{wrong:?}");
        }
        assert!(Weighting::Interpolated(1.5).check().is_err());
    }
}
