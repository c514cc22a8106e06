//! The page as a reader's browser gets it.

use super::*;

/// Fails where a page is not well-formed or asks for something outside itself.
fn check(page: &str) {
    let body = page.strip_prefix("<!DOCTYPE html>").expect("a doctype");
    let counts = crate::plot::elements(body);
    assert!(!counts.contains_key("script") && !counts.contains_key("link"));
    let outside = page.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
    assert!(!outside.contains("http") && !outside.contains("url("), "the page is self-contained");
}

fn full() -> ReportInputs {
    let rows: Vec<f32> = (0..400).flat_map(|i| [i as f32, ((i * 37) % 101) as f32]).collect();
    let steps = vec![10.0, 100.0, 1000.0];
    ReportInputs {
        title: "wine & <others>".into(),
        summary: vec![("test <nll>".into(), "1.20 ± 0.03 \"nats\"".into())],
        config_toml: "[model]\nname = \"<mlp>\"\n".into(),
        losses: (1..200)
            .map(|i| MetricPoint {
                iteration: i,
                train_loss: if i == 7 { f64::NAN } else { 1.0 / i as f64 },
                validation: (i % 10 == 0).then_some(1.1 / i as f64),
            })
            .collect(),
        column_names: vec!["a<b".into(), "c&d".into()],
        data: rows.clone(),
        samples: rows,
        scores: vec![Scores {
            name: "ELBO <K>".into(),
            values: vec![-1.0, -2.0, f64::NEG_INFINITY, -1.5],
        }],
        baselines: vec![Scores { name: "one Gaussian & co".into(), values: vec![-2.2; 4] }],
        likelihood_vs_steps: vec![
            Series::line("learned <G>", steps.clone(), vec![-1.5, -1.2, -1.1])
                .with_error(vec![0.1; 3]),
        ],
        sheets: vec![("digits <8×8>".into(), vec![1, 2, 3])],
        flags: vec!["3 values < floor".into()],
        notes: vec!["a & b".into()],
        ..Default::default()
    }
}

#[test]
fn an_empty_report_is_a_page() {
    let page = html(&ReportInputs::default());
    check(&page);
    assert!(!page.contains("<h2>"));
}

#[test]
fn a_full_report_is_well_formed_escaped_and_self_contained() {
    let page = html(&full());
    check(&page);
    for text in [
        "wine &amp; &lt;others&gt;",
        "&quot;nats&quot;",
        "&lt;mlp&gt;",
        "c&amp;d",
        "3 values &lt; floor",
    ] {
        assert!(page.contains(text), "{text}");
    }
    assert!(page.contains("data:image/png;base64,AQID"));
    assert_eq!(page.matches("<h2>").count(), 8);
    // Every figure has its caption; the loss and the validation, of unlike units, have a figure
    // each.
    assert_eq!(page.matches("<figure>").count(), 6);
    assert_eq!(page.matches("<figcaption>").count(), 6);
}

#[test]
fn categories_are_bars_and_quality_is_as_it_is_printed() {
    let names: Vec<String> = (0..14).map(|i| format!("<{i}>")).collect();
    let data: Vec<usize> = (0..14).map(|i| 100 - i).collect();
    let of = Shares { column: "kind & kin".into(), names, samples: data.clone(), data };
    let two = Shares {
        column: "two".into(),
        names: vec!["yes".into(), "(missing)".into()],
        data: vec![6, 2],
        samples: vec![8, 0],
    };
    let inputs = ReportInputs {
        categories: vec![of, two],
        quality: vec!["Shape 0.98".into()],
        ..Default::default()
    };
    let page = html(&inputs);
    check(&page);
    for part in ["kind &amp; kin", "3 others", "distance 0.000", "distance 0.250", "Shape 0.98"] {
        assert!(page.contains(part), "{part}");
    }
    assert!(page.contains("&lt;10&gt;") && !page.contains("&lt;11&gt;"));
}

