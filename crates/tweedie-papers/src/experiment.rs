//! What an experiment is: settings that are plain data, a function that gives an [`Outcome`], a
//! template for the page about it. [`crate::ALL`] lists them; the program, its help texts, `--set`
//! and `--json` know an experiment from there.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tch::Device;

use tweedie::{Error, Result};

use crate::flag::{Flag, Values};
use crate::outcome::Outcome;

/// Progress: a line, and the fraction of the whole that is done.
pub type Progress<'a> = &'a mut dyn FnMut(&str, f64);

/// An experiment, which is its settings.
pub trait Experiment: Clone + Default + Serialize + DeserializeOwned {
    /// Its name on the command line and of its files.
    const NAME: &'static str;
    /// One line about it.
    const ABOUT: &'static str;
    /// What it writes, how long it takes (a line that begins with `Time: `), examples.
    const HELP: &'static str;
    /// The page's template: see [`crate::page`].
    const PAGE: &'static str;
    /// Its flags, group by group, in the order in which they are laid over the settings.
    const FLAGS: &'static [&'static [Flag]] = &[];
    /// The path of the seed of everything random.
    const SEED: &'static str = "seed";
    /// Whether `--quick` limits what flags say; else flags win over its sizes.
    const QUICK_LIMITS_FLAGS: bool = false;

    /// The same at sizes that show only that it runs.
    fn quick(self) -> Self;

    /// Does everything.
    ///
    /// # Errors
    /// If a setting cannot be, before anything long is begun, or if the work fails.
    fn run(&self, context: &mut Context) -> Result<Outcome>;

    /// Does the part of this name that [`Context::apart`] asks for, in a process of its own.
    ///
    /// # Errors
    /// If there is no such part, or the work fails.
    fn part(&self, name: &str, _device: Device) -> Result<Value> {
        Err(Error::config("--memory-of", format!("no part '{name}'"), "leave it out"))
    }
}

/// Where and how an experiment runs.
pub struct Context<'a> {
    /// The directory of its files, and of the runs that it trains.
    pub out: &'a Path,
    /// Where to compute.
    pub device: Device,
    /// Is told how far the experiment is.
    pub progress: Progress<'a>,
    /// Calls [`Experiment::part`] in a process of its own, with the same settings.
    pub apart: &'a mut dyn FnMut(&str) -> Result<Value>,
}

#[cfg(test)]
impl Context<'_> {
    /// What `work` returns of a context on the CPU that nobody listens to, without a directory.
    pub(crate) fn alone<T>(work: impl FnOnce(&mut Context) -> T) -> T {
        work(&mut Context {
            out: Path::new(""),
            device: Device::Cpu,
            progress: &mut |_, _| (),
            apart: &mut |_| Ok(Value::Null),
        })
    }
}

/// What a user requests of an experiment.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Flags with their values, one for each time that a value was given.
    pub flags: Vec<(&'static str, Vec<Value>)>,
    /// `path=value`, laid over everything else in this order.
    pub set: Vec<String>,
    /// Small sizes.
    pub quick: bool,
    /// The seed of everything random.
    pub seed: u64,
}

/// An experiment of the list [`crate::ALL`].
pub struct Entry {
    /// Its name on the command line and of its files.
    pub name: &'static str,
    /// One line about it.
    pub about: &'static str,
    /// What it writes, how long it takes, examples.
    pub help: &'static str,
    /// The page's template.
    pub page: &'static str,
    /// Its flags, group by group.
    pub flags: &'static [&'static [Flag]],
    /// Its settings by default.
    pub defaults: fn() -> Result<Value>,
    /// Its settings as requested.
    pub settings: fn(&Request) -> Result<Value>,
    /// Runs it.
    pub run: fn(&Value, &mut Context) -> Result<Outcome>,
    /// Does one part: see [`Experiment::part`].
    pub part: fn(&Value, &str, Device) -> Result<Value>,
}

impl Entry {
    /// The entry of an experiment.
    pub const fn of<E: Experiment>() -> Entry {
        Entry {
            name: E::NAME,
            about: E::ABOUT,
            help: E::HELP,
            page: E::PAGE,
            flags: E::FLAGS,
            defaults: || tree(&E::default()),
            settings: |request| tree(&requested::<E>(request)?),
            run: |settings, context| read::<E>(settings)?.run(context),
            part: |settings, name, device| read::<E>(settings)?.part(name, device),
        }
    }

