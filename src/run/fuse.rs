//! A point cloud from depth maps that exist already: `engine fuse`.

use std::path::{Path, PathBuf};

use serde_json::{Map as Fields, Value, json};

use crate::error::{Error, Result};
use crate::files::folder::{self, MANIFEST, OutputFolder};
use crate::files::map::Map;
use crate::files::{input, pfm};
use crate::fusion::settings::{Method, Settings};
use crate::fusion::view::FusionView;
use crate::host::interrupt;
use crate::host::memory::{self, MemoryNeed, Part, StageMemory};
use crate::host::progress::Progress;
use crate::manifest::{MachineSummary, Manifest, SceneSummary};
use crate::maps::merge::LevelMaps;
use crate::run::device::Geometry;
use crate::run::plan::{Frame, chosen_views};
use crate::run::write::{self, ANY_DEPTH, Colours, colours_of};
use crate::run::{Clock, memory as need};
use crate::scene::camera::{Camera, DepthRange};
use crate::scene::photo::Photo;
use crate::scene::{OpenOptions, Scene};

/// Which maps are read, how, and where results go.
#[derive(Clone, Debug)]
pub struct MapsOptions {
    /// Where results go; `None`: a folder beside the maps, `MAPS_fused` or `MAPS_sweep`.
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
    /// Bytes to plan with; `None`: what is available.
    pub memory: Option<u64>,
}

/// Everything that [`fuse`] can be told.
#[derive(Clone, Debug)]
pub struct FuseOptions {
    /// Which maps, and where to.
    pub maps: MapsOptions,
    /// The preset that the settings began from, for the manifest.
    pub preset: Option<&'static str>,
    /// Which pixels become points.
    pub settings: Settings,
}

/// Fuses the maps in `maps` (depth/NAME.pfm, confidence/NAME.pfm, and levels/K/ for a method that merges levels), with
/// the cameras and photos of a scene.
///
/// # Errors
/// Maps that cannot be read or belong to no view, files that cannot be written, and [`Error::Nothing`] where no point
/// survived.
pub fn fuse(maps: &Path, scene_path: &Path, options: &FuseOptions, progress: &Progress) -> Result<()> {
    let mut clock = Clock::new();
    let job = Job { command: "fuse", maps, scene: scene_path, suffix: "_fused", extra: &[], bytes_a_point: 0 };
    let mut input = read(&job, &options.maps, &[options.settings], progress)?;
    clock.lap("reading");
    input.folder.claim()?;
    input.set_sources(options.settings.check_sources);
    let manifest = Manifest {
        program: "engine",
        version: env!("CARGO_PKG_VERSION"),
        command: "fuse",
        ended_unix_s: 0,
        scene: SceneSummary::new(&input.scene),
        notes: input.notes,
        network: None,
        machine: MachineSummary::now(Some(input.need)),
        parameters: parameters(maps, input.max_side, options),
        views: write::summaries_of(&input.scene, &input.frames, &input.views, &input.chosen),
        funnel: None,
        points: 0,
        seconds: Value::Null,
        outputs: Vec::new(),
    };
    let out = input.folder.path();
    write::fuse_and_report(
        &input.views,
        Some(&options.settings.fusion),
        &Geometry::Host,
        manifest,
        clock,
        out,
        progress,
    )
}

/// What is done with maps that exist.
pub struct Job<'a> {
    /// The command, for events.
    pub command: &'static str,
    /// The maps' folder.
    pub maps: &'a Path,
    /// The scene's folder.
    pub scene: &'a Path,
    /// Added to the maps' folder gives the default one for results.
    pub suffix: &'static str,
    /// What the command itself holds in memory beside the fusion.
    pub extra: &'a [Part],
    /// Bytes that the command holds beside the point itself for every point of a cloud.
    pub bytes_a_point: u64,
}

/// Maps that were read, ready for fusion.
pub struct Input {
    /// The scene that they are of.
    pub scene: Scene,
    /// Indices of the scene's views that are fused.
    pub chosen: Vec<usize>,
    /// Of all views of the scene.
    pub frames: Vec<Frame>,
    /// The chosen views, without sources: see [`Input::set_sources`].
    pub views: Vec<FusionView>,
    /// For each of them the source views, best first; `None` for one without maps.
    ranked: Vec<Vec<Option<usize>>>,
    /// Where results go, not yet claimed.
    pub folder: OutputFolder,
    /// What was assumed, already told.
    pub notes: Vec<String>,
    /// Memory that was planned.
    pub need: MemoryNeed,
    /// Longest side of the photos.
    pub max_side: Option<usize>,
}

