//! Configuration as layers: partial trees of options, laid over the defaults one after another.
//!
//! A layer gives some options and is silent about the others. Where two give the same, the one
//! above wins: the built-in defaults lie at the bottom, then those that follow the data, then a
//! file, and flags on top ([`crate::density::FitOptions`]).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use super::RunConfig;
use crate::error::Place;
use crate::model::NetworkConfig;
use crate::objective::ObjectiveConfig;
use crate::schedule::ScheduleConfig;
use crate::{Error, Result};

/// Options that are replaced whole: a choice, some of whose values carry a number.
const WHOLE: [&str; 3] = ["model.head.structure", "objective.weighting", "data.scaling.dequantize"];

/// A partial tree of options.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Layer {
    tree: Table,
    /// The file that it was read from, and the lines of its options.
    #[serde(skip)]
    file: Option<(PathBuf, BTreeMap<String, usize>)>,
}

impl Layer {
    /// No option.
    pub fn new() -> Layer {
        Layer::default()
    }

    /// Every option of `config`.
    pub fn of(config: &RunConfig) -> Layer {
        Layer { tree: Table::try_from(config).expect("plain data"), file: None }
    }

    /// The options of a configuration file, which need not be all.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read, [`Error::Data`] if it is no TOML. Whether there are such
    /// options is found by [`RunConfig::resolve`].
    pub fn read(path: &Path) -> Result<Layer> {
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        let text = String::from_utf8(bytes).map_err(|_| {
            Error::data(
                path,
                "is not text in UTF-8",
                "give a configuration file, as the config.toml of a run",
            )
        })?;
        Layer::parse(&text, path)
    }

    /// As [`Layer::read`], from the text of the file at `path`.
    ///
    /// # Errors
    /// [`Error::Data`] if it is no TOML, [`Error::Checkpoint`] if a newer version wrote it.
    pub fn parse(text: &str, path: &Path) -> Result<Layer> {
        let text = &*super::schema::config_text(text, path)?;
        let line = |start: usize| text[..start.min(text.len())].matches('\n').count() + 1;
        let broken = |e: toml::de::Error| {
            in_file(path, e.span().map_or(1, |span| line(span.start)), e.message())
        };
        let mut lines = BTreeMap::new();
        let spanned = DeTable::parse(text).map_err(broken)?;
        lines_of("", spanned.get_ref(), &line, &mut lines);
        let tree = toml::from_str(text).map_err(broken)?;
        Ok(Layer { tree, file: Some((path.to_owned(), lines)) })
    }

    /// Whether no option is given.
    pub fn is_empty(&self) -> bool {
        self.leaves().is_empty()
    }

    /// The value given for the option at `path`, such as `train.batch_size`.
    pub fn get(&self, path: &str) -> Option<&Value> {
        get(&self.tree, path)
    }

    /// Gives the option at `path` a value.
    pub fn set(&mut self, path: &str, value: impl Into<Value>) -> &mut Layer {
        overlay(&mut self.tree, &nested(path, value.into()), "");
        self
    }

    /// Gives the option at `path` the value that `text` says: of an option that is text the text
    /// itself, else a TOML value, or where it is none the text.
    pub fn set_text(&mut self, path: &str, text: &str) -> &mut Layer {
        let default = Layer::of(&RunConfig::default());
        let parsed = || toml::from_str::<Table>(&format!("value = {text}")).ok()?.remove("value");
        let value = match (default.get(path), parsed()) {
            (Some(Value::String(_)), Some(value @ (Value::String(_) | Value::Table(_)))) => value,
            (Some(Value::String(_)), _) | (_, None) => Value::String(text.into()),
            (_, Some(value)) => value,
        };
        self.set(path, value)
    }

    /// The same, silent about the options at and below `path`.
    pub fn without(&self, path: &str) -> Layer {
        fn remove(tree: &mut Table, path: &str) {
            match path.split_once('.') {
                None => drop(tree.remove(path)),
                Some((name, rest)) => {
                    if let Some(Value::Table(inner)) = tree.get_mut(name) {
                        remove(inner, rest);
                    }
                }
            }
        }
        let mut layer = self.clone();
        remove(&mut layer.tree, path);
        layer
    }

