//! One image file: its header, then its pixels, whole or not at all.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use image::codecs::bmp::BmpDecoder;
use image::codecs::gif::GifDecoder;
use image::codecs::png::PngDecoder;
use image::codecs::tiff::TiffDecoder;
use image::codecs::webp::WebPDecoder;
use image::metadata::Orientation;
use image::{AnimationDecoder, DynamicImage, ImageDecoder, ImageFormat, Limits};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

/// The most pixels of a file; decoding takes a few bytes for each.
const MOST_PIXELS: u64 = 1 << 27;
/// The most bytes that a decoder may hold, and a JPEG file may be long.
const MOST_BYTES: u64 = 1 << 29;

/// A result whose error says what is wrong with the file.
pub(super) type Decoded<T> = std::result::Result<T, String>;

/// What an image file says before its pixels.
pub(super) struct Header {
    /// As it is shown: turned where its EXIF says so.
    pub width: usize,
    pub height: usize,
    /// An estimate of the bytes that decoding it takes at its peak.
    pub bytes: u64,
    /// Whether it has colours, as far as is known: those of a palette may all be grey.
    pub coloured: bool,
}

/// An image of 8 bits a channel, grey or in colour, and what was done to it.
pub(super) struct Picture {
    pub image: DynamicImage,
    pub about: About,
}

/// What was done to an image as it was read.
#[derive(Clone, Copy)]
pub(super) struct About {
    /// The brightest level of an image of 16 bits a channel, which was brought to 8.
    pub brightest: Option<u16>,
    /// Whether its EXIF had it turned or mirrored.
    pub turned: bool,
    /// Whether it is the first frame of several.
    pub animated: bool,
}

/// Reads the header alone.
pub(super) fn header(path: &Path) -> Decoded<Header> {
    let (size, bytes, coloured, orientation) = match Opened::new(path)? {
        Opened::Jpeg { bytes, scans } => {
            let decoder = jpeg(&bytes)?;
            let (width, height) = decoder.dimensions().ok_or("has no dimensions")?;
            let pixels = width as u64 * height as u64;
            // several scans are put together before there are pixels
            let cost = bytes.len() as u64 + pixels * if scans > 1 { 9 } else { 3 };
            let coloured = decoder.input_colorspace() != Some(ColorSpace::Luma);
            ((width as u32, height as u32), cost, coloured, orientation_of(&decoder))
        }
        Opened::Other { mut decoder, format, .. } => {
            let orientation = decoder.orientation().map_err(in_words)?;
            let copies = match format {
                ImageFormat::Gif => 3,
                ImageFormat::WebP | ImageFormat::Tiff => 2,
                _ => 1,
            };
            let colour = decoder.color_type();
            // what is transparent is put on white in another copy
            let copies = copies + u64::from(colour.has_alpha());
            let cost = decoder.total_bytes().saturating_mul(copies);
            let palette = matches!(format, ImageFormat::Gif | ImageFormat::Bmp);
            (decoder.dimensions(), cost, colour.has_color() && !palette, orientation)
        }
    };
    let (mut width, mut height) = size;
    if u64::from(width) * u64::from(height) > MOST_PIXELS {
        return Err(format!(
            "{width} × {height} pixels are more than {} million",
            MOST_PIXELS / 1_000_000
        ));
    }
    if turns(orientation) {
        (width, height) = (height, width);
    }
    let bytes = if orientation == Orientation::NoTransforms { bytes } else { 2 * bytes };
    Ok(Header { width: width as usize, height: height as usize, bytes, coloured })
}

/// The whole image. Transparent pixels show white.
pub(super) fn decode(path: &Path) -> Decoded<Picture> {
    let (image, orientation, animated, palette) = match Opened::new(path)? {
        Opened::Jpeg { bytes, .. } => {
            let mut decoder = jpeg(&bytes)?;
            let orientation = orientation_of(&decoder);
            (jpeg_pixels(&mut decoder)?, orientation, false, false)
        }
        Opened::Other { format: ImageFormat::Gif, .. } => {
            let (image, animated) = first_frame(path)?;
            (image, Orientation::NoTransforms, animated, true)
        }
        Opened::Other { mut decoder, format, animated } => {
            let orientation = decoder.orientation().map_err(in_words)?;
            let image = DynamicImage::from_decoder(decoder).map_err(in_words)?;
            (image, orientation, animated, format == ImageFormat::Bmp)
        }
    };
    let brightest = brightest_of_16_bits(&image)?;
    let mut image = on_white(image);
    if palette && image.as_rgb8().is_some_and(|rgb| rgb.pixels().all(|p| p.0 == [p.0[0]; 3])) {
        image = DynamicImage::ImageLuma8(image.into_luma8());
    }
    image.apply_orientation(orientation);
    let turned = orientation != Orientation::NoTransforms;
    Ok(Picture { image, about: About { brightest, turned, animated } })
}

