use super::*;
use tweedie::likelihood::mean_and_error;
use tweedie::oracle::GaussianMixture;
use tweedie::query::{Query, Times};

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
            // one number for exact scores: 5 standard errors of 1 − ‖ε̂‖²/d over 2000 rows, each of
            // at most √(2/d) = 1 (that of ‖ε‖²/d), over the root mean square of G, 0.33 at t = 0.3
            let of_score = mean(OF_SCORE, quantity, t);
            println!("of the score {of_score}");
            assert!((of_score - analytic).abs() < 5.0 / 2000f64.sqrt() / 0.33);
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

/// Analytic-DPM from the residuals and from the norm of the score, under a score that is wrong:
/// that of N(0, 4 I) where the data have mean square `m` per column. With `v = 4α² + σ²` it is
/// `ε̂ = σ x_t/v`, so that `E‖ε − ε̂‖²/d = 1 − 2σ²/v + σ²(α²m + σ²)/v²` and `1 − E‖ε̂‖²/d = 1 −
/// σ²(α²m + σ²)/v²`.
#[test]
fn two_forms_of_analytic_are_apart_under_a_wrong_score() {
    let toy = CovarianceToy { times: vec![0.3], steps: Vec::new(), ..tiny() };
    let schedule = ScheduleConfig::default().build().unwrap();
    let oracle = Oracle::new(Distribution::Mixture2.mixture(), schedule.clone());
    let wrong = GaussianMixture::new(&[1.0], &[[0.0, 0.0]], &[2.0]).unwrap();
    let wrong = Oracle::new(wrong, schedule.clone());
    let rows = oracle.mixture.sample(TRAINING_ROWS, Seed(5));
    let m = rows.square().mean(None).double_value(&[]);
    let arms = [CovarianceConfig::Analytic, CovarianceConfig::AnalyticScore];
    let arms = arms.map(|covariance| Arm::fixed(covariance.name(), covariance));
    let statistics = toy.statistics(&wrong, &rows, Seed(6)).unwrap();
    let judge = Judge::new(&toy, Distribution::Mixture2, &oracle, Seed(7));
    let found = judge.measure(Score::Learned, &wrong, &arms, &statistics).unwrap();
    let t = 0.3;
    let (alpha2, sigma2) = (schedule.alpha(t).powi(2), schedule.sigma2(t));
    let v = 4.0 * alpha2 + sigma2;
    let norm = sigma2 * (alpha2 * m + sigma2) / (v * v);
    let x0 = oracle.mixture.sample(20_000, Seed(8));
    let x = crate::trials::noised(&x0, &*schedule, t, Seed(9));
    let exact = oracle.moments(&Query::new(&x, &Times::All(t))).cov.diagonal();
    let of = |x: &Tensor| x.square().mean(None).double_value(&[]);
    let expected = [1.0 - 2.0 * sigma2 / v + norm, 1.0 - norm]
        .map(|g| (of(&(&exact - g)) / of(&exact)).sqrt());
    println!("expected {expected:?}");
    assert!((expected[0] - expected[1]).abs() > 0.2, "{expected:?}");
    for (arm, expected) in arms.iter().zip(expected) {
        let of_arm = |m: &&Measured| m.arm == arm.name && m.quantity == Quantity::Diagonal;
        let error = mean_and_error(&found.iter().find(of_arm).unwrap().values).0;
        println!("{}: {error}", arm.name);
        assert!((error - expected).abs() < 0.1, "{}: {error}, not {expected}", arm.name);
    }
}
