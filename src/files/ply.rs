//! PLY point clouds: binary, little endian; 32 bytes a point with everything that fusion knows, 15 with colours only.

use std::io::Write;
use std::path::Path;

use crate::Result;
use crate::files::atomic::write_whole;

/// One point of the cloud.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Position in the world (`x`, `y`, `z`), in scene units.
    pub position: [f32; 3],
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

/// The properties of one vertex, in file order: [`Point`]'s fields one after the other without padding.
const PROPERTIES: [(&str, &str); 11] = [
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

/// Writes a cloud with `comments` in its header, one line each; line breaks and letters beyond ASCII, which the
/// format does not know, become `?` or spaces.
///
/// # Errors
/// [`crate::Error::Io`]; nothing is left behind then.
pub fn write(path: &Path, points: &[Point], comments: &[String]) -> Result<()> {
    write_whole(path, "write the point cloud", |out| {
        write_header(out, points.len(), &PROPERTIES, comments)?;
        for point in points {
            out.write_all(&bytes_of(point))?;
        }
        Ok(())
    })
}

/// Writes positions with the colour of each index, 15 bytes a point; `comments` as in [`write()`].
///
/// # Errors
/// [`crate::Error::Io`]; nothing is left behind then.
pub fn write_coloured(
    path: &Path,
    points: &[[f32; 3]],
    colour: impl Fn(usize) -> [u8; 3],
    comments: &[String],
) -> Result<()> {
    let [x, y, z, _, _, _, red, green, blue, ..] = PROPERTIES;
    write_whole(path, "write the point cloud", |out| {
        write_header(out, points.len(), &[x, y, z, red, green, blue], comments)?;
        for (index, point) in points.iter().enumerate() {
            let mut bytes = [0; 15];
            for (four, value) in bytes.chunks_exact_mut(4).zip(point) {
                four.copy_from_slice(&value.to_le_bytes());
            }
            bytes[12..].copy_from_slice(&colour(index));
            out.write_all(&bytes)?;
        }
        Ok(())
    })
}

fn write_header(
    out: &mut impl Write,
    count: usize,
    properties: &[(&str, &str)],
    comments: &[String],
) -> std::io::Result<()> {
    write!(out, "ply\nformat binary_little_endian 1.0\n")?;
    for comment in comments {
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
    for (kind, name) in properties {
        writeln!(out, "property {kind} {name}")?;
    }
    writeln!(out, "end_header")
}

fn bytes_of(point: &Point) -> [u8; 32] {
    let mut bytes = [0; 32];
    let floats = point.position.iter().chain(&point.normal);
    for (four, value) in bytes.chunks_exact_mut(4).zip(floats) {
        four.copy_from_slice(&value.to_le_bytes());
    }
    bytes[24..27].copy_from_slice(&point.colour);
    bytes[27..31].copy_from_slice(&point.confidence.to_le_bytes());
    bytes[31] = point.views;
    bytes
}
