//! The run whose base and score are taken for a head.

use std::path::Path;

use tch::Device;

use super::WatchFit;
use crate::covariance::Spectrum;
use crate::model::{ModelConfig, Structure};
use crate::noise::Seed;
use crate::run::{DataRecord, Prepared, Run, RunConfig};
use crate::watch::Remark;
use crate::{Error, Result};

/// Rows whose noise is measured at a time, at most.
const MEASURED_AT_ONCE: usize = 64;
/// Numbers of all points of a spectrum, about: each takes a product of the network.
const SPECTRUM_NUMBERS: usize = 8192;
/// The share of the norm of `G` that a chosen rank may leave, and the highest that is chosen.
const LEFT: f64 = 0.1;
const MOST_RANK: usize = 32;

/// The finished run whose base and score are taken; it must have the same data, network and
/// schedule.
pub(super) fn load_donor(
    path: &Path,
    config: &RunConfig,
    prepared: &Prepared,
    device: Device,
) -> Result<Run> {
    let donor = Run::load(path, device)?;
    let bad = |problem: &str, remedy: &str| {
        let problem = format!("{} {problem}", path.display());
        Err(Error::config("fit.score_from", problem, remedy))
    };
    if donor.data.scaling != prepared.record.scaling {
        let remedy = "train on the same data with the same options data and data.split_seed";
        return bad("was trained on other columns or scaled otherwise", remedy);
    }
    let vae = |record: &DataRecord| record.latents.as_ref().map(|of| of.digest.clone());
    if vae(&donor.data) != vae(&prepared.record) {
        let remedy = "train on latents of the same autoencoder";
        return bad("was trained on other latents", remedy);
    }
    let mut names = donor.data.classes.iter().enumerate();
    // an imported model knows its classes by number
    if donor.data.classes != prepared.record.classes
        && !names.all(|(i, name)| *name == i.to_string())
    {
        let problem = format!("has the classes {}", donor.data.classes.join(", "));
        return bad(&problem, "train on images of the same classes");
    }
    let score = |config: &ModelConfig| ModelConfig {
        head: None,
        network: config.network.score_only(),
        ..config.clone()
    };
    if score(&config.model) != score(&donor.config.model)
        || config.schedule != donor.config.schedule
        || config.base.kind != donor.config.base.kind
    {
        let remedy = "leave out fit.config, or give it the same network, base and schedule";
        return bad("has another network, base or schedule", remedy);
    }
    Ok(donor)
}

/// The rank that the score of `donor` needs.
pub(super) fn choose_rank(
    config: &mut RunConfig,
    donor: &Run,
    prepared: &Prepared,
    watch: &mut dyn WatchFit,
) -> Result<()> {
    let Some(head) = &mut config.model.head else { return Ok(()) };
    let seed = Seed(config.seed).derive("spectrum");
    let points = (SPECTRUM_NUMBERS / donor.data.scaling.dim()).clamp(10, 200);
    let rows = prepared.training_batch(points, seed.derive("rows"));
    let spectrum = Spectrum::measure(&donor.model, &rows, points, seed)?;
    let rank = spectrum.rank(LEFT).min(MOST_RANK);
    let percent = |r| format!("{:.0} %", 100.0 * spectrum.left(r));
    watch.say(Remark::Progress(format!(
        "rank {rank}: beside it {} of the norm of the score's G is left, beside rank 0 {} \
         ({points} points; at most rank {MOST_RANK})",
        percent(rank),
        percent(0)
    )));
    head.structure = Structure::LowRank(rank as i64);
    config.objective.check_head(head)
}

/// Measures what a head on the score of `donor` starts from: once, and not in the time that
/// training is given.
pub(super) fn measure(
    donor: &mut Run,
    config: &RunConfig,
    prepared: &Prepared,
    watch: &mut dyn WatchFit,
) -> Result<()> {
    watch.say(Remark::Progress(
        "measuring the noise of the score, which the head starts from; train.max_seconds begins \
         after it"
            .into(),
    ));
    let batch = MEASURED_AT_ONCE.min(config.train.batch_size);
    let mut begun = false;
    donor.measure_for_head(prepared, batch, &mut |done, all| {
        if !std::mem::replace(&mut begun, true) {
            watch.begin("measure", all);
        }
        watch.progress(done, all);
    })?;
    if begun {
        watch.end();
    }
    Ok(())
}
