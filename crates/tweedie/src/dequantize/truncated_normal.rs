//! Truncated-normal dequantisation: no training, for models that were trained on the levels
//! themselves.

use tch::{Kind, Tensor};

use super::{Bins, Dequantized, Dequantizer, level_columns};
use crate::data::{ColumnKind, ColumnScaling, Grid, Scaling};
use crate::gaussian::LN_2PI;
use crate::likelihood::log_normal_between;
use crate::noise::Noise;
use crate::schedule::Schedule;
use crate::tensor::{sum_last, to_vec};
use crate::{Error, Result};

/// The level plus `N(0, s²)`, `s = σ_τ/α_τ`, held within its bin (Zheng et al. 2023, "i-DODE",
/// §4.2): what the process itself makes of a level up to a small time `τ`, so that a model trained
/// on the levels has seen nothing else. Rows are `y = x_τ/α_τ`, and with the distribution `p_τ` of
/// the model at `τ`
///
/// `ln P(x) ≥ E[ln p_τ(α_τ y) + d ln α_τ − ln q(y|x)]`,
/// `q(y|x) = φ((y − x)/s) / (s [Φ(b/s) − Φ(a/s)])` on `[x + a, x + b]`.
///
/// `P` is the distribution of the generative model that stops at `τ`, divides by `α_τ` and rounds;
/// columns that are no levels keep their values, as points of the density at `τ`. It serves
/// [`crate::likelihood::ProbabilityFlow::from_time`] alone.
///
/// For models trained with uniform noise it bounds too, but loosely: most of their mass lies away
/// from the levels. Columns of whole numbers that a run did not dequantise are levels here.
#[derive(Clone, Debug)]
pub struct TruncatedNormal {
    scaling: Scaling,
    time: f64,
    deviation: f64,
}

/// `s` as a share of the smallest half bin: 0.27 % of the noise of a level then falls outside its
/// bin, and costs as many nats per column.
const SHARE_OF_HALF_BIN: f64 = 1.0 / 3.0;
/// A column's bins are looked at over this range in the network's units, where data are of unit
/// scale.
const RANGE: f64 = 3.0;
const RANGE_POINTS: i32 = 600;

impl TruncatedNormal {
    /// For rows of `scaling` under `schedule`, at `time`, or where `σ_τ/α_τ` is a third of the
    /// smallest half bin, but never below `ε`. The smallest half bin is that over columns and,
    /// where maps are splines, over −3…3.
    ///
    /// # Errors
    /// If no column holds levels, or `time` is not from `ε` to below `T`.
    pub fn new(
        scaling: &Scaling,
        schedule: &dyn Schedule,
        time: Option<f64>,
    ) -> Result<TruncatedNormal> {
        let mut scaling = scaling.clone();
        if let Scaling::Columns(columns) = &mut scaling {
            for column in columns.iter_mut().filter(|c| c.column.kind == ColumnKind::Integer) {
                column.grid.get_or_insert(Grid { bin: 1.0, origin: 0.0 });
            }
        }
        let half = smallest_half_bin(&scaling);
        if !half.is_finite() {
            let remedy = "give uniform: the columns pass through it as they are";
            return Err(Error::config(
                "dequantization",
                "truncated-normal, for data without levels",
                remedy,
            ));
        }
        let (first, last) = (schedule.epsilon(), schedule.horizon());
        let time = match time {
            Some(time) if !(first..last).contains(&time) => {
                let remedy = format!("give a time from {first:e} to below {last}");
                return Err(Error::config("start_time", format!("{time}"), remedy));
            }
            Some(time) => time,
            None => schedule.time_of_log_snr(-2.0 * (SHARE_OF_HALF_BIN * half).ln()).max(first),
        };
        let deviation = schedule.sigma(time) / schedule.alpha(time);
        Ok(TruncatedNormal { scaling, time, deviation })
    }

    /// `s = σ_τ/α_τ`, in the network's units.
    pub fn deviation(&self) -> f64 {
        self.deviation
    }
}

/// In the network's units; infinite where no column holds levels.
fn smallest_half_bin(scaling: &Scaling) -> f64 {
    let columns = (0..scaling.dim()).filter_map(|k| Some((scaling.map(k), scaling.grid(k)?.bin)));
    columns
        .map(|(map, bin)| match map {
            ColumnScaling::Affine { scale, .. } => 0.5 * bin / scale,
            ColumnScaling::Gaussianize(_) | ColumnScaling::Bounded { .. } => {
                let points = (0..=RANGE_POINTS)
                    .map(|i| RANGE * (2.0 * f64::from(i) / f64::from(RANGE_POINTS) - 1.0));
                points
                    .map(|y| 0.5 * bin * map.forward(map.inverse(y)).1)
                    .fold(f64::INFINITY, f64::min)
            }
        })
        .fold(f64::INFINITY, f64::min)
}

impl Dequantizer for TruncatedNormal {
    fn dequantize(&self, levels: &[f32], noise: &mut Noise) -> Dequantized {
        let bins = Bins::new(levels, &self.scaling);
        let columns = level_columns(&self.scaling);
        let [lower, centre, upper] = bins.of(&columns);
        let s = self.deviation;
        let (a, b) = ((lower - &centre) / s, (upper - &centre) / s);
        let shape = centre.size();
        let u = Tensor::from_slice(&noise.uniform(shape[1] as usize)).view(shape.as_slice());
        let (below, above) = (a.special_ndtr(), b.special_ndtr());
        // u may be 0, and Φ(a) + u (Φ(b) − Φ(a)) may be 1 by rounding: then the bin's end
        let e = (&below + u * (above - &below)).special_ndtri().maximum(&a).minimum(&b);
        let log_q = e.square() * -0.5 - 0.5 * LN_2PI - s.ln() - log_normal_between(&a, &b);
        let log_q = to_vec(&sum_last(&log_q.to_kind(Kind::Double)));
        let offsets =
            bins.log_units.iter().zip(log_q).map(|(units, log_q)| units - log_q).collect();
        Dequantized { rows: bins.with(&columns, &(centre + e * s)), offsets }
    }

    fn time(&self) -> Option<f64> {
        Some(self.time)
    }
}
