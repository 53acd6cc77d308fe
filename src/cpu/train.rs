//! The executor of training: every layer on a tape, with the batch's own statistics in every norm. What comes out are
//! the logits of every stage; the losses and the way back are the caller's.
//!
//! All views go through FeatureNet as one batch, so that a norm there sees all of them, as in the reference.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::ops::conv_backward::{ConvGeometry, ConvOp};
use super::ops::convex::ConvexOp;
use super::ops::cost_volume::{CostVolumeOp, PixelStatisticsOp, Rays, Searched};
use super::ops::depth::{Expectation, inverse_depths};
use super::ops::depthwise::{DepthwiseOp, ToOneChannelOp};
use super::ops::narrow::{Around, refined};
use super::ops::norm::{BatchNormOp, BatchStatistics};
use super::ops::pointwise::{AddReluOp, AddVectorOp, ConcatOp, FirstOp, GateOp, expect_multiples_of_4, normalize};
use super::ops::reduce::MeanOp;
use super::ops::resample::UpsampleOp;
use super::tape::{Tape, Var};
use crate::error::{Error, Result};
use crate::net::config::{Aggregation, Config, Difference, Resolution};
use crate::net::layers::{Activation, Conv, Depthwise, Layers, NarrowLayers, VoxelGate, Weighting, evened};
use crate::net::model::{self, Features};
use crate::net::narrow;
use crate::net::parameters::Parameters;
use crate::net::stage::{self, Stage};
use crate::net::tensor::Shape;
use crate::scene::camera::{Camera, Hypotheses, PlaneSweep};
use crate::scene::photo::Photo;

/// One forward pass on a tape.
pub struct TrainingPass<'t, 'a> {
    tape: &'t Tape<'a>,
    config: Config,
    parameters: BTreeMap<&'a str, Var<'a>>,
    statistics: Vec<(String, Rc<OnceCell<BatchStatistics>>)>,
}

/// What the depth of a view is made of.
pub struct TapeViews<'a> {
    /// Of all views, the reference's first.
    features: Features<Var<'a>>,
    /// At the photos' size, the reference's first.
    cameras: Vec<Camera>,
    hypotheses: Hypotheses,
    /// At a quarter of the photos' sides.
    rays: Rays,
}

/// A stage's result: its logits, and what they are logits of.
pub struct TapeEstimate<'a> {
    /// [D, H, W, 1].
    pub logits: Var<'a>,
    /// The hypotheses.
    pub of: LogitsOf<'a>,
}

/// Hypotheses of a stage.
#[derive(Clone)]
pub enum LogitsOf<'a> {
    /// The planes of the coarse stage.
    Planes(Rc<Expectation>),
    /// Around a guess of 1 / depth, [1, H, W, 1].
    Around(Around, Var<'a>),
}

impl TapeViews<'_> {
    /// Where the pixels of the reference's map lie in those of the sources, with so many photo pixels from one to the
    /// next.
    fn sweeps(&self, step: usize) -> Vec<PlaneSweep> {
        let decimated = |camera: &Camera| camera.decimated(1.0 / step as f64);
        let reference = decimated(&self.cameras[0]);
        self.cameras[1..].iter().map(|c| PlaneSweep::new(&reference, &decimated(c))).collect()
    }
}

impl<'t, 'a> TrainingPass<'t, 'a> {
    /// With these parameters.
    pub fn new(tape: &'t Tape<'a>, parameters: &'a Parameters) -> Self {
        let trained = parameters.list.iter().filter(|p| !p.is_statistic());
        let vars = trained.map(|p| (p.name.as_str(), tape.parameter(&p.values))).collect();
        Self { tape, config: parameters.config, parameters: vars, statistics: Vec::new() }
    }

    /// The parameters on the tape, by name.
    pub fn parameters(&self) -> &BTreeMap<&'a str, Var<'a>> {
        &self.parameters
    }

    /// What every norm found of the batch, by its name (`features.stage1.0.bn`), in order.
    pub fn statistics(&self) -> Vec<(String, BatchStatistics)> {
        self.statistics.iter().filter_map(|(name, s)| s.get().map(|s| (name.clone(), s.clone()))).collect()
    }

