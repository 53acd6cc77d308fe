//! The surface of a tile in a file of its own, until those of all tiles are joined.
//!
//! A line of JSON ([`Header`]), the corners of its quads and its vertices as little-endian numbers, and the SHA-256 of
//! all that in hexadecimal. A part is written under another name and renamed when it is whole: two processes that make
//! it at once write the same bytes.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, counted};
use crate::files::atomic::write_whole;
use crate::files::folder::write_file;
use crate::files::hash::Hashing;
use crate::files::mirror;
use crate::mesh::surface::{Corners, Quads, Vertex};

/// Bytes of a quad's corners, and of a vertex with its key.
const QUAD: usize = 4 * 8;
const VERTEX: usize = 8 + 3 * 4;
/// Records that pass at once.
const AT_ONCE: usize = 1 << 12;
/// Bytes of a hash in hexadecimal.
const HASH: u64 = 64;
/// No line of a header is as long.
const MOST_HEADER: u64 = 1 << 16;
const READ: &str = "read the surface of a tile";
const EXPECTED: &str = "a part as it was made; remove it, and make it again (engine mesh OUT --shard J/M)";

/// What a part says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The plan's hash.
    pub plan: String,
    /// The tile, from 1.
    pub tile: usize,
    /// How many quads follow, ...
    pub quads: usize,
    /// ... and vertices, of which other tiles may have some, too.
    pub vertices: usize,
    /// Blocks of the tile.
    pub blocks: usize,
    /// Slabs that they were worked on in.
    pub slabs: usize,
    /// Views that were heard.
    pub views: usize,
}

impl Header {
    /// Writes the part with the surface that it is of.
    ///
    /// # Errors
    /// A full disk.
    pub fn write(&self, path: &Path, surface: &Quads) -> Result<()> {
        let (corners, vertices) = surface.parts();
        write_file(path, |path| {
            write_whole(path, "write the surface of a tile", |file| {
                let mut file = Hashing::new(file);
                serde_json::to_writer(&mut file, self)?;
                file.write_all(b"\n")?;
                let mut bytes = Vec::with_capacity(AT_ONCE * QUAD);
                for some in corners.chunks(AT_ONCE) {
                    bytes.clear();
                    some.iter().flatten().for_each(|key| bytes.extend_from_slice(&key.to_le_bytes()));
                    file.write_all(&bytes)?;
                }
                for some in vertices.chunks(AT_ONCE) {
                    bytes.clear();
                    for (key, position) in some {
                        bytes.extend_from_slice(&key.to_le_bytes());
                        position.iter().for_each(|side| bytes.extend_from_slice(&side.to_le_bytes()));
                    }
                    file.write_all(&bytes)?;
                }
                let (file, hash) = file.into_parts();
                file.write_all(hash.as_bytes())?;
                file.flush()?;
                // It is passed over later, and must not be less than its name says after a power cut.
                file.get_ref().sync_all()
            })
        })
    }
}

/// A part that is there, whole by its length.
#[derive(Debug)]
pub struct Part {
    path: PathBuf,
    /// What it says of itself.
    pub header: Header,
}

impl Part {
    /// Reads a part's header; `None` where there is no such file.
    ///
    /// # Errors
    /// A file that is no part, or not a whole one.
    pub fn open(path: &Path) -> Result<Option<Self>> {
        mirror::need(path)?;
        let file = match File::open(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(Error::io(READ, path))?,
        };
        let bytes = file.metadata().map_err(Error::io(READ, path))?.len();
        let bad = |problem: String| Error::input(path.display().to_string(), problem, EXPECTED);
        let mut line = Vec::new();
        let read = BufReader::new(file).take(MOST_HEADER.min(bytes)).read_until(b'\n', &mut line);
        read.map_err(Error::io(READ, path))?;
        let header: Header = serde_json::from_slice(&line).map_err(|_| bad("not the surface of a tile".into()))?;
        let all = |count: usize, size: usize| (count as u64).checked_mul(size as u64);
        let content = all(header.quads, QUAD).zip(all(header.vertices, VERTEX)).and_then(|(a, b)| a.checked_add(b));
        if content.and_then(|content| content.checked_add(line.len() as u64 + HASH)) != Some(bytes) {
            let quads = counted(header.quads, "quad");
            return Err(bad(format!("{bytes} bytes, which do not hold the {quads} that it is said to have")));
        }
        Ok(Some(Self { path: path.to_owned(), header }))
    }

