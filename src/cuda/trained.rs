//! Layers for training: weights are values of the graph, norms take the batch's own statistics, and every op notes its
//! gradients. What comes out are the logits [D, H/4, W/4, 1].

use std::collections::BTreeMap;

use super::graph::{Graph, Value};
use super::layers::{Mode, biased, geometry};
use super::ops::sweep::{self, Weighting};
use super::ops::{conv_gradient, depthwise, norm, pointwise, resample};
use crate::error::{Error, Result};
use crate::net::layers::{Activation, Conv};
use crate::net::tensor::Shape;

/// What a norm found of the batch, on the device.
#[derive(Clone, Debug)]
pub struct NormValues {
    /// Its name: `features.stage1.0.bn`.
    pub norm: String,
    /// [1, 1, 1, C].
    pub mean: Value,
    /// [1, 1, 1, C], biased.
    pub variance: Value,
    /// Positions that they are taken over.
    pub positions: usize,
}

/// Where weights come from, and what the norms have found.
pub struct Trained<'w> {
    values: &'w BTreeMap<String, Value>,
    /// Of all norms so far.
    pub norms: Vec<NormValues>,
}

impl<'w> Trained<'w> {
    /// With these values by their names in the checkpoint.
    pub fn new(values: &'w BTreeMap<String, Value>) -> Self {
        Self { values, norms: Vec::new() }
    }

    /// The pair that reads the cost volume, of any size.
    fn read_by(&mut self, graph: &mut Graph, [a, b]: &[Conv; 2], cost: Value) -> Result<[Value; 2]> {
        let (own, even) = (graph.shape(cost), a.kernel.evened(graph.shape(cost)));
        let cost = if even == own { cost } else { resample::upsample(graph, "aggregation", cost, 1, even)? };
        Ok([self.conv_bn(graph, a, cost, None)?, self.conv_bn(graph, b, cost, None)?])
    }
}

impl Mode for Trained<'_> {
    type Views = sweep::Views;
    type Estimate = Value;

    fn sweep(views: &sweep::Views) -> &sweep::Views {
        views
    }

    fn tensor(&self, _: &mut Graph, name: &str, _: &[usize]) -> Result<Value> {
        let missing = || Error::Weights { file: "training".into(), problem: format!("tensor `{name}` is missing") };
        self.values.get(name).copied().ok_or_else(missing)
    }

    fn conv(&mut self, graph: &mut Graph, layer: &Conv, x: Value) -> Result<Value> {
        let [weight, bias] = biased(self, graph, layer)?;
        conv_gradient::conv_trained(graph, &layer.name, x, weight, Some(bias), geometry(layer), layer.activation)
    }

    fn conv_bn(&mut self, graph: &mut Graph, layer: &Conv, x: Value, shortcut: Option<Value>) -> Result<Value> {
        let weight = self.tensor(graph, &format!("{}.conv.weight", layer.name), &[])?;
        let y = conv_gradient::conv_trained(graph, &layer.name, x, weight, None, geometry(layer), Activation::Linear)?;
        let norm = format!("{}.bn", layer.name);
        let gamma = self.tensor(graph, &format!("{norm}.weight"), &[])?;
        let beta = self.tensor(graph, &format!("{norm}.bias"), &[])?;
        let alone = if shortcut.is_none() { layer.activation } else { Activation::Linear };
        let normed = norm::batch_norm(graph, &norm, y, gamma, beta, alone)?;
        let positions = graph.shape(y).positions();
        let (mean, variance) = (normed.mean, normed.variance);
        self.norms.push(NormValues { norm, mean, variance, positions });
        match shortcut {
            None => Ok(normed.y),
            Some(other) if layer.activation.is_relu() => pointwise::add_relu(graph, &layer.name, normed.y, other),
            Some(other) => pointwise::add(graph, &layer.name, normed.y, other),
        }
    }

    fn cost(
        &mut self,
        graph: &mut Graph,
        _: &sweep::Views,
        sweep: &sweep::Views,
        weighting: &Weighting,
        first: &[Conv; 2],
    ) -> Result<[Value; 2]> {
        let (cost, _) = sweep::cost_volume(graph, "aggregation", sweep, weighting, None)?;
        self.read_by(graph, first, cost)
    }

    fn cost_and_skip(
        &mut self,
        graph: &mut Graph,
        _: &sweep::Views,
        sweep: &sweep::Views,
        weighting: &Weighting,
        first: &[Conv; 2],
        skip: &Conv,
    ) -> Result<([Value; 2], Value)> {
        let (cost, _) = sweep::cost_volume(graph, "aggregation", sweep, weighting, None)?;
        Ok((self.read_by(graph, first, cost)?, self.conv(graph, skip, cost)?))
    }

    fn regress_skip(
        &mut self,
        graph: &mut Graph,
        _: &sweep::Views,
        logits: &Conv,
        half: Value,
        skip: Value,
    ) -> Result<Value> {
        let x = resample::upsample_add(graph, &logits.name, half, skip, Activation::Relu)?;
        let [weight, bias] = biased(self, graph, logits)?;
        depthwise::to_one_channel(graph, &logits.name, x, weight, bias)
    }

    fn regress_trilinear(
        &mut self,
        graph: &mut Graph,
        _: &sweep::Views,
        label: &str,
        eighth: Value,
        size: Shape,
    ) -> Result<Value> {
        resample::upsample(graph, label, eighth, 8, size.with_channels(1))
    }
}
