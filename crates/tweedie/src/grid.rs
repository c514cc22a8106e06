//! Time grids: at which times training, sampling and likelihoods evaluate the process.
//!
//! A grid is increasing, from the data at `t_0 = 0` to the horizon `T`. [`Spacing`] lays `K` steps
//! in continuous time; [`even_trajectory`] and its neighbours pick `K` steps of a discrete chain.
//!
//! ```
//! use tweedie::grid::Spacing;
//! use tweedie::schedule::{Schedule, Vp};
//!
//! let schedule = Vp::default();
//! let grid = Spacing::LogSnr.elbo_grid(&schedule, 10);
//! assert_eq!((grid.len(), grid[0], grid[1], grid[10]), (11, 0.0, schedule.epsilon(), 1.0));
//! // equal steps in the log signal-to-noise ratio, after the step from the data
//! let drop = |pair: &[f64]| schedule.log_snr(pair[0]) - schedule.log_snr(pair[1]);
//! let drops: Vec<f64> = grid[1..].windows(2).map(drop).collect();
//! assert!(drops.iter().all(|d| (d - drops[0]).abs() < 1e-6));
//! ```

use crate::choice::{Choice, choices, named};
use crate::schedule::Schedule;
use crate::{Error, Result};

choices! {
    /// How the `K` steps of a sampler or an ELBO are laid between a first time and `T`.
    pub enum Spacing = Angle {
        /// Equal steps in time; of a discrete schedule and of levels Analytic-DPM's and OCM's even
        /// trajectory
        Even = "even",
        /// Equal steps in the root of time: finer near the data; of a discrete schedule and of
        /// levels DDIM's quadratic trajectory, which begins at 0.8 T
        Quadratic = "quadratic",
        /// Equal steps in the log signal-to-noise ratio
        LogSnr = "log-snr",
        /// Equal steps in the angle of signal and noise
        Angle = "angle",
    }
}

/// How steps are laid in time: by a rule, or by a measurement on training rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SpacingConfig {
    /// By a rule.
    Laid(Spacing),
    /// The steps with the best bound on training rows, by dynamic programming
    /// ([`crate::likelihood::StepCosts`]).
    Dynamic,
}

impl Default for SpacingConfig {
    fn default() -> SpacingConfig {
        SpacingConfig::Laid(Spacing::default())
    }
}

impl SpacingConfig {
    /// The rule.
    ///
    /// # Errors
    /// [`Error::Config`] for `field`, if there is none: it takes training data.
    pub fn laid(self, field: &str) -> Result<Spacing> {
        match self {
            SpacingConfig::Laid(spacing) => Ok(spacing),
            SpacingConfig::Dynamic => Err(Error::config(
                field,
                "dynamic, where there are no training data",
                "take another",
            )),
        }
    }
}

impl Choice for SpacingConfig {
    fn all() -> Vec<SpacingConfig> {
        let laid = Spacing::all().into_iter().map(SpacingConfig::Laid);
        laid.chain([SpacingConfig::Dynamic]).collect()
    }

    fn name(self) -> &'static str {
        match self {
            SpacingConfig::Laid(spacing) => spacing.name(),
            SpacingConfig::Dynamic => "dynamic",
        }
    }

    fn help(self) -> &'static str {
        match self {
            SpacingConfig::Laid(spacing) => spacing.help(),
            SpacingConfig::Dynamic => {
                "The steps with the best bound on training rows, by dynamic programming (at most \
                 200)"
            }
        }
    }
}

named!(SpacingConfig);

impl Spacing {
    /// All spacings, for tables and help texts.
    pub const ALL: [Spacing; 4] =
        [Spacing::Even, Spacing::Quadratic, Spacing::LogSnr, Spacing::Angle];

