//! Merge of pyramid levels and fusion on this processor: seconds, nanoseconds a pixel and source view, peak memory.
//!
//!     cargo bench --bench fusion -- [--views 49] [--width 400] [--height 300] [--sources 10] [--repetitions 3]
//!         [--threads N]
//!
//! The maps are those of a ball before a plane, seen from an arc, with 0.3 % of noise. Times are medians; the last
//! line is JSON.

#[allow(dead_code)]
#[path = "../tests/support/synthetic.rs"]
mod synthetic;

use std::time::Instant;

use engine::files::map::Map;
use engine::files::ply;
use engine::files::ply_storage::Storage;
use engine::fusion::funnel::Funnel;
use engine::fusion::fuse::fuse;
use engine::fusion::settings::{Disparity, Dynamic, FusionOptions, Graph, Guard, Method, Reprojection};
use engine::fusion::spilled::{Budget, Spilling};
use engine::fusion::view::FusionView;
use engine::maps::merge::{LevelMaps, MergeOptions, merge_level};
use engine::scene::camera::DepthRange;
use rayon::prelude::*;

struct Options {
    views: usize,
    width: usize,
    height: usize,
    sources: usize,
    repetitions: usize,
    threads: usize,
}

impl Options {
    fn parse() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
        let mut o = Self { views: 49, width: 400, height: 300, sources: 10, repetitions: 3, threads };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let number = match argument.as_str() {
                "--views" => &mut o.views,
                "--width" => &mut o.width,
                "--height" => &mut o.height,
                "--sources" => &mut o.sources,
                "--repetitions" => &mut o.repetitions,
                "--threads" => &mut o.threads,
                // What cargo itself passes.
                "--bench" => continue,
                other => panic!("{other}: no such option; see the head of benches/fusion.rs"),
            };
            let value = arguments.next().and_then(|v| v.parse().ok()).filter(|n| *n > 0);
            *number = value.unwrap_or_else(|| panic!("{argument} needs a number above 0"));
        }
        o
    }
}

