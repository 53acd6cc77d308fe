//! MATLAB's MAT files of level 5 (what `save -v6` and `-v7` write): numeric and logical arrays, compressed or not, in
//! either byte order. Cells, structures, texts, sparse and complex arrays may stand beside them but cannot be asked
//! for. Files of `-v7.3` are HDF5 and are refused.
//!
//! Layout: a header of 128 bytes (text, version, byte order), then elements of a tag (type, size) and data padded to 8
//! bytes; a size of at most 4 bytes may share the tag's second half with its data. A compressed element is one zlib
//! stream that holds one array element. An array element holds four elements: flags with its class, dimensions, name,
//! values. Values may be stored in a smaller type than the array's class.

use std::io::Read;
use std::path::Path;

use flate2::read::ZlibDecoder;

use crate::files::input;
use crate::host::memory;
use crate::{Error, Result};

/// Bytes before the first element.
const HEADER: usize = 128;
/// Deflate cannot shrink data to less than a 1032nd: what claims to be larger is damaged, and is not allocated.
const MOST_SHRUNK: u64 = 1032;

const ARRAY: u32 = 14;
const COMPRESSED: u32 = 15;

/// An array of numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Its name in MATLAB.
    pub name: String,
    /// Its dimensions, at least two. The first one is the fastest in [`Array::values`].
    pub dimensions: Vec<usize>,
    /// Whether MATLAB takes the numbers for truth values.
    pub is_logical: bool,
    /// Its numbers, column after column.
    pub values: Values,
}

/// Numbers as they are stored.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Stored as bytes, none of them negative.
    Bytes(Vec<u8>),
    /// Stored in any other type; 64-bit integers are rounded.
    Numbers(Vec<f64>),
}

impl Values {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Bytes(values) => values.len(),
            Self::Numbers(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that they take.
    fn bytes(&self) -> u64 {
        match self {
            Self::Bytes(values) => values.len() as u64,
            Self::Numbers(values) => 8 * values.len() as u64,
        }
    }

    /// All of them as numbers.
    pub fn to_numbers(&self) -> Vec<f64> {
        match self {
            Self::Bytes(values) => values.iter().map(|&v| f64::from(v)).collect(),
            Self::Numbers(values) => values.clone(),
        }
    }

    /// Which of them are not zero: 0 where not, else any other number.
    pub fn to_flags(&self) -> Vec<u8> {
        match self {
            Self::Bytes(values) => values.clone(),
            Self::Numbers(values) => values.iter().map(|&v| u8::from(v != 0.0)).collect(),
        }
    }
}

/// What a file holds.
#[derive(Clone, Debug)]
pub struct MatFile {
    place: String,
    arrays: Vec<Array>,
    /// Names of what stands in the file but cannot be read, with what it is.
    others: Vec<(String, String)>,
}

impl MatFile {
    /// Reads all arrays of a file.
    ///
    /// # Errors
    /// [`Error::Io`] where the file cannot be read; [`Error::Input`] where it is no MAT file of level 5, breaks off or
    /// contradicts itself.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = input::read(path, "open the MAT file")?;
        let place = path.display().to_string();
        let is_little = check_header(&place, &bytes)?;
        let mut file = Self { place: place.clone(), arrays: Vec::new(), others: Vec::new() };
        let mut reader = Reader { path, place: &place, bytes: &bytes, at: HEADER, is_little, held: 0 };
        while reader.at < bytes.len() {
            reader.held = bytes.len() as u64 + file.arrays.iter().map(|array| array.values.bytes()).sum::<u64>();
            let (kind, data) = reader.element()?;
            match kind {
                COMPRESSED => {
                    let unpacked = unpack(&reader, data)?;
                    let place = format!("{place} (in the compressed data before byte {})", reader.at);
                    let held = reader.held + unpacked.len() as u64;
                    let mut inner = Reader { place: &place, bytes: &unpacked, at: 0, held, ..reader };
                    let (kind, data) = inner.element()?;
                    file.take(kind, Reader { bytes: data, at: 0, ..inner })?;
                }
                _ => {
                    let inner = Reader { bytes: data, at: 0, ..reader };
                    file.take(kind, inner)?;
                    // Only what is not compressed is padded.
                    reader.skip_padding(data.len());
                }
            }
        }
        Ok(file)
    }

    /// The array of this name.
    ///
    /// # Errors
    /// [`Error::Input`] where there is none, with what there is instead.
    pub fn array(&self, name: &str) -> Result<&Array> {
        if let Some(array) = self.arrays.iter().find(|array| array.name == name) {
            return Ok(array);
        }
        let found = match self.others.iter().find(|(other, _)| other == name) {
            Some((_, what)) => format!("'{name}' is {what}"),
            None => {
                let arrays = self.arrays.iter().map(|a| &a.name);
                let names: Vec<String> =
                    arrays.chain(self.others.iter().map(|(n, _)| n)).map(|n| format!("'{n}'")).collect();
                format!("no '{name}', only {}", if names.is_empty() { "nothing".into() } else { names.join(", ") })
            }
        };
        Err(Error::input(&self.place, found, format!("an array of numbers '{name}'")))
    }

