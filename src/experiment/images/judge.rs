//! How runs on images are judged: bits per dimension of test images, Fréchet distance of samples, sheets of samples.

use std::path::Path;

use tch::{Device, Kind, Tensor};

use super::{Record, Settings};
use crate::covariance::{Covariance, Reverse};
use crate::data::Table;
use crate::grid::even_trajectory;
use crate::likelihood::{Elbo, LogLikelihood};
use crate::metric::{Extractor, FeatureMoments, FeatureStatistics, frechet_distance};
use crate::model::Denoiser;
use crate::noise::Seed;
use crate::plot::{Sheet, sheet_of};
use crate::run::{Run, level_rows};
use crate::sample::{Ancestral, LastStep, run_chain, sample_in_batches};
use crate::tensor::to_vec;
use crate::{Error, Result};

/// A way to take a reverse step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Method {
    /// Of a step.
    pub covariance: Covariance,
    /// 1: ancestral; 0: DDIM, which has no likelihood of this kind.
    pub eta: f64,
}

impl Method {
    /// Ancestral, with the learned covariance.
    pub const LEARNED: Method = Method::ancestral(Covariance::Learned);
    /// Ancestral, `H = 0`: the paper's score-matching sampler.
    pub const ZERO_HESSIAN: Method = Method::ancestral(Covariance::ZeroHessian);
    /// Ancestral, with the covariance of the forward bridge, DDPM "small".
    pub const BETA_TILDE: Method = Method::ancestral(Covariance::BetaTilde);
    /// Deterministic.
    pub const DDIM: Method = Method::ddim(Covariance::BetaTilde);

    /// DDPM's steps, `η = 1`.
    pub const fn ancestral(covariance: Covariance) -> Method {
        Method { covariance, eta: 1.0 }
    }

    /// DDIM's steps, `η = 0`: with another covariance than β̃ they draw `x_0` from its posterior.
    pub const fn ddim(covariance: Covariance) -> Method {
        Method { covariance, eta: 0.0 }
    }

    /// What a run can be sampled by: all four, or without a head that says `G` all but the learned.
    pub fn of(run: &Run) -> &'static [Method] {
        const ALL: [Method; 4] = [Method::LEARNED, Method::ZERO_HESSIAN, Method::BETA_TILDE, Method::DDIM];
        let learned = run.model.config().head.is_some_and(|head| head.covariance() == Covariance::Learned);
        if learned { &ALL } else { &ALL[1..] }
    }

    /// Whether it has a likelihood.
    pub fn has_bits(self) -> bool {
        self.eta == 1.0
    }

    /// Its name in tables.
    pub fn label(self) -> String {
        match (self.has_bits(), self.covariance) {
            (true, covariance) => covariance.label(),
            (false, Covariance::BetaTilde) => "DDIM".into(),
            (false, covariance) => format!("DDIM, {}", covariance.label()),
        }
    }

    /// Its name in files.
    pub fn name(self) -> String {
        match (self.has_bits(), self.covariance) {
            (true, covariance) => covariance.to_string(),
            (false, Covariance::BetaTilde) => "ddim".into(),
            (false, covariance) => format!("ddim-{covariance}"),
        }
    }
}

/// Test images of one kind, and the protocol.
pub struct Judge<'a> {
    settings: &'a Settings,
    image: [usize; 3],
    /// The data that the runs must be of, unless the test images have a file of their own.
    dealt: Option<(String, u64, [f64; 3])>,
    /// Levels at their bins' centres, network units, `[n, d]`.
    levels: Tensor,
    frechet: Option<(Extractor, FeatureStatistics)>,
}

impl<'a> Judge<'a> {
    /// Reads the test images of `run`: those given, or the run's own. `extractor` is what Fréchet distances are of.
    pub fn new(settings: &'a Settings, run: &Run, extractor: Option<Extractor>) -> Result<Judge<'a>> {
        let image = image_of(run)?;
        let (table, mut rows) = test_images(run, settings.test.as_deref())?;
        let with_reference = |extractor: Extractor| {
            let reference = rows.iter().take(settings.reference).map(|&row| table.row(row));
            let reference: Vec<f64> = reference.flatten().map(|&level| level.into()).collect();
            let statistics = statistics(&extractor, &reference, image)?;
            Ok::<_, Error>((extractor, statistics))
        };
        let frechet = extractor.map(with_reference).transpose()?;
        rows.truncate(settings.rows);
        let levels = level_rows(&table, &rows, &run.data.scaling);
        let dealt = settings.test.is_none().then(|| dealt(run));
        Ok(Judge { settings, image, dealt, levels, frechet })
    }

    /// Refuses a run of other images, or one for which test images were training images.
    pub fn check(&self, run: &Run) -> Result<()> {
        let path = run.dir.path().display();
        if image_of(run)? != self.image {
            let problem = format!("{path} is of images of another shape");
            return Err(Error::config("--run", problem, "give runs of the same images"));
        }
        if self.dealt.as_ref().is_some_and(|own| *own != dealt(run)) {
            let problem = format!("{path} has other test images than the first run");
            let remedy = "give runs of the same images, dealt alike, or test images with --test";
            return Err(Error::config("--run", problem, remedy));
        }
        Ok(())
    }

    /// What the Fréchet distances are called, where there are any.
    pub fn distance_name(&self) -> Option<&'static str> {
        self.frechet.as_ref().map(|(extractor, _)| extractor.network().distance_name())
    }

