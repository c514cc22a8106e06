//! What the Hessian is worth (Likelihood Matching, §5.3): runs trained under one budget with and
//! without it, sampled with and without it.

use crate::experiment::{Context, Experiment, settings};
use crate::images::arm::Arm;
use crate::images::judge::Method;
use crate::images::{self, Settings, study};
use crate::outcome::Outcome;
use crate::page::Page;
use tweedie::Result;
use tweedie::model::HeadTrunk;
use tweedie::objective::{Hessian, ScoreGradient};
use tweedie::run::Run;

settings! {
    /// The experiment's settings.
    pub struct HessianAblation {
        /// The images, the budget and the protocol.
        pub images: Settings = Settings::default(),
        /// Transitions `N`.
        pub transitions: usize = 4,
        /// Rank of the learned covariance.
        pub rank: i64 = 4,
        /// Numbers of sampling steps `K`.
        pub steps: Vec<usize> = vec![10, 20],
    }
}

impl HessianAblation {
    /// The arms: score matching; the quasi-likelihood of a score alone, under `H = 0` and `H = I`;
    /// score and head together on a shared trunk and with networks of their own; the head by the
    /// quasi-likelihood under a score by score matching, on the score's features without a gradient
    /// into them (the default of `tweedie train`), with one, and with networks of their own; and
    /// Likelihood Matching to the paper's letter. All draw their times uniformly in `t`.
    pub fn arms(&self) -> Vec<Arm> {
        let fixed = |name, hessian| Arm::fixed_hessian(name, self.transitions, hessian);
        let lm = |name, trunk, score| Arm::lm(name, self.transitions, self.rank, trunk, score);
        vec![
            Arm::sm("sm"),
            fixed("lm-zero-hessian", Hessian::Zero),
            fixed(IDENTITY, Hessian::Identity),
            lm("lm-joint-shared", HeadTrunk::Shared, ScoreGradient::Joint),
            lm("lm-joint-separate", HeadTrunk::Separate, ScoreGradient::Joint),
            lm("lm-dsm-detached", HeadTrunk::Detached, ScoreGradient::Dsm),
            lm("lm-dsm-shared", HeadTrunk::Shared, ScoreGradient::Dsm),
            lm("lm-dsm-separate", HeadTrunk::Separate, ScoreGradient::Dsm),
            Arm::lm_paper("lm-paper", self.transitions, self.rank),
        ]
    }
}

/// The run under `H = I`, which is sampled with it too.
const IDENTITY: &str = "lm-identity-hessian";

impl Experiment for HessianAblation {
    const NAME: &'static str = "hessian-ablation";
    const TEXT: &'static str = include_str!("hessian_ablation.md");
    const SHARED_FLAGS: &'static [&'static str] = &[images::IMAGES, images::BUDGET];
    const SEED: &'static str = "images.seed";
    const QUICK_LIMITS_FLAGS: bool = true;

    fn quick(self) -> Self {
        HessianAblation { images: self.images.quick(), ..self }
    }

    fn run(&self, context: &mut Context) -> Result<Outcome> {
        let methods = |arm: &Arm, run: &Run| {
            let own = (arm.name == IDENTITY).then_some(Method::IDENTITY_HESSIAN);
            own.into_iter().chain(Method::of(run)).filter(|m| m.has_likelihood()).collect()
        };
        let (found, _) = study(&self.images, &self.arms(), methods, &self.steps, 0, context)?;
        let page = Page::new().with("budget", self.images.describe()?);
        Ok(found.outcome(Self::NAME, "bits", "With and without the Hessian", page))
    }
}
