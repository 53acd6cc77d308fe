//! Dense convolutions (`kernels/conv.cu`, `kernels/conv_direct.cu`): layers with fixed weights for inference, and what
//! training shares with them.
//!
//! x [D, H, W, CI], y [ceil(D/s), ceil(H/s), ceil(W/s), CO], zero padding of half the kernel; a 2D convolution takes
//! planes as a batch. Weights come in PyTorch's order. Where tensor cores serve a layer ([`algorithm`]) they are
//! packed here as f16 in the order in which the lanes of a warp read them; otherwise they stay as they are, in f32.
//! Training is in [`super::conv_gradient`].

use bytemuck::{Pod, Zeroable};

use super::conv_pack::{pack_pointwise, pack_tiles};
use crate::cpu::ops::conv_backward::ConvGeometry;
use crate::cuda::graph::{Arg, Graph, Value, read, read_or_null, write};
use crate::cuda::storage::Element;
use crate::error::{Error, Result};
use crate::net::layers::Activation;
use crate::net::tensor::Shape;

const OP: &str = "convolution";

/// Blocks that keep an H100 busy: two for each of its 132 multiprocessors.
const ENOUGH_BLOCKS: usize = 264;

/// Output planes that a block walks through at most: past that, reading two planes more for each run costs nothing.
const MOST_PLANES: usize = 32;

/// Bytes of shared memory that let at least three blocks live on an H100's multiprocessor, and one on any since Turing.
const LARGE_STAGES: usize = 64 << 10;

/// Which kernel does a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// Products in f32: everything in f32, and what no other kernel does.
    Direct,
    /// Tensor cores over a halo in shared memory.
    Tiles {
        /// Input channels at a time.
        chunk: usize,
        /// Output channels of a block.
        group: usize,
    },
    /// Tensor cores, one tap.
    Pointwise {
        /// Output channels of a block.
        group: usize,
    },
}

