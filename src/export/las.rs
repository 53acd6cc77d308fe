//! `cloud.las` and `cloud.laz`: LAS 1.4 (ASPRS), point format 2, and the same compressed by LASzip.
//!
//! Coordinates are whole numbers times a scale, a power of ten, plus an offset, whole numbers near the cloud's middle:
//! the scale is chosen so that half the longest side has 10^8 to 10^9 steps. So rounding moves a point by at most 5e-9
//! of that, wherever the cloud is. Colours have 16 bits, 257 times the photos' 8. `confidence` (f32), `views` (u8) and
//! `NormalX`, `NormalY`, `NormalZ` (f32) are extra bytes with names. A coordinate system is a GeoTIFF key, which point
//! formats up to 5 take.

use std::io::{self, Write};

use glam::DVec3;
use las::point::Format;
use las::raw::point::Flags;
use las::{Color, Version, Vlr, raw};
use laz::{LasZipCompressor, LasZipError, LazVlr, LazVlrBuilder};

use crate::error::{Error, Result};
use crate::export::cloud::Bounds;
use crate::export::crs::Crs;
use crate::export::earth::Placed;
use crate::export::job::{Job, put};
use crate::files::ply::Point;

/// Point format 2: place, flags, colour.
const POINT_FORMAT: u8 = 2;
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
    let cloud = Placed::of(job)?;
    let grid = Grid::of(cloud.bounds()?);
    let mut records = vec![extra_record()];
    records.extend(cloud.crs.map(crs_record));
    if cloud.needs_crs() {
        job.note(format!(
            "{name} names no coordinate system, though the scene is far from its origin: --crs EPSG:n does"
        ));
    }
    if let Some(vlr) = &laz {
        records.push(laz_record(vlr)?);
    }
    let format = format(POINT_FORMAT)?;
    let head = head(&header(job, &grid, &records, (POINT_FORMAT, laz.is_some()))?, &records)?;
    // First of one return; class 1, which is none.
    let mut laid = Laid::new(&grid, format, Flags::TwoByte(0b0000_1001, 1));
    job.write(name, |out| {
        put(out.write_all(&head))?;
        match laz {
            None => cloud.each(|point| put(out.write_all(laid.bytes(point)?))),
            Some(vlr) => {
                let mut out = squeezed(LasZipCompressor::new(out, vlr))?;
                cloud.each(|point| put(out.compress_one(laid.bytes(point)?)))?;
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
}

/// What the format does not allow is a mistake of the caller's.
pub fn made<T>(done: las::Result<T>) -> Result<T> {
    done.map_err(|e| Error::Bug { place: "LAS", problem: e.to_string() })
}

/// The point format of this number, with our extra bytes.
///
/// # Errors
/// Where there is none.
pub fn format(number: u8) -> Result<Format> {
    Ok(Format { extra_bytes: extra_bytes(), ..made(Format::new(number))? })
}

/// Points on their way into a file.
pub struct Laid<'a> {
    grid: &'a Grid,
    format: Format,
    point: raw::Point,
    bytes: Vec<u8>,
}

impl<'a> Laid<'a> {
    /// All with these flags; intensity, angle, user data, source and time are 0.
    pub fn new(grid: &'a Grid, format: Format, flags: Flags) -> Self {
        let bytes = Vec::with_capacity(format.len().into());
        Self { grid, format, point: raw::Point { flags, ..Default::default() }, bytes }
    }

    /// The record of a point.
    ///
    /// # Errors
    /// Flags of another format.
    pub fn bytes(&mut self, point: &Point) -> Result<&[u8]> {
        let own = &mut self.point;
        [own.x, own.y, own.z] = self.grid.steps(point.position.into());
        let [red, green, blue] = point.colour.map(|v| u16::from(v) * 257);
        own.color = Some(Color { red, green, blue });
        own.extra_bytes.clear();
        own.extra_bytes.extend(point.confidence.to_le_bytes());
        own.extra_bytes.push(point.views);
        own.extra_bytes.extend(point.normal.iter().flat_map(|v| v.to_le_bytes()));
        self.bytes.clear();
        made(own.write_to(&mut self.bytes, &self.format))?;
        Ok(&self.bytes)
    }
}

/// A variable-length record: whose it is, what it is by a number of theirs and in words, and what it says.
pub fn record((user, id): (&str, u16), text: &str, data: Vec<u8>) -> Vlr {
    Vlr { user_id: user.into(), record_id: id, description: text.into(), data }
}

/// What LASzip has to know.
///
/// # Errors
/// None that is known.
pub fn laz_record(vlr: &LazVlr) -> Result<Vlr> {
    let mut data = Vec::new();
    put(vlr.write_to(&mut data))?;
    Ok(record((LazVlr::USER_ID, LazVlr::RECORD_ID), LazVlr::DESCRIPTION, data))
}

/// The descriptions of the extra bytes, 192 bytes each.
pub fn extra_record() -> Vlr {
    let described = |(name, kind, _, text): &(&str, u8, u16, &str)| {
        let mut bytes = vec![0, 0, *kind, 0];
        bytes.extend(padded(name));
        // No value that means none, no bounds, no scale and offset: the options say that they are not used.
        bytes.resize(160, 0);
        bytes.extend(padded(text));
        bytes
    };
    record(("LASF_Spec", 4), "extra bytes", EXTRA.iter().flat_map(described).collect())
}

/// A text of at most 32 bytes, filled up with zeros.
fn padded(text: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    let length = text.len().min(bytes.len());
    bytes[..length].copy_from_slice(&text.as_bytes()[..length]);
    bytes
}

/// The GeoTIFF keys of a system: what kind it is, and its code.
fn crs_record(crs: Crs) -> Vlr {
    const MODEL: u16 = 1024;
    const GEODETIC: u16 = 2048;
    const PROJECTED: u16 = 3072;
    let (model, key) = if crs.is_geocentric() { (3, GEODETIC) } else { (1, PROJECTED) };
    let keys: [u16; 12] = [1, 1, 0, 2, MODEL, 0, 1, model, key, 0, 1, crs.code];
    record(("LASF_Projection", 34735), "GeoTIFF keys", keys.iter().flat_map(|v| v.to_le_bytes()).collect())
}

/// Point formats from this one on know nothing of older readers: the counts of 32 bits are 0, and coordinate systems
/// are told in words (WKT).
const NEWER: u8 = 6;
/// The flag for that.
const WKT: u16 = 1 << 4;
/// The flag of a format's number for LASzip.
const COMPRESSED: u8 = 0x80;

/// The header of version 1.4 of a file with these records and points of this format, compressed or not.
///
/// # Errors
/// A format that does not exist.
pub fn header(job: &Job, grid: &Grid, records: &[Vlr], (number, compressed): (u8, bool)) -> Result<raw::Header> {
    let version = Version::new(1, 4);
    let count = job.cloud.map_or(0, |cloud| cloud.count);
    // Older readers look at 32 bits; a larger count stands in the newer field alone.
    let few = u32::try_from(count).unwrap_or(0) * u32::from(number < NEWER);
    let start = usize::from(version.header_size()) + records.iter().map(|record| record.len(false)).sum::<usize>();
    let (file_creation_day_of_year, file_creation_year) = day_and_year(job.results.manifest.ended_unix_s);
    let (low, high) = (grid.read_back(grid.bounds.low), grid.read_back(grid.bounds.high));
    let mut by_return = [0; 15];
    by_return[0] = count;
    Ok(raw::Header {
        global_encoding: if number < NEWER { 0 } else { WKT },
        version,
        system_identifier: padded("OTHER"),
        generating_software: padded(concat!("engine ", env!("CARGO_PKG_VERSION"))),
        file_creation_day_of_year,
        file_creation_year,
        header_size: version.header_size(),
        offset_to_point_data: start as u32,
        number_of_variable_length_records: records.len() as u32,
        point_data_record_format: number | if compressed { COMPRESSED } else { 0 },
        point_data_record_length: format(number)?.len(),
        number_of_point_records: few,
        number_of_points_by_return: [few, 0, 0, 0, 0],
        x_scale_factor: grid.scale,
        y_scale_factor: grid.scale,
        z_scale_factor: grid.scale,
        x_offset: grid.offset.x,
        y_offset: grid.offset.y,
        z_offset: grid.offset.z,
        max_x: high.x,
        min_x: low.x,
        max_y: high.y,
        min_y: low.y,
        max_z: high.z,
        min_z: low.z,
        large_file: Some(raw::header::LargeFile {
            number_of_point_records: count,
            number_of_points_by_return: by_return,
        }),
        ..raw::Header::default()
    })
}

/// What stands before the points.
///
/// # Errors
/// A record that is too long.
pub fn head(header: &raw::Header, records: &[Vlr]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    made(header.write_to(&mut bytes))?;
    for record in records {
        made(record.clone().into_raw(false).and_then(|record| record.write_to(&mut bytes)))?;
    }
    Ok(bytes)
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
