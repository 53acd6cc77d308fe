//! BS-MVSNet, one level of the depth pyramid: what the network is, in the order in which data flows.
//!
//! Follows the PyTorch definition (`tools/reference/bs_mvsnet.py`) layer by layer; names of layers are its names,
//! numbers in the text are the paper's (Table I, eq. 3-6). How a layer is computed, and which of them are computed in
//! one pass, is the executor's business ([`Layers`]).

use super::config::{Aggregation, Config, Decoder, Resolution};
use super::layers::{Conv, Depthwise, Kernel, Layers, VoxelGate, Weighting, evened};
use super::stage::Stage;
use crate::error::Result;

/// Channels of the features, and of the cost volume.
pub const CHANNELS: usize = 32;

/// Feature maps of photos [V, H, W, 3], as far as they are wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct Features<V> {
    /// [V, H/4, W/4, 32].
    pub quarter: V,
    /// [V, H/2, W/2, 16], for the narrow stage there.
    pub half: Option<V>,
    /// [V, H, W, 8], for the narrow stage there.
    pub full: Option<V>,
}

impl<V> Features<V> {
    /// A narrow stage's, where they go up to it.
    pub fn of_stage(&self, stage: &Stage) -> Option<&V> {
        if stage.step == Resolution::Half.step() { self.half.as_ref() } else { self.full.as_ref() }
    }
}

/// FeatureNet: normalised photos [V, H, W, 3] to their features up to this resolution. H and W are multiples of 4.
///
/// # Errors
/// The executor's.
pub fn features<L: Layers>(net: &mut L, finest: Resolution, photos: L::Value) -> Result<Features<L::Value>> {
    let layer = |name: &str, channels, side| Conv::d2(format!("features.{name}"), channels, side);
    let x = net.conv_bn(layer("stage1.0", (3, 8), 3).relu(), photos)?;
    let x1 = net.conv_bn(layer("stage1.1", (8, 8), 3).relu(), x)?;
    let x = strided(net, layer("stage2.0", (8, 16), 5).strided(), x1.clone())?;
    // What no finer stage reads gives its memory back at once.
    let x1 = (finest == Resolution::Full).then_some(x1);
    let x = net.conv_bn(layer("stage2.1", (16, 16), 3).relu(), x)?;
    let x2 = net.conv_bn(layer("stage2.2", (16, 16), 3).relu(), x)?;
    let x = strided(net, layer("stage4.0", (16, 32), 5).strided(), x2.clone())?;
    let x2 = (finest != Resolution::Quarter).then_some(x2);
    let x = net.conv_bn(layer("stage4.1", (32, 32), 3).relu(), x)?;
    let x4 = net.conv_bn(layer("stage4.2", (32, 32), 3).relu(), x)?;
    let x = strided(net, layer("stage8.0", (32, 48), 3).strided(), x4.clone())?;
    let x8 = net.conv_bn(layer("stage8.1", (48, 48), 3).relu(), x)?;
    let x = strided(net, layer("stage16.0", (48, 64), 3).strided(), x8.clone())?;
    let x16 = net.conv_bn(layer("stage16.1", (64, 64), 3).relu(), x)?;
    let lateral = net.conv(layer("lateral8", (64, 48), 1), x16)?;
    let x = net.upsample_add("features.merge8", lateral, x8)?;
    let x = net.conv_bn(layer("merge8", (48, 48), 3).relu(), x)?;
    let lateral = net.conv(layer("lateral4", (48, CHANNELS), 1), x)?;
    let x4 = net.upsample_add("features.output", lateral, x4)?;
    let quarter = net.conv(layer("output", (CHANNELS, CHANNELS), 3), x4.clone())?;
    let Some(x2) = x2 else { return Ok(Features { quarter, half: None, full: None }) };
    let lateral = net.conv(layer("lateral2", (CHANNELS, 16), 1), x4)?;
    let x2 = net.upsample_add("features.output2", lateral, x2)?;
    let half = Some(net.conv(layer("output2", (16, 16), 3), x2.clone())?);
    let Some(x1) = x1 else { return Ok(Features { quarter, half, full: None }) };
    let lateral = net.conv(layer("lateral1", (16, 8), 1), x2)?;
    let x1 = net.upsample_add("features.output1", lateral, x1)?;
    let full = Some(net.conv(layer("output1", (8, 8), 3), x1)?);
    Ok(Features { quarter, half, full })
}

