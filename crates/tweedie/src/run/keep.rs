//! By what the parameters that a training keeps are chosen among those of its validations: the
//! validation bound, or the Fréchet distance of samples.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tch::Device;

use super::{Prepared, RunConfig};
use crate::choice::choices;
use crate::covariance::CovarianceConfig;
use crate::data::Scaling;
use crate::grid::SpacingConfig;
use crate::metric::{Extractor, FeatureMoments, FeatureStatistics, frechet_distance};
use crate::model::{Denoiser, Model};
use crate::noise::Seed;
use crate::sample::{MOST_ROWS, SampleOptions, Sampler};
use crate::tensor::to_vec;
use crate::watch::{Watch, check_stop};
use crate::{Error, Result};

choices! {
    /// By what the parameters that a training keeps are chosen among those of its validations.
    pub enum KeepBy = Bound {
        /// The largest validation bound
        Bound = "bound",
        /// The least Fréchet distance of samples, of images
        Distance = "distance",
    }
}

/// By what parameters are kept, as plain data. All but `by` is for [`KeepBy::Distance`], by which
/// Optimal Covariance Matching chooses its checkpoints (appendix B.2: every 10 000 steps of the
/// training, 2048 samples in all steps of the chain).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeepConfig {
    /// By what.
    pub by: KeepBy,
    /// The weights of the network whose features are compared ([`Extractor::read`]). A run keeps
    /// the absolute path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<PathBuf>,
    /// Statistics of features that samples are compared with ([`FeatureStatistics::read`]); by
    /// default those of all training images, computed when a training begins or goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<PathBuf>,
    /// Samples at each validation, of the same noise every time.
    pub samples: usize,
    /// As [`SampleOptions::sampler`].
    pub sampler: Sampler,
    /// Steps of the chain.
    pub steps: usize,
    /// As [`SampleOptions::spacing`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spacing: Option<SpacingConfig>,
    /// As [`SampleOptions::covariance`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub covariance: Option<CovarianceConfig>,
    /// As [`SampleOptions::covariance_until`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub covariance_until: Option<f64>,
    /// As [`SampleOptions::eta`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eta: Option<f64>,
    /// As [`SampleOptions::clip_noise`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_noise: Option<f64>,
}

impl Default for KeepConfig {
    fn default() -> KeepConfig {
        let usual = SampleOptions::default();
        KeepConfig {
            by: KeepBy::Bound,
            network: None,
            reference: None,
            samples: 2048,
            sampler: usual.sampler,
            steps: usual.steps,
            spacing: None,
            covariance: None,
            covariance_until: None,
            eta: None,
            clip_noise: None,
        }
    }
}

impl KeepConfig {
    /// How samples are drawn.
    fn sampling(&self) -> SampleOptions {
        SampleOptions {
            sampler: self.sampler,
            steps: self.steps,
            spacing: self.spacing,
            covariance: self.covariance,
            covariance_until: self.covariance_until,
            eta: self.eta,
            clip_noise: self.clip_noise,
            ..SampleOptions::default()
        }
    }

    /// Refuses what cannot be, whatever the data.
    ///
    /// # Errors
    /// [`Error::Config`] with the option's path.
    pub fn check(&self) -> Result<()> {
        match (self.by, &self.network) {
            (KeepBy::Bound, _) => {
                let given = [("network", &self.network), ("reference", &self.reference)];
                match given.iter().find(|(_, path)| path.is_some()) {
                    None => Ok(()),
                    Some((name, _)) => Err(Error::config(
                        format!("keep.{name}"),
                        "parameters are kept by the validation bound, which needs none",
                        "leave it out, or give keep.by = distance",
                    )),
                }
            }
            (KeepBy::Distance, None) => Err(Error::config(
                "keep.network",
                "samples are compared by the features of a network, and none was given",
                "give pytorch-fid's weights, or EfficientNet-Lite0's",
            )),
            (KeepBy::Distance, Some(_)) => {
                // one row has no covariance
                if self.samples < 2 {
                    let problem = self.samples.to_string();
                    return Err(Error::config("keep.samples", problem, "give at least two"));
                }
                Error::check_count("keep.samples", self.samples, MOST_ROWS)?;
                self.sampling().check().map_err(renamed)
            }
        }
    }

    /// The same with paths that hold from any working directory.
    pub(super) fn absolute(&self) -> KeepConfig {
        let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
        let [network, reference] =
            [&self.network, &self.reference].map(|path| path.as_ref().map(absolute));
        KeepConfig { network, reference, ..self.clone() }
    }
}

/// An error about an option of a sampler, as one about that of [`KeepConfig`].
fn renamed(error: Error) -> Error {
    let own = |text: String| text.replace("sample.", "keep.");
    match error {
        Error::Config { option, problem, remedy } => {
            Error::config(own(option), own(problem), own(remedy))
        }
        error => error,
    }
}

/// The Fréchet distance between the features of a model's samples and those of images.
pub struct Distance {
    extractor: Extractor,
    reference: FeatureStatistics,
    /// Channels, height and width.
    image: [i64; 3],
    scaling: Scaling,
    sampling: SampleOptions,
    samples: usize,
    /// Rows at a time.
    batch: usize,
}

