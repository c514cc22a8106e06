//! What the library chooses by name.

use pyo3::prelude::*;
use tweedie::choice::{Choice, Preset};
use tweedie::covariance::CovarianceConfig;
use tweedie::likelihood::Estimator;
use tweedie::sample::Sampler;
use tweedie::{model, objective, schedule};

fn of_choice<T: Choice>() -> Vec<(String, String)> {
    T::all().into_iter().map(|choice| (choice.name().into(), choice.help().into())).collect()
}

fn of_presets(presets: &[Preset]) -> Vec<(String, String)> {
    presets.iter().map(|preset| (preset.name.into(), preset.help.into())).collect()
}

/// The names of every kind of method, each with a line that says what it is.
#[pyfunction]
pub fn names() -> Vec<(&'static str, Vec<(String, String)>)> {
    vec![
        ("objective", of_presets(&objective::PRESETS)),
        ("schedule", of_presets(&schedule::PRESETS)),
        ("network", of_presets(&model::PRESETS)),
        ("covariance", CovarianceConfig::listed()),
        ("sampler", of_choice::<Sampler>()),
        ("estimator", of_choice::<Estimator>()),
    ]
}
