//! The options that every command takes, and what follows from them.

use std::fmt::Display;
use std::path::Path;

use clap::Args;
use serde_json::Value;
use tch::Device;
use tweedie::density::Density;
use tweedie::model::Precision;
use tweedie::{Error, Result};

use crate::choice::choice;
use crate::flags::Flags;
use crate::process;
use crate::terminal::print_json;

const MOST_THREADS: usize = 1024;

/// What every command takes.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// Where to compute
    #[arg(long, value_name = "cpu|cuda:N", default_value = "cpu")]
    pub device: String,
    /// Threads for tensor arithmetic [default: all cores]
    #[arg(long, value_name = "T")]
    pub threads: Option<usize>,
    /// Say nothing but results, what has to be known beside them, and errors
    #[arg(long)]
    pub quiet: bool,
    /// Results as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// What samples and likelihoods are computed in.
#[derive(Args, Clone, Debug)]
pub struct Arithmetic {
    /// Products of weights and activations of a network for images in f32, or in bf16, for GPUs
    #[arg(long, default_value = "f32", value_parser = choice::<Precision>())]
    precision: Precision,
}

impl Arithmetic {
    /// `density` computing so.
    pub fn of(&self, density: Density) -> Result<Density> {
        density.in_precision(self.precision)
    }

    /// As [`Common::load`], computing so.
    pub fn load(
        &self,
        common: &Common,
        run: &Path,
        device: Device,
    ) -> Result<(Density, Vec<String>)> {
        let (density, remarks) = common.load(run, device)?;
        Ok((self.of(density)?, remarks))
    }
}

impl Common {
    /// Sets up the process as requested; the device to compute on.
    pub fn prepare(&self) -> Result<Device> {
        self.let_threads_sleep();
        self.prepare_on(&self.device)
    }

    /// As [`process::let_threads_sleep`], which starts the program anew, where there are any.
    pub fn let_threads_sleep(&self) {
        if self.threads != Some(1) {
            process::let_threads_sleep();
        }
    }

    /// As [`Common::prepare`] after [`Common::let_threads_sleep`], to compute on `device`.
    pub fn prepare_on(&self, device: &str) -> Result<Device> {
        if let Some(threads) = self.threads {
            Error::check_count("--threads", threads, MOST_THREADS)?;
            tch::set_num_threads(threads as i32);
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            pool.build_global()
                .map_err(|e| Error::numeric(format!("threads: {e}"), "try without --threads"))?;
        }
        tweedie::device::open(device)
    }

    /// The density in the directory `run`, and what has to be known beside any figure, sample or
    /// latent of it. Each such remark is a line on standard error, quiet or not, since a figure is
    /// not whole without it; the JSON answer has them under `remarks`.
    pub fn load(&self, run: &Path, device: Device) -> Result<(Density, Vec<String>)> {
        let density = Density::load_on(run, device)?;
        let remarks = Flags::here().remarks(density.run());
        remarks.iter().for_each(|text| eprintln!("note: {text}"));
        Ok((density, remarks))
    }

    /// Prints what was found: `answer` where JSON is requested, else `text`.
    pub fn print(&self, answer: &Value, text: impl Display) {
        match self.json {
            true => print_json(answer),
            false => println!("{text}"),
        }
    }
}