/// A file whose format is known by its first bytes.
enum Opened {
    Jpeg { bytes: Vec<u8>, scans: usize },
    Other { decoder: Box<dyn ImageDecoder>, format: ImageFormat, animated: bool },
}

impl Opened {
    fn new(path: &Path) -> Decoded<Opened> {
        use std::io::Read;
        let file = || File::open(path).map_err(|e| e.to_string());
        let mut head = Vec::new();
        file()?.take(64).read_to_end(&mut head).map_err(|e| e.to_string())?;
        if head.is_empty() {
            return Err("the file is empty".into());
        }
        let format =
            image::guess_format(&head).map_err(|_| "its first bytes are those of no image")?;
        let reader = BufReader::new(file()?);
        let mut limits = Limits::no_limits();
        limits.max_alloc = Some(MOST_BYTES);
        let (mut decoder, animated): (Box<dyn ImageDecoder>, bool) = match format {
            ImageFormat::Jpeg => {
                let length = file()?.metadata().map_err(|e| e.to_string())?.len();
                if length > MOST_BYTES {
                    return Err(format!("a JPEG file of {length} bytes is more than is read"));
                }
                let bytes = std::fs::read(path).map_err(|e| e.to_string())?;
                let scans = scans(&bytes)?;
                return Ok(Opened::Jpeg { bytes, scans });
            }
            ImageFormat::Png => {
                let decoder = PngDecoder::with_limits(reader, limits.clone()).map_err(in_words)?;
                let animated = decoder.is_apng().map_err(in_words)?;
                (Box::new(decoder), animated)
            }
            ImageFormat::WebP => {
                let decoder = WebPDecoder::new(reader).map_err(in_words)?;
                let animated = decoder.has_animation();
                (Box::new(decoder), animated)
            }
            ImageFormat::Gif => (Box::new(GifDecoder::new(reader).map_err(in_words)?), false),
            ImageFormat::Bmp => (Box::new(BmpDecoder::new(reader).map_err(in_words)?), false),
            ImageFormat::Tiff => (Box::new(TiffDecoder::new(reader).map_err(in_words)?), false),
            other => return Err(format!("it is {other:?}, which is not read")),
        };
        let (width, height) = decoder.dimensions();
        if width == 0 || height == 0 {
            return Err(format!("it has {width} × {height} pixels"));
        }
        if decoder.total_bytes() > MOST_BYTES {
            return Err(format!("{width} × {height} pixels are more than fit in 512 MiB"));
        }
        decoder.set_limits(limits).map_err(in_words)?;
        Ok(Opened::Other { decoder, format, animated })
    }
}

/// A decoder's complaint, in one line.
fn in_words(error: image::ImageError) -> String {
    error.to_string().replace(['\n', '\r'], " ")
}

/// Whether width and height change places.
fn turns(orientation: Orientation) -> bool {
    use Orientation::*;
    matches!(orientation, Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH)
}

/// The scans of a JPEG file, which has to go on to its end marker: decoders make the rest of a file
/// that is cut off grey.
fn scans(bytes: &[u8]) -> Decoded<usize> {
    const CUT: &str = "it is cut off: its end marker is missing";
    let (mut at, mut scans) = (2, 0);
    loop {
        // the next marker: 0xff, then its number; 0xff before it fills
        at += bytes.get(at..).and_then(|rest| rest.iter().position(|&b| b == 0xff)).ok_or(CUT)?;
        at += bytes[at..].iter().position(|&b| b != 0xff).ok_or(CUT)?;
        let marker = bytes[at];
        at += 1;
        match marker {
            0xd9 => return Ok(scans),
            // of entropy-coded data: a stuffed zero, restarts; and those without a length
            0x00 | 0x01 | 0xd0..=0xd8 => (),
            _ => {
                let length = bytes.get(at..at + 2).ok_or(CUT)?;
                at += usize::from(u16::from_be_bytes([length[0], length[1]]));
                scans += usize::from(marker == 0xda);
            }
        }
    }
}

/// A decoder that refuses what is damaged, its header read.
fn jpeg(bytes: &[u8]) -> Decoded<JpegDecoder<ZCursor<&[u8]>>> {
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(usize::MAX)
        .set_max_height(usize::MAX);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(jpeg_words)?;
    let grey = decoder.input_colorspace() == Some(ColorSpace::Luma);
    let colours = if grey { ColorSpace::Luma } else { ColorSpace::RGB };
    let options = decoder.options().jpeg_set_out_colorspace(colours);
    decoder.set_options(options);
    Ok(decoder)
}

