//! `tweedie encode` and `tweedie decode`: data to the latents of the probability flow, and back.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use tch::Tensor;
use tweedie::data::{CellType, OutputFile, TableFormat, read_numbers, write_table};
use tweedie::likelihood::ProbabilityFlow;
use tweedie::model::Denoiser;
use tweedie::noise::Seed;
use tweedie::query::{Batch, Condition};
use tweedie::run::{Run, level_rows, scaled_rows};
use tweedie::tensor::to_vec;
use tweedie::{Error, Result};

use crate::Common;
use crate::console::{Progress, check_output, print_json, remark, say};
use crate::flow::SolverArguments;
use crate::reading::{Reading, left_out};
use crate::sample::Pictures;
use crate::score::json_row;

#[derive(Args, Debug)]
#[command(after_help = "\
A latent is x_T/σ_T, standard normal for rows of the model's law; its columns are named z_ and the data's names, in \
double precision. Values of dequantised columns stand for the centres of their bins, so that a row has one latent; with \
--seed they get the noise of their bins, and the latents a continuous law. A run with classes adds the column `class`. \
Steps are solved at a tenth of the tolerances. Rows that do not come back within 1e-3 of a column's scale are counted. \
Batch size and threads change latents within some ten times the tolerances.

Examples:
  tweedie encode runs/wine new.csv -o latents.npy
  tweedie decode runs/wine latents.npy -o back.csv")]
pub struct EncodeArguments {
    /// The run directory
    run: PathBuf,
    /// The rows to encode, with the columns the run was trained on
    data: PathBuf,
    /// Noise of dequantised columns [default: none, the centres of the bins]
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    #[command(flatten)]
    solver: SolverArguments,
    /// Do not decode the latents again to see whether the rows come back, which takes half of the
    /// time
    #[arg(long)]
    no_check: bool,
    /// Rows at a time [default: 4096; 64 images]
    #[arg(long, value_name = "B")]
    batch_size: Option<usize>,
    /// The latents: .npy, .parquet, .csv or .tsv; - is CSV on standard output
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    reading: Reading,
    #[command(flatten)]
    common: Common,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tweedie decode runs/wine latents.npy -o back.csv
  tweedie decode runs/fashion latents.npy -o sheet.png")]
pub struct DecodeArguments {
    /// The run directory
    run: PathBuf,
    /// Latents, as `tweedie encode` writes them; an NPY array has the data's columns in their order
    latents: PathBuf,
    /// Class of all rows, by name or number, of a run with classes [default: the latents' column
    /// `class`]
    #[arg(long, value_name = "CLASS")]
    class: Option<String>,
    #[command(flatten)]
    solver: SolverArguments,
    /// Rows at a time [default: 4096; 64 images]
    #[arg(long, value_name = "B")]
    batch_size: Option<usize>,
    /// Height and width of one picture, for a PNG sheet [default: square]
    #[arg(long, value_name = "HxW")]
    shape: Option<String>,
    /// Where to write: .csv, .tsv, .parquet, .npy, or .png for a sheet of pictures; - is CSV on
    /// standard output
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    common: Common,
}

/// Steps are held to this share of the tolerances: their errors add up, there and back, to some
/// hundred times the tolerance of one where a network's time features oscillate faster than the
/// steps see.
const STEPS: f64 = 0.1;

/// A row that has come back no nearer than this, in network units, is told of.
const LOST: f64 = 1e-3;

/// `f` of the flow of `run`, each row under its class where there are any, and of rows of `x`, in
/// batches.
fn in_batches(
    run: &Run,
    solver: &SolverArguments,
    x: &Tensor,
    classes: Option<&[u32]>,
    batch: usize,
    mut progress: Progress,
    mut f: impl FnMut(&ProbabilityFlow, Batch) -> Result<()>,
) -> Result<()> {
    let rows = x.size()[0] as usize;
    for start in (0..rows).step_by(batch) {
        let end = rows.min(start.saturating_add(batch));
        let flow = solver.flow(&run.model, STEPS)?.first_row(start as u64);
        let x = x.narrow(0, start as i64, (end - start) as i64).to_device(run.model.space().device);
        let condition = classes.map(|classes| Condition::classes(&classes[start..end]));
        f(&flow, Batch { x, condition })?;
        progress.at(end as u64);
    }
    progress.finish();
    Ok(())
}

/// The names of latents' columns.
fn latent_names(run: &Run) -> Vec<String> {
    let names = run.data.names().into_iter().map(|name| format!("z_{name}"));
    let class = (!run.data.classes.is_empty()).then(|| CLASS.to_string());
    names.chain(class).collect()
}

/// The column with the number of a row's class.
const CLASS: &str = "class";

pub fn encode(arguments: &EncodeArguments) -> Result<()> {
    let device = arguments.common.prepare()?;
    let quiet = arguments.common.quiet;
    arguments.solver.check()?;
    TableFormat::of(&arguments.out)?;
    check_output(
        "--out",
        &arguments.out,
        &[&arguments.data],
        &arguments.run,
        arguments.common.json,
    )?;
    let run = Run::load(&arguments.run, device)?;
    let remarks = remark(&run);
    let batch = crate::batch_size(arguments.batch_size, 4096, &run)?;
    let table = arguments.reading.table(&run, &arguments.data)?;
    let left_out = left_out(&table, quiet);
    let out = OutputFile::create(&arguments.out)?;
    let rows: Vec<usize> = (0..table.rows()).collect();
    let x = match arguments.seed {
        None => level_rows(&table, &rows, &run.data.scaling),
        Some(seed) => {
            scaled_rows(&table, &rows, &run.data.scaling, Seed(seed).derive("dequantise")).0
        }
    };
    let classes = table.labels.as_ref().map(|labels| &labels.of_rows[..]);
    let (mut latents, mut errors) = (Vec::with_capacity(x.numel()), Vec::new());
    let progress = Progress::new("encode", rows.len() as u64, quiet);
    in_batches(&run, &arguments.solver, &x, classes, batch, progress, |flow, batch| {
        let part = flow.encode(&batch)?;
        latents.extend(to_vec(&part));
        if !arguments.no_check {
            let again = flow.decode(&part, batch.condition.as_ref())?;
            let apart = (again - &batch.x).abs().amax([1i64].as_slice(), false);
            errors.extend(to_vec(&apart));
        }
        Ok(())
    })
    .map_err(|e| e.named(|row| table.place(row as usize).to_string()))?;
    let lost = errors.iter().filter(|&&error| error > LOST).count();
    let worst = (0..errors.len()).max_by(|&a, &b| errors[a].total_cmp(&errors[b]));
    if let (1.., Some(row)) = (lost, worst) {
        let (all, place, error) = (rows.len(), table.place(row), errors[row]);
        say(
            quiet,
            format!(
                "warning: {lost} of {all} rows come back no nearer than {LOST} of a column's scale, the worst, \
                 {place}, {error:.1e} away: lower --rtol and --atol, or look at the row (far from the others, errors grow)"
            ),
        );
    }
    let names = latent_names(&run);
    if let Some(classes) = classes {
        let dim = run.data.scaling.dim();
        let with = latents.chunks(dim).zip(classes).flat_map(|(z, &c)| [z, &[c.into()]].concat());
        latents = with.collect();
    }
    write_table(out, &names, &vec![CellType::Double; names.len()], &latents)?;
    if arguments.common.json {
        let mut answer = json!({
            "rows": rows.len(), "columns": names.len(), "out": arguments.out, "left_out": left_out, "remarks": remarks,
        });
        if let Some(row) = worst {
            let round_trip = json!({ "worst": errors[row], "lost": lost });
            answer["round_trip"] = json_row(table.place(row), round_trip);
        }
        print_json(&answer);
    }
    Ok(())
}

/// Latents of `run` `[n, d]`, f64, and the classes of their rows: all `class`, or those in the
/// file.
fn read_latents(
    run: &Run,
    path: &PathBuf,
    class: Option<&String>,
) -> Result<(Tensor, Option<Vec<u32>>)> {
    let (found, values) = read_numbers(path)?;
    let (names, dim) = (latent_names(run), run.data.scaling.dim());
    let nameless = found.iter().enumerate().all(|(i, name)| *name == format!("c{}", i + 1));
    let of_columns =
        |columns: usize| found.len() == columns && (nameless || found == names[..columns]);
    let class = class.map(|name| run.data.class(name)).transpose()?;
    let kept = of_columns(names.len());
    let with_class = class.is_some() && of_columns(dim);
    if !kept && !with_class {
        let few = |names: &[String]| {
            let dots = if names.len() > 4 { ", …" } else { "" };
            format!("{} ({}{dots})", names.len(), names[..names.len().min(4)].join(", "))
        };
        let problem =
            format!("has the columns {}, latents of this run have {}", few(&found), few(&names));
        let remedy = match run.data.classes.is_empty() {
            true => "give what `tweedie encode` wrote, or an NPY array of as many columns",
            false => "give what `tweedie encode` wrote, or a --class for latents without one",
        };
        return Err(Error::data(path, problem, remedy));
    }
    let columns = found.len() as i64;
    let all = Tensor::from_slice(&values).view([-1, columns]);
    let classes = match (run.data.classes.len(), class) {
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
            let given: Vec<f64> = values.iter().skip(dim).step_by(dim + 1).copied().collect();
            Some(given.iter().enumerate().map(number).collect::<Result<_>>()?)
        }
    };
    Ok((all.narrow(1, 0, dim as i64), classes))
}

