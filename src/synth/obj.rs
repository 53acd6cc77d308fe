//! Corners and faces of OBJ meshes: the lines `v` and `f`. Everything else (normals, texture places, groups, materials)
//! is passed over. What stands behind a `/` in a face must number a texture place or a normal that is there: a file
//! where it does not is damaged, and its faces may be, too.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use glam::DVec3;

use crate::files::input;
use crate::host::interrupt;
use crate::{Error, Result};

/// What the numbers of a face's corner, divided by `/`, stand for.
const KINDS: [&str; 3] = ["vertex", "texture place", "normal"];
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
    // Of each kind: how many there are so far, and the furthest that a line has named before it came, with that line.
    let (mut counts, mut furthest) = ([0; KINDS.len()], [None::<(u64, usize)>; KINDS.len()]);
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
                counts[0] += 1;
            }
            Some("vt") => counts[1] += 1,
            Some("vn") => counts[2] += 1,
            Some("f") => {
                let mut corners = Vec::new();
                for word in words {
                    for (kind, part) in word.split('/').take(KINDS.len()).enumerate() {
                        // Texture places and normals may be left out.
                        if kind > 0 && part.is_empty() {
                            continue;
                        }
                        let Some(at) = number_from_0(part, counts[kind]) else {
                            let found = format!("a face with a {} that is out of bounds or no number", KINDS[kind]);
                            return Err(wrong(&found));
                        };
                        if at >= counts[kind] && furthest[kind].is_none_or(|(_, most)| at > most) {
                            furthest[kind] = Some((line, at));
                        }
                        if kind == 0 {
                            corners.push(at);
                        }
                    }
                }
                if corners.is_empty() {
                    return Err(wrong("a face without vertices"));
                }
                faces.extend(corners.windows(2).skip(1).map(|pair| [corners[0], pair[0], pair[1]]));
            }
            _ => {}
        }
    }
    for ((kind, count), furthest) in KINDS.iter().zip(counts).zip(furthest) {
        if let Some((line, at)) = furthest.filter(|&(_, at)| at >= count) {
            let number = at as u128 + 1;
            return Err(refuse(format!("line {line}: a face with {kind} {number}, out of bounds: there are {count}")));
        }
    }
    Ok((points, faces))
}

/// What an index in a face counts from 1 on, or backwards from the last one so far.
fn number_from_0(text: &str, count: usize) -> Option<usize> {
    let number = text.parse::<i64>().ok()?;
    let from_0 = if number < 0 { number.checked_add(count as i64)? } else { number - 1 };
    usize::try_from(from_0).ok()
}

/// The beginning of a line, for messages.
fn shortened(text: &str) -> String {
    text.trim().chars().take(60).collect::<String>().escape_debug().to_string()
}
