use super::*;
use tweedie::likelihood::mean_and_error;

fn small() -> Estimators {
    Estimators {
        rows: 40,
        steps: vec![3, 12],
        draws: vec![60],
        probes: vec![2, 8],
        tolerances: vec![1e-3, 1e-6],
        ..Estimators::default()
    }
}

/// With the exact score: bounds are below the truth within four standard errors (of the rows'
/// differences, which have the draws' noise), the ODE with the exact divergence is at it to its
/// tolerance, and probes within their noise.
#[test]
fn estimators_are_right_on_oracles() {
    let report = small().measure(Device::Cpu, &mut |_, _| ()).unwrap();
    assert_eq!(report.0.len(), 6 * (2 + 2 + 2 + 2 + 4 * 2));
    let mut tightest = Vec::new();
    for m in &report.0 {
        let (mean, error) = mean_and_error(&m.errors());
        println!("{}, {}: {}: {mean:.2e} ± {error:.1e}", m.data, m.schedule, m.name);
        assert_eq!((m.values.len(), m.flagged), (40, 0));
        match m.estimator {
            Estimator::Flow { divergence: Divergence::Exact, tolerance } => {
                let worst = |a: &[f64], b: &[f64]| {
                    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
                };
                if tolerance == 1e-6 {
                    // VE ends at σ = 50 and takes N(0, 50²) for N(m, 50² + v): z m/50 nats with |z|
                    // < 5, |m| < 3
                    assert!(
                        worst(&m.values, &m.truth) < 0.3,
                        "{}: {}",
                        m.name,
                        worst(&m.values, &m.truth)
                    );
                    tightest = m.values.clone();
                }
                assert!(worst(&m.values, &tightest) < 30.0 * tolerance, "{}", m.name);
            }
            Estimator::Flow { .. } => {
                assert!(mean.abs() < 4.0 * error + 1e-2, "{}: {mean} ± {error}", m.name)
            }
            _ => assert!(mean < 4.0 * error, "{}: {mean} ± {error}", m.name),
        }
    }
}

/// The same seed gives the same numbers at another batch size.
#[test]
fn rows_do_not_depend_on_their_batch() {
    let tiny = |batch| {
        let experiment = Estimators {
            rows: 6,
            steps: vec![2],
            draws: vec![2],
            probes: vec![1],
            batch,
            ..small()
        };
        let report = experiment.measure(Device::Cpu, &mut |_, _| ()).unwrap();
        report.0.into_iter().flat_map(|m| m.values).collect::<Vec<f64>>()
    };
    let (whole, parts) = (tiny(6), tiny(4));
    assert!(whole.iter().zip(&parts).all(|(a, b)| (a - b).abs() < 1e-9 * (1.0 + a.abs())));
}
