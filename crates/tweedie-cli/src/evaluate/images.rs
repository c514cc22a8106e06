//! What `tweedie evaluate` says of images as a network sees them: Fréchet distance, Inception
//! score, precision and recall.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};
use tweedie::covariance::CovarianceConfig;
use tweedie::data::{Dataset, OutputFile, Purpose};
use tweedie::metric::{
    Extractor, FeatureMoments, FeatureStatistics, Features, frechet_distance, inception_score,
    precision_recall,
};
use tweedie::model::Denoiser;
use tweedie::noise::Seed;
use tweedie::run::{DataRecord, Run};
use tweedie::sample::{Ancestral, Clipped, Step, run_chain};
use tweedie::tensor::to_vec;
use tweedie::{Error, Result};

use crate::MOST_ROWS;
use crate::console::{Progress, check_output, say_left_out};
use crate::sample::{ClipNoise, LastName, clipped_json, condition, say_clipped};
use crate::spacing::Grids;

/// How many samples published figures take.
const PROTOCOL: usize = 50_000;
/// Parts of an Inception score.
const SPLITS: usize = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    Distance,
    Score,
    PrecisionRecall,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Images (metrics fd, is and pr)")]
pub struct ImageOptions {
    /// Weights of the network that looks at images, .pth or .safetensors. Two are known by their
    /// tensors: pytorch-fid's Inception-v3 (pt_inception-2015-12-05-6726825d.pth; its distance is
    /// the FID), and EfficientNet-Lite0 (scripts/fetch-efficientnet.sh; its distance is called
    /// FD-EfficientNetLite0)
    #[arg(long = "inception", visible_alias = "features", value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Samples to draw for each number of steps
    #[arg(long, value_name = "N", default_value_t = PROTOCOL)]
    samples: usize,
    /// Allow fewer samples than the 50000 of published figures; a distance from few is too large
    #[arg(long)]
    fewer_samples: bool,
    /// What samples are compared with: images, or statistics (arrays mu and sigma) in an .npz file
    /// [default: all training images of the run]
    #[arg(long, value_name = "STATS.npz|DATA")]
    reference: Option<PathBuf>,
    /// Write the statistics of the reference's features, for --reference
    #[arg(long, value_name = "FILE.npz")]
    save_reference: Option<PathBuf>,
    /// What the last step puts out: the posterior mean, or a draw [default: mean]
    #[arg(long, value_name = "WHICH")]
    last_step: Option<LastName>,
    /// From 0 (DDIM) to 1 (ancestral)
    #[arg(long, value_name = "ETA", default_value_t = 1.0)]
    eta: f64,
    /// Hold the predicted clean image between black and white at every step
    #[arg(long)]
    clip: bool,
    #[command(flatten)]
    clip_noise: ClipNoise,
    /// Neighbours of precision, recall, density and coverage
    #[arg(long, value_name = "NUMBER", default_value_t = 3)]
    neighbours: usize,
}

impl ImageOptions {
    /// Refuses a --save-reference in place of an input, before any work.
    pub fn check(&self, run: &Path, data: Option<&Path>) -> Result<()> {
        let Some(out) = &self.save_reference else { return Ok(()) };
        let given = [data, self.reference.as_deref(), self.weights.as_deref()];
        let inputs: Vec<&Path> = given.into_iter().flatten().collect();
        check_output("--save-reference", out, &inputs, run, false)
    }

    /// Whether a network was given.
    pub fn is_asked(&self) -> bool {
        self.weights.is_some()
    }
}

/// One line of the answer.
pub struct Figure {
    pub name: String,
    pub value: f64,
    /// Between parts, of an Inception score.
    pub sd: Option<f64>,
    /// All that the value depends on.
    pub about: Value,
}

impl Figure {
    pub fn json(&self) -> Value {
        let mut object = self.about.clone();
        object["name"] = json!(self.name);
        object["value"] = json!(self.value);
        object["std_deviation"] = json!(self.sd);
        object
    }
}

