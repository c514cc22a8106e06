use std::sync::Arc;

use super::*;
use crate::noise::Seed;
use crate::schedule::Vp;

/// Three numbers, two categories of three and two values, two components.
fn mixture() -> MixedMixture {
    MixedMixture::from_parameters(&MixedParameters {
        numbers: MixtureParameters {
            weights: vec![0.4, 0.6],
            means: vec![vec![-1.0, 0.5, 2.0], vec![1.0, 0.0, -0.5]],
            covariances: vec![
                vec![1.0, 0.6, 0.1, 0.6, 0.8, -0.2, 0.1, -0.2, 0.5],
                vec![0.5, -0.2, 0.0, -0.2, 0.4, 0.3, 0.0, 0.3, 0.9],
            ],
        },
        categories: vec![3, 2],
        pmfs: vec![vec![0.7, 0.2, 0.1, 0.9, 0.1], vec![0.1, 0.3, 0.6, 0.35, 0.65]],
    })
    .unwrap()
}

fn layout() -> Arc<CellLayout> {
    Arc::new(mixture().layout().clone())
}

const NONE: u32 = Cells::MISSING;
const HOLE: f64 = f64::NAN;

/// Gauss–Hermite-free brute force: a fine grid in one number.
fn integral(f: impl Fn(f64) -> f64) -> f64 {
    let (n, width) = (4000, 24.0);
    (0..=n).map(|i| f(-12.0 + width * i as f64 / n as f64)).sum::<f64>() * width / n as f64
}

fn density(numbers: &[f64], codes: &[u32]) -> f64 {
    let cells = Cells::observed(layout(), numbers.to_vec(), codes.to_vec());
    mixture().log_density(&cells).double_value(&[0]).exp()
}

/// The density of a complete row by the formula, written out.
#[test]
fn a_complete_row_has_the_density_of_the_formula() {
    let (x, codes) = ([0.3, -0.4, 0.8], [2u32, 0]);
    let parameters = mixture().parameters();
    let mut expected = 0.0;
    for k in 0..2 {
        let gaussian = GaussianMixture::from_parameters(&MixtureParameters {
            weights: vec![1.0],
            means: vec![parameters.numbers.means[k].clone()],
            covariances: vec![parameters.numbers.covariances[k].clone()],
        });
        let of_numbers = gaussian.unwrap().log_density(&Tensor::from_slice2(&[x]));
        let pmf = &parameters.pmfs[k];
        expected += parameters.numbers.weights[k]
            * of_numbers.double_value(&[0]).exp()
            * pmf[codes[0] as usize]
            * pmf[3 + codes[1] as usize];
    }
    assert!((density(&x, &codes) / expected - 1.0).abs() < 1e-12);
}

/// What is missing is integrated and summed out: against sums over all values and a quadrature.
#[test]
fn marginals_are_exact() {
    let found = density(&[0.3, HOLE, 0.8], &[NONE, 1]);
    let expected: f64 = (0..3).map(|c| integral(|x| density(&[0.3, x, 0.8], &[c, 1]))).sum();
    assert!((found / expected - 1.0).abs() < 1e-9, "{found} {expected}");
    assert!((density(&[HOLE; 3], &[NONE; 2]) - 1.0).abs() < 1e-12);
    let all: f64 = (0..6).map(|i| density(&[HOLE; 3], &[i / 2, i % 2])).sum();
    assert!((all - 1.0).abs() < 1e-12);
}

/// Probabilities of a category, mean and variance of a number given the other cells, by Bayes'
/// formula with sums and quadratures.
#[test]
fn conditional_distributions_are_exact() {
    let (x, codes) = ([0.3, HOLE, 0.8], [NONE, 1]);
    let cells = Cells::observed(layout(), x.to_vec(), codes.to_vec());
    let total = density(&x, &codes);
    let pmfs = to_vec(&mixture().pmfs(&cells));
    for c in 0..3 {
        let expected = density(&x, &[c, 1]) / total;
        assert!((pmfs[c as usize] - expected).abs() < 1e-12, "{pmfs:?} {expected}");
    }
    let moment = |p: i32| integral(|y| y.powi(p) * density(&[0.3, y, 0.8], &codes)) / total;
    let (mean, variance) = mixture().mean_and_variance(&cells);
    assert!((mean.double_value(&[0, 1]) - moment(1)).abs() < 1e-9);
    assert!((variance.double_value(&[0, 1]) - (moment(2) - moment(1).powi(2))).abs() < 1e-9);
    assert_eq!(mean.double_value(&[0, 0]), 0.3);
    assert!(variance.double_value(&[0, 0]) < 1e-30);
}

