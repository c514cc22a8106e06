//! Defaults that follow the data, or the run whose score is taken.

use super::FitOptions;
use crate::categories::CategoryModel;
use crate::data::Dataset;
use crate::grid::{PathGrid, TimeDistribution};
use crate::model::{BaseKind, HeadTrunk, ModelConfig, Preconditioning, Prediction, Structure};
use crate::objective::{LmForm, ObjectiveConfig, ScoreGradient};
use crate::run::{DataRecord, Layer, RunConfig};

/// A low rank, as the options have it.
pub(super) fn rank_of(rank: i64) -> toml::Table {
    toml::Table::from_iter([("low-rank".to_string(), toml::Value::Integer(rank))])
}

/// What new trainings have otherwise than a configuration that leaves it out: the same split for
/// all seeds, so that they compare. Of rows in memory none is kept for testing, and others are read
/// as they were.
pub(super) fn fixed(in_memory: Option<&Dataset>) -> Layer {
    let mut layer = Layer::new();
    layer.set("data.split_seed", 0);
    if let Some(rows) = in_memory {
        let options = toml::Value::try_from(rows.options()).expect("plain data");
        layer.set("data.split", vec![0.9, 0.1, 0.0]).set("data.table", options);
    }
    layer
}

/// What follows the run whose score is taken: all but the head.
pub(super) fn of_donor((config, data): &(RunConfig, DataRecord)) -> Layer {
    let head = RunConfig::default().model.head;
    let model = ModelConfig { head, ..config.model.clone() };
    let (schedule, base) = (config.schedule.clone(), config.base.clone());
    let categories = config.categories.clone();
    let whole = Layer::of(&RunConfig { model, schedule, base, categories, ..RunConfig::default() });
    let mut layer = Layer::new();
    for path in [
        "schedule",
        "base",
        "model.network",
        "model.prediction",
        "model.preconditioning",
        "model.finest_scale",
        "categories",
    ] {
        if let Some(value) = whole.get(path) {
            layer.set(path, value.clone());
        }
    }
    if data.image.is_none() {
        let types = config.data.clone().of_run(data).types;
        let types = toml::Value::try_from(&types).expect("plain data");
        layer.set("data.types", types);
    }
    layer
        .set("data.scaling.marginals", config.data.scaling.marginals.to_string())
        .set("data.split_seed", data.split_seed as i64);
    layer
}

/// The base of a table of numbers: the Gaussian, whose correction is smooth and soon learned. Where
/// there are rows enough for many covariances a mixture of many Gaussians is ahead at first, and its
/// correction, which is not smooth, next to nothing: on MAGIC for a minute of one thread, on letter
/// for five. So it is for short trainings.
/// Of a mixed table the base is a mixture then, and where no network has its categories.
fn base_of_rows(config: &RunConfig, record: &DataRecord, options: &FitOptions) -> BaseKind {
    let seconds = config.train.max_seconds;
    let short = seconds > 0.0 && seconds < SHORT;
    let (rows, columns) = (record.rows[0], record.scaling.dim());
    let mixture = match record.features() {
        None => short && rows >= MANY * columns * columns,
        Some(_) => {
            let given = options.gives("categories.model");
            short || given && config.categories.model == CategoryModel::Base
        }
    };
    if mixture { BaseKind::Mixture } else { BaseKind::Gaussian }
}

/// Rows over columns squared from which there are many covariances to be found.
const MANY: usize = 20;
/// Trainings of fewer seconds are short.
const SHORT: f64 = 90.0;

/// What a network that corrects a base has for so many training rows of a table. The fewer they
/// are, the more it is regularised: on MAGIC, letter and satimage (5,000 to 15,000 rows) the
/// training gains as much without, and the validation rows lose from a fifth of the time on.
fn of_rows(layer: &mut Layer, rows: usize) {
    let rows = (rows as f64).max(1.0);
    layer
        .set("model.preconditioning", Preconditioning::Covariance.to_string())
        .set("model.finest_scale", 0.2)
        .set("model.network.form", "direct")
        .set("model.network.head_trunk", HeadTrunk::Separate.to_string())
        .set("model.network.dropout", (1500.0 / rows).clamp(0.02, 0.25))
        .set("train.weight_decay", (750.0 / rows).min(0.2))
        .set("train.learning_rate", 5e-3)
        .set("train.beta2", 0.99)
        .set("train.batch_size", 128)
        .set("train.validate_every", 1000);
}

