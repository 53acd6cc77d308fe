//! Cloud-optimised GeoTIFF: a TIFF file in tiles with smaller copies of the picture ("overviews"), in which everything
//! that says where tiles lie stands at the front, then the tiles, the smallest picture's first. So a program at the
//! other end of a net reads the front, and then only the tiles that it shows.
//!
//! Tiles are deflated behind a predictor: differences of neighbours (2) for colours, of the bytes of floats sorted by
//! weight (3) for heights. A file beyond 4 GB is a BigTIFF. The order is that of OGC 21-026, the keys are GeoTIFF's
//! (OGC 19-008). No crate that is used here writes tiles.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::ZlibEncoder;
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::export::crs::Crs;
use crate::export::job::{Job, put};
use crate::files::scratch::Scratch;
use crate::ortho::frame::Grid;
use crate::ortho::tiles::{Cell, SIDE, Tiles};

/// The height of a cell without one, in the file: what most programs take for that.
pub const NO_HEIGHT: f32 = -9999.0;

/// A file must end so far below 4 GB to have 32-bit places.
const LARGEST_CLASSIC: u64 = u32::MAX as u64 - (1 << 16);

/// Where GDAL's programs look for how the file is laid out, before anything else.
const LAYOUT: &str = "LAYOUT=IFDS_BEFORE_DATA\nKNOWN_INCOMPATIBLE_EDITION=NO\n ";

/// A kind of cell that files may hold.
pub trait Stored: Cell {
    /// Bits of each of its samples.
    const BITS: &[u16];
    /// 1: whole numbers, 3: floats.
    const FORMAT: u16;
    /// 1: black is 0; 2: red, green, blue.
    const PHOTOMETRIC: u16;
    /// Which predictor.
    const PREDICTOR: u16;
    /// What a cell without a value holds, in words; without it, alpha says so.
    const NODATA: Option<&str>;

    /// The bytes of a row behind the predictor.
    fn predicted(row: &[Self], bytes: &mut Vec<u8>);
}

impl Stored for f32 {
    const BITS: &[u16] = &[32];
    const FORMAT: u16 = 3;
    const PHOTOMETRIC: u16 = 1;
    const PREDICTOR: u16 = 3;
    const NODATA: Option<&str> = Some("-9999");

    /// The most significant bytes of all, then the next ones, as differences.
    fn predicted(row: &[Self], bytes: &mut Vec<u8>) {
        let mut last = 0u8;
        for byte in 0..4 {
            for &height in row {
                let value = if height.is_nan() { NO_HEIGHT } else { height }.to_be_bytes()[byte];
                bytes.push(value.wrapping_sub(last));
                last = value;
            }
        }
    }
}

impl Stored for [u8; 4] {
    const BITS: &[u16] = &[8; 4];
    const FORMAT: u16 = 1;
    const PHOTOMETRIC: u16 = 2;
    const PREDICTOR: u16 = 2;
    const NODATA: Option<&str> = None;

    fn predicted(row: &[Self], bytes: &mut Vec<u8>) {
        let mut last = [0u8; 4];
        for colour in row {
            bytes.extend((0..4).map(|c| colour[c].wrapping_sub(last[c])));
            last = *colour;
        }
    }
}

/// One picture of the file, and where its deflated tiles lie in what is put aside.
struct Level {
    size: (usize, usize),
    tiles: Vec<(u64, u32)>,
}

/// Writes `name`: the raster, and copies of it of half the size each down to one tile.
///
/// # Errors
/// Those of reading the raster back and of writing.
pub fn write<T: Stored>(job: &Job, name: &str, raster: &Tiles<T>, (grid, crs): (&Grid, Option<Crs>)) -> Result<usize> {
    let mut aside = Scratch::new(job.out())?;
    let mut levels = vec![deflated(raster, &mut aside)?];
    let mut smaller: Option<Tiles<T>> = None;
    loop {
        let last = smaller.as_ref().unwrap_or(raster);
        if last.width.max(last.height) <= SIDE {
            break;
        }
        let next = last.halved(job.out())?;
        levels.push(deflated(&next, &mut aside)?);
        smaller = Some(next);
    }
    let is_big = aside.len() + (front::<T>(&levels, (grid, crs), true).len() as u64) > LARGEST_CLASSIC;
    let front = front::<T>(&levels, (grid, crs), is_big);
    job.write(name, |out| {
        put(out.write_all(&front))?;
        let mut bytes = Vec::new();
        // The smallest picture's tiles come first.
        for &(place, length) in levels.iter().rev().flat_map(|level| &level.tiles) {
            bytes.resize(length as usize, 0);
            aside.read(place, &mut bytes)?;
            put(out.write_all(&bytes))?;
        }
        Ok(())
    })?;
    Ok(levels.len() - 1)
}