/// A strided convolution with batch norm and ReLU, of any size.
pub(super) fn strided<L: Layers>(net: &mut L, layer: Conv, x: L::Value) -> Result<L::Value> {
    let layer = layer.relu();
    let x = evened(net, &layer.name, x, layer.kernel)?;
    net.conv_bn(layer, x)
}

/// From the views' features to depth and confidence, or to logits: gate, cost volume, 3D BiSeNet, regression.
///
/// # Errors
/// The executor's.
pub fn depth<L: Layers>(net: &mut L, config: Config, views: &L::Views) -> Result<L::Estimate> {
    let weighting = gate(net, config, views)?;
    let first = ["spatial2", "context2"].map(|name| volume(name, (CHANNELS, 16), 3).strided().relu());
    match config.decoder {
        Decoder::Skip => {
            let skip = volume("cost_skip", (CHANNELS, 8), 1);
            let ([s2, c2], skip) = net.cost_and_skip(views, config.difference, weighting, first, skip)?;
            let (x, s4) = bilateral(net, s2.clone(), c2)?;
            let x = net.conv_bn(volume("up4", (64, 32), 1).relu(), x)?;
            let x = net.upsample_add("regularizer.decode4", x, s4)?;
            let x = net.conv_bn(volume("decode4", (32, 16), 3).relu(), x)?;
            let x = net.upsample_add("regularizer.decode2", x, s2)?;
            let half = net.conv_bn(volume("decode2", (16, 8), 3).relu(), x)?;
            net.regress_skip(views, volume("logits", (8, 1), 3), half, skip)
        }
        Decoder::Trilinear => {
            let [s2, c2] = net.cost(views, config.difference, weighting, first)?;
            let (x, _) = bilateral(net, s2, c2)?;
            let x = net.conv_bn(volume("head", (64, 16), 3).relu(), x)?;
            let eighth = net.conv(volume("logits", (16, 1), 1), x)?;
            net.regress_trilinear(views, "regularizer.logits", eighth)
        }
    }
}

/// How the source views are weighted against each other (eq. 4, 5).
///
/// # Errors
/// The executor's.
pub fn gate<L: Layers>(net: &mut L, config: Config, views: &L::Views) -> Result<Weighting<L::Value>> {
    Ok(match config.aggregation {
        Aggregation::Voxel(()) => Aggregation::Voxel(VoxelGate {
            reduce: Conv::d3("gate.reduce", (CHANNELS, 8), 1).relu(),
            weight: Conv::d3("gate.weight", (8, 1), 1).relu(),
        }),
        Aggregation::Pixel(()) => {
            let x = net.pixel_statistics("gate", views, config.difference)?;
            let x = net.conv(Conv::d2("gate.conv1", (2, 8), 3).relu(), x)?;
            let x = net.conv(Conv::d2("gate.conv2", (8, 8), 3).relu(), x)?;
            Aggregation::Pixel(net.conv(Conv::d2("gate.weight", (8, 1), 3).relu(), x)?)
        }
        Aggregation::Mean => Aggregation::Mean,
        Aggregation::Variance => Aggregation::Variance,
    })
}

