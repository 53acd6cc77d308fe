//! PLY point clouds: binary, little endian; 32 bytes a point with everything that fusion knows, 15 with colours only,
//! and 12 more where coordinates are doubles ([`Storage`]).

use std::io::Write;
use std::path::Path;

use crate::Result;
use crate::files::atomic::{write_whole, write_whole_hashed};
use crate::files::ply_storage::{OFFSET_COMMENT, OffsetOption, Storage};

/// One point of the cloud.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Position in the world (`x`, `y`, `z`), in scene units.
    pub position: [f64; 3],
    /// Unit normal in the world, towards the reference camera (`nx`, `ny`, `nz`); zero where unknown.
    pub normal: [f32; 3],
    /// Colour of the photos (`red`, `green`, `blue`).
    pub colour: [u8; 3],
    /// Confidence of the reference pixel, 0..1.
    pub confidence: f32,
    /// Number of views that agree on the point, the reference view included, those at one place counted once where the
    /// fusion tells places apart; 255 stands for more.
    pub views: u8,
}

/// The properties of one vertex, in file order: [`Point`]'s fields one after the other without padding. Where
/// coordinates are stored as f64, the first three are `double`.
pub(crate) const PROPERTIES: [(&str, &str); 11] = [
    ("float", "x"),
    ("float", "y"),
    ("float", "z"),
    ("float", "nx"),
    ("float", "ny"),
    ("float", "nz"),
    ("uchar", "red"),
    ("uchar", "green"),
    ("uchar", "blue"),
    ("float", "confidence"),
    ("uchar", "views"),
];
/// The longest vertex.
const MOST_BYTES: usize = 44;

/// How the coordinates of these points are to be stored.
pub fn storage_of(points: &[Point], option: OffsetOption) -> Storage {
    Storage::of(points.len(), |i| points[i].position, option)
}

/// Writes a cloud with `comments` in its header, one line each; line breaks and letters beyond ASCII, which the
/// format does not know, become `?` or spaces. An offset is a comment, too.
///
/// # Errors
/// [`crate::Error::Io`]; nothing is left behind then.
pub fn write(path: &Path, points: &[Point], storage: Storage, comments: &[String]) -> Result<()> {
    write_hashed(path, points, storage, comments).map(drop)
}

/// As [`write()`], and gives the SHA-256 of what was written.
///
/// # Errors
/// As [`write()`].
pub fn write_hashed(path: &Path, points: &[Point], storage: Storage, comments: &[String]) -> Result<String> {
    write_each(path, points.len(), storage, comments, |write| points.iter().try_for_each(write))
}

/// As [`write_hashed`], of `count` points that `each` gives one after the other to what it is told.
///
/// # Errors
/// As [`write()`]; those of `each`.
pub fn write_each(
    path: &Path,
    count: usize,
    storage: Storage,
    comments: &[String],
    each: impl FnOnce(&mut dyn FnMut(&Point) -> std::io::Result<()>) -> std::io::Result<()>,
) -> Result<String> {
    write_whole_hashed(path, "write the point cloud", |mut out| {
        write_header(&mut out, count, &PROPERTIES, storage, comments)?;
        each(&mut |point| {
            let mut vertex = Vertex::at(point.position, storage);
            point.normal.iter().for_each(|value| vertex.push(&value.to_le_bytes()));
            vertex.push(&point.colour);
            vertex.push(&point.confidence.to_le_bytes());
            vertex.push(&[point.views]);
            out.write_all(vertex.bytes())
        })
    })
}

/// Writes positions with the colour of each index, 15 bytes a point, or 27; `comments` as in [`write()`].
///
/// # Errors
/// [`crate::Error::Io`]; nothing is left behind then.
pub fn write_coloured(
    path: &Path,
    points: &[[f64; 3]],
    colour: impl Fn(usize) -> [u8; 3],
    storage: Storage,
    comments: &[String],
) -> Result<()> {
    let [x, y, z, _, _, _, red, green, blue, ..] = PROPERTIES;
    write_whole(path, "write the point cloud", |out| {
        write_header(out, points.len(), &[x, y, z, red, green, blue], storage, comments)?;
        for (index, point) in points.iter().enumerate() {
            let mut vertex = Vertex::at(*point, storage);
            vertex.push(&colour(index));
            out.write_all(vertex.bytes())?;
        }
        Ok(())
    })
}

/// The bytes of one vertex so far.
struct Vertex {
    bytes: [u8; MOST_BYTES],
    length: usize,
}

impl Vertex {
    fn at(position: [f64; 3], storage: Storage) -> Self {
        let mut vertex = Self { bytes: [0; MOST_BYTES], length: 0 };
        for value in storage.stored(position) {
            match storage.double {
                true => vertex.push(&value.to_le_bytes()),
                false => vertex.push(&(value as f32).to_le_bytes()),
            }
        }
        vertex
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.length..][..bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

fn write_header(
    out: &mut impl Write,
    count: usize,
    properties: &[(&str, &str)],
    storage: Storage,
    comments: &[String],
) -> std::io::Result<()> {
    write!(out, "ply\nformat binary_little_endian 1.0\n")?;
    let [x, y, z] = storage.offset;
    let offset = storage.is_moved().then(|| format!("{OFFSET_COMMENT} {x} {y} {z}"));
    for comment in comments.iter().chain(&offset) {
        let line: String = comment
            .chars()
            .map(|c| match c {
                ' '..='~' => c,
                '\n' | '\r' | '\t' => ' ',
                _ => '?',
            })
            .collect();
        writeln!(out, "comment {line}")?;
    }
    writeln!(out, "element vertex {count}")?;
    for (at, (kind, name)) in properties.iter().enumerate() {
        let kind = if storage.double && at < 3 { "double" } else { kind };
        writeln!(out, "property {kind} {name}")?;
    }
    writeln!(out, "end_header")
}