/// Draws of what is missing have its conditional distribution, and leave the rest as it is.
#[test]
fn draws_have_the_conditional_distribution() {
    let n = 20_000;
    let cells = Cells::observed(layout(), [0.3, HOLE, 0.8].repeat(n), [NONE, 1].repeat(n));
    let (numbers, codes) = mixture().complete(&cells, &mut Noise::new(Seed(3), 0..n as u64));
    let one = cells.rows(0..1);
    let ((mean, variance), pmfs) = (mixture().mean_and_variance(&one), mixture().pmfs(&one));
    let (mean, variance) = (mean.double_value(&[0, 1]), variance.double_value(&[0, 1]));
    let found = numbers.iter().skip(1).step_by(3).sum::<f64>() / n as f64;
    assert!((found - mean).abs() < 4.0 * (variance / n as f64).sqrt(), "{found} {mean}");
    let spread =
        numbers.iter().skip(1).step_by(3).map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64;
    assert!((spread / variance - 1.0).abs() < 0.05, "{spread} {variance}");
    let first = codes.iter().step_by(2).filter(|&&c| c == 0).count() as f64 / n as f64;
    let p = pmfs.double_value(&[0, 0]);
    assert!((first - p).abs() < 4.0 * (p * (1.0 - p) / n as f64).sqrt(), "{first} {p}");
    assert!(numbers.iter().step_by(3).all(|&x| x == 0.3));
    assert!(codes.iter().skip(1).step_by(2).all(|&c| c == 1));
}

/// `ε̂ = −σ ∇ ln p_t(x_t | given)` of the targets, by differences of the density of the diffused
/// rows, which is that of another mixture; and `G = I + σ² ∇∇ ln p_t`. Numbers that are no targets
/// have what [`Cells`] says of them.
#[test]
fn moments_are_derivatives_of_the_conditional_density() {
    let (schedule, t) = (Vp::default(), 0.2);
    let (alpha, sigma) = (schedule.alpha(t), schedule.sigma(t));
    // numbers 0 and 2 are targets, of number 1 the value is given
    let parameters = mixture().parameters();
    let diffused = MixedParameters {
        numbers: MixtureParameters {
            means: parameters
                .numbers
                .means
                .iter()
                .map(|m| vec![alpha * m[0], m[1], alpha * m[2]])
                .collect(),
            covariances: parameters
                .numbers
                .covariances
                .iter()
                .map(|s| {
                    let a = [alpha, 1.0, alpha];
                    let noise = |i: usize| if [0, 8].contains(&i) { sigma * sigma } else { 0.0 };
                    (0..9).map(|i| s[i] * a[i / 3] * a[i % 3] + noise(i)).collect()
                })
                .collect(),
            ..parameters.numbers.clone()
        },
        ..parameters.clone()
    };
    let diffused = MixedMixture::from_parameters(&diffused).unwrap();
    let (given, codes) = (-0.7, [NONE, 1u32]);
    let log = |x: f64, z: f64| {
        let cells = Cells::observed(layout(), vec![x, given, z], codes.to_vec());
        diffused.log_density(&cells).double_value(&[0])
    };
    let (x, z, h) = (0.4, 1.1, 1e-4);
    let cells = Cells::new(
        layout(),
        vec![0.0, given, 0.0],
        vec![Role::Target, Role::Given, Role::Target],
        codes.to_vec(),
    );
    let own = Tensor::from_slice2(&[[x, 0.3, z]]);
    let times = Times::All(t);
    let found = mixture().moments(&own, &schedule, &times, &cells, true);
    let noise = to_vec(&found.noise);
    let slope =
        [(log(x + h, z) - log(x - h, z)) / (2.0 * h), (log(x, z + h) - log(x, z - h)) / (2.0 * h)];
    assert!((noise[0] + sigma * slope[0]).abs() < 1e-7, "{noise:?} {slope:?}");
    assert!((noise[2] + sigma * slope[1]).abs() < 1e-7, "{noise:?} {slope:?}");
    assert!((noise[1] - 0.3 / sigma).abs() < 1e-12);
    let g = to_vec(&found.cov.to_dense());
    let h = 1e-3;
    let second = (log(x + h, z) - 2.0 * log(x, z) + log(x - h, z)) / (h * h);
    let mixed = (log(x + h, z + h) - log(x + h, z - h) - log(x - h, z + h) + log(x - h, z - h))
        / (4.0 * h * h);
    assert!((g[0] - (1.0 + sigma * sigma * second)).abs() < 1e-5, "{g:?}");
    assert!((g[2] - sigma * sigma * mixed).abs() < 1e-5, "{g:?}");
    assert_eq!((g[1], g[3], g[4], g[5]), (0.0, 0.0, 1.0, 0.0));
    let diagonal = mixture().moments(&own, &schedule, &times, &cells, false).cov.diagonal();
    assert!((diagonal.double_value(&[0, 0]) - g[0]).abs() < 1e-12);
    let alone = mixture().noise(&own, &schedule, &times, &cells);
    assert!((alone - &found.noise).abs().max().double_value(&[]) < 1e-12);

    // all numbers targets: by the shared eigenvectors, as by the general way
    let all = Cells::targets(layout(), &[0.0; 3], codes.to_vec());
    let fast = mixture().moments(&own, &schedule, &times, &all, true);
    let slow = mixture().moments_of_patterns(&own, &schedule, &times, &all, true);
    assert!((fast.noise - slow.noise).abs().max().double_value(&[]) < 1e-10);
    let gap = fast.cov.to_dense() - slow.cov.to_dense();
    assert!(gap.abs().max().double_value(&[]) < 1e-10);
}

