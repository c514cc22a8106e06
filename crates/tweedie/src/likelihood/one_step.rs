//! A likelihood from few network evaluations: one reverse step from chosen noise levels, under the
//! base's own distribution there.

use tch::{Kind, Tensor};

use super::draws::LowerBound;
use super::elbo::NOT_POSITIVE;
use super::options::{Estimation, EstimatorMethod};
use super::{Estimate, LogLikelihood};
use crate::covariance::Reverse;
use crate::gaussian::LN_2PI;
use crate::model::Denoiser;
use crate::noise::{Noise, Seed};
use crate::query::{Batch, Query, Times};
use crate::schedule::Schedule;
use crate::tensor::{squared_norm, to_vec};
use crate::{Error, Result};

/// The mean over noise levels `t` of
/// `ln p(x_0) ≥ E[ln p(x_0|x_t) + ln b_t(x_t) − ln q(x_t|x_0)]`, `x_t` being drawn from
/// `q(x_t|x_0)`: the bound of the distribution that draws `x_t` from the base's own diffused
/// distribution `b_t` and takes the model's one reverse step `p(x_0|x_t)` from there. It is
/// normalised, and takes one network evaluation for each level; of single rows it may be above the
/// model's `ln p(x_0)`, in the mean over its rows never. Where noise is small it tends to
/// the base's `ln b(x_0)`, and where it is large to the log-density of a Gaussian; in between the
/// model says what the base does not know.
///
/// A level is `σ_t/α_t`: the standard deviation of the noise beside the signal, in network units,
/// in which rows have a spread near 1.
pub struct OneStep<'a> {
    reverse: Reverse<'a>,
    times: Vec<f64>,
    draws: usize,
    name: String,
}

/// Noise levels by default.
pub const NOISE_LEVELS: [f64; 3] = [0.1, 0.3, 1.0];
/// Noise levels at most.
const MOST_LEVELS: usize = 5;

impl<'a> OneStep<'a> {
    /// From these noise levels, with `draws ≥ 1` draws of `x_t` at each.
    ///
    /// # Errors
    /// [`Error::Config`] if there is no level or there are more than five, or one is not within the
    /// process.
    pub fn new(reverse: Reverse<'a>, levels: &[f64], draws: usize) -> Result<OneStep<'a>> {
        assert!(draws > 0, "a bound needs a draw");
        let times = times(reverse.model().space().schedule(), levels)?;
        let words: Vec<String> = levels.iter().map(f64::to_string).collect();
        let name = format!(
            "one step from noise {}, {} covariance",
            words.join(", "),
            reverse.covariance().name()
        );
        Ok(OneStep { reverse, times, draws, name })
    }

    /// The bound of each level at one draw, averaged, `[b]`.
    fn mean_of_levels(&self, batch: &Batch, noise: &mut Noise) -> Tensor {
        let of = |&t: &f64| self.level(batch, t, noise);
        let all: Vec<Tensor> = self.times.iter().map(of).collect();
        Tensor::stack(&all, 0).mean_dim([0i64].as_slice(), false, None::<Kind>)
    }

    fn level(&self, batch: &Batch, t: f64, noise: &mut Noise) -> Tensor {
        let (model, x0) = (self.reverse.model(), &batch.x);
        let (schedule, d) = (model.space().schedule(), x0.size()[1]);
        let times = Times::All(t);
        let z = noise.normal(d as usize, x0.kind(), x0.device());
        let xt = x0 * schedule.alpha(t) + &z * schedule.sigma(t);
        let q = Query::new(&xt, &times).given(batch.condition.as_ref());
        let step = self.reverse.at(&q, &Times::All(0.0), noise);
        let known = model.known_log_density(&q).expect("a model that corrects a distribution");
        let log_q = (squared_norm(&z.to_kind(Kind::Double))
            + d as f64 * (LN_2PI + schedule.sigma2(t).ln()))
            * -0.5;
        step.log_prob(x0).to_kind(Kind::Double) + known.to_kind(Kind::Double) - log_q
    }
}

/// The times of noise levels.
fn times(schedule: &dyn Schedule, levels: &[f64]) -> Result<Vec<f64>> {
    let bad =
        |problem: String, remedy: String| Error::config("score.noise_levels", problem, remedy);
    if levels.is_empty() || levels.len() > MOST_LEVELS {
        let remedy = format!("give one to {MOST_LEVELS}");
        return Err(bad(format!("{} of them", levels.len()), remedy));
    }
    let at = |t: f64| (-0.5 * schedule.log_snr(t)).exp();
    let (least, most) = (at(schedule.epsilon()), at(schedule.horizon()));
    let time = |&level: &f64| match level >= least && level <= most {
        true => Ok(schedule.time_of_log_snr(-2.0 * level.ln())),
        false => {
            let remedy = format!("give levels from {least:.2e} to {most:.2e}");
            Err(bad(level.to_string(), remedy))
        }
    };
    levels.iter().map(time).collect()
}

impl LogLikelihood for OneStep<'_> {
    /// An error, too, where the model corrects no distribution that is known.
    fn log_likelihood(&self, batch: &Batch, seed: Seed, first_row: u64) -> Result<Estimate> {
        let first = batch.narrow(0..batch.len().min(1));
        let times = Times::All(self.times[0]);
        let q = Query::new(&first.x, &times).given(first.condition.as_ref());
        if self.reverse.model().known_log_density(&q).is_none() {
            let problem = "one-step, of a model that corrects no known distribution";
            return Err(Error::config("score.estimator", problem, "give another"));
        }
        let bound = LowerBound {
            estimator: self.name.clone(),
            draws: self.draws,
            evaluations: self.times.len(),
            otherwise: NOT_POSITIVE,
        };
        Ok(bound
            .estimate(batch, (seed, first_row), |noise| to_vec(&self.mean_of_levels(batch, noise))))
    }
}

