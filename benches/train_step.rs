//! One training step: forward with batch statistics, the L1 loss, backward, Adam.
//!
//!     cargo bench --bench train_step -- [--width 160 --height 128 --planes 64 --views 3] [--repetitions 10]
//!         [--threads N]
//!         [--peer PYTHON]
//!
//! With `--peer` (a Python that has torch, numpy and safetensors) the reference does the same step on the same inputs
//! and weights in the same run; both must find the same loss. Prints where the time goes, by op, and as the last line
//! JSON.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use engine::cpu::device::Cpu;
use engine::cpu::ops::depth_backward::DepthLoss;
use engine::cpu::train::follow;
use engine::host::memory;
use engine::net::config::{Aggregation, Config, Decoder, Difference, Resolution};
use engine::net::parameters::Parameters;
use engine::scene::camera::{Camera, Hypotheses, Sampling};
use engine::synth::rig::Rig;
use engine::synth::{Generator, GeneratorOptions, Truth};
use engine::train::optimizer::{Adam, AdamOptions, norm};
use engine::train::sample::TrainingSample;
use engine::train::step::{Watch, sample_gradients};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, serialize};

fn main() {
    let (mut width, mut height, mut planes, mut views, mut repetitions) = (160, 128, 64, 3, 10);
    let mut peer: Option<String> = None;
    let mut threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--peer" {
            peer = Some(arguments.next().expect("a Python after --peer"));
            continue;
        }
        let mut value = || arguments.next().and_then(|v| v.parse().ok()).expect("a number after the option");
        match argument.as_str() {
            "--width" => width = value(),
            "--height" => height = value(),
            "--planes" => planes = value(),
            "--views" => views = value(),
            "--threads" => threads = value(),
            "--repetitions" => repetitions = value(),
            "--bench" => {}
            other => panic!("unknown option {other}; see the head of benches/train_step.rs"),
        }
    }
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().expect("first pool");
    let options = GeneratorOptions { views, size: (width, height), rig: Rig::Arc, ..Default::default() };
    let made = Generator::new(options).expect("options").sample(0, Truth::OfReference);
    let sample = TrainingSample {
        name: "synth 0".into(),
        photos: made.photos,
        cameras: made.cameras,
        depth: made.depth.into_iter().next().expect("the reference's depth"),
        fine: None,
        range: made.range,
    };
    let hypotheses = Hypotheses::new(sample.range, planes, Sampling::Linear);
    let config = Config {
        aggregation: Aggregation::Voxel(()),
        difference: Difference::Squared,
        decoder: Decoder::Skip,
        resolution: Resolution::Quarter,
    };
    let mut parameters = Parameters::random(config, 1).expect("a configuration");
    let peer = peer.map(|python| run_peer(&python, &sample, &hypotheses, &parameters, threads, repetitions));
    let (cpu, mut adam) = (Cpu::new(), Adam::default());
    let loss = DepthLoss { l1: 1.0, cross_entropy: 0.0 };
    let before = memory::peak().unwrap_or(0);
    let mut seconds = Vec::new();
    let mut times = Default::default();
    let mut first = None;
    for repetition in 0..repetitions + 2 {
        let began = Instant::now();
        let found = sample_gradients(&cpu, &parameters, &sample, &hypotheses, loss, Watch::Nothing).expect("a step");
        follow(&mut parameters, &found.statistics, 0.1);
        adam.step(AdamOptions::default(), 1e-3, 1.0, &mut parameters, &found.gradients).expect("a step");
        if repetition >= 2 {
            seconds.push(began.elapsed().as_secs_f64());
        }
        first.get_or_insert((found.loss, norm(&found.gradients)));
        times = found.times;
    }
    seconds.sort_by(f64::total_cmp);
    println!("{:<28} {:>6} {:>9} {:>9}", "op", "calls", "forward", "backward");
    for (name, time) in &times {
        println!(
            "{name:<28} {:>6} {:>6.2} ms {:>6.2} ms",
            time.calls,
            time.forward.as_secs_f64() * 1e3,
            time.backward.as_secs_f64() * 1e3
        );
    }
    let peak = memory::peak().unwrap_or(0);
    let (median, best) = (seconds[seconds.len() / 2], seconds[0]);
    println!(
        "{width} x {height}, D = {planes}, N = {views}, {threads} threads, {}: median {:.1} ms, best {:.1} ms, peak \
         memory {} ({} before the first step)",
        cpu.level().name(),
        median * 1e3,
        best * 1e3,
        memory::readable(peak),
        memory::readable(before)
    );
    let (loss, length) = first.expect("a step");
    let mut json = serde_json::json!({
        "width": width, "height": height, "planes": planes, "views": views, "threads": threads,
        "seconds_median": median, "seconds_min": best, "peak_bytes": peak, "loss": loss, "gradient_norm": length,
    });
    if let Some(peer) = peer {
        let number = |key: &str| peer[key].as_f64().unwrap_or_else(|| panic!("the peer prints {key}"));
        println!(
            "PyTorch {}: median {:.1} ms, peak memory {}; loss {:.5} and ours {loss:.5}, gradient's norm {:.4} and \
             ours {length:.4}",
            peer["torch"].as_str().unwrap_or("?"),
            number("seconds_median") * 1e3,
            memory::readable(number("peak_bytes") as u64),
            number("loss"),
            number("gradient_norm"),
        );
        println!(
            "{:.1} times faster, {:.1} times less memory",
            number("seconds_median") / median,
            number("peak_bytes") / peak as f64
        );
        // Rounding moves the loss of random weights by 1e-6; kinks within reach of rounding move the gradient by less
        // than 1 %.
        assert!((number("loss") - loss).abs() < 1e-4 * loss, "engine and peer disagree about the loss");
        assert!(
            (number("gradient_norm") - length).abs() < 1e-2 * length,
            "engine and peer disagree about the gradient"
        );
        json["peer"] = peer;
    }
    println!("{json}");
}

