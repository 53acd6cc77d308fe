//! The later stages: levels merged, maps written.

use std::collections::BTreeSet;

use rayon::prelude::*;
use serde_json::{Map as Fields, Value, json};

use crate::draw::{preview, thumbnail};
use crate::error::{Error, Result};
use crate::files::folder::write_file;
use crate::files::names::slashed;
use crate::files::{hash, pfm};
use crate::fusion::view::{FusionView, ViewFacts};
use crate::host::interrupt;
use crate::host::trace::Clock;
use crate::manifest::made::{Counts, Made};
use crate::manifest::{ViewSummary, rows};
use crate::maps::merge::LevelMaps;
use crate::maps::normals;
use crate::net::config::Resolution;
use crate::run::memory::photos_at_once;
use crate::run::merging::{MergedView, Merging};
use crate::run::plan::{self, Frame, ViewPlan, Work};
use crate::run::products::ViewFiles;
use crate::scene::Scene;
use crate::scene::photo::{LoadedPhoto, Photo};

/// Below this many rows a photo is shown as it is beside its depth map, above reduced.
const PREVIEW_ROWS: usize = 600;

/// What [`finish_views`] leaves beside the files.
#[derive(Default)]
pub struct FinishedViews {
    /// The files' names relative to the folder.
    pub outputs: Vec<String>,
    /// The views' maps with the photos' colours at their pixels; none where only the files were asked for.
    pub maps: Vec<(LevelMaps, Colours)>,
    /// What was counted when they were merged, by view.
    pub counts: Vec<Counts>,
    /// What is worth knowing.
    pub notes: Vec<String>,
}

/// What is wanted of views beside their files.
#[derive(Clone, Copy, PartialEq)]
pub enum Wanted {
    /// Nothing: views whose files are there need no look.
    Files,
    /// Their maps and colours, for fusion.
    Maps,
}

/// Merges the levels of some views of the plan and writes depth/, confidence/, preview/ and, where asked for, normal/,
/// and beside them that `job` has made them. Views that an earlier run has finished, from the same level maps, are
/// taken as they are.
///
/// The photos are decoded once more: keeping them all from the stage before would take more memory than that takes
/// time.
///
/// # Errors
/// Maps that cannot be read back, files that cannot be written, photos that cannot be decoded or are no longer those
/// that the maps were made of.
pub fn finish_views(
    merging: &Merging,
    places: &[usize],
    (job, wanted): (&Fields<String, Value>, Wanted),
    clock: &mut Clock,
) -> Result<FinishedViews> {
    let Work { plan, progress, .. } = merging.work;
    let found: Vec<Option<Found>> = places.par_iter().map(|&place| found_view(merging, place, job)).collect();
    let left: Vec<usize> = places.iter().zip(&found).filter(|(_, found)| found.is_none()).map(|(&p, _)| p).collect();
    let mut merged = merging.merge(&left)?.into_iter();
    clock.lap("merging levels");

    let mut stage = progress.stage("maps", places.len(), places.len() as u64);
    let mut all = FinishedViews::default();
    let bug = || Error::Bug { place: "maps", problem: "a view was not merged".into() };
    let ready = |(&place, found): (&usize, Option<Found>)| {
        let ready = found.map_or_else(
            || merged.next().map(|merged| Ready::Merged(Box::new(merged))).ok_or_else(bug),
            |found| Ok(Ready::Found(found)),
        );
        ready.map(|ready| (place, ready))
    };
    let mut views = places.iter().zip(found).map(ready);
    loop {
        interrupt::check()?;
        let some = views.by_ref().take(photos_at_once()).collect::<Result<Vec<_>>>()?;
        if some.is_empty() {
            return Ok(all);
        }
        let of_view = |(place, ready)| -> Result<(usize, FinishedView)> {
            let view = match ready {
                Ready::Found(found) => read_view(merging, place, found, wanted),
                Ready::Merged(merged) => write_view(merging, place, *merged, job),
            };
            Ok((place, view?))
        };
        let finished: Vec<Result<_>> = some.into_par_iter().map(of_view).collect();
        for finished in finished {
            let (place, FinishedView { files, maps, counts, notes }) = finished?;
            let name = merging.work.name(&plan.views[place]);
            stage.step(name, 1, json!({ "view": name }));
            if let Some((maps, colours)) = &maps {
                stage.show(|| thumbnail::draw(Some(colours), &maps.depth, &maps.confidence));
            }
            all.outputs.extend(files);
            all.maps.extend(maps.filter(|_| wanted == Wanted::Maps));
            all.counts.push(counts);
            all.notes.extend(notes);
        }
    }
}

