use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::draws::Drawer;
use super::family::{Diffused, Mixture, P};
use super::fit::{fit, maximum_likelihood, start};
use super::loss::Sum;
use super::study::{overlapping, separated};
use super::*;

fn rng(stream: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    rng.set_stream(stream);
    rng
}

/// The largest of the means of `columns`, in their standard errors.
fn largest_z(rows: &[Vec<f64>]) -> f64 {
    let n = rows.len() as f64;
    (0..rows[0].len())
        .map(|j| {
            let mean = rows.iter().map(|r| r[j]).sum::<f64>() / n;
            let square = rows.iter().map(|r| (r[j] - mean).powi(2)).sum::<f64>();
            mean.abs() / (square / (n * (n - 1.0))).sqrt()
        })
        .fold(0.0, f64::max)
}

fn times() -> impl Iterator<Item = (TimeDistribution, usize)> {
    [TimeDistribution::Uniform, TimeDistribution::LogSnr]
        .into_iter()
        .flat_map(|time| [1, 2, 10].map(|n| (time, n)))
}

fn lm(form: Form, (time, transitions): (TimeDistribution, usize)) -> Estimator {
    Estimator::LikelihoodMatching { form, transitions, time, sampling: Sampling::Independent }
}

/// LM's expected gradient vanishes at the truth, to the Monte-Carlo error; beside the truth it does
/// not. The largest of 7 × 12 standard normals exceeds 4.5 with probability 6e-4.
#[test]
fn the_gradient_vanishes_at_the_truth() {
    let (truth, vp) = (overlapping().truth, Vp::default());
    for form in [Form::Path, Form::Marginal] {
        for setup in times() {
            let estimator = lm(form, setup);
            let drawer = Drawer::new(estimator, &vp);
            let z = |at: &Mixture| {
                let (model, mut rng, mut draws) = (Diffused::from(at), rng(1), Vec::new());
                let gradient = |x0| {
                    draws.clear();
                    drawer.group(x0, (0, 1), false, &mut rng, &mut draws);
                    Sum::exact(form, &model, &draws).gradient.to_vec()
                };
                // one pair for each datum says less than two or ten
                let n = if setup.1 == 1 { 16_000 } else { 4000 };
                let data = truth.sample(n, &mut ChaCha8Rng::seed_from_u64(5));
                largest_z(&data.into_iter().map(gradient).collect::<Vec<_>>())
            };
            let at_truth = z(&truth);
            assert!(at_truth < 4.5, "{}: {at_truth}", estimator.name());
            let mut away = truth;
            away.log_variances[0] += 0.3;
            away.means[1][0] += 0.1;
            let beside = z(&away);
            assert!(beside > 6.0, "{}: {beside}", estimator.name());
        }
    }
}

/// `path` and `marginal` have one expectation, of the value and of the gradient, away from the
/// truth too.
#[test]
fn path_and_marginal_agree_in_expectation() {
    let vp = Vp::default();
    let mut model = overlapping().truth;
    model.log_variances[0] += 0.4;
    model.means[1][0] += 0.3;
    for setup in times() {
        let mean = |form: Form, stream: u64| -> Vec<Vec<f64>> {
            let (drawer, model, mut rng) =
                (Drawer::new(lm(form, setup), &vp), Diffused::from(&model), rng(stream));
            let mut draws = Vec::new();
            let data = overlapping().truth.sample(4000, &mut ChaCha8Rng::seed_from_u64(6));
            data.into_iter()
                .map(|x0| {
                    draws.clear();
                    drawer.group(x0, (0, 1), false, &mut rng, &mut draws);
                    let sum = Sum::exact(form, &model, &draws);
                    let mut row = sum.gradient.to_vec();
                    row.push(sum.value);
                    row
                })
                .collect()
        };
        let (path, marginal) = (mean(Form::Path, 2), mean(Form::Marginal, 3));
        let gaps: Vec<Vec<f64>> = path
            .iter()
            .zip(&marginal)
            .map(|(a, b)| a.iter().zip(b).map(|(a, b)| a - b).collect())
            .collect();
        assert!(largest_z(&gaps) < 4.5, "{setup:?}: {}", largest_z(&gaps));
    }
}

