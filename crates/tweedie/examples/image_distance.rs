//! The Fréchet distance between the first images of two sets, and precision and recall.
//!
//!     cargo run --release --example image_distance -- WEIGHTS DATA SAMPLES [IMAGES]

use std::time::Instant;

use tch::{Device, Tensor};
use tweedie::data::Dataset;
use tweedie::metric::{Extractor, FeatureMoments, frechet_distance, precision_recall};

fn main() -> tweedie::Result<()> {
    tweedie::device::keep_memory();
    tweedie::device::let_threads_sleep();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [weights, data, samples, rest @ ..] = &arguments[..] else {
        eprintln!("usage: image_distance WEIGHTS DATA SAMPLES [IMAGES]");
        std::process::exit(2);
    };
    let most = rest.first().and_then(|n| n.parse().ok()).unwrap_or(usize::MAX);
    let extractor = Extractor::read(weights, Device::Cpu)?;
    let network = extractor.network();
    let look = |path: &String| -> tweedie::Result<Tensor> {
        let table = Dataset::read(path)?;
        let [c, h, w] = table.image().expect("images").map(|n| n as i64);
        let values = &table.values()[..table.rows().min(most) * table.dim()];
        let started = Instant::now();
        let features = extractor.features(&Tensor::from_slice(values).view([-1, c, h, w])).pooled;
        let seconds = started.elapsed().as_secs_f64();
        eprintln!("{path}: {:.1} s per 1000 images", 1000.0 * seconds / features.size()[0] as f64);
        Ok(features)
    };
    let (data, samples) = (look(data)?, look(samples)?);
    let statistics = |rows: &Tensor| {
        let mut moments = FeatureMoments::new(network.dim());
        moments.push(rows);
        moments.statistics(network.name())
    };
    let started = Instant::now();
    let distance = frechet_distance(&statistics(&data)?, &statistics(&samples)?)?;
    println!("{} {distance:.6}", network.distance_name());
    eprintln!("moments and distance: {:.1} s", started.elapsed().as_secs_f64());
    let started = Instant::now();
    println!("{:?}", precision_recall(&data, &samples, 3)?);
    eprintln!("precision and recall: {:.1} s", started.elapsed().as_secs_f64());
    Ok(())
}