#[test]
fn anomalies_are_listed_with_their_cells() {
    let cells = vec![("a<b".to_owned(), "7.5".to_owned(), -9.26), ("c".into(), "x&y".into(), -0.4)];
    let anomalies = vec![Anomaly { row: 17, score: -12.345, cells }];
    let page = html(&ReportInputs { anomalies, ..Default::default() });
    check(&page);
    for part in ["<td>17</td><td>−12.35</td>", "a&lt;b = 7.5 (−9.3), c = x&amp;y (−0.4)"] {
        assert!(page.contains(part), "{part}");
    }
}

#[test]
fn what_is_not_finite_is_counted_in_figure_and_table() {
    let page = html(&full());
    assert!(page.contains("Values not shown: 1 not finite."));
    // The ELBO's row: three rows used, one left out; their mean is −1.5 and s.d. 0.5.
    assert!(page.contains("<td>−1.50 ± 0.29</td><td>0.50</td>"), "the table of scores");
    assert!(page.contains("<td>3</td><td>1</td></tr>"));
}

#[test]
fn a_table_of_many_columns_folds_away() {
    let columns = 40;
    let inputs = ReportInputs {
        column_names: (0..columns).map(|i| format!("x{i}")).collect(),
        data: vec![0.5; columns * 3],
        samples: vec![0.5; columns * 3],
        ..Default::default()
    };
    let page = html(&inputs);
    check(&page);
    assert!(page.contains("All 40 columns") && page.contains("6 of 40 columns"));
}

#[test]
fn parts_that_are_not_finite_do_not_stop_the_page() {
    let mut inputs = full();
    inputs.data.iter_mut().for_each(|v| *v = f32::NAN);
    inputs.scores[0].values = vec![f64::NAN; 4];
    inputs.likelihood_vs_steps[0].y = vec![f64::NAN; 3];
    inputs.losses.iter_mut().for_each(|m| m.train_loss = f64::INFINITY);
    check(&html(&inputs));
}

/// Where the covariances are far apart, as H = 0 and β̃ are from a learned one.
fn far_apart(sign: f64) -> ReportInputs {
    let steps = vec![5.0, 25.0, 100.0];
    let series = |name: &str, y: [f64; 3]| {
        Series::line(name, steps.clone(), y.map(|v| sign * v).to_vec()).with_error(vec![0.1; 3])
    };
    ReportInputs {
        likelihood_vs_steps: vec![
            series("learned", [-9.0, -8.4, -8.2]),
            series("beta", [-10.0, -8.6, -8.3]),
            series("beta-tilde", [-8e5, -3e4, -300.0]),
            series("zero-hessian", [-60.0, -34.0, -9.1]),
        ],
        lower_is_better: sign < 0.0,
        ..Default::default()
    }
}

/// The pixel between two ticks of the y axis is worth little where the good covariances are, in
/// both directions.
#[test]
fn a_bad_covariance_does_not_set_the_scale_of_the_plot() {
    for sign in [1.0, -1.0] {
        let inputs = far_apart(sign);
        let page = html(&inputs);
        check(&page);
        let (svg, rest) = page.split_once("<figcaption>").unwrap();
        // ticks in steps of a nat or less, so none of the far ones
        for far in ["20", "30", "40", "60"] {
            let minus = if sign > 0.0 { "−" } else { "" };
            assert!(!svg.contains(&format!(">{minus}{far}</text>")), "{far}: {svg}");
        }
        // a legend's entry has a line: what lies outside throughout is named below
        assert!(svg.contains("zero-hessian") && !svg.contains("beta-tilde"), "{svg}");
        let caption = rest.split_once("</figcaption>").unwrap().0;
        assert!(caption.contains("beta-tilde lies outside it throughout, from"), "{caption}");
        assert!(svg.contains("Values not shown: 2 outside the axes."), "{svg}");
        // and every value is in the table
        assert!(rest.contains("zero-hessian") && rest.contains("60.00 ± 0.10"), "{rest}");
    }
}

#[test]
fn near_covariances_are_all_shown() {
    let mut inputs = far_apart(1.0);
    inputs.likelihood_vs_steps.truncate(2);
    let page = html(&inputs);
    assert!(!page.contains("outside"), "{page}");
}

