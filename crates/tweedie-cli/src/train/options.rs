//! The flags of `tweedie train`: one table from flags to options of a configuration.

use clap::builder::{
    BoolValueParser, PossibleValue, PossibleValuesParser, StringValueParser, TypedValueParser,
    ValueParser,
};
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, value_parser};
use toml::{Table, Value};
use tweedie::categories::CategoryModel;
use tweedie::choice::Preset;
use tweedie::data::{Crop, Marginals, Missing, TypeOptions, Types};
use tweedie::grid::{PathGrid, TimeDistribution};
use tweedie::model::{BaseKind, HeadStart, HeadTrunk, Parametrization, Precision};
use tweedie::objective::{LmForm, ObjectiveConfig};
use tweedie::run::{KeepBy, Layer, RunConfig};
use tweedie::{Error, Result};
use tweedie::{model, objective, schedule};

use crate::choice::values;
use crate::pictures::size;

/// A flag and the option that it sets.
pub struct Flag {
    /// Without dashes.
    pub name: &'static str,
    /// The option's path.
    pub path: &'static str,
    /// What stands for its value in the help.
    value: &'static str,
    kind: Kind,
    heading: &'static str,
    help: &'static str,
    /// Where the value is not the option's own: what it sets, over a configuration.
    sets: Option<Sets>,
}

type Sets = fn(&Value, &RunConfig, &mut Layer) -> Result<()>;

