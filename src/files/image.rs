//! Photos: JPEG, PNG, TIFF and WebP, and by features HEIC, AVIF and JPEG XL; grey or colour, with or without alpha; 8
//! to 16 bits a channel.

use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Seek};
use std::path::{Path, PathBuf};

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, RgbImage};
use rayon::prelude::*;

#[cfg(feature = "heif")]
use crate::files::heif::HeifDecoder;
use crate::files::jpeg::{self, Elsewhere};
#[cfg(feature = "jxl")]
use crate::files::jxl::JxlDecoder;
use crate::files::photo_format::{self, Format, READ};
use crate::files::{hash, input, mirror};
use crate::host::memory::expect_room;
use crate::{Error, Result};

pub use crate::files::photo_format::has_photo_extension;

/// Bits a channel that this build reads.
const BITS: &str = if cfg!(any(feature = "heif", feature = "jxl")) { "8 to 16" } else { "8 or 16" };

/// What a photo's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Width and height of the stored pixels.
    pub size: (usize, usize),
    /// Whether EXIF asks viewers to turn or mirror it. HEIC, AVIF and JPEG XL say so in the image itself, where every
    /// decoder obeys: what comes of them is upright, and their EXIF says nothing.
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
        return Err(refused(path, "the file is empty"));
    }
    let mut file = BufReader::new(file);
    let start = file.fill_buf().map_err(Error::io("read the photo", path))?;
    let by_feature = photo_format::of_start(path, start)?;
    let (mut decoder, format) = decoder(path, file, by_feature, length)?;
    let (width, height) = decoder.dimensions();
    refuse_a_lying_size(path, &decoder, format, length)?;
    if width == 0 || height == 0 {
        return Err(refused(path, format!("{width} x {height} pixels")));
    }
    // A photo whose EXIF block is damaged is still a photo.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    Ok(Header {
        size: (width as usize, height as usize),
        rotated: orientation != Orientation::NoTransforms,
        has_alpha: decoder.color_type().has_alpha(),
    })
}

/// A photo as it is stored.
pub struct Decoded {
    path: PathBuf,
    image: DynamicImage,
    sha256: String,
    left: Option<String>,
}

impl Decoded {
    /// Its size in memory.
    pub fn bytes(&self) -> u64 {
        self.image.as_bytes().len() as u64
    }

    /// Its values.
    ///
    /// # Errors
    /// Pixels of a type that photos do not have.
    pub fn pixels(&self) -> Result<Pixels> {
        let (rgb, alpha) = match &self.image {
            DynamicImage::ImageLuma8(i) => from_8_bits(i, 1),
            DynamicImage::ImageLumaA8(i) => from_8_bits(i, 2),
            DynamicImage::ImageRgb8(i) => from_8_bits(i, 3),
            DynamicImage::ImageRgba8(i) => from_8_bits(i, 4),
            DynamicImage::ImageLuma16(i) => from_16_bits(i, 1),
            DynamicImage::ImageLumaA16(i) => from_16_bits(i, 2),
            DynamicImage::ImageRgb16(i) => from_16_bits(i, 3),
            DynamicImage::ImageRgba16(i) => from_16_bits(i, 4),
            other => return Err(refused(&self.path, format!("pixels of type {:?}", other.color()))),
        };
        let size = (self.image.width() as usize, self.image.height() as usize);
        Ok(Pixels { size, rgb, alpha, sha256: self.sha256.clone(), left: self.left.clone() })
    }
}

/// Reads and decodes an image, on the processor.
///
/// # Errors
/// A file that is no photo or is damaged, and one that does not fit into memory.
pub fn read(path: &Path) -> Result<Pixels> {
    decoded(path, |_, _| Ok(None))?.pixels()
}

/// Reads and decodes a photo, by the decoder of JPEG files that is in use.
///
/// # Errors
/// As [`read`]; a device's.
pub fn decode(path: &Path) -> Result<Decoded> {
    decoded(path, jpeg::elsewhere)
}

