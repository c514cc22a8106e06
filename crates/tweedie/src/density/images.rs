//! Samples of images as a network sees them: Fréchet distance, Inception score, precision and
//! recall of neighbourhoods and of clusters.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::grids::Grids;
use super::rows::remarks_on;
use super::{Density, EvaluateOptions, Metric};
use crate::autoencoder::{Autoencoder, ImageView};
use crate::data::{Crop, Dataset, OutputFile, Purpose, TableOptions};
use crate::metric::{
    Extractor, FeatureMoments, FeatureStatistics, Features, PrdCurve, frechet_distance,
    inception_score, precision_recall,
};
use crate::model::{Denoiser, GuidedCovariance};
use crate::run::DataRecord;
use crate::sample::{Clipped, Ground, LastStep, MOST_ROWS, Sampling};
use crate::watch::{Remark, Watch};
use crate::{Error, Result};

/// How many samples published figures take.
const PROTOCOL: usize = 50_000;

/// How images are looked at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImageOptions {
    /// The weights of the network that looks at images ([`Extractor::read`]).
    pub network: Option<PathBuf>,
    /// Samples drawn for each number of steps.
    pub samples: usize,
    /// Whether fewer samples are allowed than published figures take; a distance from few is too
    /// large.
    pub fewer_samples: bool,
    /// What samples are compared with: images, or statistics of features in an `.npz` file; by
    /// default all training images of the run. Images beside samples that are decoded from latents
    /// are brought to the size of these, the square in their middle where that is one.
    pub reference: Option<PathBuf>,
    /// Of a run of latents: the autoencoder that decodes samples to images.
    pub vae: Option<PathBuf>,
    /// Where the statistics of the reference's features are written.
    pub save_reference: Option<PathBuf>,
    /// What the last step returns; by default the mean.
    pub last_step: Option<LastStep>,
    /// As [`SampleOptions::covariance_until`](super::SampleOptions::covariance_until).
    pub covariance_until: Option<f64>,
    /// As [`SampleOptions::guidance`](super::SampleOptions::guidance).
    pub guidance: Option<f64>,
    /// As [`SampleOptions::guided_covariance`](super::SampleOptions::guided_covariance).
    pub guided_covariance: Option<GuidedCovariance>,
    /// As [`SampleOptions::guided_channels`](super::SampleOptions::guided_channels).
    pub guided_channels: Option<usize>,
    /// From 0 (DDIM) to 1 (ancestral), the default.
    pub eta: Option<f64>,
    /// Whether the predicted clean image is held between black and white at every step.
    pub clip: bool,
    /// As [`SampleOptions::clip_noise`](super::SampleOptions::clip_noise).
    pub clip_noise: Option<f64>,
    /// Neighbours of precision, recall, density and coverage.
    pub neighbours: usize,
}

impl Default for ImageOptions {
    fn default() -> ImageOptions {
        ImageOptions {
            network: None,
            samples: PROTOCOL,
            fewer_samples: false,
            reference: None,
            vae: None,
            save_reference: None,
            last_step: None,
            covariance_until: None,
            guidance: None,
            guided_covariance: None,
            guided_channels: None,
            eta: None,
            clip: false,
            clip_noise: None,
            neighbours: 3,
        }
    }
}

impl ImageOptions {
    fn is_statistics(&self) -> bool {
        self.reference.as_deref().is_some_and(is_npz)
    }

    /// Refuses files that nothing looks at.
    fn check_unused(&self) -> Result<()> {
        let files = [
            ("evaluate.images.network", &self.network),
            ("evaluate.images.reference", &self.reference),
            ("evaluate.images.vae", &self.vae),
        ];
        match files.into_iter().find_map(|(path, file)| Some((path, file.as_ref()?))) {
            None => Ok(()),
            Some((path, file)) => Err(Error::config(
                path,
                format!("{}, and no metric that looks at images", file.display()),
                "request fd, is or pr",
            )),
        }
    }

