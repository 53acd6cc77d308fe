//! Scenes on disk: the MVSNet layout with true depth and a ground-truth cloud.
//!
//! `images/ID.png` or `.jpg`, `cams/ID_cam.txt` (near, interval, planes, far), `pair.txt`, `depths/ID.pfm` (every
//! fourth pixel), and `truth.ply` (points on the surfaces themselves); on request `depths_full/ID.pfm`,
//! `texture/ID.pfm`, `slant/ID.pfm`, `visible/ID.pfm`. `scene.json` is written last and marks a scene that is complete.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use rayon::prelude::*;
use serde_json::{Value, json};

use super::scene::{SyntheticScene, name};
use super::sight::Sight;
use super::{Generator, GeneratorOptions};
use crate::files::atomic::write_whole;
use crate::files::folder::{Claim, FolderKind, Found, OutputFolder, remove, write_json};
use crate::files::map::Map;
use crate::files::names::in_json;
use crate::files::ply_storage::OffsetOption;
use crate::files::{pfm, ply};
use crate::host::interrupt;
use crate::host::memory::{MemoryNeed, Part, StageMemory};
use crate::host::progress::{Progress, one_line};
use crate::scene::View;
use crate::scene::camera::{Camera, DepthRange};
use crate::scene::photo::Photo;
use crate::{Error, Result};

/// The file that marks a complete scene.
pub const MARK: &str = "scene.json";
/// The file in the folder of all scenes that says how they were made.
pub const OPTIONS: &str = "synth.json";

/// How photos are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum PhotoFormat {
    /// Lossless.
    Png,
    /// Quality 95, as from a camera.
    Jpg,
}

impl PhotoFormat {
    fn extension(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpg => "jpg",
        }
    }
}

/// What is written of each scene.
#[derive(Clone, Copy, Debug)]
pub struct WriteOptions {
    /// How photos are stored.
    pub photos: PhotoFormat,
    /// Number of planes that the camera files state, at least 2.
    pub planes: usize,
    /// Also the depth of every pixel.
    pub full_depth: bool,
    /// Pixels from one point of `truth.ply` to the next, along rows and columns.
    pub truth_step: f64,
    /// Also texture strength, slant and visibility.
    pub extras: bool,
}

/// What a written scene holds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Written {
    /// Photos.
    pub views: usize,
    /// Points of the cloud.
    pub points: usize,
    /// Share of the maps' pixels with a depth.
    pub covered: f64,
}

/// Writes one scene into `folder`, replacing files of the same names.
///
/// # Errors
/// The system's reason where something cannot be written; [`Error::Interrupted`].
pub fn write_scene(scene: &SyntheticScene, folder: &Path, options: &WriteOptions) -> Result<Written> {
    for part in ["images", "cams", "depths"] {
        make(&folder.join(part))?;
    }
    // A scene that is written again is not complete until it is.
    remove(&folder.join(MARK), "replace the scene")?;
    let mut points = Vec::new();
    let (mut covered, mut pixels) = (0, 0);
    for view in 0..scene.cameras.len() {
        interrupt::check()?;
        let depth = write_view(scene, view, folder, options)?;
        covered += depth.1.data.iter().filter(|&&z| z > 0.0).count();
        pixels += depth.1.data.len();
        points.extend(new_points(scene, view, &depth.0, options.truth_step));
    }
    let views = scene.views();
    let _guard = interrupt::writing();
    write_text(&folder.join("pair.txt"), "write the pair list", &pair_list(&views))?;
    let comments =
        [format!("ground truth: a point every {} pixels of every view, once a surface is seen", options.truth_step)];
    let storage = ply::storage_of(&points, OffsetOption::None);
    ply::write(&folder.join("truth.ply"), &points, storage, &comments)?;
    drop(_guard);
    let written = Written { views: views.len(), points: points.len(), covered: covered as f64 / pixels.max(1) as f64 };
    let rig = serde_json::to_value(scene.rig).unwrap_or(Value::Null);
    let mark = json!({
        "rig": rig, "views": written.views, "width": scene.size.0, "height": scene.size.1,
        "planes": options.planes, "points": written.points, "covered": written.covered,
    });
    write_json(&folder.join(MARK), "mark the scene as complete", &mark)?;
    Ok(written)
}

