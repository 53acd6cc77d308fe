//! PFM maps: `Pf` (one channel) or `PF` (three), width and height, a scale whose sign is the byte order, then f32
//! rows from the bottom up (protocol page E.3). The scale's magnitude is not applied, as everywhere in this field.
//!
//! Values are passed on as they are: zero, negative, NaN and infinite depths mean "no depth" to every consumer.

use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use crate::files::atomic::write_whole_hashed;
use crate::files::hash::Hashing;
use crate::files::input;
use crate::files::map::Map;
use crate::{Error, Result};

/// Longest header that is looked at: two letters and three numbers need far less.
const LONGEST_HEADER: usize = 256;

/// Reads a one-channel map of either byte order.
///
/// # Errors
/// [`Error::Io`] where the file cannot be read; [`Error::Input`] where it is no PFM, has three channels, or its size
/// is not the one that its header states.
pub fn read(path: &Path) -> Result<Map> {
    read_hashed(path).map(|(map, _)| map)
}

/// As [`read`], with the SHA-256 of the very bytes that the map was made of.
///
/// # Errors
/// As [`read`].
pub fn read_hashed(path: &Path) -> Result<(Map, String)> {
    let (header, data, hash) = read_values(path, 1)?;
    Ok((Map { width: header.width, height: header.height, data }, hash))
}

/// Reads a three-channel map (normals): width, height and the rows from the top.
///
/// # Errors
/// As [`read`], and where the file has one channel.
pub fn read_rgb(path: &Path) -> Result<(usize, usize, Vec<[f32; 3]>)> {
    let (header, data, _) = read_values(path, 3)?;
    Ok((header.width, header.height, data.as_chunks().0.to_vec()))
}

/// Writes a one-channel map, little endian.
///
/// # Errors
/// [`Error::Io`]; nothing is left behind then.
pub fn write(path: &Path, map: &Map) -> Result<()> {
    write_hashed(path, map).map(drop)
}

/// As [`write()`], and gives the SHA-256 of what was written.
///
/// # Errors
/// As [`write()`].
pub fn write_hashed(path: &Path, map: &Map) -> Result<String> {
    write_rows(path, "Pf", map.width, map.height, &map.data)
}

/// The SHA-256 that [`write_hashed`] would give, without a file.
///
/// # Errors
/// [`Error::Bug`] where there are not `width * height` pixels.
pub fn hash_of(map: &Map) -> Result<String> {
    let mut passing = Hashing::new(io::sink());
    expect_values("Pf", map.width, map.height, &map.data)?;
    write_values(&mut passing, "Pf", (map.width, map.height), &map.data)
        .map_err(|e| Error::Bug { place: "hashing a map", problem: e.to_string() })?;
    Ok(passing.finish())
}

/// Writes a three-channel map (normals), rows from the top, little endian. Gives the SHA-256 of what was written.
///
/// # Errors
/// [`Error::Io`]; [`Error::Bug`] where there are not `width * height` pixels.
pub fn write_rgb(path: &Path, width: usize, height: usize, pixels: &[[f32; 3]]) -> Result<String> {
    write_rows(path, "PF", width, height, pixels.as_flattened())
}

/// What stands before the values.
struct Header {
    channels: usize,
    width: usize,
    height: usize,
    little_endian: bool,
    /// Bytes up to and including the one white space after the scale.
    length: usize,
}