    /// Refuses requests that contradict each other.
    fn check(&self, metrics: &[Metric]) -> Result<&Path> {
        let bad = |path: &str, problem: String, remedy: &str| {
            Err(Error::config(format!("evaluate.images.{path}"), problem, remedy))
        };
        let Some(network) = &self.network else {
            let problem = "fd, is and pr look at images by a network";
            let remedy = "give pytorch-fid's weights, or EfficientNet-Lite0's \
                          (scripts/fetch-efficientnet.sh)";
            return bad("network", problem.into(), remedy);
        };
        Error::check_count("evaluate.images.samples", self.samples, MOST_ROWS)?;
        let samples = self.samples;
        if samples < PROTOCOL && !self.fewer_samples && !metrics.is_empty() {
            let problem = format!(
                "{samples}: published figures take {PROTOCOL}, from fewer a distance is too large"
            );
            return bad("samples", problem, "say evaluate.images.fewer_samples to go on");
        }
        let saves = self.save_reference.is_some();
        if self.is_statistics() && (metrics.contains(&Metric::Pr) || saves) {
            let problem = "statistics of features hold no images";
            let remedy = "give images for pr and evaluate.images.save_reference";
            return bad("reference", problem.into(), remedy);
        }
        if !self.save_reference.as_deref().is_none_or(is_npz) {
            let problem = "the file is a NumPy archive";
            return bad("save_reference", problem.into(), "end its name in .npz");
        }
        Ok(network)
    }
}

fn is_npz(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("npz"))
}

/// A figure of samples as a network sees them, and all that it depends on.
#[derive(Clone, Debug)]
pub struct ImageFigure {
    /// What it is called in the literature.
    pub name: String,
    /// The figure.
    pub value: f64,
    /// The standard deviation between [`ImageFigure::PARTS`] parts of the samples, of an Inception
    /// score.
    pub sd: Option<f64>,
    /// The sampler.
    pub sampling: Sampling,
    /// Samples that are in it.
    pub samples: usize,
    /// What they are compared with, for people.
    pub reference: Option<String>,
    /// The network's name.
    pub features: String,
    /// What the sampler has clipped.
    pub clipped: Clipped,
    /// Levels of samples beyond 0…255, which were clipped.
    pub clipped_levels: u64,
}

impl ImageFigure {
    /// Parts of an Inception score.
    pub const PARTS: usize = 10;
}

/// What samples are compared with.
struct Reference {
    statistics: Option<FeatureStatistics>,
    /// Features of some of its images, for precision and recall.
    rows: Option<Tensor>,
    /// For people.
    source: String,
}

/// A network, and the images that rows are.
struct Eye {
    extractor: Extractor,
    view: ImageView,
}

impl Eye {
    fn look(&self, levels: &[f32]) -> Features {
        self.extractor.features_of(levels, self.view.shape().map(|n| n as i64))
    }

    fn name(&self) -> &'static str {
        self.extractor.network().name()
    }
}

/// Those of `metrics` that look at images, for each of [`Density::samplings`].
pub(super) fn measure(
    density: &Density,
    metrics: &[Metric],
    options: &EvaluateOptions,
    batch: usize,
    watch: &mut dyn Watch,
) -> Result<Vec<ImageFigure>> {
    let metrics: Vec<Metric> = metrics.iter().copied().filter(|m| m.is_of_images()).collect();
    let (run, images) = (&density.run, &options.images);
    if metrics.is_empty() && images.save_reference.is_none() {
        return images.check_unused().map(|()| Vec::new());
    }
    let device = run.model.space().device;
    let vae = images.vae.as_ref().map(|path| Autoencoder::read(path, device)).transpose()?;
    let Some(view) = ImageView::of(&run.data, vae)? else {
        let (what, remedy) = match run.data.latents {
            Some(_) => ("latents", "give evaluate.images.vae, their autoencoder"),
            None => ("a table", "fd, is and pr are of images: request nll or mmd"),
        };
        let problem = format!("{} is a run of {what}", density.name());
        return Err(Error::config("evaluate.metrics", problem, remedy));
    };
    let network = images.check(&metrics)?;
    let out = images.save_reference.as_ref().map(OutputFile::create).transpose()?;
    let eye = Eye { extractor: Extractor::read(network, device)?, view };
    let reference = reference(density, &metrics, images, &eye, batch, watch)?;
    if let (Some(out), Some(Reference { statistics: Some(statistics), .. })) = (out, &reference) {
        statistics.write(out)?;
    }
    let mut figures = Vec::new();
    if metrics.is_empty() {
        return Ok(figures);
    }
    let mut grids = Grids::new(density, "evaluate", options.spacing, false, batch);
    for sampling in density.samplings(options) {
        let grid = grids.of_chain(&sampling, watch)?;
        let kept = reference.as_ref().and_then(|r| r.rows.as_ref()).map_or(0, rows_of);
        let room = (images.samples, kept);
        let drawn = draw(density, &sampling, &grid, &metrics, room, &eye, batch, watch)?;
        figures.extend(drawn.figures(&metrics, reference.as_ref(), sampling, images, &eye)?);
    }
    let named = |figure: ImageFigure| {
        let name = density.in_its_precision(figure.name);
        ImageFigure { name, ..figure }
    };
    Ok(figures.into_iter().map(named).collect())
}

