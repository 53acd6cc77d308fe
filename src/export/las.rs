//! `cloud.las` and `cloud.laz`: LAS 1.4 (ASPRS), point format 2, and the same compressed by LASzip.
//!
//! Coordinates are whole numbers times a scale, a power of ten, plus an offset, whole numbers near the cloud's middle:
//! the scale is chosen so that half the longest side has 10^8 to 10^9 steps. So rounding moves a point by at most 5e-9
//! of that, wherever the cloud is. Colours have 16 bits, 257 times the photos' 8. `confidence` (f32), `views` (u8) and
//! `NormalX`, `NormalY`, `NormalZ` (f32) are extra bytes with names. A coordinate system is a GeoTIFF key, which point
//! formats up to 5 take.

use std::io::{self, Write};

use glam::DVec3;
use laz::{LasZipCompressor, LasZipError, LazVlr, LazVlrBuilder};

use crate::error::{Error, Result};
use crate::export::cloud::Bounds;
use crate::export::crs::Crs;
use crate::export::job::{Job, put};
use crate::files::ply::Point;

/// Point format 2: place, flags, colour.
const POINT_FORMAT: u8 = 2;
/// Bytes of that.
const PLAIN_BYTES: u16 = 26;
/// The header of version 1.4.
pub const HEADER_BYTES: usize = 375;
/// The head of a variable-length record.
pub const RECORD_HEAD: usize = 54;
/// Half the longest side has at most so many steps; i32 holds twice that.
const MOST_STEPS: f64 = 1e9;

/// Extra bytes: name, type by the format's number, bytes, what it is.
const EXTRA: [(&str, u8, u16, &str); 5] = [
    ("confidence", 9, 4, "probability of being right"),
    ("views", 1, 1, "views that agree"),
    ("NormalX", 9, 4, "unit normal, zero if unknown"),
    ("NormalY", 9, 4, "unit normal, zero if unknown"),
    ("NormalZ", 9, 4, "unit normal, zero if unknown"),
];

/// Writes `cloud.las`.
///
/// # Errors
/// Those of the cloud and of writing.
pub fn write_las(job: &Job) -> Result<()> {
    write(job, "cloud.las", None)
}

/// Writes `cloud.laz`.
///
/// # Errors
/// Those of the cloud and of writing.
pub fn write_laz(job: &Job) -> Result<()> {
    let vlr = LazVlrBuilder::default().with_point_format(POINT_FORMAT, extra_bytes());
    let vlr = vlr.map_err(|e| Error::Bug { place: "LASzip", problem: e.to_string() })?.build();
    write(job, "cloud.laz", Some(vlr))
}

/// Bytes of a point's extra bytes.
pub fn extra_bytes() -> u16 {
    EXTRA.iter().map(|(_, _, bytes, _)| bytes).sum()
}

fn write(job: &Job, name: &str, laz: Option<LazVlr>) -> Result<()> {
    let cloud = job.cloud()?;
    let grid = Grid::of(cloud.bounds()?);
    let mut records = vec![Record { user: "LASF_Spec", id: 4, text: "extra bytes", data: extra_records() }];
    records.extend(job.options.crs.map(crs_record));
    if job.options.crs.is_none() && cloud.needs_doubles() {
        job.note(format!(
            "{name} names no coordinate system, though the scene is far from its origin: --crs EPSG:n does"
        ));
    }
    if let Some(vlr) = &laz {
        let mut data = Vec::new();
        put(vlr.write_to(&mut data))?;
        records.push(Record { user: LazVlr::USER_ID, id: LazVlr::RECORD_ID, text: LazVlr::DESCRIPTION, data });
    }
    let form = Form { format: POINT_FORMAT, plain_bytes: PLAIN_BYTES, compressed: laz.is_some() };
    let header = header(job, &grid, &records, form);
    job.write(name, |out| {
        put(out.write_all(&header))?;
        for record in &records {
            put(out.write_all(&record.bytes()))?;
        }
        let mut bytes = Vec::with_capacity(64);
        match laz {
            None => cloud.each(|point| {
                grid.put(point, &mut bytes);
                put(out.write_all(&bytes))
            }),
            Some(vlr) => {
                let mut out = squeezed(LasZipCompressor::new(out, vlr))?;
                cloud.each(|point| {
                    grid.put(point, &mut bytes);
                    put(out.compress_one(&bytes))
                })?;
                put(out.done())
            }
        }
    })
}

