//! Whether a column is standardised or made nearly normal.

use serde::{Deserialize, Serialize};

use super::fit::{all_edges, bin_edges, gaussianized, standardized};
use super::spline::normal_cdf;
use super::{ColumnScaling, Grid, ScalingOptions};
use crate::choice::choices;
use crate::noise::{Noise, Seed};

/// A column is gaussianised by [`Marginals::Auto`] where that raises the log-likelihood of the
/// column by itself by at least so many nats per row, and the column has a long tail or an edge, or
/// leaves out levels.
pub const LEAST_GAIN: f64 = 0.2;
/// Deviations from the median at which a value makes a tail long, a deviation being the
/// interquartile range over that of the standard normal distribution.
const LONG_TAIL: f64 = 5.0;
/// The interquartile range of the standard normal distribution.
const NORMAL_IQR: f64 = 1.349;
/// An end of the range is an edge if this share of the values lies within a hundredth of the range
/// from it.
const EDGE: f64 = 0.02;
/// Both ends of the range of a column on a grid are edges if a normal distribution with the
/// column's moments has at least this share beyond each: of a uniform column it has 4 % there.
const BEYOND: f64 = 0.02;
/// Levels are left out if this share of those between the lowest and the highest is in no row.
const LEFT_OUT: f64 = 0.1;
/// Levels are uneven if their own frequencies say so many nats more per row than the mean of theirs
/// and their neighbours', as of hours of work, of which most end in 0 or 5.
const UNEVEN: f64 = 0.2;
/// An end of the range cuts a column on a grid off if a normal distribution with the column's
/// moments has at least this share beyond it, and as large a share of the values as of the range
/// lies within a twentieth of the range from it.
const CUT_OFF: f64 = 0.04;
const TWENTIETH: f64 = 0.05;
/// The most nats that a row adds or takes where maps are compared: beyond a map's own rows
/// only its slope there would decide.
const MOST_OF_A_ROW: f64 = 50.0;
/// With fewer rows than this to compare the maps on, a column is standardised.
const LEAST_COMPARED: usize = 40;
/// A value that takes more than this share of a column that is not dequantised is an atom: no
/// density can be compared there.
const ATOM: f64 = 0.01;

/// What [`Marginals::Auto`] chose for a column, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MarginalChoice {
    /// The column's name.
    pub column: String,
    /// [`Marginals::Standardize`] or [`Marginals::Gaussianize`].
    pub marginals: Marginals,
    /// What gaussianising adds to the mean log-likelihood of the column by itself under a standard
    /// normal density in scaled units, in nats per row, to three decimals: each half of the
    /// training rows, drawn at random, is scored by the maps that were fitted on the other half, a
    /// difference of more than 50 nats counting as 50. None if too few rows could be compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gain: Option<f64>,
    /// Whether a value lies more than five deviations from the median, a deviation being the
    /// interquartile range over 1.349.
    pub long_tail: bool,
    /// Whether at least 2 % of the values lie within a hundredth of the range from one of its ends.
    pub edge: bool,
    /// Whether the column has its values on a grid of a few hundred levels at most, and a normal
    /// distribution with its moments has at least 2 % beyond each end of them.
    #[serde(default)]
    pub both_edges: bool,
    /// Whether the column has its values on a grid of a few hundred levels at most, none of them in a
    /// tenth of the rows, of which at least a tenth is in no row.
    #[serde(default)]
    pub left_out: bool,
    /// Whether the column has its values on a grid of a few hundred levels at most, whose
    /// frequencies say at least .2 nats more per row than those of three neighbours together.
    #[serde(default)]
    pub uneven: bool,
    /// Whether the column is on a grid, a normal distribution with its moments has at least 4 %
    /// beyond an end of it, and at least 5 % of its values are within 5 % of its range from there.
    #[serde(default)]
    pub cut_off: bool,
}

