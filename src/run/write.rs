//! The later stages: levels merged, maps written.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;
use serde_json::{Map as Fields, Value, json};

use crate::draw::preview;
use crate::error::{Error, Result};
use crate::files::folder::write_file;
use crate::files::{hash, pfm};
use crate::fusion::view::{FusionView, ViewFacts};
use crate::host::interrupt;
use crate::manifest::made::Made;
use crate::manifest::{ViewSummary, rows};
use crate::maps::joint::Heard;
use crate::maps::merge::LevelMaps;
use crate::maps::normals;
use crate::maps::valid::{Invalid, take_out_invalid};
use crate::net::confidence::Confidence;
use crate::net::config::Resolution;
use crate::run::depth::{LevelJob, LevelJobs};
use crate::run::plan::{Frame, ViewPlan, Work};
use crate::run::products::ViewFiles;
use crate::run::resume::PhotoIdentity;
use crate::scene::Scene;
use crate::scene::mask::{self, Mask};
use crate::scene::photo::{LoadedPhoto, Photo};

/// The finest level's maps after all coarser ones have repaired them.
pub struct Merged {
    /// Depth and confidence, in the plan's order.
    pub maps: Vec<LevelMaps>,
    /// `[view][level]`: pixels of that level that the next coarser one replaced.
    pub replaced: Vec<Vec<usize>>,
    /// Pixels of all levels that could not be used.
    pub invalid: Invalid,
    /// Which pixels of the maps do not show the scene, by view; `None`: all do.
    masks: Vec<Option<Mask>>,
}

impl Merged {
    /// Takes away what does not show the scene.
    fn cut(&mut self) {
        for (maps, mask) in self.maps.iter_mut().zip(&self.masks) {
            if let Some(mask) = mask {
                mask.cut(&mut maps.depth, &mut maps.confidence);
            }
        }
    }

    /// What is to be said about the masks.
    pub fn notes(&self, work: Work) -> Vec<String> {
        let masked = self.masks.iter().flatten().count();
        let name = |(view, mask): (&ViewPlan, &Option<Mask>)| {
            mask.as_ref().filter(|mask| mask.is_all()).map(|_| work.name(view).to_owned())
        };
        let empty: Vec<String> = work.plan.views.iter().zip(&self.masks).filter_map(name).collect();
        mask::notes(masked, work.plan.views.len(), &empty)
    }
}

/// The masks of all views at their maps' pixels.
fn masks(work: Work) -> Result<Vec<Option<Mask>>> {
    let Work { scene, plan, options, .. } = work;
    let of_view = |view: &ViewPlan| -> Result<Option<Mask>> {
        let mask = Photo::load_mask(&scene.views[view.view], options.max_side)?;
        Ok(mask.map(|mask| mask.decimated(options.resolution.step().ilog2())))
    };
    let mut masks = Vec::with_capacity(plan.views.len());
    for some in plan.views.chunks(photos_at_once()) {
        interrupt::check()?;
        let of_some: Vec<Result<_>> = some.par_iter().map(of_view).collect();
        masks.extend(of_some.into_iter().collect::<Result<Vec<_>>>()?);
    }
    Ok(masks)
}