    /// Takes one element up, whose data the reader holds.
    fn take(&mut self, kind: u32, mut reader: Reader) -> Result<()> {
        // Other kinds at this level are not in use; the format allows to pass over them. Empty arrays are what cleared
        // variables leave.
        if kind != ARRAY || reader.bytes.is_empty() {
            return Ok(());
        }
        let flags = reader.integers("an array's flags")?;
        let flags = flags.first().copied().unwrap_or_default() as u64;
        // Objects of newer classes have no dimensions here.
        let class = flags & 0xff;
        if !(1..=15).contains(&class) {
            self.others.push((format!("class {class}"), "an object".into()));
            return Ok(());
        }
        let dimensions = reader.integers("an array's dimensions")?;
        let (_, name) = reader.padded()?;
        let name = String::from_utf8_lossy(name).into_owned();
        let what = match class {
            1 => "a cell array",
            2 => "a structure",
            3 => "an object",
            4 => "a text",
            5 => "a sparse array",
            _ if flags & 0x800 != 0 => "an array of complex numbers",
            _ => "",
        };
        if !what.is_empty() {
            self.others.push((name, what.into()));
            return Ok(());
        }
        let values = reader.values(&name)?;
        let side = |d: &f64| usize::try_from(*d as i64).ok();
        let sides: Option<Vec<usize>> = dimensions.iter().map(side).collect();
        let expected = sides.as_ref().and_then(|s| s.iter().try_fold(1usize, |n, &side| n.checked_mul(side)));
        let (Some(sides), true) = (sides, expected == Some(values.len()) && dimensions.len() >= 2) else {
            let shape: Vec<String> = dimensions.iter().map(f64::to_string).collect();
            return Err(Error::input(
                format!("{}: '{name}'", self.place),
                format!("{} values for dimensions {}", values.len(), shape.join(" x ")),
                "as many values as the dimensions say; the file is damaged, get it again",
            ));
        };
        self.arrays.push(Array { name, dimensions: sides, is_logical: flags & 0x200 != 0, values });
        Ok(())
    }
}

/// Whether the file is little endian.
fn check_header(place: &str, bytes: &[u8]) -> Result<bool> {
    let expected = "a MAT file of level 5 (save -v6 or -v7)";
    if bytes.starts_with(b"\x89HDF") || bytes.starts_with(b"MATLAB 7.3") {
        return Err(Error::input(place, "a MAT file of version 7.3 (HDF5)", expected));
    }
    let Some(header) = bytes.first_chunk::<HEADER>() else {
        let found = format!("{} bytes", bytes.len());
        return Err(Error::input(place, found, format!("{expected}, whose header alone has {HEADER}")));
    };
    let is_little = match &header[126..] {
        b"IM" => true,
        b"MI" => false,
        other => {
            let found = format!("'{}' at byte 126", other.escape_ascii());
            return Err(Error::input(place, found, format!("'IM' or 'MI' there: {expected}")));
        }
    };
    let pair = [header[124], header[125]];
    let version = if is_little { u16::from_le_bytes(pair) } else { u16::from_be_bytes(pair) };
    match version {
        0x0100 => Ok(is_little),
        other => Err(Error::input(place, format!("version {other:#06x} at byte 124"), expected)),
    }
}

fn unpack(reader: &Reader, data: &[u8]) -> Result<Vec<u8>> {
    let damaged = |found: String| {
        let place = format!("{}: compressed data before byte {}", reader.place, reader.at);
        Error::input(place, found, "one whole zlib stream; the file is damaged, get it again")
    };
    let mut decoder = ZlibDecoder::new(data);
    let mut tag = [0; 8];
    decoder.read_exact(&mut tag).map_err(|e| damaged(e.to_string()))?;
    let size = u64::from(reader.word(&tag[4..]));
    if size > MOST_SHRUNK * data.len() as u64 {
        return Err(damaged(format!("{} bytes that are to become {size}", data.len())));
    }
    reader.expect_room(size)?;
    let mut unpacked = tag.to_vec();
    decoder.take(size).read_to_end(&mut unpacked).map_err(|e| damaged(e.to_string()))?;
    Ok(unpacked)
}

/// Goes through elements.
#[derive(Clone, Copy)]
struct Reader<'a> {
    path: &'a Path,
    place: &'a str,
    bytes: &'a [u8],
    at: usize,
    is_little: bool,
    /// Bytes that the file and what was read of it take so far.
    held: u64,
}