    /// The default of a flag, as a user would write it; nothing where there is none.
    pub fn default_of(&self, flag: &Flag) -> Option<String> {
        let settings = (self.defaults)().ok()?;
        let show = |value: &Value| match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        let found = flag.path.split('.').try_fold(&settings, |tree, name| tree.get(name))?;
        let text = match found {
            Value::Array(all) => all.iter().map(show).collect::<Option<Vec<_>>>()?.join(","),
            one => show(one)?,
        };
        (!text.is_empty()).then_some(text)
    }
}

fn tree<E: Experiment>(experiment: &E) -> Result<Value> {
    serde_json::to_value(experiment).map_err(|e| no_settings("settings", e))
}

fn read<E: Experiment>(settings: &Value) -> Result<E> {
    E::deserialize(settings).map_err(|e| no_settings("settings", e))
}

fn no_settings(place: &str, error: serde_json::Error) -> Error {
    Error::config(place, error.to_string(), "see `--json` for all settings and their values")
}

/// The experiment's defaults, seed, flags, `--quick` and `--set`, one laid over the other.
fn requested<E: Experiment>(request: &Request) -> Result<E> {
    let mut settings = tree(&E::default())?;
    if E::QUICK_LIMITS_FLAGS {
        lay_flags::<E>(&mut settings, request)?;
    }
    lay(&mut settings, E::SEED, request.seed.into())?;
    if request.quick {
        settings = tree(&read::<E>(&settings)?.quick())?;
    }
    if !E::QUICK_LIMITS_FLAGS {
        lay_flags::<E>(&mut settings, request)?;
    }
    for leaf in &request.set {
        let remedy = "give PATH=VALUE, such as recipe.width=64";
        let (path, value) =
            leaf.split_once('=').ok_or_else(|| Error::config("--set", leaf.clone(), remedy))?;
        let path = path.trim();
        let value = as_before(place(&mut settings, path)?, value.trim());
        lay(&mut settings, path, value)?;
        read::<E>(&settings).map_err(|error| placed(error, format!("--set {leaf}")))?;
    }
    read(&settings)
}

/// A mistake in the settings with the place where it was made.
fn placed(error: Error, place: String) -> Error {
    match error {
        Error::Config { problem, remedy, .. } => Error::config(place, problem, remedy),
        other => other,
    }
}

fn lay_flags<E: Experiment>(settings: &mut Value, request: &Request) -> Result<()> {
    for flag in E::FLAGS.iter().copied().flatten() {
        for (_, values) in request.flags.iter().filter(|(name, _)| *name == flag.name) {
            let value = match flag.values {
                Values::None => true.into(),
                Values::One => values.last().cloned().unwrap_or_default(),
                Values::List | Values::Repeated => values.clone().into(),
            };
            lay(settings, flag.path, value)?;
            let at = format!("--{}", flag.name);
            *settings = tree(&read::<E>(settings).map_err(|error| placed(error, at))?)?;
        }
    }
    Ok(())
}

/// Where the setting `path` stands; made where its parent has no such field yet, as optional fields
/// that are not set.
fn place<'a>(settings: &'a mut Value, path: &str) -> Result<&'a mut Value> {
    let mut tree = settings;
    for name in path.split('.') {
        let known = tree.as_object().map(|map| map.keys().cloned().collect::<Vec<_>>());
        let known = known.unwrap_or_default().join(", ");
        tree = match (tree, name.parse::<usize>()) {
            (Value::Object(map), _) => map.entry(name).or_insert(Value::Null),
            (Value::Array(all), Ok(i)) if i < all.len() => &mut all[i],
            _ => {
                let problem = format!("there is no setting {path}");
                return Err(Error::config("--set", problem, format!("one of: {known}")));
            }
        };
    }
    Ok(tree)
}

fn lay(settings: &mut Value, path: &str, value: Value) -> Result<()> {
    *place(settings, path)? = value;
    Ok(())
}

/// The value that `text` says, of the kind that stood there before: a list without brackets is one,
/// and text needs no quotes.
fn as_before(before: &Value, text: &str) -> Value {
    let plain = |text: &str| serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
    match before {
        Value::String(_) => text.trim_matches('"').into(),
        Value::Array(_) if !text.starts_with('[') => {
            text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(plain).collect()
        }
        _ => plain(text),
    }
}
