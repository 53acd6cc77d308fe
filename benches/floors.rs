//! The floor of every kernel at Table III's size on a given device, from the graph alone: no device is needed.
//!
//!     cargo bench --bench floors -- [--width 1600] [--height 1200] [--planes 192] [--views 4] [--precision f16]
//!         [--resolution quarter] [--bandwidth 3350] [--tensor 990] [--vector 67]
//!
//! Bytes: every tensor of a launch moved once between the device's memory and its multiprocessors, at `--bandwidth`
//! GB/s. FLOPs: those of the convolutions in f16 at `--tensor` TFLOP/s, all others at `--vector` (defaults: an H100
//! SXM). The larger of the two times is a launch's floor; what caches save between launches is not counted, nor what
//! latency and instruction issue cost.

use std::collections::{BTreeMap, BTreeSet};

use clap::Parser;

use engine::bench::counts::ViewGraph;
use engine::bench::work::Size;
use engine::cuda::folded::Slabs;
use engine::cuda::graph::{Arg, Value, Work};
use engine::cuda::placement::place;
use engine::cuda::storage::Element;
use engine::net::config::Resolution;
use engine::net::weights::Checkpoint;

#[derive(Parser)]
struct Options {
    #[arg(long, default_value_t = 1600)]
    width: usize,
    #[arg(long, default_value_t = 1200)]
    height: usize,
    #[arg(long, default_value_t = 192)]
    planes: usize,
    #[arg(long, default_value_t = 4)]
    views: usize,
    /// f16 or f32
    #[arg(long, default_value = "f16")]
    precision: String,
    /// Of the maps; finer ones than a quarter have narrow stages
    #[arg(long, default_value = "quarter")]
    resolution: Resolution,
    /// GB/s
    #[arg(long, default_value_t = 3350.0)]
    bandwidth: f64,
    /// TFLOP/s of f16 matrix products
    #[arg(long, default_value_t = 990.0)]
    tensor: f64,
    /// TFLOP/s of f32 multiply-adds
    #[arg(long, default_value_t = 67.0)]
    vector: f64,
    /// cargo's
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Default)]
struct Row {
    launches: usize,
    blocks: u64,
    bytes: u64,
    flops: u64,
    floor_ms: f64,
}

fn main() -> engine::Result<()> {
    let o = Options::parse();
    let element = if o.precision == "f32" { Element::F32 } else { Element::F16 };
    let size = Size { width: o.width, height: o.height, planes: o.planes, views: o.views };
    let parameters = Checkpoint::built_in()?.parameters;
    let slabs = Slabs::of_planes(32);
    let graph = ViewGraph::up_to(o.resolution, &parameters, size, element, slabs)?.graph;
    let mut rows: BTreeMap<&str, Row> = BTreeMap::new();
    // Slabs are parts of the volume: what a step writes of a value that many steps write counts in equal shares.
    let mut writers: BTreeMap<Value, u64> = BTreeMap::new();
    let writes = |args: &[Arg]| -> BTreeSet<Value> {
        args.iter().filter_map(|a| matches!(a, Arg::Write(..)).then(|| a.value()).flatten()).collect()
    };
    for step in graph.steps() {
        writes(&step.args).into_iter().for_each(|v| *writers.entry(v).or_default() += 1);
    }
    for step in graph.steps() {
        let Work::Kernel { kernel, grid, .. } = &step.work else { continue };
        let written = writes(&step.args);
        let read: BTreeSet<Value> =
            step.args.iter().filter(|a| !matches!(a, Arg::Write(..))).filter_map(Arg::value).collect();
        let bytes = read.iter().map(|v| graph.info(*v).bytes()).sum::<u64>()
            + written.iter().map(|v| graph.info(*v).bytes() / writers[v]).sum::<u64>();
        let tensor_cores = kernel.starts_with("conv_forward") && kernel.ends_with("_f16");
        let peak = 1e12 * if tensor_cores { o.tensor } else { o.vector };
        let ms = 1e3 * (bytes as f64 / (1e9 * o.bandwidth)).max(step.flops as f64 / peak);
        let row = rows.entry(kernel).or_default();
        row.launches += 1;
        row.blocks += grid.iter().map(|&g| u64::from(g)).product::<u64>();
        row.bytes += bytes;
        row.flops += step.flops;
        row.floor_ms += ms;
    }
    let mut rows: Vec<(&str, Row)> = rows.into_iter().collect();
    rows.sort_by(|a, b| b.1.floor_ms.total_cmp(&a.1.floor_ms));
    println!("| kernel | launches | blocks | MB | GFLOP | floor ms |\n| --- | --- | --- | --- | --- | --- |");
    for (kernel, row) in &rows {
        println!(
            "| `{kernel}` | {} | {} | {:.1} | {:.2} | {:.4} |",
            row.launches,
            row.blocks,
            row.bytes as f64 / 1e6,
            row.flops as f64 / 1e9,
            row.floor_ms
        );
    }
    let sum = |f: fn(&Row) -> f64| rows.iter().map(|(_, r)| f(r)).sum::<f64>();
    println!(
        "| all | {} | | {:.1} | {:.1} | {:.3} |",
        rows.iter().map(|(_, r)| r.launches).sum::<usize>(),
        sum(|r| r.bytes as f64 / 1e6),
        sum(|r| r.flops as f64 / 1e9),
        sum(|r| r.floor_ms)
    );
    let placement = place(&graph)?;
    println!(
        "\nMemory: arena {:.0} MB (least possible {:.0}), weights and inputs {:.0} MB.",
        placement.arena as f64 / 1e6,
        placement.least as f64 / 1e6,
        placement.lasting as f64 / 1e6
    );
    Ok(())
}
