//! The executor of a device: each layer appends its launches to a graph.
//!
//! One implementation serves inference and training; where they differ, in where weights come from and in what follows
//! the cost volume, a [`Mode`] says how: [`super::folded`] and [`super::trained`].

use super::graph::{Graph, Value};
use super::ops::sweep::{self, VoxelGate};
use super::ops::{depthwise, pointwise, reduce, resample};
use crate::cpu::ops::conv_backward::ConvGeometry;
use crate::error::Result;
use crate::net::config::{Aggregation, Difference};
use crate::net::layers::{self, Activation, Conv, Depthwise, Layers, Weighting};
use crate::net::tensor::Shape;

/// How layers with weights, and those at both ends of the regularizer, are done.
///
/// # Errors
/// All: where a tensor is missing, or shapes do not fit together.
#[allow(missing_docs, reason = "the layers of the trait Layers")]
pub trait Mode {
    type Views;
    type Estimate;

    /// Feature maps, cameras and depths.
    fn sweep(views: &Self::Views) -> &sweep::Views;

    /// A tensor that is read as it is, in f32: a gate's, say.
    fn tensor(&self, graph: &mut Graph, name: &str, shape: &[usize]) -> Result<Value>;

    fn conv(&mut self, graph: &mut Graph, layer: &Conv, x: Value) -> Result<Value>;

    /// With a shortcut that is added before the ReLU, where there is one.
    fn conv_bn(&mut self, graph: &mut Graph, layer: &Conv, x: Value, shortcut: Option<Value>) -> Result<Value>;

    fn cost(
        &mut self,
        graph: &mut Graph,
        views: &Self::Views,
        sweep: &sweep::Views,
        weighting: &sweep::Weighting,
        first: &[Conv; 2],
    ) -> Result<[Value; 2]>;

    fn cost_and_skip(
        &mut self,
        graph: &mut Graph,
        views: &Self::Views,
        sweep: &sweep::Views,
        weighting: &sweep::Weighting,
        first: &[Conv; 2],
        skip: &Conv,
    ) -> Result<([Value; 2], Value)>;

    fn regress_skip(
        &mut self,
        graph: &mut Graph,
        views: &Self::Views,
        logits: &Conv,
        half: Value,
        skip: Value,
    ) -> Result<Self::Estimate>;

    fn regress_trilinear(
        &mut self,
        graph: &mut Graph,
        views: &Self::Views,
        label: &str,
        eighth: Value,
        size: Shape,
    ) -> Result<Self::Estimate>;
}

/// A graph that layers are appended to.
pub struct DeviceLayers<'g, M> {
    /// What grows.
    pub graph: &'g mut Graph,
    /// For inference or for training.
    pub mode: M,
}

/// A layer's kernel with its channels, as convolutions take it.
pub(super) fn geometry(layer: &Conv) -> ConvGeometry {
    ConvGeometry { channels: layer.channels, kernel: layer.kernel.size(), stride: layer.kernel.stride() }
}

impl<M: Mode> DeviceLayers<'_, M> {
    pub(super) fn weight_and_bias(&mut self, layer: &Conv) -> Result<[Value; 2]> {
        biased(&self.mode, self.graph, layer)
    }

    /// The tensors of the gate of eq. 5.
    pub(super) fn gate(&mut self, gate: &layers::VoxelGate) -> Result<VoxelGate> {
        let [reduce, reduce_bias] = self.weight_and_bias(&gate.reduce)?;
        let [weight, weight_bias] = self.weight_and_bias(&gate.weight)?;
        Ok(VoxelGate { reduce, reduce_bias, weight, weight_bias })
    }

    fn weighted(&mut self, weighting: Weighting<Value>) -> Result<sweep::Weighting> {
        Ok(match weighting {
            Aggregation::Voxel(gate) => Aggregation::Voxel(self.gate(&gate)?),
            Aggregation::Pixel(weights) => Aggregation::Pixel(weights),
            Aggregation::Mean => Aggregation::Mean,
            Aggregation::Variance => Aggregation::Variance,
        })
    }
}

/// `{name}.weight` and `{name}.bias`, as they are.
pub(super) fn biased<M: Mode>(mode: &M, graph: &mut Graph, layer: &Conv) -> Result<[Value; 2]> {
    let weight = mode.tensor(graph, &format!("{}.weight", layer.name), &layer.weight_shape())?;
    let bias = mode.tensor(graph, &format!("{}.bias", layer.name), &[layer.channels.1])?;
    Ok([weight, bias])
}

