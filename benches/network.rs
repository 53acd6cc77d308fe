//! The network on this processor: time of a view by stage, GFLOP/s of every dense layer against a measured sgemm, peak
//! memory, and the PyTorch reference on the same inputs in the same run.
//!
//!     cargo bench --bench network -- [--width 800] [--height 600] [--planes 96] [--views 4] [--repetitions 5]
//!         [--threads N] [--portable | --avx2] [--layers] [--peer PYTHON]
//!
//! `--peer` names a python with torch, numpy and safetensors; it runs benches/peers/reference_torch.py with the same
//! number of threads, checks that depth agrees and prints the ratios. Times are medians; the last line is JSON.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use engine::camera::{Camera, DepthRange, Hypotheses, PlaneSweep, Sampling};
use engine::net::BsMvsNet;
use engine::photo::Photo;
use engine::simd::Level;
use engine::tensor::{Cpu, Shape, Tensor};
use glam::{DMat3, DVec3};
use safetensors::SafeTensors;

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
        let mut o = Self {
            width: 800,
            height: 600,
            planes: 96,
            views: 4,
            repetitions: 5,
            threads,
            level,
            layers,
            peer,
        };
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

struct Inputs {
    photos: Vec<Photo>,
    cameras: Vec<Camera>,
    hypotheses: Hypotheses,
}

/// A textured fronto-parallel plane is not needed for timing: any photo will do, but depth must not degenerate.
fn generated(o: &Options) -> Inputs {
    let (w, h) = (o.width as f64, o.height as f64);
    let f = 1.2 * w;
    let k = DMat3::from_cols(DVec3::X * f, DVec3::Y * f, DVec3::new((w - 1.0) / 2.0, (h - 1.0) / 2.0, 1.0));
    let photo = |view: usize| {
        let pixel = |i: usize| {
            let (x, y) = ((i % o.width) as f64 + 13.0 * view as f64, (i / o.width) as f64);
            [0.11, 0.17, 0.23].map(|s| (0.5 + 0.25 * (x * s).sin() + 0.25 * (y * s * 1.3).cos()) as f32)
        };
        Photo { width: o.width, height: o.height, rgb: (0..o.width * o.height).flat_map(pixel).collect() }
    };
    let camera = |view: usize| Camera { k, r: DMat3::IDENTITY, t: DVec3::new(-40.0 * view as f64, 0.0, 0.0) };
    let range = DepthRange { near: 450.0, far: 950.0 };
    Inputs {
        photos: (0..o.views).map(photo).collect(),
        cameras: (0..o.views).map(camera).collect(),
        hypotheses: Hypotheses::new(range, o.planes, Sampling::Linear),
    }
}

/// The peer's inputs.
fn read(path: &Path) -> Inputs {
    let bytes = std::fs::read(path).expect("the peer wrote its inputs");
    let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let doubles = |name: &str| -> Vec<f64> {
        let view = file.tensor(name).expect("a tensor of that name");
        view.data().chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect()
    };
    let images = file.tensor("images").expect("images");
    let (height, width) = (images.shape()[1], images.shape()[2]);
    let photos = images.data().chunks_exact(height * width * 12).map(|v| {
        let rgb = v.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        Photo { width, height, rgb }
    });
    let (k, e) = (doubles("k"), doubles("e"));
    let cameras = k.chunks_exact(9).zip(e.chunks_exact(16)).map(|(k, e)| Camera {
        k: DMat3::from_cols_slice(k).transpose(),
        r: DMat3::from_cols_slice(&[0, 1, 2, 4, 5, 6, 8, 9, 10].map(|i| e[i])).transpose(),
        t: DVec3::new(e[3], e[7], e[11]),
    });
    Inputs {
        photos: photos.collect(),
        cameras: cameras.collect(),
        hypotheses: Hypotheses { depths: doubles("depths"), sampling: Sampling::Linear },
    }
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

/// High-water mark of this process's resident memory, in bytes; 0 where the system does not tell.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or("0");
    line.split_whitespace().next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) * 1024
}