/// EM ends where the likelihood's gradient is zero, and above where it started.
#[test]
fn em_ends_at_a_stationary_point() {
    let data = overlapping().truth.sample(200, &mut rng(4));
    let from = start(&data);
    let found = maximum_likelihood(&data, &from);
    assert!(found.converged && !found.degenerate);
    let total = |m: &Mixture| data.iter().map(|x| m.log_density(*x).0).sum::<f64>();
    assert!(total(&found.mixture) > total(&from));
    for j in 0..P {
        let slope: f64 = data.iter().map(|x| found.mixture.log_density(*x).1[j]).sum();
        assert!(slope.abs() < 1e-2, "parameter {j}: {slope}");
    }
}

/// With many transitions LM's estimate is the maximum-likelihood one, to a fraction of its standard
/// error: with exact reverse transitions the path's density telescopes to `p(x_ε)`.
#[test]
fn many_transitions_give_maximum_likelihood() {
    let (setting, vp) = (separated(), Vp::default());
    let data = setting.truth.sample(100, &mut rng(5));
    let from = start(&data);
    let exact = maximum_likelihood(&data, &from).mixture.aligned(&setting.truth).natural();
    let estimator = Estimator::lm(Form::Path, 50, Sampling::Balanced);
    let found = fit(estimator, &Drawer::new(estimator, &vp), &data, &from, 400, &mut rng(6));
    assert!(found.converged && !found.degenerate);
    let found = found.mixture.aligned(&setting.truth).natural();
    // standard errors s/√(nw), s/(2√(nw)), √(w(1 − w)/n)
    let errors = [0.11, 0.11, 0.12, 0.12, 0.055, 0.058, 0.049];
    for j in 0..P {
        let off = (found[j] - exact[j]).abs() / errors[j];
        assert!(
            off < 0.35,
            "parameter {j}: {} against {}, {off} standard errors",
            found[j],
            exact[j]
        );
    }
}

#[test]
fn results_do_not_depend_on_threads_and_files_are_written() {
    let small = |threads| ParameterEstimation {
        replicates: 4,
        sample_sizes: vec![60],
        draws: 20,
        noise_rows: 3_200,
        threads: Some(threads),
        ..Default::default()
    };
    let mut fractions = Vec::new();
    let one = small(1).measure(&mut |_, fraction| fractions.push(fraction)).unwrap();
    let two = small(3).measure(&mut |_, _| {}).unwrap();
    assert!(
        fractions.windows(2).all(|w| w[0] <= w[1]) && *fractions.last().unwrap() > 0.99,
        "{fractions:?}"
    );
    let dir = tempfile::tempdir().unwrap();
    for (name, report) in [("one", &one), ("two", &two)] {
        let outcome = report.outcome();
        outcome.write(&dir.path().join(name)).unwrap();
        let settings = serde_json::to_value(&report.experiment).unwrap();
        let page = outcome
            .page
            .fill(crate::experiment::Entry::of::<ParameterEstimation>().page(), &settings)
            .unwrap();
        std::fs::write(dir.path().join(name).join("page.md"), page).unwrap();
    }
    let names: Vec<_> = std::fs::read_dir(dir.path().join("one"))
        .unwrap()
        .map(|f| f.unwrap().file_name())
        .collect();
    assert_eq!(names.len(), 5, "{names:?}");
    for name in names {
        let read = |sub: &str| std::fs::read_to_string(dir.path().join(sub).join(&name)).unwrap();
        assert_eq!(read("one"), read("two"), "{name:?}");
    }
}

#[test]
fn bad_settings_name_the_field() {
    let bad = ParameterEstimation { sample_sizes: vec![5], ..Default::default() };
    assert!(bad.measure(&mut |_, _| {}).unwrap_err().to_string().contains("sample_sizes"));
}
