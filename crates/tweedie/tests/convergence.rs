//! Convergence orders by regression of log-error on log-step, against exact solutions and without
//! Monte Carlo.

use std::sync::Arc;

use tch::{Device, Kind, Tensor};
use tweedie::grid::Spacing;
use tweedie::likelihood::{Divergence, LogLikelihood, ProbabilityFlow};
use tweedie::model::Denoiser;
use tweedie::noise::{Noise, Seed};
use tweedie::ode::DormandPrince;
use tweedie::oracle::{GaussianMixture, Oracle};
use tweedie::query::{Batch, Query, Times};
use tweedie::sample::{EulerMaruyama, Heun, PredictorCorrector, Step};
use tweedie::schedule::{Schedule, SubVp, Ve, Vp};

/// Least-squares slope of `ln y` on `ln x`.
fn log_slope(x: &[f64], y: &[f64]) -> f64 {
    let (x, y): (Vec<f64>, Vec<f64>) =
        (x.iter().map(|v| v.ln()).collect(), y.iter().map(|v| v.ln()).collect());
    let n = x.len() as f64;
    let (mx, my) = (x.iter().sum::<f64>() / n, y.iter().sum::<f64>() / n);
    let top: f64 = x.iter().zip(&y).map(|(a, b)| (a - mx) * (b - my)).sum();
    top / x.iter().map(|a| (a - mx).powi(2)).sum::<f64>()
}

fn normal_law(mean: f64, sd: f64, schedule: impl Schedule + 'static) -> Oracle {
    normal_under(mean, sd, Arc::new(schedule))
}

fn normal_under(mean: f64, sd: f64, schedule: Arc<dyn Schedule>) -> Oracle {
    Oracle::new(GaussianMixture::new(&[1.0], &[[mean]], &[sd]).unwrap(), schedule)
}

fn schedules() -> [Arc<dyn Schedule>; 3] {
    [Arc::new(Vp::default()), Arc::new(SubVp::default()), Arc::new(Ve::default())]
}

fn numbers(x: &Tensor) -> Vec<f64> {
    Vec::try_from(x.contiguous().view(-1)).unwrap()
}

/// A step of a linear score is `x ↦ a x + b + c z`: its coefficients, read off two rows with known
/// normals.
fn affine_step(step: &dyn Step, s: f64, t: f64) -> (f64, f64, f64) {
    let streams = || Noise::new(Seed(1), 0..2);
    let z = numbers(&streams().normal(1, Kind::Double, Device::Cpu));
    let at = |x: f64| {
        let x = Tensor::full([2, 1], x, (Kind::Double, Device::Cpu));
        numbers(&step.step(&Query::new(&x, &Times::All(t)), s, &mut streams()))
    };
    let (zero, one) = (at(0.0), at(1.0));
    let c = (zero[1] - zero[0]) / (z[1] - z[0]);
    (one[0] - zero[0], zero[0] - c * z[0], c)
}

/// Mean and variance of the whole chain's output, exact: through the affine maps, from the exact
/// distribution at `T`.
fn chain_moments(step: &dyn Step, moments: &dyn Fn(f64) -> (f64, f64), grid: &[f64]) -> (f64, f64) {
    grid.windows(2).rev().fold(moments(grid[grid.len() - 1]), |(mean, variance), pair| {
        let (a, b, c) = affine_step(step, pair[0], pair[1]);
        (a * mean + b, a * a * variance + c * c)
    })
}

/// Weak order 1 of Euler–Maruyama: mean and variance at `ε` approach those of the reverse SDE,
/// which are those of the diffused data.
#[test]
fn euler_maruyama_has_weak_order_one() {
    let (m, v) = (1.0, 0.25);
    let schedule = Vp::default();
    let moments = |t: f64| {
        let alpha = schedule.alpha(t);
        (alpha * m, alpha * alpha * v + schedule.sigma2(t))
    };
    let oracle = normal_law(m, v.sqrt(), schedule.clone());
    let sampler = EulerMaruyama::new(&oracle);
    let steps = [1000usize, 2000, 4000, 8000];
    let (mut means, mut variances) = (Vec::new(), Vec::new());
    let first = schedule.epsilon();
    for k in steps {
        let grid: Vec<f64> = (0..=k).map(|i| first + (1.0 - first) * i as f64 / k as f64).collect();
        let (mean, variance) = chain_moments(&sampler, &moments, &grid);
        let exact = moments(first);
        means.push((mean - exact.0).abs());
        variances.push((variance - exact.1).abs());
    }
    let lengths = steps.map(|k| 1.0 / k as f64);
    let orders = (log_slope(&lengths, &means), log_slope(&lengths, &variances));
    println!("mean {means:?}, variance {variances:?}, orders {orders:?}");
    assert!((orders.0 - 1.0).abs() < 0.1 && (orders.1 - 1.0).abs() < 0.1, "{orders:?}");
}