/// The 3D BiSeNet between its ends: both paths at 1/2 to the fused features at 1/8, and the spatial path at 1/4.
fn bilateral<L: Layers>(net: &mut L, s2: L::Value, c2: L::Value) -> Result<(L::Value, L::Value)> {
    // Two layers with much to do in each, beside thirty with little.
    let (s4, s8) = net.aside(|net| {
        let s4 = strided(net, volume("spatial4", (16, 32), 3).strided(), s2)?;
        let s8 = strided(net, volume("spatial8", (32, 64), 3).strided(), s4.clone())?;
        Ok((s4, s8))
    })?;
    let c4 = separable(net, "context4", c2, (16, 32))?;
    let c8 = separable(net, "context8", c4, (32, 64))?;
    let c16 = separable(net, "context16", c8, (64, 96))?;
    let c32 = separable(net, "context32", c16.clone(), (96, 128))?;
    let mean = net.volume_mean("regularizer.context_global", c32.clone())?;
    let tail = net.conv(volume("context_global", (128, 64), 1).relu(), mean)?;
    let deep = refined(net, "arm32", c32, (128, 64))?;
    let deep = net.add_vector("regularizer.context_global", deep, tail)?;
    let fine = refined(net, "arm16", c16, (96, 64))?;
    let x = net.upsample_add("regularizer.context_merge", deep, fine)?;
    let x = net.conv_bn(volume("context_merge", (64, 64), 3).relu(), x)?;
    let size = net.shape(&s8);
    let context = net.upsample("regularizer.context_merge", x, 2, size)?;
    Ok((fused(net, s8, context)?, s4))
}

/// Xception block: two depthwise-separable 3x3x3 convolutions, the first of stride 2, and a 1x1x1 shortcut.
fn separable<L: Layers>(net: &mut L, name: &str, x: L::Value, (input, output): (usize, usize)) -> Result<L::Value> {
    let layer = |what: &str, channels| volume(&format!("{name}.{what}"), channels, 1);
    let depthwise = |what: &str, channels, stride| {
        let name = format!("regularizer.{name}.{what}");
        Depthwise { name, channels, stride }
    };
    let x = evened(net, &format!("regularizer.{name}"), x, Kernel::d3(3, 2))?;
    let y = net.depthwise(depthwise("depthwise1", input, 2), x.clone())?;
    let y = net.conv_bn(layer("pointwise1", (input, output)).relu(), y)?;
    let y = net.depthwise(depthwise("depthwise2", output, 1), y)?;
    let shortcut = net.conv_bn(layer("shortcut", (input, output)).strided(), x)?;
    net.conv_bn_add(&format!("regularizer.{name}"), layer("pointwise2", (output, output)).relu(), y, shortcut)
}

/// 3D ARM, Table I(a): a 3x3x3 conv-BN-ReLU times the sigmoid of a 1x1x1 conv-BN of itself.
fn refined<L: Layers>(net: &mut L, name: &str, x: L::Value, channels: (usize, usize)) -> Result<L::Value> {
    let x = net.conv_bn(volume(&format!("{name}.conv"), channels, 3).relu(), x)?;
    let attention = net.conv_bn(volume(&format!("{name}.attention"), (channels.1, channels.1), 1), x.clone())?;
    net.refine(&format!("regularizer.{name}"), x, attention)
}

/// 3D FFM, Table I(b): concatenation, 1x1x1 conv-BN-ReLU, then x + x sigmoid(conv(BN(conv(mean over H, W)))).
fn fused<L: Layers>(net: &mut L, spatial: L::Value, context: L::Value) -> Result<L::Value> {
    let label = "regularizer.fusion";
    let both = net.concat(label, spatial, context)?;
    let x = net.conv_bn(volume("fusion.merge", (128, 64), 1).relu(), both)?;
    let planes = net.plane_mean(label, x.clone())?;
    let attention = net.conv_bn(volume("fusion.attention1", (64, 64), 1), planes)?;
    let attention = net.conv(volume("fusion.attention2", (64, 64), 1), attention)?;
    net.excite(label, x, attention)
}

/// A layer of the regularizer.
fn volume(name: &str, channels: (usize, usize), side: usize) -> Conv {
    Conv::d3(format!("regularizer.{name}"), channels, side)
}
