use tch::{Device, Kind, Tensor};

use super::neighbours::nearest;
use super::*;
use tweedie::noise::Noise;
use tweedie::tensor::to_vec;

fn normals(n: u64, seed: u64) -> Tensor {
    Noise::new(Seed(seed), 0..n).normal(3, Kind::Double, Device::Cpu)
}

/// Distances against all of them, sorted.
#[test]
fn the_nearest_are_the_nearest() {
    let (x, of) = (normals(7, 1), normals(20, 2));
    let (rows, others) = (to_vec(&x), to_vec(&of));
    let [mean, largest] = nearest(&x, &of, 4);
    for (i, row) in rows.chunks(3).enumerate() {
        let distance =
            |other: &[f64]| row.iter().zip(other).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
        let mut all: Vec<f64> = others.chunks(3).map(distance).collect();
        all.sort_by(f64::total_cmp);
        assert!((largest[i] - all[3]).abs() < 1e-6, "{} {}", largest[i], all[3]);
        assert!((mean[i] - all[..4].iter().sum::<f64>() / 4.0).abs() < 1e-6);
    }
    assert_eq!(nearest(&x, &of.narrow(0, 0, 2), 4)[1].len(), 7);
}

/// Half of the normal rows are trained on, the others and the anomalies tested; the columns that
/// vary are standardised, and each detector tells rows that are far from the others.
#[test]
fn anomalies_that_are_far_are_found() {
    let far = normals(12, 4) * 0.1 + 6.0;
    let x = Tensor::cat(&[normals(161, 3) * 2.0 + 1.0, far * 2.0 + 1.0], 0);
    // a column that is the same everywhere, and one that repeats another
    let same = Tensor::full([173, 1], 4.0, (Kind::Double, Device::Cpu));
    let x = Tensor::cat(&[&x, &same, &x.narrow(1, 0, 1)], 1);
    let anomalous = (0..173).map(|i| i >= 161).collect();
    let set = Set::of("far", x, anomalous);
    let halves = Halves::of(&set, (50_000, 0.05), Seed(1)).unwrap();
    assert_eq!((halves.rows(), halves.columns()), ([81, 80, 12], 4));
    let mean = halves.train.mean_dim([0i64].as_slice(), false, None::<Kind>);
    assert!(to_vec(&mean).iter().all(|mean| mean.abs() < 1e-12));
    assert_eq!(Halves::of(&set, (50, 0.05), Seed(1)).unwrap().rows().iter().sum::<usize>(), 50);
    // few rows of a set with one anomaly have it all the same
    let rare = Set::of("rare", normals(300, 5), (0..300).map(|i| i == 299).collect());
    for seed in 0..5 {
        assert_eq!(Halves::of(&rare, (20, 0.05), Seed(seed)).unwrap().rows()[2], 1);
    }
    let settings = Anomaly { seconds: 1.0, steps: 4, draws: 1, noise: 0.05, ..Anomaly::default() };
    let found = detector::scores(&settings, &halves, Seed(2)).unwrap();
    assert_eq!(found.iter().map(|scored| scored.0).collect::<Vec<_>>(), Detector::ALL);
    for (detector, scores, _) in found {
        let anomalous: Vec<f64> = scores.iter().map(|score| -score).collect();
        let area = auroc(&anomalous, &halves.anomalous).unwrap().value;
        assert!(area > 0.99, "{}: {area}", detector.name());
    }
}

/// What cannot be is refused before anything is trained.
#[test]
fn what_cannot_be_is_refused() {
    let bad = |settings: Anomaly, option: &str| {
        let error = Context::alone(|context| settings.measure(context).unwrap_err());
        assert_eq!(error.option(), Some(option), "{error}");
    };
    bad(Anomaly::default(), "experiment.data");
    let data = std::env::temp_dir().join("no such folder");
    bad(Anomaly { data, ..Anomaly::default() }, "experiment.data");
    bad(Anomaly { seeds: 0, ..Anomaly::default() }, "experiment.seeds");
    bad(Anomaly { noise: 0.0, ..Anomaly::default() }, "experiment.noise");
    bad(Anomaly { noise_levels: vec![0.1; 9], ..Anomaly::default() }, "experiment.noise_levels");
}
