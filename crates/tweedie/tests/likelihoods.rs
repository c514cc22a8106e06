//! Every likelihood estimator on every forward process, against closed forms.
//!
//! A model starts in the prior `N(0, σ_T² I)`, the data end in `p_T`, which is not quite it:
//! `α_T = 6.6e-3` for VP and subVP, and `x_T` of VE has the data's variance beside 2500. What an
//! exact score gives is therefore the density of the process that is started in the prior, which
//! differs from the data's by some hundredths of a nat; that density is in closed form for
//! Gaussians, and is what the estimators are held to here.

use std::f64::consts::{LN_2, PI};
use std::sync::Arc;

use tch::Tensor;
use tweedie::Result;
use tweedie::covariance::{Beta, Own, Reverse};
use tweedie::grid::Spacing;
use tweedie::likelihood::{
    Divergence, Elbo, Estimate, LogLikelihood, ProbabilityFlow, ScoreMatchingBound, mean_and_error,
};
use tweedie::model::{Denoiser, Space};
use tweedie::noise::{Noise, Seed};
use tweedie::oracle::{GaussianMixture, MixtureParameters, Oracle};
use tweedie::posterior::NoiseMoments;
use tweedie::query::{Batch, Query, Times};
use tweedie::schedule::{Schedule, SubVp, Transition, Ve, Vp};
use tweedie::tensor::to_vec;