fn make(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(Error::io("create the folder", folder))
}

/// Writes all of one view; returns its photo and depth at every fourth pixel.
fn write_view(scene: &SyntheticScene, view: usize, folder: &Path, options: &WriteOptions) -> Result<(Photo, Map)> {
    let file = |part: &str, ending: &str| folder.join(part).join(format!("{}{ending}", name(view)));
    let photo = scene.photo(view);
    let depth = scene.depth(view, 4);
    let mut maps = Vec::new();
    if options.full_depth {
        maps.push(("depths_full", scene.depth(view, 1)));
    }
    if options.extras {
        let extras = scene.extras(view, &photo, 4);
        maps.extend([("texture", extras.texture), ("slant", extras.slant), ("visible", extras.visible)]);
    }
    for (part, _) in &maps {
        make(&folder.join(part))?;
    }
    let _guard = interrupt::writing();
    write_photo(&file("images", &format!(".{}", options.photos.extension())), &photo, options.photos)?;
    let text = camera_text(&scene.cameras[view], scene.ranges[view], options.planes);
    write_text(&file("cams", "_cam.txt"), "write the camera", &text)?;
    pfm::write(&file("depths", ".pfm"), &depth)?;
    for (part, map) in &maps {
        pfm::write(&file(part, ".pfm"), map)?;
    }
    Ok((photo, depth))
}

fn write_text(path: &Path, action: &'static str, text: &str) -> Result<()> {
    write_whole(path, action, |file| file.write_all(text.as_bytes()))
}

fn write_photo(path: &Path, photo: &Photo, format: PhotoFormat) -> Result<()> {
    let bytes: Vec<u8> = photo.rgb.iter().map(|v| (v * 255.0).round() as u8).collect();
    let (width, height) = (photo.width as u32, photo.height as u32);
    write_whole(path, "write the photo", |file| {
        let done = match format {
            PhotoFormat::Png => PngEncoder::new_with_quality(file, CompressionType::Fast, FilterType::Adaptive)
                .write_image(&bytes, width, height, ExtendedColorType::Rgb8),
            PhotoFormat::Jpg => {
                JpegEncoder::new_with_quality(file, 95).write_image(&bytes, width, height, ExtendedColorType::Rgb8)
            }
        };
        done.map_err(std::io::Error::other)
    })
}

/// The content of a cam.txt. Rust prints the shortest digits that read back as the same f64.
fn camera_text(camera: &Camera, range: DepthRange, planes: usize) -> String {
    let mut text = String::from("extrinsic\n");
    for i in 0..3 {
        let r = camera.r.row(i);
        let _ = writeln!(text, "{} {} {} {}", r.x, r.y, r.z, camera.t[i]);
    }
    text.push_str("0 0 0 1\n\nintrinsic\n");
    for i in 0..3 {
        let k = camera.k.row(i);
        let _ = writeln!(text, "{} {} {}", k.x, k.y, k.z);
    }
    let interval = (range.far - range.near) / (planes.max(2) - 1) as f64;
    let _ = writeln!(text, "\n{} {interval} {planes} {}", range.near, range.far);
    text
}

fn pair_list(views: &[View]) -> String {
    let mut text = format!("{}\n", views.len());
    for view in views {
        let _ = write!(text, "{}\n{}", view.id, view.sources.len());
        for source in &view.sources {
            let _ = write!(text, " {} {:.6}", views[source.view].id, source.score);
        }
        text.push('\n');
    }
    text
}

