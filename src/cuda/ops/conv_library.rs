//! Convolutions by cuDNN instead of the engine's own kernels, for inference: bias, residual and ReLU fused, weights
//! [CO, KD, KH, KW, CI].
//!
//! Which of the two is faster for a layer depends on the GPU; `--convolutions cudnn` takes cuDNN for every layer but
//! the two that read the cost volume (those share its slabs). The algorithm is fixed, so results are the same on each
//! run.

use std::sync::Arc;

use super::conv;
use crate::cpu::ops::conv_backward::ConvGeometry;
use crate::cuda::convolution::Call;
use crate::cuda::driver::Driver;
use crate::cuda::graph::{Arg, Graph, Value, Work, read, read_or_null, write};
use crate::cuda::storage::Element;
use crate::error::{Error, Result};
use crate::net::layers::Activation;
use crate::net::tensor::Shape;

/// Workspace that a layer may take; one that wants more is computed by the engine's own kernel.
const MOST_WORKSPACE: u64 = 256 << 20;

/// A layer's weights and what follows it.
pub struct Layer<'a> {
    /// Channels, kernel, stride.
    pub geometry: ConvGeometry,
    /// PyTorch's order.
    pub weights: &'a [f32],
    /// One an output channel.
    pub bias: &'a [f32],
    /// Whether ReLU follows.
    pub relu: bool,
    /// Of x and y.
    pub element: Element,
}

/// y = relu?(w * x + bias + residual), by the device's library, or by the engine's kernels where that cannot do it or
/// wants too much workspace.
///
/// # Errors
/// [`Error::Shape`] where something does not fit the layer; the device's, where it has no such library.
pub fn conv(
    graph: &mut Graph,
    driver: &Arc<dyn Driver>,
    label: &str,
    x: Value,
    layer: &Layer,
    residual: Option<Value>,
) -> Result<Value> {
    let Layer { geometry, weights, bias, relu, element } = *layer;
    let (ci, co) = geometry.channels;
    let shape = conv::expect_input(graph, label, x, &geometry, element)?;
    if weights.len() != geometry.weights() || bias.len() != co || residual.is_some_and(|r| graph.shape(r) != shape) {
        let problem = format!("{} weights, {} biases at {label} for {geometry:?}", weights.len(), bias.len());
        return Err(Error::Shape { op: "convolution", problem });
    }
    let mut call = Call {
        input: graph.shape(x),
        output: shape,
        kernel: geometry.kernel,
        stride: geometry.stride,
        element,
        tf32: false,
        relu,
        workspace: 0,
    };
    let wanted = driver.convolution_workspace(&call)?.filter(|&bytes| bytes <= MOST_WORKSPACE);
    let Some(workspace) = wanted else {
        let own = conv::layer(graph, label, geometry, weights, bias, Activation::relu_if(relu), element)?;
        return conv::conv(graph, label, x, &own, residual);
    };
    call.workspace = workspace;
    let taps = geometry.kernel.iter().product::<usize>();
    let at = |o: usize, t: usize, i: usize| weights[(o * ci + i) * taps + t];
    let ordered: Vec<f32> =
        (0..co).flat_map(|o| (0..taps).flat_map(move |t| (0..ci).map(move |i| at(o, t, i)))).collect();
    let w = graph.constant(format!("{label} weights"), Shape::plane(1, taps, co * ci), element, &ordered);
    let b = graph.constant(format!("{label} bias"), Shape::plane(1, 1, co), element, bias);
    let y = graph.temporary(format!("{label} output"), shape, element);
    let workspace = match call.workspace {
        0 => Arg::Null,
        bytes => write(graph.temporary(format!("{label} workspace"), Shape::plane(1, 1, bytes as usize), Element::U8)),
    };
    let args = vec![read(x), read(w), read(b), read_or_null(residual), write(y), workspace];
    let flops = conv::flops(&geometry, shape);
    let work = Work::Convolution(call);
    graph.push("convolution", label, work, args);
    graph.flops(flops);
    Ok(y)
}