    /// Lays another layer over this one.
    pub fn lay(&mut self, above: &Layer) -> &mut Layer {
        overlay(&mut self.tree, &above.tree, "");
        self
    }

    /// Paths and values of the options that are given, `kind`s before what depends on them.
    fn leaves(&self) -> Vec<(String, &Value)> {
        let mut found = Vec::new();
        leaves("", &self.tree, &mut found);
        found
    }

    /// What is wrong with the option at `path` of this layer.
    fn error(&self, path: &str, problem: &str) -> Error {
        match &self.file {
            Some((file, lines)) => {
                // of a table that is written in one line, that line
                let line =
                    lines.range(..=path.to_string()).next_back().map_or(1, |(_, line)| *line);
                in_file(file, lines.get(path).copied().unwrap_or(line), problem)
            }
            None => Error::config(
                path,
                problem.replace('\n', " "),
                "see the config.toml of any run for the options and their values",
            ),
        }
    }
}

fn in_file(path: &Path, line: usize, problem: &str) -> Error {
    Error::data_at(
        Place::file(path).line(line as u64),
        problem.replace('\n', " "),
        "correct the configuration (see the config.toml of any run for the fields)",
    )
}

/// Appends the line of every option of `table`.
fn lines_of(
    above: &str,
    table: &DeTable,
    line: &dyn Fn(usize) -> usize,
    found: &mut BTreeMap<String, usize>,
) {
    for (name, value) in table {
        let path = join(above, name.get_ref());
        found.insert(path.clone(), line(name.span().start));
        if let DeValue::Table(inner) = value.get_ref() {
            lines_of(&path, inner, line, found);
        }
    }
}

fn join(above: &str, name: &str) -> String {
    if above.is_empty() { name.into() } else { format!("{above}.{name}") }
}

fn get<'a>(tree: &'a Table, path: &str) -> Option<&'a Value> {
    match path.split_once('.') {
        None => tree.get(path),
        Some((name, rest)) => get(tree.get(name)?.as_table()?, rest),
    }
}

/// The tree with `value` at `path` alone.
fn nested(path: &str, value: Value) -> Table {
    let (name, value) = match path.split_once('.') {
        None => (path, value),
        Some((name, rest)) => (name, Value::Table(nested(rest, value))),
    };
    Table::from_iter([(name.to_string(), value)])
}

fn leaves<'a>(above: &str, table: &'a Table, found: &mut Vec<(String, &'a Value)>) {
    let (kind, rest): (Vec<_>, Vec<_>) = table.iter().partition(|(name, _)| *name == "kind");
    for (name, value) in kind.into_iter().chain(rest) {
        let path = join(above, name);
        match value {
            Value::Table(inner) if !WHOLE.contains(&&*path) => leaves(&path, inner, found),
            _ => found.push((path, value)),
        }
    }
}

/// Lays `above` over `below`, the table at `path`. A table of another `kind` takes the place of
/// what is there, over the defaults of that kind.
fn overlay(below: &mut Table, above: &Table, path: &str) {
    if let Some(kind) = above.get("kind").and_then(Value::as_str)
        && below.get("kind").and_then(Value::as_str) != Some(kind)
        && let Some(defaults) = defaults_of(path, kind)
    {
        *below = defaults;
    }
    for (name, value) in above {
        let path = join(path, name);
        match (below.get_mut(name), value) {
            (Some(Value::Table(below)), Value::Table(above)) if !WHOLE.contains(&&*path) => {
                overlay(below, above, &path);
            }
            (_, Value::Table(above)) if !WHOLE.contains(&&*path) => {
                let mut inner = Table::new();
                overlay(&mut inner, above, &path);
                below.insert(name.clone(), Value::Table(inner));
            }
            _ => {
                below.insert(name.clone(), value.clone());
            }
        }
    }
}

