//! `tweedie experiment`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use tweedie::Result;

use crate::Common;

#[derive(Args, Debug)]
pub struct Arguments {
    #[command(subcommand)]
    which: Which,
}

#[derive(Subcommand, Debug)]
enum Which {}

pub fn run(arguments: &Arguments) -> Result<()> {
    match arguments.which {}
}

#[derive(Args, Debug)]
struct Output {
    /// Where CSV, SVG and Markdown are written
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    common: Common,
}