    /// `K + 1` increasing times from `first` to the horizon `T`.
    ///
    /// # Panics
    /// If `steps` is 0 or `first` is not below the horizon.
    pub fn grid(self, schedule: &dyn Schedule, steps: usize, first: f64) -> Vec<f64> {
        let last = schedule.horizon();
        assert!(steps > 0, "a grid needs a step");
        assert!(first < last, "grid from {first} to {last}");
        let along = |a: f64, b: f64, i: usize| a + (b - a) * i as f64 / steps as f64;
        let mut grid: Vec<f64> = (0..=steps)
            .map(|i| match self {
                Spacing::Even => along(first, last, i),
                Spacing::Quadratic => along(first.sqrt(), last.sqrt(), i).powi(2),
                Spacing::LogSnr => {
                    let floor = first.max(1e-12);
                    schedule.time_of_log_snr(along(
                        schedule.log_snr(floor),
                        schedule.log_snr(last),
                        i,
                    ))
                }
                Spacing::Angle => {
                    let angle = |t: f64| schedule.sigma(t).atan2(schedule.alpha(t));
                    // a process that jumps from the data has no angle below that after the jump
                    let start = angle(first.max(f64::MIN_POSITIVE));
                    let ratio = along(start, angle(last), i).tan();
                    schedule.time_of_log_snr(-2.0 * ratio.ln())
                }
            })
            .collect();
        grid[0] = first;
        grid[steps] = last;
        grid
    }

    /// The trajectory of this name that is published for chains, [`even_trajectory`] or
    /// [`quadratic_trajectory`], if there is one.
    ///
    /// # Errors
    /// As those, if the chain has not so many steps.
    pub fn trajectory(self, schedule: &dyn Schedule, steps: usize) -> Option<Result<Vec<f64>>> {
        match self {
            Spacing::Even => Some(even_trajectory(schedule, steps)),
            Spacing::Quadratic => Some(quadratic_trajectory(schedule, steps)),
            Spacing::LogSnr | Spacing::Angle => None,
        }
    }

    /// The grid of a sampler of `K` steps: of a discrete schedule [`Spacing::trajectory`], where
    /// there is one, else [`Spacing::elbo_grid`].
    ///
    /// # Errors
    /// If the chain has not so many steps.
    pub fn sampling_grid(self, schedule: &dyn Schedule, steps: usize) -> Result<Vec<f64>> {
        match self.trajectory(schedule, steps).filter(|_| schedule.is_chain()) {
            Some(trajectory) => trajectory,
            None => Ok(self.elbo_grid(schedule, steps)),
        }
    }

    /// The grid of a `K`-step ELBO for continuous data: `0, t_1 = ε, …, t_K = T`. The step from `ε`
    /// to 0 is the Gaussian decoder `N(x_0; μ_0, C_0)`.
    pub fn elbo_grid(self, schedule: &dyn Schedule, steps: usize) -> Vec<f64> {
        if steps == 1 {
            return vec![0.0, schedule.horizon()];
        }
        let mut grid = vec![0.0];
        grid.extend(self.grid(schedule, steps - 1, schedule.epsilon()));
        grid
    }
}

/// The even trajectory of `K` out of the chain's `N` steps that published bits per dimension and
/// few-step samples use (Bao et al. 2022; OCM): the times of the steps
/// `round(1 + k (N − 1)/(K − 1))`, `k = 0 … K − 1`, after `t_0 = 0`. As in Analytic-DPM's code the
/// strides are added up in f64 and halves are rounded to the even number, so that every step is the
/// published one: step 12 of K = 25, N = 1000 is 500.
///
/// # Errors
/// If `steps` is 0 or more than `N`.
pub fn even_trajectory(schedule: &dyn Schedule, steps: usize) -> Result<Vec<f64>> {
    let all = schedule.steps();
    Error::check_count("steps", steps, all)?;
    if steps == 1 {
        return Ok(times_of(schedule, [all]));
    }
    let stride = (all - 1) as f64 / (steps - 1) as f64;
    let mut at = 1.0;
    let step = |_| {
        let step = f64::round_ties_even(at) as usize;
        at += stride;
        step
    };
    Ok(times_of(schedule, rising((0..steps).map(step), all)))
}

/// The trajectory of `K` out of the chain's `N` steps by a power law: the times of the steps
/// `round(1 + (N − 1) (k/(K − 1))^p)`, `k = 0 … K − 1`, after `t_0 = 0`; a step that would not be
/// above the one before is the next above it. `p = 1` is even but for the rounding of halves,
/// `p > 1` finer near the data.
///
/// # Errors
/// If `steps` is 0 or more than `N`, or `power` is not a positive number.
pub fn power_trajectory(schedule: &dyn Schedule, steps: usize, power: f64) -> Result<Vec<f64>> {
    let all = schedule.steps();
    Error::check_count("steps", steps, all)?;
    if !(power > 0.0 && power.is_finite()) {
        return Err(Error::config(
            "power",
            format!("{power}"),
            "give a positive number; 2 is quadratic",
        ));
    }
    if steps == 1 {
        return Ok(times_of(schedule, [all]));
    }
    let end = ((steps - 1) as f64).powf(power);
    let step = |k: usize| (1.0 + (all - 1) as f64 * (k as f64).powf(power) / end).round() as usize;
    Ok(times_of(schedule, rising((0..steps).map(step), all)))
}

