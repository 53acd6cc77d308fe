//! `engine status`: how far a plan is, from the files that are there.

use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde_json::json;

use crate::error::{Error, Result, counted};
use crate::files::mirror;
use crate::files::subfolders::listed;
use crate::host::disk;
use crate::host::interrupt;
use crate::host::memory::readable;
use crate::host::progress::{Progress, duration};
use crate::manifest::MANIFEST;
use crate::mesh::folder::MESH;
use crate::mesh::meshing::REPORT;
use crate::run::products::{CLOUD, SHARDS};
use crate::shards::plan_file::{PLAN, PlanFile};
use crate::shards::state::{Condition, ShardState, Stage, age, now_in};
use crate::shards::tile_status::{TileStatus, is_joined, told};
use crate::shards::which::Shard;

/// How often `--watch` looks.
const LOOK: Duration = Duration::from_secs(2);

/// How a shard stands, as far as its files tell.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ShardStatus {
    /// Its number, from 1.
    pub shard: usize,
    /// Its views.
    pub views: usize,
    /// Those with maps of all levels.
    pub mapped: usize,
    /// Those with merged maps.
    pub merged: usize,
    /// `done`, `running`, `lost`, `failed`, `stopped` or `waiting`.
    pub state: &'static str,
    /// The machine that is or was at it.
    pub host: Option<String>,
    /// Seconds that a view takes there.
    pub seconds_a_view: Option<f64>,
    /// Seconds that are left, while it runs.
    pub seconds_left: Option<f64>,
    /// Seconds since its last sign of life.
    pub silent_for: Option<f64>,
    /// Why it ended early.
    pub message: Option<String>,
}

/// How the whole plan stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    /// Views of the plan.
    pub views: usize,
    /// Those with maps of all levels.
    pub mapped: usize,
    /// Those with merged maps.
    pub merged: usize,
    /// Whether manifest and cloud are there.
    pub fused: bool,
    /// Whether nothing is left to do.
    pub done: bool,
    /// Seconds until the maps are there, if the shards that run now go on, and no other begins.
    pub seconds_left: Option<f64>,
    /// Bytes that are free where the results lie, and that are still to be written.
    pub disk_free: Option<u64>,
    /// Bytes that are still to be written.
    pub disk_needed: u64,
    /// By shard.
    pub shards: Vec<ShardStatus>,
    /// The points, where they are made by tiles.
    pub tiles: Option<TileStatus>,
    /// The surface of OUT/mesh, where it is made by tiles.
    pub mesh: Option<TileStatus>,
}

/// Looks once.
///
/// # Errors
/// A folder without a plan.
pub fn look(out: &Path) -> Result<Status> {
    let plan = PlanFile::expect(out)?;
    let levels = plan.job.get("levels").and_then(serde_json::Value::as_u64).unwrap_or(1);
    let views = Views::of(&plan);
    // Names are long where there are a million: what is kept of a view is a number.
    let (mut mapped, mut merged) = (vec![0u8; plan.views.len()], vec![false; plan.views.len()]);
    for level in 0..levels {
        views.each_recorded(&out.join("levels").join(level.to_string()), |view| mapped[view] += 1);
    }
    views.each_recorded(&out.join("levels"), |view| merged[view] = true);
    let (now, _) = now_in(&out.join(SHARDS));
    let mut shards = Vec::with_capacity(plan.shards.len());
    for (number, own) in (1..).zip(plan.ranges()) {
        let shard = Shard { number, of: plan.shards.len() };
        let mapped = mapped[own.clone()].iter().filter(|&&count| u64::from(count) == levels).count();
        let merged = merged[own.clone()].iter().filter(|&&is_merged| is_merged).count();
        shards.push(of_shard(out, (&plan, shard, own.len()), (mapped, merged), now));
    }
    let sum = |of: fn(&ShardStatus) -> usize| shards.iter().map(of).sum::<usize>();
    let (views, mapped, merged) = (plan.views.len(), sum(|s| s.mapped), sum(|s| s.merged));
    let is_depth_only = plan.options.iter().any(|(name, value)| name == "depth-only" && value == "true");
    let fused = out.join(MANIFEST).exists() && (is_depth_only || out.join(CLOUD).exists());
    let (manifest, folder) = (out.join(MANIFEST), out.join(MESH));
    let tiles = if fused { None } else { TileStatus::of_cloud(out, &out.join(PLAN)) };
    let mesh = if is_joined(&folder, REPORT) { None } else { TileStatus::of_mesh(&folder, &manifest) };
    let mut left: Vec<f64> = shards.iter().filter_map(|shard| shard.seconds_left).collect();
    left.extend([&tiles, &mesh].into_iter().flatten().filter_map(TileStatus::seconds_left));
    let disk_needed = plan.shards.iter().zip(&shards).map(|(planned, status)| {
        let share = (status.views - status.mapped) as f64 / status.views.max(1) as f64;
        (planned.disk as f64 * share) as u64
    });
    Ok(Status {
        views,
        mapped,
        merged,
        fused,
        done: mapped == views && fused && mesh.is_none(),
        seconds_left: left.into_iter().reduce(f64::max),
        disk_free: if mirror::is_copy(out) { None } else { disk::free(out) },
        disk_needed: disk_needed.sum(),
        shards,
        tiles,
        mesh,
    })
}