pub fn print(figures: &[Figure]) {
    let width = figures.iter().map(|f| f.name.chars().count()).max().unwrap_or(0);
    for Figure { name, value, sd, about } in figures {
        let sd = sd.map_or(String::new(), |sd| format!(" ± {sd:.4} between {SPLITS} parts"));
        let text = |key: &str| about[key].as_str().unwrap_or_default();
        let clipped = match about["clipped_levels"].as_u64() {
            Some(0) | None => String::new(),
            Some(clipped) => format!("; {clipped} levels beyond 0…255 clipped"),
        };
        let against =
            about["reference"].as_str().map_or(String::new(), |r| format!(" against {r}"));
        println!(
            "{name:width$} {value:>10.4}{sd}  K = {}, {}, last step {}; {} samples{against}; {}{clipped}",
            about["steps"],
            text("covariance"),
            text("last_step"),
            about["samples"],
            text("features"),
        );
    }
}

/// What samples are compared with.
struct Reference {
    statistics: Option<FeatureStatistics>,
    /// Features of some of its images, for precision and recall.
    rows: Option<Tensor>,
    /// In words.
    source: String,
}

/// Figures of `metrics` for each of `covariances` and each number of `steps`.
pub fn measure(
    run: &Run,
    metrics: &[Metric],
    options: &ImageOptions,
    covariances: &[CovarianceConfig],
    steps: &[usize],
    grids: &mut Grids,
    seed: Seed,
    batch: usize,
    quiet: bool,
) -> Result<Vec<Figure>> {
    let ImageOptions { weights, samples, reference, save_reference, neighbours, .. } = options;
    if metrics.is_empty() && save_reference.is_none() {
        return Ok(Vec::new());
    }
    let Some(shape) = run.data.image else {
        let problem = format!("{} is a run of a table", run.dir.path().display());
        return Err(Error::config(
            "--metrics",
            problem,
            "fd, is and pr are of images: ask for nll or mmd",
        ));
    };
    options.clip_noise.check(run, options.last_step)?;
    let Some(weights) = weights else {
        let remedy =
            "give pytorch-fid's weights, or EfficientNet-Lite0's (scripts/fetch-efficientnet.sh)";
        return Err(Error::config(
            "--inception",
            "fd, is and pr look at images by a network",
            remedy,
        ));
    };
    Error::check_count("--samples", *samples, MOST_ROWS)?;
    if *samples < PROTOCOL && !options.fewer_samples && !metrics.is_empty() {
        let problem = format!(
            "{samples}: published figures take {PROTOCOL}, from fewer a distance is too large"
        );
        return Err(Error::config("--samples", problem, "say --fewer-samples to go on"));
    }
    let asked = |metric| metrics.contains(&metric);
    let is_npz = |path: &Path| path.extension().is_some_and(|e| e.eq_ignore_ascii_case("npz"));
    let is_statistics = reference.as_ref().is_some_and(|path| is_npz(path));
    if is_statistics && (asked(Metric::PrecisionRecall) || save_reference.is_some()) {
        let problem = "statistics of features hold no images";
        return Err(Error::config(
            "--reference",
            problem,
            "give images for pr and --save-reference",
        ));
    }
    if save_reference.as_ref().is_some_and(|path| !is_npz(path)) {
        return Err(Error::config(
            "--save-reference",
            "the file is a NumPy archive",
            "end its name in .npz",
        ));
    }
    let out = save_reference.as_ref().map(OutputFile::create).transpose()?;
    let extractor = Extractor::read(weights, run.model.space().device)?;
    let look = |levels: Tensor| -> Features {
        extractor.features(&levels.view([-1, shape[0] as i64, shape[1] as i64, shape[2] as i64]))
    };

    let reference = if is_statistics {
        Some(read_statistics(reference.as_ref().expect("a file"), &extractor)?)
    } else if asked(Metric::Distance) || asked(Metric::PrecisionRecall) || out.is_some() {
        let (table, rows, source) = reference_images(run, reference.as_deref(), quiet)?;
        let moments = asked(Metric::Distance) || out.is_some();
        let kept = if asked(Metric::PrecisionRecall) { rows.len().min(*samples) } else { 0 };
        Some(look_at_reference(
            &table, &rows, source, moments, kept, &extractor, batch, quiet, &look,
        )?)
    } else {
        None
    };
    if let (Some(out), Some(statistics)) =
        (out, reference.as_ref().and_then(|r| r.statistics.as_ref()))
    {
        statistics.write(out)?;
    }

    if metrics.is_empty() {
        return Ok(Vec::new());
    }
    let kept =
        reference.as_ref().and_then(|r| r.rows.as_ref()).map_or(0, |rows| rows.size()[0] as usize);
    let mut figures = Vec::new();
    let cells = covariances
        .iter()
        .flat_map(|&covariance| steps.iter().map(move |&steps| (covariance, steps)));
    for (covariance, steps) in cells {
        let last = options.last_step.map_or(run.default_sampler().last, LastName::get);
        let mut clipped = Clipped::default();
        let grid = grids.of(covariance, steps)?;
        let mut drawn = Drawn::new(extractor.network().dim());
        let mut progress =
            Progress::new(&format!("sample, {covariance}, K = {steps}"), *samples as u64, quiet);
        for start in (0..*samples).step_by(batch) {
            let end = (start + batch).min(*samples);
            let rows = start as u64..end as u64;
            let condition = condition(&run.model, None, rows.clone());
            let built = run.model.covariance(covariance)?;
            let step = options
                .clip_noise
                .of(Ancestral::new(&run.model, built, options.eta, last)?, &grid)?;
            let step = if options.clip { step.within(-1.0, 1.0) } else { step };
            let scaled = run_chain(&step, &grid, seed, rows, condition.as_ref())?;
            clipped += step.clipped();
            let features = look(drawn.levels(&run.data.scaling.inverse(&to_vec(&scaled))));
            drawn.keep(features, metrics, kept.saturating_sub(start));
            progress.at(end as u64);
        }
        progress.finish();
        say_clipped(quiet, &clipped);
        let about = |samples: usize, reference: Option<String>| {
            json!({
                "steps": steps,
                "covariance": covariance.to_string(),
                "last_step": last,
                "eta": options.eta,
                "clip": options.clip,
                "clip_noise": options.clip_noise.levels,
                "clipped": clipped_json(&clipped),
                "samples": samples,
                "reference": reference,
                "features": extractor.network().name(),
                "clipped_levels": drawn.clipped,
            })
        };
        let mut add = |name: &str, value: f64, sd: Option<f64>, about: Value| {
            figures.push(Figure { name: name.into(), value, sd, about });
        };
        if let Some(Reference { statistics: Some(data), source, .. }) =
            reference.as_ref().filter(|_| asked(Metric::Distance))
        {
            let statistics = drawn.moments.statistics(extractor.network().name())?;
            let count = data.count.map_or("an unknown number of".into(), |n| n.to_string());
            let against = format!("{count} images of {source}");
            let value = frechet_distance(&statistics, data)?;
            add(extractor.network().distance_name(), value, None, about(*samples, Some(against)));
        }
        if asked(Metric::Score) {
            let score = inception_score(&Tensor::cat(&drawn.probabilities, 0), SPLITS)?;
            add(
                extractor.network().score_name(),
                score.mean,
                Some(score.sd),
                about(*samples, None),
            );
        }
        if let Some(Reference { rows: Some(data), source, .. }) = &reference {
            let found = precision_recall(data, &Tensor::cat(&drawn.rows, 0), *neighbours)?;
            let against = format!("as many images of {source}, {neighbours} neighbours");
            for (name, value) in [
                ("precision", found.precision),
                ("recall", found.recall),
                ("density", found.density),
                ("coverage", found.coverage),
            ] {
                add(name, value, None, about(kept, Some(against.clone())));
            }
        }
    }
    Ok(figures)
}

