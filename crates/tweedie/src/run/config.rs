//! The complete configuration of a run, as plain data.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{DataRecord, KeepConfig, Layer};
use crate::Result;
use crate::categories::CategoriesConfig;
use crate::data::{ScalingOptions, TableOptions, TypeOptions, Types};
use crate::model::{BaseConfig, ModelConfig};
use crate::objective::ObjectiveConfig;
use crate::schedule::ScheduleConfig;
use crate::train::TrainConfig;

/// Where the rows come from and how they are split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// A table, or `mixture:NAME`. A run keeps the absolute path.
    pub source: String,
    /// Rows for validation from a file of their own; else a share of `source`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation: Option<PathBuf>,
    /// Shares of training, validation and test rows.
    pub split: [f64; 3],
    /// The seed of the split, and of the rows of a mixture; where it is not set that of the run, as
    /// in runs of earlier versions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split_seed: Option<u64>,
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
    /// Columns that are given: the model is one of the others given these, and none of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub context: Vec<String>,
    /// Whether missing cells are categories, which the model knows: a sample has holes as rows
    /// have, and a likelihood is of which cells are missing, too.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub missing_indicator: bool,
    /// What the columns of a table are.
    #[serde(skip_serializing_if = "Types::is_auto")]
    pub types: Types,
}

impl Default for DataConfig {
    fn default() -> Self {
        DataConfig {
            source: String::new(),
            validation: None,
            split: [0.8, 0.1, 0.1],
            split_seed: None,
            mixture_rows: 5000,
            flip: false,
            classes: false,
            table: TableOptions::default(),
            scaling: ScalingOptions::default(),
            context: Vec::new(),
            missing_indicator: false,
            types: Types::Auto,
        }
    }
}

impl DataConfig {
    /// The same, for data of a run that has `record`: where it does not say what columns are, as in
    /// runs of earlier versions, they are what they were found to be.
    pub(crate) fn of_run(self, record: &DataRecord) -> DataConfig {
        let types = match self.types {
            Types::Auto if record.schema.is_some() => Types::Mixed(TypeOptions::default()),
            Types::Auto if record.image.is_none() => Types::Numbers,
            given => given,
        };
        DataConfig { types, ..self }
    }

    /// The same with paths that hold from any working directory. They are not resolved further: a
    /// link stays one.
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
    /// The distribution of the categories of a table.
    #[serde(skip_serializing_if = "CategoriesConfig::is_base")]
    pub categories: CategoriesConfig,
    /// What is minimised.
    pub objective: ObjectiveConfig,
    /// Steps, batches, step sizes and when to stop.
    pub train: TrainConfig,
    /// By what the parameters that are kept are chosen.
    pub keep: KeepConfig,
}

impl RunConfig {
    /// The same with paths that hold from any working directory ([`DataConfig::absolute`]).
    pub fn absolute(&self) -> RunConfig {
        RunConfig { data: self.data.absolute(), keep: self.keep.absolute(), ..self.clone() }
    }

    /// The configuration of a file, over the defaults.
    ///
    /// # Errors
    /// [`crate::Error::Io`] if it cannot be read, [`crate::Error::Data`] as
    /// [`RunConfig::from_toml`].
    pub fn read(path: &Path) -> Result<RunConfig> {
        RunConfig::resolve(&[&Layer::read(path)?])
    }

    /// The fields in which `other` differs from this, by their paths, with this value and the
    /// other's; `none` where there is none.
    pub fn differences(&self, other: &RunConfig) -> Vec<(String, String, String)> {
        let value = |config: &RunConfig| toml::Value::try_from(config).expect("plain data");
        let mut found = Vec::new();
        differ("", Some(&value(self)), Some(&value(other)), &mut found);
        found
    }

    /// As TOML, every default spelled out.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("plain data")
    }

    /// From the text of the file at `path`, which need not give every option: what it leaves out
    /// is as by default.
    ///
    /// # Errors
    /// [`crate::Error::Data`] with the line of what cannot be.
    pub fn from_toml(text: &str, path: &Path) -> Result<RunConfig> {
        RunConfig::resolve(&[&Layer::parse(text, path)?])
    }
}

/// Appends where `a` and `b` differ to `found`, going down as long as both are tables.
fn differ(
    path: &str,
    a: Option<&toml::Value>,
    b: Option<&toml::Value>,
    found: &mut Vec<(String, String, String)>,
) {
    if let (Some(toml::Value::Table(a)), Some(toml::Value::Table(b))) = (a, b) {
        let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
        for name in names {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            differ(&path, a.get(name), b.get(name), found);
        }
    } else if a != b {
        let text = |value: Option<&toml::Value>| {
            value.map_or("none".to_string(), |v| v.to_string().replace('\n', " "))
        };
        found.push((path.to_string(), text(a), text(b)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::TimeDistribution;
    use crate::objective::Weighting;

    #[test]
    fn configurations_round_trip_through_toml() {
        let without_head = RunConfig {
            objective: ObjectiveConfig::Sm {
                weighting: Weighting::Sigma2,
                time: TimeDistribution::Uniform,
                draws: 1,
            },
            model: ModelConfig { head: None, ..ModelConfig::default() },
            ..RunConfig::default()
        };
        let weighted = |weighting| RunConfig {
            objective: ObjectiveConfig::Sm { weighting, time: TimeDistribution::LogSnr, draws: 1 },
            ..without_head.clone()
        };
        let table = weighted(Weighting::Table(vec![[0.0, 1.0], [0.5, 2.0]]));
        assert!(
            table.to_toml().contains("table = [[0.0, 1.0], [0.5, 2.0]]"),
            "{}",
            table.to_toml()
        );
        let between = weighted(Weighting::Interpolated(0.5));
        for config in [RunConfig::default(), without_head, table, between] {
            let back = RunConfig::from_toml(&config.to_toml(), Path::new("config.toml")).unwrap();
            assert_eq!(config, back);
        }
    }

    #[test]
    fn what_is_no_text_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), [0xff, 0xfe, 0]).unwrap();
        assert!(RunConfig::read(file.path()).unwrap_err().is_request());
    }

    #[test]
    fn differences_are_named_by_their_paths() {
        let mut other = RunConfig::default();
        assert!(RunConfig::default().differences(&other).is_empty());
        other.train.batch_size = 3;
        other.data.split_seed = Some(7);
        let found = RunConfig::default().differences(&other);
        let paths: Vec<&str> = found.iter().map(|(path, ..)| path.as_str()).collect();
        assert_eq!(paths, ["data.split_seed", "train.batch_size"]);
        assert_eq!((found[0].1.as_str(), found[0].2.as_str()), ("none", "7"));
    }
}
