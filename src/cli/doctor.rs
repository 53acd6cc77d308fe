//! `engine doctor`: what is wrong with a scene, or with the results of a run.

use std::path::PathBuf;

use clap::Args;
use engine::cpu::network::BsMvsNet;
use engine::doctor::finding::Grade;
use engine::doctor::{DoctorOptions, examine};
use engine::error::counted;
use engine::files::names::in_json;
use engine::host::interrupt;
use engine::host::progress::Progress;
use engine::run::options::InferOptions;
use engine::scene::camera::DepthRange;
use engine::{Error, Result};
use serde_json::{json, to_value};

use super::options::{self, LimitArgs, ReportArgs, SceneArgs};

/// Find out what is wrong with a scene, before or after a run.
///
/// Checks layout, photo sizes and K, poses, sparse points and photo matches against the cameras, source views, depth
/// range, planes and memory. After a run it also follows where the pixels went. Each finding is one line: ok, note,
/// warning or problem; what was found, what was expected, what to do. Wrong scales of K, inverted poses, other axes
/// and swapped ids are recognised by undoing them. The exit code is 3 if there is a problem.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  engine doctor scenes/bust
  engine doctor scenes/bust --run out --json")]
pub struct DoctorArgs {
    /// The scene's folder
    scene: PathBuf,
    /// Folder with the results of a run [default: SCENE_engine beside the scene, if it exists]
    #[arg(long, value_name = "OUT")]
    run: Option<PathBuf>,
    /// Skip decoding and matching the photos
    #[arg(long)]
    no_photos: bool,
    #[command(flatten)]
    scene_args: SceneArgs,
    /// Views that a run would compare for one depth map
    #[arg(long, value_name = "N", default_value = "5", value_parser = options::two_or_more, help_heading = "Depth")]
    views: usize,
    /// Number of depths that a run would try at every pixel [default: what the scene's files say, else 96]
    #[arg(long, value_name = "D", value_parser = options::planes, help_heading = "Depth")]
    planes: Option<usize>,
    /// Nearest and farthest depth [default: those that `engine infer` would take]
    #[arg(long, value_name = "NEAR,FAR", value_parser = options::range, help_heading = "Depth")]
    range: Option<DepthRange>,
    /// Levels of the image pyramid (1 to 8)
    #[arg(long, value_name = "K", default_value = "3", value_parser = options::levels, help_heading = "Depth")]
    levels: usize,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    pub report: ReportArgs,
}

/// Examines, and says it.
pub fn run(args: DoctorArgs, progress: &Progress) -> Result<()> {
    interrupt::install()?;
    args.limits.apply()?;
    let network = BsMvsNet::built_in()?;
    let options = DoctorOptions {
        infer: InferOptions {
            open: args.scene_args.open_options(args.range.is_some()),
            max_side: args.scene_args.max_side,
            only: args.scene_args.only,
            views: args.views,
            planes: args.planes,
            range: args.range,
            levels: args.levels,
            memory: args.limits.memory,
            resolution: network.config().resolution,
            ..InferOptions::default()
        },
        run: args.run,
        match_photos: !args.no_photos,
    };
    let report = examine(&args.scene, &network, &options)?;
    let [problems, warnings, notes] = [Grade::Problem, Grade::Warning, Grade::Note].map(|grade| report.count(grade));
    let mut lines: Vec<String> = report.findings.iter().map(|finding| finding.line()).collect();
    for finding in &report.findings {
        progress.event("finding", to_value(finding).unwrap_or_default());
    }
    let counts = [(problems, "problem"), (warnings, "warning"), (notes, "note")];
    lines.push(counts.map(|(count, what)| counted(count, what)).join(", "));
    let fields = json!({ "scene": in_json(&args.scene), "problems": problems, "warnings": warnings, "notes": notes });
    progress.summary(&lines.join("\n"), fields);
    if problems > 0 {
        return Err(Error::input(
            args.scene.display().to_string(),
            counted(problems, "problem"),
            "a scene without any; each is told above with what to do",
        ));
    }
    Ok(())
}
