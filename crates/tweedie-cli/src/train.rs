//! `tweedie train`

mod options;
mod rank;

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use tweedie::data::{LEAST_GAIN, MarginalChoice, Marginals};
use tweedie::likelihood::bits_per_dim;
use tweedie::model::{Base, BaseKind, Denoiser, Model, ModelConfig};
use tweedie::noise::Seed;
use tweedie::run::{DataRecord, Given, Prepared, Run, RunConfig, RunDir, Training};
use tweedie::sample::{Defaults, run_chain, sample_in_batches};
use tweedie::tensor::to_vec;
use tweedie::train::{Ended, Hooks, Metric, State, Trainer, Watched};
use tweedie::{Error, Result};

use crate::console::{
    INTERRUPTED, Progress, exit_now, note_damaged_metrics, print_json, say, say_left_out, tell,
};
use crate::sample::{LEVELS, Pictures, condition};
pub use options::{Arguments, size};

struct Console<'a> {
    dir: &'a RunDir,
    config: &'a RunConfig,
    record: &'a DataRecord,
    progress: Progress,
    /// The best validation and its iteration, where it is known.
    best: Option<(f64, Option<u64>)>,
    since_best: u64,
}

/// Samples in a sheet made while training.
const LOOK_SAMPLES: u64 = 16;
/// Validations without improvement after which that is said; then after twice as many, and so on.
const FALLING: u64 = 3;

/// Columns of one kind of marginals that are listed at the start.
const MARGINALS_LISTED: usize = 24;

static STOP: AtomicBool = AtomicBool::new(false);
/// Whether there is a training to save.
static BEGUN: AtomicBool = AtomicBool::new(false);

fn stopped() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// A validation bound, nats per row, as people read it: of images in bits per dimension, where less
/// is better.
fn bound_in_words(record: &DataRecord, nats: f64) -> String {
    match record.image {
        Some(_) => format!("{:.4} bits/dim", bits_per_dim(nats, record.scaling.dim())),
        None => format!("{nats:.4} nats per row (network units)"),
    }
}

/// Where parameters were found.
fn at_iteration(iteration: Option<u64>) -> String {
    iteration.map_or("an earlier iteration".into(), |iteration| format!("iteration {iteration}"))
}

impl Console<'_> {
    /// Says when validation does not improve, and which parameters are kept.
    fn judge(&mut self, value: f64, iteration: u64) {
        if value.is_finite() && self.best.is_none_or(|(best, _)| value > best) {
            (self.best, self.since_best) = (Some((value, Some(iteration))), 0);
            return;
        }
        self.since_best += 1;
        let since = self.since_best;
        if let Some((best, of)) = self.best
            && since.is_multiple_of(FALLING)
            && (since / FALLING).is_power_of_two()
        {
            let patience = match self.config.train.patience {
                0 => String::new(),
                patience => format!("; training stops after {patience}"),
            };
            let (at, best) = (at_iteration(of), bound_in_words(self.record, best));
            let text = format!(
                "validation has not improved for {since} looks: the parameters of {at} ({best}) are kept{patience}"
            );
            self.progress.message(text);
        }
    }
}