    /// Its surface.
    ///
    /// # Errors
    /// A part that cannot be read, or is not what was written.
    pub fn surface(&self) -> Result<Quads> {
        let bad = |problem: &str| Error::input(self.path.display().to_string(), problem, EXPECTED);
        let (corners, vertices, is_as_written) = self.read().map_err(Error::io(READ, &self.path))?;
        let surface = Quads::of_parts(corners, vertices).filter(|_| is_as_written);
        surface.ok_or_else(|| bad("bytes that differ from those that were written"))
    }

    fn read(&self) -> io::Result<(Vec<Corners>, Vec<Vertex>, bool)> {
        let mut file = Hashing::new(BufReader::with_capacity(1 << 18, File::open(&self.path)?));
        // The header's line, byte by byte: nothing behind it may be hashed with it twice.
        let mut byte = [0];
        while byte != *b"\n" {
            file.read_exact(&mut byte)?;
        }
        let (mut corners, mut vertices) = (Vec::new(), Vec::new());
        corners.reserve_exact(self.header.quads);
        vertices.reserve_exact(self.header.vertices);
        let number = |bytes: &[u8], at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let side = |bytes: &[u8], at: usize| f32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        each_record::<QUAD>(&mut file, self.header.quads, |record| {
            corners.push(std::array::from_fn(|i| number(record, 8 * i)));
        })?;
        each_record::<VERTEX>(&mut file, self.header.vertices, |record| {
            vertices.push((number(record, 0), std::array::from_fn(|i| side(record, 8 + 4 * i))));
        })?;
        let (mut file, found) = file.into_parts();
        let mut hash = String::new();
        file.read_to_string(&mut hash)?;
        Ok((corners, vertices, found == hash))
    }
}

/// Gives so many records to `take`.
fn each_record<const SIZE: usize>(
    file: &mut impl Read,
    count: usize,
    mut take: impl FnMut(&[u8; SIZE]),
) -> io::Result<()> {
    let mut bytes = vec![0; AT_ONCE.min(count) * SIZE];
    for first in (0..count).step_by(AT_ONCE) {
        let some = &mut bytes[..AT_ONCE.min(count - first) * SIZE];
        file.read_exact(some)?;
        some.as_chunks::<SIZE>().0.iter().for_each(&mut take);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surfaces_come_back_and_damage_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tiles/1.part");
        assert!(Part::open(&path).unwrap().is_none());
        for count in [0, 1, 5000u64] {
            let vertices: Vec<_> = (0..2 * count + 4).map(|i| (3 * i, [i as f32, -0.5, 1e-3 * i as f32])).collect();
            let corners = (0..count).map(|i| [6 * i, 6 * i + 3, 3, 0]).collect();
            let surface = Quads::of_parts(corners, vertices).unwrap();
            let (quads, vertices) = (count as usize, 2 * count as usize + 4);
            let header = Header { plan: "abc".into(), tile: 3, quads, vertices, ..Header::default() };
            header.write(&path, &surface).unwrap();
            let part = Part::open(&path).unwrap().unwrap();
            assert_eq!(part.header, header);
            assert!(part.surface().unwrap().parts() == surface.parts(), "{count}");
        }
        let bytes = std::fs::read(&path).unwrap();
        for at in [2, bytes.len() / 2, bytes.len() - 1] {
            let mut spoilt = bytes.clone();
            spoilt[at] ^= 1;
            std::fs::write(&path, &spoilt).unwrap();
            let read = Part::open(&path).and_then(|part| part.unwrap().surface());
            let message = read.err().unwrap().to_string();
            assert!(message.contains("expected a part as it was made"), "{message}");
        }
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        let message = Part::open(&path).err().unwrap().to_string();
        assert!(message.contains("bytes, which do not hold the 5000 quads that it is said to have"), "{message}");
        assert!(Quads::of_parts(vec![[0, 1, 2, 3]], vec![(0, [0.0; 3])]).is_none());
    }
}
