//! Layers for inference: norms folded into constants, and the cost volume never whole.
//!
//! The two strided convolutions that begin the regularizer read the cost volume once, the decoder's projection is part
//! of the sweep, and the last stage ends in depth and confidence without a volume of full resolution. The cost volume
//! itself, the largest tensor by far, is made in slabs of depth planes that share one buffer: [`Slabs`].

use std::sync::Arc;

use super::driver::Driver;
use super::graph::{Graph, Value};
use super::layers::{Mode, biased, geometry};
use super::ops::conv::{self, ConvLayer};
use super::ops::conv_library;
use super::ops::head::{self, Depths, Maps};
use super::ops::narrow;
use super::ops::resample;
use super::ops::sweep::{self, Skip, Weighting};
use super::storage::Element;
use crate::error::Result;
use crate::net::layers::Conv;
use crate::net::parameters::Parameters;
use crate::net::tensor::Shape;

/// How much of the large volumes exists at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slabs {
    /// Depth planes of the cost volume, even: the strided layers make half as many from them. All planes at once where
    /// it is not less than D.
    pub planes: usize,
    /// Rows of a narrow stage's map, a multiple of 4, beside the border that a band needs at either end
    /// ([`super::narrow`]). All rows at once where that is not less than H.
    pub rows: usize,
}

impl Slabs {
    /// The whole volumes at once.
    pub const WHOLE: Self = Self { planes: usize::MAX, rows: usize::MAX };

    /// So many planes of the cost volume, and narrow stages whole.
    pub const fn of_planes(planes: usize) -> Self {
        Self { planes, ..Self::WHOLE }
    }
}

/// Where weights come from and how activations are stored.
pub struct Folded<'w> {
    /// The tensors.
    pub parameters: &'w Parameters,
    /// Where they are from, for messages.
    pub file: &'w str,
    /// F32 or F16.
    pub element: Element,
    /// The device whose library convolves, where that is wanted.
    pub library: Option<Arc<dyn Driver>>,
}

/// What depth and confidence are made of.
#[derive(Clone, Copy, Debug)]
pub struct FoldedViews {
    /// Feature maps, cameras and depths.
    pub sweep: sweep::Views,
    /// What depth is the expectation of.
    pub depths: Depths,
    /// Of the cost volume.
    pub slabs: Slabs,
    /// Whether the logits are kept.
    pub keep_logits: bool,
    /// What the narrow stage at work is made of.
    pub narrow: Option<NarrowViews>,
}

/// What a narrow stage of a view is made of.
#[derive(Clone, Copy, Debug)]
pub struct NarrowViews {
    /// Features, cameras and spacing.
    pub sweep: narrow::Views,
    /// What its confidence is made with ([`narrow::regress`]).
    pub judge: Value,
    /// Photo pixels from one of its pixels to the next.
    pub step: usize,
}

