//! `tweedie train`

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Args, ValueEnum};
use serde_json::json;
use tweedie::data::{Dequantize, Marginals, Missing};
use tweedie::grid::TimeLaw;
use tweedie::model::{Base, BaseKind, HeadConfig, HeadTrunk, Model, Parametrization, Structure};
use tweedie::noise::Seed;
use tweedie::objective::{ObjectiveConfig, ScoreGradient, Weighting};
use tweedie::run::{Prepared, Run, RunConfig, RunDir};
use tweedie::train::{Ended, Hooks, Metric, State, Trainer, Validation};
use tweedie::{Error, Result};

use crate::Common;
use crate::console::{Progress, print_json, say};

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ObjectiveName {
    /// Likelihood Matching
    Lm,
    /// Denoising score matching, σ² weighting
    Sm,
    /// Score matching, likelihood weighting, uniform t
    SmLw,
    /// Score matching, likelihood weighting, importance-sampled t
    SmLwIs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Mode {
    /// The quasi-likelihood trains score and head together
    Joint,
    /// Score matching trains the score, the quasi-likelihood the head
    Dsm,
    /// The score is frozen; the head is trained
    Head,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum BaseName {
    Isotropic,
    Gaussian,
    Mixture,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum MarginalsName {
    /// Shift and scale each column
    Standardize,
    /// Map each column to a normal law by a smooth monotone spline
    Gaussianize,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tweedie train --data wine.csv --out runs/wine --drop label
  tweedie train --data counts.parquet --out runs/counts --dequantize integers --rank 8
  tweedie train --data mixture:two-gaussians --out runs/two --iterations 5000
  tweedie train --out runs/wine --resume")]
pub struct Arguments {
    /// A table (CSV, TSV, Parquet, NPY), or mixture:NAME
    #[arg(long, value_name = "FILE|mixture:NAME")]
    data: Option<String>,
    /// The run directory
    #[arg(long, value_name = "RUN")]
    out: PathBuf,
    /// A configuration file; flags win over it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Go on with the run in --out
    #[arg(long)]
    resume: bool,
    /// Seed of everything random
    #[arg(long, value_name = "S")]
    seed: Option<u64>,

    /// Columns to use, by name or position from 1 [default: all]
    #[arg(long, value_name = "A,B,…", value_delimiter = ',', help_heading = "Data")]
    columns: Vec<String>,
    /// Columns to leave out
    #[arg(long, value_name = "A,B,…", value_delimiter = ',', help_heading = "Data")]
    drop: Vec<String>,
    /// Delimiter of a text table [default: found]
    #[arg(long, value_name = "CHAR", help_heading = "Data")]
    delimiter: Option<char>,
    /// Whether a text table has a header [default: found]
    #[arg(long, value_name = "BOOL", help_heading = "Data")]
    header: Option<bool>,
    /// Rows with missing cells: an error, or dropped and counted
    #[arg(long, value_name = "error|drop-rows", help_heading = "Data")]
    missing: Option<String>,
    /// Drop duplicate rows
    #[arg(long, help_heading = "Data")]
    unique: bool,
    /// Columns to dequantise by uniform noise: none, integers, or names
    #[arg(long, value_name = "WHICH", help_heading = "Data")]
    dequantize: Option<String>,
    /// How columns are brought to the network's units
    #[arg(long, help_heading = "Data")]
    marginals: Option<MarginalsName>,
    /// Validation rows from a file of their own
    #[arg(long, value_name = "FILE", help_heading = "Data")]
    validation: Option<PathBuf>,
    /// Shares of training, validation and test rows [default: 0.8,0.1,0.1]
    #[arg(long, value_name = "A,B,C", value_delimiter = ',', num_args = 1, help_heading = "Data")]
    split: Vec<f64>,

    /// The distribution that the network corrects
    #[arg(long, help_heading = "Model")]
    base: Option<BaseName>,
    /// Rank of the covariance head: 0 is diagonal; or full
    #[arg(long, value_name = "R|full", help_heading = "Model")]
    rank: Option<String>,
    /// Take H = ReLU(U) + VVᵀ as the paper's text does
    #[arg(long, help_heading = "Model")]
    paper_literal: bool,
    /// Hidden units
    #[arg(long, value_name = "W", help_heading = "Model")]
    width: Option<i64>,
    /// Residual blocks
    #[arg(long, value_name = "L", help_heading = "Model")]
    depth: Option<i64>,
    /// A network of its own for the covariance, as in the paper
    #[arg(long, help_heading = "Model")]
    separate: bool,

    /// What is minimised
    #[arg(long, help_heading = "Training")]
    objective: Option<ObjectiveName>,
    /// What trains the score under lm
    #[arg(long, help_heading = "Training")]
    mode: Option<Mode>,
    /// Take the score from this finished run and train a covariance head on it
    #[arg(long, value_name = "RUN", help_heading = "Training")]
    score_from: Option<PathBuf>,
    /// Transitions per path under lm; draws per row under sm
    #[arg(long, value_name = "N", help_heading = "Training")]
    transitions: Option<usize>,
    /// Steps of the optimiser
    #[arg(long, value_name = "I", help_heading = "Training")]
    iterations: Option<u64>,
    /// Rows per step
    #[arg(long, value_name = "B", help_heading = "Training")]
    batch_size: Option<usize>,
    /// Adam's step size
    #[arg(long, value_name = "RATE", help_heading = "Training")]
    learning_rate: Option<f64>,
    /// Validations without improvement before stopping (0: never)
    #[arg(long, value_name = "P", help_heading = "Training")]
    patience: Option<u64>,
    /// Stop after this many seconds
    #[arg(long, value_name = "SECONDS", help_heading = "Training")]
    max_seconds: Option<f64>,
    /// Steps between checkpoints
    #[arg(long, value_name = "STEPS", help_heading = "Training")]
    checkpoint_every: Option<u64>,

    #[command(flatten)]
    common: Common,
}

impl Arguments {
    /// Flags over the configuration.
    fn apply(&self, config: &mut RunConfig) -> Result<()> {
        fn set<T: Clone>(field: &mut T, flag: &Option<T>) {
            if let Some(value) = flag {
                *field = value.clone();
            }
        }
        set(&mut config.data.source, &self.data);
        set(&mut config.seed, &self.seed);
        let table = &mut config.data.table;
        if !self.columns.is_empty() {
            table.columns = self.columns.clone();
        }
        if !self.drop.is_empty() {
            table.drop = self.drop.clone();
        }
        if self.delimiter.is_some() {
            table.delimiter = self.delimiter;
        }
        if self.header.is_some() {
            table.header = self.header;
        }
        table.unique |= self.unique;
        match self.missing.as_deref() {
            None => (),
            Some("error") => table.missing = Missing::Error,
            Some("drop-rows") => table.missing = Missing::DropRows,
            Some(other) => return Err(Error::config("--missing", other, "give error or drop-rows")),
        }
        match self.dequantize.as_deref() {
            None => (),
            Some("none") => config.data.scaling.dequantize = Dequantize::None,
            Some("integers") => config.data.scaling.dequantize = Dequantize::Integers,
            Some(names) => {
                config.data.scaling.dequantize =
                    Dequantize::Columns(names.split(',').map(String::from).collect());
            }
        }
        match self.marginals {
            None => (),
            Some(MarginalsName::Standardize) => config.data.scaling.marginals = Marginals::Standardize,
            Some(MarginalsName::Gaussianize) => config.data.scaling.marginals = Marginals::Gaussianize,
        }
        if self.validation.is_some() {
            config.data.validation = self.validation.clone();
            config.data.split = [1.0, 0.0, 0.0];
        }
        match self.split[..] {
            [] => (),
            [a, b, c] => config.data.split = [a, b, c],
            _ => {
                return Err(Error::config(
                    "--split",
                    format!("{:?}", self.split),
                    "give three shares, 0.8,0.1,0.1",
                ));
            }
        }
        match self.base {
            None => (),
            Some(BaseName::Isotropic) => config.base.kind = BaseKind::Isotropic,
            Some(BaseName::Gaussian) => config.base.kind = BaseKind::Gaussian,
            Some(BaseName::Mixture) => config.base.kind = BaseKind::Mixture,
        }
        set(&mut config.model.network.width, &self.width);
        set(&mut config.model.network.depth, &self.depth);
        if self.separate {
            config.model.network.head_trunk = HeadTrunk::Separate;
        }
        let train = &mut config.train;
        set(&mut train.iterations, &self.iterations);
        set(&mut train.batch_size, &self.batch_size);
        set(&mut train.learning_rate, &self.learning_rate);
        set(&mut train.patience, &self.patience);
        set(&mut train.max_seconds, &self.max_seconds);
        set(&mut train.checkpoint_every, &self.checkpoint_every);
        self.apply_objective(config)?;
        self.apply_head(config)
    }

    fn apply_objective(&self, config: &mut RunConfig) -> Result<()> {
        let sm = |weighting, time| ObjectiveConfig::Sm { weighting, time, draws: 1 };
        match self.objective {
            None => (),
            Some(ObjectiveName::Lm) if config.objective.trains_head() => (),
            Some(ObjectiveName::Lm) => config.objective = ObjectiveConfig::default(),
            Some(ObjectiveName::Sm) => config.objective = sm(Weighting::Sigma2, TimeLaw::Uniform),
            Some(ObjectiveName::SmLw) => config.objective = sm(Weighting::Likelihood, TimeLaw::Uniform),
            Some(ObjectiveName::SmLwIs) => config.objective = sm(Weighting::Likelihood, TimeLaw::LogSnr),
        }
        match (&mut config.objective, self.transitions) {
            (_, None) => (),
            (ObjectiveConfig::Lm { transitions, .. }, Some(n)) => *transitions = n,
            (ObjectiveConfig::Sm { draws, .. }, Some(n)) => *draws = n,
        }
        if let Some(mode) = self.mode {
            let ObjectiveConfig::Lm { score, .. } = &mut config.objective else {
                return Err(Error::config(
                    "--mode",
                    "given with a score-matching objective",
                    "give --objective lm",
                ));
            };
            *score = match mode {
                Mode::Joint => ScoreGradient::Joint,
                Mode::Dsm => ScoreGradient::Dsm,
                Mode::Head => ScoreGradient::Frozen,
            };
        }
        if self.score_from.is_some()
            && !matches!(config.objective, ObjectiveConfig::Lm { score: ScoreGradient::Frozen, .. })
        {
            return Err(Error::config("--score-from", "the score would be trained", "give --mode head"));
        }
        Ok(())
    }

    fn apply_head(&self, config: &mut RunConfig) -> Result<()> {
        if !config.objective.trains_head() {
            if self.rank.is_some() {
                return Err(Error::config(
                    "--rank",
                    "score matching has no covariance head",
                    "give --objective lm",
                ));
            }
            config.model.head = None;
            return Ok(());
        }
        let head = config.model.head.get_or_insert_with(HeadConfig::default);
        match self.rank.as_deref() {
            None => (),
            Some("full") => head.structure = Structure::Full,
            Some(rank) => {
                let rank = rank.parse().ok().filter(|r| *r >= 0);
                let wrong =
                    || Error::config("--rank", format!("{:?}", self.rank), "give a number from 0, or full");
                head.structure = Structure::LowRank(rank.ok_or_else(wrong)?);
            }
        }
        if self.paper_literal {
            head.parametrization = Parametrization::PaperLiteral;
        }
        Ok(())
    }
}

struct Console<'a> {
    dir: &'a RunDir,
    progress: Progress,
    unit: &'static str,
}

static STOP: AtomicBool = AtomicBool::new(false);

impl Hooks for Console<'_> {
    fn metric(&mut self, metric: &Metric) -> Result<()> {
        self.dir.append_metric(metric)?;
        let mut text = format!("loss {:.4}", metric.loss);
        if let Some(value) = metric.validation {
            text =
                format!("iteration {}, {text}, validation bound {value:.4} {}", metric.iteration, self.unit);
            if metric.skipped > 0 {
                text += &format!(", {} steps skipped", metric.skipped);
            }
            self.progress.message(text);
        }
        Ok(())
    }

    fn step(&mut self, iteration: u64) {
        self.progress.at(iteration);
    }

    fn checkpoint(&mut self, model: &Model, state: &State) -> Result<()> {
        self.dir.checkpoint(model, state)
    }

    fn stop(&self) -> bool {
        STOP.load(Ordering::Relaxed)
    }
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let device = arguments.common.prepare()?;
    let quiet = arguments.common.quiet;
    let (dir, config) = match arguments.resume {
        true => resumed(arguments)?,
        false => {
            let mut config = match &arguments.config {
                Some(path) => {
                    let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
                    RunConfig::from_toml(&text, path)?
                }
                None => RunConfig::default(),
            };
            arguments.apply(&mut config)?;
            config.train.check()?;
            (None, config)
        }
    };
    let objective = config.objective.build()?;
    let prepared = Prepared::read(&config.data, config.seed)?;
    describe(&prepared, quiet);
    let seed = Seed(config.seed);
    let validation = prepared.validation_rows(config.train.validation_rows, seed.derive("validation rows"));
    let (dir, model, mut state) = match dir {
        Some(dir) => {
            let stored = dir.data()?;
            if stored.fingerprint != prepared.record.fingerprint {
                return Err(Error::config(
                    "--resume",
                    format!("{} is not the table that this run was started on", config.data.source),
                    "restore the table, or start a new run with another --out",
                ));
            }
            let model = dir.initial_model(&config, device)?;
            let state = dir.state(&model)?;
            dir.truncate_metrics(state.iteration)?;
            (dir, model, state)
        }
        None => {
            let donor = arguments
                .score_from
                .as_ref()
                .map(|path| donor(path, &config, &prepared, device))
                .transpose()?;
            // a model that cannot be is refused before anything is written
            let any = Base::standard(prepared.record.scaling.dim() as i64);
            config.model.init(any, config.schedule.build()?, device, seed)?;
            let dir = RunDir::create(&arguments.out)?;
            let base = match &donor {
                Some(donor) => donor.dir.base(&donor.config)?,
                None => {
                    let rows = prepared.training_rows(config.base.max_rows, seed.derive("base rows"));
                    Base::fit(&config.base, &rows, &validation)?
                }
            };
            let components = base.parameters().weights.len();
            if components > 1 {
                say(quiet, format!("base: a mixture of {components} Gaussians"));
            }
            dir.write_setup(&config, &prepared.record, &base)?;
            // read back, so that a resumed training has the same bits
            let model = dir.initial_model(&config, device)?;
            if let Some(donor) = &donor {
                let size = model.score_size();
                let score = donor.model.parameters().flat().narrow(0, 0, size);
                tch::no_grad(|| model.parameters().flat().narrow(0, 0, size).copy_(&score));
            }
            let state = State::new(&model);
            dir.checkpoint(&model, &state)?;
            (dir, model, state)
        }
    };
    ctrlc::set_handler(|| STOP.store(true, Ordering::Relaxed)).expect("one handler");
    let mut progress = Progress::new("train", config.train.iterations, quiet);
    progress.start_at(state.iteration);
    let mut hooks = Console { dir: &dir, progress, unit: "nats per row (network units)" };
    let judge = (validation.size()[0] > 0).then(|| Validation::new(&validation, seed));
    let trainer = Trainer { config: config.train.clone() };
    let rows = prepared.training();
    let ended = trainer.fit(&model, &*objective, &rows, judge.as_ref(), seed, &mut state, &mut hooks)?;
    hooks.progress.finish();
    if ended == Ended::Stopped {
        return Err(Error::Interrupted(format!(
            "stopped at iteration {}; everything is saved: go on with `tweedie train --out {} --resume`",
            state.iteration,
            dir.path().display()
        )));
    }
    let best = state.best.as_ref().map(|b| b.value);
    if arguments.common.json {
        print_json(&json!({
            "run": dir.path(), "iterations": state.iteration, "seconds": state.seconds,
            "ended": format!("{ended:?}"), "validation_bound_network_units": best,
        }));
    } else {
        println!("{}", dir.path().display());
        let reason = match ended {
            Ended::EarlyStop => " (the validation bound no longer improved)",
            Ended::OutOfTime => " (out of time)",
            _ => "",
        };
        say(quiet, format!("{} iterations in {:.0} s{reason}", state.iteration, state.seconds));
    }
    Ok(())
}

/// The stored run and its configuration; only how long to train may differ.
fn resumed(arguments: &Arguments) -> Result<(Option<RunDir>, RunConfig)> {
    let dir = RunDir::open(&arguments.out)?;
    let stored = dir.config()?;
    let mut config = stored.clone();
    if arguments.config.is_some() {
        let remedy = "leave it out: the run's own config.toml is used";
        return Err(Error::config("--config", "cannot be given with --resume", remedy));
    }
    arguments.apply(&mut config)?;
    let mut comparable = config.clone();
    comparable.train.iterations = stored.train.iterations;
    comparable.train.max_seconds = stored.train.max_seconds;
    comparable.train.patience = stored.train.patience;
    comparable.train.checkpoint_every = stored.train.checkpoint_every;
    if comparable != stored {
        return Err(Error::config(
            "--resume",
            "a flag differs from the configuration of the run",
            "leave it out (only --iterations, --max-seconds, --patience and --checkpoint-every may change), or start a new run",
        ));
    }
    config.train.check()?;
    Ok((Some(dir), config))
}

/// The finished run whose base and score are taken; it must have the same data, network and schedule.
fn donor(
    path: &std::path::Path,
    config: &RunConfig,
    prepared: &Prepared,
    device: tch::Device,
) -> Result<Run> {
    let donor = Run::load(path, device)?;
    if donor.data.scaling != prepared.record.scaling {
        return Err(Error::config(
            "--score-from",
            format!("{} was trained on other columns or scaled otherwise", path.display()),
            "train on the same data with the same data options and seed",
        ));
    }
    let (mine, other) = (&config.model, &donor.config.model);
    let same = mine.network == other.network && mine.finest_scale == other.finest_scale;
    if !same || config.schedule != donor.config.schedule || config.base.kind != donor.config.base.kind {
        return Err(Error::config(
            "--score-from",
            format!("{} has another network, base or schedule", path.display()),
            "give the same --width, --depth, --base and schedule",
        ));
    }
    Ok(donor)
}

fn describe(prepared: &Prepared, quiet: bool) {
    let record = &prepared.record;
    let [train, validation, test] = record.rows;
    say(
        quiet,
        format!(
            "data: {} columns; {train} training, {validation} validation, {test} test rows",
            record.scaling.dim()
        ),
    );
    if record.dropped[0] > 0 {
        say(quiet, format!("data: {} rows with missing cells left out", record.dropped[0]));
    }
    if record.dropped[1] > 0 {
        say(quiet, format!("data: {} duplicate rows left out", record.dropped[1]));
    }
    let duplicates = prepared.table.duplicate_rows();
    if duplicates > 0 {
        say(
            quiet,
            format!(
                "warning: {duplicates} rows are duplicates; copies that fall into test make its likelihood too good \
             (--unique leaves them out)"
            ),
        );
    }
}
