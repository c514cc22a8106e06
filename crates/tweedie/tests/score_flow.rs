//! The theorems of *Maximum Likelihood Training of Score-Based Diffusion Models* on known mixtures,
//! by quadrature in f64: with `p` and `q` diffused from ε on, where the processes are smooth.

use std::sync::Arc;

use tch::{Device, Kind, Tensor};
use tweedie::oracle::{GaussianMixture, MixtureParameters};
use tweedie::posterior::score;
use tweedie::query::Times;
use tweedie::schedule::{Schedule, SubVp, Ve, Vp};

const F64: (Kind, Device) = (Kind::Double, Device::Cpu);

fn schedules() -> [Arc<dyn Schedule>; 3] {
    [Arc::new(Vp::default()), Arc::new(SubVp::default()), Arc::new(Ve::default())]
}

fn mixture(weights: &[f64], means: &[&[f64]], covariances: &[&[f64]]) -> GaussianMixture {
    let owned = |rows: &[&[f64]]| rows.iter().map(|row| row.to_vec()).collect::<Vec<_>>();
    GaussianMixture::from_parameters(&MixtureParameters {
        weights: weights.to_vec(),
        means: owned(means),
        covariances: owned(covariances),
    })
    .unwrap()
}

/// Data `p` and a model's `q` in one and in two dimensions.
fn pairs() -> [(GaussianMixture, GaussianMixture); 2] {
    let line = (
        mixture(&[0.3, 0.7], &[&[-1.5], &[1.0]], &[&[0.1], &[0.3]]),
        mixture(&[0.6, 0.4], &[&[-1.0], &[1.5]], &[&[0.4], &[0.2]]),
    );
    let plane = (
        mixture(
            &[0.5, 0.5],
            &[&[-1.0, 0.5], &[1.0, 0.0]],
            &[&[0.3, 0.1, 0.1, 0.4], &[0.5, -0.2, -0.2, 0.3]],
        ),
        mixture(
            &[0.7, 0.3],
            &[&[0.0, 0.0], &[1.0, -1.0]],
            &[&[0.8, 0.2, 0.2, 0.6], &[0.3, 0.0, 0.0, 0.4]],
        ),
    );
    [line, plane]
}

/// Points of a regular grid `[n, d]` that holds all of `p_t` and `q_t`, and the volume of a cell.
/// The trapezoidal rule on it is exact to rounding for integrands that are smooth and fall off as
/// Gaussians.
fn cells(of: [&GaussianMixture; 2], schedule: &dyn Schedule, t: f64) -> (Tensor, f64) {
    let d = of[0].dim() as usize;
    let points = if d == 1 { 1200 } else { 110 };
    let (alpha, sigma2) = (schedule.alpha(t), schedule.sigma2(t));
    let axes = (0..d).map(|axis| {
        let (mut low, mut high) = (f64::MAX, f64::MIN);
        for MixtureParameters { means, covariances, .. } in of.map(GaussianMixture::parameters) {
            for (mean, covariance) in means.iter().zip(&covariances) {
                let sd = (alpha * alpha * covariance[axis * (d + 1)] + sigma2).sqrt();
                low = low.min(alpha * mean[axis] - 9.0 * sd);
                high = high.max(alpha * mean[axis] + 9.0 * sd);
            }
        }
        (Tensor::linspace(low, high, points, F64), (high - low) / (points - 1) as f64)
    });
    let (axes, widths): (Vec<Tensor>, Vec<f64>) = axes.unzip();
    let mesh = Tensor::meshgrid_indexing(&axes, "ij");
    let flat: Vec<Tensor> = mesh.iter().map(|axis| axis.reshape([-1])).collect();
    (Tensor::stack(&flat, 1), widths.iter().product())
}

