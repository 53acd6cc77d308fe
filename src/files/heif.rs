//! HEIC and AVIF, by the feature `heif`: libheif turns, mirrors and crops as the file says, and has the decoders.

use std::io::{Read, Seek};
use std::sync::OnceLock;

use image::error::{DecodingError, ImageFormatHint};
use image::{ColorType, ImageDecoder, ImageError, ImageResult};
use libheif_rs::{
    ColorSpace, DecodingOptions, HeifContext, HeifError, ImageHandle, LibHeif, Plane, RgbChroma, StreamReader,
};

/// A photo whose header was read, and no more.
pub struct HeifDecoder<'a> {
    // The handle needs it.
    _context: HeifContext<'a>,
    handle: ImageHandle,
    color_type: ColorType,
}

/// One for all: whoever is the last to let it go unloads the decoders.
fn library() -> &'static LibHeif {
    static LIBRARY: OnceLock<LibHeif> = OnceLock::new();
    LIBRARY.get_or_init(LibHeif::new)
}

/// The library's version.
pub fn version() -> String {
    library().version().map(|number| number.to_string()).join(".")
}

impl<'a> HeifDecoder<'a> {
    /// Reads a photo's header.
    pub fn new(reader: impl Read + Seek + 'a, length: u64) -> ImageResult<Self> {
        library();
        let context = HeifContext::read_from_reader(Box::new(StreamReader::new(reader, length))).map_err(told)?;
        let handle = context.primary_image_handle().map_err(told)?;
        let is_grey = handle.preferred_decoding_colorspace().map_err(told)? == ColorSpace::Monochrome;
        let color_type = match (is_grey, handle.has_alpha_channel(), handle.luma_bits_per_pixel()) {
            (true, false, 1..=8) => ColorType::L8,
            (true, false, 9..=16) => ColorType::L16,
            (true, true, 1..=8) => ColorType::La8,
            (true, true, 9..=16) => ColorType::La16,
            (false, false, 1..=8) => ColorType::Rgb8,
            (false, false, 9..=16) => ColorType::Rgb16,
            (false, true, 1..=8) => ColorType::Rgba8,
            (false, true, 9..=16) => ColorType::Rgba16,
            (_, _, bits) => return Err(failed(format!("{bits} bits a channel"))),
        };
        Ok(Self { _context: context, handle, color_type })
    }
}

impl ImageDecoder for HeifDecoder<'_> {
    fn dimensions(&self) -> (u32, u32) {
        (self.handle.width(), self.handle.height())
    }

    fn color_type(&self) -> ColorType {
        self.color_type
    }

    fn read_image(self, buffer: &mut [u8]) -> ImageResult<()> {
        let mut options = DecodingOptions::new().ok_or_else(|| failed("no memory for its options"))?;
        // Else what is damaged is grey, and nobody hears of it.
        options.set_strict_decoding(true);
        let space = match self.color_type {
            ColorType::Rgb8 => ColorSpace::Rgb(RgbChroma::Rgb),
            ColorType::Rgba8 => ColorSpace::Rgb(RgbChroma::Rgba),
            ColorType::Rgb16 if cfg!(target_endian = "big") => ColorSpace::Rgb(RgbChroma::HdrRgbBe),
            ColorType::Rgba16 if cfg!(target_endian = "big") => ColorSpace::Rgb(RgbChroma::HdrRgbaBe),
            ColorType::Rgb16 => ColorSpace::Rgb(RgbChroma::HdrRgbLe),
            ColorType::Rgba16 => ColorSpace::Rgb(RgbChroma::HdrRgbaLe),
            _ => ColorSpace::Monochrome,
        };
        let image = library().decode(&self.handle, space, Some(options)).map_err(told)?;
        let planes = image.planes();
        // Of grey photos, luma and alpha lie apart.
        let planes: Vec<Plane<&[u8]>> = match space {
            ColorSpace::Monochrome => [planes.y, planes.a].into_iter().flatten().collect(),
            _ => planes.interleaved.into_iter().collect(),
        };
        let (channels, size) = (usize::from(self.color_type.channel_count()), self.dimensions());
        let wanted = if space == ColorSpace::Monochrome { channels } else { 1 };
        let is_whole = planes.len() == wanted && planes.iter().all(|plane| (plane.width, plane.height) == size);
        if !is_whole {
            return Err(failed("an image of another size or with other channels than the file says"));
        }
        let is_wide = usize::from(self.color_type.bytes_per_pixel()) > channels;
        for (at, plane) in planes.iter().enumerate() {
            copy(plane, buffer, (at, channels / planes.len(), channels), is_wide);
        }
        Ok(())
    }

    fn read_image_boxed(self: Box<Self>, buffer: &mut [u8]) -> ImageResult<()> {
        (*self).read_image(buffer)
    }
}

/// Copies a plane of some channels to where these begin among all of a pixel. Results with 16 bits use all of them,
/// which samples of 10 or 12 bits do not.
fn copy(plane: &Plane<&[u8]>, buffer: &mut [u8], (first, some, all): (usize, usize, usize), is_wide: bool) {
    let bytes_of = |wide: bool| if wide { 2 } else { 1 };
    let (from_bytes, to_bytes) = (bytes_of(plane.bits_per_pixel > 8), bytes_of(is_wide));
    let most = (1u32 << plane.bits_per_pixel) - 1;
    let full = if is_wide { 65535 } else { 255 };
    let width = plane.width as usize;
    let rows = plane.data.chunks(plane.stride.max(1)).zip(buffer.chunks_exact_mut(width * all * to_bytes));
    for (from, to) in rows {
        let samples = from[..width * some * from_bytes].chunks_exact(from_bytes).map(|sample| match *sample {
            [a, b] => u32::from(u16::from_ne_bytes([a, b])),
            _ => u32::from(sample[0]),
        });
        for (i, sample) in samples.enumerate() {
            let at = (i / some * all + first + i % some) * to_bytes;
            let sample = if most == full { sample } else { (sample.min(most) * full + most / 2) / most };
            if is_wide {
                to[at..at + 2].copy_from_slice(&(sample as u16).to_ne_bytes());
            } else {
                to[at] = sample as u8;
            }
        }
    }
}

/// libheif's words, without the code that they come with.
fn told(error: HeifError) -> ImageError {
    failed(error.message)
}

fn failed(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ImageError {
    ImageError::Decoding(DecodingError::new(ImageFormatHint::Name("HEIF".into()), reason))
}