impl MarginalChoice {
    /// What the choice was made by, in a few words.
    pub fn reason(&self) -> String {
        let Some(gain) = self.gain else { return "too few distinct values to compare".into() };
        let shape = match (self.long_tail, self.edge) {
            (false, _) if self.both_edges => ", an edge at both ends",
            (true, true) => ", long tail and edge",
            (true, false) => ", long tail",
            (false, true) => ", edge",
            (false, false) if self.left_out || self.uneven => "",
            (false, false) if self.cut_off => ", cut off at an end",
            (false, false) if gain >= LEAST_GAIN => ", but neither long tail nor edge",
            (false, false) => "",
        };
        let levels = match (self.left_out, self.uneven) {
            (true, _) => ", levels left out",
            (false, true) => ", uneven levels",
            (false, false) => "",
        };
        format!("{gain:+.3} nats{shape}{levels}")
    }
}

choices! {
    /// What the maps make of each column by itself.
    pub enum Marginals = Auto {
        /// Per column: [`Marginals::Gaussianize`] where the column has a long tail or an edge, or
        /// leaves out levels of its grid or has them unevenly, and gaussianising is worth at least
        /// [`LEAST_GAIN`], of a column with an edge at both ends half of it, of one on a grid that
        /// an end of its range cuts off a quarter of it, on training rows that it was not fitted
        /// on; [`Marginals::Standardize`] elsewhere.
        ///
        /// A column of several peaks gains by itself too; without tail or edge they are left to the
        /// network.
        Auto = "auto",
        /// Mean 0 and standard deviation 1.
        Standardize = "standardize",
        /// Nearly standard normal, by a monotone spline.
        Gaussianize = "gaussianize",
    }
}

