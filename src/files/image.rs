//! Photos: JPEG, PNG, TIFF and WebP; grey or colour, with or without alpha; 8 or 16 bits a channel.

use std::fs::File;
use std::io::{BufRead, BufReader, Cursor};
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, RgbImage};
use rayon::prelude::*;

use crate::files::jpeg::{self, Elsewhere};
use crate::files::{hash, input, mirror, unread_photo};
use crate::host::memory::expect_room;
use crate::{Error, Result};

/// File extensions (lower case) of the photos that are looked for in a folder.
pub const EXTENSIONS: [&str; 6] = ["jpg", "jpeg", "png", "tif", "tiff", "webp"];

const EXPECTED: &str = "a complete JPEG, PNG, TIFF or WebP photo with 8 or 16 bits a channel";

/// What a photo's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Width and height of the stored pixels.
    pub size: (usize, usize),
    /// Whether EXIF asks viewers to turn or mirror it.
    pub rotated: bool,
    /// Whether its pixels have an alpha.
    pub has_alpha: bool,
}

/// Decoded pixels: red, green and blue of every pixel, row by row, 0..1 as stored (no gamma is removed). Grey is
/// repeated, and an EXIF rotation never applied: cameras are for the stored pixels.
#[derive(Clone, Debug, PartialEq)]
pub struct Pixels {
    /// Width and height.
    pub size: (usize, usize),
    /// `height * width * 3` values.
    pub rgb: Vec<f32>,
    /// `height * width` values, 0 transparent and 1 opaque; `None` where all pixels are opaque.
    pub alpha: Option<Vec<f32>>,
    /// SHA-256 of the very bytes that were decoded.
    pub sha256: String,
    /// Why a decoder that was to be used has left the file to the processor.
    pub left: Option<String>,
}

/// Whether a file's name ends like a photo's.
pub fn has_photo_extension(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
    EXTENSIONS.contains(&extension.as_str())
}

/// Whether photos of this name's format may have an alpha.
pub fn may_have_alpha(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    !["jpg", "jpeg"].iter().any(|jpeg| extension.eq_ignore_ascii_case(jpeg))
}

/// Reads a photo's header.
pub fn header(path: &Path) -> Result<Header> {
    if mirror::need_start(path)? {
        // Where more stands before it, or it is broken, the whole file says so.
        if let Ok(header) = header_of(path, input::open_as_it_is) {
            return Ok(header);
        }
    }
    header_of(path, input::open)
}

type Open = fn(&Path, &'static str) -> Result<(File, u64)>;

fn header_of(path: &Path, open: Open) -> Result<Header> {
    let (file, length) = open(path, "open the photo")?;
    if length == 0 {
        return Err(Error::input(path.display().to_string(), "the file is empty", EXPECTED));
    }
    let mut file = BufReader::new(file);
    unread_photo::refuse_start(path, file.fill_buf().map_err(Error::io("read the photo", path))?)?;
    let reader = ImageReader::new(file).with_guessed_format().map_err(Error::io("read the photo", path))?;
    let format = reader.format();
    let mut decoder = reader.into_decoder().map_err(|e| undecodable(path, e))?;
    let (width, height) = decoder.dimensions();
    refuse_a_lying_size(path, &decoder, format, length)?;
    if width == 0 || height == 0 {
        return Err(Error::input(path.display().to_string(), format!("{width} x {height} pixels"), EXPECTED));
    }
    // A photo whose EXIF block is damaged is still a photo.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    Ok(Header {
        size: (width as usize, height as usize),
        rotated: orientation != Orientation::NoTransforms,
        has_alpha: decoder.color_type().has_alpha(),
    })
}

/// Reads and decodes an image.
pub fn read(path: &Path) -> Result<Pixels> {
    decoded(path, |_, _| Ok(None))
}

/// Reads and decodes a photo, by the decoder of JPEG files that is in use.
pub fn read_photo(path: &Path) -> Result<Pixels> {
    decoded(path, jpeg::elsewhere)
}

fn decoded(path: &Path, elsewhere: impl Fn(&[u8], (usize, usize)) -> Result<Option<Elsewhere>>) -> Result<Pixels> {
    let bytes = input::read(path, "read the photo")?;
    unread_photo::refuse_start(path, &bytes)?;
    let refuse = |found: String| Error::input(path.display().to_string(), found, EXPECTED);
    if bytes.is_empty() {
        return Err(refuse("the file is empty".into()));
    }
    // The JPEG decoder fills what is missing with grey and says nothing.
    if bytes.starts_with(&[0xff, 0xd8]) && !jpeg_reaches_its_end(&bytes) {
        return Err(refuse(format!("the JPEG data breaks off after {} bytes, before its end marker", bytes.len())));
    }
    let reader =
        ImageReader::new(Cursor::new(&bytes)).with_guessed_format().map_err(Error::io("read the photo", path))?;
    let format = reader.format();
    let decoder = reader.into_decoder().map_err(|e| undecodable(path, e))?;
    let (width, height) = decoder.dimensions();
    refuse_a_lying_size(path, &decoder, format, bytes.len() as u64)?;
    let channels = decoder.color_type().channel_count();
    let pixels = u64::from(width) * u64::from(height);
    // As decoded, and as floats.
    let floats = if channels % 2 == 0 { 4 } else { 3 } * 4;
    expect_room(path, decoder.total_bytes().saturating_add(pixels.saturating_mul(floats)))?;
    let size = (width as usize, height as usize);
    let elsewhere = match format {
        Some(ImageFormat::Jpeg) => elsewhere(&bytes, size)?,
        _ => None,
    };
    let (image, left) = match elsewhere {
        Some(Elsewhere::Pixels(rgb)) => (RgbImage::from_raw(width, height, rgb).map(DynamicImage::ImageRgb8), None),
        Some(Elsewhere::Left(why)) => (None, Some(why)),
        None => (None, None),
    };
    let image = match image {
        Some(image) => image,
        None => DynamicImage::from_decoder(decoder).map_err(|e| undecodable(path, e))?,
    };
    let (rgb, alpha) = match &image {
        DynamicImage::ImageLuma8(i) => from_8_bits(i, 1),
        DynamicImage::ImageLumaA8(i) => from_8_bits(i, 2),
        DynamicImage::ImageRgb8(i) => from_8_bits(i, 3),
        DynamicImage::ImageRgba8(i) => from_8_bits(i, 4),
        DynamicImage::ImageLuma16(i) => from_16_bits(i, 1),
        DynamicImage::ImageLumaA16(i) => from_16_bits(i, 2),
        DynamicImage::ImageRgb16(i) => from_16_bits(i, 3),
        DynamicImage::ImageRgba16(i) => from_16_bits(i, 4),
        other => return Err(refuse(format!("pixels of type {:?}", other.color()))),
    };
    let sha256 = hash::of_bytes(&bytes);
    Ok(Pixels { size, rgb, alpha, sha256, left })
}

