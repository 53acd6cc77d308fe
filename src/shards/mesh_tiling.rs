//! `engine mesh --tiles`: a mesh whose surface is made tile by tile, on one machine or on many.

use std::path::Path;

use serde_json::json;

use crate::error::{Error, Result, counted};
use crate::export::job::Job;
use crate::export::options::ExportOptions;
use crate::export::results::Results;
use crate::files::names::in_json;
use crate::host::progress::Progress;
use crate::mesh::folder::{join_folder, out_of};
use crate::mesh::gather;
use crate::mesh::meshing::{Making, mesh_of};
use crate::mesh::options::MeshOptions;
use crate::mesh::plan::Plan;
use crate::mesh::tile_plan::TilePlan;
use crate::mesh::tiles::{Tiles, joined};
use crate::run::tile_files::TILES;
use crate::run::tile_plan::Tiling;
use crate::shards::tile_work::{self, TileOptions, TileWork, Tiled};
use crate::shards::which::{Shard, ShardOption};

/// Does it.
///
/// # Errors
/// As [`crate::mesh::meshing::mesh`]; for a join, parts that are missing.
pub fn mesh_tiles(folder: &Path, options: &MeshOptions, told: &TileOptions, progress: &Progress) -> Result<()> {
    if options.poisson.is_some() {
        return Err(Error::Bug { place: "tiles of a mesh", problem: "Poisson meshing takes the whole cloud".into() });
    }
    if let TileWork::Shard(option) = told.work {
        return shard(folder, options, (option, told.tiling), progress);
    }
    let mut made = None;
    mesh_of(folder, options, progress, |Making { job, plan: room, clock, .. }| {
        let plan = match told.work {
            TileWork::Join => found(job, options, told.tiling)?,
            _ => {
                let plan = planned(job, options, told.tiling)?;
                make(job, (&plan, room), Shard { number: 1, of: 1 })?;
                clock.lap("tiles");
                plan
            }
        };
        if options.voxel.is_none() {
            gather::note_side(job, plan.side);
        }
        let surface = joined(job, room, &plan)?;
        clock.lap("surface");
        made = Some(plan);
        Ok(surface)
    })?;
    let Some(plan) = made.filter(|_| told.work == TileWork::All) else { return Ok(()) };
    let out = out_of(folder, options);
    tile_work::remove_all((&TilePlan::file(&out), &plan.id), (1..=plan.tiles.len()).map(|tile| plan.part(&out, tile)))
}

/// The plan that is there.
fn found(job: &Job, options: &MeshOptions, tiling: Option<Tiling>) -> Result<TilePlan> {
    TilePlan::find(job.out(), job.results, options.voxel, tiling)?.ok_or_else(|| {
        let place = job.out().join(TILES).display().to_string();
        let found = "no tiles that were cut so, of this state of the run and with these options";
        Error::input(place, found, "the options that they were made with")
    })
}

/// The plan in the mesh's folder, or a new one.
fn planned(job: &Job, options: &MeshOptions, tiling: Option<Tiling>) -> Result<TilePlan> {
    let find = || TilePlan::find(job.out(), job.results, options.voxel, tiling);
    tile_work::planned(&job.out().join(TILES), find, || {
        let plan = TilePlan::make(job, options.voxel, tiling.unwrap_or(Tiling::Auto))?;
        let mut stage = job.progress.stage("cut", 1, 1);
        stage.step(&counted(plan.tiles.len(), "tile"), 1, json!({ "tiles": plan.tiles.len() }));
        Ok(plan)
    })
}

/// Makes the tiles of a shard.
fn shard(
    folder: &Path,
    options: &MeshOptions,
    (option, tiling): (ShardOption, Option<Tiling>),
    progress: &Progress,
) -> Result<()> {
    let results = Results::open_idle(folder)?;
    let out = out_of(folder, options);
    let room = Plan::new(&results, (0, false), options.memory)?;
    let lock = join_folder(folder, options)?;
    lock.missing.iter().for_each(|note| progress.note(note));
    progress.event(
        "start",
        json!({ "command": "mesh", "version": env!("CARGO_PKG_VERSION"), "run": in_json(folder),
                "out": in_json(&out) }),
    );
    let export = ExportOptions { filtered_depth: true, ..ExportOptions::default() };
    let job = Job::new(&results, None, &export, (&out, progress));
    let plan = planned(&job, options, tiling)?;
    let tiled = Tiled {
        plan_file: TilePlan::file(&out),
        plan: &plan.id,
        count: plan.tiles.len(),
        part: &|tile| plan.part(&out, tile),
        holds: &|| plan.is_in(&out),
        what: "surface",
    };
    tiled.make(option, progress, |shard| make(&job, (&plan, &room), shard))
}

/// Makes those of a shard that are not there; gives the bytes of memory that they were planned with, at most.
fn make(job: &Job, (plan, room): (&TilePlan, &Plan), shard: Shard) -> Result<u64> {
    let mut tiles = Tiles::new(job, plan, room)?;
    tile_work::make_own((shard, plan.tiles.len()), job.progress, |tile| tiles.make(tile))?;
    Ok(tiles.planned())
}
