//! How runs are judged: likelihood of test rows, Fréchet distance of samples, sheets of samples
//! that are images.

use std::path::Path;

use tch::{Device, Kind, Tensor};

use super::record::{SampleFigures, SampleNames};
use super::{Found, Record, Settings, Unit};
use crate::page::Page;
use tweedie::autoencoder::{Autoencoder, ImageView};
use tweedie::covariance::{CovarianceConfig, Reverse, StepCovariance};
use tweedie::data::{Dataset, Scaling, subset};
use tweedie::grid::even_trajectory;
use tweedie::likelihood::{Elbo, LogLikelihood};
use tweedie::metric::{
    Extractor, FeatureMoments, FeatureStatistics, InceptionScore, PrdCurve, frechet_distance,
    inception_score, precision_recall,
};
use tweedie::model::{Denoiser, Guidance, GuidedCovariance};
use tweedie::noise::{Noise, Seed};
use tweedie::process_group::ProcessGroup;
use tweedie::query::{Batch, Condition, Query, Times};
use tweedie::run::{Run, level_rows, scaled_rows};
use tweedie::sample::{Clipped, Ground, LastStep, SampleOptions, Sampling};
use tweedie::tensor::{Count, to_vec};
use tweedie::watch::Silent;
use tweedie::{Error, Result};
use tweedie_report::plot::{Sheet, sheet_of};

/// A way to take a reverse step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Method {
    /// Of a step.
    pub covariance: CovarianceConfig,
    /// 1: ancestral; 0: DDIM, which has no likelihood of this kind.
    pub eta: f64,
    /// Classifier-free guidance, under which nothing has a likelihood.
    pub guidance: Option<Guidance>,
    /// The signal-to-noise ratio up to which samples have the covariance, and above which β̃
    /// ([`SampleOptions::covariance_until`]); a likelihood knows no such limit.
    pub until: Option<f64>,
}

impl Method {
    /// Ancestral, with the learned covariance.
    pub const LEARNED: Method = Method::ancestral(CovarianceConfig::Own);
    /// Ancestral, `H = 0`: the paper's score-matching sampler.
    pub const ZERO_HESSIAN: Method = Method::ancestral(CovarianceConfig::ZeroHessian);
    /// Ancestral, `H = I`: the fixed Hessian of the paper's ablation.
    pub const IDENTITY_HESSIAN: Method = Method::ancestral(CovarianceConfig::IdentityHessian);
    /// Ancestral, with the covariance of the forward bridge, DDPM "small".
    pub const BETA_TILDE: Method = Method::ancestral(CovarianceConfig::BetaTilde);
    /// DDIM's deterministic steps.
    pub const DDIM: Method = Method::ddim(CovarianceConfig::BetaTilde);

    /// DDPM's steps, `η = 1`.
    pub const fn ancestral(covariance: CovarianceConfig) -> Method {
        Method { covariance, eta: 1.0, guidance: None, until: None }
    }

    /// DDIM's steps, `η = 0`: with another covariance than β̃ they draw `x_0` from its posterior.
    pub const fn ddim(covariance: CovarianceConfig) -> Method {
        Method { covariance, eta: 0.0, guidance: None, until: None }
    }

    /// What a run can be sampled by: all four, or without a head that gives `G` all but the
    /// learned.
    pub fn of(run: &Run) -> Vec<Method> {
        let learned = run.model.head_covariance() == Some(CovarianceConfig::Own);
        let free = [Method::ZERO_HESSIAN, Method::BETA_TILDE, Method::DDIM];
        learned.then_some(Method::LEARNED).into_iter().chain(free).collect()
    }

    /// The same under guidance.
    pub fn guided(self, guidance: Guidance) -> Method {
        Method { guidance: Some(guidance), ..self }
    }

    /// The same up to a signal-to-noise ratio.
    pub fn until(self, snr: f64) -> Method {
        Method { until: Some(snr), ..self }
    }

    /// Whether it is DDPM's.
    pub fn is_ancestral(self) -> bool {
        self.eta == 1.0
    }

    /// Whether it has a likelihood.
    pub fn has_likelihood(self) -> bool {
        self.is_ancestral() && self.guidance.is_none() && self.until.is_none()
    }

