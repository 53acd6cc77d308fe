//! Corners and faces of OBJ meshes: the lines `v` and `f`. Everything else (normals, texture places, groups, materials)
//! is passed over, and so is what stands behind a `/` in a face.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use glam::DVec3;

use crate::files::input;
use crate::host::interrupt;
use crate::{Error, Result};

/// Longest line, in bytes.
const LONGEST: usize = 1 << 20;

/// Vertices, and faces of three of their numbers from 0; larger ones are cut into triangles around their first corner.
///
/// # Errors
/// [`Error::Io`] where the file cannot be read; what `refuse` makes of a line that is wrong.
pub fn read(path: &Path, refuse: impl Fn(String) -> Error) -> Result<(Vec<DVec3>, Vec<[usize; 3]>)> {
    let (file, _) = input::open(path, "open the mesh")?;
    let mut file = BufReader::new(file);
    let mut points: Vec<DVec3> = Vec::new();
    let mut faces = Vec::new();
    // The first line that names a vertex beyond, and that vertex: it may still come.
    let mut furthest = (0, 0);
    let mut bytes = Vec::new();
    for line in 1u64.. {
        if line.is_multiple_of(1 << 16) {
            interrupt::check()?;
        }
        bytes.clear();
        let limited = Read::by_ref(&mut file).take(LONGEST as u64);
        let length = { limited }.read_until(b'\n', &mut bytes).map_err(Error::io("read the mesh", path))?;
        if length == LONGEST {
            return Err(refuse(format!("line {line} of more than 1 MiB")));
        }
        if length == 0 {
            break;
        }
        let text = String::from_utf8_lossy(&bytes);
        let wrong = |what: &str| refuse(format!("line {line}: '{}', {what}", shortened(&text)));
        let mut words = text.split_ascii_whitespace();
        match words.next() {
            Some("v") => {
                let mut number = || words.next().and_then(|word| word.parse::<f64>().ok());
                let [Some(x), Some(y), Some(z)] = [number(), number(), number()] else {
                    return Err(wrong("a vertex without three numbers"));
                };
                points.push(DVec3::new(x, y, z));
            }
            Some("f") => {
                let corner = |word: &str| {
                    let number = word.split('/').next()?.parse::<i64>().ok()?;
                    // From 1 on, or backwards from the last vertex so far.
                    let from_0 = if number < 0 { number.checked_add(points.len() as i64)? } else { number - 1 };
                    usize::try_from(from_0).ok()
                };
                let corners: Option<Vec<usize>> = words.map(corner).collect();
                let Some(corners) = corners.filter(|corners| !corners.is_empty()) else {
                    return Err(wrong("a face with a vertex that is out of bounds or no number"));
                };
                let most = corners.iter().copied().max().unwrap_or(0);
                furthest = if most >= points.len() && most > furthest.1 { (line, most) } else { furthest };
                faces.extend(corners.windows(2).skip(1).map(|pair| [corners[0], pair[0], pair[1]]));
            }
            _ => {}
        }
    }
    if furthest.0 > 0 && furthest.1 >= points.len() {
        let (line, vertex) = (furthest.0, furthest.1 as u128 + 1);
        return Err(refuse(format!(
            "line {line}: a face with vertex {vertex}, out of bounds: there are {}",
            points.len()
        )));
    }
    Ok((points, faces))
}

/// The beginning of a line, for messages.
fn shortened(text: &str) -> String {
    text.trim().chars().take(60).collect::<String>().escape_debug().to_string()
}
