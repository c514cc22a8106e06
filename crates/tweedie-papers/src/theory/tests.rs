use super::mixtures::line;
use super::*;
use tweedie::covariance::Own;
use tweedie::likelihood::mean_and_error;
use tweedie::noise::Noise;
use tweedie::query::{Query, Times};
use tweedie::schedule::Schedule;
use tweedie::tensor::to_vec;

fn small() -> Theory {
    Theory { rows: 300, steps: vec![10, 20, 40, 80], perturbations: vec![0.1, 0.2], seed: 1 }
}

fn exact(oracle: &Oracle) -> Perturbed<'_> {
    Perturbed { oracle, score: None, hessian: None }
}

/// `G` of isotropic Gaussian data of standard deviation 0.6.
fn isotropic_g(schedule: &dyn Schedule, t: f64) -> f64 {
    let signal = schedule.alpha(t).powi(2) * 0.36;
    signal / (signal + schedule.sigma2(t))
}

/// Prior, steps and decoder add up to what the crate's ELBO gives, which knows nothing of them,
/// under every covariance and error: within four standard errors of both.
#[test]
fn the_parts_are_the_elbos() {
    for mixture in mixtures() {
        for chain in Chain::ALL {
            let found = small().on(&mixture, chain, 30, samplers(mixture.dim()), true).unwrap();
            assert!(found.without_density.is_empty());
            for Judged { sampler, path, .. } in &found.judged {
                let parts = [found.prior, path.steps, path.decoder, path.elbo.unwrap()];
                let error = parts.iter().map(|part| part.1 * part.1).sum::<f64>().sqrt();
                let gap = parts[0].0 + parts[1].0 + parts[2].0 - parts[3].0;
                assert!(
                    gap.abs() < 4.0 * error,
                    "d = {}, {}: {gap} ± {error}",
                    mixture.dim(),
                    sampler.name()
                );
                assert!(path.steps.0 > 0.0 && error < 2.0 + 0.3 * parts[3].0, "{parts:?}");
            }
        }
    }
}

/// On a Gaussian the exact sampler's path is exact; H = 0 and β are off by a closed form, as
/// `q(x_s|x_t)` has the covariance `λ² + c²g`, the same everywhere.
#[test]
fn a_gaussian_has_no_error_but_its_covariance() {
    let mixture = GaussianMixture::new(&[1.0], &[[0.0, 0.0]], &[0.6]).unwrap();
    let all = samplers(2)[1..3].iter().copied().chain([Sampler::EXACT]).collect();
    let (schedule, grid) = Chain::LogSnr.steps(20);
    let found = small().on(&mixture, Chain::LogSnr, 20, all, false).unwrap();
    let expected = |variance: &dyn Fn(tweedie::posterior::Bridge, f64) -> f64| -> f64 {
        let of = |gap: &[f64]| {
            let bridge = tweedie::posterior::Bridge::new(&*schedule, gap[0], gap[1], 1.0);
            let g = isotropic_g(&*schedule, gap[1]);
            let exact = bridge.lambda2 + bridge.c * bridge.c * g;
            let ratio = exact / variance(bridge, schedule.transition(gap[0], gap[1]).k2);
            ratio - 1.0 - ratio.ln()
        };
        grid[1..].windows(2).map(of).sum()
    };
    let steps: Vec<f64> = found.judged.iter().map(|j| j.path.steps.0).collect();
    let beta = expected(&|_, k2| k2);
    let zero_hessian = expected(&|bridge, _| bridge.lambda2 + bridge.c * bridge.c);
    assert!((steps[0] - beta).abs() < 1e-10 * beta, "{} {beta}", steps[0]);
    assert!((steps[1] - zero_hessian).abs() < 1e-10 * zero_hessian, "{} {zero_hessian}", steps[1]);
    assert!(steps[2].abs() < 1e-10, "{}", steps[2]);
}