fn sgemm_peak(threads: usize) -> f64 {
    // The library reads its number of threads when it first multiplies.
    // SAFETY: nothing else runs yet that reads the environment.
    unsafe { std::env::set_var("MATMUL_NUM_THREADS", threads.to_string()) };
    let n = 1536;
    let (a, b, mut c) = (vec![0.5f32; n * n], vec![0.25f32; n * n], vec![0.0f32; n * n]);
    let mut best = f64::INFINITY;
    for _ in 0..6 {
        let start = Instant::now();
        let (rs, cs) = (n as isize, 1);
        // SAFETY: three n x n matrices in row-major order.
        unsafe {
            matrixmultiply::sgemm(
                n,
                n,
                n,
                1.0,
                a.as_ptr(),
                rs,
                cs,
                b.as_ptr(),
                rs,
                cs,
                0.0,
                c.as_mut_ptr(),
                rs,
                cs,
            );
        }
        best = best.min(start.elapsed().as_secs_f64());
    }
    2.0 * (n as f64).powi(3) / best / 1e9
}

fn main() {
    let o = Options::parse();
    rayon::ThreadPoolBuilder::new().num_threads(o.threads).build_global().expect("first pool");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let peer = o.peer.as_ref().map(|python| run_peer(python, &o, folder.path()));
    let inputs = match &peer {
        Some(_) => read(&folder.path().join("inputs.safetensors")),
        None => generated(&o),
    };
    let net = BsMvsNet::built_in().expect("built-in weights").with_level(o.level);
    let at = |camera: &Camera| camera.decimated(0.25);
    let sweeps: Vec<_> =
        inputs.cameras[1..].iter().map(|c| PlaneSweep::new(&at(&inputs.cameras[0]), &at(c))).collect();

    let mut totals = Vec::new();
    let mut stages: Vec<(String, Vec<f64>)> = Vec::new();
    let mut depth = Vec::new();
    for repetition in 0..=o.repetitions {
        let mut lap = Instant::now();
        let mut stage = 0;
        let mut record = |name: &str, seconds: f64| {
            // The first repetition touches fresh memory and is not counted.
            if stages.len() <= stage {
                stages.push((name.to_owned(), Vec::new()));
            }
            if repetition > 0 {
                stages[stage].1.push(seconds);
            }
            stage += 1;
        };
        let start = Instant::now();
        let maps: Vec<Tensor> = inputs.photos.iter().map(|p| net.features(p).expect("features")).collect();
        record("features of all views", lap.elapsed().as_secs_f64());
        lap = Instant::now();
        let sources: Vec<_> = maps[1..].iter().zip(sweeps.iter().copied()).collect();
        let mut probe = |name: &str, _: &Tensor| {
            let name = name.trim_start_matches("regularizer.");
            // Three names for what one fused pass makes.
            if !matches!(name, "context2" | "cost_skip" | "spatial8") {
                let name = if name == "spatial2" { "sweep (+ spatial2, context2, cost_skip)" } else { name };
                record(name, lap.elapsed().as_secs_f64());
                lap = Instant::now();
            }
        };
        let out = net.depth_probed(&maps[0], &sources, &inputs.hypotheses, false, &mut probe).expect("depth");
        record("logits, softmax, depth", lap.elapsed().as_secs_f64());
        if repetition > 0 {
            totals.push(start.elapsed().as_secs_f64());
        }
        depth = out.depth.data;
        for map in maps {
            net.cpu().recycle(map);
        }
    }
    let peak = peak_memory();
    let seconds = median(totals.clone());
    let shape = &inputs.photos[0];
    println!(
        "{} x {}, D = {}, {} views, {} threads, {}: {:.3} s a view (min {:.3}), peak memory {:.0} MB",
        shape.width,
        shape.height,
        inputs.hypotheses.depths.len(),
        inputs.photos.len(),
        o.threads,
        o.level.name(),
        seconds,
        totals.iter().copied().fold(f64::INFINITY, f64::min),
        peak as f64 / 1e6,
    );
    for (name, times) in &stages {
        println!("  {:<42} {:>8.1} ms", name, median(times.clone()) * 1e3);
    }
    let plan = net.memory_plan(shape.width, shape.height, inputs.hypotheses.depths.len(), o.threads);
    println!("  memory planned: {:.0} MB", plan.peak(inputs.photos.len()) as f64 / 1e6);
    let gemm = sgemm_peak(o.threads);
    println!("  sgemm (matrixmultiply, 1536): {gemm:.0} GFLOP/s");
    if o.layers {
        layers(&net, &o, gemm);
    }
    let mut json = serde_json::json!({
        "width": shape.width, "height": shape.height, "planes": inputs.hypotheses.depths.len(),
        "views": inputs.photos.len(), "threads": o.threads, "level": o.level.name(), "seconds": seconds,
        "peak_bytes": peak, "sgemm_gflops": gemm,
    });
    if let Some(peer) = peer {
        compare(&peer, seconds, peak, &depth, &inputs, folder.path(), &mut json);
    }
    println!("{json}");
}

