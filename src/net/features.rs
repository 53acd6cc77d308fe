//! FeatureNet: a photo to 32 channels at a quarter of its resolution (reference: `FeatureNet`).

use super::Probe;
use super::weights::{Checkpoint, Kernel};
use crate::cpu::ops::conv::Conv;
use crate::cpu::ops::resample::upsample_add;
use crate::cpu::tensor::{Cpu, Shape, Tensor};
use crate::error::Result;

/// The layers, in the order in which they run.
pub struct FeatureNet {
    stages: [(&'static str, Vec<Conv>); 5],
    lateral8: Conv,
    merge8: Conv,
    lateral4: Conv,
    output: Conv,
}

impl FeatureNet {
    /// Takes the tensors `features.*`.
    ///
    /// # Errors
    /// Where one is missing or misshapen.
    pub fn new(checkpoint: &Checkpoint) -> Result<Self> {
        let stage = |name: &'static str, layers: &[(usize, usize, usize, usize)]| -> Result<_> {
            let layers = layers.iter().enumerate().map(|(i, &(input, output, side, stride))| {
                let layer = format!("features.{name}.{i}");
                checkpoint.conv_bn(&layer, (input, output), Kernel::d2(side, stride), true)
            });
            Ok((name, layers.collect::<Result<Vec<_>>>()?))
        };
        let point = Kernel::d2(1, 1);
        Ok(Self {
            stages: [
                stage("stage1", &[(3, 8, 3, 1), (8, 8, 3, 1)])?,
                stage("stage2", &[(8, 16, 5, 2), (16, 16, 3, 1), (16, 16, 3, 1)])?,
                stage("stage4", &[(16, 32, 5, 2), (32, 32, 3, 1), (32, 32, 3, 1)])?,
                stage("stage8", &[(32, 48, 3, 2), (48, 48, 3, 1)])?,
                stage("stage16", &[(48, 64, 3, 2), (64, 64, 3, 1)])?,
            ],
            lateral8: checkpoint.conv("features.lateral8", (64, 48), point, false)?,
            merge8: checkpoint.conv_bn("features.merge8", (48, 48), Kernel::d2(3, 1), true)?,
            lateral4: checkpoint.conv("features.lateral4", (48, 32), point, false)?,
            output: checkpoint.conv("features.output", (32, 32), Kernel::d2(3, 1), false)?,
        })
    }

    /// Normalised image [1, H, W, 3] -> [1, H/4, W/4, 32]; H and W are multiples of 4.
    ///
    /// # Errors
    /// Where the image has other channels.
    pub fn forward(&self, cpu: &Cpu, image: Tensor, probe: &mut Probe) -> Result<Tensor> {
        let mut x = image;
        let mut kept = Vec::new();
        for (name, layers) in &self.stages {
            for (i, layer) in layers.iter().enumerate() {
                let y = layer.forward(cpu, &x, None)?;
                probe(&format!("features.{name}.{i}"), &y);
                let before = std::mem::replace(&mut x, y);
                // The outputs of stages 4 and 8 are merged with the coarser ones below.
                if i == 0 && matches!(*name, "stage8" | "stage16") {
                    kept.push(before);
                } else {
                    cpu.recycle(before);
                }
            }
        }
        let [x4, x8]: [Tensor; 2] = kept.try_into().unwrap_or_else(|_| unreachable!("two stages are kept"));
        let lateral = self.lateral8.forward(cpu, &x, None)?;
        probe("features.lateral8", &lateral);
        let sum = upsample_add(cpu, &lateral, 2, x8)?;
        cpu.recycle(lateral);
        cpu.recycle(x);
        let x = self.merge8.apply(cpu, sum)?;
        probe("features.merge8", &x);
        let lateral = self.lateral4.forward(cpu, &x, None)?;
        probe("features.lateral4", &lateral);
        let sum = upsample_add(cpu, &lateral, 2, x4)?;
        cpu.recycle(lateral);
        cpu.recycle(x);
        let y = self.output.apply(cpu, sum)?;
        probe("features.output", &y);
        Ok(y)
    }

    /// Layers with their names and the shapes of their inputs, for benchmarks: an image of `height` x `width`.
    pub fn layers(&self, height: usize, width: usize) -> Vec<(String, &Conv, Shape)> {
        let mut shape = Shape::plane(height, width, 3);
        let mut all = Vec::new();
        let mut extents = Vec::new();
        for (name, layers) in &self.stages {
            for (i, layer) in layers.iter().enumerate() {
                all.push((format!("{name}.{i}"), layer, shape));
                shape = layer.output_shape(shape);
            }
            extents.push(shape);
        }
        all.push(("lateral8".into(), &self.lateral8, extents[4]));
        all.push(("merge8".into(), &self.merge8, extents[3]));
        all.push(("lateral4".into(), &self.lateral4, extents[3]));
        all.push(("output".into(), &self.output, extents[2]));
        all
    }
}
