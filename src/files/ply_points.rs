//! Positions from PLY clouds of others: the vertices' `x`, `y`, `z` from text or binary files of either byte order, and
//! their colours where these are asked for. Other properties and elements, lists among them, are passed over.
//! `ply-rs-bw` keeps every element as a value of its own, which is fine for meshes and too much for tens of millions of
//! points.
//!
//! An offset that the header names as this program does ([`OFFSET_COMMENT`]) is added again.
//!
//! Limits: at most 2^32 - 1 vertices; a header of 64 KiB; lines of 64 KiB.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use crate::error::{Error, Result, counted};
use crate::files::input;
use crate::files::ply_storage::OFFSET_COMMENT;
use crate::host::allocator::may_fail;
use crate::host::interrupt;

/// Longest header, and longest line of a text file.
const LONGEST: usize = 1 << 16;
/// Vertices that are decoded at a time.
const BLOCK: usize = 1 << 14;

/// The points of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Cloud {
    /// Positions, all finite.
    pub points: Vec<[f64; 3]>,
    /// Red, green and blue of each, where they were asked for and the file has them as bytes.
    pub colours: Option<Vec<[u8; 3]>>,
    /// Vertices that were left out because a coordinate is NaN or infinite.
    pub not_finite: usize,
    /// What the header says is missing from the stored coordinates; it has been added.
    pub offset: Option<[f64; 3]>,
}

#[derive(Clone, Copy, PartialEq)]
enum Encoding {
    Text,
    Little,
    Big,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    I8,
    U8,
    I16,
    U16,
    I32,
    U32,
    F32,
    F64,
}

