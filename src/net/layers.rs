//! What a network needs of whatever computes it: the layers, described, and the trait that runs them.
//!
//! [`super::model`] says what the network is in terms of this; executors (`cpu`, `cuda`, and [`super::outline`], which
//! only follows shapes) say how each layer is done. A layer is described by the name of its tensors in a checkpoint,
//! its channels and its kernel; whether its weights are folded constants or parameters in training is the executor's.

use super::config::{Aggregation, Difference};
use super::stage::Stage;
use super::tensor::Shape;
use crate::error::Result;

/// A kernel's number of dimensions, side and stride.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel {
    dims: usize,
    side: usize,
    stride: usize,
    /// Over how many of the last axes it strides.
    strided: usize,
}

impl Kernel {
    /// 2D: each plane of a tensor by itself.
    pub fn d2(side: usize, stride: usize) -> Self {
        Self { dims: 2, side, stride, strided: 2 }
    }

    /// 3D.
    pub fn d3(side: usize, stride: usize) -> Self {
        Self { dims: 3, side, stride, strided: 3 }
    }

    /// Over depth, rows and columns.
    pub fn size(self) -> [usize; 3] {
        [if self.dims == 3 { self.side } else { 1 }, self.side, self.side]
    }

    /// Over depth, rows and columns.
    pub fn stride(self) -> [usize; 3] {
        [if self.strided == 3 { self.stride } else { 1 }, self.stride, self.stride]
    }

    /// An input's extent as the kernel wants it: even along the axes that it strides over by 2.
    pub fn evened(self, x: Shape) -> Shape {
        let stride = self.stride();
        let even = |axis: usize, length: usize| length.next_multiple_of(stride[axis]);
        Shape { d: even(0, x.d), h: even(1, x.h), w: even(2, x.w), c: x.c }
    }

    /// Of the weights, PyTorch's order.
    pub fn shape(self, (input, output): (usize, usize)) -> Vec<usize> {
        [output, input].into_iter().chain([self.side].repeat(self.dims)).collect()
    }
}

/// What follows a layer's sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    Linear,
    /// max(0, x).
    Relu,
}

impl Activation {
    /// ReLU where it is wanted.
    pub fn relu_if(wanted: bool) -> Self {
        if wanted { Self::Relu } else { Self::Linear }
    }

    /// Whether it is ReLU.
    pub fn is_relu(self) -> bool {
        self == Self::Relu
    }
}

/// A dense convolution with "same" padding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conv {
    /// How its tensors' names begin.
    pub name: String,
    /// In and out.
    pub channels: (usize, usize),
    /// Its kernel.
    pub kernel: Kernel,
    /// What follows.
    pub activation: Activation,
}

impl Conv {
    /// Two dimensions: each plane of a tensor by itself. Stride 1, no ReLU.
    pub fn d2(name: impl Into<String>, channels: (usize, usize), side: usize) -> Self {
        Self { name: name.into(), channels, kernel: Kernel::d2(side, 1), activation: Activation::Linear }
    }

    /// Three dimensions. Stride 1, no ReLU.
    pub fn d3(name: impl Into<String>, channels: (usize, usize), side: usize) -> Self {
        Self { name: name.into(), channels, kernel: Kernel::d3(side, 1), activation: Activation::Linear }
    }

    /// The same with stride 2.
    pub fn strided(self) -> Self {
        Self { kernel: Kernel { stride: 2, ..self.kernel }, ..self }
    }

    /// The same with stride 2 over rows and columns only.
    pub fn strided_planes(self) -> Self {
        Self { kernel: Kernel { stride: 2, strided: 2, ..self.kernel }, ..self }
    }

    /// The same followed by ReLU.
    pub fn relu(self) -> Self {
        Self { activation: Activation::Relu, ..self }
    }

    /// Of the weights, PyTorch's order.
    pub fn weight_shape(&self) -> Vec<usize> {
        self.kernel.shape(self.channels)
    }

