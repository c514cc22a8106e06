//! Settings of the probability flow on the command line.

use clap::{Args, ValueEnum};
use tweedie::likelihood::{Divergence, ProbabilityFlow};
use tweedie::model::Denoiser;
use tweedie::{Error, Result};

use crate::MOST_STEPS;

/// The solver of the probability flow, where it is not the default.
#[derive(Args, Clone, Debug, Default)]
pub struct SolverArguments {
    /// Relative tolerance of the probability-flow ODE [default: 1e-5]
    #[arg(long, value_name = "TOL")]
    pub rtol: Option<f64>,
    /// Absolute tolerance, in network units and nats [default: 1e-5]
    #[arg(long, value_name = "TOL")]
    pub atol: Option<f64>,
    /// Evaluations of the flow that a row may take before it counts as not solved [default: 5000]
    #[arg(long, value_name = "N")]
    pub max_evaluations: Option<usize>,
}

impl SolverArguments {
    /// Whether any is given.
    pub fn given(&self) -> bool {
        self.rtol.is_some() || self.atol.is_some() || self.max_evaluations.is_some()
    }

    /// Refuses what no solver can have, before anything is read.
    pub fn check(&self) -> Result<()> {
        for (field, tolerance) in [("--rtol", self.rtol), ("--atol", self.atol)] {
            if let Some(value) = tolerance
                && !(value.is_finite() && value > 0.0)
            {
                return Err(Error::config(
                    field,
                    format!("{value}"),
                    "give a positive number; 1e-5 is usual",
                ));
            }
        }
        self.max_evaluations
            .map_or(Ok(()), |n| Error::check_count("--max-evaluations", n, MOST_STEPS))
    }

    /// The flow of `model`, its steps held to this share of the tolerances.
    pub fn flow<'a>(&self, model: &'a dyn Denoiser, share: f64) -> Result<ProbabilityFlow<'a>> {
        let mut flow = ProbabilityFlow::new(model);
        let (rtol, atol) = flow.tolerances();
        flow =
            flow.tolerance(share * self.rtol.unwrap_or(rtol), share * self.atol.unwrap_or(atol))?;
        Ok(match self.max_evaluations {
            Some(limit) => flow.max_evaluations(limit),
            None => flow,
        })
    }
}

#[derive(Clone, Copy, Debug, ValueEnum, PartialEq, Eq)]
enum DivergenceName {
    /// Exact up to 16 columns, then eight Rademacher probes
    Auto,
    /// The trace, by one product per column
    Exact,
    /// Random signs
    Rademacher,
    /// Normal probes
    Gaussian,
}

/// How the divergence of the score is had.
#[derive(Args, Clone, Debug)]
pub struct DivergenceArguments {
    /// Divergence of the score, of ode and bound-sm [default: auto]
    #[arg(long)]
    divergence: Option<DivergenceName>,
    /// Probes per row of a divergence by rademacher or gaussian [default: 8; of bound-sm 1 per
    /// draw]
    #[arg(long, value_name = "P")]
    probes: Option<usize>,
}

impl DivergenceArguments {
    /// Whether any is given.
    pub fn given(&self) -> bool {
        self.divergence.is_some() || self.probes.is_some()
    }

    /// The divergence asked for, with so many probes where that is left open.
    pub fn get(&self, probes: usize) -> Result<Divergence> {
        let number = self.probes.unwrap_or(probes);
        Error::check_count("--probes", number, MOST_STEPS)?;
        match (self.divergence.unwrap_or(DivergenceName::Auto), self.probes) {
            (DivergenceName::Rademacher, _) => Ok(Divergence::Rademacher { probes: number }),
            (DivergenceName::Gaussian, _) => Ok(Divergence::Gaussian { probes: number }),
            (DivergenceName::Auto, None) => Ok(Divergence::Auto),
            (DivergenceName::Exact, None) => Ok(Divergence::Exact),
            (_, Some(number)) => {
                let remedy = "give --divergence rademacher or gaussian with it";
                Err(Error::config(
                    "--probes",
                    format!("{number}, of a divergence that draws none"),
                    remedy,
                ))
            }
        }
    }
}