fn decoded(path: &Path, elsewhere: impl Fn(&[u8], (usize, usize)) -> Result<Option<Elsewhere>>) -> Result<Decoded> {
    let bytes = input::read(path, "read the photo")?;
    let by_feature = photo_format::of_start(path, &bytes)?;
    if bytes.is_empty() {
        return Err(refused(path, "the file is empty"));
    }
    // The JPEG decoder fills what is missing with grey and says nothing.
    if bytes.starts_with(&[0xff, 0xd8]) && !jpeg_reaches_its_end(&bytes) {
        let found = format!("the JPEG data breaks off after {} bytes, before its end marker", bytes.len());
        return Err(refused(path, found));
    }
    let (decoder, format) = decoder(path, Cursor::new(&bytes), by_feature, bytes.len() as u64)?;
    let (width, height) = decoder.dimensions();
    refuse_a_lying_size(path, &decoder, format, bytes.len() as u64)?;
    let channels = decoder.color_type().channel_count();
    let pixels = u64::from(width) * u64::from(height);
    // As decoded, and as floats.
    let floats = if channels % 2 == 0 { 4 } else { 3 } * 4;
    let decoding = by_feature.map_or(0, bytes_while_decoding);
    let each = decoding.max(floats);
    expect_room(path, decoder.total_bytes().saturating_add(pixels.saturating_mul(each)))?;
    let elsewhere = match format {
        Some(ImageFormat::Jpeg) => elsewhere(&bytes, (width as usize, height as usize))?,
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
    Ok(Decoded { path: path.to_owned(), image, sha256: hash::of_bytes(&bytes), left })
}

/// Bytes that are held for each pixel while a photo of this name is decoded, up to 16 bits a channel and the decoder's
/// own included.
pub fn bytes_while_decoded(path: &Path) -> u64 {
    6 + Format::of_name(path).filter(|_| has_photo_extension(path)).map_or(0, bytes_while_decoding)
}

/// What decoders of features hold for each pixel beside the result.
fn bytes_while_decoding(format: Format) -> u64 {
    match format {
        // Measured on photos of 1536 x 1024 (2026-11-28), result and file included: HEIC 11, AVIF 17, with 10 bits 29;
        Format::Heic | Format::Avif => 24,
        // without loss 12, with 16 bits 22, with loss and of a JPEG 31, all of three channels.
        Format::JpegXl => 40,
        Format::Raw(_) => 0,
    }
}

type Decoder<'a> = Box<dyn ImageDecoder + 'a>;

/// What decodes a photo, with its format where every build has that.
fn decoder<'a>(
    path: &Path,
    reader: impl BufRead + Seek + 'a,
    by_feature: Option<Format>,
    length: u64,
) -> Result<(Decoder<'a>, Option<ImageFormat>)> {
    #[cfg(feature = "heif")]
    if let Some(Format::Heic | Format::Avif) = by_feature {
        let decoder = HeifDecoder::new(reader, length).map_err(|e| undecodable(path, e))?;
        return Ok((Box::new(decoder), None));
    }
    #[cfg(feature = "jxl")]
    if by_feature == Some(Format::JpegXl) {
        let decoder = JxlDecoder::new(reader).map_err(|e| undecodable(path, e))?;
        return Ok((Box::new(decoder), None));
    }
    // Without features.
    let _ = (by_feature, length);
    let reader = ImageReader::new(reader).with_guessed_format().map_err(Error::io("read the photo", path))?;
    let format = reader.format();
    let decoder = reader.into_decoder().map_err(|e| undecodable(path, e))?;
    Ok((Box::new(decoder), format))
}

fn refused(path: &Path, found: impl Into<String>) -> Error {
    let expected = format!("a complete {READ} photo with {BITS} bits a channel");
    Error::input(path.display().to_string(), found.into(), expected)
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
        return Err(refused(path, format!("{length} bytes that claim to be {width} x {height} pixels")));
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
fn undecodable(path: &Path, error: ImageError) -> Error {
    let reason = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    refused(path, format!("it cannot be decoded ({reason})"))
}
