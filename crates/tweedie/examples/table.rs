//! From a table to log-likelihoods and samples.
//!
//!     cargo run --release --example table [TABLE.csv]

use tweedie::prelude::*;

/// Weights that grow with heights, in two groups.
fn table() -> Result<Dataset> {
    let mixture = tweedie::oracle::GaussianMixture::new(
        &[0.6, 0.4],
        &[[165.0, 62.0], [178.0, 80.0]],
        &[6.0, 8.0],
    )?;
    let rows = mixture.sample(1000, Seed(1));
    let column = |k| Values::Double(Vec::try_from(rows.select(1, k).contiguous()).expect("f64"));
    Dataset::of_columns(vec![("height".into(), column(0)), ("weight".into(), column(1))])
}

fn main() -> Result<()> {
    let data = match std::env::args().nth(1) {
        Some(path) => Dataset::read(path)?,
        None => table()?,
    };
    let (train, test) = data.split(0.9, Seed(0));
    let options = FitOptions::default().set("train.max_seconds", 10.0);
    let density = Density::fit(&train, &options, &mut Silent)?;

    let scores = density.log_prob(&test, &ScoreOptions::default())?;
    let (mean, error) = (scores.mean(), scores.std_error());
    println!("{mean:.3} ± {error:.3} nats per row ({})", scores.claim());
    for &row in scores.least_likely().iter().take(3) {
        println!("row {row}: {:.3} nats, {:?}", scores.values()[row], test.row(row));
    }
    // under several covariances and step counts, beside simple densities
    let options = EvaluateOptions { metrics: vec![Metric::Nll], ode: false, ..Default::default() };
    let evaluation = density.evaluate(&test, &options)?;
    for line in evaluation.own() {
        println!("{}: {:.3} ± {:.3}", line.subject, line.value, line.error);
    }
    let samples = density.sample(5, &SampleOptions { steps: 20, ..SampleOptions::default() })?;
    print!("{}", samples.tensor().to_string(80).expect("numbers"));
    Ok(())
}
