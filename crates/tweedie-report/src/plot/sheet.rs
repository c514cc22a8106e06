//! Many small images on one sheet.

use std::io::Cursor;
use std::path::Path;

use image::imageops::{FilterType, replace};
use image::{DynamicImage, GrayImage, ImageFormat, Luma, Rgb, RgbImage};

use tweedie::Result;
use tweedie::data::OutputFile;

/// The least width of an image in pixels: images are enlarged by the least integer factor that
/// gives it.
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

/// A sheet of images, `columns` a row: `images` are rows `[n, channels * height * width]` of this
/// shape (channels, height, width), `range` the values of black and white. In colour where there
/// are three channels, red, green and blue; else the channels in grey, one below the other.
///
/// # Panics
/// Where the length is no multiple of the image's size, or the range is empty.
pub fn sheet_of<T: Copy + Into<f64>>(
    images: &[T],
    shape: [usize; 3],
    columns: usize,
    range: (f64, f64),
) -> Sheet {
    let ([channels, height, width], size) = (shape, shape.iter().product());
    assert!(
        size > 0 && images.len().is_multiple_of(size),
        "{} values are no images of {channels}×{height}×{width}",
        images.len()
    );
    let count = images.len() / size;
    let columns = columns.clamp(1, count.max(1));
    let rows = count.div_ceil(columns).max(1);
    let scale = LEAST_WIDTH.div_ceil(width).max(1);
    let tall = if channels == 3 { height } else { channels * height };
    let (wide, tall) = (width * scale, tall * scale);
    let w = (columns * (wide + GUTTER) + GUTTER) as u32;
    let h = (rows * (tall + GUTTER) + GUTTER) as u32;
    let mut image = match channels {
        3 => DynamicImage::ImageRgb8(RgbImage::from_pixel(w, h, Rgb([PAPER; 3]))),
        _ => DynamicImage::ImageLuma8(GrayImage::from_pixel(w, h, Luma([PAPER]))),
    };
    let (mut clipped, mut non_finite) = (0, 0);
    for (i, values) in images.chunks_exact(size).enumerate() {
        let picture = picture_of(values, shape, range);
        clipped += picture.clipped;
        non_finite += picture.non_finite;
        let picture = picture.image.resize_exact(wide as u32, tall as u32, FilterType::Nearest);
        let left = GUTTER + i % columns * (wide + GUTTER);
        let top = GUTTER + i / columns * (tall + GUTTER);
        replace(&mut image, &picture, left as i64, top as i64);
    }
    Sheet { image, clipped, non_finite }
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
    let values = || image.iter().map(|&value| -> f64 { value.into() });
    let non_finite = values().filter(|v| !v.is_finite()).count();
    let clipped = values().filter(|v| v.is_finite() && !(lo..=hi).contains(v)).count();
    let part = |v: f64| if v.is_finite() { ((v - lo) / (hi - lo)).clamp(0.0, 1.0) } else { 0.0 };
    let all: Vec<u8> = values().map(|value| (255.0 * part(value)).round() as u8).collect();
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
    Sheet { image, clipped, non_finite }
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
        let sheet = sheet_of(&images, [1, 8, 8], 2, (0.0, 1.0));
        assert_eq!((sheet.clipped, sheet.non_finite), (1, 1));
        let grey = sheet.image.to_luma8();
        assert_eq!(grey.dimensions(), (2 * 51 + 3, 2 * 51 + 3));
        let at = |x, y| grey.get_pixel(x, y).0[0];
        assert_eq!([at(0, 0), at(3, 3), at(54, 3), at(59, 8), at(60, 8)], [0x80, 0, 255, 255, 0]);
        assert_eq!([at(3 + 47, 54 + 47), at(70, 70)], [255, 0x80]);
    }

    #[test]
    fn a_png_reads_back_and_colours_keep_their_planes() {
        let sheet = sheet_of(&[1.0f64, 0.0, 0.5], [3, 1, 1], 4, (0.0, 1.0));
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
        assert!(sheet_of::<f32>(&[], [1, 8, 8], 10, (0.0, 1.0)).png().starts_with(b"\x89PNG"));
    }

    #[test]
    #[should_panic(expected = "65 values are no images of 1×8×8")]
    fn lengths_must_fit() {
        sheet_of(&[0.0f32; 65], [1, 8, 8], 10, (0.0, 1.0));
    }
}