fn jpeg_words(error: zune_jpeg::errors::DecodeErrors) -> String {
    error.to_string().replace(['\n', '\r'], " ")
}

fn orientation_of(decoder: &JpegDecoder<ZCursor<&[u8]>>) -> Orientation {
    let exif = decoder.exif().and_then(|exif| Orientation::from_exif_chunk(exif));
    exif.unwrap_or(Orientation::NoTransforms)
}

fn jpeg_pixels(decoder: &mut JpegDecoder<ZCursor<&[u8]>>) -> Decoded<DynamicImage> {
    let (width, height) = decoder.dimensions().ok_or("has no dimensions")?;
    let pixels = decoder.decode().map_err(jpeg_words)?;
    let (width, height) = (width as u32, height as u32);
    let image = match decoder.output_colorspace() {
        Some(ColorSpace::Luma) => {
            image::GrayImage::from_raw(width, height, pixels).map(DynamicImage::from)
        }
        _ => image::RgbImage::from_raw(width, height, pixels).map(DynamicImage::from),
    };
    image.ok_or_else(|| "the decoder gave too few pixels".into())
}

/// The first frame of a GIF file, and whether there are more.
fn first_frame(path: &Path) -> Decoded<(DynamicImage, bool)> {
    let file = File::open(path).map_err(|e| e.to_string())?;
    let mut decoder = GifDecoder::new(BufReader::new(file)).map_err(in_words)?;
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MOST_BYTES);
    decoder.set_limits(limits).map_err(in_words)?;
    let mut frames = decoder.into_frames();
    let first = frames.next().ok_or("it has no frame")?.map_err(in_words)?;
    let animated = frames.next().transpose().map_err(in_words)?.is_some();
    Ok((DynamicImage::ImageRgba8(first.into_buffer()), animated))
}

/// The brightest level of the colours of an image of 16 bits a channel.
fn brightest_of_16_bits(image: &DynamicImage) -> Decoded<Option<u16>> {
    let of = |levels: &[u16], channels: usize, colours: usize| {
        levels.chunks_exact(channels).flat_map(|pixel| &pixel[..colours]).max().copied()
    };
    Ok(match image {
        DynamicImage::ImageLuma16(image) => of(image, 1, 1),
        DynamicImage::ImageLumaA16(image) => of(image, 2, 1),
        DynamicImage::ImageRgb16(image) => of(image, 3, 3),
        DynamicImage::ImageRgba16(image) => of(image, 4, 3),
        DynamicImage::ImageRgb32F(_) | DynamicImage::ImageRgba32F(_) => {
            return Err(
                "its levels are floating-point numbers; those of 8 bits a channel are read".into(),
            );
        }
        _ => None,
    })
}

/// An opaque image of 8 bits a channel, grey or in colour.
fn on_white(image: DynamicImage) -> DynamicImage {
    let coloured = image.color().has_color();
    if !image.color().has_alpha() {
        return match coloured {
            true => DynamicImage::ImageRgb8(image.into_rgb8()),
            false => DynamicImage::ImageLuma8(image.into_luma8()),
        };
    }
    let (width, height) = (image.width(), image.height());
    let rgba = image.into_rgba8();
    let over = |level: u8, alpha: u8| {
        let (level, alpha) = (u32::from(level), u32::from(alpha));
        ((level * alpha + 255 * (255 - alpha) + 127) / 255) as u8
    };
    let opaque = image::RgbImage::from_fn(width, height, |x, y| {
        let [r, g, b, a] = rgba.get_pixel(x, y).0;
        image::Rgb([r, g, b].map(|level| over(level, a)))
    });
    drop(rgba);
    let opaque = DynamicImage::ImageRgb8(opaque);
    if coloured { opaque } else { DynamicImage::ImageLuma8(opaque.into_luma8()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scans_end_at_the_end_marker_alone() {
        let file: &[u8] = &[
            0xff, 0xd8, // start
            0xff, 0xe1, 0, 6, 0xff, 0xd9, 0xff,
            0xd9, // a segment that holds a thumbnail's end
            0xff, 0xff, 0xda, 0, 2, 7, 0xff, 0, 8, 0xff, 0xd0,
            9, // a scan: filled, stuffed, restarted
            0xff, 0xda, 0, 2, 1, 0xff, 0xd9, 5, 5, // another, the end, what a camera appends
        ];
        assert_eq!(scans(file), Ok(2));
        for length in 0..file.len() - 2 {
            assert!(scans(&file[..length]).is_err(), "{length}");
        }
    }
}
