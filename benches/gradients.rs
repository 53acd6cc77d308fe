//! Convolution and its gradients on this processor, layer by layer, at the sizes of a training step.
//!
//!     cargo bench --bench gradients -- [--width 320] [--height 256] [--planes 96] [--threads N]
//!
//! GFLOP/s of the forward pass, of the gradient in the input and of the gradient in the weights; each counts the same
//! multiply-adds. Best of seven; the first pass, which touches fresh memory, is not counted.

use std::time::Instant;

use engine::net::BsMvsNet;
use engine::ops::conv_backward::ConvGeometry;
use engine::ops::norm;
use engine::tensor::{Cpu, Shape, Tensor};

fn best(mut work: impl FnMut() -> Option<Tensor>, cpu: &Cpu) -> f64 {
    let mut best = f64::INFINITY;
    for repetition in 0..8 {
        let start = Instant::now();
        let made = work();
        let seconds = start.elapsed().as_secs_f64();
        if let Some(tensor) = made {
            cpu.recycle(tensor);
        }
        if repetition > 0 {
            best = best.min(seconds);
        }
    }
    best
}

fn filled(shape: Shape) -> Tensor {
    let mut x = Tensor::zeros(shape);
    for (i, v) in x.data.iter_mut().enumerate() {
        *v = ((i * 2_654_435_761) >> 16 & 0xFFFF) as f32 / 65536.0 - 0.5;
    }
    x
}

fn main() {
    let (mut width, mut height, mut planes) = (320, 256, 96);
    let mut threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().and_then(|v| v.parse().ok()).expect("a number after the option");
        match argument.as_str() {
            "--width" => width = value(),
            "--height" => height = value(),
            "--planes" => planes = value(),
            "--threads" => threads = value(),
            "--bench" => {}
            other => panic!("unknown option {other}; see the head of benches/gradients.rs"),
        }
    }
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().expect("first pool");
    let net = BsMvsNet::built_in().expect("built-in weights");
    let cpu = Cpu::new();
    println!("{width} x {height}, D = {planes}, {threads} threads, {}; GFLOP/s", cpu.level().name());
    println!(
        "{:<24} {:>34} {:>9} {:>9} {:>9} {:>9}",
        "layer", "input", "GFLOP", "forward", "d input", "d weight"
    );
    let mut totals = [0.0; 4];
    for (name, conv, shape) in net.layers(height, width, planes) {
        let flops = conv.flops(shape) as f64 / 1e9;
        let geometry =
            ConvGeometry { channels: (conv.input, conv.output), kernel: conv.kernel, stride: conv.stride };
        let (x, dy) = (filled(shape), filled(conv.output_shape(shape)));
        let weights = filled(Shape::plane(1, 1, geometry.weights()));
        let seconds = [
            best(|| conv.forward(&cpu, &x, None).ok(), &cpu),
            best(|| geometry.backward_input(&cpu, &weights.data, shape, &dy).ok(), &cpu),
            best(|| geometry.backward_weights(&cpu, &x, &dy).map(|_| None).unwrap_or(None), &cpu),
        ];
        let [forward, input, weight] = seconds.map(|s| flops / s);
        println!(
            "{name:<24} {:>34} {flops:>9.3} {forward:>9.1} {input:>9.1} {weight:>9.1}",
            shape.to_string()
        );
        totals[0] += flops;
        for (total, s) in totals[1..].iter_mut().zip(seconds) {
            *total += s;
        }
        cpu.trim();
    }
    println!(
        "all: {:.2} GFLOP, forward {:.1} ms, d input {:.1} ms, d weight {:.1} ms",
        totals[0],
        totals[1] * 1e3,
        totals[2] * 1e3,
        totals[3] * 1e3
    );
    let x = filled(Shape { d: planes / 2, h: height / 8, w: width / 8, c: 16 });
    let (gamma, beta) = (vec![1.0; 16], vec![0.0; 16]);
    let (_, statistics) = norm::forward(&cpu, &x, &gamma, &beta, true).expect("norm");
    let forward = best(|| norm::forward(&cpu, &x, &gamma, &beta, true).ok().map(|r| r.0), &cpu);
    let backward =
        best(|| norm::backward(&cpu, &x, (&gamma, &beta), &statistics, true, &x).ok().map(|r| r.0), &cpu);
    let gigabytes = x.bytes() as f64 / 1e9;
    println!(
        "batch norm on {}: forward {:.2} ms ({:.1} GB/s), backward {:.2} ms ({:.1} GB/s)",
        x.shape,
        forward * 1e3,
        3.0 * gigabytes / forward,
        backward * 1e3,
        5.0 * gigabytes / backward
    );
}