/// Each dense layer alone on inputs of its real size.
fn layers(net: &BsMvsNet, o: &Options, gemm: f64) {
    println!("  {:<24} {:>34} {:>9} {:>9} {:>9} {:>7}", "layer", "input", "GFLOP", "ms", "GFLOP/s", "sgemm");
    let cpu = Cpu::with_level(o.level);
    for (name, conv, shape) in net.layers(o.height, o.width, o.planes) {
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

fn run_peer(python: &str, o: &Options, folder: &Path) -> serde_json::Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/reference_torch.py");
    let output = Command::new(python)
        .arg(script)
        .args(["--width", &o.width.to_string(), "--height", &o.height.to_string()])
        .args(["--planes", &o.planes.to_string(), "--views", &o.views.to_string()])
        .args(["--threads", &o.threads.to_string(), "--repetitions", "3"])
        .arg("--write-inputs")
        .arg(folder.join("inputs.safetensors"))
        .arg("--output")
        .arg(folder.join("outputs.safetensors"))
        .output()
        .unwrap_or_else(|e| panic!("cannot run {python}: {e}"));
    assert!(output.status.success(), "the peer failed:\n{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().rev().find(|l| l.starts_with('{')).expect("the peer prints JSON");
    serde_json::from_str(line).expect("the peer prints JSON")
}

fn compare(
    peer: &serde_json::Value,
    seconds: f64,
    peak: u64,
    depth: &[f32],
    inputs: &Inputs,
    folder: &Path,
    json: &mut serde_json::Value,
) {
    let bytes = std::fs::read(folder.join("outputs.safetensors")).expect("the peer's outputs");
    let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let view = file.tensor("depth").expect("depth");
    let theirs = view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
    let interval = inputs.hypotheses.depths[1] - inputs.hypotheses.depths[0];
    let mut apart: Vec<f64> =
        depth.iter().zip(theirs).map(|(a, b)| f64::from((a - b).abs()) / interval).collect();
    apart.sort_by(f64::total_cmp);
    let (middle, most) = (apart[apart.len() / 2], apart[apart.len() - 1]);
    println!("  depth against the peer's: median {middle:.1e}, largest {most:.1e} of an interval");
    assert!(most < 0.05, "engine and peer disagree");
    let theirs = peer["seconds_median"].as_f64().expect("seconds_median");
    let memory = peer["peak_bytes"].as_f64().expect("peak_bytes");
    println!(
        "  PyTorch {}: {theirs:.2} s, {:.0} MB  ->  {:.1} times faster, {:.1} times less memory",
        peer["torch"].as_str().unwrap_or("?"),
        memory / 1e6,
        theirs / seconds,
        memory / peak as f64
    );
    json["peer"] = peer.clone();
    json["faster"] = (theirs / seconds).into();
    json["memory_ratio"] = (memory / peak as f64).into();
}
