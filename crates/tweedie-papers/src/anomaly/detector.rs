//! What tells anomalies from normal rows, each by a score that is lower for anomalies.

use std::time::Instant;

use tch::{Device, Kind};

use super::Anomaly;
use super::data::Halves;
use super::neighbours::nearest;
use crate::experiment::kinds;
use tweedie::Result;
use tweedie::density::{Density, FitOptions};
use tweedie::model::{Base, BaseConfig};
use tweedie::noise::Seed;
use tweedie::run::scaled_rows;
use tweedie::tensor::to_vec;
use tweedie::watch::Silent;

kinds! {
    /// What tells anomalies from normal rows.
    pub enum Detector {
        /// The mean distance to the nearest rows of training.
        Neighbours = "kNN, mean",
        /// The distance to the last of them, as PyOD's KNN has it by default.
        LastNeighbour = "kNN, largest",
        /// `ln b(x)` of the mixture, exactly.
        Mixture = "mixture",
        /// The likelihood of the trained model.
        Likelihood = "likelihood",
        /// Its bound in one step.
        OneStep = "one-step",
    }
}

/// The scores of test rows by one detector, with the seconds of its training and of the scores.
pub(super) type Scored = (Detector, Vec<f64>, [f64; 2]);

/// What each detector says of the test rows: the less, the more of an anomaly.
pub(super) fn scores(settings: &Anomaly, halves: &Halves, seed: Seed) -> Result<Vec<Scored>> {
    let begun = Instant::now();
    let distances = nearest(&halves.test, &halves.train, settings.neighbours);
    let neighbours = begun.elapsed().as_secs_f64();
    let minus = |values: &[f64]| values.iter().map(|value| -value).collect::<Vec<f64>>();
    let [mean, largest] = distances.map(|values| minus(&values));
    let mut all = vec![
        (Detector::Neighbours, mean, [0.0, neighbours]),
        (Detector::LastNeighbour, largest, [0.0, neighbours]),
    ];

    let [train, test] = halves.tables()?;
    let wide = halves.columns() > settings.dense;
    let begun = Instant::now();
    let number = |purpose: &str| seed.derive(purpose).0 >> 1;
    let base = if wide { "isotropic" } else { &settings.base };
    let options = FitOptions::default()
        .set("seed", (number("training") % 1_000_000) as i64)
        .set("data.scaling.marginals", &*settings.marginals)
        .set("base.kind", base)
        .set("base.max_seconds", settings.seconds)
        .set("train.max_seconds", settings.seconds);
    let density = Density::fit(&train, &options, &mut Silent)?;
    let training = begun.elapsed().as_secs_f64();

    let begun = Instant::now();
    let rows: Vec<usize> = (0..halves.anomalous.len()).collect();
    let run = density.run();
    let (x, log_jacobian) = scaled_rows(&test, &rows, &run.data.scaling, seed);
    let base = match wide {
        false => run.model.base().to(Device::Cpu, Kind::Double),
        true => {
            let rows: Vec<usize> = (0..train.rows()).collect();
            let (own, _) = scaled_rows(&train, &rows, &run.data.scaling, seed);
            Base::fit(&BaseConfig::default(), &own, &own.narrow(0, 0, 0))?
        }
    };
    let exact = to_vec(&base.log_density(&x));
    let exact = exact.iter().zip(log_jacobian).map(|(value, offset)| value + offset).collect();
    all.push((Detector::Mixture, exact, [training, begun.elapsed().as_secs_f64()]));
    for (detector, options) in [
        (Detector::Likelihood, settings.likelihood(number("likelihood"))),
        (Detector::OneStep, settings.one_step(number("one step"))),
    ] {
        let begun = Instant::now();
        let values = density.log_prob(&test, &options)?.values().to_vec();
        // a row without a value says nothing of itself
        let middle = values.iter().copied().filter(|value| value.is_finite()).sum::<f64>();
        let middle = middle / values.iter().filter(|value| value.is_finite()).count().max(1) as f64;
        let values = values.iter().map(|value| if value.is_nan() { middle } else { *value });
        let values = values.collect();
        all.push((detector, values, [training, begun.elapsed().as_secs_f64()]));
    }
    Ok(all)
}