impl<'a> Reader<'a> {
    /// Refuses what does not fit beside that.
    fn expect_room(&self, bytes: u64) -> Result<()> {
        memory::expect_room(self.path, self.held.saturating_add(bytes))
    }

    fn word(&self, bytes: &[u8]) -> u32 {
        let four = bytes.first_chunk().copied().unwrap_or_default();
        if self.is_little { u32::from_le_bytes(four) } else { u32::from_be_bytes(four) }
    }

    /// The next element's type and data; padding is left.
    fn element(&mut self) -> Result<(u32, &'a [u8])> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        if rest.len() < 8 {
            return Err(self.breaks_off(8, rest.len()));
        }
        let first = self.word(rest);
        let (kind, start, size): (u32, usize, usize) = match first >> 16 {
            0 => (first, 8, self.word(&rest[4..]) as usize),
            small => (first & 0xffff, 4, small as usize),
        };
        let room = if start == 4 { 8 } else { rest.len() };
        let end = start.saturating_add(size);
        let data = rest[..room].get(start..end).ok_or_else(|| self.breaks_off(size, room - start))?;
        self.at += if start == 4 { 8 } else { end };
        Ok((kind, data))
    }

    /// The next element inside an array, with its padding.
    fn padded(&mut self) -> Result<(u32, &'a [u8])> {
        let before = self.at;
        let (kind, data) = self.element()?;
        if self.at - before != 8 {
            self.skip_padding(data.len());
        }
        Ok((kind, data))
    }

    fn skip_padding(&mut self, length: usize) {
        self.at = self.bytes.len().min(self.at + length.next_multiple_of(8) - length);
    }

    fn breaks_off(&self, needed: usize, left: usize) -> Error {
        Error::input(
            format!("{}: byte {}", self.place, self.at),
            format!("an element of {needed} bytes where {left} are left"),
            "a whole file; this one is truncated or damaged, get it again",
        )
    }

    fn integers(&mut self, what: &str) -> Result<Vec<f64>> {
        let at = self.at;
        let (kind, data) = self.padded()?;
        match (kind, self.numbers(kind, data)) {
            (5 | 6, Some(Values::Numbers(numbers))) => Ok(numbers),
            _ => Err(Error::input(
                format!("{}: byte {at}", self.place),
                format!("an element of type {kind} with {} bytes", data.len()),
                format!("{what} (type 5 or 6); the file is damaged, get it again"),
            )),
        }
    }

    fn values(&mut self, name: &str) -> Result<Values> {
        let (kind, data) = self.padded()?;
        // As numbers of eight bytes, but for single bytes.
        let growth = match kind {
            3 | 4 => 4,
            5..=7 => 2,
            _ => 1,
        };
        self.expect_room(data.len() as u64 * growth)?;
        self.numbers(kind, data).ok_or_else(|| {
            Error::input(
                format!("{}: '{name}'", self.place),
                format!("{} bytes of type {kind}", data.len()),
                "whole numbers of one of MATLAB's types (1 to 7, 9, 12, 13); the file is damaged, get it again",
            )
        })
    }

    /// Data as numbers, if its type is one of numbers and its length a multiple of theirs.
    fn numbers(&self, kind: u32, data: &[u8]) -> Option<Values> {
        /// Numbers of `N` bytes.
        fn each<const N: usize>(data: &[u8], is_little: bool, number: fn([u8; N]) -> f64) -> Option<Values> {
            let (all, rest) = data.as_chunks::<N>();
            let number = |bytes: &[u8; N]| {
                let mut bytes = *bytes;
                if !is_little {
                    bytes.reverse();
                }
                number(bytes)
            };
            rest.is_empty().then(|| Values::Numbers(all.iter().map(number).collect()))
        }
        let little = self.is_little;
        match kind {
            // Truth values, mostly.
            1 if data.iter().all(|&b| b < 128) => Some(Values::Bytes(data.to_vec())),
            1 => each(data, little, |b: [u8; 1]| f64::from(i8::from_le_bytes(b))),
            2 => Some(Values::Bytes(data.to_vec())),
            3 => each(data, little, |b| f64::from(i16::from_le_bytes(b))),
            4 => each(data, little, |b| f64::from(u16::from_le_bytes(b))),
            5 => each(data, little, |b| f64::from(i32::from_le_bytes(b))),
            6 => each(data, little, |b| f64::from(u32::from_le_bytes(b))),
            7 => each(data, little, |b| f64::from(f32::from_le_bytes(b))),
            9 => each(data, little, f64::from_le_bytes),
            12 => each(data, little, |b| i64::from_le_bytes(b) as f64),
            13 => each(data, little, |b| u64::from_le_bytes(b) as f64),
            _ => None,
        }
    }
}
