//! The network on this processor, instruction set by instruction set: what `engine bench table3` measures, and beside
//! it GFLOP/s of every dense layer alone against a measured sgemm.
//!
//!     cargo bench --bench network -- [--width 800] [--height 600] [--planes 96] [--views 4] [--repetitions 5]
//!         [--threads N] [--portable | --avx2] [--layers] [--peer PYTHON]
//!
//! `--peer` names a python with torch, numpy and safetensors; it runs benches/peers/reference_torch.py with the same
//! number of threads, checks that depth agrees and prints the ratios. Times are medians; the last line is JSON.

use std::time::Instant;

use engine::bench::peers::{self, Kind, Setting};
use engine::bench::report::Report;
use engine::bench::work::{Inputs, Size};
use engine::bench::{Repetitions, host};
use engine::cpu::device::Cpu;
use engine::cpu::network::BsMvsNet;
use engine::cpu::simd::Level;
use engine::net::tensor::{Shape, Tensor};
use engine::net::weights::Checkpoint;

struct Options {
    width: usize,
    height: usize,
    planes: usize,
    views: usize,
    repetitions: usize,
    threads: usize,
    level: Level,
    layers: bool,
    peer: Option<String>,
}

impl Options {
    fn parse() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
        let (level, layers, peer) = (Level::best(), false, None);
        let mut o =
            Self { width: 800, height: 600, planes: 96, views: 4, repetitions: 5, threads, level, layers, peer };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().unwrap_or_else(|| panic!("{argument} needs a value"));
            match argument.as_str() {
                "--width" => o.width = value().parse().expect("pixels"),
                "--height" => o.height = value().parse().expect("pixels"),
                "--planes" => o.planes = value().parse().expect("a number"),
                "--views" => o.views = value().parse().expect("a number"),
                "--repetitions" => o.repetitions = value().parse().expect("a number"),
                "--threads" => o.threads = value().parse().expect("a number"),
                "--portable" => o.level = Level::Portable,
                "--avx2" => o.level = Level::Avx2,
                "--layers" => o.layers = true,
                "--peer" => o.peer = Some(value()),
                "--bench" => {}
                other => panic!("unknown option {other}; see the head of benches/network.rs"),
            }
        }
        o
    }
}

fn main() {
    let o = Options::parse();
    rayon::ThreadPoolBuilder::new().num_threads(o.threads).build_global().expect("first pool");
    let size = Size { width: o.width, height: o.height, planes: o.planes, views: o.views };
    let inputs = Inputs::generated(size.check().expect("a size that the network takes"));
    let net = BsMvsNet::built_in().expect("built-in weights").with_level(o.level);
    let repetitions = Repetitions { warm_up: 1, counted: o.repetitions };
    let measured = host::measure(&net, &inputs, repetitions).expect("a measurement");
    let mut beside = Vec::new();
    if let Some(python) = &o.peer {
        let folder = tempfile::tempdir().expect("a temporary folder");
        inputs.write(&folder.path().join(peers::INPUTS)).expect("the inputs");
        std::fs::write(folder.path().join(peers::WEIGHTS), Checkpoint::built_in_file()).expect("the weights");
        let setting = Setting {
            python,
            scripts: &std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers"),
            folder: folder.path(),
            threads: o.threads,
            repetitions: 3,
            gpu: None,
            interval: inputs.interval(),
        };
        beside.push(peers::run(Kind::Eager, &setting, &measured).expect("a peer"));
    }
    let gemm = measured.roofs.gemm_flops_per_s.expect("the processor has a product") / 1e9;
    let report = Report { size, repetitions, measurements: &[measured], peers: &beside };
    println!("{}", report.text());
    if o.layers {
        layers(&net, &o, gemm);
    }
    println!("{}", report.json());
    assert!(beside.iter().all(|peer| peer.failed.is_none()), "the peer did not run");
    peers::expect_agreement(&beside).expect("the peer's depth");
}

/// Each dense layer alone on inputs of its real size.
fn layers(net: &BsMvsNet, o: &Options, gemm: f64) {
    println!("  {:<24} {:>34} {:>9} {:>9} {:>9} {:>7}", "layer", "input", "GFLOP", "ms", "GFLOP/s", "sgemm");
    let cpu = Cpu::with_level(o.level);
    for (name, conv, shape) in net.layers(o.height, o.width, o.planes).expect("layers") {
        let flops = conv.flops(shape) as f64;
        if flops < 5e6 || shape.len() > 400 << 20 {
            continue;
        }
        let mut x = Tensor::zeros(Shape { ..shape });
        for (i, v) in x.data.iter_mut().enumerate() {
            *v = ((i * 2_654_435_761) >> 16 & 0xFFFF) as f32 / 65536.0 - 0.5;
        }
        let mut times = Vec::new();
        for _ in 0..=o.repetitions {
            let start = Instant::now();
            let y = conv.forward(&cpu, &x, None).expect("layer");
            times.push(start.elapsed().as_secs_f64());
            cpu.recycle(y);
        }
        let best = times[1..].iter().copied().fold(f64::INFINITY, f64::min);
        let rate = flops / best / 1e9;
        let percent = 100.0 * rate / gemm;
        println!(
            "  {name:<24} {:>34} {:>9.3} {:>9.2} {rate:>9.1} {percent:>6.0}%",
            shape.to_string(),
            flops / 1e9,
            best * 1e3
        );
        cpu.trim();
    }
}
