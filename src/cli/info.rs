//! `engine info`: the program, the machine, the weights, and the memory that a run of a given size will need.

use std::path::PathBuf;

use clap::Args;
use engine::cpu::network::BsMvsNet;
use engine::files::photo_format;
use engine::host::memory;
use engine::host::progress::{print_json, print_line};
use engine::manifest::RangeFrom;
use engine::run::memory::RunSize;
use engine::run::plan::{Frame, ViewPlan};
use engine::scene::View;
use engine::scene::camera::{Camera, DepthRange, Sampling};
use engine::scene::look::Look;
use engine::{Result, cuda};
use glam::{DMat3, DVec3};
use serde_json::json;

use super::options::{self, LimitArgs};

/// Show version, device, threads, instruction set, weights, and the memory that a run needs.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  engine info --width 1600 --height 1200 --planes 192 --views 4 --levels 1")]
pub struct InfoArgs {
    /// Width of the photos, in pixels
    #[arg(long, value_name = "PX", default_value = "1600", value_parser = options::side, help_heading = "Memory")]
    width: usize,
    /// Height of the photos, in pixels
    #[arg(long, value_name = "PX", default_value = "1200", value_parser = options::side, help_heading = "Memory")]
    height: usize,
    /// Number of depths to try at every pixel
    #[arg(long, value_name = "D", default_value = "192", value_parser = options::planes, help_heading = "Memory")]
    planes: usize,
    /// Views that the network compares for one depth map, including the reference
    #[arg(long, value_name = "N", default_value = "5", value_parser = options::two_or_more, help_heading = "Memory")]
    views: usize,
    /// Levels of the image pyramid (1 to 8)
    #[arg(long, value_name = "K", default_value = "3", value_parser = options::levels, help_heading = "Memory")]
    levels: usize,
    /// Network weights, a safetensors file [default: the built-in ones]
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    #[command(flatten)]
    limits: LimitArgs,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

/// Prints it all.
pub fn run(args: &InfoArgs) -> Result<()> {
    args.limits.apply()?;
    let network = args.weights.as_deref().map_or_else(BsMvsNet::built_in, BsMvsNet::from_file)?;
    let need = memory_need(args, &network);
    let room = args.limits.room();
    let available = room.bytes;
    let threads = rayon::current_num_threads();
    let simd = engine::cpu::network::simd_level();
    let version = env!("CARGO_PKG_VERSION");
    if args.json {
        let info = json!({
            "event": "info", "version": version, "device": "cpu", "gpu": gpu(), "threads": threads, "simd": simd,
            "photos": photo_format::described(), "weights": network.weights_name(),
            "weights_sha256": network.weights_hash(),
            "config": network.config().to_string(), "memory_available": available,
            "memory_needed": need.peak(), "memory_stages": need.stages,
        });
        print_json(&info);
        return Ok(());
    }
    print_line(&format!("engine {version}"));
    print_line(&format!("device:  cpu, {threads} threads, {simd}"));
    print_line(&format!("gpu:     {}", gpu()));
    print_line(&format!(
        "weights: {} ({}), sha256 {}",
        network.weights_name(),
        network.config(),
        network.weights_hash()
    ));
    print_line(&format!("photos:  {}", photo_format::described()));
    print_line(&format!("memory:  {} available{}", memory::readable(available), room.limit));
    let InfoArgs { width, height, planes, views, levels, .. } = args;
    print_line(&format!(
        "\n{width} x {height}, {planes} planes, {views} views, {levels} levels, one depth map: {} at most",
        memory::readable(need.peak())
    ));
    print_line(&need.to_string());
    Ok(())
}

/// The need of one depth map with its sources, all photos alike.
fn memory_need(args: &InfoArgs, network: &BsMvsNet) -> memory::MemoryNeed {
    let camera = Camera { k: DMat3::IDENTITY, r: DMat3::IDENTITY, t: DVec3::ZERO };
    let view = View {
        id: 0,
        name: String::new(),
        image: PathBuf::new(),
        size: (args.width, args.height),
        camera,
        lens: None,
        mask: None,
        in_memory: None,
        known: None,
        range: None,
        sweep: None,
        planes: None,
        sources: Vec::new(),
    };
    let finest = network.config().resolution;
    let frame = Frame::new(&view, None, finest);
    let plan = ViewPlan {
        view: 0,
        sources: vec![0; args.views - 1],
        looks: vec![Look::AS_IT_IS; args.views - 1],
        check: Vec::new(),
        range: DepthRange { near: 1.0, far: 2.0 },
        range_from: RangeFrom::Option,
        planes: args.planes,
        sampling: Sampling::Linear,
    };
    let host = |width, height, planes| {
        network.memory_plan((width, height), planes, rayon::current_num_threads(), finest).peak(0)
    };
    let run = RunSize {
        stored: &[view],
        frames: &[frame],
        views: &[plan],
        network: &host,
        planes: None,
        levels: args.levels,
        depth_left: true,
        finishes: true,
        fused: true,
        stream: None,
        room: u64::MAX,
        cache: 0,
        decoders: 1,
        kept: 0,
    };
    run.with_least_cache().need()
}

/// The first GPU with its memory, or why there is none to use.
fn gpu() -> String {
    if !cuda::BUILT_IN {
        return "none: this build has no CUDA (`cargo build --release --features cuda` builds it in)".into();
    }
    let described = cuda::open(0).and_then(|driver| {
        let (free, total) = driver.memory()?;
        Ok(format!("{}, {} of {} free", driver.name(), memory::readable(free), memory::readable(total)))
    });
    described.unwrap_or_else(|error| format!("none: {error}"))
}
