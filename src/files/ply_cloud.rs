//! Clouds that this program has written ([`crate::files::ply`]) with all that they say of a point, one point after the
//! other: a cloud need not fit into memory. Other PLY files have their positions read by [`crate::files::ply_points`].

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::files::input;
use crate::files::ply::{PROPERTIES, Point};
use crate::files::ply_storage::{OFFSET_COMMENT, Storage};
use crate::host::interrupt;

/// Longest header that is looked at; this program's have some 400 bytes.
const LONGEST_HEADER: u64 = 1 << 16;
/// Points that are read at a time.
const BLOCK: usize = 1 << 13;

/// A cloud's file: what its header says.
#[derive(Clone, Debug)]
pub struct CloudFile {
    path: PathBuf,
    /// Points in it.
    pub count: u64,
    /// How coordinates are stored.
    pub storage: Storage,
    /// Bytes before the first point.
    header: u64,
}

impl CloudFile {
    /// Reads the header.
    ///
    /// # Errors
    /// [`Error::Io`] where the file cannot be read; [`Error::Input`] where it is no cloud of this program, or its size
    /// is not the one that its header states.
    pub fn open(path: &Path) -> Result<Self> {
        let (file, size) = input::open(path, "open the point cloud")?;
        let mut lines = BufReader::new(file.take(LONGEST_HEADER));
        let (mut header, mut text) = (0, Vec::new());
        let (mut count, mut offset, mut format) = (None, [0.0; 3], false);
        let mut properties: Vec<(String, String)> = Vec::new();
        let foreign = |line: usize, found: &str| {
            let found = found.trim_end().chars().take(60).collect::<String>().escape_debug().to_string();
            let expected = "the header of a cloud as this program writes it (fused.ply): run `engine infer` again, or \
                            put the file back that it has written";
            Error::input(format!("{}: line {line}", path.display()), format!("'{found}'"), expected)
        };
        for number in 1.. {
            text.clear();
            let read = lines.read_until(b'\n', &mut text).map_err(Error::io("read the point cloud", path))?;
            header += read as u64;
            let line = String::from_utf8_lossy(&text);
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            match words[..] {
                ["ply"] if number == 1 => {}
                ["format", "binary_little_endian", "1.0"] => format = true,
                ["comment", OFFSET_COMMENT, x, y, z] => {
                    let numbers = [x, y, z].map(|word| word.parse().ok().filter(|v: &f64| v.is_finite()));
                    let [Some(x), Some(y), Some(z)] = numbers else { return Err(foreign(number, &line)) };
                    offset = [x, y, z];
                }
                ["comment", ..] => {}
                ["element", "vertex", points] if count.is_none() => {
                    count = Some(points.parse::<u64>().map_err(|_| foreign(number, &line))?);
                }
                ["property", kind, name] if count.is_some() => properties.push((kind.to_owned(), name.to_owned())),
                ["end_header"] if format && count.is_some() => break,
                _ => return Err(foreign(number, &line)),
            }
        }
        let double = properties.first().is_some_and(|(kind, _)| kind == "double");
        let expected = PROPERTIES.iter().enumerate().map(|(at, (kind, name))| {
            let kind = if double && at < 3 { "double" } else { kind };
            (kind.to_owned(), (*name).to_owned())
        });
        if !expected.eq(properties.iter().cloned()) {
            let names: Vec<&str> = properties.iter().map(|(_, name)| name.as_str()).collect();
            return Err(foreign(header_lines(&properties), &names.join(" ")));
        }
        let cloud =
            Self { path: path.to_owned(), count: count.unwrap_or(0), storage: Storage { double, offset }, header };
        let stated = cloud.count.checked_mul(cloud.stride() as u64).and_then(|bytes| bytes.checked_add(header));
        if stated != Some(size) {
            return Err(Error::input(
                path.display().to_string(),
                format!("{size} bytes, but its header states {} points", cloud.count),
                "a whole cloud; it is truncated or was changed: run `engine infer` again",
            ));
        }
        Ok(cloud)
    }

    /// Bytes of a point.
    fn stride(&self) -> usize {
        if self.storage.double { 44 } else { 32 }
    }

