//! The two halves of an image that take turns in a coupling.

use tch::Tensor;

use super::product;

/// Which elements of an image `[n, c, h, w]` a coupling sees, and which it changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// Even and odd columns: Flow++'s checkerboard.
    Columns,
    /// Halves of the channels of `[n, 4c, h/2, w/2]`, each 2 × 2 block of pixels a pixel, its
    /// channels ordered by row, column and channel (TensorFlow's `space_to_depth`, as in Flow++):
    /// even and odd rows. Height and width are even.
    Channels,
}

/// How images of one size are split.
#[derive(Debug)]
pub(super) struct Split {
    by: By,
    /// Channels, height and width.
    pub image: [i64; 3],
}

impl Split {
    pub fn new(by: By, image: [i64; 3]) -> Split {
        Split { by, image }
    }

    /// Channels, height and width of the first half, and of the second once it is padded.
    pub fn half(&self) -> [i64; 3] {
        let [channels, height, width] = self.image;
        match self.by {
            By::Columns => [channels, height, (width + 1) / 2],
            By::Channels => [2 * channels, height / 2, width / 2],
        }
    }

    /// The halves of an image. Of columns of an odd width the second lacks one.
    pub fn split(&self, x: &Tensor) -> [Tensor; 2] {
        match self.by {
            By::Columns => [0, 1].map(|first| x.slice(3, first, None, 2)),
            By::Channels => {
                let [channels, height, width] = self.half();
                let blocks = x.reshape([-1, channels / 2, height, 2, width, 2]);
                let deep = blocks.permute([0, 3, 5, 1, 2, 4]);
                [0, 1].map(|row| deep.select(1, row).flatten(1, 2))
            }
        }
    }

    /// A half with as many columns as the first, zeros where there is none.
    pub fn padded(&self, half: &Tensor) -> Tensor {
        half.constant_pad_nd([0, self.half()[2] - half.size()[3]])
    }

    /// The image of these halves.
    pub fn join(&self, halves: &[Tensor; 2]) -> Tensor {
        match self.by {
            By::Columns => {
                let pairs = Tensor::stack(&[&halves[0], &self.padded(&halves[1])], 4);
                pairs.flatten(3, 4).narrow(3, 0, self.image[2])
            }
            By::Channels => {
                let [channels, height, width] = self.image;
                let rows = halves.each_ref().map(|half| half.unflatten(1, [2, channels]));
                let deep = Tensor::stack(&rows, 1).permute([0, 3, 4, 1, 5, 2]);
                deep.reshape([-1, channels, height, width])
            }
        }
    }

    /// Names and sizes of the matrices that channels are multiplied with. Columns have one for each
    /// half, or none for one channel, of which it would be a second scale; the halves of channels
    /// have one together.
    pub fn matrices(&self) -> (&'static [&'static str], i64) {
        match (self.by, self.image[0]) {
            (By::Columns, 1) => (&[], 1),
            (By::Columns, channels) => (&["mix.even", "mix.odd"], channels),
            (By::Channels, channels) => (&["mix"], 4 * channels),
        }
    }

    /// Multiplies the channels of every pixel with [`Split::matrices`]: each matrix at as many
    /// pixels as the half of its index has.
    pub fn mix(&self, halves: [Tensor; 2], matrices: &[Tensor]) -> [Tensor; 2] {
        match (self.by, matrices) {
            (_, []) => halves,
            (By::Columns, _) => [0, 1].map(|i| product(&matrices[i], &halves[i])),
            (By::Channels, _) => {
                let mixed = product(&matrices[0], &Tensor::cat(&halves, 1));
                let channels = self.half()[0];
                [0, 1].map(|i| mixed.narrow(1, i * channels, channels))
            }
        }
    }
}
