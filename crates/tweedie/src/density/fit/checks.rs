//! What cannot be fitted, or gone on with.

use super::FitOptions;
use crate::model::BaseKind;
use crate::objective::Trains;
use crate::run::{DataRecord, Features, RunConfig};
use crate::{Error, Result};

/// Refuses a configuration that cannot be trained, whatever the data.
pub(super) fn check(config: &RunConfig, options: &FitOptions) -> Result<()> {
    config.train.check()?;
    config.keep.check()?;
    config.base.check()?;
    config.categories.check()?;
    let trains_score = config.objective.build()?.trains() != Trains::Head;
    if options.score_from.is_some() && trains_score {
        let remedy = "let the head alone be trained: `objective.score` = frozen, or the \
                      objective.kind covariance-matching or variational-bound";
        return Err(Error::config("fit.score_from", "the score would be trained", remedy));
    }
    if options.score_from.is_none() && !options.resume && !trains_score {
        let remedy = "give the run that has the score";
        return Err(Error::config("fit.score_from", "nothing would train the score", remedy));
    }
    if options.automatic_rank && options.score_from.is_none() {
        let remedy = "give fit.score_from with it, or a number";
        return Err(Error::config("model.head.structure", "auto, where no score is given", remedy));
    }
    config.model.head.as_ref().map_or(Ok(()), |head| config.objective.check_head(head))
}

/// Refuses another network than the data are for, and conditions one for images on their classes.
pub(super) fn fit_to(config: &mut RunConfig, record: &DataRecord) -> Result<()> {
    let drops = config.train.label_dropout > 0.0;
    if drops && record.classes.is_empty() {
        let problem = "classes are dropped, and the data have none";
        let remedy = match record.image {
            Some(_) => "give data.classes",
            None => "leave it out: it is for images with classes",
        };
        return Err(Error::config("train.label_dropout", problem, remedy));
    }
    let own = config.model.network.image();
    let network = &mut config.model.network;
    let Some(shape) = record.image else {
        if own.is_some() {
            let problem = "the data are a table, for which the network is a perceptron, and the \
                           configured one is for images";
            let remedy = "leave it out, or give images as data.source";
            return Err(Error::config("model.network.kind", problem, remedy));
        }
        let has_categories = |features: Features| !features.cells().categories.is_empty();
        if !config.categories.is_base() && !record.features().is_some_and(has_categories) {
            let problem = format!("{}, and no column is one", config.categories.model);
            return Err(Error::config("categories.model", problem, "leave it out"));
        }
        return match record.schema.is_some() && config.base.kind == BaseKind::Isotropic {
            true => {
                let problem = format!("{}, of a table with categories and holes", config.base.kind);
                Err(Error::config(
                    "base.kind",
                    problem,
                    "give mixture or gaussian, or leave it out",
                ))
            }
            false => Ok(()),
        };
    };
    let (Some(own), Some((requested, null_class))) = (own, network.classes_mut()) else {
        let problem = "the data are images, for which the network is a U-Net or a DiT, and the \
                       configured one is a perceptron";
        let remedy = "give kind = \"unet\" or \"dit\" there, or leave the section out";
        return Err(Error::config("model.network", problem, remedy));
    };
    let found = record.classes.len() as i64;
    if *requested == 0 {
        *requested = found;
    } else if *requested != found {
        let problem =
            format!("the network is conditioned on {requested} classes, the data have {found}");
        return Err(Error::config(
            "data.classes",
            problem,
            "give it, and images of as many classes",
        ));
    }
    *null_class |= drops;
    if own != shape {
        let problem = format!("the network takes images of {own:?}, the data are {shape:?}");
        let remedy = "bring the images to the network's size with data.table.size";
        return Err(Error::config("model.network.shape", problem, remedy));
    }
    Ok(())
}

/// Refuses to go on with a run otherwise than it was begun; only how long to train may differ.
pub(super) fn check_same(stored: &RunConfig, requested: &RunConfig) -> Result<()> {
    let mut comparable = requested.clone();
    comparable.train.iterations = stored.train.iterations;
    comparable.train.max_seconds = stored.train.max_seconds;
    comparable.train.patience = stored.train.patience;
    comparable.train.checkpoint_seconds = stored.train.checkpoint_seconds;
    comparable.train.checkpoint_every = stored.train.checkpoint_every;
    let (stored, comparable) = (stored.absolute(), comparable.absolute());
    // of something of another kind all options differ
    let differences = stored.differences(&comparable);
    let kind = differences.iter().find(|(path, ..)| path.ends_with(".kind"));
    let Some((path, own, requested)) = kind.or(differences.first()) else { return Ok(()) };
    let option = if path.contains('.') { path.clone() } else { format!("fit.{path}") };
    Err(Error::config(
        "fit.resume",
        format!(
            "{option} differs from the configuration of the run: {path} is {own} there, and \
             {requested} was given"
        ),
        format!(
            "leave {option} out (only `train.iterations`, `train.max_seconds`, `train.patience` \
             and train.checkpoint_every may change), or start a new run"
        ),
    ))
}
