//! The space of a mesh divided into tiles: `tiles/plan.json` in its folder.
//!
//! The first process filters all maps once, decides on the grid, finds its blocks, and writes down where they are cut.
//! A tile is a box of whole blocks; its surface is that of its own blocks, and is found with the blocks beside them, so
//! that it is the same however space is cut.

use std::path::{Path, PathBuf};

use glam::DVec3;
use serde::{Deserialize, Serialize};
use serde_json::{Map as Fields, Value, json};

use crate::error::{Error, Result};
use crate::export::job::Job;
use crate::export::results::Results;
use crate::files::hash;
use crate::fusion::tile::{Tile, TileSides};
use crate::manifest::MANIFEST;
use crate::manifest::made::difference;
use crate::mesh::gather;
use crate::mesh::grid::{self, BlockKey, Grid};
use crate::mesh::spool::Spool;
use crate::run::tile_files::{PLAN, TILES, part_file, plan_file, read_plan, write_plan};
use crate::run::tile_plan::{Tiling, cut};

/// The number of the file's schema; it grows when a field's meaning changes.
const SCHEMA: u32 = 1;
/// A tile for so many blocks, where nobody says how many: 270 MB of voxels.
const BLOCKS_OF_A_TILE: usize = 1 << 16;

/// The file's content.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TilePlan {
    /// Always `engine mesh`.
    pub program: String,
    /// The number of the file's schema.
    pub schema: u32,
    /// The program's version.
    pub version: String,
    /// A hash of all that the surface and the tiles depend on.
    pub id: String,
    /// Into how many tiles space was to be cut.
    pub tiling: String,
    /// Options that the surface depends on.
    pub job: Fields<String, Value>,
    /// A hash of the run's manifest and of all its maps.
    pub run_sha256: String,
    /// The grid's origin, in the world, ...
    pub origin: [f64; 3],
    /// ... and the side of its voxels.
    pub side: f64,
    /// Pixels that lie too far away for the grid.
    pub beyond: u64,
    /// How many blocks there are.
    pub blocks: usize,
    /// The least number of theirs on each axis, and the greatest.
    pub ends: [[i32; 3]; 2],
    /// Of each view, the greatest depth that is left of its maps; 0 where nothing is.
    pub far: Vec<f64>,
    /// Boxes in space, seen from the blocks' numbers.
    pub tiles: Vec<TileSides>,
}

/// The options that a surface depends on.
fn job_of(voxel: Option<f64>) -> Fields<String, Value> {
    Fields::from_iter([("voxel".to_owned(), json!(voxel))])
}

/// A hash of the run's state: its manifest, and what tells its maps apart.
fn run_sha256(results: &Results) -> Result<String> {
    let manifest = hash::of_file(&results.folder().join(MANIFEST))?;
    let stamps: Vec<Value> = (0..results.views.len()).map(|view| results.stamp(view)).collect::<Result<_>>()?;
    Ok(hash::of_bytes(json!([manifest, stamps]).to_string().as_bytes()))
}

impl TilePlan {
    /// The plan in a mesh's folder, if it is of this run and cut so; where nobody says how it is cut, it must be of it.
    ///
    /// # Errors
    /// A file that cannot be read; a plan of another state of the run or of other options, where there must be one of
    /// these.
    pub fn find(out: &Path, results: &Results, voxel: Option<f64>, tiling: Option<Tiling>) -> Result<Option<Self>> {
        let file = Self::file(out);
        let there = Self::read(&file)?;
        let (job, run) = (job_of(voxel), run_sha256(results)?);
        let of_this = |plan: &Self| plan.job == job && plan.run_sha256 == run;
        if let Some(tiling) = tiling {
            return Ok(there.filter(|plan| of_this(plan) && plan.tiling == tiling.to_string()));
        }
        let place = file.display().to_string();
        match there {
            None => Err(Error::input(out.display().to_string(), format!("no {TILES}/{PLAN}"), "tiles (--tiles N)")),
            Some(plan) if plan.job != job => {
                let found = format!("tiles of another mesh ({})", difference(&plan.job, &job));
                Err(Error::input(place, found, "the options that the tiles were made with, or new tiles (--tiles N)"))
            }
            Some(plan) if !of_this(&plan) => {
                let found = "tiles of another state of the run, whose manifest or maps have changed since";
                Err(Error::input(place, found, "tiles of the run as it is now (--tiles N)"))
            }
            plan => Ok(plan),
        }
    }