/// The view's surfaces as points, one every `step` pixels each way, without those that an earlier view has shown at
/// least about as finely.
fn new_points(scene: &SyntheticScene, view: usize, photo: &Photo, step: f64) -> Vec<ply::Point> {
    /// An earlier view's pixels may be this much coarser on the surface and still stand for it.
    const COARSER: f64 = 1.5;
    let (sight, range) = (Sight::new(&scene.world, &scene.cameras[view], scene.size), scene.ranges[view]);
    let fineness = |v: usize, z: f64, cosine: f64| z / (scene.cameras[v].k.x_axis.x * cosine.max(0.05));
    let point = |x: f64, y: f64| {
        // The surface itself: a map's depth is rounded to f32.
        let surface = sight.first(x, y, 0.0, f64::INFINITY).filter(|s| (range.near..=range.far).contains(&s.depth))?;
        let facing = |v: usize| surface.normal.dot((scene.cameras[v].centre() - surface.position).normalize_or_zero());
        let own = fineness(view, surface.depth, facing(view));
        let shown = |v: usize| {
            let other = (scene.cameras[v].r * surface.position + scene.cameras[v].t).z;
            other > 0.0 && fineness(v, other, facing(v)) <= COARSER * own && scene.sees(v, surface.position)
        };
        if (0..view).any(shown) {
            return None;
        }
        let seen_by = (0..scene.cameras.len()).filter(|&v| v == view || scene.sees(v, surface.position)).count();
        let nearest = 3 * (y.round() as usize * photo.width + x.round() as usize);
        Some(ply::Point {
            position: surface.position.to_array(),
            normal: surface.normal.as_vec3().to_array(),
            colour: [0, 1, 2].map(|k| (photo.rgb[nearest + k] * 255.0).round() as u8),
            confidence: 1.0,
            views: seen_by.min(255) as u8,
        })
    };
    let places = |length: usize| 0..places(length, step);
    let row = |y: usize| -> Vec<ply::Point> {
        places(scene.size.0).filter_map(|x| point(x as f64 * step, y as f64 * step)).collect()
    };
    places(scene.size.1).into_par_iter().map(row).collect::<Vec<_>>().concat()
}

/// How many places `step` apart there are from the first to the last of `length` pixels.
fn places(length: usize, step: f64) -> usize {
    ((length - 1) as f64 / step) as usize + 1
}

/// The memory for a scene beside its textures and meshes, which readers check by themselves.
pub fn need(options: &GeneratorOptions, write: &WriteOptions) -> MemoryNeed {
    let pixels = (options.size.0 * options.size.1) as u64;
    // A photo is three f32 a pixel, twice while it is blurred or made darker, and then bytes; maps are one f32 of every
    // pixel or of every fourth.
    let maps = if write.full_depth { 4 } else { 0 } + if write.extras { 1 } else { 0 };
    let points = [options.size.0, options.size.1].map(|length| places(length, write.truth_step) as u64);
    let points = points[0] * points[1] * options.views as u64;
    let parts = vec![
        Part::new("a view", pixels * (12 + 12 + 3 + maps)),
        Part::new("points of the true cloud, if none were seen twice", points * size_of::<ply::Point>() as u64),
    ];
    MemoryNeed { stages: vec![StageMemory::new("scene", parts)] }
}

/// The folder of a scene.
pub fn scene_folder(out: &Path, index: u64) -> PathBuf {
    out.join(format!("scene_{index:05}"))
}

