//! Dense and depthwise convolutions.

use engine::cpu::ops::conv::Conv;
use engine::cpu::ops::depthwise::Depthwise;
use engine::net::layers::Activation;
use engine::net::tensor::Tensor;

use crate::reference::{self, Convolution, Random, Volume};
use crate::{Report, random, volume};

type Channels = (usize, usize);
type Layer = ([usize; 3], [usize; 3]);
const D2_3: Layer = ([1, 3, 3], [1, 1, 1]);
const D2_3S2: Layer = ([1, 3, 3], [1, 2, 2]);
const D2_5S2: Layer = ([1, 5, 5], [1, 2, 2]);
pub const D2_1: Layer = ([1, 1, 1], [1, 1, 1]);
pub const D3_3: Layer = ([3, 3, 3], [1, 1, 1]);
pub const D3_3S2: Layer = ([3, 3, 3], [2, 2, 2]);
const D3_1S2: Layer = ([1, 1, 1], [2, 2, 2]);
const LAYERS: [(&str, Layer); 7] = [
    ("2d 3x3", D2_3),
    ("2d 3x3 s2", D2_3S2),
    ("2d 5x5 s2", D2_5S2),
    ("1x1", D2_1),
    ("3d 3x3x3", D3_3),
    ("3d 3x3x3 s2", D3_3S2),
    ("3d 1x1x1 s2", D3_1S2),
];

#[derive(Clone, Copy)]
struct Epilogue {
    residual: bool,
    relu: bool,
}
const PLAIN: Epilogue = Epilogue { residual: false, relu: false };
const RELU: Epilogue = Epilogue { residual: false, relu: true };
const SUM: Epilogue = Epilogue { residual: true, relu: false };
const SUM_RELU: Epilogue = Epilogue { residual: true, relu: true };

fn convolution(
    report: &mut Report,
    name: &str,
    (kernel, stride): Layer,
    channels: (usize, usize),
    [d, h, w]: [usize; 3],
    Epilogue { residual, relu }: Epilogue,
) {
    let name = format!("conv {name} {}->{} [{d}, {h}, {w}]", channels.0, channels.1);
    let mut rng = Random::new(&name);
    let weights = rng.values(channels.0 * channels.1 * kernel.iter().product::<usize>());
    let bias = rng.values(channels.1);
    let x = random(&mut rng, [d, h, w, channels.0]);
    let conv = Conv::new(channels, kernel, stride, &weights, &bias, Activation::relu_if(relu));
    let plain = Convolution { channels, kernel, stride, weights: &weights, bias: &bias, relu };
    let size = conv.output_shape(x.shape);
    let residual = residual.then(|| random(&mut rng, [size.d, size.h, size.w, size.c]));
    let truth = plain.apply(&volume(&x), residual.as_ref().map(volume).as_ref());
    let inputs: Vec<&Tensor> = std::iter::once(&x).chain(&residual).collect();
    report.check(&name, &inputs, &[truth], &|cpu| vec![conv.forward(cpu, &x, residual.as_ref()).unwrap()]);
}

#[test]
fn convolutions() {
    #[rustfmt::skip]
    let cases: &[(&str, Layer, Channels, [usize; 3], Epilogue)] = &[
        ("first layer", D2_3, (3, 8), [1, 17, 31], RELU),
        ("stage1.1", D2_3, (8, 8), [1, 13, 33], RELU),
        ("stage2.0", D2_5S2, (8, 16), [1, 17, 31], RELU),
        ("stage4.0", D2_5S2, (16, 32), [1, 13, 33], RELU),
        ("stage4.1", D2_3, (32, 32), [1, 7, 37], RELU),
        ("stage8.0", D2_3S2, (32, 48), [1, 13, 29], RELU),
        ("stage8.1", D2_3, (48, 48), [1, 5, 17], RELU),
        ("stage16.0", D2_3S2, (48, 64), [1, 7, 13], RELU),
        ("stage16.1", D2_3, (64, 64), [1, 3, 7], RELU),
        ("lateral8", D2_1, (64, 48), [1, 5, 13], PLAIN),
        ("lateral4", D2_1, (48, 32), [1, 7, 11], PLAIN),
        ("pixel gate", D2_3, (2, 8), [1, 13, 17], RELU),
        ("pixel gate's weight", D2_3, (8, 1), [1, 13, 17], RELU),
        ("spatial4", D3_3S2, (16, 32), [5, 7, 13], RELU),
        ("spatial8", D3_3S2, (32, 64), [3, 5, 7], RELU),
        ("pointwise2", D2_1, (96, 96), [3, 2, 5], SUM_RELU),
        ("shortcut", D3_1S2, (16, 32), [5, 7, 13], PLAIN),
        ("shortcut thin", D3_1S2, (96, 128), [1, 2, 3], PLAIN),
        ("arm16", D3_3, (96, 64), [3, 2, 5], RELU),
        ("arm32", D3_3, (128, 64), [2, 1, 2], RELU),
        ("attention", D2_1, (64, 64), [1, 1, 1], PLAIN),
        ("decode4", D3_3, (32, 16), [3, 5, 13], RELU),
        ("decode2", D3_3, (16, 8), [3, 7, 31], RELU),
        ("head", D3_3, (64, 16), [2, 3, 5], RELU),
        ("trilinear logits", D2_1, (16, 1), [3, 5, 7], PLAIN),
        ("cost skip", D2_1, (32, 8), [2, 3, 73], PLAIN),
        ("sum", D2_3, (8, 8), [1, 3, 17], SUM),
        ("sum of 48", D2_3, (16, 48), [1, 3, 13], SUM_RELU),
        ("sum over planes", D3_3, (8, 16), [3, 3, 19], SUM),
        ("sum of strided", D3_3S2, (8, 32), [4, 5, 23], SUM_RELU),
        ("one row", D2_3, (8, 16), [1, 1, 41], PLAIN),
        ("one column", D2_3, (8, 16), [1, 41, 1], PLAIN),
        ("one line of planes", D3_3, (8, 16), [41, 1, 1], PLAIN),
        ("rows that are handed out together", D2_1, (8, 8), [1, 67, 2], PLAIN),
        ("long rows", D2_3, (3, 8), [1, 2, 257], PLAIN),
    ];
    let mut report = Report::default();
    for &(name, layer, channels, size, epilogue) in cases {
        convolution(&mut report, name, layer, channels, size, epilogue);
    }
    report.finish(cases.len());
}

