//! The cost volume and the pixel gate's statistics from feature maps (`kernels/sweep.cu`, gradients
//! `kernels/sweep_gradient.cu`).
//!
//! Cameras and depths are inputs of a program, so that one program serves all reference views of a size: a source is a
//! row of 16 numbers.

use crate::cpu::ops::warp::{CHANNELS, MAX_FEATURE_PIXELS};
use crate::cuda::graph::{Arg, Graph, Value, index, int, read, read_or_null, update, write};
use crate::cuda::storage::Element;
use crate::error::{Error, Result};
use crate::net::config::Aggregation;
use crate::net::tensor::Shape;
use crate::scene::camera::PlaneSweep;

/// Hidden channels of the voxel gate, and channels of the cost's projection.
const HIDDEN: usize = 8;
/// Numbers of a source's row.
pub(super) const SOURCE: usize = 16;
/// Threads of a block.
const THREADS: u32 = 256;
/// Planes that a block walks, even: enough that loading the reference's features does not count, few enough that there
/// are several times more blocks than a device holds at once, even for training's small maps.
const RUN: usize = 16;
/// Sources whose rows fit the 48 KiB of shared memory that every device gives a block.
const MAX_SOURCES: usize = 768;
/// Sums of the gate's parameters of a block: 8 lanes of 35.
const GATE_SUMS: usize = 8 * 35;

/// What a sweep is made of.
#[derive(Clone, Copy, Debug)]
pub struct Views {
    /// Features [V, H, W, 32], f32 or f16: the reference's, of H x W pixels, and those of S = V - 1 sources, which may
    /// be smaller and then lie in the upper left corner.
    pub features: Value,
    /// Where the reference's pixels lie in each source, [S, 1, 1, 16] f32, rows as [`source_row`] makes them.
    pub sources: Value,
    /// The hypotheses, `[D]` f32.
    pub depths: Value,
    /// Whether differences are squared.
    pub squared: bool,
    /// Rows and columns of the volume where the reference's map is smaller than the largest source's; it lies in the
    /// upper left corner, too.
    pub reference: Option<(usize, usize)>,
}

/// Which planes of the volume a launch makes, for inference.
#[derive(Clone, Copy, Debug)]
pub struct Planes {
    /// The first.
    pub begin: usize,
    /// The one after the last.
    pub end: usize,
    /// The projection of the whole volume, [D, H, W, 8], whose planes are written, too.
    pub projected: Option<Value>,
}

/// A source's row: A, b, height, width of its map.
pub fn source_row(sweep: &PlaneSweep, height: usize, width: usize) -> [f32; 16] {
    let mut row = [0.0; SOURCE];
    row[..9].copy_from_slice(sweep.a.as_flattened());
    row[9..12].copy_from_slice(&sweep.b);
    row[12] = height as f32;
    row[13] = width as f32;
    row
}

/// The gate of eq. 5. Its tensors are f32 in PyTorch's order; of narrow stages, whose features have C = 16 or 8
/// channels, `reduce` is [8, C].
#[derive(Clone, Copy, Debug)]
pub struct VoxelGate {
    /// [8, 32].
    pub reduce: Value,
    /// `[8]`.
    pub reduce_bias: Value,
    /// `[8]`.
    pub weight: Value,
    /// `[1]`.
    pub weight_bias: Value,
}

/// How the sources are weighted: by a gate, or by weights per pixel, [S, H, W, 1], stored as the features.
pub type Weighting = Aggregation<VoxelGate, Value>;

/// The cost's projection to 8 channels: a 1 x 1 x 1 convolution, f32.
#[derive(Clone, Copy, Debug)]
pub struct Skip {
    /// [8, 32].
    pub weights: Value,
    /// `[8]`.
    pub bias: Value,
}

/// Extents of a sweep whose values fit together.
#[derive(Clone, Copy)]
struct Extent {
    sources: usize,
    planes: usize,
    height: usize,
    width: usize,
    /// Rows and columns of the maps in memory.
    map: (usize, usize),
    element: Element,
}

