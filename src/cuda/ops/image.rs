//! Photos on the device: normalised for the network, the levels of a pyramid, extended, in grey (`kernels/image.cu`).
//!
//! Photos are [V, H, W, 3], red green blue, as bytes or as f32 in 0..1; both are as
//! [`crate::cpu::ops::pointwise::normalize`], [`crate::scene::photo::Photo::pyramid_level`],
//! [`crate::scene::photo::Photo::padded_to_multiple_of_4`] and [`crate::cpu::ops::ncc::grey`] do it, to the bit.

use crate::cpu::ops::pointwise::{IMAGE_MEAN, IMAGE_STD};
use crate::cuda::graph::{Arg, Graph, Value, blocks, index, int, read, write};
use crate::cuda::storage::Element;
use crate::error::{Error, Result};
use crate::net::tensor::Shape;

/// New rows that a thread makes (`kernels/image.cu`).
const ROWS: usize = 4;

/// The photos' element as kernels name it.
fn source(graph: &Graph, op: &'static str, photos: Value) -> Result<&'static str> {
    let (shape, element) = (graph.shape(photos), graph.element(photos));
    if shape.c == 3 && !shape.is_empty() && matches!(element, Element::U8 | Element::F32) {
        return Ok(element.suffix());
    }
    let problem = format!("photos {shape} of {}; expected [V, H, W, 3] of u8 or f32", element.suffix());
    Err(Error::Shape { op, problem })
}

/// (photos - mean) / deviation with the network's constants, [V, H, W, 3] of `element`: what its first convolution
/// reads.
///
/// # Errors
/// [`Error::Shape`] where the photos are not [V, H, W, 3] of u8 or f32, or `element` is neither f32 nor f16.
pub fn normalise(graph: &mut Graph, label: &str, photos: Value, element: Element) -> Result<Value> {
    const OP: &str = "normalise";
    let from = source(graph, OP, photos)?;
    if !matches!(element, Element::F32 | Element::F16) {
        let problem = format!("to {}; expected f32 or f16", element.suffix());
        return Err(Error::Shape { op: OP, problem });
    }
    let shape = graph.shape(photos);
    let y = graph.temporary(format!("{label} normalised"), shape, element);
    let colours = Arg::plain([IMAGE_MEAN, IMAGE_STD, IMAGE_STD.map(|deviation| 1.0 / deviation)]);
    let args = vec![read(photos), write(y), index(shape.len()), colours];
    let kernel = format!("normalise_forward_{from}_{}", element.suffix());
    graph.launch(OP, label, kernel, blocks(shape.len().div_ceil(12), 256), [256, 1, 1], 0, args);
    graph.flops(2 * shape.len() as u64);
    Ok(y)
}

/// The next level of each photo, [V, ceil(H / 2), ceil(W / 2), 3] of f32.
///
/// # Errors
/// [`Error::Shape`] where the photos are not [V, H, W, 3] of u8 or f32.
pub fn pyramid_level(graph: &mut Graph, label: &str, photos: Value) -> Result<Value> {
    const OP: &str = "pyramid_level";
    let from = source(graph, OP, photos)?;
    let Shape { d, h, w, c } = graph.shape(photos);
    let shape = Shape { d, h: h.div_ceil(2), w: w.div_ceil(2), c };
    let y = graph.temporary(format!("{label} next level"), shape, Element::F32);
    let items = shape.w * 3;
    let parts = items.div_ceil(256);
    let threads = items.div_ceil(parts).next_multiple_of(32) as u32;
    let strips = shape.h.div_ceil(ROWS);
    let grid = [u32::try_from(d * strips * parts).map_err(|_| too_many(shape))?, 1, 1];
    let args = vec![read(photos), write(y), int(h), int(w), int(parts), int(strips)];
    graph.launch(OP, label, format!("pyramid_forward_{from}_f32"), grid, [threads, 1, 1], 0, args);
    graph.flops(24 * shape.len() as u64);
    Ok(y)
}

/// Each photo extended right and below to multiples of 4 by repeating the edge, of the same element; the photos
/// themselves where they are that large.
///
/// # Errors
/// [`Error::Shape`] where the photos are not [V, H, W, 3] of u8 or f32.
pub fn extended_to_multiple_of_4(graph: &mut Graph, label: &str, photos: Value) -> Result<Value> {
    const OP: &str = "extend";
    let from = source(graph, OP, photos)?;
    let Shape { h, w, .. } = graph.shape(photos);
    let shape = Shape { h: h.next_multiple_of(4), w: w.next_multiple_of(4), ..graph.shape(photos) };
    if (shape.h, shape.w) == (h, w) {
        return Ok(photos);
    }
    let y = graph.temporary(format!("{label} extended"), shape, graph.element(photos));
    let args = vec![read(photos), write(y), int(h), int(w), int(shape.h), int(shape.w), index(shape.len())];
    let kernel = format!("extend_forward_{from}");
    graph.launch(OP, label, kernel, blocks(shape.len(), 256), [256, 1, 1], 0, args);
    Ok(y)
}

/// The photos' grey values less 0.5, [V, H, W, 1] of f32.
///
/// # Errors
/// [`Error::Shape`] where the photos are not [V, H, W, 3] of u8 or f32.
pub fn grey(graph: &mut Graph, label: &str, photos: Value) -> Result<Value> {
    const OP: &str = "grey";
    let from = source(graph, OP, photos)?;
    let shape = graph.shape(photos).with_channels(1);
    let y = graph.temporary(format!("{label} grey"), shape, Element::F32);
    let args = vec![read(photos), write(y), index(shape.len())];
    let kernel = format!("grey_forward_{from}_f32");
    graph.launch(OP, label, kernel, blocks(shape.len().div_ceil(4), 256), [256, 1, 1], 0, args);
    graph.flops(6 * shape.len() as u64);
    Ok(y)
}

fn too_many(shape: Shape) -> Error {
    Error::Shape { op: "pyramid_level", problem: format!("{shape} needs more blocks than a grid has") }
}
