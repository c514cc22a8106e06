//! Options that are chosen by name.
//!
//! One list gives the variants of an option, their names and their help texts. Parsing, printing,
//! configuration files and the command line all take them from that list.
//!
//! ```
//! use tweedie::choice::Choice;
//! use tweedie::grid::Spacing;
//!
//! for spacing in Spacing::all() {
//!     println!("{:>9}  {}", spacing.name(), spacing.help());
//! }
//! assert_eq!("log-snr".parse(), Ok(Spacing::LogSnr));
//! assert_eq!(
//!     "linear".parse::<Spacing>(),
//!     Err("'linear' is not one of even, quadratic, log-snr, angle".into())
//! );
//! ```

/// A type whose values have names.
pub trait Choice: Copy + PartialEq + Send + Sync + 'static {
    /// All values, in the order in which a help text lists them.
    fn all() -> Vec<Self>;

    /// The name in configuration files and on the command line.
    fn name(self) -> &'static str;

    /// One line that says what it is.
    fn help(self) -> &'static str;

    /// The value of this name.
    ///
    /// # Errors
    /// A sentence with all names, if there is none.
    fn from_name(name: &str) -> std::result::Result<Self, String> {
        let all = Self::all();
        all.iter().copied().find(|choice| choice.name() == name).ok_or_else(|| {
            let names: Vec<&str> = all.iter().map(|choice| choice.name()).collect();
            format!("'{name}' is not one of {}", names.join(", "))
        })
    }
}

/// Implements `FromStr`, `Display` and serde by the names of a [`Choice`].
macro_rules! named {
    ($type:ident) => {
        impl std::str::FromStr for $type {
            type Err = String;

            fn from_str(name: &str) -> std::result::Result<$type, String> {
                $crate::choice::Choice::from_name(name)
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str($crate::choice::Choice::name(*self))
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(
                &self,
                to: S,
            ) -> std::result::Result<S::Ok, S::Error> {
                to.serialize_str($crate::choice::Choice::name(*self))
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(
                from: D,
            ) -> std::result::Result<$type, D::Error> {
                let name = <std::borrow::Cow<str> as serde::Deserialize>::deserialize(from)?;
                $crate::choice::Choice::from_name(&name).map_err(|problem| {
                    serde::de::Error::custom(format_args!("unknown variant: {problem}"))
                })
            }
        }
    };
}

/// An enum whose variants have names; the documentation of a variant is its help text, and the
/// first variant is the default unless another is named.
///
/// ```ignore
/// choices! {
///     /// What the last step returns.
///     pub enum LastStep = Noise {
///         /// The posterior mean
///         Mean = "mean",
///         /// A draw
///         Noise = "noise",
///     }
/// }
/// ```
macro_rules! choices {
    (
        $(#[doc = $about:literal])+
        pub enum $type:ident = $default:ident {
            $($(#[doc = $help:literal])+ $variant:ident = $name:literal,)+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $type {
            $($(#[doc = $help])+ $variant,)+
        }

        impl Default for $type {
            fn default() -> $type {
                $type::$default
            }
        }

        impl $crate::choice::Choice for $type {
            fn all() -> Vec<$type> {
                vec![$($type::$variant),+]
            }

            fn name(self) -> &'static str {
                match self {
                    $($type::$variant => $name,)+
                }
            }

            fn help(self) -> &'static str {
                match self {
                    $($type::$variant => concat!($($help),+).trim(),)+
                }
            }
        }

        $crate::choice::named!($type);
    };
}

/// An enum of methods, one line each: the variant and the value that implements the method, which
/// says its own name and help (`name()` and `help()` of the trait). The first is the default.
macro_rules! methods {
    (
        $(#[doc = $about:literal])+
        pub enum $type:ident: $method:path {
            $first:ident = $first_entry:path,
            $($variant:ident = $entry:path,)*
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub enum $type {
            #[default]
            #[doc = concat!("`", stringify!($first_entry), "`, the default.")]
            $first,
            $(#[doc = concat!("`", stringify!($entry), "`.")] $variant,)*
        }

        impl $type {
            /// The method itself.
            pub fn method(self) -> &'static dyn $method {
                match self {
                    $type::$first => &$first_entry,
                    $($type::$variant => &$entry,)*
                }
            }
        }

        impl $crate::choice::Choice for $type {
            fn all() -> Vec<$type> {
                vec![$type::$first, $($type::$variant),*]
            }

            fn name(self) -> &'static str {
                self.method().name()
            }

            fn help(self) -> &'static str {
                self.method().help()
            }
        }

        $crate::choice::named!($type);
    };
}

pub(crate) use {choices, methods, named};

/// A part of a configuration that has a name.
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    /// Its name on a command line.
    pub name: &'static str,
    /// What it is, in a line.
    pub help: &'static str,
    /// The options that it sets, as TOML.
    pub(crate) options: &'static str,
}

impl Preset {
    pub(crate) const fn new(
        name: &'static str,
        options: &'static str,
        help: &'static str,
    ) -> Preset {
        Preset { name, help, options }
    }
}

/// Refuses an option that is given and that the chosen method does not take, where others do.
/// `given` are the options that are set, by name; `path` is that of the choice, `section` that of
/// its options.
pub(crate) fn check_taken<C: Choice>(
    chosen: C,
    (section, path): (&str, &str),
    given: &[&str],
    takes: impl Fn(C) -> &'static [&'static str],
) -> crate::Result<()> {
    let foreign = |option: &&&str| !takes(chosen).contains(option);
    let Some(option) = given.iter().find(foreign) else { return Ok(()) };
    let of: Vec<String> = (C::all().into_iter().filter(|choice| takes(*choice).contains(option)))
        .map(|choice| format!("{section}.{path} = {}", choice.name()))
        .collect();
    Err(crate::Error::config(
        format!("{section}.{option}"),
        format!("the {path} '{}' has no such option", chosen.name()),
        format!("leave it out, or give {}", of.join(" or ")),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    choices! {
        /// For the test.
        pub enum Fruit = Pear {
            /// Red or
            /// green
            Apple = "apple",
            /// Yellow
            Pear = "pear",
        }
    }

    #[test]
    fn names_are_read_back_wherever_they_are_written() {
        assert_eq!((Fruit::default(), Fruit::Apple.help()), (Fruit::Pear, "Red or green"));
        for fruit in Fruit::all() {
            assert_eq!(fruit.to_string().parse(), Ok(fruit));
            let text = serde_json::to_string(&fruit).unwrap();
            assert_eq!(serde_json::from_str::<Fruit>(&text).unwrap(), fruit);
        }
        let error = "plum".parse::<Fruit>().unwrap_err();
        assert!(error.contains("apple, pear"), "{error}");
        assert!(serde_json::from_str::<Fruit>("\"plum\"").is_err());
    }

    #[test]
    fn options_of_other_methods_are_refused() {
        let takes = |fruit: Fruit| match fruit {
            Fruit::Apple => &["core", "peel"][..],
            Fruit::Pear => &["peel"],
        };
        let check = |fruit, given: &[&str]| check_taken(fruit, ("eat", "fruit"), given, takes);
        assert!(check(Fruit::Apple, &["peel", "core"]).is_ok());
        let error = check(Fruit::Pear, &["peel", "core"]).unwrap_err().to_string();
        assert!(error.starts_with("eat.core: the fruit 'pear'"), "{error}");
        assert!(error.ends_with("give eat.fruit = apple"), "{error}");
    }
}
