//! What an experiment is: settings that are plain data, a function that gives an [`Outcome`], a
//! template for the page about it. [`crate::ALL`] lists them; the program takes its commands, their
//! help texts and their options from there.
//!
//! A setting is named `experiment.PATH` in an error, such as `experiment.recipe.width`, and an
//! element of a list as the list or in the singular: `experiment.rank` is one of `ranks`. What is
//! requested beside the settings is `experiment.set` and `experiment.part`. A program with flags
//! can call each by its flag.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tch::Device;

use tweedie::{Error, Result};

use crate::flag::{Flag, parsed};
use crate::outcome::Outcome;

/// Settings of an experiment, or a part of them: plain data with their defaults.
macro_rules! settings {
    (
        $(#[$about:meta])*
        pub struct $name:ident {
            $($(#[$doc:meta])* pub $field:ident: $kind:ty = $default:expr,)*
        }
    ) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $($(#[$doc])* pub $field: $kind,)*
        }

        impl Default for $name {
            fn default() -> Self {
                $name { $($field: $default,)* }
            }
        }
    };
}
pub(crate) use settings;

/// A choice of a few kinds with their names in tables and files: the enum, `ALL` in this order, and
/// `name`.
macro_rules! kinds {
    (
        $(#[$about:meta])*
        pub enum $kind:ident {
            $($(#[$doc:meta])* $variant:ident = $name:expr,)+
        }
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $kind {
            $($(#[$doc])* $variant,)+
        }

        impl $kind {
            /// All, in the order of tables.
            pub const ALL: [$kind; [$($name),+].len()] = [$($kind::$variant),+];

            /// The name in tables and files.
            pub fn name(self) -> &'static str {
                match self {
                    $($kind::$variant => $name,)+
                }
            }
        }
    };
}
pub(crate) use kinds;

/// Refuses a number below `least`, as the setting at this path.
pub(crate) fn at_least(setting: &str, value: usize, least: usize) -> Result<()> {
    match value >= least {
        true => Ok(()),
        false => Err(Error::config(setting, value.to_string(), format!("give at least {least}"))),
    }
}

/// Refuses numbers that do not rise, or are fewer than `fewest`, or begin below `least`, as the
/// setting at this path.
pub(crate) fn check_rising(
    setting: &str,
    numbers: &[usize],
    (fewest, least): (usize, usize),
    remedy: &str,
) -> Result<()> {
    let rising = numbers.windows(2).all(|pair| pair[0] < pair[1]);
    if !rising || numbers.len() < fewest || numbers.first().is_some_and(|first| *first < least) {
        return Err(Error::config(setting, format!("{numbers:?}"), remedy));
    }
    Ok(())
}

/// Progress: a line, and the fraction of the whole that is done.
pub type Progress<'a> = &'a mut dyn FnMut(&str, f64);

/// An experiment, which is its settings.
pub trait Experiment: Clone + Default + Serialize + DeserializeOwned {
    /// Its name on the command line and of its files.
    const NAME: &'static str;
    /// Its manual and its page, between them a line `---`. The manual: a paragraph about it; what
    /// it writes, how long it takes (a line that begins with `Time: `), examples; after a line
    /// `Flags:` the table of its flags, see [`crate::flag`]. The page: see [`crate::page`].
    const TEXT: &'static str;
    /// Tables of flags that it shares with others, laid over the settings before its own.
    const SHARED_FLAGS: &'static [&'static str] = &[];
    /// The path of the seed of everything random.
    const SEED: &'static str = "seed";
    /// Whether small sizes limit the values of flags; else flags win over them.
    const QUICK_LIMITS_FLAGS: bool = false;

    /// The same at sizes that show only that it runs.
    fn quick(self) -> Self;

    /// Runs the experiment: trains, measures and makes the tables and figures.
    ///
    /// # Errors
    /// If a setting cannot be, before anything long is begun, or if the work fails.
    fn run(&self, context: &mut Context) -> Result<Outcome>;

    /// Does the part of this name that [`Context::apart`] asks for, in a process of its own.
    ///
    /// # Errors
    /// If there is no such part, or the work fails.
    fn part(&self, name: &str, _device: Device) -> Result<Value> {
        Err(Error::config("experiment.part", format!("no part '{name}'"), "leave it out"))
    }
}

/// Where and how an experiment runs.
pub struct Context<'a> {
    /// The directory of its files, and of the runs that it trains.
    pub out: &'a Path,
    /// Where to compute.
    pub device: Device,
    /// Callback with how far the experiment is.
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
    /// Flags by their names with the texts that were given for them.
    pub flags: Vec<(String, Vec<String>)>,
    /// `path=value`, laid over everything else in this order.
    pub set: Vec<String>,
    /// Whether sizes are small, to show only that it runs.
    pub quick: bool,
    /// The seed of everything random.
    pub seed: u64,
}

/// An experiment of the list [`crate::ALL`].
pub struct Entry {
    /// Its name on the command line and of its files.
    pub name: &'static str,
    text: &'static str,
    /// Its flags, in the order in which they are laid over the settings.
    pub flags: fn() -> Result<Vec<Flag>>,
    /// Its settings as requested.
    pub settings: fn(&Request) -> Result<Value>,
    /// Runs the experiment with these settings.
    pub run: fn(&Value, &mut Context) -> Result<Outcome>,
    /// Does one part: see [`Experiment::part`].
    pub part: fn(&Value, &str, Device) -> Result<Value>,
}

impl Entry {
    /// The entry of an experiment.
    pub const fn of<E: Experiment>() -> Entry {
        Entry {
            name: E::NAME,
            text: E::TEXT,
            flags: flags::<E>,
            settings: |request| tree(&requested::<E>(request)?),
            run: |settings, context| read::<E>(settings)?.run(context),
            part: |settings, name, device| read::<E>(settings)?.part(name, device),
        }
    }

    /// A paragraph about it; what it writes, how long it takes, and examples.
    pub fn manual(&self) -> (String, String) {
        let [manual, _, _] = parts(self.text);
        // the lines of a paragraph are one; those of examples are not, but after a backslash
        let paragraph = |text: &str| match text.starts_with("Examples:") {
            true => text.replace("\\\n      ", ""),
            false => text.replace('\n', " "),
        };
        let mut paragraphs = manual.trim().split("\n\n").map(paragraph);
        let about = paragraphs.next().unwrap_or_default();
        (about, paragraphs.collect::<Vec<_>>().join("\n\n"))
    }

    /// The page's template.
    pub fn page(&self) -> &'static str {
        parts(self.text)[2]
    }
}

/// Manual, table of flags and page.
fn parts(text: &'static str) -> [&'static str; 3] {
    let (head, page) = text.split_once("\n---\n").unwrap_or(("", text));
    let (manual, flags) = head.split_once("\nFlags:\n").unwrap_or((head, ""));
    [manual, flags, page]
}

fn flags<E: Experiment>() -> Result<Vec<Flag>> {
    let defaults = tree(&E::default())?;
    let tables = E::SHARED_FLAGS.iter().copied().chain([parts(E::TEXT)[1]]);
    Ok(tables.flat_map(|table| Flag::table(table, &defaults)).collect())
}

fn tree<E: Experiment>(experiment: &E) -> Result<Value> {
    serde_json::to_value(experiment).map_err(|e| no_settings("settings", e))
}

fn read<E: Experiment>(settings: &Value) -> Result<E> {
    E::deserialize(settings).map_err(|e| no_settings("settings", e))
}

fn no_settings(place: &str, error: serde_json::Error) -> Error {
    Error::config(place, error.to_string(), "see experiment.json for all settings and their values")
}

/// The experiment's defaults, seed, flags, small sizes and [`Request::set`], each laid over those
/// before it.
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
        let (path, value) = leaf
            .split_once('=')
            .ok_or_else(|| Error::config("experiment.set", leaf.clone(), remedy))?;
        let path = path.trim();
        let value = as_before(place(&mut settings, path)?, value.trim());
        lay(&mut settings, path, value)?;
        read::<E>(&settings).map_err(|error| at_leaf(error, leaf))?;
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

/// A mistake in a value that was set by its path.
fn at_leaf(error: Error, leaf: &str) -> Error {
    match error {
        Error::Config { problem, remedy, .. } => {
            Error::config("experiment.set", format!("{leaf}: {problem}"), remedy)
        }
        other => other,
    }
}

fn lay_flags<E: Experiment>(settings: &mut Value, request: &Request) -> Result<()> {
    for flag in flags::<E>()? {
        for (_, texts) in request.flags.iter().filter(|(name, _)| *name == flag.name) {
            let setting = place(settings, &flag.path)?;
            *setting = flag.read_values(texts, setting);
            let at = format!("experiment.{}", flag.path);
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
                return Err(Error::config("experiment.set", problem, format!("one of: {known}")));
            }
        };
    }
    Ok(tree)
}

fn lay(settings: &mut Value, path: &str, value: Value) -> Result<()> {
    *place(settings, path)? = value;
    Ok(())
}

/// The value that `text` gives, of the kind that stood there before: a list without brackets is
/// one, and text needs no quotes.
fn as_before(before: &Value, text: &str) -> Value {
    let json = serde_json::from_str(text);
    match (before, json) {
        (Value::String(_), _) => text.trim_matches('"').into(),
        (Value::Array(_), Ok(Value::Array(all))) => all.into(),
        (Value::Array(all), _) => {
            let like = all.first().cloned().unwrap_or_else(|| "".into());
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            parts.map(|part| parsed(part, &like)).collect()
        }
        (_, Ok(value)) => value,
        (_, Err(_)) => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tweedie::choice::Choice;
    use tweedie::model::{HeadTrunk, NetworkConfig, PRESETS};

    /// Every experiment can be described: its manual has its parts, and each of its flags with its
    /// default lays the default over the default.
    #[test]
    fn every_experiment_has_a_manual_and_flags_for_its_settings() {
        for entry in &crate::ALL {
            let (about, help) = entry.manual();
            assert!(!about.is_empty() && !about.contains("Writes"), "{about}");
            assert!(help.contains("Writes ") && help.contains("\n\nTime: "), "{help}");
            assert!(help.contains("\n\nExamples:\n  tweedie experiment "), "{help}");
            assert!(entry.page().starts_with("# "), "{}", entry.name);
            let plain = (entry.settings)(&Request::default()).unwrap();
            for flag in (entry.flags)().unwrap() {
                let Some(default) = flag.default.clone() else { continue };
                let values: Vec<String> = match flag.values {
                    crate::flag::Values::List => default.split(',').map(String::from).collect(),
                    _ => vec![default],
                };
                let flags = vec![(flag.name.clone(), values)];
                let given = (entry.settings)(&Request { flags, ..Request::default() }).unwrap();
                // a network by its name has its shape
                if !flag.path.ends_with("network") {
                    assert_eq!(given, plain, "{} --{}", entry.name, flag.name);
                }
            }
            let quick = Request { quick: true, ..Request::default() };
            assert!((entry.settings)(&quick).is_ok(), "{}", entry.name);
        }
    }

    /// Errors name settings that an experiment has, by their paths and not by flags.
    #[test]
    fn errors_name_settings_by_their_paths() {
        let tree = |entry: &Entry| (entry.settings)(&Request::default()).unwrap();
        let trees: Vec<Value> = crate::ALL.iter().map(tree).collect();
        let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
        let mut named = 0;
        while let Some(folder) = folders.pop() {
            let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
            let (inner, files): (Vec<_>, Vec<_>) = files.partition(|path| path.is_dir());
            folders.extend(inner);
            // `flag.rs` is about flags
            for file in files.iter().filter(|file| !file.ends_with("flag.rs")) {
                if file.extension().is_none_or(|extension| extension != "rs") {
                    continue;
                }
                let text = std::fs::read_to_string(file).unwrap();
                let is_flag = |at: &str| at.starts_with(|c: char| c.is_ascii_lowercase());
                assert!(!text.split(concat!(" -", "-")).skip(1).any(is_flag), "{file:?}");
                assert!(!text.split(concat!("\"-", "-")).skip(1).any(is_flag), "{file:?}");
                for rest in text.split(concat!("\"experi", "ment.")).skip(1) {
                    let path = &rest[..rest.find('"').unwrap()];
                    let pointer = format!("/{}", path.replace('.', "/"));
                    let list = format!("{pointer}s");
                    let has =
                        |tree: &Value| tree.pointer(&pointer).or(tree.pointer(&list)).is_some();
                    let of_request = ["part", "set", "{}"].contains(&path);
                    assert!(of_request || trees.iter().any(has), "{file:?}: {path}");
                    named += 1;
                }
            }
        }
        assert!(named > 50, "{named}");
    }

    fn settings(name: &str, set: &[&str]) -> Result<Value> {
        let entry = crate::ALL.iter().find(|entry| entry.name == name).unwrap();
        let set = set.iter().map(ToString::to_string).collect();
        (entry.settings)(&Request { set, quick: true, ..Request::default() })
    }

    /// [`Request::set`] wins over small sizes, takes lists without brackets and text without
    /// quotes, reaches what is nested, and refuses what is no setting or no value of one.
    #[test]
    fn set_reaches_every_setting() {
        let set = ["trials=100", "recipe.score=joint", "steps=5,10", "threads=2", "last=noise"];
        let found = settings("mixture", &set).unwrap();
        assert_eq!((&found["trials"], &found["recipe"]["score"]), (&100.into(), &"joint".into()));
        assert_eq!((&found["steps"], &found["threads"]), (&serde_json::json!([5, 10]), &2.into()));
        let found = settings("covariance-table", &["covariances=beta,rademacher-4"]).unwrap();
        assert_eq!(found["covariances"], serde_json::json!(["beta", "rademacher-4"]));
        let set = ["config.train.ema=0.9", "config.data.split_seed=3", "seeds=1"];
        let found = settings("scoreflow-table", &set).unwrap();
        assert_eq!(found["config"]["train"]["ema"], 0.9);
        let found = settings("image-grid", &["images.network=paper", "images.size=[8,8]"]).unwrap();
        assert_eq!(found["images"]["network"]["shape"], serde_json::json!([3, 32, 32]));
        for preset in &PRESETS {
            let of = |path: &str, set: &str| {
                let found = settings(path, &[&format!("{set}={}", preset.name)]).unwrap();
                set.split('.').fold(&found, |tree, name| &tree[name]).clone()
            };
            let network = NetworkConfig::of_name(preset.name).unwrap();
            let shape = if preset.name == "small" { [1, 32, 32] } else { [3, 32, 32] };
            for head_trunk in HeadTrunk::all() {
                network.clone().for_images(shape, head_trunk).check().unwrap();
            }
            let network = network.for_images(shape, HeadTrunk::Detached);
            let network = serde_json::to_value(network).unwrap();
            assert_eq!(of("cost", "network"), network);
            assert_eq!(of("image-grid", "images.network"), network);
        }
        let unknown = settings("cost", &["network=large"]).unwrap_err().to_string();
        assert!(PRESETS.iter().all(|preset| unknown.contains(preset.name)), "{unknown}");
        for (crop, expected) in [("140", 140.into()), ("shorter", Value::from("shorter"))] {
            let found = settings("few-steps", &[&format!("images.crop={crop}")]).unwrap();
            assert_eq!(found["images"]["crop"], expected);
        }
        for (set, words) in [
            ("trails=3", "trails"),
            ("images.crop=wide", "images.crop"),
            ("recipe.width.x=3", "no setting"),
            ("trials=many", "many"),
            ("trials", "PATH=VALUE"),
        ] {
            let error = settings("mixture", &[set]).unwrap_err();
            assert!(error.is_request() && error.to_string().contains(words), "{error}");
        }
    }
}