/// The tile kernels that `kernels/conv.cu` has: kernel, stride, and pairs of input channels at a time and output
/// channels of a block, the best first.
type Tiles = ([usize; 3], [usize; 3], &'static [(usize, usize)]);
const TILES: [Tiles; 6] = [
    ([1, 3, 3], [1, 1, 1], &[(32, 32), (16, 16), (8, 8)]),
    ([1, 3, 3], [1, 2, 2], &[(16, 32), (16, 16), (8, 32)]),
    ([1, 5, 5], [1, 2, 2], &[(16, 32), (8, 16)]),
    ([3, 3, 3], [1, 1, 1], &[(32, 32), (32, 16), (16, 16), (16, 8), (8, 8)]),
    ([3, 3, 3], [2, 2, 2], &[(16, 32)]),
    ([3, 3, 3], [1, 2, 2], &[(16, 32), (16, 16), (8, 16)]),
];

/// The kernel for a layer: tensor cores in f16 wherever they have one that wastes no output channels, since all layers
/// but the deepest are then bound by memory; the direct one otherwise.
pub fn algorithm(geometry: &ConvGeometry, element: Element) -> Algorithm {
    let (ci, co) = geometry.channels;
    if element != Element::F16 {
        return Algorithm::Direct;
    }
    if geometry.kernel == [1; 3] && ci.is_multiple_of(8) {
        let group = [32, 16].into_iter().find(|&n| co.is_multiple_of(n)).unwrap_or(8);
        return Algorithm::Pointwise { group };
    }
    let same = |t: &&Tiles| t.0 == geometry.kernel && t.1 == geometry.stride;
    let pairs = TILES.iter().find(same).map_or(&[][..], |t| t.2);
    // Chunks of 8 channels are filled up with zeros, and so are groups of 8.
    let fits = |&&(chunk, group): &&(usize, usize)| {
        (ci.is_multiple_of(chunk) || chunk == 8) && (co.is_multiple_of(group) || group == 8)
    };
    match pairs.iter().find(fits) {
        Some(&(chunk, group)) => Algorithm::Tiles { chunk, group },
        None => Algorithm::Direct,
    }
}

/// A convolution with fixed weights, ready for a graph's launches.
#[derive(Clone, Copy, Debug)]
pub struct ConvLayer {
    /// Channels, kernel, stride.
    pub geometry: ConvGeometry,
    /// In the order of the kernel that [`algorithm`] names.
    pub weights: Value,
    /// CO values, f32.
    pub bias: Value,
    /// Whether ReLU follows.
    pub relu: bool,
    /// Of x and y.
    pub element: Element,
}

/// Weights [CO, CI, KD, KH, KW] (2D: [CO, CI, KH, KW]) with the norm folded in, and CO biases, as constants of the
/// graph.
///
/// # Errors
/// [`Error::Shape`] where their numbers do not fit the geometry.
pub fn layer(
    graph: &mut Graph,
    name: &str,
    geometry: ConvGeometry,
    weights: &[f32],
    bias: &[f32],
    activation: Activation,
    element: Element,
) -> Result<ConvLayer> {
    let relu = activation.is_relu();
    expect_supported(&geometry, element)?;
    if weights.len() != geometry.weights() || bias.len() != geometry.channels.1 {
        let problem = format!("{} weights and {} biases at {name} for {geometry:?}", weights.len(), bias.len());
        return Err(Error::Shape { op: OP, problem });
    }
    let weights_name = format!("{name} weights");
    let packed = match algorithm(&geometry, element) {
        Algorithm::Direct => None,
        Algorithm::Tiles { chunk, group } => Some(pack_tiles(&geometry, weights, chunk, group)),
        Algorithm::Pointwise { group } => Some(pack_pointwise(&geometry, weights, group)),
    };
    let weights = match packed {
        None => graph.constant(weights_name, Shape::plane(1, 1, weights.len()), Element::F32, weights),
        Some(packed) => graph.constant(weights_name, Shape::plane(1, 1, packed.len()), Element::F16, &packed),
    };
    let bias = graph.constant(format!("{name} bias"), Shape::plane(1, 1, bias.len()), Element::F32, bias);
    Ok(ConvLayer { geometry, weights, bias, relu, element })
}

/// y = relu?(w * x + bias + residual).
///
/// # Errors
/// [`Error::Shape`] where x or the residual do not fit the layer.
pub fn conv(graph: &mut Graph, label: &str, x: Value, layer: &ConvLayer, residual: Option<Value>) -> Result<Value> {
    let shape = expect_input(graph, label, x, &layer.geometry, layer.element)?;
    if let Some(residual) = residual
        && (graph.shape(residual) != shape || graph.element(residual) != layer.element)
    {
        let problem = format!("residual {} at {label}, expected {shape}", graph.shape(residual));
        return Err(Error::Shape { op: OP, problem });
    }
    let y = graph.temporary(format!("{label} output"), shape, layer.element);
    let from = (read(x), graph.shape(x));
    forward(graph, label, from, layer, residual, (y, None), shape.c, 0..shape.d);
    Ok(y)
}

/// Output channels `0..first` and `first..` as two values: two layers on the same x, which is read once.
///
/// # Errors
/// [`Error::Shape`] where x does not fit the layer or `first` is not within its output channels.
pub fn conv_split(graph: &mut Graph, label: &str, x: Value, layer: &ConvLayer, first: usize) -> Result<(Value, Value)> {
    let shape = expect_input(graph, label, x, &layer.geometry, layer.element)?;
    if first == 0 || first >= shape.c {
        let problem = format!("a split at channel {first} of {} at {label}", shape.c);
        return Err(Error::Shape { op: OP, problem });
    }
    let y = graph.temporary(format!("{label} first"), shape.with_channels(first), layer.element);
    let second = shape.with_channels(shape.c - first);
    let second = graph.temporary(format!("{label} second"), second, layer.element);
    let from = (read(x), graph.shape(x));
    forward(graph, label, from, layer, None, (y, Some(second)), first, 0..shape.d);
    Ok((y, second))
}

/// Which planes of a volume a launch reads and makes.
#[derive(Clone, Debug)]
pub struct Planes {
    /// The plane of the volume that x begins with.
    pub input_begin: usize,
    /// Planes of the whole volume.
    pub input_planes: usize,
    /// Output planes to make, of those of the whole volume.
    pub output: std::ops::Range<usize>,
}

/// As [`conv_split`] into two values of the whole volume's outputs, from a slab of its planes: those that the wanted
/// output planes read.
///
/// # Errors
/// [`Error::Shape`] where the slab lacks a plane that is read, or something does not fit the layer.
pub fn conv_planes(
    graph: &mut Graph,
    label: &str,
    slab: Value,
    layer: &ConvLayer,
    planes: &Planes,
    (first, second): (Value, Value),
) -> Result<()> {
    let geometry = &layer.geometry;
    let shape = graph.shape(slab);
    let whole = Shape { d: planes.input_planes, ..shape };
    expect_input(graph, label, slab, geometry, layer.element)?;
    let to = geometry.output_shape(whole);
    let (kernel, stride) = (geometry.kernel[0], geometry.stride[0]);
    let reads_from = (planes.output.start * stride).saturating_sub(kernel / 2);
    let reads_to = (planes.output.end.saturating_sub(1) * stride + kernel / 2 + 1).min(planes.input_planes);
    let split = graph.shape(first).c;
    let fits = planes.input_begin <= reads_from
        && reads_to <= planes.input_begin + shape.d
        && planes.output.end <= to.d
        && graph.shape(first) == to.with_channels(split)
        && graph.shape(second) == to.with_channels(to.c - split);
    if !fits || planes.output.is_empty() || matches!(algorithm(geometry, layer.element), Algorithm::Pointwise { .. }) {
        let problem = format!(
            "{planes:?} from a slab {shape} at {label} into {} and {}",
            graph.shape(first),
            graph.shape(second)
        );
        return Err(Error::Shape { op: OP, problem });
    }
    // Planes are numbered as in the whole volume, so the slab's address is that of a plane 0 which is not there, and
    // which nothing reads.
    let plane_bytes = (shape.h * shape.w * shape.c) as u64 * layer.element.bytes();
    let x = Arg::Read(slab, (planes.input_begin as u64 * plane_bytes).wrapping_neg());
    forward(graph, label, (x, whole), layer, None, (first, Some(second)), split, planes.output.clone());
    Ok(())
}

/// Fails for extents that the kernels do not take.
pub(super) fn expect_supported(geometry: &ConvGeometry, element: Element) -> Result<()> {
    let (ci, co) = geometry.channels;
    let stored = matches!(element, Element::F32 | Element::F16);
    let odd = geometry.kernel.iter().all(|k| k % 2 == 1);
    // What a block's shared memory (48 KiB without asking for more) holds in the direct kernel.
    let fits = shared_bytes(&geometry.stride, &geometry.kernel, group_width(co)) <= 48 << 10;
    if stored && odd && fits && ci > 0 && co > 0 && !geometry.stride.contains(&0) {
        return Ok(());
    }
    let problem = format!(
        "{geometry:?} of {}, expected odd kernels whose halo fits in 48 KiB, channels and strides above 0, f32 or f16",
        element.suffix()
    );
    Err(Error::Shape { op: OP, problem })
}

/// The output's shape for an x that fits.
pub(super) fn expect_input(
    graph: &Graph,
    label: &str,
    x: Value,
    geometry: &ConvGeometry,
    element: Element,
) -> Result<Shape> {
    let shape = graph.shape(x);
    if shape.c != geometry.channels.0 || shape.is_empty() || graph.element(x) != element {
        let problem = format!(
            "input {shape} of {} at {label}, expected C = {} of {} and no empty side",
            graph.element(x).suffix(),
            geometry.channels.0,
            element.suffix()
        );
        return Err(Error::Shape { op: OP, problem });
    }
    Ok(geometry.output_shape(shape))
}

/// Multiply-adds times two, padding counted as work.
pub(super) fn flops(geometry: &ConvGeometry, y: Shape) -> u64 {
    2 * y.positions() as u64 * geometry.weights() as u64
}

#[allow(clippy::too_many_arguments, reason = "one launch in three variants")]
fn forward(
    graph: &mut Graph,
    label: &str,
    (x, from): (Arg, Shape),
    layer: &ConvLayer,
    residual: Option<Value>,
    (y, second): (Value, Option<Value>),
    split: usize,
    planes_made: std::ops::Range<usize>,
) {
    let geometry = &layer.geometry;
    let to = geometry.output_shape(from);
    let made = planes_made.len();
    let out = |value: Option<Value>| value.map_or(Arg::Null, write);
    let tensors = [x, read(layer.weights), read(layer.bias), read_or_null(residual), write(y), out(second)];
    let sides = |s: Shape| [s.d, s.h, s.w, s.c].map(|n| n as i32);
    let (split, relu) = (split as i32, i32::from(layer.relu));
    match algorithm(geometry, layer.element) {
        Algorithm::Direct => {
            let mut shape =
                DirectShape { split, ..DirectShape::forward(geometry, from, Activation::relu_if(layer.relu)) };
            let depth = &mut shape.axis[0];
            depth.output = made as i32;
            depth.first = planes_made.start as i32;
            depth.offset += planes_made.start as i32 * depth.stride;
            shape.launch(graph, label, "conv_forward_direct", layer.element, tensors.into());
        }
        Algorithm::Tiles { chunk, group } => {
            let tile = TileSize::of(geometry, chunk, group);
            let across = to.w.div_ceil(16) * to.h.div_ceil(tile.rows) * to.c.div_ceil(group);
            // Runs of planes as long as there are enough blocks: two planes less are read for each run that is saved,
            // and a plane comes in while another is worked on. Large halos of planes that have nothing in common stay
            // alone, for more blocks at a time.
            let alone = geometry.kernel[0] == 1 && 2 * tile.stage > LARGE_STAGES;
            let runs = if alone { made } else { ENOUGH_BLOCKS.div_ceil(across) };
            let planes = made.div_ceil(runs).min(MOST_PLANES);
            let shape = TileShape {
                input: sides(from),
                output: sides(Shape { d: planes_made.end, ..to }),
                planes: planes as i32,
                first: planes_made.start as i32,
                split,
                relu,
            };
            let several = chunk < from.c || geometry.kernel[0] > 1 || planes > 1;
            let stages = if several { 2 } else { 1 };
            let [kd, kh, kw] = geometry.kernel;
            // A volume's planes may keep their number: "p".
            let along = if kd > 1 && geometry.stride[0] != geometry.stride[2] { "p" } else { "s" };
            let kernel = format!("conv_forward_{kd}{kh}{kw}{along}{}_c{chunk}n{group}_f16", geometry.stride[2]);
            let grid = [(across * made.div_ceil(planes)) as u32, 1, 1];
            let shared = (stages * tile.stage) as u32;
            let args = tensors.into_iter().chain([Arg::plain(shape)]).collect();
            graph.launch(OP, label, kernel, grid, [128, 1, 1], shared, args);
        }
        Algorithm::Pointwise { group } => {
            let stride = geometry.stride.map(|s| s as i32);
            let shape = PointwiseShape { input: sides(from), output: sides(to), stride, split, relu };
            let grid = [(to.positions().div_ceil(128) * to.c.div_ceil(group)) as u32, 1, 1];
            let args = tensors.into_iter().chain([Arg::plain(shape)]).collect();
            let kernel = format!("conv_forward_111_n{group}_f16");
            graph.launch(OP, label, kernel, grid, [128, 1, 1], 0, args);
        }
    }
    graph.flops(flops(geometry, Shape { d: made, ..to }));
}

// ---- the tensor cores' layouts

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct TileShape {
    input: [i32; 4],
    output: [i32; 4],
    planes: i32,
    first: i32,
    split: i32,
    relu: i32,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct PointwiseShape {
    input: [i32; 4],
    output: [i32; 4],
    stride: [i32; 3],
    split: i32,
    relu: i32,
}

/// What `Tile` of `kernels/conv.cu` computes for itself.
struct TileSize {
    /// Output rows of a block.
    rows: usize,
    /// Bytes of one plane's halo.
    stage: usize,
}

impl TileSize {
    fn of(geometry: &ConvGeometry, chunk: usize, group: usize) -> Self {
        let ([kd, kh, kw], s) = (geometry.kernel, geometry.stride[2]);
        let sets = if geometry.stride[0] == 1 { kd } else { 2 };
        let rows = if s == 2 || sets * group > 64 { 8 } else { 16 };
        let (halo_rows, halo_columns) = ((rows - 1) * s + kh, 15 * s + kw);
        let pixel = if chunk == 8 { 16 } else { 2 * chunk + 16 };
        Self { rows, stage: halo_rows * halo_columns.next_multiple_of(s) * pixel }
    }
}

/// `AxisTaps` of `kernels/conv_direct.cu`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct AxisTaps {
    pub input: i32,
    pub output: i32,
    pub whole: i32,
    pub taps: i32,
    pub first_tap: i32,
    pub tap_step: i32,
    pub offset: i32,
    pub stride: i32,
    pub spread: i32,
    pub first: i32,
}

/// `DirectShape` of `kernels/conv_direct.cu`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct DirectShape {
    pub axis: [AxisTaps; 3],
    pub ci: i32,
    pub co: i32,
    pub weight_in: i32,
    pub weight_out: i32,
    pub kernel_h: i32,
    pub kernel_w: i32,
    pub split: i32,
    pub relu: i32,
}

