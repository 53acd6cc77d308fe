//! Upsampling by 2 and 8, with what is added to it.

use engine::cpu::device::Cpu;
use engine::cpu::ops::pointwise::relu_backward;
use engine::cpu::ops::resample::upsample_backward;
use engine::cuda::graph::{Graph, Value};
use engine::cuda::ops::resample;
use engine::cuda::storage::Element;
use engine::net::layers::Activation;
use engine::net::tensor::Shape;

use crate::backward::{Input, difference, forward, storage, tensor, with_gradients};
use crate::reference::{Random, Value as Bounded, Volume, upsample};
use crate::run::rounded;

fn shape(d: usize, h: usize, w: usize, c: usize) -> Shape {
    Shape { d, h, w, c }
}

/// Coarse shape, factor, fine extent: batches of planes, volumes, one sample, sizes that end before, at and after the
/// last sample, rows wider than a block, every pack.
fn cases() -> Vec<(Shape, usize, Shape)> {
    vec![
        (shape(1, 1, 1, 1), 2, shape(1, 1, 1, 0)),
        (shape(1, 1, 1, 4), 2, shape(2, 2, 3, 0)),
        (shape(3, 4, 5, 8), 2, shape(3, 7, 10, 0)),
        (shape(2, 3, 4, 16), 2, shape(4, 5, 7, 0)),
        (shape(2, 3, 3, 3), 2, shape(3, 6, 5, 0)),
        (shape(1, 2, 70, 48), 2, shape(1, 3, 139, 0)),
        (shape(2, 2, 3, 1), 8, shape(13, 9, 17, 0)),
        (shape(1, 2, 2, 4), 8, shape(1, 16, 11, 0)),
    ]
    .into_iter()
    .map(|(x, factor, size)| (x, factor, size.with_channels(x.c)))
    .collect()
}

fn input(random: &mut Random, element: Element, shape: Shape) -> Input {
    (shape, rounded(element, &random.values(shape.len())))
}

/// Element [z, y, x, c] of the f64 reference, which takes a volume's planes for a batch where their number stays.
fn expected(x: &Input, factor: usize, size: Shape) -> Vec<Bounded> {
    let from = x.0;
    let plane = from.h * from.w * from.c;
    let batch = from.d == size.d;
    let parts: Vec<Volume> = if batch {
        x.1.chunks(plane)
            .map(|p| upsample(&Volume::exact([1, from.h, from.w, from.c], p), factor, [1, size.h, size.w]))
            .collect()
    } else {
        vec![upsample(&Volume::exact([from.d, from.h, from.w, from.c], &x.1), factor, [size.d, size.h, size.w])]
    };
    let mut all = Vec::new();
    for z in 0..size.d {
        let (part, z) = if batch { (&parts[z], 0) } else { (&parts[0], z) };
        for i in 0..size.h * size.w * size.c {
            all.push(part.at([z, i / (size.w * size.c), i / size.c % size.w, i % size.c]));
        }
    }
    all
}

#[test]
pub fn forward_matches_f64() {
    for element in [Element::F32, Element::F16] {
        for (from, factor, size) in cases() {
            let mut random = Random::new("upsample");
            let x = input(&mut random, element, from);
            let skip = input(&mut random, element, size);
            let exact = expected(&x, factor, size);
            let plain = |g: &mut Graph, v: &[Value]| resample::upsample(g, "test", v[0], factor, size).unwrap();
            let Some(found) = forward(element, std::slice::from_ref(&x), plain) else { return };
            let mut results = vec![(found, exact.clone())];
            if factor == 2 {
                for relu in [false, true] {
                    let op = |g: &mut Graph, v: &[Value]| {
                        resample::upsample_add(g, "test", v[0], v[1], Activation::relu_if(relu)).unwrap()
                    };
                    let found = forward(element, &[x.clone(), skip.clone()], op).unwrap();
                    let sums = exact.iter().zip(&skip.1).map(|(&v, &s)| {
                        let sum = v + Bounded::exact(f64::from(s));
                        if relu { sum.relu() } else { sum }
                    });
                    results.push((found, sums.collect()));
                }
            }
            for (found, expected) in results {
                assert_eq!(found.len(), size.len());
                for (i, (&found, Bounded { v, e })) in found.iter().zip(expected).enumerate() {
                    let bound = e + storage(element, v);
                    assert!(
                        (f64::from(found) - v).abs() <= bound,
                        "{from} by {factor} to {size} {element:?} [{i}]: {found}, expected {v} within {bound}"
                    );
                }
            }
        }
    }
}

#[test]
fn gradients_are_the_cpus() {
    let cpu = Cpu::new();
    for (from, factor, size) in cases() {
        let mut random = Random::new("upsample gradients");
        let x = input(&mut random, Element::F32, from);
        let dy = random.values(size.len());
        let plain = |g: &mut Graph, v: &[Value]| resample::upsample(g, "test", v[0], factor, size).unwrap();
        let Some((_, found)) = with_gradients(std::slice::from_ref(&x), &dy, plain) else { return };
        let expected = upsample_backward(&cpu, &tensor(&(size, dy.clone())), factor, from).unwrap();
        // A sum of up to (2 factor - 1)^3 products of weights that add up to at most factor^3 (or the whole size
        // beyond the last sample), in another order: roundings of random signs of partial sums of at most that.
        let terms = size.positions().min((2 * factor - 1).pow(3)) as f64;
        let most = size.positions().min(8 * factor.pow(3)) as f64;
        let tolerance = 2.0 * terms.sqrt() * most / f64::from(1 << 24);
        assert!(difference(&found[0], &expected.data) <= tolerance, "{from} by {factor} to {size}");
        if factor != 2 {
            continue;
        }
        let skip = input(&mut random, Element::F32, size);
        for relu in [false, true] {
            let op = |g: &mut Graph, v: &[Value]| {
                resample::upsample_add(g, "test", v[0], v[1], Activation::relu_if(relu)).unwrap()
            };
            let (y, found) = with_gradients(&[x.clone(), skip.clone()], &dy, op).unwrap();
            let mut through = tensor(&(size, dy.clone()));
            if relu {
                through = relu_backward(&cpu, &tensor(&(size, y)), &through).unwrap();
            }
            assert_eq!(found[1], through.data.to_vec());
            let expected = upsample_backward(&cpu, &through, 2, from).unwrap();
            assert!(difference(&found[0], &expected.data) <= tolerance);
        }
    }
}
