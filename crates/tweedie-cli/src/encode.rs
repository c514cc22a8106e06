//! `tweedie encode` and `tweedie decode`: data to the latents of the probability flow, and back.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use tweedie::Result;
use tweedie::data::{OutputFile, TableFormat};
use tweedie::density::{DecodeOptions, EncodeOptions, RoundTrip};

use crate::Common;
use crate::console::Console;
use crate::flow::SolverArguments;
use crate::json::json_row;
use crate::output::{Format, Output, check_output};
use crate::reading::{Reading, left_out};
use crate::terminal::print_json;

#[derive(Args, Debug)]
#[command(after_help = "\
A latent is x_T/σ_T, standard normal for rows that follow the model's distribution; its columns \
are named z_ and the data's names, in double precision. Values of dequantised columns stand for \
the centres of their bins, so that a row has one latent; with --seed they get the noise of their \
bins, and the latents a continuous distribution. A run with classes adds the column `class`. Steps \
are solved at a tenth of the tolerances. Rows that do not come back within 1e-3 of a column's \
scale are counted. Batch size and threads change latents within some ten times the tolerances.

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

pub fn encode(arguments: &EncodeArguments) -> Result<()> {
    let device = arguments.common.prepare()?;
    let (out, common) = (&arguments.out, &arguments.common);
    let options = EncodeOptions {
        seed: arguments.seed,
        solver: arguments.solver.options(),
        check: !arguments.no_check,
        batch_size: arguments.batch_size,
    };
    options.solver.check("encode.solver")?;
    TableFormat::of(out)?;
    check_output("--out", out, &[&arguments.data], &arguments.run, common.json)?;
    let (density, remarks) = common.load(&arguments.run, device)?;
    let table = arguments.reading.table(density.run(), &arguments.data)?;
    let left_out = left_out(&table, common.quiet);
    let file = OutputFile::create(out)?;
    let latents = density.encode_with(&table, &options, &mut Console::new(common.quiet))?;
    if let Some(RoundTrip { lost: lost @ 1.., worst, error }) = latents.round_trip {
        let (all, place, limit) = (table.rows(), table.place(worst), RoundTrip::LOST);
        say!(
            common.quiet,
            "warning: {lost} of {all} rows come back no nearer than {limit} of a column's scale, \
             the worst, {place}, {error:.1e} away: lower --rtol and --atol, or look at the row \
             (far from the others, errors grow)"
        );
    }
    latents.write_to(file)?;
    if common.json {
        let mut answer = json!({
            "rows": table.rows(), "columns": latents.names.len(), "out": out, "left_out": left_out,
            "remarks": remarks,
        });
        if let Some(RoundTrip { lost, worst, error }) = latents.round_trip {
            let round_trip = json!({ "worst": error, "lost": lost });
            answer["round_trip"] = json_row(table.place(worst), round_trip);
        }
        print_json(&answer);
    }
    Ok(())
}

pub fn decode(arguments: &DecodeArguments) -> Result<()> {
    let device = arguments.common.prepare()?;
    let (out, common) = (&arguments.out, &arguments.common);
    let options =
        DecodeOptions { solver: arguments.solver.options(), batch_size: arguments.batch_size };
    options.solver.check("decode.solver")?;
    let format = Format::of_file(out)?;
    check_output("--out", out, &[&arguments.latents], &arguments.run, common.json)?;
    let (density, remarks) = common.load(&arguments.run, device)?;
    let latents = density.read_latents(&arguments.latents, arguments.class.as_deref())?;
    let output = Output::open(format, out, &density, arguments.shape.as_deref())?;
    let rows = density.decode_with(&latents, &options, &mut Console::new(common.quiet))?;
    output.write(&rows, common.quiet)?;
    if common.json {
        print_json(&json!({ "rows": rows.rows(), "out": out, "remarks": remarks }));
    }
    Ok(())
}
