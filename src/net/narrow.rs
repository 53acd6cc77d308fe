//! From a coarse map to the photo's own resolution: a narrow stage at half of it, and one at the whole.
//!
//! A stage takes the map of the stage before it to twice its resolution (a convex combination whose weights come from
//! the reference's features, so that edges follow the photo), and searches around it: a few hypotheses a pixel, evenly
//! spaced in 1 / depth, a cost volume over them with weights of its own, a small 3D U-Net that strides over rows and
//! columns only. What a stage finds is the next one's guess; no gradient flows from one to the other.
//!
//! Follows `Narrow` of the PyTorch definition; names of layers are its names.

use super::layers::{Conv, NarrowLayers, VoxelGate};
use super::model::strided;
use super::stage::{CONVEX, Stage};
use crate::error::Result;

/// One stage, from the estimate of the stage before.
///
/// # Errors
/// The executor's.
pub fn refine<L: NarrowLayers>(
    net: &mut L,
    stage: &Stage,
    views: &L::Views,
    coarse: &L::Estimate,
) -> Result<L::Estimate> {
    let name = |what: &str| format!("{}.{what}", stage.name);
    let layer = |what: &str, channels, side| Conv::d3(name(what), channels, side);
    let map = net.inverse_depth(coarse)?;
    let reference = net.reference(views, stage)?;
    let x = strided(net, Conv::d2(name("convex1"), (stage.channels, 32), 3).strided(), reference)?;
    let weights = net.conv(Conv::d2(name("convex2"), (32, CONVEX), 1), x)?;
    let guess = net.upsample_convex(stage.name, map, weights)?;
    let gate = VoxelGate {
        reduce: layer("gate.reduce", (stage.channels, 8), 1).relu(),
        weight: layer("gate.weight", (8, 1), 1).relu(),
    };
    let cost = net.narrow_cost(views, stage, &guess, gate)?;
    let skip = net.conv(layer("cost_skip", (stage.channels, 8), 1), cost.clone())?;
    let x2 = strided(net, layer("down2", (stage.channels, 16), 3).strided_planes(), cost)?;
    let x2 = net.conv_bn(layer("middle2", (16, 16), 3).relu(), x2)?;
    let x2 = if stage.halvings > 1 {
        let x4 = strided(net, layer("down4", (16, 32), 3).strided_planes(), x2.clone())?;
        let x4 = net.conv_bn(layer("middle4", (32, 32), 3).relu(), x4)?;
        let x4 = net.conv_bn(layer("up4", (32, 16), 1).relu(), x4)?;
        let x2 = net.upsample_add(&name("decode2"), x4, x2)?;
        net.conv_bn(layer("decode2", (16, 16), 3).relu(), x2)?
    } else {
        x2
    };
    let half = net.conv_bn(layer("up2", (16, 8), 1).relu(), x2)?;
    net.regress_narrow(views, stage, coarse, guess, layer("logits", (8, 1), 3), half, skip)
}