/// The options of the table at `path` where its kind is `kind`; nothing of a table whose options do
/// not depend on it.
fn defaults_of(path: &str, kind: &str) -> Option<Table> {
    fn find<T: Serialize>(all: Vec<T>, kind: &str) -> Table {
        let tables = all.iter().map(|config| Table::try_from(config).expect("plain data"));
        let own = |table: &Table| table.get("kind").and_then(Value::as_str) == Some(kind);
        tables.into_iter().find(own).unwrap_or_default()
    }
    match path {
        "schedule" => Some(find(ScheduleConfig::kinds(), kind)),
        "objective" => Some(find(ObjectiveConfig::kinds(), kind)),
        "model.network" => Some(find(NetworkConfig::kinds(), kind)),
        _ => None,
    }
}

impl RunConfig {
    /// The configuration that `layers` make, each laid over those before it and the first over the
    /// defaults. A head that the objective does not train is left out: TOML has no way to say that
    /// there is none.
    ///
    /// # Errors
    /// [`Error::Data`] with file and line, or [`Error::Config`] with its path, for the first option
    /// that is not known or has a value of another type.
    pub fn resolve(layers: &[&Layer]) -> Result<RunConfig> {
        let defaults = Layer::of(&RunConfig::default());
        let mut whole = defaults.clone();
        for layer in layers {
            whole.lay(layer);
        }
        let mut config = match whole.tree.clone().try_into::<RunConfig>() {
            Ok(config) => config,
            Err(error) => return Err(at_fault(defaults, layers, error)),
        };
        if !config.objective.trains_head() {
            config.model.head = None;
        }
        Ok(config)
    }
}

