//! Figure 3(b): samples of a mixture in the plane beside its data.

use super::Mixture;
use super::trial::{Chain, fit};
use crate::layout::{LINEAR, chart};
use tweedie::Result;
use tweedie::covariance::CovarianceConfig;
use tweedie::oracle::GaussianMixture;
use tweedie::tensor::to_vec;
use tweedie_report::plot::{Series, Style};

/// Rows of a mixture of two Gaussians in the plane, and samples of networks trained on them, each
/// row after row.
#[derive(Clone, Debug)]
pub struct Plane {
    /// Steps of each chain.
    pub steps: usize,
    /// Training rows.
    pub data: Vec<f64>,
    /// Samples, by the name of the method.
    pub samples: Vec<(String, Vec<f64>)>,
}

/// Points of each kind.
const POINTS: usize = 500;

impl Plane {
    /// Trains score matching and Likelihood Matching, ours and the paper's, by the experiment's
    /// recipe, and samples each in the number of steps nearest to 10.
    pub(super) fn of(experiment: &Mixture) -> Result<Plane> {
        let seed = experiment.seed().derive("plane");
        let truth = GaussianMixture::new(&[0.4, 0.6], &[[-3.0, -1.5], [3.0, 1.5]], &[0.7, 0.9])?;
        let rows = truth.sample(experiment.train_rows, seed.derive("data"));
        let steps = experiment.steps.iter().copied().min_by_key(|k| k.abs_diff(10)).unwrap_or(10);
        let (recipe, n) = (&experiment.recipe, experiment.reference());
        let mut arms = vec![("SM, H = 0".to_string(), None, recipe.clone())];
        if let Some(n) = n {
            arms.push((format!("LM N={n}"), Some(n), recipe.clone()));
            arms.push((format!("LM (paper) N={n}"), Some(n), recipe.of_paper()));
        }
        let sample = |(name, transitions, recipe)| {
            let model = fit(&recipe, (&rows, 1), transitions, seed.derive("training"))?;
            let covariance = match transitions {
                Some(_) => CovarianceConfig::Own,
                None => CovarianceConfig::ZeroHessian,
            };
            let chain = Chain { covariance, steps, spacing: experiment.spacing };
            let drawn = chain.sample(&model, POINTS, 0..1, seed)?;
            Ok((name, drawn.with(experiment.last).concat()))
        };
        let samples = arms.into_iter().map(sample).collect::<Result<_>>()?;
        let data = to_vec(&rows.narrow(0, 0, rows.size()[0].min(POINTS as i64)));
        Ok(Plane { steps, data, samples })
    }

    /// A figure for each method: its samples over the data.
    pub(super) fn figures(&self) -> Vec<(String, String)> {
        let points = |name: &str, values: &[f64]| {
            let column = |i: usize| values.iter().skip(i).step_by(2).copied().collect();
            Series::line(name, column(0), column(1)).style(Style::Points)
        };
        let figure = |(number, (name, samples)): (usize, &(String, Vec<f64>))| {
            let title = format!("{name}: samples in {} steps", self.steps);
            let series = vec![points("data", &self.data), points(name, samples)];
            let file = format!("figure-3b-{}.svg", ["sm", "lm", "lm-paper"][number]);
            (file, chart(title, ["x₁", "x₂"], LINEAR, series))
        };
        self.samples.iter().enumerate().map(figure).collect()
    }
}
