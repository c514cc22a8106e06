//! Rows scored batch by batch, with all repetitions of each.

use std::cell::RefCell;
use std::collections::HashSet;
use std::ops::Range;

use crate::data::Dataset;
use crate::density::Density;
use crate::density::mixed::{Asked, Question};
use crate::dequantize::{Dequantized, Dequantizer};
use crate::likelihood::{Estimate, Estimation, FAR, mean_and_error};
use crate::model::Denoiser;
use crate::noise::{Noise, Seed};
use crate::query::{Batch, Condition};
use crate::run::{Run, dequantized_from, level_rows};
use crate::tensor::to_vec;
use crate::watch::{Watch, check_stop};
use crate::{Error, Result};

/// Rows of a table to be scored, and the noise within their bins.
#[derive(Clone, Copy)]
pub(in crate::density) struct Part<'a> {
    pub table: &'a Dataset,
    pub rows: &'a [usize],
    pub dequantizer: &'a dyn Dequantizer,
    /// What is asked about the rows of a table that is read as it comes.
    pub asked: Option<&'a Asked>,
}

/// Log-likelihoods of a part in the data's own units: the estimate in network units plus the offset
/// of the dequantiser (of uniform noise the scaling's Jacobian; levels have none), averaged over
/// the repetitions, each with its own dequantisation and its own noise. Flags name rows by their
/// place in the part. Where the estimator has a bound to be held against, that is computed too.
pub(in crate::density) fn score(
    density: &Density,
    part: Part,
    settings: &Estimation,
    seed: Seed,
    batch: usize,
    watch: &mut dyn Watch,
) -> Result<Estimate> {
    let settings = Estimation { from_time: part.dequantizer.time(), ..settings.clone() };
    let mut estimate = score_batches(density, part, &settings, seed, batch, true, watch)?;
    let method = settings.estimator.method();
    if let Some(bound) = method.bound(&settings, density.run.schedule()) {
        let bound = score_batches(density, part, &bound, seed, batch, false, watch)?;
        estimate.flag_against(&bound);
        estimate.evaluations += bound.evaluations;
    }
    estimate.estimator = density.in_its_precision(estimate.estimator);
    Ok(estimate)
}

