//! `engine fuse --tiles`: a cloud whose parts are made tile by tile, on one machine or on many.

use std::path::Path;

use serde_json::json;

use crate::error::{Error, Result, counted};
use crate::files::depth_maps::DepthMaps;
use crate::files::folder::{OutputFolder, scene_of_results, sibling};
use crate::fusion::settings::Method;
use crate::host::memory_limits::room;
use crate::host::progress::{Progress, one_line};
use crate::host::trace::Clock;
use crate::manifest::made::Made;
use crate::manifest::{MachineSummary, Manifest};
use crate::net::backend::DepthNetwork;
use crate::net::config::Resolution;
use crate::run::cloud::{self, Fusion, Views};
use crate::run::device::Backend;
use crate::run::fuse::{Job, Looked, SUFFIX, best, look};
use crate::run::fuse_views::ANY_DEPTH;
use crate::run::infer::infer_joined;
use crate::run::joining::Parts;
use crate::run::options::{FuseOptions, InferOptions, MapsOptions, parameters};
use crate::run::plan::{Frame, places};
use crate::run::tile_files::TILES;
use crate::run::tile_plan::{TilePlan, Tiling};
use crate::run::tile_views::TileViews;
use crate::run::tiles::Tiles;
use crate::run::{products, write};
use crate::shards::mapping::join;
use crate::shards::plan_file::PlanFile;
use crate::shards::planning::Outline;
use crate::shards::tile_work::{self, TileOptions, TileWork, Tiled};
use crate::shards::which::Shard;

/// Does it with maps that are there.
///
/// # Errors
/// As [`crate::run::fuse::fuse`]; a method that needs all maps at once; for a join, parts that are missing.
pub fn fuse_tiles(scene: &Path, options: &FuseOptions, told: &TileOptions, progress: &Progress) -> Result<()> {
    let mut clock = Clock::start();
    expect_tiles(&options.settings.fusion.method)?;
    let job = Job { command: "fuse", scene, suffix: SUFFIX, extra: &[], bytes_a_point: 0, stream: None };
    let MapsOptions { output, maps, .. } = &options.maps;
    let out = output.out.clone().map_or_else(|| sibling(maps, job.suffix), Ok)?;
    let together = matches!(told.work, TileWork::Shard(_));
    let mut folder = None;
    let mut lock = None;
    let open = || {
        match together {
            true => {
                expect_scene(&out, scene, output.force)?;
                lock = Some(join(&out, scene, output.force)?);
            }
            false => folder = Some(OutputFolder::of_scene(output, || Ok(out.clone()), scene)?),
        }
        Ok(out.clone())
    };
    let Looked { scene, files, chosen, frames, ranked, mut notes, options: maps } =
        look(&job, &options.maps, progress, open)?;
    if let Some(note) = lock.as_ref().and_then(|lock| lock.missing.clone()) {
        notes.push(note);
    }
    notes.iter().for_each(|note| progress.note(note));
    let settings = &options.settings;
    let views = TileViews {
        scene: &scene,
        chosen: &chosen,
        frames: &frames,
        files: &files,
        maps: &maps,
        settings,
        ranges: vec![options.maps.range.unwrap_or(ANY_DEPTH); chosen.len()],
        sources: ranked.iter().map(|ranked| best(ranked, settings.check_sources)).collect(),
    };
    let Some(mut folder) = folder else { return shard(&views, &out, told, progress) };
    let (parts, plan) = match told.work {
        TileWork::Join => (parts(&views, &out, told.tiling)?, None),
        _ => {
            folder.claim()?;
            let plan = make_all(&views, &out, told, progress)?;
            clock.lap("tiles");
            (parts_of(&views, &out, &plan)?, Some(plan))
        }
    };
    folder.claim()?;
    if let Some(note) = folder.note() {
        progress.note(&note);
        notes.push(note);
    }
    products::withdraw(&out)?;
    for note in parts.notes(&one_line(&maps.maps.display().to_string())) {
        progress.note(&note);
        notes.push(note);
    }
    let manifest = Manifest {
        notes,
        machine: MachineSummary::now(None),
        parameters: parameters(&FuseOptions { maps: maps.clone(), ..options.clone() }),
        views: write::view_summaries(&scene, &frames, parts.facts(), chosen.iter().copied()),
        ..Manifest::new("fuse", &scene, &out)
    };
    let FuseOptions { thin, ply_offset, .. } = *options;
    let fusion = Fusion { options: &settings.fusion, thin, region: scene.region, ply_offset, backend: &Backend::Host };
    cloud::fuse_and_report(manifest, clock, Views::Fused(Box::new(parts)), Some(fusion), progress)?;
    remove_all(&out, plan.as_ref())
}

