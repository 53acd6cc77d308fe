//! Means over planes and volumes.

use engine::cpu::device::Cpu;
use engine::cpu::ops::reduce as cpu_ops;
use engine::cuda::graph::{Graph, Value};
use engine::cuda::ops::reduce;
use engine::cuda::storage::Element;
use engine::net::tensor::Shape;

use crate::backward::{Input, difference, forward, storage, tensor, with_gradients};
use crate::reference::{Random, U, Volume, plane_mean, volume_mean};
use crate::run::rounded;

fn shapes() -> Vec<Shape> {
    vec![
        Shape { d: 1, h: 1, w: 1, c: 1 },
        Shape { d: 3, h: 2, w: 5, c: 3 },
        Shape { d: 2, h: 7, w: 3, c: 48 },
        Shape { d: 1, h: 1, w: 3, c: 128 },
        // Several chunks, the last of them shorter.
        Shape { d: 2, h: 37, w: 29, c: 8 },
        Shape { d: 1, h: 1, w: 2, c: 259 },
    ]
}

fn input(name: &str, element: Element, shape: Shape) -> Input {
    // Away from zero, so that the mean is not lost in its terms' roundings.
    let values: Vec<f32> = Random::new(name).values(shape.len()).iter().map(|v| v + 0.75).collect();
    (shape, rounded(element, &values))
}

#[test]
pub fn means_match_f64() {
    for element in [Element::F32, Element::F16] {
        for shape in shapes() {
            let x = input("means", element, shape);
            let exact = Volume::exact([shape.d, shape.h, shape.w, shape.c], &x.1);
            let planes = |g: &mut Graph, v: &[Value]| reduce::plane_mean(g, "test", v[0]).unwrap();
            let volume = |g: &mut Graph, v: &[Value]| reduce::volume_mean(g, "test", v[0]).unwrap();
            let Some(by_plane) = forward(element, std::slice::from_ref(&x), planes) else { return };
            let whole = forward(element, std::slice::from_ref(&x), volume).unwrap();
            for (found, expected) in [(by_plane, plane_mean(&exact)), (whole, volume_mean(&exact))] {
                let [d, _, _, c] = expected.shape;
                assert_eq!(found.len(), d * c);
                for (i, &found) in found.iter().enumerate() {
                    let expected = expected.at([i / c, 0, 0, i % c]);
                    // Three additions in f32 of values up to 1.75, at most 7 together, before f64 takes over.
                    let bound = expected.e + 3.0 * 7.0 / 4.0 * U + storage(element, expected.v);
                    assert!(
                        (f64::from(found) - expected.v).abs() <= bound,
                        "{shape} {element:?} [{i}]: {found}, {expected:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn gradients_are_the_cpus() {
    let cpu = Cpu::new();
    for shape in shapes() {
        let x = input("mean gradients", Element::F32, shape);
        let of_planes = Shape { h: 1, w: 1, ..shape };
        let of_volume = Shape { d: 1, ..of_planes };
        let dy = Random::new("dy").values(of_planes.len());
        let planes = |g: &mut Graph, v: &[Value]| reduce::plane_mean(g, "test", v[0]).unwrap();
        let volume = |g: &mut Graph, v: &[Value]| reduce::volume_mean(g, "test", v[0]).unwrap();
        let Some((_, found)) = with_gradients(std::slice::from_ref(&x), &dy, planes) else { return };
        let expected = cpu_ops::plane_mean_backward(&cpu, &tensor(&(of_planes, dy.clone())), shape).unwrap();
        // The same quotient in f64, rounded once.
        assert_eq!(difference(&found[0], &expected.data), 0.0);
        let dy = dy[..shape.c].to_vec();
        let (_, found) = with_gradients(&[x], &dy, volume).unwrap();
        let expected = cpu_ops::volume_mean_backward(&cpu, &tensor(&(of_volume, dy)), shape).unwrap();
        assert_eq!(difference(&found[0], &expected.data), 0.0);
    }
}