fn expect(graph: &Graph, op: &'static str, what: &str, value: Value, len: usize, element: Element) -> Result<()> {
    let (shape, found) = (graph.shape(value), graph.element(value));
    if shape.len() == len && found == element {
        return Ok(());
    }
    let problem = format!("{what} {shape} {}, expected {len} values of {}", found.suffix(), element.suffix());
    Err(Error::Shape { op, problem })
}

impl Views {
    /// The cost volume's extent.
    pub fn volume(&self, graph: &Graph) -> Shape {
        let map = graph.shape(self.features);
        let (h, w) = self.reference.unwrap_or((map.h, map.w));
        Shape { d: graph.shape(self.depths).len(), h, w, c: map.c }
    }

    fn check(&self, graph: &Graph, op: &'static str) -> Result<Extent> {
        let Shape { d, h, w, c } = graph.shape(self.features);
        let element = graph.element(self.features);
        let planes = graph.shape(self.depths).len();
        let fits = c == CHANNELS && h * w > 0 && h * w <= MAX_FEATURE_PIXELS && (2..=MAX_SOURCES + 1).contains(&d);
        if !fits || !matches!(element, Element::F32 | Element::F16) || planes == 0 {
            let problem = format!(
                "features {} {} and {planes} depths; expected those of 2 to {} views in f32 or f16, {CHANNELS} \
                 channels of 1 to \
                 {MAX_FEATURE_PIXELS} pixels, and at least one depth",
                graph.shape(self.features),
                element.suffix(),
                MAX_SOURCES + 1
            );
            return Err(Error::Shape { op, problem });
        }
        expect(graph, op, "sources", self.sources, (d - 1) * SOURCE, Element::F32)?;
        expect(graph, op, "depths", self.depths, planes, Element::F32)?;
        let (height, width) = self.reference.unwrap_or((h, w));
        if height == 0 || width == 0 || height > h || width > w {
            let problem = format!("a reference of {height} rows and {width} columns in maps of {h} and {w}");
            return Err(Error::Shape { op, problem });
        }
        Ok(Extent { sources: d - 1, planes, height, width, map: (h, w), element })
    }

    /// The gradients' kernels' first parameters.
    fn parameters(&self, extent: Extent) -> Vec<Arg> {
        let Extent { sources, planes, height, width, .. } = extent;
        let mut args = vec![read(self.features), read(self.sources), read(self.depths)];
        args.extend([int(sources), int(planes), int(height), int(width)]);
        args
    }
}

impl Extent {
    fn pixels(self) -> usize {
        self.height * self.width
    }

    /// Blocks that hold all pixels, a group of lanes each, times `rows`.
    fn grid(self, rows: usize) -> [u32; 3] {
        let lanes = if self.element == Element::F16 { 4 } else { 8 };
        [(self.pixels() * lanes).div_ceil(THREADS as usize) as u32, rows as u32, 1]
    }

    fn table_bytes(self) -> u32 {
        (self.sources * SOURCE * 4) as u32
    }

    /// An exponent k so that 2^k is no less than the number of voxels.
    fn log_voxels(self) -> usize {
        (self.planes * self.pixels()).next_power_of_two().ilog2() as usize
    }
}

impl Weighting {
    /// What the gradients are in, after the features.
    fn inputs(&self) -> Vec<Value> {
        match *self {
            Self::Voxel(VoxelGate { reduce, reduce_bias, weight, weight_bias }) => {
                vec![reduce, reduce_bias, weight, weight_bias]
            }
            Self::Pixel(weights) => vec![weights],
            Self::Mean | Self::Variance => Vec::new(),
        }
    }

    fn check(&self, graph: &Graph, op: &'static str, extent: Extent) -> Result<()> {
        match *self {
            Self::Voxel(VoxelGate { reduce, reduce_bias, weight, weight_bias }) => {
                expect(graph, op, "the gate's reduce.weight", reduce, HIDDEN * CHANNELS, Element::F32)?;
                expect(graph, op, "the gate's reduce.bias", reduce_bias, HIDDEN, Element::F32)?;
                expect(graph, op, "the gate's weight.weight", weight, HIDDEN, Element::F32)?;
                expect(graph, op, "the gate's weight.bias", weight_bias, 1, Element::F32)
            }
            Self::Pixel(weights) => {
                expect(graph, op, "pixel weights", weights, extent.sources * extent.pixels(), extent.element)
            }
            Self::Mean | Self::Variance => Ok(()),
        }
    }

