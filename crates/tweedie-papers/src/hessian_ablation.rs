//! What the Hessian is worth (Likelihood Matching, §5.3): runs trained under one budget with and
//! without it, sampled with and without it.

use std::path::Path;

use super::images::arm::{Arm, Studio};
use super::images::judge::{Judge, Method};
use super::images::{Record, Settings, Unit, by_steps, check_steps, csv, curves};
use super::runs::Tasks;
use super::write_all;
use tweedie::Result;
use tweedie::grid::TimeLaw;
use tweedie::model::HeadTrunk;
use tweedie::objective::{LmForm, ObjectiveConfig, ScoreGradient};
use tweedie::run::Run;

/// The experiment's settings.
#[derive(Clone, Debug, PartialEq)]
pub struct HessianAblation {
    /// The images, the budget and the protocol.
    pub images: Settings,
    /// Transitions `N`.
    pub transitions: usize,
    /// Rank of the learned covariance.
    pub rank: i64,
    /// Numbers of sampling steps `K`.
    pub steps: Vec<usize>,
}

impl Default for HessianAblation {
    fn default() -> Self {
        HessianAblation {
            images: Settings::default(),
            transitions: 4,
            rank: 4,
            steps: vec![10, 20],
        }
    }
}

/// What the experiment found; [`Report::write`] makes files of it.
#[derive(Debug)]
pub struct Report {
    /// The settings.
    pub experiment: HessianAblation,
    /// Every run, method and number of steps.
    pub records: Vec<Record>,
    protocol: String,
    distance: Option<&'static str>,
    seconds: f64,
}

impl HessianAblation {
    /// The same at sizes that show only that it runs; see [`Settings::quick`].
    pub fn quick(self) -> HessianAblation {
        HessianAblation { images: self.images.quick(), ..self }
    }

    /// The arms: score matching; the quasi-likelihood of a score alone, `H = 0`; score and head
    /// together as in the paper, on a shared trunk and with networks of their own; and the head by
    /// the quasi-likelihood under a score by score matching, on the score's features without a
    /// gradient into them (the default of `tweedie train`), with one, and with networks of their
    /// own. All draw their times uniformly in `t`.
    pub fn arms(&self) -> Vec<Arm> {
        let zero = ObjectiveConfig::LmZeroHessian {
            transitions: self.transitions,
            form: LmForm::default(),
            time: TimeLaw::Uniform,
        };
        let lm = |name, trunk, score| Arm::lm(name, self.transitions, self.rank, trunk, score);
        vec![
            Arm::sm("sm"),
            Arm { objective: zero, ..Arm::sm("lm-zero-hessian") },
            lm("lm-joint-shared", HeadTrunk::Shared, ScoreGradient::Joint),
            lm("lm-joint-separate", HeadTrunk::Separate, ScoreGradient::Joint),
            lm("lm-dsm-detached", HeadTrunk::Detached, ScoreGradient::Dsm),
            lm("lm-dsm-shared", HeadTrunk::Shared, ScoreGradient::Dsm),
            lm("lm-dsm-separate", HeadTrunk::Separate, ScoreGradient::Dsm),
        ]
    }

    /// Trains the arms in `out/runs` and judges them. `progress` gets a line and the fraction done.
    pub fn run(&self, out: &Path, progress: &mut dyn FnMut(&str, f64)) -> Result<Report> {
        let begun = std::time::Instant::now();
        check_steps(&self.steps, &*self.images.schedule()?)?;
        let arms = self.arms();
        let extractor = self.images.extractor()?;
        let studio = Studio::open(&self.images, out.join("runs"), &arms)?;
        let mut tasks = Tasks::new(2 * arms.len(), progress);
        let train = |arm| Run::load(studio.train(arm, &mut tasks)?, self.images.device);
        let runs: Vec<Run> = arms.iter().map(train).collect::<Result<_>>()?;
        let judge = Judge::new(&self.images, &runs[0], extractor)?;
        let mut records = Vec::new();
        for (arm, run) in arms.iter().zip(&runs) {
            for &method in Method::of(run).iter().filter(|method| method.has_likelihood()) {
                for &steps in &self.steps {
                    records.push(judge.measure(run, &arm.name, method, steps, 0)?.0);
                }
            }
            tasks.end(&format!("judging {}", arm.name));
        }
        Ok(Report {
            experiment: self.clone(),
            records,
            protocol: judge.protocol(),
            distance: judge.distance_name(),
            seconds: begun.elapsed().as_secs_f64(),
        })
    }
}

impl Report {
    /// Writes `hessian-ablation.csv`, `hessian-ablation.md` and the figures into `dir`.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let bits = curves(
            &self.records,
            "With and without the Hessian",
            "bits per dimension, ± s.e.",
            false,
        );
        let mut files = vec![
            ("hessian-ablation.csv", csv(&self.records, Unit::BitsPerDim)),
            ("hessian-ablation.md", self.markdown()),
            ("hessian-ablation-bits.svg", bits),
        ];
        if let Some(name) = self.distance {
            let distance = curves(&self.records, "With and without the Hessian", name, true);
            files.push(("hessian-ablation-distance.svg", distance));
        }
        write_all(dir, &files)
    }

    fn markdown(&self) -> String {
        let (e, steps) = (&self.experiment, &self.experiment.steps);
        let mut out = format!(
            "# What the Hessian is worth\n\nLikelihood Matching, §5.3. N = {}, rank {}. {} {}\n\n\
             Runs: *sm*, score matching; *lm-zero-hessian*, the paper's ablation: the quasi-likelihood trains the score with \
             H = 0 (G = I); *lm-joint*, the paper's training of score and head together; *lm-dsm*, the head by the \
             quasi-likelihood under a score by score matching; *detached*, a head on the score's features whose gradient does \
             not reach them, the default of `tweedie train`; *shared*, one whose gradient does: summed over pixels, the \
             quasi-likelihood then outweighs the score's loss; *separate*, a network of its own for the covariance, as in the \
             paper. Every arm draws its times uniformly in t. Each is sampled with its learned G, with H = 0 and \
             with β̃: *learned G* against *H = 0* of one run is what the covariance is worth in sampling, *lm-zero-hessian* \
             against *lm-joint*, both with H = 0, what it does to the score.\n\n## Bits per dimension\n\n{}",
            e.transitions,
            e.rank,
            e.images.describe(),
            self.protocol,
            by_steps(&self.records, steps, false)
        );
        if let Some(name) = self.distance {
            out += &format!("\n## {name}\n\n{}", by_steps(&self.records, steps, true));
        }
        out += "\n## Published\n\nMNIST, FID of 10,000 samples (torchmetrics' Inception, 500,000 iterations of batch 128, two \
                networks): 10.28 and 9.75 with the Hessian held fixed, for two numbers of transitions that our copy of the paper \
                has lost, significantly worse than with a learned one, for which it has a figure and no number. The text calls the \
                fixed Hessian an identity matrix; here it is I + σ²H that is the identity, as in the paper's own \
                score-matching sampler.\n";
        out + &format!("\nThis run took {:.0} s.\n", self.seconds)
    }
}