/// A view before its files are looked after.
enum Ready {
    /// They are there.
    Found(Found),
    /// They are to be written.
    Merged(Box<MergedView>),
}

/// The files of a view that an earlier run has finished.
struct Found {
    files: Vec<String>,
    counts: Counts,
}

/// A view with its files.
struct FinishedView {
    /// Their names relative to the output folder.
    files: Vec<String>,
    maps: Option<(LevelMaps, Colours)>,
    counts: Counts,
    notes: Vec<String>,
}

/// The names of a view's files, relative to the output folder: depth, confidence, preview, and normals if asked for.
fn files_of(work: Work, place: usize) -> Vec<String> {
    let name = work.name(&work.plan.views[place]);
    let mut kinds = vec![("depth", "pfm"), ("confidence", "pfm"), ("preview", "png")];
    if work.options.normals {
        kinds.push(("normal", "pfm"));
    }
    let place = |(folder, ending): &(&str, &str)| {
        let file = work.spread().place(&work.out.join(folder), name, ending);
        slashed(file.strip_prefix(work.out).unwrap_or(&file)).into_owned()
    };
    kinds.iter().map(place).collect()
}

/// The view as an earlier run has finished it: by the same job, from the same level maps, and as it was then.
fn found_view(merging: &Merging, place: usize, job: &Fields<String, Value>) -> Option<Found> {
    let Work { plan, out, hashes, .. } = merging.work;
    let files = files_of(merging.work, place);
    let made = Made::read(out, merging.work.name(&plan.views[place]))?;
    let is_same = made.job == *job
        && made.drawn_from.as_ref() == Some(&drawn_from(merging, place))
        && made.files.keys().eq(files.iter().collect::<BTreeSet<_>>())
        && made.is_as_it_was_made(out, hashes);
    Some(Found { files, counts: made.counts.filter(|_| is_same)? })
}

/// A view's photo on the three levels that previews and colours are taken from, finest first.
fn photo_levels(merging: &Merging, place: usize) -> Result<[Photo; 3]> {
    let Work { scene, plan, options, .. } = merging.work;
    let view = plan.views[place].view;
    let LoadedPhoto { photo, sha256, .. } = Photo::load(&scene.views[view], options.max_side)?;
    merging.jobs.photos[&view].expect(&scene.views[view].image, &sha256)?;
    let half = photo.pyramid_level();
    let quarter = half.pyramid_level();
    Ok([photo, half, quarter])
}

/// The colours at the pixels of maps of this resolution.
fn colours_of([photo, half, quarter]: &[Photo; 3], resolution: Resolution) -> Colours {
    match resolution {
        Resolution::Full => photo.colours(),
        Resolution::Half => half.colours(),
        Resolution::Quarter => quarter.colours(),
    }
}

/// Reads a finished view back, as far as it is wanted.
fn read_view(merging: &Merging, place: usize, found: Found, wanted: Wanted) -> Result<FinishedView> {
    let Work { plan, options, out, .. } = merging.work;
    let Found { files, counts } = found;
    let maps = match wanted {
        Wanted::Files => None,
        Wanted::Maps => {
            let camera = plan.frames[plan.views[place].view].map_camera(0);
            let (depth, confidence) = (pfm::read(&out.join(&files[0]))?, pfm::read(&out.join(&files[1]))?);
            let colours = colours_of(&photo_levels(merging, place)?, options.resolution);
            Some((LevelMaps { camera, depth, confidence }, colours))
        }
    };
    Ok(FinishedView { files, maps, counts, notes: Vec::new() })
}

