//! BS-MVSNet as a device graph: photos to features, features to depth and confidence (inference) or to logits
//! (training).
//!
//! Follows the PyTorch definition (`tools/reference/bs_mvsnet.py`) layer by layer, as `net` does on the processor;
//! names of layers are its names. For inference the two strided convolutions that begin the regularizer read the cost
//! volume once, the decoder's projection is part of the sweep, and the last stage ends in depth and confidence without
//! a volume of full resolution. The cost volume itself, the largest tensor by far, is made in slabs of depth planes
//! that share one buffer: [`Slabs`].

use super::graph::{Graph, Value};
use super::layers::{Layers, Size, Weights};
use super::ops::head::{self, Depths, Estimate};
use super::ops::sweep::{self, Skip, Views, Weighting};
use super::ops::{conv, pointwise, reduce, resample};
use crate::cpu::tensor::Shape;
use crate::error::Result;
use crate::net::weights::Kernel;
use crate::net::{Aggregation, Config, Decoder, Difference};

fn two(channels: (usize, usize), side: usize, stride: usize) -> Size {
    (channels, Kernel::d2(side, stride))
}

fn three(channels: (usize, usize), side: usize, stride: usize) -> Size {
    (channels, Kernel::d3(side, stride))
}

/// FeatureNet: normalised photos [V, H, W, 3] -> [V, H/4, W/4, 32]. All views go through as one batch, so that a norm
/// sees all of them.
///
/// # Errors
/// Where a tensor is missing, or H or W is no multiple of 4.
pub fn features(layers: &mut Layers, photos: Value) -> Result<Value> {
    let stage = |layers: &mut Layers, name: &str, x: Value, size: Size| {
        layers.conv_bn(&format!("features.{name}"), x, size, true, None)
    };
    let mut x = photos;
    for (name, size) in [
        ("stage1.0", two((3, 8), 3, 1)),
        ("stage1.1", two((8, 8), 3, 1)),
        ("stage2.0", two((8, 16), 5, 2)),
        ("stage2.1", two((16, 16), 3, 1)),
        ("stage2.2", two((16, 16), 3, 1)),
        ("stage4.0", two((16, 32), 5, 2)),
        ("stage4.1", two((32, 32), 3, 1)),
        ("stage4.2", two((32, 32), 3, 1)),
    ] {
        x = stage(layers, name, x, size)?;
    }
    let x4 = x;
    let x = stage(layers, "stage8.0", x4, two((32, 48), 3, 2))?;
    let x8 = stage(layers, "stage8.1", x, two((48, 48), 3, 1))?;
    let x = stage(layers, "stage16.0", x8, two((48, 64), 3, 2))?;
    let x16 = stage(layers, "stage16.1", x, two((64, 64), 3, 1))?;
    let lateral = layers.conv("features.lateral8", x16, two((64, 48), 1, 1), false)?;
    let x = resample::upsample_add(layers.graph, "features.merge8", lateral, x8, false)?;
    let x8 = stage(layers, "merge8", x, two((48, 48), 3, 1))?;
    let lateral = layers.conv("features.lateral4", x8, two((48, 32), 1, 1), false)?;
    let x = resample::upsample_add(layers.graph, "features.output", lateral, x4, false)?;
    layers.conv("features.output", x, two((32, 32), 3, 1), false)
}

/// The configuration's gate on these views.
///
/// # Errors
/// Where a tensor is missing.
fn weighting(layers: &mut Layers, config: Config, views: &Views) -> Result<Weighting> {
    Ok(match config.aggregation {
        Aggregation::Mean => Weighting::Mean,
        Aggregation::Variance => Weighting::Variance,
        Aggregation::Voxel => Weighting::Voxel {
            reduce: layers.tensor("gate.reduce.weight", &[8, 32, 1, 1, 1])?,
            reduce_bias: layers.tensor("gate.reduce.bias", &[8])?,
            weight: layers.tensor("gate.weight.weight", &[1, 8, 1, 1, 1])?,
            weight_bias: layers.tensor("gate.weight.bias", &[1])?,
        },
        Aggregation::Pixel => {
            let statistics = sweep::pixel_statistics(layers.graph, "gate", views)?;
            let x = layers.conv("gate.conv1", statistics, two((2, 8), 3, 1), true)?;
            let x = layers.conv("gate.conv2", x, two((8, 8), 3, 1), true)?;
            Weighting::Pixel(layers.conv("gate.weight", x, two((8, 1), 3, 1), true)?)
        }
    })
}

