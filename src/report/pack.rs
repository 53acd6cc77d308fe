//! Bytes as a page holds them: deflated (zlib, which every browser unpacks by itself) and in letters.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::ZlibEncoder;

use crate::error::{Error, Result};

/// As zlib packs them best, for a file.
///
/// # Errors
/// None in practice: nothing is written but memory.
pub fn deflated(bytes: &[u8]) -> Result<Vec<u8>> {
    packed(bytes, Compression::best())
}

/// As zlib packs them soon, for who waits.
///
/// # Errors
/// As [`deflated`].
pub fn deflated_soon(bytes: &[u8]) -> Result<Vec<u8>> {
    packed(bytes, Compression::fast())
}

fn packed(bytes: &[u8], level: Compression) -> Result<Vec<u8>> {
    let mut encoder = ZlibEncoder::new(Vec::new(), level);
    let packed = encoder.write_all(bytes).and_then(|()| encoder.finish());
    packed.map_err(|e| Error::Bug { place: "the packing of a report", problem: e.to_string() })
}

/// In base64.
pub fn letters(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}
