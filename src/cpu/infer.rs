//! The executor of inference: norms folded, ReLU and residual in the convolution, tensors from the device's pool, and
//! three fusions. The cost volume is never stored ([`sweep_fused::fused`]), the pair that reads it is one convolution,
//! and the last stage ends in depth and confidence ([`head`]).

use super::device::{Cpu, Pooled};
use super::ops::cost_volume::{joined, planes};
use super::ops::depth::Expectation;
use super::ops::pointwise::{add_vector, concat, gate, gate_planes};
use super::ops::reduce::{plane_mean, volume_mean};
use super::ops::resample::{upsample, upsample_add};
use super::ops::sweep::{self, Sweep};
use super::ops::{conv, head, pixel_statistics, sweep_fused};
use super::weights::Weights;
use crate::error::Result;
use crate::net::backend::Estimate;
use crate::net::config::{Aggregation, Difference};
use crate::net::layers::{Conv, Depthwise, Layers, Weighting};
use crate::net::tensor::{Shape, Tensor};
use crate::scene::camera::PlaneSweep;

/// Looks at a layer's output by its name: what the golden tests compare and benchmarks time by.
pub type Probe<'a> = dyn FnMut(&str, &Tensor) + 'a;

/// One view's network.
pub struct Infer<'n, 'p> {
    cpu: &'n Cpu,
    weights: &'n Weights,
    probe: &'p mut Probe<'p>,
}

/// What the depth of a view is made of.
pub struct InferViews<'a> {
    /// [1, H, W, 32].
    pub reference: &'a Tensor,
    /// Each source's features and where the reference's pixels lie in it.
    pub sources: &'a [(&'a Tensor, PlaneSweep)],
    /// The hypotheses.
    pub depths: &'a [f32],
    /// What depth is the expectation of.
    pub expectation: &'a Expectation,
    /// Whether the estimate holds the logits.
    pub keep_logits: bool,
}

impl<'a> InferViews<'a> {
    fn sweep(&self, difference: Difference, aggregation: sweep::Aggregation<'a>) -> Sweep<'a> {
        let squared = difference == Difference::Squared;
        Sweep { reference: self.reference, sources: self.sources, depths: self.depths, aggregation, squared }
    }
}

impl<'n, 'p> Infer<'n, 'p> {
    /// With these weights; every layer's output is shown to `probe`.
    pub fn new(cpu: &'n Cpu, weights: &'n Weights, probe: &'p mut Probe<'p>) -> Self {
        Self { cpu, weights, probe }
    }

    fn keep(&self, tensor: Tensor) -> Pooled<'n> {
        Pooled::new(self.cpu, tensor)
    }

    fn shown(&mut self, name: &str, tensor: Tensor) -> Pooled<'n> {
        (self.probe)(name, &tensor);
        self.keep(tensor)
    }

    fn dense(&mut self, name: &str, layer: &conv::Conv, x: &Tensor, shortcut: Option<&Tensor>) -> Result<Pooled<'n>> {
        let y = layer.forward(self.cpu, x, shortcut)?;
        Ok(self.shown(name, y))
    }

    /// The pair's outputs, and the projection into `skip` where there is one.
    fn fused(
        &mut self,
        views: &InferViews,
        difference: Difference,
        weighting: &Weighting<Pooled<'n>>,
        first: &[Conv; 2],
        skip: Option<(&conv::Conv, &mut Tensor)>,
    ) -> Result<[Pooled<'n>; 2]> {
        let pair = self.weights.dense(&first[0])?;
        let made = self.swept(views, difference, weighting, |cpu, sweep| sweep_fused::fused(cpu, sweep, pair, skip))?;
        let [spatial, context] = made;
        Ok([self.shown(&first[0].name, spatial), self.shown(&first[1].name, context)])
    }

    /// Runs `work` on the sweep with its sources weighted.
    fn swept<T>(
        &self,
        views: &InferViews,
        difference: Difference,
        weighting: &Weighting<Pooled<'n>>,
        work: impl FnOnce(&Cpu, &Sweep) -> Result<T>,
    ) -> Result<T> {
        let with = |aggregation: sweep::Aggregation| work(self.cpu, &views.sweep(difference, aggregation));
        match weighting {
            Aggregation::Voxel(gate) => with(Aggregation::Voxel(self.weights.gate(gate)?)),
            Aggregation::Pixel(weights) => {
                let weights = planes(self.cpu, weights);
                let made = with(Aggregation::Pixel(&weights));
                weights.into_iter().for_each(|w| self.cpu.recycle(w));
                made
            }
            Aggregation::Mean => with(Aggregation::Mean),
            Aggregation::Variance => with(Aggregation::Variance),
        }
    }

    /// The cost volume [D, H, W, 32], which the network itself never stores.
    ///
    /// # Errors
    /// Where the views do not fit together.
    pub fn cost_volume(
        &self,
        views: &InferViews,
        difference: Difference,
        weighting: &Weighting<Pooled<'n>>,
    ) -> Result<Tensor> {
        self.swept(views, difference, weighting, sweep::cost_volume)
    }
}

impl<'n, 'p> Layers for Infer<'n, 'p> {
    type Value = Pooled<'n>;
    type Views = InferViews<'n>;
    type Estimate = Estimate;

