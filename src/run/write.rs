//! The later stages: levels merged, maps written, views fused, and everything told.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use glam::DVec3;
use rayon::prelude::*;
use serde_json::{Map as Fields, Value, json};

use crate::draw::preview;
use crate::error::{Error, Result, counted};
use crate::files::folder::write_file;
use crate::files::names::in_json;
use crate::files::ply_storage::OffsetOption;
use crate::files::{pfm, ply};
use crate::fusion::funnel::{Funnel, explain};
use crate::fusion::origin::Origin;
use crate::fusion::settings::{FusionOptions, Method, Pyramid};
use crate::fusion::thin::thin;
use crate::fusion::view::FusionView;
use crate::host::progress::{Progress, duration, one_line};
use crate::host::trace::Clock;
use crate::host::{interrupt, memory};
use crate::manifest::{MANIFEST, Manifest, ViewSummary, rows};
use crate::maps::merge::LevelMaps;
use crate::maps::normals;
use crate::maps::valid::{Invalid, take_out_invalid};
use crate::net::config::Resolution;
use crate::run::depth::{LevelJob, LevelJobs};
use crate::run::device::Backend;
use crate::run::plan::{Frame, ViewPlan, Work};
use crate::run::products::{CLOUD, CLOUD_MADE_BY, ViewFiles};
use crate::run::resume::PhotoIdentity;
use crate::scene::Scene;
use crate::scene::photo::{LoadedPhoto, Photo};

/// The finest level's maps after all coarser ones have repaired them.
pub struct Merged {
    /// Depth and confidence, in the plan's order.
    pub maps: Vec<LevelMaps>,
    /// `[view][level]`: pixels of that level that the next coarser one replaced.
    pub replaced: Vec<Vec<usize>>,
    /// Pixels of all levels that could not be used.
    pub invalid: Invalid,
}

