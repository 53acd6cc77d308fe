//! Tiles as work that many processes share, whatever is made tile by tile: who plans them, and whose is which.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use crate::error::{Error, Result, counted};
use crate::files::folder::{remove, remove_empty_folder_of};
use crate::files::lock::{FolderLock, LOCK, Mode, at_work};
use crate::host::progress::Progress;
use crate::host::{interrupt, memory};
use crate::run::tile_plan::Tiling;
use crate::shards::plan_file::divided;
use crate::shards::state::{Part, ShardState, Stage};
use crate::shards::which::{Shard, ShardOption};

/// How often is looked whether another process has made the plan.
const AGAIN: Duration = Duration::from_millis(200);
/// Tries to lock the folder of tiles while nobody seems to hold it.
const TRIES: usize = 5;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct TileOptions {
    /// How space is cut; `None`: as the plan in the folder says.
    pub tiling: Option<Tiling>,
    /// Which part of the work.
    pub work: TileWork,
}

/// A part of the work.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TileWork {
    /// All of it.
    All,
    /// Some tiles.
    Shard(ShardOption),
    /// Tiles that are there are joined.
    Join,
}

impl TileOptions {
    /// As options of a command line say it; `None` where none of them is given.
    pub fn told(tiling: Option<Tiling>, shard: Option<ShardOption>, join: bool) -> Option<Self> {
        let work = match shard {
            Some(shard) => TileWork::Shard(shard),
            None if join => TileWork::Join,
            None if tiling.is_some() => TileWork::All,
            None => return None,
        };
        Some(Self { tiling, work })
    }
}

/// The plan that `find` finds in a folder of tiles, or else one that `make` makes there. Whoever comes meanwhile waits
/// for it.
///
/// # Errors
/// A folder that cannot be made; those of `find` and `make`; [`Error::Interrupted`].
pub fn planned<P>(folder: &Path, find: impl Fn() -> Result<Option<P>>, make: impl FnOnce() -> Result<P>) -> Result<P> {
    if let Some(plan) = find()? {
        return Ok(plan);
    }
    std::fs::create_dir_all(folder).map_err(Error::io("create the folder of tiles", folder))?;
    let mut refused = 0;
    let _lock = loop {
        interrupt::check()?;
        match FolderLock::acquire(folder, Mode::Alone, "folder of tiles", "write into the folder of tiles") {
            // It may have been given back since.
            Err(error) if refused > TRIES && at_work(folder).is_none() => return Err(error),
            Err(_) => refused += 1,
            Ok(lock) => break lock,
        }
        std::thread::sleep(AGAIN);
    };
    match find()? {
        Some(plan) => Ok(plan),
        None => make(),
    }
}

/// What shards of tiles have told, by their files, if they are of the plan with this hash; in the order of the shards.
pub fn states(folder: &Path, plan: &str) -> Vec<(PathBuf, ShardState)> {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|file| file.path());
    let is_state = |file: &PathBuf| file.file_name().and_then(|name| name.to_str()).is_some_and(|n| n.contains("-of-"));
    let mut states: Vec<_> =
        files.filter(is_state).filter_map(|file| Some((file.clone(), ShardState::read(&file, plan)?))).collect();
    states.sort_by_key(|(_, state)| (state.of, state.shard));
    states
}

/// Which shard of so many tiles is asked for: any number of shards up to that will do.
///
/// # Errors
/// More shards than tiles; an array's task whose number does not fit.
pub fn shard_of(option: ShardOption, tiles: usize) -> Result<Shard> {
    let variable = |name: &str| std::env::var(name).ok();
    // Where a scheduler does not say how many there are, a tile is one.
    let shard = option.resolve(None, variable).or_else(|_| option.resolve(Some(tiles), variable))?;
    if shard.of > tiles {
        let found = format!("{} shards for {}", shard.of, counted(tiles, "tile"));
        return Err(Error::input(format!("--shard {shard}"), found, "no more shards than tiles (--tiles N)"));
    }
    Ok(shard)
}

/// The numbers, from 1, of a shard's tiles.
pub fn own(shard: Shard, tiles: usize) -> Range<usize> {
    let counts = divided(&vec![1; tiles], shard.of);
    let first: usize = counts[..shard.number - 1].iter().sum();
    first + 1..first + 1 + counts[shard.number - 1]
}

/// The tiles of a plan, as work that is told of.
pub struct Tiled<'a> {
    /// The plan's file, in the folder of tiles.
    pub plan_file: PathBuf,
    /// The hash in it.
    pub plan: &'a str,
    /// How many tiles there are.
    pub count: usize,
    /// The file of a tile's part.
    pub part: &'a (dyn Fn(usize) -> PathBuf + Sync),
    /// Whether the plan's file still has that hash, as far as it can be read.
    pub holds: &'a (dyn Fn() -> bool + Sync),
    /// What is made of a tile: `points` or `surface`.
    pub what: &'static str,
}

impl Tiled<'_> {
    /// Makes the tiles of a shard by `work`, which gives the bytes of memory that it has planned with, and tells of it:
    /// meanwhile in the shard's file, and in the end.
    ///
    /// # Errors
    /// More shards than tiles; another plan meanwhile; those of `work`.
    pub fn make(
        &self,
        option: ShardOption,
        progress: &Progress,
        work: impl FnOnce(Shard) -> Result<u64>,
    ) -> Result<()> {
        let Self { plan_file, plan, count, part, holds, what } = self;
        let shard = shard_of(option, *count)?;
        let own = own(shard, *count);
        let told = Part {
            folder: plan_file.parent().map(Path::to_owned).unwrap_or_default(),
            plan_file: plan_file.clone(),
            plan,
            holds: *holds,
            shard,
            stage: Stage::Tiles,
            count: own.len(),
        };
        let tiles = own.len();
        let memory_planned = told.told(|| own.clone().filter(|&tile| part(tile).exists()).count(), || work(shard))?;
        let are = if *what == "points" { "are" } else { "is" };
        let text = format!("shard {shard}: the {what} of {} {are} there", counted(tiles, "tile"));
        let fields = json!({
            "shard": shard.number, "of": shard.of, "tiles": tiles, "memory_planned": memory_planned,
            "memory_peak": memory::peak(),
        });
        progress.summary(&text, fields);
        Ok(())
    }
}

/// Makes those tiles of a shard that are not there; `make` says whether one was.
///
/// # Errors
/// Those of `make`.
pub fn make_own(
    (shard, tiles): (Shard, usize),
    progress: &Progress,
    mut make: impl FnMut(usize) -> Result<bool>,
) -> Result<()> {
    let own = own(shard, tiles);
    let mut stage = progress.stage("tiles", own.len(), own.len() as u64);
    for tile in own {
        let was_there = make(tile)?;
        stage.step(&format!("tile {tile}"), 1, json!({ "tile": tile, "reused": was_there }));
    }
    Ok(())
}

/// Takes the plan and the parts away where one process has made and joined them, and what earlier shards have told.
///
/// # Errors
/// Files that cannot be removed.
pub fn remove_all((plan, id): (&Path, &str), parts: impl Iterator<Item = PathBuf>) -> Result<()> {
    remove(plan, "remove the plan of tiles that are joined")?;
    for (state, _) in states(plan.parent().unwrap_or(plan), id) {
        remove(&state, "remove what a shard of tiles that are joined has told")?;
    }
    for part in parts {
        remove(&part, "remove the part of a tile that is joined")?;
        remove_empty_folder_of(&part);
    }
    remove(&plan.with_file_name(LOCK), "remove the lock of tiles that are joined")?;
    remove_empty_folder_of(plan);
    Ok(())
}
