//! `tweedie experiment cost`

use std::process::Command;

use clap::{Args, ValueEnum};
use tweedie::model::UNetConfig;
use tweedie::{Error, Result};
use tweedie_papers::cost::arm::Arm;
use tweedie_papers::cost::{Cost, Peak};
use tweedie_papers::images::tiny_network;

use super::Output;

#[derive(Clone, Copy, Debug, ValueEnum, PartialEq, Eq)]
pub enum NetworkName {
    /// The default of `tweedie train` for images: widths 32, 64, 64
    Small,
    /// The paper's: widths 128, 256, 256, 512; for a GPU
    Paper,
}

impl NetworkName {
    pub fn config(self, shape: [i64; 3]) -> UNetConfig {
        match self {
            NetworkName::Small => UNetConfig { shape, ..UNetConfig::default() },
            NetworkName::Paper => UNetConfig::paper(shape),
        }
    }
}

/// `CxHxW`.
fn shape(text: &str) -> std::result::Result<[i64; 3], String> {
    let numbers: Option<Vec<i64>> = text.split('x').map(|n| n.parse().ok()).collect();
    numbers.and_then(|n| n.try_into().ok()).ok_or_else(|| "not CxHxW, such as 3x32x32".into())
}

#[derive(Args, Debug)]
#[command(after_help = "\
Writes cost.md, cost.csv and figures: median and quartiles of one training iteration, peak memory and time per 1000 sampling \
steps of score matching and of Likelihood Matching at each rank, on a shared trunk and with a network of its own for the \
covariance, and of training the head alone; arms take turns. Peak memory is measured in a process per arm, on a CPU under \
Linux. No data are needed: images are noise. All networks are in memory together, six copies of their parameters each.

Time: 39 s of two cores with --ranks 4 --rounds 5 (small network, 32 pairs); the default, with four ranks and ten rounds, was not \
timed.

Examples:
  tweedie experiment cost --out results/cost --quick
  tweedie experiment cost --out results/cost
  tweedie experiment cost --out results/cost --network paper --batch-size 128 --ranks 0,1,4,16 --device cuda")]
pub struct Arguments {
    #[command(flatten)]
    output: Output,
    /// Which U-Net
    #[arg(long, default_value = "small")]
    network: NetworkName,
    /// Shape of the images [default: 1x32x32, with the paper's network 3x32x32]
    #[arg(long, value_name = "CxHxW", value_parser = shape)]
    shape: Option<[i64; 3]>,
    /// Pairs (x_t, t) per iteration, equal for all, and images per sampling step
    #[arg(long, value_name = "PAIRS", default_value_t = 32)]
    batch_size: usize,
    /// Transitions per image under LM: its iterations take PAIRS / N images
    #[arg(long, value_name = "N", default_value_t = 4)]
    transitions: usize,
    /// Ranks of the covariance
    #[arg(long, value_name = "R,R,…", value_delimiter = ',', default_value = "0,1,4,16")]
    ranks: Vec<i64>,
    /// Timed iterations of each arm
    #[arg(long, value_name = "ROUNDS", default_value_t = 10)]
    rounds: usize,
    /// Sampling steps timed in each round
    #[arg(long, value_name = "STEPS", default_value_t = 2)]
    sampling_steps: usize,
    /// Train this arm alone and say how much memory this process took
    #[arg(long, value_name = "ARM", hide = true)]
    memory_of: Option<String>,
}

impl Arguments {
    pub fn run(&self) -> Result<()> {
        let output = &self.output;
        let channels = if self.network == NetworkName::Paper { 3 } else { 1 };
        let shape = self.shape.unwrap_or([channels, 32, 32]);
        let mut experiment = Cost {
            network: self.network.config(shape),
            pairs: self.batch_size,
            transitions: self.transitions,
            ranks: self.ranks.clone(),
            rounds: self.rounds,
            sampling_steps: self.sampling_steps,
            seed: output.seed,
            ..Cost::default()
        };
        if output.quick {
            experiment.network = UNetConfig { shape, ..tiny_network() };
            experiment.rounds = self.rounds.min(3);
            experiment.pairs = self.batch_size.min(2 * self.transitions);
        }
        if let Some(name) = &self.memory_of {
            experiment.device = output.common.prepare()?;
            let peak = experiment.peak_memory(name)?;
            println!("{}", serde_json::to_string(&peak).expect("plain data"));
            return Ok(());
        }
        experiment.device = output.prepare()?;
        output.run(
            "cost",
            |progress| experiment.run(&mut memory_of, progress),
            |report, dir| report.write(dir),
        )
    }
}

/// The peak memory of an arm, from this program started anew for that arm alone.
fn memory_of(arm: &Arm) -> Result<Option<Peak>> {
    let failed = |problem: String| {
        let problem = format!("the process that measures the memory of {} {problem}", arm.name());
        Error::numeric(problem, "give a smaller --network or --batch-size")
    };
    let program = std::env::current_exe().map_err(|e| failed(format!("cannot be started: {e}")))?;
    let child = Command::new(program)
        .args(std::env::args_os().skip(1))
        .args(["--memory-of", &arm.name()])
        .output()
        .map_err(|e| failed(format!("cannot be started: {e}")))?;
    if !child.status.success() {
        let said = String::from_utf8_lossy(&child.stderr).trim().replace('\n', " ");
        return Err(failed(format!("failed ({}): {said}", child.status)));
    }
    serde_json::from_slice(&child.stdout).map_err(|e| failed(format!("gave no answer: {e}")))
}
