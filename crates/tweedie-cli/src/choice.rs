//! Options that the library chooses by name, on the command line: its names, its help texts.

use std::marker::PhantomData;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use tweedie::choice::Choice;
use tweedie::covariance::CovarianceConfig;

/// A parser of the names of `T`, for `#[arg(value_parser = choice::<T>())]`.
pub fn choice<T: Choice>() -> Named<T> {
    Named(PhantomData)
}

#[derive(Clone)]
pub struct Named<T>(PhantomData<T>);

/// The names of `T`, each with its help text.
pub fn values<T: Choice>() -> Vec<PossibleValue> {
    let value = |choice: T| PossibleValue::new(choice.name()).help(choice.help());
    T::all().into_iter().map(value).collect()
}

impl<T: Choice> TypedValueParser for Named<T> {
    type Value = T;

    fn parse_ref(
        &self,
        command: &clap::Command,
        arg: Option<&clap::Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<T, clap::Error> {
        let parser = PossibleValuesParser::new(values::<T>());
        let name = parser.parse_ref(command, arg, value)?;
        T::from_name(&name).map_err(|e| clap::Error::raw(clap::error::ErrorKind::InvalidValue, e))
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(values::<T>().into_iter()))
    }
}

/// What `--covariance` takes, for help texts: as the library lists them.
pub fn covariances() -> String {
    let listed = CovarianceConfig::listed().into_iter();
    let lines: Vec<String> = listed.map(|(name, help)| format!("  {name}: {help}")).collect();
    format!(
        "Covariance of a reverse step [default: that of the run's head]:\n{}\nWhat is measured is \
         measured at its first use and kept with the run",
        lines.join("\n")
    )
}
