//! Every kind of chart and a whole page, of made-up numbers, written into a folder: for looking at.

use std::path::PathBuf;

use tweedie_report::plot::{
    DensityChart, Histogram, LineChart, Mark, PairGrid, Scale, Series, Style,
};
use tweedie_report::report::{Made, MetricPoint, ReportInputs, Scores, html, verdict};

/// A linear congruential generator; sums of twelve uniforms stand for normal numbers.
struct Random(u64);

impl Random {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as f64 / (1u64 << 31) as f64
    }

    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "gallery".into()));
    std::fs::create_dir_all(&dir)?;
    let mut r = Random(1);
    let k = vec![5.0, 10.0, 20.0, 50.0, 100.0, 200.0];
    let bound = |top: f64, slope: f64| -> Vec<f64> { k.iter().map(|k| top - slope / k).collect() };
    let steps = vec![
        Series::line("own", k.clone(), bound(-1.2, 2.0)).with_error(vec![0.03; 6]),
        Series::line("beta", k.clone(), bound(-1.2, 9.0)).with_error(vec![0.04; 6]),
        Series::line("beta-tilde", k.clone(), bound(-1.3, 30.0)).with_error(vec![0.05; 6]),
        Series::line("zero-hessian", k.clone(), bound(-1.25, 14.0)).with_error(vec![0.05; 6]),
    ];
    let x: Vec<f64> = (0..60).map(|i| 0.01 * 1.15f64.powi(i)).collect();
    let many = |a: f64| x.iter().map(|x| a * x.powf(-0.5) + 1e-4).collect::<Vec<f64>>();
    let mut broken = many(3.0);
    broken[20] = f64::NAN;
    broken[30] = -1.0;
    let lines = LineChart {
        title: "Error of the estimate against cost, nine components".into(),
        x_label: "network evaluations per row".into(),
        y_label: "size of the mean error, nats, ± s.e.".into(),
        x_scale: Scale::Log,
        y_scale: Scale::Log,
        series: vec![
            Series::line("ELBO, angle grid", x.clone(), many(1.0)).with_error(many(0.2)),
            Series::line("ODE, Rademacher probes", x.clone(), broken).style(Style::Dashed),
            Series::line(
                "raw",
                x.clone(),
                many(10.0).iter().map(|y| y * (1.0 + 0.3 * r.normal())).collect(),
            )
            .style(Style::Faint),
            Series::points("Theorem 3", vec![0.1, 1.0, 10.0], vec![0.3, 0.1, 0.03])
                .with_error(vec![0.05; 3]),
        ],
        ..Default::default()
    };
    let two = |r: &mut Random, n: usize| -> Vec<f64> {
        (0..n)
            .map(|i| if i % 3 == 0 { -3.0 + 0.5 * r.normal() } else { 2.0 + r.normal() })
            .collect()
    };
    let pdf = |x: f64, m: f64, s: f64| (-0.5 * ((x - m) / s).powi(2)).exp() / (s * 2.5066);
    let density = DensityChart {
        title: "The mixture and samples of its model".into(),
        x_label: "x".into(),
        samples: vec![
            ("20 steps".into(), two(&mut r, 800)),
            ("200 steps".into(), two(&mut r, 800)),
        ],
        marks: vec![Mark::new("mean", 0.33)],
        ..Default::default()
    }
    .exact("exact density", (-6.0, 7.0), |x| {
        pdf(x, -3.0, 0.5) / 3.0 + pdf(x, 2.0, 1.0) * 2.0 / 3.0
    });
    let histogram = Histogram {
        title: "Two samples".into(),
        x_label: "log-likelihood, nats per row".into(),
        samples: vec![
            ("ELBO, K = 100".into(), two(&mut r, 900)),
            ("probability-flow ODE".into(), two(&mut r, 900)),
        ],
        marks: vec![
            Mark::new("the model's base", -2.5),
            Mark::new("Gaussian, full covariance", -2.2),
            Mark::new("far", 90.0),
        ],
        ..Default::default()
    };
    let names: Vec<String> =
        ["fixed acidity", "volatile acidity", "pH", "alcohol", "a rather long name of a column"]
            .map(String::from)
            .to_vec();
    let rows = |r: &mut Random, wrong: f64| -> Vec<f32> {
        (0..900)
            .flat_map(|_| {
                let (a, b, c) = (r.normal(), r.normal(), r.normal());
                [a, 0.8 * a + 0.6 * b + wrong, (c + wrong).exp(), 100.0 * (a * c), b * b]
                    .map(|v| v as f32)
            })
            .collect()
    };
    let (data, samples) = (rows(&mut r, 0.0), rows(&mut r, 0.4));
    let pairs = PairGrid {
        title: "Pairs".into(),
        names: names.clone(),
        sets: vec![("data".into(), data.clone()), ("samples".into(), samples.clone())],
        max_columns: 0,
    };
    let svgs = [
        (
            "steps",
            LineChart {
                title: "Likelihood against steps".into(),
                x_label: "number of steps K".into(),
                y_label: "log-likelihood, nats per row".into(),
                x_scale: Scale::Log,
                series: steps.clone(),
                ..Default::default()
            }
            .to_svg(816, 400),
        ),
        ("lines", lines.to_svg(760, 480)),
        ("density", density.to_svg(760, 420)),
        ("histogram", histogram.to_svg(816, 340)),
        ("pairs", pairs.to_svg(816)),
    ];
    for (name, svg) in svgs {
        println!("{name}: {} bytes", svg.len());
        std::fs::write(dir.join(format!("{name}.svg")), svg)?;
    }
    let elbo = Scores { name: "ELBO, K = 100".into(), values: two(&mut r, 400) };
    let base = Scores {
        name: "the model's base".into(),
        values: elbo.values.iter().map(|v| v - 0.4 + 0.2 * r.normal()).collect(),
    };
    let losses = (1..=300).map(|i| {
        let loss = 3.0 + 20.0 / i as f64 + 0.3 * r.normal();
        MetricPoint {
            iteration: 10 * i,
            train_loss: loss,
            train_loss_ema: Some(3.0 + 20.0 / i as f64),
            validation: (i % 10 == 0).then(|| -4.0 - 30.0 / i as f64 + 0.05 * r.normal()),
        }
    });
    let page = html(&ReportInputs {
        title: "tweedie: wine.csv".into(),
        made: Made { name: "wine".into(), date: "2026-01-31T12:00:00Z".into(), version: "0.1.0".into(), seed: Some(1), command: "tweedie report runs/wine --seed 1".into() },
        verdict: verdict(&elbo, std::slice::from_ref(&base), "nats per row", false),
        remarks: vec!["Column `quality` has 7 distinct values.".into()],
        summary: vec![("test rows".into(), "400 of 1,599".into())],
        about: vec![("parameters".into(), "12,345".into())],
        config_toml: "[model]\nwidth = 128\n".into(),
        losses: losses.collect(),
        loss_label: "loss of Likelihood Matching, in its own units".into(),
        validation_label: "lower bound on the log-likelihood of held-out rows, nats per row in the network's units".into(),
        kept_iteration: Some(2600),
        column_names: names,
        data,
        samples,
        sample_label: "samples in 50 steps".into(),
        scores: vec![elbo],
        baselines: vec![base],
        likelihood_vs_steps: steps,
        flags: vec!["beta-tilde: 3 rows are not finite.".into()],
        notes: vec!["The ELBO with K steps is a bound.".into()],
        ..Default::default()
    });
    println!("page: {} bytes", page.len());
    std::fs::write(dir.join("page.html"), page)?;
    Ok(())
}
