//! A point cloud from depth maps that are there already: `engine fuse`.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use serde_json::json;

use crate::error::{Error, Result};
use crate::files::depth_maps::DepthMaps;
use crate::files::folder::{OutputFolder, sibling};
use crate::files::lock;
use crate::files::map::Map;
use crate::files::names::{in_json, readable};
use crate::files::pfm;
use crate::fusion::settings::{Method, Settings};
use crate::fusion::view::FusionView;
use crate::host::interrupt;
use crate::host::memory::{MemoryNeed, Part, StageMemory, refuse_if_too_large};
use crate::host::memory_limits::room;
use crate::host::progress::{Progress, one_line};
use crate::host::trace::Clock;
use crate::manifest::{MachineSummary, Manifest, made};
use crate::maps::merge::LevelMaps;
use crate::maps::valid::{Invalid, take_out_invalid};
use crate::net::config::Resolution;
use crate::run::device::Backend;
use crate::run::memory::{fusion_stage, photo_bytes};
use crate::run::options::{FuseOptions, MapsOptions, parameters};
use crate::run::plan::{Frame, chosen_views};
use crate::run::products;
use crate::run::write::{self, Colours, Fusion};
use crate::scene::camera::{Camera, DepthRange};
use crate::scene::mask::{self, Mask};
use crate::scene::photo::Photo;
use crate::scene::{Scene, View};

/// All positive depths.
const ANY_DEPTH: DepthRange = DepthRange { near: f64::MIN_POSITIVE, far: f64::MAX };

/// Fuses maps (depth/NAME.pfm, confidence/NAME.pfm, and levels/K/ for a method that merges levels; or the depth maps of
/// COLMAP's dense workspace), with the cameras and photos of a scene.
///
/// # Errors
/// Maps that cannot be read or belong to no view, files that cannot be written, and [`Error::Nothing`] where no point
/// survived.
pub fn fuse(scene_path: &Path, options: &FuseOptions, progress: &Progress) -> Result<()> {
    let mut clock = Clock::start();
    let job = Job { command: "fuse", scene: scene_path, suffix: "_fused", extra: &[], bytes_a_point: 0 };
    let mut input = read(&job, &options.maps, &[options.settings], progress)?;
    clock.lap("reading");
    input.claim(progress)?;
    input.set_sources(options.settings.check_sources);
    let manifest = Manifest {
        notes: input.notes,
        machine: MachineSummary::now(Some(input.need)),
        parameters: parameters(&FuseOptions { maps: input.options, ..options.clone() }),
        views: write::view_summaries(&input.scene, &input.frames, &input.views, input.chosen.into_iter()),
        ..Manifest::new("fuse", &input.scene, input.folder.path())
    };
    let FuseOptions { thin, ply_offset, .. } = *options;
    let region = input.scene.region;
    let fusion = Fusion { options: &options.settings.fusion, thin, region, ply_offset, backend: &Backend::Host };
    write::fuse_and_report(manifest, clock, input.views, Some(fusion), progress).map(drop)
}

/// What is done with maps that are there.
pub struct Job<'a> {
    /// The command, for events.
    pub command: &'static str,
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
    /// How the maps were read, with what was taken from their manifest.
    pub options: MapsOptions,
}

