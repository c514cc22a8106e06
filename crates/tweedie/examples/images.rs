//! From images to bits per dimension and samples.
//!
//!     cargo run --release --example images [IMAGES]
//!
//! `IMAGES` is whatever the library reads: IDX, CIFAR-10's batches, NPY, NPZ or a folder of
//! pictures.

use tweedie::prelude::*;

const SIDE: usize = 8;

/// Bright discs on black, somewhere in pictures of 8 × 8 pixels.
fn discs(n: usize) -> Result<Dataset> {
    let level = |i: usize, y: usize, x: usize| {
        let centre = |k: usize| 2.0 + (i * k % 40) as f64 / 10.0;
        let distance = (x as f64 - centre(7)).hypot(y as f64 - centre(11));
        (255.0 / (1.0 + (3.0 * (distance - 2.0)).exp())) as u8
    };
    let pixel = |i| move |p| level(i, p / SIDE, p % SIDE);
    let levels = (0..n).flat_map(|i| (0..SIDE * SIDE).map(pixel(i))).collect();
    Dataset::images([1, SIDE, SIDE], levels)
}

fn main() -> Result<()> {
    let data = match std::env::args().nth(1) {
        Some(path) => Dataset::read(path)?,
        None => discs(400)?,
    };
    let (train, test) = data.split(0.95, Seed(0));
    let options = FitOptions::default()
        .set("train.iterations", 150)
        .set("model.network.widths", vec![16, 32])
        .set("model.network.attention", vec![false, false]);
    let density = Density::fit(&train, &options, &mut Silent)?;

    // the first twenty images of the test part
    let first: Vec<usize> = (0..test.rows().min(20)).collect();
    let options = EvaluateOptions { steps: vec![10, 50], ..EvaluateOptions::default() };
    let evaluation = density.evaluate(&test.take(&first), &options)?;
    println!("{}", evaluation.unit());
    for line in evaluation.own() {
        println!("{}: {:.3} ± {:.3}", line.subject, line.value, line.error);
    }

    let samples = density.sample(3, &SampleOptions { steps: 20, ..SampleOptions::default() })?;
    let [_, height, width] = samples.image.expect("images");
    let shade = |level: &f64| [' ', '░', '▒', '▓', '█'][(level / 52.0).clamp(0.0, 4.0) as usize];
    for image in samples.values.chunks(height * width) {
        println!("{}", "─".repeat(width));
        for line in image.chunks(width) {
            println!("{}", line.iter().map(shade).collect::<String>());
        }
    }
    Ok(())
}