/// Rows of every pattern in one batch have what each has by itself, in their order, at times of
/// their own, with and without anything given or asked.
#[test]
fn rows_of_all_patterns_are_each_their_own() {
    let schedule = Vp::default();
    let roles = [Role::Target, Role::Given, Role::Absent];
    let of = |i: usize| [roles[i % 3], roles[i / 3 % 3], roles[i / 9 % 3]];
    let order: Vec<usize> = (0..54).map(|i| i * 11 % 54).collect();
    let cells = Cells::new(
        layout(),
        order.iter().flat_map(|&i| [0.1 * i as f64, -0.7, 0.4]).collect(),
        order.iter().flat_map(|&i| of(i)).collect(),
        order.iter().flat_map(|&i| [if i < 27 { 1 } else { NONE }, 1]).collect(),
    );
    let x = Noise::new(Seed(4), 0..54).normal(3, Kind::Double, Device::Cpu);
    let t: Vec<f64> = (0..54).map(|i| 0.01 + 0.018 * f64::from(i)).collect();
    let times = Times::each(t.clone());
    let together = [true, false].map(|full| mixture().moments(&x, &schedule, &times, &cells, full));
    let density = mixture().log_density_at(&x, &schedule, &times, &cells);
    let (none, nothing) = (cells.rows(0..0), x.narrow(0, 0, 0));
    for full in [true, false] {
        let found = mixture().moments(&nothing, &schedule, &Times::All(0.5), &none, full);
        assert_eq!((found.noise.size(), found.cov.diagonal().size()), (vec![0, 3], vec![0, 3]));
    }
    for i in 0..54 {
        let (one, own) = (cells.rows(i..i + 1), x.narrow(0, i as i64, 1));
        let alone = mixture().moments(&own, &schedule, &Times::All(t[i]), &one, true);
        let near = |a: Tensor, b: Tensor| (a - b).abs().max().double_value(&[]) < 1e-10;
        let row = |x: &Tensor| x.narrow(0, i as i64, 1);
        assert!(near(row(&together[0].noise), alone.noise.shallow_clone()), "row {i}");
        assert!(near(row(&together[1].noise), alone.noise), "row {i}");
        assert!(near(row(&together[0].cov.to_dense()), alone.cov.to_dense()), "row {i}");
        assert!(near(row(&together[1].cov.diagonal()), alone.cov.diagonal()), "row {i}");
        let one = mixture().log_density_at(&own, &schedule, &Times::All(t[i]), &one);
        assert!(near(row(&density), one), "row {i}");
    }
}

/// A mixture with one category that has nothing to do with the numbers is the Gaussian mixture
/// times its probabilities; plain numbers come back.
#[test]
fn parameters_come_back() {
    let parameters = mixture().parameters();
    let again = MixedMixture::from_parameters(&parameters).unwrap().parameters();
    let gap = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12);
    assert!(gap(&parameters.pmfs[1], &again.pmfs[1]));
    assert!(gap(&parameters.numbers.covariances[0], &again.numbers.covariances[0]));
    let wrong = MixedParameters { pmfs: vec![vec![0.5; 5]; 2], ..parameters };
    assert!(MixedMixture::from_parameters(&wrong).is_err());
}

/// The diffused distribution of a target given a number and a category, another number being
/// absent, against a quadrature over `x_0`; numbers that are no targets have the density of their
/// noise. Of targets alone it tends to that of the data.
#[test]
fn diffused_densities_are_exact() {
    let (vp, t) = (Vp::default(), 0.3);
    let (alpha, sigma) = (vp.alpha(t), vp.sigma(t));
    let normal = |x: f64| (-0.5 * (x / sigma).powi(2) - 0.5 * LN_2PI - sigma.ln()).exp();
    let roles = vec![Role::Target, Role::Given, Role::Absent];
    let cells = Cells::new(layout(), vec![0.0, -0.4, 0.0], roles, vec![2, NONE]);
    let xt = [0.7, 0.2, -0.5];
    let found = mixture().log_density_at(&Tensor::from_slice2(&[xt]), &vp, &Times::All(t), &cells);
    let given = density(&[HOLE, -0.4, HOLE], &[2, NONE]);
    let target =
        integral(|x| density(&[x, -0.4, HOLE], &[2, NONE]) * normal(xt[0] - alpha * x)) / given;
    let expected = target * normal(xt[1]) * normal(xt[2]);
    assert!((found.double_value(&[0]) - expected.ln()).abs() < 1e-9, "{found:?} {expected}");

    let (x, codes) = ([0.3, -0.4, 0.8], vec![2, 0]);
    let cells = Cells::targets(layout(), &x, codes.clone());
    let near = Times::All(1e-7);
    let found = mixture().log_density_at(&Tensor::from_slice2(&[x]), &vp, &near, &cells);
    let expected = density(&x, &codes) / density(&[HOLE; 3], &codes);
    assert!((found.double_value(&[0]) - expected.ln()).abs() < 1e-4, "{found:?} {expected}");
}
