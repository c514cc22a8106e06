//! The papers' experiments, one file per figure or table, beside the published values.

pub mod anomaly;
mod clusters;
pub mod consistency;
pub mod cost;
pub mod covariance_table;
pub mod covariance_toy;
mod distributions;
pub mod estimators;
pub mod experiment;
pub mod few_steps;
pub mod flag;
pub mod guidance;
mod headed;
pub mod hessian_ablation;
pub mod image_grid;
pub mod images;
mod layout;
mod learner;
pub mod mixture;
pub mod outcome;
pub mod page;
pub mod parameter_estimation;
pub mod rademacher;
mod regression;
mod runs;
pub mod scoreflow_table;
pub mod theory;
mod training;
mod trials;
pub mod weighting;
pub mod weighting_interpolation;
pub mod weighting_variance;

use experiment::Entry;

/// Every experiment: a new one is a file and a line here.
pub static ALL: [Entry; 17] = [
    Entry::of::<mixture::Mixture>(),
    Entry::of::<parameter_estimation::ParameterEstimation>(),
    Entry::of::<cost::Cost>(),
    Entry::of::<few_steps::FewSteps>(),
    Entry::of::<hessian_ablation::HessianAblation>(),
    Entry::of::<image_grid::ImageGrid>(),
    Entry::of::<covariance_table::CovarianceTable>(),
    Entry::of::<guidance::GuidedSampling>(),
    Entry::of::<covariance_toy::CovarianceToy>(),
    Entry::of::<rademacher::Rademacher>(),
    Entry::of::<scoreflow_table::ScoreflowTable>(),
    Entry::of::<estimators::Estimators>(),
    Entry::of::<anomaly::Anomaly>(),
    Entry::of::<theory::Theory>(),
    Entry::of::<consistency::Consistency>(),
    Entry::of::<weighting_variance::WeightingVariance>(),
    Entry::of::<weighting_interpolation::WeightingInterpolation>(),
];