    /// Filters all maps, cuts space, and writes the plan; another process may have been faster.
    ///
    /// # Errors
    /// Maps that cannot be read, none of whose pixels is left; a file that cannot be written;
    /// [`Error::Interrupted`].
    pub fn make(job: &Job, voxel: Option<f64>, tiling: Tiling) -> Result<Self> {
        let (results, out) = (job.results, job.out());
        let run_sha256 = run_sha256(results)?;
        let mut spool = Spool::of_run(job, out)?;
        let grid = gather::grid(job, voxel, &mut spool)?;
        let views: Vec<usize> = (0..spool.views.len()).collect();
        let (blocks, beyond) = grid::touched(&grid, &mut spool, &views, |_| true)?;
        let ends = [i32::min, i32::max].map(|pick| {
            [0, 1, 2].map(|axis| blocks.iter().map(|key| key.block()[axis]).reduce(pick).unwrap_or_default())
        });
        let places: Vec<DVec3> = blocks.iter().map(|key| key.block().as_dvec3()).collect();
        let tiles = cut(tiling, blocks.len().div_ceil(BLOCKS_OF_A_TILE), places);
        let (job, text) = (job_of(voxel), tiling.to_string());
        let id = hash::of_bytes(json!([SCHEMA, job, run_sha256, text]).to_string().as_bytes());
        let plan = Self {
            program: PROGRAM.into(),
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION").into(),
            id,
            tiling: text,
            job,
            run_sha256,
            origin: grid.origin.to_array(),
            side: grid.side,
            beyond,
            blocks: blocks.len(),
            ends,
            far: spool.views.iter().map(|view| view.far).collect(),
            tiles: tiles.into_iter().map(TileSides::from).collect(),
        };
        write_plan(&Self::file(out), &plan, Self::read)?;
        Ok(plan)
    }

    /// The file in a mesh's folder.
    pub fn file(out: &Path) -> PathBuf {
        plan_file(out)
    }

    /// What a file holds, if there is one.
    ///
    /// # Errors
    /// A file that cannot be read, or is no plan of this version.
    pub fn read(file: &Path) -> Result<Option<Self>> {
        read_plan(file, |plan: &Self| {
            (plan.program.as_str(), plan.schema) == (PROGRAM, SCHEMA)
                && plan.version == env!("CARGO_PKG_VERSION")
                && plan.side > 0.0
                && !plan.tiles.is_empty()
        })
    }

    /// Whether the plan in a folder is this one, as far as it can be read.
    pub fn is_in(&self, out: &Path) -> bool {
        Self::read(&Self::file(out)).map_or(true, |there| there.is_some_and(|there| there.id == self.id))
    }

    /// The file of a tile's surface; tiles are numbered from 1.
    pub fn part(&self, out: &Path, tile: usize) -> PathBuf {
        part_file(out, &self.id, tile)
    }

    /// The grid.
    pub fn grid(&self) -> Grid {
        Grid { origin: DVec3::from(self.origin), side: self.side }
    }

    /// A tile, numbered from 1, whose points are numbers of blocks.
    pub fn tile(&self, number: usize) -> Tile {
        self.tiles[number - 1].into()
    }
}

/// Whether a block is a tile's own.
pub fn is_own(tile: &Tile, key: BlockKey) -> bool {
    tile.has(key.block().as_dvec3())
}

const PROGRAM: &str = "engine mesh";
