//! COLMAP's text files: one entry a line (images: two), words separated by blanks, comments after `#`.

use std::path::{Path, PathBuf};
use std::str::{FromStr, SplitWhitespace};

use glam::DVec3;

use crate::files::input::{self, read_text};
use crate::files::names;
use crate::scene::colmap::entries::{
    CAMERA_SENSOR, CameraEntry, CameraModel, FrameEntry, ImageEntry, Keypoint, PointEntry, Pose, RigEntry, Sensor,
};
use crate::{Error, Result};

/// `cameras.txt`: number, model, width, height, parameters.
pub(super) fn cameras(path: &Path) -> Result<Vec<CameraEntry>> {
    each_line(path, "number, model, width, height and parameters of a camera", |words| {
        let id = words.next("camera number")?;
        let name: String = words.next("camera model")?;
        let Some(model) = CameraModel::by_name(&name) else {
            return Err(words.refuse(format!("camera {id} of unknown model {name}")));
        };
        let size = (words.next("width")?, words.next("height")?);
        let parameters = (0..model.parameters).map(|_| words.next("camera parameter")).collect::<Result<_>>()?;
        words.end()?;
        Ok(CameraEntry { id, model, size, parameters })
    })
}

/// `images.txt`: number, quaternion, translation, camera, name; then a line, perhaps empty, of keypoints. The second
/// answer is how many images have no such line at all.
pub(super) fn images(path: &Path) -> Result<(Vec<ImageEntry>, usize)> {
    // Not the keypoints: the points' tracks say who sees what.
    each_image(path, "number, qw qx qy qz, tx ty tz, camera and name of an image", |words, _| {
        let (id, pose, camera) = (words.next("image number")?, words.pose()?, words.next("camera number")?);
        // The name is the rest of the line: it may hold blanks.
        let name = words.rest();
        if name.as_os_str().is_empty() {
            return Err(words.refuse("a line that ends before the name".into()));
        }
        Ok(ImageEntry { id, pose, camera, name })
    })
}

/// The keypoints of `images.txt` that belong to a point, by image: x, y and the point's number (-1: none), again and
/// again.
pub(super) fn keypoints(path: &Path) -> Result<Vec<(u32, Vec<Keypoint>)>> {
    let images = each_image(path, "number of an image", |image, keypoint_line| {
        let id = image.next("image number")?;
        let mut keypoints = Vec::new();
        if let Some((i, line)) = keypoint_line {
            let mut words = Words::new(path, i + 1, line, "x, y and number of the point of each keypoint");
            while let Some(x) = words.optional("x")? {
                // Wider than the numbers themselves: u64, or -1 (by some written as the largest u64) for no point.
                let (pixel, point): ([f64; 2], i128) = ([x, words.next("y")?], words.next("point number")?);
                let point = u64::try_from(point).ok().filter(|&point| point != u64::MAX);
                keypoints.extend(point.map(|point| Keypoint { pixel, point }));
            }
        }
        Ok((id, keypoints))
    });
    images.map(|(images, _)| images)
}

/// `points3D.txt`: number, position, colour, error, then (image, keypoint) pairs.
pub(super) fn points(path: &Path) -> Result<Vec<PointEntry>> {
    each_line(path, "number, x y z, r g b, error and (image, keypoint) pairs of a point", |words| {
        let id = words.next("point number")?;
        let position = DVec3::new(words.next("x")?, words.next("y")?, words.next("z")?);
        // Not used, and by some programs written with decimals or beyond 255.
        for channel in ["red", "green", "blue"] {
            let _: f64 = words.next(channel)?;
        }
        let error = words.next("error")?;
        let mut images = Vec::new();
        while let Some(image) = words.optional("image number")? {
            images.push(image);
            let _: u32 = words.next("keypoint index")?;
        }
        Ok(PointEntry { id, position, error, images })
    })
}

/// `rigs.txt`: number, number of sensors, reference sensor, then the others, each with its pose if it has one.
pub(super) fn rigs(path: &Path) -> Result<Vec<RigEntry>> {
    each_line(path, "number, number of sensors, reference sensor and other sensors of a rig", |words| {
        let id = words.next("rig number")?;
        let count: u32 = words.next("number of sensors")?;
        let reference = if count > 0 { Some(words.sensor()?) } else { None };
        let mut others = Vec::new();
        for _ in 1..count {
            let sensor = words.sensor()?;
            let has_pose: u8 = words.next("0 or 1 for a pose")?;
            others.push((sensor, if has_pose != 0 { Some(words.pose()?) } else { None }));
        }
        words.end()?;
        Ok(RigEntry { id, reference, others })
    })
}

/// `frames.txt`: number, rig, quaternion, translation, number of data, then (sensor type, sensor, number) each.
pub(super) fn frames(path: &Path) -> Result<Vec<FrameEntry>> {
    each_line(path, "number, rig, qw qx qy qz, tx ty tz, and the list of data of a frame", |words| {
        let _: u32 = words.next("frame number")?;
        let (rig, rig_from_world, count) = (words.next("rig number")?, words.pose()?, words.next("number of data")?);
        let mut data = Vec::new();
        for _ in 0..count {
            data.push((words.sensor()?, words.next("data number")?));
        }
        words.end()?;
        Ok(FrameEntry { rig, rig_from_world, data })
    })
}

fn is_entry(line: &str) -> bool {
    let line = line.trim_start();
    !line.is_empty() && !line.starts_with('#')
}