/// The output on a Gaussian: its variance goes from `σ_T²` by `v_s = (1/m − c(1 − …))² v_t + Cov`,
/// and a distribution of another variance is apart in closed form.
#[test]
fn the_output_of_a_gaussian_is_a_gaussian() {
    let mixture = GaussianMixture::new(&[1.0], &[[0.0]], &[0.6]).unwrap();
    let (schedule, grid) = Chain::Theorem.steps(12);
    let oracle = Oracle::new(mixture, schedule.clone());
    let axes = Axes::new(&oracle, &grid[1..]);
    for covariance in [CovarianceConfig::Beta, CovarianceConfig::ZeroHessian, CovarianceConfig::Own]
    {
        let built = covariance.build(&CovarianceSources::default()).unwrap();
        let reverse = Reverse::new(&oracle, &*built, 1.0).unwrap();
        let found = output::distance(&oracle, &reverse, &grid[1..], &axes).unwrap();
        let mut v = schedule.sigma2(1.0);
        for gap in grid[1..].windows(2).rev() {
            let bridge = tweedie::posterior::Bridge::new(&*schedule, gap[0], gap[1], 1.0);
            let g = isotropic_g(&*schedule, gap[1]);
            // ε̂ = σ x/(α²v + σ²) = (1 − g) x/σ
            let slope = bridge.inv_m - bridge.c * (1.0 - g) / schedule.sigma(gap[1]);
            let own = match covariance {
                CovarianceConfig::Beta => schedule.transition(gap[0], gap[1]).k2,
                CovarianceConfig::ZeroHessian => bridge.lambda2 + bridge.c * bridge.c,
                _ => bridge.lambda2 + bridge.c * bridge.c * g,
            };
            v = slope * slope * v + own;
        }
        let data = schedule.alpha(grid[1]).powi(2) * 0.36 + schedule.sigma2(grid[1]);
        let kl = 0.5 * (data / v - 1.0 - (data / v).ln());
        assert!((found.divergence - kl).abs() < 1e-10, "{covariance}: {} {kl}", found.divergence);
        assert!(
            found.lost < 1e-10 && found.total_variation <= (0.5 * found.divergence).sqrt() + 1e-12,
            "{found:?}"
        );
    }
}

/// A mixture's output against draws of the same steps: `E x²` and `E x³` within four standard
/// errors; and it does not depend on the axis.
#[test]
fn the_output_is_that_of_the_sampler() {
    let (schedule, grid) = Chain::LogSnr.steps(6);
    let oracle = Oracle::new(line(), schedule.clone());
    let model = exact(&oracle);
    let reverse = Reverse::new(&model, Own, 1.0).unwrap();
    let axes = Axes::new(&oracle, &grid[1..]);
    let coarse = output::distance(&oracle, &reverse, &grid[1..], &axes).unwrap();
    let fine = Axes::finer(&oracle, &grid[1..], 2.5);
    let finer = output::distance(&oracle, &reverse, &grid[1..], &fine).unwrap();
    assert!((coarse.total_variation - finer.total_variation).abs() < 1e-6, "{coarse:?} {finer:?}");
    assert!((coarse.divergence - finer.divergence).abs() < 1e-10, "{coarse:?} {finer:?}");
    let n = 20_000;
    let mut noise = Noise::new(Seed(7), 0..n as u64);
    let mut normals = || noise.normal(1, tch::Kind::Double, tch::Device::Cpu);
    let mut x = normals() * schedule.sigma(1.0);
    for gap in grid[1..].windows(2).rev() {
        let mut streams = Noise::new(Seed(0), 0..n as u64);
        let (s, t) = (Times::All(gap[0]), Times::All(gap[1]));
        x = reverse.at(&Query::new(&x, &t), &s, &mut streams).sample(&normals());
    }
    let density = output::density(&reverse, &grid[1..], &fine).unwrap();
    for power in [2, 3] {
        let moment = fine.mean(&density, |x| x.powi(power));
        let draws: Vec<f64> = to_vec(&x).into_iter().map(|x| x.powi(power)).collect();
        let (mean, error) = mean_and_error(&draws);
        assert!(
            (mean - moment).abs() < 4.0 * error,
            "E x^{power}: {moment}, drawn {mean} ± {error}"
        );
    }
}