/// It in the list of estimators.
pub(super) struct Method;

impl EstimatorMethod for Method {
    fn name(&self) -> &'static str {
        "one-step"
    }

    fn help(&self) -> &'static str {
        "Lower bound in one to five network evaluations a draw: one reverse step from each of \
         --noise-levels, under the base's distribution there (fast)"
    }

    fn options(&self) -> &'static [&'static str] {
        &["noise_levels"]
    }

    fn has_covariance(&self) -> bool {
        true
    }

    fn repeats(&self, settings: &Estimation) -> usize {
        settings.draws
    }

    fn evaluations(&self, settings: &Estimation) -> Option<usize> {
        Some(settings.noise_levels.len() * settings.draws)
    }

    fn build<'a>(
        &self,
        model: &'a dyn Denoiser,
        settings: &Estimation,
    ) -> Result<Box<dyn LogLikelihood + 'a>> {
        let reverse = Reverse::new(model, settings.covariance.clone(), 1.0)?;
        Ok(Box::new(OneStep::new(reverse, &settings.noise_levels, 1)?))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::Claim;
    use super::*;
    use crate::covariance::Own;
    use crate::oracle::{GaussianMixture, Oracle};
    use crate::posterior::posterior;
    use crate::schedule::Vp;

    fn oracle(weights: &[f64], means: &[[f64; 1]], sds: &[f64]) -> Oracle {
        let mixture = GaussianMixture::new(weights, means, sds).unwrap();
        Oracle::new(mixture, Arc::new(Vp::default()))
    }

    fn bound(oracle: &Oracle, x: &Tensor, levels: &[f64], draws: usize) -> Estimate {
        let reverse = Reverse::new(oracle, Own, 1.0).unwrap();
        let one_step = OneStep::new(reverse, levels, draws).unwrap();
        one_step.log_likelihood(&Batch::of(x), Seed(3), 0).unwrap()
    }

    const ROWS: [f64; 4] = [-1.2, 0.1, 0.9, 2.5];

    /// Where the data are Gaussian the model's step is the exact posterior, and every draw of the
    /// bound is `ln p(x)`.
    #[test]
    fn of_a_gaussian_it_is_exact() {
        let oracle = oracle(&[1.0], &[[0.4]], &[0.7]);
        let x = Tensor::from_slice(&ROWS).view([4, 1]);
        let exact = to_vec(&oracle.mixture.log_density(&x));
        let found = bound(&oracle, &x, &[0.1, 0.7, 3.0], 1);
        for (found, exact) in found.values.iter().zip(exact) {
            assert!((found - exact).abs() < 1e-9, "{found} {exact}");
        }
        assert_eq!((found.claim, found.evaluations), (Claim::LowerBound, 3.0));
    }

    /// Of a mixture it is what quadrature over the noise gives, is below `ln p(x)` in the mean over
    /// rows of the mixture, being a bound on another density, and tends to `ln p(x)` as the noise
    /// becomes small.
    #[test]
    fn of_a_mixture_it_is_a_bound() {
        let oracle = oracle(&[0.4, 0.6], &[[-1.0], [1.0]], &[0.3, 0.5]);
        let x = Tensor::from_slice(&ROWS).view([4, 1]);
        let exact = to_vec(&oracle.mixture.log_density(&x));
        let vp = Vp::default();
        for level in [0.4, 1.5] {
            let t = vp.time_of_log_snr(-2.0 * f64::ln(level));
            let found = bound(&oracle, &x, &[level], 4000);
            for (i, &row) in ROWS.iter().enumerate() {
                // the trapezium rule over z from −8 to 8
                let z = Tensor::linspace(-8.0, 8.0, 2001, (Kind::Double, x.device())).view([-1, 1]);
                let xt = &z * vp.sigma(t) + row * vp.alpha(t);
                let times = Times::All(t);
                let moments = oracle.moments(&Query::new(&xt, &times));
                let step = posterior(&xt, &moments, &vp, &times);
                let inside = step.log_prob(&Tensor::full_like(&z, row))
                    + oracle.mixture.log_density_at(&xt, &vp, &times)
                    + (z.square().squeeze_dim(1) + LN_2PI + vp.sigma2(t).ln()) * 0.5;
                let weight = (z.square().squeeze_dim(1) * -0.5).exp() * (16.0 / 2000.0);
                let expected =
                    (inside * weight).sum(Kind::Double).double_value(&[]) / LN_2PI.exp().sqrt();
                let (value, error) = (found.values[i], found.std_errors[i]);
                assert!((value - expected).abs() < 4.0 * error + 1e-6, "{value} {expected}");
            }
        }
        let rows = oracle.mixture.sample(3000, Seed(8));
        let gaps = oracle.mixture.log_density(&rows);
        let gaps: Vec<f64> = to_vec(&gaps)
            .iter()
            .zip(bound(&oracle, &rows, &[1.5], 10).values)
            .map(|(exact, found)| exact - found)
            .collect();
        let (gap, error) = crate::statistics::mean_and_error(&gaps);
        assert!(gap > 4.0 * error, "{gap} {error}");
        let near = bound(&oracle, &x, &[0.01], 100);
        for (found, exact) in near.values.iter().zip(exact) {
            assert!((found - exact).abs() < 0.01, "{found} {exact}");
        }
    }

    /// Levels that are none, and a model that corrects no known distribution, are refused.
    #[test]
    fn what_cannot_be_is_refused() {
        let oracle = oracle(&[1.0], &[[0.0]], &[1.0]);
        for levels in [&[][..], &[0.1; 6], &[0.0], &[f64::NAN], &[1e9]] {
            let reverse = Reverse::new(&oracle, Own, 1.0).unwrap();
            let error = OneStep::new(reverse, levels, 1).err().unwrap();
            assert_eq!(error.option(), Some("score.noise_levels"), "{error}");
        }
    }
}