fn processes() -> [(&'static str, Arc<dyn Schedule>); 3] {
    [
        ("VP", Arc::new(Vp::default())),
        ("subVP", Arc::new(SubVp::default())),
        ("VE", Arc::new(Ve::default())),
    ]
}

/// The first `components` of three with full covariances in `d` dimensions, about unit scale, off
/// the origin.
fn mixture(d: usize, components: usize) -> GaussianMixture {
    let wave = |k: usize, i: usize| ((3 * k + 2 * i + 1) as f64 * 1.3).sin();
    // unit scale at any d
    let size = 0.5 / (d as f64).sqrt();
    let covariance = |k: usize| -> Vec<f64> {
        let root: Vec<f64> = (0..d * d).map(|i| size * wave(k + 5, i)).collect();
        let product =
            |a: usize, b: usize| (0..d).map(|c| root[a * d + c] * root[b * d + c]).sum::<f64>();
        let entry = |i: usize| product(i / d, i % d) + if i / d == i % d { 0.3 } else { 0.0 };
        (0..d * d).map(entry).collect()
    };
    let weights = [0.5, 0.3, 0.2];
    let total: f64 = weights[..components].iter().sum();
    GaussianMixture::from_parameters(&MixtureParameters {
        weights: weights[..components].iter().map(|w| w / total).collect(),
        means: (0..components).map(|k| (0..d).map(|i| 0.8 * wave(k, i)).collect()).collect(),
        covariances: (0..components).map(covariance).collect(),
    })
    .unwrap()
}

/// A Gaussian `N(m, S)` under a process, in the eigenbasis of `S`.
struct Gaussian {
    /// Eigenvalues of `S`.
    values: Vec<f64>,
    /// `m` along the eigenvectors.
    mean: Vec<f64>,
    /// Rows `x_0` along the eigenvectors.
    rows: Vec<Vec<f64>>,
    alpha: f64,
    sigma2: f64,
}

/// `ln N(x; 0, v)` at `x² = square`.
fn log_normal(square: f64, v: f64) -> f64 {
    -0.5 * (square / v + (2.0 * PI * v).ln())
}

impl Gaussian {
    fn of(mixture: &GaussianMixture, schedule: &dyn Schedule, x: &Tensor) -> Gaussian {
        let MixtureParameters { means, covariances, .. } = mixture.parameters();
        let d = means[0].len();
        let s = Tensor::from_slice(&covariances[0]).view([d as i64, d as i64]);
        let (values, vectors) = s.linalg_eigh("L");
        let turned = to_vec(&x.matmul(&vectors));
        let t = schedule.horizon();
        Gaussian {
            values: to_vec(&values),
            mean: to_vec(&Tensor::from_slice(&means[0]).unsqueeze(0).matmul(&vectors)),
            rows: turned.chunks(d).map(<[f64]>::to_vec).collect(),
            alpha: schedule.alpha(t),
            sigma2: schedule.sigma2(t),
        }
    }

    /// Over rows, the sum over dimensions of `of(x_0j, m_j, λ_j, α_T² λ_j + σ_T²)`.
    fn sums(&self, of: impl Fn(f64, f64, f64, f64) -> f64) -> Vec<f64> {
        let noised = |v: f64| self.alpha.powi(2) * v + self.sigma2;
        let sum = |row: &Vec<f64>| {
            let columns = row.iter().zip(&self.mean).zip(&self.values);
            columns.map(|((&x, &m), &v)| of(x, m, v, noised(v))).sum()
        };
        self.rows.iter().map(sum).collect()
    }

    /// `ln p(x_0)` of the flow from the prior: `x_T = α m + √(c/λ) (x_0 − m)`, `c = α² λ + σ²`, has
    /// `N(0, σ²)`.
    fn flow(&self) -> Vec<f64> {
        self.sums(|x, m, v, c| {
            let latent = self.alpha * m + (c / v).sqrt() * (x - m);
            log_normal(latent * latent, self.sigma2) + 0.5 * (c / v).ln()
        })
    }

    /// `ln p(x_0) + E[ln N(x_T; 0, σ² I) − ln p_T(x_T) | x_0]`, the value of a bound whose reverse
    /// process is exact.
    fn bound(&self) -> Vec<f64> {
        self.sums(|x, m, v, c| {
            let spread = |centre: f64| (self.alpha * (x - centre)).powi(2) + self.sigma2;
            let prior = log_normal(spread(0.0), self.sigma2) - log_normal(spread(m), c);
            log_normal((x - m).powi(2), v) + prior
        })
    }
}

fn largest(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(0.0, f64::max)
}

/// The ODE: 1e-5 relative at rtol 1e-6, d = 1 and 10, all processes; exact divergence, and with
/// probes the same within their standard errors.
#[test]
fn the_flow_is_exact_for_gaussians() {
    for (name, schedule) in processes() {
        for d in [1, 10] {
            let oracle = Oracle::new(mixture(d, 1), schedule.clone());
            let x = oracle.mixture.sample(20, Seed(1));
            let truth = Gaussian::of(&oracle.mixture, &*schedule, &x).flow();
            let flow = || ProbabilityFlow::new(&oracle).tolerance(1e-6, 1e-6).unwrap();
            let found = flow()
                .divergence(Divergence::Exact)
                .unwrap()
                .log_likelihood(&Batch::of(&x), Seed(0), 0)
                .unwrap();
            let error = largest(
                found.values.iter().zip(&truth).map(|(v, t)| (v - t).abs() / t.abs().max(1.0)),
            );
            let plain = to_vec(&oracle.mixture.log_density(&x));
            let prior = largest(plain.iter().zip(&truth).map(|(p, t)| (p - t).abs()));
            println!(
                "{name} d = {d}: {error:.1e}, {:.0} evaluations, prior {prior:.1e}",
                found.evaluations
            );
            assert!(
                error < 1e-5 && found.flags.is_empty(),
                "{name} d = {d}: {error:.1e}, {:?}",
                found.flags
            );
            assert!(prior < 0.1, "{name} d = {d}: {prior}");

            let probes = flow().divergence(Divergence::Rademacher { probes: 6 }).unwrap();
            let noisy = probes.log_likelihood(&Batch::of(&x), Seed(2), 0).unwrap();
            let scores: Vec<f64> = (0..20)
                .map(|i| (noisy.values[i] - truth[i]) / noisy.std_errors[i].max(1e-5))
                .collect();
            let square = scores.iter().map(|s| s * s).sum::<f64>() / 20.0;
            // Student-t with 5 degrees of freedom: mean square 5/3, standard error 0.8 over 20 rows
            assert!(square < 5.0, "{name} d = {d}: {square}");
        }
    }
}

/// The ODE for mixtures: within 1e-4 nats of the truth at d = 1, 2, 10 and 64. The truth is the
/// mixture's own density, with the prior's in place of `p_T` at `x_T`.
#[test]
fn the_flow_is_exact_for_mixtures() {
    for (name, schedule) in processes() {
        for d in [1, 2, 10, 64] {
            let oracle = Oracle::new(mixture(d, 3), schedule.clone());
            let x = oracle.mixture.sample(20, Seed(3));
            let t = schedule.horizon();
            let flow = ProbabilityFlow::new(&oracle)
                .tolerance(1e-6, 1e-6)
                .and_then(|f| f.divergence(Divergence::Exact))
                .unwrap();
            let found = flow.log_likelihood(&Batch::of(&x), Seed(0), 0).unwrap();
            let end = flow.encode(&Batch::of(&x)).unwrap() * schedule.sigma(t);
            let prior = to_vec(&end.square())
                .into_iter()
                .map(|s| log_normal(s, schedule.sigma2(t)))
                .collect::<Vec<_>>();
            let reached = to_vec(&oracle.mixture.log_density_at(&end, &*schedule, &Times::All(t)));
            let own = to_vec(&oracle.mixture.log_density(&x));
            let truth = prior
                .chunks(d)
                .zip(&reached)
                .zip(&own)
                .map(|((p, r), o)| p.iter().sum::<f64>() - r + o);
            let error = largest(found.values.iter().zip(truth).map(|(v, t)| (v - t).abs()));
            println!("{name} d = {d}: {error:.1e} nats, {:.0} evaluations", found.evaluations);
            assert!(
                error < 1e-4 && found.flags.is_empty(),
                "{name} d = {d}: {error:.1e}, {:?}",
                found.flags
            );
        }
    }
}

/// Each of `x`'s rows repeated this many times.
fn repeated(x: &Tensor, times: i64) -> Tensor {
    x.repeat_interleave_self_int(times, 0, None)
}

/// Mean and standard error over rows and draws of an estimate less its truth, which has a value per
/// `times` rows.
fn gap(estimate: &Estimate, truth: &[f64], times: usize) -> (f64, f64) {
    let gaps: Vec<f64> =
        estimate.values.iter().enumerate().map(|(i, v)| v - truth[i / times]).collect();
    mean_and_error(&gaps)
}

/// Both forms of the bound and the ELBO have the value that an exact reverse process has, with the
/// score exact: within three standard errors of it, hence tight (Theorem 2), the prior's mismatch
/// being all that is missing.
#[test]
fn bounds_are_tight_for_gaussians() {
    for (name, schedule) in processes() {
        for d in [1, 10] {
            let oracle = Oracle::new(mixture(d, 1), schedule.clone());
            let x = oracle.mixture.sample(10, Seed(4));
            let truth = Gaussian::of(&oracle.mixture, &*schedule, &x).bound();
            let many = repeated(&x, 100);
            // a score of zero would lose ½ Z d, some 12 nats per dimension
            let most = 0.05 * d as f64 + 0.1;
            let check = |what: &str, estimate: Result<Estimate>| {
                let (mean, error) = gap(&estimate.unwrap(), &truth, 100);
                println!("{name} d = {d}, {what}: {mean:.4} ± {error:.4}");
                assert!(mean.abs() < 3.0 * error, "{name} d = {d}, {what}: {mean} ± {error}");
                assert!(error < most, "{name} d = {d}, {what}: no statement, ± {error}");
            };
            let bound = || ScoreMatchingBound::new(&oracle, 60);
            check("DSM", bound().log_likelihood(&Batch::of(&many), Seed(5), 0));
            for divergence in [
                Divergence::Exact,
                Divergence::Rademacher { probes: 1 },
                Divergence::Gaussian { probes: 1 },
            ] {
                let sm = bound().with_divergence(divergence).unwrap();
                check(
                    &format!("SM, {divergence:?}"),
                    sm.log_likelihood(&Batch::of(&many), Seed(6), 0),
                );
            }
            let grid = Spacing::default().elbo_grid(&*schedule, 20);
            let learned = Elbo::new(Reverse::new(&oracle, Own, 1.0).unwrap(), grid, 12);
            check(
                "ELBO, K = 20, exact covariance",
                learned.log_likelihood(&Batch::of(&many), Seed(7), 0),
            );
        }
    }
}

/// Nats that β's steps lose on a Gaussian with these eigenvalues, whose reverse transitions have
/// the variances `(k²/m²)((1 − ρ) + ρ G)`, `ρ = k²/σ_t²`, and not `k²`: the divergences between two
/// normal distributions of the same mean.
fn lost_by_beta(schedule: &dyn Schedule, grid: &[f64], values: &[f64]) -> f64 {
    let step = |s: f64, t: f64, v: f64| {
        let Transition { m, k2 } = schedule.transition(s, t);
        let (signal, sigma2) = (schedule.alpha(t).powi(2) * v, schedule.sigma2(t));
        let ratio = (1.0 - k2 / sigma2 + k2 / sigma2 * signal / (signal + sigma2)) / (m * m);
        0.5 * (ratio - 1.0 - ratio.ln())
    };
    grid.windows(2)
        .flat_map(|p| values.iter().map(|&v| step(p[0], p[1], v)).collect::<Vec<_>>())
        .sum()
}

/// Without the covariance the ELBO loses what it must at every `K`, and that goes as `1/K`.
#[test]
fn the_elbo_is_tight_in_many_steps() {
    for (name, schedule) in processes() {
        let oracle = Oracle::new(mixture(2, 1), schedule.clone());
        let x = oracle.mixture.sample(10, Seed(8));
        let gaussian = Gaussian::of(&oracle.mixture, &*schedule, &x);
        let truth = gaussian.bound();
        let many = repeated(&x, 100);
        let grid = |steps: usize| Spacing::LogSnr.elbo_grid(&*schedule, steps);
        let lost = |steps: usize| lost_by_beta(&*schedule, &grid(steps), &gaussian.values);
        for (steps, draws) in [(5, 30), (400, 4)] {
            let elbo = Elbo::new(Reverse::new(&oracle, Beta, 1.0).unwrap(), grid(steps), draws);
            let (mean, error) =
                gap(&elbo.log_likelihood(&Batch::of(&many), Seed(9), 0).unwrap(), &truth, 100);
            let lost = lost(steps);
            println!("{name}, K = {steps}: {mean:.4} ± {error:.4}, should be {:.4}", -lost);
            assert!(
                (mean + lost).abs() < 3.0 * error,
                "{name}, K = {steps}: {mean} ± {error}, {lost}"
            );
            assert!(error < 0.05, "{name}, K = {steps}: no statement, ± {error}");
        }
        let order = (lost(1000) / lost(4000)).ln() / 4f64.ln();
        assert!(
            (order - 1.0).abs() < 0.05 && lost(4000) < 0.03,
            "{name}: order {order}, {}",
            lost(4000)
        );
    }
}

/// A few of the terms of a bound, drawn by their probabilities, have the mean of all: the closed
/// form at `K = 400`. All of them are the bound itself, and a term fewer is not.
#[test]
fn some_terms_have_the_mean_of_all() {
    let schedule: Arc<dyn Schedule> = Arc::new(Vp::default());
    let oracle = Oracle::new(mixture(2, 1), schedule.clone());
    let x = oracle.mixture.sample(10, Seed(8));
    let gaussian = Gaussian::of(&oracle.mixture, &*schedule, &x);
    let grid = Spacing::LogSnr.elbo_grid(&*schedule, 400);
    let lost = lost_by_beta(&*schedule, &grid, &gaussian.values);
    let elbo = |grid: &[f64], draws| {
        Elbo::new(Reverse::new(&oracle, Beta, 1.0).unwrap(), grid.to_vec(), draws)
    };
    let estimate = elbo(&grid, 200)
        .at_most(12)
        .log_likelihood(&Batch::of(&repeated(&x, 100)), Seed(9), 0)
        .unwrap();
    let (mean, error) = gap(&estimate, &gaussian.bound(), 100);
    println!("{mean:.4} ± {error:.4}, should be {:.4}", -lost);
    assert!((mean + lost).abs() < 3.0 * error && error < 0.02, "{mean} ± {error}, {lost}");
    assert_eq!(estimate.evaluations, 12.0 * 200.0);

    let five = Spacing::LogSnr.elbo_grid(&*schedule, 5);
    let values = |elbo: Elbo| elbo.log_likelihood(&Batch::of(&x), Seed(9), 0).unwrap().values;
    assert_eq!(values(elbo(&five, 2)), values(elbo(&five, 2).at_most(5)));
    assert_ne!(values(elbo(&five, 2)), values(elbo(&five, 2).at_most(4)));
}

/// An exact model whose noise is wrong by `0.3 sin 2z`, `z = x/√(α² + σ²)` about unit scale.
struct Bent(Oracle);

impl Denoiser for Bent {
    fn space(&self) -> &Space {
        self.0.space()
    }
    fn noise(&self, q: &Query) -> Tensor {
        let schedule = self.space().schedule();
        let scale = |t: f64| [2.0 / schedule.alpha(t).hypot(schedule.sigma(t))];
        let [scale] = q.times.coefficients(q.x.device(), scale);
        self.0.noise(q) + (q.x * &scale).sin() * 0.3
    }
    fn moments(&self, _: &Query) -> NoiseMoments {
        unreachable!("these bounds ask for the noise alone")
    }
}

/// With a wrong score the two forms of the bound have the same mean, datum by datum, below that of
/// the data's density.
#[test]
fn both_forms_of_the_bound_agree_on_a_wrong_score() {
    for (name, schedule) in processes() {
        let model = Bent(Oracle::new(mixture(2, 2), schedule.clone()));
        let x = model.0.mixture.sample(100, Seed(10));
        let dsm = ScoreMatchingBound::new(&model, 400)
            .log_likelihood(&Batch::of(&x), Seed(11), 0)
            .unwrap();
        let sm = |divergence| {
            let bound = ScoreMatchingBound::new(&model, 400).with_divergence(divergence).unwrap();
            bound.log_likelihood(&Batch::of(&x), Seed(12), 0).unwrap()
        };
        let exact = to_vec(&model.0.mixture.log_density(&x));
        for divergence in [Divergence::Exact, Divergence::Rademacher { probes: 1 }] {
            let sm = sm(divergence);
            let difference: Vec<f64> =
                sm.values.iter().zip(&dsm.values).map(|(a, b)| a - b).collect();
            let errors = sm.std_errors.iter().zip(&dsm.std_errors).map(|(a, b)| a.hypot(*b));
            let scores: Vec<f64> = difference.iter().zip(errors).map(|(d, e)| d / e).collect();
            let square = scores.iter().map(|s| s * s).sum::<f64>() / 100.0;
            let (mean, error) = mean_and_error(&difference);
            let missing: Vec<f64> = exact.iter().zip(&sm.values).map(|(e, v)| e - v).collect();
            let (missing, missing_error) = mean_and_error(&missing);
            println!(
                "{name} {divergence:?}: {mean:.3} ± {error:.3}, mean square score {square:.2}, \
                 {missing:.2} ± {missing_error:.2} below the density"
            );
            assert!(mean.abs() < 4.0 * error, "{name}: {mean} ± {error}");
            // chi-squared with 100 degrees of freedom: standard deviation 0.14
            assert!((0.45..1.6).contains(&square), "{name}: {square}");
            assert!(missing > 4.0 * missing_error, "{name}: {missing} ± {missing_error}");
        }
    }
}

/// A datum's value does not depend on the batch that it is in, whatever the estimator and the
/// process.
#[test]
fn values_do_not_depend_on_the_batch() {
    for (name, schedule) in processes() {
        let oracle = Oracle::new(mixture(3, 2), schedule.clone());
        let x = oracle.mixture.sample(12, Seed(13));
        let elbo_grid = Spacing::default().elbo_grid(&*schedule, 5);
        let reverse = Reverse::new(&oracle, Own, 1.0).unwrap();
        let probes = Divergence::Gaussian { probes: 2 };
        let estimators: [Box<dyn LogLikelihood>; 5] = [
            Box::new(ProbabilityFlow::new(&oracle).divergence(probes).unwrap()),
            Box::new(ScoreMatchingBound::new(&oracle, 3)),
            Box::new(ScoreMatchingBound::new(&oracle, 3).with_divergence(probes).unwrap()),
            Box::new(
                Elbo::new(Reverse::new(&oracle, Beta, 1.0).unwrap(), elbo_grid.clone(), 2)
                    .at_most(3),
            ),
            Box::new(Elbo::new(reverse, elbo_grid, 2)),
        ];
        for estimator in estimators {
            let whole = estimator.log_likelihood(&Batch::of(&x), Seed(14), 0).unwrap();
            let cut = estimator.in_batches(&Batch::of(&x), Seed(14), 5, &mut |_| Ok(())).unwrap();
            let error = largest(whole.values.iter().zip(&cut.values).map(|(a, b)| (a - b).abs()));
            assert!(error < 1e-9, "{name}, {}: {error:.1e}", whole.estimator);
        }
    }
}

/// Data of a known entropy: a Gaussian of variance `1/(2πe)` has 0 bits per dimension, in 4
/// dimensions with an offset of one bit each.
#[test]
fn bits_per_dimension_contain_the_offset() {
    let variance = 1.0 / (2.0 * PI * std::f64::consts::E);
    let data = GaussianMixture::new(&[1.0], &[[0.0; 4]], &[variance.sqrt()]).unwrap();
    let oracle = Oracle::new(data, Arc::new(Vp::cosine(0.008)));
    let x = oracle.mixture.sample(400, Seed(15));
    let mut found =
        ProbabilityFlow::new(&oracle).log_likelihood(&Batch::of(&x), Seed(0), 0).unwrap();
    let (bits, error) = found.bits_per_dim(4);
    assert!(bits.abs() < 4.0 * error && error < 0.03, "{bits} ± {error}");
    found.shift(&[-4.0 * LN_2; 400]);
    assert!((found.bits_per_dim(4).0 - bits - 1.0).abs() < 1e-12);
    assert!((found.offset() + 4.0 * LN_2).abs() < 1e-12);
}

/// `∫_ε^t g²/σ²` by the trapezoid rule, evenly in `ln t`: times and integrals.
fn cumulative(schedule: &dyn Schedule) -> (Vec<f64>, Vec<f64>) {
    let (first, last, n) = (schedule.epsilon().ln(), schedule.horizon().ln(), 100_000);
    let h = (last - first) / n as f64;
    let times: Vec<f64> = (0..=n).map(|i| (first + i as f64 * h).exp()).collect();
    let rate: Vec<f64> =
        times.iter().map(|&t| schedule.diffusion2(t) / schedule.sigma2(t) * t).collect();
    let mut integral = vec![0.0];
    for pair in rate.windows(2) {
        integral.push(integral.last().unwrap() + 0.5 * h * (pair[0] + pair[1]));
    }
    (times, integral)
}

/// The place of `value` among increasing `from`, read off on `to`.
fn interpolate(value: f64, from: &[f64], to: &[f64]) -> f64 {
    let i = from.partition_point(|&f| f <= value).clamp(1, from.len() - 1);
    let share = (value - from[i - 1]) / (from[i] - from[i - 1]);
    to[i - 1] + share * (to[i] - to[i - 1])
}

/// `√n sup |F_n − F|` of values that should be uniform.
fn kolmogorov_smirnov(mut uniforms: Vec<f64>) -> f64 {
    uniforms.sort_by(f64::total_cmp);
    let n = uniforms.len() as f64;
    let apart =
        uniforms.iter().enumerate().map(|(i, &u)| (u - i as f64 / n).max((i + 1) as f64 / n - u));
    n.sqrt() * largest(apart)
}

/// Importance-sampled times have the density `∝ g²/σ²` by Kolmogorov and Smirnov's test, and are
/// those of inverting its integral numerically.
#[test]
fn importance_sampled_times_have_their_density() {
    for (name, schedule) in processes() {
        let (times, integral) = cumulative(&*schedule);
        let total = *integral.last().unwrap();
        assert!(
            (total / schedule.importance_normalizer() - 1.0).abs() < 1e-6,
            "{name}: Z = {total}"
        );
        let uniforms = Noise::new(Seed(16), 0..1).uniform(20_000);
        let drawn: Vec<f64> = uniforms.iter().map(|&u| schedule.importance_time(u)).collect();
        for (u, t) in uniforms.iter().zip(&drawn).take(1000) {
            let inverted = interpolate(u * total, &integral, &times);
            assert!((inverted / t - 1.0).abs() < 1e-5, "{name} at {u}: {t}, {inverted}");
        }
        let distribution = |t: f64| interpolate(t, &times, &integral) / total;
        let statistic = kolmogorov_smirnov(drawn.into_iter().map(distribution).collect());
        // 1.95 is exceeded with probability 1e-3
        assert!(statistic < 1.95, "{name}: {statistic}");
        // and the test can tell: times that are uniform are refused, but for VE, of which they are
        // the distribution (ScoreFlow, Table 1)
        let (first, span) = (schedule.epsilon(), schedule.horizon() - schedule.epsilon());
        let uniform =
            kolmogorov_smirnov(uniforms.iter().map(|u| distribution(first + span * u)).collect());
        println!("{name}: {statistic:.2}, uniform times {uniform:.0}");
        assert!(if name == "VE" { uniform < 1.95 } else { uniform > 10.0 }, "{name}: {uniform}");
    }
}
