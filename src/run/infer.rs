//! Photos to depth maps and a cloud: `engine infer`, from stage to stage.
//!
//! What takes part in no stage is here: the folder, the notes, and what the manifest says of each view.

use std::path::Path;

use serde_json::json;

use crate::error::{Error, Result, counted};
use crate::files::folder::{OutputFolder, default_folder};
use crate::files::names::in_json;
use crate::host::progress::Progress;
use crate::host::trace::Clock;
use crate::manifest::made::Counts;
use crate::manifest::{DepthSummary, LevelSummary, MachineSummary, Manifest, NetworkSummary, ViewSummary};
use crate::maps::valid::Invalid;
use crate::net::backend::DepthNetwork;
use crate::net::config::Resolution;
use crate::run::cloud::{Fusion, Views};
use crate::run::depth::{self, DepthStage, LevelJob, LevelJobs};
use crate::run::joining::Parts;
use crate::run::memory::{Extent, FittedRun, fit_run};
use crate::run::merging::Merging;
use crate::run::options::{InferOptions, parameters};
use crate::run::plan::{ViewPlan, Work, plan};
use crate::run::write::{self, Wanted};
use crate::run::{cloud, finished, opening, products, report};
use crate::scene::Scene;
use crate::scene::kept_photos;
use crate::scene::mask;
use crate::scene::memory::MEMORY;

/// Does everything: reads the scene, makes depth maps, merges the levels, fuses, and writes.
///
/// # Errors
/// Inputs that cannot be used, a run that would not fit in memory, files that cannot be written,
/// [`crate::Error::Interrupted`], and [`crate::Error::Nothing`] where no point survived (all maps are written then).
pub fn infer<N: DepthNetwork>(
    scene_path: &Path,
    network: &N,
    options: &InferOptions,
    progress: &Progress,
) -> Result<()> {
    let clock = Clock::start();
    let (scene, open) = opening::open(scene_path, &options.open)?;
    let options = &InferOptions { open, ..options.clone() };
    let folder = || OutputFolder::of_scene(&options.output, || default_folder(scene_path), scene_path);
    infer_scene((scene, &in_json(scene_path)), (clock, &folder), network, (options, None), progress)
}

/// Brings a job to its end of which all maps are there, and the points of all tiles.
///
/// # Errors
/// As [`infer`]; maps that are missing.
pub fn infer_joined<N: DepthNetwork>(
    scene_path: &Path,
    network: &N,
    (options, parts): (&InferOptions, Parts),
    progress: &Progress,
) -> Result<()> {
    let clock = Clock::start();
    let (scene, open) = opening::open(scene_path, &options.open)?;
    let options = &InferOptions { open, ..options.clone() };
    let folder = || OutputFolder::of_scene(&options.output, || default_folder(scene_path), scene_path);
    infer_scene((scene, &in_json(scene_path)), (clock, &folder), network, (options, Some(parts)), progress)
}

/// As [`infer`], for photos in memory ([`Scene::of_photos`]); results go to the folder that the options name.
///
/// # Errors
/// As [`infer`]; where the options name no folder.
pub fn infer_photos<N: DepthNetwork>(
    scene: Scene,
    network: &N,
    options: &InferOptions,
    progress: &Progress,
) -> Result<()> {
    let Some(out) = options.output.out.clone() else {
        return Err(Error::input(
            "the folder for results",
            "none",
            "one, since photos in memory have no place of their own",
        ));
    };
    let folder = || OutputFolder::of_named(out.clone(), options.output.force, MEMORY.to_owned());
    infer_scene((scene, MEMORY), (Clock::start(), &folder), network, (options, None), progress)
}

