//! The complete configuration of a run, as plain data.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::data::{ScalingOptions, TableOptions};
use crate::model::{BaseConfig, ModelConfig};
use crate::objective::ObjectiveConfig;
use crate::schedule::ScheduleConfig;
use crate::train::TrainConfig;
use crate::{Error, Result};

/// Where the rows come from and how they are dealt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// A table, or `mixture:NAME`. A run keeps the absolute path.
    pub source: String,
    /// Rows for validation from a file of their own; else they are dealt from `source`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation: Option<PathBuf>,
    /// Shares of training, validation and test rows.
    pub split: [f64; 3],
    /// Rows drawn from a mixture.
    pub mixture_rows: usize,
    /// Whether a training image is mirrored, left to right, in half of its draws.
    pub flip: bool,
    /// Whether the model is conditioned on the images' classes.
    pub classes: bool,
    /// How the table is read.
    pub table: TableOptions,
    /// How columns are brought to the network's units.
    pub scaling: ScalingOptions,
}

impl Default for DataConfig {
    fn default() -> Self {
        DataConfig {
            source: String::new(),
            validation: None,
            split: [0.8, 0.1, 0.1],
            mixture_rows: 5000,
            flip: false,
            classes: false,
            table: TableOptions::default(),
            scaling: ScalingOptions::default(),
        }
    }
}

impl DataConfig {
    /// The same with paths that hold from any working directory. They are not resolved further: a link stays one.
    pub fn absolute(&self) -> DataConfig {
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let source = match self.source.as_str() {
            "" => String::new(),
            mixture if mixture.starts_with("mixture:") => mixture.to_owned(),
            path => absolute(Path::new(path)).display().to_string(),
        };
        DataConfig { source, validation: self.validation.as_deref().map(absolute), ..self.clone() }
    }
}

/// The configuration of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunConfig {
    /// The seed of everything random.
    pub seed: u64,
    /// The rows.
    pub data: DataConfig,
    /// The forward process.
    pub schedule: ScheduleConfig,
    /// The base distribution.
    pub base: BaseConfig,
    /// The network and its head.
    pub model: ModelConfig,
    /// What is minimised.
    pub objective: ObjectiveConfig,
    /// How.
    pub train: TrainConfig,
}

impl RunConfig {
    /// As TOML, every default spelled out.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("plain data")
    }

    /// From TOML; `path` is named in errors. A head that the objective does not train is left out: TOML has no way to
    /// say that there is none.
    pub fn from_toml(text: &str, path: &Path) -> Result<RunConfig> {
        let mut config: RunConfig = toml::from_str(text).map_err(|e| {
            let line =
                e.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            let problem = format!("line {line}: {}", e.message().replace('\n', " "));
            Error::data(
                path,
                problem,
                "correct the configuration (see the config.toml of any run for the fields)",
            )
        })?;
        if !config.objective.trains_head() {
            config.model.head = None;
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::TimeLaw;
    use crate::objective::Weighting;

    #[test]
    fn configurations_round_trip_through_toml() {
        let without_head = RunConfig {
            objective: ObjectiveConfig::Sm { weighting: Weighting::Sigma2, time: TimeLaw::Uniform, draws: 1 },
            model: ModelConfig { head: None, ..ModelConfig::default() },
            ..RunConfig::default()
        };
        let weighted = |weighting| RunConfig {
            objective: ObjectiveConfig::Sm { weighting, time: TimeLaw::LogSnr, draws: 1 },
            ..without_head.clone()
        };
        let table = weighted(Weighting::Table(vec![[0.0, 1.0], [0.5, 2.0]]));
        assert!(table.to_toml().contains("table = [[0.0, 1.0], [0.5, 2.0]]"), "{}", table.to_toml());
        let between = weighted(Weighting::Interpolated(0.5));
        for config in [RunConfig::default(), without_head, table, between] {
            let back = RunConfig::from_toml(&config.to_toml(), Path::new("config.toml")).unwrap();
            assert_eq!(config, back);
        }
    }

    #[test]
    fn unknown_fields_are_named() {
        let error =
            RunConfig::from_toml("seed = 1\n[train]\niteration = 5\n", Path::new("my.toml")).unwrap_err();
        let message = error.to_string();
        assert!(message.contains("my.toml: line 3") && message.contains("iteration"), "{message}");
    }
}
