//! What the Hessian is worth (Likelihood Matching, §5.3): runs trained under one budget with and
//! without it, sampled with and without it.

use serde::{Deserialize, Serialize};

use crate::experiment::{Context, Experiment};
use crate::flag::Flag;
use crate::images::arm::Arm;
use crate::images::judge::Method;
use crate::images::{self, Settings, study};
use crate::outcome::Outcome;
use crate::page::Page;
use tweedie::Result;
use tweedie::grid::TimeLaw;
use tweedie::model::HeadTrunk;
use tweedie::objective::{LmForm, ObjectiveConfig, ScoreGradient};
use tweedie::run::Run;

/// The experiment's settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
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
        let images = Settings::default();
        HessianAblation { images, transitions: 4, rank: 4, steps: vec![10, 20] }
    }
}

impl HessianAblation {
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
}

impl Experiment for HessianAblation {
    const NAME: &'static str = "hessian-ablation";
    const ABOUT: &'static str =
        "Training and sampling with and without the Hessian: Likelihood Matching, §5.3";
    const HELP: &'static str = "\
Trains seven runs under one budget: score matching; the quasi-likelihood with H = 0; score and head \
by the quasi-likelihood, and the head by it under a score by score matching, both on a shared trunk \
and with networks of their own, the latter also on the score's features without a gradient into \
them, the default of `tweedie train`. Judges each with its learned covariance, H = 0 and β̃. Writes \
hessian-ablation.md, .csv and curves; runs are kept in DIR/runs: the same command goes on with \
them. Fréchet distances are given with --features alone.

Time: with the small network a step of 64 pairs takes about 1.15 s on one thread at 28x28, hence \
5000 iterations an hour and a half per training.

Examples:
  tweedie experiment hessian-ablation --out results/ablation --data train-images-idx3-ubyte.gz
  tweedie experiment hessian-ablation --out results/look --data digits/ --quick";
    const PAGE: &'static str = include_str!("hessian_ablation.md");
    const FLAGS: &'static [&'static [Flag]] = &[
        images::IMAGES,
        images::BUDGET,
        images::PROTOCOL,
        &[
            images::STEPS,
            Flag::of::<usize>("transitions", "N", "transitions", "Transitions per image"),
            Flag::of::<i64>("rank", "R", "rank", "Rank of the learned covariance"),
        ],
    ];
    const SEED: &'static str = "images.seed";
    const QUICK_LIMITS_FLAGS: bool = true;

    fn quick(self) -> Self {
        HessianAblation { images: self.images.quick(), ..self }
    }

    fn run(&self, context: &mut Context) -> Result<Outcome> {
        let methods = |_: &Arm, run: &Run| {
            Method::of(run).into_iter().filter(|method| method.has_likelihood()).collect()
        };
        let (found, _) = study(&self.images, &self.arms(), methods, &self.steps, 0, context)?;
        let page = Page::new().with("budget", self.images.describe()?);
        Ok(found.outcome(Self::NAME, "bits", "With and without the Hessian", page))
    }
}
