//! One training step: forward with batch statistics, the L1 loss, backward, Adam.
//!
//!     cargo bench --bench train_step -- [--width 160 --height 128 --planes 64 --views 3] [--repetitions 10] [--threads N]
//!         [--peer PYTHON]
//!
//! With `--peer` (a Python that has torch, numpy and safetensors) the reference does the same step on the same inputs and weights
//! in the same run; both must find the same loss. Prints where the time goes, by op, and as the last line JSON.

use std::time::Instant;

use engine::camera::{Hypotheses, Sampling};
use engine::memory;
use engine::net::parameters::Parameters;
use engine::net::training::follow;
use engine::net::{Aggregation, Config, Decoder, Difference};
use engine::ops::depth_backward::DepthLoss;
use engine::synth::rig::Rig;
use engine::synth::{Generator, GeneratorOptions};
use engine::tensor::Cpu;
use engine::train::optimizer::{Adam, AdamOptions};
use engine::train::sample::TrainingSample;
use engine::train::step::lesson;

fn main() {
    let (mut width, mut height, mut planes, mut views, mut repetitions) = (160, 128, 64, 3, 10);
    let mut threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
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
    let made = Generator::new(options).expect("options").sample(0, false);
    let sample = TrainingSample {
        name: "synth 0".into(),
        photos: made.photos,
        cameras: made.cameras,
        depth: made.depth.into_iter().next().expect("the reference's depth"),
        range: made.range,
    };
    let hypotheses = Hypotheses::new(sample.range, planes, Sampling::Linear);
    let config = Config {
        aggregation: Aggregation::Voxel,
        difference: Difference::Squared,
        decoder: Decoder::Skip,
    };
    let mut parameters = Parameters::random(config, 1).expect("a configuration");
    let (cpu, mut adam) = (Cpu::new(), Adam::default());
    let loss = DepthLoss { l1: 1.0, cross_entropy: 0.0 };
    let before = memory::peak().unwrap_or(0);
    let mut seconds = Vec::new();
    let mut times = Default::default();
    for repetition in 0..repetitions + 2 {
        let began = Instant::now();
        let lesson = lesson(&cpu, &parameters, &sample, &hypotheses, loss, false).expect("a step");
        follow(&mut parameters, &lesson.statistics, 0.1);
        adam.step(AdamOptions::default(), 1e-3, 1.0, &mut parameters, &lesson.gradients).expect("a step");
        if repetition >= 2 {
            seconds.push(began.elapsed().as_secs_f64());
        }
        println!("loss {:.4} in {:.1} ms", lesson.loss, began.elapsed().as_secs_f64() * 1e3);
        times = lesson.times;
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
    println!(
        "median {:.1} ms, peak {} ({} before)",
        seconds[seconds.len() / 2] * 1e3,
        memory::readable(peak),
        memory::readable(before)
    );
}