/// Header, values and the SHA-256 of the file.
fn read_values(path: &Path, channels: usize) -> Result<(Header, Vec<f32>, String)> {
    let (file, size) = input::open(path, "open the map")?;
    let mut reader = Hashing::new(BufReader::new(file));
    let mut start = Vec::with_capacity(LONGEST_HEADER);
    let by_ref = Read::by_ref(&mut reader);
    by_ref.take(LONGEST_HEADER as u64).read_to_end(&mut start).map_err(Error::io("read the map", path))?;
    let header = parse_header(path, &start)?;
    if header.channels != channels {
        let [found, expected] =
            [header.channels, channels].map(|n| if n == 1 { "one channel ('Pf')" } else { "three channels ('PF')" });
        return Err(Error::input(path.display().to_string(), found, expected));
    }
    // Before anything is allocated: the stated size must be the file's own.
    let stated = (header.width as u64)
        .checked_mul(header.height as u64)
        .and_then(|pixels| pixels.checked_mul(4 * channels as u64))
        .and_then(|bytes| bytes.checked_add(header.length as u64));
    if stated != Some(size) {
        let stated = stated.map_or("more than any file has".to_owned(), |bytes| bytes.to_string());
        let problem = if stated.parse().is_ok_and(|bytes: u64| bytes < size) {
            "more than its header states"
        } else {
            "truncated, or its header lies"
        };
        return Err(Error::input(
            path.display().to_string(),
            format!("{size} bytes ({problem})"),
            format!("{stated} for {} x {} pixels of {channels} x 4 bytes", header.width, header.height),
        ));
    }
    let row = header.width * channels;
    let mut data = vec![0.0f32; row * header.height];
    let mut bytes = vec![0u8; row * 4];
    let already = &start[header.length..];
    let mut source = already.chain(&mut reader);
    for values in data.chunks_exact_mut(row).rev() {
        source.read_exact(&mut bytes).map_err(Error::io("read the map", path))?;
        for (value, four) in values.iter_mut().zip(bytes.as_chunks().0) {
            *value = if header.little_endian { f32::from_le_bytes(*four) } else { f32::from_be_bytes(*four) };
        }
    }
    Ok((header, data, reader.finish()))
}

fn parse_header(path: &Path, start: &[u8]) -> Result<Header> {
    let place = |field: &str| format!("{}: {field}", path.display());
    let channels = match start.get(..2) {
        Some(b"Pf") => 1,
        Some(b"PF") => 3,
        other => {
            let found = other.unwrap_or(start).escape_ascii().to_string();
            return Err(Error::input(
                place("first two bytes"),
                if found.is_empty() { "an empty file".to_owned() } else { format!("'{found}'") },
                "'Pf' or 'PF' (a PFM map)",
            ));
        }
    };
    let mut at = 2;
    let mut token = |field: &str, expected: &str| -> Result<String> {
        let from = at + start[at..].iter().take_while(|b| b.is_ascii_whitespace()).count();
        let to = from + start[from..].iter().take_while(|b| !b.is_ascii_whitespace()).count();
        // The token must be ended by white space, or it may go on beyond what was looked at.
        if from == at || from == to || to == start.len() {
            return Err(Error::input(place(field), "a header that breaks off", expected));
        }
        at = to;
        Ok(start[from..to].escape_ascii().to_string())
    };
    let mut side = |field: &str| -> Result<usize> {
        let found = token(field, "a number of pixels")?;
        let side = found.parse::<u32>().ok().filter(|n| *n > 0);
        side.map(|n| n as usize)
            .ok_or_else(|| Error::input(place(field), format!("'{found}'"), "a number of pixels, at least 1"))
    };
    let width = side("width")?;
    let height = side("height")?;
    let expected = "a number whose sign is the byte order (negative: little endian)";
    let found = token("scale", expected)?;
    let scale = found.parse::<f64>().ok().filter(|s| s.is_finite() && *s != 0.0);
    let scale = scale.ok_or_else(|| Error::input(place("scale"), format!("'{found}'"), expected))?;
    Ok(Header { channels, width, height, little_endian: scale < 0.0, length: at + 1 })
}

fn write_rows(path: &Path, magic: &str, width: usize, height: usize, values: &[f32]) -> Result<String> {
    expect_values(magic, width, height, values)?;
    write_whole_hashed(path, "write the map", |mut out| write_values(&mut out, magic, (width, height), values))
}

/// Values of one pixel.
fn channels_of(magic: &str) -> usize {
    if magic == "PF" { 3 } else { 1 }
}

fn expect_values(magic: &str, width: usize, height: usize, values: &[f32]) -> Result<()> {
    let channels = channels_of(magic);
    if width == 0 || height == 0 || values.len() != width * channels * height {
        return Err(Error::Bug {
            place: "writing a map",
            problem: format!("{} values for {width} x {height} x {channels}", values.len()),
        });
    }
    Ok(())
}

/// Header and rows from the bottom up.
fn write_values(out: &mut impl Write, magic: &str, (width, height): (usize, usize), values: &[f32]) -> io::Result<()> {
    write!(out, "{magic}\n{width} {height}\n-1.0\n")?;
    let row = width * channels_of(magic);
    let mut bytes = Vec::with_capacity(row * 4);
    for values in values.chunks_exact(row).rev() {
        bytes.clear();
        bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        out.write_all(&bytes)?;
    }
    Ok(())
}
