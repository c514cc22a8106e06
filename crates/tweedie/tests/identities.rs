//! The identities that everything rests on, in f64, on random mixtures with full covariances and
//! exact oracles.

use std::sync::Arc;

use proptest::prelude::*;
use tch::{Device, Kind, Tensor};
use tweedie::covariance::{Beta, BetaTilde, Covariance, Own, Reverse, ZeroHessian};
use tweedie::gaussian::Gaussian;
use tweedie::grid::{PathGrid, Spacing, TimeDistribution};
use tweedie::likelihood::{Elbo, LogLikelihood, ScoreMatchingBound, mean_and_error};
use tweedie::model::{Denoiser, Space};
use tweedie::noise::{Noise, Seed};
use tweedie::objective::{LikelihoodMatching, LmForm, Objective, ScoreGradient};
use tweedie::oracle::{GaussianMixture, MixtureParameters, Oracle};
use tweedie::posterior::{NoiseMoments, bridge, posterior, score};
use tweedie::query::{Batch, Query, Times};
use tweedie::schedule::{Schedule, Transition, Vp};
use tweedie::sym_matrix::SymMatrix;

const F64: (Kind, Device) = (Kind::Double, Device::Cpu);

fn normal(seed: u64, n: usize) -> Vec<f64> {
    Vec::try_from(Noise::new(Seed(seed), 0..1).normal(n, F64.0, F64.1).view(-1)).unwrap()
}

/// A random mixture: covariances `A Aᵀ/d + 0.1 I`, weights from a softmax.
fn random_mixture(seed: u64, components: usize, d: usize) -> GaussianMixture {
    let weights: Vec<f64> = normal(seed, components).iter().map(|z| (0.5 * z).exp()).collect();
    let total: f64 = weights.iter().sum();
    let covariance = |k: usize| {
        let a = Tensor::from_slice(&normal(seed + 10 + k as u64, d * d)).view([d as i64, d as i64]);
        let s = a.matmul(&a.transpose(0, 1)) / d as f64 + Tensor::eye(d as i64, F64) * 0.1;
        Vec::<f64>::try_from(s.view(-1)).unwrap()
    };
    GaussianMixture::from_parameters(&MixtureParameters {
        weights: weights.iter().map(|w| w / total).collect(),
        means: (0..components)
            .map(|k| normal(seed + 100 + k as u64, d).iter().map(|z| 2.0 * z).collect())
            .collect(),
        covariances: (0..components).map(covariance).collect(),
    })
    .unwrap()
}

fn schedules() -> Vec<Arc<dyn Schedule>> {
    vec![Arc::new(Vp::default()), Arc::new(Vp::cosine(0.008)), Arc::new(Vp::theory(100, 2.0, 4.0))]
}

fn diffused(
    mixture: &GaussianMixture,
    schedule: &dyn Schedule,
    t: f64,
    n: usize,
    seed: u64,
) -> Tensor {
    let z = Noise::new(Seed(seed + 1), 0..n as u64).normal(mixture.dim() as usize, F64.0, F64.1);
    mixture.sample(n, Seed(seed)) * schedule.alpha(t) + z * schedule.sigma(t)
}

