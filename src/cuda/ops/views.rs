//! The feature maps of all views as those of the reference and of its sources.

use crate::cuda::graph::{Graph, Value};
use crate::error::{Error, Result};
use crate::tensor::Shape;

/// [V, H, W, C] -> [1, H, W, C] and [V - 1, H, W, C]: copies, since a value is one piece of memory.
///
/// # Errors
/// [`Error::Shape`] with fewer than two views.
pub fn split(graph: &mut Graph, label: &str, features: Value) -> Result<(Value, Value)> {
    let all = graph.shape(features);
    if all.d < 2 {
        return Err(Error::Shape { op: "views", problem: format!("features {all}; at least two views") });
    }
    let element = graph.element(features);
    let (one, rest) = (Shape { d: 1, ..all }, Shape { d: all.d - 1, ..all });
    let bytes = |shape: Shape| shape.len() as u64 * element.bytes();
    let reference = graph.temporary(format!("{label} reference"), one, element);
    let stack = graph.temporary(format!("{label} sources"), rest, element);
    graph.copy(label, (features, 0), (reference, 0), bytes(one));
    graph.copy(label, (features, bytes(one)), (stack, 0), bytes(rest));
    // Each part's gradient is the whole's where the part lies, and zero elsewhere.
    for (part, shape, at) in [(reference, one, 0), (stack, rest, bytes(one))] {
        let name = label.to_owned();
        graph.record(label, &[features], part, move |graph, gradient, _| {
            let whole = graph.temporary(format!("{name} gradient"), all, element);
            graph.fill(whole, 0);
            graph.copy(&name, (gradient, 0), (whole, at), shape.len() as u64 * element.bytes());
            Ok(vec![Some(whole)])
        });
    }
    Ok((reference, stack))
}
