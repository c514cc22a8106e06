//! The contents of a run directory without its weights.

use super::status::ended;
use super::{About, DataRecord, KeepBy, RunConfig, RunDir, Status};
use crate::Result;
use crate::choice::choices;
use crate::likelihood::bits_per_dim;
use crate::train::{Metric, StopReason};

choices! {
    /// How a training ended, or that it did not.
    pub enum Outcome = Unfinished {
        /// All iterations were done
        Finished = "finished",
        /// The validation no longer improved
        EarlyStop = "early-stop",
        /// The time was over
        OutOfTime = "out-of-time",
        /// Still running, interrupted or killed
        Unfinished = "unfinished",
        /// The run was made of another model
        Imported = "imported",
    }
}

/// How far a training came.
#[derive(Clone, Debug, PartialEq)]
pub struct Ending {
    /// How it ended.
    pub outcome: Outcome,
    /// Steps done.
    pub iteration: u64,
    /// The iteration whose weights are kept, and what they are kept by as recorded.
    pub best: Option<(u64, f64)>,
    /// Seconds of training.
    pub seconds: f64,
}

/// The contents of a run directory without its weights.
#[derive(Clone, Debug)]
pub struct Facts {
    /// How it was begun.
    pub about: Option<About>,
    /// Its configuration.
    pub config: RunConfig,
    /// Its data.
    pub data: DataRecord,
    /// Its metrics so far.
    pub metrics: Vec<Metric>,
    /// How far its training came.
    pub ending: Ending,
    /// Whether the validation figures of images are of levels, which can be given in bits per
    /// dimension.
    levels: bool,
}

impl Facts {
    /// The facts of `dir`.
    ///
    /// # Errors
    /// If a file is missing or damaged.
    pub fn read(dir: &RunDir) -> Result<Facts> {
        let (about, config, data, metrics) =
            (dir.about()?, dir.config()?, dir.data()?, dir.metrics()?);
        let status = dir.status()?;
        // runs without it judged images by the density of dequantised pixels in the network's units
        let levels = data.levels().is_some() && status.is_some();
        let ending = Ending::of(status, &config, &data, &metrics);
        Ok(Facts { about, config, data, metrics, ending, levels })
    }

    /// What a validation figure is, with its unit.
    pub fn validation_label(&self) -> &'static str {
        match self.levels {
            _ if self.by_distance() => "Fréchet distance of samples",
            true => "bits per dimension",
            false => "bound, nats per row in the network's units",
        }
    }

    /// Whether a lower validation figure is better.
    pub fn lower_validation_is_better(&self) -> bool {
        self.levels || self.by_distance()
    }

    fn by_distance(&self) -> bool {
        self.config.keep.by == KeepBy::Distance
    }

    fn in_its_unit(&self, recorded: f64) -> f64 {
        match self.levels && !self.by_distance() {
            true => bits_per_dim(recorded, self.data.scaling.dim()),
            false => recorded,
        }
    }

    /// The figure that weights are kept by in a line of metrics, in that unit.
    pub fn validation(&self, metric: &Metric) -> Option<f64> {
        let by_distance = self.by_distance();
        let recorded = if by_distance { metric.distance } else { metric.validation };
        recorded.map(|recorded| self.in_its_unit(recorded))
    }

    /// The last validation of the training: its iteration and figure.
    pub fn last_validation(&self) -> Option<(u64, f64)> {
        self.metrics.iter().rev().find_map(|m| Some((m.iteration, self.validation(m)?)))
    }

    /// The validation of the weights that are kept.
    pub fn best_validation(&self) -> Option<(u64, f64)> {
        self.ending.best.map(|(iteration, value)| (iteration, self.in_its_unit(value)))
    }
}