/// Does it for a job that was planned, whose views are all merged.
///
/// # Errors
/// As [`fuse_tiles`]; views that are not merged yet.
pub fn fuse_planned_tiles<N: DepthNetwork>(
    scene_path: &Path,
    network: &N,
    options: &InferOptions,
    told: &TileOptions,
    progress: &Progress,
) -> Result<()> {
    let Some(out) = options.output.out.clone() else {
        return Err(Error::Bug { place: "tiles of a plan", problem: "no folder".into() });
    };
    let job = PlanFile::expect(&out)?;
    let outline = Outline::new(scene_path, network, options, progress)?;
    outline.expect(&job, &out)?;
    if outline.options.depth_only {
        let found = "a plan with --depth-only, which makes no points";
        return Err(Error::input(out.display().to_string(), found, "a plan without it"));
    }
    expect_merged(&out, &job)?;
    let (scene, of_views) = (&outline.scene, &outline.plan.views);
    let max_side = outline.options.max_side;
    let maps = MapsOptions {
        output: options.output.clone(),
        memory: options.memory,
        maps: out.clone(),
        max_side,
        only: Vec::new(),
        range: None,
        open: options.open.clone(),
    };
    let chosen: Vec<usize> = of_views.iter().map(|view| view.view).collect();
    let frames: Vec<Frame> = scene.views.iter().map(|v| Frame::new(v, max_side, Resolution::Full)).collect();
    let views = TileViews {
        scene,
        chosen: &chosen,
        frames: &frames,
        files: &DepthMaps::find(&out)?,
        maps: &maps,
        settings: &outline.options.settings,
        ranges: of_views.iter().map(|view| view.range).collect(),
        sources: of_views.iter().map(|view| places(of_views, &view.check)).collect(),
    };
    let (parts, plan) = match told.work {
        TileWork::Join => (parts(&views, &out, told.tiling)?, None),
        _ => {
            let lock = join(&out, &scene.root, false)?;
            lock.missing.iter().for_each(|note| progress.note(note));
            if let TileWork::Shard(_) = told.work {
                return shard(&views, &out, told, progress);
            }
            let plan = make_all(&views, &out, told, progress)?;
            (parts_of(&views, &out, &plan)?, Some(plan))
        }
    };
    let options = InferOptions { only_finish: true, ..options.clone() };
    infer_joined(scene_path, network, (&options, parts), progress)?;
    remove_all(&out, plan.as_ref())
}

/// That a method's points can be made tile by tile.
fn expect_tiles(method: &Method) -> Result<()> {
    if method.takes_views_one_by_one() {
        return Ok(());
    }
    let found = format!("the method {}, which needs all maps at once", method.name());
    Err(Error::input("--tiles", found, "--method reprojection or dynamic"))
}

/// That a folder's results are those of this scene.
fn expect_scene(out: &Path, scene: &Path, force: bool) -> Result<()> {
    let own = dunce::canonicalize(scene).map_err(Error::io("open the scene", scene))?;
    match scene_of_results(out).filter(|other| *other != own && !force) {
        None => Ok(()),
        Some(other) => Err(Error::input(
            format!("output folder {}", out.display()),
            format!("it holds the results of another scene, {}", other.display()),
            "an empty or new folder (-o OUT), or --force to replace them",
        )),
    }
}

