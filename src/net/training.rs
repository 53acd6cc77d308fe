//! The network as training runs it: on a tape, with the batch's own statistics in every norm, layer by layer as in the
//! reference (`tools/reference/bs_mvsnet.py`).
//!
//! All views go through FeatureNet as one batch, so that a norm there sees all of them, as in the reference.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use super::parameters::Parameters;
use super::{Aggregation, Config, Decoder, Difference};
use crate::cpu::ops::conv_backward::{ConvGeometry, ConvOp};
use crate::cpu::ops::cost_volume::{CostVolumeOp, PixelStatisticsOp, Views, Weighting};
use crate::cpu::ops::depthwise::{DepthwiseOp, ToOneChannelOp};
use crate::cpu::ops::norm::{BatchNormOp, BatchStatistics};
use crate::cpu::ops::pointwise::{AddReluOp, AddVectorOp, ConcatOp, GateOp, expect_multiples_of_4, normalize};
use crate::cpu::ops::reduce::MeanOp;
use crate::cpu::ops::resample::UpsampleOp;
use crate::cpu::tape::{Tape, Var};
use crate::cpu::tensor::Shape;
use crate::error::{Error, Result};
use crate::scene::camera::{Camera, Hypotheses, PlaneSweep};
use crate::scene::photo::Photo;

/// Two dimensions: each plane of a tensor by itself. Three: a volume.
#[derive(Clone, Copy)]
enum Dims {
    Two,
    Three,
}

/// Kernel side and stride over these dimensions, and channels in and out.
fn geometry(dims: Dims, channels: (usize, usize), side: usize, stride: usize) -> ConvGeometry {
    match dims {
        Dims::Two => ConvGeometry { channels, kernel: [1, side, side], stride: [1, stride, stride] },
        Dims::Three => ConvGeometry { channels, kernel: [side; 3], stride: [stride; 3] },
    }
}

/// One forward pass on a tape.
pub struct TrainingPass<'t, 'a> {
    tape: &'t Tape<'a>,
    config: Config,
    parameters: BTreeMap<&'a str, Var<'a>>,
    statistics: RefCell<Vec<(String, Rc<OnceCell<BatchStatistics>>)>>,
}

impl<'t, 'a> TrainingPass<'t, 'a> {
    /// With these parameters.
    pub fn new(tape: &'t Tape<'a>, parameters: &'a Parameters) -> Self {
        let trained = parameters.list.iter().filter(|p| !p.is_statistic());
        let vars = trained.map(|p| (p.name.as_str(), tape.parameter(&p.values))).collect();
        Self { tape, config: parameters.config, parameters: vars, statistics: RefCell::default() }
    }

    /// The parameters on the tape, by name.
    pub fn parameters(&self) -> &BTreeMap<&'a str, Var<'a>> {
        &self.parameters
    }

    /// What every norm found of the batch, by its name (`features.stage1.0.bn`), in order.
    pub fn statistics(&self) -> Vec<(String, BatchStatistics)> {
        let all = self.statistics.borrow();
        all.iter().filter_map(|(name, s)| s.get().map(|s| (name.clone(), s.clone()))).collect()
    }