/// Writes `count` scenes into `out`. Scenes that an earlier run with the same options has finished are kept, so that a
/// stopped run goes on.
///
/// # Errors
/// A folder that holds anything else, unless `force`; whatever [`write_scene`] says.
pub fn write_scenes(
    generator: &Generator,
    out: &Path,
    count: u64,
    options: &WriteOptions,
    force: bool,
    progress: &Progress,
) -> Result<()> {
    let described = describe(generator.options(), options);
    let claim = Claim { path: out, force, kind: &SCENES };
    let mut claimed = OutputFolder::new(claim, described.clone(), |mark| compare(mark, &described, out))?;
    claimed.claim()?;
    generator.notes().iter().chain(&claimed.note()).for_each(|note| progress.note(note));
    let began = std::time::Instant::now();
    let mut total = Written::default();
    let mut kept = 0u64;
    {
        let mut stage = progress.stage("synth", count as usize, count);
        for index in 0..count {
            interrupt::check()?;
            let folder = scene_folder(out, index);
            let label = format!("scene_{index:05}");
            if claimed.goes_on() && folder.join(MARK).is_file() {
                kept += 1;
                stage.skip(1, json!({ "scene": label, "kept": true }));
                continue;
            }
            let scene = generator.scene(index);
            let written = write_scene(&scene, &folder, options)?;
            total.views += written.views;
            total.points += written.points;
            let what = format!(
                "{label}, {:.0} % of the pixels with depth, {} points",
                100.0 * written.covered,
                written.points
            );
            let fields = json!({ "scene": label, "covered": written.covered, "points": written.points });
            stage.step(&what, 1, fields);
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    let made = count - kept;
    let (width, height) = generator.options().size;
    let megapixels = total.views as f64 * width as f64 * height as f64 / 1e6;
    let beside = if kept > 0 { format!(", {kept} were there") } else { String::new() };
    let text = format!(
        "{made} scenes of {} views at {width} x {height} in {} ({:.2} scenes/s, {:.2} Mpixel/s){beside}: {}",
        generator.options().views,
        crate::host::progress::duration(seconds),
        made as f64 / seconds.max(1e-9),
        megapixels / seconds.max(1e-9),
        out.display(),
    );
    let fields =
        json!({ "scenes": made, "kept": kept, "points": total.points, "megapixels": megapixels, "seconds": seconds });
    progress.summary(&one_line(&text), fields);
    Ok(())
}

/// All that a scene's bytes depend on, beside its index.
fn describe(options: &GeneratorOptions, write: &WriteOptions) -> Value {
    let path = |p: &PathBuf| in_json(&dunce::canonicalize(p).unwrap_or_else(|_| p.clone()));
    json!({
        "program": "engine", "version": env!("CARGO_PKG_VERSION"),
        "seed": options.seed, "views": options.views, "size": [options.size.0, options.size.1],
        "rig": serde_json::to_value(options.rig).unwrap_or(Value::Null),
        "textures": options.textures.as_ref().map(path), "meshes": options.meshes.iter().map(path).collect::<Vec<_>>(),
        "low_texture": options.low_texture, "alone": options.alone, "variation": options.variation,
        "photos": write.photos.extension(), "planes": write.planes, "full_depth": write.full_depth,
        "truth_step": write.truth_step, "extras": write.extras,
    })
}

/// Folders with scenes.
const SCENES: FolderKind = FolderKind {
    mark: OPTIONS,
    called: "output folder",
    foreign: (
        "it is not empty and was not made by engine synth",
        "an empty or new folder, or --force to write into this one",
    ),
    list: "use this as the output folder",
    create: "create the folder",
    write: "write into the output folder",
    own: |_| false,
    own_left: "",
};

/// Whether the folder was begun with the same options.
fn compare(mark: &[u8], described: &Value, out: &Path) -> Result<Found> {
    let Ok(before) = serde_json::from_slice::<Value>(mark) else { return Ok(Found::Foreign) };
    if before == *described {
        return Ok(Found::Same);
    }
    let names = described.as_object().into_iter().flatten();
    let differing: Vec<&str> = names.filter(|(k, v)| before.get(k) != Some(v)).map(|(k, _)| k.as_str()).collect();
    Err(Error::input(
        format!("{} {}", SCENES.called, out.display()),
        format!("it holds scenes made with other options ({})", differing.join(", ")),
        "the same options to go on, an empty or new folder, or --force to replace the scenes",
    ))
}