fn swept<M: Mode>(views: &M::Views, difference: Difference) -> sweep::Views {
    sweep::Views { squared: difference == Difference::Squared, ..*M::sweep(views) }
}

impl<M: Mode> Layers for DeviceLayers<'_, M> {
    type Value = Value;
    type Views = M::Views;
    type Estimate = M::Estimate;

    fn shape(&self, x: &Value) -> Shape {
        self.graph.shape(*x)
    }

    fn aside<T>(&mut self, layers: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.graph.set_aside(true);
        let made = layers(self);
        self.graph.set_aside(false);
        made
    }

    fn conv(&mut self, layer: Conv, x: Value) -> Result<Value> {
        self.mode.conv(self.graph, &layer, x)
    }

    fn conv_bn(&mut self, layer: Conv, x: Value) -> Result<Value> {
        self.mode.conv_bn(self.graph, &layer, x, None)
    }

    fn conv_bn_add(&mut self, _: &str, layer: Conv, x: Value, shortcut: Value) -> Result<Value> {
        self.mode.conv_bn(self.graph, &layer, x, Some(shortcut))
    }

    fn depthwise(&mut self, layer: Depthwise, x: Value) -> Result<Value> {
        let weight = format!("{}.weight", layer.name);
        let weight = self.mode.tensor(self.graph, &weight, &[layer.channels, 1, 3, 3, 3])?;
        depthwise::depthwise(self.graph, &layer.name, x, weight, layer.stride)
    }

    fn upsample(&mut self, label: &str, x: Value, factor: usize, size: Shape) -> Result<Value> {
        resample::upsample(self.graph, label, x, factor, size)
    }

    fn upsample_add(&mut self, label: &str, x: Value, skip: Value) -> Result<Value> {
        resample::upsample_add(self.graph, label, x, skip, Activation::Linear)
    }

    fn volume_mean(&mut self, label: &str, x: Value) -> Result<Value> {
        reduce::volume_mean(self.graph, label, x)
    }

    fn plane_mean(&mut self, label: &str, x: Value) -> Result<Value> {
        reduce::plane_mean(self.graph, label, x)
    }

    fn refine(&mut self, label: &str, x: Value, attention: Value) -> Result<Value> {
        pointwise::gate_refine(self.graph, label, x, attention)
    }

    fn excite(&mut self, label: &str, x: Value, attention: Value) -> Result<Value> {
        pointwise::gate_planes(self.graph, label, x, attention)
    }

    fn add_vector(&mut self, label: &str, x: Value, vector: Value) -> Result<Value> {
        pointwise::add_vector(self.graph, label, x, vector)
    }

    fn concat(&mut self, label: &str, a: Value, b: Value) -> Result<Value> {
        pointwise::concat(self.graph, label, a, b)
    }

    fn volume(&self, views: &M::Views) -> Shape {
        M::sweep(views).volume(self.graph)
    }

    fn pixel_statistics(&mut self, label: &str, views: &M::Views, difference: Difference) -> Result<Value> {
        sweep::pixel_statistics(self.graph, label, &swept::<M>(views, difference))
    }

    fn cost(
        &mut self,
        views: &M::Views,
        difference: Difference,
        weighting: Weighting<Value>,
        first: [Conv; 2],
    ) -> Result<[Value; 2]> {
        let weighting = self.weighted(weighting)?;
        self.mode.cost(self.graph, views, &swept::<M>(views, difference), &weighting, &first)
    }

    fn cost_and_skip(
        &mut self,
        views: &M::Views,
        difference: Difference,
        weighting: Weighting<Value>,
        first: [Conv; 2],
        skip: Conv,
    ) -> Result<([Value; 2], Value)> {
        let weighting = self.weighted(weighting)?;
        self.mode.cost_and_skip(self.graph, views, &swept::<M>(views, difference), &weighting, &first, &skip)
    }

    fn regress_skip(&mut self, views: &M::Views, logits: Conv, half: Value, skip: Value) -> Result<M::Estimate> {
        self.mode.regress_skip(self.graph, views, &logits, half, skip)
    }

    fn regress_trilinear(&mut self, views: &M::Views, label: &str, eighth: Value) -> Result<M::Estimate> {
        let size = self.volume(views);
        self.mode.regress_trilinear(self.graph, views, label, eighth, size)
    }
}