fn rows_of(features: &Tensor) -> usize {
    features.size()[0] as usize
}

/// What samples are compared with, where one of `metrics` needs it or it is to be written.
fn reference(
    density: &Density,
    metrics: &[Metric],
    options: &ImageOptions,
    eye: &Eye,
    batch: usize,
    watch: &mut dyn Watch,
) -> Result<Option<Reference>> {
    if let Some(path) = options.reference.as_deref().filter(|path| is_npz(path)) {
        let (statistics, source) = (eye.extractor.read_statistics(path)?, path.display());
        let (statistics, source) = (Some(statistics), source.to_string());
        return Ok(Some(Reference { statistics, rows: None, source }));
    }
    let pr = metrics.contains(&Metric::Pr);
    let moments = metrics.contains(&Metric::Fd) || options.save_reference.is_some();
    if !moments && !pr {
        return Ok(None);
    }
    let given = options.reference.as_deref();
    let (table, rows, source) = reference_images(density, given, &eye.view, watch)?;
    let n = rows.len();
    let kept = if pr { n.min(options.samples) } else { 0 };
    // evenly from first to last
    let keep = |i: usize| (i + 1) * kept / n > i * kept / n;
    let seen: Vec<usize> = (0..n).filter(|&i| moments || keep(i)).collect();
    let mut all = FeatureMoments::new(eye.extractor.network().dim());
    let mut some = Vec::new();
    watch.begin("reference", seen.len() as u64);
    let mut done = 0;
    for part in seen.chunks(batch) {
        let levels: Vec<f32> = part.iter().flat_map(|&i| table.row(rows[i])).collect();
        let features = eye.look(&levels).pooled;
        if moments {
            all.push(&features);
        }
        let chosen: Vec<i64> =
            (0..part.len()).filter(|&j| keep(part[j])).map(|j| j as i64).collect();
        let features = features.to_device(Device::Cpu);
        some.push(features.index_select(0, &Tensor::from_slice(&chosen)));
        done += part.len() as u64;
        watch.progress(done, seen.len() as u64);
    }
    watch.end();
    Ok(Some(Reference {
        statistics: moments.then(|| all.statistics(eye.name())).transpose()?,
        rows: (kept > 0).then(|| Tensor::cat(&some, 0)),
        source,
    }))
}

/// Images, which of them, and what they are for people.
fn reference_images(
    density: &Density,
    given: Option<&Path>,
    view: &ImageView,
    watch: &mut dyn Watch,
) -> Result<(Dataset, Vec<usize>, String)> {
    let run = &density.run;
    if let Some(path) = given {
        let table = match view.is_decoded() {
            true => images_of_shape(path, view.shape())?,
            false => {
                // whatever their classes
                let record = DataRecord { classes: Vec::new(), ..run.data.clone() };
                record.read_table_for(Purpose::Training, path, &run.config.data.table)?
            }
        };
        remarks_on(&table).into_iter().for_each(|remark| watch.say(remark));
        let rows = (0..table.rows()).collect();
        return Ok((table, rows, path.display().to_string()));
    }
    let remedy = "give images or statistics with evaluate.images.reference";
    let lacking = |problem| Err(Error::config("evaluate.images.reference", problem, remedy));
    if view.is_decoded() {
        return lacking(format!("{} is a run of latents, not of their images", density.name()));
    }
    match run.prepared() {
        Some(own) => Ok((own.table, own.split.train, "the training set".into())),
        None => lacking(run.no_data()),
    }
}

/// The images at `path` brought to `shape`.
fn images_of_shape(path: &Path, shape: [usize; 3]) -> Result<Dataset> {
    let [_, height, width] = shape;
    let crop = (height == width).then_some(Crop::Shorter);
    let options = TableOptions {
        crop,
        size: Some([height, width]),
        purpose: Purpose::Training,
        ..TableOptions::default()
    };
    let table = Dataset::read_with(path, &options)?;
    match table.image() == Some(shape) && table.latents_of().is_none() {
        true => Ok(table),
        false => {
            let [channels, ..] = shape;
            let problem = format!("holds no images of {channels} × {height} × {width}");
            Err(Error::data(path, problem, "give images like those that samples are decoded to"))
        }
    }
}

/// What is kept of samples.
struct Drawn {
    moments: FeatureMoments,
    probabilities: Vec<Tensor>,
    rows: Vec<Tensor>,
    clipped: Clipped,
    /// Levels beyond 0…255.
    clipped_levels: u64,
}