/// Refuses a photo that claims more pixels than its file can hold, before any memory is taken for them.
fn refuse_a_lying_size(
    path: &Path,
    decoder: &impl ImageDecoder,
    format: Option<ImageFormat>,
    length: u64,
) -> Result<()> {
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    // A JPEG spends at least one bit on each block of 8 x 8 pixels. The other formats pack pixels at most about 1000
    // to 1 (deflate: 1032), but for single-coloured images; so a small file that claims half a gigabyte lies.
    let lies = match format {
        Some(ImageFormat::Jpeg) => pixels > length.saturating_mul(512),
        _ => decoder.total_bytes() > length.saturating_mul(1100).max(512 << 20),
    };
    if lies {
        let found = format!("{length} bytes that claim to be {width} x {height} pixels");
        return Err(Error::input(path.display().to_string(), found, EXPECTED));
    }
    Ok(())
}

fn from_8_bits(samples: &[u8], channels: usize) -> (Vec<f32>, Option<Vec<f32>>) {
    let value = |s| f32::from(s) / 255.0;
    (to_rgb(samples, channels, value), to_alpha(samples, channels, u8::MAX, value))
}

fn from_16_bits(samples: &[u16], channels: usize) -> (Vec<f32>, Option<Vec<f32>>) {
    let value = |s| f32::from(s) / 65535.0;
    (to_rgb(samples, channels, value), to_alpha(samples, channels, u16::MAX, value))
}

/// The alpha of interleaved samples; `None` without, and where all pixels are opaque.
fn to_alpha<T: Copy + Eq>(samples: &[T], channels: usize, opaque: T, value: impl Fn(T) -> f32) -> Option<Vec<f32>> {
    let alpha = samples.chunks_exact(channels).map(|pixel| pixel[channels - 1]);
    let has_alpha = channels.is_multiple_of(2) && alpha.clone().any(|alpha| alpha != opaque);
    has_alpha.then(|| alpha.map(value).collect())
}

/// Interleaved samples of 1 (grey), 2 (grey, alpha), 3 or 4 (rgb, alpha) channels to rgb.
fn to_rgb<T: Copy + Sync>(samples: &[T], channels: usize, value: impl Fn(T) -> f32 + Sync) -> Vec<f32> {
    let source = if channels < 3 { [0, 0, 0] } else { [0, 1, 2] };
    let mut rgb = vec![0.0; samples.len() / channels * 3];
    rgb.par_chunks_mut(3 << 14).zip(samples.par_chunks(channels << 14)).for_each(|(rgb, samples)| {
        for (rgb, pixel) in rgb.chunks_exact_mut(3).zip(samples.chunks_exact(channels)) {
            for (out, channel) in rgb.iter_mut().zip(source) {
                *out = value(pixel[channel]);
            }
        }
    });
    rgb
}

/// Walks the segments of a JPEG file to its end marker (ITU-T T.81, annex B): bytes after it (previews, padding)
/// are fine, a missing one is not.
fn jpeg_reaches_its_end(bytes: &[u8]) -> bool {
    const END_OF_IMAGE: u8 = 0xd9;
    let is_restart = |marker: u8| (0xd0..=0xd7).contains(&marker);
    let mut rest = bytes;
    // Each turn: skip to the next marker (over entropy-coded data, where 0xff is followed by 0), then over its segment.
    while let Some(at) = rest.windows(2).position(|w| w[0] == 0xff && w[1] != 0xff && w[1] != 0) {
        let marker = rest[at + 1];
        rest = &rest[at + 2..];
        if marker == END_OF_IMAGE {
            return true;
        }
        if is_restart(marker) || marker == 0xd8 || marker == 0x01 {
            continue; // no segment follows
        }
        let Some(&[high, low]) = rest.first_chunk::<2>() else { return false };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let Some(after) = rest.get(length..) else { return false };
        rest = after;
    }
    false
}

/// The decoder's reason on one line.
fn undecodable(path: &Path, error: image::ImageError) -> Error {
    let reason = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    Error::input(path.display().to_string(), format!("it cannot be decoded ({reason})"), EXPECTED)
}