/// Reads all levels and merges them from the coarsest to the finest.
///
/// # Errors
/// Maps that cannot be read back.
pub fn merge_levels(work: Work, jobs: &LevelJobs) -> Result<Merged> {
    let Work { scene, plan, options, progress, .. } = work;
    let levels = jobs.of_views.first().map_or(0, Vec::len);
    let sources: Vec<Vec<usize>> = plan.views.iter().map(|v| places(&plan.views, &v.check)).collect();
    let mut invalid = Invalid::default();
    let mut read = |level: usize| -> Result<Vec<LevelMaps>> {
        let of_view = |(view, jobs): (&ViewPlan, &Vec<LevelJob>)| {
            let frame = &plan.frames[view.view];
            let job = &jobs[level];
            let (_, hashes) = job.made.as_ref().ok_or(Error::Bug { place: "merging", problem: "no map".into() })?;
            let (mut depth, mut confidence) = job.files.read(hashes)?;
            invalid = invalid.and(take_out_invalid(&mut depth, &mut confidence));
            Ok(LevelMaps { camera: frame.map_camera(level), depth, confidence })
        };
        plan.views.iter().zip(&jobs.of_views).map(of_view).collect()
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
    Ok(Merged { maps, replaced, invalid })
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
    /// Views whose photos have parts that do not belong to the scene.
    pub masked: usize,
}

/// Writes depth/, confidence/, preview/ and, where asked for, normal/, and beside them that `job` has made them. What
/// does not belong to the scene ([`crate::scene::mask`]) is cut out of the maps first.
///
/// The photos are decoded once more: keeping them all from the stage before would take more memory than that takes
/// time.
///
/// # Errors
/// Files that cannot be written, photos that cannot be decoded or are no longer those that the maps were made of.
pub fn write_maps(
    work: Work,
    merged: &mut Merged,
    photos: &BTreeMap<usize, PhotoIdentity>,
    job: &Fields<String, Value>,
) -> Result<WrittenMaps> {
    let Work { plan, progress, .. } = work;
    let mut stage = progress.stage("maps", plan.views.len(), plan.views.len() as u64);
    let mut all = WrittenMaps::default();
    let mut views: Vec<(&ViewPlan, &mut LevelMaps)> = plan.views.iter().zip(&mut merged.maps).collect();
    for some in views.chunks_mut(photos_at_once()) {
        interrupt::check()?;
        let of_view =
            |(view, maps): &mut (&ViewPlan, &mut LevelMaps)| write_view(work, (*view, &mut **maps), photos, job);
        let written: Vec<Result<WrittenView>> = some.par_iter_mut().map(of_view).collect();
        for (written, (view, _)) in written.into_iter().zip(some) {
            let WrittenView { files, colours, notes, masked } = written?;
            all.outputs.extend(files);
            all.colours.push(colours);
            all.notes.extend(notes);
            all.masked += usize::from(masked);
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
    masked: bool,
}

/// Writes all that one view gets.
fn write_view(
    work: Work,
    (view, maps): (&ViewPlan, &mut LevelMaps),
    photos: &BTreeMap<usize, PhotoIdentity>,
    job: &Fields<String, Value>,
) -> Result<WrittenView> {
    let Work { scene, options, out, .. } = work;
    let (name, of_scene) = (work.name(view), &scene.views[view.view]);
    let LoadedPhoto { mut photo, mask, sha256, .. } = Photo::load(of_scene, options.max_side)?;
    photos[&view.view].expect(&of_scene.image, &sha256)?;
    let halvings = match options.resolution {
        Resolution::Full => 0,
        Resolution::Half => 1,
        Resolution::Quarter => 2,
    };
    if let Some(mask) = &mask {
        mask.decimated(halvings).cut(&mut maps.depth, &mut maps.confidence);
    }
    let mut kinds = vec![("depth", "pfm"), ("confidence", "pfm"), ("preview", "png")];
    if options.normals {
        kinds.push(("normal", "pfm"));
    }
    let written: Vec<String> = kinds.iter().map(|(folder, ending)| format!("{folder}/{name}.{ending}")).collect();
    let mut files = ViewFiles::begin(out, name, job, &written)?;
    files.wrote(&written[0], write_file(&out.join(&written[0]), |path| pfm::write_hashed(path, &maps.depth))?);
    files.wrote(&written[1], write_file(&out.join(&written[1]), |path| pfm::write_hashed(path, &maps.confidence))?);
    if let Some(file) = written.get(3) {
        let normals = normals::from_depth(&maps.camera, &maps.depth);
        let (width, height) = (maps.depth.width, maps.depth.height);
        files.wrote(file, write_file(&out.join(file), |path| pfm::write_rgb(path, width, height, &normals))?);
    }
    // Of level 2 every fourth pixel is one, as of the maps at a quarter: its blurs keep finer texture from aliasing.
    let half = photo.pyramid_level();
    let quarter = half.pyramid_level();
    let colours = match options.resolution {
        Resolution::Full => photo.colours(),
        Resolution::Half => half.colours(),
        Resolution::Quarter => quarter.colours(),
    };
    for smaller in [half, quarter] {
        if smaller.height >= PREVIEW_ROWS {
            photo = smaller;
        }
    }
    let preview = write_file(&out.join(&written[2]), |path| {
        preview::write(path, &photo, &maps.depth, &maps.confidence, view.range)
    })?;
    files.wrote(&written[2], preview);
    Ok(WrittenView { files: written, colours, notes: files.finish()?, masked: mask.is_some() })
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
fn places(views: &[ViewPlan], wanted: &[usize]) -> Vec<usize> {
    wanted.iter().filter_map(|&w| views.iter().position(|v| v.view == w)).collect()
}

/// What the manifest says about every view, apart from how its depth was made and what became of it. `scene_views` are
/// the views' indices in the scene, of which `frames` has all.
pub fn view_summaries(
    scene: &Scene,
    frames: &[Frame],
    fusion_views: &[FusionView],
    scene_views: impl Iterator<Item = usize>,
) -> Vec<ViewSummary> {
    let summary = |(view, at): (&FusionView, usize)| {
        let (of_scene, frame) = (&scene.views[at], &frames[at]);
        ViewSummary {
            name: view.name.clone(),
            id: of_scene.id,
            image: of_scene.image.clone(),
            photo_size: (frame.width, frame.height),
            map_size: (view.depth.width, view.depth.height),
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

/// How and where a cloud is made.
#[derive(Clone, Copy)]
pub struct Fusion<'a> {
    /// Which pixels become points.
    pub options: &'a FusionOptions,
    /// Side of the voxels of which each keeps one point; `None`: all points.
    pub thin: Option<f64>,
    /// What is taken from the cloud's coordinates.
    pub ply_offset: OffsetOption,
    /// Where it is computed.
    pub backend: &'a Backend,
}

/// Fuses, where `fusion` says how and where, writes the cloud and the manifest, and prints the closing summary.
///
/// # Errors
/// Files that cannot be written; [`Error::Nothing`] with the likely reason where no point survived.
pub fn fuse_and_report(
    mut manifest: Manifest,
    mut clock: Clock,
    mut views: Vec<FusionView>,
    fusion: Option<Fusion>,
    progress: &Progress,
) -> Result<()> {
    let mut advice = None;
    if let Some(Fusion { options, thin: side, ply_offset, backend }) = fusion {
        interrupt::check()?;
        let mut stage = progress.stage("fusion", 1, 1);
        let origin = Origin::near(&views);
        origin.enter(&mut views);
        let mut fused = backend.fuse(&views, options, progress)?;
        for (summary, funnel) in manifest.views.iter_mut().zip(&fused.funnels) {
            summary.funnel = Some(funnel.clone());
        }
        advice = explain(&fused.funnels, options);
        let mut all = Funnel::sum(&fused.funnels);
        if let Some(side) = side {
            fused.points = thin(&fused.points, side, corner_of_voxels(&views, side));
            all.thinned = all.fused - fused.points.len();
        }
        origin.leave(&mut fused.points);
        manifest.funnel = Some(all);
        manifest.points = fused.points.len();
        interrupt::check()?;
        if let Some(note) = write_cloud(&fused.points, ply_offset, &mut manifest)? {
            progress.note(&note);
            manifest.notes.push(note);
        }
        stage.step(&format!("{} points", fused.points.len()), 1, json!({ "points": fused.points.len() }));
        drop(stage);
        clock.lap("fusion");
    }
    manifest.machine.memory_peak = memory::peak();
    manifest.ended_unix_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs());
    manifest.seconds = clock.seconds();
    manifest.outputs.push(MANIFEST.into());
    manifest.write()?;

    let options = fusion.map(|fusion| fusion.options);
    let empty = options.is_some() && manifest.points == 0;
    let text = summary_text(&manifest, options, advice.as_deref().filter(|_| !empty), clock.total());
    progress.summary(
        &text,
        json!({
            "command": manifest.command, "out": in_json(&manifest.folder), "depth_maps": manifest.views.len(),
            "points": manifest.points, "funnel": manifest.funnel, "seconds": manifest.seconds,
            "memory_peak": manifest.machine.memory_peak, "advice": advice,
            "outputs": outputs_by_folder(&manifest.outputs),
        }),
    );
    if empty {
        let reason = advice.unwrap_or_else(|| "no pixel passed the filters".into());
        return Err(Error::Nothing(format!("the cloud is empty: {reason}")));
    }
    Ok(())
}

/// A corner of the voxels of a cloud: such that the first view's camera stands in the middle of one. A scene that is
/// moved is thinned as it was before.
fn corner_of_voxels(views: &[FusionView], side: f64) -> DVec3 {
    views.first().map_or(DVec3::ZERO, |view| view.camera.centre() - 0.5 * side)
}

/// An empty cloud is not written. Returns what a reader of the file must know.
fn write_cloud(points: &[ply::Point], offset: OffsetOption, manifest: &mut Manifest) -> Result<Option<String>> {
    if points.is_empty() {
        return Ok(None);
    }
    let path = manifest.folder.join(CLOUD);
    let storage = ply::storage_of(points, offset);
    let comments = [format!("{CLOUD_MADE_BY} {}", manifest.version)];
    write_file(&path, |path| ply::write(path, points, storage, &comments))?;
    manifest.outputs.push(CLOUD.into());
    manifest.cloud = Some(storage);
    Ok(storage.note(CLOUD))
}

/// How many files lie in each folder; files beside the folders under their own names.
fn outputs_by_folder(outputs: &[String]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for output in outputs {
        *counts.entry(output.split_once('/').map_or(output.as_str(), |(folder, _)| folder)).or_default() += 1;
    }
    counts
}

fn summary_text(manifest: &Manifest, options: Option<&FusionOptions>, advice: Option<&str>, seconds: f64) -> String {
    let maps = manifest.views.len();
    let peak = manifest.machine.memory_peak.map_or(String::new(), |b| format!(", peak memory {}", memory::readable(b)));
    let mut lines = Vec::new();
    let made = match options {
        Some(_) => format!("{} from {}", counted(manifest.points, "point"), counted(maps, "depth map")),
        None => counted(maps, "depth map"),
    };
    lines.push(format!("{made} in {}{peak}", duration(seconds)));
    if let (Some(funnel), Some(options)) = (&manifest.funnel, options) {
        lines.push(funnel_text(funnel, options));
    }
    let written = outputs_by_folder(&manifest.outputs).into_keys();
    let written = written.map(|name| if name.contains('.') { name.to_owned() } else { format!("{name}/") });
    let out = one_line(&manifest.folder.display().to_string());
    lines.push(format!("written to {out}: {}", written.collect::<Vec<_>>().join(" ")));
    lines.extend(advice.map(|a| format!("hint: {a}")));
    lines.join("\n")
}

/// One sentence: where the pixels went.
fn funnel_text(funnel: &Funnel, options: &FusionOptions) -> String {
    let share = |n: usize| format!("{:.1} %", 100.0 * n as f64 / funnel.pixels.max(1) as f64);
    let least = options.method.asked();
    let fewer: Vec<String> = funnel
        .agreed
        .iter()
        .take(least.saturating_sub(1))
        .enumerate()
        .map(|(i, &n)| format!("by {}: {}", i + 1, share(n)))
        .collect();
    let fewer = if fewer.is_empty() { String::new() } else { format!(" ({})", fewer.join(", ")) };
    // More kept than agreed: some views have fewer sources, and all of theirs were enough.
    let or_all = match funnel.agreed.get(least.saturating_sub(1)) {
        Some(&agreed) if agreed == funnel.kept => "",
        _ => ", or by all where a view has fewer",
    };
    let (asked_for, or_all) = match options.method {
        Method::Reprojection(_) | Method::Pyramid(_) => (format!("{least} source views"), or_all),
        _ => (options.method.asked_for(), ""),
    };
    let keeps_duplicates = match options.method {
        Method::Reprojection(m) | Method::Pyramid(Pyramid { reprojection: m, .. }) => m.keep_duplicates,
        Method::Dynamic(m) => m.keep_duplicates,
        Method::Disparity(_) | Method::Graph(_) => false,
    };
    let repeated = if keeps_duplicates {
        String::new()
    } else {
        format!("{} repeat an earlier point, ", share(funnel.duplicates))
    };
    let objections: String = funnel.objections().iter().map(|(n, why)| format!("{} {why}, ", share(*n))).collect();
    let specks = match funnel.specks {
        0 => String::new(),
        n => format!(", {} are specks", share(n)),
    };
    let thinned = match funnel.thinned {
        0 => String::new(),
        n => format!(", thinned to {}", counted(funnel.fused - n, "point")),
    };
    format!(
        "of {} pixels {} lie in range{specks}, {} have a confidence above {}, {} are confirmed by \
         {asked_for}{or_all}{fewer}; {repeated}{objections}{} became points{thinned}",
        funnel.pixels,
        share(funnel.in_range),
        share(funnel.confident),
        options.min_confidence,
        share(funnel.kept),
        share(funnel.fused),
    )
}