impl Kind {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "char" | "int8" => Self::I8,
            "uchar" | "uint8" => Self::U8,
            "short" | "int16" => Self::I16,
            "ushort" | "uint16" => Self::U16,
            "int" | "int32" => Self::I32,
            "uint" | "uint32" => Self::U32,
            "float" | "float32" => Self::F32,
            "double" | "float64" => Self::F64,
            _ => return None,
        })
    }

    fn size(self) -> usize {
        match self {
            Self::I8 | Self::U8 => 1,
            Self::I16 | Self::U16 => 2,
            Self::I32 | Self::U32 | Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    /// The value at the start of the bytes, which are at least its size.
    fn value(self, bytes: &[u8], encoding: Encoding) -> f64 {
        let mut eight = [0; 8];
        let size = self.size();
        eight[..size].copy_from_slice(&bytes[..size]);
        if encoding == Encoding::Big {
            eight[..size].reverse();
        }
        let [a, b, c, d, ..] = eight;
        match self {
            Self::I8 => f64::from(a as i8),
            Self::U8 => f64::from(a),
            Self::I16 => f64::from(i16::from_le_bytes([a, b])),
            Self::U16 => f64::from(u16::from_le_bytes([a, b])),
            Self::I32 => f64::from(i32::from_le_bytes([a, b, c, d])),
            Self::U32 => f64::from(u32::from_le_bytes([a, b, c, d])),
            Self::F32 => f64::from(f32::from_le_bytes([a, b, c, d])),
            Self::F64 => f64::from_le_bytes(eight),
        }
    }
}

struct Property {
    name: String,
    /// The type of the number of entries, for a list.
    count: Option<Kind>,
    kind: Kind,
}

struct Element {
    name: String,
    count: u64,
    properties: Vec<Property>,
}

impl Element {
    /// Bytes of each of them in a binary file; `None` where lists make them differ.
    fn stride(&self) -> Option<usize> {
        self.properties.iter().map(|p| p.count.is_none().then(|| p.kind.size())).sum()
    }

    /// The fewest bytes that each of them takes.
    fn least(&self, encoding: Encoding) -> u64 {
        let least = |p: &Property| p.count.unwrap_or(p.kind).size() as u64;
        match encoding {
            // A digit and a space or line break for each property, or a line break alone; the last line may have none.
            Encoding::Text => (2 * self.properties.len() as u64).max(1),
            _ => self.properties.iter().map(least).sum(),
        }
    }
}

/// What a file begins with.
struct Header {
    encoding: Encoding,
    elements: Vec<Element>,
    offset: Option<[f64; 3]>,
    /// Bytes.
    length: u64,
}

/// How many vertices a cloud has by its header, and no more than its file has bytes; none where it has no such element.
/// To be asked before [`read`] takes the memory.
///
/// # Errors
/// As [`read`], of the header.
pub fn vertices(path: &Path) -> Result<u64> {
    let (file, size) = input::open(path, "open the point cloud")?;
    let mut body = Body { path, file: BufReader::new(file), line: 0, text: Vec::new() };
    let header = body.header()?;
    let count = header.elements.iter().find(|e| e.name == "vertex").map_or(0, |e| e.count);
    // A header that lies about more is told when it is read.
    Ok(count.min(size))
}

/// Reads the positions of a cloud.
///
/// # Errors
/// [`Error::Io`] where the file cannot be read; [`Error::Input`] where it is no PLY, has no vertices with x, y and z,
/// or ends before its header says.
pub fn read(path: &Path) -> Result<Cloud> {
    read_columns(path, false)
}

/// As [`read`], with colours where the file has them (`red`, `green`, `blue`, one byte each).
///
/// # Errors
/// As [`read`].
pub fn read_coloured(path: &Path) -> Result<Cloud> {
    read_columns(path, true)
}

fn read_columns(path: &Path, coloured: bool) -> Result<Cloud> {
    let (file, size) = input::open(path, "open the point cloud")?;
    let mut body = Body { path, file: BufReader::with_capacity(1 << 20, file), line: 0, text: Vec::new() };
    let Header { encoding, elements, offset, length: header } = body.header()?;
    let place = path.display().to_string();
    let Some(at) = elements.iter().position(|e| e.name == "vertex") else {
        return Err(Error::input(place, "a PLY without vertices", "an element 'vertex' with x, y and z"));
    };
    let vertices = &elements[at];
    let axis = |name: &str| {
        let found = vertices.properties.iter().position(|p| p.name == name && p.count.is_none());
        found.ok_or_else(|| {
            let names: Vec<&str> = vertices.properties.iter().map(|p| p.name.as_str()).collect();
            let names = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
            Error::input(
                &place,
                format!("vertices without '{name}', only {names}"),
                "x, y and z of every vertex, one number each",
            )
        })
    };
    let mut columns = vec![axis("x")?, axis("y")?, axis("z")?];
    let bytes = |p: &Property, name: &str| p.name == name && p.count.is_none() && p.kind == Kind::U8;
    let of_colours = ["red", "green", "blue"].map(|name| vertices.properties.iter().position(|p| bytes(p, name)));
    if let ([Some(red), Some(green), Some(blue)], true) = (of_colours, coloured) {
        columns.extend([red, green, blue]);
    }
    // Before anything is allocated: the file must be able to hold what its header says.
    let needed = elements[..=at]
        .iter()
        .try_fold(0u64, |sum, element| sum.checked_add(element.count.checked_mul(element.least(encoding))?));
    let left = size.saturating_sub(header);
    let slack = u64::from(encoding == Encoding::Text);
    if vertices.count > u64::from(u32::MAX) || needed.is_none_or(|n| n > left + slack) {
        return Err(Error::input(
            place,
            format!("{left} bytes after the header, which states {} vertices", vertices.count),
            "a whole file of at most 4294967295 vertices; it is truncated, or its header lies",
        ));
    }
    for element in &elements[..at] {
        body.pass_over(element, encoding)?;
    }
    let colours = (columns.len() > 3).then(Vec::new);
    let mut cloud = Cloud { points: Vec::new(), colours, not_finite: 0, offset };
    let reserved = may_fail(|| {
        cloud.points.try_reserve_exact(vertices.count as usize)?;
        cloud.colours.iter_mut().try_for_each(|colours| colours.try_reserve_exact(vertices.count as usize))
    });
    reserved.map_err(|e| {
        let found = format!("{place}: {} vertices: {e}", vertices.count);
        Error::Memory(format!("{found}; expected a smaller cloud (--thin of `engine fuse`), or more memory"))
    })?;
    match (encoding, vertices.stride()) {
        (Encoding::Text, _) => body.text_vertices(vertices, &columns, &mut cloud)?,
        (_, Some(stride)) => body.even_vertices(vertices, &columns, stride, encoding, &mut cloud)?,
        (_, None) => body.uneven_vertices(vertices, &columns, encoding, &mut cloud)?,
    }
    Ok(cloud)
}

impl Cloud {
    /// What was left out and what was added, one sentence each.
    pub fn notes(&self, path: &Path) -> Vec<String> {
        let place = path.display();
        let left_out = (self.not_finite > 0)
            .then(|| format!("{place}: {} without finite coordinates left out", counted(self.not_finite, "point")));
        let added = self.offset.map(|[x, y, z]| {
            format!("{place}: {x} {y} {z} added to all coordinates, as its header says ({OFFSET_COMMENT})")
        });
        left_out.into_iter().chain(added).collect()
    }

    /// Takes a vertex: x, y, z, and its colour where colours are read.
    fn take(&mut self, stored: &[f64]) {
        let offset = self.offset.unwrap_or_default();
        let point = [0, 1, 2].map(|axis| stored[axis] + offset[axis]);
        if point.iter().all(|v| v.is_finite()) {
            self.points.push(point);
            if let Some(colours) = &mut self.colours {
                colours.push([3, 4, 5].map(|at| stored[at] as u8));
            }
        } else {
            self.not_finite += 1;
        }
    }
}

/// Ends the reading where the user asks for it, now and then.
fn stop_between_blocks(count: u64) -> Result<()> {
    if count.is_multiple_of(BLOCK as u64) { interrupt::check() } else { Ok(()) }
}

/// The file from where it has been read to.
struct Body<'a> {
    path: &'a Path,
    file: BufReader<File>,
    /// The number of the line in `text`, from 1.
    line: u64,
    text: Vec<u8>,
}

