//! How far work by tiles is: which parts are there, and what those who make them have told.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::counted;
use crate::files::subfolders::listed;
use crate::host::progress::duration;
use crate::mesh::tile_plan::TilePlan as MeshTiles;
use crate::run::tile_plan::TilePlan;
use crate::shards::state::{age, modified, now_in};
use crate::shards::tile_work::{own, states};
use crate::shards::which::Shard;

/// Shards that are listed for people.
const SHOWN: usize = 24;

/// How a shard of tiles stands, as far as its file tells; of those that have not begun there is none.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TileShard {
    /// Its number, from 1.
    pub shard: usize,
    /// How many there are.
    pub of: usize,
    /// Its tiles.
    pub tiles: usize,
    /// Those whose parts are there.
    pub made: usize,
    /// `done`, `running`, `lost`, `failed` or `stopped`.
    pub state: &'static str,
    /// The machine that is or was at it.
    pub host: String,
    /// Seconds that a tile takes there.
    pub seconds_a_tile: Option<f64>,
    /// Seconds that are left, while it runs.
    pub seconds_left: Option<f64>,
    /// Seconds since its last sign of life, while it is at work or lost.
    pub silent_for: Option<f64>,
    /// Why it ended early.
    pub message: Option<String>,
}

/// How work by tiles stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TileStatus {
    /// `points` or `surface`.
    pub what: &'static str,
    /// All tiles.
    pub tiles: usize,
    /// Those whose parts are there.
    pub made: usize,
    /// By shard, those that somebody has begun.
    pub shards: Vec<TileShard>,
}

impl TileStatus {
    /// The points of the cloud, where its tiles were planned after the views.
    pub fn of_cloud(out: &Path, plan: &Path) -> Option<Self> {
        let file = TilePlan::file(out);
        let tiles = is_newer(&file, plan).then(|| TilePlan::read(&file).ok().flatten()).flatten()?;
        Some(Self::look("points", (&file, &tiles.id), tiles.tiles.len(), |tile| tiles.part(out, tile)))
    }

    /// The surface of the mesh in a folder, where its tiles were planned after the run has ended.
    pub fn of_mesh(folder: &Path, manifest: &Path) -> Option<Self> {
        let file = MeshTiles::file(folder);
        let tiles = is_newer(&file, manifest).then(|| MeshTiles::read(&file).ok().flatten()).flatten()?;
        Some(Self::look("surface", (&file, &tiles.id), tiles.tiles.len(), |tile| tiles.part(folder, tile)))
    }

    fn look(what: &'static str, (plan, id): (&Path, &str), tiles: usize, part: impl Fn(usize) -> PathBuf) -> Self {
        // One look at the folder, not at each of thousands of files.
        let first = part(1);
        let parts = listed(first.parent().unwrap_or(&first)).into_iter().flatten().flatten();
        let number = |file: PathBuf| file.file_name()?.to_str()?.strip_suffix(".part")?.parse::<usize>().ok();
        let mut is_there = vec![false; tiles + 1];
        for tile in parts.filter_map(number).filter(|tile| (1..=tiles).contains(tile)) {
            is_there[tile] = true;
        }
        let folder = plan.parent().unwrap_or(plan);
        let (now, _) = now_in(folder);
        let mut shards = Vec::new();
        for (file, state) in states(folder, id) {
            let shard = Shard { number: state.shard, of: state.of };
            if !(1..=tiles).contains(&shard.of) || !(1..=shard.of).contains(&shard.number) {
                continue;
            }
            let Some(silent_for) = age(&file, now) else { continue };
            let own = own(shard, tiles);
            let made = is_there[own.clone()].iter().filter(|&&is_there| is_there).count();
            let word = match state.word(silent_for) {
                _ if made == own.len() => "done",
                // Done, and yet parts are missing: somebody has removed them.
                "done" => "stopped",
                word => word,
            };
            let each = state.seconds_each();
            shards.push(TileShard {
                shard: shard.number,
                of: shard.of,
                tiles: own.len(),
                made,
                state: word,
                seconds_a_tile: each,
                seconds_left: each.filter(|_| word == "running").map(|seconds| seconds * (own.len() - made) as f64),
                silent_for: Some(silent_for).filter(|_| ["running", "lost"].contains(&word)),
                message: state.message.filter(|_| word != "done"),
                host: state.host,
            });
        }
        Self { what, tiles, made: is_there.iter().filter(|&&is_there| is_there).count(), shards }
    }

    /// Seconds that the shards which run now need.
    pub fn seconds_left(&self) -> Option<f64> {
        self.shards.iter().filter_map(|shard| shard.seconds_left).reduce(f64::max)
    }

    /// What is left to do, with the command.
    pub fn pending(&self) -> String {
        let Self { what, tiles, made, .. } = self;
        let command = if *what == "points" { "engine fuse OUT" } else { "engine mesh OUT" };
        match tiles - made {
            0 => format!("the {what} of all tiles, which are not joined yet ({command} --join)"),
            _ => format!("the {what} of {made} of {} ({command} --shard)", counted(*tiles, "tile")),
        }
    }

    /// For people: a line, and one for each shard that is not done.
    pub fn tell(&self, text: &mut String) {
        let Self { what, tiles, made, shards } = self;
        let _ = write!(text, "\n\n{what} of {made} of {}", counted(*tiles, "tile"));
        if let Some(left) = self.seconds_left() {
            let _ = write!(text, "; the shards that run now need {} more", duration(left));
        }
        let mut open: Vec<&TileShard> = shards.iter().filter(|shard| shard.state != "done").collect();
        // Those that somebody should look at first.
        open.sort_by_key(|shard| {
            ["failed", "lost", "stopped"].iter().position(|word| *word == shard.state).unwrap_or(3)
        });
        for shard in open.iter().take(SHOWN) {
            let lost = shard.silent_for.filter(|_| shard.state == "lost");
            let told = told(Some(&shard.host), shard.seconds_left, lost, shard.message.as_deref());
            let place = format!("{}/{}", shard.shard, shard.of);
            let made = format!("{}/{}", shard.made, shard.tiles);
            let _ = write!(text, "\n{place:>9} {made:>9} {:>8}  {told}", shard.state);
        }
        if open.len() > SHOWN {
            let _ = write!(text, "\n{:>9} and {} more (--json has all)", "...", open.len() - SHOWN);
        }
    }
}

/// Where a shard is or was worked on, and what else there is to say of it.
pub fn told(host: Option<&str>, left: Option<f64>, lost_for: Option<f64>, message: Option<&str>) -> String {
    let mut told: Vec<String> = host.into_iter().map(str::to_owned).collect();
    told.extend(left.map(|left| format!("{} left", duration(left))));
    told.extend(lost_for.map(|silent| format!("no sign of life for {}: start it again", duration(silent))));
    told.extend(message.map(str::to_owned));
    told.join(", ")
}

/// Whether a file was written after another, or at once.
fn is_newer(file: &Path, than: &Path) -> bool {
    matches!((modified(file), modified(than)), (Some(file), Some(than)) if file >= than)
}

/// Whether a mesh was written after its tiles were planned.
pub fn is_joined(folder: &Path, mesh: &str) -> bool {
    is_newer(&folder.join(mesh), &MeshTiles::file(folder))
}