/// Deflates all tiles and puts them aside.
fn deflated<T: Stored>(raster: &Tiles<T>, aside: &mut Scratch) -> Result<Level> {
    let (across, down) = raster.count();
    let mut tiles = Vec::with_capacity(across * down);
    let failed = |e: io::Error| Error::Bug { place: "deflating a tile", problem: e.to_string() };
    let squeeze = |cells: &[T]| -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(size_of_val(cells));
        cells.chunks_exact(SIDE).for_each(|row| T::predicted(row, &mut bytes));
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(&bytes)?;
        encoder.finish()
    };
    let without: Vec<T> = vec![T::NONE; SIDE * SIDE];
    let empty = squeeze(&without).map_err(failed)?;
    // As many at a time as there are threads.
    let order: Vec<(usize, usize)> = (0..down).flat_map(|row| (0..across).map(move |column| (column, row))).collect();
    for some in order.chunks(rayon::current_num_threads().max(1)) {
        crate::host::interrupt::check()?;
        let cells: Vec<Option<Vec<T>>> = some.iter().map(|&at| raster.tile(at)).collect::<Result<_>>()?;
        let made: io::Result<Vec<Option<Vec<u8>>>> =
            cells.par_iter().map(|cells| cells.as_ref().map(|cells| squeeze(cells)).transpose()).collect();
        for bytes in made.map_err(failed)? {
            let bytes = bytes.as_ref().unwrap_or(&empty);
            tiles.push((aside.append(bytes)?, bytes.len() as u32));
        }
    }
    Ok(Level { size: (raster.width, raster.height), tiles })
}

/// A field of a directory: its number, the type's number, how many, and the bytes.
struct Field(u16, u16, u64, Vec<u8>);

