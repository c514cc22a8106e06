//! One line of an evaluation: what was measured, what the number is, and what it is compared with.

use std::collections::HashSet;
use std::fmt;

use crate::covariance::CovarianceConfig;
use crate::likelihood::{Claim, Flag, Summary, bits_per_dim, mean_and_error};
use crate::sample::Sampler;

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Subject {
    /// The K-step ELBO of the model.
    Elbo {
        /// The covariance of its steps.
        covariance: CovarianceConfig,
        /// Their number.
        steps: usize,
    },
    /// The model's probability-flow ODE.
    Ode,
    /// A Gaussian with the mean and covariance of the training rows.
    Gaussian,
    /// A kernel density on the training rows.
    Kernel {
        /// Its bandwidth in network units.
        bandwidth: f64,
    },
    /// The distribution that the model's network corrects.
    Base {
        /// Its Gaussians.
        components: i64,
    },
    /// The maximum mean discrepancy of samples and test rows.
    Mmd {
        /// What draws the samples.
        sampler: Sampler,
        /// The covariance of its steps, where it takes one.
        covariance: Option<CovarianceConfig>,
        /// Their number, where it steps down a grid.
        steps: Option<usize>,
        /// Samples drawn.
        samples: usize,
    },
}

/// What people call it; an estimator gives its settings beside ([`Line::name`]).
impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Elbo { covariance, steps } => {
                write!(f, "ELBO, K = {steps}, {covariance} covariance")
            }
            Subject::Ode => f.write_str("probability-flow ODE"),
            Subject::Gaussian => f.write_str("Gaussian, full covariance"),
            Subject::Kernel { bandwidth } => write!(f, "kernel density, h = {bandwidth:.2}"),
            Subject::Base { components } => {
                let plural = if *components == 1 { "" } else { "s" };
                write!(f, "the model's base, {components} component{plural}")
            }
            Subject::Mmd { sampler, covariance, steps, .. } => {
                f.write_str("MMD²")?;
                if *sampler != Sampler::default() {
                    write!(f, ", {sampler}")?;
                }
                steps.map_or(Ok(()), |steps| write!(f, ", K = {steps}"))?;
                covariance.map_or(Ok(()), |covariance| write!(f, ", {covariance} covariance"))
            }
        }
    }
}

/// What a value is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Nats per row in the data's own units; more is better.
    Nats,
    /// Bits per dimension: of the probabilities of levels (`true`), or of the density of
    /// dequantised levels; less is better.
    Bits {
        /// Whether levels are scored as probabilities.
        levels: bool,
    },
    /// The square of a distance of distributions in network units; less is better.
    SquaredDistance,
}

/// Rows that are not in a mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// All rows.
    pub of: usize,
    /// Rows with a flag, where flagged rows are left out.
    pub flagged: Option<usize>,
    /// Rows without a value, where none are flagged.
    pub unsolved: usize,
    /// Rows at −∞.
    pub minus_infinity: usize,
}

/// A mean difference on the same rows, and its standard error over rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// The mean.
    pub mean: f64,
    /// Its standard error.
    pub error: f64,
}

/// A line of an evaluation.
#[derive(Clone, Debug)]
pub struct Line {
    /// What it is about.
    pub subject: Subject,
    /// The estimator with its settings, or the density, for people.
    pub name: String,
    /// Whether it is about the run that was compared with.
    pub of_against: bool,
    /// What the value is; `None` for what is no likelihood.
    pub claim: Option<Claim>,
    /// What the value is in.
    pub unit: Unit,
    /// The mean over rows.
    pub value: f64,
    /// Its standard error, NaN where there is none.
    pub error: f64,
    /// Nats of each row, NaN where a row is left out; `None` of what is not of rows.
    pub rows: Option<Vec<f64>>,
    /// Rows whose value should not be believed.
    pub flags: Vec<Flag>,
    /// What is not in the value.
    pub left_out: LeftOut,
    /// Less the model's base, on the same rows.
    pub minus_base: Option<Difference>,
    /// Less the Gaussian.
    pub minus_gaussian: Option<Difference>,
    /// Less the same line of the run that was compared with.
    pub minus_against: Option<Difference>,
}

