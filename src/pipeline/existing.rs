//! A point cloud from depth maps that exist already: `engine fuse`.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::Clock;
use super::finish::{self, ANY_DEPTH, Colours, colours_of};
use super::need;
use super::plan::{Frame, chosen_views};
use crate::camera::{Camera, DepthRange};
use crate::error::{Error, Result};
use crate::formats::{input, pfm};
use crate::fusion::{FusionOptions, FusionView};
use crate::interrupt;
use crate::manifest::{MachineSummary, Manifest, SceneSummary};
use crate::map::Map;
use crate::memory::{self, MemoryNeed};
use crate::output::{self, MANIFEST, OutputFolder};
use crate::photo::Photo;
use crate::progress::Progress;
use crate::scene::{OpenOptions, Scene};

/// Everything that [`fuse`] can be told.
#[derive(Clone, Debug)]
pub struct FuseOptions {
    /// Where results go; `None`: the folder `MAPS_fused` beside the maps.
    pub out: Option<PathBuf>,
    /// Write into a folder that holds other things.
    pub force: bool,
    /// How the scene is read.
    pub open: OpenOptions,
    /// Longest side of the photos that the maps were made from; `None`: what the maps' manifest says, else as stored.
    pub max_side: Option<usize>,
    /// Names of the views to fuse; empty: all that have a map.
    pub only: Vec<String>,
    /// Depths outside are left out.
    pub range: Option<DepthRange>,
    /// Source views that maps are checked against.
    pub check_sources: usize,
    /// Which pixels become points.
    pub fusion: FusionOptions,
    /// Bytes to plan with; `None`: what is available.
    pub memory: Option<u64>,
}

/// Fuses the maps in `maps` (depth/NAME.pfm, confidence/NAME.pfm), with the cameras and photos of a scene.
///
/// # Errors
/// Maps that cannot be read or belong to no view, files that cannot be written, and [`Error::Nothing`] where no point
/// survived.
pub fn fuse(maps: &Path, scene_path: &Path, options: &FuseOptions, progress: &Progress) -> Result<()> {
    let mut clock = Clock::new();
    let names = names_of_maps(maps)?;
    let mut scene = Scene::open(scene_path, &options.open)?;
    if let Some(range) = options.range {
        scene.views.iter_mut().for_each(|v| v.range = Some(range));
    }
    scene.select_sources();
    let out = match &options.out {
        Some(out) => out.clone(),
        None => default_folder(maps)?,
    };
    let folder = OutputFolder::new(&out, scene_path, options.force)?;
    progress.event(
        "start",
        json!({ "command": "fuse", "version": env!("CARGO_PKG_VERSION"), "scene": scene_path, "maps": maps, "out": out }),
    );
    let mut notes = scene.notes.clone();
    let max_side = options.max_side.or_else(|| recorded_max_side(maps, &mut notes));
    let chosen = views_with_maps(&scene, maps, &names, &options.only, &mut notes)?;
    let frames: Vec<Frame> = scene.views.iter().map(|v| Frame::new(v, max_side)).collect();
    let need = fit_into_memory(&scene, maps, &frames, &chosen, options.memory)?;

    let mut views = Vec::with_capacity(chosen.len());
    let mut without_confidence = 0;
    let mut stage = progress.stage("reading", chosen.len(), chosen.len() as u64);
    for &at in &chosen {
        interrupt::check()?;
        let view = &scene.views[at];
        let path = maps.join("depth").join(format!("{}.pfm", view.name));
        let depth = pfm::read(&path)?;
        let scale = MapScale::find(&frames[at], (depth.width, depth.height), &path)?;
        let confidence_path = maps.join("confidence").join(format!("{}.pfm", view.name));
        let confidence = if confidence_path.exists() {
            pfm::read(&confidence_path)?
        } else {
            without_confidence += 1;
            Map::filled(depth.width, depth.height, 1.0)
        };
        if (confidence.width, confidence.height) != (depth.width, depth.height) {
            return Err(Error::input(
                confidence_path.display().to_string(),
                format!("a map of {} x {}", confidence.width, confidence.height),
                format!("the size of its depth map, {} x {}", depth.width, depth.height),
            ));
        }
        let loaded = Photo::load(view, max_side)?;
        let colour = scale.colours(loaded.photo, (depth.width, depth.height));
        let ranked = view.sources.iter().map(|s| s.view).take(options.check_sources);
        views.push(FusionView {
            name: view.name.clone(),
            camera: scale.camera(&frames[at]),
            depth,
            confidence,
            colour,
            range: options.range.unwrap_or(ANY_DEPTH),
            sources: ranked.filter_map(|s| chosen.iter().position(|&c| c == s)).collect(),
        });
        stage.step(
            &view.name,
            1,
            json!({ "view": view.name, "width": frames[at].width, "height": frames[at].height }),
        );
    }
    drop(stage);
    if without_confidence > 0 {
        notes.push(format!(
            "{without_confidence} of {} views have no confidence map: 1 everywhere",
            views.len()
        ));
    }
    notes.iter().for_each(|note| progress.note(note));
    clock.lap("reading");
    folder.claim()?;
    let manifest = Manifest {
        program: "engine",
        version: env!("CARGO_PKG_VERSION"),
        command: "fuse",
        ended_unix_s: 0,
        scene: SceneSummary::new(&scene),
        notes,
        network: None,
        machine: MachineSummary::now(Some(need)),
        parameters: parameters(maps, max_side, options),
        views: finish::summaries_of(&scene, &frames, &views, &chosen),
        funnel: None,
        points: 0,
        seconds: Value::Null,
        outputs: Vec::new(),
    };
    finish::fuse_and_report(&views, Some(&options.fusion), manifest, clock, &out, progress)
}

