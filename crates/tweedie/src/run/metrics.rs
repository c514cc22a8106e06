//! The figures of a training, a line each.

use std::io::Write;

use super::RunDir;
use crate::train::Metric;
use crate::watch::Remark;
use crate::{Error, Result};

impl RunDir {
    /// Appends to `metrics.jsonl`.
    pub fn append_metric(&self, metric: &Metric) -> Result<()> {
        let path = self.refuse_link("metrics.jsonl")?;
        let line = serde_json::to_string(metric).expect("plain data") + "\n";
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(Error::io(&path))?;
        file.write_all(line.as_bytes()).map_err(Error::io(&path))
    }

    /// The metrics so far; lines that are damaged, or cut short by a kill, are left out.
    pub fn metrics(&self) -> Result<Vec<Metric>> {
        Ok(self.metric_lines()?.0)
    }

    /// How many lines of `metrics.jsonl` are damaged: no JSON. The last one is not counted where it
    /// has no end, since a kill may have cut it short.
    pub fn damaged_metrics(&self) -> Result<usize> {
        Ok(self.metric_lines()?.1)
    }

    /// What a reader of the metrics has to know of damaged lines, where there are any.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn remark_on_metrics(&self) -> Result<Option<Remark>> {
        let path = self.file("metrics.jsonl");
        let text = |damaged| format!("{}: {damaged} damaged lines are left out", path.display());
        let damaged = self.damaged_metrics()?;
        Ok((damaged > 0).then(|| Remark::Note(text(damaged))))
    }

    fn metric_lines(&self) -> Result<(Vec<Metric>, usize)> {
        let path = self.file("metrics.jsonl");
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(Error::Io { path, source }),
        };
        let (mut metrics, mut damaged) = (Vec::new(), 0);
        for line in bytes.split_inclusive(|&b| b == b'\n') {
            match serde_json::from_slice(line) {
                Ok(metric) => metrics.push(metric),
                Err(_) if !line.ends_with(b"\n") => (),
                // a loss that is not finite is written as null, which is none
                Err(_) => {
                    damaged +=
                        usize::from(serde_json::from_slice::<serde_json::Value>(line).is_err())
                }
            }
        }
        Ok((metrics, damaged))
    }

    /// Drops the metrics after `iteration`: those of steps that a resumed training does again.
    pub fn truncate_metrics(&self, iteration: u64) -> Result<()> {
        let kept = self.metrics()?.into_iter().filter(|m| m.iteration <= iteration);
        let text: String =
            kept.map(|m| serde_json::to_string(&m).expect("plain data") + "\n").collect();
        self.write("metrics.jsonl", text.as_bytes())
    }
}
