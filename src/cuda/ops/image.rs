//! Photos as the network sees them (`kernels/image.cu`).

use crate::cuda::graph::{Element, Graph, Value, blocks, index, read, write};
use crate::error::{Error, Result};

/// (rgb - mean) / deviation: photos [V, H, W, 3] f32 in 0..1, the result in `element`.
///
/// # Errors
/// [`Error::Shape`] where there are not three channels.
pub fn normalize(graph: &mut Graph, label: &str, photo: Value, element: Element) -> Result<Value> {
    let shape = graph.shape(photo);
    if shape.c != 3 || shape.is_empty() || graph.element(photo) != Element::F32 {
        return Err(Error::Shape { op: "normalize", problem: format!("photo {shape}; expected C = 3, f32") });
    }
    let y = graph.temporary(format!("{label} image"), shape, element);
    let args = vec![read(photo), write(y), index(shape.len())];
    let kernel = format!("normalize_forward_{}", element.suffix());
    graph.launch("normalize", label, kernel, blocks(shape.len(), 256), [256, 1, 1], 0, args);
    Ok(y)
}
