//! A measured `G` between the times that it was measured at.

use tch::{Device, Kind, Tensor};

use crate::query::{Coefficient, Times};
use crate::schedule::Schedule;
use crate::tensor::upload;

/// A number in `[0, 1]` as a function of the log signal-to-noise ratio: linear between knots, and
/// beyond them that of the nearest.
#[derive(Debug)]
pub struct Interpolant {
    /// The ratio, falling.
    log_snr: Vec<f64>,
    values: Vec<f64>,
    /// Both on the device, the ratio rising.
    tables: [Tensor; 2],
}

impl Interpolant {
    /// Through `values` at `log_snr` (falling, two or more), for rows on `device`.
    pub(crate) fn new(log_snr: &[f64], values: &[f64], device: Device) -> Interpolant {
        let rising = |of: &[f64]| upload(&Tensor::from_slice(of), Kind::Double, device).flip([0]);
        let tables = [rising(log_snr), rising(values)];
        Interpolant { log_snr: log_snr.to_vec(), values: values.to_vec(), tables }
    }

    /// At one ratio.
    pub(crate) fn at(&self, log_snr: f64) -> f64 {
        between(&self.log_snr, &self.values, log_snr)
    }

    /// At the times of rows; those that are unequal are looked up on the device.
    pub fn g(&self, schedule: &dyn Schedule, times: &Times, device: Device) -> Coefficient {
        if let Times::All(t) = times {
            return Coefficient::All(self.at(schedule.log_snr(*t)));
        }
        let (alpha, sigma) = times.marginal(schedule, device);
        let Coefficient::Each(log_snr) = alpha.ln() * 2.0 - sigma.square().ln() else {
            unreachable!("coefficients of unequal times")
        };
        let [knots, values] = &self.tables;
        let last = knots.size()[0] - 1;
        let log_snr = log_snr.squeeze_dim(-1).contiguous();
        let none = None::<Tensor>;
        let next = log_snr.searchsorted(knots, false, false, "left", none).clamp(1, last);
        let (low, high) = (&next - 1, &next);
        let of = |table: &Tensor, at: &Tensor| table.index_select(0, at);
        let (from, to) = (of(knots, &low), of(knots, high));
        let along = ((log_snr - &from) / (to - from)).clamp(0.0, 1.0);
        let (from, to) = (of(values, &low), of(values, high));
        let value = (&from + (to - &from) * along).clamp(0.0, 1.0);
        Coefficient::of_rows(&value)
    }
}

/// `values` at `knots` (falling), linear between them and held beyond; in `[0, 1]`.
pub(super) fn between(knots: &[f64], values: &[f64], at: f64) -> f64 {
    let next = knots.partition_point(|&knot| knot > at);
    let (i, j) = (next.max(1) - 1, next.min(values.len() - 1));
    let gap = knots[i] - knots[j];
    let along = if gap > 0.0 { (knots[i] - at) / gap } else { 0.0 };
    (values[i] + (values[j] - values[i]) * along).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::Vp;
    use crate::tensor::to_vec;

    /// The two ways agree at, between and beyond the knots; and by hand in the middle of two.
    #[test]
    fn numbers_and_tables_agree() {
        let schedule = Vp::default();
        let knots: Vec<f64> = [0.1, 0.3, 0.7].iter().map(|&t| schedule.log_snr(t)).collect();
        let interpolant = Interpolant::new(&knots, &[0.9, 0.2, -0.1], Device::Cpu);
        assert!((interpolant.at(0.5 * (knots[0] + knots[1])) - 0.55).abs() < 1e-12);
        let t = vec![0.01, 0.1, 0.2, 0.3, 0.65, 0.7, 0.99];
        let expected: Vec<f64> = t.iter().map(|&t| interpolant.at(schedule.log_snr(t))).collect();
        let found = interpolant.g(&schedule, &Times::each(t), Device::Cpu);
        let found = to_vec(&found.rows(&Tensor::zeros([7], (Kind::Double, Device::Cpu))));
        let gap = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(gap < 1e-12, "{found:?} {expected:?}");
    }
}