/// What the sweep needs of the views, as inputs of a graph.
#[derive(Clone, Copy, Debug)]
pub struct SweepInputs {
    /// [V, Hs, Ws, 32], the reference first; maps that are smaller than the largest lie in its upper left corner.
    pub features: Value,
    /// Rows and columns of the reference's map.
    pub reference: (usize, usize),
    /// [V - 1, 1, 1, 16]: see [`sweep::source_row`].
    pub sources: Value,
    /// D values, f32.
    pub depths: Value,
}

fn views(config: Config, inputs: &SweepInputs) -> Views {
    Views {
        features: inputs.features,
        sources: inputs.sources,
        depths: inputs.depths,
        squared: config.difference == Difference::Squared,
        reference: Some(inputs.reference),
    }
}

/// Logits [D, H/4, W/4, 1] for training.
///
/// # Errors
/// Where a tensor is missing or the shapes do not fit together.
pub fn training_logits(layers: &mut Layers, config: Config, inputs: &SweepInputs) -> Result<Value> {
    let views = views(config, inputs);
    let weighting = weighting(layers, config, &views)?;
    let (cost, _) = sweep::cost_volume(layers.graph, "aggregation", &views, &weighting, None)?;
    let (s2, c2) = layers.pair(["regularizer.spatial2", "regularizer.context2"], cost, three((32, 16), 3, 2))?;
    let size = layers.graph.shape(cost);
    let (fused, s4) = middle(layers, s2, c2)?;
    match config.decoder {
        Decoder::Trilinear => {
            let logits = trilinear_logits(layers, fused)?;
            resample::upsample(layers.graph, "regularizer.logits", logits, 8, size.with_channels(1))
        }
        Decoder::Skip => {
            let half = decoded(layers, fused, s4, s2)?;
            let skip = layers.conv("regularizer.cost_skip", cost, three((32, 8), 1, 1), false)?;
            let x = resample::upsample_add(layers.graph, "regularizer.logits", half, skip, true)?;
            let weight = layers.tensor("regularizer.logits.weight", &[1, 8, 3, 3, 3])?;
            let bias = layers.tensor("regularizer.logits.bias", &[1])?;
            super::ops::depthwise::to_one_channel(layers.graph, "regularizer.logits", x, weight, bias)
        }
    }
}

/// How many depth planes of the cost volume exist at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slabs {
    /// Planes of a slab, even: the strided layers make half as many from them. All planes at once where it is not less
    /// than D.
    pub planes: usize,
}

impl Slabs {
    /// The whole volume at once.
    pub const WHOLE: Self = Self { planes: usize::MAX };
}