    /// The estimates of all stages, coarse to fine, of the first of the photos, whose cameras are at the photos' size.
    ///
    /// # Errors
    /// [`Error::Shape`] where photos, cameras and hypotheses do not fit together.
    pub fn estimates(
        &mut self,
        photos: &[Photo],
        cameras: &[Camera],
        hypotheses: &Hypotheses,
    ) -> Result<Vec<TapeEstimate<'a>>> {
        let photos_on_tape = self.photos(photos)?;
        let features = model::features(self, self.config.resolution, photos_on_tape)?;
        if cameras.len() != photos.len() || photos.len() < 2 {
            let problem = format!("{} photos with {} cameras; at least two", photos.len(), cameras.len());
            return Err(Error::Shape { op: "network", problem });
        }
        let planes = Searched::Planes(hypotheses.depths.iter().map(|&d| d as f32).collect());
        let rays = Rays { sweeps: Vec::new(), hypotheses: planes };
        let (cameras, hypotheses) = (cameras.to_vec(), hypotheses.clone());
        let mut views = TapeViews { features, cameras, hypotheses, rays };
        views.rays.sweeps = views.sweeps(Resolution::Quarter.step());
        let mut found = vec![model::depth(self, self.config, &views)?];
        for stage in stage::stages(self.config.resolution) {
            if let Some(coarse) = found.last() {
                let fine = narrow::refine(self, stage, &views, coarse)?;
                found.push(fine);
            }
        }
        Ok(found)
    }

    /// Normalised, as one batch [V, H, W, 3].
    fn photos(&self, photos: &[Photo]) -> Result<Var<'a>> {
        let cpu = self.tape.cpu();
        let Some(first) = photos.first() else {
            return Err(Error::Shape { op: "features", problem: "no photos".into() });
        };
        let one = Shape::plane(first.height, first.width, 3);
        let mut images = cpu.tensor(Shape { d: photos.len(), ..one });
        for (photo, values) in photos.iter().zip(images.data.chunks_exact_mut(one.len().max(1))) {
            expect_multiples_of_4(photo)?;
            let image = normalize(cpu, photo);
            image.expect_shape("features", "photo", one)?;
            values.copy_from_slice(&image.data);
            cpu.recycle(image);
        }
        Ok(self.tape.constant(images))
    }

    fn parameter(&self, name: &str) -> Result<Var<'a>> {
        self.parameters.get(name).cloned().ok_or_else(|| Error::Weights {
            file: "training".into(),
            problem: format!("tensor `{name}` is missing; the configuration {} needs it", self.config),
        })
    }

    /// `{name}.weight` and `{name}.bias`.
    fn pair(&self, name: &str) -> Result<[Var<'a>; 2]> {
        Ok([self.parameter(&format!("{name}.weight"))?, self.parameter(&format!("{name}.bias"))?])
    }

    fn convolve(&self, layer: &Conv, x: &Var<'a>, weight: &Var<'a>, bias: Option<&Var<'a>>) -> Result<Var<'a>> {
        let Conv { name, channels, kernel, activation } = layer;
        let geometry = ConvGeometry { channels: *channels, kernel: kernel.size(), stride: kernel.stride() };
        // Where a norm follows, so does the ReLU.
        let op = ConvOp { geometry, bias: bias.is_some(), relu: activation.is_relu() && bias.is_some() };
        let inputs: Vec<&Var<'a>> = [x, weight].into_iter().chain(bias).collect();
        self.tape.apply(op, name, &inputs)
    }

    fn cost_volume(
        &self,
        views: &TapeViews<'a>,
        difference: Difference,
        weighting: &Weighting<Var<'a>>,
    ) -> Result<Var<'a>> {
        let (aggregation, weights) = match weighting {
            Aggregation::Mean => (Aggregation::Mean, Vec::new()),
            Aggregation::Variance => (Aggregation::Variance, Vec::new()),
            Aggregation::Voxel(gate) => {
                let [reduce, weight] = [self.pair(&gate.reduce.name)?, self.pair(&gate.weight.name)?];
                (Aggregation::Voxel(()), reduce.into_iter().chain(weight).collect())
            }
            Aggregation::Pixel(weights) => (Aggregation::Pixel(()), vec![weights.clone()]),
        };
        let inputs: Vec<&Var<'a>> = std::iter::once(&views.features.quarter).chain(&weights).collect();
        self.tape.apply(CostVolumeOp { rays: views.rays.clone(), difference, aggregation }, "aggregation", &inputs)
    }

    /// The pair that reads the cost volume, of any size.
    fn read_by(&mut self, [a, b]: [Conv; 2], cost: Var<'a>) -> Result<[Var<'a>; 2]> {
        let cost = evened(self, "aggregation", cost, a.kernel)?;
        Ok([self.conv_bn(a, cost.clone())?, self.conv_bn(b, cost)?])
    }

    /// relu(upsample(half) + skip), and the convolution to one channel.
    fn logits_of(&self, layer: Conv, half: &Var<'a>, skip: &Var<'a>) -> Result<Var<'a>> {
        let x = self.upsampled(&layer.name, half, skip, Activation::Relu)?;
        let [weight, bias] = self.pair(&layer.name)?;
        self.tape.apply(ToOneChannelOp, &layer.name, &[&x, &weight, &bias])
    }

    fn upsampled(&self, label: &str, x: &Var<'a>, skip: &Var<'a>, after: Activation) -> Result<Var<'a>> {
        self.tape.apply(
            UpsampleOp { factor: 2, size: skip.shape(), skip: true, relu: after.is_relu() },
            label,
            &[x, skip],
        )
    }
}

