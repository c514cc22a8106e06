//! `tweedie experiment`

#[path = "cost.rs"]
mod cost;
#[path = "estimators.rs"]
mod estimators;
#[path = "images.rs"]
mod images;
#[path = "scoreflow.rs"]
mod scoreflow;
#[path = "theory.rs"]
mod theory;
#[path = "toy.rs"]
mod toy;
#[path = "weighting.rs"]
mod weighting;

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, Subcommand};
use serde_json::json;
use tch::Device;
use tweedie::data::OutputFile;
use tweedie::{Error, Result};
use tweedie_papers::mixture::Mixture;

use crate::Common;
use crate::console::{Progress, print_json, say};

#[derive(Subcommand, Debug)]
pub enum Which {
    /// Samples of mixtures in few steps: Likelihood Matching, Figures 2(a, b) and 3
    #[command(after_help = MIXTURE_HELP)]
    Mixture(Output),
    /// Seconds, memory and sampling time beside score matching: Likelihood Matching, Tables 3 and 4
    Cost(cost::Arguments),
    /// Samples and bits per dimension of images in few steps: Likelihood Matching, Figure 4
    FewSteps(images::FewStepsArguments),
    /// Training and sampling with and without the Hessian: Likelihood Matching, §5.3
    HessianAblation(images::AblationArguments),
    /// Bits per dimension and Fréchet distance over transitions and rank: Likelihood Matching,
    /// Figure 2(c)
    ImageGrid(images::GridArguments),
    /// Every covariance on one score of images: Optimal Covariance Matching, Tables 3, 4, 5 and 8
    CovarianceTable(images::CovarianceArguments),
    /// Every covariance against the exact one on known laws: Optimal Covariance Matching, Figure 3
    CovarianceToy(toy::CovarianceToyArguments),
    /// The diagonal by random signs beside a learned one: Optimal Covariance Matching, Figure 1
    Rademacher(toy::RademacherArguments),
    /// Likelihood, bound and distance over forward processes and weightings: ScoreFlow, Table 2
    ScoreflowTable(scoreflow::TableArguments),
    /// Error and cost of every log-likelihood, where the truth is known and on runs
    Estimators(estimators::Arguments),
    /// Divergence and distance against steps and errors, with exact scores: Likelihood Matching,
    /// Theorem 1
    Theory(theory::Arguments),
    /// The variance of the loss with and without importance sampling: ScoreFlow, Figure 2
    WeightingVariance(weighting::VarianceArguments),
    /// Likelihood and samples under weightings between σ² and likelihood: ScoreFlow, §7
    WeightingInterpolation(weighting::InterpolationArguments),
}

const MIXTURE_HELP: &str = "\
Writes mixture.md, mixture.csv and figures: MMD² of samples of two mixtures against their laws in closed form, over steps, of \
score matching, Likelihood Matching and exact scores.

Time: half an hour of one thread (28 min of processor time).

Examples:
  tweedie experiment mixture --out results/mixture
  tweedie experiment mixture --out results/look --quick";


/// What stands on the page of every experiment run with `--quick`.
const QUICK_BANNER: &str = "\
> **Made with `--quick`: the numbers on this page mean nothing.** Data, trainings and repetitions are cut down to see that the
> experiment runs. Leave out `--quick` for figures.";

#[derive(Args, Debug)]
struct Output {
    /// Where CSV, SVG and Markdown are written
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Small sizes, to see in a minute or two that it runs; the numbers mean nothing, and the page
    /// says so
    #[arg(long)]
    quick: bool,
    /// Seed of everything random
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    common: Common,
}

impl Output {
    /// The device. Makes the directory and finds out now whether it can be written.
    fn prepare(&self) -> Result<Device> {
        let device = self.common.prepare()?;
        std::fs::create_dir_all(&self.out).map_err(Error::io(&self.out))?;
        OutputFile::create(self.out.join("probe.csv"))?;
        Ok(device)
    }

    fn run<R>(
        &self,
        name: &str,
        work: impl FnOnce(&mut dyn FnMut(&str, f64)) -> Result<R>,
        write: impl FnOnce(&R, &Path) -> Result<()>,
    ) -> Result<()> {
        let started = Instant::now();
        let mut bar = Progress::new(name, 1000, self.common.quiet);
        let report = work(&mut |what, fraction| {
            bar.at((fraction * 1000.0) as u64);
            bar.note(what);
        })?;
        bar.finish();
        write(&report, &self.out)?;
        let page = self.out.join(format!("{name}.md"));
        if self.quick {
            let text = std::fs::read_to_string(&page).map_err(Error::io(&page))?;
            OutputFile::create(&page)?.finish(with_banner(&text).as_bytes())?;
        }
        say(self.common.quiet, "done");
        match self.common.json {
            true => print_json(&json!({
                "experiment": name, "page": page, "out": self.out, "quick": self.quick, "seed": self.seed,
                "seconds": started.elapsed().as_secs_f64(),
            })),
            false => println!("{}", page.display()),
        }
        Ok(())
    }
}

/// A page with the banner of `--quick` below its title.
fn with_banner(page: &str) -> String {
    match page.split_once('\n') {
        Some((title, rest)) if title.starts_with('#') => {
            format!("{title}\n\n{QUICK_BANNER}\n{rest}")
        }
        _ => format!("{QUICK_BANNER}\n\n{page}"),
    }
}

pub fn run(which: &Which) -> Result<()> {
    match which {
        Which::Mixture(output) => {
            output.prepare()?;
            let experiment =
                Mixture { seed: output.seed, quick: output.quick, ..Mixture::default() };
            output.run(
                "mixture",
                |progress| experiment.run(progress),
                |report, dir| report.write(dir),
            )
        }
        Which::Cost(arguments) => arguments.run(),
        Which::FewSteps(arguments) => arguments.run(),
        Which::HessianAblation(arguments) => arguments.run(),
        Which::ImageGrid(arguments) => arguments.run(),
        Which::CovarianceTable(arguments) => arguments.run(),
        Which::CovarianceToy(arguments) => arguments.run(),
        Which::Rademacher(arguments) => arguments.run(),
        Which::ScoreflowTable(arguments) => arguments.run(),
        Which::Estimators(arguments) => arguments.run(),
        Which::Theory(arguments) => arguments.run(),
        Which::WeightingVariance(arguments) => arguments.run(),
        Which::WeightingInterpolation(arguments) => arguments.run(),
    }
}