fn relative_error(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).abs().max().double_value(&[]) / b.abs().max().double_value(&[]).max(1.0)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 16,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Tweedie's mean and covariance are the moments of the posterior that conditioning each
    /// component gives.
    #[test]
    fn tweedie_moments_are_the_posteriors(
        seed in 0u64..10_000,
        k in 1usize..4,
        d in 1usize..9,
        t in 1e-3f64..1.0,
    ) {
        let mixture = random_mixture(seed, k, d);
        for schedule in schedules() {
            let x = diffused(&mixture, &*schedule, t, 4, seed);
            let times = Times::All(t);
            let (w, means, covs) = mixture.posterior_components(&x, &*schedule, t);
            let mean = w.unsqueeze(1).matmul(&means).squeeze_dim(1);
            let centred = &means - mean.unsqueeze(1);
            let between = (&centred * w.unsqueeze(-1)).transpose(1, 2).matmul(&centred);
            let within = covs * w.view([4, -1, 1, 1]);
            let covariance =
                between + within.sum_dim_intlist([1i64].as_slice(), false, None::<Kind>);
            let moments = mixture.moments(&x, &*schedule, &times);
            let gaussian = posterior(&x, &moments, &*schedule, &times);
            let error = relative_error(&gaussian.mean, &mean);
            prop_assert!(error < 1e-9, "mean {error}");
            let error = relative_error(&gaussian.cov.to_dense(), &covariance);
            prop_assert!(error < 1e-9, "covariance {error}");
        }
    }

    /// ε̂ and G from autograd of the exact log-density: score and Hessian by the definition.
    #[test]
    fn score_and_hessian_are_derivatives(
        seed in 0u64..10_000,
        k in 1usize..4,
        d in 1usize..6,
        t in 1e-2f64..1.0,
    ) {
        let (mixture, schedule) = (random_mixture(seed, k, d), Vp::default());
        let times = Times::All(t);
        let x = diffused(&mixture, &schedule, t, 1, seed).set_requires_grad(true);
        let log_density = mixture.log_density_at(&x, &schedule, &times).sum(Kind::Double);
        let gradient = Tensor::run_backward(&[log_density], &[&x], true, true).remove(0);
        let rows: Vec<Tensor> = (0..d as i64)
            .map(|i| Tensor::run_backward(&[gradient.get(0).get(i)], &[&x], true, false).remove(0))
            .collect();
        let sigma2 = schedule.sigma2(t);
        let g = Tensor::cat(&rows, 0).unsqueeze(0) * sigma2 + Tensor::eye(d as i64, F64);
        let moments = mixture.moments(&x, &schedule, &times);
        prop_assert!(relative_error(&score(&moments.noise, &schedule, &times), &gradient) < 1e-8);
        prop_assert!(relative_error(&moments.cov.to_dense(), &g) < 1e-8);
        let diagonal = mixture.moments_diagonal(&x, &schedule, &times);
        prop_assert!(relative_error(&diagonal.cov.diagonal(), &moments.cov.diagonal()) < 1e-10);
    }

    /// The bridge at η = 1 is Proposition 2: mean (x + k² s)/m, covariance (k²/m²)(I + k² H).
    #[test]
    fn bridge_is_proposition_2(
        seed in 0u64..10_000,
        d in 1usize..6,
        s in 1e-4f64..0.5,
        gap in 1e-4f64..0.5,
    ) {
        let mixture = random_mixture(seed, 2, d);
        for schedule in schedules() {
            let t = s + gap;
            let x = diffused(&mixture, &*schedule, t, 3, seed);
            let times = Times::All(t);
            let NoiseMoments { noise, cov, .. } = mixture.moments(&x, &*schedule, &times);
            let Transition { m, k2 } = schedule.transition(s, t);
            let mean = (&x + score(&noise, &*schedule, &times) * k2) / m;
            let identity = Tensor::eye(d as i64, F64);
            let hessian = (cov.to_dense() - &identity) / schedule.sigma2(t);
            let covariance = (identity + hessian * k2) * (k2 / (m * m));
            let gaussian = bridge(&x, &noise, &cov, &*schedule, &Times::All(s), &times, 1.0);
            prop_assert!(relative_error(&gaussian.mean, &mean) < 1e-10);
            prop_assert!(relative_error(&gaussian.cov.to_dense(), &covariance) < 1e-10);
        }
    }

    /// On Gaussian data the bridge carries the exact marginal at t to the exact marginal at s, for
    /// every η: its mean is affine in x, so both moments follow from its values at 0 and at the
    /// unit vectors.
    #[test]
    fn bridge_keeps_gaussian_marginals(
        seed in 0u64..10_000,
        d in 1usize..6,
        eta in 0f64..=1.0,
        s in 1e-4f64..0.5,
        gap in 1e-3f64..0.5,
    ) {
        let mixture = random_mixture(seed, 1, d);
        let (data_mean, data_cov) = mixture.mean_and_covariance();
        for schedule in schedules() {
            let t = s + gap;
            let identity = Tensor::eye(d as i64, F64);
            let zero = Tensor::zeros([1, d as i64], F64);
            let probes = Tensor::cat(&[zero, identity.shallow_clone()], 0);
            let times = Times::All(t);
            let NoiseMoments { noise, cov, .. } = mixture.moments(&probes, &*schedule, &times);
            let gaussian = bridge(&probes, &noise, &cov, &*schedule, &Times::All(s), &times, eta);
            let offset = gaussian.mean.get(0);
            let map = (gaussian.mean.narrow(0, 1, d as i64) - &offset).transpose(0, 1);
            let marginal = |t: f64| {
                let a = schedule.alpha(t);
                (&data_mean * a, &data_cov * (a * a) + &identity * schedule.sigma2(t))
            };
            let ((mean_t, cov_t), (mean_s, cov_s)) = (marginal(t), marginal(s));
            let mean = map.matmul(&mean_t.unsqueeze(-1)).squeeze_dim(-1) + offset;
            let noise = gaussian.cov.to_dense().get(0);
            let cov = map.matmul(&cov_t).matmul(&map.transpose(0, 1)) + noise;
            prop_assert!(relative_error(&mean, &mean_s) < 1e-9, "mean");
            let error = relative_error(&cov, &cov_s);
            prop_assert!(error < 1e-9, "covariance {error}");
        }
    }
}