/// The rule of Gauss and Legendre with five points on each of `panels` parts of `[ε, T]`.
fn over_time(schedule: &dyn Schedule, panels: usize, at: impl Fn(f64) -> f64) -> f64 {
    const POINTS: [(f64, f64); 5] = [
        (-0.906_179_845_938_664, 0.236_926_885_056_189_1),
        (-0.538_469_310_105_683_1, 0.478_628_670_499_366_5),
        (0.0, 0.568_888_888_888_888_9),
        (0.538_469_310_105_683_1, 0.478_628_670_499_366_5),
        (0.906_179_845_938_664, 0.236_926_885_056_189_1),
    ];
    let (first, half) = (schedule.epsilon(), (schedule.horizon() - schedule.epsilon()) / 2.0);
    let half = half / panels as f64;
    let middle = |i| first + half * (2 * i + 1) as f64;
    let of_panel = |i| POINTS.iter().map(|(x, w)| w * at(middle(i) + half * x)).sum::<f64>();
    (0..panels).map(of_panel).sum::<f64>() * half
}

fn panels(mixture: &GaussianMixture) -> usize {
    if mixture.dim() == 1 { 100 } else { 30 }
}

/// How far a figure is from another, of the larger's size.
fn relative(a: f64, b: f64) -> f64 {
    (a - b).abs() / a.abs().max(b.abs())
}

fn score_of(mixture: &GaussianMixture, x: &Tensor, schedule: &dyn Schedule, t: f64) -> Tensor {
    let times = Times::All(t);
    score(&mixture.noise(x, schedule, &times), schedule, &times)
}

fn log_density(mixture: &GaussianMixture, x: &Tensor, schedule: &dyn Schedule, t: f64) -> Tensor {
    mixture.log_density_at(x, schedule, &Times::All(t))
}

/// `E_{p_t} h`, of `h` at every point.
fn mean(
    p: &GaussianMixture,
    (x, cell): &(Tensor, f64),
    schedule: &dyn Schedule,
    t: f64,
    h: &Tensor,
) -> f64 {
    let density = log_density(p, x, schedule, t).exp();
    (density * h).sum(Kind::Double).double_value(&[]) * cell
}

/// `D_KL(p_t ‖ q_t)`.
fn divergence(p: &GaussianMixture, q: &GaussianMixture, schedule: &dyn Schedule, t: f64) -> f64 {
    let at = cells([p, q], schedule, t);
    let [of_p, of_q] = [p, q].map(|mixture| log_density(mixture, &at.0, schedule, t));
    mean(p, &at, schedule, t, &(of_p - of_q))
}

/// `½ g² E_{p_t}‖∇ln p_t − s‖²`: the integrand of (3) with likelihood weighting.
fn mismatch(
    p: &GaussianMixture,
    at: &(Tensor, f64),
    schedule: &dyn Schedule,
    t: f64,
    s: &Tensor,
) -> f64 {
    let difference = score_of(p, &at.0, schedule, t) - s;
    let squares = difference.square().sum_dim_intlist([1i64].as_slice(), false, Kind::Double);
    0.5 * schedule.diffusion2(t) * mean(p, at, schedule, t, &squares)
}

/// Theorem 2, (10): where `s` is the score of a diffused `q`, the divergence from the data is the
/// score-matching loss with likelihood weighting, plus what is left of it at `T`.
#[test]
fn the_divergence_is_the_weighted_loss() {
    for (p, q) in &pairs() {
        for schedule in schedules() {
            let s = &*schedule;
            let loss = over_time(s, panels(p), |t| {
                let at = cells([p, q], s, t);
                mismatch(p, &at, s, t, &score_of(q, &at.0, s, t))
            });
            let (first, last) =
                (divergence(p, q, s, s.epsilon()), divergence(p, q, s, s.horizon()));
            let (d, error) = (p.dim(), relative(first, loss + last));
            println!("{d}-D, {schedule:?}: {first} = {loss} + {last}, off by {error:.1e}");
            assert!(first > 0.1 && error < 1e-8, "{first} against {loss} + {last}");
            assert!(last >= 0.0 && last < 1e-2 * first, "{last}");
        }
    }
}

