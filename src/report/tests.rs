//! The page as a reader's browser gets it.

use super::*;

/// Fails where a page is not well-formed or asks for something outside itself.
fn check(page: &str) {
    let body = page.strip_prefix("<!DOCTYPE html>\n").expect("a doctype");
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
                train_loss_ema: Some(1.0 / i as f64),
                validation: (i % 10 == 0).then_some(1.1 / i as f64),
            })
            .collect(),
        column_names: vec!["a<b".into(), "c&d".into()],
        data: rows.clone(),
        samples: rows,
        scores: vec![Scores { name: "ELBO <K>".into(), values: vec![-1.0, -2.0, f64::NEG_INFINITY, -1.5] }],
        baselines: vec![("one Gaussian & co".into(), -2.2)],
        likelihood_vs_steps: vec![
            Series::line("learned <G>", steps.clone(), vec![-1.5, -1.2, -1.1]).with_error(vec![0.1; 3]),
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
    for text in
        ["wine &amp; &lt;others&gt;", "&quot;nats&quot;", "&lt;mlp&gt;", "c&amp;d", "3 values &lt; floor"]
    {
        assert!(page.contains(text), "{text}");
    }
    assert!(page.contains("data:image/png;base64,AQID"));
    assert_eq!(page.matches("<h2>").count(), 8);
    // Every figure has its caption.
    assert_eq!(page.matches("<figure>").count(), 5);
    assert_eq!(page.matches("<figcaption>").count(), 5);
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
    assert!(page.contains("All 40 columns") && page.contains("The first 6 of 40 columns."));
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