/// What [`Marginals::Auto`] chooses for a column of these training values.
pub(super) fn compared(
    name: &str,
    values: &[f64],
    grid: Option<Grid>,
    options: &ScalingOptions,
) -> MarginalChoice {
    // Weyl's sequence: evenly spread within bins
    let noise =
        |i: usize| grid.map_or(0.0, |g| g.bin * ((i as f64 * 0.618_033_988_75).fract() - 0.5));
    let mut sorted: Vec<f64> = values.iter().enumerate().map(|(i, v)| v + noise(i)).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let n = sorted.len();
    let (low, high) = (sorted[0], sorted[n - 1]);
    let quartile = |k: usize| sorted[k * (n - 1) / 4];
    let deviation = (quartile(3) - quartile(1)) / NORMAL_IQR;
    let farthest = (high - quartile(2)).max(quartile(2) - low);
    // how many values are within this share of the range from each end
    let near_ends = |share: f64| {
        let strip = share * (high - low);
        let at_low = sorted.partition_point(|v| *v <= low + strip);
        [at_low, n - sorted.partition_point(|v| *v < high - strip)]
    };
    let [at_low, at_high] = near_ends(0.01);
    let long_tail = farthest > LONG_TAIL * deviation;
    let edge = at_low.max(at_high) as f64 >= EDGE * n as f64;

    let mean = sorted.iter().sum::<f64>() / n as f64;
    let variance = sorted.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n as f64;
    let beyond = |end: f64| normal_cdf(-(end - mean).abs() / variance.sqrt());
    let at_both_ends = beyond(low).min(beyond(high)) >= BEYOND;

    let most = (ATOM * n as f64).max(2.0) as usize;
    let atom = |v: f64| {
        let count = sorted.partition_point(|x| *x <= v) - sorted.partition_point(|x| *x < v);
        grid.is_none() && count > most
    };
    // at random, so that of columns that alternate from row to row, as hours do, each half has all
    let halves = Noise::new(Seed(0).derive("halves"), 0..n as u64).uniform(1);
    let half = |i: usize| halves[i] < 0.5;
    let of_half = |which: bool| -> Vec<f64> {
        let rows = values.iter().enumerate().filter(|(i, _)| half(*i) == which);
        rows.map(|(_, value)| *value).collect()
    };
    let gain = || {
        let (mut sum, mut compared) = (0.0, 0_usize);
        for which in [false, true] {
            let affine = standardized(&of_half(!which), grid, options.floor)?;
            let spline = gaussianized(of_half(!which), grid, options.knots)?;
            for (i, &value) in
                values.iter().enumerate().filter(|(i, v)| half(*i) == which && !atom(**v))
            {
                let value = value + noise(i);
                let difference = log_density(&spline, value) - log_density(&affine, value);
                sum += difference.clamp(-MOST_OF_A_ROW, MOST_OF_A_ROW);
                compared += 1;
            }
        }
        (compared >= LEAST_COMPARED).then(|| (1000.0 * sum / compared as f64).round() / 1000.0)
    };
    let gain = gain();
    let mut levels = values.to_vec();
    levels.sort_unstable_by(f64::total_cmp);
    let uneven = all_edges(&levels, grid).is_some_and(|edges| {
        let levels_of = |which: bool| frequencies(&of_half(which), &edges);
        let own = [levels_of(false), levels_of(true)];
        gain_of_levels(&own[0], &own[1]) + gain_of_levels(&own[1], &own[0]) >= 2.0 * UNEVEN
    });
    let edges = bin_edges(&levels, grid);
    let both_edges = at_both_ends && edges.is_some();
    let left_out = edges.is_some_and(|edges| {
        levels.dedup();
        let all = (edges.len() - 1) as f64;
        all - levels.len() as f64 >= LEFT_OUT * all
    });
    let [near_low, near_high] = near_ends(TWENTIETH);
    let ends_at = |end, near: usize| beyond(end) >= CUT_OFF && near as f64 >= TWENTIETH * n as f64;
    let cut_off = grid.is_some() && (ends_at(low, near_low) || ends_at(high, near_high));
    let shaped = long_tail || edge || left_out || both_edges || uneven || cut_off;
    // without a spline samples lie beyond an end
    let least = match (both_edges, cut_off) {
        (_, true) => 0.25 * LEAST_GAIN,
        (true, false) => 0.5 * LEAST_GAIN,
        (false, false) => LEAST_GAIN,
    };
    let gaussianize = shaped && gain.is_some_and(|gain| gain >= least);
    let marginals = if gaussianize { Marginals::Gaussianize } else { Marginals::Standardize };
    MarginalChoice {
        column: name.into(),
        marginals,
        gain,
        long_tail,
        edge,
        both_edges,
        left_out,
        uneven,
        cut_off,
    }
}

/// How many of the values lie in each bin between the edges.
fn frequencies(values: &[f64], edges: &[f64]) -> Vec<f64> {
    let mut counts = vec![0.0; edges.len() - 1];
    for value in values {
        let bin = edges.partition_point(|edge| edge <= value).clamp(1, counts.len()) - 1;
        counts[bin] += 1.0;
    }
    counts
}

/// What the frequencies of levels say of `held_out` beyond the mean of each level's and its
/// neighbours', nats per row; half a row is added to each level.
fn gain_of_levels(counts: &[f64], held_out: &[f64]) -> f64 {
    let own: Vec<f64> = counts.iter().map(|count| count + 0.5).collect();
    let smooth = |k: usize| {
        let near = &own[k.saturating_sub(1)..(k + 2).min(own.len())];
        near.iter().sum::<f64>() / near.len() as f64
    };
    let total = held_out.iter().sum::<f64>().max(1.0);
    let of_level = |(k, count): (usize, &f64)| count * (own[k] / smooth(k)).ln();
    held_out.iter().enumerate().map(of_level).sum::<f64>() / total
}

/// `ln` of the density that a standard normal density of the scaled value gives to the raw one.
fn log_density(map: &ColumnScaling, raw: f64) -> f64 {
    let (scaled, derivative) = map.forward(raw);
    derivative.ln() - 0.5 * (scaled * scaled + (2.0 * std::f64::consts::PI).ln())
}