    /// What it is at any scale of guidance, in tables.
    pub fn label_without_scale(self) -> String {
        let step = match (self.is_ancestral(), self.covariance) {
            (true, covariance) => covariance.label(),
            (false, CovarianceConfig::BetaTilde) => "DDIM".into(),
            (false, covariance) => format!("DDIM, {}", covariance.label()),
        };
        let step = self.until.map_or(step.clone(), |snr| format!("{step} to SNR {snr}"));
        match self.guidance {
            Some(Guidance { covariance: GuidedCovariance::Combined, .. }) => {
                format!("{step}, combined")
            }
            _ => step,
        }
    }

    /// Its name in tables.
    pub fn label(self) -> String {
        let step = self.label_without_scale();
        self.guidance.map_or(step.clone(), |guidance| format!("{step}, w = {}", guidance.scale))
    }

    /// Its name in files.
    pub fn name(self) -> String {
        let step = match (self.is_ancestral(), self.covariance) {
            (true, covariance) => covariance.to_string(),
            (false, CovarianceConfig::BetaTilde) => "ddim".into(),
            (false, covariance) => format!("ddim-{covariance}"),
        };
        let step = self.until.map_or(step.clone(), |snr| format!("{step}-until-{snr}"));
        match self.guidance {
            None => step,
            Some(Guidance { scale, covariance: GuidedCovariance::Conditional, .. }) => {
                format!("{step}-w{scale}")
            }
            Some(Guidance { scale, covariance, .. }) => format!("{step}-w{scale}-{covariance}"),
        }
    }
}

/// Test rows of one kind, and the protocol.
pub struct Judge<'a> {
    settings: &'a Settings,
    /// What the runs must be of.
    scaling: Scaling,
    /// Channels, height and width, where rows are images of levels.
    image: Option<[usize; 3]>,
    /// Whether rows are latents of images.
    latents: bool,
    /// What is looked at, where rows are images or are decoded to them.
    view: Option<ImageView>,
    /// The names of the classes that the runs must be conditioned on.
    classes: Vec<String>,
    /// The data that the runs must be of, unless the test rows have a file of their own.
    split: Option<(String, u64, [f64; 3])>,
    /// In network units, `[n, d]`: levels of images at their bins' centres.
    rows: Tensor,
    /// The classes of the rows, where the runs are conditioned on them.
    condition: Option<Condition>,
    /// What brings the rows' log-densities to the data's units; of levels nothing.
    offsets: Vec<f64>,
    samples: Option<(Features, Reference)>,
}

/// What samples are compared with.
struct Reference {
    statistics: FeatureStatistics,
    /// Features `[n, d]`.
    features: Tensor,
}

/// What was seen in rows.
pub(crate) struct Seen {
    /// Of the features of all.
    pub(crate) moments: FeatureMoments,
    /// Features of the first of them, `[n, d]`.
    features: Tensor,
    /// Class probabilities of all, `[n, classes]`.
    probabilities: Option<Tensor>,
}

/// What Fréchet distances are of.
enum Features {
    /// Of images, a network's.
    Network(Extractor),
    /// Of tables, the columns in the network's units.
    Columns,
}

impl Features {
    /// Its name in files of statistics.
    fn name(&self) -> &'static str {
        match self {
            Features::Network(extractor) => extractor.network().name(),
            Features::Columns => "columns",
        }
    }

    /// What is seen in rows in the network's units, or in their levels where they are images; of
    /// `most` of them the features themselves are kept.
    fn see(&self, rows: &Tensor, levels: Option<&Levels>, most: i64) -> Seen {
        let keep = most.min(rows.size()[0]);
        match (self, levels) {
            (Features::Network(extractor), Some(levels)) => {
                see(extractor, levels.first(rows.size()[0] as usize), levels.shape, keep)
            }
            _ => {
                let features = rows.narrow(0, 0, keep);
                Seen { moments: FeatureMoments::of(rows), features, probabilities: None }
            }
        }
    }
}

/// Levels of images, image after image.
pub(crate) struct Levels {
    /// Held in 0…255.
    pub(crate) held: Vec<f64>,
    /// The share that was no level before.
    outside: f64,
    shape: [usize; 3],
}

impl Levels {
    /// Of rows `[n, d]` in the network's units.
    pub(crate) fn of(view: &ImageView, rows: &Tensor) -> Result<Levels> {
        let mut held = view.levels(rows)?;
        let outside = held.iter().filter(|level| !(-0.5..=255.5).contains(*level)).count();
        let outside = outside as f64 / held.len() as f64;
        held.iter_mut().for_each(|level| *level = level.clamp(0.0, 255.0));
        Ok(Levels { held, outside, shape: view.shape() })
    }