/// Reads all levels and merges them from the coarsest to the finest. What does not show the scene
/// ([`crate::scene::mask`]) is cut out of each before, so that no other view is confirmed by it, and out of the merged
/// maps.
///
/// # Errors
/// Maps that cannot be read back, masks and photos with an alpha that cannot be decoded.
pub fn merge_levels(work: Work, jobs: &LevelJobs) -> Result<Merged> {
    let Work { scene, plan, options, progress, .. } = work;
    let levels = jobs.of_views.first().map_or(0, Vec::len);
    let sources: Vec<Vec<usize>> = plan.views.iter().map(|v| places(&plan.views, &v.check)).collect();
    let masks = masks(work)?;
    let mut invalid = Invalid::default();
    let mut read = |level: usize| -> Result<Vec<LevelMaps>> {
        let of_view = |((view, jobs), mask): ((&ViewPlan, &Vec<LevelJob>), &Option<Mask>)| {
            let frame = &plan.frames[view.view];
            let job = &jobs[level];
            let (_, hashes) = job.made.as_ref().ok_or(Error::Bug { place: "merging", problem: "no map".into() })?;
            let (mut depth, mut confidence) = job.files.read(hashes)?;
            invalid = invalid.and(take_out_invalid(&mut depth, &mut confidence));
            if let Some(mask) = mask {
                mask.decimated(level as u32).cut(&mut depth, &mut confidence);
            }
            Ok(LevelMaps { camera: frame.map_camera(level), depth, confidence })
        };
        plan.views.iter().zip(&jobs.of_views).zip(&masks).map(of_view).collect()
    };
    let mut replaced = vec![vec![0; levels]; plan.views.len()];
    let mut stage = progress.stage("merging", levels, levels as u64);
    let mut coarse: Option<Vec<LevelMaps>> = None;
    for level in (0..levels).rev() {
        interrupt::check()?;
        let mut fine = read(level)?;
        let is_coarsest = coarse.is_none();
        if let Some(coarse) = &coarse {
            let counts = options.backend.merge_level(coarse, &mut fine, &sources, &options.merge(), progress)?;
            for (of_view, count) in replaced.iter_mut().zip(counts) {
                of_view[level] = count;
            }
        }
        let total: usize = replaced.iter().map(|v| v[level]).sum();
        let pixels: usize = fine.iter().map(|m| m.depth.data.len()).sum();
        let share = 100.0 * total as f64 / pixels.max(1) as f64;
        stage.step(
            &match is_coarsest {
                true => format!("level {level}: {pixels} pixels, no coarser level"),
                false => format!("level {level}: {share:.1} % of {pixels} pixels from the coarser level"),
            },
            1,
            json!({ "level": level, "pixels": pixels, "replaced": total }),
        );
        coarse = Some(fine);
    }
    let maps = coarse.ok_or_else(|| Error::Nothing(format!("{}: no level to merge", scene.root.display())))?;
    let mut merged = Merged { maps, replaced, invalid, masks };
    // Coarser levels have filled what was cut.
    merged.cut();
    Ok(merged)
}

/// Lets all views hear each other ([`crate::maps::joint`]): depths become means, confidences are judged again.
///
/// # Errors
/// [`Error::Interrupted`].
pub fn hear_each_other(work: Work, fits: Option<&Confidence>, merged: &mut Merged) -> Result<()> {
    let Work { plan, progress, .. } = work;
    let mut stage = progress.stage("agreement", plan.views.len(), plan.views.len() as u64);
    let judge = |confidence: f32, heard: &Heard| fits.map_or(confidence, |fits| fits.after_hearing(confidence, heard));
    let sources: Vec<Vec<usize>> = plan.views.iter().map(|v| places(&plan.views, &v.check)).collect();
    let heard = work.options.backend.hear(&merged.maps, &sources, judge, progress, |view| {
        let name = work.name(&plan.views[view]);
        stage.step(name, 1, json!({ "view": name }));
        interrupt::check()
    })?;
    // Everyone was heard as it was before.
    for (maps, (depth, confidence)) in merged.maps.iter_mut().zip(heard) {
        (maps.depth, maps.confidence.data) = (depth, confidence);
    }
    Ok(())
}

/// Below this many rows a photo is shown as it is beside its depth map, above reduced.
const PREVIEW_ROWS: usize = 600;

/// What [`write_maps`] leaves beside the files.
#[derive(Default)]
pub struct WrittenMaps {
    /// The files' names relative to the folder.
    pub outputs: Vec<String>,
    /// The photos' colours at the maps' pixels, by view.
    pub colours: Vec<Colours>,
    /// What is worth knowing.
    pub notes: Vec<String>,
}

/// Writes depth/, confidence/, preview/ and, where asked for, normal/, and beside them that `job` has made them.
///
/// The photos are decoded once more: keeping them all from the stage before would take more memory than that takes
/// time.
///
/// # Errors
/// Files that cannot be written, photos that cannot be decoded or are no longer those that the maps were made of.
pub fn write_maps(
    work: Work,
    merged: &Merged,
    photos: &BTreeMap<usize, PhotoIdentity>,
    job: &Fields<String, Value>,
) -> Result<WrittenMaps> {
    let Work { plan, progress, .. } = work;
    let mut stage = progress.stage("maps", plan.views.len(), plan.views.len() as u64);
    let mut all = WrittenMaps::default();
    let views: Vec<(&ViewPlan, &LevelMaps)> = plan.views.iter().zip(&merged.maps).collect();
    for some in views.chunks(photos_at_once()) {
        interrupt::check()?;
        let of_view = |&(view, maps): &(&ViewPlan, &LevelMaps)| write_view(work, (view, maps), photos, job);
        let written: Vec<Result<WrittenView>> = some.par_iter().map(of_view).collect();
        for (written, (view, _)) in written.into_iter().zip(some) {
            let WrittenView { files, colours, notes } = written?;
            all.outputs.extend(files);
            all.colours.push(colours);
            all.notes.extend(notes);
            stage.step(work.name(view), 1, json!({ "view": work.name(view) }));
        }
    }
    Ok(all)
}