impl Body<'_> {
    fn place(&self) -> String {
        format!("{}: line {}", self.path.display(), self.line)
    }

    /// Reads the next line, without its end; whether there was one.
    fn next_line(&mut self) -> Result<bool> {
        self.text.clear();
        let limited = Read::by_ref(&mut self.file).take(LONGEST as u64);
        let read = { limited }.read_until(b'\n', &mut self.text);
        let length = read.map_err(Error::io("read the point cloud", self.path))?;
        self.line += 1;
        if length == LONGEST {
            return Err(Error::input(self.place(), "more than 64 KiB", "a shorter line of a PLY file"));
        }
        while self.text.last().is_some_and(|b| matches!(b, b'\n' | b'\r')) {
            self.text.pop();
        }
        Ok(length > 0)
    }

    fn header(&mut self) -> Result<Header> {
        let mut length = 0;
        let mut offset = None;
        let (mut encoding, mut elements) = (None, Vec::<Element>::new());
        loop {
            let is_there = self.next_line()?;
            let line = String::from_utf8_lossy(&self.text).into_owned();
            if self.line == 1 && line.trim_end() != "ply" {
                let found = format!("'{}'", line.chars().take(20).collect::<String>().escape_debug());
                return Err(Error::input(self.place(), found, "'ply' (a PLY file)"));
            }
            length += self.text.len();
            if !is_there || length > LONGEST {
                let found = "a header without end";
                return Err(Error::input(self.path.display().to_string(), found, "a line 'end_header'"));
            }
            let bad = |expected: &str| Error::input(self.place(), format!("'{line}'"), expected);
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            match words[..] {
                ["ply"] if self.line == 1 => {}
                ["comment", OFFSET_COMMENT, x, y, z] => {
                    let numbers = [x, y, z].map(|word| word.parse().ok().filter(|v: &f64| v.is_finite()));
                    let [Some(x), Some(y), Some(z)] = numbers else {
                        return Err(bad("comment ply-offset and three numbers"));
                    };
                    offset = Some([x, y, z]);
                }
                [] | ["comment" | "obj_info", ..] => {}
                ["format", name, "1.0"] => {
                    encoding = Some(match name {
                        "ascii" => Encoding::Text,
                        "binary_little_endian" => Encoding::Little,
                        "binary_big_endian" => Encoding::Big,
                        _ => return Err(bad("ascii, binary_little_endian or binary_big_endian")),
                    });
                }
                ["element", name, count] => {
                    let count = count.parse().map_err(|_| bad("element NAME COUNT"))?;
                    elements.push(Element { name: name.to_owned(), count, properties: Vec::new() });
                }
                ["property", ref kind @ .., name] => {
                    let (count, kind) = match *kind {
                        [kind] => (None, Kind::named(kind)),
                        ["list", count, kind] => match Kind::named(count) {
                            None | Some(Kind::F32 | Kind::F64) => (None, None),
                            count => (count, Kind::named(kind)),
                        },
                        _ => (None, None),
                    };
                    let expected = "property TYPE NAME or property list TYPE TYPE NAME, after an element";
                    let (Some(kind), Some(element)) = (kind, elements.last_mut()) else {
                        return Err(bad(expected));
                    };
                    element.properties.push(Property { name: name.to_owned(), count, kind });
                }
                ["end_header"] => {
                    let Some(encoding) = encoding else { return Err(bad("a line 'format ...' before")) };
                    let position = std::io::Seek::stream_position(&mut self.file);
                    let position = position.map_err(Error::io("read the point cloud", self.path))?;
                    return Ok(Header { encoding, elements, offset, length: position });
                }
                _ => return Err(bad("a line of a PLY header")),
            }
        }
    }

    fn ends_early(&self, count: u64, of: &Element) -> Error {
        Error::input(
            self.path.display().to_string(),
            format!("the file ends after {count} of {} elements '{}'", of.count, of.name),
            "all of them; it is truncated, or its header lies",
        )
    }

    /// Fills the bytes; an early end is told with the number of the element.
    fn fill(&mut self, bytes: &mut [u8], count: u64, of: &Element) -> Result<()> {
        match self.file.read_exact(bytes) {
            Ok(()) => Ok(()),
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Err(self.ends_early(count, of)),
            Err(e) => Err(Error::io("read the point cloud", self.path)(e)),
        }
    }

    /// Goes to the end of an element that is not asked for.
    fn pass_over(&mut self, element: &Element, encoding: Encoding) -> Result<()> {
        if let (Some(stride), true) = (element.stride(), encoding != Encoding::Text) {
            // As many as there may be: one without properties takes no bytes.
            let bytes = element.count.saturating_mul(stride as u64);
            let passed = std::io::copy(&mut Read::by_ref(&mut self.file).take(bytes), &mut std::io::sink());
            let passed = passed.map_err(Error::io("read the point cloud", self.path))?;
            return if passed < bytes { Err(self.ends_early(passed / stride as u64, element)) } else { Ok(()) };
        }
        for count in 0..element.count {
            stop_between_blocks(count)?;
            if encoding != Encoding::Text {
                self.binary(element, encoding, count, |_, _| {})?;
            } else if !self.next_line()? {
                return Err(self.ends_early(count, element));
            }
        }
        Ok(())
    }

    /// Reads one element of a binary file, and gives the numbers that are not in lists, with the place of their
    /// property.
    fn binary(&mut self, of: &Element, encoding: Encoding, count: u64, mut take: impl FnMut(usize, f64)) -> Result<()> {
        let mut bytes = [0; 8];
        for (place, property) in of.properties.iter().enumerate() {
            let kind = property.count.unwrap_or(property.kind);
            self.fill(&mut bytes[..kind.size()], count, of)?;
            let value = kind.value(&bytes, encoding);
            if property.count.is_none() {
                take(place, value);
            } else {
                // A negative length saturates to none.
                let length = value as u64 * property.kind.size() as u64;
                let mut list = Read::by_ref(&mut self.file).take(length);
                let passed = std::io::copy(&mut list, &mut std::io::sink());
                if passed.map_err(Error::io("read the point cloud", self.path))? < length {
                    return Err(self.ends_early(count, of));
                }
            }
        }
        Ok(())
    }

    fn even_vertices(
        &mut self,
        of: &Element,
        wanted: &[usize],
        stride: usize,
        encoding: Encoding,
        cloud: &mut Cloud,
    ) -> Result<()> {
        let offset = |place: usize| of.properties[..place].iter().map(|p| p.kind.size()).sum::<usize>();
        let columns: Vec<_> = wanted.iter().map(|&place| (offset(place), of.properties[place].kind)).collect();
        let mut values = vec![0.0; wanted.len()];
        let mut bytes = vec![0; BLOCK * stride];
        let mut done = 0;
        while done < of.count {
            let count = (of.count - done).min(BLOCK as u64) as usize;
            self.fill(&mut bytes[..count * stride], done, of)?;
            for vertex in bytes[..count * stride].chunks_exact(stride) {
                for (value, (at, kind)) in values.iter_mut().zip(&columns) {
                    *value = kind.value(&vertex[*at..], encoding);
                }
                cloud.take(&values);
            }
            interrupt::check()?;
            done += count as u64;
        }
        Ok(())
    }

    fn uneven_vertices(&mut self, of: &Element, wanted: &[usize], encoding: Encoding, cloud: &mut Cloud) -> Result<()> {
        let mut values = vec![0.0; wanted.len()];
        for count in 0..of.count {
            stop_between_blocks(count)?;
            self.binary(of, encoding, count, |place, value| {
                values.iter_mut().zip(wanted).filter(|(_, at)| **at == place).for_each(|(slot, _)| *slot = value);
            })?;
            cloud.take(&values);
        }
        Ok(())
    }

    fn text_vertices(&mut self, of: &Element, wanted: &[usize], cloud: &mut Cloud) -> Result<()> {
        let mut values = vec![0.0; wanted.len()];
        for count in 0..of.count {
            stop_between_blocks(count)?;
            if !self.next_line()? {
                return Err(self.ends_early(count, of));
            }
            let text = String::from_utf8_lossy(&self.text);
            let mut words = text.split_ascii_whitespace();
            let mut found = 0;
            for (place, property) in of.properties.iter().enumerate() {
                let word = words.next();
                if property.count.is_some() {
                    let length = word.and_then(|w| w.parse::<usize>().ok()).unwrap_or(0);
                    words.by_ref().take(length).for_each(drop);
                }
                for (value, _) in values.iter_mut().zip(wanted).filter(|(_, at)| **at == place) {
                    if let Some(number) = word.and_then(|w| w.parse::<f64>().ok()) {
                        (*value, found) = (number, found + 1);
                    }
                }
            }
            if found < wanted.len() {
                let expected = format!("{} properties with numbers for x, y and z", of.properties.len());
                return Err(Error::input(self.place(), format!("'{text}'"), expected));
            }
            cloud.take(&values);
        }
        Ok(())
    }
}
