//! COLMAP's binary files: little-endian, every list preceded by its length. A length is believed only as far as the
//! file's own size allows, so that one that lies costs neither memory nor time.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use glam::DVec3;

use crate::files::{input, names};
use crate::scene::colmap::entries::{
    CameraEntry, CameraModel, FrameEntry, ImageEntry, Keypoint, PointEntry, Pose, RigEntry, Sensor,
};
use crate::{Error, Result};

/// `cameras.bin`.
pub(super) fn cameras(path: &Path) -> Result<Vec<CameraEntry>> {
    Source::open(path)?.list("camera", 24, |source| {
        let (id, model) = (source.u32()?, source.i32()?);
        let Some(model) = CameraModel::by_id(model) else {
            return Err(source.refuse(format!("camera {id} of unknown model {model}"), "a camera model from 0 to 17"));
        };
        let size = (source.u64()?, source.u64()?);
        let parameters = (0..model.parameters).map(|_| source.f64()).collect::<Result<_>>()?;
        Ok(CameraEntry { id, model, size, parameters })
    })
}

/// `images.bin`.
pub(super) fn images(path: &Path) -> Result<Vec<ImageEntry>> {
    Source::open(path)?.list("image", 73, |source| {
        let entry = ImageEntry { id: source.u32()?, pose: source.pose()?, camera: source.u32()?, name: source.name()? };
        let keypoints = source.count("keypoint", 24)?;
        source.skip(keypoints * 24)?;
        Ok(entry)
    })
}

/// The keypoints of `images.bin` that belong to a point, by image.
pub(super) fn keypoints(path: &Path) -> Result<Vec<(u32, Vec<Keypoint>)>> {
    Source::open(path)?.list("image", 73, |source| {
        let id = source.u32()?;
        source.pose()?;
        source.skip(4)?; // its camera
        source.name()?;
        let mut keypoints = Vec::new();
        for _ in 0..source.count("keypoint", 24)? {
            let (pixel, point) = ([source.f64()?, source.f64()?], source.u64()?);
            if point != u64::MAX {
                keypoints.push(Keypoint { pixel, point });
            }
        }
        Ok((id, keypoints))
    })
}

/// The number of images that `images.bin` says it holds, at most what its size allows.
pub(super) fn image_count(path: &Path) -> Result<u64> {
    let mut source = Source::open(path)?;
    Ok(source.u64()?.min(source.left / 73))
}

/// `points3D.bin`.
pub(super) fn points(path: &Path) -> Result<Vec<PointEntry>> {
    Source::open(path)?.list("point", 51, |source| {
        let id = source.u64()?;
        let position = DVec3::new(source.f64()?, source.f64()?, source.f64()?);
        source.skip(3)?; // its colour
        let error = source.f64()?;
        let track = source.count("observation", 8)?;
        let mut images = Vec::with_capacity(track as usize);
        for _ in 0..track {
            images.push(source.u32()?);
            source.skip(4)?; // the keypoint's index
        }
        Ok(PointEntry { id, position, error, images })
    })
}

/// `rigs.bin`.
pub(super) fn rigs(path: &Path) -> Result<Vec<RigEntry>> {
    Source::open(path)?.list("rig", 8, |source| {
        let (id, sensors) = (source.u32()?, source.u32()?);
        let reference = if sensors > 0 { Some(source.sensor()?) } else { None };
        let mut others = Vec::new();
        for _ in 1..sensors {
            let sensor = source.sensor()?;
            let has_pose = source.bytes::<1>()?[0] != 0;
            others.push((sensor, if has_pose { Some(source.pose()?) } else { None }));
        }
        Ok(RigEntry { id, reference, others })
    })
}

/// `frames.bin`.
pub(super) fn frames(path: &Path) -> Result<Vec<FrameEntry>> {
    Source::open(path)?.list("frame", 68, |source| {
        source.skip(4)?; // its number
        let (rig, rig_from_world, count) = (source.u32()?, source.pose()?, source.u32()?);
        let mut data = Vec::new();
        for _ in 0..count {
            data.push((source.sensor()?, source.u64()?));
        }
        Ok(FrameEntry { rig, rig_from_world, data })
    })
}

