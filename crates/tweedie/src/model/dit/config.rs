//! A diffusion transformer as plain data: sizes and options.

use serde::{Deserialize, Serialize};

use crate::model::HeadTrunk;
use crate::model::embedding::Position;
use crate::{Error, Result};

/// A diffusion transformer as plain data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DitConfig {
    /// Channels, height and width of an image.
    pub shape: [i64; 3],
    /// Height and width of a patch, which is a token.
    pub patch: i64,
    /// Channels of a token.
    pub width: i64,
    /// Blocks, each of attention and a perceptron.
    pub blocks: i64,
    /// Heads of attention.
    pub heads: i64,
    /// Added to variances in normalisations before attention and in the last layer.
    pub norm_epsilon: f64,
    /// Added to variances in normalisations before perceptrons.
    pub mlp_norm_epsilon: f64,
    /// Classes to condition on; 0: none.
    pub classes: i64,
    /// Whether there is a null class besides, of rows of which none is given; published ones have
    /// it.
    pub null_class: bool,
    /// Subtracted from the number of frequencies in the time embedding's exponents: 0 as published,
    /// 1 in diffusers.
    pub frequency_shift: f64,
    /// Steps of the discrete process among which a time in `[0, 1]` has its position: step `i`,
    /// from 0, is `t = (i+1)/steps`.
    pub steps: i64,
    /// What the time embedding is of.
    pub position: Position,
    /// What the covariance head sits on.
    pub head_trunk: HeadTrunk,
    /// Channels of a token in the head's own network, where it has one; it has as many heads of
    /// attention.
    pub head_width: i64,
    /// Blocks of the head's own network.
    pub head_blocks: i64,
}

impl Default for DitConfig {
    /// For grey images of 32×32, small enough for a CPU. The head's gradient stops at the trunk, as
    /// in the U-Net.
    fn default() -> Self {
        DitConfig {
            shape: [1, 32, 32],
            patch: 4,
            width: 128,
            blocks: 4,
            heads: 4,
            norm_epsilon: 1e-6,
            mlp_norm_epsilon: 1e-6,
            classes: 0,
            null_class: false,
            frequency_shift: 0.0,
            steps: 1000,
            position: Position::Step,
            head_trunk: HeadTrunk::Detached,
            head_width: 64,
            head_blocks: 2,
        }
    }
}

impl DitConfig {
    /// `d = C·H·W`.
    pub fn dim(&self) -> i64 {
        self.shape.iter().product()
    }

    /// The classes that have a row in the embedding, the null class among them.
    pub(super) fn embedded_classes(&self) -> i64 {
        self.classes + i64::from(self.null_class)
    }

    /// Rows and columns of patches.
    pub(super) fn grid(&self) -> [i64; 2] {
        [self.shape[1] / self.patch, self.shape[2] / self.patch]
    }

    /// Checks every field.
    ///
    /// # Errors
    /// [`Error::Config`] with the path of the first field that cannot be.
    pub fn check(&self) -> Result<()> {
        let bad = |field: &str, problem: String, remedy: &str| {
            Err(Error::config(format!("model.network.{field}"), problem, remedy))
        };
        let [channels, height, width] = self.shape;
        let separate = self.head_trunk == HeadTrunk::Separate;
        let counts = [
            ("shape", channels, 1024),
            ("shape", height, 4096),
            ("shape", width, 4096),
            ("patch", self.patch, 4096),
            ("width", self.width, 16_384),
            ("blocks", self.blocks, 1000),
            ("heads", self.heads, 1024),
            ("steps", self.steps, 1_000_000),
            ("head_width", self.head_width, 16_384),
            ("head_blocks", self.head_blocks, 1000),
        ];
        for (field, value, most) in counts {
            Error::check_count(&format!("model.network.{field}"), value, most)?;
        }
        if height % self.patch != 0 || width % self.patch != 0 {
            let patch = self.patch;
            let problem = format!("{patch} x {patch} for images of {height} x {width} pixels");
            let remedy = format!(
                "give a divisor of height and width, or bring the images to multiples of {patch} \
                 with data.table.size"
            );
            return bad("patch", problem, &remedy);
        }
        let widths = [("width", self.width), ("head_width", self.head_width)];
        for (field, width) in widths.into_iter().take(if separate { 2 } else { 1 }) {
            if width % 4 != 0 {
                let remedy = "give a multiple of 4: sines and cosines of rows and of columns";
                return bad(field, format!("{width}"), remedy);
            }
            if width % self.heads != 0 {
                let problem = format!("{} does not divide {field}, {width}", self.heads);
                return bad("heads", problem, "give a divisor of it");
            }
        }
        for (field, epsilon) in
            [("norm_epsilon", self.norm_epsilon), ("mlp_norm_epsilon", self.mlp_norm_epsilon)]
        {
            if !(epsilon > 0.0 && epsilon.is_finite()) {
                return bad(field, format!("{epsilon}"), "give a small positive number");
            }
        }
        if !(0.0..64.0).contains(&self.frequency_shift) {
            return bad("frequency_shift", format!("{}", self.frequency_shift), "give 0 or 1");
        }
        match self.classes {
            0 if self.null_class => {
                bad("null_class", "true, without classes".into(), "give data.classes")
            }
            0 => Ok(()),
            classes => Error::check_count("model.network.classes", classes, 1_000_000),
        }
    }
}
