//! One list that makes names, help texts and plain data of the covariances.

/// Declares the file of each covariance, and [`CovarianceConfig`], which names them. A line is the
/// help text as a documentation comment, the file, the type in it, and `(usize)` where the type is
/// one for every count (of products, say), which its name then ends with.
///
/// The type is a [`Method`].
macro_rules! covariances {
    ($($(#[doc = $help:literal])+ $file:ident: $Method:ident $(($count:ty))?;)*) => {
        $(mod $file;)*
        $(pub use $file::$Method;)*

        /// A covariance as plain data.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub enum CovarianceConfig {
            #[default]
            $($(#[doc = $help])+ $Method $(($count))?,)*
        }

        impl CovarianceConfig {
            /// Every covariance; with one product where it is one for every number of them.
            pub fn all() -> Vec<CovarianceConfig> {
                vec![$(CovarianceConfig::$Method $((<$count>::MIN + 1))?,)*]
            }

            /// Names as users write them, and what each is: for help texts.
            pub fn listed() -> Vec<(String, String)> {
                vec![$((
                    [$Method::NAME $(, stringify!($count))?].join("-").replace("usize", "M"),
                    [$($help.trim()),+].join(" "),
                ),)*]
            }

            /// The name in configuration files and on the command line, without a count.
            pub fn name(self) -> &'static str {
                match self {
                    $(CovarianceConfig::$Method { .. } => $Method::NAME,)*
                }
            }

            /// How tables and legends show it.
            pub fn label(self) -> String {
                match self {
                    $(CovarianceConfig::$Method { .. } if !$Method::LABEL.is_empty() => {
                        $Method::LABEL.into()
                    })*
                    other => other.to_string(),
                }
            }

            /// Those that cost nothing and that every model has.
            pub fn free() -> Vec<CovarianceConfig> {
                let free = |covariance: &CovarianceConfig| match covariance {
                    $(CovarianceConfig::$Method { .. } => $Method::FREE,)*
                };
                CovarianceConfig::all().into_iter().filter(free).collect()
            }

            /// Those of [`CovarianceConfig::free`] that need no head.
            pub fn fixed() -> Vec<CovarianceConfig> {
                let free = CovarianceConfig::free().into_iter();
                free.filter(|covariance| *covariance != CovarianceConfig::Own).collect()
            }

            /// The covariance with the data that it takes.
            ///
            /// # Errors
            /// If those are not among `sources`.
            pub fn build(self, sources: &CovarianceSources) -> Result<Box<dyn Covariance>> {
                let sources = CovarianceSources { count: self.count().unwrap_or(0), ..*sources };
                match self {
                    $(CovarianceConfig::$Method { .. } => Ok(Box::new($Method::build(&sources)?)),)*
                }
            }

            fn count(self) -> Option<usize> {
                covariances!(@count self; $($Method $(($count))?;)*)
            }
        }

        impl std::fmt::Display for CovarianceConfig {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self.count() {
                    Some(count) => write!(f, "{}-{count}", self.name()),
                    None => f.write_str(self.name()),
                }
            }
        }

        impl std::str::FromStr for CovarianceConfig {
            type Err = String;

            /// The inverse of `Display`.
            fn from_str(text: &str) -> std::result::Result<CovarianceConfig, String> {
                $(covariances!(@read text; $Method $(($count))?);)*
                let names: Vec<String> =
                    CovarianceConfig::listed().into_iter().map(|(name, _)| name).collect();
                let (last, others) = names.split_last().expect("there are some");
                let others = others.join(", ").replace("-M", "-M (M products)");
                Err(format!("give {others} or {last}"))
            }
        }

        impl serde::Serialize for CovarianceConfig {
            fn serialize<S: serde::Serializer>(
                &self,
                to: S,
            ) -> std::result::Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for CovarianceConfig {
            fn deserialize<D: serde::Deserializer<'de>>(
                from: D,
            ) -> std::result::Result<CovarianceConfig, D::Error> {
                String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
    (@count $config:expr; $($Method:ident $(($count:ty))?;)*) => {
        match $config {
            $($(CovarianceConfig::$Method(n) => { let n: $count = n; Some(n) })?)*
            #[allow(unreachable_patterns)]
            _ => None,
        }
    };
    (@read $text:expr; $Method:ident) => {
        if $text == $Method::NAME {
            return Ok(CovarianceConfig::$Method);
        }
    };
    (@read $text:expr; $Method:ident($count:ty)) => {
        let count = $text.strip_prefix($Method::NAME).and_then(|rest| rest.strip_prefix('-'));
        if let Some(count @ 1..=1_000_000) = count.and_then(|count| count.parse().ok()) {
            return Ok(CovarianceConfig::$Method(count));
        }
    };
}
