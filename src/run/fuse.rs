//! A point cloud from depth maps that are there already: `engine fuse`.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde_json::json;

use crate::error::{Error, Result};
use crate::files::depth_maps::DepthMaps;
use crate::files::folder::{OutputFolder, sibling};
use crate::files::lock;
use crate::files::names::{in_json, readable};
use crate::files::scratch::Scratch;
use crate::fusion::settings::{Method, Settings};
use crate::host::interrupt;
use crate::host::memory::{MemoryNeed, Part, StageMemory, refuse_if_too_large};
use crate::host::memory_limits::room;
use crate::host::progress::{Progress, one_line};
use crate::host::trace::Clock;
use crate::manifest::{MachineSummary, Manifest, made};
use crate::maps::valid::Invalid;
use crate::net::config::Resolution;
use crate::run::cloud::{self, Fusion, Views};
use crate::run::device::Backend;
use crate::run::fuse_views::{ReadView, map_of, read_view};
use crate::run::fusion_memory::{Stream, StreamedViews, Streaming, fusion_stage};
use crate::run::memory::photo_bytes;
use crate::run::opening;
use crate::run::options::{FuseOptions, MapsOptions, parameters};
use crate::run::plan::{Frame, chosen_views};
use crate::run::products;
use crate::run::write;
use crate::scene::Scene;
use crate::scene::mask;

/// Added to the name of the maps' folder: the default one for results.
pub const SUFFIX: &str = "_fused";

/// Fuses maps (depth/NAME.pfm, confidence/NAME.pfm, and levels/K/ for a method that merges levels; or the depth maps of
/// COLMAP's dense workspace), with the cameras and photos of a scene.
///
/// # Errors
/// Maps that cannot be read or belong to no view, files that cannot be written, and [`Error::Nothing`] where no point
/// survived.
pub fn fuse(scene_path: &Path, options: &FuseOptions, progress: &Progress) -> Result<()> {
    let mut clock = Clock::start();
    let thinned = options.thin.is_some();
    let stream = Some(Stream { thinned });
    let job = Job { command: "fuse", scene: scene_path, suffix: SUFFIX, extra: &[], bytes_a_point: 0, stream };
    let mut input = read(&job, &options.maps, &[options.settings], progress)?;
    clock.lap("reading");
    input.claim(progress)?;
    input.set_sources(options.settings.check_sources);
    let facts = input.views.facts();
    let manifest = Manifest {
        notes: input.notes,
        machine: MachineSummary::now(Some(input.need)),
        parameters: parameters(&FuseOptions { maps: input.options, ..options.clone() }),
        views: write::view_summaries(&input.scene, &input.frames, &facts, input.chosen.into_iter()),
        ..Manifest::new("fuse", &input.scene, input.folder.path())
    };
    let FuseOptions { thin, ply_offset, .. } = *options;
    let region = input.scene.region;
    let fusion = Fusion { options: &options.settings.fusion, thin, region, ply_offset, backend: &Backend::Host };
    cloud::fuse_and_report(manifest, clock, input.views, Some(fusion), progress).map(drop)
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
    /// For a command that fuses once: maps may stay on disk where they do not fit.
    pub stream: Option<Stream>,
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
    pub views: Views,
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
        for (at, ranked) in self.ranked.iter().enumerate() {
            self.views.set_sources(at, best(ranked, check_sources));
        }
    }
}

/// Reads everything that any of the settings needs.
///
/// # Errors
/// A scene or maps that cannot be read or do not belong together, an output folder that is not one, too little memory.
pub fn read(job: &Job, options: &MapsOptions, settings: &[Settings], progress: &Progress) -> Result<Input> {
    let mut folder = None;
    let open = || {
        let opened = OutputFolder::of_scene(&options.output, || sibling(&options.maps, job.suffix), job.scene)?;
        let path = opened.path().to_owned();
        folder = Some(opened);
        Ok(path)
    };
    let looked = look(job, options, progress, open)?;
    let Looked { scene, files, chosen, frames, ranked, mut notes, options } = looked;
    let Some(folder) = folder else {
        return Err(Error::Bug { place: "reading maps", problem: "no folder".into() });
    };
    let maps = &options.maps;
    let scratch = Scratch::folder_near(folder.path());
    let fitted = fit_into_memory(job, (&scene, &frames, &files), (&chosen, &ranked), (&options, settings))?;
    notes.extend(fitted.put_aside.map(|(needed, there)| cloud::streaming_note(needed, there, &scratch)));

    let levels = settings.iter().map(levels_of).max().unwrap_or(0);
    let mut views = Views::new(fitted.streaming, &scratch, &settings[0].fusion)?;
    let (mut without_confidence, mut masked, mut unusable) = (0, 0, Invalid::default());
    let mut empty = Vec::new();
    let mut stage = progress.stage("reading", chosen.len(), chosen.len() as u64);
    for some in chosen.chunks(views.at_once()) {
        interrupt::check()?;
        let read = some.par_iter().map(|&at| {
            read_view(&scene, at, (&frames[at], map_of(&files, &scene.views[at])?, &files), levels, &options)
        });
        let read: Vec<Result<ReadView>> = read.collect();
        let mut of_some = Vec::with_capacity(some.len());
        for (&at, read) in some.iter().zip(read) {
            let ReadView { view, has_confidence, is_masked, is_empty, invalid } = read?;
            without_confidence += usize::from(!has_confidence);
            masked += usize::from(is_masked);
            empty.extend(is_empty.then(|| view.name.clone()));
            unusable = unusable.and(invalid);
            let fields = json!({ "view": view.name, "width": frames[at].width, "height": frames[at].height });
            stage.step(&view.name, 1, fields);
            of_some.push(view);
        }
        views.add(of_some)?;
    }
    drop(stage);
    if without_confidence > 0 {
        notes.push(format!("{without_confidence} of {} views have no confidence map: 1 everywhere", chosen.len()));
    }
    notes.extend(unusable.notes(&one_line(&maps.display().to_string())));
    notes.extend(mask::notes(masked, chosen.len(), &empty));
    notes.iter().for_each(|note| progress.note(note));
    let need = fitted.need;
    Ok(Input { scene, chosen, frames, views, ranked, folder, notes, need, options })
}