/// What LASzip says, in the words of the system.
pub fn squeezed<T>(done: std::result::Result<T, LasZipError>) -> Result<T> {
    let mut value = None;
    put(match done {
        Ok(made) => {
            value = Some(made);
            Ok(())
        }
        Err(LasZipError::IoError(e)) => Err(e),
        Err(other) => Err(io::Error::other(other.to_string())),
    })?;
    value.ok_or_else(|| Error::Bug { place: "LASzip", problem: "no result".into() })
}

/// The whole numbers that coordinates become.
pub struct Grid {
    /// The length of a step.
    pub scale: f64,
    /// Where step 0 is.
    pub offset: DVec3,
    /// Around all points.
    pub bounds: Bounds,
}

impl Grid {
    /// Of a cloud in a box.
    pub fn of(bounds: Bounds) -> Self {
        let offset = bounds.middle();
        let half = (bounds.high - offset).max(offset - bounds.low).max_element();
        let exponent = if half > 0.0 { (half / MOST_STEPS).log10().ceil() as i32 } else { -3 };
        // Read as decimal numbers are: the nearest double, which others read from `0.000001`, too.
        let scale = format!("1e{exponent}").parse().unwrap_or(1e-3);
        Self { scale, offset, bounds }
    }

    /// The whole numbers of a place.
    pub fn steps(&self, position: DVec3) -> [i32; 3] {
        // `as` saturates; the scale leaves a factor of two.
        ((position - self.offset) / self.scale).round().to_array().map(|value| value as i32)
    }

    /// Where a reader puts it.
    fn read_back(&self, position: DVec3) -> DVec3 {
        DVec3::from(self.steps(position).map(f64::from)) * self.scale + self.offset
    }

    /// The record of a point.
    fn put(&self, point: &Point, bytes: &mut Vec<u8>) {
        bytes.clear();
        bytes.extend(self.steps(point.position.into()).iter().flat_map(|v| v.to_le_bytes()));
        // Intensity 0; first of one return; class 1, which is none; angle, user data and source 0.
        bytes.extend([0, 0, 0b0000_1001, 1, 0, 0, 0, 0]);
        put_rest(point, bytes);
    }
}

/// Colour and extra bytes of a point.
pub fn put_rest(point: &Point, bytes: &mut Vec<u8>) {
    bytes.extend(point.colour.iter().flat_map(|&v| (u16::from(v) * 257).to_le_bytes()));
    bytes.extend(point.confidence.to_le_bytes());
    bytes.push(point.views);
    bytes.extend(point.normal.iter().flat_map(|v| v.to_le_bytes()));
}

/// A variable-length record.
pub struct Record {
    /// Whose it is.
    pub user: &'static str,
    /// What it is, by a number of theirs.
    pub id: u16,
    /// The same in words.
    pub text: &'static str,
    /// What it says.
    pub data: Vec<u8>,
}

impl Record {
    /// As it is written.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; 2];
        bytes.extend(padded::<16>(self.user));
        bytes.extend(self.id.to_le_bytes());
        bytes.extend((self.data.len() as u16).to_le_bytes());
        bytes.extend(padded::<32>(self.text));
        bytes.extend(&self.data);
        bytes
    }
}

/// A text of at most so many bytes, filled up with zeros.
pub fn padded<const N: usize>(text: &str) -> [u8; N] {
    let mut bytes = [0; N];
    let length = text.len().min(N);
    bytes[..length].copy_from_slice(&text.as_bytes()[..length]);
    bytes
}

/// The descriptions of the extra bytes, 192 bytes each.
pub fn extra_records() -> Vec<u8> {
    let record = |(name, kind, _, text): &(&str, u8, u16, &str)| {
        let mut bytes = vec![0, 0, *kind, 0];
        bytes.extend(padded::<32>(name));
        // No value that means none, no bounds, no scale and offset: the options say that they are not used.
        bytes.resize(160, 0);
        bytes.extend(padded::<32>(text));
        bytes
    };
    EXTRA.iter().flat_map(record).collect()
}

/// The GeoTIFF keys of a system: what kind it is, and its code.
fn crs_record(crs: Crs) -> Record {
    const MODEL: u16 = 1024;
    const GEODETIC: u16 = 2048;
    const PROJECTED: u16 = 3072;
    let (model, key) = if crs.is_geocentric() { (3, GEODETIC) } else { (1, PROJECTED) };
    let keys: [u16; 12] = [1, 1, 0, 2, MODEL, 0, 1, model, key, 0, 1, crs.code];
    let data = keys.iter().flat_map(|v| v.to_le_bytes()).collect();
    Record { user: "LASF_Projection", id: 34735, text: "GeoTIFF keys", data }
}