impl Input {
    /// Lets each view be checked against the best `check_sources` source views, as far as they have maps.
    pub fn set_sources(&mut self, check_sources: usize) {
        for (view, ranked) in self.views.iter_mut().zip(&self.ranked) {
            view.sources = ranked.iter().take(check_sources).flatten().copied().collect();
        }
    }
}

/// Reads everything that any of the settings needs.
///
/// # Errors
/// A scene or maps that cannot be read or do not belong together, an output folder that is not one, too little memory.
pub fn read(job: &Job, options: &MapsOptions, settings: &[Settings], progress: &Progress) -> Result<Input> {
    let maps = job.maps;
    let names = names_of_maps(maps)?;
    let mut scene = Scene::open(job.scene, &options.open)?;
    if let Some(range) = options.range {
        scene.views.iter_mut().for_each(|v| v.range = Some(range));
    }
    scene.select_sources();
    let out = match &options.out {
        Some(out) => out.clone(),
        None => folder::sibling(maps, job.suffix)?,
    };
    let folder = OutputFolder::new(&out, job.scene, options.force)?;
    progress.event(
        "start",
        json!({ "command": job.command, "version": env!("CARGO_PKG_VERSION"), "scene": job.scene, "maps": maps, "out": out }),
    );
    let mut notes = scene.notes.clone();
    let max_side = options.max_side.or_else(|| recorded_max_side(maps, &mut notes));
    let chosen = views_with_maps(&scene, maps, &names, &options.only, &mut notes)?;
    let frames: Vec<Frame> = scene.views.iter().map(|v| Frame::new(v, max_side)).collect();
    let levels = settings.iter().map(levels_of).max().unwrap_or(0);
    let need = fit_into_memory(job, &scene, &frames, &chosen, settings, options.memory)?;

    let mut views = Vec::with_capacity(chosen.len());
    let mut without_confidence = 0;
    let mut stage = progress.stage("reading", chosen.len(), chosen.len() as u64);
    for &at in &chosen {
        interrupt::check()?;
        let view = &scene.views[at];
        let path = maps.join("depth").join(format!("{}.pfm", view.name));
        let depth = pfm::read(&path)?;
        let size = (depth.width, depth.height);
        let scale = MapScale::find(&frames[at], size, &path)?;
        let camera = scale.camera(&frames[at]);
        let confidence_path = maps.join("confidence").join(format!("{}.pfm", view.name));
        let confidence = if confidence_path.exists() {
            read_sized(&confidence_path, size, "the size of its depth map")?
        } else {
            without_confidence += 1;
            Map::filled(depth.width, depth.height, 1.0)
        };
        let level = |level: usize| read_level(maps, &view.name, level, camera, size);
        let levels = (0..levels).map(level).collect::<Result<_>>()?;
        let loaded = Photo::load(view, max_side)?;
        let colour = scale.colours(loaded.photo, size);
        views.push(FusionView {
            name: view.name.clone(),
            camera,
            depth,
            confidence,
            colour,
            range: options.range.unwrap_or(ANY_DEPTH),
            sources: Vec::new(),
            levels,
        });
        stage.step(&view.name, 1, json!({ "view": view.name, "width": frames[at].width, "height": frames[at].height }));
    }
    drop(stage);
    if without_confidence > 0 {
        notes.push(format!("{without_confidence} of {} views have no confidence map: 1 everywhere", views.len()));
    }
    notes.iter().for_each(|note| progress.note(note));
    let place = |view: usize| chosen.iter().position(|&c| c == view);
    let ranked = chosen.iter().map(|&at| scene.views[at].sources.iter().map(|s| place(s.view)).collect());
    let ranked = ranked.collect();
    Ok(Input { scene, chosen, frames, views, ranked, folder, notes, need, max_side })
}

/// Levels that the settings' method reads beside the finished maps.
fn levels_of(settings: &Settings) -> usize {
    match settings.fusion.method {
        Method::Pyramid(pyramid) => pyramid.levels,
        _ => 0,
    }
}

