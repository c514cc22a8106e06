use super::*;

fn tiny() -> Mixture {
    Mixture {
        trials: 2,
        train_rows: 50,
        samples: 200,
        steps: vec![3, 6],
        transitions: vec![2],
        variants: false,
        recipe: Recipe { iterations: 3, pairs: 8, ..Recipe::default() },
        ..Mixture::default()
    }
}

/// The same seed gives the same numbers, whatever the number of threads, and another seed others.
#[test]
fn reproducible_and_complete() {
    let values = |experiment: &Mixture| -> Vec<f64> {
        let report = experiment.measure(&mut |_, _| ()).unwrap();
        report.curves.iter().flat_map(|c| c.points.iter().flat_map(|p| p.values.clone())).collect()
    };
    let first = values(&tiny());
    // per distribution: (3 + 2 + 4) covariances, 2 last steps, 2 numbers of steps, and 2 sets of
    // draws; 2 trials each
    assert_eq!(first.len(), 2 * (9 * 2 * 2 + 2) * 2);
    assert!(first.iter().all(|v| v.is_finite()));
    assert_eq!(first, values(&Mixture { threads: Some(1), ..tiny() }));
    assert_ne!(first, values(&Mixture { seed: 1000, ..tiny() }));
}

#[test]
fn writes_its_files() {
    let dir = tempfile::tempdir().unwrap();
    let mut heard = 0.0;
    let report = tiny().measure(&mut |_, done| heard = done).unwrap();
    let outcome = report.outcome().unwrap();
    outcome.write(dir.path()).unwrap();
    let settings = serde_json::to_value(tiny()).unwrap();
    let page =
        outcome.page.fill(crate::experiment::Entry::of::<Mixture>().page(), &settings).unwrap();
    assert!(page.contains("| LM N=2 |"), "{page}");
    assert_eq!(heard, 1.0);
    for file in [
        "mixture.csv",
        "figure-2a.svg",
        "figure-2b.svg",
        "figure-3a-gaussian.svg",
        "figure-3b-lm-paper.svg",
    ] {
        assert!(dir.path().join(file).metadata().unwrap().len() > 500, "{file}");
    }
}

/// The exact moments need few steps: in five, at most a tenth of β's distance (prototype of issue
/// 2: 0.045).
#[test]
fn exact_moments_beat_fixed_covariances() {
    let experiment = Mixture { samples: 2000, steps: vec![5], student_t: false, ..tiny() };
    let report = experiment.measure(&mut |_, _| ()).unwrap();
    let at =
        |covariance| report.point(Distribution::Gaussian, EXACT, covariance, 5).unwrap().mean().0;
    assert!(at(CovarianceConfig::Own) < 0.1 * at(CovarianceConfig::Beta));
    assert!(at(CovarianceConfig::Beta) < at(CovarianceConfig::ZeroHessian));
}

#[test]
fn impossible_settings_name_their_field() {
    let error = Mixture { steps: vec![], ..tiny() }.measure(&mut |_, _| ()).unwrap_err();
    assert!(error.to_string().starts_with("experiment.steps"), "{error}");
    let error = Mixture { transitions: vec![0], ..tiny() }.measure(&mut |_, _| ()).unwrap_err();
    assert!(error.to_string().starts_with("experiment.transitions"), "{error}");
}
