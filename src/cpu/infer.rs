//! The executor of inference: norms folded, ReLU and residual in the convolution, tensors from the device's pool, and
//! three fusions. The cost volume is never stored ([`sweep_fused::fused`]), the pair that reads it is one convolution,
//! and the last stage ends in depth and confidence ([`head`]).

use rayon::prelude::*;

use super::device::{Cpu, Pooled};
use super::ops::convex::upsample_convex;
use super::ops::cost_volume::{joined, planes};
use super::ops::depth::Expectation;
use super::ops::narrow::{Around, Evidence};
use super::ops::pointwise::{add_vector, concat, gate, gate_planes};
use super::ops::reduce::{plane_mean, volume_mean};
use super::ops::resample::{upsample, upsample_add};
use super::ops::sweep::{self, Search, Sweep};
use super::ops::{conv, head, pixel_statistics, sweep_fused};
use super::weights::Weights;
use crate::error::{Error, Result};
use crate::files::map::Map;
use crate::net::backend::Estimate;
use crate::net::confidence::Judge;
use crate::net::config::{Aggregation, Difference, Resolution};
use crate::net::layers::{Conv, Depthwise, Layers, NarrowLayers, VoxelGate, Weighting};
use crate::net::model::Features;
use crate::net::stage::Stage;
use crate::net::tensor::{Shape, Tensor};
use crate::scene::camera::{Hypotheses, PlaneSweep};

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
    /// What turns what a narrow stage knows into confidence.
    pub judge: Option<Judge<'a>>,
    /// What the narrow stage at work is made of.
    pub narrow: Option<&'a NarrowViews<'a>>,
}

/// What a narrow stage of a view is made of, at its resolution.
#[derive(Clone)]
pub struct NarrowViews<'a> {
    /// [1, H, W, C].
    pub reference: &'a Tensor,
    /// As of the coarse stage.
    pub sources: Vec<(&'a Tensor, PlaneSweep)>,
    /// What it searches.
    pub around: Around,
    /// Photo pixels from one pixel to the next.
    pub step: usize,
    /// The whole map's row that the reference's first one is.
    pub top: usize,
}

impl<'a> NarrowViews<'a> {
    /// Of features and of the sweeps between those at a quarter.
    ///
    /// # Errors
    /// [`Error::Shape`] where features do not go up to the stage's resolution.
    pub fn new(
        stage: &Stage,
        reference: &'a Features<Tensor>,
        sources: &[(&'a Features<Tensor>, PlaneSweep)],
        hypotheses: &Hypotheses,
    ) -> Result<Self> {
        let of_stage = |maps: &'a Features<Tensor>| {
            let problem = || format!("features without a map for the stage {}", stage.name);
            maps.of_stage(stage).ok_or_else(|| Error::Shape { op: "narrow stage", problem: problem() })
        };
        let finer = |sweep: &PlaneSweep| sweep.finer((Resolution::Quarter.step() / stage.step) as f32);
        let sources: Vec<_> =
            sources.iter().map(|(maps, sweep)| Ok((of_stage(maps)?, finer(sweep)))).collect::<Result<_>>()?;
        let reference = of_stage(reference)?;
        let sweeps: Vec<PlaneSweep> = sources.iter().map(|s| s.1).collect();
        let spacing = stage.spacing(&sweeps, (reference.shape.w, reference.shape.h), hypotheses);
        let around = Around { offsets: stage.offsets().collect(), spacing };
        Ok(Self { reference, sources, around, step: stage.step, top: 0 })
    }
}

impl<'a> InferViews<'a> {
    fn of_stage(&self, stage: &Stage) -> Result<&'a NarrowViews<'a>> {
        let missing = || Error::Bug { place: "cpu network", problem: format!("no views for the stage {}", stage.name) };
        self.narrow.filter(|n| n.step == stage.step).ok_or_else(missing)
    }

    fn sweep(&self, difference: Difference, aggregation: sweep::Aggregation<'a>) -> Sweep<'a> {
        let squared = difference == Difference::Squared;
        let search = Search::Planes(self.depths);
        Sweep { reference: self.reference, sources: self.sources, search, aggregation, squared }
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

impl<'n, 'p> NarrowLayers for Infer<'n, 'p> {
    fn inverse_depth(&mut self, estimate: &Estimate) -> Result<Pooled<'n>> {
        let Map { width, height, data } = &estimate.depth;
        let mut y = self.cpu.tensor(Shape::plane(*height, *width, 1));
        y.data.iter_mut().zip(data).for_each(|(y, depth)| *y = 1.0 / depth);
        Ok(self.keep(y))
    }

    fn reference(&mut self, views: &InferViews<'n>, stage: &Stage) -> Result<Pooled<'n>> {
        Ok(Pooled::borrowed(views.of_stage(stage)?.reference))
    }

    fn upsample_convex(&mut self, label: &str, map: Pooled<'n>, weights: Pooled<'n>) -> Result<Pooled<'n>> {
        let y = upsample_convex(self.cpu, &map, &weights)?;
        Ok(self.shown(label, y))
    }

    fn narrow_cost(
        &mut self,
        views: &InferViews<'n>,
        stage: &Stage,
        guess: &Pooled<'n>,
        gate: VoxelGate,
    ) -> Result<Pooled<'n>> {
        let NarrowViews { reference, sources, around, top, .. } = views.of_stage(stage)?;
        let search = Search::Around { guess, offsets: &around.offsets, spacing: around.spacing, top: *top };
        let aggregation = Aggregation::Voxel(self.weights.gate(&gate)?);
        let cost = sweep::cost_volume(self.cpu, &Sweep { reference, sources, search, aggregation, squared: true })?;
        Ok(self.keep(cost))
    }

    fn regress_narrow(
        &mut self,
        views: &InferViews<'n>,
        stage: &Stage,
        coarse: &Estimate,
        guess: Pooled<'n>,
        logits: Conv,
        half: Pooled<'n>,
        skip: Pooled<'n>,
    ) -> Result<Estimate> {
        let Around { offsets, spacing } = &views.of_stage(stage)?.around;
        let decoder = head::Decoder::Skip(&half, &skip, self.weights.logits(&logits)?);
        let found = head::regress(self.cpu, &decoder, &Expectation::with_variance(offsets), views.keep_logits)?;
        let Estimate { mut depth, confidence: mut variance, logits } = found;
        let Map { width, height, data } = &coarse.confidence;
        let before = Tensor::from_slice(Shape::plane(*height, *width, 1), data)?;
        let mut confidence = upsample(self.cpu, &before, 2, Shape::plane(depth.height, depth.width, 1))?;
        if let Some(judge) = &views.judge {
            let known = Evidence { offsets, spacing: *spacing, guess: &guess, found: &depth, variance: &variance };
            if views.keep_logits {
                let shown = known.shown(judge, &confidence);
                (self.probe)(&format!("{}.evidence", stage.name), &shown);
            }
            known.judge(judge, stage, &mut confidence);
        }
        // Without a judge: within the few hypotheses of a narrow stage one is always likely, and what tells right from
        // wrong is the coarse stage's probability over the whole range.
        variance.data.copy_from_slice(&confidence.data);
        self.cpu.recycle(confidence);
        depth.data.par_iter_mut().zip(guess.data.par_iter()).for_each(|(depth, &guess)| {
            let rho = depth.mul_add(spacing.at(guess), guess);
            *depth = 1.0 / rho.max(f32::MIN_POSITIVE);
        });
        Ok(Estimate { depth, confidence: variance, logits })
    }
}