/// The stages. `called` is the scene's name in events; the folder is opened when everything is planned. Where the
/// points of tiles are given, they are joined.
fn infer_scene<N: DepthNetwork>(
    (mut scene, called): (Scene, &str),
    (mut clock, open_folder): (Clock, &dyn Fn() -> Result<OutputFolder>),
    network: &N,
    (options, parts): (&InferOptions, Option<Parts>),
    progress: &Progress,
) -> Result<()> {
    let coarser = coarser_note(network, options.resolution);
    let resolution = options.resolution.min(network.config().resolution);
    let options = &InferOptions { resolution, ..options.for_network(network.calibrated()) };
    let plan = plan(&mut scene, options)?;
    let mut folder = open_folder()?;
    progress.event(
        "start",
        json!({ "command": "infer", "version": env!("CARGO_PKG_VERSION"), "scene": called,
                "out": in_json(folder.path()),
                "views": plan.views.len(), "levels": options.levels }),
    );
    let mut notes = scene.notes.clone();
    notes.extend(coarser);
    notes.extend(raw_note(network));
    notes.extend(plan.notes.iter().cloned());
    notes.extend(subset_note(&scene, &plan.views));
    if !options.depth_only {
        notes.extend(unconfirmed_note(&plan.views));
    }
    notes.iter().for_each(|note| progress.note(note));
    let out = folder.path().to_owned();
    let hashes = products::known_hashes(&out, options.verify);
    let work = Work { scene: &scene, plan: &plan, options, out: &out, hashes: &hashes, progress };

    let mut jobs = depth::find_finished(work, network)?;
    if options.only_finish {
        expect_all(work, &jobs)?;
    }
    let job = products::job_of(work, network);
    let asked = finished::asked(work, &jobs, &job, &notes);
    if let Some(manifest) = finished::recognised(work, &jobs, &job, &asked) {
        progress.note(
            "an earlier run has made all of it, with the same options and from the same files: nothing is left to do",
        );
        manifest.notes.iter().filter(|note| !notes.contains(note)).for_each(|note| progress.note(note));
        folder.remove_leftovers();
        hashes.write()?;
        let fused = (!options.depth_only).then_some(&options.settings.fusion);
        report::summary(&manifest, fused, (None, false), clock.total(), progress);
        return Ok(());
    }
    let extent = if parts.is_some() { Extent::Joined } else { Extent::Whole };
    let FittedRun { need, cache, kept, streaming, put_aside, in_blocks } = fit_run(work, network, &jobs, extent)?;
    folder.claim()?;
    products::withdraw(&out)?;
    products::remove_other_levels(work)?;
    let put_aside = put_aside.map(|(needed, there)| cloud::streaming_note(needed, there, &out));
    for note in folder.note().into_iter().chain(hashes.note()).chain(put_aside) {
        progress.note(&note);
        notes.push(note);
    }
    hashes.write()?;
    clock.lap("preparation");

    let keeping = kept_photos::keep(kept);
    // Also where the run is stopped here: the next one goes on from these maps.
    let stage = hashes.after(depth::run(work, network, cache, &mut jobs))?;
    for note in &stage.notes {
        progress.note(note);
        notes.push(note.clone());
    }
    clock.lap("depth");

    let merging = Merging::new(work, &jobs, network.confidence());
    let places: Vec<usize> = (0..plan.views.len()).collect();
    let blocks = if in_blocks { merging.blocks(&places)? } else { vec![&places[..]] };
    let wanted = if options.depth_only || parts.is_some() { Wanted::Files } else { Wanted::Maps };
    let mut views = match parts {
        Some(parts) => Views::Fused(Box::new(parts)),
        None => Views::new(streaming, &out, &options.settings.fusion)?,
    };
    let (mut outputs, mut counts, mut of_maps) = (Vec::new(), Vec::new(), Vec::new());
    for block in blocks {
        let finished = hashes.after(write::finish_views(&merging, block, (&job, wanted), &mut clock))?;
        views.add(write::fusion_views(work, block, finished.maps))?;
        outputs.extend(finished.outputs);
        counts.extend(finished.counts);
        of_maps.extend(finished.notes);
    }
    drop(keeping);
    let others = products::maps_of_other_runs(work, &job);
    for note in of_maps.into_iter().chain(others).chain(notes_of_counts(work, &counts)) {
        progress.note(&note);
        notes.push(note);
    }
    clock.lap("maps");

    let facts = write::facts(work);
    let mut summaries = write::view_summaries(&scene, &plan.frames, &facts, plan.views.iter().map(|view| view.view));
    add_depth(work, &mut summaries, &stage, &jobs, &counts);
    let manifest = Manifest {
        notes,
        network: Some(NetworkSummary {
            weights: network.weights_name().to_owned(),
            weights_sha256: network.weights_hash().to_owned(),
            config: network.config().to_string(),
            precision: network.precision().to_owned(),
        }),
        machine: MachineSummary { device: network.device(), ..MachineSummary::now(Some(need)) },
        parameters: parameters(options),
        views: summaries,
        outputs,
        ..Manifest::new("infer", &scene, &out)
    };
    let fusion = Fusion {
        options: &options.settings.fusion,
        thin: options.thin,
        region: scene.region,
        ply_offset: options.ply_offset,
        backend: &options.backend,
    };
    let cloud = cloud::fuse_and_report(manifest, clock, views, (!options.depth_only).then_some(fusion), progress)?;
    if let Some(sha256) = &cloud {
        hashes.wrote(&out.join(products::CLOUD), sha256);
    }
    hashes.write()?;
    finished::seal(&out, asked, cloud)
}