    /// As the kernels are named.
    fn kernel(&self) -> &'static str {
        match self {
            Self::Voxel(_) => "voxel",
            Self::Pixel(_) | Self::Mean => "weighted",
            Self::Variance => "variance",
        }
    }

    /// The kernels' parameters.
    fn parameters(&self) -> Vec<Arg> {
        match self {
            Self::Mean => vec![Arg::Null],
            other => other.inputs().into_iter().map(read).collect(),
        }
    }
}

/// The cost volume [D, H, W, 32], stored as the features, and, where asked for, its projection [D, H, W, 8]. Without a
/// projection and in f32 its gradients are noted: in the features, and in the gate's tensors or the weights per pixel.
///
/// # Errors
/// [`Error::Shape`] naming what does not fit.
pub fn cost_volume(
    graph: &mut Graph,
    label: &str,
    views: &Views,
    weighting: &Weighting,
    skip: Option<&Skip>,
) -> Result<(Value, Option<Value>)> {
    const OP: &str = "plane sweep";
    let extent = views.check(graph, OP)?;
    weighting.check(graph, OP, extent)?;
    if let Some(skip) = skip {
        expect(graph, OP, "the projection's weights", skip.weights, HIDDEN * CHANNELS, Element::F32)?;
        expect(graph, OP, "the projection's bias", skip.bias, HIDDEN, Element::F32)?;
    }
    let Extent { planes, height, width, element, .. } = extent;
    let shape = Shape { d: planes, h: height, w: width, c: CHANNELS };
    let projected = skip.map(|_| graph.temporary(format!("{label} projection"), shape.with_channels(HIDDEN), element));
    let all = Planes { begin: 0, end: planes, projected };
    let cost = launch(graph, label, views, weighting, skip, extent, &all);
    let whole = (height, width) == extent.map;
    if projected.is_none() && element == Element::F32 && whole {
        let inputs: Vec<Value> = std::iter::once(views.features).chain(weighting.inputs()).collect();
        let (views, weighting, label) = (*views, *weighting, label.to_owned());
        graph.record(&label.clone(), &inputs, cost, move |graph, gradient, wanted| {
            cost_volume_backward(graph, &label, &views, &weighting, extent, gradient, wanted[0])
        });
    }
    Ok((cost, projected))
}

/// Some planes of the cost volume, [end - begin, H, W, 32], and, where asked for, the same planes of the projection:
/// for inference, where the whole volume need not exist at once.
///
/// # Errors
/// [`Error::Shape`] naming what does not fit.
pub fn cost_planes(
    graph: &mut Graph,
    label: &str,
    views: &Views,
    weighting: &Weighting,
    skip: Option<&Skip>,
    made: &Planes,
) -> Result<Value> {
    const OP: &str = "plane sweep";
    let extent = views.check(graph, OP)?;
    weighting.check(graph, OP, extent)?;
    if made.begin >= made.end || made.end > extent.planes || skip.is_some() != made.projected.is_some() {
        return Err(Error::Shape { op: OP, problem: format!("{made:?} of {} planes", extent.planes) });
    }
    Ok(launch(graph, label, views, weighting, skip, extent, made))
}

/// Planes that a block walks of a slab: about [`RUN`], even, and no run of a plane or two at the end.
fn run_of(planes: usize) -> usize {
    let runs = (planes / RUN).max(1);
    planes.div_ceil(runs).next_multiple_of(2)
}