/// Second order of Heun's method on the flow of N(1, ½²), `y = x/α`: exact solution
/// `y = m + (y_T − m) √((v + σ̃²)/(v + σ̃_T²))`, over even steps in the angle, on every SDE.
#[test]
fn heun_has_order_two() {
    let (m, v) = (1.0, 0.25);
    for schedule in schedules() {
        let oracle = normal_under(m, f64::sqrt(v), schedule.clone());
        let heun = Heun::new(&oracle);
        let ratio = |t: f64| schedule.sigma(t) / schedule.alpha(t);
        let (first, last) = (schedule.time_of_log_snr(-2.0 * 0.2f64.ln()), schedule.horizon());
        let start = Tensor::from_slice(&[-1.5, 0.4, 2.0]).view([3, 1]) * schedule.sigma(last);
        let growth = ((v + ratio(first).powi(2)) / (v + ratio(last).powi(2))).sqrt();
        let exact = ((&start / schedule.alpha(last) - m) * growth + m) * schedule.alpha(first);
        let steps = [20usize, 40, 80, 160, 320];
        let errors = steps.map(|k| {
            let grid = Spacing::Angle.grid(&*schedule, k, first);
            let mut noise = Noise::new(Seed(0), 0..3);
            let end = grid.windows(2).rev().fold(start.copy(), |x, pair| {
                heun.step(&Query::new(&x, &Times::All(pair[1])), pair[0], &mut noise)
            });
            (end - &exact).abs().max().double_value(&[])
        });
        let order = log_slope(&steps.map(|k| 1.0 / k as f64), &errors);
        println!("{schedule:?}: errors {errors:?}, order {order:.3}");
        assert!((order - 2.0).abs() < 0.15, "{schedule:?}: {order}");
    }
}

/// A step with `draws` normals per row, `x ↦ a x + b + Σ c_j z_j`: `a`, `b` and `Σ c_j²`, by
/// solving for the coefficients on as many rows as there are.
fn affine_step_of(step: &dyn Step, draws: usize, s: f64, t: f64) -> (f64, f64, f64) {
    let rows = draws as u64 + 1;
    let streams = || Noise::new(Seed(1), 0..rows);
    let mut again = streams();
    let normals: Vec<Tensor> =
        (0..draws).map(|_| again.normal(1, Kind::Double, Device::Cpu)).collect();
    let at = |x: f64| {
        let x = Tensor::full([rows as i64, 1], x, (Kind::Double, Device::Cpu));
        step.step(&Query::new(&x, &Times::All(t)), s, &mut streams())
    };
    let (zero, one) = (at(0.0), at(1.0));
    let ones = Tensor::ones_like(&zero);
    let design = Tensor::cat(&std::iter::once(&ones).chain(&normals).collect::<Vec<_>>(), 1);
    let found = numbers(&Tensor::linalg_solve(&design, &zero, true));
    (numbers(&(one - zero))[0], found[0], found[1..].iter().map(|c| c * c).sum())
}

