//! The 3D BiSeNet: cost volume to depth and confidence (reference: `BiSeNet3d`, Table I).
//!
//! The first strided convolutions of both paths and the decoder's projection of the cost volume are fused into the
//! plane sweep ([`crate::cpu::ops::sweep::fused`]), the last stage into the regression ([`crate::cpu::ops::head`]);
//! what lies between works on a half to a thirty-second of the volume's resolution.

use super::weights::{Checkpoint, Kernel};
use super::{Decoder, Probe};
use crate::cpu::ops::conv::Conv;
use crate::cpu::ops::depth::Expectation;
use crate::cpu::ops::depthwise::Depthwise;
use crate::cpu::ops::head::{self, Estimate, LogitsConv, regress};
use crate::cpu::ops::pointwise::{add_vector, concat, gate, gate_planes};
use crate::cpu::ops::reduce::{plane_mean, volume_mean};
use crate::cpu::ops::resample::{upsample, upsample_add};
use crate::cpu::ops::sweep::{Sweep, fused};
use crate::cpu::tensor::{Cpu, Shape, Tensor};
use crate::error::Result;

/// Xception block: two depthwise-separable 3x3x3 convolutions, the first of stride 2, and a 1x1x1 shortcut.
struct SeparableBlock {
    name: &'static str,
    depthwise1: Depthwise,
    pointwise1: Conv,
    depthwise2: Depthwise,
    /// Also does the sum with the shortcut and the ReLU after it.
    pointwise2: Conv,
    shortcut: Conv,
}

impl SeparableBlock {
    fn new(checkpoint: &Checkpoint, name: &'static str, input: usize, output: usize) -> Result<Self> {
        let layer = |what: &str| format!("regularizer.{name}.{what}");
        let point = Kernel::d3(1, 1);
        Ok(Self {
            name,
            depthwise1: checkpoint.depthwise(&layer("depthwise1"), input, 2)?,
            pointwise1: checkpoint.conv_bn(&layer("pointwise1"), (input, output), point, true)?,
            depthwise2: checkpoint.depthwise(&layer("depthwise2"), output, 1)?,
            pointwise2: checkpoint.conv_bn(&layer("pointwise2"), (output, output), point, true)?,
            shortcut: checkpoint.conv_bn(&layer("shortcut"), (input, output), Kernel::d3(1, 2), false)?,
        })
    }

    fn forward(&self, cpu: &Cpu, x: &Tensor, probe: &mut Probe) -> Result<Tensor> {
        let shortcut = self.shortcut.forward(cpu, x, None)?;
        let y = self.pointwise1.apply(cpu, self.depthwise1.forward(cpu, x)?)?;
        let z = self.depthwise2.forward(cpu, &y)?;
        cpu.recycle(y);
        let y = self.pointwise2.forward(cpu, &z, Some(&shortcut))?;
        cpu.recycle(z);
        cpu.recycle(shortcut);
        probe(&format!("regularizer.{}", self.name), &y);
        Ok(y)
    }
}

/// 3D ARM, Table I(a): a 3x3x3 conv-BN-ReLU times the sigmoid of a 1x1x1 conv-BN of itself.
struct AttentionRefinement {
    name: &'static str,
    conv: Conv,
    attention: Conv,
}

impl AttentionRefinement {
    fn new(checkpoint: &Checkpoint, name: &'static str, input: usize, output: usize) -> Result<Self> {
        let layer = |what: &str| format!("regularizer.{name}.{what}");
        Ok(Self {
            name,
            conv: checkpoint.conv_bn(&layer("conv"), (input, output), Kernel::d3(3, 1), true)?,
            attention: checkpoint.conv_bn(&layer("attention"), (output, output), Kernel::d3(1, 1), false)?,
        })
    }

    fn forward(&self, cpu: &Cpu, x: &Tensor, probe: &mut Probe) -> Result<Tensor> {
        let mut y = self.conv.forward(cpu, x, None)?;
        let attention = self.attention.forward(cpu, &y, None)?;
        gate(&mut y, &attention)?;
        cpu.recycle(attention);
        probe(&format!("regularizer.{}", self.name), &y);
        Ok(y)
    }
}

/// 3D FFM, Table I(b): concatenation, 1x1x1 conv-BN-ReLU, then x + x sigmoid(conv(BN(conv(mean over H, W)))).
struct FeatureFusion {
    merge: Conv,
    attention1: Conv,
    attention2: Conv,
}