    /// Those of the first `n` images.
    fn first(&self, n: usize) -> &[f64] {
        &self.held[..n * self.shape.iter().product::<usize>()]
    }
}

impl<'a> Judge<'a> {
    /// Reads the test rows of `run`: those given, or the run's own. `extractor` is what Fréchet
    /// distances of images are of, and of latents with their autoencoder; those of tables are of
    /// their columns.
    pub fn new(
        settings: &'a Settings,
        run: &Run,
        extractor: Option<Extractor>,
    ) -> Result<Judge<'a>> {
        let (scaling, image) = (run.data.scaling.clone(), run.data.levels());
        let device = run.model.space().device;
        let vae = settings.vae.as_ref().map(|path| Autoencoder::read(path, device)).transpose()?;
        let view = ImageView::of(&run.data, vae)?;
        let (table, rows) = test_rows(run, settings.test.as_deref())?;
        let seed = Seed(settings.seed).derive("judge").derive("test rows");
        let features = match (run.data.image, extractor) {
            (Some(_), Some(_)) if view.is_none() => {
                let problem = format!("{} is of latents", run.dir.path().display());
                let remedy = "give experiment.images.vae, the autoencoder that they are of";
                return Err(Error::config("experiment.images.features", problem, remedy));
            }
            (Some(_), extractor) => extractor.map(Features::Network),
            (None, None) => Some(Features::Columns),
            (None, Some(_)) => {
                let problem = format!("{} is of a table", run.dir.path().display());
                return Err(Error::config(
                    "experiment.images.features",
                    problem,
                    "leave it out: it is for images",
                ));
            }
        };
        let in_network_units = |rows: &[usize]| match image {
            Some(_) => (level_rows(&table, rows, &scaling), vec![0.0; rows.len()]),
            None => scaled_rows(&table, rows, &scaling, seed),
        };
        let reference = match features {
            Some(_) => in_network_units(&subset(&rows, settings.reference, seed)).0,
            None => Tensor::zeros([0, scaling.dim() as i64], (Kind::Double, Device::Cpu)),
        };
        let rows = subset(&rows, settings.rows, seed);
        let classes = run.data.classes.clone();
        let condition = table.condition_of(&rows);
        let (rows, offsets) = in_network_units(&rows);
        let split = settings.test.is_none().then(|| split_of(run));
        let samples = features
            .map(|features| {
                let levels = view.as_ref().map(|view| Levels::of(view, &reference)).transpose()?;
                let seen = features.see(&reference, levels.as_ref(), MOST);
                let Seen { moments, features: kept, .. } = seen;
                let statistics = moments.statistics(features.name())?;
                Ok::<_, Error>((features, Reference { statistics, features: kept }))
            })
            .transpose()?;
        Ok(Judge {
            settings,
            scaling,
            image,
            latents: run.data.latents.is_some(),
            view,
            classes,
            split,
            rows,
            condition,
            offsets,
            samples,
        })
    }

    /// Refuses a run of other data, or one for which test rows were training rows.
    pub fn check(&self, run: &Run) -> Result<()> {
        let path = run.dir.path().display();
        if run.data.classes != self.classes {
            let problem = format!("{path} is conditioned on other classes than the first run");
            return Err(Error::config("experiment.run", problem, "give runs of the same classes"));
        }
        if run.data.levels() != self.image || run.data.scaling != self.scaling {
            let problem = format!("{path} is of other data: of another shape, or scaled otherwise");
            return Err(Error::config("experiment.run", problem, "give runs of the same data"));
        }
        if self.split.as_ref().is_some_and(|own| *own != split_of(run)) {
            let problem = format!("{path} has other test rows than the first run");
            let remedy = "give runs of the same data, split alike, or experiment.images.test";
            return Err(Error::config("experiment.run", problem, remedy));
        }
        Ok(())
    }

    /// What likelihoods are given in.
    pub fn unit(&self) -> Unit {
        if self.image.is_some() { Unit::BitsPerDim } else { Unit::NatsPerRow }
    }

    /// Whether rows are images, or latents with the autoencoder that decodes them.
    pub(crate) fn has_pictures(&self) -> bool {
        self.view.is_some()
    }

    /// Whether rows are as large as images, which latents are too.
    pub(crate) fn is_large(&self) -> bool {
        self.image.is_some() || self.latents
    }

    /// What the figures of samples are called, where there are any.
    pub fn sample_names(&self) -> Option<SampleNames> {
        self.samples.as_ref().map(|(features, _)| match features {
            Features::Network(extractor) => SampleNames {
                distance: extractor.network().distance_name(),
                score: Some(extractor.network().score_name()),
            },
            Features::Columns => SampleNames { distance: "FD-columns", score: None },
        })
    }

    /// What was measured, and how.
    pub(crate) fn found(&self, records: Vec<Record>) -> Result<Found> {
        let (unit, names) = (self.unit(), self.sample_names());
        let protocol = self.protocol(records.iter().any(|record| record.nll.is_some()))?;
        Ok(Found { records, unit, protocol, names })
    }

    /// The protocol, for a page; that of likelihoods where there are any.
    fn protocol(&self, likelihoods: bool) -> Result<String> {
        let Settings { terms, clip_noise, .. } = self.settings;
        let part = |there: bool| there.then(Page::new);
        let grid = match self.latents {
            true => "the even trajectory of OCM and Analytic-DPM",
            false => "the grid even in the angle of signal and noise",
        };
        let decoded = self.view.as_ref().is_some_and(ImageView::is_decoded);
        let distance = self.samples.as_ref().map(|(features, reference)| {
            let network = match features {
                Features::Network(extractor) => Some(extractor.network().name()),
                Features::Columns => None,
            };
            Page::new()
                .with("name", self.sample_names().map_or("", |names| names.distance))
                .with("reference", reference.statistics.count.unwrap_or(0))
                .with("neighbours", NEIGHBOURS)
                .when(
                    "network",
                    network.map(|name| {
                        let of = if decoded { ", both decoded from latents" } else { "" };
                        Page::new().with("network name", name).with("decoded", of)
                    }),
                )
                .when("columns", part(network.is_none()))
        });
        let text = Page::new()
            .with("rows", self.rows.size()[0])
            .when("images", part(likelihoods && self.image.is_some()))
            .when(
                "table",
                (likelihoods && self.image.is_none()).then(|| Page::new().with("grid", grid)),
            )
            .when("terms", part(likelihoods && *terms > 0))
            .when("clipped", part(self.image.is_some() && *clip_noise > 0.0))
            .when("no distance", part(distance.is_none()))
            .when("distance", distance)
            .fill(include_str!("protocol.md"), &self.settings.tree()?)?;
        Ok(text.trim().into())
    }

    /// Everything about `run`, called `arm`, under a method in `steps` steps, and a sheet of the
    /// first `sheet` samples, which must be images. Another number beside the method draws anew.
    pub fn measure(
        &self,
        run: &Run,
        arm: &str,
        (method, repeat): (Method, usize),
        steps: usize,
        sheet: usize,
    ) -> Result<(Record, Sheet)> {
        let seed = match repeat {
            0 => self.seed(),
            repeat => self.seed().derive(&format!("repeat {repeat}")),
        };
        let nll = method.has_likelihood().then(|| self.nll(run, method, steps, seed));
        let nll = nll.transpose()?;
        let wanted = if self.samples.is_some() { self.settings.samples.max(sheet) } else { sheet };
        let (samples, clipped) = match wanted {
            0 => (
                Tensor::zeros([0, self.scaling.dim() as i64], (Kind::Double, Device::Cpu)),
                Clipped::default(),
            ),
            wanted => self.samples(run, method, steps, (wanted, seed))?,
        };
        let Clipped { noise: Count { some, all }, .. } = clipped;
        let clipped = (all > 0).then(|| some as f64 / all as f64);
        let view = self.view.as_ref().filter(|_| wanted > 0);
        let levels = view.map(|view| Levels::of(view, &samples)).transpose()?;
        let figures = self.samples.as_ref().map(|(features, reference)| {
            // a sheet may show more of them
            let judged = samples.narrow(0, 0, self.settings.samples as i64);
            let levels = levels.as_ref();
            let seen = features.see(&judged, levels, reference.features.size()[0]);
            self.figures(&seen, features.name(), reference)
        });
        let record = Record {
            arm: arm.into(),
            method,
            steps,
            repeat,
            nll,
            samples: figures.transpose()?,
            outside: levels.as_ref().map(|levels| levels.outside),
            clipped,
        };
        let shown = levels.as_ref().map_or(&[][..], |levels| levels.first(sheet));
        Ok((record, self.sheet(shown)))
    }

    /// Samples beside the reference: precision and recall of as many of both.
    fn figures(&self, seen: &Seen, name: &str, reference: &Reference) -> Result<SampleFigures> {
        let frechet = frechet_distance(&seen.moments.statistics(name)?, &reference.statistics)?;
        let parts = 10;
        let score = match &seen.probabilities {
            Some(all) if all.size()[0] >= parts as i64 => {
                let InceptionScore { mean, sd } = inception_score(all, parts)?;
                Some((mean, sd))
            }
            _ => None,
        };
        let n = seen.features.size()[0];
        let both = match n > NEIGHBOURS as i64 {
            true => {
                let data = reference.features.narrow(0, 0, n);
                Some(precision_recall(&data, &seen.features, NEIGHBOURS)?)
            }
            false => None,
        };
        let (precision, recall) = both.map(|both| (both.precision, both.recall)).unzip();
        let prd = match n > PrdCurve::CLUSTERS as i64 {
            true => {
                let data = reference.features.narrow(0, 0, n);
                let how = (PrdCurve::CLUSTERS, PrdCurve::RUNS);
                let seed = self.seed().derive("clusters");
                let curve = PrdCurve::of_features(&data, &seen.features, how, seed)?;
                Some([curve.f(1.0 / 8.0), curve.f(8.0)])
            }
            false => None,
        };
        Ok(SampleFigures { frechet, score, precision, recall, prd })
    }

    /// The negative log-likelihood and its standard error over rows.
    fn nll(&self, run: &Run, method: Method, steps: usize, seed: Seed) -> Result<(f64, f64)> {
        let covariance = run.model.covariance(method.covariance)?;
        let reverse = Reverse::new(&run.model, &*covariance, 1.0)?;
        let grid = self.grid(run, steps)?;
        let mut elbo = match self.image {
            Some(_) => Elbo::of_levels(reverse, grid, 1),
            None => Elbo::new(reverse, grid, 1),
        };
        if self.settings.terms > 0 {
            elbo = elbo.at_most(self.settings.terms);
        }
        let rows = Batch::of(&run.model.space().place(&self.rows)).given(self.condition.clone());
        let seed = seed.derive("bits");
        let mut estimate = elbo.in_batches(&rows, seed, self.settings.batch, &mut |_| Ok(()))?;
        estimate.shift(&self.offsets);
        Ok(match self.unit() {
            Unit::BitsPerDim => estimate.bits_per_dim(self.scaling.dim()),
            Unit::NatsPerRow => (-estimate.mean(), estimate.std_error()),
        })
    }

    /// How samples are drawn in `steps` steps: as the library does by default, but for what the
    /// protocol fixes.
    fn sampling(&self, run: &Run, steps: usize) -> Sampling {
        let levels = self.image.is_some();
        let options = SampleOptions {
            steps,
            // the published chains of OCM and Analytic-DPM end in the mean; tables do too, so that
            // every distance of a page is of one protocol
            last_step: Some(LastStep::Mean),
            clip_noise: Some(self.settings.clip_noise).filter(|most| levels && *most > 0.0),
            ..SampleOptions::default()
        };
        options.of(&run.model, levels || self.latents)
    }

    /// The times of `steps` steps, for likelihoods and for samples: of images and latents the even
    /// trajectory that OCM and Analytic-DPM publish, of tables the library's default.
    fn grid(&self, run: &Run, steps: usize) -> Result<Vec<f64>> {
        match self.is_large() {
            true => even_trajectory(run.schedule(), steps),
            false => self.sampling(run, steps).grid(run.schedule()),
        }
    }

    /// Seconds per row and step of sampling `rows` in `steps`.
    pub fn seconds_per_step(
        &self,
        run: &Run,
        method: Method,
        (rows, steps): (usize, usize),
    ) -> Result<f64> {
        let begun = std::time::Instant::now();
        drop(self.samples(run, method, steps, (rows, self.seed()))?);
        Ok(begun.elapsed().as_secs_f64() / (rows * steps) as f64)
    }

    /// Samples in the network's units, `[n, d]`, and what was clipped.
    fn samples(
        &self,
        run: &Run,
        method: Method,
        steps: usize,
        (n, seed): (usize, Seed),
    ) -> Result<(Tensor, Clipped)> {
        let (model, seed) = (&run.model, seed.derive("samples"));
        let Method { covariance, eta, guidance, until } = method;
        let covariance_until = until.unwrap_or(f64::INFINITY);
        let own = self.sampling(run, steps);
        let sampling = Sampling { covariance, covariance_until, eta, guidance, seed, ..own };
        let (covariance, grid) = (model.covariance(covariance)?, self.grid(run, steps)?);
        let ground = Ground {
            model: model.own_mode(),
            covariance: &*covariance,
            grid: &grid,
            class: None,
            cells: None,
            group: &ProcessGroup::alone(),
        };
        sampling.draw(&ground, (n, self.settings.batch), &mut Silent)
    }

    /// The diagonal of `G` of the first `n` test images, each with its noise at the time whose
    /// signal-to-noise ratio is 1, as pictures from 0 (black) to 1 (white); nothing of tables, and
    /// of a covariance that is of a step alone.
    pub(crate) fn diagonals(&self, run: &Run, method: Method, n: usize) -> Result<Option<Sheet>> {
        let (model, schedule) = (run.model.own_mode(), run.schedule());
        let n = n.min(self.rows.size()[0] as usize);
        if self.image.is_none() || n == 0 {
            return Ok(None);
        }
        let t = Times::All(schedule.time_of_log_snr(0.0));
        let x0 = model.space().place(&self.rows.narrow(0, 0, n as i64));
        let mut noise = Noise::new(self.seed().derive("diagonals"), 0..n as u64);
        let z = noise.normal(self.scaling.dim(), x0.kind(), x0.device());
        let (alpha, sigma) = t.marginal(schedule, x0.device());
        let xt = x0 * &alpha + z * &sigma;
        let covariance = run.model.covariance(method.covariance)?;
        let condition = self.condition.as_ref().map(|all| all.narrow(0..n));
        let q = Query::new(&xt, &t).given(condition.as_ref());
        let of = tch::no_grad(|| covariance.of(&model, &q, &mut noise).1);
        let StepCovariance::Posterior(g) = of else { return Ok(None) };
        let levels: Vec<f64> = to_vec(&g.diagonal()).iter().map(|g| 255.0 * g).collect();
        Ok(Some(self.sheet(&levels)))
    }

    /// Images of levels on a sheet.
    fn sheet(&self, levels: &[f64]) -> Sheet {
        let image = self.view.as_ref().map_or([1, 1, 1], ImageView::shape);
        let images = levels.len() / image.iter().product::<usize>();
        sheet_of(levels, image, (images as f64).sqrt().ceil() as usize, (0.0, 255.0))
    }

    fn seed(&self) -> Seed {
        Seed(self.settings.seed).derive("judge")
    }
}