/// The fusion's memory, by the maps' file sizes: four bytes a pixel.
fn fit_into_memory(
    scene: &Scene,
    maps: &Path,
    frames: &[Frame],
    chosen: &[usize],
    memory: Option<u64>,
) -> Result<MemoryNeed> {
    let mut pixels = 0;
    for &at in chosen {
        let path = maps.join("depth").join(format!("{}.pfm", scene.views[at].name));
        pixels += std::fs::metadata(&path).map_err(Error::io("read the depth map", &path))?.len() / 4;
    }
    let photo =
        chosen.iter().map(|&at| need::photo_bytes(&scene.views[at], &frames[at], 1)).max().unwrap_or(0);
    let need = MemoryNeed { stages: vec![need::fusion(pixels, photo)] };
    let otherwise = "fuse fewer views at a time (--view NAME), or smaller maps";
    memory::refuse_if_too_large(&need, memory.unwrap_or_else(memory::available), &[], otherwise)?;
    Ok(need)
}

/// The folder `MAPS_fused` beside the maps.
fn default_folder(maps: &Path) -> Result<PathBuf> {
    output::sibling(maps, "_fused")
}

/// Names of the maps in MAPS/depth, sorted.
fn names_of_maps(maps: &Path) -> Result<Vec<String>> {
    let folder = maps.join("depth");
    let entries = std::fs::read_dir(&folder).map_err(Error::io("read the folder of depth maps", &folder))?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry.map_err(Error::io("read the folder of depth maps", &folder))?.path();
        let is_map = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("pfm"));
        if let (true, Some(stem)) = (is_map, path.file_stem().and_then(|s| s.to_str())) {
            names.push(stem.to_owned());
        }
    }
    names.sort();
    if names.is_empty() {
        return Err(Error::input(folder.display().to_string(), "no .pfm file", "depth maps NAME.pfm"));
    }
    Ok(names)
}

/// The `--max-side` of the run that made the maps, where its manifest lies beside them.
fn recorded_max_side(maps: &Path, notes: &mut Vec<String>) -> Option<usize> {
    let manifest: Value =
        serde_json::from_slice(&input::read(&maps.join(MANIFEST), "read the manifest").ok()?).ok()?;
    if manifest["program"] != "engine" {
        return None;
    }
    let side = usize::try_from(manifest["parameters"]["max_side"].as_u64()?).ok()?;
    notes.push(format!("photos are reduced to {side} px as the maps' manifest says"));
    Some(side)
}

/// Indices of the scene's views that have a map and are asked for.
fn views_with_maps(
    scene: &Scene,
    maps: &Path,
    names: &[String],
    only: &[String],
    notes: &mut Vec<String>,
) -> Result<Vec<usize>> {
    let wanted = chosen_views(scene, only)?;
    let has_map = |name: &String| names.binary_search(name).is_ok();
    if let Some(name) = only.iter().find(|name| !has_map(name)) {
        let depth = maps.join("depth").display().to_string();
        return Err(Error::input(
            format!("--view {name}"),
            format!("no map of it in {depth}"),
            "a view with a map",
        ));
    }
    let chosen: Vec<usize> = wanted.into_iter().filter(|&v| has_map(&scene.views[v].name)).collect();
    if chosen.is_empty() {
        return Err(Error::input(
            maps.join("depth").display().to_string(),
            format!("maps such as {}.pfm, none named after a view of the scene", names[0]),
            format!(
                "maps named after its photos, such as {}.pfm",
                scene.views.first().map_or("NAME", |v| &v.name)
            ),
        ));
    }
    let foreign: Vec<&str> =
        names.iter().filter(|n| !scene.views.iter().any(|v| v.name == **n)).map(String::as_str).collect();
    if !foreign.is_empty() {
        notes.push(format!("maps of no view of the scene are left out: {}", foreign.join(", ")));
    }
    if chosen.len() < scene.views.len() {
        notes.push(format!(
            "fusing {} of {} views: the others have no map or were not asked for",
            chosen.len(),
            scene.views.len()
        ));
    }
    Ok(chosen)
}

