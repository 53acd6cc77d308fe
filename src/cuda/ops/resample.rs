//! Linear upsampling, alone or fused with the addition of a skip connection and ReLU (`kernels/resample.cu`).

use super::pointwise::through_relu;
use crate::cuda::graph::{Arg, Element, Graph, Value, blocks, int, read, read_or_null, write};
use crate::error::{Error, Result};
use crate::tensor::Shape;

const THREADS: u32 = 256;
const OP: &str = "upsample";

/// `struct Extents` of the kernels.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Extents {
    x: [i32; 3],
    y: [i32; 4],
    factors: [i32; 2],
}

impl Extents {
    /// Where a volume keeps its depth, planes are a batch of images.
    fn new(x: Shape, y: Shape, factor: usize) -> Self {
        let factor_d = if x.d == y.d { 1 } else { factor };
        let ints = |values: &[usize]| -> Vec<i32> { values.iter().map(|&v| v as i32).collect() };
        let (x, y) = (ints(&[x.d, x.h, x.w]), ints(&[y.d, y.h, y.w, y.c]));
        Self { x: [x[0], x[1], x[2]], y: [y[0], y[1], y[2], y[3]], factors: [factor_d as i32, factor as i32] }
    }
}

/// `relu?(upsample(x) + skip)` over `size`'s extent, with x's channels: 1, or a multiple of 4.
fn launch(
    graph: &mut Graph,
    label: &str,
    (x, skip): (Value, Option<Value>),
    factor: usize,
    size: Shape,
    relu: bool,
) -> Result<Value> {
    let (small, element) = (graph.shape(x), graph.element(x));
    let size = size.with_channels(small.c);
    let fits = (small.c == 1 || small.c.is_multiple_of(4)) && !small.is_empty() && !size.is_empty();
    if !fits || factor == 0 || skip.is_some_and(|s| graph.shape(s) != size || graph.element(s) != element) {
        let skip = skip.map_or(String::new(), |s| format!(" with skip {}", graph.shape(s)));
        return Err(Error::Shape { op: OP, problem: format!("{small} to {size}{skip}") });
    }
    let extents = Extents::new(small, size, factor);
    let y = graph.temporary(format!("{label} upsampled"), size, element);
    let args = vec![read(x), read_or_null(skip), write(y), Arg::plain(extents), int(usize::from(relu))];
    let threads = size.len() / if size.c == 1 { 1 } else { 4 };
    let kernel = format!("upsample_forward_{}", element.suffix());
    graph.launch(OP, label, kernel, blocks(threads, THREADS), [THREADS, 1, 1], 0, args);
    let name = label.to_owned();
    let inputs: Vec<Value> = std::iter::once(x).chain(skip).collect();
    graph.record(label, &inputs, y, move |graph, gradient, wanted| {
        let through = if relu { through_relu(graph, &name, y, gradient)? } else { gradient };
        let mut gradients = vec![None];
        if wanted[0] {
            let dx = graph.temporary(format!("{name} gradient"), small, Element::F32);
            let args = vec![read(through), write(dx), Arg::plain(extents)];
            let threads = small.len() / if small.c == 1 { 1 } else { 4 };
            graph.launch(
                OP,
                &name,
                "upsample_backward_f32",
                blocks(threads, THREADS),
                [THREADS, 1, 1],
                0,
                args,
            );
            gradients[0] = Some(dx);
        }
        gradients.extend(skip.map(|_| Some(through)));
        Ok(gradients)
    });
    Ok(y)
}

/// `upsample(x)` over `size`'s extent, read at index / factor.
///
/// # Errors
/// [`Error::Shape`] where something is empty.
pub fn upsample(graph: &mut Graph, label: &str, x: Value, factor: usize, size: Shape) -> Result<Value> {
    launch(graph, label, (x, None), factor, size, false)
}

/// `relu?(upsample(x) + skip)` by a factor of 2, over skip's extent.
///
/// # Errors
/// [`Error::Shape`] where the channels differ or something is empty.
pub fn upsample_add(graph: &mut Graph, label: &str, x: Value, skip: Value, relu: bool) -> Result<Value> {
    let size = graph.shape(skip);
    launch(graph, label, (x, Some(skip)), 2, size, relu)
}
