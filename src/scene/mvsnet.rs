//! Scenes in the MVSNet layout: `images/`, one `NUMBER_cam.txt` a view in `cams/` or `cams_1/`, and `pair.txt` with
//! the source views (protocol page E.1, E.2). BlendedMVS calls the photos' folder `blended_images/` and keeps
//! `pair.txt` beside the cameras.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use glam::{DMat3, DVec3};

use crate::files::names;
use crate::scene::camera::{Camera, DepthRange};
use crate::scene::numbering::{file_name, match_photos, number};
use crate::scene::{DepthNumbers, Layout, OpenOptions, Scene, SourceView, Sweep, View};
use crate::{Error, Result};

/// Said of a scene without a list of source views.
pub(super) const NO_PAIRS: &str = "there is no pair.txt: source views are selected";

/// The folder with cameras of the scene at `root`, if it has one.
pub fn camera_folder(root: &Path) -> Option<PathBuf> {
    ["cams", "cams_1"].into_iter().map(|name| root.join(name)).find(|folder| folder.is_dir())
}

/// The folder with the photos of the scene at `root`; `images` is where else they may lie.
fn photo_folder(root: &Path, images: Option<&Path>) -> PathBuf {
    let [usual, blended] = ["images", "blended_images"].map(|name| root.join(name));
    match images {
        _ if usual.is_dir() => usual,
        _ if blended.is_dir() => blended,
        Some(images) => images.to_owned(),
        None => usual,
    }
}

/// Reads the scene at `root`.
///
/// # Errors
/// Cameras, photos or a pair list that are missing or do not hold what they should; fewer than two usable views.
pub fn open(root: &Path, options: &OpenOptions) -> Result<Scene> {
    let folder = camera_folder(root).unwrap_or_else(|| root.join("cams"));
    let mut notes = Vec::new();
    if folder.ends_with("cams") && root.join("cams_1").is_dir() {
        notes.push("there are cams/ and cams_1/: the cameras are those of cams/".into());
    }
    let cameras = camera_files(&folder)?;
    let photos = match_photos(&photo_folder(root, options.images.as_deref()), &cameras, &mut notes)?;
    if photos.len() < 2 {
        return Err(crate::scene::checks::too_few_views(root, photos.len()));
    }

    let headers = crate::scene::checks::photo_headers(photos.values().map(PathBuf::as_path), &mut notes)?;
    let named =
        photos.iter().map(|(&id, photo)| (id, names::readable(photo.file_name().unwrap_or_default()))).collect();
    let names = crate::scene::checks::unique_names(named, &mut notes);
    let mut views = Vec::new();
    let mut readings = BTreeMap::new();
    let mut outside = Vec::new();
    for (((id, photo), name), header) in photos.into_iter().zip(names).zip(headers) {
        let CameraFile { camera, range, sweep, planes, reading } = read_camera_for(&cameras[&id], options)?;
        *readings.entry(reading).or_insert(0) += 1;
        let (principal, (width, height)) = (camera.k.z_axis, header.size);
        if !(-0.5..width as f64 - 0.5).contains(&principal.x) || !(-0.5..height as f64 - 0.5).contains(&principal.y) {
            outside.push(name.clone());
        }
        views.push(View {
            id,
            name,
            image: photo,
            size: header.size,
            camera,
            lens: None,
            mask: None,
            in_memory: None,
            known: None,
            range,
            sweep,
            planes,
            sources: Vec::new(),
        });
    }
    let total = views.len();
    notes.extend(readings.into_iter().map(|(reading, count)| format!("{reading} ({count} of {total} cam.txt files)")));
    if let Some(first) = outside.first() {
        notes.push(format!(
            "the principal point lies outside of the photo for {} of {total} views (first: {first}); were the cameras \
             made for photos of another size?",
            outside.len()
        ));
    }

    let pairs = [root, &folder].map(|at| at.join("pair.txt")).into_iter().find(|file| file.exists());
    if let Some(pairs) = pairs {
        let index = views.iter().enumerate().map(|(i, view)| (view.id, i)).collect();
        let sources = read_pairs(&pairs, &cameras, &index, &mut notes)?;
        for (view, sources) in views.iter_mut().zip(sources) {
            view.sources = sources;
        }
    } else {
        notes.push(NO_PAIRS.into());
    }
    Ok(Scene {
        root: root.to_owned(),
        layout: Layout::MvsNet,
        views,
        points: Vec::new(),
        region: None,
        region_of_files: None,
        poses: None,
        georeference: None,
        notes,
    })
}