/// Depth and confidence of one level before levels were merged; `finest` is the size of the view's finished maps.
fn read_level(maps: &Path, name: &str, level: usize, camera: Camera, finest: (usize, usize)) -> Result<LevelMaps> {
    let size = (finest.0.div_ceil(1 << level), finest.1.div_ceil(1 << level));
    let read = |kind: &str| {
        let path = maps.join("levels").join(level.to_string()).join(kind).join(format!("{name}.pfm"));
        if !path.exists() {
            return Err(Error::input(
                path.display().to_string(),
                "no such map",
                "the maps of every level that is merged, as `engine infer` keeps them for its --levels: run it with more, \
                 or ask for fewer here",
            ));
        }
        read_sized(&path, size, &format!("the size of level {level} of this view"))
    };
    let (depth, confidence) = (read("depth")?, read("confidence")?);
    Ok(LevelMaps { camera: camera.decimated(0.5f64.powi(level as i32)), depth, confidence })
}

fn read_sized(path: &Path, size: (usize, usize), what: &str) -> Result<Map> {
    let map = pfm::read(path)?;
    if (map.width, map.height) == size {
        return Ok(map);
    }
    Err(Error::input(
        path.display().to_string(),
        format!("a map of {} x {}", map.width, map.height),
        format!("{what}, {} x {}", size.0, size.1),
    ))
}

/// The fusion's memory, by the maps' file sizes: four bytes a pixel.
fn fit_into_memory(
    job: &Job,
    scene: &Scene,
    frames: &[Frame],
    chosen: &[usize],
    settings: &[Settings],
    memory: Option<u64>,
) -> Result<MemoryNeed> {
    let mut pixels = 0;
    for &at in chosen {
        let path = job.maps.join("depth").join(format!("{}.pfm", scene.views[at].name));
        pixels += std::fs::metadata(&path).map_err(Error::io("read the depth map", &path))?.len() / 4;
    }
    let photo = chosen.iter().map(|&at| need::photo_bytes(&scene.views[at], &frames[at], 1)).max().unwrap_or(0);
    let levels = settings.iter().map(levels_of).max().unwrap_or(0);
    let stage = |settings: &Settings| {
        let mut stage = need::fusion(pixels, photo, &settings.fusion.method);
        // Two maps of each level, all levels together less than 4/3 of the finest.
        let bytes = if levels > 0 { pixels * 8 * 4 / 3 } else { 0 };
        stage.parts.push(Part::new("depth and confidence of all levels", bytes));
        let points = pixels * settings.fusion.method.points_a_pixel();
        stage.parts.push(Part::new("what is kept of each point beside it", points * job.bytes_a_point));
        stage.parts.extend(job.extra.iter().copied());
        stage
    };
    // Settings are tried one after the other.
    let need = MemoryNeed { stages: settings.iter().map(stage).max_by_key(StageMemory::total).into_iter().collect() };
    let otherwise = "fuse fewer views at a time (--view NAME), or smaller maps";
    memory::refuse_if_too_large(&need, memory.unwrap_or_else(memory::available), &[], otherwise)?;
    Ok(need)
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
    let manifest: Value = serde_json::from_slice(&input::read(&maps.join(MANIFEST), "read the manifest").ok()?).ok()?;
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
        return Err(Error::input(format!("--view {name}"), format!("no map of it in {depth}"), "a view with a map"));
    }
    let chosen: Vec<usize> = wanted.into_iter().filter(|&v| has_map(&scene.views[v].name)).collect();
    if chosen.is_empty() {
        return Err(Error::input(
            maps.join("depth").display().to_string(),
            format!("maps such as {}.pfm, none named after a view of the scene", names[0]),
            format!("maps named after its photos, such as {}.pfm", scene.views.first().map_or("NAME", |v| &v.name)),
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
        let same_shape =
            (photo.1 as f64 * sx - map.1 as f64).abs() < 1.0 || (photo.0 as f64 * sy - map.0 as f64).abs() < 1.0;
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
    let mut all = json!({ "preset": options.preset });
    if let Value::Object(fields) = &mut all {
        fields.append(&mut common_parameters(maps, max_side, &options.maps));
        fields.append(&mut options.settings.fields());
    }
    all
}

/// How maps were read, for manifests.
pub fn common_parameters(maps: &Path, max_side: Option<usize>, options: &MapsOptions) -> Fields<String, Value> {
    let fields = [
        ("maps", json!(maps.canonicalize().unwrap_or_else(|_| maps.to_owned()))),
        ("max_side", json!(max_side)),
        ("only", json!(options.only)),
        ("range", json!(options.range)),
        ("depth_numbers", json!(options.open.depth_numbers)),
        ("layout", json!(options.open.layout)),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
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
