//! Many small images on one sheet.

use std::io::Cursor;
use std::path::Path;

use image::{DynamicImage, GrayImage, ImageFormat, Rgb, RgbImage};

use tweedie::Result;
use tweedie::data::OutputFile;

/// Images are enlarged by the least integer factor that makes them at least so many pixels wide.
const LEAST_WIDTH: usize = 48;
/// Pixels between images and around them.
const GUTTER: usize = 3;
/// The colour between images.
const PAPER: u8 = 0x80;

/// A sheet of images and what had to be clipped to draw it.
#[derive(Clone, Debug)]
pub struct Sheet {
    /// The picture, 8 bits a channel.
    pub image: DynamicImage,
    /// How many finite values lay outside the range and were clipped to it.
    pub clipped: usize,
    /// How many values were not finite; they are drawn as the range's lower end.
    pub non_finite: usize,
}

impl Sheet {
    /// The bytes of a PNG file.
    pub fn png(&self) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        self.image
            .write_to(&mut bytes, ImageFormat::Png)
            .expect("PNG takes any 8-bit image into memory");
        bytes.into_inner()
    }

    /// Writes a PNG file, whole or not at all.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        OutputFile::create(path)?.finish(&self.png())
    }
}

/// A sheet of grey images, `columns` a row: `images` are rows `[n, height * width]`, `range` the
/// values of black and white.
///
/// # Panics
/// Where the length is no multiple of the image's size, or the range is empty.
pub fn image_sheet<T: Copy + Into<f64>>(
    images: &[T],
    height: usize,
    width: usize,
    columns: usize,
    range: (f64, f64),
) -> Sheet {
    let (sheet, clipped, non_finite) = draw(images, [1, height, width], columns, range);
    let image: GrayImage = image::imageops::grayscale(&sheet);
    Sheet { image: DynamicImage::ImageLuma8(image), clipped, non_finite }
}

/// A sheet of colour images, as [`image_sheet`], of rows `[n, 3 * height * width]`: red, green,
/// blue planes.
///
/// # Panics
/// Where the length is no multiple of the image's size, or the range is empty.
pub fn image_sheet_rgb<T: Copy + Into<f64>>(
    images: &[T],
    height: usize,
    width: usize,
    columns: usize,
    range: (f64, f64),
) -> Sheet {
    let (sheet, clipped, non_finite) = draw(images, [3, height, width], columns, range);
    Sheet { image: DynamicImage::ImageRgb8(sheet), clipped, non_finite }
}

/// A sheet of images of this shape (channels, height, width): in colour where there are three
/// channels, else the channels in grey, one below the other.
///
/// # Panics
/// Where the length is no multiple of the image's size, or the range is empty.
pub fn sheet_of<T: Copy + Into<f64>>(
    images: &[T],
    shape: [usize; 3],
    columns: usize,
    range: (f64, f64),
) -> Sheet {
    match shape {
        [3, height, width] => image_sheet_rgb(images, height, width, columns, range),
        [channels, height, width] => image_sheet(images, channels * height, width, columns, range),
    }
}

/// One image of this shape at its own size, without a border: in colour where there are three
/// channels, else the channels in grey, one below the other.
///
/// # Panics
/// Where the length is not the image's size, or the range is empty.
pub fn picture_of<T: Copy + Into<f64>>(
    image: &[T],
    shape: [usize; 3],
    (lo, hi): (f64, f64),
) -> Sheet {
    let [channels, height, width] = shape;
    let pixels = height * width;
    assert!(image.len() == channels * pixels, "{} values are no image of {shape:?}", image.len());
    assert!(lo < hi, "the range of black {lo} to white {hi} is empty");
    let mut levels = Levels { lo, hi, clipped: 0, non_finite: 0 };
    let all: Vec<u8> = image.iter().map(|&value| levels.of(value.into())).collect();
    let (w, h) = (width as u32, height as u32);
    let fits = "levels of an image";
    let image = match channels {
        3 => {
            let interleaved = (0..3 * pixels).map(|i| all[i % 3 * pixels + i / 3]).collect();
            DynamicImage::ImageRgb8(RgbImage::from_raw(w, h, interleaved).expect(fits))
        }
        _ => {
            DynamicImage::ImageLuma8(GrayImage::from_raw(w, h * channels as u32, all).expect(fits))
        }
    };
    Sheet { image, clipped: levels.clipped, non_finite: levels.non_finite }
}

/// From values to levels, counting what lies beyond.
struct Levels {
    lo: f64,
    hi: f64,
    clipped: usize,
    non_finite: usize,
}

impl Levels {
    fn of(&mut self, value: f64) -> u8 {
        let Levels { lo, hi, .. } = *self;
        if !value.is_finite() {
            self.non_finite += 1;
            return 0;
        }
        if value < lo || value > hi {
            self.clipped += 1;
        }
        (255.0 * ((value - lo) / (hi - lo)).clamp(0.0, 1.0)).round() as u8
    }
}