impl Field {
    fn shorts(tag: u16, values: &[u16]) -> Self {
        Self(tag, 3, values.len() as u64, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    fn long(tag: u16, value: usize) -> Self {
        Self(tag, 4, 1, (value as u32).to_le_bytes().to_vec())
    }

    fn doubles(tag: u16, values: &[f64]) -> Self {
        Self(tag, 12, values.len() as u64, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    fn text(tag: u16, text: &str) -> Self {
        let bytes: Vec<u8> = text.bytes().chain([0]).collect();
        Self(tag, 2, bytes.len() as u64, bytes)
    }
}

/// Everything before the tiles. What it says of their places depends on its own length, which no place changes.
fn front<T: Stored>(levels: &[Level], told: (&Grid, Option<Crs>), is_big: bool) -> Vec<u8> {
    let without = laid_out::<T>(levels, told, is_big, 0);
    laid_out::<T>(levels, told, is_big, without.len() as u64)
}

fn laid_out<T: Stored>(levels: &[Level], told: (&Grid, Option<Crs>), is_big: bool, data: u64) -> Vec<u8> {
    let mut bytes: Vec<u8> = match is_big {
        true => [b"II".as_slice(), &43u16.to_le_bytes(), &8u16.to_le_bytes(), &[0; 2], &[0; 8]].concat(),
        false => [b"II".as_slice(), &42u16.to_le_bytes(), &[0; 4]].concat(),
    };
    let place_of_first = if is_big { 8 } else { 4 };
    bytes.extend(format!("GDAL_STRUCTURAL_METADATA_SIZE={:06} bytes\n{LAYOUT}", LAYOUT.len()).bytes());
    // Where the tiles of each picture begin: after those of all smaller ones.
    let length = |level: &Level| level.tiles.iter().map(|&(_, length)| u64::from(length)).sum::<u64>();
    let begins: Vec<u64> =
        (0..levels.len()).map(|at| data + levels[at + 1..].iter().map(length).sum::<u64>()).collect();
    let mut place_of_link = place_of_first;
    for (at, level) in levels.iter().enumerate() {
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        let here = bytes.len() as u64;
        put_number(&mut bytes, place_of_link, here, is_big);
        place_of_link = directory(&mut bytes, &fields::<T>(level, (at, begins[at]), told, is_big), is_big);
    }
    bytes
}

/// The fields of one picture, in the order of their numbers.
fn fields<T: Stored>(
    level: &Level,
    (at, mut place): (usize, u64),
    (grid, crs): (&Grid, Option<Crs>),
    is_big: bool,
) -> Vec<Field> {
    let samples = T::BITS.len();
    let mut places = Vec::new();
    for &(_, length) in &level.tiles {
        match is_big {
            true => places.extend(place.to_le_bytes()),
            false => places.extend((place as u32).to_le_bytes()),
        }
        place += u64::from(length);
    }
    let lengths = level.tiles.iter().flat_map(|(_, length)| length.to_le_bytes()).collect();
    let count = level.tiles.len() as u64;
    let mut fields = vec![
        Field::long(254, usize::from(at > 0)),
        Field::long(256, level.size.0),
        Field::long(257, level.size.1),
        Field::shorts(258, T::BITS),
        Field::shorts(259, &[8]),
        Field::shorts(262, &[T::PHOTOMETRIC]),
        Field::shorts(277, &[samples as u16]),
        Field::shorts(284, &[1]),
    ];
    if at == 0 {
        fields.push(Field::text(305, concat!("engine ", env!("CARGO_PKG_VERSION"))));
    }
    fields.extend([
        Field::shorts(317, &[T::PREDICTOR]),
        Field::long(322, SIDE),
        Field::long(323, SIDE),
        Field(324, if is_big { 16 } else { 4 }, count, places),
        Field(325, 4, count, lengths),
    ]);
    if samples == 4 {
        // Alpha that the colours are not multiplied by.
        fields.push(Field::shorts(338, &[2]));
    }
    fields.push(Field::shorts(339, &vec![T::FORMAT; samples]));
    if at == 0 {
        fields.push(Field::doubles(33550, &[grid.gsd, grid.gsd, 0.0]));
        fields.push(Field::doubles(33922, &[0.0, 0.0, 0.0, grid.left(), grid.top(), 0.0]));
        if let Some(crs) = crs {
            // Version 1.1; a projected system; a cell is an area; the system's code.
            let keys = [1, 1, 1, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, crs.code];
            fields.push(Field::shorts(34735, &keys));
        }
    }
    fields.extend(T::NODATA.map(|text| Field::text(42113, text)));
    fields
}

/// Appends a directory and what does not fit into it; gives the place of the link to the next one.
fn directory(bytes: &mut Vec<u8>, fields: &[Field], is_big: bool) -> usize {
    let (entry, within) = if is_big { (20, 8) } else { (12, 4) };
    let start = bytes.len();
    let counted = if is_big { 8 } else { 2 };
    let link = start + counted + entry * fields.len();
    bytes.resize(link + within, 0);
    bytes[start..start + 2].copy_from_slice(&(fields.len() as u16).to_le_bytes());
    for (i, Field(tag, kind, count, value)) in fields.iter().enumerate() {
        let at = start + counted + entry * i;
        bytes[at..at + 2].copy_from_slice(&tag.to_le_bytes());
        bytes[at + 2..at + 4].copy_from_slice(&kind.to_le_bytes());
        put_number(bytes, at + 4, *count, is_big);
        let place = at + entry - within;
        if value.len() <= within {
            bytes[place..place + value.len()].copy_from_slice(value);
        } else {
            bytes.resize(bytes.len().next_multiple_of(8), 0);
            let here = bytes.len() as u64;
            put_number(bytes, place, here, is_big);
            bytes.extend(value);
        }
    }
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    link
}

fn put_number(bytes: &mut [u8], at: usize, value: u64, is_big: bool) {
    match is_big {
        true => bytes[at..at + 8].copy_from_slice(&value.to_le_bytes()),
        false => bytes[at..at + 4].copy_from_slice(&(value as u32).to_le_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Number at a place.
    fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
        bytes[at..at + length].iter().rev().fold(0, |all, &byte| all << 8 | u64::from(byte))
    }

    #[test]
    fn both_kinds_of_front_lead_from_picture_to_picture_and_to_their_tiles() {
        let levels = [
            Level { size: (1000, 700), tiles: vec![(0, 10), (0, 20), (0, 30), (0, 40)] },
            Level { size: (500, 350), tiles: vec![(0, 7)] },
        ];
        let grid = Grid { gsd: 0.5, column: 20, row: -30, width: 1000, height: 700 };
        for is_big in [false, true] {
            let front = front::<f32>(&levels, (&grid, None), is_big);
            let (counted, entry, within) = if is_big { (8, 20, 8) } else { (2, 12, 4) };
            let mut next = number(&front, if is_big { 8 } else { 4 }, within) as usize;
            for (level, begin) in levels.iter().zip([front.len() as u64 + 7, front.len() as u64]) {
                let count = number(&front, next, counted) as usize;
                let tags: Vec<u64> = (0..count).map(|i| number(&front, next + counted + entry * i, 2)).collect();
                assert!(tags.is_sorted());
                let field = |tag: u64| next + counted + entry * tags.iter().position(|t| *t == tag).unwrap();
                assert_eq!(number(&front, field(256) + entry - within, 4), level.size.0 as u64);
                let places = field(324) + entry - within;
                let first = match level.tiles.len() {
                    1 => number(&front, places, within),
                    _ => number(&front, number(&front, places, within) as usize, within),
                };
                assert_eq!(first, begin);
                next = number(&front, next + counted + entry * count, within) as usize;
            }
            assert_eq!(next, 0);
        }
    }

    #[test]
    fn predictors_take_differences() {
        let mut bytes = Vec::new();
        <[u8; 4]>::predicted(&[[1, 2, 3, 255], [2, 1, 3, 255]], &mut bytes);
        assert_eq!(bytes, [1, 2, 3, 255, 1, 255, 0, 0]);
        bytes.clear();
        // 1.0 is 3f 80 00 00, -9999 is c6 1c 3c 00.
        f32::predicted(&[1.0, f32::NAN], &mut bytes);
        let sums: Vec<u8> = bytes
            .iter()
            .scan(0u8, |sum, b| Some(std::mem::replace(sum, sum.wrapping_add(*b)).wrapping_add(*b)))
            .collect();
        assert_eq!(sums, [0x3f, 0xc6, 0x80, 0x1c, 0x00, 0x3c, 0x00, 0x00]);
    }
}
