//! Rows to the latents of the probability flow, and back.

use std::path::Path;

use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::{Density, SampleOptions, Samples};
use crate::data::{CellType, Dataset, OutputFile, read_numbers, write_table};
use crate::likelihood::{ProbabilityFlow, SolverOptions};
use crate::model::Denoiser;
use crate::noise::Seed;
use crate::query::{Batch, Condition};
use crate::run::{level_rows, scaled_rows};
use crate::sample::Clipped;
use crate::tensor::to_vec;
use crate::watch::{Silent, Watch, check_stop};
use crate::{Error, Result};

/// How rows become latents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EncodeOptions {
    /// The seed of the noise of dequantised columns; by default none, values stand for the centres
    /// of their bins.
    pub seed: Option<u64>,
    /// The solver of the probability flow; steps are held to a tenth of its tolerances.
    pub solver: SolverOptions,
    /// Whether latents are decoded again, to see whether rows come back.
    pub check: bool,
    /// Rows at a time, as [`SampleOptions::batch_size`].
    pub batch_size: Option<usize>,
}

impl Default for EncodeOptions {
    fn default() -> EncodeOptions {
        let solver = SolverOptions::default();
        EncodeOptions { seed: None, solver, check: true, batch_size: None }
    }
}

/// How latents become rows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DecodeOptions {
    /// As [`EncodeOptions::solver`].
    pub solver: SolverOptions,
    /// Rows at a time, as [`SampleOptions::batch_size`].
    pub batch_size: Option<usize>,
}

/// Latents `x_T/σ_T` of rows: standard normal for rows of the model's distribution.
#[derive(Debug)]
pub struct Latents {
    /// `[n, d]`, f64.
    pub values: Tensor,
    /// The class of each row, where the density is conditioned on classes.
    pub classes: Option<Vec<u32>>,
    /// The columns' names, `class` the last where there are classes.
    pub names: Vec<String>,
    /// Whether rows come back, where that was checked.
    pub round_trip: Option<RoundTrip>,
}

/// How near rows come back from their latents.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RoundTrip {
    /// Rows that come back no nearer than [`RoundTrip::LOST`].
    pub lost: usize,
    /// The row that comes back the least near.
    pub worst: usize,
    /// How far it is, in network units.
    pub error: f64,
}

impl RoundTrip {
    /// A row that comes back no nearer than this, in network units, is lost.
    pub const LOST: f64 = 1e-3;

    fn of(errors: &[f64]) -> Option<RoundTrip> {
        let lost = errors.iter().filter(|&&error| error > RoundTrip::LOST).count();
        let worst = (0..errors.len()).max_by(|&a, &b| errors[a].total_cmp(&errors[b]))?;
        Some(RoundTrip { lost, worst, error: errors[worst] })
    }
}

impl Latents {
    /// Writes a table of the latents, in double precision, to a file that is open.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be written.
    pub fn write_to(&self, out: OutputFile) -> Result<()> {
        let mut cells = to_vec(&self.values);
        if let Some(classes) = &self.classes {
            let rows = cells.chunks(self.names.len() - 1).zip(classes);
            cells = rows.flat_map(|(z, &class)| [z, &[class.into()]].concat()).collect();
        }
        write_table(out, &self.names, &vec![CellType::Double; self.names.len()], &cells)
    }
}

/// Steps are held to this share of the tolerances: their errors add up, there and back, to some
/// hundred times the tolerance of one where a network's time features oscillate faster than the
/// steps see.
const STEPS: f64 = 0.1;

/// The column with the number of a row's class.
const CLASS: &str = "class";

impl Density {
    /// The latents of the rows of `data`.
    ///
    /// # Errors
    /// [`Error::Numeric`] if a row cannot be solved.
    pub fn encode(&self, data: &Dataset, options: &EncodeOptions) -> Result<Latents> {
        self.encode_with(data, options, &mut Silent)
    }

    /// As [`Density::encode`], with progress.
    ///
    /// # Errors
    /// As [`Density::encode`], and [`Error::Interrupted`].
    pub fn encode_with(
        &self,
        data: &Dataset,
        options: &EncodeOptions,
        watch: &mut dyn Watch,
    ) -> Result<Latents> {
        options.solver.check("encode.solver")?;
        self.check_numbers_alone("encode", "train with data.types = numbers")?;
        let data = &self.run.data.conform(data.clone())?;
        let rows: Vec<usize> = (0..data.rows()).collect();
        let scaling = &self.run.data.scaling;
        let x = match options.seed {
            None => level_rows(data, &rows, scaling),
            Some(seed) => scaled_rows(data, &rows, scaling, Seed(seed).derive("dequantise")).0,
        };
        let classes = data.labels.as_ref().map(|labels| labels.of_rows.clone());
        let batch = self.batch("encode.batch_size", options.batch_size, SampleOptions::BATCH)?;
        let (mut latents, mut errors) = (Vec::with_capacity(x.numel()), Vec::new());
        watch.begin("encode", rows.len() as u64);
        self.in_batches(&options.solver, &x, classes.as_deref(), batch, watch, |flow, batch| {
            let part = flow.encode(&batch)?;
            latents.extend(to_vec(&part));
            if options.check {
                let again = flow.decode(&part, batch.condition.as_ref())?;
                let apart = (again - &batch.x).abs().amax([1i64].as_slice(), false);
                errors.extend(to_vec(&apart));
            }
            Ok(())
        })
        .map_err(|e| e.named(|row| data.place(row as usize).to_string()))?;
        let values = Tensor::from_slice(&latents).view_as(&x);
        let round_trip = RoundTrip::of(&errors);
        Ok(Latents { values, classes, names: self.latent_names(), round_trip })
    }

