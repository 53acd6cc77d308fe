//! Element by element: sums, gates, the ReLU's gradient (`kernels/pointwise.cu`).

use crate::cuda::graph::{Graph, Value, blocks, index, read, write};
use crate::error::{Error, Result};

/// a + b, of one shape: two gradients of one value, say.
///
/// # Errors
/// [`Error::Shape`] where the shapes differ.
pub fn add(graph: &mut Graph, label: &str, a: Value, b: Value) -> Result<Value> {
    let shape = graph.shape(a);
    if graph.shape(b).len() != shape.len() || graph.element(a) != graph.element(b) {
        return Err(Error::Shape { op: "add", problem: format!("{shape} and {}", graph.shape(b)) });
    }
    let element = graph.element(a);
    let y = graph.temporary(format!("{label} sum"), shape, element);
    let args = vec![read(a), read(b), write(y), index(shape.len())];
    graph.launch(
        "add",
        label,
        format!("add_{}", element.suffix()),
        blocks(shape.len(), 256),
        [256, 1, 1],
        0,
        args,
    );
    Ok(y)
}
