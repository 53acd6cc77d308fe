//! Maps of COLMAP's dense workspace: `width&height&channels&` as text, then f32 values, little endian, channel after
//! channel, each row by row from the top.
//!
//! As in PFM maps, values are passed on as they are; COLMAP writes 0 where there is no depth.

use std::io::{BufReader, Read};
use std::path::Path;

use crate::files::input;
use crate::files::map::Map;
use crate::{Error, Result};

/// Longest header that is looked at: three numbers need far less.
const LONGEST_HEADER: usize = 64;

const HEADER: &str = "`width&height&1&` and then the depths, as COLMAP's patch_match_stereo writes them";

/// Reads a map of one channel.
///
/// # Errors
/// [`Error::Io`] where the file cannot be read; [`Error::Input`] where it is no such map, has several channels, or its
/// size is not the one that its header states.
pub fn read(path: &Path) -> Result<Map> {
    let (file, size) = input::open(path, "open the map")?;
    let mut reader = BufReader::new(file);
    let mut start = Vec::with_capacity(LONGEST_HEADER);
    let by_ref = Read::by_ref(&mut reader);
    by_ref.take(LONGEST_HEADER as u64).read_to_end(&mut start).map_err(Error::io("read the map", path))?;
    let refuse = |found: String| Error::input(path.display().to_string(), found, HEADER);
    let Some((sides, length)) = header(&start) else {
        let beginning = start[..start.len().min(16)].escape_ascii().to_string();
        return Err(refuse(if start.is_empty() { "an empty file".into() } else { format!("'{beginning}'") }));
    };
    let [width, height, channels] = sides;
    if channels != 1 {
        return Err(refuse(format!("{channels} channels")));
    }
    // Before anything is allocated: the stated size must be the file's own.
    let stated = width.checked_mul(height).and_then(|pixels| pixels.checked_mul(4)?.checked_add(length as u64));
    if stated != Some(size) || width == 0 || height == 0 {
        return Err(refuse(format!(
            "{size} bytes for {width} x {height} pixels of 4 bytes after {length} of the head"
        )));
    }
    let (width, height) = (width as usize, height as usize);
    let mut data = vec![0.0f32; width * height];
    let mut source = start[length..].chain(&mut reader);
    let mut bytes = vec![0u8; width * 4];
    for values in data.chunks_exact_mut(width) {
        source.read_exact(&mut bytes).map_err(Error::io("read the map", path))?;
        for (value, four) in values.iter_mut().zip(bytes.as_chunks().0) {
            *value = f32::from_le_bytes(*four);
        }
    }
    Ok(Map { width, height, data })
}

/// Width, height and channels, and how many bytes say so.
fn header(start: &[u8]) -> Option<([u64; 3], usize)> {
    let (mut sides, mut at) = ([0; 3], 0);
    for side in &mut sides {
        let digits = start[at..].iter().position(|&byte| byte == b'&')?;
        // Sides of more digits are no photo's, and could overflow.
        let text = std::str::from_utf8(&start[at..at + digits]).ok().filter(|text| text.len() < 10)?;
        *side = text.parse().ok()?;
        at += digits + 1;
    }
    Some((sides, at))
}
