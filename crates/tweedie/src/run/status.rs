//! How far a run's training is, and how it ended.

use serde::{Deserialize, Serialize};

use super::dir::RESTORE;
use super::{Run, RunDir, checkpoint, lock};
use crate::train::{State, StopReason, TrainConfig};
use crate::{Error, Result};

/// Where a run keeps it.
pub(super) const FILE: &str = "status.json";

/// How far a training is, and how it ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Why training ended; none: it has not, or it was killed.
    pub ended: Option<StopReason>,
    /// Steps done at the last checkpoint.
    pub iteration: u64,
    /// Steps done when the parameters in use were found, where validation chose them.
    pub best_iteration: Option<u64>,
    /// What those parameters are kept by: their validation bound, nats per row, as in
    /// [`crate::train::Metric::validation`], or their [`crate::train::Metric::distance`].
    pub best: Option<f64>,
    /// Seconds of training.
    pub seconds: f64,
}

/// Why a training by `train` ended, as its figures show it.
pub(super) fn ended(
    train: &TrainConfig,
    iteration: u64,
    since_best: u64,
    seconds: f64,
) -> Option<StopReason> {
    if iteration >= train.iterations {
        Some(StopReason::Finished)
    } else if train.patience > 0 && since_best >= train.patience {
        Some(StopReason::EarlyStop)
    } else if train.max_seconds > 0.0 && seconds >= train.max_seconds {
        Some(StopReason::OutOfTime)
    } else {
        None
    }
}

impl Status {
    /// Of a training in `state`.
    pub fn of(state: &State, ended: Option<StopReason>) -> Status {
        Status {
            ended,
            iteration: state.iteration,
            best_iteration: state.best.as_ref().and_then(|best| best.iteration),
            best: state.best.as_ref().map(|best| best.value),
            seconds: state.seconds,
        }
    }

    /// Whether training came to an end that its settings say: its last step, no more improvement,
    /// or no more time.
    pub fn is_finished(&self) -> bool {
        matches!(
            self.ended,
            Some(StopReason::Finished | StopReason::EarlyStop | StopReason::OutOfTime)
        )
    }
}

impl RunDir {
    /// How far the training is, and how it ended. Of a run that an earlier version made, what its
    /// state says; `None` where it kept none.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn status(&self) -> Result<Option<Status>> {
        if self.file(FILE).exists() {
            return self.read_json(FILE).map(Some);
        }
        let path = self.file("state.safetensors");
        if !path.exists() {
            return Ok(None);
        }
        let about = checkpoint::StateHeader::read(&self.read("state.safetensors")?)
            .map_err(|problem| Error::checkpoint(&path, problem, RESTORE))?;
        let train = self.config()?.train;
        let ended = ended(&train, about.iteration, about.since_best, about.seconds);
        Ok(Some(Status {
            ended,
            iteration: about.iteration,
            best_iteration: about.best_iteration,
            best: about.best,
            seconds: about.seconds,
        }))
    }

    /// Writes how far the training is, and how it ended.
    ///
    /// # Errors
    /// If the directory cannot be written.
    pub fn write_status(&self, status: &Status) -> Result<()> {
        self.write_json(FILE, status)
    }

    /// Whether a process is training, or otherwise writing to, this run now.
    pub fn is_busy(&self) -> bool {
        lock::is_locked(self.path())
    }
}

impl Run {
    /// The remark on a training that did not finish.
    pub(super) fn unfinished(&self) -> Option<String> {
        let status = match self.dir.status() {
            Ok(status) => status?,
            Err(error) => {
                return Some(format!(
                    "it is not known whether the training of this run finished: {error}"
                ));
            }
        };
        if status.is_finished() {
            return None;
        }
        let (done, all) = (status.iteration, self.config.train.iterations);
        let at = format!("iteration {done} of {all}");
        if self.dir.is_busy() {
            return Some(format!(
                "this run is still being trained (last checkpoint at {at}): figures will change"
            ));
        }
        let weights = if done == 0 { ": its network is untrained" } else { "" };
        Some(format!(
            "the training of this run did not finish (last checkpoint at {at}){weights}; \
             its training goes on with fit.out = {} and fit.resume",
            self.dir.path().display()
        ))
    }
}
