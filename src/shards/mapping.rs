//! A shard's first half: the level maps of its views.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::error::{Result, counted};
use crate::files::folder::{Claim, Found, RESULTS, default_folder};
use crate::files::known_hashes::KnownHashes;
use crate::files::lock::FolderLock;
use crate::files::names::in_json;
use crate::files::together;
use crate::host::progress::Progress;
use crate::manifest::MANIFEST;
use crate::net::backend::DepthNetwork;
use crate::run::depth;
use crate::run::memory::{Extent, fit_run};
use crate::run::options::InferOptions;
use crate::run::plan::Work;
use crate::run::products::{self, HASHES_OF_SHARDS, SHARDS};
use crate::run::resume::LevelFiles;
use crate::run::tile_files::TILES;
use crate::shards::plan_file::{PLAN, PlanFile};
use crate::shards::planning::{Division, Outline};
use crate::shards::state::{Part, Stage};
use crate::shards::which::{Shard, ShardOption};

/// Makes the maps of a shard, as far as they are not there. Without a plan in the folder, it makes the plan first.
///
/// # Errors
/// Another plan than the one that these options come to; as [`crate::run::infer::infer`].
pub fn map_shard<N: DepthNetwork>(
    scene: &Path,
    network: &N,
    options: &InferOptions,
    (shard, given): (ShardOption, &[(String, String)]),
    progress: &Progress,
) -> Result<()> {
    let out = options.output.out.clone().map_or_else(|| default_folder(scene), Ok)?;
    let planned = PlanFile::read(&out)?;
    let shard = shard.resolve(planned.as_ref().map(|plan| plan.shards.len()), |name| std::env::var(name).ok())?;
    let outline = Outline::new(scene, network, options, progress)?;
    if let Some(plan) = &planned {
        outline.expect(plan, &out)?;
    }
    let lock = join(&out, &outline.scene.root, options.output.force)?;
    lock.missing.iter().for_each(|note| progress.note(note));
    let plan = match planned {
        Some(plan) => plan,
        None => {
            let plan = outline.divide(network, (Division::Shards(shard.of), None), given).write_first(&out)?;
            outline.expect(&plan, &out)?;
            ShardOption::Given(shard).resolve(Some(plan.shards.len()), |_| None)?;
            plan
        }
    };
    let order = outline.order_in(&plan, &out)?;
    let places = order[plan.range(shard)].to_vec();
    start(progress, "infer", scene, &out, shard, places.len());
    outline.scene.notes.iter().for_each(|note| progress.note(note));
    let levels = outline.options.levels;
    let spread = outline.options.subfolders.of(outline.scene.views.len());
    let names: Vec<&str> = plan.names(shard).collect();
    let is_made = |name: &&&str| (0..levels).all(|level| LevelFiles::new(&out, level, (name, spread)).is_recorded());
    let holds = || plan.is_in(&out);
    let part = part((&out, &plan, &holds), (shard, Stage::Maps, places.len()));
    let done = || names.iter().filter(is_made).count();
    part.told(done, || {
        let own = outline.only(&places);
        let around = outline.shards_around(&plan, &order, &places.iter().copied().collect());
        let hashes = hashes_around((&out, options.verify), &plan, around);
        let (scene, options) = (&outline.scene, &outline.options);
        let work = Work { scene, plan: &own, options, out: &out, hashes: &hashes, progress };
        let mut jobs = depth::find_finished(work, network)?;
        if !own.views.is_empty() && !jobs.all_finished() {
            let cache = fit_run(work, network, &jobs, Extent::Maps)?.cache;
            // Maps change: what was made of earlier ones no longer holds.
            if out.join(MANIFEST).exists() {
                products::withdraw(&out)?;
            }
            for note in depth::run(work, network, cache, &mut jobs)?.notes {
                progress.note(&note);
            }
        }
        hashes.write_to(&hashes_file(&out, shard, Stage::Maps))
    })?;
    let text = format!("shard {shard}: the maps of {} are there", counted(places.len(), "view"));
    progress.summary(&text, json!({ "shard": shard.number, "of": shard.of, "views": places.len() }));
    Ok(())
}

/// Says what begins.
pub fn start(progress: &Progress, command: &str, scene: &Path, out: &Path, shard: Shard, views: usize) {
    progress.event(
        "start",
        json!({ "command": command, "version": env!("CARGO_PKG_VERSION"), "scene": in_json(scene),
                "out": in_json(out), "shard": shard.number, "of": shard.of, "views": views }),
    );
}

/// So many views of a plan as work that is told of; `holds` tells whether the plan is still in its folder.
pub fn part<'a>(
    (out, plan, holds): (&Path, &'a PlanFile, &'a (dyn Fn() -> bool + Sync)),
    (shard, stage, count): (Shard, Stage, usize),
) -> Part<'a> {
    Part { folder: out.join(SHARDS), plan_file: out.join(PLAN), plan: &plan.id, holds, shard, stage, count }
}

/// Where a shard keeps the hashes of the files that it has read and written, for those that come after it.
pub fn hashes_file(out: &Path, shard: Shard, stage: Stage) -> PathBuf {
    let stage = if stage == Stage::Maps { "maps" } else { "merge" };
    out.join(SHARDS).join(format!("{}-of-{}.{stage}.{HASHES_OF_SHARDS}", shard.number, shard.of))
}

/// The hashes that these shards have learned. Those of others are of no use, and of very many shards they are long.
pub fn hashes_around((out, verify): (&Path, bool), plan: &PlanFile, shards: BTreeSet<usize>) -> KnownHashes {
    let of = plan.shards.len();
    let files = |number: usize| [Stage::Maps, Stage::Merge].map(|stage| hashes_file(out, Shard { number, of }, stage));
    KnownHashes::of_folder(out, verify).and_of(shards.into_iter().flat_map(files))
}

/// Takes part in the work on a scene in a folder, together with other shards. Another path to the scene is none of
/// their business: what they make is compared by the plan.
///
/// # Errors
/// A folder of somebody else, unless forced; one that a run holds alone.
pub fn join(out: &Path, scene: &Path, force: bool) -> Result<FolderLock> {
    let scene = dunce::canonicalize(scene).unwrap_or_else(|_| scene.to_owned());
    let mark = json!({ "program": "engine", "version": env!("CARGO_PKG_VERSION"), "scene": in_json(&scene) });
    let is_theirs = |name: &str| [PLAN, SHARDS, TILES].contains(&name);
    together::join(Claim { path: out, force, kind: &RESULTS }, &mark, |_| Ok(Found::Same), is_theirs)
}