/// DDIM's quadratic trajectory (Song et al. 2021, appendix D.2) as its published code has it: the
/// times of the steps `⌊c k²⌋ + 1`, `k = 0 … K − 1`, after `t_0 = 0`, where `c` takes the last to
/// `⌊0.8 N⌋ + 1`, not to `N`. It is `_choice_steps_quad_ddim` of Analytic-DPM's code, and of
/// DDIM's, which counts steps from 0. A step that would not be above the one before is the next
/// above it: for N = 1000 from K = 30 on, where those repeat the first.
///
/// # Errors
/// If `steps` is 0 or more than `⌊0.8 N⌋ + 1`.
pub fn quadratic_trajectory(schedule: &dyn Schedule, steps: usize) -> Result<Vec<f64>> {
    let last = schedule.steps() * 4 / 5 + 1;
    Error::check_count("steps", steps, last)?;
    let span = 0.8 * schedule.steps() as f64;
    let along = |k: usize| (k as f64 / (steps.max(2) - 1) as f64).powi(2);
    // floor, but not of what floating point left just below a whole number
    let step = |k: usize| (span * along(k) + 1e-9).floor() as usize + 1;
    Ok(match steps {
        1 => times_of(schedule, [last]),
        _ => times_of(schedule, rising((0..steps).map(step), last)),
    })
}

/// The steps, each at least one above the one before, and low enough that the last is at most
/// `last`.
fn rising(steps: impl ExactSizeIterator<Item = usize>, last: usize) -> Vec<usize> {
    let (count, mut before) = (steps.len(), 0);
    steps
        .enumerate()
        .map(|(k, step)| {
            before = step.max(before + 1).min(last + 1 - (count - k));
            before
        })
        .collect()
}

/// `t_0 = 0` and the times of the chain's steps.
fn times_of(schedule: &dyn Schedule, steps: impl IntoIterator<Item = usize>) -> Vec<f64> {
    let of = |step: usize| step as f64 * schedule.horizon() / schedule.steps() as f64;
    std::iter::once(0.0).chain(steps.into_iter().map(of)).collect()
}

choices! {
    /// In which clock training times are uniform.
    pub enum TimeDistribution = LogSnr {
        /// Uniform in `t`, as the Likelihood Matching paper draws them.
        Uniform = "uniform",
        /// Uniform in the log signal-to-noise ratio: ScoreFlow's importance sampling.
        LogSnr = "log-snr",
    }
}

impl TimeDistribution {
    /// The time at quantile `u` of the distribution on `[ε, T]`.
    pub fn time(self, schedule: &dyn Schedule, u: f64) -> f64 {
        let (first, last) = (schedule.epsilon(), schedule.horizon());
        match self {
            TimeDistribution::Uniform => first + (last - first) * u,
            TimeDistribution::LogSnr => schedule.importance_time(u),
        }
    }
}

choices! {
    /// How the times of a path's transitions are laid under Likelihood Matching.
    pub enum PathGrid = Random {
        /// Drawn anew for every row, uniform over the simplex (15): from ε to T; a single
        /// transition goes from ε to a random time.
        Random = "random",
        /// Fixed in advance, with equal steps from ε to T: the quasi-likelihood (10)–(12).
        Equidistant = "equidistant",
    }
}

impl PathGrid {
    /// How many uniform numbers the times of `transitions` transitions take.
    pub fn uniforms(self, transitions: usize) -> usize {
        match self {
            PathGrid::Random => (transitions - 1).max(1),
            PathGrid::Equidistant => 0,
        }
    }