/// Depth and confidence, for inference.
///
/// # Errors
/// Where a tensor is missing or the shapes do not fit together.
pub fn depth(
    layers: &mut Layers,
    config: Config,
    inputs: &SweepInputs,
    depths: &Depths,
    slabs: Slabs,
    keep_logits: bool,
) -> Result<Estimate> {
    let views = views(config, inputs);
    let weighting = weighting(layers, config, &views)?;
    let skip = match config.decoder {
        Decoder::Trilinear => None,
        Decoder::Skip => Some(Skip {
            weights: layers.tensor("regularizer.cost_skip.weight", &[8, 32, 1, 1, 1])?,
            bias: layers.tensor("regularizer.cost_skip.bias", &[8])?,
        }),
    };
    let first = match &layers.weights {
        Weights::Folded(checkpoint) => super::layers::folded(
            layers.graph,
            checkpoint,
            &["regularizer.spatial2", "regularizer.context2"],
            three((32, 16), 3, 2),
            true,
            layers.element,
        )?,
        Weights::Trained(_) => {
            return Err(crate::Error::Bug {
                place: "device network",
                problem: "inference of parameters in training".into(),
            });
        }
    };
    let (s2, c2, projected) = beginning(layers.graph, &views, &weighting, skip.as_ref(), &first, slabs)?;
    let planes = layers.graph.shape(inputs.depths).len();
    let size = Shape { d: planes, h: inputs.reference.0, w: inputs.reference.1, c: 1 };
    let (fused, s4) = middle(layers, s2, c2)?;
    match (config.decoder, projected) {
        (Decoder::Skip, Some(projected)) => {
            let half = decoded(layers, fused, s4, s2)?;
            let weight = layers.tensor("regularizer.logits.weight", &[1, 8, 3, 3, 3])?;
            let bias = layers.tensor("regularizer.logits.bias", &[1])?;
            let label = "regularizer.logits";
            head::regress_skip(layers.graph, label, half, projected, weight, bias, depths, keep_logits)
        }
        _ => {
            let logits = trilinear_logits(layers, fused)?;
            head::regress_trilinear(layers.graph, "regularizer.logits", logits, size, depths, keep_logits)
        }
    }
}

/// Everything that reads the cost volume: the first layers of both paths at half resolution, and the projection of the
/// cost. A slab of planes is made, read and overwritten by the next; a strided layer's output plane k reads planes 2k
/// - 1 to 2k + 1, so that neighbouring slabs share one plane, which is made twice.
fn beginning(
    graph: &mut Graph,
    views: &Views,
    weighting: &Weighting,
    skip: Option<&Skip>,
    first: &conv::ConvLayer,
    slabs: Slabs,
) -> Result<(Value, Value, Option<Value>)> {
    let map = graph.shape(views.features);
    let planes = graph.shape(views.depths).len();
    let element = graph.element(views.features);
    let (h, w) = views.reference.unwrap_or((map.h, map.w));
    let volume = Shape { d: planes, h, w, c: map.c };
    let half = volume.halved().with_channels(16);
    let s2 = graph.temporary("regularizer.spatial2", half, element);
    let c2 = graph.temporary("regularizer.context2", half, element);
    let projected = skip.map(|_| graph.temporary("regularizer.cost_skip", volume.with_channels(8), element));
    let per_slab = (slabs.planes.min(planes + planes % 2) / 2).max(1);
    for from in (0..half.d).step_by(per_slab) {
        let to = (from + per_slab).min(half.d);
        let (begin, end) = ((2 * from).saturating_sub(1), (2 * to).min(planes));
        let made = sweep::Planes { begin, end, projected };
        let cost = sweep::cost_planes(graph, "aggregation", views, weighting, skip, &made)?;
        let rows = conv::Planes { input_begin: begin, input_planes: planes, output: from..to };
        conv::conv_planes(graph, "regularizer.spatial2", cost, first, &rows, (s2, c2))?;
    }
    Ok((s2, c2, projected))
}

/// From both paths at 1/2 to the fused features at 1/8; also the spatial path at 1/4.
fn middle(layers: &mut Layers, s2: Value, c2: Value) -> Result<(Value, Value)> {
    let conv = |layers: &mut Layers, name: &str, x: Value, size: Size| {
        layers.conv_bn(&format!("regularizer.{name}"), x, size, true, None)
    };
    let s4 = conv(layers, "spatial4", s2, three((16, 32), 3, 2))?;
    let s8 = conv(layers, "spatial8", s4, three((32, 64), 3, 2))?;
    let c4 = separable(layers, "context4", c2, (16, 32))?;
    let c8 = separable(layers, "context8", c4, (32, 64))?;
    let c16 = separable(layers, "context16", c8, (64, 96))?;
    let c32 = separable(layers, "context32", c16, (96, 128))?;
    let mean = reduce::volume_mean(layers.graph, "regularizer.context_global", c32)?;
    let tail = layers.conv("regularizer.context_global", mean, three((128, 64), 1, 1), true)?;
    let deep = refined(layers, "arm32", c32, (128, 64))?;
    let deep = pointwise::add_vector(layers.graph, "regularizer.context_global", deep, tail)?;
    let fine = refined(layers, "arm16", c16, (96, 64))?;
    let context = resample::upsample_add(layers.graph, "regularizer.context_merge", deep, fine, false)?;
    let context = conv(layers, "context_merge", context, three((64, 64), 3, 1))?;
    let size = layers.graph.shape(s8);
    let context = resample::upsample(layers.graph, "regularizer.context_merge", context, 2, size)?;
    Ok((fused(layers, s8, context)?, s4))
}