/// `NUMBER_cam.txt` files by number.
///
/// # Errors
/// A folder without any, or with two of the same number.
pub fn camera_files(folder: &Path) -> Result<BTreeMap<u32, PathBuf>> {
    let mut cameras = BTreeMap::new();
    for file in crate::files::input::files_in(folder, "list the cameras")? {
        let Some(id) = file_name(&file).strip_suffix("_cam.txt").and_then(number) else { continue };
        if let Some(other) = cameras.insert(id, file.clone()) {
            return Err(Error::input(
                file.display().to_string(),
                format!("a second camera for view {id} beside {}", file_name(&other)),
                "one file a view",
            ));
        }
    }
    if cameras.is_empty() {
        return Err(Error::input(
            folder.display().to_string(),
            "no camera files",
            "one NUMBER_cam.txt for each photo, for example 00000000_cam.txt",
        ));
    }
    Ok(cameras)
}

/// A word of a text file and its line, counted from 1.
#[derive(Clone, Copy)]
struct Token<'a> {
    line: usize,
    text: &'a str,
}

/// The numbers after the intrinsics, as they stand in the file.
struct DepthTokens {
    line: usize,
    numbers: Vec<f64>,
}

/// What a cam.txt says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CameraFile {
    /// Intrinsics as they stand there, and the pose.
    pub camera: Camera,
    /// Depths to search, where the file says so.
    pub range: Option<DepthRange>,
    /// Nearest depth and interval, where the file gives these instead of a range.
    pub sweep: Option<Sweep>,
    /// Number of hypotheses, where the file says so.
    pub planes: Option<usize>,
    /// How the depth numbers were read, one phrase for notes.
    pub reading: &'static str,
}

/// What the depth numbers mean.
struct Depths {
    range: Option<DepthRange>,
    sweep: Option<Sweep>,
    planes: Option<usize>,
    reading: &'static str,
}

/// Reads a cam.txt; `two` says how two depth numbers are meant.
///
/// # Errors
/// A file that cannot be read or does not hold a camera; the message names the line.
pub fn read_camera(file: &Path, two: DepthNumbers) -> Result<CameraFile> {
    let (camera, depths) = read_cam(file)?;
    let Depths { range, sweep, planes, reading } = depths.read(file, two)?;
    Ok(CameraFile { camera, range, sweep, planes, reading })
}

/// As [`read_camera`]; depth numbers that make no range are passed over where nobody needs them.
fn read_camera_for(file: &Path, options: &OpenOptions) -> Result<CameraFile> {
    let (camera, depths) = read_cam(file)?;
    let read = match depths.read(file, options.depth_numbers) {
        Err(_) if options.range_given => depths.replaced(),
        read => read?,
    };
    let Depths { range, sweep, planes, reading } = read;
    Ok(CameraFile { camera, range, sweep, planes, reading })
}

/// Reads a cam.txt by its words, so that line breaks do not matter: `extrinsic` and 16 numbers (world to camera),
/// `intrinsic` and 9 numbers, none to four depth numbers.
fn read_cam(file: &Path) -> Result<(Camera, DepthTokens)> {
    let text = crate::files::input::read_text(file, "read the camera")?;
    let mut tokens = text
        .lines()
        .enumerate()
        .flat_map(|(i, line)| line.split_whitespace().map(move |text| Token { line: i + 1, text }));
    let name = file.display();
    let mut matrix = |word: &str, count: usize| -> Result<(usize, Vec<f64>)> {
        let ended = |found: String| {
            Error::input(name.to_string(), found, format!("the word `{word}` and {count} numbers after it, row by row"))
        };
        let Some(token) = tokens.next() else { return Err(ended(format!("the file ends before `{word}`"))) };
        if !token.text.eq_ignore_ascii_case(word) {
            return Err(Error::input(
                format!("{name}: line {}", token.line),
                format!("`{}`", token.text),
                format!("the word `{word}` and {count} numbers after it, row by row"),
            ));
        }
        let mut numbers = Vec::with_capacity(count);
        for i in 0..count {
            let Some(token) = tokens.next() else {
                return Err(ended(format!("the file ends after {i} numbers of the {word} matrix")));
            };
            numbers.push(finite(file, token, &format!("number {} of {count} of the {word} matrix", i + 1))?);
        }
        Ok((token.line, numbers))
    };
    let (pose_line, e) = matrix("extrinsic", 16)?;
    let (k_line, k) = matrix("intrinsic", 9)?;

    let place = format!("{name}: the extrinsic matrix at line {pose_line}");
    if e[12..15].iter().any(|v| v.abs() > 1e-6) || (e[15] - 1.0).abs() > 1e-6 {
        return Err(Error::input(
            place,
            format!("last row {} {} {} {}", e[12], e[13], e[14], e[15]),
            "0 0 0 1: the matrix must be a rotation and a translation, world to camera",
        ));
    }
    let r = DMat3::from_cols_array(&[e[0], e[1], e[2], e[4], e[5], e[6], e[8], e[9], e[10]]).transpose();
    let camera = Camera {
        k: crate::scene::checks::checked_intrinsics(
            &format!("{name}: the intrinsic matrix at line {k_line}"),
            [[k[0], k[1], k[2]], [k[3], k[4], k[5]], [k[6], k[7], k[8]]],
        )?,
        r: crate::scene::checks::checked_rotation(&place, r)?,
        t: DVec3::new(e[3], e[7], e[11]),
    };
    let rest: Vec<Token> = tokens.collect();
    let line = rest.first().map_or(0, |token| token.line);
    let numbers = rest.into_iter().map(|token| finite(file, token, "a depth number")).collect::<Result<_>>()?;
    Ok((camera, DepthTokens { line, numbers }))
}