/// The launch for a range of planes; everything has been checked.
fn launch(
    graph: &mut Graph,
    label: &str,
    views: &Views,
    weighting: &Weighting,
    skip: Option<&Skip>,
    extent: Extent,
    made: &Planes,
) -> Value {
    let Extent { height, width, element, sources, map, .. } = extent;
    let planes = made.end - made.begin;
    let shape = Shape { d: planes, h: height, w: width, c: CHANNELS };
    let cost = graph.temporary(format!("{label} cost"), shape, element);
    let mut args = vec![read(views.features), read(views.sources), Arg::Read(views.depths, 4 * made.begin as u64)];
    let run = run_of(planes);
    args.extend([sources, planes, height, width, map.0, map.1, run].map(int));
    if !matches!(weighting, Weighting::Variance) {
        args.push(int(usize::from(views.squared)));
    }
    args.extend(weighting.parameters());
    args.extend([read_or_null(skip.map(|s| s.weights)), read_or_null(skip.map(|s| s.bias)), write(cost)]);
    let plane_bytes = (height * width * HIDDEN) as u64 * element.bytes();
    args.push(made.projected.map_or(Arg::Null, |p| Arg::Write(p, made.begin as u64 * plane_bytes)));
    let kernel = format!("sweep_forward_{}_{}", weighting.kernel(), element.suffix());
    let grid = extent.grid(planes.div_ceil(run));
    graph.launch("plane sweep", label, kernel, grid, [THREADS, 1, 1], extent.table_bytes(), args);
    // The taps, difference and square, the weighted sum, and the gate of a source; the projection.
    let gate = if matches!(weighting, Weighting::Voxel { .. }) { 2 * (CHANNELS + 1) * HIDDEN } else { 0 };
    let of_voxel = sources * (12 * CHANNELS + gate) + if skip.is_some() { 2 * CHANNELS * HIDDEN } else { 0 };
    graph.flops((shape.positions() * of_voxel) as u64);
    cost
}

/// Sums of 64-bit integers, and the unit they are in, of the gradients in the sources' features.
struct Scattered {
    /// The largest absolute gradient of a difference, as the bits of an f32.
    largest: Value,
    /// [S, H, W, 32] of 8 bytes.
    sums: Value,
}

impl Scattered {
    fn new(graph: &mut Graph, label: &str, extent: Extent) -> Self {
        let shape = Shape { d: extent.sources, h: extent.height, w: extent.width, c: CHANNELS };
        let largest = graph.temporary(format!("{label} largest gradient"), Shape::plane(1, 1, 1), Element::U32);
        // Integers, for which f64 stands: 8 bytes each.
        let sums = graph.temporary(format!("{label} fixed-point gradients"), shape, Element::F64);
        graph.fill(largest, 0);
        Self { largest, sums }
    }

    /// The second launch, over runs of planes; `args` are those before `largest`.
    fn scatter(
        &self,
        graph: &mut Graph,
        op: &'static str,
        label: &str,
        kernel: String,
        extent: Extent,
        mut args: Vec<Arg>,
    ) {
        graph.fill(self.sums, 0);
        args.extend([read(self.largest), int(extent.log_voxels()), int(RUN), update(self.sums)]);
        let grid = extent.grid(extent.planes.div_ceil(RUN));
        graph.launch(op, label, kernel, grid, [THREADS, 1, 1], extent.table_bytes(), args);
    }

    /// The sources' gradients into `features`, behind the reference's.
    fn finish(&self, graph: &mut Graph, op: &'static str, label: &str, extent: Extent, features: Value) {
        let (map, n) = (extent.pixels() * CHANNELS, extent.sources * extent.pixels() * CHANNELS);
        let args = vec![
            read(self.sums),
            read(self.largest),
            int(extent.log_voxels()),
            Arg::Write(features, 4 * map as u64),
            index(n),
        ];
        let grid = crate::cuda::graph::blocks(n, THREADS);
        graph.launch(op, label, "sweep_backward_finish_f32", grid, [THREADS, 1, 1], 0, args);
    }
}