/// That the finished maps of all views are there.
fn expect_merged(out: &Path, plan: &PlanFile) -> Result<()> {
    let is_missing = |name: &&str| !Made::read(out, name).is_some_and(|made| made.is_whole());
    let missing: Vec<&str> = plan.views.iter().map(|view| view.name.as_str()).filter(is_missing).collect();
    let Some(first) = missing.first() else { return Ok(()) };
    let (count, all) = (missing.len(), counted(plan.views.len(), "view"));
    let found = format!("{count} of {all} are not merged yet (first: {first})");
    Err(Error::input(out.display().to_string(), found, "finished maps of all views (engine merge OUT)"))
}

/// The plan of tiles in a folder, or a new one.
fn planned(views: &TileViews, out: &Path, tiling: Option<Tiling>, progress: &Progress) -> Result<TilePlan> {
    let find = || TilePlan::find(out, views, tiling);
    tile_work::planned(&out.join(TILES), find, || {
        let mut stage = progress.stage("looking", 1, 1);
        let plan = TilePlan::make(out, views, tiling.unwrap_or(Tiling::Auto))?;
        stage.step(&counted(plan.tiles.len(), "tile"), 1, json!({ "tiles": plan.tiles.len() }));
        Ok(plan)
    })
}

/// Makes the tiles of a shard.
fn shard(views: &TileViews, out: &Path, told: &TileOptions, progress: &Progress) -> Result<()> {
    let TileWork::Shard(option) = told.work else {
        return Err(Error::Bug { place: "tiles of a shard", problem: "no shard".into() });
    };
    let plan = planned(views, out, told.tiling, progress)?;
    let tiled = Tiled {
        plan_file: TilePlan::file(out),
        plan: &plan.id,
        count: plan.tiles.len(),
        part: &|tile| plan.part(out, tile),
        holds: &|| plan.is_in(out),
        what: "points",
    };
    tiled.make(option, progress, |shard| make(views, out, (&plan, shard), progress))
}

/// Makes all tiles.
fn make_all(views: &TileViews, out: &Path, told: &TileOptions, progress: &Progress) -> Result<TilePlan> {
    let plan = planned(views, out, told.tiling, progress)?;
    make(views, out, (&plan, Shard { number: 1, of: 1 }), progress)?;
    Ok(plan)
}

/// Makes those of a shard that are not there; gives the bytes of memory that they were planned with, at most.
fn make(views: &TileViews, out: &Path, (plan, shard): (&TilePlan, Shard), progress: &Progress) -> Result<u64> {
    let mut tiles = Tiles::new(views, plan, out)?;
    tile_work::make_own((shard, plan.tiles.len()), progress, |tile| tiles.make(tile, progress))?;
    Ok(tiles.planned())
}

/// The parts of the plan that is there.
fn parts(views: &TileViews, out: &Path, tiling: Option<Tiling>) -> Result<Parts> {
    let Some(plan) = TilePlan::find(out, views, tiling)? else {
        let place = out.join(TILES).display().to_string();
        let found = "no tiles that were cut so, of these maps and with these options";
        return Err(Error::input(place, found, "the options that they were made with"));
    };
    parts_of(views, out, &plan)
}

fn parts_of(views: &TileViews, out: &Path, plan: &TilePlan) -> Result<Parts> {
    Parts::open(out, plan, views.facts(&plan.sizes)?, room(views.maps.memory).bytes)
}

/// Takes the parts away where one process has made and joined them: they are in the cloud.
fn remove_all(out: &Path, plan: Option<&TilePlan>) -> Result<()> {
    let Some(plan) = plan else { return Ok(()) };
    tile_work::remove_all((&TilePlan::file(out), &plan.id), (1..=plan.tiles.len()).map(|tile| plan.part(out, tile)))
}