/// A file that is read from front to back, with what is needed to say where it went wrong.
struct Source {
    path: PathBuf,
    file: BufReader<File>,
    size: u64,
    /// Bytes not yet read.
    left: u64,
    /// What is being read, which one (from 1; 0 while their number is read) and of how many.
    entry: (&'static str, u64, u64),
}

impl Source {
    fn open(path: &Path) -> Result<Self> {
        let (file, size) = input::open(path, "open the COLMAP file")?;
        if size == 0 {
            let place = path.display().to_string();
            return Err(Error::input(place, "the file is empty", "a complete COLMAP binary file"));
        }
        let file = BufReader::with_capacity(1 << 18, file);
        Ok(Self { path: path.to_owned(), file, size, left: size, entry: ("image", 0, 0) })
    }

    /// The whole file: a count and that many entries of at least `least` bytes each.
    fn list<T>(
        mut self,
        what: &'static str,
        least: u64,
        mut entry: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        self.entry = (what, 0, 0);
        let count = self.count(what, least)?;
        let mut entries = Vec::with_capacity(count as usize);
        for i in 0..count {
            self.entry = (what, i + 1, count);
            entries.push(entry(&mut self)?);
        }
        if self.left > 0 {
            let found = format!("{} bytes after the last of {count} {what}s", self.left);
            return Err(self.refuse(found, "the end of the file"));
        }
        Ok(entries)
    }

    /// A 64-bit count of things of at least `least` bytes each.
    fn count(&mut self, what: &str, least: u64) -> Result<u64> {
        let count = self.u64()?;
        if count > self.left / least {
            let found = format!("a count of {count} {what}s, with {} bytes left in the file", self.left);
            return Err(self.refuse(found, "a complete COLMAP binary file"));
        }
        Ok(count)
    }

    fn refuse(&self, found: String, expected: &str) -> Error {
        Error::input(format!("{}: byte {}", self.path.display(), self.size - self.left), found, expected)
    }

    /// Counts `length` bytes as read, or says that they are not there.
    fn take(&mut self, length: u64) -> Result<()> {
        if length > self.left {
            let (what, number, count) = self.entry;
            let within = if number == 0 {
                format!("before the number of {what}s is complete")
            } else {
                format!("within {what} {number} of {count}")
            };
            return Err(Error::input(
                self.path.display().to_string(),
                format!("the file breaks off after {} bytes, {within}", self.size),
                "a complete COLMAP binary file",
            ));
        }
        self.left -= length;
        Ok(())
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N as u64)?;
        let mut bytes = [0; N];
        self.file.read_exact(&mut bytes).map_err(Error::io("read the COLMAP file", &self.path))?;
        Ok(bytes)
    }

    fn skip(&mut self, length: u64) -> Result<()> {
        self.take(length)?;
        // `seek_relative` keeps the buffer where it can; i64 holds any file's size.
        self.file.seek_relative(length as i64).map_err(Error::io("read the COLMAP file", &self.path))
    }

    fn u32(&mut self) -> Result<u32> {
        self.bytes().map(u32::from_le_bytes)
    }

    fn i32(&mut self) -> Result<i32> {
        self.bytes().map(i32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64> {
        self.bytes().map(u64::from_le_bytes)
    }

    fn f64(&mut self) -> Result<f64> {
        self.bytes().map(f64::from_le_bytes)
    }

    fn pose(&mut self) -> Result<Pose> {
        let mut values = [0.0; 7];
        for value in &mut values {
            *value = self.f64()?;
        }
        let [w, x, y, z, tx, ty, tz] = values;
        Ok(Pose { quaternion: [w, x, y, z], translation: [tx, ty, tz] })
    }

    fn sensor(&mut self) -> Result<Sensor> {
        Ok((self.i32()?, self.u32()?))
    }

    /// A file name, ended by a zero byte.
    fn name(&mut self) -> Result<PathBuf> {
        // Longer than any system's paths; without a limit a file without zeros would be swallowed whole.
        const LONGEST: u64 = 4096;
        let mut name = Vec::new();
        let limit = self.left.min(LONGEST);
        let read = (&mut self.file).take(limit).read_until(0, &mut name);
        let read = read.map_err(Error::io("read the COLMAP file", &self.path))? as u64;
        if name.pop() != Some(0) {
            if read == LONGEST {
                return Err(self.refuse(format!("a name of more than {LONGEST} bytes"), "an image's file name"));
            }
            self.take(u64::MAX)?;
        }
        self.take(read)?;
        Ok(names::from_bytes(name))
    }
}