    fn parameter(&self, name: &str) -> Result<&Var<'a>> {
        self.parameters.get(name).ok_or_else(|| Error::Weights {
            file: "training".into(),
            problem: format!("tensor `{name}` is missing; the configuration {} needs it", self.config),
        })
    }

    fn conv(&self, name: &str, x: &Var<'a>, geometry: ConvGeometry, relu: bool) -> Result<Var<'a>> {
        let weight = self.parameter(&format!("{name}.weight"))?;
        let bias = self.parameter(&format!("{name}.bias"))?;
        self.tape.apply(ConvOp { geometry, bias: true, relu }, name, &[x, weight, bias])
    }

    fn conv_bn(&self, name: &str, x: &Var<'a>, geometry: ConvGeometry, relu: bool) -> Result<Var<'a>> {
        let weight = self.parameter(&format!("{name}.conv.weight"))?;
        let y = self.tape.apply(ConvOp { geometry, bias: false, relu: false }, name, &[x, weight])?;
        let norm = format!("{name}.bn");
        let (gamma, beta) = (self.parameter(&format!("{norm}.weight"))?, self.parameter(&format!("{norm}.bias"))?);
        let statistics = Rc::new(OnceCell::new());
        self.statistics.borrow_mut().push((norm.clone(), statistics.clone()));
        self.tape.apply(BatchNormOp { relu, statistics }, &norm, &[&y, gamma, beta])
    }

    /// 3x3 (or 5x5, ...) and 1x1 convolutions with norm and ReLU.
    fn layer(
        &self,
        name: &str,
        x: &Var<'a>,
        dims: Dims,
        channels: (usize, usize),
        side: usize,
        stride: usize,
    ) -> Result<Var<'a>> {
        self.conv_bn(name, x, geometry(dims, channels, side, stride), true)
    }

    fn upsample(&self, label: &str, x: &Var<'a>, factor: usize, size: Shape) -> Result<Var<'a>> {
        self.tape.apply(UpsampleOp { factor, size, skip: false, relu: false }, label, &[x])
    }

    fn upsample_add(&self, label: &str, x: &Var<'a>, skip: &Var<'a>, relu: bool) -> Result<Var<'a>> {
        self.tape.apply(UpsampleOp { factor: 2, size: skip.shape(), skip: true, relu }, label, &[x, skip])
    }

    /// Logits [D, H/4, W/4, 1] of the first of the photos, whose cameras are at the photos' size.
    ///
    /// # Errors
    /// [`Error::Shape`] where photos, cameras and hypotheses do not fit together.
    pub fn logits(&self, photos: &[Photo], cameras: &[Camera], hypotheses: &Hypotheses) -> Result<Var<'a>> {
        let features = self.features(photos)?;
        if cameras.len() != photos.len() || photos.len() < 2 {
            let problem = format!("{} photos with {} cameras; at least two", photos.len(), cameras.len());
            return Err(Error::Shape { op: "network", problem });
        }
        let reference = cameras[0].decimated(0.25);
        let views = Views {
            sweeps: cameras[1..].iter().map(|c| PlaneSweep::new(&reference, &c.decimated(0.25))).collect(),
            depths: hypotheses.depths.iter().map(|&d| d as f32).collect(),
            squared: self.config.difference == Difference::Squared,
        };
        let cost = self.cost(features, views)?;
        self.regularizer(cost)
    }

    /// [V, H, W, 3] -> [V, H/4, W/4, 32].
    fn features(&self, photos: &[Photo]) -> Result<Var<'a>> {
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
        let two = |name: &str, x: &Var<'a>, channels, side, stride| {
            self.layer(&format!("features.{name}"), x, Dims::Two, channels, side, stride)
        };
        let point = |name: &str, x: &Var<'a>, channels| {
            self.conv(&format!("features.{name}"), x, geometry(Dims::Two, channels, 1, 1), false)
        };
        let x = two("stage1.0", &self.tape.constant(images), (3, 8), 3, 1)?;
        let x = two("stage1.1", &x, (8, 8), 3, 1)?;
        let x = two("stage2.0", &x, (8, 16), 5, 2)?;
        let x = two("stage2.1", &x, (16, 16), 3, 1)?;
        let x = two("stage2.2", &x, (16, 16), 3, 1)?;
        let x = two("stage4.0", &x, (16, 32), 5, 2)?;
        let x = two("stage4.1", &x, (32, 32), 3, 1)?;
        let x4 = two("stage4.2", &x, (32, 32), 3, 1)?;
        let x = two("stage8.0", &x4, (32, 48), 3, 2)?;
        let x8 = two("stage8.1", &x, (48, 48), 3, 1)?;
        let x = two("stage16.0", &x8, (48, 64), 3, 2)?;
        let x16 = two("stage16.1", &x, (64, 64), 3, 1)?;
        let x = self.upsample_add("features.merge8", &point("lateral8", &x16, (64, 48))?, &x8, false)?;
        let x8 = two("merge8", &x, (48, 48), 3, 1)?;
        let x = self.upsample_add("features.output", &point("lateral4", &x8, (48, 32))?, &x4, false)?;
        self.conv("features.output", &x, geometry(Dims::Two, (32, 32), 3, 1), false)
    }

    /// [V, H, W, 32] -> [D, H, W, 32].
    fn cost(&self, features: Var<'a>, views: Views) -> Result<Var<'a>> {
        let label = "aggregation";
        let apply = |weighting, more: &[&Var<'a>]| {
            let inputs: Vec<&Var<'a>> = std::iter::once(&features).chain(more.iter().copied()).collect();
            self.tape.apply(CostVolumeOp { views: views.clone(), weighting }, label, &inputs)
        };
        match self.config.aggregation {
            Aggregation::Mean => apply(Weighting::Mean, &[]),
            Aggregation::Variance => apply(Weighting::Variance, &[]),
            Aggregation::Voxel => {
                let names = ["reduce.weight", "reduce.bias", "weight.weight", "weight.bias"];
                let gate =
                    names.map(|n| self.parameter(&format!("gate.{n}"))).into_iter().collect::<Result<Vec<_>>>()?;
                apply(Weighting::Voxel, &gate)
            }
            Aggregation::Pixel => {
                let x = self.tape.apply(PixelStatisticsOp { views: views.clone() }, "gate", &[&features])?;
                let gate = |name: &str, x: &Var<'a>, channels| {
                    self.conv(&format!("gate.{name}"), x, geometry(Dims::Two, channels, 3, 1), true)
                };
                let x = gate("conv1", &x, (2, 8))?;
                let x = gate("conv2", &x, (8, 8))?;
                apply(Weighting::Pixel, &[&gate("weight", &x, (8, 1))?])
            }
        }
    }

    /// [D, H, W, 32] -> [D, H, W, 1].
    fn regularizer(&self, cost: Var<'a>) -> Result<Var<'a>> {
        let three = |name: &str, x: &Var<'a>, channels, side, stride| {
            self.layer(&format!("regularizer.{name}"), x, Dims::Three, channels, side, stride)
        };
        let s2 = three("spatial2", &cost, (32, 16), 3, 2)?;
        let s4 = three("spatial4", &s2, (16, 32), 3, 2)?;
        let s8 = three("spatial8", &s4, (32, 64), 3, 2)?;
        let x = three("context2", &cost, (32, 16), 3, 2)?;
        let x = self.separable("context4", x, (16, 32))?;
        let c8 = self.separable("context8", x, (32, 64))?;
        let c8_shape = c8.shape();
        let c16 = self.separable("context16", c8, (64, 96))?;
        let c32 = self.separable("context32", c16.clone(), (96, 128))?;
        let mean = self.tape.apply(MeanOp::Volume, "regularizer.context_global", &[&c32])?;
        let point = geometry(Dims::Three, (128, 64), 1, 1);
        let tail = self.conv("regularizer.context_global", &mean, point, true)?;
        let deep = self.refined("arm32", c32, (128, 64))?;
        let deep = self.tape.apply(AddVectorOp, "regularizer.context_global", &[&deep, &tail])?;
        let fine = self.refined("arm16", c16, (96, 64))?;
        let context = self.upsample_add("regularizer.context_merge", &deep, &fine, false)?;
        let context = three("context_merge", &context, (64, 64), 3, 1)?;
        let context = self.upsample("regularizer.context_merge", &context, 2, c8_shape)?;
        let x = self.fused(&s8, &context)?;
        drop((s8, context));
        if self.config.decoder == Decoder::Trilinear {
            let x = three("head", &x, (64, 16), 3, 1)?;
            let point = geometry(Dims::Three, (16, 1), 1, 1);
            let x = self.conv("regularizer.logits", &x, point, false)?;
            return self.upsample("regularizer.logits", &x, 8, cost.shape());
        }
        let x = three("up4", &x, (64, 32), 1, 1)?;
        let x = self.upsample_add("regularizer.decode4", &x, &s4, false)?;
        let x = three("decode4", &x, (32, 16), 3, 1)?;
        let x = self.upsample_add("regularizer.decode2", &x, &s2, false)?;
        let x = three("decode2", &x, (16, 8), 3, 1)?;
        let point = geometry(Dims::Three, (32, 8), 1, 1);
        let skip = self.conv("regularizer.cost_skip", &cost, point, false)?;
        drop(cost);
        let x = self.upsample_add("regularizer.logits", &x, &skip, true)?;
        drop(skip);
        let names = ["regularizer.logits.weight", "regularizer.logits.bias"];
        let [weight, bias] = names.map(|n| self.parameter(n));
        self.tape.apply(ToOneChannelOp, "regularizer.logits", &[&x, weight?, bias?])
    }

    /// Xception block.
    fn separable(&self, name: &str, x: Var<'a>, (input, output): (usize, usize)) -> Result<Var<'a>> {
        let name = format!("regularizer.{name}");
        let point = |what: &str, x: &Var<'a>, input, stride, relu| {
            let geometry = geometry(Dims::Three, (input, output), 1, stride);
            self.conv_bn(&format!("{name}.{what}"), x, geometry, relu)
        };
        let depthwise = |what: &str, x: &Var<'a>, stride| {
            let label = format!("{name}.{what}");
            let weight = self.parameter(&format!("{label}.weight"))?;
            self.tape.apply(DepthwiseOp { stride }, &label, &[x, weight])
        };
        let y = depthwise("depthwise1", &x, 2)?;
        let y = point("pointwise1", &y, input, 1, true)?;
        let y = depthwise("depthwise2", &y, 1)?;
        let y = point("pointwise2", &y, output, 1, false)?;
        let shortcut = point("shortcut", &x, input, 2, false)?;
        self.tape.apply(AddReluOp, &name, &[&y, &shortcut])
    }

    /// 3D ARM, Table I(a).
    fn refined(&self, name: &str, x: Var<'a>, channels: (usize, usize)) -> Result<Var<'a>> {
        let name = format!("regularizer.{name}");
        let x = self.layer(&format!("{name}.conv"), &x, Dims::Three, channels, 3, 1)?;
        let point = geometry(Dims::Three, (channels.1, channels.1), 1, 1);
        let attention = self.conv_bn(&format!("{name}.attention"), &x, point, false)?;
        self.tape.apply(GateOp::Refine, &name, &[&x, &attention])
    }

    /// 3D FFM, Table I(b).
    fn fused(&self, spatial: &Var<'a>, context: &Var<'a>) -> Result<Var<'a>> {
        let name = "regularizer.fusion";
        let both = self.tape.apply(ConcatOp, name, &[spatial, context])?;
        let x = self.layer(&format!("{name}.merge"), &both, Dims::Three, (128, 64), 1, 1)?;
        let point = geometry(Dims::Three, (64, 64), 1, 1);
        let planes = self.tape.apply(MeanOp::Planes, name, &[&x])?;
        let attention = self.conv_bn(&format!("{name}.attention1"), &planes, point, false)?;
        let attention = self.conv(&format!("{name}.attention2"), &attention, point, false)?;
        self.tape.apply(GateOp::Planes, name, &[&x, &attention])
    }
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
