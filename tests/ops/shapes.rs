//! Calls with shapes that do not fit together, each with its exact message.

use engine::cpu::device::Cpu;
use engine::cpu::ops::conv::Conv;
use engine::cpu::ops::depth::Expectation;
use engine::cpu::ops::depthwise::Depthwise;
use engine::cpu::ops::head::{Decoder, LogitsConv, regress};
use engine::cpu::ops::pixel_statistics::pixel_statistics;
use engine::cpu::ops::pointwise::{add_vector, concat, expect_multiples_of_4, gate, gate_planes};
use engine::cpu::ops::resample::{upsample, upsample_add};
use engine::cpu::ops::sweep::{self, Search, Sweep, cost_volume};
use engine::cpu::ops::sweep_fused::fused;
use engine::cpu::ops::warp::warp;
use engine::error::Error;
use engine::net::layers::Activation;
use engine::net::tensor::{Shape, Tensor};
use engine::scene::camera::{PlaneSweep, Sampling};
use engine::scene::photo::Photo;

use crate::regression::hypotheses;
use crate::sweeps::IDENTITY;

#[test]
fn shapes_that_do_not_fit_are_named() {
    let cpu = &Cpu::new();
    let zeros = |d, h, w, c| Tensor::zeros(Shape { d, h, w, c });
    let conv = |output: usize| {
        Conv::new((8, output), [1, 3, 3], [1, 2, 2], &vec![0.0; 72 * output], &vec![0.0; output], Activation::Linear)
    };
    let depthwise = Depthwise::new(16, 2, &[0.0; 16 * 27]);
    let identity = || PlaneSweep { a: IDENTITY, b: [0.0; 3] };
    let map = zeros(1, 3, 5, 32);
    let sweep = |reference: &Tensor, sources: &[Tensor], weights: Option<&[Tensor]>, planes: usize| {
        let sources: Vec<_> = sources.iter().map(|s| (s, identity())).collect();
        let aggregation = weights.map_or(sweep::Aggregation::Mean, sweep::Aggregation::Pixel);
        let depths = vec![1.0; planes];
        let sweep = Sweep { reference, sources: &sources, search: Search::Planes(&depths), aggregation, squared: true };
        // All three look at the same things.
        let strided = Conv::new((32, 32), [3; 3], [2; 3], &[0.0; 32 * 32 * 27], &[0.0; 32], Activation::Relu);
        let text = cost_volume(cpu, &sweep).err().unwrap().to_string();
        assert_eq!(fused(cpu, &sweep, &strided, None).err().unwrap().to_string(), text);
        assert_eq!(pixel_statistics(cpu, &sweep, 0).err().unwrap().to_string(), text);
        text
    };
    let head = |half: Tensor, skip: Tensor, d: usize| {
        let expectation = Expectation::new(&hypotheses(d, Sampling::Linear));
        let conv = LogitsConv::new(&[0.0; 216], 0.0);
        regress(cpu, &Decoder::Skip(&half, &skip, &conv), &expectation, false).err().unwrap().to_string()
    };
    let trilinear = |logits: Tensor, size: Shape, d: usize| {
        let expectation = Expectation::new(&hypotheses(d, Sampling::Linear));
        regress(cpu, &Decoder::Trilinear(&logits, size), &expectation, false).err().unwrap().to_string()
    };
    let text = |e: Option<Error>| {
        let e = e.expect("the shapes do not fit");
        assert!(matches!(e, Error::Shape { .. }));
        e.to_string()
    };
    let photo = |width, height, values: usize| Photo { width, height, rgb: vec![0.0; values] };
    #[rustfmt::skip]
    let cases = [
        (
            text(Tensor::from_slice(Shape::plane(2, 3, 4), &[0.0; 23]).err()),
            "tensor: 23 values for [D 1, H 2, W 3, C 4], which holds 24",
        ),
        (
            text(conv(8).forward(cpu, &zeros(1, 5, 7, 3), None).err()),
            "convolution: input [D 1, H 5, W 7, C 3], expected C = 8",
        ),
        (
            text(conv(8).forward(cpu, &zeros(1, 5, 0, 8), None).err()),
            "convolution: empty input [D 1, H 5, W 0, C 8]",
        ),
        (
            text(conv(8).forward(cpu, &zeros(1, 5, 7, 8), Some(&zeros(1, 5, 7, 8))).err()),
            "convolution: residual [D 1, H 5, W 7, C 8], expected [D 1, H 3, W 4, C 8]",
        ),
        (
            text(conv(4).forward(cpu, &zeros(1, 5, 7, 8), Some(&zeros(1, 3, 4, 4))).err()),
            "convolution: residual [D 1, H 3, W 4, C 4]; with a residual C must be a multiple of 8",
        ),
        (
            text(depthwise.forward(cpu, &zeros(2, 3, 4, 8)).err()),
            "depthwise convolution: input [D 2, H 3, W 4, C 8], expected C = 16",
        ),
        (
            text(depthwise.forward(cpu, &zeros(0, 3, 4, 16)).err()),
            "depthwise convolution: empty input [D 0, H 3, W 4, C 16]",
        ),
        (
            text(upsample(cpu, &zeros(1, 0, 3, 8), 2, Shape::plane(2, 2, 8)).err()),
            "upsample: [D 1, H 0, W 3, C 8] to [D 1, H 2, W 2, C 8]",
        ),
        (
            text(upsample_add(cpu, &zeros(1, 2, 3, 8), 2, zeros(1, 4, 6, 16)).err()),
            "upsample: input [D 1, H 2, W 3, C 8], expected C = 16",
        ),
        (
            text(gate(&mut zeros(2, 3, 4, 8), &zeros(2, 3, 5, 8)).err()),
            "sigmoid gate: gate [D 2, H 3, W 5, C 8], expected [D 2, H 3, W 4, C 8]",
        ),
        (
            text(gate_planes(&mut zeros(2, 3, 4, 8), &zeros(1, 1, 1, 8)).err()),
            "plane gate: gate [D 1, H 1, W 1, C 8], expected [D 2, H 1, W 1, C 8]",
        ),
        (
            text(add_vector(&mut zeros(2, 3, 4, 8), &zeros(2, 1, 1, 8)).err()),
            "add vector: vector [D 2, H 1, W 1, C 8], expected [D 1, H 1, W 1, C 8]",
        ),
        (
            text(concat(cpu, &zeros(2, 3, 4, 8), &zeros(2, 3, 3, 5)).err()),
            "concat: second input [D 2, H 3, W 3, C 5], expected [D 2, H 3, W 4, C 5]",
        ),
        (
            text(expect_multiples_of_4(&photo(10, 8, 240)).err()),
            "features: image 10 x 8 with 240 values; sides must be multiples of 4",
        ),
        (
            text(expect_multiples_of_4(&photo(0, 8, 0)).err()),
            "features: image 0 x 8 with 0 values; sides must be multiples of 4",
        ),
        (
            text(warp(cpu, &zeros(1, 3, 5, 12), &identity(), &[1.0], (3, 5)).err()),
            "warp: input [D 1, H 3, W 5, C 12], expected C = 32",
        ),
        (
            text(warp(cpu, &zeros(1, 0, 5, 32), &identity(), &[1.0], (3, 5)).err()),
            "warp: features [D 1, H 0, W 5, C 32]; expected 1 plane of 1 to 16777216 pixels",
        ),
        (
            text(warp(cpu, &zeros(2, 3, 5, 32), &identity(), &[1.0], (3, 5)).err()),
            "warp: features [D 2, H 3, W 5, C 32]; expected 1 plane of 1 to 16777216 pixels",
        ),
        (
            text(warp(cpu, &map, &identity(), &[1.0], (3, 0)).err()),
            "warp: empty volume [D 1, H 3, W 0, C 32]",
        ),
        (sweep(&map, &[], None, 3), "plane sweep: 0 sources, 3 depths; at least one of each"),
        (
            sweep(&map, std::slice::from_ref(&map), None, 0),
            "plane sweep: 1 sources, 0 depths; at least one of each",
        ),
        (
            sweep(&zeros(1, 3, 5, 16), std::slice::from_ref(&map), None, 2),
            "plane sweep: input [D 1, H 3, W 5, C 32], expected C = 16",
        ),
        (
            sweep(&map, &[zeros(1, 3, 0, 32)], None, 2),
            "plane sweep: features [D 1, H 3, W 0, C 32]; expected 1 plane of 1 to 16777216 pixels",
        ),
        (
            sweep(&map, std::slice::from_ref(&map), Some(&[]), 2),
            "plane sweep: 0 pixel weights for 1 sources",
        ),
        (
            sweep(&map, std::slice::from_ref(&map), Some(&[zeros(1, 3, 4, 1)]), 2),
            "plane sweep: pixel weight [D 1, H 3, W 4, C 1], expected [D 1, H 3, W 5, C 1]",
        ),
        (
            head(zeros(2, 2, 3, 8), zeros(3, 3, 5, 8), 4),
            "depth head: volume [D 3, H 3, W 5, C 8] for 4 hypotheses",
        ),
        (
            head(zeros(2, 2, 2, 8), zeros(3, 3, 5, 8), 3),
            "depth head: half-resolution input [D 2, H 2, W 2, C 8], expected [D 2, H 2, W 3, C 8]",
        ),
        (
            head(zeros(0, 2, 3, 8), zeros(0, 3, 5, 8), 0),
            "depth head: volume [D 0, H 3, W 5, C 8] for 0 hypotheses",
        ),
        (
            trilinear(zeros(1, 2, 2, 1), Shape { d: 8, h: 9, w: 17, c: 1 }, 8),
            "depth head: logits at an eighth [D 1, H 2, W 2, C 1], expected [D 1, H 2, W 3, C 1]",
        ),
        (
            trilinear(zeros(0, 0, 0, 1), Shape { d: 8, h: 9, w: 17, c: 1 }, 8),
            "depth head: logits at an eighth [D 0, H 0, W 0, C 1], expected [D 1, H 2, W 3, C 1]",
        ),
    ];
    for (found, expected) in cases {
        assert_eq!(found, expected);
    }
}