pub fn decode(arguments: &DecodeArguments) -> Result<()> {
    let device = arguments.common.prepare()?;
    let quiet = arguments.common.quiet;
    arguments.solver.check()?;
    let png = arguments.out.extension().is_some_and(|e| e.eq_ignore_ascii_case("png"));
    if !png {
        TableFormat::of(&arguments.out)?;
    }
    check_output(
        "--out",
        &arguments.out,
        &[&arguments.latents],
        &arguments.run,
        arguments.common.json,
    )?;
    let run = Run::load(&arguments.run, device)?;
    let remarks = remark(&run);
    let batch = crate::batch_size(arguments.batch_size, 4096, &run)?;
    let (latents, classes) = read_latents(&run, &arguments.latents, arguments.class.as_ref())?;
    let pictures = png.then(|| Pictures::of(&run, arguments.shape.as_deref())).transpose()?;
    let out = OutputFile::create(&arguments.out)?;
    let rows = latents.size()[0] as usize;
    let mut scaled = Vec::with_capacity(latents.numel());
    let progress = Progress::new("decode", rows as u64, quiet);
    in_batches(
        &run,
        &arguments.solver,
        &latents,
        classes.as_deref(),
        batch,
        progress,
        |flow, z| {
            scaled.extend(to_vec(&flow.decode(&z.x, z.condition.as_ref())?));
            Ok(())
        },
    )?;
    let values = run.data.scaling.inverse(&scaled);
    match pictures {
        None => write_table(out, &run.data.names(), &run.data.cell_types(), &values)?,
        Some(pictures) => pictures.write(out, &values, rows, quiet)?,
    }
    if arguments.common.json {
        print_json(&json!({ "rows": rows, "out": arguments.out, "remarks": remarks }));
    }
    Ok(())
}