/// A stage's part of the features.
fn of_stage<'v, 'a>(views: &'v TapeViews<'a>, stage: &Stage) -> Result<&'v Var<'a>> {
    let missing = || Error::Bug { place: "training", problem: format!("no features for the stage {}", stage.name) };
    views.features.of_stage(stage).ok_or_else(missing)
}

impl<'a> Layers for TrainingPass<'_, 'a> {
    type Value = Var<'a>;
    type Views = TapeViews<'a>;
    type Estimate = TapeEstimate<'a>;

    fn shape(&self, x: &Var<'a>) -> Shape {
        x.shape()
    }

    fn conv(&mut self, layer: Conv, x: Var<'a>) -> Result<Var<'a>> {
        let [weight, bias] = self.pair(&layer.name)?;
        self.convolve(&layer, &x, &weight, Some(&bias))
    }

    fn conv_bn(&mut self, layer: Conv, x: Var<'a>) -> Result<Var<'a>> {
        let weight = self.parameter(&format!("{}.conv.weight", layer.name))?;
        let y = self.convolve(&layer, &x, &weight, None)?;
        let norm = format!("{}.bn", layer.name);
        let [gamma, beta] = self.pair(&norm)?;
        let statistics = Rc::new(OnceCell::new());
        self.statistics.push((norm.clone(), statistics.clone()));
        self.tape.apply(BatchNormOp { relu: layer.activation.is_relu(), statistics }, &norm, &[&y, &gamma, &beta])
    }

    fn conv_bn_add(&mut self, block: &str, layer: Conv, x: Var<'a>, shortcut: Var<'a>) -> Result<Var<'a>> {
        let y = self.conv_bn(Conv { activation: Activation::Linear, ..layer }, x)?;
        self.tape.apply(AddReluOp, block, &[&y, &shortcut])
    }

    fn depthwise(&mut self, layer: Depthwise, x: Var<'a>) -> Result<Var<'a>> {
        let weight = self.parameter(&format!("{}.weight", layer.name))?;
        self.tape.apply(DepthwiseOp { stride: layer.stride }, &layer.name, &[&x, &weight])
    }

    fn upsample(&mut self, label: &str, x: Var<'a>, factor: usize, size: Shape) -> Result<Var<'a>> {
        self.tape.apply(UpsampleOp { factor, size, skip: false, relu: false }, label, &[&x])
    }

    fn upsample_add(&mut self, label: &str, x: Var<'a>, skip: Var<'a>) -> Result<Var<'a>> {
        self.upsampled(label, &x, &skip, Activation::Linear)
    }

    fn volume_mean(&mut self, label: &str, x: Var<'a>) -> Result<Var<'a>> {
        self.tape.apply(MeanOp::Volume, label, &[&x])
    }

    fn plane_mean(&mut self, label: &str, x: Var<'a>) -> Result<Var<'a>> {
        self.tape.apply(MeanOp::Planes, label, &[&x])
    }

    fn refine(&mut self, label: &str, x: Var<'a>, attention: Var<'a>) -> Result<Var<'a>> {
        self.tape.apply(GateOp::Refine, label, &[&x, &attention])
    }

    fn excite(&mut self, label: &str, x: Var<'a>, attention: Var<'a>) -> Result<Var<'a>> {
        self.tape.apply(GateOp::Planes, label, &[&x, &attention])
    }

    fn add_vector(&mut self, label: &str, x: Var<'a>, vector: Var<'a>) -> Result<Var<'a>> {
        self.tape.apply(AddVectorOp, label, &[&x, &vector])
    }

    fn concat(&mut self, label: &str, a: Var<'a>, b: Var<'a>) -> Result<Var<'a>> {
        self.tape.apply(ConcatOp, label, &[&a, &b])
    }

    fn volume(&self, views: &TapeViews<'a>) -> Shape {
        Shape { d: views.hypotheses.depths.len(), ..views.features.quarter.shape() }
    }

    fn pixel_statistics(&mut self, label: &str, views: &TapeViews<'a>, difference: Difference) -> Result<Var<'a>> {
        self.tape.apply(PixelStatisticsOp { rays: views.rays.clone(), difference }, label, &[&views.features.quarter])
    }

    fn cost(
        &mut self,
        views: &TapeViews<'a>,
        difference: Difference,
        weighting: Weighting<Var<'a>>,
        first: [Conv; 2],
    ) -> Result<[Var<'a>; 2]> {
        let cost = self.cost_volume(views, difference, &weighting)?;
        self.read_by(first, cost)
    }

    fn cost_and_skip(
        &mut self,
        views: &TapeViews<'a>,
        difference: Difference,
        weighting: Weighting<Var<'a>>,
        first: [Conv; 2],
        skip: Conv,
    ) -> Result<([Var<'a>; 2], Var<'a>)> {
        let cost = self.cost_volume(views, difference, &weighting)?;
        Ok((self.read_by(first, cost.clone())?, self.conv(skip, cost)?))
    }

    fn regress_skip(
        &mut self,
        views: &TapeViews<'a>,
        logits: Conv,
        half: Var<'a>,
        skip: Var<'a>,
    ) -> Result<TapeEstimate<'a>> {
        let logits = self.logits_of(logits, &half, &skip)?;
        Ok(TapeEstimate { logits, of: LogitsOf::Planes(Rc::new(Expectation::new(&views.hypotheses))) })
    }

    fn regress_trilinear(&mut self, views: &TapeViews<'a>, label: &str, eighth: Var<'a>) -> Result<TapeEstimate<'a>> {
        let size = self.volume(views);
        let logits = self.upsample(label, eighth, 8, size)?;
        Ok(TapeEstimate { logits, of: LogitsOf::Planes(Rc::new(Expectation::new(&views.hypotheses))) })
    }
}

