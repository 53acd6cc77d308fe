//! Photos: normalised, the next level of a pyramid, extended, in grey, to the bit.

use std::sync::Arc;

use engine::cpu::device::Cpu;
use engine::cpu::ops::ncc;
use engine::cpu::ops::pointwise::normalize;
use engine::cuda::driver::Driver;
use engine::cuda::graph::{Graph, Value};
use engine::cuda::ops::image;
use engine::cuda::storage::Element;
use engine::net::tensor::Shape;
use engine::scene::photo::Photo;

use crate::emulator::Build;
use crate::reference::Random;
use crate::run::{program_apart, rounded};
use crate::test_device::test_device;

/// What a graph of one op makes of photos given as bytes of `element`.
fn made(
    photos: &[u8],
    (shape, element): (Shape, Element),
    op: impl Fn(&mut Graph, Value) -> Value,
) -> Option<Vec<f32>> {
    let device: Arc<dyn Driver> = test_device(Build::Checked)?;
    let mut graph = Graph::new();
    let input = graph.input("photos", shape, element);
    let y = op(&mut graph, input);
    graph.keep(y);
    let mut program = program_apart(&device, graph).unwrap();
    program.upload(input, photos).unwrap();
    program.run().unwrap_or_else(|error| panic!("{error}"));
    Some(program.download_f32(y).unwrap())
}

/// Photos of one size as bytes, as the f32 that a decoder makes of them, and as the processor's photos.
fn photos(count: usize, width: usize, height: usize) -> (Vec<u8>, Vec<u8>, Vec<Photo>) {
    let mut random = Random::new("photos");
    // Every byte is among them where there is room.
    let n = count * width * height * 3;
    let bytes: Vec<u8> =
        (0..n).map(|i| if i % 2 == 0 { (i / 2) as u8 } else { random.within(0.0, 255.9) as u8 }).collect();
    let values: Vec<f32> = bytes.iter().map(|&b| f32::from(b) / 255.0).collect();
    let one = |rgb: &[f32]| Photo { width, height, rgb: rgb.to_vec() };
    let all = values.chunks(width * height * 3).map(one).collect();
    (bytes, bytemuck::cast_slice(&values).to_vec(), all)
}

const SIZES: [(usize, usize, usize); 5] = [(1, 1, 1), (1, 2, 3), (2, 5, 7), (3, 31, 9), (1, 100, 16)];

#[test]
fn normalised_photos_are_the_cpus_to_the_bit() {
    let cpu = Cpu::new();
    for (count, width, height) in SIZES {
        let (bytes, floats, photos) = photos(count, width, height);
        let shape = Shape { d: count, h: height, w: width, c: 3 };
        let expected: Vec<f32> = photos.iter().flat_map(|photo| normalize(&cpu, photo).data.to_vec()).collect();
        for (given, from) in [(&bytes, Element::U8), (&floats, Element::F32)] {
            for to in [Element::F32, Element::F16] {
                let op = |graph: &mut Graph, x| image::normalise(graph, "test", x, to).unwrap();
                let Some(found) = made(given, (shape, from), op) else { return };
                assert_eq!(found, rounded(to, &expected), "{shape} of {from:?} to {to:?}");
            }
        }
    }
}

#[test]
fn every_byte_is_normalised_to_the_bit() {
    // One pixel for each byte: all channels see all of them.
    let bytes: Vec<u8> = (0..=255u8).flat_map(|b| [b; 3]).collect();
    let rgb: Vec<f32> = bytes.iter().map(|&b| f32::from(b) / 255.0).collect();
    let expected = normalize(&Cpu::new(), &Photo { width: 256, height: 1, rgb });
    let op = |graph: &mut Graph, x| image::normalise(graph, "test", x, Element::F32).unwrap();
    let Some(found) = made(&bytes, (Shape::plane(1, 256, 3), Element::U8), op) else { return };
    assert_eq!(found, expected.data.to_vec());
}

#[test]
fn pyramid_levels_are_the_cpus_to_the_bit() {
    for (count, width, height) in SIZES.into_iter().chain([(1, 2, 1), (2, 1, 13), (1, 203, 3)]) {
        let (bytes, floats, photos) = photos(count, width, height);
        let shape = Shape { d: count, h: height, w: width, c: 3 };
        let expected: Vec<f32> = photos.iter().flat_map(|photo| photo.pyramid_level().rgb).collect();
        for (given, from) in [(&bytes, Element::U8), (&floats, Element::F32)] {
            let op = |graph: &mut Graph, x| image::pyramid_level(graph, "test", x).unwrap();
            let Some(found) = made(given, (shape, from), op) else { return };
            assert_eq!(found, expected, "{shape} of {from:?}");
        }
    }
}

#[test]
fn extended_photos_are_the_cpus_to_the_bit() {
    for (count, width, height) in SIZES {
        let (bytes, floats, photos) = photos(count, width, height);
        let shape = Shape { d: count, h: height, w: width, c: 3 };
        let expected: Vec<f32> = photos.iter().flat_map(|photo| photo.padded_to_multiple_of_4().rgb).collect();
        for (given, from) in [(&bytes, Element::U8), (&floats, Element::F32)] {
            let op = |graph: &mut Graph, x| {
                let y = image::extended_to_multiple_of_4(graph, "test", x).unwrap();
                let as_they_are = width % 4 == 0 && height % 4 == 0;
                assert_eq!(y == x, as_they_are);
                // What is kept must be made by a step.
                if as_they_are { image::normalise(graph, "test", x, Element::F32).unwrap() } else { y }
            };
            let Some(found) = made(given, (shape, from), op) else { return };
            if width % 4 == 0 && height % 4 == 0 {
                continue;
            }
            let of_element = |v: f32| if from == Element::U8 { v / 255.0 } else { v };
            assert_eq!(found.into_iter().map(of_element).collect::<Vec<_>>(), expected, "{shape} of {from:?}");
        }
    }
}

#[test]
fn grey_photos_are_the_cpus_to_the_bit() {
    for (count, width, height) in SIZES {
        let (bytes, floats, photos) = photos(count, width, height);
        let shape = Shape { d: count, h: height, w: width, c: 3 };
        let expected: Vec<f32> = photos.iter().flat_map(|photo| ncc::grey(photo).data.to_vec()).collect();
        for (given, from) in [(&bytes, Element::U8), (&floats, Element::F32)] {
            let op = |graph: &mut Graph, x| image::grey(graph, "test", x).unwrap();
            let Some(found) = made(given, (shape, from), op) else { return };
            assert_eq!(found, expected, "{shape} of {from:?}");
        }
    }
}

#[test]
fn other_photos_are_refused() {
    let mut graph = Graph::new();
    let x = graph.input("x", Shape::plane(4, 5, 4), Element::U8);
    let message = image::normalise(&mut graph, "test", x, Element::F32).unwrap_err().to_string();
    assert_eq!(message, "normalise: photos [D 1, H 4, W 5, C 4] of u8; expected [V, H, W, 3] of u8 or f32");
}