/// What the theory says, at small sizes: the path's divergence falls as 1/K for covariances that
/// are off and as 1/K² for the exact one, within four Monte-Carlo errors, as does the total
/// variation of the output, without; an error δ of the score adds `½ δ² d ∫g²`, one of the Hessian
/// `¼ δ² d Σ k⁴`; an output is no farther than its path (Pinsker).
#[test]
fn slopes_and_sizes_are_the_theorys() {
    let experiment = Theory { rows: 600, steps: vec![20, 40, 80, 160], ..small() };
    let mut report = Report { experiment, over_steps: Vec::new(), over_sizes: Vec::new() };
    let theory = report.experiment.clone();
    let cases = [(1, Chain::Theorem), (1, Chain::LogSnr), (2, Chain::LogSnr)];
    let [line, plane, ten] = mixtures();
    for (mixture, chain) in [&line, &line, &plane].into_iter().zip(cases.map(|case| case.1)) {
        let samplers: Vec<Sampler> =
            [CovarianceConfig::Beta, CovarianceConfig::ZeroHessian, CovarianceConfig::Own]
                .map(Sampler::Exact)
                .into();
        let of = |&k: &usize| theory.on(mixture, chain, k, samplers.clone(), false).unwrap();
        report.over_steps.extend(theory.steps.iter().map(of));
    }
    let errors =
        [Sampler::Score(0.1), Sampler::Score(0.2), Sampler::Hessian(0.1), Sampler::Hessian(0.2)];
    let fewer = Theory { rows: 100, ..theory.clone() };
    let of = |mixture: &GaussianMixture| {
        fewer.on(mixture, Chain::Theorem, 160, errors.to_vec(), false).unwrap()
    };
    report.over_sizes = [&line, &plane, &ten].map(of).into();
    for (dim, chain) in cases {
        for (sampler, expected) in [
            (Sampler::Exact(CovarianceConfig::Beta), -1.0),
            (Sampler::Exact(CovarianceConfig::ZeroHessian), -1.0),
            (Sampler::EXACT, -2.0),
        ] {
            // of H = 0 the schedule (18), ever longer, has ln²T/T: exponents −1 + 1/(ln T − 1),
            // that is −0.63 to −0.75
            let longer =
                chain == Chain::Theorem && sampler == Sampler::Exact(CovarianceConfig::ZeroHessian);
            let of_path = if longer { -0.75 } else { expected };
            let (slope, error) = report.exponent(dim, chain, sampler, |s| s.steps);
            let name = format!("d = {dim}, {chain:?}, {}", sampler.name());
            assert!(
                error < 0.3 && (slope - of_path).abs() < 0.1 + 4.0 * error,
                "{name}: {slope} ± {error}"
            );
            assert_eq!(slope < -1.5, expected == -2.0, "{name}: {slope} ± {error}");
            if dim == 1 {
                let (slope, _) = report.output_exponent(chain, sampler, |d| d.total_variation);
                assert!((slope - expected).abs() < 0.25, "{name}, output: {slope}");
                let (slope, _) = report.output_exponent(chain, sampler, |d| d.divergence);
                assert!((slope - 2.0 * expected).abs() < 0.5, "{name}, output: {slope}");
            }
        }
    }
    for measured in &report.over_sizes {
        for Judged { sampler, path: divergence, .. } in &measured.judged {
            let limit = match sampler {
                Sampler::Score(size) => size * size * measured.of_score,
                Sampler::Hessian(size) => size * size * measured.of_hessian,
                Sampler::Exact(_) => unreachable!("errors alone"),
            };
            let ratio = divergence.excess.0 / limit;
            // a mean of 100 rows; and steps of k² ≤ 3 ln T/T, where the data are forgotten of
            // covariance k², not k²/m²
            let error = 4.0 * divergence.excess.1 / limit + 3.0 * (3.0 * 160f64.ln() / 160.0);
            assert!(
                (ratio - 1.0).abs() < error,
                "d = {}, {}: {ratio}",
                measured.dim,
                sampler.name()
            );
        }
    }
    for measured in report.over_steps.iter().chain(&report.over_sizes) {
        for Judged { path: divergence, output, .. } in &measured.judged {
            let Some(distance) = output else { continue };
            let path = measured.prior.0.max(0.0) + divergence.steps.0 + 4.0 * divergence.steps.1;
            assert!(distance.total_variation < (0.5 * path).sqrt(), "{distance:?} {divergence:?}");
            assert!(distance.divergence < path + 1e-9, "{distance:?} {divergence:?}");
        }
    }
}

#[test]
fn bad_settings_name_the_field() {
    let refused = |theory: Theory, field: &str| {
        let message = theory.measure(&mut |_, _| ()).unwrap_err().to_string();
        assert!(message.contains(field), "{message}");
    };
    refused(Theory { steps: vec![4, 10, 20, 40], ..small() }, "experiment.steps");
    refused(Theory { steps: vec![10, 40, 20, 80], ..small() }, "experiment.steps");
    refused(Theory { perturbations: vec![0.1, 0.7], ..small() }, "experiment.perturbations");
    refused(Theory { rows: 1, ..small() }, "experiment.rows");
}
