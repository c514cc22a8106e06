//! Data sets with a known distribution, by name.
//!
//! ```
//! use tweedie::mixture::named;
//! use tweedie::noise::Seed;
//!
//! # fn main() -> tweedie::Result<()> {
//! for name in named::NAMES {
//!     println!("{name}: {:?}", named::sample(name, 5, Seed(0))?.size());
//! }
//! assert_eq!(named::sample("nine-gaussians", 5, Seed(0))?.size(), [5, 2]);
//! let error = named::sample("moons", 5, Seed(0)).unwrap_err();
//! assert!(error.remedy().unwrap().contains("nine-gaussians"));
//! # Ok(())
//! # }
//! ```

use tch::Tensor;

use super::{GaussianMixture, StudentTMixture};
use crate::noise::Seed;
use crate::{Error, Result};

/// The names that [`sample`] knows.
pub const NAMES: [&str; 3] = ["two-gaussians", "two-students", "nine-gaussians"];

/// `½N(−10, 1) + ½N(10, 1)`: Likelihood Matching, Figure 2(a).
pub fn two_gaussians() -> GaussianMixture {
    GaussianMixture::new(&[0.5, 0.5], &[[-10.0], [10.0]], &[1.0, 1.0]).expect("a valid mixture")
}

/// The same with Student-t components of three degrees of freedom: Figure 2(b).
pub fn two_students() -> StudentTMixture {
    StudentTMixture::new(&[-10.0, 10.0], 3.0).expect("a valid mixture")
}

/// Nine Gaussians at `{−3, 0, 3}²` with standard deviation 0.1: Optimal Covariance Matching, §5.1.
pub fn nine_gaussians() -> GaussianMixture {
    let at = [-3.0, 0.0, 3.0];
    let means: Vec<[f64; 2]> = at.iter().flat_map(|&x| at.iter().map(move |&y| [x, y])).collect();
    GaussianMixture::new(&[1.0 / 9.0; 9], &means, &[0.1; 9]).expect("a valid mixture")
}

/// `n` rows of the distribution called `name`, `[n, d]`.
pub fn sample(name: &str, n: usize, seed: Seed) -> Result<Tensor> {
    match name {
        "two-gaussians" => Ok(two_gaussians().sample(n, seed)),
        "two-students" => Ok(two_students().sample(n, seed)),
        "nine-gaussians" => Ok(nine_gaussians().sample(n, seed)),
        _ => Err(Error::config(
            "data.source",
            format!("mixture:{name} is not known"),
            format!("give one of {}", NAMES.join(", ")),
        )),
    }
}
