//! The narrow stages of inference on a device, whole or in bands of rows.
//!
//! A narrow stage is local: what it finds at a pixel depends on pixels a few rows away. A band is computed with that
//! many rows more at either end, which are then cut off: the same bits as of the whole, in less memory. Bands follow
//! each other in the graph and share the arena.

use super::folded::{Folded, FoldedViews, NarrowViews};
use super::graph::{Graph, Value};
use super::layers::DeviceLayers;
use super::ops::head::{self, Maps};
use super::ops::{narrow as ops, resample};
use super::storage::Element;
use crate::error::{Error, Result};
use crate::net::layers::{Conv, NarrowLayers, VoxelGate};
use crate::net::narrow;
use crate::net::stage::Stage;
use crate::net::tensor::Shape;

/// Bands begin at multiples of this: every halving of a stage's U-Net keeps the even rows.
const ALIGNED: usize = 4;

/// The stage's part of the views.
fn of_stage<'v>(views: &'v FoldedViews, stage: &Stage) -> Result<&'v NarrowViews> {
    let problem = || format!("no views for the stage {}", stage.name);
    let own = views.narrow.as_ref().filter(|own| own.step == stage.step);
    own.ok_or_else(|| Error::Bug { place: "device network", problem: problem() })
}

impl NarrowLayers for DeviceLayers<'_, Folded<'_>> {
    fn inverse_depth(&mut self, estimate: &Maps) -> Result<Value> {
        ops::inverse(self.graph, "narrow", estimate.depth)
    }

    fn reference(&mut self, views: &FoldedViews, stage: &Stage) -> Result<Value> {
        Ok(of_stage(views, stage)?.sweep.reference)
    }

    fn upsample_convex(&mut self, label: &str, map: Value, weights: Value) -> Result<Value> {
        ops::upsample_convex(self.graph, label, map, weights)
    }

    fn narrow_cost(&mut self, views: &FoldedViews, stage: &Stage, guess: &Value, gate: VoxelGate) -> Result<Value> {
        let gate = self.gate(&gate)?;
        let views = of_stage(views, stage)?.sweep;
        ops::cost(self.graph, stage.name, &views, *guess, stage.hypotheses, &gate)
    }

    /// The logits are not kept.
    fn regress_narrow(
        &mut self,
        views: &FoldedViews,
        stage: &Stage,
        coarse: &Maps,
        guess: Value,
        logits: Conv,
        half: Value,
        skip: Value,
    ) -> Result<Maps> {
        let NarrowViews { sweep, judge, .. } = *of_stage(views, stage)?;
        let [weight, bias] = self.weight_and_bias(&logits)?;
        let logits = head::logits_skip(self.graph, &logits.name, half, skip, weight, bias)?;
        let size = self.graph.shape(guess);
        let before = resample::upsample(self.graph, stage.name, coarse.confidence, 2, size)?;
        ops::regress(self.graph, stage.name, logits, guess, before, (sweep.spacing, judge))
    }
}

/// Rows of a band without its borders, for a map of `height` rows and at most `most` of them at once.
fn band_rows(stage: &Stage, height: usize, most: usize) -> usize {
    // Borders that are wider than what lies between them would cost more than they save.
    let most = most.max(2 * stage.reach());
    if height <= most {
        return height;
    }
    height.div_ceil(height.div_ceil(most)).next_multiple_of(ALIGNED)
}

/// One stage, from the estimate of the stage before, in bands of at most `views.slabs.rows` rows.
///
/// # Errors
/// [`Error::Shape`] where something does not fit together.
pub fn refine(
    net: &mut DeviceLayers<'_, Folded<'_>>,
    stage: &Stage,
    views: &FoldedViews,
    coarse: &Maps,
) -> Result<Maps> {
    let own = *of_stage(views, stage)?;
    let Shape { h, w, .. } = net.graph.shape(own.sweep.reference);
    let rows = band_rows(stage, h, views.slabs.rows);
    if rows >= h {
        return narrow::refine(net, stage, views, coarse);
    }
    let reach = stage.reach().next_multiple_of(ALIGNED);
    let [depth, confidence] = ["depth", "confidence"]
        .map(|what| net.graph.temporary(format!("{} {what}", stage.name), Shape::plane(h, w, 1), Element::F32));
    for from in (0..h).step_by(rows) {
        let to = (from + rows).min(h);
        let (begin, end) = (from.saturating_sub(reach), (to + reach).min(h));
        let reference = rows_of(net.graph, stage, own.sweep.reference, begin, end);
        let sweep = ops::Views { reference, top: begin, ..own.sweep };
        let band = FoldedViews { narrow: Some(NarrowViews { sweep, ..own }), ..*views };
        let above = |graph: &mut Graph, map: Value| rows_of(graph, stage, map, begin / 2, end.div_ceil(2));
        let above = Maps {
            depth: above(net.graph, coarse.depth),
            confidence: above(net.graph, coarse.confidence),
            logits: None,
        };
        let found = narrow::refine(net, stage, &band, &above)?;
        let bytes = |rows: usize| (rows * w) as u64 * Element::F32.bytes();
        for (whole, found) in [(depth, found.depth), (confidence, found.confidence)] {
            net.graph.copy(stage.name, (found, bytes(from - begin)), (whole, bytes(from)), bytes(to - from));
        }
    }
    Ok(Maps { depth, confidence, logits: None })
}

/// Rows of a value [1, H, W, C].
fn rows_of(graph: &mut Graph, stage: &Stage, value: Value, begin: usize, end: usize) -> Value {
    let info = graph.info(value);
    let (shape, element, name) = (info.shape, info.element, format!("rows of {}", info.name));
    let bytes = |rows: usize| (rows * shape.w * shape.c) as u64 * element.bytes();
    let y = graph.temporary(name, Shape { h: end - begin, ..shape }, element);
    graph.copy(stage.name, (value, bytes(begin)), (y, 0), bytes(end - begin));
    y
}