/// A word as a finite number.
fn finite(file: &Path, token: Token, what: &str) -> Result<f64> {
    match token.text.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ => Err(Error::input(
            format!("{}: line {}", file.display(), token.line),
            format!("`{}`", token.text),
            format!("a finite number ({what})"),
        )),
    }
}

impl DepthTokens {
    /// What is left of numbers that make no range: the third is the number of planes all the same.
    fn replaced(&self) -> Depths {
        let planes =
            self.numbers.get(2).filter(|count| (1.5..1e6).contains(*count)).map(|count| count.round() as usize);
        Depths { range: None, sweep: None, planes, reading: "depth numbers that make no range and were passed over" }
    }

    /// The meaning of none, two, three or four numbers (protocol page E.1).
    fn read(&self, file: &Path, two: DepthNumbers) -> Result<Depths> {
        let place = format!("{}: line {}, depth numbers", file.display(), self.line);
        let found = || self.numbers.iter().map(f64::to_string).collect::<Vec<_>>().join(" ");
        let refuse = |expected: &str| Err(Error::input(&place, format!("`{}`", found()), expected));
        // MVSNet's own reader writes zeros where there was nothing.
        if self.numbers.iter().all(|&n| n == 0.0) {
            return Ok(Depths { range: None, sweep: None, planes: None, reading: "no depth numbers" });
        }
        let (range, sweep, count, reading) = match self.numbers[..] {
            [near, second] => {
                let is_far = match two {
                    DepthNumbers::Auto => second > near,
                    DepthNumbers::Max => true,
                    DepthNumbers::Interval => false,
                };
                let reading = match (two, is_far) {
                    (DepthNumbers::Auto, true) => {
                        "two depth numbers, assumed to be near and far because the second is larger"
                    }
                    (DepthNumbers::Auto, false) => {
                        "two depth numbers, assumed to be near and interval because the second is not larger: far = \
                         near + interval * (planes - 1)"
                    }
                    (_, true) => "two depth numbers, read as near and far as asked for",
                    (_, false) => {
                        "two depth numbers, read as near and interval as asked for: far = near + interval * (planes - \
                         1)"
                    }
                };
                match is_far {
                    true => (Some((near, second)), None, None, reading),
                    false => (None, Some((near, second)), None, reading),
                }
            }
            [near, interval, count] => {
                if interval <= 0.0 {
                    return refuse("near, interval and number of planes, the interval > 0");
                }
                let reading =
                    "three depth numbers, near, interval and number of planes: far = near + interval * (planes - 1)";
                (Some((near, near + interval * (count - 1.0))), None, Some(count), reading)
            }
            [near, _, count, far] => {
                let reading = "four depth numbers, of which near, far and the number of planes are used";
                (Some((near, far)), None, Some(count), reading)
            }
            [_] => {
                return refuse(
                    "near and far, near and interval, near interval planes, near interval planes far, or nothing",
                );
            }
            _ => return refuse("at most four numbers: near, interval, number of planes, far"),
        };
        let planes = match count {
            // Converters compute the count as a quotient, so that it may be fractional.
            Some(count) if (1.5..1e6).contains(&count) => Some(count.round() as usize),
            Some(_) => return refuse("a number of planes of 2 or more as third number"),
            None => None,
        };
        let range = match range {
            Some((near, far)) if near > 0.0 && far > near && far.is_finite() => Some(DepthRange { near, far }),
            Some(_) => return refuse("0 < near < far, or the option --range, which replaces them"),
            None => None,
        };
        let sweep = match sweep {
            Some((near, interval)) if near > 0.0 && interval > 0.0 => Some(Sweep { near, interval }),
            Some(_) => return refuse("near > 0 and interval > 0, or the option --range, which replaces them"),
            None => None,
        };
        Ok(Depths { range, sweep, planes, reading })
    }
}