    fn shape(&self, x: &Pooled<'n>) -> Shape {
        x.shape
    }

    fn conv(&mut self, layer: Conv, x: Pooled<'n>) -> Result<Pooled<'n>> {
        self.dense(&layer.name, self.weights.dense(&layer)?, &x, None)
    }

    fn conv_bn(&mut self, layer: Conv, x: Pooled<'n>) -> Result<Pooled<'n>> {
        self.conv(layer, x)
    }

    fn conv_bn_add(&mut self, block: &str, layer: Conv, x: Pooled<'n>, shortcut: Pooled<'n>) -> Result<Pooled<'n>> {
        self.dense(block, self.weights.dense(&layer)?, &x, Some(&shortcut))
    }

    fn depthwise(&mut self, layer: Depthwise, x: Pooled<'n>) -> Result<Pooled<'n>> {
        let y = self.weights.depthwise(&layer)?.forward(self.cpu, &x)?;
        Ok(self.shown(&layer.name, y))
    }

    fn upsample(&mut self, _: &str, x: Pooled<'n>, factor: usize, size: Shape) -> Result<Pooled<'n>> {
        Ok(self.keep(upsample(self.cpu, &x, factor, size)?))
    }

    fn upsample_add(&mut self, _: &str, x: Pooled<'n>, skip: Pooled<'n>) -> Result<Pooled<'n>> {
        Ok(self.keep(upsample_add(self.cpu, &x, 2, skip.into_tensor(self.cpu))?))
    }

    fn volume_mean(&mut self, _: &str, x: Pooled<'n>) -> Result<Pooled<'n>> {
        Ok(self.keep(volume_mean(&x)))
    }

    fn plane_mean(&mut self, _: &str, x: Pooled<'n>) -> Result<Pooled<'n>> {
        Ok(self.keep(plane_mean(&x)))
    }

    fn refine(&mut self, label: &str, x: Pooled<'n>, attention: Pooled<'n>) -> Result<Pooled<'n>> {
        let mut y = x.into_tensor(self.cpu);
        gate(&mut y, &attention)?;
        Ok(self.shown(label, y))
    }

    fn excite(&mut self, label: &str, x: Pooled<'n>, attention: Pooled<'n>) -> Result<Pooled<'n>> {
        let mut y = x.into_tensor(self.cpu);
        gate_planes(&mut y, &attention)?;
        Ok(self.shown(label, y))
    }

    fn add_vector(&mut self, _: &str, x: Pooled<'n>, vector: Pooled<'n>) -> Result<Pooled<'n>> {
        let mut y = x.into_tensor(self.cpu);
        add_vector(&mut y, &vector)?;
        Ok(self.keep(y))
    }

    fn concat(&mut self, _: &str, a: Pooled<'n>, b: Pooled<'n>) -> Result<Pooled<'n>> {
        Ok(self.keep(concat(self.cpu, &a, &b)?))
    }

    fn volume(&self, views: &InferViews<'n>) -> Shape {
        views.sweep(Difference::Squared, Aggregation::Mean).shape()
    }

    fn pixel_statistics(&mut self, _: &str, views: &InferViews<'n>, difference: Difference) -> Result<Pooled<'n>> {
        let sweep = views.sweep(difference, Aggregation::Mean);
        let of_source = |source| pixel_statistics::pixel_statistics(self.cpu, &sweep, source);
        let all = (0..views.sources.len()).map(of_source).collect::<Result<Vec<_>>>()?;
        let shape = Shape { d: all.len(), c: 2, ..views.reference.shape };
        Ok(self.keep(joined(self.cpu, shape, all)))
    }

    fn cost(
        &mut self,
        views: &InferViews<'n>,
        difference: Difference,
        weighting: Weighting<Pooled<'n>>,
        first: [Conv; 2],
    ) -> Result<[Pooled<'n>; 2]> {
        self.fused(views, difference, &weighting, &first, None)
    }

    fn cost_and_skip(
        &mut self,
        views: &InferViews<'n>,
        difference: Difference,
        weighting: Weighting<Pooled<'n>>,
        first: [Conv; 2],
        skip: Conv,
    ) -> Result<([Pooled<'n>; 2], Pooled<'n>)> {
        let mut projected = self.cpu.tensor(self.volume(views).with_channels(skip.channels.1));
        let projection = Some((self.weights.dense(&skip)?, &mut projected));
        let pair = self.fused(views, difference, &weighting, &first, projection)?;
        Ok((pair, self.shown(&skip.name, projected)))
    }

    fn regress_skip(
        &mut self,
        views: &InferViews<'n>,
        logits: Conv,
        half: Pooled<'n>,
        skip: Pooled<'n>,
    ) -> Result<Estimate> {
        let decoder = head::Decoder::Skip(&half, &skip, self.weights.logits(&logits)?);
        head::regress(self.cpu, &decoder, views.expectation, views.keep_logits)
    }

    fn regress_trilinear(&mut self, views: &InferViews<'n>, _: &str, eighth: Pooled<'n>) -> Result<Estimate> {
        let decoder = head::Decoder::Trilinear(&eighth, self.volume(views));
        head::regress(self.cpu, &decoder, views.expectation, views.keep_logits)
    }
}
