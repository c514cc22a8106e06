//! A training in words.

use tweedie::data::{LEAST_GAIN, MarginalChoice, Marginals};
use tweedie::likelihood::bits_per_dim;
use tweedie::run::{DataRecord, KeepBy, Prepared, RunConfig, RunDir};
use tweedie::train::State;

use crate::console::{say, say_left_out};
use crate::flags::Flags;

/// Columns of one kind of marginals that are listed at the start.
const MARGINALS_LISTED: usize = 24;

/// A validation bound, nats per row, as people read it: of images in bits per dimension, where less
/// is better.
fn bound_in_words(record: &DataRecord, nats: f64) -> String {
    match record.levels() {
        Some(_) => format!("{:.4} bits/dim", bits_per_dim(nats, record.scaling.dim())),
        None if record.latents.is_some() => format!("{nats:.4} nats per row of latents"),
        None => format!("{nats:.4} nats per row (network units)"),
    }
}

/// A figure that parameters are kept by, as people read it.
pub fn figure_in_words(by: KeepBy, record: &DataRecord, value: f64) -> String {
    match by {
        KeepBy::Bound => format!("validation bound {}", bound_in_words(record, value)),
        KeepBy::Distance => format!("Fréchet distance {value:.4}"),
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
            "{start}: it is finished; for more, `tweedie train --out {out} --resume --iterations \
            N` with N above {all}"
        );
    }
    if limit > 0.0 && state.seconds >= limit {
        return format!(
            "{start}: its {limit} s are over; for S more, `tweedie train --out {out} --resume \
            --max-seconds S`"
        );
    }
    start
}

/// The rule of `--marginals auto`, and what it chose for each column.
fn describe_marginals(choices: &[MarginalChoice], quiet: bool) {
    if choices.is_empty() {
        return;
    }
    say!(
        quiet,
        "data: --marginals auto gaussianizes a column that has a long tail, an edge or uneven \
         levels and whose held-out training rows gain at least {LEAST_GAIN} nats each by it, less \
         where its range is cut off"
    );
    for (marginals, name) in
        [(Marginals::Gaussianize, "gaussianize"), (Marginals::Standardize, "standardize")]
    {
        let of_kind = choices.iter().filter(|c| c.marginals == marginals);
        let of_kind: Vec<String> =
            of_kind.map(|c| format!("{} ({})", c.column, c.reason())).collect();
        let more = match of_kind.len().saturating_sub(MARGINALS_LISTED) {
            0 => String::new(),
            more => format!(" and {more} more (data.json has them)"),
        };
        if !of_kind.is_empty() {
            let listed = of_kind[..of_kind.len().min(MARGINALS_LISTED)].join(", ");
            say!(quiet, "data: {name} {listed}{more}");
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
    let ([train, validation, test], classes) = (record.rows, &record.classes);
    let (what, undecoded) = match (record.image, &record.latents) {
        (Some([channels, height, width]), Some(of)) => {
            let drawn = match prepared.table.is_drawn_from() {
                true => ", drawn anew from the encoder's Gaussians at every use",
                false => "",
            };
            let [_, high, wide] = of.image;
            let what = format!(
                "latents of {channels} x {height} x {width}, of images of {high} x {wide} pixels \
                 by {} ({}){drawn}",
                of.vae, of.digest
            );
            (what, "images that cannot be decoded")
        }
        (Some([channels, height, width]), None) => {
            let colours = if channels == 1 { "grey" } else { "colour" };
            let what = format!("{colours} images of {height} x {width} pixels");
            (what, "images that cannot be decoded")
        }
        (None, _) => (format!("{} columns", record.names().len()), "rows with missing cells"),
    };
    say!(quiet, "data: {what}; {train} training, {validation} validation, {test} test rows");
    if let Some(schema) = &record.schema {
        schema.lines().into_iter().for_each(|line| say!(quiet, "data: {line}"));
    }
    describe_marginals(&record.marginals, quiet);
    if !classes.is_empty() {
        say!(quiet, "data: {} classes: {}", classes.len(), classes.join(", "));
    }
    for remark in &record.remarks {
        say!(quiet, "warning: {}", flags.name_in(remark));
    }
    for (count, what) in record.dropped.into_iter().zip([undecoded, "duplicate rows"]) {
        if count > 0 {
            say!(quiet, "data: {count} {what} left out");
        }
    }
    say_left_out(quiet, &prepared.table);
    match prepared.surprising_duplicates() {
        (0, _) => (),
        (duplicates, true) => say!(
            quiet,
            "warning: {duplicates} rows are duplicates; copies that fall into test make its \
             likelihood too good (--unique leaves them out)"
        ),
        (duplicates, false) => say!(
            quiet,
            "data: {duplicates} rows equal an earlier one, as rows of discrete columns do"
        ),
    }
}