    /// The output's shape for an input's.
    pub fn output_shape(&self, x: Shape) -> Shape {
        let [sd, sh, sw] = self.kernel.stride();
        Shape { d: x.d.div_ceil(sd), h: x.h.div_ceil(sh), w: x.w.div_ceil(sw), c: self.channels.1 }
    }
}

/// A depthwise 3x3x3 convolution without bias.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Depthwise {
    /// How its tensor's name begins.
    pub name: String,
    /// In and out.
    pub channels: usize,
    /// 1 or 2.
    pub stride: usize,
}

/// The gate of eq. 5: w = relu(weight(relu(reduce(f)))), both 1x1x1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoxelGate {
    /// 32 -> 8, with ReLU.
    pub reduce: Conv,
    /// 8 -> 1, with ReLU.
    pub weight: Conv,
}

/// The cost volume's recipe: what a difference is, and how the sources' differences are weighted.
pub type Weighting<V> = Aggregation<VoxelGate, V>;

/// Runs layers one after another. A value is a tensor [D, H, W, C], whose memory is given back when its last clone is
/// dropped; so layers take their inputs by value, and what is read again is cloned. `label` says where in the network
/// an op without tensors of its own stands.
///
/// # Errors
/// All layers: where a tensor of the layer is missing, the inputs' shapes do not fit together, or the device fails.
#[allow(missing_docs, reason = "the layers are the field's")]
pub trait Layers {
    /// A tensor, a tape's variable, a node of a device graph, or a shape.
    type Value: Clone;
    /// Feature maps of the reference and its sources, the homographies between them, and the hypotheses.
    type Views;
    /// What comes out in the end: logits for training, depth and confidence for inference.
    type Estimate;

    fn shape(&self, x: &Self::Value) -> Shape;

    /// Layers that may run beside those that come after, until something of theirs is read.
    fn aside<T>(&mut self, layers: impl FnOnce(&mut Self) -> Result<T>) -> Result<T>
    where
        Self: Sized,
    {
        layers(self)
    }

    /// Convolution with bias.
    fn conv(&mut self, layer: Conv, x: Self::Value) -> Result<Self::Value>;

    /// Convolution, then batch norm.
    fn conv_bn(&mut self, layer: Conv, x: Self::Value) -> Result<Self::Value>;

    /// conv_bn(x) + shortcut, the end of the block of this name; a ReLU comes after the sum.
    fn conv_bn_add(&mut self, block: &str, layer: Conv, x: Self::Value, shortcut: Self::Value) -> Result<Self::Value>;

    fn depthwise(&mut self, layer: Depthwise, x: Self::Value) -> Result<Self::Value>;

    /// Linear interpolation of x at index / `factor` over the D, H, W of `size`; past the last element that one again.
    fn upsample(&mut self, label: &str, x: Self::Value, factor: usize, size: Shape) -> Result<Self::Value>;

    /// x read at half the index, plus the skip connection, whose extent it takes.
    fn upsample_add(&mut self, label: &str, x: Self::Value, skip: Self::Value) -> Result<Self::Value>;

    /// [D, H, W, C] -> [1, 1, 1, C].
    fn volume_mean(&mut self, label: &str, x: Self::Value) -> Result<Self::Value>;

    /// [D, H, W, C] -> [D, 1, 1, C].
    fn plane_mean(&mut self, label: &str, x: Self::Value) -> Result<Self::Value>;

    /// x sigmoid(attention), element by element.
    fn refine(&mut self, label: &str, x: Self::Value, attention: Self::Value) -> Result<Self::Value>;

    /// x + x sigmoid(attention), attention being [D, 1, 1, C].
    fn excite(&mut self, label: &str, x: Self::Value, attention: Self::Value) -> Result<Self::Value>;

    /// x plus a vector [1, 1, 1, C] everywhere.
    fn add_vector(&mut self, label: &str, x: Self::Value, vector: Self::Value) -> Result<Self::Value>;

    /// Channels of `a`, then those of `b`.
    fn concat(&mut self, label: &str, a: Self::Value, b: Self::Value) -> Result<Self::Value>;