impl<'a> NarrowLayers for TrainingPass<'_, 'a> {
    fn inverse_depth(&mut self, estimate: &TapeEstimate<'a>) -> Result<Var<'a>> {
        let (cpu, logits) = (self.tape.cpu(), estimate.logits.tensor());
        let map = match &estimate.of {
            LogitsOf::Planes(expectation) => inverse_depths(cpu, expectation, logits)?,
            LogitsOf::Around(around, guess) => refined(cpu, around, logits, guess.tensor())?,
        };
        Ok(self.tape.constant(map))
    }

    fn reference(&mut self, views: &TapeViews<'a>, stage: &Stage) -> Result<Var<'a>> {
        self.tape.apply(FirstOp, stage.name, &[of_stage(views, stage)?])
    }

    fn upsample_convex(&mut self, label: &str, map: Var<'a>, weights: Var<'a>) -> Result<Var<'a>> {
        self.tape.apply(ConvexOp, label, &[&map, &weights])
    }

    fn narrow_cost(
        &mut self,
        views: &TapeViews<'a>,
        stage: &Stage,
        guess: &Var<'a>,
        gate: VoxelGate,
    ) -> Result<Var<'a>> {
        let features = of_stage(views, stage)?;
        let sweeps = views.sweeps(stage.step);
        let around = around(views, stage, &sweeps)?;
        let rays = Rays { sweeps, hypotheses: Searched::Around(around) };
        let [[a, b], [c, d]] = [self.pair(&gate.reduce.name)?, self.pair(&gate.weight.name)?];
        let op = CostVolumeOp { rays, difference: Difference::Squared, aggregation: Aggregation::Voxel(()) };
        self.tape.apply(op, stage.name, &[features, &a, &b, &c, &d, guess])
    }

    fn regress_narrow(
        &mut self,
        views: &TapeViews<'a>,
        stage: &Stage,
        _: &TapeEstimate<'a>,
        guess: Var<'a>,
        logits: Conv,
        half: Var<'a>,
        skip: Var<'a>,
    ) -> Result<TapeEstimate<'a>> {
        let logits = self.logits_of(logits, &half, &skip)?;
        let around = around(views, stage, &views.sweeps(stage.step))?;
        Ok(TapeEstimate { logits, of: LogitsOf::Around(around, guess) })
    }
}

/// What a narrow stage searches in these views.
fn around(views: &TapeViews, stage: &Stage, sweeps: &[PlaneSweep]) -> Result<Around> {
    let Shape { h, w, .. } = of_stage(views, stage)?.shape();
    Ok(Around { offsets: stage.offsets().collect(), spacing: stage.spacing(sweeps, (w, h), &views.hypotheses) })
}

/// The running statistics after a step: `(1 - momentum) old + momentum new`, the variance unbiased, as in PyTorch.
pub fn follow(parameters: &mut Parameters, statistics: &[(String, BatchStatistics)], momentum: f64) {
    let found: BTreeMap<&str, &BatchStatistics> = statistics.iter().map(|(n, s)| (n.as_str(), s)).collect();
    for parameter in &mut parameters.list {
        let Some((norm, what)) = parameter.name.rsplit_once('.') else { continue };
        let Some(statistics) = found.get(norm) else { continue };
        let new = match what {
            "running_mean" => statistics.mean.clone(),
            "running_var" => statistics.unbiased_variance(),
            _ => continue,
        };
        for (old, new) in parameter.values.data.iter_mut().zip(new) {
            *old = (f64::from(*old) * (1.0 - momentum) + new * momentum) as f32;
        }
    }
}
