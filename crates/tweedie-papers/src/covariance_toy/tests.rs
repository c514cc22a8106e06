use super::*;
use tweedie::likelihood::mean_and_error;

fn tiny() -> CovarianceToy {
    CovarianceToy {
        distributions: vec![Distribution::Mixture2],
        trials: 2,
        recipe: Recipe { width: 16, depth: 1, iterations: 200, rows: 16, ..Recipe::default() },
        score_iterations: 100,
        times: vec![0.05, 0.3],
        rows: 100,
        samples: 50,
        steps: vec![2, 16],
        ..CovarianceToy::default()
    }
}

/// What is known beforehand: G = 0 has an error of 1; the exact G has the nearest bound of all, and
/// more steps bring it nearer. Heads that learned are nearer the truth than one number for each
/// time, and a matrix in two dimensions nearer than a diagonal.
#[test]
fn arms_are_judged_by_the_exact_covariance() {
    let report = tiny().measure(&mut |_, _| ()).unwrap();
    let values = |arm: &str, quantity, at: f64| {
        let of = |m: &&Measured| {
            (m.score, m.arm.as_str(), m.quantity, m.at) == (Score::True, arm, quantity, at)
        };
        &report
            .measured
            .iter()
            .find(of)
            .unwrap_or_else(|| panic!("{arm}, {quantity:?} at {at}"))
            .values
    };
    let mean = |arm: &str, quantity, at| mean_and_error(values(arm, quantity, at)).0;
    for t in [0.05, 0.3] {
        for quantity in [Quantity::Diagonal, Quantity::Whole] {
            assert!(
                values("β̃ (G = 0)", quantity, t).iter().all(|error| (error - 1.0).abs() < 1e-12)
            );
            let [ocm, analytic] = ["OCM", "Analytic-DPM"].map(|arm| mean(arm, quantity, t));
            println!("{t}, {quantity:?}: OCM {ocm}, Analytic {analytic}");
            assert!(ocm < analytic);
        }
        assert!(mean("OCM, r = 2", Quantity::Whole, t) < mean("OCM", Quantity::Whole, t));
    }
    let [two, sixteen] = [0, 1].map(|i| mean_and_error(&report.truths[0].exact_gaps[i]).0);
    assert!(sixteen < two);
    for arm in
        ["OCM", "LM", "NPR", "SN", "I-DDPM", "Analytic-DPM", "β", "β̃ (G = 0)", "H = 0 (G = I)"]
    {
        assert!(sixteen < mean(arm, Quantity::Gap, 16.0), "{arm}");
    }
    let dir = tempfile::tempdir().unwrap();
    report.outcome().write(dir.path()).unwrap();
    assert!(dir.path().join("covariance-toy-mixture2-learned-diagonal-error.svg").exists());
}

/// The same seed gives the same numbers, another seed others.
#[test]
fn reproducible() {
    let small = CovarianceToy {
        recipe: Recipe { iterations: 3, ..tiny().recipe },
        score_iterations: 3,
        rows: 10,
        steps: vec![3],
        ..tiny()
    };
    let values = |toy: &CovarianceToy| -> Vec<f64> {
        toy.measure(&mut |_, _| ()).unwrap().measured.into_iter().flat_map(|m| m.values).collect()
    };
    let first = values(&small);
    assert!(first.iter().all(|value| value.is_finite()));
    assert_eq!(first, values(&small));
    assert_ne!(first, values(&CovarianceToy { seed: 1, ..small }));
}