/// Photos that [`write_maps`] holds at once: decoding is the slow part and uses one thread each, but memory is worth
/// more than the last second.
pub fn photos_at_once() -> usize {
    rayon::current_num_threads().min(4)
}

/// What one view gets.
struct WrittenView {
    /// The files' names relative to the output folder.
    files: Vec<String>,
    colours: Colours,
    notes: Vec<String>,
}

/// Writes all that one view gets.
fn write_view(
    work: Work,
    (view, maps): (&ViewPlan, &LevelMaps),
    photos: &BTreeMap<usize, PhotoIdentity>,
    job: &Fields<String, Value>,
) -> Result<WrittenView> {
    let Work { scene, options, out, hashes, .. } = work;
    let (name, of_scene) = (work.name(view), &scene.views[view.view]);
    let LoadedPhoto { mut photo, sha256, .. } = Photo::load(of_scene, options.max_side)?;
    photos[&view.view].expect(&of_scene.image, &sha256)?;
    let half = photo.pyramid_level();
    let quarter = half.pyramid_level();
    let colours = match options.resolution {
        Resolution::Full => photo.colours(),
        Resolution::Half => half.colours(),
        Resolution::Quarter => quarter.colours(),
    };
    let mut kinds = vec![("depth", "pfm"), ("confidence", "pfm"), ("preview", "png")];
    if options.normals {
        kinds.push(("normal", "pfm"));
    }
    let written: Vec<String> = kinds.iter().map(|(folder, ending)| format!("{folder}/{name}.{ending}")).collect();
    let drawn_from = drawn_from(&photos[&view.view], view, maps)?;
    if let Some(made) = Made::read(out, name)
        && made.job == *job
        && made.drawn_from.as_ref() == Some(&drawn_from)
        && made.files.keys().eq(written.iter().collect::<BTreeSet<_>>())
        && made.is_as_it_was_made(out, hashes)
    {
        return Ok(WrittenView { files: written, colours, notes: Vec::new() });
    }
    let mut files = ViewFiles::begin((out, hashes), name, job, drawn_from, &written)?;
    files.wrote(&written[0], write_file(&out.join(&written[0]), |path| pfm::write_hashed(path, &maps.depth))?);
    files.wrote(&written[1], write_file(&out.join(&written[1]), |path| pfm::write_hashed(path, &maps.confidence))?);
    if let Some(file) = written.get(3) {
        let normals = normals::from_depth(&maps.camera, &maps.depth);
        let (width, height) = (maps.depth.width, maps.depth.height);
        files.wrote(file, write_file(&out.join(file), |path| pfm::write_rgb(path, width, height, &normals))?);
    }
    for smaller in [half, quarter] {
        if smaller.height >= PREVIEW_ROWS {
            photo = smaller;
        }
    }
    let preview = write_file(&out.join(&written[2]), |path| {
        preview::write(path, &photo, &maps.depth, &maps.confidence, view.range)
    })?;
    files.wrote(&written[2], preview);
    Ok(WrittenView { files: written, colours, notes: files.finish()? })
}

/// A hash of what a view's files are made of beside the job: its photo and camera, its range, and its merged maps.
fn drawn_from(photo: &PhotoIdentity, view: &ViewPlan, maps: &LevelMaps) -> Result<String> {
    let of_maps = [pfm::hash_of(&maps.depth)?, pfm::hash_of(&maps.confidence)?];
    let all = json!({ "photo": photo, "range": view.range, "depth": of_maps[0], "confidence": of_maps[1] });
    Ok(hash::of_bytes(all.to_string().as_bytes()))
}

/// The colour at every pixel of a map, row by row.
pub type Colours = Vec<[u8; 3]>;

/// The plan's views ready for fusion.
pub fn fusion_views(work: Work, maps: Vec<LevelMaps>, colours: Vec<Colours>) -> Vec<FusionView> {
    let plan = work.plan;
    let view = |((view, maps), colour): ((&ViewPlan, LevelMaps), Colours)| FusionView {
        name: work.name(view).to_owned(),
        camera: maps.camera,
        depth: maps.depth,
        confidence: maps.confidence,
        colour,
        range: view.range,
        sources: places(&plan.views, &view.check),
        levels: Vec::new(),
    };
    plan.views.iter().zip(maps).zip(colours).map(view).collect()
}

/// Where the given views of the scene stand in the plan; those without a depth map are left out.
pub fn places(views: &[ViewPlan], wanted: &[usize]) -> Vec<usize> {
    // Plans have the scene's order.
    wanted.iter().filter_map(|&w| views.binary_search_by_key(&w, |v| v.view).ok()).collect()
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