/// Theorem 4 (appendix A), the entropy's integral form; under VE de Bruijn's identity:
/// `H(p_ε) = H(p_T) − ½ ∫ E[2 ∇·f + g² ‖∇ln p_t‖²] dt`.
#[test]
fn the_entropy_is_an_integral() {
    for (p, _) in &pairs() {
        for schedule in schedules() {
            let s = &*schedule;
            let d = p.dim() as f64;
            let entropy = |t| {
                let at = cells([p, p], s, t);
                -mean(p, &at, s, t, &log_density(p, &at.0, s, t))
            };
            let gained = over_time(s, panels(p), |t| {
                let at = cells([p, p], s, t);
                let zero = Tensor::zeros_like(&at.0);
                d * s.drift(t) + mismatch(p, &at, s, t, &zero)
            });
            let (first, last) = (entropy(s.epsilon()), entropy(s.horizon()));
            let error = (first - (last - gained)).abs();
            println!("{d}-D, {schedule:?}: {first} = {last} − {gained}, off by {error:.1e}");
            assert!(gained.abs() > 0.01 && error < 1e-8, "{first} against {last} − {gained}");
        }
    }
}

/// Variances of the SDE's and the ODE's rows at ε, begun at T with that of a diffused `N(0, v)`,
/// under the scores `−c x/v_t`: `dV/dt = 2 (f + g² c/v_t) V − g²` and `dV/dt = (2f + g² c/v_t) V`,
/// solved backwards by Runge and Kutta's method in `ln V` and steps equal in time.
fn variances(schedule: &dyn Schedule, v: f64, c: f64) -> [f64; 2] {
    let variance = |t: f64| schedule.alpha(t).powi(2) * v + schedule.sigma2(t);
    let (f, g2) = (|t| schedule.drift(t), |t| schedule.diffusion2(t));
    let pull = |t| g2(t) * c / variance(t);
    let sde = |t: f64, log: f64| 2.0 * (f(t) + pull(t)) - g2(t) / log.exp();
    let ode = |t: f64, _: f64| 2.0 * f(t) + pull(t);
    let steps = 20_000;
    let solve = |slope: &dyn Fn(f64, f64) -> f64| {
        let (first, last) = (schedule.epsilon(), schedule.horizon());
        let h = (first - last) / steps as f64;
        let mut log = variance(last).ln();
        for i in 0..steps {
            let t = last + h * i as f64;
            let a = slope(t, log);
            let b = slope(t + h / 2.0, log + a * h / 2.0);
            let c = slope(t + h / 2.0, log + b * h / 2.0);
            let d = slope(t + h, log + c * h);
            log += h / 6.0 * (a + 2.0 * b + 2.0 * c + d);
        }
        log.exp()
    };
    [solve(&sde), solve(&ode)]
}

/// Theorem 1, (8), and Theorem 2, (9), where the model's two distributions are known: Gaussians, as
/// the score is linear. With the score of a diffused `q` both are `q`, and the bound is met; with
/// 1.3 times that score, which no process has, they differ, and the bound is one.
#[test]
fn the_weighted_loss_bounds_the_divergence() {
    let p = &pairs()[0].0;
    let (v, normal) = (1.3, |variance: f64| mixture(&[1.0], &[&[0.0]], &[&[variance]]));
    for schedule in schedules() {
        let s = &*schedule;
        let (alpha, sigma2) = (s.alpha(s.epsilon()), s.sigma2(s.epsilon()));
        let exact = alpha * alpha * v + sigma2;
        let q = &normal(v);
        for c in [1.0, 1.3] {
            let loss = over_time(s, panels(p), |t| {
                let at = cells([p, q], s, t);
                let model = score_of(q, &at.0, s, t) * c;
                mismatch(p, &at, s, t, &model)
            });
            let bound = loss + divergence(p, q, s, s.horizon());
            let [sde, ode] = variances(s, v, c);
            // what the model's rows at ε would be diffused from
            let model = normal((sde - sigma2) / (alpha * alpha));
            let found = divergence(p, &model, s, s.epsilon());
            println!("{schedule:?}, c = {c}: {found} ≤ {bound}; variances {sde}, {ode}");
            if c == 1.0 {
                assert!(relative(sde, exact) < 1e-8 && relative(ode, exact) < 1e-8, "{sde} {ode}");
                assert!(relative(found, bound) < 1e-8, "{found} against {bound}");
            } else {
                assert!(relative(sde, ode) > 1e-3, "{sde} against {ode}");
                assert!(found < bound - 1e-3, "{found} against {bound}");
            }
        }
    }
}
