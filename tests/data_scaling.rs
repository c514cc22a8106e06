//! The scaling is an increasing map whose derivative and inverse are what they claim to be.

use proptest::prelude::*;
use tweedie::data::{Column, ColumnKind, Dequantize, Marginals, Scaling, ScalingOptions, Table};

fn table(kind: ColumnKind, values: Vec<f32>) -> Table {
    Table::new(vec![Column { name: "x".into(), kind }], values).unwrap()
}

fn fit(table: &Table, marginals: Marginals, dequantize: Dequantize) -> Scaling {
    let rows: Vec<usize> = (0..table.rows()).collect();
    Scaling::fit(table, &rows, &ScalingOptions { marginals, dequantize, ..Default::default() }).unwrap()
}

/// A skew, heavy-tailed sample with an atom at 0 and an outlier: exponentials of a lattice of normal-like values.
fn awkward() -> Vec<f32> {
    let skew = (0..2000).map(|i| ((f64::from(i) * 0.618_034).fract() * 6.0 - 3.0).exp() as f32);
    skew.chain(std::iter::repeat_n(0.0, 500)).chain([1e4]).collect()
}

#[test]
fn training_values_get_mean_zero_and_variance_one() {
    for marginals in [Marginals::Standardize, Marginals::Gaussianize] {
        let table = table(ColumnKind::Float, awkward());
        let scaling = fit(&table, marginals, Dequantize::None);
        let (mut out, mut jacobian) = (Vec::new(), Vec::new());
        scaling.forward_f64(&table.values, || 0.0, &mut out, &mut jacobian);
        let n = out.len() as f64;
        let mean = out.iter().sum::<f64>() / n;
        let variance = out.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
        assert!(mean.abs() < 1e-9 && (variance - 1.0).abs() < 1e-9, "{mean} {variance}");
        let worst = out.iter().fold(0.0_f64, |a, v| a.max(v.abs()));
        assert!(marginals == Marginals::Standardize || worst < 6.0, "the outlier is tamed: {worst}");
    }
}

#[test]
fn a_gaussianized_skew_sample_is_nearly_normal() {
    let values = (0..20_000).map(|i| -((f64::from(i) + 0.5) / 20_000.0).ln() as f32).collect();
    let table = table(ColumnKind::Float, values);
    let scaling = fit(&table, Marginals::Gaussianize, Dequantize::None);
    let mut out = Vec::new();
    scaling.forward(&table.values, || 0.0, &mut out);
    let moment = |k| out.iter().map(|v| f64::from(*v).powi(k)).sum::<f64>() / out.len() as f64;
    // The third and fourth moments of the standard normal law are 0 and 3.
    assert!(moment(3).abs() < 0.02 && (moment(4) - 3.0).abs() < 0.1, "{} {}", moment(3), moment(4));
}

