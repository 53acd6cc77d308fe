//! Weights in the order in which the processor's ops read them: batch norms folded, layers that are computed in one
//! pass joined.

use std::collections::HashMap;

use super::ops::conv::Conv;
use super::ops::depthwise::Depthwise;
use super::ops::head::LogitsConv;
use super::ops::sweep::VoxelGate;
use crate::error::{Error, Result};
use crate::net::layers;
use crate::net::outline::{self, Layer};
use crate::net::parameters::Parameters;
use crate::net::tensor::Shape;

/// A layer, ready to run.
enum Ready {
    Dense(Conv),
    Depthwise(Depthwise),
    Gate(VoxelGate),
    Logits(LogitsConv),
}

/// All layers of a configuration by their names.
pub struct Weights {
    layers: HashMap<String, Ready>,
}

impl Weights {
    /// `file` is for messages.
    ///
    /// # Errors
    /// Where a value is not finite, or a norm's statistics are none; the message names the tensor.
    pub fn new(parameters: &Parameters, file: &str) -> Result<Self> {
        parameters.expect_finite(file)?;
        let mut all = HashMap::new();
        for (layer, _) in outline::layers(parameters.config, 4, 4, 1)? {
            let (name, ready) = match &layer {
                Layer::Conv(c) => (&c.name, Ready::Dense(conv(parameters, c)?)),
                Layer::ConvBn(c) => (&c.name, Ready::Dense(conv_bn(parameters, c, file)?)),
                Layer::Pair([a, b]) => {
                    let joined = Conv::joined(&conv_bn(parameters, a, file)?, &conv_bn(parameters, b, file)?);
                    (&a.name, Ready::Dense(joined))
                }
                Layer::Depthwise(d) => (&d.name, Ready::Depthwise(depthwise(parameters, d)?)),
                Layer::VoxelGate(g) => (&g.reduce.name, Ready::Gate(voxel_gate(parameters, g)?)),
                Layer::Logits(c) => {
                    let [weights, bias] = tensors(parameters, &c.name)?;
                    (&c.name, Ready::Logits(LogitsConv::new(weights, bias[0])))
                }
            };
            all.insert(name.clone(), ready);
        }
        Ok(Self { layers: all })
    }

    /// A convolution; of a pair, which is one, by the first's name.
    pub(super) fn dense(&self, layer: &layers::Conv) -> Result<&Conv> {
        match self.layers.get(&layer.name) {
            Some(Ready::Dense(conv)) => Ok(conv),
            _ => Err(not_ready(&layer.name)),
        }
    }

    pub(super) fn depthwise(&self, layer: &layers::Depthwise) -> Result<&Depthwise> {
        match self.layers.get(&layer.name) {
            Some(Ready::Depthwise(depthwise)) => Ok(depthwise),
            _ => Err(not_ready(&layer.name)),
        }
    }

    pub(super) fn gate(&self, layer: &layers::VoxelGate) -> Result<&VoxelGate> {
        match self.layers.get(&layer.reduce.name) {
            Some(Ready::Gate(gate)) => Ok(gate),
            _ => Err(not_ready(&layer.reduce.name)),
        }
    }

    pub(super) fn logits(&self, layer: &layers::Conv) -> Result<&LogitsConv> {
        match self.layers.get(&layer.name) {
            Some(Ready::Logits(logits)) => Ok(logits),
            _ => Err(not_ready(&layer.name)),
        }
    }

    /// The dense convolutions among the layers of [`outline::layers`], for benchmarks: name, layer, input's shape.
    pub(super) fn convolutions(&self, layers: &[(Layer, Shape)]) -> Vec<(String, &Conv, Shape)> {
        let named = |(layer, shape): &(Layer, Shape)| {
            let name = match layer {
                Layer::Conv(c) | Layer::ConvBn(c) => &c.name,
                Layer::Pair([a, _]) => &a.name,
                Layer::Depthwise(_) | Layer::VoxelGate(_) | Layer::Logits(_) => return None,
            };
            match self.layers.get(name)? {
                Ready::Dense(conv) => Some((name.clone(), conv, *shape)),
                _ => None,
            }
        };
        layers.iter().filter_map(named).collect()
    }
}

fn not_ready(name: &str) -> Error {
    Error::Bug { place: "cpu network", problem: format!("the model asks for a layer `{name}` that its outline lacks") }
}

fn tensors<'p>(parameters: &'p Parameters, name: &str) -> Result<[&'p [f32]; 2]> {
    Ok([parameters.values(&format!("{name}.weight"))?, parameters.values(&format!("{name}.bias"))?])
}

/// A convolution with bias.
///
/// # Errors
/// [`Error::Bug`] where its tensors are not among the parameters.
pub fn conv(parameters: &Parameters, layer: &layers::Conv) -> Result<Conv> {
    let [weights, bias] = tensors(parameters, &layer.name)?;
    Ok(packed(layer, weights, bias))
}

/// A convolution with the batch norm after it folded in.
///
/// # Errors
/// As [`Parameters::folded`].
pub fn conv_bn(parameters: &Parameters, layer: &layers::Conv, file: &str) -> Result<Conv> {
    let (weights, bias) = parameters.folded(layer, file)?;
    Ok(packed(layer, &weights, &bias))
}

fn packed(layer: &layers::Conv, weights: &[f32], bias: &[f32]) -> Conv {
    Conv::new(layer.channels, layer.kernel.size(), layer.kernel.stride(), weights, bias, layer.activation)
}

/// A depthwise convolution.
///
/// # Errors
/// As [`conv`].
pub fn depthwise(parameters: &Parameters, layer: &layers::Depthwise) -> Result<Depthwise> {
    let weights = parameters.values(&format!("{}.weight", layer.name))?;
    Ok(Depthwise::new(layer.channels, layer.stride, weights))
}

/// The gate of eq. 5.
///
/// # Errors
/// As [`conv`].
pub fn voxel_gate(parameters: &Parameters, gate: &layers::VoxelGate) -> Result<VoxelGate> {
    let [reduce, reduce_bias] = tensors(parameters, &gate.reduce.name)?;
    let [weight, weight_bias] = tensors(parameters, &gate.weight.name)?;
    Ok(VoxelGate::new(reduce, reduce_bias, weight, weight_bias[0]))
}