/// Widths below, at and above every register tile (4, 6, 8, 10, 12, 16 pixels), every kernel and stride, with the
/// channel counts that choose each block of channels.
#[test]
fn convolutions_of_every_width() {
    let mut report = Report::default();
    for (name, layer) in LAYERS {
        for width in (1..=37).chain([41, 47, 48, 49]) {
            let size = if layer.0[0] == 3 { [2, 2, width] } else { [1, 3, width] };
            for (channels, epilogue) in [((3, 8), PLAIN), ((2, 16), SUM_RELU), ((8, 1), RELU), ((1, 48), SUM)] {
                convolution(&mut report, name, layer, channels, size, epilogue);
            }
        }
    }
    report.finish(7 * 41 * 4);
}

#[test]
fn convolutions_of_every_channel_count() {
    let mut report = Report::default();
    for input in [1, 2, 3, 8, 16, 32, 48, 64, 96, 128] {
        for output in [1, 8, 16, 24, 32, 40, 48, 64, 80, 96, 128] {
            convolution(&mut report, "1x1", D2_1, (input, output), [1, 2, 17], RELU);
            convolution(&mut report, "2d 3x3", D2_3, (input, output), [1, 2, 5], PLAIN);
        }
    }
    report.finish(220);
}

/// Volumes and images smaller than the kernel.
#[test]
fn convolutions_of_tiny_extents() {
    let mut report = Report::default();
    for (name, layer) in LAYERS {
        for d in if layer.0[0] == 3 || layer.1[0] == 2 { 1..=3 } else { 1..=1 } {
            for (h, w) in (1..=5).flat_map(|h| (1..=5).map(move |w| (h, w))) {
                convolution(&mut report, name, layer, (8, 16), [d, h, w], SUM);
            }
        }
    }
    report.finish(25 * 13);
}

#[test]
fn joined_convolutions_are_the_two_side_by_side() {
    let mut report = Report::default();
    for (name, (kernel, stride), input, outputs, size) in [
        ("first", D3_3S2, 32, (16, 16), [3, 5, 13, 32]),
        ("unequal", D2_3, 8, (8, 48), [1, 3, 17, 8]),
        ("points", D2_1, 16, (32, 8), [1, 1, 1, 16]),
    ] {
        let mut rng = Random::new(name);
        let x = random(&mut rng, size);
        let mut half = |output: usize| {
            let weights = rng.values(input * output * kernel.iter().product::<usize>());
            let bias = rng.values(output);
            let conv = Conv::new((input, output), kernel, stride, &weights, &bias, Activation::Relu);
            let (channels, weights, bias) = ((input, output), &weights[..], &bias[..]);
            (conv, Convolution { channels, kernel, stride, weights, bias, relu: true }.apply(&volume(&x), None))
        };
        let ((a, truth_a), (b, truth_b)) = (half(outputs.0), half(outputs.1));
        let [d, h, w, _] = truth_a.shape;
        let truth = Volume::from_fn([d, h, w, outputs.0 + outputs.1], |[d, h, w, c]| match c {
            c if c < outputs.0 => truth_a.at([d, h, w, c]),
            c => truth_b.at([d, h, w, c - outputs.0]),
        });
        let joined = Conv::joined(&a, &b);
        assert_eq!(joined.flops(x.shape), a.flops(x.shape) + b.flops(x.shape));
        report.check(&format!("joined {name}"), &[&x], &[truth], &|cpu| vec![joined.forward(cpu, &x, None).unwrap()]);
    }
    report.finish(3);
}

#[test]
fn depthwise_convolutions() {
    let mut report = Report::default();
    for (channels, size) in [
        (8, [1, 1, 1]),
        (8, [2, 2, 2]),
        (16, [5, 7, 13]),
        (16, [1, 2, 3]),
        (32, [3, 5, 17]),
        (48, [2, 1, 31]),
        (64, [7, 3, 2]),
        (96, [1, 5, 5]),
        (96, [4, 3, 1]),
        (128, [3, 3, 3]),
    ] {
        for stride in [1, 2] {
            let [d, h, w] = size;
            let name = format!("depthwise s{stride} {channels} {size:?}");
            let mut rng = Random::new(&name);
            let weights = rng.values(channels * 27);
            let x = random(&mut rng, [d, h, w, channels]);
            let op = Depthwise::new(channels, stride, &weights);
            let truth = reference::depthwise(&volume(&x), stride, &weights);
            report.check(&name, &[&x], &[truth], &|cpu| vec![op.forward(cpu, &x).unwrap()]);
        }
    }
    report.finish(20);
}
