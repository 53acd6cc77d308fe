//! The plane sweep as ops on the tape: feature maps of all views to the cost volume ([`crate::cpu::ops::sweep`]), and
//! to the pixel gate's statistics.
//!
//! The warped volumes, the largest of all, are never stored: backward computes them again
//! ([`crate::cpu::ops::sweep_backward`]). What is saved is the feature maps and the gate's few parameters.

use crate::cpu::ops::sweep::{self, Aggregation, Sweep, VoxelGate};
use crate::cpu::ops::sweep_backward::{cost_volume_backward, pixel_statistics_backward, transposed};
use crate::cpu::ops::warp::CHANNELS;
use crate::cpu::tape::{Op, Saved, Saves};
use crate::cpu::tensor::{Cpu, Shape, Tensor};
use crate::error::{Error, Result};
use crate::scene::camera::PlaneSweep;

/// Hidden channels of the voxel gate.
const HIDDEN: usize = 8;

/// Where the reference's pixels lie in the source views, at every hypothesis.
#[derive(Clone)]
pub struct Views {
    /// One for each source view, in the order of the feature maps after the reference's.
    pub sweeps: Vec<PlaneSweep>,
    /// The hypotheses.
    pub depths: Vec<f32>,
    /// Whether differences are squared.
    pub squared: bool,
}

/// The feature maps [V, H, W, 32], one tensor a view.
fn split(cpu: &Cpu, features: &Tensor, views: &Views) -> Result<Vec<Tensor>> {
    let Shape { d, h, w, c } = features.shape;
    if d != views.sweeps.len() + 1 {
        let problem = format!("feature maps {} for a reference and {} sources", features.shape, views.sweeps.len());
        return Err(Error::Shape { op: "plane sweep", problem });
    }
    let map = |values: &[f32]| {
        let mut map = cpu.tensor(Shape { d: 1, h, w, c });
        map.data.copy_from_slice(values);
        map
    };
    Ok(features.data.chunks_exact(h * w * c).map(map).collect())
}

/// The gradients of the maps as one tensor.
fn joined(cpu: &Cpu, shape: Shape, maps: Vec<Tensor>) -> Tensor {
    let mut all = cpu.tensor(shape);
    let len = shape.len() / shape.d;
    for (part, map) in all.data.chunks_exact_mut(len).zip(maps) {
        part.copy_from_slice(&map.data);
        cpu.recycle(map);
    }
    all
}

impl Views {
    /// Runs `work` on the sweep over these maps.
    fn sweep<T>(&self, maps: &[Tensor], aggregation: Aggregation, work: impl FnOnce(&Sweep) -> Result<T>) -> Result<T> {
        let sources: Vec<_> = maps[1..].iter().zip(self.sweeps.iter().copied()).collect();
        work(&Sweep {
            reference: &maps[0],
            sources: &sources,
            depths: &self.depths,
            aggregation,
            squared: self.squared,
        })
    }
}

/// How the sources are weighted, and which inputs say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weighting {
    /// Inputs after the features: reduce.weight (8 x 32), reduce.bias (8), weight.weight (8), weight.bias (1).
    Voxel,
    /// Input after the features: the sources' weights per pixel, [S, H, W, 1].
    Pixel,
    /// None.
    Mean,
    /// None.
    Variance,
}

/// The cost volume [D, H, W, 32] as an op: inputs the features [V, H, W, 32], the reference's first, and what weighs
/// them.
pub struct CostVolumeOp {
    /// Cameras and depths.
    pub views: Views,
    /// How sources are weighted.
    pub weighting: Weighting,
}

/// The weighting's inputs as the sweep takes them.
enum Weights {
    Voxel(VoxelGate),
    Pixel(Vec<Tensor>),
    Mean,
    Variance,
}

impl Weights {
    fn aggregation(&self) -> Aggregation<'_> {
        match self {
            Self::Voxel(gate) => Aggregation::Voxel(gate),
            Self::Pixel(weights) => Aggregation::Pixel(weights),
            Self::Mean => Aggregation::Mean,
            Self::Variance => Aggregation::Variance,
        }
    }
}

impl CostVolumeOp {
    fn weights(&self, inputs: &[&Tensor]) -> Result<Weights> {
        Ok(match self.weighting {
            Weighting::Mean => Weights::Mean,
            Weighting::Variance => Weights::Variance,
            Weighting::Voxel => {
                let lengths = [CHANNELS * HIDDEN, HIDDEN, HIDDEN, 1];
                if inputs.len() != 4 || inputs.iter().zip(lengths).any(|(t, n)| t.data.len() != n) {
                    let found: Vec<usize> = inputs.iter().map(|t| t.data.len()).collect();
                    let problem = format!("gate parameters of {found:?} values, expected {lengths:?}");
                    return Err(Error::Shape { op: "plane sweep", problem });
                }
                // PyTorch has the gate's output channels first, the sweep its input channels.
                Weights::Voxel(VoxelGate {
                    reduce: transposed(&inputs[0].data, HIDDEN, CHANNELS),
                    reduce_bias: inputs[1].data.clone(),
                    weight: inputs[2].data.clone(),
                    weight_bias: inputs[3].data[0],
                })
            }
            Weighting::Pixel => {
                let Shape { d, h, w, c } = inputs[0].shape;
                let plane = Shape { d: 1, h, w, c };
                let maps = inputs[0].data.chunks_exact((h * w * c).max(1)).take(d);
                Weights::Pixel(maps.map(|m| Tensor::from_slice(plane, m)).collect::<Result<_>>()?)
            }
        })
    }
}