impl Distance {
    /// Refuses a model that cannot be sampled as configured.
    ///
    /// # Errors
    /// [`Error::Config`] with the option's path.
    pub fn check(&self, model: &Model) -> Result<()> {
        let sampling = self.sampling.of(model, true);
        let found = sampling.grid(model.space().schedule()).map(drop);
        found.and_then(|()| model.covariance(sampling.covariance).map(drop)).map_err(renamed)
    }

    /// The distance of `model` as it is, by the same noise every time; `None` once `stop` returns
    /// true. Of a model that has no samples, as it may be early in a training, it is infinite.
    ///
    /// # Errors
    /// If it has no eigenvalues.
    pub fn of(&self, model: &Model, stop: &dyn Fn() -> bool) -> Result<Option<f64>> {
        let sampling = self.sampling.of(model, true);
        let drawn = sampling.draw_unless(model, self.samples, self.batch, stop);
        let samples = match drawn {
            _ if stop() => return Ok(None),
            Err(Error::Numeric { .. }) => return Ok(Some(f64::INFINITY)),
            drawn => drawn?,
        };
        let mut moments = FeatureMoments::new(self.extractor.network().dim());
        for part in samples.split(self.batch as i64, 0) {
            let levels = self.scaling.inverse(&to_vec(&part)).into_iter();
            let levels: Vec<f32> = levels.map(|v| v.clamp(0.0, 255.0) as f32).collect();
            moments.push(&self.extractor.features_of(&levels, self.image).pooled);
            if stop() {
                return Ok(None);
            }
        }
        let statistics = moments.statistics(self.extractor.network().name())?;
        frechet_distance(&statistics, &self.reference).map(Some)
    }
}

impl Prepared {
    /// What the samples of a model of these images are compared with while it is trained by
    /// `config`, where it keeps parameters by that.
    ///
    /// # Errors
    /// [`Error::Config`] if the data are a table or an option cannot be, whatever is wrong with the
    /// files, and [`Error::Interrupted`].
    pub fn distance(
        &self,
        config: &RunConfig,
        device: Device,
        watch: &mut dyn Watch,
    ) -> Result<Option<Distance>> {
        let keep = &config.keep;
        keep.check()?;
        let (KeepBy::Distance, Some(network)) = (keep.by, &keep.network) else { return Ok(None) };
        let Some(image) = self.record.levels().map(|shape| shape.map(|n| n as i64)) else {
            let remedy = "leave it out: it is for images";
            let what = if self.record.latents.is_some() { "latents" } else { "a table" };
            let problem = format!("distance, and the data are {what}");
            return Err(Error::config("keep.by", problem, remedy));
        };
        let extractor = Extractor::read(network, device)?;
        let batch = config.train.batch_size;
        let reference = match &keep.reference {
            Some(path) => extractor.read_statistics(path)?,
            None => self.features_of_training(&extractor, image, batch, watch)?,
        };
        let seed = Seed(config.seed).derive("distance").0;
        Ok(Some(Distance {
            extractor,
            reference,
            image,
            scaling: self.record.scaling.clone(),
            sampling: SampleOptions { seed, ..keep.sampling() },
            samples: keep.samples,
            batch,
        }))
    }

    fn features_of_training(
        &self,
        extractor: &Extractor,
        image: [i64; 3],
        batch: usize,
        watch: &mut dyn Watch,
    ) -> Result<FeatureStatistics> {
        let rows = &self.split.train;
        let mut moments = FeatureMoments::new(extractor.network().dim());
        watch.begin("features of the training images", rows.len() as u64);
        for part in rows.chunks(batch) {
            check_stop(watch)?;
            moments.push(&extractor.features_of(&self.table.gather(part), image).pooled);
            watch.progress(moments.count(), rows.len() as u64);
        }
        watch.end();
        moments.statistics(extractor.network().name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Errors of a sampler's options are about those of this section.
    #[test]
    fn errors_name_their_options() {
        let network = Some(PathBuf::from("weights"));
        let keep = KeepConfig { by: KeepBy::Distance, network, ..KeepConfig::default() };
        keep.check().unwrap();
        for (keep, option) in [
            (KeepConfig { by: KeepBy::Bound, ..keep.clone() }, "keep.network"),
            (KeepConfig { network: None, ..keep.clone() }, "keep.network"),
            (KeepConfig { samples: 1, ..keep.clone() }, "keep.samples"),
            (KeepConfig { steps: 0, ..keep.clone() }, "keep.steps"),
            (KeepConfig { clip_noise: Some(-1.0), ..keep.clone() }, "keep.clip_noise"),
            (KeepConfig { sampler: Sampler::Heun, eta: Some(0.5), ..keep.clone() }, "keep.eta"),
        ] {
            let error = keep.check().unwrap_err();
            assert_eq!(error.option(), Some(option), "{error}");
            assert!(!error.to_string().contains("sample."), "{error}");
        }
    }
}
