use super::*;
use crate::parameter_estimation::study::separated;

fn small(threads: usize) -> Consistency {
    Consistency {
        replicates: 40,
        sample_sizes: vec![50, 100, 200, 400],
        draws: 20,
        horizons: vec![3],
        asymptotic_rows: 3_200,
        threads: Some(threads),
        ..Consistency::default()
    }
}

/// On separated components every estimator's error falls as 1/√n within four of its standard
/// errors, and none does better than maximum likelihood by more than that; the result does not
/// depend on the number of threads.
#[test]
fn rates_are_those_of_the_theory() {
    let report = small(1).measure(&mut |_, _| ()).unwrap();
    for estimator in small(1).estimators() {
        for group in 0..2 {
            let (rate, error) = report.rate(&separated(), estimator, group);
            assert!(
                error < 0.3 && (rate + 0.5).abs() < 4.0 * error,
                "{}: {rate} ± {error}",
                estimator.name()
            );
        }
    }
    for cell in &report.cells {
        let exact = report
            .cells
            .iter()
            .find(|c| c.n == cell.n && c.setting.name == cell.setting.name)
            .unwrap();
        let (value, error) = accuracy::efficiency(cell, exact, &(0..4));
        assert!(value < 1.0 + 4.0 * error + 1e-12, "{}: {value} ± {error}", cell.estimator.name());
    }
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    report.outcome().write(one.path()).unwrap();
    small(3).measure(&mut |_, _| ()).unwrap().outcome().write(two.path()).unwrap();
    let read = |dir: &tempfile::TempDir| {
        std::fs::read_to_string(dir.path().join("consistency.csv")).unwrap()
    };
    assert_eq!(read(&one), read(&two));
    // 2 settings, 4 sizes, 6 estimators, 3 groups and a head
    assert_eq!(read(&one).lines().count(), 2 * 4 * 6 * 3 + 1);
}

#[test]
fn bad_settings_name_the_field() {
    let refused = |experiment: Consistency, field: &str| {
        let message = experiment.measure(&mut |_, _| ()).unwrap_err().to_string();
        assert!(message.contains(field), "{message}");
    };
    refused(
        Consistency { sample_sizes: vec![5, 50, 100, 200], ..small(1) },
        "experiment.sample_sizes",
    );
    refused(Consistency { replicates: 1, ..small(1) }, "experiment.replicates");
    refused(Consistency { draws: 3, ..small(1) }, "experiment.draws");
}
