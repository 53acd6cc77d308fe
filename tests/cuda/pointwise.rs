//! Sums and gates.

use engine::cuda::graph::Element;
use engine::cuda::ops::pointwise;
use engine::tensor::Shape;

use crate::reference::Random;
use crate::run::run;

#[test]
fn add_is_the_sum() {
    let shape = Shape { d: 3, h: 5, w: 7, c: 4 };
    let mut random = Random::new("add");
    let (a, b) = (random.values(shape.len()), random.values(shape.len()));
    let Some(found) = run(|graph| {
        let (x, y) = (graph.input("a", shape, Element::F32), graph.input("b", shape, Element::F32));
        let sum = pointwise::add(graph, "test", x, y).unwrap();
        (vec![(x, a.clone()), (y, b.clone())], vec![sum])
    }) else {
        return;
    };
    // One rounding, the same on every device.
    assert!(found[0].iter().zip(a.iter().zip(&b)).all(|(s, (a, b))| *s == a + b));
}