/// An oracle with its ε̂ shifted and its G scaled by parameters that autograd sees.
struct Perturbed {
    oracle: Oracle,
    shift: Tensor,
    log_scale: Tensor,
}

impl Perturbed {
    fn new(mixture: GaussianMixture) -> Perturbed {
        let d = mixture.dim();
        Perturbed {
            oracle: Oracle::new(mixture, Arc::new(Vp::default())),
            shift: Tensor::zeros([d], F64).set_requires_grad(true),
            log_scale: Tensor::zeros([d], F64).set_requires_grad(true),
        }
    }
}

impl Denoiser for Perturbed {
    fn space(&self) -> &Space {
        self.oracle.space()
    }
    fn noise(&self, q: &Query) -> Tensor {
        self.oracle.noise(q) + &self.shift
    }
    fn moments(&self, q: &Query) -> NoiseMoments {
        let NoiseMoments { noise, cov, .. } = self.oracle.moments(q);
        let root = (&self.log_scale * 0.5).exp();
        let g = cov.to_dense() * root.unsqueeze(0).unsqueeze(-1) * root.unsqueeze(0).unsqueeze(0);
        NoiseMoments::new(noise + &self.shift, SymMatrix::Full(g))
    }
}

fn lm(transitions: usize, form: LmForm) -> LikelihoodMatching {
    LikelihoodMatching {
        transitions,
        form,
        time: TimeDistribution::Uniform,
        grid: PathGrid::Random,
        score: ScoreGradient::Joint,
    }
}

/// LM's expected gradient in shift and scale is 0 at the oracle, within four standard errors over
/// batches; at a model whose G is off by a factor of two it is not.
#[test]
fn lm_gradient_vanishes_at_the_oracle() {
    for form in [LmForm::Path, LmForm::Marginal] {
        let model = Perturbed::new(random_mixture(3, 2, 3));
        let objective = lm(5, form);
        let (batches, rows) = (24u64, 500u64);
        let gradients: Vec<Vec<f64>> = (0..batches)
            .map(|i| {
                let x0 = model.oracle.mixture.sample(rows as usize, Seed(1000 + i));
                let mut noise = Noise::new(Seed(i), 0..rows);
                let loss = objective.loss(&model, &Batch::of(&x0), &mut noise).mean(Kind::Double);
                let g =
                    Tensor::run_backward(&[loss], &[&model.shift, &model.log_scale], false, false);
                Vec::try_from(Tensor::cat(&g, 0)).unwrap()
            })
            .collect();
        for j in 0..6 {
            let (mean, error) = mean_and_error(&gradients.iter().map(|g| g[j]).collect::<Vec<_>>());
            assert!(mean.abs() < 4.0 * error, "{form:?}, parameter {j}: {mean} ± {error}");
        }
        // the check can fail: at twice the oracle's G the gradient in the scale is many standard
        // errors from 0
        let _ = tch::no_grad(|| model.log_scale.shallow_clone().fill_(2f64.ln()));
        let x0 = model.oracle.mixture.sample(4000, Seed(1));
        let loss = objective
            .loss(&model, &Batch::of(&x0), &mut Noise::new(Seed(2), 0..4000))
            .mean(Kind::Double);
        let off = Tensor::run_backward(&[loss], &[&model.log_scale], false, false).remove(0);
        let (_, error) = mean_and_error(&gradients.iter().map(|g| g[3]).collect::<Vec<_>>());
        assert!(
            off.get(0).double_value(&[]) > 10.0 * error,
            "{form:?}: {} ± {error}",
            off.get(0).double_value(&[])
        );
    }
}

