//! Points that are put aside on disk in the order in which they come, until their number is known.

use std::io;
use std::path::Path;

use crate::Result;
use crate::files::ply::{self, Point};
use crate::files::ply_storage::{Extent, OffsetOption, Storage};
use crate::files::scratch::Scratch;

/// Bytes of a point: position (three f64), normal (three f32), colour, number of views, confidence (f32); numbers in
/// little endian.
pub const POINT_BYTES: usize = 44;
/// Points that are read at once.
const AT_ONCE: usize = 1 << 12;

/// A cloud on disk.
#[derive(Debug)]
pub struct PointFile {
    scratch: Scratch,
    count: usize,
    extent: Extent,
}

impl PointFile {
    /// Without points, on the disk that the folder is on.
    ///
    /// # Errors
    /// Those of [`Scratch::new`].
    pub fn new(folder: &Path) -> Result<Self> {
        Ok(Self { scratch: Scratch::new(folder)?, count: 0, extent: Extent::default() })
    }

    /// Number of points.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds points behind those that are there.
    ///
    /// # Errors
    /// A full disk.
    pub fn append(&mut self, points: &[Point]) -> Result<()> {
        let mut bytes = Vec::with_capacity(AT_ONCE.min(points.len()) * POINT_BYTES);
        for some in points.chunks(AT_ONCE) {
            bytes.clear();
            some.iter().for_each(|point| write(point, &mut bytes));
            self.scratch.append(&bytes)?;
            some.iter().for_each(|point| self.extent.add(point.position));
            self.count += some.len();
        }
        Ok(())
    }

    /// How the points' coordinates are to be stored in a PLY file.
    ///
    /// # Errors
    /// Points that cannot be read back.
    pub fn storage(&self, option: OffsetOption) -> Result<Storage> {
        let position = |index: usize| {
            let mut position = [0f64; 3];
            self.scratch.read((index * POINT_BYTES) as u64, bytemuck::cast_slice_mut(&mut position))?;
            Ok(position.map(|number| f64::from_bits(u64::from_le(number.to_bits()))))
        };
        Storage::of_extent(self.count, &self.extent, position, option)
    }

    /// Writes them as [`ply::write_hashed`] does.
    ///
    /// # Errors
    /// As there; points that cannot be read back.
    pub fn write_ply(&self, path: &Path, storage: Storage, comments: &[String]) -> Result<String> {
        ply::write_each(path, self.count, storage, comments, |write| self.each(write))
    }

    /// Gives all points to `take`, in their order.
    fn each(&self, mut take: impl FnMut(&Point) -> io::Result<()>) -> io::Result<()> {
        let mut bytes = vec![0; AT_ONCE.min(self.count) * POINT_BYTES];
        for first in (0..self.count).step_by(AT_ONCE) {
            let some = &mut bytes[..AT_ONCE.min(self.count - first) * POINT_BYTES];
            self.scratch.read((first * POINT_BYTES) as u64, some).map_err(io::Error::other)?;
            some.as_chunks::<POINT_BYTES>().0.iter().try_for_each(|bytes| take(&read(bytes)))?;
        }
        Ok(())
    }
}

/// Adds a point to bytes.
pub fn write(point: &Point, bytes: &mut Vec<u8>) {
    point.position.iter().for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
    point.normal.iter().for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
    bytes.extend_from_slice(&point.colour);
    bytes.push(point.views);
    bytes.extend_from_slice(&point.confidence.to_le_bytes());
}

/// The point that was written so.
pub fn read(bytes: &[u8; POINT_BYTES]) -> Point {
    let double = |at: usize| f64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
    let float = |at: usize| f32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
    Point {
        position: [double(0), double(8), double(16)],
        normal: [float(24), float(28), float(32)],
        colour: [bytes[36], bytes[37], bytes[38]],
        views: bytes[39],
        confidence: float(40),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::ply::storage_of;

    #[test]
    fn points_come_back_as_they_were_and_are_stored_as_those_in_memory() {
        let folder = tempfile::tempdir().unwrap();
        let point = |i: usize, offset: f64| Point {
            position: [offset + 0.01 * (i % 100) as f64, 0.01 * (i / 100) as f64 - offset, -0.5 * i as f64],
            normal: [i as f32, -1.5, 1e-30],
            colour: [i as u8, (i >> 8) as u8, 7],
            confidence: 1.0 / (i + 1) as f32,
            views: (i % 256) as u8,
        };
        for (count, offset) in [(0, 0.0), (1, 5e6), (2, 1.0), (10_000, 0.0), (10_000, 4e6), (4097, -4e7)] {
            let points: Vec<Point> = (0..count).map(|i| point(i, offset)).collect();
            let mut file = PointFile::new(folder.path()).unwrap();
            for some in points.chunks(4100) {
                file.append(some).unwrap();
            }
            let mut back = Vec::new();
            let mut keep = |point: &Point| {
                back.push(*point);
                Ok(())
            };
            file.each(&mut keep).unwrap();
            assert!(back == points && file.len() == count && file.is_empty() == (count == 0));
            for option in [OffsetOption::None, OffsetOption::Auto, OffsetOption::Given([offset, 3.5, 1e5])] {
                assert_eq!(file.storage(option).unwrap(), storage_of(&points, option), "{count} {offset} {option}");
            }
        }
    }
}