/// What decides which rows are test rows.
fn split_of(run: &Run) -> (String, u64, [f64; 3]) {
    (run.data.fingerprint.clone(), run.data.split_seed, run.config.data.split)
}

/// Test rows of a run: the table they are in and their numbers.
fn test_rows(run: &Run, given: Option<&Path>) -> Result<(Dataset, Vec<usize>)> {
    if let Some(path) = given {
        let table = run.data.read_table(path, &run.config.data.table)?;
        let rows = (0..table.rows()).collect();
        return Ok((table, rows));
    }
    match run.prepared() {
        Some(own) if !own.split.test.is_empty() => Ok((own.table, own.split.test)),
        Some(_) => Err(Error::config(
            "experiment.images.test",
            "the run kept no test rows",
            "give experiment.images.test",
        )),
        None => Err(Error::config(
            "experiment.images.test",
            run.no_data(),
            "give experiment.images.test",
        )),
    }
}

/// Images whose features are computed at a time.
const BATCH: usize = 32;
/// Rows of the reference at most whose features are kept, for precision and recall.
const MOST: i64 = 10_000;
/// Neighbours that precision and recall are of, as published.
const NEIGHBOURS: usize = 3;

/// What the network sees in images, of which the features of the first `keep` are kept.
pub(crate) fn see(extractor: &Extractor, levels: &[f64], image: [usize; 3], keep: i64) -> Seen {
    let mut moments = FeatureMoments::new(extractor.network().dim());
    let (mut features, mut probabilities, mut seen) = (Vec::new(), Vec::new(), 0);
    for part in levels.chunks(BATCH * image.iter().product::<usize>()) {
        let found = extractor.features_of(part, image.map(|n| n as i64));
        moments.push(&found.pooled);
        let n = found.pooled.size()[0];
        features.push(found.pooled.narrow(0, 0, (keep - seen).clamp(0, n)));
        probabilities.push(found.logits.softmax(-1, None::<Kind>));
        seen += n;
    }
    let probabilities = Some(Tensor::cat(&probabilities, 0));
    Seen { moments, features: Tensor::cat(&features, 0), probabilities }
}
