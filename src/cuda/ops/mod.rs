//! The ops on a device: each file checks shapes, appends the launches of the kernel file of the same name to a graph,
//! and notes its gradients. Files that end in `_gradient`, `_library` or `_pack` are parts of the op before.
//!
//! Nothing runs here: a [`super::program::Program`] runs the graph. What several ops check stands below.

pub mod conv;
pub mod conv_gradient;
pub mod conv_library;
mod conv_pack;
pub mod depthwise;
pub mod head;
pub mod image;
pub mod loss;
pub mod narrow;
pub mod narrow_gradient;
pub mod norm;
pub mod optimizer;
pub mod pointwise;
pub mod reduce;
pub mod resample;
pub mod sweep;

use super::graph::{Graph, Value};
use super::storage::Element;
use crate::error::{Error, Result};
use crate::net::tensor::Shape;

/// How many neighbouring channels one thread moves: 16 bytes of them, else 4, else one (`kernels/packs.cuh`,
/// WITH_PACK).
pub(crate) fn pack(element: Element, channels: usize) -> usize {
    let widest = (16 / element.bytes()) as usize;
    if channels.is_multiple_of(widest) {
        widest
    } else if channels.is_multiple_of(4) {
        4
    } else {
        1
    }
}

/// An [`Error::Shape`] unless the value has this shape.
pub(crate) fn expect_shape(graph: &Graph, op: &'static str, what: &str, value: Value, expected: Shape) -> Result<()> {
    let found = graph.shape(value);
    if found == expected {
        return Ok(());
    }
    Err(Error::Shape { op, problem: format!("{what} {found}, expected {expected}") })
}

/// The element that all of the values have, one of f32 and f16.
pub(crate) fn expect_element(graph: &Graph, op: &'static str, values: &[Value]) -> Result<Element> {
    let all: Vec<Element> = values.iter().map(|&v| graph.element(v)).collect();
    match all.as_slice() {
        [first @ (Element::F32 | Element::F16), rest @ ..] if rest.iter().all(|e| e == first) => Ok(*first),
        _ => {
            let names: Vec<_> = all.iter().map(|e| e.suffix()).collect();
            let problem = format!("inputs of {}; expected f32, or f16, for all", names.join(", "));
            Err(Error::Shape { op, problem })
        }
    }
}

/// An [`Error::Shape`] unless all values are f32: what gradients and training take.
pub(crate) fn expect_f32(graph: &Graph, op: &'static str, values: &[Value]) -> Result<()> {
    let Some(other) = values.iter().map(|&v| graph.info(v)).find(|info| info.element != Element::F32) else {
        return Ok(());
    };
    let problem = format!("`{}` is {}; expected f32", other.name, other.element.suffix());
    Err(Error::Shape { op, problem })
}

/// An [`Error::Shape`] where a value has no element.
pub(crate) fn expect_some(graph: &Graph, op: &'static str, value: Value) -> Result<()> {
    let shape = graph.shape(value);
    if shape.is_empty() {
        return Err(Error::Shape { op, problem: format!("{shape} is empty") });
    }
    Ok(())
}
