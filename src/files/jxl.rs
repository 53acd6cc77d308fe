//! JPEG XL, by the feature `jxl`: what the format says of orientation is done already, and colours are those of the
//! photo's own profile where it has one of names (sRGB, Display P3, ...) or was coded without loss.

use std::io::Read;

use image::error::{DecodingError, ImageFormatHint};
use image::{ColorType, ImageDecoder, ImageError, ImageResult};
use jxl_oxide::image::BitDepth;
use jxl_oxide::{AllocTracker, FrameBufferSample, ImageStream, InitializeResult, JxlImage, PixelFormat};

use crate::host::memory;

/// Bytes that are read at once: more than a header without a colour profile has.
const CHUNK: usize = 4096;

/// A photo whose header was read, and no more.
pub struct JxlDecoder<R> {
    image: JxlImage,
    color_type: ColorType,
    input: Input<R>,
}

/// A file with what was read of it and not yet taken.
struct Input<R> {
    reader: R,
    left: Vec<u8>,
}

impl<R: Read> Input<R> {
    /// Gives some more bytes to whoever takes part of what is left; `false` at the end of the file.
    fn feed<E: Into<ImageError>>(&mut self, take: impl FnOnce(&[u8]) -> Result<usize, E>) -> ImageResult<bool> {
        let more = self.reader.by_ref().take(CHUNK as u64).read_to_end(&mut self.left)?;
        let taken = take(&self.left).map_err(Into::into)?;
        self.left.drain(..taken);
        Ok(more > 0)
    }
}

impl<R: Read> JxlDecoder<R> {
    /// Reads a photo's header.
    pub fn new(reader: R) -> ImageResult<Self> {
        let mut input = Input { reader, left: Vec::new() };
        let most = usize::try_from(memory::budget()).unwrap_or(usize::MAX);
        let mut header = JxlImage::builder().alloc_tracker(AllocTracker::with_limit(most)).build_uninit();
        let image = loop {
            let is_more = input.feed(|bytes| header.feed_bytes(bytes).map_err(failed))?;
            match header.try_init().map_err(failed)? {
                InitializeResult::Initialized(image) => break image,
                InitializeResult::NeedMoreData(_) if !is_more => return Err(failed("the file ends in its header")),
                InitializeResult::NeedMoreData(rest) => header = rest,
            }
        };
        let color_type = color_type(&image)?;
        Ok(Self { image, color_type, input })
    }
}

impl<R: Read> ImageDecoder for JxlDecoder<R> {
    fn dimensions(&self) -> (u32, u32) {
        (self.image.width(), self.image.height())
    }

    fn color_type(&self) -> ColorType {
        self.color_type
    }

    fn read_image(self, buffer: &mut [u8]) -> ImageResult<()> {
        let Self { mut image, color_type, mut input } = self;
        // Of several, the first is the photo. One that is not there as a whole would be shown as far as it goes.
        while image.num_loaded_keyframes() == 0 {
            if !input.feed(|bytes| image.feed_bytes(bytes).map_err(failed))? {
                return Err(failed("the file ends before its image does"));
            }
        }
        let render = image.render_frame(0).map_err(failed)?;
        let mut stream = render.stream();
        let shape = (stream.width(), stream.height(), stream.channels());
        if shape != (image.width(), image.height(), u32::from(color_type.channel_count())) {
            return Err(failed(format!("an image of {} x {} pixels and {} channels", shape.0, shape.1, shape.2)));
        }
        match color_type.bytes_per_pixel() / color_type.channel_count() {
            1 => rows::<u8>(&mut stream, buffer),
            _ => rows::<u16>(&mut stream, buffer),
        }
        Ok(())
    }

    fn read_image_boxed(self: Box<Self>, buffer: &mut [u8]) -> ImageResult<()> {
        (*self).read_image(buffer)
    }
}

/// Row by row: the buffer's bytes need not lie where samples may.
fn rows<S: FrameBufferSample + bytemuck::NoUninit + Default>(stream: &mut ImageStream<'_>, buffer: &mut [u8]) {
    let mut row = vec![S::default(); stream.width() as usize * stream.channels() as usize];
    for out in buffer.chunks_exact_mut(size_of_val(row.as_slice())) {
        stream.write_to_buffer(&mut row);
        out.copy_from_slice(bytemuck::cast_slice(&row));
    }
}

fn color_type(image: &JxlImage) -> ImageResult<ColorType> {
    let bits = match image.image_header().metadata.bit_depth {
        BitDepth::IntegerSample { bits_per_sample } if bits_per_sample <= 16 => bits_per_sample,
        other => return Err(failed(format!("{} bits a channel, {other:?}", other.bits_per_sample()))),
    };
    match (image.pixel_format(), bits > 8) {
        (PixelFormat::Gray, false) => Ok(ColorType::L8),
        (PixelFormat::Gray, true) => Ok(ColorType::L16),
        (PixelFormat::Graya, false) => Ok(ColorType::La8),
        (PixelFormat::Graya, true) => Ok(ColorType::La16),
        (PixelFormat::Rgb, false) => Ok(ColorType::Rgb8),
        (PixelFormat::Rgb, true) => Ok(ColorType::Rgb16),
        (PixelFormat::Rgba, false) => Ok(ColorType::Rgba8),
        (PixelFormat::Rgba, true) => Ok(ColorType::Rgba16),
        (PixelFormat::Cmyk | PixelFormat::Cmyka, _) => Err(failed("colours as CMYK")),
    }
}

fn failed(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ImageError {
    ImageError::Decoding(DecodingError::new(ImageFormatHint::Name("JPEG XL".into()), reason))
}
