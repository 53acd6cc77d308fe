//! The network's layers on a device graph: folded constants for inference, or parameters with batch statistics for
//! training.
//!
//! One description of the network ([`super::network`]) serves both; which of the two a layer is depends on where its
//! weights come from.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::driver::Driver;
use super::graph::{Element, Graph, Value};
use super::ops::{conv, conv_library, depthwise, norm};
use crate::cpu::ops::conv_backward::ConvGeometry;
use crate::cpu::tensor::Shape;
use crate::error::{Error, Result};
use crate::net::weights::{Checkpoint, Kernel};

/// Where weights come from.
pub enum Weights<'w> {
    /// A checkpoint's tensors, batch norms folded into the convolutions before them: for inference.
    Folded(&'w Checkpoint),
    /// Values of the graph by their names in the checkpoint, norms with the statistics of the batch: for training.
    Trained(&'w BTreeMap<String, Value>),
}

/// What a norm found of the batch, on the device.
#[derive(Clone, Debug)]
pub struct DeviceStatistics {
    /// Its name: `features.stage1.0.bn`.
    pub norm: String,
    /// [1, 1, 1, C].
    pub mean: Value,
    /// [1, 1, 1, C], biased.
    pub variance: Value,
    /// Positions that they are taken over.
    pub positions: usize,
}

/// A kernel with its channels in and out.
fn geometry(channels: (usize, usize), kernel: Kernel) -> ConvGeometry {
    ConvGeometry { channels, kernel: kernel.size(), stride: kernel.stride() }
}

/// Channels in and out, and the kernel between.
pub type Size = ((usize, usize), Kernel);

/// A graph that layers are appended to.
pub struct Layers<'g, 'w> {
    /// What grows.
    pub graph: &'g mut Graph,
    /// Where weights come from.
    pub weights: Weights<'w>,
    /// How activations are stored.
    pub element: Element,
    /// The device whose library convolves, where that is wanted: for inference.
    pub library: Option<Arc<dyn Driver>>,
    /// Of all norms so far, when training.
    pub statistics: Vec<DeviceStatistics>,
}

impl<'g, 'w> Layers<'g, 'w> {
    /// No layer yet.
    pub fn new(graph: &'g mut Graph, weights: Weights<'w>, element: Element) -> Self {
        Self { graph, weights, element, library: None, statistics: Vec::new() }
    }

    /// Whether gradients are wanted.
    pub fn training(&self) -> bool {
        matches!(self.weights, Weights::Trained(_))
    }

    /// A tensor that is read as it is, in f32: a gate's, say.
    ///
    /// # Errors
    /// Where it is missing or misshapen.
    pub fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Value> {
        match &self.weights {
            Weights::Folded(checkpoint) => {
                let values = checkpoint.take(name, shape)?;
                Ok(self.graph.constant(name, Shape::plane(1, 1, values.len()), Element::F32, &values))
            }
            Weights::Trained(values) => parameter(values, name),
        }
    }

    /// A convolution with bias (and ReLU).
    ///
    /// # Errors
    /// Where its tensors are missing or misshapen, or do not fit `x`.
    pub fn conv(&mut self, name: &str, x: Value, (channels, kernel): Size, relu: bool) -> Result<Value> {
        let geometry = geometry(channels, kernel);
        match &self.weights {
            Weights::Folded(checkpoint) => {
                let weights = checkpoint.take(&format!("{name}.weight"), &kernel.shape(channels))?;
                let bias = checkpoint.take(&format!("{name}.bias"), &[channels.1])?;
                self.fixed(name, x, (geometry, &weights, &bias), relu, None)
            }
            Weights::Trained(values) => {
                let weight = parameter(values, &format!("{name}.weight"))?;
                let bias = parameter(values, &format!("{name}.bias"))?;
                conv::conv_trained(self.graph, name, x, weight, Some(bias), geometry, relu)
            }
        }
    }

    /// The reference's ConvBnReLU, with `residual` added before the ReLU.
    ///
    /// # Errors
    /// As [`Layers::conv`].
    pub fn conv_bn(
        &mut self,
        name: &str,
        x: Value,
        (channels, kernel): Size,
        relu: bool,
        residual: Option<Value>,
    ) -> Result<Value> {
        let geometry = geometry(channels, kernel);
        match &self.weights {
            Weights::Folded(checkpoint) => {
                let (weights, bias) = checkpoint.folded(name, channels.1, &kernel.shape(channels))?;
                self.fixed(name, x, (geometry, &weights, &bias), relu, residual)
            }
            Weights::Trained(values) => {
                let weight = parameter(values, &format!("{name}.conv.weight"))?;
                let y = conv::conv_trained(self.graph, name, x, weight, None, geometry, false)?;
                let bn = format!("{name}.bn");
                let (gamma, beta) =
                    (parameter(values, &format!("{bn}.weight"))?, parameter(values, &format!("{bn}.bias"))?);
                let alone = residual.is_none();
                let normed = norm::batch_norm(self.graph, &bn, y, gamma, beta, relu && alone)?;
                let positions = self.graph.shape(y).positions();
                let (mean, variance) = (normed.mean, normed.variance);
                self.statistics.push(DeviceStatistics { norm: bn, mean, variance, positions });
                match residual {
                    None => Ok(normed.y),
                    Some(other) if relu => super::ops::pointwise::add_relu(self.graph, name, normed.y, other),
                    Some(other) => super::ops::pointwise::add(self.graph, name, normed.y, other),
                }
            }
        }
    }

    /// A convolution with fixed weights and biases.
    fn fixed(
        &mut self,
        name: &str,
        x: Value,
        (geometry, weights, bias): (ConvGeometry, &[f32], &[f32]),
        relu: bool,
        residual: Option<Value>,
    ) -> Result<Value> {
        let element = self.element;
        if let Some(driver) = &self.library {
            let layer = conv_library::Layer { geometry, weights, bias, relu, element };
            return conv_library::conv(self.graph, driver, name, x, &layer, residual);
        }
        let layer = conv::layer(self.graph, name, geometry, weights, bias, relu, element)?;
        conv::conv(self.graph, name, x, &layer, residual)
    }

    /// Two ConvBnReLU of one geometry on the same input, which is read once for inference.
    ///
    /// # Errors
    /// As [`Layers::conv`].
    pub fn pair(&mut self, names: [&str; 2], x: Value, size: Size) -> Result<(Value, Value)> {
        match &self.weights {
            Weights::Folded(checkpoint) => {
                let layer = folded(self.graph, checkpoint, &names, size, true, self.element)?;
                conv::conv_split(self.graph, names[0], x, &layer, size.0.1)
            }
            Weights::Trained(_) => {
                let first = self.conv_bn(names[0], x, size, true, None)?;
                Ok((first, self.conv_bn(names[1], x, size, true, None)?))
            }
        }
    }

    /// A depthwise 3x3x3 convolution.
    ///
    /// # Errors
    /// As [`Layers::conv`].
    pub fn depthwise(&mut self, name: &str, x: Value, stride: usize) -> Result<Value> {
        let channels = self.graph.shape(x).c;
        let weight = self.tensor(&format!("{name}.weight"), &[channels, 1, 3, 3, 3])?;
        depthwise::depthwise(self.graph, name, x, weight, stride)
    }
}

fn parameter(values: &BTreeMap<String, Value>, name: &str) -> Result<Value> {
    let missing = || Error::Weights { file: "training".into(), problem: format!("tensor `{name}` is missing") };
    values.get(name).copied().ok_or_else(missing)
}

/// One or more ConvBnReLU with their norms folded in, as one layer whose outputs follow each other.
pub fn folded(
    graph: &mut Graph,
    checkpoint: &Checkpoint,
    names: &[&str],
    (channels, kernel): Size,
    relu: bool,
    element: Element,
) -> Result<conv::ConvLayer> {
    let (mut weights, mut biases) = (Vec::new(), Vec::new());
    for name in names {
        let (weight, bias) = checkpoint.folded(name, channels.1, &kernel.shape(channels))?;
        weights.extend(weight);
        biases.extend(bias);
    }
    let geometry = geometry((channels.0, channels.1 * names.len()), kernel);
    conv::layer(graph, names[0], geometry, &weights, &biases, relu, element)
}