/// What trains the score, where the objective can draw its times where a network gains on its base.
fn adaptive_score(objective: &ObjectiveConfig) -> Option<ScoreGradient> {
    match *objective {
        ObjectiveConfig::Lm {
            form: LmForm::Marginal,
            grid: PathGrid::Random,
            score: score @ (ScoreGradient::Joint | ScoreGradient::Dsm),
            ..
        } => Some(score),
        _ => None,
    }
}

fn is_adaptive(objective: &ObjectiveConfig) -> bool {
    matches!(objective, ObjectiveConfig::Lm { adaptive: true, .. })
}

/// The network for the categories of rows of so many numbers and categories: the fewer rows, the
/// more it is regularised, and it has their share of the time.
fn of_categories(layer: &mut Layer, (numbers, categories): (usize, usize), rows: usize) {
    if categories == 0 {
        return;
    }
    let share = match numbers {
        0 => 0.95,
        numbers => (categories as f64 / (numbers + categories) as f64).clamp(0.1, 0.6),
    };
    layer
        .set("categories.model", CategoryModel::Network.to_string())
        .set("categories.dropout", (3000.0 / (rows as f64).max(1.0)).clamp(0.05, 0.3))
        .set("categories.time_share", share);
}

/// What follows the data. Times of images are uniform in `t`, as DDPM and the Likelihood Matching
/// paper draw them: of VP's range of log signal-to-noise ratios 11 % lie at noise below half a
/// level, and 17 % below a level, where there is nothing to learn. Numbers of rows suit the cost of
/// networks for images, of which it is a U-Net unless `options` have another kind.
pub(super) fn of_data(config: &RunConfig, record: &DataRecord, options: &FitOptions) -> Layer {
    let mut layer = Layer::new();
    let Some(shape) = record.image else {
        let usual = RunConfig::default().model.head.map(|head| head.structure);
        if let Some(Structure::LowRank(rank)) = usual {
            let rank = rank.min(record.scaling.dim() as i64);
            layer.set("model.head.structure", toml::Value::Table(rank_of(rank)));
        }
        if let Some(features) = record.features() {
            let categories = features.cells().categories.iter().map(|&n| (n as i64).into());
            layer.set("model.network.categories", categories.collect::<Vec<toml::Value>>());
            of_categories(&mut layer, features.layout().sizes(), record.rows[0]);
        }
        layer.set("base.kind", base_of_rows(config, record, options).to_string());
        if config.model.prediction == Prediction::Correction {
            of_rows(&mut layer, record.rows[0]);
            if let Some(score) = adaptive_score(&config.objective) {
                layer
                    .set("objective.kind", "lm")
                    .set("objective.adaptive", true)
                    .set("train.clip", 20.0);
                let uniform =
                    options.gives("objective.adaptive") && !is_adaptive(&config.objective);
                if score == ScoreGradient::Dsm && !uniform {
                    layer.set("objective.head_transitions", 1);
                }
            }
        }
        return layer;
    };
    if matches!(config.objective, ObjectiveConfig::Lm { .. }) {
        layer
            .set("objective.kind", "lm")
            .set("objective.time", TimeDistribution::Uniform.to_string());
    }
    let requested = options.layers.iter().rev().find_map(|layer| layer.get("model.network.kind"));
    let kind = requested.and_then(toml::Value::as_str).filter(|kind| *kind == "dit");
    let shape: Vec<toml::Value> = shape.into_iter().map(|n| (n as i64).into()).collect();
    layer
        .set("train.batch_size", 16)
        .set("train.learning_rate", 1e-3)
        .set("train.validation_rows", 128)
        .set("base.kind", BaseKind::Isotropic.to_string())
        .set("model.network.kind", kind.unwrap_or("unet"))
        .set("model.network.shape", shape);
    layer
}

/// Whether the head starts from what is measured of the score, where nobody says: an isotropic base
/// says one number for each time, which is better measured; the `G` of any other base knows more.
pub(super) fn starts_measured(config: &RunConfig, options: &FitOptions) -> bool {
    options.score_from.is_some()
        && config.base.kind == BaseKind::Isotropic
        && config.model.head.is_some_and(|head| head.corrects())
}