impl Input {
    /// Begins to write: takes away what vouches for earlier results in the folder.
    ///
    /// # Errors
    /// A folder that cannot be written into, or that another run is at work in.
    pub fn claim(&mut self, progress: &Progress) -> Result<()> {
        self.folder.claim()?;
        if let Some(note) = self.folder.note() {
            progress.note(&note);
            self.notes.push(note);
        }
        products::withdraw(self.folder.path())
    }

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
    let maps = &options.maps;
    let at_work = lock::at_work(maps);
    let files = DepthMaps::find(maps)?;
    let mut scene = Scene::open(job.scene, &options.open)?;
    if let Some(range) = options.range {
        scene.views.iter_mut().for_each(|v| v.range = Some(range));
    }
    scene.select_sources();
    let folder = OutputFolder::of_scene(&options.output, || sibling(maps, job.suffix), job.scene)?;
    refuse_maps_folder(folder.path(), options.output.force)?;
    progress.event(
        "start",
        json!({ "command": job.command, "version": env!("CARGO_PKG_VERSION"), "scene": in_json(job.scene),
                "maps": in_json(maps), "out": in_json(folder.path()) }),
    );
    let mut notes = scene.notes.clone();
    notes.extend(files.notes.iter().cloned());
    notes.extend(at_work.map(|who| format!("another run is at work on the maps ({who}): they may change meanwhile")));
    if made::is_unfinished(maps) {
        notes.push("the run that makes the maps has not come to its end: there is no manifest.json beside them".into());
    }
    let max_side = options.max_side.or_else(|| recorded_max_side(maps, &files, &mut notes));
    let chosen = views_with_maps(&scene, &files, &options.only, &mut notes)?;
    notes.extend(made::mixture(maps, chosen.iter().map(|&view| scene.views[view].name.as_str())));
    let frames: Vec<Frame> = scene.views.iter().map(|v| Frame::new(v, max_side, Resolution::Full)).collect();
    let options =
        MapsOptions { maps: maps.canonicalize().unwrap_or_else(|_| maps.clone()), max_side, ..options.clone() };
    let need = fit_into_memory(job, &scene, (&frames, &files), &chosen, (&options, settings))?;

    let levels = settings.iter().map(levels_of).max().unwrap_or(0);
    let mut views = Vec::with_capacity(chosen.len());
    let (mut without_confidence, mut masked, mut unusable) = (0, 0, Invalid::default());
    let mut empty = Vec::new();
    let mut stage = progress.stage("reading", chosen.len(), chosen.len() as u64);
    for &at in &chosen {
        interrupt::check()?;
        let ReadView { view, has_confidence, is_masked, is_empty, invalid } =
            read_view(&scene, at, (&frames[at], &files), levels, &options)?;
        without_confidence += usize::from(!has_confidence);
        masked += usize::from(is_masked);
        empty.extend(is_empty.then(|| view.name.clone()));
        unusable = unusable.and(invalid);
        let fields = json!({ "view": view.name, "width": frames[at].width, "height": frames[at].height });
        stage.step(&view.name, 1, fields);
        views.push(view);
    }
    drop(stage);
    if without_confidence > 0 {
        notes.push(format!("{without_confidence} of {} views have no confidence map: 1 everywhere", views.len()));
    }
    notes.extend(unusable.notes(&one_line(&maps.display().to_string())));
    notes.extend(mask::notes(masked, views.len(), &empty));
    notes.iter().for_each(|note| progress.note(note));
    let places: BTreeMap<usize, usize> = chosen.iter().enumerate().map(|(place, &view)| (view, place)).collect();
    let place = |view: usize| places.get(&view).copied();
    let ranked = chosen.iter().map(|&at| scene.views[at].sources.iter().map(|s| place(s.view)).collect());
    let ranked = ranked.collect();
    Ok(Input { scene, chosen, frames, views, ranked, folder, notes, need, options })
}

/// A view that was read.
struct ReadView {
    view: FusionView,
    has_confidence: bool,
    /// Whether a part of its photo does not belong to the scene; it is cut out of its maps.
    is_masked: bool,
    /// Whether none of it does.
    is_empty: bool,
    /// What was taken out of its finished maps.
    invalid: Invalid,
}