fn cost_volume_backward(
    graph: &mut Graph,
    label: &str,
    views: &Views,
    weighting: &Weighting,
    extent: Extent,
    gradient: Value,
    features_wanted: bool,
) -> Result<Vec<Option<Value>>> {
    const OP: &str = "plane sweep gradient";
    let features = graph.temporary(format!("{label} features gradient"), graph.shape(views.features), Element::F32);
    let parts: Vec<Value> = weighting
        .inputs()
        .into_iter()
        .map(|input| {
            let (name, shape) = (format!("{} gradient", graph.info(input).name), graph.shape(input));
            graph.temporary(name, shape, Element::F32)
        })
        .collect();
    let scattered = Scattered::new(graph, label, extent);
    let mut common = views.parameters(extent);
    common.push(int(usize::from(views.squared)));
    if !matches!(weighting, Weighting::Variance) {
        common.extend(weighting.parameters());
    }
    common.push(read(gradient));
    let grid = extent.grid(1);
    let blocks = grid[0] as usize;
    let mut args = common.clone();
    args.extend([write(features), update(scattered.largest)]);
    let partial = match weighting {
        Weighting::Voxel { .. } => {
            let shape = Shape::plane(1, blocks, GATE_SUMS);
            let partial = graph.temporary(format!("{label} gate gradient parts"), shape, Element::F64);
            args.push(write(partial));
            Some(partial)
        }
        Weighting::Pixel(_) => {
            args.push(write(parts[0]));
            None
        }
        Weighting::Mean => {
            args.push(Arg::Null);
            None
        }
        Weighting::Variance => None,
    };
    let kernel = format!("sweep_backward_{}_f32", weighting.kernel());
    graph.launch(OP, label, kernel, grid, [THREADS, 1, 1], extent.table_bytes(), args);
    if let Some(partial) = partial {
        let mut args = vec![read(partial), int(blocks)];
        args.extend(parts.iter().copied().map(write));
        let grid = crate::cuda::graph::blocks(GATE_SUMS, THREADS);
        graph.launch(OP, label, "sweep_backward_gate_f32", grid, [THREADS, 1, 1], 0, args);
    }
    if features_wanted {
        let kernel = format!("sweep_backward_{}_sources_f32", weighting.kernel());
        scattered.scatter(graph, OP, label, kernel, extent, common);
        scattered.finish(graph, OP, label, extent, features);
    }
    Ok(std::iter::once(features_wanted.then_some(features)).chain(parts.into_iter().map(Some)).collect())
}

/// For the pixel gate, maximum and mean over the planes of the channel-mean |difference| of every source, [S, H, W,
/// 2], stored as the features; in f32 with its gradient in them.
///
/// # Errors
/// [`Error::Shape`] naming what does not fit.
pub fn pixel_statistics(graph: &mut Graph, label: &str, views: &Views) -> Result<Value> {
    const OP: &str = "pixel statistics";
    let extent = views.check(graph, OP)?;
    let Extent { sources, planes, height, width, map, element } = extent;
    let shape = Shape { d: sources, h: height, w: width, c: 2 };
    let y = graph.temporary(format!("{label} statistics"), shape, element);
    let mut args = vec![read(views.features), read(views.sources), read(views.depths)];
    args.extend([planes, height, width, map.0, map.1, usize::from(views.squared)].map(int));
    args.push(write(y));
    let kernel = format!("statistics_forward_{}", element.suffix());
    graph.launch(OP, label, kernel, extent.grid(sources), [THREADS, 1, 1], 0, args);
    graph.flops((sources * planes * extent.pixels() * 11 * CHANNELS) as u64);
    if element == Element::F32 && (height, width) == map {
        let (views, label) = (*views, label.to_owned());
        graph.record(&label.clone(), &[views.features], y, move |graph, gradient, _| {
            pixel_statistics_backward(graph, &label, &views, extent, gradient).map(|features| vec![Some(features)])
        });
    }
    Ok(y)
}

fn pixel_statistics_backward(
    graph: &mut Graph,
    label: &str,
    views: &Views,
    extent: Extent,
    gradient: Value,
) -> Result<Value> {
    const OP: &str = "pixel statistics gradient";
    let features = graph.temporary(format!("{label} features gradient"), graph.shape(views.features), Element::F32);
    let shape = Shape { d: extent.sources, h: extent.height, w: extent.width, c: 1 };
    let plane_of = graph.temporary(format!("{label} largest planes"), shape, Element::U32);
    let scattered = Scattered::new(graph, label, extent);
    let mut common = views.parameters(extent);
    common.extend([int(usize::from(views.squared)), read(gradient)]);
    let mut args = common.clone();
    args.extend([write(features), update(scattered.largest), write(plane_of)]);
    let (grid, shared) = (extent.grid(1), extent.table_bytes());
    graph.launch(OP, label, "statistics_backward_f32", grid, [THREADS, 1, 1], shared, args);
    common.push(read(plane_of));
    scattered.scatter(graph, OP, label, "statistics_backward_sources_f32".into(), extent, common);
    scattered.finish(graph, OP, label, extent, features);
    Ok(features)
}
