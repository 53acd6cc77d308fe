//! `engine merge`: the levels of a planned job's views into finished maps.

use std::path::PathBuf;

use clap::Args;
use engine::Result;
use engine::host::interrupt;
use engine::host::progress::Progress;
use engine::shards::plan_file::PlanFile;
use engine::shards::which::ShardOption;

use super::infer::Task;
use super::machine::MachineArgs;
use super::options::ReportArgs;
use super::places::{CacheArgs, Places};
use super::planned;

/// Merge the levels of a planned job's views into the finished maps, on one machine or on many.
///
/// OUT is the folder of `engine plan`, after `engine infer --shard` has made the maps of all shards, or of this one and
/// those beside it. `engine fuse OUT` comes after. docs/CLUSTER.md has the whole way.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  engine merge out
  engine merge out --shard 3/40
  engine merge out --shard auto --scene /scratch/town")]
pub struct MergeArgs {
    /// The folder with the plan and the maps
    #[arg(value_name = "OUT")]
    results: PathBuf,
    /// Merge only this part of the views: I/N, or auto, which takes the number from the task of a scheduler's array
    #[arg(long, value_name = "I/N|auto", help_heading = "Plan")]
    shard: Option<ShardOption>,
    /// The scene's folder or file, if it is not where the plan was made
    #[arg(long, value_name = "SCENE", help_heading = "Plan")]
    scene: Option<PathBuf>,
    #[command(flatten)]
    machine: MachineArgs,
    #[command(flatten)]
    cache: CacheArgs,
    #[command(flatten)]
    pub report: ReportArgs,
}

impl MergeArgs {
    /// What may be addresses.
    pub fn places(&mut self) -> Places<'_> {
        let results = self.scene.is_none().then(|| self.results.clone());
        let folders = std::iter::once(&mut self.results).chain(&mut self.scene).collect();
        Places { folders, results, cache: self.cache.cache.as_deref(), ..Places::default() }
    }
}

/// Does it.
pub fn run(args: MergeArgs, progress: &Progress) -> Result<()> {
    interrupt::install()?;
    let plan = PlanFile::expect(&args.results)?;
    let scene = args.scene.as_ref().unwrap_or(&plan.scene);
    let work = planned::work_of(&plan)?.on_machine(args.machine);
    work.run(Task::Merge(scene, args.shard), planned::output_in(&args.results), progress)
}