/// Maps and colours of one view.
fn read_view(
    scene: &Scene,
    at: usize,
    (frame, files): (&Frame, &DepthMaps),
    levels: usize,
    options: &MapsOptions,
) -> Result<ReadView> {
    let (view, maps) = (&scene.views[at], &options.maps);
    let path = map_of(files, view)?;
    let mut depth = files.read(path)?;
    let size = (depth.width, depth.height);
    let scale = MapScale::find(frame, size, path)?;
    let camera = scale.camera(frame);
    let confidence_path = maps.join("confidence").join(format!("{}.pfm", view.name));
    let has_confidence = confidence_path.exists();
    let mut confidence = match has_confidence {
        true => read_sized(&confidence_path, size, "the size of its depth map")?,
        false => Map::filled(depth.width, depth.height, 1.0),
    };
    let invalid = take_out_invalid(&mut depth, &mut confidence);
    let level = |level: usize| read_level(maps, &view.name, level, camera, size);
    let mut levels = (0..levels).map(level).collect::<Result<Vec<_>>>()?;
    let mut loaded = Photo::load(view, options.max_side)?;
    let mask = loaded.take_mask(view)?;
    let is_masked = mask.is_some();
    let is_empty = mask.as_ref().is_some_and(Mask::is_all);
    if let Some(mask) = mask {
        let mut mask = scale.mask(&mask, size);
        mask.cut(&mut depth, &mut confidence);
        for level in &mut levels {
            if mask.size() != (level.depth.width, level.depth.height) {
                mask = mask.coarser();
            }
            mask.cut(&mut level.depth, &mut level.confidence);
        }
    }
    let colour = scale.colours(loaded.photo, size);
    let range = options.range.unwrap_or(ANY_DEPTH);
    let name = view.name.clone();
    let view = FusionView { name, camera, depth, confidence, colour, range, sources: Vec::new(), levels };
    Ok(ReadView { view, has_confidence, is_masked, is_empty, invalid })
}

/// The file of a chosen view's depth map.
fn map_of<'a>(files: &'a DepthMaps, view: &View) -> Result<&'a Path> {
    let problem = || Error::Bug { place: "reading maps", problem: format!("view {} has none", view.name) };
    files.of_view(&view.name, &view.image).map(|(_, file)| file).ok_or_else(problem)
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
                "the maps of every level that is merged, as `engine infer` keeps them for its --levels: run it with \
                 more, or ask for fewer here",
            ));
        }
        read_sized(&path, size, &format!("the size of level {level} of this view"))
    };
    let (mut depth, mut confidence) = (read("depth")?, read("confidence")?);
    take_out_invalid(&mut depth, &mut confidence);
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
    (frames, files): (&[Frame], &DepthMaps),
    chosen: &[usize],
    (options, settings): (&MapsOptions, &[Settings]),
) -> Result<MemoryNeed> {
    let mut pixels = 0;
    for &at in chosen {
        let path = map_of(files, &scene.views[at])?;
        pixels += std::fs::metadata(path).map_err(Error::io("read the depth map", path))?.len() / 4;
    }
    let photo = chosen.iter().map(|&at| photo_bytes(&scene.views[at], &frames[at], 1)).max().unwrap_or(0);
    let levels = settings.iter().map(levels_of).max().unwrap_or(0);
    let stage = |settings: &Settings| {
        let mut stage = fusion_stage(pixels, photo, &settings.fusion.method);
        // Two maps of each level, all levels together less than 4/3 of the finest.
        let bytes = if levels > 0 { pixels * 8 * 4 / 3 } else { 0 };
        stage.parts.push(Part::new("depth and confidence of all levels", bytes));
        let points = pixels * settings.fusion.method.points_a_pixel();
        stage.parts.push(Part::new("what is kept of each point beside it", points * job.bytes_a_point));
        stage.parts.extend(job.extra.iter().cloned());
        stage
    };
    // Settings are tried one after the other.
    let need = MemoryNeed { stages: settings.iter().map(stage).max_by_key(StageMemory::total).into_iter().collect() };
    let otherwise = "fuse fewer views at a time (--view NAME), or smaller maps";
    refuse_if_too_large(&need, &room(options.memory), &[], otherwise)?;
    Ok(need)
}

