//! `tweedie impute`

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use tch::Device;
use tweedie::Result;
use tweedie::data::{OutputFile, TableFormat};
use tweedie::density::{Fill, FillOptions, SampleOptions};
use tweedie::process_group::ProcessGroup;

use crate::choice::choice;
use crate::common::{Arithmetic, Common};
use crate::console::{Console, say};
use crate::output::check_output;
use crate::processes::{Processes, output_of};
use crate::reading::{Reading, left_out};

#[derive(Args, Debug)]
#[command(after_help = "\
Each missing cell is drawn from its distribution given the other cells of its row; cells that are \
there stay as they are. Several draws show how sure the filled cells are: --draws 5 for multiple \
imputation, --fill median --interval 0.9 for a value and the interval that has the cell with \
probability .9.

Examples:
  tweedie impute runs/people holes.csv -o filled.csv
  tweedie impute runs/people holes.csv --draws 5 -o five.csv
  tweedie impute runs/people holes.csv --fill median --interval 0.9 -o filled.csv")]
pub struct Arguments {
    /// The run directory, of a mixed table
    run: PathBuf,
    /// The rows to fill, with the columns the run was trained on
    data: PathBuf,
    /// What stands in a cell that was missing
    #[arg(long, default_value = "draw", value_parser = choice::<Fill>())]
    fill: Fill,
    /// Draws of each row: of draw, rows come so often, one after the other, their number in a
    /// column `draw`; of mean and median, what they are of [default: 1; 50 of mean and median]
    #[arg(short = 'm', long, value_name = "M")]
    draws: Option<usize>,
    /// Beside each mean or median the ends of the interval that has this probability, in columns
    /// NAME_low and NAME_high, of numbers and dates [default: none]
    #[arg(long, value_name = "P")]
    interval: Option<f64>,
    /// Steps of the chain
    #[arg(long, value_name = "K", default_value_t = SampleOptions::default().steps)]
    steps: usize,
    /// Seed of the draws
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Rows at a time [default: 4096]
    #[arg(long, value_name = "B")]
    batch_size: Option<usize>,
    /// The rows without missing cells: .csv, .tsv or .parquet; - is CSV on standard output
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    reading: Reading,
    #[command(flatten)]
    arithmetic: Arithmetic,
    #[command(flatten)]
    processes: Processes,
    #[command(flatten)]
    common: Common,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let (device, group) = arguments.processes.prepare(&arguments.common)?;
    group.reporting(|| impute(arguments, device, &group))
}

fn impute(arguments: &Arguments, device: Device, group: &ProcessGroup) -> Result<()> {
    let (common, out) = (&arguments.common, &arguments.out);
    let quiet = common.quiet;
    let options = SampleOptions {
        steps: arguments.steps,
        seed: arguments.seed,
        batch_size: arguments.batch_size,
        ..SampleOptions::default()
    };
    options.check()?;
    let Arguments { fill, draws, interval, .. } = *arguments;
    let fill = FillOptions { fill, draws, interval };
    fill.check()?;
    TableFormat::of(out)?;
    check_output("--out", out, &[&arguments.data], &arguments.run, common.json)?;
    let (density, remarks) = arguments.arithmetic.load(common, &arguments.run, device)?;
    let density = density.over(group);
    let table = arguments.reading.table(density.run(), &arguments.data)?;
    let left_out = left_out(&table, quiet);
    let file = OutputFile::create(output_of(group, out)?)?;
    let mut console = Console::new(quiet);
    let samples = density.fill_with(&table, &fill, &options, &mut console)?;
    drop(console);
    samples.write_to(file)?;
    let holes = table.holes();
    let answer = json!({
        "rows": table.rows(), "filled": holes, "out": out, "left_out": left_out,
        "remarks": remarks,
    });
    let text = format!("{holes} missing cells of {} rows are filled", table.rows());
    // standard output may be where the rows went
    match !common.json && out.as_os_str() == "-" {
        true => say(quiet, text),
        false => common.print(&answer, text),
    }
    Ok(())
}