/// That an earlier run, or others, have made all maps of levels.
fn expect_all(work: Work, jobs: &LevelJobs) -> Result<()> {
    let is_missing = |levels: &Vec<LevelJob>| levels.iter().any(|job| !job.reused);
    let views = work.plan.views.iter().zip(&jobs.of_views).filter(|(_, levels)| is_missing(levels));
    let missing: Vec<&str> = views.map(|(view, _)| work.name(view)).collect();
    let Some(first) = missing.first() else { return Ok(()) };
    let (count, all) = (missing.len(), counted(work.plan.views.len(), "view"));
    Err(Error::input(
        work.out.display().to_string(),
        format!("maps of {count} of {all} are missing, or are no longer what was made (first: {first})"),
        "the maps of all shards (`engine status OUT` tells which are left)",
    ))
}

/// What is to be said of pixels that could not be used, and of masks.
fn notes_of_counts(work: Work, counts: &[Counts]) -> Vec<String> {
    let invalid = counts.iter().fold(Invalid::default(), |all, of_view| all.and(of_view.invalid));
    let masked = counts.iter().filter(|of_view| of_view.is_masked).count();
    let empty = work.plan.views.iter().zip(counts).filter(|(_, of_view)| of_view.is_empty);
    let empty: Vec<String> = empty.map(|(view, _)| work.name(view).to_owned()).collect();
    invalid.notes("level maps").into_iter().chain(mask::notes(masked, counts.len(), &empty)).collect()
}

/// Says that confidence is not a probability of being right.
fn raw_note<N: DepthNetwork>(network: &N) -> Option<String> {
    (!network.calibrated()).then(|| {
        "confidence is the raw probability of four hypotheses, which depends on the number of planes; weights that \
         `engine calibrate` has fitted have a calibrated one"
            .to_owned()
    })
}

/// Says that the maps will be coarser than asked for.
fn coarser_note<N: DepthNetwork>(network: &N, wanted: Resolution) -> Option<String> {
    let own = network.config().resolution;
    let sides = |resolution: Resolution| match resolution {
        Resolution::Quarter => "a quarter of the photos' sides",
        Resolution::Half => "half of the photos' sides",
        Resolution::Full => "the photos' own size",
    };
    (own < wanted).then(|| {
        let (device, own, wanted) = (network.device(), sides(own), sides(wanted));
        format!("the weights make maps of {own} on {device}, not of {wanted}: they have no narrow stages for that")
    })
}

/// Says which part of the scene is worked on, where it is not all of it.
fn subset_note(scene: &Scene, views: &[ViewPlan]) -> Option<String> {
    let (chosen, all) = (views.len(), scene.views.len());
    (chosen < all)
        .then(|| format!("{chosen} of {all} views get a depth map; levels and points are checked against these only"))
}

/// Says before the work that no point can come of it.
fn unconfirmed_note(views: &[ViewPlan]) -> Option<String> {
    let confirmed = views.iter().any(|view| views.iter().any(|other| view.check.contains(&other.view)));
    (!confirmed).then(|| {
        "no view has a source view among these that could confirm its depths, so there will be no point cloud: add \
         source views with --view, or give --depth-only"
            .to_owned()
    })
}

/// Adds to each view how its depth map was made.
fn add_depth(work: Work, summaries: &mut [ViewSummary], stage: &DepthStage, jobs: &LevelJobs, counts: &[Counts]) {
    let Work { scene, plan, .. } = work;
    let made = jobs.of_views.iter().zip(counts);
    for ((summary, view), (jobs, Counts { replaced, .. })) in summaries.iter_mut().zip(&plan.views).zip(made) {
        let level = |(job, &replaced): (&LevelJob, &usize)| LevelSummary {
            level: job.level,
            map_size: plan.frames[view.view].map_size(job.level),
            seconds: job.made.as_ref().map(|(seconds, _)| *seconds),
            reused: job.reused,
            replaced,
        };
        summary.depth = Some(DepthSummary {
            sources: view.sources.iter().map(|&s| scene.views[s].name.clone()).collect(),
            range: view.range,
            range_from: Some(view.range_from),
            planes: view.planes,
            sampling: view.sampling,
            photo_seconds: stage.photo_seconds.get(&view.view).copied(),
            levels: jobs.iter().zip(replaced).map(level).collect(),
        });
    }
}