    /// The `N + 1` increasing times of `N` transitions, in the clock `time`.
    ///
    /// Random: `t_0 = ε`, `t_N = T` and the `uniforms` (`N − 1` of them) sorted between, uniform
    /// over the simplex of gaps (Likelihood Matching, Algorithm 2); with `N = 1` the transition
    /// from `ε` to a time drawn by its one uniform number. Equidistant: the quantiles `i/N`.
    ///
    /// # Panics
    /// If there are not [`PathGrid::uniforms`] numbers.
    pub fn times(
        self,
        time: TimeDistribution,
        schedule: &dyn Schedule,
        transitions: usize,
        uniforms: &[f64],
    ) -> Vec<f64> {
        assert_eq!(uniforms.len(), self.uniforms(transitions), "uniform numbers of a path");
        let mut quantiles: Vec<f64> = match self {
            PathGrid::Random => uniforms.to_vec(),
            PathGrid::Equidistant => {
                (1..transitions).map(|i| i as f64 / transitions as f64).collect()
            }
        };
        quantiles.sort_by(f64::total_cmp);
        let inner = quantiles.into_iter().map(|u| time.time(schedule, u));
        let mut times: Vec<f64> = std::iter::once(schedule.epsilon()).chain(inner).collect();
        if times.len() <= transitions {
            times.push(schedule.horizon());
        }
        times
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::{Ve, Vp};

    #[test]
    fn grids_increase_from_first_to_last() {
        let all: [&dyn Schedule; 3] = [&Vp::default(), &Vp::cosine(0.008), &Ve::default()];
        for vp in all {
            for spacing in Spacing::ALL {
                for steps in [1, 2, 10, 1000] {
                    let from_data = spacing.grid(vp, steps, 0.0);
                    assert!(
                        from_data.windows(2).all(|w| w[0] < w[1]),
                        "{spacing:?} {steps} from 0"
                    );
                    let grid = spacing.grid(vp, steps, 1e-5);
                    assert_eq!((grid[0], grid[steps]), (1e-5, 1.0));
                    assert!(grid.windows(2).all(|w| w[0] < w[1]), "{spacing:?} {steps}");
                }
                assert_eq!(spacing.elbo_grid(vp, 5).len(), 6);
            }
        }
    }

    /// Steps of OCM_DPM's even trajectories for N = 1000, which are those of Analytic-DPM's
    /// `_choice_steps_linear`; by Python, whose `round` takes halves to the even number.
    #[test]
    fn even_trajectories_are_the_published_ones() {
        let vp = Vp::default();
        let steps = |k: usize| -> Vec<i64> {
            even_trajectory(&vp, k).unwrap().iter().map(|t| (t * 1000.0).round() as i64).collect()
        };
        assert_eq!(steps(1), [0, 1000]);
        assert_eq!(steps(2), [0, 1, 1000]);
        assert_eq!(steps(10), [0, 1, 112, 223, 334, 445, 556, 667, 778, 889, 1000]);
        let twenty_five = [
            0, 1, 43, 84, 126, 168, 209, 251, 292, 334, 376, 417, 459, 500, 542, 584, 625, 667,
            709, 750, 792, 834, 875, 917, 958, 1000,
        ];
        assert_eq!(steps(25), twenty_five);
        assert_eq!(steps(1000), (0..=1000).collect::<Vec<_>>());
        assert!(even_trajectory(&vp, 1001).is_err());
    }

    /// Steps of Analytic-DPM's `_choice_steps_quad_ddim` for N = 1000, `int(s) + 1` of
    /// `linspace(0, sqrt(800), K)**2` by NumPy 2.4.6; at K = 100 those run 1, 1, 1, 1, 2, 3, 3, …,
    /// which is no chain.
    #[test]
    fn quadratic_trajectories_are_the_published_ones() {
        let vp = Vp::default();
        let steps = |grid: Vec<f64>| -> Vec<i64> {
            grid.iter().map(|t| (t * 1000.0).round() as i64).collect()
        };
        let quadratic = |k| steps(quadratic_trajectory(&vp, k).unwrap());
        assert_eq!(quadratic(10), [0, 1, 10, 40, 89, 159, 247, 356, 484, 633, 801]);
        let twenty = [
            0, 1, 3, 9, 20, 36, 56, 80, 109, 142, 180, 222, 269, 320, 375, 435, 499, 568, 641, 719,
            801,
        ];
        assert_eq!(quadratic(20), twenty);
        assert_eq!(quadratic(2), [0, 1, 801]);
        assert_eq!(quadratic(1), [0, 801]);
        assert_eq!(quadratic(801), (0..=801).collect::<Vec<_>>());
        assert!(quadratic_trajectory(&vp, 802).is_err() && quadratic_trajectory(&vp, 0).is_err());
        let power = |k, p| steps(power_trajectory(&vp, k, p).unwrap());
        // 1 + 999 (k/4)³: 1, 16.6, 125.9, 422.5, 1000
        assert_eq!(power(5, 3.0), [0, 1, 17, 126, 422, 1000]);
        for p in [0.3, 1.0, 2.0, 7.0] {
            for k in [1, 2, 100, 999, 1000] {
                let all = power(k, p);
                assert!(
                    all.len() == k + 1 && all[k] == 1000 && all.windows(2).all(|w| w[0] < w[1]),
                    "{k} {p}"
                );
            }
        }
        assert!(
            power_trajectory(&vp, 10, 0.0).is_err() && power_trajectory(&vp, 10, f64::NAN).is_err()
        );
    }

    /// `even` and `quadratic` are the published trajectories of a discrete schedule alone, and the
    /// other spacings of none.
    #[test]
    fn chains_have_trajectories() {
        let chain = Vp::discrete(vec![0.01; 50]);
        let grid = |spacing: Spacing, k| spacing.sampling_grid(&chain, k).unwrap();
        assert_eq!(grid(Spacing::Even, 8), even_trajectory(&chain, 8).unwrap());
        assert_eq!(grid(Spacing::Quadratic, 8), quadratic_trajectory(&chain, 8).unwrap());
        assert!(Spacing::Even.sampling_grid(&chain, 51).is_err());
        assert!(Spacing::Quadratic.sampling_grid(&chain, 42).is_err());
        for spacing in [Spacing::Angle, Spacing::LogSnr] {
            assert_eq!(grid(spacing, 8), spacing.elbo_grid(&chain, 8));
        }
        for spacing in Spacing::ALL {
            let vp = Vp::default();
            assert_eq!(spacing.sampling_grid(&vp, 8).unwrap(), spacing.elbo_grid(&vp, 8));
        }
    }

    /// The gaps of a random grid are uniform on the simplex: each has mean 1/N of the span.
    #[test]
    fn random_grid_gaps_are_exchangeable() {
        use rand::{RngExt, SeedableRng};
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(3);
        let (vp, n, draws) = (Vp::default(), 4usize, 20_000);
        let mut mean = vec![0.0; n];
        for _ in 0..draws {
            let u: Vec<f64> = (0..n - 1).map(|_| rng.random()).collect();
            let grid = PathGrid::Random.times(TimeDistribution::Uniform, &vp, n, &u);
            for i in 0..n {
                mean[i] += (grid[i + 1] - grid[i]) / draws as f64;
            }
        }
        // a gap is Beta(1, 3): sd 0.194, so four standard errors are 0.0055
        assert!(mean.iter().all(|m| (m - 0.25).abs() < 0.0055), "{mean:?}");
    }

    /// One random transition goes from ε to the time drawn; equal steps of the log signal-to-noise
    /// ratio are equal, and of time too.
    #[test]
    fn paths_have_one_transition_or_equal_ones() {
        let (vp, epsilon) = (Vp::default(), Vp::default().epsilon());
        let (uniform, log_snr) = (TimeDistribution::Uniform, TimeDistribution::LogSnr);
        let one = PathGrid::Random.times(uniform, &vp, 1, &[0.25]);
        assert_eq!(one, [epsilon, epsilon + (1.0 - epsilon) * 0.25]);
        let even = PathGrid::Equidistant.times(uniform, &vp, 4, &[]);
        let step = (1.0 - epsilon) / 4.0;
        for (i, t) in even.iter().enumerate() {
            assert!((t - epsilon - step * i as f64).abs() < 1e-15, "{even:?}");
        }
        let even = PathGrid::Equidistant.times(log_snr, &vp, 5, &[]);
        let z = vp.importance_normalizer() / 5.0;
        for pair in even.windows(2) {
            assert!((vp.log_snr(pair[0]) - vp.log_snr(pair[1]) - z).abs() < 1e-8, "{even:?}");
        }
        assert_eq!((even.len(), even[0], even[5]), (6, epsilon, 1.0));
    }
}
