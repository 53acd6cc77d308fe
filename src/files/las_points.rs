//! Positions of LAS and LAZ clouds (ASPRS LAS 1.0 to 1.4).
//!
//! A header says where records begin, how long and how many they are; each begins with three i32, which become
//! coordinates by a scale and an offset. LAZ files have the records compressed as a variable-length record of LASzip's
//! describes.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use laz::laszip::{ChunkTable, LazItem, LazItemType};
use laz::{DecompressionSelection, LasZipDecompressor, LazVlr};

use crate::files::input;
use crate::{Error, Result};

/// How the file begins.
pub const MAGIC: &[u8] = b"LASF";
/// The header of version 1.4; of earlier ones the beginning.
const LONGEST_HEADER: usize = 375;
/// That of version 1.0.
const SHORTEST_HEADER: usize = 227;
/// The head of a variable-length record.
const RECORD_HEAD: usize = 54;
const EXPECTED: &str = "a whole LAS or LAZ file, version 1.0 to 1.4";

/// What the header says of points.
struct Header {
    /// Where the points begin.
    data: u64,
    /// How long the header is, and how many variable-length records follow.
    records: (u64, u32),
    /// Bytes a point.
    length: u16,
    count: u64,
    scale: [f64; 3],
    offset: [f64; 3],
    is_compressed: bool,
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    if let Some(found) = bytes.get(at..at + N) {
        array.copy_from_slice(found);
    }
    array
}

impl Header {
    fn parse(bytes: &[u8], size: u64) -> std::result::Result<Self, String> {
        if bytes.len() < SHORTEST_HEADER || !bytes.starts_with(MAGIC) {
            return Err("no header of a LAS file".into());
        }
        let [major, minor] = array(bytes, 24);
        if major != 1 || minor > 4 {
            return Err(format!("version {major}.{minor}"));
        }
        let doubles = |at: usize| [0, 1, 2].map(|i| f64::from_le_bytes(array(bytes, at + 8 * i)));
        let format: [u8; 1] = array(bytes, 104);
        let mut header = Self {
            data: u32::from_le_bytes(array(bytes, 96)).into(),
            records: (u16::from_le_bytes(array(bytes, 94)).into(), u32::from_le_bytes(array(bytes, 100))),
            length: u16::from_le_bytes(array(bytes, 105)),
            count: u32::from_le_bytes(array(bytes, 107)).into(),
            scale: doubles(131),
            offset: doubles(155),
            // LASzip's mark.
            is_compressed: format[0] & 0xc0 != 0,
        };
        // The number of 32 bits is for readers of earlier versions.
        if minor == 4 && bytes.len() >= 255 {
            header.count = u64::from_le_bytes(array(bytes, 247)).max(header.count);
        }
        if header.length < 20 {
            return Err(format!("points of {} bytes", header.length));
        }
        if !header.scale.iter().chain(&header.offset).all(|v| v.is_finite()) {
            return Err(format!("scale {:?} and offset {:?}", header.scale, header.offset));
        }
        let most = size.saturating_sub(header.data) / u64::from(header.length);
        // Compressed points take some bits at least.
        if header.data > size || header.count > if header.is_compressed { most.saturating_mul(1000) } else { most } {
            return Err(format!("{size} bytes for {} points after {} bytes", header.count, header.data));
        }
        Ok(header)
    }

    fn position(&self, record: &[u8]) -> [f64; 3] {
        [0, 1, 2].map(|i| {
            let steps = i32::from_le_bytes(array(record, 4 * i));
            f64::from(steps) * self.scale[i] + self.offset[i]
        })
    }
}

/// How many points there are, and every so many-th that `step` asks for when it is told that number.
///
/// # Errors
/// A file that cannot be read, or holds something else.
pub fn read_each(path: &Path, step: impl Fn(u64) -> u64) -> Result<(u64, Vec<[f64; 3]>)> {
    let (file, size) = input::open(path, "open the point cloud")?;
    let mut file = BufReader::with_capacity(1 << 20, file);
    let refuse = |found: String| Error::input(path.display().to_string(), found, EXPECTED);
    let system = || Error::io("read the point cloud", path);
    let mut start = Vec::with_capacity(LONGEST_HEADER);
    Read::by_ref(&mut file).take(LONGEST_HEADER as u64).read_to_end(&mut start).map_err(system())?;
    let header = Header::parse(&start, size).map_err(refuse)?;
    let mut record = vec![0; header.length.into()];
    let step = step(header.count).max(1);
    let mut points = Vec::new();
    let mut keep = |i: u64, record: &[u8]| {
        if i.is_multiple_of(step) {
            points.push(header.position(record));
        }
    };
    if header.is_compressed {
        let (vlr, has_chunks) = laszip_record(&mut file, &header, path)?;
        if has_chunks {
            expect_chunks(&mut file, &header, &vlr, size).map_err(refuse)?;
            expect_layers(&mut file, &header, &vlr, size).map_err(refuse)?;
        }
        file.seek(SeekFrom::Start(header.data)).map_err(system())?;
        let damaged = |error: String| refuse(format!("compressed points that are damaged ({error})"));
        let wanted = DecompressionSelection::xy_returns_channel().decompress_z();
        let mut source = LasZipDecompressor::selective(file, vlr, wanted).map_err(|e| damaged(e.to_string()))?;
        for i in 0..header.count {
            source.decompress_one(&mut record).map_err(|e| damaged(e.to_string()))?;
            keep(i, &record);
        }
    } else {
        file.seek(SeekFrom::Start(header.data)).map_err(system())?;
        for i in 0..header.count {
            file.read_exact(&mut record).map_err(system())?;
            keep(i, &record);
        }
    }
    Ok((header.count, points))
}

