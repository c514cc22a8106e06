//! Flags that several commands share: the solver of the probability flow, the divergence, the noise
//! within bins.

use clap::Args;
use tweedie::dequantize::Dequantization;
use tweedie::likelihood::{DivergenceKind, SolverOptions};

use crate::choice::choice;

/// The solver of the probability flow, where it is not the default.
#[derive(Args, Clone, Debug, Default)]
pub struct SolverArguments {
    /// Relative tolerance of the probability-flow ODE [default: 1e-5]
    #[arg(long, value_name = "TOL")]
    rtol: Option<f64>,
    /// Absolute tolerance, in network units and nats [default: 1e-5]
    #[arg(long, value_name = "TOL")]
    atol: Option<f64>,
    /// Evaluations of the flow that a row may take before it counts as not solved [default: 5000]
    #[arg(long, value_name = "N")]
    max_evaluations: Option<usize>,
}

impl SolverArguments {
    pub fn options(&self) -> SolverOptions {
        let SolverArguments { rtol, atol, max_evaluations } = *self;
        SolverOptions { rtol, atol, max_evaluations }
    }
}

/// How the divergence of the score is computed.
#[derive(Args, Clone, Debug)]
pub struct DivergenceArguments {
    /// Divergence of the score, of ode and bound-sm [default: auto]
    #[arg(long, value_parser = choice::<DivergenceKind>())]
    pub divergence: Option<DivergenceKind>,
    /// Probes per row of a divergence by rademacher or gaussian [default: 8; of bound-sm 1 per
    /// draw]
    #[arg(long, value_name = "P")]
    pub probes: Option<usize>,
}

/// How levels become points of a density.
#[derive(Args, Debug)]
pub struct DequantizationArguments {
    /// Noise within the bins of dequantised columns and of pixels
    #[arg(long, value_name = "NOISE", default_value = "uniform",
          value_parser = choice::<Dequantization>())]
    pub dequantization: Dequantization,
    /// Where the flow of truncated-normal starts, a time of the process [default: the noise there
    /// is a third of the smallest half bin]
    #[arg(long, value_name = "TAU")]
    pub start_time: Option<f64>,
}