#[test]
fn a_density_stays_normalised_under_the_change_of_variables() {
    let table = table(ColumnKind::Float, awkward());
    for marginals in [Marginals::Standardize, Marginals::Gaussianize] {
        let scaling = fit(&table, marginals, Dequantize::None);
        // ∫ φ(f(x)) f'(x) dx over a grid of preimages, by the trapezoidal rule: every cell fine in either unit.
        let edges: Vec<f64> = (0..=400_000).map(|i| -8.0 + 16.0 * f64::from(i) / 400_000.0).collect();
        let x = scaling.inverse_unrounded(&edges);
        let jacobian = scaling.log_jacobian(&x);
        let density: Vec<f64> = edges
            .iter()
            .zip(&jacobian)
            .map(|(y, j)| (j - y * y / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt())
            .collect();
        let area: f64 = (1..x.len()).map(|i| (x[i] - x[i - 1]) * (density[i] + density[i - 1]) / 2.0).sum();
        assert!((area - 1.0).abs() < 1e-5, "{marginals:?}: {area}");
    }
}

#[test]
fn dequantised_integers_return_to_their_grid() {
    let values: Vec<f32> = (0..900).map(|i| (i * i % 7) as f32).collect();
    let table = table(ColumnKind::Integer, values.clone());
    for marginals in [Marginals::Standardize, Marginals::Gaussianize] {
        let scaling = fit(&table, marginals, Dequantize::Integers);
        let mut state = 0.0_f32;
        let uniform = || {
            state = (state + 0.618_034).fract();
            state
        };
        let mut out = Vec::new();
        scaling.forward(&values, uniform, &mut out);
        let back: Vec<f32> = scaling.inverse(&out).into_iter().map(|v| v as f32).collect();
        assert_eq!(back, values);
        assert_eq!(scaling.log_bins(), 0.0);
        let n = out.len() as f64;
        let variance = out.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / n;
        assert!((variance - 1.0).abs() < 0.02, "{variance}");
    }
}

#[test]
fn a_grid_of_floats_is_found_or_refused() {
    let grid = table(ColumnKind::Float, (0..500).map(|i| 3.05 + 0.01 * (i * 37 % 1000) as f32).collect());
    let wanted = Dequantize::Columns(vec!["x".into()]);
    let scaling = fit(&grid, Marginals::Standardize, wanted.clone());
    assert!((scaling.columns[0].grid.unwrap().bin - 0.01).abs() < 1e-9);
    let irregular = table(ColumnKind::Float, (1..500).map(|i| (i as f32).sqrt()).collect());
    let options = ScalingOptions { dequantize: wanted, ..Default::default() };
    let message = Scaling::fit(&irregular, &[0, 1, 2], &options).unwrap_err().to_string();
    assert!(message.contains("`x`") && message.contains("regular grid"), "{message}");
}

#[test]
fn constant_columns_and_bad_options_are_refused() {
    let table = table(ColumnKind::Float, vec![1.0, 1.0, 2.0]);
    for marginals in [Marginals::Standardize, Marginals::Gaussianize] {
        let options = ScalingOptions { marginals, ..Default::default() };
        assert!(Scaling::fit(&table, &[0, 1], &options).is_err());
        assert!(Scaling::fit(&table, &[], &options).is_err());
        assert!(Scaling::fit(&table, &[0, 2], &options).is_ok());
        assert!(Scaling::fit(&table, &[0, 2], &ScalingOptions { knots: 1, ..options.clone() }).is_err());
        assert!(Scaling::fit(&table, &[0, 1], &ScalingOptions { floor: 0.1, ..options }).is_ok());
    }
}

#[test]
fn it_survives_json_and_damage_there_is_an_error() {
    let table = table(ColumnKind::Float, awkward());
    let scaling = fit(&table, Marginals::Gaussianize, Dequantize::None);
    let json = serde_json::to_string(&scaling).unwrap();
    assert_eq!(serde_json::from_str::<Scaling>(&json).unwrap(), scaling);
    assert!(serde_json::from_str::<Scaling>(&json.replacen("\"slope\":[", "\"slope\":[-1.0,", 1)).is_err());
}

prop_compose! {
    /// Values with ties, outliers and any offset and scale.
    fn column()(
        base in prop::collection::vec(-3.0..3.0_f64, 4..200),
        ties in 0..100_usize,
        outlier in prop::option::of(1.0..1e4_f64),
        shift in -100.0..100.0_f64,
        log_scale in -3.0..3.0_f64,
    ) -> Vec<f32> {
        let scale = 10_f64.powf(log_scale);
        let tie = base[0];
        base.into_iter().chain(std::iter::repeat_n(tie, ties)).chain(outlier)
            .map(|v| (scale * (v + shift)) as f32).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn maps_increase_invert_and_have_their_derivative(values in column(), gaussianize: bool, y in prop::collection::vec(-6.0..6.0_f64, 20)) {
        let table = table(ColumnKind::Float, values.clone());
        let marginals = if gaussianize { Marginals::Gaussianize } else { Marginals::Standardize };
        let scaling = fit(&table, marginals, Dequantize::None);
        let map = &scaling.columns[0].map;

        for &v in &values {
            let x = f64::from(v);
            let back = map.inverse(map.forward(x).0);
            let span = x.abs().max(1.0 / map.forward(x).1);
            prop_assert!((back - x).abs() <= 1e-9 * span, "{} came back as {}", x, back);
        }
        let mut y = y;
        y.sort_unstable_by(f64::total_cmp);
        let mut last = f64::NEG_INFINITY;
        for &y in &y {
            let x = map.inverse(y);
            prop_assert!(x >= last);
            last = x;
            let (again, derivative) = map.forward(x);
            // A rounding of x moves y by the slope times the rounding.
            prop_assert!((again - y).abs() <= 1e-9 + 4.0 * derivative * f64::EPSILON * x.abs(), "{} came back as {}", y, again);
            let h = 1e-4 / derivative.max(1e-300);
            let h = h.max(1e-7 * x.abs());
            let difference = (map.forward(x + h).0 - map.forward(x - h).0) / (2.0 * h);
            // Within h the slope lies between its values at both ends, up to the bend between them.
            let ends = [map.forward(x - h).1, map.forward(x + h).1, derivative];
            let (low, high) = (ends.iter().copied().fold(f64::MAX, f64::min), ends.iter().copied().fold(0.0, f64::max));
            prop_assert!(difference >= low * 0.9 && difference <= high * 1.1, "{} outside {}..{}", difference, low, high);
            prop_assert!((scaling.log_jacobian(&[x])[0] - derivative.ln()).abs() < 1e-12);
        }
    }
}