/// The predictor has weak order 1 on every SDE. Langevin steps of fixed size have a bias of their
/// own at every time, but they grow shorter with the noise: mean and variance at the end are right
/// for many steps, with them too.
#[test]
fn predictor_corrector_has_the_law() {
    let (m, v) = (1.0, 0.25);
    for schedule in schedules() {
        let oracle = normal_under(m, f64::sqrt(v), schedule.clone());
        let first = schedule.epsilon();
        let moments = |t: f64| {
            let alpha = schedule.alpha(t);
            (alpha * m, alpha * alpha * v + schedule.sigma2(t))
        };
        let errors = |corrections: usize, k: usize| {
            let sampler =
                PredictorCorrector::new(&oracle, corrections, PredictorCorrector::RATIO).unwrap();
            let grid: Vec<f64> =
                (0..=k).map(|i| first + (1.0 - first) * i as f64 / k as f64).collect();
            // the last step, to ε, leaves out its noise: one step before
            let (mean, variance) =
                grid[1..].windows(2).rev().fold(moments(1.0), |(mean, variance), pair| {
                    let (a, b, c2) = affine_step_of(&sampler, 1 + corrections, pair[0], pair[1]);
                    (a * mean + b, a * a * variance + c2)
                });
            let exact = moments(grid[1]);
            ((mean - exact.0).abs(), (variance / exact.1 - 1.0).abs())
        };
        let steps = [250usize, 500, 1000];
        let alone = steps.map(|k| errors(0, k));
        let corrected = steps.map(|k| errors(1, k));
        let lengths = steps.map(|k| 1.0 / k as f64);
        let orders =
            (log_slope(&lengths, &alone.map(|e| e.0)), log_slope(&lengths, &alone.map(|e| e.1)));
        println!("{schedule:?}: alone {alone:?}, orders {orders:?}, corrected {corrected:?}");
        // VE has no drift: the mean is exact at any number of steps
        let exact_mean = alone.iter().all(|e| e.0 < 1e-12);
        assert!(exact_mean || (orders.0 - 1.0).abs() < 0.15, "{schedule:?}: {orders:?}");
        assert!((orders.1 - 1.0).abs() < 0.15, "{schedule:?}: {orders:?}");
        assert!(corrected[2].0 < 0.01 && corrected[2].1 < 0.01, "{schedule:?}: {corrected:?}");
    }
}

/// Dormand–Prince on the probability flow of N(1, ½²) in `u = ln σ̃`, `dy/du = σ̃ ε̂`: exact
/// solution `y = m + (y_0 − m) √((v + σ̃²)/(v + σ̃_0²))`. (In `σ̃` itself it seems of order 6: `y`
/// is even there, and the leading error a derivative that nearly vanishes at both ends.)
#[test]
fn dormand_prince_has_order_five_on_a_flow() {
    let schedule = Vp::default();
    let oracle = normal_law(1.0, 0.5, schedule.clone());
    let field = |u: &[f64], y: &Tensor, _: &[i64]| {
        let t: Vec<f64> = u.iter().map(|u| schedule.time_of_log_snr(-2.0 * u)).collect();
        let column = |values: Vec<f64>| Tensor::from_slice(&values).unsqueeze(-1);
        let x = y * column(t.iter().map(|&t| schedule.alpha(t)).collect());
        oracle.noise(&Query::new(&x, &Times::each(t))) * column(u.iter().map(|u| u.exp()).collect())
    };
    let start = Tensor::from_slice(&[0.2, 2.0]).view([2, 1]);
    let (from, to) = (-1.0f64, 1.0f64);
    let growth = ((0.25 + (2.0 * to).exp()) / (0.25 + (2.0 * from).exp())).sqrt();
    let exact = (&start - 1.0) * growth + 1.0;
    let steps = [8usize, 12, 16, 24, 32];
    let errors = steps.map(|n| {
        (DormandPrince::solve_fixed(&field, &start, from, to, n) - &exact)
            .abs()
            .max()
            .double_value(&[])
    });
    let order = log_slope(&steps.map(|n| 1.0 / n as f64), &errors);
    println!("errors {errors:?}, order {order:.3}");
    assert!((order - 5.0).abs() < 0.15, "{order}");
}

/// The error of ODE likelihoods follows the tolerance, and is near it, over seven decades.
#[test]
fn likelihood_error_follows_the_tolerance() {
    let mixture =
        GaussianMixture::new(&[0.4, 0.6], &[[-1.0, 0.2], [0.7, 0.0]], &[0.3, 0.6]).unwrap();
    let oracle = Oracle::new(mixture, Arc::new(Vp::default()));
    let x = oracle.mixture.sample(64, Seed(3));
    let values = |tolerance: f64| {
        let flow = ProbabilityFlow::new(&oracle).tolerance(tolerance, tolerance).unwrap();
        flow.divergence(Divergence::Exact)
            .unwrap()
            .log_likelihood(&Batch::of(&x), Seed(0), 0)
            .unwrap()
    };
    // against the mixture's own density this is proved in likelihood::flow; here the prior's error
    // drops out
    let exact = values(1e-11);
    let tolerances = [1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9];
    let errors = tolerances.map(|tolerance| {
        let estimate = values(tolerance);
        let worst = estimate
            .values
            .iter()
            .zip(&exact.values)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f64::max);
        println!(
            "tolerance {tolerance:.0e}: error {worst:.1e} nats, {:.0} evaluations",
            estimate.evaluations
        );
        assert!(worst < 30.0 * tolerance, "{worst}");
        worst
    });
    let rate = log_slope(&tolerances, &errors);
    println!("rate {rate:.2}");
    assert!((0.75..1.25).contains(&rate), "{rate}");
}