impl Op for CostVolumeOp {
    fn name(&self) -> &'static str {
        "plane sweep"
    }

    fn saves(&self) -> Saves {
        Saves::inputs(match self.weighting {
            Weighting::Voxel => &[0, 1, 2, 3, 4],
            Weighting::Pixel => &[0, 1],
            Weighting::Mean | Weighting::Variance => &[0],
        })
    }

    fn forward(&mut self, cpu: &Cpu, inputs: &[&Tensor]) -> Result<Tensor> {
        let maps = split(cpu, inputs[0], &self.views)?;
        let weights = self.weights(&inputs[1..])?;
        let cost = self.views.sweep(&maps, weights.aggregation(), |sweep| sweep::cost_volume(cpu, sweep));
        maps.into_iter().for_each(|map| cpu.recycle(map));
        cost
    }

    fn backward(&self, cpu: &Cpu, saved: &Saved, dy: Tensor, _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let inputs = self.saves().inputs.iter().map(|&i| saved.input(i)).collect::<Result<Vec<_>>>()?;
        let maps = split(cpu, inputs[0], &self.views)?;
        let weights = self.weights(&inputs[1..])?;
        let found = self.views.sweep(&maps, weights.aggregation(), |sweep| cost_volume_backward(cpu, sweep, &dy))?;
        cpu.recycle(dy);
        maps.into_iter().for_each(|map| cpu.recycle(map));
        let all = std::iter::once(found.reference).chain(found.sources).collect();
        let mut parts = vec![Some(joined(cpu, saved.shape(0), all))];
        if let Some(gate) = found.gate {
            let values: [&[f32]; 4] =
                [&transposed(&gate.reduce, CHANNELS, HIDDEN), &gate.reduce_bias, &gate.weight, &[gate.weight_bias]];
            for (i, values) in values.into_iter().enumerate() {
                parts.push(Some(Tensor::from_slice(saved.shape(i + 1), values)?));
            }
        }
        if self.weighting == Weighting::Pixel {
            parts.push(Some(joined(cpu, saved.shape(1), found.weights)));
        }
        Ok(parts)
    }
}

/// For the pixel gate, maximum and mean over the planes of the channel-mean |difference| of every source, [S, H, W,
/// 2], as an op: input the features [V, H, W, 32].
pub struct PixelStatisticsOp {
    /// Cameras and depths.
    pub views: Views,
}

impl Op for PixelStatisticsOp {
    fn name(&self) -> &'static str {
        "pixel statistics"
    }

    fn saves(&self) -> Saves {
        Saves::inputs(&[0])
    }

    fn forward(&mut self, cpu: &Cpu, inputs: &[&Tensor]) -> Result<Tensor> {
        let maps = split(cpu, inputs[0], &self.views)?;
        let statistics = (0..self.views.sweeps.len())
            .map(|source| {
                self.views.sweep(&maps, Aggregation::Mean, |sweep| sweep::pixel_statistics(cpu, sweep, source))
            })
            .collect::<Result<Vec<_>>>()?;
        maps.into_iter().for_each(|map| cpu.recycle(map));
        let shape = Shape { d: statistics.len(), c: 2, ..inputs[0].shape };
        Ok(joined(cpu, shape, statistics))
    }

    fn backward(&self, cpu: &Cpu, saved: &Saved, dy: Tensor, _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let features = saved.input(0)?;
        let maps = split(cpu, features, &self.views)?;
        let Shape { h, w, c, .. } = dy.shape;
        let mut all: Vec<Tensor> = Vec::with_capacity(maps.len());
        for (source, gradient) in dy.data.chunks_exact(h * w * c).enumerate() {
            let gradient = Tensor::from_slice(Shape { d: 1, h, w, c }, gradient)?;
            let (reference, own) = self
                .views
                .sweep(&maps, Aggregation::Mean, |sweep| pixel_statistics_backward(cpu, sweep, source, &gradient))?;
            match all.first_mut() {
                None => all.push(reference),
                Some(sum) => {
                    crate::cpu::tensor::add(sum, &reference);
                    cpu.recycle(reference);
                }
            }
            all.push(own);
        }
        cpu.recycle(dy);
        maps.into_iter().for_each(|map| cpu.recycle(map));
        Ok(vec![Some(joined(cpu, features.shape, all))])
    }
}