/// Maps that are there, before they are read.
pub struct Looked {
    /// The scene that they are of.
    pub scene: Scene,
    /// Where they lie.
    pub files: DepthMaps,
    /// Indices of the scene's views that are fused.
    pub chosen: Vec<usize>,
    /// Of all views of the scene.
    pub frames: Vec<Frame>,
    /// For each chosen view the source views, best first; `None` for one without maps.
    pub ranked: Vec<Vec<Option<usize>>>,
    /// What was assumed.
    pub notes: Vec<String>,
    /// How the maps are read, with what was taken from their manifest.
    pub options: MapsOptions,
}

/// Finds the scene's views that have maps, and the folder for results, which `open_folder` gives.
///
/// # Errors
/// A scene or maps that cannot be read or do not belong together, an output folder that is not one.
pub fn look(
    job: &Job,
    options: &MapsOptions,
    progress: &Progress,
    open_folder: impl FnOnce() -> Result<PathBuf>,
) -> Result<Looked> {
    let maps = &options.maps;
    let at_work = lock::at_work(maps);
    let files = DepthMaps::find(maps)?;
    let (mut scene, open) = opening::open(job.scene, &options.open)?;
    if let Some(range) = options.range {
        scene.views.iter_mut().for_each(|v| v.range = Some(range));
    }
    scene.select_sources();
    let folder = open_folder()?;
    refuse_maps_folder(&folder, options.output.force)?;
    progress.event(
        "start",
        json!({ "command": job.command, "version": env!("CARGO_PKG_VERSION"), "scene": in_json(job.scene),
                "maps": in_json(maps), "out": in_json(&folder) }),
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
    let options = MapsOptions {
        maps: dunce::canonicalize(maps).unwrap_or_else(|_| maps.clone()),
        max_side,
        open,
        ..options.clone()
    };
    let places: BTreeMap<usize, usize> = chosen.iter().enumerate().map(|(place, &view)| (view, place)).collect();
    let place = |view: usize| places.get(&view).copied();
    let ranked = chosen.iter().map(|&at| scene.views[at].sources.iter().map(|s| place(s.view)).collect());
    let ranked: Vec<Vec<Option<usize>>> = ranked.collect();
    Ok(Looked { scene, files, chosen, frames, ranked, notes, options })
}

/// Levels that the settings' method reads beside the finished maps.
fn levels_of(settings: &Settings) -> usize {
    match settings.fusion.method {
        Method::Pyramid(pyramid) => pyramid.levels,
        _ => 0,
    }
}

/// The best source views, as far as they have maps.
pub fn best(ranked: &[Option<usize>], check_sources: usize) -> Vec<usize> {
    ranked.iter().take(check_sources).flatten().copied().collect()
}

/// What there is memory for.
struct Fitted {
    need: MemoryNeed,
    /// Where maps must stay on disk: how.
    streaming: Option<Streaming>,
    /// Bytes that all maps at once would have taken then, and those that there are.
    put_aside: Option<(u64, u64)>,
}

/// The fusion's memory, by the maps' file sizes: four bytes a pixel.
fn fit_into_memory(
    job: &Job,
    (scene, frames, files): (&Scene, &[Frame], &DepthMaps),
    (chosen, ranked): (&[usize], &[Vec<Option<usize>>]),
    (options, settings): (&MapsOptions, &[Settings]),
) -> Result<Fitted> {
    let mut of_views = Vec::with_capacity(chosen.len());
    for &at in chosen {
        let path = map_of(files, &scene.views[at])?;
        of_views.push(std::fs::metadata(path).map_err(Error::io("read the depth map", path))?.len() / 4);
    }
    let pixels = of_views.iter().sum::<u64>();
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
    let there = room(options.memory);
    let streams = |s: &&Settings| job.stream.is_some() && s.fusion.method.takes_views_one_by_one();
    if let Some(settings) = settings.first().filter(streams)
        && need.peak() > there.bytes
    {
        let sources = ranked.iter().map(|ranked| best(ranked, settings.check_sources)).collect();
        let thinned = job.stream.is_some_and(|stream| stream.thinned);
        let views = StreamedViews { pixels: of_views, sources, photo, held: false, thinned, tiled: false };
        let streaming = Streaming::plan(&views, there.bytes);
        let put_aside = Some((need.peak(), there.bytes));
        let need = MemoryNeed { stages: streaming.stages.clone() };
        let otherwise = "smaller maps, fewer sources (--check-sources) or fewer --threads would help";
        refuse_if_too_large(&need, &there, &[], otherwise)?;
        return Ok(Fitted { need, streaming: Some(streaming), put_aside });
    }
    let otherwise = "fuse fewer views at a time (--view NAME), or smaller maps";
    refuse_if_too_large(&need, &there, &[], otherwise)?;
    Ok(Fitted { need, streaming: None, put_aside: None })
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