    /// The protocol, for a page.
    pub fn protocol(&self) -> String {
        let n = self.levels.size()[0];
        let mut out = format!(
            "Bits per dimension: the first {n} test images, an upper bound by the K-step ELBO on the even trajectory of \
             OCM and Analytic-DPM with the discretised decoder, one draw per step, ± one standard error over images. \
             Samples: the same K steps, last step the mean, the same seeds for every method."
        );
        out += &match &self.frechet {
            Some((extractor, statistics)) => format!(
                " {}: {} samples against the first {} test images, Fréchet distance of the features of {}; it is \
                 biased upwards for few samples and comparable within this page only.",
                extractor.network().distance_name(),
                self.settings.samples,
                statistics.count.unwrap_or(0),
                extractor.network().name(),
            ),
            None => {
                " No Fréchet distances: they need the weights of a feature network (--features FILE).".into()
            }
        };
        out
    }

    /// Everything about `run`, called `arm`, under `method` in `steps` steps, and a sheet of the first `sheet` samples.
    pub fn measure(
        &self,
        run: &Run,
        arm: &str,
        method: Method,
        steps: usize,
        sheet: usize,
    ) -> Result<(Record, Sheet)> {
        let bits = method.has_bits().then(|| self.bits(run, method, steps)).transpose()?;
        let wanted = if self.frechet.is_some() { self.settings.samples.max(sheet) } else { sheet };
        let levels = if wanted > 0 { self.samples(run, method, steps, wanted)? } else { Vec::new() };
        let d: usize = self.image.iter().product();
        let frechet = match &self.frechet {
            None => None,
            Some((extractor, reference)) => {
                let samples = statistics(extractor, &levels[..self.settings.samples * d], self.image)?;
                Some(frechet_distance(&samples, reference)?)
            }
        };
        let record = Record { arm: arm.into(), method, steps, bits, frechet };
        Ok((record, self.sheet(&levels[..sheet * d])))
    }

    /// Bits per dimension and their standard error over images.
    fn bits(&self, run: &Run, method: Method, steps: usize) -> Result<(f64, f64)> {
        let reverse = Reverse::new(&run.model, method.covariance, 1.0)?;
        let elbo = Elbo::of_levels(reverse, even_trajectory(&**run.schedule(), steps)?, 1);
        let x = self.levels.to_kind(run.model.kind()).to_device(run.model.device());
        let seed = self.seed().derive("bits");
        let estimate = elbo.in_batches(&x, seed, self.settings.batch, &mut |_| ())?;
        Ok(estimate.bits_per_dim(self.levels.size()[1] as usize))
    }

    /// Seconds per image and step of sampling `images` in `steps`: the least of three.
    pub fn seconds_per_step(
        &self,
        run: &Run,
        method: Method,
        (images, steps): (usize, usize),
    ) -> Result<f64> {
        let mut least = f64::INFINITY;
        for _ in 0..3 {
            let begun = std::time::Instant::now();
            self.samples(run, method, steps, images)?;
            least = least.min(begun.elapsed().as_secs_f64() / (images * steps) as f64);
        }
        Ok(least)
    }

    /// Levels of samples, image after image.
    fn samples(&self, run: &Run, method: Method, steps: usize, n: usize) -> Result<Vec<f64>> {
        let step = Ancestral::new(&run.model, method.covariance, method.eta, LastStep::Mean)?;
        let grid = even_trajectory(&**run.schedule(), steps)?;
        let seed = self.seed().derive("samples");
        let scaled = sample_in_batches(n, self.settings.batch, |rows| run_chain(&step, &grid, seed, rows))?;
        let levels = run.data.scaling.inverse(&to_vec(&scaled));
        Ok(levels.into_iter().map(|level| level.clamp(0.0, 255.0)).collect())
    }

    fn sheet(&self, levels: &[f64]) -> Sheet {
        let images = levels.len() / self.image.iter().product::<usize>();
        sheet_of(levels, self.image, (images as f64).sqrt().ceil() as usize, (0.0, 255.0))
    }

    fn seed(&self) -> Seed {
        Seed(self.settings.seed).derive("judge")
    }
}

fn image_of(run: &Run) -> Result<[usize; 3]> {
    let path = run.dir.path().display();
    if run.model.classes() > 0 {
        let problem = format!("{path} is conditioned on classes");
        return Err(Error::config("--run", problem, "give runs without classes"));
    }
    let problem = || format!("{path} is of a table");
    run.data.image.ok_or_else(|| Error::config("--run", problem(), "give runs of images"))
}

/// What decides which images are test images.
fn dealt(run: &Run) -> (String, u64, [f64; 3]) {
    (run.data.fingerprint.clone(), run.data.split_seed, run.config.data.split)
}

/// Test images of a run: the table they are in and their rows.
fn test_images(run: &Run, given: Option<&Path>) -> Result<(Table, Vec<usize>)> {
    if let Some(path) = given {
        let table = run.data.read_table(path, &run.config.data.table)?;
        let rows = (0..table.rows()).collect();
        return Ok((table, rows));
    }
    match run.prepared() {
        Some(own) if !own.split.test.is_empty() => Ok((own.table, own.split.test)),
        Some(_) => {
            Err(Error::config("--test", "the run kept no test images", "give test images with --test"))
        }
        None => Err(Error::config(
            "--test",
            format!("{} is not at hand, or no longer the images of this run", run.config.data.source),
            "give test images with --test",
        )),
    }
}

/// Images whose features are computed at a time.
const BATCH: usize = 32;

fn statistics(extractor: &Extractor, levels: &[f64], image: [usize; 3]) -> Result<FeatureStatistics> {
    let [channels, height, width] = image.map(|n| n as i64);
    let mut moments = FeatureMoments::new(extractor.network().dim());
    for part in levels.chunks(BATCH * (channels * height * width) as usize) {
        let images = Tensor::from_slice(part).to_kind(Kind::Float).to_device(Device::Cpu);
        moments.push(&extractor.features(&images.view([-1, channels, height, width])).pooled);
    }
    moments.statistics(extractor.network().name())
}
