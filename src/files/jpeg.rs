//! JPEG photos that are decoded elsewhere than on the processor, where somebody has asked for that.

use std::sync::{Arc, PoisonError, RwLock};

use crate::error::Result;

/// What became of a file.
#[derive(Debug)]
pub enum Elsewhere {
    /// Red, green and blue of each pixel, row by row.
    Pixels(Vec<u8>),
    /// It is left to the processor, and why.
    Left(String),
}

/// Decodes JPEG files.
pub trait JpegDecoder: Send + Sync {
    /// A file of this width and height, as its bytes say them.
    ///
    /// # Errors
    /// A device that is of no more use. What is wrong with the file is for the processor to tell.
    fn decode(&self, bytes: &[u8], size: (usize, usize)) -> Result<Elsewhere>;
}

static DECODER: RwLock<Option<Arc<dyn JpegDecoder>>> = RwLock::new(None);

/// As long as it lives, JPEG files are decoded elsewhere.
pub struct InUse(());

/// Has all JPEG files of the process decoded by this one from now on.
pub fn decode_by(decoder: Arc<dyn JpegDecoder>) -> InUse {
    *DECODER.write().unwrap_or_else(PoisonError::into_inner) = Some(decoder);
    InUse(())
}

impl Drop for InUse {
    fn drop(&mut self) {
        *DECODER.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// What the decoder that is in use makes of a file; `None` without one.
///
/// # Errors
/// As [`JpegDecoder::decode`].
pub fn elsewhere(bytes: &[u8], size: (usize, usize)) -> Result<Option<Elsewhere>> {
    let decoder = DECODER.read().unwrap_or_else(PoisonError::into_inner).clone();
    decoder.map(|decoder| decoder.decode(bytes, size)).transpose()
}