fn main() {
    let o = Options::parse();
    rayon::ThreadPoolBuilder::new().num_threads(o.threads).build_global().expect("threads");
    let sources = synthetic::neighbours(o.views, o.sources);
    let (coarse, coarse_colour) = level(&o, 2);
    let (fine, colour) = level(&o, 1);
    drop(coarse_colour);

    let mut merged = fine.clone();
    let mut replaced = Vec::new();
    let merge_s = median(o.repetitions, || {
        merged.clone_from(&fine);
        let start = Instant::now();
        replaced = merge_level(&coarse, &mut merged, &sources, &MergeOptions::default()).expect("maps that fit");
        start.elapsed().as_secs_f64()
    });
    drop((fine, coarse));

    let range = DepthRange { near: 300.0, far: 1500.0 };
    let parts = merged.into_iter().zip(colour).zip(&sources).enumerate();
    let views: Vec<FusionView> = parts
        .map(|(i, ((maps, colour), sources))| FusionView {
            name: i.to_string(),
            camera: maps.camera,
            depth: maps.depth,
            confidence: maps.confidence,
            colour,
            range,
            sources: sources.clone(),
            levels: Vec::new(),
        })
        .collect();
    let before = resident("VmRSS");
    let mut fused = None;
    let fuse_s = median(o.repetitions, || {
        fused = None;
        let start = Instant::now();
        fused = Some(fuse(&views, &FusionOptions::default()).expect("maps that fit"));
        start.elapsed().as_secs_f64()
    });
    let peak = resident("VmHWM");
    let fused = fused.expect("at least one repetition");
    let folder = tempfile::tempdir().expect("a temporary folder");
    // As little as there must be of depths, and next to nothing of the rest.
    let depths = ((o.sources + 1) * o.width * o.height * size_of::<f32>()) as u64;
    let budget = Budget { depths, windows: 1 << 20, pixels: 1 << 16 };
    let streamed_s = median(o.repetitions, || {
        let start = Instant::now();
        let mut spilling = Spilling::new(folder.path(), &FusionOptions::default()).expect("a scratch file");
        for some in views.chunks(o.threads) {
            spilling.add(some.to_vec()).expect("room on disk");
        }
        let mut points = 0;
        let mut count = |some: Vec<_>| {
            points += some.len();
            Ok(())
        };
        spilling.finish(budget).and_then(|views| views.fuse(&mut count)).expect("maps that fit");
        assert_eq!(points, fused.points.len());
        start.elapsed().as_secs_f64()
    });
    let plain = Reprojection { guard: Guard::OFF, ..Reprojection::default() };
    let plain_s = median(o.repetitions, || {
        let start = Instant::now();
        fuse(&views, &FusionOptions::reprojection(0.8, plain)).expect("maps that fit");
        start.elapsed().as_secs_f64()
    });
    let duplicates = Reprojection { keep_duplicates: true, ..plain };
    let duplicates = FusionOptions::reprojection(0.8, duplicates);
    let keep_s = median(o.repetitions, || {
        let start = Instant::now();
        let all = fuse(&views, &duplicates).expect("maps that fit");
        let seconds = start.elapsed().as_secs_f64();
        assert!(all.points.len() > fused.points.len(), "duplicates must add points");
        seconds
    });
    let of_method = |method: Method| {
        let options = FusionOptions { method, ..FusionOptions::default() };
        let mut points = 0;
        let seconds = median(o.repetitions, || {
            let start = Instant::now();
            points = fuse(&views, &options).expect("maps that fit").points.len();
            start.elapsed().as_secs_f64()
        });
        (method.name(), seconds, points)
    };
    let others =
        [Method::Dynamic(Dynamic::default()), Method::Disparity(Disparity::default()), Method::Graph(Graph::default())]
            .map(of_method);
    let write_s = median(o.repetitions, || {
        let start = Instant::now();
        ply::write(&folder.path().join("cloud.ply"), &fused.points, Storage::default(), &[])
            .expect("room for the cloud");
        start.elapsed().as_secs_f64()
    });

    let funnel = Funnel::sum(&fused.funnels);
    let pixels = o.views * o.width * o.height;
    let pairs = (pixels * o.sources.min(o.views - 1)) as f64;
    println!("{} views of {} x {}, {} sources each, {} threads", o.views, o.width, o.height, o.sources, o.threads);
    println!("{:<34}{:>10}{:>16}", "", "seconds", "ns/pixel/source");
    let line = |what: &str, s: f64, pairs: f64| println!("{what:<34}{s:>10.3}{:>16.2}", 1e9 * s / pairs);
    line("merge (from half the size)", merge_s, pairs / 4.0);
    line("fusion", fuse_s, pairs);
    line("fusion view by view, from disk", streamed_s, pairs);
    line("fusion without its guard", plain_s, pairs);
    line("... and duplicates kept", keep_s, pairs);
    for (name, seconds, points) in others {
        line(&format!("{name}, {points} points"), seconds, pairs);
    }
    println!("{:<34}{write_s:>10.3}", "write the cloud");
    println!(
        "{} of {pixels} pixels replaced; {} kept, {} duplicates, {} points",
        replaced.iter().sum::<usize>(),
        funnel.kept,
        funnel.duplicates,
        fused.points.len()
    );
    let mib = |kib: Option<u64>| kib.map_or("unknown".into(), |k| format!("{:.0} MiB", k as f64 / 1024.0));
    println!("peak memory {}, of which the maps and this program before {}", mib(peak), mib(before));
    println!(
        "{}",
        serde_json::json!({
            "bench": "fusion", "views": o.views, "width": o.width, "height": o.height, "sources": o.sources,
            "threads": o.threads, "merge_s": merge_s, "fusion_s": fuse_s, "fusion_ns_per_pair": 1e9 * fuse_s / pairs,
            "fusion_view_by_view_s": streamed_s, "fusion_without_guard_s": plain_s, "fusion_with_duplicates_s": keep_s,
            "other_methods_s": others.map(|(name, seconds, _)| (name, seconds)),
            "write_s": write_s, "points": fused.points.len(), "peak_kib": peak, "before_kib": before,
        })
    );
}

/// Maps and colours of all views at 1 / scale of the size, rounded up. On the finest level a third of the pixels are
/// wrong and unsure, in stripes.
fn level(o: &Options, scale: usize) -> (Vec<LevelMaps>, Vec<Vec<[u8; 3]>>) {
    let (width, height) = (o.width.div_ceil(scale), o.height.div_ceil(scale));
    let cameras = synthetic::arc(o.views, 90.0, 600.0, o.width, o.height);
    let view = |(i, camera): (usize, engine::scene::camera::Camera)| {
        let camera = camera.decimated(1.0 / scale as f64);
        let view = synthetic::render(&synthetic::ball_before_plane(), camera, width, height);
        let mut maps = LevelMaps { camera, depth: view.depth, confidence: Map::filled(width, height, 0.95) };
        let mut state = (i * 2 + scale) as u32;
        for (at, (depth, confidence)) in maps.depth.data.iter_mut().zip(&mut maps.confidence.data).enumerate() {
            // A linear congruential generator is random enough for noise.
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *depth *= 1.0 + 0.006 * ((state >> 8) as f32 / (1 << 24) as f32 - 0.5);
            if scale == 1 && (at / width) % 30 < 10 {
                (*depth, *confidence) = (*depth * 1.1, 0.3);
            }
        }
        (maps, view.colour)
    };
    let views: Vec<_> = cameras.into_iter().enumerate().collect::<Vec<_>>().into_par_iter().map(view).collect();
    views.into_iter().unzip()
}

fn median(repetitions: usize, mut run: impl FnMut() -> f64) -> f64 {
    let mut times: Vec<f64> = (0..repetitions).map(|_| run()).collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// KiB from /proc/self/status: VmRSS now, VmHWM the greatest so far.
fn resident(field: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find(|line| line.starts_with(field))?.split_whitespace().nth(1)?.parse().ok()
}