/// The reference's step on the same inputs and weights.
fn run_peer(
    python: &str,
    sample: &TrainingSample,
    hypotheses: &Hypotheses,
    parameters: &Parameters,
    threads: usize,
    repetitions: usize,
) -> serde_json::Value {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("inputs.safetensors");
    let (views, first) = (sample.photos.len(), &sample.photos[0]);
    let images: Vec<f32> = sample.photos.iter().flat_map(|p| p.rgb.iter().copied()).collect();
    let k: Vec<f64> = sample.cameras.iter().flat_map(|c| c.k.transpose().to_cols_array()).collect();
    let pose = |c: &Camera| {
        let (r, t) = (c.r.transpose().to_cols_array(), c.t.to_array());
        let row = |i: usize| [r[3 * i], r[3 * i + 1], r[3 * i + 2], t[i]];
        [row(0), row(1), row(2), [0.0, 0.0, 0.0, 1.0]].concat()
    };
    let e: Vec<f64> = sample.cameras.iter().flat_map(pose).collect();
    let mut tensors = vec![
        ("images".to_owned(), view(Dtype::F32, &[views, first.height, first.width, 3], &images)),
        ("k".to_owned(), view(Dtype::F64, &[views, 3, 3], &k)),
        ("e".to_owned(), view(Dtype::F64, &[views, 4, 4], &e)),
        ("depths".to_owned(), view(Dtype::F64, &[hypotheses.depths.len()], &hypotheses.depths)),
        ("truth".to_owned(), view(Dtype::F32, &[sample.depth.height, sample.depth.width], &sample.depth.data)),
    ];
    for p in &parameters.list {
        tensors.push((format!("weights/{}", p.name), view(Dtype::F32, &p.shape, &p.values.data[..])));
    }
    let counters: Vec<String> =
        parameters.list.iter().filter_map(|p| p.name.strip_suffix("running_var").map(str::to_owned)).collect();
    for norm in counters {
        tensors.push((format!("weights/{norm}num_batches_tracked"), view(Dtype::I64, &[], &[0i64])));
    }
    std::fs::write(&file, serialize(tensors, None).expect("tensors")).expect("a temporary file");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/train_torch.py");
    let output = Command::new(python)
        .arg(script)
        .arg("--inputs")
        .arg(&file)
        .args(["--threads", &threads.to_string(), "--repetitions", &repetitions.to_string()])
        .output()
        .expect("the peer's Python");
    assert!(output.status.success(), "the peer failed:\n{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().rev().find(|l| l.starts_with('{')).expect("the peer prints JSON");
    serde_json::from_str(line).expect("the peer prints JSON")
}

fn view<'a, T: bytemuck::NoUninit>(dtype: Dtype, shape: &[usize], values: &'a [T]) -> TensorView<'a> {
    TensorView::new(dtype, shape.to_vec(), bytemuck::cast_slice(values)).expect("a tensor")
}