impl FeatureFusion {
    fn new(checkpoint: &Checkpoint, input: usize, output: usize) -> Result<Self> {
        let point = Kernel::d3(1, 1);
        Ok(Self {
            merge: checkpoint.conv_bn("regularizer.fusion.merge", (input, output), point, true)?,
            attention1: checkpoint.conv_bn("regularizer.fusion.attention1", (output, output), point, false)?,
            attention2: checkpoint.conv("regularizer.fusion.attention2", (output, output), point, false)?,
        })
    }

    fn forward(&self, cpu: &Cpu, spatial: Tensor, context: Tensor, probe: &mut Probe) -> Result<Tensor> {
        let both = concat(cpu, &spatial, &context)?;
        cpu.recycle(spatial);
        cpu.recycle(context);
        let mut x = self.merge.apply(cpu, both)?;
        let attention = self.attention1.apply(cpu, plane_mean(&x))?;
        gate_planes(&mut x, &self.attention2.apply(cpu, attention)?)?;
        probe("regularizer.fusion", &x);
        Ok(x)
    }
}

/// The two decoders (configuration `decoder`).
#[allow(clippy::large_enum_variant)] // there is one of it
enum Head {
    Skip { up4: Conv, decode4: Conv, decode2: Conv, cost_skip: Conv, logits: LogitsConv },
    Trilinear { head: Conv, logits: Conv },
}

/// The whole regularizer.
pub struct BiSeNet3d {
    /// `spatial2` and `context2`, which read the same input.
    first: Conv,
    spatial4: Conv,
    spatial8: Conv,
    /// To 1/4, 1/8, 1/16 and 1/32.
    context: [SeparableBlock; 4],
    arm16: AttentionRefinement,
    arm32: AttentionRefinement,
    context_global: Conv,
    context_merge: Conv,
    fusion: FeatureFusion,
    head: Head,
}

impl BiSeNet3d {
    /// Takes the tensors `regularizer.*`.
    ///
    /// # Errors
    /// Where one is missing or misshapen.
    pub fn new(checkpoint: &Checkpoint) -> Result<Self> {
        let conv =
            |name: &str, channels, kernel| checkpoint.conv_bn(&format!("regularizer.{name}"), channels, kernel, true);
        let (point, full, strided) = (Kernel::d3(1, 1), Kernel::d3(3, 1), Kernel::d3(3, 2));
        let first = (conv("spatial2", (32, 16), strided)?, conv("context2", (32, 16), strided)?);
        let head = match checkpoint.config.decoder {
            Decoder::Skip => Head::Skip {
                up4: conv("up4", (64, 32), point)?,
                decode4: conv("decode4", (32, 16), full)?,
                decode2: conv("decode2", (16, 8), full)?,
                cost_skip: checkpoint.conv("regularizer.cost_skip", (32, 8), point, false)?,
                logits: LogitsConv::new(
                    &checkpoint.take("regularizer.logits.weight", &[1, 8, 3, 3, 3])?,
                    checkpoint.take("regularizer.logits.bias", &[1])?[0],
                ),
            },
            Decoder::Trilinear => Head::Trilinear {
                head: conv("head", (64, 16), full)?,
                logits: checkpoint.conv("regularizer.logits", (16, 1), point, false)?,
            },
        };
        Ok(Self {
            first: Conv::joined(&first.0, &first.1),
            spatial4: conv("spatial4", (16, 32), strided)?,
            spatial8: conv("spatial8", (32, 64), strided)?,
            context: [
                SeparableBlock::new(checkpoint, "context4", 16, 32)?,
                SeparableBlock::new(checkpoint, "context8", 32, 64)?,
                SeparableBlock::new(checkpoint, "context16", 64, 96)?,
                SeparableBlock::new(checkpoint, "context32", 96, 128)?,
            ],
            arm16: AttentionRefinement::new(checkpoint, "arm16", 96, 64)?,
            arm32: AttentionRefinement::new(checkpoint, "arm32", 128, 64)?,
            context_global: checkpoint.conv("regularizer.context_global", (128, 64), point, true)?,
            context_merge: conv("context_merge", (64, 64), full)?,
            fusion: FeatureFusion::new(checkpoint, 128, 64)?,
            head,
        })
    }