/// Looks at `samples` samples, and keeps the features of the first `kept` of them.
fn draw(
    density: &Density,
    sampling: &Sampling,
    grid: &[f64],
    metrics: &[Metric],
    (samples, kept): (usize, usize),
    eye: &Eye,
    batch: usize,
    watch: &mut dyn Watch,
) -> Result<Drawn> {
    let mut drawn = Drawn {
        moments: FeatureMoments::new(eye.extractor.network().dim()),
        probabilities: Vec::new(),
        rows: Vec::new(),
        clipped: Clipped::default(),
        clipped_levels: 0,
    };
    let (built, group) = (density.covariance(sampling.covariance)?, &density.group);
    let ground = Ground {
        model: density.model(),
        covariance: &*built,
        grid,
        class: None,
        cells: None,
        group,
    };
    watch.begin(&format!("sample, {}", sampling.in_words()), samples as u64);
    let clipped = sampling.draw_each(&ground, (samples, batch), watch, |part, rows| {
        let values = eye.view.levels(&part)?;
        let beyond = |v: &&f64| !(0.0..=255.0).contains(*v);
        drawn.clipped_levels += values.iter().filter(beyond).count() as u64;
        let levels: Vec<f32> = values.iter().map(|v| v.clamp(0.0, 255.0) as f32).collect();
        let Features { pooled, logits } = eye.look(&levels);
        if metrics.contains(&Metric::Fd) {
            drawn.moments.push(&pooled);
        }
        if metrics.contains(&Metric::Is) {
            let probabilities = logits.softmax(-1, Kind::Float).to_device(Device::Cpu);
            drawn.probabilities.push(probabilities);
        }
        let room = kept.saturating_sub(rows.start as usize) as i64;
        if room > 0 {
            let rows = pooled.narrow(0, 0, pooled.size()[0].min(room));
            drawn.rows.push(rows.to_device(Device::Cpu));
        }
        Ok(())
    });
    watch.end();
    drawn.clipped = clipped?;
    drawn.clipped.lines().into_iter().for_each(|line| watch.say(Remark::Progress(line)));
    Ok(drawn)
}

impl Drawn {
    fn figures(
        &self,
        metrics: &[Metric],
        reference: Option<&Reference>,
        sampling: Sampling,
        options: &ImageOptions,
        eye: &Eye,
    ) -> Result<Vec<ImageFigure>> {
        let (network, mut figures) = (eye.extractor.network(), Vec::new());
        let mut add = |name: &str, value, sd, samples, reference| {
            figures.push(ImageFigure {
                name: name.into(),
                value,
                sd,
                sampling: sampling.clone(),
                samples,
                reference,
                features: eye.name().into(),
                clipped: self.clipped,
                clipped_levels: self.clipped_levels,
            });
        };
        if let Some(Reference { statistics: Some(data), source, .. }) =
            reference.filter(|_| metrics.contains(&Metric::Fd))
        {
            let statistics = self.moments.statistics(eye.name())?;
            let count = data.count.map_or("an unknown number of".into(), |n| n.to_string());
            let against = Some(format!("{count} images of {source}"));
            let value = frechet_distance(&statistics, data)?;
            add(network.distance_name(), value, None, options.samples, against);
        }
        if metrics.contains(&Metric::Is) {
            let probabilities = Tensor::cat(&self.probabilities, 0);
            let score = inception_score(&probabilities, ImageFigure::PARTS)?;
            add(network.score_name(), score.mean, Some(score.sd), options.samples, None);
        }
        if let Some(Reference { rows: Some(data), source, .. }) = reference {
            let (neighbours, samples) = (options.neighbours, Tensor::cat(&self.rows, 0));
            let found = precision_recall(data, &samples, neighbours)?;
            let against = format!("as many images of {source}, {neighbours} neighbours");
            for (name, value) in [
                ("precision", found.precision),
                ("recall", found.recall),
                ("density", found.density),
                ("coverage", found.coverage),
            ] {
                add(name, value, None, rows_of(data), Some(against.clone()));
            }
            let (clusters, runs) = (PrdCurve::CLUSTERS, PrdCurve::RUNS);
            let seed = sampling.seed.derive("PRD");
            let curve = PrdCurve::of_features(data, &samples, (clusters, runs), seed)?;
            let against =
                format!("as many images of {source}, {clusters} clusters, {runs} runs' mean");
            for (name, beta) in [("PRD-F8", 8.0), ("PRD-F1/8", 0.125)] {
                add(name, curve.f(beta), None, rows_of(data), Some(against.clone()));
            }
        }
        Ok(figures)
    }
}
