//! The points of a tile in a file of their own, until those of all tiles are joined.
//!
//! A line of JSON ([`Header`]), the points in the order of their pixels, and the SHA-256 of all that in hexadecimal. A
//! part is written under another name and renamed when it is whole: two processes that make it at once write the same
//! bytes.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::files::atomic::write_whole;
use crate::files::folder::write_file;
use crate::files::hash::{Hashing, hexadecimal};
use crate::files::mirror;
use crate::files::point_file::{self, POINT_BYTES};
use crate::files::scratch::Scratch;
use crate::fusion::funnel::Funnel;
use crate::fusion::tiled::TilePoint;
use crate::maps::valid::Invalid;

/// Bytes of a point and of the pixel that it is of (two u32).
const RECORD: usize = 8 + POINT_BYTES;
/// Points that are written at once.
const AT_ONCE: usize = 1 << 12;
/// Bytes of a hash in hexadecimal.
const HASH: u64 = 64;
/// No line of a header is as long.
const MOST_HEADER: u64 = 1 << 30;

/// What a part says of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// The plan's hash.
    pub plan: String,
    /// The tile, from 1.
    pub tile: usize,
    /// How many points follow.
    pub points: usize,
    /// Pixels that were asked again with a wider halo.
    pub again: usize,
    /// What became of the tile's pixels, by view; views that had none are left out.
    pub funnels: Vec<(usize, Funnel)>,
    /// What was found in the maps of the views that were read.
    pub views: Vec<(usize, Told)>,
}

/// What is to be told of a view's maps, whatever tile they were read for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// Pixels in range that it lost with its specks.
    pub specks: usize,
    /// As in [`crate::run::fuse_views::ReadView`].
    pub has_confidence: bool,
    /// Likewise.
    pub is_masked: bool,
    /// Likewise.
    pub is_empty: bool,
    /// Likewise.
    pub invalid: Invalid,
}

/// Points that come in the order of their pixels, on disk until their number is known.
pub struct Points {
    scratch: Scratch,
    count: usize,
    /// Some that were decided later; in order.
    late: Vec<TilePoint>,
}

impl Points {
    /// None so far, on the disk of the folder.
    ///
    /// # Errors
    /// Those of [`Scratch::new`].
    pub fn new(folder: &Path) -> Result<Self> {
        Ok(Self { scratch: Scratch::new(folder)?, count: 0, late: Vec::new() })
    }

    /// Adds points behind those that are there.
    ///
    /// # Errors
    /// A full disk.
    pub fn append(&mut self, points: &[TilePoint]) -> Result<()> {
        let mut bytes = Vec::with_capacity(points.len().min(AT_ONCE) * RECORD);
        for some in points.chunks(AT_ONCE) {
            bytes.clear();
            some.iter().for_each(|point| write_record(point, &mut bytes));
            self.scratch.append(&bytes)?;
        }
        self.count += points.len();
        Ok(())
    }

    /// Adds points wherever their pixels belong.
    pub fn add_late(&mut self, points: Vec<TilePoint>) {
        self.late.extend(points);
        self.late.sort_unstable_by_key(|point| point.of);
    }

    /// Number of points.
    pub fn len(&self) -> usize {
        self.count + self.late.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Gives all points to `take`, in the order of their pixels.
    fn each(&self, mut take: impl FnMut(&TilePoint) -> io::Result<()>) -> io::Result<()> {
        let mut late = self.late.iter().peekable();
        let mut bytes = vec![0; AT_ONCE.min(self.count) * RECORD];
        for first in (0..self.count).step_by(AT_ONCE) {
            let some = &mut bytes[..AT_ONCE.min(self.count - first) * RECORD];
            self.scratch.read((first * RECORD) as u64, some).map_err(io::Error::other)?;
            for record in some.as_chunks::<RECORD>().0 {
                let point = read_record(record);
                while let Some(earlier) = late.next_if(|late| late.of < point.of) {
                    take(earlier)?;
                }
                take(&point)?;
            }
        }
        late.try_for_each(take)
    }

    /// Writes the part.
    ///
    /// # Errors
    /// A full disk.
    pub fn write(&self, path: &Path, header: &Header) -> Result<()> {
        const ACTION: &str = "write the points of a tile";
        write_file(path, |path| {
            write_whole(path, ACTION, |file| {
                let mut file = Hashing::new(file);
                serde_json::to_writer(&mut file, header)?;
                file.write_all(b"\n")?;
                let mut bytes = Vec::with_capacity(AT_ONCE * RECORD);
                self.each(|point| {
                    write_record(point, &mut bytes);
                    if bytes.len() == AT_ONCE * RECORD {
                        file.write_all(&bytes)?;
                        bytes.clear();
                    }
                    Ok(())
                })?;
                file.write_all(&bytes)?;
                let (file, hash) = file.into_parts();
                file.write_all(hash.as_bytes())?;
                file.flush()?;
                // It is passed over later, and must not be less than its name says after a power cut.
                file.get_ref().sync_all()
            })
        })
    }
}

fn write_record(TilePoint { of: (view, pixel), point }: &TilePoint, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&view.to_le_bytes());
    bytes.extend_from_slice(&pixel.to_le_bytes());
    point_file::write(point, bytes);
}

fn read_record(bytes: &[u8; RECORD]) -> TilePoint {
    let number = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
    let point = std::array::from_fn(|i| bytes[8 + i]);
    TilePoint { of: (number(0), number(4)), point: point_file::read(&point) }
}