/// The loss is of the objective's units and may fall as the bound falls: two axes, and a caption
/// that says what is kept.
#[test]
fn loss_and_validation_have_an_axis_each() {
    let point = |iteration, train_loss, validation| MetricPoint {
        iteration,
        train_loss,
        validation: Some(validation),
    };
    let mut inputs = ReportInputs {
        losses: vec![point(100, -3.0, -14.0), point(200, -4.0, -12.5), point(300, -5.0, -13.0)],
        loss_label: "loss of Likelihood Matching".into(),
        validation_label: "bound, nats per row in the network's units".into(),
        kept_iteration: Some(200),
        ..Default::default()
    };
    let page = html(&inputs);
    check(&page);
    let (loss, validation) = page.split_once("</figure>").unwrap();
    assert!(
        loss.contains("loss of Likelihood Matching") && !loss.contains(">validation<"),
        "{loss}"
    );
    let ticks = |svg: &str, size: &str| {
        let label = |part: &str| part.split_once('>').map(|(_, rest)| rest.to_string());
        svg.split("</text>")
            .filter_map(|text| label(text.rsplit_once(size)?.1))
            .collect::<Vec<String>>()
    };
    let (of_loss, of_validation) =
        (ticks(loss, "font-size=\"11\""), ticks(validation, "font-size=\"11\""));
    assert!(
        of_loss.contains(&"−4".to_string()) && !of_loss.contains(&"−13.0".to_string()),
        "{of_loss:?}"
    );
    assert!(of_validation.contains(&"−13.0".to_string()), "{of_validation:?}");
    assert!(validation.contains("nats per row in the network"));
    assert!(
        validation.contains("The best is −12.5 at iteration 200; at the last, 300, it was −13.")
    );
    assert!(validation.contains("The run keeps the weights of iteration 200."));
    assert!(!page.contains("overfitting"));
    // bits: less is better
    inputs.lower_validation_is_better = true;
    assert!(html(&inputs).contains("The best is −14 at iteration 100"));
}

/// Text that a table's cell cannot break would push figures off the page.
#[test]
fn a_long_estimator_name_can_break() {
    assert!(
        include_str!("style.css").contains("table.named td:first-child { white-space: normal;")
    );
    let page = html(&full());
    assert!(page.contains("<table class=\"named\">"));
}

/// Six of ten columns, among them those that are wrong.
#[test]
fn the_pairs_are_of_the_columns_that_differ_most() {
    let rows = 300;
    let value = |row: usize, column: usize| ((row * (31 + 2 * column) + 17 * column) % 101) as f32;
    let data: Vec<f32> = (0..rows).flat_map(|r| (0..10).map(move |c| value(r, c))).collect();
    let mut samples = data.clone();
    samples.chunks_mut(10).for_each(|row| {
        row[8] += 60.0;
        row[9] *= 0.3;
    });
    let names: Vec<String> = (0..10).map(|i| format!("column{i}")).collect();
    let page = html(&ReportInputs { column_names: names, data, samples, ..Default::default() });
    check(&page);
    let pairs = page.split_once("<figcaption>").unwrap().0;
    assert!(pairs.contains("column8") && pairs.contains("column9"), "{pairs}");
    assert!(page.contains("6 of 10 columns: those whose distributions or dependences differ most"));
}

#[test]
fn bits_are_said_to_be_better_where_lower() {
    let page = html(&ReportInputs {
        scores: vec![Scores { name: "ELBO".into(), values: vec![3.0, 4.0] }],
        unit: "bits per dimension".into(),
        lower_is_better: true,
        ..Default::default()
    });
    check(&page);
    assert!(
        page.contains("mass further left is a better fit") && !page.contains("log-likelihood"),
        "{page}"
    );
}

#[test]
fn verdict_and_remarks_stand_before_the_figures() {
    let page = html(&ReportInputs {
        verdict: vec!["better <by> 1".into()],
        remarks: vec!["column a has an atom".into()],
        summary: vec![("test rows".into(), "4".into())],
        about: vec![("command".into(), "tweedie train".into())],
        ..Default::default()
    });
    check(&page);
    let at = |text: &str| page.find(text).unwrap_or_else(|| panic!("{text}"));
    assert!(at("better &lt;by&gt; 1") < at("column a has an atom"));
    assert!(at("column a has an atom") < at("test rows") && at("test rows") < at("tweedie train"));
}