fn draw<T: Copy + Into<f64>>(
    images: &[T],
    [channels, height, width]: [usize; 3],
    columns: usize,
    (lo, hi): (f64, f64),
) -> (RgbImage, usize, usize) {
    let size = channels * height * width;
    assert!(
        size > 0 && images.len().is_multiple_of(size),
        "{} values are no images of {channels}×{height}×{width}",
        images.len()
    );
    assert!(lo < hi, "the range of black {lo} to white {hi} is empty");
    let count = images.len() / size;
    let columns = columns.clamp(1, count.max(1));
    let rows = count.div_ceil(columns).max(1);
    let scale = LEAST_WIDTH.div_ceil(width).max(1);
    let (cell_w, cell_h) = (width * scale + GUTTER, height * scale + GUTTER);
    let mut sheet = RgbImage::from_pixel(
        (columns * cell_w + GUTTER) as u32,
        (rows * cell_h + GUTTER) as u32,
        Rgb([PAPER; 3]),
    );
    let mut levels = Levels { lo, hi, clipped: 0, non_finite: 0 };
    for (i, image) in images.chunks_exact(size).enumerate() {
        let (left, top) = (GUTTER + i % columns * cell_w, GUTTER + i / columns * cell_h);
        for y in 0..height {
            for x in 0..width {
                let at = y * width + x;
                let mut pixel = [0; 3];
                for (c, slot) in pixel.iter_mut().enumerate().take(channels) {
                    *slot = levels.of(image[c * height * width + at].into());
                }
                if channels == 1 {
                    pixel = [pixel[0]; 3];
                }
                for dy in 0..scale {
                    for dx in 0..scale {
                        let (px, py) = (left + x * scale + dx, top + y * scale + dy);
                        sheet.put_pixel(px as u32, py as u32, Rgb(pixel));
                    }
                }
            }
        }
    }
    (sheet, levels.clipped, levels.non_finite)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_land_in_blocks_and_the_rest_is_gutter() {
        // Three 8×8 images, two a row: 6× enlarged, so cells of 48 + 3.
        let mut images = vec![0.0f32; 3 * 64];
        images[64] = 1.0;
        images[2 * 64 + 63] = 2.0;
        images[5] = f32::NAN;
        let sheet = image_sheet(&images, 8, 8, 2, (0.0, 1.0));
        assert_eq!((sheet.clipped, sheet.non_finite), (1, 1));
        let grey = sheet.image.to_luma8();
        assert_eq!(grey.dimensions(), (2 * 51 + 3, 2 * 51 + 3));
        let at = |x, y| grey.get_pixel(x, y).0[0];
        assert_eq!([at(0, 0), at(3, 3), at(54, 3), at(59, 8), at(60, 8)], [0x80, 0, 255, 255, 0]);
        assert_eq!([at(3 + 47, 54 + 47), at(70, 70)], [255, 0x80]);
    }

    #[test]
    fn a_png_reads_back_and_colours_keep_their_planes() {
        let sheet = image_sheet_rgb(&[1.0f64, 0.0, 0.5], 1, 1, 4, (0.0, 1.0));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sheet.png");
        sheet.save(&path).unwrap();
        let back = image::load_from_memory(&std::fs::read(&path).unwrap()).unwrap().to_rgb8();
        assert_eq!(back.get_pixel(10, 10).0, [255, 0, 128]);
        let error = sheet.save(folder.path().join("nowhere/x.png")).unwrap_err();
        assert!(error.to_string().contains("nowhere"), "{error}");
    }

    #[test]
    fn one_picture_has_its_own_size_and_planes() {
        // red, green and blue planes of 1 × 2 pixels
        let colour = picture_of(&[0.0f64, 255.0, 10.4, 20.0, -3.0, 300.0], [3, 1, 2], (0.0, 255.0));
        assert_eq!((colour.clipped, colour.non_finite), (2, 0));
        assert_eq!(colour.image.to_rgb8().into_raw(), [0, 10, 0, 255, 20, 255]);
        let grey = picture_of(&[0.0f32, 1.0, 0.5, f32::NAN], [1, 2, 2], (0.0, 1.0));
        assert_eq!((grey.image.to_luma8().into_raw(), grey.non_finite), (vec![0, 255, 128, 0], 1));
    }

    #[test]
    fn no_images_make_an_empty_sheet() {
        assert!(image_sheet::<f32>(&[], 8, 8, 10, (0.0, 1.0)).png().starts_with(b"\x89PNG"));
    }

    #[test]
    #[should_panic(expected = "65 values are no images of 1×8×8")]
    fn lengths_must_fit() {
        image_sheet(&[0.0f32; 65], 8, 8, 10, (0.0, 1.0));
    }
}
