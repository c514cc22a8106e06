//! The scaling is an increasing map whose derivative and inverse are what they claim to be.

use proptest::prelude::*;
use tweedie::data::{
    Column, ColumnKind, ColumnScaling, Dataset, Dequantize, MarginalChoice, Marginals, Scaling,
    ScalingOptions,
};

fn table(kind: ColumnKind, values: Vec<f32>) -> Dataset {
    Dataset::new(vec![Column { name: "x".into(), kind }], values).unwrap()
}

fn fit(table: &Dataset, marginals: Marginals, dequantize: Dequantize) -> Scaling {
    let rows: Vec<usize> = (0..table.rows()).collect();
    Scaling::fit(table, &rows, &ScalingOptions { marginals, dequantize, ..Default::default() })
        .unwrap()
}

/// A skew, heavy-tailed sample with an atom at 0 and an outlier: exponentials of a lattice of
/// normal-like values.
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
        scaling.forward_f64(&table.values(), || 0.0, &mut out, &mut jacobian);
        let n = out.len() as f64;
        let mean = out.iter().sum::<f64>() / n;
        let variance = out.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
        assert!(mean.abs() < 1e-9 && (variance - 1.0).abs() < 1e-9, "{mean} {variance}");
        let worst = out.iter().fold(0.0_f64, |a, v| a.max(v.abs()));
        assert!(
            marginals == Marginals::Standardize || worst < 6.0,
            "the outlier is tamed: {worst}"
        );
    }
}

#[test]
fn a_gaussianized_skew_sample_is_nearly_normal() {
    let values = (0..20_000).map(|i| -((f64::from(i) + 0.5) / 20_000.0).ln() as f32).collect();
    let table = table(ColumnKind::Float, values);
    let scaling = fit(&table, Marginals::Gaussianize, Dequantize::None);
    let mut out = Vec::new();
    scaling.forward(&table.values(), || 0.0, &mut out);
    let moment = |k| out.iter().map(|v| f64::from(*v).powi(k)).sum::<f64>() / out.len() as f64;
    // The third and fourth moments of the standard normal distribution are 0 and 3.
    assert!(moment(3).abs() < 0.02 && (moment(4) - 3.0).abs() < 0.1, "{} {}", moment(3), moment(4));
}