/// Writes all that one view gets.
fn write_view(
    merging: &Merging,
    place: usize,
    MergedView { maps, counts }: MergedView,
    job: &Fields<String, Value>,
) -> Result<FinishedView> {
    let Work { plan, options, out, hashes, .. } = merging.work;
    let view = &plan.views[place];
    let photos = photo_levels(merging, place)?;
    let colours = colours_of(&photos, options.resolution);
    let written = files_of(merging.work, place);
    let drawn_from = drawn_from(merging, place);
    let of_view = (merging.work.name(view), merging.work.spread());
    let mut files = ViewFiles::begin((out, hashes), of_view, job, (drawn_from, &counts), &written)?;
    files.wrote(&written[0], write_file(&out.join(&written[0]), |path| pfm::write_hashed(path, &maps.depth))?);
    files.wrote(&written[1], write_file(&out.join(&written[1]), |path| pfm::write_hashed(path, &maps.confidence))?);
    if let Some(file) = written.get(3) {
        let normals = normals::from_depth(&maps.camera, &maps.depth);
        let (width, height) = (maps.depth.width, maps.depth.height);
        files.wrote(file, write_file(&out.join(file), |path| pfm::write_rgb(path, width, height, &normals))?);
    }
    let [whole, smaller @ ..] = &photos;
    let photo = smaller.iter().rfind(|photo| photo.height >= PREVIEW_ROWS).unwrap_or(whole);
    let preview = write_file(&out.join(&written[2]), |path| {
        preview::write(path, photo, &maps.depth, &maps.confidence, view.range)
    })?;
    files.wrote(&written[2], preview);
    Ok(FinishedView { files: written, maps: Some((maps, colours)), counts, notes: files.finish()? })
}

/// A hash of what a view's files are made of beside the job: its photo and camera, its range, and the level maps that
/// its own were merged from.
fn drawn_from(merging: &Merging, place: usize) -> String {
    let view = &merging.work.plan.views[place];
    let photo = &merging.jobs.photos[&view.view];
    let all = json!({ "photo": photo, "range": view.range, "levels": merging.neighbourhood(place) });
    hash::of_bytes(all.to_string().as_bytes())
}

/// The colour at every pixel of a map, row by row.
pub type Colours = Vec<[u8; 3]>;

/// Some of the plan's views, ready for fusion.
pub fn fusion_views(work: Work, places: &[usize], maps: Vec<(LevelMaps, Colours)>) -> Vec<FusionView> {
    let plan = work.plan;
    let view = |(&place, (maps, colour)): (&usize, (LevelMaps, Colours))| FusionView {
        name: work.name(&plan.views[place]).to_owned(),
        camera: maps.camera,
        depth: maps.depth,
        confidence: maps.confidence,
        colour,
        range: plan.views[place].range,
        sources: plan::places(&plan.views, &plan.views[place].check),
        levels: Vec::new(),
    };
    places.iter().zip(maps).map(view).collect()
}

/// What is known of the plan's views without their maps.
pub fn facts(work: Work) -> Vec<ViewFacts> {
    let plan = work.plan;
    let view = |view: &ViewPlan| ViewFacts {
        name: work.name(view).to_owned(),
        camera: plan.frames[view.view].map_camera(0),
        size: plan.frames[view.view].map_size(0),
        range: view.range,
        sources: plan::places(&plan.views, &view.check),
    };
    plan.views.iter().map(view).collect()
}

/// What the manifest says about every view, apart from how its depth was made and what became of it. `scene_views` are
/// the views' indices in the scene, of which `frames` has all.
pub fn view_summaries(
    scene: &Scene,
    frames: &[Frame],
    fusion_views: &[ViewFacts],
    scene_views: impl Iterator<Item = usize>,
) -> Vec<ViewSummary> {
    let summary = |(view, at): (&ViewFacts, usize)| {
        let (of_scene, frame) = (&scene.views[at], &frames[at]);
        ViewSummary {
            name: view.name.clone(),
            id: of_scene.id,
            image: of_scene.image.clone(),
            photo_size: (frame.width, frame.height),
            map_size: view.size,
            photo_k: rows(frame.camera.k),
            map_k: rows(view.camera.k),
            rotation: Some(rows(view.camera.r)),
            translation: Some(view.camera.t.to_array()),
            depth: None,
            checked_against: view.sources.iter().map(|&s| fusion_views[s].name.clone()).collect(),
            funnel: None,
        }
    };
    fusion_views.iter().zip(scene_views).map(summary).collect()
}