impl Hooks for Console<'_> {
    fn metric(&mut self, metric: &Metric) -> Result<()> {
        self.dir.append_metric(metric)?;
        let mut text = format!("loss {:.4}", metric.loss);
        self.progress.note(&text);
        if let Some(value) = metric.validation {
            let bound = bound_in_words(self.record, value);
            text = format!("iteration {}, {text}, validation bound {bound}", metric.iteration);
            if metric.skipped > 0 {
                text += &format!(", {} steps skipped", metric.skipped);
            }
            if metric.skipped_rows > 0 {
                text += &format!(", {} rows without a finite loss left out", metric.skipped_rows);
            }
            self.progress.message(text);
            self.judge(value, metric.iteration);
        }
        Ok(())
    }

    fn step(&mut self, iteration: u64) {
        self.progress.at(iteration);
    }

    /// Images: a sheet of samples, the same noise every time.
    fn look(&mut self, model: &Model, iteration: u64) -> Result<()> {
        let Some(shape) = self.record.image else { return Ok(()) };
        let usual = Defaults::new(model, true);
        let grid = usual.grid(model.space().schedule());
        let seed = Seed(self.config.seed).derive("look");
        let samples =
            sample_in_batches(LOOK_SAMPLES as usize, self.config.train.batch_size, |rows| {
                let condition = condition(model, None, rows.clone());
                let covariance = model.covariance(usual.covariance)?;
                let model = Watched::new(model, &stopped);
                let step = usual.step(&model, covariance)?;
                run_chain(&step, &grid, seed, rows, condition.as_ref())
            });
        match samples {
            _ if stopped() => Ok(()),
            Ok(samples) => {
                let levels = self.record.scaling.inverse(&to_vec(&samples));
                self.dir.write_sheet(
                    iteration,
                    &Pictures::images(shape).sheet(&levels, 4, LEVELS).png(),
                )
            }
            // early on a model may be unable to; its training goes on
            Err(Error::Numeric { problem, .. }) => {
                self.progress.message(format!("no samples at iteration {iteration}: {problem}"));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn checkpoint(&mut self, model: &Model, state: &State) -> Result<()> {
        self.dir.checkpoint(model, state)
    }

    fn stop(&self) -> bool {
        stopped()
    }
}

/// Once a training has begun the first request to stop is obeyed when everything is saved. Before
/// that, and a second time, it is obeyed at once: files of a run are whole at any moment.
fn listen() {
    let told = ctrlc::set_handler(|| {
        let words = match (BEGUN.load(Ordering::Relaxed), STOP.swap(true, Ordering::Relaxed)) {
            (true, false) => return,
            (true, true) => "stopped at once; the last checkpoint is kept: go on with --resume",
            (false, _) => "stopped before the first step",
        };
        tell(words);
        exit_now(INTERRUPTED);
    });
    told.expect("one handler");
}

/// A new training's configuration, and the fields that its file gives.
fn configured(arguments: &Arguments) -> Result<(RunConfig, Given)> {
    RunDir::check_free(&arguments.out)?;
    let (mut config, given) = match &arguments.config {
        Some(path) => RunConfig::read(path)?,
        None => Default::default(),
    };
    if let Some(donor) = &arguments.score_from {
        let donor = RunDir::open(donor)?;
        if config.data.split_seed.is_none() {
            config.data.split_seed = Some(donor.data()?.split_seed);
        }
        if arguments.config.is_none() {
            let donor = donor.config()?;
            (config.schedule, config.base) = (donor.schedule, donor.base);
            config.data.scaling.marginals = donor.data.scaling.marginals;
            config.model = ModelConfig { head: config.model.head, ..donor.model };
        }
    }
    // the same for all seeds of a training, so that they compare
    config.data.split_seed = config.data.split_seed.or(Some(0));
    arguments.apply(&mut config)?;
    config.train.check()?;
    config.base.check()?;
    Ok((config, given))
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let device = arguments.common.prepare()?;
    let quiet = arguments.common.quiet;
    listen();
    let (dir, mut config, given) = match arguments.resume {
        true => {
            let (dir, config) = resumed(arguments)?;
            (Some(dir), config, Given::default())
        }
        false => {
            let (config, given) = configured(arguments)?;
            (None, config, given)
        }
    };
    config.objective.build()?;
    let prepared = Prepared::read(&config.data, config.seed)?;
    arguments.fit_to(&mut config, &prepared.record, &given)?;
    describe(&prepared, quiet);
    let seed = Seed(config.seed);
    let training = match dir {
        Some(dir) => Training::resume(dir, &config, &prepared, "--resume", device)?,
        None => begin(arguments, &mut config, &prepared, device)?,
    };
    let Training { dir, model, mut state } = training;
    let (config, record) = (&config, &prepared.record);
    if arguments.resume {
        say(quiet, resumption(config, &state, &dir));
    }
    BEGUN.store(true, Ordering::Relaxed);
    let mut progress = Progress::new("train", config.train.iterations, quiet);
    let each = config.train.accumulation * config.train.batch_size.min(record.rows[0]) as u64;
    progress.rate(if record.image.is_some() { "images" } else { "rows" }, each);
    if config.train.max_seconds > 0.0 {
        progress.limit(config.train.max_seconds - state.seconds);
    }
    progress.start_at(state.iteration);
    let best = state.best.as_ref().map(|best| (best.value, best.iteration));
    let mut hooks =
        Console { dir: &dir, config, record, progress, best, since_best: state.since_best };
    let judge = prepared.judge(&config.train, seed);
    let trainer = Trainer { config: config.train.clone() };
    // of the whole configuration: what follows the data may change it
    let objective = config.objective.build()?;
    let rows = prepared.training();
    let ended =
        trainer.fit(&model, &*objective, &rows, judge.as_ref(), seed, &mut state, &mut hooks);
    hooks.progress.finish();
    let ended = ended?;
    dir.finish(&state, ended)?;
    if ended == Ended::Stopped {
        return Err(Error::Interrupted(format!(
            "stopped at iteration {}; everything is saved: go on with `tweedie train --out {} --resume`",
            state.iteration,
            dir.path().display()
        )));
    }
    let best = state.best.as_ref().map(|b| b.value);
    if arguments.common.json {
        let of_table = best.filter(|_| record.image.is_none());
        let of_image = best.filter(|_| record.image.is_some());
        print_json(&json!({
            "run": dir.path(), "iterations": state.iteration, "seconds": state.seconds,
            "ended": format!("{ended:?}"), "best_iteration": state.best.as_ref().and_then(|best| best.iteration),
            "validation_bound_network_units": of_table,
            "validation_bits_per_dim": of_image.map(|nats| bits_per_dim(nats, record.scaling.dim())),
        }));
    } else {
        println!("{}", dir.path().display());
    }
    let reason = match ended {
        Ended::EarlyStop => " (the validation bound no longer improved)",
        Ended::OutOfTime => " (out of time)",
        _ => "",
    };
    say(quiet, format!("{} iterations in {:.0} s{reason}", state.iteration, state.seconds));
    if let Some(best) = &state.best {
        let (at, bound) = (at_iteration(best.iteration), bound_in_words(record, best.value));
        say(quiet, format!("kept: the parameters of {at}, validation bound {bound}"));
    }
    Ok(())
}

/// A new training in the directory of the arguments.
fn begin(
    arguments: &Arguments,
    config: &mut RunConfig,
    prepared: &Prepared,
    device: tch::Device,
) -> Result<Training> {
    let quiet = arguments.common.quiet;
    let rows = config.train.validation_rows;
    let validation = prepared.validation_rows(rows, Seed(config.seed).derive("validation rows"));
    let mut donor = arguments
        .score_from
        .as_ref()
        .map(|path| donor(path, config, prepared, device))
        .transpose()?;
    if let Some(donor) = &mut donor {
        arguments.choose_rank(config, donor, prepared)?;
        if config.model.starts_from_measurement() && donor.model.noise_statistics().is_none() {
            measure(donor, config, prepared, quiet)?;
        }
    }
    if donor.is_none() && config.base.kind == BaseKind::Mixture {
        say(quiet, "base: fitting mixtures of Gaussians");
    }
    let training =
        Training::begin(&arguments.out, config, prepared, &validation, donor.as_ref(), device)?;
    let components = training.model.base().components();
    if components > 1 {
        say(quiet, format!("base: a mixture of {components} Gaussians"));
    }
    let (rows, columns) = (prepared.record.rows[0], prepared.record.scaling.dim());
    let full = config.base.kind != BaseKind::Isotropic && donor.is_none();
    if full && Base::shrinks(rows as i64, columns as i64) {
        let what = format!(
            "note: {rows} training rows have no covariance of {columns} columns of their own; that of the base is \
             drawn towards a multiple of the identity"
        );
        say(quiet, what);
    }
    Ok(training)
}

/// Rows whose noise is measured at a time, at most.
const MEASURED_AT_ONCE: usize = 64;

/// Measures what a head on the score of `donor` starts from: once, and not in the time that
/// training is given.
fn measure(donor: &mut Run, config: &RunConfig, prepared: &Prepared, quiet: bool) -> Result<()> {
    say(
        quiet,
        "measuring the noise of the score, which the head starts from; --max-seconds begins after it",
    );
    let mut progress: Option<Progress> = None;
    let batch = MEASURED_AT_ONCE.min(config.train.batch_size);
    donor.measure_for_head(prepared, batch, &mut |done, all| {
        progress.get_or_insert_with(|| Progress::new("measure", all, quiet)).at(done);
    })?;
    if let Some(progress) = progress {
        progress.finish();
    }
    Ok(())
}

/// Where a resumed training starts, and how far it will go.
fn resumption(config: &RunConfig, state: &State, dir: &RunDir) -> String {
    let (done, all) = (state.iteration, config.train.iterations);
    let start =
        format!("resumed at iteration {done} of {all}, after {:.0} s of training", state.seconds);
    let out = dir.path().display();
    let limit = config.train.max_seconds;
    if done >= all && state.pending.is_none() {
        return format!(
            "{start}: it is finished; for more, `tweedie train --out {out} --resume --iterations N` with N above {all}"
        );
    }
    if limit > 0.0 && state.seconds >= limit {
        return format!(
            "{start}: its {limit} s are over; for S more, `tweedie train --out {out} --resume --max-seconds S`"
        );
    }
    start
}

/// The stored run and its configuration; only how long to train may differ.
fn resumed(arguments: &Arguments) -> Result<(RunDir, RunConfig)> {
    let mut dir = RunDir::open(&arguments.out)?;
    let stored = dir.config()?;
    let mut config = stored.clone();
    for (flag, given) in
        [("--config", arguments.config.is_some()), ("--score-from", arguments.score_from.is_some())]
    {
        if given {
            let remedy = "leave it out: what the run was begun with is kept in it";
            return Err(Error::config(flag, "cannot be given with --resume", remedy));
        }
    }
    arguments.apply(&mut config)?;
    let mut comparable = config.clone();
    comparable.train.iterations = stored.train.iterations;
    comparable.train.max_seconds = stored.train.max_seconds;
    comparable.train.patience = stored.train.patience;
    comparable.train.checkpoint_seconds = stored.train.checkpoint_seconds;
    comparable.train.checkpoint_every = stored.train.checkpoint_every;
    comparable.data = comparable.data.absolute();
    let stored = RunConfig { data: stored.data.absolute(), ..stored };
    // of something of another kind all fields differ
    let differences = stored.differences(&comparable);
    let kind = differences.iter().find(|(path, ..)| path.ends_with(".kind"));
    if let Some((path, own, asked)) = kind.or(differences.first()) {
        let flag = options::flag_of(path);
        return Err(Error::config(
            "--resume",
            format!(
                "{flag} differs from the configuration of the run: {path} is {own} there, and {asked} was given"
            ),
            format!(
                "leave {flag} out (only --iterations, --max-seconds, --patience and --checkpoint-every may change), or start \
                 a new run"
            ),
        ));
    }
    dir.lock()?;
    if let Some(more) = arguments.max_seconds() {
        // so many seconds from now on
        config.train.max_seconds = match more > 0.0 {
            true => more + dir.status()?.map_or(0.0, |status| status.seconds),
            false => more,
        };
    }
    config.train.check()?;
    note_damaged_metrics(&dir, arguments.common.quiet)?;
    config.data = stored.data;
    Ok((dir, config))
}

/// The finished run whose base and score are taken; it must have the same data, network and
/// schedule.
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
            "train on the same data with the same data options and --split-seed",
        ));
    }
    let mut names = donor.data.classes.iter().enumerate();
    // an imported model knows its classes by number
    if donor.data.classes != prepared.record.classes
        && !names.all(|(i, name)| *name == i.to_string())
    {
        let problem =
            format!("{} has the classes {}", path.display(), donor.data.classes.join(", "));
        return Err(Error::config("--score-from", problem, "train on images of the same classes"));
    }
    let (mine, other) = (&config.model, &donor.config.model);
    let score = |config: &ModelConfig| ModelConfig {
        head: None,
        network: config.network.score_only(),
        ..config.clone()
    };
    let same = score(mine) == score(other);
    if !same
        || config.schedule != donor.config.schedule
        || config.base.kind != donor.config.base.kind
    {
        return Err(Error::config(
            "--score-from",
            format!("{} has another network, base or schedule", path.display()),
            "leave out --config, or give it the same network, base and schedule",
        ));
    }
    Ok(donor)
}