fn each_line<T>(path: &Path, expected: &str, mut entry: impl FnMut(&mut Words) -> Result<T>) -> Result<Vec<T>> {
    let text = read_text(path, "read the COLMAP file")?;
    let lines = text.lines().enumerate().filter(|(_, line)| is_entry(line));
    lines.map(|(i, line)| entry(&mut Words::new(path, i + 1, line, expected))).collect()
}

/// Each image's line with the line of keypoints behind it and its index, where the file has one; and how many images
/// are followed by the next image's line or a comment instead.
fn each_image<T>(
    path: &Path,
    expected: &str,
    mut entry: impl FnMut(&mut Words, Option<(usize, &str)>) -> Result<T>,
) -> Result<(Vec<T>, usize)> {
    let bytes = input::read(path, "read the COLMAP file")?;
    let text = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&bytes);
    let (mut images, mut without_keypoints) = (Vec::new(), 0);
    // Names may hold any bytes but the end of the line; what is not UTF-8 elsewhere is no number.
    let lines = text.split_inclusive(|&byte| byte == b'\n').map(|line| line.trim_ascii_end());
    let mut lines = lines.map(|line| (line, String::from_utf8_lossy(line))).enumerate().peekable();
    while let Some((i, (bytes, line))) = lines.next() {
        if !is_entry(&line) {
            continue;
        }
        let keypoints = lines.next_if(|(_, (_, next))| !next.trim_start().starts_with('#') && !is_image(next));
        without_keypoints += usize::from(keypoints.is_none() && lines.peek().is_some());
        let keypoints = keypoints.as_ref().map(|(i, (_, line))| (*i, &**line));
        images.push(entry(&mut Words { bytes, ..Words::new(path, i + 1, &line, expected) }, keypoints)?);
    }
    Ok((images, without_keypoints))
}

/// Whether a line is an image's rather than one of keypoints, which has three numbers for each: it begins as an image
/// does, and a name follows, or words that are no triples.
fn is_image(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let mut is_whole = || words.next().is_some_and(|word| word.parse::<u32>().is_ok());
    if !is_whole() {
        return false;
    }
    let mut numbers = line.split_whitespace().skip(1).take(7);
    let is_pose = numbers.all(|word| word.parse::<f64>().is_ok());
    let mut rest = line.split_whitespace().skip(8);
    let is_camera = rest.next().is_some_and(|word| word.parse::<u32>().is_ok());
    let Some(name) = rest.next() else { return false };
    is_pose && is_camera && (name.parse::<f64>().is_err() || rest.count() % 3 != 2)
}

/// The words of one line.
struct Words<'a> {
    path: &'a Path,
    line: usize,
    /// What the line should hold.
    expected: &'a str,
    words: SplitWhitespace<'a>,
    text: &'a str,
    /// The same as the file has it, where it need not be UTF-8.
    bytes: &'a [u8],
    taken: usize,
}

impl<'a> Words<'a> {
    fn new(path: &'a Path, line: usize, text: &'a str, expected: &'a str) -> Self {
        Self { path, line, expected, words: text.split_whitespace(), text, bytes: text.as_bytes(), taken: 0 }
    }

    fn refuse(&self, found: String) -> Error {
        Error::input(format!("{}: line {}", self.path.display(), self.line), found, self.expected)
    }

    fn optional<T: FromStr>(&mut self, what: &str) -> Result<Option<T>> {
        let Some(word) = self.words.next() else { return Ok(None) };
        self.taken += 1;
        match word.parse() {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(self.refuse(format!("`{word}` as {what}"))),
        }
    }

    fn next<T: FromStr>(&mut self, what: &str) -> Result<T> {
        match self.optional(what)? {
            Some(value) => Ok(value),
            None => Err(self.refuse(format!("a line that ends before the {what}"))),
        }
    }

    fn pose(&mut self) -> Result<Pose> {
        let mut values = [0.0; 7];
        for (value, what) in values.iter_mut().zip(["qw", "qx", "qy", "qz", "tx", "ty", "tz"]) {
            *value = self.next(what)?;
        }
        let [w, x, y, z, tx, ty, tz] = values;
        Ok(Pose { quaternion: [w, x, y, z], translation: [tx, ty, tz] })
    }

    fn sensor(&mut self) -> Result<Sensor> {
        let kind: String = self.next("sensor type")?;
        let id = self.next("sensor number")?;
        // Only cameras matter here; any other type gets a number that no camera has.
        Ok((if kind == "CAMERA" { CAMERA_SENSOR } else { -1 }, id))
    }

    /// All after the words taken so far, which are numbers: up to there the text has the bytes of the file.
    fn rest(&self) -> PathBuf {
        let mut rest = self.text.trim_start();
        for _ in 0..self.taken {
            let word = rest.find(char::is_whitespace).unwrap_or(rest.len());
            rest = rest[word..].trim_start();
        }
        let bytes = &self.bytes[self.text.len() - rest.len()..];
        match std::str::from_utf8(bytes) {
            Ok(text) => text.trim_end().into(),
            Err(_) => names::from_bytes(bytes.trim_ascii_end().to_vec()),
        }
    }

    fn end(&mut self) -> Result<()> {
        match self.words.next() {
            None => Ok(()),
            Some(word) => Err(self.refuse(format!("`{word}` after the last value"))),
        }
    }
}