/// How a map's pixels lie on its photo's.
#[derive(Clone, Copy, Debug, PartialEq)]
enum MapScale {
    /// Every 2^n-th pixel, aligned at pixel 0.
    Decimated(u32),
    /// The photo resized, areas to areas.
    Resized(f64, f64),
}

impl MapScale {
    /// From the two sizes: half, a quarter ... of the photo, rounded up, or else any size of about its shape.
    fn find(frame: &Frame, map: (usize, usize), path: &Path) -> Result<Self> {
        let photo = (frame.width, frame.height);
        for n in 0..8 {
            if (photo.0.div_ceil(1 << n), photo.1.div_ceil(1 << n)) == map {
                return Ok(Self::Decimated(n));
            }
        }
        let (sx, sy) = (map.0 as f64 / photo.0 as f64, map.1 as f64 / photo.1 as f64);
        // Rounding to whole pixels changes either side by less than one.
        let same_shape = (photo.1 as f64 * sx - map.1 as f64).abs() < 1.0
            || (photo.0 as f64 * sy - map.0 as f64).abs() < 1.0;
        if same_shape && sx <= 1.0 && sy <= 1.0 && map.0 > 0 && map.1 > 0 {
            return Ok(Self::Resized(sx, sy));
        }
        Err(Error::input(
            path.display().to_string(),
            format!("a map of {} x {} for a photo of {} x {}", map.0, map.1, photo.0, photo.1),
            "a map of the photo's shape, not larger (--max-side reduces the photos)",
        ))
    }

    fn camera(self, frame: &Frame) -> Camera {
        match self {
            Self::Decimated(n) => frame.camera.decimated(0.5f64.powi(n as i32)),
            Self::Resized(sx, sy) => frame.camera.resized(sx, sy),
        }
    }

    /// The photo's colours at the map's pixels, smoothed so that finer texture does not alias.
    fn colours(self, mut photo: Photo, (width, height): (usize, usize)) -> Colours {
        match self {
            Self::Decimated(n) => {
                for _ in 0..n {
                    photo = photo.pyramid_level();
                }
                colours_of(&photo)
            }
            Self::Resized(..) => colours_of(&photo.area_averaged(width, height)),
        }
    }
}

fn parameters(maps: &Path, max_side: Option<usize>, options: &FuseOptions) -> Value {
    json!({
        "maps": maps.canonicalize().unwrap_or_else(|_| maps.to_owned()),
        "max_side": max_side,
        "only": options.only,
        "range": options.range,
        "depth_numbers": options.open.depth_numbers,
        "layout": options.open.layout,
        "check_sources": options.check_sources,
        "min_confidence": options.fusion.min_confidence,
        "max_reprojection_px": options.fusion.thresholds.max_reprojection_px,
        "max_depth_error_rel": options.fusion.thresholds.max_depth_error_rel,
        "min_views": options.fusion.thresholds.min_views,
        "keep_duplicates": options.fusion.keep_duplicates,
    })
}

#[cfg(test)]
mod tests {
    use glam::{DMat3, DVec3};

    use super::*;

    #[test]
    fn the_maps_size_tells_its_scale() {
        let camera = Camera { k: DMat3::IDENTITY, r: DMat3::IDENTITY, t: DVec3::ZERO };
        let frame = Frame { width: 101, height: 67, camera };
        let find = |size| MapScale::find(&frame, size, Path::new("a.pfm"));
        assert_eq!(find((101, 67)).unwrap(), MapScale::Decimated(0));
        assert_eq!(find((51, 34)).unwrap(), MapScale::Decimated(1));
        assert_eq!(find((26, 17)).unwrap(), MapScale::Decimated(2));
        assert_eq!(find((75, 50)).unwrap(), MapScale::Resized(75.0 / 101.0, 50.0 / 67.0));
        for wrong in [(67, 101), (80, 80), (202, 134), (0, 0)] {
            assert!(find(wrong).is_err(), "{wrong:?}");
        }
        let message = find((80, 80)).unwrap_err().to_string();
        assert_eq!(
            message,
            "a.pfm: a map of 80 x 80 for a photo of 101 x 67; expected a map of the photo's shape, not larger \
             (--max-side reduces the photos)"
        );
    }
}