/// The views of a plan, to be found by their names.
struct Views<'a> {
    plan: &'a PlanFile,
    /// Places in the plan, in the order of names.
    by_name: Vec<usize>,
}

impl<'a> Views<'a> {
    fn of(plan: &'a PlanFile) -> Self {
        let mut by_name: Vec<usize> = (0..plan.views.len()).collect();
        by_name.sort_unstable_by_key(|&view| plan.views[view].name.as_str());
        Self { plan, by_name }
    }

    /// Tells `take` of each view that has a record in a folder.
    fn each_recorded(&self, folder: &Path, mut take: impl FnMut(usize)) {
        for file in listed(folder).into_iter().flatten().flatten() {
            let Some(name) = file.file_name().and_then(|name| name.to_str()?.strip_suffix(".json")) else { continue };
            let found = self.by_name.binary_search_by_key(&name, |&view| self.plan.views[view].name.as_str());
            found.iter().for_each(|&at| take(self.by_name[at]));
        }
    }
}

/// How a shard stands: by its maps, then by what its process tells.
fn of_shard(
    out: &Path,
    (plan, shard, views): (&PlanFile, Shard, usize),
    (mapped, merged): (usize, usize),
    now: SystemTime,
) -> ShardStatus {
    let states = [Stage::Merge, Stage::Maps].map(|stage| {
        let file = ShardState::path(&out.join(SHARDS), shard, stage);
        Some((ShardState::read(&file, &plan.id)?, age(&file, now)?))
    });
    let is_current = |(state, _): &&(ShardState, f64)| state.condition != Condition::Done || state.stage == Stage::Maps;
    let told = states.iter().flatten().find(is_current);
    // Done, and yet maps are missing: somebody has removed them.
    let condition = told.map(|(state, silent_for)| match state.word(*silent_for) {
        "done" => "waiting",
        word => word,
    });
    let is_merging = told.is_some_and(|(state, _)| state.stage == Stage::Merge);
    let state = match condition {
        _ if mapped == views && !is_merging => "done",
        condition => condition.unwrap_or("waiting"),
    };
    let seconds_a_view = told.and_then(|(state, _)| state.seconds_each());
    let left = if is_merging { views - merged } else { views - mapped };
    ShardStatus {
        shard: shard.number,
        views,
        mapped,
        merged,
        state,
        host: told.map(|(state, _)| state.host.clone()),
        seconds_a_view,
        seconds_left: seconds_a_view.filter(|_| state == "running").map(|seconds| seconds * left as f64),
        silent_for: told.filter(|_| ["running", "lost"].contains(&state)).map(|(_, silent_for)| *silent_for),
        message: told.and_then(|(state, _)| state.message.clone()).filter(|_| state != "done"),
    }
}

