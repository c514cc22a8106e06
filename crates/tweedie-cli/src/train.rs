//! `tweedie train`

mod options;
mod trace;
mod watch;
mod words;

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use tweedie::density::{Density, FitOptions};
use tweedie::likelihood::bits_per_dim;
use tweedie::run::{KeepBy, Layer, RunDir, Status};
use tweedie::train::StopReason;
use tweedie::{Error, Result};

use crate::Common;
use crate::console::Console;
use crate::processes::Processes;
use crate::{interrupt, recipe};
pub use options::FLAGS;
pub use trace::Trace;
pub use watch::Fit;
use words::{at_iteration, figure_in_words};

#[derive(Args)]
#[command(after_help = "\
Examples:
  tweedie train --data wine.csv --out runs/wine --drop label
  tweedie train --data counts.parquet --out runs/counts --dequantize integers --rank 8
  tweedie train --data pictures/ --classes --flip --out runs/pictures
  tweedie train --data mixture:two-gaussians --out runs/two --iterations 5000
  tweedie train --data wine.csv --out runs/flow --schedule sub-vp --objective sm-lw-is
  tweedie train --data wine.csv --out runs/slow --set train.ema=0.9999
  tweedie train --recipe lm-cifar10-small --data cifar-10-batches-bin --out runs/lm
  tweedie train --data more.csv --out runs/again --config runs/wine/config.toml --unique=false
  tweedie train --out runs/wine --resume")]
pub struct Arguments {
    #[command(flatten)]
    options: options::Given,
    /// The run directory
    #[arg(long, value_name = "RUN")]
    out: PathBuf,
    /// A configuration file, as the config.toml of a run: what it gives wins over all defaults,
    /// flags win over it [default: none]
    #[arg(long, value_name = "FILE", conflicts_with = "recipe")]
    config: Option<PathBuf>,
    /// The configuration of a paper's training by its name in recipes/, such as
    /// scoreflow-vp-cifar10 or ocm-cifar10-linear-small: as --config [default: none]
    #[arg(long, value_name = "NAME")]
    recipe: Option<String>,
    /// Set any option of a configuration, as train.ema=0.99 or model.network.blocks=2; wins over
    /// the other flags, and can be given more than once [default: none]
    #[arg(long, value_name = "PATH=VALUE", value_parser = setting)]
    set: Vec<(String, String)>,
    /// Go on with the run in --out from its last checkpoint; only --iterations, --max-seconds,
    /// --patience and --checkpoint-every may be given with it
    #[arg(long)]
    resume: bool,
    /// Write a trace of 20 steps, after the first ten, by LibTorch's profiler: JSON for Perfetto or
    /// chrome://tracing [default: none]
    #[arg(long, value_name = "FILE", help_heading = "Training")]
    profile: Option<PathBuf>,
    /// Take the score from this finished run and train a covariance head on it [default: none, the
    /// score is trained]
    #[arg(long, value_name = "RUN", help_heading = "Training")]
    score_from: Option<PathBuf>,
    #[command(flatten)]
    processes: Processes,
    #[command(flatten)]
    common: Common,
}

/// `PATH=VALUE`.
fn setting(text: &str) -> std::result::Result<(String, String), String> {
    let (path, value) = text.split_once('=').ok_or("not PATH=VALUE, such as train.ema=0.99")?;
    match path.split('.').all(|name| !name.is_empty()) {
        true => Ok((path.trim().into(), value.trim().into())),
        false => Err(format!("{path:?} is no path of an option, such as train.ema")),
    }
}

impl Arguments {
    /// What is requested of the library.
    fn options(&self) -> Result<FitOptions> {
        let below = match (&self.config, &self.recipe) {
            (None, None) if self.resume => Layer::of(&RunDir::open(&self.out)?.config()?),
            (None, None) => Layer::new(),
            (given, _) if self.resume => {
                let flag = if given.is_some() { "--config" } else { "--recipe" };
                let remedy = "leave it out: what the run was begun with is kept in it";
                return Err(Error::config(flag, "cannot be given with --resume", remedy));
            }
            (Some(file), _) => Layer::read(file)?,
            (None, Some(name)) => recipe::layer(name)?,
        };
        let mut flags = self.options.layer(&below)?;
        for (path, value) in &self.set {
            flags.set_text(path, value);
        }
        Ok(FitOptions {
            layers: if self.resume { vec![flags] } else { vec![below, flags] },
            out: Some(self.out.clone()),
            resume: self.resume,
            score_from: self.score_from.clone(),
            automatic_rank: self.options.automatic_rank(),
            device: self.common.device.clone(),
        })
    }
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let (_, group) = arguments.processes.prepare(&arguments.common)?;
    match group.is_leader() {
        true => watch::listen(),
        // it stops with the others, at a step that all agree on
        false => interrupt::stop_when_interrupted(),
    }
    let mut console = Console::new(arguments.common.quiet);
    console.fit.resumes = arguments.resume;
    if let Some(path) = arguments.profile.as_ref().filter(|_| group.is_leader()) {
        // fails now, not after the steps
        std::fs::File::create(path).map_err(Error::io(path))?;
        console.trace = Some(Trace::new(path));
    }
    let options = || {
        if !arguments.resume {
            RunDir::check_free(&arguments.out)?;
        }
        arguments.options()
    };
    // the others have no run directory to look at
    let options = match group.is_leader() {
        true => group.reporting(options)?,
        false => FitOptions { device: arguments.common.device.clone(), ..FitOptions::default() },
    };
    let density = Density::fit_over(&group, None, &options, &mut console);
    let density = density.map_err(|error| match error {
        Error::Interrupted(what) => Error::Interrupted(format!(
            "{what}: go on with `tweedie train --out {} --resume`",
            arguments.out.display()
        )),
        error => error,
    })?;
    match group.is_leader() {
        true => report(&density, &arguments.common),
        false => Ok(()),
    }
}

/// Prints how the training ended.
fn report(density: &Density, common: &Common) -> Result<()> {
    let run = density.run();
    let (dir, record, quiet) = (&run.dir, &run.data, common.quiet);
    let Some(status) = dir.status()? else { return Ok(()) };
    let Status { ended, iteration, best_iteration, best, seconds } = status;
    let by = run.config.keep.by;
    let (of_image, of_table, distance) = match record.levels() {
        _ if by == KeepBy::Distance => (None, None, best),
        Some(_) => (best.map(|nats| bits_per_dim(nats, record.scaling.dim())), None, None),
        None => (None, best, None),
    };
    let answer = json!({
        "run": dir.path(), "iterations": iteration, "seconds": seconds,
        "ended": ended.map_or_else(String::new, |ended| format!("{ended:?}")),
        "best_iteration": best_iteration, "validation_bound_network_units": of_table,
        "validation_bits_per_dim": of_image, "frechet_distance": distance,
    });
    common.print(&answer, dir.path().display());
    let reason = match ended {
        Some(StopReason::EarlyStop) if by == KeepBy::Distance => {
            " (the Fréchet distance no longer improved)"
        }
        Some(StopReason::EarlyStop) => " (the validation bound no longer improved)",
        Some(StopReason::OutOfTime) => " (out of time)",
        _ => "",
    };
    say!(quiet, "{iteration} iterations in {seconds:.0} s{reason}");
    if let Some(best) = best {
        let (at, figure) = (at_iteration(best_iteration), figure_in_words(by, record, best));
        say!(quiet, "kept: the parameters of {at}, {figure}");
    }
    Ok(())
}