fn read_statistics(path: &Path, extractor: &Extractor) -> Result<Reference> {
    let statistics = FeatureStatistics::read(path)?;
    let network = extractor.network();
    let found = match &statistics.features {
        Some(name) if name != network.name() => Some(format!("are of {name:?}")),
        _ if statistics.dim() != network.dim() => {
            Some(format!("are of {} features", statistics.dim()))
        }
        _ => None,
    };
    if let Some(found) = found {
        let problem = format!(
            "its statistics {found}, --inception is {} with {}",
            network.name(),
            network.dim()
        );
        return Err(Error::data(path, problem, "give statistics of the same network's features"));
    }
    Ok(Reference { statistics: Some(statistics), rows: None, source: path.display().to_string() })
}

/// Images, which of them, and what they are in words.
fn reference_images(
    run: &Run,
    given: Option<&Path>,
    quiet: bool,
) -> Result<(Dataset, Vec<usize>, String)> {
    if let Some(path) = given {
        // whatever their classes
        let record = DataRecord { classes: Vec::new(), ..run.data.clone() };
        let purpose = Purpose::Training;
        let table = record.read_table_for(purpose, path, &run.config.data.table)?;
        say_left_out(quiet, &table);
        let rows = (0..table.rows()).collect();
        return Ok((table, rows, path.display().to_string()));
    }
    match run.prepared() {
        Some(own) => Ok((own.table, own.split.train, "the training set".into())),
        None => {
            let problem = format!(
                "{} is not at hand, or no longer the data of this run",
                run.config.data.source
            );
            Err(Error::config("--reference", problem, "give images or statistics with --reference"))
        }
    }
}