/// A part that is there, whole by its length.
pub struct Part {
    path: PathBuf,
    /// What it says of itself.
    pub header: Header,
    /// Where its points begin.
    first: u64,
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
            file => file.map_err(Error::io("read the points of a tile", path))?,
        };
        let bytes = file.metadata().map_err(Error::io("read the points of a tile", path))?.len();
        let bad = |problem: String| Error::input(path.display().to_string(), problem, EXPECTED);
        let mut line = Vec::new();
        let read = BufReader::new(file).take(MOST_HEADER.min(bytes)).read_until(b'\n', &mut line);
        read.map_err(Error::io("read the points of a tile", path))?;
        let header: Header = serde_json::from_slice(&line).map_err(|_| bad("not the points of a tile".to_owned()))?;
        let first = line.len() as u64;
        let expected = (header.points as u64).checked_mul(RECORD as u64).and_then(|all| all.checked_add(first + HASH));
        if expected != Some(bytes) {
            let points = crate::error::counted(header.points, "point");
            return Err(bad(format!("{bytes} bytes, which do not hold the {points} that it is said to have")));
        }
        Ok(Some(Self { path: path.to_owned(), header, first }))
    }

    /// Its points, of which so many are read at once.
    pub fn points(&self, at_once: usize) -> Reader<'_> {
        Reader { part: self, at_once: at_once.max(1), next: 0, hasher: None, ready: Vec::new().into_iter() }
    }
}

const EXPECTED: &str = "a part as it was made; remove it, and make it again (engine fuse OUT --shard J/M)";

/// Reads the points of a part. The file is opened for each read: there may be more parts than a process may hold open.
pub struct Reader<'a> {
    part: &'a Part,
    at_once: usize,
    next: usize,
    hasher: Option<Sha256>,
    ready: std::vec::IntoIter<TilePoint>,
}

impl Reader<'_> {
    /// The next point; `None` behind the last.
    ///
    /// # Errors
    /// A part that cannot be read, or is not what was written.
    pub fn next_point(&mut self) -> Result<Option<TilePoint>> {
        if self.ready.len() == 0 && (self.next < self.part.header.points || self.hasher.is_none()) {
            self.ready = self.read().map_err(Error::io("read the points of a tile", &self.part.path))?.into_iter();
            if self.next == self.part.header.points {
                self.check()?;
            }
        }
        Ok(self.ready.next())
    }

    fn read(&mut self) -> io::Result<Vec<TilePoint>> {
        let mut file = File::open(&self.part.path)?;
        if self.hasher.is_none() {
            let mut header = vec![0; self.part.first as usize];
            file.read_exact(&mut header)?;
            self.hasher = Some(Sha256::new_with_prefix(&header));
        }
        let count = self.at_once.min(self.part.header.points - self.next);
        file.seek(SeekFrom::Start(self.part.first + (self.next * RECORD) as u64))?;
        let mut bytes = vec![0; count * RECORD];
        file.read_exact(&mut bytes)?;
        self.next += count;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&bytes);
        }
        Ok(bytes.as_chunks::<RECORD>().0.iter().map(read_record).collect())
    }

    /// That all that was read is what was written.
    fn check(&mut self) -> Result<()> {
        let path = &self.part.path;
        let mut hash = String::new();
        let mut read = || {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(self.part.first + (self.next * RECORD) as u64))?;
            file.take(HASH).read_to_string(&mut hash)
        };
        read().map_err(Error::io("read the points of a tile", path))?;
        let found = self.hasher.clone().map(hexadecimal);
        if found.as_ref() != Some(&hash) {
            let problem = "bytes that differ from those that were written";
            return Err(Error::input(path.display().to_string(), problem, EXPECTED));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::ply::Point;

    fn point(view: u32, pixel: u32) -> TilePoint {
        let position = [f64::from(view), f64::from(pixel), -0.5];
        let point = Point { position, normal: [0.0, -1.0, 0.25], colour: [1, 2, 3], confidence: 0.9, views: 4 };
        TilePoint { of: (view, pixel), point }
    }

    fn all(part: &Part, at_once: usize) -> Result<Vec<TilePoint>> {
        let mut points = part.points(at_once);
        std::iter::from_fn(|| points.next_point().transpose()).collect()
    }

    #[test]
    fn points_come_back_in_order_and_damage_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tiles/1.part");
        assert!(Part::open(&path).unwrap().is_none());
        for (count, late) in [(0, vec![]), (0, vec![5]), (1, vec![0, 2]), (9000, vec![8999, 3, 20_000])] {
            let early: Vec<TilePoint> = (0..count).map(|i| point(2 * i / 100, 2 * i + 1)).collect();
            let late: Vec<TilePoint> = late.into_iter().map(|i: u32| point(i / 100, i - i % 2)).collect();
            let mut points = Points::new(folder.path()).unwrap();
            early.chunks(700).for_each(|some| points.append(some).unwrap());
            points.add_late(late.clone());
            let header = Header { plan: "abc".into(), tile: 3, points: points.len(), ..Header::default() };
            points.write(&path, &header).unwrap();
            let part = Part::open(&path).unwrap().unwrap();
            let mut expected = [early, late].concat();
            expected.sort_by_key(|point| point.of);
            assert_eq!(part.header, header);
            for at_once in [1, 1000, 100_000] {
                assert!(all(&part, at_once).unwrap() == expected, "{count}");
            }
        }
        let bytes = std::fs::read(&path).unwrap();
        for at in [2, bytes.len() / 2, bytes.len() - 1] {
            let mut spoilt = bytes.clone();
            spoilt[at] ^= 1;
            std::fs::write(&path, &spoilt).unwrap();
            let read = Part::open(&path).and_then(|part| all(&part.unwrap(), 1000));
            let message = read.unwrap_err().to_string();
            assert!(message.contains("expected a part as it was made"), "{message}");
        }
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        let message = Part::open(&path).err().unwrap().to_string();
        assert!(message.contains("bytes, which do not hold the 9003 points that it is said to have"), "{message}");
    }
}