/// The folder of maps has a manifest that says how they were made, and keeps it.
fn refuse_maps_folder(out: &Path, force: bool) -> Result<()> {
    if force || !out.join("depth").is_dir() {
        return Ok(());
    }
    Err(Error::input(
        format!("output folder {}", out.display()),
        "it holds depth maps, and a manifest.json and a cloud that belong to them",
        "another folder (-o OUT) for a cloud of other settings, or --force to replace both",
    ))
}

/// The `--max-side` of the run that made the maps, where its manifest or its records lie beside them.
fn recorded_max_side(maps: &Path, files: &DepthMaps, notes: &mut Vec<String>) -> Option<usize> {
    let (side, who) = match Manifest::read(maps).ok()? {
        Some(manifest) => (manifest.max_side().filter(|_| manifest.program == "engine")?, "manifest says"),
        None => (made::max_side(maps, files.names())?, "records say"),
    };
    notes.push(format!("photos are reduced to {side} px as the maps' {who}"));
    Some(side)
}

/// Indices of the scene's views that have a map and are asked for.
fn views_with_maps(scene: &Scene, files: &DepthMaps, only: &[String], notes: &mut Vec<String>) -> Result<Vec<usize>> {
    let wanted = chosen_views(scene, only)?;
    let of_views: Vec<Option<&str>> =
        scene.views.iter().map(|view| files.of_view(&view.name, &view.image).map(|(name, _)| name)).collect();
    let place = files.folder.display().to_string();
    if let Some(&view) = wanted.iter().find(|&&view| !only.is_empty() && of_views[view].is_none()) {
        let name = &scene.views[view].name;
        return Err(Error::input(format!("--view {name}"), format!("no map of it in {place}"), "a view with a map"));
    }
    let chosen: Vec<usize> = wanted.into_iter().filter(|&view| of_views[view].is_some()).collect();
    if chosen.is_empty() {
        let first = files.names().next().unwrap_or_default();
        let (photo, ending) = match (files.are_colmaps, scene.views.first()) {
            (true, Some(view)) => (readable(view.image.file_name().unwrap_or_default()), "geometric.bin"),
            (_, view) => (view.map_or("NAME".to_owned(), |view| view.name.clone()), "pfm"),
        };
        return Err(Error::input(
            place,
            format!("maps such as {first}.{ending}, none named after a view of the scene"),
            format!("maps named after its photos, such as {photo}.{ending}"),
        ));
    }
    if let Some(&bent) = chosen.iter().find(|&&view| files.are_colmaps && scene.views[view].lens.is_some()) {
        return Err(Error::input(
            place,
            format!("COLMAP's maps, which are of undistorted photos, for {}", scene.views[bent].image.display()),
            "the photos and cameras of the maps' own workspace: --scene with its folder",
        ));
    }
    let known: HashSet<&str> = of_views.into_iter().flatten().collect();
    let foreign: Vec<&str> = files.names().filter(|name| !known.contains(name)).collect();
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

    /// The photo's mask at the map's pixels.
    fn mask(self, mask: &Mask, (width, height): (usize, usize)) -> Mask {
        match self {
            Self::Decimated(n) => mask.decimated(n),
            Self::Resized(..) => mask.resized(width, height),
        }
    }

    /// The photo's colours at the map's pixels, smoothed so that finer texture does not alias.
    fn colours(self, mut photo: Photo, (width, height): (usize, usize)) -> Colours {
        match self {
            Self::Decimated(n) => {
                for _ in 0..n {
                    photo = photo.pyramid_level();
                }
                photo.colours()
            }
            Self::Resized(..) => photo.area_averaged(width, height).colours(),
        }
    }
}

#[cfg(test)]
mod tests {
    use glam::{DMat3, DVec3};

    use super::*;

    #[test]
    fn the_maps_size_tells_its_scale() {
        let camera = Camera { k: DMat3::IDENTITY, r: DMat3::IDENTITY, t: DVec3::ZERO };
        let frame = Frame { width: 101, height: 67, camera, resolution: Resolution::Full };
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