impl Ending {
    /// As recorded in the run, or else as its metrics and configuration show.
    fn of(
        status: Option<Status>,
        config: &RunConfig,
        data: &DataRecord,
        metrics: &[Metric],
    ) -> Ending {
        let imported = metrics.is_empty() && (data.fingerprint.is_empty() || data.rows == [0; 3]);
        let outcome = |ended| match ended {
            _ if imported => Outcome::Imported,
            Some(StopReason::Finished) => Outcome::Finished,
            Some(StopReason::EarlyStop) => Outcome::EarlyStop,
            Some(StopReason::OutOfTime) => Outcome::OutOfTime,
            Some(StopReason::Stopped) | None => Outcome::Unfinished,
        };
        if let Some(Status { ended, iteration, best_iteration, best, seconds }) = status {
            let best = best_iteration.zip(best);
            return Ending { outcome: outcome(ended), iteration, best, seconds };
        }
        let (mut best, mut since_best) = (None::<(u64, f64)>, 0);
        for (iteration, value) in metrics.iter().filter_map(|m| Some((m.iteration, m.validation?)))
        {
            since_best += 1;
            if value.is_finite() && best.is_none_or(|(_, found)| value > found) {
                (best, since_best) = (Some((iteration, value)), 0);
            }
        }
        let (iteration, seconds) = metrics.last().map_or((0, 0.0), |m| (m.iteration, m.seconds));
        let ended = ended(&config.train, iteration, since_best, seconds);
        Ending { outcome: outcome(ended), iteration, best, seconds }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn metric(iteration: u64, validation: Option<f64>, seconds: f64) -> Metric {
        let text = json!({
            "iteration": iteration, "loss": 1.0, "loss_sd": 0.1, "gradient_norm": 1.0,
            "clipped": 0, "skipped": 0,
            "validation": validation, "learning_rate": 1e-3, "seconds": seconds,
        });
        serde_json::from_value(text).expect("a metric")
    }

    #[test]
    fn endings_are_told_apart() {
        let mut config = RunConfig::default();
        config.train.iterations = 300;
        config.train.patience = 2;
        let data: DataRecord = serde_json::from_value(json!({
            "source": "wine.csv", "scaling": { "columns": [{
                "column": { "name": "x", "kind": "float" }, "grid": null,
                "map": { "affine": { "shift": 0.0, "scale": 1.0 } },
            }] }, "rows": [8, 1, 1], "split_seed": 0, "dropped": [0, 0],
            "fingerprint": "1f",
        }))
        .expect("a record");
        let outcome = |config: &RunConfig, metrics: &[Metric]| {
            Ending::of(None, config, &data, metrics).outcome
        };
        let some = [metric(100, Some(-3.0), 5.0), metric(200, Some(-4.0), 10.0)];
        assert_eq!(outcome(&config, &some), Outcome::Unfinished);
        assert_eq!(outcome(&config, &[]), Outcome::Unfinished);
        assert_eq!(Ending::of(None, &config, &data, &some).best, Some((100, -3.0)));
        let worse = [some[0].clone(), some[1].clone(), metric(250, Some(-5.0), 11.0)];
        assert_eq!(outcome(&config, &worse), Outcome::EarlyStop);
        assert_eq!(outcome(&config, &[metric(300, None, 12.0)]), Outcome::Finished);
        config.train.max_seconds = 10.0;
        assert_eq!(outcome(&config, &some), Outcome::OutOfTime);
        let imported = DataRecord { fingerprint: String::new(), rows: [0; 3], ..data.clone() };
        assert_eq!(Ending::of(None, &config, &imported, &[]).outcome, Outcome::Imported);
        // what the run records goes before what its metrics show
        let status = |ended: Option<StopReason>| Status {
            ended,
            iteration: 150,
            best_iteration: Some(50),
            best: Some(-2.0),
            seconds: 7.0,
        };
        let stored = |ended| Ending::of(Some(status(ended)), &config, &data, &some);
        assert_eq!(
            (stored(None).outcome, stored(Some(StopReason::Stopped)).outcome),
            (Outcome::Unfinished, Outcome::Unfinished)
        );
        assert_eq!(
            (stored(Some(StopReason::EarlyStop)).outcome, stored(None).best),
            (Outcome::EarlyStop, Some((50, -2.0)))
        );
        assert_eq!(stored(Some(StopReason::Finished)).iteration, 150);
    }
}