/// What points look like in a file.
#[derive(Clone, Copy)]
pub struct Form {
    /// The number of the point format.
    pub format: u8,
    /// Bytes of a point without extra ones.
    pub plain_bytes: u16,
    /// Whether LASzip has compressed them.
    pub compressed: bool,
}

/// Point formats from this one on know nothing of older readers: the counts of 32 bits are 0, and coordinate systems
/// are told in words (WKT).
const NEWER: u8 = 6;
/// The flag for that.
const WKT: u8 = 1 << 4;

/// The header of version 1.4.
pub fn header(job: &Job, grid: &Grid, records: &[Record], Form { format, plain_bytes, compressed }: Form) -> Vec<u8> {
    let count = job.cloud.map_or(0, |cloud| cloud.count);
    // Older readers look at 32 bits; a larger count stands in the newer field alone.
    let few = u32::try_from(count).unwrap_or(0) * u32::from(format < NEWER);
    let start = HEADER_BYTES + records.iter().map(|r| RECORD_HEAD + r.data.len()).sum::<usize>();
    let mut bytes = b"LASF".to_vec();
    bytes.extend([0, 0, if format < NEWER { 0 } else { WKT }, 0]);
    bytes.extend([0; 16]);
    bytes.extend([1, 4]);
    bytes.extend(padded::<32>("OTHER"));
    bytes.extend(padded::<32>(concat!("engine ", env!("CARGO_PKG_VERSION"))));
    let (day, year) = day_and_year(job.results.manifest.ended_unix_s);
    for value in [day, year, HEADER_BYTES as u16] {
        bytes.extend(value.to_le_bytes());
    }
    bytes.extend((start as u32).to_le_bytes());
    bytes.extend((records.len() as u32).to_le_bytes());
    bytes.push(format | if compressed { 0x80 } else { 0 });
    bytes.extend((plain_bytes + extra_bytes()).to_le_bytes());
    for value in [few, few, 0, 0, 0, 0] {
        bytes.extend(value.to_le_bytes());
    }
    let (low, high) = (grid.read_back(grid.bounds.low), grid.read_back(grid.bounds.high));
    let doubles = [DVec3::splat(grid.scale), grid.offset].into_iter().flat_map(|v| v.to_array());
    let box_of = [high.x, low.x, high.y, low.y, high.z, low.z];
    bytes.extend(doubles.chain(box_of).flat_map(|v| v.to_le_bytes()));
    // No waveforms, no extended records.
    bytes.extend([0; 8 + 8 + 4]);
    bytes.extend(count.to_le_bytes());
    bytes.extend(count.to_le_bytes());
    bytes.resize(HEADER_BYTES, 0);
    bytes
}

/// Day of the year, from 1, and year in which a second since 1970 lies, UTC.
fn day_and_year(unix_s: u64) -> (u16, u16) {
    let (mut day, mut year) = (unix_s / 86_400, 1970u16);
    loop {
        let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let days = if is_leap { 366 } else { 365 };
        if day < days || year == u16::MAX {
            return (day as u16 + 1, year);
        }
        (day, year) = (day - days, year + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        // date -u -d @N +%j,%Y
        for (second, day, year) in [(0, 1, 1970), (951_782_400, 60, 2000), (1_735_603_200, 366, 2024)] {
            assert_eq!(day_and_year(second), (day, year));
        }
        assert_eq!(day_and_year(1_735_689_600), (1, 2025));
    }

    #[test]
    fn rounding_stays_below_what_is_promised() {
        for (low, side) in [(0.0, 3.0), (5.4e6, 120.0), (-1e-3, 2e-3), (4.5e5, 0.0), (-6e6, 1.2e7)] {
            let bounds = Bounds { low: DVec3::splat(low), high: DVec3::splat(low + side) };
            let grid = Grid::of(bounds);
            for share in [0.0, 0.123_456_789, 0.5, 1.0] {
                let place = DVec3::splat(low + share * side);
                let error = (grid.read_back(place) - place).abs().max_element();
                // Half a step, and the rounding of the sum itself.
                assert!(error <= 0.5 * grid.scale + 1e-15 * low.abs(), "{low} {side} {share}: {error}");
            }
            assert!(side == 0.0 || grid.scale <= 1e-8 * side, "{low} {side}: {}", grid.scale);
        }
    }
}
