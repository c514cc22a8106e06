//! What Likelihood Matching costs beside score matching (Likelihood Matching, Tables 3 and 4):
//! seconds per training iteration, peak memory, seconds per 1000 sampling steps.
//!
//! Every arm sees as many pairs (x_t, t) per iteration, that is network evaluations. One iteration
//! of each arm in turn, round after round: what else runs on the machine hits all alike, and ratios
//! of medians are what to read. Images are noise; what is in them does not change the cost.

pub mod arm;
mod memory;
mod report;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tch::Device;

use crate::experiment::{Context, Experiment, Progress, settings};
use crate::images::{network, tiny_network};
use crate::outcome::Outcome;
use arm::{Arm, Rig, Trained};
use tweedie::model::{HeadTrunk, NetworkConfig, UNetConfig};
use tweedie::noise::Seed;
use tweedie::{Error, Result};
use tweedie_report::plot::quantile;

settings! {
    /// The experiment's settings.
    pub struct Cost {
        /// The network; what its head sits on is varied.
        #[serde(deserialize_with = "network")]
        pub network: NetworkConfig = NetworkConfig::UNet(UNetConfig::default()),
        /// Pairs (x_t, t) per iteration, and samples per chain.
        pub pairs: usize = 32,
        /// Likelihood Matching's transitions `N`: its iterations take `pairs / N` images.
        pub transitions: usize = 4,
        /// Ranks `r` of the covariance.
        pub ranks: Vec<i64> = vec![0, 1, 4, 16],
        /// Timed iterations of each arm.
        pub rounds: usize = 10,
        /// Sampling steps timed per round.
        pub sampling_steps: usize = 2,
        /// The seed of weights and images.
        pub seed: u64 = 0,
    }
}

impl Experiment for Cost {
    const NAME: &'static str = "cost";
    const TEXT: &'static str = include_str!("cost.md");
    const QUICK_LIMITS_FLAGS: bool = true;

    fn quick(self) -> Self {
        Cost {
            network: tiny_network().for_images(self.shape(), HeadTrunk::Detached),
            rounds: self.rounds.min(3),
            pairs: self.pairs.min(2 * self.transitions),
            ..self
        }
    }

    fn run(&self, context: &mut Context) -> Result<Outcome> {
        let Context { device, progress, apart, .. } = context;
        let mut memory = |arm: &Arm| {
            serde_json::from_value(apart(&arm.name())?).map_err(|e| {
                let problem = format!("the memory of {}: {e}", arm.name());
                Error::numeric(problem, "run it again")
            })
        };
        Ok(self.measure(*device, &mut memory, progress)?.outcome(*device))
    }

    fn part(&self, name: &str, device: Device) -> Result<Value> {
        serde_json::to_value(self.peak_memory(name, device)?)
            .map_err(|e| Error::numeric(e.to_string(), "run it again"))
    }
}

/// Median and quartiles of repeated timings.
#[derive(Clone, Debug, PartialEq)]
pub struct Timing {
    /// 25 %, 50 % and 75 % quantiles, in seconds.
    pub quartiles: [f64; 3],
}

impl Timing {
    fn of(mut seconds: Vec<f64>) -> Timing {
        seconds.sort_by(f64::total_cmp);
        Timing { quartiles: [0.25, 0.5, 0.75].map(|p| quantile(&seconds, p)) }
    }

    /// The median of the seconds.
    pub fn median(&self) -> f64 {
        self.quartiles[1]
    }
}

/// Resident memory of a process, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peak {
    /// Bytes before the model was made: the program and LibTorch themselves.
    pub before: u64,
    /// The highest number of bytes while training.
    pub highest: u64,
}

impl Peak {
    /// Bytes that the training took.
    pub fn bytes(&self) -> u64 {
        self.highest.saturating_sub(self.before)
    }
}

/// What was measured of one arm.
#[derive(Clone, Debug)]
pub struct Measured {
    /// The model and its objective.
    pub arm: Arm,
    /// The number of trained parameters.
    pub parameters: i64,
    /// Seconds per training iteration.
    pub iteration: Timing,
    /// Peak memory of a process of its own, where it can be known.
    pub memory: Option<Peak>,
    /// Seconds per 1000 sampling steps; none for head-only training, whose models are those of the
    /// joint one.
    pub sampling: Option<Timing>,
}

/// What the experiment found.
#[derive(Clone, Debug)]
pub struct Report {
    /// The settings that it was measured with.
    pub experiment: Cost,
    /// Every arm, score matching first.
    pub arms: Vec<Measured>,
}

/// Rounds before the timed ones: first iterations allocate, and choose convolution algorithms.
const WARM_UP: usize = 2;