    /// [D, H, W, 32]: the cost volume's shape.
    fn volume(&self, views: &Self::Views) -> Shape;

    /// For the gate of eq. 4: maximum and mean over the planes of the channel-mean |difference|, [S, H, W, 2].
    fn pixel_statistics(&mut self, label: &str, views: &Self::Views, difference: Difference) -> Result<Self::Value>;

    /// The cost volume, read by a pair of strided conv_bn of one kernel, as if it were [`evened`]. The volume itself,
    /// the largest tensor of all, need not exist.
    fn cost(
        &mut self,
        views: &Self::Views,
        difference: Difference,
        weighting: Weighting<Self::Value>,
        first: [Conv; 2],
    ) -> Result<[Self::Value; 2]>;

    /// The same, with a third reader: a projection of the volume by a convolution 1x1x1 with bias.
    fn cost_and_skip(
        &mut self,
        views: &Self::Views,
        difference: Difference,
        weighting: Weighting<Self::Value>,
        first: [Conv; 2],
        skip: Conv,
    ) -> Result<([Self::Value; 2], Self::Value)>;

    /// relu(upsample(half) + skip), a convolution to the logits, and what follows from them.
    fn regress_skip(
        &mut self,
        views: &Self::Views,
        logits: Conv,
        half: Self::Value,
        skip: Self::Value,
    ) -> Result<Self::Estimate>;

    /// Logits at 1/8, interpolated over the volume, and what follows from them.
    fn regress_trilinear(&mut self, views: &Self::Views, label: &str, eighth: Self::Value) -> Result<Self::Estimate>;
}

/// x as a kernel of stride 2 reads it: an odd axis is one longer, and repeats its last element. Zeros there would be
/// something that no training with even sizes has shown, at the far end of the volume above all; with it any size does
/// as well as the next even one.
///
/// # Errors
/// The executor's.
pub fn evened<L: Layers + ?Sized>(net: &mut L, label: &str, x: L::Value, kernel: Kernel) -> Result<L::Value> {
    let own = net.shape(&x);
    let size = kernel.evened(own);
    if size == own { Ok(x) } else { net.upsample(label, x, 1, size) }
}

/// Runs the layers that only narrow stages have ([`super::narrow`]). Maps of 1 / depth are values [1, H, W, 1], through
/// which no gradient flows from one stage to the one before.
///
/// # Errors
/// As [`Layers`].
#[allow(missing_docs, reason = "the layers are the field's")]
pub trait NarrowLayers: Layers {
    /// What an estimate of the stage before says of 1 / depth.
    fn inverse_depth(&mut self, estimate: &Self::Estimate) -> Result<Self::Value>;

    /// The reference's features [1, H, W, C] at a stage's resolution.
    fn reference(&mut self, views: &Self::Views, stage: &Stage) -> Result<Self::Value>;

    /// A map [1, H, W, 1] at twice its resolution: each fine pixel is a mean of the 3 x 3 coarse ones around the coarse
    /// pixel that it belongs to, weighted by the softmax of its 9 of the `weights` [1, H, W, 36].
    fn upsample_convex(&mut self, label: &str, map: Self::Value, weights: Self::Value) -> Result<Self::Value>;

    /// The cost volume [K, H, W, C] over a stage's hypotheses around `guess`, with squared differences.
    fn narrow_cost(
        &mut self,
        views: &Self::Views,
        stage: &Stage,
        guess: &Self::Value,
        gate: VoxelGate,
    ) -> Result<Self::Value>;

    /// relu(upsample(half) + skip), a convolution to the logits, and the expected hypothesis; `coarse` is what the
    /// stage before said.
    #[allow(clippy::too_many_arguments, reason = "each is another thing of the stage's")]
    fn regress_narrow(
        &mut self,
        views: &Self::Views,
        stage: &Stage,
        coarse: &Self::Estimate,
        guess: Self::Value,
        logits: Conv,
        half: Self::Value,
        skip: Self::Value,
    ) -> Result<Self::Estimate>;
}
