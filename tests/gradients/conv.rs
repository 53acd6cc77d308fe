//! Convolution: linear in its input, its weights and its bias.

use engine::cpu::device::Cpu;
use engine::cpu::ops::conv::Conv;
use engine::cpu::ops::conv_backward::ConvGeometry;
use engine::net::layers::Activation;
use engine::net::tensor::Shape;

use super::*;

fn check(cpu: &Cpu, geometry: ConvGeometry, x: Shape) {
    let what = format!("{geometry:?} on {x}, {}", cpu.level().name());
    let (ci, co) = geometry.channels;
    let mut random = Random::new(x.len() as u64 * 31 + geometry.weights() as u64);
    let weights = random.values(geometry.weights());
    let bias = random.values(co);
    let (kernel, stride) = (geometry.kernel, geometry.stride);
    let forward = |weights: &[f32], bias: &[f32], x: &Tensor| {
        Conv::new((ci, co), kernel, stride, weights, bias, Activation::Linear).forward(cpu, x, None).unwrap()
    };
    let x = random.tensor(Shape { c: ci, ..x });
    let dy = random.tensor(geometry.output_shape(x.shape));
    let taps: usize = kernel.iter().product();
    let y = forward(&weights, &vec![0.0; co], &x);
    let left = dot(&y.data, &dy.data);

    let dx = geometry.backward_input(cpu, &weights, x.shape, &dy).unwrap();
    assert_eq!(dx.shape, x.shape);
    // A sum whose terms nearly cancel says nothing about the gradient: x' = x + c dx moves it away from zero.
    let moved: Vec<f32> = x.data.iter().zip(dx.data.iter()).map(|(x, d)| x + 0.5 * d).collect();
    let moved = Tensor::from_slice(x.shape, &moved).unwrap();
    let y_moved = forward(&weights, &vec![0.0; co], &moved);
    let terms = taps * ci.max(co);
    expect_adjoint(&format!("input of {what}"), dot(&y_moved.data, &dy.data), dot(&moved.data, &dx.data), terms);

    let (dw, db) = on_any_number_of_threads(&what, || geometry.backward_weights(cpu, &x, &dy).unwrap());
    let w_moved: Vec<f32> = weights.iter().zip(&dw).map(|(w, d)| w + 0.5 * d).collect();
    let y_moved = forward(&w_moved, &vec![0.0; co], &x);
    let positions = dy.shape.positions();
    expect_adjoint(
        &format!("weights of {what}"),
        dot(&y_moved.data, &dy.data),
        dot(&w_moved, &dw),
        positions + taps * ci,
    );
    // With a bias b, y grows by b everywhere.
    let with_bias = forward(&weights, &bias, &x);
    let grown = dot(&with_bias.data, &dy.data);
    let expected = dot(&bias, &db).0 + left.0;
    let bound = 8.0 * f64::from(f32::EPSILON) * (terms as f64).sqrt() * grown.1.max(left.1);
    assert!((grown.0 - expected).abs() <= bound, "bias of {what}: {} against {expected}", grown.0);
}

fn d3(side: usize, stride: usize, channels: (usize, usize)) -> ConvGeometry {
    ConvGeometry { channels, kernel: [side; 3], stride: [stride; 3] }
}

fn d2(side: usize, stride: usize, channels: (usize, usize)) -> ConvGeometry {
    ConvGeometry { channels, kernel: [1, side, side], stride: [1, stride, stride] }
}

#[test]
fn gradients_are_adjoint() {
    let shape = |d, h, w| Shape { d, h, w, c: 0 };
    for cpu in devices(200_000) {
        // Every kind of layer that the network has.
        for geometry in [d2(3, 1, (3, 8)), d2(3, 1, (8, 8)), d2(5, 2, (8, 16)), d2(3, 2, (32, 48)), d2(1, 1, (64, 48))]
        {
            for x in [shape(1, 1, 1), shape(1, 2, 3), shape(1, 7, 5), shape(1, 12, 17), shape(1, 9, 34)] {
                check(&cpu, geometry, x);
            }
        }
        for geometry in [
            d3(3, 1, (16, 8)),
            d3(3, 2, (32, 32)),
            d3(3, 2, (16, 32)),
            d3(3, 1, (8, 1)),
            d3(1, 1, (128, 64)),
            d3(1, 2, (16, 32)),
            d3(1, 1, (16, 1)),
            d3(3, 1, (24, 40)),
        ] {
            for x in [shape(1, 1, 1), shape(2, 3, 4), shape(5, 6, 7), shape(3, 5, 17)] {
                check(&cpu, geometry, x);
            }
        }
        // So many positions that the weights' gradient is summed up in all its parts.
        check(&cpu, d3(3, 1, (8, 16)), shape(4, 20, 33));
        check(&cpu, d2(5, 2, (3, 24)), shape(1, 91, 97));
    }
}

#[test]
fn shapes_that_do_not_fit_are_named() {
    let cpu = Cpu::new();
    let x = Shape { d: 2, h: 3, w: 4, c: 8 };
    let geometry = d3(3, 2, (8, 16));
    let dy = Tensor::zeros(x.with_channels(16));
    let weights = vec![0.0; geometry.weights()];
    let message = geometry.backward_input(&cpu, &weights, x, &dy).err().unwrap().to_string();
    let expected = "convolution gradient: output gradient [D 2, H 3, W 4, C 16], expected [D 1, H 2, W 2, C 16]";
    assert_eq!(message, expected);
    let x = Tensor::zeros(x.with_channels(4));
    let message = geometry.backward_weights(&cpu, &x, &dy).err().unwrap().to_string();
    assert_eq!(message, "convolution gradient: input [D 2, H 3, W 4, C 4], expected C = 8");
}