    /// From the sweep over the source views to depth and confidence.
    ///
    /// # Errors
    /// Where the sweep's tensors do not fit together.
    pub fn forward(
        &self,
        cpu: &Cpu,
        sweep: &Sweep,
        expectation: &Expectation,
        keep_logits: bool,
        probe: &mut Probe,
    ) -> Result<Estimate> {
        let cost = sweep.shape();
        let skip_conv = match &self.head {
            Head::Skip { cost_skip, .. } => Some(cost_skip),
            Head::Trilinear { .. } => None,
        };
        let from_cost = fused(cpu, sweep, &self.first, skip_conv)?;
        let (s2, c2) = (from_cost.spatial, from_cost.context);
        probe("regularizer.spatial2", &s2);
        probe("regularizer.context2", &c2);
        if let Some(skip) = &from_cost.skip {
            probe("regularizer.cost_skip", skip);
        }
        let s4 = self.spatial4.forward(cpu, &s2, None)?;
        let s8 = self.spatial8.forward(cpu, &s4, None)?;
        probe("regularizer.spatial4", &s4);
        probe("regularizer.spatial8", &s8);
        let context = self.context(cpu, c2, s8.shape, probe)?;
        let x = self.fusion.forward(cpu, s8, context, probe)?;
        match (&self.head, from_cost.skip) {
            (Head::Skip { up4, decode4, decode2, logits, .. }, Some(skip)) => {
                let x = up4.apply(cpu, x)?;
                let sum = upsample_add(cpu, &x, 2, s4)?;
                cpu.recycle(x);
                let x = decode4.apply(cpu, sum)?;
                probe("regularizer.decode4", &x);
                let sum = upsample_add(cpu, &x, 2, s2)?;
                cpu.recycle(x);
                let x = decode2.apply(cpu, sum)?;
                probe("regularizer.decode2", &x);
                let estimate = regress(cpu, &head::Decoder::Skip(&x, &skip, logits), expectation, keep_logits)?;
                cpu.recycle(x);
                cpu.recycle(skip);
                Ok(estimate)
            }
            (Head::Trilinear { head, logits }, _) => {
                cpu.recycle(s2);
                cpu.recycle(s4);
                let x = head.apply(cpu, x)?;
                probe("regularizer.head", &x);
                let x = logits.apply(cpu, x)?;
                probe("regularizer.logits", &x);
                let estimate = regress(cpu, &head::Decoder::Trilinear(&x, cost), expectation, keep_logits)?;
                cpu.recycle(x);
                Ok(estimate)
            }
            (Head::Skip { .. }, None) => unreachable!("the sweep projects the costs where it is asked to"),
        }
    }

    /// The context path, from 1/2 down to 1/32 and back to 1/8 (`size`).
    fn context(&self, cpu: &Cpu, c2: Tensor, size: Shape, probe: &mut Probe) -> Result<Tensor> {
        let c4 = self.context[0].forward(cpu, &c2, probe)?;
        cpu.recycle(c2);
        let c8 = self.context[1].forward(cpu, &c4, probe)?;
        cpu.recycle(c4);
        let c16 = self.context[2].forward(cpu, &c8, probe)?;
        cpu.recycle(c8);
        let c32 = self.context[3].forward(cpu, &c16, probe)?;
        let tail = self.context_global.apply(cpu, volume_mean(&c32))?;
        let mut deep = self.arm32.forward(cpu, &c32, probe)?;
        cpu.recycle(c32);
        add_vector(&mut deep, &tail)?;
        let skip = self.arm16.forward(cpu, &c16, probe)?;
        cpu.recycle(c16);
        let sum = upsample_add(cpu, &deep, 2, skip)?;
        cpu.recycle(deep);
        let merged = self.context_merge.apply(cpu, sum)?;
        probe("regularizer.context_merge", &merged);
        let y = upsample(cpu, &merged, 2, size)?;
        cpu.recycle(merged);
        Ok(y)
    }

    /// Dense layers with their names and the shapes of their inputs, for a cost volume [D, H, W], for benchmarks.
    pub fn layers(&self, cost: Shape) -> Vec<(&'static str, &Conv, Shape)> {
        let at = |times: usize| (0..times).fold(cost, |s, _| s.halved());
        let mut all = vec![
            ("spatial2 + context2", &self.first, at(0).with_channels(32)),
            ("spatial4", &self.spatial4, at(1).with_channels(16)),
            ("spatial8", &self.spatial8, at(2).with_channels(32)),
            ("context4.pointwise2", &self.context[0].pointwise2, at(2).with_channels(32)),
            ("context8.pointwise2", &self.context[1].pointwise2, at(3).with_channels(64)),
            ("arm16.conv", &self.arm16.conv, at(4).with_channels(96)),
            ("arm32.conv", &self.arm32.conv, at(5).with_channels(128)),
            ("context_merge", &self.context_merge, at(4).with_channels(64)),
            ("fusion.merge", &self.fusion.merge, at(3).with_channels(128)),
        ];
        match &self.head {
            Head::Skip { up4, decode4, decode2, .. } => all.extend([
                ("up4", up4, at(3).with_channels(64)),
                ("decode4", decode4, at(2).with_channels(32)),
                ("decode2", decode2, at(1).with_channels(16)),
            ]),
            Head::Trilinear { head, .. } => all.push(("head", head, at(3).with_channels(64))),
        }
        all
    }
}