/// Why the flow is integrated in `φ = arctan(σ/α)`: on the same rows and at the same tolerance it
/// takes the fewest evaluations, against `t` and `ln(σ/α)`; the errors, printed beside, are of the
/// same order as in `t`.
#[test]
fn the_angle_is_the_cheapest_clock() {
    let schedule = Vp::default();
    let (first, last) = (schedule.epsilon(), schedule.horizon());
    let mixtures = [
        ("standard normal", GaussianMixture::new(&[1.0], &[[0.0, 0.0]], &[1.0]).unwrap()),
        (
            "unit scale",
            GaussianMixture::new(&[0.4, 0.6], &[[-1.0, 0.2], [0.7, 0.0]], &[0.3, 0.6]).unwrap(),
        ),
        (
            "fine",
            GaussianMixture::new(&[0.5, 0.5], &[[-1.0, 0.0], [1.0, 0.0]], &[0.02, 0.02]).unwrap(),
        ),
        (
            "wide",
            GaussianMixture::new(&[0.5, 0.5], &[[-10.0, 0.0], [10.0, 0.0]], &[1.0, 1.0]).unwrap(),
        ),
    ];
    for (name, mixture) in mixtures {
        let oracle = Oracle::new(mixture, Arc::new(schedule.clone()));
        let x = oracle.mixture.sample(50, Seed(4)) * schedule.alpha(first);
        let column = |values: Vec<f64>| Tensor::from_slice(&values).unsqueeze(-1);
        // dx/dt = f x + ½ g² ε̂/σ, for any clock u with dt/du
        let flow = |x: &Tensor, t: &[f64], rate: &dyn Fn(f64) -> f64| {
            let drift = column(t.iter().map(|&t| rate(t) * schedule.drift(t)).collect());
            let pull = column(
                t.iter()
                    .map(|&t| rate(t) * 0.5 * schedule.diffusion2(t) / schedule.sigma(t))
                    .collect(),
            );
            x * drift + oracle.noise(&Query::new(x, &Times::each(t.to_vec()))) * pull
        };
        // d ln(σ/α)/dt
        let ratio_rate = |t: f64| schedule.diffusion2(t) / (2.0 * schedule.sigma2(t));
        let in_time = |t: &[f64], x: &Tensor, _: &[i64]| flow(x, t, &|_| 1.0);
        let in_ratio = |u: &[f64], x: &Tensor, _: &[i64]| {
            let t: Vec<f64> =
                u.iter().map(|&u| schedule.time_of_log_snr(-2.0 * u).clamp(first, last)).collect();
            flow(x, &t, &|t| 1.0 / ratio_rate(t))
        };
        let in_angle = |u: &[f64], x: &Tensor, _: &[i64]| {
            let t: Vec<f64> = u
                .iter()
                .map(|&u| schedule.time_of_log_snr(-2.0 * u.tan().ln()).clamp(first, last))
                .collect();
            flow(x, &t, &|t| 1.0 / (ratio_rate(t) * schedule.sigma(t) * schedule.alpha(t)))
        };
        let angle = |t: f64| schedule.sigma(t).atan2(schedule.alpha(t));
        let ratio = |t: f64| -0.5 * schedule.log_snr(t);
        let solve = |tolerance: f64, clock: usize| {
            let solver =
                DormandPrince { rtol: tolerance, atol: tolerance, max_evaluations: 100_000 };
            match clock {
                0 => solver.solve(&in_time, &x, first, last),
                1 => solver.solve(&in_ratio, &x, ratio(first), ratio(last)),
                _ => solver.solve(&in_angle, &x, angle(first), angle(last)),
            }
        };
        let exact = solve(1e-11, 2).y;
        let costs = [0, 1, 2].map(|clock| {
            let solution = solve(1e-5, clock);
            assert!(solution.failures().next().is_none());
            let cost = solution.evaluations.iter().sum::<usize>() as f64 / 50.0;
            (cost, (solution.y - &exact).abs().max().double_value(&[]))
        });
        println!(
            "{name}: t {:.0} ({:.0e}), ln(σ/α) {:.0} ({:.0e}), angle {:.0} ({:.0e})",
            costs[0].0, costs[0].1, costs[1].0, costs[1].1, costs[2].0, costs[2].1
        );
        assert!(costs[2].0 <= 1.1 * costs[0].0.min(costs[1].0), "{name}: {costs:?}");
    }
}