/// The features of `rows`: their statistics, and `kept` of them, evenly from first to last.
fn look_at_reference(
    table: &Dataset,
    rows: &[usize],
    source: String,
    moments: bool,
    kept: usize,
    extractor: &Extractor,
    batch: usize,
    quiet: bool,
    look: &dyn Fn(Tensor) -> Features,
) -> Result<Reference> {
    let n = rows.len();
    let keep = |i: usize| (i + 1) * kept / n > i * kept / n;
    let seen: Vec<usize> = (0..n).filter(|&i| moments || keep(i)).collect();
    let mut all = FeatureMoments::new(extractor.network().dim());
    let mut some = Vec::new();
    let mut progress = Progress::new("reference", seen.len() as u64, quiet);
    let mut done = 0;
    for part in seen.chunks(batch) {
        let levels: Vec<f32> = part.iter().flat_map(|&i| table.row(rows[i])).collect();
        let features = look(Tensor::from_slice(&levels)).pooled;
        if moments {
            all.push(&features);
        }
        let chosen: Vec<i64> =
            (0..part.len()).filter(|&j| keep(part[j])).map(|j| j as i64).collect();
        let features = features.to_device(Device::Cpu);
        some.push(features.index_select(0, &Tensor::from_slice(&chosen)));
        done += part.len() as u64;
        progress.at(done);
    }
    progress.finish();
    Ok(Reference {
        statistics: moments.then(|| all.statistics(extractor.network().name())).transpose()?,
        rows: (kept > 0).then(|| Tensor::cat(&some, 0)),
        source,
    })
}

/// What is kept of a run's samples.
struct Drawn {
    moments: FeatureMoments,
    probabilities: Vec<Tensor>,
    rows: Vec<Tensor>,
    /// Levels beyond 0…255.
    clipped: u64,
}

impl Drawn {
    fn new(dim: usize) -> Drawn {
        Drawn {
            moments: FeatureMoments::new(dim),
            probabilities: Vec::new(),
            rows: Vec::new(),
            clipped: 0,
        }
    }

    /// Whole levels in 0…255.
    fn levels(&mut self, values: &[f64]) -> Tensor {
        self.clipped += values.iter().filter(|v| !(0.0..=255.0).contains(*v)).count() as u64;
        Tensor::from_slice(&values.iter().map(|v| v.clamp(0.0, 255.0) as f32).collect::<Vec<f32>>())
    }

    /// Keeps what `metrics` need, and at most `room` rows for precision and recall.
    fn keep(&mut self, features: Features, metrics: &[Metric], room: usize) {
        let Features { pooled, logits } = features;
        if metrics.contains(&Metric::Distance) {
            self.moments.push(&pooled);
        }
        if metrics.contains(&Metric::Score) {
            self.probabilities.push(logits.softmax(-1, Kind::Float).to_device(Device::Cpu));
        }
        if room > 0 {
            let rows = pooled.narrow(0, 0, pooled.size()[0].min(room as i64));
            self.rows.push(rows.to_device(Device::Cpu));
        }
    }
}