#[test]
fn a_density_stays_normalised_under_the_change_of_variables() {
    let table = table(ColumnKind::Float, awkward());
    for marginals in [Marginals::Standardize, Marginals::Gaussianize] {
        let scaling = fit(&table, marginals, Dequantize::None);
        // ∫ φ(f(x)) f'(x) dx over a grid of preimages, by the trapezoidal rule: every cell fine in
        // either unit.
        let edges: Vec<f64> =
            (0..=400_000).map(|i| -8.0 + 16.0 * f64::from(i) / 400_000.0).collect();
        let x = scaling.inverse_unrounded(&edges);
        let jacobian = scaling.log_jacobian(&x);
        let density: Vec<f64> = edges
            .iter()
            .zip(&jacobian)
            .map(|(y, j)| (j - y * y / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt())
            .collect();
        let area: f64 =
            (1..x.len()).map(|i| (x[i] - x[i - 1]) * (density[i] + density[i - 1]) / 2.0).sum();
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
    let grid =
        table(ColumnKind::Float, (0..500).map(|i| 3.05 + 0.01 * (i * 37 % 1000) as f32).collect());
    let wanted = Dequantize::Columns(vec!["x".into()]);
    let scaling = fit(&grid, Marginals::Standardize, wanted.clone());
    assert!((scaling.columns()[0].grid.unwrap().bin - 0.01).abs() < 1e-9);
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
        assert!(
            Scaling::fit(&table, &[0, 2], &ScalingOptions { knots: 1, ..options.clone() }).is_err()
        );
        assert!(Scaling::fit(&table, &[0, 1], &ScalingOptions { floor: 0.1, ..options }).is_ok());
    }
}

#[test]
fn it_survives_json_and_damage_there_is_an_error() {
    let table = table(ColumnKind::Float, awkward());
    let scaling = fit(&table, Marginals::Gaussianize, Dequantize::None);
    let json = serde_json::to_string(&scaling).unwrap();
    assert_eq!(serde_json::from_str::<Scaling>(&json).unwrap(), scaling);
    assert!(
        serde_json::from_str::<Scaling>(&json.replacen("\"slope\":[", "\"slope\":[-1.0,", 1))
            .is_err()
    );
}

/// The value at rank `i` of `n` of the normal distribution, to 2e-3 (Winitzki).
fn normal(i: usize, n: usize) -> f64 {
    let x = 2.0 * (i as f64 + 0.5) / n as f64 - 1.0;
    let l = (1.0 - x * x).ln();
    let a = 2.0 / (std::f64::consts::PI * 0.147) + l / 2.0;
    std::f64::consts::SQRT_2 * x.signum() * ((a * a - l / 0.147).sqrt() - a).sqrt()
}

/// What `Marginals::Auto` chooses for values given by rank, taken in another order.
fn choice(kind: ColumnKind, n: usize, of_rank: impl Fn(usize) -> f64) -> MarginalChoice {
    let values = (0..n).map(|i| of_rank(i * 617 % n) as f32).collect();
    let table = table(kind, values);
    let dequantize =
        if kind == ColumnKind::Integer { Dequantize::Integers } else { Dequantize::None };
    let rows: Vec<usize> = (0..n).collect();
    let options = ScalingOptions { dequantize, ..ScalingOptions::default() };
    assert_eq!(options.marginals, Marginals::Auto);
    let (scaling, mut choices) = Scaling::choose(&table, &rows, &options).unwrap();
    let choice = choices.remove(0);
    let spline = matches!(scaling.columns()[0].map, ColumnScaling::Gaussianize(_));
    assert_eq!(spline, choice.marginals == Marginals::Gaussianize);
    let given = fit(&table, choice.marginals, options.dequantize.clone());
    assert_eq!(scaling, given, "the maps are those of the marginals chosen");
    choice
}

/// A column in which every third whole number is missing is gaussianised for that reason; the same
/// column without gaps is standardised.
#[test]
fn auto_gaussianizes_what_leaves_out_levels() {
    let of = |skip: bool| {
        choice(ColumnKind::Integer, 3000, |i| {
            let level = (45.0 + 12.0 * normal(i, 3000)).round();
            if skip { level + (level / 2.0).floor() } else { level }
        })
    };
    let (gaps, none) = (of(true), of(false));
    assert!(gaps.left_out && gaps.marginals == Marginals::Gaussianize, "{gaps:?}");
    assert!(gaps.gain.is_some_and(|gain| gain > 0.25), "ln 1.5 less what is smoothed: {gaps:?}");
    assert!(gaps.reason().ends_with("levels left out"), "{}", gaps.reason());
    assert!(!none.left_out && none.marginals == Marginals::Standardize, "{none:?}");
}

/// A uniform column on a grid has an edge at both ends: ½ ln (2πe/12) = .176 nats less what is
/// smoothed, and next to no mass outside.
#[test]
fn auto_gaussianizes_what_has_an_edge_at_both_ends() {
    let hours = choice(ColumnKind::Integer, 2400, |i| (i % 24) as f64);
    assert!(hours.both_edges && hours.marginals == Marginals::Gaussianize, "{hours:?}");
    assert!((hours.gain.unwrap() - 0.176).abs() < 0.03, "{hours:?}");
    assert!(hours.reason().ends_with("an edge at both ends"), "{}", hours.reason());
    let normal = choice(ColumnKind::Integer, 2000, |i| (9.0 * normal(i, 2000)).round());
    assert!(!normal.both_edges && normal.marginals == Marginals::Standardize, "{normal:?}");
}

/// Hours of which four in five are multiples of 5 are gaussianised for that: a smooth density
/// misses ln 5 · 0.8 + ln (5/4 · 0.2) · 0.2 nats less what is smoothed. A column of which every level has
/// what a smooth density gives it is not.
#[test]
fn auto_gaussianizes_uneven_levels() {
    let of = |uneven: bool| {
        choice(ColumnKind::Integer, 4000, |i| {
            let hours = 50.0 + 10.0 * normal(i, 4000);
            if uneven && i % 5 > 0 { (hours / 5.0).round() * 5.0 } else { hours.round() }
        })
    };
    let (uneven, even) = (of(true), of(false));
    assert!(uneven.uneven && uneven.marginals == Marginals::Gaussianize, "{uneven:?}");
    assert!(uneven.gain.is_some_and(|gain| gain > 0.5), "{uneven:?}");
    assert!(uneven.reason().ends_with("uneven levels"), "{}", uneven.reason());
    assert!(!even.uneven && even.marginals == Marginals::Standardize, "{even:?}");
}

/// A normal column of whole numbers that is cut off at .8 deviations below its mean is gaussianised
/// although it gains less than .2 nats, so that samples end where it does; one of real numbers is
/// not.
#[test]
fn auto_gaussianizes_what_is_cut_off() {
    let of = |kind, unit: f64| {
        choice(kind, 4000, |i| {
            // ranks above the cut's share, 21.2 %
            (unit * normal(848 + i * 3152 / 4000, 4000)).round()
        })
    };
    let cut = of(ColumnKind::Integer, 12.0);
    assert!(cut.cut_off && cut.marginals == Marginals::Gaussianize, "{cut:?}");
    let float = of(ColumnKind::Float, 1e5);
    assert!(!float.cut_off && float.marginals == Marginals::Standardize, "{float:?}");
    assert!(cut.gain.is_some_and(|gain| gain < 0.2), "{cut:?}");
    assert!(cut.reason().ends_with("cut off at an end"), "{}", cut.reason());
}

#[test]
fn auto_gaussianizes_tails_and_edges_and_leaves_the_rest() {
    const N: usize = 2000;
    let u = |i: usize| (i as f64 + 0.5) / N as f64;
    let float = |of_rank: &dyn Fn(usize) -> f64| choice(ColumnKind::Float, N, of_rank);
    // gains in nats: differential entropies against the normal density of the same variance
    let exponential = float(&|i| -u(i).ln());
    assert_eq!(exponential.marginals, Marginals::Gaussianize);
    assert!((exponential.gain.unwrap() - 0.419).abs() < 0.05, "{exponential:?}"); // ½ ln 2πe − 1
    let log_normal = float(&|i| normal(i, N).exp());
    assert_eq!(log_normal.marginals, Marginals::Gaussianize);
    let cauchy = float(&|i| (std::f64::consts::PI * (u(i) - 0.5)).tan());
    assert!(
        cauchy.marginals == Marginals::Gaussianize && cauchy.long_tail && !cauchy.edge,
        "{cauchy:?}"
    );
    // two fill values, whichever half of the rows they are in; a map that was fitted without them
    // does not decide
    for at in [[3, 4], [3, 5], [700, 701]] {
        let filled = float(&|i| if at.contains(&i) { 1e7 } else { normal(i, N) });
        assert!(filled.marginals == Marginals::Gaussianize && filled.long_tail, "{filled:?}");
    }
    let both_ends = float(&|i| (std::f64::consts::FRAC_PI_2 * u(i)).sin().powi(2));
    assert!(
        both_ends.marginals == Marginals::Gaussianize && both_ends.edge && !both_ends.long_tail
    );

    for (name, left) in [
        ("normal", float(&|i| normal(i, N))),
        ("uniform", float(&u)), // ½ ln(2πe/12) = 0.176 nats
        ("a tenth larger", float(&|i| normal(i, N) * if i % 10 == 0 { 1.3 } else { 1.0 })),
        (
            "two peaks",
            float(&|i| normal(i % (N / 2), N / 2) + if i < N / 2 { -10.0 } else { 10.0 }),
        ),
        ("shifted far", float(&|i| 1000.0 + normal(i, N))),
    ] {
        assert_eq!(left.marginals, Marginals::Standardize, "{name}: {left:?}");
    }
    // counts with a long tail, dequantised: geometric with mean 4
    let counts = choice(ColumnKind::Integer, N, |i| (u(i).ln() / 0.8_f64.ln()).floor());
    assert_eq!(counts.marginals, Marginals::Gaussianize, "{counts:?}");
    let sums = choice(ColumnKind::Integer, N, |i| (50.0 + 7.0 * normal(i, N)).round());
    assert_eq!(sums.marginals, Marginals::Standardize, "{sums:?}");
}

/// What is compared are densities, which atoms have none of; and only where there are enough rows.
#[test]
fn auto_ignores_atoms_and_does_not_judge_on_a_few_rows() {
    const N: usize = 1000;
    // 0 in a tenth of the rows, else normal around 5: what counts is the density of the others
    let inflated =
        choice(ColumnKind::Float, N, |i| if i < N / 10 { 0.0 } else { 5.0 + normal(i, N) });
    assert!(inflated.gain.unwrap() < 0.4, "{inflated:?}");
    let binary = choice(ColumnKind::Float, N, |i| (i % 2) as f64);
    assert!(binary.marginals == Marginals::Standardize && binary.gain.is_none(), "{binary:?}");
    assert!(binary.reason().contains("too few"), "{}", binary.reason());
    for n in [2, 3, 5, 11, 39] {
        let few = choice(ColumnKind::Float, n, |i| (i as f64).exp());
        assert!(few.marginals == Marginals::Standardize && few.gain.is_none(), "{few:?}");
    }
}

/// A value may be as far off as single precision goes: its image is finite or infinite and its
/// log-derivative finite, never NaN; and an infinite scaled value comes back as an infinite one.
#[test]
fn extreme_values_give_no_nan() {
    let far =
        [1e30, -1e30, f32::MAX, f32::MIN, f32::INFINITY, f32::NEG_INFINITY, f32::MIN_POSITIVE, 0.0];
    let tables = [
        awkward(),
        vec![1.0, 2.0],
        vec![0.0, f32::from_bits(1), f32::from_bits(2), f32::from_bits(40)],
        (0..200_u8).map(f32::from).chain([f32::MAX]).collect(),
        std::iter::repeat_n(3.0, 500).chain([4.0, 1e7, 1e7, -1e7]).collect(),
    ];
    for values in tables {
        let table = table(ColumnKind::Float, values);
        for marginals in [Marginals::Auto, Marginals::Standardize, Marginals::Gaussianize] {
            let scaling = fit(&table, marginals, Dequantize::None);
            let (mut out, mut jacobian) = (Vec::new(), Vec::new());
            scaling.forward_f64(&far, || 0.0, &mut out, &mut jacobian);
            assert!(out.iter().all(|v| !v.is_nan()), "{marginals:?}: {out:?}");
            assert!(jacobian.iter().all(|v| v.is_finite()), "{marginals:?}: {jacobian:?}");
            assert!(out[4] == f64::INFINITY && out[5] == f64::NEG_INFINITY, "{out:?}");
            assert!(
                out[0] > out[7] && out[7] > out[1] && out[2] >= out[0] && out[3] <= out[1],
                "{out:?}"
            );
            let back = scaling.inverse(&[f64::INFINITY, f64::NEG_INFINITY]);
            assert_eq!(back, [f64::INFINITY, f64::NEG_INFINITY]);
            let mut single = Vec::new();
            scaling.forward(&far, || 0.0, &mut single);
            assert!(single.iter().all(|v| !v.is_nan()), "{marginals:?}: {single:?}");
        }
    }
}

/// A scaling that no fit can give is refused where it is read: later it would be NaN in every
/// likelihood.
#[test]
fn a_damaged_scaling_is_refused() {
    let column = r#""column":{"name":"x","kind":"float"}"#;
    let of = |grid: &str, map: &str| {
        format!(r#"{{"columns":[{{{column},"grid":{grid},"map":{map}}}]}}"#)
    };
    let affine = |scale: &str| format!(r#"{{"affine":{{"shift":1.0,"scale":{scale}}}}}"#);
    let spline = |x: &str| {
        format!(r#"{{"gaussianize":{{"x":[{x}],"y":[-1.0,0.0,1.0],"slope":[1.0,1.0,1.0]}}}}"#)
    };
    let read = |text: &str| serde_json::from_str::<Scaling>(text);
    read(&of("null", &affine("2.0"))).unwrap();
    read(&of(r#"{"bin":0.5,"origin":0.0}"#, &spline("0.0,1.0,2.0"))).unwrap();
    for text in [
        of("null", &affine("0.0")),
        of("null", &affine("-1.0")),
        of("null", &affine("1e-320")),
        of(r#"{"bin":0.0,"origin":0.0}"#, &affine("2.0")),
        of(r#"{"bin":-1.0,"origin":0.0}"#, &affine("2.0")),
        of("null", &spline("0.0,0.0,2.0")),
        of("null", &spline("0.0,1e-300,2.0")),
        of("null", &spline("-1e308,0.0,1e308")),
        r#"{"columns":[]}"#.into(),
    ] {
        assert!(read(&text).is_err(), "{text}");
    }
    let message = read(&of("null", &affine("0.0"))).unwrap_err().to_string();
    assert!(message.contains("`x`"), "{message}");
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
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn maps_increase_invert_and_have_their_derivative(
        values in column(),
        gaussianize: bool,
        y in prop::collection::vec(-6.0..6.0_f64, 20),
    ) {
        let table = table(ColumnKind::Float, values.clone());
        let marginals = if gaussianize { Marginals::Gaussianize } else { Marginals::Standardize };
        let scaling = fit(&table, marginals, Dequantize::None);
        let map = &scaling.columns()[0].map;

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
            let rounding = 4.0 * derivative * f64::EPSILON * x.abs();
            prop_assert!((again - y).abs() <= 1e-9 + rounding, "{} came back as {}", y, again);
            let h = 1e-4 / derivative.max(1e-300);
            let h = h.max(1e-7 * x.abs());
            let difference = (map.forward(x + h).0 - map.forward(x - h).0) / (2.0 * h);
            // Within h the slope lies between its values at both ends, up to the bend between them.
            let ends = [map.forward(x - h).1, map.forward(x + h).1, derivative];
            let low = ends.iter().copied().fold(f64::MAX, f64::min);
            let high = ends.iter().copied().fold(0.0, f64::max);
            let inside = difference >= low * 0.9 && difference <= high * 1.1;
            prop_assert!(inside, "{} outside {}..{}", difference, low, high);
            prop_assert!((scaling.log_jacobian(&[x])[0] - derivative.ln()).abs() < 1e-12);
        }
    }
}
