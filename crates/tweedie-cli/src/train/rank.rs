//! `--rank auto`

use tweedie::covariance::Spectrum;
use tweedie::model::Structure;
use tweedie::noise::Seed;
use tweedie::run::{Prepared, Run, RunConfig};
use tweedie::{Error, Result};

use super::Arguments;
use crate::console::say;

/// Numbers of all points of a spectrum, about: each takes a product of the network.
const SPECTRUM_NUMBERS: usize = 8192;
/// The share of the norm of `G` that a chosen rank may leave, and the highest that is chosen.
const LEFT: f64 = 0.1;
const MOST_RANK: usize = 32;

impl Arguments {
    /// The rank that the score of `donor` asks for, where it is to be chosen.
    pub(super) fn choose_rank(
        &self,
        config: &mut RunConfig,
        donor: &Run,
        prepared: &Prepared,
    ) -> Result<()> {
        let (Some("auto"), Some(head)) = (self.rank.as_deref(), &mut config.model.head) else {
            return Ok(());
        };
        if donor.model.classes() > 0 {
            let problem = "auto, of a score conditioned on classes";
            return Err(Error::config("--rank", problem, "give a number"));
        }
        let seed = Seed(config.seed).derive("spectrum");
        let points = (SPECTRUM_NUMBERS / donor.data.scaling.dim()).clamp(10, 200);
        let rows = prepared.training_rows(points, seed.derive("rows"));
        let spectrum = Spectrum::measure(&donor.model, &rows, points, seed)?;
        let rank = spectrum.rank(LEFT).min(MOST_RANK);
        let percent = |r| format!("{:.0} %", 100.0 * spectrum.left(r));
        say(
            self.common.quiet,
            format!(
                "rank {rank}: beside it {} of the norm of the score's G is left, beside rank 0 {} ({points} points; at most rank {MOST_RANK})",
                percent(rank),
                percent(0)
            ),
        );
        head.structure = Structure::LowRank(rank as i64);
        config.objective.check_head(head)
    }
}