    /// Gives every point, in the file's order, with the offset added. What `take` returns ends the reading.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Interrupted`]; [`Error::Input`] for a point without finite coordinates; what `take`
    /// says.
    pub fn each(&self, mut take: impl FnMut(&Point) -> Result<()>) -> Result<()> {
        let (file, _) = input::open(&self.path, "open the point cloud")?;
        let mut file: BufReader<File> = BufReader::with_capacity(1 << 18, file);
        let failed = |e| Error::io("read the point cloud", &self.path)(e);
        std::io::copy(&mut Read::by_ref(&mut file).take(self.header), &mut std::io::sink()).map_err(failed)?;
        let mut bytes = vec![0; BLOCK * self.stride()];
        let mut done = 0;
        while done < self.count {
            interrupt::check()?;
            let block = (self.count - done).min(BLOCK as u64) as usize;
            let bytes = &mut bytes[..block * self.stride()];
            file.read_exact(bytes).map_err(failed)?;
            for vertex in bytes.chunks_exact(self.stride()) {
                let point = self.point(vertex);
                if !point.position.iter().all(|v| v.is_finite()) {
                    let place = format!("{}: point {done}", self.path.display());
                    return Err(Error::input(place, "a coordinate that is not finite", "a cloud of this program"));
                }
                take(&point)?;
                done += 1;
            }
        }
        Ok(())
    }

    /// The point of these bytes.
    fn point(&self, vertex: &[u8]) -> Point {
        let float = |at: usize| f32::from_le_bytes([vertex[at], vertex[at + 1], vertex[at + 2], vertex[at + 3]]);
        let double = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&vertex[at..at + 8]);
            f64::from_le_bytes(bytes)
        };
        let (stored, rest) = match self.storage.double {
            true => ([0, 8, 16].map(double), 24),
            false => ([0, 4, 8].map(|at| f64::from(float(at))), 12),
        };
        Point {
            position: [0, 1, 2].map(|axis| stored[axis] + self.storage.offset[axis]),
            normal: [0, 4, 8].map(|at| float(rest + at)),
            colour: [12, 13, 14].map(|at| vertex[rest + at]),
            confidence: float(rest + 15),
            views: vertex[rest + 19],
        }
    }
}

/// The number of the line before `end_header`, of a header without comments: near enough for a message.
fn header_lines(properties: &[(String, String)]) -> usize {
    3 + properties.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::ply;
    use crate::files::ply_storage::OffsetOption;

    fn points(x: f64) -> Vec<Point> {
        let point = |i: u8| Point {
            position: [x + 0.25 * f64::from(i), -2.5, 1e-3 * f64::from(i)],
            normal: [0.0, 0.6, -0.8],
            colour: [i, 255 - i, 7],
            confidence: f32::from(i) / 200.0,
            views: i,
        };
        (0..200).map(point).collect()
    }

    #[test]
    fn what_was_written_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cloud.ply");
        for (x, option) in [(0.0, OffsetOption::None), (5e6, OffsetOption::None), (5e6, OffsetOption::Auto)] {
            let points = points(x);
            let storage = ply::storage_of(&points, option);
            ply::write(&path, &points, storage, &["made by a test".to_owned()]).unwrap();
            let cloud = CloudFile::open(&path).unwrap();
            assert_eq!((cloud.count, cloud.storage), (200, storage));
            let mut found = Vec::new();
            cloud
                .each(|point| {
                    found.push(*point);
                    Ok(())
                })
                .unwrap();
            let rounded = |p: &Point| Point { position: storage.read_back(p.position), ..*p };
            assert_eq!(found, points.iter().map(rounded).collect::<Vec<_>>());
        }
    }

    #[test]
    fn other_clouds_are_refused_in_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cloud.ply");
        ply::write(&path, &points(0.0), Storage::default(), &[]).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let says = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            CloudFile::open(&path).unwrap_err().to_string()
        };
        assert!(says(&whole[..whole.len() - 1]).contains("its header states 200 points"));
        assert!(says(b"").contains("line 1: ''"));
        assert!(says(b"\xff\xd8 a photo").contains("line 1"));
        let other = String::from_utf8_lossy(&whole[..300]).replace("confidence", "quality");
        assert!(says(other.as_bytes()).contains("x y z nx ny nz red green blue quality views"));
    }
}
