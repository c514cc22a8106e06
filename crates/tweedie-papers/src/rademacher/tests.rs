use super::*;
use tweedie::likelihood::mean_and_error;

fn tiny(distribution: Distribution) -> Rademacher {
    Rademacher {
        distributions: vec![distribution],
        probes: vec![1, 4, 16, 64],
        times: vec![0.1, 0.3],
        trials: 10,
        rows: 50,
        steps: 3,
        recipe: Recipe { width: 16, depth: 1, iterations: 10, rows: 4, ..Recipe::default() },
        seed: 0,
    }
}

/// Errors are those of theory, `√(Σ_(i≠j) G_ij²/Σ G_ii²)/√M`, and fall as `M^(−1/2)`, within four
/// standard errors.
#[test]
fn errors_fall_as_the_root_of_the_products() {
    let tiny = tiny(Distribution::Mixture10);
    let report = tiny.measure(&mut |_, _| ()).unwrap();
    for at in &report.found[0].times {
        let (slope, error) = at.slope(&tiny.probes).unwrap();
        println!("t = {}: slope {slope} ± {error}", at.t);
        assert!((slope + 0.5).abs() < 4.0 * error && error < 0.05, "{slope} ± {error}");
        for (m, errors) in tiny.probes.iter().zip(&at.errors) {
            let squares: Vec<f64> = errors.iter().map(|e| e * e * *m as f64).collect();
            let (mean, error) = mean_and_error(&squares);
            let theory = at.predicted.powi(2);
            assert!((mean - theory).abs() < 4.0 * error, "M = {m}: {mean} ± {error}, {theory}");
        }
    }
    let dir = tempfile::tempdir().unwrap();
    report.outcome().write(dir.path()).unwrap();
    assert!(dir.path().join("rademacher-mixture10.svg").exists());
}

/// Where `G` is diagonal one product is exact, and there is no slope. Limited to [0, 1] it is not
/// where the exact variances are above 1, as between the nine Gaussians at t = 0.3.
#[test]
fn one_product_is_exact_where_the_covariance_is_diagonal() {
    let tiny = Rademacher { probes: vec![1, 3], rows: 20, ..tiny(Distribution::Nine) };
    let report = tiny.measure(&mut |_, _| ()).unwrap();
    for at in &report.found[0].times {
        assert!(at.errors[0].iter().all(|error| *error < 1e-9), "{:?}", at.errors);
        assert_eq!(at.slope(&tiny.probes), None);
        assert!(at.limited[0].iter().all(|error| if at.t < 0.2 {
            *error < 1e-9
        } else {
            *error > 0.05
        }));
    }
}

#[test]
fn mistakes_name_their_field() {
    let error = Rademacher { probes: vec![4, 2], ..tiny(Distribution::Nine) }
        .measure(&mut |_, _| ())
        .unwrap_err();
    assert!(error.to_string().contains("experiment.probes"), "{error}");
    let error =
        Rademacher { trials: 0, ..tiny(Distribution::Nine) }.measure(&mut |_, _| ()).unwrap_err();
    assert!(error.to_string().contains("experiment.trials"), "{error}");
}
