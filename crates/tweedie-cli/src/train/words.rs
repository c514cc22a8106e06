//! A training in words.

use tweedie::data::{LEAST_GAIN, MarginalChoice, Marginals};
use tweedie::likelihood::bits_per_dim;
use tweedie::run::{DataRecord, Prepared, RunConfig, RunDir};
use tweedie::train::State;

use crate::console::{say, say_left_out};
use crate::flags::Flags;

/// Columns of one kind of marginals that are listed at the start.
const MARGINALS_LISTED: usize = 24;

/// A validation bound, nats per row, as people read it: of images in bits per dimension, where less
/// is better.
pub fn bound_in_words(record: &DataRecord, nats: f64) -> String {
    match record.image {
        Some(_) => format!("{:.4} bits/dim", bits_per_dim(nats, record.scaling.dim())),
        None => format!("{nats:.4} nats per row (network units)"),
    }
}

/// Where parameters were found.
pub fn at_iteration(iteration: Option<u64>) -> String {
    iteration.map_or("an earlier iteration".into(), |iteration| format!("iteration {iteration}"))
}

/// Where a resumed training starts, and how far it will go.
pub fn resumption(config: &RunConfig, state: &State, dir: &RunDir) -> String {
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

/// Says what the data are and how they were read.
pub fn describe(prepared: &Prepared, quiet: bool) {
    let flags = Flags::here();
    for line in prepared.table.found_in_words() {
        say(quiet, flags.name_in(&line));
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
        say(quiet, format!("warning: {}", flags.name_in(remark)));
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
