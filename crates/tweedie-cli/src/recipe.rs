//! The recipes by name: complete configurations of the papers' trainings, in the program.

use std::path::Path;

use tweedie::run::Layer;
use tweedie::{Error, Result};

/// Files of `recipes/`, without their ending.
macro_rules! recipes {
    ($($name:literal)*) => {
        /// Name and text of every recipe.
        const ALL: &[(&str, &str)] = &[
            $(($name, include_str!(concat!("../../../recipes/", $name, ".toml"))),)*
        ];
    };
}

recipes! {
    "ddpm-celeba64"
    "ddpm-celeba64-small"
    "ddpm-cifar10-cosine"
    "ddpm-cifar10-cosine-small"
    "ddpm-cifar10-linear"
    "ddpm-cifar10-linear-small"
    "ddpm-imagenet64"
    "ddpm-imagenet64-small"
    "digits-lm"
    "iddpm-celeba64"
    "iddpm-celeba64-small"
    "iddpm-cifar10-cosine"
    "iddpm-cifar10-cosine-small"
    "iddpm-cifar10-linear"
    "iddpm-cifar10-linear-small"
    "iddpm-imagenet64"
    "iddpm-imagenet64-small"
    "lm-celeba64"
    "lm-celeba64-small"
    "lm-cifar10"
    "lm-cifar10-small"
    "lm-lsun64"
    "lm-lsun64-small"
    "lm-mnist"
    "lm-mnist-small"
    "magic-lm"
    "magic-scoreflow"
    "npr-celeba64"
    "npr-celeba64-small"
    "npr-cifar10-cosine"
    "npr-cifar10-cosine-small"
    "npr-cifar10-linear"
    "npr-cifar10-linear-small"
    "npr-imagenet64"
    "npr-imagenet64-small"
    "ocm-celeba64"
    "ocm-celeba64-small"
    "ocm-cifar10-cosine"
    "ocm-cifar10-cosine-small"
    "ocm-cifar10-linear"
    "ocm-cifar10-linear-small"
    "ocm-imagenet64"
    "ocm-imagenet64-small"
    "scoreflow-sub-vp-cifar10"
    "scoreflow-sub-vp-cifar10-deep"
    "scoreflow-sub-vp-cifar10-deep-small"
    "scoreflow-sub-vp-cifar10-small"
    "scoreflow-sub-vp-imagenet32"
    "scoreflow-sub-vp-imagenet32-deep"
    "scoreflow-sub-vp-imagenet32-deep-small"
    "scoreflow-sub-vp-imagenet32-small"
    "scoreflow-ve-cifar10"
    "scoreflow-ve-cifar10-deep"
    "scoreflow-ve-cifar10-deep-small"
    "scoreflow-ve-cifar10-small"
    "scoreflow-ve-imagenet32"
    "scoreflow-ve-imagenet32-deep"
    "scoreflow-ve-imagenet32-deep-small"
    "scoreflow-ve-imagenet32-small"
    "scoreflow-vp-cifar10"
    "scoreflow-vp-cifar10-deep"
    "scoreflow-vp-cifar10-deep-small"
    "scoreflow-vp-cifar10-small"
    "scoreflow-vp-imagenet32"
    "scoreflow-vp-imagenet32-deep"
    "scoreflow-vp-imagenet32-deep-small"
    "scoreflow-vp-imagenet32-small"
    "sn-celeba64"
    "sn-celeba64-small"
    "sn-cifar10-cosine"
    "sn-cifar10-cosine-small"
    "sn-cifar10-linear"
    "sn-cifar10-linear-small"
    "sn-imagenet64"
    "sn-imagenet64-small"
}

/// The options of the recipe called `name`.
///
/// # Errors
/// If there is none of that name.
pub fn layer(name: &str) -> Result<Layer> {
    match ALL.iter().find(|(known, _)| *known == name) {
        Some((_, text)) => Layer::parse(text, Path::new(&format!("recipes/{name}.toml"))),
        None => {
            let names: Vec<&str> = ALL.iter().map(|(name, _)| *name).collect();
            let remedy = format!("give one of {}", names.join(", "));
            Err(Error::config("--recipe", format!("no recipe {name:?}"), remedy))
        }
    }
}
