//! The version of a run's files, and where its data are relative to it.
//!
//! `config.toml` and `data.json` say the version of their form under `schema`; files of earlier
//! versions, which say nothing, are version 0. Earlier versions are upgraded as they are read, and
//! newer ones are refused by name. Checkpoints have a form of their own (`format`, in their
//! header).
//!
//! | version | what changed |
//! |---|---|
//! | 0 | no version; data by their absolute path alone |
//! | 1 | `schema`; `near` in `data.json`: the data's path from the run directory |

use std::borrow::Cow;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{DataConfig, DataRecord, RunDir};
use crate::{Error, Result};

/// The version that is written.
pub(super) const SCHEMA: u64 = 1;

const KEY: &str = "schema";

/// Refuses a version that is newer than this program's.
fn check(path: &Path, version: u64) -> Result<()> {
    match version > SCHEMA {
        false => Ok(()),
        true => {
            let problem = format!(
                "is of version {version}, which a newer tweedie wrote; this one reads up to \
                {SCHEMA}"
            );
            Err(Error::checkpoint(path, problem, "use the version that wrote it, or a newer one"))
        }
    }
}

/// A configuration with its version.
pub(super) fn stamped_config(text: &str) -> String {
    format!("{KEY} = {SCHEMA}\n{text}")
}

/// The text of a configuration in the form of this version, without its own; lines keep their
/// numbers.
///
/// # Errors
/// [`Error::Checkpoint`] if a newer version wrote it.
pub(super) fn config_text<'a>(text: &'a str, path: &Path) -> Result<Cow<'a, str>> {
    // of what is no TOML the reader says what is wrong
    let version = toml::from_str::<toml::Table>(text).ok();
    let version = version.and_then(|table| table.get(KEY)?.as_integer());
    let Some(version) = version else { return Ok(text.into()) };
    check(path, version.try_into().unwrap_or(u64::MAX))?;
    let is_version = |line: &&str| {
        line.split_once('=').is_some_and(|(key, _)| key.trim().trim_matches('"') == KEY)
    };
    let mut lines: Vec<&str> = text.split('\n').collect();
    if let Some(line) = lines.iter_mut().find(|line| is_version(line)) {
        *line = "";
    }
    Ok(lines.join("\n").into())
}

/// The data's paths from the run directory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Near {
    /// Of the training data.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<PathBuf>,
    /// Of validation rows from a file of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    validation: Option<PathBuf>,
}

impl Near {
    fn of(dir: &Path, data: &DataConfig) -> Near {
        let from = |path: &Path| relative(&std::path::absolute(dir).ok()?, path);
        let data = data.absolute();
        let is_file = !data.source.is_empty() && !data.source.starts_with("mixture:");
        Near {
            source: is_file.then(|| from(Path::new(&data.source))).flatten(),
            validation: data.validation.as_deref().and_then(from),
        }
    }
}

/// `to` as a path from the directory `from`, both absolute.
fn relative(from: &Path, to: &Path) -> Option<PathBuf> {
    let (from, to): (Vec<Component>, Vec<Component>) =
        (from.components().collect(), to.components().collect());
    let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let up = std::iter::repeat_n(Component::ParentDir, from.len() - shared);
    // with nothing in common, as on another drive, there is no such path
    (shared > 0).then(|| up.chain(to[shared..].iter().copied()).collect())
}

/// A data record with its version and where the data are.
#[derive(Serialize)]
pub(super) struct Stamped<T: Serialize> {
    schema: u64,
    near: Near,
    #[serde(flatten)]
    record: T,
}

impl<T: Serialize> Stamped<T> {
    /// Of a record that is written to `dir`.
    pub(super) fn new(record: T, dir: &RunDir, data: &DataConfig) -> Stamped<T> {
        Stamped { schema: SCHEMA, near: Near::of(dir.path(), data), record }
    }
}

/// What [`Stamped`] adds to a record.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Stamp {
    schema: u64,
    near: Near,
}

/// Refuses a data record of a newer version.
pub(super) fn check_data(path: &Path, bytes: &[u8]) -> Result<()> {
    // of what is no record the reader says what is wrong
    let stamp: Stamp = serde_json::from_slice(bytes).unwrap_or_default();
    check(path, stamp.schema)
}

impl RunDir {
    /// Where the data of a run may be, the likeliest place first: where they were, the same place
    /// from the run directory if both were moved together, and as they were called by the command.
    pub(super) fn places_of_data(&self, data: &DataConfig, record: &DataRecord) -> Vec<DataConfig> {
        let bytes = std::fs::read(self.file("data.json")).unwrap_or_default();
        let Stamp { near, .. } = serde_json::from_slice(&bytes).unwrap_or_default();
        let data = data.clone().of_run(record);
        let mut places = vec![data.clone()];
        if let Some(source) = near.source {
            places.push(DataConfig {
                source: self.path().join(source).display().to_string(),
                validation: near.validation.map(|path| self.path().join(path)),
                ..data.clone()
            });
        }
        if !data.source.is_empty() {
            places.push(DataConfig { source: record.source.clone(), ..data.clone() });
        }
        places.dedup();
        places
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::run::{Run, RunConfig};

    #[test]
    fn configurations_of_every_version_are_read() {
        let path = Path::new("config.toml");
        let config = RunConfig { seed: 7, ..RunConfig::default() };
        let old = config.to_toml();
        let new = stamped_config(&old);
        assert!(new.starts_with("schema = 1\n"));
        for text in [&old, &new] {
            assert_eq!(RunConfig::from_toml(text, path).unwrap(), config);
        }
        let newer = new.replacen("schema = 1", "schema = 2", 1);
        let error = RunConfig::from_toml(&newer, path).unwrap_err().to_string();
        assert!(error.contains("version 2") && error.contains("up to 1"), "{error}");
        // lines keep their numbers
        let error = RunConfig::from_toml("schema = 1\n\nsede = 1\n", path).unwrap_err();
        assert!(error.to_string().contains("line 3"), "{error}");
    }

    #[test]
    fn data_are_found_from_the_run() {
        let path = |from: &str, to: &str| relative(Path::new(from), Path::new(to));
        assert_eq!(path("/a/runs/x", "/a/data/t.csv"), Some("../../data/t.csv".into()));
        assert_eq!(path("/a", "/a/t.csv"), Some("t.csv".into()));
        let dir = Path::new("/a/run");
        let data = |source: &str| DataConfig { source: source.into(), ..DataConfig::default() };
        assert_eq!(Near::of(dir, &data("/a/t.csv")).source, Some("../t.csv".into()));
        assert_eq!(Near::of(dir, &data("mixture:two")), Near::default());
        assert_eq!(Near::of(dir, &data("")), Near::default());
    }

    /// The model that comes with the project was written before there were versions; one of a newer
    /// version is refused.
    #[test]
    fn the_shipped_model_is_read() {
        let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/fashion-mnist");
        let shipped = Run::load(shipped, Device::Cpu).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let copy = dir.path().join("copy");
        shipped.dir.copy_to(&copy).unwrap();
        let loaded = Run::load(&copy, Device::Cpu).unwrap();
        assert_eq!(loaded.data, shipped.data);
        let file = copy.join("data.json");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replacen('{', "{\"schema\": 99,", 1)).unwrap();
        let error = Run::load(&copy, Device::Cpu).err().unwrap().to_string();
        assert!(error.contains("data.json") && error.contains("version 99"), "{error}");
    }
}