impl Line {
    /// Of log-likelihoods of rows, nats.
    pub(super) fn of_rows(subject: Subject, claim: Claim, rows: Vec<f64>) -> Line {
        let Summary { mean, std_error, minus_infinity, .. } = Summary::of(&rows);
        Line {
            subject,
            name: subject.to_string(),
            of_against: false,
            claim: Some(claim),
            unit: Unit::Nats,
            value: mean,
            error: std_error,
            left_out: LeftOut { of: rows.len(), minus_infinity, ..LeftOut::default() },
            rows: Some(rows),
            flags: Vec::new(),
            minus_base: None,
            minus_gaussian: None,
            minus_against: None,
        }
    }

    /// Of a discrepancy, which is not of rows.
    pub(super) fn of_distance(subject: Subject, value: f64) -> Line {
        let line = Line::of_rows(subject, Claim::Estimate, Vec::new());
        let unit = Unit::SquaredDistance;
        Line { claim: None, unit, value, error: f64::NAN, rows: None, ..line }
    }

    /// Each row in the line's unit, `dim` being the columns of a row; without the rows that are
    /// left out because they are flagged.
    pub fn row_values(&self, dim: usize) -> Vec<f64> {
        let doubted: HashSet<usize> = match self.left_out.flagged {
            Some(_) => self.flags.iter().map(|flag| flag.row).collect(),
            None => HashSet::new(),
        };
        let rows = self.rows.iter().flatten().enumerate();
        let kept = rows.filter(|(row, _)| !doubted.contains(row)).map(|(_, &nats)| nats);
        match self.unit {
            Unit::Bits { .. } => kept.map(|nats| bits_per_dim(nats, dim)).collect(),
            _ => kept.collect(),
        }
    }

    /// Less another density on the same rows; `None` where either has no rows.
    pub(super) fn minus(&self, other: &[f64]) -> Option<Difference> {
        let rows = self.rows.as_ref()?;
        let differences: Vec<f64> =
            rows.iter().zip(other).map(|(a, b)| a - b).filter(|d| d.is_finite()).collect();
        let (mean, error) = mean_and_error(&differences);
        (!differences.is_empty()).then_some(Difference { mean, error })
    }

    /// The differences that there are, each with the name of what is subtracted.
    pub fn differences(&self) -> [(&'static str, Option<Difference>); 3] {
        [
            ("base", self.minus_base),
            ("gaussian", self.minus_gaussian),
            ("against", self.minus_against),
        ]
    }

    /// In bits per dimension, of which a likelier row has fewer.
    pub(super) fn put_in_bits(&mut self, dim: usize, levels: bool) {
        let bits = |nats| bits_per_dim(nats, dim);
        self.unit = Unit::Bits { levels };
        (self.value, self.error) = (bits(self.value), -bits(self.error));
        let differences = [&mut self.minus_base, &mut self.minus_gaussian, &mut self.minus_against];
        for less in differences.into_iter().flatten() {
            *less = Difference { mean: bits(less.mean), error: -bits(less.error) };
        }
    }

    /// What the value is and what is not in it, for people.
    pub fn kind(&self) -> String {
        let bits = matches!(self.unit, Unit::Bits { .. });
        let mut text = match (self.subject, self.claim) {
            (Subject::Mmd { samples, .. }, _) => {
                return format!("U-statistic, {samples} samples, network units");
            }
            // less likelihood is more bits
            (_, Some(Claim::LowerBound)) if bits => "upper bound".to_string(),
            (_, Some(Claim::LowerBound)) => "lower bound".into(),
            (_, Some(Claim::Exact)) if self.unit == Unit::Bits { levels: true } => {
                "exact density of dequantised levels".into()
            }
            (_, Some(Claim::Exact)) => "exact".into(),
            (_, _) => "estimate".into(),
        };
        let LeftOut { of, flagged, unsolved, minus_infinity } = self.left_out;
        if let Some(flagged) = flagged {
            text += &format!(", {flagged} of {of} rows flagged and left out");
        }
        if unsolved > 0 {
            text += &format!(", {unsolved} of {of} rows without a value and left out");
        }
        if minus_infinity > 0 {
            text += &format!(", {minus_infinity} of {of} rows at −∞ and left out");
        }
        text
    }
}
