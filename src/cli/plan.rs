//! `engine plan`: divides a scene's views among machines.

use std::path::PathBuf;

use clap::Args;
use engine::Result;
use engine::host::interrupt;
use engine::host::progress::Progress;
use engine::shards::planning::{Division, PlanOptions};
use engine::shards::which::{Shard, ShardOption};

use super::given::Given;
use super::infer::{InferWork, Task};
use super::options::{self, OutputArgs, ReportArgs};
use super::places::{CacheArgs, Places};

/// Divide a scene's views into shards for many machines, and tell what each will read, take and write.
///
/// Writes OUT/plan.json, by default in the folder SCENE_engine beside the scene. Then, wherever OUT can be reached:
/// `engine infer SCENE -o OUT --shard I/N` for every I from 1 to N, `engine merge OUT`, `engine fuse OUT`. The options
/// of `engine infer` that are given here hold for all of these. docs/CLUSTER.md has it for Slurm and Kubernetes.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  engine plan scenes/town -o out --shards 40 --max-side 1600
  engine plan scenes/town -o out --within 2h
  engine plan scenes/town -o out --files 7/40 | rsync -a --files-from=- scenes/town/ node7:town/")]
pub struct PlanArgs {
    /// The scene's folder, or its file of cameras
    scene: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
    /// Number of shards
    #[arg(long, value_name = "N", default_value = "1", value_parser = options::positive_integer)]
    #[arg(help_heading = "Plan")]
    shards: usize,
    /// As many shards as needed for each to take no longer than this on machines like this one: 90s, 30m, 2h, 1.5d
    #[arg(long, value_name = "TIME", value_parser = options::time, conflicts_with = "shards", help_heading = "Plan")]
    within: Option<f64>,
    /// Print the files that a shard of the plan in OUT reads, one a line, relative to the scene, and change nothing
    #[arg(long, value_name = "I/N", value_parser = shard, conflicts_with_all = ["shards", "within"])]
    #[arg(help_heading = "Plan")]
    files: Option<Shard>,
    #[command(flatten)]
    work: InferWork,
    #[command(flatten)]
    cache: CacheArgs,
    #[command(flatten)]
    pub report: ReportArgs,
}

/// A shard by its number.
fn shard(text: &str) -> std::result::Result<Shard, String> {
    match text.parse()? {
        ShardOption::Given(shard) => Ok(shard),
        ShardOption::Auto => Err("expected I/N with I from 1 to N (3/8)".into()),
    }
}

impl PlanArgs {
    /// What may be addresses.
    pub fn places(&mut self) -> Places<'_> {
        let folders = std::iter::once(&mut self.scene).chain(&mut self.output.out).collect();
        Places { folders, cache: self.cache.cache.as_deref(), ..Places::default() }
    }
}

/// Does it. `given` are the job's options.
pub fn run(args: PlanArgs, given: Vec<Given>, progress: &Progress) -> Result<()> {
    interrupt::install()?;
    let division = args.within.map_or(Division::Shards(args.shards), Division::Within);
    let told = PlanOptions { division, given, files_of: args.files };
    args.work.run(Task::Plan(&args.scene, told), args.output.options(), progress)
}