    /// The rows of latents: [`Density::encode`] undone, up to tolerance.
    ///
    /// # Errors
    /// [`Error::Row`] if a row cannot be solved.
    pub fn decode(&self, latents: &Latents, options: &DecodeOptions) -> Result<Samples> {
        self.decode_with(latents, options, &mut Silent)
    }

    /// As [`Density::decode`], with progress.
    ///
    /// # Errors
    /// As [`Density::decode`], and [`Error::Interrupted`].
    pub fn decode_with(
        &self,
        latents: &Latents,
        options: &DecodeOptions,
        watch: &mut dyn Watch,
    ) -> Result<Samples> {
        options.solver.check("decode.solver")?;
        self.check_numbers_alone("decode", "train with data.types = numbers")?;
        let batch = self.batch("decode.batch_size", options.batch_size, SampleOptions::BATCH)?;
        let mut scaled = Vec::with_capacity(latents.values.numel());
        let (z, classes) = (&latents.values, latents.classes.as_deref());
        watch.begin("decode", z.size()[0] as u64);
        self.in_batches(&options.solver, z, classes, batch, watch, |flow, z| {
            scaled.extend(to_vec(&flow.decode(&z.x, z.condition.as_ref())?));
            Ok(())
        })?;
        let scaled = Tensor::from_slice(&scaled).view_as(z);
        Ok(self.in_data_units(&scaled, latents.classes.clone(), Clipped::default()))
    }

    /// `f` of the flow, each row under its class where there are any, and of rows of `x`, in
    /// batches.
    fn in_batches(
        &self,
        solver: &SolverOptions,
        x: &Tensor,
        classes: Option<&[u32]>,
        batch: usize,
        watch: &mut dyn Watch,
        mut f: impl FnMut(&ProbabilityFlow, Batch) -> Result<()>,
    ) -> Result<()> {
        let (model, rows) = (&self.run.model, x.size()[0] as usize);
        for start in (0..rows).step_by(batch) {
            check_stop(watch)?;
            let end = rows.min(start.saturating_add(batch));
            let flow = solver.flow(model, STEPS)?.first_row(start as u64);
            let part = x.narrow(0, start as i64, (end - start) as i64);
            let condition = classes.map(|classes| Condition::classes(&classes[start..end]));
            f(&flow, Batch::of(&part.to_device(model.space().device)).given(condition))?;
            watch.progress(end as u64, rows as u64);
        }
        watch.end();
        Ok(())
    }

    /// The names of the columns of latents.
    fn latent_names(&self) -> Vec<String> {
        let names = self.run.data.names().into_iter().map(|name| format!("z_{name}"));
        let class = (!self.run.data.classes.is_empty()).then(|| CLASS.to_string());
        names.chain(class).collect()
    }

    /// Latents in a file: what [`Latents::write_to`] wrote, or an NPY array of as many columns.
    /// With `class` all rows are of that, whatever the file says.
    ///
    /// # Errors
    /// [`Error::Data`] if the columns are others, or a class is none of the density's.
    pub fn read_latents(&self, path: &Path, class: Option<&str>) -> Result<Latents> {
        let (found, values) = read_numbers(path)?;
        let (names, dim) = (self.latent_names(), self.run.data.scaling.dim());
        let known = self.run.data.classes.len();
        let nameless = found.iter().enumerate().all(|(i, name)| *name == format!("c{}", i + 1));
        let of_columns =
            |columns: usize| found.len() == columns && (nameless || found == names[..columns]);
        let class = class.map(|name| self.run.data.class(name)).transpose()?;
        if !(of_columns(names.len()) || class.is_some() && of_columns(dim)) {
            return Err(other_columns(path, &found, &names, known > 0));
        }
        let all = Tensor::from_slice(&values).view([-1, found.len() as i64]);
        let classes = match (known, class) {
            (0, _) => None,
            (_, Some(class)) => Some(vec![class; all.size()[0] as usize]),
            (known, None) => {
                let number = |(row, &value): (usize, &f64)| {
                    let right = value.fract() == 0.0 && (0.0..known as f64).contains(&value);
                    right.then_some(value as u32).ok_or_else(|| {
                        let problem = format!("row {}: {value} is no class of this run", row + 1);
                        Error::data(path, problem, format!("give numbers from 0 to {}", known - 1))
                    })
                };
                let given = values.iter().skip(dim).step_by(dim + 1);
                Some(given.enumerate().map(number).collect::<Result<_>>()?)
            }
        };
        let values = all.narrow(1, 0, dim as i64);
        Ok(Latents { values, classes, names, round_trip: None })
    }
}

fn other_columns(path: &Path, found: &[String], names: &[String], classes: bool) -> Error {
    let few = |names: &[String]| {
        let dots = if names.len() > 4 { ", …" } else { "" };
        format!("{} ({}{dots})", names.len(), names[..names.len().min(4)].join(", "))
    };
    let problem =
        format!("has the columns {}, latents of this run have {}", few(found), few(names));
    let remedy = match classes {
        false => "give what `tweedie encode` wrote, or an NPY array of as many columns",
        true => "give what `tweedie encode` wrote, or decode.class for latents without one",
    };
    Error::data(path, problem, remedy)
}
