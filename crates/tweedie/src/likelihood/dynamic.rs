//! The trajectory of `K` steps with the best bound, by dynamic programming over the terms of the
//! ELBO.

use tch::no_grad;

use super::Elbo;
use crate::noise::{Noise, Seed};
use crate::query::{Batch, Query, Times};
use crate::{Error, Result};

/// What a step between any two of some times takes from the ELBO, nats per row. A bound is a sum of
/// such terms, so the grid of `K` of the steps with the highest bound is a shortest path (Watson et
/// al. 2021; Bao et al. 2022, §4).
#[derive(Clone, Debug, PartialEq)]
pub struct StepCosts {
    times: Vec<f64>,
    /// `costs[j][i]`, `i < j`: of the step from `times[j]` to `times[i]`.
    costs: Vec<Vec<f64>>,
}

impl StepCosts {
    /// The terms of `elbo` between all pairs of `times` (increasing, from 0), each averaged over
    /// `rows` (`[n, d]` in the network's units, of levels at their bins' centres) with one draw of
    /// `x_t` per row and time, `batch` of them at a time. The grid of `elbo` plays no part. One
    /// evaluation of the model at each `x_t` serves all steps from `t`. A mean that is not finite
    /// costs infinitely much.
    pub fn measure(
        elbo: &Elbo,
        rows: &Batch,
        times: &[f64],
        batch: usize,
        seed: Seed,
    ) -> StepCosts {
        assert!(times.len() > 1 && times[0] == 0.0, "times of steps start at 0");
        assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "times of steps increase");
        let (n, d) = rows.x.size2().expect("rows [n, d]");
        let space = elbo.model().space();
        let schedule = space.schedule();
        let of_time = |j: usize| -> Vec<f64> {
            let (t, seed) = (times[j], seed.derive(&format!("time {j}")));
            let at = Times::All(t);
            let mut sums = vec![0.0; j];
            for start in (0..n).step_by(batch.max(1)) {
                let count = (batch.max(1) as i64).min(n - start);
                let x0 = space.place(&rows.x.narrow(0, start, count));
                let numbers = start as u64..(start + count) as u64;
                let condition = rows.condition.as_ref();
                let condition =
                    condition.map(|all| all.narrow(start as usize..(start + count) as usize));
                let mut streams = Noise::new(seed, numbers);
                let z = streams.normal(d as usize, x0.kind(), x0.device());
                let xt = &x0 * schedule.alpha(t) + z * schedule.sigma(t);
                let q = Query::new(&xt, &at).given(condition.as_ref());
                let (noise, covariance) = elbo.moments(&q, &mut streams);
                for (sum, &s) in sums.iter_mut().zip(times) {
                    let term = elbo.step_term(&x0, &q, &noise, &covariance, &Times::All(s));
                    *sum -= term.sum(tch::Kind::Double).double_value(&[]);
                }
            }
            let finite = |mean: f64| if mean.is_finite() { mean } else { f64::INFINITY };
            sums.into_iter().map(|sum| finite(sum / n as f64)).collect()
        };
        let costs = no_grad(|| (0..times.len()).map(of_time).collect());
        StepCosts { times: times.to_vec(), costs }
    }

    /// The grid `0 = t_0 < t_1 < … < t_K = T` of least total cost.
    ///
    /// # Errors
    /// If there are fewer than `steps` steps, or no such grid has a finite cost.
    pub fn trajectory(&self, steps: usize) -> Result<Vec<f64>> {
        let last = self.times.len() - 1;
        Error::check_count("steps", steps, last)?;
        // least[j]: over grids of as many steps as rounds so far, from 0 to times[j]; came[k][j]:
        // the time before on it
        let mut least = vec![f64::INFINITY; last + 1];
        least[0] = 0.0;
        let mut came = Vec::with_capacity(steps);
        for _ in 0..steps {
            let best = |j: usize| {
                let totals = (0..j).map(|i| (least[i] + self.costs[j][i], i));
                totals.min_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or((f64::INFINITY, 0))
            };
            let (next, from): (Vec<f64>, Vec<usize>) = (0..=last).map(best).unzip();
            least = next;
            came.push(from);
        }
        if !least[last].is_finite() {
            let problem = format!("no trajectory of {steps} steps has a finite bound");
            return Err(Error::numeric(problem, "take another covariance, or another spacing"));
        }
        let mut path = vec![last];
        for from in came.iter().rev() {
            path.push(from[path[path.len() - 1]]);
        }
        Ok(path.iter().rev().map(|&j| self.times[j]).collect())
    }

    /// The cost of a grid of some of these times, from 0.
    ///
    /// # Panics
    /// If it has a time that is not among them.
    pub fn total(&self, grid: &[f64]) -> f64 {
        let index =
            |t: &f64| self.times.iter().position(|own| own == t).expect("a time of the table");
        let steps: Vec<usize> = grid.iter().map(index).collect();
        steps.windows(2).map(|pair| self.costs[pair[1]][pair[0]]).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::covariance::{Beta, BetaTilde, Covariance, CovarianceConfig, Reverse};
    use crate::grid::{even_trajectory, power_trajectory};
    use crate::likelihood::mean_and_error;
    use crate::model::Denoiser;
    use crate::oracle::{ClassOracle, GaussianMixture, Oracle};
    use crate::query::Condition;
    use crate::schedule::{Schedule, ScheduleConfig, StepLaw};
    use crate::tensor::to_vec;

    fn chain(steps: usize) -> Arc<dyn Schedule> {
        let config = ScheduleConfig::Discrete {
            steps,
            law: StepLaw::Linear,
            beta_start: 0.1 / steps as f64,
            beta_end: (20.0 / steps as f64).min(0.9),
        };
        config.build().unwrap()
    }

    fn elbo<'a>(model: &'a dyn Denoiser, covariance: &'a dyn Covariance) -> Elbo<'a> {
        let reverse = Reverse::new(model, covariance, 1.0).unwrap();
        Elbo::new(reverse, vec![0.0, 1.0], 1)
    }

    fn mixture(schedule: Arc<dyn Schedule>) -> Oracle {
        Oracle::new(
            GaussianMixture::new(&[0.4, 0.6], &[[-1.0, 0.2], [0.8, 0.0]], &[0.3, 0.2]).unwrap(),
            schedule,
        )
    }

    /// Of every path of K steps over 9 times none is cheaper, for each covariance.
    #[test]
    fn equals_brute_force() {
        let data = mixture(chain(8));
        let rows = data.mixture.sample(50, Seed(1));
        let times = even_trajectory(data.space().schedule(), 8).unwrap();
        for covariance in CovarianceConfig::free() {
            let built = covariance.build(&Default::default()).unwrap();
            let costs =
                StepCosts::measure(&elbo(&data, &*built), &Batch::of(&rows), &times, 20, Seed(2));
            for steps in 1..=8usize {
                let grid = costs.trajectory(steps).unwrap();
                assert_eq!((grid.len(), grid[0], grid[steps]), (steps + 1, 0.0, 1.0));
                let inner = 1u32 << 7;
                let least = (0..inner)
                    .filter(|chosen| chosen.count_ones() as usize == steps - 1)
                    .map(|chosen| {
                        let kept = |i: &usize| *i == 0 || *i == 8 || chosen & (1 << (i - 1)) != 0;
                        costs.total(&(0..9).filter(kept).map(|i| times[i]).collect::<Vec<_>>())
                    })
                    .fold(f64::INFINITY, f64::min);
                assert!((costs.total(&grid) - least).abs() < 1e-12, "{covariance} {steps}");
            }
            assert!(costs.trajectory(0).is_err() && costs.trajectory(9).is_err());
        }
    }

    /// One Gaussian of variance v with β̃'s covariance: the KL of a step is between Gaussians of
    /// equal variance β̃ whose means differ by `a (x_0 − x̂_0)`, `a` the forward bridge's factor of
    /// x_0: `a² E(x_0 − x̂_0)²/(2 β̃) = a² v σ²/((α²v + σ²) 2 β̃)`.
    #[test]
    fn costs_of_a_gaussian_are_exact() {
        let (v, schedule) = (0.5f64, chain(100));
        let data = Oracle::new(
            GaussianMixture::new(&[1.0], &[[0.0]], &[v.sqrt()]).unwrap(),
            schedule.clone(),
        );
        let rows = data.mixture.sample(20_000, Seed(1));
        let times = even_trajectory(&*schedule, 5).unwrap();
        let costs = StepCosts::measure(
            &elbo(&data, &BetaTilde),
            &Batch::of(&rows),
            &times,
            20_000,
            Seed(2),
        );
        for j in 2..=5usize {
            for i in 1..j {
                let forward = crate::posterior::ForwardBridge::new(&*schedule, times[i], times[j]);
                let (a2, s2) = (schedule.alpha(times[j]).powi(2), schedule.sigma2(times[j]));
                let exact =
                    forward.of_x0.powi(2) * v * s2 / (a2 * v + s2) / (2.0 * forward.variance);
                // half a squared Gaussian times a factor: its standard error is √2 of its mean over
                // √n
                let error = exact * (2.0f64 / 20_000.0).sqrt();
                let found = costs.costs[j][i];
                assert!((found - exact).abs() < 4.0 * error, "{i} {j}: {found}, {exact} ± {error}");
            }
        }
    }

    /// The bound on the dynamic trajectory is above those on the even and the quadratic one, on
    /// rows and draws of their own by more than four standard errors of the paired difference: β,
    /// ten of a hundred steps.
    #[test]
    fn the_bound_is_better_than_on_other_trajectories() {
        use crate::likelihood::LogLikelihood;
        let data = mixture(chain(100));
        let schedule = data.space().schedule();
        let times = even_trajectory(schedule, 100).unwrap();
        let training = data.mixture.sample(300, Seed(1));
        let costs =
            StepCosts::measure(&elbo(&data, &Beta), &Batch::of(&training), &times, 300, Seed(2));
        let best = costs.trajectory(10).unwrap();
        let rows = data.mixture.sample(2000, Seed(3));
        let bound = |grid: &[f64]| {
            let reverse = Reverse::new(&data, Beta, 1.0).unwrap();
            Elbo::new(reverse, grid.to_vec(), 4)
                .log_likelihood(&Batch::of(&rows), Seed(4), 0)
                .unwrap()
                .values
        };
        let dynamic = bound(&best);
        for power in [1.0, 2.0] {
            let other = power_trajectory(schedule, 10, power).unwrap();
            assert!(costs.total(&best) < costs.total(&other));
            let gains: Vec<f64> = dynamic.iter().zip(bound(&other)).map(|(a, b)| a - b).collect();
            let (gain, error) = mean_and_error(&gains);
            println!("power {power}: gains {gain} ± {error} nats; {best:?}");
            assert!(gain > 4.0 * error, "power {power}: {gain} ± {error}");
        }
        // the table's terms are those of the bound
        let terms =
            StepCosts::measure(&elbo(&data, &Beta), &Batch::of(&rows), &times, 700, Seed(5));
        let prior =
            to_vec(&rows.square().sum_dim_intlist([1].as_slice(), false, None::<tch::Kind>));
        let ratio = schedule.alpha(1.0).powi(2) / schedule.sigma2(1.0);
        let prior = prior.iter().sum::<f64>() / prior.len() as f64 * 0.5 * ratio;
        let (mean, error) = mean_and_error(&dynamic);
        let total = -terms.total(&best) - prior;
        assert!((total - mean).abs() < 8.0 * error, "{total}, {mean} ± {error}");
    }

    /// Levels of a Gaussian pixel, β (its own G would be exact on any grid): the best six of a
    /// hundred steps have a higher bound than the published even ones, on other rows by more than
    /// four standard errors of the paired difference.
    #[test]
    fn levels_have_a_trajectory_too() {
        use crate::likelihood::LogLikelihood;
        let schedule = chain(100);
        let data =
            Oracle::new(GaussianMixture::new(&[1.0], &[[0.0]], &[0.4]).unwrap(), schedule.clone());
        let levels = |seed, n| {
            ((data.mixture.sample(n, Seed(seed)) * 127.5 + 127.5).round() - 127.5) / 127.5
        };
        let levels = |seed, n| levels(seed, n).clamp(-1.0, 1.0);
        let elbo = |grid| Elbo::of_levels(Reverse::new(&data, Beta, 1.0).unwrap(), grid, 1);
        let times = even_trajectory(&*schedule, 100).unwrap();
        let costs = StepCosts::measure(
            &elbo(vec![0.0, 1.0]),
            &Batch::of(&levels(1, 300)),
            &times,
            300,
            Seed(2),
        );
        let (best, even) = (costs.trajectory(6).unwrap(), even_trajectory(&*schedule, 6).unwrap());
        let rows = levels(3, 2000);
        let bound = |grid| elbo(grid).log_likelihood(&Batch::of(&rows), Seed(4), 0).unwrap().values;
        let gains: Vec<f64> = bound(best).iter().zip(bound(even)).map(|(a, b)| a - b).collect();
        let (gain, error) = mean_and_error(&gains);
        println!("levels: gains {gain} ± {error} nats");
        assert!(gain > 4.0 * error, "{gain} ± {error}");
    }

    /// Rows are judged under their classes: costs of rows of two classes are the mean of those of
    /// each, which differ, and do not depend on how many are computed at a time.
    #[test]
    fn rows_have_their_classes() {
        let law = |mean: f64, sd: f64| GaussianMixture::new(&[1.0], &[[mean, 0.5]], &[sd]).unwrap();
        let null = GaussianMixture::new(&[0.5, 0.5], &[[-1.0, 0.5], [1.0, 0.5]], &[0.4, 0.8]);
        let laws = vec![law(-1.0, 0.4), law(1.0, 0.8)];
        let model = ClassOracle::new(laws, null.unwrap(), chain(50));
        let x = law(0.2, 0.7).sample(40, Seed(1));
        let times = [0.0, 0.1, 0.4, 1.0];
        let total = |classes: &[u32], batch| {
            let rows = Batch::of(&x).given(Some(Condition::classes(classes)));
            let costs = StepCosts::measure(&elbo(&model, &Beta), &rows, &times, batch, Seed(2));
            costs.total(&times)
        };
        let mixed: Vec<u32> = (0..40).map(|i| i % 2).collect();
        let other: Vec<u32> = (0..40).map(|i| 1 - i % 2).collect();
        let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
        assert!(near(total(&mixed, 40), total(&mixed, 7)));
        let each = [total(&[0; 40], 40), total(&[1; 40], 40)];
        assert!(!near(each[0], each[1]));
        let both = [total(&mixed, 40), total(&other, 40)];
        assert!(near(both[0] + both[1], each[0] + each[1]), "{both:?} {each:?}");
    }
}