/// The rule of `--marginals auto`, and what it chose for each column.
fn describe_marginals(choices: &[MarginalChoice], quiet: bool) {
    if choices.is_empty() {
        return;
    }
    say(
        quiet,
        format!(
            "data: --marginals auto gaussianizes a column that has a long tail or an edge and whose held-out training \
             rows gain at least {LEAST_GAIN} nats each by it"
        ),
    );
    for (marginals, name) in
        [(Marginals::Gaussianize, "gaussianize"), (Marginals::Standardize, "standardize")]
    {
        let of_kind: Vec<String> = choices
            .iter()
            .filter(|c| c.marginals == marginals)
            .map(|c| format!("{} ({})", c.column, c.reason()))
            .collect();
        if !of_kind.is_empty() {
            let more = of_kind.len().saturating_sub(MARGINALS_LISTED);
            let listed = of_kind[..of_kind.len() - more].join(", ");
            let more = if more > 0 {
                format!(" and {more} more (data.json has them)")
            } else {
                String::new()
            };
            say(quiet, format!("data: {name} {listed}{more}"));
        }
    }
}

fn describe(prepared: &Prepared, quiet: bool) {
    for line in prepared.table.found_in_words() {
        say(quiet, line);
    }
    let record = &prepared.record;
    let [train, validation, test] = record.rows;
    let what = match record.image {
        Some([channels, height, width]) => {
            let colours = if channels == 1 { "grey" } else { "colour" };
            format!("{colours} images of {height} x {width} pixels")
        }
        None => format!("{} columns", record.scaling.dim()),
    };
    say(
        quiet,
        format!("data: {what}; {train} training, {validation} validation, {test} test rows"),
    );
    describe_marginals(&record.marginals, quiet);
    if !record.classes.is_empty() {
        say(
            quiet,
            format!("data: {} classes: {}", record.classes.len(), record.classes.join(", ")),
        );
    }
    for remark in &record.remarks {
        say(quiet, format!("warning: {remark}"));
    }
    if record.dropped[0] > 0 {
        let why = if record.image.is_some() {
            "images that cannot be decoded"
        } else {
            "rows with missing cells"
        };
        say(quiet, format!("data: {} {why} left out", record.dropped[0]));
    }
    if record.dropped[1] > 0 {
        say(quiet, format!("data: {} duplicate rows left out", record.dropped[1]));
    }
    say_left_out(quiet, &prepared.table);
    match prepared.surprising_duplicates() {
        (0, _) => (),
        (duplicates, true) => say(
            quiet,
            format!(
                "warning: {duplicates} rows are duplicates; copies that fall into test make its likelihood too good \
                 (--unique leaves them out)"
            ),
        ),
        (duplicates, false) => say(
            quiet,
            format!("data: {duplicates} rows equal an earlier one, as rows of discrete columns do"),
        ),
    }
}