/// What a flag's value is.
#[derive(Clone, Copy)]
enum Kind {
    /// On where it is given without a value.
    Switch,
    Bool,
    Count,
    Number,
    Char,
    Text,
    /// Words between commas.
    List,
    /// Numbers between commas.
    Numbers,
    /// HxW.
    Size,
    /// SIDE or `shorter`.
    Cropping,
    /// The names of a type of the library.
    Names(fn() -> Vec<PossibleValue>),
    /// Names with what they mean.
    Choice(&'static [(&'static str, &'static str)]),
    /// Names of parts of a configuration.
    Presets(&'static [Preset]),
}
use Kind::*;

const fn flag(
    heading: &'static str,
    name: &'static str,
    path: &'static str,
    value: &'static str,
    kind: Kind,
    help: &'static str,
) -> Flag {
    Flag { name, path, value, kind, heading, help, sets: None }
}

impl Flag {
    const fn sets(mut self, sets: Sets) -> Flag {
        self.sets = Some(sets);
        self
    }

    fn argument(&self) -> Arg {
        let name = match self.value {
            "" => self.name.to_uppercase().replace('-', "_"),
            value => value.into(),
        };
        let argument = Arg::new(self.name).long(self.name).help(self.help).value_name(name);
        let argument = match self.heading {
            "" => argument,
            heading => argument.help_heading(heading),
        };
        let argument = argument.action(ArgAction::Set).value_parser(self.parser());
        match self.kind {
            Switch => argument
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true")
                .value_name("BOOL")
                .hide_possible_values(true),
            Number => argument.allow_negative_numbers(true),
            List => argument.action(ArgAction::Append).value_delimiter(','),
            Numbers => argument.action(ArgAction::Append).value_delimiter(',').num_args(1),
            _ => argument,
        }
    }

    /// From a word of the command line to a value of a configuration.
    fn parser(&self) -> ValueParser {
        let one_of = |names| PossibleValuesParser::new(names).map(Value::from).into();
        match self.kind {
            Switch | Bool => BoolValueParser::new().map(Value::from).into(),
            Count => {
                let count = value_parser!(u64).range(..=i64::MAX as u64);
                count.map(|n| Value::Integer(n as i64)).into()
            }
            Number | Numbers => ValueParser::new(|t: &str| t.parse::<f64>().map(Value::from)),
            Char => ValueParser::new(|t: &str| t.parse::<char>().map(|c| Value::String(c.into()))),
            Text | List => StringValueParser::new().map(Value::from).into(),
            Size => ValueParser::new(|t: &str| {
                size(t).map(|s| Value::from(s.map(|n| n as i64).to_vec()))
            }),
            Cropping => ValueParser::new(|t: &str| {
                t.parse::<Crop>().and_then(|crop| Value::try_from(crop).map_err(|e| e.to_string()))
            }),
            Names(values) => one_of(values()),
            Choice(values) => {
                // the library calls what the head alone is trained under by what the score is
                let other = |name: &str| if name == "head" { Some("frozen") } else { None };
                let value = |(name, help): &(&'static str, _)| {
                    PossibleValue::new(name).help(*help).aliases(other(name))
                };
                one_of(values.iter().map(value).collect())
            }
            Presets(presets) => {
                let value = |preset: &Preset| PossibleValue::new(preset.name).help(preset.help);
                one_of(presets.iter().map(value).collect())
            }
        }
    }

    /// The value that was given, if one was.
    fn value_in(&self, matches: &ArgMatches) -> Option<Value> {
        let mut values = matches.get_many::<Value>(self.name)?.cloned();
        match self.kind {
            List | Numbers => Some(Value::Array(values.collect())),
            _ => values.next(),
        }
    }
}

const DATA: &str = "Data";
const MODEL: &str = "Model";
const TRAINING: &str = "Training";

/// Every flag of `tweedie train` that sets an option of a configuration.
#[rustfmt::skip]
pub const FLAGS: &[Flag] = &[
    flag("", "data", "data.source", "FILE|DIR|mixture:NAME", Text,
        "A table (CSV, TSV, Parquet, NPY), images (a folder, IDX, NPY, NPZ, CIFAR-10's or \
        downsampled ImageNet's batches), latents (what `tweedie latents encode` wrote), or \
         mixture:NAME"),
    flag("", "seed", "seed", "S", Count, "Seed of everything random but the split [default: 0]"),

    flag(DATA, "columns", "data.table.columns", "A,B,…", List,
        "Columns to use, by name or position from 1 [default: all]"),
    flag(DATA, "drop", "data.table.drop", "A,B,…", List, "Columns to leave out [default: none]"),
    flag(DATA, "delimiter", "data.table.delimiter", "CHAR", Char,
        "Delimiter of a text table [default: found]"),
    flag(DATA, "decimal", "data.table.decimal", "CHAR", Char,
        "What stands before the decimals of a text table, . or , [default: found]"),
    flag(DATA, "header", "data.table.header", "BOOL", Bool,
        "Whether a text table has a header [default: found]"),
    flag(DATA, "types", "data.types", "WORD|A=TYPE,…|FILE", Text,
        "What the columns are: numbers; mixed, numbers, categories, dates and missing cells by \
         what cells look like, leaving out what is neither, with exceptions as A=number, \
         B=category, C=date, C=date:FORMAT, D=drop, or a file of these (JSON, TOML, or the \
         metadata of SDV); auto: numbers if all are measurements, else \
         mixed [default: auto, numbers with --dequantize]")
        .sets(types),
    flag(DATA, "bounds", "data.table.bounds", "A>=V,B<=V,…", List,
        "The least or greatest value that a column of numbers or dates can have, of a mixed table: \
        no sample lies outside, and a cell that does is an error [default: none]"),
    flag(DATA, "order", "data.table.order", "A<=B,…", List,
        "Pairs of columns of a mixed table, both numbers or both dates, of which A is never \
        greater than B: B is modelled by its difference to A, no sample is out of order, and a row \
        that is is an error [default: none]"),
    flag(DATA, "context", "data.context", "A,B,…", List,
        "Columns of a mixed table that are always given: the model is one of the others given \
        these, p(others | A, B, …) [default: none]"),
    flag(DATA, "missing", "data.table.missing", "WHAT", Names(values::<Missing>),
        "Missing cells: trained on and scored by what is there, an error, or their rows dropped \
         and counted [default: model]"),
    flag(DATA, "missing-indicator", "data.missing_indicator", "", Switch,
        "Missing cells of a mixed table are categories: likelihoods are of which cells are \
        missing, too, and samples come with holes [default: false]"),
    flag(DATA, "unique", "data.table.unique", "", Switch, "Drop duplicate rows [default: false]"),
    flag(DATA, "dequantize", "data.scaling.dequantize", "WHICH", Text,
        "Columns to dequantise by uniform noise: none, integers, or names [default: none; images \
        always are]")
        .sets(dequantize),
    flag(DATA, "marginals", "data.scaling.marginals", "", Names(values::<Marginals>),
        "How columns are brought to the network's units: gaussianize maps a column to a normal \
         distribution by a monotone spline, standardize shifts and scales it, auto \
         gaussianizes those with a long tail, an edge or uneven levels, where held-out \
         rows gain by it [default: auto]"),
    flag(DATA, "crop", "data.table.crop", "SIDE|shorter", Cropping,
        "Keep of each image the square in its middle, with this side in pixels or with the image's \
         shorter side; before --size [default: all of it]"),
    flag(DATA, "size", "data.table.size", "HxW", Size,
        "Bring images to this height and width: those no larger get a black border, others are \
         resampled [default: as they are]"),
    flag(DATA, "skip-corrupt", "data.table.skip_corrupt", "", Switch,
        "Leave out and count images of a folder that cannot be decoded [default: false]"),
    flag(DATA, "classes", "data.classes", "", Switch,
        "Condition the model on the images' classes: sub-folders, or the labels of IDX, NPZ and \
        CIFAR-10 [default: false]"),
    flag(DATA, "flip", "data.flip", "", Switch,
        "Mirror training images, left to right, in half of their draws; of latents, which were \
         encoded with --flip, take those of the mirrored images [default: false]"),
    flag(DATA, "validation", "data.validation", "FILE", Text,
        "Validation rows from a file of their own [default: a share of --data]").sets(validation),
    flag(DATA, "split", "data.split", "A,B,C", Numbers,
        "Shares of training, validation and test rows [default: 0.8,0.1,0.1]"),
    flag(DATA, "split-seed", "data.split_seed", "S", Count,
        "Seed of the split, and of the rows of a mixture: the same for every --seed, so that seeds \
         compare [default: 0, or that of --score-from]"),

    flag(MODEL, "schedule", "schedule.kind", "", Presets(&schedule::PRESETS),
        "The forward process [default: vp, or that of --score-from]"),
    flag(MODEL, "base", "base.kind", "", Names(values::<BaseKind>),
        "The distribution that the network corrects [default: isotropic for images; \
         gaussian for tables, but mixture where --max-seconds is below 90 (of numbers alone, if there \
         are 20 times as many rows as columns squared) and for mixed tables with --categories base]"),
    flag(MODEL, "rank", "model.head.structure", "R|full|auto", Text,
        "Rank of the covariance head: 0 is diagonal; full; or auto, with --score-from: the least, \
        up to 32, that leaves a tenth of the norm of the score's own G [default: 4, or the number \
        of columns]")
        .sets(rank),
    flag(MODEL, "head-start", "model.head.start", "START", Names(values::<HeadStart>),
        "What the head starts from and corrects: the base's G, or, with --score-from, E|ε − ε̂|²/d \
        of that score, measured at its first use and kept with it [default: analytic on a given \
        score with an isotropic base, as of images, else base]"),
    flag(MODEL, "paper-literal", "model.head.parametrization", "", Switch,
        "Take H = ReLU(U) + VVᵀ as the paper's text does [default: false]").sets(paper_literal),
    flag(MODEL, "network", "model.network.kind", "", Presets(&model::PRESETS),
        "The network for images, a U-Net or a DiT (diffusion transformer) [default: small]")
        .sets(network),
    flag(MODEL, "width", "model.network.width", "W", Count,
        "Hidden units, for tables [default: 128]"),
    flag(MODEL, "depth", "model.network.depth", "L", Count,
        "Residual blocks, for tables [default: 3]"),
    flag(MODEL, "categories", "categories.model", "", Names(values::<CategoryModel>),
        "The distribution of a mixed table's categories: the base's, or with it, as much as \
        validation rows say, that of a network for any order of the columns, which is trained \
        first (--set categories.iterations=N, categories.width, categories.depth, \
        categories.dropout, categories.time_share) [default: network]"),
    flag(MODEL, "separate", "model.network.head_trunk", "", Switch,
        "A network of its own for the covariance, as in the paper [default: for tables; for images \
        a head on the score's network]")
        .sets(separate),

    flag(TRAINING, "objective", "objective.kind", "", Presets(&objective::PRESETS),
        "What is minimised [default: lm]").sets(objective),
    flag(TRAINING, "weighting", "objective.weighting", "P", Number,
        "Weight of the score-matching loss between σ² (0) and the likelihood weighting (1), for \
        sm-lw and sm-lw-is [default: 1]").sets(weighting),
    flag(TRAINING, "mode", "objective.score", "", Choice(&MODES),
        "What trains the score under lm [default: dsm]").sets(mode),
    flag(TRAINING, "transitions", "objective.transitions", "N", Count,
        "Transitions per path under lm; draws per row under the other objectives [default: 4; 1]")
        .sets(transitions),
    flag(TRAINING, "form", "objective.form", "", Names(values::<LmForm>),
        "How the noise of a transition enters under lm [default: marginal]").sets(form),
    flag(TRAINING, "clock", "objective.time", "", Names(values::<TimeDistribution>),
        "The clock in which training times are uniform [default: log-snr; uniform for images and \
        for sm]").sets(clock),
    flag(TRAINING, "grid", "objective.grid", "", Names(values::<PathGrid>),
        "How a path's times are laid in it under lm [default: random]").sets(grid),
    flag(TRAINING, "adaptive-times", "objective.adaptive", "", Switch,
        "Draw each transition by itself, more of them at the noise levels where the network gains \
        on its base, under lm [default: true for tables]").sets(adaptive_times),
    flag(TRAINING, "iterations", "train.iterations", "I", Count,
        "Steps of the optimiser [default: 20000]"),
    flag(TRAINING, "batch-size", "train.batch_size", "B", Count,
        "Rows per step [default: 128; 16 images]"),
    flag(TRAINING, "accumulation", "train.accumulation", "A", Count,
        "Batches whose gradients are averaged for one step: A times B rows in the memory of B \
        [default: 1]"),
    flag(TRAINING, "label-dropout", "train.label_dropout", "SHARE", Number,
        "Share of draws whose class is dropped, so that samples can be guided (sample --guidance); \
        0.1 is usual [default: 0]"),
    flag(TRAINING, "precision", "train.precision", "", Names(values::<Precision>),
        "Products of weights and activations of a network for images in f32 or bf16 (for GPUs) \
        [default: f32]"),
    flag(TRAINING, "checkpoint-activations", "train.checkpoint_activations", "", Switch,
        "Compute activations within the blocks of a network for images again on the way back \
        instead of keeping them: less memory, more time [default: false]"),
    flag(TRAINING, "learning-rate", "train.learning_rate", "RATE", Number,
        "Adam's step size after 200 steps, from where it falls along a cosine [default: 0.005; \
        0.001 for images]"),
    flag(TRAINING, "weight-decay", "train.weight_decay", "DECAY", Number,
        "Decoupled weight decay (AdamW) of the parameters that are trained; 0: Adam [default: 750 \
        over the rows of a table, 0.2 at most; 0 for images]"),
    flag(TRAINING, "patience", "train.patience", "P", Count,
        "Validations, one every 1000 steps (500 for images), without improvement before stopping; \
        0: never [default: 10]"),
    flag(TRAINING, "keep", "keep.by", "", Names(values::<KeepBy>),
        "By what the kept parameters are chosen among those of the validations. Distance is of \
        2048 samples in 20 steps (--set keep.samples=N, keep.steps, keep.covariance, keep.sampler, \
        keep.spacing, keep.eta, keep.clip_noise) to the training images (or --set \
        keep.reference=STATISTICS.npz, as `tweedie evaluate --save-reference` writes) [default: \
        bound]"),
    flag(TRAINING, "features", "keep.network", "FILE", Text,
        "Weights of the network whose features --keep distance compares: pytorch-fid's, or \
        EfficientNet-Lite0's [default: none]"),
    flag(TRAINING, "max-seconds", "train.max_seconds", "SECONDS", Number,
        "Stop after this many seconds, the fit of the base included; with --resume, this many \
        more; 0: no limit [default: 0]"),
    flag(TRAINING, "checkpoint-every", "train.checkpoint_every", "STEPS", Count,
        "Steps between checkpoints, besides one every 60 s [default: 1000]"),
];

const MODES: [(&str, &str); 3] = [
    ("joint", "The quasi-likelihood trains score and head together"),
    ("dsm", "Score matching trains the score, the quasi-likelihood the head"),
    ("head", "The score is frozen; the head is trained"),
];

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn choice(name: &str, value: impl Into<Value>) -> Value {
    Value::Table(Table::from_iter([(name.to_string(), value.into())]))
}

fn dequantize(value: &Value, _: &RunConfig, layer: &mut Layer) -> Result<()> {
    let value = match text(value) {
        known @ ("none" | "integers") => known.into(),
        names => choice("columns", names.split(',').collect::<Vec<_>>()),
    };
    layer.set("data.scaling.dequantize", value);
    Ok(())
}

/// A word, the types of columns, or a file of them.
fn types(value: &Value, _: &RunConfig, layer: &mut Layer) -> Result<()> {
    let given = match text(value) {
        path if path.ends_with(".json") || path.ends_with(".toml") => {
            Types::Mixed(TypeOptions::read(path)?)
        }
        given => given.parse()?,
    };
    layer.set("data.types", Value::try_from(&given).expect("plain data"));
    Ok(())
}

fn validation(value: &Value, _: &RunConfig, layer: &mut Layer) -> Result<()> {
    layer.set("data.validation", value.clone()).set("data.split", vec![1.0, 0.0, 0.0]);
    Ok(())
}

/// An objective, and the head for it: one that an earlier objective needed goes.
fn objective(value: &Value, below: &RunConfig, layer: &mut Layer) -> Result<()> {
    let special = [Parametrization::SecondMoment, Parametrization::Interpolation];
    if below.model.head.is_some_and(|head| special.contains(&head.parametrization)) {
        let usual = Layer::of(&RunConfig::default());
        usual.get("model.head").map(|head| layer.set("model.head", head.clone()));
    }
    if let Some(preset) = objective::PRESETS.iter().find(|preset| preset.name == text(value)) {
        layer.lay(&preset.layer());
    }
    Ok(())
}

fn weighting(value: &Value, below: &RunConfig, layer: &mut Layer) -> Result<()> {
    if !matches!(below.objective, ObjectiveConfig::Sm { .. }) {
        let remedy = "give --objective sm-lw or sm-lw-is";
        return Err(Error::config("--weighting", "only score matching has one", remedy));
    }
    layer.set("objective.weighting", choice("interpolated", value.clone()));
    Ok(())
}

fn form(value: &Value, below: &RunConfig, layer: &mut Layer) -> Result<()> {
    of_path("form", value, below, layer)
}

fn grid(value: &Value, below: &RunConfig, layer: &mut Layer) -> Result<()> {
    of_path("grid", value, below, layer)
}

fn clock(value: &Value, below: &RunConfig, layer: &mut Layer) -> Result<()> {
    use ObjectiveConfig::{Hybrid, VariationalBound};
    if matches!(below.objective, Hybrid { .. } | VariationalBound { .. }) {
        let problem = "given with an objective that draws steps of the chain, not times";
        let remedy = "leave it out, or give --set objective.steps=loss-aware";
        return Err(Error::config("--clock", problem, remedy));
    }
    layer.set("objective.time", value.clone());
    Ok(())
}

/// An option of Likelihood Matching's paths.
fn of_path(option: &str, value: &Value, below: &RunConfig, layer: &mut Layer) -> Result<()> {
    use ObjectiveConfig::{Lm, LmFixedHessian};
    if !matches!(below.objective, Lm { .. } | LmFixedHessian { .. }) {
        let problem = "given with an objective that has no paths";
        return Err(Error::config(format!("--{option}"), problem, "give --objective lm"));
    }
    layer.set(&format!("objective.{option}"), value.clone());
    Ok(())
}

fn adaptive_times(value: &Value, below: &RunConfig, layer: &mut Layer) -> Result<()> {
    if !matches!(below.objective, ObjectiveConfig::Lm { .. }) {
        let problem = "given with an objective that is not Likelihood Matching";
        return Err(Error::config("--adaptive-times", problem, "give --objective lm"));
    }
    layer.set("objective.adaptive", value.clone());
    Ok(())
}

fn mode(value: &Value, below: &RunConfig, layer: &mut Layer) -> Result<()> {
    if !matches!(below.objective, ObjectiveConfig::Lm { .. }) {
        let problem = "given with a score-matching objective";
        return Err(Error::config("--mode", problem, "give --objective lm"));
    }
    let score = if text(value) == "head" { "frozen" } else { text(value) };
    layer.set("objective.score", score);
    Ok(())
}

fn transitions(value: &Value, below: &RunConfig, layer: &mut Layer) -> Result<()> {
    let path = match below.objective {
        ObjectiveConfig::Lm { .. } | ObjectiveConfig::LmFixedHessian { .. } => {
            "objective.transitions"
        }
        _ => "objective.draws",
    };
    layer.set(path, value.clone());
    Ok(())
}

/// A number or `full`; what is automatic is chosen later.
fn rank(value: &Value, below: &RunConfig, layer: &mut Layer) -> Result<()> {
    if !below.objective.trains_head() {
        let problem = "score matching has no covariance head";
        return Err(Error::config("--rank", problem, "give --objective lm"));
    }
    match (text(value), text(value).parse::<i64>()) {
        ("auto", _) => (),
        ("full", _) => {
            layer.set("model.head.structure", "full");
        }
        (_, Ok(rank @ 0..)) => {
            layer.set("model.head.structure", choice("low-rank", rank));
        }
        (other, _) => {
            let remedy = "give a number from 0, full, or auto";
            return Err(Error::config("--rank", format!("{other:?}"), remedy));
        }
    }
    Ok(())
}

fn paper_literal(value: &Value, below: &RunConfig, layer: &mut Layer) -> Result<()> {
    let literal = Parametrization::PaperLiteral;
    let is = below.model.head.is_some_and(|head| head.parametrization == literal);
    match value.as_bool() {
        Some(true) => layer.set("model.head.parametrization", literal.to_string()),
        _ if is => layer.set("model.head.parametrization", Parametrization::default().to_string()),
        _ => layer,
    };
    Ok(())
}

/// A network of this name in place of any other; its shape and classes follow the data.
fn network(value: &Value, _: &RunConfig, layer: &mut Layer) -> Result<()> {
    if let Some(preset) = model::PRESETS.iter().find(|preset| preset.name == text(value)) {
        // the layer has no network yet: the defaults of its kind are laid under it
        layer.lay(&preset.layer());
        *layer = layer.without("model.network.shape").without("model.network.classes");
    }
    Ok(())
}

fn separate(value: &Value, _: &RunConfig, layer: &mut Layer) -> Result<()> {
    let trunk = if value.as_bool() == Some(true) { HeadTrunk::Separate } else { HeadTrunk::Shared };
    layer.set("model.network.head_trunk", trunk.to_string());
    Ok(())
}

/// The flags that were given.
#[derive(Clone, Default)]
pub struct Given(Vec<(&'static Flag, Value)>);

impl Given {
    /// What they set, over the layer `below`; an objective before what depends on it.
    pub fn layer(&self, below: &Layer) -> Result<Layer> {
        let mut layer = Layer::new();
        let (first, rest): (Vec<_>, Vec<_>) =
            self.0.iter().partition(|(flag, _)| flag.name == "objective");
        for (flag, value) in first.into_iter().chain(rest) {
            match flag.sets {
                Some(sets) => {
                    // which options a network has follows the data, too
                    let known = [below, &layer].map(|layer| layer.without("model.network"));
                    let config = RunConfig::resolve(&[&known[0], &known[1]])?;
                    sets(value, &config, &mut layer)?;
                }
                None => {
                    layer.set(flag.path, value.clone());
                }
            }
        }
        Ok(layer)
    }

    /// Whether the head's rank is to be chosen.
    pub fn automatic_rank(&self) -> bool {
        self.0.iter().any(|(flag, value)| flag.name == "rank" && value.as_str() == Some("auto"))
    }
}

impl Args for Given {
    fn augment_args(command: Command) -> Command {
        command.args(FLAGS.iter().map(Flag::argument))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Given::augment_args(command)
    }
}

impl FromArgMatches for Given {
    fn from_arg_matches(matches: &ArgMatches) -> std::result::Result<Given, clap::Error> {
        let given = |flag: &'static Flag| Some((flag, flag.value_in(matches)?));
        Ok(Given(FLAGS.iter().filter_map(given).collect()))
    }

    fn update_from_arg_matches(
        &mut self,
        matches: &ArgMatches,
    ) -> std::result::Result<(), clap::Error> {
        *self = Given::from_arg_matches(matches)?;
        Ok(())
    }
}