/// As [`score`], batch by batch with all repetitions of each; `tell` says whether each is given to
/// `watch`.
fn score_batches(
    density: &Density,
    part: Part,
    settings: &Estimation,
    seed: Seed,
    batch: usize,
    tell: bool,
    watch: &mut dyn Watch,
) -> Result<Estimate> {
    let Part { table, rows, dequantizer, asked } = part;
    let (method, n) = (settings.estimator.method(), rows.len());
    let repeats = method.repeats(settings);
    let classes = table.classes_of(rows);
    let (run, model) = (&density.run, density.model());
    let estimator = settings.build(&model)?;
    let total = (n * repeats) as u64;
    watch.begin("score", total);
    let watch = RefCell::new(watch);
    let named = |e: Error| e.named(|row| table.place(rows[row as usize]).to_string());
    let of_batch = |numbers: Range<usize>| {
        let own = &rows[numbers.clone()];
        let mut all = Draws::default();
        for draw in 0..repeats {
            check_stop(*watch.borrow())?;
            let seed = seed.derive(&format!("draw {draw}"));
            let noise = seed.derive("dequantise");
            if let Some(asked) = asked {
                let noise = &mut Noise::new(noise, numbers.start as u64..numbers.end as u64);
                let Question { batch, log_jacobian, of_categories } =
                    asked.question(run, table, own, noise);
                let mut estimate =
                    estimator.of_targets(&batch, seed, numbers.start as u64).map_err(named)?;
                watch.borrow_mut().stage(&estimate.estimator);
                estimate.shift(&log_jacobian);
                let values = estimate.values.iter_mut().zip(of_categories);
                values.for_each(|(value, of_categories)| *value += of_categories);
                all.add(estimate);
                let done = numbers.start * repeats + own.len() * (draw + 1);
                watch.borrow_mut().progress(done as u64, total);
                continue;
            }
            let (x, offsets) = match method.scores_levels() {
                true => (level_rows(table, own, &run.data.scaling), vec![0.0; own.len()]),
                false => {
                    let Dequantized { rows, offsets } =
                        dequantized_from(table, own, dequantizer, noise, numbers.start as u64);
                    (rows, offsets)
                }
            };
            let classes = classes.as_ref().map(|classes| &classes[numbers.clone()]);
            let condition = classes.map(Condition::classes);
            let batch = Batch::of(&run.model.space().place(&x)).given(condition);
            let mut estimate =
                estimator.of_targets(&batch, seed, numbers.start as u64).map_err(named)?;
            watch.borrow_mut().stage(&estimate.estimator);
            estimate.shift(&offsets);
            all.add(estimate);
            let done = numbers.start * repeats + own.len() * (draw + 1);
            watch.borrow_mut().progress(done as u64, total);
        }
        let mut estimate = all.mean();
        let far = asked.is_none();
        for flag in estimate
            .flags
            .iter_mut()
            .filter(|flag| far && estimate.values[flag.row] == f64::NEG_INFINITY)
        {
            flag.reason = too_far(run, table, own[flag.row]).unwrap_or(flag.reason.clone());
        }
        Ok::<_, Error>(estimate)
    };
    // at least one, be it empty
    let count = n.div_ceil(batch).max(1);
    let numbers = |k: usize| k * batch..n.min((k + 1).saturating_mul(batch));
    let mut whole: Option<Estimate> = None;
    let work = |k| of_batch(numbers(k));
    density.group.distribute(count, work, |k, estimate| {
        let numbers = numbers(k);
        if tell {
            watch.borrow_mut().scored(numbers.clone(), &estimate)?;
        }
        watch.borrow_mut().progress((numbers.end * repeats) as u64, total);
        match &mut whole {
            None => whole = Some(estimate),
            Some(whole) => whole.extend(estimate),
        }
        Ok(())
    })?;
    watch.borrow_mut().end();
    Ok(whole.expect("at least one batch"))
}

/// The estimates of a batch, draw by draw.
#[derive(Default)]
struct Draws {
    first: Option<Estimate>,
    /// Of each row.
    values: Vec<Vec<f64>>,
}

impl Draws {
    fn add(&mut self, next: Estimate) {
        let Some(first) = &mut self.first else {
            self.values = next.values.iter().map(|&value| vec![value]).collect();
            self.first = Some(next);
            return;
        };
        self.values.iter_mut().zip(&next.values).for_each(|(all, &value)| all.push(value));
        first.offsets.iter_mut().zip(&next.offsets).for_each(|(sum, offset)| *sum += offset);
        // a row is flagged once, whatever the number of draws
        let known: HashSet<usize> = first.flags.iter().map(|flag| flag.row).collect();
        first.flags.extend(next.flags.into_iter().filter(|flag| !known.contains(&flag.row)));
    }

    /// Their mean, with the standard error over the draws of a row.
    fn mean(self) -> Estimate {
        let mut estimate = self.first.expect("at least one draw");
        let draws = self.values.first().map_or(1, Vec::len);
        if draws > 1 {
            let means = self.values.iter().map(|values| mean_and_error(values));
            (estimate.values, estimate.std_errors) = means.unzip();
            estimate.offsets.iter_mut().for_each(|sum| *sum /= draws as f64);
            estimate.draws *= draws;
            estimate.evaluations *= draws as f64;
        }
        estimate
    }
}

/// Why a row of `table` has no log-likelihood but −∞, in the data's own units; None where it is no
/// farther out than others are.
fn too_far(run: &Run, table: &Dataset, row: usize) -> Option<String> {
    let scaled = to_vec(&level_rows(table, &[row], &run.data.scaling));
    let (column, far) =
        scaled.iter().map(|v| v.abs()).enumerate().max_by(|a, b| a.1.total_cmp(&b.1))?;
    (far > FAR).then(|| {
        let (name, value) = (&run.data.names()[column], table.row(row)[column]);
        format!(
            "column `{name}` is {value:e}, {far:.0e} scales away from the training rows: no number \
             is so small, taken for −∞"
        )
    })
}