/// LASzip's own record among those that follow the header, and whether points lie in chunks.
fn laszip_record(file: &mut BufReader<File>, header: &Header, path: &Path) -> Result<(LazVlr, bool)> {
    /// The first LASzip's way: all points after each other.
    const POINT_WISE: [u8; 2] = [1, 0];
    let refuse = |found: &str| Error::input(path.display().to_string(), found, EXPECTED);
    let mut at = header.records.0;
    for _ in 0..header.records.1 {
        file.seek(SeekFrom::Start(at)).map_err(Error::io("read the point cloud", path))?;
        let mut head = [0; RECORD_HEAD];
        file.read_exact(&mut head).map_err(|_| refuse("a file that ends within its records"))?;
        let length = u16::from_le_bytes(array(&head, 20));
        let id = u16::from_le_bytes(array(&head, 18));
        if head[2..18].starts_with(LazVlr::USER_ID.as_bytes()) && id == LazVlr::RECORD_ID {
            let mut data = vec![0; length.into()];
            file.read_exact(&mut data).map_err(|_| refuse("a file that ends within its records"))?;
            let has_chunks = !data.starts_with(&POINT_WISE);
            let vlr = LazVlr::from_buffer(data).map_err(|_| refuse("a record of LASzip that is damaged"))?;
            // The library trusts these numbers.
            let fits = vlr.items_size() == u64::from(header.length) && (vlr.chunk_size() > 0 || !has_chunks);
            return if fits { Ok((vlr, has_chunks)) } else { Err(refuse("a record of LASzip for other points")) };
        }
        at += RECORD_HEAD as u64 + u64::from(length);
    }
    Err(refuse("compressed points without a record of LASzip"))
}

/// Holds the table of chunks, as far as the library takes memory by it, against the file.
fn expect_chunks(
    file: &mut BufReader<File>,
    header: &Header,
    vlr: &LazVlr,
    size: u64,
) -> std::result::Result<(), String> {
    let mut at = |place: u64| {
        let mut bytes = [0; 8];
        file.seek(SeekFrom::Start(place)).and_then(|_| file.read_exact(&mut bytes)).map(|()| bytes).ok()
    };
    // Its place stands before the points, or, where they were written to a pipe, at the file's end.
    let broken = || "compressed points without their table".to_owned();
    let mut table = i64::from_le_bytes(at(header.data).ok_or_else(broken)?);
    if table <= header.data as i64 {
        table = i64::from_le_bytes(at(size.saturating_sub(8)).ok_or_else(broken)?);
    }
    let table = u64::try_from(table).map_err(|_| broken())?;
    let chunks: u64 = u32::from_le_bytes(array(&at(table).ok_or_else(broken)?, 4)).into();
    let wanted = header.count.div_ceil(u64::from(vlr.chunk_size()));
    // Each begins with a whole point; one may be empty.
    let most = size / u64::from(header.length) + 1;
    let fits = if vlr.uses_variable_size_chunks() { chunks <= most } else { chunks >= wanted && chunks <= wanted + 1 };
    if fits && chunks <= most { Ok(()) } else { Err(format!("a table of {chunks} chunks for {} points", header.count)) }
}

/// Holds the sizes that stand before each chunk of points of version 1.4 against the file, for the same reason.
fn expect_layers(
    file: &mut BufReader<File>,
    header: &Header,
    vlr: &LazVlr,
    size: u64,
) -> std::result::Result<(), String> {
    let of_item = |item: &LazItem| match item.item_type() {
        LazItemType::Point14 => 9,
        LazItemType::RGB14 | LazItemType::WavePacket14 => 1,
        LazItemType::RGBNIR14 => 2,
        LazItemType::Byte14(bytes) => bytes.into(),
        // Points of earlier versions have no layers.
        _ => 0,
    };
    let layers: usize = vlr.items().iter().map(of_item).sum();
    if layers == 0 {
        return Ok(());
    }
    let broken = || "compressed points that do not fit their table".to_owned();
    file.seek(SeekFrom::Start(header.data)).map_err(|_| broken())?;
    let table = ChunkTable::read_from(&mut *file, vlr).map_err(|_| broken())?;
    let mut at = header.data + ChunkTable::OFFSET_SIZE as u64;
    for chunk in &table {
        // A whole point, how many there are, and then the sizes.
        let mut sizes = vec![0; 4 * layers];
        let place = SeekFrom::Start(at + u64::from(header.length) + 4);
        file.seek(place).and_then(|_| file.read_exact(&mut sizes)).map_err(|_| broken())?;
        let sum: u64 = sizes.as_chunks().0.iter().map(|four| u64::from(u32::from_le_bytes(*four))).sum();
        at = at.saturating_add(chunk.byte_count);
        if sum > size || at > size {
            return Err(broken());
        }
    }
    Ok(())
}
