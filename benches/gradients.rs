//! Convolution and its gradients on this processor, layer by layer, at the sizes of a training step.
//!
//!     cargo bench --bench gradients -- [--width 320] [--height 256] [--planes 96] [--threads N]
//!
//! GFLOP/s of the forward pass, of the gradient in the input and of the gradient in the weights; each counts the same
//! multiply-adds. Then what memory bounds, in GB/s. Best of seven; the first pass, which touches fresh memory, is not
//! counted.

use std::time::Instant;

use engine::cpu::device::Cpu;
use engine::cpu::network::BsMvsNet;
use engine::cpu::ops::conv_backward::ConvGeometry;
use engine::cpu::ops::depth::Expectation;
use engine::cpu::ops::depth_backward::DepthLoss;
use engine::cpu::ops::depthwise::Depthwise;
use engine::cpu::ops::pixel_statistics::pixel_statistics;
use engine::cpu::ops::pixel_statistics_backward::pixel_statistics_backward;
use engine::cpu::ops::sweep::{self, Aggregation, Search, Sweep, VoxelGate};
use engine::cpu::ops::sweep_backward::{SweepGradient, cost_volume_backward};
use engine::cpu::ops::{norm, pointwise, reduce, resample};
use engine::files::map::Map;
use engine::net::layers::Activation;
use engine::net::tensor::{Shape, Tensor};
use engine::scene::camera::{DepthRange, Hypotheses, PlaneSweep, Sampling};

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
    println!("{:<24} {:>34} {:>9} {:>9} {:>9} {:>9}", "layer", "input", "GFLOP", "forward", "d input", "d weight");
    let mut totals = [0.0; 4];
    for (name, conv, shape) in net.layers(height, width, planes).expect("layers") {
        let flops = conv.flops(shape) as f64 / 1e9;
        let geometry = ConvGeometry { channels: (conv.input, conv.output), kernel: conv.kernel, stride: conv.stride };
        let (x, dy) = (filled(shape), filled(conv.output_shape(shape)));
        let weights = filled(Shape::plane(1, 1, geometry.weights()));
        let seconds = [
            best(|| conv.forward(&cpu, &x, None).ok(), &cpu),
            best(|| geometry.backward_input(&cpu, &weights.data, shape, &dy).ok(), &cpu),
            best(|| geometry.backward_weights(&cpu, &x, &dy).map(|_| None).unwrap_or(None), &cpu),
        ];
        let [forward, input, weight] = seconds.map(|s| flops / s);
        println!("{name:<24} {:>34} {flops:>9.3} {forward:>9.1} {input:>9.1} {weight:>9.1}", shape.to_string());
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
    memory_bound(&cpu, (height, width), planes);
    sweeps(&cpu, (height / 4, width / 4), planes);
}

/// What memory bounds: GB/s counts each tensor that a pass must read or write once (batch norm reads x twice each way).
fn memory_bound(cpu: &Cpu, (height, width): (usize, usize), planes: usize) {
    let half = Shape { d: planes / 2, h: height / 8, w: width / 8, c: 16 };
    for shape in [half.with_channels(8), half, half.halved().with_channels(32), half.halved().with_channels(64)] {
        let (x, dy) = (filled(shape), filled(shape));
        let (gamma, beta) = (vec![1.0; shape.c], vec![0.0; shape.c]);
        let (_, statistics) = norm::forward(cpu, &x, &gamma, &beta, Activation::Relu).expect("norm");
        let forward = best(|| norm::forward(cpu, &x, &gamma, &beta, Activation::Relu).ok().map(|r| r.0), cpu);
        let backward =
            || norm::backward(cpu, &x, (&gamma, &beta), &statistics, Activation::Relu, &dy).ok().map(|r| r.0);
        rate("batch norm", shape, 3.0, forward);
        rate("batch norm gradient", shape, 5.0, best(backward, cpu));
    }
    let both = |pair: Option<(Tensor, Tensor)>| pair.map(|(a, b)| (cpu.recycle(a), b).1);
    let (x, y, dy) = (filled(half), filled(half), filled(half));
    let gate = filled(Shape { h: 1, w: 1, ..half });
    let vector = filled(Shape { d: 1, h: 1, w: 1, ..half });
    let mut added = filled(half);
    let add = best(
        || {
            pointwise::add_vector(&mut added, &vector).ok();
            None
        },
        cpu,
    );
    rate("add vector", half, 2.0, add);
    rate("add vector gradient", half, 1.0, best(|| Some(pointwise::add_vector_backward(cpu, &dy)), cpu));
    rate("relu gradient", half, 3.0, best(|| pointwise::relu_backward(cpu, &y, &dy).ok(), cpu));
    rate("sigmoid gradient", half, 3.0, best(|| pointwise::sigmoid_backward(cpu, &y, &dy).ok(), cpu));
    rate("gate gradient", half, 5.0, best(|| both(pointwise::gate_backward(cpu, &x, &y, &dy).ok()), cpu));
    let planes = best(|| both(pointwise::gate_planes_backward(cpu, &x, &gate, &dy).ok()), cpu);
    rate("plane gate gradient", half, 3.0, planes);
    rate("concat gradient", half, 2.0, best(|| both(pointwise::concat_backward(cpu, &dy, 8).ok()), cpu));
    rate("plane mean", half, 1.0, best(|| Some(reduce::plane_mean(&x)), cpu));
    rate("plane mean gradient", half, 1.0, best(|| reduce::plane_mean_backward(cpu, &gate, half).ok(), cpu));
    rate("volume mean gradient", half, 1.0, best(|| reduce::volume_mean_backward(cpu, &vector, half).ok(), cpu));
    let upsampled = best(|| resample::upsample_backward(cpu, &dy, 2, half.halved()).ok(), cpu);
    rate("upsampling gradient", half, 1.125, upsampled);
    for stride in [1, 2] {
        let depthwise = Depthwise::new(16, stride, &filled(Shape::plane(1, 1, 27 * 16)).data);
        let dy = filled(depthwise.output_shape(half));
        let tensors = 1.0 + dy.data.len() as f64 / half.len() as f64;
        let forward = best(|| depthwise.forward(cpu, &x).ok(), cpu);
        rate(&format!("depthwise, stride {stride}"), half, tensors, forward);
        let input = best(|| depthwise.backward_input(cpu, half, &dy).ok(), cpu);
        rate("... gradient in the input", half, tensors, input);
        let weights = best(|| depthwise.backward_weights(cpu, &x, &dy).map(|_| None).unwrap_or(None), cpu);
        rate("... gradient in the weights", half, tensors, weights);
    }
    cpu.trim();
}