impl Cost {
    /// Every arm: score matching, then Likelihood Matching on a shared trunk and with a network of
    /// its own for the covariance, score and head together and the head alone.
    pub fn arms(&self) -> Vec<Arm> {
        let mut arms = vec![Arm { rank: None, trunk: HeadTrunk::Shared, trained: Trained::Both }];
        for trained in [Trained::Both, Trained::Head] {
            for trunk in [HeadTrunk::Shared, HeadTrunk::Separate] {
                arms.extend(self.ranks.iter().map(|&rank| Arm {
                    rank: Some(rank),
                    trunk,
                    trained,
                }));
            }
        }
        arms
    }

    /// Times every arm. `memory` returns the peak memory of an arm, from a process of its own
    /// ([`Cost::peak_memory`]), or nothing where it cannot be known.
    ///
    /// # Errors
    /// If a setting cannot be, or a training fails.
    pub fn measure(
        &self,
        device: Device,
        memory: &mut dyn FnMut(&Arm) -> Result<Option<Peak>>,
        progress: Progress,
    ) -> Result<Report> {
        self.check()?;
        let arms = self.arms();
        let total = (arms.len() * (WARM_UP + self.rounds + 1)) as f64;
        let mut done = 0.0;
        let mut tell = |arm: &Arm, what: &str| {
            done += 1.0;
            progress(&format!("{}: {what}", arm.name()), done / total);
        };
        // first, while this process holds no networks
        let mut peaks = Vec::new();
        for arm in &arms {
            peaks.push(memory(arm)?);
            tell(arm, "memory");
        }
        let rigs: Result<Vec<Rig>> = arms.iter().map(|arm| Rig::new(self, *arm, device)).collect();
        let mut rigs = rigs?;
        let mut iterations = vec![Vec::new(); arms.len()];
        let mut chains = vec![Vec::new(); arms.len()];
        for round in 0..WARM_UP + self.rounds {
            for (i, rig) in rigs.iter_mut().enumerate() {
                let iteration = rig.iterate()?;
                let chain = (arms[i].trained == Trained::Both).then(|| rig.sample()).transpose()?;
                if round >= WARM_UP {
                    iterations[i].push(iteration);
                    chains[i].extend(chain);
                }
                tell(&arms[i], "time");
            }
        }
        let arms = rigs
            .iter()
            .zip(peaks)
            .zip(iterations.into_iter().zip(chains))
            .map(|((rig, memory), (iterations, chains))| Measured {
                arm: rig.arm,
                parameters: rig.trained_parameters(),
                iteration: Timing::of(iterations),
                memory,
                sampling: (!chains.is_empty()).then(|| Timing::of(chains)),
            })
            .collect();
        Ok(Report { experiment: self.clone(), arms })
    }

    /// Trains the arm of this name for two iterations and returns how far the resident memory of
    /// this process went up. To be called in a process that has done nothing else: memory that is
    /// freed stays with the process. None where the device is no CPU or the system does not report
    /// it.
    pub fn peak_memory(&self, name: &str, device: Device) -> Result<Option<Peak>> {
        self.check()?;
        let arm = self.arms().into_iter().find(|arm| arm.name() == name);
        let arm = arm.ok_or_else(|| {
            let names: Vec<String> = self.arms().iter().map(Arm::name).collect();
            Error::config(
                "experiment.part",
                format!("no arm '{name}'"),
                format!("give {}", names.join(", ")),
            )
        })?;
        if device != Device::Cpu {
            return Ok(None);
        }
        let before = memory::resident();
        let mut rig = Rig::new(self, arm, device)?;
        rig.iterate()?;
        rig.iterate()?;
        Ok(before.zip(memory::highest()).map(|(before, highest)| Peak { before, highest }))
    }

    fn check(&self) -> Result<()> {
        Error::check_count("experiment.rounds", self.rounds, 1_000_000)?;
        Error::check_count("experiment.sampling_steps", self.sampling_steps, 1_000)?;
        Error::check_count("experiment.pairs", self.pairs, 1_000_000)?;
        if !(2..=self.pairs).contains(&self.transitions)
            || !self.pairs.is_multiple_of(self.transitions)
        {
            let problem = format!("{} for {} pairs per iteration", self.transitions, self.pairs);
            return Err(Error::config(
                "experiment.transitions",
                problem,
                "give a divisor of experiment.pairs from 2",
            ));
        }
        if self.ranks.is_empty() {
            return Err(Error::config("experiment.ranks", "none", "give ranks, such as 0,1,4,16"));
        }
        let dim: i64 = self.shape().iter().product();
        if let Some(rank) = self.ranks.iter().find(|rank| !(0..=dim).contains(*rank)) {
            let remedy = format!("give a rank from 0 to the number of columns, {dim}, or full");
            return Err(Error::config("experiment.ranks", format!("{rank}"), remedy));
        }
        self.network.check()
    }

    /// Channels, height and width of the images.
    fn shape(&self) -> [i64; 3] {
        self.network.image().expect("a network for images").map(|n| n as i64)
    }

    fn seed(&self) -> Seed {
        Seed(self.seed).derive("cost")
    }
}

#[cfg(test)]
mod tests;