/// Which option of `layers` it is that cannot be, `error` being what all of them together gave.
fn at_fault(mut tree: Layer, layers: &[&Layer], error: toml::de::Error) -> Error {
    for layer in layers {
        for (path, value) in layer.leaves() {
            overlay(&mut tree.tree, &nested(&path, value.clone()), "");
            if let Err(error) = tree.tree.clone().try_into::<RunConfig>() {
                let network = path.starts_with("model.network.").then(|| {
                    match tree.get("model.network.kind").and_then(Value::as_str) {
                        Some("unet") => "the network is a U-Net: ",
                        Some("dit") => "the network is a DiT: ",
                        Some("mlp") => "the network is a perceptron: ",
                        _ => "",
                    }
                });
                let problem = format!("{}{}", network.unwrap_or_default(), error.message());
                return layer.error(&path, &problem);
            }
        }
    }
    Error::config("configuration", error.message(), "give every option of that kind")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::TimeDistribution;
    use crate::model::UNetConfig;
    use crate::model::{HeadConfig, Structure};
    use crate::objective::Weighting;

    fn layer(text: &str) -> Layer {
        Layer::parse(text, Path::new("my.toml")).unwrap()
    }

    fn problem(layers: &[&Layer]) -> String {
        RunConfig::resolve(layers).unwrap_err().to_string()
    }

    #[test]
    fn the_layer_above_wins_and_the_others_show_through() {
        let below = layer("seed = 3\n[train]\nbatch_size = 7\nema = 0.5\n");
        let mut above = Layer::new();
        above.set("train.batch_size", 8).set_text("train.learning_rate", "0.1");
        let config = RunConfig::resolve(&[&below, &above]).unwrap();
        assert_eq!((config.seed, config.train.batch_size, config.train.ema), (3, 8, 0.5));
        assert_eq!(config.train.learning_rate, 0.1);
        assert_eq!(config.train.iterations, RunConfig::default().train.iterations);
    }

    /// Options of one kind say nothing about another.
    #[test]
    fn another_kind_starts_from_its_own_defaults() {
        let of_lm = layer("[objective]\ntransitions = 9\n");
        let lm = RunConfig::resolve(&[&of_lm]).unwrap().objective;
        assert!(matches!(lm, ObjectiveConfig::Lm { transitions: 9, .. }), "{lm:?}");
        let sm = RunConfig::resolve(&[&of_lm, &layer("objective.kind = 'sm'")]).unwrap();
        let expected = ObjectiveConfig::Sm {
            weighting: Weighting::Sigma2,
            time: TimeDistribution::Uniform,
            draws: 1,
        };
        assert_eq!((sm.objective, sm.model.head), (expected, None));
        let unet = layer("[model.network]\nkind = 'unet'\nblocks = 3");
        let network = RunConfig::resolve(&[&layer("model.network.width = 9"), &unet]).unwrap();
        let expected = UNetConfig { blocks: 3, ..UNetConfig::default() };
        assert_eq!(network.model.network, NetworkConfig::UNet(expected));
        for config in ScheduleConfig::kinds() {
            let kind = Table::try_from(&config).unwrap()["kind"].clone();
            let mut layer = Layer::new();
            layer.set("schedule.kind", kind);
            assert_eq!(RunConfig::resolve(&[&layer]).unwrap().schedule, config);
        }
    }

    #[test]
    fn choices_with_numbers_are_replaced_whole() {
        let full = layer("model.head.structure = 'full'");
        let rank = layer("[model.head.structure]\nlow-rank = 2");
        let structure = |layers: &[&Layer]| {
            RunConfig::resolve(layers).unwrap().model.head.map(|head: HeadConfig| head.structure)
        };
        assert_eq!(structure(&[&full, &rank]), Some(Structure::LowRank(2)));
        assert_eq!(structure(&[&rank, &full]), Some(Structure::Full));
        let table = layer("[objective]\nkind = 'sm'\nweighting = { table = [[0, 1], [0.5, 2]] }");
        let mut power = Layer::new();
        power.set_text("objective.weighting", "{ interpolated = 0.5 }");
        let config = RunConfig::resolve(&[&table, &power]).unwrap();
        let ObjectiveConfig::Sm { weighting, .. } = config.objective else { panic!() };
        assert_eq!(weighting, Weighting::Interpolated(0.5));
    }

    #[test]
    fn the_option_at_fault_is_named() {
        let message = problem(&[&layer("seed = 1\n[train]\niteration = 5\n")]);
        assert!(message.contains("my.toml: line 3") && message.contains("iteration"), "{message}");
        let message = problem(&[&layer("seed = 1\n\n[training]\niterations = 5\n")]);
        assert!(message.contains("my.toml: line 4") && message.contains("training"), "{message}");
        let message = problem(&[&layer("train = { ema = 'none' }\n")]);
        assert!(message.contains("my.toml: line 1") && message.contains("string"), "{message}");
        let mut set = Layer::new();
        for (path, text) in [("train.ema", "big"), ("train.emma", "1"), ("seed.x", "1")] {
            let mut layer = set.clone();
            let message = problem(&[&Layer::new(), layer.set_text(path, text)]);
            assert!(message.starts_with(&format!("{path}: ")), "{message}");
        }
        let message =
            problem(&[&layer("model.network.kind = 'unet'"), set.set("model.network.width", 8)]);
        assert!(message.starts_with("model.network.width: the network is a U-Net"), "{message}");
        let error = Layer::parse("seed = 1\nseed\n", Path::new("my.toml")).unwrap_err();
        assert!(error.to_string().contains("line 2"), "{error}");
    }

    #[test]
    fn text_is_read_as_the_option_is() {
        let value = |path: &str, text: &str| {
            let mut layer = Layer::new();
            layer.set_text(path, text).get(path).cloned().unwrap()
        };
        assert_eq!(value("data.source", "123"), Value::String("123".into()));
        assert_eq!(value("data.table.delimiter", ";"), Value::String(";".into()));
        assert_eq!(value("train.ema", "0.99"), Value::Float(0.99));
        assert_eq!(value("data.flip", "false"), Value::Boolean(false));
        assert_eq!(value("base.components", "[1, 2]"), Value::Array(vec![1.into(), 2.into()]));
        assert_eq!(value("base.kind", "gaussian"), Value::String("gaussian".into()));
    }
}