/// Reads a pair.txt: the number of views, then for each its number, and on one line the number of its source views and
/// (number, score) pairs, best first.
///
/// `index` has the place of each view by its number; `cameras` may know more views, which are left out. The answer has
/// the source views of every place, none for a view that is not listed.
///
/// # Errors
/// A file that cannot be read or is no such list, or names a view without a camera; the message names the line.
pub fn read_pairs(
    file: &Path,
    cameras: &BTreeMap<u32, PathBuf>,
    index: &BTreeMap<u32, usize>,
    notes: &mut Vec<String>,
) -> Result<Vec<Vec<SourceView>>> {
    let text = crate::files::input::read_text(file, "read the pair list")?;
    let mut lines = text
        .lines()
        .enumerate()
        .map(|(i, line)| (i + 1, line.split_whitespace().collect::<Vec<_>>()))
        .filter(|(_, words)| !words.is_empty());
    let refuse = |line: usize, found: String, expected: &str| {
        Error::input(format!("{}: line {line}", file.display()), found, expected)
    };
    let ended = |found: String, expected: &str| Error::input(file.display().to_string(), found, expected);
    fn whole<T: FromStr>(words: &[&str]) -> Option<T> {
        match words {
            [word] => word.parse().ok(),
            _ => None,
        }
    }
    // A view of the scene by its number: its index, or None where its photo is missing.
    let known = |line: usize, role: &str, id: u32| match index.get(&id) {
        Some(&i) => Ok(Some(i)),
        None if cameras.contains_key(&id) => Ok(None),
        None => Err(refuse(
            line,
            format!("{role} {id}, which has no camera"),
            "views of this scene; correct the number, or remove pair.txt to have source views selected",
        )),
    };

    let Some((line, words)) = lines.next() else {
        return Err(ended("the file is empty".into(), "the number of views, then two lines for each view"));
    };
    let Some(count) = whole::<usize>(&words) else {
        return Err(refuse(line, format!("`{}`", words.join(" ")), "the number of views"));
    };
    let mut of_views = vec![Vec::new(); index.values().max().map_or(0, |last| last + 1)];
    let (mut itself, mut without_photo) = (0, 0);
    for entry in 0..count {
        let missing = || ended(format!("the file ends after {entry} of {count} views"), "two lines for each view");
        let (line, words) = lines.next().ok_or_else(missing)?;
        let Some(id) = whole::<u32>(&words) else {
            return Err(refuse(line, format!("`{}`", words.join(" ")), "one number, that of a view"));
        };
        let view = known(line, "view", id)?;
        let (line, words) = lines.next().ok_or_else(missing)?;
        let expected = "the number of source views, then a view and a score for each";
        let Some(named) = words[0].parse::<usize>().ok().filter(|n| n.checked_mul(2) == Some(words.len() - 1)) else {
            return Err(refuse(line, format!("`{}` and {} numbers after it", words[0], words.len() - 1), expected));
        };
        let mut sources: Vec<SourceView> = Vec::with_capacity(named);
        let mut listed = HashSet::new();
        for pair in words[1..].chunks_exact(2) {
            let parsed = pair[0].parse::<u32>().ok().zip(pair[1].parse::<f64>().ok().filter(|s| s.is_finite()));
            let Some((source, score)) = parsed else {
                return Err(refuse(line, format!("`{} {}`", pair[0], pair[1]), expected));
            };
            match known(line, "source view", source)? {
                Some(source) if Some(source) == view => itself += 1,
                Some(source) if listed.insert(source) => {
                    sources.push(SourceView { view: source, score });
                }
                Some(_) => {}
                None => without_photo += 1,
            }
        }
        if let Some(view) = view {
            of_views[view] = sources;
        }
    }
    if let Some((line, words)) = lines.next() {
        return Err(refuse(
            line,
            format!("`{}` after the last view", words[0]),
            "as many views as the first line says",
        ));
    }
    if itself > 0 {
        notes.push(format!("pair.txt: views that are named as their own source were ignored: {itself}"));
    }
    if without_photo > 0 {
        notes.push(format!("pair.txt: source views without a photo were ignored: {without_photo}"));
    }
    Ok(of_views)
}