impl Folded<'_> {
    /// A convolution with fixed weights and biases.
    fn fixed(
        &self,
        graph: &mut Graph,
        layer: &Conv,
        x: Value,
        (weights, bias): (&[f32], &[f32]),
        shortcut: Option<Value>,
    ) -> Result<Value> {
        let (geometry, element) = (geometry(layer), self.element);
        if let Some(driver) = &self.library {
            let own = conv_library::Layer { geometry, weights, bias, relu: layer.activation.is_relu(), element };
            return conv_library::conv(graph, driver, &layer.name, x, &own, shortcut);
        }
        let own = conv::layer(graph, &layer.name, geometry, weights, bias, layer.activation, element)?;
        conv::conv(graph, &layer.name, x, &own, shortcut)
    }

    /// Two ConvBnReLU as one layer whose outputs follow each other.
    fn joined(&self, graph: &mut Graph, pair: &[Conv; 2]) -> Result<ConvLayer> {
        let (mut weights, mut biases) = (Vec::new(), Vec::new());
        for layer in pair {
            let (weight, bias) = self.parameters.folded(layer, self.file)?;
            weights.extend(weight);
            biases.extend(bias);
        }
        let [first, second] = pair;
        let channels = (first.channels.0, first.channels.1 + second.channels.1);
        let geometry = geometry(&Conv { channels, ..first.clone() });
        conv::layer(graph, &first.name, geometry, &weights, &biases, first.activation, self.element)
    }

    /// Everything that reads the cost volume: the first layers of both paths at half resolution, and the projection of
    /// the cost. A slab of planes is made, read and overwritten by the next; a strided layer's output plane k reads
    /// planes 2k - 1 to 2k + 1, so that neighbouring slabs share one plane, which is made twice.
    fn in_slabs(
        &self,
        graph: &mut Graph,
        slabs: Slabs,
        sweep: &sweep::Views,
        weighting: &Weighting,
        first: &[Conv; 2],
        skip: Option<(Skip, Value)>,
    ) -> Result<[Value; 2]> {
        let pair = self.joined(graph, first)?;
        let volume = sweep.volume(graph);
        let (half, planes) = (volume.halved(), volume.d);
        let made = first.each_ref().map(|c| graph.temporary(&c.name, half.with_channels(c.channels.1), self.element));
        let per_slab = (slabs.planes.min(planes + planes % 2) / 2).max(1);
        for from in (0..half.d).step_by(per_slab) {
            let to = (from + per_slab).min(half.d);
            let (begin, end) = ((2 * from).saturating_sub(1), (2 * to).min(planes));
            let range = sweep::Planes { begin, end, projected: skip.map(|(_, to)| to) };
            let skip = skip.map(|(skip, _)| skip);
            let cost = sweep::cost_planes(graph, "aggregation", sweep, weighting, skip.as_ref(), &range)?;
            // The last of an odd number of planes is read twice, as the last of odd rows and columns.
            let evened = first[0].kernel.evened(volume);
            let repeated = if end == planes { evened.d - planes } else { 0 };
            let slab = Shape { d: end - begin + repeated, ..evened };
            let cost = match graph.shape(cost) == slab {
                true => cost,
                false => resample::upsample(graph, "aggregation", cost, 1, slab)?,
            };
            let rows = conv::Planes { input_begin: begin, input_planes: evened.d, output: from..to };
            conv::conv_planes(graph, &first[0].name, cost, &pair, &rows, (made[0], made[1]))?;
        }
        Ok(made)
    }
}

impl Mode for Folded<'_> {
    type Views = FoldedViews;
    type Estimate = Maps;

    fn sweep(views: &FoldedViews) -> &sweep::Views {
        &views.sweep
    }

    fn tensor(&self, graph: &mut Graph, name: &str, _: &[usize]) -> Result<Value> {
        let values = self.parameters.values(name)?;
        Ok(graph.constant(name, Shape::plane(1, 1, values.len()), Element::F32, values))
    }

    fn conv(&mut self, graph: &mut Graph, layer: &Conv, x: Value) -> Result<Value> {
        let weights = self.parameters.values(&format!("{}.weight", layer.name))?;
        let bias = self.parameters.values(&format!("{}.bias", layer.name))?;
        self.fixed(graph, layer, x, (weights, bias), None)
    }

    fn conv_bn(&mut self, graph: &mut Graph, layer: &Conv, x: Value, shortcut: Option<Value>) -> Result<Value> {
        let (weights, bias) = self.parameters.folded(layer, self.file)?;
        self.fixed(graph, layer, x, (&weights, &bias), shortcut)
    }

    fn cost(
        &mut self,
        graph: &mut Graph,
        views: &FoldedViews,
        sweep: &sweep::Views,
        weighting: &Weighting,
        first: &[Conv; 2],
    ) -> Result<[Value; 2]> {
        self.in_slabs(graph, views.slabs, sweep, weighting, first, None)
    }

    fn cost_and_skip(
        &mut self,
        graph: &mut Graph,
        views: &FoldedViews,
        sweep: &sweep::Views,
        weighting: &Weighting,
        first: &[Conv; 2],
        skip: &Conv,
    ) -> Result<([Value; 2], Value)> {
        let [weights, bias] = biased(self, graph, skip)?;
        let shape = sweep.volume(graph).with_channels(skip.channels.1);
        let projected = graph.temporary(&skip.name, shape, self.element);
        let with = Some((Skip { weights, bias }, projected));
        Ok((self.in_slabs(graph, views.slabs, sweep, weighting, first, with)?, projected))
    }

    fn regress_skip(
        &mut self,
        graph: &mut Graph,
        views: &FoldedViews,
        logits: &Conv,
        half: Value,
        skip: Value,
    ) -> Result<Maps> {
        let [weight, bias] = biased(self, graph, logits)?;
        let label = &logits.name;
        head::regress_skip(graph, label, half, skip, weight, bias, &views.depths, views.keep_logits)
    }

    fn regress_trilinear(
        &mut self,
        graph: &mut Graph,
        views: &FoldedViews,
        label: &str,
        eighth: Value,
        size: Shape,
    ) -> Result<Maps> {
        head::regress_trilinear(graph, label, eighth, size, &views.depths, views.keep_logits)
    }
}
