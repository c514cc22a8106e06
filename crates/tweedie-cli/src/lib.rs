//! The program `tweedie`: likelihood-trained diffusion models from the command line. [`main`] is
//! all of it, for its binary and for the entry point of the Python package.
//!
//! Results go to standard output, everything else to standard error. Exit codes: 0 done, 1 a
//! failure of the work, 2 a mistake in the request, 130 stopped by the user, 141 nobody reads the
//! results any more.

/// As `std::println!`, by way of [`terminal::print_line`], which every line on standard output goes
/// through.
macro_rules! println {
    ($($text:tt)*) => { $crate::terminal::print_line(&format!($($text)*)) };
}

/// As `std::eprintln!`, by way of [`terminal::tell`], which every line on standard error goes
/// through.
macro_rules! eprintln {
    ($($text:tt)*) => { $crate::terminal::tell(&format!($($text)*)) };
}

/// A line on standard error unless `$quiet`, by way of [`console::say`].
macro_rules! say {
    ($quiet:expr, $($text:tt)*) => { $crate::console::say($quiet, format!($($text)*)) };
}

mod choice;
mod common;
mod console;
mod dequantize;
mod encode;
mod evaluate;
mod exchange;
mod experiment;
mod flags;
mod flow;
mod impute;
mod info;
mod interrupt;
mod json;
mod latents;
mod memory;
mod output;
mod pace;
mod pictures;
mod process;
mod processes;
mod progress;
mod reading;
mod recipe;
mod report;
mod sample;
mod score;
mod terminal;
mod train;

use std::ffi::OsString;
use std::io::ErrorKind;

use clap::{Parser, Subcommand};
use tweedie::Error;

use common::Common;
pub use evaluate::evaluation_json;

/// Likelihood-trained diffusion models: densities with honest log-likelihoods, samples in few steps
#[derive(Parser)]
#[command(
    name = "tweedie",
    version,
    arg_required_else_help = true,
    after_help = "\
Examples:
  tweedie train --data wine.csv --out runs/wine
  tweedie sample runs/wine -n 1000 --steps 20 -o samples.csv
  tweedie score runs/wine new.csv -o scores.csv --anomalies 10
  tweedie report runs/wine"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Fit a density to a table or to images
    Train(Box<train::Arguments>),
    /// Draw samples from a fitted density
    Sample(sample::Arguments),
    /// Log-likelihoods of rows, with their standard errors
    Score(score::Arguments),
    /// Fill missing cells by draws given the others, of a mixed table
    Impute(impute::Arguments),
    /// Learn the noise within the bins of levels, for a tighter likelihood
    Dequantize(dequantize::Arguments),
    /// Rows to latents of the probability flow, without noise
    Encode(encode::EncodeArguments),
    /// Latents of the probability flow to rows: `encode` undone
    Decode(encode::DecodeArguments),
    /// Images to latents of an autoencoder, to train on, and latents to images
    Latents(latents::Arguments),
    /// Judge a fitted density on test rows, beside classical densities
    Evaluate(evaluate::Arguments),
    /// Figures and tables of the papers; a page has the published values where there are any
    Experiment(experiment::Arguments),
    /// One self-contained HTML page about a run
    Report(report::Arguments),
    /// What a run is: how its training ended, its data, sizes and figures so far
    Info(info::Arguments),
    /// Make a run of a diffusers model, to sample, score and give a covariance
    Import(exchange::ImportArguments),
    /// Write the score of a run so that diffusers loads it
    Export(exchange::ExportArguments),
}

/// Runs the program with these arguments, its own name first, and returns its exit code. A mistake
/// in the arguments, and a request for help, end the process.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    process::keep_memory();
    let cli = Cli::parse_from(arguments);
    std::panic::set_hook(Box::new(|panic| {
        if tweedie::error::is_catching() {
            return;
        }
        let message = panic.to_string().replace('\n', " ");
        match memory::is_out_of_memory(&message) {
            true => terminal::tell(memory::OUT_OF_MEMORY),
            false => eprintln!(
                "error: internal: {message}; please report it with the command that led here"
            ),
        }
    }));
    // a training ends in its own way: it saves first
    match cli.command {
        Command::Train(_) => (),
        Command::Dequantize(_) | Command::Latents(_) => interrupt::stop_when_interrupted(),
        _ => interrupt::end_when_interrupted(),
    }
    let result = std::panic::catch_unwind(|| match cli.command {
        Command::Train(arguments) => train::run(&arguments),
        Command::Sample(arguments) => sample::run(&arguments),
        Command::Score(arguments) => score::run(&arguments),
        Command::Impute(arguments) => impute::run(&arguments),
        Command::Dequantize(arguments) => dequantize::run(&arguments),
        Command::Encode(arguments) => encode::encode(&arguments),
        Command::Decode(arguments) => encode::decode(&arguments),
        Command::Latents(arguments) => latents::run(&arguments),
        Command::Evaluate(arguments) => evaluate::run(&arguments),
        Command::Experiment(arguments) => experiment::run(&arguments),
        Command::Report(arguments) => report::run(&arguments),
        Command::Info(arguments) => info::run(&arguments),
        Command::Import(arguments) => exchange::import(&arguments),
        Command::Export(arguments) => exchange::export(&arguments),
    });
    processes::discard_outputs();
    match result {
        Ok(Ok(())) => 0,
        Ok(Err(Error::Interrupted(what))) => {
            eprintln!("{what}");
            interrupt::INTERRUPTED
        }
        Ok(Err(Error::Io { source, .. })) if source.kind() == ErrorKind::BrokenPipe => {
            interrupt::CLOSED_PIPE
        }
        Ok(Err(error)) => {
            eprintln!("error: {}", flags::Flags::here().explain(&error));
            if matches!(error, Error::Group { .. }) {
                // connections that failed are not waited for
                interrupt::exit_now(1)
            }
            if error.is_request() { 2 } else { 1 }
        }
        Err(_) => 1,
    }
}