/// Path and marginal form have the same expectation, also away from the oracle, and the marginal
/// form's variance is the smaller; how much smaller depends on the data (the ratios are printed).
#[test]
fn path_and_marginal_agree_in_expectation() {
    let model = Perturbed::new(random_mixture(5, 3, 3));
    let _ = tch::no_grad(|| model.log_scale.shallow_clone().fill_(0.3));
    let _ = tch::no_grad(|| model.shift.shallow_clone().fill_(0.1));
    let n = 20_000;
    let x0 = model.oracle.mixture.sample(n, Seed(7));
    for transitions in [1, 5, 20] {
        let values = |form| {
            let noise = &mut Noise::new(Seed(11), 0..n as u64);
            let loss = tch::no_grad(|| lm(transitions, form).loss(&model, &Batch::of(&x0), noise));
            mean_and_error(&Vec::<f64>::try_from(loss).unwrap())
        };
        let ((path, path_error), (marginal, marginal_error)) =
            (values(LmForm::Path), values(LmForm::Marginal));
        let error = path_error.hypot(marginal_error);
        assert!(
            (path - marginal).abs() < 4.0 * error,
            "N = {transitions}: {path} against {marginal} ± {error}"
        );
        let ratio = (marginal_error / path_error).powi(2);
        println!("N = {transitions}: variance of marginal / path = {ratio:.3}");
        // one transition from T to ε has ε' = ε: the forms coincide
        assert!(transitions == 1 || ratio < 1.0, "N = {transitions}: variance ratio {ratio}");
    }
}

/// On Gaussian data with the exact covariance the ELBO is ln p(x) in expectation at any number of
/// steps; with β, β̃ or H = 0 it is below at few steps.
#[test]
fn elbo_is_exact_on_gaussian_data() {
    let oracle = Oracle::new(random_mixture(8, 1, 3), Arc::new(Vp::default()));
    let n = 4000;
    let x = oracle.mixture.sample(n, Seed(21));
    let exact = Vec::<f64>::try_from(oracle.mixture.log_density(&x)).unwrap();
    let gap = |covariance: &dyn Covariance, steps, spacing: Spacing| {
        let grid = spacing.elbo_grid(&Vp::default(), steps);
        let elbo = Elbo::new(Reverse::new(&oracle, covariance, 1.0).unwrap(), grid, 2);
        let estimate = elbo.log_likelihood(&Batch::of(&x), Seed(22), 0).unwrap();
        let differences: Vec<f64> =
            estimate.values.iter().zip(&exact).map(|(a, b)| a - b).collect();
        mean_and_error(&differences)
    };
    // N(0, σ_T² I) at T is not quite the diffused distribution: its divergence is at most α_T²
    // E‖x‖²/2 =
    // 1.2e-4 here
    let prior = 2e-4;
    for steps in [1, 2, 5, 20, 100] {
        for spacing in Spacing::ALL {
            let (mean, error) = gap(&Own, steps, spacing);
            assert!(mean.abs() < 4.0 * error + prior, "K = {steps}, {spacing:?}: {mean} ± {error}");
        }
    }
    let others: [&dyn Covariance; 3] = [&Beta, &BetaTilde, &ZeroHessian];
    for covariance in others {
        let (mean, error) = gap(covariance, 4, Spacing::Angle);
        assert!(mean < -5.0 * error, "{}: {mean} ± {error} is no looser", covariance.name());
    }
}

