//! The Inception score (Salimans et al. 2016).

use tch::{Kind, Tensor};

use crate::tensor::sum_over;
use crate::{Error, Result};

/// An Inception score: the mean over parts of the images, and the parts' standard deviation (over
/// their number, as published ones are).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InceptionScore {
    /// From 1 to the number of classes; more is better.
    pub mean: f64,
    /// Between parts.
    pub sd: f64,
}

/// `exp E_x KL(p(y|x) ‖ p(y))` of class probabilities `[n, classes]`, for each of `splits`
/// consecutive parts (10 is usual) with `p(y)` the mean over the part (Salimans et al. 2016, §4).
///
/// # Errors
/// With fewer images than parts.
pub fn inception_score(probabilities: &Tensor, splits: usize) -> Result<InceptionScore> {
    let n = probabilities.size()[0] as usize;
    if splits == 0 || n < splits {
        let problem = format!("{n} images in {splits} parts");
        return Err(Error::config("Inception score", problem, "give more images"));
    }
    let scores: Vec<f64> = (0..splits)
        .map(|i| {
            let (start, end) = (i * n / splits, (i + 1) * n / splits);
            let p =
                probabilities.narrow(0, start as i64, (end - start) as i64).to_kind(Kind::Double);
            let marginal = sum_over(&p, 0) / (end - start) as f64;
            let divergence = p.xlogy(&p) - p.xlogy(&marginal);
            (divergence.sum(Kind::Double).double_value(&[]) / (end - start) as f64).exp()
        })
        .collect();
    let mean = scores.iter().sum::<f64>() / splits as f64;
    let variance = scores.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / splits as f64;
    Ok(InceptionScore { mean, sd: variance.sqrt() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sure of one of `c` classes, all equally often: `c`. Never sure: 1.
    #[test]
    fn extremes() {
        let sure = Tensor::eye(4, (Kind::Float, tch::Device::Cpu)).repeat([10, 1]);
        let score = inception_score(&sure, 10).unwrap();
        assert!((score.mean - 4.0).abs() < 1e-12 && score.sd < 1e-12, "{score:?}");
        let unsure = Tensor::full([20, 4], 0.25, (Kind::Double, tch::Device::Cpu));
        assert!((inception_score(&unsure, 10).unwrap().mean - 1.0).abs() < 1e-12);
        assert!(inception_score(&unsure, 21).is_err());
    }
}