/// Output channels of a block of the direct kernel: the most whose blocks are all full.
fn group_width(channels: usize) -> usize {
    [32, 16].into_iter().find(|n| channels.next_multiple_of(8).is_multiple_of(*n)).unwrap_or(8)
}

/// Dynamic shared memory of the direct kernel: the halo and the weights of 4 input channels.
fn shared_bytes(stride: &[usize; 3], taps: &[usize; 3], width: usize) -> usize {
    let [_, rows, columns] = [0, 1, 2].map(|a| 15 * stride[a] + taps[a]);
    16 * (rows * columns.next_multiple_of(stride[2].max(1)) + taps[1] * taps[2] * (width + 4))
}

impl DirectShape {
    /// y from x.
    pub fn forward(geometry: &ConvGeometry, x: Shape, activation: Activation) -> Self {
        let relu = activation.is_relu();
        let y = geometry.output_shape(x);
        let taps: usize = geometry.kernel.iter().product();
        let (from, to) = ([x.d, x.h, x.w], [y.d, y.h, y.w]);
        let axis = [0, 1, 2].map(|a| AxisTaps {
            input: from[a] as i32,
            output: to[a] as i32,
            whole: to[a] as i32,
            taps: geometry.kernel[a] as i32,
            first_tap: 0,
            tap_step: 1,
            offset: -(geometry.kernel[a] as i32 / 2),
            stride: geometry.stride[a] as i32,
            spread: 1,
            first: 0,
        });
        Self {
            axis,
            ci: x.c as i32,
            co: y.c as i32,
            weight_in: taps as i32,
            weight_out: (taps * x.c) as i32,
            kernel_h: geometry.kernel[1] as i32,
            kernel_w: geometry.kernel[2] as i32,
            split: y.c as i32,
            relu: i32::from(relu),
        }
    }

    /// Appends the launch of the kernel of this name for its width; `args` without the shape.
    pub fn launch(self, graph: &mut Graph, label: &str, name: &str, element: Element, mut args: Vec<Arg>) {
        let width = group_width(self.co as usize);
        let [z, y, x] = self.axis.map(|a| a.output as usize);
        let grid = (self.co as usize).div_ceil(width) * z * y.div_ceil(16) * x.div_ceil(16);
        let (stride, taps) = (self.axis.map(|a| a.stride as usize), self.axis.map(|a| a.taps as usize));
        let shared = shared_bytes(&stride, &taps, width) as u32;
        args.push(Arg::plain(self));
        let kernel = format!("{name}{width}_{}", element.suffix());
        graph.launch(OP, label, kernel, [grid as u32, 1, 1], [8 * width as u32, 1, 1], shared, args);
    }
}
