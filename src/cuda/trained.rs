//! Layers for training: weights are values of the graph, norms take the batch's own statistics, and every op notes its
//! gradients. What comes out are the logits of every stage, [D, H/4, W/4, 1] of the coarse one; what a narrow stage
//! begins from is a constant to it.

use std::collections::BTreeMap;

use super::graph::{Graph, Value};
use super::layers::{DeviceLayers, Mode, biased, geometry};
use super::ops::head::{self, Depths};
use super::ops::sweep::{self, Weighting};
use super::ops::{conv_gradient, depthwise, narrow, narrow_gradient, norm, pointwise, resample};
use super::storage::Element;
use crate::error::{Error, Result};
use crate::net::confidence::{DEVICE_HEAD, NARROW};
use crate::net::layers::{Activation, Conv, NarrowLayers, VoxelGate};
use crate::net::stage::Stage;
use crate::net::tensor::Shape;

/// What the depth of a sample is made of.
#[derive(Clone, Copy, Debug)]
pub struct TrainedViews {
    /// Feature maps at a quarter, cameras and depths.
    pub sweep: sweep::Views,
    /// What the coarse depth is the expectation of.
    pub depths: Depths,
    /// Of the narrow stage at work, whose features are a stack of all views.
    pub narrow: Option<narrow::Views>,
}

/// A stage's result.
#[derive(Clone, Copy, Debug)]
pub struct TrainedEstimate {
    /// [D, H, W, 1] f32.
    pub logits: Value,
    /// What they are logits of.
    pub of: LogitsOf,
}

/// Hypotheses of a stage.
#[derive(Clone, Copy, Debug)]
pub enum LogitsOf {
    /// The planes of the coarse stage.
    Planes(Depths),
    /// Around a guess of 1 / depth, [1, H, W, 1].
    Around {
        /// The guess.
        guess: Value,
        /// The two numbers of their spacing.
        spacing: Value,
    },
}

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

    /// relu(upsample(half) + skip), and the convolution to one channel.
    fn logits_of(&self, graph: &mut Graph, logits: &Conv, half: Value, skip: Value) -> Result<Value> {
        let x = resample::upsample_add(graph, &logits.name, half, skip, Activation::Relu)?;
        let [weight, bias] = biased(self, graph, logits)?;
        depthwise::to_one_channel(graph, &logits.name, x, weight, bias)
    }
}

impl Mode for Trained<'_> {
    type Views = TrainedViews;
    type Estimate = TrainedEstimate;

    fn sweep(views: &TrainedViews) -> &sweep::Views {
        &views.sweep
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
        _: &TrainedViews,
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
        _: &TrainedViews,
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
        views: &TrainedViews,
        logits: &Conv,
        half: Value,
        skip: Value,
    ) -> Result<TrainedEstimate> {
        let logits = self.logits_of(graph, logits, half, skip)?;
        Ok(TrainedEstimate { logits, of: LogitsOf::Planes(views.depths) })
    }

    fn regress_trilinear(
        &mut self,
        graph: &mut Graph,
        views: &TrainedViews,
        label: &str,
        eighth: Value,
        size: Shape,
    ) -> Result<TrainedEstimate> {
        let logits = resample::upsample(graph, label, eighth, 8, size.with_channels(1))?;
        Ok(TrainedEstimate { logits, of: LogitsOf::Planes(views.depths) })
    }
}

fn of_stage(views: &TrainedViews, stage: &Stage) -> Result<narrow::Views> {
    let problem = || format!("no views for the stage {}", stage.name);
    views.narrow.ok_or_else(|| Error::Bug { place: "device training", problem: problem() })
}

impl NarrowLayers for DeviceLayers<'_, Trained<'_>> {
    fn inverse_depth(&mut self, estimate: &TrainedEstimate) -> Result<Value> {
        const LABEL: &str = "narrow";
        let depth = match estimate.of {
            LogitsOf::Planes(depths) => head::expectation(self.graph, LABEL, estimate.logits, &depths)?.depth,
            LogitsOf::Around { guess, spacing } => {
                // Nothing was fitted: of the two maps only depth is used.
                let zeros = vec![0.0; DEVICE_HEAD + NARROW];
                let judge = Shape::plane(1, 1, zeros.len());
                let judge = self.graph.constant("no confidence", judge, Element::F32, &zeros);
                narrow::regress(self.graph, LABEL, estimate.logits, guess, guess, (spacing, judge))?.depth
            }
        };
        narrow::inverse(self.graph, LABEL, depth)
    }

    fn reference(&mut self, views: &TrainedViews, stage: &Stage) -> Result<Value> {
        narrow_gradient::first(self.graph, stage.name, of_stage(views, stage)?.reference)
    }

    fn upsample_convex(&mut self, label: &str, map: Value, weights: Value) -> Result<Value> {
        narrow::upsample_convex(self.graph, label, map, weights)
    }

    fn narrow_cost(&mut self, views: &TrainedViews, stage: &Stage, guess: &Value, gate: VoxelGate) -> Result<Value> {
        let views = of_stage(views, stage)?;
        let f = narrow_gradient::differences(self.graph, stage.name, &views, *guess, stage.hypotheses)?;
        let hidden = self.mode.conv(self.graph, &gate.reduce, f)?;
        let weights = self.mode.conv(self.graph, &gate.weight, hidden)?;
        let sources = self.graph.shape(f).d / stage.hypotheses;
        narrow_gradient::weighted(self.graph, stage.name, f, weights, sources)
    }

    fn regress_narrow(
        &mut self,
        views: &TrainedViews,
        stage: &Stage,
        _: &TrainedEstimate,
        guess: Value,
        logits: Conv,
        half: Value,
        skip: Value,
    ) -> Result<TrainedEstimate> {
        let logits = self.mode.logits_of(self.graph, &logits, half, skip)?;
        let spacing = of_stage(views, stage)?.spacing;
        Ok(TrainedEstimate { logits, of: LogitsOf::Around { guess, spacing } })
    }
}
