//! The gates that weigh source views against each other (reference: `VoxelGate`, `PixelGate`).

use super::weights::{Checkpoint, Kernel};
use super::{Aggregation, Probe};
use crate::cpu::ops::conv::Conv;
use crate::cpu::ops::sweep::{self, Sweep, VoxelGate};
use crate::cpu::tensor::{Buffer, Cpu, Tensor};
use crate::error::Result;

/// A configuration's gate.
pub enum Gate {
    /// eq. 5.
    Voxel(VoxelGate),
    /// eq. 4: three 3x3 convolutions on the maximum and mean over depth of the channel-mean |difference|.
    Pixel(Box<[Conv; 3]>),
    /// No gate: the mean of the differences.
    Mean,
    /// No gate: the variance over all views.
    Variance,
}

impl Gate {
    /// Takes the tensors `gate.*`, if the configuration has any.
    ///
    /// # Errors
    /// Where one is missing or misshapen.
    pub fn new(checkpoint: &Checkpoint) -> Result<Self> {
        Ok(match checkpoint.config.aggregation {
            Aggregation::Mean => Self::Mean,
            Aggregation::Variance => Self::Variance,
            Aggregation::Voxel => {
                let reduce = checkpoint.take("gate.reduce.weight", &[8, 32, 1, 1, 1])?;
                let mut input_first = Buffer::zeros(32 * 8);
                for o in 0..8 {
                    for i in 0..32 {
                        input_first[i * 8 + o] = reduce[o * 32 + i];
                    }
                }
                Self::Voxel(VoxelGate {
                    reduce: input_first,
                    reduce_bias: Buffer::from_slice(&checkpoint.take("gate.reduce.bias", &[8])?),
                    weight: Buffer::from_slice(&checkpoint.take("gate.weight.weight", &[1, 8, 1, 1, 1])?),
                    weight_bias: checkpoint.take("gate.weight.bias", &[1])?[0],
                })
            }
            Aggregation::Pixel => {
                let kernel = Kernel::d2(3, 1);
                Self::Pixel(Box::new([
                    checkpoint.conv("gate.conv1", (2, 8), kernel, true)?,
                    checkpoint.conv("gate.conv2", (8, 8), kernel, true)?,
                    checkpoint.conv("gate.weight", (8, 1), kernel, true)?,
                ]))
            }
        })
    }

    /// The weights per pixel of each source, where the gate has such; else none.
    ///
    /// # Errors
    /// Where the sweep's tensors do not fit together.
    pub fn pixel_weights(&self, cpu: &Cpu, sweep: &Sweep, probe: &mut Probe) -> Result<Vec<Tensor>> {
        let Self::Pixel(convs) = self else { return Ok(Vec::new()) };
        let weights = (0..sweep.sources.len()).map(|source| {
            let mut x = sweep::pixel_statistics(cpu, sweep, source)?;
            for conv in convs.iter() {
                x = conv.apply(cpu, x)?;
            }
            probe("gate", &x);
            Ok(x)
        });
        weights.collect()
    }

    /// How the sweep weighs its sources, with the weights from [`Gate::pixel_weights`].
    pub fn aggregation<'a>(&'a self, pixel_weights: &'a [Tensor]) -> sweep::Aggregation<'a> {
        match self {
            Self::Voxel(gate) => sweep::Aggregation::Voxel(gate),
            Self::Pixel(_) => sweep::Aggregation::Pixel(pixel_weights),
            Self::Mean => sweep::Aggregation::Mean,
            Self::Variance => sweep::Aggregation::Variance,
        }
    }
}
