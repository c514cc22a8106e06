//! `tweedie report`

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use tweedie::density::{Density, EvaluateOptions, Metric, SampleOptions};
use tweedie::run::{About, Facts};
use tweedie::sample::MOST_ROWS;
use tweedie::{Error, Result};
use tweedie_report::report::{Findings, Made, Scores, html};

use crate::Common;
use crate::console::{Console, say};
use crate::flags::Flags;
use crate::pictures::pictures;

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tweedie report runs/wine
  tweedie report runs/digits --shape 8x8")]
pub struct Arguments {
    /// The run directory; the page is RUN/report.html
    run: PathBuf,
    /// Test rows [default: the run's own test rows]
    #[arg(long, value_name = "TEST")]
    data: Option<PathBuf>,
    /// Steps of the sampler whose samples are shown
    #[arg(long, value_name = "K", default_value_t = SampleOptions::default().steps)]
    steps: usize,
    /// Samples drawn
    #[arg(short, long, value_name = "N", default_value_t = 1000)]
    n: usize,
    /// Show rows as pictures of this height and width
    #[arg(long, value_name = "HxW")]
    shape: Option<String>,
    /// At most this many test rows are scored, drawn at random by --seed [default: 2000; 64 images]
    #[arg(long, value_name = "ROWS")]
    rows: Option<usize>,
    /// Add scores of the samples' quality, of tables: as many samples as training rows are compared
    /// with them, which takes minutes where they are many
    #[arg(long)]
    quality: bool,
    /// Leave out the probability-flow ODE, the slowest estimator; images have none
    #[arg(long)]
    no_ode: bool,
    /// Seed of the draws, and of the choice of test rows
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    common: Common,
}

/// Rows that are computed at a time, of a table.
const BATCH: usize = 2048;
/// Numbers of steps whose bounds are shown; of images the first four.
const STEPS: [usize; 6] = [5, 10, 20, 50, 100, 200];

impl Arguments {
    /// What makes the page: this process, now.
    fn made(&self) -> Made {
        let about = About::now();
        let name = self.run.canonicalize().unwrap_or_else(|_| self.run.clone());
        let name = name.file_name().unwrap_or(name.as_os_str()).to_string_lossy().into_owned();
        let command = about.command_line();
        Made { name, date: about.date, version: about.version, seed: Some(self.seed), command }
    }

    fn check(&self) -> Result<()> {
        self.sampling(false).check()?;
        Error::check_count("-n", self.n, MOST_ROWS)?;
        self.rows.map_or(Ok(()), |rows| Error::check_count("--rows", rows, MOST_ROWS))
    }

    fn sampling(&self, images: bool) -> SampleOptions {
        let (steps, seed) = (self.steps, self.seed);
        let batch_size = (!images).then_some(BATCH);
        SampleOptions { steps, seed, batch_size, ..SampleOptions::default() }
    }

    fn judging(&self, images: bool) -> EvaluateOptions {
        let (steps, rows) = if images { (&STEPS[..4], 64) } else { (&STEPS[..], 2000) };
        EvaluateOptions {
            metrics: match self.quality {
                true => vec![Metric::Nll, Metric::Quality],
                false => vec![Metric::Nll],
            },
            rows: Some(self.rows.unwrap_or(rows)),
            steps: steps.to_vec(),
            ode: !self.no_ode,
            seed: self.seed,
            ..EvaluateOptions::default()
        }
    }
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let device = arguments.common.prepare()?;
    let quiet = arguments.common.quiet;
    arguments.check()?;
    let density = Density::load_on(&arguments.run, device)?;
    let images = density.is_of_images();
    let pictures = match (&arguments.shape, images) {
        (None, false) => None,
        (shape, _) => Some(pictures(&density, shape.as_deref())?),
    };
    let dir = &density.run().dir;
    let (path, out) = (dir.file("report.html"), dir.output("report.html")?);
    let facts = Facts::read(dir)?;
    let mut rows = density.test_rows(arguments.data.as_deref(), None)?;
    let available = rows.rows.len();
    let options = arguments.judging(images);
    rows.draw(&options);
    let mut console = Console::new(quiet);
    let evaluation = density.evaluate_with(Some(&rows), None, &options, &mut console)?;
    let (n, sampling) = (arguments.n, arguments.sampling(images));
    let samples = density.sample_beside(&rows, n, &sampling, &mut console)?;
    dir.remark_on_metrics()?.iter().for_each(|remark| say(quiet, remark.to_string()));
    let mut found = Findings {
        anomalies: Vec::new(),
        density: &density,
        facts: &facts,
        evaluation: &evaluation,
        rows: &rows,
        available,
        samples: &samples,
        steps: arguments.steps,
        pictures,
        remarks: Flags::here().remarks(density.run()),
        made: arguments.made(),
    };
    found.anomalies = found.least_likely(&mut Console::new(true))?;
    let page = found.inputs();
    out.finish(html(&page).as_bytes())?;
    say(quiet, "done");
    let result = |scores: &Scores| {
        let (mean, error, not_finite) = scores.figure();
        json!({
            "name": scores.name, "value": mean, "std_error": error, "not_finite": not_finite,
        })
    };
    let answer = json!({
        "report": path, "rows": evaluation.rows, "available": available, "unit": found.unit(),
        "results": page.scores.iter().chain(&page.baselines).map(result).collect::<Vec<_>>(),
        "verdict": page.verdict, "remarks": page.remarks,
    });
    arguments.common.print(&answer, path.display());
    Ok(())
}