/// The skip decoder up to 1/2: [D/2, H/8, W/8, 8].
fn decoded(layers: &mut Layers, x: Value, s4: Value, s2: Value) -> Result<Value> {
    let conv = |layers: &mut Layers, name: &str, x: Value, size: Size| {
        layers.conv_bn(&format!("regularizer.{name}"), x, size, true, None)
    };
    let x = conv(layers, "up4", x, three((64, 32), 1, 1))?;
    let x = resample::upsample_add(layers.graph, "regularizer.decode4", x, s4, false)?;
    let x = conv(layers, "decode4", x, three((32, 16), 3, 1))?;
    let x = resample::upsample_add(layers.graph, "regularizer.decode2", x, s2, false)?;
    conv(layers, "decode2", x, three((16, 8), 3, 1))
}

/// The trilinear decoder's logits at 1/8.
fn trilinear_logits(layers: &mut Layers, x: Value) -> Result<Value> {
    let x = layers.conv_bn("regularizer.head", x, three((64, 16), 3, 1), true, None)?;
    layers.conv("regularizer.logits", x, three((16, 1), 1, 1), false)
}

/// Xception block: two depthwise-separable 3x3x3 convolutions, the first of stride 2, and a 1x1x1 shortcut.
fn separable(layers: &mut Layers, name: &str, x: Value, (input, output): (usize, usize)) -> Result<Value> {
    let name = format!("regularizer.{name}");
    let y = layers.depthwise(&format!("{name}.depthwise1"), x, 2)?;
    let y = layers.conv_bn(&format!("{name}.pointwise1"), y, three((input, output), 1, 1), true, None)?;
    let y = layers.depthwise(&format!("{name}.depthwise2"), y, 1)?;
    let shortcut = layers.conv_bn(&format!("{name}.shortcut"), x, three((input, output), 1, 2), false, None)?;
    layers.conv_bn(&format!("{name}.pointwise2"), y, three((output, output), 1, 1), true, Some(shortcut))
}

/// 3D ARM, Table I(a): a 3x3x3 conv-BN-ReLU times the sigmoid of a 1x1x1 conv-BN of itself.
fn refined(layers: &mut Layers, name: &str, x: Value, channels: (usize, usize)) -> Result<Value> {
    let name = format!("regularizer.{name}");
    let x = layers.conv_bn(&format!("{name}.conv"), x, three(channels, 3, 1), true, None)?;
    let point = three((channels.1, channels.1), 1, 1);
    let attention = layers.conv_bn(&format!("{name}.attention"), x, point, false, None)?;
    pointwise::gate_refine(layers.graph, &name, x, attention)
}

/// 3D FFM, Table I(b): concatenation, 1x1x1 conv-BN-ReLU, then x + x sigmoid(conv(BN(conv(mean over H, W)))).
fn fused(layers: &mut Layers, spatial: Value, context: Value) -> Result<Value> {
    let name = "regularizer.fusion";
    let both = pointwise::concat(layers.graph, name, spatial, context)?;
    let x = layers.conv_bn(&format!("{name}.merge"), both, three((128, 64), 1, 1), true, None)?;
    let planes = reduce::plane_mean(layers.graph, name, x)?;
    let point = three((64, 64), 1, 1);
    let attention = layers.conv_bn(&format!("{name}.attention1"), planes, point, false, None)?;
    let attention = layers.conv(&format!("{name}.attention2"), attention, point, false)?;
    pointwise::gate_planes(layers.graph, name, x, attention)
}