fn rate(what: &str, shape: Shape, tensors: f64, seconds: f64) {
    let gigabytes = tensors * (4 * shape.len()) as f64 / 1e9;
    println!("{what:<28} {:>34} {:>9.3} ms {:>6.1} GB/s", shape.to_string(), seconds * 1e3, gigabytes / seconds);
}

/// The plane sweep of two source views shifted and turned by little, forward and backward, every aggregation.
fn sweeps(cpu: &Cpu, (height, width): (usize, usize), planes: usize) {
    let map = filled(Shape::plane(height, width, 32));
    let turned = |s: f32| PlaneSweep { a: [[1.0, 0.02, s], [-0.02, 1.0, -s], [0.0, 1e-4, 1.0]], b: [9.0 * s, s, 0.0] };
    let sources = [(&map, turned(1.0)), (&map, turned(-1.0))];
    let depths: Vec<f32> = (0..planes).map(|i| 1.0 + i as f32 / planes as f32).collect();
    let gate = VoxelGate {
        reduce: filled(Shape::plane(1, 1, 256)).data,
        reduce_bias: filled(Shape::plane(1, 1, 8)).data,
        weight: filled(Shape::plane(1, 1, 8)).data,
        weight_bias: 0.5,
    };
    let weights = [filled(Shape::plane(height, width, 1)), filled(Shape::plane(height, width, 1))];
    let reference = &map;
    let made = |aggregation| Sweep {
        reference,
        sources: &sources,
        search: Search::Planes(&depths),
        aggregation,
        squared: true,
    };
    let dy = filled(Shape { d: planes, h: height, w: width, c: 32 });
    for (name, aggregation) in [
        ("voxel", Aggregation::Voxel(&gate)),
        ("pixel", Aggregation::Pixel(&weights)),
        ("mean", Aggregation::Mean),
        ("variance", Aggregation::Variance),
    ] {
        let sweep = made(aggregation);
        let forward = best(|| sweep::cost_volume(cpu, &sweep).ok(), cpu);
        let recycled = |g: SweepGradient| {
            g.sources.into_iter().chain(g.weights).for_each(|t| cpu.recycle(t));
            g.reference
        };
        let backward = best(|| cost_volume_backward(cpu, &sweep, &dy).ok().map(recycled), cpu);
        report(&format!("plane sweep, {name}"), dy.shape, forward, backward);
    }
    let sweep = made(Aggregation::Mean);
    let two = filled(Shape::plane(height, width, 2));
    let forward = best(|| pixel_statistics(cpu, &sweep, 0).ok(), cpu);
    let backward = || pixel_statistics_backward(cpu, &sweep, 0, &two).ok().map(|(r, s)| (cpu.recycle(s), r).1);
    report("pixel statistics, one source", dy.shape, forward, best(backward, cpu));
    cpu.trim();
    let hypotheses = Hypotheses::new(DepthRange { near: 1.0, far: 2.0 }, planes, Sampling::Linear);
    let expectation = Expectation::new(&hypotheses);
    let (logits, truth) = (filled(dy.shape.with_channels(1)), Map::filled(width, height, 1.4));
    let loss = DepthLoss { l1: 1.0, cross_entropy: 1.0 };
    let both = best(|| loss.apply(cpu, &expectation, &logits, &truth).ok().map(|x| x.gradient), cpu);
    rate("depth loss with its gradient", logits.shape, 2.0, both);
}

fn report(what: &str, shape: Shape, forward: f64, backward: f64) {
    let (ratio, forward, backward) = (backward / forward, forward * 1e3, backward * 1e3);
    println!("{what} on {shape}: forward {forward:.2} ms, backward {backward:.2} ms ({ratio:.2} times)");
}