/// On a mixture the ELBO stays below ln p at few steps and closes in on it; the score-matching
/// bound, its limit, too.
#[test]
fn bounds_are_bounds_and_tighten() {
    let oracle = Oracle::new(random_mixture(9, 3, 2), Arc::new(Vp::default()));
    let n = 3000;
    let x = oracle.mixture.sample(n, Seed(31));
    let exact = Vec::<f64>::try_from(oracle.mixture.log_density(&x)).unwrap();
    let against = |values: &[f64]| {
        mean_and_error(&values.iter().zip(&exact).map(|(a, b)| a - b).collect::<Vec<_>>())
    };
    let mut last = f64::NEG_INFINITY;
    for steps in [4, 16, 64, 256] {
        let grid = Spacing::Angle.elbo_grid(&Vp::default(), steps);
        let elbo = Elbo::new(Reverse::new(&oracle, Own, 1.0).unwrap(), grid, 1);
        let (mean, error) =
            against(&elbo.log_likelihood(&Batch::of(&x), Seed(32), 0).unwrap().values);
        assert!(mean < 4.0 * error, "K = {steps}: {mean} ± {error} above ln p");
        assert!(mean > last - 4.0 * error, "K = {steps}: {mean} ± {error} after {last}");
        last = mean;
    }
    assert!(last > -0.02, "K = 256 is {last} nats below");
    let bound =
        ScoreMatchingBound::new(&oracle, 40).log_likelihood(&Batch::of(&x), Seed(33), 0).unwrap();
    let (mean, error) = against(&bound.values);
    assert!(mean.abs() < 4.0 * error + 1e-3, "score-matching bound: {mean} ± {error}");
}

/// Results do not depend on how rows are cut into batches.
#[test]
fn batches_do_not_change_likelihoods() {
    let oracle = Oracle::new(random_mixture(4, 2, 3), Arc::new(Vp::default()));
    let x = oracle.mixture.sample(50, Seed(41));
    let grid = Spacing::Angle.elbo_grid(&Vp::default(), 10);
    let elbo = Elbo::new(Reverse::new(&oracle, Own, 1.0).unwrap(), grid, 2);
    let whole = elbo.log_likelihood(&Batch::of(&x), Seed(42), 0).unwrap();
    let parts = elbo.in_batches(&Batch::of(&x), Seed(42), 7, &mut |_| Ok(())).unwrap();
    for (a, b) in whole.values.iter().zip(&parts.values) {
        assert!((a - b).abs() < 1e-9 * (1.0 + a.abs()), "{a} against {b}");
    }
}

/// The forward process simulated along a path has the distribution of the bridge: `x_s` given `x_t`
/// and `x_0` integrates to the reverse distribution for Gaussian data (ELBO terms vanish with the
/// exact covariance).
#[test]
fn reverse_distribution_of_gaussian_data_is_the_forward_bridge_averaged() {
    let mixture = random_mixture(6, 1, 2);
    let schedule = Vp::default();
    let (s, t) = (0.2, 0.5);
    let x = diffused(&mixture, &schedule, t, 5, 3);
    let times = Times::All(t);
    let moments = mixture.moments(&x, &schedule, &times);
    let NoiseMoments { noise, cov, .. } = &moments;
    let gaussian: Gaussian = bridge(&x, noise, cov, &schedule, &Times::All(s), &times, 1.0);
    // x_s | x_t = forward bridge with x_0 ~ posterior: mean and covariance by the formula of total
    // variance
    let forward = tweedie::posterior::ForwardBridge::new(&schedule, s, t);
    let of_x0 = posterior(&x, &moments, &schedule, &times);
    let mean = &x * forward.of_xt + &of_x0.mean * forward.of_x0;
    let cov = of_x0.cov.to_dense() * forward.of_x0.powi(2) + Tensor::eye(2, F64) * forward.variance;
    assert!(
        relative_error(&gaussian.mean, &mean) < 1e-11
            && relative_error(&gaussian.cov.to_dense(), &cov) < 1e-11
    );
}
