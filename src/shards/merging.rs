//! A shard's second half: the levels of its views merged into the finished maps, in blocks that fit into memory.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::json;

use crate::error::{Error, Result, counted};
use crate::files::known_hashes::KnownHashes;
use crate::files::lock::{FolderLock, Mode};
use crate::host::progress::Progress;
use crate::host::trace::Clock;
use crate::manifest::made::Made;
use crate::net::backend::DepthNetwork;
use crate::run::depth;
use crate::run::merging::Merging;
use crate::run::options::InferOptions;
use crate::run::plan::Work;
use crate::run::products;
use crate::run::write::{Wanted, finish_views};
use crate::shards::mapping::{hashes_around, hashes_file, part, start};
use crate::shards::plan_file::PlanFile;
use crate::shards::planning::Outline;
use crate::shards::state::Stage;
use crate::shards::which::{Shard, ShardOption};

/// Merges the views of a shard, or of all of them where none is named, as far as that is not done.
///
/// # Errors
/// No plan, level maps that are not there yet; as [`crate::run::infer::infer`].
pub fn merge_shard<N: DepthNetwork>(
    scene: &Path,
    network: &N,
    options: &InferOptions,
    shard: Option<ShardOption>,
    progress: &Progress,
) -> Result<()> {
    let Some(out) = options.output.out.clone() else {
        return Err(Error::Bug { place: "merging a shard", problem: "no folder".into() });
    };
    let plan = PlanFile::expect(&out)?;
    let shards = match shard {
        Some(shard) => vec![shard.resolve(Some(plan.shards.len()), |name| std::env::var(name).ok())?],
        None => (1..=plan.shards.len()).map(|number| Shard { number, of: plan.shards.len() }).collect(),
    };
    let outline = Outline::new(scene, network, options, progress)?;
    outline.expect(&plan, &out)?;
    let lock = FolderLock::acquire(&out, Mode::Together, "output folder", "write into the output folder")?;
    lock.missing.iter().for_each(|note| progress.note(note));
    let order = outline.order_in(&plan, &out)?;
    for shard in shards {
        let places = &order[plan.range(shard)];
        start(progress, "merge", scene, &out, shard, places.len());
        let names: Vec<&str> = plan.names(shard).collect();
        let is_made = |name: &&&str| Made::read(&out, name).is_some_and(|made| made.is_whole());
        let done = || names.iter().filter(is_made).count();
        let holds = || plan.is_in(&out);
        let part = part((&out, &plan, &holds), (shard, Stage::Merge, places.len()));
        let of_shard = || merge(&outline, network, (&plan, &order, places), (&out, shard), progress);
        part.told(done, of_shard)?;
        let text = format!("shard {shard}: {} merged", counted(places.len(), "view"));
        progress.summary(&text, json!({ "shard": shard.number, "of": shard.of, "views": places.len() }));
    }
    Ok(())
}

/// Merges some views of the plan.
fn merge<N: DepthNetwork>(
    outline: &Outline,
    network: &N,
    (plan_file, order, places): (&PlanFile, &[usize], &[usize]),
    (out, shard): (&Path, Shard),
    progress: &Progress,
) -> Result<()> {
    if places.is_empty() {
        return Ok(());
    }
    let none = KnownHashes::of_folder(Path::new(""), false);
    let (scene, plan, options) = (&outline.scene, &outline.plan, &outline.options);
    let work = Work { scene, plan, options, out, hashes: &none, progress };
    let wanted = depth::LevelJobs::none(plan);
    let neighbourhood: BTreeSet<usize> =
        Merging::new(work, &wanted, network.confidence()).needed(places).into_iter().flatten().collect();
    let around = outline.shards_around(plan_file, order, &neighbourhood);
    let hashes = hashes_around((out, options.verify), plan_file, around);
    let work = Work { hashes: &hashes, ..work };
    let jobs = depth::find_finished_of(work, network, &neighbourhood)?;
    let merging = Merging::new(work, &jobs, network.confidence());
    if let Some((view, level)) = merging.lacking(places) {
        let name = work.name(view);
        let at = order.iter().position(|&place| plan.views[place].view == view.view).unwrap_or_default();
        let of = plan_file.shard_of(at);
        return Err(Error::input(
            format!("{}: view {name}", out.display()),
            format!("no map of level {level} yet, which views of shard {shard} are merged with"),
            format!("the maps of shard {of} first: engine infer SCENE -o OUT --shard {of}"),
        ));
    }
    let job = products::job_of(work, network);
    let mut clock = Clock::start();
    for block in merging.blocks(places)? {
        for note in finish_views(&merging, block, (&job, Wanted::Files), &mut clock)?.notes {
            progress.note(&note);
        }
    }
    hashes.write_to(&hashes_file(out, shard, Stage::Merge))
}