impl Status {
    /// For people.
    pub fn text(&self) -> String {
        const SHOWN: usize = 24;
        let mut text = format!(
            "maps of {} of {}, merged {}, {}",
            self.mapped,
            counted(self.views, "view"),
            self.merged,
            if self.fused { "fused" } else { "not fused yet" }
        );
        if let Some(left) = self.seconds_left {
            let _ = write!(text, "; the shards that run now need {} more", duration(left));
        }
        if let Some(free) = self.disk_free.filter(|_| !self.done) {
            let _ = write!(text, "; {} free, at most {} to write", readable(free), readable(self.disk_needed));
        }
        let count = |state: &str| self.shards.iter().filter(|shard| shard.state == state).count();
        let states = ["done", "running", "waiting", "failed", "stopped", "lost"].map(|state| (state, count(state)));
        let states: Vec<String> =
            states.iter().filter(|(_, count)| *count > 0).map(|(state, count)| format!("{count} {state}")).collect();
        let _ = write!(text, "\n{}: {}", counted(self.shards.len(), "shard"), states.join(", "));
        // Those that somebody should look at first.
        let rank = |shard: &ShardStatus| match shard.state {
            "failed" | "lost" => 0,
            "stopped" => 1,
            "running" => 2,
            "waiting" => 3,
            _ => 4,
        };
        let mut shown: Vec<&ShardStatus> = self.shards.iter().collect();
        shown.sort_by_key(|shard| rank(shard));
        let _ = write!(text, "\n\n{:>9} {:>9} {:>9} {:>8} {:>8}", "shard", "maps", "merged", "state", "s/view");
        for shard in shown.iter().take(SHOWN) {
            let seconds = shard.seconds_a_view.map_or_else(|| "-".into(), |seconds| format!("{seconds:.2}"));
            let host = shard.host.as_deref().filter(|_| shard.state != "done");
            let lost = shard.silent_for.filter(|_| shard.state == "lost");
            let told = told(host, shard.seconds_left, lost, shard.message.as_deref());
            let _ = write!(
                text,
                "\n{:>9} {:>9} {:>9} {:>8} {seconds:>8}  {told}",
                format!("{}/{}", shard.shard, self.shards.len()),
                format!("{}/{}", shard.mapped, shard.views),
                format!("{}/{}", shard.merged, shard.views),
                shard.state
            );
        }
        if shown.len() > SHOWN {
            let _ = write!(text, "\n{:>9} and {} more (--json has all)", "...", shown.len() - SHOWN);
        }
        [&self.tiles, &self.mesh].into_iter().flatten().for_each(|tiles| tiles.tell(&mut text));
        text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
    }
}

/// Tells how far the plan in a folder is; with `watch`, again and again until it is done.
///
/// # Errors
/// A folder without a plan; [`Error::Pending`] while something is left to do.
pub fn status(out: &Path, watch: bool, progress: &Progress) -> Result<()> {
    let mut last = None;
    loop {
        if last.is_some() {
            mirror::list_again(out)?;
        }
        let status = look(out)?;
        if last.as_ref() != Some(&status.text()) {
            progress.summary(&status.text(), json!(status));
        }
        last = Some(status.text());
        if status.done {
            return Ok(());
        }
        if !watch {
            let Status { views, mapped, merged, fused, tiles, mesh, .. } = status;
            return Err(Error::Pending(match (mapped < views, merged < views) {
                (false, _) if fused => mesh.map_or_else(String::new, |mesh| mesh.pending()),
                (true, _) => format!(
                    "{mapped} of {} have maps (engine infer --shard, as far as shards are left)",
                    counted(views, "view")
                ),
                (false, true) => format!("{merged} of {} are merged (engine merge OUT)", counted(views, "view")),
                (false, false) => match tiles {
                    None => "all views are merged, and there is no cloud (engine fuse OUT)".into(),
                    Some(tiles) => tiles.pending(),
                },
            }));
        }
        interrupt::check()?;
        std::thread::sleep(LOOK);
        interrupt::check()?;
    }
}
