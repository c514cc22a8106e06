//! The names of choices: the same in a configuration file, on a command line and in a message.
//!
//! A name is written once, as what serde calls the variant.

use std::fmt;

use serde::de::{DeserializeOwned, Deserializer, Error as _, IntoDeserializer, Visitor, value};
use serde::{Serialize, forward_to_deserialize_any};

use crate::{Error, Result};

/// A type whose values are known by names.
pub trait Named: DeserializeOwned + Serialize {
    /// The names of all values, in the order of the variants.
    fn names() -> &'static [&'static str] {
        let mut names: &'static [&'static str] = &[];
        // the visit fails: it is made for the names alone
        let _ = Self::deserialize(Names(&mut names));
        names
    }
}

/// Takes down what variants a type has.
struct Names<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Names<'_> {
    type Error = value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> std::result::Result<V::Value, Self::Error> {
        Err(Self::Error::custom("not an enumeration"))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        _: V,
    ) -> std::result::Result<V::Value, Self::Error> {
        *self.0 = variants;
        Err(Self::Error::custom("only the names"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

/// The value called `name`.
pub(crate) fn parse<T: Named>(name: &str) -> Result<T> {
    let deserializer: value::StrDeserializer<value::Error> = name.into_deserializer();
    T::deserialize(deserializer).map_err(|_| {
        let remedy = format!("give one of {}", T::names().join(", "));
        Error::config("name", format!("{name:?} is not known"), remedy)
    })
}

/// Writes the name of `value`.
pub(crate) fn write<T: Named>(value: &T, f: &mut fmt::Formatter) -> fmt::Result {
    value.serialize(f)
}

/// Gives types [`Named`], `FromStr` and `Display`.
macro_rules! named {
    ($($type:ty),* $(,)?) => {$(
        impl Named for $type {}
        impl std::str::FromStr for $type {
            type Err = Error;
            fn from_str(name: &str) -> Result<Self> {
                parse(name)
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
                write(self, f)
            }
        }
    )*};
}

named!(
    crate::data::Marginals,
    crate::data::Missing,
    crate::grid::TimeLaw,
    crate::model::BaseKind,
    crate::model::HeadStart,
    crate::model::HeadTrunk,
    crate::model::Parametrization,
    crate::model::Precision,
    crate::objective::ScoreGradient,
    crate::objective::Target,
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Marginals;
    use crate::model::{BaseKind, Precision};

    #[test]
    fn names_are_those_of_a_configuration() {
        assert_eq!(Marginals::names(), ["auto", "standardize", "gaussianize"]);
        assert_eq!(Precision::names(), ["f32", "bf16"]);
        for name in BaseKind::names() {
            assert_eq!(name.parse::<BaseKind>().unwrap().to_string(), *name);
        }
        let error = "cauchy".parse::<BaseKind>().unwrap_err();
        assert!(error.is_request());
        assert!(error.to_string().contains("isotropic, gaussian, mixture"), "{error}");
    }
}
